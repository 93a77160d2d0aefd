package svc

import (
	"context"
	"time"

	"openclaw/svc/unit"
)

// supervisor is what starts one profile's gateway and keeps it running.
type supervisor interface {
	// reach is nil where the supervisor can be talked to from here.
	reach(context.Context) error
	// look tells what the supervisor knows.
	look(context.Context) (supervised, error)
	// adopt makes the unit file's present text the one in force, has the gateway
	// started at boot or login, and runs it. changed says that the text is new.
	// It says what it did.
	adopt(ctx context.Context, was supervised, changed bool) (done []string, err error)
	start(context.Context) error
	// stop ends the gateway until the next start, boot or login.
	stop(context.Context) error
	// restart ends with the gateway running, or at least with its job loaded.
	restart(context.Context) error
	// drop stops the gateway and forgets its unit. It is called twice: before the
	// file is removed, and after.
	drop(ctx context.Context, removed bool) error
	// logs is the command that shows what the gateway wrote before its own log was open.
	logs() string
}

// supervised is what a supervisor knows of a unit.
type supervised struct {
	word    string // the supervisor's own
	loaded  bool
	stale   bool // the file is not the one that was loaded
	enabled bool
	running bool
	failed  bool // and not going to be started again
	pid     int
	why     string // of the last end
}

// supervisor returns the one of a target, nil where we drive none.
func (e *Env) supervisor(t unit.Target, u unit.Unit) supervisor {
	m := e.machine()
	switch t {
	case unit.SystemdUser, unit.SystemdSystem:
		return &systemd{e: e, m: m, name: u.Name() + ".service", user: t == unit.SystemdUser, stopTime: u.Grace + time.Minute}
	case unit.Launchd:
		return &launchd{m: m, label: u.Label(), file: t.File(u), errFile: u.LogDir + "/" + u.Name() + ".err.log", stopTime: u.Grace + time.Minute}
	}
	return nil
}
