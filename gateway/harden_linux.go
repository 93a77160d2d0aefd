package gateway

import (
	"fmt"
	"log/slog"
	"syscall"

	"golang.org/x/sys/unix"
)

// harden gives up what the gateway never needs, for good: gaining privileges
// by executing a set-user-ID program (PR_SET_NO_NEW_PRIVS, prctl(2)), and core
// dumps, which would hold secrets. Each step looks whether it took effect. The
// process stays dumpable, for otherwise its user's lsof, and --force of another
// gateway, could not see whose port this is.
func harden(log *slog.Logger) {
	for _, step := range []struct {
		name string
		do   func() error
	}{{"no new privileges", noNewPrivileges}, {"no core dumps", noCoreDumps}} {
		if err := step.do(); err != nil {
			log.Debug("hardening step failed", "key", step.name, "err", err)
		} else {
			log.Debug("hardened", "key", step.name)
		}
	}
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
