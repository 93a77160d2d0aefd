// Package unit writes what a supervisor is told about the gateway, in each
// supervisor's own format, from one description.
//
// A Unit is the description; Render writes it for a Target and proves itself by
// reading the text back; Parse reads it. Every directive that is the same for
// everybody stands in one table, with its reason (directives.go). The package
// is pure: it touches no file and starts no process.
package unit

import (
	"errors"
	"fmt"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Target is a supervisor and the place a unit has in it.
type Target string

// The targets, in the order in which they are shown.
const (
	Launchd       Target = "launchd"
	SystemdUser   Target = "systemd-user"
	SystemdSystem Target = "systemd-system"
	OpenRC        Target = "openrc"
	RCD           Target = "rcd"
)

// Unit is the one description that every format is rendered from.
type Unit struct {
	Profile     string        // "" is the default profile
	Program     string        // path of openclaw
	Port        int           // --port; 0 leaves it to the configuration
	Ports       []int         // what the gateway may listen on; none: anything
	Home        string        // home directory of the user (user targets)
	ConfigHome  string        // "" is HOME/.config
	StateDir    string        // where the gateway writes
	ConfigPath  string        // its configuration; the directory is watched
	Workspaces  []string      // where agents work; those outside StateDir become writable too
	LogDir      string        // launchd: where stdout and stderr go
	User, Group string        // system targets: whom the gateway runs as
	Grace       time.Duration // how long a stop may take; the supervisor waits longer
	Env         []Var         // beside what the unit sets itself; never a secret
	Credentials []Credential  // systemd: files handed over by LoadCredential=
	Node        bool          // a Node child runs
	Chromium    bool          // a Chromium child runs
	LocalOnly   bool          // everything the gateway calls is on this host
}

// Var is an environment variable.
type Var struct{ Name, Value string }

// Credential is a secret's name and the file that it is in.
type Credential struct{ Name, Path string }

// Name is what systemd and OpenRC call the service.
func (u Unit) Name() string {
	if u.Profile == "" {
		return "openclaw-gateway"
	}
	return "openclaw-gateway-" + u.Profile
}

// Label is what launchd calls the job.
func (u Unit) Label() string {
	if u.Profile == "" {
		return "bot.molt.gateway"
	}
	return "bot.molt." + u.Profile
}

// Argv is the command line of the gateway.
func (u Unit) Argv() []string {
	argv := []string{u.Program}
	if u.Profile != "" {
		argv = append(argv, "--profile", u.Profile)
	}
	argv = append(argv, "gateway")
	if u.Port != 0 {
		argv = append(argv, "--port", strconv.Itoa(u.Port))
	}
	return argv
}

// File is where the supervisor looks for the unit.
func (t Target) File(u Unit) string {
	switch t {
	case Launchd:
		return filepath.Join(u.Home, "Library/LaunchAgents", u.Label()+".plist")
	case SystemdUser:
		dir := u.ConfigHome
		if dir == "" {
			dir = filepath.Join(u.Home, ".config")
		}
		return filepath.Join(dir, "systemd/user", u.Name()+".service")
	case SystemdSystem:
		return "/etc/systemd/system/" + u.Name() + ".service"
	case OpenRC:
		return "/etc/init.d/" + u.Name()
	case RCD:
		return "/usr/local/etc/rc.d/" + rcName(u)
	}
	return ""
}

// System reports whether the service runs for the whole host, as its own user.
func (t Target) System() bool { return t == SystemdSystem || t == OpenRC || t == RCD }

func (t Target) systemd() bool { return t == SystemdUser || t == SystemdSystem }

// Mode is the permission of the unit's file.
func (t Target) Mode() uint32 {
	switch t {
	case Launchd:
		return 0o600
	case OpenRC, RCD:
		return 0o755
	}
	return 0o644
}

// A Format is one row of the table of targets.
type Format struct {
	Target Target
	Doc    string
	place  place
	render func(place, Unit) string
	parse  func(place, string) (Unit, error)
}

// Formats is the table of targets.
func Formats() []Format {
	return []Format{
		{Launchd, "macOS: an agent of the user, started at login", launchd, renderPlist, parsePlist},
		{SystemdUser, "Linux: a unit of the user's systemd, started at login or, with lingering, at boot", user, renderSystemd, parseSystemd},
		{SystemdSystem, "Linux: a unit of the host's systemd, as an account of its own", system, renderSystemd, parseSystemd},
		{OpenRC, "Linux: a script for OpenRC, as an account of its own", openrc, renderShell, parseShell},
		{RCD, "FreeBSD: a script for rc.d, as an account of its own", rcd, renderShell, parseShell},
	}
}

func (t Target) format() (Format, error) {
	for _, f := range Formats() {
		if f.Target == t {
			return f, nil
		}
	}
	return Format{}, fmt.Errorf("%q is no kind of service", string(t))
}

// Render writes the unit for a target. What the format cannot carry exactly is
// an error that names the field and does not show its value. The text is read
// back before it is returned and says what u says, as far as the format says it.
func Render(t Target, u Unit) ([]byte, error) {
	f, err := t.format()
	if err != nil {
		return nil, err
	}
	if err := check(t, u); err != nil {
		return nil, err
	}
	text := mark(f.render(f.place, u))
	back, err := f.parse(f.place, text)
	if err != nil {
		return nil, fmt.Errorf("what was written for %s cannot be read back: %w", t, err)
	}
	if !reflect.DeepEqual(back, carried(t, u)) {
		return nil, fmt.Errorf("what was written for %s does not say what was asked for", t)
	}
	return []byte(text), nil
}

// Parse reads a unit that Render wrote, edited or not; fields that the format
// does not carry are zero.
func Parse(t Target, text []byte) (Unit, error) {
	f, err := t.format()
	if err != nil {
		return Unit{}, err
	}
	u, err := f.parse(f.place, string(text))
	if err != nil {
		return Unit{}, fmt.Errorf("read the unit: %w", err)
	}
	return u, nil
}

// carried is what is left of a unit in the format of a target.
func carried(t Target, u Unit) Unit {
	out := Unit{Profile: u.Profile, Program: u.Program, Port: u.Port, StateDir: u.StateDir, ConfigPath: u.ConfigPath}
	out.Env = append(out.Env, u.Env...)
	if t != RCD {
		out.Grace = ceilSecond(u.Grace)
	}
	if t == Launchd {
		out.LogDir = u.LogDir
	}
	if t.System() {
		out.User, out.Group = u.User, u.Group
	}
	if t.systemd() {
		_, out.Workspaces = writable(t, u)
		out.Credentials = append(out.Credentials, u.Credentials...)
		out.Chromium, out.Node = u.Chromium, u.Node && !u.Chromium
	}
	if t == SystemdSystem {
		out.Ports, out.LocalOnly = append(out.Ports, u.Ports...), u.LocalOnly
	}
	return out
}

// fromArgv takes profile, program and port from a command line, which must be
// the one that they make.
func (u *Unit) fromArgv(argv []string) error {
	if len(argv) == 0 {
		return errors.New("no command line")
	}
	u.Program = argv[0]
	for i, a := range argv[:len(argv)-1] {
		switch a {
		case "--profile":
			u.Profile = argv[i+1]
		case "--port":
			u.Port, _ = strconv.Atoi(argv[i+1])
		}
	}
	if !slices.Equal(argv, u.Argv()) {
		return errors.New("the command line is not that of a gateway service")
	}
	return nil
}

// fromVar takes one NAME=value of the environment.
func (u *Unit) fromVar(s string) {
	switch name, value, _ := strings.Cut(s, "="); name {
	case envProfile: // the command line has it
	case envState:
		u.StateDir = value
	case envConfig:
		u.ConfigPath = value
	default:
		u.Env = append(u.Env, Var{name, value})
	}
}
