package gateway

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"openclaw/reload"
	"openclaw/reload/config"
	"openclaw/wire"
)

// restarting is what clients are told when a restart key has changed.
const restarting = "gateway restarting"

// maxToldProblems bounds the lines that one bad file writes to the log.
const maxToldProblems = 20

// Who wants a reload, besides the name of a signal.
const (
	fromFile  = "file"   // the watcher
	fromRPC   = "rpc"    // a client that has written the file
	fromAsked = "reload" // gateway.reload
)

// watcher notices changes of the file. It is a *reload.Watcher but in tests.
type watcher interface {
	Run(context.Context) error
	Method() string
}

// reloader is what is known of configuration changes. All of them, from
// whatever side, are applied by Run's goroutine through reload.
type reloader struct {
	log      *slog.Logger
	requests chan reloadRequest
	watcher  watcher
	pulse    chan struct{}               // received from by Run's goroutine, to show that it runs
	writing  chan struct{}               // holds a token while a client's change is written and applied: the watcher looks later
	last     atomic.Pointer[reloadState] // only Run's goroutine stores it
}

// reloadState is what the latest changes came to.
type reloadState struct {
	applied   []string
	appliedAt time.Time
	err       error  // why the file is not in effect; nil = it is, or waits
	rejected  string // hash of the file that err is about
	seen      string // hash of the file that was last taken; a change of nothing else is none
}

// reloadRequest asks Run's goroutine to look at the file.
type reloadRequest struct {
	source string
	dry    bool                 // only say what it would do
	reply  chan<- reloadOutcome // has room for one; nil = nobody waits
}

// asked reports whether somebody wants the change now, whatever hotReload.mode says.
func (r reloadRequest) asked() bool { return r.source != fromFile }

// reloadOutcome is what became of a reloadRequest.
type reloadOutcome struct {
	hash             string
	changes          []config.Change
	applied, pending []string
	restart          bool
	warnings         []config.Problem
	known            bool // the file has been judged before
	err              error
}

func (r *reloader) state() reloadState { return *r.last.Load() }

// followFile prepares what follows the file. No change after it is missed.
func (g *Gateway) followFile() {
	g.reloader.log, g.reloader.requests = g.log.With("sub", "reload"), make(chan reloadRequest)
	g.reloader.writing, g.reloader.pulse = make(chan struct{}, 1), make(chan struct{})
	o := reload.Options{
		Path:     g.opts.Paths.ConfigPath,
		Debounce: func() time.Duration { return g.cfg().Gateway.HotReload.DebounceMs.Duration() },
		Log:      g.reloader.log,
		Look: func() {
			select {
			case g.reloader.writing <- struct{}{}:
				<-g.reloader.writing
			case <-g.ctx.Done():
			}
			select {
			case g.reloader.requests <- reloadRequest{source: fromFile}:
			case <-g.ctx.Done():
			}
		},
	}
	if g.opts.watch != nil {
		g.reloader.watcher = g.opts.watch(o)
	} else {
		g.reloader.watcher = reload.NewWatcher(o)
	}
}

// askReload has Run's goroutine look at the file, and waits for the outcome.
func (g *Gateway) askReload(ctx context.Context, r reloadRequest) (reloadOutcome, error) {
	if g.stopping.Load() {
		return reloadOutcome{}, errStopping
	}
	reply := make(chan reloadOutcome, 1)
	r.reply = reply
	select {
	case g.reloader.requests <- r:
	case <-ctx.Done():
		return reloadOutcome{}, context.Cause(ctx)
	}
	return <-reply, nil // it is under way, and what it changes may be what ends ctx
}

// request serves a signal.
func (g *Gateway) request(r Request) (reason string, next *Gateway) {
	if !r.Restart {
		g.logs.reopen()
		return restarting, g.reload(reloadRequest{source: r.Source})
	}
	g.opts.Supervisor.tell(stateReloading)
	loaded, err := g.reread()
	if err == nil {
		err = g.acceptable(loaded.Config)
	}
	if err == nil {
		next, err = g.successor()
	}
	if err != nil {
		g.reject(reloadRequest{source: r.Source}, loaded, err)
		g.opts.Supervisor.tell(stateReady)
	}
	return r.Source + " received", next
}

// reload looks at the file and does what the difference takes. It returns the
// gateway that is to run next where that is a restart.
func (g *Gateway) reload(r reloadRequest) *Gateway {
	out, next := g.change(r)
	out.applied, out.pending = append([]string{}, out.applied...), append([]string{}, out.pending...)
	if !r.dry && out.err == nil && !out.known {
		g.tell(r, out)
		if next != nil {
			state := next.reloader.state() // of what it read, which may be newer
			state.applied, state.appliedAt = append(out.applied, out.pending...), time.Now()
			next.reloader.last.Store(&state)
			next.takenOver = out.pending
		}
	}
	if next == nil {
		g.opts.Supervisor.tell(stateReady)
	}
	if r.reply != nil {
		r.reply <- out
	}
	return next
}

// change is reload without what is told of it.
func (g *Gateway) change(r reloadRequest) (out reloadOutcome, next *Gateway) {
	running := g.snapshot()
	if g.secure && r.asked() && !r.dry { // it may have been renewed, whatever the file says
		if err := g.readCertificate(running.cfg.Gateway.TLS); err != nil {
			g.reloader.log.Error("config reload keeps the old certificate", "err", err)
		}
	}
	loaded, err := g.reread()
	if loaded != nil {
		out.hash = loaded.Hash
	}
	if r.source == fromFile && out.hash != "" && out.hash == g.reloader.state().seen {
		out.known = true // touched, or written by one who had it applied
		return out, nil
	}
	if !r.dry {
		g.opts.Supervisor.tell(stateReloading)
	}
	if err == nil {
		out.warnings = loaded.Warnings
	}
	if err == nil && loaded.Config.Gateway.Auth.Missing() && !r.dry {
		err = g.ownToken(loaded.Config)
	}
	if err == nil {
		out.changes = config.Diff(running.cfg, loaded.Config)
		err = g.acceptable(loaded.Config)
	}
	if err != nil {
		out.err = err
		if !r.dry {
			g.reject(r, loaded, err)
		}
		return out, nil
	}
	plan := reload.Decide(running.cfg.Gateway.HotReload.Mode, r.asked(), out.changes)
	out.applied, out.pending, out.restart = plan.Apply, append(plan.Wait, plan.Restart...), len(plan.Restart) > 0
	if len(out.pending) > 0 { // a hot key may wait with another, as a secret does with auth.mode
		left := config.Diff(config.WithHot(running.cfg, loaded.Config), loaded.Config)
		plan.Apply = slices.DeleteFunc(plan.Apply, func(path string) bool {
			waits := slices.ContainsFunc(left, func(c config.Change) bool { return c.Path == path })
			if waits {
				out.pending = append(out.pending, path)
			}
			return waits
		})
		out.applied = plan.Apply
	}
	if r.dry {
		return out, nil
	}
	if out.restart {
		if next, err = g.successor(); err != nil {
			out.err, out.applied, out.restart = err, nil, false
			g.reject(r, loaded, err)
			return out, nil
		}
	}
	g.apply(r, running, loaded, plan)
	return out, next
}

// acceptable judges what only a running gateway can tell of a configuration.
func (g *Gateway) acceptable(cfg *config.Config) error {
	p := g.opts.Paths
	if !reflect.DeepEqual(p.Instance(cfg, g.port), p.Instance(g.cfg(), g.port)) { // else it is no worse than it was
		if err := g.isolated(cfg); err != nil {
			return err
		}
	}
	return g.logs.check(cfg)
}

// apply installs what needs no restart.
func (g *Gateway) apply(r reloadRequest, running *snapshot, loaded *config.Loaded, plan reload.Plan) {
	log := func() {
		if len(plan.Apply) > 0 {
			g.reloader.log.Info("config reload applied", "source", r.source, "keys", strings.Join(plan.Apply, ", "))
		}
	}
	if g.logs.level.Level() <= slog.LevelInfo {
		log() // the new level may leave it out
	} else {
		defer log()
	}
	switch {
	case len(plan.Wait) == 0 && len(plan.Restart) == 0:
		g.install(loaded.Config, loaded)
		g.warn(slices.DeleteFunc(slices.Clone(loaded.Warnings), func(w config.Problem) bool {
			return slices.ContainsFunc(running.loaded.Warnings, func(old config.Problem) bool { return old.Path == w.Path && old.Msg == w.Msg })
		}))
	case len(plan.Apply) > 0:
		g.install(config.WithHot(running.cfg, loaded.Config), running.loaded)
	}
	if len(plan.Apply) > 0 {
		g.channels.Apply(g.cfg().ChannelAccounts())
		g.hub.healthChanged(g.health.take())
	}
}

// tell logs a change and tells the clients of it.
func (g *Gateway) tell(r reloadRequest, out reloadOutcome) {
	state := g.reloader.state()
	news := len(out.changes) > 0 || out.hash != state.seen || state.err != nil
	state.seen, state.err = out.hash, nil
	if len(out.changes) > 0 {
		now := time.Now()
		g.metrics.reloads.Add(1)
		g.metrics.reloaded.Store(&now)
	}
	if len(out.applied) > 0 {
		state.applied, state.appliedAt = out.applied, time.Now()
	}
	g.reloader.last.Store(&state)
	log := g.reloader.log.With("source", r.source)
	switch {
	case out.restart:
		log.Info("config reload restarts the gateway", "keys", strings.Join(out.pending, ", "))
	case len(out.pending) > 0:
		log.Warn("config reload waits for openclaw gateway reload", "keys", strings.Join(out.pending, ", "), "mode", g.cfg().Gateway.HotReload.Mode)
	case len(out.changes) == 0:
		log.Info("config reload changes nothing")
	}
	if !news && r.reply != nil {
		return // it has been told, and who asked has the answer
	}
	emit(g.hub, evConfigChanged(), wire.ConfigChanged{
		Ts: time.Now().UnixMilli(), Source: r.source, Hash: out.hash, Applied: out.applied, Pending: out.pending, Restart: out.restart,
	})
}

// reject keeps the running configuration and says why. loaded is what could be
// read of the other one; nil = nothing.
func (g *Gateway) reject(r reloadRequest, loaded *config.Loaded, err error) {
	state := g.reloader.state()
	hash := ""
	if loaded != nil {
		hash = loaded.Hash
	}
	if r.source == fromFile && hash != "" && hash == state.rejected && state.err != nil && err.Error() == state.err.Error() {
		return // told already
	}
	g.metrics.rejected.Add(1)
	state.err, state.rejected = err, hash
	event := wire.ConfigRejected{Ts: time.Now().UnixMilli(), Source: r.source, Hash: hash, Error: err.Error(), Issues: []wire.ConfigIssue{}}
	state.seen = "" // what was wrong need not be in the file: the same text may do next time
	g.reloader.last.Store(&state)
	log := g.reloader.log.With("source", r.source)
	var problems config.Problems
	if !errors.As(err, &problems) {
		log.Error("config reload rejected", "err", err)
	} else {
		event.Error, event.Issues = problems.Brief(), issues(problems)
		for _, p := range problems[:min(len(problems), maxToldProblems)] {
			log.Error("config reload rejected", "err", p.String())
		}
	}
	emit(g.hub, evConfigRejected(), event)
}

// reread reads the configuration for a running gateway.
func (g *Gateway) reread() (*config.Loaded, error) {
	loaded, err := g.opts.load()
	var none errNoConfig
	switch {
	case errors.As(err, &none), err == nil && loaded.Hash == "" && g.snapshot().loaded.Hash != "":
		return nil, fmt.Errorf("%s is gone", g.opts.Paths.ConfigPath)
	}
	return loaded, err
}

// successor builds the gateway that takes over from this one. It proves what a
// restart needs: that the new addresses can be listened on, certificates read.
func (g *Gateway) successor() (*Gateway, error) {
	o := g.opts
	o.Force, o.Ready = false, nil
	next, err := build(o, g)
	if err != nil {
		return nil, fmt.Errorf("cannot restart: %w", err)
	}
	return next, nil
}

// configStatus says whether the running configuration is the one in the file.
func (g *Gateway) configStatus() *wire.StatusConfig {
	running, state := g.snapshot(), g.reloader.state()
	out := &wire.StatusConfig{
		Path: g.opts.Paths.ConfigPath, LoadedHash: running.loaded.Hash, Mode: running.cfg.Gateway.HotReload.Mode,
		Watch: g.reloader.watcher.Method(), Applied: state.applied, SecretFrom: running.loaded.SecretFrom(g.opts.Paths.ConfigPath),
	}
	if name := running.cfg.Gateway.Auth.SecretVar(); out.SecretFrom == "the variable "+name {
		if value, _ := g.opts.Env(name); value == "" {
			out.SecretFrom = filepath.Join(g.opts.Paths.StateDir, tokenName)
		}
	}
	if !state.appliedAt.IsZero() {
		out.AppliedAt = state.appliedAt.UnixMilli()
	}
	if state.err != nil {
		out.LastError = state.err.Error()
	}
	loaded, err := g.reread()
	if loaded != nil {
		out.FileHash = loaded.Hash
	}
	if err != nil {
		out.LastError = err.Error()
		return out
	}
	if loaded.Config.Gateway.Auth.Missing() {
		loaded.Config.Gateway.Auth = running.cfg.Gateway.Auth // a token of its own is in no file
	}
	for _, c := range config.Diff(running.cfg, loaded.Config) {
		out.Pending = append(out.Pending, c.Path)
	}
	return out
}
