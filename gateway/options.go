package gateway

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"

	"openclaw/reload"
	"openclaw/reload/config"
)

// Request is what somebody outside asks of a running gateway.
type Request struct {
	Source  string // who asks: SIGHUP
	Restart bool   // else reload
}

// Options are what the process gives a gateway.
type Options struct {
	Paths             config.Paths
	ReadFile          func(path string, limit int64, secret bool) ([]byte, error)       // of config.Source; nil = store.ReadConfigFile
	PortOverride      int                                                               // --port; 0 = none
	Bind              string                                                            // --bind; "" = gateway.bind
	LogLevel          string                                                            // --log-level; "" = logging.level
	Verbose           bool                                                              // log from debug on
	Force             bool                                                              // end who holds the port
	AllowUnconfigured bool                                                              // start without a configuration
	Dev               bool                                                              // take the first free block of ports
	Version           string                                                            // "" = the build's
	Stderr            io.Writer                                                         // nil = none
	Env               func(string) (string, bool)                                       // nil = an empty environment
	Dial              func(ctx context.Context, network, addr string) (net.Conn, error) // to model providers; nil = the network
	Ready             func(addr string)                                                 // called once clients are served
	Requests          <-chan Request                                                    // served by Run; nil = none come
	Supervisor        *Supervisor                                                       // of the process; nil = none
	WhatsAppTest      string                                                            // --whatsapp-test-server; "" = WhatsApp's own

	listen func(port int) ([]net.Listener, error) // of tests; nil = the network
	watch  func(reload.Options) watcher           // of tests; nil = reload.NewWatcher
	pulse  func(name string)                      // of tests: called before a pulse is asked
}

// source is where configurations are read from.
func (o *Options) source() config.Source {
	return config.Source{Path: o.Paths.ConfigPath, Env: o.Env, ReadFile: o.ReadFile}
}

// load reads the configuration, or takes the defaults where there is none and
// that is allowed. With an error it may still return what could be read.
func (o *Options) load() (*config.Loaded, error) {
	loaded, err := config.Load(o.source())
	if errors.Is(err, os.ErrNotExist) && o.AllowUnconfigured {
		loaded, err = config.Parse(o.Paths.ConfigPath, []byte("{}"), o.source())
		if err == nil {
			loaded.Raw, loaded.Hash = nil, ""
		}
	}
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil, &ExitError{exitConfig, errNoConfig{o.Paths.ConfigPath}}
	case err != nil:
		return loaded, &ExitError{exitConfig, err}
	}
	file := *loaded.Config
	if err := o.settle(loaded.Config); err != nil {
		return loaded, err
	}
	for _, c := range config.Diff(&file, loaded.Config) {
		if writes(loaded.Root, c.Path) {
			decides := "the command line or the environment of this gateway decides"
			if c.Path == "gateway.port" && o.Supervisor.port() != 0 {
				decides = "ListenStream= of the supervisor's socket unit decides"
			}
			loaded.Warnings = append(loaded.Warnings, config.Problem{Path: c.Path, Msg: "has no effect: " + decides})
		}
	}
	return loaded, nil
}

// errNoConfig says that there is no configuration at a path.
type errNoConfig struct{ path string }

func (e errNoConfig) Error() string {
	return fmt.Sprintf("no configuration at %s: run `openclaw setup`, or start with --allow-unconfigured", e.path)
}

// writes reports whether a file sets a key, under either name of its section.
func writes(root *config.Node, path string) bool {
	for _, p := range []string{path, "gateway." + path} {
		n := root
		for _, key := range strings.Split(p, ".") {
			if n != nil {
				n = n.Get(key)
			}
		}
		if n != nil {
			return true
		}
	}
	return false
}

// settle puts what the command line and the environment say in place of what
// the file does, so that a key which they decide never differs, and refuses a
// configuration without a secret.
func (o *Options) settle(c *config.Config) error {
	if c.Gateway.Auth.Missing() && !o.AllowUnconfigured {
		mode := c.Gateway.Auth.Mode
		return fail(exitConfig, "%s: gateway.auth.%s is not set: openclaw config set gateway.auth.%s - < FILE, or set OPENCLAW_GATEWAY_%s", o.Paths.ConfigPath, mode, mode, strings.ToUpper(mode))
	}
	port, err := config.Port(o.PortOverride, o.Env, c)
	if p := o.Supervisor.port(); p != 0 {
		port = p
		_, err = config.Block(port)
	}
	if err != nil {
		return &ExitError{exitConfig, err}
	}
	c.Gateway.Port = port
	if o.Bind != "" {
		c.Gateway.Bind = o.Bind
	}
	switch {
	case o.Verbose:
		c.Logging.Level = "debug"
	case o.LogLevel != "":
		c.Logging.Level = o.LogLevel
	}
	return nil
}
