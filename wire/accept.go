package wire

import (
	"bufio"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"

	"golang.org/x/net/websocket"
)

// CheckUpgrade judges whether a request is a well-formed opening handshake, RFC
// 6455 section 4.2.1. If not, it returns the status and the header fields to
// refuse it with: an ordinary answer, written before anything is hijacked. It
// says nothing about who may connect; where an Origin is sent, there is one.
func CheckUpgrade(r *http.Request) (status int, header http.Header, err error) {
	refuse := func(status int, reason string, fields ...string) (int, http.Header, error) {
		header := http.Header{"Connection": {"close"}}
		for i := 0; i < len(fields); i += 2 {
			header.Add(fields[i], fields[i+1])
		}
		return status, header, errors.New(reason)
	}
	h := r.Header
	switch {
	case r.Method != http.MethodGet:
		return refuse(http.StatusMethodNotAllowed, "a websocket is opened with GET", "Allow", "GET")
	case r.ProtoMajor != 1 || r.ProtoMinor != 1:
		return refuse(http.StatusBadRequest, "a websocket is opened with HTTP/1.1")
	case len(h["Content-Length"]) > 0 || r.ContentLength != 0 || len(r.TransferEncoding) > 0:
		return refuse(http.StatusBadRequest, "a websocket handshake has no body")
	case !hasToken(h["Upgrade"], "websocket") || !hasToken(h["Connection"], "upgrade"):
		return refuse(http.StatusUpgradeRequired, "this is a websocket endpoint",
			"Connection", "Upgrade", "Upgrade", "websocket")
	case !only(h["Sec-Websocket-Version"], "13"):
		return refuse(http.StatusUpgradeRequired, "unsupported websocket version",
			"Connection", "Upgrade", "Upgrade", "websocket", "Sec-Websocket-Version", "13")
	case !validKey(h["Sec-Websocket-Key"]):
		return refuse(http.StatusBadRequest, "invalid Sec-WebSocket-Key")
	case len(h["Origin"]) > 1:
		return refuse(http.StatusForbidden, "more than one Origin")
	}
	return http.StatusSwitchingProtocols, nil, nil
}

func only(values []string, v string) bool { return len(values) == 1 && values[0] == v }

// hasToken finds a whole token in lists of them, not a part of one.
func hasToken(lists []string, token string) bool {
	for _, list := range lists {
		for t := range strings.SplitSeq(list, ",") {
			if strings.EqualFold(strings.TrimSpace(t), token) {
				return true
			}
		}
	}
	return false
}

func validKey(values []string) bool {
	if len(values) != 1 || len(values[0]) != 24 {
		return false
	}
	var key [18]byte
	n, err := base64.StdEncoding.Strict().Decode(key[:], []byte(values[0]))
	return err == nil && n == 16
}

// Accept takes the connection over from the HTTP server and answers the
// handshake, which must pass CheckUpgrade. Host, Origin and quota are the
// caller's to have judged. An error from CheckUpgrade leaves w usable.
//
// The Conn is independent of r and w. The handler should return and a fresh
// goroutine read: net/http's keeps a large stack and much else alive. The answer
// leaves with the first Send or ReadMessage, in one write with what is sent.
func Accept(w http.ResponseWriter, r *http.Request, o Options) (*Conn, error) {
	if _, _, err := CheckUpgrade(r); err != nil {
		return nil, err
	}
	nc, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return nil, fmt.Errorf("hijack: %w", err)
	}
	c := newConn(nc, false, o)
	// net/http's reader sits on a background reader that panics when two read at
	// once, so only its contents are taken over.
	if n := rw.Reader.Buffered(); n > 0 {
		b, _ := rw.Reader.Peek(n)
		c.early = append([]byte(nil), b...)
	}
	if err := c.upgrade(r.Header.Get("Sec-Websocket-Key")); err != nil {
		nc.Close()
		return nil, err
	}
	return c, nil
}

// openings are the requests x/net is shown: with nothing in them that it could
// dislike or agree to, no subprotocol and no Origin. It keeps a pointer to the
// request for good, without looking at it again, so these are used by turns.
var openings = sync.Pool{New: func() any {
	return &http.Request{
		Method: http.MethodGet,
		URL:    &url.URL{Path: "/"},
		Host:   "localhost",
		Header: http.Header{
			"Upgrade":               {"websocket"},
			"Connection":            {"Upgrade"},
			"Sec-Websocket-Version": {"13"},
			"Sec-Websocket-Key":     {""},
		},
	}
}}

// upgrade lets x/net make the server's half of the handshake.
func (c *Conn) upgrade(key string) error {
	r := openings.Get().(*http.Request)
	defer openings.Put(r)
	r.Header["Sec-Websocket-Key"][0] = key
	var ws *websocket.Conn
	s := websocket.Server{
		Handshake: func(*websocket.Config, *http.Request) error { return nil },
		Handler:   func(conn *websocket.Conn) { ws = conn },
	}
	c.into = c.out.tail(256)
	s.ServeHTTP(hijacked{c}, r)
	if ws == nil {
		return errors.New("websocket handshake was refused")
	}
	c.out.queued = len(c.into.b)
	c.into = nil
	c.start(ws)
	return nil
}

// hijacked hands x/net the gate in place of a transport, and our own buffered
// reader, so that there is no second one.
type hijacked struct{ c *Conn }

func (h hijacked) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	// Only the handshake is written through this writer; it is kept for good.
	w := bufio.NewWriterSize((*gate)(h.c), 16)
	return (*gate)(h.c), bufio.NewReadWriter(h.c.in, w), nil
}

func (h hijacked) Header() http.Header         { return nil }
func (h hijacked) Write(p []byte) (int, error) { return (*gate)(h.c).Write(p) }
func (h hijacked) WriteHeader(int)             {}
