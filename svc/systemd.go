package svc

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"time"
)

// waiting is a word of ours for what systemd calls activating (auto-restart).
const waiting = "waiting to be restarted"

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
		st.word = waiting
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
