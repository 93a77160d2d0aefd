package gateway

import (
	"cmp"
	"context"
	"time"

	"openclaw/gateway/agent"
	"openclaw/gateway/store"
	"openclaw/wire"
)

func (g *Gateway) sessionsList(ctx context.Context, p *peer, in *wire.SessionsList) (*wire.SessionsPage, error) {
	now := time.Now()
	q := agent.Query{
		AgentID: in.AgentID, Label: in.Label, SpawnedBy: in.SpawnedBy, Search: in.Search,
		IncludeGlobal: in.IncludeGlobal, IncludeUnknown: in.IncludeUnknown, Offset: in.Offset, Limit: cmp.Or(in.Limit, 100),
		DerivedTitles: in.IncludeDerivedTitles, LastMessage: in.IncludeLastMessage,
	}
	if in.ActiveMinutes > 0 {
		q.Since = now.Add(-time.Duration(in.ActiveMinutes) * time.Minute)
	}
	rows, total, err := g.agents.List(q)
	if err != nil {
		return nil, err
	}
	out := &wire.SessionsPage{Ts: now.UnixMilli(), Count: len(rows), TotalCount: total, Sessions: make([]wire.SessionRow, len(rows))}
	if out.Path, err = g.indexPath(in.AgentID); err != nil {
		return nil, err
	}
	if m, err := g.defaultModel(); err == nil {
		out.Defaults = wire.SessionDefaults{ModelProvider: m.Provider, Model: m.ID, ContextTokens: int64(m.ContextWindow)}
	}
	for i, r := range rows {
		out.Sessions[i] = sessionRow(r)
	}
	if next := in.Offset + len(rows); next < total {
		out.HasMore, out.NextOffset = true, &next
	}
	return out, nil
}

// indexPath is the session index of an agent, or of the only one.
func (g *Gateway) indexPath(agentID string) (string, error) {
	list := g.cfg().AgentList()
	if agentID == "" {
		if len(list) > 1 {
			return "(multiple)", nil
		}
		agentID = list[0].ID
	}
	if _, ok := g.cfg().Agent(agentID); !ok {
		return "", wire.InvalidRequest("unknown agent id %q", store.Clip(agentID, 64))
	}
	index, err := g.store.Sessions(agentID)
	if err != nil {
		return "", err
	}
	return index.Path(), nil
}

func sessionRow(r agent.Info) wire.SessionRow {
	return wire.SessionRow{
		Key: r.Key, Kind: r.Kind, Label: r.Label, DisplayName: r.DisplayName, DerivedTitle: r.Title, LastMessage: r.LastMessage,
		UpdatedAt: r.UpdatedAt, SessionID: r.SessionID, SystemSent: r.SystemSent, AbortedLastRun: r.AbortedLastRun,
		ThinkingLevel: r.ThinkingLevel, VerboseLevel: r.VerboseLevel,
		InputTokens: r.InputTokens, OutputTokens: r.OutputTokens, TotalTokens: r.TotalTokens,
		ModelProvider: r.Provider, Model: r.Model, ContextTokens: r.ContextTokens,
		LastChannel: r.LastChannel, LastTo: r.LastTo,
	}
}

func (g *Gateway) sessionsPreview(ctx context.Context, p *peer, in *wire.SessionsPreview) (*wire.SessionsPreviews, error) {
	out := &wire.SessionsPreviews{Ts: time.Now().UnixMilli(), Previews: make([]wire.SessionPreview, len(in.Keys))}
	for i, key := range in.Keys {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		status, items := g.agents.Preview(key, cmp.Or(in.Limit, 12), cmp.Or(in.MaxChars, 240))
		pv := wire.SessionPreview{Key: key, Status: status, Items: make([]wire.PreviewItem, len(items))}
		for j, item := range items {
			pv.Items[j] = wire.PreviewItem{Role: item.Role, Text: item.Text}
		}
		out.Previews[i] = pv
	}
	return out, nil
}

func (g *Gateway) sessionsResolve(ctx context.Context, p *peer, in *wire.SessionsResolve) (*wire.SessionsResolved, error) {
	key, err := g.agents.Resolve(in.Key, in.SessionID, in.Label, "")
	if err != nil {
		return nil, err
	}
	return &wire.SessionsResolved{OK: true, Key: key}, nil
}

// patched is what agent.Patch calls a member of sessions.patch: nil where it
// is absent, empty where it is null.
func patched(m wire.Patch[string]) *string {
	if m.Set && m.Value == nil {
		return new(string)
	}
	return m.Value
}

func (g *Gateway) sessionsPatch(ctx context.Context, p *peer, in *wire.SessionsPatch) (*wire.SessionsPatched, error) {
	for name, m := range map[string]wire.Patch[string]{
		"responseUsage": in.ResponseUsage, "execHost": in.ExecHost, "execSecurity": in.ExecSecurity, "execAsk": in.ExecAsk, "execNode": in.ExecNode,
	} {
		if m.Set {
			return nil, wire.InvalidRequest("invalid sessions.patch params: %s has no effect here and is not kept", name)
		}
	}
	key, entry, err := g.agents.Patch(in.Key, agent.Patch{
		Label: patched(in.Label), Model: patched(in.Model), ThinkingLevel: patched(in.ThinkingLevel), VerboseLevel: patched(in.VerboseLevel),
		ReasoningLevel: patched(in.ReasoningLevel), ElevatedLevel: patched(in.ElevatedLevel), SendPolicy: patched(in.SendPolicy),
		GroupActivation: patched(in.GroupActivation), SpawnedBy: patched(in.SpawnedBy),
	})
	if err != nil {
		return nil, err
	}
	path, raw, err := g.indexEntry(key, entry)
	if err != nil {
		return nil, err
	}
	return &wire.SessionsPatched{OK: true, Path: path, Key: key, Entry: raw}, nil
}

// indexEntry is where a session's entry stands, and the entry.
func (g *Gateway) indexEntry(key string, e store.Entry) (path string, raw wire.Raw, err error) {
	_, id, err := g.agents.CanonicalKey(key, "")
	if err != nil {
		return "", nil, err
	}
	if path, err = g.indexPath(id); err != nil {
		return "", nil, err
	}
	raw, err = wire.Marshal(e)
	return path, raw, err
}

func (g *Gateway) sessionsReset(ctx context.Context, p *peer, in *wire.SessionsReset) (*wire.SessionsWereReset, error) {
	key, entry, err := g.agents.Reset(ctx, in.Key)
	if err != nil {
		return nil, err
	}
	raw, err := wire.Marshal(entry)
	if err != nil {
		return nil, err
	}
	return &wire.SessionsWereReset{OK: true, Key: key, Entry: raw}, nil
}

func (g *Gateway) sessionsDelete(ctx context.Context, p *peer, in *wire.SessionsDelete) (*wire.SessionsDeleted, error) {
	archive := in.DeleteTranscript == nil || *in.DeleteTranscript
	key, deleted, archived, err := g.agents.Delete(ctx, in.Key, archive)
	if err != nil {
		return nil, err
	}
	if archived == nil {
		archived = []string{}
	}
	return &wire.SessionsDeleted{OK: true, Key: key, Deleted: deleted, Archived: archived}, nil
}

func (g *Gateway) sessionsCompact(ctx context.Context, p *peer, in *wire.SessionsCompact) (*wire.SessionsCompacted, error) {
	c, err := g.agents.Compact(ctx, in.Key, cmp.Or(in.MaxLines, 400))
	if err != nil {
		return nil, err
	}
	return &wire.SessionsCompacted{OK: true, Key: c.Key, Compacted: c.Compacted, Reason: c.Reason, Kept: c.Kept}, nil
}
