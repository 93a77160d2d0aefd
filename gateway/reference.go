package gateway

import (
	"fmt"
	"strings"

	"openclaw/gateway/tool"
	"openclaw/wire"
)

// Reference is the Markdown reference of methods, events, tools, metrics
// and error codes, from the tables that the daemon runs on.
func Reference() []byte {
	var b strings.Builder
	b.WriteString("### Methods\n\n| method | scope | does |\n|---|---|---|\n")
	for _, m := range methodTable() {
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", m.name, scopeName(m.scope), m.doc)
	}
	b.WriteString("\n### Events\n\n| event | scope | tells |\n|---|---|---|\n")
	for _, e := range eventTable() {
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", e.name, scopeName(e.scope), e.doc)
	}
	b.WriteString("\n### Tools\n\n| tool | class | groups | does |\n|---|---|---|---|\n")
	for _, d := range tool.Table() {
		fmt.Fprintf(&b, "| `%s` | %s | `%s` | %s |\n", d.Name, d.Class, strings.Join(d.Groups, "`, `"), d.Description)
	}
	b.WriteString("\n### Metrics\n\n| name | type | tells |\n|---|---|---|\n")
	for _, f := range metricTable() {
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", f.name, f.kind, f.help)
	}
	b.WriteString("\n### Error codes\n\n| code | retryable | HTTP | means |\n|---|---|---|---|\n")
	for _, c := range wire.Codes() {
		fmt.Fprintf(&b, "| `%s` | %v | %d | %s |\n", c.Code, c.Retryable, c.Status, c.Doc)
	}
	return []byte(b.String())
}

func scopeName(s wire.Scope) string {
	if s == wire.ScopeNone {
		return "–"
	}
	return "`" + string(s) + "`"
}
