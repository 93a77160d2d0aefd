package reload

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

const (
	kernelMethod = "inotify"
	raise        = "fs.inotify.max_user_watches, fs.inotify.max_user_instances or the limit of open files (ulimit -n)"
)

const (
	fileMask = unix.IN_MODIFY | unix.IN_CLOSE_WRITE | unix.IN_ATTRIB | unix.IN_DELETE_SELF | unix.IN_MOVE_SELF | unix.IN_DONT_FOLLOW
	dirMask  = fileMask | unix.IN_CREATE | unix.IN_MOVED_TO | unix.IN_MOVED_FROM | unix.IN_DELETE | unix.IN_ONLYDIR

	// After these the path has another content; the others only may mean it.
	changeMask = unix.IN_MODIFY | unix.IN_CREATE | unix.IN_MOVED_TO | unix.IN_MOVED_FROM | unix.IN_DELETE
)

// inotify is inotify(7). A handle is a watch descriptor.
type inotify struct {
	f    *os.File
	conn syscall.RawConn
	buf  [16 << 10]byte
}

func openKernel() (kernel, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, os.NewSyscallError("inotify_init1", err)
	}
	// Nonblocking, so that the runtime waits for it and close ends a Read.
	f := os.NewFile(uintptr(fd), "inotify")
	conn, err := f.SyscallConn()
	if err != nil {
		f.Close()
		return nil, err
	}
	return &inotify{f: f, conn: conn}, nil
}

func (i *inotify) add(path string, dir bool) (wd int, err error) {
	mask := uint32(fileMask)
	if dir {
		mask = dirMask
	}
	closed := i.conn.Control(func(fd uintptr) { wd, err = unix.InotifyAddWatch(int(fd), path, mask) })
	return wd, errors.Join(closed, os.NewSyscallError("inotify_add_watch", err))
}

// drop has nothing to say when the kernel has dropped it first, with the inode.
func (i *inotify) drop(wd int) {
	i.conn.Control(func(fd uintptr) { unix.InotifyRmWatch(int(fd), uint32(wd)) })
}

func (i *inotify) wait() ([]note, error) {
	n, err := i.f.Read(i.buf[:])
	if err != nil {
		return nil, err
	}
	return parseInotify(i.buf[:n])
}

func (i *inotify) close() { i.f.Close() }

// parseInotify reads records of struct inotify_event: watch descriptor, mask,
// cookie, length of the name, and the name, padded with NULs.
func parseInotify(b []byte) ([]note, error) {
	var notes []note
	for len(b) > 0 {
		if len(b) < unix.SizeofInotifyEvent {
			return nil, errors.New("inotify: half a record")
		}
		wd, mask := int32(binary.NativeEndian.Uint32(b)), binary.NativeEndian.Uint32(b[4:])
		size := uint64(binary.NativeEndian.Uint32(b[12:]))
		b = b[unix.SizeofInotifyEvent:]
		if size > uint64(len(b)) {
			return nil, errors.New("inotify: half a name")
		}
		name, _, _ := bytes.Cut(b[:size], []byte{0})
		b = b[size:]
		n := note{handle: int(wd), name: string(name), event: touched}
		switch {
		case mask&unix.IN_Q_OVERFLOW != 0:
			n = note{handle: everything, event: written}
		case mask&changeMask != 0:
			n.event = written
		}
		notes = append(notes, n)
	}
	return notes, nil
}
