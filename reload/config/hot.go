package config

import "reflect"

// WithHot is running with those keys of next that need no restart. A list or
// map of sections is taken from next as a whole unless a key in it that needs
// a restart differs. The secret goes with auth.mode: while that waits for a
// restart, so do token and password, and nothing ever takes the last secret
// away. The result shares nothing with either that could be changed.
func WithHot(running, next *Config) *Config {
	c := new(Config)
	mix(reflect.ValueOf(c).Elem(), reflect.ValueOf(running).Elem(), reflect.ValueOf(next).Elem())
	a, old := &c.Gateway.Auth, running.Gateway.Auth
	if old.Mode != next.Gateway.Auth.Mode {
		a.Token, a.Password = old.Token, old.Password
	}
	if a.Missing() {
		*a = old
	}
	return c
}

func mix(dst, running, next reflect.Value) {
	for _, f := range fieldsOf(dst.Type()) {
		to, r, n := dst.FieldByIndex(f.index), running.FieldByIndex(f.index), next.FieldByIndex(f.index)
		waits := f.class == Restart
		d := &differ{}
		switch shapeOf(f.typ) {
		case shapeStruct:
			mix(to, r, n)
			continue
		case shapeList:
			d.list("", r, n)
			waits = ClassOf(d.changes) == Restart
		case shapeMap:
			d.elements("", joinKey, mapOf(r), mapOf(n), f.typ.Elem())
			waits = ClassOf(d.changes) == Restart
		}
		if waits {
			n = r
		}
		to.Set(clone(n))
	}
}

// clone copies slices and maps all the way down. Secrets cannot be changed.
func clone(v reflect.Value) reflect.Value {
	c := reflect.New(v.Type()).Elem()
	c.Set(v)
	switch v.Kind() {
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[Secret]() {
			break
		}
		for i := range v.NumField() {
			c.Field(i).Set(clone(v.Field(i)))
		}
	case reflect.Slice:
		if !v.IsNil() {
			c.Set(reflect.MakeSlice(v.Type(), v.Len(), v.Len()))
			for i := range v.Len() {
				c.Index(i).Set(clone(v.Index(i)))
			}
		}
	case reflect.Map:
		if !v.IsNil() {
			c.Set(reflect.MakeMapWithSize(v.Type(), v.Len()))
			for it := v.MapRange(); it.Next(); {
				c.SetMapIndex(it.Key(), clone(it.Value()))
			}
		}
	}
	return c
}
