package gateway

import (
	"cmp"
	"context"
	"encoding/json"
	"time"

	"openclaw/gateway/tool"
	"openclaw/wire"
)

// defaultApproval is how long a client's request waits if it does not say.
const defaultApproval = 2 * time.Minute

// wireApproval is a request as clients see it. The tool has made it visible.
func wireApproval(a tool.Approval) wire.ExecApproval {
	r := &a.Request
	return wire.ExecApproval{ID: a.ID, CreatedAtMs: a.Created.UnixMilli(), ExpiresAtMs: a.Expires.UnixMilli(), Request: wire.ExecApprovalRequest{
		Command: r.Command, Cwd: r.Cwd, Host: r.Host, Security: r.Security, Ask: r.Ask, AgentID: r.AgentID,
		ResolvedPath: r.ResolvedPath, SessionKey: r.SessionKey, EnvKeys: r.Env, Files: r.Files, Hash: r.Hash,
	}}
}

// approvalAsked tells the clients that may decide.
func (g *Gateway) approvalAsked(a tool.Approval) {
	g.log.Info("approval asked for", "req", a.ID, "agent", a.Request.AgentID, "session", a.Request.SessionKey)
	emit(g.hub, evApprovalRequested(), wireApproval(a))
}

func (g *Gateway) approvalRequest(ctx context.Context, p *peer, in *wire.ExecApprovalAsk) (*wire.ExecApprovalDecided, error) {
	timeout := cmp.Or(time.Duration(in.TimeoutMs)*time.Millisecond, defaultApproval)
	r := tool.ApprovalRequest{
		Command: tool.Visible(in.Command), Cwd: tool.Visible(in.Cwd), Host: tool.Visible(in.Host), Security: tool.Visible(in.Security), Ask: tool.Visible(in.Ask),
		AgentID: tool.Visible(in.AgentID), ResolvedPath: tool.Visible(in.ResolvedPath), SessionKey: tool.Visible(in.SessionKey),
	}
	a, decision, err := g.tools.Approve(ctx, in.ID, r, timeout)
	if err != nil {
		return nil, err
	}
	out := &wire.ExecApprovalDecided{ID: a.ID, CreatedAtMs: a.Created.UnixMilli(), ExpiresAtMs: a.Expires.UnixMilli()}
	if decision != "" {
		out.Decision = &decision
	}
	return out, nil
}

// approvalResolve is the only way to a decision: a turn has no client.
func (g *Gateway) approvalResolve(ctx context.Context, p *peer, in *wire.ExecApprovalResolve) (wire.OK, error) {
	a, err := g.tools.Decide(in.ID, in.Decision)
	if err != nil {
		return wire.OK{}, err
	}
	g.log.Info("approval decided", "req", a.ID, "decision", in.Decision, "peer", p.id)
	emit(g.hub, evApprovalResolved(), wire.ExecApprovalResolved{ID: a.ID, Decision: in.Decision, ResolvedBy: string(p.grant.who), Ts: time.Now().UnixMilli()})
	return wire.OK{OK: true}, nil
}

func (g *Gateway) approvalList(ctx context.Context, p *peer, in *wire.Empty) ([]wire.ExecApproval, error) {
	out := []wire.ExecApproval{}
	for _, a := range g.tools.Pending() {
		out = append(out, wireApproval(a))
	}
	return out, nil
}

func (g *Gateway) approvalsGet(ctx context.Context, p *peer, in *wire.Empty) (*wire.ExecApprovals, error) {
	path, f, hash, err := g.tools.Approvals()
	if err != nil {
		return nil, wire.Unavailable("%s", err)
	}
	f.Socket = nil // it has a token
	raw, err := wire.Marshal(f)
	return &wire.ExecApprovals{Path: path, Exists: hash != "", Hash: hash, File: raw}, err
}

func (g *Gateway) approvalsSet(ctx context.Context, p *peer, in *wire.ExecApprovalsSet) (*wire.ExecApprovals, error) {
	if err := g.tools.SetApprovals(json.RawMessage(in.File), in.BaseHash); err != nil {
		return nil, err
	}
	return g.approvalsGet(ctx, p, &wire.Empty{})
}
