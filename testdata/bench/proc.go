package main

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// target is one server under load, in a process of its own.
type target struct {
	name  string
	addr  string
	token string // empty: the bare server, which wants no connect
	cmd   *exec.Cmd
	home  string
	errs  bytes.Buffer
}

func freePort() int {
	// Below the ephemeral range, so that the load's own connections never take it; the gateway wants a block.
	for p := 20000; p < 32000; p += 120 {
		ln, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", p))
		if err == nil {
			ln.Close()
			return p
		}
	}
	panic("no free port")
}

const benchToken = "3f9c2b7a51d84e06b1c7f02a9d6e85430c1b7f9e2a4d68530f7e6c5b4a392817"

// start runs one of the servers with upstream as its model provider.
func start(name, upstream, dir string) (*target, error) {
	t := &target{name: name, home: dir}
	port := freePort()
	t.addr = fmt.Sprintf("127.0.0.1:%d", port)
	if name == "bare" {
		t.cmd = exec.Command("bin/bare", "-addr", t.addr, "-upstream", upstream)
	} else {
		t.token = benchToken
		cfg := fmt.Sprintf(`{gateway: {port: %d, auth: {token: %q, rateLimit: {maxAttempts: 1000}},
 limits: {maxConnections: 20000, maxPending: 4096}},
 agents: {defaults: {model: "up/m"}},
 models: {providers: {up: {baseUrl: %q, apiKey: "bench", models: [{id: "m"}]}}}}`, port, benchToken, upstream+"/v1")
		state := filepath.Join(dir, "state")
		if err := os.MkdirAll(state, 0o700); err != nil {
			return nil, err
		}
		if err := os.WriteFile(filepath.Join(state, "openclaw.json"), []byte(cfg), 0o600); err != nil {
			return nil, err
		}
		t.cmd = exec.Command("bin/openclaw", "gateway")
		t.cmd.Env = append(os.Environ(), "HOME="+dir, "OPENCLAW_STATE_DIR="+state)
	}
	t.cmd.Stderr = &t.errs
	return t, t.cmd.Start()
}

// open connects and, where the server wants it, says connect.
func (t *target) open() (*wsConn, error) {
	c, err := dialWS(t.addr)
	if err != nil {
		return nil, err
	}
	if t.token == "" {
		c.queue(`{"type":"req","id":"c","method":"connect"}`)
	} else {
		c.queue(`{"type":"req","id":"c","method":"connect","params":{"auth":{"token":"` + t.token + `"}}}`)
	}
	if err := c.flush(); err != nil {
		return nil, err
	}
	if _, err := c.until(`"type":"res"`, `"ok":true`); err != nil {
		c.Close()
		return nil, fmt.Errorf("connect: %w", err)
	}
	return c, nil
}

// ready waits for the first connection that gets its answer.
func (t *target) ready() error {
	ctx, stop := context.WithTimeout(context.Background(), 10*time.Second)
	defer stop()
	for ctx.Err() == nil {
		if c, err := t.open(); err == nil {
			c.Close()
			return nil
		}
		time.Sleep(500 * time.Microsecond)
	}
	return fmt.Errorf("%s is not ready: %s", t.name, t.errs.String())
}

func (t *target) stop() time.Duration {
	at := time.Now()
	t.cmd.Process.Signal(syscall.SIGTERM)
	t.cmd.Wait()
	return time.Since(at)
}

// cpu is the processor time the server has used, user and system.
func (t *target) cpu() time.Duration {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", t.cmd.Process.Pid))
	if err != nil {
		return 0
	}
	f := strings.Fields(string(raw[bytes.LastIndexByte(raw, ')')+1:]))
	u, _ := strconv.Atoi(f[11])
	s, _ := strconv.Atoi(f[12])
	return time.Duration(u+s) * 10 * time.Millisecond // USER_HZ is 100 on every Linux that Go runs on
}

// rss is the resident memory in bytes.
func (t *target) rss() int64 {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", t.cmd.Process.Pid))
	if err != nil {
		return 0
	}
	n, _ := strconv.ParseInt(strings.Fields(string(raw))[1], 10, 64)
	return n * int64(os.Getpagesize())
}
