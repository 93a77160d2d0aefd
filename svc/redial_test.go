package svc

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"openclaw/gateway/store"
	"openclaw/wire"
)

// TestRestartIsWaitedFor: a command that meets the profile's gateway while that
// restarts finds it where it is afterwards, and does nothing twice.
func TestRestartIsWaitedFor(t *testing.T) {
	for _, k := range []struct {
		first, method string // what becomes of the first attempt at which method
		code          int
		asked         int32 // how often the method was heard
	}{
		{"nobody there", "agent", 0, 1},
		{"cut before an answer", "agent", 0, 1},
		{"turned away", "agent", 0, 1},
		{"closed at once", "agent", 0, 1},
		{"not let in", "agent", 0, 1},
		{"cut when asked", "agents.list", 0, 2},
		{"refused when asked", "health", 0, 2},
		{"cut when asked", "agent", ExitUnreachable, 1},
		{"refused when asked", "agent", ExitFailed, 1},
	} {
		t.Run(k.first+" "+k.method, func(t *testing.T) {
			c := newConsole(t)
			d, err := store.Open(filepath.Join(c.Home, ".openclaw"))
			if err != nil {
				t.Fatal(err)
			}
			defer d.Close()
			publish := func(addr net.Addr) {
				if err := d.Publish(store.Instance{Addr: addr.String(), Port: addr.(*net.TCPAddr).Port, CLIKey: "right"}); err != nil {
					t.Error(err)
				}
			}
			var asked atomic.Int32
			next := newFakeGateway(t, func(req wire.Request, send func([]byte)) {
				asked.Add(1)
				send(wire.AppendResponse(nil, req.ID, []byte(`{"ok":true}`)))
			})
			down := wire.Unavailable("gateway is shutting down")
			old := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if k.first != "refused when asked" && k.first != "cut when asked" {
					publish(next.Listener.Addr())
				}
				switch k.first {
				case "cut before an answer":
					panic(http.ErrAbortHandler)
				case "turned away":
					http.Error(w, down.Message, http.StatusServiceUnavailable)
					return
				}
				conn, err := wire.Accept(w, r, wire.Options{})
				if err != nil {
					t.Error(err)
					return
				}
				switch k.first {
				case "closed at once":
					conn.Close(wire.CloseRestart, "gateway restarting")
					return
				case "not let in":
					go func() {
						conn.Send(wire.AppendEvent(nil, "connect.challenge", []byte(`{"nonce":"n","ts":1}`), 0, nil))
						if msg, err := conn.ReadMessage(); err == nil {
							req, _ := wire.ParseRequest(msg)
							conn.Send(wire.AppendError(nil, req.ID, down, nil))
							conn.ReadMessage()
						}
					}()
					return
				}
				go (&fakeGateway{token: make(chan string, 1)}).serve(conn, func(req wire.Request, send func([]byte)) {
					asked.Add(1)
					publish(next.Listener.Addr())
					if k.first == "refused when asked" {
						send(wire.AppendError(nil, req.ID, down, nil))
					} else {
						conn.Close(wire.CloseRestart, "gateway restarting")
					}
				})
			}))
			defer old.Close()
			publish(old.Listener.Addr())
			if k.first == "nobody there" {
				old.Close()
				looked, lookup := 0, c.Lookup
				c.Lookup = func(name string) (string, bool) {
					if name == "OPENCLAW_GATEWAY_URL" {
						if looked++; looked == 3 { // the second time that connecting is tried again
							publish(next.Listener.Addr())
						}
					}
					return lookup(name)
				}
			}
			if code := c.main("call", k.method, "--json"); code != k.code || asked.Load() != k.asked {
				t.Errorf("exit %d, asked %d times: %s", code, asked.Load(), c.err.String())
			}
		})
	}
}

// TestRestartThatNeverEnds is given up, at once when the person says so.
func TestRestartThatNeverEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newConsole(t)
		d, err := store.Open(filepath.Join(c.Home, ".openclaw"))
		if err != nil {
			t.Fatal(err)
		}
		if err := d.Publish(store.Instance{Addr: "127.0.0.1:1", Port: 1, CLIKey: "right"}); err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		if code := c.main("health"); code != ExitUnreachable || time.Since(start) < patience || time.Since(start) > patience+5*nextTry {
			t.Errorf("exit %d after %v: %s", code, time.Since(start), c.err.String())
		}
		ctx, cancel := context.WithTimeout(t.Context(), 3*nextTry)
		defer cancel()
		start = time.Now()
		if Main(ctx, c.Env, []string{"health"}); time.Since(start) > 4*nextTry {
			t.Errorf("interrupted, ended after %v", time.Since(start))
		}
		start = time.Now()
		if code := c.main("health", "--url", "ws://127.0.0.1:1"); code != ExitUnreachable || time.Since(start) > nextTry {
			t.Errorf("another's: exit %d after %v", code, time.Since(start))
		}
		d.Close()
		c.vars["OPENCLAW_GATEWAY_PORT"] = "1"
		start = time.Now()
		if code := c.main("health"); code != ExitUnreachable || time.Since(start) > nextTry {
			t.Errorf("down: exit %d after %v", code, time.Since(start))
		}
	})
}
