package wire

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"unicode"
	"unicode/utf8"
)

// plan says how to read a type. It is made once per type and then shared.
type plan struct {
	kind     kind
	typ      reflect.Type
	elem     *plan   // of a list, map, pointer or patch
	fields   []field // of a struct
	required uint64  // a bit for each field
	open     bool    // unknown keys are ignored
}

type kind uint8

const (
	kindStruct kind = iota
	kindMap
	kindSlice
	kindString
	kindBool
	kindInt
	kindFloat
	kindRaw     // Raw, json.RawMessage
	kindAny     // any
	kindPointer // *T
	kindPatch   // Patch[T]
	kindCustom  // has UnmarshalJSON
)

// String returns the kind's name in JSON Schema. "present" is where any value but null would do.
func (k kind) String() string {
	return [...]string{
		kindStruct: "object", kindMap: "object", kindSlice: "array", kindString: "string", kindBool: "boolean", kindInt: "integer", kindFloat: "number",
		kindRaw: "present", kindAny: "present", kindPointer: "present", kindPatch: "present", kindCustom: "present",
	}[k]
}

type field struct {
	name  string
	index []int
	plan  *plan
	rules
}

// rules are what a wire tag says.
type rules struct {
	required, null, id bool
	hasMin, hasMax     bool
	min, max           float64
	oneof              []string
}

// anyValue is the rules of a value without a tag of its own: an element, or the document.
var anyValue = rules{null: true}

// checkText returns what is wrong with a string under the rules, "" if nothing.
func (r *rules) checkText(s string) string {
	if r.oneof != nil && !slices.Contains(r.oneof, s) {
		if len(r.oneof) == 1 {
			return "must be equal to constant"
		}
		return "must be equal to one of the allowed values"
	}
	if r.hasMin && float64(len(s)) < r.min*utf8.UTFMax && float64(utf8.RuneCountInString(s)) < r.min {
		return "must NOT have fewer than " + formatBound(r.min) + " characters"
	}
	if r.hasMax && float64(len(s)) > r.max && float64(utf8.RuneCountInString(s)) > r.max {
		return "must NOT have more than " + formatBound(r.max) + " characters"
	}
	if r.id {
		return checkID(s)
	}
	return ""
}

const maxID = 256

// checkID returns what is wrong with an identifier, "" if nothing.
func checkID(s string) string {
	switch {
	case s == "":
		return "must NOT have fewer than 1 characters"
	case len(s) > maxID:
		return "must NOT have more than " + strconv.Itoa(maxID) + " characters"
	case strings.ContainsFunc(s, unicode.IsControl):
		return "must NOT have control characters"
	}
	return ""
}

// find returns the index of the field of that name, -1 if there is none. Keys mostly come in the
// order of the fields, so it begins at hint.
func (p *plan) find(key []byte, hint int) int {
	for i := range p.fields {
		j := hint + i
		if j >= len(p.fields) {
			j -= len(p.fields)
		}
		if p.fields[j].name == string(key) {
			return j
		}
	}
	return -1
}

// plans caches what makePlan made, by reflect.Type.
var plans sync.Map

func planOf(t reflect.Type) *plan {
	if p, ok := plans.Load(t); ok {
		return p.(*plan)
	}
	making := map[reflect.Type]*plan{}
	p := makePlan(t, making)
	for t, p := range making {
		plans.LoadOrStore(t, p)
	}
	return p
}

// makePlan makes the plan of t and of all that it refers to. Types may refer to themselves.
func makePlan(t reflect.Type, making map[reflect.Type]*plan) *plan {
	if p := making[t]; p != nil {
		return p
	}
	p := &plan{typ: t}
	making[t] = p
	switch {
	case t == reflect.TypeFor[Raw](), t == reflect.TypeFor[json.RawMessage]():
		p.kind = kindRaw
		return p
	case t.Implements(reflect.TypeFor[interface{ isPatch() }]()):
		p.kind = kindPatch
		p.elem = makePlan(t.Field(1).Type, making)
		return p
	case reflect.PointerTo(t).Implements(reflect.TypeFor[json.Unmarshaler]()):
		p.kind = kindCustom
		return p
	}
	switch t.Kind() {
	case reflect.Struct:
		p.kind = kindStruct
		p.addFields(t, nil, making)
	case reflect.Slice:
		p.kind, p.elem = kindSlice, makePlan(t.Elem(), making)
	case reflect.Pointer:
		p.kind, p.elem = kindPointer, makePlan(t.Elem(), making)
	case reflect.Map:
		if t.Key().Kind() != reflect.String {
			panic("wire: cannot decode into " + t.String())
		}
		p.kind, p.elem = kindMap, makePlan(t.Elem(), making)
	case reflect.String:
		p.kind = kindString
	case reflect.Bool:
		p.kind = kindBool
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		p.kind = kindInt
	case reflect.Float32, reflect.Float64:
		p.kind = kindFloat
	case reflect.Interface:
		if t.NumMethod() == 0 {
			p.kind = kindAny
			break
		}
		fallthrough
	default:
		panic("wire: cannot decode into " + t.String())
	}
	return p
}

func (p *plan) addFields(t reflect.Type, prefix []int, making map[reflect.Type]*plan) {
	for i := range t.NumField() {
		sf := t.Field(i)
		index := append(slices.Clip(prefix), i)
		name, _, _ := strings.Cut(sf.Tag.Get("json"), ",")
		switch {
		case sf.Type == reflect.TypeFor[Open]():
			p.open = true
			continue
		case sf.Anonymous && name == "" && sf.Type.Kind() == reflect.Struct:
			p.addFields(sf.Type, index, making)
			continue
		case !sf.IsExported() || name == "-":
			continue
		case name == "":
			name = sf.Name
		}
		f := field{name: name, index: index, plan: makePlan(sf.Type, making), rules: parseRules(sf.Tag.Get("wire"))}
		if f.required {
			p.required |= 1 << len(p.fields)
		}
		if p.fields = append(p.fields, f); len(p.fields) > 64 {
			panic("wire: too many fields in " + p.typ.String())
		}
	}
}

func parseRules(tag string) (r rules) {
	for word := range strings.SplitSeq(tag, ",") {
		name, arg, _ := strings.Cut(word, "=")
		var err error
		switch name {
		case "":
		case "required":
			r.required = true
		case "null":
			r.null = true
		case "id":
			r.id = true
		case "min":
			r.hasMin = true
			r.min, err = strconv.ParseFloat(arg, 64)
		case "max":
			r.hasMax = true
			r.max, err = strconv.ParseFloat(arg, 64)
		case "oneof":
			r.oneof = strings.Split(arg, "|")
		default:
			err = strconv.ErrSyntax
		}
		if err != nil {
			panic(fmt.Sprintf("wire: bad tag %q", tag))
		}
	}
	return r
}
