package config

import (
	"bytes"
	"encoding/base32"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
)

const canary = "canary-Zq81vKp0Lm3XwT7e-9d2f4b6a8c"

// leaks reports a form of the canary in text.
func leaks(text string) bool {
	for _, form := range []string{canary, canary[:8], base64.StdEncoding.EncodeToString([]byte(canary))[:12], hex.EncodeToString([]byte(canary))[:16],
		strings.ToUpper(hex.EncodeToString([]byte(canary))[:16])} {
		if strings.Contains(text, form) {
			return true
		}
	}
	return false
}

func TestSecretPrintsNothing(t *testing.T) {
	s := NewSecret(canary)
	type outer struct {
		Secret  Secret
		hidden  Secret
		Pointer *Secret
		Map     map[string]Secret
	}
	o := outer{s, s, &s, map[string]Secret{"k": s}}
	var all bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%t", "%T", "%p", "% x"} {
		for _, v := range []any{s, &s, []Secret{s}, o, &o} {
			fmt.Fprintf(&all, verb+"\n", v)
		}
	}
	for _, v := range []any{s, &s, o, []Secret{s}} {
		text, err := json.Marshal(v)
		if err != nil || !bytes.Contains(text, []byte(redacted)) {
			t.Errorf("JSON: %s, %v", text, err)
		}
		all.Write(text)
	}
	if text, err := xml.Marshal(s); err == nil {
		all.Write(text)
	}
	for _, h := range []slog.Handler{slog.NewJSONHandler(&all, nil), slog.NewTextHandler(&all, nil)} {
		slog.New(h).With("a", s).Info("m", "secret", s, "outer", o, slog.Group("g", "list", []Secret{s}))
	}
	fmt.Fprintln(&all, fmt.Errorf("wrapped: %w", errors.New(s.String())), s)
	if leaks(all.String()) || strings.Count(all.String(), redacted) < 50 {
		t.Errorf("leaks:\n%s", all.String())
	}
	if s.Reveal() != canary || !s.Equal(NewSecret(canary)) || s.Equal(Secret{}) || s.IsZero() || !NewSecret("").IsZero() || (Secret{}).Reveal() != "" {
		t.Error("Secret does not hold what it was given")
	}
}

// TestCanary sets every secret and looks for it in all that the package says.
func TestCanary(t *testing.T) {
	text := `{gateway:{auth:{token:"` + canary + `",password:"` + canary + `"}, // "` + canary + `"
		remote:{token:"` + canary + `"}},
	models:{providers:{p:{baseUrl:"http://h",apiKey:"` + canary + `",headers:{"X-Some":"` + canary + `"}}}},
	channels:{telegram:{botToken:"12:` + canary + `",accounts:{a:{botToken:"13:` + canary + `",webhookSecret:"` + canary + `"}}}},
	env:{PLAIN:"` + canary + `",vars:{A:"` + canary + `"}},
	talk:{url:"https://me:` + canary + `@host/",again:"see ` + canary + `"},
	/* old apiKey: "` + canary[:20] + `" */
	skills:{maxTokens:4096,tokenizer:"` + canary + `",key:"${` + "NAME" + `}",token:"${NAME}"},
}`
	l := mustParse(t, text, nil)
	c := l.Config
	if c.Models.Providers["p"].Headers["X-Some"].Reveal() != canary {
		t.Fatal("the canary is not in place")
	}
	model, err := c.Model("p/m")
	if err != nil {
		t.Fatal(err)
	}
	everything, _ := c.Get("")
	shown := map[string]string{
		"JSON": string(c.JSON(true)), "Get": string(everything), "Redact": string(Redact(l.Raw, l.Root)),
		"print": fmt.Sprintf("%v %+v %#v", c, *c, model), "model": fmt.Sprintf("%+v", model), "warnings": fmt.Sprint(l.Warnings),
		"diff": fmt.Sprint(Diff(Default(), c)), "schema": string(Schema()), "reference": string(Reference()),
	}
	marshalled, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	shown["marshal"] = string(marshalled)
	for name, text := range shown {
		if leaks(text) {
			t.Errorf("%s leaks:\n%s", name, text)
		}
	}
	for _, kept := range []string{"maxTokens:4096", `token:"${NAME}"`, `baseUrl:"http://h"`} {
		if !strings.Contains(shown["Redact"], kept) {
			t.Errorf("Redact took %s away:\n%s", kept, shown["Redact"])
		}
	}
	if !leaks(string(c.JSON(false))) {
		t.Error("JSON(false) hides")
	}

	// A secret in any wrong place is not quoted back.
	for _, k := range Keys() {
		for _, value := range []string{`"` + canary + `"`, `["` + canary + `"]`, `{"` + "a" + `":"` + canary + `"}`} {
			_, err := Parse("t", []byte(textWith(k.Path, value)), Source{})
			if err != nil && leaks(err.Error()) {
				t.Errorf("%s: %v", k.Path, err)
			}
		}
	}
	_, err = Parse("t", []byte(`{gateway:{auth:{token:"${T} short"}},agents:{defaults:{model:"${M}"}}}`), Source{Env: mapEnv(map[string]string{"T": canary[:10], "M": canary})})
	if err == nil || leaks(err.Error()) {
		t.Errorf("expanded values: %v", err)
	}
}

func TestRestore(t *testing.T) {
	old := `{ // keep
  gateway: { auth: { token: 'q\x41` + goodToken + `' }, },
  models: { providers: { p: { baseUrl: "http://h", headers: { X: "a", Y: "b" }, } } },
  agents: { list: [ { id: "one", token: "first-one" }, { id: "two", token: "second-two" } ] },
  hooks: { token: 12345 },
}`
	oldRoot, err := ParseJSON5([]byte(old))
	if err != nil {
		t.Fatal(err)
	}
	hidden := Redact([]byte(old), oldRoot)
	if n := strings.Count(string(hidden), RedactedPlaceholder); n != 6 {
		t.Fatalf("%d placeholders: %s", n, hidden)
	}
	root, err := ParseJSON5(hidden)
	if err != nil {
		t.Fatal(err)
	}
	if back := Restore(hidden, root, []byte(old), oldRoot); string(back) != old {
		t.Errorf("not byte for byte:\n%s", back)
	}
	// An edited text: elements moved, one key new.
	edited := []byte(`{agents:{list:[{id:"two",token:"` + RedactedPlaceholder + `"},{id:"new",token:"` + RedactedPlaceholder + `"}]},hooks:{token:"` + RedactedPlaceholder + `"}}`)
	root, err = ParseJSON5(edited)
	if err != nil {
		t.Fatal(err)
	}
	want := `{agents:{list:[{id:"two",token:"second-two"},{id:"new",token:"` + RedactedPlaceholder + `"}]},hooks:{token:12345}}`
	if back := string(Restore(edited, root, []byte(old), oldRoot)); back != want {
		t.Errorf("got  %s\nwant %s", back, want)
	}
	if got := string(Redact([]byte(`{token:`), nil)); got != RedactedPlaceholder {
		t.Errorf("text that does not parse: %s", got)
	}
}

func TestTokenStrength(t *testing.T) {
	for _, weak := range []string{"", " ", "x", "your-token", "your-secure-token-goes-here-0123456789abcdef", "changeme", "undefined", "null", "test", "secret123",
		"[object Object]", "<put-a-long-random-token-here-0123456789>", RedactedPlaceholder, redacted, "${OPENCLAW_GATEWAY_TOKEN}", strings.Repeat("a", 64),
		strings.Repeat("0123456789abcdef", 4), "abcdefghijklmnopqrstuvwxyz0123456789ABCDEF", strings.Repeat("ab12", 20), "3f6c1d0e9b8a7425", goodToken + "\n", goodToken + "\x00" + goodToken,
		"31415926535897932384626433832795028", strings.Repeat("CHANGE_ME_", 8), strings.Repeat("x7Q!", 2000)} {
		if tokenProblem(weak) == "" {
			t.Errorf("%q: accepted", weak)
		}
	}
	for _, weak := range []string{"", "short", "elevenchars", "aaaaaaaaaaaaaaaa", "abababababababab", "changeme-now-please", "password1234", "        12345678", "undefined1234"} {
		if passwordProblem(weak) == "" {
			t.Errorf("%q: accepted", weak)
		}
	}
	for _, good := range []string{goodPassword, "密码密码是很长的一句话对吧好", "Tr0ub4dor&3xyz"} {
		if msg := passwordProblem(good); msg != "" {
			t.Errorf("%q: %s", good, msg)
		}
	}
	// Random tokens pass, however they are written. The seed is fixed: one in
	// 100,000 of 128 bits in base64 has one case only, and is refused.
	random := rand.NewChaCha8([32]byte{})
	for range 5000 {
		raw, more := make([]byte, 16), make([]byte, 24)
		random.Read(raw)
		random.Read(more)
		for _, token := range []string{hex.EncodeToString(raw), strings.ToUpper(hex.EncodeToString(raw)), base64.StdEncoding.EncodeToString(more),
			base64.RawURLEncoding.EncodeToString(more), base32.StdEncoding.EncodeToString(raw), fmt.Sprintf("%x-%x-%x-%x-%x", raw[:4], raw[4:6], raw[6:8], raw[8:10], raw[10:])} {
			if msg := tokenProblem(token); msg != "" {
				t.Fatalf("%s: %s", token, msg)
			}
		}
	}
}

func TestExpand(t *testing.T) {
	lookup := func(name string) string { return map[string]string{"A": "1", "B_2": "${A}", "_": "u"}[name] }
	for in, want := range map[string]string{
		"": "", "plain": "plain", "$A": "$A", "${A}": "1", "x${A}y${A}z": "x1y1z", "${B_2}": "${A}", "${_}": "u", "$${A}": "${A}", "$$${A}": "$${A}",
		"${a}": "${a}", "${1A}": "${1A}", "${}": "${}", "${A": "${A", "${A B}": "${A B}", "${${A}}": "${1}", "${A}$${A}${A}": "1${A}1", "$": "$", "é${A}é": "é1é",
	} {
		if got := expand(in, lookup); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

func TestSecretFiles(t *testing.T) {
	dir := t.TempDir()
	path := dir + "/key"
	if err := os.WriteFile(path, []byte("sk-1\r\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	text := `{models:{providers:{p:{baseUrl:"http://h",apiKey:"file:` + path + `"}}}}`
	if _, err := Parse("t", []byte(text), Source{}); err == nil || !strings.Contains(err.Error(), "apiKey: secret files cannot be read here") {
		t.Errorf("without a reader: %v", err)
	}
	src := Source{ReadFile: func(path string, limit int64, secret bool) ([]byte, error) {
		if !secret || limit > 1<<16 {
			t.Errorf("secret %t, limit %d", secret, limit)
		}
		return os.ReadFile(path)
	}}
	l, err := Parse("t", []byte(text), src)
	if err != nil {
		t.Fatal(err)
	}
	if got := l.Config.Models.Providers["p"].APIKey.Reveal(); got != "sk-1" {
		t.Errorf("%q", got)
	}
	// What a variable holds is content, never a reference to a file.
	src.Env = mapEnv(map[string]string{"K": "file:" + path})
	if l, err = Parse("t", []byte(strings.Replace(text, "file:"+path, "${K}", 1)), src); err != nil || l.Config.Models.Providers["p"].APIKey.Reveal() != "file:"+path {
		t.Errorf("variable: %v", err)
	}
	for _, content := range []string{"", "\n", "a\nb\n", "null\n"} {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Parse("t", []byte(text), src); err == nil {
			t.Errorf("%q: accepted", content)
		}
	}
}

// TestSecretFrom tells the place of a secret, and nothing of it.
func TestSecretFrom(t *testing.T) {
	const token = "q8RrZ2vX5mWc7KpT4nYb9LdG3hJs6FaE"
	read := func(string, int64, bool) ([]byte, error) { return []byte(token), nil }
	vars := map[string]string{"OPENCLAW_GATEWAY_TOKEN": token, "CREDENTIALS_DIRECTORY": "/c"}
	env := func(name string) (string, bool) { v, ok := vars[name]; return v, ok }
	for text, want := range map[string]string{
		"{gateway:{\nauth:{token:'" + token + "'}}}":           "f:2",
		"{gateway:{auth:{token:'${OPENCLAW_GATEWAY_TOKEN}'}}}": "f:1, which names a variable",
		"{gateway:{auth:{token:'file:/x'}}}":                   "f:1, which names a file",
		"{gateway:{auth:{token:'credential:x'}}}":              "f:1, which names a credential",
		"{}":                                 "the variable OPENCLAW_GATEWAY_TOKEN",
		"{gateway:{auth:{mode:'password'}}}": "",
		"{gateway:7}":                        "the variable OPENCLAW_GATEWAY_TOKEN",
		"{":                                  "",
	} {
		l, _ := Parse("f", []byte(text), Source{Path: "/f", Env: env, ReadFile: read})
		if got := l.SecretFrom("f"); got != want {
			t.Errorf("%s: %q, want %q", text, got, want)
		}
	}
}
