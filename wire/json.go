package wire

import (
	"bytes"
	"encoding/binary"
	"math"
	"math/bits"
	"slices"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// What one JSON document may have. Nothing here is configurable: the limits
// keep the work that a stranger can cause near-linear in what he sends.
const (
	MaxJSONDepth     = 64      // arrays and objects within each other
	MaxJSONKeys      = 4096    // members of one object
	MaxJSONTokens    = 1 << 20 // values and keys
	MaxJSONNumberLen = 64      // bytes of one number
)

// Raw is a JSON value kept as text. One that Decode filled has passed all of Decode's
// checks and aliases the document: copy it to keep it longer.
type Raw []byte

// MarshalJSON returns the text itself, null for none.
func (r Raw) MarshalJSON() ([]byte, error) {
	if r == nil {
		return []byte("null"), nil
	}
	return r, nil
}

// UnmarshalJSON copies the text.
func (r *Raw) UnmarshalJSON(data []byte) error {
	*r = append((*r)[:0], data...)
	return nil
}

// SyntaxError is text that is not JSON as this package wants it.
type SyntaxError struct {
	Offset int64 // of the byte at fault
	Msg    string
}

func (e *SyntaxError) Error() string {
	return "invalid JSON at byte " + strconv.FormatInt(e.Offset, 10) + ": " + e.Msg
}

// scanner reads one document (RFC 8259) in one pass. It is stricter than the RFC where
// readers are known to differ: UTF-8 must be valid, surrogates paired, keys unique.
type scanner struct {
	data   []byte
	pos    int
	depth  int
	tokens int
	keys   [][]byte // of the open objects that have many, innermost last
	arena  []byte   // the text of keys that were escaped
}

// object is the state of walking over one object.
type object struct {
	count int
	few   [fewKeys][]byte // its keys, while they are few,
	base  int             // else where they begin in scanner.keys
}

// fewKeys is how many keys are compared with each other one by one, as they come.
const fewKeys = 8

func (s *scanner) fail(at int, msg string) *SyntaxError {
	return &SyntaxError{Offset: int64(at), Msg: msg}
}

func (s *scanner) unexpected() *SyntaxError {
	if s.pos >= len(s.data) {
		return s.fail(len(s.data), "unexpected end")
	}
	return s.fail(s.pos, "unexpected "+strconv.QuoteRuneToASCII(rune(s.data[s.pos])))
}

// begin skips white space and checks what concerns the document as a whole.
func (s *scanner) begin() *SyntaxError {
	if len(s.data) > math.MaxInt32 {
		return s.fail(0, "document too long")
	}
	s.peek()
	return nil
}

// end makes sure that nothing follows the value.
func (s *scanner) end() *SyntaxError {
	if s.peek(); s.pos < len(s.data) {
		return s.unexpected()
	}
	return nil
}

// peek skips white space and returns the byte after it, 0 at the end. (A NUL in the
// text is returned as 0 too, and is not the start of anything.)
func (s *scanner) peek() byte {
	for ; s.pos < len(s.data); s.pos++ {
		switch c := s.data[s.pos]; c {
		case ' ', '\t', '\r', '\n':
		default:
			return c
		}
	}
	return 0
}

func (s *scanner) token() *SyntaxError {
	if s.tokens++; s.tokens > MaxJSONTokens {
		return s.fail(s.pos, "too many values")
	}
	return nil
}

// open enters the array or object that begins here.
func (s *scanner) open() *SyntaxError {
	if s.depth++; s.depth > MaxJSONDepth {
		return s.fail(s.pos, "nested too deeply")
	}
	s.pos++
	return s.token()
}

// element moves to the next element of an array, of which n have been read; more is false at the array's end.
func (s *scanner) element(n int) (more bool, err *SyntaxError) {
	switch c := s.peek(); {
	case c == ']':
		s.pos++
		s.depth--
		return false, nil
	case n == 0:
		return true, nil
	case c != ',':
		return false, s.unexpected()
	}
	s.pos++
	return true, nil
}

// member moves to the next member's value and returns its key, which is good until the
// object ends; more is false at the object's end.
func (s *scanner) member(o *object) (key []byte, more bool, err *SyntaxError) {
	switch c := s.peek(); {
	case c == '}':
		s.pos++
		s.depth--
		return nil, false, s.closeObject(o)
	case o.count == 0:
	case c != ',':
		return nil, false, s.unexpected()
	default:
		s.pos++
	}
	if s.peek() != '"' {
		return nil, false, s.unexpected()
	}
	at := s.pos
	text, escaped, err := s.str()
	if err != nil {
		return nil, false, err
	}
	if s.peek() != ':' {
		return nil, false, s.unexpected()
	}
	s.pos++
	if o.count++; o.count > MaxJSONKeys {
		return nil, false, s.fail(at, "too many keys in an object")
	}
	if escaped {
		start := len(s.arena)
		s.arena = unescape(s.arena, text)
		text = s.arena[start:]
	}
	if err := s.token(); err != nil {
		return nil, false, err
	}
	switch {
	case o.count > fewKeys+1:
		s.keys = append(s.keys, text)
	case o.count == fewKeys+1:
		o.base = len(s.keys)
		s.keys = append(append(s.keys, o.few[:]...), text)
	default:
		for _, k := range o.few[:o.count-1] {
			if bytes.Equal(k, text) {
				return nil, false, s.fail(at, "duplicate key")
			}
		}
		o.few[o.count-1] = text
	}
	return text, true, nil
}

// closeObject looks for duplicates where there are many keys.
func (s *scanner) closeObject(o *object) *SyntaxError {
	if o.count <= fewKeys {
		return nil
	}
	keys := s.keys[o.base:]
	s.keys = s.keys[:o.base]
	slices.SortFunc(keys, bytes.Compare)
	for i, k := range keys[1:] {
		if bytes.Equal(keys[i], k) {
			return s.fail(s.pos-1, "duplicate key in the object that ends here")
		}
	}
	return nil
}

// skip moves past one value and returns its text.
func (s *scanner) skip() (Raw, *SyntaxError) {
	c := s.peek()
	start := s.pos
	var err *SyntaxError
	switch c {
	case '{':
		var o object
		err = s.open()
		for more := true; err == nil; _, err = s.skip() {
			if _, more, err = s.member(&o); !more {
				break
			}
		}
	case '[':
		err = s.open()
		for n, more := 0, true; err == nil; n++ {
			if more, err = s.element(n); !more {
				break
			}
			_, err = s.skip()
		}
	default:
		err = s.scalar(c)
	}
	if err != nil {
		return nil, err
	}
	return Raw(s.data[start:s.pos:s.pos]), nil
}

func (s *scanner) scalar(c byte) (err *SyntaxError) {
	if err = s.token(); err != nil {
		return err
	}
	switch c {
	case '"':
		_, _, err = s.str()
	case 't':
		err = s.literal("true")
	case 'f':
		err = s.literal("false")
	case 'n':
		err = s.literal("null")
	default:
		_, err = s.number()
	}
	return err
}

func (s *scanner) literal(word string) *SyntaxError {
	if !bytes.HasPrefix(s.data[s.pos:], []byte(word)) {
		return s.unexpected()
	}
	s.pos += len(word)
	return nil
}

// number moves past a number (RFC 8259, section 6).
func (s *scanner) number() ([]byte, *SyntaxError) {
	start, i, d := s.pos, s.pos, s.data
	if i < len(d) && d[i] == '-' {
		i++
	}
	ok := true
	if i < len(d) && d[i] == '0' {
		i++
	} else {
		i, ok = digits(d, i)
	}
	if ok && i < len(d) && d[i] == '.' {
		i, ok = digits(d, i+1)
	}
	if ok && i < len(d) && d[i]|0x20 == 'e' {
		if i++; i < len(d) && (d[i] == '+' || d[i] == '-') {
			i++
		}
		i, ok = digits(d, i)
	}
	s.pos = i
	if !ok {
		return nil, s.unexpected()
	}
	if i-start > MaxJSONNumberLen {
		return nil, s.fail(start, "number too long")
	}
	return d[start:i], nil
}

// digits returns where the digits from i on end, and whether there are any.
func digits(d []byte, i int) (end int, ok bool) {
	start := i
	for i < len(d) && '0' <= d[i] && d[i] <= '9' {
		i++
	}
	return i, i > start
}

// str moves past a string and returns what is between the quotes.
func (s *scanner) str() (text []byte, escaped bool, err *SyntaxError) {
	start := s.pos + 1
	i := start
	for {
		i += plain(s.data[i:])
		if i >= len(s.data) {
			return nil, false, s.fail(i, "unexpected end")
		}
		switch c := s.data[i]; {
		case c == '"':
			s.pos = i + 1
			return s.data[start:i], escaped, nil
		case c == '\\':
			escaped = true
			n, msg := escape(s.data[i:])
			if msg != "" {
				return nil, false, s.fail(i, msg)
			}
			i += n
		case c < 0x20:
			return nil, false, s.fail(i, "control character in a string")
		default:
			for i < len(s.data) && s.data[i] >= utf8.RuneSelf {
				r, n := utf8.DecodeRune(s.data[i:])
				if r == utf8.RuneError && n == 1 {
					return nil, false, s.fail(i, "invalid UTF-8")
				}
				i += n
			}
		}
	}
}

// plain returns how many bytes from the start of b are ASCII that stands for itself in a
// string. It looks at eight bytes at a time: v-ones has a byte's top bit set, where v has
// it clear, first of all in the lowest byte that is zero.
func plain(b []byte) int {
	const ones, tops = 0x0101010101010101, 0x8080808080808080
	n := 0
	for ; len(b)-n >= 8; n += 8 {
		x := binary.LittleEndian.Uint64(b[n:])
		quote, slash := x^'"'*ones, x^'\\'*ones
		stop := (x | (x-0x20*ones)&^x | (quote-ones)&^quote | (slash-ones)&^slash) & tops
		if stop != 0 {
			return n + bits.TrailingZeros64(stop)/8
		}
	}
	for ; n < len(b); n++ {
		if c := b[n]; c < 0x20 || c >= utf8.RuneSelf || c == '"' || c == '\\' {
			break
		}
	}
	return n
}

// escape returns the length of the escape sequence at the start of b, a surrogate pair
// being one, or what is wrong with it.
func escape(b []byte) (n int, problem string) {
	if len(b) < 2 {
		return 0, "unexpected end"
	}
	switch b[1] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		return 2, ""
	case 'u':
	default:
		return 0, "unknown escape"
	}
	switch u := hex4(b); {
	case u < 0:
		return 0, "malformed \\u escape"
	case !utf16.IsSurrogate(u):
		return 6, ""
	case utf16.DecodeRune(u, hex4(b[6:])) != utf8.RuneError:
		return 12, ""
	}
	return 0, "lone surrogate"
}

// hex4 returns the value of the \u escape at the start of b, -1 if there is none.
func hex4(b []byte) rune {
	if len(b) < 6 || b[0] != '\\' || b[1] != 'u' {
		return -1
	}
	u, err := strconv.ParseUint(string(b[2:6]), 16, 16)
	if err != nil {
		return -1
	}
	return rune(u)
}

// unescape appends what a string's text means. The text has been through str.
func unescape(dst, text []byte) []byte {
	const short, meant = "\"\\/bfnrt", "\"\\/\b\f\n\r\t"
	for {
		i := bytes.IndexByte(text, '\\')
		if i < 0 {
			return append(dst, text...)
		}
		dst = append(dst, text[:i]...)
		text = text[i:]
		if k := strings.IndexByte(short, text[1]); k >= 0 {
			dst = append(dst, meant[k])
			text = text[2:]
			continue
		}
		r := hex4(text)
		if text = text[6:]; utf16.IsSurrogate(r) {
			r = utf16.DecodeRune(r, hex4(text))
			text = text[6:]
		}
		dst = utf8.AppendRune(dst, r)
	}
}
