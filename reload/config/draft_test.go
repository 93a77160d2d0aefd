package config

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

// bigText is a configuration of about 21 KB.
func bigText() string {
	return "// Ours.\n{\n  gateway: { port: 18789, auth: { token: \"" + goodToken + "\" } },\n  channels: {\n" +
		manyKeys("    telegram%03d: { enabled: true, botToken: \"canary-%[1]d-7f3a9c\" },\n", 300) + "  },\n  session: { mainKey: \"home\" },\n}\n"
}

// TestDraftRedacted: what a client was shown and sends back unchanged is the file.
func TestDraftRedacted(t *testing.T) {
	texts := map[string][]byte{"big": []byte(bigText()), "setup": Setup{Token: goodToken}.Text(), "comments": []byte(`{
  // token: "` + goodToken + `"
  gateway: { auth: { /* the old one: ` + goodToken + ` */ token: '` + goodToken + `' } }, // plain
  // apiKey: "abc"
}`)}
	files, _ := filepath.Glob("../../testdata/config/*.json5")
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		texts[filepath.Base(file)] = text
	}
	hidden := 0
	for name, old := range texts {
		root, err := ParseJSON5(old)
		if err != nil {
			continue // shown as one placeholder: there is no way back
		}
		shown := Redact(old, root)
		hidden += bytes.Count(shown, []byte(RedactedPlaceholder))
		d, err := NewDraft(name, old, shown, world(old), false)
		if err != nil || !bytes.Equal(d.Text, old) || len(d.Changes) != 0 {
			t.Errorf("%s: %v, %+v", name, err, d)
		}
	}
	if hidden < 300 {
		t.Error("nothing was hidden:", hidden)
	}

	// Edited around them: a comment more, a key less, an element moved.
	old := texts["comments"]
	root, _ := ParseJSON5(old)
	edited := strings.Replace(string(Redact(old, root)), "  // "+RedactedPlaceholder+"\n", "  // new\n", 1)
	d, err := NewDraft("f", old, []byte(edited), Source{}, false)
	if want := strings.Replace(string(old), "  // token: \""+goodToken+"\"\n", "  // new\n", 1); err != nil || string(d.Text) != want {
		t.Errorf("%v\n%s", err, edited)
	}
	// A key more before them.
	edited = strings.Replace(string(Redact(old, root)), "{", "{ session: {},", 1)
	if d, err = NewDraft("f", old, []byte(edited), Source{}, false); err != nil || string(d.Text) != strings.Replace(string(old), "{", "{ session: {},", 1) {
		t.Errorf("%v\n%s", err, edited)
	}
}

func TestDraftRefused(t *testing.T) {
	const mask = `"` + RedactedPlaceholder + `"`
	good := `{gateway:{auth:{token:"` + goodToken + `"}}}`
	bad := `{gatewya:1,gateway:{port:0},agents:{list:[{id:"a"},{id:"A!"}]}}`
	for _, c := range []struct {
		name, old, text string
		want            []string // in the error; none: accepted
		left            int
	}{
		{"no file", "", good, nil, 0},
		{"no file, mask", "", "{gateway:{auth:{token:\n " + mask + "}}}", []string{"f:2:2: gateway.auth.token: is the mask"}, 0},
		{"mask of a new channel", good, "{channels:{x:{botToken:" + mask + "}}}", []string{"f:1:24: channels.x.botToken: holds the mask"}, 0},
		{"mask within", good, "{channels:{x:{note:'see " + RedactedPlaceholder + "'}}}", []string{"f:1:20: channels.x.note: holds the mask"}, 0},
		{"mask in a comment", good, "{\n // " + RedactedPlaceholder + "\n}", []string{"f:2:2: this comment is the mask"}, 0},
		{"mask that the file has", "{channels:{x:{note:'" + RedactedPlaceholder + "'}}}", "{channels:{x:{note:'" + RedactedPlaceholder + "'}},session:{}}", nil, 1},
		{"syntax", good, "{gateway:\n {port:}}", []string{"f:2:8: expected a value"}, 0},
		{"empty", good, " ", []string{"f:1:2: empty"}, 0},
		{"new problem", good, `{gateway:{port:"x"}}`, []string{"f:1:16: gateway.port: must be a number"}, 0},
		{"as bad as before", bad, strings.Replace(bad, "{", "{\n", 1), nil, 3},
		{"one mended", bad, strings.Replace(bad, "port:0", "port:1", 1), nil, 2},
		{"one mended that moves another", bad, strings.Replace(bad, `{id:"a"},`, "", 1), []string{"agents.list[0].id"}, 0},
		{"mended, and others moved", bad, strings.Replace(strings.Replace(bad, `{id:"a"},`, "", 1), "port:0", "port:1", 1), nil, 2},
		{"one mended, one new", bad, strings.Replace(bad, "port:0", "bind:0", 1), []string{"gateway.bind: must be a string"}, 0},
		{"mending what is no JSON5", "{gateway:", good, nil, 0},
		{"not mending it", "{gateway:", bad, []string{"gatewya", "gateway.port", "agents.list[1].id"}, 0},
		{"hundreds of problems", "{" + manyKeys("x%d:1,", 500) + "}", "{" + manyKeys("x%d:1,", 499) + "}", nil, 201},
		{"hundreds and one more", "{" + manyKeys("x%d:1,", 500) + "}", "{" + manyKeys("x%d:1,", 501) + "}", []string{"and 301 more"}, 0},
	} {
		var old []byte
		if c.old != "" {
			old = []byte(c.old)
		}
		d, err := NewDraft("f", old, []byte(c.text), Source{}, true)
		var ps Problems
		if len(c.want) == 0 {
			if err != nil || len(d.Left) != c.left || string(d.Text) != c.text || !bytes.Equal(d.Loaded.Raw, d.Text) {
				t.Errorf("%s: %v, %+v", c.name, err, d)
			}
		} else if !errors.As(err, &ps) || len(ps) != len(c.want) {
			t.Errorf("%s: %v", c.name, err)
		}
		for i, want := range c.want {
			if i < len(ps) && !strings.Contains(ps[i].Error(), want) {
				t.Errorf("%s: %v, want %s", c.name, ps[i], want)
			}
		}
	}
}

func TestDraftShrinks(t *testing.T) {
	old := bigText()
	huge, err := Unset([]byte(old), "channels")
	if err != nil {
		t.Fatal(err)
	}
	twice, _ := Unset(huge, "session")
	patched, err := Patch([]byte(old), []byte(`{channels: null}`))
	if err != nil {
		t.Fatal(err)
	}
	list := `{gateway:{port:1},agents:{list:[{id:"big",systemPrompt:"` + strings.Repeat("x", 2000) + `",name:"` + strings.Repeat("n", 100) + `"},{id:"b"}]}}`
	without, _ := Unset([]byte(list), "agents.list[big]")
	for name, c := range map[string]struct {
		old, text string
		refused   bool
	}{
		"clobbered":                         {old, "{ gateway: { auth: { token: \"" + goodToken + "\" }, port: 18789 }, " + strings.Repeat(" ", 260) + "}", true},
		"rewritten without a section":       {old, "{\"gateway\":{\"port\":18789,\"auth\":{\"token\":\"" + goodToken + "\"}},\"session\":{\"mainKey\":\"home\"}}", true},
		"empty":                             {old, "{}", true},
		"empty sections":                    {old, "{gateway:{},channels:{},session:{}}", true},
		"all commented out":                 {old, "{/*" + old + "*/}", true},
		"a huge section unset":              {old, string(huge), false},
		"a huge section patched away":       {old, string(patched), false},
		"two sections unset":                {old, string(twice), true},
		"a huge element unset":              {list, string(without), false},
		"comments gone":                     {"/*" + strings.Repeat("x", 5000) + "*/{gateway:{port:1}}", "{gateway:{port:2}}", false},
		"a small file":                      {"{gateway:{port:1}}", "{}", false},
		"nothing but comments before":       {"/*" + strings.Repeat("x", 5000) + "*/{}", "{}", false},
		"broken and clobbered":              {old + "x", "{gateway:{port:1}}", true},
		"broken and mended":                 {old + "x", old, false},
		"half of it":                        {old, old[:9000] + "}}", false},
		"one long text gone of many values": {"{gateway:{port:1},agents:{defaults:{systemPrompt:'" + strings.Repeat("x", 3000) + "',workspace:'w'}}}", "{gateway:{port:1},agents:{defaults:{systemPrompt:'',workspace:'w'}}}", false},
	} {
		if name == "half of it" {
			c.text = old[:strings.LastIndex(old[:9000], "\n")] + "\n}}"
		}
		_, err := NewDraft("f", []byte(c.old), []byte(c.text), Source{}, false)
		if errors.Is(err, ErrShrinks) != c.refused || !c.refused && err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if sizes := fmt.Sprintf("%d bytes", len(c.old)); c.refused && (!strings.Contains(err.Error(), sizes) || !strings.Contains(err.Error(), fmt.Sprintf("%d bytes", len(c.text)))) {
			t.Errorf("%s: %v does not name the sizes", name, err)
		}
		if _, err := NewDraft("f", []byte(c.old), []byte(c.text), Source{}, true); err != nil {
			t.Errorf("%s, allowed: %v", name, err)
		}
	}
	if l := len(old); l < 20000 || l > 23000 {
		t.Error("the file is", l, "bytes")
	}
}

// TestDraftSecret: no draft takes the last secret away unless that is meant.
func TestDraftSecret(t *testing.T) {
	token, password := `{gateway:{auth:{token:"`+goodToken+`"}}}`, `{gateway:{auth:{mode:"password",password:"`+goodPassword+`"}}}`
	for _, c := range []struct {
		name, old, text, env string // OPENCLAW_GATEWAY_TOKEN
		want                 string // the key that the error names; "" = accepted
	}{
		{"section replaced", token, "{gateway:{}}", "", "gateway.auth.token"},
		{"unset", token, "{gateway:{auth:{}}}", "", "gateway.auth.token"},
		{"other mode", token, `{gateway:{auth:{mode:"password",token:"` + goodToken + `"}}}`, "", "gateway.auth.password"},
		{"other mode with its secret", token, password, "", ""},
		{"back", password, strings.Replace(password, `mode:"password"`, `mode:"token"`, 1), "", "gateway.auth.token"},
		{"mode left to the secret", password, strings.Replace(password, `mode:"password",`, "", 1), "", ""},
		{"one in the environment", token, "{}", goodToken, ""},
		{"only in the environment", "{}", `{gateway:{auth:{mode:"password"}}}`, goodToken, "gateway.auth.password"},
		{"none before", "{gateway:{port:1}}", "{}", "", ""},
		{"no file before", "", "{gateway:{port:1}}", "", ""},
		{"what cannot be read here", `{gateway:{auth:{token:"${ELSEWHERE}"}}}`, "{}", "", "gateway.auth.token"},
		{"what cannot be read here stays", `{gateway:{auth:{token:"${ELSEWHERE}"}}}`, `{gateway:{port:1,auth:{token:"${ELSEWHERE}"}}}`, "", ""},
	} {
		var old []byte
		if c.old != "" {
			old = []byte(c.old)
		}
		env := map[string]string{"OPENCLAW_GATEWAY_TOKEN": c.env}
		src := Source{Env: func(name string) (string, bool) { return env[name], env[name] != "" }}
		_, err := NewDraft("f", old, []byte(c.text), src, false)
		if c.want == "" && err != nil || c.want != "" && (!errors.Is(err, ErrShrinks) || !strings.Contains(err.Error(), "secret away: "+c.want+" is not set")) {
			t.Errorf("%s: %v", c.name, err)
		}
		if _, err := NewDraft("f", old, []byte(c.text), src, true); err != nil {
			t.Errorf("%s, allowed: %v", c.name, err)
		}
	}
}

func TestDraftChanges(t *testing.T) {
	d, err := NewDraft("f", []byte(`{gateway:{port:19000},x:1}`), []byte(`{gateway:{port:19000,bind:"lan"},x:1,agents:{list:[{id:"a"}]}}`), Source{}, false)
	want := []Change{{"gateway.bind", Restart}, {"agents.list[a]", Hot}}
	if err != nil || !slices.Equal(d.Changes, want) || len(d.Left) != 1 {
		t.Errorf("%v, %+v", err, d)
	}
	if d, err = NewDraft("f", nil, []byte(`{gateway:{port:19000}}`), Source{}, false); err != nil || !slices.Contains(d.Changes, Change{"gateway.port", Restart}) {
		t.Errorf("%v, %+v", err, d)
	}
}

func TestLiteral(t *testing.T) {
	for _, c := range [][3]string{
		{"gateway.bind", "lan", `"lan"`},
		{"gateway.bind", `"lan"`, `"lan"`},
		{"gateway.bind", ` 'lan' `, `'lan'`},
		{"gateway.bind", `null`, `"null"`},
		{"gateway.bind", `it's "x"`, `"it's \"x\""`},
		{"gateway.auth.token", "12345", `"12345"`},
		{"gateway.auth.token", "${TOKEN}", `"${TOKEN}"`},
		{"models.providers.p.headers.X", "true", `"true"`},
		{"agents.list[main].name", "5", `"5"`},
		{"tools.deny[0]", "1", `"1"`},
		{"gateway.logging.level", "null", `"null"`},
		{"gateway.port", "19000", "19000"},
		{"gateway.port", " 0x10 // hex", "0x10"},
		{"gateway.port", "high", `"high"`},
		{"gateway.port", "", `""`},
		{"logging.rotation.maxSize", "10M", `"10M"`},
		{"logging.rotation.enabled", "true", "true"},
		{"agents.defaults.systemPrompt", "[be] brief", `"[be] brief"`},
		{"gateway.auth.password", `"it's`, `"\"it's"`},
		{"tools.deny", "['exec',]", `['exec',]`},
		{"agents.defaults.model", "p/m", `"p/m"`},
		{"agents.defaults.model", "{primary:'p/m'}", "{primary:'p/m'}"},
		{"channels.x", "null", "null"},
		{"channels.x", "1 2", `"1 2"`},
		{"channels.x", "a\nb", `"a\nb"`},
	} {
		if got, err := Literal(c[0], c[1]); err != nil || string(got) != c[2] || !parses(got) {
			t.Errorf("%s %q: %s, %v; want %s", c[0], c[1], got, err, c[2])
		}
	}
	for _, c := range [][2]string{{"a..b", "1"}, {"", "1"}, {"a", "\xff"}, {`["\xff"]`, "1"},
		{"tools.deny", "[exec]"}, {"tools.deny", ` ["exec"`}, {"agents.defaults.model", "{primary:"}, {"channels.x", `"a" b`}, {"gateway.bind", "'lan"}} {
		if got, err := Literal(c[0], c[1]); err == nil {
			t.Errorf("%q %q: %s", c[0], c[1], got)
		}
	}
}

func TestAdvice(t *testing.T) {
	for _, c := range [][3]string{
		{"tools.deny", "exec", `write a list: '["exec"]'`},
		{"tools.deny", `"exec"`, `write a list: '["exec"]'`},
		{"tools.deny", "[5]", ""},
		{"tools.deny", "it's", ""},
		{"logging.rotation.enabled", "on", "write true or false"},
		{"gateway.port", "on", ""},
		{"a..b", "on", ""},
		{"channels.x", "on", ""},
	} {
		if got := Advice(c[0], c[1]); got != c[2] {
			t.Errorf("%s %s: %q, want %q", c[0], c[1], got, c[2])
		}
	}
}

func TestIsSecret(t *testing.T) {
	for path, want := range map[string]bool{
		"gateway.auth.token": true, "gateway.auth.password": true, "gateway.auth": false, "gateway.auth.mode": false, "gateway.port": false,
		"models.providers.x.apiKey": true, `models.providers["a b"].headers.Accept`: true, "models.providers.x.headers": true, "models.providers.x.baseUrl": false,
		"models.providers.x.models[0].maxTokens": false, "logging.file": false, "gateway.logging.file": false, "gateway.reload.mode": false,
		"channels.telegram.botToken": true, "channels.telegram.name": false, "channels.x.auth": true, "env.vars.PLAIN": true, "gateway.remote.token": true,
		"gateway.auth.tokn": true, "": false, "a..b": false, "agents.list[0].name": false,
	} {
		if IsSecret(path) != want {
			t.Errorf("%s: %t", path, !want)
		}
	}
	for _, k := range Keys() {
		if path := strings.NewReplacer("[]", "[x]", "*", "p").Replace(k.Path); IsSecret(path) != k.Secret {
			t.Errorf("%s: %t", path, !k.Secret)
		}
	}
}

// TestWithHot sets each key of the table: the hot ones come over, the others stay.
func TestWithHot(t *testing.T) {
	for _, k := range Keys() {
		value := map[string]string{"string": `"x"`, "secret": `"` + goodToken + `"`, "boolean": "true", "list of strings": `["exec"]`, "size": `"1M"`, "object of secrets": `{X:"v"}`}[k.Type]
		if least, _, ok := strings.Cut(k.Range, "–"); ok && value == "" {
			value = least
		} else if words := strings.Split(k.Range, ", "); words[0] != "" && k.Type != "size" {
			value = `"` + words[len(words)-1] + `"`
		}
		next, _ := Parse("t", []byte(textWith(k.Path, value)), Source{})
		other, _ := Parse("t", []byte(strings.ReplaceAll(textWith(k.Path, value), "true", "false")), Source{})
		running := Default()
		running.Gateway.Auth = next.Config.Gateway.Auth
		running.Gateway.Auth.Token = NewSecret("running")
		for _, next := range []*Config{next.Config, other.Config} {
			before := string(running.JSON(false))
			c := WithHot(running, next)
			if restart := ClassOf(Diff(running, c)); restart == Restart {
				t.Errorf("%s: takes over what needs a restart: %v", k.Path, Diff(running, c))
			}
			for _, left := range Diff(c, next) {
				if left.Class != Restart && !strings.HasPrefix(left.Path, "gateway.auth.") {
					t.Errorf("%s: leaves %v", k.Path, left)
				}
			}
			if string(running.JSON(false)) != before {
				t.Errorf("%s: changes what runs", k.Path)
			}
		}
	}
	// Nothing is shared.
	running, next := Default(), mustParse(t, `{tools:{deny:["a"],allow:["a"]},agents:{list:[{id:"x",model:{fallbacks:["builtin/echo"]}}]},models:{providers:{p:{baseUrl:"http://h",headers:{A:"b"}}}}}`, nil).Config
	c := WithHot(running, next)
	if d := Diff(c, next); len(d) > 1 {
		t.Error(d)
	}
	c.Tools.Allow[0], c.Tools.Deny[0], c.Agents.List[0].Model.Fallbacks[0] = "changed", "changed", "changed"
	c.Models.Providers["p"].Headers["A"] = NewSecret("changed")
	c.Models.Providers["q"] = Provider{}
	if again := WithHot(running, next); !reflect.DeepEqual(running, Default()) || len(Diff(again, next)) > 1 || len(next.Models.Providers) != 1 || next.Agents.List[0].Model.Fallbacks[0] != "builtin/echo" {
		t.Error("a change of the result reaches its sources")
	}
}

func TestWithHotAuth(t *testing.T) {
	other := strings.Repeat("0f1e2d3c4b5a6978", 3) + "ab97"
	for _, c := range []struct{ name, running, next, mode, secret string }{
		{"rotation", `{token:"` + goodToken + `"}`, `{token:"` + other + `"}`, "token", other},
		{"another mode waits", `{token:"` + goodToken + `"}`, `{mode:"password",password:"` + goodPassword + `",token:"` + other + `"}`, "token", goodToken},
		{"mode and its secret go together", `{password:"` + goodPassword + `"}`, `{token:"` + other + `"}`, "password", goodPassword},
		{"never without", `{token:"` + goodToken + `"}`, `{}`, "token", goodToken},
	} {
		parse := func(auth string) *Config { return mustParse(t, `{gateway:{auth:`+auth+`}}`, nil).Config }
		if a := WithHot(parse(c.running), parse(c.next)).Gateway.Auth; a.Mode != c.mode || a.Secret().Reveal() != c.secret {
			t.Errorf("%s: mode %s", c.name, a.Mode)
		}
	}
}

// TestAliasEffect: wherever the sections stand, what was set is what is read,
// and what was unset is the default.
func TestAliasEffect(t *testing.T) {
	sections := []string{"", `{}`, `{level:"warn"}`, `{level:"warn",rotation:{maxFiles:3}}`, `{rotation:{maxFiles:4},format:"text"}`}
	for _, top := range sections {
		for _, inner := range sections {
			text := "{"
			if top != "" {
				text += "logging:" + top + ","
			}
			if inner != "" {
				text += "gateway:{logging:" + inner + "},"
			}
			text += "}"
			for _, section := range []string{"logging", "gateway.logging"} {
				for _, c := range [][2]string{{".level", `"debug"`}, {".format", `"text"`}, {".rotation.maxFiles", "7"}, {".rotation", `{maxFiles:7}`}, {"", `{level:"debug"}`}} {
					path := section + c[0]
					nested := strings.ReplaceAll(strings.TrimPrefix(path, "gateway."), ".", ":{")
					patch := "{" + nested + ":" + c[1] + strings.Repeat("}", strings.Count(nested, "{")+1)
					if strings.HasPrefix(path, "gateway.") {
						patch = "{gateway:" + patch + "}"
					}
					patched, err := Patch([]byte(text), []byte(patch))
					if err != nil {
						t.Fatal(err)
					}
					set, err := Set([]byte(text), path, []byte(c[1]))
					if err != nil {
						t.Fatal(err)
					}
					// An object set is all that there is, one patched in is merged.
					alone := strings.ReplaceAll("{logging"+c[0], ".", ":{") + ":" + c[1] + strings.Repeat("}", strings.Count(c[0], ".")+1)
					want, _ := mustParse(t, alone, nil).Config.Get(path)
					if got, err := mustParse(t, string(set), nil).Config.Get(path); err != nil || !bytes.Equal(got, want) {
						t.Errorf("%s = %s of %s gives %s", path, c[1], text, set)
					}
					if got, err := mustParse(t, string(patched), nil).Config.Get(path); err != nil || c[1][0] != '{' && !bytes.Equal(got, want) {
						t.Errorf("%s in %s gives %s", patch, text, patched)
					}
					if unset, err := Unset(set, path); err != nil {
						t.Error(err)
					} else {
						got, _ := mustParse(t, string(unset), nil).Config.Get(path)
						if want, _ := Default().Get(path); !bytes.Equal(got, want) {
							t.Errorf("unset %s of %s gives %s", path, set, unset)
						}
					}
				}
			}
		}
	}
}

// TestEditHostile: what an edit costs is explained by the sizes of its texts.
func TestEditHostile(t *testing.T) {
	start := time.Now()
	for name, c := range map[string]struct{ text, patch string }{
		"a key into each of many objects": {"{" + manyKeys("a%05d:{},", 8000) + "}", "{" + manyKeys("a%05d:{b:1},", 8000) + "}"},
		"many keys gone":                  {"{" + manyKeys("a%05d:1,", 8000) + "}", "{" + manyKeys("a%05d:null,", 8000) + "}"},
		"every second":                    {"{" + manyKeys("a%05d:1,\n", 8000) + "}", "{" + manyKeys("a0%d1:null,", 800) + "}"},
		"laid out objects":                {"{}", "{" + manyKeys("a%05d:{\nb:null,c:1},", 8000) + "}"},
		"a long line":                     {"{" + strings.Repeat(" ", 80000) + manyKeys("a%05d:[],", 8000) + "}", "{" + manyKeys("a%05d:{\nb:1},", 8000) + "}"},
		"both sections":                   {"{logging:{" + manyKeys("a%05d:1,", 8000) + "},gateway:{logging:{" + manyKeys("a%05d:1,", 8000) + "}}}", "{logging:{" + manyKeys("a%05d:null,", 8000) + "}}"},
		"short forms":                     {"{models:{providers:{" + manyKeys("a%05d:'x',", 8000) + "}}}", "{models:{providers:{" + manyKeys("a%05d:{b:1},", 8000) + "}}}"},
	} {
		if out, err := Patch([]byte(c.text), []byte(c.patch)); err != nil && len(out) <= maxFile {
			t.Errorf("%s: %v", name, err)
		}
		if took := time.Since(start); took > 5*time.Second {
			t.Fatalf("%s: %v", name, took)
		}
		start = time.Now()
	}
}
