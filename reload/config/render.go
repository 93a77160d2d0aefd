package config

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
	"unicode/utf8"
)

const (
	maxLine  = 100 // columns that an object or list may pass to on one line
	minBreak = 40  // bytes that one must have for it to be worth breaking
)

// typed is the value n of a text that somebody wrote, whose root is known, for
// this file: with its bytes, as far as they are JSON where that is wanted.
func (e *editor) typed(text []byte, root, n *Node) fresh {
	own := text[n.Start:n.End]
	f := fresh{kind: n.Kind, text: own}
	if n.Kind != Object && n.Kind != Array {
		switch {
		case e.strict && !json.Valid(own):
			f.text = n.AppendJSON(nil)
		case e.single && own[0] == '"' && bytes.Count(own, []byte{'"'}) == 2 && !bytes.ContainsAny(own, `'\`):
			f.text = []byte("'" + n.Str + "'")
		}
		return f
	}
	if !e.strict && laidOut(text, root, n) {
		return f
	}
	flat := n.Kind == Array
	for i := range n.len() {
		item := e.typed(text, root, child(n, i))
		if n.Kind == Object {
			item.key = n.Members[i].Key
		}
		f.items, flat = append(f.items, item), flat && item.kind != Object && item.kind != Array
	}
	switch {
	case !e.strict:
	case !flat:
		f.text = nil
	case bytes.ContainsAny(own, "\r\n") || !json.Valid(own):
		words := make([][]byte, len(f.items))
		for i, item := range f.items {
			words[i] = item.text
		}
		f.text = slices.Concat([]byte("["), bytes.Join(words, []byte(", ")), []byte("]"))
	}
	return f
}

// laidOut reports whether a value of a text has lines or comments.
func laidOut(text []byte, root, n *Node) bool {
	from, _ := slices.BinarySearchFunc(root.comments, n.Start, func(c span, at int) int { return c.start - at })
	return from < len(root.comments) && root.comments[from].start < n.End || bytes.ContainsAny(text[n.Start:n.End], "\r\n")
}

// renderAll writes members or elements, with commas between them: the first
// after lead, or in a block each on a line of its own.
func (e *editor) renderAll(dst []byte, kind Kind, items []fresh, lead, indent string, block bool, s style) []byte {
	for i, f := range items {
		if i > 0 {
			dst, lead = append(dst, ','), s.sep
		}
		if block {
			lead = e.newline + indent
		}
		dst = append(dst, lead...)
		if kind == Object {
			dst = append(s.appendKey(dst, f.key), s.colon...)
		}
		dst = e.render(dst, f, indent, block, s)
	}
	return dst
}

// render writes f, whose line has this indentation.
func (e *editor) render(dst []byte, f fresh, indent string, block bool, s style) []byte {
	if f.text != nil {
		if len(f.items) == 0 || !e.long(dst, f.text) {
			return e.reindent(dst, f.text, indent)
		}
		block = true
	}
	open, end, pad := byte('{'), byte('}'), s.padOf(f.kind)
	if f.kind == Array {
		open, end = '[', ']'
	}
	if dst = append(dst, open); len(f.items) == 0 {
		return append(dst, end)
	}
	inner := indent
	if block {
		inner = e.deeper(indent)
	}
	dst = e.renderAll(dst, f.kind, f.items, pad, inner, block, s)
	lead := pad
	if block {
		if s.trailing {
			dst = append(dst, ',')
		}
		lead = e.newline + indent
	}
	return append(append(dst, lead...), end)
}

// long reports whether text behind dst makes a line of a text with lines too long.
func (e *editor) long(dst, text []byte) bool {
	if len(text) < minBreak || !e.style(e.root).block {
		return false
	}
	columns := maxLine - utf8.RuneCount(text)
	for _, before := range [][]byte{dst, e.raw[:e.from]} {
		before = before[max(0, len(before)-utf8.UTFMax*maxLine):]
		last := 1 + bytes.LastIndexAny(before, "\r\n")
		if columns -= utf8.RuneCount(before[last:]); last > 0 {
			break
		}
	}
	return columns < 0
}

// inPlace is f where n was, on one line unless that becomes long.
func (e *editor) inPlace(n *Node, f fresh) string {
	s, indent := e.style(e.root), e.indentOf(n.Start)
	if up := e.holder(n); up != nil {
		s = e.style(up)
	}
	e.from = n.Start
	line := e.render(nil, f, indent, false, s)
	if f.text == nil && s.block && (e.strict || len(line) > 80 || bytes.ContainsAny(line, "\r\n")) {
		return string(e.render(nil, f, indent, true, s))
	}
	return string(line)
}

// reindent appends a value that was written elsewhere: its lines break and
// are indented as they are here, by as much as its last line was not. Strings
// that run over lines stay as they are.
func (e *editor) reindent(dst, text []byte, indent string) []byte {
	last := 1 + bytes.LastIndexAny(text, "\r\n")
	if last == 0 || len(bytes.FieldsFunc(text, isNewline))*len(indent) > maxFile {
		return append(dst, text...)
	}
	base := ""
	if line := string(text[last:]); len(strings.TrimLeft(line, " \t")) == 1 {
		base = line[:len(line)-1]
	}
	p, comment := &parser{text: text}, 0
	for p.i < len(text) {
		start := p.i
		switch c := text[start]; {
		case start >= comment && (c == '"' || c == '\''):
			p.string()
		case start >= comment && c == '/':
			p.comment()
			comment, p.i = p.i, start+1
		case c == '\n' || c == '\r':
			if p.i++; c == '\r' {
				p.take('\n')
			}
			for i := 0; i < len(base) && p.i < len(text) && text[p.i] == base[i]; i++ {
				p.i++
			}
			dst = append(dst, e.newline...)
			if p.i < len(text) && text[p.i] != '\n' && text[p.i] != '\r' {
				dst = append(dst, indent...)
			}
			continue
		default:
			p.i++
		}
		dst = append(dst, text[start:p.i]...)
	}
	return dst
}
