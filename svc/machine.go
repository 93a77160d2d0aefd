package svc

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"openclaw/gateway/store"
	"openclaw/reload/config"
	"openclaw/svc/unit"
)

// machine is what the commands about services see of the host and do to it;
// tests put another in its place.
type machine struct {
	goos    string
	root    string // before every absolute path of the host's own; "" but in tests
	uid     int
	user    string // login name
	run     func(context.Context, tool) (string, error)
	pause   func(context.Context, time.Duration) error
	account func(name string) (store.Account, error)
	program func(e *Env) (string, error)
}

// machine returns the host of this process unless a test has set another.
func (e *Env) machine() *machine {
	if e.host == nil {
		e.host = &machine{goos: runtime.GOOS, uid: os.Geteuid(), user: strconv.Itoa(os.Geteuid()),
			run: runTool, pause: pause, account: account, program: findProgram}
		if u, err := user.Current(); err == nil {
			e.host.user = u.Username
		}
	}
	return e.host
}

// at is a path of the host's own.
func (m *machine) at(path string) string {
	if m.root == "" || strings.HasPrefix(path, m.root) {
		return path
	}
	return m.root + path
}

// bare is a path as the host itself calls it.
func (m *machine) bare(path string) string { return strings.TrimPrefix(path, m.root) }

func (m *machine) isDir(path string) bool {
	fi, err := os.Stat(m.at(path))
	return err == nil && fi.IsDir()
}

func (m *machine) exists(path string) bool {
	_, err := os.Lstat(m.at(path))
	return err == nil
}

// target is where a service of this host belongs, "" where its supervisor is
// none that we drive or know.
func (m *machine) target(system bool) unit.Target {
	switch {
	case m.goos == "darwin" && !system:
		return unit.Launchd
	case m.goos == "linux" && m.isDir("/run/systemd/system"): // sd_booted(3)
		if system {
			return unit.SystemdSystem
		}
		return unit.SystemdUser
	case m.goos == "linux" && m.isDir("/run/openrc"):
		return unit.OpenRC
	case m.goos == "freebsd":
		return unit.RCD
	}
	return ""
}

// supervisorNames are what people call the targets.
var supervisorNames = map[unit.Target]string{
	unit.Launchd: "launchd", unit.SystemdUser: "systemd (user)", unit.SystemdSystem: "systemd", unit.OpenRC: "OpenRC", unit.RCD: "rc.d",
}

// runtimeDir is where the user's session, and with it systemd's user manager,
// has its sockets. A variable that sudo or su carried over names another
// user's; it does not count.
func (m *machine) runtimeDir(e *Env) (string, error) {
	own := fmt.Sprintf("/run/user/%d", m.uid)
	for _, dir := range []string{e.getenv("XDG_RUNTIME_DIR"), m.at(own)} {
		if fi, err := os.Stat(dir); filepath.IsAbs(dir) && err == nil && fi.IsDir() && int(fi.Sys().(*syscall.Stat_t).Uid) == m.uid {
			return dir, nil
		}
	}
	return "", &Error{Code: "NO_USER_MANAGER", Msg: fmt.Sprintf("systemd runs no services for %s now: there is no %s (normal in containers, and where one became this user by su or sudo)", m.user, own),
		Hint: fmt.Sprintf("sudo loginctl enable-linger %s starts them now and at every boot; then again. For the whole host: sudo %s", shellQuote(m.user), e.systemCommand("gateway install"))}
}

// lingers reports whether the user's services run without a login.
func (m *machine) lingers() bool { return m.exists("/var/lib/systemd/linger/" + m.user) }

func (m *machine) lingerCommand() string { return "loginctl enable-linger " + shellQuote(m.user) }

// instance is who holds the profile's state directory.
func (e *Env) instance(p config.Paths) (store.Instance, bool, error) {
	if p.System {
		return store.ReadServiceInstance(p.StateDir)
	}
	return store.ReadInstance(p.StateDir)
}

// openState opens a profile's state directory to look at it.
func openState(p config.Paths) (*store.Dir, error) {
	if p.System {
		return store.OpenServiceRead(p.StateDir)
	}
	return store.OpenRead(p.StateDir)
}

// useSystem makes the gateway of the whole host the one that is meant. What
// credential:NAME is to the service, root finds where the service gets it from.
func (e *Env) useSystem(profile, goos string) {
	p, err := config.ResolveSystem(profile, e.getenv("OPENCLAW_PROFILE"), goos)
	for _, path := range []*string{&p.StateDir, &p.ConfigPath, &p.Home, &p.Workspace} {
		*path = e.machine().at(*path)
	}
	if e.paths, e.pathsErr = p, err; err != nil {
		return
	}
	lookup, dir := e.Lookup, p.Credentials()
	e.Lookup = func(name string) (string, bool) {
		if name == "CREDENTIALS_DIRECTORY" {
			return dir, true
		}
		return lookup(name)
	}
}

// systemCommand is Command for the gateway of the whole host.
func (e *Env) systemCommand(words string) string {
	host := *e
	host.paths.System = true
	return host.Command(words)
}

func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func account(name string) (a store.Account, err error) {
	u, err := user.Lookup(name)
	if err != nil {
		return a, err
	}
	a.UID, err = strconv.Atoi(u.Uid)
	if err == nil {
		a.GID, err = strconv.Atoi(u.Gid)
	}
	return a, err
}

// findProgram is the path of this program that stays right after an upgrade:
// as it was called, not where links lead, for those change with every version.
func findProgram(e *Env) (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", err
	}
	running, err := os.Stat(self)
	if err != nil {
		return "", fmt.Errorf("the running program is gone from %s", self)
	}
	called := []string{e.Program}
	if !strings.ContainsRune(e.Program, filepath.Separator) {
		called = nil
		for _, dir := range filepath.SplitList(e.getenv("PATH")) {
			if filepath.IsAbs(dir) {
				called = append(called, filepath.Join(dir, e.Program))
			}
		}
	}
	for _, path := range called {
		path, err := filepath.Abs(path)
		if fi, e := os.Stat(path); err == nil && e == nil && os.SameFile(fi, running) {
			return path, nil
		}
	}
	return self, nil
}

// sharedProgram refuses a program that the service must not run: one that
// somebody else can exchange.
func (m *machine) sharedProgram(path string, system bool) error {
	fi, err := os.Stat(m.at(path))
	if errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("the program is missing: %s", path)
	} else if err != nil {
		return err
	}
	uid := int(fi.Sys().(*syscall.Stat_t).Uid)
	switch {
	case !fi.Mode().IsRegular() || fi.Mode()&0o111 == 0:
		return fmt.Errorf("%s is not a program", path)
	case fi.Mode().Perm()&0o002 != 0, uid != 0 && (system || uid != m.uid):
		return &Error{Msg: fmt.Sprintf("%s can be changed by others (uid %d, mode %04o): a service must not run it", path, uid, fi.Mode().Perm()),
			Hint: "install it as root, for example with: sudo install -m 755 " + shellQuote(path) + " /usr/local/bin/openclaw"}
	}
	return nil
}
