package svc

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"openclaw/gateway/store"
	"openclaw/wire"
)

// console is an Env with its output.
type console struct {
	*Env
	out, err bytes.Buffer
	vars     map[string]string
}

func newConsole(t *testing.T) *console {
	c := &console{vars: map[string]string{}}
	c.Env = &Env{
		Stdin: strings.NewReader(""), Stdout: &c.out, Stderr: &c.err, Home: t.TempDir(), Version: "v1.2.3", Now: time.Now, Program: "openclaw",
		Lookup: func(name string) (string, bool) { v, ok := c.vars[name]; return v, ok },
	}
	return c
}

func (c *console) main(argv ...string) int {
	c.out.Reset()
	c.err.Reset()
	return Main(context.Background(), c.Env, argv, GatewayRun(func(context.Context, *Env, *Args) error { return nil }))
}

// TestParse wants one decision for each command line.
func TestParse(t *testing.T) {
	for _, c := range []struct {
		line string
		want string // path | words | flags, or the error
	}{
		{"gateway", "gateway run||"},
		{"gateway run --port 1 --verbose", "gateway run||port=1 verbose=true"},
		{"daemon run", "gateway run||"},
		{"--port=1 gateway", "gateway run||port=1"},
		{"gateway --port 1 status", "gateway status||port=1"},
		{"--dev gateway status --json", "gateway status||dev=true json=true"},
		{"gateway call health --params {}", "call|health|params={}"},
		{"call -- --odd", "call|--odd|"},
		{"agent -m hello", "agent run||message=hello"},
		{"agent -m --help=", "agent run||message=--help="},
		{"agents", "agent list||"},
		{"message send -t main -m x", "message send||message=x to=main"},
		{"message send --target main --text -5", "message send||message=-5 to=main"},
		{"logs -n 5", "logs||last=5"},
		{"logs -n=5 --limit 6", "logs||last=6"},
		{"logs --level WARN", "logs||level=warn"},
		{"config set gateway.x -5", "config set|gateway.x -5|"},
		{"config set -5x gateway.x", `config set: unknown flag "-5x" (did you mean -V?)`},
		{"health --json=false", "health||"},
		{"help gateway status", "help|gateway status|"},
		{"sessions show a", "sessions show|a|"},
		{"", "||"},
		{"config --help", "||help=true"},

		{"gatway", `unknown command "gatway" (did you mean gateway?)`},
		{"gateway state", `unknown command "gateway state" (did you mean gateway status?)`},
		{"gateway stauts", `unknown command "gateway stauts" (did you mean gateway status?)`},
		{"config", "config: which one? show, get, validate, file, schema, set, unset, patch, diff"},
		{"config sho", `unknown command "config sho" (did you mean config show?)`},
		{"xyzzy", `unknown command "xyzzy"`},
		{"health --timout 5", `health: unknown flag "--timout" (did you mean --timeout?)`},
		{"gateway --prot 5", `gateway: unknown flag "--prot" (did you mean --port?)`},
		{"health --strict", `health: unknown flag "--strict"`},
		{"--prfile x health", `unknown flag "--prfile" (did you mean --profile?)`},
		{"call", "call: METHOD is missing: openclaw call METHOD"},
		{"call a b", `call: unexpected argument "b"`},
		{"call a --params", "--params needs a value: --params=JSON"},
		{"message send --to --text x", "--to needs a value: --to=TARGET"},
		{"health --json=maybe", "--json is a switch: it takes true, false or nothing"},
		{"logs --level loud", `--level: "loud" is none of debug, info, warn, error`},
		{"logs --level wran", `--level: "wran" is none of debug, info, warn, error (did you mean warn?)`},
		{"gateway --token x", "--token: other users of this host can read a command line"},
		{"--profile ../x health", `--profile: "../x" is no name for a profile: lower-case letters, digits, - and _, at most 64`},
		{"--profile x --dev health", "--dev means --profile dev, which contradicts --profile x"},
	} {
		e := newConsole(t)
		e.more = []Command{GatewayRun(nil)}
		row, a, err := parse(e.Env, e.commands(), strings.Fields(c.line))
		got := ""
		if err != nil {
			got = err.Error()
			var se *Error
			if !errors.As(err, &se) || se.Exit != ExitUsage {
				t.Errorf("%q: error %v does not mean exit 2", c.line, err)
			}
		} else {
			var flags []string
			for name, value := range a.flags {
				flags = append(flags, name+"="+value)
			}
			slices.Sort(flags)
			path := ""
			if row != nil {
				path = row.Path
			}
			got = path + "|" + strings.Join(a.Words, " ") + "|" + strings.Join(flags, " ")
		}
		if got != c.want {
			t.Errorf("%q:\n got %s\nwant %s", c.line, got, c.want)
		}
	}
}

// TestTable holds the rows to what parsing and help rely on.
func TestTable(t *testing.T) {
	e := newConsole(t)
	e.more = []Command{GatewayRun(nil)}
	takesValue := map[string]bool{}
	seen := map[string]bool{}
	for _, c := range e.commands() {
		for _, p := range c.paths() {
			if seen[p] {
				t.Errorf("two rows for %q", p)
			}
			seen[p] = true
		}
		if !strings.HasSuffix(c.Doc, ".") {
			t.Errorf("%s: the sentence %q has no end", c.Path, c.Doc)
		}
		for _, f := range append(globalFlags(), c.Flags...) {
			for _, s := range f.spellings() {
				if v, ok := takesValue[s]; ok && v != (f.Value != "") {
					t.Errorf("%s: %s takes a value in one command and none in another", c.Path, s)
				}
				takesValue[s] = f.Value != ""
			}
			if f.Doc == "" && f.Ignored == "" && f.Refused == "" {
				t.Errorf("%s: --%s is not explained", c.Path, f.Name)
			}
		}
	}
}

func TestHelpFitsTheScreen(t *testing.T) {
	e := newConsole(t)
	lines := [][]string{{"help"}, {"help", "config"}, {"--help"}, {"gateway", "--help"}}
	for _, c := range append(commands(), GatewayRun(nil)) {
		lines = append(lines, append([]string{"help"}, strings.Fields(c.Path)...))
	}
	for _, argv := range lines {
		if code := e.main(argv...); code != 0 {
			t.Errorf("%v: exit %d: %s", argv, code, e.err.String())
		}
		if e.out.Len() == 0 {
			t.Errorf("%v: no help", argv)
		}
		for line := range strings.Lines(e.out.String()) {
			if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); n > helpWidth || strings.HasSuffix(line, " \n") {
				t.Errorf("%v: %d characters: %q", argv, n, line)
			}
		}
	}
	if code := e.main("help", "nothing"); code != ExitUsage {
		t.Errorf("help for an unknown command: exit %d", code)
	}
}

// TestFold keeps what an indented JSON text means, and what is small on one line.
func TestFold(t *testing.T) {
	long := strings.Repeat("x", 56)
	for _, c := range [][2]string{
		{`{"a":{"b":1,"c":"{"},"d":[1,"]",null],"e":{},"f":[[1],{"g":2}]}`,
			"{\n  \"a\": {\"b\": 1, \"c\": \"{\"},\n  \"d\": [1, \"]\", null],\n  \"e\": {},\n  \"f\": [\n    [1],\n    {\"g\": 2}\n  ]\n}\n"},
		{`{"a":1}`, "{\"a\": 1}\n"},
		{`5`, "5\n"},
		{`{"a":{"b":"` + long + `","c":1}}`, "{\n  \"a\": {\"b\": \"" + long + "\", \"c\": 1}\n}\n"},
		{`{"a":{"b":"` + long + `","cccc":1}}`, "{\n  \"a\": {\n    \"b\": \"" + long + "\",\n    \"cccc\": 1\n  }\n}\n"},
	} {
		text, err := indented([]byte(c[0]))
		if err != nil {
			t.Fatal(err)
		}
		var compact bytes.Buffer
		if got := fold(text); string(got) != c[1] || json.Compact(&compact, got) != nil || compact.String() != c[0] {
			t.Errorf("%s:\n%s", c[0], got)
		}
	}
	if got := someOf(strings.Fields("a b c d e f")); got != "a, b, c, d, e, f" {
		t.Error(got)
	}
	if got := someOf(strings.Fields("a b c d e f g")); got != "a, b, c, d, e … and 2 more" {
		t.Error(got)
	}
}

func TestEscape(t *testing.T) {
	for in, want := range map[string]string{
		"plain äöü 日本 👍\tx\ny":        "plain äöü 日本 👍\tx\ny",
		"\x1b]52;c;x\a":               `\u{1b}]52;c;x\u{7}`,
		"c1 \u009b31m":                `c1 \u{9b}31m`,
		"bidi \u202eevil\u2066":       `bidi \u{202e}evil\u{2066}`,
		"zero\u200bwidth\ufeff\u00ad": `zero\u{200b}width\u{feff}\u{ad}`,
		"lines\u2028\u2029":           `lines\u{2028}\u{2029}`,
		"dos\r\nmac\r":                "dos\nmac\\u{d}",
		"bad \xff\xc3 \uFFFD":         `bad \xff\xc3 ` + "\uFFFD",
	} {
		if got := escape(in); got != want {
			t.Errorf("escape(%q) = %q, want %q", in, got, want)
		}
	}
}

// FuzzEscape wants that nothing dangerous is left, and in JSON that the
// meaning stays.
func FuzzEscape(f *testing.F) {
	f.Add("a\x1b\u009b\u202e\U000e0041\u200b\xff")
	f.Fuzz(func(t *testing.T, s string) {
		for _, r := range escape(s) {
			if r != '\n' && r != '\t' && unsafeRune(r) {
				t.Fatalf("%q keeps %U", s, r)
			}
		}
		raw, err := wire.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		safe := escapeJSON(raw)
		for _, r := range string(safe) {
			if r != '\n' && unsafeRune(r) {
				t.Fatalf("JSON of %q keeps %U", s, r)
			}
		}
		var a, b string
		if err := errors.Join(json.Unmarshal(raw, &a), json.Unmarshal(safe, &b)); err != nil || a != b {
			t.Fatalf("%q became %q: %v", a, b, err)
		}
	})
}

// fakeGateway answers connect by check and every other method by answer.
type fakeGateway struct {
	*httptest.Server
	token chan string // what connect presented
}

func newFakeGateway(t *testing.T, answer func(wire.Request, func([]byte))) *fakeGateway {
	g := &fakeGateway{token: make(chan string, 16)}
	g.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if status, header, err := wire.CheckUpgrade(r); err != nil {
			for k, v := range header {
				w.Header()[k] = v
			}
			http.Error(w, err.Error(), status)
			return
		}
		conn, err := wire.Accept(w, r, wire.Options{})
		if err != nil {
			t.Error(err)
			return
		}
		go g.serve(conn, answer)
	}))
	t.Cleanup(g.Close)
	return g
}

func (g *fakeGateway) serve(conn *wire.Conn, answer func(wire.Request, func([]byte))) {
	send := func(b []byte) { conn.Send(b) }
	send(wire.AppendEvent(nil, "connect.challenge", []byte(`{"nonce":"n","ts":1}`), 0, nil))
	for {
		msg, err := conn.ReadMessage()
		if err != nil {
			return
		}
		req, err := wire.ParseRequest(msg)
		if err != nil {
			return
		}
		if req.Method != "connect" {
			answer(req, send)
			continue
		}
		var p wire.ConnectParams
		wire.DecodeLoose(req.Params, &p)
		g.token <- p.Auth.Token + p.Auth.Password
		if p.Auth.Token == "right" {
			send(wire.AppendResponse(nil, req.ID, []byte(`{"type":"hello-ok","presence":"available","health":"healthy","stateVersion":1,"uptimeMs":1,"policy":{"sandbox":"off","tools":[],"maxPayload":1,"maxBufferedBytes":1,"tickIntervalMs":1}}`)))
			continue
		}
		send(wire.AppendError(nil, req.ID, wire.InvalidRequest("unauthorized: gateway token mismatch"), nil))
	}
}

func (g *fakeGateway) url() string { return "ws" + strings.TrimPrefix(g.URL, "http") }

func (g *fakeGateway) port() string {
	_, port, _ := net.SplitHostPort(g.Listener.Addr().String())
	return port
}

// TestCredentialsStayAtHome wants stored secrets to reach only the endpoint
// that they belong to, and explicit ones to go where they are sent.
func TestCredentialsStayAtHome(t *testing.T) {
	g := newFakeGateway(t, func(req wire.Request, send func([]byte)) {
		send(wire.AppendResponse(nil, req.ID, []byte(`{"ok":true}`)))
	})
	c := newConsole(t)
	state := filepath.Join(c.Home, ".openclaw")
	const stored = "3f9c2b7a51d84e06b1c7f02a9d6e85430c1b7f9e2a4d68530f7e6c5b4a392817"
	write(t, filepath.Join(state, "openclaw.json"), fmt.Sprintf(`{gateway:{port:%s,auth:{token:%q}}}`, g.port(), stored))
	secret := write(t, filepath.Join(c.Home, "secret"), "right\n")
	loose := write(t, filepath.Join(c.Home, "loose"), "right\n")
	if err := os.Chmod(loose, 0o644); err != nil {
		t.Fatal(err)
	}

	for _, k := range []struct {
		name string
		env  map[string]string
		argv []string
		want string // what the gateway saw; - = no connect at all
		code int
	}{
		{"by configuration", nil, []string{"call", "x"}, stored, ExitUnauthorized},
		{"its own port", nil, []string{"call", "x", "--port", g.port()}, stored, ExitUnauthorized},
		{"--url", nil, []string{"call", "x", "--url", g.url()}, "", ExitUnauthorized},
		{"--url as http", nil, []string{"call", "x", "--url", g.URL}, "", ExitUnauthorized},
		{"url in the environment", map[string]string{"OPENCLAW_GATEWAY_URL": g.url()}, []string{"call", "x"}, "", ExitUnauthorized},
		{"--url with a file", nil, []string{"call", "x", "--url", g.url(), "--token-file", secret}, "right", 0},
		{"--url with the environment", map[string]string{"OPENCLAW_GATEWAY_TOKEN": "right"}, []string{"call", "x", "--url", g.url()}, "right", 0},
		{"the file outranks the environment", map[string]string{"OPENCLAW_GATEWAY_TOKEN": "wrong"}, []string{"call", "x", "--token-file", secret}, "right", 0},
		{"a file that others may read", nil, []string{"call", "x", "--token-file", loose}, "-", ExitUsage},
		{"a secret in the URL", nil, []string{"call", "x", "--url", g.url() + "?token=right"}, "-", ExitUsage},
		{"a name in the URL", nil, []string{"call", "x", "--url", "ws://me:right@127.0.0.1:" + g.port()}, "-", ExitUsage},
		{"no gateway's URL", nil, []string{"call", "x", "--url", "ftp://127.0.0.1"}, "-", ExitUsage},
	} {
		t.Run(k.name, func(t *testing.T) {
			c.vars = k.env
			if code := c.main(append(k.argv, "--json")...); code != k.code {
				t.Errorf("exit %d, want %d: %s", code, k.code, c.err.String())
			}
			got := "-"
			select {
			case got = <-g.token:
			default:
			}
			if got != k.want {
				t.Errorf("the gateway was shown %q, want %q", got, k.want)
			}
			if strings.Contains(c.out.String()+c.err.String(), stored) {
				t.Error("the stored secret was printed")
			}
			if !json.Valid(c.out.Bytes()) {
				t.Errorf("stdout is not one JSON document: %q", c.out.String())
			}
		})
	}
}

// TestInstanceKey wants the running gateway's own key to go to the address
// that it published, and nowhere when it does not run.
func TestInstanceKey(t *testing.T) {
	g := newFakeGateway(t, func(req wire.Request, send func([]byte)) { send(wire.AppendResponse(nil, req.ID, []byte(`{}`))) })
	c := newConsole(t)
	d, err := store.Open(filepath.Join(c.Home, ".openclaw"))
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Publish(store.Instance{Addr: g.Listener.Addr().String(), Port: 1, CLIKey: "right"}); err != nil {
		t.Fatal(err)
	}
	if code := c.main("call", "x"); code != 0 {
		t.Fatalf("exit %d: %s", code, c.err.String())
	}
	if got := <-g.token; got != "right" {
		t.Errorf("shown %q", got)
	}
	if code := c.main("call", "x", "--url", g.url()); code != ExitUnauthorized {
		t.Errorf("with --url: exit %d", code)
	}
	if got := <-g.token; got != "" {
		t.Errorf("with --url the gateway was shown %q", got)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	c.vars["OPENCLAW_GATEWAY_PORT"] = "1" // where nobody listens
	if code := c.main("call", "x"); code != ExitUnreachable {
		t.Errorf("without a gateway: exit %d: %s", code, c.err.String())
	}
	if !strings.Contains(c.err.String(), "hint: start it: openclaw gateway") {
		t.Errorf("no hint: %s", c.err.String())
	}
}

// TestReply prints what arrives as it arrives on a terminal, once elsewhere,
// and nothing that could move the cursor.
func TestReply(t *testing.T) {
	final := `{"runId":"%s","status":"ok","summary":"completed","result":{"payloads":[{"text":"Hello \u001b[2Jworld","mediaUrl":null}],"meta":{"durationMs":1,"agentMeta":{"sessionId":"s","provider":"p","model":"m"},"aborted":false}}}`
	g := newFakeGateway(t, func(req wire.Request, send func([]byte)) {
		var p wire.AgentRun
		wire.DecodeLoose(req.Params, &p)
		event := func(run, text string) {
			send(wire.AppendEvent(nil, "agent", fmt.Appendf(nil, `{"runId":%q,"seq":1,"stream":"assistant","ts":1,"data":{"text":%q,"delta":"?"}}`, run, text), 1, nil))
		}
		send(wire.AppendResponse(nil, req.ID, fmt.Appendf(nil, `{"runId":%q,"status":"accepted","acceptedAt":1}`, p.IdempotencyKey)))
		event("another", "not ours")
		event(p.IdempotencyKey, "Hel")
		event(p.IdempotencyKey, "Hello ")
		if p.Message == "fail" {
			send(wire.AppendError(nil, req.ID, wire.AgentTimeout("the turn took too long"), nil))
			return
		}
		send(wire.AppendResponse(nil, req.ID, fmt.Appendf(nil, final, p.IdempotencyKey)))
	})
	for _, k := range []struct {
		name     string
		tty      bool
		argv     []string
		code     int
		out, err string
	}{
		{"terminal", true, []string{"-m", "x"}, 0, "Hello \\u{1b}[2Jworld\n", ""},
		{"pipe", false, []string{"-m", "x"}, 0, "Hello \x1b[2Jworld\n", ""},
		{"failure on a terminal", true, []string{"-m", "fail", "--no-color"}, 1, "Hello \n", "openclaw: agent: the turn took too long\n"},
		{"failure on a pipe", false, []string{"-m", "fail"}, 1, "", "openclaw: agent: the turn took too long\n"},
		{"nothing to say", false, []string{"-m", " "}, ExitUsage, "", "openclaw: the message is missing: -m TEXT or --message-file FILE\n"},
	} {
		t.Run(k.name, func(t *testing.T) {
			c := newConsole(t)
			c.vars["OPENCLAW_GATEWAY_TOKEN"] = "right"
			c.OutTTY, c.ErrTTY = k.tty, k.tty
			code := c.main(append([]string{"agent", "--url", g.url()}, k.argv...)...)
			if code != k.code || c.out.String() != k.out || c.err.String() != k.err {
				t.Errorf("exit %d\nstdout %q\nstderr %q", code, c.out.String(), c.err.String())
			}
		})
	}
	c := newConsole(t)
	c.vars["OPENCLAW_GATEWAY_TOKEN"] = "right"
	c.OutTTY = true
	if code := c.main("agent", "--url", g.url(), "-m", "x", "--json"); code != 0 || !json.Valid(c.out.Bytes()) || bytes.ContainsRune(c.out.Bytes(), 0x1b) {
		t.Errorf("--json: exit %d, %q", code, c.out.String())
	}
}

// TestInterrupt wants Ctrl-C to end the connection at once, which is what
// makes the gateway cancel the turn.
func TestInterrupt(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	g := newFakeGateway(t, func(req wire.Request, send func([]byte)) {
		send(wire.AppendResponse(nil, req.ID, []byte(`{"runId":"r","status":"accepted","acceptedAt":1}`)))
		cancel()
	})
	c := newConsole(t)
	c.vars["OPENCLAW_GATEWAY_TOKEN"] = "right"
	if code := Main(ctx, c.Env, []string{"agent", "--url", g.url(), "-m", "x", "--json"}); code != ExitFailed {
		t.Errorf("exit %d", code)
	}
	if want := `"INTERRUPTED"`; !strings.Contains(c.out.String(), want) {
		t.Errorf("stdout %q", c.out.String())
	}
}

// TestNoGateway wants exit 3 for everything that is not one.
func TestNoGateway(t *testing.T) {
	page := httptest.NewServer(http.NotFoundHandler())
	defer page.Close()
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	garbage, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer garbage.Close()
	go func() {
		for {
			c, err := garbage.Accept()
			if err != nil {
				return
			}
			io.WriteString(c, "220 \x1b[31mmail\r\n")
			c.Close()
		}
	}()
	redirect := httptest.NewServer(http.RedirectHandler(page.URL, http.StatusTemporaryRedirect))
	defer redirect.Close()
	for name, addr := range map[string]string{"a web site": page.Listener.Addr().String(), "silence": silent.Addr().String(),
		"another protocol": garbage.Addr().String(), "a redirect": redirect.Listener.Addr().String(), "nobody": "127.0.0.1:1"} {
		c := newConsole(t)
		if code := c.main("health", "--url", "ws://"+addr, "--timeout", "200ms"); code != ExitUnreachable {
			t.Errorf("%s: exit %d: %s", name, code, c.err.String())
		}
		if strings.Contains(c.err.String(), "\x1b") || strings.Count(c.err.String(), "\n") != 1 {
			t.Errorf("%s: %q", name, c.err.String())
		}
	}
}

// TestLogLines shows lines for people and filters them.
func TestLogLines(t *testing.T) {
	lines := []string{
		`{"time":"2026-01-02T03:04:05Z","level":"INFO","msg":"ready","port":18789}`,
		`{"time":"2026-01-02T03:05:05Z","level":"WARN","msg":"slow \u001b[31m peer","sub":"hub","err":"two words"}`,
		`panic: out of luck`,
		`{"time":"2026-01-02T03:06:05Z","level":"ERROR","msg":"disk full"}`,
	}
	for _, k := range []struct {
		f    logFilter
		json bool
		want string
	}{
		{logFilter{}, false, "2026-01-02 03:04:05.000 INFO  ready port=18789\n2026-01-02 03:05:05.000 WARN  slow \\u{1b}[31m peer err=\"two words\" sub=hub\npanic: out of luck\n2026-01-02 03:06:05.000 ERROR disk full\n"},
		{logFilter{level: "error"}, false, "panic: out of luck\n2026-01-02 03:06:05.000 ERROR disk full\n"},
		{logFilter{text: "disk"}, false, "2026-01-02 03:06:05.000 ERROR disk full\n"},
		{logFilter{since: time.Date(2026, 1, 2, 3, 5, 30, 0, time.UTC)}, false, "panic: out of luck\n2026-01-02 03:06:05.000 ERROR disk full\n"},
		{logFilter{level: "warn", text: "luck"}, true, "{\"msg\":\"panic: out of luck\"}\n"},
	} {
		c := newConsole(t)
		c.Env.JSON = k.json
		k.f.utc = true
		for _, line := range lines {
			if k.f.match(line) {
				if err := k.f.print(c.Env, line); err != nil {
					t.Fatal(err)
				}
			}
		}
		if got := c.out.String(); got != k.want {
			t.Errorf("%+v:\n got %q\nwant %q", k.f, got, k.want)
		}
	}
}

// TestReset wipes the dev profile's directory and refuses every other.
func TestReset(t *testing.T) {
	c := newConsole(t)
	own := filepath.Join(c.Home, ".openclaw-dev")
	other := filepath.Join(c.Home, "other")
	prepare := func(env map[string]string) error {
		c.vars = env
		if _, _, err := parse(c.Env, commands(), []string{"--dev", "version"}); err != nil {
			t.Fatal(err)
		}
		return c.PrepareDev(true)
	}
	if err := prepare(nil); err != nil {
		t.Fatalf("where there is none: %v", err)
	}
	before, err := os.ReadFile(filepath.Join(own, "openclaw.json"))
	if err != nil {
		t.Fatal(err)
	}
	kept := write(t, filepath.Join(other, "kept"), "x")
	write(t, filepath.Join(own, "agents/main/sessions/x.jsonl"), "{}\n")
	if err := os.Symlink(other, filepath.Join(own, "link")); err != nil {
		t.Fatal(err)
	}
	if err := prepare(nil); err != nil {
		t.Fatal(err)
	}
	after, err := os.ReadFile(filepath.Join(own, "openclaw.json"))
	if err != nil || bytes.Equal(before, after) {
		t.Errorf("the configuration is not a new one: %v", err)
	}
	if _, err := os.Lstat(filepath.Join(own, "agents")); err == nil {
		t.Error("the transcripts are still there")
	}
	if _, err := os.Lstat(kept); err != nil {
		t.Errorf("a link led out of the directory: %v", err)
	}

	if err := prepare(map[string]string{"OPENCLAW_STATE_DIR": other}); err == nil {
		t.Error("a directory from the environment was wiped")
	}
	if err := os.RemoveAll(own); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(other, own); err != nil {
		t.Fatal(err)
	}
	if err := prepare(nil); err == nil {
		t.Error("a link was followed")
	}
	if _, err := os.Lstat(kept); err != nil {
		t.Error(err)
	}
	if err := os.Remove(own); err != nil {
		t.Fatal(err)
	}
	d, err := store.Open(own)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	var locked *store.LockedError
	if err := prepare(nil); !errors.As(err, &locked) {
		t.Errorf("under a running gateway: %v", err)
	}
}

func TestGreetWorksAsPrinted(t *testing.T) {
	c := newConsole(t)
	c.Program = "/opt/my tools/openclaw"
	if _, _, err := parse(c.Env, commands(), []string{"--dev", "version"}); err != nil {
		t.Fatal(err)
	}
	c.Greet("127.0.0.1:19001")
	for _, want := range []string{"'/opt/my tools/openclaw' --dev health\n", "'/opt/my tools/openclaw' --dev agent -m \"Hello\"\n",
		"'/opt/my tools/openclaw' --dev gateway auth-token --header | curl ", "http://127.0.0.1:19001/v1/chat/completions\n"} {
		if !strings.Contains(c.out.String(), want) {
			t.Errorf("no %q in:\n%s", want, c.out.String())
		}
	}
}

func TestAuthTokenIsNotForTheScreen(t *testing.T) {
	c := newConsole(t)
	if code := c.main("setup"); code != 0 {
		t.Fatal(c.err.String())
	}
	c.OutTTY = true
	if code := c.main("gateway", "auth-token", "--no-color"); code != ExitUsage || c.out.Len() > 0 {
		t.Errorf("on a terminal: exit %d, %q", code, c.out.String())
	}
	c.OutTTY = false
	if code := c.main("gateway", "auth-token"); code != 0 || len(strings.TrimSpace(c.out.String())) != 64 {
		t.Errorf("through a pipe: exit %d, %d bytes", code, c.out.Len())
	}
	if code := c.main("config", "show", "--show-secrets"); code != ExitUsage || c.out.Len() > 0 {
		t.Errorf("config show --show-secrets through a pipe: exit %d", code)
	}
}

func TestColour(t *testing.T) {
	for _, k := range []struct {
		name string
		set  func(c *console, argv *[]string)
		want bool
	}{
		{"terminal", func(*console, *[]string) {}, true},
		{"no terminal", func(c *console, _ *[]string) { c.ErrTTY = false }, false},
		{"NO_COLOR", func(c *console, _ *[]string) { c.vars["NO_COLOR"] = "1" }, false},
		{"--no-color", func(_ *console, argv *[]string) { *argv = append(*argv, "--no-color") }, false},
		{"TERM=dumb", func(c *console, _ *[]string) { c.vars["TERM"] = "dumb" }, false},
	} {
		c := newConsole(t)
		c.ErrTTY = true
		argv := []string{"call"}
		k.set(c, &argv)
		c.main(argv...)
		if got := strings.Contains(c.err.String(), "\x1b["); got != k.want {
			t.Errorf("%s: %q", k.name, c.err.String())
		}
	}
}

func TestProfilePorts(t *testing.T) {
	seen := map[int]string{profilePort(""): "default"}
	for _, name := range []string{"dev", "rescue", "a", "work", "home"} {
		p := profilePort(name)
		if other, ok := seen[p]; ok || p < 1024 || p+111 > 32768 {
			t.Errorf("%s: port %d, also of %q", name, p, other)
		}
		seen[p] = name
	}
}

func write(t *testing.T, path, text string) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestFollow goes on with what is written to the file of a gateway that is down.
func TestFollow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newConsole(t)
		c.vars["OPENCLAW_GATEWAY_PORT"] = "1" // where nobody listens
		path := write(t, filepath.Join(c.Home, ".openclaw", "logs", "gateway.log"), "")
		file, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		log := func(n int) {
			fmt.Fprintf(file, `{"time":"2026-01-02T03:04:05Z","level":"INFO","msg":"line %d"}`+"\n", n)
		}
		log(1)
		log(2)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan int)
		go func() { done <- Main(ctx, c.Env, []string{"logs", "--follow", "--last", "1", "--format", "json"}) }()
		time.Sleep(followInterval / 2) // of the bubble's clock
		log(3)
		time.Sleep(followInterval)
		log(4)
		time.Sleep(followInterval)
		cancel()
		if code := <-done; code != 0 {
			t.Errorf("exit %d: %s", code, c.err.String())
		}
		var got []string
		for line := range strings.Lines(c.out.String()) {
			got = append(got, parseLogLine(strings.TrimSpace(line)).Msg)
		}
		if want := []string{"line 2", "line 3", "line 4"}; !slices.Equal(got, want) {
			t.Errorf("shown %q, want %q", got, want)
		}
	})
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(b []byte) (int, error) { return f(b) }

// TestInterruptWhileTheReplyComes wants nothing printed any more once the
// command has returned: the event that comes last races with its end.
func TestInterruptWhileTheReplyComes(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	g := newFakeGateway(t, func(req wire.Request, send func([]byte)) {
		var p wire.AgentRun
		wire.DecodeLoose(req.Params, &p)
		for i := range 500 {
			send(wire.AppendEvent(nil, "agent", fmt.Appendf(nil, `{"runId":%q,"seq":1,"stream":"assistant","ts":1,"data":{"text":%q,"delta":"x"}}`, p.IdempotencyKey, strings.Repeat("x", i+1)), 1, nil))
		}
	})
	c := newConsole(t)
	c.vars["OPENCLAW_GATEWAY_TOKEN"] = "right"
	c.OutTTY = true
	c.Stdout = writerFunc(func(b []byte) (int, error) {
		cancel() // with most of the reply still to come
		return c.out.Write(b)
	})
	if code := Main(ctx, c.Env, []string{"agent", "--url", g.url(), "-m", "x"}); code != ExitFailed {
		t.Errorf("exit %d: %s", code, c.err.String())
	}
	if out := c.out.String(); strings.Trim(out, "x") != "\n" {
		t.Errorf("stdout %q", out)
	}
}

func TestTimeLimitsAreKept(t *testing.T) {
	asked := make(chan int64, 1)
	g := newFakeGateway(t, func(req wire.Request, send func([]byte)) {
		var p wire.AgentRun
		wire.DecodeLoose(req.Params, &p)
		asked <- p.Timeout
		send(wire.AppendError(nil, req.ID, wire.AgentTimeout("too long"), nil))
	})
	c := newConsole(t)
	c.vars["OPENCLAW_GATEWAY_TOKEN"] = "right"
	c.main("agent", "--url", g.url(), "-m", "x", "--timeout", "500ms")
	if got := <-asked; got != 1 {
		t.Errorf("half a second became %d, and 0 is the agent's own", got)
	}
	a := &Args{flags: map[string]string{"since": "2000000000"}}
	if d, err := a.Duration("since", 0, time.Minute); err == nil {
		t.Errorf("two thousand million minutes became %v", d)
	}
}

// TestSessionIsLookedForOnce wants no second and third question to a gateway that cannot answer the first.
func TestSessionIsLookedForOnce(t *testing.T) {
	asked := make(chan string, 8)
	g := newFakeGateway(t, func(req wire.Request, send func([]byte)) {
		asked <- req.Method
		send(wire.AppendError(nil, req.ID, wire.Unavailable("disk full"), nil))
	})
	c := newConsole(t)
	c.vars["OPENCLAW_GATEWAY_TOKEN"] = "right"
	if code := c.main("sessions", "show", "x", "--url", g.url()); code != ExitFailed || len(asked) != 1 {
		t.Errorf("exit %d after %d questions: %s", code, len(asked), c.err.String())
	}
}

// TestRefusalIsPassedOn wants what a gateway says when it takes no connection.
func TestRefusalIsPassedOn(t *testing.T) {
	full := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Error(w, "too many connections", http.StatusServiceUnavailable)
	}))
	defer full.Close()
	c := newConsole(t)
	if code := c.main("health", "--url", full.URL); code != ExitUnreachable || !strings.Contains(c.err.String(), "too many connections") {
		t.Errorf("exit %d: %s", code, c.err.String())
	}
}
