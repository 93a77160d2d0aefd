package gateway

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"openclaw/gateway/tool"
)

// TestToolsInvoke answers as the wider product's clients know it.
func TestToolsInvoke(t *testing.T) {
	o := testOptions(t, `{gateway:{auth:{token:"`+testToken+`"},tools:{allow:["read","write","gateway"],deny:["sessions_list"]}},agents:{list:[{id:"main"},{id:"bound",tools:{deny:["read"]}}]}}`)
	r := start(t, o)
	c := r.connect()
	r.call(c, "chat.send", `{"sessionKey":"main","message":"hello","idempotencyKey":"1"}`)
	r.until(c, `"state":"final"`)
	auth := bearer(testToken)
	for _, tc := range []struct {
		body   string
		status int
		want   []string
	}{
		{`{"tool":"agents_list"}`, 200, []string{`{"ok":true,"result":{"content":[{"type":"text","text":"{\n  \"agents\": [`, `"details":{"agents":[{"id":"main"`, `"requester":"main"`}},
		{`{"name":"agents_list","args":"x"}`, 200, []string{`"ok":true`}},
		{`{"tool":"agents_list","args":null,"action":"json"}`, 200, []string{`"ok":true`}},
		{`{"tool":"agents_list","sessionKey":"agent:bound:x"}`, 200, []string{`"requester":"bound"`}},
		{`{"tool":"agents_list","sessionKey":"agent:ghost:x"}`, 400, []string{`{"ok":false,"error":{`, `"type":"invalid_request"`, "ghost"}},
		{`{"tool":"session_status","args":{},"sessionKey":"main"}`, 200, []string{`"details":{"agentId":"main","changedModel":false,"ok":true,"sessionKey":"agent:main:main","statusText":"`}},
		{`{"tool":"sessions_history","args":{"sessionKey":"main"}}`, 200, []string{`"total":2`, `hello`}},
		{`{"tool":"sessions_history","args":{}}`, 400, []string{`{"ok":false,"error":{"message":"sessionKey: is required","type":"tool_error"}}`}},
		{`{"tool":"sessions_history","args":{"sessionKey":"main"},"sessionKey":"agent:main:other"}`, 400, []string{"there is no session"}},
		{`{"tool":"sessions_list"}`, 404, []string{`{"ok":false,"error":{"message":"Tool not available: sessions_list","type":"not_found"}}`}},
		{`{"tool":"exec","args":{"command":"echo hi"}}`, 404, []string{`"message":"Tool not available: exec","type":"not_found"`}},
		{`{"tool":"edit","args":{"path":"AGENTS.md"}}`, 404, []string{`"message":"Tool not available: edit","type":"not_found"`}},
		{`{"tool":"nope","args":{}}`, 404, []string{`"message":"Tool not available: nope","type":"not_found"`}},
		{`{"tool":"gateway","action":"config.get"}`, 404, []string{"Tool not available: gateway"}}, // the agent has it not
		{`{"args":{}}`, 400, []string{`{"ok":false,"error":{"message":"tools.invoke requires name","type":"invalid_request"}}`}},
		{`{"tool":1}`, 400, []string{"/tool"}},
		{`{"tool":"agents_list","dryrun":true}`, 400, []string{"dryrun"}},
		{`{"tool":"agents_list","tool":"exec"}`, 400, []string{"invalid_request"}},
		{`[]`, 400, []string{"invalid_request"}},
		{``, 400, []string{"invalid_request"}},
		{`{"tool":"write","args":{"path":"x","content":"y"},"dryRun":true}`, 200, []string{`"details":{"dryRun":true}`}},
		{`{"tool":"write","args":{"path":"../x","content":"y"},"dryRun":true}`, 400, []string{"leads out of the workspace"}},
		{`{"tool":"read","args":{"path":"x"}}`, 400, []string{"no such file"}}, // the dry run wrote nothing
		{`{"tool":"write","args":{"path":"x","content":"<y>"}}`, 200, []string{`Wrote 3 bytes`}},
		{`{"tool":"read","args":{"path":"x"}}`, 200, []string{`{"ok":true,"result":{"content":[{"type":"text","text":"<y>"}]}}`}},
		{`{"tool":"read","args":{"path":"x"},"sessionKey":"agent:bound:main"}`, 404, []string{"Tool not available: read"}},
		{`{"tool":"read","args":{"path":"../openclaw.json"}}`, 400, []string{"leads out"}},
	} {
		status, _, body := r.do("POST", "/tools/invoke", auth, tc.body)
		if status != tc.status {
			t.Errorf("%s: %d %s", tc.body, status, body)
		}
		for _, w := range tc.want {
			if !strings.Contains(body, w) {
				t.Errorf("%s: %s lacks %s", tc.body, body, w)
			}
		}
	}
	if raw, err := os.ReadFile(filepath.Join(o.Paths.Workspace, "x")); err != nil || string(raw) != "<y>" {
		t.Errorf("%s, %v", raw, err)
	}
	for _, tc := range []struct {
		method string
		header map[string]string
		body   string
		status int
	}{
		{"GET", auth, "", 405},
		{"POST", nil, `{"tool":"agents_list"}`, 401},
		{"POST", bearer("wrong"), `{"tool":"agents_list"}`, 401},
	} {
		if status, _, body := r.do(tc.method, "/tools/invoke", tc.header, tc.body); status != tc.status {
			t.Errorf("%s %.40s: %d %s", tc.method, tc.body, status, body)
		}
	}
	// Announced only: who still writes when the answer comes may not get to read it.
	if got := r.raw("POST /tools/invoke HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer " + testToken + "\r\nContent-Length: " + strconv.Itoa(maxInvoke+1) + "\r\n\r\n"); !strings.HasPrefix(got, "413 ") {
		t.Errorf("a body that is too long: %.200s", got)
	}
}

// TestInvokeWithoutPolicy serves over HTTP, where nothing is said, no tool that
// reads or changes files, runs programs or shows the configuration.
func TestInvokeWithoutPolicy(t *testing.T) {
	r := start(t, testOptions(t, `{gateway:{auth:{token:"`+testToken+`"}},tools:{profile:"full"}}`))
	_, _, unknown := r.do("POST", "/tools/invoke", bearer(testToken), `{"tool":"nope"}`)
	for _, d := range tool.Table() {
		status, _, body := r.do("POST", "/tools/invoke", bearer(testToken), `{"tool":"`+d.Name+`"}`)
		open := d.Class == tool.Session || d.Class == tool.Network
		if open != (status != 404) || !open && body != strings.ReplaceAll(unknown, "nope", d.Name) {
			t.Errorf("%s: %d %s", d.Name, status, body)
		}
	}
}

func TestWithAction(t *testing.T) {
	const has, hasNot = `{"properties":{"action":{}}}`, `{"properties":{}}`
	for _, tc := range []struct{ args, action, schema, want string }{
		{`{"a":1}`, "x", has, `{"a":1,"action":"x"}`},
		{`{"a":1}`, "x", hasNot, `{"a":1}`},
		{`{"action":"y"}`, "x", has, `{"action":"y"}`},
		{``, "x", has, `{"action":"x"}`},
		{`7`, "", has, `{}`},
		{`{"a":1,"a":2}`, "", has, `{}`},
	} {
		if got := string(withAction([]byte(tc.args), tc.action, []byte(tc.schema))); got != tc.want {
			t.Errorf("%+v: %s", tc, got)
		}
	}
}
