package svc

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"

	"openclaw/gateway/store"
	"openclaw/reload/config"
	"openclaw/wire"
)

// configWritten is what the commands that write the configuration print with --json.
type configWritten struct {
	OK      bool             `json:"ok"`
	Path    string           `json:"path"`
	Hash    string           `json:"hash"` // of the new text
	Changes []config.Change  `json:"changes"`
	Written bool             `json:"written"`
	Backup  string           `json:"backup,omitempty"` // the old text
	Left    []config.Problem `json:"left"`             // what was wrong before and still is
	DryRun  bool             `json:"dryRun,omitempty"`
	Gateway *configApplied   `json:"gateway,omitempty"` // of a file that was written
	Error   *errorReport     `json:"error,omitempty"`   // why ok is false
}

// configSet puts one value into the file.
func configSet(ctx context.Context, e *Env, a *Args) error {
	path, word := a.Word(0), a.Word(1)
	typed := word != "-"
	if !typed {
		raw, err := e.readInput("-")
		if err != nil {
			return err
		}
		word = strings.TrimSuffix(strings.TrimSuffix(string(raw), "\n"), "\r")
	}
	value, err := config.Literal(path, word)
	if err != nil {
		return &Error{Code: "CONFIG_VALUE", Msg: err.Error()}
	}
	if typed && holdsSecret(path, value) {
		return &Error{Code: "USAGE", Exit: ExitUsage, Msg: path + " is a secret, and " + onArgv,
			Hint: e.Command("config set "+shellQuote(path)+" - < FILE") + ", or say where it is: '${NAME}', file:PATH or credential:NAME"}
	}
	err = e.editConfig(ctx, a, func(old []byte) ([]byte, error) { return config.Set(old, path, value) })
	var out *Error
	if advice := config.Advice(path, word); advice != "" && errors.As(err, &out) && out.Code == "CONFIG_INVALID" {
		out.Hint = advice + "; " + nothingWritten
	}
	return err
}

// holdsSecret reports whether there is a secret in the value of a path, and not
// only where to find it: by the table, or below it by the names of keys.
func holdsSecret(path string, value []byte) bool {
	keys := strings.FieldsFunc(path, func(r rune) bool { return strings.ContainsRune(`.[]"`, r) })
	if config.IsSecret(path) {
		keys = append(keys, "secret")
	}
	text := value
	for len(keys) > 0 {
		key, _ := wire.Marshal(keys[len(keys)-1])
		text, keys = fmt.Appendf(nil, "{%s: %s}", key, text), keys[:len(keys)-1]
	}
	root, err := config.ParseJSON5(text)
	return err == nil && !bytes.Equal(config.Redact(text, root), text)
}

// configUnset takes a key or an element out of the file.
func configUnset(ctx context.Context, e *Env, a *Args) error {
	return e.editConfig(ctx, a, func(old []byte) ([]byte, error) { return config.Unset(old, a.Word(0)) })
}

// configPatch merges a partial configuration into the file.
func configPatch(ctx context.Context, e *Env, a *Args) error {
	name := cmp.Or(a.Word(0), "-")
	patch, err := e.readInput(name)
	if err != nil && strings.HasPrefix(strings.TrimSpace(name), "{") {
		return usage("config patch: give a FILE, or the patch on stdin")
	} else if err != nil {
		return err
	}
	if name == "-" {
		name = "stdin"
	}
	if _, err := config.ParseJSON5(patch); err != nil {
		return e.notWritten(name, err)
	}
	return e.editConfig(ctx, a, func(old []byte) ([]byte, error) { return config.Patch(old, patch) })
}

// editConfig writes the profile's configuration file anew as edit has it, or
// with --dry-run only tells what that would do.
func (e *Env) editConfig(ctx context.Context, a *Args, edit func(old []byte) ([]byte, error)) error {
	p, err := e.Paths()
	if err != nil {
		return err
	}
	src := config.Source{Path: p.ConfigPath, Env: e.Lookup, ReadFile: store.ReadConfigFile}
	var was []byte
	var draft *config.Draft
	change := func(old []byte) ([]byte, error) {
		if now := config.Hash(old); a.Has("base-hash") && (old == nil || !strings.EqualFold(a.Get("base-hash"), now)) {
			return nil, &Error{Code: "CONFLICT", Msg: "the file is not the one of --base-hash: nothing was written", Hint: "look at it again: " + e.Command("config show --source --json")}
		}
		was = old
		text, err := edit(old)
		if err != nil {
			return nil, err
		}
		if draft, err = config.NewDraft(p.ConfigPath, old, text, src, a.Has("allow-shrink")); err != nil {
			return nil, unplaced(err)
		}
		return draft.Text, nil
	}
	out := configWritten{OK: true, Path: p.ConfigPath, DryRun: a.Has("dry-run")}
	if out.DryRun {
		var old []byte
		if old, err = store.ReadConfigFile(p.ConfigPath, config.MaxFile, false); err == nil || errors.Is(err, fs.ErrNotExist) {
			_, err = change(old)
		}
	} else if err = e.makeState(p); err == nil {
		err = store.UpdateFile(p.ConfigPath, config.MaxFile, change)
	}
	if err != nil {
		return e.notWritten(p.ConfigPath, err)
	}
	warnings := draft.Loaded.Warnings
	if out.DryRun {
		warnings, draft.Left = withoutPlaces(warnings), withoutPlaces(draft.Left)
	}
	out.Hash, out.Changes, out.Left = draft.Loaded.Hash, append([]config.Change{}, draft.Changes...), orEmpty(draft.Left)
	differs := !bytes.Equal(was, draft.Text)
	if out.Written = differs && !out.DryRun; out.Written && was != nil {
		real, _ := filepath.EvalSymlinks(p.ConfigPath)
		out.Backup = real + ".bak"
	}
	for _, w := range warnings {
		e.Warn("warning: %s", w.String())
	}
	for _, w := range draft.Left {
		e.Warn("still wrong: %s", w.String())
	}
	if out.Written {
		if was == nil && draft.Loaded.Config.Gateway.Auth.Missing() {
			e.Warn("a gateway needs a secret: openssl rand -hex 32 | %s", e.Command("config set gateway.auth.token -"))
		}
		before, _ := config.Parse(p.ConfigPath, was, src)
		out.Gateway = e.apply(ctx, p, before.Config, draft.Changes)
		if mode := out.Gateway.waits; mode != "" {
			e.Warn("gateway.hotReload.mode is %s: the running gateway waits for %s", mode, e.Command("gateway reload"))
		}
	}
	refused := out.notApplied()
	if e.JSON && refused == nil {
		return e.printJSON(out)
	} else if e.JSON {
		return refused
	}
	e.printChanges(out.Changes, differs)
	if out.Gateway != nil && out.Gateway.line != "" {
		e.printf("%s\n", oneLine(out.Gateway.line))
	}
	return refused
}

// makeState makes the state directory where it is missing and the configuration
// belongs into it, as setup does.
func (e *Env) makeState(p config.Paths) error {
	if filepath.Dir(p.ConfigPath) != p.StateDir || e.inspect(p.ConfigPath).Exists {
		return nil
	}
	d, err := store.Open(p.StateDir)
	var locked *store.LockedError
	if errors.As(err, &locked) {
		return nil // so it exists
	} else if err != nil {
		return err
	}
	return d.Close()
}

// printChanges writes one line for each key that changes.
func (e *Env) printChanges(changes []config.Change, differs bool) error {
	for _, c := range changes {
		e.printf("%s: %s\n", oneLine(c.Path), c.Class)
	}
	switch {
	case len(changes) > 0:
		return nil
	case differs:
		return e.printf("no key changes its value\n")
	}
	return e.printf("no change\n")
}

const nothingWritten = "nothing was written"

// notWritten explains why the file stays as it is.
func (e *Env) notWritten(path string, err error) error {
	var ps config.Problems
	var one *config.Problem
	var out *Error
	switch {
	case errors.As(err, &out):
		return out
	case errors.As(err, &ps):
	case errors.As(err, &one):
		one.File = cmp.Or(one.File, path)
		ps = config.Problems{*one}
	case errors.Is(err, config.ErrShrinks):
		return &Error{Code: "CONFIG_SHRINKS", Msg: err.Error() + ": " + nothingWritten, Hint: "if that is meant: --allow-shrink"}
	case errors.Is(err, config.ErrAbsent), errors.Is(err, config.ErrUnknownPath):
		return &Error{Code: "CONFIG_PATH", Msg: err.Error() + ": " + nothingWritten, Hint: e.Command("config show --source")}
	default:
		return err
	}
	out = e.BadConfig(path, ps)
	out.Hint = nothingWritten
	return out
}
