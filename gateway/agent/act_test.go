package agent

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"

	"openclaw/gateway/store"
	"openclaw/gateway/tool"
)

// fakeTools is a Toolset of functions.
type fakeTools map[string]func(ctx context.Context, args string, update func(string)) tool.Result

func (f fakeTools) List() (list []tool.Definition) {
	for name := range f {
		list = append(list, tool.Definition{Name: name, Parameters: json.RawMessage(`{"type":"object"}`)})
	}
	return list
}

func (f fakeTools) Call(ctx context.Context, _, name string, args json.RawMessage, update func(string)) tool.Result {
	if run := f[name]; run != nil {
		return run(ctx, string(args), update)
	}
	return failed("no tool is called " + name)
}

func result(text string) tool.Result { return tool.Result{Content: store.Text(text)} }

// acting is a house whose turns have tools, and whose model says each text of
// a script in turn: «words NAME(ARGS)#ID …» calls tools.
func acting(t *testing.T, tools fakeTools, script ...string) (*house, *[]modelRequest) {
	t.Helper()
	var mu sync.Mutex
	var asked []modelRequest
	model := fakeModel(func(_ context.Context, r *modelRequest, emit func(delta)) (*modelResult, error) {
		mu.Lock()
		defer mu.Unlock()
		line := script[min(len(asked), len(script)-1)]
		asked = append(asked, *r)
		res := &modelResult{StopReason: stopEnd, Usage: store.Usage{Input: 100, Output: 10, TotalTokens: 110}}
		var words []string
		var list []store.Part
		for _, w := range strings.Fields(line) {
			head, id, ok := strings.Cut(w, "#")
			if !ok {
				words = append(words, w)
				continue
			}
			name, args, _ := strings.Cut(strings.TrimSuffix(head, ")"), "(")
			list = append(list, store.Part{Type: store.PartToolCall, ID: id, Name: name, Arguments: json.RawMessage(args)})
			res.StopReason = stopTool
		}
		if text := strings.Join(words, " "); text != "" {
			emit(delta{Text: text})
			res.Content = store.Text(text)
		}
		res.Content = append(res.Content, list...)
		return res, nil
	})
	h := newHouse(t, model)
	h.tools = func(tool.Scope) Toolset { return tools }
	return h, &asked
}

func TestActs(t *testing.T) {
	var both sync.WaitGroup
	both.Add(2)
	meet := func(context.Context, string, func(string)) tool.Result { // only when both run at once
		both.Done()
		both.Wait()
		return result("met")
	}
	h, asked := acting(t, fakeTools{"a": meet, "b": meet}, `Let me see. a({"n":1})#c1 b({"n":2})#c2`, "It is done.")
	run := h.start(userTurn("main", "do it"))
	<-run.Done()
	res := run.Result()
	equal(t, "result", fmt.Sprint(res.Status, " ", res.StopReason, " ", res.Text, " ", res.Err), "ok stop Let me see.\n\nIt is done. <nil>")
	equal(t, "usage", res.Usage.TotalTokens, 220)
	equal(t, "history", h.said("main"), "u: do it\na: Let me see.<c1><c2> (toolUse)\nt: met<c1>\nt: met<c2>\na: It is done.")
	equal(t, "requests", len(*asked), 2)
	equal(t, "tools offered", len((*asked)[0].Tools), 2)
	var second []string
	for _, m := range (*asked)[1].Messages {
		second = append(second, brief(m))
	}
	equal(t, "second request", strings.Join(second, "\n"), "u: do it\na: Let me see.<c1><c2> (toolUse)\nt: met<c1>\nt: met<c2>")
	told := h.told(run)
	for _, want := range []string{"start\nmodel builtin/echo\ndelta Let me see.|Let me see.\n", "ran 0 c1 a {\"n\":1}", "ran 1 c2 b {\"n\":2}", "got 0 c1 met", "got 1 c2 met",
		"\ndelta \n\nIt is done.|Let me see.\n\nIt is done.\nend ok stop"} {
		if !strings.Contains(told, want) {
			t.Errorf("events lack %q:\n%s", want, told)
		}
	}
	if _, e, err := h.Entry("main"); err != nil || e.TotalTokens != 100 || e.InputTokens != 200 {
		t.Errorf("entry %+v, %v", e, err)
	}
	before := h.said("main")
	h.close()
	equal(t, "history after a restart", openHouse(t, h.path, nil, nil).said("main"), before)
}

func TestActsOnWhatGoesWrong(t *testing.T) {
	tools := fakeTools{
		"breaks": func(context.Context, string, func(string)) tool.Result { panic("a bug") },
		"same":   func(context.Context, string, func(string)) tool.Result { return result("still nothing") },
	}
	h, asked := acting(t, tools, "breaks({})#1", "nobody({})#2", "same({})#3", "same({})#4", "same({})#5", "same({})#6", `same({"x":1})#7`, "I give up.")
	equal(t, "result", h.say("main", "go").Text, "I give up.")
	equal(t, "requests", len(*asked), 8)
	said := h.said("main")
	for _, want := range []string{"t: the tool failed: internal error<1>", "t: no tool is called nobody<2>", "t: still nothing<5>",
		"t: not run: the same call had the same result 3 times in a row; do something else, or answer<6>", "t: still nothing<7>"} {
		if !strings.Contains(said, want) {
			t.Errorf("history lacks %q:\n%s", want, said)
		}
	}
	if !strings.Contains(h.log.String(), "panic in a turn") {
		t.Error("the panic is not in the log")
	}
}

func TestActsWithinLimits(t *testing.T) {
	n := 0
	count := func(context.Context, string, func(string)) tool.Result { n++; return result(fmt.Sprint(n)) }
	h, asked := acting(t, fakeTools{"f": count}, "f({})#1")
	h.maxRounds = 3
	res := h.say("main", "go")
	wantErr(t, res.Err, ErrTooManyCalls, "4 answers")
	equal(t, "calls", n, 3)
	equal(t, "tool choice of the last request", string((*asked)[3].ToolChoice), `"none"`)
	equal(t, "next turn's history", strings.Count(h.said("main"), "t: "), 3)

	h, asked = acting(t, fakeTools{"f": count}, "f({})#1", "f({})#2", "f({})#3", "An answer after all.")
	h.maxRounds = 3
	equal(t, "answer", h.say("main", "go").Text, "An answer after all.")
	equal(t, "requests", len(*asked), 4)

	h, _ = acting(t, fakeTools{"f": count}, "f({})#1")
	h.maxTokens = 200
	wantErr(t, h.say("main", "go").Err, ErrTooManyCalls, "220 tokens, of 200")
}

// TestActsBesideClients mixes the gateway's tools with a client's functions.
func TestActsBesideClients(t *testing.T) {
	tools := fakeTools{"ours": func(_ context.Context, args string, _ func(string)) tool.Result { return result("did " + args) },
		"both": func(context.Context, string, func(string)) tool.Result { return result("wrong one") }}
	h, asked := acting(t, tools, `ours({"n":1})#1 theirs({"n":2})#2 both({})#3`, "Thanks.")
	turn := userTurn("main", "go")
	turn.Tools = []Tool{{Name: "theirs"}, {Name: "both"}}
	turn.ToolChoice = json.RawMessage(`"required"`)
	run := h.start(turn)
	<-run.Done()
	res := run.Result()
	equal(t, "result", fmt.Sprint(res.Status, " ", res.StopReason, " ", len(res.ToolCalls), " ", res.Err), "ok toolUse 2 <nil>")
	equal(t, "offered", len((*asked)[0].Tools), 3)
	if told := h.told(run); !strings.Contains(told, "got 0 1 did {\"n\":1}\ntool 0 2 theirs {\"n\":2}\ntool 1 3 both {}\nend") {
		t.Errorf("events:\n%s", told)
	}
	next := Turn{SessionKey: "main", Tools: turn.Tools, Messages: []store.Message{
		{Role: store.RoleToolResult, ToolCallID: "2", Content: store.Text("two")}, {Role: store.RoleToolResult, ToolCallID: "3", Content: store.Text("three")}}}
	run = h.start(next)
	<-run.Done()
	equal(t, "answer", run.Result().Text, "Thanks.")
	var list []string
	for _, m := range (*asked)[1].Messages {
		list = append(list, brief(m))
	}
	equal(t, "second request", strings.Join(list, "\n"), "u: go\na: <1><2><3> (toolUse)\nt: did {\"n\":1}<1>\nt: two<2>\nt: three<3>")

	// What a client demands once is not demanded after our own tools ran.
	h, asked = acting(t, tools, `ours({})#1`, "Done.")
	turn.SessionKey = ""
	run = h.start(turn)
	<-run.Done()
	equal(t, "stateless", run.Result().Text, "Done.")
	equal(t, "tool choices", string((*asked)[0].ToolChoice)+string((*asked)[1].ToolChoice), `"required"`)
}

// TestAbortedWhileActing ends a turn in the middle of a call.
func TestAbortedWhileActing(t *testing.T) {
	entered := make(chan struct{})
	tools := fakeTools{"hang": func(ctx context.Context, _ string, update func(string)) tool.Result {
		update("half")
		close(entered)
		<-ctx.Done()
		return failed("ended: " + context.Cause(ctx).Error())
	}}
	h, asked := acting(t, tools, "Wait. hang({})#1", "Hello again.")
	run := h.start(userTurn("main", "go"))
	<-entered
	run.Abort("enough")
	<-run.Done()
	res := run.Result()
	equal(t, "result", fmt.Sprint(res.Status, " ", res.Text, " ", res.Err), "aborted Wait. aborted: enough")
	if told := h.told(run); !strings.Contains(told, "update 0 1 half\ngot 0 1 ended: aborted: enough\naborted aborted aborted") {
		t.Errorf("events:\n%s", told)
	}
	equal(t, "next", h.say("main", "hi").Text, "Hello again.")
	var list []string
	for _, m := range (*asked)[1].Messages {
		list = append(list, brief(m))
	}
	equal(t, "its request", strings.Join(list, "\n"), "u: go\na: Wait.<1> (toolUse)\nt: ended: aborted: enough<1>\nu: hi")
}
