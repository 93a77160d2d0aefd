package config

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"unicode/utf8"
)

// Literal is the JSON5 text of what a person typed as the value of path. Where
// a text or a secret belongs it is the word itself, quoted unless it is quoted
// already. Elsewhere it is the word when that is one JSON5 value, else the word
// as a string, which validation judges (10M is a size, maybe is no boolean). A
// word that begins as a list, object or quoted string does is a slip when it is
// none, unless it belongs where that may be the text itself.
func Literal(path, word string) ([]byte, error) {
	steps, err := parsePath(path)
	if err != nil {
		return nil, err
	}
	if !utf8.ValidString(word) {
		return nil, fmt.Errorf("value for %s: not valid UTF-8", path)
	}
	t := typeOf(steps)
	text, slips := false, "[{\"'"
	if t != nil && shapeOf(t) == shapeText {
		text, slips = true, "\"'"
	} else if t != nil && shapeOf(t) == shapeSecret {
		text, slips = true, ""
	}
	n, err := ParseJSON5([]byte(word))
	switch start := strings.TrimSpace(word); {
	case err == nil && (!text || n.Kind == String):
		return []byte(word)[n.Start:n.End], nil
	case err != nil && start != "" && strings.Contains(slips, start[:1]):
		return nil, fmt.Errorf("value: %w", err)
	}
	return appendString(nil, word), nil
}

// Advice tells how to write a word as the value of a path that it does not fit,
// "" where that is not known.
func Advice(path, word string) string {
	steps, err := parsePath(path)
	if err != nil {
		return ""
	}
	t := typeOf(steps)
	switch n, err := ParseJSON5([]byte(word)); {
	case t == nil:
	case shapeOf(t) == shapeBool:
		return "write true or false"
	case shapeOf(t) == shapeTexts && (err != nil || n.Kind != Array):
		if err == nil && n.Kind == String {
			word = n.Str
		}
		if list := "[" + string(appendString(nil, word)) + "]"; !strings.Contains(list, "'") {
			return "write a list: '" + list + "'"
		}
	}
	return ""
}

// IsSecret reports whether the value at path is a secret: because the table
// says so, and where the table has nothing, by its name, as Redact goes.
func IsSecret(path string) bool {
	steps, err := parsePath(path)
	if err != nil {
		return false
	}
	if t := typeOf(steps); t != nil {
		return shapeOf(t) == shapeSecret || shapeOf(t) == shapeSecrets
	}
	return strings.EqualFold(steps[len(steps)-1].key, "auth") ||
		slices.ContainsFunc(steps, func(s step) bool { return hideBelow(s.key) > hideNothing })
}

// typeOf is the type of the value at a path; nil when the table has nothing there.
func typeOf(steps []step) reflect.Type {
	for _, a := range aliases {
		if rest, ok := cutSection(steps, a.key); ok {
			steps = append(mustPath(a.same), rest...)
			break
		}
	}
	t := reflect.TypeFor[Config]()
	for _, s := range steps {
		t = below(t, s.key)
	}
	return t
}
