package reload

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"sync"
	"syscall"
)

// event is what the kernel said, from the least to the most.
type event int

const (
	nearby  event = iota // something near the file: only a look at the chain can tell
	touched              // the file, or a name on the way to it: perhaps not changed, but not quiet
	written              // changed, even where the file's times are too coarse to show it
)

// note is one event at a handle. The name is that of an entry in a directory;
// without one the event is of the handle's inode, or says no more.
type note struct {
	handle int
	name   string
	event  event
}

// everything is the handle of a note after the kernel lost some.
const everything = -1

// kernel is what inotify and kqueue have in common. wait is for one goroutine,
// the rest for another.
type kernel interface {
	// add watches a directory or a regular file. An inode that is watched
	// keeps its handle.
	add(path string, dir bool) (handle int, err error)
	drop(handle int)
	wait() ([]note, error) // blocks until notes are there, or close is called
	close()                // once; wait then returns an error
}

// notifier turns a kernel's notes into the events of one chain.
type notifier struct {
	k      kernel
	events chan event // closed when the kernel failed
	err    error      // why; to be read after events is closed
	quit   chan struct{}

	mu    sync.Mutex
	names map[int][]string // by handle; none for the file itself
}

// newNotifier starts a goroutine, which ends with close.
func newNotifier(k kernel) *notifier {
	n := &notifier{k: k, events: make(chan event, 1), quit: make(chan struct{})}
	go n.read()
	return n
}

func (n *notifier) close() {
	close(n.quit)
	n.k.close()
	for range n.events { // until read has ended
	}
}

func (n *notifier) read() {
	defer close(n.events)
	for {
		notes, err := n.k.wait()
		if err != nil {
			n.err = err
			return
		}
		if e, ok := n.sift(notes); ok {
			select {
			case n.events <- e:
			case <-n.quit:
				return
			}
		}
	}
}

// sift returns the gravest event that is about the chain.
func (n *notifier) sift(notes []note) (gravest event, ok bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, note := range notes {
		names, watched := n.names[note.handle]
		switch {
		case note.handle == everything:
		case !watched, note.name != "" && !slices.Contains(names, note.name):
			continue
		case note.name == "" && len(names) > 0:
			note.event = nearby // of the directory, not of the file
		}
		gravest, ok = max(gravest, note.event), true
	}
	return gravest, ok
}

// watch replaces what is watched. grew says that something is watched that was
// not: what happened there before has to be looked for. It is an error when the
// kernel has no more to give, or cannot watch the directory nearest to the file.
func (n *notifier) watch(list []watch) (grew bool, err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	next := make(map[int][]string, len(list))
	for _, w := range list {
		dir := len(w.names) > 0
		handle, e := n.k.add(w.path, dir)
		if e != nil {
			e = fmt.Errorf("watch %s: %w", w.path, e)
		}
		if exhausted(e) {
			return false, e
		}
		if dir {
			err = e // the last directory's remains
			if gone(e) {
				err = nil
			}
		}
		if e == nil {
			next[handle] = append(next[handle], w.names...)
			_, had := n.names[handle]
			grew = grew || !had
		}
	}
	for handle := range n.names {
		if _, keep := next[handle]; !keep {
			n.k.drop(handle)
		}
	}
	n.names = next
	return grew, err
}

// exhausted tells the lack of watches, descriptors or memory from a file's own
// trouble.
func exhausted(err error) bool {
	return slices.ContainsFunc([]error{syscall.EMFILE, syscall.ENFILE, syscall.ENOSPC, syscall.ENOMEM},
		func(lack error) bool { return errors.Is(err, lack) })
}

// gone says that a directory of the chain is no longer one; what took its place
// is told by its parent.
func gone(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) || errors.Is(err, syscall.ELOOP)
}
