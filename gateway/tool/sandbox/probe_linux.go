package sandbox

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	proberName   = "openclaw-sandbox-probe" // argv[1] of a process that tries the walls
	probeTimeout = 5 * time.Second
)

// An attempt must fail behind the wall that it is listed under; nil is a breach.
type attempt struct {
	wall, what string
	try        func() error
}

// attempts are chosen so that any user could do each of them without the wall,
// or so that the answer tells that it was the wall.
var attempts = []attempt{
	{"limits", "a core dump is impossible", func() error {
		var l unix.Rlimit
		return is(unix.Getrlimit(unix.RLIMIT_CORE, &l) == nil && l.Max == 0)
	}},
	{"descriptors", "none but the first three", func() error {
		for fd := 3; fd < 256; fd++ {
			if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err == nil && flags&unix.FD_CLOEXEC == 0 {
				return nil
			}
		}
		return errWall
	}},
	{"privileges", "no new ones, no capabilities", func() error {
		n, err := unix.PrctlRetInt(unix.PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0)
		return is(err == nil && n == 1 && !hasCapabilities())
	}},
	{"files", "list /", func() error { return opens("/", unix.O_RDONLY, unix.EACCES) }},
	{"files", "read /proc/self/status", func() error { return opens("/proc/self/status", unix.O_RDONLY, unix.EACCES) }},
	{"signals", "reach the keeper", func() error { return refused(unix.Kill(os.Getppid(), 0), unix.EPERM) }},
	{"system calls", "unshare", func() error { return refused(unix.Unshare(unix.CLONE_FS), unix.ENOSYS) }},
	{"system calls", "ptrace", func() error { return raw(unix.ENOSYS, unix.SYS_PTRACE, unix.PTRACE_TRACEME) }},
	{"system calls", "io_uring", func() error { return raw(unix.ENOSYS, unix.SYS_IO_URING_SETUP) }},
	{"system calls", "bpf", func() error { return raw(unix.ENOSYS, unix.SYS_BPF) }},
	{"system calls", "keyctl", func() error { return raw(unix.ENOSYS, unix.SYS_KEYCTL) }},
	{"system calls", "clone3", func() error { return raw(unix.ENOSYS, unix.SYS_CLONE3) }},
	{"sockets", "unix", func() error { return socket(unix.AF_UNIX, unix.SOCK_STREAM, 0) }},
	{"sockets", "TCP", func() error { return socket(unix.AF_INET, unix.SOCK_STREAM, 0) }},
	{"sockets", "multipath TCP", func() error { return socket(unix.AF_INET, unix.SOCK_STREAM, unix.IPPROTO_MPTCP) }},
	{"sockets", "UDP", func() error { return socket(unix.AF_INET6, unix.SOCK_DGRAM, 0) }},
	{"sockets", "netlink", func() error { return socket(unix.AF_NETLINK, unix.SOCK_RAW, 0) }},
	{"attributes", "change the mode of a pipe that is ours", func() error { return refused(unix.Fchmod(1, 0o600), unix.EPERM) }},
}

var errWall = errors.New("refused")

func is(held bool) error {
	if held {
		return errWall
	}
	return nil
}

// refused wants exactly the error that the wall gives.
func refused(err error, want unix.Errno) error {
	return is(errors.Is(err, want))
}

func opens(path string, flags int, want unix.Errno) error {
	fd, err := unix.Open(path, flags, 0)
	if err == nil {
		unix.Close(fd)
	}
	return refused(err, want)
}

func raw(want unix.Errno, nr uintptr, args ...uintptr) error {
	var a [3]uintptr
	copy(a[:], args)
	_, _, errno := unix.Syscall(nr, a[0], a[1], a[2])
	return is(errno == want)
}

func socket(family, kind, protocol int) error {
	fd, err := unix.Socket(family, kind, protocol)
	if err == nil {
		unix.Close(fd)
	}
	return refused(err, unix.EACCES)
}

// prober is a process behind the walls: it tries them all and says which gave
// way, then leaves a process behind that wants to outlive it.
func prober(self, what string) int {
	if what == "linger" {
		time.Sleep(time.Minute)
		return 0
	}
	for i, a := range attempts {
		if a.try() == nil {
			fmt.Fprintln(os.Stdout, "breach", i)
		}
	}
	p, err := os.StartProcess(self, []string{self, proberName, "linger"}, &os.ProcAttr{Env: []string{}, Sys: &syscall.SysProcAttr{Setsid: true}})
	if err != nil {
		fmt.Fprintln(os.Stdout, "cannot start a process:", err)
		return 1
	}
	fmt.Fprintln(os.Stdout, "orphan", p.Pid)
	return 0
}

// Probe starts a process behind the walls that tries each of them from inside,
// and reports which hold. It takes some milliseconds, at most five seconds.
func Probe() Layers {
	ctx, cancel := context.WithTimeout(context.Background(), probeTimeout)
	defer cancel()
	breaches, orphan, err := probe(ctx)
	var out Layers
	for i, a := range attempts {
		if n := len(out); n == 0 || out[n-1].Name != a.wall {
			out = append(out, Layer{Name: a.wall, On: err == nil})
		}
		l := &out[len(out)-1]
		switch {
		case err != nil:
			l.Detail = err.Error()
		case breaches[i]:
			l.On, l.Detail = false, "not closed: "+a.what
		case l.On:
			l.Detail = strings.TrimPrefix(l.Detail+", "+a.what, ", ")
		}
	}
	last := Layer{Name: "processes", On: err == nil, Detail: "none outlives its program"}
	if err != nil {
		last.Detail = err.Error()
	} else if unix.Kill(orphan, 0) != unix.ESRCH {
		last.On, last.Detail = false, "a process outlived its program"
	}
	return append(out, last)
}

func probe(ctx context.Context) (breaches map[int]bool, orphan int, err error) {
	self, err := os.Executable()
	if err != nil {
		return nil, 0, err
	}
	cmd, err := Command(ctx, Spec{Argv: []string{self, proberName, "walls"}, Dir: "/", Read: []string{self}})
	if err != nil {
		return nil, 0, err
	}
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		if text := strings.TrimSpace(errs.String()); text != "" {
			err = errors.New(strings.TrimPrefix(text, "openclaw: sandbox: "))
		}
		return nil, 0, err
	}
	breaches = map[int]bool{}
	for line := range strings.Lines(out.String()) {
		word, number, _ := strings.Cut(strings.TrimSpace(line), " ")
		n, err := strconv.Atoi(number)
		switch {
		case err != nil:
			return nil, 0, fmt.Errorf("the probe said %q", line)
		case word == "breach":
			breaches[n] = true
		case word == "orphan":
			orphan = n
		}
	}
	if orphan == 0 {
		return nil, 0, errors.New("the probe ended early")
	}
	return breaches, orphan, nil
}
