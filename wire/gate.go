package wire

import (
	"encoding/binary"
	"io"
	"net"
	"time"
)

// Opcodes, RFC 6455 section 5.2.
const (
	opContinuation = 0x0
	opText         = 0x1
	opBinary       = 0x2
	opClose        = 0x8
	opPing         = 0x9
	opPong         = 0xA
)

// RFC 6455 sections 5.2 and 5.5.
const (
	maxFrameHeader    = 14
	maxControlPayload = 125
)

// A gate is a Conn as x/net/websocket sees it: a transport that yields the bytes
// of one judged frame and no more, and whose writes are collected rather than
// sent. x/net closes what it was given when a server's handler returns and would
// send a Close of its own; through the gate it can do neither.
type gate Conn

// Read yields what Conn.next allowed, or during a client's handshake the answer
// to it. Only a client's x/net reads here: a server's was given Conn.in itself.
func (g *gate) Read(p []byte) (int, error) {
	if g.shake != nil {
		return g.shake.Read(p)
	}
	if g.allow <= 0 {
		return 0, io.EOF
	}
	if int64(len(p)) > g.allow {
		p = p[:g.allow]
	}
	n, err := g.in.Read(p)
	g.allow -= int64(n)
	return n, err
}

// Write collects what x/net frames into the buffer the Conn pointed it at.
func (g *gate) Write(p []byte) (int, error) {
	if g.shake != nil {
		return g.shake.Write(p)
	}
	if g.into == nil {
		return 0, net.ErrClosed
	}
	g.into.b = append(g.into.b, p...)
	return len(p), nil
}

func (g *gate) Close() error                     { return nil }
func (g *gate) LocalAddr() net.Addr              { return g.nc.LocalAddr() }
func (g *gate) RemoteAddr() net.Addr             { return g.nc.RemoteAddr() }
func (g *gate) SetDeadline(time.Time) error      { return nil }
func (g *gate) SetReadDeadline(time.Time) error  { return nil }
func (g *gate) SetWriteDeadline(time.Time) error { return nil }

// A frameHead is a judged frame header.
type frameHead struct {
	op     byte
	fin    bool
	length int64
	size   int // of the header itself
}

func (h frameHead) control() bool { return h.op&0x8 != 0 }

// next waits for the next frame's header, judges it while it is still in the
// buffer and allows x/net that one frame. A breach of the protocol is a
// *CloseError with the code to close with.
func (c *Conn) next() (h frameHead, err error) {
	b, err := c.in.Peek(2)
	if err != nil {
		if len(b) > 0 {
			err = cutShort(err)
		}
		return h, err
	}
	c.partial = true
	h = frameHead{op: b[0] & 0x0F, fin: b[0]&0x80 != 0, size: 2}
	masked, form := b[1]&0x80 != 0, b[1]&0x7F
	switch {
	case b[0]&0x70 != 0:
		return h, breach(CloseProtocolError, "reserved bits without an extension")
	case h.op > opBinary && h.op < opClose, h.op > opPong:
		return h, breach(CloseProtocolError, "unknown opcode")
	case masked == c.client: // section 5.1: clients mask, servers do not
		return h, breach(CloseProtocolError, "masked by the server or not by the client")
	case h.control() && !h.fin:
		return h, breach(CloseProtocolError, "fragmented control frame")
	case h.control() && form > maxControlPayload:
		return h, breach(CloseProtocolError, "control frame too long")
	case h.op == opContinuation && !c.assembling:
		return h, breach(CloseProtocolError, "continuation without a start")
	case !h.control() && h.op != opContinuation && c.assembling:
		return h, breach(CloseProtocolError, "message inside a fragmented message")
	case h.op == opBinary && !c.o.Binary:
		return h, breach(CloseUnsupported, "binary messages are not accepted")
	}
	switch form {
	case 126:
		h.size += 2
	case 127:
		h.size += 8
	}
	length := h.size
	if masked {
		h.size += 4
	}
	if b, err = c.in.Peek(h.size); err != nil {
		return h, cutShort(err)
	}
	switch form {
	case 126:
		h.length = int64(binary.BigEndian.Uint16(b[2:length]))
		if h.length < 126 {
			return h, breach(CloseProtocolError, "length not in its shortest form")
		}
	case 127:
		n := binary.BigEndian.Uint64(b[2:length])
		if n>>63 != 0 {
			return h, breach(CloseProtocolError, "length with its top bit set")
		}
		if n < 1<<16 {
			return h, breach(CloseProtocolError, "length not in its shortest form")
		}
		h.length = int64(n)
	default:
		h.length = int64(form)
	}
	if err := c.admit(h); err != nil {
		return h, err
	}
	c.allow = int64(h.size) + h.length
	return h, nil
}

// admit applies the limits of a message to a data frame's header, before any of
// its payload is read.
func (c *Conn) admit(h frameHead) error {
	if h.control() {
		return nil
	}
	limit := c.maxMessage.Load()
	if h.length > limit-int64(c.assembled()) {
		return breach(CloseTooBig, "message too big")
	}
	if h.op != opContinuation {
		c.fragments = 0
	}
	c.fragments++
	if c.fragments > maxFragments(limit) {
		return breach(ClosePolicy, "too many fragments")
	}
	return nil
}

// maxFragments grows with the messages allowed, so that a connection which may
// not send much yet may not send much of nothing either.
func maxFragments(limit int64) int {
	return int(min(max(limit/64, 1<<10), 1<<16))
}

// cutShort is the error for a transport that ended inside a frame. x/net does
// not count: there half a frame reads as a whole one.
func cutShort(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// appendFrame frames a payload as a server does: whole and unmasked, hence the
// same bytes for every connection.
func appendFrame(dst []byte, op byte, payload []byte) []byte {
	switch n := len(payload); {
	case n <= 125:
		dst = append(dst, 0x80|op, byte(n))
	case n < 1<<16:
		dst = append(dst, 0x80|op, 126, byte(n>>8), byte(n))
	default:
		dst = append(dst, 0x80|op, 127)
		dst = binary.BigEndian.AppendUint64(dst, uint64(n))
	}
	return append(dst, payload...)
}
