package sandbox

import (
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A program that has this package is also a keeper, and one that tries the
// walls. It becomes that before the packages are initialised whose import paths
// come after this one's, which would take longer than building the walls.
func init() {
	switch {
	case len(os.Args) == 1 && os.Args[0] == keeperName:
		unix.Exit(keep()) // no runtime left to wait for
	case len(os.Args) == 3 && os.Args[1] == proberName:
		unix.Exit(prober(os.Args[0], os.Args[2]))
	}
}

// keep is a keeper's life: from the policy to the end of the tree. Until the
// program runs, and from its end on, it is one thread without goroutines: each
// change of threads would cost more than all walls together.
func keep() int {
	runtime.LockOSThread() // its Landlock domain and its signal mask are this thread's
	// The out-of-memory killer should take the tree before the gateway; the
	// tree inherits this. It is a wish, not a wall.
	if fd, err := unix.Open("/proc/self/oom_score_adj", unix.O_WRONLY|unix.O_CLOEXEC, 0); err == nil {
		unix.Write(fd, []byte("500"))
		unix.Close(fd)
	}
	s, err := readPolicy(descriptor(lifeline))
	if err == nil {
		_, err = unix.Write(lifeline, []byte{1})
	}
	k := &keeper{}
	if err == nil {
		err = k.start(s)
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "openclaw: sandbox: %v\n", err)
		return ExitRefused
	}
	return k.watch()
}

// lifeline is the keeper's end of the socket pair.
const lifeline = 3

// descriptor is read without the runtime's poller, and so without its threads.
type descriptor int

func (d descriptor) Read(b []byte) (int, error) {
	n, err := unix.Read(int(d), b)
	if n == 0 && err == nil {
		err = io.EOF
	}
	return max(n, 0), err
}

// keeper is a keeper whose program runs.
type keeper struct {
	pid, pidfd int
	guard      guard
	ended      bool // the program has
	status     unix.WaitStatus
}

// start builds the walls and starts the program behind them.
func (k *keeper) start(s *Spec) error {
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("not dumpable: %w", err)
	}
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("adopt orphans: %w", err)
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("no new privileges: %w", err)
	}
	if err := enclose(); err != nil {
		return err
	}
	for i, h := range s.Hidden {
		if real, err := filepath.EvalSymlinks(h); err == nil {
			s.Hidden[i] = real
		}
	}
	ruleset, err := rules(s)
	if err != nil {
		return err
	}
	prog, err := filter(s)
	if err != nil {
		return err
	}
	var report [2]int
	if err := unix.Pipe2(report[:], unix.O_CLOEXEC); err != nil {
		return err
	}
	var p pins
	defer p.Unpin()
	last := new([1]uint64)
	calls := childCalls(&p, s, ruleset, prog, last, report[1])
	all, none := ^uint64(0), uint64(0)
	sigmask(&all)
	pid, errno := fork(calls, last, uintptr(report[1]))
	sigmask(&none)
	unix.Close(report[1])
	if errno != 0 {
		return fmt.Errorf("fork: %w", errno)
	}
	// What the calls reported: the listener, and a failure if there was one.
	defer unix.Close(report[0])
	k.pid, k.guard = int(pid), guard{spec: s, census: census{most: s.Limits.Processes}}
	for {
		var b [8]byte
		if _, err := io.ReadFull(descriptor(report[0]), b[:]); err == io.EOF {
			break
		} else if err != nil {
			return err
		}
		word := binary.NativeEndian.Uint64(b[:])
		if word&failed != 0 {
			c, errno := calls[word&^failed>>32], syscall.Errno(uint32(word))
			return fmt.Errorf("%s: %w", c.what, errno)
		}
		k.guard.listener = int(word)
	}
	// Whoever reads what the program writes must see its end.
	if null, err := unix.Open("/dev/null", unix.O_RDWR|unix.O_CLOEXEC, 0); err == nil {
		for fd := range 3 {
			unix.Dup3(null, fd, 0)
		}
	}
	// Only the caller ends the tree. A supervisor that signals all of a
	// service's processes means the caller too.
	for _, s := range []unix.Signal{unix.SIGTERM, unix.SIGINT, unix.SIGHUP, unix.SIGQUIT} {
		handle(s, ignore)
	}
	k.pidfd, err = unix.PidfdOpen(k.pid, 0)
	return err
}

// enclose puts this thread into a Landlock domain from which no signal leaves.
// Everything that it starts is in it too, so that kill(-1) means exactly the
// tree, in one step that no fork slips through. That it holds is tried on the
// parent: without it, kill(-1) would be the end of all that this user runs.
func enclose() error {
	abi, err := landlockABI()
	if err != nil {
		return fmt.Errorf("ask for Landlock: %w", err)
	}
	if abi < needABI {
		return fmt.Errorf("version %d of Landlock is needed (Linux 6.12), this kernel has %d", needABI, abi)
	}
	fd, err := landlockRuleset(unix.LandlockRulesetAttr{Scoped: unix.LANDLOCK_SCOPE_SIGNAL})
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if _, _, errno := unix.Syscall(unix.SYS_LANDLOCK_RESTRICT_SELF, uintptr(fd), 0, 0); errno != 0 {
		return os.NewSyscallError("landlock_restrict_self", errno)
	}
	for _, pid := range []int{os.Getppid(), 1} {
		if err := unix.Kill(pid, 0); err != unix.EPERM {
			return fmt.Errorf("signals are not confined by Landlock (%v)", err)
		}
	}
	return nil
}

// childCalls is the child, from fork to exec.
func childCalls(p *pins, s *Spec, ruleset int, prog []unix.SockFilter, last *[1]uint64, report int) []call {
	var calls []call
	do := func(what string, nr uintptr, args ...uintptr) {
		c := call{what: what, nr: nr}
		copy(c.args[:], args)
		calls = append(calls, c)
	}
	wish := func(what string, nr uintptr, args ...uintptr) {
		do(what, nr, args...)
		calls[len(calls)-1].wish = true
	}
	do("new session", unix.SYS_SETSID)
	do("parent-death signal", unix.SYS_PRCTL, unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL))
	for sig := uintptr(1); sig <= 64; sig++ {
		if sig != uintptr(unix.SIGKILL) && sig != uintptr(unix.SIGSTOP) {
			do("signals", unix.SYS_RT_SIGACTION, sig, pin(p, new(sigaction)), 0, 8)
		}
	}
	do(s.Dir, unix.SYS_CHDIR, p.text(s.Dir))
	wish("lower priority", unix.SYS_SETPRIORITY, unix.PRIO_PROCESS, 0, uintptr(niceness())) // a hardened unit forbids it
	do("close descriptors", unix.SYS_CLOSE_RANGE, 3, 1<<32-1, unix.CLOSE_RANGE_CLOEXEC)
	for _, l := range limits(s.Limits) {
		do("limits", unix.SYS_PRLIMIT64, 0, uintptr(l.resource), pin(p, &l.Rlimit), 0)
	}
	if !s.Light {
		if os.Geteuid() == 0 {
			do("root without capabilities", unix.SYS_PRCTL, unix.PR_SET_SECUREBITS, secureBits)
		}
		if hasCapabilities() { // a unit that gives none forbids the call
			do("drop capabilities", unix.SYS_CAPSET, pin(p, &unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}), pin(p, new([2]unix.CapUserData)))
		}
	}
	do("Landlock", unix.SYS_LANDLOCK_RESTRICT_SELF, uintptr(ruleset), 0)
	do("signal mask", unix.SYS_RT_SIGPROCMASK, unix.SIG_SETMASK, pin(p, new(uint64)), 0, 8)
	p.Pin(&prog[0])
	do("seccomp", unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_NEW_LISTENER|unix.SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV,
		pin(p, &unix.SockFprog{Len: uint16(len(prog)), Filter: &prog[0]}))
	do("report", unix.SYS_WRITE, uintptr(report), pin(p, last), 8)
	do(s.Argv[0], unix.SYS_EXECVE, p.text(s.Argv[0]), p.list(s.Argv), p.list(s.Env))
	return calls
}

// niceness is what the tree gets: the keeper, which must be able to end it, and
// the gateway go first.
func niceness() int {
	raw, err := unix.Getpriority(unix.PRIO_PROCESS, 0) // 20 - nice
	if err != nil {
		return 5
	}
	return min(20-raw+5, 19)
}

func hasCapabilities() bool {
	var data [2]unix.CapUserData
	err := unix.Capget(&unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}, &data[0])
	return err != nil || data != [2]unix.CapUserData{}
}

// secureBits take from root what it is by being uid 0 (capabilities(7)):
// SECBIT_NOROOT, NO_SETUID_FIXUP and NO_CAP_AMBIENT_RAISE, and all locks.
const secureBits = 1 | 1<<1 | 1<<2 | 1<<3 | 1<<5 | 1<<6 | 1<<7

type limit struct {
	resource int
	unix.Rlimit
}

// limits are Limits as the kernel counts, none above what this process has.
func limits(l Limits) []*limit {
	processes := l.Processes
	if processes > 0 {
		// The kernel counts a user's threads, whoever started them; those of
		// the whole host are the least upper bound that costs nothing.
		var info unix.Sysinfo_t
		if unix.Sysinfo(&info) == nil {
			processes += uint64(info.Procs)
		}
	}
	// Go has raised the soft limit of descriptors for itself; programs with select(2) want the usual one.
	out := []*limit{{unix.RLIMIT_NOFILE, unix.Rlimit{Cur: 1024, Max: unix.RLIM_INFINITY}}, {resource: unix.RLIMIT_CORE}, {resource: unix.RLIMIT_MEMLOCK, Rlimit: unix.Rlimit{Cur: 8 << 20, Max: 8 << 20}}}
	for _, w := range []struct {
		resource int
		most     uint64
	}{{unix.RLIMIT_CPU, uint64((l.CPU + time.Second - 1) / time.Second)}, {unix.RLIMIT_AS, l.AddressSpace}, {unix.RLIMIT_FSIZE, l.FileSize},
		{unix.RLIMIT_NPROC, processes}, {unix.RLIMIT_NOFILE, l.Descriptors}} {
		if w.most > 0 {
			out = append(out, &limit{w.resource, unix.Rlimit{Cur: w.most, Max: w.most}})
		}
	}
	for _, x := range out {
		var now unix.Rlimit
		if unix.Getrlimit(x.resource, &now) == nil {
			x.Cur, x.Max = min(x.Cur, now.Max), min(x.Max, now.Max)
		}
	}
	return out
}

// watch keeps the tree until nothing of it is left, and returns its program's
// exit code, or ends as the program did.
func (k *keeper) watch() int {
	fds := []unix.PollFd{{Fd: int32(k.pidfd), Events: unix.POLLIN}, {Fd: lifeline, Events: unix.POLLIN}, {Fd: int32(k.guard.listener), Events: unix.POLLIN}}
	timeout, kill := 1000, false // orphans that have ended can wait that long
	var hard time.Time           // when SIGTERM has had its time
	for {
		n, _ := unix.Poll(fds, timeout)
		for i := range fds {
			if n <= 0 || fds[i].Revents == 0 {
				continue
			}
			switch i {
			case 0: // the program has ended
			case 1: // the caller has, or wants the end
				hard = time.Now().Add(termGrace)
				unix.Kill(-1, unix.SIGTERM)
				unix.Kill(-1, unix.SIGCONT) // the stopped hear it too
			case 2:
				if fds[i].Revents&unix.POLLIN != 0 {
					k.guard.answer()
					continue
				}
			}
			fds[i].Fd = -1
		}
		if !k.reap() {
			break
		}
		if kill || k.ended || !hard.IsZero() && time.Now().After(hard) {
			unix.Kill(-1, unix.SIGKILL)
			kill = true
		}
		if kill || !hard.IsZero() {
			timeout = 10
		}
	}
	if !k.status.Signaled() {
		return k.status.ExitStatus()
	}
	handle(k.status.Signal(), byDefault)
	unix.Kill(os.Getpid(), k.status.Signal())
	return 128 + int(k.status.Signal())
}

// reap waits for every descendant that has ended, orphans being this process's
// children, and reports whether any is left.
func (k *keeper) reap() bool {
	for {
		var status unix.WaitStatus
		pid, err := unix.Wait4(-1, &status, unix.WNOHANG, nil)
		if pid == k.pid {
			k.ended, k.status = true, status
		}
		if pid == 0 || err != nil {
			return err != unix.ECHILD
		}
	}
}
