package tool

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"openclaw/gateway/tool/sandbox"
	"openclaw/reload/config"
)

// prompt bounds what is to end within two seconds, for a machine that is slow and
// has more to do; what ends by itself takes a minute.
const prompt = 20 * time.Second

// newYard is a house whose programs run: sandboxed, or not and unasked.
func newYard(t *testing.T, walls string) *house {
	t.Helper()
	h := newHouse(t)
	h.cfg.Tools.Exec.Mode = "full"
	h.scope.Agent.SandboxMode = walls
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), prompt)
		defer cancel()
		if err := h.tools.Close(ctx); err != nil {
			t.Error("close:", err)
		}
		if left, _ := filepath.Glob(filepath.Join(h.tools.Dir.Path(), "tmp", "*")); len(left) > 0 {
			t.Error("private directories are left:", left)
		}
	})
	return h
}

// both runs a test with the sandbox and without.
func both(t *testing.T, f func(t *testing.T, h *house)) {
	for _, walls := range []string{"all", "off"} {
		t.Run("sandbox "+walls, func(t *testing.T) { f(t, newYard(t, walls)) })
	}
}

// asked reads a detail of a result.
func asked[T any](t *testing.T, r Result, key string) T {
	t.Helper()
	var all map[string]json.RawMessage
	var v T
	if err := json.Unmarshal(r.Details, &all); err != nil {
		t.Fatalf("%s: %v", r.Content, err)
	}
	if err := json.Unmarshal(all[key], &v); err != nil {
		t.Fatalf("%s in %s: %v", key, r.Details, err)
	}
	return v
}

func TestExec(t *testing.T) {
	both(t, func(t *testing.T, h *house) {
		h.inside("sub/a.txt", "one\n")
		for _, c := range []struct{ args, want string }{
			{`{"command":"echo $((1+2)) *; echo oops >&2"}`, "3 sub\noops\n"},
			{`{"command":["echo","$HOME","*","a;b"]}`, "$HOME * a;b\n"},
			{`{"cmd":"cat a.txt","workdir":"sub"}`, "one\n"},
			{`{"command":"true"}`, "(no output)"},
			{`{"command":"printf x; exit 3"}`, "x\n[exit code 3]"},
			{`{"command":["/bin/sh","-c","cat"]}`, "(no output)"}, // its input is empty
			{`{"command":"printf 'a\\377b'"}`, "a\uFFFDb"},
			{`{"command":"echo hi > made.txt; echo there > $TMPDIR/x && cat made.txt $TMPDIR/x"}`, "hi\nthere\n"},
		} {
			if got := h.ok("exec", c.args); got != c.want {
				t.Errorf("%s: %q", c.args, got)
			}
		}
		r := h.call("exec", `{"command":"exit 3"}`)
		if asked[int](t, r, "exitCode") != 3 || asked[string](t, r, "status") != "completed" || asked[string](t, r, "cwd") != h.dir {
			t.Errorf("%s", r.Details)
		}
		h.fails("exec", `{"command":"kill -9 $$"}`, "signal", "killed")
		h.fails("exec", `{"command":"sleep 60","timeout":1}`, "timed out")
		h.fails("exec", `{"command":["nonesuch"]}`, "no program nonesuch")
		h.fails("exec", `{"command":["./sub/a.txt"]}`, "cannot be executed")
		h.fails("exec", `{"command":[]}`, "must not be empty")
		h.fails("exec", `{"command":" "}`, "must not be empty")
		h.fails("exec", `{"command":["a",1]}`, "texts only")
		h.fails("exec", `{"command":"a\u0000b"}`, "NUL")
		h.fails("exec", `{"command":"true","workdir":"../away"}`, "leads out")
		h.fails("exec", `{"command":"true","workdir":"sub/a.txt"}`, "not a directory")
		if err := os.Symlink(h.away, filepath.Join(h.dir, "link")); err != nil {
			t.Fatal(err)
		}
		h.fails("exec", `{"command":"true","workdir":"link"}`)
		h.cfg.Tools.Exec.Mode = "deny"
		h.fails("exec", `{"command":"true"}`, "switched off")
	})
}

// TestEnvironment: a child gets what is written in the documentation, whatever
// the gateway has and a call asks for, and no descriptor but the first three.
func TestEnvironment(t *testing.T) {
	const canary = "canary-5bd1e8"
	hostile := strings.Fields("LD_PRELOAD LD_LIBRARY_PATH DYLD_INSERT_LIBRARIES NODE_OPTIONS BASH_ENV ENV PS4 SHELLOPTS PYTHONPATH PYTHONSTARTUP PERL5OPT PERL5LIB RUBYOPT " +
		"JAVA_TOOL_OPTIONS GLIBC_TUNABLES DOTNET_STARTUP_HOOKS GIT_SSH_COMMAND GIT_CONFIG_COUNT http_proxy HTTPS_PROXY SSL_CERT_FILE CURL_HOME npm_config_registry PIP_INDEX_URL " +
		"EDITOR PAGER HOME PATH TMPDIR TZ ZDOTDIR IFS OPENCLAW_GATEWAY_TOKEN GCONV_PATH Ld_Preload")
	for _, name := range append(hostile, "AWS_SECRET_ACCESS_KEY", "OPENAI_API_KEY") {
		if name != "HOME" && name != "PATH" && name != "TMPDIR" && name != "TZ" {
			t.Setenv(name, canary)
		}
	}
	secretFile, err := os.Create(filepath.Join(t.TempDir(), canary))
	if err != nil {
		t.Fatal(err)
	}
	defer secretFile.Close()
	syscall.Syscall(syscall.SYS_FCNTL, secretFile.Fd(), syscall.F_SETFD, 0) // as a careless library would leave it
	both(t, func(t *testing.T, h *house) {
		h.inside(".env", "FROM_FILE="+canary)
		h.cfg.Tools.Exec.Env = []string{"CI", "EMPTY"}
		var names []string
		for line := range strings.Lines(h.ok("exec", `{"command":["env"],"env":{"CI":"1","EMPTY":""}}`)) {
			name, value, _ := strings.Cut(strings.TrimSpace(line), "=")
			names = append(names, name)
			if name == "HOME" && value != h.dir || name == "PATH" && value != fixedPath || name == "TERM" && value != "dumb" || strings.Contains(value, canary) {
				t.Error(line)
			}
		}
		if want := strings.Fields("PATH HOME LANG TERM TZ CI EMPTY TMPDIR"); !slices.Equal(names, want) {
			t.Errorf("%q, want %q", names, want)
		}
		h.cfg.Tools.Exec.Env = append(hostile, "CI") // as the configuration would refuse it
		for _, name := range append(hostile, "SECRET", "A=B", "", "A B", "X\x00Y") {
			h.fails("exec", fmt.Sprintf(`{"command":["env"],"env":{%s:"x"}}`, quoted(name)), "cannot be set")
		}
		h.fails("exec", `{"command":["env"],"env":{"CI":"a\u0000b"}}`, "NUL")
		if got := h.ok("exec", `{"command":"for i in 3 4 5 6 7 8 9; do eval \"(: <&$i) 2>/dev/null && echo open $i\"; done; true"}`); got != "(no output)" {
			t.Error("descriptors:", got)
		}
		if h.scope.Agent.SandboxMode == "off" {
			state := h.tools.Dir.Path()
			put(t, filepath.Join(state, "secret"), canary)
			out := h.ok("exec", fmt.Sprintf(`{"command":"cat %s/secret /proc/%d/environ; ls %s"}`, state, os.Getpid(), state))
			if strings.Contains(out, canary) {
				t.Error("the state directory or the gateway is open:", out)
			}
		}
	})
}

// TestExecEnvConfig: an allow-list that holds a loader's name does not load.
func TestExecEnvConfig(t *testing.T) {
	for _, name := range []string{"LD_PRELOAD", "ld_audit", "DYLD_X", "NODE_OPTIONS", "BASH_ENV", "PATH", "PYTHONPATH", "GIT_DIR", "https_proxy", "OPENCLAW_STATE_DIR", "A B", "*"} {
		_, err := config.Parse("t", []byte(fmt.Sprintf(`{tools:{exec:{env:["CI",%q]}}}`, name)), config.Source{})
		if err == nil || !strings.Contains(err.Error(), "tools.exec.env[1]") {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, path := range []string{"ls", "/bin/*", "/bin/../bin/ls", "bin/ls", ""} {
		if _, err := config.Parse("t", []byte(fmt.Sprintf(`{tools:{exec:{allow:[%q]}}}`, path)), config.Source{}); err == nil {
			t.Errorf("%q may be allowed", path)
		}
	}
}

// gone waits until a process is no more.
func gone(t *testing.T, pid int, within time.Duration) {
	t.Helper()
	for end := time.Now().Add(within); syscall.Kill(pid, 0) != syscall.ESRCH; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("process %d lives", pid)
		}
	}
}

// TestAbuse: what does not want to end is bounded and ends within two seconds
// of the abort, whoever else is served meanwhile.
func TestAbuse(t *testing.T) {
	for name, script := range map[string]string{
		// Three hundred, not without end: root is exempt from the limit of
		// processes, and a bomb that is not held takes the whole host with it.
		"many processes":  `i=0; while [ $i -lt 300 ]; do (trap '' TERM; sleep 60)& i=$((i+1)); done; echo up; wait`,
		"endless output":  `echo up; exec yes`,
		"ignored SIGTERM": `trap '' TERM HUP INT; echo up; while :; do sleep 60; done`,
		"daemon":          `(setsid sh -c 'trap "" TERM; echo $$ > pid; while :; do sleep 1; done' >/dev/null 2>&1 &) ; while [ ! -s pid ]; do :; done; echo up; sleep 60`,
		"stopped":         `echo up; kill -STOP $$`,
	} {
		t.Run(name, func(t *testing.T) {
			both(t, func(t *testing.T, h *house) {
				ctx, cancel := context.WithCancelCause(t.Context())
				var began time.Time
				other := make(chan Result, 1)
				res := h.tools.For(h.scope).Call(ctx, "1", "exec", json.RawMessage(`{"command":`+quoted(script)+`}`), func(partial string) {
					if len(partial) > maxPartial {
						t.Errorf("%d bytes of an update", len(partial))
					}
					if began.IsZero() {
						began = time.Now()
						go func() { other <- h.call("exec", `{"command":"echo other"}`) }()
						cancel(errors.New("aborted by hand"))
					}
				})
				if took := time.Since(began); took > prompt {
					t.Errorf("ended after %v", took)
				}
				if got := (<-other).Content.String(); got != "other\n" {
					t.Error("another call:", got)
				}
				if !res.IsError || !strings.Contains(res.Content.String(), "aborted by hand") {
					t.Errorf("%.200s", res.Content)
				}
				if raw, err := os.ReadFile(filepath.Join(h.dir, "pid")); err == nil {
					pid, _ := strconv.Atoi(strings.TrimSpace(string(raw)))
					gone(t, pid, prompt)
				}
			})
		})
	}
}

func TestBounds(t *testing.T) {
	both(t, func(t *testing.T, h *house) {
		out := h.ok("exec", `{"command":"yes 0123456789 | head -c 3000000; echo the end"}`)
		if len(out) > maxOutput || !strings.HasPrefix(out, "[27") || !strings.Contains(out[:80], "bytes of output before this are cut]") || !strings.HasSuffix(out, "the end\n") {
			t.Errorf("%d bytes: %.80s", len(out), out)
		}
		r := h.call("exec", `{"command":"trap '' XFSZ; truncate -s 1073741800 big; head -c 10000000000 /dev/zero >> big; ls -l big"}`)
		if fi, err := os.Stat(filepath.Join(h.dir, "big")); err != nil || fi.Size() > 1<<30 {
			t.Errorf("%v, %s", fi.Size(), r.Content)
		}
		os.Remove(filepath.Join(h.dir, "big"))
	})
}

// TestNoWalls: without a wall a sandboxed session has no exec, and says why.
func TestNoWalls(t *testing.T) {
	h := newYard(t, "non-main")
	h.tools.layers = func() sandbox.Layers { return sandbox.Layers{{Name: "files", Detail: "Landlock is switched off"}} }
	h.scope.Main = false
	h.fails("exec", `{"command":"echo > ran"}`, "not available", "Landlock is switched off")
	if _, err := os.Stat(filepath.Join(h.dir, "ran")); err == nil {
		t.Error("it ran")
	}
}

// TestExecMonotone: what a session starts is walled in as it is, and asks as it does.
func TestExecMonotone(t *testing.T) {
	h := newYard(t, "all")
	parent := h.tools.For(h.scope)
	child := h.scope
	child.Parent, child.Agent.SandboxMode, child.Main = parent, "off", true
	if !child.sandboxed() {
		t.Error("a child has left the sandbox")
	}
	child.Agent.Tools.Exec.Mode = "full"
	c := &call{Tools: h.tools, Scope: child}
	for _, mode := range modes {
		if h.cfg.Tools.Exec.Mode = mode; c.mode(true) != mode {
			t.Errorf("a child of %s has %s", mode, c.mode(true))
		}
	}
	h.cfg.Tools.Exec.Mode = ""
	c = &call{Tools: h.tools, Scope: h.scope}
	if c.mode(true) != "full" || c.mode(false) != "ask" {
		t.Errorf("by default %s sandboxed, %s not", c.mode(true), c.mode(false))
	}
}

func TestAllowlist(t *testing.T) {
	both(t, func(t *testing.T, h *house) {
		echo, err := exec.LookPath("echo")
		if err != nil {
			t.Fatal(err)
		}
		own := filepath.Join(h.dir, "own")
		put(t, own, "#!/bin/sh\necho own\n")
		os.Chmod(own, 0o700)
		real, _ := findProgram("echo", h.dir)
		h.cfg.Tools.Exec.Mode, h.cfg.Tools.Exec.Allow = "allowlist", []string{real, own}
		if got := h.ok("exec", `{"command":["echo","$(id)","a b",";","*"]}`); got != "$(id) a b ; *\n" {
			t.Error(got)
		}
		h.inside("sub/x", "")
		os.Symlink(echo, filepath.Join(h.dir, "echo"))
		os.Symlink("/bin/sh", filepath.Join(h.dir, "sub/echo"))
		for _, args := range []string{
			`{"command":"echo hi"}`, `{"command":"echo $HOME"}`, `{"command":"echo <<E\n$(id)\nE"}`,
			`{"command":["/bin/sh","-c","echo hi"]}`, `{"command":["env","echo"]}`, `{"command":["env","-S","sh -c id"]}`,
			`{"command":["./echo"]}`, `{"command":["sub/echo"]}`, `{"command":["./own"]}`, `{"command":[` + quoted(own) + `]}`,
			`{"command":["echo "]}`, `{"command":["ECHO"]}`, `{"command":["/bin/ech?"]}`, `{"command":["/bin/*"]}`,
		} {
			h.fails("exec", args)
		}
	})
}

func TestBackground(t *testing.T) {
	both(t, func(t *testing.T, h *house) {
		r := h.call("exec", `{"command":"echo first; read line; echo got $line; read line; exit 4","background":true}`)
		id := asked[string](t, r, "sessionId")
		do := func(action, more string) Result {
			return h.call("process", `{"action":"`+action+`","sessionId":"`+id+`"`+more+`}`)
		}
		poll := func(want string) Result { // output may come in pieces
			t.Helper()
			var got string
			for end := time.Now().Add(prompt); time.Now().Before(end) && !strings.Contains(got, want); {
				r = do("poll", `,"timeout":1000`)
				got += r.Content.String()
			}
			if !strings.Contains(got, want) {
				t.Fatalf("%q does not hold %q", got, want)
			}
			return r
		}
		poll("first\n")
		if got := h.ok("process", `{"action":"list"}`); !strings.Contains(got, id+"  running") {
			t.Error(got)
		}
		other := h.scope // neither another session nor another agent sees it
		other.SessionKey = "agent:main:other"
		for _, action := range []string{"poll", "log", "write", "kill", "remove", "clear"} {
			res := h.tools.For(other).Call(t.Context(), "1", "process", json.RawMessage(`{"action":"`+action+`","sessionId":"`+id+`"}`), nil)
			if !res.IsError || !strings.Contains(res.Content.String(), "no program") {
				t.Errorf("%s: %s", action, res.Content)
			}
		}
		do("write", `,"data":"hello\n"`)
		poll("got hello\n")
		h.fails("process", `{"action":"clear","sessionId":"`+id+`"}`, "running still")
		do("write", `,"data":"","eof":true`)
		r = poll("[exit code 4]")
		if asked[int](t, r, "exitCode") != 4 || asked[string](t, r, "status") != "completed" {
			t.Errorf("%s", r.Details)
		}
		if got := do("log", "").Content.String(); !strings.Contains(got, "first\ngot hello\n") {
			t.Error(got)
		}
		if got := do("log", `,"offset":1,"limit":1`).Content.String(); !strings.HasPrefix(got, "[lines 1 to 2 of 2]\ngot hello\n") {
			t.Error(got)
		}
		do("clear", "")
		h.fails("process", `{"action":"poll","sessionId":"`+id+`"}`, "no program")

		r = h.call("exec", `{"command":"trap '' TERM; echo up; while :; do sleep 60; done","yieldMs":10}`)
		id = asked[string](t, r, "sessionId")
		poll("up")
		h.fails("process", `{"action":"write","sessionId":"`+id+`","data":"x"}`, "input is closed")
		began := time.Now()
		r = do("kill", "")
		if !strings.Contains(r.Content.String(), "killed") || time.Since(began) > prompt {
			t.Errorf("%s after %v", r.Content, time.Since(began))
		}
		do("remove", "")
		if got := h.ok("process", `{"action":"list"}`); got != "No programs in the background." {
			t.Error(got)
		}
		h.cfg.Tools.Deny = []string{"process"} // then nothing goes on unseen
		if got := h.ok("exec", `{"command":"sleep 0.1; echo done","background":true}`); got != "done\n" {
			t.Error(got)
		}
	})
}

// TestClose: a gateway that stops leaves nothing running.
func TestClose(t *testing.T) {
	both(t, func(t *testing.T, h *house) {
		var pids []int
		for range maxRunning {
			pids = append(pids, asked[int](t, h.call("exec", `{"command":"trap '' TERM; while :; do sleep 60; done","background":true}`), "pid"))
		}
		h.fails("exec", `{"command":"true","background":true}`, "16 programs of this session are running")
		ctx, cancel := context.WithTimeout(t.Context(), prompt)
		defer cancel()
		began := time.Now()
		if err := h.tools.Close(ctx); err != nil || time.Since(began) > prompt {
			t.Error(err, time.Since(began))
		}
		for _, pid := range pids {
			gone(t, pid, 0)
		}
		h.fails("exec", `{"command":"true"}`, "shutting down")
	})
}
