package tool

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"openclaw/reload/config"
)

// newDesk is a house that asks before it runs anything, without the sandbox;
// who is asked gets the request from the channel.
func newDesk(t *testing.T) (*house, chan Approval) {
	h := newYard(t, "off")
	h.cfg.Tools.Exec.Mode = ""
	requests := make(chan Approval, 16)
	h.tools.Ask = func(a Approval) { requests <- a }
	return h, requests
}

// run starts a call that will ask.
func (h *house) run(args string) chan Result {
	done := make(chan Result, 1)
	go func() { done <- h.call("exec", args) }()
	return done
}

// TestApprovedThenSwapped: whatever an approval is bound to and changes before
// the start, the program does not start.
func TestApprovedThenSwapped(t *testing.T) {
	write := func(h *house, name, text string) {
		h.inside(name, text)
		if err := os.Chmod(filepath.Join(h.dir, name), 0o700); err != nil {
			h.t.Fatal(err)
		}
	}
	rename := func(h *house, from, to string) {
		h.t.Helper()
		if err := os.Rename(filepath.Join(h.dir, from), filepath.Join(h.dir, to)); err != nil {
			h.t.Fatal(err)
		}
	}
	same := func(h *house, name string) { // other content of the same size and time
		path := filepath.Join(h.dir, name)
		fi, err := os.Stat(path)
		if err == nil {
			err = os.WriteFile(path, []byte(strings.Replace(h.text(name), "good", "evil", 1)), 0o700)
		}
		if err == nil {
			err = os.Chtimes(path, fi.ModTime(), fi.ModTime())
		}
		if err != nil {
			h.t.Fatal(err)
		}
	}
	for _, c := range []struct {
		name, args string
		swap       func(h *house)
	}{
		{"nothing", `{"command":["./tool"],"workdir":"sub"}`, nil},
		{"nothing beside it", `{"command":["/bin/sh","run.sh"],"workdir":"sub"}`, func(h *house) { write(h, "sub/else", "x") }},
		{"binary exchanged", `{"command":["./tool"],"workdir":"sub"}`, func(h *house) { rename(h, "sub/tool", "sub/old"); write(h, "sub/tool", "#!/bin/sh\necho evil >ran\n") }},
		{"binary rewritten", `{"command":["./tool"],"workdir":"sub"}`, func(h *house) { same(h, "sub/tool") }},
		{"binary moved away and a copy put", `{"command":["./tool"],"workdir":"sub"}`, func(h *house) {
			text := h.text("sub/tool")
			rename(h, "sub/tool", "sub/old")
			write(h, "sub/tool", text)
		}},
		{"script of an interpreter", `{"command":["/bin/sh","run.sh"],"workdir":"sub"}`, func(h *house) { same(h, "sub/run.sh") }},
		{"script in a shell text", `{"command":"cd . && sh ./run.sh --x","workdir":"sub"}`, func(h *house) { same(h, "sub/run.sh") }},
		{"script behind an option", `{"command":["/usr/bin/env","--","sh","run.sh"],"workdir":"sub"}`, func(h *house) { same(h, "sub/run.sh") }},
		{"script behind a link", `{"command":["/bin/sh","link.sh"],"workdir":"sub"}`, func(h *house) {
			os.Remove(filepath.Join(h.dir, "sub/link.sh"))
			if err := os.Symlink("other.sh", filepath.Join(h.dir, "sub/link.sh")); err != nil {
				h.t.Fatal(err)
			}
		}},
		{"script that was not there", `{"command":["/bin/sh","late.sh"],"workdir":"sub"}`, func(h *house) { write(h, "sub/late.sh", "echo evil >ran\n") }},
		{"directory exchanged", `{"command":["/bin/sh","-c","echo evil >ran"],"workdir":"sub"}`, func(h *house) {
			rename(h, "sub", "gone")
			write(h, "sub/run.sh", "echo good >ran\n")
		}},
		{"directory is a link now", `{"command":["/bin/sh","-c","echo evil >ran"],"workdir":"sub"}`, func(h *house) {
			rename(h, "sub", "gone")
			if err := os.Symlink("gone", filepath.Join(h.dir, "sub")); err != nil {
				h.t.Fatal(err)
			}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			h, requests := newDesk(t)
			write(h, "sub/tool", "#!/bin/sh\necho good >ran\n")
			write(h, "sub/run.sh", "echo good >ran\n")
			write(h, "sub/other.sh", "echo evil >ran\n")
			if err := os.Symlink("run.sh", filepath.Join(h.dir, "sub/link.sh")); err != nil {
				t.Fatal(err)
			}
			done := h.run(c.args)
			a := <-requests
			harmless := strings.HasPrefix(c.name, "nothing")
			if c.swap != nil {
				c.swap(h)
			}
			if _, err := h.tools.Decide(a.ID, AllowAlways); err != nil {
				t.Fatal(err)
			}
			r := <-done
			ran := false
			filepath.WalkDir(h.dir, func(path string, _ os.DirEntry, err error) error {
				ran = ran || filepath.Base(path) == "ran"
				return err
			})
			if r.IsError == harmless || ran != harmless {
				t.Fatalf("%s; it ran: %t", r.Content, ran)
			}
			if !harmless && !strings.Contains(r.Content.String(), "changed since") {
				t.Error(r.Content)
			}
			if _, f, _, err := h.tools.Approvals(); err != nil || (f.Agents["main"] != nil) != harmless {
				t.Error("what was not run is allowed for always", err)
			}
		})
	}
}

// TestAlwaysIsExact: an approval for always holds for the very same thing, also
// after a restart, and for nothing that is nearly so.
func TestAlwaysIsExact(t *testing.T) {
	h, requests := newDesk(t)
	h.cfg.Tools.Exec.Env = []string{"CI"}
	h.inside("run.sh", "echo good\n")
	h.inside("sub/run.sh", "echo good\n")
	const args = `{"command":["/bin/sh","run.sh","a"]}`
	done := h.run(args)
	if _, err := h.tools.Decide((<-requests).ID, AllowAlways); err != nil {
		t.Fatal(err)
	}
	if r := <-done; r.Content.String() != "good\n" {
		t.Fatal(r.Content)
	}
	again := New(h.tools.Options) // after a restart
	h.tools, again = again, h.tools
	defer again.Close(t.Context())
	if got := h.ok("exec", args); got != "good\n" || len(requests) > 0 {
		t.Error("asked again:", got)
	}
	other := h.scope
	other.Agent.ID = "other"
	asks := func(name string, s Scope, args string) {
		t.Helper()
		done := make(chan Result, 1)
		go func() { done <- h.tools.For(s).Call(context.Background(), "1", "exec", json.RawMessage(args), nil) }()
		select {
		case r := <-done:
			t.Errorf("%s: not asked: %s", name, r.Content)
		case a := <-requests:
			if _, err := h.tools.Decide(a.ID, Deny); err != nil {
				t.Error(err)
			}
			if r := <-done; !r.IsError || !strings.Contains(r.Content.String(), "denied") {
				t.Errorf("%s: %s", name, r.Content)
			}
		}
	}
	asks("another agent", other, args)
	asks("one argument more", h.scope, `{"command":["/bin/sh","run.sh","a","b"]}`)
	asks("one argument less", h.scope, `{"command":["/bin/sh","run.sh"]}`)
	asks("arguments joined", h.scope, `{"command":["/bin/sh","run.sh a"]}`)
	asks("environment", h.scope, `{"command":["/bin/sh","run.sh","a"],"env":{"CI":"1"}}`)
	asks("directory", h.scope, `{"command":["/bin/sh","run.sh","a"],"workdir":"sub"}`)
	h.inside("run.sh", "echo evil\n")
	asks("script", h.scope, args)
}

func TestDecisions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tools := New(Options{Config: config.Default, Ask: func(Approval) {}})
		type answer struct {
			decision string
			err      error
		}
		ask := func(ctx context.Context, id string) chan answer {
			done := make(chan answer, 1)
			go func() {
				_, decision, err := tools.Approve(ctx, id, ApprovalRequest{Command: "true"}, 2*time.Minute)
				done <- answer{decision, err}
			}()
			synctest.Wait()
			return done
		}
		refused := func(id, decision string) {
			t.Helper()
			if _, err := tools.Decide(id, decision); err == nil {
				t.Errorf("Decide(%q, %q) was taken", id, decision)
			}
		}
		done := ask(t.Context(), "0123456789abcdef")
		for _, id := range []string{"", "0", "0123456789abcde", "0123456789abcdef0", "0123456789ABCDEF", " 0123456789abcdef", "*"} {
			refused(id, AllowOnce)
		}
		for _, decision := range []string{"", "allow", "ALLOW-ONCE", "yes"} {
			refused("0123456789abcdef", decision)
		}
		if _, _, err := tools.Approve(t.Context(), "0123456789abcdef", ApprovalRequest{}, time.Minute); !errors.Is(err, ErrBadApproval) {
			t.Error("the id was used twice:", err)
		}
		if a, err := tools.Decide("0123456789abcdef", AllowOnce); err != nil || a.Request.Command != "true" {
			t.Error(err)
		}
		refused("0123456789abcdef", AllowOnce) // twice
		refused("0123456789abcdef", Deny)
		if got := <-done; got != (answer{AllowOnce, nil}) {
			t.Error(got)
		}

		done = ask(t.Context(), "late")
		time.Sleep(2*time.Minute - time.Nanosecond)
		synctest.Wait()
		if len(tools.Pending()) != 1 {
			t.Error("expired early")
		}
		time.Sleep(time.Nanosecond)
		refused("late", AllowOnce)
		if got := <-done; got != (answer{"", nil}) {
			t.Error(got)
		}

		ctx, cancel := context.WithCancelCause(t.Context())
		done = ask(ctx, "aborted")
		gone := errors.New("the turn was aborted")
		cancel(gone)
		if got := <-done; got != (answer{"", gone}) {
			t.Error(got)
		}
		refused("aborted", AllowOnce)

		for range maxPerHolder {
			ask(t.Context(), "")
		}
		if _, _, err := tools.Approve(t.Context(), "", ApprovalRequest{}, time.Minute); !errors.Is(err, ErrBadApproval) {
			t.Error("no bound:", err)
		}
		left := tools.Pending()
		tools.Close(t.Context())
		synctest.Wait()
		for _, a := range left { // a restart
			refused(a.ID, AllowOnce)
			if _, err := New(Options{}).Decide(a.ID, AllowOnce); err == nil {
				t.Error("the next gateway took it")
			}
		}
	})
}

// TestAborted: a turn that ends does not leave its question behind.
func TestAborted(t *testing.T) {
	h, requests := newDesk(t)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan Result, 1)
	go func() {
		done <- h.tools.For(h.scope).Call(ctx, "1", "exec", json.RawMessage(`{"command":"true"}`), nil)
	}()
	a := <-requests
	cancel()
	if r := <-done; !r.IsError {
		t.Error(r.Content)
	}
	if _, err := h.tools.Decide(a.ID, AllowOnce); !errors.Is(err, ErrUnknownApproval) {
		t.Error(err)
	}
}

// TestPrompt: what is shown is what will run, all of it, and visible.
func TestPrompt(t *testing.T) {
	h, requests := newDesk(t)
	h.cfg.Tools.Exec.Env = []string{"CI"}
	h.inside("run.sh", "")
	long := strings.Repeat("x", 100<<10) + "the end"
	done := h.run(`{"command":["/bin/sh","run.sh",` + quoted("a\u202eb \u3164\u200b") + `,` + quoted(long) + `],"env":{"CI":"hush-hush"}}`)
	r := (<-requests).Request
	if want := `/bin/sh run.sh 'a\u{202e}b \u{3164}\u{200b}' '` + long + "'"; r.Command != want {
		t.Errorf("shown %.200q", r.Command)
	}
	if !slices.Contains(r.Env, "CI") || strings.Contains(strings.Join(r.Env, ""), "hush") || r.Cwd != h.dir || len(r.Hash) != 64 || len(r.Files) != 1 {
		t.Errorf("%+v", r)
	}
	h.tools.Decide(h.tools.Pending()[0].ID, Deny)
	<-done
}

func TestQuote(t *testing.T) {
	for in, want := range map[string]string{
		"ls":       "ls",
		"a b":      "'a b'",
		"":         "''",
		"a ":       "'a '",
		"it's":     `'it'\''s'`,
		`\u{41}`:   `'\\u{41}'`,
		"é漢":       "'é漢'",
		"a\nb\x1b": `'a\u{a}b\u{1b}'`,
		"\u00ad\u200b\u200d\u2060\ufeff\u061c\u202a\u2066": `'\u{ad}\u{200b}\u{200d}\u{2060}\u{feff}\u{61c}\u{202a}\u{2066}'`,
		"\u115f\u1160\u3164\uffa0\u2800\u034f\u17b4\ufe0f": `'\u{115f}\u{1160}\u{3164}\u{ffa0}\u{2800}\u{34f}\u{17b4}\u{fe0f}'`,
		"\u00a0\u2003\u3000\u2028\U000e0041\u0301":         `'\u{a0}\u{2003}\u{3000}\u{2028}\u{e0041}\u{301}'`,
		"\xff\uFFFD": `'\xff` + "\uFFFD'",
	} {
		if got := Quote(in); got != want {
			t.Errorf("Quote(%q) = %s, want %s", in, got, want)
		}
	}
}

func FuzzQuote(f *testing.F) {
	f.Add("a", "b c")
	f.Add("\u202e", "'")
	f.Fuzz(func(t *testing.T, a, b string) {
		got := Quote(a, b)
		for _, r := range got {
			if !visible(r) {
				t.Errorf("%q shows %U", got, r)
			}
		}
		if a != b && got == Quote(b, a) {
			t.Errorf("%q and %q look the same: %s", a, b, got)
		}
	})
}

// TestApprovalsFile: what the file of the wider product holds stays, allows
// nothing here, and nothing like it can be added.
func TestApprovalsFile(t *testing.T) {
	h, _ := newDesk(t)
	const theirs = `{"version":1,"socket":{"path":"/s","token":"hush"},"defaults":{"security":"full"},"agents":{"main":{"security":"full","allowlist":[{"pattern":"/bin/*"}]}}}`
	if err := h.tools.Dir.WriteFile(ApprovalsName, []byte(theirs)); err != nil {
		t.Fatal(err)
	}
	if ok, err := h.tools.always("main", strings.Repeat("0", 64)); ok || err != nil {
		t.Error(ok, err)
	}
	_, f, hash, err := h.tools.Approvals()
	if err != nil || string(f.Socket) == "" {
		t.Fatal(err)
	}
	for _, bad := range []string{
		`{"version":2}`, `{"version":1,"agents":{"main":null}}`, `{"version":1,"x":1}`, `[]`, ``,
		`{"version":1,"agents":{"main":{"allowlist":[{"pattern":"/usr/bin/*"}]}}}`, `{"version":1,"agents":{"other":{"allowlist":[{"pattern":"/bin/*"}]}}}`,
		`{"version":1,"agents":{"main":{"allowlist":[{"pattern":"sha256:00"}]}}}`,
	} {
		if err := h.tools.SetApprovals(json.RawMessage(bad), hash); !errors.Is(err, ErrBadApproval) {
			t.Errorf("%s: %v", bad, err)
		}
	}
	if err := h.tools.SetApprovals(json.RawMessage(`{"version":1,"agents":{}}`), "stale"); !errors.Is(err, ErrBadApproval) {
		t.Error("a stale hash:", err)
	}
	if err := h.tools.remember(&ApprovalRequest{AgentID: "main", Hash: strings.Repeat("a", 64)}); err != nil {
		t.Fatal(err)
	}
	_, f, hash, err = h.tools.Approvals()
	if err != nil || len(f.Agents["main"].Allowlist) != 2 || string(f.Agents["main"].Security) != `"full"` || !strings.Contains(string(f.Socket), "hush") {
		t.Errorf("%+v %v", f, err)
	}
	if err := h.tools.SetApprovals(json.RawMessage(`{"version":1,"agents":{}}`), hash); err != nil {
		t.Error(err)
	}
	if ok, _ := h.tools.always("main", strings.Repeat("a", 64)); ok {
		t.Error("taken out, but allowed")
	}
	if err := h.tools.Dir.WriteFile(ApprovalsName, []byte(`{"version":1,`)); err != nil {
		t.Fatal(err)
	}
	h.fails("exec", `{"command":"true"}`, ApprovalsName) // nothing is asked on the basis of half a file
}
