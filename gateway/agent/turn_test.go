package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"openclaw/gateway/store"
	"openclaw/reload/config"
)

func TestTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, answering(reTo))
		run := h.start(userTurn("main", "hello there"))
		<-run.Done()
		equal(t, "events", h.told(run), "start\nmodel builtin/echo\ndelta re: |re: \ndelta hello |re: hello \ndelta there|re: hello there\nend ok stop")
		res := run.Result()
		equal(t, "result", fmt.Sprint(res.Text, res.Status, res.StopReason, res.Usage.TotalTokens, res.Provider, res.Model, res.Err), "re: hello thereokstop18builtinecho<nil>")
		equal(t, "run", fmt.Sprint(run.SessionKey, " ", run.AgentID, " ", run.SessionID == res.SessionID, res.SessionID != ""), "agent:main:main main true true")
		equal(t, "history", h.said("main"), "u: hello there\na: re: hello there")
		equal(t, "file", kinds(h.lines("main")), "session user assistant")
		_, e, err := h.Entry("main")
		equal(t, "entry", fmt.Sprint(e.SystemSent, e.AbortedLastRun, e.InputTokens, e.OutputTokens, e.TotalTokens, e.ContextTokens, e.ModelProvider, e.Model, err),
			"true false 11 7 11 128000builtinecho<nil>")
		waited, ok := h.Wait(t.Context(), run.ID)
		equal(t, "wait", fmt.Sprint(waited.Text, ok), "re: hello theretrue")

		// The transcript is there after a restart too.
		path := h.path
		h.close()
		h = openHouse(t, path, answering(reTo), nil)
		h.say("main", "again")
		equal(t, "history", h.said("agent:main:main"), "u: hello there\na: re: hello there\nu: again\na: re: again")
	})
}

func TestEchoTurn(t *testing.T) {
	h := newHouse(t, nil)
	res := h.say("main", "Grüße")
	if res.Status != StatusOK || !strings.Contains(res.Text, "Grüße") || !strings.Contains(res.Text, "not a language model") || res.Usage.Output == 0 {
		t.Errorf("%+v", res)
	}
}

// The acknowledgement comes before a run's first event, whatever its kind.
func TestAcceptedComesFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, answering(reTo))
		for _, turn := range []Turn{userTurn("main", "x"), userTurn("", "x"), userTurn("main", "/help")} {
			told := 0
			turn.Observe = func(Event) { told++ }
			turn.Accepted = func(*Run) {
				synctest.Wait() // the run gets all the time it may want
				if told > 0 {
					t.Error("an event before the acknowledgement")
				}
			}
			<-h.start(turn).Done()
			if told < 3 {
				t.Error("no events")
			}
		}
	})
}

func TestStateless(t *testing.T) {
	h := newHouse(t, answering(func(r *modelRequest) string {
		return fmt.Sprintf("%d %t %q", len(r.Messages), r.System != "", r.SessionKey)
	}))
	turn := userTurn("", "one")
	turn.Messages = append(turn.Messages, store.Message{Role: store.RoleAssistant, Content: store.Text("two")}, store.Message{Role: store.RoleUser, Content: store.Text("/help")})
	run := h.start(turn)
	<-run.Done()
	res := run.Result()
	equal(t, "text", res.Text, `3 true ""`)
	if run.SessionKey != "" || run.SessionID != "" || res.Message == nil {
		t.Errorf("%+v", run)
	}
	rows, total, err := h.List(Query{IncludeGlobal: true, IncludeUnknown: true})
	equal(t, "sessions", fmt.Sprint(len(rows), total, err), "0 0 <nil>")
}

func TestRefused(t *testing.T) {
	h := openHouse(t, stateDir(t), nil, func(c *config.Config) {
		c.Agents.List = []config.Agent{{ID: "main"}, {ID: "other"}}
	})
	user := func(s string) []store.Message { return []store.Message{{Role: store.RoleUser, Content: store.Text(s)}} }
	for _, c := range []struct {
		turn Turn
		is   error
		text string
	}{
		{Turn{AgentID: "ghost", Messages: user("x")}, ErrUnknownAgent, `unknown agent id "ghost"`},
		{Turn{SessionKey: "agent:ghost:main", Messages: user("x")}, ErrUnknownAgent, `unknown agent id "ghost"`},
		{Turn{SessionKey: "agent:other:main", AgentID: "main", Messages: user("x")}, ErrAgentMismatch, `agent "main" does not match session key agent "other"`},
		{Turn{SessionKey: "agent:", Messages: user("x")}, ErrInvalidKey, "want agent:ID:NAME"},
		{Turn{SessionKey: "a\x00b", Messages: user("x")}, ErrInvalidKey, "invalid session key"},
		{Turn{SessionKey: strings.Repeat("x", 513), Messages: user("x")}, ErrInvalidKey, "512"},
		{Turn{SessionKey: "main"}, ErrEmpty, ""},
		{Turn{SessionKey: "main", Messages: user(" \n")}, ErrEmpty, "message or attachment required"},
		{Turn{SessionKey: "main", Messages: []store.Message{{Role: "system", Content: store.Text("x")}}}, ErrInvalidTurn, `unknown role "system"`},
		{Turn{SessionKey: "main", Messages: []store.Message{{Role: store.RoleToolResult}}}, ErrInvalidTurn, "id of its call"},
		{Turn{SessionKey: "main", Messages: user("x"), Model: "nobody/x"}, ErrUnknownModel, "nobody"},
		{Turn{SessionKey: "main", Messages: user("x"), RunID: strings.Repeat("x", 300)}, ErrInvalidTurn, "256"},
	} {
		run, err := h.Start(t.Context(), c.turn)
		if run != nil {
			t.Error("started", c.turn)
		}
		wantErr(t, err, c.is, c.text)
	}
	if rows, _, _ := h.List(Query{}); len(rows) > 0 || len(h.runs) > 0 || h.active != 0 {
		t.Errorf("%v %v %d: something was left behind", rows, h.runs, h.active)
	}
}

// Many speak at once in several sessions. In each session every message is
// followed by its own answer, each speaker's messages are in his order, and the
// turns began in the transcript's order.
func TestOrder(t *testing.T) {
	const speakers, sessions, each = 50, 3, 3
	h := openHouse(t, stateDir(t), answering(reTo), func(c *config.Config) { c.Gateway.Limits.MaxQueuedTurns = 1000 })
	var wg sync.WaitGroup
	for i := range speakers {
		wg.Go(func() {
			for n := range each {
				turn := userTurn(fmt.Sprint("s", i%sessions), fmt.Sprintf("%02d-%d", i, n))
				if _, err := h.Start(context.Background(), turn); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if err := h.Drain(t.Context()); err != nil {
		t.Fatal(err)
	}
	var began []string
	for _, e := range h.events {
		if e.Kind == KindEnd {
			began = append(began, e.Run.SessionKey+" "+e.Result.Text)
		}
	}
	if len(h.idle) > 0 || len(h.sessions) > 0 || h.active != 0 {
		t.Errorf("%d idle, %d sessions, %d active", len(h.idle), len(h.sessions), h.active)
	}
	total := 0
	for s := range sessions {
		key := fmt.Sprint("agent:main:s", s)
		lines := strings.Split(h.said(key), "\n")
		total += len(lines) / 2
		next := map[string]int{}
		var turns []string
		for i := 0; i+1 < len(lines); i += 2 {
			text := strings.TrimPrefix(lines[i], "u: ")
			if lines[i+1] != "a: re: "+text {
				t.Fatalf("%s: %q is followed by %q", key, lines[i], lines[i+1])
			}
			who, n, _ := strings.Cut(text, "-")
			if n != fmt.Sprint(next[who]) {
				t.Errorf("%s: %s out of order", key, text)
			}
			next[who]++
			turns = append(turns, key+" re: "+text)
		}
		ended := slices.DeleteFunc(slices.Clone(began), func(s string) bool { return !strings.HasPrefix(s, key+" ") })
		equal(t, "ends", ended, turns)
	}
	equal(t, "turns", total, speakers*each)
}

func TestWaitingTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate()
		h := newHouse(t, g)
		first := h.start(userTurn("main", "one"))
		<-g.entered
		second := h.start(userTurn("main", "two"))
		third := h.start(userTurn("main", "three"))
		equal(t, "file", kinds(h.lines("main")), "session user queued-turn queued-turn")
		equal(t, "history", h.said("main"), "u: one")
		running, queued := h.Counts()
		equal(t, "counts", fmt.Sprint(running, queued), "1 2")
		close(g.open)
		<-third.Done()
		equal(t, "asked", strings.Join(g.asked, "\n\n"), "u: one\n\nu: one\na: half done\nu: two\n\nu: one\na: half done\nu: two\na: half done\nu: three")
		equal(t, "file", kinds(h.lines("main")), "session user queued-turn queued-turn assistant user assistant user assistant")
		if !first.StartedAt().Before(soon()) || second.Result().Err != nil {
			t.Error("not run")
		}
	})
}

// An idle session's turn is one line before the model is asked and one after.
func TestOneWriteBeforeAndAfter(t *testing.T) {
	var h *house
	h = newHouse(t, fakeModel(func(_ context.Context, r *modelRequest, _ func(delta)) (*modelResult, error) {
		return &modelResult{Content: store.Text(kinds(h.lines("main"))), StopReason: stopEnd}, nil
	}))
	for i, want := range []string{"session user", "session user assistant user"} {
		if res := h.say("main", "x"); res.Text != "" || res.Message.Content.String() != want {
			t.Errorf("%d: %q", i, res.Message.Content)
		}
	}
}

func TestIdempotent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate()
		h := newHouse(t, g)
		turn := userTurn("main", "x")
		turn.RunID = "r1"
		var runs [10]*Run
		var wg sync.WaitGroup
		for i := range runs {
			wg.Go(func() { runs[i], _ = h.Start(context.Background(), turn) })
		}
		wg.Wait()
		<-g.entered
		close(g.open)
		<-runs[0].Done()
		again := h.start(turn)
		for _, r := range append(runs[:], again) {
			if r != runs[0] {
				t.Fatal("another run")
			}
		}
		equal(t, "history", h.said("main"), "u: x\na: half done")
		if found, ok := h.Find("r1"); !ok || found != again {
			t.Error("not found")
		}
		time.Sleep(keptFor + time.Second) // the bubble's clock
		if _, ok := h.Find("r1"); ok {
			t.Error("not forgotten")
		}
		if h.start(turn) == again {
			t.Error("not run again")
		}
	})
}

func TestFinishedRunsAreBounded(t *testing.T) {
	h := newHouse(t, answering(reTo))
	for i := range keptRuns + 50 {
		turn := userTurn("", "x")
		turn.RunID = fmt.Sprint("r", i)
		<-h.start(turn).Done()
	}
	if n := len(h.runs); n != keptRuns {
		t.Errorf("%d runs are remembered", n)
	}
	if _, ok := h.Find("r0"); ok {
		t.Error("the oldest is remembered")
	}
	for range 60 {
		<-h.start(userTurn("", strings.Repeat("x", 400<<10))).Done()
	}
	if h.kept > keptSize || h.kept < keptSize*9/10 || len(h.runs) > 45 {
		t.Errorf("%d bytes of %d runs are remembered", h.kept, len(h.runs))
	}
}

func TestWaitUnknown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, nil)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		begin := time.Now()
		if _, ok := h.Wait(ctx, "nobody"); ok || time.Since(begin) != time.Second {
			t.Error(ok, time.Since(begin))
		}
	})
}

func TestAbort(t *testing.T) {
	for _, c := range []struct {
		name  string
		abort func(h *house, first, second *Run) []string
		first string // how it ended; second likewise
		other string
		said  string
	}{
		{"running", func(h *house, first, _ *Run) []string { return h.Abort("", first.ID, "rpc") },
			"aborted", "ok", "u: one\na: half  (aborted)\nu: two\na: half done"},
		{"waiting", func(h *house, _, second *Run) []string { return h.Abort("main", second.ID, "rpc") },
			"ok", "aborted", "u: one\na: half done\nu: two\na:  (aborted)"},
		{"session", func(h *house, _, _ *Run) []string { return h.Abort("agent:main:main", "", "rpc") },
			"aborted", "aborted", "u: one\na: half  (aborted)\nu: two\na:  (aborted)"},
		{"run of another session", func(h *house, first, _ *Run) []string { return h.Abort("other", first.ID, "rpc") },
			"ok", "ok", "u: one\na: half done\nu: two\na: half done"},
		{"nothing named", func(h *house, _, _ *Run) []string { return h.Abort("", "", "rpc") },
			"ok", "ok", "u: one\na: half done\nu: two\na: half done"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := newGate()
				h := newHouse(t, g)
				first := h.start(userTurn("main", "one"))
				<-g.entered
				second := h.start(userTurn("main", "two"))
				aborted := h.Abort("no such session", "", "x")
				aborted = append(aborted, c.abort(h, first, second)...)
				want := 0
				for _, s := range []string{c.first, c.other} {
					if s == "aborted" {
						want++
					}
				}
				equal(t, "aborted", len(aborted), want)
				synctest.Wait()
				if c.other == "aborted" {
					<-second.Done() // at once, not after the first
					if second.Result().Err.Error() != "aborted: rpc" || !second.StartedAt().IsZero() && c.first == "ok" {
						t.Error(second.Result())
					}
				}
				close(g.open)
				<-first.Done()
				<-second.Done()
				synctest.Wait()
				equal(t, "first", first.Result().Status, c.first)
				equal(t, "second", second.Result().Status, c.other)
				if c.first == "aborted" {
					equal(t, "text", first.Result().Text, "half ")
					equal(t, "events", h.told(first), "start\nmodel builtin/echo\ndelta half |half \naborted aborted aborted")
				}
				if c.first == "ok" && c.other == "aborted" {
					equal(t, "events", h.told(second), "aborted aborted aborted")
				}
				equal(t, "history", h.said("main"), c.said)
				_, e, _ := h.Entry("main")
				equal(t, "abortedLastRun", e.AbortedLastRun, c.other == "aborted")
				if h.active != 0 || h.sessions[place{"main", "agent:main:main"}].turns != 0 {
					t.Error("a place was not given back")
				}
			})
		})
	}
}

// A client that leaves ends its turn, running or waiting, and no other.
func TestClientLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate()
		h := newHouse(t, g)
		ctx, leave := context.WithCancel(context.Background())
		first, err := h.Start(ctx, userTurn("main", "one"))
		if err != nil {
			t.Fatal(err)
		}
		<-g.entered
		second, _ := h.Start(ctx, userTurn("main", "two"))
		third := h.start(userTurn("main", "three"))
		leave()
		<-g.entered
		close(g.open)
		<-third.Done()
		equal(t, "ended", fmt.Sprint(first.Result().Status, second.Result().Status, third.Result().Status), "abortedabortedok")
		equal(t, "err", first.Result().Err, "aborted: the client left")
		equal(t, "asked", g.asked[len(g.asked)-1], "u: one\na: half  (aborted)\nu: two\nu: three")
	})
}

func TestTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate()
		h := newHouse(t, g)
		for _, c := range []struct{ turn, want time.Duration }{{0, 600 * time.Second}, {2 * time.Second, 2 * time.Second}} {
			begin := time.Now()
			turn := userTurn("main", "x")
			turn.Timeout = c.turn
			run := h.start(turn)
			<-run.Done()
			res := run.Result()
			wantErr(t, res.Err, ErrTimeout, "turn timed out after "+c.want.String())
			equal(t, "took", fmt.Sprint(time.Since(begin), res.Duration), fmt.Sprint(c.want, c.want))
			equal(t, "result", res.Status+res.StopReason+res.Text, "errorerrorhalf ")
		}
		equal(t, "history", h.said("main"), "u: x\na: half  (error)\nu: x\na: half  (error)")
	})
}

// What a provider refused is told, kept for people, and not shown to models.
func TestProviderError(t *testing.T) {
	bad := true
	h := newHouse(t, fakeModel(func(ctx context.Context, r *modelRequest, emit func(delta)) (*modelResult, error) {
		if bad {
			return nil, r.failf(401, "no such key")
		}
		return answering(func(r *modelRequest) string { return fmt.Sprint(len(r.Messages)) })(ctx, r, emit)
	}))
	run := h.start(userTurn("main", "one"))
	<-run.Done()
	res := run.Result()
	var failed *modelError
	if !errors.As(res.Err, &failed) || failed.Status != 401 || res.Status != StatusError || res.Provider != "builtin" {
		t.Errorf("%+v", res)
	}
	equal(t, "events", h.told(run), "start\nmodel builtin/echo\nerror error error")
	equal(t, "stored", res.Message.ErrorMessage, `provider "builtin" model "echo": 401 Unauthorized: no such key`)
	bad = false
	equal(t, "text", h.say("main", "two").Text, "2")
	equal(t, "history", h.said("main"), "u: one\na:  (error)\nu: two\na: 2")
}

func TestClientTools(t *testing.T) {
	step := 0
	h := newHouse(t, fakeModel(func(ctx context.Context, r *modelRequest, emit func(delta)) (*modelResult, error) {
		if step++; step == 1 {
			emit(delta{Thinking: "hm"})
			return &modelResult{StopReason: stopTool, Content: []store.Part{
				{Type: store.PartToolCall, ID: "c1", Name: "weather", Arguments: json.RawMessage(`{"at":"Ulm"}`)},
				{Type: store.PartToolCall, ID: "c2", Name: "time", Arguments: json.RawMessage(`{}`)},
			}}, nil
		}
		var list []string
		for _, m := range r.Messages {
			list = append(list, brief(m))
		}
		return answering(func(*modelRequest) string { return strings.Join(list, " / ") })(ctx, r, emit)
	}))
	turn := userTurn("main", "weather?")
	turn.Tools = []Tool{{Name: "weather"}}
	run := h.start(turn)
	<-run.Done()
	equal(t, "events", h.told(run), "start\nmodel builtin/echo\nthinking hm\ntool 0 c1 weather {\"at\":\"Ulm\"}\ntool 1 c2 time {}\nend ok toolUse")
	equal(t, "calls", len(run.Result().ToolCalls), 2)
	next := h.start(Turn{SessionKey: "main", Messages: []store.Message{
		{Role: store.RoleToolResult, ToolCallID: "c1", Content: store.Text("rain")},
		{Role: store.RoleToolResult, ToolCallID: "c2", Content: store.Text("noon")},
	}})
	<-next.Done()
	equal(t, "asked", next.Result().Text, "u: weather? / a: <c1><c2> (toolUse) / t: rain<c1> / t: noon<c2>")
}

func TestBounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate()
		h := openHouse(t, stateDir(t), g, func(c *config.Config) {
			c.Gateway.Limits.MaxRuns, c.Gateway.Limits.MaxQueuedTurns = 2, 1
		})
		h.start(userTurn("a", "1"))
		h.start(userTurn("a", "2"))
		_, err := h.Start(t.Context(), userTurn("a", "3"))
		wantErr(t, err, ErrBusy, "1 wait in this session")
		h.start(userTurn("", "stateless"))
		_, err = h.Start(t.Context(), userTurn("b", "1"))
		wantErr(t, err, ErrBusy, "2 are running")
		_, err = h.Start(t.Context(), userTurn("", "1"))
		wantErr(t, err, ErrBusy, "2 are running")
		if res := h.say("b", "/status"); res.Status != StatusOK {
			t.Error("no command when all places are taken", res)
		}
		close(g.open)
		synctest.Wait()
		h.say("b", "1")
		equal(t, "history", h.said("a"), "u: 1\na: half done\nu: 2\na: half done")
		if _, queued := h.Counts(); h.active != 0 || queued != 0 {
			t.Error("places were not given back")
		}
	})
}

// A client that is told the end may begin the next turn at once.
func TestPlaceIsFreeAtTheEnd(t *testing.T) {
	h := openHouse(t, stateDir(t), answering(reTo), func(c *config.Config) {
		c.Gateway.Limits.MaxRuns, c.Gateway.Limits.MaxQueuedTurns = 1, 0
	})
	for i := range 100 {
		key := []string{"", "a", "b"}[i%3]
		turn, again := userTurn(key, "1"), userTurn(key, "2")
		turn.Observe = func(e Event) {
			if e.Kind == KindEnd {
				if _, err := h.Start(context.Background(), again); err != nil {
					t.Error(err)
				}
			}
		}
		<-h.start(turn).Done()
		for active, _ := h.Counts(); active > 0; active, _ = h.Counts() {
			for _, r := range h.running("") {
				<-r.Done()
			}
		}
	}
}

func TestDrain(t *testing.T) {
	for _, cut := range []bool{false, true} {
		t.Run(fmt.Sprint("cut ", cut), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := newGate()
				h := newHouse(t, g)
				runs := []*Run{h.start(userTurn("main", "one")), h.start(userTurn("main", "two")), h.start(userTurn("", "three"))}
				<-g.entered
				<-g.entered
				ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
				defer cancel()
				begin := time.Now()
				time.AfterFunc(10*time.Second, func() {
					if _, err := h.Start(t.Context(), userTurn("main", "late")); !errors.Is(err, ErrDraining) {
						t.Error(err)
					}
					if !cut {
						close(g.open)
					}
				})
				err := h.Drain(ctx)
				status, took, said := "ok", 10*time.Second, "u: one\na: half done\nu: two\na: half done"
				if cut {
					status, took, said = "aborted", 30*time.Second, "u: one\na: half  (aborted)\nu: two\na:  (aborted)"
				}
				if (err != nil) != cut || time.Since(begin) != took {
					t.Error(err, time.Since(begin))
				}
				for _, r := range runs {
					<-r.Done()
					equal(t, "status", r.Result().Status, status)
				}
				equal(t, "history", h.said("main"), said)
			})
		})
	}
}

func TestPanic(t *testing.T) {
	for _, where := range []string{"model", "start", "delta", "end"} {
		t.Run(where, func(t *testing.T) {
			h := newHouse(t, fakeModel(func(ctx context.Context, r *modelRequest, emit func(delta)) (*modelResult, error) {
				if where == "model" && lastSaid(r) == "bad" {
					panic("oh no")
				}
				return answering(reTo)(ctx, r, emit)
			}))
			turn := userTurn("main", "bad")
			turn.Observe = func(e Event) {
				if e.Kind == map[string]Kind{"start": KindStart, "delta": KindDelta, "end": KindEnd}[where] {
					panic("oh no")
				}
			}
			run := h.start(turn)
			<-run.Done()
			if where != "end" {
				wantErr(t, run.Result().Err, ErrPanic, "internal error")
				if told := h.told(run); !strings.HasSuffix(told, "\nerror error error") {
					t.Error(told)
				}
			}
			equal(t, "stacks", strings.Count(h.log.String(), "oh no"), 1)
			if strings.Contains(h.said("main"), "oh no") || !strings.Contains(h.log.String(), "turn_test.go") {
				t.Error("the cause was told, or not logged")
			}
			equal(t, "next", h.say("main", "good").Text, "re: good")
			equal(t, "stateless", func() string { r := h.start(userTurn("", "s")); <-r.Done(); return r.Result().Text }(), "re: s")
		})
	}
}

// The model of a turn is the turn's own, else the session's, else the agent's.
func TestModelChoice(t *testing.T) {
	h := openHouse(t, stateDir(t), answering(reTo), func(c *config.Config) {
		c.Agents.Defaults.Model = config.Model{Primary: "gone/x", Fallbacks: []string{"builtin/echo"}}
	})
	run := h.start(userTurn("main", "x"))
	<-run.Done()
	equal(t, "events", h.told(run), "start\nmodel builtin/echo\ndelta re: |re: \ndelta x|re: x\nend ok stop")
	turn := userTurn("main", "x")
	turn.Model = "builtin/echo"
	run = h.start(turn)
	<-run.Done()
	equal(t, "events", h.told(run), "start\nmodel builtin/echo\ndelta re: |re: \ndelta x|re: x\nend ok stop")
	h.say("main", "/model builtin/echo")
	run = h.start(userTurn("main", "x"))
	<-run.Done()
	equal(t, "events", h.told(run), "start\nmodel builtin/echo\ndelta re: |re: \ndelta x|re: x\nend ok stop")
}

func BenchmarkTurn(b *testing.B) {
	h := openHouse(b, stateDir(b), answering(reTo), func(c *config.Config) { c.Gateway.Limits.MaxQueuedTurns = 1000 })
	for i := range 1000 {
		h.say(fmt.Sprint("s", i), "x")
	}
	b.ResetTimer()
	for i := range b.N {
		h.say(fmt.Sprint("s", i%100), "hello there")
	}
}
