package agent

import (
	"fmt"
	"slices"
	"unicode/utf8"

	"openclaw/gateway/store"
)

const (
	imageTokens   = 1600 // what providers count for a large picture, about
	messageTokens = 4    // roles and separators
	minRoom       = 64   // tokens for the conversation, below which asking is useless
	minPiece      = 32   // tokens that a shortened text keeps at least
)

// fit chooses the messages that a model with a context of window tokens is
// shown beside fixed tokens of prompt and tools and answer tokens of reply: the
// newest turns, each whole, so that a tool call always stands with its result.
// A newest turn that is too long by itself has its longest texts shortened,
// with a mark in the middle. The messages given are not changed.
func fit(messages []store.Record, window, fixed, answer int) ([]store.Message, error) {
	room := roomFor(window, fixed, answer)
	if room < minRoom {
		return nil, refuse(ErrTooLong, "the system prompt takes about %d of the %d tokens of the model's context", fixed, window)
	}
	from, used := len(messages), 0
	for from > 0 {
		start := from - 1
		for start > 0 && messages[start].Message.Role != store.RoleUser {
			start--
		}
		cost := 0
		for i := start; i < from; i++ {
			if shown(messages[i].Message) {
				cost += messageCost(messages[i].Message)
			}
		}
		if used+cost > room {
			if from == len(messages) {
				newest, err := shorten(spoken(messages[start:]), room)
				return newest, err
			}
			break
		}
		used += cost
		from = start
	}
	return spoken(messages[from:]), nil
}

// roomFor is how many tokens of a window are left for the conversation.
func roomFor(window, fixed, answer int) int { return window - fixed - min(max(answer, 0), window/4) }

// whole is ErrTooLong where fit would leave something out.
func whole(messages []store.Record, window, fixed, answer int) error {
	cost, room := 0, roomFor(window, fixed, answer)
	for _, r := range messages {
		if shown(r.Message) {
			cost += messageCost(r.Message)
		}
	}
	if cost > room {
		return refuse(ErrTooLong, "the conversation takes about %d tokens, and the model's context leaves %d for it", cost, room)
	}
	return nil
}

// shown reports whether a message belongs in a prompt. What a provider's error
// left behind is for people only.
func shown(m *store.Message) bool {
	if m.Role != store.RoleAssistant {
		return true
	}
	return m.StopReason != stopError && len(m.Content) > 0
}

// spoken returns the messages that are shown, with the gaps closed that
// providers refuse: a call's result follows it at once, one that says so where
// there is none, and a result without a call is left out.
func spoken(messages []store.Record) []store.Message {
	out := make([]store.Message, 0, len(messages)+1)
	var open []store.Part // calls that still lack a result
	settle := func(at int) {
		for _, call := range open {
			out = append(out, lateResult(messages[at:], call))
		}
		open = nil
	}
	for i := range messages {
		m := messages[i].Message
		if !shown(m) {
			continue
		}
		if m.Role == store.RoleToolResult {
			n := slices.IndexFunc(open, func(p store.Part) bool { return p.ID == m.ToolCallID })
			if n >= 0 {
				open = slices.Delete(open, n, n+1)
				out = append(out, *m)
			}
			continue
		}
		settle(i)
		if m.Role == store.RoleAssistant {
			open = calls(m.Content)
		}
		out = append(out, *m)
	}
	settle(len(messages))
	return out
}

// lateResult is the result of a call before which something else was said, or
// says that there is none. Some providers use the same ids again and again.
func lateResult(later []store.Record, call store.Part) store.Message {
	same := func(p store.Part) bool { return p.ID == call.ID }
	for _, r := range later {
		if r.Message.Role == store.RoleToolResult && r.Message.ToolCallID == call.ID {
			return *r.Message
		}
		if slices.ContainsFunc(calls(r.Message.Content), same) {
			break
		}
	}
	return store.Message{
		Role: store.RoleToolResult, ToolCallID: call.ID, ToolName: call.Name,
		Content: store.Text("(no result was given)"), IsError: true,
	}
}

// calls returns the tool calls in a message.
func calls(content store.Content) (list []store.Part) {
	for _, p := range content {
		if p.Type == store.PartToolCall {
			list = append(list, p)
		}
	}
	return list
}

// shorten cuts the texts of messages, longest first, until they fit in room.
func shorten(messages []store.Message, room int) ([]store.Message, error) {
	for limit := room; limit >= minPiece; limit /= 2 {
		cut, cost := make([]store.Message, len(messages)), 0
		for i, m := range messages {
			m.Content = slices.Clone(m.Content)
			for k := range m.Content {
				if p := &m.Content[k]; p.Type == store.PartText {
					p.Text = shortenText(p.Text, limit)
				}
			}
			cut[i] = m
			cost += messageCost(&m)
		}
		if cost <= room {
			return cut, nil
		}
	}
	return nil, refuse(ErrTooLong, "the message does not fit the %d tokens that the model's context leaves for it", room)
}

// shortenText keeps the beginning and the end of a text of more than limit tokens.
func shortenText(s string, limit int) string {
	total := estimate(s)
	if total <= limit {
		return s
	}
	keep := max(limit-16, 0) / 2 // 16 for the mark
	head, tail := 0, len(s)
	for n := 0; head < len(s) && n/4 < keep; {
		r, size := utf8.DecodeRuneInString(s[head:])
		n += quarters(r)
		head += size
	}
	for n := 0; tail > head && n/4 < keep; {
		r, size := utf8.DecodeLastRuneInString(s[:tail])
		n += quarters(r)
		tail -= size
	}
	return s[:head] + fmt.Sprintf("\n[… %d characters left out to fit the model's context …]\n", utf8.RuneCountInString(s[head:tail])) + s[tail:]
}

// messageCost estimates the tokens of one message.
func messageCost(m *store.Message) int {
	n := messageTokens
	for i := range m.Content {
		switch p := &m.Content[i]; p.Type {
		case store.PartImage:
			n += imageTokens
		case store.PartToolCall:
			n += estimate(p.Name) + estimate(string(p.Arguments)) + messageTokens
		default:
			n += estimate(p.Text) + estimate(p.Thinking)
		}
	}
	return n
}

// estimate guesses how many tokens a text is: four ASCII characters each, and
// one for every other character, which errs on the safe side for most scripts.
func estimate(s string) int {
	n := 0
	for _, r := range s {
		n += quarters(r)
	}
	return (n + 3) / 4
}

func quarters(r rune) int {
	if r < utf8.RuneSelf {
		return 1
	}
	return 4
}

// toolTokens estimates what the definitions of tools take.
func toolTokens(tools []Tool) int {
	n := 0
	for _, t := range tools {
		n += estimate(t.Name) + estimate(t.Description) + estimate(string(t.Parameters)) + messageTokens
	}
	return n
}
