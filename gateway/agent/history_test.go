package agent

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"openclaw/gateway/store"
)

// talk is messages from lines such as "u: text", "a: text <c1>" (a call) and
// "t: text <c1>" (its result), "a! text" (an error), "a~ text" (aborted).
func talk(lines ...string) (list []store.Record) {
	for _, line := range lines {
		m := store.Message{Role: map[byte]string{'u': store.RoleUser, 'a': store.RoleAssistant, 't': store.RoleToolResult}[line[0]]}
		m.StopReason = map[byte]string{':': "", '!': stopError, '~': stopAborted}[line[1]]
		text, id, hasID := strings.Cut(strings.TrimPrefix(line[2:], " "), "<")
		id = strings.TrimSuffix(id, ">")
		if text != "" {
			m.Content = store.Text(text)
		}
		if hasID && line[0] == 'a' {
			m.Content = append(m.Content, store.Part{Type: store.PartToolCall, ID: id, Name: "f", Arguments: json.RawMessage("{}")})
		} else if hasID {
			m.ToolCallID = id
		}
		list = append(list, store.Record{Message: &m})
	}
	return list
}

func TestFit(t *testing.T) {
	long := func(role string, n int) string { return role + ": " + strings.Repeat("abcd", n) } // n tokens
	for _, c := range []struct {
		name     string
		messages []store.Record
		window   int // tokens for the conversation
		want     string
		err      bool
	}{
		{name: "all", messages: talk("u: 1", "a: 2", "u: 3"), window: 100, want: "u: 1|a: 2|u: 3"},
		{name: "newest whole turns", messages: talk(long("u", 50), "a: 2", long("u", 50), "a: 4", "u: 5"), window: 100, want: "u: abcd×50|a: 4|u: 5"},
		{name: "a turn is not split", messages: talk("u: 1", long("a", 90), "u: 3"), window: 100, want: "u: 3"},
		{name: "call and result stay together", messages: talk("u: 1", "a: <c1>", long("t", 60)+"<c1>", "a: 2", "u: 3"), window: 80, want: "u: 3"},
		{name: "call and result both", messages: talk("u: 1", "a: <c1>", long("t", 20)+"<c1>", "a: 2", "u: 3"), window: 80, want: "u: 1|a: <c1>|t: abcd×20<c1>|a: 2|u: 3"},
		{name: "a later result belongs to the turn of the call", messages: talk("u: 0", "u: 1", "a: <c1>", "t: 2<c1>"), window: 64, want: "u: 0|u: 1|a: <c1>|t: 2<c1>"},
		{name: "missing result", messages: talk("u: 1", "a: x<c1>", "u: 3"), window: 100, want: "u: 1|a: x<c1>|t: (no result was given)<c1>|u: 3"},
		{name: "missing result at the end", messages: talk("u: 1", "a: x<c1>"), window: 100, want: "u: 1|a: x<c1>|t: (no result was given)<c1>"},
		{name: "result without call", messages: talk("u: 1", "t: 2<c9>", "a: 3", "u: 4"), window: 100, want: "u: 1|a: 3|u: 4"},
		{name: "late result", messages: talk("u: 1", "a: <c1>", "u: 2", "a: 3", "t: 4<c1>", "u: 5"), window: 100, want: "u: 1|a: <c1>|t: 4<c1>|u: 2|a: 3|u: 5"},
		{name: "another call's result", messages: talk("u: 1", "a: <c1>", "u: 2", "a: <c1>", "t: 4<c1>", "u: 5"), window: 100, want: "u: 1|a: <c1>|t: (no result was given)<c1>|u: 2|a: <c1>|t: 4<c1>|u: 5"},
		{name: "result twice", messages: talk("u: 1", "a: <c1>", "t: 2<c1>", "t: 3<c1>", "u: 4"), window: 100, want: "u: 1|a: <c1>|t: 2<c1>|u: 4"},
		{name: "errors are left out", messages: talk("u: 1", "a! half", "u: 2"), window: 100, want: "u: 1|u: 2"},
		{name: "and cost nothing", messages: append(append(talk("u: 1"), talk("a! "+strings.Repeat("abcd", 500))...), talk("u: 2")...), window: 64, want: "u: 1|u: 2"},
		{name: "what was aborted stays, if anything was said", messages: talk("u: 1", "a~ half", "u: 2", "a~ ", "u: 3"), window: 100, want: "u: 1|a: half|u: 2|u: 3"},
		{name: "newest too long", messages: talk("u: 1", long("u", 200)), window: 100, want: "u: abcd×17…abcd×17"},
		{name: "long result", messages: talk("u: 1", "a: <c1>", long("t", 400)+"<c1>"), window: 200, want: "u: 1|a: <c1>|t: abcd×42…abcd×42<c1>"},
		{name: "two long ones", messages: talk(long("u", 100), "a: <c1>", long("t", 400)+"<c1>"), window: 150, want: "u: abcd×10…abcd×10|a: <c1>|t: abcd×10…abcd×10<c1>"},
		{name: "prompt too long", messages: talk("u: 1"), window: 10, err: true},
		{name: "too many images", messages: []store.Record{{Message: &store.Message{Role: store.RoleUser, Content: store.Content{{Type: store.PartImage}, {Type: store.PartText, Text: "x"}}}}}, window: 1000, err: true},
		{name: "nothing", window: 100, want: ""},
		{name: "injected first", messages: talk("a: 0", "u: 1"), window: 100, want: "a: 0|u: 1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := fmt.Sprint(c.messages)
			got, err := fit(c.messages, c.window+1000, 1000, 0)
			if (err != nil) != c.err {
				t.Fatal(err)
			}
			var list []string
			cost := 0
			for _, m := range got {
				cost += messageCost(&m)
				m.StopReason = ""
				list = append(list, compress(brief(m)))
			}
			equal(t, "messages", strings.Join(list, "|"), c.want)
			if cost > c.window && !strings.Contains(c.want, "no result") {
				t.Errorf("%d tokens in %d", cost, c.window)
			}
			if fmt.Sprint(c.messages) != before {
				t.Error("the messages given were changed")
			}
		})
	}
}

// compress writes repetitions of abcd short, and the mark of what is left out as "…".
func compress(s string) string {
	head, tail, cut := strings.Cut(s, "\n[… ")
	if cut {
		_, tail, _ = strings.Cut(tail, "…]\n")
		return compress(head) + "…" + compress(tail)
	}
	if n := strings.Count(s, "abcd"); n > 0 {
		return strings.Replace(s, strings.Repeat("abcd", n), fmt.Sprint("abcd×", n), 1)
	}
	return s
}

func TestShortenText(t *testing.T) {
	for _, s := range []string{strings.Repeat("ü", 500), strings.Repeat("a", 5000), strings.Repeat("日本", 300) + "end", "😀" + strings.Repeat("x", 4000)} {
		for limit := minPiece; limit < 400; limit += 7 {
			got := shortenText(s, limit)
			if estimate(s) <= limit {
				equal(t, "short", got, s)
				continue
			}
			if n := estimate(got); n > limit+8 {
				t.Errorf("%d tokens, limit %d", n, limit)
			}
			if !strings.Contains(got, "characters left out") || strings.ContainsRune(got, '\ufffd') {
				t.Errorf("%q", got)
			}
		}
	}
}

func FuzzFit(f *testing.F) {
	f.Add("u: 1\na: x<c1>\nt: 2<c1>\nu: 3", 100)
	f.Fuzz(func(t *testing.T, text string, window int) {
		var lines []string
		for _, l := range strings.Split(text, "\n") {
			if len(l) > 2 && strings.ContainsRune("uat", rune(l[0])) && strings.ContainsRune(":!~", rune(l[1])) {
				lines = append(lines, l)
			}
		}
		got, err := fit(talk(lines...), window%100000, 0, 10)
		if err != nil {
			return
		}
		open := map[string]int{}
		for _, m := range got {
			switch {
			case m.Role == store.RoleToolResult:
				if open[m.ToolCallID]--; open[m.ToolCallID] < 0 {
					t.Fatal("a result without a call")
				}
			default:
				for id, n := range open {
					if n != 0 {
						t.Fatalf("call %q without a result", id)
					}
				}
				for _, p := range m.Content {
					if p.Type == store.PartToolCall {
						open[p.ID]++
					}
				}
			}
		}
	})
}
