package svc

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"openclaw/gateway/store"
)

// fakeHost is a host with one supervisor. The gateway that it starts holds the
// state directory and publishes where it listens, as a real one does.
type fakeHost struct {
	t     *testing.T
	state string // the gateway's state directory
	calls []string

	dir *store.Dir // of the running gateway
	pid int

	mute bool // the gateway does not come up
}

func (f *fakeHost) begin() {
	if f.dir != nil || f.mute {
		return
	}
	dir, err := store.Open(f.state)
	if err != nil {
		f.t.Fatal(err)
	}
	f.dir, f.pid = dir, f.pid+4242
	if err := dir.Publish(store.Instance{PID: f.pid, Port: 18789, Addr: "127.0.0.1:1"}); err != nil {
		f.t.Fatal(err)
	}
}

func (f *fakeHost) end() {
	if f.dir != nil {
		f.dir.Close()
		f.dir = nil
	}
}

func (f *fakeHost) log(t tool) { f.calls = append(f.calls, t.String()) }

// called counts the calls that contain a text.
func (f *fakeHost) called(text string) int {
	n := 0
	for _, c := range f.calls {
		if strings.Contains(c, text) {
			n++
		}
	}
	return n
}

// serviceConsole is a console on a host that a test makes up.
func serviceConsole(t *testing.T, goos string) (*console, *machine, *fakeHost) {
	t.Helper()
	c := newConsole(t)
	root := t.TempDir()
	c.Env.Home = filepath.Join(root, "home/alice")
	m := &machine{goos: goos, root: root, uid: os.Geteuid(), user: "alice",
		pause:   func(ctx context.Context, _ time.Duration) error { return ctx.Err() },
		account: func(string) (store.Account, error) { return store.Account{UID: os.Geteuid(), GID: os.Getegid()}, nil },
		program: func(*Env) (string, error) { return "/usr/bin/openclaw", nil }}
	if m.uid == 0 {
		m.uid = 1000 // a user unit is none of root's
	}
	c.Env.host = m
	for _, dir := range []string{"usr/bin", "home/alice/.openclaw", "home/alice/Library", "etc/systemd/system", "run"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	os.Chmod(filepath.Join(c.Env.Home, ".openclaw"), 0o700)
	placeAt(t, filepath.Join(root, "usr/bin/openclaw"), "program", 0o755)
	placeAt(t, filepath.Join(c.Env.Home, ".openclaw/openclaw.json"), `{gateway: {auth: {token: "`+testToken+`"}}}`, 0o600)
	f := &fakeHost{t: t, state: filepath.Join(c.Env.Home, ".openclaw")}
	t.Cleanup(f.end)
	return c, m, f
}

const testToken = "3f1c9a5be8d24760b1a2c3d4e5f60718293a4b5c6d7e8f90"

func placeAt(t *testing.T, path, text string, mode os.FileMode) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
}

func contentOf(t *testing.T, path string) string {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

// fakeSystemd is systemctl and loginctl with a manager behind them.
type fakeSystemd struct {
	*fakeHost
	file                  string // of the unit
	loaded                string // its text at the last daemon-reload
	enabled, failed       bool
	masked, noBus, noLoad bool
	startFails            bool
}

func onSystemd(t *testing.T) (*console, *machine, *fakeSystemd) {
	c, m, f := serviceConsole(t, "linux")
	s := &fakeSystemd{fakeHost: f, file: filepath.Join(c.Env.Home, ".config/systemd/user/openclaw-gateway.service")}
	m.run = s.run
	os.MkdirAll(m.at("/run/systemd/system"), 0o755)
	dir := m.at(fmt.Sprintf("/run/user/%d", m.uid))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if os.Geteuid() == 0 {
		if err := os.Chown(dir, m.uid, -1); err != nil {
			t.Fatal(err)
		}
	}
	return c, m, s
}

func (s *fakeSystemd) run(_ context.Context, t tool) (string, error) {
	s.log(t)
	fail := func(code int, why string) (string, error) { return "", &toolError{tool: t, code: code, why: why} }
	if t.name == "loginctl" {
		placeAt(s.t, filepath.Join(filepath.Dir(s.state), "../../var/lib/systemd/linger/alice"), "", 0o644)
		return "", nil
	}
	if t.name != "systemctl" {
		return "", errNoTool
	}
	args := slices.DeleteFunc(slices.Clone(t.args), func(a string) bool { return strings.HasPrefix(a, "--no-") || a == "--" || a == "--user" })
	if slices.Contains(t.args, "--user") && (s.noBus || !slices.ContainsFunc(t.env, func(v string) bool { return strings.HasPrefix(v, "XDG_RUNTIME_DIR=/") })) {
		return fail(1, "Failed to connect to bus: No medium found")
	}
	switch args[0] {
	case "show":
		if strings.Contains(args[1], "Version") {
			return "Version=257\n", nil
		}
		load, active, enabled, result, status := "not-found", "inactive", "", "success", "0"
		if s.loaded != "" {
			load = "loaded"
		}
		switch {
		case s.masked:
			load = "masked"
		case s.dir != nil:
			active = "active"
		case s.failed:
			active, result, status = "failed", "exit-code", "78"
		}
		if s.enabled {
			enabled = "enabled"
		}
		stale := "no"
		if now, _ := os.ReadFile(s.file); s.loaded != "" && string(now) != s.loaded {
			stale = "yes"
		}
		pid := 0
		if s.dir != nil {
			pid = s.pid
		}
		return fmt.Sprintf("LoadState=%s\nActiveState=%s\nSubState=x\nUnitFileState=%s\nMainPID=%d\nResult=%s\nExecMainStatus=%s\nNeedDaemonReload=%s\n", load, active, enabled, pid, result, status, stale), nil
	case "daemon-reload":
		if s.noLoad {
			return fail(1, "Failed to reload daemon: Access denied")
		}
		now, _ := os.ReadFile(s.file)
		s.loaded = string(now)
	case "enable":
		if s.masked {
			return fail(1, "Failed to enable unit: Unit file is masked.")
		}
		s.enabled = true
	case "start", "restart":
		if args[0] == "restart" {
			s.end()
		}
		if s.startFails {
			s.failed = true
			return fail(1, "Job for openclaw-gateway.service failed because the control process exited with error code.")
		}
		s.begin()
	case "stop":
		s.end()
	case "disable":
		s.end()
		s.enabled = false
	case "reset-failed":
		s.failed = false
	default:
		s.t.Errorf("unexpected %s", t)
	}
	return "", nil
}

// fakeLaunchd is launchctl at its bad moments: a job that was booted out stays
// for a while, bootstrap fails with EIO until it is gone and some times more,
// and kickstart may fail where it should not.
type fakeLaunchd struct {
	*fakeHost
	file      string
	loaded    bool
	text      string // of the plist that was loaded
	leaving   int    // answers until a job that was booted out is gone; 0 = it stays
	lingering int    // what leaving becomes at bootout
	eio       int    // how many bootstraps fail with EIO
	kickFails int    // how many kickstarts fail
	disabled  bool
	noSession bool
}

func onLaunchd(t *testing.T) (*console, *fakeLaunchd) {
	c, m, f := serviceConsole(t, "darwin")
	l := &fakeLaunchd{fakeHost: f, file: filepath.Join(c.Env.Home, "Library/LaunchAgents/bot.molt.gateway.plist")}
	m.run = l.run
	return c, l
}

func (l *fakeLaunchd) run(_ context.Context, t tool) (string, error) {
	l.log(t)
	fail := func(code int, why string) (string, error) { return "", &toolError{tool: t, code: code, why: why} }
	if t.name != "launchctl" {
		return "", errNoTool
	}
	if l.leaving > 0 {
		if l.leaving--; l.leaving == 0 {
			l.end()
			l.loaded = false
		}
	}
	running := 0
	if l.dir != nil {
		running = l.pid
	}
	switch t.args[0] {
	case "print":
		if strings.Count(t.args[1], "/") == 1 {
			if l.noSession {
				return fail(125, "Domain does not support specified action")
			}
			return "gui = {\n}\n", nil
		}
		if !l.loaded {
			return fail(113, `Could not find service "bot.molt.gateway" in domain for user gui: 1000`)
		}
		state := "not running"
		if running != 0 {
			state = fmt.Sprintf("running\n\tpid = %d", running)
		}
		return "gui/1000/bot.molt.gateway = {\n\tactive count = 1\n\tstate = " + state + "\n\tendpoints = {\n\t\tstate = active\n\t}\n\tlast exit code = 0\n}\n", nil
	case "print-disabled":
		if l.disabled {
			return "disabled services = {\n\t\"bot.molt.gateway\" => disabled\n}\n", nil
		}
		return "disabled services = {\n}\n", nil
	case "enable":
		l.disabled = false
	case "bootout":
		if !l.loaded {
			return fail(3, "Boot-out failed: 3: No such process")
		}
		if l.lingering == 0 {
			l.end()
			l.loaded = false
			return "", nil
		}
		l.leaving = l.lingering
		return fail(36, "Boot-out failed: 36: Operation now in progress")
	case "bootstrap":
		switch {
		case l.loaded, l.disabled:
			return fail(5, "Bootstrap failed: 5: Input/output error")
		case l.eio > 0:
			l.eio--
			return fail(5, "Bootstrap failed: 5: Input/output error")
		}
		l.loaded, l.text = true, contentOf(l.t, l.file)
		l.begin() // RunAtLoad
	case "kickstart":
		switch {
		case !l.loaded:
			return fail(113, "Could not find service")
		case l.kickFails > 0:
			l.kickFails--
			return fail(37, "Operation already in progress")
		}
		if slices.Contains(t.args, "-k") {
			l.end()
		}
		l.begin()
	case "kill":
		l.end()
	default:
		l.t.Errorf("unexpected %s", t)
	}
	return "", nil
}

var errPlanted = errors.New("planted")
