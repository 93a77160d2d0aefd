package agent

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"openclaw/gateway/store"
	"openclaw/reload/config"
)

// A reading is a transcript of a provider's answer and what it means.
type reading struct {
	name, in       string
	text, thinking string
	calls          []store.Part
	stop           string
	in64, out64    int64 // usage
	err            string
}

// check sends the transcript whole, line by line and byte by byte, with each
// kind of line end.
func (c *reading) check(t *testing.T, api string) {
	ends := map[string]string{"LF": "\n", "CRLF": "\r\n", "CR": "\r"}
	splits := map[string]func(string) []string{
		"whole": func(s string) []string { return []string{s} },
		"lines": func(s string) []string { return strings.SplitAfter(s, "\n") },
		"mid-rune": func(s string) (out []string) {
			for i := range len(s) {
				out = append(out, s[i:i+1])
			}
			return out
		},
	}
	for end, nl := range ends {
		for split, cut := range splits {
			t.Run(end+"/"+split, func(t *testing.T) {
				inBubble(t, func(t *testing.T, n *fakeNet) {
					typ := "text/event-stream"
					if strings.HasPrefix(c.in, "{") {
						typ = "application/json"
					}
					n.host("a.test", then(func(w http.ResponseWriter, r *http.Request) {
						w.Header().Set("Content-Type", typ)
					}, plain(cut(strings.ReplaceAll(c.in, "\n", nl))...)))
					m := n.models(api)
					o := n.ask(t.Context(), m, "a/m")
					c.compare(t, o)
				})
			})
		}
	}
}

func (c *reading) compare(t *testing.T, o outcome) {
	t.Helper()
	if c.err != "" {
		if o.err == nil || !strings.Contains(o.err.Error(), c.err) {
			t.Errorf("error %v", o.err)
		}
		return
	}
	if o.err != nil {
		t.Fatal(o.err)
	}
	if o.text != c.text || o.thinking != c.thinking || o.res.StopReason != c.stop {
		t.Errorf("text %q, thinking %q, stop %s", o.text, o.thinking, o.res.StopReason)
	}
	if u := o.res.Usage; u.Input != c.in64 || u.Output != c.out64 {
		t.Errorf("usage %+v", u)
	}
	i := 0
	for _, p := range o.res.Content {
		if p.Type != store.PartToolCall {
			continue
		}
		if i == len(c.calls) {
			t.Fatalf("one call too many: %+v", p)
		}
		want := c.calls[i]
		if p.ID != want.ID && (want.ID != "" || len(p.ID) < 20) || p.Name != want.Name || string(p.Arguments) != string(want.Arguments) {
			t.Errorf("call %d: %+v %s", i, p, p.Arguments)
		}
		i++
	}
	if i != len(c.calls) {
		t.Errorf("%d calls", i)
	}
}

func call(id, name, args string) store.Part {
	return store.Part{Type: store.PartToolCall, ID: id, Name: name, Arguments: []byte(args)}
}

const openAIUsageChunk = `data: {"choices":[],"usage":{"prompt_tokens":11,"completion_tokens":7,"total_tokens":18}}` + "\n\n"

func TestOpenAIAnswers(t *testing.T) {
	done := "data: [DONE]\n\n"
	chunk := func(delta, finish string) string {
		if finish != "null" {
			finish = `"` + finish + `"`
		}
		return `data: {"id":"x","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":` + delta + `,"logprobs":null,"finish_reason":` + finish + `}],"usage":null}` + "\n\n"
	}
	tests := []reading{
		{name: "documented", in: chunk(`{"role":"assistant","content":""}`, "null") + chunk(`{"content":"Grüße"}`, "null") + chunk(`{"content":" 🦞!"}`, "null") + chunk(`{}`, "stop") + openAIUsageChunk + done,
			text: "Grüße 🦞!", stop: stopEnd, in64: 11, out64: 7},
		{name: "keep-alives", in: ": OPENROUTER PROCESSING\n\n: x\n\n" + chunk(`{"content":"a"}`, "null") + ":\n\n" + chunk(`{"content":null}`, "stop") + done, text: "a", stop: stopEnd},
		{name: "no space, several lines of data", in: "data:{\"choices\":\ndata:[{\"delta\":{\"content\":\"a\"},\ndata:\"finish_reason\":\"stop\"}]}\n\ndata:[DONE]\n\n", text: "a", stop: stopEnd},
		{name: "without DONE", in: chunk(`{"content":"a"}`, "null") + chunk(`{}`, "stop"), text: "a", stop: stopEnd},
		{name: "without DONE or last empty line", in: strings.TrimSpace(chunk(`{"content":"a"}`, "stop")), text: "a", stop: stopEnd},
		{name: "without reason", in: chunk(`{"content":"a"}`, "null") + done, text: "a", stop: stopEnd},
		{name: "without either", in: chunk(`{"content":"a"}`, "null"), err: "connection closed early"},
		{name: "only DONE", in: done, err: "without an answer"},
		{name: "empty but finished", in: chunk(`{}`, "stop") + done, stop: stopEnd},
		{name: "length", in: chunk(`{"content":"a"}`, "length") + done, text: "a", stop: stopLength},
		{name: "filter", in: chunk(`{"content":"a"}`, "content_filter") + done, err: "content filter"},
		{name: "reason error", in: chunk(`{"content":"a"}`, "error") + done, err: "ended the answer with an error"},
		{name: "refusal", in: chunk(`{"refusal":"No."}`, "stop") + done, text: "No.", stop: stopEnd},
		{name: "usage beside the reason", in: `data: {"choices":[{"delta":{"content":"a"},"finish_reason":"stop"}],"usage":{"prompt_tokens":3,"completion_tokens":4}}` + "\n\n", text: "a", stop: stopEnd, in64: 3, out64: 4},
		{name: "usage in the choice", in: `data: {"choices":[{"delta":{"content":"a"},"finish_reason":"stop","usage":{"prompt_tokens":3,"completion_tokens":4}}]}` + "\n\n", text: "a", stop: stopEnd, in64: 3, out64: 4},
		{name: "usage so far", in: `data: {"choices":[{"delta":{"content":"a"}}],"usage":{"prompt_tokens":3,"completion_tokens":1}}` + "\n\n" + chunk(`{"content":"b"}`, "stop") + openAIUsageChunk, text: "ab", stop: stopEnd, in64: 11, out64: 7},
		{name: "odd usage", in: chunk(`{"content":"a"}`, "stop") + `data: {"choices":[],"usage":{"prompt_tokens":-3,"completion_tokens":"many"}}` + "\n\n" + done, text: "a", stop: stopEnd},
		{name: "content in parts", in: chunk(`{"content":[{"type":"text","text":"a"},{"type":"text","text":"b"}]}`, "stop") + done, text: "ab", stop: stopEnd},
		{name: "reasoning_content", in: chunk(`{"reasoning_content":"hm "}`, "null") + chunk(`{"reasoning_content":"so"}`, "null") + chunk(`{"content":"a"}`, "stop") + done, thinking: "hm so", text: "a", stop: stopEnd},
		{name: "reasoning", in: chunk(`{"reasoning":"hm","content":""}`, "null") + chunk(`{"content":"a"}`, "stop") + done, thinking: "hm", text: "a", stop: stopEnd},
		{name: "reasoning under both names", in: chunk(`{"reasoning":"hm","reasoning_content":"hm"}`, "null") + chunk(`{"content":"a"}`, "stop") + done, thinking: "hm", text: "a", stop: stopEnd},
		{name: "parallel tool calls", in: chunk(`{"tool_calls":[{"index":0,"id":"c1","type":"function","function":{"name":"read","arguments":""}}]}`, "null") +
			chunk(`{"tool_calls":[{"index":1,"id":"c2","type":"function","function":{"name":"exec","arguments":"{\"a\""}}]}`, "null") +
			chunk(`{"tool_calls":[{"index":0,"function":{"arguments":"{\"path\":"}},{"index":1,"function":{"arguments":":1}"}}]}`, "null") +
			chunk(`{"tool_calls":[{"index":0,"function":{"arguments":"\"ü\"}"}}]}`, "null") + chunk(`{}`, "tool_calls") + openAIUsageChunk + done,
			calls: []store.Part{call("c1", "read", `{"path":"ü"}`), call("c2", "exec", `{"a":1}`)}, stop: stopTool, in64: 11, out64: 7},
		{name: "text and a call, reason stop", in: chunk(`{"content":"Let me see."}`, "null") + chunk(`{"tool_calls":[{"index":0,"id":"c1","function":{"name":"read","arguments":"{}"}}]}`, "stop") + done,
			text: "Let me see.", calls: []store.Part{call("c1", "read", `{}`)}, stop: stopTool},
		{name: "calls all numbered 0", in: chunk(`{"tool_calls":[{"index":0,"id":"c1","function":{"name":"read","arguments":"{\"a\":1}"}}]}`, "null") + chunk(`{"tool_calls":[{"index":0,"id":"c2","function":{"name":"read","arguments":"{\"a\":2}"}}]}`, "tool_calls") + done,
			calls: []store.Part{call("c1", "read", `{"a":1}`), call("c2", "read", `{"a":2}`)}, stop: stopTool},
		{name: "calls without number or id", in: chunk(`{"tool_calls":[{"function":{"name":"read","arguments":{"a":1}}},{"function":{"name":"exec"}}]}`, "tool_calls") + done,
			calls: []store.Part{call("", "read", `{"a":1}`), call("", "exec", `{}`)}, stop: stopTool},
		{name: "id and name repeated", in: chunk(`{"tool_calls":[{"index":0,"id":"c1","function":{"name":"read","arguments":"{"}}]}`, "null") + chunk(`{"tool_calls":[{"index":0,"id":"c1","function":{"name":"read","arguments":"}"}}]}`, "tool_calls") + done,
			calls: []store.Part{call("c1", "read", `{}`)}, stop: stopTool},
		{name: "arguments that are no JSON", in: chunk(`{"tool_calls":[{"index":0,"id":"c1","function":{"name":"read","arguments":"{path: \"x"}}]}`, "length") + done,
			calls: []store.Part{call("c1", "read", `"{path: \"x"`)}, stop: stopLength},
		{name: "call without a name", in: chunk(`{"tool_calls":[{"index":0,"function":{"arguments":"{}"}}]}`, "tool_calls") + done, err: "tool call without a name"},
		{name: "error object", in: chunk(`{"content":"a"}`, "null") + `data: {"error":{"message":"Provider disconnected","code":502}}` + "\n\n", err: "502 Bad Gateway: Provider disconnected"},
		{name: "vLLM's error", in: `data: {"object":"error","message":"too long","type":"BadRequestError","code":400}` + "\n\n" + done, err: "400 Bad Request: too long"},
		{name: "error after the end is late", in: chunk(`{"content":"a"}`, "stop") + "data: {{\n\n", text: "a", stop: stopEnd},
		{name: "null error", in: `data: {"error":null,"choices":[{"delta":{"content":"a"},"finish_reason":"stop"}]}` + "\n\n", text: "a", stop: stopEnd},
		{name: "plain JSON", in: `{"id":"x","object":"chat.completion","choices":[{"index":0,"message":{"role":"assistant","content":"Grüße","reasoning_content":"hm","tool_calls":[{"id":"c1","type":"function","function":{"name":"read","arguments":"{\"a\":1}"}},{"id":"c2","type":"function","function":{"name":"exec","arguments":"{}"}}]},"finish_reason":"tool_calls"}],` + "\n" + `"usage":{"prompt_tokens":5,"completion_tokens":6,"total_tokens":11}}`,
			text: "Grüße", thinking: "hm", calls: []store.Part{call("c1", "read", `{"a":1}`), call("c2", "exec", `{}`)}, stop: stopTool, in64: 5, out64: 6},
		{name: "plain JSON error", in: `{"error":{"message":"no","type":"invalid_request_error"}}`, err: "400 Bad Request: no"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) { tt.check(t, config.APIOpenAICompletions) })
	}
}

func f64(f float64) *float64 { return &f }

// conversation has everything that a request can hold.
func conversation() *modelRequest {
	image := store.Part{Type: store.PartImage, MimeType: "image/png", Data: "iVBORw0="}
	return &modelRequest{
		System: "Be <brief>.",
		Messages: []store.Message{
			{Role: store.RoleUser, Content: store.Text("hello")},
			{Role: store.RoleUser, Content: store.Content{{Type: store.PartText, Text: "look"}, image}},
			{Role: store.RoleAssistant, API: config.APIAnthropicMessages, Provider: "a", Model: "m", Content: store.Content{
				{Type: store.PartThinking, Thinking: "hm", ThinkingSignature: "sig"},
				{Type: store.PartThinking, Thinking: "unsigned"},
				{Type: store.PartText, Text: "Let me see."},
				call("call|1", "read", `{"path":"a"}`),
				call("c2", "exec", `"{broken"`),
			}},
			{Role: store.RoleToolResult, ToolCallID: "call|1", Content: store.Content{{Type: store.PartText, Text: "text"}, image}},
			{Role: store.RoleToolResult, ToolCallID: "c2", IsError: true},
			{Role: store.RoleAssistant, Content: store.Content{{Type: store.PartText}}, StopReason: stopAborted},
			{Role: "bashExecution", Content: store.Text("of another program")},
			{Role: store.RoleAssistant, Content: store.Text("done"), Model: "m"},
			{Role: store.RoleUser, Content: store.Content{{Type: store.PartText, Text: "thanks"}, {Type: store.PartText, Text: "bye"}}},
		},
		Tools:       []Tool{{Name: "read", Description: "Reads.", Parameters: []byte(`{"type":"object"}`), Strict: true}, {Name: "exec"}},
		ToolChoice:  []byte(`{"type":"function","function":{"name":"read"}}`),
		MaxTokens:   50,
		Temperature: f64(1.5), TopP: f64(0.9),
		Stop:       []string{"END", "\n"},
		SessionKey: "agent:main:main",
	}
}

// sent is the body that a host receives for r.
func sent(t *testing.T, api string, r *modelRequest) (body []byte) {
	inBubble(t, func(t *testing.T, n *fakeNet) {
		a := n.host("a.test", say(api, "ok"))
		if o := n.askFor(t.Context(), n.models(api), r, "a/m"); o.err != nil {
			t.Fatal(o.err)
		}
		body = a.requests()[0].body
	})
	return body
}

func TestOpenAIRequest(t *testing.T) {
	sameJSON(t, sent(t, config.APIOpenAICompletions, conversation()), `{
		"model":"m","stream":true,"stream_options":{"include_usage":true},
		"max_tokens":50,"temperature":1.5,"top_p":0.9,"stop":["END","\n"],
		"tools":[
			{"type":"function","function":{"name":"read","description":"Reads.","parameters":{"type":"object"},"strict":true}},
			{"type":"function","function":{"name":"exec","parameters":{"type":"object","properties":{}}}}],
		"tool_choice":{"type":"function","function":{"name":"read"}},
		"messages":[
			{"role":"system","content":"Be <brief>."},
			{"role":"user","content":"hello"},
			{"role":"user","content":[{"type":"text","text":"look"},{"type":"image_url","image_url":{"url":"data:image/png;base64,iVBORw0="}}]},
			{"role":"assistant","content":"Let me see.","tool_calls":[
				{"id":"call|1","type":"function","function":{"name":"read","arguments":"{\"path\":\"a\"}"}},
				{"id":"c2","type":"function","function":{"name":"exec","arguments":"{broken"}}]},
			{"role":"tool","tool_call_id":"call|1","content":"text"},
			{"role":"tool","tool_call_id":"c2","content":""},
			{"role":"user","content":[{"type":"text","text":"Images from the tool results above:"},{"type":"image_url","image_url":{"url":"data:image/png;base64,iVBORw0="}}]},
			{"role":"assistant","content":"done"},
			{"role":"user","content":"thanks\nbye"}]}`)
}

func TestOpenAIHosts(t *testing.T) {
	tests := []struct {
		host      string
		reasoning bool
		want      string
	}{
		{"localhost", true, `"max_tokens":50,"temperature":1.5,"top_p":0.9`},
		{"openrouter.ai", false, `"max_tokens":50,"temperature":1.5,"top_p":0.9`},
		{"api.openai.com", false, `"max_completion_tokens":50,"temperature":1.5,"top_p":0.9`},
		{"api.openai.com", true, `"max_completion_tokens":50`},
		{"me.openai.azure.com", false, `"max_completion_tokens":50,"temperature":1.5,"top_p":0.9`},
	}
	for _, tt := range tests {
		r := &modelRequest{MaxTokens: 50, Temperature: f64(1.5), TopP: f64(0.9)}
		r.Model.ID, r.Model.Reasoning = "m", tt.reasoning
		body, err := openAIBody(r, tt.host)
		if err != nil {
			t.Fatal(err)
		}
		sameJSON(t, body, `{"model":"m","messages":[],"stream":true,"stream_options":{"include_usage":true},`+tt.want+`}`)
	}
}

func TestMaxTokens(t *testing.T) {
	for asked, want := range map[int]string{0: `_tokens":1000`, 10: `_tokens":10`, 5000: `_tokens":1000`} {
		for _, api := range []string{config.APIOpenAICompletions, config.APIOpenAIResponses, config.APIAnthropicMessages} {
			if body := sent(t, api, &modelRequest{MaxTokens: asked}); !strings.Contains(string(body), want) {
				t.Errorf("%d: %s", asked, body)
			}
		}
	}
}

// Images go to models that take them only; the others are told.
func TestImagesForTextModels(t *testing.T) {
	r := conversation()
	noStop := *r
	noStop.Stop = nil
	for _, encode := range []func() ([]byte, error){
		func() ([]byte, error) { return openAIBody(r, "localhost") },
		func() ([]byte, error) { return anthropicBody(r) },
		func() ([]byte, error) { return responsesBody(&noStop, "localhost") },
	} {
		body, err := encode()
		if err != nil || strings.Contains(string(body), "iVBORw0=") || strings.Count(string(body), "image left out") != 2 {
			t.Errorf("%s, %v", body, err)
		}
	}
}

func TestBadTools(t *testing.T) {
	bubble(t, func(t *testing.T, n *fakeNet, api string) {
		n.host("a.test", say(api, "ok"))
		m := n.models(api)
		for _, r := range []*modelRequest{
			{Tools: []Tool{{Name: "x", Parameters: []byte("{")}}},
			{Tools: []Tool{{Name: "x"}}, ToolChoice: []byte("{")},
		} {
			if o := n.askFor(t.Context(), m, r, "a/m"); o.err == nil || o.took != 0 {
				t.Errorf("error %v", o.err)
			}
		}
	})
}

// replyOf is a reply that no network brought.
func replyOf(r io.Reader) *reply {
	ctx := context.Background()
	call, cancel := context.WithCancelCause(ctx)
	return &reply{request: &modelRequest{}, ctx: ctx, call: call, cancel: cancel, unhook: func() bool { return true },
		timer: time.NewTimer(time.Hour), body: io.NopCloser(r), idle: time.Hour}
}

func TestReplyIsBounded(t *testing.T) {
	a := replyOf(strings.NewReader(strings.Repeat(":\n", 100)))
	a.total = maxReply - 100
	p := &openAIParser{draft: draft{emit: func(delta) {}}, reply: a}
	if _, err := a.parse(&p.draft, p.event); err == nil || !strings.Contains(err.Error(), "too many bytes") {
		t.Error(err)
	}
}

// Whatever a provider sends, reading it ends, and what is kept can be stored.
func FuzzAnswer(f *testing.F) {
	f.Add(uint8(0), []byte(openAIUsageChunk+`data: {"choices":[{"delta":{"content":"ü","tool_calls":[{"index":1,"id":"c","function":{"name":"x","arguments":"{"}}]},"finish_reason":"stop"}]}`))
	f.Add(uint8(0), []byte(`{"choices":[{"message":{"content":[{"text":"a"}],"reasoning":"b"},"finish_reason":"length"}]}`))
	f.Add(uint8(1), []byte(event("message_start", `"message":{"usage":{"input_tokens":1}}`)+event("content_block_start", `"index":0,"content_block":{"type":"tool_use","id":"t","name":"x","input":{"a":1}}`)+
		event("content_block_delta", `"index":0,"delta":{"type":"input_json_delta","partial_json":"{"}`)+event("content_block_stop", `"index":0`)+event("message_delta", `"delta":{"stop_reason":"tool_use"}`)))
	f.Add(uint8(1), []byte(event("error", `"error":{"type":"overloaded_error","message":"Overloaded"}`)))
	f.Add(uint8(2), []byte(event("response.output_item.added", `"output_index":0,"item":{"type":"function_call","call_id":"c","name":"x"}`)+event("response.function_call_arguments.delta", `"output_index":0,"delta":"{"`)+
		event("response.output_text.delta", `"output_index":1,"delta":"ü"`)+event("response.completed", `"response":{"status":"completed","output":[{},{"type":"message","content":[{"text":"ü"}]}]}`)))
	f.Add(uint8(2), []byte(`{"object":"response","status":"incomplete","output":[{"type":"reasoning","summary":[{"text":"hm"}]}]}`))
	f.Fuzz(func(t *testing.T, api uint8, in []byte) {
		a := replyOf(bytes.NewReader(in))
		var emitted strings.Builder
		d := draft{emit: func(d delta) { emitted.WriteString(d.Text + d.Thinking) }}
		var res *modelResult
		var err error
		switch api % 3 {
		case 0:
			p := &openAIParser{draft: d, reply: a}
			res, err = a.parse(&p.draft, p.event)
		case 1:
			p := &anthropicParser{draft: d, reply: a}
			res, err = a.parse(&p.draft, p.event)
		default:
			p := newResponsesParser(a, d.emit)
			res, err = a.parse(&p.draft, p.event)
		}
		if err == nil && (res == nil || res.StopReason == "") || err != nil && !isModelError(err) {
			t.Fatalf("%+v, %v", res, err)
		}
		if res == nil {
			return
		}
		text := ""
		for _, p := range res.Content {
			text += p.Text + p.Thinking
		}
		if len(text) != emitted.Len() || !utf8.ValidString(text) {
			t.Fatalf("result %q, emitted %q", text, emitted.String())
		}
		if _, err := json.Marshal(store.Message{Role: store.RoleAssistant, Content: res.Content}); err != nil {
			t.Fatal(err)
		}
	})
}

func BenchmarkOpenAIChunk(b *testing.B) {
	data := []byte(`{"id":"chatcmpl-0123456789","object":"chat.completion.chunk","created":1763800000,"model":"m","system_fingerprint":"fp","choices":[{"index":0,"delta":{"content":" word"},"logprobs":null,"finish_reason":null}]}`)
	p := &openAIParser{draft: draft{emit: func(delta) {}}}
	b.ReportAllocs()
	for b.Loop() {
		if p.draft.size = 0; len(p.blocks) > 0 {
			p.blocks[0].text.Reset()
		}
		if _, err := p.event(nil, data); err != nil {
			b.Fatal(err)
		}
	}
}
