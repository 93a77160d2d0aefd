package main

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"openclaw/wire"
)

// TestFullDisk fills the place that the state is in, and wants a clear answer
// at each door, no torn file, nothing acknowledged lost, and everything to work
// again once there is room, without a restart.
func TestFullDisk(t *testing.T) {
	p := newProvider(t, func(x *exchange) {
		first, _, _ := strings.Cut(x.text, "\n")
		x.stream(x.script("answer to ", first, "\n"+strings.Repeat("long ", 800)), 0)
	})
	config := oneModel(p, object{"limits": object{"tickIntervalMs": 1000}})

	t.Run("file size limit", func(t *testing.T) {
		h := newHouse(t, config)
		g := h.start()
		d := &disk{house: h, process: g,
			fill: func() { limitFiles(t, g.pid(), 40<<10) },
			free: func() { limitFiles(t, g.pid(), unix.RLIM_INFINITY) },
		}
		d.test()
	})

	t.Run("small file system", func(t *testing.T) {
		if os.Geteuid() != 0 {
			t.Skip("only root may mount")
		}
		h := newHouse(t, config)
		if err := unix.Mount("tmpfs", h.state, "tmpfs", 0, "size=80m,mode=0700"); err != nil {
			t.Skipf("no mounting here: %v", err) // a container, as a rule
		}
		t.Cleanup(func() {
			if err := unix.Unmount(h.state, unix.MNT_DETACH); err != nil {
				t.Error(err)
			}
		})
		h.configure(config)
		ballast := filepath.Join(h.state, "ballast")
		g := h.start()
		d := &disk{house: h, process: g, seen: true,
			fill: func() { fillUp(t, ballast) }, // all but a little, then the rest
			free: func() {
				if err := os.Remove(ballast); err != nil {
					t.Fatal(err)
				}
			},
		}
		d.test()
		d.stopsAndStarts()
	})
}

// disk is a gateway whose disk becomes full.
type disk struct {
	*house
	process    *process
	fill, free func()
	seen       bool // the gateway can see how much room there is
	acked      []string
	asked      int
}

// talk is one turn by some door. ok says that the answer came; acked that at
// least the message was said to be stored. err is what the client was told.
type talk func(text string) (acked, ok bool, err error)

func (d *disk) test() {
	t := d.t
	doors := map[string]talk{"HTTP": d.overHTTP, "agent": d.agent, "chat.send": d.chat}
	for name, door := range doors {
		if _, ok, err := d.turn(name, door); !ok {
			t.Fatalf("%s, with room: %v", name, err)
		}
	}
	if d.seen {
		d.wantHealth(http.StatusOK, wire.HealthHealthy)
	}

	d.fill()
	for name, door := range doors {
		turns := 0
		for full := false; !full; turns++ {
			if turns == 300 {
				t.Fatalf("%s: the disk does not become full", name)
			}
			_, ok, err := d.turn(name, door)
			if full = !ok; full && err == nil {
				t.Errorf("%s: no error", name)
			}
		}
		t.Logf("%s: full after %d turns", name, turns)
		d.process.alive()
	}
	for name, door := range doors { // it stays so, and stays clear, until not even the message fits
		for refused := 0; refused < 3; {
			acked, ok, err := d.turn(name, door)
			if ok || err == nil || d.asked > 1000 {
				t.Fatalf("%s, on a full disk: acknowledged %v, answered %v, %v", name, acked, ok, err)
			}
			if !acked {
				refused++
			}
		}
	}
	if r := d.run("agent", "-m", strings.Repeat("by the program ", 300), "--session-key", "agent:main:HTTP"); r.code != 1 || !strings.Contains(r.stderr, "no space left on the gateway's disk") {
		t.Errorf("the program on a full disk: %s", r)
	}
	if d.seen {
		d.fillLast()
		d.wantHealth(http.StatusServiceUnavailable, wire.HealthDegraded)
	}
	d.check()

	d.free()
	for name, door := range doors {
		for range 2 {
			if _, ok, err := d.turn(name, door); !ok {
				t.Errorf("%s, with room again: %v", name, err)
			}
		}
	}
	d.process.alive()
	if d.seen {
		d.wantHealth(http.StatusOK, wire.HealthHealthy)
	}
	d.check()
}

// fillLast takes the last bytes too, and has the gateway log more than its log
// can take.
func (d *disk) fillLast() {
	d.t.Helper()
	for i := range 40 {
		d.fill()
		key := fmt.Sprintf("x-openclaw-session-key: agent:main:more%d", i)
		if a := d.mustHTTP("POST", "/v1/chat/completions", chatBody("", strings.Repeat("x", 8<<10), false), key); a.status != http.StatusServiceUnavailable {
			d.t.Fatalf("with no byte left: %d %s", a.status, a.body)
		}
	}
}

// turn has a turn in the door's own session and notes what was acknowledged.
func (d *disk) turn(name string, door talk) (acked, ok bool, err error) {
	d.t.Helper()
	d.asked++
	text := fmt.Sprintf("%s %d\n%s", name, d.asked, strings.Repeat("x", 1500))
	acked, ok, err = door(text)
	if acked {
		d.acked = append(d.acked, text)
	}
	var refused *wire.Error
	if err != nil && (!errors.As(err, &refused) || refused.Code != wire.CodeUnavailable || !strings.Contains(refused.Message, "no space left")) {
		d.t.Fatalf("%s: not a clear answer: %v", name, err)
	}
	return acked, ok, err
}

func (d *disk) overHTTP(text string) (acked, ok bool, err error) {
	a := d.mustHTTP("POST", "/v1/chat/completions", chatBody("", text, false), "x-openclaw-session-key: agent:main:HTTP")
	if a.status == http.StatusOK {
		return true, true, nil
	}
	var o outcome
	if httpError([]byte(a.body), &o); a.status != http.StatusServiceUnavailable {
		return false, false, fmt.Errorf("status %d: %s", a.status, a.body)
	}
	return false, false, &wire.Error{Code: o.code, Message: o.err}
}

func (d *disk) agent(text string) (acked, ok bool, err error) {
	c := d.mustConnect(nil)
	defer c.Close()
	id := fmt.Sprint("run ", d.asked)
	err = c.CallFinal(d.ctx, "agent", wire.AgentRun{SessionKey: "agent:main:agent", Message: text, IdempotencyKey: id}, nil, func(wire.Raw) { acked = true })
	return acked, err == nil, err
}

func (d *disk) chat(text string) (acked, ok bool, err error) {
	c := d.mustConnect(nil)
	defer c.Close()
	id := fmt.Sprint("run ", d.asked)
	if err := c.Call(d.ctx, "chat.send", wire.ChatSend{SessionKey: "agent:main:chat", Message: text, IdempotencyKey: id}, nil); err != nil {
		return false, false, err
	}
	var end wire.AgentWaited
	if err := c.Call(d.ctx, "agent.wait", wire.AgentWait{RunID: id}, &end); err != nil {
		return true, false, err
	}
	if end.Status != wire.StatusOK {
		return true, false, &wire.Error{Code: wire.CodeUnavailable, Message: end.Error}
	}
	return true, true, nil
}

// check wants every file to parse and what was acknowledged to be there once.
func (d *disk) check() {
	d.t.Helper()
	s, err := readState(d.state, false)
	if err != nil {
		d.t.Fatal(err)
	}
	for _, text := range d.acked {
		if s.user[text] != 1 {
			d.t.Errorf("%.20q… was acknowledged and stands there %d times", text, s.user[text])
		}
	}
}

// wantHealth wants all places that tell of health to agree.
func (d *disk) wantHealth(ready int, word string) {
	d.t.Helper()
	if a := d.mustHTTP("GET", "/readyz", ""); a.status != ready || (ready != http.StatusOK) != strings.Contains(a.body, `"disk"`) {
		d.t.Errorf("readyz: %d %s", a.status, a.body)
	}
	if a := d.mustHTTP("GET", "/healthz", ""); a.status != http.StatusOK {
		d.t.Errorf("healthz: %d", a.status)
	}
	seen := d.openFrames(nil)
	for tick := 0; ; tick++ { // with each of which it is looked at
		f := d.dialFrames(nil)
		f.send("connect", fmt.Sprintf(`{"auth":{"token":%q}}`, d.token))
		hello := f.until(`"hello-ok"`)
		f.send("health", "")
		health := f.until(`"id":"health"`)
		f.conn.Close(wire.CloseNormal, "")
		if strings.Contains(hello, fmt.Sprintf(`"health":%q`, word)) && strings.Contains(health, fmt.Sprintf(`"status":%q`, word)) {
			return
		}
		if tick == 5 {
			d.t.Fatalf("want %s\nhello %s\nhealth %s", word, hello, health)
		}
		seen.until(`"event":"tick"`)
	}
}

// stopsAndStarts wants a full disk to spoil neither the end of a gateway nor
// what the next one finds.
func (d *disk) stopsAndStarts() {
	d.fill()
	d.process.signal(syscall.SIGTERM)
	if code := d.process.wait(); code != 0 {
		d.t.Errorf("stopped on a full disk: exit code %d\n%s", code, d.process.log())
	}
	d.check()
	g := d.launch()
	select {
	case <-g.up: // it found room for the little it needs
		g.signal(syscall.SIGTERM)
		g.wait()
	case <-g.gone:
		if code := g.cmd.ProcessState.ExitCode(); code != 1 || !strings.Contains(g.log(), "space") {
			d.t.Errorf("started on a full disk: exit code %d: %s", code, g.log())
		}
	case <-time.After(patience):
		d.t.Fatal("neither up nor gone")
	}
	d.free()
	d.process = d.start()
	d.check()
	d.wantHealth(http.StatusOK, wire.HealthHealthy)
}

// fillUp leaves a file system a few hundred kilobytes, and where it has no more
// than that, nothing.
func fillUp(t *testing.T, ballast string) {
	t.Helper()
	var fs unix.Statfs_t
	if err := unix.Statfs(filepath.Dir(ballast), &fs); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(ballast, os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	at, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		t.Fatal(err)
	}
	room := int64(fs.Bavail) * int64(fs.Bsize)
	if room > 512<<10 {
		room -= 256 << 10
	}
	if room == 0 {
		return
	}
	if err := unix.Fallocate(int(f.Fd()), 0, at, room); err != nil {
		t.Fatal(err)
	}
}

// limitFiles bounds the size of each file that a process writes (setrlimit(2)).
func limitFiles(t *testing.T, pid int, size uint64) {
	t.Helper()
	var now unix.Rlimit
	if err := unix.Prlimit(pid, unix.RLIMIT_FSIZE, nil, &now); err != nil {
		t.Fatal(err)
	}
	now.Cur = min(size, now.Max)
	if err := unix.Prlimit(pid, unix.RLIMIT_FSIZE, &now, nil); err != nil {
		t.Fatal(err)
	}
}

// TestSupervisorDisk tells the supervisor of a disk that is nearly full, and
// that it is no more.
func TestSupervisorDisk(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root may mount")
	}
	t.Parallel()
	h := newHouse(t, nil)
	if err := unix.Mount("tmpfs", h.state, "tmpfs", 0, "size=80m,mode=0700"); err != nil {
		t.Skipf("no mounting here: %v", err) // a container, as a rule
	}
	t.Cleanup(func() {
		if err := unix.Unmount(h.state, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	h.configure(object{"gateway": object{"limits": object{"tickIntervalMs": 1000}}})
	s := newSupervisor(t, "")
	h.env["NOTIFY_SOCKET"] = s.name
	g := h.launch()
	s.until("0 waiting")
	ballast := filepath.Join(h.state, "ballast")
	if err := os.WriteFile(ballast, make([]byte, 32<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	s.until("; degraded: disk nearly full")
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	for strings.Contains(s.until("STATUS=port"), "degraded") {
	}
	g.signal(syscall.SIGTERM)
	s.until("STATUS=stopped")
}
