package config

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestAgents(t *testing.T) {
	c := Default()
	main, ok := c.Agent("main")
	if !ok || !main.Default || main.Primary != "builtin/echo" || main.SandboxMode != "non-main" || main.Timeout != 10*time.Minute || c.DefaultAgentID() != "main" || len(c.AgentList()) != 1 {
		t.Errorf("without any: %+v", main)
	}
	c = mustParse(t, `{agents:{defaults:{model:{primary:"p/a",fallbacks:["p/b"]},systemPrompt:"all",timeoutSeconds:30,sandbox:{mode:"all"},workspace:"~/w"},
		list:[{id:"one"},{id:"two",default:true,name:"Two",model:"p/c",systemPrompt:"mine",timeoutSeconds:5,sandbox:{mode:"off"},workspace:"/x"},{id:"three",model:{fallbacks:[]}}]},
		models:{providers:{p:{baseUrl:"http://h/v1/"}}}}`, nil).Config
	want := []ResolvedAgent{
		{"one", "one", false, "~/w", "p/a", []string{"p/b"}, "all", "all", 30 * time.Second, Tools{}},
		{"two", "Two", true, "/x", "p/c", []string{"p/b"}, "mine", "off", 5 * time.Second, Tools{}},
		{"three", "three", false, "~/w", "p/a", []string{}, "all", "all", 30 * time.Second, Tools{}},
	}
	if got := c.AgentList(); !reflect.DeepEqual(got, want) {
		t.Errorf("%+v", got)
	}
	if c.DefaultAgentID() != "two" || !slices.Equal(want[1].Refs(), []string{"p/c", "p/b"}) {
		t.Error("default agent or refs")
	}
	if _, ok := c.Agent("main"); ok {
		t.Error("main exists though the list leaves it out")
	}
}

func TestModels(t *testing.T) {
	c := mustParse(t, `{models:{providers:{
		p:{baseUrl:"http://h/v1/",apiKey:"k",models:[{id:"org/m",name:"M",contextWindow:4096,maxTokens:512,input:["text","image"],cost:{input:0.5}}]},
		g:{baseUrl:"http://h",api:"google-generative-ai"}}}}`, nil).Config
	m, err := c.Model("p/org/m")
	if err != nil || m.ID != "org/m" || m.Name != "M" || m.BaseURL != "http://h/v1" || m.APIKey.Reveal() != "k" || m.ContextWindow != 4096 || !m.Images || m.Cost.Input != 0.5 {
		t.Errorf("%+v, %v", m, err)
	}
	if m, err = c.Model("p/other"); err != nil || m.ContextWindow != 128000 || m.Images || m.API != APIOpenAICompletions || m.Name != "other" {
		t.Errorf("not listed: %+v, %v", m, err)
	}
	if m, err = Default().Model(BuiltinRef); err != nil || m.API != APIBuiltin {
		t.Errorf("%+v, %v", m, err)
	}
	for _, ref := range []string{"", "p", "p/", "/m", "q/m", "builtin/x"} {
		if _, err := c.Model(ref); !errors.Is(err, ErrUnknownModel) {
			t.Errorf("%q: %v", ref, err)
		}
	}
	if _, err := c.Model("g/m"); !errors.Is(err, ErrUnsupportedAPI) {
		t.Error(err)
	}
	if refs := c.ModelRefs(); !slices.Equal(refs, []string{"p/org/m", "builtin/echo"}) {
		t.Error(refs)
	}
}

func TestDiff(t *testing.T) {
	base := `gateway:{auth:{token:"` + goodToken + `"}},agents:{list:[{id:"a"},{id:"b",name:"B"}]},models:{providers:{p:{baseUrl:"http://h",headers:{X:"1"},models:[{id:"m"}]}}}`
	for _, c := range []struct{ old, new, want string }{
		{``, ``, ``},
		{`{` + base + `}`, `{` + base + `}`, ``},
		{``, `gateway:{port:19000}`, `gateway.port restart`},
		{``, `gateway:{bind:"tailnet",limits:{maxRuns:3}},logging:{level:"debug"}`, `gateway.bind restart, gateway.limits.maxRuns hot, logging.level hot`},
		{`gateway:{auth:{token:"` + goodToken + `"}}`, `gateway:{auth:{token:"0` + goodToken + `"}}`, `gateway.auth.token hot`},
		{`gateway:{auth:{token:"` + goodToken + `"}}`, `gateway:{auth:{password:"` + goodPassword + `"}}`, `gateway.auth.mode restart, gateway.auth.token hot, gateway.auth.password hot`},
		{base, strings.Replace(base, `"B"`, `"C"`, 1), `agents.list[b].name hot`},
		{base, strings.Replace(base, `{id:"a"},`, ``, 1), `agents.list[a] hot`},
		{base, strings.Replace(base, `{id:"a"},{id:"b",name:"B"}`, `{id:"b",name:"B"},{id:"a",timeoutSeconds:5}`, 1), `agents.list[a].timeoutSeconds hot, agents.list hot`},
		{base, strings.Replace(base, `X:"1"`, `X:"2"`, 1), `models.providers.p.headers hot`},
		{base, strings.Replace(base, `p:{`, `"q.r":{`, 1), `models.providers.p hot, models.providers["q.r"] hot`},
		{base, strings.Replace(base, `{id:"m"}`, `{id:"m/1:2",maxTokens:9}`, 1), `models.providers.p.models[m] hot, models.providers.p.models["m/1:2"] hot`},
		{``, `tools:{allow:[]}`, `tools.allow hot`},
		{`agents:{list:[{id:"a",model:{fallbacks:[]}}]}`, `agents:{list:[{id:"a"}]}`, `agents.list[a].model.fallbacks hot`},
		{``, `channels:{x:1}`, ``},
	} {
		text := func(s string) string {
			if strings.HasPrefix(s, "{") {
				return s
			}
			return "{" + s + "}"
		}
		old, new := mustParse(t, text(c.old), nil).Config, mustParse(t, text(c.new), nil).Config
		list := func(changes []Change) string {
			var parts []string
			for _, ch := range changes {
				parts = append(parts, ch.Path+" "+string(ch.Class))
			}
			return strings.Join(parts, ", ")
		}
		there, back := list(Diff(old, new)), list(Diff(new, old))
		if there != c.want || back != c.want {
			t.Errorf("%s → %s:\n there %s\n back  %s\n want  %s", c.old, c.new, there, back, c.want)
		}
	}
	if ClassOf([]Change{{"a", Hot}, {"b", Restart}, {"c", None}}) != Restart || ClassOf(nil) != None {
		t.Error("ClassOf")
	}
}

// TestDiffWithoutIDs: lists whose elements cannot be told apart differ as a whole.
func TestDiffWithoutIDs(t *testing.T) {
	twice := func(name string) *Config {
		c := Default()
		c.Agents.List = []Agent{{ID: "a"}, {ID: "a", Name: name}}
		return c
	}
	if got := Diff(twice("x"), twice("x")); len(got) != 0 {
		t.Error(got)
	}
	if got := Diff(twice("x"), twice("y")); !slices.Equal(got, []Change{{"agents.list", Hot}}) {
		t.Error(got)
	}
}

// TestDiffEveryKey: whatever key differs, Diff names it with its class, both ways.
func TestDiffEveryKey(t *testing.T) {
	start := func() *Config {
		c := Default()
		rules := func() map[string]ToolRules { return map[string]ToolRules{"p": {}} }
		c.Agents.List = []Agent{{ID: "x", Tools: Tools{ByProvider: rules()}}}
		c.Tools.ByProvider = rules()
		c.Models.Providers = map[string]Provider{"p": {Models: []ProviderModel{{ID: "x"}}}}
		groups := func() map[string]Group { return map[string]Group{"p": {Topics: map[string]Topic{"p": {}}}} }
		people := func() map[string]Direct { return map[string]Direct{"p": {}} }
		c.Channels = map[string]Channel{"p": {Groups: groups(), Direct: people(), Accounts: map[string]Account{"p": {Groups: groups(), Direct: people()}}}}
		c.Bindings = []Binding{{}}
		return c
	}
	base := start()
	for _, k := range Keys() {
		if strings.HasSuffix(k.Path, "[].id") {
			continue // another id is another element
		}
		other := start()
		disturb(reflect.ValueOf(other).Elem(), k.Path)
		want := []Change{{strings.NewReplacer("[]", "[x]", "*", "p").Replace(k.Path), k.Class}}
		if strings.HasPrefix(k.Path, "bindings") {
			want[0].Path = "bindings" // which have no ids
		}
		if got := Diff(base, other); !slices.Equal(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
		if got := Diff(other, base); !slices.Equal(got, want) {
			t.Errorf("back: got %v, want %v", got, want)
		}
		if got := Diff(other, other); len(got) != 0 {
			t.Errorf("%s differs from itself: %v", k.Path, got)
		}
	}
}

// disturb changes the leaf at path.
func disturb(v reflect.Value, path string) {
	head, rest, more := strings.Cut(path, ".")
	head, isList := strings.CutSuffix(head, "[]")
	v = v.FieldByIndex(findField(fieldsOf(v.Type()), head).index)
	if isList {
		v = v.Index(0)
	}
	if below, ok := strings.CutPrefix(rest, "*."); ok {
		key, one := reflect.ValueOf("p"), reflect.New(v.Type().Elem()).Elem()
		one.Set(v.MapIndex(key))
		disturb(one, below)
		v.SetMapIndex(key, one)
		return
	}
	if more {
		disturb(v, rest)
		return
	}
	switch shapeOf(v.Type()) {
	case shapeText:
		v.SetString(v.String() + "x")
	case shapeBool:
		v.SetBool(!v.Bool())
	case shapeInt, shapeMillis, shapeSize:
		v.SetInt(v.Int() + 1)
	case shapeFloat:
		v.SetFloat(v.Float() + 1)
	case shapeTexts:
		v.Set(reflect.ValueOf(append([]string{"more"}, v.Interface().([]string)...)))
	case shapeSecret:
		v.Set(reflect.ValueOf(NewSecret("other")))
	case shapeSecrets:
		v.Set(reflect.ValueOf(map[string]Secret{"a": NewSecret("other")}))
	}
}

func TestResolve(t *testing.T) {
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		profile   string
		env       map[string]string
		home      string
		id, state string
		config    string
	}{
		{"", nil, "/h", "", "/h/.openclaw", "/h/.openclaw/openclaw.json"},
		{"default", nil, "/h", "", "/h/.openclaw", "/h/.openclaw/openclaw.json"},
		{"rescue", nil, "/h", "rescue", "/h/.openclaw-rescue", "/h/.openclaw-rescue/openclaw.json"},
		{"dev", map[string]string{"OPENCLAW_PROFILE": "rescue"}, "/h", "dev", "/h/.openclaw-dev", "/h/.openclaw-dev/openclaw.json"},
		{"", map[string]string{"OPENCLAW_PROFILE": "a_b-9"}, "/h", "a_b-9", "/h/.openclaw-a_b-9", "/h/.openclaw-a_b-9/openclaw.json"},
		{"default", map[string]string{"OPENCLAW_PROFILE": "x"}, "/h", "", "/h/.openclaw", "/h/.openclaw/openclaw.json"},
		{"x", map[string]string{"OPENCLAW_STATE_DIR": "/s/"}, "", "x", "/s", "/s/openclaw.json"},
		{"", map[string]string{"OPENCLAW_STATE_DIR": "~/s", "OPENCLAW_CONFIG_PATH": "/etc/openclaw/openclaw.json"}, "/h", "", "/h/s", "/etc/openclaw/openclaw.json"},
		{"", map[string]string{"OPENCLAW_STATE_DIR": " ", "OPENCLAW_CONFIG_PATH": "conf/o.json"}, "/h", "", "/h/.openclaw", here + "/conf/o.json"},
	} {
		p, err := Resolve(c.profile, mapEnv(c.env), c.home)
		want := Paths{Profile: c.id, Dev: c.id == "dev", Home: c.home, StateDir: c.state, ConfigPath: c.config, Workspace: filepath.Join(c.state, "workspace")}
		if err != nil || p != want {
			t.Errorf("%+v:\n %+v, %v", c, p, err)
		}
	}
	for want, c := range map[string]struct {
		profile string
		env     map[string]string
		home    string
	}{
		"set HOME":                    {"", nil, ""},
		"HOME is not an absolute":     {"", nil, "h"},
		"--profile: a profile's name": {"../x", nil, "/h"},
		"OPENCLAW_PROFILE: a profile": {"", map[string]string{"OPENCLAW_PROFILE": "A"}, "/h"},
		"OPENCLAW_STATE_DIR begins":   {"", map[string]string{"OPENCLAW_STATE_DIR": "~/x"}, ""},
		"OPENCLAW_CONFIG_PATH: ~user": {"", map[string]string{"OPENCLAW_CONFIG_PATH": "~bob/x"}, "/h"},
	} {
		if _, err := Resolve(c.profile, mapEnv(c.env), c.home); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, want %s", c, err, want)
		}
	}
	for _, id := range []string{"", "-a", "_a", "A", "a b", "a/b", "..", "é", strings.Repeat("a", 65)} {
		if IsID(id) {
			t.Errorf("IsID(%q)", id)
		}
	}
	p := Paths{Home: "/h", StateDir: "/s", Workspace: "/s/workspace"}
	for in, want := range map[string]string{"": "/s/workspace", "~": "/h", "~/w": "/h/w", "/a": "/a", "rel/x": "/s/rel/x"} {
		if got := p.WorkspaceOf(ResolvedAgent{Workspace: in}); got != want {
			t.Errorf("workspace %q: %s", in, got)
		}
	}
}

func TestPorts(t *testing.T) {
	block, err := Block(18789)
	if err != nil || len(block) != len(Listeners()) {
		t.Fatal(err)
	}
	last, highest := 0, 0
	for _, r := range block {
		if r.First <= last || r.Last-r.First+1 != r.Count {
			t.Errorf("%+v", r)
		}
		last = r.Last
		highest = max(highest, r.Offset+r.Count)
	}
	if block[0].First != 18789 || block[1].First != 18791 || block[2].First != 18793 || block[3].First != 18800 || block[3].Last != 18899 || highest != PortBlock {
		t.Errorf("%+v", block)
	}
	for _, base := range []int{0, -1, 65426, 70000} {
		if _, err := Block(base); err == nil {
			t.Errorf("base %d accepted", base)
		}
	}
	if _, err := Block(65425); err != nil {
		t.Error(err)
	}
	c := Default()
	c.Gateway.Port = 20000
	const name = "OPENCLAW_GATEWAY_PORT"
	for _, p := range []struct {
		flag int
		env  string
		c    *Config
		want int
	}{{0, "", nil, 18789}, {0, "", c, 20000}, {0, "21000", c, 21000}, {22000, "21000", c, 22000}, {0, "x", c, 0}, {0, "65426", c, 0}, {-1, "", c, 0}, {0, "0", c, 0}} {
		got, err := Port(p.flag, mapEnv(map[string]string{name: p.env}), p.c)
		if got != p.want || (err != nil) != (p.want == 0) {
			t.Errorf("%+v: %d, %v", p, got, err)
		}
		if err != nil && p.flag == 0 && !strings.HasPrefix(err.Error(), name) {
			t.Errorf("does not name its source: %v", err)
		}
	}
}

// TestResolveSystem wants the files of a whole host's gateway where no variable moves them.
func TestResolveSystem(t *testing.T) {
	for _, c := range []struct{ profile, env, goos, state, config string }{
		{"", "", "linux", "/var/lib/openclaw", "/etc/openclaw/openclaw.json"},
		{"default", "x", "linux", "/var/lib/openclaw", "/etc/openclaw/openclaw.json"},
		{"", "rescue", "linux", "/var/lib/openclaw-rescue", "/etc/openclaw-rescue/openclaw.json"},
		{"a", "rescue", "freebsd", "/var/db/openclaw-a", "/usr/local/etc/openclaw-a/openclaw.json"},
	} {
		p, err := ResolveSystem(c.profile, c.env, c.goos)
		if err != nil || !p.System || p.StateDir != c.state || p.Home != c.state || p.Workspace != c.state+"/workspace" || p.ConfigPath != c.config ||
			p.Credentials() != filepath.Dir(c.config)+"/credentials" {
			t.Errorf("%+v: %+v, %v", c, p, err)
		}
	}
	if p, err := ResolveSystem("", "../x", "linux"); err == nil {
		t.Errorf("%+v", p)
	}
}
