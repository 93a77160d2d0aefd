package config

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// scribe writes random JSON5 documents in random hands.
type scribe struct {
	*rand.Rand
	newline  string
	comments int // one gap in so many has one; 0: none
	b        strings.Builder
}

func (s *scribe) one(words ...string) string { return words[s.IntN(len(words))] }

func (s *scribe) document() []byte {
	s.newline, s.comments = s.one("\n", "\n", "\r\n", "\r"), s.IntN(8)
	s.b.Reset()
	if s.IntN(8) == 0 { // as other programs write it
		text := s.document()
		s.b.Reset()
		if root, err := ParseJSON5(text); err == nil && !bytes.Contains(text, []byte("Infinity")) && !bytes.Contains(text, []byte("NaN")) {
			var b bytes.Buffer
			json.Indent(&b, root.AppendJSON(nil), "", s.one("  ", "\t", "    "))
			return b.Bytes()
		}
		return text
	}
	s.b.WriteString(s.one("", "", "\ufeff"))
	s.gap(0)
	s.object(0, s.one("block", "block", "line", "any"), "")
	s.gap(0)
	return []byte(s.b.String())
}

func (s *scribe) gap(depth int) {
	s.b.WriteString(s.one("", "", " ", "  ", "\t", "\u00a0", s.newline, s.newline+strings.Repeat("  ", depth)))
	if s.comments > 0 && s.IntN(s.comments) == 0 {
		s.b.WriteString(s.one("/* b */", "/**/", "/* it's "+s.newline+"  two */", "// l, \"x {"+s.newline, "//"+s.newline, " // }"+s.newline+s.newline))
		s.b.WriteString(s.one("", " ", s.newline))
	}
}

func (s *scribe) key() string {
	return s.one("a", "b", "c", "d", "e", "$f", "_g", "null", "ünï", "", "h i", "j.k", "l\"m'", "7", "n-o", "new\nline", "[x]")
}

func (s *scribe) writeKey(key string) {
	st := style{bare: s.IntN(3) > 0, quote: "\"'"[s.IntN(2)]}
	s.b.Write(st.appendKey(nil, key))
}

func (s *scribe) scalar() string {
	return s.one("1", "-2.5", "0x1F", ".5", "1e3", "Infinity", "NaN", "true", "false", "null", `"x"`, `'it"s'`, `"${VAR}"`, `"a\`+"\n"+`  b"`, `'\x41\u00e9'`, `"// no"`, `""`)
}

func (s *scribe) value(depth int, hand, indent string) {
	switch k := s.IntN(10); {
	case depth < 5 && k < 3:
		s.object(depth, hand, indent)
	case depth < 5 && k < 5:
		s.list(depth, hand, indent)
	default:
		s.b.WriteString(s.scalar())
	}
}

// parts writes n things between brackets in a hand: a line for each, all on
// one, or with anything anywhere.
func (s *scribe) parts(open, end string, n, depth int, hand, indent string, write func(i int)) {
	s.b.WriteString(open)
	inner, trailing := indent+"  ", s.IntN(2) == 0
	for i := range n {
		switch hand {
		case "block":
			s.b.WriteString(s.newline)
			if s.comments > 0 && s.IntN(s.comments) == 0 {
				s.b.WriteString(inner + "// above" + s.newline)
			}
			s.b.WriteString(inner)
		case "line":
			s.b.WriteString(" ")
		default:
			s.gap(depth)
		}
		write(i)
		if hand == "any" {
			s.gap(depth)
		}
		if i < n-1 || trailing {
			s.b.WriteString(",")
		}
		if hand == "block" && s.comments > 0 && s.IntN(s.comments) == 0 {
			s.b.WriteString(s.one(" // behind", " /* behind */", "/* two"+s.newline+"lines */"))
		}
	}
	switch {
	case hand == "any":
		s.gap(depth)
	case hand == "block" && (n > 0 || s.IntN(2) == 0):
		s.b.WriteString(s.newline + indent)
	case hand == "line" && n > 0:
		s.b.WriteString(" ")
	}
	s.b.WriteString(end)
}

func (s *scribe) hand(hand string) string {
	if hand == "block" && s.IntN(3) == 0 {
		return "line"
	}
	return hand
}

func (s *scribe) object(depth int, hand, indent string) {
	var keys []string
	for range s.IntN(5) {
		if k := s.key(); !slices.Contains(keys, k) {
			keys = append(keys, k)
		}
	}
	s.parts("{", "}", len(keys), depth, hand, indent, func(i int) {
		s.writeKey(keys[i])
		if hand == "any" {
			s.gap(depth)
		}
		s.b.WriteString(s.one(":", ": ", ": "))
		s.value(depth+1, s.hand(hand), indent+"  ")
	})
}

func (s *scribe) list(depth int, hand, indent string) {
	ids := s.IntN(2) == 0
	s.parts("[", "]", s.IntN(4), depth, hand, indent, func(i int) {
		if ids {
			fmt.Fprintf(&s.b, "{ id: \"e%d\", a:1 }", i)
		} else {
			s.value(depth+1, s.hand(hand), indent+"  ")
		}
	})
}

// meaning is a value as Go has it.
func meaning(n *Node) any {
	switch n.Kind {
	case Object:
		m := map[string]any{}
		for _, o := range n.Members {
			m[o.Key] = meaning(o.Value)
		}
		return m
	case Array:
		list := make([]any, len(n.Items))
		for i, item := range n.Items {
			list[i] = meaning(item)
		}
		return list
	case Null:
		return nil
	}
	return n.Kind.String() + string(n.AppendJSON(nil))
}

func mean(t *testing.T, text []byte) any {
	t.Helper()
	n, err := ParseJSON5(text)
	if err != nil {
		t.Fatalf("%v in:\n%s", err, text)
	}
	return meaning(n)
}

// at is one step of a path: a key, or an index with perhaps the id that is there.
type at struct {
	key string
	i   int
	id  string
}

func pathOf(steps []at) (path string) {
	for _, s := range steps {
		switch {
		case s.id != "":
			path = joinID(path, s.id)
		case s.i >= 0:
			path = joinIndex(path, s.i)
		default:
			path = joinKey(path, s.key)
		}
	}
	return path
}

// wander makes a path into a value, perhaps beyond it.
func (s *scribe) wander(n *Node) (steps []at) {
	for n != nil && (len(steps) == 0 || s.IntN(4) > 0) {
		next := at{i: -1}
		var below *Node
		switch n.Kind {
		case Object:
			if next.key = s.key(); len(n.Members) > 0 && s.IntN(4) > 0 {
				next.key = n.Members[s.IntN(len(n.Members))].Key
			}
			below = n.Get(next.key)
		case Array:
			if next.i = s.IntN(len(n.Items) + 1); next.i < len(n.Items) {
				below = n.Items[next.i]
				if s.IntN(2) == 0 {
					next.id = below.text("id")
				}
			}
		default:
			if s.IntN(8) > 0 {
				return steps
			}
			next.key = s.key()
		}
		steps, n = append(steps, next), below
	}
	for n == nil && s.IntN(3) == 0 {
		next := at{i: s.IntN(2) - 1}
		if next.i < 0 {
			next.key = s.key()
		}
		steps = append(steps, next)
	}
	return steps
}

// put is Set on what a text means.
func put(v any, steps []at, to any) (any, bool) {
	if len(steps) == 0 {
		return to, true
	}
	s := steps[0]
	switch v := v.(type) {
	case map[string]any:
		if s.i >= 0 {
			s.key = strconv.Itoa(s.i)
		}
		old, ok := v[s.key]
		if !ok {
			old = absent{}
		}
		inner, ok := put(old, steps[1:], to)
		v = maps.Clone(v)
		v[s.key] = inner
		return v, ok
	case []any:
		if s.i < 0 || s.i > len(v) {
			return nil, false
		}
		v, old := slices.Clone(v), any(absent{})
		if s.i == len(v) {
			v = append(v, nil)
		} else {
			old = v[s.i]
		}
		inner, ok := put(old, steps[1:], to)
		if m, isMap := inner.(map[string]any); ok && s.id != "" && len(steps) == 1 {
			if !isMap {
				return nil, false
			}
			if m["id"] == nil {
				m["id"] = Kind(String).String() + `"` + s.id + `"`
			}
		}
		v[s.i] = inner
		return v, ok
	case absent:
		if s.i >= 0 {
			return put([]any{}, steps, to)
		}
		return put(map[string]any{}, steps, to)
	}
	return nil, false
}

type absent struct{}

// tokens are what a text consists of besides white space, and where.
func tokens(text []byte) (all []span) {
	p := &parser{text: text}
	if bytes.HasPrefix(text, []byte("\ufeff")) {
		p.i = 3
	}
	for p.i < len(text) {
		start := p.i
		switch r, n := p.rune(); {
		case isSpace(r):
			p.i += n
			continue
		case r == '/':
			p.comment()
		case r == '"' || r == '\'':
			p.string()
		case strings.ContainsRune("{}[],:", r):
			p.i += n
		default:
			for r, n := p.rune(); n > 0 && !isSpace(r) && !strings.ContainsRune("{}[],:/\"'", r); r, n = p.rune() {
				p.i += n
			}
		}
		all = append(all, span{start, p.i})
	}
	return all
}

func texts(text []byte, spans []span) (all []string) {
	for _, s := range spans {
		all = append(all, string(text[s.start:s.end]))
	}
	return all
}

// inOrder reports whether the few stand among the many, in order.
func inOrder(few, many []string) bool {
	for _, m := range many {
		if len(few) > 0 && few[0] == m {
			few = few[1:]
		}
	}
	return len(few) == 0
}

// lacks reports whether a text is JSON, which has no place for what is in the other.
func lacks(raw, other []byte) bool {
	return json.Valid(raw) && (bytes.Contains(other, []byte("Infinity")) || bytes.Contains(other, []byte("NaN")))
}

// stays wants what is JSON to stay that.
func stays(t *testing.T, raw, out []byte) {
	t.Helper()
	if json.Valid(raw) && !json.Valid(out) {
		t.Errorf("no longer JSON\nof:\n%s\nto:\n%s", raw, out)
	}
}

// forDocuments runs check on many documents.
func forDocuments(t *testing.T, check func(t *testing.T, s *scribe, raw []byte, root *Node)) {
	for seed := range uint64(1000) {
		s := &scribe{Rand: rand.New(rand.NewPCG(seed, 3))}
		raw := s.document()
		root, err := ParseJSON5(raw)
		if err != nil {
			t.Fatalf("the scribe cannot write: %v\n%s", err, raw)
		}
		if check(t, s, raw, root); t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}

func TestSetProperty(t *testing.T) {
	done := map[string]int{}
	forDocuments(t, func(t *testing.T, s *scribe, raw []byte, root *Node) {
		steps := s.wander(root)
		path := pathOf(steps)
		s.b.Reset()
		s.value(3, s.one("line", "block", "any"), "")
		value := []byte(s.b.String())
		node, _ := ParseJSON5(value)
		want, possible := put(meaning(root), steps, meaning(node))
		out, err := Set(raw, path, value)
		possible = possible && !lacks(raw, value)
		if !possible || err != nil {
			if possible != (err == nil) && !strings.Contains(fmt.Sprint(err), "another id") {
				t.Errorf("%s = %s: %v\n%s", path, value, err, raw)
			}
			done["refused"]++
			return
		}
		stays(t, raw, out)
		if !reflect.DeepEqual(mean(t, out), want) {
			t.Errorf("%s = %s\nof:\n%s\ngives:\n%s", path, value, raw, out)
			return
		}
		again, err := Set(out, path, value)
		if n := len(steps); n > 1 && steps[n-2].id != "" && steps[n-1].key == "id" {
			again, err = out, nil // the element has been renamed
		}
		if err != nil || !bytes.Equal(again, out) {
			t.Errorf("%s = %s twice: %v\nonce:\n%s\ntwice:\n%s", path, value, err, out, again)
		}
		e := &editor{root: root}
		keys, _ := parsePath(path)
		if p, _ := e.walk(keys); len(p.rest) == 0 {
			done["replaced"]++
			if !bytes.HasPrefix(out, raw[:p.at.Start]) || !bytes.HasSuffix(out, raw[p.at.End:]) {
				t.Errorf("%s = %s: more than the value changes\nof:\n%s\nto:\n%s", path, value, raw, out)
			}
			return
		}
		done["added"]++
		if !inOrder(texts(raw, tokens(raw)), texts(out, tokens(out))) {
			t.Errorf("%s = %s: something is gone\nof:\n%s\nto:\n%s", path, value, raw, out)
		}
	})
	if done["refused"] < 10 || done["replaced"] < 150 || done["added"] < 150 {
		t.Error(done)
	}
}

func TestUnsetProperty(t *testing.T) {
	done := 0
	forDocuments(t, func(t *testing.T, s *scribe, raw []byte, root *Node) {
		steps := s.wander(root)
		path := pathOf(steps)
		keys, _ := parsePath(path)
		p, _ := (&editor{root: root}).walk(keys)
		out, err := Unset(raw, path)
		if len(p.rest) > 0 {
			if err == nil || !bytes.Equal(out, raw) || !strings.Contains(err.Error(), "not set in the file") {
				t.Errorf("%s: %v\n%s", path, err, raw)
			}
			return
		}
		if err != nil {
			t.Errorf("%s: %v\n%s", path, err, raw)
			return
		}
		done++
		stays(t, raw, out)
		start, end := p.in.startOf(p.i), p.at.End
		if p.in.Kind == Array {
			p.in.Items = slices.Delete(p.in.Items, p.i, p.i+1)
		} else {
			p.in.Members = slices.Delete(p.in.Members, p.i, p.i+1)
		}
		if !reflect.DeepEqual(mean(t, out), meaning(root)) {
			t.Errorf("%s: wrong\nof:\n%s\nto:\n%s", path, raw, out)
			return
		}
		// The lines that the member begins and ends on.
		first := 1 + bytes.LastIndexAny(raw[:start], "\r\n")
		last := len(raw)
		if i := bytes.IndexAny(raw[end:], "\r\n"); i >= 0 {
			last = end + i
		}
		var others []span
		for _, token := range tokens(raw) {
			comment := raw[token.start] == '/' && token.start < last && token.end > first
			if (token.end <= start || token.start >= end) && !comment && raw[token.start] != ',' {
				others = append(others, token)
			}
		}
		left := texts(out, tokens(out))
		if !inOrder(texts(raw, others), left) || !inOrder(left, texts(raw, tokens(raw))) {
			t.Errorf("%s: takes more than its own\nof:\n%s\nto:\n%s", path, raw, out)
		}
	})
	if done < 300 {
		t.Error(done)
	}
}

// merge is RFC 7396 as it is written there.
func merge(target, patch any) any {
	p, ok := patch.(map[string]any)
	if !ok {
		return patch
	}
	m := map[string]any{}
	if old, ok := target.(map[string]any); ok {
		m = maps.Clone(old)
	}
	for key, value := range p {
		if value == nil {
			delete(m, key)
		} else {
			m[key] = merge(m[key], value)
		}
	}
	return m
}

func TestPatchProperty(t *testing.T) {
	forDocuments(t, func(t *testing.T, s *scribe, raw []byte, root *Node) {
		patch := (&scribe{Rand: s.Rand}).document()
		out, err := Patch(raw, patch)
		if err != nil {
			if lacks(raw, patch) {
				return
			}
			t.Errorf("%v\nof:\n%s\nwith:\n%s", err, raw, patch)
			return
		}
		stays(t, raw, out)
		want := merge(meaning(root), mean(t, patch))
		if !reflect.DeepEqual(mean(t, out), want) {
			t.Errorf("wrong\nof:\n%s\nwith:\n%s\ngives:\n%s", raw, patch, out)
			return
		}
		// What is so already stays, however it is written.
		if again, err := Patch(out, patch); err != nil || !bytes.Equal(again, out) {
			t.Errorf("twice: %v\nonce:\n%s\nwith:\n%s\ntwice:\n%s", err, out, patch, again)
		}
		// Comments outside of what goes stay; here nothing goes.
		adds := []byte(`{z1: {z2: [1, {z3: null}]}, z4: "x"}`)
		if out, err = Patch(raw, adds); err != nil || !inOrder(texts(raw, tokens(raw)), texts(out, tokens(out))) {
			t.Errorf("%v: something is gone\nof:\n%s\nto:\n%s", err, raw, out)
		}
	})
}
