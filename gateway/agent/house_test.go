package agent

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"openclaw/gateway/store"
	"openclaw/reload/config"
)

// TestMain is also the programs that tests start and kill.
func TestMain(m *testing.M) {
	children := map[string]func(dir string){"turns": childTurns, "limited": childLimited}
	if child := children[os.Getenv("AGENT_TEST_CHILD")]; child != nil {
		child(os.Getenv("AGENT_TEST_DIR"))
		return
	}
	os.Exit(m.Run())
}

// fakeModel answers in place of the built-in echo.
type fakeModel func(ctx context.Context, r *modelRequest, emit func(delta)) (*modelResult, error)

func (f fakeModel) stream(ctx context.Context, r *modelRequest, emit func(delta)) (*modelResult, error) {
	return f(ctx, r, emit)
}

// answering says text in words.
func answering(text func(r *modelRequest) string) fakeModel {
	return func(_ context.Context, r *modelRequest, emit func(delta)) (*modelResult, error) {
		s := text(r)
		for w := range strings.SplitAfterSeq(s, " ") {
			emit(delta{Text: w})
		}
		return &modelResult{Content: store.Text(s), StopReason: stopEnd, Usage: store.Usage{Input: 11, Output: 7, TotalTokens: 18}}, nil
	}
}

// lastSaid is the text of a request's newest message.
func lastSaid(r *modelRequest) string { return r.Messages[len(r.Messages)-1].Content.String() }

// reTo answers «re: » and the newest message.
func reTo(r *modelRequest) string { return "re: " + lastSaid(r) }

// house is Agents with all around them.
type house struct {
	*Agents
	t    testing.TB
	cfg  *config.Config
	path string
	log  *lockedBuffer

	mu     sync.Mutex
	events []Event
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// open makes a house on a state directory; model nil is the built-in echo.
func openHouse(t testing.TB, path string, model client, change func(*config.Config)) *house {
	t.Helper()
	cfg := config.Default()
	if change != nil {
		change(cfg)
	}
	dir, err := store.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	h := &house{t: t, cfg: cfg, path: path, log: &lockedBuffer{}}
	h.Agents = New(Options{
		Dir: dir, Config: func() *config.Config { return cfg }, Log: slog.New(slog.NewTextHandler(h.log, nil)),
		Sink: func(e Event) {
			h.mu.Lock()
			h.events = append(h.events, e)
			h.mu.Unlock()
		},
	})
	if model != nil {
		h.models.clients[config.APIBuiltin] = model
	}
	t.Cleanup(h.close)
	return h
}

func newHouse(t testing.TB, model client) *house { return openHouse(t, stateDir(t), model, nil) }

// stateDir is a fresh directory that store.Open makes itself.
func stateDir(t testing.TB) string { return filepath.Join(t.TempDir(), "state") }

// close drains and closes, once.
func (h *house) close() {
	if h.Drain(h.t.Context()); h.dir != nil {
		h.dir.Close()
		h.dir = nil
	}
}

func userTurn(key, text string) Turn {
	return Turn{SessionKey: key, Messages: []store.Message{{Role: store.RoleUser, Content: store.Text(text)}}}
}

// start starts a turn that must be accepted.
func (h *house) start(turn Turn) *Run {
	h.t.Helper()
	run, err := h.Start(context.Background(), turn)
	if err != nil {
		h.t.Fatalf("start: %v", err)
	}
	return run
}

// say runs a turn to its end.
func (h *house) say(key, text string) Result {
	h.t.Helper()
	run := h.start(userTurn(key, text))
	<-run.Done()
	return run.Result()
}

// told is a run's events as text: kinds and what they carry.
func (h *house) told(run *Run) string {
	h.mu.Lock()
	defer h.mu.Unlock()
	names := map[Kind]string{KindStart: "start", KindModel: "model", KindDelta: "delta", KindThinking: "thinking",
		KindToolCall: "tool", KindToolStart: "ran", KindToolUpdate: "update", KindToolResult: "got", KindEnd: "end", KindError: "error", KindAborted: "aborted"}
	var list []string
	for _, e := range h.events {
		if e.Run != run {
			continue
		}
		if e.Seq != len(list)+1 {
			h.t.Errorf("event %d of %s has seq %d", len(list)+1, run.ID, e.Seq)
		}
		s := names[e.Kind]
		switch e.Kind {
		case KindModel:
			s += " " + e.Provider + "/" + e.Model
		case KindDelta:
			s += " " + e.Delta + "|" + e.Text
		case KindThinking:
			s += " " + e.Thinking
		case KindToolUpdate:
			s += fmt.Sprintf(" %d %s %s", e.Tool.Index, e.Tool.ID, e.Partial)
		case KindToolResult:
			s += fmt.Sprintf(" %d %s %s", e.Tool.Index, e.Tool.ID, e.ToolResult.Content)
		case KindToolCall, KindToolStart:
			s += fmt.Sprintf(" %d %s %s %s", e.Tool.Index, e.Tool.ID, e.Tool.Name, e.Tool.Arguments)
		case KindEnd, KindError, KindAborted:
			s += " " + e.Result.Status + " " + e.Result.StopReason
			if !errors.Is(e.Err, e.Result.Err) {
				h.t.Errorf("err %v, result %v", e.Err, e.Result.Err)
			}
		}
		list = append(list, s)
	}
	return strings.Join(list, "\n")
}

// said is a session's history, one message a line.
func (h *house) said(key string) string {
	h.t.Helper()
	history, err := h.History(key, 1000000, 0)
	if err != nil {
		h.t.Fatal(err)
	}
	var list []string
	for _, r := range history.Messages {
		list = append(list, brief(*r.Message))
	}
	return strings.Join(list, "\n")
}

// brief is a message on one line.
func brief(m store.Message) string {
	s := m.Role[:1] + ": " + m.Content.String()
	for _, p := range m.Content {
		if p.Type == store.PartToolCall {
			s += "<" + p.ID + ">"
		}
	}
	if m.ToolCallID != "" {
		s += "<" + m.ToolCallID + ">"
	}
	if m.StopReason != "" && m.StopReason != stopEnd {
		s += " (" + m.StopReason + ")"
	}
	return s
}

// lines returns the lines of a session's transcript file, all of which must be JSON.
func (h *house) lines(key string) []map[string]any {
	h.t.Helper()
	_, e, err := h.Entry(key)
	if err != nil {
		h.t.Fatal(err)
	}
	return transcriptLines(h.t, filepath.Join(h.path, "agents", "main", "sessions", e.SessionID+".jsonl"))
}

func transcriptLines(t testing.TB, path string) (lines []map[string]any) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(data)) {
		var m map[string]any
		if err := json.Unmarshal([]byte(line), &m); err != nil || !strings.HasSuffix(line, "\n") {
			t.Errorf("%s: torn line %q: %v", path, line, err)
		}
		lines = append(lines, m)
	}
	return lines
}

// kinds is the lines' types, for a look at their order.
func kinds(lines []map[string]any) string {
	var list []string
	for _, l := range lines {
		s := fmt.Sprint(l["type"])
		if m, ok := l["message"].(map[string]any); ok {
			s = fmt.Sprint(m["role"])
		} else if c, ok := l["customType"]; ok {
			s = fmt.Sprint(c)
		}
		list = append(list, s)
	}
	return strings.Join(list, " ")
}

func equal(t testing.TB, what string, got, want any) {
	t.Helper()
	if g, w := fmt.Sprint(got), fmt.Sprint(want); g != w {
		t.Errorf("%s\n got: %s\nwant: %s", what, g, w)
	}
}

func wantErr(t testing.TB, err, is error, text string) {
	t.Helper()
	if !errors.Is(err, is) || err != nil && !strings.Contains(err.Error(), text) {
		t.Errorf("error %q, want %q with %q", err, is, text)
	}
}

// gate is a model that says «half », waits to be let through, and says «done».
type gate struct {
	entered chan string   // the newest message, when a request arrives
	open    chan struct{} // one send or close lets one or all through

	mu    sync.Mutex
	asked []string // the requests' messages; read after entered
}

func newGate() *gate { return &gate{entered: make(chan string, 100), open: make(chan struct{})} }

func (g *gate) stream(ctx context.Context, r *modelRequest, emit func(delta)) (*modelResult, error) {
	var list []string
	for _, m := range r.Messages {
		list = append(list, brief(m))
	}
	g.mu.Lock()
	g.asked = append(g.asked, strings.Join(list, "\n"))
	g.mu.Unlock()
	emit(delta{Text: "half "})
	g.entered <- lastSaid(r)
	select {
	case <-g.open:
		emit(delta{Text: "done"})
		return &modelResult{Content: store.Text("half done"), StopReason: stopEnd}, nil
	case <-ctx.Done():
		return &modelResult{Content: store.Text("half "), StopReason: stopAborted}, r.ended(ctx)
	}
}

func soon() time.Time { return time.Now().Add(time.Minute) }

func isNoSpace(err error) bool { return errors.Is(err, ErrNoSpace) }
