package gateway

import (
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"openclaw/gateway/store"
	"openclaw/reload/config"
)

// neighbourhood is a home with several state directories.
type neighbourhood struct {
	t    testing.TB
	home string
}

func newNeighbourhood(t testing.TB) neighbourhood {
	home, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return neighbourhood{t, home}
}

// configured writes the configuration of a state directory.
func (h neighbourhood) configured(name, text string) {
	h.t.Helper()
	dir := filepath.Join(h.home, name)
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		h.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "openclaw.json"), []byte(text), 0o600); err != nil {
		h.t.Fatal(err)
	}
}

// running holds a state directory, as a gateway does.
func (h neighbourhood) running(name string, i store.Instance) {
	h.t.Helper()
	d, err := store.Open(filepath.Join(h.home, name))
	if err == nil {
		err = d.Publish(i)
	}
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { d.Close() })
}

// gateway is one of this home that got as far as its port, with its
// configuration and its log.
func (h neighbourhood) gateway(profile, text string) (*Gateway, *config.Config, *syncBuffer) {
	h.t.Helper()
	env := func(string) (string, bool) { return "", false }
	paths, err := config.Resolve(profile, env, h.home)
	if err != nil {
		h.t.Fatal(err)
	}
	l, err := config.Parse("openclaw.json", []byte(text), config.Source{})
	if err != nil {
		h.t.Fatal(err)
	}
	log := &syncBuffer{}
	return &Gateway{
		opts: Options{Paths: paths, Env: env, Dev: paths.Dev}, port: l.Config.Gateway.Port,
		log: slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}, l.Config, log
}

func TestIsolated(t *testing.T) {
	h := newNeighbourhood(t)
	h.configured(".openclaw", `{gateway:{port:18789},agents:{defaults:{workspace:"~/shared"}}}`)
	h.running(".openclaw", store.Instance{PID: 123, Port: 18789})
	h.configured(".openclaw-idle", `{gateway:{port:30000,auth:{token:"${THEIRS}"}},agents:{list:[{id:"a",workspace:"~/idle/a"}]}}`)
	h.configured(".openclaw-broken", "{\n  hush-hush")
	h.running(".openclaw-starting", store.Instance{PID: 77})
	if err := errors.Join(os.Mkdir(filepath.Join(h.home, "shared"), 0o700), os.Symlink("shared", filepath.Join(h.home, "alias"))); err != nil {
		t.Fatal(err)
	}
	const named = "the gateway of profile default (pid 123, port 18789)"
	for name, tc := range map[string]struct {
		profile, text string
		refused       []string // sentences
		warned        []string
	}{
		"itself":            {profile: "default", text: `{agents:{defaults:{workspace:"~/shared"}}}`},
		"apart":             {profile: "me", text: `{gateway:{port:18900}}`},
		"a running block":   {profile: "me", text: `{gateway:{port:18850}}`, refused: []string{"port block 18850-18960 meets the block 18789-18899 of " + named + ": choose a gateway.port at least 111 apart"}},
		"its workspace":     {profile: "me", text: `{gateway:{port:1},agents:{list:[{id:"x"},{id:"y",workspace:"~/alias/deep"}]}}`, refused: []string{"/shared/deep lies in the workspace "}},
		"both":              {profile: "me", text: `{gateway:{port:18700},agents:{defaults:{workspace:"~/shared"}}}`, refused: []string{"port block 18700-18810 meets", "/shared is also that of " + named}},
		"one that starts":   {profile: "me", text: `{gateway:{port:1},agents:{defaults:{workspace:"~/.openclaw-starting"}}}`, refused: []string{"the gateway of profile starting (pid 77)"}},
		"a configured one":  {profile: "me", text: `{gateway:{port:30110}}`, warned: []string{"30000-30110 of profile idle, which is configured but not running"}},
		"around everything": {profile: "me", text: `{gateway:{port:30110},agents:{defaults:{workspace:"~"}}}`, refused: []string{"holds the workspace"}, warned: []string{"shares=ports", "shares=workspace"}},
	} {
		t.Run(name, func(t *testing.T) {
			g, cfg, log := h.gateway(tc.profile, tc.text)
			err := g.isolated(cfg)
			if (err != nil) != (tc.refused != nil) || err != nil && exitCode(err) != 78 {
				t.Errorf("exit %d: %v", exitCode(err), err)
			}
			for _, want := range tc.refused {
				if err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("want %q: %v", want, err)
				}
			}
			for _, want := range tc.warned {
				if !strings.Contains(log.String(), want) {
					t.Errorf("want %q:\n%s", want, log)
				}
			}
			if strings.Contains(log.String(), "level=WARN") != (tc.warned != nil) {
				t.Errorf("log:\n%s", log)
			}
			if !strings.Contains(log.String(), "level=DEBUG") || !strings.Contains(log.String(), "openclaw-broken/openclaw.json:2:") || strings.Contains(log.String(), "hush") {
				t.Errorf("the broken neighbour:\n%s", log)
			}
		})
	}
}

// TestIsolatedWithoutHome: nobody is looked for, and that is no error.
func TestIsolatedWithoutHome(t *testing.T) {
	g, cfg, log := newNeighbourhood(t).gateway("me", `{}`)
	for _, home := range []string{"", "relative", "/nonexistent/home"} {
		g.opts.Paths.Home = home
		if err := g.isolated(cfg); err != nil || log.String() != "" {
			t.Errorf("%q: %v, %s", home, err, log)
		}
	}
}

// TestDevMovesOn: a block is not free that meets a running gateway's, though
// the ports in question are not bound.
func TestDevMovesOn(t *testing.T) {
	h := newNeighbourhood(t)
	h.running(".openclaw", store.Instance{PID: 123, Port: config.DevPort + 50})
	h.configured(".openclaw-idle", `{gateway:{port:19241}}`)
	bind := func(kept string) (port int, asked []int, err error) {
		g, cfg, _ := h.gateway("dev", `{gateway:{port:19001}}`)
		if kept != "" {
			if err := os.WriteFile(filepath.Join(h.home, ".openclaw-dev", devPortName), []byte(kept), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		g.opts.listen = func(port int) ([]net.Listener, error) {
			asked = append(asked, port)
			return []net.Listener{newPipeListener()}, nil
		}
		err = g.bind(cfg)
		return g.port, asked, err
	}
	// Two blocks meet the running one; that of a gateway that does not run is free.
	if port, asked, err := bind(""); err != nil || port != 19241 || asked[0] != 19241 {
		t.Errorf("port %d, asked for %v: %v", port, asked, err)
	}
	h.configured(".openclaw-dev", `{}`)
	if port, asked, err := bind("19121"); err != nil || port != 19241 || asked[0] != 19241 {
		t.Errorf("kept: port %d, asked for %v: %v", port, asked, err)
	}
	if port, _, err := bind("19361"); err != nil || port != 19361 {
		t.Errorf("kept and free: port %d: %v", port, err)
	}
}

// TestDevFindsNone says who is in the way when no block is free.
func TestDevFindsNone(t *testing.T) {
	never := func(int) ([]net.Listener, error) { t.Error("listened"); return nil, nil }
	why := errors.New("somebody is there")
	if _, _, err := listenDev(never, func(int) error { return why }, config.DevPort, 0); !errors.Is(err, why) {
		t.Error(err)
	}
}

// BenchmarkIsolated is what the check adds to a start beside two others.
func BenchmarkIsolated(b *testing.B) {
	h := newNeighbourhood(b)
	text := config.Setup{Token: strings.Repeat("0123456789abcdef", 4), Port: 20000}.Text()
	h.configured(".openclaw", string(text))
	h.configured(".openclaw-idle", string(text))
	h.running(".openclaw", store.Instance{PID: 123, Port: 18789})
	g, cfg, _ := h.gateway("me", `{gateway:{port:25000}}`)
	for b.Loop() {
		if err := g.isolated(cfg); err != nil {
			b.Fatal(err)
		}
	}
}
