package agent

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"

	"openclaw/gateway/store"
	"openclaw/reload/config"
)

// twoModels is a house whose agent asks p/big and then p/small.
func twoModels(t *testing.T, big, small int, model fakeModel) *house {
	h := openHouse(t, stateDir(t), nil, func(c *config.Config) {
		c.Models.Providers = map[string]config.Provider{"p": {API: config.APIOpenAICompletions, BaseURL: "http://127.0.0.1:1", Models: []config.ProviderModel{
			{ID: "big", ContextWindow: big, MaxTokens: 100}, {ID: "small", ContextWindow: small, MaxTokens: 100},
		}}}
		c.Agents.Defaults.Model = config.Model{Primary: "p/big", Fallbacks: []string{"p/small"}}
	})
	h.models.clients[config.APIOpenAICompletions] = model
	return h
}

// Each model that is asked gets as much of the conversation as it can take, and
// is named before it says anything.
func TestFallbackIsFitted(t *testing.T) {
	h := twoModels(t, 100_000, 2000, func(ctx context.Context, r *modelRequest, emit func(delta)) (*modelResult, error) {
		if r.Model.ID == "big" && len(r.Messages) > 10 {
			return nil, r.failf(400, "no")
		}
		used := 0
		for i := range r.Messages {
			used += messageCost(&r.Messages[i])
		}
		if used > r.Model.ContextWindow {
			t.Errorf("%s is shown %d tokens", r.Model.ID, used)
		}
		return answering(func(*modelRequest) string { return "ok" })(ctx, r, emit)
	})
	for range 6 {
		h.say("main", strings.Repeat("word ", 1000))
	}
	run := h.start(userTurn("main", "x"))
	<-run.Done()
	equal(t, "events", h.told(run), "start\nmodel p/big\nmodel p/small\ndelta ok|ok\nend ok stop")
	equal(t, "model", run.Result().Model, "small")
}

// A model whose context cannot hold the prompt is passed over.
func TestLargerFallback(t *testing.T) {
	h := twoModels(t, 500, 100_000, answering(func(r *modelRequest) string { return r.Model.ID }))
	turn := userTurn("main", "x")
	turn.System = strings.Repeat("word ", 1000)
	run := h.start(turn)
	<-run.Done()
	equal(t, "text", run.Result().Text, "small")
	turn.Model, turn.RunID = "p/big", ""
	run = h.start(turn)
	<-run.Done()
	wantErr(t, run.Result().Err, ErrTooLong, "of the 500 tokens")
}

// All of a finished run's answer counts against what is remembered of them.
func TestFinishedCallsAreBounded(t *testing.T) {
	args, _ := json.Marshal(strings.Repeat("x", 4<<20))
	h := newHouse(t, fakeModel(func(context.Context, *modelRequest, func(delta)) (*modelResult, error) {
		return &modelResult{StopReason: stopTool, Content: []store.Part{{Type: store.PartToolCall, ID: "c", Name: "f", Arguments: args}}}, nil
	}))
	for range 12 {
		<-h.start(userTurn("", "x")).Done()
	}
	if n := len(h.runs); n > keptSize/len(args) {
		t.Errorf("%d answers of %d bytes are remembered", n, len(args))
	}
}

// What a command refuses is its answer, in events too; the cause of another
// failure is the run's error and not text for a chat.
func TestCommandFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		enough := make(chan bool)
		h := newHouse(t, fakeModel(func(ctx context.Context, r *modelRequest, _ func(delta)) (*modelResult, error) {
			<-enough
			return nil, r.ended(ctx)
		}))
		run := h.start(userTurn("main", "/model nobody/m"))
		<-run.Done()
		text := run.Result().Text
		equal(t, "events", h.told(run), "start\ndelta "+text+"|"+text+"\nend ok stop")
		h.start(userTurn("main", "1"))
		synctest.Wait()
		run = h.start(userTurn("main", "/new")) // which waits for the turn
		synctest.Wait()
		run.Abort("enough")
		<-run.Done()
		equal(t, "events", h.told(run), "start\naborted aborted aborted")
		equal(t, "text", run.Result().Text, "")
		close(enough)
	})
}

// What waits for a deleted session's turns to end does not bring it back.
func TestDeletedStaysDeleted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		enough := make(chan bool)
		h := newHouse(t, fakeModel(func(ctx context.Context, r *modelRequest, _ func(delta)) (*modelResult, error) {
			<-enough // a provider that is slow to notice
			return nil, r.ended(ctx)
		}))
		h.start(userTurn("x", "1"))
		synctest.Wait()
		go h.Delete(t.Context(), "x", true)
		synctest.Wait()
		go h.Compact(t.Context(), "x", 1)
		synctest.Wait()
		close(enough)
		synctest.Wait()
		_, _, err := h.Entry("x")
		wantErr(t, err, ErrUnknownSession, "x")
	})
}

// The session global is at home with the default agent, which a reload may
// change and change back while a turn runs: there is still one turn at a time.
func TestHomeMoves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate()
		h := openHouse(t, stateDir(t), g, func(c *config.Config) {
			c.Agents.List = []config.Agent{{ID: "a", Default: true}, {ID: "b"}}
		})
		home := func(id string) {
			synctest.Wait()
			for i := range h.cfg.Agents.List {
				h.cfg.Agents.List[i].Default = h.cfg.Agents.List[i].ID == id
			}
		}
		h.start(userTurn("global", "1"))
		home("b")
		h.start(userTurn("global", "2"))
		home("a")
		h.start(userTurn("global", "3"))
		synctest.Wait()
		equal(t, "asked", fmt.Sprint(<-g.entered, <-g.entered, len(g.entered)), "120")
		close(g.open)
		synctest.Wait()
		equal(t, "history", h.said("global"), "u: 1\na: half done\nu: 3\na: half done")
	})
}

// A gateway that has shut down says so, though its files are closed.
func TestStartAfterTheEnd(t *testing.T) {
	h := newHouse(t, nil)
	h.close()
	_, err := h.Start(t.Context(), userTurn("main", "x"))
	wantErr(t, err, ErrDraining, "shutting down")
}

// Nobody has heard of a tool call that broke off, so the model is asked again.
func TestBrokenCallIsRetried(t *testing.T) {
	bubble(t, func(t *testing.T, n *fakeNet, api string) {
		call := `data: {"choices":[{"delta":{"tool_calls":[{"index":0,"id":"c","function":{"name":"f","arguments":"{"}}]}}]}` + "\n\n"
		if api == config.APIAnthropicMessages {
			call = event("message_start", `"message":{"usage":{"input_tokens":7}}`) +
				event("content_block_start", `"index":0,"content_block":{"type":"tool_use","id":"c","name":"f","input":{}}`)
		} else if api == config.APIOpenAIResponses {
			call = event("response.output_item.added", `"output_index":0,"item":{"type":"function_call","call_id":"c","name":"f","arguments":""}`)
		}
		n.host("a.test", then(raw(call), reset), say(api, "ok"))
		if o := n.ask(t.Context(), n.models(api), "a/m"); o.err != nil || o.text != "ok" {
			t.Errorf("%q, %v", o.text, o.err)
		}
	})
}
