// Package tool is what a turn may do beside talking: the table of tools, the
// policy that says which of them whom serves, and the tools themselves.
//
// Read table.go first: each tool is a row of a name, a class, an argument type
// and a handler. args.go derives the JSON Schema from the argument type and
// reads what a model sent into it. policy.go is the one place that decides
// which rows a call can reach. workspace.go is the one door to files; file.go,
// edit.go and grep.go go through it. web.go gets pages, by way of the package
// fetch. session.go answers about sessions and the gateway itself. exec.go
// settles what a program may be and do, approval.go has people decide,
// process.go runs it, and sandbox builds the walls around it.
package tool

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"slices"
	"sync"

	"openclaw/gateway/store"
	"openclaw/gateway/tool/fetch"
	"openclaw/gateway/tool/sandbox"
	"openclaw/reload/config"
)

// Class says what a tool can do at worst. The HTTP door goes by it.
type Class string

// The classes.
const (
	Read    Class = "read"    // sees files
	Write   Class = "write"   // changes files
	Execute Class = "execute" // runs programs
	Network Class = "network" // reaches other hosts
	Session Class = "session" // sees conversations
	Admin   Class = "admin"   // sees or changes the gateway itself
)

// Definition is what a model and a client are told of a tool.
type Definition struct {
	Name, Description string
	Parameters        json.RawMessage // a JSON Schema of an object
	Class             Class
	Groups            []string // group:fs, …; of config.ToolGroups
}

// Options is what Tools needs from its surroundings.
type Options struct {
	Config   func() *config.Config // the current configuration
	Dir      *store.Dir
	Log      *slog.Logger
	Sessions Sessions
	Messages Messages
	Hidden   []string       // files and directories, beside Dir, that no program may see
	Ask      func(Approval) // tells clients that a decision is wanted; may be nil
}

// Tools runs tools. Its methods may be called from any goroutine.
type Tools struct {
	Options
	web    *fetch.Client
	ctx    context.Context // ends with Close
	cancel context.CancelCauseFunc
	calls  sync.WaitGroup

	mu     sync.Mutex
	closed bool

	approvals approvals
	programs  programs
	layers    func() sandbox.Layers // probed once

	writing sync.Mutex // held while a file is read, changed and put in its place
}

// New returns Tools. It starts nothing.
func New(o Options) *Tools {
	t := &Tools{Options: o, layers: sync.OnceValue(sandbox.Probe), web: fetch.New()}
	t.ctx, t.cancel = context.WithCancelCause(context.Background())
	return t
}

var errClosed = errors.New("the gateway is shutting down")

// Layers are the walls of the sandbox as this host has them.
func (t *Tools) Layers() sandbox.Layers { return t.layers() }

// Close cancels the calls and ends the programs that run, and refuses others. It returns when they
// are over, or when ctx ends, with its cause.
func (t *Tools) Close(ctx context.Context) error {
	t.mu.Lock()
	t.closed = true
	t.mu.Unlock()
	t.cancel(errClosed)
	gone := make(chan struct{})
	go func() {
		t.calls.Wait()
		close(gone)
	}()
	select {
	case <-gone:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Scope says on whose behalf tools run.
type Scope struct {
	Agent      config.ResolvedAgent
	SessionKey string // canonical; "" for a turn without a session
	RunID      string
	Workspace  string                 // absolute
	Main       bool                   // the agent's main session
	Provider   string                 // of the model, as provider or provider/model
	Parent     *Set                   // of the session that made this one, which never has more
	HTTP       bool                   // asked over HTTP, by no model
	From       *store.DeliveryContext // the chat that is being answered, if it is one
}

// Set is the tools that one scope may use, settled by For.
type Set struct {
	tools *Tools
	scope Scope
	rows  []*row // in the table's order
}

// For settles which tools a scope may use, by the configuration of now.
func (t *Tools) For(s Scope) *Set {
	return &Set{tools: t, scope: s, rows: effective(t.Config(), &s)}
}

// List returns the tools of the set, in the table's order.
func (s *Set) List() []Definition { return definitions(s.rows) }

// Effective returns the tools that a scope may use under a configuration.
func Effective(cfg *config.Config, s Scope) []Definition { return definitions(effective(cfg, &s)) }

func definitions(rows []*row) []Definition {
	out := make([]Definition, len(rows))
	for i, r := range rows {
		out[i] = r.Definition
	}
	return out
}

// Names returns the names of the tools of the set.
func (s *Set) Names() []string {
	out := make([]string, len(s.rows))
	for i, r := range s.rows {
		out[i] = r.Name
	}
	return out
}

func (s *Set) find(name string) *row {
	if i := slices.IndexFunc(s.rows, func(r *row) bool { return r.Name == name }); i >= 0 {
		return s.rows[i]
	}
	return nil
}

// Has reports whether the set has a tool.
func (s *Set) Has(name string) bool { return s.find(name) != nil }

// Result is what a tool answers. One that failed says why in Content.
type Result struct {
	Content store.Content // text and images
	Details json.RawMessage
	IsError bool
}

// maxOutput bounds the text of a result, in bytes.
const maxOutput = 256 << 10

// call is one call of a tool, as its handler sees it.
type call struct {
	*Tools
	Scope
	set    *Set
	id     string
	update func(partial string)
}

// Call runs a tool. Calls of one set may run at once. It does not fail: what
// went wrong, a tool that is not there and one that policy denies alike, is a
// result that the model can act on. update, if not nil, hears of output that
// comes before the end.
func (s *Set) Call(ctx context.Context, id, name string, args json.RawMessage, update func(partial string)) (res Result) {
	t := s.tools
	r := s.find(name)
	if r == nil {
		msg := fmt.Sprintf("there is no tool %q here", store.Clip(name, 64))
		if near := config.Nearest(name, s.Names()); near != "" {
			msg += " (did you mean " + near + "?)"
		}
		return failed(errors.New(msg))
	}
	t.mu.Lock()
	if t.closed {
		t.mu.Unlock()
		return failed(errClosed)
	}
	t.calls.Add(1)
	t.mu.Unlock()
	defer t.calls.Done()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(t.ctx, func() { cancel(context.Cause(t.ctx)) })()
	defer func() {
		if v := recover(); v != nil {
			t.Log.Error("panic contained", "method", "tool "+r.Name, "run", s.scope.RunID, "err", v, "stack", string(debug.Stack()))
			res = failed(errors.New("internal error; it is in the gateway's log"))
		}
	}()
	if update == nil {
		update = func(string) {}
	}
	res, err := r.run(ctx, &call{t, s.scope, s, id, update}, args)
	if err != nil {
		return failed(err)
	}
	bound(res.Content)
	return res
}

// Check finds fault with a call without running it.
func (s *Set) Check(name string, args json.RawMessage) error {
	r := s.find(name)
	if r == nil {
		return fmt.Errorf("there is no tool %q here", store.Clip(name, 64))
	}
	return r.check(&call{s.tools, s.scope, s, "", nil}, args)
}

// failed is the result of a call that failed.
func failed(err error) Result {
	return Result{Content: store.Text(store.Clip(err.Error(), 16<<10)), IsError: true}
}

// text is a result of one text.
func text(format string, args ...any) Result {
	return Result{Content: store.Text(fmt.Sprintf(format, args...))}
}

// bound cuts the text of a result to maxOutput and says how much was cut.
func bound(c store.Content) {
	room := maxOutput
	for i := range c {
		p := &c[i]
		if p.Type != store.PartText {
			continue
		}
		if len(p.Text) > room {
			kept := store.Clip(p.Text, room)
			p.Text = fmt.Sprintf("%s\n[%d of %d bytes are left out]", kept, len(p.Text)-len(kept), len(p.Text))
			room = 0
			continue
		}
		room -= len(p.Text)
	}
}
