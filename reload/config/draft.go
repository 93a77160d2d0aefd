package config

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// Draft is a new text of a configuration file that may be written.
type Draft struct {
	Text    []byte    // what to write, placeholders restored
	Loaded  *Loaded   // of Text
	Changes []Change  // against the old text
	Left    []Problem // that the old text had already: a file may be mended step by step
}

// ErrShrinks says that a draft would leave almost nothing of the file, or take
// its last secret away.
var ErrShrinks = errors.New("would leave almost nothing of the configuration")

// secretGone is an ErrShrinks.
type secretGone string

func (key secretGone) Error() string {
	return "would take the gateway's secret away: " + string(key) + " is not set, and no gateway starts without one"
}

func (secretGone) Unwrap() error { return ErrShrinks }

// NewDraft judges text as a replacement of old, the file's text (nil: no file).
// What clients were shown instead of secrets is restored from old first. The
// error is Problems for what is wrong with the draft and was not wrong with
// old, and wraps ErrShrinks for a draft that keeps too little, see shrinks, or
// no secret where there was one.
func NewDraft(name string, old, text []byte, src Source, mayShrink bool) (*Draft, error) {
	root, err := ParseJSON5(text)
	if err != nil {
		return nil, syntax(name, err)
	}
	if old == nil {
		old = []byte("{}")
	}
	before, err := Parse(name, old, src)
	var had, has Problems
	errors.As(err, &had)
	if before.Root != nil {
		had = append(had, masks(name, old, before.Root, had)...)
		text = Restore(text, root, old, before.Root)
		// What was restored is longer than its placeholder.
		if root, err = ParseJSON5(text); err != nil {
			return nil, syntax(name, err)
		}
	}
	if !mayShrink {
		if err := shrinks(old, before.Root, text, root); err != nil {
			return nil, err
		}
	}
	loaded, err := Parse(name, text, src)
	errors.As(err, &has)
	has = append(has, masks(name, text, root, has)...).sorted()
	if added := added(had, has); len(added) > 0 {
		return nil, added
	}
	if key, ok := loaded.secret(); !ok && !mayShrink {
		if _, had := before.secret(); had {
			return nil, secretGone(key)
		}
	}
	return &Draft{Text: text, Loaded: loaded, Changes: Diff(before.Config, loaded.Config), Left: has}, nil
}

// secret names the key of the secret that clients must present, and reports
// whether it is set: a reference that cannot be followed here counts.
func (l *Loaded) secret() (key string, ok bool) {
	a := l.Config.Gateway.Auth
	if key = a.SecretKey(); !a.Missing() || l.Root == nil {
		return key, !a.Missing()
	}
	n := lookup(l.Root, key)
	return key, n != nil && n.Kind == String && n.Str != ""
}

func syntax(name string, err error) error {
	var p *Problem
	if !errors.As(err, &p) {
		return err
	}
	p.File = name
	return Problems{*p}
}

// masks finds the placeholders that stand for nothing, except where told
// names their path already.
func masks(name string, text []byte, root *Node, told Problems) (found Problems) {
	paths := map[string]bool{}
	for _, p := range told {
		paths[p.Path] = true
	}
	var walk func(path string, n *Node)
	walk = func(path string, n *Node) {
		for _, m := range n.Members {
			walk(joinKey(path, m.Key), m.Value)
		}
		for i, item := range n.Items {
			walk(joinIndex(path, i), item)
		}
		if n.Kind == String && strings.Contains(n.Str, RedactedPlaceholder) && !paths[path] && len(found) < maxTold {
			found = append(found, Problem{name, n.Line, n.Column, path, "holds the mask of a hidden value, and the file has none in this place"})
		}
	}
	if !bytes.Contains(text, []byte(RedactedPlaceholder)) && !bytes.ContainsRune(text, '\\') {
		return nil
	}
	walk("", root)
	p := &parser{text: text, line: 1, column: 1}
	for _, c := range root.comments {
		if isMask(text[c.start:c.end]) && len(found) < maxTold {
			line, column := p.position(c.start)
			found = append(found, Problem{name, line, column, "", "this comment is the mask of a hidden one, and the file has none in this place"})
		}
	}
	return found
}

// added are the problems of a draft that the old text did not have. Elements
// of lists change their index when one before them goes, so if there are fewer
// problems than before, digits in a path do not count. Where the old text had more than
// were told one by one, only their number can be compared.
func added(had, has Problems) (added Problems) {
	if n := untold(had); n > 0 && len(has)+untold(has) <= len(had)+n {
		return nil
	}
	known := map[[2]string]int{}
	key := func(p Problem) [2]string {
		if len(has) < len(had) {
			p.Path = strings.Map(func(r rune) rune {
				if '0' <= r && r <= '9' {
					return -1
				}
				return r
			}, p.Path)
		}
		return [2]string{p.Path, p.Msg}
	}
	for _, p := range had {
		known[key(p)]++
	}
	for _, p := range has {
		if known[key(p)]--; known[key(p)] < 0 {
			added = append(added, p)
		}
	}
	return added
}

// untold is the number of problems that the last one stands for.
func untold(ps Problems) (n int) {
	for _, p := range ps {
		if number, ok := strings.CutPrefix(p.Msg, "and "); ok && p.Path == "" && p.Line == 0 {
			n, _ = strconv.Atoi(strings.TrimSuffix(number, " more"))
		}
	}
	return n
}

const (
	smallFile = 512 // bytes: with less there is little to lose
	keepPart  = 4   // a draft must keep one part in so many
)

// shrinks is the guard against clobbering. It refuses a draft without a single
// value, and one that has under a quarter of the old text's bytes and under a
// quarter of its values. One key or element taken out, all else byte for byte
// as it was, is no accident however large it is, unless nothing is left.
func shrinks(old []byte, oldRoot *Node, text []byte, root *Node) error {
	if len(old) < smallFile {
		return nil
	}
	was, is := leaves(oldRoot), leaves(root)
	small := len(text) < len(old)/keepPart
	if oldRoot != nil {
		small = small && is < (was+keepPart-1)/keepPart && !isUnset(old, oldRoot, text, root)
	}
	if is > 0 && !small || oldRoot != nil && was == 0 {
		return nil
	}
	return fmt.Errorf("%w: %d bytes with %d values instead of %d bytes with %d", ErrShrinks, len(text), is, len(old), was)
}

// leaves counts the values that are neither objects nor lists.
func leaves(n *Node) int {
	if n == nil {
		return 0
	}
	if n.Kind != Object && n.Kind != Array {
		return 1
	}
	sum := 0
	for i := range n.len() {
		sum += leaves(child(n, i))
	}
	return sum
}

// isUnset reports whether text is old without one member or element.
func isUnset(old []byte, oldRoot *Node, text []byte, root *Node) bool {
	e, gone := &editor{raw: old, root: oldRoot, plans: map[*Node]*plan{}}, 0
	var walk func(o, n *Node)
	walk = func(o, n *Node) {
		switch {
		case gone > 1:
		case o.Kind == Object && n.Kind == Object:
			there := n.byKey()
			for i, m := range o.Members {
				if there[m.Key] != nil {
					walk(m.Value, there[m.Key])
				} else {
					gone++
					e.remove(o, i)
				}
			}
		case o.Kind == Array && n.Kind == Array && len(o.Items) == len(n.Items)+1:
			i := 0
			for i < len(n.Items) && sameValue(o.Items[i], n.Items[i]) {
				i++
			}
			gone++
			e.remove(o, i)
		case o.Kind == Array && n.Kind == Array && len(o.Items) == len(n.Items):
			for i := range o.Items {
				walk(o.Items[i], n.Items[i])
			}
		}
	}
	walk(oldRoot, root)
	if gone != 1 {
		return false
	}
	without, err := e.result()
	return err == nil && bytes.Equal(without, text)
}
