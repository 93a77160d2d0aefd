package svc

import (
	"context"
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"openclaw/reload/config"
	"openclaw/wire"
)

// applyTime bounds what a command that has written the file waits for the gateway.
const applyTime = 5 * time.Second

// configApplied is what the profile's running gateway made of a file that a
// command has written.
type configApplied struct {
	Running bool     `json:"running"`
	Applied []string `json:"applied"`
	Pending []string `json:"pending"`
	Restart bool     `json:"restart"`         // a restart in process follows, which applies what is pending
	Error   string   `json:"error,omitempty"` // why the gateway goes on as it was

	line  string // for a person
	waits string // the mode because of which it has to be told
}

// apply has the running gateway take the file that was just written, unless its
// hotReload.mode leaves that to the person. was is the configuration before.
func (e *Env) apply(ctx context.Context, p config.Paths, was *config.Config, changes []config.Change) *configApplied {
	out := &configApplied{Applied: []string{}, Pending: []string{}}
	i, running, _ := e.instance(p)
	if !running || i.ConfigPath != "" && filepath.Clean(i.ConfigPath) != filepath.Clean(p.ConfigPath) {
		return out
	}
	out.Running, out.line = true, "the running gateway will notice"
	mode := was.Gateway.HotReload.Mode
	if i.Addr == "" { // it does not listen yet
		out.leave(mode, changes)
		return out
	}
	ctx, cancel := context.WithTimeout(ctx, applyTime)
	defer cancel()
	ep, err := ownGateway(e, p)
	if err != nil || !ep.own {
		return out
	}
	l, err := ep.dial(ctx, e, &Args{}, nil)
	if err != nil {
		out.leave(mode, changes)
		return out
	}
	defer l.Close()
	var s wire.Status
	if _, err := l.ask(ctx, "status", nil, &s); err == nil && s.Config != nil {
		mode = s.Config.Mode
	}
	var r *wire.Reloaded
	var refused *wire.Error
	if mode == "hot" { // a restart is for the person to ask for, also one that waits already
		if r, refused, err = l.reload(ctx, wire.ReloadQuery{DryRun: true}); err == nil {
			changes = changesOf(r)
		}
	}
	if err == nil && out.leave(mode, changes) {
		return out
	}
	if err == nil {
		r, refused, err = l.reload(ctx, wire.ReloadQuery{})
	}
	switch {
	case refused != nil && !passing(refused):
		out.line, out.Error = "", reason(refused)
	case err != nil:
	case r.Restart:
		out.Applied, out.Pending, out.Restart = append(out.Applied, r.Applied...), append(out.Pending, r.Pending...), true
		out.line = "the running gateway restarts for: " + someOf(r.Pending)
	default:
		out.Applied, out.Pending = append(out.Applied, r.Applied...), append(out.Pending, r.Pending...)
		vain := 0
		for _, w := range r.Warnings {
			if slices.ContainsFunc(changes, func(c config.Change) bool { return c.Path == w.Path }) {
				e.Warn("%s", warningOf(w))
				vain++
			}
		}
		if out.line = ""; len(changes) > vain || len(r.Applied) > 0 {
			out.line = "applied by the running gateway"
		}
	}
	return out
}

// leave reports whether the mode leaves changes to the person, and notes which.
func (c *configApplied) leave(mode string, changes []config.Change) bool {
	if mode != "off" && (mode != "hot" || config.ClassOf(changes) != config.Restart) {
		return false
	}
	if c.line = ""; len(changes) > 0 {
		c.waits = mode
	}
	for _, change := range changes {
		if mode == "off" || change.Class == config.Restart {
			c.Pending = append(c.Pending, change.Path)
		}
	}
	return true
}

// reason is why a gateway refused a reload, on one line.
func reason(refused *wire.Error) string {
	ps := problemsOf(refused, "")
	if len(ps) == 0 {
		return strings.TrimPrefix(refused.Message, "invalid config: ")
	}
	first := ps[0].String()
	if len(ps) > 1 {
		first += " and " + count(len(ps)-1, "more problem")
	}
	return first
}

// notApplied is the error for a file that is written and not in effect.
func (out *configWritten) notApplied() error {
	if out.Gateway == nil || out.Gateway.Error == "" {
		return nil
	}
	msg := "written, but the running gateway cannot use it and goes on as it was: " + out.Gateway.Error
	out.OK, out.Error = false, &errorReport{"NOT_APPLIED", msg}
	return &Error{Code: "NOT_APPLIED", Msg: msg, Body: out}
}

// unplaced takes the places from problems of a text that nobody has seen.
func unplaced(err error) error {
	var ps config.Problems
	if !errors.As(err, &ps) {
		return err
	}
	return withoutPlaces(ps)
}

func withoutPlaces(ps []config.Problem) config.Problems {
	out := make(config.Problems, len(ps))
	for i, p := range ps {
		out[i] = config.Problem{Path: p.Path, Msg: p.Msg}
	}
	return out
}
