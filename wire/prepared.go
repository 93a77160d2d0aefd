package wire

// A Prepared is a text message framed once for any number of server connections.
// It is immutable: they queue it without copying it.
type Prepared struct {
	frame outBuffer
	size  int // of the payload
}

// Prepare frames a copy of msg.
func Prepare(msg []byte) *Prepared {
	b := make([]byte, 0, len(msg)+maxFrameHeader)
	return &Prepared{frame: outBuffer{b: appendFrame(b, opText, msg), shared: true}, size: len(msg)}
}

func (p *Prepared) payload() []byte { return p.frame.b[len(p.frame.b)-p.size:] }
