package sandbox

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// attempt runs one attack, behind the walls if s is not nil, and returns what it says.
func (a *attack) attempt(t *testing.T, w *world, s *Spec) string {
	t.Helper()
	raw, err := json.Marshal(w)
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, self, attackArg, a.id, string(raw))
	cmd.Dir = w.Work
	if s != nil {
		s.Argv, s.Dir = cmd.Args, w.Work
		if !s.Light {
			s.Read, s.Write = []string{self}, []string{w.Work}
		}
		if cmd, err = Command(ctx, *s); err != nil {
			t.Fatal(err)
		}
	}
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err = cmd.Run()
	if text := out.String(); err == nil && (strings.HasPrefix(text, "done\n") || strings.HasPrefix(text, "refused: ")) {
		return text
	}
	return "ended with " + out.String() + errText(err)
}

func errText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// TestEscape has every attack tried by a process behind the walls: none may
// succeed. Then each is tried without, which shows that it is one: what the
// kernel or the user's rights do not refuse by themselves succeeds there.
func TestEscape(t *testing.T) {
	needWalls(t)
	if os.Geteuid() == 0 {
		t.Run("plain user", func(t *testing.T) { asPlainUser(t, "TestEscape|TestLight|TestNetwork") })
	}
	w := newWorld(t)
	var real, could atomic.Int32
	t.Run("walls", func(t *testing.T) {
		for _, a := range attacks {
			t.Run(a.id, func(t *testing.T) {
				t.Parallel()
				if got := a.attempt(t, w.place(t), &Spec{}); !strings.HasPrefix(got, "refused: ") {
					t.Errorf("%s: %s: %s", a.row, a.what, got)
				}
			})
		}
	})
	t.Run("none", func(t *testing.T) {
		for _, a := range attacks {
			t.Run(a.id, func(t *testing.T) {
				t.Parallel()
				if a.root && os.Geteuid() != 0 {
					return
				}
				could.Add(1)
				if got := a.attempt(t, w.place(t), nil); strings.HasPrefix(got, "done\n") {
					real.Add(1)
				} else {
					t.Logf("%s: %s: %s", a.row, a.what, got)
				}
			})
		}
	})
	t.Logf("%d attacks, %d of which this user could do, %d worked without the walls", len(attacks), could.Load(), real.Load())
	if len(attacks) < 60 || real.Load() < could.Load()*8/10 {
		t.Errorf("of %d attacks only %d worked without the walls", could.Load(), real.Load())
	}
}

// needWalls skips where the kernel has not got them; there Command refuses, which TestRefused shows.
func needWalls(t *testing.T) {
	t.Helper()
	if err := Probe().Err(); err != nil {
		t.Skip(err)
	}
}

// asPlainUser runs tests of this binary as nobody.
func asPlainUser(t *testing.T, tests string) {
	t.Helper()
	dir := t.TempDir()
	for d := dir; strings.HasPrefix(d, os.TempDir()+"/"); d = d[:strings.LastIndexByte(d, '/')] {
		os.Chmod(d, 0o777)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(self)
	if err == nil {
		err = os.WriteFile(dir+"/test", raw, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, tool := range []string{"setpriv", "prlimit"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skip(err)
		}
	}
	// The limit is for the day on which a bomb gets out.
	cmd := exec.CommandContext(t.Context(), "prlimit", "--nproc=200", "setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", dir+"/test", "-test.run", "^("+tests+")$", "-test.v")
	cmd.Env, cmd.Dir = []string{"PATH=" + os.Getenv("PATH"), "TMPDIR=" + dir, "HOME=" + dir}, dir
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "\nPASS") {
		t.Errorf("%v\n%s", err, out)
	}
	for line := range strings.Lines(string(out)) {
		if strings.Contains(line, "attacks,") || strings.Contains(line, "--- SKIP") {
			t.Log(strings.TrimSpace(line))
		}
	}
}
