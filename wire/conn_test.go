package wire

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha1"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"golang.org/x/net/websocket"
)

const testKey = "dGhlIHNhbXBsZSBub25jZQ==" // RFC 6455 section 1.3

// rawFrame makes a frame with any first byte and its length in the shortest form.
func rawFrame(first byte, payload []byte) []byte {
	return append([]byte{first}, appendFrame(nil, opText, payload)[1:]...)
}

// maskedFrame makes a frame as a client sends it.
func maskedFrame(first byte, payload []byte) []byte { return mask(rawFrame(first, payload)) }

// mask masks a frame that is whole or cut inside its payload.
func mask(frame []byte) []byte {
	if len(frame) < 2 {
		return frame
	}
	key := [4]byte{0x37, 0xFA, 0x21, 0x3D}
	head := 2
	switch frame[1] & 0x7F {
	case 126:
		head = 4
	case 127:
		head = 10
	}
	out := append([]byte(nil), frame[:min(head, len(frame))]...)
	out[1] |= 0x80
	if len(frame) < head {
		return out
	}
	out = append(out, key[:]...)
	for i, b := range frame[head:] {
		out = append(out, b^key[i%4])
	}
	return out
}

// testServerConn is a server's connection over any transport, the handshake done
// and its answer dropped.
func testServerConn(nc net.Conn, o Options) *Conn {
	c := newConn(nc, false, o)
	if err := c.upgrade(testKey); err != nil {
		panic(err)
	}
	c.out.drop()
	return c
}

// answerHandshake plays the server's half of a handshake on nc.
func answerHandshake(nc net.Conn) error {
	r, err := http.ReadRequest(bufio.NewReader(nc))
	if err != nil {
		return err
	}
	sum := sha1.Sum([]byte(r.Header.Get("Sec-Websocket-Key") + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	_, err = io.WriteString(nc, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"+
		"Connection: Upgrade\r\nSec-WebSocket-Accept: "+base64.StdEncoding.EncodeToString(sum[:])+"\r\n\r\n")
	return err
}

// testClientConn is a client's connection over nc, whose other end is server.
func testClientConn(t testing.TB, nc, server net.Conn, o Options) *Conn {
	t.Helper()
	answered := make(chan error, 1)
	go func() { answered <- answerHandshake(server) }()
	c, err := Dial(t.Context(), "ws://gateway.test/", DialOptions{Options: o,
		DialContext: func(context.Context, string, string) (net.Conn, error) { return nc, nil }})
	if err := errors.Join(err, <-answered); err != nil {
		t.Fatal(err)
	}
	return c
}

// tcpPair is a loopback connection.
func tcpPair(t testing.TB) (client, server *net.TCPConn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	dialed := make(chan net.Conn, 1)
	go func() {
		nc, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Error(err)
		}
		dialed <- nc
	}()
	nc, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	client, server = (<-dialed).(*net.TCPConn), nc.(*net.TCPConn)
	t.Cleanup(func() { client.Close(); server.Close() })
	return client, server
}

func tcpServerConn(t testing.TB, o Options) (client *net.TCPConn, c *Conn) {
	client, server := tcpPair(t)
	return client, testServerConn(server, o)
}

// tcpXNet serves handler with x/net alone and returns a client's transport.
func tcpXNet(t testing.TB, handler websocket.Handler) net.Conn {
	t.Helper()
	s := httptest.NewServer(websocket.Server{Handler: handler})
	t.Cleanup(s.Close)
	nc, err := net.Dial("tcp", s.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nc.Close() })
	if status, _ := openRaw(nc, ""); status != http.StatusSwitchingProtocols {
		t.Fatal(status)
	}
	return nc
}

// openRaw makes a client's handshake and reads its answer. extra is sent with it.
func openRaw(nc net.Conn, extra string) (int, *bufio.Reader) {
	io.WriteString(nc, "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: "+testKey+"\r\n\r\n"+extra)
	br := bufio.NewReader(nc)
	resp, err := http.ReadResponse(br, nil)
	if err != nil {
		return 0, br
	}
	return resp.StatusCode, br
}

// A rawPeer is the other end of a Conn, on the bare transport. Its reading of
// frames is independent of the package's and strict.
type rawPeer struct {
	net.Conn
	br     *bufio.Reader
	server bool // it plays the server
}

func newPeer(nc net.Conn, server bool) *rawPeer {
	return &rawPeer{Conn: nc, br: bufio.NewReader(nc), server: server}
}

// frame makes a frame as this side sends it.
func (p *rawPeer) frame(first byte, payload string) []byte {
	if p.server {
		return rawFrame(first, []byte(payload))
	}
	return maskedFrame(first, []byte(payload))
}

// readFrame reads one frame and refuses any that RFC 6455 does not allow Conn.
func (p *rawPeer) readFrame() (op byte, payload []byte, err error) {
	var h [14]byte
	if _, err := io.ReadFull(p.br, h[:1]); err != nil {
		return 0, nil, err
	}
	if _, err := io.ReadFull(p.br, h[1:2]); err != nil {
		return 0, nil, fmt.Errorf("header cut: %w", err)
	}
	if h[0]&0xF0 != 0x80 {
		return 0, nil, fmt.Errorf("first byte %#x", h[0])
	}
	if masked := h[1]&0x80 != 0; masked != p.server {
		return 0, nil, fmt.Errorf("masked: %v", masked)
	}
	n := uint64(h[1] & 0x7F)
	switch n {
	case 126:
		_, err = io.ReadFull(p.br, h[2:4])
		if n = uint64(binary.BigEndian.Uint16(h[2:])); err == nil && n < 126 {
			err = errors.New("length form")
		}
	case 127:
		_, err = io.ReadFull(p.br, h[2:10])
		if n = binary.BigEndian.Uint64(h[2:]); err == nil && n < 1<<16 {
			err = errors.New("length form")
		}
	}
	var key [4]byte
	if err == nil && p.server {
		_, err = io.ReadFull(p.br, key[:])
	}
	if err != nil {
		return 0, nil, fmt.Errorf("header: %w", err)
	}
	payload = make([]byte, n)
	if _, err := io.ReadFull(p.br, payload); err != nil {
		return 0, nil, fmt.Errorf("payload: %w", err)
	}
	for i := range payload {
		payload[i] ^= key[i%4]
	}
	return h[0] & 0x0F, payload, nil
}

// event reads a frame and describes it.
func (p *rawPeer) event() string {
	op, payload, err := p.readFrame()
	switch {
	case err == io.EOF:
		return "eof"
	case err != nil:
		return "error " + err.Error()
	case op == opClose && len(payload) == 0:
		return "close"
	case op == opClose && len(payload) >= 2:
		return strings.TrimSpace(fmt.Sprintf("close %d %s", binary.BigEndian.Uint16(payload), payload[2:]))
	}
	name := map[byte]string{opText: "text", opBinary: "binary", opPing: "ping", opPong: "pong"}[op]
	return strings.TrimSpace(name + " " + string(payload))
}

// events reads until the Close, ends the transport and returns what came, less
// the reason of the Close.
func (p *rawPeer) events() (all []string) {
	for {
		e := p.event()
		if strings.HasPrefix(e, "close ") {
			e = e[:len("close 1000")]
		}
		all = append(all, e)
		if strings.HasPrefix(e, "close") || strings.HasPrefix(e, "error") || e == "eof" {
			p.Conn.Close()
			return all
		}
	}
}

// echo sends every message back and returns how the connection ended.
func echo(c *Conn) *CloseError {
	for {
		msg, err := c.ReadMessage()
		if err != nil {
			return err.(*CloseError)
		}
		c.Send(msg)
	}
}

// bothSides runs a test against an echoing server and an echoing client; ended
// yields how the Conn ended.
func bothSides(t *testing.T, o Options, test func(t *testing.T, p *rawPeer, c *Conn, ended <-chan *CloseError)) {
	for _, side := range []string{"server", "client"} {
		t.Run(side, func(t *testing.T) {
			ours, theirs := tcpPair(t)
			var c *Conn
			if side == "server" {
				c = testServerConn(ours, o)
			} else {
				c = testClientConn(t, ours, theirs, o)
			}
			ended := make(chan *CloseError, 1)
			go func() { ended <- echo(c) }()
			test(t, newPeer(theirs, side == "client"), c, ended)
			theirs.Close()
			<-c.Done()
		})
	}
}

func TestXNetCodec(t *testing.T) {
	// NewFrameReader and NewFrameWriter are promoted from unexported interfaces:
	// this is what they are relied upon for.
	for _, n := range []int{0, 1, 125, 126, 127, 65535, 65536, 100000} {
		payload := bytes.Repeat([]byte("é"), n)[:n]
		c := testServerConn(&benchConn{}, Options{})
		var b outBuffer
		c.into = &b
		w, err := c.ws.NewFrameWriter(opText)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(payload); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(b.b, appendFrame(nil, opText, payload)) {
			t.Errorf("%d bytes: appendFrame and x/net differ", n)
		}
		c.early = append(maskedFrame(0x81, payload), 0x89)
		f, err := c.ws.NewFrameReader()
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(f)
		if err != nil || !bytes.Equal(got, payload) {
			t.Errorf("%d bytes: read %d, %v", n, len(got), err)
		}
		if next, err := c.in.ReadByte(); err != nil || next != 0x89 {
			t.Errorf("%d bytes: x/net did not stop at the frame's end: %x, %v", n, next, err)
		}
	}
}

// Autobahn's 1.x, and its chopped variants: every form of a length, both ways.
func TestSizes(t *testing.T) {
	bothSides(t, Options{MaxMessage: 1 << 20, MaxQueued: 1 << 20}, func(t *testing.T, p *rawPeer, c *Conn, ended <-chan *CloseError) {
		for _, chop := range []int{1 << 20, 997, 1} {
			for _, n := range []int{0, 1, 125, 126, 127, 128, 1023, 1024, 4096, 65535, 65536} {
				if chop == 1 && n > 4096 {
					continue
				}
				want := strings.Repeat("0123456789abcdef", n/16+1)[:n]
				go func(b []byte) {
					for len(b) > 0 {
						k := min(chop, len(b))
						p.Write(b[:k])
						b = b[k:]
					}
				}(p.frame(0x81, want))
				op, got, err := p.readFrame()
				if err != nil || op != opText || string(got) != want {
					t.Fatalf("%d bytes in pieces of %d: opcode %d, %d bytes, %v", n, chop, op, len(got), err)
				}
			}
		}
	})
}

// Autobahn's 2.x to 7.x, as sequences of frames and what must come back.
func TestSequences(t *testing.T) {
	type frame struct {
		first byte
		body  string
	}
	long := strings.Repeat("p", 125)
	end := frame{0x88, "\x03\xe8"}
	var pings []frame
	var pongs []string
	for i := range 10 {
		pings = append(pings, frame{0x89, fmt.Sprint("n", i)})
		pongs = append(pongs, fmt.Sprint("pong n", i))
	}
	for _, test := range []struct {
		name string
		in   []frame
		want []string
	}{
		{"2.1", []frame{{0x89, ""}, end}, []string{"pong", "close 1000"}},
		{"2.4", []frame{{0x89, long}, end}, []string{"pong " + long, "close 1000"}},
		{"2.7 pong unasked", []frame{{0x8A, ""}, {0x8A, "x"}, {0x89, "y"}, end}, []string{"pong y", "close 1000"}},
		{"2.10", append(pings, end), append(pongs, "close 1000")},
		{"3.1", []frame{{0x81, "a"}, {0xC1, "b"}}, []string{"text a", "close 1002"}},
		{"3.2", []frame{{0x81, "a"}, {0xA1, "b"}, {0x89, ""}}, []string{"text a", "close 1002"}},
		{"3.3", []frame{{0x91, "b"}}, []string{"close 1002"}},
		{"3.6 ping", []frame{{0xE9, "b"}}, []string{"close 1002"}},
		{"3.7 close", []frame{{0xF8, ""}}, []string{"close 1002"}},
		{"4.1.3", []frame{{0x81, "a"}, {0x83, "b"}, {0x89, ""}}, []string{"text a", "close 1002"}},
		{"4.2.3", []frame{{0x81, "a"}, {0x8B, ""}}, []string{"text a", "close 1002"}},
		{"5.1", []frame{{0x09, "a"}, {0x80, "b"}}, []string{"close 1002"}},
		{"5.3", []frame{{0x01, "a"}, {0x80, "b"}, end}, []string{"text ab", "close 1000"}},
		{"5.6", []frame{{0x01, "a"}, {0x89, "p"}, {0x80, "b"}, end}, []string{"pong p", "text ab", "close 1000"}},
		{"5.9", []frame{{0x80, "a"}}, []string{"close 1002"}},
		{"5.10", []frame{{0x00, "a"}, {0x81, "b"}}, []string{"close 1002"}},
		{"5.15", []frame{{0x01, "a"}, {0x80, "b"}, {0x00, "c"}, {0x81, "d"}}, []string{"text ab", "close 1002"}},
		{"5.18", []frame{{0x01, "a"}, {0x81, "b"}}, []string{"close 1002"}},
		{"5.19", []frame{{0x01, "a"}, {0x00, "b"}, {0x89, "1"}, {0x00, "c"}, {0x8A, "x"}, {0x89, "2"}, {0x80, "d"}, end},
			[]string{"pong 1", "pong 2", "text abcd", "close 1000"}},
		{"6.1.1", []frame{{0x81, ""}, end}, []string{"text", "close 1000"}},
		{"6.1.2", []frame{{0x01, ""}, {0x00, ""}, {0x80, ""}, end}, []string{"text", "close 1000"}},
		{"6.2.3 split in runes", []frame{{0x01, "\xce"}, {0x00, "\xba\xf0\x9f"}, {0x00, "\x98"}, {0x80, "\x80"}, end},
			[]string{"text κ😀", "close 1000"}},
		{"6.3.1", []frame{{0x81, "ok\xed\xa0\x80"}}, []string{"close 1007"}},
		{"6.4.1 before FIN", []frame{{0x01, "ok"}, {0x00, "\xf4\x90"}}, []string{"close 1007"}},
		{"6.4 unfinished", []frame{{0x01, "ok"}, {0x80, "\xf4\x8f"}}, []string{"close 1007"}},
		{"7.1.3 twice", []frame{end, end}, []string{"close 1000"}},
		{"7.1.4 text behind", []frame{end, {0x81, "a"}}, []string{"close 1000"}},
		{"7.1.5 inside a message", []frame{{0x01, "a"}, end}, []string{"close 1000"}},
		{"7.3.1", []frame{{0x88, ""}}, []string{"close"}},
		{"7.3.2", []frame{{0x88, "\x03"}}, []string{"close 1002"}},
		{"7.3.4", []frame{{0x88, "\x03\xe8bye"}}, []string{"close 1000"}},
		{"7.3.5", []frame{{0x88, "\x03\xe8" + long[:123]}}, []string{"close 1000"}},
		{"7.3.6", []frame{{0x88, "\x03\xe8" + long[:124]}}, []string{"close 1002"}},
		{"7.5.1", []frame{{0x88, "\x03\xe8\xce\xba\xed\xa0\x80"}}, []string{"close 1007"}},
		{"binary", []frame{{0x81, "a"}, {0x82, "b"}}, []string{"text a", "close 1003"}},
	} {
		t.Run(strings.ReplaceAll(test.name, " ", "_"), func(t *testing.T) {
			bothSides(t, Options{}, func(t *testing.T, p *rawPeer, c *Conn, ended <-chan *CloseError) {
				var all []byte
				for _, f := range test.in {
					all = append(all, p.frame(f.first, f.body)...)
				}
				p.Write(all)
				if got := p.events(); strings.Join(got, "|") != strings.Join(test.want, "|") {
					t.Errorf("got %q, want %q", got, test.want)
				}
			})
		})
	}
}

// Autobahn's 7.7.x, 7.9.x and 7.13.x: every code, as received and as reported.
func TestCloseCodes(t *testing.T) {
	good := func(code int) bool {
		switch code {
		case 1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999:
			return true
		}
		return false
	}
	for _, code := range []int{0, 1, 999, 1000, 1001, 1002, 1003, 1004, 1005, 1006, 1007, 1008, 1009, 1010, 1011,
		1012, 1013, 1014, 1015, 1016, 1100, 2000, 2999, 3000, 3999, 4000, 4999, 5000, 65535} {
		t.Run(fmt.Sprint(code), func(t *testing.T) {
			bothSides(t, Options{}, func(t *testing.T, p *rawPeer, c *Conn, ended <-chan *CloseError) {
				p.Write(p.frame(0x88, string(binary.BigEndian.AppendUint16(nil, uint16(code)))+"why"))
				want, reported := fmt.Sprint("close ", code), CloseError{Code: code, Reason: "why"}
				if !good(code) {
					want, reported = "close 1002", CloseError{Code: 1002, Reason: "invalid close code"}
				}
				if got := p.events(); len(got) != 1 || got[0] != want {
					t.Errorf("answered %q, want %q", got, want)
				}
				if got := <-ended; *got != reported {
					t.Errorf("reported %v, want %v", got, &reported)
				}
			})
		})
	}
}

func TestText(t *testing.T) {
	// Autobahn's 6.5 to 6.23: what is UTF-8, and at which byte the rest is not.
	for _, test := range []struct {
		text string
		bad  int // index of the first byte that cannot follow; -1 if it is UTF-8
	}{
		{"", -1}, {"Hello-µ@ßöäüàá-UTF-8!!", -1}, {"κόσμε", -1}, {"\x00", -1}, {"\x7f", -1},
		{"\xc2\x80", -1}, {"\xdf\xbf", -1}, {"\xe0\xa0\x80", -1}, {"\xef\xbf\xbf", -1}, {"\xed\x9f\xbf", -1},
		{"\xee\x80\x80", -1}, {"\xf0\x90\x80\x80", -1}, {"\xf4\x8f\xbf\xbf", -1}, {"\xef\xbf\xbe", -1},
		{"a\x80", 1}, {"\xbf", 0}, {"\xc0\xaf", 0}, {"\xc1\xbf", 0}, {"\xe0\x80\xaf", 1}, {"\xe0\x9f\xbf", 1},
		{"\xf0\x80\x80\xaf", 1}, {"\xf0\x8f\xbf\xbf", 1}, {"\xf4\x90\x80\x80", 1}, {"\xf5\x80\x80\x80", 0},
		{"\xed\xa0\x80", 1}, {"\xed\xbf\xbf", 1}, {"\xfe", 0}, {"\xff", 0}, {"ok\xce\xbaz\xcez", 6},
		{"κόσμε\xed\xa0\x80edited", 11}, {"\xe2\x82a", 2}, {"\xf0\x9f\x98a", 3}, {"\xf8\x88\x80\x80\x80", 0},
	} {
		bad, checked := -1, 0
		for i := range len(test.text) {
			whole, ok := textPrefix([]byte(test.text[checked : i+1]))
			if !ok {
				bad = i
				break
			}
			checked += whole
		}
		if bad != test.bad {
			t.Errorf("%q refused at byte %d, want %d", test.text, bad, test.bad)
		}
		if _, ok := textPrefix([]byte(test.text)); ok && test.bad >= 0 {
			t.Errorf("%q in one piece is accepted", test.text)
		}
	}
}

func TestTextFailsOnTheByte(t *testing.T) {
	// The frame is not complete when it is refused: the peer sends no more.
	bothSides(t, Options{}, func(t *testing.T, p *rawPeer, c *Conn, ended <-chan *CloseError) {
		f := p.frame(0x81, "κόσμε\xf4\x90"+strings.Repeat("x", 100))
		p.Write(f[:len(f)-100])
		if got := p.events(); got[0] != "close 1007" {
			t.Errorf("got %q", got)
		}
	})
}

// Autobahn's 9.x and 10.1: large and finely fragmented messages.
func TestLargeMessages(t *testing.T) {
	const size = 256 << 10
	text := strings.Repeat("κόσμε!..", size/13)
	bothSides(t, Options{MaxMessage: size, MaxQueued: 1 << 20}, func(t *testing.T, p *rawPeer, c *Conn, ended <-chan *CloseError) {
		for _, piece := range []int{64, 4 << 10, 64 << 10, size} {
			go func() {
				var out []byte
				for at := 0; at < len(text); at += piece {
					first, last := byte(0), min(at+piece, len(text))
					if at == 0 {
						first = opText
					}
					if last == len(text) {
						first |= 0x80
					}
					out = append(out, p.frame(first, text[at:last])...)
				}
				p.Write(out)
			}()
			if op, got, err := p.readFrame(); err != nil || op != opText || string(got) != text {
				t.Fatalf("in pieces of %d: opcode %d, %d bytes, %v", piece, op, len(got), err)
			}
		}
	})
}

func TestLimits(t *testing.T) {
	o := Options{MaxMessage: 1000}
	for _, test := range []struct {
		name string
		send func(p *rawPeer) []byte
		want string
	}{
		{"exactly", func(p *rawPeer) []byte { return p.frame(0x81, strings.Repeat("x", 1000)) }, "text " + strings.Repeat("x", 1000)},
		{"header alone", func(p *rawPeer) []byte { return p.frame(0x81, strings.Repeat("x", 1001))[:8] }, "close 1009 message too big"},
		{"all fragments", func(p *rawPeer) []byte {
			return append(p.frame(0x01, strings.Repeat("x", 600)), p.frame(0x80, strings.Repeat("x", 401))...)
		}, "close 1009 message too big"},
		{"2^63-1", func(p *rawPeer) []byte {
			return append(p.frame(0x01, "x"), 0x80, p.frame(0, "")[1]&0x80|127, 0x7F, 255, 255, 255, 255, 255, 255, 255, 0, 0, 0, 0)
		}, "close 1009 message too big"},
		{"fragments", func(p *rawPeer) []byte {
			return append(p.frame(0x01, ""), bytes.Repeat(p.frame(0x00, ""), 1<<10)...)
		}, "close 1008 too many fragments"},
	} {
		t.Run(test.name, func(t *testing.T) {
			bothSides(t, o, func(t *testing.T, p *rawPeer, c *Conn, ended <-chan *CloseError) {
				p.Write(test.send(p))
				if got := p.event(); got != test.want {
					t.Errorf("got %q, want %q", got, test.want)
				}
			})
		})
	}
	t.Run("raised", func(t *testing.T) {
		bothSides(t, o, func(t *testing.T, p *rawPeer, c *Conn, ended <-chan *CloseError) {
			c.SetLimit(2000, 1<<20)
			p.Write(p.frame(0x81, strings.Repeat("x", 2000)))
			if got := p.event(); len(got) != 2005 {
				t.Errorf("got %q", got)
			}
			p.Write(p.frame(0x81, strings.Repeat("x", 2001)))
			if got := p.event(); got != "close 1009 message too big" {
				t.Errorf("got %q", got)
			}
		})
	})
	for limit, want := range map[int64]int{1: 1 << 10, 64 << 10: 1 << 10, 1 << 20: 1 << 14, 1 << 30: 1 << 16} {
		if got := maxFragments(limit); got != want {
			t.Errorf("%d fragments for messages of %d, want %d", got, limit, want)
		}
	}
}

func TestBinary(t *testing.T) {
	bothSides(t, Options{Binary: true}, func(t *testing.T, p *rawPeer, c *Conn, ended <-chan *CloseError) {
		p.Write(append(p.frame(0x82, "\xff\xfe{}"), p.frame(0x81, "\xff")...))
		if got := p.events(); len(got) != 2 || got[0] != "text \xff\xfe{}" || got[1] != "close 1007" {
			t.Errorf("got %q", got)
		}
	})
}
