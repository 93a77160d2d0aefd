package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"openclaw/gateway/store"
	"openclaw/wire"
)

const otherToken = "n3wT0kenN3wT0kenN3wT0kenN3wT0ken"

// asCLI connects as the commands do, with the key of the gateway's record.
func (h *house) asCLI(onEvent func(wire.Inbound)) *wire.Client {
	h.t.Helper()
	i, running, err := store.ReadInstance(h.state)
	if err != nil || !running {
		h.t.Fatalf("no running gateway: %v", err)
	}
	h.connecting <- struct{}{}
	defer func() { <-h.connecting }()
	c, _, err := wire.Connect(h.ctx, "ws://"+i.Addr+"/", wire.ClientOptions{Token: i.CLIKey, OnEvent: onEvent})
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(c.Close)
	return c
}

// knows reports whether the gateway takes a secret, on both surfaces.
func (h *house) knows(secret string) (ws, overHTTP bool) {
	h.t.Helper()
	as := *h
	as.token = secret
	c, err := as.connect(nil)
	if err == nil {
		c.Close()
	}
	var refused *wire.Error
	if err != nil && !errors.As(err, &refused) {
		h.t.Error(err)
	}
	a := as.mustHTTP("GET", "/v1/models", "")
	if a.status != http.StatusOK && a.status != http.StatusUnauthorized {
		h.t.Errorf("%d %s", a.status, a.body)
	}
	return err == nil, a.status == http.StatusOK
}

// connections is how many clients a gateway has.
func connections(h *house, c *wire.Client) int {
	h.t.Helper()
	var st wire.Status
	if err := c.Call(h.ctx, "status", nil, &st); err != nil {
		h.t.Fatal(err)
	}
	return st.Connections
}

// rotations put another secret into the file.
func rotations() map[string]func(e *edited, cli *wire.Client, secret string) {
	write := func(e *edited, _ *wire.Client, secret string) {
		e.token = secret
		if err := replace(e.config, e.text()); err != nil {
			e.t.Fatal(err)
		}
	}
	return map[string]func(e *edited, cli *wire.Client, secret string){
		"file":     write,
		"password": write,
		"patch": func(e *edited, cli *wire.Client, secret string) {
			var snap wire.ConfigSnapshot
			if err := cli.Call(e.ctx, "config.get", nil, &snap); err != nil {
				e.t.Fatal(err)
			}
			var done wire.ConfigWritten
			raw := fmt.Sprintf(`{gateway:{auth:{token:%q}}}`, secret)
			if err := cli.Call(e.ctx, "config.patch", wire.ConfigWrite{Raw: raw, BaseHash: snap.Hash}, &done); err != nil || !strings.Contains(fmt.Sprint(done.Applied), "gateway.auth.token") {
				e.t.Errorf("config.patch: %+v, %v", done, err)
			}
			e.token = secret
		},
		"command": func(e *edited, _ *wire.Client, secret string) {
			cmd := e.program(e.ctx, "config", "set", "gateway.auth.token", "-")
			cmd.Stdin = strings.NewReader(secret)
			if out, err := cmd.CombinedOutput(); err != nil || strings.Contains(string(out), secret) {
				e.t.Errorf("config set: %v: %s", err, out)
			}
			e.token = secret
		},
	}
}

// TestRotation gives a gateway another secret while all kinds of clients use
// the old one, and wants all of them out at once, and nobody else.
func TestRotation(t *testing.T) {
	t.Parallel()
	for way, rotate := range rotations() {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			left := make(chan string, 16) // texts of turns whose request the gateway gave up
			asked, letGo := make(chan string, 16), make(chan struct{})
			p := newProvider(t, func(x *exchange) {
				events := x.script("one ", "two")
				if !x.stream(events[:1], 0) {
					return
				}
				asked <- x.text
				select {
				case <-letGo:
					x.stream(events[1:], 0)
				case <-x.ctx.Done():
					left <- x.text
				}
			})
			sections := oneModel(p, object{})
			switch way {
			case "patch": // the watcher is not to be faster than the disk
				sections["gateway"] = object{"hotReload": object{"debounceMs": 3000}}
			case "password":
				sections["gateway"] = object{"auth": object{"mode": "password", "password": testToken}}
			}
			e := newEdited(t, sections)
			delete(e.sections["gateway"].(object), "auth")
			if way == "password" {
				e.secret = "password"
			}
			old := e.token
			var changed atomic.Int32
			var changedAt atomic.Int64
			cli := e.asCLI(func(in wire.Inbound) {
				var v wire.ConfigChanged
				if in.Event == "config.changed" && json.Unmarshal(in.Payload, &v) == nil {
					changedAt.Store(v.Ts)
					changed.Add(1)
				}
			})

			idle, inFlight := e.openFrames(nil), e.openFrames(nil)
			inFlight.send("agent", `{"message":"by agent","sessionKey":"agent:main:a","idempotencyKey":"run-1"}`)
			take(t, asked, "the agent's turn")
			inFlight.send("chat.send", `{"sessionKey":"agent:main:c","message":"by chat","idempotencyKey":"run-2"}`)
			take(t, asked, "the chat's turn")
			inFlight.send("agent.wait", `{"runId":"run-2","timeoutMs":30000}`)
			mute := e.dialFrames(nil) // has not connected yet
			mute.until("connect.challenge")
			e.clog(cli)

			kept := &http.Transport{}
			t.Cleanup(kept.CloseIdleConnections)
			models := func() int {
				t.Helper()
				r := mustRequest(t, "http://"+e.addr()+"/v1/models")
				r.Header.Set("Authorization", "Bearer "+old)
				resp, err := kept.RoundTrip(r)
				if err != nil {
					t.Fatal(err)
				}
				io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
				return resp.StatusCode
			}
			if got := models(); got != http.StatusOK {
				t.Fatal(got)
			}
			type ending struct {
				what, body string
				status     int
				at         time.Time
			}
			ends := make(chan ending, 8)
			for _, stream := range []bool{true, false} {
				resp := make(chan *http.Response, 1)
				go func() {
					r, err := e.call(e.ctx, "POST", "/v1/chat/completions", chatBody("", fmt.Sprint("streams ", stream), stream))
					if err != nil {
						t.Error(err)
						ends <- ending{}
						return
					}
					resp <- r
					raw, _ := io.ReadAll(r.Body)
					r.Body.Close()
					ends <- ending{fmt.Sprint("streams ", stream), string(raw), r.StatusCode, time.Now()}
				}()
				take(t, asked, "the turn over HTTP")
			}
			slow := e.rawHTTP("POST /v1/chat/completions HTTP/1.1\r\nHost: " + e.addr() + "\r\nAuthorization: Bearer " + old + "\r\nContent-Length: 100000\r\n\r\n{")
			half := e.rawHTTP("GET /v1/models HTTP/1.1\r\nHost: " + e.addr() + "\r\nAuthoriz")
			go func() {
				raw, _ := io.ReadAll(slow)
				ends <- ending{"slow body", string(raw), 0, time.Now()}
			}()
			if n := connections(e.house, cli); n != 5 { // e's, the CLI's, two and the clogged one
				t.Errorf("%d clients", n)
			}

			rotate(e, cli, otherToken)
			began := time.Now()
			for what, f := range map[string]*frames{"idle": idle, "with requests": inFlight} {
				if closed := f.end(); closed.Code != wire.ClosePolicy || closed.Reason != "gateway credentials changed" {
					t.Errorf("%s: closed with %v", what, closed)
				}
			}
			<-e.client.Done()
			for connections(e.house, cli) > 1 && time.Since(began) < patience {
			}
			gone := time.Now()
			began = time.UnixMilli(changedAt.Load()) // told before the answers
			t.Logf("%s: WebSockets gone after %v", way, gone.Sub(began).Round(time.Millisecond))
			if took := gone.Sub(began); took > prompt {
				t.Errorf("WebSockets are gone after %v", took)
			}
			io.WriteString(half, "ation: Bearer "+old+"\r\nConnection: close\r\n\r\n")
			if resp, err := http.ReadResponse(bufio.NewReader(half), nil); err != nil || resp.StatusCode != http.StatusUnauthorized {
				t.Errorf("a request that was half sent: %v, %v", resp, err)
			}
			mute.send("connect", fmt.Sprintf(`{"auth":{%q:%q}}`, e.secret, old))
			if closed := mute.end(); closed.Code != wire.ClosePolicy {
				t.Errorf("an old secret after the handshake: %v", closed)
			}
			for range 3 {
				got := take(t, ends, "the end of an HTTP request")
				t.Logf("%s: %s ended after %v", way, got.what, got.at.Sub(began).Round(time.Millisecond))
				if got.at.Sub(began) > prompt || strings.Contains(got.body, "two") {
					t.Errorf("%s: after %v: %d %s", got.what, got.at.Sub(began), got.status, got.body)
				}
				if got.what == "streams true" {
					if _, _, failure, done := streamed(got.body); failure == nil || !done {
						t.Errorf("the stream ended with %s", got.body)
					}
				} else if got.what == "streams false" && got.status < 400 {
					t.Errorf("answered with %d %s", got.status, got.body)
				}
			}
			given := map[string]bool{}
			for range 3 {
				given[take(t, left, "the end of a turn")] = true
			}
			if !given["by agent"] || !given["streams true"] || !given["streams false"] {
				t.Errorf("these turns were given up: %v", given)
			}
			if got := models(); got != http.StatusUnauthorized {
				t.Errorf("a kept connection: %d", got)
			}

			if ws, overHTTP := e.knows(old); ws || overHTTP {
				t.Errorf("the old secret is taken: %v, %v", ws, overHTTP)
			}
			if ws, overHTTP := e.knows(otherToken); !ws || !overHTTP {
				t.Errorf("the new secret is taken: %v, %v", ws, overHTTP)
			}
			if r := e.run("status"); r.code != 0 {
				t.Errorf("status: %s", r)
			}
			if err := cli.Call(e.ctx, "health", nil, nil); err != nil || changed.Load() != 1 {
				t.Errorf("the CLI's connection, told of %d changes: %v", changed.Load(), err)
			}
			// What belongs to a session and not to a client goes on.
			close(letGo)
			e.listen()
			eventually(t, patience, func() error {
				var page wire.ChatHistoryPage
				err := e.client.Call(e.ctx, "chat.history", wire.ChatHistory{SessionKey: "agent:main:c"}, &page)
				if raw, _ := json.Marshal(page.Messages); err != nil || !strings.Contains(string(raw), "one two") {
					return fmt.Errorf("history: %s, %v", raw, err)
				}
				return nil
			})
			log := e.g.log()
			for _, secret := range []string{old, otherToken} {
				if strings.Contains(log, secret) {
					t.Errorf("the log holds %s", secret)
				}
			}
			e.g.signal(syscall.SIGTERM)
			if code := e.g.wait(); code != 0 {
				t.Errorf("exit code %d", code)
			}
		})
	}
}

// flood answers with more than sockets hold. It tells when it gets no further.
func (x *exchange) flood(stuck chan<- string) {
	var sent atomic.Int32
	done := make(chan struct{})
	go func() {
		tick := time.NewTicker(200 * time.Millisecond)
		defer tick.Stop()
		still := 0 // ticks without anything taken; a busy machine may have one or two
		for before := int32(0); ; before = sent.Load() {
			select {
			case <-done:
				return
			case <-tick.C:
			}
			if before == 0 || sent.Load() != before {
				still = 0
			} else if still++; still == 5 {
				stuck <- x.text
				return
			}
		}
	}()
	defer close(done)
	for _, event := range x.script(slices.Repeat([]string{strings.Repeat("much ", 10<<10)}, 1000)...) {
		if !x.stream([]string{event}, 0) {
			return
		}
		sent.Add(1)
	}
}

// rawHTTP writes the beginning of a request.
func (h *house) rawHTTP(text string) net.Conn {
	h.t.Helper()
	c, err := net.Dial("tcp4", h.addr())
	if err == nil {
		h.t.Cleanup(func() { c.Close() })
		c.SetDeadline(time.Now().Add(patience))
		_, err = io.WriteString(c, text)
	}
	if err != nil {
		h.t.Fatal(err)
	}
	return c
}

// clog connects a client that then reads nothing more and asks for much, until
// the gateway cannot write to it.
func (e *edited) clog(cli *wire.Client) {
	e.t.Helper()
	conn, err := wire.Dial(e.ctx, "ws://"+e.addr()+"/", wire.DialOptions{DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
		c, err := new(net.Dialer).DialContext(ctx, network, addr)
		if err == nil {
			err = c.(*net.TCPConn).SetReadBuffer(4 << 10)
		}
		return c, err
	}})
	if err != nil {
		e.t.Fatal(err)
	}
	e.t.Cleanup(conn.Drop)
	conn.Send(fmt.Appendf(nil, `{"type":"req","id":"c","method":"connect","params":{"auth":{%q:%q}}}`, e.secret, e.token))
	for hello := ""; !strings.Contains(hello, "hello-ok"); {
		msg, err := conn.ReadMessage()
		if err != nil {
			e.t.Fatal(err)
		}
		hello = string(msg)
	}
	var schema wire.Raw
	if err := cli.Call(e.ctx, "config.schema", nil, &schema); err != nil {
		e.t.Fatal(err)
	}
	for asked := 0; asked < 12<<20; asked += len(schema) { // more than a socket holds, less than a queue
		if err := conn.Send([]byte(`{"type":"req","id":"s","method":"config.schema"}`)); err != nil {
			e.t.Fatal(err)
		}
	}
}

// TestRotationCutsDeafStream has a client ask for more than it reads, and
// begin to read when the secret is another one: its connection is over by then.
func TestRotationCutsDeafStream(t *testing.T) {
	t.Parallel()
	stuck := make(chan string, 1)
	p := newProvider(t, func(x *exchange) { x.flood(stuck) })
	h := newHouse(t, oneModel(p, object{"hotReload": object{"debounceMs": debounce.Milliseconds()}}))
	h.start()
	body := chatBody("", "deaf", true)
	deaf := h.rawHTTP(fmt.Sprintf("POST /v1/chat/completions HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s", h.addr(), h.token, len(body), body))
	take(t, stuck, "the end of what sockets hold")
	raw, err := os.ReadFile(h.config)
	if err == nil {
		err = replace(h.config, strings.Replace(string(raw), h.token, otherToken, 1))
	}
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, patience, func() error { // by the old secret, as tries of one that is not known yet are limited
		if ws, overHTTP := h.knows(h.token); ws || overHTTP {
			return fmt.Errorf("the old secret is taken: %v, %v", ws, overHTTP)
		}
		return nil
	})
	if ws, overHTTP := h.knows(otherToken); !ws || !overHTTP {
		t.Errorf("the new secret is taken: %v, %v", ws, overHTTP)
	}
	<-time.After(time.Second) // in which it is cut off
	got, err := io.ReadAll(deaf)
	t.Logf("it could read %d bytes more, %v", len(got), err)
	// Either it was cut off, or the gateway had room left to say why it ends.
	end := string(got[max(0, len(got)-200):])
	if strings.Contains(end, "[DONE]") && !strings.Contains(end, `"message":"aborted: `) || !strings.Contains(string(got), "much ") || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the stream was open: %v, %q", err, end)
	}
}

// TestSameSecretWrittenAnew says the same in other words, at which nobody has
// to go.
func TestSameSecretWrittenAnew(t *testing.T) {
	t.Parallel()
	e := newEdited(t, nil)
	f := e.openFrames(nil)
	if err := os.WriteFile(e.dir+"/secret", []byte(e.token+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	plain := `"` + e.token + `"`
	for _, written := range []string{"'" + e.token + "'", plain, `"\x` + fmt.Sprintf("%x", e.token[:1]) + e.token[1:] + `"`, `"file:` + e.dir + `/secret"`} {
		text := strings.Replace(e.text(), plain, written, 1)
		if written != plain && strings.Contains(text, plain) {
			t.Fatal("the text holds the token twice")
		}
		if err := replace(e.config, text); err != nil {
			t.Fatal(err)
		}
		e.applied(text, promptKey)
	}
	f.send("health", "")
	f.until(`"id":"health"`, `"ok":true`)

	// The file stays, and what it names changes: known at the next reload.
	if err := os.WriteFile(e.dir+"/secret", []byte(otherToken), 0o600); err != nil {
		t.Fatal(err)
	}
	if r := e.run("gateway", "reload"); r.code != 0 || !strings.Contains(r.stdout, "gateway.auth.token") {
		t.Errorf("reload: %s", r)
	}
	if closed := f.end(); closed.Code != wire.ClosePolicy {
		t.Errorf("closed with %v", closed)
	}
	if ws, overHTTP := e.knows(otherToken); !ws || !overHTTP {
		t.Errorf("the new secret is taken: %v, %v", ws, overHTTP)
	}
}

// TestSecretFromEnvironment moves the token between the file and a variable
// that has it, which changes nothing.
func TestSecretFromEnvironment(t *testing.T) {
	t.Parallel()
	h := newHouse(t, object{"gateway": object{"hotReload": object{"debounceMs": debounce.Milliseconds()}}})
	h.env["MY_TOKEN"], h.env["OPENCLAW_GATEWAY_TOKEN"] = h.token, h.token
	e := &edited{t: t, house: h, told: make(chan told, 64), sections: object{"gateway": object{"hotReload": object{"debounceMs": debounce.Milliseconds()}}}}
	e.g = h.start()
	e.listen()
	for _, auth := range []object{{"token": "${MY_TOKEN}"}, {}, {"mode": "token"}, {"token": "${MY_TOKEN}"}, {"token": h.token}} {
		e.sections["gateway"].(object)["auth"] = auth
		text := e.text()
		if err := replace(e.config, text); err != nil {
			t.Fatal(err)
		}
		e.applied(text, promptKey)
	}
	e.sections["gateway"].(object)["auth"] = object{"token": "${NO_SUCH_TOKEN}"}
	if err := replace(e.config, e.text()); err != nil {
		t.Fatal(err)
	}
	e.rejected("NO_SUCH_TOKEN")
	e.undisturbed()
}

// TestModeOfAuth turns a gateway with a token into one with a password.
func TestModeOfAuth(t *testing.T) {
	t.Parallel()
	e := newEdited(t, nil)
	old := e.token
	f := e.openFrames(nil)
	e.secret, e.token = "password", "correct horse battery staple"
	if err := replace(e.config, e.text()); err != nil {
		t.Fatal(err)
	}
	if got := e.next(); got.event != "config.changed" || !got.Restart || !strings.Contains(fmt.Sprint(got.Pending), "gateway.auth.mode") {
		t.Errorf("told %+v", got)
	}
	f.until(`"event":"shutdown"`, `"restartExpectedMs"`)
	if closed := f.end(); closed.Code != wire.CloseRestart {
		t.Errorf("closed with %v", closed)
	}
	e.restarted()
	as := *e.house
	as.secret, as.token = "token", old
	if _, err := as.connect(nil); err == nil {
		t.Error("the old token is taken")
	}
	if ws, overHTTP := e.knows(e.token); !ws || !overHTTP {
		t.Errorf("the password is taken: %v, %v", ws, overHTTP)
	}
	e.undisturbed()
}

// TestRotatorIsAnswered has a client change the very secret that let it in.
func TestRotatorIsAnswered(t *testing.T) {
	t.Parallel()
	e := newEdited(t, object{"gateway": object{"hotReload": object{"debounceMs": 3000}}})
	f := e.openFrames(nil)
	var snap wire.ConfigSnapshot
	if err := e.client.Call(e.ctx, "config.get", nil, &snap); err != nil {
		t.Fatal(err)
	}
	patch, _ := json.Marshal(wire.ConfigWrite{Raw: fmt.Sprintf(`{gateway:{auth:{token:%q}}}`, otherToken), BaseHash: snap.Hash})
	f.send("config.patch", string(patch))
	if answer, err := f.find(`"id":"config.patch"`); err != nil || !strings.Contains(answer, `"ok":true`) || !strings.Contains(answer, "gateway.auth.token") {
		t.Errorf("answered with %s, %v", answer, err)
	}
	for range f.in {
	}
	var closed *wire.CloseError
	if !errors.As(f.err, &closed) || closed.Code != wire.ClosePolicy {
		t.Errorf("the connection ended with %v", f.err)
	}
	if ws, overHTTP := e.knows(otherToken); !ws || !overHTTP {
		t.Errorf("the new secret is taken: %v, %v", ws, overHTTP)
	}
}

// TestRotationRace changes the token three times while two hundred clients
// connect with the one before, again and again: none of them stays.
func TestRotationRace(t *testing.T) {
	t.Parallel()
	e := newEdited(t, nil)
	cli := e.asCLI(nil)
	var tokens [4]string
	for i := range tokens {
		tokens[i] = fmt.Sprintf("%s%02d", testToken[2:], i)
	}
	e.token = tokens[0]
	if err := replace(e.config, e.text()); err != nil {
		t.Fatal(err)
	}
	<-e.client.Done()
	knocking := make(chan struct{}, 12) // more at a time push each other out
	for i, old := range tokens[:3] {
		ctx, stop := context.WithCancel(e.ctx)
		var clients sync.WaitGroup
		var in atomic.Int32
		for range 200 {
			clients.Go(func() {
				for ctx.Err() == nil {
					knocking <- struct{}{}
					c, _, err := wire.Connect(ctx, "ws://"+e.addr()+"/", wire.ClientOptions{Token: old})
					<-knocking
					if err != nil {
						continue
					}
					in.Add(1)
					select {
					case <-c.Done():
					case <-ctx.Done():
					}
					c.Close()
				}
			})
		}
		eventually(t, patience, func() error {
			if n := connections(e.house, cli); n < 150 {
				return fmt.Errorf("%d clients", n)
			}
			return nil
		})
		e.token = tokens[i+1]
		if err := replace(e.config, e.text()); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		n := connections(e.house, cli)
		for n > 1 && time.Since(began) < prompt {
			n = connections(e.house, cli)
		}
		took := time.Since(began)
		for range 20 { // nor does one come back
			n = max(n, connections(e.house, cli))
		}
		t.Logf("%d clients were in; gone after %v", in.Load(), took.Round(time.Millisecond))
		if n > 1 {
			t.Errorf("%d clients have the old token", n-1)
		}
		stop()
		clients.Wait()
	}
	if ws, overHTTP := e.knows(e.token); !ws || !overHTTP {
		t.Errorf("the last token is taken: %v, %v", ws, overHTTP)
	}
	e.g.alive()
}
