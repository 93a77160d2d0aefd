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

// An attempt is made behind the wall that it is listed under, and must fail
// as the wall makes it fail.
type attempt struct {
	wall, what string
	held       func() bool
}

// attempts are chosen so that any user could do each of them without the wall,
// or so that the answer tells that it was the wall.
var attempts = []attempt{
	{"limits", "a core dump is impossible", func() bool {
		var l unix.Rlimit
		return unix.Getrlimit(unix.RLIMIT_CORE, &l) == nil && l.Max == 0
	}},
	{"descriptors", "none but the first three", func() bool {
		for fd := 3; fd < 256; fd++ {
			if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err == nil && flags&unix.FD_CLOEXEC == 0 {
				return false
			}
		}
		return true
	}},
	{"privileges", "no new ones, no capabilities", func() bool {
		n, err := unix.PrctlRetInt(unix.PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0)
		return err == nil && n == 1 && !hasCapabilities()
	}},
	{"files", "list /", func() bool { return opens("/") == unix.EACCES }},
	{"files", "read /proc/self/status", func() bool { return opens("/proc/self/status") == unix.EACCES }},
	{"signals", "reach the keeper", func() bool { return unix.Kill(os.Getppid(), 0) == unix.EPERM }},
	{"system calls", "unshare", func() bool { return missing(unix.SYS_UNSHARE) }},
	{"system calls", "ptrace", func() bool { return missing(unix.SYS_PTRACE) }},
	{"system calls", "io_uring", func() bool { return missing(unix.SYS_IO_URING_SETUP) }},
	{"system calls", "bpf", func() bool { return missing(unix.SYS_BPF) }},
	{"system calls", "keyctl", func() bool { return missing(unix.SYS_KEYCTL) }},
	{"system calls", "clone3", func() bool { return missing(unix.SYS_CLONE3) }},
	{"sockets", "unix", func() bool { return noSocket(unix.AF_UNIX, unix.SOCK_STREAM, 0) }},
	{"sockets", "TCP", func() bool { return noSocket(unix.AF_INET, unix.SOCK_STREAM, 0) }},
	{"sockets", "multipath TCP", func() bool { return noSocket(unix.AF_INET, unix.SOCK_STREAM, unix.IPPROTO_MPTCP) }},
	{"sockets", "UDP", func() bool { return noSocket(unix.AF_INET6, unix.SOCK_DGRAM, 0) }},
	{"sockets", "netlink", func() bool { return noSocket(unix.AF_NETLINK, unix.SOCK_RAW, 0) }},
	{"attributes", "change the mode of a pipe that is ours", func() bool { return unix.Fchmod(1, 0o600) == unix.EPERM }},
}

func opens(path string) error {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err == nil {
		unix.Close(fd)
	}
	return err
}

func missing(nr uintptr) bool {
	_, _, errno := unix.Syscall(nr, 0, 0, 0)
	return errno == unix.ENOSYS
}

func noSocket(family, kind, protocol int) bool {
	fd, err := unix.Socket(family, kind, protocol)
	if err == nil {
		unix.Close(fd)
	}
	return err == unix.EACCES
}

// prober is a process behind the walls: it tries them all and says which gave
// way, then leaves a process behind that wants to outlive it.
func prober(self, what string) int {
	if what == "linger" {
		time.Sleep(time.Minute)
		return 0
	}
	for i, a := range attempts {
		if !a.held() {
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
		what, number, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		n, err := strconv.Atoi(number)
		switch {
		case err == nil && what == "breach":
			breaches[n] = true
		case err == nil && what == "orphan":
			orphan = n
		default:
			return nil, 0, fmt.Errorf("the probe said %q", line)
		}
	}
	if orphan == 0 {
		return nil, 0, errors.New("the probe ended early")
	}
	return breaches, orphan, nil
}
