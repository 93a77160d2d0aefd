package main

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"openclaw/svc"
	"openclaw/wire"
)

// What the tests of whole daemons share: a home for each, the process, and
// clients of all kinds. The test binary is the program (TestMain).

// testToken is the token of a home that does not choose its own.
const testToken = "q8RrZ2vX5mWc7KpT4nYb9LdG3hJs6FaE"

// patience bounds every wait for another process.
const patience = time.Minute

// prompt bounds what is to happen at once: far above what it takes, for a machine
// that is slow and has more to do, and below what it would take by a timeout, of
// which the shortest are ten seconds.
const prompt = 8 * time.Second

// house is where one gateway lives: its own HOME, configuration, state, port.
type house struct {
	t      *testing.T
	ctx    context.Context
	dir    string
	port   int
	token  string // that clients present; or password
	secret string // token or password
	env    map[string]string
	flags  []string // before the command, such as --profile
	binary string   // the program; "" is this one
	state  string
	config string     // path
	files  []*os.File // that gateways inherit, from descriptor 3 on

	connecting chan struct{} // holds a token for each client that is not let in yet
}

// newHouse makes one whose configuration is the given sections joined with
// what every one needs.
func newHouse(t *testing.T, sections map[string]any) *house {
	ctx, cancel := context.WithTimeout(t.Context(), 8*time.Minute)
	if rounds := os.Getenv(crashRounds); rounds != "" {
		ctx, cancel = context.WithTimeout(t.Context(), 30*time.Minute)
	}
	t.Cleanup(cancel)
	h := &house{t: t, ctx: ctx, dir: t.TempDir(), port: freePorts(t), token: testToken, secret: "token", env: map[string]string{}, connecting: make(chan struct{}, 8)}
	if err := os.Chmod(h.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	h.state = filepath.Join(h.dir, ".openclaw")
	h.config = filepath.Join(h.state, "openclaw.json")
	h.configure(sections)
	return h
}

// object is JSON in the making.
type object = map[string]any

// configure writes the configuration.
func (h *house) configure(sections object) {
	h.t.Helper()
	gateway := object{"port": h.port, "auth": object{"mode": h.secret, h.secret: h.token}}
	all := object{}
	maps.Copy(all, sections)
	if more, ok := sections["gateway"].(object); ok {
		maps.Copy(gateway, more)
	}
	all["gateway"] = gateway
	raw, err := json.MarshalIndent(all, "", "  ")
	if err != nil {
		h.t.Fatal(err)
	}
	h.write(raw)
}

func (h *house) write(raw []byte) {
	h.t.Helper()
	if err := os.MkdirAll(h.state, 0o700); err != nil {
		h.t.Fatal(err)
	}
	if err := os.WriteFile(h.config, raw, 0o600); err != nil {
		h.t.Fatal(err)
	}
}

// program is one call of the program in this home.
func (h *house) program(ctx context.Context, args ...string) *exec.Cmd {
	exe, err := os.Executable()
	if err != nil {
		h.t.Fatal(err)
	}
	cmd := exec.CommandContext(ctx, cmp.Or(h.binary, exe))
	cmd.Args = append(append([]string{"openclaw"}, h.flags...), args...)
	cmd.Dir = h.dir
	cmd.Env = []string{scriptMain + "=1", "HOME=" + h.dir, "PATH=" + os.Getenv("PATH"), "TMPDIR=" + h.dir}
	if v := os.Getenv("GOCOVERDIR"); v != "" {
		cmd.Env = append(cmd.Env, "GOCOVERDIR="+v)
	}
	// The race detector would have each process wait a second before it exits.
	cmd.Env = append(cmd.Env, "GORACE=atexit_sleep_ms=0 "+os.Getenv("GORACE"))
	for name, value := range h.env {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	cmd.WaitDelay = 5 * time.Second
	return cmd
}

// result is what a call of the program left.
type result struct {
	stdout, stderr string
	code           int
}

func (r result) String() string {
	return fmt.Sprintf("exit %d\nstdout: %s\nstderr: %s", r.code, r.stdout, r.stderr)
}

// run calls the program and waits for its end.
func (h *house) run(args ...string) result {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(h.ctx, patience)
	defer cancel()
	var stdout, stderr bytes.Buffer
	cmd := h.program(ctx, args...)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	if ctx.Err() != nil {
		h.t.Errorf("%v did not end: %v\n%s%s", args, err, &stdout, &stderr)
	}
	return result{stdout.String(), stderr.String(), cmd.ProcessState.ExitCode()}
}

// inside is run without a process: all of the program but main.
func (h *house) inside(args ...string) result {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(h.ctx, patience)
	defer cancel()
	var stdout, stderr bytes.Buffer
	e := &svc.Env{
		Stdin: strings.NewReader(""), Stdout: &stdout, Stderr: &stderr, Home: h.dir, Program: "openclaw", Version: "test", Now: time.Now,
		Lookup: func(name string) (string, bool) { v, ok := h.env[name]; return v, ok },
	}
	code := svc.Main(ctx, e, append(h.flags[:len(h.flags):len(h.flags)], args...), svc.GatewayRun(serve))
	if ctx.Err() != nil {
		h.t.Errorf("%v did not end: %v\n%s%s", args, ctx.Err(), &stdout, &stderr)
	}
	return result{stdout.String(), stderr.String(), code}
}

// process is a running gateway.
type process struct {
	h     *house
	cmd   *exec.Cmd
	began time.Time
	up    chan string   // its address, each time it begins to serve
	gone  chan struct{} // closed when it has ended

	mu     sync.Mutex
	stderr strings.Builder
	stdout bytes.Buffer // read when gone
}

// start runs a gateway and waits until it serves.
func (h *house) start(args ...string) *process {
	h.t.Helper()
	p := h.launch(args...)
	p.ready()
	return p
}

// launch runs a gateway. It is killed when the test ends.
func (h *house) launch(args ...string) *process {
	h.t.Helper()
	p := &process{h: h, up: make(chan string, 64), gone: make(chan struct{})}
	p.cmd = h.program(context.WithoutCancel(h.ctx), append([]string{"gateway"}, args...)...)
	p.cmd.Stdout, p.cmd.ExtraFiles = &p.stdout, h.files
	out, err := p.cmd.StderrPipe()
	if err != nil {
		h.t.Fatal(err)
	}
	p.began = time.Now()
	if err := p.cmd.Start(); err != nil {
		h.t.Fatal(err)
	}
	go p.watch(out)
	h.t.Cleanup(func() {
		p.kill()
		if log := p.log(); strings.Contains(log, "DATA RACE") || strings.Contains(log, "panic") {
			h.t.Errorf("log of the gateway with pid %d:\n%s", p.pid(), log)
		} else if h.t.Failed() {
			h.t.Logf("end of the log of the gateway with pid %d:\n%s", p.pid(), log[max(0, len(log)-4<<10):])
		}
	})
	return p
}

// watch collects the log until the gateway is gone.
func (p *process) watch(out io.Reader) {
	defer close(p.gone)
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		p.mu.Lock()
		p.stderr.WriteString(lines.Text() + "\n")
		p.mu.Unlock()
		if _, addr, ok := strings.Cut(lines.Text(), "listening on ws://127."); ok {
			addr, _, _ = strings.Cut(addr, " ")
			p.up <- "127." + addr
		}
	}
	p.cmd.Wait()
}

func (p *process) log() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.stderr.String()
}

// logs waits until the log has every one of texts: what was written before an
// answer may be read after it. It returns the log.
func (p *process) logs(texts ...string) string {
	p.h.t.Helper()
	return p.logsAfter(0, texts...)
}

// logsAfter is logs of what follows the first mark bytes.
func (p *process) logsAfter(mark int, texts ...string) string {
	p.h.t.Helper()
	log := ""
	eventually(p.h.t, patience, func() error {
		log = p.log()[mark:]
		for _, text := range texts {
			if !strings.Contains(log, text) {
				return fmt.Errorf("the log does not say %s:\n%s", text, log)
			}
		}
		return nil
	})
	return log
}

func (p *process) pid() int { return p.cmd.Process.Pid }

// ready waits until the gateway serves, or serves again.
func (p *process) ready() {
	p.h.t.Helper()
	select {
	case addr := <-p.up:
		if addr != p.h.addr() {
			p.h.t.Fatalf("the gateway listens on %s, want %s", addr, p.h.addr())
		}
	case <-p.gone:
		p.h.t.Fatalf("the gateway ended with %d:\n%s", p.cmd.ProcessState.ExitCode(), p.log())
	case <-time.After(patience):
		p.h.t.Fatalf("the gateway does not serve:\n%s", p.log())
	}
}

// kill ends the gateway as a power cut would.
func (p *process) kill() {
	p.cmd.Process.Kill()
	<-p.gone
}

func (p *process) signal(s os.Signal) {
	p.h.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.h.t.Fatal(err)
	}
}

// wait waits for the gateway's end and returns its exit code.
func (p *process) wait() int {
	p.h.t.Helper()
	select {
	case <-p.gone:
		return p.cmd.ProcessState.ExitCode()
	case <-time.After(patience):
		p.h.t.Fatalf("the gateway does not end:\n%s", p.log())
		return 0
	}
}

// alive fails the test when the gateway has ended.
func (p *process) alive() {
	p.h.t.Helper()
	select {
	case <-p.gone:
		p.h.t.Fatalf("the gateway ended with %d:\n%s", p.cmd.ProcessState.ExitCode(), p.log())
	default:
	}
}

func (h *house) addr() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(h.port)) }

// options are the home's credentials.
func (h *house) options(onEvent func(wire.Inbound)) wire.ClientOptions {
	o := wire.ClientOptions{OnEvent: onEvent}
	if h.secret == "password" {
		o.Password = h.token
	} else {
		o.Token = h.token
	}
	return o
}

// connect makes a client of the gateway. Only a few connect at a time: who has
// not authenticated yet counts against a bound per address.
func (h *house) connect(onEvent func(wire.Inbound)) (*wire.Client, error) {
	h.connecting <- struct{}{}
	defer func() { <-h.connecting }()
	ctx, cancel := context.WithTimeout(h.ctx, patience)
	defer cancel()
	c, _, err := wire.Connect(ctx, "ws://"+h.addr()+"/", h.options(onEvent))
	return c, err
}

func (h *house) mustConnect(onEvent func(wire.Inbound)) *wire.Client {
	h.t.Helper()
	c, err := h.connect(onEvent)
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(c.Close)
	return c
}

// frames is a client that shows what is on the wire: each message as it came.
type frames struct {
	t    *testing.T
	conn *wire.Conn
	in   chan []byte // closed at the connection's end
	err  error       // why it ended, once in is closed
	keep func([]byte)
}

// dialFrames opens a connection and leaves connecting to the caller. keep, if
// set, gets every message of either side.
func (h *house) dialFrames(keep func([]byte)) *frames {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(h.ctx, patience)
	defer cancel()
	conn, err := wire.Dial(ctx, "ws://"+h.addr()+"/", wire.DialOptions{})
	if err != nil {
		h.t.Fatal(err)
	}
	f := &frames{t: h.t, conn: conn, in: make(chan []byte, 4096), keep: keep}
	go func() {
		defer close(f.in)
		for {
			msg, err := conn.ReadMessage()
			if err != nil {
				f.err = err
				return
			}
			msg = bytes.Clone(msg)
			if keep != nil {
				keep(msg)
			}
			f.in <- msg
		}
	}()
	h.t.Cleanup(func() {
		conn.Close(wire.CloseNormal, "")
		for range f.in { // until the reader has seen the end
		}
	})
	return f
}

// openFrames connects with the home's secret, as the manual's client does.
func (h *house) openFrames(keep func([]byte)) *frames {
	h.t.Helper()
	f := h.dialFrames(keep)
	f.send("connect", fmt.Sprintf(`{"auth":{%q:%q}}`, h.secret, h.token))
	f.until(`"hello-ok"`)
	return f
}

// send makes a request whose id is the method.
func (f *frames) send(method, params string) {
	f.t.Helper()
	msg := fmt.Sprintf(`{"type":"req","id":%q,"method":%q`, method, method)
	if params != "" {
		msg += `,"params":` + params
	}
	f.raw(msg + "}")
}

func (f *frames) raw(msg string) {
	f.t.Helper()
	if err := f.conn.Send([]byte(msg)); err != nil {
		f.t.Fatal(err)
	}
}

// until returns the first message that holds all of the texts.
func (f *frames) until(texts ...string) string {
	f.t.Helper()
	msg, err := f.find(texts...)
	if err != nil {
		f.t.Fatal(err)
	}
	return msg
}

func (f *frames) find(texts ...string) (string, error) {
	late := time.NewTimer(patience)
	defer late.Stop()
	for {
		select {
		case msg, ok := <-f.in:
			if !ok {
				return "", fmt.Errorf("the connection ended without %q: %w", texts, f.err)
			}
			all := true
			for _, text := range texts {
				all = all && bytes.Contains(msg, []byte(text))
			}
			if all {
				return string(msg), nil
			}
		case <-late.C:
			return "", fmt.Errorf("no message with %q", texts)
		}
	}
}

// end reads until the connection is over and returns how the gateway closed it.
func (f *frames) end() *wire.CloseError {
	f.t.Helper()
	late := time.NewTimer(patience)
	defer late.Stop()
	for {
		select {
		case _, ok := <-f.in:
			if !ok {
				var closed *wire.CloseError
				if !errors.As(f.err, &closed) {
					f.t.Fatalf("the connection ended with %v", f.err)
				}
				return closed
			}
		case <-late.C:
			f.t.Fatal("the connection does not end")
		}
	}
}

// answer is an HTTP response, read whole.
type answer struct {
	status int
	header http.Header
	body   string
}

// call is one HTTP request with the home's secret.
func (h *house) call(ctx context.Context, method, path, body string, header ...string) (*http.Response, error) {
	var r io.Reader
	if body != "" {
		r = strings.NewReader(body)
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://"+h.addr()+path, r)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", "Bearer "+h.token)
	for _, line := range header {
		name, value, _ := strings.Cut(line, ": ")
		if value == "" {
			req.Header.Del(name)
		} else {
			req.Header.Set(name, value)
		}
	}
	return fresh.RoundTrip(req)
}

// fresh makes a connection per request: none outlives its test.
var fresh = &http.Transport{DisableKeepAlives: true}

// http asks and reads the answer.
func (h *house) http(method, path, body string, header ...string) (answer, error) {
	ctx, cancel := context.WithTimeout(h.ctx, patience)
	defer cancel()
	resp, err := h.call(ctx, method, path, body, header...)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	return answer{resp.StatusCode, resp.Header, string(raw)}, err
}

func (h *house) mustHTTP(method, path, body string, header ...string) answer {
	h.t.Helper()
	a, err := h.http(method, path, body, header...)
	if err != nil {
		h.t.Fatal(err)
	}
	return a
}

// chatBody is a request of one message to an agent.
func chatBody(agent, text string, stream bool) string {
	body := object{"model": "openclaw", "messages": []any{object{"role": "user", "content": text}}}
	if agent != "" {
		body["model"] = "openclaw/" + agent
	}
	if stream {
		body["stream"], body["stream_options"] = true, object{"include_usage": true}
	}
	raw, _ := json.Marshal(body)
	return string(raw)
}

// streamed joins the pieces of an event stream: the text, the last usage, the
// error if there is one, and whether [DONE] came.
func streamed(body string) (text string, usage, failure json.RawMessage, done bool) {
	for line := range strings.Lines(body) {
		data, ok := strings.CutPrefix(strings.TrimSuffix(line, "\n"), "data: ")
		if !ok {
			continue
		}
		if data == "[DONE]" {
			done = true
			continue
		}
		var c struct {
			Choices []struct {
				Delta struct {
					Content string `json:"content"`
				} `json:"delta"`
			} `json:"choices"`
			Usage json.RawMessage `json:"usage"`
			Error json.RawMessage `json:"error"`
		}
		if json.Unmarshal([]byte(data), &c) != nil {
			return text, usage, json.RawMessage(data), done
		}
		for _, choice := range c.Choices {
			text += choice.Delta.Content
		}
		if c.Usage != nil {
			usage = c.Usage
		}
		if c.Error != nil {
			failure = c.Error
		}
	}
	return text, usage, failure, done
}

// eventually asks again and again, each time a round trip, until the answer is
// nil.
func eventually(t *testing.T, within time.Duration, ask func() error) {
	t.Helper()
	deadline := time.Now().Add(within)
	for {
		err := ask()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %v", within, err)
		}
	}
}
