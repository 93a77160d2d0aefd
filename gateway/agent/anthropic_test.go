package agent

import (
	"strings"
	"testing"

	"openclaw/gateway/store"
	"openclaw/reload/config"
)

func TestAnthropicAnswers(t *testing.T) {
	start := event("message_start", `"message":{"id":"msg_01","type":"message","role":"assistant","model":"m","content":[],"stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":25,"cache_creation_input_tokens":0,"cache_read_input_tokens":0,"output_tokens":1}}`)
	text := func(index, words string) string {
		return event("content_block_start", `"index":`+index+`,"content_block":{"type":"text","text":""}`) + event("ping", "") +
			event("content_block_delta", `"index":`+index+`,"delta":{"type":"text_delta","text":"`+words[:1]+`"}`) +
			event("content_block_delta", `"index":`+index+`,"delta":{"type":"text_delta","text":"`+words[1:]+`"}`) +
			event("content_block_stop", `"index":`+index)
	}
	end := func(reason string) string {
		return event("message_delta", `"delta":{"stop_reason":"`+reason+`","stop_sequence":null},"usage":{"output_tokens":15}`) + event("message_stop", "")
	}
	tool := func(index, id string, args ...string) string {
		s := event("content_block_start", `"index":`+index+`,"content_block":{"type":"tool_use","id":"`+id+`","name":"get_weather","input":{}}`)
		for _, a := range args {
			s += event("content_block_delta", `"index":`+index+`,"delta":{"type":"input_json_delta","partial_json":"`+strings.ReplaceAll(a, `"`, `\"`)+`"}`)
		}
		return s + event("content_block_stop", `"index":`+index)
	}
	thinking := event("content_block_start", `"index":0,"content_block":{"type":"thinking","thinking":"","signature":""}`) +
		event("content_block_delta", `"index":0,"delta":{"type":"thinking_delta","thinking":"hm "}`) +
		event("content_block_delta", `"index":0,"delta":{"type":"thinking_delta","thinking":"so"}`) +
		event("content_block_delta", `"index":0,"delta":{"type":"signature_delta","signature":"EqQBCgIYAhIM1gbcDa9GJwZA2b3h"}`) +
		event("content_block_stop", `"index":0`)
	tests := []reading{
		{name: "documented", in: start + text("0", "Grüße 🦞!") + end("end_turn"), text: "Grüße 🦞!", stop: stopEnd, in64: 25, out64: 15},
		{name: "two texts", in: start + text("0", "one ") + text("1", "two") + end("end_turn"), text: "one two", stop: stopEnd, in64: 25, out64: 15},
		{name: "tool", in: start + text("0", "Okay:") + tool("1", "toolu_1", "", `{"location":`, ` "Köln`, `"}`) + end("tool_use"),
			text: "Okay:", calls: []store.Part{call("toolu_1", "get_weather", `{"location": "Köln"}`)}, stop: stopTool, in64: 25, out64: 15},
		{name: "two tools, one without arguments", in: start + tool("0", "t1", "") + tool("1", "t2", `{"a":1}`) + end("tool_use"),
			calls: []store.Part{call("t1", "get_weather", `{}`), call("t2", "get_weather", `{"a":1}`)}, stop: stopTool, in64: 25, out64: 15},
		{name: "arguments at the start", in: start + event("content_block_start", `"index":0,"content_block":{"type":"tool_use","id":"t1","name":"x","input":{"a":1}}`) + event("content_block_stop", `"index":0`) + end("tool_use"),
			calls: []store.Part{call("t1", "x", `{"a":1}`)}, stop: stopTool, in64: 25, out64: 15},
		{name: "thinking", in: start + thinking + text("1", "So.") + end("end_turn"), thinking: "hm so", text: "So.", stop: stopEnd, in64: 25, out64: 15},
		{name: "unknown blocks, deltas and events", in: start + event("content_block_start", `"index":0,"content_block":{"type":"redacted_thinking","data":"x"}`) + event("content_block_stop", `"index":0`) +
			event("content_block_start", `"index":1,"content_block":{"type":"server_tool_use","id":"s","name":"web_search","input":{}}`) +
			event("content_block_delta", `"index":1,"delta":{"type":"input_json_delta","partial_json":"{}"}`) + event("content_block_stop", `"index":1`) +
			event("brand_new", `"x":[1]`) + event("content_block_start", `"index":2,"content_block":{"type":"text","text":"a"}`) +
			event("content_block_delta", `"index":2,"delta":{"type":"citations_delta","citation":{}}`) + event("content_block_delta", `"index":7,"delta":{"type":"text_delta","text":"no"}`) + event("content_block_stop", `"index":2`) + end("end_turn"),
			text: "a", stop: stopEnd, in64: 25, out64: 15},
		{name: "max_tokens", in: start + text("0", "cut") + end("max_tokens"), text: "cut", stop: stopLength, in64: 25, out64: 15},
		{name: "stop_sequence", in: start + text("0", "cut") + end("stop_sequence"), text: "cut", stop: stopEnd, in64: 25, out64: 15},
		{name: "refusal", in: start + text("0", "cut") + end("refusal"), err: "content filter"},
		{name: "without message_stop", in: start + text("0", "cut") + strings.TrimSuffix(end("end_turn"), event("message_stop", "")), text: "cut", stop: stopEnd, in64: 25, out64: 15},
		{name: "closed early", in: start + text("0", "cut"), err: "connection closed early"},
		{name: "stop without reason", in: start + text("0", "cut") + event("message_stop", ""), err: "without an answer"},
		{name: "overloaded", in: start + text("0", "cut") + event("error", `"error":{"type":"overloaded_error","message":"Overloaded"}`), err: "529: Overloaded"},
		{name: "error in plain text", in: start + "event: error\ndata: gone\n\n", err: "500 Internal Server Error: gone"},
		{name: "whole message", in: `{"id":"msg_01","type":"message","role":"assistant","content":[{"type":"thinking","thinking":"hm","signature":"s"},{"type":"text","text":"Grüße"},{"type":"tool_use","id":"t1","name":"x","input":{"a":1}}],"stop_reason":"tool_use",` + "\n" + `"usage":{"input_tokens":3,"output_tokens":4}}`,
			thinking: "hm", text: "Grüße", calls: []store.Part{call("t1", "x", `{"a":1}`)}, stop: stopTool, in64: 3, out64: 4},
		{name: "whole error", in: `{"type":"error","error":{"type":"invalid_request_error","message":"no"}}`, err: "400 Bad Request: no"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) { tt.check(t, config.APIAnthropicMessages) })
	}
	t.Run("signature", func(t *testing.T) {
		inBubble(t, func(t *testing.T, n *fakeNet) {
			n.host("a.test", raw(start, thinking, text("1", "So."), end("end_turn")))
			o := n.ask(t.Context(), n.models(config.APIAnthropicMessages), "a/m")
			if o.err != nil || o.res.Content[0].ThinkingSignature != "EqQBCgIYAhIM1gbcDa9GJwZA2b3h" {
				t.Errorf("%+v, %v", o.res, o.err)
			}
		})
	})
}

func TestAnthropicRequest(t *testing.T) {
	sameJSON(t, sent(t, config.APIAnthropicMessages, conversation()), `{
		"model":"m","stream":true,"max_tokens":50,"temperature":1,"stop_sequences":["END"],
		"system":[{"type":"text","text":"Be <brief>.","cache_control":{"type":"ephemeral"}}],
		"tools":[{"name":"read","description":"Reads.","input_schema":{"type":"object"},"strict":true},{"name":"exec","input_schema":{"type":"object","properties":{}}}],
		"tool_choice":{"type":"tool","name":"read"},
		"messages":[
			{"role":"user","content":[{"type":"text","text":"hello"},{"type":"text","text":"look"},{"type":"image","source":{"type":"base64","media_type":"image/png","data":"iVBORw0="}}]},
			{"role":"assistant","content":[
				{"type":"thinking","thinking":"hm","signature":"sig"},
				{"type":"text","text":"Let me see."},
				{"type":"tool_use","id":"call_1","name":"read","input":{"path":"a"}},
				{"type":"tool_use","id":"c2","name":"exec","input":{"arguments":"{broken"}}]},
			{"role":"user","content":[
				{"type":"tool_result","tool_use_id":"call_1","content":[{"type":"text","text":"text"},{"type":"image","source":{"type":"base64","media_type":"image/png","data":"iVBORw0="}}]},
				{"type":"tool_result","tool_use_id":"c2","is_error":true}]},
			{"role":"assistant","content":[{"type":"text","text":"done"}]},
			{"role":"user","content":[{"type":"text","text":"thanks"},{"type":"text","text":"bye","cache_control":{"type":"ephemeral"}}]}]}`)
}

func TestAnthropicTurns(t *testing.T) {
	image := store.Content{{Type: store.PartThinking, Thinking: "x", ThinkingSignature: "of another model"}, {Type: store.PartText, Text: " \n"}}
	r := &modelRequest{MaxTokens: 9, TopP: f64(0.5), Messages: []store.Message{
		{Role: store.RoleAssistant, Content: store.Text("I was cut off")},
		{Role: store.RoleAssistant, Content: store.Text("twice"), API: config.APIAnthropicMessages, Provider: "other", Model: "m"},
		{Role: store.RoleAssistant, Content: image, API: config.APIAnthropicMessages, Provider: "other", Model: "m"},
		{Role: store.RoleUser, Content: store.Text(" ")},
		{Role: store.RoleToolResult, ToolCallID: strings.Repeat("ü", 100), Content: store.Text("r")},
		{Role: store.RoleUser, Content: store.Text("and?")},
	}}
	r.Model.ID, r.Model.Provider = "m", "a"
	body, err := anthropicBody(r)
	if err != nil {
		t.Fatal(err)
	}
	sameJSON(t, body, `{"model":"m","max_tokens":9,"stream":true,"top_p":0.5,"messages":[
		{"role":"user","content":[{"type":"text","text":"(earlier messages are left out)"}]},
		{"role":"assistant","content":[{"type":"text","text":"I was cut off"},{"type":"text","text":"twice"}]},
		{"role":"user","content":[{"type":"tool_result","tool_use_id":"`+strings.Repeat("_", 64)+`","content":[{"type":"text","text":"r"}]},{"type":"text","text":"and?"}]}]}`)
}

func TestAnthropicToolChoice(t *testing.T) {
	tests := map[string]string{
		`"auto"`: `{"type":"auto"}`, `"none"`: `{"type":"none"}`, `"required"`: `{"type":"any"}`, `null`: ``,
		`{"type":"function","function":{"name":"x"}}`: `{"type":"tool","name":"x"}`,
		`"maybe"`: "error", `{}`: "error", `[1]`: "error", `{`: "error",
	}
	for in, want := range tests {
		r := &modelRequest{Tools: []Tool{{Name: "x"}}, ToolChoice: []byte(in)}
		body, err := anthropicBody(r)
		switch {
		case want == "error":
			if err == nil || !strings.Contains(err.Error(), "tool_choice must be") {
				t.Errorf("%s: %v", in, err)
			}
		case err != nil || !strings.Contains(string(body), `"tool_choice":`+want) && want != "" || want == "" && strings.Contains(string(body), "tool_choice"):
			t.Errorf("%s: %s, %v", in, body, err)
		}
	}
}
