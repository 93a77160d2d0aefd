//go:build linux || darwin || freebsd || netbsd || openbsd || dragonfly

package reload

import (
	"io/fs"

	"golang.org/x/sys/unix"
)

// lstat reads the stamp of a path, links not followed.
func lstat(path string) (stamp, error) {
	for {
		var st unix.Stat_t
		switch err := unix.Lstat(path, &st); err {
		case nil:
			return stampOf(&st), nil
		case unix.EINTR: // some network file systems
		default:
			return stamp{}, err
		}
	}
}

func stampOf(st *unix.Stat_t) stamp {
	kind := fs.ModeIrregular
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		kind = 0
	case unix.S_IFDIR:
		kind = fs.ModeDir
	case unix.S_IFLNK:
		kind = fs.ModeSymlink
	}
	return stamp{
		kind, uint32(st.Mode) &^ unix.S_IFMT, uint64(st.Dev), uint64(st.Ino),
		st.Size, st.Mtim.Nano(), st.Ctim.Nano(),
	}
}
