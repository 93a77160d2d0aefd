package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"maps"
	mathrand "math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// besides is another profile in the same home, with ports of its own.
func (h *house) besides(name string) *house {
	p := *h
	p.port, p.flags = freePorts(h.t), []string{"--profile", name}
	p.state = filepath.Join(h.dir, ".openclaw-"+name)
	p.config = filepath.Join(p.state, "openclaw.json")
	return &p
}

func (h *house) mustRun(args ...string) result {
	h.t.Helper()
	r := h.run(args...)
	if r.code != 0 {
		h.t.Fatalf("%v: %s", args, r)
	}
	return r
}

// TestBackupUnderLoad backs up while 50 sessions write through a running
// gateway. Each backup is whole, and a gateway on it has every message that was
// acknowledged before the command began; each transcript is a prefix of what the
// running gateway has.
func TestBackupUnderLoad(t *testing.T) {
	t.Parallel()
	h := newHouse(t, nil)
	h.start()
	book := &ledger{acked: map[string]place{}, final: map[string]place{}, keys: map[string]bool{}}
	ctx, stop := context.WithCancel(h.ctx)
	var clients sync.WaitGroup
	defer clients.Wait()
	defer stop()
	first := make(chan struct{}, 50)
	for i := range 50 {
		key := fmt.Sprintf("agent:main:s%d", i)
		book.keys[key] = true
		clients.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				text := book.next(key)
				a, err := h.http("POST", "/v1/chat/completions", chatBody("", text, false), "x-openclaw-session-key: "+key)
				if err != nil || a.status != 200 {
					t.Errorf("%s: %d %s %v", key, a.status, a.body, err)
					return
				}
				book.ack(text, place{key, key})
				if n == 0 {
					first <- struct{}{}
				}
			}
		})
	}
	for range 50 {
		<-first
	}
	for round := range rounds(t, 4) {
		book.mu.Lock()
		promised := &ledger{acked: maps.Clone(book.acked)}
		book.mu.Unlock()
		file := filepath.Join(h.dir, fmt.Sprintf("backup%d.tar.gz", round))
		h.mustRun("backup", "create", "--output", file)
		h.mustRun("backup", "verify", file)
		copied := h.besides(fmt.Sprint("copy", round))
		copied.mustRun("backup", "restore", file)
		transcripts, err := filepath.Glob(filepath.Join(copied.state, "agents/main/sessions/*-*.jsonl"))
		if err != nil || len(transcripts) != 50 {
			t.Errorf("%d transcripts, %v", len(transcripts), err)
		}
		for _, path := range transcripts {
			part, _ := os.ReadFile(path)
			whole, _ := os.ReadFile(filepath.Join(h.state, "agents/main/sessions", filepath.Base(path)))
			if !bytes.HasPrefix(whole, part) || !bytes.HasSuffix(part, []byte("\n")) {
				t.Errorf("%s is no prefix of whole lines: …%q", path, part[max(0, len(part)-80):])
			}
		}
		g := copied.start("--port", fmt.Sprint(copied.port))
		copied.checkHistory(promised, book.keys)
		g.kill()
		t.Logf("round %d: %d messages acknowledged before", round, len(promised.acked))
	}
}

// loaded is a home with a state of some megabytes that do not compress.
func loaded(t *testing.T) *house {
	h := newHouse(t, nil)
	for i := range 200 {
		text := make([]byte, 20<<10)
		rand.Read(text)
		name := filepath.Join(h.state, fmt.Sprintf("workspace/%d/file%d", i%7, i))
		if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return h
}

// allFiles is every file below a directory.
func allFiles(t *testing.T, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	err := filepath.WalkDir(dir, func(p string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		raw, err := os.ReadFile(p)
		rel, _ := filepath.Rel(dir, p)
		out[rel] = string(raw)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// killed runs a command and kills it at a random moment of the time that it
// takes. It reports whether it was too late.
func (h *house) killed(takes time.Duration, args ...string) (done bool) {
	h.t.Helper()
	cmd := h.program(h.ctx, args...)
	if err := cmd.Start(); err != nil {
		h.t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		cmd.Wait()
		close(ended)
	}()
	select {
	case <-time.After(time.Duration(mathrand.Int64N(int64(takes)))):
		cmd.Process.Kill()
	case <-ended:
	}
	<-ended
	return cmd.ProcessState.Success()
}

// TestBackupSurvivesKill kills create and restore at random moments. There is
// then a whole backup, or none, and a whole state directory, or none.
func TestBackupSurvivesKill(t *testing.T) {
	t.Parallel()
	h := loaded(t)
	want := allFiles(t, h.state)
	out := filepath.Join(h.dir, "out")
	if err := os.Mkdir(out, 0o700); err != nil {
		t.Fatal(err)
	}
	good := filepath.Join(h.dir, "good")
	begun := time.Now()
	h.mustRun("backup", "create", "--output", good)
	takes := time.Since(begun) * 5 / 4
	cut, most := 0, rounds(t, 15)
	// More rounds where chance, or a machine that was slower before, has cut none off.
	for round := 0; round < most || cut == 0 && round < 10*most; round++ {
		file := filepath.Join(out, fmt.Sprint(round))
		begun := time.Now()
		done := h.killed(takes, "backup", "create", "--output", file)
		if done {
			takes = min(takes, time.Since(begun)*5/4)
		}
		if _, err := os.Lstat(file); err == nil {
			h.mustRun("backup", "verify", file)
		} else if done {
			t.Error(err)
		} else {
			cut++
		}
	}
	if cut == 0 {
		t.Error("no create was cut off")
	}

	into := h.besides("x")
	begun = time.Now()
	into.mustRun("backup", "restore", good)
	takes = time.Since(begun) * 5 / 4
	cut = 0
	left := func() []string {
		names, _ := filepath.Glob(filepath.Join(h.dir, "..openclaw-x.*.tmp"))
		return names
	}
	some := 0
	for round := 0; round < most || min(cut, some) == 0 && round < 10*most; round++ {
		if err := os.RemoveAll(into.state); err != nil {
			t.Fatal(err)
		}
		begun := time.Now()
		done := into.killed(takes, "backup", "restore", good)
		if done {
			takes = min(takes, time.Since(begun)*5/4)
		}
		if _, err := os.Lstat(into.state); err == nil {
			if !maps.Equal(allFiles(t, into.state), want) {
				t.Fatal("a half restored state")
			}
		} else if done {
			t.Error(err)
		} else {
			cut++
		}
		some += len(left())
	}
	if cut == 0 || some == 0 {
		t.Errorf("%d restores were cut off, %d directories left", cut, some)
	}
	if err := os.RemoveAll(into.state); err != nil {
		t.Fatal(err)
	}
	into.mustRun("backup", "restore", good)
	if !maps.Equal(allFiles(t, into.state), want) || len(left()) > 0 {
		t.Error("the restore after it is not whole", left())
	}
}

// TestBackupNoSpace has create and restore meet the end of the space: neither
// leaves anything behind.
func TestBackupNoSpace(t *testing.T) {
	t.Parallel()
	h := loaded(t)
	if err := os.WriteFile(filepath.Join(h.state, "workspace/large"), make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	good := filepath.Join(h.dir, "good")
	h.mustRun("backup", "create", "--output", good)
	limited := func(args ...string) result {
		cmd := h.program(h.ctx, args...)
		sh := exec.CommandContext(h.ctx, "/bin/sh", append([]string{"-c", `ulimit -f 400 && exec "$0" "$@"`, cmd.Path}, cmd.Args[1:]...)...)
		sh.Dir, sh.Env = cmd.Dir, cmd.Env
		var stdout, stderr bytes.Buffer
		sh.Stdout, sh.Stderr = &stdout, &stderr
		sh.Run()
		return result{stdout.String(), stderr.String(), sh.ProcessState.ExitCode()}
	}
	record, _ := os.ReadFile(filepath.Join(h.state, "backup.json"))
	before := allFiles(t, h.dir)
	for _, args := range [][]string{{"backup", "create"}, {"backup", "create", "--output", filepath.Join(h.dir, "b")}, {"--profile", "x", "backup", "restore", good}} {
		if r := limited(args...); r.code != 1 || !strings.Contains(r.stderr, "no space left to store this") {
			t.Errorf("%v: %s", args, r)
		}
	}
	if !maps.Equal(before, allFiles(t, h.dir)) || !json.Valid(record) {
		t.Error("something is left, or changed")
	}
}
