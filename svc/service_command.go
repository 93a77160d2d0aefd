package svc

import (
	"context"
	"fmt"
	"strings"

	"openclaw/gateway/store"
	"openclaw/reload/config"
	"openclaw/svc/unit"
)

func systemFlag() Flag {
	return Flag{Name: "system", Doc: "The gateway of the whole host: state in /var/lib/openclaw, configuration in /etc/openclaw."}
}

// serviceCommands are the rows about supervisors.
func serviceCommands() []Command {
	json := Flag{Name: "json", Doc: "Print one JSON document and nothing else."}
	both := []Flag{json, systemFlag()}
	var targets []string
	for _, f := range unit.Formats() {
		targets = append(targets, string(f.Target))
	}
	return []Command{
		{Path: "gateway install", Aliases: []string{"daemon install"}, Doc: "Have systemd or launchd run the gateway, now and at every boot or login.",
			Flags: append(both[:2:2],
				Flag{Name: "print", Doc: "Only print the unit, for any target on any system."},
				Flag{Name: "target", Value: "TARGET", OneOf: targets, Doc: "What to write for: " + strings.Join(targets, ", ") + "."},
				Flag{Name: "program", Value: "PATH", Doc: "With --print: where openclaw will be, instead of where it is."},
				Flag{Name: "dry-run", Doc: "Only show what would change."},
				Flag{Name: "port", Value: "PORT", Doc: "The base port, instead of the configuration's."},
				Flag{Name: "force", Doc: "Also replace a unit that was edited or is somebody else's; it is kept as .bak."},
				Flag{Name: "local-only", Doc: "systemd, with --system: the unit lets the gateway talk to this host alone."},
				Flag{Name: "enable-linger", Doc: "systemd: have this user's services run without a login."},
				Flag{Name: "token", Value: "TOKEN", Refused: onArgv, Hint: "units hold no secrets: put it into a file of mode 0600 and name that with " + "openclaw config set gateway.auth.token file:PATH"},
				Flag{Name: "runtime", Value: "NAME", Ignored: "it is for the Node gateway"}), Run: serviceInstall},
		{Path: "gateway uninstall", Aliases: []string{"daemon uninstall"}, Doc: "Stop the gateway and remove its unit; state and configuration stay.",
			Flags: append(both[:2:2],
				Flag{Name: "force", Doc: "Also a unit that was edited or is somebody else's; it is kept as .bak."}), Run: serviceUninstall},
		{Path: "gateway start", Aliases: []string{"daemon start"}, Doc: "Have the supervisor start the installed gateway.", Flags: both, Run: serviceDo("start", "started", supervisor.start)},
		{Path: "gateway stop", Aliases: []string{"daemon stop"}, Doc: "Have the supervisor stop the gateway until the next start, boot or login.", Flags: both, Run: serviceDo("stop", "stopped", supervisor.stop)},
		{Path: "gateway restart", Aliases: []string{"daemon restart"}, Doc: "Have the supervisor restart the gateway.", Flags: both, Run: serviceDo("restart", "restarted", supervisor.restart)},
	}
}

// service is a profile's unit on this host, and what is being done to it.
type service struct {
	e    *Env
	m    *machine
	p    config.Paths
	t    unit.Target
	u    unit.Unit
	file string
	sup  supervisor

	theirs bool // what is in the unit's place was edited, or is not ours
	serviceResult
}

// serviceResult is what these commands print with --json.
type serviceResult struct {
	OK      bool           `json:"ok"`
	Changed bool           `json:"changed"`
	DryRun  bool           `json:"dryRun,omitempty"`
	Target  unit.Target    `json:"target"`
	File    string         `json:"file"`
	Done    []string       `json:"done"`
	Notes   []string       `json:"notes"`
	Diff    string         `json:"diff,omitempty"`
	Service *serviceReport `json:"service,omitempty"`
}

// openService settles which unit is meant. Only what touches the host asks
// whether this user may, and whether the target is the host's.
func openService(e *Env, a *Args, touch bool) (*service, error) {
	p, err := e.Paths()
	if err != nil {
		return nil, err
	}
	port, err := a.Port()
	if err != nil {
		return nil, err
	}
	if p.Dev {
		return nil, usage("the dev profile is for trying things and moves between ports: use another --profile for a service")
	}
	m := e.machine()
	t := unit.Target(a.Get("target"))
	switch here := m.target(p.System || t.System()); {
	case t == "" && here == "":
		return nil, e.noSupervisor()
	case t == "":
		t = here
	case touch && t != here && here != "":
		return nil, usage("--target %s: this host has %s; others can be printed with --print", t, here)
	case touch && here == "":
		return nil, e.noSupervisor()
	}
	if p.System && !t.System() {
		return nil, usage("--system and --target %s contradict each other", t)
	}
	if goos := m.goos; t.System() && (!p.System || t == unit.RCD) {
		if t == unit.RCD {
			goos = "freebsd"
		}
		e.useSystem(p.Profile, goos)
		if p, err = e.Paths(); err != nil {
			return nil, err
		}
	}
	s := &service{e: e, m: m, p: p, t: t, serviceResult: serviceResult{OK: true, Target: t, Done: []string{}, Notes: []string{}}}
	s.u = e.describe(t, p, port, e.config(p))
	if s.u.LocalOnly = a.Has("local-only"); s.u.LocalOnly && t != unit.SystemdSystem {
		return nil, usage("--local-only: only a system unit of systemd can hold the gateway to this host")
	}
	s.file = e.unitFile(t, s.u)
	s.File, s.sup = s.file, e.supervisor(t, s.u)
	if !touch {
		return s, nil
	}
	switch {
	case s.sup == nil:
		return nil, e.noSupervisor()
	case t.System() && m.uid != 0:
		return nil, &Error{Code: "NOT_ROOT", Msg: "a service of the whole host is root's to change", Hint: "sudo " + e.Command(strings.Join(a.path, " "))}
	case !t.System() && m.uid == 0:
		return nil, &Error{Code: "IS_ROOT", Msg: "root has no user services: run this as the user whom the gateway belongs to, without sudo, or make it a service of the whole host",
			Hint: e.systemCommand(strings.Join(a.path, " "))}
	}
	return s, nil
}

// noSupervisor says what to do where there is nothing to install into.
func (e *Env) noSupervisor() *Error {
	out := &Error{Code: "NO_SUPERVISOR", Msg: "this host is not run by systemd or launchd, so there is nothing to install into",
		Hint: e.Command("gateway") + " runs it under whatever supervisor you have; a supervisor must not restart it on exit code 78"}
	switch e.machine().target(true) {
	case unit.OpenRC:
		out.Hint = "OpenRC: " + e.Command("gateway install --print --target openrc") + " > /etc/init.d/openclaw-gateway; chmod 755 /etc/init.d/openclaw-gateway; rc-update add openclaw-gateway; rc-service openclaw-gateway start"
	case unit.RCD:
		out.Hint = "rc.d: " + e.Command("gateway install --print --target rcd") + " > /usr/local/etc/rc.d/openclaw_gateway; chmod 755 /usr/local/etc/rc.d/openclaw_gateway; sysrc openclaw_gateway_enable=YES; service openclaw_gateway start"
	}
	return out
}

// did tells a step that was taken, at once.
func (s *service) did(format string, a ...any) {
	step := fmt.Sprintf(format, a...)
	s.Changed, s.Done = true, append(s.Done, step)
	if !s.e.JSON {
		s.e.printf("%s\n", oneLine(step))
	}
}

func (s *service) note(format string, a ...any) { s.Notes = append(s.Notes, fmt.Sprintf(format, a...)) }

// finish prints how it ended.
func (s *service) finish(ctx context.Context, next ...string) error {
	if !s.DryRun {
		r := s.e.service(ctx, s.p)
		s.Service = &r
	}
	if s.e.JSON {
		return s.e.printJSON(&s.serviceResult)
	}
	if s.DryRun {
		s.e.printf("%s", escape(s.Diff))
	} else {
		s.e.printf("%s\n", oneLine(s.Service.Detail))
	}
	for _, n := range s.Notes {
		s.e.printf("note: %s\n", oneLine(n))
	}
	if len(next) > 0 {
		s.e.printf("\nNext:\n")
	}
	for _, n := range next {
		s.e.printf("  %s\n", oneLine(n))
	}
	return nil
}

// serviceUninstall stops the gateway and removes its unit.
func serviceUninstall(ctx context.Context, e *Env, a *Args) error {
	s, err := openService(e, a, true)
	if err != nil {
		return err
	}
	old, err := store.ReadUnitFile(s.file)
	if err != nil {
		return &Error{Code: "FOREIGN_UNIT", Msg: err.Error()}
	}
	origin := unit.OriginOf(old)
	s.theirs = old != nil && (!origin.Ours || origin.Edited)
	switch {
	case s.theirs && !a.Has("force"):
		return &Error{Code: "FOREIGN_UNIT", Msg: s.file + " was edited, or was not written by openclaw", Hint: "--force removes it and keeps it as .bak"}
	case old == nil && s.e.packaged(s.t, s.u) != "":
		return &Error{Code: "PACKAGED", Msg: s.e.packaged(s.t, s.u) + " belongs to a package", Hint: s.sup.(*systemd).command("disable --now")}
	}
	if err := s.sup.reach(ctx); err != nil {
		return err
	}
	st, err := s.sup.look(ctx)
	if err != nil {
		return asError(err, "")
	}
	if st.loaded {
		if err := s.sup.drop(ctx, false); err != nil {
			return asError(err, s.sup.logs())
		}
		s.did("stopped and disabled %s", serviceName(s.t, s.u))
	}
	if old != nil {
		if err := store.RemoveUnitFile(s.file, s.theirs); err != nil {
			return err
		}
		s.did("removed %s", s.file)
		if err := s.sup.drop(ctx, true); err != nil {
			return asError(err, "")
		}
	}
	if !s.Changed {
		s.note("nothing to do: nothing is installed")
	}
	s.note("state and configuration stay: %s, %s", s.p.StateDir, s.p.ConfigPath)
	return s.finish(ctx)
}

// serviceDo is start, stop or restart of what is installed.
func serviceDo(verb, done string, do func(supervisor, context.Context) error) func(context.Context, *Env, *Args) error {
	return func(ctx context.Context, e *Env, a *Args) error {
		s, err := openService(e, a, true)
		if err != nil {
			return err
		}
		if err := s.sup.reach(ctx); err != nil {
			return err
		}
		st, err := s.sup.look(ctx)
		if err != nil {
			return asError(err, "")
		}
		i, running, _ := e.instance(s.p)
		if running && !st.running && i.PID != st.pid {
			return &Error{Code: "NOT_MANAGED", Msg: fmt.Sprintf("the gateway that runs, pid %d, was not started by %s", i.PID, supervisorNames[s.t]), Hint: fmt.Sprintf("kill -TERM %d ends it; %s", i.PID, e.Command("gateway reload"))}
		}
		if installed := s.m.exists(s.file); !installed && !st.loaded {
			return &Error{Code: "NOT_INSTALLED", Msg: "no unit of this profile is installed: there is no " + s.file, Hint: e.Command("gateway install")}
		}
		if err := do(s.sup, ctx); err != nil {
			return asError(err, s.sup.logs())
		}
		now := supervised{}
		if verb != "stop" {
			if now, err = s.prove(ctx); err != nil {
				return err
			}
		}
		if now.pid == st.pid && st.word != waiting {
			s.note("nothing to do: it was %s already", done)
		} else {
			s.did("%s %s", done, serviceName(s.t, s.u))
		}
		return s.finish(ctx)
	}
}
