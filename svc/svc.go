// Package svc is the operator's side of openclaw: every command but the daemon
// itself. It has no power that another client lacks: what it shows comes over
// the wire from a running gateway or, when that is down, from the files that
// gateway/store and reload/config describe.
//
// One table of commands (table.go) drives parsing, dispatch and help
// (command.go, help.go). A command gets an Env, which is all it sees of the
// process, and the parsed Args; it writes its result to Env.Stdout and returns
// an error. Main turns that error into the line, the hint, the JSON document
// and the exit code (output.go). client.go finds the gateway and decides which
// credentials may go there.
package svc

import (
	"context"
	"errors"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"openclaw/reload/config"
)

// Env is all that a command sees of the process around it.
type Env struct {
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	OutTTY, ErrTTY bool // whether a person looks at Stdout, at Stderr
	Lookup         func(string) (string, bool)
	Home           string
	Program        string // how the program was called, for commands that are printed to be repeated
	Version        string
	Now            func() time.Time
	more           []Command // rows from outside this package
	host           *machine  // see the method machine

	// Set by Main from the flags that every command shares.
	LogLevel string // debug, info, warn or error; "" = not given
	NoColor  bool
	JSON     bool // stdout carries JSON and nothing else
	paths    config.Paths
	pathsErr error // why they cannot be told; no concern of commands that need none
}

// Main runs one command line and returns the exit code. more are rows of
// commands that live outside this package: the daemon.
func Main(ctx context.Context, e *Env, argv []string, more ...Command) int {
	e.more = more
	table := e.commands()
	c, a, err := parse(e, table, argv)
	if err == nil {
		switch {
		case a.Has("help") || c == nil && !a.Has("version"):
			err = printHelp(e, table, a.path)
		case a.Has("version"):
			err = printVersion(e)
		default:
			for _, n := range a.notices {
				e.Warn("%s", n)
			}
			err = c.Run(ctx, e, a)
		}
	}
	if err != nil && ctx.Err() != nil && errors.Is(err, context.Canceled) {
		err = &Error{Code: "INTERRUPTED", Exit: ExitFailed, Msg: "interrupted"}
	}
	return e.finish(err)
}

// commands is every command there is.
func (e *Env) commands() []Command { return append(slices.Clone(e.more), commands()...) }

// Paths tells where the chosen profile keeps its things.
func (e *Env) Paths() (config.Paths, error) {
	if e.pathsErr != nil {
		return e.paths, usage("%v", e.pathsErr)
	}
	return e.paths, nil
}

// getenv returns a variable's value, or "" where it is not set.
func (e *Env) getenv(name string) string {
	v, _ := e.Lookup(name)
	return v
}

// Command returns a command line that does the same in this profile when a
// person types it, for hints.
func (e *Env) Command(words string) string {
	prog := "openclaw"
	if strings.ContainsRune(e.Program, filepath.Separator) {
		if abs, err := filepath.Abs(e.Program); err == nil {
			prog = abs
		}
	}
	line := shellQuote(prog)
	switch e.paths.Profile {
	case "":
	case "dev":
		line += " --dev"
	default:
		line += " --profile " + e.paths.Profile
	}
	if e.paths.System {
		line += " --system"
	}
	return line + " " + words
}

// shellQuote returns s as one word of a POSIX shell.
func shellQuote(s string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("_-./:=@%+,", r)
	}
	if s != "" && strings.IndexFunc(s, func(r rune) bool { return !plain(r) }) < 0 {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
