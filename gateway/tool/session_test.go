package tool

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"openclaw/gateway/store"
)

// fakeSessions are those of agent main; another's are not told of.
type fakeSessions []SessionInfo

func (fakeSessions) Resolve(key, agent string) (string, error) {
	if key == "main" {
		return "agent:main:main", nil
	}
	if !strings.HasPrefix(key, "agent:"+agent+":") {
		return "", errors.New("another agent's")
	}
	return key, nil
}

func (f fakeSessions) List(agent string) ([]SessionInfo, error) {
	if agent != "main" {
		return nil, nil
	}
	return append([]SessionInfo(nil), f...), nil
}

func (f fakeSessions) History(key string, limit int) ([]store.Message, int, error) {
	all := []store.Message{
		{Role: store.RoleUser, Content: append(store.Text("asked in "+key), store.Part{Type: store.PartImage, Data: "aW1hZ2U=", MimeType: "image/png"})},
		{Role: store.RoleAssistant, Content: store.Content{{Type: store.PartThinking, Thinking: "private"}, {Type: store.PartText, Text: strings.Repeat("long", 10_000)}}},
		{Role: store.RoleToolResult, ToolCallID: "1", ToolName: "exec", Content: store.Text("of a tool")},
	}
	return all[max(0, len(all)-limit):], len(all), nil
}

func sessionHouse(t *testing.T) *house {
	h := newHouse(t)
	now := time.Now().UnixMilli()
	h.tools.Sessions = fakeSessions{
		{Key: "agent:main:a", SessionID: "1", AgentID: "main", UpdatedAt: now},
		{Key: "agent:main:a:child", SessionID: "2", AgentID: "main", SpawnedBy: "agent:main:a", UpdatedAt: now - 1},
		{Key: "agent:main:b", SessionID: "3", AgentID: "main", UpdatedAt: now - 2},
		{Key: "agent:main:a:child:child", SessionID: "4", AgentID: "main", SpawnedBy: "agent:main:a:child", UpdatedAt: now - 3_600_000},
		{Key: "agent:main:main", SessionID: "5", AgentID: "main", UpdatedAt: now - 3_600_001},
	}
	return h
}

// TestSight shows a session its own tree, and a main session its agent's.
func TestSight(t *testing.T) {
	h := sessionHouse(t)
	keys := func(args string) string {
		t.Helper()
		h.ok("sessions_list", args)
		var out struct {
			Sessions []struct{ Key string }
			Count    int
			HasMore  bool
		}
		if err := json.Unmarshal(h.call("sessions_list", args).Details, &out); err != nil || out.Count != len(out.Sessions) {
			t.Fatal(err)
		}
		var s []string
		for _, x := range out.Sessions {
			s = append(s, strings.TrimPrefix(x.Key, "agent:main:"))
		}
		if out.HasMore {
			s = append(s, "…")
		}
		return strings.Join(s, " ")
	}
	if got := keys(`{}`); got != "a a:child b a:child:child main" {
		t.Errorf("main sees %s", got)
	}
	if got := keys(`{"limit":2}`) + " | " + keys(`{"activeMinutes":5}`); got != "a a:child … | a a:child b" {
		t.Errorf("main sees %s", got)
	}
	h.scope.Main, h.scope.SessionKey = false, "agent:main:a"
	if got := keys(`{}`); got != "a a:child a:child:child" {
		t.Errorf("a sees %s", got)
	}
	h.ok("sessions_history", `{"sessionKey":"agent:main:a:child:child"}`)
	for _, key := range []string{"agent:main:b", "agent:main:main", "main", "agent:other:main", "agent:main:none"} {
		h.fails("sessions_history", `{"sessionKey":"`+key+`"}`, "there is no session", "in sight")
		h.fails("session_status", `{"sessionKey":"`+key+`"}`, "there is no session")
	}
	h.scope.SessionKey = "agent:main:b"
	if got := keys(`{}`); got != "b" {
		t.Errorf("b sees %s", got)
	}
	h.scope.SessionKey = "" // a turn that is stored nowhere
	if got := keys(`{}`); got != "" {
		t.Errorf("no session sees %s", got)
	}
	h.fails("session_status", `{}`, "there is no session")
	h.scope.SessionKey = "agent:main:new" // one in which nothing was said yet
	if got := h.ok("session_status", `{}`); !strings.Contains(got, "agent:main:new") {
		t.Error(got)
	}
}

func TestHistory(t *testing.T) {
	h := sessionHouse(t)
	got := h.ok("sessions_history", `{"sessionKey":"main"}`)
	for _, not := range []string{"aW1hZ2U", "private", "of a tool", strings.Repeat("long", 1001)} {
		if strings.Contains(got, not) {
			t.Errorf("%s is told", not)
		}
	}
	if !strings.Contains(got, "asked in agent:main:main") || !strings.Contains(got, "[an image]") || !strings.Contains(got, `"total": 3`) {
		t.Error(got)
	}
	if got := h.ok("sessions_history", `{"sessionKey":"main","includeTools":true,"limit":1}`); !strings.Contains(got, "of a tool") || strings.Contains(got, "asked") {
		t.Error(got)
	}
	h.fails("sessions_history", `{}`, "sessionKey: is required")
}

func TestGatewayTool(t *testing.T) {
	h := newHouse(t)
	if got := h.ok("gateway", `{"action":"config.get"}`); !strings.Contains(got, `"port": 18789`) {
		t.Error(got)
	}
	h.fails("gateway", `{"action":"config.set"}`, "must be one of config.get")
	h.cfg.Tools.Profile = ""
	h.fails("gateway", `{"action":"config.get"}`, "there is no tool")
	if got := h.ok("agents_list", `{}`); !strings.Contains(got, `"requester": "main"`) {
		t.Error(got)
	}
}
