package config

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// ErrAbsent says that there is nothing at the path that was to be removed.
var ErrAbsent = errors.New("not set in the file")

// Set returns raw with the value at path added or replaced by value, which is
// JSON5 text of one value; what stands around it there is not taken. Paths are
// those of Config.Get, in any document. Every other byte stays: a value that is
// there is replaced where it stands, a new key goes behind the last one of its
// object, in that object's style, and what is JSON stays JSON. Objects on the
// way are made. An element of a list is appended by the index behind its last
// one, or by a new id that nothing follows: anywhere else that may be a slip.
//
// A section that may be written in two places (gateway.logging and logging) is
// edited where the file has it, and where it has both, so that the new value wins.
func Set(raw []byte, path string, value []byte) ([]byte, error) {
	steps, err := parsePath(path)
	if err != nil {
		return nil, err
	}
	node, err := ParseJSON5(value)
	if err != nil {
		return nil, fmt.Errorf("value for %s: %w", path, err)
	}
	e, err := newEditor(raw)
	if err != nil {
		return nil, err
	}
	var places []place
	for _, steps := range e.spellings(steps) {
		p, err := e.walk(steps)
		if err != nil {
			return nil, err
		}
		places = append(places, p)
	}
	target := max(0, slices.IndexFunc(places, func(p place) bool { return len(p.rest) == 0 }))
	f, p := e.typed(value, node, node), places[target]
	if len(p.rest) > 0 || f.items == nil || !sameValue(p.at, node) { // else somebody may have laid it out
		if err := e.put(p, f); err != nil {
			return nil, err
		}
	}
	for _, p := range places[target+1:] {
		if node.Kind == Object && len(p.rest) == 0 {
			e.remove(p.in, p.i) // its keys would show through those that the value lacks
		}
	}
	return e.result()
}

// Unset returns raw without the key or element at path, its comma, and the
// comments on the lines that it begins or ends on. Comments on lines of their
// own stay, since they may be about more than this key; so does the object
// around it, even when that is empty now. The error is ErrAbsent when there is
// nothing at path. What stands in two places (see Set) is removed from both.
func Unset(raw []byte, path string) ([]byte, error) {
	steps, err := parsePath(path)
	if err != nil {
		return nil, err
	}
	e, err := newEditor(raw)
	if err != nil {
		return nil, err
	}
	for _, steps := range e.spellings(steps) {
		p, err := e.walk(steps)
		if err != nil {
			return nil, err
		}
		short := shortKey(p.typ)
		if len(p.rest) == 0 || len(p.rest) == 1 && p.at.Kind == String && short != "" && p.rest[0].key == short {
			e.remove(p.in, p.i)
		}
	}
	if len(e.plans) == 0 {
		return raw, fmt.Errorf("%s: %w", path, ErrAbsent)
	}
	return e.result()
}

// step is one key, index or id of a path.
type step struct {
	key             string
	bracket, quoted bool   // how it was written
	upTo            string // the path as far as here
}

// index reports whether the step is an index where it meets a list.
func (s step) index() (int, bool) {
	i, err := strconv.Atoi(s.key)
	return i, err == nil && !s.quoted
}

func parsePath(path string) ([]step, error) {
	keys, ok := splitPath(path)
	if !ok || len(keys) == 0 {
		return nil, fmt.Errorf("%w: %q is not a path such as gateway.port or agents.list[0].id", ErrUnknownPath, path)
	}
	steps, at := make([]step, len(keys)), 0
	for i, key := range keys {
		if !utf8.ValidString(key) {
			return nil, fmt.Errorf("%w: %q is not valid UTF-8", ErrUnknownPath, path)
		}
		s := step{key: key, bracket: path[at] == '['}
		switch quoted, err := strconv.QuotedPrefix(path[at+1:]); {
		case s.bracket && err == nil:
			s.quoted = true
			at += len(quoted) + 2
		case s.bracket:
			at += len(key) + 2
		default:
			at += len(key) + len(path[at:]) - len(strings.TrimPrefix(path[at:], "."))
		}
		s.upTo = path[:at]
		steps[i] = s
	}
	return steps, nil
}

// spellings are the paths where the file may have what steps lead to, the
// winning one first.
func (e *editor) spellings(steps []step) [][]step {
	for _, a := range aliases {
		for _, spelt := range []string{a.key, a.same} {
			rest, ok := cutSection(steps, spelt)
			if !ok {
				continue
			}
			var all [][]step
			for _, section := range []string{a.wins, a.loses()} {
				if lookup(e.root, section) != nil {
					head, _ := parsePath(section)
					all = append(all, append(head, rest...))
				}
			}
			if len(all) > 0 {
				return all
			}
		}
	}
	return [][]step{steps}
}

func (a alias) loses() string {
	if a.wins == a.same {
		return a.key
	}
	return a.same
}

// cutSection takes the section's keys from the front of steps.
func cutSection(steps []step, section string) (rest []step, ok bool) {
	keys := strings.Split(section, ".")
	if len(steps) < len(keys) || !slices.EqualFunc(steps[:len(keys)], keys, func(s step, key string) bool { return s.key == key }) {
		return nil, false
	}
	return steps[len(keys):], true
}

// place is how far a path leads into a text.
type place struct {
	at   *Node // the deepest value on the path
	in   *Node // what holds it, as its member or element i; nil for the root
	i    int
	typ  reflect.Type // of at in the table; nil where the table has nothing
	last step         // that led to at
	rest []step       // that lead on from at, where nothing is
}

func (e *editor) walk(steps []step) (place, error) {
	p := place{at: e.root, typ: reflect.TypeFor[Config](), rest: steps}
	for len(p.rest) > 0 {
		s, i := p.rest[0], -1
		switch p.at.Kind {
		case Object:
			i = slices.IndexFunc(p.at.Members, func(m Member) bool { return m.Key == s.key })
		case Array:
			var err error
			if i, err = element(p.at, s); err != nil {
				return p, err
			}
		}
		if i < 0 {
			break
		}
		p.in, p.i, p.last, p.rest = p.at, i, s, p.rest[1:]
		p.at, p.typ = child(p.in, i), below(p.typ, s.key)
	}
	return p, nil
}

func child(n *Node, i int) *Node {
	if n.Kind == Array {
		return n.Items[i]
	}
	return n.Members[i].Value
}

// element finds the element of a list that a step means: by index, else by
// id. It is -1 when there is none.
func element(list *Node, s step) (int, error) {
	if i, ok := s.index(); ok && 0 <= i && i < len(list.Items) {
		return i, nil
	}
	found := -1
	for i, item := range list.Items {
		if s.key != "" && item.text("id") == s.key {
			if found >= 0 {
				return -1, fmt.Errorf("%s: two elements have this id; name one by its index", s.upTo)
			}
			found = i
		}
	}
	return found, nil
}

// below is the type of what key leads to from a value of type t; nil when the
// table does not have it.
func below(t reflect.Type, key string) reflect.Type {
	if t == nil {
		return nil
	}
	switch shapeOf(t) {
	case shapeStruct:
		if f := findField(fieldsOf(t), key); f != nil {
			return f.typ
		}
	case shapeList, shapeMap, shapeTexts, shapeSecrets:
		return t.Elem()
	}
	return nil
}

// shortKey is the key that a plain string stands for in place of an object of
// type t; "" when it stands for none.
func shortKey(t reflect.Type) string {
	if t != nil && shapeOf(t) == shapeStruct {
		for _, f := range fieldsOf(t) {
			if f.short {
				return f.key
			}
		}
	}
	return ""
}

// put writes value where p leads to.
func (e *editor) put(p place, value fresh) error {
	if len(p.rest) == 0 {
		if _, byIndex := p.last.index(); p.in.Kind == Array && !byIndex {
			var err error
			if value, err = withID(p.last, value); err != nil {
				return err
			}
		}
		e.replace(p.at, value)
		return nil
	}
	next := p.rest[0]
	switch p.at.Kind {
	case Object:
		inner, err := build(p.rest[1:], below(p.typ, next.key), value)
		if err != nil {
			return err
		}
		inner.key = next.key
		e.add(p.at, inner)
		return nil
	case Array:
		inner, err := newElement(p.at, p.rest, p.typ, value)
		if err != nil {
			return err
		}
		e.add(p.at, inner)
		return nil
	case String:
		short := shortKey(p.typ)
		if short == "" || short == next.key && len(p.rest) > 1 {
			break
		}
		if short == next.key {
			e.replace(p.at, value)
			return nil
		}
		inner, err := build(p.rest[1:], below(p.typ, next.key), value)
		if err != nil {
			return err
		}
		inner.key = next.key
		e.unfold(p.at, short, inner)
		return nil
	}
	where := "the file"
	if p.in != nil {
		where = p.last.upTo
	}
	return fmt.Errorf("%s is %s: there is no place for %s in it", where, p.at.Kind, next.upTo)
}

// unfold writes out the object that a short form stands for, with items added.
func (e *editor) unfold(n *Node, short string, items ...fresh) {
	first := fresh{key: short, kind: String, text: e.raw[n.Start:n.End]}
	e.replace(n, fresh{kind: Object, items: append([]fresh{first}, items...)})
}

// build wraps value into the objects and lists that rest leads through. What
// an unquoted word in brackets leads into is a list, unless the table says otherwise.
func build(rest []step, t reflect.Type, value fresh) (fresh, error) {
	if len(rest) == 0 {
		return value, nil
	}
	s := rest[0]
	list := s.bracket && !s.quoted
	if t != nil {
		switch shapeOf(t) {
		case shapeList, shapeTexts:
			list = true
		case shapeStruct, shapeMap, shapeSecrets:
			list = false
		}
	}
	if list {
		inner, err := newElement(&Node{Kind: Array}, rest, t, value)
		return fresh{kind: Array, items: []fresh{inner}}, err
	}
	inner, err := build(rest[1:], below(t, s.key), value)
	inner.key = s.key
	return fresh{kind: Object, items: []fresh{inner}}, err
}

// newElement is what to append to a list for a path to lead to value: the
// index must be the one behind the last, an id must be possible.
func newElement(list *Node, rest []step, t reflect.Type, value fresh) (fresh, error) {
	s := rest[0]
	inner, err := build(rest[1:], below(t, s.key), value)
	if i, ok := s.index(); ok {
		if i != len(list.Items) {
			err = fmt.Errorf("%s: the list has %d elements", s.upTo, len(list.Items))
		}
		return inner, err
	}
	if err != nil {
		return inner, err
	}
	if slices.ContainsFunc(list.Items, func(item *Node) bool { return item.text("id") == "" }) || t != nil && shapeOf(t) != shapeList {
		return inner, fmt.Errorf("%s: no element has this id, and the list is none of objects with ids", s.upTo)
	}
	if ids := idsOf(list); len(rest) > 1 && len(ids) > 0 {
		return inner, fmt.Errorf("%s: no element has this id%s; there are %s", s.upTo, suggest(s.key, ids), strings.Join(ids, ", "))
	}
	return withID(s, inner)
}

// idsOf are those of a list's first elements, as they are written in paths.
func idsOf(list *Node) (ids []string) {
	for _, item := range list.Items[:min(len(list.Items), maxTold)] {
		ids = append(ids, strings.Trim(joinID("", item.text("id")), "[]"))
	}
	return ids
}

// withID makes sure that a value for the element s of a list has that id.
func withID(s step, value fresh) (fresh, error) {
	if value.kind != Object {
		return value, fmt.Errorf("%s: must be an object, not %s", s.upTo, value.kind)
	}
	id := fresh{key: "id", kind: String, text: appendString(nil, s.key)}
	has, typed := []byte("{}"), value.text != nil
	if i := slices.IndexFunc(value.items, func(f fresh) bool { return f.key == "id" }); typed {
		has = value.text
	} else if i >= 0 {
		has = append(append([]byte("{id:"), value.items[i].text...), '}')
	}
	n, err := ParseJSON5(has)
	switch {
	case err != nil || n.Get("id") != nil && n.text("id") != s.key:
		err = fmt.Errorf("%s: the element would get another id", s.upTo)
	case n.Get("id") != nil:
	case typed && n.len() > 0:
		if value.text, err = Set(value.text, "id", id.text); value.items != nil {
			value.items = append(value.items, id)
		}
	default:
		value.text, value.items = nil, append([]fresh{id}, value.items...)
	}
	return value, err
}
