package main

import (
	"strings"
	"testing"
)

// times is how often a text was sent to a chat.
func (b *botAPI) times(to, text string) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.to[to+": "+text]
}

// TestMessageTool has a model write to chats: to a listed person, to a listed
// group and to the chat that it answers; not to a stranger, not to one who may
// write but is listed nowhere, and not to whom another agent answers.
func TestMessageTool(t *testing.T) {
	t.Parallel()
	model := &obedient{t: t}
	say := func(to, text string) []string {
		return []string{"message", `{"to":"` + to + `","message":"` + text + `"}`}
	}
	model.steps = []func([]string) []object{
		func([]string) []object {
			var words []string
			words = append(words, say("9", "to nine")...)
			words = append(words, say("-100", "to the group")...)
			words = append(words, "message", `{"message":"here"}`)
			words = append(words, say("66", "to a stranger")...)
			words = append(words, say("*", "to anybody")...)
			words = append(words, say("-200", "to a group that is off")...)
			words = append(words, say("8", "to the other agent's")...)
			words = append(words, say("@seven", "to a name")...)
			words = append(words, "message", `{"channel":"whatsapp","to":"9","message":"elsewhere"}`)
			return calls(words...)
		},
		func(said []string) []object {
			refused := 0
			for _, s := range said {
				if strings.Contains(s, "may write to") || strings.Contains(s, "unsupported channel") {
					refused++
				}
			}
			if len(said) != 9 || refused != 6 {
				t.Errorf("the model was told %q", said)
			}
			return []object{{"content": "told them"}}
		},
	}
	p := newProvider(t, nil)
	p.serve = model
	b := newBotAPI(t)
	sections := telegramTo(b, p, object{"allowFrom": []int{7, 8, 9}, "groups": object{"-100": object{}, "-200": object{"enabled": false}}})
	sections["agents"].(object)["list"] = []object{{"id": "main", "default": true}, {"id": "other"}}
	sections["channels"].(object)["mine"] = object{"kind": "process", "command": []string{"/bin/cat"}} // to alone is where the answer goes
	sections["tools"] = object{"alsoAllow": []string{"message"}}
	sections["bindings"] = []object{{"agentId": "other", "match": object{"channel": "telegram", "peer": object{"kind": "direct", "id": "8"}}}}
	h := newHouse(t, sections)
	h.start()
	b.say(7, "tell everybody")
	h.eventually("the answer", func() bool { return b.times("7", "told them") == 1 })
	for _, want := range []string{"9: to nine", "-100: to the group", "7: here"} {
		if to, text, _ := strings.Cut(want, ": "); b.times(to, text) != 1 {
			t.Errorf("%s: sent %d times", want, b.times(to, text))
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.to) != 4 {
		t.Errorf("sent %v", b.to)
	}
}

// TestDeliver has the reply to a client also sent to the chat that last wrote to
// the session, or to a named one.
func TestDeliver(t *testing.T) {
	t.Parallel()
	p := newProvider(t, func(x *exchange) { x.stream(x.script(replyTo(x.text)), 0) })
	b := newBotAPI(t)
	h := newHouse(t, telegramTo(b, p, nil))
	h.start()
	if r := h.run("agent", "run", "-m", "too early", "--deliver"); r.code != 1 || !strings.Contains(r.stderr, "nobody has written to this session") {
		t.Errorf("without a chat: %v", r)
	}
	if r := h.run("agent", "run", "-m", "x", "--reply-to", "7"); r.code != 2 {
		t.Errorf("--reply-to alone: %v", r)
	}
	b.say(7, "hello")
	h.eventually("the answer", func() bool { return b.times("7", replyTo("hello")) == 1 })
	out := h.mustRun("agent", "run", "--session-key", "agent:main:telegram:direct:7", "-m", "and now", "--deliver").stdout
	if !strings.Contains(out, replyTo("and now")) || b.times("7", replyTo("and now")) != 1 {
		t.Errorf("said %q, delivered %d times", out, b.times("7", replyTo("and now")))
	}
	h.mustRun("agent", "run", "-m", "to a group", "--deliver", "--reply-channel", "telegram", "--reply-to", "-100")
	if n := b.times("-100", replyTo("to a group")); n != 1 {
		t.Errorf("delivered %d times", n)
	}
	if r := h.run("agent", "run", "-m", "x", "--deliver", "--reply-channel", "matrix", "--reply-to", "7"); r.code != 1 || !strings.Contains(r.stderr, "unsupported channel") {
		t.Errorf("a channel that is not there: %v", r)
	}
	b.refuse("66")
	if r := h.run("agent", "run", "-m", "to the wall", "--deliver", "--reply-to", "66"); r.code != 1 || !strings.Contains(r.stderr, "Forbidden") {
		t.Errorf("a chat that refuses: %v", r)
	}
}
