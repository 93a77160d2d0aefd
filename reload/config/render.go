package config

import (
	"bytes"
	"strings"
)

// render writes f, whose line has this indentation.
func (e *editor) render(dst []byte, f fresh, indent string, block bool, s style) []byte {
	if f.text != nil {
		return e.reindent(dst, f.text, indent)
	}
	open, end, pad := byte('{'), byte('}'), s.padOf(f.kind)
	if f.kind == Array {
		open, end = '[', ']'
	}
	if dst = append(dst, open); len(f.items) == 0 {
		return append(dst, end)
	}
	inner, lead := indent, pad
	if block {
		inner = e.deeper(indent)
	}
	for i, item := range f.items {
		if i > 0 {
			dst, lead = append(dst, ','), s.sep
		}
		if block {
			lead = e.newline + inner
		}
		dst = append(dst, lead...)
		if f.kind == Object {
			dst = append(s.appendKey(dst, item.key), s.colon...)
		}
		dst = e.render(dst, item, inner, block, s)
	}
	lead = pad
	if block {
		if s.trailing {
			dst = append(dst, ',')
		}
		lead = e.newline + indent
	}
	return append(append(dst, lead...), end)
}

// inPlace is f where n was, on one line unless that becomes long.
func (e *editor) inPlace(n *Node, f fresh) string {
	s, indent := e.style(e.root), e.indentOf(n.Start)
	if up := e.holder(n); up != nil {
		s = e.style(up)
	}
	line := e.render(nil, f, indent, false, s)
	if f.text == nil && s.block && (len(line) > 80 || bytes.ContainsAny(line, "\r\n")) {
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
