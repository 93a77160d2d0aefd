//go:build freebsd || netbsd || openbsd || dragonfly

package reload

import "golang.org/x/sys/unix"

const openFlags = unix.O_RDONLY
