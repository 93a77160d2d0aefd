package tool

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"openclaw/gateway/store"
)

// Sessions answers what tools ask about conversations.
type Sessions interface {
	// Resolve returns the canonical form of the key of one of an agent's sessions.
	Resolve(key, agent string) (canonical string, err error)
	// List returns the sessions of an agent, the last updated first.
	List(agent string) ([]SessionInfo, error)
	// History returns the last messages of a session, oldest first, and how many there are.
	History(key string, limit int) (messages []store.Message, total int, err error)
}

// SessionInfo is one session, as sessions_list tells of it.
type SessionInfo struct {
	Key           string `json:"key"`
	SessionID     string `json:"sessionId"`
	AgentID       string `json:"agentId"`
	Kind          string `json:"kind"`
	Label         string `json:"label,omitempty"`
	DisplayName   string `json:"displayName,omitempty"`
	SpawnedBy     string `json:"spawnedBy,omitempty"`
	UpdatedAt     int64  `json:"updatedAt"` // milliseconds since 1970
	Model         string `json:"model,omitempty"`
	ContextTokens int64  `json:"contextTokens"`
	TotalTokens   int64  `json:"totalTokens"`
}

func sessionTools() []*row {
	return []*row{
		tool("agents_list", Session, "The agents of this gateway.", agentsList),
		tool("sessions_list", Session, "The sessions in sight, the last used first: from an agent's main session all of its own, from any other that one and what it started.", sessionsList),
		tool("sessions_history", Session, "The last messages of a session in sight.", sessionsHistory),
		tool("session_status", Session, "The state of a session: model, tokens, when it was last used.", sessionStatus),
		tool("gateway", Admin, "The gateway's configuration in effect, secrets redacted.", gatewayTool),
	}
}

// answer is a result whose text is JSON, for those who only read text.
func answer(v any) (Result, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return Result{}, err
	}
	details := bytes.TrimSpace(b.Bytes())
	var shown bytes.Buffer
	if err := json.Indent(&shown, details, "", "  "); err != nil {
		return Result{}, err
	}
	return Result{Content: store.Text(shown.String()), Details: details}, nil
}

type agentInfo struct {
	ID         string `json:"id"`
	Name       string `json:"name,omitempty"`
	Configured bool   `json:"configured"`
	Model      string `json:"model"`
}

func agentsList(ctx context.Context, c *call, _ *struct{}) (Result, error) {
	var agents []agentInfo
	for _, a := range c.Config().AgentList() {
		agents = append(agents, agentInfo{a.ID, a.Name, true, a.Primary})
	}
	return answer(map[string]any{"requester": c.Agent.ID, "allowAny": false, "agents": agents})
}

// inSight returns the sessions that the calling one may see, and no other is
// told of: an agent's main session sees the agent's, any other its own tree.
func (c *call) inSight() ([]SessionInfo, error) {
	all, err := c.Sessions.List(c.Agent.ID)
	if err != nil || c.Main {
		return all, err
	}
	seen := map[string]bool{c.SessionKey: c.SessionKey != ""}
	for grown := true; grown; {
		grown = false
		for _, s := range all {
			if s.SpawnedBy != "" && seen[s.SpawnedBy] && !seen[s.Key] {
				seen[s.Key], grown = true, true
			}
		}
	}
	return slices.DeleteFunc(all, func(s SessionInfo) bool { return !seen[s.Key] }), nil
}

// session finds a session in sight; no key is the calling one.
func (c *call) session(key string) (SessionInfo, error) {
	list, err := c.inSight()
	if err != nil {
		return SessionInfo{}, err
	}
	canonical, err := c.SessionKey, error(nil)
	if key != "" {
		canonical, err = c.Sessions.Resolve(key, c.Agent.ID)
	}
	i := slices.IndexFunc(list, func(s SessionInfo) bool { return s.Key == canonical })
	switch {
	case err == nil && i >= 0:
		return list[i], nil
	case err == nil && canonical == c.SessionKey && canonical != "": // nothing was said in it yet
		return SessionInfo{Key: canonical, AgentID: c.Agent.ID, Model: c.Agent.Primary}, nil
	}
	return SessionInfo{}, fmt.Errorf("there is no session %q in sight", store.Clip(cmp.Or(key, canonical), 256))
}

type sessionsListArgs struct {
	Limit         int `arg:"limit" min:"1" max:"200" doc:"How many to show; 50 when absent."`
	ActiveMinutes int `arg:"activeMinutes" min:"1" max:"10000000" doc:"Only those used in the last so many minutes."`
}

func sessionsList(ctx context.Context, c *call, a *sessionsListArgs) (Result, error) {
	list, err := c.inSight()
	if err != nil {
		return Result{}, err
	}
	if a.ActiveMinutes > 0 {
		since := time.Now().Add(-time.Duration(a.ActiveMinutes) * time.Minute).UnixMilli()
		list = slices.DeleteFunc(list, func(s SessionInfo) bool { return s.UpdatedAt < since })
	}
	shown := list[:min(len(list), cmp.Or(a.Limit, 50))]
	return answer(map[string]any{"count": len(shown), "sessions": append([]SessionInfo{}, shown...), "hasMore": len(list) > len(shown)})
}

type historyArgs struct {
	SessionKey   string `arg:"sessionKey" alias:"session_key,key" required:"true" max:"512" doc:"The session, as sessions_list names it."`
	Limit        int    `arg:"limit" min:"1" max:"200" doc:"How many messages to show; 50 when absent."`
	IncludeTools bool   `arg:"includeTools" doc:"Show the results of tools too."`
}

const (
	historyText  = 4000     // bytes shown of one text
	historyBytes = 96 << 10 // shown of all
)

func sessionsHistory(ctx context.Context, c *call, a *historyArgs) (Result, error) {
	s, err := c.session(a.SessionKey)
	if err != nil {
		return Result{}, err
	}
	messages, total, err := c.Sessions.History(s.Key, cmp.Or(a.Limit, 50))
	if err != nil {
		return Result{}, err
	}
	shown, room := []store.Message{}, historyBytes
	for _, m := range slices.Backward(messages) {
		if m.Role == store.RoleToolResult && !a.IncludeTools {
			continue
		}
		m = shorten(m)
		raw, err := json.Marshal(m)
		if err != nil {
			return Result{}, err
		}
		if room -= len(raw); room < 0 {
			break
		}
		shown = append(shown, m)
	}
	slices.Reverse(shown)
	return answer(map[string]any{"sessionKey": s.Key, "messages": shown, "total": total})
}

// shorten leaves of a message what another session has a use for.
func shorten(m store.Message) store.Message {
	out := store.Message{Role: m.Role, Content: store.Content{}, Model: m.Model, ToolCallID: m.ToolCallID, ToolName: m.ToolName, IsError: m.IsError, Timestamp: m.Timestamp}
	for _, p := range m.Content {
		switch p.Type {
		case store.PartText:
			out.Content = append(out.Content, store.Part{Type: p.Type, Text: store.Clip(p.Text, historyText)})
		case store.PartToolCall:
			p.Arguments = nil
			out.Content = append(out.Content, p)
		case store.PartImage:
			out.Content = append(out.Content, store.Part{Type: store.PartText, Text: "[an image]"})
		}
	}
	return out
}

type statusArgs struct {
	SessionKey string `arg:"sessionKey" alias:"session_key,key" max:"512" doc:"The session; the calling one when absent."`
}

func sessionStatus(ctx context.Context, c *call, a *statusArgs) (Result, error) {
	s, err := c.session(a.SessionKey)
	if err != nil {
		return Result{}, err
	}
	var b strings.Builder
	fmt.Fprintf(&b, "Session %s of agent %s\nModel: %s\nTokens: %d of %d\n", s.Key, s.AgentID, s.Model, s.TotalTokens, s.ContextTokens)
	if s.UpdatedAt > 0 {
		fmt.Fprintf(&b, "Last used: %s\n", time.UnixMilli(s.UpdatedAt).UTC().Format(time.RFC3339))
	}
	r, err := answer(map[string]any{"ok": true, "sessionKey": s.Key, "agentId": s.AgentID, "changedModel": false, "statusText": b.String()})
	r.Content = store.Text(b.String())
	return r, err
}

type gatewayArgs struct {
	Action string `arg:"action" required:"true" oneof:"config.get" doc:"What to ask for."`
}

func gatewayTool(ctx context.Context, c *call, a *gatewayArgs) (Result, error) {
	return answer(json.RawMessage(c.Config().JSON(true)))
}
