package channel

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// childAttr also has the kernel kill the child when we are killed (PR_SET_PDEATHSIG).
func childAttr() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

// keepDescriptors lets no program have a descriptor that it is not given: also
// none that whoever started us left open.
func keepDescriptors() {
	if unix.CloseRange(3, 1<<32-1, unix.CLOSE_RANGE_CLOEXEC) != nil { // before Linux 5.11
		keepFirstDescriptors()
	}
}
