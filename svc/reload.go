package svc

import (
	"cmp"
	"context"
	"errors"
	"strings"
	"time"

	"openclaw/reload/config"
	"openclaw/wire"
)

// gatewayReload has the running gateway read its configuration now.
func gatewayReload(ctx context.Context, e *Env, a *Args) error {
	r, _, err := askReload(ctx, e, a, wire.ReloadQuery{})
	if err != nil {
		return err
	}
	if e.JSON {
		return e.printJSON(r)
	}
	waiting := "pending"
	if r.Restart {
		waiting = "restarting for"
	}
	if len(r.Applied)+len(r.Pending) == 0 {
		return e.printf("nothing changed\n")
	}
	for _, line := range []struct {
		what string
		keys []string
	}{{"applied", r.Applied}, {waiting, r.Pending}} {
		if len(line.keys) > 0 {
			e.printf("%s: %s\n", line.what, oneLine(strings.Join(line.keys, ", ")))
		}
	}
	return nil
}

// configDiff tells what a reload would do: by the running gateway, or with a
// file in the place of the profile's, by nobody but us.
func configDiff(ctx context.Context, e *Env, a *Args) error {
	file, changes := a.Word(0), []config.Change{}
	if file == "" {
		r, at, err := askReload(ctx, e, a, wire.ReloadQuery{DryRun: true})
		if err != nil {
			return err
		}
		file = at
		changes = changesOf(r)
	} else {
		p, err := e.Paths()
		if err != nil {
			return err
		}
		was, err := e.loadForUse(p.ConfigPath)
		if err != nil {
			return err
		}
		next, err := e.Load(file)
		if err != nil {
			return e.BadConfig(file, err)
		}
		changes = append(changes, config.Diff(was.Config, next.Config)...)
	}
	if e.JSON {
		return e.printJSON(map[string]any{"ok": true, "file": file, "changes": changes, "class": config.ClassOf(changes)})
	}
	return e.printChanges(changes, false)
}

func changesOf(r *wire.Reloaded) []config.Change {
	changes := []config.Change{}
	for _, c := range r.Changes {
		changes = append(changes, config.Change{Path: c.Path, Class: config.Class(c.Class)})
	}
	return changes
}

// askReload calls gateway.reload. The file is the gateway's, as far as we know where that is.
func askReload(ctx context.Context, e *Env, a *Args, q wire.ReloadQuery) (*wire.Reloaded, string, error) {
	l, err := dial(ctx, e, a, nil)
	if err != nil {
		return nil, "", err
	}
	defer l.Close()
	file := ""
	if l.ep.own {
		file = e.paths.ConfigPath
	}
	r, refused, err := l.reload(ctx, q)
	if ps := problemsOf(refused, file); len(ps) > 0 {
		out := e.BadConfig(cmp.Or(file, "the configuration"), ps)
		if out.Hint = "the running gateway stays as it is"; q.DryRun {
			out.Hint = ""
		}
		return nil, file, out
	}
	if err == nil {
		for _, w := range r.Warnings {
			e.Warn("%s", warningOf(w))
		}
	}
	return r, file, err
}

func warningOf(w wire.ConfigIssue) string { return "warning: " + w.Path + ": " + w.Message }

// reload calls gateway.reload, and returns the refusal too as it came.
func (l *link) reload(ctx context.Context, q wire.ReloadQuery) (r *wire.Reloaded, refused *wire.Error, err error) {
	r = new(wire.Reloaded)
	_, err = l.wait(ctx, "gateway.reload", 30*time.Second, func(ctx context.Context, payload *wire.Raw) error {
		err := l.Call(ctx, "gateway.reload", q, payload)
		errors.As(err, &refused)
		return err
	}, r)
	return r, refused, err
}

// problemsOf returns what a gateway finds wrong with its configuration file.
func problemsOf(err *wire.Error, file string) config.Problems {
	var details struct {
		Issues []wire.ConfigIssue `json:"issues"`
	}
	if err == nil || err.Details == nil {
		return nil
	}
	if raw, e := wire.Marshal(err.Details); e != nil || wire.DecodeLoose(raw, &details) != nil {
		return nil
	}
	var ps config.Problems
	for _, i := range details.Issues {
		ps = append(ps, config.Problem{File: file, Line: i.Line, Column: i.Column, Path: i.Path, Msg: i.Message})
	}
	return ps
}
