package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"openclaw/wire"
)

// TestApproveByCommand has a person decide on programs by the commands of the
// program, in a gateway as it is by default but for the HTTP door. A restart
// forgets what waits, not what was allowed for always.
func TestApproveByCommand(t *testing.T) {
	t.Parallel()
	h := newHouse(t, object{"gateway": object{"tools": object{"allow": []any{"exec"}}}})
	g := h.start()
	invoke := func(command string) chan answer {
		done := make(chan answer, 1)
		go func() {
			a, err := h.http("POST", "/tools/invoke", `{"tool":"exec","args":{"command":`+command+`}}`)
			if err != nil {
				a.body = err.Error()
			}
			done <- a
		}()
		return done
	}
	cli := func(code int, args ...string) string {
		t.Helper()
		r := h.run(args...)
		if r.code != code {
			t.Fatalf("%v: exit %d, %s%s", args, r.code, r.stdout, r.stderr)
		}
		return r.stdout + r.stderr
	}
	asked := func() (list []wire.ExecApproval) {
		t.Helper()
		for end := time.Now().Add(patience); len(list) == 0; {
			if err := json.Unmarshal([]byte(cli(0, "approvals", "list", "--json")), &list); err != nil {
				t.Fatal(err)
			}
			if time.Now().After(end) {
				t.Fatal("nothing waits")
			}
		}
		return list
	}
	want := func(done chan answer, status int, text string) {
		t.Helper()
		if a := <-done; a.status != status || !strings.Contains(a.body, text) {
			t.Errorf("%d %s", a.status, a.body)
		}
	}

	const command = "[\"/bin/echo\",\"\u202ehello\"]"
	done := invoke(command)
	x := asked()[0]
	shown := cli(0, "approvals")
	for _, text := range []string{x.ID, x.Request.Hash, `/bin/echo '\u{202e}hello'`, filepath.Join(h.state, "workspace"), "PATH HOME LANG TERM TZ TMPDIR", "agent:main:main"} {
		if !strings.Contains(shown, text) {
			t.Errorf("%q does not show %q", shown, text)
		}
	}
	if out := cli(1, "approvals", "approve", x.ID[:8]); !strings.Contains(out, "unknown or expired") {
		t.Error("by prefix:", out)
	}
	cli(0, "approvals", "approve", x.ID)
	want(done, 200, "hello")
	cli(1, "approvals", "approve", x.ID) // twice

	done = invoke(command)
	cli(0, "approvals", "deny", asked()[0].ID)
	want(done, 400, "denied")

	done = invoke(command)
	cli(0, "approvals", "approve", "--always", asked()[0].ID)
	want(done, 200, "hello")
	want(invoke(command), 200, "hello") // unasked

	done = invoke(`"true"`)
	x = asked()[0]
	g.signal(syscall.SIGTERM)
	g.wait()
	<-done
	h.start()
	cli(1, "approvals", "approve", x.ID)
	want(invoke(command), 200, "hello")
	if raw, err := os.ReadFile(filepath.Join(h.state, "exec-approvals.json")); err != nil || strings.Count(string(raw), `"pattern"`) != 1 {
		t.Error(string(raw), err)
	}
}
