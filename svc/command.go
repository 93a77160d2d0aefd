package svc

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"openclaw/reload/config"
)

// Command is one row of the table: what is typed, what it takes, what it does.
type Command struct {
	Path    string   // the words that call it: "gateway status"
	Aliases []string // other words for the same
	Args    string   // positional arguments as help shows them: "METHOD", "[PATH]"
	Doc     string   // one sentence
	Flags   []Flag
	Run     func(ctx context.Context, e *Env, a *Args) error
}

// Flag is one option of a command. A name takes a value in all commands or in none.
type Flag struct {
	Name    string   // without dashes
	Aliases []string // other spellings; one letter means one dash
	Value   string   // what the value is called in help; "" = a switch
	Doc     string   // "" = accepted but not shown
	OneOf   []string // the values it may have; empty = any
	Many    bool     // it may be given more than once: the values are joined with commas
	Ignored string   // why the flag does nothing here: accepted with a notice
	Refused string   // why the flag must not be used
	Hint    string   // with Refused: what to do instead
}

// Args is what a command was called with.
type Args struct {
	Words   []string          // positional arguments
	path    []string          // the words of the command, or of the group help is wanted for
	flags   map[string]string // by Flag.Name; a switch is "true" or absent
	unit    time.Duration     // what a plain number of --timeout counts
	notices []string
}

// Has reports whether a flag was given; a switch that was given as false was not.
func (a *Args) Has(name string) bool { _, ok := a.flags[name]; return ok }

// Get returns a flag's value, or "" where it was not given.
func (a *Args) Get(name string) string { return a.flags[name] }

// Word returns a positional argument, or "" where it was not given.
func (a *Args) Word(i int) string {
	if i < len(a.Words) {
		return a.Words[i]
	}
	return ""
}

// Int returns a flag's number, or def where it was not given.
func (a *Args) Int(name string, def, least, most int) (int, error) {
	s, ok := a.flags[name]
	if !ok {
		return def, nil
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < least || n > most {
		return 0, usage("--%s: %q is not a number from %d to %d", name, s, least, most)
	}
	return n, nil
}

// Port returns the base port that --port names, 0 where it was not given.
func (a *Args) Port() (int, error) {
	n, err := a.Int("port", 0, 1, 65535)
	if err == nil && n != 0 {
		if _, err := config.Block(n); err != nil {
			return 0, usage("--port: %v", err)
		}
	}
	return n, err
}

// Duration returns a flag's span of time, or def where it was not given. A
// plain number counts units of unit.
func (a *Args) Duration(name string, def, unit time.Duration) (time.Duration, error) {
	s, ok := a.flags[name]
	if !ok {
		return def, nil
	}
	if n, err := strconv.ParseInt(s, 10, 32); err == nil && n > 0 && n <= int64(math.MaxInt64/unit) {
		return time.Duration(n) * unit, nil
	}
	if d, err := time.ParseDuration(s); err == nil && d > 0 {
		return d, nil
	}
	return 0, usage("--%s: %q is not a length of time such as 90s, 10m or 2h", name, s)
}

// timeout is the flag of that name, 0 where it was not given.
func (a *Args) timeout() (time.Duration, error) { return a.Duration("timeout", 0, a.unit) }

// globalFlags may stand anywhere on the line, whatever the command.
func globalFlags() []Flag {
	return []Flag{
		{Name: "profile", Value: "NAME", Doc: "Use the state, configuration and ports of this profile."},
		{Name: "dev", Doc: "Short for --profile dev: an isolated gateway to try things on."},
		{Name: "no-color", Doc: "Plain text, as with NO_COLOR or without a terminal."},
		{Name: "log-level", Value: "LEVEL", OneOf: []string{"debug", "info", "warn", "error"}, Doc: "Least level logged: debug, info, warn or error."},
		{Name: "version", Aliases: []string{"V"}, Doc: "Print the version."},
		{Name: "help", Aliases: []string{"h"}, Doc: "Print help for the command."},
	}
}

// parse reads a command line. Flags may stand anywhere; where a word belongs
// is decided by the table alone, so a line means the same in every order.
func parse(e *Env, table []Command, argv []string) (*Command, *Args, error) {
	a := &Args{flags: map[string]string{}, unit: time.Millisecond}
	e.JSON = slices.Contains(argv, "--json") // also for complaints about the line itself
	type given struct{ text, value string }
	var flags []given
	var words []string
	for i := 0; i < len(argv); i++ {
		arg := argv[i]
		if arg == "--" {
			words = append(words, argv[i+1:]...)
			break
		}
		if len(arg) < 2 || arg[0] != '-' || strings.Trim(arg[1:], "0123456789") == "" { // -5 is a number
			words = append(words, arg)
			continue
		}
		text, value, inline := strings.Cut(arg, "=")
		f := anyFlag(table, text)
		switch {
		case f == nil:
			c, n, err := find(table, words)
			if err != nil {
				return nil, nil, err
			}
			return nil, nil, unknownFlag(words[:n], c.allowed(), text)
		case f.Value == "" && inline:
			on, err := strconv.ParseBool(value)
			if err != nil {
				return nil, nil, usage("%s is a switch: it takes true, false or nothing", text)
			}
			if !on {
				continue
			}
		case f.Value != "" && !inline:
			i++
			if i == len(argv) || strings.HasPrefix(argv[i], "--") && anyFlag(table, argv[i]) != nil {
				return nil, nil, usage("%s needs a value: %s=%s", text, text, f.Value)
			}
			value = argv[i]
		}
		flags = append(flags, given{text, value})
	}

	c, n, err := find(table, words)
	if err != nil {
		return nil, nil, err
	}
	a.path, a.Words = words[:n], words[n:]
	allowed := c.allowed()
	for _, g := range flags {
		f := flagNamed(allowed, g.text)
		switch {
		case f == nil:
			return nil, nil, unknownFlag(a.path, allowed, g.text)
		case f.Refused != "":
			return nil, nil, &Error{Code: "USAGE", Exit: ExitUsage, Msg: fmt.Sprintf("--%s: %s", f.Name, f.Refused), Hint: f.Hint}
		case f.Ignored != "":
			a.notices = append(a.notices, fmt.Sprintf("--%s has no effect: %s", f.Name, f.Ignored))
			continue
		case len(f.OneOf) > 0:
			i := slices.IndexFunc(f.OneOf, func(one string) bool { return strings.EqualFold(one, g.value) })
			if i < 0 {
				return nil, nil, usage("--%s: %q is none of %s%s", f.Name, g.value, strings.Join(f.OneOf, ", "), didYouMean(config.Nearest(g.value, f.OneOf)))
			}
			g.value = f.OneOf[i]
		}
		if f.Value == "" {
			g.value = "true"
		}
		if f.Name == "timeout" && f.Value == "SECONDS" {
			a.unit = time.Second
		}
		if f.Many && a.Has(f.Name) {
			g.value = a.Get(f.Name) + "," + g.value
		}
		a.flags[f.Name] = g.value
	}
	if err := e.setGlobals(a); err != nil {
		return nil, nil, err
	}
	switch {
	case a.Has("help"), a.Has("version"):
	case c != nil:
		err = c.checkArgs(a)
	case n > 0:
		group := strings.Join(a.path, " ")
		err = &Error{Code: "USAGE", Exit: ExitUsage, Msg: group + ": which one? " + strings.Join(subcommands(table, a.path), ", "), Hint: "openclaw help " + group}
	}
	return c, a, err
}

// setGlobals moves the flags that every command shares into the Env.
func (e *Env) setGlobals(a *Args) error {
	profile := a.Get("profile")
	if a.Has("profile") && !config.IsID(profile) {
		return usage("--profile: %q is no name for a profile: lower-case letters, digits, - and _, at most 64", profile)
	}
	if a.Has("dev") {
		if a.Has("profile") && profile != "dev" {
			return usage("--dev means --profile dev, which contradicts --profile %s", profile)
		}
		profile = "dev"
	}
	if e.paths, e.pathsErr = config.Resolve(profile, e.Lookup, e.Home); a.Has("system") {
		e.useSystem(profile, e.machine().goos)
	}
	e.JSON = a.Has("json") || a.Get("format") == "json"
	e.LogLevel = a.Get("log-level")
	e.NoColor = a.Has("no-color") || e.getenv("NO_COLOR") != ""
	return nil
}

// find returns the command that the first words name and how many of them it
// takes; no command and all words where they name a group or nothing at all.
func find(table []Command, words []string) (*Command, int, error) {
	var best *Command
	taken := -1
	for i := range table {
		for _, p := range table[i].paths() {
			if f := strings.Fields(p); len(f) > taken && len(f) <= len(words) && slices.Equal(f, words[:len(f)]) {
				best, taken = &table[i], len(f)
			}
		}
	}
	if best != nil {
		// "gateway" alone runs it, but "gateway strat" is a slip and not an argument.
		if len(words) > taken && best.Args == "" {
			if subs := subcommands(table, words[:taken]); len(subs) > 0 {
				return nil, 0, unknownCommand(words[:taken+1], subs)
			}
		}
		return best, taken, nil
	}
	for n := range words {
		subs := subcommands(table, words[:n])
		if !slices.Contains(subs, words[n]) {
			return nil, 0, unknownCommand(words[:n+1], subs)
		}
	}
	return nil, len(words), nil
}

// allowed are the flags of a command, or where there is none those that help and the version take.
func (c *Command) allowed() []Flag {
	if c == nil {
		return append(globalFlags(), Flag{Name: "json", Doc: "Print one JSON document and nothing else."})
	}
	return append(globalFlags(), c.Flags...)
}

func (c *Command) paths() []string { return append([]string{c.Path}, c.Aliases...) }

// subcommands lists the words that may follow a path.
func subcommands(table []Command, path []string) []string {
	var out []string
	for i := range table {
		for _, p := range table[i].paths() {
			f := strings.Fields(p)
			if len(f) > len(path) && slices.Equal(f[:len(path)], path) && !slices.Contains(out, f[len(path)]) {
				out = append(out, f[len(path)])
			}
		}
	}
	return out
}

// checkArgs compares the positional arguments with the row's usage.
func (c *Command) checkArgs(a *Args) error {
	names := strings.Fields(c.Args)
	for i, n := range names {
		if strings.HasSuffix(n, "…]") {
			return nil
		}
		if i >= len(a.Words) && n[0] != '[' {
			return usage("%s: %s is missing: openclaw %s %s", c.Path, n, c.Path, c.Args)
		}
	}
	if len(a.Words) > len(names) {
		return usage("%s: unexpected argument %q", c.Path, a.Words[len(names)])
	}
	return nil
}

// anyFlag finds a flag of any command by the text that was typed, dashes included.
func anyFlag(table []Command, text string) *Flag {
	if f := flagNamed(globalFlags(), text); f != nil {
		return f
	}
	for i := range table {
		if f := flagNamed(table[i].Flags, text); f != nil {
			return f
		}
	}
	return nil
}

func flagNamed(flags []Flag, text string) *Flag {
	for i := range flags {
		if slices.Contains(flags[i].spellings(), text) {
			return &flags[i]
		}
	}
	return nil
}

// spellings returns the flag as it is typed, canonical form first.
func (f *Flag) spellings() []string {
	out := []string{"--" + f.Name}
	for _, a := range f.Aliases {
		if len(a) == 1 {
			out = append(out, "-"+a)
		} else {
			out = append(out, "--"+a)
		}
	}
	return out
}

func unknownFlag(path []string, allowed []Flag, text string) error {
	var names []string
	for i := range allowed {
		if allowed[i].Doc != "" {
			names = append(names, allowed[i].spellings()...)
		}
	}
	where := ""
	if len(path) > 0 {
		where = strings.Join(path, " ") + ": "
	}
	return usage("%sunknown flag %q%s", where, text, didYouMean(config.Nearest(text, names)))
}

func unknownCommand(words, known []string) error {
	near := config.Nearest(words[len(words)-1], known)
	if near != "" {
		near = strings.Join(append(slices.Clone(words[:len(words)-1]), near), " ")
	}
	err := usage("unknown command %q%s", strings.Join(words, " "), didYouMean(near))
	if near == "" {
		err.Hint = "openclaw help"
	}
	return err
}

func didYouMean(near string) string {
	if near == "" {
		return ""
	}
	return " (did you mean " + near + "?)"
}
