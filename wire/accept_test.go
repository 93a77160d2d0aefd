package wire

import (
	"bufio"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// serveEcho is an HTTP server whose handler returns as soon as the connection is
// accepted, as it should.
func serveEcho(t testing.TB, o Options, secure bool) (s *httptest.Server, conns <-chan *Conn) {
	accepted := make(chan *Conn, 16)
	s = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		status, header, err := CheckUpgrade(r)
		if err != nil {
			for k, v := range header {
				w.Header()[k] = v
			}
			http.Error(w, err.Error(), status)
			return
		}
		c, err := Accept(w, r, o)
		if err != nil {
			t.Error(err)
			return
		}
		go echo(c)
		accepted <- c
	}))
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	if secure {
		s.StartTLS()
	} else {
		s.Start()
	}
	t.Cleanup(s.Close)
	return s, accepted
}

func TestCheckUpgrade(t *testing.T) {
	const good = "GET /path?q HTTP/1.1\nHost: a\nUpgrade: websocket\nConnection: Upgrade\n" +
		"Sec-WebSocket-Version: 13\nSec-WebSocket-Key: " + testKey + "\n"
	swap := func(from, to string) string {
		s := strings.Replace(good, from, to, 1)
		if s == good {
			t.Fatalf("%q is not in the request", from)
		}
		return s
	}
	s, conns := serveEcho(t, Options{}, false)
	for _, test := range []struct {
		name    string
		request string
		status  int
	}{
		{"good", good, 101},
		{"tokens", swap("Connection: Upgrade", "Connection: keep-alive,\t UPGRADE , x"), 101},
		{"two Connection fields", swap("Connection: Upgrade", "Connection: keep-alive\nConnection: upgrade"), 101},
		{"Upgrade list", swap("Upgrade: websocket", "Upgrade: h2c, WebSocket"), 101},
		{"Origin", good + "Origin: null\n", 101},
		{"extensions and subprotocols offered", good + "Sec-WebSocket-Extensions: permessage-deflate\nSec-WebSocket-Protocol: a, b\n", 101},
		{"one subprotocol offered", good + "Sec-WebSocket-Protocol: a\n", 101},
		{"POST", swap("GET", "POST"), 405},
		{"HEAD", swap("GET", "HEAD"), 405},
		{"HTTP/1.0", swap("HTTP/1.1", "HTTP/1.0"), 400},
		{"Content-Length", good + "Content-Length: 4\n\nab", 400}, // and the last line's end
		{"Content-Length 0", good + "Content-Length: 0\n", 400},
		{"Transfer-Encoding", good + "Transfer-Encoding: chunked\n\n0\n", 400},
		{"no Upgrade", swap("Upgrade: websocket\n", ""), 426},
		{"other Upgrade", swap("Upgrade: websocket", "Upgrade: websockets"), 426},
		{"no Connection", swap("Connection: Upgrade\n", ""), 426},
		{"part of a token", swap("Connection: Upgrade", "Connection: not-upgrade"), 426},
		{"no version", swap("Sec-WebSocket-Version: 13\n", ""), 426},
		{"version 8", swap("Version: 13", "Version: 8"), 426},
		{"versions", swap("Version: 13", "Version: 13, 8"), 426},
		{"two versions", good + "Sec-WebSocket-Version: 13\n", 426},
		{"no key", swap("Sec-WebSocket-Key: "+testKey+"\n", ""), 400},
		{"short key", swap(testKey, "dGhlIHNhbXBsZQ=="), 400},
		{"long key", swap(testKey, "dGhlIHNhbXBsZSBub25jZQAA"), 400},
		{"loose key", swap(testKey, "dGhlIHNhbXBsZSBub25jZR=="), 400},
		{"key of other letters", swap(testKey, "!GhlIHNhbXBsZSBub25jZQ=="), 400},
		{"two keys", good + "Sec-WebSocket-Key: " + testKey + "\n", 400},
		{"two Origins", good + "Origin: http://a\nOrigin: http://b\n", 403},
	} {
		t.Run(test.name, func(t *testing.T) {
			nc, err := net.Dial("tcp", s.Listener.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer nc.Close()
			nc.SetDeadline(time.Now().Add(20 * time.Second))
			io.WriteString(nc, strings.ReplaceAll(test.request, "\n", "\r\n")+"\r\n")
			br := bufio.NewReader(nc)
			resp, err := http.ReadResponse(br, &http.Request{Method: strings.Fields(test.request)[0]})
			if err != nil || resp.StatusCode != test.status {
				t.Fatal(resp, err)
			}
			h := resp.Header
			if test.status == 101 {
				if h.Get("Sec-WebSocket-Accept") != "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" || h.Get("Sec-WebSocket-Protocol") != "" ||
					h.Get("Sec-WebSocket-Extensions") != "" || h.Get("Upgrade") != "websocket" {
					t.Error(h)
				}
				nc.Write(maskedFrame(0x88, nil))
				if b, err := io.ReadAll(br); string(b) != "\x88\x00" {
					t.Errorf("%q, %v", b, err)
				}
				nc.Close()
				<-(<-conns).Done()
				return
			}
			if resp.ContentLength <= 0 || !resp.Close {
				t.Errorf("refused with length %d, close %v", resp.ContentLength, resp.Close)
			}
			if test.status == 426 && (h.Get("Upgrade") != "websocket" || strings.Contains(test.name, "version") != (h.Get("Sec-WebSocket-Version") == "13")) {
				t.Error(h)
			}
			if test.status == 405 && h.Get("Allow") != "GET" {
				t.Error(h)
			}
			io.Copy(io.Discard, resp.Body)
			if _, err := br.ReadByte(); err != io.EOF {
				t.Errorf("connection stays open: %v", err)
			}
		})
	}
}

func TestAcceptRefusesWhatCheckUpgradeDoes(t *testing.T) {
	w := httptest.NewRecorder()
	if c, err := Accept(w, httptest.NewRequest("GET", "/", nil), Options{}); c != nil || err == nil || w.Body.Len() > 0 {
		t.Error(c, err)
	}
}

func TestAcceptNeedsAHijacker(t *testing.T) {
	r := httptest.NewRequest("GET", "/", nil)
	r.Header = http.Header{"Upgrade": {"websocket"}, "Connection": {"Upgrade"},
		"Sec-Websocket-Version": {"13"}, "Sec-Websocket-Key": {testKey}}
	if c, err := Accept(httptest.NewRecorder(), r, Options{}); c != nil || err == nil {
		t.Error(c, err)
	}
}

func TestFramesSentWithTheHandshake(t *testing.T) {
	// They are in net/http's buffer when the connection is taken over.
	s, conns := serveEcho(t, Options{}, false)
	nc, err := net.Dial("tcp", s.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	nc.SetDeadline(time.Now().Add(20 * time.Second))
	first, second := string(maskedFrame(0x81, []byte("early"))), string(maskedFrame(0x81, []byte(strings.Repeat("x", 9000))))
	status, br := openRaw(nc, first+second[:5000])
	if status != 101 {
		t.Fatal(status)
	}
	p := &rawPeer{Conn: nc, br: br}
	if got := p.event(); got != "text early" {
		t.Error(got)
	}
	io.WriteString(nc, second[5000:])
	if got := p.event(); len(got) != 9005 {
		t.Error(got)
	}
	nc.Close()
	<-(<-conns).Done()
}

func TestOverTLS(t *testing.T) {
	s, conns := serveEcho(t, Options{MaxMessage: 4 << 20, MaxQueued: 8 << 20}, true)
	c, err := Dial(t.Context(), "wss"+strings.TrimPrefix(s.URL, "https"), DialOptions{
		TLS: s.Client().Transport.(*http.Transport).TLSClientConfig})
	if err != nil {
		t.Fatal(err)
	}
	server := <-conns
	if got := server.nc.(*tls.Conn).ConnectionState().NegotiatedProtocol; got != "http/1.1" {
		t.Errorf("ALPN chose %q", got)
	}
	for _, n := range []int{1, 70000, 3 << 20} {
		text := strings.Repeat("x", n)
		if err := c.Send([]byte(text)); err != nil {
			t.Fatal(err)
		}
		if got, err := c.ReadMessage(); string(got) != text {
			t.Fatalf("%d of %d bytes, %v", len(got), n, err)
		}
	}
	for i := range 100 {
		c.Send(fmt.Append(nil, i))
	}
	for i := range 100 {
		if got, err := c.ReadMessage(); string(got) != fmt.Sprint(i) {
			t.Fatalf("%q, %v", got, err)
		}
	}
	server.Close(CloseGoingAway, "restart")
	if _, err := c.ReadMessage(); err.(*CloseError).Code != CloseGoingAway {
		t.Error(err)
	}
	<-server.Done()
}

func TestUnixSocket(t *testing.T) {
	l, err := net.Listen("unix", t.TempDir()+"/s")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		nc, err := net.Dial("unix", l.Addr().String())
		if err == nil {
			nc.Write(append(maskedFrame(0x81, []byte("x")), maskedFrame(0x88, nil)...))
			io.Copy(io.Discard, nc)
			nc.Close()
		}
	}()
	nc, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	if got := echo(testServerConn(nc, Options{})); got.Code != CloseNoStatus {
		t.Error(got)
	}
}

func TestRequestIsNotKept(t *testing.T) {
	client, c := tcpServerConn(t, Options{})
	defer client.Close()
	if c.ws.Config().Location != nil || c.ws.Config().Header != nil {
		t.Error("x/net keeps its configuration")
	}
	r := c.ws.Request()
	if b, _ := json.Marshal(r.Header); len(r.Header) != 4 || r.Host != "localhost" {
		t.Errorf("x/net keeps %s", b)
	}
}
