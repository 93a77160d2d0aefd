//go:build !amd64 && !arm64

package sandbox

import (
	"errors"

	"golang.org/x/sys/unix"
)

var forkCalls []uintptr

// filter refuses: nobody has made the list of system calls for this architecture.
func filter(*Spec) ([]unix.SockFilter, error) {
	return nil, errors.New("there is no list of system calls for this architecture")
}
