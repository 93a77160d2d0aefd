package wire

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// A countingConn counts writes. Being no *net.TCPConn it is written from a
// goroutine, as a TLS connection is.
type countingConn struct {
	net.Conn
	writes atomic.Int32
}

func (c *countingConn) Write(p []byte) (int, error) {
	c.writes.Add(1)
	return c.Conn.Write(p)
}

func TestCorking(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		theirs, ours := net.Pipe()
		counting := &countingConn{Conn: ours}
		c := testServerConn(counting, Options{})
		ended := make(chan *CloseError, 1)
		go func() { ended <- echo(c) }()
		p := newPeer(theirs, false)

		// Eight requests in one write, the last with the beginning of a ninth.
		batch := bytes.Repeat(p.frame(0x81, "request"), 8)
		ninth := p.frame(0x81, "ninth")
		p.Write(append(batch, ninth[:3]...))
		for range 8 {
			if got := p.event(); got != "text request" {
				t.Fatal(got)
			}
		}
		if n := counting.writes.Load(); n != 1 {
			t.Errorf("%d writes for eight answers", n)
		}
		p.Write(ninth[3:])
		if got := p.event(); got != "text ninth" {
			t.Fatal(got)
		}
		p.Write(p.frame(0x88, ""))
		if got := p.events(); got[0] != "close" {
			t.Error(got)
		}
		if got := <-ended; got.Code != CloseNoStatus {
			t.Error(got)
		}
	})
}

func TestCorkingOnTCP(t *testing.T) {
	client, c := tcpServerConn(t, Options{})
	go echo(c)
	client.Write(bytes.Repeat(maskedFrame(0x81, []byte("request")), 8))
	got := make([]byte, 1000)
	n, err := client.Read(got)
	if n != 8*len(rawFrame(0x81, []byte("request"))) {
		t.Errorf("the first segment has %d bytes, %v", n, err)
	}
}

func TestFlush(t *testing.T) {
	client, c := tcpServerConn(t, Options{})
	p, seen, held := newPeer(client, false), make(chan string), make(chan int, 1)
	go func() {
		c.ReadMessage()
		c.Send([]byte("answer"))
		held <- c.Queued()
		c.Flush()
		<-seen // the second request is here already, the answer must be gone
		c.ReadMessage()
		c.Close(CloseNormal, "")
	}()
	p.Write(bytes.Repeat(p.frame(0x81, "request"), 2))
	if n := <-held; n == 0 {
		t.Error("the answer was not held")
	}
	seen <- p.event()
	if got := p.events(); got[0] != "close 1000" {
		t.Error(got)
	}
	<-c.Done()
}

func TestAcceptedAnswerLeavesWithFirstSend(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		theirs, ours := net.Pipe()
		counting := &countingConn{Conn: ours}
		c := newConn(counting, false, Options{})
		if err := c.upgrade(testKey); err != nil {
			t.Fatal(err)
		}
		c.Send([]byte("challenge"))
		got := make([]byte, 1000)
		n, _ := theirs.Read(got)
		if s := string(got[:n]); !strings.HasPrefix(s, "HTTP/1.1 101 ") || !strings.HasSuffix(s, "challenge") {
			t.Errorf("%q", s)
		}
		theirs.Close()
		if _, err := c.ReadMessage(); err.(*CloseError).Code != CloseAbnormal {
			t.Error(err)
		}
		if n := counting.writes.Load(); n != 1 {
			t.Errorf("%d writes", n)
		}
	})
}

func TestQueuedGoesOutBeforeClose(t *testing.T) {
	bothSides(t, Options{MaxQueued: 1 << 20}, func(t *testing.T, p *rawPeer, c *Conn, ended <-chan *CloseError) {
		// More than a socket takes at once, then our own Close.
		big := strings.Repeat("x", 100<<10)
		sent := 0
		for c.Queued() < 200<<10 {
			if err := c.Send([]byte(big)); err != nil {
				t.Fatal(err)
			}
			sent++
		}
		c.Close(CloseGoingAway, "restart")
		if err := c.Send([]byte("late")); err != ErrClosed {
			t.Errorf("Send after Close: %v", err)
		}
		for range sent {
			if got := p.event(); got != "text "+big {
				t.Fatalf("%.20q", got)
			}
		}
		if got := p.event(); got != "close 1001 restart" {
			t.Error(got)
		}
		p.Write(p.frame(0x81, "dropped"))
		p.Write(p.frame(0x88, "\x03\xe9"))
		p.Close()
		if got := <-ended; got.Code != CloseGoingAway || got.Reason != "restart" {
			t.Error(got)
		}
		if n := c.Queued(); n != 0 {
			t.Errorf("%d bytes still queued", n)
		}
	})
}

func TestSlowConsumer(t *testing.T) {
	slow, c := tcpServerConn(t, Options{MaxQueued: 256 << 10})
	fast, other := tcpServerConn(t, Options{})
	for _, c := range []*Conn{c, other} {
		go echo(c)
	}
	prepared := Prepare(bytes.Repeat([]byte("x"), 32<<10))
	sent, err := 0, error(nil)
	for ; err == nil; sent++ {
		if err = c.SendPrepared(prepared); c.Queued() > 256<<10 {
			t.Fatalf("%d bytes queued", c.Queued())
		}
		if sent > 10000 {
			t.Fatal("never too slow")
		}
	}
	if err != ErrSlow {
		t.Fatal(err)
	}
	if err := c.SendPrepared(prepared); err != ErrClosed {
		t.Errorf("after ErrSlow: %v", err)
	}
	if err := other.SendPrepared(prepared); err != nil {
		t.Errorf("someone else: %v", err)
	}
	if got := newPeer(fast, false).event(); len(got) != 5+32<<10 {
		t.Errorf("someone else got %.20q", got)
	}
	// Whole frames, not necessarily all, and then the reason.
	p, last := newPeer(slow, false), ""
	for n := 0; !strings.HasPrefix(last, "close"); n++ {
		if last = p.event(); n > sent || !strings.HasPrefix(last, "text xx") && last != "close 1008 slow consumer" {
			t.Fatalf("after %d frames: %.40q", n, last)
		}
	}
	fast.Close()
	slow.Close()
	<-c.Done()
	<-other.Done()
}

func TestSlowConsumerThatNeverReads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		theirs, ours := net.Pipe()
		c := testServerConn(ours, Options{})
		go echo(c)
		begin := time.Now()
		for c.Send(make([]byte, 10<<10)) == nil {
		}
		<-c.Done()
		if d := time.Since(begin); d != 10*time.Second {
			t.Errorf("ended after %v", d)
		}
		theirs.Close()
	})
}

func TestWriteTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		theirs, ours := net.Pipe()
		defer theirs.Close()
		c := testServerConn(ours, Options{WriteTimeout: 3 * time.Second})
		begin := time.Now()
		c.Send([]byte("hello"))
		if _, err := c.ReadMessage(); err.(*CloseError).Code != CloseAbnormal || !errors.Is(err, c.err.Err) {
			t.Error(err)
		}
		if d := time.Since(begin); d != 3*time.Second {
			t.Errorf("ended after %v", d)
		}
	})
}

func TestPongFlood(t *testing.T) {
	// The peer reads nothing until its last ping is out: the reader must not block
	// on it, nor keep a pong for each ping.
	bothSides(t, Options{}, func(t *testing.T, p *rawPeer, c *Conn, ended <-chan *CloseError) {
		const pings = 4000
		p.Conn.(*net.TCPConn).SetReadBuffer(4 << 10)
		c.nc.(*net.TCPConn).SetWriteBuffer(4 << 10)
		pad := strings.Repeat("x", 110)
		var out bytes.Buffer
		for i := range pings {
			out.Write(p.frame(0x89, fmt.Sprintf("%06d", i)+pad))
		}
		p.Write(out.Bytes())
		c.mu.Lock()
		if n := len(c.out.control); n > 64*(125+6) {
			t.Errorf("%d bytes of pongs wait", n)
		}
		c.mu.Unlock()
		pongs := 0
		for before := ""; ; {
			pongs++
			op, payload, err := p.readFrame()
			if err != nil || op != opPong || string(payload) <= before {
				t.Fatalf("opcode %d, %.10q after %.10q, %v", op, payload, before, err)
			}
			if before = string(payload); before == fmt.Sprintf("%06d", pings-1)+pad {
				break
			}
		}
		if pongs == pings {
			t.Error("the socket took every pong: nothing was tested")
		}
		p.Write(p.frame(0x81, "still here"))
		if got := p.event(); got != "text still here" {
			t.Error(got)
		}
	})
}

func TestPreparedForClients(t *testing.T) {
	ours, theirs := tcpPair(t)
	c := testClientConn(t, ours, theirs, Options{})
	p := newPeer(theirs, true)
	for _, n := range []int{0, 125, 126, 70000} {
		c.SendPrepared(Prepare(bytes.Repeat([]byte("x"), n)))
		if _, got, err := p.readFrame(); len(got) != n || err != nil {
			t.Errorf("%d bytes of %d, %v", len(got), n, err)
		}
	}
	c.Close(CloseNormal, "")
	theirs.Close()
	<-c.Done()
}

// Everything at once, for the race detector: what leaves must be whole frames in
// each sender's order with one Close at the end.
func TestConcurrentUse(t *testing.T) {
	bothSides(t, Options{MaxQueued: 8 << 20}, func(t *testing.T, p *rawPeer, c *Conn, ended <-chan *CloseError) {
		stop := make(chan struct{})
		go func() { // requests, pings and pongs, until the connection ends
			defer close(stop)
			for i := 0; ; i++ {
				if _, err := p.Write(append(p.frame(0x81, "request"), p.frame(0x89, "ping")...)); err != nil {
					return
				}
				p.Write(p.frame(0x8A, ""))
			}
		}()
		var senders sync.WaitGroup
		prepared := Prepare([]byte("prepared"))
		for s := range 3 {
			senders.Go(func() {
				for i := range 300 {
					if i%3 == 0 {
						c.SendPrepared(prepared)
					}
					if c.Send(fmt.Appendf(nil, "s%d %05d", s, i)) != nil {
						return
					}
					c.SetLimit(64<<10+i, 8<<20)
					c.SetDeadline(time.Now().Add(time.Hour))
				}
			})
		}
		go func() {
			senders.Wait()
			for i := range 3 {
				go c.Close(CloseNormal, fmt.Sprint("closer ", i))
			}
		}()
		latest := map[string]string{}
		for {
			op, payload, err := p.readFrame()
			if err != nil {
				t.Fatal(err)
			}
			if op == opClose {
				break
			}
			if s := string(payload); op == opText && s[0] == 's' {
				if s <= latest[s[:2]] {
					t.Fatalf("%q after %q", s, latest[s[:2]])
				}
				latest[s[:2]] = s
			}
		}
		for s := range 3 {
			if got := latest[fmt.Sprint("s", s)]; !strings.HasSuffix(got, "00299") {
				t.Errorf("sender %d ended with %q", s, got)
			}
		}
		p.Write(p.frame(0x88, "\x03\xe8"))
		if p.server {
			p.Close() // a client waits for the server's end
		}
		if n, err := io.Copy(io.Discard, p.br); n != 0 {
			t.Errorf("%d bytes after the Close, %v", n, err)
		}
		p.Close()
		<-stop
		if got := <-ended; got.Code != CloseNormal || !strings.HasPrefix(got.Reason, "closer ") {
			t.Error(got)
		}
	})
}

func TestMemoryFollowsWhatArrives(t *testing.T) {
	client, c := tcpServerConn(t, Options{MaxMessage: 512 << 20})
	f := maskedFrame(0x81, make([]byte, 70000))
	f[2], f[3], f[6] = 0, 0, 16 // declares 256 MiB and more
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	client.Write(f)
	client.CloseWrite()
	_, err := c.ReadMessage()
	runtime.ReadMemStats(&after)
	if !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Error(err)
	}
	if n := after.TotalAlloc - before.TotalAlloc; n > 1<<20 {
		t.Errorf("%d bytes allocated for 70 kB", n)
	}
}

func TestIdleConnectionHoldsNoBuffers(t *testing.T) {
	client, c := tcpServerConn(t, Options{MaxMessage: 1 << 20})
	p := newPeer(client, false)
	p.Write(p.frame(0x81, strings.Repeat("x", 300<<10)))
	if msg, err := c.ReadMessage(); len(msg) != 300<<10 || err != nil {
		t.Fatal(len(msg), err)
	}
	ended := make(chan *CloseError)
	go func() { ended <- echo(c) }()
	p.Write(p.frame(0x89, ""))
	p.event()
	p.Write(p.frame(0x81, "x"))
	p.event()
	p.Write(p.frame(0x89, ""))
	p.event() // the reader is past the message
	c.mu.Lock()
	if c.msg != nil || c.out.control != nil || len(c.out.data) > 0 || c.out.head != nil || c.in.Size() > readBuffer {
		t.Error("buffers are kept")
	}
	c.mu.Unlock()
	c.Close(CloseNormal, "")
	p.events()
	<-ended
}
