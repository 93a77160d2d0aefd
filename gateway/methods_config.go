package gateway

import (
	"context"
	"errors"
	"io/fs"
	"time"

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
	loaded, err := g.opts.Load()
	var problems config.Problems
	switch {
	case err == nil:
		out.Exists, out.Hash = true, loaded.Hash
		shown := config.Redact(loaded.Raw, loaded.Root)
		out.Raw = string(shown)
		if root, err := config.ParseJSON5(shown); err == nil {
			out.Parsed = root.AppendJSON(nil)
		}
		out.Warnings = issues(loaded.Warnings)
	case errors.Is(err, fs.ErrNotExist):
	case errors.As(err, &problems):
		out.Exists, out.Valid, out.Issues = true, false, issues(problems)
	default:
		return nil, err
	}
	return out, nil
}

func issues(list []config.Problem) []wire.ConfigIssue {
	out := make([]wire.ConfigIssue, len(list))
	for i, p := range list {
		out[i] = wire.ConfigIssue{Path: p.Path, Message: p.Msg}
	}
	return out
}

// configStatus says whether the running configuration is the one in the file.
func (g *Gateway) configStatus() *wire.StatusConfig {
	running := g.snapshot()
	out := &wire.StatusConfig{Path: g.opts.Paths.ConfigPath, LoadedHash: running.loaded.Hash}
	loaded, err := g.opts.Load()
	switch {
	case err == nil:
		out.FileHash = loaded.Hash
		for _, c := range config.Diff(running.cfg, loaded.Config) {
			out.Pending = append(out.Pending, c.Path)
		}
	case !errors.Is(err, fs.ErrNotExist):
		out.LastError = err.Error()
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
