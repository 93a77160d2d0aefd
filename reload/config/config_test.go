package config

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "rewrite golden files")

const (
	goodToken    = "3f6c1d0e9b8a74255f1e2d3c4b5a69788796a5b4c3d2e1f0"
	goodPassword = "correct horse battery"
)

// mapEnv is an environment for tests; no other is ever read.
func mapEnv(vars map[string]string) func(string) (string, bool) {
	return func(name string) (string, bool) { v, ok := vars[name]; return v, ok }
}

// world is the environment and the files that a test file declares in its
// comments: «// env NAME=VALUE», «// file PATH CONTENT».
func world(text []byte) Source {
	env, files := map[string]string{}, map[string]string{}
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		if rest, ok := strings.CutPrefix(line, "// env "); ok {
			name, value, _ := strings.Cut(rest, "=")
			env[name] = value
		}
		if rest, ok := strings.CutPrefix(line, "// file "); ok {
			path, content, _ := strings.Cut(rest, " ")
			files[path] = content
		}
	}
	return Source{Env: mapEnv(env), ReadFile: func(path string, limit int64, secret bool) ([]byte, error) {
		content, ok := files[path]
		if !ok {
			return nil, &fs.PathError{Op: "open", Path: path, Err: fs.ErrNotExist}
		}
		if secret == strings.HasPrefix(path, "/run/credentials") {
			return nil, errors.New("read with the wrong checks")
		}
		return []byte(content + "\n"), nil
	}}
}

// TestFiles compares what is said about each file of testdata/config with its .want.
func TestFiles(t *testing.T) {
	files, err := filepath.Glob("../../testdata/config/*.json5")
	if err != nil || len(files) == 0 {
		t.Fatal("no test files", err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			l, err := Parse("openclaw.json", text, world(text))
			var got bytes.Buffer
			if err != nil {
				var ps Problems
				if !errors.As(err, &ps) {
					t.Fatalf("not Problems: %v", err)
				}
				for _, p := range ps {
					fmt.Fprintln(&got, "error  ", p)
				}
			}
			for _, w := range l.Warnings {
				fmt.Fprintln(&got, "warning", w)
			}
			if got.Len() == 0 {
				fmt.Fprintln(&got, "fine")
			}
			golden(t, strings.TrimSuffix(file, ".json5")+".want", got.Bytes())
			if l.Config == nil || len(l.Hash) != 64 || !bytes.Equal(l.Raw, text) {
				t.Error("Loaded is incomplete")
			}
		})
	}
}

func golden(t *testing.T, file string, got []byte) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
}

func mustParse(t *testing.T, text string, env map[string]string) *Loaded {
	t.Helper()
	l, err := Parse("test", []byte(text), Source{Env: mapEnv(env)})
	if err != nil {
		t.Fatalf("%s:\n%v", text, err)
	}
	return l
}

func TestLoad(t *testing.T) {
	files := map[string][]byte{"here.json": Setup{Token: goodToken}.Text()}
	src := func(path string) Source {
		return Source{Path: path, ReadFile: func(path string, limit int64, secret bool) ([]byte, error) {
			if limit != maxFile || secret {
				t.Errorf("read of %s: limit %d, secret %v", path, limit, secret)
			}
			if raw, ok := files[path]; ok {
				return raw, nil
			}
			return nil, fs.ErrNotExist
		}}
	}
	if _, err := Load(src("absent.json")); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("absent file: %v", err)
	}
	l, err := Load(src("here.json"))
	if err != nil {
		t.Fatal(err)
	}
	if got := l.Config.Gateway.Auth.Token.Reveal(); got != goodToken || l.Config.Gateway.Mode != "local" || len(l.Warnings) != 0 {
		t.Errorf("minimal configuration: %q, %v", got, l.Warnings)
	}
}

// TestManyProblems: a file of nonsense is not answered with a megabyte.
func TestManyProblems(t *testing.T) {
	_, err := Parse("t", []byte("{"+strings.Repeat("\n", 3)+manyKeys("gatewa%d:0,", 500)+"}"), Source{})
	var ps Problems
	if !errors.As(err, &ps) || len(ps) != maxTold+1 || !strings.HasSuffix(ps[maxTold].Error(), "and 300 more") || !strings.Contains(ps[0].Error(), "t:4:1: gatewa0: unknown key (did you mean gateway?)") {
		t.Errorf("%.300v", err)
	}
	l, err := Parse("t", []byte("{agents:{list:["+manyKeys("{id:'a%d',identity:{}},", 500)+"]}}"), Source{})
	if err != nil || len(l.Warnings) != maxTold+1 || l.Warnings[maxTold].Msg != "and 300 more" {
		t.Errorf("%d warnings, %v", len(l.Warnings), err)
	}
}

func manyKeys(format string, n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, format, i)
	}
	return b.String()
}

func TestUnits(t *testing.T) {
	for in, want := range map[string]string{"0": "0", "1": "1", "1024": "1K", "1k": "1K", "1 KiB": "1K", "100M": "100M", "2GB": "2G", "1536M": "1536M", "1025": "1025"} {
		if got, ok := parseSize(in); !ok || got.String() != want {
			t.Errorf("%q: %v, %t", in, got, ok)
		}
	}
	for _, in := range []string{"", "M", "-1", "1.5G", "1T", "0x10", "9999999999G", "1MM"} {
		if got, ok := parseSize(in); ok {
			t.Errorf("%q: %v", in, got)
		}
	}
}

func TestSetup(t *testing.T) {
	l := mustParse(t, string(Setup{Token: goodToken, Port: 19121, Workspace: `/srv/a "b"\c`}.Text()), nil)
	if g := l.Config; g.Gateway.Port != 19121 || g.Agents.Defaults.Workspace != `/srv/a "b"\c` {
		t.Errorf("port %d, workspace %q", g.Gateway.Port, g.Agents.Defaults.Workspace)
	}
}

func TestDefaults(t *testing.T) {
	c := Default()
	if c.Gateway.Port != 18789 || c.Gateway.Bind != "loopback" || !c.Gateway.HTTP.Endpoints.Models.Enabled ||
		c.Logging.Rotation.MaxSize != 100<<20 || c.Gateway.HotReload.DebounceMs.Duration().String() != "300ms" ||
		c.Tools.Allow != nil {
		t.Errorf("%+v", c)
	}
	l := mustParse(t, `{models:{providers:{x:{baseUrl:"http://h",models:[{id:"m"}]}}}}`, nil)
	p := l.Config.Models.Providers["x"]
	if p.API != "openai-completions" || p.Models[0].ContextWindow != 128000 {
		t.Errorf("defaults inside maps and lists: %+v", p)
	}
	if l = mustParse(t, `{tools:{allow:[]}}`, nil); l.Config.Tools.Allow == nil || len(l.Config.Tools.Allow) != 0 {
		t.Error("an empty list is not the default")
	}
}

// TestTable holds the table to its own rules.
func TestTable(t *testing.T) {
	seen := map[string]bool{}
	walk(reflect.TypeFor[Config](), "", func(path string, f *field, s shape) {
		if seen[path] {
			t.Errorf("%s: twice", path)
		}
		seen[path] = true
		if f.class != None && f.class != Hot && f.class != Restart {
			t.Errorf("%s: reload class %q", path, f.class)
		}
		if !strings.HasSuffix(f.doc, ".") || len(f.doc) < 10 {
			t.Errorf("%s: doc %q", path, f.doc)
		}
		switch s {
		case shapeInt, shapeMillis, shapeFloat, shapeSize:
			if f.min == "" || f.max == "" {
				t.Errorf("%s: a number without bounds", path)
			}
		}
		if (s == shapeSecret) != (f.typ == reflect.TypeFor[Secret]()) {
			t.Errorf("%s: shape", path)
		}
		if key := path[strings.LastIndexByte(path, '.')+1:]; (s == shapeSecret || s == shapeSecrets) && hideBelow(key) != hideAll {
			t.Errorf("%s: Redact does not know %q for a secret", path, key)
		}
		for _, w := range olderWords {
			if w.pattern == path && !strings.Contains(w.msg, "does not speak") && !strings.Contains(","+strings.Join(f.oneOf, ",")+",", ","+w.means+",") {
				t.Errorf("%s: older word %q means %q, which is none of %v", path, w.word, w.means, f.oneOf)
			}
		}
	})
	// A tolerated key must not shadow, nor a section be misspelt.
	for _, e := range elsewhere {
		if e.section != "" && !sectionExists(e.section) {
			t.Errorf("elsewhere: no section %q", e.section)
		}
		for _, word := range strings.Fields(e.keys) {
			for path := range seen {
				if rest, ok := strings.CutPrefix(path, joinKey(e.section, strings.TrimSuffix(word, "*"))); ok && (rest == "" || strings.HasSuffix(word, "*") || rest[0] == '.' || rest[0] == '[') {
					t.Errorf("elsewhere: %s %s hides %s", e.section, word, path)
				}
			}
		}
	}
}

func sectionExists(section string) bool {
	for _, k := range Keys() {
		if strings.HasPrefix(k.Path, section+".") || strings.HasPrefix(k.Path, section+"[") {
			return true
		}
	}
	return false
}

// textWith is a configuration with one key set, and what must stand beside it.
func textWith(path, value string) string {
	root := map[string]any{}
	whole, _, _ := strings.Cut(path, ".*")
	var put func(m map[string]any, path string)
	put = func(m map[string]any, path string) {
		head, rest, more := strings.Cut(path, ".")
		if !more {
			m[head] = json.RawMessage(value)
			return
		}
		if list, ok := strings.CutSuffix(head, "[]"); ok {
			inner := map[string]any{"id": "x"}
			if list == "bindings" {
				match := map[string]any{"channel": "p"}
				inner = map[string]any{"agentId": "main", "match": match}
				if key, ok := strings.CutPrefix(rest, "match."); ok {
					put(match, key)
					m[list] = []any{inner}
					return
				}
			}
			put(inner, rest)
			m[list] = []any{inner}
			return
		}
		inner := map[string]any{}
		if head == "*" {
			head = "p"
			if whole == "models.providers" {
				inner["baseUrl"] = "http://h"
			}
		}
		put(inner, rest)
		m[head] = inner
	}
	put(root, path)
	if channels, ok := root["channels"].(map[string]any); ok {
		ch := channels["p"].(map[string]any)
		if strings.HasSuffix(path, "dmPolicy") { // which open alone does not open
			ch["allowFrom"] = []string{"*"}
		}
		for key, value := range map[string]any{"kind": "process", "command": []string{"/bin/x"}} {
			if ch[key] == nil {
				ch[key] = value
			}
		}
	}
	if tls, ok := get(root, "gateway", "tls"); ok {
		for _, key := range []string{"certPath", "keyPath"} {
			if tls[key] == nil {
				tls[key] = "x.pem"
			}
		}
	}
	if gateway, ok := get(root, "gateway"); ok && gateway["bind"] != nil {
		gateway["customBindHost"] = "127.0.0.1"
	}
	text, _ := json.Marshal(root)
	return string(text)
}

func get(m map[string]any, keys ...string) (map[string]any, bool) {
	for _, k := range keys {
		inner, ok := m[k].(map[string]any)
		if !ok {
			return nil, false
		}
		m = inner
	}
	return m, true
}

// TestEveryKey sets each key of the table to good values and bad ones.
func TestEveryKey(t *testing.T) {
	special := map[string][]string{
		"gateway.customBindHost":                          {`"127.0.0.1"`},
		"gateway.trustedProxies":                          {`["10.0.0.1","::1/128"]`},
		"gateway.controlUi.allowedOrigins":                {`["https://a.example","http://localhost:8080","tauri://localhost"]`},
		"gateway.auth.token":                              {`"` + goodToken + `"`},
		"gateway.auth.password":                           {`"` + goodPassword + `"`},
		"agents.defaults.model.primary":                   {`"builtin/echo"`},
		"agents.defaults.model.fallbacks":                 {`["builtin/echo"]`},
		"agents.list[].model.primary":                     {`"builtin/echo"`},
		"agents.list[].model.fallbacks":                   {`["builtin/echo"]`},
		"models.providers.*.baseUrl":                      {`"https://h:8443/v1"`},
		"models.providers.*.models[].input":               {`["text","image"]`},
		"models.providers.*.headers":                      {`{"X-Key":"v"}`},
		"session.mainKey":                                 {`"home"`},
		"tools.exec.allow":                                {`["/bin/true","/usr/bin/env"]`, `[]`},
		"agents.list[].tools.exec.allow":                  {`["/bin/true"]`},
		"tools.exec.env":                                  {`["CI","MY_FLAG"]`, `[]`},
		"agents.list[].tools.exec.env":                    {`["CI"]`},
		"bindings[].agentId":                              {`"main"`},
		"channels.*.kind":                                 {`"process"`},
		"channels.*.groups.*.topics.*.agentId":            {`"main"`},
		"channels.*.accounts.*.groups.*.topics.*.agentId": {`"main"`},
		"channels.*.command":                              {`["/bin/cat","-u"]`},
		"channels.*.accounts.*.command":                   {`["/bin/cat","-u"]`},
	}
	for _, k := range Keys() {
		good, bad := special[k.Path], []string{`null`, `[[]]`, `{"a":1}`}
		words := strings.Split(k.Range, ", ")
		least, most, _ := strings.Cut(k.Range, "–")
		switch k.Type {
		case "string", "secret":
			bad = append(bad, `1`, `true`, `"${UNSET_VARIABLE}"`)
			if k.Range != "" {
				bad = append(bad, `"nonsense"`, `""`)
				for _, w := range words {
					if good != nil && k.Path == "channels.*.kind" {
						continue // telegram is the channel of that name
					}
					good = append(good, `"`+w+`"`)
				}
			} else if good == nil {
				good = []string{`"x"`}
			}
		case "boolean":
			good, bad = []string{`true`, `false`}, append(bad, `1`, `"true"`)
		case "integer", "milliseconds":
			good, bad = []string{least, most}, append(bad, `"1"`, `true`, `-1`, `1.5`, `1e300`, most+`0`)
			if least != "0" {
				bad = append(bad, `0`)
			}
		case "number":
			good, bad = []string{least, most, `0.25`}, append(bad, `"1"`, `-0.1`, most+`0`)
		case "size":
			good, bad = []string{`"1M"`, `1048576`, `"100 mb"`, `"` + least + `"`, `"` + most + `"`}, append(bad, `true`, `-1`, `1`, `"1"`, `"M"`, `"1X"`, `"9999999999G"`)
		case "list of strings":
			bad = append(bad, `"x"`, `["${UNSET_VARIABLE}"]`)
			if !strings.HasSuffix(k.Path, "llowFrom") { // where ids may be written as numbers
				bad = append(bad, `[1]`)
			}
			if good == nil {
				good = []string{`["x","y"]`, `[]`}
			}
		case "object of secrets":
			bad = append(bad[:2], `"x"`, `{"a":1}`, `{"a":""}`)
		default:
			t.Fatalf("%s: type %q", k.Path, k.Type)
		}
		for _, value := range good {
			l, err := Parse("t", []byte(textWith(k.Path, value)), Source{})
			if err != nil {
				t.Errorf("%s = %s: %v", k.Path, value, err)
				continue
			}
			// What was set is what Get shows, for all that is written as it is shown.
			if k.Secret || k.Type == "size" || k.Type == "number" {
				continue
			}
			path := strings.NewReplacer("[]", "[0]", "*", "p").Replace(k.Path)
			got, err := l.Config.Get(path)
			var compact bytes.Buffer
			if err == nil {
				err = json.Compact(&compact, got)
			}
			if err != nil || compact.String() != value && !(compact.String() == "null" && (value == "0" || value == "[]")) {
				t.Errorf("Get(%s) = %s, %v; was set to %s", path, got, err, value)
			}
		}
		for _, value := range bad {
			_, err := Parse("t", []byte(textWith(k.Path, value)), Source{})
			var ps Problems
			if !errors.As(err, &ps) {
				t.Errorf("%s = %s: accepted", k.Path, value)
				continue
			}
			path := strings.NewReplacer("[]", "[0]", "*", "p").Replace(k.Path)
			for _, p := range ps {
				if !strings.HasPrefix(p.Path, path) && p.Path != strings.TrimSuffix(path, ".primary") {
					t.Errorf("%s = %s: complains of %v", k.Path, value, p)
				}
			}
		}
	}
}

func TestAuthFromEnv(t *testing.T) {
	const T, P = "OPENCLAW_GATEWAY_TOKEN", "OPENCLAW_GATEWAY_PASSWORD"
	for _, c := range []struct {
		name, auth string
		env        map[string]string
		mode, want string
	}{
		{"nothing", `{}`, nil, "token", ""},
		{"blank variables are none", `{}`, map[string]string{T: "", P: ""}, "token", ""},
		{"token variable", `{}`, map[string]string{T: goodToken}, "token", goodToken},
		{"password variable", `{}`, map[string]string{P: goodPassword}, "password", goodPassword},
		{"both variables", `{}`, map[string]string{T: goodToken, P: goodPassword}, "token", goodToken},
		{"file before variable", `{token:"` + goodToken + `00"}`, map[string]string{T: goodToken}, "token", goodToken + "00"},
		{"password file, token variable", `{password:"` + goodPassword + `"}`, map[string]string{T: goodToken}, "password", goodPassword},
		{"mode decides", `{mode:"password"}`, map[string]string{T: goodToken, P: goodPassword}, "password", goodPassword},
		{"mode without its secret", `{mode:"password",token:"` + goodToken + `"}`, nil, "password", ""},
		{"idle variable is not judged", `{token:"` + goodToken + `"}`, map[string]string{P: "x"}, "token", goodToken},
	} {
		a := mustParse(t, `{gateway:{auth:`+c.auth+`}}`, c.env).Config.Gateway.Auth
		if a.Mode != c.mode || a.Secret().Reveal() != c.want || a.Missing() != (c.want == "") {
			t.Errorf("%s: mode %s, missing %t", c.name, a.Mode, a.Missing())
		}
	}
	for _, env := range []map[string]string{{T: "changeme"}, {P: "short"}, {T: "\xff" + goodToken}} {
		_, err := Parse("t", []byte(`{}`), Source{Env: mapEnv(env)})
		if err == nil || !strings.Contains(err.Error(), "gateway.auth.") || !strings.Contains(err.Error(), "from OPENCLAW_GATEWAY_") {
			t.Errorf("%v: %v", env, err)
		}
	}
}

// TestJSONRoundTrip: the effective configuration is a configuration that says the same.
func TestJSONRoundTrip(t *testing.T) {
	text, err := os.ReadFile("../../testdata/config/existing-product.json5")
	if err != nil {
		t.Fatal(err)
	}
	l, err := Parse("t", text, world(text))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []*Config{Default(), l.Config} {
		again, err := Parse("t", c.JSON(false), Source{})
		if err != nil {
			t.Fatal(err)
		}
		again.Config.Gateway.Auth.Mode = c.Gateway.Auth.Mode // Default has no secret to decide it
		if d := Diff(c, again.Config); len(d) != 0 {
			t.Errorf("differs: %v", d)
		}
		if !json.Valid(c.JSON(true)) {
			t.Error("not JSON")
		}
	}
}

func TestGet(t *testing.T) {
	c := mustParse(t, `{gateway:{port:19000,auth:{token:"`+goodToken+`"},tools:{deny:["read","exec"]}},agents:{list:[{id:"main"},{id:"b",name:"Bee"}]},
		models:{providers:{"a.b":{baseUrl:"http://h",headers:{"X-Y":"zz"},models:[{id:"m"}]}}}}`, nil).Config
	for path, want := range map[string]string{
		"gateway.port":                         "19000",
		"gateway.bind":                         `"loopback"`,
		"gateway.customBindHost":               "null",
		"gateway.auth.token":                   `"` + RedactedPlaceholder + `"`,
		"gateway.auth.password":                "null",
		"agents.list[0].id":                    `"main"`,
		"agents.list[b].name":                  `"Bee"`,
		"agents.list.1.name":                   `"Bee"`,
		`models.providers["a.b"].models[m].id`: `"m"`,
		`models.providers["a.b"].headers.X-Y`:  `"` + RedactedPlaceholder + `"`,
		"gateway.tools.deny[1]":                `"exec"`,
		"gateway.hotReload":                    "{\n  \"mode\": \"hybrid\",\n  \"debounceMs\": 300\n}",
		"gateway.reload.mode":                  `"hybrid"`,
		"gateway.logging.level":                `"info"`,
		"logging.rotation.maxSize":             `"100M"`,
	} {
		if got, err := c.Get(path); err != nil || string(got) != want {
			t.Errorf("%s: %s, %v", path, got, err)
		}
	}
	for path, want := range map[string]string{
		"gateway.prot":      "did you mean port?",
		"gatway":            "did you mean gateway?",
		"agents.list[mian]": "did you mean main?",
		"agents.list[2]":    "unknown key",
		"agents.list[-1]":   "unknown key",
		"gateway.port.x":    "unknown key",
		"gateway..port":     "is not a path",
		"gateway.":          "is not a path",
		"a[":                "is not a path",
		"a[\"":              "is not a path",
		"a[0]b":             "is not a path",
	} {
		if _, err := c.Get(path); !errors.Is(err, ErrUnknownPath) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", path, err)
		}
	}
	all, err := c.Get("")
	if err != nil || !bytes.Equal(all, c.JSON(true)) {
		t.Error("Get of nothing is not everything")
	}
}

func TestDocs(t *testing.T) {
	var schema map[string]any
	if err := json.Unmarshal(Schema(), &schema); err != nil {
		t.Fatal(err)
	}
	reference := string(Reference())
	for _, k := range Keys() {
		if !strings.Contains(reference, "| `"+k.Path+"` |") {
			t.Errorf("%s is not in the reference", k.Path)
		}
		at := any(schema)
		for part := range strings.SplitSeq(strings.NewReplacer("[]", ".[]", "*", "*").Replace(k.Path), ".") {
			m := at.(map[string]any)
			if forms, ok := m["anyOf"].([]any); ok {
				m = forms[0].(map[string]any)
			}
			switch part {
			case "[]":
				at = m["items"]
			case "*":
				at = m["additionalProperties"]
			default:
				at = m["properties"].(map[string]any)[part]
			}
		}
		leaf, ok := at.(map[string]any)
		if !ok || leaf["description"] != k.Doc || leaf["x-reload"] != string(k.Class) {
			t.Errorf("%s: schema has %v", k.Path, at)
		}
		if k.Default != "" && k.Default != "required" && leaf["default"] == nil {
			t.Errorf("%s: no default in the schema", k.Path)
		}
	}
	if bytes.Count(Reference(), []byte("\n")) != len(Keys())+2 {
		t.Error("reference has other lines than keys")
	}
}

func BenchmarkParse(b *testing.B) {
	text := Setup{Token: goodToken}.Text()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Parse("t", text, Source{}); err != nil {
			b.Fatal(err)
		}
	}
}
