package reload

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// fakeKernel says what a test makes it say.
type fakeKernel struct {
	notes   chan []note
	trouble chan error
	closed  chan struct{}
	slow    atomic.Int64 // how long wait takes to see it
	ended   atomic.Bool  // it has

	mu      sync.Mutex
	handles map[string]int
	refuse  func(path string) error
	dropped []int
}

func newFakeKernel() *fakeKernel {
	return &fakeKernel{notes: make(chan []note), trouble: make(chan error), closed: make(chan struct{}), handles: map[string]int{}}
}

func (k *fakeKernel) add(path string, _ bool) (int, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.refuse != nil {
		if err := k.refuse(path); err != nil {
			return 0, err
		}
	}
	if _, ok := k.handles[path]; !ok {
		k.handles[path] = len(k.handles) + 100
	}
	return k.handles[path], nil
}

func (k *fakeKernel) refusing(f func(path string) error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.refuse = f
}

func (k *fakeKernel) drop(handle int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.dropped = append(k.dropped, handle)
}

func (k *fakeKernel) wait() ([]note, error) {
	select {
	case n := <-k.notes:
		return n, nil
	case err := <-k.trouble:
		return nil, err
	case <-k.closed:
		time.Sleep(time.Duration(k.slow.Load()))
		k.ended.Store(true)
		return nil, os.ErrClosed
	}
}

func (k *fakeKernel) close() { close(k.closed) }

func (k *fakeKernel) say(path, name string, e event) {
	k.mu.Lock()
	handle, ok := k.handles[path]
	k.mu.Unlock()
	if !ok {
		panic(path + " is not watched")
	}
	k.notes <- []note{{handle, name, e}}
}

// bench is a Watcher on a fake kernel in fake time. The file is root/f.
type bench struct {
	*testing.T
	*Watcher
	root     string
	debounce atomic.Int64
	start    time.Time
	stop     func()

	mu      sync.Mutex // of what Run's goroutine has to do with
	kernel  *fakeKernel
	openErr error
	looks   []string // when, and what
	during  func()   // Look takes this long
	log     bytes.Buffer
}

func (b *bench) set(f func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	f()
}

func (b *bench) Write(line []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.log.Write(line)
}

// inBubble runs a test once the Watcher is up and idle.
func inBubble(t *testing.T, prepare, test func(b *bench)) {
	t.Helper()
	root := tree(t, "f=0")
	synctest.Test(t, func(t *testing.T) {
		b := &bench{T: t, root: root, kernel: newFakeKernel(), start: time.Now()}
		b.quietFor(300 * ms)
		b.Watcher = NewWatcher(Options{
			Path:     root + "/f",
			Debounce: func() time.Duration { return time.Duration(b.debounce.Load()) },
			Look:     b.look,
			Log:      slog.New(slog.NewTextHandler(io.MultiWriter(b, t.Output()), nil)),
		})
		b.open = func() (kernel, error) {
			b.mu.Lock()
			defer b.mu.Unlock()
			return b.kernel, b.openErr
		}
		if m := b.Method(); m != "" {
			t.Errorf("method %q before Run", m)
		}
		if prepare != nil {
			prepare(b)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- b.Watcher.Run(ctx) }()
		b.stop = sync.OnceFunc(func() {
			cancel()
			if err := <-done; err != nil {
				t.Errorf("Run: %v", err)
			}
			if m := b.Method(); m != "" {
				t.Errorf("method %q after Run", m)
			}
		})
		defer b.stop() // a goroutine left behind fails the bubble
		synctest.Wait()
		test(b)
	})
}

func (b *bench) quietFor(d time.Duration) { b.debounce.Store(int64(d)) }

func (b *bench) look() {
	raw, err := os.ReadFile(b.path)
	if err != nil {
		raw = []byte("no file")
	}
	b.mu.Lock()
	b.looks = append(b.looks, fmt.Sprintf("%v %s", time.Since(b.start), raw))
	during := b.during
	b.mu.Unlock()
	if during != nil {
		during()
	}
}

func (b *bench) write(content string) {
	b.Helper()
	must(b.T, os.WriteFile(b.path, []byte(content), 0o600))
}

// edit writes and lets the kernel say so.
func (b *bench) edit(content string) {
	b.Helper()
	b.write(content)
	b.kernel.say(b.root, "f", written)
}

func (b *bench) at(d time.Duration) {
	time.Sleep(time.Until(b.start.Add(d)))
	synctest.Wait()
}

func (b *bench) want(looks ...string) {
	b.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	if got, want := strings.Join(b.looks, ", "), strings.Join(looks, ", "); got != want {
		b.Errorf("looks: %s; want %s", got, want)
	}
	b.looks = nil
}

func (b *bench) wantLog(lines ...string) {
	b.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	got := strings.Split(strings.TrimSuffix(b.log.String(), "\n"), "\n")
	if b.log.Len() == 0 {
		got = nil
	}
	if len(got) != len(lines) {
		b.Errorf("log: %d lines, want %d:\n%s", len(got), len(lines), b.log.String())
	}
	for i := range min(len(got), len(lines)) {
		if !strings.Contains(got[i], lines[i]) {
			b.Errorf("log line %q does not say %q", got[i], lines[i])
		}
	}
	b.log.Reset()
}

const ms = time.Millisecond

func TestQuiet(t *testing.T) {
	inBubble(t, nil, func(b *bench) {
		b.edit("1")
		b.at(200 * ms)
		b.edit("2")
		b.at(400 * ms)
		b.kernel.say(b.root, "f", touched) // closed, after a while
		b.at(699 * ms)
		b.want()
		b.at(time.Minute)
		b.want("700ms 2")

		// The time is read anew for each event.
		b.quietFor(time.Second)
		b.edit("3")
		synctest.Wait()
		b.quietFor(50 * ms)
		b.at(2 * time.Minute)
		b.want("1m1s 3")
		b.edit("4")
		b.at(3 * time.Minute)
		b.want("2m0.05s 4")

		// A shorter time than the kernel's clock can tell apart is not used.
		b.quietFor(-1)
		b.edit("5")
		b.at(4 * time.Minute)
		b.want("3m0.01s 5")
	})
}

func TestPatience(t *testing.T) {
	for _, tt := range []struct {
		debounce, want time.Duration
	}{
		{20 * ms, leastPatience},
		{time.Second, 10 * time.Second},
	} {
		inBubble(t, func(b *bench) { b.quietFor(tt.debounce) }, func(b *bench) {
			for now := time.Duration(0); now <= tt.want+tt.debounce/2; now += tt.debounce / 2 {
				b.at(now)
				b.edit(now.String())
			}
			synctest.Wait()
			b.set(func() {
				if len(b.looks) != 1 || !strings.HasPrefix(b.looks[0], tt.want.String()+" ") {
					b.Errorf("%v: looks %v, want one at %v", tt.debounce, b.looks, tt.want)
				}
				b.looks = nil
			})
			// The last edit is not forgotten.
			b.at(time.Minute)
			b.want(fmt.Sprintf("%v %v", tt.want+tt.debounce/2+tt.debounce, tt.want+tt.debounce/2))
		})
	}
}

func TestNoChangeNoLook(t *testing.T) {
	inBubble(t, nil, func(b *bench) {
		b.kernel.say(b.root, "f", touched)
		b.kernel.say(b.path, "", touched)
		b.kernel.say(b.root, "", written) // as kqueue says it: something in the directory
		b.kernel.say(b.root, "openclaw.log", written)
		b.kernel.say(b.root, "4913", written)
		b.kernel.notes <- []note{{99, "", written}} // of what is no longer watched
		b.at(time.Hour)
		b.want()
		b.kernel.say(b.path, "", written) // the clock was too coarse
		b.at(time.Hour + time.Second)
		b.want("1h0m0.3s 0")
		b.kernel.notes <- []note{{b.kernel.handles[b.path], "", written}, {b.kernel.handles[b.root], "f", touched}}
		b.at(time.Hour + 2*time.Second)
		b.want("1h0m1.3s 0")

		// A busy neighbour keeps nothing from being quiet.
		b.edit("1")
		for i := range 10 {
			b.at(time.Hour + 2*time.Second + time.Duration(i)*100*ms)
			b.kernel.say(b.root, "", written)
		}
		b.at(time.Hour + 3*time.Second)
		b.want("1h0m2.3s 1")

		must(t, os.Remove(b.path))
		b.kernel.say(b.root, "f", written)
		b.at(2 * time.Hour)
		b.want("1h0m3.3s no file")
		b.kernel.say(b.root, "f", written) // created and deleted before anybody could see
		b.at(3 * time.Hour)
		b.want()
	})
}

func TestOverflow(t *testing.T) {
	inBubble(t, nil, func(b *bench) {
		b.kernel.notes <- []note{{handle: everything, event: written}}
		b.at(time.Second)
		b.want("300ms 0")
	})
}

// Changes between NewWatcher and Run, and between one survey and the kernel's
// watch, are not missed.
func TestStart(t *testing.T) {
	inBubble(t, func(b *bench) { b.write("1") }, func(b *bench) {
		b.at(time.Minute)
		b.want("300ms 1")
	})
	inBubble(t, func(b *bench) {
		b.kernel.refuse = func(path string) error { // no refusal, but the moment before the last watch is there
			if path == b.path && b.kernel.handles[path] == 0 {
				b.write("2")
			}
			return nil
		}
	}, func(b *bench) {
		b.at(time.Second)
		b.want("300ms 2")
	})
	inBubble(t, nil, func(b *bench) {
		b.at(time.Hour)
		b.want()
		b.wantLog()
		if m := b.Method(); m != kernelMethod {
			t.Errorf("method %q", m)
		}
	})
}

func TestSlowStat(t *testing.T) {
	inBubble(t, nil, func(b *bench) {
		b.at(time.Second)
		b.write("1") // the kernel does not tell
		b.at(time.Minute)
		b.want("10.3s 1")
	})
	inBubble(t, func(b *bench) { b.openErr = errors.ErrUnsupported }, func(b *bench) {
		if m := b.Method(); m != "stat" {
			t.Errorf("method %q", m)
		}
		b.at(time.Second)
		b.write("1")
		b.at(2200 * ms)
		b.write("2") // not quiet yet, which only the next look tells
		b.at(3900 * ms)
		b.want("2.6s 2")
		b.write("3")
		b.at(time.Minute)
		b.want("4.3s 3")

		for i := range 100 { // never quiet
			b.at(time.Minute + time.Second + time.Duration(i)*50*ms)
			b.write(fmt.Sprint("e", i))
		}
		b.at(2 * time.Minute)
		b.mu.Lock()
		defer b.mu.Unlock()
		if len(b.looks) != 2 || !strings.HasPrefix(b.looks[0], "1m5s ") || !strings.HasSuffix(b.looks[1], "e99") {
			t.Errorf("looks %v", b.looks)
		}
	})
}

func TestLookOneAtATime(t *testing.T) {
	inBubble(t, nil, func(b *bench) {
		var busy atomic.Bool
		b.set(func() {
			b.during = func() {
				if !busy.CompareAndSwap(false, true) {
					t.Error("two at a time")
				}
				time.Sleep(10 * time.Second)
				busy.Store(false)
			}
		})
		b.edit("1")
		b.at(5 * time.Second)
		b.edit("2")
		b.kernel.say(b.root, "f", written)
		b.at(6 * time.Second)
		b.write("3")
		b.at(time.Minute)
		b.want("300ms 1", "10.6s 3")

		// Nor is the second event lost behind the first.
		b.edit("4")
		b.at(time.Minute + 5*time.Second)
		b.kernel.say(b.root, "", written)
		b.kernel.say(b.path, "", written)
		b.at(2 * time.Minute)
		b.want("1m0.3s 4", "1m10.6s 4")
	})
}

func TestRunEnds(t *testing.T) {
	for name, before := range map[string]func(*bench){
		"idle":      func(*bench) {},
		"not quiet": func(b *bench) { b.edit("1"); synctest.Wait() },
		"unread": func(b *bench) {
			b.set(func() { b.during = func() { b.edit("2"); b.edit("3") } })
			b.edit("1")
			b.at(time.Second)
		},
		"no kernel":  func(b *bench) { b.kernel.trouble <- io.EOF; synctest.Wait() },
		"after Look": func(b *bench) { b.edit("1"); b.at(time.Second) },
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, nil, func(b *bench) {
				before(b)
				var looks int
				b.set(func() { looks = len(b.looks) })
				b.kernel.slow.Store(int64(time.Second))
				b.stop()
				if !b.kernel.ended.Load() && name != "no kernel" && name != "unread" {
					t.Error("Run left before its goroutine")
				}
				b.at(time.Hour)
				b.set(func() {
					if len(b.looks) != looks {
						t.Error("a look after the end")
					}
				})
				select {
				case <-b.kernel.closed:
				default:
					t.Error("the kernel's part is open")
				}
			})
		})
	}
}

func TestFallBack(t *testing.T) {
	const by = "noticed by stat: the kernel"
	const again = "by the kernel again"
	for _, lack := range []error{syscall.EMFILE, syscall.ENFILE, syscall.ENOSPC, syscall.ENOMEM} {
		inBubble(t, func(b *bench) { b.openErr = os.NewSyscallError("inotify_init1", lack) }, func(b *bench) {
			b.wantLog(by + " has no watch left; raise " + raise)
			b.at(14 * time.Minute) // two more attempts, of which nobody needs to hear
			b.wantLog()
			b.set(func() { b.openErr = nil })
			b.at(16 * time.Minute)
			b.wantLog(again)
			if m := b.Method(); m != kernelMethod {
				t.Errorf("method %q", m)
			}
			b.edit("1")
			b.at(17 * time.Minute)
			b.want("16m0.3s 1")
		})
		// In the middle: a link leads to a directory that cannot be watched any more.
		inBubble(t, nil, func(b *bench) {
			must(t, os.Mkdir(b.root+"/d", 0o700))
			must(t, os.WriteFile(b.root+"/d/f", []byte("1"), 0o600))
			b.kernel.refusing(func(path string) error {
				if path == b.root+"/d" {
					return lack
				}
				return nil
			})
			must(t, relink("d/f", b.path))
			b.kernel.say(b.root, "f", written)
			b.at(time.Second)
			b.want("300ms 1")
			b.wantLog(by + " has no watch left")
			if m := b.Method(); m != "stat" {
				t.Errorf("method %q", m)
			}
			must(t, os.WriteFile(b.root+"/d/f", []byte("2"), 0o600))
			b.at(time.Minute)
			b.want("2.3s 2")
			b.set(func() { b.kernel = newFakeKernel() })
			b.at(6 * time.Minute)
			b.wantLog(again)
		})
	}
	inBubble(t, nil, func(b *bench) {
		b.write("1") // not told in time
		b.kernel.trouble <- io.ErrUnexpectedEOF
		b.at(time.Second)
		b.want("300ms 1")
		b.wantLog("does not watch it\" dur=2s err=\"unexpected EOF\"")
		b.set(func() { b.openErr = syscall.EMFILE })
		b.at(10 * time.Minute)
		b.wantLog()
	})
}

// A directory that may be searched but not read does not cost the kernel's help
// with the others.
func TestUnreadableDirectory(t *testing.T) {
	inBubble(t, func(b *bench) {
		b.kernel.refuse = func(path string) error {
			if path == b.root || path == "/" {
				return fs.ErrPermission
			}
			return nil
		}
	}, func(b *bench) {
		b.wantLog()
		b.at(time.Second)
		b.write("1")
		b.at(5 * time.Second)
		b.want("2.3s 1")
		b.write("2")
		b.kernel.say(b.path, "", written)
		b.at(5400 * ms)
		b.want("5.3s 2")
		b.kernel.refusing(nil)
		b.at(7 * time.Second) // the next survey is of 10 s again
		b.write("3")
		b.at(time.Minute)
		b.want("16.3s 3")
	})
}

// kqueue gives no names: the chain alone must find what happened.
func TestSwapWithoutNames(t *testing.T) {
	inBubble(t, nil, func(b *bench) {
		for _, d := range []string{"..1", "..2"} {
			must(t, os.Mkdir(b.root+"/"+d, 0o700))
			must(t, os.WriteFile(b.root+"/"+d+"/f", []byte(d), 0o600))
		}
		must(t, os.Symlink("..1", b.root+"/..data"))
		must(t, relink("..data/f", b.path))
		b.kernel.say(b.root, "", written)
		b.at(time.Second)
		b.want("300ms ..1")
		must(t, relink("..2", b.root+"/..data"))
		must(t, os.RemoveAll(b.root+"/..1"))
		b.kernel.say(b.root, "", written)
		b.at(2 * time.Second)
		b.want("1.3s ..2")
		must(t, os.WriteFile(b.root+"/..2/f", []byte("3"), 0o600))
		b.kernel.say(b.root+"/..2/f", "", written)
		b.at(3 * time.Second)
		b.want("2.3s 3")
	})
}

func TestNotifierWatches(t *testing.T) {
	k := newFakeKernel()
	n := newNotifier(k)
	defer n.close()
	for _, tt := range []struct {
		name   string
		list   []watch
		refuse map[string]error
		grew   bool
		err    error
		drops  string
	}{
		{"two", []watch{{"/", []string{"d"}}, {"/d", []string{"f"}}}, nil, true, nil, "[]"},
		{"the same", []watch{{"/", []string{"d"}}, {"/d", []string{"f"}}}, nil, false, nil, "[]"},
		{"a file more", []watch{{"/", []string{"d"}}, {"/d", []string{"f"}}, {"/d/f", nil}}, nil, true, nil, "[]"},
		{"fewer", []watch{{"/", []string{"d"}}}, nil, false, nil, "[101 102]"},
		{"the last vanished", []watch{{"/", []string{"d"}}, {"/d", []string{"f"}}}, map[string]error{"/d": syscall.ENOENT}, false, nil, "[]"},
		{"the last is a link", []watch{{"/", []string{"d"}}, {"/d", []string{"f"}}}, map[string]error{"/d": syscall.ENOTDIR}, false, nil, "[]"},
		{"the last in trouble", []watch{{"/", []string{"d"}}, {"/d", []string{"f"}}}, map[string]error{"/d": syscall.EIO}, false, syscall.EIO, "[]"},
		{"another in trouble", []watch{{"/", []string{"d"}}, {"/d", []string{"f"}}}, map[string]error{"/": syscall.EIO}, true, nil, "[100]"},
		{"the file in trouble", []watch{{"/d", []string{"f"}}, {"/d/f", nil}}, map[string]error{"/d/f": syscall.EACCES}, false, nil, "[]"},
		{"the file too many", []watch{{"/d", []string{"f"}}, {"/d/f", nil}}, map[string]error{"/d/f": syscall.ENOSPC}, false, syscall.ENOSPC, "[]"},
	} {
		k.refusing(func(path string) error { return tt.refuse[path] })
		k.dropped = nil
		grew, err := n.watch(tt.list)
		slices.Sort(k.dropped)
		if grew != tt.grew || !errors.Is(err, tt.err) || (err != nil) != (tt.err != nil) || fmt.Sprint(k.dropped) != tt.drops {
			t.Errorf("%s: grew %v, %v, dropped %v", tt.name, grew, err, k.dropped)
		}
	}
}
