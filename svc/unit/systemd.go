package unit

import (
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// renderSystemd writes the rows of the table as a unit file (systemd.syntax(7)).
func renderSystemd(p place, u Unit) string {
	var b strings.Builder
	for _, d := range directives {
		if d.in&p != 0 && d.name[0] == '[' {
			fmt.Fprintf(&b, "\n%s\n", d.name)
			continue
		}
		v := d.of(p, u)
		if v == nil {
			continue
		}
		if d.why != "" {
			fmt.Fprintf(&b, "# %s\n", d.why)
		}
		lines, ok := v.([]string)
		if !ok {
			lines = []string{v.(string)}
		}
		for _, line := range lines {
			fmt.Fprintf(&b, "%s=%s\n", d.name, line)
		}
	}
	return b.String()
}

// bare are words that systemd reads the same without quotes.
var bare = regexp.MustCompile(`^[A-Za-z0-9/._,@=-]+$`)

// sdQuote writes one word for the parsers that know quotes, C escapes and
// specifiers. Control characters never get here, so two escapes are enough;
// they mean the same to the parsers that know quotes only.
func sdQuote(s string) string {
	if bare.MatchString(s) {
		return s
	}
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, `%`, `%%`).Replace(s) + `"`
}

// sdWords writes a command line. A $ in it would be replaced by systemd in the
// arguments and not in the program's path, so it is doubled here and refused there.
func sdWords(argv []string) string {
	return strings.ReplaceAll(strings.Join(each(argv, sdQuote), " "), "$", "$$")
}

// each writes one line for each value.
func each[T any](values []T, write func(T) string) []string {
	var out []string
	for _, v := range values {
		out = append(out, write(v))
	}
	return out
}

// sdPaths writes paths one a line. Only the state directory and that of the
// configuration must exist; a workspace that is missing (a disk not mounted)
// costs its agent and not the gateway.
func sdPaths(must, optional []string) []string {
	return append(each(must, sdQuote), each(optional, func(p string) string { return sdQuote("-" + p) })...)
}

// beneath is the name of a directory directly in dir that systemd may make
// there (private is its own), nil for any other path.
func beneath(dir, path string) any {
	if name := filepath.Base(path); filepath.Dir(path) == dir && bare.MatchString(name) && name[0] != '-' && name != "private" {
		return name
	}
	return nil
}

func ifSet(v any, s string) any {
	if v == nil {
		return nil
	}
	return s
}

// writable is what a systemd unit makes writable by name: what must exist, and
// the workspaces. The system unit does not make the configuration writable.
func writable(t Target, u Unit) (must, optional []string) {
	have := []string{u.StateDir}
	if t == SystemdUser || beneath("/var/lib", u.StateDir) == nil {
		must = append(must, u.StateDir)
	}
	if dir := filepath.Dir(u.ConfigPath); t == SystemdUser && !within(have, dir) {
		must, have = append(must, dir), append(have, dir)
	}
	for _, w := range u.Workspaces {
		if !within(have, w) {
			optional, have = append(optional, w), append(have, w)
		}
	}
	return must, optional
}

// within reports whether path is one of dirs or lies in one.
func within(dirs []string, path string) bool {
	return slices.ContainsFunc(dirs, func(d string) bool { return path == d || d == "/" || strings.HasPrefix(path, d+"/") })
}

// parseSystemd reads back what renderSystemd wrote, by systemd's rules and not
// by ours, so that it proves the text and not the writer.
func parseSystemd(p place, text string) (Unit, error) {
	lines, err := sdLines(text)
	if err != nil {
		return Unit{}, err
	}
	var u Unit
	var paths []string
	binds, executable := "BindPaths", false
	if p == system {
		binds = "ReadWritePaths"
	}
	for _, l := range lines {
		var words []string
		switch l.name {
		case "ExecStart", "Environment", binds:
			if words, err = sdSplit(l.value, l.name == "ExecStart"); err != nil {
				return Unit{}, fmt.Errorf("%s: %w", l.name, err)
			}
		}
		switch l.name {
		case "ExecStart":
			err, executable = u.fromArgv(words), true
		case "Environment":
			for _, w := range words {
				u.fromVar(w)
			}
		case binds:
			paths = append(paths, words...)
		case "User":
			u.User = l.value
		case "Group":
			u.Group = l.value
		case "LoadCredential":
			name, path, _ := strings.Cut(l.value, ":")
			u.Credentials = append(u.Credentials, Credential{name, path})
		case "SocketBindAllow":
			var port int
			port, err = strconv.Atoi(strings.TrimPrefix(l.value, "tcp:"))
			u.Ports = append(u.Ports, port)
		case "TimeoutStopSec":
			u.Grace, err = fromStop(l.value)
		case "IPAddressDeny":
			u.LocalOnly = l.value == "any"
		case "RestrictNamespaces":
			u.Chromium = l.value != "yes"
		}
		if err != nil {
			return Unit{}, fmt.Errorf("%s: %w", l.name, err)
		}
	}
	if !executable {
		return Unit{}, errors.New("no ExecStart=")
	}
	u.Node = !u.Chromium && !slices.ContainsFunc(lines, func(l sdLine) bool { return l.name == "MemoryDenyWriteExecute" })
	for _, path := range paths {
		path = strings.TrimPrefix(path, "-")
		if path != u.StateDir && (p == system || path != filepath.Dir(u.ConfigPath)) {
			u.Workspaces = append(u.Workspaces, path)
		}
	}
	return u, nil
}

type sdLine struct{ name, value string }

// sdLines are a unit's assignments: no comments, continued lines joined.
func sdLines(text string) ([]sdLine, error) {
	var out []sdLine
	joined := ""
	for line := range strings.Lines(text) {
		line = strings.Trim(line, " \t\r\n")
		if line == "" && joined == "" || strings.HasPrefix(line, "#") || strings.HasPrefix(line, ";") {
			continue
		}
		if rest, ok := strings.CutSuffix(line, `\`); ok {
			joined += rest + " "
			continue
		}
		line, joined = joined+line, ""
		if strings.HasPrefix(line, "[") {
			continue
		}
		name, value, ok := strings.Cut(line, "=")
		if !ok {
			return nil, errors.New("a line without =")
		}
		out = append(out, sdLine{strings.TrimRight(name, " \t"), strings.TrimLeft(value, " \t")})
	}
	return out, nil
}

// sdSplit splits a value into words as systemd does: blanks part them, quotes
// of both kinds join, a backslash begins a C escape, %% is a percent sign and,
// in a command line, $$ a dollar. Escapes and specifiers that Render never
// writes are an error: their value is not known here.
func sdSplit(s string, command bool) ([]string, error) {
	var words []string
	var word strings.Builder
	quote, in := byte(0), false
	for i := 0; i < len(s); i++ {
		c := s[i]
		next := byte(0)
		if i+1 < len(s) {
			next = s[i+1]
		}
		switch {
		case quote == 0 && (c == ' ' || c == '\t'):
			if in {
				words = append(words, word.String())
				word.Reset()
				in = false
			}
			continue
		case c == quote:
			quote = 0
			continue
		case quote == 0 && (c == '"' || c == '\''):
			quote, in = c, true
			continue
		case c == '\\' && (next == '\\' || next == '"' || next == '\''), c == '%' && next == '%', command && c == '$' && next == '$':
			c = next
			i++
		case c == '\\', c == '%', command && c == '$':
			return nil, fmt.Errorf("%q is not known here", string([]byte{c, next}))
		}
		word.WriteByte(c)
		in = true
	}
	if quote != 0 {
		return nil, errors.New("an open quote")
	}
	if in {
		words = append(words, word.String())
	}
	return words, nil
}

// fromStop is the grace period that a supervisor's patience in seconds was made of.
func fromStop(seconds string) (time.Duration, error) {
	n, err := strconv.Atoi(seconds)
	if err != nil {
		return 0, fmt.Errorf("%q is no number of seconds", seconds)
	}
	return time.Duration(n)*time.Second - margin, nil
}
