package store

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// numbered is a log of lines that count up, and what one follower saw of it.
type numbered struct {
	t    *testing.T
	next int
	page Tail
}

func (n *numbered) take(page Tail, err error) bool {
	n.t.Helper()
	if err != nil {
		n.t.Error(err)
		return false
	}
	if page.Reset || page.Truncated {
		n.t.Errorf("lines are missing after %d", n.next)
		return false
	}
	n.page = page
	for _, line := range page.Lines {
		if want := fmt.Sprintf("line %d ", n.next); !strings.HasPrefix(line, want) {
			n.t.Errorf("%.20q, want %s", line, want)
			return false
		}
		n.next++
	}
	return true
}

// to follows until n lines were seen.
func (n *numbered) to(ctx context.Context, want int, ask func(id string, cursor int64) (Tail, error)) {
	n.t.Helper()
	for n.next < want && ctx.Err() == nil && n.take(ask(n.page.FileID, n.page.Cursor)) {
	}
	if ctx.Err() != nil {
		n.t.Errorf("saw %d of %d", n.next, want)
	}
}

func reader(t *testing.T, dir string) func(id string, cursor int64) (Tail, error) {
	return func(id string, cursor int64) (Tail, error) { // as another process reads
		d, err := OpenRead(dir)
		if err != nil {
			return Tail{}, err
		}
		defer d.Close()
		l, err := d.OpenLog(0, 0)
		if err != nil {
			return Tail{}, err
		}
		defer l.Close()
		return l.Follow(id, cursor, MaxTailLines, 100_000)
	}
}

// TestFollowRotations writes as fast as it can through fifty rotations, while
// one follower asks the log that is written to and another reads the files.
func TestFollowRotations(t *testing.T) {
	d := mustOpen(t, filepath.Join(t.TempDir(), "state"))
	l := mustLog(t, d, 64<<10, 60)
	const lines = 50*(64<<10/120) + 100
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var wg sync.WaitGroup
	for _, ask := range []func(string, int64) (Tail, error){
		func(id string, cursor int64) (Tail, error) { return l.Follow(id, cursor, 0, 0) },
		reader(t, d.Path()),
	} {
		n := &numbered{t: t}
		n.take(l.Last(1, 1000, all))
		wg.Go(func() { n.to(ctx, lines, ask) })
	}
	for i := range lines {
		if _, err := fmt.Fprintf(l, "line %d %s", i, strings.Repeat(".", 119-len(fmt.Sprintf("line %d ", i)))); err != nil {
			t.Fatal(err)
		}
	}
	wg.Wait()
	if names, _ := filepath.Glob(l.Path() + ".*"); len(names) != 50 {
		t.Errorf("%d rotations", len(names))
	}
	// A newcomer sees the end of them all, and one that is far behind everything.
	if got, err := l.Last(1000, 1<<20, all); err != nil || len(got.Lines) != 1000 || !strings.HasPrefix(got.Lines[999], fmt.Sprintf("line %d ", lines-1)) {
		t.Errorf("%d lines, %v", len(got.Lines), err)
	}
	late := &numbered{t: t, page: Tail{FileID: noLog}}
	late.to(ctx, lines, reader(t, d.Path()))
	if late.page.More {
		t.Error("more than all")
	}
}

func all(string) (bool, bool) { return true, false }

// TestFollowRestarts stops, kills and starts the writer at random places, also
// in mid-line, with rotations in between and polls that come rarely.
func TestFollowRestarts(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	d := mustOpen(t, dir)
	ask := reader(t, dir)
	n := &numbered{t: t}
	n.take(d.mustTail(t))
	if n.page.FileID != noLog {
		t.Errorf("%+v", n.page)
	}
	random := rand.New(rand.NewPCG(1, 2))
	written := 0
	for range 60 {
		l := mustLog(t, d, 1000, 200)
		for range random.IntN(40) {
			fmt.Fprintf(l, "line %d %s", written, strings.Repeat(".", random.IntN(60)))
			written++
			if random.IntN(20) == 0 {
				n.to(t.Context(), written, ask)
			}
		}
		l.Close()
		if random.IntN(2) == 0 { // killed while it wrote
			f, err := os.OpenFile(l.Path(), os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
			if err != nil {
				t.Fatal(err)
			}
			fmt.Fprintf(f, "line %d and th", written)
			f.Close()
		}
		if random.IntN(3) == 0 {
			n.to(t.Context(), written, ask)
		}
		if got, err := ask(n.page.FileID, n.page.Cursor); n.next == written && (err != nil || len(got.Lines) > 0 || got.More || got.Cursor != n.page.Cursor) {
			t.Fatalf("nothing is new, but %+v %v", got, err)
		}
	}
	n.to(t.Context(), written, ask)
	if written < 500 || n.next != written {
		t.Errorf("saw %d of %d", n.next, written)
	}
}

func (d *Dir) mustTail(t *testing.T) (Tail, error) {
	l := mustLog(t, d, 0, 0)
	defer l.Close()
	return l.Tail(-1, 0, 0)
}

// TestFollowCorners are the files as a follower may find them.
func TestFollowCorners(t *testing.T) {
	d := mustOpen(t, filepath.Join(t.TempDir(), "state"))
	l := mustLog(t, d, 0, 9)
	put := func(number int, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(d.Path(), "logs", l.rotated(number)), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	follow := func(from Tail, limit int, maxBytes int64, want string) Tail {
		t.Helper()
		got, err := l.Follow(from.FileID, from.Cursor, limit, maxBytes)
		said := strings.Join(got.Lines, " ")
		for i, on := range []bool{got.More, got.Reset, got.Truncated} {
			if on {
				said += []string{" more", " reset", " truncated"}[i]
			}
		}
		if said = strings.TrimSpace(said); err != nil || said != want {
			t.Errorf("%q, want %q; %v", said, want, err)
		}
		return got
	}
	at := follow(Tail{FileID: noLog}, 0, 0, "")
	put(0, "a") // the first line, torn
	at = follow(at, 0, 0, "")
	put(0, "a1\nb1\nc")
	put(1, "")           // an empty one is none
	put(3, "x1\ny1\nto") // behind a gap, torn for ever
	os.Mkdir(filepath.Join(d.Path(), "logs", l.rotated(4)), 0o700)
	old := follow(at, 1, 0, "x1 more")
	at = follow(old, 0, 5, "y1 more")
	at = follow(at, 0, 0, "a1 b1")
	put(0, "a1\nb1\nc1\n")
	if again := follow(at, 0, 3, "c1"); again.FileID != at.FileID || again.Cursor != 9 || again.Size != 9 {
		t.Errorf("%+v", again)
	}
	put(2, "a1\nb1\nc1\nd1\n") // a copy that is longer: the newest that is long enough counts
	follow(Tail{FileID: at.FileID, Cursor: 9}, 0, 0, "")
	follow(Tail{FileID: at.FileID, Cursor: 12}, 0, 0, "a1 b1 c1")
	follow(Tail{FileID: at.FileID, Cursor: 13}, 0, 0, "x1 y1 a1 b1 c1 d1 a1 b1 c1 reset truncated")
	put(0, "")
	last, err := l.Tail(-1, 0, 0)
	if err != nil || strings.Join(last.Lines, " ") != "x1 y1 a1 b1 c1 d1" || last.FileID != at.FileID || last.Cursor != 12 {
		t.Errorf("%+v %v", last, err)
	}
	put(0, "e1\n")
	follow(last, 0, 0, "e1")
	// A line that nobody can read whole is left out, and said so.
	put(0, "e1\n"+strings.Repeat("long", maxLogLine)+"\nf1\n")
	follow(last, 0, 0, "e1 f1 truncated")
	os.RemoveAll(filepath.Join(d.Path(), "logs", l.rotated(3)))
	follow(old, 0, 1, "a1 more reset truncated")
}

// TestLastFindsFarBack looks for few lines among many, in several files.
func TestLastFindsFarBack(t *testing.T) {
	d := mustOpen(t, filepath.Join(t.TempDir(), "state"))
	l := mustLog(t, d, 64<<10, 100)
	for i := range 20_000 { // 1.7 MB
		kind := "INFO"
		if i%4000 == 3999 {
			kind = "ERROR"
		}
		fmt.Fprintf(l, "line %d %s %s", i, kind, strings.Repeat(".", 70))
	}
	asked := 0
	errors := func(line string) (bool, bool) {
		asked++
		return strings.Contains(line, "ERROR"), strings.HasPrefix(line, "line 4000 ")
	}
	for _, test := range []struct {
		n, found  int
		maxBytes  int64
		truncated bool
	}{{2, 2, 64 << 20, false}, {100, 4, 64 << 20, false}, {100, 3, 1_000_000, true}} {
		got, err := l.Last(test.n, test.maxBytes, errors)
		if err != nil || len(got.Lines) != test.found || got.Truncated != test.truncated || !strings.HasPrefix(got.Lines[len(got.Lines)-1], "line 19999 ") {
			t.Errorf("%+v: %+v %v", test, got, err)
		}
	}
	if asked > 4001+16000+12000 {
		t.Errorf("looked at %d lines", asked)
	}
}
