package svc

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"openclaw/gateway/proc"
	"openclaw/gateway/store"
	"openclaw/reload/config"
	"openclaw/wire"
)

// patient is the gateway under examination. What more than one check needs is
// found once, by the first that asks: each question is a function, since any of
// them may hang.
type patient struct {
	*Env
	ctx  context.Context
	deep bool
	p    config.Paths

	instance func() instance
	loaded   func() (*config.Loaded, error) // as Load: not nil where a file could be read
	shut     []string                       // files that loading refused for their modes; set by loaded
	answer   func() (*vitals, error)        // of the gateway itself
	facts    func() (proc.Facts, error)     // of its process
	survey   func() (*store.Survey, error)
	unit     func() serviceReport
	meets    func() []config.Neighbour
}

// instance is the holder of the state directory's lock.
type instance struct {
	store.Instance
	running bool
	err     error
}

// vitals is what the gateway tells of itself.
type vitals struct {
	wire.Status
	health   wire.Health
	channels wire.ChannelsStatus
	took     time.Duration
}

// answerTime is less than checkTime: a gateway that is silent is told as such.
const answerTime = 1500 * time.Millisecond

func newPatient(ctx context.Context, e *Env, deep bool) *patient {
	d := &patient{Env: e, ctx: ctx, deep: deep, p: e.paths}
	d.instance = sync.OnceValue(func() instance {
		i, running, err := e.instance(d.p)
		return instance{i, running, err}
	})
	d.loaded = sync.OnceValues(func() (*config.Loaded, error) {
		return config.Load(config.Source{Path: d.p.ConfigPath, Env: e.Lookup, ReadFile: func(path string, limit int64, secret bool) ([]byte, error) {
			raw, err := store.ReadConfigFile(path, limit, secret)
			var loose *store.LooseError
			if errors.As(err, &loose) {
				d.shut = append(d.shut, path)
			}
			return raw, err
		}})
	})
	d.answer = sync.OnceValues(d.ask)
	d.facts = sync.OnceValues(func() (proc.Facts, error) { return proc.Look(d.instance().PID) })
	d.survey = sync.OnceValues(func() (*store.Survey, error) { return store.Look(ctx, d.p.StateDir, d.p.System) })
	d.unit = sync.OnceValue(func() serviceReport { return e.service(ctx, d.p) })
	d.meets = sync.OnceValue(func() []config.Neighbour { return e.others(d.p, d.instance().Port) })
	return d
}

// ask asks the running gateway, and no other, with the key that it gave its CLI.
func (d *patient) ask() (*vitals, error) {
	if i := d.instance(); !i.running || i.Port == 0 {
		return nil, errNotAsked
	}
	start := time.Now()
	ctx, cancel := context.WithTimeout(d.ctx, answerTime)
	defer cancel()
	l, err := d.dial(ctx)
	v := &vitals{}
	if err == nil {
		defer l.Close()
		_, err = l.ask(ctx, "status", nil, &v.Status)
		v.took = time.Since(start)
	}
	if err == nil {
		_, err = l.ask(ctx, "health", nil, &v.health)
	}
	if err == nil {
		_, err = l.ask(ctx, "channels.status", nil, &v.channels)
	}
	switch {
	case ctx.Err() != nil:
		return nil, fmt.Errorf("the gateway did not answer within %v", answerTime)
	case err != nil:
		return nil, err
	}
	return v, nil
}

func (d *patient) dial(ctx context.Context) (*link, error) {
	ep, err := ownGateway(d.Env, d.p)
	if err != nil {
		return nil, err
	}
	return ep.dial(ctx, d.Env, &Args{}, nil)
}

// cfg is the configuration, defaults where the file is missing or wrong.
func (d *patient) cfg() *config.Config {
	if l, _ := d.loaded(); l != nil {
		return l.Config
	}
	return config.Default()
}

// unset reports whether nothing has been set up here.
func (d *patient) unset() bool {
	_, err := d.loaded()
	return errors.Is(err, fs.ErrNotExist) && !d.instance().running && d.ownToken() == ""
}

// ownToken is where a gateway without a configuration keeps its secret, "" if it has none.
func (d *patient) ownToken() string {
	path := filepath.Join(d.p.StateDir, "gateway.token")
	if _, err := os.Stat(path); err != nil {
		return ""
	}
	return path
}

// start is the command that starts the gateway.
func (d *patient) start() string {
	switch {
	case d.unset():
		return d.Command("setup")
	case d.unit().Managed:
		return d.Command("gateway start")
	}
	return d.Command("gateway")
}

// port is the base port, whether the gateway runs or not.
func (d *patient) port() int {
	if i := d.instance(); i.running && i.Port != 0 {
		return i.Port
	}
	port, err := config.Port(0, d.Lookup, d.cfg())
	if err != nil {
		return config.DefaultPort
	}
	return port
}

// workspaces are the directories of all agents.
func (d *patient) workspaces() []string {
	var dirs []string
	for _, a := range d.cfg().AgentList() {
		if w := d.p.WorkspaceOf(a); !slices.Contains(dirs, w) {
			dirs = append(dirs, w)
		}
	}
	return dirs
}

// problems tells what is wrong in the configuration, of the gateway's secret or
// of all else. A variable that only the gateway has is none of its faults: what
// it runs on, it could read.
func (d *patient) problems(r *result, auth bool) {
	l, err := d.loaded()
	var ps config.Problems
	if !errors.As(err, &ps) {
		return
	}
	v, _ := d.answer()
	runs := v != nil && v.Config != nil && l != nil && v.Config.LoadedHash == l.Hash
	for _, p := range ps[:min(len(ps), 20)] {
		if strings.HasPrefix(p.Path, "gateway.auth") != auth {
			continue
		}
		if runs {
			r.info("in this shell only, for the gateway runs on this file: %s", p.String())
			continue
		}
		f := r.fail(d.Command("config validate"), "%s", p.String())
		for _, path := range d.shut {
			if strings.Contains(p.Msg, path) {
				f.Repair, f.mend = "chmod 600 "+shellQuote(path), tighten(path)
			}
		}
	}
}

// tighten closes files of ours to others.
func tighten(paths ...string) func() (string, error) {
	return func() (string, error) {
		for _, path := range paths {
			if err := store.Tighten(path); err != nil {
				return "", err
			}
		}
		return "closed to others: " + someOf(paths), nil
	}
}
