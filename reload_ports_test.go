package main

import (
	"bufio"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"openclaw/wire"
)

// gatewayKey changes a key below gateway in the file.
func (e *edited) gatewayKey(key string, value any) {
	e.t.Helper()
	section := e.sections["gateway"].(object)
	if section[key] = value; value == nil {
		delete(section, key)
	}
	if err := replace(e.config, e.text()); err != nil {
		e.t.Fatal(err)
	}
}

// restarted waits until the gateway has served a restart on its port and
// connects anew.
func (e *edited) restarted() {
	e.t.Helper()
	<-e.client.Done()
	var closed *wire.CloseError
	if err := e.client.Err(); !errors.As(err, &closed) || closed.Code != wire.CloseRestart {
		e.t.Errorf("the client's connection ended with %v", err)
	}
	for len(e.told) > 0 { // all that it was told
		<-e.told
	}
	eventually(e.t, patience, func() error { // the one that ends may still answer, with a refusal
		c, err := e.connect(nil)
		if err == nil {
			c.Close()
		}
		return err
	})
	e.listen()
}

// undisturbed wants the client to be connected still, to a gateway that works.
func (e *edited) undisturbed() {
	e.t.Helper()
	e.g.alive()
	if err := e.client.Call(e.ctx, "health", nil, nil); err != nil {
		e.t.Errorf("the client was disturbed: %v", err)
	}
	if r := e.run("health"); r.code != 0 {
		e.t.Errorf("health: %s", r)
	}
}

// record is what gateway status finds, with or without asking the gateway.
type record struct {
	OK      bool
	Process struct{ PID, Port int }
	RPC     struct {
		OK  bool
		URL string
	}
	Config struct{ Loaded *wire.StatusConfig }
}

func (h *house) record() (r record) {
	h.t.Helper()
	got := h.run("gateway", "status", "--json")
	if err := json.Unmarshal([]byte(got.stdout), &r); err != nil {
		h.t.Fatalf("gateway status: %v: %s", err, got)
	}
	return r
}

// refused reports whether nobody listens on an address.
func refused(addr string) error {
	c, err := net.Dial("tcp", addr)
	if errors.Is(err, syscall.ECONNREFUSED) {
		return nil
	}
	if err == nil {
		c.Close()
		err = errors.New("somebody listens")
	}
	return fmt.Errorf("%s: %w", addr, err)
}

// reachable reports whether somebody listens on an address.
func reachable(addr string) error {
	c, err := net.Dial("tcp", addr)
	if err == nil {
		c.Close()
	}
	return err
}

func TestPortChange(t *testing.T) {
	t.Parallel()
	e := newEdited(t, nil)
	say := func(text string) {
		t.Helper()
		if a := e.mustHTTP("POST", "/v1/chat/completions", chatBody("", text, false), "x-openclaw-session-key: agent:main:kept"); a.status != http.StatusOK {
			t.Fatalf("%d %s", a.status, a.body)
		}
	}
	history := func() int {
		t.Helper()
		var page wire.ChatHistoryPage
		if err := e.client.Call(e.ctx, "chat.history", wire.ChatHistory{SessionKey: "agent:main:kept"}, &page); err != nil {
			t.Fatal(err)
		}
		return len(page.Messages)
	}
	say("on the old port")
	f := e.openFrames(nil)
	old := e.addr()
	e.port = freePorts(t)
	e.gatewayKey("port", e.port)
	if got := e.next(); got.event != "config.changed" || !got.Restart || !strings.Contains(fmt.Sprint(got.Pending), "gateway.port") {
		t.Errorf("told %+v", got)
	}
	var bye struct{ Payload wire.Shutdown }
	msg := f.until(`"event":"shutdown"`)
	if err := json.Unmarshal([]byte(msg), &bye); err != nil || bye.Payload.Reason != "gateway restarting" || bye.Payload.RestartExpectedMs <= 0 {
		t.Errorf("told %s, %v", msg, err)
	}
	if closed := f.end(); closed.Code != wire.CloseRestart {
		t.Errorf("closed with %v", closed)
	}
	e.g.ready()
	if err := refused(old); err != nil {
		t.Errorf("the old port: %v", err)
	}
	e.restarted()
	if n := history(); n != 2 {
		t.Errorf("%d messages", n)
	}
	if say("on the new port"); history() != 4 {
		t.Errorf("%d messages", history())
	}
	if r := e.record(); !r.OK || !r.RPC.OK || r.Process.PID != e.g.pid() || r.Process.Port != e.port {
		t.Errorf("gateway status: %+v", r)
	}
	if s := e.status(); s.LoadedHash != s.FileHash || len(s.Pending) > 0 || !strings.Contains(fmt.Sprint(s.Applied), "gateway.port") {
		t.Errorf("status %+v", s)
	}
	if r := e.run("agent", "-m", "by the command", "--session-id", "nothing"); r.code == 3 {
		t.Errorf("the command does not find it: %s", r)
	}
	e.undisturbed()
}

// TestNewPortTaken moves a gateway to a port that somebody holds: by the file
// and by a client that writes it. It stays, until the port is free.
func TestNewPortTaken(t *testing.T) {
	t.Parallel()
	for _, way := range []string{"file", "rpc"} {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			e := newEdited(t, nil)
			taken := freePorts(t)
			holder, gone := stranger(t, taken)
			who := fmt.Sprintf("port %d is taken by pid %d", taken, holder.Process.Pid)
			if comm, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", holder.Process.Pid)); err == nil {
				who += " (" + strings.TrimSpace(string(comm)) + ")"
			}
			e.undisturbed() // opens what stays open
			fds, _, _ := e.g.usage()
			for range 3 {
				if way == "file" {
					e.gatewayKey("port", taken)
				} else {
					e.sections["gateway"].(object)["port"] = taken
					e.text()
					var snap wire.ConfigSnapshot
					err := e.client.Call(e.ctx, "config.get", nil, &snap)
					if err == nil {
						raw := fmt.Sprintf(`{gateway:{port:%d},agents:{defaults:{systemPrompt:"edit %d"}}}`, taken, e.edits)
						err = e.client.Call(e.ctx, "config.patch", wire.ConfigWrite{Raw: raw, BaseHash: snap.Hash}, nil)
					}
					var refused *wire.Error
					if !errors.As(err, &refused) || refused.Code != wire.CodeUnavailable || !strings.Contains(refused.Message, "written, but not applied") || !strings.Contains(refused.Message, who) {
						t.Errorf("config.patch: %v", err)
					}
				}
				got := e.rejected(who)
				for way == "rpc" && got.Source == "file" { // the watcher saw the last one's write too
					got = e.rejected(who)
				}
				if got.Source != way {
					t.Errorf("told %+v", got)
				}
				e.undisturbed()
			}
			eventually(t, patience, func() error {
				e.status()
				if now, _, _ := e.g.usage(); now > fds {
					return fmt.Errorf("%d descriptors, before %d", now, fds)
				}
				return nil
			})
			if r := e.record(); r.Process.Port != e.port || r.Config.Loaded == nil || !strings.Contains(r.Config.Loaded.LastError, who) {
				t.Errorf("gateway status: %+v %+v", r, r.Config.Loaded)
			}
			if r := e.run("gateway", "reload"); r.code == 0 || !strings.Contains(r.stderr, who) {
				t.Errorf("reload while it is taken: %s", r)
			}
			holder.Process.Kill()
			take(t, gone, "the stranger's end")
			old := e.addr()
			e.port = taken
			if r := e.run("gateway", "reload"); r.code != 0 || !strings.Contains(r.stdout, "gateway.port") {
				t.Errorf("reload: %s", r)
			}
			e.restarted()
			if err := refused(old); err != nil {
				t.Errorf("the old port: %v", err)
			}
			if s := e.status(); s.LoadedHash != s.FileHash || s.LastError != "" {
				t.Errorf("status %+v", s)
			}
			e.undisturbed()
		})
	}
}

// TestPortThereAndBack moves a gateway twenty times.
func TestPortThereAndBack(t *testing.T) {
	t.Parallel()
	e := newEdited(t, nil)
	ports := [2]int{freePorts(t), e.port}
	var fds, threads int
	for i := range 22 {
		old := e.addr()
		e.port = ports[i%2]
		e.gatewayKey("port", e.port)
		e.restarted()
		if err := refused(old); err != nil {
			t.Errorf("move %d: %v", i, err)
		}
		if err := e.client.Call(e.ctx, "health", nil, nil); err != nil {
			t.Fatal(err)
		}
		if i == 1 {
			eventually(t, patience, func() error { // which takes a descriptor
				if s := e.status(); s.Watch == "" {
					return errors.New("the file is not followed yet")
				}
				return nil
			})
			fds, threads, _ = e.g.usage()
		}
	}
	// What the last one held may take a moment.
	eventually(t, patience, func() error {
		e.status()
		if now, threadsNow, _ := e.g.usage(); now > fds || threadsNow > threads+16 {
			return fmt.Errorf("descriptors %d, before %d; threads %d, before %d", now, fds, threadsNow, threads)
		}
		return nil
	})
}

// TestBindChanges has addresses take each other's place on one port. Where
// somebody else holds one of the new ones, the old ones are listened on again.
func TestBindChanges(t *testing.T) {
	t.Parallel()
	e := newEdited(t, nil)
	_, port, _ := net.SplitHostPort(e.addr())
	elsewhere := "127.0.0.3:" + port // answers under 0.0.0.0 only
	hold := func(network, addr string) net.Listener {
		t.Helper()
		l, err := net.Listen(network, addr)
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	bound := func(lan bool) {
		t.Helper()
		e.undisturbed()
		if runtime.GOOS != "linux" { // has one loopback address
			return
		}
		if err := reachable(elsewhere); (err == nil) != lan {
			t.Errorf("lan is %v, and %s: %v", lan, elsewhere, err)
		}
	}
	bound(false)
	if runtime.GOOS == "linux" {
		l := hold("tcp4", "127.0.0.2:"+port)
		e.gatewayKey("bind", "lan")
		e.rejected(fmt.Sprintf("pid %d", os.Getpid()))
		bound(false)

		// One that is asked what it is, and says nothing, is no reason to be away.
		e.sections["gateway"].(object)["customBindHost"] = "127.0.0.2"
		served := make(chan error, 1)
		stop := make(chan struct{})
		go func() {
			var worst time.Duration
			for {
				began := time.Now()
				c, err := net.Dial("tcp4", e.addr())
				for ; errors.Is(err, syscall.ECONNREFUSED) && time.Since(began) < 5*time.Second; c, err = net.Dial("tcp4", e.addr()) {
				}
				if worst = max(worst, time.Since(began)); err == nil {
					c.Close()
				}
				select {
				case <-stop:
					// Asking takes two seconds: one in the clear, one over TLS.
					if err == nil && worst > 1500*time.Millisecond {
						err = fmt.Errorf("the old address was away for %v", worst)
					}
					served <- err
					return
				default:
				}
			}
		}()
		e.gatewayKey("bind", "custom")
		e.rejected(fmt.Sprintf("pid %d", os.Getpid()))
		close(stop)
		if err := <-served; err != nil {
			t.Error(err)
		}
		bound(false)
		l.Close()
	}
	for range 3 {
		e.gatewayKey("bind", "lan")
		e.restarted()
		bound(true)
		e.gatewayKey("bind", "loopback")
		e.restarted()
		bound(false)
	}
	e.gatewayKey("bind", "lan")
	e.restarted()
	if l, err := net.Listen("tcp6", "[::1]:"+port); err == nil { // else there is no IPv6
		e.gatewayKey("bind", "loopback")
		e.rejected(fmt.Sprintf("pid %d", os.Getpid()))
		bound(true)
		l.Close()
		if r := e.run("gateway", "reload"); r.code != 0 {
			t.Errorf("reload: %s", r)
		}
		e.restarted()
		bound(false)
	}
}

// TestRestartsRefuseNobody connects without a pause while a gateway restarts
// twenty times on its port.
func TestRestartsRefuseNobody(t *testing.T) {
	t.Parallel()
	e := newEdited(t, nil)
	e.undisturbed() // opens what stays open
	fds, _, _ := e.g.usage()
	var refused, answered, cut, late, other atomic.Int32
	stop := make(chan struct{})
	var knocking sync.WaitGroup
	for range 4 {
		knocking.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				began := time.Now()
				c, err := net.Dial("tcp4", e.addr())
				if errors.Is(err, syscall.ECONNREFUSED) {
					refused.Add(1)
					continue
				}
				if err != nil {
					other.Add(1)
					t.Error(err)
					continue
				}
				c.SetDeadline(time.Now().Add(patience))
				_, err = io.WriteString(c, "GET /healthz HTTP/1.1\r\nHost: "+e.addr()+"\r\nConnection: close\r\n\r\n")
				asked := time.Since(began)
				var resp *http.Response
				if err == nil {
					resp, err = http.ReadResponse(bufio.NewReader(c), nil)
				}
				switch {
				case err == nil && resp.StatusCode == http.StatusOK:
					answered.Add(1)
				case err == nil:
					other.Add(1)
					t.Errorf("answered with %s", resp.Status)
				case errors.Is(err, os.ErrDeadlineExceeded):
					other.Add(1)
					t.Error("a client waits for ever")
				case asked > 100*time.Millisecond: // this machine kept it from asking in the moment that it is given
					late.Add(1)
				default: // was let in by the one that ended
					cut.Add(1)
				}
				c.Close()
			}
		})
	}
	for range 20 {
		e.g.signal(syscall.SIGUSR1)
		e.g.ready()
	}
	close(stop)
	knocking.Wait()
	t.Logf("20 restarts: %d connections answered, %d cut, %d late, %d refused", answered.Load(), cut.Load(), late.Load(), refused.Load())
	if refused.Load() > 0 || answered.Load() < 20 || cut.Load() > 2 { // a busy machine may stall the gateway too
		t.Error("clients noticed")
	}
	e.restarted()
	eventually(t, patience, func() error {
		e.status()
		if now, _, _ := e.g.usage(); now > fds+3 {
			return fmt.Errorf("%d descriptors, before %d", now, fds)
		}
		return nil
	})
	e.undisturbed()
}

// TestTLSChanges turns TLS on and off in the file, with certificates that can
// be used and others.
func TestTLSChanges(t *testing.T) {
	t.Parallel()
	e := newEdited(t, nil)
	speaks := func(secure bool) (certificate string) {
		t.Helper()
		r := &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
		for _, scheme := range []string{"http", "https"} {
			resp, err := r.RoundTrip(mustRequest(t, scheme+"://"+e.addr()+"/healthz"))
			if err == nil {
				resp.Body.Close()
			}
			if works := err == nil && resp.StatusCode == http.StatusOK; works != (secure == (scheme == "https")) {
				t.Errorf("%s, TLS is %v: %v", scheme, secure, err)
			}
			if err == nil && resp.TLS != nil && len(resp.TLS.PeerCertificates) > 0 {
				certificate = hashOf(string(resp.TLS.PeerCertificates[0].Raw))
			}
		}
		if r := e.run("health"); r.code != 0 {
			t.Errorf("TLS is %v: %s", secure, r)
		}
		return certificate
	}
	started := func(secure bool) {
		t.Helper()
		<-e.client.Done()
		eventually(t, patience, func() error { // there is no client of ours to tell
			a := e.run("gateway", "status", "--json")
			if !strings.Contains(a.stdout, `"ok":true`) && !strings.Contains(a.stdout, `"ok": true`) || strings.Contains(a.stdout, "wss://") != secure {
				return errors.New(a.stdout)
			}
			return nil
		})
	}
	speaks(false)
	e.gatewayKey("tls", object{"enabled": true, "certPath": e.dir + "/none.pem", "keyPath": e.dir + "/none.key"})
	e.rejected("certPath")
	e.undisturbed()
	if err := os.WriteFile(e.dir+"/none.pem", []byte("no certificate"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(e.dir+"/none.key", []byte("no key"), 0o600); err != nil {
		t.Fatal(err)
	}
	e.gatewayKey("tls", object{"enabled": true, "certPath": e.dir + "/none.pem", "keyPath": e.dir + "/none.key"})
	e.rejected("gateway.tls")
	e.undisturbed()
	e.gatewayKey("tls", object{"enabled": true, "autoGenerate": true})
	started(true)
	own := speaks(true)
	// The same certificate from a path of the operator's.
	for _, name := range []string{"cert.pem", "key.pem"} {
		raw, err := os.ReadFile(e.state + "/tls/" + name)
		if err == nil {
			err = os.WriteFile(e.dir+"/"+name, raw, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	e.gatewayKey("tls", object{"enabled": true, "certPath": e.dir + "/cert.pem", "keyPath": e.dir + "/key.pem"})
	eventually(t, patience, func() error {
		if s := strings.Count(e.g.log(), "listening on wss://127."); s != 2 {
			return fmt.Errorf("%d starts with TLS", s)
		}
		return nil
	})
	if same := speaks(true); same != own || own == "" {
		t.Errorf("certificate %s, want %s", same, own)
	}
	e.gatewayKey("tls", nil)
	e.g.ready()
	speaks(false)
	e.restarted()
	e.undisturbed()
}

// TestSignalsWithBrokenFile sends signals to a gateway whose file is broken.
func TestSignalsWithBrokenFile(t *testing.T) {
	t.Parallel()
	e := newEdited(t, nil)
	if err := replace(e.config, "{\n  gateway: {"); err != nil {
		t.Fatal(err)
	}
	e.rejected(e.config + ":2:")
	for _, s := range []struct {
		signal syscall.Signal
		name   string
	}{{syscall.SIGUSR1, "SIGUSR1"}, {syscall.SIGHUP, "SIGHUP"}, {syscall.SIGUSR1, "SIGUSR1"}} {
		e.g.signal(s.signal)
		if got := e.rejected(e.config + ":2:"); got.Source != s.name {
			t.Errorf("told %+v, want it from %s", got, s.name)
		}
		e.undisturbed()
	}
	text := e.text()
	if err := replace(e.config, text); err != nil {
		t.Fatal(err)
	}
	e.applied(text, promptKey)
	e.g.signal(syscall.SIGUSR1)
	e.restarted()
	e.undisturbed()
}

// TestManySignals hangs up on a gateway two hundred times.
func TestManySignals(t *testing.T) {
	t.Parallel()
	e := newEdited(t, nil)
	e.undisturbed()
	fds, _, _ := e.g.usage()
	for i := range 200 {
		e.g.signal(syscall.SIGHUP)
		if i%20 == 0 {
			e.status()
		}
	}
	text := e.text()
	if err := replace(e.config, text); err != nil {
		t.Fatal(err)
	}
	for got := e.next(); got.Hash != hashOf(text); got = e.next() {
		if got.event != "config.changed" || got.Source != "SIGHUP" || len(got.Applied)+len(got.Pending) > 0 {
			t.Fatalf("told %+v", got)
		}
	}
	e.undisturbed()
	eventually(t, patience, func() error {
		e.status()
		if now, _, _ := e.g.usage(); now > fds+1 {
			return fmt.Errorf("%d descriptors, before %d", now, fds)
		}
		return nil
	})
}

// TestSigtermInRestart stops a gateway that waits for a turn in order to restart.
func TestSigtermInRestart(t *testing.T) {
	t.Parallel()
	for _, ends := range []bool{true, false} {
		t.Run("turn ends "+strconv.FormatBool(ends), func(t *testing.T) {
			t.Parallel()
			p, asked, letGo := holdingProvider(t)
			grace := map[bool]int{true: 30_000, false: 700}[ends] // the turn that is to end has time for it
			h := newHouse(t, oneModel(p, object{"shutdown": object{"gracePeriodMs": grace}}))
			g := h.start()
			f := h.openFrames(nil)
			f.send("agent", `{"message":"waits","sessionKey":"agent:main:ws","idempotencyKey":"run-1"}`)
			take(t, asked, "the turn")
			g.signal(syscall.SIGUSR1)
			f.until(`"event":"shutdown"`, `"restartExpectedMs"`)
			began := time.Now()
			g.signal(syscall.SIGTERM)
			want := `"status":"aborted"`
			if ends {
				close(letGo)
				want = `"status":"ok"`
			}
			f.until(`"id":"agent"`, want)
			if code := g.wait(); code != 0 {
				t.Errorf("exit code %d", code)
			}
			if took := time.Since(began); took > prompt {
				t.Errorf("it took %v", took)
			}
			if err := refused(h.addr()); err != nil {
				t.Error(err)
			}
			h.start()
		})
	}
}
