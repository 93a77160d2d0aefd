package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

// fakeProvider answers as a model provider does, in each protocol, on
// whatever path it is asked; behave decides how.
type fakeProvider struct {
	url    string
	behave func(*exchange)
	serve  http.Handler // in place of behave

	mu     sync.Mutex
	bodies []string // of requests, as they came
}

// exchange is one request to the provider. Its text is what the user said last.
type exchange struct {
	w         http.ResponseWriter
	ctx       context.Context // ends when the gateway hangs up
	header    http.Header
	path      string
	text      string
	anthropic bool
	responses bool
}

func newProvider(t *testing.T, behave func(*exchange)) *fakeProvider {
	p := &fakeProvider{behave: behave}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: p}
	p.url = "http://" + l.Addr().String()
	served := make(chan struct{})
	go func() {
		s.Serve(l)
		close(served)
	}()
	t.Cleanup(func() {
		s.Close()
		<-served
	})
	return p
}

func (p *fakeProvider) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if p.serve != nil {
		p.serve.ServeHTTP(w, r)
		return
	}
	raw, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	p.mu.Lock()
	p.bodies = append(p.bodies, string(raw))
	p.mu.Unlock()
	var body struct {
		Messages []struct {
			Role    string          `json:"role"`
			Content json.RawMessage `json:"content"`
		} `json:"messages"`
		Input json.RawMessage `json:"input"` // what messages are in the responses protocol
	}
	if err := json.Unmarshal(raw, &body); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	x := &exchange{w: w, ctx: r.Context(), header: r.Header, path: r.URL.Path, anthropic: strings.HasSuffix(r.URL.Path, "/messages"), responses: strings.HasSuffix(r.URL.Path, "/responses")}
	json.Unmarshal(body.Input, &body.Messages)
	for _, m := range body.Messages {
		var parts []struct {
			Text string `json:"text"`
		}
		if m.Role != "user" {
			continue
		}
		x.text = ""
		if json.Unmarshal(m.Content, &x.text) == nil {
			continue
		}
		json.Unmarshal(m.Content, &parts)
		for _, part := range parts {
			x.text += part.Text
		}
	}
	p.behave(x)
}

// usage of every scripted answer, in the words of chat completions.
const (
	usageIn, usageCached, usageOut = 20, 4, 7
)

// script is the event stream of an answer, one event an element. The first
// holds a whole piece of the text.
func (x *exchange) script(pieces ...string) []string {
	var events []string
	quote := func(s string) string {
		raw, _ := json.Marshal(s)
		return string(raw)
	}
	event := func(name, rest string) {
		events = append(events, "event: "+name+"\ndata: {\"type\":\""+name+"\""+rest+"}\n\n")
	}
	if x.responses {
		for _, piece := range pieces {
			event("response.output_text.delta", `,"item_id":"msg_1","output_index":0,"content_index":0,"delta":`+quote(piece))
		}
		event("response.completed", fmt.Sprintf(`,"response":{"id":"resp_1","object":"response","status":"completed","output":[],"usage":{"input_tokens":%d,"input_tokens_details":{"cached_tokens":%d},"output_tokens":%d,"total_tokens":%d}}`, usageIn, usageCached, usageOut, usageIn+usageOut))
		return events
	}
	if !x.anthropic {
		chunk := func(choices, rest string) {
			events = append(events, `data: {"id":"c","object":"chat.completion.chunk","created":1,"model":"m","choices":[`+choices+`]`+rest+"}\n\n")
		}
		for _, piece := range pieces {
			chunk(`{"index":0,"delta":{"role":"assistant","content":`+quote(piece)+`},"finish_reason":null}`, "")
		}
		chunk(`{"index":0,"delta":{},"finish_reason":"stop"}`, "")
		chunk("", fmt.Sprintf(`,"usage":{"prompt_tokens":%d,"completion_tokens":%d,"total_tokens":%d,"prompt_tokens_details":{"cached_tokens":%d}}`, usageIn, usageOut, usageIn+usageOut, usageCached))
		return append(events, "data: [DONE]\n\n")
	}
	event("message_start", fmt.Sprintf(`,"message":{"id":"msg_1","type":"message","role":"assistant","model":"m","content":[],"stop_reason":null,"usage":{"input_tokens":%d,"cache_read_input_tokens":%d,"output_tokens":1}}`, usageIn-usageCached, usageCached))
	event("content_block_start", `,"index":0,"content_block":{"type":"text","text":""}`)
	event("ping", "")
	for _, piece := range pieces {
		event("content_block_delta", `,"index":0,"delta":{"type":"text_delta","text":`+quote(piece)+`}`)
	}
	event("content_block_stop", `,"index":0`)
	event("message_delta", fmt.Sprintf(`,"delta":{"stop_reason":"end_turn","stop_sequence":null},"usage":{"output_tokens":%d}`, usageOut))
	event("message_stop", "")
	return events
}

// stream sends parts of a script one by one, pausing after each. It reports
// whether the gateway listened to the end.
func (x *exchange) stream(parts []string, pause time.Duration) bool {
	x.w.Header().Set("Content-Type", "text/event-stream")
	flush := http.NewResponseController(x.w)
	for _, part := range parts {
		if _, err := io.WriteString(x.w, part); err != nil {
			return false
		}
		if flush.Flush() != nil {
			return false
		}
		if pause == 0 {
			continue
		}
		select {
		case <-time.After(pause):
		case <-x.ctx.Done():
			return false
		}
	}
	return true
}

// fail answers with an error in the protocol's words.
func (x *exchange) fail(status int, message string) {
	body := object{"error": object{"type": "some_error", "message": message, "code": nil}}
	if x.anthropic {
		body = object{"type": "error", "error": object{"type": "some_error", "message": message}}
	}
	raw, _ := json.Marshal(body)
	x.w.Header().Set("Content-Type", "application/json")
	x.w.WriteHeader(status)
	x.w.Write(raw)
}

// providerConfig is a provider of one model, m.
func providerConfig(url, api string) object {
	return object{"baseUrl": url, "api": api, "apiKey": "sk-unused-in-this-test", "models": []any{object{"id": "m"}}}
}

// oneModel configures the default agent to use a provider.
func oneModel(p *fakeProvider, gateway object) object {
	return object{
		"gateway": gateway,
		"models":  object{"providers": object{"fake": providerConfig(p.url+"/v1", "openai-completions")}},
		"agents":  object{"defaults": object{"model": "fake/m"}},
	}
}
