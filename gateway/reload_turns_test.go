package gateway

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"openclaw/reload/config"
	"openclaw/wire"
)

// TestTurnsOutliveChanges changes everything that a turn is made of while two
// turns stream. Both end as they began; the next one is made of the new.
func TestTurnsOutliveChanges(t *testing.T) {
	m := newFakeModel(t)
	o := testOptions(t, modelConfig)
	var mu sync.Mutex
	var dialled []string
	o.Dial = func(ctx context.Context, network, addr string) (net.Conn, error) {
		mu.Lock()
		dialled = append(dialled, addr)
		mu.Unlock()
		return m.dial(ctx, network, addr)
	}
	sections := func(url, key, prompt, level, agents string) string {
		return withKeys("", `logging:{level:"`+level+`"},models:{providers:{fake:{baseUrl:"`+url+`",apiKey:"`+key+`",models:[{id:"m"}]}}},`+
			`agents:{defaults:{model:"fake/m",systemPrompt:"`+prompt+`"},list:[`+agents+`]}`)
	}
	write(&o, sections("http://127.0.0.1:1/v1", "sk-first-of-all", "Be brief.", "info", `{id:"main"},{id:"extra"}`))
	r := startReloaded(t, o)

	r.send(r.c, `{"type":"req","id":"a","method":"agent","params":{"message":"hold the wire","sessionKey":"agent:extra:main","idempotencyKey":"k"}}`)
	<-m.asked
	req, err := http.NewRequest("POST", "http://"+r.addr+"/v1/chat/completions", strings.NewReader(`{"stream":true,"model":"openclaw/extra","messages":[{"role":"user","content":"hold the line"}]}`))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+testToken)
	resp, err := (&http.Transport{}).RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	<-m.asked

	for _, text := range []string{
		sections("http://127.0.0.1:1/v1", "sk-second-of-all", "Be brief.", "info", `{id:"main"},{id:"extra"}`),
		sections("http://127.0.0.1:2/v1", "sk-second-of-all", "Be kind.", "debug", `{id:"main"}`),
		withKeys("", `agents:{list:[{id:"main"}]}`), // not even the provider
		sections("http://127.0.0.1:2/v1", "sk-second-of-all", "Be kind.", "debug", `{id:"main"}`),
	} {
		r.write(text)
		r.look()
		if e := eventOf[wire.ConfigChanged](r, "config.changed"); len(e.Applied) == 0 || len(e.Pending) > 0 {
			t.Errorf("event %+v", e)
		}
	}
	close(m.hold)
	if msg := r.find(`"id":"a","ok":true,"payload":{"runId":"k","status":"ok"`); !strings.Contains(msg, `"text":"You said hold the wire"`) {
		t.Errorf("over WebSocket: %s", msg)
	}
	text, done := "", false
	for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
		data, _ := strings.CutPrefix(lines.Text(), "data: ")
		var chunk struct {
			Choices []struct{ Delta struct{ Content string } }
		}
		if done = done || data == "[DONE]"; json.Unmarshal([]byte(data), &chunk) == nil {
			for _, c := range chunk.Choices {
				text += c.Delta.Content
			}
		}
	}
	if text != "You said hold the line" || !done {
		t.Errorf("over HTTP: %q, done %v", text, done)
	}
	r.send(r.c, `{"type":"req","id":"b","method":"agent","params":{"message":"next","sessionKey":"main","idempotencyKey":"k2"}}`)
	if body := <-m.asked; !strings.Contains(body, "Be kind.") || strings.Contains(body, "Be brief.") {
		t.Errorf("the next turn asks %s", body)
	}
	r.find(`"id":"b","ok":true,"payload":{"runId":"k2","status":"ok"`)
	mu.Lock()
	defer mu.Unlock()
	if last := dialled[len(dialled)-1]; last != "127.0.0.1:2" {
		t.Errorf("the next turn asked at %s", last)
	}
}

// TestTurnAcrossRestart restarts under a turn, which ends first, and goes on
// with what clients were promised.
func TestTurnAcrossRestart(t *testing.T) {
	m := newFakeModel(t)
	o := withModel(testOptions(t, modelConfig), m)
	r := startReloaded(t, o)
	const kept = `{"sessionKey":"main","message":"only once","idempotencyKey":"once"}`
	if first, refused := answered[wire.ChatAck](r, "chat.send", kept); refused != nil || first.Status != wire.StatusStarted {
		t.Fatalf("%+v, %v", first, refused)
	}
	<-m.asked
	r.find(`"state":"final"`)
	r.send(r.c, `{"type":"req","id":"a","method":"agent","params":{"message":"hold on","sessionKey":"main","idempotencyKey":"k"}}`)
	<-m.asked
	r.request("system-event", `{"text":"the kettle boils"}`)
	r.write(strings.Replace(modelConfig, "gateway:{", "gateway:{limits:{tickIntervalMs:5000},", 1))
	r.look()
	if e := eventOf[wire.ConfigChanged](r, "config.changed"); !e.Restart {
		t.Errorf("event %+v", e)
	}
	if bye := eventOf[wire.Shutdown](r, "shutdown"); bye.RestartExpectedMs <= 0 || bye.GracePeriodMs != 30000 {
		t.Errorf("shutdown %+v", bye)
	}
	close(m.hold)
	if msg := r.find(`"id":"a","ok":true,"payload":{"runId":"k","status":"ok"`); !strings.Contains(msg, `"text":"You said hold on"`) {
		t.Errorf("the turn ended with %s", msg)
	}
	if ce := r.closed(r.c); ce.Code != wire.CloseRestart {
		t.Errorf("closed with %v", ce)
	}
	r.taken()
	r.again()
	if again, refused := answered[wire.ChatAck](r, "chat.send", kept); refused != nil || again.Status != wire.StatusOK || again.RunID != "once" {
		t.Errorf("the same request after the restart: %+v, %v", again, refused)
	}
	if msg := r.request("chat.history", `{"sessionKey":"main"}`); strings.Count(msg, "You said") != 2 || strings.Count(msg, `"only once"`) != 1 {
		t.Errorf("history: %s", msg)
	}
	r.send(r.c, `{"type":"req","id":"b","method":"agent","params":{"message":"next","sessionKey":"main","idempotencyKey":"k2"}}`)
	if body := <-m.asked; !strings.Contains(body, "the kettle boils") || !strings.Contains(body, "You said hold on") {
		t.Errorf("the next turn asks %s", body)
	}
}

// TestRestartIsAnswered has clients cause restarts, who are all told that they did.
func TestRestartIsAnswered(t *testing.T) {
	r := startReloaded(t, testOptions(t, ""))
	for i := range 30 {
		params := fmt.Sprintf(`{"raw":"{gateway:{limits:{tickIntervalMs:%d}}}","baseHash":%q}`, 1000+i, r.status().FileHash)
		r.send(r.c, `{"type":"req","id":"r","method":"config.patch","params":`+params+`}`)
		if msg := r.find(`"id":"r"`); !strings.Contains(msg, `"restart":true`) {
			t.Fatalf("restart %d: %s", i, msg)
		}
		if ce := r.closed(r.c); ce.Code != wire.CloseRestart {
			t.Errorf("closed with %v", ce)
		}
		r.taken()
		r.again()
	}
}

// TestChangeWhileDraining changes the file once more while a restart waits for
// a turn: the gateway that takes over follows.
func TestChangeWhileDraining(t *testing.T) {
	m := newFakeModel(t)
	o := withModel(testOptions(t, modelConfig), m)
	o.watch = nil
	with := func(gateway, rest string) string {
		return strings.Replace(modelConfig, "{gateway:{", "{"+rest+"gateway:{hotReload:{debounceMs:10},"+gateway, 1)
	}
	write(&o, with("", ""))
	r := startReloaded(t, o)
	r.send(r.c, `{"type":"req","id":"a","method":"agent","params":{"message":"hold on","sessionKey":"main","idempotencyKey":"k"}}`)
	<-m.asked
	r.write(with("limits:{tickIntervalMs:5000},", ""))
	r.find(`"shutdown"`)
	last := with("limits:{tickIntervalMs:5000},", `logging:{level:"debug"},`)
	r.write(last)
	close(m.hold)
	r.find(`"id":"a","ok":true,"payload":{"runId":"k","status":"ok"`)
	r.closed(r.c)
	r.taken()
	r.again()
	for deadline := time.Now().Add(time.Minute); ; {
		s := r.status()
		if s.LoadedHash == config.Hash([]byte(last)) && s.Pending == nil && slices.Equal(s.Applied, []string{"logging.level"}) {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("status %+v", s)
		}
	}
}
