package svc

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"openclaw/gateway/store"
	"openclaw/svc/unit"
)

func (c *console) want(t *testing.T, code int, contains string, argv ...string) {
	t.Helper()
	got := c.main(argv...)
	if all := c.out.String() + c.err.String(); got != code || !strings.Contains(all, contains) {
		t.Fatalf("%s: exit %d, want %d and %q:\n%s%s", strings.Join(argv, " "), got, code, contains, c.out.String(), c.err.String())
	}
}

// TestInstallSystemd follows one user's service from nothing to nothing.
func TestInstallSystemd(t *testing.T) {
	c, m, s := onSystemd(t)
	c.want(t, 1, "no unit of this profile is installed", "gateway", "start")
	c.want(t, 0, "no unit is installed", "gateway", "status", "--no-probe")
	c.want(t, 0, "+ExecStart=/usr/bin/openclaw gateway", "gateway", "install", "--dry-run")
	if _, err := os.Stat(s.file); err == nil || s.called("enable") != 0 {
		t.Fatalf("--dry-run touched something: %q", s.calls)
	}
	c.want(t, 0, "systemd (user): active", "daemon", "install")
	for _, text := range []string{"wrote " + s.file, "systemctl daemon-reload", "systemctl enable", "systemctl start", "loginctl enable-linger alice"} {
		if !strings.Contains(c.out.String(), text) {
			t.Errorf("install does not say %q:\n%s", text, c.out.String())
		}
	}
	if fi, err := os.Stat(s.file); err != nil || fi.Mode().Perm() != 0o644 || !s.enabled || s.dir == nil || s.loaded != contentOf(t, s.file) {
		t.Fatalf("%v, %+v", err, s)
	}
	if strings.Contains(s.loaded, testToken) {
		t.Error("the unit holds the token")
	}

	before := len(s.calls)
	c.want(t, 0, "nothing to do: it was installed and runs", "gateway", "install")
	for _, call := range s.calls[before:] {
		if !strings.Contains(call, " show ") {
			t.Errorf("the second install did %s", call)
		}
	}
	c.want(t, 0, `"changed": false`, "gateway", "install", "--json")
	c.want(t, 0, "nothing to do: it was started already", "gateway", "start")

	// What changes is taken up, with a restart.
	pid := s.pid
	c.want(t, 0, "systemctl restart", "gateway", "install", "--port", "19999")
	if s.pid == pid || !strings.Contains(s.loaded, "--port 19999") {
		t.Errorf("not restarted with the new unit: %q", s.calls)
	}
	c.want(t, 0, "stopped openclaw-gateway.service", "gateway", "stop")
	c.want(t, 0, "nothing to do", "gateway", "stop")
	c.want(t, 0, "started openclaw-gateway.service", "gateway", "start")
	c.want(t, 0, "restarted openclaw-gateway.service", "gateway", "restart")

	c.want(t, 0, "loginctl enable-linger alice", "gateway", "install", "--port", "19999", "--enable-linger")
	if !m.lingers() {
		t.Error("no lingering")
	}
	c.want(t, 0, "started at boot", "gateway", "status", "--no-probe")
	c.want(t, 0, "removed "+s.file, "gateway", "uninstall")
	if _, err := os.Stat(s.file); err == nil || s.enabled || s.dir != nil || s.loaded != "" {
		t.Errorf("left behind: %+v", s)
	}
	c.want(t, 0, "nothing is installed", "gateway", "uninstall")
}

// TestSystemdBadMoments wants a sentence and a next step for each, and the next install to mend it.
func TestSystemdBadMoments(t *testing.T) {
	for name, bad := range map[string]struct {
		set  func(*machine, *fakeSystemd)
		code int
		want []string
		undo func(*machine, *fakeSystemd)
	}{
		"no bus": {func(_ *machine, s *fakeSystemd) { s.noBus = true }, 1, []string{"systemd does not answer", "No medium found", "enable-linger alice"}, func(_ *machine, s *fakeSystemd) { s.noBus = false }},
		"no runtime directory": {func(m *machine, _ *fakeSystemd) { os.Rename(m.at("/run/user"), m.at("/run/gone")) }, 1,
			[]string{"there is no /run/user/", "sudo loginctl enable-linger alice", "--system gateway install"}, func(m *machine, _ *fakeSystemd) { os.Rename(m.at("/run/gone"), m.at("/run/user")) }},
		"daemon-reload fails": {func(_ *machine, s *fakeSystemd) { s.noLoad = true }, 1, []string{"daemon-reload", "Access denied"}, func(_ *machine, s *fakeSystemd) { s.noLoad = false }},
		"masked":              {func(_ *machine, s *fakeSystemd) { s.masked = true }, 1, []string{"is masked", "systemctl --user unmask openclaw-gateway.service"}, func(_ *machine, s *fakeSystemd) { s.masked = false }},
		"does not start":      {func(_ *machine, s *fakeSystemd) { s.startFails = true }, 1, []string{"start openclaw-gateway.service", "journalctl --user"}, func(_ *machine, s *fakeSystemd) { s.startFails = false }},
		"root":                {func(m *machine, _ *fakeSystemd) { m.uid = 0 }, 1, []string{"root has no user services", "--system gateway install"}, nil},
		"missing program":     {func(m *machine, _ *fakeSystemd) { os.Remove(m.at("/usr/bin/openclaw")) }, 1, []string{"the program is missing: /usr/bin/openclaw"}, nil},
		"shared program":      {func(m *machine, _ *fakeSystemd) { os.Chmod(m.at("/usr/bin/openclaw"), 0o777) }, 1, []string{"can be changed by others"}, nil},
		"no configuration":    {func(_ *machine, s *fakeSystemd) { os.Remove(s.state + "/openclaw.json") }, 1, []string{"there is no configuration", "openclaw setup"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			c, m, s := onSystemd(t)
			bad.set(m, s)
			for _, text := range bad.want {
				c.want(t, bad.code, text, "gateway", "install")
			}
			if bad.undo == nil {
				if _, err := os.Stat(s.file); err == nil {
					t.Error("a unit was written")
				}
				return
			}
			bad.undo(m, s)
			c.want(t, 0, "systemd (user): active", "gateway", "install")
		})
	}
}

// TestInstallNotProven wants an install to fail whose gateway never says that it runs.
func TestInstallNotProven(t *testing.T) {
	c, _, s := onSystemd(t)
	s.mute = true
	c.want(t, 1, "the gateway did not come up", "gateway", "install")
}

// TestForeignUnits wants nothing overwritten that is not ours, or was edited.
func TestForeignUnits(t *testing.T) {
	t.Run("foreign", func(t *testing.T) {
		c, _, s := onSystemd(t)
		const theirs = "[Service]\nExecStart=/opt/node gateway\nEnvironment=\"OPENCLAW_GATEWAY_TOKEN=canary-4711\"\nEnvironment='X_KEY=canary a b'\nExecStop=/x --token canary --password=canary\nKeyringMode=private\n"
		placeAt(t, s.file, theirs, 0o644)
		c.want(t, 1, "was not written by openclaw", "gateway", "install")
		c.want(t, 1, "-ExecStart=/opt/node gateway", "gateway", "install")
		if strings.Contains(c.out.String()+c.err.String(), "canary") {
			t.Errorf("the diff shows a secret:\n%s", c.out.String())
		}
		c.want(t, 1, "\n KeyringMode=private", "gateway", "install")
		c.want(t, 1, "--force removes it", "gateway", "uninstall")
		if contentOf(t, s.file) != theirs {
			t.Fatal("overwritten")
		}
		c.want(t, 0, "install would refuse", "gateway", "install", "--dry-run")
		c.want(t, 0, "-ExecStart=/opt/node gateway", "gateway", "install", "--force")
		if contentOf(t, s.file+".bak") != theirs || strings.Contains(contentOf(t, s.file), "canary") {
			t.Error("not kept, or its secret taken over")
		}
		c.want(t, 0, "systemctl restart", "gateway", "install", "--port", "19999")
		if contentOf(t, s.file+".bak") != theirs {
			t.Error("an ordinary install took the place of what --force had kept")
		}
		if fi, _ := os.Stat(s.file + ".bak"); fi.Mode().Perm() != 0o600 {
			t.Errorf("what may hold a secret is left with mode %v", fi.Mode())
		}
	})
	t.Run("edited", func(t *testing.T) {
		c, _, s := onSystemd(t)
		c.want(t, 0, "wrote", "gateway", "install")
		edited := strings.Replace(contentOf(t, s.file), "LimitNOFILE=", "LimitNOFILE=1", 1)
		placeAt(t, s.file, edited, 0o644)
		c.want(t, 0, "edited by hand", "gateway", "status", "--no-probe")
		c.want(t, 1, "was edited since it was installed", "gateway", "install", "--json")
		c.want(t, 1, "drop-in", "gateway", "install")
		c.want(t, 1, "--force", "gateway", "uninstall")
		if contentOf(t, s.file) != edited {
			t.Fatal("overwritten")
		}
		c.want(t, 0, "removed", "gateway", "uninstall", "--force")
		if contentOf(t, s.file+".bak") != edited {
			t.Error("not kept")
		}
	})
	for name, plant := range map[string]func(t *testing.T, path string){
		"link":      func(t *testing.T, p string) { os.Symlink("/dev/null", p) },
		"dangling":  func(t *testing.T, p string) { os.Symlink(p+".gone", p) },
		"directory": func(t *testing.T, p string) { os.Mkdir(p, 0o755) },
		"writable":  func(t *testing.T, p string) { placeAt(t, p, "x", 0o666) },
		"open directory": func(t *testing.T, p string) {
			if err := os.Chmod(filepath.Dir(p), 0o777); err != nil {
				t.Fatal(err)
			}
		},
		"other owner": func(t *testing.T, p string) {
			placeAt(t, p, "x", 0o644)
			if os.Chown(p, 4711, -1) != nil {
				t.Skip("only root can give files away")
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			c, _, s := onSystemd(t)
			os.MkdirAll(filepath.Dir(s.file), 0o755)
			plant(t, s.file)
			for _, argv := range [][]string{{"gateway", "install"}, {"gateway", "install", "--force"}, {"gateway", "uninstall", "--force"}} {
				c.want(t, 1, "refused ", argv...)
			}
			if s.called("enable") != 0 || s.called("start") != 0 {
				t.Errorf("%q", s.calls)
			}
		})
	}
}

// TestServiceEnvironment wants install to refuse a configuration that only
// this shell can resolve, and no value of a variable anywhere in the unit.
func TestServiceEnvironment(t *testing.T) {
	const canary = "canary5f0e3b6d9a7c48120f1e2d3c4b5a69788796a5b4"
	for config, want := range map[string]string{
		`{gateway: {auth: {token: "${OPENCLAW_GATEWAY_TOKEN}"}}}`: "config set gateway.auth.token file:",
		`{gateway: {port: 18789}}`:                                "only OPENCLAW_GATEWAY_TOKEN holds it",
		`{gateway: {auth: {token: "` + testToken + `"}}, models: {providers: {a: {baseUrl: "http://x/", apiKey: "${KEY_OF_A}"}}}}`: "${KEY_OF_A} is not set",
		`{gateway: {auth: {token: "` + testToken + `"}}, agents: {defaults: {systemPrompt: "${GREETING}"}}}`:                       `config set agents.defaults.systemPrompt "$GREETING"`,
		`{gateway: {auth: {token: "` + testToken + `"}}, logging: {file: "~/gateway.log"}}`:                                        "the service does not see",
	} {
		c, _, s := onSystemd(t)
		c.vars["OPENCLAW_GATEWAY_TOKEN"], c.vars["KEY_OF_A"], c.vars["GREETING"] = canary, canary, "hello"
		placeAt(t, filepath.Join(s.state, "openclaw.json"), config, 0o600)
		c.want(t, ExitConfig, want, "gateway", "install")
		if _, err := os.Stat(s.file); err == nil {
			t.Error("a unit was written all the same")
		}
		for _, target := range unit.Formats() {
			c.want(t, 0, "openclaw", "gateway", "install", "--print", "--target", string(target.Target))
			if strings.Contains(c.out.String()+c.err.String(), "canary") {
				t.Errorf("%s holds the value of a variable", target.Target)
			}
		}
	}
}

// TestHostileValues wants each value exactly in the unit, or a refusal.
func TestHostileValues(t *testing.T) {
	for _, part := range []string{"a b", `a"b`, `a\b`, "a'b", "100%h", "$HOME", "${X}", "a;b", "-rf", "@x", "+x", "!x", "ä", "a\nExecStartPre=/bin/x", "a\rb", "a\x00b", "\xff", "\u2028", strings.Repeat("x", 4096), "a:b", "a<b>&"} {
		for _, f := range unit.Formats() {
			c, _, _ := onSystemd(t)
			dir := "/srv/" + part
			c.vars["OPENCLAW_STATE_DIR"], c.vars["OPENCLAW_CONFIG_PATH"] = dir, dir+"/openclaw.json"
			code := c.main("gateway", "install", "--print", "--target", string(f.Target))
			if code != 0 {
				if c.out.Len() != 0 || c.err.Len() == 0 {
					t.Errorf("%q for %s: refused with output", part, f.Target)
				}
				continue
			}
			u, err := unit.Parse(f.Target, c.out.Bytes())
			if err != nil || !f.Target.System() && (u.StateDir != dir || u.ConfigPath != dir+"/openclaw.json") {
				t.Errorf("%q for %s: %+v, %v", part, f.Target, u, err)
			}
		}
	}
	c, _, _ := onSystemd(t)
	for _, port := range []string{"0", "-1", "70000", "18789\nX=1", "1 2", "%i", "65500"} {
		c.want(t, ExitUsage, "--port", "gateway", "install", "--print", "--port", port)
	}
	c.want(t, ExitUsage, "profile", "--profile", "a b", "gateway", "install", "--print")
	c.want(t, 1, "program:", "gateway", "install", "--print", "--program", "relative/openclaw")
}

// TestInstallSystem makes a whole host's service on an empty host.
func TestInstallSystem(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root owns what it makes here")
	}
	c, m, s := onSystemd(t)
	c.want(t, 1, "root's to change", "gateway", "install", "--system")
	m.uid = 0
	m.program = func(*Env) (string, error) { return "/home/alice/openclaw", nil }
	placeAt(t, m.at("/home/alice/openclaw"), "program", 0o755)
	c.want(t, 1, "hint: install openclaw elsewhere", "gateway", "install", "--system")
	if m.exists("/etc/openclaw") {
		t.Error("a refused installation left something behind")
	}
	m.program = func(*Env) (string, error) { return "/usr/bin/openclaw", nil }
	s.file, s.state = m.at("/etc/systemd/system/openclaw-gateway.service"), m.at("/var/lib/openclaw")
	users := 0
	m.account = func(string) (a store.Account, err error) {
		if users == 0 {
			return a, errPlanted
		}
		return store.Account{UID: 4711, GID: 4711}, nil
	}
	run := m.run
	m.run = func(ctx context.Context, t tool) (string, error) {
		switch t.name {
		case "systemd-sysusers":
			return "", errNoTool
		case "useradd":
			users++
			return "", nil
		}
		return run(ctx, t)
	}
	c.want(t, 0, "systemd: active", "gateway", "install", "--system")
	for path, mode := range map[string]os.FileMode{"/etc/openclaw/openclaw.json": 0o640, "/etc/openclaw/credentials": 0o700, "/etc/openclaw/credentials/gateway-token": 0o600,
		"/etc/openclaw": 0o755, "/etc/systemd/system/openclaw-gateway.service": 0o644} {
		if fi, err := os.Stat(m.at(path)); err != nil || fi.Mode().Perm() != mode {
			t.Errorf("%s: %v, %v", path, fi, err)
		}
	}
	token := strings.TrimSpace(contentOf(t, m.at("/etc/openclaw/credentials/gateway-token")))
	text := contentOf(t, s.file)
	if len(token) != 64 || strings.Contains(text+contentOf(t, m.at("/etc/openclaw/openclaw.json"))+c.out.String(), token) {
		t.Error("the token is no secret")
	}
	if !strings.Contains(text, "LoadCredential=gateway-token:/etc/openclaw/credentials/gateway-token") || !strings.Contains(text, "StateDirectory=openclaw\n") || strings.Contains(text, m.root) {
		t.Errorf("unit:\n%s", text)
	}
	config := contentOf(t, m.at("/etc/openclaw/openclaw.json"))
	c.want(t, 0, "nothing to do", "gateway", "install", "--system")
	if users != 1 || contentOf(t, m.at("/etc/openclaw/openclaw.json")) != config || strings.TrimSpace(contentOf(t, m.at("/etc/openclaw/credentials/gateway-token"))) != token {
		t.Error("the second install did not leave things alone")
	}
	// Clients of root find it, and its secret.
	c.want(t, 0, token, "gateway", "auth-token", "--system")
	c.want(t, 0, "running, pid", "gateway", "status", "--system", "--no-probe")
	c.want(t, 0, "started at boot", "gateway", "status", "--system", "--no-probe")
	c.want(t, 0, "removed", "gateway", "uninstall", "--system")
	if contentOf(t, m.at("/etc/openclaw/openclaw.json")) != config {
		t.Error("uninstall took the configuration")
	}
}

// TestDrift names each way in which an installed unit is out of date.
func TestDrift(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*console, *machine, *fakeSystemd)
		want   string
	}{
		"nothing": {func(*console, *machine, *fakeSystemd) {}, ""},
		"program": {func(_ *console, m *machine, _ *fakeSystemd) {
			m.program = func(*Env) (string, error) { return "/opt/bin/openclaw", nil }
		}, "it starts /usr/bin/openclaw, and this is /opt/bin/openclaw"},
		"missing": {func(_ *console, m *machine, _ *fakeSystemd) { os.Remove(m.at("/usr/bin/openclaw")) }, "the program is missing"},
		"older": {func(_ *console, _ *machine, s *fakeSystemd) {
			os.WriteFile(s.state+"/openclaw.json", []byte(`{gateway: {auth: {token: "`+testToken+`"}, shutdown: {gracePeriodMs: 90000}}}`), 0o600)
		}, "older than the configuration"},
		"edited":  {func(_ *console, _ *machine, s *fakeSystemd) { appendTo(s.file, "# mine\n") }, "edited by hand"},
		"foreign": {func(_ *console, _ *machine, s *fakeSystemd) { os.WriteFile(s.file, []byte("[Unit]\n"), 0o644) }, "not written by openclaw"},
		"loose":   {func(_ *console, _ *machine, s *fakeSystemd) { os.Chmod(s.file, 0o666) }, "others may change it"},
	} {
		t.Run(name, func(t *testing.T) {
			con, m, s := onSystemd(t)
			con.want(t, 0, "wrote", "gateway", "install")
			c.change(con, m, s)
			con.main("gateway", "status", "--no-probe", "--json")
			var r struct{ Service serviceReport }
			if err := json.Unmarshal(con.out.Bytes(), &r); err != nil {
				t.Fatal(err)
			}
			if c.want == "" && len(r.Service.Drift) != 0 || c.want != "" && (len(r.Service.Drift) == 0 || !strings.Contains(r.Service.Drift[0], c.want)) || !r.Service.Managed {
				t.Errorf("%+v", r.Service)
			}
		})
	}
}

func appendTo(path, text string) {
	raw, _ := os.ReadFile(path)
	os.WriteFile(path, append(raw, text...), 0o644)
}

// TestLegacyUnits are found, with the command that removes them, and left alone.
func TestLegacyUnits(t *testing.T) {
	c, _, s := onSystemd(t)
	old := filepath.Join(filepath.Dir(s.file), unit.Legacy(unit.SystemdUser)[0])
	placeAt(t, old, "[Service]\n", 0o644)
	c.want(t, 0, "systemctl --user disable --now "+filepath.Base(old)+"; rm "+old, "gateway", "install")
	c.want(t, 0, "there is also "+old, "gateway", "status", "--no-probe")
	if contentOf(t, old) != "[Service]\n" {
		t.Error("touched")
	}
	d, l := onLaunchd(t)
	old = filepath.Join(filepath.Dir(l.file), unit.Legacy(unit.Launchd)[0]+".plist")
	placeAt(t, old, "x", 0o644)
	d.want(t, 0, "launchctl bootout gui/", "gateway", "install")
}

// TestLaunchdRestart wants a job that is never left unloaded, whatever moment
// restart, start or install finds launchd in.
func TestLaunchdRestart(t *testing.T) {
	type moment struct {
		Loaded, Running               bool
		Leaving, Lingering, EIO, Kick int
	}
	var moments []moment
	for n := range 3 * 3 * 3 * 2 {
		m := moment{Leaving: n % 3, Lingering: n / 3 % 3 * 2, EIO: n / 9 % 3 * 2, Kick: n / 27}
		if m.Leaving == 0 {
			moments = append(moments, m)
		}
		m.Loaded = true
		moments = append(moments, m)
		m.Running = true
		moments = append(moments, m)
	}
	for _, verb := range []string{"restart", "start", "install", "install --port 19999"} {
		t.Run(verb, func(t *testing.T) {
			t.Parallel()
			c, l := onLaunchd(t)
			c.want(t, 0, "launchd: running", "gateway", "install")
			plist := contentOf(t, l.file)
			for _, m := range moments {
				l.end()
				placeAt(t, l.file, plist, 0o600)
				l.loaded, l.leaving, l.lingering, l.eio, l.kickFails, l.disabled, l.calls = m.Loaded, m.Leaving, m.Lingering, m.EIO, m.Kick, m.EIO == 4, nil
				if m.Running {
					l.begin()
				}
				pid := l.pid
				code := c.main(strings.Fields("gateway " + verb)...)
				for range 5 { // a job on its way out is gone by then
					l.run(t.Context(), tool{name: "launchctl", args: []string{"print", "gui/1000"}})
				}
				switch {
				case code != 0 || !l.loaded || l.dir == nil:
					t.Fatalf("%+v: exit %d, loaded %v, running %v\n%s%s\n%s", m, code, l.loaded, l.dir != nil, c.out.String(), c.err.String(), strings.Join(l.calls, "\n"))
				case l.disabled:
					t.Errorf("%+v: left disabled", m)
				case verb == "install --port 19999" && !strings.Contains(l.text, "19999"):
					t.Errorf("%+v: the old plist is loaded", m)
				case verb == "restart" && (l.called("bootout") != 0 || l.pid == pid):
					t.Errorf("%+v: %d bootouts, pid %d and then %d", m, l.called("bootout"), pid, l.pid)
				}
			}
		})
	}
}

// TestLaunchd follows an agent from nothing to nothing.
func TestLaunchd(t *testing.T) {
	c, l := onLaunchd(t)
	l.noSession = true
	c.want(t, 1, "launchd has no session", "gateway", "install")
	l.noSession = false
	c.want(t, 0, "launchd: running", "gateway", "install")
	if fi, err := os.Stat(l.file); err != nil || fi.Mode().Perm() != 0o600 {
		t.Error(fi, err)
	}
	if fi, err := os.Stat(l.state + "/logs"); err != nil || fi.Mode().Perm() != 0o700 {
		t.Error("launchd finds no directory for the output", err)
	}
	c.want(t, 0, "nothing to do", "gateway", "install")
	c.want(t, 0, "stopped bot.molt.gateway", "gateway", "stop")
	if !l.loaded || l.called("bootout") != 0 {
		t.Error("stop unloads: the agent would not come back at login")
	}
	c.want(t, 0, "started bot.molt.gateway", "gateway", "start")
	l.eio = 1000
	l.end()
	l.loaded = false
	c.want(t, 1, "launchctl bootstrap gui/", "gateway", "restart")
	l.eio = 0
	c.want(t, 0, "restarted", "gateway", "restart")
	l.lingering = 3
	c.want(t, 0, "removed", "gateway", "uninstall")
	if l.loaded {
		t.Error("still loaded")
	}
	c.want(t, ExitUsage, "this host has launchd", "gateway", "install", "--target", "systemd-user")
	c.want(t, 1, "nothing to install into", "gateway", "install", "--system")
}

// TestNoSupervisor says what to run instead.
func TestNoSupervisor(t *testing.T) {
	c, m, _ := serviceConsole(t, "linux")
	for _, verb := range []string{"install", "uninstall", "start", "stop", "restart"} {
		c.want(t, 1, "not run by systemd or launchd", "gateway", verb)
		c.want(t, 1, `"NO_SUPERVISOR"`, "gateway", verb, "--json")
	}
	c.want(t, 0, "started by hand", "gateway", "status", "--no-probe")
	os.MkdirAll(m.at("/run/openrc"), 0o755)
	c.want(t, 1, "--target openrc", "gateway", "install")
	m.goos = "freebsd"
	c.want(t, 1, "--target rcd", "gateway", "install")
	c.want(t, 0, "/var/db/openclaw", "gateway", "install", "--print")
}

// TestTools runs programs the way supervisors' tools are run.
func TestTools(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("tools are root's")
	}
	dir := t.TempDir()
	plant := func(name, text string, mode os.FileMode) {
		placeAt(t, filepath.Join(dir, name), "#!/bin/sh\n"+text, mode)
	}
	run := func(tl tool) (string, error) { return runToolIn(t.Context(), tl, []string{dir}) }
	plant("env", "/usr/bin/env", 0o755)
	t.Setenv("OPENCLAW_GATEWAY_TOKEN", "canary")
	if out, err := run(tool{name: "env", env: []string{"A=b"}}); err != nil || strings.Contains(out, "canary") || !strings.Contains(out, "A=b\n") || !strings.Contains(out, "LC_ALL=C\n") {
		t.Errorf("%v\n%s", err, out)
	}
	plant("open", "echo", 0o777)
	if _, err := run(tool{name: "open"}); err == nil || !strings.Contains(err.Error(), "others than root may change it") {
		t.Error(err)
	}
	plant("theirs", "echo", 0o755)
	os.Chown(filepath.Join(dir, "theirs"), 4711, -1)
	if _, err := run(tool{name: "theirs"}); err == nil {
		t.Error("ran a program of uid 4711")
	}
	if _, err := run(tool{name: "none"}); !errors.Is(err, errNoTool) {
		t.Error(err)
	}
	plant("fails", "echo no >&2; exit 5", 0o755)
	var failed *toolError
	if _, err := run(tool{name: "fails", args: []string{"now"}}); !errors.As(err, &failed) || failed.code != 5 || err.Error() != "fails now: no" {
		t.Error(err)
	}
	plant("floods", "yes | head -c 9000000", 0o755)
	if out, err := run(tool{name: "floods"}); err != nil || len(out) != toolOutput {
		t.Error(len(out), err)
	}
	// The child of a tool that hangs, here the writer of a pipe, is ended with it.
	if err := syscall.Mkfifo(filepath.Join(dir, "pipe"), 0o600); err != nil {
		t.Fatal(err)
	}
	pipe, err := os.OpenFile(filepath.Join(dir, "pipe"), os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer pipe.Close()
	plant("hangs", "sleep 300 >"+dir+"/pipe & wait", 0o755)
	if _, err := run(tool{name: "hangs", limit: 300 * time.Millisecond}); err == nil || !strings.Contains(err.Error(), "no answer within") {
		t.Error(err)
	}
	pipe.SetReadDeadline(time.Now().Add(30 * time.Second))
	if _, err := io.ReadAll(pipe); err != nil {
		t.Errorf("the child lives: %v", err)
	}
}
