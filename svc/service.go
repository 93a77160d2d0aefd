package svc

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"openclaw/gateway/store"
	"openclaw/reload/config"
	"openclaw/svc/unit"
)

// serviceReport is what the supervisor knows of the gateway.
type serviceReport struct {
	Managed    bool     `json:"managed"`              // a supervisor has a unit of this profile
	Supervisor string   `json:"supervisor,omitempty"` // "systemd (user)", "systemd", "launchd", …; "" = this host has none that we know
	Name       string   `json:"name,omitempty"`       // what the supervisor calls it
	File       string   `json:"file,omitempty"`       // the unit file
	State      string   `json:"state,omitempty"`      // the supervisor's own word: "active", "failed", "not loaded", …
	PID        int      `json:"pid,omitempty"`
	Enabled    bool     `json:"enabled"`          // it starts at boot or login
	Linger     *bool    `json:"linger,omitempty"` // systemd (user): also at boot, and beyond the last logout
	Drift      []string `json:"drift,omitempty"`  // how the file differs from what install would write now
	Legacy     []string `json:"legacy,omitempty"` // files of other gateways' units and of older names
	Detail     string   `json:"detail"`           // one sentence for a person
}

// reportTime bounds what a report may wait for the supervisor.
const reportTime = 3 * time.Second

// service asks the supervisor about the profile's gateway. It never fails and
// takes a bounded time: what cannot be told is said in Detail.
func (e *Env) service(ctx context.Context, p config.Paths) serviceReport {
	m := e.machine()
	t := m.target(p.System)
	if t == "" {
		return serviceReport{Detail: "started by hand: this host has neither systemd nor launchd"}
	}
	u := e.describe(t, p, 0, e.config(p))
	r := serviceReport{Supervisor: supervisorNames[t], Name: serviceName(t, u), Legacy: e.legacy(t, u)}
	file := e.unitFile(t, u)
	text, err := store.ReadUnitFile(file)
	packaged := e.packaged(t, u)
	switch {
	case err != nil:
		r.File, r.Managed, r.Drift = file, true, []string{err.Error()}
	case text != nil:
		r.File, r.Managed, r.Drift = file, true, e.drift(t, p, text)
	case packaged != "":
		r.File, r.Managed = packaged, true
	default:
		r.Detail = "started by hand: no unit is installed for this profile; " + e.Command("gateway install") + " makes one"
		if t == unit.SystemdUser && m.exists(unit.SystemdSystem.File(u)) {
			r.Detail = "no unit of this user; the system has one: " + e.systemCommand("gateway status")
		}
		return r
	}
	sup := e.supervisor(t, u)
	if sup == nil {
		r.Detail = fmt.Sprintf("%s has a script for it, %s", r.Supervisor, r.File)
		return r
	}
	ctx, cancel := context.WithTimeout(ctx, reportTime)
	defer cancel()
	st, err := sup.look(ctx)
	if err != nil {
		r.State, r.Detail = "unknown", r.Supervisor+" cannot be asked: "+err.Error()
		return r
	}
	r.State, r.PID, r.Enabled = st.word, st.pid, st.enabled
	r.Detail = r.Supervisor + ": " + st.word
	if st.pid != 0 {
		r.Detail += fmt.Sprintf(", pid %d", st.pid)
	}
	if st.why != "" {
		r.Detail += " (" + st.why + ")"
	}
	if t == unit.SystemdUser {
		lingers := m.lingers()
		r.Linger = &lingers
	}
	switch {
	case !st.enabled:
		r.Detail += ", not started at boot"
	case t == unit.Launchd:
		r.Detail += ", started at login"
	case r.Linger != nil && !*r.Linger:
		r.Detail += ", started at login and ended with the last logout; at boot after: " + m.lingerCommand()
	default:
		r.Detail += ", started at boot"
	}
	return r
}

// print adds the report to a page of gateway status.
func (r *serviceReport) print(e *Env) {
	e.field("service", r.Detail)
	for _, d := range r.Drift {
		e.verdict("", red, "drift", ": "+d)
	}
	for _, l := range r.Legacy {
		e.field("", "there is also "+l)
	}
}

// serviceName is what the supervisor calls the gateway.
func serviceName(t unit.Target, u unit.Unit) string {
	switch t {
	case unit.Launchd:
		return u.Label()
	case unit.SystemdUser, unit.SystemdSystem:
		return u.Name() + ".service"
	}
	return filepath.Base(t.File(u))
}

// unitFile is where the unit is on this host.
func (e *Env) unitFile(t unit.Target, u unit.Unit) string {
	if t.System() {
		return e.machine().at(t.File(u))
	}
	return t.File(u)
}

// packaged is the unit that a package of the distribution brought, "" without one.
func (e *Env) packaged(t unit.Target, u unit.Unit) string {
	dir := map[unit.Target]string{unit.SystemdUser: "/usr/lib/systemd/user/", unit.SystemdSystem: "/usr/lib/systemd/system/"}[t]
	if dir == "" || !e.machine().exists(dir+u.Name()+".service") {
		return ""
	}
	return e.machine().at(dir + u.Name() + ".service")
}

// serviceUser is whom a system gateway runs as.
const serviceUser = "openclaw"

// describe says what the profile's unit is on this host. Without a program
// Program is "".
func (e *Env) describe(t unit.Target, p config.Paths, port int, c *config.Config) unit.Unit {
	if c == nil {
		c = config.Default()
	}
	m := e.machine()
	u := unit.Unit{
		Profile: p.Profile, Port: port, Home: p.Home, StateDir: p.StateDir, ConfigPath: p.ConfigPath,
		Grace: c.Gateway.Shutdown.GracePeriodMs.Duration(),
	}
	u.Program, _ = m.program(e)
	if t.System() {
		u.StateDir, u.ConfigPath = m.bare(p.StateDir), m.bare(p.ConfigPath)
		u.Home, u.User, u.Group = u.StateDir, serviceUser, serviceUser
	} else {
		if dir := e.getenv("XDG_CONFIG_HOME"); filepath.IsAbs(dir) {
			u.ConfigHome = filepath.Clean(dir)
		}
		u.LogDir = filepath.Join(u.StateDir, "logs")
	}
	u.Node = slices.ContainsFunc(c.ChannelAccounts(), func(a config.ChannelAccount) bool { return a.Kind == "whatsapp" })
	base := port
	if base == 0 {
		base = c.Gateway.Port
	}
	block, _ := config.Block(base)
	for _, r := range block {
		if r.Count == 1 { // CDP is a pipe until somebody attaches
			u.Ports = append(u.Ports, r.First)
		}
	}
	for _, a := range c.AgentList() {
		w := filepath.Clean(p.WorkspaceOf(a))
		if t.System() {
			w = m.bare(w)
		}
		if !slices.Contains(u.Workspaces, w) {
			u.Workspaces = append(u.Workspaces, w)
		}
	}
	return u
}

// drift tells how an installed unit differs from what install would write now
// with the same --port and --local-only.
func (e *Env) drift(t unit.Target, p config.Paths, text []byte) []string {
	origin := unit.OriginOf(text)
	if !origin.Ours {
		return []string{"it was not written by openclaw"}
	}
	var out []string
	if origin.Edited {
		out = append(out, "it was edited by hand; a drop-in would survive the next install")
	}
	was, err := unit.Parse(t, text)
	if err != nil {
		return append(out, err.Error())
	}
	m := e.machine()
	if err := m.sharedProgram(was.Program, t.System()); err != nil {
		out = append(out, err.Error())
	}
	l, err := e.Load(p.ConfigPath)
	if err != nil {
		return out // the configuration has its own finding
	}
	now := e.describe(t, p, was.Port, l.Config)
	now.LocalOnly = was.LocalOnly
	if t.System() {
		now.Credentials = credentials(l.Root, m.bare(p.Credentials()))
	}
	if now.Program != was.Program {
		out = append(out, fmt.Sprintf("it starts %s, and this is %s", was.Program, now.Program))
	}
	want, err := unit.Render(t, now)
	if err != nil {
		return append(out, "install would refuse now: "+err.Error())
	}
	if len(out) == 0 && string(want) != string(text) {
		out = append(out, "it is older than the configuration or this version: "+e.Command("gateway install")+" renews it")
	}
	return out
}

// credentials lists what the configuration names as credential:NAME.
func credentials(n *config.Node, dir string) []unit.Credential {
	var out []unit.Credential
	for _, s := range stringsOf(n) {
		if name, ok := strings.CutPrefix(s, "credential:"); ok && !slices.ContainsFunc(out, func(c unit.Credential) bool { return c.Name == name }) {
			out = append(out, unit.Credential{Name: name, Path: dir + "/" + name})
		}
	}
	return out
}

// stringsOf lists every string of a configuration.
func stringsOf(n *config.Node) []string {
	if n == nil {
		return nil
	}
	var out []string
	if n.Kind == config.String {
		out = append(out, n.Str)
	}
	for _, m := range n.Members {
		out = append(out, stringsOf(m.Value)...)
	}
	for _, item := range n.Items {
		out = append(out, stringsOf(item)...)
	}
	return out
}

// legacy lists the files of units that other or older gateways left behind.
// They may fight ours for the port and the chat networks.
func (e *Env) legacy(t unit.Target, u unit.Unit) []string {
	var out []string
	dir, suffix := filepath.Dir(e.unitFile(t, u)), ""
	if t == unit.Launchd {
		suffix = ".plist"
	}
	for _, name := range unit.Legacy(t) {
		if file := filepath.Join(dir, name+suffix); e.machine().exists(file) {
			out = append(out, file)
		}
	}
	return out
}

// removal is the command that removes such a unit.
func (e *Env) removal(t unit.Target, file string) string {
	name := shellQuote(strings.TrimSuffix(filepath.Base(file), ".plist"))
	switch t {
	case unit.SystemdUser:
		return fmt.Sprintf("systemctl --user disable --now %s; rm %s; systemctl --user daemon-reload", name, shellQuote(file))
	case unit.SystemdSystem:
		return fmt.Sprintf("sudo systemctl disable --now %s; sudo rm %s; sudo systemctl daemon-reload", name, shellQuote(file))
	case unit.Launchd:
		return fmt.Sprintf("launchctl bootout gui/%d/%s; rm %s", e.machine().uid, name, shellQuote(file))
	}
	return "sudo rm " + shellQuote(file)
}

// asError gives an error of a supervisor its place to look further.
func asError(err error, hint string) error {
	var se *Error
	if errors.As(err, &se) {
		return se
	}
	return &Error{Code: "SUPERVISOR", Msg: err.Error(), Hint: hint}
}
