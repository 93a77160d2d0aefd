package config

import (
	"sort"
	"strconv"
	"strings"
)

// Problem is one thing wrong with a configuration, or one warning about it.
// It never holds a value from the file, which may be a secret in the wrong place.
type Problem struct {
	File   string `json:"file,omitempty"`
	Line   int    `json:"line,omitempty"` // from 1; 0 when it is about something that is not there
	Column int    `json:"column,omitempty"`
	Path   string `json:"path"` // as written, for example agents.list[0].id
	Msg    string `json:"message"`
}

func (p *Problem) Error() string { return p.String() }

// String is file:line:column: path: message, without the parts not known.
func (p Problem) String() string {
	var b strings.Builder
	if b.WriteString(p.File); p.Line > 0 {
		if p.File != "" {
			b.WriteByte(':')
		}
		b.WriteString(strconv.Itoa(p.Line) + ":" + strconv.Itoa(p.Column))
	}
	for _, part := range []string{p.Path, p.Msg} {
		if part != "" && b.Len() > 0 {
			b.WriteString(": ")
		}
		b.WriteString(part)
	}
	return b.String()
}

// Problems are all that is wrong with a configuration, in the file's order.
type Problems []Problem

// Error is one line per problem.
func (ps Problems) Error() string {
	lines := make([]string, len(ps))
	for i, p := range ps {
		lines[i] = p.String()
	}
	return strings.Join(lines, "\n")
}

// Brief is the first problem and how many more there are, in one line.
func (ps Problems) Brief() string {
	if len(ps) < 2 {
		return ps.Error()
	}
	return ps[0].String() + " (and " + strconv.Itoa(len(ps)-1) + " more)"
}

// sorted puts what has no line last.
func (ps Problems) sorted() Problems {
	sort.SliceStable(ps, func(i, j int) bool {
		a, b := &ps[i], &ps[j]
		if a.Line == b.Line {
			return a.Column < b.Column
		}
		return b.Line == 0 || a.Line != 0 && a.Line < b.Line
	})
	return ps
}

// Nearest returns the candidate closest to word, or "" when none is close.
func Nearest(word string, candidates []string) string {
	best, least := "", 1+len(word)/3
	if len(word) > 64 || len(candidates) > maxTold {
		return ""
	}
	for _, c := range candidates {
		if d := distance(strings.ToLower(word), strings.ToLower(c), least); d < least || d == least && best == "" {
			best, least = c, d
		}
	}
	return best
}

// distance counts the insertions, deletions, replacements and swaps of
// neighbours that turn a into b (optimal string alignment), at most limit+1.
func distance(a, b string, limit int) int {
	if len(a)-len(b) > limit || len(b)-len(a) > limit {
		return limit + 1
	}
	rows := make([]int, 3*(len(b)+1))
	before, last, row := rows[:len(b)+1], rows[len(b)+1:2*(len(b)+1)], rows[2*(len(b)+1):]
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(last[j]+1, row[j-1]+1, last[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, last, row = last, row, before
	}
	return last[len(b)]
}

// suggest is " (did you mean x?)" when there is a near candidate.
func suggest(word string, candidates []string) string {
	if near := Nearest(word, candidates); near != "" {
		return " (did you mean " + near + "?)"
	}
	return ""
}
