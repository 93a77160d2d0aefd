package config

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strconv"
	"strings"
)

// JSON is the effective configuration, defaults included, indented. Keys that
// are neither set nor have a default are left out, so that the text is itself
// a configuration. With redact each secret is RedactedPlaceholder; without it
// the text holds them all, and belongs nowhere but into a 0600 file.
func (c *Config) JSON(redact bool) []byte {
	return indent(appendValue(nil, reflect.ValueOf(c).Elem(), redact))
}

func indent(compact []byte) []byte {
	var b bytes.Buffer
	// Cannot fail: appendValue writes JSON.
	_ = json.Indent(&b, compact, "", "  ")
	return b.Bytes()
}

func appendValue(dst []byte, v reflect.Value, redact bool) []byte {
	switch shapeOf(v.Type()) {
	case shapeSecret:
		return appendSecret(dst, v.Interface().(Secret), redact)
	case shapeBool:
		return strconv.AppendBool(dst, v.Bool())
	case shapeInt, shapeMillis:
		return strconv.AppendInt(dst, v.Int(), 10)
	case shapeFloat:
		return strconv.AppendFloat(dst, v.Float(), 'f', -1, 64)
	case shapeSize:
		return appendString(dst, Size(v.Int()).String())
	case shapeText:
		return appendString(dst, v.String())
	case shapeSecrets:
		secrets := v.Interface().(map[string]Secret)
		dst = append(dst, '{')
		for i, name := range sortedKeys(secrets) {
			dst = appendKey(dst, i, name)
			dst = appendSecret(dst, secrets[name], redact)
		}
		return append(dst, '}')
	case shapeTexts, shapeList:
		dst = append(dst, '[')
		for i := range v.Len() {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = appendValue(dst, v.Index(i), redact)
		}
		return append(dst, ']')
	case shapeMap:
		k := mapOf(v)
		dst = append(dst, '{')
		for i, key := range k.keys {
			dst = appendValue(appendKey(dst, i, key), k.values[key], redact)
		}
		return append(dst, '}')
	}
	dst = append(dst, '{')
	n := 0
	for _, f := range fieldsOf(v.Type()) {
		fv := v.FieldByIndex(f.index)
		if !shown(fv, &f) {
			continue
		}
		dst = appendValue(appendKey(dst, n, f.key), fv, redact)
		n++
	}
	return append(dst, '}')
}

// shown reports whether a field has a value: set, or by default.
func shown(v reflect.Value, f *field) bool {
	switch shapeOf(f.typ) {
	case shapeStruct:
		for _, inner := range fieldsOf(f.typ) {
			if shown(v.FieldByIndex(inner.index), &inner) {
				return true
			}
		}
		return false
	case shapeSecret:
		return !v.Interface().(Secret).IsZero()
	}
	return f.hasDefault || f.required || !v.IsZero()
}

func appendKey(dst []byte, i int, key string) []byte {
	if i > 0 {
		dst = append(dst, ',')
	}
	return append(appendString(dst, key), ':')
}

func appendSecret(dst []byte, s Secret, redact bool) []byte {
	if redact && !s.IsZero() {
		return appendString(dst, RedactedPlaceholder)
	}
	return appendString(dst, s.Reveal())
}

// ErrUnknownPath is what Get wraps when the table has no such key.
var ErrUnknownPath = errors.New("unknown key")

// Get returns one key or section of the effective configuration as JSON, with
// secrets hidden; null when the key exists and is not set. Elements are
// written agents.list[0], agents.list[main] or models.providers.local, other
// keys than plain words models.providers["a b"]. "" is everything.
func (c *Config) Get(path string) ([]byte, error) {
	keys, ok := splitPath(path)
	if !ok {
		return nil, fmt.Errorf("%w: %q is not a path such as gateway.port or agents.list[0].id", ErrUnknownPath, path)
	}
	v, set := reflect.ValueOf(c).Elem(), true
	at := ""
	for _, key := range keys {
		var names []string
		next := reflect.Value{}
		switch shapeOf(v.Type()) {
		case shapeStruct:
			fields := fieldsOf(v.Type())
			if f := findField(fields, key); f != nil {
				next = v.FieldByIndex(f.index)
				set = shown(next, f)
			}
			for _, f := range fields {
				names = append(names, f.key)
			}
			if at == "" || at == "gateway" {
				// The other spelling of a section reads the same.
				for _, a := range aliases {
					if joinKey(at, key) == a.key {
						return c.Get(a.same + strings.TrimPrefix(path, a.key))
					}
				}
			}
		case shapeMap, shapeSecrets:
			k := mapOf(v)
			next, names, set = k.values[key], k.keys, true
		case shapeList:
			if i, err := strconv.Atoi(key); err == nil && 0 <= i && i < v.Len() {
				next = v.Index(i)
			} else if k, ok := listOf(v); ok {
				next, names = k.values[key], k.keys
			}
			set = true
		case shapeTexts:
			if i, err := strconv.Atoi(key); err == nil && 0 <= i && i < v.Len() {
				next = v.Index(i)
			}
			set = true
		}
		if !next.IsValid() {
			return nil, fmt.Errorf("%w: %s%s", ErrUnknownPath, joinKey(at, key), suggest(key, names))
		}
		v, at = next, joinKey(at, key)
	}
	if !set {
		return []byte("null"), nil
	}
	return indent(appendValue(nil, v, true)), nil
}

// splitPath reads what joinKey, joinIndex and joinID write.
func splitPath(path string) (keys []string, ok bool) {
	for rest := path; rest != ""; {
		if inner, found := strings.CutPrefix(rest, "["); found {
			if quoted, err := strconv.QuotedPrefix(inner); err == nil {
				key, _ := strconv.Unquote(quoted)
				keys, rest = append(keys, key), inner[len(quoted):]
			} else if i := strings.IndexByte(inner, ']'); i > 0 {
				keys, rest = append(keys, inner[:i]), inner[i:]
			}
			if rest, found = strings.CutPrefix(rest, "]"); !found {
				return nil, false
			}
			continue
		}
		if len(keys) > 0 {
			if rest, ok = strings.CutPrefix(rest, "."); !ok {
				return nil, false
			}
		}
		i := strings.IndexAny(rest, ".[")
		if i < 0 {
			i = len(rest)
		}
		if i == 0 {
			return nil, false
		}
		keys, rest = append(keys, rest[:i]), rest[i:]
	}
	return keys, true
}
