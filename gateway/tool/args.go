package tool

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"openclaw/gateway/store"
	"openclaw/reload/config"
)

// An argument type is a struct whose fields are arguments. Their tags:
//
//	arg      its name
//	alias    further names that models know it by, comma-separated; not in the schema
//	required true when a call without it is refused
//	min, max the range of a number, of a text's bytes, of a list's length
//	oneof    the words it may hold, comma-separated
//	doc      one sentence for the model
//
// Types of fields are string, int, bool, lists and structs of these, and what
// implements argument.

// argument is a type that reads itself and has a schema of its own.
type argument interface {
	schema() object
	read(c *call, n *config.Node) error
}

type object = map[string]any

// schemaOf is the JSON Schema of an argument type, without what some model
// providers refuse.
func schemaOf(t reflect.Type) json.RawMessage {
	raw, err := json.Marshal(structSchema(t))
	if err != nil {
		panic(err) // maps, strings and numbers only
	}
	return raw
}

func structSchema(t reflect.Type) object {
	properties, required := object{}, []string{}
	for i := range t.NumField() {
		f := t.Field(i)
		s := typeSchema(f.Type)
		s["description"] = f.Tag.Get("doc")
		if words := f.Tag.Get("oneof"); words != "" {
			s["enum"] = strings.Split(words, ",")
		}
		for tag, word := range map[string]string{"min": "minimum", "max": "maximum"} {
			if n := f.Tag.Get(tag); n != "" && f.Type.Kind() == reflect.Int {
				s[word] = json.Number(n)
			}
		}
		properties[f.Tag.Get("arg")] = s
		if f.Tag.Get("required") == "true" {
			required = append(required, f.Tag.Get("arg"))
		}
	}
	s := object{"type": "object", "properties": properties, "additionalProperties": false}
	if len(required) > 0 {
		s["required"] = required
	}
	return s
}

func typeSchema(t reflect.Type) object {
	if a, ok := reflect.New(t).Interface().(argument); ok {
		return a.schema()
	}
	switch t.Kind() {
	case reflect.String:
		return object{"type": "string"}
	case reflect.Int:
		return object{"type": "integer"}
	case reflect.Bool:
		return object{"type": "boolean"}
	case reflect.Slice:
		return object{"type": "array", "items": typeSchema(t.Elem())}
	case reflect.Struct:
		return structSchema(t)
	}
	panic("tool: no argument can be a " + t.String())
}

// decode reads the arguments of a call. They come from a model: what is wrong
// with them is told so that it can do better. The reader is that of the
// configuration, which refuses repeated keys, deep nesting and more than 1 MiB;
// that it also takes comments hurts nobody.
func decode(c *call, args json.RawMessage, into any) error {
	if len(args) == 0 || string(args) == "null" {
		args = json.RawMessage("{}")
	}
	n, err := config.ParseJSON5(args)
	if err != nil {
		return fmt.Errorf("arguments are not JSON: %w", err)
	}
	d := decoder{call: c}
	d.object("", n, reflect.ValueOf(into).Elem())
	return errors.Join(d.problems...)
}

type decoder struct {
	*call
	problems []error
}

// maxProblems bounds what one wrong call makes us write.
const maxProblems = 8

func (d *decoder) problem(path, format string, args ...any) {
	if len(d.problems) < maxProblems {
		d.problems = append(d.problems, fmt.Errorf("%s: %s", strings.TrimPrefix(path, "."), fmt.Sprintf(format, args...)))
	}
}

func (d *decoder) object(path string, n *config.Node, v reflect.Value) {
	if n.Kind != config.Object {
		d.problem(path+".arguments", "must be an object, not %s", n.Kind)
		return
	}
	t := v.Type()
	given := make([]string, t.NumField()) // by which name
	for _, m := range n.Members {
		i := fieldOf(t, m.Key)
		switch {
		case i < 0:
			d.unknown(path, m.Key, t)
		case given[i] != "":
			d.problem(path+"."+m.Key, "is the same as %s, which is given too", given[i])
		case m.Value.Kind == config.Null: // as some models write what they leave out
		default:
			given[i] = m.Key
			d.value(path+"."+m.Key, m.Value, v.Field(i), t.Field(i).Tag)
		}
	}
	for i, name := range given {
		if f := t.Field(i); name == "" && f.Tag.Get("required") == "true" {
			d.problem(path+"."+f.Tag.Get("arg"), "is required")
		}
	}
}

// fieldOf finds the field that an argument's name means.
func fieldOf(t reflect.Type, name string) int {
	for i := range t.NumField() {
		if tag := t.Field(i).Tag; tag.Get("arg") == name || name != "" && slices.Contains(strings.Split(tag.Get("alias"), ","), name) {
			return i
		}
	}
	return -1
}

func (d *decoder) unknown(path, name string, t reflect.Type) {
	var names []string
	for i := range t.NumField() {
		names = append(names, t.Field(i).Tag.Get("arg"))
	}
	hint := "there are " + strings.Join(names, ", ")
	if len(names) == 0 {
		hint = "it takes none"
	} else if near := config.Nearest(name, names); near != "" {
		hint = "did you mean " + near + "?"
	}
	d.problem(path+"."+strconv.Quote(store.Clip(name, 64)), "unknown argument (%s)", hint)
}

func (d *decoder) value(path string, n *config.Node, v reflect.Value, tag reflect.StructTag) {
	if a, ok := v.Addr().Interface().(argument); ok {
		if err := a.read(d.call, n); err != nil {
			d.problem(path, "%v", err)
		}
		return
	}
	size := 0
	switch v.Kind() {
	case reflect.String:
		if !d.kind(path, n, config.String) {
			return
		}
		v.SetString(n.Str)
		size = len(n.Str)
		if words := tag.Get("oneof"); words != "" && !slices.Contains(strings.Split(words, ","), n.Str) {
			d.problem(path, "must be one of %s", strings.ReplaceAll(words, ",", ", "))
			return
		}
	case reflect.Int:
		i, whole := n.Integer()
		if n.Kind == config.String { // as some models write numbers
			var err error
			i, err = strconv.ParseInt(n.Str, 10, 64)
			whole = err == nil
		} else if !d.kind(path, n, config.Number) {
			return
		}
		if whole = whole && i == int64(int(i)); !whole {
			d.problem(path, "must be a whole number")
			return
		}
		v.SetInt(i)
		size = int(i)
	case reflect.Bool:
		if d.kind(path, n, config.Bool) {
			v.SetBool(n.Bool)
		}
		return
	case reflect.Slice:
		if !d.kind(path, n, config.Array) {
			return
		}
		v.Set(reflect.MakeSlice(v.Type(), len(n.Items), len(n.Items)))
		for i, item := range n.Items {
			d.value(path+"["+strconv.Itoa(i)+"]", item, v.Index(i), "")
		}
		size = len(n.Items)
	case reflect.Struct:
		d.object(path, n, v)
		return
	}
	if low, err := strconv.Atoi(tag.Get("min")); err == nil && size < low {
		d.problem(path, "must be at least %d%s", low, measure(v.Kind()))
	}
	if high, err := strconv.Atoi(tag.Get("max")); err == nil && size > high {
		d.problem(path, "must be at most %d%s", high, measure(v.Kind()))
	}
}

func measure(k reflect.Kind) string {
	switch k {
	case reflect.String:
		return " bytes long"
	case reflect.Slice:
		return " long"
	}
	return ""
}

func (d *decoder) kind(path string, n *config.Node, want config.Kind) bool {
	if n.Kind != want {
		d.problem(path, "must be %s, not %s", want, n.Kind)
	}
	return n.Kind == want
}
