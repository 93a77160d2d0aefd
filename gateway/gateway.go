// Package gateway is the daemon: the process that listens, lets clients in,
// runs their requests and turns, and tells them what happens.
//
// Read it along a request. listen.go binds the port; http.go is the one way in
// (admit.go: host, origin, proxies; auth.go, limiter.go: credentials) and
// serves the HTTP endpoints of its route table; upgrade.go turns a request into
// a peer (peer.go), whose requests method.go dispatches by the table in
// methods.go. tools.go tells of the tools that turns have, and calls one over
// HTTP. hub.go knows all peers and sends events (event.go) in each one's
// dialect (dialect.go). gateway.go starts and stops it all from what options.go
// says; reload.go applies a changed configuration, and where that takes a
// restart door.go hands the sockets to the next gateway. health.go and log.go
// say how it fares; notify.go and watchdog.go tell a supervisor, which may have
// opened the sockets (activation.go).
//
// Locks are taken in the order runStream.mu, streams.mu or hub.mu; every other
// one is taken alone. Neither of the last two is held while anything is sent,
// but for the hello of a peer that joins.
package gateway

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"openclaw/gateway/agent"
	"openclaw/gateway/channel"
	"openclaw/gateway/store"
	"openclaw/gateway/tool"
	"openclaw/reload/config"
	"openclaw/wire"
)

// Exit codes of a gateway that cannot run.
const (
	exitFailed = 1
	exitConfig = 78 // EX_CONFIG of sysexits.h: a supervisor must not try again
)

// stopMargin bounds what follows the grace period: the last answers, closing
// handshakes and idle HTTP connections.
const stopMargin = 2500 * time.Millisecond

// ExitError is an error with the exit code that it means for the process.
type ExitError struct {
	Code int
	Err  error
}

func (e *ExitError) Error() string { return e.Err.Error() }

func (e *ExitError) Unwrap() error { return e.Err }

func fail(code int, format string, a ...any) error {
	return &ExitError{code, fmt.Errorf(format, a...)}
}

// Signal is the cause with which the context of Run ends when a signal came.
type Signal struct{ Name string } // "SIGTERM"

func (s Signal) Error() string { return s.Name + " received" }

// Gateway is one run of the daemon, from New to the end of Run.
type Gateway struct {
	// Set by New, only read afterwards.
	opts      Options
	version   string
	pid       int
	started   time.Time
	port      int
	listeners []net.Listener
	doors     []*door  // below the listeners, where those are of the network
	from      *Gateway // that this one takes over from; nil once that is gone
	takenOver []string // keys for which it does
	secure    bool     // the listeners speak TLS
	cert      atomic.Pointer[tls.Certificate]
	log       *slog.Logger
	logs      *logOutput
	store     *store.Dir
	agents    *agent.Agents
	channels  *channel.Set
	tools     *tool.Tools
	hub       *hub
	streams   *streams
	health    *health
	limiter   *limiter
	idem      *idempotency
	metrics   *metrics
	reloader  reloader
	methods   map[string]*method
	routes    []route
	server    *http.Server
	conns     conns
	cliKey    string
	ctx       context.Context // ends when everything is over, after the drain
	cancel    context.CancelCauseFunc

	systemEvents *systemEvents

	current  atomic.Pointer[snapshot] // only Run and New store it
	stopping atomic.Bool              // new work is refused
	restarts atomic.Bool              // and another gateway takes over: whoever connects may still look
	stuck    atomic.Pointer[string]   // names of what does not answer the watchdog
	frames   sync.Pool                // of *[]byte, scratch space for one frame each

	drainUntil time.Time // when the drain ought to be over; set before stopping
}

// snapshot is a configuration and what follows from it, stored as one.
type snapshot struct {
	cfg         *config.Config
	loaded      *config.Loaded // that cfg comes from; keys that wait are not in cfg
	credentials *credentials
	policy      []byte // of hello
	served      served
}

func (g *Gateway) snapshot() *snapshot { return g.current.Load() }

// cfg is the configuration now. Ask again for every request.
func (g *Gateway) cfg() *config.Config { return g.snapshot().cfg }

func (g *Gateway) uptime() time.Duration { return time.Since(g.started) }

// New binds the ports, before any other work, locks the state directory and
// prepares everything that Run serves. Its errors are *ExitError.
func New(o Options) (*Gateway, error) {
	if o.Env == nil {
		o.Env = func(string) (string, bool) { return "", false }
	}
	if o.Stderr == nil {
		o.Stderr = io.Discard
	}
	if o.ReadFile == nil {
		o.ReadFile = store.ReadConfigFile
	}
	return build(o, nil)
}

// build makes a gateway that runs on the configuration as it is now. From the
// one that it takes over from, if any, it has sockets, state directory and what
// is remembered of clients; where that one goes on because this one cannot be
// built, nothing has changed for it.
func build(o Options, from *Gateway) (*Gateway, error) {
	g := &Gateway{opts: o, version: versionOf(o.Version), pid: os.Getpid(), started: time.Now(), from: from}
	g.ctx, g.cancel = context.WithCancelCause(context.Background())
	g.logs = newLogOutput(g)
	g.log = slog.New(g.logs.handler())
	g.followFile() // before it is read
	load := o.load
	if from != nil {
		load = from.reread
	}
	loaded, err := load()
	if err == nil {
		err = g.bind(loaded.Config)
	}
	if err == nil {
		err = g.prepare(loaded)
	}
	switch {
	case err == nil:
		return g, nil
	case from == nil:
		g.releaseTo(nil)
	default:
		g.discard()
		err = errors.Join(err, from.comeBack())
	}
	return nil, err
}

// prepare does everything after the ports.
func (g *Gateway) prepare(loaded *config.Loaded) error {
	if err := g.takeState(); err != nil {
		return err
	}
	cfg := loaded.Config
	if cfg.Gateway.Auth.Missing() {
		if err := g.ownToken(cfg); err != nil {
			return err
		}
	}
	if err := g.wrapTLS(cfg.Gateway.TLS); err != nil {
		return &ExitError{exitConfig, err}
	}
	g.health = &health{g: g}
	g.hub = newHub(g.log.With("sub", "hub"), g.ownPresence())
	g.streams = newStreams(g.hub, g.metrics)
	g.reloader.last.Store(&reloadState{seen: loaded.Hash})
	g.install(cfg, loaded)
	if err := g.isolated(cfg); err != nil {
		return err
	}
	g.tools = tool.New(tool.Options{
		Config: g.cfg, Dir: g.store, Log: g.log.With("sub", "tool"), Sessions: toolSessions{g}, Messages: toolMessages{g},
		Hidden: []string{g.opts.Paths.ConfigPath}, Ask: g.approvalAsked,
	})
	g.agents = agent.New(agent.Options{
		Dir: g.store, Config: g.cfg, Workspace: g.opts.Paths.WorkspaceOf, Log: g.log.With("sub", "agent"),
		Sink: g.streams.sink, Dial: g.opts.Dial,
		Tools: func(s tool.Scope) agent.Toolset { return g.tools.For(s) },
	})
	g.channels = channel.New(channel.Options{Dir: g.store, Log: g.log.With("sub", "channel"), Handle: g.hear, Interrupt: g.interrupt, Changed: func() { g.health.recheck() }, Dial: g.opts.Dial, WhatsAppTest: g.opts.WhatsAppTest})
	table := methodTable()
	g.methods = make(map[string]*method, len(table))
	for i := range table {
		table[i].work = g.metrics.methods[table[i].name]
		g.methods[table[i].name] = &table[i]
	}
	g.routes = routeTable()
	g.server = g.newServer()
	if g.opts.Dev { // last: nothing is left behind by a gateway that cannot be built
		if err := g.keepDevPort(); err != nil {
			return &ExitError{exitFailed, err}
		}
	}
	return nil
}

// takeState opens the state directory and begins to remember, or goes on with
// what the gateway before this one has: its clients reconnect, and a request
// that they repeat is still the same.
func (g *Gateway) takeState() error {
	if f := g.from; f != nil {
		g.store, g.cliKey, g.limiter, g.idem, g.metrics, g.systemEvents = f.store, f.cliKey, f.limiter, f.idem, f.metrics, f.systemEvents
		return nil
	}
	dir, err := store.Open(g.opts.Paths.StateDir)
	if err != nil {
		return storeError(err)
	}
	g.store, g.cliKey, g.limiter, g.idem, g.metrics, g.systemEvents = dir, randomID(32), newLimiter(), newIdempotency(), newMetrics(), &systemEvents{}
	return nil
}

// storeError gives a state directory that cannot be used its exit code: what
// no restart mends is the operator's to mend.
func storeError(err error) error {
	var locked *store.LockedError
	var path *os.PathError
	switch {
	case errors.As(err, &locked), errors.Is(err, os.ErrPermission):
		return &ExitError{exitConfig, err}
	case errors.As(err, &path), errors.Is(err, store.ErrNoSpace):
		return &ExitError{exitFailed, err}
	}
	return &ExitError{exitConfig, err} // refused: whose it is, who may enter
}

// tokenName is where a gateway that was given no secret keeps its own.
const tokenName = "gateway.token"

// ownToken makes cfg use a token of the state directory's, made at the first start.
func (g *Gateway) ownToken(cfg *config.Config) error {
	raw, err := g.store.ReadFile(tokenName, 256)
	token := string(raw)
	if errors.Is(err, os.ErrNotExist) || err == nil && len(token) != 64 {
		token, err = randomID(32), nil
		err = g.store.WriteFile(tokenName, []byte(token))
	}
	if err != nil {
		return &ExitError{exitFailed, fmt.Errorf("keep a generated token: %w", err)}
	}
	cfg.Gateway.Auth.Mode, cfg.Gateway.Auth.Token = "token", config.NewSecret(token)
	return nil
}

// install makes a configuration the current one. Only New and Run's goroutine call it.
func (g *Gateway) install(cfg *config.Config, loaded *config.Loaded) {
	s := &snapshot{
		cfg: cfg, loaded: loaded, credentials: newCredentials(cfg.Gateway.Auth, g.cliKey),
		served: g.servedNames(cfg), policy: policyOf(cfg),
	}
	old := g.current.Load()
	if old != nil && old.credentials.equal(s.credentials) {
		s.credentials = old.credentials
	}
	g.logs.mask(cfg, g.cliKey) // before anything can speak of it
	g.current.Store(s)
	g.logs.configure(cfg)
	if old != nil && old.credentials != s.credentials {
		old.credentials.revoke()
		g.hub.each(old.credentials, (*peer).expel)
	}
}

// Run serves until ctx ends, whose cause says why, or a task fails. It lets
// running turns finish within the grace period and releases everything. After
// a restart it returns the gateway that is to run next: what is new about that
// one has been proven, its ports are bound.
func (g *Gateway) Run(ctx context.Context) (next *Gateway, err error) {
	defer func() { g.releaseTo(next) }()
	harden(g.log, g.port)
	err = g.announce()
	if err != nil && g.from == nil { // the ports are bound: whoever comes now waits a moment
		return nil, &ExitError{exitFailed, err}
	} else if err != nil {
		g.log.Error("not announced to the CLI", "err", err) // its clients find it all the same
	}
	g.from = nil
	defer context.AfterFunc(ctx, func() { g.opts.Supervisor.tell(stateStopping) })()
	tasks := newGroup(g.ctx)
	g.channels.Apply(g.cfg().ChannelAccounts()) // before anybody can ask how they fare
	for _, d := range g.doors {
		d.open()
	}
	for _, l := range g.listeners {
		tasks.start("listener "+l.Addr().String(), func(context.Context) error {
			if err := g.server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
				return err
			}
			return nil
		})
	}
	tick := g.cfg().Gateway.Limits.TickIntervalMs.Duration()
	tasks.start("hub", func(ctx context.Context) error { return g.hub.run(ctx, tick, g.health.refresh) })
	tasks.start("configuration watcher", g.reloader.watcher.Run)
	g.supervise(tasks)
	if g.opts.Ready != nil {
		g.opts.Ready(g.dialAddr())
	}

	var reason string
	reason, next = g.serve(ctx, tasks)
	if next == nil {
		g.opts.Supervisor.tell(stateStopping)
	}
	g.log.Info("stopping", "reason", reason)
	g.drain(reason, next)
	g.cancel(errStopping)
	err = tasks.wait()
	if next != nil && (err != errStopping || ctx.Err() != nil) {
		next.discard()
		next = nil
	}
	if next != nil {
		next.agents.Inherit(g.agents)
	}
	if err != errStopping {
		return nil, &ExitError{exitFailed, err}
	}
	return next, nil
}

// serve answers who wants a reload or a restart, until something ends this
// gateway: it returns what, and the gateway that is to run next, if any.
func (g *Gateway) serve(ctx context.Context, tasks *group) (reason string, next *Gateway) {
	for next == nil {
		select {
		case r := <-g.opts.Requests:
			reason, next = g.request(r)
		case r := <-g.reloader.requests:
			reason, next = restarting, g.reload(r)
		case <-g.reloader.pulse:
		case <-tasks.ctx.Done():
			return "gateway failed", nil
		case <-ctx.Done():
			var sig Signal
			if errors.As(context.Cause(ctx), &sig) {
				return sig.Error(), nil
			}
			return "gateway stopping", nil
		}
	}
	return reason, next
}

// announce tells the CLI and the log where the gateway is.
func (g *Gateway) announce() error {
	if err := g.store.Publish(store.Instance{
		PID: g.pid, Port: g.port, Addr: g.dialAddr(), TLS: g.secure, Version: g.version,
		StartedAt: g.started.UnixMilli(), ConfigPath: g.opts.Paths.ConfigPath, CLIKey: g.cliKey,
	}); err != nil {
		return err
	}
	scheme := "ws"
	if g.secure {
		scheme = "wss"
	}
	for _, l := range g.listeners {
		g.log.Info(fmt.Sprintf("listening on %s://%s (PID %d)", scheme, l.Addr(), g.pid), "version", g.version)
	}
	g.warn(g.snapshot().loaded.Warnings)
	if g.takenOver != nil {
		g.reloader.log.Info("config reload applied by the restart", "keys", strings.Join(g.takenOver, ", "))
	}
	return nil
}

func (g *Gateway) warn(list []config.Problem) {
	for _, w := range list {
		g.log.Warn("configuration", "key", w.Path, "err", w.Msg)
	}
}

// drain refuses new work, says goodbye, lets turns finish and closes every
// connection, in a bounded time.
func (g *Gateway) drain(reason string, next *Gateway) {
	restart := next != nil
	grace := g.cfg().Gateway.Shutdown.GracePeriodMs.Duration()
	g.drainUntil = time.Now().Add(grace + 2*stopMargin)
	g.restarts.Store(restart)
	g.stopping.Store(true)
	g.agents.Refuse() // before anybody is told
	bye := wire.Shutdown{Reason: reason, GracePeriodMs: grace.Milliseconds()}
	if restart {
		bye.RestartExpectedMs = 1500
	}
	g.hub.goodbye(bye)
	if creds := g.snapshot().credentials; restart && !creds.equal(next.snapshot().credentials) {
		creds.revoke() // nobody stays with a secret that is not the next one's
		g.hub.each(creds, func(p *peer) { p.leave(true) })
	}

	// A client that takes nothing must not hold up the stop.
	defer time.AfterFunc(grace+stopMargin, func() { g.server.Close() }).Stop()
	deaf := make(chan struct{})
	go func() {
		defer close(deaf)
		g.channels.StopReceiving()
	}()
	ctx, cancel := context.WithTimeout(context.Background(), grace)
	if err := g.agents.Drain(ctx); err != nil {
		g.log.Warn("turns cut off", "err", err)
	}
	cancel()
	<-deaf
	g.channels.Close(stopMargin) // after the last replies, before the next gateway's

	ctx, cancel = context.WithTimeout(context.Background(), stopMargin)
	defer cancel()
	for _, d := range g.doors {
		d.handOver() // who connects from now on is the next gateway's
	}
	if restart {
		g.conns.settle()
	}
	if err := g.tools.Close(ctx); err != nil {
		g.log.Warn("tools cut off", "err", err)
	}
	gone := g.hub.close(func(p *peer) { p.leave(restart) })
	g.conns.close()
	g.server.Shutdown(ctx) // neither waits for nor closes WebSockets
	g.server.Close()
	select {
	case <-gone:
	case <-ctx.Done():
		g.log.Warn("connections cut off", "peer", g.hub.count())
	}
}

// releaseTo gives back what New took, in the opposite order, but for what the
// next gateway goes on with.
func (g *Gateway) releaseTo(next *Gateway) {
	g.cancel(nil)
	for _, l := range g.listeners {
		l.Close() // a second time after the server's
	}
	g.logs.close()
	if g.store != nil && next == nil {
		g.store.Close()
	}
}

// discard gives back a gateway that was built and is not to run. What it
// shares with the one that it would have taken over from stays there.
func (g *Gateway) discard() {
	g.cancel(nil)
	for _, l := range g.listeners {
		if len(g.doors) == 0 {
			l.Close()
		}
	}
	for _, d := range g.doors {
		d.drop()
	}
	g.logs.close()
}
