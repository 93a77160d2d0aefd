package channel

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
)

// TestSplitProperty: whatever the text, pieces fit, and hold it all in order.
func TestSplitProperty(t *testing.T) {
	words := []string{"a", "word", "世界", "🦞🦞", "مرحبا", "\n", "\n\n", " ", "`x`", "**", "_", "```go\n", "```\n", "\n```\n", "longlonglonglonglonglonglonglong", "<b>&", "\xff"}
	bare := func(s string) string { // without fences and white space, which are put in and left out
		s = strings.ToValidUTF8(s, "")
		s = strings.ReplaceAll(strings.ReplaceAll(s, "```go", ""), "`", "")
		return strings.Join(strings.Fields(s), "")
	}
	for seed := range uint64(2000) {
		r := rand.New(rand.NewPCG(seed, 6))
		var b strings.Builder
		for range r.IntN(400) {
			b.WriteString(words[r.IntN(len(words))])
		}
		text, limit := b.String(), 80+r.IntN(200)
		pieces := Split(text, limit)
		for _, p := range pieces {
			if n := units(p); n > limit {
				t.Fatalf("seed %d: a piece of %d units, limit %d: %q", seed, n, limit, p)
			}
		}
		got, want := bare(strings.Join(pieces, "\n")), bare(text)
		// A cut within a fence line leaves its word in the text, in both.
		if strings.ReplaceAll(got, "go", "") != strings.ReplaceAll(want, "go", "") {
			t.Fatalf("seed %d, limit %d: not the same text:\n%q\n%q", seed, limit, text, pieces)
		}
	}
}

func TestSplitKeepsFences(t *testing.T) {
	line := strings.Repeat("x := 1 // 🦞\n", 400)
	text := "Before.\n\n```go\n" + line + "```\n\nAfter."
	pieces := Split(text, 4096)
	if len(pieces) < 2 {
		t.Fatal("one piece")
	}
	count := 0
	for i, p := range pieces {
		if strings.Count(p, "```")%2 != 0 {
			t.Errorf("piece %d leaves a block open: …%q", i, p[max(0, len(p)-40):])
		}
		if i > 0 && i < len(pieces)-1 && !strings.HasPrefix(p, "```go\n") {
			t.Errorf("piece %d does not open the block again: %q", i, p[:20])
		}
		count += strings.Count(p, "x := 1 // 🦞")
	}
	if count != 400 || !strings.HasPrefix(pieces[0], "Before.") || !strings.HasSuffix(pieces[len(pieces)-1], "After.") {
		t.Errorf("%d lines of 400", count)
	}
	for _, c := range []struct {
		text string
		want int
	}{{"", 1}, {"short", 1}, {strings.Repeat("🦞", 2048), 1}, {strings.Repeat("🦞", 2049), 2}} {
		if got := Split(c.text, 4096); len(got) != c.want {
			t.Errorf("%.20q: %d pieces", c.text, len(got))
		}
	}
}

// markers are what Telegram's parser makes no text of, as they were written.
var markers = map[string]string{"b": "**", "code": "`", "pre": "```"}

// parsed reads text as Telegram's HTML, strictly: these tags and character
// references alone, all closed, and none within code but a block's language.
// It returns what people see, and what must have been written.
func parsed(text string) (visible, written string, err error) {
	var v, w strings.Builder
	var open []string
	for text != "" {
		switch text[0] {
		case '<':
			end := strings.IndexByte(text, '>')
			if end < 0 {
				return "", "", fmt.Errorf("a tag without an end: %q", text)
			}
			tag := text[1:end]
			text = text[end+1:]
			if name, closing := strings.CutPrefix(tag, "/"); closing {
				if len(open) == 0 || open[len(open)-1] != name {
					return "", "", fmt.Errorf("</%s> within %v", name, open)
				}
				open = open[:len(open)-1]
				if name != "language" {
					w.WriteString(markers[name])
				}
				if len(open) > 0 && open[len(open)-1] == "language" {
					open[len(open)-1] = "pre"
				}
				continue
			}
			if lang, ok := strings.CutPrefix(tag, `code class="language-`); ok && len(open) == 1 && open[0] == "pre" && strings.HasSuffix(w.String(), "```\n") {
				lang, ok = strings.CutSuffix(lang, `"`)
				if !ok || strings.ContainsAny(lang, `"<>&' `) {
					return "", "", fmt.Errorf("language %q", lang)
				}
				before := strings.TrimSuffix(w.String(), "\n")
				w.Reset()
				w.WriteString(before + lang + "\n")
				end, rest := "</code></pre>", ""
				if text, rest, ok = strings.Cut(text, end); !ok || strings.Contains(text, "<") {
					return "", "", fmt.Errorf("a block that does not end, or holds tags: %q", text)
				}
				text += "</pre>" + rest
				continue
			}
			if markers[tag] == "" || len(open) > 0 && (open[0] != "b" || tag == "pre" || tag == "b") {
				return "", "", fmt.Errorf("<%s> within %v", tag, open)
			}
			open = append(open, tag)
			w.WriteString(markers[tag])
			if tag == "pre" {
				w.WriteString("\n")
			}
			continue
		case '&':
			ok := false
			for name, c := range map[string]string{"&amp;": "&", "&lt;": "<", "&gt;": ">"} {
				if strings.HasPrefix(text, name) {
					v.WriteString(c)
					w.WriteString(c)
					text, ok = text[len(name):], true
					break
				}
			}
			if !ok {
				return "", "", fmt.Errorf("a bare & in %q", text)
			}
			continue
		case '>':
			return "", "", fmt.Errorf("a bare > in %q", text)
		}
		v.WriteByte(text[0])
		w.WriteByte(text[0])
		text = text[1:]
	}
	if len(open) > 0 {
		return "", "", fmt.Errorf("%v not closed", open)
	}
	return v.String(), w.String(), nil
}

// even is text with the white space of fences made even, and the last block closed.
func even(text string) string {
	var b strings.Builder
	block := false
	for line := range strings.Lines(text) {
		body := strings.TrimRight(line, "\n")
		f := strings.TrimSpace(body)
		switch {
		case !block && strings.HasPrefix(f, "```") && !strings.Contains(f[3:], "`"):
			block = true
			info := strings.TrimSpace(f[3:])
			if info != "" && !language(info) { // stands in the block
				info = "\n" + info
			}
			b.WriteString("```" + info + "\n")
		case block && f == "```":
			block = false
			b.WriteString("```" + line[len(body):])
		default:
			b.WriteString(line)
		}
	}
	if block {
		b.WriteString("```")
	}
	return b.String()
}

var hostile = []string{"a", "word", "世界", "🦞🦞", "👨\u200d👩\u200d👧", "🇨🇭", "é\u0301", "مرحبا \u202bעברית\u202c", "\n", "\n\n", " ", "`", "``", "`x`", "*", "**", "***", "_", "~~", "[x](y)",
	"```", "```go\n", "```rust,ignore title=\"x\"\n", "```\n", "\n```\n", "\n  ```  \n", "````", "~~~\n", "# ", "> ", "| a | b |", "<b>", "</pre>", "<a href=\"x\">", "&", "&amp;", "&#0;", "\\", "\x00", "\xff", "longlonglonglonglonglonglonglonglong"}

// TestLongReplies: whatever an agent says arrives: every piece is taken by a
// strict parser, fits after it, and holds what was written, in order.
func TestLongReplies(t *testing.T) {
	for seed := range uint64(600) {
		r := rand.New(rand.NewPCG(seed, 7))
		var b strings.Builder
		for range 200 + r.IntN(3000) {
			b.WriteString(hostile[r.IntN(len(hostile))])
		}
		arrives(t, b.String(), telegramLimit)
		arrives(t, b.String()[:min(b.Len(), 2000)], 80+r.IntN(300))
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}

// arrives checks what becomes of a text of an agent on its way to Telegram.
func arrives(t *testing.T, text string, limit int) {
	t.Helper()
	text = strings.ToValidUTF8(text, "\uFFFD") // as JSON makes it
	pieces := Split(text, limit)
	for _, piece := range pieces {
		html := formatted(piece)
		visible, written, err := parsed(html)
		if err != nil {
			t.Fatalf("%v: %q\nof %q", err, html, piece)
		}
		if n := units(visible); n > limit || units(piece) > limit {
			t.Fatalf("%d units: %q", n, piece)
		}
		if written != even(piece) {
			t.Fatalf("%q\nreads as %q\nand not %q", html, written, even(piece))
		}
	}
	if !joined(pieces, text, "", map[string]bool{}) {
		t.Fatalf("the pieces are not the text:\n%q\n%q", text, pieces)
	}
}

// joined reports whether pieces are rest, but for white space between them and
// the lines that open the block of the piece before again, and close it.
func joined(pieces []string, rest, open string, failed map[string]bool) bool {
	rest = strings.TrimLeft(rest, " \n")
	state := fmt.Sprint(len(pieces), len(rest), open)
	if failed[state] {
		return false
	}
	if len(pieces) == 0 {
		return rest == "" || open != "" && rest == "```"
	}
	bodies := []string{pieces[0]}
	if body, ok := strings.CutPrefix(pieces[0], open+"\n"); ok && open != "" {
		bodies[0] = body
	}
	if body, ok := strings.CutSuffix(bodies[0], "\n```"); ok {
		bodies = append(bodies, body)
	}
	for _, body := range bodies {
		after, ok := strings.CutPrefix(rest, strings.Trim(body, " \n"))
		if ok && joined(pieces[1:], after, fence(open, rest[:len(rest)-len(after)]), failed) {
			return true
		}
	}
	failed[state] = true
	return false
}

// FuzzLongReplies is TestLongReplies for texts that nobody thought of.
func FuzzLongReplies(f *testing.F) {
	for _, s := range append(hostile, "a `b` **c** <d> & e", "**`**`", "a\n```\n<&>", "```go\nx\n```\n"+strings.Repeat("y ", 100), "```go\n"+strings.Repeat("🦞", 300), "```\n```\n") {
		f.Add(s, 100)
	}
	f.Fuzz(func(t *testing.T, s string, limit int) {
		if limit < 100 || limit > 5000 || len(s) > 50_000 {
			return
		}
		arrives(t, s, limit)
	})
}

// TestSplitKeepsCharacters: what people see as one character is not cut apart.
func TestSplitKeepsCharacters(t *testing.T) {
	for _, c := range []string{"👨\u200d👩\u200d👧\u200d👦", "👍🏽", "🇨🇭", "é\u0301\u0323", "❤\ufe0f"} {
		for pad := range 12 {
			text := strings.Repeat("x", 90+pad) + strings.Repeat(c, 3) + "y"
			for _, p := range Split(text, 100) {
				if bare := strings.Trim(p, "xy"); strings.ReplaceAll(bare, c, "") != "" {
					t.Errorf("%q, %d: %q", c, pad, p)
				}
			}
		}
	}
}
