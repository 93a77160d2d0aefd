package gateway

import (
	"context"
	"net/http"
	"slices"
	"strings"

	"openclaw/gateway/agent"
	"openclaw/gateway/store"
	"openclaw/gateway/tool"
	"openclaw/reload/config"
	"openclaw/wire"
)

// toolSessions answers what tools ask about sessions. It looks the agents up
// when it is asked: they are made after the tools.
type toolSessions struct{ g *Gateway }

func (s toolSessions) Resolve(key, agentID string) (string, error) {
	key, _, err := s.g.agents.CanonicalKey(key, agentID)
	return key, err
}

func (s toolSessions) List(agentID string) ([]tool.SessionInfo, error) {
	rows, _, err := s.g.agents.List(agent.Query{AgentID: agentID, IncludeGlobal: true})
	out := make([]tool.SessionInfo, len(rows))
	for i, r := range rows {
		out[i] = tool.SessionInfo{
			Key: r.Key, SessionID: r.SessionID, AgentID: r.AgentID, Kind: r.Kind, Label: r.Label, DisplayName: r.DisplayName,
			SpawnedBy: r.SpawnedBy, UpdatedAt: r.UpdatedAt, Model: modelRef(r.Provider, r.Model), ContextTokens: r.ContextTokens, TotalTokens: r.TotalTokens,
		}
	}
	return out, err
}

func (s toolSessions) History(key string, limit int) ([]store.Message, int, error) {
	h, err := s.g.agents.History(key, limit, 0)
	out := make([]store.Message, len(h.Messages))
	for i := range h.Messages {
		out[i] = *h.Messages[i].Message
	}
	return out, h.Total, err
}

// mainScope is the scope of an agent's main session under a configuration.
func mainScope(a config.ResolvedAgent) tool.Scope {
	return tool.Scope{Agent: a, Provider: a.Primary, Main: true}
}

func (g *Gateway) toolsCatalog(ctx context.Context, p *peer, in *wire.ToolsCatalogGet) (*wire.ToolsCatalog, error) {
	cfg := g.cfg()
	if in.AgentID == "" {
		in.AgentID = cfg.DefaultAgentID()
	}
	a, ok := cfg.Agent(in.AgentID)
	if !ok {
		return nil, wire.InvalidRequest("unknown agent id %q", in.AgentID)
	}
	out := &wire.ToolsCatalog{AgentID: a.ID}
	ids, labels := config.ToolProfiles()
	for i, id := range ids {
		out.Profiles = append(out.Profiles, wire.ToolProfile{ID: id, Label: labels[i]})
	}
	effective := tool.Effective(cfg, mainScope(a))
	for _, group := range config.ToolGroups() {
		to := wire.ToolGroup{ID: strings.TrimPrefix(group.ID, "group:"), Label: group.Label, Source: "core"}
		for _, d := range tool.Table() {
			if !slices.Contains(group.Tools, d.Name) {
				continue
			}
			info := wire.ToolInfo{ID: d.Name, Label: d.Name, Description: d.Description, Source: "core", Class: string(d.Class), DefaultProfiles: []string{}}
			for _, id := range ids {
				if config.InProfile(id, d.Name) {
					info.DefaultProfiles = append(info.DefaultProfiles, id)
				}
			}
			info.Effective = slices.ContainsFunc(effective, func(e tool.Definition) bool { return e.Name == d.Name })
			to.Tools = append(to.Tools, info)
		}
		if to.Tools != nil {
			out.Groups = append(out.Groups, to)
		}
	}
	return out, nil
}

// maxInvoke bounds the body of /tools/invoke, as the wider product does.
const maxInvoke = 2 << 20

type invokeRequest struct {
	Tool       string   `json:"tool"`
	Name       string   `json:"name"` // the same
	Action     string   `json:"action"`
	Args       wire.Raw `json:"args" wire:"null"` // what is no object counts as none
	SessionKey string   `json:"sessionKey"`
	DryRun     bool     `json:"dryRun"`
}

type invokeAnswer struct {
	OK     bool          `json:"ok"`
	Result *invokeResult `json:"result,omitempty"`
	Error  *invokeError  `json:"error,omitempty"`
}

type invokeError struct {
	Message string `json:"message"`
	Type    string `json:"type"`
}

type invokeResult struct {
	Content store.Content `json:"content"`
	Details wire.Raw      `json:"details,omitempty"`
}

// toolsInvoke serves POST /tools/invoke: one tool, for a person's program. What
// is not served is not told from what there is not.
func (g *Gateway) toolsInvoke(w http.ResponseWriter, r *http.Request, who principal) {
	refused := func(status int, kind, msg string) {
		writeJSON(w, status, invokeAnswer{Error: &invokeError{msg, kind}})
	}
	raw, e := readBody(r)
	if e != nil {
		e.write(w)
		return
	}
	var in invokeRequest
	if err := wire.Decode(raw, &in); err != nil {
		refused(http.StatusBadRequest, "invalid_request", err.Error())
		return
	}
	if in.Tool == "" {
		in.Tool = in.Name
	}
	if in.Tool == "" {
		refused(http.StatusBadRequest, "invalid_request", "tools.invoke requires name")
		return
	}
	if g.stopping.Load() {
		errorOf(stopping()).write(w)
		return
	}
	set, err := g.httpSet(in.SessionKey)
	if err != nil {
		refused(http.StatusBadRequest, "invalid_request", g.asWire(err).Message)
		return
	}
	list := set.List()
	i := slices.IndexFunc(list, func(d tool.Definition) bool { return d.Name == in.Tool })
	if i < 0 {
		refused(http.StatusNotFound, "not_found", "Tool not available: "+store.Clip(in.Tool, 64))
		return
	}
	args := withAction(in.Args, in.Action, list[i].Parameters)
	var res tool.Result
	if in.DryRun {
		res = tool.Result{Content: store.Text("dry run: " + in.Tool + " was not called"), Details: []byte(`{"dryRun":true}`)}
		if err := set.Check(in.Tool, args); err != nil {
			res = tool.Result{Content: store.Text(err.Error()), IsError: true}
		}
	} else {
		id := "http-" + randomID(16)
		g.log.Info("tool called", "method", in.Tool, "req", id)
		res = set.Call(r.Context(), id, in.Tool, args, nil)
	}
	if res.IsError {
		refused(http.StatusBadRequest, "tool_error", res.Content.String())
		return
	}
	writeJSON(w, http.StatusOK, invokeAnswer{OK: true, Result: &invokeResult{res.Content, wire.Raw(res.Details)}})
}

// httpSet is what /tools/invoke serves for a session, the default agent's main
// one when none is named.
func (g *Gateway) httpSet(key string) (*tool.Set, error) {
	if key == "" {
		key = mainAlias
	}
	key, id, err := g.agents.CanonicalKey(key, "")
	if err != nil {
		return nil, err
	}
	a, ok := g.cfg().Agent(id)
	if !ok {
		return nil, wire.InvalidRequest("unknown agent id %q", id)
	}
	main, _, err := g.agents.CanonicalKey("", id)
	scope := mainScope(a)
	scope.SessionKey, scope.Main, scope.HTTP = key, key == main, true
	scope.Workspace = g.opts.Paths.WorkspaceOf(a)
	return g.tools.For(scope), err
}

// withAction puts the request's action among the arguments of a tool that has
// one, unless they hold it already.
func withAction(args wire.Raw, action string, schema []byte) []byte {
	var members map[string]wire.Raw
	if wire.Decode(args, &members) != nil {
		members, args = map[string]wire.Raw{}, wire.Raw("{}")
	}
	var s struct {
		Properties map[string]wire.Raw `json:"properties"`
	}
	if action == "" || wire.DecodeLoose(schema, &s) != nil || s.Properties["action"] == nil || members["action"] != nil {
		return args
	}
	members["action"], _ = wire.Marshal(action)
	joined, err := wire.Marshal(members)
	if err != nil {
		return args
	}
	return joined
}
