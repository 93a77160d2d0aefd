package gateway

import (
	"fmt"
	"log/slog"
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"openclaw/gateway/proc"
)

// harden gives up what the gateway never needs, for good: gaining privileges
// by executing a set-user-ID program (PR_SET_NO_NEW_PRIVS, prctl(2)), core
// dumps, which would hold secrets, and being read or traced by other processes
// of its user. Each step looks whether it took effect.
//
// The last one also hides whose port this is, from lsof(8) of the same user as
// from --force of another gateway. So the process says so itself, in the one
// place that stays readable and that nobody else can write: its name, which
// proc.Holders looks for.
func harden(log *slog.Logger, port int) {
	for _, step := range []struct {
		name string
		do   func() error
	}{
		{"no new privileges", noNewPrivileges}, {"no core dumps", noCoreDumps},
		{"named after the port", func() error { return setProcessName(proc.PortName(port)) }}, {"not dumpable", notDumpable},
	} {
		if err := step.do(); err != nil {
			log.Debug("hardening step failed", "key", step.name, "err", err)
		} else {
			log.Debug("hardened", "key", step.name)
		}
	}
}

// openProcessName is where this process's name is written. It is opened once: the
// file belongs to root as soon as the process is not dumpable.
var openProcessName = sync.OnceValues(func() (int, error) {
	return unix.Open("/proc/self/comm", unix.O_WRONLY|unix.O_CLOEXEC, 0)
})

func setProcessName(name string) error {
	fd, err := openProcessName()
	if err == nil {
		_, err = unix.Write(fd, []byte(name))
	}
	return os.NewSyscallError("name the process", err)
}

// notDumpable closes /proc/PID/mem, environ and fd to other processes of this
// user, and ptrace(2) with them (PR_SET_DUMPABLE, prctl(2)).
func notDumpable() error {
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return err
	}
	on, err := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0)
	if err == nil && on != 0 {
		err = fmt.Errorf("still on")
	}
	return err
}

// noNewPrivileges acts on every thread; the flag is a thread's own. A binary
// built with cgo has threads that Go does not know, and gets an error.
func noNewPrivileges() error {
	if _, _, errno := syscall.AllThreadsSyscall6(syscall.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0, 0); errno != 0 {
		return errno
	}
	on, err := unix.PrctlRetInt(unix.PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0)
	if err == nil && on != 1 {
		err = fmt.Errorf("still off")
	}
	return err
}

func noCoreDumps() error {
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
		return err
	}
	var now unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_CORE, &now); err != nil {
		return err
	}
	if now.Cur != 0 || now.Max != 0 {
		return fmt.Errorf("limit is still %d", now.Cur)
	}
	return nil
}
