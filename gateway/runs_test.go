package gateway

import (
	"bufio"
	"context"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"openclaw/wire"
)

// TestQuietEnds logs no error for runs that somebody ended: that is no failure.
func TestQuietEnds(t *testing.T) {
	m := newFakeModel(t)
	r := start(t, withModel(testOptions(t, modelConfig), m))
	for _, stream := range []string{"true", "false"} {
		ctx, leave := context.WithCancel(context.Background())
		req, err := http.NewRequestWithContext(ctx, "POST", "http://"+r.addr+"/v1/chat/completions",
			strings.NewReader(`{"stream":`+stream+`,"messages":[{"role":"user","content":"hold"}]}`))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+testToken)
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			if resp, err := (&http.Client{Transport: &http.Transport{}}).Do(req); err == nil {
				bufio.NewReader(resp.Body).ReadString(0)
				resp.Body.Close()
			}
		}()
		<-m.asked
		leave()
		<-m.left
		<-ended
	}
	c := r.connect()
	r.send(c, `{"type":"req","id":"a","method":"chat.send","params":{"sessionKey":"main","message":"hold","idempotencyKey":"k"}}`)
	<-m.asked
	r.call(c, "chat.abort", `{"runId":"k","sessionKey":"main"}`)
	if msg := r.call(c, "agent.wait", `{"runId":"k"}`); !strings.Contains(msg, `"status":"error","error":"aborted: rpc"`) && !strings.Contains(msg, `"error":"aborted: rpc"`) {
		t.Errorf("agent.wait: %s", msg)
	}
	gone := r.connect()
	r.send(gone, `{"type":"req","id":"a","method":"agent","params":{"message":"hold","idempotencyKey":"k2"}}`)
	<-m.asked
	gone.Close(wire.CloseNormal, "")
	r.closed(gone)
	r.call(c, "agent.wait", `{"runId":"k2"}`)
	r.stop(Signal{"SIGTERM"})
	c.Close(wire.CloseNormal, "")
	r.wait() // all handlers have ended
	if log := r.stderr.String(); strings.Contains(log, `"level":"ERROR"`) {
		t.Errorf("log: %s", log)
	}
}

// TestKeysOfPrincipals gives nobody the run that another started with the same key.
func TestKeysOfPrincipals(t *testing.T) {
	m := newFakeModel(t)
	r := start(t, withModel(testOptions(t, modelConfig), m))
	ask := `{"message":"hold","idempotencyKey":"k"}`
	c := r.connect()
	r.send(c, `{"type":"req","id":"a","method":"agent","params":`+ask+`}`)
	r.until(c, `"accepted"`)
	<-m.asked
	cli := r.dial()
	r.send(cli, `{"type":"req","id":"c","method":"connect","params":{"auth":{"token":"`+r.cliKey+`"}}}`)
	r.until(cli, `"id":"c","ok":true`)
	for _, other := range []*wire.Conn{cli, c} {
		method, params := "agent", ask
		if other == c { // the same principal, by another method
			method, params = "chat.send", `{"sessionKey":"main","message":"hold","idempotencyKey":"k"}`
		}
		if msg := r.call(other, method, params); !strings.Contains(msg, "idempotencyKey is taken by another run") {
			t.Errorf("%s: %s", method, msg)
		}
	}
	close(m.hold)
	if msg := r.until(c, `"id":"a"`); !strings.Contains(msg, "You said hold") {
		t.Error(msg)
	}
}

// TestEventsSurviveRefusal keeps what system-event queued until a model is told.
func TestEventsSurviveRefusal(t *testing.T) {
	m := newFakeModel(t)
	r := start(t, withModel(testOptions(t, modelConfig), m))
	c := r.connect()
	r.call(c, "system-event", `{"text":"the printer is out of paper"}`)
	r.call(c, "agent", `{"message":"x","model":"nowhere/m","idempotencyKey":"k1"}`)
	r.call(c, "chat.send", `{"sessionKey":"main","message":"/help","idempotencyKey":"k2"}`)
	r.call(c, "chat.send", `{"sessionKey":"main","message":"hello","idempotencyKey":"k3"}`)
	if body := <-m.asked; !strings.Contains(body, "the printer is out of paper") {
		t.Errorf("the model was asked %s", body)
	}
	r.call(c, "agent.wait", `{"runId":"k3"}`)
	r.call(c, "chat.send", `{"sessionKey":"main","message":"hello again","idempotencyKey":"k4"}`)
	if body := <-m.asked; strings.Contains(body, "the printer is out of paper") {
		t.Errorf("told twice: %s", body)
	}
}

// TestEventScopes sends an event to who may see it, and to nobody else.
func TestEventScopes(t *testing.T) {
	r := start(t, testOptions(t, ""))
	c := r.connect()
	r.until(c, `"presence"`)
	r.hub.mu.Lock()
	p := r.hub.everyoneLocked()[0]
	r.hub.mu.Unlock()
	for _, tc := range []struct {
		scopes wire.Scopes
		sees   string
	}{
		{nil, "tick health shutdown"},
		{wire.Scopes{wire.ScopeApprovals}, "tick health shutdown exec.approval.requested exec.approval.resolved"},
		{wire.Scopes{wire.ScopeRead}, "agent chat presence tick health shutdown config.changed config.rejected"},
		{wire.Scopes{wire.ScopeAdmin}, "agent chat presence tick health shutdown config.changed config.rejected exec.approval.requested exec.approval.resolved"},
	} {
		for _, kind := range eventTable() {
			r.hub.send([]*peer{{conn: p.conn, dialect: p.dialect, scopes: tc.scopes}}, event{eventKind: kind, payload: []byte("{}")})
		}
		r.send(c, `{"type":"req","id":"end","method":"health"}`)
		var seen []string
		for {
			msg := r.until(c, `"type"`)
			if strings.Contains(msg, `"id":"end"`) {
				break
			}
			_, name, _ := strings.Cut(msg, `"event":"`)
			name, _, _ = strings.Cut(name, `"`)
			seen = append(seen, name)
		}
		if got := strings.Join(seen, " "); got != tc.sees {
			t.Errorf("with %v: %s", tc.scopes, got)
		}
	}
}

// TestPresenceExpires drops who was reported and not heard of again.
func TestPresenceExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(slog.New(slog.DiscardHandler), wire.Presence{Text: "self"})
		h.upsertPresence(wire.Presence{Text: "Node: studio", Ts: time.Now().UnixMilli()})
		if list := string(h.encodedPresence()); !strings.Contains(list, "studio") {
			t.Error(list)
		}
		time.Sleep(presenceTTL + time.Minute) // the bubble's clock
		if list := string(h.encodedPresence()); strings.Contains(list, "studio") || !strings.Contains(list, "self") {
			t.Errorf("later: %s", list)
		}
	})
}

// TestGoodbyeReachesNewcomers tells also a client whose hello was on its way
// when everybody was told.
func TestGoodbyeReachesNewcomers(t *testing.T) {
	r := start(t, testOptions(t, ""))
	before := r.connect()
	r.until(before, `"presence"`) // it has joined
	r.hub.goodbye(wire.Shutdown{Reason: "test", GracePeriodMs: 1})
	after := r.connect()
	for _, c := range []*wire.Conn{before, after} {
		r.until(c, `"event":"shutdown"`)
		if msg := r.call(c, "health", "{}"); strings.Contains(msg, "shutdown") {
			t.Errorf("told twice: %s", msg)
		}
	}
}
