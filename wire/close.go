package wire

import (
	"crypto/tls"
	"encoding/binary"
	"errors"
	"net"
	"os"
	"time"
	"unicode/utf8"
)

// maxDrain is the most input discarded at the end, for the sake of a peer that
// has not read our Close yet.
const maxDrain = 8 << 20

// Close closes the connection: what is queued goes out, then a Close frame with
// the code (0 for none) and the reason, cut to 123 bytes. Any goroutine may call
// it; the first call decides. It does not wait: the reader ends the connection, or
// if nobody is in ReadMessage a goroutine does, in a bounded time whatever the
// peer does. A message that arrives meanwhile is dropped.
func (c *Conn) Close(code int, reason string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closeLocked(&CloseError{Code: code, Reason: reason}, code, reason)
}

// Drop ends the connection at once and without a Close, for a peer that is owed
// nothing. Any goroutine may call it; the reader finds the end.
func (c *Conn) Drop() {
	if t, ok := c.nc.(*tls.Conn); ok {
		t.NetConn().Close() // without TLS's farewell, which may block
		return
	}
	c.nc.Close()
}

// closeLocked queues the Close and takes the reader's role if it is free. why is
// what ReadMessage will say.
func (c *Conn) closeLocked(why *CloseError, code int, reason string) {
	if c.closing {
		return
	}
	c.closing = true
	c.err = why
	if why.Code == 0 {
		why.Code = CloseNoStatus
	}
	var b outBuffer
	if c.frameLocked(&b, opClose, closeBody(code, reason)) == nil {
		c.out.last = b.b
	}
	c.closeBy = time.Now().Add(max(c.o.WriteTimeout, c.o.CloseTimeout))
	c.out.corked = false
	c.kickLocked()
	c.armLocked()
	c.takeLocked()
}

// breakLocked gives up writing. The reader may still find the peer's Close, which
// says more than the error.
func (c *Conn) breakLocked(err error) {
	if c.broken {
		return
	}
	c.broken = true
	c.out.drop()
	now := time.Now()
	by := now.Add(c.o.CloseTimeout)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		by = now
	}
	if !c.closing {
		c.closing = true
		c.err = &CloseError{Code: CloseAbnormal, Err: err}
		c.closeBy = by
	} else if by.Before(c.closeBy) {
		c.closeBy = by
	}
	c.armLocked()
	c.takeLocked()
}

// takeLocked lets a goroutine end the connection if no reader is there to do it.
func (c *Conn) takeLocked() {
	if !c.reading {
		c.reading = true
		go c.finish(nil)
	}
}

// closeBody makes a Close's payload, RFC 6455 section 5.5.1.
func closeBody(code int, reason string) []byte {
	if code == 0 || code == CloseNoStatus || code == CloseAbnormal {
		return nil
	}
	b := binary.BigEndian.AppendUint16(nil, uint16(code))
	for _, r := range reason { // ranging replaces what is not UTF-8
		if len(b)+utf8.RuneLen(r) > maxControlPayload {
			break
		}
		b = utf8.AppendRune(b, r)
	}
	return b
}

// parseClose reads a peer's Close. A breach is answered with its own code.
func parseClose(body []byte) (code int, reason string, err error) {
	switch len(body) {
	case 0:
		return CloseNoStatus, "", nil
	case 1:
		return 0, "", breach(CloseProtocolError, "close code cut short")
	}
	code = int(binary.BigEndian.Uint16(body))
	// Section 7.4 and the registry it founds: the others must not be sent.
	if !(code >= 1000 && code <= 1003 || code >= 1007 && code <= 1014 || code >= 3000 && code <= 4999) {
		return 0, "", breach(CloseProtocolError, "invalid close code")
	}
	if !utf8.Valid(body[2:]) {
		return 0, "", breach(CloseBadData, "close reason is not UTF-8")
	}
	return code, string(body[2:]), nil
}

// peerClosed takes the peer's Close, and answers it unless it is the answer.
func (c *Conn) peerClosed(body []byte) error {
	code, reason, err := parseClose(body)
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	why := &CloseError{Code: code, Reason: reason}
	if c.closing && c.err.Code == CloseAbnormal {
		c.err = why
	}
	c.closeLocked(why, code, "")
	return errPeerClosed
}

// finish ends the connection, in the reader's role; err is why reading ended, nil
// if it stopped between two frames because the connection is closing.
func (c *Conn) finish(err error) {
	if err == nil {
		err = c.awaitClose()
	}
	var wrong *CloseError
	switch {
	case err == errPeerClosed:
	case errors.As(err, &wrong):
		c.Close(wrong.Code, wrong.Reason)
	default:
		c.abort(err)
	}
	c.awaitWriter()
	c.part(err == errPeerClosed)
	c.nc.Close()
	c.mu.Lock()
	c.broken = true
	c.out.drop()
	c.out = outQueue{}
	c.mu.Unlock()
	if c.msg != nil {
		c.msg.release()
		c.msg = nil
	}
	close(c.done)
}

// awaitClose reads until the peer's Close, discarding the rest.
func (c *Conn) awaitClose() error {
	c.msg = nil // not released: whoever was given it may still read it
	for {
		h, err := c.next()
		if err != nil {
			return err
		}
		if h.op == opClose {
			f, err := c.ws.NewFrameReader()
			if err != nil {
				return err
			}
			return c.readControl(h, f)
		}
		for left := int64(h.size) + h.length; left > 0; {
			n, err := c.in.Discard(int(min(left, readPiece)))
			if left -= int64(n); err != nil {
				return err
			}
		}
		c.frameDone(h)
	}
}

// abort is for a transport that is gone: nothing is due to anybody any more.
func (c *Conn) abort(err error) {
	c.mu.Lock()
	if !c.closing {
		c.closing = true
		c.err = &CloseError{Code: CloseAbnormal, Err: err}
	}
	c.broken = true
	c.out.drop()
	c.mu.Unlock()
	c.nc.Close()
}

// awaitWriter waits until nothing is being written. closeBy bounds it.
func (c *Conn) awaitWriter() {
	c.mu.Lock()
	if !c.out.writing {
		c.mu.Unlock()
		return
	}
	idle := c.out.idle
	if idle == nil {
		idle = make(chan struct{})
		c.out.idle = idle
	}
	c.mu.Unlock()
	<-idle
}

// part takes leave once the Close is out. A socket closed with input unread
// resets the connection, which can destroy the Close on its way: so we end our
// side, and read until the peer ended its own. RFC 6455 section 7.1.1 has the
// server end first; a client waits for it.
func (c *Conn) part(answered bool) {
	c.mu.Lock()
	by, broken := c.closeBy, c.broken
	c.mu.Unlock()
	if broken {
		return
	}
	if !c.client {
		if half, ok := c.nc.(interface{ CloseWrite() error }); ok {
			half.CloseWrite()
		} else if answered {
			return
		}
	}
	c.nc.SetReadDeadline(by)
	b := newBuffer(0)
	defer b.release()
	for left := maxDrain; left > 0; {
		n, err := c.nc.Read(b.b[:cap(b.b)])
		if left -= n; err != nil {
			return
		}
	}
}

var _ net.Conn = (*gate)(nil)
