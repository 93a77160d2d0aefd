package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"openclaw/wire"
)

// saying is what every scripted answer says: runes of each length, quotes, a
// line end, in pieces.
var saying = []string{"Grüße, ", "世界 🦞", " — \"quoted\" \\ and", "\nanother line."}

// providerKey is the key that errors must not tell.
const providerKey = "sk-provider-Zx81kQm4TtR7vWp2"

// A behaviour is one way in which a provider answers. what it does on its
// path, and what a client is then told.
type behaviour struct {
	do      func(x *exchange)
	code    wire.Code // "" = the saying
	status  int       // over HTTP
	says    string    // part of the error
	timeout int       // of the agent, in seconds

	cli      bool // also asked by the program
	fallback bool // another model, if there is one, answers instead
}

func behaviours() map[string]behaviour {
	refuse := func(status int) func(*exchange) {
		return func(x *exchange) { x.fail(status, "refused, key was "+providerKey) }
	}
	return map[string]behaviour{
		"plain": {do: func(x *exchange) { x.stream(x.script(saying...), 0) }, cli: true},
		"slow":  {do: func(x *exchange) { x.stream(x.script(saying...), 15*time.Millisecond) }},
		"split": {do: func(x *exchange) { // in the middle of runes and of lines
			var parts []string
			for b := range slices.Chunk([]byte(strings.Join(x.script(saying...), "")), 3) {
				parts = append(parts, string(b))
			}
			x.stream(parts, 0)
		}, cli: true},
		"bad":     {do: refuse(400), code: wire.CodeUnavailable, status: 503, says: "400 Bad Request"},
		"denied":  {do: refuse(401), code: wire.CodeUnavailable, status: 503, says: "401 Unauthorized", cli: true},
		"limited": {do: func(x *exchange) { x.w.Header().Set("Retry-After", "120"); refuse(429)(x) }, code: wire.CodeUnavailable, status: 503, says: "429 Too Many Requests", cli: true, fallback: true},
		"broken":  {do: refuse(500), code: wire.CodeUnavailable, status: 503, says: "500 Internal Server Error", fallback: true},
		"silent":  {do: func(x *exchange) { <-x.ctx.Done() }, code: wire.CodeAgentTimeout, status: 504, says: "turn timed out after 1s", timeout: 1, cli: true, fallback: true},
		"early": {do: func(x *exchange) {
			x.stream(x.script(saying...)[:3], 0)
			panic(http.ErrAbortHandler)
		}, code: wire.CodeUnavailable, status: 503, says: "closed early"},
		"dead": {code: wire.CodeUnavailable, status: 503, says: "connection refused", fallback: true},
	}
}

// outcome is what a client got by one door.
type outcome struct {
	text   string
	usage  [3]int64  // input, from the cache, output
	code   wire.Code // of an error
	status int       // of HTTP
	err    string
}

// TestProviders asks providers of each protocol, that answer in every way, by
// every door: the text is the same everywhere and so is what went wrong.
func TestProviders(t *testing.T) {
	t.Parallel()
	h, _ := providerHouse(t)
	h.start()
	doors := map[string]func(agent string) outcome{
		"HTTP stream": h.askStream, "HTTP": h.askWhole, "responses stream": h.askResponseStream, "responses": h.askResponse, "agent": h.askAgent, "chat.send": h.askChat,
		"openclaw agent": h.askCLI, "openclaw message send": h.askMessage,
	}
	type question struct {
		name   string
		agent  string
		ask    func(agent string) outcome
		cli    bool
		want   behaviour
		answer outcome
	}
	var all []*question
	for _, api := range []string{"openai", "responses", "anthropic"} {
		for name, b := range behaviours() {
			agent := name + "-" + api
			for door, ask := range doors {
				q := &question{name: api + "/" + name + "/" + door, agent: agent, ask: ask, cli: strings.HasPrefix(door, "openclaw"), want: b}
				if q.cli && !b.cli { // processes are dear: one for each kind of end
					continue
				}
				all = append(all, q)
			}
			if b.fallback {
				all = append(all,
					&question{name: api + "/" + name + "/fallback, HTTP stream", agent: agent + "-else", ask: h.askStream},
					&question{name: api + "/" + name + "/fallback, agent", agent: agent + "-else", ask: h.askAgent})
			}
		}
	}
	var asking sync.WaitGroup
	programs := make(chan struct{}, 4)
	places := make(chan struct{}, 48) // many at once, but so that each has its answer in time
	for _, q := range all {
		asking.Go(func() {
			places <- struct{}{}
			defer func() { <-places }()
			if q.cli {
				programs <- struct{}{}
				defer func() { <-programs }()
			}
			q.answer = q.ask(q.agent)
		})
	}
	asking.Wait()
	for _, q := range all {
		t.Run(q.name, func(t *testing.T) {
			if q.cli && q.want.code == "" {
				q.answer.usage = [3]int64{usageIn - usageCached, usageCached, usageOut} // is not shown
			}
			checkOutcome(t, q.answer, q.want, q.agent)
		})
	}
}

// providerHouse configures an agent for each behaviour and protocol, and one
// with a fallback for each.
func providerHouse(t *testing.T) (*house, *fakeProvider) {
	table := behaviours()
	p := newProvider(t, func(x *exchange) {
		name := strings.Split(x.path, "/")[1]
		if key := x.header.Get("Authorization") + x.header.Get("X-Api-Key"); !strings.HasSuffix(key, providerKey) {
			x.fail(401, "no key")
			return
		}
		table[name].do(x)
	})
	providers, agents := object{}, []any{object{"id": "main", "default": true}}
	for api, protocol := range map[string]string{"openai": "openai-completions", "responses": "openai-responses", "anthropic": "anthropic-messages"} {
		for name, b := range table {
			id := name + "-" + api
			url := p.url + "/" + name + "/v1"
			if name == "dead" {
				url = deadHost(t) + "/v1"
			}
			providers[id] = providerConfig(url, protocol)
			providers[id].(object)["apiKey"] = providerKey
			alone := object{"id": id, "model": id + "/m"}
			if b.timeout > 0 {
				alone["timeoutSeconds"] = b.timeout
			}
			// Half of the time is for the first model, half for the second.
			other := object{"id": id + "-else", "model": object{"primary": id + "/m", "fallbacks": []any{"plain-" + api + "/m"}}, "timeoutSeconds": 10}
			agents = append(agents, alone, other)
		}
	}
	return newHouse(t, object{
		"gateway": object{"limits": object{"maxRuns": 1000, "maxPending": 1000}},
		"models":  object{"providers": providers},
		"agents":  object{"list": agents, "defaults": object{"timeoutSeconds": 20}},
	}), p
}

// deadHost is a URL that nobody answers at: its port is taken, but not listened on.
func deadHost(t *testing.T) string {
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { syscall.Close(fd) })
	if err := syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	at, err := syscall.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("http://127.0.0.1:%d", at.(*syscall.SockaddrInet4).Port)
}

func checkOutcome(t *testing.T, got outcome, want behaviour, provider string) {
	t.Helper()
	if strings.Contains(fmt.Sprint(got), providerKey) {
		t.Errorf("the key is told: %+v", got)
	}
	if want.code == "" {
		ok := outcome{text: strings.Join(saying, ""), usage: [3]int64{usageIn - usageCached, usageCached, usageOut}}
		if got.status == http.StatusOK {
			got.status = 0
		}
		if got != ok {
			t.Errorf("got  %+v\nwant %+v", got, ok)
		}
		return
	}
	if got.code != want.code || !strings.Contains(got.err, want.says) || got.status != 0 && got.status != want.status {
		t.Errorf("got %+v\nwant code %s, status %d, a message with %q", got, want.code, want.status, want.says)
	}
	if want.code != wire.CodeAgentTimeout && !strings.Contains(got.err, provider) {
		t.Errorf("the provider is not named: %+v", got)
	}
}

type completionUsageJSON struct {
	Prompt     int64 `json:"prompt_tokens"`
	Completion int64 `json:"completion_tokens"`
	Details    struct {
		Cached int64 `json:"cached_tokens"`
	} `json:"prompt_tokens_details"`
}

func (u completionUsageJSON) list() [3]int64 {
	return [3]int64{u.Prompt - u.Details.Cached, u.Details.Cached, u.Completion}
}

// httpError reads the error object of an answer.
func httpError(raw []byte, o *outcome) {
	var body struct {
		Error struct {
			Message string    `json:"message"`
			Type    string    `json:"type"`
			Code    wire.Code `json:"code"`
		} `json:"error"`
	}
	if err := json.Unmarshal(raw, &body); err != nil || body.Error.Type == "" {
		o.err = fmt.Sprintf("no error object: %s", raw)
		return
	}
	o.err, o.code = body.Error.Message, body.Error.Code
}

func (h *house) askStream(agent string) (o outcome) {
	a, err := h.http("POST", "/v1/chat/completions", chatBody(agent, "hello", true))
	if err != nil {
		return outcome{err: err.Error()}
	}
	if o.status = a.status; a.status != http.StatusOK {
		httpError([]byte(a.body), &o)
		return o
	}
	text, usage, failure, done := streamed(a.body)
	if failure != nil { // the status was out before the trouble
		httpError([]byte(`{"error":`+string(failure)+`}`), &o)
		o.status = 0
		return o
	}
	if o.text = text; !done {
		o.err = "no [DONE]"
	}
	var u completionUsageJSON
	if json.Unmarshal(usage, &u) == nil {
		o.usage = u.list()
	}
	return o
}

func (h *house) askWhole(agent string) (o outcome) {
	a, err := h.http("POST", "/v1/chat/completions", chatBody(agent, "hello", false))
	if err != nil {
		return outcome{err: err.Error()}
	}
	if o.status = a.status; a.status != http.StatusOK {
		httpError([]byte(a.body), &o)
		return o
	}
	var body struct {
		Choices []struct {
			Message struct {
				Content string `json:"content"`
			} `json:"message"`
		} `json:"choices"`
		Usage completionUsageJSON `json:"usage"`
	}
	if err := json.Unmarshal([]byte(a.body), &body); err != nil || len(body.Choices) != 1 {
		return outcome{err: a.body}
	}
	o.text, o.usage = body.Choices[0].Message.Content, body.Usage.list()
	return o
}

// A responseJSON is what a response says that an outcome has.
type responseJSON struct {
	ID     string `json:"id"`
	Status string `json:"status"`
	Output []struct {
		Content []struct {
			Text string `json:"text"`
		} `json:"content"`
	} `json:"output"`
	Usage struct {
		Input  int64 `json:"input_tokens"`
		Output int64 `json:"output_tokens"`
		Detail struct {
			Cached int64 `json:"cached_tokens"`
		} `json:"input_tokens_details"`
	} `json:"usage"`
}

func (r *responseJSON) outcome(status int) (o outcome) {
	for _, item := range r.Output {
		for _, part := range item.Content {
			o.text += part.Text
		}
	}
	u := r.Usage
	o.status, o.usage = status, [3]int64{u.Input - u.Detail.Cached, u.Detail.Cached, u.Output}
	return o
}

// responseBody asks for a response; more are members besides.
func responseBody(agent, text string, more object) string {
	body := object{"model": "openclaw", "input": text}
	if agent != "" {
		body["model"] = "openclaw/" + agent
	}
	maps.Copy(body, more)
	raw, _ := json.Marshal(body)
	return string(raw)
}

func (h *house) askResponse(agent string) (o outcome) {
	a, err := h.http("POST", "/v1/responses", responseBody(agent, "hello", nil))
	if err != nil {
		return outcome{err: err.Error()}
	}
	if o.status = a.status; a.status != http.StatusOK {
		httpError([]byte(a.body), &o)
		return o
	}
	var body responseJSON
	if err := json.Unmarshal([]byte(a.body), &body); err != nil || body.Status != "completed" {
		return outcome{err: a.body}
	}
	return body.outcome(a.status)
}

// askResponseStream also wants the pieces to be what the end says.
func (h *house) askResponseStream(agent string) (o outcome) {
	a, err := h.http("POST", "/v1/responses", responseBody(agent, "hello", object{"stream": true}))
	if err != nil {
		return outcome{err: err.Error()}
	}
	if o.status = a.status; a.status != http.StatusOK {
		httpError([]byte(a.body), &o)
		return o
	}
	text := ""
	for line := range strings.Lines(a.body) {
		data, ok := strings.CutPrefix(line, "data: {")
		if !ok {
			continue
		}
		var e struct {
			Type     string          `json:"type"`
			Delta    string          `json:"delta"`
			Error    json.RawMessage `json:"error"`
			Response responseJSON    `json:"response"`
		}
		if err := json.Unmarshal([]byte("{"+data), &e); err != nil {
			return outcome{err: err.Error()}
		}
		switch e.Type {
		case "response.output_text.delta":
			text += e.Delta
		case "error": // the status was out before the trouble
			httpError([]byte(`{"error":`+string(e.Error)+`}`), &o)
			o.status = 0
			return o
		case "response.completed":
			if o = e.Response.outcome(a.status); o.text != text || !strings.HasSuffix(a.body, "data: [DONE]\n\n") {
				o.err = "the pieces say " + text
			}
		}
	}
	return o
}

func wireError(err error) (o outcome) {
	var we *wire.Error
	if o.err = err.Error(); errors.As(err, &we) {
		o.err, o.code = we.Message, we.Code
	}
	return o
}

// askAgent also wants the events to have told the same text.
func (h *house) askAgent(agent string) (o outcome) {
	var mu sync.Mutex
	var shown, added string
	c, err := h.connect(func(in wire.Inbound) {
		var ev struct {
			RunID  string             `json:"runId"`
			Stream string             `json:"stream"`
			Data   wire.AssistantData `json:"data"`
		}
		if in.Event != "agent" || json.Unmarshal(in.Payload, &ev) != nil || ev.Stream != wire.StreamAssistant || ev.RunID != "run "+agent {
			return
		}
		mu.Lock()
		defer mu.Unlock()
		shown, added = ev.Data.Text, added+ev.Data.Delta
	})
	if err != nil {
		return wireError(err)
	}
	defer c.Close()
	var final wire.AgentFinal
	key := "agent:" + agent + ":rpc"
	err = c.CallFinal(h.ctx, "agent", wire.AgentRun{SessionKey: key, Message: "hello", IdempotencyKey: "run " + agent}, &final, nil)
	if err != nil {
		if o = wireError(err); final.Status != wire.StatusError && final.Status != wire.StatusTimeout {
			o.err += " beside status " + final.Status
		}
		return o
	}
	mu.Lock()
	defer mu.Unlock()
	if len(final.Result.Payloads) == 1 {
		o.text = final.Result.Payloads[0].Text
	}
	if shown != o.text || added != o.text {
		o.err = fmt.Sprintf("events told %q, in pieces %q", shown, added)
	}
	if u := final.Result.Meta.AgentMeta.Usage; u != nil {
		o.usage = [3]int64{u.Input, u.CacheRead, u.Output}
	}
	return o
}

// askChat wants the last event and the history to agree.
func (h *house) askChat(agent string) (o outcome) {
	last := make(chan wire.ChatEvent, 1)
	c, err := h.connect(func(in wire.Inbound) {
		var ev wire.ChatEvent
		if in.Event == "chat" && wire.DecodeLoose(in.Payload, &ev) == nil && ev.RunID == "chat "+agent && ev.State != wire.ChatStateDelta {
			last <- ev
		}
	})
	if err != nil {
		return wireError(err)
	}
	defer c.Close()
	key := "agent:" + agent + ":chat"
	var ack wire.ChatAck
	if err := c.Call(h.ctx, "chat.send", wire.ChatSend{SessionKey: key, Message: "hello", IdempotencyKey: "chat " + agent}, &ack); err != nil {
		return wireError(err)
	}
	var ev wire.ChatEvent
	select {
	case ev = <-last:
	case <-c.Done():
		return outcome{err: "the connection ended"}
	}
	var page struct {
		Messages []struct {
			Role    string `json:"role"`
			Content []struct {
				Text string `json:"text"`
			} `json:"content"`
			StopReason   string `json:"stopReason"`
			ErrorMessage string `json:"errorMessage"`
			Usage        struct {
				Input     int64 `json:"input"`
				CacheRead int64 `json:"cacheRead"`
				Output    int64 `json:"output"`
			} `json:"usage"`
		} `json:"messages"`
	}
	if err := c.Call(h.ctx, "chat.history", wire.ChatHistory{SessionKey: key}, &page); err != nil {
		return wireError(err)
	}
	if len(page.Messages) != 2 {
		return outcome{err: fmt.Sprintf("history: %+v", page)}
	}
	m := page.Messages[1]
	if ev.State == wire.ChatStateError {
		// The event has no code; agent.wait tells the same words.
		o.err, o.code = ev.ErrorMessage, wire.CodeUnavailable
		if strings.Contains(o.err, "timed out") {
			o.code = wire.CodeAgentTimeout
		}
		if m.StopReason != "error" || m.ErrorMessage == "" || strings.Contains(m.ErrorMessage, providerKey) {
			o.err = fmt.Sprintf("history: %+v", m)
		}
		return o
	}
	if ev.Message != nil {
		o.text = ev.Message.Content[0].Text
	}
	if len(m.Content) != 1 || m.Content[0].Text != o.text || m.StopReason != "stop" {
		o.err = fmt.Sprintf("history: %+v", m)
	}
	if u := ev.Usage; u != nil && *u != (wire.ChatUsage{Input: m.Usage.Input, Output: m.Usage.Output, CacheRead: m.Usage.CacheRead, TotalTokens: u.TotalTokens}) {
		o.err = fmt.Sprintf("usage in the event %+v, in history %+v", u, m.Usage)
	}
	o.usage = [3]int64{m.Usage.Input, m.Usage.CacheRead, m.Usage.Output}
	return o
}

func (h *house) askCLI(agent string) (o outcome) {
	r := h.run("agent", "--agent", agent, "--session-key", "agent:"+agent+":cli", "-m", "hello")
	if r.code == 0 {
		o.text = strings.TrimSuffix(r.stdout, "\n")
		return o
	}
	o.err, o.code = r.stderr, wire.CodeUnavailable
	if strings.Contains(r.stderr, "timed out") {
		o.code = wire.CodeAgentTimeout
	}
	return o
}

func (h *house) askMessage(agent string) (o outcome) {
	r := h.run("message", "send", "--to", agent, "--text", "hello", "--json")
	if r.code != 0 {
		var body struct {
			Error struct {
				Code    wire.Code `json:"code"`
				Message string    `json:"message"`
			} `json:"error"`
		}
		if err := json.Unmarshal([]byte(r.stdout), &body); err != nil {
			o.err = fmt.Sprintf("%v: %s", err, r)
			return o
		}
		o.err, o.code = body.Error.Message, body.Error.Code
		return o
	}
	var final wire.AgentFinal
	if err := json.Unmarshal([]byte(r.stdout), &final); err != nil || final.Result == nil || len(final.Result.Payloads) != 1 {
		o.err = fmt.Sprintf("%v: %s", err, r)
		return o
	}
	o.text = final.Result.Payloads[0].Text
	return o
}

// TestClientLeaves wants the request to the provider to end as soon as the
// client who asked has gone, whichever way it came.
func TestClientLeaves(t *testing.T) {
	asked, hungUp := make(chan struct{}, 1), make(chan time.Time, 1)
	p := newProvider(t, func(x *exchange) {
		if x.text == "stream" {
			x.stream(x.script("a first word", "never said")[:1], 0)
		}
		asked <- struct{}{}
		<-x.ctx.Done()
		hungUp <- time.Now()
	})
	h := newHouse(t, oneModel(p, nil))
	h.start()
	streamed := func(path, body string) func(t *testing.T) func() { // leaves in the middle of the answer
		return func(t *testing.T) func() {
			ctx, cancel := context.WithCancel(t.Context())
			resp, err := h.call(ctx, "POST", path, body)
			if err != nil {
				t.Fatal(err)
			}
			lines := bufio.NewReader(resp.Body)
			for {
				line, err := lines.ReadString('\n')
				if err != nil {
					t.Fatal(err)
				}
				if strings.Contains(line, "a first word") {
					return func() { cancel(); resp.Body.Close() }
				}
			}
		}
	}
	for _, way := range []struct {
		name string
		ask  func(t *testing.T) (leave func())
	}{
		{"HTTP stream", streamed("/v1/chat/completions", chatBody("", "stream", true))},
		{"HTTP", func(t *testing.T) func() {
			ctx, cancel := context.WithCancel(t.Context())
			ended := make(chan struct{})
			go func() {
				defer close(ended)
				if resp, err := h.call(ctx, "POST", "/v1/chat/completions", chatBody("", "whole", false)); err == nil {
					io.Copy(io.Discard, resp.Body)
					resp.Body.Close()
				}
			}()
			t.Cleanup(func() { <-ended })
			return cancel
		}},
		{"agent", func(t *testing.T) func() {
			f := h.openFrames(nil)
			f.send("agent", `{"message":"stream","idempotencyKey":"leaver"}`)
			f.until(`"accepted"`)
			return func() { f.conn.Close(wire.CloseNormal, "") }
		}},
		{"openclaw agent, killed", func(t *testing.T) func() { return h.cliThatLeaves(t, syscall.SIGKILL) }},
		{"openclaw agent, interrupted", func(t *testing.T) func() { return h.cliThatLeaves(t, syscall.SIGINT) }},
		{"responses", streamed("/v1/responses", responseBody("", "stream", object{"stream": true}))},
	} {
		t.Run(way.name, func(t *testing.T) {
			leave := way.ask(t)
			select {
			case <-asked:
			case <-time.After(patience):
				t.Fatal("the provider is not asked")
			}
			left := time.Now()
			leave()
			select {
			case at := <-hungUp:
				took := at.Sub(left)
				t.Logf("the upstream request ended after %v", took.Round(10*time.Microsecond))
				if took > prompt {
					t.Errorf("the upstream request ended after %v, want within 100 ms", took)
				}
			case <-time.After(patience):
				t.Fatal("the upstream request does not end")
			}
		})
	}
	if c := h.mustConnect(nil); true { // and the one that belongs to the session goes on
		if err := c.Call(h.ctx, "chat.send", wire.ChatSend{SessionKey: "stays", Message: "stream", IdempotencyKey: "stays"}, nil); err != nil {
			t.Fatal(err)
		}
		<-asked
		c.Close()
		eventually(t, patience, func() error {
			if a := h.mustHTTP("GET", "/healthz", ""); a.status != http.StatusOK {
				return fmt.Errorf("healthz: %d", a.status)
			}
			return nil
		})
		select {
		case <-hungUp:
			t.Error("chat.send ended with its connection")
		default:
		}
		again := h.mustConnect(nil)
		var end wire.ChatAborted
		if err := again.Call(h.ctx, "chat.abort", wire.ChatAbort{SessionKey: "stays"}, &end); err != nil || !end.Aborted {
			t.Errorf("chat.abort: %+v, %v", end, err)
		}
		<-hungUp
	}
}

func (h *house) cliThatLeaves(t *testing.T, sig os.Signal) func() {
	cmd := h.program(t.Context(), "agent", "-m", "stream")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Wait() })
	return func() { cmd.Process.Signal(sig) }
}
