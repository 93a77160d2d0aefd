package reload

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"
)

const testDebounce = 20 * time.Millisecond

// within polls until ok.
func within(t *testing.T, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(time.Minute); !ok(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatal("not within a minute")
		}
	}
}

// live is a Watcher of real files. looks gets what each Look read.
type live struct {
	*testing.T
	root, path string
	looks      chan string
	stop       func()

	last   time.Time
	pauses int // between two steps, in which the file may have looked quiet
}

// watching runs a Watcher on root/path and waits until it watches.
func watching(t *testing.T, root, path string) *live {
	t.Helper()
	l := &live{T: t, root: root, path: root + "/" + path, looks: make(chan string, 10_000)}
	w := NewWatcher(Options{
		Path:     l.path,
		Debounce: func() time.Duration { return testDebounce },
		Look: func() {
			raw, err := os.ReadFile(l.path)
			if err != nil {
				raw = []byte("no file")
			}
			l.looks <- string(raw)
		},
		Log: slog.New(slog.NewTextHandler(t.Output(), nil)),
	})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	l.stop = func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	}
	within(t, func() bool { return w.Method() != "" })
	if m := w.Method(); m != kernelMethod {
		t.Fatalf("method %q", m)
	}
	l.last = time.Now()
	return l
}

// step is to be called after each system call of an edit.
func (l *live) step(err error) {
	l.Helper()
	must(l.T, err)
	now := time.Now()
	if now.Sub(l.last) > testDebounce/2 {
		l.pauses++
	}
	l.last = now
}

func (l *live) write(name, content string) {
	l.Helper()
	f, err := os.OpenFile(l.root+"/"+name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	l.step(err)
	_, err = f.WriteString(content)
	l.step(err)
	l.step(f.Close())
}

func (l *live) rename(from, to string) {
	l.Helper()
	l.step(os.Rename(l.root+"/"+from, l.root+"/"+to))
}

func (l *live) remove(name string) { l.Helper(); l.step(os.Remove(l.root + "/" + name)) }
func (l *live) mkdir(name string)  { l.Helper(); l.step(os.Mkdir(l.root+"/"+name, 0o700)) }
func (l *live) link(target, name string) {
	l.Helper()
	l.step(os.Symlink(target, l.root+"/"+name))
}

func (l *live) run(name string, args ...string) {
	l.Helper()
	cmd := exec.Command(name, args...)
	cmd.Dir = l.root
	out, err := cmd.CombinedOutput()
	if err != nil {
		l.Fatalf("%s: %v\n%s", name, err, out)
	}
	l.last = time.Now() // which took its time, with one change of ours in it
}

// saw waits until a Look read the content and counts the looks until then.
func (l *live) saw(want string) (looks int) {
	l.Helper()
	deadline := time.After(time.Minute)
	for got := "nothing"; ; looks++ {
		if got == want {
			return looks
		}
		select {
		case got = <-l.looks:
		case <-deadline:
			l.Fatalf("the last of %d looks saw %.60q, want %.60q", looks, got, want)
		}
	}
}

// sawOnce is saw for an edit that must give one Look, unless the machine paused
// in its middle for so long that the file was quiet.
func (l *live) sawOnce(want string) {
	l.Helper()
	looks := l.saw(want)
	for more := time.After(2 * testDebounce); ; {
		select {
		case got := <-l.looks:
			if looks++; got != want {
				l.Errorf("after the last content, a Look saw %.60q", got)
			}
			continue
		case <-more:
		}
		break
	}
	if looks > 1+l.pauses {
		l.Errorf("%d looks at one edit with %d pauses", looks, l.pauses)
	}
	l.pauses, l.last = 0, time.Now()
}

func TestEdits(t *testing.T) {
	big := strings.Repeat("0123456789abcde\n", 10<<20/16)
	for _, tt := range []struct {
		name  string
		tree  []string // "f=old" if none
		path  string   // f if empty
		edit  func(l *live)
		want  string // new if empty
		twice bool   // once more, after it is quiet: the chain has been followed
	}{
		{name: "vim", edit: func(l *live) {
			l.write("4913", "")
			l.remove("4913")
			l.rename("f", "f~")
			l.write("f", "new")
			l.step(os.Chmod(l.path, 0o600))
			l.remove("f~")
		}, twice: true},
		{name: "nano", edit: func(l *live) { l.write("f", "new") }, twice: true},
		{name: "sed as it does", edit: func(l *live) {
			l.write("sedX1z9", "new")
			l.step(os.Chmod(l.root+"/sedX1z9", 0o600))
			l.rename("sedX1z9", "f")
		}, twice: true},
		{name: "sed -i", edit: func(l *live) { l.run("sed", "-i.bak", "s/old/new/", "f") }},
		{name: "mv", tree: []string{"f=old", "g=new"}, edit: func(l *live) { l.run("mv", "g", "f") }},
		{name: "in place in ten pieces", edit: func(l *live) {
			f, err := os.OpenFile(l.path, os.O_WRONLY, 0)
			l.step(err)
			for i := range 10 {
				_, err := f.WriteString(fmt.Sprint("piece ", i, "\n"))
				l.step(err)
				l.step(f.Sync())
			}
			l.step(f.Close())
		}, want: "piece 0\npiece 1\npiece 2\npiece 3\npiece 4\npiece 5\npiece 6\npiece 7\npiece 8\npiece 9\n"},
		{name: "truncate then write", edit: func(l *live) {
			l.step(os.Truncate(l.path, 0))
			l.write("f", "new")
		}, twice: true},
		{name: "one length", edit: func(l *live) {
			f, err := os.OpenFile(l.path, os.O_WRONLY, 0)
			l.step(err)
			_, err = f.WriteString("new")
			l.step(err)
			l.step(f.Close())
		}, twice: true},
		{name: "appended", edit: func(l *live) {
			f, err := os.OpenFile(l.path, os.O_WRONLY|os.O_APPEND, 0)
			l.step(err)
			_, err = f.WriteString("er")
			l.step(err)
			l.step(f.Close())
		}, want: "older"},
		{name: "10 MB", edit: func(l *live) { l.write("f", big) }, want: big},
		{name: "delete then create", edit: func(l *live) { l.remove("f"); l.write("f", "new") }, twice: true},
		{name: "created", tree: []string{"g"}, edit: func(l *live) { l.write("f", "new") }},
		{name: "created with its parents", tree: []string{"g"}, path: "a/b/f", edit: func(l *live) {
			l.mkdir("a")
			l.mkdir("a/b")
			l.write("a/b/f", "new")
		}},
		{name: "another name of the file", tree: []string{"d", "f=old"}, edit: func(l *live) {
			l.step(os.Link(l.path, l.root+"/d/g"))
			l.write("d/g", "new")
		}},
		{name: "link swap", tree: []string{"a=old", "b=new", "f->a"}, edit: func(l *live) {
			l.link("b", "tmp")
			l.rename("tmp", "f")
		}},
		{name: "link removed and made", tree: []string{"a=old", "b=new", "f->a"}, edit: func(l *live) {
			l.remove("f")
			l.link("b", "f")
		}},
		{name: "target of absolute links", tree: []string{"d", "d/g=old", "l->$/d/g", "f->$/l"}, edit: func(l *live) { l.write("d/g", "new") }, twice: true},
		{name: "target replaced", tree: []string{"d", "e", "e/g=old", "f->d/l", "d/l->../e/g"}, edit: func(l *live) {
			l.write("e/tmp", "new")
			l.rename("e/tmp", "e/g")
		}, twice: true},
		{name: "link of the directory", tree: []string{"a", "b", "a/f=old", "b/f=new", "l->a"}, path: "l/f", edit: func(l *live) {
			l.link("b", "tmp")
			l.rename("tmp", "l")
		}},
		{name: "dangling link", tree: []string{"f->d/g"}, edit: func(l *live) { l.mkdir("d"); l.write("d/g", "new") }},
		{name: "loop", tree: []string{"f->g", "g->f"}, edit: func(l *live) { l.remove("g"); l.write("g", "new") }},
		{name: "config map", tree: []string{"..1", "..1/f=old", "..data->..1", "f->..data/f"}, edit: func(l *live) {
			l.mkdir("..2")
			l.write("..2/f", "new")
			l.link("..2", "..data_tmp")
			l.rename("..data_tmp", "..data")
			l.step(os.RemoveAll(l.root + "/..1"))
		}},
		{name: "directory replaced", tree: []string{"d", "d/f=old"}, path: "d/f", edit: func(l *live) {
			l.rename("d", "gone")
			l.mkdir("d")
			l.write("d/f", "new")
		}},
		{name: "directory of the directory replaced", tree: []string{"a/b", "a/b/f=old"}, path: "a/b/f", edit: func(l *live) {
			l.rename("a", "gone")
			l.mkdir("a")
			l.mkdir("a/b")
			l.write("a/b/f", "new")
		}},
		{name: "directory removed", tree: []string{"d", "d/f=old"}, path: "d/f", edit: func(l *live) {
			l.step(os.RemoveAll(l.root + "/d"))
			l.mkdir("d")
			l.write("d/f", "new")
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tt.tree == nil {
				tt.tree = []string{"f=old"}
			}
			if tt.path == "" {
				tt.path = "f"
			}
			if tt.want == "" {
				tt.want = "new"
			}
			l := watching(t, tree(t, tt.tree...), tt.path)
			defer l.stop()
			tt.edit(l)
			l.sawOnce(tt.want)
			if tt.twice {
				tt.edit(l)
				l.sawOnce(tt.want)
			}
		})
	}
}

// Edits that have a middle of their own: each part is looked at.
func TestEditsInParts(t *testing.T) {
	for _, tt := range []struct {
		name  string
		tree  []string
		path  string
		parts []func(l *live) string // returns what Look sees
	}{
		{"chmod 000 and back", []string{"f=old"}, "f", []func(*live) string{
			func(l *live) string {
				l.step(os.Chmod(l.path, 0))
				if os.Getuid() == 0 {
					return "old"
				}
				return "no file"
			},
			func(l *live) string { l.step(os.Chmod(l.path, 0o600)); return "old" },
			func(l *live) string { l.write("f", "new"); return "new" },
		}},
		{"a directory in its place", []string{"f=old"}, "f", []func(*live) string{
			func(l *live) string { l.remove("f"); l.mkdir("f"); return "no file" },
			func(l *live) string { l.remove("f"); l.write("f", "new"); return "new" },
		}},
		{"away and back", []string{"d", "d/f=old"}, "d/f", []func(*live) string{
			func(l *live) string { l.rename("d", "e"); return "no file" },
			func(l *live) string { l.rename("e", "d"); return "old" },
			func(l *live) string { l.write("d/f", "new"); return "new" },
		}},
		{"parents away and back", []string{"a/b", "a/b/f=old"}, "a/b/f", []func(*live) string{
			func(l *live) string { l.step(os.RemoveAll(l.root + "/a")); return "no file" },
			func(l *live) string { l.mkdir("a"); l.mkdir("a/b"); l.write("a/b/f", "1"); return "1" },
			func(l *live) string { l.write("a/b/f", "2"); return "2" },
		}},
		{"three config maps", []string{"..1", "..1/f=old", "..data->..1", "f->..data/f"}, "f", []func(*live) string{
			func(l *live) string { swap(l, "..2"); return "..2" },
			func(l *live) string { swap(l, "..3"); return "..3" },
			func(l *live) string { l.write("..3/f", "new"); return "new" },
		}},
		{"link removed", []string{"g=old", "f->g"}, "f", []func(*live) string{
			func(l *live) string { l.remove("f"); return "no file" },
		}},
		{"link renamed", []string{"g=old", "f->g"}, "f", []func(*live) string{
			func(l *live) string { l.rename("f", "h"); return "no file" },
			func(l *live) string { l.rename("h", "f"); return "old" },
		}},
		{"left open", []string{"f=old"}, "f", []func(*live) string{
			func(l *live) string {
				f, err := os.OpenFile(l.path, os.O_WRONLY|os.O_TRUNC, 0)
				l.step(err)
				l.Cleanup(func() { f.Close() })
				_, err = f.WriteString("new")
				l.step(err)
				return "new"
			},
		}},
		{"link to a file and back", []string{"d", "d/g=target", "f=old"}, "f", []func(*live) string{
			func(l *live) string { l.step(relink("d/g", l.path)); return "target" },
			func(l *live) string { l.write("d/g", "1"); return "1" },
			func(l *live) string { l.write("tmp", "2"); l.rename("tmp", "f"); return "2" },
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l := watching(t, tree(t, tt.tree...), tt.path)
			defer l.stop()
			for _, part := range tt.parts {
				l.sawOnce(part(l))
			}
		})
	}
}

// swap is how a volume of Kubernetes gets its next state.
func swap(l *live, dir string) {
	l.mkdir(dir)
	l.write(dir+"/f", dir)
	l.step(relink(dir, l.root+"/..data"))
}

func TestRapidEdits(t *testing.T) {
	l := watching(t, tree(t, "f=0"), "f")
	defer l.stop()
	for i := range 1000 {
		switch content := fmt.Sprint("edit ", i); i % 4 {
		case 0:
			l.write("f", content)
		case 1:
			l.write("tmp", content)
			l.rename("tmp", "f")
		case 2:
			l.remove("f")
			l.write("f", content)
		case 3:
			l.rename("f", "f~")
			l.write("f", content)
			l.remove("f~")
		}
	}
	l.pauses += 1000 // how often does not matter
	l.sawOnce("edit 999")
}

func TestNeighbours(t *testing.T) {
	l := watching(t, tree(t, "d", "d/f=old", "d/log=", "g=other"), "d/f")
	defer l.stop()
	log, err := os.OpenFile(l.root+"/d/log", os.O_WRONLY|os.O_APPEND, 0)
	must(t, err)
	defer log.Close()
	deadline := time.After(10 * testDebounce)
	tick := time.NewTicker(testDebounce / 4)
	defer tick.Stop()
	for busy := true; busy; {
		_, err := log.WriteString("a line\n")
		must(t, err)
		l.write("d/.f.swp", "x")
		l.rename("d/.f.swp", "d/f.tmp")
		l.remove("d/f.tmp")
		l.write("g", "x")
		must(t, os.Chmod(l.root+"/d", 0o700))
		if _, err := os.ReadFile(l.path); err != nil {
			t.Error(err)
		}
		f, err := os.OpenFile(l.path, os.O_RDWR, 0) // and nothing written
		must(t, err)
		must(t, f.Close())
		select {
		case <-deadline:
			busy = false
		case <-tick.C:
		}
	}
	l.pauses, l.last = 0, time.Now()
	l.write("d/f", "new")
	l.sawOnce("new")
}

// Run leaves nothing behind, whatever it watched.
func TestLeavesNothing(t *testing.T) {
	root := tree(t, "d", "d/f=0", "f->d/f")
	once := func(i int) {
		l := watching(t, root, "f")
		for j := range 20 {
			l.step(os.RemoveAll(l.root + "/d"))
			l.mkdir("d")
			l.write("d/f", fmt.Sprint(i, " ", j))
		}
		l.saw(fmt.Sprint(i, " ", 19))
		l.stop()
	}
	once(0)
	goroutines, files := runtime.NumGoroutine(), descriptors(t)
	for i := range 10 {
		once(i + 1)
	}
	within(t, func() bool { return runtime.NumGoroutine() <= goroutines })
	within(t, func() bool { return descriptors(t) <= files })
}

func descriptors(t *testing.T) int {
	t.Helper()
	open, err := os.ReadDir("/dev/fd")
	must(t, err)
	return len(open)
}

// A path relative to the working directory stays one after chdir.
func TestRelativePath(t *testing.T) {
	root := tree(t, "d", "d/f=old")
	t.Chdir(root)
	l := &live{T: t, root: root, path: filepath.Join(root, "d/f"), looks: make(chan string, 100)}
	w := NewWatcher(Options{
		Path:     "d/../d/f",
		Debounce: func() time.Duration { return testDebounce },
		Look:     func() { raw, _ := os.ReadFile(l.path); l.looks <- string(bytes.Clone(raw)) },
		Log:      slog.New(slog.DiscardHandler),
	})
	t.Chdir("/")
	l.write("d/f", "new") // before Run
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	l.saw("new")
	l.write("d/f", "newer")
	l.saw("newer")
	cancel()
	must(t, <-done)
}
