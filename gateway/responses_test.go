package gateway

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"

	"openclaw/wire"
)

// thinker is a model provider that does as the last message says.
func thinker(t *testing.T) (Options, *[]string) {
	l := newPipeListener()
	var asked []string // one request at a time
	s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		asked = append(asked, string(body))
		var req struct {
			Messages []struct {
				Role    string
				Content any
			}
			Tools []struct{ Function struct{ Name string } }
		}
		if json.Unmarshal(body, &req) != nil || len(req.Messages) == 0 {
			http.Error(w, "what?", http.StatusBadRequest)
			return
		}
		last := req.Messages[len(req.Messages)-1]
		said := fmt.Sprint(last.Content)
		delta := func(d string) { fmt.Fprintf(w, "data: {\"choices\":[{\"index\":0,\"delta\":%s}]}\n\n", d) }
		stop := "stop"
		switch {
		case strings.Contains(said, "refuse"):
			http.Error(w, `{"error":{"message":"no such thing","type":"invalid_request_error"}}`, http.StatusBadRequest)
			return
		case strings.Contains(said, "die"):
			delta(`{"content":"a first "}`)
			delta(`{"content":"word"}`)
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		case strings.Contains(said, "nothing"):
		case last.Role == "user" && len(req.Tools) > 0:
			delta(`{"content":"Let me see."}`)
			for i, f := range req.Tools {
				delta(fmt.Sprintf(`{"tool_calls":[{"index":%d,"id":"call_%d","function":{"name":%q,"arguments":"{\"city\":"}}]}`, i, i, f.Function.Name))
				delta(fmt.Sprintf(`{"tool_calls":[{"index":%d,"function":{"arguments":"\"Biel\"}"}}]}`, i))
			}
			stop = "tool_calls"
		default:
			if strings.Contains(said, "think") {
				delta(`{"reasoning_content":"hm "}`)
				delta(`{"reasoning_content":"so"}`)
			}
			if strings.Contains(said, "long") {
				stop = "length"
			}
			for _, piece := range []string{"Grüße", " 🦞 to ", fmt.Sprint(len(req.Messages))} {
				raw, _ := json.Marshal(piece)
				delta(`{"content":` + string(raw) + `}`)
			}
		}
		fmt.Fprintf(w, "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":%q}]}\n\n", stop)
		io.WriteString(w, "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":20,\"completion_tokens\":7,\"total_tokens\":27,\"prompt_tokens_details\":{\"cached_tokens\":4}}}\n\ndata: [DONE]\n\n")
	})}
	go s.Serve(l)
	t.Cleanup(func() { s.Close() })
	// It calls whatever it is offered: so only what a client offers.
	o := testOptions(t, strings.Replace(strings.Replace(modelConfig, `{gateway:`, `{tools:{allow:[]},gateway:`, 1), `models:[{id:"m"}]`, `models:[{id:"m",contextWindow:4000,input:["text","image"]}]`, 1))
	o.Dial = func(ctx context.Context, network, addr string) (net.Conn, error) { return l.dial(ctx, network, addr) }
	return o, &asked
}

// respond asks for a response and checks it, or the events that led to it,
// against the published contract. Of an error only the error object is returned.
func (r *running) respond(body string, header ...string) (int, map[string]any) {
	r.t.Helper()
	h := bearer(testToken)
	for i := 0; i < len(header); i += 2 {
		h[header[i]] = header[i+1]
	}
	status, got, raw := r.do("POST", "/v1/responses", h, body)
	if status == http.StatusOK && strings.HasPrefix(got.Get("Content-Type"), "text/event-stream") {
		return status, checkEvents(r.t, raw)
	}
	var out map[string]any
	if err := json.Unmarshal([]byte(raw), &out); err != nil {
		r.t.Fatalf("%d %s: %v", status, raw, err)
	}
	if status == http.StatusOK {
		checkResource(r.t, out)
		return status, out
	}
	e, _ := out["error"].(map[string]any)
	for _, member := range []string{"message", "type", "param", "code"} {
		if _, ok := e[member]; !ok {
			r.t.Errorf("error without %s: %s", member, raw)
		}
	}
	return status, e
}

// resourceMembers are those that the contract requires, and their types: n is
// a number, s a string, b true or false, a a list, o an object, 0 also null.
const resourceMembers = "id:s object:s created_at:n completed_at:n0 status:s incomplete_details:o0 model:s previous_response_id:s0 instructions:s0 output:a error:o0 " +
	"tools:a tool_choice:so truncation:s parallel_tool_calls:b text:o top_p:n presence_penalty:n frequency_penalty:n top_logprobs:n temperature:n reasoning:o0 user:s0 " +
	"usage:o0 max_output_tokens:n0 max_tool_calls:n0 store:b background:b service_tier:s metadata:o safety_identifier:s0 prompt_cache_key:s0"

func checkMembers(t testing.TB, what string, v map[string]any, members string) {
	t.Helper()
	for _, m := range strings.Fields(members) {
		name, types, _ := strings.Cut(m, ":")
		kind := "0"
		switch x := v[name].(type) {
		case float64:
			kind = "n"
		case string:
			kind = "s"
		case bool:
			kind = "b"
		case []any:
			kind = "a"
		case map[string]any:
			kind = "o"
		default:
			_ = x
		}
		if _, ok := v[name]; !ok || !strings.Contains(types, kind) {
			t.Errorf("%s: %s is %v, want %s", what, name, v[name], types)
		}
	}
}

func checkResource(t testing.TB, v map[string]any) {
	t.Helper()
	checkMembers(t, "response", v, resourceMembers)
	if usage, ok := v["usage"].(map[string]any); ok {
		checkMembers(t, "usage", usage, "input_tokens:n output_tokens:n total_tokens:n input_tokens_details:o output_tokens_details:o")
		checkMembers(t, "usage", usage["input_tokens_details"].(map[string]any), "cached_tokens:n")
		checkMembers(t, "usage", usage["output_tokens_details"].(map[string]any), "reasoning_tokens:n")
	}
	for _, tool := range v["tools"].([]any) {
		checkMembers(t, "tool", tool.(map[string]any), "type:s name:s description:s0 parameters:o0 strict:b0")
	}
	for _, item := range v["output"].([]any) {
		checkItem(t, item.(map[string]any))
	}
	if (v["status"] == "completed") != (v["completed_at"] != nil) {
		t.Errorf("status %v, completed at %v", v["status"], v["completed_at"])
	}
}

func checkItem(t testing.TB, item map[string]any) {
	t.Helper()
	switch item["type"] {
	case "message":
		checkMembers(t, "message", item, "id:s status:s role:s content:a")
		for _, part := range item["content"].([]any) {
			checkMembers(t, "part", part.(map[string]any), "type:s text:s annotations:a")
		}
	case "reasoning":
		checkMembers(t, "reasoning", item, "id:s summary:a")
	case "function_call":
		checkMembers(t, "call", item, "id:s call_id:s name:s arguments:s status:s")
	default:
		t.Errorf("item of type %v", item["type"])
	}
}

// eventMembers are the events that a response is told by.
var eventMembers = map[string]string{
	"response.created": "response:o", "response.in_progress": "response:o", "response.completed": "response:o", "response.incomplete": "response:o", "response.failed": "response:o",
	"response.output_item.added": "output_index:n item:o", "response.output_item.done": "output_index:n item:o",
	"response.content_part.added":            "item_id:s output_index:n content_index:n part:o",
	"response.content_part.done":             "item_id:s output_index:n content_index:n part:o",
	"response.output_text.delta":             "item_id:s output_index:n content_index:n delta:s",
	"response.output_text.done":              "item_id:s output_index:n content_index:n text:s",
	"response.reasoning_summary_part.added":  "item_id:s output_index:n summary_index:n part:o",
	"response.reasoning_summary_part.done":   "item_id:s output_index:n summary_index:n part:o",
	"response.reasoning_summary_text.delta":  "item_id:s output_index:n summary_index:n delta:s",
	"response.reasoning_summary_text.done":   "item_id:s output_index:n summary_index:n text:s",
	"response.function_call_arguments.delta": "item_id:s output_index:n delta:s",
	"response.function_call_arguments.done":  "item_id:s output_index:n arguments:s",
	"error":                                  "error:o",
}

// events reads a stream: its names, and what each says.
func events(t testing.TB, raw string) (list []map[string]any) {
	t.Helper()
	body, ok := strings.CutSuffix(raw, "data: [DONE]\n\n")
	if !ok {
		t.Errorf("no [DONE]: %s", raw)
	}
	for _, block := range strings.Split(strings.TrimSuffix(body, "\n\n"), "\n\n") {
		if strings.HasPrefix(block, ":") {
			continue
		}
		name, data, _ := strings.Cut(strings.TrimPrefix(block, "event: "), "\ndata: ")
		var e map[string]any
		if err := json.Unmarshal([]byte(data), &e); err != nil || e["type"] != name {
			t.Fatalf("event %q: %v", block, err)
		}
		list = append(list, e)
	}
	return list
}

// checkEvents replays a stream as a client does and wants what it pieced
// together to be what the last event says.
func checkEvents(t testing.TB, raw string) (final map[string]any) {
	t.Helper()
	list := events(t, raw)
	var done []any
	var open map[string]any
	var text string
	for i, e := range list {
		kind := e["type"].(string)
		members, ok := eventMembers[kind]
		if !ok || e["sequence_number"] != float64(i) {
			t.Errorf("event %d: %v", i, e)
		}
		checkMembers(t, kind, e, members)
		if at, ok := e["output_index"]; ok && at != float64(len(done)) {
			t.Errorf("%s: item %v, while %d are done", kind, at, len(done))
		}
		if id, ok := e["item_id"]; ok && (open == nil || id != open["id"]) {
			t.Errorf("%s of %v, while %v is open", kind, id, open)
		}
		if delta, ok := e["delta"].(string); ok {
			text += delta
		}
		for _, whole := range []string{"text", "arguments"} {
			if said, ok := e[whole]; ok && said != text {
				t.Errorf("%s says %q, the pieces %q", kind, said, text)
			}
		}
		switch kind {
		case "response.output_item.added":
			if open != nil {
				t.Errorf("two items are open: %v", e)
			}
			open, text = e["item"].(map[string]any), ""
			checkItem(t, open)
		case "response.output_item.done":
			if open == nil || e["item"].(map[string]any)["id"] != open["id"] {
				t.Errorf("%v is done, %v is open", e["item"], open)
			}
			open, done = nil, append(done, e["item"])
		case "response.created", "response.in_progress":
			checkResource(t, e["response"].(map[string]any))
			if i > 1 || e["response"].(map[string]any)["status"] != "in_progress" {
				t.Errorf("event %d: %v", i, e)
			}
		case "response.completed", "response.incomplete", "response.failed":
			final = e["response"].(map[string]any)
			checkResource(t, final)
			if i != len(list)-1 || "response."+final["status"].(string) != kind {
				t.Errorf("event %d of %d: %v", i, len(list), e)
			}
		}
	}
	if final == nil {
		t.Fatalf("no end: %s", raw)
	}
	if a, b := compact(done), compact(final["output"]); a != b && !(len(done) == 0 && b == "[]") {
		t.Errorf("pieced together %s\nat the end      %s", a, b)
	}
	return final
}

func compact(v any) string {
	raw, _ := wire.Marshal(v)
	return string(raw)
}

// outputs is a response's output in short: type and what it says.
func outputs(v map[string]any) string {
	var out []string
	for _, it := range v["output"].([]any) {
		item := it.(map[string]any)
		switch item["type"] {
		case "message":
			out = append(out, "message "+item["content"].([]any)[0].(map[string]any)["text"].(string))
		case "reasoning":
			out = append(out, "reasoning "+item["summary"].([]any)[0].(map[string]any)["text"].(string))
		default:
			out = append(out, fmt.Sprintf("%s %s %s%s", item["type"], item["call_id"], item["name"], item["arguments"]))
		}
	}
	return strings.Join(out, "; ")
}

const weather = `{"type":"function","name":"weather","description":"Says it.","parameters":{"type":"object"},"strict":true},{"type":"function","function":{"name":"time"}}`

// TestResponses asks for each kind of answer, whole and streamed. The first
// seven are what the OpenResponses compliance suite asks.
func TestResponses(t *testing.T) {
	const png = "data:image/png;base64,iVBORw0KGgo="
	user := func(text string) string { return `{"type":"message","role":"user","content":"` + text + `"}` }
	for _, c := range []struct{ name, more, input, status, want, asked string }{
		{"basic", ``, user("Say hello in exactly 3 words."), "completed", "message Grüße 🦞 to 2", `"Say hello in exactly 3 words."`},
		{"streaming", ``, user("Count from 1 to 5."), "completed", "message Grüße 🦞 to 2", ``},
		{"system prompt", ``, `{"type":"message","role":"system","content":"You are a pirate."},` + user("Say hello."), "completed", "message Grüße 🦞 to 2", `You are a pirate.`},
		{"tool calling", `,"tools":[` + weather + `]`, user("What's the weather?"), "completed", `message Let me see.; function_call call_0 weather{"city":"Biel"}; function_call call_1 time{"city":"Biel"}`, `"strict":true`},
		{"tool choice", `,"tools":[` + weather + `],"tool_choice":{"type":"allowed_tools","mode":"required","tools":[{"type":"function","name":"time"}]}`, user("What's the time?"), "completed", `message Let me see.; function_call call_0 time{"city":"Biel"}`, `"tool_choice":"required"`},
		{"image input", ``, `{"type":"message","role":"user","content":[{"type":"input_text","text":"What is this?"},{"type":"input_image","image_url":"` + png + `"}]}`, "completed", "message Grüße 🦞 to 2", png},
		{"multi-turn", ``, user("My name is Alice.") + `,{"type":"message","role":"assistant","content":"Hello Alice!"},` + user("What is my name?"), "completed", "message Grüße 🦞 to 4", `"Hello Alice!"`},

		{"instructions", `,"instructions":"Be <brief>."`, user("hi"), "completed", "message Grüße 🦞 to 2", `Be <brief>.`},
		{"a file", ``, `{"role":"user","content":[{"type":"input_file","filename":"a.txt","file_data":"data:text/plain;base64,R3LDvMOfZQ=="}]}`, "completed", "message Grüße 🦞 to 2", `[a.txt]\nGrüße`},
		{"a named tool", `,"tools":[` + weather + `],"tool_choice":{"type":"function","name":"weather"},"parallel_tool_calls":false`, user("hi"), "completed", `message Let me see.; function_call call_0 weather{"city":"Biel"}; function_call call_1 time{"city":"Biel"}`, `"tool_choice":{"function":{"name":"weather"},"type":"function"},"parallel_tool_calls":false`},
		{"results", ``, user("hi") + `,{"type":"reasoning","summary":[]},{"type":"function_call","call_id":"c1","name":"f","arguments":"{\"a\":1}"},{"type":"function_call","call_id":"c2","name":"g","arguments":""},` +
			`{"type":"function_call_output","call_id":"c1","output":"one"},{"type":"function_call_output","call_id":"c2","output":[{"type":"input_text","text":"two"},{"type":"input_image","image_url":"` + png + `"}]}`, "completed", "message Grüße 🦞 to 6", `"tool_call_id":"c2"`},
		{"thoughts", ``, user("think"), "completed", "reasoning hm so; message Grüße 🦞 to 2", ``},
		{"too long", `,"max_output_tokens":16`, user("long"), "incomplete", "message Grüße 🦞 to 2", `"max_tokens":16`},
		{"nothing said", ``, user("nothing"), "completed", "message ", ``},
		{"unknown members", `,"include":[],"stream_options":{"include_obfuscation":false},"x":{},"service_tier":"flex","top_logprobs":null,"temperature":0.5,"top_p":0.25,"metadata":{"k":"v"},"user":null,"safety_identifier":"me"`, user("hi"), "completed", "message Grüße 🦞 to 2", `"temperature":0.5,"top_p":0.25`},
	} {
		t.Run(c.name, func(t *testing.T) {
			o, asked := thinker(t)
			r := start(t, o)
			var whole string
			for _, stream := range []bool{false, true} {
				body := fmt.Sprintf(`{"model":"openclaw","stream":%v%s,"input":[%s]}`, stream, c.more, c.input)
				status, got := r.respond(body)
				if status != http.StatusOK || got["status"] != c.status || outputs(got) != c.want {
					t.Fatalf("stream %v: %d %v\n%s", stream, status, got, outputs(got))
				}
				if !strings.Contains((*asked)[len(*asked)-1], c.asked) {
					t.Errorf("the model was asked %s", (*asked)[len(*asked)-1])
				}
				if u := compact(got["usage"]); u != `{"input_tokens":20,"input_tokens_details":{"cached_tokens":4},"output_tokens":7,"output_tokens_details":{"reasoning_tokens":0},"total_tokens":27}` {
					t.Errorf("usage %s", u)
				}
				if (c.status == "incomplete") != (got["incomplete_details"] != nil) {
					t.Errorf("incomplete_details %v", got["incomplete_details"])
				}
				for _, member := range []string{"id", "created_at", "completed_at", "output"} { // differ from one to the next
					delete(got, member)
				}
				if !stream {
					whole = compact(got)
				} else if whole != compact(got) {
					t.Errorf("whole    %s\nstreamed %s", whole, compact(got))
				}
			}
		})
	}
}

// TestResponsesEcho wants what was asked for to be told with the response.
func TestResponsesEcho(t *testing.T) {
	o, _ := thinker(t)
	r := start(t, o)
	_, got := r.respond(`{"model":"openclaw/main","input":"hi","instructions":"i","tools":[` + weather + `],"tool_choice":"none","parallel_tool_calls":false,"max_tool_calls":3,"max_output_tokens":20,"temperature":0.5,"top_p":0.25,"truncation":"disabled","store":false,"metadata":{"k":"v"},"user":"kim","safety_identifier":"s","prompt_cache_key":"p"}`)
	for member, want := range map[string]string{
		"model": `"openclaw/main"`, "instructions": `"i"`, "tool_choice": `"none"`, "parallel_tool_calls": `false`, "max_tool_calls": `3`, "max_output_tokens": `20`,
		"temperature": `0.5`, "top_p": `0.25`, "truncation": `"disabled"`, "store": `false`, "metadata": `{"k":"v"}`, "user": `"kim"`, "safety_identifier": `"s"`, "prompt_cache_key": `"p"`,
		"text": `{"format":{"type":"text"}}`, "object": `"response"`, "error": `null`, "previous_response_id": `null`,
		"tools": `[{"description":"Says it.","name":"weather","parameters":{"type":"object"},"strict":true,"type":"function"},{"description":null,"name":"time","parameters":null,"strict":null,"type":"function"}]`,
	} {
		if compact(got[member]) != want {
			t.Errorf("%s: %s, want %s", member, compact(got[member]), want)
		}
	}
}

// TestResponsesFail tells a failure by status where nothing was said yet, else
// by events that clients cannot overlook.
func TestResponsesFail(t *testing.T) {
	o, _ := thinker(t)
	r := start(t, o)
	for _, body := range []string{`{"model":"openclaw","input":"refuse"}`, `{"model":"openclaw","input":"refuse","stream":true}`, `{"model":"openclaw","input":"die"}`} {
		if status, e := r.respond(body); status != http.StatusServiceUnavailable || e["code"] != "UNAVAILABLE" {
			t.Errorf("%s: %d %v", body, status, e)
		}
	}
	_, _, raw := r.do("POST", "/v1/responses", bearer(testToken), `{"model":"openclaw","input":"die","stream":true}`)
	got := checkEvents(t, raw)
	list := events(t, raw)
	fault := list[len(list)-2]
	if got["status"] != "failed" || outputs(got) != "message a first word" || got["error"].(map[string]any)["code"] != "UNAVAILABLE" || fault["type"] != "error" {
		t.Errorf("%s", raw)
	}
	checkMembers(t, "error", fault["error"].(map[string]any), "type:s code:s0 message:s param:s0")
	if status, e := r.respond(`{"model":"openclaw","input":"x","previous_response_id":"` + got["id"].(string) + `"}`); status != 400 || e["code"] != "previous_response_not_found" {
		t.Errorf("after a failure: %d %v", status, e)
	}
}

// TestResponsesRefusals are the requests that get an error, and its place.
func TestResponsesRefusals(t *testing.T) {
	o, asked := thinker(t)
	r := start(t, o)
	item := func(s string) string { return `{"model":"openclaw","input":[` + s + `]}` }
	content := func(s string) string { return item(`{"role":"user","content":[` + s + `]}`) }
	with := func(s string) string { return `{"model":"openclaw","input":"x",` + s + `}` }
	for _, c := range []struct{ name, body, param, says string }{
		{"no JSON", `{oops`, "", "invalid JSON"},
		{"an array", `[]`, "", "must be object"},
		{"empty", `{}`, "", "must have required property 'model'"},
		{"no model", `{"input":"x"}`, "", "must have required property 'model'"},
		{"another's model", `{"model":"gpt-4","input":"x"}`, "", "Invalid `model`"},
		{"an unknown agent", `{"model":"openclaw/nobody","input":"x"}`, "", "Unknown agent 'nobody'"},
		{"no input", `{"model":"openclaw"}`, "", "must have required property 'input'"},
		{"empty input", `{"model":"openclaw","input":""}`, "input", "must not be empty"},
		{"no items", `{"model":"openclaw","input":[]}`, "", "Missing user message in `input`."},
		{"a number", `{"model":"openclaw","input":7}`, "input", "must be array"},
		{"items of a wrong type", `{"model":"openclaw","input":[7]}`, "input", "at /0: must be object"},
		{"an assistant last", item(`{"role":"user","content":"a"},{"role":"assistant","content":"b"}`), "", "Missing user message"},
		{"an unknown role", item(`{"role":"tool","content":"x"}`), "input.0.role", "must be one of system, developer, user, assistant"},
		{"an unknown item", item(`{"type":"web_search_call"}`), "input.0.type", `unsupported item "web_search_call"`},
		{"a reference", item(`{"type":"item_reference","id":"msg_1"}`), "input.0.type", "use previous_response_id"},
		{"a call without id", item(`{"type":"function_call","name":"f"}`), "input.0.call_id", "needs call_id"},
		{"bad arguments", item(`{"type":"function_call","call_id":"c","name":"f","arguments":"[1"}`), "input.0.arguments", "not a JSON object"},
		{"a result without id", item(`{"type":"function_call_output","output":"x"}`), "input.0.call_id", "needs the call_id"},
		{"an image to be fetched", content(`{"type":"input_image","image_url":"http://169.254.169.254/x.png"}`), "input.0.content", "must be a data: URL"},
		{"an image by id", content(`{"type":"input_image","file_id":"file_1"}`), "input.0.content", "must be a data: URL"},
		{"an image of the system's", item(`{"role":"system","content":[{"type":"input_image","image_url":"data:image/png;base64,iVBORw0KGgo="}]}`), "input.0.content", "only a user"},
		{"a file to be fetched", content(`{"type":"input_file","file_url":"http://127.0.0.1/x"}`), "input.0.content", "neither fetched nor kept"},
		{"a file by id", content(`{"type":"input_file","file_id":"file_1"}`), "input.0.content", "neither fetched nor kept"},
		{"a PDF", content(`{"type":"input_file","filename":"a.pdf","file_data":"data:application/pdf;base64,JVBERi0="}`), "input.0.content", `file "a.pdf": type "application/pdf" is not taken`},
		{"a file that is no text", content(`{"type":"input_file","filename":"a","file_data":"/////w=="}`), "input.0.content", "UTF-8 text"},
		{"a file that is no base64", content(`{"type":"input_file","filename":"a","file_data":"hello"}`), "input.0.content", "must be base64"},
		{"a large file", content(`{"type":"input_file","filename":"a","file_data":"` + strings.Repeat("QUJD", maxInputFile/4+1) + `"}`), "input.0.content", "larger than 7 MiB"},
		{"a video", content(`{"type":"input_video"}`), "input.0.content", `unsupported part "input_video"`},
		{"a part of a wrong type", content(`"x"`), "input.0.content", "must be object"},
		{"a foreign tool", with(`"tools":[{"type":"web_search"}]`), "tools.0.type", "only function tools"},
		{"a tool without name", with(`"tools":[{"type":"function"}]`), "tools.0", "'name'"},
		{"a nested tool without name", with(`"tools":[{"type":"function","function":{}}]`), "tools.0", "'name'"},
		{"an odd choice", with(`"tool_choice":"maybe"`), "tool_choice", "must be auto"},
		{"a choice of nothing", with(`"tool_choice":{"type":"function","name":"f"}`), "tool_choice", "must be auto"},
		{"a choice of unknown tools", with(`"tools":[` + weather + `],"tool_choice":{"type":"allowed_tools","tools":[{"type":"function","name":"f"}]}`), "tool_choice", "must be auto"},
		{"a choice among none", with(`"tools":[` + weather + `],"tool_choice":{"type":"allowed_tools","tools":[]}`), "tool_choice", "must be auto"},
		{"a format", with(`"text":{"format":{"type":"json_schema","name":"x","schema":{}}}`), "text.format.type", "only text"},
		{"in the background", with(`"background":true`), "background", "not made in the background"},
		{"metadata", with(`"metadata":{"k":7}`), "metadata.k", "must be string"},
		{"much metadata", with(`"metadata":{"` + strings.Repeat("k", 65) + `":"v"}`), "metadata", "at most 64"},
		{"a temperature", with(`"temperature":3`), "temperature", "must be <= 2"},
		{"no tokens", with(`"max_output_tokens":0`), "max_output_tokens", "must be >= 1"},
		{"a truncation", with(`"truncation":"some"`), "truncation", "must be"},
		{"no such response", with(`"previous_response_id":"resp_1"`), "previous_response_id", "Previous response not found."},
		{"a file as response", with(`"previous_response_id":"resp_../../x_y"`), "previous_response_id", "not found"},
		{"no response", with(`"previous_response_id":""`), "previous_response_id", "not found"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := *r
			r.t = t
			status, e := r.respond(c.body)
			param, _ := e["param"].(string)
			if status != 400 || e["type"] != "invalid_request_error" || param != c.param || !strings.Contains(fmt.Sprint(e["message"]), c.says) {
				t.Errorf("%d %v", status, e)
			}
		})
	}
	if status, e := r.respond(with(`"store":false`), "x-openclaw-session-key", "agent:main:x"); status != 400 || !strings.Contains(fmt.Sprint(e["message"]), "store: false") {
		t.Errorf("store: false in a session: %d %v", status, e)
	}
	if status, e := r.respond(`{"model":"openclaw","truncation":"disabled","input":"` + strings.Repeat("many words ", 4000) + `"}`); status != 400 || !strings.Contains(fmt.Sprint(e["message"]), "tokens") {
		t.Errorf("what does not fit: %d %v", status, e)
	}
	if len(*asked) != 0 {
		t.Errorf("a model was asked %d times", len(*asked))
	}
	for method, want := range map[string]int{"GET": 405, "DELETE": 405} {
		if status, h, _ := r.do(method, "/v1/responses", bearer(testToken), ""); status != want || h.Get("Allow") != "POST" {
			t.Errorf("%s: %d", method, status)
		}
	}
	for _, path := range []string{"/v1/responses/resp_1", "/v1/responses/resp_1/cancel", "/v1/responses/resp_1/input_items"} {
		if status, _, body := r.do("GET", path, bearer(testToken), ""); status != 404 || !strings.HasPrefix(body, `{"error":`) {
			t.Errorf("%s: %d %s", path, status, body)
		}
	}
	if status, _, _ := r.do("POST", "/v1/responses", bearer("wrong"), with(`"x":1`)); status != 401 {
		t.Errorf("with a wrong token: %d", status)
	}
}

// TestResponsesGoOn follows previous_response_id: along, back to where two
// ways part, without storing, across sessions and principals.
func TestResponsesGoOn(t *testing.T) {
	o, asked := thinker(t)
	r := start(t, o)
	ask := func(more string, header ...string) (id, text string) {
		t.Helper()
		status, got := r.respond(`{"model":"openclaw",`+more+`}`, header...)
		if status != http.StatusOK {
			t.Fatalf("%s: %d %v", more, status, got)
		}
		return got["id"].(string), outputs(got)
	}
	last := func() string { return (*asked)[len(*asked)-1] }
	after := func(id, more string) string { return `"previous_response_id":"` + id + `",` + more }

	first, _ := ask(`"instructions":"once","input":[{"role":"developer","content":"always"},{"role":"user","content":"one"}],"tools":[` + weather + `]`)
	second, text := ask(after(first, `"input":[{"type":"function_call_output","call_id":"call_0","output":"sunny"},{"type":"function_call_output","call_id":"call_1","output":"late"}]`))
	if text != "message Grüße 🦞 to 5" { // system, one, the calls, two results
		t.Errorf("%s; asked %s", text, last())
	}
	for _, words := range []string{"always", "sunny", `"tool_call_id":"call_1"`, `"one"`} {
		if !strings.Contains(last(), words) {
			t.Errorf("without %s: %s", words, last())
		}
	}
	if strings.Contains(last(), "once") {
		t.Errorf("instructions went along: %s", last())
	}
	if _, text := ask(after(second, `"input":"three"`)); text != "message Grüße 🦞 to 7" || !strings.Contains(last(), "always") {
		t.Errorf("%s; asked %s", text, last())
	}
	other, text := ask(after(second, `"input":"another three"`)) // a fork
	if text != "message Grüße 🦞 to 7" || strings.Contains(last(), `"three"`) || !strings.Contains(last(), "sunny") || !strings.Contains(last(), "always") {
		t.Errorf("%s; asked %s", text, last())
	}
	if _, text := ask(after(other, `"input":"four"`)); text != "message Grüße 🦞 to 9" || !strings.Contains(last(), "another three") {
		t.Errorf("%s; asked %s", text, last())
	}
	loose, text := ask(after(second, `"input":"unkept","store":false`))
	if text != "message Grüße 🦞 to 7" || !strings.Contains(last(), "sunny") {
		t.Errorf("%s; asked %s", text, last())
	}
	refused := func(what, body string, header ...string) {
		t.Helper()
		status, e := r.respond(`{"model":"openclaw",`+body+`}`, header...)
		if status != 400 || e["type"] != "invalid_request_error" {
			t.Errorf("%s: %d %v", what, status, e)
		}
	}
	refused("what was not stored", after(loose, `"input":"x"`))
	refused("another session", after(second, `"input":"x"`), "x-openclaw-session-key", "agent:main:elsewhere")
	refused("another agent", after(second, `"input":"x"`), "x-openclaw-agent-id", "nobody")
	refused("another principal", after(second, `"input":"x"`), "Authorization", "Bearer "+r.cliKey)
	for _, part := range []string{strings.TrimSuffix(second, second[len(second)-1:]), second + "0", strings.ToUpper(second)} {
		refused("another id", after(part, `"input":"x"`))
	}

	named, _ := ask(`"user":"kim","input":"hello"`)
	if _, text := ask(`"user":"kim","input":"again"`); text != "message Grüße 🦞 to 4" {
		t.Error(text)
	}
	if _, text := ask(after(named, `"user":"kim","input":"back"`)); text != "message Grüße 🦞 to 4" || strings.Contains(last(), "again") {
		t.Errorf("%s; asked %s", text, last())
	}
	c := r.connect()
	if got := r.call(c, "sessions.list", `{}`); !strings.Contains(got, "agent:main:openresponses-user:kim") || strings.Contains(got, "unkept") {
		t.Error(got)
	}
	dir, _ := os.ReadDir(o.Paths.StateDir + "/agents/main/sessions")
	for _, f := range dir {
		if raw, _ := os.ReadFile(o.Paths.StateDir + "/agents/main/sessions/" + f.Name()); strings.Contains(string(raw), "unkept") {
			t.Errorf("%s holds what was not to be stored", f.Name())
		}
	}
	status, list := r.respond(`{"model":"openclaw","input":"/help"}`)
	if status != 200 || list["store"] != false { // answered without a model or a transcript
		t.Errorf("a command: %d %v", status, list)
	}
}

// TestResponsesCaptured compares with what both generations of the product
// answered: each member that they have in common is here, and so is each event.
func TestResponsesCaptured(t *testing.T) {
	o, _ := thinker(t)
	r := start(t, o)
	raw, err := os.ReadFile("../testdata/responses/captured.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	type captured struct {
		Note    string
		Request json.RawMessage
		Status  int
		Body    any
		SSE     []string
	}
	common := map[string][]map[string]bool{}
	var all []captured
	for line := range strings.Lines(string(raw)) {
		var c captured
		if err := json.Unmarshal([]byte(line), &c); err != nil {
			t.Fatal(err)
		}
		all = append(all, c)
		seen := map[string]bool{}
		if c.SSE == nil {
			shape(seen, "", c.Body)
		}
		for _, l := range c.SSE {
			if data, ok := strings.CutPrefix(l, "data: {"); ok {
				var e any
				if err := json.Unmarshal([]byte("{"+data), &e); err != nil {
					t.Fatal(err)
				}
				shape(seen, e.(map[string]any)["type"].(string)+" ", e)
			}
		}
		common[c.Note] = append(common[c.Note], seen)
	}
	for _, c := range all {
		status, _, body := r.do("POST", "/v1/responses", bearer(testToken), string(c.Request))
		if status != c.Status {
			t.Errorf("%s: %d, want %d", c.Note, status, c.Status)
		}
		ours := map[string]bool{}
		if c.SSE == nil {
			var v any
			json.Unmarshal([]byte(body), &v)
			shape(ours, "", v)
		} else {
			var names, theirs []string
			for _, e := range events(t, body) {
				names = append(names, e["type"].(string))
				shape(ours, e["type"].(string)+" ", e)
			}
			for _, l := range c.SSE {
				if name, ok := strings.CutPrefix(l, "event: "); ok {
					theirs = append(theirs, name)
				}
			}
			if a, b := slices.Compact(names), slices.Compact(theirs); !slices.Equal(a, b) {
				t.Errorf("%s: events %v\nwant %v", c.Note, a, b)
			}
		}
		for member := range common[c.Note][0] {
			if common[c.Note][1][member] && !ours[member] && member != "response.output_item.added  /item/content/0" {
				t.Errorf("%s: without %s", c.Note, member)
			}
		}
	}
}

// shape notes the paths and types of all members.
func shape(to map[string]bool, at string, v any) {
	switch v := v.(type) {
	case map[string]any:
		for k, x := range v {
			shape(to, at+"/"+k, x)
		}
	case []any:
		for _, x := range v {
			shape(to, at+"/0", x)
		}
	default:
		to[fmt.Sprintf("%s %T", at, v)] = true
	}
}

// FuzzResponseRequest takes any body, and what it takes can be answered.
func FuzzResponseRequest(f *testing.F) {
	for _, s := range []string{
		`{"model":"openclaw","input":"hi"}`,
		`{"model":"m","input":[{"role":"user","content":[{"type":"input_image","image_url":"data:image/png;base64,AAAA"},{"type":"input_file","file_data":"aGk="}]},{"type":"function_call","call_id":"c","name":"f","arguments":"{}"},{"type":"function_call_output","call_id":"c","output":"x"}]}`,
		`{"model":"m","input":"x","tools":[{"type":"function","function":{"name":"f","function":{"name":"g"}}}],"tool_choice":{"type":"allowed_tools","tools":[{"name":"f"}]},"metadata":{"a":"b"},"text":{"format":{"type":"text"}}}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		var req responseRequest
		if wire.DecodeLoose(body, &req) != nil {
			return
		}
		turn, err := req.turn()
		if err != nil {
			if e := errorOf(err.(*wire.Error)); e.status != http.StatusBadRequest {
				t.Fatalf("%v", e)
			}
			return
		}
		if len(turn.Messages) == 0 {
			t.Fatal("nothing is said")
		}
		var v map[string]any
		if err := json.Unmarshal([]byte(compact(newResponse(&req))), &v); err != nil {
			t.Fatal(err)
		}
		checkMembers(t, "response", v, resourceMembers)
	})
}
