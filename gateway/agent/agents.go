package agent

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"openclaw/gateway/store"
	"openclaw/gateway/tool"
	"openclaw/reload/config"
)

const (
	keptRuns    = 1000             // finished runs that can be asked about
	keptFor     = 10 * time.Minute // how long
	keptSize    = 32 << 20         // bytes of their answers
	keptIdle    = 32               // idle sessions whose history stays in memory
	keptHistory = 1 << 20          // bytes of history that an idle session may keep
	maxRunID    = 256              // bytes

	maxRounds     = 50        // answers of one turn that may call tools; then the model has to come to an end
	maxTurnTokens = 5_000_000 // that the model calls of one turn may use before no further tools are run
)

// Options is what Agents needs from its surroundings.
type Options struct {
	Dir       *store.Dir
	Config    func() *config.Config             // the current configuration
	Workspace func(config.ResolvedAgent) string // where an agent works; nil is what its configuration says
	Log       *slog.Logger
	Sink      func(Event)              // gets every event of every run, on the run's goroutine; must not block
	Tools     func(tool.Scope) Toolset // what a turn may do; nil is nothing

	// Dial connects to model providers; nil is the network.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
}

// Agents runs turns and answers questions about sessions. Its methods may be
// called from any goroutine.
type Agents struct {
	dir       *store.Dir
	config    func() *config.Config
	workspace func(config.ResolvedAgent) string
	log       *slog.Logger
	sink      func(Event)
	tools     func(tool.Scope) Toolset
	models    *models
	maxRounds int // maxRounds and maxTurnTokens, but for tests
	maxTokens int64

	// Counts runs until their last event and actors until they are gone. It
	// grows from zero only under mu and before draining is set.
	work sync.WaitGroup

	mu       sync.Mutex // held for moments, never across I/O; taken before session.mu, never after
	draining bool
	active   int                // sessions with turns, and stateless runs
	sessions map[place]*session // in use, or idle and remembered
	idle     []*session         // those without a user, longest idle first
	evicted  []*session         // to be closed by unlock
	runs     map[string]*Run    // from admission until forgotten
	finished []finishedRun      // in the order in which they ended
	kept     int                // bytes of finished answers
	order    uint64             // runs that were admitted

	described map[string]description // of transcripts, by session id
	swept     map[string]sweepState  // of named answers, by agent

	usageMu   sync.Mutex // held while a report is made
	usage     UsageReport
	usageDays int // that usage covers; 0 before the first
}

type finishedRun struct {
	run  *Run
	at   time.Time
	size int
}

// New returns Agents. It starts nothing and reads nothing.
func New(o Options) *Agents {
	if o.Sink == nil {
		o.Sink = func(Event) {}
	}
	if o.Workspace == nil {
		o.Workspace = func(a config.ResolvedAgent) string { return a.Workspace }
	}
	return &Agents{
		dir: o.Dir, config: o.Config, workspace: o.Workspace, log: o.Log, sink: o.Sink, tools: o.Tools,
		models:    newModels(o.Config, o.Log, o.Dial),
		maxRounds: maxRounds, maxTokens: maxTurnTokens,
		sessions:  map[place]*session{},
		runs:      map[string]*Run{},
		described: map[string]description{},
		swept:     map[string]sweepState{},
	}
}

// Start accepts a turn. When it returns a run, the turn's messages are on disk
// (unless it is stateless or a command) and the run is under way or waits for
// its session's earlier ones. An error means that nothing was kept, and is one
// of the package's sentinels or the store's. The run ends when ctx does; a run
// that is to outlive its caller gets context.WithoutCancel.
//
// A RunID that is known, running or lately finished, is not run again: its run
// is returned, whatever else the turn says.
//
// A message that is a chat command is answered without a model,
// ahead of waiting turns, and leaves no trace in the transcript.
func (a *Agents) Start(ctx context.Context, t Turn) (*Run, error) {
	if run, ok := a.Find(t.RunID); ok {
		return joined(ctx, run)
	}
	a.mu.Lock()
	draining := a.draining
	a.mu.Unlock()
	if draining {
		return nil, ErrDraining
	} else if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	cfg := a.config()
	to, err := resolve(cfg, t.SessionKey, t.AgentID)
	if err != nil {
		return nil, err
	}
	agent, ok := cfg.Agent(to.agent)
	if !ok {
		return nil, refuse(ErrUnknownAgent, "unknown agent id %q", to.agent)
	}
	if err := check(cfg, &t); err != nil {
		return nil, err
	}
	if t.SessionKey == "" && t.Answer != nil {
		if err := a.ownSession(&t, to.agent); err != nil {
			return nil, err
		}
		to.place = place{to.agent, t.SessionKey}
	}
	var index *store.Sessions
	if t.SessionKey == "" {
		to.key = ""
	} else if index, err = a.index(to); err != nil {
		return nil, err
	}
	j := &turn{Turn: t, run: newRun(t.RunID, to), client: ctx, agent: agent, to: to}
	if to.key != "" {
		j.command, j.args = a.commandOf(to.key, t.Messages)
		j.run.Command = j.command != nil
	}
	s, other, err := a.admit(j, index, cfg.Gateway.Limits)
	if other != nil {
		return joined(ctx, other)
	}
	if err != nil {
		return nil, err
	}
	// The client's context is watched, not inherited: a finished run is
	// remembered and must not keep a request's memory alive.
	j.unwatch = context.AfterFunc(ctx, func() { j.run.Abort(clientLeft) })
	if s != nil {
		if err := s.accept(j); err != nil {
			j.unwatch()
			a.dismiss(s, j.run, err)
			return nil, err
		}
	}
	defer close(j.run.accepted) // which lets the run's first event go
	switch {
	case j.command != nil:
		go a.runCommand(j)
	case s == nil:
		go a.runStateless(j)
	}
	if t.Accepted != nil {
		t.Accepted(j.run)
	}
	return j.run, nil
}

// check finds fault with a turn before anything is written.
func check(cfg *config.Config, t *Turn) error {
	if len(t.RunID) > maxRunID {
		return refuse(ErrInvalidTurn, "run id: at most %d bytes", maxRunID)
	}
	said := t.Resume != ""
	for i := range t.Messages {
		m := &t.Messages[i]
		switch m.Role {
		case store.RoleUser, store.RoleAssistant:
			said = said || slices.ContainsFunc(m.Content, func(p store.Part) bool {
				return p.Type != store.PartText || strings.TrimSpace(p.Text) != ""
			})
		case store.RoleToolResult:
			if m.ToolCallID == "" {
				return refuse(ErrInvalidTurn, "message %d: a tool result needs the id of its call", i)
			}
			said = true
		default:
			return refuse(ErrInvalidTurn, "message %d: unknown role %q", i, m.Role)
		}
	}
	if !said {
		return ErrEmpty
	}
	if t.Model != "" {
		if _, err := cfg.Model(t.Model); err != nil {
			return refuse(ErrUnknownModel, "%v", err)
		}
	}
	return nil
}

// admit reserves a place for a run: its id, and a place among the running
// turns or in its session's mailbox. It returns the run that has the id
// already, if there is one, and no session for what needs none.
func (a *Agents) admit(t *turn, index *store.Sessions, limits config.Limits) (s *session, other *Run, err error) {
	a.mu.Lock()
	defer a.unlock()
	a.forgetLocked()
	run := t.run
	switch {
	case a.runs[run.ID] != nil:
		return nil, a.runs[run.ID], nil
	case a.draining:
		return nil, nil, ErrDraining
	case t.command != nil: // takes no place: /stop must work when all are taken
	case run.SessionKey == "":
		if a.active >= limits.MaxRuns {
			return nil, nil, a.full()
		}
		a.active++
	default:
		s = a.sessionLocked(t.to.place, index)
		if s.turns == 0 && a.active >= limits.MaxRuns {
			err = a.full()
		} else if s.turns > limits.MaxQueuedTurns {
			err = refuse(ErrBusy, "too many turns: %d wait in this session already", s.turns-1)
		}
		if err != nil {
			a.releaseLocked(s)
			return nil, nil, err
		}
		if s.turns++; s.turns == 1 {
			a.active++
		}
	}
	a.runs[run.ID] = run
	a.order++
	run.order = a.order
	a.work.Add(1)
	return s, nil, nil
}

func (a *Agents) full() error {
	return refuse(ErrBusy, "too many turns: %d are running already", a.active)
}

// dismiss takes back what admit gave.
func (a *Agents) dismiss(s *session, run *Run, err error) {
	a.mu.Lock()
	delete(a.runs, run.ID)
	a.mu.Unlock()
	a.leave(s)
	a.release(s)
	run.refused = err
	close(run.accepted)
	run.cancel(err)
	a.work.Done()
}

// leave gives back a turn's place; s is nil for a stateless one.
func (a *Agents) leave(s *session) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if s != nil {
		if s.turns--; s.turns > 0 {
			return
		}
	}
	a.active--
}

// release ends one use of s.
func (a *Agents) release(s *session) {
	a.mu.Lock()
	defer a.unlock()
	a.releaseLocked(s)
}

// sessionLocked returns the session at p for use until releaseLocked.
func (a *Agents) sessionLocked(p place, index *store.Sessions) *session {
	s := a.sessions[p]
	if s == nil {
		s = &session{agents: a, place: p, index: index}
		a.sessions[p] = s
	}
	if s.users++; s.users == 1 {
		a.idle = slices.DeleteFunc(a.idle, func(i *session) bool { return i == s })
	}
	return s
}

// releaseLocked ends one use of s. The last few idle sessions stay in memory,
// so that a conversation does not read its transcript again at every turn.
func (a *Agents) releaseLocked(s *session) {
	if s.users--; s.users > 0 {
		return
	}
	a.idle = append(a.idle, s)
	if !s.keep {
		a.evictLocked(len(a.idle) - 1)
	} else if len(a.idle) > keptIdle {
		a.evictLocked(0)
	}
}

func (a *Agents) evictLocked(i int) {
	s := a.idle[i]
	a.idle = slices.Delete(a.idle, i, i+1)
	delete(a.sessions, s.place)
	a.evicted = append(a.evicted, s)
}

// unlock releases mu and closes what was evicted under it.
func (a *Agents) unlock() {
	evicted := a.evicted
	a.evicted = nil
	a.mu.Unlock()
	for _, s := range evicted {
		s.close()
	}
}

// at calls fn with the session that key means, in memory or not.
func (a *Agents) at(key string, fn func(*session) error) (address, error) {
	to, err := resolve(a.config(), key, "")
	if err != nil {
		return to, err
	}
	index, err := a.index(to)
	if err != nil {
		return to, err
	}
	a.mu.Lock()
	s := a.sessionLocked(to.place, index)
	a.mu.Unlock()
	defer a.release(s)
	return to, fn(s)
}

// Counts returns how many turns run now and how many wait behind them.
func (a *Agents) Counts() (running, queued int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, s := range a.sessions {
		queued += max(s.turns-1, 0)
	}
	return a.active, queued
}

// Refuse refuses new turns from now on, with ErrDraining.
func (a *Agents) Refuse() {
	a.mu.Lock()
	a.draining = true
	a.unlock()
}

// Drain refuses new turns and waits for those that were accepted. When ctx ends
// first they are aborted, keeping what they have said; Drain then still waits
// until they have stored it, and returns ctx's cause.
func (a *Agents) Drain(ctx context.Context) error {
	a.Refuse()
	gone := make(chan struct{})
	go func() {
		a.work.Wait()
		close(gone)
	}()
	var err error
	select {
	case <-gone:
	case <-ctx.Done():
		err = context.Cause(ctx)
		a.mu.Lock()
		runs := slices.SortedFunc(maps.Values(a.runs), func(x, y *Run) int { return cmp.Compare(y.order, x.order) })
		a.unlock()
		for _, r := range runs { // newest first, so that none begins because one before it ends
			r.Abort("the gateway is shutting down")
		}
		<-gone
	}
	a.mu.Lock()
	for len(a.idle) > 0 {
		a.evictLocked(0)
	}
	a.unlock()
	a.models.close()
	return err
}

// refuse makes an error that says more than its sentinel.
func refuse(is error, format string, args ...any) error {
	return &refusal{is, fmt.Sprintf(format, args...)}
}

type refusal struct {
	is  error
	msg string
}

func (e *refusal) Error() string { return e.msg }
func (e *refusal) Unwrap() error { return e.is }
