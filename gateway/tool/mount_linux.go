package tool

import (
	"os"

	"golang.org/x/sys/unix"
)

// mountID tells the mount that an open file is on, bind mounts apart, which
// share a device. Kernels before 5.8 do not say; then all is one.
func mountID(f *os.File) (id uint64, err error) {
	c, err := f.SyscallConn()
	if err != nil {
		return 0, err
	}
	var st unix.Statx_t
	if e := c.Control(func(fd uintptr) {
		err = unix.Statx(int(fd), "", unix.AT_EMPTY_PATH, unix.STATX_MNT_ID, &st)
	}); e != nil {
		return 0, e
	}
	if st.Mask&unix.STATX_MNT_ID == 0 {
		return 0, err
	}
	return st.Mnt_id, err
}
