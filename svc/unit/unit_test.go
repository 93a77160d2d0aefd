package unit

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "rewrite golden files")

// plain is what an installation without options asks for.
func plain(t Target) Unit {
	u := Unit{
		Program: "/usr/bin/openclaw", Ports: []int{18789, 18791, 18793}, Grace: 30 * time.Second,
		Home: "/home/alice", StateDir: "/home/alice/.openclaw", ConfigPath: "/home/alice/.openclaw/openclaw.json",
		LogDir: "/home/alice/.openclaw/logs", User: "openclaw", Group: "openclaw",
	}
	if t.System() {
		u.StateDir, u.ConfigPath = "/var/lib/openclaw", "/etc/openclaw/openclaw.json"
	}
	return u
}

// variants are the goldens of every target, and of systemd those where its
// units differ.
var variants = []struct {
	name    string
	systemd bool
	change  func(Target, *Unit)
}{
	{"plain", false, func(Target, *Unit) {}},
	{"profile", false, func(t Target, u *Unit) {
		u.Profile = "rescue"
		u.StateDir, u.ConfigPath = u.StateDir+"-rescue", strings.Replace(u.ConfigPath, "openclaw/", "openclaw-rescue/", 1)
	}},
	{"port", false, func(_ Target, u *Unit) {
		u.Port, u.Ports = 19001, []int{19001, 19003, 19005}
		u.Env = []Var{{"TZ", "Europe/Berlin"}, {"NOTE", `50% of "it" costs $5; it's \n`}}
	}},
	{"node", true, func(_ Target, u *Unit) { u.Node = true }},
	{"chromium", true, func(_ Target, u *Unit) { u.Node, u.Chromium = true, true }},
	{"localonly", true, func(_ Target, u *Unit) { u.LocalOnly = true }},
	{"workspace", true, func(t Target, u *Unit) {
		u.Workspaces = []string{u.StateDir + "/workspace", "/srv/My Notes", "/srv/code"}
		u.ConfigPath = "/srv/settings/openclaw.json"
		if t == SystemdSystem {
			u.StateDir = "/srv/openclaw state"
			u.Credentials = []Credential{{"gateway-token", "/etc/openclaw/credentials/gateway-token"}}
		}
	}},
}

func TestGoldens(t *testing.T) {
	var files []string
	for _, f := range Formats() {
		for _, v := range variants {
			if v.systemd && !f.Target.systemd() {
				continue
			}
			u := plain(f.Target)
			v.change(f.Target, &u)
			got, err := Render(f.Target, u)
			if err != nil {
				t.Errorf("%s %s: %v", f.Target, v.name, err)
				continue
			}
			path := filepath.Join("testdata", string(f.Target), v.name+filepath.Ext(f.Target.File(u)))
			files = append(files, path)
			if *update {
				os.MkdirAll(filepath.Dir(path), 0o755)
				if err := os.WriteFile(path, got, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got, want) {
				t.Errorf("out of date (go test ./svc/unit -update):\n%s", Diff(path, "rendered", want, got))
			}
		}
	}
	all, err := filepath.Glob("testdata/*/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range all {
		if !slices.Contains(files, path) && !strings.HasPrefix(path, "testdata/fuzz") {
			t.Errorf("%s is nobody's golden", path)
		}
	}
}

// TestDirectives: from UMask on, where the hardening begins, every row of
// systemd's has a reason or goes with the one above it; none ends a comment early.
func TestDirectives(t *testing.T) {
	why, hardening := "", false
	for _, d := range directives {
		if strings.ContainsAny(d.why, "\n\r") || strings.Contains(d.why, "--") {
			t.Errorf("%s: reason %q", d.name, d.why)
		}
		hardening = (hardening || d.name == "UMask") && d.name != "[Install]"
		if d.why != "" {
			why = d.name
		}
		if hardening && d.why == "" && !slices.Contains([]string{"StateDirectoryMode", "AmbientCapabilities", "SocketBindAllow"}, d.name) {
			t.Errorf("%s has no reason; the last was that of %s", d.name, why)
		}
	}
}

func TestFiles(t *testing.T) {
	def, rescue := plain(Launchd), plain(Launchd)
	rescue.Profile, rescue.ConfigHome = "rescue", "/home/alice/cfg"
	for _, c := range []struct {
		t                Target
		file, rescueFile string
		mode             uint32
		system           bool
	}{
		{Launchd, "/home/alice/Library/LaunchAgents/bot.molt.gateway.plist", "/home/alice/Library/LaunchAgents/bot.molt.rescue.plist", 0o600, false},
		{SystemdUser, "/home/alice/.config/systemd/user/openclaw-gateway.service", "/home/alice/cfg/systemd/user/openclaw-gateway-rescue.service", 0o644, false},
		{SystemdSystem, "/etc/systemd/system/openclaw-gateway.service", "/etc/systemd/system/openclaw-gateway-rescue.service", 0o644, true},
		{OpenRC, "/etc/init.d/openclaw-gateway", "/etc/init.d/openclaw-gateway-rescue", 0o755, true},
		{RCD, "/usr/local/etc/rc.d/openclaw_gateway", "/usr/local/etc/rc.d/openclaw_gateway_rescue", 0o755, true},
	} {
		if got := c.t.File(def); got != c.file {
			t.Errorf("%s: %s", c.t, got)
		}
		if got := c.t.File(rescue); got != c.rescueFile {
			t.Errorf("%s: %s", c.t, got)
		}
		if c.t.Mode() != c.mode || c.t.System() != c.system {
			t.Errorf("%s: mode %o, system %v", c.t, c.t.Mode(), c.t.System())
		}
		for _, name := range Legacy(c.t) {
			if name == def.Label() || name == def.Name() || name == def.Name()+".service" || name == rcName(def) {
				t.Errorf("%s: %s is our own name", c.t, name)
			}
		}
		if len(Legacy(c.t)) == 0 {
			t.Errorf("%s: no legacy names", c.t)
		}
	}
	if _, err := Render("windows", def); err == nil {
		t.Error("rendered for a target that does not exist")
	}
	if _, err := Parse("windows", nil); err == nil {
		t.Error("parsed for a target that does not exist")
	}
}

// TestStop: whatever the grace period, the supervisor waits longer.
func TestStop(t *testing.T) {
	for _, grace := range []time.Duration{0, time.Millisecond, 999 * time.Millisecond, time.Second, 30 * time.Second, 90*time.Second + 1, 24 * time.Hour} {
		for _, f := range Formats() {
			u := plain(f.Target)
			u.Grace = grace
			text, err := Render(f.Target, u)
			if err != nil {
				t.Fatal(err)
			}
			back, err := Parse(f.Target, text)
			if err != nil {
				t.Fatal(err)
			}
			if f.Target != RCD && (back.Grace < grace || back.Grace >= grace+time.Second) {
				t.Errorf("%s: grace %v became %v", f.Target, grace, back.Grace)
			}
			if stop := time.Duration(stopSeconds(u)) * time.Second; stop < grace+10*time.Second {
				t.Errorf("a grace of %v is cut off after %v", grace, stop)
			}
		}
	}
}

func TestOrigin(t *testing.T) {
	for _, f := range Formats() {
		text, err := Render(f.Target, plain(f.Target))
		if err != nil {
			t.Fatal(err)
		}
		if o := OriginOf(text); !o.Ours || o.Edited {
			t.Errorf("%s: as rendered: %+v", f.Target, o)
		}
		for name, edited := range map[string][]byte{
			"appended": append(slices.Clone(text), '\n'), "prepended": append([]byte("\n"), text...),
			"changed": bytes.Replace(text, []byte("OPENCLAW_STATE"), []byte("OPENCLAW_STATES"), 1), "dos": bytes.ReplaceAll(text, []byte("\n"), []byte("\r\n")),
			"cut": text[:len(text)-1],
		} {
			if o := OriginOf(edited); name != "dos" && !o.Ours || o.Ours && !o.Edited {
				t.Errorf("%s %s: %+v", f.Target, name, o)
			}
		}
		foreign := strings.Join(slices.DeleteFunc(strings.SplitAfter(string(text), "\n"), func(l string) bool { return strings.Contains(l, "sha256") }), "")
		if o := OriginOf([]byte(foreign)); o.Ours {
			t.Errorf("%s without its marker: %+v", f.Target, o)
		}
	}
}

// TestParseEdited: a unit that a person changed is read where it can be, and an
// error that says where not.
func TestParseEdited(t *testing.T) {
	for _, c := range []struct {
		t        Target
		old, new string
		want     func(*Unit)
		err      string
	}{
		{SystemdSystem, "RestartSec=10", "RestartSec=3\nNice=5", func(*Unit) {}, ""},
		{SystemdSystem, "ExecStart=/usr/bin/openclaw gateway", "ExecStart=\\\n  '/usr/bin/openclaw' \\\n# between\n  \"gateway\" --port 1234", func(u *Unit) { u.Port = 1234 }, ""},
		{SystemdSystem, "TimeoutStopSec=40", "TimeoutStopSec=1min", nil, "TimeoutStopSec"},
		{SystemdSystem, "SocketBindAllow=tcp:18789", "SocketBindAllow=tcp:http", nil, "SocketBindAllow"},
		{SystemdSystem, "ExecStart=/usr/bin/openclaw gateway", "ExecStart=/usr/bin/openclaw gateway --verbose", nil, "ExecStart"},
		{SystemdSystem, "ExecStart=/usr/bin/openclaw gateway", "ExecStart=/usr/bin/openclaw $WHAT", nil, "ExecStart"},
		{SystemdSystem, "ExecStart=/usr/bin/openclaw gateway", "Nice=5", nil, "ExecStart"},
		{SystemdSystem, "ExecStart=/usr/bin/openclaw gateway", "gateway", nil, "without ="},
		{SystemdSystem, "Environment=OPENCLAW_PROFILE=default", `Environment="A=open`, nil, "Environment"},
		{SystemdUser, "BindPaths=/home/alice/.openclaw", "BindPaths=%h/.openclaw", nil, "BindPaths"},
		{SystemdUser, "BindPaths=/home/alice/.openclaw", "BindPaths=/home/alice/.openclaw -/srv/a", func(u *Unit) { u.Workspaces = []string{"/srv/a"} }, ""},
		{Launchd, "<string>/usr/bin/openclaw</string>", "<!-- here --><string>/opt/&#x6f;penclaw</string>", func(u *Unit) { u.Program = "/opt/openclaw" }, ""},
		{Launchd, "<integer>40</integer>", "<integer>soon</integer>", nil, "ExitTimeOut"},
		{Launchd, "bot.molt.gateway", "com.example.gateway", nil, "Label"},
		{Launchd, "</dict>", "", nil, "property list"},
		{OpenRC, "command='/usr/bin/openclaw'", "command=/opt/openclaw", func(u *Unit) { u.Program = "/opt/openclaw" }, ""},
		{OpenRC, "command='/usr/bin/openclaw'", `command="$HOME/openclaw"`, nil, "command"},
		{OpenRC, "command='/usr/bin/openclaw'", "command='/usr/bin/openclaw", nil, "command"},
		{OpenRC, "TERM/40/KILL/5", "INT", nil, "retry"},
		{RCD, " -- /usr/bin/openclaw gateway", " /usr/bin/openclaw gateway", nil, "no command line"},
		{RCD, "openclaw_user='openclaw'", "openclaw_user=claw", func(u *Unit) { u.User = "claw" }, ""},
	} {
		u := plain(c.t)
		text, err := Render(c.t, u)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Contains(text, []byte(c.old)) {
			t.Fatalf("%s does not contain %q", c.t, c.old)
		}
		back, err := Parse(c.t, bytes.ReplaceAll(text, []byte(c.old), []byte(c.new)))
		if c.err != "" {
			if err == nil || !strings.Contains(err.Error(), c.err) {
				t.Errorf("%s %q: %v, want an error about %s", c.t, c.new, err, c.err)
			}
			continue
		}
		want := carried(c.t, u)
		c.want(&want)
		if err != nil || !reflect.DeepEqual(back, want) {
			t.Errorf("%s %q: %v\n got %+v\nwant %+v", c.t, c.new, err, back, want)
		}
	}
}

func TestDiff(t *testing.T) {
	a := "one\ntwo\nthree\nfour\nfive\nsix\nseven\neight\nnine\nten\neleven\n"
	b := strings.Replace(strings.Replace(a, "two\n", "2\nzwei\n", 1), "eleven\n", "eleven", 1)
	want := "--- old\n+++ new\n@@ -1,5 +1,6 @@\n one\n-two\n+2\n+zwei\n three\n four\n five\n@@ -8,4 +9,4 @@\n eight\n nine\n ten\n-eleven\n+eleven\n\\ No newline at end of file\n"
	if got := Diff("old", "new", []byte(a), []byte(b)); got != want {
		t.Errorf("got\n%s", got)
	}
	if got := Diff("old", "new", []byte(a), []byte(a)); got != "" {
		t.Errorf("equal texts differ:\n%s", got)
	}
	if got := Diff("old", "new", nil, []byte("x\n")); got != "--- old\n+++ new\n@@ -0,0 +1,1 @@\n+x\n" {
		t.Errorf("from nothing:\n%s", got)
	}
	long := bytes.Repeat([]byte("x\n"), 5000)
	if got := Diff("old", "new", long, append([]byte("y\n"), long...)); strings.Count(got, "\n") != 2+1+5000+5001 {
		t.Errorf("a long one has %d lines", strings.Count(got, "\n"))
	}
}

// TestDiffPatches: what Diff says makes the new text of the old one.
func TestDiffPatches(t *testing.T) {
	patch, err := exec.LookPath("patch")
	if err != nil {
		t.Skip("no patch(1)")
	}
	for _, f := range Formats() {
		for _, v := range variants[1:] {
			u := plain(f.Target)
			old, err := Render(f.Target, u)
			if err != nil {
				t.Fatal(err)
			}
			v.change(f.Target, &u)
			new, err := Render(f.Target, u)
			if err != nil {
				t.Fatal(err)
			}
			file := filepath.Join(t.TempDir(), "unit")
			if err := os.WriteFile(file, old, 0o600); err != nil {
				t.Fatal(err)
			}
			cmd := exec.Command(patch, "--silent", "--posix", file)
			cmd.Stdin = strings.NewReader(Diff("unit", "unit", old, new))
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			if got, _ := os.ReadFile(file); !bytes.Equal(got, new) {
				t.Errorf("%s %s: patched to something else", f.Target, v.name)
			}
		}
	}
}

// run is an oracle's answer as JSON.
func run(t *testing.T, out any, stdin []byte, name string, args ...string) {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Skipf("no %s", name)
	}
	cmd := exec.Command(path, args...)
	cmd.Stdin = bytes.NewReader(stdin)
	raw, err := cmd.Output()
	if err != nil {
		var exit *exec.ExitError
		if e, ok := err.(*exec.ExitError); ok {
			exit = e
			t.Fatalf("%s: %v: %s", name, err, exit.Stderr)
		}
		t.Fatalf("%s: %v", name, err)
	}
	if err := json.Unmarshal(raw, out); err != nil {
		t.Fatalf("%s: %v: %s", name, err, raw)
	}
}
