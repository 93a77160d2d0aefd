package gateway

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"openclaw/gateway/store"
	"openclaw/reload/config"
	"openclaw/wire"
)

// loopbackDoor listens on a free port of 127.0.0.1.
func loopbackDoor(t *testing.T) *door {
	t.Helper()
	l, err := listenOn("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	d := newDoor(l.Addr().String(), l)
	t.Cleanup(func() { d.Close() })
	return d
}

// knock connects; the connection is closed when the test ends.
func knock(t *testing.T, addr string) error {
	t.Helper()
	c, err := net.DialTimeout("tcp4", addr, time.Minute)
	if err == nil {
		t.Cleanup(func() { c.Close() })
	}
	return err
}

// accepting tells on a channel what one Accept comes to.
func accepting(d *door) <-chan error {
	got := make(chan error, 1)
	go func() {
		c, err := d.Accept()
		if err == nil {
			c.Close()
		}
		got <- err
	}()
	return got
}

func TestDoorShared(t *testing.T) {
	t.Parallel()
	first := loopbackDoor(t)
	second := first.share()
	letIn := accepting(first)
	if err := errors.Join(knock(t, first.addr), <-letIn); err != nil {
		t.Fatal(err)
	}
	waits := accepting(first)
	first.Close()
	if err := <-waits; err == nil {
		t.Error("a closed door lets in")
	}
	first.Close() // as often as one likes
	first.drop()
	if err := knock(t, first.addr); err != nil {
		t.Errorf("between two doors: %v", err)
	}
	second.open()
	letIn = accepting(second) // who came meanwhile
	if err := <-letIn; err != nil {
		t.Errorf("the second door: %v", err)
	}
	second.Close()
	if err := knock(t, first.addr); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("both are closed: %v", err)
	}
}

// TestDoorDropped gives back a door that was never used.
func TestDoorDropped(t *testing.T) {
	t.Parallel()
	first := loopbackDoor(t)
	waits := accepting(first)
	for range 3 {
		first.share().drop()
	}
	if err := errors.Join(knock(t, first.addr), <-waits); err != nil {
		t.Errorf("the door that was shared: %v", err)
	}
	second := first.share()
	first.Close()
	if err := knock(t, first.addr); err != nil {
		t.Errorf("the socket is gone with one of two: %v", err)
	}
	second.drop()
	second.Close()
	if err := knock(t, first.addr); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("nobody has it: %v", err)
	}
}

func TestDoorStepsAside(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		then func(t *testing.T, g *Gateway, d *door) error // what Accept is to end with
		want error
	}{
		{"and comes back", func(t *testing.T, g *Gateway, d *door) error {
			if err := g.comeBack(); err != nil {
				t.Fatal(err)
			}
			return knock(t, d.addr)
		}, nil},
		{"for nothing", func(t *testing.T, g *Gateway, d *door) error {
			return errors.Join(g.comeBack(), g.comeBack(), knock(t, d.addr))
		}, nil},
		{"and finds its place taken", func(t *testing.T, g *Gateway, d *door) error {
			all, err := listenOn("tcp4", strings.Replace(d.addr, "127.0.0.1", "0.0.0.0", 1))
			if err != nil {
				t.Fatalf("the address is not free: %v", err)
			}
			defer all.Close()
			if err := g.comeBack(); !errors.Is(err, syscall.EADDRINUSE) {
				t.Errorf("came back with %v", err)
			}
			return nil
		}, net.ErrClosed},
		{"and is closed", func(t *testing.T, g *Gateway, d *door) error { return d.Close() }, net.ErrClosed},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			d := loopbackDoor(t)
			g := &Gateway{port: d.Addr().(*net.TCPAddr).Port, doors: []*door{d}}
			waits := accepting(d)
			if g.stepAside(g.port+1, "0.0.0.0:1") || !d.there() {
				t.Fatal("stepped aside for another port")
			}
			if g.stepAside(g.port, "100.64.0.1:1") || !d.there() {
				t.Fatal("stepped aside for an address that is not ours")
			}
			if !g.stepAside(g.port, "0.0.0.0:1") || d.there() {
				t.Fatal("did not step aside")
			}
			if err := knock(t, d.addr); !errors.Is(err, syscall.ECONNREFUSED) {
				t.Errorf("still listening: %v", err)
			}
			if err := tt.then(t, g, d); err != nil {
				t.Error(err)
			}
			if err := <-waits; !errors.Is(err, tt.want) {
				t.Errorf("Accept ended with %v, want %v", err, tt.want)
			}
		})
	}
}

// TestDoorHandover hands a socket on a hundred times while clients knock: each
// is let in, and once.
func TestDoorHandover(t *testing.T) {
	t.Parallel()
	d := loopbackDoor(t)
	const clients, each = 4, 100
	served := make(chan string, clients*each)
	var serving sync.WaitGroup
	serve := func(d *door) {
		serving.Go(func() {
			for {
				c, err := d.Accept()
				if err != nil {
					return
				}
				serving.Go(func() {
					defer c.Close()
					name, err := io.ReadAll(c)
					if err != nil {
						t.Error(err)
					}
					served <- string(name)
				})
			}
		})
	}
	serve(d)
	var knocking sync.WaitGroup
	for i := range clients {
		knocking.Go(func() {
			for j := range each {
				c, err := net.Dial("tcp4", d.addr)
				if err != nil {
					t.Error(err)
					return
				}
				fmt.Fprint(c, i, " ", j)
				c.(*net.TCPConn).CloseWrite()
				io.Copy(io.Discard, c) // until it was served
				c.Close()
			}
		})
	}
	now := d
	for range 100 {
		next := now.share()
		now.share().drop() // one that came to nothing
		now.Close()
		next.open()
		serve(next)
		now = next
	}
	knocking.Wait()
	now.Close()
	serving.Wait()
	close(served)
	names := map[string]int{}
	for name := range served {
		names[name]++
	}
	if len(names) != clients*each {
		t.Errorf("%d of %d clients were served", len(names), clients*each)
	}
}

// TestDoorAcceptStays steps aside and back while Accept waits, which must not notice.
func TestDoorAcceptStays(t *testing.T) {
	t.Parallel()
	d := loopbackDoor(t)
	g := &Gateway{port: d.Addr().(*net.TCPAddr).Port, doors: []*door{d}}
	for range 200 {
		waits := accepting(d)
		g.stepAside(g.port, "0.0.0.0:1")
		err := g.comeBack()
		if err := errors.Join(err, knock(t, d.addr), <-waits); err != nil {
			t.Fatal(err)
		}
	}
}

// held counts goroutines, and where there is a /proc descriptors, of this process.
func held(t *testing.T) (n [2]int) {
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	return [2]int{runtime.NumGoroutine(), len(list)}
}

// polled asks again and again whether something is so, for a while.
func polled(is func() bool) bool {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for range 12_000 { // a minute, at the most
		if is() {
			return true
		}
		<-tick.C
	}
	return is()
}

// follow waits for the gateway that takes over.
func (r *running) follow() {
	r.t.Helper()
	select {
	case r.Gateway = <-r.next:
		r.addr = r.dialAddr()
	case <-time.After(time.Minute):
		r.t.Fatalf("no restart: %+v", r.configStatus())
	}
}

// TestReloadsLeaveNothing edits the file of a gateway a thousand times, in
// place and by rename, and has it move to another port and back ten times.
func TestReloadsLeaveNothing(t *testing.T) {
	var ports [2]int
	host := "127.0.0.1"
	if runtime.GOOS == "linux" { // where nobody takes a port of it while we are on the other one
		host = "127.0.0.77"
	}
	for i := range ports {
		l, err := net.Listen("tcp4", host+":0")
		if err != nil {
			t.Fatal(err)
		}
		ports[i] = l.Addr().(*net.TCPAddr).Port
		l.Close()
	}
	text := func(port, edit int) string {
		return fmt.Sprintf(`{gateway:{port:%d,bind:"custom",customBindHost:%q,auth:{token:%q},hotReload:{debounceMs:20}},agents:{defaults:{systemPrompt:"edit %d"}}}`, port, host, testToken, edit)
	}
	o := testOptions(t, text(ports[0], 0))
	o.listen, o.watch = nil, nil // the network's and the kernel's
	r := start(t, o)
	move := func(port int) {
		t.Helper()
		c := r.connect()
		write(&o, text(port, 0))
		if ce := r.closed(c); ce.Code != wire.CloseRestart {
			t.Fatalf("closed with %v", ce)
		}
		r.follow()
		if status, _, _ := r.do("GET", "/healthz", nil, ""); status != 200 || r.port != port {
			t.Fatalf("on port %d: %d", r.port, status)
		}
	}
	move(ports[1])
	move(ports[0])
	r.call(r.connect(), "health", "{}")                               // opens what stays open
	if !polled(func() bool { return r.configStatus().Watch != "" }) { // the watcher begins after the first answers
		t.Fatal("the file is not followed")
	}
	before := held(t)
	settled := func(what string) {
		t.Helper()
		var now [2]int
		if !polled(func() bool { now = held(t); return now[0] <= before[0] && now[1] <= before[1] }) {
			buf := make([]byte, 1<<20)
			t.Errorf("%s: goroutines and descriptors %v, before %v\n%s", what, now, before, buf[:runtime.Stack(buf, true)])
		}
	}
	for i := range 10 {
		move(ports[(i+1)%2])
	}
	settled("after ten moves")

	var last string
	for i := range 1000 {
		last = text(ports[0], i+1)
		if i%2 == 0 {
			write(&o, last)
			continue
		}
		temp := o.Paths.ConfigPath + ".new"
		if err := errors.Join(os.WriteFile(temp, []byte(last), 0o600), os.Rename(temp, o.Paths.ConfigPath)); err != nil {
			t.Fatal(err)
		}
	}
	if !polled(func() bool { return r.snapshot().loaded.Hash == config.Hash([]byte(last)) }) {
		t.Fatalf("the last edit is not in effect: %+v", r.configStatus())
	}
	if s := r.configStatus(); s.LoadedHash != s.FileHash || s.LastError != "" || len(s.Pending) > 0 {
		t.Errorf("status %+v", s)
	}
	settled("after a thousand edits")
}

// TestChangeWhileStarting changes the file each time that it was read, before
// what was read is in effect: at the start and in restarts.
func TestChangeWhileStarting(t *testing.T) {
	text := func(edit int64) string {
		return fmt.Sprintf(`{gateway:{auth:{token:%q},hotReload:{debounceMs:20}},agents:{defaults:{systemPrompt:"edit %d"}}}`, testToken, edit)
	}
	o := testOptions(t, text(0))
	o.watch = nil
	var edits, last atomic.Int64 // made, wanted
	o.ReadFile = func(path string, limit int64, secret bool) ([]byte, error) {
		raw, err := store.ReadConfigFile(path, limit, secret)
		if edits.Load() < last.Load() {
			write(&o, text(edits.Add(1)))
		}
		return raw, err
	}
	last.Store(3)
	r := start(t, o)
	for restart := range 3 {
		if !polled(func() bool { return r.snapshot().loaded.Hash == config.Hash([]byte(text(last.Load()))) }) {
			t.Fatalf("restart %d: not in effect: %+v", restart, r.configStatus())
		}
		last.Add(5)
		r.asks <- Request{Source: "SIGUSR1", Restart: true}
		r.follow()
		r.do("GET", "/healthz", nil, "")
	}
}

// TestChangeInRestart changes the file while a restart reads it, and then back:
// what stands there in the end counts.
func TestChangeInRestart(t *testing.T) {
	text := func(tick int) string {
		return fmt.Sprintf(`{gateway:{auth:{token:%q},hotReload:{debounceMs:20},limits:{tickIntervalMs:%d}}}`, testToken, tick)
	}
	for name, change := range map[string]map[string]string{ // what is written when a text was read
		"to another": {text(40000): text(50000)},
		"to nothing": {text(40000): "", "": text(40000)},
	} {
		t.Run(name, func(t *testing.T) {
			o := testOptions(t, text(30000))
			o.watch = nil
			var mu sync.Mutex
			o.ReadFile = func(path string, limit int64, secret bool) ([]byte, error) {
				raw, err := store.ReadConfigFile(path, limit, secret)
				mu.Lock()
				defer mu.Unlock()
				if next, ok := change[string(raw)]; ok && err == nil {
					delete(change, string(raw))
					write(&o, next)
				}
				return raw, err
			}
			r := start(t, o)
			write(&o, text(40000))
			if name == "to another" {
				r.follow()
				r.do("GET", "/healthz", nil, "")
				write(&o, text(40000))
			}
			is := func() bool {
				select {
				case r.Gateway = <-r.next:
				default:
				}
				return r.cfg().Gateway.Limits.TickIntervalMs.Duration() == 40*time.Second
			}
			if !polled(is) {
				t.Errorf("not in effect: %+v", r.configStatus())
			}
		})
	}
}
