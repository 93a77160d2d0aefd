package config

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
)

// Paths says where the files of one profile are.
type Paths struct {
	Profile    string // "" without one
	Dev        bool   // profile dev
	System     bool   // of the gateway that runs for the whole host; see ResolveSystem
	Home       string
	StateDir   string
	ConfigPath string
	Workspace  string // the default for agents
}

// Resolve finds the files of a profile. The profile is the flag's value, else
// OPENCLAW_PROFILE; "default" is the same as none. Home is the user's home
// directory, "" when unknown.
//
//	           without profile             profile NAME          instead of both
//	state      ~/.openclaw                 ~/.openclaw-NAME      OPENCLAW_STATE_DIR
//	config     STATE/openclaw.json         the same              OPENCLAW_CONFIG_PATH
//	workspace  STATE/workspace             the same              agents.defaults.workspace
func Resolve(profile string, env func(string) (string, bool), home string) (Paths, error) {
	get := func(name string) string {
		if env == nil {
			return ""
		}
		value, _ := env(name)
		return strings.TrimSpace(value)
	}
	p := Paths{Profile: profile, Home: home}
	suffix, err := p.choose(get("OPENCLAW_PROFILE"))
	if err != nil {
		return Paths{}, err
	}
	if p.StateDir, err = p.fromEnv("OPENCLAW_STATE_DIR", get); err != nil {
		return Paths{}, err
	}
	if p.StateDir == "" {
		if home == "" {
			return Paths{}, errors.New("no home directory: set HOME or OPENCLAW_STATE_DIR")
		}
		if !filepath.IsAbs(home) {
			return Paths{}, errors.New("HOME is not an absolute path")
		}
		p.StateDir = filepath.Join(home, ".openclaw"+suffix)
	}
	if p.ConfigPath, err = p.fromEnv("OPENCLAW_CONFIG_PATH", get); err != nil {
		return Paths{}, err
	}
	if p.ConfigPath == "" {
		p.ConfigPath = filepath.Join(p.StateDir, "openclaw.json")
	}
	p.Workspace = filepath.Join(p.StateDir, "workspace")
	return p, nil
}

// ResolveSystem is Resolve for the gateway that a supervisor runs for the whole
// host, as a user of its own. No variable moves its files: whoever asks for
// them by this name means those of the service.
//
//	state        /var/lib/openclaw(-NAME), on FreeBSD /var/db/…; the user's home too
//	config       /etc/openclaw(-NAME)/openclaw.json, on FreeBSD /usr/local/etc/…
//	credentials  the directory credentials beside the configuration
func ResolveSystem(profile, fromEnv, goos string) (Paths, error) {
	p := Paths{Profile: profile, System: true}
	suffix, err := p.choose(fromEnv)
	if err != nil {
		return Paths{}, err
	}
	state, etc := "/var/lib/openclaw", "/etc/openclaw"
	if goos == "freebsd" {
		state, etc = "/var/db/openclaw", "/usr/local/etc/openclaw"
	}
	p.StateDir = state + suffix
	p.Home, p.ConfigPath, p.Workspace = p.StateDir, etc+suffix+"/openclaw.json", p.StateDir+"/workspace"
	return p, nil
}

// Credentials is where root keeps what credential:NAME means to a system gateway.
func (p Paths) Credentials() string { return filepath.Join(filepath.Dir(p.ConfigPath), "credentials") }

// choose settles the profile, which the environment may name where no flag
// does, and returns what its directories' names end with.
func (p *Paths) choose(fromEnv string) (suffix string, err error) {
	from := "--profile"
	if p.Profile == "" {
		p.Profile, from = fromEnv, "OPENCLAW_PROFILE"
	}
	if p.Profile == "default" {
		p.Profile = ""
	}
	if p.Profile == "" {
		return "", nil
	}
	if !IsID(p.Profile) {
		return "", fmt.Errorf("%s: a profile's name must be %s", from, idRule)
	}
	p.Dev = p.Profile == "dev"
	return "-" + p.Profile, nil
}

// fromEnv makes the path in a variable absolute; "" when it is not set.
func (p *Paths) fromEnv(name string, get func(string) string) (string, error) {
	path := get(name)
	if path == "" {
		return "", nil
	}
	if strings.HasPrefix(path, "~") {
		if path != "~" && !strings.HasPrefix(path, "~/") {
			return "", fmt.Errorf("%s: ~user is not supported, write the path out", name)
		}
		if p.Home == "" {
			return "", fmt.Errorf("%s begins with ~, but there is no home directory: set HOME", name)
		}
		path = expandHome(path, p.Home)
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		return "", fmt.Errorf("%s: %w", name, err)
	}
	return abs, nil
}

// Expand makes a path from the configuration absolute: ~ is the home
// directory, a relative path begins in the state directory.
func (p Paths) Expand(path string) string {
	if path = expandHome(path, p.Home); path == "" || filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(p.StateDir, path)
}

// WorkspaceOf is the directory that an agent works in.
func (p Paths) WorkspaceOf(a ResolvedAgent) string {
	return firstOf(p.Expand(a.Workspace), p.Workspace)
}
