package config

import (
	"fmt"
	"reflect"
	"strings"
)

// KeyDoc is one key of the table, for people.
type KeyDoc struct {
	Path    string `json:"path"` // with [] for an element of a list and * for a key of a map
	Type    string `json:"type"`
	Default string `json:"default,omitempty"` // as it would be written
	Range   string `json:"range,omitempty"`   // the words, or least–most
	Class   Class  `json:"reload"`
	Secret  bool   `json:"secret,omitempty"`
	Doc     string `json:"doc"`
}

var typeNames = [...]string{"string", "secret", "boolean", "integer", "number", "milliseconds", "size", "list of strings", "object of secrets"}

// Keys lists every key of the table, in its order.
func Keys() []KeyDoc {
	var keys []KeyDoc
	walk(reflect.TypeFor[Config](), "", func(pattern string, f *field, s shape) {
		k := KeyDoc{Path: pattern, Type: typeNames[s], Default: f.def, Class: f.class, Doc: f.doc,
			Secret: s == shapeSecret || s == shapeSecrets, Range: strings.Join(f.oneOf, ", ")}
		switch {
		case s == shapeSize:
			low, high := f.sizes()
			k.Range = low.String() + "–" + high.String()
		case f.min != "":
			k.Range = f.min + "–" + f.max
		}
		if f.required {
			k.Default = "required"
		}
		keys = append(keys, k)
	})
	return keys
}

// Reference is the table of keys in Markdown.
func Reference() []byte {
	b := []byte("| key | type | default | range | reload | meaning |\n| --- | --- | --- | --- | --- | --- |\n")
	code := func(s string) string {
		if s == "" {
			return ""
		}
		return "`" + s + "`"
	}
	for _, k := range Keys() {
		b = fmt.Appendf(b, "| `%s` | %s | %s | %s | %s | %s |\n", k.Path, k.Type, code(k.Default), k.Range, k.Class, strings.ReplaceAll(k.Doc, "|", `\|`))
	}
	return b
}
