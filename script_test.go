package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// scriptMain tells a child of this test binary to be the program.
const scriptMain = "OPENCLAW_SCRIPT_MAIN"

func TestMain(m *testing.M) {
	if os.Getenv(scriptMain) != "" {
		os.Unsetenv(scriptMain)
		if os.Getenv("LISTEN_PID") == "self" { // as a supervisor sets it, between fork and exec
			os.Setenv("LISTEN_PID", strconv.Itoa(os.Getpid()))
		}
		os.Exit(run(os.Args))
	}
	os.Exit(m.Run())
}

// TestScript runs testdata/script/*.txt: archives in which a list of commands
// comes first and the files that it finds in its directory follow, each after
// a line "-- name --". Each script has its own home and a block of free ports;
// $WORK, $HOME and $PORT stand for them in commands and files, $OTHER for
// another free port and $SILENT for one of a server that never answers.
//
// Any command may begin with "!" (must fail) and with a condition such as
// [linux], [root] or [!root]. A program that runs without a terminal must
// write no escape character, and with --json one JSON document; both are
// always checked.
func TestScript(t *testing.T) {
	files, err := filepath.Glob("testdata/script/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	for _, f := range files {
		t.Run(strings.TrimSuffix(filepath.Base(f), ".txt"), func(t *testing.T) {
			t.Parallel()
			newScript(t, f).run()
		})
	}
}

// script is one running script. Its commands are in the table of verbs.
type script struct {
	t    *testing.T
	ctx  context.Context
	work string
	list []string
	env  map[string]string // of the programs
	vars map[string]string // $NAME in commands

	stdin          string
	stdout, stderr string // of the last program
	code           int
	daemons        []*daemon // the last one is meant by ready, signal, wait and http
}

// A verb is a command of scripts. neg says that it stood behind "!".
type verb func(s *script, neg bool, args []string) error

func verbs() map[string]verb {
	return map[string]verb{
		"openclaw": (*script).openclaw, // run the program: openclaw health --json
		"exit":     (*script).exit,     // the last program's exit code: exit 2
		"stdout":   (*script).match,    // match its output: stdout 'regular expression'
		"stderr":   (*script).match,
		"cmp":      (*script).cmp,    // compare files, or stdout: cmp stdout want
		"stdin":    (*script).feed,   // input of the next program: stdin file
		"set":      (*script).set,    // keep the last program's stdout as $NAME: set TOKEN
		"env":      (*script).setenv, // for later programs: env NAME=value, or env NAME to unset
		"daemon":   (*script).daemon, // start a gateway: daemon --verbose
		"ready":    (*script).ready,  // wait until it serves
		"await":    (*script).await,  // until its log matches: await 'regular expression'
		"signal":   (*script).signal, // send it a signal: signal TERM
		"wait":     (*script).wait,   // until it is gone, with this code: wait 0
		"http":     (*script).http,   // ask it: http POST /v1/chat/completions body.json 'Authorization: Bearer x'
		"exists":   (*script).exists,
		"mode":     (*script).mode,  // a file's permissions: mode 600 file
		"chmod":    (*script).chmod, // chmod 755 directory
	}
}

func newScript(t *testing.T, file string) *script {
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	t.Cleanup(cancel)
	s := &script{t: t, ctx: ctx, work: t.TempDir()}
	home := filepath.Join(s.work, "home")
	s.vars = map[string]string{"WORK": s.work, "HOME": home}
	base := freePorts(t)
	s.vars["PORT"], s.vars["OTHER"], s.vars["SILENT"] = strconv.Itoa(base), strconv.Itoa(base+60), strconv.Itoa(base+119)
	s.env = map[string]string{"HOME": home, "PATH": os.Getenv("PATH"), "TMPDIR": s.work, scriptMain: "1",
		"GORACE": "atexit_sleep_ms=0 " + os.Getenv("GORACE")} // else each program of a race-enabled build takes a second to end
	if dir := os.Getenv("GOCOVERDIR"); dir != "" {
		s.env["GOCOVERDIR"] = dir
	}
	if err := os.Mkdir(home, 0o700); err != nil {
		t.Fatal(err)
	}
	var name string
	text := map[string]*strings.Builder{"": {}}
	for line := range strings.Lines(string(raw)) {
		if n, ok := strings.CutPrefix(strings.TrimSpace(line), "-- "); ok && strings.HasSuffix(n, " --") {
			name = strings.TrimSuffix(n, " --")
			text[name] = &strings.Builder{}
			continue
		}
		text[name].WriteString(line)
	}
	for name, b := range text {
		if name == "" {
			s.list = strings.Split(b.String(), "\n")
			continue
		}
		path := filepath.Join(s.work, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(s.expand(b.String())), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

// freePorts returns the base of a block of ports that no other script has. All
// are below the range from which the system takes ports for clients. A
// listener that the block has no use for reserves it against the scripts of
// other test processes; it accepts no connection and so passes for a server
// that never answers.
func freePorts(t *testing.T) int {
	for range 200 {
		base := 10000 + 120*rand.IntN(180)
		guard, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", base+119))
		if err != nil {
			continue
		}
		if l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", base)); err == nil {
			l.Close()
			t.Cleanup(func() { guard.Close() })
			return base
		}
		guard.Close()
	}
	t.Fatal("no free ports")
	return 0
}

func (s *script) run() {
	defer s.cleanup()
	table := verbs()
	for i, line := range s.list {
		words, err := split(line)
		if err == nil && len(words) > 0 {
			err = s.do(table, words)
		}
		if err != nil {
			s.t.Errorf("line %d: %s\n%v\nexit %d\nstdout:\n%s\nstderr:\n%s", i+1, line, err, s.code, s.stdout, s.stderr)
			return
		}
	}
}

func (s *script) do(table map[string]verb, words []string) error {
	for strings.HasPrefix(words[0], "[") {
		want, name := true, strings.Trim(words[0], "[]")
		if n, ok := strings.CutPrefix(name, "!"); ok {
			want, name = false, n
		}
		if (name == runtime.GOOS || name == "root" && os.Geteuid() == 0) != want {
			return nil
		}
		words = words[1:]
	}
	neg := words[0] == "!"
	if neg {
		words = words[1:]
	}
	v := table[words[0]]
	if v == nil {
		return fmt.Errorf("unknown command %q", words[0])
	}
	for i := range words {
		words[i] = s.expand(words[i])
	}
	if words[0] == "stdout" || words[0] == "stderr" {
		return v(s, neg, words)
	}
	return v(s, neg, words[1:])
}

// split cuts a line into words; '…' keeps spaces, and # begins a comment.
func split(line string) ([]string, error) {
	var words []string
	var word strings.Builder
	in, quoted := false, false
	for _, r := range line {
		switch {
		case r == '\'':
			quoted, in = !quoted, true
		case !quoted && (r == ' ' || r == '\t'):
			if in {
				words = append(words, word.String())
			}
			word.Reset()
			in = false
		case !quoted && !in && r == '#':
			return words, nil
		default:
			word.WriteRune(r)
			in = true
		}
	}
	if quoted {
		return nil, fmt.Errorf("a quote is open")
	}
	if in {
		words = append(words, word.String())
	}
	return words, nil
}

func (s *script) expand(text string) string {
	for name, value := range s.vars {
		text = strings.ReplaceAll(text, "$"+name, value)
	}
	return text
}

func (s *script) path(name string) string {
	if filepath.IsAbs(name) {
		return name
	}
	return filepath.Join(s.work, name)
}

func (s *script) program(args []string) *exec.Cmd {
	exe, err := os.Executable()
	if err != nil {
		s.t.Fatal(err)
	}
	cmd := exec.CommandContext(s.ctx, exe)
	cmd.Args = append([]string{"openclaw"}, args...)
	cmd.Dir = s.work
	for name, value := range s.env {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	return cmd
}

func (s *script) openclaw(neg bool, args []string) error {
	var stdout, stderr bytes.Buffer
	cmd := s.program(args)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(s.stdin), &stdout, &stderr
	s.stdin = ""
	err := cmd.Run()
	s.stdout, s.stderr, s.code = stdout.String(), stderr.String(), cmd.ProcessState.ExitCode()
	switch {
	case s.ctx.Err() != nil:
		return s.ctx.Err()
	case neg && err == nil:
		return fmt.Errorf("succeeded")
	case !neg && err != nil:
		return err
	case strings.Contains(s.stdout+s.stderr, "\x1b"):
		return fmt.Errorf("escape characters without a terminal")
	case strings.Contains(s.stderr, "goroutine "):
		return fmt.Errorf("a stack trace")
	case slices.Contains(args, "--json") && !slices.Contains(args, "logs"):
		return oneDocument(s.stdout)
	}
	return nil
}

func oneDocument(text string) error {
	dec := json.NewDecoder(strings.NewReader(text))
	var v any
	if err := dec.Decode(&v); err != nil {
		return fmt.Errorf("stdout is not JSON: %w", err)
	}
	if err := dec.Decode(&v); err != io.EOF {
		return fmt.Errorf("stdout holds more than one JSON document")
	}
	return nil
}

func (s *script) exit(_ bool, args []string) error {
	if want := args[0]; strconv.Itoa(s.code) != want {
		return fmt.Errorf("exit code %d, want %s", s.code, want)
	}
	return nil
}

func (s *script) match(neg bool, args []string) error {
	re, err := regexp.Compile("(?m)" + args[1])
	if err != nil {
		return err
	}
	text := s.stdout
	if args[0] == "stderr" {
		text = s.stderr
	}
	if re.MatchString(text) == neg {
		return fmt.Errorf("%s matches: %v", args[0], neg)
	}
	return nil
}

func (s *script) cmp(neg bool, args []string) error {
	var text [2]string
	for i, name := range args {
		switch name {
		case "stdout":
			text[i] = s.stdout
		case "stderr":
			text[i] = s.stderr
		default:
			raw, err := os.ReadFile(s.path(name))
			if err != nil {
				return err
			}
			text[i] = string(raw)
		}
	}
	if (text[0] == text[1]) == neg {
		return fmt.Errorf("%s and %s: equal is %v\n%s", args[0], args[1], neg, lineDiff(text[1], text[0]))
	}
	return nil
}

func (s *script) feed(_ bool, args []string) error {
	raw, err := os.ReadFile(s.path(args[0]))
	s.stdin = string(raw)
	return err
}

func (s *script) set(_ bool, args []string) error {
	s.vars[args[0]] = strings.TrimSpace(s.stdout)
	return nil
}

func (s *script) setenv(_ bool, args []string) error {
	for _, a := range args {
		if name, value, ok := strings.Cut(a, "="); ok {
			s.env[name] = value
		} else {
			delete(s.env, name)
		}
	}
	return nil
}

// daemon is a gateway in the background.
type daemon struct {
	cmd    *exec.Cmd
	up     chan string   // its address, each time it begins to serve
	addr   string        // the last one taken from up
	gone   chan struct{} // closed when it has ended
	mu     sync.Mutex
	more   *sync.Cond // stderr grew
	stderr strings.Builder
	stdout bytes.Buffer // read when gone
}

func (s *script) daemon(_ bool, args []string) error {
	d := &daemon{up: make(chan string, 16), gone: make(chan struct{})}
	d.more = sync.NewCond(&d.mu)
	d.cmd = s.program(append([]string{"gateway"}, args...))
	d.cmd.Stdout = &d.stdout
	out, err := d.cmd.StderrPipe()
	if err != nil {
		return err
	}
	if err := d.cmd.Start(); err != nil {
		return err
	}
	s.daemons = append(s.daemons, d)
	go d.watch(out)
	return nil
}

// watch collects the log until the daemon is gone.
func (d *daemon) watch(out io.Reader) {
	defer close(d.gone)
	listening := regexp.MustCompile(`listening on wss?://(127[0-9.:]+)`)
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		d.mu.Lock()
		d.stderr.WriteString(lines.Text() + "\n")
		d.more.Broadcast()
		d.mu.Unlock()
		if m := listening.FindStringSubmatch(lines.Text()); m != nil {
			d.up <- m[1]
		}
	}
	d.cmd.Wait()
}

func (d *daemon) log() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.stderr.String()
}

func (s *script) last() (*daemon, error) {
	if len(s.daemons) == 0 {
		return nil, fmt.Errorf("no daemon")
	}
	return s.daemons[len(s.daemons)-1], nil
}

func (s *script) ready(_ bool, _ []string) error {
	d, err := s.last()
	if err != nil {
		return err
	}
	select {
	case d.addr = <-d.up:
		return nil // the record that the CLI finds it by is there too
	case <-d.gone:
		return fmt.Errorf("it ended with %d:\n%s", d.cmd.ProcessState.ExitCode(), d.log())
	case <-s.ctx.Done():
		return fmt.Errorf("not ready in time:\n%s", d.log())
	}
}

func (s *script) await(_ bool, args []string) error {
	d, err := s.last()
	if err != nil {
		return err
	}
	re, err := regexp.Compile("(?m)" + args[0])
	if err != nil {
		return err
	}
	defer context.AfterFunc(s.ctx, func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.more.Broadcast()
	})()
	d.mu.Lock()
	defer d.mu.Unlock()
	for !re.MatchString(d.stderr.String()) {
		if s.ctx.Err() != nil {
			return fmt.Errorf("the log never matches:\n%s", d.stderr.String())
		}
		d.more.Wait()
	}
	return nil
}

func (s *script) signal(_ bool, args []string) error {
	d, err := s.last()
	if err != nil {
		return err
	}
	sig := map[string]os.Signal{"TERM": syscall.SIGTERM, "INT": syscall.SIGINT, "HUP": syscall.SIGHUP, "USR1": syscall.SIGUSR1, "KILL": syscall.SIGKILL}[args[0]]
	if sig == nil {
		return fmt.Errorf("unknown signal %s", args[0])
	}
	return d.cmd.Process.Signal(sig)
}

// wait takes the last daemon's end; its output is then what stdout and stderr match.
func (s *script) wait(_ bool, args []string) error {
	d, err := s.last()
	if err != nil {
		return err
	}
	select {
	case <-d.gone:
	case <-s.ctx.Done():
		return s.ctx.Err()
	}
	s.daemons = s.daemons[:len(s.daemons)-1]
	s.stdout, s.stderr, s.code = d.stdout.String(), d.log(), d.cmd.ProcessState.ExitCode()
	if len(args) > 0 {
		return s.exit(false, args)
	}
	return nil
}

func (s *script) cleanup() {
	for _, d := range s.daemons {
		d.cmd.Process.Kill()
		<-d.gone
		if s.t.Failed() {
			s.t.Logf("daemon:\n%s", d.log())
		}
	}
}

// http asks the last daemon; stdout is then the status and the body.
func (s *script) http(_ bool, args []string) error {
	d, err := s.last()
	if err != nil {
		return err
	}
	var body io.Reader
	if len(args) > 2 && args[2] != "-" {
		raw, err := os.ReadFile(s.path(args[2]))
		if err != nil {
			return err
		}
		body = bytes.NewReader(raw)
	}
	req, err := http.NewRequestWithContext(s.ctx, args[0], "http://"+d.addr+args[1], body)
	if err != nil {
		return err
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	for _, h := range args[min(3, len(args)):] {
		name, value, _ := strings.Cut(h, ": ")
		req.Header.Set(name, value)
	}
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	s.stdout, s.stderr = resp.Status+"\n"+string(raw), ""
	return err
}

func (s *script) exists(neg bool, args []string) error {
	for _, name := range args {
		if _, err := os.Lstat(s.path(name)); (err == nil) == neg {
			return fmt.Errorf("%s: %v", name, err)
		}
	}
	return nil
}

func (s *script) mode(_ bool, args []string) error {
	fi, err := os.Stat(s.path(args[1]))
	if err == nil && fmt.Sprintf("%o", fi.Mode().Perm()) != args[0] {
		err = fmt.Errorf("%s has mode %o", args[1], fi.Mode().Perm())
	}
	return err
}

func (s *script) chmod(_ bool, args []string) error {
	m, err := strconv.ParseUint(args[0], 8, 32)
	if err != nil {
		return err
	}
	return os.Chmod(s.path(args[1]), fs.FileMode(m))
}
