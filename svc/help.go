package svc

import (
	"fmt"
	"slices"
	"strings"
)

const helpWidth = 80

// printHelp writes help for a command, a group of commands, or the program,
// all of it from the table.
func printHelp(e *Env, table []Command, path []string) error {
	c, n, err := find(table, path)
	if err != nil {
		return err
	}
	subs := slices.DeleteFunc(slices.Clone(table), func(t Command) bool {
		f := strings.Fields(t.Path)
		return len(f) <= len(path) || !slices.Equal(f[:len(path)], path)
	})
	var b strings.Builder
	switch {
	case c != nil && n == len(path):
		fmt.Fprintf(&b, "Usage: openclaw %s\n\n", c.usage())
		wrap(&b, 0, c.Doc)
		if len(c.Aliases) > 0 {
			wrap(&b, 0, "Also: openclaw "+strings.Join(c.Aliases, ", openclaw "))
		}
		if listFlags(&b, "\nFlags:\n", c.Flags); len(subs) > 0 && c.Path != strings.Join(path, " ") {
			listCommands(&b, "\nCommands:\n", subs)
		}
	case len(path) == 0:
		b.WriteString("openclaw: a gateway between people, chat networks and agents, on this host.\n\nUsage: openclaw [--profile NAME | --dev] COMMAND …\n")
		listCommands(&b, "\nCommands:\n", table)
	default:
		fmt.Fprintf(&b, "Usage: openclaw %s COMMAND …\n", strings.Join(path, " "))
		listCommands(&b, "\nCommands:\n", subs)
	}
	listFlags(&b, "\nFlags for every command:\n", globalFlags())
	if len(path) == 0 {
		b.WriteString("\nExit codes: 0 done, 1 failed, 2 wrong command line, 3 gateway unreachable,\n4 not authorised, 78 unusable configuration or port held by a healthy gateway.\n\nMore: openclaw help COMMAND\n")
	}
	return e.printf("%s", b.String())
}

// usage is the command as it is typed, arguments and flags included.
func (c *Command) usage() string {
	s := c.Path
	if c.Args != "" {
		s += " " + c.Args
	}
	if slices.ContainsFunc(c.Flags, func(f Flag) bool { return f.Doc != "" }) {
		s += " [flags]"
	}
	return s
}

func listCommands(b *strings.Builder, title string, table []Command) {
	b.WriteString(title)
	for _, c := range table {
		item(b, 27, strings.TrimSpace(c.Path+" "+c.Args), c.Doc)
	}
}

func listFlags(b *strings.Builder, title string, flags []Flag) {
	for _, f := range flags {
		if f.Doc == "" {
			continue
		}
		b.WriteString(title)
		title = ""
		s := f.spellings()
		slices.SortStableFunc(s, func(x, y string) int { return min(len(x), 3) - min(len(y), 3) }) // -t before --to
		text := strings.Join(s, ", ")
		if f.Value != "" {
			text += " " + f.Value
		}
		item(b, 27, text, f.Doc)
	}
}

// item writes a term and its explanation beside it, or under it where the term is long.
func item(b *strings.Builder, column int, term, doc string) {
	if len([]rune(term))+4 > column {
		b.WriteString("  " + term + "\n" + strings.Repeat(" ", column))
	} else {
		fmt.Fprintf(b, "  %-*s", column-2, term)
	}
	var text strings.Builder
	wrap(&text, column, doc)
	b.WriteString(strings.TrimLeft(text.String(), " "))
}

// wrap writes text in lines of at most helpWidth, each indented.
func wrap(b *strings.Builder, indent int, text string) {
	line := indent
	b.WriteString(strings.Repeat(" ", indent))
	for i, word := range strings.Fields(text) {
		n := len([]rune(word))
		switch {
		case i == 0:
		case line+1+n > helpWidth:
			b.WriteString("\n" + strings.Repeat(" ", indent))
			line = indent
		default:
			b.WriteByte(' ')
			line++
		}
		b.WriteString(word)
		line += n
	}
	b.WriteByte('\n')
}
