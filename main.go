// Openclaw is a gateway between people, chat networks and agents: one daemon
// on one host, and the commands to run it. This file joins the daemon
// (package gateway) with the commands (package svc), which never import each
// other; it holds the signals and the exit.
package main

import (
	"context"
	"errors"
	"net/netip"
	"net/url"
	"os"
	"os/signal"
	"os/user"
	"syscall"
	"time"

	"openclaw/gateway"
	"openclaw/reload/config"
	"openclaw/svc"
)

func main() { os.Exit(run(os.Args)) }

// run is the whole program but the exit.
func run(argv []string) int {
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	stop := make(chan os.Signal, 2)
	signal.Notify(stop, syscall.SIGINT, syscall.SIGTERM)
	go func() {
		cancel(cause(<-stop))
		<-stop // whoever asks twice does not want to wait
		os.Exit(svc.ExitFailed)
	}()
	e := &svc.Env{
		Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr, OutTTY: terminal(os.Stdout), ErrTTY: terminal(os.Stderr),
		Lookup: os.LookupEnv, Home: home(), Program: argv[0], Version: gateway.Version(), Now: time.Now,
	}
	return svc.Main(ctx, e, argv[1:], svc.GatewayRun(serve))
}

// serve runs the daemon and tells its supervisor how that ended.
func serve(ctx context.Context, e *svc.Env, a *svc.Args) error {
	supervisor, err := gateway.Supervised(e.Lookup, os.Unsetenv)
	if err == nil {
		err = gateways(ctx, e, a, supervisor)
	}
	supervisor.Ended(err)
	if err != nil {
		e.Stderr = gateway.ErrorLines(e.Stderr, e.Lookup)
	}
	return explain(e, err)
}

// gateways runs them, one after another as long as each names a next one.
func gateways(ctx context.Context, e *svc.Env, a *svc.Args, supervisor *gateway.Supervisor) error {
	paths, err := e.Paths()
	if err != nil {
		return err
	}
	port, err := a.Port()
	if err != nil {
		return err
	}
	if a.Has("reset") && !paths.Dev {
		return &svc.Error{Code: "USAGE", Exit: svc.ExitUsage, Msg: "--reset goes with --dev: it removes the dev profile's state"}
	}
	whatsapp, err := whatsAppTest(e, a)
	if err != nil {
		return err
	}
	o := gateway.Options{
		Paths: paths, PortOverride: port, Bind: a.Get("bind"), Dev: paths.Dev, Force: a.Has("force"),
		Verbose: a.Has("verbose"), LogLevel: e.LogLevel, AllowUnconfigured: a.Has("allow-unconfigured"),
		Stderr: e.Stderr, Env: e.Lookup, Supervisor: supervisor,
		WhatsAppTest: whatsapp,
	}
	if paths.Dev {
		if err := e.PrepareDev(a.Has("reset")); err != nil {
			return err
		}
		o.Ready = e.Greet
	}
	requests, stop := requests(ctx)
	defer stop()
	o.Requests = requests
	g, err := gateway.New(o)
	for err == nil && g != nil {
		g, err = g.Run(ctx)
	}
	return err
}

// whatsAppTest is another server than WhatsApp's, for tests. It takes the switch
// and the variable, and is on this host.
func whatsAppTest(e *svc.Env, a *svc.Args) (string, error) {
	if !a.Has("whatsapp-test-server") {
		return "", nil
	}
	const variable = "OPENCLAW_WHATSAPP_WEB_SOCKET_URL"
	named, _ := e.Lookup(variable)
	u, err := url.Parse(named)
	if err == nil {
		ip, _ := netip.ParseAddr(u.Hostname())
		if (u.Scheme == "ws" || u.Scheme == "wss") && u.User == nil && ip.IsLoopback() {
			return named, nil
		}
	}
	return "", &svc.Error{Code: "USAGE", Exit: svc.ExitUsage, Msg: "--whatsapp-test-server goes with " + variable + "=ws://127.0.0.1:PORT/…, and with no address but a loopback one"}
}

// requests are the signals that a gateway does not end by. Each is heard even
// while another waits to be served.
func requests(ctx context.Context) (out <-chan gateway.Request, stop func()) {
	reloads, restarts := make(chan os.Signal, 1), make(chan os.Signal, 1)
	signal.Notify(reloads, syscall.SIGHUP)
	signal.Notify(restarts, syscall.SIGUSR1)
	ctx, cancel := context.WithCancel(ctx)
	to := make(chan gateway.Request)
	go func() {
		for {
			var r gateway.Request
			select {
			case <-ctx.Done():
				return
			case <-reloads:
				r.Source = "SIGHUP"
			case <-restarts:
				r.Source, r.Restart = "SIGUSR1", true
			}
			select {
			case to <- r:
			case <-ctx.Done():
			}
		}
	}()
	return to, func() {
		signal.Stop(reloads)
		signal.Stop(restarts)
		cancel()
	}
}

// explain gives a gateway that could not run its exit code and the next step.
func explain(e *svc.Env, err error) error {
	var coded *gateway.ExitError
	if !errors.As(err, &coded) {
		return err
	}
	out := &svc.Error{Code: "FAILED", Exit: coded.Code, Msg: coded.Error()}
	var problems config.Problems
	if errors.As(err, &problems) {
		paths, _ := e.Paths()
		out = e.BadConfig(paths.ConfigPath, problems)
		out.Exit, out.Hint = coded.Code, e.Command("config validate")
	}
	return out
}

func cause(s os.Signal) error {
	if s == syscall.SIGINT {
		return gateway.Signal{Name: "SIGINT"}
	}
	return gateway.Signal{Name: "SIGTERM"}
}

// home is the user's home directory, "" where nobody says.
func home() string {
	if h := os.Getenv("HOME"); h != "" {
		return h
	}
	if u, err := user.Current(); err == nil {
		return u.HomeDir
	}
	return ""
}

// terminal reports whether a person looks at f. Of the other character
// devices only the null device is ever met, where it makes no difference.
func terminal(f *os.File) bool {
	fi, err := f.Stat()
	return err == nil && fi.Mode()&os.ModeCharDevice != 0
}
