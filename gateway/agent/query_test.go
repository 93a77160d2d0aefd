package agent

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"openclaw/gateway/store"
	"openclaw/reload/config"
)

func ptr[T any](v T) *T { return &v }

func TestSessions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := openHouse(t, stateDir(t), answering(reTo), func(c *config.Config) {
			c.Agents.List = []config.Agent{{ID: "main", Default: true}, {ID: "ops"}}
		})
		for i, key := range []string{"main", "agent:ops:main", "agent:main:slack:channel:c1", "global"} {
			time.Sleep(time.Second)
			h.say(key, fmt.Sprintf("first words of conversation number %d, which go on and on for ever", i))
		}
		time.Sleep(time.Second)
		h.say("main", "second")
		list := func(q Query) string {
			rows, total, err := h.List(q)
			if err != nil {
				t.Fatal(err)
			}
			var keys []string
			for _, r := range rows {
				keys = append(keys, r.Key)
			}
			return fmt.Sprint(keys, total)
		}
		time.Sleep(time.Second)
		key, _, err := h.Patch("agent:ops:MAIN", Patch{Label: ptr("My chat"), ThinkingLevel: ptr("low")})
		equal(t, "patch", fmt.Sprint(key, err), "agent:ops:main<nil>")
		for _, c := range []struct {
			q    Query
			want string
		}{
			{Query{}, "[agent:ops:main agent:main:main agent:main:slack:channel:c1] 3"},
			{Query{IncludeGlobal: true, Limit: 2}, "[agent:ops:main agent:main:main] 4"},
			{Query{IncludeGlobal: true, Limit: 2, Offset: 3}, "[agent:main:slack:channel:c1] 4"},
			{Query{Offset: 10}, "[] 3"},
			{Query{AgentID: "ops"}, "[agent:ops:main] 1"},
			{Query{Label: "My chat"}, "[agent:ops:main] 1"},
			{Query{Search: "SLACK"}, "[agent:main:slack:channel:c1] 1"},
			{Query{Search: "my CH"}, "[agent:ops:main] 1"},
			{Query{SpawnedBy: "x"}, "[] 0"},
			{Query{Since: time.Now().Add(-time.Second)}, "[agent:ops:main agent:main:main] 2"},
		} {
			equal(t, fmt.Sprintf("list %+v", c.q), list(c.q), c.want)
		}
		for range 2 { // the second from memory
			rows, _, _ := h.List(Query{DerivedTitles: true, LastMessage: true, AgentID: "main"})
			equal(t, "described", fmt.Sprint(rows[0].Title, "|", rows[0].LastMessage, "|", rows[0].Kind, rows[1].Kind, rows[0].Provider, rows[0].Model, rows[0].ContextTokens),
				"first words of conversation number 0, which go on and on…|re: second|directgroupbuiltinecho128000")
		}
		for _, c := range []struct{ key, id, label, agent, want string }{
			{key: "main", want: "agent:main:main"},
			{label: "My chat", want: "agent:ops:main"},
			{label: "My chat", agent: "main", want: "no session found: My chat"},
			{key: "nobody", want: "no session found: nobody"},
			{id: "nobody", want: "no session found: nobody"},
		} {
			got, err := h.Resolve(c.key, c.id, c.label, c.agent)
			if err != nil {
				wantErr(t, err, ErrUnknownSession, "")
				got = err.Error()
			}
			equal(t, "resolve", got, c.want)
		}
		_, e, _ := h.Entry("main")
		got, _ := h.Resolve("", e.SessionID, "", "")
		equal(t, "resolve id", got, "agent:main:main")
		_, _, err = h.Patch("agent:ops:x", Patch{Label: ptr("My chat")})
		wantErr(t, err, ErrLabelInUse, "My chat")
		_, _, err = h.Patch("main", Patch{Model: ptr("nobody/x")})
		wantErr(t, err, ErrUnknownModel, "nobody")
		_, _, err = h.Patch("agent:ghost:main", Patch{Label: ptr("x")})
		wantErr(t, err, ErrUnknownAgent, "ghost")
		if _, err := os.Stat(filepath.Join(h.path, "agents", "ghost")); err == nil {
			t.Error("a question made a directory")
		}
		_, e, err = h.Patch("agent:ops:main", Patch{Label: ptr("")})
		equal(t, "patched", fmt.Sprint(e.Label, e.ThinkingLevel, err), "low<nil>")

		for _, c := range []struct {
			key           string
			limit, max    int
			status, items string
		}{
			{"main", 2, 20, "ok", "[{user second} {assistant re: second}]"},
			{"main", 3, 8, "ok", "[{assistant re: fir…} {user second} {assistant re: sec…}]"},
			{"nobody", 3, 20, "missing", "[]"},
			{"agent:ghost:main", 3, 20, "error", "[]"},
		} {
			status, items := h.Preview(c.key, c.limit, c.max)
			equal(t, "preview", status+fmt.Sprint(items), c.status+c.items)
		}
		hist, err := h.History("main", 2, 1)
		equal(t, "history", fmt.Sprint(len(hist.Messages), hist.Messages[1].Message.Content, hist.Total, hist.Key, hist.SessionID != "", err), "2 second 4agent:main:maintrue <nil>")
		hist, err = h.History("nobody", 10, 0)
		equal(t, "no history", fmt.Sprint(len(hist.Messages), hist.SessionID, err), "0<nil>")
	})
}

func TestReset(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate()
		h := newHouse(t, g)
		h.Patch("main", Patch{Label: ptr("kept"), Model: ptr("builtin/echo")})
		running := h.start(userTurn("main", "1"))
		<-g.entered
		_, old, _ := h.Entry("main")
		key, e, err := h.Reset(t.Context(), "main")
		equal(t, "reset", fmt.Sprint(key, e.Label, e.ModelOverride, e.SessionID != old.SessionID, e.TotalTokens, err), "agent:main:mainkeptechotrue 0 <nil>")
		<-running.Done()
		equal(t, "running", running.Result().Status+running.Result().SessionID, "aborted"+old.SessionID)
		equal(t, "history", h.said("main"), "")
		close(g.open)
		h.say("main", "2")
		equal(t, "history", h.said("main"), "u: 2\na: half done")
		equal(t, "asked", g.asked[1], "u: 2")
		path := h.path
		h.close()
		equal(t, "after a restart", openHouse(t, path, nil, nil).said("main"), "u: 2\na: half done")
	})
}

func TestDelete(t *testing.T) {
	h := newHouse(t, answering(reTo))
	h.say("main", "1")
	h.say("x", "1")
	h.say("y", "1")
	_, _, _, err := h.Delete(t.Context(), "main", true)
	wantErr(t, err, ErrMainSession, "Cannot delete the main session (agent:main:main).")
	key, deleted, archived, err := h.Delete(t.Context(), "x", true)
	if key != "agent:main:x" || !deleted || len(archived) != 1 || err != nil {
		t.Error(key, deleted, archived, err)
	}
	if _, err := os.Stat(archived[0]); err != nil || !strings.Contains(archived[0], ".jsonl.deleted.") {
		t.Error(archived, err)
	}
	_, deleted, archived, err = h.Delete(t.Context(), "x", true)
	equal(t, "again", fmt.Sprint(deleted, archived, err), "false [] <nil>")
	_, deleted, archived, err = h.Delete(t.Context(), "y", false)
	equal(t, "kept", fmt.Sprint(deleted, archived, err), "true [] <nil>")
	equal(t, "asked", h.say("x", "2").Text, "re: 2")
	equal(t, "history", h.said("x"), "u: 2\na: re: 2")
}

// Who asks for something that must wait for a turn, and leaves, gets nothing done.
func TestImpatience(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate()
		h := newHouse(t, g)
		run := h.start(userTurn("main", "1"))
		<-g.entered
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := h.Compact(ctx, "main", 1)
		wantErr(t, err, context.DeadlineExceeded, "")
		waited := make(chan Compaction, 1)
		go func() {
			c, err := h.Compact(t.Context(), "main", 1)
			if err != nil {
				t.Error(err)
			}
			waited <- c
		}()
		synctest.Wait()
		next := h.start(userTurn("main", "2"))
		close(g.open)
		c := <-waited
		equal(t, "before the next turn", fmt.Sprint(c.Compacted, c.Kept), "false 2")
		<-run.Done()
		<-next.Done()
		if strings.Contains(kinds(h.lines("main")), "compaction") {
			t.Error("compacted all the same")
		}
	})
}

func TestCompact(t *testing.T) {
	h := newHouse(t, answering(func(r *modelRequest) string { return fmt.Sprint(len(r.Messages)) }))
	for range 5 {
		h.say("main", "x")
	}
	compact := func(n int) string {
		c, err := h.Compact(t.Context(), "main", n)
		return fmt.Sprint(c.Compacted, c.Kept, c.Reason, err)
	}
	equal(t, "all fit", compact(10), "false 10nothing to leave out<nil>")
	equal(t, "to a turn's beginning", compact(5), "true 4<nil>")
	equal(t, "again", compact(5), "false 4nothing to leave out<nil>")
	equal(t, "asked", h.say("main", "x").Text, "5")
	equal(t, "history is whole", strings.Count(h.said("main"), "u: x"), 6)
	path := h.path
	h.close()
	h = openHouse(t, path, answering(func(r *modelRequest) string { return fmt.Sprint(len(r.Messages)) }), nil)
	equal(t, "asked after a restart", h.say("main", "x").Text, "7")
	c, err := h.Compact(t.Context(), "nobody", 5)
	equal(t, "no session", fmt.Sprint(c.Compacted, c.Reason, err), "falseno session<nil>")
}

func TestInject(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate()
		h := newHouse(t, g)
		_, _, err := h.Inject("main", "x", "")
		wantErr(t, err, ErrUnknownSession, "main")
		first := h.start(userTurn("main", "1"))
		<-g.entered
		second := h.start(userTurn("main", "2"))
		id, m, err := h.Inject("main", " note ", "cron")
		if id == "" || err != nil || m.Content.String() != "[cron]\n\nnote" {
			t.Error(id, m, err)
		}
		g.open <- struct{}{}
		<-g.entered
		h.Inject("main", "late", "")
		_, _, err = h.Inject("main", " ", "")
		wantErr(t, err, ErrEmpty, "")
		close(g.open)
		<-first.Done()
		<-second.Done()
		want := "u: 1\na: [cron]\n\nnote\na: half done\nu: 2\na: late\na: half done"
		equal(t, "history", h.said("main"), want)
		path := h.path
		h.close()
		equal(t, "after a restart", openHouse(t, path, nil, nil).said("main"), want)
	})
}

func TestIdentity(t *testing.T) {
	workspace := t.TempDir()
	h := openHouse(t, stateDir(t), nil, func(c *config.Config) {
		c.Agents.List = []config.Agent{{ID: "main"}, {ID: "ops", Name: "Olga", Workspace: workspace}, {ID: "md", Workspace: workspace}}
	})
	if err := os.WriteFile(filepath.Join(workspace, "IDENTITY.md"), []byte("# Who\n- **Name:** Clawd\n- Emoji: 🦞\nVibe: calm\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ agent, key, want string }{
		{"", "", "{main Assistant A }"},
		{"ops", "", "{ops Olga O 🦞}"},
		{"", "agent:md:main", "{md Clawd C 🦞}"},
	} {
		got, err := h.Identity(c.agent, c.key)
		equal(t, "identity", fmt.Sprint(got, err), c.want+" <nil>")
	}
	_, err := h.Identity("ghost", "")
	wantErr(t, err, ErrUnknownAgent, "ghost")
}

func TestUsage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, answering(reTo))
		h.say("main", "1")
		h.say("main", "2")
		h.Reset(t.Context(), "main") // what was used stays used
		h.say("main", "3")
		today := time.Now().Format(time.DateOnly)
		report := func() string {
			u, err := h.Usage(t.Context(), 31)
			var list []string
			for _, d := range u.Days {
				list = append(list, fmt.Sprint(d.Date, " ", d.AgentID, " ", d.Input, d.Output, d.TotalTokens, d.MissingCost))
			}
			return fmt.Sprint(list, u.Partial, err)
		}
		want := "[" + today + " main 33 21 54 3]false<nil>"
		equal(t, "usage", report(), strings.Replace(want, "]false", "] false ", 1))
		h.say("main", "4")
		equal(t, "usage, a moment later", report(), strings.Replace(want, "]false", "] false ", 1))
		time.Sleep(time.Minute)
		equal(t, "usage, later", strings.Contains(report(), "44 28 72 4"), true)
	})
	var d DayUsage
	d.add(&store.Usage{TotalTokens: 1, Cost: store.Cost{Total: 2}})
	if d.MissingCost != 0 || d.Cost.Total != 2 {
		t.Error(d)
	}
}
