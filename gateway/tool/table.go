package tool

import (
	"context"
	"encoding/json"
	"reflect"
	"slices"
	"sync"

	"openclaw/reload/config"
)

// row is one tool.
type row struct {
	Definition
	args  reflect.Type
	run   func(ctx context.Context, c *call, args json.RawMessage) (Result, error)
	check func(c *call, args json.RawMessage) error // args alone, nothing is run
}

// tool makes a row of a handler and the type of its arguments, to which A is the
// pointer and whose tags (args.go) give the schema. The groups come from
// config.ToolGroups.
func tool[A any](name string, class Class, description string, h func(ctx context.Context, c *call, a A) (Result, error)) *row {
	t := reflect.TypeFor[A]().Elem()
	r := &row{args: t, Definition: Definition{Name: name, Description: description, Class: class, Parameters: schemaOf(t), Groups: config.GroupsOf(name)}}
	r.run = func(ctx context.Context, c *call, args json.RawMessage) (Result, error) {
		a := reflect.New(t).Interface()
		if err := decode(c, args, a); err != nil {
			return Result{}, err
		}
		return h(ctx, c, a.(A))
	}
	r.check = func(c *call, args json.RawMessage) error { return decode(c, args, reflect.New(t).Interface()) }
	return r
}

// rows is the table of tools. It is built once, by a function, so that a
// handler may read it.
var rows = sync.OnceValue(func() []*row {
	return slices.Concat(execTools(), fileTools(), processTools(), webTools(), sessionTools(), messageTools())
})

// Table returns every tool there is. A name in a policy that is neither here
// nor in config.ToolGroups is a warning of the configuration.
func Table() []Definition { return definitions(rows()) }
