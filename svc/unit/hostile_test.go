package unit

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// carriable are values that mean something to one of the formats and yet can
// be carried by all; refused are those that none may carry.
var (
	carriable = map[string]string{
		"space": "a b  c", "quotes": `it's a "name"`, "specifier": "%h", "percent": "%%", "variable": "$X", "braces": "${X}", "dollars": "$$",
		"command": "$(id) `id`", "semicolon": "a;b ; c", "prefixes": "-@+!:x", "dash": "-x", "equals": "A=B", "hash": "# x", "backslash": `a\b`, "escape": `\n\x41\u263a`,
		"trailing backslash": `a\`, "trailing quote": `a"`, "apostrophe": `'`, "markup": `]]></string><key>x</key>&amp;`, "comment": "-->", "glob": "*?[a]{b,c}~!",
		"non-ASCII": "Größe 日本 🦞", "pipe": "a|b>c<d&", "long": strings.Repeat("0123456789/", 80) + "x",
	}
	refused = map[string]string{
		"newline": "a\nExecStartPre=/bin/false", "return": "a\rb", "tab": "a\tb", "NUL": "a\x00b", "escape": "a\x1b]52;c;x\x07", "delete": "a\x7fb", "C1": "a\u0085b",
		"line separator": "a\u2028b", "paragraph separator": "a\u2029b", "bidi": "a\u202eb", "zero width": "a\u200bb", "byte order": "\ufeffa",
		"0xff": "a\xffb", "half a rune": "a\xe6\x97", "surrogate": "a\xed\xa0\x80b", "noncharacter": "a\uffffb", "4 KiB": strings.Repeat("x", 4096),
	}
)

// fields are all places of a unit that a stranger's text may reach.
var fields = map[string]func(u *Unit, v string){
	"program":         func(u *Unit, v string) { u.Program = "/opt/" + v },
	"state directory": func(u *Unit, v string) { u.StateDir = "/srv/" + v },
	"configuration":   func(u *Unit, v string) { u.ConfigPath = "/srv/" + v + "/openclaw.json" },
	"workspace":       func(u *Unit, v string) { u.Workspaces = []string{"/srv/" + v} },
	"environment":     func(u *Unit, v string) { u.Env = []Var{{"NOTE", v}, {"LAST", "1"}} },
	"profile":         func(u *Unit, v string) { u.Profile = v },
	"name":            func(u *Unit, v string) { u.Env = []Var{{v, "1"}} },
	"user":            func(u *Unit, v string) { u.User = v },
	"group":           func(u *Unit, v string) { u.Group = v },
	"home directory":  func(u *Unit, v string) { u.Home = "/srv/" + v },
	"log directory":   func(u *Unit, v string) { u.LogDir = "/srv/" + v },
	"credentials":     func(u *Unit, v string) { u.Credentials = []Credential{{v, "/etc/x"}} },
	"credential path": func(u *Unit, v string) { u.Credentials = []Credential{{"x", "/srv/" + v}} },
}

// words are what an error says instead of the name of a field of the table.
var words = map[string]string{"name": "environment", "credential path": "credentials"}

type hostile struct {
	name string
	t    Target
	u    Unit
	text []byte
}

// accepted renders every hostile value in every field for every target, checks
// the refusals, and returns what was rendered.
func accepted(t *testing.T) []hostile {
	var out []hostile
	for _, f := range Formats() {
		for field, set := range fields {
			for name, v := range carriable {
				u := plain(f.Target)
				set(&u, v)
				text, err := Render(f.Target, u)
				h := hostile{fmt.Sprintf("%s: %s: %s", f.Target, field, name), f.Target, u, text}
				if err == nil {
					out = append(out, h)
					continue
				}
				if exact := []string{"workspace", "state directory", "configuration", "environment"}; slices.Contains(exact, field) && !(f.Target == SystemdUser && name == "prefixes") {
					t.Errorf("%s: refused: %v", h.name, err)
				}
				named(t, h.name, field, v, err)
			}
			for name, v := range refused {
				u := plain(f.Target)
				set(&u, v)
				name = fmt.Sprintf("%s: %s: %s", f.Target, field, name)
				if _, err := Render(f.Target, u); err == nil {
					if reads := carried(f.Target, u); !reflect.DeepEqual(reads, carried(f.Target, plain(f.Target))) && !(field == "environment" && len(v) == 4096) {
						t.Errorf("%s: not refused", name)
					}
				} else {
					named(t, name, field, v, err)
				}
			}
		}
	}
	return out
}

// named wants an error to say which field, and not what was in it.
func named(t *testing.T, name, field, value string, err error) {
	t.Helper()
	want := field
	if w := words[field]; w != "" {
		want = w
	}
	if !strings.Contains(err.Error(), want) {
		t.Errorf("%s: %v does not name the field", name, err)
	}
	if len(value) > 4 && strings.Contains(err.Error(), value) {
		t.Errorf("%s: %v shows the value", name, err)
	}
}

func TestHostile(t *testing.T) {
	for _, h := range accepted(t) {
		back, err := Parse(h.t, h.text)
		if want := carried(h.t, h.u); err != nil || !reflect.DeepEqual(back, want) {
			t.Errorf("%s: %v\n got %+v\nwant %+v", h.name, err, back, want)
		}
	}
	for _, port := range []int{-1, 65536, 1 << 30} {
		for _, f := range Formats() {
			u := plain(f.Target)
			u.Port = port
			if _, err := Render(f.Target, u); err == nil || !strings.Contains(err.Error(), "port") {
				t.Errorf("%s: port %d: %v", f.Target, port, err)
			}
		}
	}
}

// TestRefused: what is well-formed and would not work or not be safe.
func TestRefused(t *testing.T) {
	for _, c := range []struct {
		targets []Target // none: all
		field   string
		change  func(*Unit)
	}{
		{nil, "program", func(u *Unit) { u.Program = "openclaw" }},
		{nil, "program", func(u *Unit) { u.Program = "" }},
		{nil, "program", func(u *Unit) { u.Program = "/usr//bin/openclaw" }},
		{nil, "program", func(u *Unit) { u.Program = "/usr/bin/../bin/openclaw" }},
		{nil, "state directory", func(u *Unit) { u.StateDir = "/var/lib/openclaw/" }},
		{nil, "state directory", func(u *Unit) { u.StateDir = "/var/lib/open claw " }},
		{nil, "state directory", func(u *Unit) { u.StateDir = "/" }},
		{nil, "state directory", func(u *Unit) { u.StateDir = "~/.openclaw" }},
		{nil, "configuration", func(u *Unit) { u.ConfigPath = "openclaw.json" }},
		{nil, "workspace", func(u *Unit) { u.Workspaces = []string{"/srv/a", "b"} }},
		{nil, "profile", func(u *Unit) { u.Profile = "default" }},
		{nil, "profile", func(u *Unit) { u.Profile = "Rescue" }},
		{nil, "profile", func(u *Unit) { u.Profile = "-x" }},
		{nil, "grace", func(u *Unit) { u.Grace = -1 }},
		{nil, "OPENAI_API_KEY", func(u *Unit) { u.Env = []Var{{"OPENAI_API_KEY", "x"}} }},
		{nil, "OPENCLAW_GATEWAY_TOKEN", func(u *Unit) { u.Env = []Var{{"OPENCLAW_GATEWAY_TOKEN", "x"}} }},
		{nil, "db_password", func(u *Unit) { u.Env = []Var{{"db_password", "x"}} }},
		{nil, "My_Secret", func(u *Unit) { u.Env = []Var{{"My_Secret", "x"}} }},
		{nil, "HTTPS_PROXY", func(u *Unit) { u.Env = []Var{{"HTTPS_PROXY", "http://user:hunter2@proxy:8080"}} }},
		{nil, "https_proxy", func(u *Unit) { u.Env = []Var{{"https_proxy", "user:hunter2@proxy:8080"}} }},
		{nil, "twice", func(u *Unit) { u.Env = []Var{{"A", "x"}, {"A", "y"}} }},
		{nil, "OPENCLAW_STATE_DIR", func(u *Unit) { u.Env = []Var{{"OPENCLAW_STATE_DIR", "/srv/x"}} }},
		{[]Target{SystemdUser, SystemdSystem, OpenRC, RCD}, "program", func(u *Unit) { u.Program = "/opt/$HOME/openclaw" }},
		{[]Target{SystemdUser}, "home directory", func(u *Unit) { u.ConfigPath = "/home/alice/openclaw.json" }},
		{[]Target{SystemdUser}, "home directory", func(u *Unit) { u.StateDir = "/home" }},
		{[]Target{SystemdUser}, "separator", func(u *Unit) { u.StateDir = "/srv/a:b" }},
		{[]Target{SystemdSystem}, "/home", func(u *Unit) { u.Workspaces = []string{"/home/alice/notes"} }},
		{[]Target{SystemdSystem}, "program", func(u *Unit) { u.Program = "/root/bin/openclaw" }},
		{[]Target{SystemdSystem}, "state directory", func(u *Unit) { u.StateDir = "/tmp/openclaw" }},
		{[]Target{SystemdSystem, OpenRC, RCD}, "user", func(u *Unit) { u.User = "root" }},
		{[]Target{SystemdSystem, OpenRC, RCD}, "user", func(u *Unit) { u.User = "" }},
		{[]Target{SystemdSystem, OpenRC, RCD}, "group", func(u *Unit) { u.Group = "0" }},
		{[]Target{SystemdSystem}, "ports", func(u *Unit) { u.Ports = []int{18789, 0} }},
		{[]Target{Launchd}, "log directory", func(u *Unit) { u.LogDir = "" }},
		{[]Target{Launchd}, "profile", func(u *Unit) { u.Profile = "gateway" }},
		{[]Target{RCD}, "profile", func(u *Unit) { u.Profile = "a-b" }},
		{[]Target{Launchd, OpenRC, RCD}, "credentials", func(u *Unit) { u.Credentials = []Credential{{"a", "/etc/a"}} }},
		{[]Target{SystemdSystem}, "credentials", func(u *Unit) { u.Credentials = []Credential{{"a", "etc/a"}} }},
		{[]Target{SystemdSystem}, "credentials", func(u *Unit) { u.Credentials = []Credential{{"a", "/etc/a"}, {"a", "/etc/b"}} }},
	} {
		for _, f := range Formats() {
			if c.targets != nil && !slices.Contains(c.targets, f.Target) {
				continue
			}
			u := plain(f.Target)
			c.change(&u)
			if _, err := Render(f.Target, u); err == nil || !strings.Contains(err.Error(), c.field) || strings.Contains(err.Error(), "hunter2") {
				t.Errorf("%s: %v, want one about %s", f.Target, err, c.field)
			}
		}
	}
}

// TestPlistlib has Python read every property list: its values are the
// intended ones, and there are no others.
func TestPlistlib(t *testing.T) {
	var all []hostile
	for _, h := range accepted(t) {
		if h.t == Launchd {
			all = append(all, h)
		}
	}
	for _, v := range variants {
		u := plain(Launchd)
		v.change(Launchd, &u)
		text, err := Render(Launchd, u)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, hostile{v.name, Launchd, u, text})
	}
	dir := t.TempDir()
	args := []string{"-c", "import sys,json,plistlib; print(json.dumps([plistlib.load(open(f,'rb')) for f in sys.argv[1:]]))"}
	for i, h := range all {
		file := filepath.Join(dir, fmt.Sprint(i))
		if err := os.WriteFile(file, h.text, 0o600); err != nil {
			t.Fatal(err)
		}
		args = append(args, file)
	}
	var read []map[string]any
	run(t, &read, nil, "python3", args...)
	for i, h := range all {
		env := map[string]any{}
		for _, v := range environment(h.u) {
			env[v.Name] = v.Value
		}
		var argv []any
		for _, a := range h.u.Argv() {
			argv = append(argv, a)
		}
		limits := map[string]any{"Core": 0., "NumberOfFiles": 4096.}
		want := map[string]any{
			"Label": h.u.Label(), "ProgramArguments": argv, "EnvironmentVariables": env, "RunAtLoad": true,
			"KeepAlive": map[string]any{"SuccessfulExit": false, "Crashed": true}, "ThrottleInterval": 10., "ExitTimeOut": 40.,
			"AbandonProcessGroup": false, "ProcessType": "Background", "Umask": 63., "SoftResourceLimits": limits, "HardResourceLimits": limits,
			"StandardOutPath": h.u.LogDir + "/" + h.u.Name() + ".out.log", "StandardErrorPath": h.u.LogDir + "/" + h.u.Name() + ".err.log",
		}
		if !reflect.DeepEqual(read[i], want) {
			t.Errorf("%s:\n got %v\nwant %v", h.name, read[i], want)
		}
	}
	t.Logf("%d property lists", len(all))
}

// shellProbe sources a script as its supervisor does, with everything outside
// it replaced, and tells what the supervisor would see. What openrc-run and
// rc.subr expand a second time is expanded a second time.
const shellProbe = `
checkpath() { printf 'checkpath\0'; printf '%s\0' "$@"; }
install() { printf 'install\0'; printf '%s\0' "$@"; }
eerror() { printf 'complaint\0%s\0' "$1"; }
warn() { eerror "$1"; }
load_rc_config() { :; }
run_rc_command() { printf 'run %s\0' "$1"; }
script=$1
set -- start
. "$script"
eval "set -- $command $command_args"
printf 'argv\0'; printf '%s\0' "$@"
printf 'env\0'; printf '%s\0' "$OPENCLAW_PROFILE" "$OPENCLAW_STATE_DIR" "$OPENCLAW_CONFIG_PATH" "$NOTE" "$LAST"
sh -c 'printf "%s\0" "$OPENCLAW_STATE_DIR"'
if [ -n "$command_user" ]; then start_pre; else openclaw_prestart; fi || printf 'refuses\0'
`

// TestShell has sh check and source every script.
func TestShell(t *testing.T) {
	sh, err := exec.LookPath("sh")
	if err != nil {
		t.Skip("no sh")
	}
	dir := t.TempDir()
	subr, file := filepath.Join(dir, "rc.subr"), filepath.Join(dir, "script")
	if err := os.WriteFile(subr, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(dir, "openclaw.json") // one that exists
	if err := os.WriteFile(config, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	all := accepted(t)
	for _, target := range []Target{OpenRC, RCD} {
		for _, path := range []string{config, "/nowhere/openclaw.json"} {
			u := plain(target)
			u.ConfigPath, u.Profile, u.Port = path, "rescue", 19001
			text, err := Render(target, u)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, hostile{fmt.Sprintf("%s with %s", target, path), target, u, text})
		}
	}
	ran := 0
	for _, h := range all {
		if h.t != OpenRC && h.t != RCD {
			continue
		}
		ran++
		text := strings.Replace(string(h.text), "/etc/rc.subr", subr, 1)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.Command(sh, "-n", file).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v: %s", h.name, err, out)
		}
		cmd := exec.Command(sh, "-c", shellProbe, "probe", file)
		cmd.Env, cmd.Dir = []string{"PATH=" + os.Getenv("PATH")}, dir
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v: %s", h.name, err, out)
		}
		u, n := h.u, rcName(h.u)
		want := []string{"argv"}
		if h.t == RCD {
			run := "/var/run/" + n
			want = []string{"run start", "argv", "/usr/sbin/daemon", "-f", "-r", "-R", "10", "-S", "-T", n, "-P", run + ".pid", "-p", run + ".child.pid", "-u", u.User, "--"}
		}
		note, last := "", ""
		if len(u.Env) == 2 {
			note, last = u.Env[0].Value, u.Env[1].Value
		}
		want = append(append(want, u.Argv()...), "env", environment(u)[0].Value, u.StateDir, u.ConfigPath, note, last, u.StateDir)
		switch {
		case u.ConfigPath != config:
			want = append(want, "complaint", "there is no configuration: "+u.ConfigPath, "refuses")
		case h.t == OpenRC:
			want = append(want, "checkpath", "--directory", "--mode", "0700", "--owner", u.User+":"+u.Group, u.StateDir)
		default:
			want = append(want, "install", "-d", "-m", "0700", "-o", u.User, "-g", u.Group, u.StateDir)
		}
		if got := strings.Split(strings.TrimSuffix(string(out), "\x00"), "\x00"); !slices.Equal(got, want) {
			t.Errorf("%s:\n got %q\nwant %q", h.name, got, want)
		}
	}
	t.Logf("%d scripts", ran)
}

// notThere is what systemd says of a program that is not installed; it shows
// the path that it read.
var notThere = regexp.MustCompile(`(?m)^(.*\.service): Command (.*) is not executable: No such file or directory\n`)

// TestSystemdAnalyze has systemd's own parser read every unit: it has nothing
// to say but that the program is not there, by its exact name.
func TestSystemdAnalyze(t *testing.T) {
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("no systemd-analyze")
	}
	all := accepted(t)
	for _, target := range []Target{SystemdUser, SystemdSystem} {
		for _, v := range variants {
			u := plain(target)
			v.change(target, &u)
			text, err := Render(target, u)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, hostile{string(target) + " " + v.name, target, u, text})
		}
	}
	dir := t.TempDir()
	for _, target := range []Target{SystemdUser, SystemdSystem} {
		args := []string{"--man=no", "verify"}
		if target == SystemdUser {
			args = append([]string{"--user"}, args...)
		}
		units := map[string]hostile{}
		for i, h := range all {
			if h.t == target {
				name := fmt.Sprintf("%s-%d.service", target, i)
				units[name] = h
				if err := os.WriteFile(filepath.Join(dir, name), h.text, 0o600); err != nil {
					t.Fatal(err)
				}
				args = append(args, filepath.Join(dir, name))
			}
		}
		// One that is wrong shows that the others are looked at.
		control := filepath.Join(dir, string(target)+"-control.service")
		if err := os.WriteFile(control, append(slices.Clone(all[len(all)-1].text), "Foo=bar\n"...), 0o600); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(analyze, append(args, control)...)
		cmd.Env = append(os.Environ(), "XDG_RUNTIME_DIR="+dir, "SYSTEMD_LOG_LEVEL=info", "LC_ALL=C.UTF-8")
		out, _ := cmd.CombinedOutput() // fails where the program is not there
		if !strings.Contains(string(out), "Unknown key 'Foo'") {
			t.Errorf("a wrong unit is not noticed:\n%s", out)
		}
		for _, m := range notThere.FindAllStringSubmatch(string(out), -1) {
			if h, ok := units[m[1]]; ok && h.u.Program != m[2] {
				t.Errorf("%s: systemd reads the program %s", h.name, m[2])
			}
		}
		for line := range strings.Lines(notThere.ReplaceAllString(string(out), "")) {
			if name := regexp.MustCompile(`systemd-\w+-\d+\.service`).FindString(line); name != "" {
				t.Errorf("%s: %s", units[name].name, line)
			}
		}
		t.Logf("%s: %d units", target, len(units))
	}
}
