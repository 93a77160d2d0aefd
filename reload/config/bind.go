package config

import (
	"reflect"
	"slices"
	"strconv"
	"strings"
)

// binder puts nodes into a Config. A problem does not stop it: the key keeps
// its default and the next one is read.
type binder struct {
	file               string
	src                Source
	problems, warnings Problems
	untold             int              // problems and warnings beyond maxTold
	at                 map[string]*Node // every key of ours that the file has, by path

	providers []string                   // that a model may name
	listed    map[string]map[string]bool // by provider, the ids of its models

	groupPolicy string // of channels.defaults
}

// maxTold bounds the problems, and the warnings, that are told one by one.
const maxTold = 200

func (b *binder) problem(path string, n *Node, msg string) { b.tell(&b.problems, path, n, msg) }
func (b *binder) warn(path string, n *Node, msg string)    { b.tell(&b.warnings, path, n, msg) }

func (b *binder) tell(list *Problems, path string, n *Node, msg string) {
	if len(*list) == maxTold {
		b.untold++
		return
	}
	p := Problem{File: b.file, Path: path, Msg: msg}
	if n != nil {
		p.Line, p.Column = n.Line, n.Column
	}
	*list = append(*list, p)
}

// told returns what was collected, in the file's order.
func (b *binder) told() (problems, warnings Problems) {
	problems, warnings = b.problems.sorted(), b.warnings.sorted()
	if last := &problems; b.untold > 0 {
		if len(problems) == 0 {
			last = &warnings
		}
		*last = append(*last, Problem{File: b.file, Msg: "and " + strconv.Itoa(b.untold) + " more"})
	}
	return problems, warnings
}

// suggest is " (did you mean x?)" when a candidate is near.
func (b *binder) suggest(word string, candidates []string) string {
	if len(b.problems) == maxTold || len(b.warnings) == maxTold {
		return "" // the message will not be told
	}
	return suggest(word, candidates)
}

type alias struct{ key, same, wins string }

// aliases are sections that may be written in two places. Where both say
// something different, the one named wins is used.
var aliases = [...]alias{
	{"gateway.reload", "gateway.hotReload", "gateway.hotReload"},
	{"gateway.logging", "logging", "gateway.logging"},
}

// object binds the members of n to the fields of the struct v. Path is as
// written; pattern is the same with [] and * for elements, and with aliases
// replaced, as the tables write it.
func (b *binder) object(path, pattern string, n *Node, v reflect.Value) {
	fields := fieldsOf(v.Type())
	if n.Kind != Object {
		for _, f := range fields {
			word := n
			if n.Kind == Bool && strings.HasSuffix(pattern, ".streaming") {
				word = &Node{Kind: String, Line: n.Line, Column: n.Column, Str: map[bool]string{true: "partial", false: "off"}[n.Bool]}
			}
			if f.short && word.Kind == String {
				b.leaf(path, joinKey(pattern, f.key), word, v.FieldByIndex(f.index), &f)
				return
			}
		}
		b.problem(path, n, "must be an object, not "+n.Kind.String())
		return
	}
	for _, m := range n.Members {
		at, canonical := joinKey(path, m.Key), joinKey(pattern, m.Key)
		if f := findField(fields, m.Key); f != nil {
			b.value(at, canonical, m.Value, v.FieldByIndex(f.index), f)
		} else if !isAlias(canonical) && !b.tolerated(at, pattern, &m) {
			b.unknown(at, &m, fields, pattern == "")
		}
	}
	for _, f := range fields {
		if f.required && n.Get(f.key) == nil {
			b.problem(joinKey(path, f.key), n, "is required")
		}
	}
	// The root and gateway have been read: now what may also stand elsewhere.
	if pattern == "" {
		b.aliased(n, v)
	}
}

func isAlias(pattern string) bool {
	return slices.ContainsFunc(aliases[:], func(a alias) bool { return a.key == pattern })
}

// aliased binds the sections found under an alias, the winner last.
func (b *binder) aliased(root *Node, v reflect.Value) {
	for _, a := range aliases {
		n := lookup(root, a.key)
		if n == nil {
			continue
		}
		section := v
		for _, key := range strings.Split(a.same, ".") {
			section = section.FieldByIndex(findField(fieldsOf(section.Type()), key).index)
		}
		b.object(a.key, a.same, n, section)
		if other := lookup(root, a.same); other != nil {
			if a.wins == a.same {
				// Once more on top, without telling its problems twice.
				again := &binder{file: b.file, src: b.src, at: map[string]*Node{}}
				again.object(a.same, a.same, other, section)
			}
			b.differences(a.key, n, a.same, other, a.wins)
		}
	}
}

// differences warns of each key that both sections have with different values.
func (b *binder) differences(pathX string, x *Node, pathY string, y *Node, wins string) {
	if x.Kind == Object && y.Kind == Object {
		others := y.byKey()
		for _, m := range x.Members {
			if o := others[m.Key]; o != nil {
				b.differences(joinKey(pathX, m.Key), m.Value, joinKey(pathY, m.Key), o, wins)
			}
		}
		return
	}
	if string(x.AppendJSON(nil)) != string(y.AppendJSON(nil)) {
		b.warn(pathX, x, "differs from "+pathY+", which is the same setting; "+wins+" wins")
	}
}

func lookup(n *Node, path string) *Node {
	for _, key := range strings.Split(path, ".") {
		if n = n.Get(key); n == nil {
			return nil
		}
	}
	return n
}

func (b *binder) unknown(path string, m *Member, fields []field, top bool) {
	key := &Node{Line: m.Line, Column: m.Column}
	if m.Key == "$include" {
		b.problem(path, key, "includes are not supported; write everything into one file")
		return
	}
	names := make([]string, 0, len(fields)+1)
	for _, f := range fields {
		names = append(names, f.key)
	}
	if top {
		for _, a := range aliases {
			names = append(names, a.key)
		}
	}
	hint := b.suggest(m.Key, names)
	if hint == "" && len(b.problems) < maxTold {
		// Perhaps a known key in the wrong section.
		walk(reflect.TypeFor[Config](), "", func(pattern string, f *field, _ shape) {
			if hint == "" && f.key == m.Key && !strings.ContainsAny(pattern, "[*") {
				hint = " (did you mean " + pattern + "?)"
			}
		})
	}
	b.problem(path, key, "unknown key"+hint)
}

func (b *binder) value(path, pattern string, n *Node, v reflect.Value, f *field) {
	switch shapeOf(f.typ) {
	case shapeStruct:
		b.object(path, pattern, n, v)
	case shapeList:
		if n.Kind != Array {
			b.problem(path, n, "must be a list, not "+n.Kind.String())
			return
		}
		list := reflect.MakeSlice(f.typ, len(n.Items), len(n.Items))
		for i, item := range n.Items {
			at := joinIndex(path, i)
			b.at[at] = item
			setDefaults(list.Index(i))
			b.object(at, pattern+"[]", item, list.Index(i))
		}
		v.Set(list)
	case shapeMap:
		if n.Kind != Object {
			b.problem(path, n, "must be an object, not "+n.Kind.String())
			return
		}
		all := reflect.MakeMap(f.typ)
		for _, m := range n.Members {
			at := joinKey(path, m.Key)
			if b.toleratedElement(at, pattern, &m) {
				continue
			}
			b.at[at] = m.Value
			one := reflect.New(f.typ.Elem()).Elem()
			setDefaults(one)
			b.object(at, pattern+".*", m.Value, one)
			all.SetMapIndex(reflect.ValueOf(m.Key), one)
		}
		v.Set(all)
	default:
		b.leaf(path, pattern, n, v, f)
	}
}

func (b *binder) leaf(path, pattern string, n *Node, v reflect.Value, f *field) {
	b.at[path] = n
	switch s := shapeOf(f.typ); s {
	case shapeText:
		if text, ok := b.stringOf(path, n); ok {
			if text, ok = b.word(path, pattern, n, f, text); ok {
				v.SetString(text)
			}
		}
	case shapeSecret:
		if secret, ok := b.secretOf(path, n); ok {
			v.Set(reflect.ValueOf(secret))
		}
	case shapeBool:
		if n.Kind != Bool {
			b.problem(path, n, "must be true or false, not "+n.Kind.String())
			return
		}
		v.SetBool(n.Bool)
	case shapeInt, shapeMillis, shapeFloat:
		b.number(path, n, v, f, s)
	case shapeSize:
		b.size(path, n, v, f)
	case shapeTexts:
		if n.Kind != Array {
			b.problem(path, n, "must be a list of strings, not "+n.Kind.String())
			return
		}
		list := make([]string, 0, len(n.Items))
		for i, item := range n.Items {
			at := joinIndex(path, i)
			b.at[at] = item
			people := strings.HasSuffix(pattern, "llowFrom")
			if item.Kind == Number && people && isInteger(item.Str) { // ids of some networks are numbers
				list = append(list, b.sender(at, item, item.Str))
			} else if text, ok := b.stringOf(at, item); ok {
				if people {
					text = b.sender(at, item, text)
				}
				list = append(list, text)
			}
		}
		v.Set(reflect.ValueOf(list))
	case shapeSecrets:
		if n.Kind != Object {
			b.problem(path, n, "must be an object of strings, not "+n.Kind.String())
			return
		}
		all := make(map[string]Secret, len(n.Members))
		for _, m := range n.Members {
			at := joinKey(path, m.Key)
			b.at[at] = m.Value
			if secret, ok := b.secretOf(at, m.Value); ok {
				all[m.Key] = secret
			}
		}
		v.Set(reflect.ValueOf(all))
	}
}

func (b *binder) stringOf(path string, n *Node) (string, bool) {
	if n.Kind != String {
		b.problem(path, n, "must be a string, not "+n.Kind.String())
		return "", false
	}
	return b.text(path, n)
}

func (b *binder) secretOf(path string, n *Node) (Secret, bool) {
	if n.Kind != String {
		b.problem(path, n, "must be a string, not "+n.Kind.String())
		return Secret{}, false
	}
	return b.secret(path, n)
}

// word checks a text against oneof.
func (b *binder) word(path, pattern string, n *Node, f *field, text string) (string, bool) {
	if f.oneOf == nil || slices.Contains(f.oneOf, text) {
		return text, true
	}
	for _, w := range olderWords {
		if w.pattern == pattern && w.word == text {
			b.warn(path, n, w.msg)
			return w.means, true
		}
	}
	msg := "must be " + anyOf(f.oneOf)
	if near := Nearest(text, f.oneOf); near != "" && len(f.oneOf) > 1 {
		msg += " (did you mean " + near + "?)"
	} else if f.why != "" {
		msg += ": " + f.why
	}
	b.problem(path, n, msg)
	return "", false
}

// anyOf is "a, b or c".
func anyOf(words []string) string {
	last := len(words) - 1
	if last == 0 {
		return words[0]
	}
	return strings.Join(words[:last], ", ") + " or " + words[last]
}

func (b *binder) number(path string, n *Node, v reflect.Value, f *field, s shape) {
	if n.Kind != Number {
		b.problem(path, n, "must be a number, not "+n.Kind.String())
		return
	}
	if s == shapeFloat {
		// The comparison is also false for NaN, and no bounds admit Infinity.
		low, _ := strconv.ParseFloat(f.min, 64)
		high, _ := strconv.ParseFloat(f.max, 64)
		if !(low <= n.Num && n.Num <= high) {
			b.problem(path, n, "must be between "+f.min+" and "+f.max)
			return
		}
		v.SetFloat(n.Num)
		return
	}
	i, ok := n.Integer()
	if !ok {
		b.problem(path, n, "must be a whole number between "+f.min+" and "+f.max)
		return
	}
	if !f.within(i) {
		b.problem(path, n, "must be between "+f.min+" and "+f.max)
		return
	}
	v.SetInt(i)
}

func (f *field) within(i int64) bool {
	low, _ := strconv.ParseInt(f.min, 10, 64)
	high, _ := strconv.ParseInt(f.max, 10, 64)
	return low <= i && i <= high
}

func (b *binder) size(path string, n *Node, v reflect.Value, f *field) {
	size, ok := Size(0), false
	switch n.Kind {
	case Number:
		var i int64
		i, ok = n.Integer()
		size = Size(i)
	case String:
		var text string
		if text, ok = b.text(path, n); !ok {
			return
		}
		size, ok = parseSize(text)
	}
	switch low, high := f.sizes(); {
	case !ok:
		b.problem(path, n, "must be a size: bytes, or a string such as \"100M\"")
	case !f.within(int64(size)):
		b.problem(path, n, "must be between "+low.String()+" and "+high.String())
	default:
		v.SetInt(int64(size))
	}
}

func (f *field) sizes() (low, high Size) {
	low, _ = parseSize(f.min)
	high, _ = parseSize(f.max)
	return low, high
}
