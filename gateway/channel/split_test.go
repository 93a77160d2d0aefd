package channel

import (
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

// FuzzFormatted: no character is lost in what is made for the Bot API's parser.
func FuzzFormatted(f *testing.F) {
	for _, s := range []string{"a `b` **c** <d> & e", "```go\nx\n```", "`", "``", "****", "```", "**`**`", "a\n```\n<&>"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if strings.Contains(s, "```") { // fences become tags, and their language goes
			return
		}
		out := formatted(s)
		for _, tag := range []string{"code", "b", "pre"} {
			if strings.Count(out, "<"+tag+">") != strings.Count(out, "</"+tag+">") {
				t.Errorf("%q: %q is not balanced", s, out)
			}
			out = strings.NewReplacer("<"+tag+">", "", "</"+tag+">", "").Replace(out)
		}
		out = strings.NewReplacer("&lt;", "<", "&gt;", ">", "&amp;", "&").Replace(out)
		strip := strings.NewReplacer("*", "", "`", "")
		if strip.Replace(out) != strip.Replace(s) {
			t.Errorf("%q became %q", s, out)
		}
	})
}
