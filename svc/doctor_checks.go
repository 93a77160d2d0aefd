package svc

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"openclaw/gateway/proc"
	"openclaw/gateway/store"
	"openclaw/gateway/tool/sandbox"
	"openclaw/reload/config"
	"openclaw/wire"
)

// What is little.
const (
	diskFloor   = 64 << 20  // bytes below which the gateway calls itself degraded
	diskLow     = 512 << 20 // bytes that are worth a warning
	inodesLow   = 1000
	spareFiles  = 128 // descriptors besides those of connections
	memoryLow   = 64 << 20
	backupAge   = 7 * 24 * time.Hour
	noticedSoon = 15 * time.Second // until a change has been noticed, by the slow stat at the latest
	skew        = time.Minute
)

func (d *patient) service(r *result) {
	i := d.instance()
	switch {
	case i.err != nil:
		r.info("cannot be told: %v", i.err) // see permissions
	case d.unset():
		r.fail(d.start(), "nothing is set up here: there is no %s", d.p.ConfigPath)
	case !i.running:
		r.fail(d.start(), "no gateway runs on %s", d.p.StateDir)
	case i.Port == 0:
		r.warn("", "pid %d holds %s and serves nothing yet: a gateway that starts, or setup", i.PID, d.p.StateDir)
	default:
		if f, err := d.facts(); err == nil && f.Stopped {
			r.fail(fmt.Sprintf("kill -CONT %d", i.PID), "the gateway with pid %d is stopped by a signal and does nothing", i.PID)
		}
		r.fact("pid %d, port %d, version %s, started %s", i.PID, i.Port, i.Version, d.ago(i.StartedAt))
		if v, _ := d.answer(); v != nil && len(v.health.Problems) > 0 {
			r.info("the gateway says: %s", strings.Join(v.health.Problems, "; "))
		}
	}
}

func (d *patient) ports(r *result) {
	base, i := d.port(), d.instance()
	hs, err := proc.Holders(base, base+config.PortBlock-1)
	if err != nil {
		r.info("who holds a port cannot be told: %v", err)
	}
	theirs := map[int]bool{} // pids of our user's other gateways
	for _, n := range d.meets() {
		theirs[n.PID] = n.PID != 0
		for _, o := range n.Shares {
			if o.What == config.SharedPorts {
				f := r.warn(d.Command("config set gateway.port "+strconv.Itoa(n.Port+config.DevPortStep)), "%s", o.Text)
				if n.Running && !i.running {
					f.Severity = sevError
				}
			}
		}
	}
	type who struct {
		pid, uid int
		name     string
	}
	taken := map[who][]string{}
	var order []proc.Holder // one for each
	for _, h := range hs {
		ours := i.running && h.PID == i.PID || (i.running && h.PID == 0 || i.err != nil) && h.UID == os.Geteuid() && h.Port == base
		if key := (who{h.PID, h.UID, h.Name}); !ours && !theirs[h.PID] {
			if taken[key] == nil {
				order = append(order, h)
			}
			taken[key] = append(taken[key], strconv.Itoa(h.Port))
		}
	}
	for _, h := range order {
		ports := taken[who{h.PID, h.UID, h.Name}]
		f := r.warn(fmt.Sprintf("lsof -nP -iTCP:%d -sTCP:LISTEN", h.Port), "port %s of this gateway's block is held by %s", someOf(ports), h)
		if h.Port == base {
			f.Severity = sevError
			if h.UID == os.Geteuid() && !i.running {
				f.Repair = d.Command("gateway --force")
			}
		}
	}
	r.fact("ports %d-%d", base, base+config.PortBlock-1)
}

func (d *patient) auth(r *result) {
	d.problems(r, true)
	l, err := d.loaded()
	if l == nil {
		if own := d.ownToken(); own != "" {
			r.fact("a token of the gateway's own, in %s", own)
		} else if errors.Is(err, fs.ErrNotExist) {
			r.info("no secret yet: nothing is configured")
		} else {
			r.info("cannot be told: %v", err) // see permissions and config
		}
		return
	}
	a := l.Config.Gateway.Auth
	if l.Root != nil && a.Missing() && len(r.list) == 0 && d.ownToken() == "" {
		r.fail("openssl rand -hex 32 | "+d.Command("config set gateway.auth.token -"), "the configuration has no secret, and %s is not set", a.SecretVar())
	}
	secrets := []config.Secret{a.Token, a.Password}
	for _, p := range l.Config.Models.Providers {
		secrets = slices.AppendSeq(append(secrets, p.APIKey), maps.Values(p.Headers))
	}
	written := slices.ContainsFunc(secrets, func(s config.Secret) bool {
		return !s.IsZero() && bytes.Contains(l.Raw, []byte(s.Reveal()))
	})
	if fi, err := os.Stat(d.p.ConfigPath); err == nil && written && fi.Mode()&0o044 != 0 {
		f := r.warn("chmod 600 "+shellQuote(d.p.ConfigPath), "%s holds secrets, and others may read it (mode %04o)", d.p.ConfigPath, fi.Mode().Perm())
		f.mend = tighten(d.p.ConfigPath)
	}
	from := l.SecretFrom(d.p.ConfigPath)
	if v, _ := d.answer(); v != nil && v.Config != nil {
		from = cmp.Or(v.Config.SecretFrom, from)
	}
	r.fact("%s from %s", a.Mode, cmp.Or(from, d.ownToken()))
}

func (d *patient) supervisor(r *result) { superviseFindings(d.Env, d.unit(), r) }

// superviseFindings judges a report on the service.
func superviseFindings(e *Env, s serviceReport, r *result) {
	if s.Managed && !s.Enabled {
		r.warn(e.Command("gateway install --force"), "%s does not start at boot or login", cmp.Or(s.Name, "the unit"))
	}
	if s.Managed && s.State == "failed" {
		r.warn(e.Command("gateway restart"), "%s has failed: %s", s.Name, s.Detail)
	}
	for _, line := range s.Drift {
		r.warn(e.Command("gateway install --force"), "%s is not what install would write: %s", cmp.Or(s.File, "the unit"), line)
	}
	for _, old := range s.Legacy {
		r.warn(e.Command("gateway install --force"), "an older unit could start a second gateway: %s", old)
	}
	if !s.Managed && len(r.list) == 0 {
		r.info("%s", s.Detail)
	}
	r.fact("%s", s.Detail)
}

func (d *patient) logs(r *result) {
	cfg, i := d.cfg(), d.instance()
	path := logPath(d.p, cfg)
	dir := filepath.Dir(path)
	fi, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) && cfg.Logging.File != "" {
			d.make(dir, r.fail(d.toMake(dir), "the log's directory is missing: %s", dir))
			return
		}
		if i.running && d.Now().Sub(time.UnixMilli(i.StartedAt)) > noticedSoon {
			r.warn(d.Command("gateway restart"), "there is no log at %s, though the gateway runs", path)
		} else {
			r.info("no log yet: %s", path)
		}
		return
	case err != nil:
		r.fail("ls -ld "+shellQuote(dir), "the log cannot be read: %v", err)
		return
	case i.running && fi.ModTime().UnixMilli() < i.StartedAt-1000:
		r.warn("ls -l "+shellQuote(path), "nothing has been written to %s since the gateway started", path)
	}
	if err := store.CheckLogFile(path); err != nil && !d.p.System { // of a service's user, root could not tell
		r.fail("ls -ld "+shellQuote(dir)+" "+shellQuote(path), "the log cannot be written: %v", err)
		return
	}
	if v, _ := d.answer(); v != nil && slices.Contains(v.health.Problems, wire.ProblemLog) {
		r.fail(d.Command("gateway status"), "the gateway drops log lines: %s cannot take them", path)
	}
	if rot := cfg.Logging.Rotation; rot.Enabled {
		if l, err := store.ReadLogFile(path); err == nil {
			defer l.Close()
			if names := l.Excess(int64(rot.MaxSize), rot.MaxFiles); len(names) > 0 {
				f := r.warn(d.Command("doctor --fix --only logs"), "%s more than logging.rotation has room for: %s", count(len(names), "rotated file"), someOf(names))
				f.mend = func() (string, error) {
					return "removed " + someOf(names), store.PruneLogFile(path, int64(rot.MaxSize), rot.MaxFiles)
				}
			}
		}
	} else {
		r.info("logging.rotation is off: nothing bounds %s", path)
	}
	if l := lastError(d.p, cfg, i.StartedAt); l != nil {
		r.info("the last error, %s: %s", d.ago(l.Time.UnixMilli()), l)
	}
	r.fact("%s, last written %s", path, d.ago(fi.ModTime().UnixMilli()))
}

func (d *patient) hotReload(r *result) {
	v, err := d.answer()
	if err != nil || v.Config == nil {
		r.info("not told: %v", cmp.Or(err, errNotAsked))
		return
	}
	c := v.Config
	_, bad := d.loaded() // then config tells
	fi, _ := os.Stat(c.Path)
	settled := fi != nil && d.Now().Sub(fi.ModTime()) > noticedSoon
	now := d.Command("gateway reload")
	switch {
	case c.Watch == "" && v.UptimeMs > noticedSoon.Milliseconds():
		r.fail(d.Command("gateway restart"), "nothing follows %s", c.Path)
	case c.Watch == "stat" && runtime.GOOS == "linux":
		r.warn(d.Command("logs --filter reload"), "the kernel does not report changes of %s: it is looked at every few seconds", c.Path)
	}
	switch {
	case bad != nil:
		if c.LoadedHash != "" && c.LastError != "" {
			r.info("the gateway stays as it was while the file is not valid")
		}
	case c.LastError != "" && c.FileHash != c.LoadedHash:
		r.fail(now, "the last change was refused, the gateway runs on the one before: %s", c.LastError)
	case len(c.Pending) == 0:
	case c.Mode == "hybrid" && !settled:
		r.info("a change is being applied: %s", someOf(c.Pending))
	default:
		format := "the file is newer than what is in effect, and waits (gateway.hotReload.mode is %s): %s"
		severity := sevWarn
		if c.Mode == "hybrid" {
			format, severity = "the file is newer than what is in effect, and was not noticed (mode %s): %s", sevError
		}
		r.add(severity, now, format, c.Mode, someOf(c.Pending)).mend = d.reload
	}
	r.fact("mode %s, by %s", c.Mode, c.Watch)
	if c.Mode == "off" && len(r.list) == 0 {
		r.info("gateway.hotReload.mode is off: changes wait for %s", now)
	}
}

// reload has the gateway read its file.
func (d *patient) reload() (string, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(d.ctx), mendTime) // the examination is over
	defer cancel()
	l, err := d.dial(ctx)
	if err != nil {
		return "", err
	}
	defer l.Close()
	done, _, err := l.reload(ctx, wire.ReloadQuery{})
	if err != nil {
		return "", err
	}
	return "reloaded: " + someOf(slices.Concat(done.Applied, done.Pending)), nil
}

func (d *patient) network(r *result) {
	switch v, err := d.answer(); {
	case errors.Is(err, errNotAsked):
	case err != nil:
		r.fail(d.Command("logs --last 50"), "%v", err)
	default:
		r.fact("answered in %.1f ms", float64(v.took.Microseconds())/1000)
	}
	addrs, err := net.InterfaceAddrs()
	up := slices.ContainsFunc(addrs, func(a net.Addr) bool {
		n, ok := a.(*net.IPNet)
		return ok && n.IP.IsLoopback()
	})
	if err == nil && !up {
		r.fail("sudo ip link set lo up", "the loopback interface has no address")
	}
	type reach struct {
		name, addr string
		err        error
	}
	told := make(chan reach)
	asked := 0
	for name, p := range d.cfg().Models.Providers {
		u, err := url.Parse(p.BaseURL)
		if err != nil || u.Hostname() == "" || !d.deep && !loopback(u.Hostname()) {
			continue // nothing goes out unasked
		}
		asked++
		addr := net.JoinHostPort(u.Hostname(), cmp.Or(u.Port(), map[bool]string{true: "443", false: "80"}[u.Scheme == "https"]))
		go func() {
			ctx, cancel := context.WithTimeout(d.ctx, answerTime)
			defer cancel()
			err := wire.Reach(ctx, addr)
			select {
			case told <- reach{name, addr, err}:
			case <-d.ctx.Done():
			}
		}()
	}
	for range asked {
		select {
		case p := <-told:
			if p.err != nil {
				r.warn(d.Command("doctor --deep --only network"), "model provider %s cannot be reached at %s: %v", p.name, p.addr, cause(p.err))
			}
		case <-d.ctx.Done():
			return
		}
	}
	slices.SortFunc(r.list, func(a, b *finding) int { return strings.Compare(a.Message, b.Message) })
	if asked > 0 {
		r.fact("%s can be reached", count(asked, "provider"))
	}
}

func (d *patient) disk(r *result) {
	var seen []store.Space
	for _, path := range append([]string{d.p.StateDir, filepath.Dir(logPath(d.p, d.cfg()))}, d.workspaces()...) {
		s, err := store.SpaceAt(path)
		if err != nil {
			r.warn("ls -ld "+shellQuote(path), "the room at %s cannot be told: %v", path, err)
		} else if !slices.Contains(seen, s) { // else it is the same file system
			seen = append(seen, s)
			spaceFindings(path, s, r)
		}
	}
}

// spaceFindings judges the room at a path.
func spaceFindings(path string, s store.Space, r *result) {
	repair := "df -h " + shellQuote(path)
	switch {
	case s.Bytes < diskFloor:
		r.fail(repair, "only %d MiB are left at %s", s.Bytes>>20, path)
	case s.Bytes < diskLow:
		r.warn(repair, "only %d MiB are left at %s", s.Bytes>>20, path)
	}
	if s.Files >= 0 && s.Files < inodesLow {
		r.fail("df -i "+shellQuote(path), "only %s can still be made at %s", count(int(s.Files), "file"), path)
	}
	r.fact("%.1f GiB free at %s", float64(s.Bytes)/(1<<30), path)
}

func (d *patient) limits(r *result) {
	if !d.instance().running {
		r.info("told of a gateway that runs")
		return
	}
	f, err := d.facts()
	if err != nil {
		r.info("cannot be told here: %v", err)
		return
	}
	l := d.cfg().Gateway.Limits
	if need := int64(l.MaxConnections + l.MaxPending + spareFiles); f.OpenFiles < need {
		r.warn("ulimit -n 4096 && "+d.Command("gateway"), "the gateway may open %d files, and gateway.limits allows connections that take %d (LimitNOFILE= in a unit)", f.OpenFiles, need)
	}
	for _, b := range []struct {
		what  string
		least int64
		is    int64
	}{{"use %d MiB of memory (memory.max of its control group)", memoryLow, f.Memory}, {"use %d MiB of addresses (ulimit -v)", 16 * memoryLow, f.AddressSpace}} {
		if b.is < b.least {
			r.warn(d.Command("gateway status"), "the gateway may only "+b.what, b.is>>20)
		}
	}
	if f.Processes < 64 && os.Geteuid() != 0 {
		r.warn("ulimit -u", "this user may only have %d processes and threads", f.Processes)
	}
	r.fact("open files %d", f.OpenFiles)
}

// backupRecord is what backup create leaves in STATE/backup.json.
type backupRecord struct {
	File  string `json:"file"`
	At    int64  `json:"at"` // Unix milliseconds
	Bytes int64  `json:"bytes"`
	Files int    `json:"files"`
}

func (d *patient) backup(r *result) {
	if d.unset() {
		r.info("nothing to back up yet")
		return
	}
	var b backupRecord
	dir, err := openState(d.p)
	if err == nil {
		defer dir.Close()
		var raw []byte
		if raw, err = dir.ReadFile("backup.json", 64<<10); err == nil {
			err = wire.DecodeLoose(raw, &b)
		}
	}
	create := d.Command("backup create")
	switch {
	case errors.Is(err, fs.ErrNotExist):
		r.warn(create, "no backup has been made of %s", d.p.StateDir)
	case err != nil:
		r.info("cannot be told: %v", err)
	case d.Now().Sub(time.UnixMilli(b.At)) > backupAge:
		r.warn(create, "the last backup was made %s", d.ago(b.At))
	default:
		if _, err := os.Stat(b.File); err != nil {
			r.warn(create, "the last backup is gone: %s", b.File)
		}
		r.fact("%s, %s", b.File, d.ago(b.At))
	}
}

func (d *patient) permissions(r *result) {
	s, err := d.survey()
	if err != nil {
		r.fail("ls -ld "+shellQuote(d.p.StateDir), "the state directory cannot be read: %v", err)
		return
	}
	if len(s.Loose) > 0 {
		f := r.warn(d.Command("doctor --fix --only permissions"), "%s of ours are not closed to others: %s", count(len(s.Loose), "path"), someOf(s.Loose))
		if s.Loose[0] == d.p.StateDir {
			f.Severity, f.Repair = sevError, "chmod 700 "+shellQuote(d.p.StateDir)
		}
		f.mend = tighten(s.Loose...)
	}
	d.loaded()
	shut := slices.DeleteFunc(slices.Clone(d.shut), func(path string) bool { return path != d.p.ConfigPath }) // of the others auth and config tell
	if t := d.cfg().Gateway.TLS; t.KeyPath != "" {
		var loose *store.LooseError
		if _, err := store.ReadSecretFile(d.p.Expand(t.KeyPath), maxCertificate); errors.As(err, &loose) {
			shut = append(shut, loose.Path)
		}
	}
	for _, path := range shut {
		f := r.fail("chmod 600 "+shellQuote(path), "others may change or read %s: the gateway refuses it", path)
		f.mend = tighten(path)
	}
	r.fact("%s", d.p.StateDir)
}

func (d *patient) config(r *result) {
	l, err := d.loaded()
	switch {
	case errors.Is(err, fs.ErrNotExist) && d.ownToken() != "":
		r.info("there is no %s: the gateway runs on defaults", d.p.ConfigPath)
	case errors.Is(err, fs.ErrNotExist):
		r.fail(d.Command("setup"), "there is no %s", d.p.ConfigPath)
	case l == nil:
		if !slices.Contains(d.shut, d.p.ConfigPath) { // else permissions tells
			r.fail("ls -l "+shellQuote(d.p.ConfigPath), "%v", err)
		}
	}
	d.problems(r, false)
	if l != nil {
		for _, w := range l.Warnings {
			r.warn(d.Command("config validate"), "%s", w.String())
		}
	}
	r.fact("%s", d.p.ConfigPath)
}

func (d *patient) state(r *result) {
	s, err := d.survey()
	if err != nil {
		r.info("cannot be told: %v", err) // see permissions
		return
	}
	for _, path := range s.Foreign[:min(len(s.Foreign), 10)] {
		r.warn("ls -l "+shellQuote(path), "%s is a link, no plain file, or somebody else's, and is refused", path)
	}
	running := d.instance().running
	if len(s.Torn) > 0 && !running { // a running one may be at it
		f := r.warn(d.Command("doctor --fix --only state"), "the last line of %s is torn: %s", count(len(s.Torn), "transcript"), someOf(s.Torn))
		f.mend = func() (string, error) {
			return "cut the torn line of " + someOf(s.Torn), store.CutTorn(d.p.StateDir, s.Torn)
		}
	}
	if s.Partial {
		r.info("not all of it was looked at: it is too large, or slow")
	}
	if d.unset() {
		return
	}
	for _, w := range d.workspaces() {
		if _, err := os.Stat(w); errors.Is(err, fs.ErrNotExist) {
			d.make(w, r.warn(d.toMake(w), "the workspace %s is missing", w))
		}
	}
}

func (d *patient) sandbox(r *result) {
	wanted := slices.ContainsFunc(d.cfg().AgentList(), func(a config.ResolvedAgent) bool { return a.SandboxMode != "off" })
	walls := sandbox.Probe()
	switch err := walls.Err(); {
	case err != nil && wanted:
		r.warn(d.Command("sandbox check"), "sandboxed sessions cannot run programs: %v", err)
	case err != nil:
		r.info("%v", err)
	}
	if f, err := d.facts(); err == nil && d.instance().running && !f.NoNewPrivs {
		r.info("the gateway could still gain privileges: no_new_privs is off")
	}
	names := make([]string, len(walls))
	for i, l := range walls {
		names[i] = l.Name
	}
	r.fact("walls tried from inside: %s", strings.Join(names, ", "))
}

func (d *patient) clock(r *result) {
	now := d.Now()
	if year := now.Year(); year < 2025 || year > 2100 {
		r.fail("date", "the clock says %s", now.Format(time.DateTime))
		return
	}
	last := time.UnixMilli(d.instance().StartedAt)
	if s, err := d.survey(); err == nil && s.Newest.After(last) {
		last = s.Newest
	}
	if last.Sub(now) > skew {
		r.warn("date", "the clock goes wrong: it is %s, and files are from %s", now.Format(time.DateTime), last.Format(time.DateTime))
	}
	r.fact("%s", now.Format(time.DateTime))
}

func (d *patient) version(r *result) {
	i, restart := d.instance(), d.Command("gateway restart")
	switch f, err := d.facts(); {
	case !i.running || i.Version == "":
	case i.Version != d.Version:
		r.warn(restart, "version %s runs, and this program is %s", i.Version, d.Version)
	case err == nil && f.Replaced:
		r.warn(restart, "the file of the program that runs has been replaced")
	}
	r.fact("%s", d.Version)
}

func (d *patient) isolation(r *result) {
	for _, n := range d.meets() {
		for _, o := range n.Shares {
			if o.What != config.SharedPorts { // which ports tells
				r.warn(d.Command("gateway status --deep --no-probe"), "%s", o.Text)
			}
		}
	}
	r.fact("%s of this user", count(len(d.meets()), "other gateway"))
}

// toMake is how a person makes a directory for the gateway.
func (d *patient) toMake(dir string) string {
	if d.p.System {
		return "sudo install -d -m 0700 -o " + serviceUser + " -g " + serviceUser + " " + shellQuote(dir)
	}
	return "mkdir -p " + shellQuote(dir)
}

// make has --fix make a directory, of which a service's would not be root's.
func (d *patient) make(dir string, f *finding) {
	if !d.p.System {
		f.mend = func() (string, error) { return "made " + dir, store.MakeDir(dir) }
	}
}
