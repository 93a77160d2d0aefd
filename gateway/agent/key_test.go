package agent

import (
	"regexp"
	"strings"
	"testing"

	"openclaw/reload/config"
)

func keyConfig(scope, mainKey string) *config.Config {
	cfg := config.Default()
	cfg.Agents.List = []config.Agent{{ID: "main"}, {ID: "ops", Default: true}}
	cfg.Session.Scope, cfg.Session.MainKey = scope, mainKey
	return cfg
}

func TestKeys(t *testing.T) {
	for _, c := range []struct {
		scope, mainKey, key, agent string
		want                       address
		kind                       string
		main                       bool
	}{
		{key: "", want: address{place{"ops", "agent:ops:main"}, "ops"}, main: true},
		{key: "", agent: "main", want: address{place{"main", "agent:main:main"}, "main"}, main: true},
		{key: "main", want: address{place{"ops", "agent:ops:main"}, "ops"}, main: true},
		{key: " Main ", want: address{place{"ops", "agent:ops:main"}, "ops"}, main: true},
		{key: "main", agent: "main", want: address{place{"main", "agent:main:main"}, "main"}, main: true},
		{key: "agent:main:MAIN", want: address{place{"main", "agent:main:main"}, "main"}, main: true},
		{key: "AGENT:Main:main", agent: "MAIN", want: address{place{"main", "agent:main:main"}, "main"}, main: true},
		{mainKey: "home", key: "main", want: address{place{"ops", "agent:ops:home"}, "ops"}, main: true},
		{mainKey: "home", key: "agent:main:main", want: address{place{"main", "agent:main:home"}, "main"}, main: true},
		{mainKey: "home", key: "home", want: address{place{"ops", "agent:ops:home"}, "ops"}, main: true},
		{scope: "global", key: "", agent: "main", want: address{place{"ops", "global"}, "main"}, kind: KindGlobal, main: true},
		{scope: "global", key: "agent:main:main", want: address{place{"ops", "global"}, "main"}, kind: KindGlobal, main: true},
		{scope: "global", key: "agent:main:other", want: address{place{"main", "agent:main:other"}, "main"}},
		{key: "global", want: address{place{"ops", "global"}, "ops"}, kind: KindGlobal, main: true},
		{key: "unknown", want: address{place{"ops", "unknown"}, "ops"}, kind: KindUnknown},
		{key: "agent:main:global", want: address{place{"main", "agent:main:global"}, "main"}},
		{key: "hook:1b4e", want: address{place{"ops", "agent:ops:hook:1b4e"}, "ops"}},
		{key: "agent:main:telegram:group:-100123", want: address{place{"main", "agent:main:telegram:group:-100123"}, "main"}, kind: KindGroup},
		{key: "agent:main:slack:channel:C1:thread:7", want: address{place{"main", "agent:main:slack:channel:C1:thread:7"}, "main"}, kind: KindGroup},
		{key: "agent:main:direct:49123", want: address{place{"main", "agent:main:direct:49123"}, "main"}},
		{key: "Grüße", want: address{place{"ops", "agent:ops:Grüße"}, "ops"}},
		{key: "agent:My Agent!:x", want: address{place{"my-agent", "agent:my-agent:x"}, "my-agent"}},
		{key: "agents:x", want: address{place{"ops", "agent:ops:agents:x"}, "ops"}},
	} {
		cfg := keyConfig(c.scope, c.mainKey)
		got, err := resolve(cfg, c.key, c.agent)
		if err != nil || got != c.want {
			t.Errorf("%q of %q: %v, %v; want %v", c.key, c.agent, got, err, c.want)
			continue
		}
		if c.kind == "" {
			c.kind = KindDirect
		}
		if kind := keyKind(got.key); kind != c.kind || isMain(cfg, got.place) != c.main {
			t.Errorf("%q: kind %s, main %t", got.key, kind, isMain(cfg, got.place))
		}
	}
	for _, key := range []string{"agent:", "agent::x", "agent:x:", "agent:main: ", "agent:???:x", "a\nb", "a\x7f", "\xff", "a\u0085b", strings.Repeat("k", 513)} {
		if got, err := resolve(keyConfig("", ""), key, ""); err == nil {
			t.Errorf("%q is %v", key, got)
		}
	}
	if got, err := resolve(keyConfig("", ""), "", "-?-"); err == nil {
		t.Error(got)
	}
}

// A canonical key stays what it is, and every agent id may name a directory.
func FuzzKey(f *testing.F) {
	for _, key := range []string{"", "main", "agent:main:main", "agent:A B:x:y", "global", "unknown", "agent:a:global", "hook:1", " agent:x: main ", "agent:agent:agent:x"} {
		f.Add(key, "")
		f.Add(key, "Some Agent")
	}
	id := regexp.MustCompile(`^[a-z0-9][a-z0-9_-]{0,63}$`)
	f.Fuzz(func(t *testing.T, key, agent string) {
		for _, scope := range []string{"per-sender", "global"} {
			cfg := keyConfig(scope, "home")
			to, err := resolve(cfg, key, agent)
			if err != nil {
				continue
			}
			if !id.MatchString(to.agent) || !id.MatchString(to.home) {
				t.Errorf("%q, %q: %v", key, agent, to)
			}
			if to.key == globalKey || to.key == unknownKey {
				continue
			}
			if len(to.key) > maxKey {
				continue // the agent's name came on top
			}
			again, err := resolve(cfg, to.key, "")
			if err != nil || again != to {
				t.Errorf("%q, %q: %v, then %v, %v", key, agent, to, again, err)
			}
		}
	})
}
