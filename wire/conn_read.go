package wire

import (
	"errors"
	"io"
	"os"
	"slices"
	"time"
	"unicode/utf8"
)

// readPiece is the most read of a frame at once. Memory is taken ahead of what
// arrives by this much, or by as much as has arrived, and never by what a header
// declares.
const readPiece = 32 << 10

// errPeerClosed ends reading after the peer's Close.
var errPeerClosed = errors.New("peer closed")

// A transport is a Conn as its buffered reader sees it: the one place that reads
// the net.Conn, and thus the one that knows when the connection is about to wait.
type transport Conn

func (t *transport) Read(p []byte) (int, error) {
	c := (*Conn)(t)
	if len(c.early) > 0 {
		n := copy(p, c.early)
		if c.early = c.early[n:]; len(c.early) == 0 {
			c.early = nil
		}
		return n, nil
	}
	if c.shake != nil {
		return c.nc.Read(p)
	}
	for {
		c.mu.Lock()
		c.out.corked = false
		c.kickLocked()
		if c.messageBy.IsZero() && (c.partial || c.in.Buffered() > 0) {
			c.messageBy = time.Now().Add(c.o.MessageTimeout)
		}
		c.armLocked()
		c.mu.Unlock()
		n, err := c.nc.Read(p)
		if n > 0 {
			return n, nil
		}
		if errors.Is(err, os.ErrDeadlineExceeded) {
			err = c.expired(err)
		}
		if err != nil {
			return 0, err
		}
	}
}

// armLocked makes the read deadline no later than the next thing that is due. A
// deadline that is too early is left: expired finds nothing due and goes on, so
// a request that comes in one piece costs no timer at all. Only here is it set,
// and under the lock, because Close sets it from other goroutines.
func (c *Conn) armLocked() {
	by := c.closeBy
	if !c.closing {
		by = earliest(c.pingAt, c.connectBy, c.messageBy)
	}
	if !by.IsZero() && (c.armed.IsZero() || by.Before(c.armed)) {
		c.armed = by
		c.nc.SetReadDeadline(by)
	}
}

func earliest(first time.Time, others ...time.Time) time.Time {
	for _, t := range others {
		if first.IsZero() || !t.IsZero() && t.Before(first) {
			first = t
		}
	}
	return first
}

// expired does what was due when the read deadline passed. An error ends reading.
func (c *Conn) expired(cause error) error {
	now := time.Now()
	due := func(t time.Time) bool { return !t.IsZero() && !t.After(now) }
	c.mu.Lock()
	defer c.mu.Unlock()
	c.armed = time.Time{}
	c.nc.SetReadDeadline(time.Time{}) // there may be no next one
	switch {
	case c.closing:
		if due(c.closeBy) {
			return cause
		}
	case due(c.connectBy):
		return breach(ClosePolicy, "connect timeout")
	case due(c.messageBy):
		return breach(ClosePolicy, "message timeout")
	case due(c.pingAt):
		if c.alive {
			c.missed = 0
		} else if c.missed++; c.missed == 2 {
			return breach(ClosePolicy, "no answer to pings")
		}
		c.alive = false
		c.pingAt = now.Add(c.o.PingInterval)
		c.controlLocked(opPing, nil)
	}
	return nil
}

// readMessage reads frames until a message is whole.
func (c *Conn) readMessage() ([]byte, error) {
	for {
		h, err := c.next()
		if err != nil {
			return nil, err
		}
		f, err := c.ws.NewFrameReader()
		if err != nil {
			return nil, cutShort(err)
		}
		if h.control() {
			err = c.readControl(h, f)
		} else {
			err = c.readData(h, f)
		}
		if err != nil {
			return nil, err
		}
		c.frameDone(h)
		if !c.partial && !h.control() {
			return c.msg.b, nil
		}
	}
}

// frameDone notes that a frame is complete.
func (c *Conn) frameDone(h frameHead) {
	c.alive = true
	if !h.control() {
		c.assembling = !h.fin
	}
	if !c.assembling {
		c.partial = false
		if !c.messageBy.IsZero() {
			c.mu.Lock()
			c.messageBy = time.Time{}
			c.mu.Unlock()
		}
	}
}

// assembled is the number of bytes the message in progress has so far.
func (c *Conn) assembled() int {
	if c.msg == nil {
		return 0
	}
	return len(c.msg.b)
}

// readData appends a data frame to the message.
func (c *Conn) readData(h frameHead, f io.Reader) error {
	if c.msg == nil {
		c.msg = newBuffer(0)
	}
	if h.op != opContinuation {
		c.text, c.checked = h.op == opText, 0
	}
	for left := h.length; left > 0; {
		have := len(c.msg.b)
		if have == cap(c.msg.b) {
			c.msg.b = slices.Grow(c.msg.b, int(min(left, int64(max(readPiece, have)))))
		}
		room := int(min(left, readPiece, int64(cap(c.msg.b)-have)))
		n, err := f.Read(c.msg.b[have : have+room])
		c.msg.b = c.msg.b[:have+n]
		left -= int64(n)
		if c.text && n > 0 {
			whole, ok := textPrefix(c.msg.b[c.checked:])
			if !ok {
				return breach(CloseBadData, "text is not UTF-8")
			}
			c.checked += whole
		}
		if err != nil && left > 0 {
			return cutShort(err)
		}
	}
	if h.fin && c.text && c.checked < len(c.msg.b) {
		return breach(CloseBadData, "text is not UTF-8")
	}
	return nil
}

// textPrefix returns the length of p without a last rune of which only the
// beginning is there, and whether all of p can be the beginning of a text. It
// refuses at the byte that cannot follow, as RFC 6455 section 8.1 wants.
func textPrefix(p []byte) (whole int, ok bool) {
	whole = len(p)
	for i := len(p) - 1; i >= 0 && i > len(p)-utf8.UTFMax; i-- {
		if utf8.RuneStart(p[i]) {
			if !utf8.FullRune(p[i:]) {
				whole = i
			}
			break
		}
	}
	return whole, utf8.Valid(p[:whole])
}

// readControl takes a control frame, which may come between fragments.
func (c *Conn) readControl(h frameHead, f io.Reader) error {
	b := newBuffer(0)
	defer b.release()
	payload := b.b[:h.length]
	if _, err := io.ReadFull(f, payload); err != nil {
		return cutShort(err)
	}
	switch h.op {
	case opPing:
		c.mu.Lock()
		c.out.corked = c.in.Buffered() > 0
		c.controlLocked(opPong, payload)
		c.mu.Unlock()
	case opClose:
		return c.peerClosed(payload)
	}
	return nil
}
