package wire

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// gateway serves each connection with the script, which runs on the connection's reader, and
// returns the URL.
func gateway(t *testing.T, script func(c *Conn)) string {
	t.Helper()
	var running sync.WaitGroup
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, err := Accept(w, r, Options{})
		if err != nil {
			t.Error(err)
			return
		}
		running.Go(func() {
			script(c)
			c.Close(CloseNormal, "")
			<-c.Done()
		})
	}))
	t.Cleanup(func() {
		s.Close()
		running.Wait()
	})
	return "ws" + strings.TrimPrefix(s.URL, "http")
}

// greet sends the challenge and answers connect with the payload.
func greet(c *Conn, payload string) error {
	c.Send(AppendEvent(nil, "connect.challenge", []byte(`{"nonce":"n","ts":1}`), 0, nil))
	r, err := next(c)
	if err == nil {
		err = c.Send(AppendResponse(nil, r.ID, []byte(payload)))
	}
	return err
}

const hello = `{"type":"hello-ok","presence":"available","health":"healthy","stateVersion":3,"uptimeMs":5,"policy":{"sandbox":"off","tools":["read"],"maxPayload":1,"maxBufferedBytes":2,"tickIntervalMs":3},"new":null}`

// next reads a request and keeps it beyond the next one.
func next(c *Conn) (Request, error) {
	msg, err := c.ReadMessage()
	if err != nil {
		return Request{}, err
	}
	return ParseRequest(bytes.Clone(msg))
}

func connected(t *testing.T, o ClientOptions, script func(c *Conn)) *Client {
	t.Helper()
	url := gateway(t, func(c *Conn) {
		if err := greet(c, hello); err != nil {
			t.Error(err)
			return
		}
		script(c)
	})
	client, _, err := Connect(t.Context(), url, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return client
}

// drain reads until the client leaves.
func drain(c *Conn) {
	for {
		if _, err := c.ReadMessage(); err != nil {
			return
		}
	}
}

func TestConnectSendsTheRunbooksParams(t *testing.T) {
	params := make(chan string, 1)
	url := gateway(t, func(c *Conn) {
		c.Send(AppendEvent(nil, "connect.challenge", []byte(`{"nonce":"n","ts":1,"capabilities":[]}`), 0, nil))
		r, err := next(c)
		if err != nil || r.Method != "connect" {
			t.Errorf("got %+v, %v", r, err)
		}
		params <- string(r.Params)
		c.Send(AppendResponse(nil, r.ID, []byte(hello)))
		drain(c)
	})
	client, got, err := Connect(t.Context(), url, ClientOptions{Token: "<t>"})
	if err != nil {
		t.Fatal(err)
	}
	if p := <-params; p != `{"auth":{"token":"<t>"}}` {
		t.Errorf("params %s", p)
	}
	if got.StateVersion != 3 || got.Health != HealthHealthy || len(got.Policy.Tools) != 1 || got.Policy.TickIntervalMs != 3 {
		t.Errorf("hello %+v", got)
	}
	client.Close()
	client.Close()
	var closed *CloseError
	if err := client.Err(); !errors.As(err, &closed) || closed.Code != CloseNormal {
		t.Errorf("after Close: %v", err)
	}
	if err := client.Call(t.Context(), "health", nil, nil); !errors.As(err, &closed) {
		t.Errorf("call after Close: %v", err)
	}
}

func TestConnectRefused(t *testing.T) {
	for name, tc := range map[string]struct {
		script func(c *Conn)
		check  func(err error) bool
	}{
		"by the gateway": {func(c *Conn) {
			c.Send(AppendEvent(nil, "connect.challenge", []byte(`{"nonce":"n","ts":1}`), 0, nil))
			if r, err := next(c); err == nil {
				c.Send(AppendError(nil, r.ID, InvalidRequest("unauthorized: gateway token mismatch"), nil))
			}
			c.Close(ClosePolicy, "unauthorized")
		}, func(err error) bool {
			var e *Error
			return errors.As(err, &e) && e.Code == CodeInvalidRequest && strings.Contains(e.Message, "token mismatch")
		}},
		"by closing": {func(c *Conn) { c.Close(CloseTryLater, "gateway starting") }, func(err error) bool {
			var e *CloseError
			return errors.As(err, &e) && e.Code == CloseTryLater
		}},
		"by something else": {func(c *Conn) { c.Send([]byte("hello")); drain(c) }, func(err error) bool {
			var e *SyntaxError
			return errors.As(err, &e)
		}},
		"with a bad challenge": {func(c *Conn) {
			c.Send([]byte(`{"type":"event","event":"connect.challenge","payload":{"ts":1}}`))
			drain(c)
		}, func(err error) bool { return strings.Contains(err.Error(), "must have required property 'nonce'") }},
		"with another hello": {func(c *Conn) { greet(c, `{"type":"hi"}`); drain(c) }, func(err error) bool {
			return strings.Contains(err.Error(), "not hello-ok")
		}},
		"without a hello": {func(c *Conn) { greet(c, `[]`); drain(c) }, func(err error) bool {
			return strings.Contains(err.Error(), "connect: answer: must be object")
		}},
	} {
		t.Run(name, func(t *testing.T) {
			client, _, err := Connect(t.Context(), gateway(t, tc.script), ClientOptions{Password: "p"})
			if client != nil || err == nil || !tc.check(err) {
				t.Errorf("got %v", err)
			}
		})
	}
	s := httptest.NewServer(http.NotFoundHandler())
	defer s.Close()
	var refused *HandshakeError
	if _, _, err := Connect(t.Context(), "ws"+strings.TrimPrefix(s.URL, "http"), ClientOptions{}); !errors.As(err, &refused) || refused.Status != 404 {
		t.Errorf("got %v", err)
	}
}

// A listener that accepts what its channel carries lets HTTP run inside a bubble.
type pipeListener chan net.Conn

func (l pipeListener) Accept() (net.Conn, error) {
	if c, ok := <-l; ok {
		return c, nil
	}
	return nil, net.ErrClosed
}
func (l pipeListener) Close() error   { close(l); return nil }
func (l pipeListener) Addr() net.Addr { return &net.UnixAddr{} }

func TestConnectToSilence(t *testing.T) {
	for name, cancelAfter := range map[string]time.Duration{"for ever": 0, "until cancelled": time.Second} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := pipeListener(make(chan net.Conn))
				s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					c, err := Accept(w, r, Options{})
					if err != nil {
						t.Error(err)
						return
					}
					go drain(c)
				})}
				go s.Serve(l)
				defer s.Close()
				ctx := t.Context()
				if cancelAfter > 0 {
					var cancel func()
					ctx, cancel = context.WithTimeout(ctx, cancelAfter)
					defer cancel()
				}
				o := ClientOptions{DialOptions: DialOptions{DialContext: func(context.Context, string, string) (net.Conn, error) {
					near, far := net.Pipe()
					l <- far
					return near, nil
				}}}
				start := time.Now()
				_, _, err := Connect(ctx, "ws://127.0.0.1:1", o)
				took := time.Since(start)
				if cancelAfter > 0 {
					if !errors.Is(err, context.DeadlineExceeded) || took != cancelAfter {
						t.Errorf("got %v after %v", err, took)
					}
				} else if err == nil || !strings.Contains(err.Error(), "connect.challenge") || took < challengeTimeout || took > challengeTimeout+5*time.Second {
					t.Errorf("got %v after %v", err, took)
				}
			})
		})
	}
}

func TestCallsAreAnsweredOutOfOrder(t *testing.T) {
	const n = 20
	client := connected(t, ClientOptions{}, func(c *Conn) {
		var waiting []Request
		for range n {
			r, err := next(c)
			if err != nil {
				t.Error(err)
				return
			}
			waiting = append(waiting, r)
		}
		c.Send(AppendResponse(nil, "nobody's", nil))
		c.Send([]byte(`{"type":"greeting"}`))
		for i := range waiting {
			r := waiting[n-1-i]
			c.Send(AppendResponse(nil, r.ID, r.Params))
		}
		drain(c)
	})
	var calls sync.WaitGroup
	for i := range n {
		calls.Go(func() {
			var got struct{ I int }
			if err := client.Call(t.Context(), "echo", map[string]int{"I": i}, &got); err != nil || got.I != i {
				t.Errorf("%d: got %d, %v", i, got.I, err)
			}
		})
	}
	calls.Wait()
}

func TestCallResults(t *testing.T) {
	client := connected(t, ClientOptions{}, func(c *Conn) {
		for {
			r, err := next(c)
			if err != nil {
				return
			}
			switch r.Method {
			case "ok":
				c.Send(AppendResponse(nil, r.ID, nil))
			case "null":
				c.Send(AppendResponse(nil, r.ID, []byte("null")))
			case "params":
				c.Send(AppendResponse(nil, r.ID, []byte(fmt.Sprintf(`{"status":%q}`, r.Params))))
			case "fails":
				e := Unavailable("try later")
				e.RetryAfterMs = 7
				c.Send(AppendError(nil, r.ID, e, []byte(`{"runId":"r","status":"error"}`)))
			}
		}
	})
	call := func(method string, params, result any) error { return client.Call(t.Context(), method, params, result) }
	if err := call("ok", nil, nil); err != nil {
		t.Error(err)
	}
	if err := call("ok", nil, &OK{}); err == nil || !strings.HasPrefix(err.Error(), "ok: answer: ") {
		t.Errorf("no payload: %v", err)
	}
	beat := &Heartbeat{}
	if err := call("null", nil, &beat); err != nil || beat != nil {
		t.Errorf("null: %v, %v", beat, err)
	}
	var ack AgentAck
	if err := call("params", nil, &ack); err != nil || ack.Status != "" {
		t.Errorf("no params: %q, %v", ack.Status, err)
	}
	if err := call("params", Raw(`{"a" : "<>"}`), &ack); err != nil || ack.Status != `{"a":"<>"}` {
		t.Errorf("params: %q, %v", ack.Status, err)
	}
	if err := call("params", func() {}, nil); err == nil {
		t.Error("a function was sent")
	}
	var final AgentFinal
	var refused *Error
	if err := call("fails", nil, &final); !errors.As(err, &refused) || refused.RetryAfterMs != 7 || !refused.Retryable || final.Status != "error" {
		t.Errorf("got %v, %+v", err, final)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("enough")
	cancel(why)
	if err := client.Call(ctx, "never answered", nil, nil); !errors.Is(err, why) {
		t.Errorf("cancelled: %v", err)
	}
	if len(client.pending) != 0 {
		t.Errorf("%d calls are still pending", len(client.pending))
	}
}

func TestCallFinalWaitsForTheSecondAnswer(t *testing.T) {
	client := connected(t, ClientOptions{}, func(c *Conn) {
		for {
			r, err := next(c)
			if err != nil {
				return
			}
			if r.Method == "agent" {
				ack := AppendResponse(nil, r.ID, []byte(`{"runId":"k","status":"accepted","acceptedAt":1}`))
				c.Send(ack)
				c.Send(ack)
			}
			c.Send(AppendResponse(nil, r.ID, []byte(`{"runId":"k","status":"ok","summary":"completed","result":{"payloads":[{"text":"hi","mediaUrl":null}],"meta":{}}}`)))
		}
	})
	for method, acks := range map[string]int{"agent": 1, "replayed": 0} {
		var final AgentFinal
		got := 0
		err := client.CallFinal(t.Context(), method, AgentRun{Message: "m", IdempotencyKey: "k"}, &final, func(payload Raw) {
			got++
			var ack AgentAck
			if err := Decode(payload, &ack); err != nil || ack.RunID != "k" {
				t.Errorf("ack %s, %v", payload, err)
			}
		})
		if err != nil || got != acks || final.Result == nil || final.Result.Payloads[0].Text != "hi" {
			t.Errorf("%s: got %d acks, %+v, %v", method, got, final, err)
		}
	}
	// Whoever does not know of two stages takes the first.
	var ack AgentAck
	if err := client.Call(t.Context(), "agent", nil, &ack); err != nil || ack.Status != StatusAccepted {
		t.Errorf("got %+v, %v", ack, err)
	}
	if err := client.CallFinal(t.Context(), "agent", nil, nil, nil); err != nil {
		t.Error(err)
	}
}

func TestEventsComeInOrderAndBeforeTheAnswer(t *testing.T) {
	const n = 50
	var seqs []uint64 // of onEvent, until the call returns
	o := ClientOptions{OnEvent: func(in Inbound) {
		if in.Event == "tick" && string(in.Payload) == `{"ts":1}` && string(in.StateVersion) == `{"presence":1,"health":1}` {
			seqs = append(seqs, in.Seq)
		}
	}}
	client := connected(t, o, func(c *Conn) {
		r, err := next(c)
		if err != nil {
			t.Error(err)
			return
		}
		for i := range n {
			c.Send(AppendEvent(nil, "tick", []byte(`{"ts":1}`), uint64(i+1), []byte(`{"presence":1,"health":1}`)))
		}
		c.Send(AppendResponse(nil, r.ID, nil))
		drain(c)
	})
	if err := client.Call(t.Context(), "go", nil, nil); err != nil {
		t.Fatal(err)
	}
	for i := range n {
		if i >= len(seqs) || seqs[i] != uint64(i+1) {
			t.Fatalf("got %v", seqs)
		}
	}
}

func TestPendingCallsEndWithTheConnection(t *testing.T) {
	for name, tc := range map[string]struct {
		end  func(c *Conn)
		want func(error) bool
	}{
		"closed": {func(c *Conn) { c.Close(CloseRestart, "service restart") }, func(err error) bool {
			var e *CloseError
			return errors.As(err, &e) && e.Code == CloseRestart && e.Reason == "service restart"
		}},
		"cut": {func(c *Conn) { c.nc.Close() }, func(err error) bool {
			var e *CloseError
			return errors.As(err, &e) && e.Code == CloseAbnormal
		}},
		"garbled": {func(c *Conn) { c.Send([]byte(`{"type":"res","id":"1","ok":"yes"}`)); drain(c) }, func(err error) bool {
			var e *FieldError
			return errors.As(err, &e) && e.Path == "/ok"
		}},
	} {
		t.Run(name, func(t *testing.T) {
			client := connected(t, ClientOptions{}, func(c *Conn) {
				for range 3 {
					if _, err := next(c); err != nil {
						t.Error(err)
					}
				}
				tc.end(c)
			})
			var calls sync.WaitGroup
			for range 3 {
				calls.Go(func() {
					if err := client.Call(t.Context(), "wait", nil, nil); err == nil || !tc.want(err) {
						t.Errorf("got %v", err)
					}
				})
			}
			calls.Wait()
			<-client.Done()
			if !tc.want(client.Err()) {
				t.Errorf("Err: %v", client.Err())
			}
		})
	}
}
