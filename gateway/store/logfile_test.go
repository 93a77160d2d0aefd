package store

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

func mustLog(t *testing.T, d *Dir, size int64, files int) *LogFile {
	t.Helper()
	l, err := d.OpenLog(size, files)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func TestLogRotates(t *testing.T) {
	d := mustOpen(t, filepath.Join(t.TempDir(), "state"))
	l := mustLog(t, d, 40, 3)
	for i := range 40 { // 10 bytes each
		if n, err := fmt.Fprintf(l, "line %04d", i); n != 9 || err != nil {
			t.Fatal(n, err)
		}
	}
	for i, want := range []string{"36 37 38 39", "32 33 34 35", "28 29 30 31", "24 25 26 27"} {
		path := l.Path()
		if i > 0 {
			path = fmt.Sprint(path, ".", i)
		}
		data, err := os.ReadFile(path)
		got := strings.TrimSpace(strings.NewReplacer("line 00", "", "\n", " ").Replace(string(data)))
		if got != want || err != nil {
			t.Errorf("%d: %s, want %s; %v", i, got, want, err)
		}
	}
	l.Limit(40, 1)
	names, _ := filepath.Glob(l.Path() + "*")
	if len(names) != 2 {
		t.Error(names)
	}
	// A line larger than the limit is still a line.
	if _, err := l.Write([]byte(strings.Repeat("x", 100))); err != nil {
		t.Error(err)
	}
	// What a link in a rotated file's place leads to is not ours to write.
	victim := filepath.Join(t.TempDir(), "victim")
	os.WriteFile(victim, []byte("v"), 0o600)
	os.Remove(l.Path() + ".1")
	os.Symlink(victim, l.Path()+".1")
	for range 10 {
		if _, err := l.Write([]byte("0123456789")); err != nil {
			t.Error(err)
		}
	}
	if data, _ := os.ReadFile(victim); string(data) != "v" {
		t.Errorf("%q", data)
	}
}

func TestLogMovedAway(t *testing.T) {
	d := mustOpen(t, filepath.Join(t.TempDir(), "state"))
	l := mustLog(t, d, 0, 1)
	write := func(text string) {
		t.Helper()
		if _, err := l.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	write("A")
	os.Remove(l.Path())
	write("B")
	os.Rename(l.Path(), l.Path()+".moved")
	l.Reopen()
	write("C")
	moved, _ := os.ReadFile(l.Path() + ".moved")
	data, _ := os.ReadFile(l.Path())
	if string(moved) != "B\n" || string(data) != "C\n" {
		t.Errorf("%q %q", moved, data)
	}
	l.Close()
	os.WriteFile(l.Path(), []byte("whole\ntor"), 0o600) // as a crash leaves it
	l = mustLog(t, d, 0, 1)
	write("D")
	if data, _ := os.ReadFile(l.Path()); string(data) != "whole\nD\n" {
		t.Errorf("%q", data)
	}
	l.Close()
	if _, err := l.Write([]byte("late")); err == nil || l.Dropped() != 1 {
		t.Error(err, l.Dropped())
	}
}

func TestLogTail(t *testing.T) {
	const text = "one\ntwo\nthree\nfour\n" // offsets 0, 4, 8, 14, 19
	tests := []struct {
		cursor    int64
		limit     int
		maxBytes  int64
		lines     string
		next      int64
		truncated bool
		reset     bool
	}{
		{-1, 0, 0, "one two three four", 19, false, false},
		{-1, 2, 0, "three four", 19, false, false},
		{-1, 0, 11, "three four", 19, true, false}, // a line starts exactly there
		{-1, 0, 10, "four", 19, true, false},       // within a line
		{-1, 0, 3, "", 19, true, false},
		{0, 0, 0, "one two three four", 19, false, false},
		{8, 0, 0, "three four", 19, false, false},
		{9, 0, 0, "four", 19, false, false},
		{19, 0, 0, "", 19, false, false},
		{4, 0, 11, "three four", 19, true, true}, // the gap is too large
		{20, 0, 0, "one two three four", 19, false, true},
		{20, 0, 11, "three four", 19, true, true},
	}
	d := mustOpen(t, filepath.Join(t.TempDir(), "state"))
	l := mustLog(t, d, 0, 1)
	if got, err := l.Tail(-1, 0, 0); err != nil || got.Size != 0 || got.Cursor != 0 || got.Lines == nil || got.File != l.Path() {
		t.Error("a missing log is empty:", got, err)
	}
	l.Write([]byte(strings.TrimSuffix(text, "\n")))
	for _, test := range tests {
		got, err := l.Tail(test.cursor, test.limit, test.maxBytes)
		if err != nil || strings.Join(got.Lines, " ") != test.lines || got.Cursor != test.next || got.Size != 19 ||
			got.Truncated != test.truncated || got.Reset != test.reset {
			t.Errorf("cursor %d, limit %d, bytes %d: %+v %v", test.cursor, test.limit, test.maxBytes, got, err)
		}
	}
	// A line that is being written is left for the next call.
	f, _ := os.OpenFile(l.Path(), os.O_WRONLY|os.O_APPEND, 0)
	f.WriteString("fi")
	if got, _ := l.Tail(19, 0, 0); got.Cursor != 19 || len(got.Lines) != 0 || got.Size != 21 {
		t.Errorf("%+v", got)
	}
	f.WriteString("ve\n")
	f.Close()
	if got, _ := l.Tail(19, 0, 0); got.Cursor != 24 || strings.Join(got.Lines, " ") != "five" {
		t.Errorf("%+v", got)
	}
	// Read beside the gateway, and when there is no log yet.
	r, err := OpenRead(d.Path())
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	reader := mustLog(t, &Dir{path: r.path, top: r.top}, 0, 0)
	if got, err := reader.Tail(-1, 1, 0); err != nil || strings.Join(got.Lines, " ") != "five" {
		t.Errorf("%+v %v", got, err)
	}
	if _, err := reader.Write([]byte("x")); err == nil {
		t.Error("wrote")
	}
	empty := filepath.Join(t.TempDir(), "empty")
	os.Mkdir(empty, 0o700)
	r2, err := OpenRead(empty)
	if err != nil {
		t.Fatal(err)
	}
	defer r2.Close()
	if got, err := mustLog(t, r2, 0, 0).Tail(-1, 0, 0); err != nil || len(got.Lines) != 0 {
		t.Errorf("%+v %v", got, err)
	}
	if entries, _ := os.ReadDir(empty); len(entries) != 0 {
		t.Error("reading made", entries)
	}
}

// Who follows sees every line once, in order, over any number of rotations.
func TestFollowSurvivesRotation(t *testing.T) {
	d := mustOpen(t, filepath.Join(t.TempDir(), "state"))
	l := mustLog(t, d, 1000, 5)
	cursor, seen := int64(0), 0
	for i := range 500 {
		fmt.Fprintf(l, "line %d %s", i, strings.Repeat(".", i%50))
		if i%7 != 0 {
			continue
		}
		got, err := l.Tail(cursor, 0, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, line := range got.Lines {
			if want := fmt.Sprintf("line %d ", seen); !strings.HasPrefix(line, want) {
				t.Fatalf("%q, want %s", line, want)
			}
			seen++
		}
		if cursor = got.Cursor; seen != i+1 {
			t.Fatalf("saw %d of %d", seen, i+1)
		}
	}
}

func TestLogFromManyGoroutines(t *testing.T) {
	path := filepath.Join(t.TempDir(), "elsewhere.log")
	l, err := OpenLogFile(path, 5000, 100)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err == nil {
		t.Error("made before the first line")
	}
	defer l.Close()
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			for i := range 100 {
				fmt.Fprintf(l, "<%d %d>", w, i)
				l.Tail(-1, 0, 0)
			}
		})
	}
	wg.Wait()
	names, _ := filepath.Glob(path + "*")
	next := [8]int{}
	all := ""
	for i := len(names) - 1; i >= 0; i-- {
		name := path
		if i > 0 {
			name = fmt.Sprint(path, ".", i)
		}
		data, err := os.ReadFile(name)
		if err != nil || len(data) > 5000 {
			t.Error(name, len(data), err)
		}
		all += string(data)
	}
	for line := range strings.Lines(all) {
		var w, i int
		if _, err := fmt.Sscanf(line, "<%d %d>\n", &w, &i); err != nil || i != next[w] {
			t.Fatalf("%q: %v", line, err)
		}
		next[w]++
	}
	if next != [8]int{100, 100, 100, 100, 100, 100, 100, 100} {
		t.Error(next)
	}
}
