package agent

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"openclaw/reload/config"
)

func TestRun(t *testing.T) {
	ok := "ok"
	tests := []struct {
		name   string
		a, b   func(api string) []http.HandlerFunc // scripts of the hosts; nil is a dead host
		refs   string
		limit  time.Duration // of the turn
		na, nb int           // requests they receive
		took   time.Duration
		text   string
		err    []string // what the error must say
	}{
		{name: "answer", refs: "a/m", a: script(ok), na: 1, text: "Grüße"},
		{name: "no model", text: "This is the built-in echo, not a language model; configure one under models.providers. You said: " + canaryPrompt},
		{name: "500 then answer", refs: "a/m", a: script(500, ok), na: 2, took: 500 * time.Millisecond, text: "Grüße"},
		{name: "500 to the end", refs: "a/m", a: script(500), na: 3, took: 1500 * time.Millisecond, err: []string{`provider "a" model "m": 500 Internal Server Error: no luck`}},
		{name: "500 then fallback", refs: "a/m b/m", a: script(500), b: script(ok), na: 3, nb: 1, took: 1500 * time.Millisecond, text: "Grüße"},
		{name: "409", refs: "a/m", a: script(409, ok), na: 2, took: 500 * time.Millisecond, text: "Grüße"},
		{name: "408", refs: "a/m", a: script(408, ok), na: 2, took: 500 * time.Millisecond, text: "Grüße"},
		{name: "529", refs: "a/m", a: script(529), na: 3, took: 1500 * time.Millisecond, err: []string{`model "m": 529: no luck`}},
		{name: "429 in seconds", refs: "a/m", a: script("429 3", ok), na: 2, took: 3 * time.Second, text: "Grüße"},
		{name: "429 by date", refs: "a/m", a: script("429 Sat, 01 Jan 2000 00:00:04 GMT", ok), na: 2, took: 4 * time.Second, text: "Grüße"},
		{name: "429 nonsense", refs: "a/m", a: script("429 soon", ok), na: 2, took: 500 * time.Millisecond, text: "Grüße"},
		{name: "429 within patience", refs: "a/m b/m", a: script("429 9", ok), b: script(ok), na: 2, took: 9 * time.Second, text: "Grüße"},
		{name: "429 beyond patience", refs: "a/m b/m", a: script("429 11", ok), b: script(ok), na: 1, nb: 1, text: "Grüße"},
		{name: "429 long, alone", refs: "a/m", a: script("429 60", ok), na: 2, took: time.Minute, text: "Grüße"},
		{name: "429 too long, alone", refs: "a/m", a: script("429 61", ok), na: 1, err: []string{"429 Too Many Requests: no luck"}},
		{name: "429 past the deadline", refs: "a/m", limit: 5 * time.Second, a: script("429 6", ok), na: 1, err: []string{"429 Too Many Requests"}},
		{name: "401", refs: "a/m", a: script(401), na: 1, err: []string{`provider "a" model "m": 401 Unauthorized: no luck`}},
		{name: "401 then fallback", refs: "a/m b/m", a: script(401), b: script(ok), na: 1, nb: 1, text: "Grüße"},
		{name: "404 then fallback", refs: "a/m b/m", a: script(404), b: script(ok), na: 1, nb: 1, text: "Grüße"},
		{name: "400 everywhere", refs: "a/m b/m", a: script(400), b: script(403), na: 1, nb: 1, err: []string{`provider "a" model "m": 400 Bad Request: no luck; then provider "b" model "m": 403 Forbidden: no luck`}},
		{name: "unknown primary", refs: "x/y b/m", b: script(ok), nb: 1, text: "Grüße"},
		{name: "only unknown", refs: "x/y", err: []string{`model "x/y": `}},
		{name: "dead host", refs: "a/m b/m", b: script(ok), nb: 1, took: 1500 * time.Millisecond, text: "Grüße"},
		{name: "dead hosts", refs: "a/m b/m", took: 3 * time.Second, err: []string{`provider "a"`, `provider "b"`, "connection refused"}},
		{name: "hanging, another waits", refs: "a/m b/m", a: script("hang"), b: script(ok), na: 1, nb: 1, took: 2 * time.Minute, text: "Grüße"},
		{name: "hanging, little time", refs: "a/m b/m", limit: time.Minute, a: script("hang"), b: script(ok), na: 1, nb: 1, took: 30 * time.Second, text: "Grüße"},
		{name: "hanging after the headers", refs: "a/m b/m", limit: time.Minute, a: script("headers"), b: script(ok), na: 1, nb: 1, took: 30 * time.Second, text: "Grüße"},
		{name: "hanging, alone", refs: "a/m", a: script("hang", ok), na: 2, took: 5*time.Minute + 500*time.Millisecond, text: "Grüße"},
		{name: "reset", refs: "a/m", a: script("reset", ok), na: 2, took: 500 * time.Millisecond, text: "Grüße"},
		{name: "closed before a word", refs: "a/m", a: script("empty", ok), na: 2, took: 500 * time.Millisecond, text: "Grüße"},
		{name: "overloaded in the stream", refs: "a/m", a: script("fault overloaded_error", ok), na: 2, took: 500 * time.Millisecond, text: "Grüße"},
		{name: "refused in the stream", refs: "a/m b/m", a: script("fault invalid_request_error"), b: script(ok), na: 1, nb: 1, text: "Grüße"},
		{name: "html", refs: "a/m", a: script("html"), na: 3, took: 1500 * time.Millisecond, err: []string{`neither with an event stream nor with JSON of its protocol (Content-Type "text/html")`}},
		{name: "other json", refs: "a/m", a: script("json"), na: 3, took: 1500 * time.Millisecond, err: []string{"neither with an event stream"}},
		{name: "nothing", refs: "a/m", a: script(204), na: 3, took: 1500 * time.Millisecond, err: []string{"neither with an event stream"}},
		{name: "garbage events", refs: "a/m", a: script("garbage"), na: 3, took: 1500 * time.Millisecond, err: []string{"neither with an event stream"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, func(t *testing.T, n *fakeNet, api string) {
				var a, b *fakeHost
				if tt.a != nil {
					a = n.host("a.test", tt.a(api)...)
				}
				if tt.b != nil {
					b = n.host("b.test", tt.b(api)...)
				}
				ctx := t.Context()
				if tt.limit > 0 {
					var cancel context.CancelFunc
					ctx, cancel = context.WithTimeout(ctx, tt.limit)
					defer cancel()
				}
				o := n.ask(ctx, n.models(api), strings.Fields(tt.refs)...)
				if a != nil && len(a.requests()) != tt.na || b != nil && len(b.requests()) != tt.nb {
					t.Errorf("requests: %+v, %+v", a, b)
				}
				if o.took != tt.took {
					t.Errorf("took %v, want %v", o.took, tt.took)
				}
				if o.text != tt.text {
					t.Errorf("text %q, error %v", o.text, o.err)
				}
				if tt.err == nil && o.err != nil || tt.err != nil && o.err == nil {
					t.Errorf("error %v", o.err)
				}
				for _, words := range tt.err {
					if o.err != nil && !strings.Contains(o.err.Error(), words) {
						t.Errorf("error %q lacks %q", o.err, words)
					}
				}
			})
		})
	}
}

// script makes handlers: a number is a status, a word is looked up below.
func script(list ...any) func(api string) []http.HandlerFunc {
	return func(api string) (out []http.HandlerFunc) {
		body := fault(api, "some_error", "no luck")
		for _, x := range list {
			var h http.HandlerFunc
			word := fmt.Sprint(x)
			if code, ok := x.(int); ok {
				h = status(code, body)
			} else if rest, ok := strings.CutPrefix(word, "429 "); ok {
				h = status(429, body, "Retry-After", rest)
			} else if rest, ok := strings.CutPrefix(word, "fault "); ok {
				h = raw("event: error\ndata: " + fault(api, rest, "no luck") + "\n\n")
			} else {
				h = map[string]http.HandlerFunc{
					"ok":      say(api, "Grü", "ße"),
					"hang":    hang,
					"headers": then(raw(""), hang),
					"reset":   reset,
					"empty":   raw(": hello\n\n"),
					"html":    status(200, "<html>data</html>", "Content-Type", "text/html"),
					"json":    status(200, `{"hello":"world"}`, "Content-Type", "application/json"),
					"garbage": raw("data: \x00\xff{{{\n\n"),
				}[word]
			}
			out = append(out, h)
		}
		return out
	}
}

func TestRunPartial(t *testing.T) {
	tests := []struct {
		name    string
		rest    func(api string) http.HandlerFunc // after "Grü"
		limit   time.Duration
		took    time.Duration
		stop    string
		err     string
		timeout bool
	}{
		{name: "closed", rest: func(string) http.HandlerFunc { return raw("") }, stop: stopError, err: "connection closed early"},
		{name: "reset", rest: func(string) http.HandlerFunc { return reset }, stop: stopError, err: "closed early"},
		{name: "cut event", rest: func(string) http.HandlerFunc { return raw(`data: {"type":"content_`) }, stop: stopError, err: "connection closed early"},
		{name: "garbage", rest: func(string) http.HandlerFunc { return raw("data: {{{\n\n") }, stop: stopError, err: "answer is not JSON"},
		{name: "fault", rest: func(api string) http.HandlerFunc {
			return raw("event: error\ndata: " + fault(api, "overloaded_error", "busy") + "\n\n")
		}, stop: stopError, err: "529: busy"},
		{name: "silence", rest: func(string) http.HandlerFunc { return hang }, took: 2 * time.Minute, stop: stopError, err: "silent", timeout: true},
		{name: "deadline", rest: func(string) http.HandlerFunc { return hang }, limit: time.Minute, took: time.Minute, stop: stopError, err: "deadline", timeout: true},
		{name: "long line", rest: func(string) http.HandlerFunc { return endless("data: x") }, stop: stopError, err: "event is too long"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, func(t *testing.T, n *fakeNet, api string) {
				a := n.host("a.test", then(begin(api, "Grü"), tt.rest(api)))
				b := n.host("b.test", say(api, "never asked"))
				ctx := t.Context()
				if tt.limit > 0 {
					var cancel context.CancelFunc
					ctx, cancel = context.WithTimeout(ctx, tt.limit)
					defer cancel()
				}
				o := n.ask(ctx, n.models(api), "a/m", "b/m")
				if len(a.requests()) != 1 || len(b.requests()) != 0 {
					t.Errorf("%d and %d requests", len(a.requests()), len(b.requests()))
				}
				if !strings.HasPrefix(o.text, "Grü") || o.res == nil || o.res.StopReason != tt.stop || o.res.Provider != "a" {
					t.Errorf("text %.80q, result %+v", o.text, o.res != nil)
				}
				var failed *modelError
				if !errors.As(o.err, &failed) || !strings.Contains(o.err.Error(), tt.err) || failed.Timeout != tt.timeout {
					t.Errorf("error %#v", o.err)
				}
				if errors.Is(o.err, context.DeadlineExceeded) != (tt.limit > 0) {
					t.Errorf("deadline: %v", o.err)
				}
				if o.took != tt.took {
					t.Errorf("took %v", o.took)
				}
			})
		})
	}
}

// endless writes the first string and then the last until the client leaves.
func endless(pieces ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, pieces[0])
		block := strings.Repeat(pieces[len(pieces)-1], 4096)
		for r.Context().Err() == nil {
			if _, err := io.WriteString(w, block); err != nil {
				return
			}
		}
	}
}

func TestCancelClosesUpstream(t *testing.T) {
	for _, when := range []string{"before the headers", "in the stream", "while waiting to retry"} {
		t.Run(when, func(t *testing.T) {
			bubble(t, func(t *testing.T, n *fakeNet, api string) {
				begun, left := make(chan struct{}), make(chan struct{})
				wait := func(w http.ResponseWriter, r *http.Request) {
					close(begun)
					<-r.Context().Done()
					close(left)
				}
				first := map[string]http.HandlerFunc{
					"before the headers":     wait,
					"in the stream":          then(begin(api, "Grü"), wait),
					"while waiting to retry": then(status(429, "", "Retry-After", "50"), func(http.ResponseWriter, *http.Request) { close(begun); close(left) }),
				}[when]
				a := n.host("a.test", first)
				why := errors.New("the client left")
				ctx, cancel := context.WithCancelCause(t.Context())
				go func() {
					<-begun
					synctest.Wait() // until everything else has come to rest
					cancel(why)
				}()
				o := n.ask(ctx, n.models(api), "a/m")
				<-left
				if o.took != 0 || o.err != why || len(a.requests()) != 1 {
					t.Errorf("took %v, error %v", o.took, o.err)
				}
				if when == "in the stream" && (o.res == nil || o.res.StopReason != stopAborted || o.text != "Grü") {
					t.Errorf("result %+v", o.res)
				}
			})
		})
	}
}

func TestDeadlineBeforeAnything(t *testing.T) {
	bubble(t, func(t *testing.T, n *fakeNet, api string) {
		n.host("a.test", hang)
		n.host("b.test", hang)
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		o := n.ask(ctx, n.models(api), "a/m", "b/m")
		var failed *modelError
		if !errors.As(o.err, &failed) || !failed.Timeout || !errors.Is(o.err, context.DeadlineExceeded) || o.took != 10*time.Second {
			t.Errorf("error %v after %v", o.err, o.took)
		}
		if failed.Provider != "b" || o.res != nil {
			t.Errorf("%+v", failed)
		}
	})
}

func TestSlowListenerIsNoStall(t *testing.T) {
	bubble(t, func(t *testing.T, n *fakeNet, api string) {
		n.host("a.test", say(api, "one ", "two ", "three"))
		m := n.models(api)
		res, err := m.run(t.Context(), []string{"a/m"}, &modelRequest{}, func(delta) { <-time.After(10 * time.Minute) })
		if err != nil || len(res.Content) != 1 || res.Content[0].Text != "one two three" {
			t.Errorf("%+v, %v", res, err)
		}
	})
}

func TestKeepAlivesHoldOffTheStall(t *testing.T) {
	bubble(t, func(t *testing.T, n *fakeNet, api string) {
		n.host("a.test", then(begin(api, "Grü"), func(w http.ResponseWriter, r *http.Request) {
			for range 10 {
				<-time.After(100 * time.Second)
				raw(": keep-alive\n\n")(w, r)
			}
		}, finish(api)))
		if o := n.ask(t.Context(), n.models(api), "a/m"); o.err != nil || o.took != 1000*time.Second {
			t.Errorf("%v after %v", o.err, o.took)
		}
	})
}

// Tokens are emitted when they arrive, not when more do.
func TestNoBuffering(t *testing.T) {
	bubble(t, func(t *testing.T, n *fakeNet, api string) {
		words := []string{"one ", "two ", "three"}
		heard := make(chan string)
		var list []http.HandlerFunc
		for i, w := range words {
			one := begin(api, w)
			if i > 0 && api == config.APIAnthropicMessages {
				one = raw(event("content_block_delta", fmt.Sprintf(`"index":0,"delta":{"type":"text_delta","text":%q}`, w)))
			}
			list = append(list, one, func(http.ResponseWriter, *http.Request) {
				if got := <-heard; got != w {
					t.Errorf("heard %q", got)
				}
			})
		}
		n.host("a.test", then(append(list, finish(api))...))
		_, err := n.models(api).run(t.Context(), []string{"a/m"}, &modelRequest{}, func(d delta) { heard <- d.Text })
		if err != nil {
			t.Error(err)
		}
	})
}

func TestConnectionsAreKept(t *testing.T) {
	bubble(t, func(t *testing.T, n *fakeNet, api string) {
		a := n.host("a.test", say(api, "Grüße"))
		m := n.models(api)
		for range 5 {
			ctx, cancel := context.WithCancel(t.Context())
			o := n.ask(ctx, m, "a/m")
			cancel() // as every turn does at its end
			if o.err != nil {
				t.Fatal(o.err)
			}
			synctest.Wait()
		}
		if a.dials != 1 {
			t.Errorf("%d connections for 5 requests", a.dials)
		}
	})
}

// A server that closes a kept connection at the wrong moment costs no backoff.
func TestStaleConnection(t *testing.T) {
	bubble(t, func(t *testing.T, n *fakeNet, api string) {
		a := n.host("a.test", say(api, "Grüße"), func(w http.ResponseWriter, r *http.Request) {
			c, _, err := w.(http.Hijacker).Hijack()
			if err == nil {
				c.Close()
			}
		}, say(api, "Grüße"))
		m := n.models(api)
		n.ask(t.Context(), m, "a/m")
		synctest.Wait()
		if o := n.ask(t.Context(), m, "a/m"); o.err != nil || o.took != 0 || len(a.requests()) != 3 {
			t.Errorf("%v after %v, %d requests", o.err, o.took, len(a.requests()))
		}
	})
}

// A server that never ends a finished answer keeps nobody waiting.
func TestUnendedAnswer(t *testing.T) {
	bubble(t, func(t *testing.T, n *fakeNet, api string) {
		n.host("a.test", then(say(api, "Grüße"), hang))
		if o := n.ask(t.Context(), n.models(api), "a/m"); o.err != nil || o.took != 0 {
			t.Errorf("%v after %v", o.err, o.took)
		}
	})
}

// Over real TCP and TLS the protocol is HTTP/2, whose cancellation is another.
func TestHTTP2(t *testing.T) {
	begun, left := make(chan string, 1), make(chan struct{})
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-Hang") == "" {
			say(config.APIOpenAICompletions, "Grü", "ße")(w, r)
			return
		}
		begin(config.APIOpenAICompletions, "Grü")(w, r)
		begun <- r.Proto
		<-r.Context().Done()
		close(left)
	}))
	s.EnableHTTP2 = true
	s.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, 0)
	s.StartTLS()
	defer s.Close()
	provider := config.Provider{BaseURL: s.URL, API: config.APIOpenAICompletions}
	cfg := &config.Config{}
	cfg.Models.Providers = map[string]config.Provider{"a": provider}
	provider.Headers = map[string]config.Secret{"X-Hang": config.NewSecret("yes")}
	cfg.Models.Providers["b"] = provider
	var log bytes.Buffer
	connect := func() *models {
		m := newModels(func() *config.Config { return cfg }, slog.New(slog.NewTextHandler(&log, nil)), nil)
		t.Cleanup(m.close)
		return m
	}
	_, err := connect().run(t.Context(), []string{"a/m"}, &modelRequest{}, func(delta) {})
	if err == nil || !strings.Contains(err.Error(), "certificate") || strings.Contains(log.String(), "trying again") {
		t.Errorf("an unknown certificate gave %v; %s", err, log.String())
	}

	m := connect()
	m.up.transport.TLSClientConfig = &tls.Config{RootCAs: s.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs}
	res, err := m.run(t.Context(), []string{"a/m"}, &modelRequest{}, func(delta) {})
	if err != nil || res.Content[0].Text != "Grüße" {
		t.Fatalf("%+v, %v", res, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	res, err = m.run(ctx, []string{"b/m"}, &modelRequest{}, func(delta) { cancel() })
	if proto := <-begun; proto != "HTTP/2.0" {
		t.Errorf("protocol %s", proto)
	}
	<-left
	if err != context.Canceled || res == nil || res.StopReason != stopAborted {
		t.Errorf("%+v, %v", res, err)
	}
}

// The same where it is not even said that the answer has ended.
func TestUnmarkedEnd(t *testing.T) {
	bubble(t, func(t *testing.T, n *fakeNet, api string) {
		end := raw(`data: {"choices":[{"delta":{"content":"Grüße"},"finish_reason":"stop"}]}` + "\n\n")
		if api == config.APIAnthropicMessages {
			end = then(begin(api, "Grüße"), raw(event("message_delta", `"delta":{"stop_reason":"end_turn"}`)))
		}
		if api == config.APIOpenAIResponses { // where the end and its mark are one event
			return
		}
		n.host("a.test", then(end, hang))
		if o := n.ask(t.Context(), n.models(api), "a/m"); o.err != nil || o.text != "Grüße" || o.took != afterStop {
			t.Errorf("%v after %v", o.err, o.took)
		}
	})
}

// What a provider says may quote the prompt: the caller is told, the log not.
func TestLog(t *testing.T) {
	bubble(t, func(t *testing.T, n *fakeNet, api string) {
		n.host("a.test", status(500, fault(api, "x", "cannot parse: "+canaryPrompt)))
		o := n.ask(t.Context(), n.models(api), "a/m", "b/m")
		if o.err == nil || !strings.Contains(o.err.Error(), canaryPrompt) {
			t.Errorf("error %v", o.err)
		}
		log := n.log.String()
		for _, words := range []string{`"provider":"a","model":"m","status":500,"attempt":2`, `"next":"b/m"`, `"provider":"b","model":"m","status":0,"err":"dial tcp: connection refused","attempt":1`} {
			if !strings.Contains(log, words) {
				t.Errorf("log lacks %s: %s", words, log)
			}
		}
	})
}

func TestRedirectIsNotFollowed(t *testing.T) {
	for _, code := range []int{301, 302, 303, 307, 308} {
		bubble(t, func(t *testing.T, n *fakeNet, api string) {
			n.host("a.test", status(code, "", "Location", "http://evil.test/?k="+canaryKey))
			evil := n.host("evil.test", say(api, "thanks for the key"))
			o := n.ask(t.Context(), n.models(api), "a/m")
			if o.err == nil || !strings.Contains(o.err.Error(), "redirects to evil.test") || o.took != 0 {
				t.Errorf("error %v", o.err)
			}
			if evil.dials != 0 {
				t.Error("followed")
			}
		})
	}
}

// Each of these quotes the key back; fakeNet.ask looks for it.
func TestKeyIsRedacted(t *testing.T) {
	half := canaryKey[:len(canaryKey)-2]
	tests := []struct {
		name, want string
		h          func(api string) http.HandlerFunc
	}{
		{"error object", "401 Unauthorized: Incorrect API key provided: [redacted]. See", func(api string) http.HandlerFunc {
			return status(401, fault(api, "x", "Incorrect API key provided: "+canaryKey+". See "+canaryHeader))
		}},
		{"plain text", "400 Bad Request: your [redacted]", func(string) http.HandlerFunc { return status(400, "your "+canaryKey) }},
		{"escaped", "400 Bad Request: [redacted]", func(string) http.HandlerFunc {
			return status(400, `{"error":{"message":"`+strings.ReplaceAll(canaryKey, "-", `-`)+`"}}`)
		}},
		{"cut at the limit", "[redacted]", func(string) http.HandlerFunc {
			return status(400, strings.Repeat(" ", readBytes-len(half))+half+"zz")
		}},
		{"in the stream", "busy [redacted]", func(api string) http.HandlerFunc {
			return raw("event: error\ndata: " + fault(api, "invalid_request_error", "busy "+canaryKey) + "\n\n")
		}},
		{"content type", "[redacted]", func(string) http.HandlerFunc {
			return status(200, "hello", "Content-Type", "text/"+canaryKey)
		}},
		{"no HTTP", "malformed", func(string) http.HandlerFunc {
			return func(w http.ResponseWriter, r *http.Request) {
				c, _, _ := w.(http.Hijacker).Hijack()
				io.WriteString(c, canaryKey+" "+canaryKey+"\r\n\r\n")
				c.Close()
			}
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, func(t *testing.T, n *fakeNet, api string) {
				n.host("a.test", tt.h(api))
				if o := n.ask(t.Context(), n.models(api), "a/m"); o.err == nil || !strings.Contains(o.err.Error(), tt.want) {
					t.Errorf("error %v", o.err)
				}
			})
		})
	}
}

func TestErrorBodyIsBounded(t *testing.T) {
	bubble(t, func(t *testing.T, n *fakeNet, api string) {
		n.host("a.test", then(status(400, "much ado "), endless("about ")))
		n.host("b.test", then(status(400, "slow"), func(w http.ResponseWriter, r *http.Request) { w.(http.Flusher).Flush() }, hang))
		o := n.ask(t.Context(), n.models(api), "a/m", "b/m")
		if o.err == nil || len(o.err.Error()) > 600 || !strings.Contains(o.err.Error(), "much ado about about") || !strings.Contains(o.err.Error(), "slow") {
			t.Errorf("error %v", o.err)
		}
		if o.took != errorTime {
			t.Errorf("took %v", o.took)
		}
	})
}

func TestDraftIsBounded(t *testing.T) {
	block := strings.Repeat("x", 1<<16)
	signature := []byte(`{"type":"content_block_delta","delta":{"type":"signature_delta","signature":"` + block + `"}}`)
	for name, grow := range map[string]func(d *draft) error{
		"text":   func(d *draft) error { return d.say(blockText, block) },
		"blocks": func(d *draft) error { return d.add(d.begin(blockText), "") },
		"calls":  func(d *draft) error { _, err := d.beginCall("", "x"); return err },
		"signature": func(d *draft) error {
			p := anthropicParser{draft: *d, block: d.begin(blockThinking)}
			_, err := p.event(nil, signature)
			d.size = p.size
			return err
		},
	} {
		d := draft{emit: func(delta) {}, size: maxDraft - 10<<16}
		for i := 0; ; i++ {
			if err := grow(&d); err != nil {
				break
			}
			if i > 10<<16/blockSize {
				t.Errorf("%s: no end", name)
				break
			}
		}
	}
}

func TestMessagesAreEscaped(t *testing.T) {
	r := &modelRequest{}
	tests := []struct{ in, want string }{
		{" a\r\n\tb ", "a b"},
		{"\x1b[31mred\x07\u202e\x00", `\x1b[31mred\a\u202e\x00`},
		{"\xff\xfe", "\ufffd\ufffd"},
		{strings.Repeat("ü", 300), strings.Repeat("ü", 200) + "…"},
		{strings.Repeat("ü", 200), strings.Repeat("ü", 200)},
	}
	for _, tt := range tests {
		if got := r.clean(tt.in); got != tt.want {
			t.Errorf("%q: got %q, want %q", tt.in, got, tt.want)
		}
	}
}

func TestParseFault(t *testing.T) {
	tests := []struct {
		in, message string
		status      int
	}{
		{`{"error":{"message":"m","type":"rate_limit_error"}}`, "m", 429},
		{`{"error":{"message":"m","code":502}}`, "m", 502},
		{`{"error":{"message":"m","code":"model_not_found"}}`, "m", 404},
		{`{"type":"error","error":{"type":"overloaded_error","message":"m"}}`, "m", 529},
		{`{"error":"m"}`, "m", 500},
		{`{"object":"error","message":"m","code":400}`, "m", 400},
		{`{"detail":"m"}`, "m", 500},
		{`[{"error":{"message":"m","code":401}}]`, "m", 401},
		{`{"error":{}}`, "{}", 500},
		{`{"error":null}`, `{"error":null}`, 500},
		{"upstream broke\n", "upstream broke", 500},
		{`{"error":`, `{"error":`, 500},
		{"", "", 500},
	}
	for _, tt := range tests {
		if f := parseFault([]byte(tt.in)); f.Message != tt.message || f.status() != tt.status {
			t.Errorf("%s: %+v, status %d", tt.in, f, f.status())
		}
	}
}

// An account without money is not asked again.
func TestQuotaIsNotRetried(t *testing.T) {
	bubble(t, func(t *testing.T, n *fakeNet, api string) {
		a := n.host("a.test", status(429, `{"error":{"message":"pay","type":"insufficient_quota","code":"insufficient_quota"}}`))
		if o := n.ask(t.Context(), n.models(api), "a/m"); o.err == nil || len(a.requests()) != 1 {
			t.Errorf("%d requests, error %v", len(a.requests()), o.err)
		}
	})
}

func TestBackoffHasJitter(t *testing.T) {
	bubble(t, func(t *testing.T, n *fakeNet, api string) {
		n.host("a.test", script(500)(api)...)
		m := n.models(api)
		m.jitter = func() float64 { return 0.5 }
		if o := n.ask(t.Context(), m, "a/m"); o.took != 1875*time.Millisecond {
			t.Errorf("took %v", o.took)
		}
	})
}

func TestUsageAndCost(t *testing.T) {
	bubble(t, func(t *testing.T, n *fakeNet, api string) {
		answer := raw(`data: {"choices":[{"delta":{"content":"x"},"finish_reason":"stop"}],"usage":null}`+"\n\n",
			`data: {"choices":[],"usage":{"prompt_tokens":3400,"completion_tokens":500,"total_tokens":3900,"prompt_tokens_details":{"cached_tokens":2000,"cache_write_tokens":400}}}`+"\n\ndata: [DONE]\n\n")
		if api == config.APIAnthropicMessages {
			answer = raw(event("message_start", `"message":{"usage":{"input_tokens":1000,"output_tokens":1,"cache_read_input_tokens":2000,"cache_creation_input_tokens":400}}`),
				event("message_delta", `"delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":500}`), event("message_stop", ""))
		} else if api == config.APIOpenAIResponses {
			answer = then(begin(api, "x"), raw(event("response.completed", `"response":{"status":"completed","usage":{"input_tokens":3400,"output_tokens":500,"total_tokens":3900,"input_tokens_details":{"cached_tokens":2000,"cache_write_tokens":400}}}`)))
		}
		n.host("a.test", answer)
		o := n.ask(t.Context(), n.models(api), "a/m")
		if o.err != nil {
			t.Fatal(o.err)
		}
		u := o.res.Usage
		if u.Input != 1000 || u.Output != 500 || u.CacheRead != 2000 || u.CacheWrite != 400 || u.TotalTokens != 3900 {
			t.Errorf("usage %+v", u)
		}
		want := 0.001 + 0.001 + 0.0002 + 0.0005
		if d := u.Cost.Total - want; d > 1e-12 || d < -1e-12 {
			t.Errorf("cost %+v", u.Cost)
		}
		if o.res.Provider != "a" || o.res.Model != "m" || o.res.API != api {
			t.Errorf("%+v", o.res)
		}
	})
}

func TestHeaders(t *testing.T) {
	bubble(t, func(t *testing.T, n *fakeNet, api string) {
		a := n.host("a.test", say(api, "Grüße"))
		n.ask(t.Context(), n.models(api), "a/m")
		got := a.requests()[0]
		want := map[string]string{"X-Extra": canaryHeader, "Content-Type": "application/json", "Idempotency-Key": "", "Accept-Encoding": "", "User-Agent": "openclaw"}
		path := "/v1/chat/completions"
		if api == config.APIAnthropicMessages {
			path = "/v1/messages"
			want["X-Api-Key"], want["Anthropic-Version"], want["Authorization"] = canaryKey, "2023-06-01", ""
		} else {
			want["Authorization"] = "Bearer " + canaryKey
			if api == config.APIOpenAIResponses {
				path = "/v1/responses"
			}
		}
		if got.path != path {
			t.Errorf("path %s", got.path)
		}
		for k, v := range want {
			if got.header.Get(k) != v {
				t.Errorf("%s: %q", k, got.header.Get(k))
			}
		}
	})
}

func TestEndpoints(t *testing.T) {
	tests := []struct{ api, base, want string }{
		{config.APIOpenAICompletions, "http://a.test", "/chat/completions"},
		{config.APIOpenAICompletions, "http://a.test/v1/", "/v1/chat/completions"},
		{config.APIOpenAICompletions, "http://a.test/x?api-version=1", "/x/chat/completions?api-version=1"},
		{config.APIOpenAIResponses, "http://a.test", "/responses"},
		{config.APIOpenAIResponses, "http://a.test/v1/", "/v1/responses"},
		{config.APIAnthropicMessages, "http://a.test", "/v1/messages"},
		{config.APIAnthropicMessages, "http://a.test/", "/v1/messages"},
		{config.APIAnthropicMessages, "http://a.test/v1", "/v1/messages"},
		{config.APIAnthropicMessages, "http://a.test/v1/", "/v1/messages"},
		{config.APIAnthropicMessages, "http://a.test/anthropic", "/anthropic/v1/messages"},
		{config.APIOpenAICompletions, "ftp://a.test", ""},
		{config.APIOpenAICompletions, "a.test/v1", ""},
		{config.APIAnthropicMessages, "http://[", ""},
		{config.APIAnthropicMessages, "", ""},
	}
	for _, tt := range tests {
		t.Run(tt.base, func(t *testing.T) {
			bubble(t, func(t *testing.T, n *fakeNet, api string) {
				if api != tt.api {
					return
				}
				a := n.host("a.test", say(api, "Grüße"))
				m := n.models(api)
				p := m.config().Models.Providers["a"]
				p.BaseURL = tt.base
				m.config().Models.Providers["a"] = p
				o := n.ask(t.Context(), m, "a/m")
				if tt.want == "" {
					if o.err == nil || !strings.Contains(o.err.Error(), "baseUrl is not") {
						t.Errorf("error %v", o.err)
					}
					return
				}
				if o.err != nil || a.requests()[0].path != tt.want {
					t.Errorf("%+v, %v", a.requests(), o.err)
				}
			})
		})
	}
}
