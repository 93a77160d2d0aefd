package tool

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"openclaw/gateway/store"
	"openclaw/reload/config"
)

// house is a workspace with tools that may do everything in it.
type house struct {
	t     *testing.T
	tools *Tools
	dir   string // the workspace
	away  string // a directory beside it, with a secret
	cfg   *config.Config
	scope Scope
}

const secret = "the secret outside"

func newHouse(t *testing.T) *house {
	t.Helper()
	h := &house{t: t, cfg: config.Default()}
	base, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	h.dir, h.away = filepath.Join(base, "workspace"), filepath.Join(base, "away")
	h.outside("secret.txt", secret)
	state, err := store.Open(filepath.Join(base, "state"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { state.Close() })
	h.cfg.Tools.Profile = "full"
	h.tools = New(Options{Config: func() *config.Config { return h.cfg }, Dir: state, Log: slog.New(slog.DiscardHandler), Sessions: noSessions{}})
	agent, _ := h.cfg.Agent("main")
	h.scope = Scope{Agent: agent, SessionKey: "agent:main:main", Workspace: h.dir, Main: true}
	if err := os.Mkdir(h.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	return h
}

type noSessions struct{}

func (noSessions) Resolve(key, agent string) (string, error) { return key, nil }
func (noSessions) List(string) ([]SessionInfo, error)        { return nil, nil }
func (noSessions) History(string, int) ([]store.Message, int, error) {
	return nil, 0, errors.New("none")
}

func put(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func (h *house) inside(name, text string)  { h.t.Helper(); put(h.t, filepath.Join(h.dir, name), text) }
func (h *house) outside(name, text string) { h.t.Helper(); put(h.t, filepath.Join(h.away, name), text) }

func (h *house) text(name string) string {
	h.t.Helper()
	raw, err := os.ReadFile(filepath.Join(h.dir, name))
	if err != nil {
		h.t.Fatal(err)
	}
	return string(raw)
}

func (h *house) call(name, args string) Result {
	return h.tools.For(h.scope).Call(context.Background(), "1", name, json.RawMessage(args), nil)
}

// ok calls a tool that must succeed and returns its text.
func (h *house) ok(name, args string) string {
	h.t.Helper()
	r := h.call(name, args)
	if r.IsError {
		h.t.Fatalf("%s %s: %s", name, args, r.Content)
	}
	return r.Content.String()
}

// fails calls a tool that must fail and say all the words.
func (h *house) fails(name, args string, words ...string) {
	h.t.Helper()
	r := h.call(name, args)
	got := r.Content.String()
	if !r.IsError {
		h.t.Errorf("%s %s went through: %s", name, args, got)
	}
	for _, w := range words {
		if !strings.Contains(got, w) {
			h.t.Errorf("%s %s: %q does not say %q", name, args, got, w)
		}
	}
}

func quoted(s string) string {
	b, _ := json.Marshal(s)
	return string(b)
}

func newTestLog(w io.Writer) *slog.Logger { return slog.New(slog.NewTextHandler(w, nil)) }
