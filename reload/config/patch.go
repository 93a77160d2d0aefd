package config

import (
	"bytes"
	"fmt"
	"reflect"
	"slices"
)

// Patch returns raw merged with patch, a JSON5 object, as RFC 7396 says: null
// removes, objects merge, anything else replaces, lists included. What the
// patch does not change keeps its bytes, and so does a value that is the same
// already. Beyond the RFC, a section that may be written in two places is
// merged into the one that the file has, unless the patch has both, and a
// model that is a plain string is the object it stands for.
func Patch(raw, patch []byte) ([]byte, error) {
	p, err := ParseJSON5(patch)
	if err != nil {
		return nil, fmt.Errorf("patch: %w", err)
	}
	if p.Kind != Object {
		return nil, fmt.Errorf("patch: must be an object, not %s", p.Kind)
	}
	e, err := newEditor(raw)
	if err != nil {
		return nil, err
	}
	if e.root.Kind != Object {
		return nil, fmt.Errorf("the file is %s: a patch needs an object", e.root.Kind)
	}
	m := &merger{editor: e, patch: patch, root: p, moved: map[*Node]bool{}, own: &editor{raw: patch, root: p}}
	m.sections()
	m.object(e.root, p, reflect.TypeFor[Config]())
	return e.result()
}

type merger struct {
	*editor
	patch []byte
	root  *Node          // of patch
	moved map[*Node]bool // values of the patch that go elsewhere than where they stand
	own   *editor        // of patch
}

// sections merges those that the patch spells in one way and the file in another.
func (m *merger) sections() {
	for _, a := range aliases {
		spelt, other := a.key, a.same
		p, q := lookup(m.root, spelt), lookup(m.root, other)
		if (p == nil) == (q == nil) {
			continue
		}
		if p == nil {
			p, spelt, other = q, other, spelt
		}
		there, _ := m.walk(mustPath(other))
		own, _ := m.walk(mustPath(spelt))
		if len(there.rest) > 0 || m.overrides(other) {
			continue
		}
		m.moved[p] = true
		winner, loser := own, there
		if len(own.rest) > 0 {
			winner, loser = there, place{}
		} else if a.wins == other {
			winner, loser = there, own
		}
		switch {
		case p.Kind == Object && winner.at.Kind == Object && loser.at != nil && loser.at.Kind == Object:
			m.both(winner.at, loser.at, p)
		default:
			if p.Kind == Null && loser.at != nil {
				m.remove(loser.in, loser.i)
			}
			m.value(winner.in, winner.i, p, winner.typ)
		}
	}
}

func mustPath(section string) []step {
	steps, _ := parsePath(section)
	return steps
}

// overrides reports whether the patch replaces or removes what the section stands in.
func (m *merger) overrides(section string) bool {
	n := m.root
	for _, s := range mustPath(section) {
		if n.Kind != Object {
			return true
		}
		if n = n.Get(s.key); n == nil {
			return false
		}
	}
	return false
}

// both merges p into a section that stands in two places: each key where it
// is, or where it wins.
func (m *merger) both(winner, loser, p *Node) {
	for _, pm := range p.Members {
		w, l := m.find(winner, pm.Key), m.find(loser, pm.Key)
		switch {
		case w < 0 && l >= 0:
			m.value(loser, l, pm.Value, nil)
		case w >= 0 && l >= 0 && pm.Value.Kind == Null:
			m.remove(winner, w)
			m.remove(loser, l)
		case w >= 0 && l >= 0 && pm.Value.Kind == Object && child(winner, w).Kind == Object && child(loser, l).Kind == Object:
			m.both(child(winner, w), child(loser, l), pm.Value)
		default:
			m.member(winner, pm, nil)
		}
	}
}

func (m *merger) object(n, p *Node, t reflect.Type) {
	for _, pm := range p.Members {
		if !m.moved[pm.Value] {
			m.member(n, pm, below(t, pm.Key))
		}
	}
}

// member merges one member of the patch into n; t is the type of its value.
func (m *merger) member(n *Node, pm Member, t reflect.Type) {
	if i := m.find(n, pm.Key); i >= 0 {
		m.value(n, i, pm.Value, t)
		return
	}
	if pm.Value.Kind == Null {
		return
	}
	f := m.fresh(pm.Value)
	if f.key = pm.Key; f.text == nil && len(f.items) == 0 && slices.ContainsFunc(pm.Value.Members, func(o Member) bool { return m.moved[o.Value] }) {
		return // all of it went elsewhere
	}
	m.add(n, f)
}

// value merges p into the member i of n.
func (m *merger) value(n *Node, i int, p *Node, t reflect.Type) {
	switch c := child(n, i); {
	case p.Kind == Null:
		m.remove(n, i)
	case p.Kind == Object && c.Kind == Object:
		m.object(c, p, t)
	case p.Kind == Object && c.Kind == String && shortKey(t) != "":
		m.short(n, i, p, shortKey(t))
	case !sameValue(c, p):
		m.replace(c, m.fresh(p))
	}
}

// short merges p into a string that stands for an object with this one key.
func (m *merger) short(n *Node, i int, p *Node, key string) {
	set, others := p.Get(key), []fresh(nil)
	for _, pm := range p.Members {
		if pm.Key != key && pm.Value.Kind != Null {
			item := m.fresh(pm.Value)
			item.key = pm.Key
			others = append(others, item)
		}
	}
	switch {
	case len(others) == 0 && set != nil:
		m.value(n, i, set, nil)
	case len(others) > 0 && set == nil:
		m.unfold(child(n, i), key, others...)
	case len(others) > 0:
		m.replace(child(n, i), m.fresh(p))
	}
}

// fresh is a value of the patch without its nulls. An object that somebody
// laid out, with lines or comments, is written so, another as the file is.
func (m *merger) fresh(p *Node) fresh {
	if p.Kind != Object {
		return m.typed(m.patch, m.root, p)
	}
	if !m.strict && laidOut(m.patch, m.root, p) {
		text := m.patch[p.Start:p.End]
		m.own.plans = map[*Node]*plan{}
		m.strip(p)
		var edits []edit
		for n, pl := range m.own.plans {
			for _, e := range m.own.rework(n, pl) {
				edits = append(edits, edit{e.start - p.Start, e.end - p.Start, e.text})
			}
		}
		return fresh{kind: Object, text: splice(text, sortEdits(edits))}
	}
	f := fresh{kind: Object}
	for _, pm := range p.Members {
		if pm.Value.Kind != Null && !m.moved[pm.Value] {
			item := m.fresh(pm.Value)
			item.key = pm.Key
			f.items = append(f.items, item)
		}
	}
	return f
}

// strip takes out of p what a merge with nothing leaves out.
func (m *merger) strip(p *Node) {
	for i, pm := range p.Members {
		if pm.Value.Kind == Null || m.moved[pm.Value] {
			m.own.remove(p, i)
		} else {
			m.strip(pm.Value)
		}
	}
}

// sameValue reports whether two values mean the same, in whatever order their keys are.
func sameValue(a, b *Node) bool {
	if a.Kind != b.Kind || a.len() != b.len() {
		return false
	}
	switch a.Kind {
	case Object:
		others := b.byKey()
		for _, m := range a.Members {
			if o := others[m.Key]; o == nil || !sameValue(m.Value, o) {
				return false
			}
		}
		return true
	case Array:
		return slices.EqualFunc(a.Items, b.Items, sameValue)
	}
	return bytes.Equal(a.AppendJSON(nil), b.AppendJSON(nil))
}
