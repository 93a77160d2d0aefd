package svc

import (
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"openclaw/gateway/store"
	"openclaw/reload/config"
	"openclaw/wire"
)

const commented = `// mine
{
  gateway: { port: 18789, /* ours */ auth: { token: "${GW}" } }, // end
  logging: { level: "info", },
}
`

// TestConfigWrite changes files by command: what becomes of them to the byte,
// and what the person is told.
func TestConfigWrite(t *testing.T) {
	const invalid = "{\n  gateway: { prot: 1, bind: \"everywhere\" },\n}\n"
	replaced := func(old, new string) string { return strings.Replace(commented, old, new, 1) }
	for _, k := range []struct {
		line  string // words of the command; _ is a space in a word
		stdin string
		file  string
		code  int
		out   string
		err   []string // parts of stderr
		want  string   // the file; "" = as before
	}{
		{"set gateway.port 18800", "", commented, 0, "gateway.port: restart\n", nil, replaced("18789", "18800")},
		{"set logging.level debug", "", commented, 0, "logging.level: hot\n", nil, replaced(`"info"`, `"debug"`)},
		{"set logging.level debug --dry-run", "", commented, 0, "logging.level: hot\n", nil, commented},
		{"set logging.level info", "", commented, 0, "no change\n", nil, commented},
		{"set logging.level -", "warn\n", commented, 0, "logging.level: hot\n", nil, replaced(`"info"`, `"warn"`)},
		{"set gateway.port -- -5", "", commented, 1, "", []string{"openclaw: gateway.port: must be", "hint: nothing was written"}, ""},
		{"set logging.level loud", "", commented, 1, "", []string{"openclaw: logging.level: must be"}, ""},
		{"set gateway.port -5", "", commented, 1, "", []string{"openclaw: gateway.port: must be between"}, ""},
		{"set logging.rotation.enabled on", "", commented, 1, "", []string{"hint: write true or false; nothing was written"}, ""},
		{"set tools.deny exec", "", commented, 1, "", []string{`hint: write a list: '["exec"]'; nothing was written`}, ""},
		{"set tools.deny [exec", "", commented, 1, "", []string{"openclaw: value: 1:2: expected a value"}, ""},
		{"set agents.list[mian].name x", "", strings.Replace(commented, "{", "{ agents: { list: [{ id: 'main' }] },", 1), 1, "", []string{"there are main"}, ""},
		{"set logging.levle debug", "", commented, 1, "", []string{"did you mean level?"}, ""},
		{"set logging.level info --base-hash " + config.Hash([]byte(commented)), "", commented, 0, "no change\n", nil, ""},
		{"set logging.level debug --base-hash 00", "", commented, 1, "", []string{"not the one of --base-hash", "config show --source"}, ""},

		{"unset logging.level", "", commented, 0, "no key changes its value\n", nil, replaced(` level: "info", `, "")},
		{"unset logging.format", "", commented, 1, "", []string{"not set in the file"}, ""},
		{"unset gateway.port --dry-run", "", replaced("18789", "18800"), 0, "gateway.port: restart\n", nil, ""},

		{"patch", `{logging: {level: "debug"}}`, commented, 0, "logging.level: hot\n", nil, replaced(`"info"`, `"debug"`)},
		{"patch -", `{"gateway": {"port": 18800}}`, commented, 0, "gateway.port: restart\n", nil, replaced("18789", "18800")},
		{"patch", `{logging: {level: 5}}`, commented, 1, "", []string{"openclaw: logging.level: must be a string"}, ""},
		{"patch {logging:{}}", "", commented, 2, "", []string{"give a FILE, or the patch on stdin"}, ""},
		{"set gateway {}", "", commented, 1, "", []string{"gateway.auth.token is not set, and no gateway starts without one", "--allow-shrink"}, ""},
		{"set gateway {} --allow-shrink", "", commented, 0, "gateway.auth.token: hot\n", nil, replaced(`{ port: 18789, /* ours */ auth: { token: "${GW}" } }`, "{}")},
		{"unset gateway.auth.token", "", commented, 1, "", []string{"secret away"}, ""},
		{"set gateway.auth.mode password", "", commented, 1, "", []string{"gateway.auth.password is not set"}, ""},
		{"unset gateway.prot --dry-run", "", invalid, 0, "", []string{"openclaw: still wrong: gateway.bind: "}, ""},
		{"patch", "{", commented, 1, "", []string{"openclaw: stdin:1:2: "}, ""},
		{"patch nothing.json", "", commented, 1, "", []string{"no such file"}, ""},
		{"patch", "{gateway: null, logging: null}", strings.Repeat("// long\n", 200) + commented, 1, "", []string{"almost nothing", "--allow-shrink"}, ""},

		{"set gateway.auth.token 3f9c2b7a51d84e06b1c7f02a9d6e8543", "", commented, 2, "", []string{"gateway.auth.token is a secret", "config set gateway.auth.token - < FILE"}, ""},
		{"set gateway.auth {token:'3f9c2b7a51d84e06b1c7f02a9d6e8543'}", "", commented, 2, "", []string{"command line"}, ""},
		{"set models.providers.x.headers.X-Mine aaaabbbb", "", commented, 2, "", []string{"command line"}, ""},
		{"set models.providers.x {baseUrl:'https://me:pw@host/v1'}", "", commented, 2, "", []string{"command line"}, ""},
		{"set skills.entries.x.env.MINE aaaabbbb", "", commented, 2, "", []string{"command line"}, ""},
		{"set gateway.auth.token ${OTHER}", "", commented, 0, "gateway.auth.token: hot\n", nil, replaced("${GW}", "${OTHER}")},
		{"set gateway.auth.token file:$HOME/token", "", commented, 0, "gateway.auth.token: hot\n", nil, replaced("${GW}", "file:$HOME/token")},
		{"set gateway.auth.token -", "b1c7f02a9d6e85433f9c2b7a51d84e06\r\n", commented, 0, "gateway.auth.token: hot\n", nil, replaced("${GW}", "b1c7f02a9d6e85433f9c2b7a51d84e06")},
		{"set gateway.auth.token -", "tooweak\n", commented, 1, "", []string{"too weak"}, ""},

		// A file that is wrong is mended step by step; what is no JSON5 stays.
		{"unset gateway.prot", "", invalid, 0, "", []string{"still wrong: ", "gateway.bind"}, "{\n  gateway: { bind: \"everywhere\" },\n}\n"},
		{"set gateway.bind lan_", "", invalid, 1, "", []string{"gateway.bind"}, ""},
		{"set gateway.port 1", "", "{\n  gateway: port\n}", 1, "", []string{"openclaw.json:2:12: ", "nothing was written"}, ""},
		{"unset gateway.port", "", "[]", 1, "", []string{"nothing was written"}, ""},
	} {
		t.Run(k.line, func(t *testing.T) {
			c := newConsole(t)
			c.Stdin = strings.NewReader(k.stdin)
			c.vars = map[string]string{"GW": "5f0a7c3e91b24d68a7c0e3f1d2b49586", "OTHER": "a7c0e3f1d2b495865f0a7c3e91b24d68"}
			write(t, filepath.Join(c.Home, "token"), "91b24d68a7c05f0a7c3ee3f1d2b49586\n")
			path := write(t, filepath.Join(c.Home, ".openclaw", "openclaw.json"), k.file)
			line := strings.NewReplacer("$HOME", c.Home).Replace("config " + k.line)
			if code := c.main(strings.Fields(line)...); code != k.code {
				t.Errorf("exit %d, want %d", code, k.code)
			}
			if k.out != "" || k.code != 0 {
				if got := c.out.String(); got != k.out {
					t.Errorf("stdout %q, want %q", got, k.out)
				}
			}
			for _, part := range k.err {
				if !strings.Contains(c.err.String(), part) {
					t.Errorf("stderr %q, want %q", c.err.String(), part)
				}
			}
			if k.err == nil && c.err.Len() > 0 {
				t.Errorf("stderr %q", c.err.String())
			}
			want, written := k.file, k.want != "" && k.want != k.file
			if written {
				want = strings.ReplaceAll(k.want, "$HOME", c.Home)
			}
			if raw, err := os.ReadFile(path); string(raw) != want {
				t.Errorf("the file is %q, %v, want %q", raw, err, want)
			}
			if bak, err := os.ReadFile(path + ".bak"); (err == nil) != written || written && string(bak) != k.file {
				t.Errorf("the copy is %q, %v", bak, err)
			}
		})
	}
}

func TestConfigWriteJSON(t *testing.T) {
	c := newConsole(t)
	path := filepath.Join(c.Home, ".openclaw", "openclaw.json")
	var out configWritten
	run := func(code int, argv ...string) {
		t.Helper()
		out = configWritten{}
		if got := c.main(append(argv, "--json")...); got != code || json.Unmarshal(c.out.Bytes(), &out) != nil {
			t.Fatalf("%v: exit %d: %s%s", argv, got, c.out.String(), c.err.String())
		}
	}
	// Nothing is there yet, the directory included.
	run(0, "config", "set", "gateway.port", "18800", "--dry-run")
	if _, err := os.Stat(filepath.Dir(path)); err == nil || out.Written || !out.DryRun {
		t.Errorf("dry: %+v, %v", out, err)
	}
	run(0, "config", "set", "gateway.port", "18800")
	raw, err := os.ReadFile(path)
	if err != nil || !out.OK || !out.Written || out.Path != path || out.Hash != config.Hash(raw) || out.Backup != "" || len(out.Changes) != 1 || out.Changes[0] != (config.Change{Path: "gateway.port", Class: config.Restart}) {
		t.Errorf("%+v, %q, %v", out, raw, err)
	}
	if !strings.Contains(c.err.String(), "config set gateway.auth.token -") {
		t.Errorf("no word of a secret: %q", c.err.String())
	}
	for p, want := range map[string]fs.FileMode{path: 0o600, filepath.Dir(path): fs.ModeDir | 0o700} {
		if fi, err := os.Stat(p); err != nil || fi.Mode() != want {
			t.Errorf("%s: %v, %v", p, fi.Mode(), err)
		}
	}
	was := out.Hash
	run(0, "config", "set", "gateway.port", "18920", "--base-hash", was)
	if out.Backup != path+".bak" || out.Hash == was || out.Left == nil {
		t.Errorf("%+v", out)
	}
	run(1, "config", "set", "gateway.port", "18800", "--base-hash", was)
	if !strings.Contains(c.out.String(), `"CONFLICT"`) {
		t.Error(c.out.String())
	}
	run(0, "config", "set", "gateway.port", "18920")
	if out.Written || out.Backup != "" || len(out.Changes) != 0 {
		t.Errorf("%+v", out)
	}
	run(1, "config", "set", "gateway.port", "many")
	if !strings.Contains(c.out.String(), `"CONFIG_INVALID"`) {
		t.Error(c.out.String())
	}
	// A running gateway that does not look by itself has to be told.
	run(0, "config", "set", "gateway.hotReload.mode", "off")
	told := func() bool { return strings.Contains(c.err.String(), "waits for openclaw gateway reload") }
	if told() {
		t.Errorf("there is no gateway: %q", c.err.String())
	}
	d, err := store.Open(filepath.Dir(path))
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	for _, k := range []struct { // each is written under the mode of the one before
		key, value string
		waits      bool
	}{
		{"logging.level", "debug", true},
		{"gateway.hotReload.mode", "hot", true},
		{"logging.level", "info", false},
		{"gateway.port", "18800", true},
		{"gateway.hotReload.mode", "hybrid", false},
		{"gateway.port", "18920", false},
	} {
		if run(0, "config", "set", k.key, k.value); told() != k.waits {
			t.Errorf("%s %s: %q", k.key, k.value, c.err.String())
		}
	}
}

// TestConfigDiff compares a file with the profile's, without a gateway.
func TestConfigDiff(t *testing.T) {
	c := newConsole(t)
	write(t, filepath.Join(c.Home, ".openclaw", "openclaw.json"), `{gateway:{port:18800}}`)
	next := write(t, filepath.Join(c.Home, "next.json"), `{gateway:{port:18920},logging:{level:"debug"}}`)
	bad := write(t, filepath.Join(c.Home, "bad.json"), "{\n gateway:{prot:1}}")
	same := write(t, filepath.Join(c.Home, "same.json"), "{ /* nothing new */ gateway:{port:18800} }")
	for _, k := range []struct {
		argv     []string
		code     int
		out, err string
	}{
		{[]string{next}, 0, "gateway.port: restart\nlogging.level: hot\n", ""},
		{[]string{same}, 0, "no change\n", ""},
		{[]string{bad}, 1, "", "bad.json:2:"},
		{[]string{filepath.Join(c.Home, "none")}, 1, "", "there is no configuration at "},
	} {
		if code := c.main(append([]string{"config", "diff"}, k.argv...)...); code != k.code || c.out.String() != k.out || !strings.Contains(c.err.String(), k.err) {
			t.Errorf("%v: exit %d\n%s%s", k.argv, code, c.out.String(), c.err.String())
		}
	}
	if c.main("config", "diff", next, "--json"); !strings.Contains(c.out.String(), `"class": "restart"`) || !strings.Contains(c.out.String(), next) {
		t.Error(c.out.String())
	}
	if c.main("config", "diff", same, "--json"); !strings.Contains(c.out.String(), `"changes": []`) || !strings.Contains(c.out.String(), `"class": "none"`) {
		t.Error(c.out.String())
	}
	c.vars["OPENCLAW_GATEWAY_PORT"] = "1"
	if code := c.main("config", "diff"); code != ExitUnreachable {
		t.Errorf("without a gateway: exit %d", code)
	}
}

// TestReload shows what a gateway answers to gateway.reload.
func TestReload(t *testing.T) {
	for _, k := range []struct {
		answer   string // the payload, or an error
		argv     string
		code     int
		out, err string
	}{
		{`{"ok":true,"hash":"h","changes":[],"applied":["a.b","c"],"pending":[]}`, "gateway reload", 0, "applied: a.b, c\n", ""},
		{`{"ok":true,"hash":"h","changes":[],"applied":["a"],"pending":["gateway.port","x"],"restart":true}`, "daemon reload", 0, "applied: a\nrestarting for: gateway.port, x\n", ""},
		{`{"ok":true,"hash":"h","changes":[],"applied":[],"pending":["gateway.port"]}`, "gateway reload", 0, "pending: gateway.port\n", ""},
		{`{"ok":true,"hash":"h","changes":[],"applied":[],"pending":[]}`, "gateway reload", 0, "nothing changed\n", ""},
		{`{"ok":true,"hash":"h","changes":[{"path":"a","class":"hot"},{"path":"b\u001b","class":"none"}],"applied":[],"pending":["a"]}`, "config diff", 0, "a: hot\nb\\u{1b}: none\n", ""},
		{`{"ok":true,"hash":"h","changes":[],"applied":[],"pending":[]}`, "config diff", 0, "no change\n", ""},
		{"!", "gateway reload", 1, "", "openclaw: 3:5: gateway.prot: unknown key\nopenclaw: 4:1: no value\nhint: the running gateway stays as it is\n"},
		{"!", "config diff", 1, "", "openclaw: 3:5: gateway.prot: unknown key\nopenclaw: 4:1: no value\n"},
		{"?", "gateway reload", 1, "", "openclaw: gateway.reload: the port is taken\n"},
	} {
		t.Run(k.argv+" "+k.answer, func(t *testing.T) {
			dry := make(chan bool, 1)
			g := newFakeGateway(t, func(req wire.Request, send func([]byte)) {
				var q wire.ReloadQuery
				if err := wire.DecodeLoose(req.Params, &q); err != nil || req.Method != "gateway.reload" {
					t.Error(req.Method, err)
				}
				dry <- q.DryRun
				refused := wire.InvalidRequest("invalid config")
				switch k.answer {
				case "!":
					refused.Details = map[string]any{"issues": []wire.ConfigIssue{{Path: "gateway.prot", Line: 3, Column: 5, Message: "unknown key"}, {Line: 4, Column: 1, Message: "no value"}}}
				case "?":
					refused = wire.InvalidRequest("the port is taken")
				default:
					send(wire.AppendResponse(nil, req.ID, []byte(k.answer)))
					return
				}
				send(wire.AppendError(nil, req.ID, refused, nil))
			})
			c := newConsole(t)
			c.vars["OPENCLAW_GATEWAY_TOKEN"] = "right"
			argv := append(strings.Fields(k.argv), "--url", g.url())
			if code := c.main(argv...); code != k.code || c.out.String() != k.out || c.err.String() != k.err {
				t.Errorf("exit %d\nstdout %q\nstderr %q", code, c.out.String(), c.err.String())
			}
			if got := <-dry; got != (k.argv == "config diff") {
				t.Errorf("dryRun %v", got)
			}
			if code := c.main(append(argv, "--json")...); code != k.code || !json.Valid(c.out.Bytes()) {
				t.Errorf("--json: exit %d, %q", code, c.out.String())
			}
		})
	}
}
