package gateway

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"openclaw/reload/config"
	"openclaw/wire"
)

// reloaded is a gateway whose file is being changed, and a client of it.
type reloaded struct {
	*running
	c    *wire.Conn
	path string
	past []string // what c brought and nobody looked for yet
}

// find returns the first message of c with the words, in whatever order they come.
func (r *reloaded) find(words string) string {
	r.t.Helper()
	for i := 0; ; i++ {
		if i == len(r.past) {
			r.past = append(r.past, r.until(r.c, ""))
		}
		if msg := r.past[i]; strings.Contains(msg, words) {
			r.past = slices.Delete(r.past, i, i+1)
			return msg
		}
	}
}

// again connects anew.
func (r *reloaded) again() { r.enter(testToken) }

// enter connects with a secret. Who has had an answer hears every event from then on.
func (r *reloaded) enter(secret string) *wire.Conn {
	r.t.Helper()
	r.c, r.past = r.dial(), nil
	r.request("connect", `{"auth":{"token":"`+secret+`"}}`)
	r.request("last-heartbeat", "{}")
	return r.c
}

func startReloaded(t testing.TB, o Options) *reloaded {
	t.Helper()
	r := &reloaded{running: start(t, o), path: o.Paths.ConfigPath}
	r.again()
	return r
}

// withKeys is a configuration with more keys of the gateway's section, and more sections.
func withKeys(gateway, sections string) string {
	return `{gateway:{auth:{token:"` + testToken + `"},` + gateway + `},` + sections + `}`
}

func (r *reloaded) write(text string) {
	r.t.Helper()
	if err := os.WriteFile(r.path, []byte(text), 0o600); err != nil {
		r.t.Fatal(err)
	}
}

// look is what the watcher does when the file has become quiet.
func (r *reloaded) look() { r.reloader.watcher.(handWatcher).look() }

// eventOf waits for an event and reads its payload.
func eventOf[T any](r *reloaded, name string) (payload T) {
	r.t.Helper()
	msg := r.find(`"event":"` + name + `"`)
	var in struct{ Payload json.RawMessage }
	if err := json.Unmarshal([]byte(msg), &in); err != nil {
		r.t.Fatal(err)
	}
	if err := wire.DecodeLoose(wire.Raw(in.Payload), &payload); err != nil {
		r.t.Fatal(err)
	}
	return payload
}

// answered calls a method and reads what it answers, or why it refuses.
func answered[T any](r *reloaded, method, params string) (result T, refused *wire.Error) {
	r.t.Helper()
	in, err := wire.ParseInbound([]byte(r.request(method, params)))
	if err != nil {
		r.t.Fatal(err)
	}
	if !in.OK {
		return result, in.Error
	}
	if err := wire.DecodeLoose(in.Payload, &result); err != nil {
		r.t.Fatal(err)
	}
	return result, nil
}

// request makes one and returns the whole response.
func (r *reloaded) request(method, params string) string {
	r.t.Helper()
	r.send(r.c, `{"type":"req","id":"`+method+`","method":"`+method+`","params":`+params+`}`)
	return r.find(`"id":"` + method + `"`)
}

// status is the part of status that tells of the file.
func (r *reloaded) status() *wire.StatusConfig {
	r.t.Helper()
	s, refused := answered[wire.Status](r, "status", "{}")
	if refused != nil {
		r.t.Fatal(refused)
	}
	return s.Config
}

// follow goes on with the gateway that takes over, after the goodbye of the one before.
func (r *reloaded) follow() {
	r.t.Helper()
	if bye := eventOf[wire.Shutdown](r, "shutdown"); bye.RestartExpectedMs <= 0 {
		r.t.Errorf("shutdown %+v", bye)
	}
	if ce := r.closed(r.c); ce.Code != wire.CloseRestart {
		r.t.Errorf("closed with %v", ce)
	}
	r.taken()
	r.again()
}

// taken waits for the gateway that takes over.
func (r *reloaded) taken() {
	r.t.Helper()
	select {
	case g := <-r.next:
		r.Gateway, r.addr = g, g.dialAddr()
	case err := <-r.done:
		r.done <- err
		r.t.Fatalf("Run: %v", err)
	}
}

// TestReloadModes changes a key that is hot, one that takes a restart and both,
// in each mode and from every side.
func TestReloadModes(t *testing.T) {
	const hot, cold = "logging.level", "gateway.limits.tickIntervalMs"
	type outcome struct {
		applied, pending []string
		restart          bool
	}
	applied := outcome{applied: []string{hot}}
	changes := map[string]struct {
		gateway, sections string
		changes           []wire.ConfigChange
		pending, restart  outcome // nothing of it done, all of it by a restart
	}{
		"hot": {"", `logging:{level:"error"}`, []wire.ConfigChange{{Path: hot, Class: "hot"}}, outcome{pending: []string{hot}}, outcome{pending: []string{hot}, restart: true}},
		"restart": {"limits:{tickIntervalMs:5000}", "", []wire.ConfigChange{{Path: cold, Class: "restart"}},
			outcome{pending: []string{cold}}, outcome{pending: []string{cold}, restart: true}},
		"both": {"limits:{tickIntervalMs:5000}", `logging:{level:"error"}`, []wire.ConfigChange{{Path: cold, Class: "restart"}, {Path: hot, Class: "hot"}},
			outcome{pending: []string{cold, hot}}, outcome{pending: []string{cold, hot}, restart: true}},
	}
	half := func(restart bool) outcome {
		return outcome{applied: []string{hot}, pending: []string{cold}, restart: restart}
	}
	now := func(what string) outcome { // what is asked for, or hybrid does
		switch what {
		case "hot":
			return applied
		case "both":
			return half(true)
		}
		return changes[what].restart
	}
	for _, mode := range []string{"hybrid", "off", "hot", "restart"} {
		for what, change := range changes {
			want := map[string]outcome{"file": now(what)}
			switch {
			case mode == "off":
				want["file"] = change.pending
			case mode == "hot" && what == "both":
				want["file"] = half(false)
			case mode == "hot" && what == "restart":
				want["file"] = change.pending
			case mode == "restart":
				want["file"] = change.restart
			}
			for _, by := range []string{"SIGHUP", "reload", "rpc"} {
				want[by] = now(what)
				if mode == "restart" {
					want[by] = change.restart
				}
			}
			for by, want := range want {
				t.Run(mode+" "+what+" "+by, func(t *testing.T) {
					t.Parallel()
					base := withKeys(`hotReload:{mode:"`+mode+`"}`, "")
					r := startReloaded(t, testOptions(t, base))
					next := withKeys(`hotReload:{mode:"`+mode+`"},`+change.gateway, change.sections)
					if by != "rpc" {
						r.write(next)
						// Before anything is done, it is told what would be.
						diff, refused := answered[wire.Reloaded](r, "gateway.reload", `{"dryRun":true}`)
						if refused != nil || !slices.Equal(diff.Changes, change.changes) {
							t.Errorf("would change %+v, %v", diff, refused)
						}
						if s := r.status(); s.LoadedHash != config.Hash([]byte(base)) || s.FileHash != config.Hash([]byte(next)) || len(s.Pending) != len(change.changes) || s.Applied != nil {
							t.Errorf("before: %+v", s)
						}
					}
					var answer *wire.Reloaded
					switch by {
					case "file":
						r.look()
					case "SIGHUP":
						r.asks <- Request{Source: by}
					case "reload":
						r.send(r.c, `{"type":"req","id":"r","method":"gateway.reload"}`)
					case "rpc":
						raw, _ := json.Marshal(next)
						r.send(r.c, `{"type":"req","id":"r","method":"config.set","params":{"raw":`+string(raw)+`,"baseHash":"`+config.Hash([]byte(base))+`"}}`)
					}
					e := eventOf[wire.ConfigChanged](r, "config.changed")
					got := outcome{e.Applied, e.Pending, e.Restart}
					if e.Source != by || e.Hash != config.Hash([]byte(next)) || fmt.Sprint(got) != fmt.Sprint(want) {
						t.Fatalf("event %+v, want %+v", e, want)
					}
					if by == "reload" || by == "rpc" {
						in, err := wire.ParseInbound([]byte(r.find(`"id":"r"`)))
						if answer = new(wire.Reloaded); err != nil || !in.OK || wire.DecodeLoose(in.Payload, answer) != nil {
							t.Fatalf("answer %+v, %v", in.Error, err)
						}
						if got := (outcome{answer.Applied, answer.Pending, answer.Restart}); fmt.Sprint(got) != fmt.Sprint(want) || !slices.Equal(answer.Changes, change.changes) {
							t.Errorf("answer %+v, want %+v", answer, want)
						}
					}
					if want.restart {
						r.follow()
					}
					s, waits := r.status(), len(want.pending) > 0 && !want.restart
					done := slices.Concat(want.applied, want.pending)
					if waits {
						done = want.applied
					}
					if s.Mode != mode || s.LastError != "" || !slices.Equal(s.Applied, done) || (s.AppliedAt != 0) != (len(done) > 0) || (s.LoadedHash == s.FileHash) == waits || s.Watch != "hand" {
						t.Errorf("after: %+v", s)
					}
					if waits && !slices.Equal(s.Pending, want.pending) || !waits && s.Pending != nil {
						t.Errorf("waits: %v", s.Pending)
					}
					if waits { // until somebody asks
						r.asks <- Request{Source: "SIGHUP"}
						if e := eventOf[wire.ConfigChanged](r, "config.changed"); len(e.Applied)+len(e.Pending) != len(want.pending) {
							t.Errorf("asked: %+v", e)
						} else if e.Restart {
							r.follow()
						}
						if s := r.status(); s.Pending != nil || s.LoadedHash != s.FileHash {
							t.Errorf("asked: %+v", s)
						}
					}
				})
			}
		}
	}
}

// TestOverrides changes in the file what the command line and the environment decide.
func TestOverrides(t *testing.T) {
	for name, tc := range map[string]struct {
		override          func(*Options)
		gateway, sections string
	}{
		"--port": {func(o *Options) { o.PortOverride = 23456 }, "port:34567", ""},
		"OPENCLAW_GATEWAY_PORT": {func(o *Options) {
			o.Env = func(name string) (string, bool) { return "23456", name == "OPENCLAW_GATEWAY_PORT" }
		}, "port:34567", ""},
		"--bind":      {func(o *Options) { o.Bind = "loopback" }, `bind:"lan"`, ""},
		"--log-level": {func(o *Options) { o.LogLevel = "warn" }, "", `logging:{level:"debug"}`},
		"--verbose":   {func(o *Options) { o.Verbose = true }, "", `logging:{level:"error"}`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := testOptions(t, "")
			tc.override(&o)
			r := startReloaded(t, o)
			next := withKeys(tc.gateway, tc.sections)
			r.write(next)
			r.look()
			if e := eventOf[wire.ConfigChanged](r, "config.changed"); len(e.Applied)+len(e.Pending) > 0 || e.Restart {
				t.Errorf("event %+v", e)
			}
			if s := r.status(); s.Pending != nil || s.LoadedHash != config.Hash([]byte(next)) || s.LastError != "" {
				t.Errorf("status %+v", s)
			}
		})
	}
}

// TestReloadRejects spoils the file in many ways: the gateway says what is
// wrong, goes on as it was, and applies the mended file.
func TestReloadRejects(t *testing.T) {
	taken, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { taken.Close() })
	for name, tc := range map[string]struct {
		text  string
		spoil func(path string) error
		want  string // in the error; of the problems the path of the key
	}{
		"deleted":         {spoil: os.Remove, want: "is gone"},
		"not JSON5":       {text: "{gateway:", want: ":1:11"},
		"empty":           {text: " ", want: ":1:3"},
		"unknown key":     {text: withKeys("prot:1", ""), want: "gateway.prot"},
		"unset variable":  {text: withKeys("", `agents:{defaults:{systemPrompt:"${NO_SUCH_VARIABLE}"}}`), want: "agents.defaults.systemPrompt"},
		"placeholder":     {text: `{gateway:{auth:{token:"` + config.RedactedPlaceholder + `"}}}`, want: "gateway.auth.token"},
		"weak secret":     {text: `{gateway:{auth:{token:"changeme"}}}`, want: "gateway.auth.token"},
		"no secret":       {text: `{}`, want: "gateway.auth.token is not set"},
		"log in the way":  {text: withKeys("", `logging:{file:"/"}`), want: "logging.file"},
		"no certificate":  {text: withKeys(`tls:{enabled:true,certPath:"/no/cert.pem",keyPath:"/no/key.pem"}`, ""), want: "/no/cert.pem"},
		"readable by all": {spoil: func(p string) error { return os.Chmod(p, 0o666) }, want: "chmod"},
		"a directory": {spoil: func(p string) error {
			return firstError(os.Remove(p), os.Mkdir(p, 0o700))
		}, want: "openclaw.json"},
		"of another user": {spoil: func(p string) error {
			if os.Geteuid() != 0 {
				return os.WriteFile(p, []byte("{"), 0o600) // who is not root cannot give a file away
			}
			return os.Chown(p, 54321, 54321)
		}, want: "openclaw.json"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := startReloaded(t, testOptions(t, ""))
			hash := r.status().LoadedHash
			r.write(tc.text + strings.Repeat(" ", 1))
			if tc.spoil != nil {
				r.write(withKeys("", `logging:{level:"debug"}`))
				if err := tc.spoil(r.path); err != nil {
					t.Fatal(err)
				}
			}
			for _, by := range []string{"file", "reload"} {
				if by == "file" {
					r.look()
				} else {
					r.send(r.c, `{"type":"req","id":"r","method":"gateway.reload"}`)
				}
				e := eventOf[wire.ConfigRejected](r, "config.rejected")
				told := e.Error
				for _, i := range e.Issues {
					told += fmt.Sprintf(" %s:%d:%d: %s", i.Path, i.Line, i.Column, i.Message)
				}
				if e.Source != by || !strings.Contains(told, tc.want) && !strings.Contains(r.stderr.String(), tc.want) {
					t.Errorf("%s: event %+v, want %s", by, e, tc.want)
				}
				if by == "reload" {
					if msg := r.find(`"id":"r"`); !strings.Contains(msg, `"ok":false`) {
						t.Errorf("gateway.reload answers %s", msg)
					}
				}
				s := r.status()
				if s.LoadedHash != hash || s.LastError == "" || s.Applied != nil || !strings.Contains(s.LastError, tc.want) {
					t.Errorf("%s: status %+v, want %s", by, s, tc.want)
				}
				if log := r.stderr.String(); !strings.Contains(log, `"level":"ERROR","msg":"config reload rejected","sub":"reload","source":"`+by) {
					t.Errorf("log: %s", log)
				}
			}
			if strings.Contains(r.stderr.String(), `"level":"DEBUG"`) {
				t.Error("some of it is in effect")
			}
			os.Remove(r.path)
			r.write(withKeys("", `logging:{level:"warn"}`))
			r.look()
			if e := eventOf[wire.ConfigChanged](r, "config.changed"); !slices.Equal(e.Applied, []string{"logging.level"}) {
				t.Errorf("mended: %+v", e)
			}
			if s := r.status(); s.LastError != "" || s.LoadedHash != s.FileHash {
				t.Errorf("mended: %+v", s)
			}
		})
	}
}

// TestReloadTriesAgain rejects a file for what is wrong outside of it, once by
// each way in, and takes the same text when that is mended.
func TestReloadTriesAgain(t *testing.T) {
	o := testOptions(t, "")
	key := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(key, []byte("sk-of-a-provider"), 0o644); err != nil {
		t.Fatal(err)
	}
	r := startReloaded(t, o)
	r.write(withKeys("", `models:{providers:{p:{baseUrl:"http://127.0.0.1:1",apiKey:"file:`+key+`"}}}`))
	r.look()
	if e := eventOf[wire.ConfigRejected](r, "config.rejected"); len(e.Issues) != 1 || !strings.Contains(e.Issues[0].Message, "chmod") {
		t.Errorf("event %+v", e)
	}
	if err := os.Chmod(key, 0o600); err != nil {
		t.Fatal(err)
	}
	r.look() // somebody touched it
	if e := eventOf[wire.ConfigChanged](r, "config.changed"); !slices.Equal(e.Applied, []string{"models.providers.p"}) {
		t.Errorf("event %+v", e)
	}
	r.write(withKeys("", `logging:{file:"/"}`))
	r.asks <- Request{Source: "SIGUSR1", Restart: true}
	if e := eventOf[wire.ConfigRejected](r, "config.rejected"); e.Source != "SIGUSR1" || !strings.Contains(e.Error, "logging.file") {
		t.Errorf("event %+v", e)
	}
	r.status() // it goes on
}

func firstError(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// TestFileAppears gives a gateway that was started without a configuration one
// without a secret, one with, and takes it away.
func TestFileAppears(t *testing.T) {
	o := testOptions(t, "")
	os.Remove(o.Paths.ConfigPath)
	o.AllowUnconfigured = true
	r := &reloaded{running: start(t, o), path: o.Paths.ConfigPath}
	own, err := os.ReadFile(filepath.Join(o.Paths.StateDir, tokenName))
	if err != nil {
		t.Fatal(err)
	}
	first := r.enter(string(own))
	if s := r.status(); s.LoadedHash != "" || s.FileHash != "" || s.LastError != "" || s.Pending != nil {
		t.Errorf("without a file: %+v", s)
	}
	r.write(`{logging:{level:"warn"}}`)
	r.look()
	if e := eventOf[wire.ConfigChanged](r, "config.changed"); !slices.Equal(e.Applied, []string{"logging.level"}) {
		t.Errorf("event %+v", e)
	}
	r.enter(r.cliKey)
	r.write(`{gateway:{auth:{token:"` + testToken + `"}},logging:{level:"warn"}}`)
	r.look()
	if e := eventOf[wire.ConfigChanged](r, "config.changed"); !slices.Equal(e.Applied, []string{"gateway.auth.token"}) {
		t.Errorf("event %+v", e)
	}
	if ce := r.closed(first); ce.Code != wire.ClosePolicy {
		t.Errorf("who came by the generated token is closed with %v", ce)
	}
	r.enter(testToken)
	os.Remove(r.path)
	r.look()
	if e := eventOf[wire.ConfigRejected](r, "config.rejected"); !strings.Contains(e.Error, "is gone") {
		t.Errorf("event %+v", e)
	}
	r.enter(testToken)
}
