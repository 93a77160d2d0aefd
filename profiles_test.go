package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// profile is another gateway of the same home: its own flags, port and state,
// with a configuration made by setup.
func (h *house) profile(flags ...string) *house {
	h.t.Helper()
	p := *h
	p.port, p.flags, p.env = freePorts(h.t), flags, map[string]string{}
	p.state = filepath.Join(h.dir, ".openclaw-"+strings.TrimPrefix(flags[len(flags)-1], "--"))
	p.config = filepath.Join(p.state, "openclaw.json")
	if r := p.run("setup", "--port", strconv.Itoa(p.port)); r.code != 0 {
		h.t.Fatal(r)
	}
	return &p
}

// contents are the files below a directory.
func contents(t *testing.T, dir string) map[string][]byte {
	t.Helper()
	files := map[string][]byte{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		files[path], err = os.ReadFile(path)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// TestThreeProfiles runs the gateway, one to rescue it with and one to try
// things on, of one user at a time.
func TestThreeProfiles(t *testing.T) {
	t.Parallel()
	base := newHouse(t, nil)
	all := []*house{base, base.profile("--profile", "rescue"), base.profile("--dev")}
	words := []string{"words of the first", "words of the second", "words of the third"}
	var running []*process
	for i, h := range all {
		running = append(running, h.start())
		if r := h.run("agent", "-m", words[i]); r.code != 0 || !strings.Contains(r.stdout, words[i]) {
			t.Fatalf("%v: %s", h.flags, r)
		}
	}
	well := func(up ...bool) {
		t.Helper()
		for i, h := range all {
			if r := h.run("health"); (r.code == 0) != up[i] {
				t.Errorf("%v: health, want %v: %s", h.flags, up[i], r)
			}
		}
	}
	well(true, true, true)
	for i, h := range all {
		s, err := readState(h.state, false)
		if err != nil || len(s.user) != 1 || s.user[words[i]] != 1 {
			t.Errorf("%v: state %+v, %v", h.flags, s, err)
		}
		log, err := os.ReadFile(filepath.Join(h.state, "logs", "gateway.log"))
		if err != nil || !bytes.Contains(log, []byte(h.addr())) || bytes.Contains(log, []byte(all[(i+1)%3].addr())) {
			t.Errorf("%v: log, %v:\n%s", h.flags, err, log)
		}
		if log := running[i].log(); strings.Contains(log, "not isolated") {
			t.Errorf("%v: %s", h.flags, log)
		}
		others := h.others(t)
		for j, o := range all {
			n, ok := others[o.state]
			if ok == (i == j) || ok && (!n.Running || n.PID != running[j].pid() || n.Port != o.port || n.Version == "" || n.ConfigPath != o.config || len(n.Shares) != 0) {
				t.Errorf("%v about %v: %+v, %v", h.flags, o.flags, n, ok)
			}
		}
	}

	running[1].signal(syscall.SIGTERM)
	if code := running[1].wait(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	well(true, false, true)
	if n := all[1].others(t)[base.state]; !n.Running { // also seen by one that is down
		t.Errorf("%+v", n)
	}
	running[1] = all[1].start()
	well(true, true, true)

	// --reset wipes the dev profile and nothing else.
	all[2].ends(t, 1, []string{"in use by a gateway"}, "--reset")
	for _, p := range running {
		p.signal(syscall.SIGTERM)
		p.wait()
	}
	well(false, false, false)
	before := []map[string][]byte{contents(t, base.state), contents(t, all[1].state)}
	dev := all[2].launch("--reset")
	select { // its port is the default's again, or the next free one
	case <-dev.up:
	case <-dev.gone:
		t.Fatalf("it ended: %s", dev.log())
	}
	if s, err := readState(all[2].state, false); err != nil || len(s.user) != 0 {
		t.Errorf("after --reset: %+v, %v", s, err)
	}
	for i, files := range before {
		after := contents(t, all[i].state)
		if len(after) != len(files) || len(files) < 3 {
			t.Errorf("%v: %d files, then %d", all[i].flags, len(files), len(after))
		}
		for path, raw := range files {
			if !bytes.Equal(after[path], raw) {
				t.Errorf("%s changed", path)
			}
		}
	}
}

// neighbour is an entry of others in the report of gateway status.
type neighbour struct {
	Profile, StateDir, ConfigPath, Version string
	Running                                bool
	PID, Port                              int
	Shares                                 []struct{ What, Text string }
}

// others asks gateway status, from files alone, and keys the answer by state directory.
func (h *house) others(t *testing.T) map[string]neighbour {
	t.Helper()
	r := h.run("gateway", "status", "--deep", "--no-probe", "--json")
	var report struct{ Others []neighbour }
	if err := json.Unmarshal([]byte(r.stdout), &report); err != nil || r.code != 0 {
		t.Fatalf("%v: %s", err, r)
	}
	out := map[string]neighbour{}
	for _, n := range report.Others {
		out[n.StateDir] = n
	}
	return out
}

// TestOverrides goes through who names a place or a port: the flag before the
// environment before the file.
func TestOverrides(t *testing.T) {
	t.Parallel()
	h := newHouse(t, nil)
	var ports [3]int
	for i := range ports {
		ports[i] = freePorts(t)
	}
	served := func(state, config string, port int, args ...string) {
		t.Helper()
		h.port = port
		p := h.start(args...)
		r := h.run("gateway", "status", "--json")
		var report struct {
			OK       bool
			StateDir string
			Process  struct{ PID, Port int }
			Config   struct{ Path string }
		}
		if err := json.Unmarshal([]byte(r.stdout), &report); err != nil || !report.OK || report.StateDir != state || report.Config.Path != config ||
			report.Process.Port != port || report.Process.PID != p.pid() {
			t.Errorf("want state %s, configuration %s, port %d, pid %d: %v, %s", state, config, port, p.pid(), err, r)
		}
		p.signal(syscall.SIGTERM)
		p.wait()
	}
	file := h.port
	served(h.state, h.config, file)
	h.env["OPENCLAW_GATEWAY_PORT"] = strconv.Itoa(ports[0])
	served(h.state, h.config, ports[0])
	served(h.state, h.config, ports[1], "--port", strconv.Itoa(ports[1]))
	delete(h.env, "OPENCLAW_GATEWAY_PORT")

	for _, name := range []string{"env", "flag"} {
		p := h.profile("--profile", name)
		h.env["OPENCLAW_PROFILE"] = "env"
		if name == "flag" {
			h.flags = p.flags
		}
		served(p.state, p.config, p.port)
	}
	h.flags = []string{"--profile", "default"}
	served(h.state, h.config, file)

	// A state directory takes the configuration along; a configuration comes alone.
	elsewhere, lone := filepath.Join(h.dir, "elsewhere"), filepath.Join(h.dir, "lone.json")
	h.env["OPENCLAW_STATE_DIR"] = elsewhere
	h.ends(t, 78, []string{"no configuration at " + filepath.Join(elsewhere, "openclaw.json")})
	if err := os.WriteFile(lone, fmt.Appendf(nil, `{gateway:{port:%d,auth:{token:%q}}}`, ports[2], testToken), 0o600); err != nil {
		t.Fatal(err)
	}
	h.env["OPENCLAW_CONFIG_PATH"] = lone
	served(elsewhere, lone, ports[2])
	delete(h.env, "OPENCLAW_STATE_DIR")
	served(h.state, lone, ports[2])
}

// TestNotIsolated has two gateways of one user get into each other's way: what
// runs is left alone, and the other is told what to change.
func TestNotIsolated(t *testing.T) {
	t.Parallel()
	first := newHouse(t, object{"agents": object{"defaults": object{"workspace": "~/work"}}})
	second := first.profile("--profile", "rescue")
	own := second.port
	overlapping := func(base int) string { return fmt.Sprintf("%d-%d", base, base+110) }
	if err := os.MkdirAll(filepath.Join(first.dir, "work"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("work", filepath.Join(first.dir, "alias")); err != nil {
		t.Fatal(err)
	}

	// One that is only configured is worth a warning, in the log and in the report.
	second.port = first.port + 30
	second.configure(object{"agents": object{"list": []any{object{"id": "main"}, object{"id": "x", "workspace": "~/alias/x"}}}})
	p := first.start()
	log := p.log()
	for _, want := range []string{"not isolated", "profile rescue, which is configured but not running", "shares", "ports", "workspace"} {
		if !strings.Contains(log, want) {
			t.Errorf("want %q in the log:\n%s", want, log)
		}
	}
	n := first.others(t)[second.state]
	if n.Running || n.Profile != "rescue" || n.Port != second.port || len(n.Shares) != 2 {
		t.Errorf("%+v", n)
	}

	// One that runs is not to be disturbed.
	who := fmt.Sprintf("the gateway of profile default (pid %d, port %d)", p.pid(), first.port)
	blocks := fmt.Sprintf("port block %s meets the block %s of %s: choose a gateway.port at least 111 apart", overlapping(second.port), overlapping(first.port), who)
	shared := fmt.Sprintf("lies in the workspace %s of %s: give each its own agents.defaults.workspace", filepath.Join(first.dir, "work"), who)
	second.ends(t, 78, []string{blocks, shared})
	second.ends(t, 78, []string{shared}, "--port", strconv.Itoa(own))
	second.configure(nil)
	second.ends(t, 78, []string{blocks})
	if r := first.run("health"); r.code != 0 {
		t.Errorf("the first one: %s", r)
	}
	second.port = own
	second.start("--port", strconv.Itoa(own)) // an override counts, and nothing else is shared
	if r := second.run("health"); r.code != 0 {
		t.Errorf("the second one: %s", r)
	}
	if n := first.others(t)[second.state]; !n.Running || n.Port != own || len(n.Shares) != 0 {
		t.Errorf("%+v", n)
	}

	// Two state directories on one configuration.
	third := first.profile("--profile", "third")
	third.env["OPENCLAW_CONFIG_PATH"] = first.config
	third.ends(t, 78, []string{who, filepath.Join(first.dir, "work") + " is also that of"}, "--port", strconv.Itoa(third.port))
	first.configure(nil)
	third.ends(t, 78, []string{who, "configuration file " + first.config + " is also that of"}, "--port", strconv.Itoa(third.port))
}
