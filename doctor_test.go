package main

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"openclaw/gateway/proc"
	"openclaw/gateway/store"
	"openclaw/reload/config"
)

// diagnosis is what doctor --json prints, member by member.
type diagnosis struct {
	OK     bool `json:"ok"`
	Checks []struct {
		ID       string `json:"id"`
		Severity string `json:"severity"`
		Title    string `json:"title"`
		Message  string `json:"message"`
		Why      string `json:"why"`
		Repair   string `json:"repair"`
		Fixed    string `json:"fixed"`
	} `json:"checks"`
}

// wrong are the errors and warnings, each as "id severity message".
func (d diagnosis) wrong() (out []string) {
	for _, c := range d.Checks {
		if c.Severity == "error" || c.Severity == "warn" {
			out = append(out, c.ID+" "+c.Severity+" "+c.Message)
		}
	}
	return out
}

func (h *house) doctor(args ...string) diagnosis {
	h.t.Helper()
	return diagnosed(h.t, h.run(append([]string{"doctor", "--json"}, args...)...))
}

func diagnosed(t *testing.T, r result) diagnosis {
	t.Helper()
	var d diagnosis
	dec := json.NewDecoder(strings.NewReader(r.stdout))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&d); err != nil {
		t.Fatalf("%v: %s", err, r)
	}
	if (r.code == 0) != d.OK || r.code > 1 {
		t.Errorf("ok is %v: %s", d.OK, r)
	}
	for _, c := range d.Checks {
		bad := c.Severity == "error" || c.Severity == "warn"
		if c.Title == "" || bad && (c.Message == "" || c.Why == "") {
			t.Errorf("incomplete: %+v", c)
		}
	}
	return d
}

// well makes a house with nothing that doctor warns of.
func well(t *testing.T, sections object) *house {
	t.Helper()
	h := newHouse(t, sections)
	for range 50 { // until nobody on this host listens within the block
		if hs, err := proc.Holders(h.port, h.port+config.PortBlock-1); err != nil || len(hs) == 0 {
			break
		}
		h = newHouse(t, sections)
	}
	for _, dir := range []string{filepath.Join(h.state, "workspace"), filepath.Join(h.dir, "work")} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	h.backedUp(time.Now())
	return h
}

// backedUp leaves the record of a backup, and the backup.
func (h *house) backedUp(at time.Time) {
	h.t.Helper()
	file := filepath.Join(h.dir, "backup.tar")
	h.put(file, "x")
	h.put(filepath.Join(h.state, "backup.json"), fmt.Sprintf(`{"file":%q,"at":%d,"bytes":1,"files":1}`, file, at.UnixMilli()))
}

func (h *house) put(path, text string) {
	h.t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		h.t.Fatal(err)
	}
}

func (h *house) edit(old, new string) {
	h.t.Helper()
	raw, err := os.ReadFile(h.config)
	if err != nil || !strings.Contains(string(raw), old) {
		h.t.Fatalf("%v: no %q in %s", err, old, raw)
	}
	h.write([]byte(strings.Replace(string(raw), old, new, 1)))
}

// ailment is one thing that goes wrong.
type ailment struct {
	name     string
	sections object
	down     bool                       // no gateway runs
	strike   func(h *house, p *process) // makes it go wrong
	want     []string                   // regular expressions, one for each finding
	fixed    string                     // what --fix says it did; "" = it leaves this to the operator
	heal     func(h *house)             // what the operator does; nil = the file is put back
}

// TestDoctor breaks one thing after another on a gateway of each own, wants exactly
// that finding, has it mended, and wants it gone.
func TestDoctor(t *testing.T) {
	var spare net.Listener
	in := func(name string) func(*house) string {
		return func(h *house) string { return filepath.Join(h.state, name) }
	}
	log := in("logs/gateway.log")
	later := time.Now().Add(3 * time.Hour)
	must := func(h *house, err error) {
		h.t.Helper()
		if err != nil {
			h.t.Fatal(err)
		}
	}
	listen := func(h *house, port int) net.Listener {
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		must(h, err)
		h.t.Cleanup(func() { l.Close() })
		return l
	}
	local := func(port int) object {
		return object{"models": object{"providers": object{"near": object{"baseUrl": fmt.Sprintf("http://127.0.0.1:%d/v1", port), "models": []any{object{"id": "m"}}}}}}
	}
	near, err := net.Listen("tcp", "127.0.0.1:0")
	must(&house{t: t}, err)
	nearPort := near.Addr().(*net.TCPAddr).Port
	api := newBotAPI(t)
	bot := func() object {
		return object{"channels": object{"telegram": object{"botToken": botToken, "apiRoot": api.url, "allowFrom": []int{7}}}}
	}

	for _, a := range append(ailments(),
		ailment{name: "service", strike: func(h *house, p *process) { p.kill() }, want: []string{`^service error no gateway runs on `}, heal: func(h *house) { h.start() }},
		ailment{name: "service, nothing set up", down: true, strike: func(h *house, p *process) { must(h, os.RemoveAll(h.state)) },
			want: []string{`^service error nothing is set up here`, `^config error there is no `}, heal: func(h *house) { h.configure(nil); h.backedUp(time.Now()); must(h, os.Mkdir(in("workspace")(h), 0o700)) }},
		ailment{name: "service, stopped", strike: func(h *house, p *process) {
			p.signal(syscall.SIGSTOP)
			h.t.Cleanup(func() { p.cmd.Process.Signal(syscall.SIGCONT) })
		},
			want: []string{`^service error the gateway with pid \d+ is stopped by a signal`, `^network error the gateway did not answer within 1.5s$`},
			heal: func(h *house) { pid := h.instance().PID; must(h, syscall.Kill(pid, syscall.SIGCONT)) }},
		ailment{name: "ports", strike: func(h *house, _ *process) { spare = listen(h, h.port+2) },
			want: []string{fmt.Sprintf(`^ports warn port \d+ of this gateway's block is held by pid %d \(.+\)$`, os.Getpid())}, heal: func(*house) { spare.Close() }},
		ailment{name: "ports, the base", down: true, strike: func(h *house, _ *process) { spare = listen(h, h.port) },
			want: []string{fmt.Sprintf(`^ports error port \d+ of this gateway's block is held by pid %d `, os.Getpid())}, heal: func(*house) { spare.Close() }},
		ailment{name: "ports of another gateway", strike: func(h *house, _ *process) { h.neighbour(h.port+50, "") },
			want: []string{`^ports warn port block \d+-\d+ meets the block .* of profile other`}, heal: func(h *house) { must(h, os.RemoveAll(filepath.Join(h.dir, ".openclaw-other"))) }},
		ailment{name: "auth, weak", strike: func(h *house, _ *process) { h.edit(testToken, "abc") }, want: []string{`^auth error .*gateway\.auth\.token: too weak`}},
		ailment{name: "auth, missing", down: true, strike: func(h *house, _ *process) { h.edit(fmt.Sprintf("%q: %q", "token", testToken), "") }, want: []string{`^auth error the configuration has no secret`}},
		ailment{name: "auth, readable", strike: func(h *house, _ *process) { must(h, os.Chmod(h.config, 0o644)) }, want: []string{`^auth warn .* holds secrets, and others may read it \(mode 0644\)$`}, fixed: "closed to others"},
		ailment{name: "auth, secret file", down: true, strike: func(h *house, _ *process) {
			h.edit(testToken, "file:the token")
			h.put(in("the token")(h), testToken)
			must(h, os.Chmod(in("the token")(h), 0o640))
		}, want: []string{`^auth error .*the token: others may read it`}, fixed: "closed to others"},
		ailment{name: "logs, rotated files", strike: func(h *house, _ *process) { h.put(log(h)+".11", "x\n"); h.put(log(h)+".12", "x\n") },
			want: []string{`^logs warn 2 rotated files more than logging.rotation has room for: gateway.log.11, gateway.log.12$`}, fixed: "removed gateway.log.11"},
		ailment{name: "logs, directory", down: true, strike: func(h *house, _ *process) { h.edit(`"gateway":`, `"logging": {"file": "elsewhere/log"}, "gateway":`) },
			want: []string{`^logs error the log's directory is missing: `}, fixed: "made "},
		ailment{name: "logs, no file", down: true, strike: func(h *house, _ *process) {
			must(h, syscall.Mkfifo(filepath.Join(h.dir, "pipe"), 0o600))
			h.edit(`"gateway":`, `"logging": {"file": "../pipe"}, "gateway":`)
		},
			want: []string{`^logs error the log cannot be written: .*not a regular file`}},
		ailment{name: "hot-reload", sections: object{"gateway": object{"hotReload": object{"mode": "off", "debounceMs": 10}}}, strike: func(h *house, _ *process) { h.edit(`"debounceMs": 10`, `"debounceMs": 20`) },
			want: []string{`^hot-reload warn the file is newer than what is in effect, and waits .*: gateway.hotReload.debounceMs$`}, fixed: "reloaded: gateway.hotReload.debounceMs"},
		ailment{name: "hot-reload, refused", strike: func(h *house, _ *process) {
			spare = listen(h, h.port+5)
			h.edit(strconv.Itoa(h.port), strconv.Itoa(h.port+5))
			eventually(h.t, patience, func() error {
				if r := h.inside("status", "--json"); !strings.Contains(r.stdout, `"lastError"`) {
					return fmt.Errorf("%s", r)
				}
				return nil
			})
		}, want: []string{`^hot-reload error the last change was refused, .* is taken by pid \d+`, `^ports warn port \d+ of`}, heal: func(h *house) {
			spare.Close()
			if r := h.run("gateway", "reload"); r.code != 0 {
				h.t.Fatal(r)
			}
			h.port += 5
			eventually(h.t, patience, func() error {
				if r := h.inside("health"); r.code != 0 {
					return fmt.Errorf("%s", r)
				}
				return nil
			})
		}},
		ailment{name: "network, provider", sections: local(nearPort), strike: func(*house, *process) { near.Close() },
			want: []string{`^network warn model provider near cannot be reached at 127\.0\.0\.1:\d+: connection refused$`},
			heal: func(h *house) { listen(h, nearPort) }},
		ailment{name: "backup, gone", strike: func(h *house, _ *process) { must(h, os.Remove(filepath.Join(h.dir, "backup.tar"))) }, want: []string{`^backup warn the last backup is gone: `}, heal: func(h *house) { h.backedUp(time.Now()) }},
		ailment{name: "backup, old", strike: func(h *house, _ *process) { h.backedUp(time.Now().AddDate(0, 0, -8)) }, want: []string{`^backup warn the last backup was made 8 days ago$`}, heal: func(h *house) { h.backedUp(time.Now()) }},
		ailment{name: "backup, none", strike: func(h *house, _ *process) { must(h, os.Remove(in("backup.json")(h))) }, want: []string{`^backup warn no backup has been made of `}, heal: func(h *house) { h.backedUp(time.Now()) }},
		ailment{name: "permissions", strike: func(h *house, _ *process) {
			must(h, os.Chmod(in("logs")(h), 0o755))
			must(h, os.Chmod(in("gateway.lock")(h), 0o640))
		},
			want: []string{`^permissions warn 2 paths of ours are not closed to others: .*gateway\.lock, .*logs$`}, fixed: "closed to others"},
		ailment{name: "permissions, state", strike: func(h *house, _ *process) { must(h, os.Chmod(h.state, 0o750)) }, want: []string{`^permissions error 1 path of ours `}, fixed: "closed to others"},
		ailment{name: "permissions, configuration", strike: func(h *house, _ *process) { must(h, os.Chmod(h.config, 0o622)) }, want: []string{`^permissions error others may change or read .*openclaw\.json: the gateway refuses it$`}, fixed: "closed to others"},
		ailment{name: "config", strike: func(h *house, _ *process) { h.edit(`"gateway": {`, `"gateway": {"prot": 1,`) }, want: []string{`^config error .*openclaw\.json:\d+:\d+: gateway\.prot: unknown key \(did you mean port\?\)$`}},
		ailment{name: "config, no file", strike: func(h *house, _ *process) { must(h, os.Remove(h.config)); must(h, syscall.Mkfifo(h.config, 0o600)) }, want: []string{`^config error .*not a regular file$`}, heal: func(h *house) { must(h, os.Remove(h.config)); h.configure(nil) }},
		ailment{name: "state, workspace", strike: func(h *house, _ *process) { must(h, os.Remove(in("workspace")(h))) }, want: []string{`^state warn the workspace .* is missing$`}, fixed: "made "},
		ailment{name: "state, foreign", strike: func(h *house, _ *process) { must(h, os.Symlink("/etc/passwd", in("logs/gateway.log.1")(h))) }, want: []string{`^state warn .*/logs/gateway\.log\.1 is a link`}, heal: func(h *house) { must(h, os.Remove(in("logs/gateway.log.1")(h))) }},
		ailment{name: "state, torn", down: true, strike: func(h *house, _ *process) {
			must(h, os.MkdirAll(in("agents/main/sessions")(h), 0o700))
			h.put(in("agents/main/sessions/s1.jsonl")(h), `{"type":"session","version":3,"id":"s1","timestamp":"2026-01-01T00:00:00Z","cwd":"/"}`+"\n"+`{"type":"message","id":"a`)
			h.put(in("agents/main/sessions/s2.jsonl")(h), `{"type":"session","version":3,"id":"s2","timestamp":"2026-01-01T00:00:00Z","cwd":"/"}`)
		}, want: []string{`^state warn the last line of 1 transcript is torn: .*/s1\.jsonl$`}, fixed: "cut the torn line of "},
		ailment{name: "clock", strike: func(h *house, _ *process) { must(h, os.Chtimes(in("gateway.lock")(h), later, later)) }, want: []string{`^clock warn the clock goes wrong`}, heal: func(h *house) { must(h, os.Chtimes(in("gateway.lock")(h), time.Now(), time.Now())) }},
		ailment{name: "channels, token", sections: bot(), strike: func(h *house, _ *process) { h.edit(botToken, "4242:another") },
			want: []string{`^channels error telegram:default is down until something is changed: the bot token is not accepted`}},
		ailment{name: "channels, away", sections: bot(), strike: func(h *house, _ *process) { h.edit(api.url, "http://127.0.0.1:1") },
			want: []string{`^channels warn telegram:default is down and tries again; last success: never: .*connection refused$`}},
		ailment{name: "channels, open", sections: bot(), strike: func(h *house, _ *process) { h.edit(`"allowFrom": [`, `"dmPolicy": "open", "allowFrom": ["*",`) },
			want: []string{`^channels warn telegram:default takes messages from anybody`}},
		ailment{name: "channels, program", down: true, sections: object{"channels": object{"echo": object{"kind": "process", "command": []string{"/bin/sh"}}}},
			strike: func(h *house, _ *process) { h.edit("/bin/sh", "/nowhere/sh") }, want: []string{`^channels error the program of echo:default: .*no such file`}},
		ailment{name: "isolation", strike: func(h *house, _ *process) { h.neighbour(50000, in("workspace")(h)) }, want: []string{`^isolation warn workspace .* is also that of profile other`}, heal: func(h *house) { must(h, os.RemoveAll(filepath.Join(h.dir, ".openclaw-other"))) }},
	) {
		t.Run(a.name, func(t *testing.T) {
			h := well(t, a.sections)
			var p *process
			before := []string(nil)
			if !a.down {
				p = h.start()
			} else {
				before = []string{"service error no gateway runs on " + h.state}
			}
			h.finds("before", nil, before)
			kept, err := os.ReadFile(h.config)
			must(h, err)
			a.strike(h, p)
			h.finds("struck", a.want, before)
			switch {
			case a.fixed != "":
				eventually(t, patience, func() error {
					if d := h.doctor("--fix"); !d.mended(a.fixed) {
						return fmt.Errorf("--fix does not say %q: %+v", a.fixed, d.Checks)
					}
					return nil
				})
			case a.heal != nil:
				a.heal(h)
			default:
				h.write(kept)
			}
			h.finds("after", nil, before)
		})
	}
}

// finds wants findings that match want, one each, and those of before, and no
// others. On a busy machine what is well may be too slow to say so: then doctor
// is asked again.
func (h *house) finds(when string, want, before []string) {
	h.t.Helper()
	eventually(h.t, patience, func() error {
		all := h.doctor().wrong()
		got := slices.DeleteFunc(slices.Clone(all), func(s string) bool { return slices.Contains(before, s) })
		found := len(got) == len(want) && (want != nil || len(all) == len(before))
		for _, want := range want {
			found = found && slices.ContainsFunc(got, regexp.MustCompile(want).MatchString)
		}
		if !found {
			return fmt.Errorf("%s: %q, want %q and %q", when, all, want, before)
		}
		return nil
	})
}

func (d diagnosis) mended(what string) bool {
	for _, c := range d.Checks {
		if strings.HasPrefix(c.Fixed, what) && c.Severity == "ok" {
			return true
		}
	}
	return false
}

// neighbour configures another gateway of the same user.
func (h *house) neighbour(port int, workspace string) {
	h.t.Helper()
	dir := filepath.Join(h.dir, ".openclaw-other")
	if err := os.Mkdir(dir, 0o700); err != nil {
		h.t.Fatal(err)
	}
	h.put(filepath.Join(dir, "openclaw.json"), fmt.Sprintf(`{gateway:{port:%d,auth:{token:%q}},agents:{defaults:{workspace:%q}}}`, port, testToken, workspace))
}

func (h *house) instance() store.Instance {
	i, _, err := store.ReadInstance(h.state)
	if err != nil {
		h.t.Fatal(err)
	}
	return i
}

// TestDoctorVersion: the one that runs is not the one that asks.
func TestDoctorVersion(t *testing.T) {
	h := well(t, nil)
	h.start()
	got := diagnosed(t, h.inside("doctor", "--json", "--only", "version")).wrong() // by a program of version "test"
	if len(got) != 1 || !strings.HasPrefix(got[0], "version warn version ") {
		t.Errorf("%q", got)
	}
}

// TestDoctorOnly: the table's order and ids are stable, --only chooses.
func TestDoctorOnly(t *testing.T) {
	h := well(t, nil)
	ids := func(args ...string) (out []string) {
		for _, c := range diagnosed(t, h.inside(append([]string{"doctor", "--json"}, args...)...)).Checks {
			out = append(out, c.ID)
		}
		return out
	}
	want := strings.Fields("service ports auth supervisor logs hot-reload network disk limits backup permissions config state sandbox clock version isolation channels")
	if got := ids(); !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
	if got := ids("--only", "disk,backup", "--only=auth", "--deep", "--yes", "--non-interactive", "--repair"); !slices.Equal(got, []string{"auth", "disk", "backup"}) {
		t.Errorf("%q", got)
	}
	if r := h.inside("doctor", "--only", "bakcup"); r.code != 2 || !strings.Contains(r.stderr, "did you mean backup?") {
		t.Error(r)
	}
}

// TestDoctorHangs: whatever does not answer is a finding, and doctor ends.
func TestDoctorHangs(t *testing.T) {
	h := well(t, nil)
	silent, err := net.Listen("tcp", "127.0.0.1:0") // accepts in the kernel, and says nothing
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	d, err := store.Open(h.state)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	port := silent.Addr().(*net.TCPAddr).Port
	if err := d.Publish(store.Instance{Port: port, Addr: silent.Addr().String(), StartedAt: time.Now().UnixMilli()}); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"backup.json", "gateway.token", "logs/gateway.log", "agents/main/sessions/a.jsonl"} {
		path := filepath.Join(h.state, name)
		os.Remove(path)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := syscall.Mkfifo(path, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	began := time.Now()
	got := strings.Join(h.doctor().wrong(), "\n")
	if took := time.Since(began); took > 20*time.Second { // 2 s, and what a busy machine adds
		t.Errorf("took %v", took)
	}
	for _, want := range []string{"network error the gateway did not answer within 1.5s", "logs error the log cannot be written", "a.jsonl is a link, no plain file"} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
	if r := h.run("gateway", "status", "--timeout", "300"); r.code != 3 || !strings.Contains(r.stderr, "did not answer within 300ms") || !strings.Contains(r.stderr, "openclaw doctor") {
		t.Error(r)
	}
}

// TestDoctorChangesNothing looks at every byte, mode and time below HOME.
func TestDoctorChangesNothing(t *testing.T) {
	for _, up := range []bool{true, false} {
		h := well(t, nil)
		p := h.start()
		if r := h.run("agent", "-m", "hello"); r.code != 0 {
			t.Fatal(r)
		}
		if !up {
			p.kill()
		}
		// Plenty to mend.
		for name, mode := range map[string]fs.FileMode{"logs": 0o755, "logs/gateway.log": 0o644, "agents/main/sessions/index.jsonl": 0o644, "openclaw.json": 0o644, "gateway.lock": 0o644, "agents": 0o750} {
			if err := os.Chmod(filepath.Join(h.state, name), mode); err != nil {
				t.Fatal(err)
			}
		}
		h.put(filepath.Join(h.state, "logs/gateway.log.99"), "x\n")
		if err := os.Remove(filepath.Join(h.state, "workspace")); err != nil {
			t.Fatal(err)
		}
		before := h.inventory()
		h.doctor("--deep")
		h.run("gateway", "status", "--deep")
		if after := h.inventory(); !maps.Equal(before, after) {
			for name, was := range before {
				if after[name] != was {
					t.Errorf("up %v: %s was %s and is %s", up, name, was, after[name])
				}
			}
			t.Errorf("up %v: %d files, %d before", up, len(after), len(before))
		}
		// And --fix mends it all.
		h.doctor("--fix")
		var down []string
		if !up {
			down = []string{"^service error no gateway runs on "}
		}
		h.finds("mended", down, nil)
	}
}

// inventory is every path below the home: mode, time and content.
func (h *house) inventory() map[string]string {
	h.t.Helper()
	out := map[string]string{}
	err := filepath.WalkDir(h.dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		fi, err := e.Info()
		if err != nil {
			return err
		}
		text := fmt.Sprint(fi.Mode(), fi.ModTime().UnixNano())
		if fi.Mode().IsRegular() {
			raw, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			text += fmt.Sprintf(" %x", sha256.Sum256(raw))
		}
		out[path] = text
		return nil
	})
	if err != nil {
		h.t.Fatal(err)
	}
	return out
}
