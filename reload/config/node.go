package config

import (
	"math"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Kind is the kind of a JSON5 value.
type Kind uint8

// The kinds of values.
const (
	Null Kind = iota
	Bool
	Number
	String
	Array
	Object
)

var kindNames = [...]string{"null", "a boolean", "a number", "a string", "a list", "an object"}

func (k Kind) String() string { return kindNames[k] }

// Node is one value of a JSON5 text. It knows the bytes it was written with,
// so that an editor can replace one value and leave all others untouched.
type Node struct {
	Kind         Kind
	Line, Column int      // of the first character, from 1, counted in runes
	Start, End   int      // bytes [Start,End) of the text
	Str          string   // of a String: what it means; of a Number: as written
	Num          float64  // of a Number
	Bool         bool     // of a Bool
	Members      []Member // of an Object, as written
	Items        []*Node  // of an Array
	comments     []span   // of the root: every comment of the text
}

// Member is one key of an object.
type Member struct {
	Key          string
	Line, Column int
	Start, End   int // bytes of the key
	Value        *Node
}

type span struct{ start, end int }

// Get returns the member called key, or nil.
func (n *Node) Get(key string) *Node {
	for i := range n.Members {
		if n.Members[i].Key == key {
			return n.Members[i].Value
		}
	}
	return nil
}

// byKey is for looking many members up: Get is a walk over all of them.
func (n *Node) byKey() map[string]*Node {
	all := make(map[string]*Node, len(n.Members))
	for _, m := range n.Members {
		all[m.Key] = m.Value
	}
	return all
}

// text is the string called key, or "".
func (n *Node) text(key string) string {
	if m := n.Get(key); m != nil && m.Kind == String {
		return m.Str
	}
	return ""
}

// Integer returns the number if it is a whole one that fits.
func (n *Node) Integer() (int64, bool) {
	if v, err := strconv.ParseInt(strings.TrimPrefix(n.Str, "+"), 10, 64); err == nil {
		return v, true
	}
	// Written as 0x10 or 1e3; beyond 2^53 a float64 may no longer be the number that was meant.
	if n.Num != math.Trunc(n.Num) || math.Abs(n.Num) > 1<<53 {
		return 0, false
	}
	return int64(n.Num), true
}

// AppendJSON appends the value as compact JSON, keys in their order. The
// result is JSON unless the value holds Infinity or NaN, which JSON lacks.
func (n *Node) AppendJSON(dst []byte) []byte {
	switch n.Kind {
	case Bool:
		return strconv.AppendBool(dst, n.Bool)
	case Number:
		if v, ok := n.Integer(); ok && (v != 0 || !math.Signbit(n.Num)) {
			return strconv.AppendInt(dst, v, 10)
		}
		switch {
		case math.IsNaN(n.Num):
			return append(dst, "NaN"...)
		case math.IsInf(n.Num, 1):
			return append(dst, "Infinity"...)
		case math.IsInf(n.Num, -1):
			return append(dst, "-Infinity"...)
		}
		return strconv.AppendFloat(dst, n.Num, 'g', -1, 64)
	case String:
		return appendString(dst, n.Str)
	case Array:
		dst = append(dst, '[')
		for i, item := range n.Items {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = item.AppendJSON(dst)
		}
		return append(dst, ']')
	case Object:
		dst = append(dst, '{')
		for i, m := range n.Members {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = append(appendString(dst, m.Key), ':')
			dst = m.Value.AppendJSON(dst)
		}
		return append(dst, '}')
	}
	return append(dst, "null"...)
}

// appendString quotes s (valid UTF-8) as JSON.
func appendString(dst []byte, s string) []byte {
	const hex = "0123456789abcdef"
	dst = append(dst, '"')
	for _, r := range s {
		switch {
		case r == '"', r == '\\':
			dst = append(dst, '\\', byte(r))
		case r == '\n':
			dst = append(dst, `\n`...)
		case r == '\t':
			dst = append(dst, `\t`...)
		case r < 0x20, r == 0x7F, r == 0x2028, r == 0x2029:
			dst = append(dst, '\\', 'u', hex[r>>12], hex[r>>8&15], hex[r>>4&15], hex[r&15])
		default:
			dst = utf8.AppendRune(dst, r)
		}
	}
	return append(dst, '"')
}
