package proc

import (
	"syscall"
	"time"
)

// Usage is what this process takes of its host. What a system does not tell is 0.
type Usage struct {
	CPU      time.Duration // spent, by the program and by the kernel for it
	Resident int64         // bytes of memory
	Files    int64         // open descriptors
	MaxFiles int64         // that there may be
}

// Self tells what this process takes now (getrusage(2), and proc(5) on Linux).
func Self() Usage {
	u := Usage{}
	var r syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &r) == nil {
		u.CPU = time.Duration(r.Utime.Nano() + r.Stime.Nano())
	}
	var l syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l) == nil {
		u.MaxFiles = int64(l.Cur)
	}
	u.Resident, u.Files = held()
	return u
}
