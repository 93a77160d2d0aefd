package config

import (
	"encoding/json"
	"reflect"
	"strconv"
	"strings"
)

type object = map[string]any

// Schema is a JSON Schema (draft 2020-12) of the file, for editors. Keys of
// the wider product are allowed and marked deprecated, as Load tolerates them.
func Schema() []byte {
	s := schemaOf(reflect.TypeFor[Config](), "")
	s["$schema"] = "https://json-schema.org/draft/2020-12/schema"
	s["title"] = "OpenClaw Gateway configuration"
	properties := s["properties"].(object)
	properties["$schema"] = object{"type": "string"}
	for _, a := range aliases {
		// The aliased section stands elsewhere in this very schema.
		parent, key := properties, a.key
		if section, rest, ok := strings.Cut(a.key, "."); ok {
			parent, key = properties[section].(object)["properties"].(object), rest
		}
		parent[key] = object{"$ref": "#/properties/" + strings.ReplaceAll(a.same, ".", "/properties/"), "description": "The same as " + a.same + "."}
	}
	text, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		panic(err) // maps, strings, numbers and lists only
	}
	return append(text, '\n')
}

func schemaOf(t reflect.Type, pattern string) object {
	properties, open := object{}, object{}
	var required []string
	var short *field
	for _, f := range fieldsOf(t) {
		at := joinKey(pattern, f.key)
		var s object
		switch shapeOf(f.typ) {
		case shapeStruct:
			s = schemaOf(f.typ, at)
		case shapeList:
			s = object{"type": "array", "items": schemaOf(f.typ.Elem(), at+"[]")}
		case shapeMap:
			s = object{"type": "object", "additionalProperties": schemaOf(f.typ.Elem(), at+".*")}
		default:
			s = leafSchema(&f)
		}
		properties[f.key] = s
		if f.required {
			required = append(required, f.key)
		}
		if f.short {
			short = &f
		}
	}
	foreign := object{"deprecated": true, "description": "Of the wider OpenClaw product; not served by this gateway."}
	for _, e := range elsewhere {
		if e.section != pattern {
			continue
		}
		for _, word := range strings.Fields(e.keys) {
			if prefix, ok := strings.CutSuffix(word, "*"); ok {
				open["^"+prefix] = foreign
			} else {
				properties[word] = foreign
			}
		}
	}
	s := object{"type": "object", "properties": properties, "additionalProperties": false}
	if len(open) > 0 {
		s["patternProperties"] = open
	}
	if required != nil {
		s["required"] = required
	}
	if short != nil {
		return object{"anyOf": []any{s, leafSchema(short)}}
	}
	return s
}

func leafSchema(f *field) object {
	s := object{"description": f.doc, "x-reload": f.class}
	number := func(kind string) {
		s["type"] = kind
		s["minimum"], s["maximum"] = json.Number(f.min), json.Number(f.max)
	}
	switch shapeOf(f.typ) {
	case shapeText:
		s["type"] = "string"
		if f.oneOf != nil {
			s["enum"] = f.oneOf
		}
	case shapeSecret:
		s["type"], s["writeOnly"] = "string", true
	case shapeSecrets:
		s["type"], s["additionalProperties"] = "object", object{"type": "string", "writeOnly": true}
	case shapeTexts:
		s["type"], s["items"] = "array", object{"type": "string"}
	case shapeBool:
		s["type"] = "boolean"
	case shapeFloat:
		number("number")
	case shapeSize:
		number("integer")
		s["type"], s["pattern"] = []string{"integer", "string"}, `^\s*[0-9]+\s*[KMGkmg]?[Ii]?[Bb]?\s*$`
	default:
		number("integer")
	}
	if f.hasDefault {
		switch shapeOf(f.typ) {
		case shapeText, shapeSize:
			s["default"] = f.def
		case shapeBool:
			s["default"], _ = strconv.ParseBool(f.def)
		default:
			s["default"] = json.RawMessage(f.def)
		}
	}
	return s
}
