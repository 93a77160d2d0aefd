package config

import (
	"reflect"
	"strconv"
	"strings"
)

// Class says what a changed key takes.
type Class string

// The classes, from the least to the most disturbing.
const (
	None    Class = "none"    // nothing: only tools read it
	Hot     Class = "hot"     // applied at once
	Restart Class = "restart" // applied by a restart in process
)

func (c Class) rank() int {
	switch c {
	case Restart:
		return 2
	case Hot:
		return 1
	}
	return 0
}

// field is one tagged field of the table.
type field struct {
	index           []int // for FieldByIndex
	typ             reflect.Type
	key, doc, why   string
	def             string
	hasDefault      bool
	oneOf           []string
	min, max        string
	class           Class
	required, short bool
}

// fieldsOf reads the tags of a struct of the table.
func fieldsOf(t reflect.Type) []field {
	fields := make([]field, 0, t.NumField())
	for i := range t.NumField() {
		sf := t.Field(i)
		if sf.Anonymous { // its keys are the struct's own
			for _, f := range fieldsOf(sf.Type) {
				f.index = append([]int{i}, f.index...)
				fields = append(fields, f)
			}
			continue
		}
		f := field{index: []int{i}, typ: sf.Type, key: sf.Tag.Get("key"), doc: sf.Tag.Get("doc"), why: sf.Tag.Get("why"),
			min: sf.Tag.Get("min"), max: sf.Tag.Get("max"), class: Class(sf.Tag.Get("reload")),
			required: sf.Tag.Get("required") == "true", short: sf.Tag.Get("short") == "true"}
		f.def, f.hasDefault = sf.Tag.Lookup("default")
		if words := sf.Tag.Get("oneof"); words != "" {
			f.oneOf = strings.Split(words, ",")
		}
		fields = append(fields, f)
	}
	return fields
}

func findField(fields []field, key string) *field {
	for i := range fields {
		if fields[i].key == key {
			return &fields[i]
		}
	}
	return nil
}

// shape is what a field's type means in a file.
type shape int

const (
	shapeText shape = iota
	shapeSecret
	shapeBool
	shapeInt
	shapeFloat
	shapeMillis
	shapeSize
	shapeTexts   // list of strings
	shapeSecrets // object of secret strings
	shapeStruct  // the rest are branches, not leaves
	shapeList
	shapeMap
)

func shapeOf(t reflect.Type) shape {
	switch t {
	case reflect.TypeFor[Secret]():
		return shapeSecret
	case reflect.TypeFor[Millis]():
		return shapeMillis
	case reflect.TypeFor[Size]():
		return shapeSize
	case reflect.TypeFor[[]string]():
		return shapeTexts
	case reflect.TypeFor[map[string]Secret]():
		return shapeSecrets
	}
	switch t.Kind() {
	case reflect.String:
		return shapeText
	case reflect.Bool:
		return shapeBool
	case reflect.Int, reflect.Int64:
		return shapeInt
	case reflect.Float64:
		return shapeFloat
	case reflect.Struct:
		return shapeStruct
	case reflect.Slice:
		return shapeList
	case reflect.Map:
		return shapeMap
	}
	panic("config: no shape for " + t.String())
}

// walk visits every leaf below t in order. Patterns write [] for any element
// of a list and * for any key of a map: agents.list[].id, models.providers.*.api.
func walk(t reflect.Type, pattern string, visit func(pattern string, f *field, s shape)) {
	for _, f := range fieldsOf(t) {
		at := joinKey(pattern, f.key)
		switch s := shapeOf(f.typ); s {
		case shapeStruct:
			walk(f.typ, at, visit)
		case shapeList:
			walk(f.typ.Elem(), at+"[]", visit)
		case shapeMap:
			walk(f.typ.Elem(), at+".*", visit)
		default:
			visit(at, &f, s)
		}
	}
}

// Default is the configuration of an empty file.
func Default() *Config {
	c := new(Config)
	setDefaults(reflect.ValueOf(c).Elem())
	return c
}

func setDefaults(v reflect.Value) {
	for _, f := range fieldsOf(v.Type()) {
		fv := v.FieldByIndex(f.index)
		if fv.Kind() == reflect.Struct && f.typ != reflect.TypeFor[Secret]() {
			setDefaults(fv)
		} else if f.hasDefault {
			setDefault(fv, &f)
		}
	}
}

// setDefault panics on a tag that does not fit its field: a test sets them all.
func setDefault(v reflect.Value, f *field) {
	var err error
	switch shapeOf(f.typ) {
	case shapeText:
		v.SetString(f.def)
	case shapeBool:
		var b bool
		b, err = strconv.ParseBool(f.def)
		v.SetBool(b)
	case shapeInt, shapeMillis:
		var i int64
		i, err = strconv.ParseInt(f.def, 10, 64)
		v.SetInt(i)
	case shapeSize:
		size, ok := parseSize(f.def)
		if !ok {
			panic("config: default of " + f.key)
		}
		v.SetInt(int64(size))
	case shapeTexts:
		var n *Node
		if n, err = ParseJSON5([]byte(f.def)); err == nil {
			list := make([]string, len(n.Items))
			for i, item := range n.Items {
				list[i] = item.Str
			}
			v.Set(reflect.ValueOf(list))
		}
	default:
		panic("config: no default for the type of " + f.key)
	}
	if err != nil {
		panic("config: default of " + f.key + ": " + err.Error())
	}
}

// joinKey appends a key to a path; one that is not a plain word is quoted.
func joinKey(path, key string) string {
	// A path is made for every key below, so no key may be long in it.
	plain := key != "" && len(key) <= 64
	for i := 0; i < len(key) && plain; i++ {
		c := key[i]
		plain = 'a' <= c|0x20 && c|0x20 <= 'z' || isDigit(c) || c == '_' || c == '-' || c == '$' || c == '*'
	}
	switch {
	case !plain:
		if len(key) > 64 {
			key = key[:64] + "…"
		}
		return path + "[" + strconv.Quote(key) + "]"
	case path == "":
		return key
	}
	return path + "." + key
}

func joinIndex(path string, i int) string { return path + "[" + strconv.Itoa(i) + "]" }
