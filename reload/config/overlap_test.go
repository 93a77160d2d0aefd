package config

import (
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestOverlaps tells what two instances share, each thing in one sentence.
func TestOverlaps(t *testing.T) {
	at := func(dir string, port int, workspaces ...string) Instance {
		return Instance{Name: "profile b", StateDir: dir, ConfigPath: dir + "/openclaw.json", Port: port, Workspaces: workspaces}
	}
	sameFile := at("/h/b", 20000)
	sameFile.ConfigPath = "/h/a/openclaw.json"
	for name, tc := range map[string]struct {
		a, b Instance
		want string
	}{
		"nothing":        {at("/h/a", 18789, "/h/a/workspace"), at("/h/b", 18900, "/h/b/workspace"), ""},
		"last port":      {at("/h/a", 18850), at("/h/b", 18740), "ports: port block 18850-18960 meets the block 18740-18850 of profile b: choose a gateway.port at least 111 apart"},
		"next port":      {at("/h/a", 18851), at("/h/b", 18740), ""},
		"same port":      {at("/h/a", 18789), at("/h/b", 18789), "ports: port block 18789-18899 meets the block 18789-18899 of profile b: choose a gateway.port at least 111 apart"},
		"unknown port":   {at("/h/a", 0), at("/h/b", 0), ""},
		"state":          {at("/h/b", 1, "/h/b/w"), at("/h/b", 1, "/h/b/w"), "stateDir: state directory /h/b is also that of profile b: give each its own OPENCLAW_STATE_DIR or profile"},
		"config":         {at("/h/a", 18789), sameFile, "configPath: configuration file /h/a/openclaw.json is also that of profile b: give each its own OPENCLAW_CONFIG_PATH"},
		"workspace":      {at("/h/a", 0, "/h/a/w", "/h/w"), at("/h/b", 0, "/h/w", "/h/b/w"), "workspace: workspace /h/w is also that of profile b: give each its own agents.defaults.workspace"},
		"within":         {at("/h/a", 0, "/h/w/x"), at("/h/b", 0, "/h/w"), "workspace: workspace /h/w/x lies in the workspace /h/w of profile b: give each its own agents.defaults.workspace"},
		"around":         {at("/h/a", 0, "/h"), at("/h/b", 0, "/h/b/w"), "workspace: workspace /h holds the workspace /h/b/w of profile b: give each its own agents.defaults.workspace"},
		"root":           {at("/h/a", 0, "/"), at("/h/b", 0, "/w"), "workspace: workspace / holds the workspace /w of profile b: give each its own agents.defaults.workspace"},
		"like the name":  {at("/h/a", 0, "/h/w"), at("/h/b", 0, "/h/ww"), ""},
		"around state":   {at("/h/a", 0, "/h"), at("/h/b", 0, "/w"), "workspace: workspace /h holds the state directory /h/b of profile b: give each its own agents.defaults.workspace"},
		"state in other": {at("/h/a", 0, "/w"), at("/h/b", 0, "/h"), "workspace: state directory /h/a lies in the workspace /h of profile b: give each its own agents.defaults.workspace"},
		"two": {at("/h/a", 18789, "/h/w"), at("/h/b", 18700, "/h/w"), "ports: port block 18789-18899 meets the block 18700-18810 of profile b: choose a gateway.port at least 111 apart\n" +
			"workspace: workspace /h/w is also that of profile b: give each its own agents.defaults.workspace"},
	} {
		t.Run(name, func(t *testing.T) {
			var got []string
			for _, o := range Overlaps(tc.a, tc.b) {
				got = append(got, o.What+": "+o.Text)
				if o.Refused() != (o.What != SharedState) { // the lock sees to that one
					t.Errorf("%s: refused %v", o.What, o.Refused())
				}
			}
			if s := strings.Join(got, "\n"); s != tc.want {
				t.Errorf("got  %s\nwant %s", s, tc.want)
			}
			if back := Overlaps(tc.b, tc.a); len(back) != len(got) {
				t.Errorf("the other way round: %v", back)
			}
		})
	}
}

// TestBlocksMeet holds the arithmetic to the table of ports: two blocks meet
// exactly if they have a port in common.
func TestBlocksMeet(t *testing.T) {
	used := func(base int) (ports []int) {
		block, err := Block(base)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range block {
			for p := r.First; p <= r.Last; p++ {
				ports = append(ports, p)
			}
		}
		return ports
	}
	mine := used(20000)
	for base := 19850; base <= 20150; base++ {
		shared := slices.ContainsFunc(used(base), func(p int) bool { return slices.Contains(mine, p) })
		if BlocksMeet(20000, base) != shared || BlocksMeet(base, 20000) != shared {
			t.Errorf("20000 and %d: %v", base, !shared)
		}
	}
}

// home is a directory with files, each with directories on its way.
func home(t *testing.T, files map[string]string) string {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if target, ok := strings.CutPrefix(text, "-> "); ok {
			err = os.Symlink(filepath.Join(dir, target), path)
		} else {
			err = os.WriteFile(path, []byte(text), 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func readFile(path string, _ int64, secret bool) ([]byte, error) {
	if secret {
		return nil, fs.ErrInvalid
	}
	return os.ReadFile(path)
}

// TestMeet looks at other state directories of a home as they may be found there.
func TestMeet(t *testing.T) {
	for name, tc := range map[string]struct {
		files       map[string]string
		mine        string // configuration of profile a
		other       string // directory
		running     bool
		meets       bool
		port        int
		shares, err string
	}{
		"self":              {mine: `{}`, other: ".openclaw-a", running: true},
		"empty directory":   {mine: `{}`, other: ".openclaw-b"},
		"no configuration":  {mine: `{}`, other: ".openclaw-b", running: true, meets: true},
		"default port":      {files: map[string]string{".openclaw/openclaw.json": `{}`}, mine: `{}`, other: ".openclaw", meets: true, port: 18789, shares: "ports"},
		"own port":          {files: map[string]string{".openclaw-b/openclaw.json": `{gateway:{port:18900}}`}, mine: `{}`, other: ".openclaw-b", meets: true, port: 18900},
		"a variable of its": {files: map[string]string{".openclaw-b/openclaw.json": `{gateway:{port:18800,auth:{token:"${NOT_OURS}"}}}`}, mine: `{}`, other: ".openclaw-b", meets: true, port: 18800, shares: "ports"},
		"port unknown":      {files: map[string]string{".openclaw-b/openclaw.json": `{gateway:{port:"${NOT_OURS}"}}`}, mine: `{}`, other: ".openclaw-b", meets: true},
		"no JSON5":          {files: map[string]string{".openclaw-b/openclaw.json": "{\n hush-hush-hush"}, mine: `{}`, other: ".openclaw-b", meets: true, err: "openclaw.json:2:6: not JSON5"},
		"a directory":       {files: map[string]string{".openclaw-b/openclaw.json/x": ""}, mine: `{}`, other: ".openclaw-b", meets: true, err: "openclaw.json"},
		"a secret":          {files: map[string]string{".openclaw-b/openclaw.json": `{gateway:{port:1,auth:{token:"file:t"}}}`, ".openclaw-b/t": "x"}, mine: `{}`, other: ".openclaw-b", meets: true, port: 1},
		"workspaces by link": {
			files: map[string]string{".openclaw-b/openclaw.json": `{gateway:{port:1},agents:{list:[{id:"x"},{id:"y",workspace:"~/link/y"}]}}`, "link": "-> desk", "desk/y/f": ""},
			mine:  `{agents:{defaults:{workspace:"~/desk"}}}`, other: ".openclaw-b", meets: true, port: 1, shares: "workspace",
		},
		"workspaces not made yet": {
			files: map[string]string{".openclaw-b/openclaw.json": `{gateway:{port:1},agents:{defaults:{workspace:"~/link/new/w"}}}`, "link": "-> desk", "desk/f": ""},
			mine:  `{agents:{defaults:{workspace:"~/desk/new"}}}`, other: ".openclaw-b", meets: true, port: 1, shares: "workspace",
		},
		"a link to ours":            {files: map[string]string{".openclaw-b": "-> .openclaw-a"}, mine: `{}`, other: ".openclaw-b", running: true, meets: true, port: 18789, shares: "stateDir"},
		"a link to our file":        {files: map[string]string{".openclaw-b/openclaw.json": "-> .openclaw-a/openclaw.json"}, mine: `{gateway:{port:5}}`, other: ".openclaw-b", meets: true, port: 5, shares: "configPath ports"},
		"a name that is no profile": {files: map[string]string{".openclaw-Old/openclaw.json": `{gateway:{port:1}}`}, mine: `{}`, other: ".openclaw-Old", meets: true, port: 1},
	} {
		t.Run(name, func(t *testing.T) {
			if tc.files == nil {
				tc.files = map[string]string{}
			}
			tc.files[".openclaw-a/openclaw.json"] = tc.mine
			dir := home(t, tc.files)
			p, err := Resolve("a", nil, dir)
			if err != nil {
				t.Fatal(err)
			}
			c := mustParse(t, tc.mine, nil).Config
			n := Neighbour{StateDir: filepath.Join(dir, tc.other), Running: tc.running, PID: 7}
			meets := p.Meet(p.Instance(c, c.Gateway.Port), &n, Source{ReadFile: readFile})
			if !meets && !tc.meets {
				return
			}
			var shares []string
			for _, o := range n.Shares {
				shares = append(shares, o.What)
				if !strings.Contains(o.Text, n.String()) {
					t.Errorf("%q does not name %s", o.Text, &n)
				}
			}
			if got := strings.Join(shares, " "); meets != tc.meets || got != tc.shares || n.Port != tc.port || !strings.Contains(n.Error, tc.err) || (n.Error == "") != (tc.err == "") {
				t.Errorf("%v, port %d, shares %q, error %q", meets, n.Port, n.Shares, n.Error)
			}
			if strings.Contains(n.Error, "hush") {
				t.Errorf("tells what is in the file: %s", n.Error)
			}
			want, profile := map[bool]string{true: "(pid 7", false: "configured but not running"}[tc.running], strings.TrimPrefix(tc.other, ".openclaw-")
			switch tc.other {
			case ".openclaw":
				profile = "default"
			case ".openclaw-Old":
				profile = ""
			}
			if s := n.String(); n.Profile != profile || !strings.Contains(s, want) || !strings.Contains(s, firstOf(profile, n.StateDir)) {
				t.Errorf("profile %q, %s", n.Profile, s)
			}
		})
	}
}

// TestRunningPort: what runs is where it says, whatever its file says by now.
func TestRunningPort(t *testing.T) {
	dir := home(t, map[string]string{".openclaw/openclaw.json": `{gateway:{port:18789}}`})
	p, err := Resolve("a", nil, dir)
	if err != nil {
		t.Fatal(err)
	}
	n := Neighbour{StateDir: filepath.Join(dir, ".openclaw"), Running: true, PID: 7, Port: 30000}
	if !p.Meet(p.Instance(Default(), 18789), &n, Source{ReadFile: readFile}) || len(n.Shares) != 0 || n.Port != 30000 {
		t.Errorf("%+v", n)
	}
}

// TestHomeByLink: the same place by another path is no neighbour.
func TestHomeByLink(t *testing.T) {
	dir := home(t, map[string]string{"real/.openclaw/openclaw.json": `{}`, "link": "-> real"})
	env := mapEnv(map[string]string{"OPENCLAW_STATE_DIR": filepath.Join(dir, "real/.openclaw")})
	p, err := Resolve("", env, filepath.Join(dir, "link"))
	if err != nil {
		t.Fatal(err)
	}
	n := Neighbour{StateDir: filepath.Join(dir, "link/.openclaw"), Running: true}
	if p.Meet(p.Instance(Default(), 18789), &n, Source{ReadFile: readFile}) {
		t.Errorf("met itself: %+v", n)
	}
}
