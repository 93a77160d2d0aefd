// Package gateway is the daemon: the process that listens, lets clients in,
// runs their requests and turns, and tells them what happens.
//
// Read it along a request. listen.go binds the port; http.go is the one way in
// (admit.go: host, origin, proxies; auth.go, limiter.go: credentials) and
// serves the HTTP endpoints of its route table; upgrade.go turns a request into
// a peer (peer.go), whose requests method.go dispatches by the table in
// methods.go. hub.go knows all peers and sends events (event.go) in each one's
// dialect (dialect.go). gateway.go starts and stops it all; health.go and
// log.go say how it fares.
//
// Locks are taken in the order runStream.mu, streams.mu or hub.mu; every other
// one is taken alone. Neither of the last two is held while anything is sent.
package gateway

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"openclaw/gateway/agent"
	"openclaw/gateway/store"
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

// ErrRestart is what Run returns when a new Gateway is to take over in this process.
var ErrRestart = errors.New("restart requested")

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

// Options are what the process gives a gateway.
type Options struct {
	Paths             config.Paths
	Load              func() (*config.Loaded, error)                                    // reads the configuration
	PortOverride      int                                                               // --port; 0 = none
	Bind              string                                                            // --bind; "" = gateway.bind
	Verbose           bool                                                              // log from debug on
	Force             bool                                                              // end who holds the port
	AllowUnconfigured bool                                                              // start without a configuration
	Dev               bool                                                              // take the first free block of ports
	Version           string                                                            // "" = the build's
	Stderr            io.Writer                                                         // nil = none
	Env               func(string) (string, bool)                                       // nil = an empty environment
	Dial              func(ctx context.Context, network, addr string) (net.Conn, error) // to model providers; nil = the network
	Ready             func(addr string)                                                 // called once clients are served

	listen func(port int) ([]net.Listener, error) // of tests; nil = the network
}

// Gateway is one run of the daemon, from New to the end of Run.
type Gateway struct {
	// Set by New, only read afterwards.
	opts      Options
	version   string
	pid       int
	started   time.Time
	port      int
	listeners []net.Listener
	secure    bool // the listeners speak TLS
	log       *slog.Logger
	logs      *logOutput
	store     *store.Dir
	agents    *agent.Agents
	hub       *hub
	streams   *streams
	health    *health
	limiter   *limiter
	idem      *idempotency
	methods   map[string]*method
	routes    []route
	server    *http.Server
	conns     conns
	cliKey    string
	ctx       context.Context // ends when everything is over, after the drain
	cancel    context.CancelCauseFunc

	systemEvents systemEvents

	current  atomic.Pointer[snapshot] // only Run and New store it
	stopping atomic.Bool              // new work is refused
	frames   sync.Pool                // of *[]byte, scratch space for one frame each
}

// snapshot is a configuration and what follows from it, stored as one.
type snapshot struct {
	cfg         *config.Config
	loaded      *config.Loaded
	credentials credentials
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
	loaded, err := o.load()
	if err != nil {
		return nil, err
	}
	g := &Gateway{opts: o, version: versionOf(o.Version), pid: os.Getpid(), started: time.Now()}
	if err := g.bind(loaded.Config); err != nil {
		return nil, err
	}
	if err := g.prepare(loaded); err != nil {
		g.release()
		return nil, err
	}
	return g, nil
}

// load reads the configuration, or takes the defaults where there is none and
// that is allowed.
func (o *Options) load() (*config.Loaded, error) {
	loaded, err := o.Load()
	if errors.Is(err, os.ErrNotExist) && o.AllowUnconfigured {
		loaded, err = config.Parse(o.Paths.ConfigPath, []byte("{}"), config.Source{Env: o.Env})
		if err == nil {
			loaded.Raw, loaded.Hash = nil, ""
		}
	}
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil, fail(exitConfig, "no configuration at %s: run `openclaw setup`, or start with --allow-unconfigured", o.Paths.ConfigPath)
	case err != nil:
		return nil, &ExitError{exitConfig, err}
	case loaded.Config.Gateway.Auth.Missing() && !o.AllowUnconfigured:
		return nil, fail(exitConfig, "%s: gateway.auth.%s is not set: run `openclaw setup`, or set OPENCLAW_GATEWAY_TOKEN", o.Paths.ConfigPath, loaded.Config.Gateway.Auth.Mode)
	}
	return loaded, nil
}

// prepare does everything after the ports.
func (g *Gateway) prepare(loaded *config.Loaded) error {
	dir, err := store.Open(g.opts.Paths.StateDir)
	if err != nil {
		return storeError(err)
	}
	g.store = dir
	cfg := loaded.Config
	if cfg.Gateway.Auth.Missing() {
		if err := g.ownToken(cfg); err != nil {
			return err
		}
	}
	if g.opts.Dev {
		if err := g.keepDevPort(); err != nil {
			return &ExitError{exitFailed, err}
		}
	}
	if err := g.wrapTLS(cfg.Gateway.TLS); err != nil {
		return &ExitError{exitConfig, err}
	}
	g.cliKey = randomID(32)
	g.ctx, g.cancel = context.WithCancelCause(context.Background())
	g.logs = newLogOutput(g)
	g.log = slog.New(g.logs.handler())
	g.limiter, g.idem = newLimiter(), newIdempotency()
	g.health = &health{g: g}
	g.hub = newHub(g.log.With("sub", "hub"), g.ownPresence())
	g.streams = newStreams(g.hub)
	g.install(loaded)
	g.agents = agent.New(agent.Options{
		Dir: dir, Config: g.cfg, Workspace: g.opts.Paths.WorkspaceOf, Log: g.log.With("sub", "agent"),
		Sink: g.streams.sink, Dial: g.opts.Dial,
	})
	table := methodTable()
	g.methods = make(map[string]*method, len(table))
	for i := range table {
		g.methods[table[i].name] = &table[i]
	}
	g.routes = routeTable()
	g.server = g.newServer()
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

func (g *Gateway) install(loaded *config.Loaded) {
	cfg := loaded.Config
	s := &snapshot{
		cfg: cfg, loaded: loaded, credentials: newCredentials(cfg.Gateway.Auth, g.cliKey),
		served: g.servedNames(cfg), policy: policyOf(cfg),
	}
	g.current.Store(s)
	g.logs.configure(cfg, g.opts.Verbose, g.cliKey)
}

// Run serves until ctx ends, whose cause says why, or a task fails. It lets
// running turns finish within the grace period and releases everything.
func (g *Gateway) Run(ctx context.Context) error {
	defer g.release()
	harden(g.log)
	if err := g.announce(); err != nil { // the ports are bound: whoever comes now waits a moment
		return &ExitError{exitFailed, err}
	}
	tasks := newGroup(g.ctx)
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
	if g.opts.Ready != nil {
		g.opts.Ready(g.dialAddr())
	}

	reason, restart := "gateway failed", false
	select {
	case <-tasks.ctx.Done():
	case <-ctx.Done():
		reason = "gateway stopping"
		var sig Signal
		if errors.As(context.Cause(ctx), &sig) {
			reason, restart = sig.Error(), sig.Name == "SIGUSR1"
		}
	}
	g.log.Info("stopping", "reason", reason)
	g.drain(reason, restart)
	g.cancel(errStopping)
	if err := tasks.wait(); err != errStopping {
		return &ExitError{exitFailed, err}
	}
	if restart {
		return ErrRestart
	}
	return nil
}

// announce tells the CLI and the log where the gateway is.
func (g *Gateway) announce() error {
	if err := g.store.Publish(store.Instance{
		PID: g.pid, Port: g.port, Addr: g.dialAddr(), TLS: g.secure, Version: g.version,
		StartedAt: g.started.UnixMilli(), CLIKey: g.cliKey,
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
	for _, w := range g.snapshot().loaded.Warnings {
		g.log.Warn("configuration", "key", w.Path, "err", w.Msg)
	}
	return nil
}

// drain refuses new work, says goodbye, lets turns finish and closes every
// connection, in a bounded time.
func (g *Gateway) drain(reason string, restart bool) {
	grace := g.cfg().Gateway.Shutdown.GracePeriodMs.Duration()
	g.stopping.Store(true)
	bye := wire.Shutdown{Reason: reason, GracePeriodMs: grace.Milliseconds()}
	if restart {
		bye.RestartExpectedMs = 1500
	}
	g.hub.goodbye(bye)

	// A client that takes nothing must not hold up the stop.
	defer time.AfterFunc(grace+stopMargin, func() { g.server.Close() }).Stop()
	ctx, cancel := context.WithTimeout(context.Background(), grace)
	if err := g.agents.Drain(ctx); err != nil {
		g.log.Warn("turns cut off", "err", err)
	}
	cancel()

	ctx, cancel = context.WithTimeout(context.Background(), stopMargin)
	defer cancel()
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

// release gives back what New took, in the opposite order.
func (g *Gateway) release() {
	if g.cancel != nil {
		g.cancel(nil)
	}
	for _, l := range g.listeners {
		l.Close() // a second time after the server's
	}
	if g.logs != nil {
		g.logs.close()
	}
	if g.store != nil {
		g.store.Close()
	}
}
