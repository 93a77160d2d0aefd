package gateway

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"openclaw/reload/config"
)

// listener is a supervisor's end of NOTIFY_SOCKET.
type listener struct {
	t    *testing.T
	conn *net.UnixConn
}

func notifySocket(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "sup") // short: the address of a socket has 108 bytes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return filepath.Join(dir, "notify")
}

func listenAt(t *testing.T, name string) *listener {
	t.Helper()
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Net: "unixgram", Name: name})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return &listener{t, conn}
}

// heard is the next message that comes within a time, "" for none.
func (l *listener) heard(within time.Duration) string {
	var buf [8 << 10]byte
	l.conn.SetReadDeadline(time.Now().Add(within))
	n, _ := l.conn.Read(buf[:])
	return string(buf[:n])
}

// there is the next message that has come already, "" for none. A deadline would
// be over before the read, now and then.
func (l *listener) there() string {
	l.t.Helper()
	raw, err := l.conn.SyscallConn()
	if err != nil {
		l.t.Fatal(err)
	}
	var buf [8 << 10]byte
	n := 0
	raw.Read(func(fd uintptr) bool {
		n, _, err = syscall.Recvfrom(int(fd), buf[:], syscall.MSG_DONTWAIT)
		return true
	})
	if err != nil {
		return ""
	}
	return string(buf[:n])
}

func (l *listener) until(text string) string {
	l.t.Helper()
	for end := time.Now().Add(time.Minute); time.Now().Before(end); {
		if msg := l.heard(time.Until(end)); strings.Contains(msg, text) {
			return msg
		}
	}
	l.t.Fatalf("not told %q", text)
	return ""
}

// TestWatchdog blocks each thing that the gateway lives by and wants nothing
// but that to be named, no word that all is well, and that word once it goes on.
func TestWatchdog(t *testing.T) {
	t.Parallel()
	const wait = 4 * time.Second      // a quarter of it is what a thing that is well has to answer in
	blocked := make(chan struct{}, 1) // holds a token while reads of the file wait
	asked := make(chan struct{}, 1)   // the same for the agents
	for name, block := range map[string]func(r *running) (release func()){
		"hub": func(r *running) func() {
			r.health.mu.Lock()
			r.health.recheck()
			return r.health.mu.Unlock
		},
		"configuration loop": func(r *running) func() {
			blocked <- struct{}{}
			r.asks <- Request{Source: "SIGHUP"}
			return func() { <-blocked }
		},
		"agents": func(*running) func() {
			asked <- struct{}{}
			return func() { <-asked }
		},
		"listener": func(r *running) func() {
			r.doors[0].mu.Lock()
			return r.doors[0].mu.Unlock
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			socket := notifySocket(t)
			l := listenAt(t, socket)
			o := testOptions(t, "")
			o.listen = func(int) ([]net.Listener, error) {
				d, err := (&Gateway{}).doorAt("tcp4", "127.0.0.1:0")
				return []net.Listener{d}, err
			}
			o.Supervisor = &Supervisor{addr: notifyAddr(socket), watchdog: wait}
			if name == "configuration loop" {
				o.ReadFile = func(path string, limit int64, secret bool) ([]byte, error) {
					blocked <- struct{}{}
					<-blocked
					return os.ReadFile(path)
				}
			}
			o.pulse = func(pulse string) {
				if name == "agents" && pulse == name {
					asked <- struct{}{}
					<-asked
				}
			}
			r := start(t, o)
			l.until("WATCHDOG=1")
			release := block(r)
			said := l.until("not answering: " + name)
			for end := time.Now().Add(wait); time.Now().Before(end); {
				if msg := l.heard(time.Until(end)); strings.Contains(msg, "WATCHDOG=1") {
					t.Errorf("told %q", msg)
				}
			}
			release()
			l.until("WATCHDOG=1")
			if !polled(func() bool { return !strings.Contains(r.statusLine(), "not answering") }) {
				t.Errorf("still said: %s", r.statusLine())
			}
			if strings.Contains(said, ", ") || strings.Contains(said, "listener") && !strings.Contains(said, r.doors[0].Addr().String()) {
				t.Errorf("told %q", said)
			}
			if log := r.stderr.String(); strings.Count(log, `"does not answer: the supervisor is not told that all is well","key":"`+name) != 1 || !strings.Contains(log, "answers again") {
				t.Errorf("log: %s", log)
			}
		})
	}
}

// TestWatchdogCrowd wants nobody to be able to end the gateway by taking all of
// its places for connections.
func TestWatchdogCrowd(t *testing.T) {
	t.Parallel()
	socket := notifySocket(t)
	l := listenAt(t, socket)
	o := testOptions(t, "")
	o.Supervisor = &Supervisor{addr: notifyAddr(socket), watchdog: 400 * time.Millisecond}
	r := start(t, o)
	r.Gateway.conns.mu.Lock()
	r.Gateway.conns.total += maxHTTP
	r.Gateway.conns.mu.Unlock()
	for range 3 {
		l.until("WATCHDOG=1")
	}
	r.Gateway.conns.mu.Lock()
	r.Gateway.conns.total -= maxHTTP
	r.Gateway.conns.mu.Unlock()
}

// TestStatusLine tells what an operator would want to know first.
func TestStatusLine(t *testing.T) {
	r := start(t, testOptions(t, ""))
	r.call(r.connect(), "health", "{}")
	port := "port " + itoa(r.port) + "; 1 connected; turns: 0 running, 0 waiting"
	if got := r.statusLine(); got != port {
		t.Errorf("healthy: %q", got)
	}
	r.health.mu.Lock()
	r.health.problems = []string{"disk nearly full", "log lines are being dropped"}
	r.health.mu.Unlock()
	if got := r.statusLine(); got != port+"; degraded: disk nearly full, log lines are being dropped" {
		t.Errorf("degraded: %q", got)
	}
}

// TestSupervisorAway wants changes of state to wait for a supervisor that does
// not listen or read, in their order, and nobody else to wait for it.
func TestSupervisorAway(t *testing.T) {
	socket := notifySocket(t)
	s := &Supervisor{addr: notifyAddr(socket)}
	s.tell(stateReady)
	s.tell(stateReady)
	s.tell(stateReloading)
	s.status("lost")
	for range 10 * maxOwed {
		s.tell(stateReady)
		s.tell(stateReloading)
	}
	if len(s.owed) != maxOwed {
		t.Errorf("%d kept", len(s.owed))
	}
	s.tell(stateStopping)
	s.tell(stateReady) // too late
	l := listenAt(t, socket)
	var got []string
	for s.line == "" { // the kernel keeps fewer
		s.status("here\nREADY=1")
		for msg := l.there(); msg != ""; msg = l.there() {
			got = append(got, msg)
		}
	}
	s.status("too soon")
	n := len(got)
	if got[n-1] != "STATUS=here; READY=1" || got[n-2] != stateStopping || !strings.HasPrefix(got[n-3], stateReloading+"\nMONOTONIC_USEC=") || got[n-4] != stateReady {
		t.Errorf("told %q", got)
	}
	if more := l.there(); more != "" {
		t.Errorf("told %q", more)
	}

	s = &Supervisor{addr: notifyAddr(socket), watchdog: time.Second}
	for held := 0; held < 3; { // until the socket is full: this machine alone may hold up one
		began := time.Now()
		if s.alive(time.Second); time.Since(began) < notifyPatience {
			held = 0
		} else {
			held++
		}
	}
	began := time.Now()
	s.tell(stateReady)
	if took := time.Since(began); took > 100*notifyPatience {
		t.Errorf("held up for %v", took)
	}
	for msg := l.there(); msg != ""; msg = l.there() {
		if msg != "WATCHDOG=1\nEXTEND_TIMEOUT_USEC=1000000" {
			t.Errorf("told %q", msg)
		}
	}
	for s.line == "" {
		s.status("read again")
	}
	l.until(stateReady)
	l.until("STATUS=read again")
}

// TestSupervised reads the environment and leaves nothing of it to children.
func TestSupervised(t *testing.T) {
	self := strconv.Itoa(os.Getpid())
	for name, c := range map[string]struct {
		env      map[string]string
		addr     string
		watchdog time.Duration
		none     bool
	}{
		"none":           {env: map[string]string{}, none: true},
		"relative":       {env: map[string]string{"NOTIFY_SOCKET": "run/notify"}, none: true},
		"vsock":          {env: map[string]string{"NOTIFY_SOCKET": "vsock:2:9999"}, none: true},
		"long":           {env: map[string]string{"NOTIFY_SOCKET": "/" + strings.Repeat("x", 107)}, none: true},
		"path":           {env: map[string]string{"NOTIFY_SOCKET": "/run/notify", "WATCHDOG_USEC": "30000000"}, addr: "/run/notify", watchdog: 30 * time.Second},
		"our watchdog":   {env: map[string]string{"NOTIFY_SOCKET": "/n", "WATCHDOG_USEC": "1", "WATCHDOG_PID": self}, addr: "/n", watchdog: time.Microsecond},
		"their watchdog": {env: map[string]string{"NOTIFY_SOCKET": "/n", "WATCHDOG_USEC": "1", "WATCHDOG_PID": "1"}, addr: "/n"},
		"huge watchdog":  {env: map[string]string{"NOTIFY_SOCKET": "/n", "WATCHDOG_USEC": "18446744073709551615"}, addr: "/n"},
		"zero watchdog":  {env: map[string]string{"NOTIFY_SOCKET": "/n", "WATCHDOG_USEC": "0"}, addr: "/n"},
		"others' fds":    {env: map[string]string{"LISTEN_PID": "1", "LISTEN_FDS": "7", "LISTEN_FDNAMES": "x", "LISTEN_PIDFDID": "3"}, none: true},
		"no fds":         {env: map[string]string{"LISTEN_PID": self, "LISTEN_FDS": "0"}, none: true},
	} {
		s, err := Supervised(func(n string) (string, bool) { v, ok := c.env[n]; return v, ok }, func(n string) error { delete(c.env, n); return nil })
		if err != nil || (s == nil) != c.none || len(c.env) != 0 {
			t.Errorf("%s: %+v, %v, left %v", name, s, err, c.env)
		} else if s != nil && (s.addr.Name != c.addr || s.watchdog != c.watchdog || s.port() != 0) {
			t.Errorf("%s: %+v", name, s)
		}
	}
	var none *Supervisor // may be told everything
	none.tell(stateReady)
	none.Ended(nil)
}

// TestSupervisorEnded wants one line, whatever an error says.
func TestSupervisorEnded(t *testing.T) {
	socket := notifySocket(t)
	l := listenAt(t, socket)
	s := &Supervisor{addr: notifyAddr(socket)}
	for _, c := range []struct {
		err  error
		want string
	}{
		{nil, "STATUS=stopped"},
		{errors.New("a\nMAINPID=1\x1b[31m\u202e"), `STATUS=failed: a; MAINPID=1\u001b[31m\u202e`},
		{config.Problems{{File: "f", Line: 3, Msg: "bad"}, {Msg: "worse"}}, "STATUS=failed: f:3:0: bad (and 1 more)"},
		{fmt.Errorf("write: %w", syscall.ENOSPC), "STATUS=failed: write: no space left on device\nERRNO=" + strconv.Itoa(int(syscall.ENOSPC))},
	} {
		s.Ended(c.err)
		if got := l.heard(time.Second); got != c.want {
			t.Errorf("%v: told %q", c.err, got)
		}
	}
	s.Ended(errors.New(strings.Repeat("x", 1<<20)))
	if got := l.heard(time.Second); len(got) > 2*maxStatus {
		t.Errorf("told %d bytes", len(got))
	}
}
