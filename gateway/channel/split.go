package channel

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// Split cuts text into pieces of at most limit UTF-16 units, preferably between
// paragraphs, lines or words, and never within a character. A code block that
// is cut is closed at the end of a piece and opened again, with its language,
// at the beginning of the next one. Without a limit there is one piece.
func Split(text string, limit int) []string {
	var out []string
	open := "" // the fence line of the block that we are in
	for limit > 0 && units(text) > limit {
		head, room := "", limit
		if open != "" && units(open)+64 < limit {
			head = open + "\n"
			room -= units(head)
		}
		cut := cutAt(text, room)
		after := fence(open, text[:cut])
		if after != "" && room > 64 { // leave room for the line that closes it
			cut = cutAt(text, room-len("\n```"))
			after = fence(open, text[:cut])
		}
		piece := head + strings.TrimRight(text[:cut], "\n ")
		if after != "" && room > 64 {
			piece += "\n```"
		}
		if strings.TrimSpace(text[:cut]) != "" {
			out = append(out, piece)
		}
		text, open = text[cut:], after
		if open == "" {
			text = strings.TrimLeft(text, "\n")
		} else {
			text = strings.TrimPrefix(text, "\n")
		}
	}
	if open != "" && limit > 0 && units(open)+1+units(text) <= limit {
		if rest := strings.TrimSpace(text); rest == "" || rest == "```" {
			return out
		}
		text = open + "\n" + text
	}
	if strings.TrimSpace(text) != "" || out == nil {
		out = append(out, text)
	}
	return out
}

// cutAt is where the first piece of at most limit units ends.
func cutAt(text string, limit int) int {
	n, end := 0, 0
	for i, r := range text {
		w := 1
		if r > 0xffff {
			w = 2
		}
		if n+w > limit {
			break
		}
		n, end = n+w, i+utf8.RuneLen(r)
		if r == utf8.RuneError {
			end = i + 1
			if strings.HasPrefix(text[i:], "\uFFFD") {
				end = i + 3
			}
		}
	}
	if end == 0 {
		_, end = utf8.DecodeRuneInString(text) // longer than the limit, and yet something must go
	}
	if end == len(text) {
		return end
	}
	for _, between := range []string{"\n\n", "\n", " "} {
		if i := strings.LastIndex(text[:end], between); i > end/2 {
			return i + len(between)
		}
	}
	return whole(text, end)
}

// whole moves a cut to before a character that is made of several, such as an
// emoji of a family, a flag or a letter with its accents, unless it is very long.
func whole(text string, cut int) int {
	for at := cut; cut-at < 64 && at > 0; {
		last, size := utf8.DecodeLastRuneInString(text[:at])
		next, _ := utf8.DecodeRuneInString(text[at:])
		if !joins(next) && last != zeroWidthJoiner && !(flag(last) && flag(next)) {
			return at
		}
		at -= size
	}
	return cut
}

const zeroWidthJoiner = '\u200d'

// joins reports whether a rune belongs to the one before it.
func joins(r rune) bool {
	return r == zeroWidthJoiner || unicode.Is(unicode.M, r) || 0x1f3fb <= r && r <= 0x1f3ff
}

func flag(r rune) bool { return 0x1f1e6 <= r && r <= 0x1f1ff }

// fence is the fence line that is open after text, which begins within open.
func fence(open, text string) string {
	for line := range strings.Lines(text) {
		l := strings.TrimSpace(line)
		if !strings.HasPrefix(l, "```") || strings.Contains(l[3:], "`") {
			continue
		}
		switch {
		case open == "":
			open = l[:min(len(l), 32)]
			open = strings.ToValidUTF8(open, "")
		case l == "```":
			open = ""
		}
	}
	return open
}

// units counts UTF-16 units.
func units(s string) int {
	n := 0
	for _, r := range s {
		if n++; r > 0xffff {
			n++
		}
	}
	return n
}
