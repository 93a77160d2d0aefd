package svc

import (
	"cmp"
	"context"
	"strings"
	"time"

	"openclaw/wire"
)

// approvalsList prints what waits for a decision, each with all that it is
// bound to. The gateway has made it visible; nothing is shortened.
func approvalsList(ctx context.Context, e *Env, a *Args) error {
	return query(ctx, e, a, "exec.approval.list", &wire.Empty{}, func(_ *link, list *[]wire.ExecApproval) error {
		if len(*list) == 0 {
			e.Warn("nothing waits for approval")
			return nil
		}
		for _, x := range *list {
			r := &x.Request
			e.printf("%s\n", e.paint(e.OutTTY, bold, oneLine(x.ID)))
			for _, row := range [][2]string{
				{"command", r.Command}, {"program", r.ResolvedPath}, {"directory", r.Cwd}, {"environment", strings.Join(r.EnvKeys, " ")}, {"files", strings.Join(r.Files, " ")},
				{"sha256", r.Hash}, {"agent", r.AgentID}, {"session", r.SessionKey}, {"host", r.Host},
				{"expires", "in " + max(0, time.UnixMilli(x.ExpiresAtMs).Sub(e.Now())).Round(time.Second).String()},
			} {
				if row[1] != "" {
					e.printf("  %-12s %s\n", row[0], oneLine(row[1]))
				}
			}
		}
		return nil
	})
}

func approvalsApprove(ctx context.Context, e *Env, a *Args) error {
	decision := "allow-once"
	if a.Has("always") {
		decision = "allow-always"
	}
	return decide(ctx, e, a, decision)
}

func approvalsDeny(ctx context.Context, e *Env, a *Args) error { return decide(ctx, e, a, "deny") }

func decide(ctx context.Context, e *Env, a *Args, decision string) error {
	in := &wire.ExecApprovalResolve{ID: a.Word(0), Decision: decision}
	return query(ctx, e, a, "exec.approval.resolve", in, func(*link, *wire.OK) error {
		return e.printf("%s: %s\n", cmp.Or(oneLine(in.ID), "''"), decision)
	})
}
