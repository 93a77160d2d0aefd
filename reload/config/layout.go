package config

import (
	"bytes"
	"slices"
	"strings"
)

// mark is one thing between two values: '\n' a line break, ',' a comma, '/' a
// comment up to the end of its line, '*' one with an end of its own.
type mark struct {
	kind       byte
	start, end int
}

// marks reads on from a place between two values to what is no mark.
func (e *editor) marks(from int) (ms []mark, next int) {
	p := &parser{text: e.raw, i: from}
	for {
		start := p.i
		r, n := p.rune()
		kind := byte(0)
		switch {
		case r == '\r' && bytes.HasPrefix(e.raw[start:], []byte("\r\n")):
			kind, p.i = '\n', start+2
		case isNewline(r):
			kind, p.i = '\n', start+n
		case r == ',':
			kind, p.i = ',', start+n
		case r == '/':
			kind = e.raw[start+1]
			p.comment()
		case isSpace(r):
			p.i += n
			continue
		default:
			return ms, start
		}
		ms = append(ms, mark{kind, start, p.i})
	}
}

// lastBreak is the index of the last line break among marks, or -1.
func lastBreak(ms []mark) int {
	for i, m := range slices.Backward(ms) {
		if m.kind == '\n' {
			return i
		}
	}
	return -1
}

func hasMark(ms []mark, kind byte) bool {
	return slices.ContainsFunc(ms, func(m mark) bool { return m.kind == kind })
}

// part is a member or element with what is its own around it.
type part struct {
	before     []mark // between the cut of the part before and the start
	start, end int    // of the key to that of the value
	comma      int    // behind it, or -1
	tail       int    // end of its comments on the line where it ends, and of its comma if no others are before that
	cut        int    // end of its comma in any case, and of the comments behind that on its line
	open       bool   // whether a comment ends at cut that the line ends, too
}

func (e *editor) parts(n *Node) []part {
	ps, cut := make([]part, n.len()), n.Start+1
	ms, _ := e.marks(cut)
	for i := range ps {
		p := part{start: n.startOf(i), end: child(n, i).End, comma: -1}
		for len(ms) > 0 && ms[0].start < cut {
			ms = ms[1:]
		}
		p.before = ms
		p.tail, p.cut = p.end, p.end
		ms, _ = e.marks(p.end)
		// Whether what follows is on the line of the value, on that of what cut
		// ends, and alone so far.
		here, behind, alone := true, true, true
		for _, m := range ms {
			switch m.kind {
			case '\n': // see below
			case ',':
				p.comma, p.cut, p.open, behind = m.start, m.end, false, true
				if alone {
					p.tail = m.end
				}
			default:
				alone = alone && here
				if behind {
					p.cut, p.open = m.end, m.kind == '/'
				}
			}
			if here && m.kind != '\n' {
				p.tail = p.cut
			}
			if m.kind == '\n' || bytes.ContainsAny(e.raw[m.start:m.end], "\r\n") {
				here, behind = false, false
			}
		}
		if behind && i+1 < len(ps) {
			// Comments between the comma and the next value on the line are that one's.
			p.cut = p.comma + 1
			p.tail = min(p.tail, max(p.cut, p.end))
		}
		ps[i], cut = p, p.cut
	}
	return ps
}

// style is how an object or list is written.
type style struct {
	quote    byte   // around keys
	bare     bool   // keys that are names go without
	colon    string // between key and value
	trailing bool   // a comma behind the last
	block    bool   // a line for each
	pad, sep string // on one line: within the braces, behind a comma
	listPad  string // within the brackets of a list
}

// style looks at n, and for what n does not show at what it stands in. The
// style of nothing is that of Setup.Text, or JSON's.
func (e *editor) style(n *Node) style {
	if s, ok := e.styles[n]; ok {
		return s
	}
	s := style{quote: '"', bare: !e.strict, colon: ": ", trailing: !e.strict, block: true, pad: " ", sep: " "}
	if up := e.holder(n); up != nil {
		s = e.style(up)
	}
	first, _ := e.marks(n.Start + 1)
	switch count := n.len(); {
	case count > 0:
		behind, _ := e.marks(child(n, count-1).End)
		s.trailing = hasMark(behind, ',')
		s.block = lastBreak(first) >= 0 || lastBreak(behind) >= 0
		if count > 1 {
			last, _ := e.marks(child(n, count-2).End)
			s.block = s.block || lastBreak(last) >= 0
		}
		if !s.block {
			pad := &s.pad
			if n.Kind == Array {
				pad = &s.listPad
			}
			if *pad = ""; isSpace(rune(e.raw[n.Start+1])) {
				*pad = " "
			}
		}
	case hasMark(first, '\n'):
		s.block = true
	case len(first) > 0:
		s.block = false
	}
	for i, m := range slices.Backward(n.Members) {
		c := e.raw[m.Start]
		bare := c != '"' && c != '\''
		if i == len(n.Members)-1 {
			s.bare, s.colon = false, ":"
			if ms, _ := e.marks(m.End); len(ms) == 0 && isSpace(rune(e.raw[m.Value.Start-1])) {
				s.colon = ": "
			}
			s.sep = s.colon[1:]
		}
		if !bare {
			s.quote = c
		}
		if s.bare = s.bare || bare; s.bare && s.quote == c {
			break
		}
	}
	e.styles[n] = s
	return s
}

func (s *style) padOf(k Kind) string {
	if k == Array {
		return s.listPad
	}
	return s.pad
}

const maxIndent = 128

// indentAt is the white space at the beginning of a line.
func (e *editor) indentAt(line int) string {
	end := line
	for end < len(e.raw) && end < line+maxIndent && (e.raw[end] == ' ' || e.raw[end] == '\t') {
		end++
	}
	return string(e.raw[line:end])
}

// indentOf is that of the line that the byte at is on.
func (e *editor) indentOf(at int) string {
	if e.lines == nil {
		e.lines = append(e.lines, len(e.raw)-len(bytes.TrimPrefix(e.raw, []byte("\ufeff"))))
		for i, c := range e.raw {
			if c == '\n' || c == '\r' {
				e.lines = append(e.lines, i+1)
			}
		}
	}
	i, found := slices.BinarySearch(e.lines, at)
	if !found {
		i--
	}
	return e.indentAt(e.lines[max(i, 0)])
}

func (e *editor) deeper(indent string) string {
	if len(indent)+len(e.unit) > maxIndent {
		return indent
	}
	return indent + e.unit
}

// rework is how the text of n changes by a plan.
func (e *editor) rework(n *Node, pl *plan) []edit {
	ps := e.parts(n)
	stays := -1 // the last part that does
	for i := range ps {
		if !pl.removed[i] {
			stays = i
		}
	}
	cuts := e.cuts(n, ps, pl.removed)
	last := len(ps) - 1
	if len(pl.added) == 0 {
		if stays >= 0 && stays < last && ps[last].comma < 0 {
			return append(cuts, edit{ps[stays].comma, ps[stays].comma + 1, ""})
		}
		inside := make([]edit, len(cuts))
		for i, c := range sortEdits(cuts) {
			inside[i] = edit{c.start - n.Start - 1, c.end - n.Start - 1, ""}
		}
		if stays < 0 && len(bytes.TrimSpace(splice(e.raw[n.Start+1:n.End-1], inside))) == 0 {
			return []edit{{n.Start + 1, n.End - 1, ""}}
		}
		return cuts
	}
	s := e.style(n)
	pad := s.padOf(n.Kind)
	at, lead := n.Start+1, pad
	block, open := s.block, false
	var end int
	var closing string
	switch {
	case stays >= 0:
		p := ps[stays]
		at, end, lead, open = p.cut, p.cut, s.sep, p.open
		if p.comma < 0 {
			cuts = append(cuts, edit{p.end, p.end, ","})
		}
	case len(ps) > 0:
		at = sortEdits(cuts)[0].start
		end = at
	default:
		ms, _ := e.marks(at)
		ms = slices.DeleteFunc(ms, func(m mark) bool { return m.kind == '\n' })
		if len(ms) == 0 {
			if end, closing = n.End-1, pad; block {
				closing = e.newline + e.indentOf(n.Start)
			}
			break
		}
		m := ms[len(ms)-1]
		at, end, open = m.end, m.end, m.kind == '/'
	}
	block = block || open
	indent := e.indentOf(at)
	if block {
		indent = e.indentIn(n, ps)
	}
	var b []byte
	e.from = at
	b = e.renderAll(b, n.Kind, pl.added, lead, indent, block, s)
	if s.trailing && (block && len(ps) == 0 || last >= 0 && ps[last].comma >= 0) {
		b = append(b, ',')
	}
	return append(cuts, edit{at, end, string(b) + closing})
}

// indentIn is that of the parts of n that begin lines.
func (e *editor) indentIn(n *Node, ps []part) string {
	for _, p := range slices.Backward(ps) {
		if i := lastBreak(p.before); i >= 0 {
			return e.indentAt(p.before[i].end)
		}
	}
	return e.deeper(e.indentOf(n.Start))
}

// cuts takes parts out. Neighbours on one line go together.
func (e *editor) cuts(n *Node, ps []part, removed map[int]bool) (cuts []edit) {
	for i := 0; i < len(ps); i++ {
		if !removed[i] {
			continue
		}
		first := i
		for i+1 < len(ps) && removed[i+1] && ps[i].tail == ps[i].cut && lastBreak(ps[i+1].before) < 0 {
			i++
		}
		cuts = append(cuts, e.cutRun(n, ps, first, ps[i].tail))
		if comma := ps[i].comma; comma >= ps[i].tail {
			cuts = append(cuts, edit{comma, comma + 1, ""})
		}
	}
	return cuts
}

// cutRun takes the parts from first up to tail out, and their line when nothing else is on it.
func (e *editor) cutRun(n *Node, ps []part, first, tail int) edit {
	p := ps[first]
	floor, open := n.Start+1, false
	if first > 0 {
		floor, open = ps[first-1].cut, ps[first-1].open
	}
	br := lastBreak(p.before)
	if br > 0 {
		open = p.before[br-1].kind == '/'
	}
	lead := p.start
	if br+1 < len(p.before) {
		lead = p.before[br+1].start
	}
	ms, rest := e.marks(tail)
	ended := false
	if len(ms) > 0 {
		rest, ended = ms[0].start, ms[0].kind == '\n'
	}
	closing := rest == n.End-1
	switch {
	case br >= 0 && ended:
		return edit{p.before[br].start, rest, ""}
	case br >= 0 && closing && !open:
		return edit{p.before[br].start, tail, ""}
	case br >= 0, first == 0 && !ended && !closing:
		return edit{lead, rest, ""}
	}
	return edit{floor, tail, ""}
}

func (s *style) appendKey(dst []byte, key string) []byte {
	name := key != ""
	for i, r := range key {
		name = name && isIdentifier(r, i == 0)
	}
	if s.bare && name {
		return append(dst, key...)
	}
	quoted := appendString(nil, key)
	if s.quote == '\'' {
		inner := strings.ReplaceAll(strings.ReplaceAll(string(quoted[1:len(quoted)-1]), `\"`, `"`), `'`, `\'`)
		return append(append(append(dst, '\''), inner...), '\'')
	}
	return append(dst, quoted...)
}
