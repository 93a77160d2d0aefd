//go:build !linux

package tool

import (
	"os"
	"syscall"
)

// mountID tells the device that an open file is on.
func mountID(f *os.File) (uint64, error) {
	fi, err := f.Stat()
	if err != nil {
		return 0, err
	}
	if st, ok := fi.Sys().(*syscall.Stat_t); ok {
		return uint64(st.Dev), nil
	}
	return 0, nil
}
