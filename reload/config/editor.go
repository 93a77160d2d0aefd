package config

import (
	"bytes"
	"encoding/json"
	"errors"
	"slices"
	"sort"
	"strings"
)

// editor collects what is to become of the values of a text and writes it
// with one pass, so that many changes cost no more than their size.
type editor struct {
	raw   []byte
	root  *Node
	edits []edit // of values replaced
	plans map[*Node]*plan

	newline, unit string // that the text breaks its lines and indents with
	strict        bool   // the text is JSON, and stays that
	single        bool   // its strings are 'so'
	from          int    // where what is being rendered goes
	lines         []int  // where each begins
	styles        map[*Node]style
	holders       map[*Node]*Node
	index         map[*Node]map[string]int
}

// plan is what becomes of one object or list.
type plan struct {
	removed map[int]bool // members or elements
	added   []fresh      // behind the last one that stays
}

// fresh is a value to be written: text as given, or an object or list of
// others, or the latter where the former would make too long a line.
type fresh struct {
	key   string // as a member
	kind  Kind
	text  []byte
	items []fresh
}

// newEditor reads raw. A text of nothing but comments is one with an empty
// object at its end.
func newEditor(raw []byte) (*editor, error) {
	root, err := ParseJSON5(raw)
	strict := json.Valid(raw)
	if err != nil {
		newline, text := "\n", slices.Clone(raw)
		if i := bytes.IndexAny(text, "\r\n"); i >= 0 {
			newline = newlineOf(text[i:min(i+2, len(text))])
		}
		if rest := bytes.TrimPrefix(text, []byte("\ufeff")); len(rest) > 0 && !isNewline(rune(rest[len(rest)-1])) {
			text = append(text, newline...)
		}
		text = append(append(text, "{}"...), newline...)
		var blank error
		if root, blank = ParseJSON5(text); blank != nil || root.Start < len(raw) {
			return nil, err
		}
		raw = text
	}
	e := &editor{raw: raw, root: root, newline: newlineOf(raw), unit: "  ", strict: strict, single: singleQuoted(raw, root), plans: map[*Node]*plan{}, styles: map[*Node]style{}, index: map[*Node]map[string]int{}}
	e.findUnit(root)
	return e, nil
}

// singleQuoted reports whether a text has strings as values, all in single quotes.
func singleQuoted(raw []byte, root *Node) bool {
	quotes := [2]int{}
	var walk func(n *Node)
	walk = func(n *Node) {
		if n.Kind == String {
			quotes[strings.IndexByte(`"'`, raw[n.Start])]++
		}
		for i := range n.len() {
			walk(child(n, i))
		}
	}
	walk(root)
	return quotes[0] == 0 && quotes[1] > 0
}

// newlineOf is the first line break of a text outside strings, where one is
// part of the string.
func newlineOf(raw []byte) string {
	p := &parser{text: raw}
	for p.i < len(raw) {
		switch c := raw[p.i]; {
		case c == '"' || c == '\'':
			p.string()
		case c == '\n':
			return "\n"
		case c == '\r' && bytes.HasPrefix(raw[p.i:], []byte("\r\n")):
			return "\r\n"
		case c == '\r':
			return "\r"
		case c == '/':
			start := p.i
			if p.comment(); bytes.ContainsAny(raw[start:p.i], "\r\n") {
				p.i = start + bytes.IndexAny(raw[start:], "\r\n")
			}
		default:
			p.i++
		}
	}
	return "\n"
}

// findUnit takes the indentation from the first value that begins a line of its own.
func (e *editor) findUnit(n *Node) bool {
	for i := range n.len() {
		if i == 0 {
			ms, _ := e.marks(n.Start + 1)
			if line := lastBreak(ms); line >= 0 {
				if own, ok := strings.CutPrefix(e.indentAt(ms[line].end), e.indentOf(n.Start)); ok && own != "" {
					e.unit = own
					return true
				}
			}
		}
		if e.findUnit(child(n, i)) {
			return true
		}
	}
	return false
}

// len is the number of members or elements.
func (n *Node) len() int { return len(n.Members) + len(n.Items) }

// startOf is where the member or element i begins.
func (n *Node) startOf(i int) int {
	if n.Kind == Array {
		return n.Items[i].Start
	}
	return n.Members[i].Start
}

func (e *editor) planOf(n *Node) *plan {
	if e.plans[n] == nil {
		e.plans[n] = &plan{removed: map[int]bool{}}
	}
	return e.plans[n]
}

func (e *editor) add(n *Node, f fresh)  { e.planOf(n).added = append(e.planOf(n).added, f) }
func (e *editor) remove(n *Node, i int) { e.planOf(n).removed[i] = true }
func (e *editor) replace(n *Node, f fresh) {
	e.edits = append(e.edits, edit{n.Start, n.End, e.inPlace(n, f)})
}

// find is the index of a member, -1 without one. Many are asked for.
func (e *editor) find(n *Node, key string) int {
	if e.index[n] == nil {
		e.index[n] = make(map[string]int, len(n.Members))
		for i, m := range n.Members {
			e.index[n][m.Key] = i
		}
	}
	if i, ok := e.index[n][key]; ok {
		return i
	}
	return -1
}

// holder is the object or list that n stands in.
func (e *editor) holder(n *Node) *Node {
	if e.holders == nil {
		e.holders = map[*Node]*Node{}
		var walk func(n *Node)
		walk = func(n *Node) {
			for i := range n.len() {
				if c := child(n, i); c.Kind == Object || c.Kind == Array {
					e.holders[c] = n
					walk(c)
				}
			}
		}
		walk(e.root)
	}
	return e.holders[n]
}

// result is the text with all changes made, which is JSON5 again.
func (e *editor) result() ([]byte, error) {
	for n, p := range e.plans {
		e.edits = append(e.edits, e.rework(n, p)...)
	}
	out := splice(e.raw, sortEdits(e.edits))
	_, err := ParseJSON5(out)
	var p *Problem
	switch {
	case errors.As(err, &p):
		err = errors.New("the new text: " + p.Msg) // whose lines nobody has seen
	case e.strict && !json.Valid(out):
		err = errors.New("the file is JSON, which has neither Infinity nor NaN")
	}
	return out, err
}

// sortEdits puts edits into the text's order; what is inserted at one place
// stays in the order given, before what is cut there.
func sortEdits(edits []edit) []edit {
	sort.SliceStable(edits, func(i, j int) bool {
		a, b := &edits[i], &edits[j]
		return a.start < b.start || a.start == b.start && a.end < b.end
	})
	return edits
}
