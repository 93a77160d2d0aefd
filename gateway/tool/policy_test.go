package tool

import (
	"encoding/json"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"openclaw/reload/config"
)

func names(rows []*row) string {
	var out []string
	for _, r := range rows {
		out = append(out, r.Name)
	}
	return strings.Join(out, " ")
}

// TestPolicy tells of policies what they leave of a few tools.
func TestPolicy(t *testing.T) {
	seen := []string{"read", "write", "edit", "sessions_list", "session_status", "agents_list", "gateway"}
	load := func(text string) *config.Config {
		t.Helper()
		l, err := config.Parse("x", []byte(text), config.Source{})
		if err != nil {
			t.Fatal(err)
		}
		return l.Config
	}
	for _, tc := range []struct{ policy, agent, want string }{
		{`{}`, `{}`, "read write edit sessions_list session_status agents_list"},
		{`{profile:"full"}`, `{}`, "read write edit sessions_list session_status agents_list gateway"},
		{`{profile:"minimal"}`, `{}`, "session_status"},
		{`{profile:"messaging"}`, `{}`, "sessions_list session_status"},
		{`{allow:["read"]}`, `{}`, "read"},
		{`{allow:["gateway"]}`, `{}`, "gateway"},
		{`{allow:["*"]}`, `{}`, "read write edit sessions_list session_status agents_list gateway"},
		{`{allow:["group:openclaw"],deny:["group:fs"]}`, `{}`, "sessions_list session_status agents_list gateway"},
		{`{allow:["Group:FS"," EDIT "]}`, `{}`, "read write edit"},
		{`{allow:["session*"]}`, `{}`, "sessions_list session_status"},
		{`{allow:[]}`, `{}`, ""},
		{`{allow:["nonsense"]}`, `{}`, ""},
		{`{profile:"coding",allow:["gateway","read"]}`, `{}`, "read"},
		{`{alsoAllow:["gateway"]}`, `{}`, "read write edit sessions_list session_status agents_list gateway"},
		{`{profile:"minimal",alsoAllow:["read"]}`, `{}`, "read session_status"},
		{`{allow:["read"],deny:["read"]}`, `{}`, ""},
		{`{alsoAllow:["read"],deny:["read"],allow:["read","write"]}`, `{}`, "write"},
		{`{deny:["*"]}`, `{allow:["read"]}`, ""},
		{`{}`, `{allow:["read","gateway"]}`, "read"},
		{`{}`, `{deny:["group:sessions"]}`, "read write edit agents_list"},
		{`{profile:"full"}`, `{profile:"minimal"}`, "session_status"},
		{`{profile:"minimal"}`, `{profile:"full"}`, "read write edit sessions_list session_status agents_list gateway"},
		{`{deny:["write"]}`, `{alsoAllow:["write","gateway"]}`, "read edit sessions_list session_status agents_list gateway"},
		{`{byProvider:{p:{deny:["write"]}}}`, `{}`, "read edit sessions_list session_status agents_list"},
		{`{byProvider:{"p/m":{allow:["read"]}}}`, `{}`, "read"},
		{`{byProvider:{"p/other":{allow:[]},q:{allow:[]}}}`, `{}`, "read write edit sessions_list session_status agents_list"},
		{`{byProvider:{p:{profile:"minimal"},"p/m":{profile:"full"}}}`, `{}`, "session_status"},
		{`{byProvider:{p:{profile:"minimal",alsoAllow:["read"]}}}`, `{}`, "read session_status"},
		{`{}`, `{byProvider:{p:{allow:["edit"]}}}`, "edit"},
	} {
		cfg := load(`{models:{providers:{p:{baseUrl:"http://h"},q:{baseUrl:"http://h"}}},tools:` + tc.policy + `,agents:{list:[{id:"a",tools:` + tc.agent + `}]}}`)
		agent, _ := cfg.Agent("a")
		var got []string
		for _, d := range Effective(cfg, Scope{Agent: agent, Provider: "p/m"}) {
			if slices.Contains(seen, d.Name) {
				got = append(got, d.Name)
			}
		}
		slices.SortFunc(got, func(x, y string) int { return slices.Index(seen, x) - slices.Index(seen, y) })
		if strings.Join(got, " ") != tc.want {
			t.Errorf("tools %s, agent %s: %v, want %s", tc.policy, tc.agent, got, tc.want)
		}
	}
}

// TestHTTPDoor is closed to what reads, changes, runs or configures until it is named.
func TestHTTPDoor(t *testing.T) {
	cfg := config.Default()
	cfg.Tools.Profile = "full"
	scope := Scope{Main: true, HTTP: true}
	for _, d := range Effective(cfg, scope) {
		if d.Class != Session && d.Class != Network {
			t.Errorf("%s is served", d.Name)
		}
	}
	cfg.Gateway.Tools = config.HTTPTools{Allow: []string{"group:fs", "gateway"}, Deny: []string{"write", "agents_list"}}
	got := names(effective(cfg, &scope))
	for _, name := range []string{"read", "edit", "gateway", "sessions_list"} {
		if !strings.Contains(got, name) {
			t.Errorf("%s is not served: %s", name, got)
		}
	}
	for _, name := range []string{"write", "agents_list", "exec"} {
		if slices.Contains(strings.Fields(got), name) {
			t.Errorf("%s is served", name)
		}
	}
	cfg.Tools.Deny = []string{"read"}
	if strings.HasPrefix(names(effective(cfg, &scope)), "read") {
		t.Error("the door is wider than the policy")
	}
}

// TestMonotone holds for whatever policy: a denied tool is not there, a child
// has no tool that its parent lacks, the HTTP door gives none that a turn has
// not, and one more word in deny or one less in allow never adds a tool.
func TestMonotone(t *testing.T) {
	words := []string{"*", "group:openclaw", "group:fs", "group:sessions", "group:runtime", "s*", "READ", "nonsense"}
	for _, d := range Table() {
		words = append(words, d.Name)
	}
	r := rand.New(rand.NewPCG(5, 7))
	list := func() []string {
		switch n := r.IntN(7); n {
		case 0, 1:
			return nil
		default:
			out := []string{}
			for range n - 2 {
				out = append(out, words[r.IntN(len(words))])
			}
			return out
		}
	}
	profile := func() string { return []string{"", "", "minimal", "coding", "messaging", "full"}[r.IntN(6)] }
	rules := func() config.ToolRules {
		return config.ToolRules{Profile: profile(), Allow: list(), AlsoAllow: list(), Deny: list()}
	}
	policy := func() config.Tools {
		x := rules()
		return config.Tools{Profile: x.Profile, Allow: x.Allow, AlsoAllow: x.AlsoAllow, Deny: x.Deny, ByProvider: map[string]config.ToolRules{"p": rules(), "p/m": rules()}}
	}
	scope := func(parent *Set) *Scope {
		return &Scope{Agent: config.ResolvedAgent{Tools: policy()}, Provider: []string{"", "p", "p/m", "p/x", "q"}[r.IntN(5)], Parent: parent}
	}
	within := func(what string, inner, outer []*row) {
		t.Helper()
		for _, x := range inner {
			if !slices.Contains(outer, x) {
				t.Fatalf("%s: %s is in %s, not in %s", what, x.Name, names(inner), names(outer))
			}
		}
	}
	const rounds = 5000
	some := 0
	for range rounds {
		cfg := config.Default()
		cfg.Tools.Tools = policy()
		cfg.Gateway.Tools = config.HTTPTools{Allow: list(), Deny: list()}
		s := scope(nil)
		have := effective(cfg, s)
		some += len(have)
		for _, x := range have {
			if config.Names(cfg.Tools.Deny, x.Name) || config.Names(s.Agent.Tools.Deny, x.Name) {
				t.Fatalf("%s is denied", x.Name)
			}
		}
		parent := &Set{scope: *s, rows: have}
		child := &Set{rows: effective(cfg, scope(parent))}
		within("child", child.rows, have)
		within("grandchild", effective(cfg, scope(child)), child.rows)
		web := *s
		web.HTTP = true
		within("HTTP", effective(cfg, &web), have)
		more := *s
		more.Agent.Tools.Deny = append(slices.Clone(s.Agent.Tools.Deny), words[r.IntN(len(words))])
		within("deny", effective(cfg, &more), have)
		if n := len(s.Agent.Tools.Allow); n > 0 {
			less := *s
			less.Agent.Tools.Allow = s.Agent.Tools.Allow[:n-1]
			within("allow", effective(cfg, &less), have)
		}
	}
	if some < rounds/4 {
		t.Errorf("only %d tools were left in all", some)
	}
}

// TestTable holds each row to what models and policies rely on.
func TestTable(t *testing.T) {
	seen := map[string]bool{}
	for _, d := range Table() {
		if seen[d.Name] {
			t.Errorf("%s is there twice", d.Name)
		}
		seen[d.Name] = true
		if len(d.Groups) < 2 {
			t.Errorf("%s is in no group of config.ToolGroups", d.Name)
		}
		if d.Description == "" || !slices.Contains([]Class{Read, Write, Execute, Network, Session, Admin}, d.Class) {
			t.Errorf("%s: class %q, description %q", d.Name, d.Class, d.Description)
		}
		var s struct {
			Type       string
			Properties map[string]struct{ Type, Description string }
			Required   []string
		}
		if err := json.Unmarshal(d.Parameters, &s); err != nil || s.Type != "object" {
			t.Fatalf("%s: %v: %s", d.Name, err, d.Parameters)
		}
		for name, p := range s.Properties {
			if p.Description == "" {
				t.Errorf("%s: argument %s has no description", d.Name, name)
			}
		}
		for _, name := range s.Required {
			if _, ok := s.Properties[name]; !ok {
				t.Errorf("%s: requires %s, which it lacks", d.Name, name)
			}
		}
	}
}
