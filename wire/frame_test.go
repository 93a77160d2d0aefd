package wire

import (
	"bytes"
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"
)

func TestParseRequest(t *testing.T) {
	for _, tc := range []struct {
		text, id, method, params string
	}{
		{`{"type":"req","id":"1","method":"health","params":{"probe":true}}`, "1", "health", `{"probe":true}`},
		{`{"type":"req","id":"1","method":"health"}`, "1", "health", ""},
		{` {"params" : null , "method":"a.b" ,"id":"2:uuid","type":"req"} `, "2:uuid", "a.b", "null"},
		{`{"type":"\u0072eq","\u0069d":"\u00e4","method":"m","params":[1]}`, "ä", "m", "[1]"},
		{`{"type":"req","id":"1","method":"m","traceparent":"00-1-1-00","expectedProfileId":"p"}`, "1", "m", ""},
	} {
		r, err := ParseRequest([]byte(tc.text))
		if err != nil {
			t.Errorf("%s: %v", tc.text, err)
			continue
		}
		if r.ID != tc.id || r.Method != tc.method || string(r.Params) != tc.params || (r.Params == nil) != (tc.params == "") {
			t.Errorf("%s: got %+v", tc.text, r)
		}
		if !strings.Contains(tc.text, string(r.RawID)) {
			t.Errorf("%s: raw id %s", tc.text, r.RawID)
		}
	}
}

// The answers are those that the existing gateways were seen to give.
func TestParseRequestRefuses(t *testing.T) {
	long := strings.Repeat("x", 257)
	for _, tc := range []struct{ text, id, want string }{
		{`[]`, `"invalid"`, "must be object"},
		{`"x"`, `"invalid"`, "must be object"},
		{`null`, `"invalid"`, "must be object"},
		{`{}`, `"invalid"`, "must have required property 'type'; must have required property 'id'; must have required property 'method'"},
		{`{"type":"event","event":"tick"}`, `"invalid"`, "must have required property 'id'; must have required property 'method'; at root: unexpected property 'event'; at /type: must be equal to constant"},
		{`{"type":"req","id":"a1"}`, `"a1"`, "must have required property 'method'"},
		{`{"type":"req","id":"a2","method":"health","foo":1}`, `"a2"`, "at root: unexpected property 'foo'"},
		{`{"type":"req","method":"health"}`, `"invalid"`, "must have required property 'id'"},
		{`{"type":"req","id":7,"method":"health"}`, `7`, "at /id: must be string"},
		{`{"type":"req","id":-1.5e3,"method":"health"}`, `-1.5e3`, "at /id: must be string"},
		{`{"type":"req","id":null,"method":"health"}`, `"invalid"`, "at /id: must be string"},
		{`{"type":"req","id":{"a":[1]},"method":"health"}`, `"invalid"`, "at /id: must be string"},
		{`{"type":"req","id":"","method":"health"}`, `"invalid"`, "at /id: must NOT have fewer than 1 characters"},
		{`{"type":"req","id":"` + long + `","method":"health"}`, `"invalid"`, "at /id: must NOT have more than 256 characters"},
		{`{"type":"req","id":"a\u0000","method":"health"}`, `"a\u0000"`, "at /id: must NOT have control characters"},
		{`{"type":"req","id":"a","method":"he\nalth"}`, `"a"`, "at /method: must NOT have control characters"},
		{`{"type":"req","id":"a","method":"h\u0085"}`, `"a"`, "at /method: must NOT have control characters"},
		{`{"type":"req","id":"a","method":5}`, `"a"`, "at /method: must be string"},
		{`{"type":"REQ","id":"a","method":"m"}`, `"a"`, "at /type: must be equal to constant"},
		{`{"type":"req","ID":"a","id":"b","method":"m"}`, `"b"`, "at root: unexpected property 'ID'"},
		{`{"type":"req","id":"a","method":"m","traceparent":"` + long + `"}`, `"a"`, "at /traceparent: must NOT have more than 128 characters"},
	} {
		if strings.Contains(tc.text, `"he\nalth"`) {
			tc.text = strings.ReplaceAll(tc.text, `\n`, `\u000a`)
		}
		_, err := ParseRequest([]byte(tc.text))
		var fe *FrameError
		if !errors.As(err, &fe) {
			t.Errorf("%s: got %v", tc.text, err)
			continue
		}
		if want := "invalid request frame: " + tc.want; fe.Msg != want || string(fe.ID) != tc.id {
			t.Errorf("%s:\n got %s %s\nwant %s %s", tc.text, fe.ID, fe.Msg, tc.id, want)
		}
		var answer struct {
			Type  string `json:"type"`
			ID    Raw    `json:"id"`
			OK    bool   `json:"ok"`
			Error Error  `json:"error"`
		}
		if err := Decode(fe.Append(nil), &answer); err != nil || string(answer.ID) != tc.id || answer.Error.Code != CodeInvalidRequest || answer.Error.Message != fe.Msg {
			t.Errorf("%s: answer %s, %v", tc.text, fe.Append(nil), err)
		}
	}
	for _, text := range []string{"", "{oops", `{"type":"req","id":"1","id":"1","method":"m"}`, `{"type":"req","id":"1","method":"m"}{}`, `[1`, `[] 1`, "{\"a\xff\":1}"} {
		var syntax *SyntaxError
		if _, err := ParseRequest([]byte(text)); !errors.As(err, &syntax) {
			t.Errorf("%s: got %v", text, err)
		}
	}
}

func TestParseRequestAllocations(t *testing.T) {
	if n := testing.AllocsPerRun(100, func() { ParseRequest(benchFrame) }); n > 3 {
		t.Errorf("%v allocations", n)
	}
}

func TestDecodeParams(t *testing.T) {
	for _, tc := range []struct {
		method, params string
		into           any
		want           string
	}{
		{"health", "", &HealthQuery{}, ""},
		{"health", `{"probe":true,"whatever":[1]}`, &HealthQuery{}, ""},
		{"config.get", `{"x":1}`, &Empty{}, "invalid config.get params: at root: unexpected property 'x'"},
		{"agent", `{}`, &AgentRun{}, "invalid agent params: must have required property 'message'; must have required property 'idempotencyKey'"},
		{"logs.tail", `{"limit":-1}`, &LogsTail{}, "invalid logs.tail params: at /limit: must be >= 1"},
		{"sessions.list", `[]`, &SessionsList{}, "invalid sessions.list params: must be object"},
		{"sessions.list", `null`, &SessionsList{}, "invalid sessions.list params: must be object"},
		{"chat.send", `{"sessionKey":"main","message":"hi"}`, &ChatSend{}, "invalid chat.send params: must have required property 'idempotencyKey'"},
		{"chat.send", `{"sessionKey":"main","message":"","idempotencyKey":"k"}`, &ChatSend{}, "message or attachment required"},
		{"chat.send", `{"sessionKey":"main","message":"","idempotencyKey":"k","attachments":[{"content":"aGk="}]}`, &ChatSend{}, ""},
		{"sessions.resolve", `{"key":"a","label":"b"}`, &SessionsResolve{}, "exactly one of key, sessionId and label is required"},
		{"connect", `{}`, &ConnectParams{}, ""},
		{"connect", `{"auth":{"token":"t"}}`, &ConnectParams{}, ""},
		{"connect", `{"auth":{"Token":"t"}}`, &ConnectParams{}, "invalid connect params: at /auth: unexpected property 'Token'"},
		{"connect", `{"maxProtocol":4}`, &ConnectParams{}, "invalid connect params: must have required property 'minProtocol'; must have required property 'client'"},
		{"connect", `{"minProtocol":0}`, &ConnectParams{}, "invalid connect params: at /minProtocol: must be >= 1"},
		{"connect", `{"device":{"id":"d"}}`, &ConnectParams{}, "invalid connect params: at /device: must have required property 'publicKey'; at /device: must have required property 'signature'; at /device: must have required property 'signedAt'"},
	} {
		got := ""
		if err := DecodeParams(tc.method, Raw(tc.params), tc.into); err != nil {
			got = err.Message
			if err.Code != CodeInvalidRequest || err.Retryable {
				t.Errorf("%s %s: %+v", tc.method, tc.params, err)
			}
		}
		if got != tc.want {
			t.Errorf("%s %s:\n got %s\nwant %s", tc.method, tc.params, got, tc.want)
		}
	}
}

func TestAppend(t *testing.T) {
	for _, tc := range []struct {
		got  []byte
		want string
	}{
		{AppendResponse(nil, "1", nil), `{"type":"res","id":"1","ok":true}`},
		{AppendResponse([]byte(" "), `a"b`, []byte("null")), ` {"type":"res","id":"a\"b","ok":true,"payload":null}`},
		{AppendEvent(nil, "tick", nil, 0, nil), `{"type":"event","event":"tick"}`},
		{AppendEvent(nil, "health", []byte(`{}`), 7, []byte(`{"presence":1,"health":2}`)), `{"type":"event","event":"health","payload":{},"seq":7,"stateVersion":{"presence":1,"health":2}}`},
		{AppendRequest(nil, "1", "m", nil), `{"type":"req","id":"1","method":"m"}`},
		{AppendError(nil, "1", InvalidRequest("unknown method: %s", "<b>"), nil), `{"type":"res","id":"1","ok":false,"error":{"code":"INVALID_REQUEST","message":"unknown method: <b>"}}`},
		{AppendError(nil, "1", Forbidden(ScopeAdmin), nil), `{"type":"res","id":"1","ok":false,"error":{"code":"FORBIDDEN","message":"missing scope: operator.admin","details":{"code":"MISSING_SCOPE","missingScope":"operator.admin","requiredScopes":["operator.admin"]}}}`},
		{AppendError(nil, "1", &Error{Code: CodeUnavailable, Message: "m", Details: Raw(`[1]`), Retryable: true, RetryAfterMs: 5}, []byte(`{"status":"error"}`)),
			`{"type":"res","id":"1","ok":false,"payload":{"status":"error"},"error":{"code":"UNAVAILABLE","message":"m","details":[1],"retryable":true,"retryAfterMs":5}}`},
		{AppendString(nil, "\x00\x1f\b\f\n\r\t\"\\/<>&\x7f\u2028é😀\xff\xc3"), "\"\\u0000\\u001f\\u0008\\u000c\\n\\r\\t\\\"\\\\/<>&\x7f\u2028é😀\uFFFD\uFFFD\""},
	} {
		if string(tc.got) != tc.want {
			t.Errorf("got  %s\nwant %s", tc.got, tc.want)
		}
		if !json.Valid(tc.got) {
			t.Errorf("%s is not JSON", tc.got)
		}
	}
}

func TestParseInbound(t *testing.T) {
	in, err := ParseInbound([]byte(`{"type":"res","id":"1","ok":true,"payload":null,"new":{}}`))
	if err != nil || !in.OK || in.ID != "1" || string(in.Payload) != "null" {
		t.Errorf("got %+v, %v", in, err)
	}
	in, err = ParseInbound([]byte(`{"type":"event","event":"tick","seq":9007199254740991}`))
	if err != nil || in.Event != "tick" || in.Seq != 1<<53-1 || in.Payload != nil {
		t.Errorf("got %+v, %v", in, err)
	}
	if in, err = ParseInbound([]byte(`{"type":"hello"}`)); err != nil || in.Type != "hello" {
		t.Errorf("got %+v, %v", in, err)
	}
	for text, want := range map[string]string{
		`{"type":"res","ok":true}`:                                "must have required property 'id'",
		`{"type":"res","id":"1"}`:                                 "must have required property 'ok'",
		`{"type":"res","id":"1","ok":false}`:                      "must have required property 'error'",
		`{"type":"res","id":"1","ok":false,"error":{"code":"C"}}`: "at /error: must have required property 'message'",
		`{"type":"event"}`:                                        "must have required property 'event'",
		`{"type":"event","event":"e","seq":-1}`:                   "at /seq: must be >= 0",
		`{"id":"1"}`:                                              "must have required property 'type'",
		`[]`:                                                      "must be object",
	} {
		if _, err := ParseInbound([]byte(text)); err == nil || err.Error() != want {
			t.Errorf("%s: got %v, want %s", text, err, want)
		}
	}
}

func FuzzParseRequest(f *testing.F) {
	f.Add([]byte(`{"type":"req","id":"1","method":"health","params":{"a":[1,"\u00e4"]}}`))
	f.Add([]byte(`{"type":"req","id":7,"method":"health","traceparent":""}`))
	f.Add([]byte(`{"type":"\u0072eq","id":"\u0000","method":"","x":null}`))
	f.Add([]byte(`[{}]`))
	f.Fuzz(func(t *testing.T, msg []byte) {
		var raw Raw
		rawErr := Decode(msg, &raw)
		r, err := ParseRequest(msg)
		var fe *FrameError
		var syntax *SyntaxError
		switch {
		case errors.As(err, &syntax):
			if rawErr == nil {
				t.Fatalf("Decode takes what ParseRequest does not: %v", err)
			}
		case rawErr != nil:
			t.Fatalf("ParseRequest takes what Decode does not: %v", rawErr)
		case errors.As(err, &fe):
			if err := Decode(fe.Append(nil), &raw); err != nil {
				t.Fatalf("answer %s: %v", fe.Append(nil), err)
			}
		default:
			again, err := ParseRequest(AppendRequest(nil, r.ID, r.Method, r.Params))
			if err != nil || again.ID != r.ID || again.Method != r.Method || !bytes.Equal(again.Params, r.Params) {
				t.Fatalf("%+v became %+v, %v", r, again, err)
			}
		}
	})
}

func FuzzAppend(f *testing.F) {
	f.Add("1", "tick", "message", []byte(`{"a":1}`), uint64(1))
	f.Add("\xff\u2028", "\x00", "<&>", []byte(`null`), uint64(0))
	f.Fuzz(func(t *testing.T, id, event, message string, payload []byte, seq uint64) {
		var raw Raw
		if Decode(payload, &raw) != nil {
			raw = nil
		}
		seq >>= 11 // what a float64 holds
		valid := func(s string) string { return string([]rune(s)) }
		check := func(msg []byte, want Inbound, ok bool) {
			t.Helper()
			in, err := ParseInbound(msg)
			if !ok {
				if err == nil {
					t.Fatalf("%s was accepted", msg)
				}
				return
			}
			if err != nil || !reflect.DeepEqual(in, want) {
				t.Fatalf("%s:\n got %+v, %v\nwant %+v", msg, in, err, want)
			}
		}
		deep := raw != nil && Decode(append(append([]byte("["), raw...), ']'), new(Raw)) != nil
		check(AppendResponse(nil, id, raw), Inbound{Type: "res", ID: valid(id), OK: true, Payload: raw}, id != "" && !deep)
		check(AppendEvent(nil, event, raw, seq, []byte("{}")), Inbound{Type: "event", Event: valid(event), Payload: raw, Seq: seq, StateVersion: Raw("{}")}, event != "" && !deep)
		e := InvalidRequest("%s", message)
		check(AppendError(nil, id, e, raw), Inbound{Type: "res", ID: valid(id), Payload: raw, Error: e}, id != "" && !deep)
	})
}
