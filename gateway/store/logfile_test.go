package store

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
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

// logBytes is what all files of a log have together.
func logBytes(t *testing.T, l *LogFile) (total, largest int64) {
	t.Helper()
	names, _ := filepath.Glob(l.Path() + "*")
	for _, name := range names {
		if fi, err := os.Lstat(name); err == nil && fi.Mode().IsRegular() {
			if fi.Mode().Perm() != 0o600 {
				t.Errorf("%s: %v", name, fi.Mode())
			}
			total, largest = total+fi.Size(), max(largest, fi.Size())
		}
	}
	return total, largest
}

// TestLogStaysInBounds writes lines of all lengths while limits change, the log
// is reopened and files are there from before.
func TestLogStaysInBounds(t *testing.T) {
	for seed := range uint64(5) {
		random := rand.New(rand.NewPCG(seed, 7))
		d := mustOpen(t, filepath.Join(t.TempDir(), "state"))
		size, files := int64(100+random.IntN(900)), 1+random.IntN(6)
		l := mustLog(t, d, size, files)
		foreign := []string{l.Path() + ".bak", l.Path() + ".01", l.Path() + ".1.gz", l.Path() + ".20260102", l.Path() + ".-1"}
		for _, name := range append(foreign, l.Path(), l.Path()+".2", l.Path()+".40") {
			if err := os.WriteFile(name, []byte(strings.Repeat("before\n", 500)), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		for range 200 {
			switch random.IntN(30) {
			case 0:
				l.Close()
				l = mustLog(t, d, size, files)
			case 1:
				size, files = int64(100+random.IntN(900)), 1+random.IntN(6)
				l.Limit(size, files)
			case 2:
				l.Reopen()
			case 3:
				os.Remove(l.rotatedPath(1 + random.IntN(files)))
			}
			if _, err := l.Write([]byte(strings.Repeat("x", random.IntN(2*int(size))))); err != nil {
				t.Fatal(err)
			}
			total, _ := logBytes(t, l)
			if total -= int64(len(foreign) * 3500); total > size*int64(files+1) {
				t.Fatalf("seed %d: %d bytes with %d x (%d + 1)", seed, total, size, files)
			}
		}
		for _, name := range foreign {
			if data, _ := os.ReadFile(name); len(data) != 3500 {
				t.Errorf("%s has %d bytes", name, len(data))
			}
		}
	}
}

func (l *LogFile) rotatedPath(i int) string {
	return filepath.Join(filepath.Dir(l.Path()), l.rotated(i))
}

// TestLogRotationRefused wants a file that does not grow, lines that are
// counted, few tries, no archive lost by them, and all well afterwards.
func TestLogRotationRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := mustOpen(t, filepath.Join(t.TempDir(), "state"))
		l := mustLog(t, d, 100, 5)
		for i := range 40 {
			fmt.Fprintf(l, "archived %02d", i)
		}
		kept := func() string {
			all := ""
			for i := range 7 {
				data, _ := os.ReadFile(l.rotatedPath(i))
				all = string(data) + all
			}
			return all
		}
		os.Rename(l.rotatedPath(1), l.rotatedPath(0)+".aside")
		os.Mkdir(l.rotatedPath(1), 0o700)
		var before string
		for i := range 3 * 1000 {
			if i%1000 == 0 {
				time.Sleep(rotateRetry)
				before = kept()
			}
			l.Write([]byte("a line that is longer than what is left"))
			if _, largest := logBytes(t, l); largest > 100 {
				t.Fatalf("grew to %d", largest)
			}
		}
		if dropped := l.Dropped(); dropped < 2990 || kept() != before {
			t.Errorf("dropped %d; kept %s, want %s", dropped, kept(), before)
		}
		os.Remove(l.rotatedPath(1))
		dropped := l.Dropped()
		if _, err := l.Write([]byte("refused again, within the same second")); err == nil || l.Dropped() != dropped+1 {
			t.Error("tried too often")
		}
		time.Sleep(rotateRetry)
		if _, err := l.Write([]byte("a line that is longer than what is left")); err != nil {
			t.Error(err)
		}
		if got := kept(); !strings.HasPrefix(got, before) {
			t.Errorf("lost of %q: %q", before, got)
		}
	})
}

func TestLogLimits(t *testing.T) {
	d := mustOpen(t, filepath.Join(t.TempDir(), "state"))
	l := mustLog(t, d, 1000, 9)
	for range 1000 {
		l.Write([]byte("123456789"))
	}
	count := func() int {
		names, _ := filepath.Glob(l.Path() + "*")
		return len(names)
	}
	l.Limit(1000, 4)
	if n := count(); n != 5 {
		t.Errorf("%d files", n)
	}
	l.Limit(300, 4) // one archive of 1000 bytes fits
	if total, _ := logBytes(t, l); total > 1500 || count() != 2 {
		t.Errorf("%d bytes in %d files", total, count())
	}
	l.Limit(0, 1)
	for range 1000 {
		l.Write([]byte("123456789"))
	}
	if total, largest := logBytes(t, l); largest < 10_000 || count() != 2 {
		t.Errorf("%d bytes in %d files", total, count())
	}
}

func TestCheckLogFile(t *testing.T) {
	dir := t.TempDir()
	os.Mkdir(filepath.Join(dir, "directory"), 0o700)
	os.WriteFile(filepath.Join(dir, "file"), []byte("x"), 0o600)
	os.Symlink("file", filepath.Join(dir, "link"))
	os.Mkdir(filepath.Join(dir, "closed"), 0o500)
	for name, ok := range map[string]bool{"file": true, "new": true, "directory": false, "link": false, "missing/new": false, "file/new": false, "closed/new": os.Geteuid() == 0} {
		if err := CheckLogFile(filepath.Join(dir, name)); (err == nil) != ok {
			t.Errorf("%s: %v", name, err)
		}
	}
	if data, _ := os.ReadFile(filepath.Join(dir, "file")); string(data) != "x" {
		t.Errorf("%q", data)
	}
	if _, err := os.Lstat(filepath.Join(dir, "new")); err == nil {
		t.Error("made")
	}
}
