package config

import (
	"bytes"
	"hash/maphash"
	"math"
	"slices"
	"strconv"
	"strings"
)

// RedactedPlaceholder stands for a secret in what clients are shown. A client
// that sends the text back gets the secret restored; see Restore.
const RedactedPlaceholder = "__OPENCLAW_REDACTED__"

// Redact returns raw, whose root is given, with every secret replaced by
// RedactedPlaceholder and all else as it was. It hides more than the table
// knows to be secret: in sections that are not ours it goes by the keys'
// names, and a secret seen once is also hidden where it is repeated, comments
// included. A secret that is only referred to (${NAME}, file:, credential:) stays.
func Redact(raw []byte, root *Node) []byte {
	if root == nil {
		return []byte(RedactedPlaceholder) // no structure, no telling what is secret
	}
	r := &redacter{}
	r.find(root, hideNothing)
	r.again = strings.NewReplacer(r.hidden...)
	r.repeated(root)
	for _, c := range root.comments {
		if text := raw[c.start:c.end]; r.mentions(string(text)) || isSensitive(string(text)) && bytes.ContainsAny(text, ":=") {
			open, end := "//", ""
			if bytes.HasPrefix(text, []byte("/*")) {
				open, end = "/*", " */"
			}
			r.cut(c.start, c.end, open+" "+RedactedPlaceholder+end)
		}
	}
	return splice(raw, sortEdits(r.edits))
}

type edit struct {
	start, end int
	text       string
}

// splice applies edits in ascending order that do not overlap.
func splice(raw []byte, edits []edit) []byte {
	out, at := make([]byte, 0, len(raw)), 0
	for _, e := range edits {
		out = append(append(out, raw[at:e.start]...), e.text...)
		at = e.end
	}
	return append(out, raw[at:]...)
}

type redacter struct {
	edits  []edit
	hidden []string          // each secret found, and what comes in its place
	again  *strings.Replacer // of hidden: finds any of many secrets in one pass
	done   map[*Node]bool
}

func (r *redacter) cut(start, end int, text string) {
	r.edits = append(r.edits, edit{start, end, text})
}

// How much below a key is hidden.
type hide int

const (
	hideNothing hide = iota
	hideStrings      // a name like one of a secret: numbers such as maxTokens stay
	hideAll
)

func (r *redacter) find(n *Node, h hide) {
	switch n.Kind {
	case Object:
		for _, m := range n.Members {
			below := hideBelow(m.Key)
			if m.Value.Kind == String && strings.EqualFold(m.Key, "auth") {
				below = hideStrings // where an object belongs, somebody has put the secret itself
			}
			r.find(m.Value, max(h, below))
		}
	case Array:
		for _, item := range n.Items {
			r.find(item, h)
		}
	case String:
		// file: and credential: mean something to the keys of ours only, but no
		// secret begins with them elsewhere either.
		if (h > hideNothing || hasUserinfo(n.Str)) && n.Str != "" && !isReference(n.Str) {
			r.hide(n)
		}
	case Number:
		if h == hideAll {
			r.hide(n)
		}
	}
}

func (r *redacter) hide(n *Node) {
	if r.done == nil {
		r.done = map[*Node]bool{}
	}
	r.done[n] = true
	r.cut(n.Start, n.End, `"`+RedactedPlaceholder+`"`)
	if 8 <= len(n.Str) && len(n.Str) <= maxSecret {
		r.hidden = append(r.hidden, n.Str, "")
	}
}

// repeated hides strings elsewhere that contain a secret found.
func (r *redacter) repeated(n *Node) {
	for _, m := range n.Members {
		r.repeated(m.Value)
	}
	for _, item := range n.Items {
		r.repeated(item)
	}
	if n.Kind == String && !r.done[n] && r.mentions(n.Str) {
		r.cut(n.Start, n.End, `"`+RedactedPlaceholder+`"`)
	}
}

func (r *redacter) mentions(text string) bool { return r.again.Replace(text) != text }

func hideBelow(key string) hide {
	switch k := strings.ToLower(key); {
	case k == "token", k == "password", k == "apikey", k == "secret", k == "headers", k == "env", k == "bottoken", k == "webhooksecret":
		return hideAll
	case isSensitive(k), isMisspelt(k):
		return hideStrings
	}
	return hideNothing
}

// isMisspelt reports whether a key is one slip away from a secret's: the value
// of gateway.auth.tokn is no less secret for that.
func isMisspelt(key string) bool {
	return slices.ContainsFunc([]string{"token", "password", "apikey", "secret"}, func(name string) bool { return distance(key, name, 1) <= 1 })
}

func isSensitive(name string) bool {
	name = strings.ToLower(name)
	for _, word := range []string{"token", "passw", "secret", "apikey", "api_key", "api-key", "credential", "privatekey", "private_key", "authorization", "cookie"} {
		if strings.Contains(name, word) {
			return true
		}
	}
	return false
}

// hasUserinfo reports whether s is a URL with a name or password in it.
func hasUserinfo(s string) bool {
	_, rest, ok := strings.Cut(s, "://")
	if i := strings.IndexAny(rest, "/?#"); i >= 0 {
		rest = rest[:i]
	}
	return ok && strings.Contains(rest, "@")
}

// Restore is the way back from Redact: each placeholder in text is replaced by
// what old has in its place, byte for byte as written there. Elements of lists
// are matched by id, else by position, comments by the value they follow. A
// placeholder without a counterpart is left, and later refused. Both roots are
// those of their texts.
func Restore(text []byte, root *Node, old []byte, oldRoot *Node) []byte {
	var edits []edit
	var walk func(n, o *Node)
	walk = func(n, o *Node) {
		if o == nil {
			return
		}
		switch {
		case n.Kind == String && n.Str == RedactedPlaceholder && o.Kind != Object && o.Kind != Array:
			edits = append(edits, edit{n.Start, n.End, string(old[o.Start:o.End])})
		case n.Kind == Object && o.Kind == Object:
			there := o.byKey()
			for _, m := range n.Members {
				walk(m.Value, there[m.Key])
			}
		case n.Kind == Array && o.Kind == Array:
			byID := make(map[string]*Node, len(o.Items))
			for _, item := range slices.Backward(o.Items) {
				byID[item.text("id")] = item
			}
			for i, item := range n.Items {
				id := item.text("id")
				from := byID[id]
				if named := id != "" && id != RedactedPlaceholder; i >= len(o.Items) && !named {
					from = nil
				} else if i < len(o.Items) && (!named || o.Items[i].text("id") == id) {
					from = o.Items[i]
				}
				walk(item, from)
			}
		}
	}
	walk(root, oldRoot)
	edits = append(edits, restoredComments(text, root, old, oldRoot)...)
	return splice(text, sortEdits(edits))
}

// restoredComments puts comments back: in their order if as many are hidden as
// Redact hides, else those that still follow the same value.
func restoredComments(text []byte, root *Node, old []byte, oldRoot *Node) (edits []edit) {
	var masks []int
	for i, c := range root.comments {
		if isMask(text[c.start:c.end]) {
			masks = append(masks, i)
		}
	}
	if masks == nil {
		return nil
	}
	from, hidden := map[int]int{}, []int(nil)
	shown := Redact(old, oldRoot)
	if n, err := ParseJSON5(shown); err == nil {
		for i, c := range n.comments {
			if isMask(shown[c.start:c.end]) {
				hidden = append(hidden, i)
			}
		}
	}
	if len(masks) == len(hidden) {
		for i, mask := range masks {
			from[mask] = hidden[i]
		}
	} else {
		seed, there := maphash.MakeSeed(), map[anchor]int{}
		for i, a := range anchors(seed, oldRoot) {
			there[a] = i
		}
		for i, a := range anchors(seed, root) {
			if was, ok := there[a]; ok {
				from[i] = was
			}
		}
	}
	for _, mask := range masks {
		if was, ok := from[mask]; ok {
			to, c := root.comments[mask], oldRoot.comments[was]
			edits = append(edits, edit{to.start, to.end, string(old[c.start:c.end])})
		}
	}
	return edits
}

// isMask reports whether a comment is what Redact puts in place of one.
func isMask(comment []byte) bool {
	return string(comment) == "// "+RedactedPlaceholder || string(comment) == "/* "+RedactedPlaceholder+" */"
}

// anchor is where a comment stands: behind which value, by a hash of its path,
// and as which comment behind it.
type anchor struct {
	behind uint64
	nth    int
}

// anchors are those of all comments of a text, in their order.
func anchors(seed maphash.Seed, root *Node) []anchor {
	var found []anchor
	last := anchor{}
	upTo := func(start int) {
		for len(found) < len(root.comments) && root.comments[len(found)].start < start {
			found = append(found, last)
			last.nth++
		}
	}
	type below struct {
		path uint64
		key  string
	}
	var walk func(n *Node, path uint64)
	walk = func(n *Node, path uint64) {
		upTo(n.Start)
		last = anchor{behind: path}
		for _, m := range n.Members {
			walk(m.Value, maphash.Comparable(seed, below{path, m.Key}))
		}
		for i, item := range n.Items {
			key := strconv.Itoa(i)
			if id := item.text("id"); id != "" {
				key = "id " + id
			}
			walk(item, maphash.Comparable(seed, below{path, key}))
		}
	}
	walk(root, maphash.Comparable(seed, below{}))
	upTo(math.MaxInt)
	return found
}
