package main

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// strangerAt tells a child of this test binary to be a program that has
// nothing to do with us and listens there, until its stdin ends.
const strangerAt = "OPENCLAW_TEST_STRANGER"

func init() {
	addr := os.Getenv(strangerAt)
	if addr == "" {
		return
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println("listening")
	bufio.NewReader(os.Stdin).ReadString('\n')
	l.Close()
	os.Exit(0)
}

// stranger is a child that holds a port. Its end is sent on gone.
func stranger(t *testing.T, port int) (cmd *exec.Cmd, gone chan error) {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd = exec.Command(exe)
	cmd.Env = []string{strangerAt + "=127.0.0.1:" + strconv.Itoa(port)}
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	gone = make(chan error, 1)
	go func() { gone <- cmd.Wait() }()
	t.Cleanup(func() { in.Close(); cmd.Process.Kill() })
	if line != "listening\n" {
		t.Fatalf("the stranger says %q, %v", line, err)
	}
	return cmd, gone
}

// ends runs a gateway that cannot serve and wants its exit code and words.
func (h *house) ends(t *testing.T, code int, words []string, args ...string) {
	t.Helper()
	r := h.run(append([]string{"gateway"}, args...)...)
	if r.code != code || strings.Contains(r.stderr, "goroutine ") {
		t.Errorf("gateway %v: want exit code %d: %s", args, code, r)
	}
	for _, w := range words {
		if !strings.Contains(r.stderr, w) {
			t.Errorf("gateway %v: want %q: %s", args, w, r)
		}
	}
	if r.stdout != "" {
		t.Errorf("gateway %v: %s", args, r)
	}
}

func TestTwoOnOneState(t *testing.T) {
	t.Parallel()
	h := newHouse(t, nil)
	first := h.start()
	other := freePorts(t)
	h.ends(t, 78, []string{h.state, fmt.Sprintf("pid %d", first.pid()), fmt.Sprintf("port %d", h.port)}, "--port", strconv.Itoa(other))
	h.ends(t, 78, []string{fmt.Sprintf("port %d", h.port), "healthy gateway"})
	if r := h.run("health"); r.code != 0 {
		t.Errorf("the first one: %s", r)
	}
	// Nobody is in the way of the next once the first is gone, however it went.
	first.kill()
	h.start()
}

func TestPortTaken(t *testing.T) {
	t.Parallel()
	h := newHouse(t, nil)
	cmd, gone := stranger(t, h.port)
	who := fmt.Sprintf("pid %d", cmd.Process.Pid)
	if comm, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", cmd.Process.Pid)); err == nil {
		who += " (" + strings.TrimSpace(string(comm)) + ")"
	} else if runtime.GOOS == "linux" {
		t.Error(err)
	}
	h.ends(t, 1, []string{fmt.Sprintf("port %d", h.port), who, "--force"})
	select {
	case err := <-gone:
		t.Fatalf("the stranger ended: %v", err)
	default:
	}
	g := h.start("--force")
	take(t, gone, "the stranger's end")
	g.logs("ended " + who)
	if r := h.run("health"); r.code != 0 {
		t.Errorf("after --force: %s", r)
	}
}

func TestPortOfAnotherGateway(t *testing.T) {
	t.Parallel()
	h := newHouse(t, nil)
	first := h.start()
	second := newHouse(t, nil)
	second.port = h.port
	second.configure(nil)
	second.ends(t, 78, []string{fmt.Sprintf("port %d", h.port), fmt.Sprintf("pid %d", first.pid()), "healthy gateway"})
	second.start("--force")
	if code := first.wait(); code != 0 {
		t.Errorf("the first one, asked to make room, ended with %d", code)
	}
}

func TestTwoProfiles(t *testing.T) {
	t.Parallel()
	base := newHouse(t, nil)
	for i, name := range []string{"left", "right"} {
		h := *base
		h.port, h.flags = freePorts(t), []string{"--profile", name}
		if r := h.run("setup", "--port", strconv.Itoa(h.port)); r.code != 0 {
			t.Fatal(r)
		}
		h.start()
		if r := h.run("agent", "-m", "words of "+name); r.code != 0 || !strings.Contains(r.stdout, "words of "+name) {
			t.Errorf("%s: %s", name, r)
		}
		s, err := readState(filepath.Join(h.dir, ".openclaw-"+name), false)
		if err != nil || len(s.user) != 1 || s.user["words of "+name] != 1 {
			t.Errorf("%s: %+v, %v", name, s, err)
		}
		if r := h.run("gateway", "status", "--json"); r.code != 0 || !strings.Contains(r.stdout, strconv.Itoa(h.port)) {
			t.Errorf("%s: %s", name, r)
		}
		if i == 1 {
			h.flags[1] = "left"
			if r := h.run("health"); r.code != 0 {
				t.Errorf("the other one beside it: %s", r)
			}
		}
	}
	if r := base.run("health"); r.code != 3 {
		t.Errorf("the default profile has no gateway: %s", r)
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	h := newHouse(t, nil)
	good, err := os.ReadFile(h.config)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(h.state, 0o755); err != nil {
		t.Fatal(err)
	}
	h.ends(t, 78, []string{"chmod 700 " + h.state, "0755"})
	if err := os.Chmod(h.state, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ config, want string }{
		{"{\n  gateway: {\n    prot: 1,\n  },\n}", ":3:5: gateway.prot"},
		{"{\n  gateway: { port: \"many\" },\n}", ":2:20: gateway.port"},
		{"{\n  gateway: { port: 65430, auth: { token: \"" + testToken + "\" } },\n}", ":2:20: gateway.port"},
		{"{\n  gateway: {\n", ":3:"},
		{"{\n  gateway: { auth: { token: \"short\" } },\n}", ":2:29: gateway.auth.token"},
		{"{\n  gateway: { auth: { mode: \"none\" } },\n}", ":2:28: gateway.auth.mode"},
	} {
		h.write([]byte(c.config))
		h.ends(t, 78, []string{h.config + c.want})
	}
	if err := os.Remove(h.config); err != nil {
		t.Fatal(err)
	}
	h.ends(t, 78, []string{"no configuration at " + h.config, "openclaw setup"})
	left, err := os.ReadDir(h.state)
	if err != nil || len(left) != 0 {
		t.Errorf("refusals left %v in the state directory, %v", left, err)
	}

	g := h.start("--allow-unconfigured", "--port", strconv.Itoa(h.port))
	if r := h.run("agent", "-m", "hello"); r.code != 0 || !strings.Contains(r.stdout, "hello") {
		t.Errorf("unconfigured: %s", r)
	}
	token, err := os.ReadFile(filepath.Join(h.state, "gateway.token"))
	if err != nil || len(token) != 64 {
		t.Errorf("generated token: %d bytes, %v", len(token), err)
	}
	h.token = string(token)
	if a := h.mustHTTP("GET", "/v1/models", ""); a.status != 200 {
		t.Errorf("with the generated token: %d %s", a.status, a.body)
	}
	g.signal(syscall.SIGTERM)
	if code := g.wait(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	h.token = testToken
	h.write(good)
	h.start()
}
