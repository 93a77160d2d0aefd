//go:build !linux && !darwin && !freebsd && !netbsd && !openbsd && !dragonfly

package reload

import (
	"errors"
	"os"
)

const (
	kernelMethod = ""
	raise        = "the limit of open files"
)

func openKernel() (kernel, error) { return nil, errors.ErrUnsupported }

// lstat reads the stamp of a path, links not followed.
func lstat(path string) (stamp, error) {
	info, err := os.Lstat(path)
	if err != nil {
		return stamp{}, err
	}
	return stamp{
		kind: info.Mode().Type(), perm: uint32(info.Mode().Perm()),
		size: info.Size(), mtime: info.ModTime().UnixNano(),
	}, nil
}
