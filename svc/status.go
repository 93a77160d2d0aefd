package svc

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"openclaw/gateway/store"
	"openclaw/reload/config"
	"openclaw/wire"
)

// probeTimeout is what gateway status waits for an answer: who asks whether
// something hangs does not want to.
const probeTimeout = 3 * time.Second

// gatewayReport is what gateway status prints with --json.
type gatewayReport struct {
	OK        bool               `json:"ok"`      // the probe got its answer and all is well, or none was asked for
	Version   string             `json:"version"` // of this program; the running one's is the process's
	Profile   string             `json:"profile"`
	StateDir  string             `json:"stateDir"`
	Service   serviceReport      `json:"service"`
	Process   processReport      `json:"process"`
	RPC       *rpcReport         `json:"rpc,omitempty"` // absent with --no-probe
	Config    configReport       `json:"config"`
	LastError *logLine           `json:"lastError,omitempty"` // since the last start, and not mended since
	Deep      *deepReport        `json:"deep,omitempty"`      // with --deep, from the gateway
	Others    []config.Neighbour `json:"others,omitzero"`     // with --deep, from files
	Error     *errorReport       `json:"error,omitempty"`     // why ok is false
}

// processReport comes from the lock on the state directory, which only a
// living process can hold.
type processReport struct {
	Running   bool   `json:"running"`
	PID       int    `json:"pid,omitempty"`
	Port      int    `json:"port,omitempty"`
	Version   string `json:"version,omitempty"`
	StartedAt int64  `json:"startedAt,omitempty"` // Unix milliseconds
	Error     string `json:"error,omitempty"`     // why this cannot be told
}

// rpcReport is the probe: connect, then status.
type rpcReport struct {
	OK     bool    `json:"ok"`
	URL    string  `json:"url"`
	Source string  `json:"source"` // who named the URL
	Ms     float64 `json:"ms,omitempty"`

	Health   string   `json:"health,omitempty"` // wire.HealthHealthy or wire.HealthDegraded
	Problems []string `json:"problems,omitempty"`
}

// configReport is the file on disk and, where the gateway was asked, what it has loaded.
type configReport struct {
	Path     string             `json:"path"`
	Exists   bool               `json:"exists"`
	Valid    bool               `json:"valid"`
	Problems []config.Problem   `json:"problems"`
	Warnings []config.Problem   `json:"warnings"`
	Loaded   *wire.StatusConfig `json:"loaded,omitempty"`

	SecretFrom string `json:"secretFrom,omitempty"` // where the secret comes from that the gateway wants, as far as it says or the file tells
	config     *config.Config
}

// deepReport is what the running gateway tells about itself.
type deepReport struct {
	Status   wire.Raw    `json:"status"`
	Health   wire.Raw    `json:"health"`
	Presence wire.Raw    `json:"presence"`
	Limits   wire.Policy `json:"limits"`
}

type errorReport struct {
	Code    string `json:"code"`
	Message string `json:"message"`
}

// gatewayStatus reports on the profile's gateway, whether it runs or not.
func gatewayStatus(ctx context.Context, e *Env, a *Args) error {
	p, err := e.Paths()
	if err != nil {
		return err
	}
	i, running, err := e.instance(p)
	r := &gatewayReport{OK: true, Version: e.Version, Profile: cmp.Or(p.Profile, "default"), StateDir: p.StateDir,
		Service: e.service(ctx, p),
		Process: processReport{Running: running, PID: i.PID, Port: i.Port, Version: i.Version, StartedAt: i.StartedAt},
		Config:  e.inspect(p.ConfigPath),
	}
	r.LastError = lastError(p, r.Config.config, i.StartedAt)
	if err != nil {
		r.Process.Error = err.Error()
	}
	if a.Has("deep") {
		r.Others = e.others(p, i.Port)
	}
	var status wire.Status
	if !a.Has("no-probe") {
		err = r.probe(ctx, e, a, &status)
		var se *Error
		if errors.As(err, &se) {
			r.OK, r.Error = false, &errorReport{se.Code, se.Msg}
			se.Body = r
		}
	} else {
		err = nil
	}
	switch {
	case !e.JSON:
		r.print(e, &status)
	case err == nil:
		return e.printJSON(r)
	}
	return err
}

// probe asks the gateway itself.
func (r *gatewayReport) probe(ctx context.Context, e *Env, a *Args, status *wire.Status) error {
	ep, err := discover(e, a)
	if err != nil {
		return err
	}
	r.RPC = &rpcReport{URL: ep.url, Source: ep.source}
	if !a.Has("timeout") {
		a.flags["timeout"] = probeTimeout.String()
	}
	start := e.Now()
	l, err := ep.dial(ctx, e, a, nil)
	if err != nil {
		return err
	}
	defer l.Close()
	r.RPC.URL = ep.url // where it is by now
	raw, err := l.ask(ctx, "status", nil, status)
	if err != nil {
		return err
	}
	r.RPC.OK, r.RPC.Ms = true, float64(e.Now().Sub(start).Microseconds())/1000
	if r.Config.Loaded = status.Config; status.Config != nil {
		r.Config.SecretFrom = cmp.Or(status.Config.SecretFrom, r.Config.SecretFrom)
	}
	if a.Has("deep") {
		if r.Deep, err = l.deep(ctx, raw); err != nil {
			return err
		}
	}
	r.RPC.Health = l.hello.Health
	r.RPC.Problems, err = l.unwell(ctx)
	return err
}

// deep asks for what is more than the status.
func (l *link) deep(ctx context.Context, status wire.Raw) (*deepReport, error) {
	d := &deepReport{Status: status, Limits: l.hello.Policy}
	var err error
	if d.Health, err = l.ask(ctx, "health", nil, nil); err == nil {
		d.Presence, err = l.ask(ctx, "system-presence", nil, nil)
	}
	return d, err
}

// unwell is the error, and the problems, of a gateway that said at hello that
// it is degraded.
func (l *link) unwell(ctx context.Context) ([]string, error) {
	if l.hello.Health != wire.HealthDegraded {
		return nil, nil
	}
	var h wire.Health
	if _, err := l.ask(ctx, "health", nil, &h); err != nil {
		return nil, err
	}
	return h.Problems, notWell(&h, nil)
}

// notWell is what a command says of a gateway that answers and is not well.
func notWell(h *wire.Health, body any) error {
	if h.OK && h.Status != wire.HealthDegraded {
		return nil
	}
	return &Error{Code: "UNHEALTHY", Msg: "the gateway is not well: " + strings.Join(h.Problems, "; "), Body: body}
}

func (r *gatewayReport) print(e *Env, status *wire.Status) {
	switch p := r.Process; {
	case p.Error != "":
		e.field("gateway", "unknown: "+p.Error)
	case !p.Running:
		e.field("gateway", "not running")
	case p.Port == 0:
		e.field("gateway", fmt.Sprintf("starting or in use by setup, pid %d", p.PID))
	default:
		e.field("gateway", fmt.Sprintf("running, pid %d, port %d, version %s, started %s", p.PID, p.Port, p.Version, e.ago(p.StartedAt)))
	}
	if v := r.Process.Version; v != "" && v != r.Version {
		e.field("", fmt.Sprintf("this program is version %s: %s", r.Version, e.Command("gateway restart")))
	}
	if r.RPC != nil && r.RPC.OK {
		e.verdict("probe", green, "ok", fmt.Sprintf(" in %.1f ms, %s", r.RPC.Ms, r.RPC.URL))
	} else if r.RPC != nil {
		e.verdict("probe", red, "failed", ", "+r.RPC.URL)
	}
	switch c := r.Config; {
	case !c.Exists:
		e.field("config", "missing: "+c.Path)
	case c.Valid && len(c.Warnings) == 0:
		e.field("config", "valid: "+c.Path)
	case c.Valid:
		e.field("config", fmt.Sprintf("valid, %s: %s", count(len(c.Warnings), "warning"), c.Path))
	default:
		e.verdict("config", red, "invalid", ": "+c.Path)
		for _, p := range c.Problems {
			e.field("", p.String())
		}
	}
	if l := r.Config.Loaded; l != nil && l.FileHash != "" && l.FileHash != l.LoadedHash {
		e.field("", "the file has changed since the gateway read it")
	}
	e.printConfigStatus("", r.Config.Loaded)
	e.field("secret", r.Config.SecretFrom)
	e.field("profile", r.Profile)
	e.field("state", r.StateDir)
	r.Service.print(e)
	if r.LastError != nil {
		e.field("last error", e.ago(r.LastError.Time.UnixMilli())+", "+r.LastError.String())
	}
	if r.Deep != nil {
		e.field("connections", fmt.Sprintf("%d, turns %d", status.Connections, status.Runs))
		e.printDeep(r.Deep)
	}
	if r.Others != nil {
		e.printOthers(r.Others)
	}
}

func (e *Env) printDeep(d *deepReport) {
	name := "clients"
	var presence []wire.Presence
	if wire.DecodeLoose(d.Presence, &presence) == nil {
		for _, who := range presence {
			e.field(name, strings.Join(strings.Fields(strings.Join([]string{who.Mode, who.Host, who.IP, who.Version, who.Platform, e.ago(who.Ts)}, " ")), " "))
			name = ""
		}
	}
	e.field("limits", fmt.Sprintf("%d bytes a message, %d queued, tick every %v", d.Limits.MaxPayload, d.Limits.MaxBufferedBytes,
		time.Duration(d.Limits.TickIntervalMs)*time.Millisecond))
	e.field("tools", strings.Join(d.Limits.Tools, ", ")+", sandbox "+d.Limits.Sandbox)
}

// printConfigStatus tells what the gateway does with its file.
func (e *Env) printConfigStatus(name string, c *wire.StatusConfig) {
	if c == nil {
		return
	}
	if c.LastError != "" {
		e.field(name, "rejected, the running configuration stays: "+c.LastError)
	}
	if len(c.Pending) > 0 {
		e.field(name, "waits for "+e.Command("gateway reload")+": "+someOf(c.Pending))
	}
	if len(c.Applied) > 0 {
		e.field(name, "applied "+e.ago(c.AppliedAt)+": "+someOf(c.Applied))
	}
}

// others are the other gateways of this user on this host, running or not,
// compared with the profile's, whose port is 0 when it does not run.
func (e *Env) others(p config.Paths, port int) []config.Neighbour {
	cfg := config.Default()
	if l, _ := e.Load(p.ConfigPath); l != nil {
		cfg = l.Config
		if port == 0 && !p.Dev { // which looks for a free block by itself
			port, _ = config.Port(0, e.Lookup, cfg)
		}
	}
	list := []config.Neighbour{}
	self := p.Instance(cfg, port)
	for _, s := range store.Neighbours(p.Home) {
		n := config.Neighbour{StateDir: s.Path, ConfigPath: s.ConfigPath, Running: s.Running, PID: s.PID, Port: s.Port, Version: s.Version}
		if s.Err != nil {
			n.Error = s.Err.Error()
		}
		if p.Meet(self, &n, config.Source{Env: e.Lookup, ReadFile: store.ReadConfigFile}) {
			list = append(list, n)
		}
	}
	return list
}

func (e *Env) printOthers(list []config.Neighbour) {
	if len(list) == 0 {
		e.field("others", "no other gateway of this user")
	}
	name := "others"
	for _, n := range list {
		what := n.StateDir
		if n.Profile != "" {
			what = "profile " + n.Profile
		}
		switch {
		case n.Running:
			what += fmt.Sprintf(": running, pid %d, port %d, version %s", n.PID, n.Port, n.Version)
		case n.Port != 0:
			what += fmt.Sprintf(": configured, not running, port %d", n.Port)
		default:
			what += ": configured, not running"
		}
		e.field(name, what)
		name = ""
		e.field(name, n.Error)
		for _, o := range n.Shares {
			e.verdict(name, red, "shared", ": "+o.Text)
		}
	}
}

// inspect reads a configuration for a report.
func (e *Env) inspect(path string) configReport {
	r := configReport{Path: path, Problems: []config.Problem{}, Warnings: []config.Problem{}}
	l, err := e.Load(path)
	var ps config.Problems
	switch {
	case l == nil && errors.Is(err, fs.ErrNotExist):
		return r
	case errors.As(err, &ps):
		r.Problems = ps
	case err != nil:
		r.Problems = append(r.Problems, config.Problem{File: path, Msg: err.Error()})
	}
	r.Exists, r.Valid = true, err == nil
	if l != nil {
		r.Warnings, r.SecretFrom, r.config = orEmpty(l.Warnings), l.SecretFrom(path), l.Config
	}
	return r
}

// status shows what the running gateway is doing.
func status(ctx context.Context, e *Env, a *Args) error {
	l, err := dial(ctx, e, a, nil)
	if err != nil {
		return err
	}
	defer l.Close()
	var s wire.Status
	raw, err := l.ask(ctx, "status", nil, &s)
	if err != nil {
		return err
	}
	var d *deepReport
	if a.Has("deep") {
		if d, err = l.deep(ctx, raw); err == nil {
			raw, err = joined(raw, map[string]any{"health": d.Health, "presence": d.Presence, "limits": d.Limits})
		}
		if err != nil {
			return err
		}
	}
	_, unwell := l.unwell(ctx)
	var se *Error
	switch {
	case e.JSON && errors.As(unwell, &se):
		se.Body = raw
		return se
	case e.JSON && unwell == nil:
		return e.printJSON(raw)
	}
	e.field("gateway", fmt.Sprintf("%s, %s, up %v", l.hello.Health, l.ep.url, (time.Duration(s.UptimeMs)*time.Millisecond).Round(time.Second)))
	version := s.RuntimeVersion
	if version != e.Version && l.ep.own {
		version += ", this program is " + e.Version
	}
	e.field("version", version)
	if l.ep.own {
		e.field("service", e.service(ctx, e.paths).Detail)
	}
	e.field("connections", fmt.Sprintf("%d, turns %d", s.Connections, s.Runs))
	e.field("model", s.Sessions.Defaults.Model)
	e.field("sessions", fmt.Sprint(s.Sessions.Count))
	for _, r := range s.Sessions.Recent {
		e.field("", fmt.Sprintf("%s, %s, %d tokens", r.Key, e.ago(r.UpdatedAt), r.TotalTokens))
	}
	if s.Config != nil {
		e.printConfigStatus("config", s.Config)
		e.field("secret", s.Config.SecretFrom)
	}
	if d != nil {
		e.printDeep(d)
	}
	return unwell
}

// joined is a JSON object with more members.
func joined(raw wire.Raw, more map[string]any) (wire.Raw, error) {
	var members map[string]wire.Raw
	if err := wire.DecodeLoose(raw, &members); err != nil {
		return nil, err
	}
	for name, v := range more {
		text, err := wire.Marshal(v)
		if err != nil {
			return nil, err
		}
		members[name] = text
	}
	return wire.Marshal(members)
}

// health asks whether all is well. The exit code is the answer.
func health(ctx context.Context, e *Env, a *Args) error {
	l, err := dial(ctx, e, a, nil)
	if err != nil {
		return err
	}
	defer l.Close()
	var h wire.Health
	raw, err := l.ask(ctx, "health", &wire.HealthQuery{Probe: a.Has("probe")}, &h)
	if err == nil {
		err = notWell(&h, raw)
	}
	switch {
	case err != nil:
		return err
	case e.JSON:
		return e.printJSON(raw)
	}
	return e.printf("OK (%dms)\n", h.DurationMs)
}

// ports prints the block of ports of a base port.
func ports(_ context.Context, e *Env, a *Args) error {
	base, err := a.Port()
	if err != nil {
		return err
	}
	p, err := e.Paths()
	if err != nil {
		return err
	}
	if i, running, _ := e.instance(p); base == 0 && running {
		base = i.Port
	}
	if base, err = config.Port(base, e.Lookup, e.config(p)); err != nil {
		return usage("%v", err)
	}
	block, err := config.Block(base)
	if err != nil {
		return usage("%v", err)
	}
	type row struct {
		Name  string `json:"name"`
		First int    `json:"first"`
		Last  int    `json:"last"`
		Bind  string `json:"bind"`
		Doc   string `json:"doc"`
	}
	var list []row
	var rows [][]string
	for _, r := range block {
		list = append(list, row{r.Name, r.First, r.Last, r.Bind, r.Doc})
		span := fmt.Sprint(r.First)
		if r.Last != r.First {
			span += fmt.Sprintf("-%d", r.Last)
		}
		rows = append(rows, []string{span, r.Name, r.Bind, r.Doc})
	}
	if e.JSON {
		return e.printJSON(map[string]any{"base": base, "ports": list})
	}
	return e.table([]string{"PORT", "NAME", "BIND", "WHAT"}, rows)
}

// field writes one line of a report; without a name it continues the one above.
func (e *Env) field(name, value string) {
	if value != "" {
		e.printf("%-12s %s\n", name, oneLine(value))
	}
}

// verdict is field for a value that begins with a word in colour.
func (e *Env) verdict(name, sgr, word, rest string) {
	e.printf("%-12s %s%s\n", name, e.paint(e.OutTTY, sgr, word), oneLine(rest))
}

// ago says how long since a time in Unix milliseconds.
func (e *Env) ago(ms int64) string {
	switch d := e.Now().Sub(time.UnixMilli(ms)); {
	case ms <= 0:
		return "never"
	case d < 2*time.Second:
		return "just now"
	case d < 2*time.Minute:
		return fmt.Sprintf("%d s ago", int(d.Seconds()))
	case d < 2*time.Hour:
		return fmt.Sprintf("%d min ago", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h ago", int(d.Hours()))
	default:
		return fmt.Sprintf("%d days ago", int(d.Hours()/24))
	}
}
