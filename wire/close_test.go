package wire

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"
)

// inBubble runs a test over a pipe with a fake clock. A goroutine left behind, a
// reader that never ends, is a deadlock there and fails it.
func inBubble(t *testing.T, o Options, test func(t *testing.T, p *rawPeer, c *Conn)) {
	for _, side := range []string{"server", "client"} {
		t.Run(side, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				theirs, ours := net.Pipe()
				var c *Conn
				if side == "server" {
					c = testServerConn(ours, o)
				} else {
					c = testClientConn(t, ours, theirs, o)
				}
				test(t, newPeer(theirs, side == "client"), c)
				theirs.Close()
				<-c.Done()
			})
		})
	}
}

// started reads in the background.
func started(c *Conn) <-chan *CloseError {
	ended := make(chan *CloseError, 1)
	go func() { ended <- echo(c) }()
	return ended
}

func TestKeepalive(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, p *rawPeer, c *Conn) {
		begin := time.Now()
		ended := started(c)
		for i := range 12 { // answered by anything complete
			if got := p.event(); got != "ping" || time.Since(begin) != time.Duration(i+1)*25*time.Second {
				t.Fatalf("%q after %v", got, time.Since(begin))
			}
			switch i % 3 {
			case 0:
				p.Write(p.frame(0x8A, ""))
			case 1: // one is missed, now and then
			case 2:
				p.Write(p.frame(0x01, "a fragment"))
				p.Write(p.frame(0x80, ""))
				p.event()
			}
		}
		// Two are missed.
		begin = time.Now()
		for range 2 {
			if got := p.event(); got != "ping" {
				t.Fatal(got)
			}
		}
		if got := p.event(); got != "close 1008 no answer to pings" || time.Since(begin) != 75*time.Second {
			t.Errorf("%q after %v", got, time.Since(begin))
		}
		if got := <-ended; got.Code != ClosePolicy {
			t.Error(got)
		}
		// Our Close was not answered either.
		if d := time.Since(begin); d != 77*time.Second {
			t.Errorf("ended after %v", d)
		}
	})
}

func TestNoPings(t *testing.T) {
	inBubble(t, Options{PingInterval: -1}, func(t *testing.T, p *rawPeer, c *Conn) {
		c.SetDeadline(time.Now().Add(time.Minute))
		started(c)
		synctest.Wait()
		c.SetDeadline(time.Time{}) // it still wakes the reader, once
		p.SetReadDeadline(time.Now().Add(time.Hour))
		if got := p.event(); !strings.Contains(got, os.ErrDeadlineExceeded.Error()) {
			t.Error(got)
		}
	})
}

// A frame, a message and a connect phase that drip end on time, whatever else comes.
func TestMessageTimeout(t *testing.T) {
	for _, test := range []struct {
		name string
		drip func(p *rawPeer, i int) []byte
	}{
		{"header", func(p *rawPeer, i int) []byte { return p.frame(0x81, strings.Repeat("x", 70000))[i : i+1] }},
		{"payload", func(p *rawPeer, i int) []byte { return p.frame(0x81, strings.Repeat("x", 1000))[i*10 : i*10+10] }},
		{"fragments", func(p *rawPeer, i int) []byte {
			return append(p.frame(byte(1>>min(i, 1)), "x"), p.frame(0x8A, "life")...)
		}},
		{"control", func(p *rawPeer, i int) []byte { return p.frame(0x89, strings.Repeat("x", 100))[i : i+1] }},
	} {
		t.Run(test.name, func(t *testing.T) {
			inBubble(t, Options{MaxMessage: 1 << 20, PingInterval: time.Hour}, func(t *testing.T, p *rawPeer, c *Conn) {
				begin := time.Now()
				ended := started(c)
				closed := make(chan string)
				go func() { closed <- p.event() }()
				for i := 0; ; i++ {
					if _, err := p.Write(test.drip(p, i)); err != nil {
						t.Fatal(err)
					}
					select {
					case got := <-closed:
						if got != "close 1008 message timeout" || time.Since(begin) != 30*time.Second {
							t.Errorf("%q after %v", got, time.Since(begin))
						}
						p.Close()
						<-ended
						return
					case <-time.After(4 * time.Second):
					}
				}
			})
		})
	}
}

func TestMessageTimeoutIsPerMessage(t *testing.T) {
	inBubble(t, Options{PingInterval: time.Hour}, func(t *testing.T, p *rawPeer, c *Conn) {
		started(c)
		for range 3 {
			f := p.frame(0x81, "slow but well")
			p.Write(f[:5])
			time.Sleep(29 * time.Second)
			p.Write(f[5:])
			if got := p.event(); got != "text slow but well" {
				t.Fatal(got)
			}
			time.Sleep(29 * time.Second)
		}
	})
}

func TestConnectDeadline(t *testing.T) {
	inBubble(t, Options{PingInterval: 3 * time.Second}, func(t *testing.T, p *rawPeer, c *Conn) {
		c.SetDeadline(time.Now().Add(10 * time.Second))
		begin := time.Now()
		ended := started(c)
		var got string
		for got = p.event(); got == "ping"; got = p.event() {
			p.Write(p.frame(0x8A, ""))
		}
		if got != "close 1008 connect timeout" || time.Since(begin) != 10*time.Second {
			t.Errorf("%q after %v", got, time.Since(begin))
		}
		p.Close()
		<-ended
	})
}

func TestDeadlineCleared(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, p *rawPeer, c *Conn) {
		c.SetDeadline(time.Now().Add(10 * time.Second))
		started(c)
		synctest.Wait()
		c.SetDeadline(time.Time{})
		if got := p.event(); got != "ping" {
			t.Error(got)
		}
	})
}

func TestDeadlineSetWhileReading(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, p *rawPeer, c *Conn) {
		started(c)
		synctest.Wait()
		c.SetDeadline(time.Now().Add(time.Second))
		if got := p.event(); got != "close 1008 connect timeout" {
			t.Error(got)
		}
	})
}

func TestCloseWithoutReader(t *testing.T) {
	for name, peer := range map[string]func(p *rawPeer){
		"silent":       func(p *rawPeer) {},
		"never reads":  nil,
		"answers":      func(p *rawPeer) { p.Write(p.frame(0x88, "\x03\xe8")); p.Close() },
		"just ends":    func(p *rawPeer) { p.Close() },
		"talks on":     func(p *rawPeer) { p.Write(p.frame(0x81, "and another thing")) },
		"breaks rules": func(p *rawPeer) { p.Write([]byte{0xFF, 0xFF}) },
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, Options{}, func(t *testing.T, p *rawPeer, c *Conn) {
				begin := time.Now()
				c.Close(CloseNormal, "done")
				c.Close(CloseInternal, "twice")
				if peer != nil {
					if got := p.event(); got != "close 1000 done" {
						t.Error(got)
					}
					peer(p)
				}
				<-c.Done()
				if d := time.Since(begin); d > 12*time.Second || peer != nil && d > 2*time.Second {
					t.Errorf("ended after %v", d)
				}
				_, err := c.ReadMessage()
				if e := err.(*CloseError); e.Code != CloseNormal || e.Reason != "done" {
					t.Error(err)
				}
			})
		})
	}
}

func TestCloseFromTheReader(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, p *rawPeer, c *Conn) {
		ended := make(chan error, 1)
		go func() {
			msg, _ := c.ReadMessage()
			c.Close(ClosePolicy, "first frame must be connect")
			if string(msg) != "hello" {
				t.Errorf("message became %q", msg)
			}
			_, err := c.ReadMessage()
			ended <- err
		}()
		p.Write(append(p.frame(0x81, "hello"), p.frame(0x81, "dropped")...))
		if got := p.event(); got != "close 1008 first frame must be connect" {
			t.Error(got)
		}
		p.Write(p.frame(0x88, ""))
		if p.server {
			p.Close()
		}
		if err := (<-ended).(*CloseError); err.Code != ClosePolicy {
			t.Error(err)
		}
	})
}

func TestMessagesWhileClosingAreDropped(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, p *rawPeer, c *Conn) {
		ended := make(chan error, 1)
		go func() {
			msg, err := c.ReadMessage()
			if err == nil {
				t.Errorf("%q is delivered", msg)
			}
			ended <- err
		}()
		synctest.Wait()
		c.Close(CloseGoingAway, "")
		for _, f := range [][]byte{p.frame(0x81, "late"), p.frame(0x89, "late"), p.frame(0x01, "la"), p.frame(0x88, "\x03\xe8")} {
			p.Write(f)
		}
		if got := p.events(); len(got) != 1 || got[0] != "close 1001" {
			t.Error(got)
		}
		if err := (<-ended).(*CloseError); err.Code != CloseGoingAway {
			t.Error(err)
		}
	})
}

func TestAbruptEnds(t *testing.T) {
	for _, test := range []struct {
		name string
		last []byte
		want error
	}{
		{"between frames", nil, io.EOF},
		{"one byte", []byte{0x81}, io.ErrUnexpectedEOF},
		{"in the header", []byte{0x81, 0xFE, 1}, io.ErrUnexpectedEOF},
		{"in the payload", maskedFrame(0x81, []byte("half a frame"))[:12], io.ErrUnexpectedEOF},
		{"before the payload", maskedFrame(0x81, []byte("half a frame"))[:6], io.ErrUnexpectedEOF},
		{"in a ping", maskedFrame(0x89, []byte("half a frame"))[:12], io.ErrUnexpectedEOF},
	} {
		t.Run(test.name, func(t *testing.T) {
			theirs, ours := tcpPair(t)
			c := testServerConn(ours, Options{})
			theirs.Write(test.last)
			theirs.CloseWrite()
			err := echo(c)
			if err.Code != CloseAbnormal || !errors.Is(err, test.want) {
				t.Error(err)
			}
			if got := newPeer(theirs, false).event(); got != "eof" {
				t.Errorf("answered %q", got)
			}
		})
	}
}

func TestServerEndsFirst(t *testing.T) {
	// RFC 6455 section 7.1.1: the server ends its side, reads on, and a client
	// still sending sees the Close rather than a reset.
	client, c := tcpServerConn(t, Options{})
	ended := started(c)
	client.Write(rawFrame(0x81, []byte("not masked")))
	for range 64 {
		client.Write(make([]byte, 16<<10))
	}
	p := newPeer(client, false)
	if got := p.event(); !strings.HasPrefix(got, "close 1002") {
		t.Error(got)
	}
	if got := p.event(); got != "eof" {
		t.Error(got)
	}
	client.Close()
	<-ended
}

// A halfConn counts how often its sending side was ended.
type halfConn struct {
	net.Conn
	halves int
}

func (c *halfConn) CloseWrite() error { c.halves++; return nil }

func TestOnlyServersEndTheirHalf(t *testing.T) {
	for _, client := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			theirs, ours := net.Pipe()
			half := &halfConn{Conn: ours}
			var c *Conn
			want := 1
			if client {
				c, want = testClientConn(t, half, theirs, Options{}), 0
			} else {
				c = testServerConn(half, Options{})
			}
			p, ended := newPeer(theirs, client), started(c)
			begin := time.Now()
			p.Write(p.frame(0x88, ""))
			if got := p.event(); got != "close" {
				t.Error(got)
			}
			<-ended // the peer never ends its side
			if d := time.Since(begin); d != 2*time.Second {
				t.Errorf("ended after %v", d)
			}
			if half.halves != want {
				t.Errorf("client %v: ended its half %d times", client, half.halves)
			}
			theirs.Close()
		})
	}
}

func TestClientWaitsForTheServersEnd(t *testing.T) {
	ours, theirs := tcpPair(t)
	c := testClientConn(t, ours, theirs, Options{})
	ended := started(c)
	p := newPeer(theirs, true)
	p.Write(p.frame(0x88, "\x03\xe8bye"))
	if got := p.event(); got != "close 1000" {
		t.Error(got)
	}
	select {
	case <-c.Done():
		t.Error("the client ended first")
	default:
	}
	p.Close()
	if got := <-ended; got.Code != CloseNormal || got.Reason != "bye" {
		t.Error(got)
	}
}

func TestPeersReasonOutlivesAFailedWrite(t *testing.T) {
	ours, theirs := tcpPair(t)
	c := testClientConn(t, ours, theirs, Options{})
	p := newPeer(theirs, true)
	p.Write(p.frame(0x88, "\x03\xf0bad token"))
	ours.CloseWrite() // every write fails from here on
	for c.Send([]byte("x")) == nil {
	}
	p.Close()
	if _, err := c.ReadMessage(); err.(*CloseError).Code != ClosePolicy || c.err.Reason != "bad token" {
		t.Error(err)
	}
}

func TestCloseBody(t *testing.T) {
	for _, test := range []struct {
		code   int
		reason string
		want   string
	}{
		{1000, "", ""},
		{0, "ignored", "none"}, {1005, "", "none"}, {1006, "", "none"},
		{1000, "gr\xffund", "gr\uFFFDund"},
		{1000, strings.Repeat("x", 124), strings.Repeat("x", 123)},
		{1000, strings.Repeat("x", 122) + "é", strings.Repeat("x", 122)},
		{1000, strings.Repeat("😀", 40), strings.Repeat("😀", 30)},
	} {
		b := closeBody(test.code, test.reason)
		if test.want == "none" {
			if b != nil {
				t.Errorf("%d: %q", test.code, b)
			}
			continue
		}
		if int(binary.BigEndian.Uint16(b)) != test.code || string(b[2:]) != test.want || len(b) > 125 || !utf8.Valid(b[2:]) {
			t.Errorf("%d %q: %q", test.code, test.reason, b)
		}
	}
}

func TestCloseErrorText(t *testing.T) {
	for _, test := range []struct {
		err  *CloseError
		want string
	}{
		{&CloseError{Code: 1000}, "websocket closed: 1000"},
		{&CloseError{Code: 1008, Reason: "a\nb"}, `websocket closed: 1008 "a\nb"`},
		{&CloseError{Code: 1006, Err: io.EOF}, "websocket closed: 1006: EOF"},
	} {
		if got := test.err.Error(); got != test.want {
			t.Errorf("%q, want %q", got, test.want)
		}
	}
}

// TestDrop wants a dropped connection gone at once and without a Close.
func TestDrop(t *testing.T) {
	client, c := tcpServerConn(t, Options{})
	defer client.Close()
	ended := started(c)
	c.Drop()
	if ce := <-ended; ce.Code != CloseAbnormal {
		t.Errorf("ended with %v", ce)
	}
	if got := newPeer(client, false).event(); got != "eof" {
		t.Errorf("the peer sees %s", got)
	}
}
