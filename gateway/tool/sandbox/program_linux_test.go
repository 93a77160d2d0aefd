package sandbox

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// prompt bounds what is to end within two seconds, for a machine that is slow and
// has more to do; what ends by itself takes a hundred.
const prompt = 20 * time.Second

// sandboxed runs a shell script in a workspace, behind the walls.
func sandboxed(t *testing.T, ctx context.Context, script string, change func(*Spec)) (out string, err error) {
	t.Helper()
	work := t.TempDir()
	s := Spec{Argv: []string{"/bin/sh", "-c", script}, Dir: work, Write: []string{work}, Env: []string{"PATH=" + os.Getenv("PATH"), "HOME=" + work, "TMPDIR=" + work, "LANG=C"}}
	if change != nil {
		change(&s)
	}
	cmd, err := Command(ctx, s)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	cmd.Stdout, cmd.Stderr = &b, &b
	err = cmd.Run()
	return b.String(), err
}

// TestPrograms does real work behind the walls.
func TestPrograms(t *testing.T) {
	needWalls(t)
	goroot := strings.TrimSpace(output("go", "env", "GOROOT"))
	for _, tc := range []struct{ name, needs, script, want string }{
		{"sh", "sh", `echo a | tr a b; for i in 1 2; do (echo $i) & done; wait; test -w . && umask 022 && echo x > f && cp f g && mv g h && rm f h && echo ok`, "ok"},
		{"process substitution", "bash", `bash -c 'cat <(echo within)'`, "within"},
		{"chmod", "chmod", `umask 022; echo 'echo ran' > s && chmod +x s && ./s && stat -c %a s && touch -d 2001-01-01 s && stat -c %y s && cp -p s q && ln -s s l && chmod 600 l && stat -c %a s q`, "755\n2001-01-01 00:00:00.000000000 +0000\n600\n755\n"},
		{"git", "git", `git init -q . && git config user.name a && git config user.email a@b && echo x > f && git add f && git commit -qm first && git log --oneline && git status --short && git gc -q && git fsck`, "first"},
		{"tar", "tar", `mkdir d && echo x > d/f && chmod 640 d/f && tar cf t.tar d && rm -r d && tar xf t.tar && stat -c %a d/f`, "640"},
		{"gcc", "gcc", `echo 'int main(){return 7;}' > a.c && gcc -O1 -o a a.c && ./a; echo $?`, "7"},
		{"perl", "perl", `perl -e 'use File::Temp; my $f = File::Temp->new; print $f "x"; my $p = fork; if (!$p) { exit 3 } wait; print $? >> 8, "\n"'`, "3"},
		{"node", "node", `node -e 'const c=require("child_process");require("fs").writeFileSync("x","y");console.log(c.execSync("cat x").toString(), 6*7)'`, "42"},
		{"python", "python3", `python3 -c 'import subprocess,tempfile;print(subprocess.run(["echo","py"],capture_output=True).stdout.decode(), tempfile.mkdtemp())'`, "py"},
		{"go", "go", `export GOROOT=` + goroot + ` GOCACHE=$PWD/c GOPATH=$PWD/p GOPROXY=off GOTOOLCHAIN=local CGO_ENABLED=0; mkdir m && cd m && printf 'module m\n' > go.mod; printf 'package m\n\nfunc F() int { return 7 }\n' > m.go; go build . && go vet . && go list && gofmt -l . && echo built`, "built"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			path, err := exec.LookPath(tc.needs)
			if err != nil {
				t.Skip(err)
			}
			if real, err := filepath.EvalSymlinks(path); err == nil && strings.Contains(real, "pyenv") {
				path = "/usr/bin/python3"
				if _, err := os.Stat(path); err != nil {
					t.Skip("only a wrapper")
				}
			}
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
			defer cancel()
			out, err := sandboxed(t, ctx, tc.script, func(s *Spec) {
				s.Env[0] = "PATH=/usr/local/bin:/usr/bin:/bin:" + goroot + "/bin"
				if goroot != "" {
					s.Read = []string{goroot}
				}
			})
			if err != nil || !strings.Contains(out, tc.want) {
				t.Errorf("%v: %s", err, out)
			}
		})
	}
}

func output(name string, args ...string) string {
	out, _ := exec.Command(name, args...).Output()
	return string(out)
}

// TestEnds: exit codes, signals, streams and refusals are told as they are.
func TestEnds(t *testing.T) {
	needWalls(t)
	for _, tc := range []struct{ script, want string }{
		{"exit 0", ""}, {"exit 3", "exit status 3"}, {"kill -9 $$", "signal: killed"}, {"kill -15 $$", "signal: terminated"},
	} {
		if _, err := sandboxed(t, t.Context(), tc.script, nil); errText(err) != tc.want {
			t.Errorf("%s: %v", tc.script, err)
		}
	}
	for what, change := range map[string]func(*Spec){
		"/no/such":  func(s *Spec) { s.Argv = []string{"/no/such"} },
		"/no/dir":   func(s *Spec) { s.Dir = "/no/dir" },
		"/no/write": func(s *Spec) { s.Write = []string{"/no/write"} },
		"/no/read":  func(s *Spec) { s.Read = []string{"/no/read"} },
		"/proc/self/cwd": func(s *Spec) { // a symbolic link
			s.Write = []string{"/proc/self/cwd"}
		},
	} {
		out, err := sandboxed(t, t.Context(), "echo ran", change)
		var exit *exec.ExitError
		if !errors.As(err, &exit) || exit.ExitCode() != ExitRefused || !strings.Contains(out, what) || strings.Contains(out, "ran") {
			t.Errorf("%s: %v: %s", what, err, out)
		}
	}
	cmd := command1(t, t.Context(), Spec{Argv: []string{"/bin/cat"}, Dir: "/"})
	cmd.Stdin = strings.NewReader(strings.Repeat("x", 1<<20))
	if out, err := cmd.Output(); err != nil || len(out) != 1<<20 {
		t.Errorf("%d bytes, %v", len(out), err)
	}
	if out, err := sandboxed(t, t.Context(), "ulimit -n; ulimit -t; ulimit -f", func(s *Spec) {
		s.Limits = Limits{CPU: 1500 * time.Millisecond, FileSize: 1 << 20, Descriptors: 77}
	}); err != nil || out != "77\n2\n2048\n" {
		t.Errorf("limits: %v: %s", err, out)
	}
}

// TestNetwork: with ports listed, TCP to them works and nothing else does.
func TestNetwork(t *testing.T) {
	needWalls(t)
	w := newWorld(t)
	spec := func(port int) *Spec { return &Spec{Network: []uint16{uint16(port)}} }
	for _, a := range attacks {
		switch {
		case a.id == "tcp":
			if got := a.attempt(t, w.place(t), spec(w.TCP)); got != "done\n" {
				t.Errorf("a listed port: %s", got)
			}
			fallthrough
		case strings.HasPrefix(a.row, "E12"), a.row == "E11":
			if got := a.attempt(t, w.place(t), spec(w.TCP2)); !strings.HasPrefix(got, "refused: ") {
				t.Errorf("another port: %s: %s", a.what, got)
			}
		}
	}
}

// TestLight: without the sandbox the state directory stays closed, the gateway
// cannot be read, traced or ended, and nothing is inherited; the rest is open.
func TestLight(t *testing.T) {
	needWalls(t)
	w := newWorld(t)
	closed := map[string]bool{"environment": true, "descriptor": true, "core": true, "io-uring": true}
	for _, a := range attacks {
		outside := a.row[0] == 'F' && a.id != "list-root" && a.id != "list-etc" && a.id != "shadow" && a.id != "socket-node" && a.id != "device" && a.id != "list" && a.id != "inotify" && a.id != "chmod-fd"
		// Root may count events of any process, and so read of it what that takes.
		victim := !(os.Geteuid() == 0 && (a.id == "environ" || a.id == "maps")) && (a.row == "E10" || a.row == "E14" || a.row == "E19") && a.id != "shm" && a.id != "cmdline" && a.id != "kcmp"
		if a.root && os.Geteuid() != 0 || !outside && !victim && !closed[a.id] {
			continue
		}
		p := w.place(t)
		if got := a.attempt(t, p, &Spec{Light: true, Hidden: []string{p.Out}}); !strings.HasPrefix(got, "refused: ") {
			t.Errorf("%s: %s: %s", a.row, a.what, got)
		}
	}
	state := t.TempDir()
	work := state + "/workspace"
	if err := errors.Join(os.Mkdir(work, 0o700), os.WriteFile(state+"/token", []byte(canary), 0o600)); err != nil {
		t.Fatal(err)
	}
	out, err := sandboxed(t, t.Context(), "cat "+state+"/token; ls / /etc >/dev/null && cat /etc/hostname /proc/self/comm >/dev/null && echo x > "+work+"/f && chmod 700 "+work+"/f && echo fine", func(s *Spec) {
		s.Light, s.Hidden, s.Write = true, []string{state}, []string{work}
	})
	if err != nil || !strings.HasSuffix(out, "fine\n") || strings.Contains(out, canary) {
		t.Errorf("%v: %s", err, out)
	}
}

// TestTree: whatever a program starts and however it hides, all of it is gone
// within two seconds of the end of the context, or at once when the program
// ends by itself.
func TestTree(t *testing.T) {
	needWalls(t)
	if os.Geteuid() == 0 {
		t.Run("plain user", func(t *testing.T) { asPlainUser(t, "TestTree|TestProcesses") })
	}
	daemon := `perl -MPOSIX -e 'if (!fork) { POSIX::setsid(); if (!fork) { $SIG{TERM}=$SIG{HUP}=$SIG{INT}="IGNORE"; open F, ">>pids"; print F "$$\n"; close F; sleep 100 } exit } wait; sleep 1 until -s "pids"'`
	for _, tc := range []struct {
		name, script string
		bomb, self   bool // self: it ends by itself
	}{
		{"ignores SIGTERM", `trap '' TERM; echo $$ >> pids; while :; do sleep 1; done`, false, false},
		{"children ignore SIGTERM", `for i in 1 2 3; do sh -c 'trap "" TERM; echo $$ >> pids; sleep 100' & done; wait`, false, false},
		{"double-forked daemon", daemon + `; sleep 100`, false, false},
		{"daemon left behind", daemon, false, true},
		{"background left behind", `sleep 100 & echo $! >> pids`, false, true},
		{"stopped", `sh -c 'echo $$ >> pids; kill -STOP $$' & wait`, false, false},
		{"endless output", `echo $$ >> pids; yes`, false, false},
		{"fork bomb", `echo $$ >> pids; b() { b | b & }; b; while :; do :; done`, true, false}, // as a plain user only, whom the kernel bounds too
		{"300 processes", `echo $$ >> pids; i=0; while [ $i -lt 300 ]; do (trap '' TERM; exec sleep 100)& i=$((i+1)); done; wait`, false, false},
		{"10 GB file", `echo $$ >> pids; dd if=/dev/zero of=big bs=1M count=10240 2>/dev/null; ls -s big; sleep 100`, false, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if tc.bomb && os.Geteuid() == 0 {
				return
			}
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			var work string
			type result struct {
				out string
				err error
			}
			done := make(chan result, 1)
			dir := make(chan string, 1)
			go func() {
				out, err := sandboxed(t, ctx, tc.script, func(s *Spec) {
					s.Limits = Limits{FileSize: 8 << 20, Processes: 100, CPU: time.Minute}
					dir <- s.Dir
				})
				done <- result{out, err}
			}()
			work = <-dir
			var pids []string
			for deadline := time.Now().Add(30 * time.Second); len(pids) == 0; time.Sleep(5 * time.Millisecond) {
				raw, _ := os.ReadFile(work + "/pids")
				if pids = strings.Fields(string(raw)); time.Now().After(deadline) {
					t.Fatal("it did not begin")
				}
			}
			if tc.bomb {
				time.Sleep(200 * time.Millisecond) // let it grow
			}
			begin := time.Now()
			if !tc.self {
				cancel()
			}
			r := <-done
			took := time.Since(begin)
			if took > prompt && !tc.self {
				t.Errorf("it took %v", took)
			}
			if tc.self && r.err != nil {
				t.Errorf("%v: %s", r.err, r.out)
			}
			raw, _ := os.ReadFile(work + "/pids")
			for _, p := range strings.Fields(string(raw)) {
				if pid, _ := strconv.Atoi(p); unix.Kill(pid, 0) != unix.ESRCH {
					t.Errorf("process %d is still there", pid)
				}
			}
			if left := inDirectory(work); len(left) > 0 {
				t.Errorf("still there: %v", left)
			}
			if fi, err := os.Stat(work + "/big"); err == nil && fi.Size() > 8<<20 {
				t.Errorf("the file has %d bytes", fi.Size())
			}
		})
	}
}

// TestProcesses: a tree has no more processes and threads than it may, whoever
// runs it; there is room again when some have ended, and the limit is its own.
func TestProcesses(t *testing.T) {
	needWalls(t)
	for _, light := range []bool{false, true} {
		limited := func(most uint64) func(*Spec) {
			return func(s *Spec) { s.Light, s.Limits.Processes = light, most }
		}
		many := `i=0; while [ $i -lt 60 ]; do sleep 100 & i=$((i+1)); done; echo all`
		if out, err := sandboxed(t, t.Context(), many, limited(32)); err == nil || strings.Contains(out, "all") || !strings.Contains(strings.ToLower(out), "fork") {
			t.Errorf("light %v: 60 processes of 32: %v: %s", light, err, out)
		}
		if out, err := sandboxed(t, t.Context(), many, limited(70)); err != nil || out != "all\n" {
			t.Errorf("light %v: 60 processes of 70: %v: %s", light, err, out)
		}
		if out, err := sandboxed(t, t.Context(), `i=0; while [ $i -lt 60 ]; do /bin/true; i=$((i+1)); done; echo all`, limited(8)); err != nil || out != "all\n" {
			t.Errorf("light %v: 60 one after the other of 8: %v: %s", light, err, out)
		}
		if _, err := exec.LookPath("perl"); err != nil {
			continue
		}
		// With nothing but fork, as fast as it goes, each counting how often it could.
		out, err := sandboxed(t, t.Context(), `perl -e '$n = 0; for (1..150) { $p = fork; last unless defined $p; if (!$p) { sleep 100; exit } $n++ } print "$n\n"'`, limited(32))
		if n, _ := strconv.Atoi(strings.TrimSpace(out)); err != nil || n < 20 || n > 31 {
			t.Errorf("light %v: %d forks of 32 succeeded: %v: %s", light, n, err, out)
		}
		// 256 that all want to be at once, of 64: no more than that are, but for those let in during a count.
		ctx, cancel := context.WithCancel(t.Context())
		var work string
		cmd := command1(t, ctx, func() Spec {
			work = t.TempDir()
			return Spec{Argv: []string{"/usr/bin/env", "perl", "-e", `fork for 1..8; sleep 100`}, Dir: work, Env: []string{"PATH=/usr/bin:/bin"}, Light: light, Limits: Limits{Processes: 64}}
		}())
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		// Half a second after there are many, or as many as there will be.
		most := 0
		for end := time.Now().Add(prompt); time.Now().Before(end); {
			if before := most; before < 50 {
				if most = max(most, len(inDirectory(work))); most >= 50 {
					end = time.Now().Add(500 * time.Millisecond)
				}
				continue
			}
			most = max(most, len(inDirectory(work)))
		}
		cancel()
		cmd.Wait()
		if left := inDirectory(work); most < 50 || most > 128 || len(left) > 0 {
			t.Errorf("light %v: up to %d processes of 64, %d left", light, most, len(left))
		}
		t.Logf("up to %d processes of 64", most)
	}
}

// inDirectory lists the processes whose working directory is dir.
func inDirectory(dir string) (out []string) {
	all, _ := filepath.Glob("/proc/[0-9]*/cwd")
	for _, p := range all {
		if cwd, err := os.Readlink(p); err == nil && strings.HasPrefix(cwd, dir) {
			out = append(out, p)
		}
	}
	return out
}

// TestCallerDies: with the gateway killed, its tools' processes end too.
func TestCallerDies(t *testing.T) {
	needWalls(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	work := t.TempDir()
	cmd := exec.Command(self, "caller", work)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var pid int
	for deadline := time.Now().Add(30 * time.Second); pid == 0 && time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		raw, _ := os.ReadFile(work + "/pid")
		pid, _ = strconv.Atoi(strings.TrimSpace(string(raw)))
	}
	cmd.Process.Signal(syscall.SIGKILL)
	cmd.Wait()
	for deadline := time.Now().Add(prompt); ; time.Sleep(5 * time.Millisecond) {
		if len(inDirectory(work)) == 0 && pid != 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("process %d outlived its caller: %v", pid, inDirectory(work))
		}
	}
}

// TestKeeperDies: with the keeper itself killed its program ends, and whatever
// that had started cannot start anything more.
func TestKeeperDies(t *testing.T) {
	needWalls(t)
	if _, err := exec.LookPath("perl"); err != nil {
		t.Skip(err)
	}
	work := t.TempDir()
	// A child that tries to fork twenty times a second, 200 times at the most.
	cmd := command1(t, t.Context(), Spec{Argv: []string{"/bin/sh", "-c", `perl -e '$| = 1; print "$$\n"; for (1..200) { $p = fork; if (!defined $p) { print "none $!\n" } elsif (!$p) { exit } else { waitpid $p, 0; print "one\n" } select undef, undef, undef, .05 }' > log & wait`},
		Dir: work, Write: []string{work}, Env: []string{"PATH=/usr/bin:/bin"}, Limits: Limits{Processes: 64}})
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	log := func() []string {
		raw, _ := os.ReadFile(work + "/log")
		return strings.Split(string(raw), "\n")
	}
	until := func(what string, ok func([]string) bool) {
		t.Helper()
		for deadline := time.Now().Add(prompt); !ok(log()); time.Sleep(5 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("%s: %q", what, log())
			}
		}
	}
	until("it forks", func(l []string) bool { return len(l) > 3 && l[1] == "one" })
	cmd.Process.Kill()
	cmd.Wait()
	until("it forks still", func(l []string) bool { return len(l) > 2 && strings.HasPrefix(l[len(l)-2], "none ") })
	tries := len(log())
	until("it goes on", func(l []string) bool { return len(l) > tries+5 })
	for _, l := range log()[tries : tries+5] {
		if l == "one" {
			t.Error("it has forked again")
		}
	}
	if pid, err := strconv.Atoi(log()[0]); err == nil && pid > 1 {
		unix.Kill(pid, unix.SIGKILL)
	}
	for deadline := time.Now().Add(prompt); len(inDirectory(work)) > 0; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("still there: %v", inDirectory(work))
		}
	}
}

func init() {
	roles["caller"] = func(args []string) int {
		cmd, err := Command(context.Background(), Spec{Argv: []string{"/bin/sh", "-c", `(trap "" TERM; sleep 100) & echo $! > new; mv new pid; wait`}, Dir: args[0], Write: args[:1], Env: []string{"PATH=/usr/bin:/bin"}})
		if err == nil {
			err = cmd.Run()
		}
		fmt.Println(err)
		return 1
	}
}

// TestManyAtOnce: commands in parallel, some cancelled before and while they
// start; no descriptor stays.
func TestManyAtOnce(t *testing.T) {
	needWalls(t)
	before := descriptors(t)
	done := make(chan error, 32)
	for i := range cap(done) {
		go func() {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			cmd, err := Command(ctx, Spec{Argv: []string{"/bin/echo", strconv.Itoa(i)}, Dir: "/"})
			if err != nil {
				done <- err
				return
			}
			if i%4 == 1 {
				cancel()
			} else if i%4 == 2 {
				time.AfterFunc(time.Duration(i)*time.Millisecond/4, cancel)
			}
			out, err := cmd.Output()
			if i%2 == 0 && i%4 != 2 && (err != nil || string(out) != strconv.Itoa(i)+"\n") {
				done <- fmt.Errorf("%d: %q, %v", i, out, err)
				return
			}
			done <- nil
		}()
	}
	for range cap(done) {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	for deadline := time.Now().Add(10 * time.Second); descriptors(t) > before+cap(done)/2; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d descriptors, %d before", descriptors(t), before)
		}
	}
}

func descriptors(t *testing.T) int {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(list)
}
