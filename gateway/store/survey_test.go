package store

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestLook finds what is not as it was left, and changes none of it.
func TestLook(t *testing.T) {
	if s, err := Look(t.Context(), filepath.Join(t.TempDir(), "none"), false); err != nil || len(s.Loose)+len(s.Foreign)+len(s.Torn) > 0 {
		t.Errorf("a missing directory: %+v, %v", s, err)
	}
	state := t.TempDir()
	os.Chmod(state, 0o750)
	at := func(name string) string { return filepath.Join(state, name) }
	put := func(name, text string, mode os.FileMode) {
		t.Helper()
		if err := errors.Join(makeDirs(filepath.Dir(at(name))), os.WriteFile(at(name), []byte(text), mode), os.Chmod(at(name), mode)); err != nil {
			t.Fatal(err)
		}
	}
	const record = `{"type":"message","id":"a"}`
	put("gateway.lock", "", 0o644)
	put("logs/gateway.log", "", 0o600)
	put("openclaw.json", "", 0o644)           // the configuration has rules of its own
	put("workspace/x", "", 0o644)             // its user's
	put("agents/main/workspace/x", "", 0o644) // as well
	put("agents/main/sessions/whole.jsonl", record+"\n", 0o600)
	put("agents/main/sessions/bare.jsonl", record, 0o600)
	put("agents/main/sessions/torn.jsonl", record+"\n"+record[:9], 0o600)
	put("agents/main/sessions/huge.jsonl", strings.Repeat("x", maxTornSearch+1), 0o600)
	put("agents/main/sessions/index.jsonl", "{", 0o600)
	put("agents/main/sessions/empty.jsonl", "", 0o400)
	err := errors.Join(os.Symlink("/etc/passwd", at("logs/gateway.log.1")), syscall.Mkfifo(at("agents/main/sessions/fifo.jsonl"), 0o600),
		os.Link(at("logs/gateway.log"), at("logs/gateway.log.2")))
	late := time.Now().Add(time.Hour).Truncate(time.Second)
	if err = errors.Join(err, os.Chtimes(at("agents/main/sessions/bare.jsonl"), late, late)); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		s, err := Look(t.Context(), state, false)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range []struct {
			got  []string
			want string
		}{
			{s.Loose, ". agents/main/sessions/empty.jsonl gateway.lock"},
			{s.Foreign, "agents/main/sessions/fifo.jsonl logs/gateway.log logs/gateway.log.1 logs/gateway.log.2"},
			{s.Torn, "agents/main/sessions/torn.jsonl"},
		} {
			var want []string
			for _, name := range strings.Fields(c.want) {
				want = append(want, at(name))
			}
			if !slices.Equal(c.got, want) {
				t.Errorf("%q, want %q", c.got, want)
			}
		}
		if !s.Newest.Equal(late) || s.Partial {
			t.Errorf("newest %v, want %v; partial %v", s.Newest, late, s.Partial)
		}
	}
	if err := errors.Join(Tighten(state), Tighten(at("gateway.lock"))); err != nil {
		t.Fatal(err)
	}
	if s, _ := Look(t.Context(), state, false); len(s.Loose) != 1 {
		t.Errorf("still loose: %q", s.Loose)
	}
	if Tighten(at("agents/main/sessions/fifo.jsonl")) == nil {
		t.Error("tightened a FIFO")
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if s, err := Look(ended, state, false); err != nil || !s.Partial {
		t.Errorf("without time: %+v, %v", s, err)
	}
}

// TestReadersMendNothing: who only reads leaves modes as they are.
func TestReadersMendNothing(t *testing.T) {
	state := filepath.Join(t.TempDir(), "state")
	d := mustOpen(t, state)
	l, err := d.OpenLog(0, 0)
	if err == nil {
		_, err = l.Write([]byte("x"))
	}
	if err = errors.Join(err, l.Close(), d.WriteFile("a/b", nil), d.Close()); err != nil {
		t.Fatal(err)
	}
	want := map[string]os.FileMode{"logs": 0o755, "logs/gateway.log": 0o644, "gateway.lock": 0o640, "a": 0o750, "a/b": 0o604}
	for name, mode := range want {
		os.Chmod(filepath.Join(state, name), mode)
	}
	if _, _, err := ReadInstance(state); err != nil {
		t.Error(err)
	}
	r, err := OpenRead(state)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	_, err = r.ReadFile("a/b", 1)
	log := filepath.Join(state, "logs/gateway.log")
	for _, open := range []func() (*LogFile, error){func() (*LogFile, error) { return r.OpenLog(0, 0) }, func() (*LogFile, error) { return ReadLogFile(log) }} {
		l, e := open()
		if e != nil {
			t.Fatal(e)
		}
		if tail, e := l.Tail(-1, 0, 0); e != nil || len(tail.Lines) != 1 {
			t.Errorf("%v %v", tail, e)
		}
		if _, e := l.Write([]byte("y")); e == nil {
			t.Error("a reader wrote")
		}
		err = errors.Join(err, l.Close())
	}
	if err = errors.Join(err, CheckLogFile(log)); err != nil {
		t.Error(err)
	}
	for name, mode := range want {
		if fi, err := os.Stat(filepath.Join(state, name)); err != nil || fi.Mode().Perm() != mode {
			t.Errorf("%s: %v %v", name, fi.Mode(), err)
		}
	}
}

// TestExcess is what the limits leave no room for.
func TestExcess(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	for _, n := range []string{"", ".1", ".2", ".3", ".1001", ".x"} {
		os.WriteFile(path+n, make([]byte, 10), 0o600)
	}
	l, err := ReadLogFile(path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for _, c := range []struct {
		size  int64
		files int
		want  string
	}{{10, 3, ""}, {10, 2, "log.3"}, {9, 3, "log.3"}, {5, 2, "log.2 log.3"}, {0, 1, ""}} {
		if got := strings.Join(l.Excess(c.size, c.files), " "); got != c.want {
			t.Errorf("%d x %d: %q, want %q", c.size, c.files, got, c.want)
		}
	}
	if err := PruneLogFile(path, 10, 1); err != nil {
		t.Fatal(err)
	}
	if left := l.Excess(1, 1); len(left) != 1 || left[0] != "log.1" {
		t.Errorf("left %q", left)
	}
}
