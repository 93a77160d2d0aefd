package svc

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"regexp"
	"strings"
	"time"

	"openclaw/gateway/store"
	"openclaw/svc/unit"
)

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
	changed, err := s.compare(text, a.Has("force"))
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
		if !s.t.System() { // supervisors do not make the directories that a user's unit names
			if err := store.EnsureDir(s.u.LogDir, 0o700); err != nil {
				return err
			}
		}
		if err := store.PlaceUnitFile(s.file, text, fs.FileMode(s.t.Mode()), -1, s.theirs); err != nil {
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
	l, err := s.resolve()
	if err != nil && !lenient {
		return nil, err
	}
	if l != nil {
		local := s.u.LocalOnly
		s.u = s.e.describe(s.t, s.p, s.u.Port, l.Config)
		s.u.LocalOnly = local
		if s.t == unit.SystemdSystem {
			s.u.Credentials = credentials(l.Root, s.m.bare(s.p.Credentials()))
		}
	}
	text, err := unit.Render(s.t, s.u)
	if err != nil {
		out := &Error{Code: "REFUSED", Msg: fmt.Sprintf("no %s unit can say this: %v", s.t, err)}
		if strings.HasPrefix(err.Error(), "program:") {
			out.Hint = "install openclaw elsewhere first, for example as /usr/local/bin/openclaw"
		}
		return nil, out
	}
	return text, nil
}

// compare looks at what is in the unit's place, and says whether the text is
// news there. What we did not write, or somebody has changed, is shown and refused
// without force.
func (s *service) compare(text []byte, force bool) (changed bool, err error) {
	old, err := store.ReadUnitFile(s.file)
	if err != nil {
		return false, &Error{Code: "FOREIGN_UNIT", Msg: err.Error()}
	}
	name := s.file
	if old == nil {
		if packaged := s.e.packaged(s.t, s.u); packaged != "" && !force {
			return false, &Error{Code: "PACKAGED", Msg: "a package brought " + packaged + ", which a file of ours would hide from its updates",
				Hint: s.sup.(*systemd).command("enable --now") + "; a drop-in changes it"}
		}
		name = "/dev/null"
	}
	changed = !bytes.Equal(old, text)
	origin := unit.OriginOf(old)
	s.theirs = old != nil && (!origin.Ours || origin.Edited)
	if changed && (s.theirs || s.DryRun) {
		s.Diff = unit.Diff(name, s.file, hideSecrets(old), text)
	}
	if !changed || !s.theirs {
		return changed, nil
	}
	if !s.DryRun && !s.e.JSON { // before anything is done about it
		s.e.printf("%s", escape(s.Diff))
	}
	if force {
		return changed, nil
	}
	out := &Error{Code: "FOREIGN_UNIT", Msg: s.file + " was not written by openclaw", Hint: "--force replaces it and keeps it as .bak"}
	if origin.Ours {
		out.Code, out.Msg = "EDITED_UNIT", s.file+" was edited since it was installed"
		out.Hint = "changes of your own are safe in a drop-in (" + s.file + ".d/own.conf); " + out.Hint
	}
	return changed, out
}

// secretValue is where a unit of somebody else's may hold a secret: a variable, or an argument.
var secretValue = regexp.MustCompile(`([A-Z0-9_]*(?:TOKEN|SECRET|PASSWORD|KEY|CREDENTIAL)[A-Z0-9_]*(?:=|</key>\s*<string>)"?|--(?:token|password)(?:=|\s+|</string>\s*<string>)"?)[^"'<\n]+`)

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
	if v := s.e.getenv("OPENCLAW_GATEWAY_PORT"); v != "" && s.u.Port == 0 {
		s.note("OPENCLAW_GATEWAY_PORT does not reach the service: its port is gateway.port of the configuration, or that of install --port")
	}
	for _, file := range s.e.legacy(s.t, s.u) {
		s.note("%s may be another gateway; to remove it: %s", file, s.e.removal(s.t, file))
	}
}
