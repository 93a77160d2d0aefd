package config

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
)

// What two instances may share.
const (
	SharedState     = "stateDir"
	SharedConfig    = "configPath"
	SharedPorts     = "ports"
	SharedWorkspace = "workspace"
)

// Instance is one gateway of this user as far as it can get into another's
// way. Its paths are absolute, with links resolved.
type Instance struct {
	Name       string // what sentences call it
	StateDir   string
	ConfigPath string
	Port       int      // base of its block; 0 = unknown
	Workspaces []string // of all agents
}

// Overlap is one thing that two instances share.
type Overlap struct {
	What string `json:"what"` // SharedState …
	Text string `json:"text"` // a sentence: what is shared, with whom, what to change
}

// Refused reports whether two that run at a time must not share this. The lock
// sees to the state directory.
func (o Overlap) Refused() bool { return o.What != SharedState }

// Overlaps lists what a shares with b, told from a's side. Of each of a's
// workspaces it tells the first thing found.
func Overlaps(a, b Instance) []Overlap {
	var out []Overlap
	add := func(what, format string, args ...any) { out = append(out, Overlap{what, fmt.Sprintf(format, args...)}) }
	if a.StateDir == b.StateDir {
		add(SharedState, "state directory %s is also that of %s: give each its own OPENCLAW_STATE_DIR or profile", a.StateDir, b.Name)
		return out // what follows from it needs no telling
	}
	if a.ConfigPath == b.ConfigPath {
		add(SharedConfig, "configuration file %s is also that of %s: give each its own OPENCLAW_CONFIG_PATH", a.ConfigPath, b.Name)
	}
	if BlocksMeet(a.Port, b.Port) {
		add(SharedPorts, "port block %d-%d meets the block %d-%d of %s: choose a gateway.port at least %d apart",
			a.Port, a.Port+PortBlock-1, b.Port, b.Port+PortBlock-1, b.Name, PortBlock)
	}
	const change = "give each its own agents.defaults.workspace"
	met := false
	for _, w := range a.Workspaces {
		if text := meeting(w, b); text != "" {
			add(SharedWorkspace, "workspace %s %s: %s", w, text, change)
			met = true
		}
	}
	if i := slices.IndexFunc(b.Workspaces, func(v string) bool { return within(a.StateDir, v) }); i >= 0 && !met {
		add(SharedWorkspace, "state directory %s lies in the workspace %s of %s: %s", a.StateDir, b.Workspaces[i], b.Name, change)
	}
	return out
}

// meeting tells how a workspace meets the places of b, "" when it does not.
func meeting(w string, b Instance) string {
	for _, v := range b.Workspaces {
		switch {
		case w == v:
			return "is also that of " + b.Name
		case within(w, v):
			return fmt.Sprintf("lies in the workspace %s of %s", v, b.Name)
		case within(v, w):
			return fmt.Sprintf("holds the workspace %s of %s", v, b.Name)
		}
	}
	if within(b.StateDir, w) {
		return fmt.Sprintf("holds the state directory %s of %s", b.StateDir, b.Name)
	}
	return ""
}

func within(path, dir string) bool {
	return strings.HasPrefix(path+"/", strings.TrimSuffix(dir, "/")+"/")
}

// BlocksMeet reports whether the port blocks of two bases, neither 0, overlap.
// No two blocks fit between each other's ports.
func BlocksMeet(a, b int) bool {
	return a != 0 && b != 0 && max(a, b)-min(a, b) < PortBlock
}

// Instance is what the instance of these paths occupies, without a name.
func (p Paths) Instance(c *Config, port int) Instance {
	i := Instance{StateDir: realPath(p.StateDir), ConfigPath: realPath(p.ConfigPath), Port: port}
	for _, a := range c.AgentList() {
		if w := realPath(p.WorkspaceOf(a)); !slices.Contains(i.Workspaces, w) {
			i.Workspaces = append(i.Workspaces, w)
		}
	}
	return i
}

// realPath resolves links as far as the path exists.
func realPath(path string) string {
	real, err := filepath.EvalSymlinks(path)
	if parent := filepath.Dir(path); err != nil && parent != path {
		return filepath.Join(realPath(parent), filepath.Base(path))
	} else if err != nil {
		return path
	}
	return real
}

// Neighbour is another gateway of this user, running or configured, and what
// it shares with ours.
type Neighbour struct {
	Profile    string    `json:"profile,omitempty"` // absent when the directory is not named after one
	StateDir   string    `json:"stateDir"`
	ConfigPath string    `json:"configPath"`
	Running    bool      `json:"running"`
	PID        int       `json:"pid,omitempty"`
	Port       int       `json:"port,omitempty"` // published by the running one, else configured
	Version    string    `json:"version,omitempty"`
	Shares     []Overlap `json:"shares"`
	Error      string    `json:"error,omitempty"` // why not all of this can be told
}

// String names the neighbour within a sentence.
func (n *Neighbour) String() string {
	name := n.StateDir
	if n.Profile != "" {
		name = "profile " + n.Profile
	}
	switch {
	case !n.Running:
		return name + ", which is configured but not running"
	case n.Port == 0:
		return fmt.Sprintf("the gateway of %s (pid %d)", name, n.PID) // starting
	}
	return fmt.Sprintf("the gateway of %s (pid %d, port %d)", name, n.PID, n.Port)
}

// Meet completes a neighbour of which the lock of its state directory told the
// rest, by its configuration, and finds what it shares with self, the instance
// of p. It reports false when this is no neighbour: self, or a directory without
// gateway. Of src, ReadFile and Env are used. The neighbour's secrets are not read.
func (p Paths) Meet(self Instance, n *Neighbour, src Source) bool {
	if named(n.StateDir) == named(p.StateDir) {
		return false
	}
	if name, ok := strings.CutPrefix(filepath.Base(n.StateDir), ".openclaw"); ok && name == "" {
		n.Profile = "default"
	} else if name = strings.TrimPrefix(name, "-"); ok && IsID(name) {
		n.Profile = name
	}
	n.Shares = []Overlap{}
	n.ConfigPath = firstOf(n.ConfigPath, filepath.Join(n.StateDir, "openclaw.json"))
	read := src.ReadFile
	src.Path = n.ConfigPath
	src.ReadFile = func(path string, limit int64, secret bool) ([]byte, error) {
		if secret || path != n.ConfigPath {
			return nil, fs.ErrPermission
		}
		return read(path, limit, false)
	}
	l, err := Load(src)
	var problems Problems
	errors.As(err, &problems)
	port := 0
	switch {
	case l != nil && l.Root != nil: // what it says wrong, such as a variable that only it has, is its own matter
		if !slices.ContainsFunc(problems, func(p Problem) bool { return p.Path == "gateway" || p.Path == "gateway.port" }) {
			port = l.Config.Gateway.Port
		}
	case errors.Is(err, fs.ErrNotExist):
		if !n.Running {
			return false
		}
	case problems != nil: // whose words may be out of the file
		n.Error = firstOf(n.Error, fmt.Sprintf("%s:%d:%d: not JSON5", n.ConfigPath, problems[0].Line, problems[0].Column))
	default:
		n.Error = firstOf(n.Error, err.Error())
	}
	if n.Port == 0 {
		n.Port = port
	}
	if l == nil {
		l = &Loaded{Config: Default()}
	}
	other := Paths{Home: p.Home, StateDir: n.StateDir, ConfigPath: n.ConfigPath, Workspace: filepath.Join(n.StateDir, "workspace")}.Instance(l.Config, n.Port)
	other.Name = n.String()
	n.Shares = append(n.Shares, Overlaps(self, other)...)
	return true
}

// named is a path whose last element alone may be a link: two profiles stay
// two when one's directory is a link to the other's.
func named(path string) string {
	return filepath.Join(realPath(filepath.Dir(path)), filepath.Base(path))
}
