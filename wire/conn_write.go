package wire

import (
	"sync"
	"syscall"
	"time"
)

const (
	// maxWrite is the most one write is given, and what WriteTimeout is for.
	maxWrite = 1 << 20
	// maxHeld is the most that waits for the input to run dry.
	maxHeld = 64 << 10
	// maxControls is the most pings and pongs that wait; the oldest go first.
	// RFC 6455 section 5.5.3 asks for an answer to the latest ping only.
	maxControls = 64
	// bufferSize is the capacity of pooled buffers.
	bufferSize = 4 << 10
)

// An outBuffer is frames to be written, or a message being read. Those of
// bufferSize are pooled; a shared one belongs to a Prepared and is only read.
type outBuffer struct {
	b      []byte
	shared bool
}

var bufferPool = sync.Pool{New: func() any { return &outBuffer{b: make([]byte, 0, bufferSize)} }}

// newBuffer returns an empty buffer with room for n bytes.
func newBuffer(n int) *outBuffer {
	if n > bufferSize {
		return &outBuffer{b: make([]byte, 0, n)}
	}
	return bufferPool.Get().(*outBuffer)
}

func (b *outBuffer) release() {
	if !b.shared && cap(b.b) == bufferSize {
		b.b = b.b[:0]
		bufferPool.Put(b)
	}
}

// An outQueue is what waits to be written: head, then pings and pongs, then data
// in order, then the Close, and after that nothing ever. Conn.mu guards it.
type outQueue struct {
	head     []byte     // what is being written; always completed first
	headData *outBuffer // what head is of, if it is data
	control  []byte     // frames of maxControlPayload at most
	controls int
	data     []*outBuffer
	first    [1]*outBuffer // data's room while there is only one
	last     []byte        // the Close

	queued, max int // bytes of data, with head's
	corked      bool
	closeNext   bool          // head is the Close
	writing     bool          // Conn.write runs
	idle        chan struct{} // closed when it ends, if somebody waits
}

// tail returns the last buffer of data with room for n more bytes.
func (q *outQueue) tail(n int) *outBuffer {
	if k := len(q.data); k > 0 {
		if b := q.data[k-1]; !b.shared && cap(b.b)-len(b.b) >= n {
			return b
		}
	}
	b := newBuffer(n)
	q.push(b)
	return b
}

func (q *outQueue) push(b *outBuffer) {
	if len(q.data) == 0 {
		q.data = q.first[:0]
	}
	q.data = append(q.data, b)
}

// next returns the next bytes to write, a part of head, or none.
func (q *outQueue) next() []byte {
	if len(q.head) == 0 {
		switch {
		case len(q.control) > 0:
			q.head, q.control, q.controls = q.control, nil, 0
		case len(q.data) > 0:
			q.headData = q.data[0]
			q.head = q.headData.b
			q.data[0] = nil
			q.data = q.data[1:]
		case q.last != nil:
			q.head, q.last, q.closeNext = q.last, nil, true
		}
	}
	return q.head[:min(len(q.head), maxWrite)]
}

// wrote removes n bytes from head, and tells whether they ended with the Close.
func (q *outQueue) wrote(n int) (closed bool) {
	q.head = q.head[n:]
	if q.headData != nil {
		q.queued -= n
	}
	if len(q.head) > 0 {
		return false
	}
	if q.headData != nil {
		q.headData.release()
		q.headData = nil
	}
	q.head = nil
	closed, q.closeNext = q.closeNext, false
	return closed
}

func (q *outQueue) empty() bool {
	return len(q.head) == 0 && len(q.control) == 0 && len(q.data) == 0 && q.last == nil
}

// drop empties the queue but for head, of which a part may be gone already.
func (q *outQueue) drop() {
	for _, b := range q.data {
		q.queued -= len(b.b)
		b.release()
	}
	clear(q.first[:])
	q.data, q.control, q.controls, q.last = nil, nil, 0, nil
}

// Send sends a text message. It copies or writes it before it returns and never
// waits for the peer: what the peer does not take at once is queued. When more
// than MaxQueued would wait, it returns ErrSlow and the connection closes.
func (c *Conn) Send(msg []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.roomLocked(len(msg) + maxFrameHeader); err != nil {
		return err
	}
	b := c.out.tail(len(msg) + maxFrameHeader)
	have := len(b.b)
	if err := c.frameLocked(b, opText, msg); err != nil {
		return err
	}
	c.out.queued += len(b.b) - have
	return c.sentLocked()
}

// SendPrepared sends a prepared message, as Send does.
func (c *Conn) SendPrepared(p *Prepared) error {
	if c.client { // every frame of a client has a mask of its own
		return c.Send(p.payload())
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	n := len(p.frame.b)
	if err := c.roomLocked(n); err != nil {
		return err
	}
	c.out.push(&p.frame)
	c.out.queued += n
	return c.sentLocked()
}

func (c *Conn) roomLocked(n int) error {
	if c.closing {
		return ErrClosed
	}
	if c.out.corked && c.out.queued+n > c.out.max {
		c.out.corked = false
		c.kickLocked()
	}
	switch {
	case c.broken:
		return ErrClosed
	case c.out.queued+n > c.out.max:
		c.out.drop()
		c.closeLocked(&CloseError{Code: ClosePolicy, Reason: "slow consumer"}, ClosePolicy, "slow consumer")
		return ErrSlow
	}
	return nil
}

func (c *Conn) sentLocked() error {
	c.kickLocked()
	if c.broken {
		return ErrClosed
	}
	return nil
}

// Flush lets what the reader's goroutine has sent since ReadMessage go, although
// more input is here: for before it does something slow.
func (c *Conn) Flush() {
	c.mu.Lock()
	c.out.corked = false
	c.kickLocked()
	c.mu.Unlock()
}

// frameLocked appends a frame to b. x/net masks a client's; a server's are a
// header and the payload, and made without it and its allocations.
func (c *Conn) frameLocked(b *outBuffer, op byte, payload []byte) error {
	if !c.client {
		b.b = appendFrame(b.b, op, payload)
		return nil
	}
	c.into = b
	defer func() { c.into = nil }()
	w, err := c.ws.NewFrameWriter(op)
	if err == nil {
		_, err = w.Write(payload)
	}
	return err
}

// controlLocked queues a ping or pong, dropping the oldest if the peer takes none.
func (c *Conn) controlLocked(op byte, payload []byte) {
	if c.closing {
		return
	}
	q := &c.out
	if q.controls == maxControls {
		q.corked = false
		c.kickLocked()
	}
	if q.controls == maxControls {
		size := 2 + int(q.control[1]&0x7F)
		if c.client {
			size += 4
		}
		q.control = q.control[size:]
		q.controls--
	}
	b := outBuffer{b: q.control}
	if c.frameLocked(&b, op, payload) == nil {
		q.control = b.b
		q.controls++
	}
	c.kickLocked()
}

// kickLocked writes what the peer takes at once and leaves the rest to a
// goroutine that lives until the queue is empty. Where a write cannot be tried,
// as with TLS, the goroutine does all of it.
func (c *Conn) kickLocked() {
	q := &c.out
	if q.writing || c.broken || q.corked && q.queued < maxHeld {
		return
	}
	for c.raw != nil {
		p := q.next()
		if len(p) == 0 {
			return
		}
		n, err := tryWrite(c.raw, p)
		c.wroteLocked(n)
		if err != nil {
			c.breakLocked(err)
			return
		}
		if n < len(p) {
			break
		}
	}
	if !q.empty() {
		q.writing = true
		go c.write()
	}
}

// write writes until the queue is empty. Nothing else does while it runs.
func (c *Conn) write() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for !c.broken {
		p := c.out.next()
		if len(p) == 0 {
			break
		}
		by := time.Now().Add(c.o.WriteTimeout)
		if c.closing && c.closeBy.Before(by) {
			by = c.closeBy
		}
		c.nc.SetWriteDeadline(by)
		c.mu.Unlock()
		n, err := c.nc.Write(p)
		c.mu.Lock()
		c.wroteLocked(n)
		if err != nil {
			c.breakLocked(err)
		}
	}
	c.nc.SetWriteDeadline(time.Time{})
	c.out.writing = false
	if c.out.idle != nil {
		close(c.out.idle)
		c.out.idle = nil
	}
}

// wroteLocked notes written bytes. The peer's time to answer a Close begins when
// the Close is out.
func (c *Conn) wroteLocked(n int) {
	if c.out.wrote(n) {
		if by := time.Now().Add(c.o.CloseTimeout); by.Before(c.closeBy) {
			c.closeBy = by
		}
		c.armLocked()
	}
}

// A rawWriter is the argument and result of one attempt; write is its method
// value, made once.
type rawWriter struct {
	p     []byte
	n     int
	err   error
	write func(fd uintptr) bool
}

var rawWriters = sync.Pool{New: func() any {
	w := new(rawWriter)
	w.write = w.once
	return w
}}

func (w *rawWriter) once(fd uintptr) bool {
	for {
		w.n, w.err = syscall.Write(int(fd), w.p)
		if w.err != syscall.EINTR {
			return true // also with EAGAIN: waiting is the caller's affair
		}
	}
}

// tryWrite writes as much of p as the socket takes without blocking.
func tryWrite(raw syscall.RawConn, p []byte) (int, error) {
	w := rawWriters.Get().(*rawWriter)
	w.p = p
	err := raw.Write(w.write)
	n, werr := w.n, w.err
	w.p, w.n, w.err = nil, 0, nil
	rawWriters.Put(w)
	switch {
	case err != nil:
		return 0, err
	case werr == syscall.EAGAIN:
		return 0, nil
	case werr != nil:
		return 0, werr
	}
	return n, nil
}
