package channel

import (
	"bytes"
	"encoding/json"
	"io"
	"log/slog"
	"strings"
	"sync"
	"time"
)

// outbox is what a child is yet to read.
type outbox struct {
	some, room chan struct{} // there are lines; there is room again

	mu    sync.Mutex
	lines []byte
	last  bool // stop is among them
}

func newOutbox() *outbox {
	return &outbox{some: make(chan struct{}, 1), room: make(chan struct{}, 1)}
}

// encode is a line with its end. It is made once: whoever is to say a long one
// does so before the lock is held.
func (l *gatewayLine) encode() []byte {
	if l.raw == nil {
		var b bytes.Buffer
		enc := json.NewEncoder(&b)
		enc.SetEscapeHTML(false)
		enc.Encode(l) // which strings, numbers and booleans do not let fail
		l.raw = b.Bytes()
	}
	return l.raw
}

// put adds a line, unless the child is gone, too much waits or the line is too long.
func (o *outbox) put(l *gatewayLine) bool {
	raw := l.encode()
	if o == nil || len(raw) > maxLine {
		return false
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case o.last:
		return l.Type == "ack" // of a message that will come again, and be recognised
	case len(o.lines) >= maxUnread:
		return false
	}
	o.last = l.Type == "stop"
	o.lines = append(o.lines, raw...)
	poke(o.some)
	return true
}

// copy writes the lines to w until done or an error, and closes it after stop,
// for programs that end when their input does.
func (o *outbox) copy(w io.WriteCloser, done <-chan struct{}) error {
	for {
		select {
		case <-o.some:
		case <-done:
			return nil
		}
		o.mu.Lock()
		lines, last := o.lines, o.last
		o.lines = nil
		o.mu.Unlock()
		poke(o.room)
		if _, err := w.Write(lines); err != nil {
			return err
		}
		if last {
			return w.Close()
		}
	}
}

const (
	saidAtOnce = 60 // lines of a child that are logged within saidEvery
	saidEvery  = time.Minute
	saidLong   = 1000 // bytes of one
)

// childLog takes what a child writes to stderr and has to say: lines of bounded
// length and number go to the log, of the rest the number.
type childLog struct {
	log *slog.Logger

	mu   sync.Mutex
	line []byte
	from time.Time
	n    int
}

func (c *childLog) Write(b []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, ch := range b {
		if ch != '\n' {
			if len(c.line) < saidLong {
				c.line = append(c.line, ch)
			}
			continue
		}
		if len(c.line) > 0 {
			c.tellLocked("channel program", strings.ToValidUTF8(string(c.line), "\uFFFD"))
		}
		c.line = c.line[:0]
	}
	return len(b), nil
}

func (c *childLog) tell(msg, text string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.tellLocked(msg, text)
}

func (c *childLog) tellLocked(msg, text string) {
	if now := time.Now(); now.Sub(c.from) > saidEvery {
		if left := c.n - saidAtOnce; left > 0 {
			c.log.Warn("channel program said more than is logged", "dropped", left)
		}
		c.from, c.n = now, 0
	}
	if c.n++; c.n <= saidAtOnce {
		c.log.Warn(msg, "err", plain(text, saidLong))
	}
}
