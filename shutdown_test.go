package main

import (
	"bufio"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"openclaw/wire"
)

// holdingProvider says one word of its answer and the rest when it is let go.
// Each request is told on asked.
func holdingProvider(t *testing.T) (p *fakeProvider, asked chan string, letGo chan struct{}) {
	asked, letGo = make(chan string, 16), make(chan struct{})
	p = newProvider(t, func(x *exchange) {
		events := x.script("one ", "two")
		if !x.stream(events[:1], 0) {
			return
		}
		asked <- x.text
		select {
		case <-letGo:
			x.stream(events[1:], 0)
		case <-x.ctx.Done():
		}
	})
	return p, asked, letGo
}

func take[T any](t *testing.T, c <-chan T, what string) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(patience):
		t.Fatalf("%s: nothing comes", what)
		panic("unreachable")
	}
}

// TestSigtermLetsTurnsFinish stops a gateway while two turns stream: both end
// as if nothing were, what is new is refused, and the exit code is 0.
func TestSigtermLetsTurnsFinish(t *testing.T) {
	t.Parallel()
	p, asked, letGo := holdingProvider(t)
	h := newHouse(t, oneModel(p, nil))
	g := h.start()
	f := h.openFrames(nil)
	f.send("agent", `{"message":"over the wire","sessionKey":"agent:main:ws","idempotencyKey":"run-1"}`)
	take(t, asked, "the first turn")
	resp, err := h.call(h.ctx, "POST", "/v1/chat/completions", chatBody("", "over HTTP", true), "x-openclaw-session-key: agent:main:http")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	take(t, asked, "the second turn")

	g.signal(syscall.SIGTERM)
	const bye = `{"type":"event","event":"shutdown","payload":{"reason":"SIGTERM received","gracePeriodMs":30000}}`
	if got := f.until(`"shutdown"`); got != bye {
		t.Errorf("got  %s\nwant %s", got, bye)
	}

	t.Run("refuses", func(t *testing.T) {
		f.send("chat.send", `{"sessionKey":"late","message":"too late","idempotencyKey":"late"}`)
		refusedWhileStopping(t, f.until(`"id":"chat.send"`))
		late := h.dialFrames(nil)
		late.send("connect", `{"auth":{"token":"`+h.token+`"}}`)
		refusedWhileStopping(t, late.until(`"id":"connect"`))
		if closed := late.end(); closed.Code != 1013 {
			t.Errorf("a late connect is closed with %v", closed)
		}
		a := h.mustHTTP("POST", "/v1/chat/completions", chatBody("", "too late", false))
		if a.status != http.StatusServiceUnavailable || !strings.Contains(a.body, `"UNAVAILABLE"`) || a.header.Get("Retry-After") == "" {
			t.Errorf("HTTP: %d %s", a.status, a.body)
		}
		if a := h.mustHTTP("GET", "/readyz", ""); a.status != http.StatusServiceUnavailable || !strings.Contains(a.body, "draining") {
			t.Errorf("readyz: %d %s", a.status, a.body)
		}
		if a := h.mustHTTP("GET", "/healthz", ""); a.status != http.StatusOK {
			t.Errorf("healthz: %d %s", a.status, a.body)
		}
	})

	close(letGo)
	if final := f.until(`"id":"agent"`, `"status":"ok"`); !strings.Contains(final, `"text":"one two"`) {
		t.Errorf("the turn ended with %s", final)
	}
	raw, err := io.ReadAll(resp.Body)
	if text, _, failure, done := streamed(string(raw)); err != nil || text != "one two" || failure != nil || !done {
		t.Errorf("the stream ended with %v: %s", err, raw)
	}
	if closed := f.end(); closed.Code != wire.CloseGoingAway {
		t.Errorf("closed with %v", closed)
	}
	if code := g.wait(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	s, err := readState(h.state, false)
	if err != nil || s.assistant["one two"] != 2 || s.stops["one two"] != "stop" || s.user["too late"] != 0 {
		t.Errorf("stored: %+v, %v", s, err)
	}
}

func refusedWhileStopping(t *testing.T, msg string) {
	t.Helper()
	var res wire.Inbound
	if err := json.Unmarshal([]byte(msg), &res); err != nil || res.OK || res.Error == nil ||
		res.Error.Code != wire.CodeUnavailable || res.Error.RetryAfterMs <= 0 || !res.Error.Retryable {
		t.Errorf("answered with %s", msg)
	}
}

// TestSigtermCutsTurnsOff gives a turn 300 ms to end and wants what it said by
// then to be kept.
func TestSigtermCutsTurnsOff(t *testing.T) {
	t.Parallel()
	p, asked, _ := holdingProvider(t)
	h := newHouse(t, oneModel(p, object{"shutdown": object{"gracePeriodMs": 300}}))
	g := h.start()
	f := h.openFrames(nil)
	f.send("agent", `{"message":"never ends","sessionKey":"agent:main:ws","idempotencyKey":"run-1"}`)
	take(t, asked, "the turn")
	f.until(`"agent"`, `"text":"one "`)
	resp, err := h.call(h.ctx, "POST", "/v1/chat/completions", chatBody("", "over HTTP", true), "x-openclaw-session-key: agent:main:http")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	take(t, asked, "the second turn")
	f.send("chat.send", `{"sessionKey":"agent:main:ws","message":"waits","idempotencyKey":"run-2"}`)
	f.until(`"started"`)

	began := time.Now()
	g.signal(syscall.SIGTERM)
	f.until(`"shutdown"`, `"gracePeriodMs":300}`)
	if final := f.until(`"id":"agent"`, `"status":"aborted"`); !strings.Contains(final, `"text":"one "`) {
		t.Errorf("the turn ended with %s", final)
	}
	raw, _ := io.ReadAll(resp.Body)
	if text, _, failure, done := streamed(string(raw)); text != "one " || failure == nil || !done {
		t.Errorf("the stream ended with %s", raw)
	}
	if code := g.wait(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	took := time.Since(began)
	t.Logf("a grace of 300 ms ended after %v", took.Round(time.Millisecond))
	if took < 300*time.Millisecond || took > prompt {
		t.Errorf("it took %v", took)
	}
	s, err := readState(h.state, false)
	if err != nil || s.assistant["one "] != 2 || s.stops["one "] != "aborted" || s.user["waits"] != 1 || s.user["never ends"] != 1 {
		t.Errorf("stored: %+v, %v", s, err)
	}
}

// TestSecondSignal wants whoever asks twice not to wait for a turn.
func TestSecondSignal(t *testing.T) {
	t.Parallel()
	p, asked, _ := holdingProvider(t)
	h := newHouse(t, oneModel(p, nil))
	g := h.start()
	f := h.openFrames(nil)
	f.send("agent", `{"message":"never ends","sessionKey":"agent:main:ws","idempotencyKey":"run-1"}`)
	take(t, asked, "the turn")
	g.signal(syscall.SIGINT)
	f.until(`"shutdown"`, `"reason":"SIGINT received"`)
	began := time.Now()
	g.signal(syscall.SIGTERM)
	if code := g.wait(); code == 0 {
		t.Error("exit code 0")
	}
	took := time.Since(began)
	t.Logf("ended %v after the second signal", took.Round(100*time.Microsecond))
	if took > prompt {
		t.Errorf("it took %v", took)
	}
	h.start() // nothing stands in the next one's way
	if s, err := readState(h.state, false); err != nil || s.user["never ends"] != 1 {
		t.Errorf("stored: %+v, %v", s, err)
	}
}

// TestIdleStop wants nothing to wait for where nothing runs, whoever is connected.
func TestIdleStop(t *testing.T) {
	t.Parallel()
	h := newHouse(t, nil)
	g := h.start()
	f := h.openFrames(nil)
	mute := h.dialFrames(nil) // has not connected
	mute.until("connect.challenge")
	kept, err := (&http.Transport{}).RoundTrip(mustRequest(t, "http://"+h.addr()+"/healthz"))
	if err != nil {
		t.Fatal(err)
	}
	bufio.NewReader(kept.Body).WriteTo(io.Discard)
	kept.Body.Close() // its connection stays open
	began := time.Now()
	g.signal(syscall.SIGTERM)
	if code := g.wait(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	took := time.Since(began)
	t.Logf("idle, with three connections: %v", took.Round(100*time.Microsecond))
	if took > prompt {
		t.Errorf("it took %v", took)
	}
	if closed := f.end(); closed.Code != wire.CloseGoingAway {
		t.Errorf("closed with %v", closed)
	}
}

func mustRequest(t *testing.T, url string) *http.Request {
	req, err := http.NewRequest("GET", url, nil)
	if err != nil {
		t.Fatal(err)
	}
	return req
}

// TestRestartInPlace sends SIGUSR1 while a turn runs: it ends, clients are told
// to come back, and the same process serves the same sessions again.
func TestRestartInPlace(t *testing.T) {
	t.Parallel()
	p, asked, letGo := holdingProvider(t)
	h := newHouse(t, oneModel(p, nil))
	g := h.start()
	f := h.openFrames(nil)
	f.send("chat.send", `{"sessionKey":"agent:main:ws","message":"before","idempotencyKey":"run-1"}`)
	take(t, asked, "the turn")

	g.signal(syscall.SIGUSR1)
	var bye struct {
		Type, Event string
		Payload     wire.Shutdown
	}
	msg := f.until(`"shutdown"`)
	if err := json.Unmarshal([]byte(msg), &bye); err != nil || bye.Payload.Reason != "SIGUSR1 received" || bye.Payload.RestartExpectedMs <= 0 || bye.Payload.GracePeriodMs != 30000 {
		t.Errorf("told %s, %v", msg, err)
	}
	close(letGo)
	f.until(`"chat"`, `"final"`)
	if closed := f.end(); closed.Code != wire.CloseRestart {
		t.Errorf("closed with %v", closed)
	}
	g.ready()
	for range 3 { // and again, idle
		c := h.mustConnect(nil)
		var st wire.Status
		if err := c.Call(h.ctx, "status", nil, &st); err != nil || st.PID != g.pid() {
			t.Errorf("pid %d, want %d: %v", st.PID, g.pid(), err)
		}
		var page wire.ChatHistoryPage
		if err := c.Call(h.ctx, "chat.history", wire.ChatHistory{SessionKey: "agent:main:ws"}, &page); err != nil || len(page.Messages) != 2 {
			t.Errorf("history: %s, %v", page.Messages, err)
		}
		g.signal(syscall.SIGUSR1)
		g.ready()
		<-c.Done()
	}
	a := h.mustHTTP("POST", "/v1/chat/completions", chatBody("", "after", false), "x-openclaw-session-key: agent:main:ws")
	if a.status != http.StatusOK {
		t.Errorf("%d %s", a.status, a.body)
	}
	if r := h.run("health", "--json"); r.code != 0 {
		t.Errorf("health: %s", r)
	}
	g.signal(syscall.SIGTERM)
	if code := g.wait(); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

// TestHangup wants SIGHUP, with which terminals end their programs, to end
// neither the gateway nor a turn.
func TestHangup(t *testing.T) {
	t.Parallel()
	p, asked, letGo := holdingProvider(t)
	h := newHouse(t, oneModel(p, nil))
	g := h.start()
	f := h.openFrames(nil)
	f.send("agent", `{"message":"goes on","sessionKey":"agent:main:ws","idempotencyKey":"run-1"}`)
	take(t, asked, "the turn")
	g.signal(syscall.SIGHUP)
	eventually(t, patience, func() error { // it has been noticed
		if f.send("health", ""); strings.Contains(f.until(`"id":"health"`), `"ok":true`) && strings.Contains(g.log(), "SIGHUP") {
			return nil
		}
		return io.ErrNoProgress
	})
	close(letGo)
	f.until(`"id":"agent"`, `"status":"ok"`)
	g.alive()
}
