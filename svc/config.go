package svc

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"openclaw/reload/config"
	"openclaw/wire"
)

// orEmpty makes [] of what JSON would call null.
func orEmpty(ps []config.Problem) []config.Problem { return append([]config.Problem{}, ps...) }

// loadForUse is Load for commands that need a configuration, with the next step in the error.
func (e *Env) loadForUse(path string) (*config.Loaded, error) {
	l, err := e.Load(path)
	if err == nil {
		return l, nil
	}
	return l, e.BadConfig(path, err)
}

// BadConfig explains why a configuration cannot be used: everything wrong with it.
func (e *Env) BadConfig(path string, err error) *Error {
	var ps config.Problems
	switch {
	case errors.Is(err, fs.ErrNotExist) && !errors.As(err, &ps):
		out := &Error{Code: "CONFIG_MISSING", Msg: "there is no configuration at " + path}
		if path == e.paths.ConfigPath {
			out.Hint = e.Command(map[bool]string{false: "setup", true: "gateway install"}[e.paths.System])
		}
		return out
	case errors.As(err, &ps):
		return &Error{Code: "CONFIG_INVALID", Msg: ps.Error(), Body: map[string]any{"ok": false, "file": path, "problems": ps,
			"error": errorReport{"CONFIG_INVALID", fmt.Sprintf("%s in %s", count(len(ps), "problem"), path)}}}
	default:
		return &Error{Code: "CONFIG_INVALID", Msg: err.Error()}
	}
}

// configValidate checks a file without touching anything.
func configValidate(_ context.Context, e *Env, a *Args) error {
	p, err := e.Paths()
	path := a.Word(0)
	if path == "" {
		if path = p.ConfigPath; err != nil {
			return err
		}
	}
	l, err := e.Load(path)
	if err != nil {
		return e.BadConfig(path, err)
	}
	if auth := l.Config.Gateway.Auth; auth.Missing() {
		l.Warnings = append(l.Warnings, config.Problem{File: path, Msg: fmt.Sprintf("%s is not set, and a gateway does not start without a secret: %s, or %s",
			auth.SecretKey(), e.Command("config set "+auth.SecretKey()+" - < FILE"), auth.SecretVar())})
	}
	if a.Has("strict") && len(l.Warnings) > 0 {
		return e.BadConfig(path, config.Problems(l.Warnings))
	}
	if e.JSON {
		return e.printJSON(map[string]any{"ok": true, "file": path, "hash": l.Hash, "problems": []config.Problem{}, "warnings": orEmpty(l.Warnings)})
	}
	for _, w := range l.Warnings {
		e.Warn("warning: %s", w.String())
	}
	return e.printf("%s: valid\n", oneLine(path))
}

// configShow prints the effective configuration, or the file as it is written.
func configShow(_ context.Context, e *Env, a *Args) error {
	p, err := e.Paths()
	if err != nil {
		return err
	}
	if a.Has("source") {
		if a.Word(0) != "" {
			return usage("--source shows the whole file, not a PATH")
		}
		// A file that is wrong can be shown too, as long as it can be redacted.
		l, err := e.Load(p.ConfigPath)
		if l == nil || l.Root == nil {
			return e.BadConfig(p.ConfigPath, err)
		}
		text := config.Redact(l.Raw, l.Root)
		if !e.JSON {
			return e.printf("%s", escape(string(text)))
		}
		return e.printJSON(map[string]any{"path": p.ConfigPath, "raw": string(text), "hash": l.Hash})
	}
	l, err := e.loadForUse(p.ConfigPath)
	if err != nil {
		return err
	}
	if a.Has("show-secrets") {
		if !e.OutTTY || a.Word(0) != "" {
			return usage("--show-secrets prints the whole configuration, on a terminal only")
		}
		return e.printFolded(l.Config.JSON(false))
	}
	raw, err := e.value(l, a.Word(0))
	if err != nil {
		return err
	}
	return e.printFolded(raw)
}

// value returns one value of a configuration, or all for "".
func (e *Env) value(l *config.Loaded, path string) (wire.Raw, error) {
	raw, err := l.Config.Get(path)
	if err != nil {
		return nil, &Error{Code: "CONFIG_PATH", Msg: err.Error(), Hint: e.Command("config show")}
	}
	return raw, nil
}

// configGet prints one value: text as it is, everything else as JSON.
func configGet(_ context.Context, e *Env, a *Args) error {
	p, err := e.Paths()
	if err != nil {
		return err
	}
	l, err := e.loadForUse(p.ConfigPath)
	if err != nil {
		return err
	}
	raw, err := e.value(l, a.Word(0))
	if err != nil {
		return err
	}
	var text string
	if !e.JSON && wire.DecodeLoose(raw, &text) == nil {
		return e.printf("%s\n", oneLine(text))
	}
	return e.printFolded(raw)
}

func configFile(_ context.Context, e *Env, _ *Args) error {
	p, err := e.Paths()
	if err != nil {
		return err
	}
	if e.JSON {
		return e.printJSON(map[string]any{"path": p.ConfigPath, "exists": e.inspect(p.ConfigPath).Exists})
	}
	return e.printf("%s\n", oneLine(p.ConfigPath))
}

func configSchema(_ context.Context, e *Env, _ *Args) error { return e.printJSON(config.Schema()) }
