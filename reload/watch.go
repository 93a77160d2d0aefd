package reload

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"
)

const (
	statBeside  = 10 * time.Second // the slow stat: for network file systems the kernel cannot see into
	statAlone   = 2 * time.Second
	retryKernel = 5 * time.Minute

	// A file that never becomes quiet is looked at after patience × debounce,
	// and leastPatience, so that endless edits cannot starve a reload.
	patience      = 10
	leastPatience = 2 * time.Second

	leastDebounce = 10 * time.Millisecond // a tick of the kernel: shorter, two changes may have one time

	byStat = "stat"
)

// Options of a Watcher. All are needed.
type Options struct {
	Path     string
	Debounce func() time.Duration // how long the file must be quiet; read each time
	Look     func()               // called by Run, one at a time
	Log      *slog.Logger
}

// Watcher follows one file, wherever symbolic links lead and whether or not it
// exists.
type Watcher struct {
	o      Options
	path   string
	open   func() (kernel, error)
	method atomic.Value // string

	// Of Run alone.
	notifier    *notifier     // nil: stat alone
	failed      time.Time     // when the kernel did
	every       time.Duration // of the slow stat
	found       bool          // as last surveyed
	print       string        // of the chain, when last surveyed
	since       time.Time     // of the first change not yet looked at; zero: none
	quiet, poll *time.Timer
}

// NewWatcher makes a Watcher, which remembers how the file is now: make it
// before reading the file, and no change after that is missed, however late Run
// begins.
func NewWatcher(o Options) *Watcher {
	w := &Watcher{o: o, path: o.Path, open: openKernel}
	if !filepath.IsAbs(w.path) {
		// Not cleaned: after a link, .. is not the directory before it.
		if dir, err := os.Getwd(); err == nil {
			w.path = dir + "/" + w.path
		}
	}
	c := follow(w.path)
	w.print, w.found = c.print, c.found
	return w
}

// Method says how changes are noticed: inotify, kqueue or stat; "" unless Run
// is running. Any goroutine may ask.
func (w *Watcher) Method() string {
	m, _ := w.method.Load().(string)
	return m
}

// Run calls Look when the file may have changed and has then been quiet for
// the debounce time. Look runs on Run's goroutine; what happens meanwhile is
// looked at next. Run returns nil when ctx has ended, having let go of
// everything. It is called once.
func (w *Watcher) Run(ctx context.Context) error {
	w.quiet, w.poll, w.every = time.NewTimer(statBeside), time.NewTimer(statBeside), statBeside
	w.quiet.Stop()
	defer func() {
		w.quiet.Stop()
		w.poll.Stop()
		if w.notifier != nil {
			w.notifier.close()
		}
		w.method.Store("")
	}()
	w.attach()
	w.notice(nearby)
	for ctx.Err() == nil {
		var events <-chan event
		if w.notifier != nil {
			events = w.notifier.events
		}
		select {
		case <-ctx.Done():
		case e, ok := <-events:
			if !ok {
				w.fallBack(w.notifier.err)
			}
			w.notice(e)
		case <-w.poll.C:
			w.poll.Reset(w.every)
			if w.notifier == nil && time.Since(w.failed) >= retryKernel {
				w.attach()
			}
			w.notice(nearby)
		case <-w.quiet.C:
			if ctx.Err() == nil {
				w.settle()
			}
		}
	}
	return nil
}

// attach asks the kernel for help. That it helps is known with the first survey.
func (w *Watcher) attach() {
	k, err := w.open()
	if err != nil {
		w.fallBack(err)
		return
	}
	w.notifier = newNotifier(k)
}

// fallBack goes on without the kernel and says so, once until it helps again.
func (w *Watcher) fallBack(err error) {
	if w.notifier != nil {
		w.notifier.close()
		w.notifier = nil
	}
	w.failed = time.Now()
	w.pollEvery(statAlone)
	if w.method.Swap(byStat) == byStat {
		return
	}
	if exhausted(err) {
		w.o.Log.Warn("changes of the configuration file are noticed by stat: the kernel has no watch left; raise "+raise, "dur", statAlone, "err", err)
	} else {
		w.o.Log.Warn("changes of the configuration file are noticed by stat: the kernel does not watch it", "dur", statAlone, "err", err)
	}
}

func (w *Watcher) pollEvery(d time.Duration) {
	if d != w.every {
		w.every = d
		w.poll.Reset(d)
	}
}

// survey follows the chain anew and watches what is on it. It reports whether
// the chain changed since the last survey. What is newly watched may have
// changed before it was: it is followed again, a few times at most, for
// somebody may change it all the time.
func (w *Watcher) survey() (changed bool) {
	for range 5 {
		c := follow(w.path)
		changed = changed || c.print != w.print
		w.print, w.found = c.print, c.found
		if w.notifier == nil {
			break
		}
		grew, err := w.notifier.watch(c.watches)
		if err == nil {
			w.pollEvery(statBeside)
		} else if errors.Is(err, fs.ErrPermission) {
			w.pollEvery(statAlone) // its parent tells when it may be read again
		} else {
			w.fallBack(err)
			break
		}
		if w.method.Swap(kernelMethod) == byStat {
			w.o.Log.Info("changes of the configuration file are noticed by the kernel again")
		}
		if !grew {
			break
		}
	}
	return changed
}

// notice begins the wait for quiet after a change, and begins it anew with what
// follows.
func (w *Watcher) notice(e event) {
	changed := w.survey()
	switch {
	case w.since.IsZero() && (changed || e == written && w.found):
		w.since = time.Now()
		w.await()
	case !w.since.IsZero() && (changed || e >= touched):
		w.await()
	}
}

func (w *Watcher) await() {
	debounce, limit := w.times()
	w.quiet.Reset(min(debounce, max(0, time.Until(w.since.Add(limit)))))
}

func (w *Watcher) times() (debounce, limit time.Duration) {
	debounce = max(w.o.Debounce(), leastDebounce)
	return debounce, max(patience*debounce, leastPatience)
}

// settle calls Look, unless something has happened that is still on its way
// here, or that the kernel does not tell.
func (w *Watcher) settle() {
	changed := w.survey()
	if _, limit := w.times(); changed && time.Since(w.since) < limit {
		w.await()
		return
	}
	w.since = time.Time{}
	w.o.Look()
}
