package gateway

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"openclaw/wire"
)

// raw sends bytes and returns the status line and the rest of the answer.
func (r *running) raw(request string) string {
	r.t.Helper()
	var c net.Conn
	var err error
	if r.dialer != nil {
		c, err = r.dialer(context.Background(), "", "")
	} else {
		c, err = net.Dial("tcp", r.addr)
	}
	if err != nil {
		r.t.Fatal(err)
	}
	defer c.Close()
	go io.WriteString(c, request)
	c.SetDeadline(time.Now().Add(20 * time.Second))
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return err.Error()
	}
	body, _ := io.ReadAll(resp.Body)
	return resp.Status + "\n" + string(body)
}

const upgradeHead = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"

// TestHost refuses every name that is not ours, on HTTP and upgrades alike:
// a page that rebinds its own name to 127.0.0.1 still sends that name.
func TestHost(t *testing.T) {
	r := start(t, testOptions(t, ""))
	port := itoa(r.port)
	for host, want := range map[string]int{
		"localhost:" + port:              200,
		"LOCALHOST:" + port:              200,
		"127.0.0.1:" + port:              200,
		"[::1]:" + port:                  200,
		"localhost":                      200,
		"evil.example:" + port:           421,
		"127.0.0.1.nip.example:" + port:  421,
		"localhost.:" + port:             421,
		"localhost:1":                    421,
		"localhost:":                     421,
		"[::1%25lo]:" + port:             421,
		"0.0.0.0:" + port:                421,
		"127.0.0.2:" + port:              421,
		"localhost:" + port + ":" + port: 421,
		"user@localhost:" + port:         421,
	} {
		for _, extra := range []string{"", upgradeHead} {
			got := r.raw("GET /healthz HTTP/1.1\r\nHost: " + host + "\r\n" + extra + "\r\n")
			ok := strings.HasPrefix(got, itoa(want)+" ")
			if want == 200 && extra != "" {
				ok = strings.HasPrefix(got, "101 ")
			}
			if strings.HasPrefix(got, "400 ") && want != 200 { // net/http refuses it even earlier
				ok = true
			}
			if !ok {
				t.Errorf("Host %q, upgrade %v: %s", host, extra != "", got)
			}
		}
	}
	for _, head := range []string{
		"GET http://evil.example/healthz HTTP/1.1\r\nHost: localhost:" + port, // the absolute form wins
		"GET /healthz HTTP/1.0",
		"GET /healthz HTTP/1.1\r\nHost: ",
		"GET /healthz HTTP/1.1",
	} {
		got := r.raw(head + "\r\n\r\n")
		if !strings.HasPrefix(got, "421 ") && !strings.HasPrefix(got, "400 ") {
			t.Errorf("%q: %s", head, got)
		}
	}
}

// TestOrigin lets in programs, our own origins and listed ones, and no other page.
func TestOrigin(t *testing.T) {
	r := start(t, testOptions(t, `{gateway:{auth:{token:"`+testToken+`"},controlUi:{allowedOrigins:["https://ui.example"]}}}`))
	own := "http://localhost:" + itoa(r.port)
	for _, tc := range []struct {
		head string
		ok   bool
	}{
		{"", true},
		{"Origin: " + own, true},
		{"Origin: " + strings.ToUpper(own), true},
		{"Origin: http://127.0.0.1:" + itoa(r.port), true},
		{"Origin: https://ui.example", true},
		{"Origin: https://ui.example\r\nSec-Fetch-Site: cross-site", true},
		{"Sec-Fetch-Site: none", true},
		{"Sec-Fetch-Site: same-origin", true},
		{"Origin: https://evil.example", false},
		{"Origin: https://evil.example\r\nX-Forwarded-For: 127.0.0.1", false},
		{"Origin: null", false},
		{"Origin: ", false},
		{"Origin: " + own + ".", false},
		{"Origin: http://localhost", false},
		{"Origin: http://localhost:1", false},
		{"Origin: https://localhost:" + itoa(r.port), false},
		{"Origin: http://127.0.0.1.evil.example:" + itoa(r.port), false},
		{"Origin: http://localhost:" + itoa(r.port) + "@evil.example", false},
		{"Origin: https://ui.example:444", false},
		{"Origin: " + own + "\r\nOrigin: https://evil.example", false},
		{"Sec-Fetch-Site: cross-site", false},
		{"Sec-Fetch-Site: same-site", false},
	} {
		for _, extra := range []string{"", upgradeHead} {
			head := tc.head
			if head != "" {
				head += "\r\n"
			}
			got := r.raw("GET /healthz HTTP/1.1\r\nHost: 127.0.0.1:" + itoa(r.port) + "\r\n" + head + extra + "\r\n")
			want := "403 "
			if tc.ok && extra == "" {
				want = "200 "
			} else if tc.ok {
				want = "101 "
			}
			if !strings.HasPrefix(got, want) {
				t.Errorf("%q, upgrade %v: want %s, got %s", tc.head, extra != "", want, got)
			}
		}
	}
}

func TestCORS(t *testing.T) {
	r := start(t, testOptions(t, `{gateway:{auth:{token:"`+testToken+`"},controlUi:{allowedOrigins:["https://ui.example"]}}}`))
	pre := map[string]string{"Origin": "https://ui.example", "Access-Control-Request-Method": "POST", "Access-Control-Request-Private-Network": "true"}
	status, h, _ := r.do("OPTIONS", "/v1/chat/completions", pre, "")
	if status != 204 || h.Get("Access-Control-Allow-Origin") != "https://ui.example" || h.Get("Access-Control-Allow-Credentials") != "" || h.Get("Access-Control-Allow-Private-Network") != "" {
		t.Errorf("listed: %d %v", status, h)
	}
	pre["Origin"] = "https://evil.example"
	status, h, _ = r.do("OPTIONS", "/v1/chat/completions", pre, "")
	if status != 403 || h.Get("Access-Control-Allow-Origin") != "" {
		t.Errorf("not listed: %d %v", status, h)
	}
	if status, h, _ = r.do("OPTIONS", "/v1/chat/completions", nil, ""); status != 405 || h.Get("Access-Control-Allow-Origin") != "" {
		t.Errorf("no origin: %d %v", status, h)
	}
}

// TestHTTPRefusals holds status, type and headers of what is refused before a handler.
func TestHTTPRefusals(t *testing.T) {
	r := start(t, testOptions(t, `{gateway:{auth:{token:"`+testToken+`"},limits:{maxPayload:65536}}}`))
	auth := bearer(testToken)
	with := func(k, v string) map[string]string {
		return map[string]string{"Authorization": "Bearer " + testToken, k: v}
	}
	for _, tc := range []struct {
		method, path string
		header       map[string]string
		body         string
		status       int
		kind         string
	}{
		{"GET", "/nothing", nil, "", 404, "not_found"},
		{"GET", "/nothing", auth, "", 404, "not_found"},
		{"GET", "/", nil, "", 404, "not_found"},
		{"GET", "/v1//models", auth, "", 404, "not_found"},
		{"GET", "/v1/./models", auth, "", 404, "not_found"},
		{"GET", "/v1/%6dodels/..", auth, "", 404, "not_found"},
		{"GET", "/v1%2fmodels", auth, "", 404, "not_found"},
		{"GET", "/v1/%2e%2e/v1/models", auth, "", 404, "not_found"},
		{"GET", "/v1/models;x", auth, "", 404, "not_found"},
		{"GET", "/v1/models%00", auth, "", 404, "not_found"},
		{"GET", `/v1/models%5cx`, auth, "", 404, "not_found"},
		{"GET", "/v1/models/%ff", auth, "", 404, "not_found"},
		{"GET", "/V1/models", auth, "", 404, "not_found"},
		{"GET", "/v1/models/", auth, "", 404, "not_found"},
		{"GET", "/" + strings.Repeat("x", 3000), auth, "", 404, "not_found"},
		{"GET", "/v1/chat/completions", nil, "", 405, "invalid_request_error"},
		{"TRACE", "/v1/models", nil, "", 405, "invalid_request_error"},
		{"HEAD", "/v1/models", nil, "", 405, ""},
		{"POST", "/healthz", nil, "", 405, "invalid_request_error"},
		{"GET", "/v1/models", nil, "", 401, "unauthorized"},
		{"GET", "/v1/models", bearer("wrong"), "", 401, "unauthorized"},
		{"GET", "/v1/models", map[string]string{"Authorization": "Basic " + testToken}, "", 401, "unauthorized"},
		{"GET", "/v1/models", map[string]string{"Authorization": testToken}, "", 401, "unauthorized"},
		{"GET", "/v1/models", map[string]string{"x-openclaw-token": testToken}, "", 401, "unauthorized"},
		{"GET", "/v1/models?token=" + testToken, nil, "", 400, "invalid_request_error"},
		{"GET", "/healthz?TOKEN=x", nil, "", 400, "invalid_request_error"},
		{"GET", "/healthz?a=b&%74oken=x", nil, "", 400, "invalid_request_error"},
		{"POST", "/v1/chat/completions", with("Content-Encoding", "gzip"), "{}", 415, "invalid_request_error"},
		{"POST", "/v1/chat/completions", auth, strings.Repeat(" ", 65537), 413, "invalid_request_error"},
		{"GET", "/v1/models", auth, "x", 413, "invalid_request_error"},
		{"GET", "/v1/models", auth, "", 200, ""},
		{"GET", "/v1/models", map[string]string{"Authorization": "bEARER " + testToken}, "", 200, ""},
	} {
		status, h, body := r.do(tc.method, tc.path, tc.header, tc.body)
		if status != tc.status || tc.kind != "" && (!strings.Contains(body, `"type":"`+tc.kind+`"`) || !strings.HasPrefix(h.Get("Content-Type"), "application/json")) {
			t.Errorf("%s %.60s %v: %d %s", tc.method, tc.path, tc.header, status, body)
		}
		for _, name := range []string{"X-Content-Type-Options", "Referrer-Policy", "Content-Security-Policy", "Cross-Origin-Resource-Policy", "Cache-Control"} {
			if h.Get(name) == "" {
				t.Errorf("%s %.60s: no %s", tc.method, tc.path, name)
			}
		}
		if status == 405 && h.Get("Allow") == "" {
			t.Errorf("%s %.60s: no Allow", tc.method, tc.path)
		}
	}
	if strings.Contains(r.stderr.String(), testToken) {
		t.Error("the token is in the log")
	}
	two := "GET /v1/models HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer " + testToken + "\r\nAuthorization: Bearer x\r\n\r\n"
	if got := r.raw(two); !strings.HasPrefix(got, "400 ") {
		t.Errorf("two credentials: %s", got)
	}
	chunked := "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer " + testToken + "\r\nTransfer-Encoding: chunked\r\n\r\n11000\r\n" + strings.Repeat(" ", 0x11000) + "\r\n0\r\n\r\n"
	if got := r.raw(chunked); !strings.HasPrefix(got, "413 ") {
		t.Errorf("chunked and too large: %s", got)
	}
	for _, head := range []string{"Authorization: Bearer " + testToken, "Connection: upgrade"} {
		got := r.raw("GET /?x HTTP/1.1\r\nHost: localhost\r\n" + upgradeHead + head + "\r\n\r\n")
		if want := map[bool]string{true: "400 ", false: "101 "}[strings.HasPrefix(head, "Auth")]; !strings.HasPrefix(got, want) {
			t.Errorf("upgrade with %s: %s", head, got)
		}
	}
}

func TestProbes(t *testing.T) {
	r := start(t, testOptions(t, ""))
	for path, want := range map[string][2]string{
		"/healthz":  {liveBody, liveBody},
		"/health":   {liveBody, liveBody},
		"/readyz":   {`{"ready":true}`, `{"failing":[],"ready":true,"uptimeMs":`},
		"/ready":    {`{"ready":true}`, `"uptimeMs":`},
		"/startupz": {`{"ok":true,"status":"started"}`, `"version":"1.2.3-test"`},
	} {
		if status, h, body := r.do("GET", path, nil, ""); status != 200 || body != want[0] || h.Get("Cache-Control") != "no-store" {
			t.Errorf("%s: %d %s", path, status, body)
		}
		if status, _, body := r.do("GET", path, bearer(testToken), ""); status != 200 || !strings.Contains(body, want[1]) {
			t.Errorf("%s with token: %d %s", path, status, body)
		}
		if status, _, body := r.do("HEAD", path, nil, ""); status != 200 || body != "" {
			t.Errorf("HEAD %s: %d %q", path, status, body)
		}
	}
	if !probe(r.addr) {
		t.Error("a healthy gateway is not recognised")
	}
}

// TestSlowClients closes whoever drips bytes, wherever in a request, while the
// others are served.
func TestSlowClients(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newPipeListener()
		o := testOptions(t, "")
		o.listen = func(int) ([]net.Listener, error) { return []net.Listener{l}, nil }
		r := start(t, o)
		r.dialer = l.dial
		ended := make(chan string, 10)
		for name, begin := range map[string]string{
			"request line": "GET /hea",
			"header":       "GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-A: ",
			"refused body": "POST /nowhere HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n{",
			"body":         "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\nAuthorization: Bearer " + testToken + "\r\n\r\n{",
			"frame":        "GET / HTTP/1.1\r\nHost: localhost\r\n" + upgradeHead + "\r\n\x81\xfe\x10\x00mask",
		} {
			c, err := l.dial(context.Background(), "", "")
			if err != nil {
				t.Fatal(err)
			}
			go io.Copy(io.Discard, c)
			go func() {
				defer c.Close()
				io.WriteString(c, begin)
				for {
					time.Sleep(5 * time.Second) // the bubble's clock
					if _, err := c.Write([]byte("a")); err != nil {
						ended <- name
						return
					}
				}
			}()
		}
		at := time.Now()
		if status, _, _ := r.do("GET", "/healthz", nil, ""); status != 200 {
			t.Errorf("a good client got %d", status)
		}
		for range 5 {
			name := <-ended
			if took := time.Since(at); took > 20*time.Second {
				t.Errorf("%s: closed after %v", name, took)
			}
		}
	})
}

// TestPending bounds connections that have not authenticated, in all and per address.
func TestPending(t *testing.T) {
	r := start(t, testOptions(t, ""))
	var held []*wire.Conn
	for range pendingPerKey {
		c := r.dial()
		r.until(c, "challenge")
		held = append(held, c)
	}
	late := r.dial() // the oldest makes room for one more
	r.until(late, "challenge")
	r.closed(held[0])
	if n := r.pendingCount(); n != pendingPerKey {
		t.Errorf("%d places are taken", n)
	}
	held[1].Close(1000, "")
	r.closed(held[1])
	for r.pendingCount() >= pendingPerKey {
		r.do("GET", "/healthz", nil, "")
	}
	c := r.connect() // authenticated ones do not count
	for range 40 {
		r.connect()
	}
	r.call(c, "health", "{}")
}

func (r *running) pendingCount() int {
	r.hub.mu.Lock()
	defer r.hub.mu.Unlock()
	return len(r.hub.upgraded)
}

func TestMaxConnections(t *testing.T) {
	r := start(t, testOptions(t, `{gateway:{auth:{token:"`+testToken+`"},limits:{maxConnections:2}}}`))
	a := r.connect()
	r.connect()
	c := r.dial()
	r.send(c, `{"type":"req","id":"c","method":"connect","params":{"auth":{"token":"`+testToken+`"}}}`)
	if msg := r.until(c, `"id":"c"`); !strings.Contains(msg, `"UNAVAILABLE"`) || !strings.Contains(msg, `"retryable":true`) {
		t.Errorf("third: %s", msg)
	}
	if ce := r.closed(c); ce.Code != wire.CloseTryLater {
		t.Errorf("closed with %v", ce)
	}
	a.Close(1000, "")
	r.closed(a)
	r.call(r.connectOrRetry(), "health", "{}") // its place is free once the gateway is through with it
}

// connectOrRetry connects as soon as there is room.
func (r *running) connectOrRetry() *wire.Conn {
	for {
		c := r.dial()
		r.send(c, `{"type":"req","id":"c","method":"connect","params":{"auth":{"token":"`+testToken+`"}}}`)
		if msg := r.until(c, `"id":"c"`); strings.Contains(msg, `"ok":true`) {
			return c
		}
		c.Close(1000, "")
	}
}

func TestFirstFrameLimit(t *testing.T) {
	r := start(t, testOptions(t, ""))
	c := r.dial()
	go c.Send([]byte(`{"type":"req","id":"c","method":"connect","params":{"x":"` + strings.Repeat("x", preAuthLimit) + `"}}`))
	if ce := r.closed(c); ce.Code != wire.CloseTooBig {
		t.Errorf("closed with %v", ce)
	}
	c = r.connect()
	if msg := r.call(c, "sessions.resolve", `{"key":"`+strings.Repeat("x", 2*preAuthLimit)+`"}`); !strings.Contains(msg, "INVALID_REQUEST") {
		t.Errorf("after connect: %.200s", msg)
	}
}

// TestForwarded believes forwarding headers of listed proxies only, and nobody
// behind any proxy is local.
func TestForwarded(t *testing.T) {
	v := served{proxies: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("127.0.0.9/32")}}
	for _, tc := range []struct {
		remote string
		header http.Header
		addr   string
		key    string
		local  bool
	}{
		{"127.0.0.1:1", nil, "127.0.0.1", "127.0.0.1", true},
		{"[::1]:1", nil, "::1", "127.0.0.1", true},
		{"[::ffff:1.2.3.4]:1", nil, "1.2.3.4", "1.2.3.4", false},
		{"1.2.3.4:1", nil, "1.2.3.4", "1.2.3.4", false},
		{"[2001:db8:1:2:3:4:5:6]:1", nil, "2001:db8:1:2:3:4:5:6", "2001:db8:1:2::", false},
		{"[fe80::1%25eth0]:1", nil, "fe80::1", "fe80::", false},
		{"127.0.0.1:1", http.Header{"X-Forwarded-For": {"127.0.0.1"}}, "127.0.0.1", "invalid IP", false},
		{"127.0.0.1:1", http.Header{"Forwarded": {"for=1.1.1.1"}}, "127.0.0.1", "invalid IP", false},
		{"1.2.3.4:1", http.Header{"X-Forwarded-For": {"127.0.0.1"}}, "1.2.3.4", "1.2.3.4", false},
		{"10.1.1.1:1", http.Header{"X-Forwarded-For": {"127.0.0.1, 5.6.7.8, 10.2.2.2"}}, "5.6.7.8", "5.6.7.8", false},
		{"127.0.0.9:1", http.Header{"X-Forwarded-For": {"9.9.9.9", "127.0.0.1"}}, "127.0.0.1", "127.0.0.1", false},
		{"10.1.1.1:1", http.Header{"X-Forwarded-For": {"garbage"}}, "10.1.1.1", "invalid IP", false},
		{"10.1.1.1:1", http.Header{"X-Forwarded-For": {strings.Repeat("10.0.0.1,", 1000)}}, "10.1.1.1", "invalid IP", false},
		{"10.1.1.1:1", http.Header{"Via": {"x"}}, "10.1.1.1", "invalid IP", false},
	} {
		got := v.from(&http.Request{RemoteAddr: tc.remote, Header: tc.header})
		if got.addr.String() != tc.addr || got.key.String() != tc.key || got.local != tc.local {
			t.Errorf("%s %v: %v", tc.remote, tc.header, got)
		}
	}
}

// TestPanicHTTP contains a handler's panic: that request fails, others go on.
func TestPanicHTTP(t *testing.T) {
	o := testOptions(t, "")
	r := start(t, o)
	r.routes = append(r.routes, route{methods: "GET", pattern: "/panic", handler: func(*Gateway, http.ResponseWriter, *http.Request, principal) { panic("boom") }})
	status, _, body := r.do("GET", "/panic", nil, "")
	if status != 500 || !strings.Contains(body, "internal error") || strings.Contains(body, "boom") {
		t.Errorf("%d %s", status, body)
	}
	if n := strings.Count(r.stderr.String(), "panic contained"); n != 1 {
		t.Errorf("logged %d times", n)
	}
	if status, _, _ := r.do("GET", "/healthz", nil, ""); status != 200 {
		t.Error("dead")
	}
}

type fakeConn struct {
	net.Conn
	closed bool
}

func (c *fakeConn) Close() error { c.closed = true; return nil }

// TestHTTPConnections makes room for a new connection by closing one on which
// nothing goes on, and refuses it when all are busy.
func TestHTTPConnections(t *testing.T) {
	c := conns{parked: map[net.Conn]bool{}}
	all := make([]*fakeConn, maxHTTP)
	for i := range all {
		all[i] = &fakeConn{}
		c.state(all[i], http.StateNew)
		if i > 0 {
			c.state(all[i], http.StateActive)
		}
	}
	next := &fakeConn{}
	c.state(next, http.StateNew)
	if !all[0].closed || next.closed {
		t.Errorf("idle closed %v, new closed %v", all[0].closed, next.closed)
	}
	c.state(all[0], http.StateClosed)
	c.state(next, http.StateActive)
	last := &fakeConn{}
	c.state(last, http.StateNew)
	if !last.closed {
		t.Error("taken although all are busy")
	}
	for _, x := range append(all[1:], next, last) {
		if x != last && x.closed {
			t.Fatal("a busy one was closed")
		}
		c.state(x, http.StateClosed)
	}
	if c.total != 0 || len(c.parked) != 0 {
		t.Errorf("%d counted, %d parked", c.total, len(c.parked))
	}
}
