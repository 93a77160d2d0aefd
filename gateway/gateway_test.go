package gateway

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"openclaw/gateway/store"
	"openclaw/reload"
	"openclaw/reload/config"
	"openclaw/wire"
)

const testToken = "b3d1f0c29a7e48c6a5d4e3f2019b8c7d6e5f4a3b2c1d0e9f"

// pipeListener carries connections over net.Pipe, so that a whole gateway and
// its clients fit in a synctest bubble.
type pipeListener struct {
	conns chan net.Conn
	once  sync.Once
	done  chan struct{}
}

func newPipeListener() *pipeListener {
	return &pipeListener{conns: make(chan net.Conn), done: make(chan struct{})}
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error {
	l.once.Do(func() { close(l.done) })
	return nil
}

func (l *pipeListener) Addr() net.Addr { return pipeAddr{} }

// pipeConn comes from this host, as the gateway sees it.
type pipeConn struct{ net.Conn }

func (pipeConn) RemoteAddr() net.Addr { return pipeAddr{} }

type pipeAddr struct{}

func (pipeAddr) Network() string { return "pipe" }
func (pipeAddr) String() string  { return "127.0.0.1:18789" }

func (l *pipeListener) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	mine, theirs := net.Pipe()
	select {
	case l.conns <- pipeConn{theirs}:
		return mine, nil
	case <-l.done:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// syncBuffer collects what a gateway writes to stderr.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// running is a whole gateway under test.
type running struct {
	*Gateway
	t      testing.TB
	addr   string
	dialer func(ctx context.Context, network, addr string) (net.Conn, error)
	stderr *syncBuffer
	stop   context.CancelCauseFunc
	asks   chan Request
	next   chan *Gateway // that took over, in their order
	done   chan error
	conns  []*wire.Conn // closed at the end, so that no goodbye waits for an answer
}

// testOptions are those of a gateway on loopback with a configuration text.
func testOptions(t testing.TB, text string) Options {
	t.Helper()
	if text == "" {
		text = `{gateway:{auth:{token:"` + testToken + `"}}}`
	}
	dir := t.TempDir()
	state := filepath.Join(dir, "state")
	paths := config.Paths{StateDir: state, ConfigPath: filepath.Join(dir, "openclaw.json"), Workspace: filepath.Join(state, "workspace")}
	if err := os.WriteFile(paths.ConfigPath, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return Options{
		Paths:   paths,
		Stderr:  &syncBuffer{},
		Version: "1.2.3-test",
		listen: func(int) ([]net.Listener, error) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			return []net.Listener{l}, err
		},
		watch: func(w reload.Options) watcher { return handWatcher{w.Look} }, // the kernel's has no fake clock
	}
}

// handWatcher is a watcher that looks when a test says so.
type handWatcher struct{ look func() }

func (handWatcher) Run(ctx context.Context) error {
	<-ctx.Done()
	return nil
}

func (handWatcher) Method() string { return "hand" }

// start runs a gateway until the test ends.
func start(t testing.TB, o Options) *running {
	t.Helper()
	ready, asks := make(chan string, 1), make(chan Request)
	o.Ready, o.Requests = func(addr string) { ready <- addr }, asks
	g, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancelCause(context.Background())
	r := &running{Gateway: g, t: t, stderr: o.Stderr.(*syncBuffer), stop: stop, asks: asks, next: make(chan *Gateway, 8), done: make(chan error, 1)}
	go func() {
		g, err := g.Run(ctx)
		for ; err == nil && g != nil; g, err = g.Run(ctx) {
			r.next <- g
		}
		r.done <- err
	}()
	select {
	case r.addr = <-ready:
	case err := <-r.done:
		t.Fatalf("Run: %v", err)
	}
	t.Cleanup(func() {
		for _, c := range r.conns {
			c.Close(wire.CloseNormal, "")
		}
		stop(Signal{"SIGTERM"})
		r.wait()
		if t.Failed() {
			t.Log(r.stderr)
		}
	})
	return r
}

// wait returns what Run returned, also a second time.
func (r *running) wait() error {
	err := <-r.done
	r.done <- err
	return err
}

func (r *running) dial() *wire.Conn {
	r.t.Helper()
	c, err := r.tryDial(wire.DialOptions{})
	if err != nil {
		r.t.Fatal(err)
	}
	r.conns = append(r.conns, c)
	return c
}

func (r *running) tryDial(o wire.DialOptions) (*wire.Conn, error) {
	if r.dialer != nil {
		o.DialContext = r.dialer
	}
	return wire.Dial(context.Background(), "ws://"+r.addr+"/", o)
}

// connect returns a connection past its hello.
func (r *running) connect() *wire.Conn {
	r.t.Helper()
	c := r.dial()
	r.send(c, `{"type":"req","id":"c","method":"connect","params":{"auth":{"token":"`+testToken+`"}}}`)
	r.until(c, `"id":"c","ok":true`)
	return c
}

func (r *running) send(c *wire.Conn, msg string) {
	r.t.Helper()
	if err := c.Send([]byte(msg)); err != nil {
		r.t.Fatal(err)
	}
	c.Flush()
}

// until reads messages until one contains the words.
func (r *running) until(c *wire.Conn, words string) string {
	r.t.Helper()
	for {
		msg, err := c.ReadMessage()
		if err != nil {
			r.t.Fatalf("waiting for %s: %v", words, err)
		}
		if strings.Contains(string(msg), words) {
			return string(msg)
		}
	}
}

// closed reads until the end and returns how it came.
func (r *running) closed(c *wire.Conn) *wire.CloseError {
	r.t.Helper()
	for {
		_, err := c.ReadMessage()
		var ce *wire.CloseError
		if errors.As(err, &ce) {
			return ce
		}
	}
}

// call makes one request and returns the whole response.
func (r *running) call(c *wire.Conn, method, params string) string {
	r.t.Helper()
	r.send(c, `{"type":"req","id":"r","method":"`+method+`","params":`+params+`}`)
	return r.until(c, `"id":"r"`)
}

// get makes an HTTP request.
func (r *running) do(method, path string, header map[string]string, body string) (int, http.Header, string) {
	r.t.Helper()
	req, err := http.NewRequest(method, "http://"+r.addr+path, strings.NewReader(body))
	if err != nil {
		r.t.Fatal(err)
	}
	for k, v := range header {
		if k == "Host" {
			req.Host = v
		} else {
			req.Header.Set(k, v)
		}
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: r.dialer}}
	resp, err := client.Do(req)
	if err != nil {
		r.t.Fatal(err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	return resp.StatusCode, resp.Header, string(raw)
}

func bearer(secret string) map[string]string {
	return map[string]string{"Authorization": "Bearer " + secret}
}

func exitCode(err error) int {
	var e *ExitError
	if errors.As(err, &e) {
		return e.Code
	}
	return -1
}

func TestStartPublishesAndStops(t *testing.T) {
	o := testOptions(t, "")
	r := start(t, o)
	i, held, err := store.ReadInstance(o.Paths.StateDir)
	if err != nil || !held || i.PID != os.Getpid() || i.Addr != r.addr || i.Version != "1.2.3-test" || len(i.CLIKey) != 64 {
		t.Fatalf("instance %+v, held %v, err %v", i, held, err)
	}
	if !strings.Contains(r.stderr.String(), "listening on ws://"+r.addr+" (PID ") {
		t.Errorf("stderr: %s", r.stderr)
	}
	at := time.Now()
	r.stop(Signal{"SIGINT"})
	if err := r.wait(); err != nil {
		t.Fatalf("Run: %v", err)
	}
	t.Logf("stopped in %v", time.Since(at))
	if _, held, _ := store.ReadInstance(o.Paths.StateDir); held {
		t.Error("the lock is still held")
	}
	if c, err := net.Dial("tcp", r.addr); err == nil {
		c.Close()
		t.Error("still listening")
	}
}

func TestRestart(t *testing.T) {
	r := start(t, testOptions(t, ""))
	c := r.connect()
	r.asks <- Request{Source: "SIGUSR1", Restart: true}
	msg := r.until(c, `"shutdown"`)
	if !strings.Contains(msg, `"reason":"SIGUSR1 received"`) || !strings.Contains(msg, `"restartExpectedMs":1500`) {
		t.Errorf("shutdown event: %s", msg)
	}
	if ce := r.closed(c); ce.Code != wire.CloseRestart {
		t.Errorf("closed with %v", ce)
	}
	select {
	case g := <-r.next:
		r.addr = g.dialAddr()
	case err := <-r.done:
		t.Fatalf("Run: %v", err)
	}
	r.connect()
}

func TestUnusableConfiguration(t *testing.T) {
	for name, tc := range map[string]struct {
		edit func(*Options)
		want string
	}{
		"no file":   {func(o *Options) { os.Remove(o.Paths.ConfigPath) }, "run `openclaw setup`"},
		"no secret": {func(o *Options) { write(o, `{}`) }, "gateway.auth.token is not set"},
		"bad file":  {func(o *Options) { write(o, `{gateway:{prot:1}}`) }, "gateway.prot"},
		"bad port":  {func(o *Options) { o.PortOverride = 65500 }, "65500"},
		"loose state": {func(o *Options) {
			os.Mkdir(o.Paths.StateDir, 0o755)
			os.Chmod(o.Paths.StateDir, 0o755)
		}, "chmod 700"},
	} {
		t.Run(name, func(t *testing.T) {
			o := testOptions(t, "")
			tc.edit(&o)
			g, err := New(o)
			if err == nil {
				g.releaseTo(nil)
			}
			if exitCode(err) != 78 || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("exit %d: %v", exitCode(err), err)
			}
		})
	}
}

// write puts a text into the configuration file.
func write(o *Options, text string) {
	if err := os.WriteFile(o.Paths.ConfigPath, []byte(text), 0o600); err != nil {
		panic(err)
	}
}

// TestAllowUnconfigured starts on defaults, with a token that stays the same.
func TestAllowUnconfigured(t *testing.T) {
	o := testOptions(t, "")
	os.Remove(o.Paths.ConfigPath)
	o.AllowUnconfigured = true
	var tokens []string
	for range 2 {
		o.Stderr = &syncBuffer{}
		r := start(t, o)
		name := filepath.Join(o.Paths.StateDir, tokenName)
		raw, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if fi, _ := os.Stat(name); fi.Mode().Perm() != 0o600 {
			t.Errorf("mode %v", fi.Mode())
		}
		tokens = append(tokens, string(raw))
		if status, _, body := r.do("GET", "/v1/models", bearer(string(raw)), ""); status != 200 {
			t.Errorf("%d %s", status, body)
		}
		r.stop(Signal{"SIGTERM"})
		r.wait()
	}
	if tokens[0] != tokens[1] || len(tokens[0]) != 64 {
		t.Errorf("tokens %q", tokens)
	}
}

// TestTwoGateways refuses a second gateway on one state directory, naming the first.
func TestTwoGateways(t *testing.T) {
	o := testOptions(t, "")
	r := start(t, o)
	_, err := New(o)
	if exitCode(err) != 78 || !strings.Contains(err.Error(), "pid "+itoa(os.Getpid())) || !strings.Contains(err.Error(), "port "+itoa(r.port)) {
		t.Errorf("exit %d: %v", exitCode(err), err)
	}
}

func itoa(n int) string { return strconv.Itoa(n) }
