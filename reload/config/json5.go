package config

import (
	"bytes"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

const (
	maxFile  = 1 << 20 // bytes of a configuration file
	maxDepth = 64      // of nested objects and lists
	maxNodes = 100_000 // of all values: a node costs more memory than the byte or two it may be written in
)

// ParseJSON5 reads one JSON5 value (https://spec.json5.org). It is stricter
// than the specification where leniency hides mistakes: a key may occur once
// per object, the text is UTF-8, at most 1 MiB and 64 levels deep. The error
// is a *Problem without a file name.
func ParseJSON5(text []byte) (root *Node, err error) {
	p := &parser{text: text, line: 1, column: 1}
	defer func() {
		// Parsing stops at the first error, which unwinds the recursion.
		if r := recover(); r != nil {
			problem, ok := r.(*Problem)
			if !ok {
				panic(r)
			}
			root, err = nil, problem
		}
	}()
	if len(text) > maxFile {
		p.fail(0, "larger than 1 MiB")
	}
	if bytes.HasPrefix(text, []byte("\ufeff")) {
		p.i, p.seen = 3, 3
	}
	p.checkUTF8()
	p.space()
	if p.i == len(text) {
		p.fail(p.i, "empty: expected an object")
	}
	root = p.value(0)
	p.space()
	if p.i < len(text) {
		p.fail(p.i, "unexpected "+p.here()+" after the end of the value")
	}
	root.comments = p.comments
	return root, nil
}

type parser struct {
	text     []byte
	i        int // next byte
	nodes    int
	comments []span

	// line and column are those of the byte seen; see position.
	seen, line, column int
}

// position counts on from where it was last asked, never backwards, so that a
// whole parse costs one pass. Lines end with LF, CR or CRLF, as editors count them.
func (p *parser) position(at int) (line, column int) {
	for p.seen < at {
		c := p.text[p.seen]
		switch {
		case c == '\n', c == '\r' && (p.seen+1 == len(p.text) || p.text[p.seen+1] != '\n'):
			p.line, p.column = p.line+1, 1
		case c != '\r' && utf8.RuneStart(c):
			p.column++
		}
		p.seen++
	}
	return p.line, p.column
}

func (p *parser) fail(at int, msg string) {
	line, column := p.position(at)
	panic(&Problem{Line: line, Column: column, Msg: msg})
}

func (p *parser) checkUTF8() {
	if utf8.Valid(p.text) {
		return
	}
	for i := 0; ; {
		r, n := utf8.DecodeRune(p.text[i:])
		if r == utf8.RuneError && n == 1 {
			p.fail(i, "not valid UTF-8")
		}
		i += n
	}
}

// rune returns the next character without taking it; the size is 0 at the end.
func (p *parser) rune() (rune, int) {
	if p.i < len(p.text) && p.text[p.i] < utf8.RuneSelf {
		return rune(p.text[p.i]), 1
	}
	r, n := utf8.DecodeRune(p.text[p.i:])
	if n == 0 {
		return -1, 0
	}
	return r, n
}

// here names the next character for a message.
func (p *parser) here() string {
	r, n := p.rune()
	if n == 0 {
		return "end of file"
	}
	return strconv.QuoteRune(r)
}

func (p *parser) take(c byte) bool {
	if p.i < len(p.text) && p.text[p.i] == c {
		p.i++
		return true
	}
	return false
}

func isNewline(r rune) bool { return r == '\n' || r == '\r' || r == 0x2028 || r == 0x2029 }

func isSpace(r rune) bool {
	return r == ' ' || '\t' <= r && r <= '\r' || r == 0xFEFF || isNewline(r) || r > 0x7F && unicode.Is(unicode.Zs, r)
}

// space skips white space and comments (JSON5 §7, §8).
func (p *parser) space() {
	for {
		r, n := p.rune()
		switch {
		case n == 0:
			return
		case isSpace(r):
			p.i += n
		case r == '/':
			p.comment()
		default:
			return
		}
	}
}

func (p *parser) comment() {
	start := p.i
	switch rest := p.text[start:]; {
	case bytes.HasPrefix(rest, []byte("//")):
		for r, n := p.rune(); n > 0 && !isNewline(r); r, n = p.rune() {
			p.i += n
		}
	case bytes.HasPrefix(rest, []byte("/*")):
		end := bytes.Index(rest[2:], []byte("*/"))
		if end < 0 {
			p.fail(start, "comment without an end")
		}
		p.i += 2 + end + 2
	default:
		p.fail(start, "unexpected '/'")
	}
	p.comments = append(p.comments, span{start, p.i})
}

func (p *parser) value(depth int) *Node {
	if p.nodes++; p.nodes > maxNodes {
		p.fail(p.i, "more than 100000 values")
	}
	n := &Node{Start: p.i}
	n.Line, n.Column = p.position(p.i)
	switch r, _ := p.rune(); {
	case r == '{', r == '[':
		if depth == maxDepth {
			p.fail(p.i, "nested deeper than 64 levels")
		}
		p.i++
		if r == '{' {
			n.Kind = Object
			p.object(n, depth+1)
		} else {
			n.Kind = Array
			p.array(n, depth+1)
		}
	case r == '"', r == '\'':
		n.Kind, n.Str = String, p.string()
	case r == '+', r == '-', r == '.', '0' <= r && r <= '9', r == 'I', r == 'N':
		n.Kind = Number
		p.number(n)
	case p.word("true"):
		n.Kind, n.Bool = Bool, true
	case p.word("false"):
		n.Kind = Bool
	case p.word("null"):
	case isIdentifier(r, true):
		p.fail(p.i, "expected a value: strings need quotes")
	default:
		p.fail(p.i, "expected a value, found "+p.here())
	}
	n.End = p.i
	return n
}

// word takes w if it stands here as a whole word.
func (p *parser) word(w string) bool {
	if !bytes.HasPrefix(p.text[p.i:], []byte(w)) {
		return false
	}
	p.i += len(w)
	if r, _ := p.rune(); isIdentifier(r, false) || r == '\\' {
		p.i -= len(w)
		return false
	}
	return true
}

func (p *parser) object(n *Node, depth int) {
	var index map[string]int // of the members, once there are many
	for {
		p.space()
		if p.take('}') {
			return
		}
		m := Member{Start: p.i}
		m.Line, m.Column = p.position(p.i)
		if r, _ := p.rune(); r == '"' || r == '\'' {
			m.Key = p.string()
		} else {
			m.Key = p.identifier()
		}
		m.End = p.i
		first := -1
		if index == nil && len(n.Members) < 16 {
			first = slices.IndexFunc(n.Members, func(o Member) bool { return o.Key == m.Key })
		} else {
			if index == nil {
				index = map[string]int{}
				for i := range n.Members {
					index[n.Members[i].Key] = i
				}
			}
			if at, ok := index[m.Key]; ok {
				first = at
			}
			index[m.Key] = len(n.Members)
		}
		if first >= 0 {
			p.fail(m.Start, "key "+strconv.Quote(m.Key)+" occurs twice in this object (first at line "+strconv.Itoa(n.Members[first].Line)+")")
		}
		p.space()
		if !p.take(':') {
			p.fail(p.i, "expected ':' after a key, found "+p.here())
		}
		p.space()
		m.Value = p.value(depth)
		n.Members = append(n.Members, m)
		if p.last('}') {
			return
		}
	}
}

// last takes what follows an element: a comma, or the closing bracket.
func (p *parser) last(closing byte) bool {
	p.space()
	if p.take(',') {
		return false
	}
	if !p.take(closing) {
		p.fail(p.i, "expected ',' or "+strconv.QuoteRune(rune(closing))+", found "+p.here())
	}
	return true
}

func (p *parser) array(n *Node, depth int) {
	for {
		p.space()
		if p.take(']') {
			return
		}
		n.Items = append(n.Items, p.value(depth))
		if p.last(']') {
			return
		}
	}
}

// isIdentifier follows ECMAScript 5.1 §7.6, which JSON5 §3 refers to.
func isIdentifier(r rune, first bool) bool {
	switch {
	case r == '$', r == '_', 'a' <= r && r <= 'z', 'A' <= r && r <= 'Z':
		return true
	case '0' <= r && r <= '9':
		return !first
	case r < 0x80:
		return false
	case unicode.In(r, unicode.L, unicode.Nl):
		return true
	}
	return !first && (r == 0x200C || r == 0x200D || unicode.In(r, unicode.Mn, unicode.Mc, unicode.Nd, unicode.Pc))
}

func (p *parser) identifier() string {
	start := p.i
	var b strings.Builder
	for {
		r, n := p.rune()
		if r == '\\' {
			at := p.i
			p.i++
			if !p.take('u') {
				p.fail(at, `expected \u in a key without quotes`)
			}
			if r = p.hex(4); !isIdentifier(r, at == start) {
				p.fail(at, "this character needs a key in quotes")
			}
			n = 0
		} else if !isIdentifier(r, p.i == start) {
			break
		}
		b.WriteRune(r)
		p.i += n
	}
	if p.i == start {
		p.fail(p.i, "expected a key or '}', found "+p.here())
	}
	return b.String()
}

// hex takes n hexadecimal digits.
func (p *parser) hex(n int) rune {
	if p.i+n > len(p.text) {
		p.fail(p.i, "escape without its "+strconv.Itoa(n)+" hexadecimal digits")
	}
	v, err := strconv.ParseUint(string(p.text[p.i:p.i+n]), 16, 32)
	if err != nil {
		p.fail(p.i, "escape without its "+strconv.Itoa(n)+" hexadecimal digits")
	}
	p.i += n
	return rune(v)
}

func (p *parser) string() string {
	start, quote := p.i, p.text[p.i]
	p.i++
	// Most strings have no escape: those are one copy.
	plain := p.i
	for p.i < len(p.text) && p.text[p.i] != quote && p.text[p.i] != '\\' && p.text[p.i] != '\n' && p.text[p.i] != '\r' {
		p.i++
	}
	b := p.text[plain:p.i:p.i]
	for {
		r, n := p.rune()
		switch {
		case n == 0:
			p.fail(start, "string without an end")
		case r == rune(quote):
			p.i++
			return string(b)
		case r == '\n', r == '\r':
			p.fail(p.i, `line break in a string; write \n`)
		case r == '\\':
			p.i++
			b = p.escape(b)
			continue
		}
		b = append(b, p.text[p.i:p.i+n]...)
		p.i += n
	}
}

// escape reads what follows a backslash (JSON5 §5.1).
func (p *parser) escape(b []byte) []byte {
	at := p.i - 1
	r, n := p.rune()
	p.i += n
	if i := strings.IndexRune("bfnrtv", r); i >= 0 {
		return append(b, "\b\f\n\r\t\v"[i])
	}
	switch r {
	case -1:
		p.fail(at, "string without an end")
	case 'x':
		return utf8.AppendRune(b, p.hex(2))
	case 'u':
		r = p.hex(4)
		if utf16.IsSurrogate(r) {
			if bytes.HasPrefix(p.text[p.i:], []byte(`\u`)) {
				p.i += 2
				r = utf16.DecodeRune(r, p.hex(4))
			}
			if r == unicode.ReplacementChar || utf16.IsSurrogate(r) {
				p.fail(at, "half of a surrogate pair")
			}
		}
		return utf8.AppendRune(b, r)
	case '0', '1', '2', '3', '4', '5', '6', '7', '8', '9':
		if c, _ := p.rune(); r > '0' || '0' <= c && c <= '9' {
			p.fail(at, "octal escapes do not exist in JSON5")
		}
		return append(b, 0)
	case '\r':
		p.take('\n')
		return b
	case '\n', 0x2028, 0x2029:
		return b
	}
	return utf8.AppendRune(b, r)
}

func (p *parser) number(n *Node) {
	start := p.i
	negative := p.take('-')
	if !negative {
		p.take('+')
	}
	var err error
	switch rest := p.text[p.i:]; {
	case p.word("Infinity"):
		n.Num = math.Inf(1)
	case p.word("NaN"):
		n.Num = math.NaN()
	case len(rest) > 1 && rest[0] == '0' && rest[1]|0x20 == 'x':
		p.i += 2
		digits := p.digits(isHex)
		var v uint64
		v, err = strconv.ParseUint(digits, 16, 64)
		n.Num = float64(v)
	default:
		body := p.i
		whole := p.digits(isDigit)
		fraction := ""
		if p.take('.') {
			fraction = p.digits(isDigit)
		}
		if whole == "" && fraction == "" || len(whole) > 1 && whole[0] == '0' {
			p.fail(start, "not a number")
		}
		if p.take('e') || p.take('E') {
			if !p.take('-') {
				p.take('+')
			}
			if p.digits(isDigit) == "" {
				p.fail(start, "not a number")
			}
		}
		n.Num, err = strconv.ParseFloat(string(p.text[body:p.i]), 64)
	}
	if r, _ := p.rune(); err != nil || isIdentifier(r, false) || r == '\\' || r == '.' {
		p.fail(start, "not a number, or one too large")
	}
	if negative {
		n.Num = -n.Num
	}
	n.Str = string(p.text[start:p.i])
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }
func isHex(c byte) bool   { return isDigit(c) || 'a' <= c|0x20 && c|0x20 <= 'f' }

func (p *parser) digits(is func(byte) bool) string {
	start := p.i
	for p.i < len(p.text) && is(p.text[p.i]) {
		p.i++
	}
	return string(p.text[start:p.i])
}
