package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"openclaw/wire"
)

// A rig is a gateway whose file is being changed, with clients that stay.
type rig struct {
	*house
	p        *process
	tree     object // what the file says
	provider *fakeProvider
	bots     []*botAPI
	asked    chan string   // turns that say "hold", held
	letGo    chan struct{} // an element lets one of them end
	last     atomic.Pointer[exchange]
	c        *wire.Client
	changed  chan wire.ConfigChanged
	rejected chan wire.ConfigRejected
	bye      chan wire.Shutdown
	secure   bool   // it speaks TLS
	old      string // token or address before a swap
	other    int    // port to swap with
	lines    int    // of the log, made for their size
	stay     []*wire.Client
	debounce time.Duration
	took     []time.Duration // from the file to the event
}

const (
	staying  = 8
	password = "a password of a sentence"
)

// newRig starts a gateway on a configuration in which every key can be changed by itself.
func newRig(t *testing.T, edit func(*rig)) *rig {
	r := &rig{
		house: newHouse(t, nil), asked: make(chan string, 8), letGo: make(chan struct{}), debounce: 20 * time.Millisecond,
		changed: make(chan wire.ConfigChanged, 1024), rejected: make(chan wire.ConfigRejected, 64), bye: make(chan wire.Shutdown, 64),
	}
	r.provider = newProvider(t, func(x *exchange) {
		r.last.Store(x)
		if strings.HasPrefix(x.text, "slow") {
			<-x.ctx.Done()
			return
		}
		events := x.script("one ", "two")
		if strings.HasPrefix(x.text, "hold") {
			x.stream(events[:1], 0)
			events = events[1:]
			r.asked <- x.text
			select {
			case <-r.letGo:
			case <-x.ctx.Done():
				return
			}
		}
		x.stream(events, 0)
	})
	other := providerConfig(r.provider.url+"/other", "openai-completions")
	r.tree = object{
		"gateway": object{
			"port": r.port, "auth": object{"mode": "token", "token": r.token, "rateLimit": object{"maxAttempts": 3}},
			"hotReload": object{"debounceMs": r.debounce.Milliseconds()}, "trustedProxies": []any{"127.0.0.1"},
		},
		"models": object{"providers": object{"fake": providerConfig(r.provider.url+"/v1", "openai-completions"), "other": other}},
		"agents": object{"defaults": object{"model": object{"primary": "fake/m"}}, "list": []any{object{"id": "main"}}},
	}
	if edit != nil {
		edit(r)
	}
	r.save()
	return r
}

// save puts the tree into the file, as an editor does that renames.
func (r *rig) save() {
	r.t.Helper()
	raw, err := json.MarshalIndent(r.tree, "", "  ")
	if err == nil {
		err = os.WriteFile(r.config+".new", raw, 0o600)
	}
	if err == nil {
		err = os.Rename(r.config+".new", r.config)
	}
	if err != nil {
		r.t.Fatal(err)
	}
}

// set changes one value of the tree, nil takes it away, and returns what was there.
func (r *rig) set(path string, value any) (old any) {
	parts := strings.Split(path, ".")
	at := r.tree
	for i, part := range parts {
		name, id, inList := strings.Cut(strings.TrimSuffix(part, "]"), "[")
		if i == len(parts)-1 {
			old = at[name]
			if at[name] = value; value == nil {
				delete(at, name)
			}
			return old
		}
		next := at[name]
		if inList {
			list := next.([]any)
			next = list[slices.IndexFunc(list, func(v any) bool { return v.(object)["id"] == id })]
		} else if next == nil {
			next = object{}
			at[name] = next
		}
		at = next.(object)
	}
	panic("no path")
}

// client connects by the options' secret, or else by the home's.
func (r *rig) client(o wire.ClientOptions) (*wire.Client, *wire.HelloOK, error) {
	scheme := "ws://"
	if r.secure {
		scheme, o.TLS = "wss://", &tls.Config{InsecureSkipVerify: true}
	}
	if own := r.options(nil); o.Token+o.Password == "" {
		o.Token, o.Password = own.Token, own.Password
	}
	return wire.Connect(r.ctx, scheme+r.addr()+"/", o)
}

// listen connects the client that hears of changes, and those that stay.
func (r *rig) listen(o wire.ClientOptions) {
	r.t.Helper()
	o.OnEvent = func(in wire.Inbound) {
		var changed wire.ConfigChanged
		var rejected wire.ConfigRejected
		var bye wire.Shutdown
		switch {
		case in.Event == "config.changed" && wire.DecodeLoose(in.Payload, &changed) == nil:
			r.changed <- changed
		case in.Event == "config.rejected" && wire.DecodeLoose(in.Payload, &rejected) == nil:
			r.rejected <- rejected
		case in.Event == "shutdown" && wire.DecodeLoose(in.Payload, &bye) == nil:
			r.bye <- bye
		}
	}
	r.stay = nil
	for i := range staying + 1 {
		if i > 0 {
			o = wire.ClientOptions{}
		}
		c, _, err := r.client(o)
		if err != nil {
			r.t.Fatal(err)
		}
		r.t.Cleanup(c.Close)
		if i == 0 {
			r.c = c
		} else {
			r.stay = append(r.stay, c)
		}
	}
	r.stayed() // who has had an answer hears every event from then on
}

// stayed wants every client to be connected still.
func (r *rig) stayed() {
	r.t.Helper()
	for i, c := range append(r.stay, r.c) {
		if err := c.Call(r.ctx, "agents.list", nil, nil); err != nil {
			r.t.Errorf("client %d: %v", i, err)
		}
	}
}

// apply saves the file and waits until the change is told to clients and to the log.
func (r *rig) apply(keys ...string) {
	r.t.Helper()
	mark, began := len(r.p.log()), time.Now()
	r.save()
	e := take(r.t, r.changed, "config.changed")
	r.took = append(r.took, time.Since(began)-r.debounce)
	if !slices.Equal(e.Applied, keys) || len(e.Pending) > 0 || e.Restart || e.Source != "file" {
		r.t.Errorf("told of %+v, want %v applied", e, keys)
	}
	eventually(r.t, patience, func() error {
		for line := range strings.Lines(r.p.log()[mark:]) {
			json := strings.Contains(line, fmt.Sprintf(`"sub":"reload","source":"file","keys":"%s"`, strings.Join(keys, ", ")))
			text := strings.Contains(line, fmt.Sprintf("sub=reload source=file keys=%s", strings.Join(keys, ", ")))
			if strings.Contains(line, "config reload applied") && (json || text) {
				return nil
			}
		}
		return fmt.Errorf("the log does not say that %v was applied:\n%s", keys, r.p.log()[mark:])
	})
}

// shows asks a method and wants all of the texts in what it answers.
func (r *rig) shows(method string, params any, texts ...string) error {
	var raw wire.Raw
	err := r.c.Call(r.ctx, method, params, &raw)
	for _, text := range texts {
		if err == nil && !bytes.Contains(raw, []byte(text)) {
			err = fmt.Errorf("%s answers without %s: %s", method, text, raw)
		}
	}
	return err
}

func shows(method string, texts ...string) func(*rig) error {
	return func(r *rig) error { return r.shows(method, nil, texts...) }
}

// policy looks at what a new connection is told.
func policy(want func(wire.Policy) bool) func(*rig) error {
	return func(r *rig) error {
		c, hello, err := r.client(wire.ClientOptions{})
		if err != nil {
			return err
		}
		c.Close()
		if !want(hello.Policy) {
			return fmt.Errorf("policy %+v", hello.Policy)
		}
		return nil
	}
}

// responds makes a request without a secret and wants a status.
func responds(status int, method, path, body string, header ...string) func(*rig) error {
	return func(r *rig) error {
		a, err := r.http(method, path, body, header...)
		if err == nil && a.status != status {
			err = fmt.Errorf("%s %s: %d %s", method, path, a.status, a.body)
		}
		return err
	}
}

// turn has the default agent answer, and looks at how the provider was asked.
func turn(want func(x *exchange, body string) bool) func(*rig) error {
	return func(r *rig) error {
		if err := responds(200, "POST", "/v1/chat/completions", chatBody("", "hello", false))(r); err != nil {
			return err
		}
		r.provider.mu.Lock()
		defer r.provider.mu.Unlock()
		x, body := r.last.Load(), r.provider.bodies[len(r.provider.bodies)-1]
		if !want(x, body) {
			return fmt.Errorf("the provider was asked at %s with %v %s", x.path, x.header, body)
		}
		return nil
	}
}

func turnWith(text string) func(*rig) error {
	return turn(func(_ *exchange, body string) bool { return strings.Contains(body, text) })
}

// turnCosts wants the usage of a turn to cost something.
func turnCosts(of func(wire.UsageTotals) float64) func(*rig) error {
	return func(r *rig) error {
		n := len(r.took) // makes an idempotency key, and a report that nobody has asked for
		if err := r.c.CallFinal(r.ctx, "agent", object{"message": "hello", "sessionKey": "main", "idempotencyKey": strconv.Itoa(n)}, nil, nil); err != nil {
			return err
		}
		var cost wire.UsageCost
		if err := r.c.Call(r.ctx, "usage.cost", object{"days": n}, &cost); err != nil {
			return err
		}
		if of(cost.Totals) <= 0 {
			return fmt.Errorf("costs %+v", cost.Totals)
		}
		return nil
	}
}

// refusedBeside holds a turn and wants another one to be refused.
func refusedBeside(holder, other, why string) func(*rig) error {
	return func(r *rig) error {
		done := make(chan error, 1)
		ask := func(session, text string) error {
			return r.c.CallFinal(r.ctx, "agent", object{"message": text, "sessionKey": session, "idempotencyKey": session + text}, nil, nil)
		}
		go func() { done <- ask(holder, "hold for "+why) }()
		take(r.t, r.asked, "the turn that is held")
		err := ask(other, "beside "+why)
		r.letGo <- struct{}{}
		if held := <-done; held != nil {
			return held
		}
		if err == nil || !strings.Contains(err.Error(), why) {
			return fmt.Errorf("another turn: %v", err)
		}
		return nil
	}
}

// timesOut wants a turn that gets no answer to end by itself.
func timesOut(r *rig) error {
	err := r.c.CallFinal(r.ctx, "agent", object{"message": "slow", "sessionKey": "main", "idempotencyKey": strconv.Itoa(len(r.took))}, nil, nil)
	if err == nil || !strings.Contains(err.Error(), "timed out after 1s") {
		return fmt.Errorf("a turn without an answer: %v", err)
	}
	return nil
}

// wrong presents a wrong secret on behalf of an address.
func (r *rig) wrong(addr string) answer {
	return r.mustHTTP("GET", "/v1/models", "", "Authorization: Bearer wrong", "X-Forwarded-For: "+addr)
}

// ended waits until the gateway has closed a connection.
func (f *frames) ended() error {
	if _, err := f.find("\x00"); err != nil && strings.Contains(err.Error(), "the connection ended") {
		return nil
	}
	return fmt.Errorf("the connection stays")
}

// grow fills the log n times up to where a file is rotated: from outside, which
// SIGHUP has the gateway see, and then by a line of its own.
func (r *rig) grow(n int) error {
	for range n {
		f, err := os.OpenFile(filepath.Join(r.state, "logs", "gateway.log"), os.O_WRONLY|os.O_APPEND, 0)
		if err != nil {
			return err
		}
		fi, err := f.Stat()
		if err != nil {
			return err
		}
		fmt.Fprintf(f, "{\"msg\":%q}\n", strings.Repeat("x", max(0, 65500-int(fi.Size()))))
		if err := f.Close(); err != nil {
			return err
		}
		r.p.signal(syscall.SIGHUP)
		if e := take(r.t, r.changed, "config.changed"); e.Source != "SIGHUP" || len(e.Applied) > 0 {
			return fmt.Errorf("told of %+v", e)
		}
		r.lines++
		r.wrong("203.0.113." + strconv.Itoa(100+r.lines))
	}
	return nil
}

func (r *rig) rotated() int {
	names, err := filepath.Glob(filepath.Join(r.state, "logs", "gateway*log*"))
	if err != nil {
		r.t.Fatal(err)
	}
	return len(names) - 1
}

func (r *rig) logs(mark int, texts ...string) error {
	r.t.Helper()
	r.p.logsAfter(mark, texts...)
	return nil
}

// certificates writes two certificates of one key.
func certificates(t *testing.T, dir string) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	write := func(name, kind string, der []byte) {
		if err := os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("one.key", "PRIVATE KEY", raw)
	write("copy.key", "PRIVATE KEY", raw)
	for i, name := range []string{"one", "two"} {
		c := &x509.Certificate{SerialNumber: big.NewInt(int64(i + 1)), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
		der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
		if err != nil {
			t.Fatal(err)
		}
		write(name+".pem", "CERTIFICATE", der)
	}
}
