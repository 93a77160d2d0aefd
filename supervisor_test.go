package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"openclaw/wire"
)

// supervisor is one that listens on NOTIFY_SOCKET.
type supervisor struct {
	t    *testing.T
	conn *net.UnixConn
	name string
	all  []string // messages so far
}

func newSupervisor(t *testing.T, name string) *supervisor {
	t.Helper()
	if name == "" { // short: the address of a socket has 108 bytes
		dir, err := os.MkdirTemp("", "sup")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { os.RemoveAll(dir) })
		name = filepath.Join(dir, "notify")
	}
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Net: "unixgram", Name: name})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return &supervisor{t: t, conn: conn, name: name}
}

// next is the next message.
func (s *supervisor) next() string {
	s.t.Helper()
	var buf [8 << 10]byte
	s.conn.SetReadDeadline(time.Now().Add(patience))
	n, err := s.conn.Read(buf[:])
	if err != nil {
		s.t.Fatalf("no message after %q: %v", s.all, err)
	}
	s.all = append(s.all, string(buf[:n]))
	return string(buf[:n])
}

// until returns the first message from now on that holds a text.
func (s *supervisor) until(text string) string {
	s.t.Helper()
	for end := time.Now().Add(patience); time.Now().Before(end); {
		if msg := s.next(); strings.Contains(msg, text) {
			return msg
		}
	}
	s.t.Fatalf("not told %q but %q", text, s.all)
	return ""
}

// status is the last status line so far.
func (s *supervisor) status() (line string) {
	for _, msg := range s.all {
		if strings.HasPrefix(msg, "STATUS=") {
			line = msg
		}
	}
	return line
}

// told is until for a message that may have come already.
func (s *supervisor) told(text string) {
	s.t.Helper()
	if !slices.ContainsFunc(s.all, func(msg string) bool { return strings.Contains(msg, text) }) {
		s.until(text)
	}
}

// states waits for changes of state, in this order and no other between them.
func (s *supervisor) states(want ...string) {
	s.t.Helper()
	for _, w := range want {
		var msg string
		for msg == "" || strings.HasPrefix(msg, "STATUS=") || strings.HasPrefix(msg, "WATCHDOG=") || strings.HasPrefix(msg, "EXTEND_") {
			msg = s.next()
		}
		if !strings.HasPrefix(msg, w) {
			s.t.Fatalf("told %q, want %s", msg, w)
		}
	}
}

// reloaded waits for a reload that began after a time of the monotonic clock,
// as systemd does (Type=notify-reload).
func (s *supervisor) reloaded() {
	s.t.Helper()
	s.states("RELOADING=1")
	if _, usec, _ := strings.Cut(s.all[len(s.all)-1], "\nMONOTONIC_USEC="); runtime.GOOS == "linux" {
		raw, err := os.ReadFile("/proc/uptime") // boot time: not less than the monotonic
		if err != nil {
			s.t.Fatal(err)
		}
		up, _ := strconv.ParseFloat(strings.Fields(string(raw))[0], 64)
		if n, err := strconv.ParseFloat(usec, 64); err != nil || n < 1 || n > (up+1)*1e6 {
			s.t.Errorf("MONOTONIC_USEC=%s, uptime %v s", usec, up)
		}
	}
	s.states("READY=1")
}

// TestSupervisorProtocol follows a gateway's whole life through its messages.
func TestSupervisorProtocol(t *testing.T) {
	t.Parallel()
	p, asked, letGo := holdingProvider(t)
	h := newHouse(t, oneModel(p, nil))
	s := newSupervisor(t, "")
	h.env["NOTIFY_SOCKET"], h.env["WATCHDOG_USEC"] = s.name, "1000000"
	g := h.launch()
	if first := s.next(); first != "READY=1" {
		t.Fatalf("first told %q", first)
	}
	port := fmt.Sprintf("STATUS=port %d; ", h.port)
	s.until(port + "0 connected; turns: 0 running, 0 waiting")
	s.until("WATCHDOG=1")
	f := h.openFrames(nil) // served, as it said
	s.until(port + "1 connected")

	g.signal(syscall.SIGHUP)
	s.reloaded()
	if r := h.run("gateway", "reload"); r.code != 0 {
		t.Errorf("reload: %s", r)
	}
	s.reloaded()
	raw, err := os.ReadFile(h.config)
	if err != nil {
		t.Fatal(err)
	}
	if err := replace(h.config, "{ nonsense"); err != nil {
		t.Fatal(err)
	}
	s.reloaded()
	s.told("; the configuration file was rejected") // a status may come before the reload is over
	if err := replace(h.config, string(raw)+"\n"); err != nil {
		t.Fatal(err)
	}
	s.reloaded()
	for strings.Contains(s.status(), "rejected") {
		s.until(port)
	}

	g.ready()
	g.signal(syscall.SIGUSR1)
	s.states("RELOADING=1")
	g.ready()
	s.states("READY=1")
	if closed := f.end(); closed.Code != wire.CloseRestart {
		t.Errorf("closed with %v", closed)
	}

	f = h.openFrames(nil)
	f.send("agent", `{"message":"goes on","sessionKey":"agent:main:ws","idempotencyKey":"run-1"}`)
	take(t, asked, "the turn")
	s.until("; turns: 1 running, 0 waiting")
	g.signal(syscall.SIGTERM)
	s.states("STOPPING=1")
	usec := strings.TrimPrefix(s.until("EXTEND_TIMEOUT_USEC="), "WATCHDOG=1\nEXTEND_TIMEOUT_USEC=")
	if n, err := strconv.Atoi(usec); err != nil || n < 5_000_000 || n > 15_000_000 {
		t.Errorf("EXTEND_TIMEOUT_USEC=%s", usec)
	}
	s.told("STATUS=stopping once turns have ended; port") // in either order
	s.until("WATCHDOG=1")
	close(letGo)
	f.until(`"id":"agent"`, `"status":"ok"`)
	s.until("STATUS=stopped")
	if code := g.wait(); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

// TestSupervisorRestartDrains wants a restart that waits for a turn to keep the
// supervisor waiting too, and a stop in the middle of it to be told.
func TestSupervisorRestartDrains(t *testing.T) {
	t.Parallel()
	p, asked, letGo := holdingProvider(t)
	h := newHouse(t, oneModel(p, nil))
	s := newSupervisor(t, "")
	h.env["NOTIFY_SOCKET"] = s.name // and no watchdog
	g := h.launch()
	s.states("READY=1")
	f := h.openFrames(nil)
	f.send("agent", `{"message":"goes on","sessionKey":"agent:main:ws","idempotencyKey":"run-1"}`)
	take(t, asked, "the turn")
	g.signal(syscall.SIGUSR1)
	s.states("RELOADING=1")
	s.until("EXTEND_TIMEOUT_USEC=")
	s.told("STATUS=restarting once turns have ended; ") // in either order
	g.signal(syscall.SIGTERM)
	s.states("STOPPING=1")
	close(letGo)
	s.until("STATUS=stopped")
	if code := g.wait(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	if all := strings.Join(s.all, "\n"); strings.Contains(all, "WATCHDOG") {
		t.Errorf("told %q", s.all)
	}
}

// TestSupervisorStart tells why a gateway cannot start, and leaves alone what
// is not meant for it.
func TestSupervisorStart(t *testing.T) {
	t.Parallel()
	t.Run("unusable configuration", func(t *testing.T) {
		t.Parallel()
		h := newHouse(t, object{"gateway": object{"prot": 1}, "loging": object{}})
		s := newSupervisor(t, "")
		h.env["NOTIFY_SOCKET"] = s.name
		r := h.run("gateway")
		msg := s.next()
		if r.code != 78 || !strings.HasPrefix(msg, "STATUS=failed: "+h.config+":") || !strings.HasSuffix(msg, " (and 1 more)") || strings.Contains(msg, "\n") {
			t.Errorf("told %q, %s", msg, r)
		}
	})
	t.Run("port taken", func(t *testing.T) {
		t.Parallel()
		h := newHouse(t, nil)
		l, err := net.Listen("tcp", h.addr())
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		s := newSupervisor(t, "")
		h.env["NOTIFY_SOCKET"] = s.name
		if r, msg := h.run("gateway"), s.next(); r.code != 1 || !strings.HasPrefix(msg, fmt.Sprintf("STATUS=failed: port %d is taken by ", h.port)) {
			t.Errorf("told %q, %s", msg, r)
		}
	})
	t.Run("somebody else's watchdog", func(t *testing.T) {
		t.Parallel()
		h := newHouse(t, nil)
		name := ""
		if runtime.GOOS == "linux" {
			name = fmt.Sprintf("@openclaw-test-%d", h.port) // the abstract namespace
		}
		s := newSupervisor(t, name)
		h.env["NOTIFY_SOCKET"], h.env["WATCHDOG_USEC"], h.env["WATCHDOG_PID"] = s.name, "100000", "1"
		g := h.launch()
		s.until("STATUS=port")
		h.mustConnect(nil)
		s.until("1 connected") // a second later: time for ten pings
		g.signal(syscall.SIGTERM)
		s.until("STATUS=stopped")
		if strings.Contains(strings.Join(s.all, "\n"), "WATCHDOG") {
			t.Errorf("told %q", s.all)
		}
	})
	for _, name := range []string{"relative", "@", "/nowhere/at/all", "vsock:2:1", "/" + strings.Repeat("x", 200)} {
		t.Run(name[:min(len(name), 16)], func(t *testing.T) {
			t.Parallel()
			h := newHouse(t, nil)
			h.env["NOTIFY_SOCKET"], h.env["WATCHDOG_USEC"] = name, "100000"
			g := h.start()
			g.signal(syscall.SIGTERM)
			if code := g.wait(); code != 0 {
				t.Errorf("exit code %d", code)
			}
		})
	}
}

// listenTCP opens a socket as a supervisor does.
func listenTCP(t *testing.T, addr string, multipath bool) net.Listener {
	t.Helper()
	var lc net.ListenConfig
	lc.SetMultipathTCP(multipath)
	l, err := lc.Listen(t.Context(), "tcp4", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// inherited is a file that a gateway gets as its descriptor 3.
func inherited(t *testing.T, from any) *os.File {
	t.Helper()
	f, err := from.(interface{ File() (*os.File, error) }).File()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// TestSocketActivation has a gateway serve a socket that was opened for it: over
// a restart, and with what its configuration says of the port ignored. The
// socket outlives it, and who connects meanwhile waits for the next one.
func TestSocketActivation(t *testing.T) {
	t.Parallel()
	h := newHouse(t, nil)
	configured := h.port
	l := listenTCP(t, "127.0.0.1:0", false)
	h.port = l.Addr().(*net.TCPAddr).Port
	h.files = []*os.File{inherited(t, l)}
	s := newSupervisor(t, "")
	h.env["NOTIFY_SOCKET"], h.env["LISTEN_PID"], h.env["LISTEN_FDS"], h.env["LISTEN_FDNAMES"] = s.name, "self", "1", "openclaw.socket"

	waits := make(chan answer, 1)
	go func() { // before there is a gateway
		a, _ := h.http("GET", "/healthz", "")
		waits <- a
	}()
	g := h.start()
	if a := take(t, waits, "the answer"); a.status != 200 {
		t.Errorf("the early one: %d %s", a.status, a.body)
	}
	s.until(fmt.Sprintf("STATUS=port %d;", h.port))
	if r := h.run("health"); r.code != 0 { // the CLI finds it
		t.Errorf("health: %s", r)
	}
	closedOnExec(t, g.pid())

	h.configure(object{"gateway": object{"port": configured + 1}})
	s.reloaded()
	g.logs(`"key":"gateway.port","err":"has no effect: ListenStream= of the supervisor's socket unit decides"`)
	g.signal(syscall.SIGUSR1)
	g.ready()
	if a := h.mustHTTP("GET", "/healthz", ""); a.status != 200 {
		t.Errorf("after the restart: %d %s", a.status, a.body)
	}
	closedOnExec(t, g.pid())
	for _, port := range []int{configured, configured + 1} {
		if c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port)); err == nil {
			c.Close()
			t.Errorf("port %d is open", port)
		}
	}
	g.signal(syscall.SIGTERM)
	if code := g.wait(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	go func() {
		a, _ := h.http("GET", "/healthz", "")
		waits <- a
	}()
	h.start()
	if a := take(t, waits, "the answer"); a.status != 200 {
		t.Errorf("between two: %d %s", a.status, a.body)
	}
}

// closedOnExec wants no child of a process to get any of its files, but for
// those that this process has from whoever runs the tests.
func closedOnExec(t *testing.T, pid int) {
	t.Helper()
	if runtime.GOOS != "linux" {
		return
	}
	if _, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid)); os.Geteuid() != 0 {
		// A gateway is not dumpable: its files are closed to its own user.
		if !errors.Is(err, os.ErrPermission) {
			t.Errorf("another process of this user may look at its files: %v", err)
		}
		return
	}
	all, err := filepath.Glob(fmt.Sprintf("/proc/%d/fdinfo/*", pid))
	if err != nil || len(all) < 4 {
		t.Fatalf("%d files: %v", len(all), err)
	}
	for _, name := range all {
		fd := filepath.Base(name)
		theirs, _ := os.Readlink("/proc/self/fd/" + fd)
		if link, _ := os.Readlink(fmt.Sprintf("/proc/%d/fd/%s", pid, fd)); len(fd) == 1 && fd < "3" || link == theirs {
			continue
		}
		raw, err := os.ReadFile(name)
		if err != nil {
			continue // closed meanwhile
		}
		for line := range strings.Lines(string(raw)) {
			octal, ok := strings.CutPrefix(line, "flags:")
			if flags, err := strconv.ParseInt(strings.TrimSpace(octal), 8, 64); ok && (err != nil || flags&syscall.O_CLOEXEC == 0) {
				t.Errorf("%s: %s, %v", name, line, err)
			}
		}
	}
}

// TestSocketActivationRefused wants a sentence and 78, which no supervisor
// repeats, for sockets that cannot be the gateway's.
func TestSocketActivationRefused(t *testing.T) {
	t.Parallel()
	tcp := func(addr string) net.Listener { return listenTCP(t, addr, false) }
	udp, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer udp.Close()
	unix, err := net.Listen("unix", filepath.Join(filepath.Dir(newSupervisor(t, "").name), "s"))
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close()
	conn, err := net.Dial("tcp4", tcp("127.0.0.1:0").Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	plain, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Close()
	mptcp := inherited(t, listenTCP(t, "127.0.0.1:0", true))
	if raw, err := os.ReadFile("/proc/sys/net/mptcp/enabled"); err != nil || raw[0] != '1' {
		mptcp = inherited(t, udp) // there is none here
	}
	good := inherited(t, tcp("127.0.0.1:0"))
	for name, c := range map[string]struct {
		files []*os.File
		fds   string
		want  string
	}{
		"not a number":        {nil, "two", `LISTEN_FDS is "two"`},
		"too many":            {nil, "1000", `LISTEN_FDS is "1000"`},
		"fewer than promised": {[]*os.File{good}, "2", "socket 2 (b) of the supervisor is no socket"},
		"a file":              {[]*os.File{plain}, "1", "socket 1 (a) of the supervisor is no socket"},
		"udp":                 {[]*os.File{inherited(t, udp)}, "1", "is not of TCP: the socket unit needs ListenStream="},
		"unix":                {[]*os.File{inherited(t, unix)}, "1", "is not of TCP"},
		"multipath tcp":       {[]*os.File{mptcp}, "1", "is not of TCP"},
		"a connection":        {[]*os.File{inherited(t, conn)}, "1", "does not listen: the socket unit needs Accept=no"},
		"public":              {[]*os.File{inherited(t, tcp("0.0.0.0:0"))}, "1", "which gateway.bind does not allow"},
		"two ports":           {[]*os.File{good, inherited(t, tcp("127.0.0.1:0"))}, "2", "all must have the gateway's one port"},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHouse(t, nil)
			s := newSupervisor(t, "")
			h.env["NOTIFY_SOCKET"], h.env["LISTEN_PID"], h.env["LISTEN_FDS"], h.env["LISTEN_FDNAMES"] = s.name, "self", c.fds, "a:b"
			h.files = c.files
			g := h.launch()
			if code := g.wait(); code != 78 || !strings.Contains(g.log(), c.want) {
				t.Errorf("exit %d:\n%s", code, g.log())
			}
			if msg := s.next(); !strings.HasPrefix(msg, "STATUS=failed: ") || !strings.Contains(msg, c.want) {
				t.Errorf("told %q", msg)
			}
		})
	}
	t.Run("public and allowed", func(t *testing.T) {
		h := newHouse(t, object{"gateway": object{"bind": "lan"}})
		l := tcp("0.0.0.0:0")
		h.env["LISTEN_PID"], h.env["LISTEN_FDS"] = "self", "1"
		h.files = []*os.File{inherited(t, l)}
		h.port = l.Addr().(*net.TCPAddr).Port
		h.launch() // it tells another address than the test would wait for
		if a := h.mustHTTP("GET", "/healthz", ""); a.status != 200 {
			t.Errorf("%d %s", a.status, a.body)
		}
	})
	t.Run("another's", func(t *testing.T) { // it has its own port then
		h := newHouse(t, nil)
		h.env["LISTEN_PID"], h.env["LISTEN_FDS"] = "1", "1"
		h.files = []*os.File{good}
		h.start()
	})
}
