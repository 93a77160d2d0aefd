package agent

import (
	"strings"
	"testing"

	"openclaw/gateway/store"
	"openclaw/reload/config"
)

// endedWith is the event that ends an answer, with what else its response holds.
func endedWith(status, more string) string {
	return event("response."+status, `"sequence_number":9,"response":{"id":"resp_1","object":"response","status":"`+status+`","usage":{"input_tokens":11,"input_tokens_details":{"cached_tokens":0},"output_tokens":7,"output_tokens_details":{"reasoning_tokens":0},"total_tokens":18}`+more+`}`)
}

func TestResponsesAnswers(t *testing.T) {
	start := event("response.created", `"sequence_number":0,"response":{"id":"resp_1","object":"response","status":"in_progress","output":[],"usage":null}`) +
		event("response.in_progress", `"sequence_number":1,"response":{"status":"in_progress"}`)
	end := endedWith("completed", `,"error":null,"incomplete_details":null,"output":[]`)
	text := func(index, s string) string {
		at := `"item_id":"msg_1","output_index":` + index + `,"content_index":0`
		return event("response.output_item.added", `"output_index":`+index+`,"item":{"type":"message","id":"msg_1","role":"assistant","status":"in_progress","content":[]}`) +
			event("response.content_part.added", at+`,"part":{"type":"output_text","text":"","annotations":[]}`) +
			event("response.output_text.delta", at+`,"logprobs":[],"delta":"`+s[:2]+`"`) +
			event("response.output_text.delta", at+`,"logprobs":[],"delta":"`+s[2:]+`"`) +
			event("response.output_text.done", at+`,"text":"`+s+`"`) +
			event("response.output_item.done", `"output_index":`+index+`,"item":{"type":"message","id":"msg_1","role":"assistant","status":"completed","content":[{"type":"output_text","text":"`+s+`"}]}`)
	}
	tool := func(index, id, name string, pieces ...string) string {
		at := `"item_id":"fc_` + index + `","output_index":` + index
		all := strings.ReplaceAll(strings.Join(pieces, ""), `"`, `\"`)
		s := event("response.output_item.added", `"output_index":`+index+`,"item":{"type":"function_call","id":"fc_`+index+`","call_id":"`+id+`","name":"`+name+`","arguments":"","status":"in_progress"}`)
		for _, p := range pieces {
			s += event("response.function_call_arguments.delta", at+`,"delta":"`+strings.ReplaceAll(p, `"`, `\"`)+`"`)
		}
		return s + event("response.function_call_arguments.done", at+`,"arguments":"`+all+`"`) +
			event("response.output_item.done", `"output_index":`+index+`,"item":{"type":"function_call","id":"fc_`+index+`","call_id":"`+id+`","name":"`+name+`","arguments":"`+all+`","status":"completed"}`)
	}
	reasoning := func(kind, part string) string {
		at := `"item_id":"rs_1","output_index":0,"` + part + `":0`
		return event("response.output_item.added", `"output_index":0,"item":{"type":"reasoning","id":"rs_1","summary":[]}`) +
			event("response."+kind+".delta", at+`,"delta":"hm "`) + event("response."+kind+".delta", at+`,"delta":"so"`) + event("response."+kind+".done", at+`,"text":"hm so"`) +
			event("response.output_item.done", `"output_index":0,"item":{"type":"reasoning","id":"rs_1","summary":[{"type":"summary_text","text":"hm so"}]}`)
	}
	hello := reading{text: "Grüße 🦞!", stop: stopEnd, in64: 11, out64: 7}
	like := func(name, in string) reading { r := hello; r.name, r.in = name, in; return r }
	tests := []reading{
		like("documented", start+text("0", "Grüße 🦞!")+end),
		like("with DONE", start+text("0", "Grüße 🦞!")+end+"data: [DONE]\n\n"),
		like("without names", strings.ReplaceAll("\n"+start+text("0", "Grüße 🦞!")+end, "\nevent: ", "\n: ")),
		like("without types", strings.NewReplacer(`{"type":"response.output_text.delta",`, `{`, `{"type":"response.completed",`, `{`).Replace(start+text("0", "Grüße 🦞!")+end)),
		like("whole items only", start+event("response.output_item.done", `"output_index":0,"item":{"type":"message","content":[{"type":"output_text","text":"Grüße 🦞!"}]}`)+end),
		like("the end only", start+endedWith("completed", `,"output":[{"type":"message","content":[{"type":"output_text","text":"Grüße 🦞!"}]}]`)),
		like("the end repeats", start+text("0", "Grüße 🦞!")+endedWith("completed", `,"output":[{"type":"message","content":[{"type":"output_text","text":"Grüße 🦞!"}]}]`)),
		like("unknown events and items", start+event("keepalive", "")+event("response.output_item.added", `"output_index":1,"item":{"type":"web_search_call","id":"ws"}`)+event("response.output_item.done", `"output_index":1,"item":{"type":"web_search_call","id":"ws"}`)+text("0", "Grüße 🦞!")+event("response.audio.delta", `"delta":"x"`)+end),
		{name: "two texts", in: start + text("0", "one ") + text("1", "two ") + end, text: "one two ", stop: stopEnd, in64: 11, out64: 7},
		{name: "refusal", in: start + event("response.refusal.delta", `"output_index":0,"content_index":0,"delta":"No."`) + end, text: "No.", stop: stopEnd, in64: 11, out64: 7},
		{name: "refusal, whole", in: start + endedWith("completed", `,"output":[{"type":"message","content":[{"type":"refusal","refusal":"No."}]}]`), text: "No.", stop: stopEnd, in64: 11, out64: 7},
		{name: "parallel tool calls", in: start + tool("0", "c1", "read", `{"path":`, `"ü"}`) + tool("1", "c2", "exec", `{"a":1}`) + end,
			calls: []store.Part{call("c1", "read", `{"path":"ü"}`), call("c2", "exec", `{"a":1}`)}, stop: stopTool, in64: 11, out64: 7},
		{name: "text and a call without arguments", in: start + text("0", "Let me see.") + tool("1", "c1", "read") + end, text: "Let me see.", calls: []store.Part{call("c1", "read", `{}`)}, stop: stopTool, in64: 11, out64: 7},
		{name: "arguments at the end only", in: start + event("response.output_item.added", `"output_index":0,"item":{"type":"function_call","call_id":"c1","name":"read"}`) + event("response.function_call_arguments.done", `"output_index":0,"arguments":"{\"a\":1}"`) + end,
			calls: []store.Part{call("c1", "read", `{"a":1}`)}, stop: stopTool, in64: 11, out64: 7},
		{name: "a call in the end only", in: start + endedWith("completed", `,"output":[{"type":"function_call","name":"read","arguments":{"a":1}}]`), calls: []store.Part{call("", "read", `{"a":1}`)}, stop: stopTool, in64: 11, out64: 7},
		{name: "arguments that are no JSON", in: start + tool("0", "c1", "read", `{path: "x`) + endedWith("incomplete", `,"incomplete_details":{"reason":"max_output_tokens"}`), calls: []store.Part{call("c1", "read", `"{path: \"x"`)}, stop: stopLength, in64: 11, out64: 7},
		{name: "reasoning summary", in: start + reasoning("reasoning_summary_text", "summary_index") + text("1", "So it is.") + end, thinking: "hm so", text: "So it is.", stop: stopEnd, in64: 11, out64: 7},
		{name: "reasoning text", in: start + reasoning("reasoning_text", "content_index") + text("1", "So it is.") + end, thinking: "hm so", text: "So it is.", stop: stopEnd, in64: 11, out64: 7},
		{name: "reasoning of OpenResponses", in: start + reasoning("reasoning", "content_index") + text("1", "So it is.") + end, thinking: "hm so", text: "So it is.", stop: stopEnd, in64: 11, out64: 7},
		{name: "incomplete", in: start + text("0", "cut off") + endedWith("incomplete", `,"incomplete_details":{"reason":"max_output_tokens"}`), text: "cut off", stop: stopLength, in64: 11, out64: 7},
		{name: "empty", in: start + end, stop: stopEnd, in64: 11, out64: 7},
		{name: "odd usage", in: start + text("0", "okay") + event("response.completed", `"response":{"status":"completed","usage":{"input_tokens":-3,"output_tokens":"many"}}`), text: "okay", stop: stopEnd},
		{name: "whole", in: `{"id":"resp_1","object":"response","status":"completed","error":null,"output":[{"type":"reasoning","content":[{"type":"reasoning_text","text":"hm"}],"summary":[]},{"type":"message","content":[{"type":"output_text","text":"Grüße"}]},{"type":"function_call","call_id":"c1","name":"x","arguments":"{}"}],` + "\n" + `"usage":{"input_tokens":3,"output_tokens":4}}`,
			thinking: "hm", text: "Grüße", calls: []store.Part{call("c1", "x", `{}`)}, stop: stopTool, in64: 3, out64: 4},

		{name: "filter", in: start + text("0", "okay") + endedWith("incomplete", `,"incomplete_details":{"reason":"content_filter"}`), err: "content filter"},
		{name: "failed", in: start + endedWith("failed", `,"error":{"code":"rate_limit_exceeded","message":"too many"}`), err: "429 Too Many Requests: too many"},
		{name: "failed without a word", in: start + endedWith("failed", `,"error":null`), err: "ended the answer with an error"},
		{name: "cancelled", in: start + event("response.completed", `"response":{"status":"cancelled"}`), err: `status "cancelled"`},
		{name: "an end without a response", in: start + text("0", "okay") + event("response.completed", ""), err: "without an answer"},
		{name: "error event", in: start + event("error", `"code":"server_error","message":"gone","param":null`), err: "500 Internal Server Error: gone"},
		{name: "error event of OpenResponses", in: start + event("error", `"error":{"type":"invalid_request_error","code":null,"message":"no","param":null}`), err: "400 Bad Request: no"},
		{name: "error in plain text", in: start + "event: error\ndata: gone\n\n", err: "500 Internal Server Error: gone"},
		{name: "DONE without an end", in: start + text("0", "okay") + "data: [DONE]\n\n", err: "without an answer"},
		{name: "closed early", in: start + text("0", "okay"), err: "connection closed early"},
		{name: "arguments of nothing", in: start + event("response.function_call_arguments.delta", `"output_index":4,"delta":"{"`) + end, err: "did not begin"},
		{name: "call without a name", in: start + event("response.output_item.added", `"output_index":0,"item":{"type":"function_call","call_id":"c"}`) + end, err: "without a name"},
		{name: "broken JSON", in: start + "data: {{\n\n" + end, err: "not JSON"},
		{name: "whole error", in: `{"error":{"message":"no","type":"invalid_request_error"}}`, err: "400 Bad Request: no"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) { tt.check(t, config.APIOpenAIResponses) })
	}
}

func TestResponsesRequest(t *testing.T) {
	r := conversation()
	r.Stop, r.OneCall = nil, true
	sameJSON(t, sent(t, config.APIOpenAIResponses, r), `{
		"model":"m","stream":true,"store":false,"instructions":"Be <brief>.",
		"max_output_tokens":50,"temperature":1.5,"top_p":0.9,"parallel_tool_calls":false,
		"tools":[
			{"type":"function","name":"read","description":"Reads.","parameters":{"type":"object"},"strict":true},
			{"type":"function","name":"exec","parameters":{"type":"object","properties":{}},"strict":false}],
		"tool_choice":{"type":"function","name":"read"},
		"input":[
			{"type":"message","role":"user","content":"hello"},
			{"type":"message","role":"user","content":[{"type":"input_text","text":"look"},{"type":"input_image","image_url":"data:image/png;base64,iVBORw0=","detail":"auto"}]},
			{"type":"message","role":"assistant","content":"Let me see."},
			{"type":"function_call","call_id":"call|1","name":"read","arguments":"{\"path\":\"a\"}"},
			{"type":"function_call","call_id":"c2","name":"exec","arguments":"{broken"},
			{"type":"function_call_output","call_id":"call|1","output":[{"type":"input_text","text":"text"},{"type":"input_image","image_url":"data:image/png;base64,iVBORw0=","detail":"auto"}]},
			{"type":"function_call_output","call_id":"c2","output":""},
			{"type":"message","role":"assistant","content":"done"},
			{"type":"message","role":"user","content":"thanks\nbye"}]}`)
}

// What the protocol cannot say is refused, not left out.
func TestResponsesLimits(t *testing.T) {
	if _, err := responsesBody(&modelRequest{Stop: []string{"END"}}, "localhost"); err == nil || !strings.Contains(err.Error(), "no stop sequences") {
		t.Error(err)
	}
	r := &modelRequest{Temperature: f64(1)}
	r.Model.Reasoning = true
	for host, want := range map[string]bool{"api.openai.com": false, "localhost": true} {
		if body, err := responsesBody(r, host); err != nil || strings.Contains(string(body), "temperature") != want {
			t.Errorf("%s: %s, %v", host, body, err)
		}
	}
}

// One call at a time is asked for in each protocol's words, and only then.
func TestOneCall(t *testing.T) {
	for api, want := range map[string]string{
		config.APIOpenAICompletions: `"parallel_tool_calls":false`, config.APIOpenAIResponses: `"parallel_tool_calls":false`,
		config.APIAnthropicMessages: `"tool_choice":{"type":"auto","disable_parallel_tool_use":true}`,
	} {
		for _, one := range []bool{true, false} {
			body := string(sent(t, api, &modelRequest{Tools: []Tool{{Name: "x"}}, OneCall: one}))
			if strings.Contains(body, want) != one || !one && strings.Contains(body, "parallel") {
				t.Errorf("%s: %s", api, body)
			}
		}
	}
}
