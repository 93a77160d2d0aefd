package config

import (
	"reflect"
	"slices"
	"strconv"
	"strings"
)

// Change is one key, or one whole element of a list or map, that differs.
type Change struct {
	Path  string `json:"path"` // elements of lists by their id: agents.list[main].name
	Class Class  `json:"class"`
}

// Diff compares two configurations key by key, in the table's order. An
// element that came or went is one change, of the gravest class of its keys.
// Elements of lists with ids are compared by id; when only their order
// changed, the list itself is the change.
func Diff(old, new *Config) []Change {
	d := &differ{}
	d.fields("", reflect.ValueOf(old).Elem(), reflect.ValueOf(new).Elem())
	return d.changes
}

// ClassOf is the gravest class among changes, None for no change.
func ClassOf(changes []Change) Class {
	class := None
	for _, c := range changes {
		if c.Class.rank() > class.rank() {
			class = c.Class
		}
	}
	return class
}

type differ struct{ changes []Change }

func (d *differ) add(path string, class Class) { d.changes = append(d.changes, Change{path, class}) }

func (d *differ) fields(path string, old, new reflect.Value) {
	for _, f := range fieldsOf(old.Type()) {
		at, o, n := joinKey(path, f.key), old.FieldByIndex(f.index), new.FieldByIndex(f.index)
		switch shapeOf(f.typ) {
		case shapeStruct:
			d.fields(at, o, n)
		case shapeList:
			d.list(at, o, n)
		case shapeMap:
			d.elements(at, joinKey, mapOf(o), mapOf(n), f.typ.Elem())
		case shapeSecret:
			if !o.Interface().(Secret).Equal(n.Interface().(Secret)) {
				d.add(at, f.class)
			}
		case shapeSecrets:
			if !sameSecrets(o.Interface().(map[string]Secret), n.Interface().(map[string]Secret)) {
				d.add(at, f.class)
			}
		case shapeTexts:
			if (o.IsNil() != n.IsNil()) || !slices.Equal(o.Interface().([]string), n.Interface().([]string)) {
				d.add(at, f.class)
			}
		default:
			if !o.Equal(n) {
				d.add(at, f.class)
			}
		}
	}
}

func sameSecrets(a, b map[string]Secret) bool {
	if len(a) != len(b) {
		return false
	}
	same := true
	for name, s := range a {
		o, ok := b[name]
		same = s.Equal(o) && ok && same
	}
	return same
}

// keyed is the elements of a list or map with their order.
type keyed struct {
	keys   []string
	values map[string]reflect.Value
}

func mapOf(v reflect.Value) keyed {
	k := keyed{values: map[string]reflect.Value{}}
	for it := v.MapRange(); it.Next(); {
		k.keys = append(k.keys, it.Key().String())
		k.values[it.Key().String()] = it.Value()
	}
	slices.Sort(k.keys)
	return k
}

// listOf keys a list by id; ok is false when the ids are not unique, or there are none.
func listOf(v reflect.Value) (k keyed, ok bool) {
	k.values = map[string]reflect.Value{}
	id := findField(fieldsOf(v.Type().Elem()), "id")
	for i := range v.Len() {
		if id == nil {
			return k, false
		}
		key := v.Index(i).FieldByIndex(id.index).String()
		if _, twice := k.values[key]; twice || key == "" {
			return k, false
		}
		k.keys = append(k.keys, key)
		k.values[key] = v.Index(i)
	}
	return k, true
}

func (d *differ) list(path string, old, new reflect.Value) {
	elem := old.Type().Elem()
	o, okOld := listOf(old)
	n, okNew := listOf(new)
	if !okOld || !okNew {
		if !reflect.DeepEqual(old.Interface(), new.Interface()) {
			d.add(path, classBelow(elem))
		}
		return
	}
	d.elements(path, joinID, o, n, elem)
	// The first agent may be the default one: order means something.
	common := func(k, other keyed) []string {
		return slices.DeleteFunc(slices.Clone(k.keys), func(key string) bool { return !other.values[key].IsValid() })
	}
	if !slices.Equal(common(o, n), common(n, o)) {
		d.add(path, classBelow(elem))
	}
}

// joinID is the path of the element of a list that has this id.
func joinID(path, id string) string {
	if joinKey("", id) == id && strings.Trim(id, "0123456789") != "" {
		return path + "[" + id + "]"
	}
	return path + "[" + strconv.Quote(id) + "]"
}

func (d *differ) elements(path string, join func(path, key string) string, old, new keyed, elem reflect.Type) {
	keys := append(slices.Clone(old.keys), new.keys...)
	slices.Sort(keys)
	for _, key := range slices.Compact(keys) {
		o, n := old.values[key], new.values[key]
		if o.IsValid() && n.IsValid() {
			d.fields(join(path, key), o, n)
		} else {
			d.add(join(path, key), classBelow(elem))
		}
	}
}

// classBelow is the gravest class of any key of a struct.
func classBelow(t reflect.Type) Class {
	class := None
	walk(t, "", func(_ string, f *field, _ shape) {
		if f.class.rank() > class.rank() {
			class = f.class
		}
	})
	return class
}
