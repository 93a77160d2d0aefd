package agent

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"

	"openclaw/gateway/store"
	"openclaw/reload/config"
)

func TestEcho(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newFakeNet(t)
		m := n.models(config.APIOpenAICompletions)
		const notice = "This is the built-in echo, not a language model; configure one under models.providers. You said: "
		user := func(text string) store.Message { return store.Message{Role: store.RoleUser, Content: store.Text(text)} }
		tests := []struct {
			name string
			r    modelRequest
			text string
			stop string
			out  int64
		}{
			{"last message", modelRequest{Messages: []store.Message{user("first"), {Role: store.RoleAssistant, Content: store.Text("answer")}, user("Grüße  dir\n🦞")}}, notice + "Grüße  dir\n🦞", stopEnd, 29},
			{"image", modelRequest{Messages: []store.Message{{Role: store.RoleUser, Content: store.Content{{Type: store.PartImage}, {Type: store.PartImage}}}}}, notice + "[images: 2]", stopEnd, 27},
			{"long", modelRequest{Messages: []store.Message{user(strings.Repeat("ü ", 1<<20))}}, "", stopLength, 8140},
			{"bounded", modelRequest{Messages: []store.Message{user("x")}, MaxTokens: 5}, "This is the ", stopLength, 3},
			{"nothing", modelRequest{}, notice, stopEnd, 25},
		}
		for _, tt := range tests {
			a := n.askFor(t.Context(), m, &tt.r, "builtin/echo")
			b := n.askFor(t.Context(), m, &tt.r)
			if a.err != nil || a.text != b.text || tt.text != "" && a.text != tt.text || a.res.StopReason != tt.stop {
				t.Errorf("%s: %.200q, %+v, %v", tt.name, a.text, a.res.StopReason, a.err)
			}
			if a.deltas < 1 || a.deltas > maxDeltas || len(a.text) > maxEcho+200 || a.took != 0 {
				t.Errorf("%s: %d deltas, %d bytes", tt.name, a.deltas, len(a.text))
			}
			if u := a.res.Usage; u.Output != tt.out || u.TotalTokens != u.Input+u.Output || u.Cost != (store.Cost{}) {
				t.Errorf("%s: usage %+v", tt.name, u)
			}
			if a.res.Provider != "builtin" || a.res.Model != "echo" {
				t.Errorf("%s: %+v", tt.name, a.res)
			}
		}
	})
}

func TestEchoIsCancelled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newFakeNet(t).models(config.APIOpenAICompletions)
		ctx, cancel := context.WithCancel(t.Context())
		words := 0
		res, err := m.run(ctx, nil, &modelRequest{}, func(delta) {
			if words++; words == 3 {
				cancel()
			}
		})
		if !errors.Is(err, context.Canceled) || words != 3 || res.StopReason != stopAborted || res.Content[0].Text != "This is the " {
			t.Errorf("%+v, %v", res, err)
		}
	})
}
