package gateway

import (
	"encoding/json"
	"strings"
	"testing"

	"openclaw/wire"
)

// TestCompletionRequest maps bodies to turns: what a turn is told, or why the
// body is refused.
func TestCompletionRequest(t *testing.T) {
	const png = "iVBORw0KGgo="
	for _, c := range []struct{ name, body, want string }{
		{"one message", `{"messages":[{"role":"user","content":"hi"}]}`,
			`[{"role":"user","content":[{"type":"text","text":"hi"}],"timestamp":0}]`},
		{"unknown members are tolerated", `{"messages":[{"role":"user","content":"hi","x":{}}],"seed":7,"logit_bias":{}}`,
			`[{"role":"user","content":[{"type":"text","text":"hi"}],"timestamp":0}]`},
		{"nulls as some libraries send them", `{"messages":[{"role":"user","content":"hi","name":null}],"stream":null,"tools":null,"stop":null,"temperature":null}`,
			`[{"role":"user","content":[{"type":"text","text":"hi"}],"timestamp":0}]`},
		{"system and developer", `{"messages":[{"role":"system","content":"a"},{"role":"developer","content":"b"},{"role":"user","content":"hi"}]}`,
			`a\n\nb | [{"role":"user","content":[{"type":"text","text":"hi"}],"timestamp":0}]`},
		{"parts", `{"messages":[{"role":"user","content":[{"type":"text","text":"see"},{"type":"image_url","image_url":{"url":"data:image/png;base64,` + png + `","detail":"low"}}]}]}`,
			`[{"role":"user","content":[{"type":"text","text":"see"},{"type":"image","mimeType":"image/png","data":"` + png + `"}],"timestamp":0}]`},
		{"tool call and result", `{"messages":[{"role":"user","content":"go"},{"role":"assistant","content":null,"tool_calls":[{"id":"c1","type":"function","function":{"name":"f","arguments":"{\"a\":1}"}}]},{"role":"tool","tool_call_id":"c1","content":"ok"}]}`,
			`[{"role":"user","content":[{"type":"text","text":"go"}],"timestamp":0},{"role":"assistant","content":[{"type":"toolCall","id":"c1","name":"f","arguments":{"a":1}}],"timestamp":0},{"role":"toolResult","toolCallId":"c1","toolName":"f","content":[{"type":"text","text":"ok"}],"isError":false,"timestamp":0}]`},

		{"no messages", `{}`, `error: must have required property 'messages'`},
		{"empty messages", `{"messages":[]}`, "error: Missing user message in `messages`."},
		{"assistant last", `{"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"b"}]}`, "error: Missing user message in `messages`."},
		{"unknown role", `{"messages":[{"role":"god","content":"x"}]}`, `error: messages.0.role: must be one of system, developer, user, assistant, tool`},
		{"empty content", `{"messages":[{"role":"user","content":""}]}`, `error: messages.0.content: must not be empty`},
		{"content of a wrong type", `{"messages":[{"role":"user","content":7}]}`, `error: messages.0.content: must be array`},
		{"an image to be fetched", `{"messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"http://169.254.169.254/x.png"}}]}]}`, `error: messages.0.content: image_url must be a data: URL`},
		{"an image that is none", `{"messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"data:text/html;base64,AAAA"}}]}]}`, `error: messages.0.content: image_url must be a data: URL`},
		{"bad base64", `{"messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"data:image/png;base64,A=A="}}]}]}`, `error: messages.0.content: image_url holds invalid base64`},
		{"audio", `{"messages":[{"role":"user","content":[{"type":"input_audio"}]}]}`, `error: messages.0.content: unsupported part "input_audio"`},
		{"result without id", `{"messages":[{"role":"tool","content":"x"}]}`, `error: messages.0: must have required property 'tool_call_id'`},
		{"arguments that are no object", `{"messages":[{"role":"assistant","tool_calls":[{"id":"c","function":{"name":"f","arguments":"[1"}}]},{"role":"user","content":"x"}]}`, `error: messages.0.tool_calls: arguments of "c" are not a JSON object`},
		{"a foreign tool type", `{"messages":[{"role":"user","content":"x"}],"tools":[{"type":"web_search"}]}`, `error: tools.0.type: only function tools are offered`},
		{"a tool without name", `{"messages":[{"role":"user","content":"x"}],"tools":[{"type":"function","function":{}}]}`, `error: `},
		{"two choices", `{"messages":[{"role":"user","content":"x"}],"n":2}`, `error: n: only one choice is offered`},
		{"bad stop", `{"messages":[{"role":"user","content":"x"}],"stop":{}}`, `error: stop: must be a string or at most 16 strings`},
		{"duplicate key", `{"messages":[{"role":"user","content":"x"}],"messages":[]}`, `error: `},
		{"other case", `{"Messages":[{"role":"user","content":"x"}]}`, `error: must have required property 'messages'`},
	} {
		t.Run(c.name, func(t *testing.T) {
			var req completionRequest
			got := ""
			err := wire.DecodeLoose([]byte(c.body), &req)
			if err == nil {
				turn, terr := req.turn()
				if err = terr; err == nil {
					raw, merr := json.Marshal(turn.Messages)
					if merr != nil {
						t.Fatal(merr)
					}
					got = string(raw)
					if turn.System != "" {
						sys, _ := json.Marshal(turn.System)
						got = strings.Trim(string(sys), `"`) + " | " + got
					}
				}
			}
			if err != nil {
				got = "error: " + err.Error()
				if we, ok := err.(*wire.Error); ok {
					got = "error: " + we.Message
				}
			}
			if strings.HasPrefix(c.want, "error: ") {
				if !strings.HasPrefix(got, c.want) || strings.Contains(got, "INVALID_REQUEST") {
					t.Errorf("got  %s\nwant %s…", got, c.want)
				}
			} else if !sameJSON(got, c.want) {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
}

// sameJSON compares without regard to the order of members; what stands before
// " | " is compared as text.
func sameJSON(a, b string) bool {
	ta, ja, oka := strings.Cut(a, " | ")
	tb, jb, okb := strings.Cut(b, " | ")
	if oka != okb {
		return false
	}
	if !oka {
		ta, ja, tb, jb = "", ta, "", tb
	}
	var va, vb any
	if json.Unmarshal([]byte(ja), &va) != nil || json.Unmarshal([]byte(jb), &vb) != nil {
		return false
	}
	x, _ := json.Marshal(va)
	y, _ := json.Marshal(vb)
	return ta == tb && string(x) == string(y)
}

func TestAgentOfModel(t *testing.T) {
	for model, want := range map[string]string{
		"": "", "openclaw": "", "openclaw:a": "a", "openclaw/a": "a", "agent:a": "a", "openclaw/default": "default",
		"gpt-4": "!", "openclaw:": "!", "agent:": "!", "OPENCLAW": "!",
	} {
		got, err := agentOfModel(model)
		if err != nil {
			got = "!"
		}
		if got != want {
			t.Errorf("%q: agent %q, want %q", model, got, want)
		}
	}
}

func TestValidBase64(t *testing.T) {
	long := strings.Repeat("QUJD", 5000)
	for s, want := range map[string]bool{
		"": false, "QQ==": true, "QUI=": true, "QUJD": true, "QUJ": false, "QQ=Q": false, "Q===": false, "QR==": false,
		"QUJD\n": false, long: true, long + "QQ==": true, long[:4094] + "==" + "QUJD": false,
	} {
		if validBase64(s) != want {
			t.Errorf("validBase64(%.20q…, %d bytes) = %v", s, len(s), !want)
		}
	}
}
