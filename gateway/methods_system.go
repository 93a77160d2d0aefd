package gateway

import (
	"cmp"
	"context"
	"slices"
	"sort"
	"strings"
	"sync"
	"time"

	"openclaw/gateway/agent"
	"openclaw/reload/config"
	"openclaw/wire"
)

const maxSystemEvents = 20 // the oldest goes when one more comes

// systemEvents are notes for the agent, told with its next turn.
type systemEvents struct {
	mu    sync.Mutex
	texts []string
}

func (s *systemEvents) add(texts ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.texts = append(s.texts, texts...)
	s.texts = slices.Delete(s.texts, 0, max(0, len(s.texts)-maxSystemEvents))
}

func (s *systemEvents) take() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	texts := s.texts
	s.texts = nil
	return texts
}

func (s *systemEvents) list() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string{}, s.texts...)
}

// toldWithTurn is how a system prompt tells the events.
func toldWithTurn(events []string) string {
	if len(events) == 0 {
		return ""
	}
	return "System events since the last turn:\n- " + strings.Join(events, "\n- ")
}

// healthGet answers with the shared snapshot, which is encoded once per state version.
func (g *Gateway) healthGet(ctx context.Context, p *peer, in *wire.HealthQuery) (preEncoded, error) {
	return g.health.encoded(in.Probe), nil
}

func (g *Gateway) systemPresence(ctx context.Context, p *peer, in *wire.Empty) (preEncoded, error) {
	return g.hub.encodedPresence(), nil
}

// systemEvent sets a presence entry, or queues a note for the agent.
func (g *Gateway) systemEvent(ctx context.Context, p *peer, in *wire.SystemEvent) (wire.OK, error) {
	if strings.HasPrefix(in.Text, "Node:") {
		g.hub.upsertPresence(presenceOf(in))
	} else {
		g.systemEvents.add(in.Text)
	}
	return wire.OK{OK: true}, nil
}

func presenceOf(in *wire.SystemEvent) wire.Presence {
	return wire.Presence{
		Host: in.Host, IP: in.IP, Version: in.Version, Platform: in.Platform, DeviceFamily: in.DeviceFamily,
		ModelIdentifier: in.ModelIdentifier, Mode: in.Mode, LastInputSeconds: in.LastInputSeconds, Reason: in.Reason,
		Tags: in.Tags, Text: in.Text, Ts: time.Now().UnixMilli(), DeviceID: in.DeviceID, Roles: in.Roles, Scopes: in.Scopes, InstanceID: in.InstanceID,
	}
}

// lastHeartbeat answers null: no agent is woken without a message.
func (g *Gateway) lastHeartbeat(ctx context.Context, p *peer, in *wire.Empty) (preEncoded, error) {
	return preEncoded("null"), nil
}

const recentSessions = 10 // in status

func (g *Gateway) status(ctx context.Context, p *peer, in *wire.StatusQuery) (*wire.Status, error) {
	cfg := g.cfg()
	running, queued := g.agents.Counts()
	out := &wire.Status{
		RuntimeVersion: g.version, PID: g.pid, UptimeMs: g.uptime().Milliseconds(),
		Heartbeat:          wire.StatusHeartbeat{DefaultAgentID: cfg.DefaultAgentID(), Agents: []wire.AgentHeartbeat{}},
		ChannelSummary:     []string{},
		QueuedSystemEvents: g.systemEvents.list(),
		Connections:        g.hub.count(), Runs: running + queued,
		Config: g.configStatus(),
	}
	for _, l := range g.tools.Layers() {
		out.Sandbox = append(out.Sandbox, wire.SandboxLayer(l))
	}
	all := &out.Sessions
	*all = wire.StatusSessions{Paths: []string{}, Recent: []wire.SessionStat{}, ByAgent: []wire.AgentSessions{}}
	if m, err := g.defaultModel(); err == nil {
		all.Defaults = wire.StatusDefaults{Model: m.ID, ContextTokens: int64(m.ContextWindow)}
	}
	now := time.Now().UnixMilli()
	for _, a := range cfg.AgentList() {
		out.Heartbeat.Agents = append(out.Heartbeat.Agents, wire.AgentHeartbeat{AgentID: a.ID, Every: "disabled"})
		rows, total, err := g.agents.List(agent.Query{AgentID: a.ID, IncludeGlobal: true, Limit: recentSessions})
		if err != nil {
			return nil, err
		}
		path, err := g.indexPath(a.ID)
		if err != nil {
			return nil, err
		}
		of := wire.AgentSessions{AgentID: a.ID, Path: path, Count: total, Recent: make([]wire.SessionStat, len(rows))}
		for i, r := range rows {
			of.Recent[i] = sessionStat(r, now)
		}
		all.Paths = append(all.Paths, path)
		all.Count += total
		all.ByAgent = append(all.ByAgent, of)
		all.Recent = append(all.Recent, of.Recent...)
	}
	sort.SliceStable(all.Recent, func(i, j int) bool { return all.Recent[i].UpdatedAt > all.Recent[j].UpdatedAt })
	all.Recent = all.Recent[:min(len(all.Recent), recentSessions)]
	return out, nil
}

func sessionStat(r agent.Info, now int64) wire.SessionStat {
	s := wire.SessionStat{
		AgentID: r.AgentID, Key: r.Key, Kind: r.Kind, SessionID: r.SessionID, UpdatedAt: r.UpdatedAt, Age: now - r.UpdatedAt,
		SystemSent: r.SystemSent, AbortedLastRun: r.AbortedLastRun, InputTokens: r.InputTokens, OutputTokens: r.OutputTokens,
		TotalTokens: r.TotalTokens, Model: r.Model, ContextTokens: r.ContextTokens, Flags: []string{},
	}
	s.RemainingTokens = max(0, s.ContextTokens-s.TotalTokens)
	if s.ContextTokens > 0 {
		s.PercentUsed = min(100, s.TotalTokens*100/s.ContextTokens)
	}
	return s
}

func (g *Gateway) agentsList(ctx context.Context, p *peer, in *wire.Empty) (*wire.AgentsList, error) {
	cfg := g.cfg()
	out := &wire.AgentsList{DefaultID: cfg.DefaultAgentID(), MainKey: cfg.Session.MainKey, Scope: cfg.Session.Scope, Agents: []wire.AgentInfo{}}
	for _, a := range cfg.AgentList() {
		out.Agents = append(out.Agents, wire.AgentInfo{
			ID: a.ID, Name: a.Name, Workspace: g.opts.Paths.WorkspaceOf(a),
			Model: &wire.AgentModelRef{Primary: a.Primary, Fallbacks: a.Fallbacks},
		})
	}
	return out, nil
}

func (g *Gateway) agentIdentity(ctx context.Context, p *peer, in *wire.AgentIdentityGet) (*wire.AgentIdentity, error) {
	id, err := g.agents.Identity(in.AgentID, in.SessionKey)
	if err != nil {
		return nil, err
	}
	return &wire.AgentIdentity{AgentID: id.AgentID, Name: id.Name, Avatar: id.Avatar, Emoji: id.Emoji}, nil
}

// modelsRPC answers which models turns may use.
func (g *Gateway) modelsRPC(ctx context.Context, p *peer, in *wire.Empty) (*wire.ModelsList, error) {
	cfg := g.cfg()
	out := &wire.ModelsList{Models: []wire.Model{}}
	for _, ref := range cfg.ModelRefs() {
		m, err := cfg.Model(ref)
		if err != nil {
			continue // named by an agent, but its provider lists others
		}
		input := []string{"text"}
		if m.Images {
			input = append(input, "image")
		}
		out.Models = append(out.Models, wire.Model{ID: m.ID, Name: cmp.Or(m.Name, m.ID), Provider: m.Provider, ContextWindow: int64(m.ContextWindow), Reasoning: m.Reasoning, Input: input})
	}
	return out, nil
}

func (g *Gateway) defaultModel() (config.ResolvedModel, error) {
	cfg := g.cfg()
	a, _ := cfg.Agent(cfg.DefaultAgentID())
	return cfg.Model(a.Primary)
}

func (g *Gateway) logsTail(ctx context.Context, p *peer, in *wire.LogsTail) (*wire.LogsPage, error) {
	t, err := g.logs.tail(in)
	if err != nil {
		return nil, err
	}
	page := wire.LogsPage(t)
	return &page, nil
}

// usageStatus answers that no provider tells its quotas.
func (g *Gateway) usageStatus(ctx context.Context, p *peer, in *wire.Empty) (*wire.UsageStatus, error) {
	return &wire.UsageStatus{UpdatedAt: time.Now().UnixMilli(), Providers: []any{}}, nil
}

// usageCost sums what the answers in the transcripts used and cost.
func (g *Gateway) usageCost(ctx context.Context, p *peer, in *wire.UsageCostQuery) (*wire.UsageCost, error) {
	days := cmp.Or(in.Days, 30)
	report, err := g.agents.Usage(ctx, days)
	if err != nil {
		return nil, err
	}
	out := &wire.UsageCost{UpdatedAt: report.At.UnixMilli(), Days: days, Daily: []wire.UsageDay{}}
	for _, d := range report.Days {
		t := wire.UsageTotals{
			Input: d.Input, Output: d.Output, CacheRead: d.CacheRead, CacheWrite: d.CacheWrite, TotalTokens: d.TotalTokens,
			TotalCost: d.Cost.Total, InputCost: d.Cost.Input, OutputCost: d.Cost.Output, CacheReadCost: d.Cost.CacheRead, CacheWriteCost: d.Cost.CacheWrite,
			MissingCostEntries: int64(d.MissingCost),
		}
		if n := len(out.Daily); n == 0 || out.Daily[n-1].Date != d.Date {
			out.Daily = append(out.Daily, wire.UsageDay{Date: d.Date})
		}
		addUsage(&out.Daily[len(out.Daily)-1].UsageTotals, t)
		addUsage(&out.Totals, t)
	}
	return out, nil
}

func addUsage(to *wire.UsageTotals, t wire.UsageTotals) {
	to.Input += t.Input
	to.Output += t.Output
	to.CacheRead += t.CacheRead
	to.CacheWrite += t.CacheWrite
	to.TotalTokens += t.TotalTokens
	to.TotalCost += t.TotalCost
	to.InputCost += t.InputCost
	to.OutputCost += t.OutputCost
	to.CacheReadCost += t.CacheReadCost
	to.CacheWriteCost += t.CacheWriteCost
	to.MissingCostEntries += t.MissingCostEntries
}
