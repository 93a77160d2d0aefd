package wire

import (
	"bufio"
	"errors"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/net/websocket"
)

// Options bound a connection. Zero fields mean the default.
type Options struct {
	// MaxMessage is the most bytes a received message may have, all fragments
	// together: 64 KiB for Accept, where it holds until SetLimit, and 32 MiB for
	// Dial.
	MaxMessage int
	// MaxQueued is the most bytes that may wait for a slow peer: 64 KiB for
	// Accept, 64 MiB for Dial.
	MaxQueued int
	// Binary lets binary messages in, as text is. Without it they end the
	// connection with 1003.
	Binary bool

	MessageTimeout time.Duration // from a message's first byte to its last: 30 s
	WriteTimeout   time.Duration // for a frame, or each MiB of one, to leave: 10 s
	CloseTimeout   time.Duration // for the peer to answer our Close: 2 s
	PingInterval   time.Duration // between pings, two unanswered end it: 25 s; negative for none
}

func (o Options) withDefaults(client bool) Options {
	message, queued := 64<<10, 64<<10
	if client {
		message, queued = 32<<20, 64<<20
	}
	setDefault(&o.MaxMessage, message)
	setDefault(&o.MaxQueued, queued)
	setDefault(&o.MessageTimeout, 30*time.Second)
	setDefault(&o.WriteTimeout, 10*time.Second)
	setDefault(&o.CloseTimeout, 2*time.Second)
	setDefault(&o.PingInterval, 25*time.Second)
	return o
}

func setDefault[T comparable](v *T, d T) {
	var zero T
	if *v == zero {
		*v = d
	}
}

// Close codes, RFC 6455 section 7.4.1. CloseNoStatus and CloseAbnormal are never
// sent: they stand for a Close without a code and for no Close at all.
const (
	CloseNormal        = 1000
	CloseGoingAway     = 1001
	CloseProtocolError = 1002
	CloseUnsupported   = 1003
	CloseNoStatus      = 1005
	CloseAbnormal      = 1006
	CloseBadData       = 1007
	ClosePolicy        = 1008
	CloseTooBig        = 1009
	CloseInternal      = 1011
	CloseRestart       = 1012
	CloseTryLater      = 1013
)

// A CloseError says how a connection ended: the first Close either side decided
// on, or CloseAbnormal with the transport's error.
type CloseError struct {
	Code   int
	Reason string
	Err    error // what the transport said, with CloseAbnormal
}

func (e *CloseError) Error() string {
	s := "websocket closed: " + strconv.Itoa(e.Code)
	if e.Reason != "" {
		s += " " + strconv.Quote(e.Reason)
	}
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

func (e *CloseError) Unwrap() error { return e.Err }

// breach is what the peer did wrong, to be closed with.
func breach(code int, reason string) error { return &CloseError{Code: code, Reason: reason} }

var (
	// ErrClosed is returned by Send once the connection is closing.
	ErrClosed = errors.New("websocket is closed")
	// ErrSlow is returned by the Send that found too much queued already; the
	// connection is then closing with 1008.
	ErrSlow = errors.New("websocket peer reads too slowly")
)

// A Conn is one WebSocket connection. One goroutine reads; any may send, close
// and set limits, and none of these waits for the peer.
type Conn struct {
	nc     net.Conn
	raw    syscall.RawConn // of nc where one write can be tried without blocking, else nil
	ws     *websocket.Conn
	client bool
	o      Options
	done   chan struct{}

	maxMessage atomic.Int64

	// Of the goroutine that reads. Peeking, judging and the deadlines need these
	// between system calls only, so there is no lock.
	in         *bufio.Reader
	early      []byte // what the HTTP server had read already
	allow      int64  // what x/net may still read of the current frame
	msg        *outBuffer
	checked    int // how much of msg is known to be UTF-8
	fragments  int
	text       bool
	assembling bool // between a message's first frame and its FIN
	partial    bool // a frame or message has begun
	alive      bool // a complete frame came since the last ping
	missed     int
	shake      *handshake // a client's, until it is through

	mu sync.Mutex
	// The states follow each other: open; closing, once a Close is queued; then
	// broken if the transport fails at writing. done is closed at the end.
	closing bool
	broken  bool
	reading bool        // somebody has the reader's role
	err     *CloseError // set when closing

	connectBy, messageBy, pingAt, closeBy time.Time
	armed                                 time.Time // nc's read deadline

	into *outBuffer // where gate.Write puts what x/net frames
	out  outQueue
}

// readBuffer holds some four small requests and is all that an idle connection
// keeps.
const readBuffer = 512

// newConn makes a Conn whose handshake is still to be done; start follows it.
func newConn(nc net.Conn, client bool, o Options) *Conn {
	c := &Conn{nc: nc, client: client, o: o.withDefaults(client), done: make(chan struct{}), alive: true}
	c.maxMessage.Store(int64(c.o.MaxMessage))
	c.out.max = c.o.MaxQueued
	c.in = bufio.NewReaderSize((*transport)(c), readBuffer)
	// Nothing that wraps these is taken: a wrapper means its Write to be called.
	switch t := nc.(type) {
	case *net.TCPConn:
		c.raw, _ = t.SyscallConn()
	case *net.UnixConn:
		c.raw, _ = t.SyscallConn()
	}
	return c
}

func (c *Conn) start(ws *websocket.Conn) {
	c.ws = ws
	*ws.Config() = websocket.Config{} // kept for good, and the codec has no use for it
	if c.o.PingInterval > 0 {
		c.pingAt = time.Now().Add(c.o.PingInterval)
	}
}

// ReadMessage waits for the next message and returns it; it is valid until the
// next call. One goroutine at a time may call it, and should go on until there
// is an error, always a *CloseError, which comes when the connection is wholly
// gone. It answers pings, sends ours, and keeps every limit.
//
// While further input is already here when a message is returned, what is sent
// meanwhile waits and leaves in one write when the input runs dry: see Flush.
func (c *Conn) ReadMessage() ([]byte, error) {
	if !c.enter() {
		<-c.done
		return nil, c.err
	}
	msg, err := c.readMessage()
	if err == nil && c.leave() {
		return msg, nil
	}
	c.finish(err)
	return nil, c.err
}

// enter takes the reader's role. It is taken for good once a Close found nobody
// reading.
func (c *Conn) enter() bool {
	c.mu.Lock()
	free := !c.reading
	c.reading = true
	c.mu.Unlock()
	if free && c.msg != nil {
		c.msg.release()
		c.msg = nil
	}
	return free
}

// leave gives the role back, unless the connection is closing by now: then the
// message is dropped and the role kept for the end.
func (c *Conn) leave() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closing {
		return false
	}
	c.reading = false
	c.out.corked = c.in.Buffered() > 0
	return true
}

// SetLimit sets the most bytes of a received message, from the next frame on,
// and of queued output. Any goroutine may call it.
func (c *Conn) SetLimit(maxMessage, maxQueued int) {
	c.maxMessage.Store(int64(maxMessage))
	c.mu.Lock()
	c.out.max = maxQueued
	c.mu.Unlock()
}

// SetDeadline sets the moment at which the connection closes with 1008, whatever
// the peer sends until then. The zero time clears it.
func (c *Conn) SetDeadline(t time.Time) {
	c.mu.Lock()
	c.connectBy = t
	c.armLocked()
	c.mu.Unlock()
}

// Done is closed when the connection is wholly gone.
func (c *Conn) Done() <-chan struct{} { return c.done }

// Queued is the number of bytes that wait for the peer.
func (c *Conn) Queued() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.out.queued
}

// RemoteAddr is the address of the peer's end.
func (c *Conn) RemoteAddr() net.Addr { return c.nc.RemoteAddr() }
