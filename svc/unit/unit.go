// Package unit writes what a supervisor is told about the gateway, in each
// supervisor's own format, from one description.
//
// A Unit is the description; Render writes it for a Target and proves itself by
// reading the text back; Parse reads it. Every directive that is the same for
// everybody stands in one table, with its reason (directives.go). The package
// is pure: it touches no file and starts no process.
package unit

import (
	"path/filepath"
	"strconv"
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
	render func(Unit) (string, error)
	parse  func(string) (Unit, error)
}

// Formats is the table of targets.
func Formats() []Format { return nil }

// Render writes the unit for a target.
func Render(t Target, u Unit) ([]byte, error) { return nil, nil }

// Parse reads a unit that Render wrote, edited or not.
func Parse(t Target, text []byte) (Unit, error) { return Unit{}, nil }

// Origin tells where a file comes from, by its marker line.
type Origin struct {
	Ours   bool // Render wrote it
	Edited bool // and somebody changed it since
}

// OriginOf reads the marker line.
func OriginOf(text []byte) Origin { return Origin{} }

// Diff is a unified diff of two texts, "" when they are equal.
func Diff(oldName, newName string, old, new []byte) string { return "" }

// Legacy lists the names of services that other or older gateways install.
func Legacy(t Target) []string { return nil }

func rcName(u Unit) string { return "openclaw_gateway" }
