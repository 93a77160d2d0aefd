package svc

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

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
				Flag{Name: "enable-linger", Doc: "systemd: have this user's services run without a login."},
				Flag{Name: "token", Value: "TOKEN", Refused: onArgv, Hint: "units hold no secrets: put it into a file of mode 0600 and name that with " + "openclaw config set gateway.auth.token file:PATH"},
				Flag{Name: "runtime", Value: "NAME", Ignored: "it is for the Node gateway"}), Run: serviceInstall},
		{Path: "gateway uninstall", Aliases: []string{"daemon uninstall"}, Doc: "Stop the gateway and remove its unit; state and configuration stay.",
			Flags: append(both[:2:2], Flag{Name: "dry-run", Doc: "Only say what would be done."},
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
	s.e.printf("%s", escape(s.Diff))
	if s.Service != nil {
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

// serviceInstall writes the unit, has it loaded and started at boot, starts it
// and waits until the gateway says that it runs. What is so already is left alone.
func serviceInstall(ctx context.Context, e *Env, a *Args) error {
	if a.Has("print") {
		return servicePrint(e, a)
	}
	if a.Has("program") {
		return usage("--program goes with --print: what is installed is the program that installs it")
	}
	s, err := openService(e, a, !a.Has("dry-run"))
	if err != nil {
		return err
	}
	if s.DryRun = a.Has("dry-run"); !s.DryRun {
		if err := s.prepare(ctx, a); err != nil {
			return err
		}
	}
	text, err := s.render(s.DryRun)
	if err != nil {
		return err
	}
	old, changed, err := s.compare(text, a.Has("force"))
	if s.DryRun && (err == nil || s.Diff != "") {
		switch {
		case err != nil:
			s.note("install would refuse: %v", err)
		case changed:
			s.note("install would write %s, load it, enable it and start the gateway", s.file)
		default:
			s.note("%s is what install would write", s.file)
		}
		s.Changed = changed
		return s.finish(ctx)
	}
	if err != nil {
		return err
	}
	was, err := s.sup.look(ctx)
	if err != nil {
		return asError(err, "")
	}
	if was.word == "masked" {
		return &Error{Code: "UNIT_MASKED", Msg: s.u.Name() + " is masked: somebody has forbidden it to start", Hint: s.sup.(*systemd).command("unmask")}
	}
	if i, running, _ := e.instance(s.p); running && !was.running && i.PID != was.pid {
		return &Error{Code: "RUNNING", Msg: fmt.Sprintf("a gateway of this profile runs already, pid %d, but not as this service", i.PID), Hint: fmt.Sprintf("end it first: kill -TERM %d", i.PID)}
	}
	if changed {
		if s.t == unit.Launchd { // it does not make the directory of its output
			if err := store.EnsureDir(s.u.LogDir, 0o700); err != nil {
				return err
			}
		}
		if err := store.PlaceUnitFile(s.file, text, fs.FileMode(s.t.Mode()), -1, old != nil); err != nil {
			return err
		}
		s.did("wrote %s", s.file)
	}
	done, err := s.sup.adopt(ctx, was, changed)
	for _, d := range done {
		s.did("%s", d)
	}
	if err != nil {
		return asError(err, s.sup.logs())
	}
	if _, err := s.prove(ctx); err != nil {
		return err
	}
	if !s.Changed {
		s.note("nothing to do: it was installed and runs")
	}
	s.remarks()
	return s.finish(ctx, e.Command("gateway status"), e.Command("health"), e.Command("logs --follow"))
}

// servicePrint renders a unit and touches nothing.
func servicePrint(e *Env, a *Args) error {
	if a.Has("program") {
		other, host := *e, *e.machine()
		host.program = func(*Env) (string, error) { return a.Get("program"), nil }
		other.host, e = &host, &other
	}
	s, err := openService(e, a, false)
	if err != nil {
		if a.Has("target") {
			return err
		}
		return &Error{Code: "USAGE", Exit: ExitUsage, Msg: err.Error(), Hint: "name a target: --print --target systemd-user"}
	}
	text, err := s.render(true)
	if err != nil {
		return err
	}
	if e.JSON {
		return e.printJSON(map[string]any{"ok": true, "target": s.t, "file": s.file, "mode": fmt.Sprintf("%04o", s.t.Mode()), "text": string(text)})
	}
	_, err = e.Stdout.Write(text)
	return err
}

// render writes the unit. With lenient set, a configuration that is missing or
// unusable is no hindrance: defaults are taken for it.
func (s *service) render(lenient bool) ([]byte, error) {
	if program, err := s.m.program(s.e); err != nil {
		return nil, err
	} else if err := s.m.sharedProgram(program, s.t.System()); err != nil && !lenient {
		return nil, err
	}
	l, err := s.resolve()
	if err != nil && !lenient {
		return nil, err
	}
	if l != nil {
		s.u = s.e.describe(s.t, s.p, s.u.Port, l.Config)
		if s.t == unit.SystemdSystem {
			s.u.Credentials = credentials(l.Root, s.m.bare(s.p.Credentials()))
		}
	}
	text, err := unit.Render(s.t, s.u)
	if err != nil {
		hint := ""
		if strings.HasPrefix(err.Error(), "program:") {
			hint = "install openclaw elsewhere first, for example as /usr/local/bin/openclaw"
		}
		return nil, &Error{Code: "REFUSED", Msg: fmt.Sprintf("no %s unit can say this: %v", s.t, err), Hint: hint}
	}
	return text, nil
}

// resolve loads the configuration as the service will, without the variables
// and, for a user's unit, the files that only this shell has.
func (s *service) resolve() (*config.Loaded, error) {
	env := map[string]string{"HOME": s.u.Home, "OPENCLAW_PROFILE": s.p.Profile, "OPENCLAW_STATE_DIR": s.p.StateDir, "OPENCLAW_CONFIG_PATH": s.p.ConfigPath}
	if s.t == unit.SystemdSystem {
		env["CREDENTIALS_DIRECTORY"] = s.p.Credentials()
	}
	l, err := config.Load(config.Source{Path: s.p.ConfigPath, ReadFile: store.ReadConfigFile,
		Env: func(name string) (string, bool) { v, ok := env[name]; return v, ok }})
	if err == nil && !l.Config.Gateway.Auth.Missing() {
		return l, s.unseen(l)
	}
	mine, mineErr := s.e.Load(s.p.ConfigPath)
	if mineErr != nil {
		return l, s.e.BadConfig(s.p.ConfigPath, mineErr)
	}
	auth := mine.Config.Gateway.Auth
	out := &Error{Code: "NEEDS_ENVIRONMENT", Exit: ExitConfig, Msg: "the service would not have the variables of this shell, and nothing of them is written into a unit"}
	var ps config.Problems
	errors.As(err, &ps)
	for _, p := range ps {
		out.Msg += "\n" + p.String()
	}
	if err == nil && auth.Missing() {
		out.Code, out.Msg, out.Hint = "NO_SECRET", fmt.Sprintf("%s is not set in %s, and a gateway does not start without a secret", auth.SecretKey(), s.p.ConfigPath), s.e.Command("config set "+auth.SecretKey()+" - < FILE")
		return l, out
	}
	if err == nil {
		out.Msg += fmt.Sprintf("\n%s: only %s holds it", auth.SecretKey(), auth.SecretVar())
	}
	key, name := auth.SecretKey(), auth.SecretVar()
	if len(ps) > 0 {
		key = ps[0].Path
		if m := variable.FindStringSubmatch(ps[0].Msg); m != nil {
			name = m[1]
		}
	}
	secret := filepath.Join(s.p.StateDir, strings.ToLower(strings.ReplaceAll(name, "_", "-")))
	out.Hint = fmt.Sprintf("put it into a file that is yours alone: (umask 077; printenv %s > %s) && %s", name, shellQuote(secret), s.e.Command("config set "+key+" file:"+shellQuote(secret)))
	return l, out
}

var variable = regexp.MustCompile(`\$\{([A-Z_][A-Z0-9_]*)\}`)

// unseen names a file of the configuration that the unit hides from the gateway.
func (s *service) unseen(l *config.Loaded) error {
	var hidden, open []string
	switch s.t {
	case unit.SystemdUser:
		hidden, open = []string{"/home", "/root", "/run/user", "/tmp", "/var/tmp", s.p.Home}, append([]string{s.p.StateDir, filepath.Dir(s.p.ConfigPath)}, s.u.Workspaces...)
	case unit.SystemdSystem:
		hidden = []string{"/home", "/root", "/run/user", "/tmp", "/var/tmp"}
	default:
		return nil
	}
	files := []string{l.Config.Gateway.TLS.CertPath, l.Config.Gateway.TLS.KeyPath, l.Config.Logging.File}
	for _, text := range stringsOf(l.Root) {
		if path, ok := strings.CutPrefix(text, "file:"); ok && !strings.Contains(path, "${") {
			if !filepath.IsAbs(path) && !strings.HasPrefix(path, "~") {
				path = filepath.Join(filepath.Dir(s.p.ConfigPath), path)
			}
			files = append(files, path)
		}
	}
	for _, path := range files {
		if path = s.p.Expand(path); path != "" && below(hidden, path) && !below(open, path) {
			return &Error{Code: "HIDDEN", Exit: ExitConfig, Msg: fmt.Sprintf("the service does not see %s: its unit hides home directories and /tmp but for the state directory", path),
				Hint: "move it into " + s.p.StateDir + " and name it there"}
		}
	}
	return nil
}

func below(dirs []string, path string) bool {
	return slices.ContainsFunc(dirs, func(dir string) bool {
		rel, err := filepath.Rel(dir, path)
		return err == nil && filepath.IsLocal(rel)
	})
}

// compare looks at what is in the unit's place, and says whether the text is
// news there. What we did not write, or somebody has changed, is shown and refused
// without force.
func (s *service) compare(text []byte, force bool) (old []byte, changed bool, err error) {
	if old, err = store.ReadUnitFile(s.file); err != nil {
		return nil, false, &Error{Code: "FOREIGN_UNIT", Msg: err.Error()}
	}
	name := s.file
	if old == nil {
		if packaged := s.e.packaged(s.t, s.u); packaged != "" && !force {
			return nil, false, &Error{Code: "PACKAGED", Msg: "a package brought " + packaged + ", which a file of ours would hide from its updates",
				Hint: s.sup.(*systemd).command("enable --now") + "; a drop-in changes it"}
		}
		name = "/dev/null"
	}
	changed = !bytes.Equal(old, text)
	origin := unit.OriginOf(old)
	theirs := old != nil && (!origin.Ours || origin.Edited)
	if changed && (theirs || s.DryRun) {
		s.Diff = unit.Diff(name, s.file, hideSecrets(old), text)
	}
	if !changed || !theirs {
		return old, changed, nil
	}
	if force {
		if !s.DryRun {
			s.e.printDiff(s.Diff)
		}
		return old, changed, nil
	}
	out := &Error{Code: "FOREIGN_UNIT", Msg: s.file + " was not written by openclaw", Hint: "--force replaces it and keeps it as .bak"}
	if origin.Ours {
		out.Code, out.Msg = "EDITED_UNIT", s.file+" was edited since it was installed"
		out.Hint = "changes of your own are safe in a drop-in (" + s.file + ".d/own.conf); " + out.Hint
	}
	if !s.DryRun {
		s.e.printDiff(s.Diff)
	}
	return old, changed, out
}

// printDiff shows a person a diff before something is decided by it.
func (e *Env) printDiff(diff string) {
	if !e.JSON {
		e.printf("%s", escape(diff))
	}
}

// secretValue is an assignment in a unit of somebody else's that may hold a secret.
var secretValue = regexp.MustCompile(`(?i)([A-Z0-9_]*(?:TOKEN|SECRET|PASSW(?:OR)?D|KEY|CREDENTIAL)[A-Z0-9_]*(?:=|</key>\s*<string>|"?\s+))[^\s"'<]+`)

func hideSecrets(text []byte) []byte { return secretValue.ReplaceAll(text, []byte("${1}[redacted]")) }

// proveTries of proveTime are how long a gateway may take from its start to its first answer.
const (
	proveTries = 200
	proveTime  = 100 * time.Millisecond
)

// prove waits until the supervisor shows the gateway as running and the
// gateway itself has published where it listens.
func (s *service) prove(ctx context.Context) (st supervised, err error) {
	for range proveTries {
		if st, err = s.sup.look(ctx); err != nil {
			return st, asError(err, s.sup.logs())
		}
		if i, running, err := s.e.instance(s.p); st.running && (err != nil || running && i.Port != 0) {
			return st, nil
		}
		if st.failed {
			break
		}
		if err := s.m.pause(ctx, proveTime); err != nil {
			return st, err
		}
	}
	msg := "the gateway did not come up: " + st.word
	if st.why != "" {
		msg += ", " + st.why
	}
	return st, &Error{Code: "NOT_STARTED", Msg: msg, Hint: s.sup.logs()}
}

// remarks are what the operator should know about an installation that works.
func (s *service) remarks() {
	if s.t == unit.SystemdUser && !s.m.lingers() {
		s.note("it ends with your last logout and does not start at boot until you run: %s (or install with --enable-linger)", s.m.lingerCommand())
	}
	if s.t == unit.SystemdSystem && s.u.LocalOnly {
		s.note("nothing in the configuration is beyond this host, so the unit lets it talk to this host only; install again after adding a provider elsewhere")
	}
	if v := s.e.getenv("OPENCLAW_GATEWAY_PORT"); v != "" && s.u.Port == 0 {
		s.note("OPENCLAW_GATEWAY_PORT does not reach the service: its port is gateway.port of the configuration, or that of install --port")
	}
	for _, file := range s.e.legacy(s.t, s.u) {
		s.note("%s may be another gateway; to remove it: %s", file, s.e.removal(s.t, file))
	}
}

// serviceUninstall stops the gateway and removes its unit.
func serviceUninstall(ctx context.Context, e *Env, a *Args) error {
	s, err := openService(e, a, !a.Has("dry-run"))
	if err != nil {
		return err
	}
	s.DryRun = a.Has("dry-run")
	old, err := store.ReadUnitFile(s.file)
	if err != nil {
		return &Error{Code: "FOREIGN_UNIT", Msg: err.Error()}
	}
	origin := unit.OriginOf(old)
	theirs := old != nil && (!origin.Ours || origin.Edited)
	switch {
	case theirs && !a.Has("force"):
		return &Error{Code: "FOREIGN_UNIT", Msg: s.file + " was edited, or was not written by openclaw", Hint: "--force removes it and keeps it as .bak"}
	case old == nil && s.e.packaged(s.t, s.u) != "":
		return &Error{Code: "PACKAGED", Msg: s.e.packaged(s.t, s.u) + " belongs to a package", Hint: s.sup.(*systemd).command("disable --now")}
	case s.DryRun && old == nil:
		s.note("nothing is installed")
		return s.finish(ctx)
	case s.DryRun:
		s.note("uninstall would stop the gateway and remove %s", s.file)
		return s.finish(ctx)
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
		if err := store.RemoveUnitFile(s.file, theirs); err != nil {
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
		if now.pid == st.pid {
			s.note("nothing to do: it was %s already", done)
		} else {
			s.did("%s %s", done, serviceName(s.t, s.u))
		}
		return s.finish(ctx)
	}
}
