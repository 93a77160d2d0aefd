package svc

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
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

// systemd drives a unit with systemctl, of the user manager or of the system's.
type systemd struct {
	e        *Env
	m        *machine
	name     string
	user     bool
	stopTime time.Duration
}

// startTime is more than DefaultTimeoutStartSec, after which systemd gives up by itself.
const startTime = 100 * time.Second

func (s *systemd) ctl(ctx context.Context, limit time.Duration, args ...string) (string, error) {
	t := tool{name: "systemctl", args: append([]string{"--no-pager", "--no-ask-password"}, args...), limit: limit}
	if s.user {
		dir, err := s.m.runtimeDir(s.e)
		if err != nil {
			return "", err
		}
		t.args = append([]string{"--user"}, t.args...)
		t.env = []string{"HOME=" + s.e.Home, "XDG_RUNTIME_DIR=" + dir}
	}
	out, err := s.m.run(ctx, t)
	var failed *toolError
	if errors.As(err, &failed) && strings.Contains(failed.why, "masked") {
		err = &Error{Code: "UNIT_MASKED", Msg: s.name + " is masked: somebody has forbidden it to start", Hint: s.command("unmask")}
	}
	return out, err
}

// command is what a person would type.
func (s *systemd) command(verb string) string {
	if s.user {
		return "systemctl --user " + verb + " " + s.name
	}
	return "sudo systemctl " + verb + " " + s.name
}

func (s *systemd) logs() string {
	if s.user {
		return "journalctl --user -u " + s.name + " -n 50"
	}
	return "sudo journalctl -u " + s.name + " -n 50"
}

func (s *systemd) reach(ctx context.Context) error {
	_, err := s.ctl(ctx, 0, "show", "--property=Version")
	var failed *toolError
	if !errors.As(err, &failed) {
		return err
	}
	out := &Error{Code: "NO_SUPERVISOR", Msg: "systemd does not answer: " + failed.Error()}
	if s.user {
		out.Code, out.Hint = "NO_USER_MANAGER", "log in as "+s.m.user+" itself (ssh or a console, not su or sudo), or sudo "+s.m.lingerCommand()+", then again"
	}
	return out
}

func (s *systemd) look(ctx context.Context) (supervised, error) {
	out, err := s.ctl(ctx, 0, "show", "--property=LoadState,ActiveState,SubState,UnitFileState,MainPID,Result,ExecMainStatus,NeedDaemonReload", "--", s.name)
	if err != nil {
		return supervised{}, err
	}
	v := map[string]string{}
	for line := range strings.Lines(out) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		v[name] = value
	}
	st := supervised{word: v["ActiveState"], loaded: v["LoadState"] == "loaded", stale: v["NeedDaemonReload"] == "yes",
		enabled: v["UnitFileState"] == "enabled", running: v["ActiveState"] == "active" || v["ActiveState"] == "reloading", failed: v["ActiveState"] == "failed"}
	st.pid, _ = strconv.Atoi(v["MainPID"])
	switch {
	case v["LoadState"] == "masked":
		st.word = "masked"
	case !st.loaded:
		st.word = "not loaded"
	case v["SubState"] == "auto-restart":
		st.word = "waiting to be restarted"
	}
	if code := v["ExecMainStatus"]; !st.running && v["Result"] != "success" {
		st.why = v["Result"]
		if code != "" && code != "0" {
			st.why += ", " + exitMeaning(code)
		}
	}
	return st, nil
}

// exitMeaning explains the exit codes that an operator can do something about.
func exitMeaning(code string) string {
	switch code {
	case "78":
		return "exit code 78: the configuration is unusable, or another gateway holds the port or the state"
	case "203":
		return "exit code 203: the program could not be executed"
	case "226":
		return "exit code 226: this host does not let systemd set up the unit's file system view"
	}
	return "exit code " + code
}

func (s *systemd) adopt(ctx context.Context, was supervised, changed bool) (done []string, err error) {
	step := func(limit time.Duration, args ...string) bool {
		if err == nil {
			if _, err = s.ctl(ctx, limit, args...); err == nil {
				done = append(done, "systemctl "+strings.Join(args, " "))
			}
		}
		return err == nil
	}
	if changed || was.stale || !was.loaded {
		step(toolTime*3, "daemon-reload")
	}
	if !was.enabled || changed {
		step(toolTime*3, "enable", s.name)
	}
	switch {
	case was.running && changed:
		step(startTime+s.stopTime, "restart", s.name)
	case !was.running:
		if err == nil {
			err = s.start(ctx)
		}
		if err == nil {
			done = append(done, "systemctl start "+s.name)
		}
	}
	return done, err
}

// start also forgets earlier failures, which would count against this attempt.
func (s *systemd) start(ctx context.Context) error {
	s.ctl(ctx, 0, "reset-failed", s.name) // fails where there is nothing to forget
	_, err := s.ctl(ctx, startTime, "start", s.name)
	return err
}

func (s *systemd) stop(ctx context.Context) error {
	_, err := s.ctl(ctx, s.stopTime, "stop", s.name)
	return err
}

func (s *systemd) restart(ctx context.Context) error {
	s.ctl(ctx, 0, "reset-failed", s.name)
	_, err := s.ctl(ctx, startTime+s.stopTime, "restart", s.name)
	return err
}

func (s *systemd) drop(ctx context.Context, removed bool) error {
	if removed {
		_, err := s.ctl(ctx, toolTime*3, "daemon-reload")
		s.ctl(ctx, 0, "reset-failed", s.name)
		return err
	}
	_, err := s.ctl(ctx, s.stopTime, "disable", "--now", s.name)
	return err
}

// launchd drives a job of the user's graphical session with launchctl.
//
// The job has KeepAlive with SuccessfulExit false: a gateway that was told to
// stop exits 0 and stays down, still loaded, until start or the next login.
// Only a changed plist makes it necessary to unload a job, and then launchd
// takes its time: bootout returns before the job is gone, and until then bootstrap
// fails with EIO. Whatever unloads here goes on until the job is loaded again.
type launchd struct {
	m           *machine
	label, file string
	errFile     string
	stopTime    time.Duration
}

const (
	launchctlNoService = 113 // launchctl print of what is not loaded
	launchdPause       = 250 * time.Millisecond
	launchdTries       = 60
)

func (l *launchd) domain() string  { return "gui/" + strconv.Itoa(l.m.uid) }
func (l *launchd) service() string { return l.domain() + "/" + l.label }
func (l *launchd) logs() string    { return "tail -n 50 " + shellQuote(l.errFile) }

func (l *launchd) ctl(ctx context.Context, limit time.Duration, args ...string) (string, error) {
	return l.m.run(ctx, tool{name: "launchctl", args: args, limit: limit})
}

func (l *launchd) reach(ctx context.Context) error {
	_, err := l.ctl(ctx, 0, "print", l.domain())
	var failed *toolError
	if errors.As(err, &failed) {
		return &Error{Code: "NO_USER_MANAGER", Msg: fmt.Sprintf("launchd has no session of %s (%s): %s", l.m.user, l.domain(), failed.why),
			Hint: "log in at the screen or by screen sharing once; an agent belongs to that session"}
	}
	return err
}

func (l *launchd) look(ctx context.Context) (supervised, error) {
	out, err := l.ctl(ctx, 0, "print", l.service())
	var failed *toolError
	if errors.As(err, &failed) && failed.code == launchctlNoService {
		return supervised{word: "not loaded"}, nil
	} else if err != nil {
		return supervised{}, err
	}
	st := supervised{loaded: true, enabled: true, word: "loaded"}
	for line := range strings.Lines(out) {
		if name, value, ok := strings.Cut(line, " = "); ok && strings.Count(name, "\t") == 1 { // deeper ones are of other things
			value = strings.TrimSpace(value)
			switch strings.TrimSpace(name) {
			case "state":
				st.word, st.running = value, value == "running"
			case "pid":
				st.pid, _ = strconv.Atoi(value)
			case "last exit code":
				if code, _, _ := strings.Cut(value, ":"); code != "0" && code != "(never exited)" {
					st.why = exitMeaning(code)
				}
			}
		}
	}
	if st.running {
		st.why = ""
	}
	out, err = l.ctl(ctx, 0, "print-disabled", l.domain())
	for line := range strings.Lines(out) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), " => "); ok && name == strconv.Quote(l.label) {
			st.enabled = value != "disabled" && value != "true"
		}
	}
	return st, err
}

func (l *launchd) adopt(ctx context.Context, was supervised, changed bool) (done []string, err error) {
	if was.loaded && changed {
		ctx = context.WithoutCancel(ctx) // whoever loses patience here would leave it unloaded
		if err := l.unload(ctx); err != nil {
			return nil, err
		}
		done = append(done, "launchctl bootout "+l.service())
	}
	did, err := l.up(ctx)
	return append(done, did...), err
}

// unload takes the job out and waits until it is gone. What bootout itself says is of
// no account: it reports errors for what then happens.
func (l *launchd) unload(ctx context.Context) error {
	_, said := l.ctl(ctx, l.stopTime, "bootout", l.service())
	for range launchdTries + int(l.stopTime/launchdPause) {
		st, err := l.look(ctx)
		if err == nil && !st.loaded {
			return nil
		}
		if err := l.m.pause(ctx, launchdPause); err != nil {
			return err
		}
	}
	return fmt.Errorf("launchd does not let go of %s: %w", l.service(), errors.Join(said, errors.New("it is still loaded")))
}

// up loads the job where it is not and has it run. It looks twice, for a job
// that is on its way out is still shown for a while.
func (l *launchd) up(ctx context.Context) (did []string, err error) {
	l.ctl(ctx, 0, "enable", l.service()) // a disabled job cannot be loaded
	var last error
	step := func(args ...string) bool {
		if _, last = l.ctl(ctx, 0, args...); last == nil {
			did = append(did, "launchctl "+strings.Join(args, " "))
		}
		return last == nil
	}
	for seen, try := 0, 0; try < launchdTries; try++ {
		st, err := l.look(ctx)
		switch {
		case err != nil:
			last = err
		case !st.loaded:
			seen = 0
			step("bootstrap", l.domain(), l.file)
		case st.pid == 0 && seen == 0:
			if step("kickstart", l.service()) {
				seen++
			}
		default:
			if seen++; seen > 2 {
				return did, nil
			}
		}
		if err := l.m.pause(ctx, launchdPause); err != nil {
			return did, errors.Join(err, last)
		}
	}
	return did, &Error{Code: "NOT_LOADED", Msg: fmt.Sprintf("launchd does not load %s: %v", l.label, last),
		Hint: fmt.Sprintf("launchctl bootstrap %s %s", l.domain(), shellQuote(l.file))}
}

func (l *launchd) start(ctx context.Context) error {
	_, err := l.up(ctx)
	return err
}

func (l *launchd) stop(ctx context.Context) error {
	st, err := l.look(ctx)
	if err != nil || st.pid == 0 {
		return err
	}
	if _, err := l.ctl(ctx, 0, "kill", "SIGTERM", l.service()); err != nil {
		return err
	}
	for range int(l.stopTime / launchdPause) {
		now, err := l.look(ctx)
		switch {
		case err != nil:
			return err
		case now.pid == 0 && now.why == "":
			return nil
		case now.pid == 0 || now.pid != st.pid:
			return &Error{Msg: "the gateway did not end cleanly, so launchd starts it again: " + now.why, Hint: l.logs()}
		}
		if err := l.m.pause(ctx, launchdPause); err != nil {
			return err
		}
	}
	return fmt.Errorf("pid %d does not end", st.pid)
}

// restart never unloads. Where kickstart fails, the job was not loaded or not
// there yet, and is brought up.
func (l *launchd) restart(ctx context.Context) error {
	was, err := l.look(ctx)
	for try := 0; err == nil; try++ {
		_, said := l.ctl(ctx, l.stopTime, "kickstart", "-k", l.service())
		var now supervised
		if _, err = l.up(ctx); err == nil {
			now, err = l.look(ctx)
		}
		switch {
		case err == nil && (said == nil || now.pid != was.pid):
			return nil
		case err == nil && try == 4:
			err = said
		}
	}
	return err
}

func (l *launchd) drop(ctx context.Context, removed bool) error {
	if st, err := l.look(ctx); err != nil || removed || !st.loaded {
		return err
	}
	return l.unload(ctx)
}
