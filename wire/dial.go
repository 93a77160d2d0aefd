package wire

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode"

	"golang.org/x/net/websocket"
)

const (
	maxAnswerHead = 16 << 10 // of the server's handshake
	maxRefusal    = 1 << 10  // kept of the text it refuses with
	// refusalTime is what the text of a refusal is worth waiting for.
	refusalTime = 2 * time.Second
)

// DialOptions say how to open a client connection.
type DialOptions struct {
	Options
	// Origin is sent if it is not empty; otherwise there is no Origin header.
	Origin string
	// Host replaces the URL's in the Host header.
	Host   string
	Header http.Header
	TLS    *tls.Config
	// DialContext opens the transport; the default is a net.Dialer's.
	DialContext func(ctx context.Context, network, addr string) (net.Conn, error)
}

// A HandshakeError is a server's ordinary HTTP answer instead of a WebSocket.
type HandshakeError struct {
	Status int
	Body   string // its beginning, printable
}

func (e *HandshakeError) Error() string {
	s := "websocket refused: " + strconv.Itoa(e.Status) + " " + http.StatusText(e.Status)
	if e.Body != "" {
		s += ": " + e.Body
	}
	return s
}

// Reach reports why no TCP connection can be made to an address. Nothing is sent.
func Reach(ctx context.Context, addr string) error {
	var d net.Dialer
	c, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	return c.Close()
}

// Dial opens a connection to a ws or wss URL, within ctx, which plays no part
// afterwards. It follows no redirects and agrees to no extension or subprotocol.
// If the server answers with anything but a WebSocket, the error is a
// *HandshakeError.
func Dial(ctx context.Context, rawURL string, o DialOptions) (*Conn, error) {
	u, addr, err := parseTarget(rawURL)
	if err != nil {
		return nil, err
	}
	for _, s := range []string{o.Origin, o.Host} {
		if strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r >= 0x7F }) {
			return nil, fmt.Errorf("invalid character in %q", s)
		}
	}
	dial := o.DialContext
	if dial == nil {
		dial = new(net.Dialer).DialContext
	}
	nc, err := dial(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	c, err := openClient(ctx, nc, u, o)
	if err != nil {
		nc.Close()
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return nil, fmt.Errorf("%s: %w", addr, err)
	}
	return c, nil
}

func parseTarget(rawURL string) (u *url.URL, addr string, err error) {
	u, err = url.Parse(rawURL)
	if err != nil {
		return nil, "", err
	}
	port := u.Port()
	switch {
	case u.Scheme != "ws" && u.Scheme != "wss":
		return nil, "", fmt.Errorf("%s: scheme is not ws or wss", u.Redacted())
	case u.Hostname() == "":
		return nil, "", fmt.Errorf("%s: no host", u.Redacted())
	case u.User != nil:
		return nil, "", fmt.Errorf("%s: credentials do not belong in a URL", u.Redacted())
	case u.Fragment != "": // RFC 6455 section 3
		return nil, "", fmt.Errorf("%s: a websocket URL has no fragment", u.Redacted())
	case port == "" && u.Scheme == "ws":
		port = "80"
	case port == "":
		port = "443"
	}
	return u, net.JoinHostPort(u.Hostname(), port), nil
}

// openClient makes the handshakes over nc.
func openClient(ctx context.Context, nc net.Conn, u *url.URL, o DialOptions) (*Conn, error) {
	if u.Scheme == "wss" {
		config := &tls.Config{}
		if o.TLS != nil {
			config = o.TLS.Clone()
		}
		if config.ServerName == "" {
			config.ServerName = u.Hostname()
		}
		config.NextProtos = []string{"http/1.1"}
		secure := tls.Client(nc, config)
		if err := secure.HandshakeContext(ctx); err != nil {
			return nil, err
		}
		nc = secure
	}
	stop := context.AfterFunc(ctx, func() { nc.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	c := newConn(nc, true, o.Options)
	c.shake = &handshake{ctx: ctx, c: c, origin: o.Origin}
	location := *u
	if o.Host != "" {
		location.Host = o.Host
	}
	header := o.Header.Clone()
	header.Del("Origin")
	ws, err := websocket.NewClient(&websocket.Config{
		Location: &location,
		Origin:   new(url.URL), // nil would panic; handshake.send takes its line out
		Version:  websocket.ProtocolVersionHybi13,
		Header:   header,
	}, (*gate)(c))
	if err != nil {
		return nil, err
	}
	c.shake = nil
	if !stop() { // the deadline is set, or about to be
		return nil, ctx.Err()
	}
	c.start(ws)
	return c, nil
}

// A handshake is the client's gate until the connection is open. It sends what
// x/net wrote, reads the answer's head and not a byte more, judges what x/net
// does not, and passes the rest on in its plainest form.
type handshake struct {
	ctx     context.Context
	c       *Conn
	origin  string
	request []byte
	answer  []byte
	asked   bool
}

func (s *handshake) Write(p []byte) (int, error) {
	s.request = append(s.request, p...)
	return len(p), nil
}

// Read is first called when the request is complete.
func (s *handshake) Read(p []byte) (int, error) {
	if !s.asked {
		s.asked = true
		if err := s.send(); err != nil {
			return 0, err
		}
		if err := s.receive(); err != nil {
			return 0, err
		}
	}
	if len(s.answer) == 0 {
		return 0, io.EOF
	}
	n := copy(p, s.answer)
	s.answer = s.answer[n:]
	return n, nil
}

// send writes the request with its Origin line set right: x/net always sends one.
func (s *handshake) send() error {
	var line []byte
	if s.origin != "" {
		line = []byte("Origin: " + s.origin + "\r\n")
	}
	_, err := s.c.nc.Write(bytes.Replace(s.request, []byte("Origin: \r\n"), line, 1))
	s.request = nil
	return err
}

func (s *handshake) receive() error {
	var head []byte
	for !bytes.HasSuffix(head, []byte("\n\r\n")) && !bytes.HasSuffix(head, []byte("\n\n")) {
		if len(head) == maxAnswerHead {
			return errors.New("websocket handshake: answer too long")
		}
		b, err := s.c.in.ReadByte()
		if err != nil {
			return fmt.Errorf("websocket handshake: %w", cutShort(err))
		}
		head = append(head, b)
	}
	body := io.MultiReader(bytes.NewReader(head), s.c.in)
	resp, err := http.ReadResponse(bufio.NewReader(body), &http.Request{Method: http.MethodGet})
	if err != nil {
		return fmt.Errorf("websocket handshake: %w", err)
	}
	if resp.StatusCode != http.StatusSwitchingProtocols {
		return s.refused(resp)
	}
	h := resp.Header
	switch {
	case len(h["Upgrade"]) != 1 || !hasToken(h["Upgrade"], "websocket") || !hasToken(h["Connection"], "upgrade"):
		return errors.New("websocket handshake: server switched to another protocol")
	case len(h["Sec-Websocket-Accept"]) != 1:
		return errors.New("websocket handshake: no single Sec-WebSocket-Accept")
	case len(h["Sec-Websocket-Extensions"]) > 0:
		return errors.New("websocket handshake: server chose an extension nobody offered")
	case len(h["Sec-Websocket-Protocol"]) > 0:
		return errors.New("websocket handshake: server chose a subprotocol nobody offered")
	}
	s.answer = []byte("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
		"Sec-WebSocket-Accept: " + h.Get("Sec-Websocket-Accept") + "\r\n\r\n")
	return nil
}

// refused keeps the beginning of a refusal's text, if it comes soon.
func (s *handshake) refused(resp *http.Response) error {
	by := time.Now().Add(refusalTime)
	if d, ok := s.ctx.Deadline(); !ok || by.Before(d) {
		s.c.nc.SetReadDeadline(by)
	}
	if err := s.ctx.Err(); err != nil { // its deadline may just have been overwritten
		return err
	}
	b, _ := io.ReadAll(io.LimitReader(resp.Body, maxRefusal))
	text := strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(string(b), ""))
	return &HandshakeError{Status: resp.StatusCode, Body: strings.Join(strings.Fields(text), " ")}
}
