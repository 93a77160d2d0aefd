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
	show := make([]bool, len(ops)) // is a change or near one
	for i, op := range ops {
		for j := max(0, i-context); op[0] != ' ' && j < min(len(ops), i+context+1); j++ {
			show[j] = true
		}
	}
	var b strings.Builder
	fmt.Fprintf(&b, "--- %s\n+++ %s\n", oldName, newName)
	o, n := 1, 1 // the line numbers of ops[i]
	for i := 0; i < len(ops); {
		var hunk strings.Builder
		olds, news := 0, 0
		for ; i < len(ops) && show[i]; i++ {
			olds += choose(ops[i][0] != '+', 1, 0)
			news += choose(ops[i][0] != '-', 1, 0)
			hunk.WriteString(ops[i])
			if !strings.HasSuffix(ops[i], "\n") {
				hunk.WriteString("\n\\ No newline at end of file\n")
			}
		}
		if hunk.Len() > 0 {
			fmt.Fprintf(&b, "@@ -%s +%s @@\n%s", span(o, olds), span(n, news), hunk.String())
		}
		o, n = o+olds, n+news
		for ; i < len(ops) && !show[i]; i++ {
			o, n = o+1, n+1 // the same in both
		}
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
