package gateway

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"openclaw/gateway/metric"
	"openclaw/wire"
)

// withMethod adds a method before any client connects.
func (r *running) withMethod(m method) {
	m.work = new(metric.Work)
	r.methods[m.name] = &m
}

func TestPanicContained(t *testing.T) {
	r := start(t, testOptions(t, ""))
	for _, opts := range [][]methodOption{nil, {inline}} {
		r.withMethod(rpc("test.panic", wire.ScopeNone, "", func(*Gateway, context.Context, *peer, *wire.Empty) (*wire.OK, error) {
			panic("boom")
		}, opts...))
		c := r.connect()
		msg := r.call(c, "test.panic", "{}")
		if !strings.Contains(msg, `"UNAVAILABLE"`) || strings.Contains(msg, "boom") {
			t.Errorf("answer: %s", msg)
		}
		if msg := r.call(c, "health", "{}"); !strings.Contains(msg, `"ok":true`) {
			t.Errorf("afterwards: %s", msg)
		}
	}
	if log := r.stderr.String(); strings.Count(log, "panic contained") != 2 || !strings.Contains(log, "peer_test.go") {
		t.Errorf("log: %s", log)
	}
}

// TestErrors gives an unknown cause an id and keeps the cause in the log.
func TestErrors(t *testing.T) {
	r := start(t, testOptions(t, ""))
	r.withMethod(rpc("test.fail", wire.ScopeNone, "", func(*Gateway, context.Context, *peer, *wire.Empty) (*wire.OK, error) {
		return nil, errors.New("open /secret/path: too bad")
	}))
	msg := r.call(r.connect(), "test.fail", "{}")
	if strings.Contains(msg, "secret") || !strings.Contains(msg, "internal error (request ") {
		t.Errorf("answer: %s", msg)
	}
	id := msg[strings.Index(msg, "(request ")+9:]
	id = id[:strings.IndexByte(id, ')')]
	if log := r.stderr.String(); !strings.Contains(log, id) || !strings.Contains(log, "too bad") {
		t.Errorf("log: %s", log)
	}
}

func TestScopes(t *testing.T) {
	r := start(t, testOptions(t, ""))
	r.withMethod(rpc("test.demote", wire.ScopeAdmin, "", func(_ *Gateway, _ context.Context, p *peer, _ *wire.Empty) (*wire.OK, error) {
		p.scopes = wire.Scopes{wire.ScopeRead} // on the reader, which alone looks at them for requests
		return &wire.OK{OK: true}, nil
	}, inline))
	c := r.connect()
	r.until(c, `"presence"`) // the hub, which looks at them too, is through
	r.call(c, "test.demote", "{}")
	if msg := r.call(c, "agents.list", "{}"); !strings.Contains(msg, `"ok":true`) {
		t.Error(msg)
	}
	if msg := r.call(c, "sessions.reset", `{"key":"main"}`); !strings.Contains(msg, `"FORBIDDEN"`) || !strings.Contains(msg, "missing scope: operator.admin") {
		t.Error(msg)
	}
}

// TestInFlight bounds the requests of one connection; its cheap ones and other
// connections go on.
func TestInFlight(t *testing.T) {
	r := start(t, testOptions(t, `{gateway:{auth:{token:"`+testToken+`"},limits:{maxInFlight:3}}}`))
	release := make(chan struct{})
	r.withMethod(rpc("test.wait", wire.ScopeNone, "", func(_ *Gateway, ctx context.Context, _ *peer, _ *wire.Empty) (*wire.OK, error) {
		select {
		case <-release:
			return &wire.OK{OK: true}, nil
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}))
	c := r.connect()
	for range 3 {
		r.send(c, `{"type":"req","id":"w","method":"test.wait"}`)
	}
	if msg := r.call(c, "test.wait", "{}"); !strings.Contains(msg, "too many requests in flight") || !strings.Contains(msg, `"retryable":true`) {
		t.Error(msg)
	}
	if msg := r.call(c, "health", "{}"); !strings.Contains(msg, `"ok":true`) {
		t.Error(msg)
	}
	close(release)
	for range 3 {
		if msg := r.until(c, `"id":"w"`); !strings.Contains(msg, `"ok":true`) {
			t.Error(msg)
		}
	}
}

// TestGoneClient ends the context of a request when its connection ends.
func TestGoneClient(t *testing.T) {
	r := start(t, testOptions(t, ""))
	entered, ended := make(chan struct{}), make(chan error, 1)
	r.withMethod(rpc("test.wait", wire.ScopeNone, "", func(_ *Gateway, ctx context.Context, _ *peer, _ *wire.Empty) (*wire.OK, error) {
		close(entered)
		<-ctx.Done()
		ended <- context.Cause(ctx)
		return nil, nil
	}))
	c := r.connect()
	r.send(c, `{"type":"req","id":"w","method":"test.wait"}`)
	<-entered
	c.Close(1000, "")
	if err := <-ended; !errors.Is(err, errGone) {
		t.Errorf("cause: %v", err)
	}
}

// TestStaged answers twice with one id.
func TestStaged(t *testing.T) {
	r := start(t, testOptions(t, ""))
	r.withMethod(staged("test.staged", wire.ScopeNone, "", func(_ *Gateway, _ context.Context, _ *peer, _ *wire.Empty, ack func(any)) (*wire.AgentFinal, error) {
		ack(wire.AgentAck{Status: "accepted"})
		return &wire.AgentFinal{Status: "error", Summary: "no"}, wire.Unavailable("no")
	}))
	c := r.connect()
	if msg := r.call(c, "test.staged", "{}"); !strings.Contains(msg, `"ok":true`) || !strings.Contains(msg, `"accepted"`) {
		t.Error(msg)
	}
	if msg := r.until(c, `"id":"r"`); !strings.Contains(msg, `"ok":false,"payload":{`) || !strings.Contains(msg, `"error":{"code":"UNAVAILABLE"`) {
		t.Error(msg)
	}
}

// TestSlowConsumer closes the one that does not read and nobody else.
func TestSlowConsumer(t *testing.T) {
	r := start(t, testOptions(t, `{gateway:{auth:{token:"`+testToken+`"},limits:{maxBufferedBytes:65536}}}`))
	good, lazy := r.connect(), r.connect()
	text := strings.Repeat("x", 60<<10)
	for range 300 { // more than the kernel holds for a connection
		emit(r.hub, evChat(), wire.ChatEvent{RunID: "r", ErrorMessage: text})
		if msg, err := good.ReadMessage(); err != nil {
			t.Fatalf("the good one: %v after %.40s", err, msg)
		}
	}
	if ce := r.closed(lazy); ce.Code != wire.ClosePolicy && ce.Code != wire.CloseAbnormal {
		t.Errorf("the lazy one: %v", ce)
	}
}

// TestShutdownWaits lets a request that runs finish, refuses new work
// meanwhile, and gives the answer before it closes.
func TestShutdownWaits(t *testing.T) {
	r := start(t, testOptions(t, ""))
	entered, release := make(chan struct{}), make(chan struct{})
	r.withMethod(rpc("test.wait", wire.ScopeNone, "", func(_ *Gateway, ctx context.Context, _ *peer, _ *wire.Empty) (*wire.OK, error) {
		close(entered)
		<-ctx.Done()
		<-release
		return &wire.OK{OK: true}, nil
	}))
	c := r.connect()
	r.send(c, `{"type":"req","id":"w","method":"test.wait"}`)
	<-entered
	r.stop(Signal{"SIGTERM"})
	if msg := r.until(c, "shutdown"); !strings.Contains(msg, `"payload":{"reason":"SIGTERM received","gracePeriodMs":30000}`) {
		t.Error(msg)
	}
	close(release)
	if msg := r.until(c, `"id":"w"`); !strings.Contains(msg, `"ok":true`) {
		t.Error(msg)
	}
	if ce := r.closed(c); ce.Code != wire.CloseGoingAway {
		t.Error(ce)
	}
	if err := r.wait(); err != nil {
		t.Error(err)
	}
}

// TestDraining refuses newcomers with when to come back, and says so on /readyz.
func TestDraining(t *testing.T) {
	r := start(t, testOptions(t, ""))
	r.stopping.Store(true)
	c := r.dial()
	r.send(c, `{"type":"req","id":"c","method":"connect","params":{"auth":{"token":"`+testToken+`"}}}`)
	if msg := r.until(c, `"id":"c"`); !strings.Contains(msg, `"UNAVAILABLE"`) || !strings.Contains(msg, `"retryAfterMs":`) {
		t.Error(msg)
	}
	if ce := r.closed(c); ce.Code != wire.CloseTryLater {
		t.Error(ce)
	}
	if status, _, body := r.do("GET", "/readyz", nil, ""); status != 503 || body != `{"ready":false}` {
		t.Error(status, body)
	}
	if _, _, body := r.do("GET", "/readyz", bearer(testToken), ""); !strings.Contains(body, `"failing":["draining"]`) {
		t.Error(body)
	}
	if status, _, _ := r.do("GET", "/healthz", nil, ""); status != 200 {
		t.Error("not live")
	}
}

func TestIdempotency(t *testing.T) {
	i := newIdempotency()
	n := 0
	once := func() (any, error) { n++; return n, nil }
	if v, err, again := i.do("a", "m", "k", []byte("1"), once); v != 1 || err != nil || again {
		t.Error(v, err, again)
	}
	if v, err, again := i.do("a", "m", "k", []byte("1"), once); v != 1 || err != nil || !again {
		t.Error("repeated:", v, err, again)
	}
	if _, err, _ := i.do("a", "m", "k", []byte("2"), once); err == nil || n != 1 {
		t.Error("other params were taken")
	}
	if v, _, _ := i.do("b", "m", "k", []byte("1"), once); v != 2 {
		t.Error("another principal's answer:", v)
	}
	if v, _, _ := i.do("a", "m", "", nil, once); v != 3 {
		t.Error("without a key:", v)
	}
	fail := func() (any, error) { return nil, wire.Unavailable("later") }
	i.do("a", "m", "f", nil, fail)
	if v, err, again := i.do("a", "m", "f", nil, once); v != 4 || err != nil || again {
		t.Error("a retryable failure was remembered:", v, err, again)
	}
	for k := range 3 * idempotencyMax {
		i.do("a", "m", itoa(k), nil, once)
	}
	if len(i.calls) > idempotencyMax || len(i.order) != len(i.calls) {
		t.Errorf("%d remembered", len(i.calls))
	}
}

// TestIdempotencyJoins makes a repeated request wait for the first one.
func TestIdempotencyJoins(t *testing.T) {
	i := newIdempotency()
	entered, release := make(chan struct{}), make(chan struct{})
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			v, err, _ := i.do("a", "m", "k", nil, func() (any, error) {
				close(entered) // panics when it runs twice
				<-release
				return "once", nil
			})
			if v != "once" || err != nil {
				t.Error(v, err)
			}
		})
	}
	<-entered
	close(release)
	wg.Wait()
	func() {
		defer func() { recover() }()
		i.do("a", "m", "p", nil, func() (any, error) { panic("x") })
	}()
	done := make(chan struct{})
	go func() { i.do("a", "m", "p", nil, func() (any, error) { return 1, nil }); close(done) }()
	select {
	case <-done:
	case <-time.After(time.Minute):
		t.Error("a panic blocks its key for ever")
	}
}
