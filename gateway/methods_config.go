package gateway

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"strings"
	"time"

	"openclaw/gateway/store"
	"openclaw/reload/config"
	"openclaw/wire"
)

// configGet answers with the file as it is now and the configuration in
// effect, which differ until the file is loaded.
func (g *Gateway) configGet(ctx context.Context, p *peer, in *wire.Empty) (*wire.ConfigSnapshot, error) {
	running := g.snapshot()
	out := &wire.ConfigSnapshot{
		Path: g.opts.Paths.ConfigPath, Valid: true, Parsed: wire.Raw("{}"), Config: running.cfg.JSON(true),
		Issues: []wire.ConfigIssue{}, Warnings: []wire.ConfigIssue{}, LegacyIssues: []wire.ConfigIssue{},
	}
	loaded, err := config.Load(g.opts.source())
	var problems config.Problems
	switch {
	case err == nil, errors.Is(err, fs.ErrNotExist):
	case errors.As(err, &problems):
		out.Valid, out.Issues = false, issues(problems)
	default:
		return nil, err
	}
	if loaded == nil {
		return out, nil
	}
	out.Exists, out.Hash, out.Warnings = true, loaded.Hash, issues(loaded.Warnings)
	shown := config.Redact(loaded.Raw, loaded.Root)
	out.Raw = string(shown)
	if root, err := config.ParseJSON5(shown); err == nil {
		out.Parsed = root.AppendJSON(nil)
	}
	return out, nil
}

func issues(list []config.Problem) []wire.ConfigIssue {
	out := make([]wire.ConfigIssue, len(list))
	for i, p := range list {
		out[i] = wire.ConfigIssue{Path: p.Path, Line: p.Line, Column: p.Column, Message: p.Msg}
	}
	return out
}

func (g *Gateway) configSchema(ctx context.Context, p *peer, in *wire.Empty) (*wire.ConfigSchema, error) {
	out := &wire.ConfigSchema{Schema: config.Schema(), UIHints: map[string]wire.ConfigHint{}, Version: g.version, GeneratedAt: time.Now().UTC().Format(time.RFC3339)}
	for _, k := range config.Keys() {
		out.UIHints[k.Path] = wire.ConfigHint{Help: k.Doc, Sensitive: k.Secret}
	}
	return out, nil
}

// gatewayReload has the file read and applied now, whatever hotReload.mode says.
func (g *Gateway) gatewayReload(ctx context.Context, p *peer, in *wire.ReloadQuery) (*wire.Reloaded, error) {
	done, err := g.askReload(ctx, reloadRequest{source: fromAsked, dry: in.DryRun})
	if err == nil && done.err != nil {
		err = invalidConfig(done.err)
	}
	if err != nil {
		return nil, err
	}
	return &wire.Reloaded{
		OK: true, Hash: done.hash, Changes: changesOf(done.changes), Applied: done.applied, Pending: done.pending, Restart: done.restart,
		Warnings: issues(done.warnings),
	}, nil
}

func (g *Gateway) configSet(ctx context.Context, p *peer, in *wire.ConfigWrite) (*wire.ConfigWritten, error) {
	return g.configWrite(ctx, in, func([]byte) ([]byte, error) { return []byte(in.Raw), nil })
}

func (g *Gateway) configPatch(ctx context.Context, p *peer, in *wire.ConfigWrite) (*wire.ConfigWritten, error) {
	return g.configWrite(ctx, in, func(old []byte) ([]byte, error) { return config.Patch(old, []byte(in.Raw)) })
}

// configWrite replaces the file by an edit of it and has that applied.
func (g *Gateway) configWrite(ctx context.Context, in *wire.ConfigWrite, edit func(old []byte) ([]byte, error)) (*wire.ConfigWritten, error) {
	path := g.opts.Paths.ConfigPath
	select {
	case g.reloader.writing <- struct{}{}:
		defer func() { <-g.reloader.writing }()
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	var draft *config.Draft
	written := false
	err := store.UpdateFile(path, config.MaxFile, func(old []byte) ([]byte, error) {
		if old != nil {
			switch in.BaseHash {
			case "":
				return nil, wire.InvalidRequest("config base hash required; re-run config.get and retry")
			case config.Hash(old):
			default:
				return nil, wire.InvalidRequest("config changed since last load; re-run config.get and retry")
			}
		}
		text, err := edit(old)
		if err == nil {
			draft, err = config.NewDraft(path, old, text, g.opts.source(), false)
		}
		if err == nil && len(draft.Left) == 0 {
			if err = g.opts.settle(draft.Loaded.Config); err == nil {
				err = g.acceptable(draft.Loaded.Config)
			}
		}
		if err != nil {
			return nil, invalidConfig(err)
		}
		written = !bytes.Equal(old, draft.Text)
		return draft.Text, nil
	})
	var refused *wire.Error
	switch {
	case errors.As(err, &refused):
		return nil, refused
	case err != nil:
		return nil, wire.Unavailable("the configuration cannot be written: %s", firstLine(err))
	}
	if written {
		g.reloader.log.Info("config written", "bytes", len(draft.Text), "note", in.Note)
	}
	done, err := g.askReload(ctx, reloadRequest{source: fromRPC})
	if err == nil {
		err = done.err
	}
	if err != nil {
		return nil, wire.Unavailable("the configuration is written, but not applied: %s", firstLine(err))
	}
	return &wire.ConfigWritten{
		OK: true, Path: path, Config: g.cfg().JSON(true), Hash: done.hash,
		Changes: changesOf(done.changes), Applied: done.applied, Pending: done.pending, Restart: done.restart,
	}, nil
}

// invalidConfig tells a client why a configuration cannot be used, key by key.
func invalidConfig(err error) *wire.Error {
	var problems config.Problems
	if !errors.As(err, &problems) || len(problems) == 0 {
		return wire.InvalidRequest("%s", firstLine(err))
	}
	e := wire.InvalidRequest("invalid config")
	if first := problems[0]; first.Path == "" && first.Line > 0 {
		e = wire.InvalidRequest("SyntaxError: JSON5: %s at %d:%d", first.Msg, first.Line, first.Column)
	}
	e.Details = map[string]any{"issues": issues(problems)}
	return e
}

func firstLine(err error) string {
	line, _, _ := strings.Cut(err.Error(), "\n")
	return line
}

func changesOf(list []config.Change) []wire.ConfigChange {
	out := make([]wire.ConfigChange, len(list))
	for i, c := range list {
		out[i] = wire.ConfigChange{Path: c.Path, Class: string(c.Class)}
	}
	return out
}
