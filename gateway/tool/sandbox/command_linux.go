package sandbox

import (
	"context"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// keeperName is argv[0] of a process that is to be a keeper.
const keeperName = "openclaw-sandbox"

// startTimeout is how long a command may take from Start to having read its policy.
const startTimeout = 10 * time.Second

// enclosed makes cmd one that starts a keeper. Policy and lifeline are one socket pair: the
// keeper answers the policy with a byte, and from then on its end of file means
// that the tree is to end. Thus nothing depends on the thread that started it,
// as a parent-death signal does.
func enclosed(ctx context.Context, cmd *exec.Cmd, s *Spec) error {
	policy, err := s.encode()
	if err != nil {
		return err
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("socketpair", err)
	}
	unix.SetNonblock(pair[0], true) // read through the poller, so that Close wakes the reader
	ours, theirs := os.NewFile(uintptr(pair[0]), "lifeline"), os.NewFile(uintptr(pair[1]), "policy")
	cut := sync.OnceFunc(func() { ours.Close() })
	unwatch := context.AfterFunc(ctx, cut)
	go func() {
		defer unwatch()
		defer cut()
		ours.SetWriteDeadline(time.Now().Add(startTimeout))
		ours.SetReadDeadline(time.Now().Add(startTimeout))
		_, err := ours.Write(policy)
		var ack [1]byte
		if err == nil {
			_, err = ours.Read(ack[:])
		}
		if err != nil {
			return // theirs may be in use by Start: it goes with the command
		}
		syscall.ForkLock.RLock() // Start has let go of it
		theirs.Close()           // the keeper has its own
		syscall.ForkLock.RUnlock()
		ours.SetReadDeadline(time.Time{})
		ours.Read(ack[:]) // until the keeper ends, or cut
	}()
	cmd.Path, cmd.Args, cmd.Dir = "/proc/self/exe", []string{keeperName}, "/"
	cmd.Env = []string{"GOMAXPROCS=1", "GOGC=off", "GOTRACEBACK=none"}
	cmd.ExtraFiles = []*os.File{theirs}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	cmd.Cancel = func() error { cut(); return nil }
	return nil
}
