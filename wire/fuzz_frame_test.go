package wire

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// A frameVector is a file of testdata/frame: a header, an empty line, and frames,
// one a line, in hex (61*3 repeats), with "text" where it reads better. For both
// sides they stand unmasked and are masked on their way to a server; then the
// transport ends.
type frameVector struct {
	name   string
	server bool
	client bool
	limit  int
	expect []string // as rawPeer.events tells them
	frames [][]byte
}

func readVectors(t testing.TB) (all []frameVector) {
	t.Helper()
	names, err := filepath.Glob("../testdata/frame/*")
	if err != nil || len(names) < 50 {
		t.Fatal(len(names), err)
	}
	for _, name := range names {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		v := frameVector{name: strings.TrimSuffix(filepath.Base(name), ".txt"), server: true, client: true}
		if err := v.parse(string(b)); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		all = append(all, v)
	}
	return all
}

func (v *frameVector) parse(file string) (err error) {
	head, body, ok := strings.Cut(file, "\n\n")
	if !ok {
		return errors.New("no empty line")
	}
	for line := range strings.Lines(head) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), ": ")
		switch key {
		case "comment":
		case "expect":
			v.expect = append(v.expect, value)
		case "limit":
			v.limit, err = strconv.Atoi(value)
		case "side":
			v.server, v.client = value == "server", value == "client"
			if v.server == v.client {
				err = errors.New("side")
			}
		default:
			err = fmt.Errorf("unknown header %q", key)
		}
		if err != nil {
			return err
		}
	}
	for line := range strings.Lines(body) {
		var frame []byte
		for line = strings.TrimSpace(line); line != ""; line = strings.TrimSpace(line) {
			if line[0] == '"' {
				text, rest, ok := strings.Cut(line[1:], `"`)
				if !ok {
					return errors.New("open string")
				}
				frame, line = append(frame, text...), rest
				continue
			}
			word, rest, _ := strings.Cut(line, " ")
			digits, count, repeated := strings.Cut(word, "*")
			n := 1
			if repeated {
				if n, err = strconv.Atoi(count); err != nil {
					return err
				}
			}
			b, err := hex.DecodeString(digits)
			if err != nil {
				return err
			}
			frame, line = append(frame, bytes.Repeat(b, n)...), rest
		}
		v.frames = append(v.frames, frame)
	}
	if len(v.frames) == 0 || len(v.expect) == 0 {
		return errors.New("nothing to do")
	}
	return nil
}

// bytes is what a Conn of a side is sent.
func (v *frameVector) bytes(toServer bool) (all []byte) {
	for _, f := range v.frames {
		if toServer && v.client {
			f = mask(f)
		}
		all = append(all, f...)
	}
	return all
}

func TestFrameVectors(t *testing.T) {
	for _, v := range readVectors(t) {
		t.Run(v.name, func(t *testing.T) {
			bothSides(t, Options{MaxMessage: v.limit}, func(t *testing.T, p *rawPeer, c *Conn, ended <-chan *CloseError) {
				if p.server && !v.client || !p.server && !v.server {
					return
				}
				p.Write(v.bytes(!p.server))
				p.Conn.(*net.TCPConn).CloseWrite()
				if got := p.events(); strings.Join(got, "\n") != strings.Join(v.expect, "\n") {
					t.Errorf("got %q, want %q", got, v.expect)
				}
			})
		})
	}
}

func TestVectorHeaders(t *testing.T) {
	for _, bad := range []string{"expect: eof\n81\n", "expext: eof\n\n81\n", "side: both\nexpect: eof\n\n81\n",
		"expect: eof\n\n8\n", "comment: x\n\n81\n", "expect: eof\n\n\"a\n", "limit: x\nexpect: eof\n\n81\n"} {
		if (&frameVector{}).parse(bad) == nil {
			t.Errorf("%q is accepted", bad)
		}
	}
}

// A scriptConn is a transport with fixed input, in pieces, and collected output.
type scriptConn struct {
	in     []byte
	piece  int
	out    bytes.Buffer
	closed atomic.Bool
}

func (s *scriptConn) Read(p []byte) (int, error) {
	if len(s.in) == 0 {
		return 0, io.EOF
	}
	n := copy(p[:min(len(p), s.piece)], s.in)
	s.in = s.in[n:]
	return n, nil
}

func (s *scriptConn) Write(p []byte) (int, error) {
	if s.closed.Load() {
		return 0, net.ErrClosed
	}
	return s.out.Write(p)
}

func (s *scriptConn) Close() error                     { s.closed.Store(true); return nil }
func (s *scriptConn) LocalAddr() net.Addr              { return nil }
func (s *scriptConn) RemoteAddr() net.Addr             { return nil }
func (s *scriptConn) SetDeadline(time.Time) error      { return nil }
func (s *scriptConn) SetReadDeadline(time.Time) error  { return nil }
func (s *scriptConn) SetWriteDeadline(time.Time) error { return nil }

// fuzzConn makes a Conn over s.
func fuzzConn(t testing.TB, client bool, s *scriptConn) *Conn {
	o := Options{MaxMessage: 4096, MaxQueued: 1 << 20}
	if !client {
		return testServerConn(s, o)
	}
	ours, theirs := net.Pipe()
	c := testClientConn(t, ours, theirs, o)
	c.nc = s
	return c
}

func FuzzConn(f *testing.F) {
	for _, v := range readVectors(f) {
		if v.server {
			f.Add(v.bytes(true), uint16(1000), false)
		}
		if v.client {
			f.Add(v.bytes(false), uint16(7), true)
		}
	}
	f.Fuzz(func(t *testing.T, in []byte, piece uint16, client bool) {
		s := &scriptConn{in: in, piece: int(piece) + 1}
		c := fuzzConn(t, client, s)
		total := 0
		for {
			msg, err := c.ReadMessage()
			if err != nil {
				var ended *CloseError
				if !errors.As(err, &ended) || ended.Code < 1000 || ended.Code > 4999 {
					t.Fatalf("ended with %v", err)
				}
				break
			}
			if total += len(msg); len(msg) > 4096 || total > len(in) {
				t.Fatalf("message of %d, %d of %d bytes", len(msg), total, len(in))
			}
			if cap(msg) > 2*len(msg)+bufferSize+readPiece {
				t.Fatalf("%d bytes kept for %d", cap(msg), len(msg))
			}
			if whole, ok := textPrefix(msg); !ok || whole != len(msg) {
				t.Fatalf("%q is not UTF-8", msg)
			}
			c.Send(msg)
		}
		<-c.Done()
		if c.Send(nil) != ErrClosed || !s.closed.Load() || c.Queued() != 0 {
			t.Fatal("not at its end")
		}
		// What came out: whole frames, the last of them perhaps a Close.
		p := &rawPeer{br: bufio.NewReader(&s.out), server: client}
		for closed := false; ; {
			op, _, err := p.readFrame()
			if err == io.EOF {
				break
			}
			if err != nil || closed {
				t.Fatalf("wrote opcode %d after Close: %v, %v", op, closed, err)
			}
			closed = op == opClose
		}
	})
}
