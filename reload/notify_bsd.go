//go:build darwin || freebsd || netbsd || openbsd || dragonfly

package reload

import (
	"errors"
	"fmt"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

const (
	kernelMethod = "kqueue"
	raise        = "kern.maxfiles or the limit of open files (ulimit -n)"
)

const (
	notes       = unix.NOTE_WRITE | unix.NOTE_EXTEND | unix.NOTE_ATTRIB | unix.NOTE_DELETE | unix.NOTE_RENAME | unix.NOTE_LINK | unix.NOTE_REVOKE
	notesChange = unix.NOTE_WRITE | unix.NOTE_EXTEND
)

// kqueue is kqueue(2) with EVFILT_VNODE. A handle is an open descriptor; while
// it is open its inode is no other file's.
type kqueue struct {
	fd       int
	inodes   map[inode]int // to handles
	wake     *os.File      // closing it ends wait
	woken    *os.File
	waiting  sync.Mutex // held by wait; guards closed
	closed   bool
	received [64]unix.Kevent_t
}

type inode struct{ dev, ino uint64 }

func openKernel() (kernel, error) {
	fd, err := unix.Kqueue()
	if err != nil {
		return nil, os.NewSyscallError("kqueue", err)
	}
	unix.CloseOnExec(fd)
	woken, wake, err := os.Pipe()
	if err != nil {
		unix.Close(fd)
		return nil, err
	}
	k := &kqueue{fd: fd, inodes: map[inode]int{}, wake: wake, woken: woken}
	if err := k.register(int(woken.Fd()), unix.EVFILT_READ, 0); err != nil {
		k.close()
		return nil, err
	}
	return k, nil
}

func (k *kqueue) register(fd, filter int, fflags uint32) error {
	ev := make([]unix.Kevent_t, 1)
	unix.SetKevent(&ev[0], fd, filter, unix.EV_ADD|unix.EV_CLEAR)
	ev[0].Fflags = fflags
	_, err := unix.Kevent(k.fd, ev, nil, nil)
	return os.NewSyscallError("kevent", err)
}

// add opens the path, unless its inode is open. Links are not followed: the
// path has none, or is no longer what it was.
func (k *kqueue) add(path string, _ bool) (int, error) {
	s, err := lstat(path)
	if err != nil {
		return 0, err
	}
	id := inode{s.dev, s.ino}
	if fd, ok := k.inodes[id]; ok {
		return fd, nil
	}
	// Should something else have come since lstat, the survey that follows a
	// new handle finds another inode, and opens again.
	fd, err := unix.Open(path, openFlags|unix.O_NONBLOCK|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0, os.NewSyscallError("open", err)
	}
	if err := k.register(fd, unix.EVFILT_VNODE, notes); err != nil {
		unix.Close(fd)
		return 0, err
	}
	k.inodes[id] = fd
	return fd, nil
}

// drop closes the descriptor, and with it what the kernel has to say of it.
func (k *kqueue) drop(handle int) {
	for id, fd := range k.inodes {
		if fd == handle {
			delete(k.inodes, id)
			unix.Close(fd)
		}
	}
}

func (k *kqueue) wait() ([]note, error) {
	k.waiting.Lock()
	defer k.waiting.Unlock()
	if k.closed {
		return nil, os.ErrClosed
	}
	n, err := unix.Kevent(k.fd, nil, k.received[:], nil)
	if err != nil && !errors.Is(err, unix.EINTR) {
		return nil, os.NewSyscallError("kevent", err)
	}
	var out []note
	for _, ev := range k.received[:max(n, 0)] {
		switch {
		case int(ev.Ident) == int(k.woken.Fd()):
			return nil, os.ErrClosed
		case ev.Flags&unix.EV_ERROR != 0:
			return nil, fmt.Errorf("kevent: %w", unix.Errno(ev.Data))
		case ev.Fflags&notesChange != 0:
			out = append(out, note{handle: int(ev.Ident), event: written})
		default:
			out = append(out, note{handle: int(ev.Ident), event: touched})
		}
	}
	return out, nil
}

// close waits for wait: to close a queue in use is undefined.
func (k *kqueue) close() {
	k.wake.Close()
	k.waiting.Lock()
	defer k.waiting.Unlock()
	k.closed = true
	for _, fd := range k.inodes {
		unix.Close(fd)
	}
	unix.Close(k.fd)
	k.woken.Close()
}
