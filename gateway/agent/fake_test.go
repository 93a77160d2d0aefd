package agent

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"openclaw/gateway/store"
	"openclaw/reload/config"
)

const (
	canaryKey    = "sk-canary-8f3a2b91c07d4e65"
	canaryHeader = "hdr-canary-55d0e1b7a9c3"
	canaryPrompt = "the prompt, which is nobody's business"
)

// A fakeNet is hosts that speak HTTP over pipes, for use inside a bubble of
// testing/synctest. A host that is not in it refuses connections.
type fakeNet struct {
	t     *testing.T
	mu    sync.Mutex
	hosts map[string]*fakeHost
	log   bytes.Buffer
}

// A fakeHost answers its nth request with its nth handler, the last one again
// and again.
type fakeHost struct {
	script []http.HandlerFunc
	mu     sync.Mutex
	dials  int
	seen   []fakeRequest
	accept chan net.Conn
	closed chan struct{}
}

type fakeRequest struct {
	path   string
	header http.Header
	body   []byte
}

func newFakeNet(t *testing.T) *fakeNet { return &fakeNet{t: t, hosts: map[string]*fakeHost{}} }

func (n *fakeNet) host(name string, script ...http.HandlerFunc) *fakeHost {
	h := &fakeHost{script: script, accept: make(chan net.Conn), closed: make(chan struct{})}
	n.hosts[name+":80"] = h
	s := &http.Server{Handler: h, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, 0)}
	go s.Serve(h)
	n.t.Cleanup(func() { s.Close() })
	return h
}

func (n *fakeNet) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	h := n.hosts[addr]
	if h == nil {
		return nil, &net.OpError{Op: "dial", Net: network, Err: errors.New("connection refused")}
	}
	here, there := net.Pipe()
	select {
	case h.accept <- there:
		h.mu.Lock()
		h.dials++
		h.mu.Unlock()
		return here, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (h *fakeHost) Accept() (net.Conn, error) {
	select {
	case c := <-h.accept:
		return c, nil
	case <-h.closed:
		return nil, net.ErrClosed
	}
}
func (h *fakeHost) Close() error   { close(h.closed); return nil }
func (h *fakeHost) Addr() net.Addr { return &net.UnixAddr{Name: "fake", Net: "pipe"} }

func (h *fakeHost) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	h.mu.Lock()
	n := min(len(h.seen), len(h.script)-1)
	h.seen = append(h.seen, fakeRequest{r.URL.String(), r.Header.Clone(), body})
	h.mu.Unlock()
	h.script[n](w, r)
}

func (h *fakeHost) requests() []fakeRequest {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.seen
}

// Write receives the log of the models under test.
func (n *fakeNet) Write(p []byte) (int, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.log.Write(p)
}

// models returns models whose providers are named after the fake hosts a to d
// and speak api. Each has one model, m.
func (n *fakeNet) models(api string) *models {
	cfg := &config.Config{}
	cfg.Models.Providers = map[string]config.Provider{}
	for _, id := range []string{"a", "b", "c", "d"} {
		cfg.Models.Providers[id] = config.Provider{
			BaseURL: "http://" + id + ".test/v1",
			APIKey:  config.NewSecret(canaryKey),
			API:     api,
			Headers: map[string]config.Secret{"X-Extra": config.NewSecret(canaryHeader)},
			Models: []config.ProviderModel{{
				ID: "m", ContextWindow: 100000, MaxTokens: 1000, Input: []string{"text", "image"},
				Cost: config.Cost{Input: 1, Output: 2, CacheRead: 0.1, CacheWrite: 1.25},
			}},
		}
	}
	m := newModels(func() *config.Config { return cfg }, slog.New(slog.NewJSONHandler(n, nil)), n.dial)
	m.jitter = func() float64 { return 0 }
	n.t.Cleanup(m.close)
	return m
}

// An outcome is what a caller of run sees.
type outcome struct {
	res            *modelResult
	err            error
	text, thinking string
	deltas         int
	took           time.Duration
}

// ask runs one request and checks what must hold whatever happens: what was
// emitted is what the result says, and neither log nor error tells a secret.
func (n *fakeNet) ask(ctx context.Context, m *models, refs ...string) outcome {
	n.t.Helper()
	return n.askFor(ctx, m, &modelRequest{Messages: []store.Message{{Role: store.RoleUser, Content: store.Text(canaryPrompt)}}}, refs...)
}

func (n *fakeNet) askFor(ctx context.Context, m *models, r *modelRequest, refs ...string) outcome {
	n.t.Helper()
	o := outcome{}
	start := time.Now()
	o.res, o.err = m.run(ctx, refs, r, func(d delta) {
		o.deltas++
		o.text += d.Text
		o.thinking += d.Thinking
	})
	o.took = time.Since(start)
	if o.res != nil {
		var text, thinking string
		for _, p := range o.res.Content {
			text += p.Text
			thinking += p.Thinking
		}
		if text != o.text || thinking != o.thinking {
			n.t.Errorf("result has text %.80q and thinking %.80q, emitted were %.80q and %.80q", text, thinking, o.text, o.thinking)
		}
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	said := n.log.String()
	if o.err != nil {
		said += o.err.Error()
	}
	for _, secret := range []string{canaryKey, canaryKey[:12], canaryHeader} {
		if strings.Contains(said, secret) {
			n.t.Errorf("secret %q in log or error: %s", secret, said)
		}
	}
	for _, words := range []string{canaryPrompt, "Grüße"} {
		if strings.Contains(n.log.String(), words) {
			n.t.Errorf("%q in log: %s", words, n.log.String())
		}
	}
	return o
}

// bubble runs f for each protocol, in fake time.
func bubble(t *testing.T, f func(t *testing.T, n *fakeNet, api string)) {
	for _, api := range []string{config.APIOpenAICompletions, config.APIOpenAIResponses, config.APIAnthropicMessages} {
		t.Run(api, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { f(t, newFakeNet(t), api) })
		})
	}
}

// inBubble runs f in fake time.
func inBubble(t *testing.T, f func(t *testing.T, n *fakeNet)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { f(t, newFakeNet(t)) })
}

// raw writes the pieces as an event stream, each in its own packet.
func raw(pieces ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		plain(pieces...)(w, r)
	}
}

// plain writes the pieces, each in its own packet.
func plain(pieces ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		for _, p := range pieces {
			io.WriteString(w, p)
			w.(http.Flusher).Flush()
		}
	}
}

// then runs handlers one after another on the same answer.
func then(list ...http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		for _, h := range list {
			h(w, r)
		}
	}
}

// status refuses.
func status(code int, body string, header ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		for i := 0; i < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		w.WriteHeader(code)
		io.WriteString(w, body)
	}
}

// hang says nothing until the client leaves.
func hang(w http.ResponseWriter, r *http.Request) { <-r.Context().Done() }

// reset breaks the connection off.
func reset(w http.ResponseWriter, r *http.Request) { panic(http.ErrAbortHandler) }

// begin is the start of an answer whose text begins with each of words; finish
// is the rest of it.
func begin(api string, words ...string) http.HandlerFunc {
	var b strings.Builder
	if api == config.APIAnthropicMessages {
		b.WriteString(event("message_start", `"message":{"id":"msg_1","type":"message","role":"assistant","content":[],"usage":{"input_tokens":7,"output_tokens":1}}`))
		b.WriteString(event("content_block_start", `"index":0,"content_block":{"type":"text","text":""}`))
	}
	for _, w := range words {
		switch api {
		case config.APIAnthropicMessages:
			b.WriteString(event("content_block_delta", fmt.Sprintf(`"index":0,"delta":{"type":"text_delta","text":%q}`, w)))
		case config.APIOpenAIResponses:
			b.WriteString(event("response.output_text.delta", fmt.Sprintf(`"item_id":"msg_1","output_index":0,"content_index":0,"delta":%q`, w)))
		default:
			b.WriteString(fmt.Sprintf(`data: {"object":"chat.completion.chunk","choices":[{"index":0,"delta":{"content":%q},"finish_reason":null}]}`+"\n\n", w))
		}
	}
	return raw(b.String())
}

func finish(api string) http.HandlerFunc {
	if api == config.APIAnthropicMessages {
		return raw(event("content_block_stop", `"index":0`),
			event("message_delta", `"delta":{"stop_reason":"end_turn","stop_sequence":null},"usage":{"output_tokens":3}`),
			event("message_stop", ``))
	}
	if api == config.APIOpenAIResponses {
		return raw(event("response.completed", `"response":{"object":"response","status":"completed","output":[],"usage":{"input_tokens":7,"output_tokens":3,"total_tokens":10}}`))
	}
	return raw(`data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}`+"\n\n",
		`data: {"choices":[],"usage":{"prompt_tokens":7,"completion_tokens":3,"total_tokens":10}}`+"\n\n", "data: [DONE]\n\n")
}

func say(api string, words ...string) http.HandlerFunc {
	return then(begin(api, words...), finish(api))
}

// event is one event of Anthropic's protocol, or of OpenAI's responses.
func event(name, fields string) string {
	if fields != "" {
		fields = "," + fields
	}
	return fmt.Sprintf("event: %s\ndata: {\"type\":%q%s}\n\n", name, name, fields)
}

// fault is the provider's own error object.
func fault(api, typ, message string) string {
	if api == config.APIAnthropicMessages {
		return fmt.Sprintf(`{"type":"error","error":{"type":%q,"message":%q}}`, typ, message)
	}
	return fmt.Sprintf(`{"error":{"message":%q,"type":%q,"param":null,"code":null}}`, message, typ)
}

// sameJSON compares two documents.
func sameJSON(t *testing.T, got []byte, want string) {
	t.Helper()
	norm := func(b []byte) string {
		var v any
		if err := json.Unmarshal(b, &v); err != nil {
			t.Fatalf("%v in %s", err, b)
		}
		out, _ := json.MarshalIndent(v, "", "  ")
		return string(out)
	}
	if g, w := norm(got), norm([]byte(want)); g != w {
		t.Errorf("got %s\nwant %s", g, w)
	}
}
