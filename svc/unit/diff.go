package unit

import (
	"fmt"
	"strings"
)

// maxDiff bounds the table of the comparison; beyond it, and units are far
// from it, all of the old text is shown removed and all of the new added.
const maxDiff = 4 << 20

// Diff is a unified diff of two texts with three lines of context, "" when
// they are equal.
func Diff(oldName, newName string, old, new []byte) string {
	if string(old) == string(new) {
		return ""
	}
	ops := edits(split(string(old)), split(string(new)))
	const context = 3
	var b strings.Builder
	fmt.Fprintf(&b, "--- %s\n+++ %s\n", oldName, newName)
	o, n := 1, 1 // line numbers at ops[at]
	for at := 0; at < len(ops); {
		// A hunk begins at most three lines before a change and ends where
		// more than six unchanged lines follow.
		change := at
		for change < len(ops) && ops[change][0] == ' ' {
			change++
		}
		if change == len(ops) {
			break
		}
		from := max(at, change-context)
		o, n, at = o+from-at, n+from-at, from
		last := change
		for i := change; i < len(ops) && i <= last+2*context; i++ {
			if ops[i][0] != ' ' {
				last = i
			}
		}
		to := min(len(ops), last+context+1)
		olds, news := 0, 0
		for _, op := range ops[from:to] {
			if op[0] != '+' {
				olds++
			}
			if op[0] != '-' {
				news++
			}
		}
		fmt.Fprintf(&b, "@@ -%s +%s @@\n", span(o, olds), span(n, news))
		for _, op := range ops[from:to] {
			b.WriteString(op)
			if !strings.HasSuffix(op, "\n") {
				b.WriteString("\n\\ No newline at end of file\n")
			}
		}
		o, n, at = o+olds, n+news, to
	}
	return b.String()
}

// span writes where a hunk lies in one of the files.
func span(start, count int) string {
	if count == 0 {
		start--
	}
	return fmt.Sprintf("%d,%d", start, count)
}

func split(s string) []string {
	lines := strings.SplitAfter(s, "\n")
	return lines[:len(lines)-1+min(1, len(lines[len(lines)-1]))]
}

// edits turns old into new: lines with ' ', '-' or '+' before them, by the
// longest common subsequence.
func edits(old, new []string) []string {
	var out []string
	put := func(op string, lines []string) {
		for _, l := range lines {
			out = append(out, op+l)
		}
	}
	if len(old)*len(new) > maxDiff {
		put("-", old)
		put("+", new)
		return out
	}
	common := make([][]int, len(old)+1) // of old[i:] and new[j:]
	for i := range common {
		common[i] = make([]int, len(new)+1)
	}
	for i := len(old) - 1; i >= 0; i-- {
		for j := len(new) - 1; j >= 0; j-- {
			if old[i] == new[j] {
				common[i][j] = common[i+1][j+1] + 1
			} else {
				common[i][j] = max(common[i+1][j], common[i][j+1])
			}
		}
	}
	i, j := 0, 0
	for i < len(old) && j < len(new) {
		switch {
		case old[i] == new[j]:
			put(" ", old[i:i+1])
			i, j = i+1, j+1
		case common[i+1][j] >= common[i][j+1]:
			put("-", old[i:i+1])
			i++
		default:
			put("+", new[j:j+1])
			j++
		}
	}
	put("-", old[i:])
	put("+", new[j:])
	return out
}
