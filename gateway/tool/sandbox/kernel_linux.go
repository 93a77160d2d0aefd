package sandbox

import (
	"os"
	"runtime"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// This file is the only one with unsafe: what the kernel is told by address.

// pins keeps what addresses point to where it is until they have been used.
type pins struct{ runtime.Pinner }

func pin[T any](p *pins, v *T) uintptr {
	p.Pin(v)
	return uintptr(unsafe.Pointer(v))
}

// text is the address of a C string, list of a nil-terminated array of them.
func (p *pins) text(s string) uintptr {
	b := append([]byte(s), 0)
	return pin(p, &b[0])
}

func (p *pins) list(ss []string) uintptr {
	a := make([]uintptr, len(ss)+1)
	for i, s := range ss {
		a[i] = p.text(s)
	}
	return pin(p, &a[0])
}

// bytesOf is the memory of two times, which are as the kernel has them.
func bytesOf(ts *[2]unix.Timespec) []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(ts)), unsafe.Sizeof(*ts))
}

// A call is one system call that the child makes between fork and exec.
type call struct {
	what string // for the error
	wish bool   // it may fail
	nr   uintptr
	args [6]uintptr
}

// failed, in a report, marks the number of the call that failed and its errno.
const failed = 1 << 63

// fork makes a child that executes calls, in order, up to the first that fails,
// and returns when the child has executed a program or ended. The child is a
// copy of this thread in which no Go may run but this function: it takes no
// stack, allocates nothing, and every address in calls was pinned before.
// CLONE_VFORK makes the caller wait; CLONE_FILES gives it the descriptor that
// seccomp(2) returns to the child. last holds each call's result, for a write
// among the calls; the report of a failure goes to the descriptor out.
//
//go:norace
//go:noinline
//go:nosplit
func fork(calls []call, last *[1]uint64, out uintptr) (pid uintptr, errno syscall.Errno) {
	pid, _, errno = syscall.RawSyscall6(syscall.SYS_CLONE, uintptr(unix.SIGCHLD)|unix.CLONE_VFORK|unix.CLONE_FILES, 0, 0, 0, 0, 0)
	if errno != 0 || pid != 0 {
		return pid, errno
	}
	for i := range calls {
		c := &calls[i]
		r, _, e := syscall.RawSyscall6(c.nr, c.args[0], c.args[1], c.args[2], c.args[3], c.args[4], c.args[5])
		last[0] = uint64(r)
		if e != 0 && !c.wish {
			last[0] = failed | uint64(i)<<32 | uint64(e)
			syscall.RawSyscall6(syscall.SYS_WRITE, out, uintptr(unsafe.Pointer(last)), 8, 0, 0, 0)
			break
		}
	}
	for {
		syscall.RawSyscall6(syscall.SYS_EXIT_GROUP, ExitRefused, 0, 0, 0, 0, 0)
	}
}

// sigaction is the kernel's struct sigaction: handler, flags, restorer, mask.
type sigaction [4]uintptr

const byDefault, ignore = 0, 1

// handle sets what a signal does to this process, without the runtime.
func handle(s unix.Signal, handler uintptr) {
	unix.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(s), uintptr(unsafe.Pointer(&sigaction{handler})), 0, 8, 0, 0)
}

// sigmask sets which signals this thread does not get, in the kernel's form.
func sigmask(set *uint64) {
	unix.RawSyscall6(unix.SYS_RT_SIGPROCMASK, unix.SIG_SETMASK, uintptr(unsafe.Pointer(set)), 0, 8, 0, 0)
}

func landlockABI() (int, error) {
	r, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION)
	if errno != 0 {
		return 0, os.NewSyscallError("landlock_create_ruleset", errno)
	}
	return int(r), nil
}

func landlockRuleset(attr unix.LandlockRulesetAttr) (int, error) {
	r, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, uintptr(unsafe.Pointer(&attr)), unsafe.Sizeof(attr), 0)
	if errno != 0 {
		return 0, os.NewSyscallError("landlock_create_ruleset", errno)
	}
	return int(r), nil
}

func landlockPath(ruleset, fd int, access uint64) error {
	attr := unix.LandlockPathBeneathAttr{Allowed_access: access, Parent_fd: int32(fd)} // 12 bytes are read
	_, _, errno := unix.Syscall6(unix.SYS_LANDLOCK_ADD_RULE, uintptr(ruleset), unix.LANDLOCK_RULE_PATH_BENEATH, uintptr(unsafe.Pointer(&attr)), 0, 0, 0)
	if errno != 0 {
		return os.NewSyscallError("landlock_add_rule", errno)
	}
	return nil
}

// landlockPort adds a rule of type LANDLOCK_RULE_NET_PORT, 2.
func landlockPort(ruleset int, port uint16) error {
	attr := struct{ access, port uint64 }{unix.LANDLOCK_ACCESS_NET_CONNECT_TCP, uint64(port)}
	if _, _, errno := unix.Syscall6(unix.SYS_LANDLOCK_ADD_RULE, uintptr(ruleset), 2, uintptr(unsafe.Pointer(&attr)), 0, 0, 0); errno != 0 {
		return os.NewSyscallError("landlock_add_rule", errno)
	}
	return nil
}

// notice and answer are seccomp_notif and seccomp_notif_resp (seccomp_unotify(2)).
type notice struct {
	id         uint64
	pid, flags uint32
	nr         int32
	arch       uint32
	ip         uint64
	args       [6]uint64
}

type answer struct {
	id    uint64
	val   int64
	errno int32 // negative
	flags uint32
}

// Requests of ioctl(2) on a seccomp listener.
const (
	notifyReceive = 0xc0502100
	notifySend    = 0xc0182101
	notifyValid   = 0x40082102
)

func receive(fd int, n *notice) error {
	*n = notice{}
	return ioctl(fd, notifyReceive, unsafe.Pointer(n))
}

func send(fd int, a *answer) error       { return ioctl(fd, notifySend, unsafe.Pointer(a)) }
func (n *notice) stillWaits(fd int) bool { return ioctl(fd, notifyValid, unsafe.Pointer(&n.id)) == nil }
func ioctl(fd int, request uintptr, arg unsafe.Pointer) error {
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), request, uintptr(arg)); errno != 0 {
		return errno
	}
	return nil
}
