package svc

import (
	"fmt"
	"slices"
	"strings"
)

// Reference is the Markdown reference of the commands, from their table, with
// those that the program adds.
func Reference(more ...Command) []byte {
	var b strings.Builder
	b.WriteString("| command | does | flags |\n|---|---|---|\n")
	for _, c := range slices.Concat(more, commands()) {
		var flags []string
		for _, f := range c.Flags {
			if f.Doc != "" {
				flags = append(flags, "`"+strings.TrimSpace("--"+f.Name+" "+f.Value)+"`")
			}
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", strings.TrimSpace(c.Path+" "+c.Args), c.Doc, strings.Join(flags, " "))
	}
	return []byte(b.String())
}

// DoctorReference is the Markdown reference of doctor's checks, from their table.
func DoctorReference() []byte {
	var b strings.Builder
	b.WriteString("| check | looks whether | at worst | because | `--fix` |\n|---|---|---|---|---|\n")
	for _, c := range checks() {
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s | %s |\n", c.id, c.title, c.gravest, c.why, c.mends)
	}
	return []byte(b.String())
}
