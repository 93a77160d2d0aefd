package sandbox

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// world is what an attacker is told. Out is a directory that is none of its
// business, with a file "secret" and a directory "dir"; Work is its workspace.
// The victim stands in for the gateway: same user, with a secret in its
// environment and an open file, listening.
type world struct {
	Victim, Fd, Shm       int
	Out, Work             string
	TCP, TCP2             int
	UDP                   int
	Unix, Dgram, Abstract string
}

const canary = "canary-b1946ac92492d234"

func (w *world) secret() string          { return filepath.Join(w.Out, "secret") }
func (w *world) proc(name string) string { return fmt.Sprintf("/proc/%d/%s", w.Victim, name) }

// An attack returns nil if it did what it must not.
type attack struct {
	id, row, what string // row is that of the attack lists in the security research
	root          bool   // only root could do it without the walls
	try           func(w *world) error
}

func open(path string, flags int, mode uint32) error {
	fd, err := unix.Open(path, flags, mode)
	if err == nil {
		unix.Close(fd)
	}
	return err
}

func readAll(path string) error { // no Go file: the poller is a wall of its own
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	_, err = unix.Read(fd, make([]byte, 64))
	return err
}

func sys(nr uintptr, args ...uintptr) error {
	var a [6]uintptr
	copy(a[:], args)
	if _, _, errno := unix.Syscall6(nr, a[0], a[1], a[2], a[3], a[4], a[5]); errno != 0 {
		return errno
	}
	return nil
}

// clone makes a process that ends at once: in a copy of one thread no Go can
// run, and waiting for its own scheduler it would stay for ever.
//
//go:norace
//go:nosplit
func clone(nr, a, b uintptr) error {
	pid, _, errno := syscall.RawSyscall6(nr, a, b, 0, 0, 0, 0)
	for errno == 0 && pid == 0 {
		syscall.RawSyscall(unix.SYS_EXIT_GROUP, 0, 0, 0)
	}
	if errno != 0 {
		return errno
	}
	return nil
}

func ptr[T any](v *T) uintptr { return uintptr(unsafe.Pointer(v)) }
func cstr(s string) uintptr   { b := append([]byte(s), 0); return ptr(&b[0]) }

func sock(family, kind, proto int, then func(fd int) error) error {
	fd, err := unix.Socket(family, kind, proto)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if then == nil {
		return nil
	}
	return then(fd)
}

func loop(port int) unix.Sockaddr {
	return &unix.SockaddrInet4{Port: port, Addr: [4]byte{127, 0, 0, 1}}
}
func connect(to unix.Sockaddr) func(int) error {
	return func(fd int) error { return unix.Connect(fd, to) }
}
func listen(fd int) error {
	if err := unix.Bind(fd, loop(0)); err != nil {
		return err
	}
	return unix.Listen(fd, 1)
}

func link(w *world, to string) string {
	name := filepath.Join(w.Work, "link")
	os.Symlink(to, name)
	return name
}

func mode4(path string, want uint32) error {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return err
	}
	if st.Mode&0o7777 != want {
		return errors.New("nothing changed")
	}
	return nil
}

func first(errs ...error) error {
	for _, e := range errs {
		if e != nil {
			return e
		}
	}
	return nil
}

var attacks = []attack{
	// Files.
	{"read", "F01", "read a file by its absolute path", false, func(w *world) error { return readAll(w.secret()) }},
	{"read-dotdot", "F01", "read it by a path out of the workspace", false, func(w *world) error { return readAll("../out/secret") }},
	{"read-root", "F01", "read it by /proc/self/root", false, func(w *world) error { return readAll("/proc/self/root" + w.secret()) }},
	{"read-cwd", "F01", "read it by /proc/self/cwd", false, func(w *world) error { return readAll("/proc/self/cwd/../out/secret") }},
	{"list", "F01", "list a directory outside", false, func(w *world) error { return open(w.Out, unix.O_RDONLY|unix.O_DIRECTORY, 0) }},
	{"list-root", "F01", "list /", false, func(*world) error { return open("/", unix.O_RDONLY|unix.O_DIRECTORY, 0) }},
	{"list-etc", "F01", "list /etc", false, func(*world) error { return open("/etc", unix.O_RDONLY|unix.O_DIRECTORY, 0) }},
	{"shadow", "F01", "read /etc/shadow", true, func(*world) error { return readAll("/etc/shadow") }},
	{"symlink-read", "F02", "read it through a link in the workspace", false, func(w *world) error { return readAll(link(w, w.secret())) }},
	{"symlink-create", "F02", "create a file through a dangling link", false, func(w *world) error {
		return open(link(w, w.Out+"/new"), unix.O_CREAT|unix.O_WRONLY, 0o600)
	}},
	{"hardlink", "F03", "give it a second name in the workspace", false, func(w *world) error { return unix.Link(w.secret(), w.Work+"/hard") }},
	{"rename-in", "F02", "move it into the workspace", false, func(w *world) error { return unix.Rename(w.secret(), w.Work+"/moved") }},
	{"rename-out", "F08", "move a file out of the workspace", false, func(w *world) error {
		return first(open(w.Work+"/mine", unix.O_CREAT|unix.O_WRONLY, 0o600), unix.Rename(w.Work+"/mine", w.Out+"/theirs"))
	}},
	{"exchange", "F02", "exchange it for a file of the workspace", false, func(w *world) error {
		return first(open(w.Work+"/mine", unix.O_CREAT|unix.O_WRONLY, 0o600), unix.Renameat2(unix.AT_FDCWD, w.Work+"/mine", unix.AT_FDCWD, w.secret(), unix.RENAME_EXCHANGE))
	}},
	{"write", "F08", "write to it", false, func(w *world) error { return open(w.secret(), unix.O_WRONLY, 0) }},
	{"append", "F12", "append to it", false, func(w *world) error { return open(w.secret(), unix.O_WRONLY|unix.O_APPEND, 0) }},
	{"truncate", "F08", "truncate it", false, func(w *world) error { return unix.Truncate(w.secret(), 0) }},
	{"open-truncate", "F08", "truncate it by opening it for reading", false, func(w *world) error { return open(w.secret(), unix.O_RDONLY|unix.O_TRUNC, 0) }},
	{"unlink", "F08", "remove it", false, func(w *world) error { return unix.Unlink(w.secret()) }},
	{"create", "F08", "create a file beside it", false, func(w *world) error { return open(w.Out+"/new", unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY, 0o600) }},
	{"tmpfile", "F08", "create a nameless file outside", false, func(w *world) error { return open(w.Out, unix.O_TMPFILE|unix.O_RDWR, 0o600) }},
	{"mkdir", "F08", "create a directory outside", false, func(w *world) error { return unix.Mkdir(w.Out+"/new", 0o700) }},
	{"rmdir", "F08", "remove a directory outside", false, func(w *world) error { return unix.Rmdir(w.Out + "/dir") }},
	{"symlink", "F12", "create a link outside", false, func(w *world) error { return unix.Symlink("/etc/passwd", w.Out+"/log") }},
	{"fifo", "F04", "create a FIFO outside", false, func(w *world) error { return unix.Mkfifo(w.Out+"/fifo", 0o600) }},
	{"socket-node", "F04", "create a socket's node in the workspace", false, func(w *world) error { return unix.Mknod(w.Work+"/node", unix.S_IFSOCK|0o600, 0) }},
	{"device", "F04", "create a device in the workspace", true, func(w *world) error { return unix.Mknod(w.Work+"/mem", unix.S_IFCHR|0o600, 1<<8|3) }},
	{"chmod", "F09", "change its mode", false, func(w *world) error { return first(unix.Chmod(w.secret(), 0o666), mode4(w.secret(), 0o666)) }},
	{"fchmodat2", "F09", "change its mode by the younger call", false, func(w *world) error {
		return first(sys(unix.SYS_FCHMODAT2, ^uintptr(99), cstr(w.secret()), 0o666, 0), mode4(w.secret(), 0o666))
	}},
	{"chmod-relative", "F09", "change its mode by a path out of the workspace", false, func(w *world) error { return unix.Chmod("../out/secret", 0o666) }},
	{"chmod-link", "F02", "change its mode through a link in the workspace", false, func(w *world) error { return unix.Chmod(link(w, w.secret()), 0o666) }},
	{"chmod-root", "F09", "change its mode by /proc/self/root", false, func(w *world) error { return unix.Chmod("/proc/self/root"+w.secret(), 0o666) }},
	{"chmod-cwd", "F09", "change its mode by /proc/self/cwd", false, func(w *world) error { return unix.Chmod("/proc/self/cwd/../out/secret", 0o666) }},
	{"chmod-parent", "F09", "change its mode by the working directory of the parent", false, func(w *world) error {
		dir := fmt.Sprintf("/proc/%d/cwd", os.Getppid())
		if at, err := os.Readlink(dir); err == nil {
			at, err = filepath.Rel(at, w.secret())
			return first(err, unix.Chmod(dir+"/"+at, 0o666))
		}
		return unix.Chmod(dir+w.secret(), 0o666) // a keeper's is /
	}},
	{"chmod-fd", "F09", "change its mode by a descriptor without rights", false, func(w *world) error {
		fd, err := unix.Open(w.secret(), unix.O_PATH, 0)
		return first(err, unix.Chmod(fmt.Sprintf("/proc/self/fd/%d", fd), 0o666))
	}},
	{"chmod-fd-empty", "F09", "change its mode by a descriptor and no path", false, func(w *world) error {
		fd, err := unix.Open(w.secret(), unix.O_PATH, 0)
		return first(err, sys(unix.SYS_FCHMODAT2, uintptr(fd), cstr(""), 0o666, unix.AT_EMPTY_PATH))
	}},
	{"chmod-dir", "F09", "open a directory outside to everybody", false, func(w *world) error { return unix.Chmod(w.Out, 0o777) }},
	{"chown", "F09", "change its group", false, func(w *world) error { return unix.Chown(w.secret(), -1, os.Getgid()) }},
	{"utimes", "F11", "change its times", false, func(w *world) error { return unix.Utimes(w.secret(), []unix.Timeval{{}, {}}) }},
	{"acl", "F09", "give it an extended attribute", false, func(w *world) error { return unix.Setxattr(w.secret(), "user.x", []byte("y"), 0) }},
	{"setuid", "E13", "leave a set-user-ID program in the workspace", false, func(w *world) error {
		return first(open(w.Work+"/su", unix.O_CREAT|unix.O_WRONLY, 0o755), unix.Chmod(w.Work+"/su", 0o4755), mode4(w.Work+"/su", 0o4755))
	}},
	{"setuid-create", "E13", "create one with that mode", false, func(w *world) error {
		unix.Umask(0)
		return first(open(w.Work+"/su", unix.O_CREAT|unix.O_WRONLY, 0o4755), mode4(w.Work+"/su", 0o4755))
	}},
	{"execute", "E02", "execute a program outside", false, func(w *world) error {
		p, err := os.StartProcess(w.Out+"/true", []string{"true"}, &os.ProcAttr{})
		if err == nil {
			p.Wait()
		}
		return err
	}},
	{"handle", "F01", "open it by its handle", true, func(w *world) error {
		h, _, err := unix.NameToHandleAt(unix.AT_FDCWD, w.secret(), 0)
		if err != nil {
			return err
		}
		dir, err := unix.Open(w.Work, unix.O_RDONLY, 0)
		if err != nil {
			return err
		}
		_, err = unix.OpenByHandleAt(dir, h, unix.O_RDONLY)
		return err
	}},
	{"inotify", "F01", "watch a directory outside", false, func(w *world) error {
		fd, err := unix.InotifyInit1(0)
		if err != nil {
			return err
		}
		_, err = unix.InotifyAddWatch(fd, w.Out, unix.IN_CREATE)
		return err
	}},
	{"lock", "F18", "take the lock of a file outside", false, func(w *world) error {
		fd, err := unix.Open(w.secret(), unix.O_RDONLY, 0)
		return first(err, unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB))
	}},
	{"devmem", "E13", "open the host's memory", true, func(*world) error { return open("/dev/mem", unix.O_RDONLY, 0) }},
	{"terminal", "E13", "open a terminal", false, func(*world) error { return open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY, 0) }},

	// Environment and descriptors.
	{"environment", "E08", "find a secret in the environment", false, func(*world) error {
		if slices.ContainsFunc(os.Environ(), func(e string) bool { return strings.HasPrefix(e, "GATEWAY_SECRET=") }) {
			return nil
		}
		return errors.New("not there")
	}},
	{"descriptor", "E09", "find an open descriptor", false, func(w *world) error {
		_, err := unix.Pread(w.Fd, make([]byte, 1), 0)
		return err
	}},

	// The gateway's process.
	{"environ", "E10", "read the gateway's environment", false, func(w *world) error { return readAll(w.proc("environ")) }},
	{"mem", "E10", "open the gateway's memory", false, func(w *world) error { return open(w.proc("mem"), unix.O_RDWR, 0) }},
	{"maps", "E10", "read the gateway's memory map", false, func(w *world) error { return readAll(w.proc("maps")) }},
	{"cmdline", "E10", "read the gateway's arguments", false, func(w *world) error { return readAll(w.proc("cmdline")) }},
	{"proc-fd", "E10", "open what the gateway has open", false, func(w *world) error { return readAll(w.proc(fmt.Sprintf("fd/%d", w.Fd))) }},
	{"proc-root", "E10", "read a file by the gateway's root", false, func(w *world) error { return readAll(w.proc("root") + w.secret()) }},
	{"ptrace", "E10", "trace the gateway", false, func(w *world) error { return sys(unix.SYS_PTRACE, unix.PTRACE_SEIZE, uintptr(w.Victim)) }},
	{"vm-read", "E10", "read the gateway's memory at once", false, func(w *world) error {
		var b [8]byte
		var addr uint64
		if raw, err := os.ReadFile(w.proc("maps")); err == nil {
			fmt.Sscanf(string(raw), "%x-", &addr)
		}
		_, err := unix.ProcessVMReadv(w.Victim, []unix.Iovec{{Base: &b[0], Len: 8}}, []unix.RemoteIovec{{Base: uintptr(addr), Len: 8}}, 0)
		return err
	}},
	{"getfd", "E10", "take a descriptor from the gateway", false, func(w *world) error {
		fd, err := unix.PidfdOpen(w.Victim, 0)
		if err != nil {
			return err
		}
		_, err = unix.PidfdGetfd(fd, w.Fd, 0)
		return err
	}},
	{"kcmp", "E10", "compare kernel objects with the gateway's", false, func(w *world) error { return sys(unix.SYS_KCMP, uintptr(w.Victim), uintptr(os.Getpid()), 1, 0, 0) }},
	{"kill", "E10", "signal the gateway", false, func(w *world) error { return unix.Kill(w.Victim, unix.SIGCONT) }},
	{"kill-keeper", "E14", "signal what keeps it", false, func(w *world) error { return unix.Kill(os.Getppid(), unix.SIGCONT) }},
	{"kill-thread", "E10", "signal a thread of the gateway", false, func(w *world) error { return unix.Tgkill(w.Victim, w.Victim, unix.SIGCONT) }},
	{"pidfd-signal", "E19", "signal the gateway by a descriptor", false, func(w *world) error {
		fd, err := unix.PidfdOpen(w.Victim, 0)
		return first(err, unix.PidfdSendSignal(fd, unix.SIGCONT, nil, 0))
	}},
	{"sigqueue", "E10", "queue a signal for the gateway", false, func(w *world) error {
		info := [32]uint32{uint32(unix.SIGCONT), 0, ^uint32(0)} // SI_QUEUE
		return sys(unix.SYS_RT_SIGQUEUEINFO, uintptr(w.Victim), uintptr(unix.SIGCONT), ptr(&info))
	}},
	{"prlimit", "E14", "set the gateway's limits", false, func(w *world) error { return unix.Prlimit(w.Victim, unix.RLIMIT_CORE, &unix.Rlimit{}, nil) }},
	{"priority", "E14", "make the gateway nicer", false, func(w *world) error { return unix.Setpriority(unix.PRIO_PROCESS, w.Victim, 1) }},
	{"affinity", "E14", "bind the gateway to a processor", false, func(w *world) error {
		var set unix.CPUSet
		return first(unix.SchedGetaffinity(w.Victim, &set), unix.SchedSetaffinity(w.Victim, &set))
	}},
	{"scheduler", "E14", "give the gateway another scheduling class", false, func(w *world) error {
		param := int32(0)
		return sys(unix.SYS_SCHED_SETSCHEDULER, uintptr(w.Victim), 3, ptr(&param)) // SCHED_BATCH
	}},
	{"ioprio", "E14", "give the gateway another I/O class", false, func(w *world) error { return sys(unix.SYS_IOPRIO_SET, 1, uintptr(w.Victim), 2<<13|7) }},
	{"shm", "E10", "attach shared memory of another process", false, func(w *world) error {
		_, err := unix.SysvShmAttach(w.Shm, 0, 0)
		return err
	}},

	// The network and its like.
	{"tcp", "E12", "connect to a port of this host", false, func(w *world) error { return sock(unix.AF_INET, unix.SOCK_STREAM, 0, connect(loop(w.TCP))) }},
	{"mptcp", "E12b", "connect by multipath TCP", false, func(w *world) error {
		return sock(unix.AF_INET, unix.SOCK_STREAM, unix.IPPROTO_MPTCP, connect(loop(w.TCP)))
	}},
	{"fastopen", "E12", "connect by TCP fast open", false, func(w *world) error {
		return sock(unix.AF_INET, unix.SOCK_STREAM, 0, func(fd int) error { return unix.Sendto(fd, []byte("x"), unix.MSG_FASTOPEN, loop(w.TCP)) })
	}},
	{"listen", "E12", "listen on a port", false, func(*world) error { return sock(unix.AF_INET, unix.SOCK_STREAM, 0, listen) }},
	{"listen-unbound", "E12", "listen without a port", false, func(*world) error {
		return sock(unix.AF_INET, unix.SOCK_STREAM, 0, func(fd int) error { return unix.Listen(fd, 1) })
	}},
	{"listen-mptcp", "E12b", "listen by multipath TCP", false, func(*world) error { return sock(unix.AF_INET, unix.SOCK_STREAM, unix.IPPROTO_MPTCP, listen) }},
	{"udp", "E12", "send a datagram", false, func(w *world) error {
		return sock(unix.AF_INET, unix.SOCK_DGRAM, 0, func(fd int) error { return unix.Sendto(fd, []byte("x"), 0, loop(w.UDP)) })
	}},
	{"udp6", "E12", "have an IPv6 datagram socket", false, func(*world) error { return sock(unix.AF_INET6, unix.SOCK_DGRAM, 0, nil) }},
	{"unix", "E11", "connect to a socket outside", false, func(w *world) error {
		return sock(unix.AF_UNIX, unix.SOCK_STREAM, 0, connect(&unix.SockaddrUnix{Name: w.Unix}))
	}},
	{"unix-pair", "E11", "send to a socket outside from a pair", false, func(w *world) error {
		fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_DGRAM, 0)
		return first(err, unix.Sendto(fds[0], []byte("x"), 0, &unix.SockaddrUnix{Name: w.Dgram}))
	}},
	{"abstract", "E11", "connect to an abstract socket", false, func(w *world) error {
		return sock(unix.AF_UNIX, unix.SOCK_STREAM, 0, connect(&unix.SockaddrUnix{Name: w.Abstract}))
	}},
	{"unix-listen", "E11", "listen on a socket in the workspace", false, func(w *world) error {
		return sock(unix.AF_UNIX, unix.SOCK_STREAM, 0, func(fd int) error { return unix.Bind(fd, &unix.SockaddrUnix{Name: "s"}) })
	}},
	{"netlink", "E12", "ask netlink", false, func(*world) error { return sock(unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_ROUTE, nil) }},
	{"alg", "E12", "use the kernel's ciphers", false, func(*world) error { return sock(unix.AF_ALG, unix.SOCK_SEQPACKET, 0, nil) }},
	{"vsock", "E12", "talk to the hypervisor", false, func(*world) error { return sock(unix.AF_VSOCK, unix.SOCK_STREAM, 0, nil) }},
	{"raw", "E12", "have a raw socket", true, func(*world) error { return sock(unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_ICMP, nil) }},
	{"packet", "E12", "listen to the wire", true, func(*world) error { return sock(unix.AF_PACKET, unix.SOCK_RAW, 0, nil) }},
	{"io-uring", "E12", "set up io_uring", false, func(*world) error { var p [120]byte; return sys(unix.SYS_IO_URING_SETUP, 1, ptr(&p)) }},

	// The kernel's other doors.
	{"userns", "E13", "enter a new user namespace", false, func(*world) error { return clone(unix.SYS_CLONE, unix.CLONE_NEWUSER|uintptr(unix.SIGCHLD), 0) }},
	{"clone3", "E13", "do so by clone3", false, func(*world) error {
		args := [11]uint64{0: unix.CLONE_NEWUSER, 4: uint64(unix.SIGCHLD)}
		return clone(unix.SYS_CLONE3, ptr(&args), 88)
	}},
	{"unshare", "E13", "leave the IPC namespace", true, func(*world) error { return unix.Unshare(unix.CLONE_NEWIPC) }},
	{"mount", "E13", "mount over a directory", true, func(w *world) error {
		return first(unix.Unshare(unix.CLONE_NEWNS), unix.Mount("none", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""), unix.Mount("none", w.Out, "tmpfs", 0, ""))
	}},
	{"fsopen", "E13", "make a file system", true, func(*world) error { _, err := unix.Fsopen("tmpfs", 0); return err }},
	{"open-tree", "E13", "clone a mount", true, func(w *world) error { _, err := unix.OpenTree(unix.AT_FDCWD, w.Out, unix.OPEN_TREE_CLONE); return err }},
	{"setns", "E13", "enter the gateway's namespaces", true, func(w *world) error {
		fd, err := unix.PidfdOpen(w.Victim, 0)
		return first(err, unix.Setns(fd, unix.CLONE_NEWUTS))
	}},
	{"chroot", "E13", "change the root", true, func(w *world) error { return unix.Chroot(w.Work) }},
	{"keyring", "E13", "add a key", false, func(*world) error {
		_, err := unix.AddKey("user", "x", []byte("y"), unix.KEY_SPEC_PROCESS_KEYRING)
		return err
	}},
	{"keyring-read", "E13", "search the session's keys", false, func(*world) error { _, err := unix.KeyctlGetKeyringID(unix.KEY_SPEC_USER_KEYRING, true); return err }},
	{"bpf", "E13", "load a map", true, func(*world) error {
		attr := [32]uint32{2, 4, 4, 1} // an array of one
		return sys(unix.SYS_BPF, 0, ptr(&attr), 128)
	}},
	{"perf", "E13", "count events of the kernel", true, func(*world) error {
		attr := [16]uint64{1 | 128<<32}
		return sys(unix.SYS_PERF_EVENT_OPEN, ptr(&attr), 0, ^uintptr(0), ^uintptr(0), 0)
	}},
	{"userfaultfd", "E13", "handle page faults", true, func(*world) error { return sys(unix.SYS_USERFAULTFD, 0) }},
	{"personality", "E13", "turn off address randomisation", false, func(*world) error { return sys(unix.SYS_PERSONALITY, 0x40000) }},
	{"fanotify", "E13", "watch the file system", false, func(*world) error {
		_, err := unix.FanotifyInit(unix.FAN_CLASS_NOTIF|unix.FAN_REPORT_FID, 0)
		return err
	}},
	{"mqueue", "E13", "open a message queue", false, func(*world) error {
		return sys(unix.SYS_MQ_OPEN, cstr("openclaw-test"), unix.O_CREAT|unix.O_RDWR, 0o600, 0)
	}},
	{"hostname", "E13", "name the host", true, func(*world) error {
		var u unix.Utsname
		unix.Uname(&u)
		return unix.Sethostname([]byte(unix.ByteSliceToString(u.Nodename[:])))
	}},
	{"syslog", "E13", "read the kernel's log", true, func(*world) error { return sys(unix.SYS_SYSLOG, 10) }},
	{"seccomp", "E13", "put a filter of its own over the guard", false, func(*world) error {
		unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
		f := unix.SockFilter{Code: unix.BPF_RET, K: unix.SECCOMP_RET_ALLOW}
		return sys(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, 0, ptr(&unix.SockFprog{Len: 1, Filter: &f}))
	}},
	{"core", "E14", "leave a core dump", false, func(*world) error {
		var l unix.Rlimit
		if unix.Getrlimit(unix.RLIMIT_CORE, &l); l.Max == 0 {
			return errors.New("its limit is 0")
		}
		return nil
	}},
}

const attackArg = "attack"

func init() {
	roles[attackArg] = func(args []string) int {
		var w world
		i := slices.IndexFunc(attacks, func(a attack) bool { return a.id == args[0] })
		if err := json.Unmarshal([]byte(args[1]), &w); err != nil || i < 0 {
			return 9
		}
		if err := attacks[i].try(&w); err != nil {
			fmt.Println("refused:", err)
		} else {
			fmt.Println("done")
		}
		return 0
	}
}

// newWorld makes the victim of this very process.
func newWorld(t *testing.T) *world {
	t.Helper()
	os.Setenv("GATEWAY_SECRET", canary)
	dir := t.TempDir()
	w := &world{Victim: os.Getpid(), Unix: dir + "/stream", Dgram: dir + "/dgram", Abstract: fmt.Sprintf("@openclaw-test-%d", os.Getpid())}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{w.Unix, w.Abstract} {
		l, err := net.Listen("unix", name)
		must(err)
		t.Cleanup(func() { l.Close() })
	}
	d, err := net.ListenPacket("unixgram", w.Dgram)
	must(err)
	t.Cleanup(func() { d.Close() })
	for _, port := range []*int{&w.TCP, &w.TCP2} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		must(err)
		*port = l.Addr().(*net.TCPAddr).Port
		t.Cleanup(func() { l.Close() })
	}
	u, err := net.ListenPacket("udp", "127.0.0.1:0")
	must(err)
	w.UDP = u.LocalAddr().(*net.UDPAddr).Port
	t.Cleanup(func() { u.Close() })
	must(os.WriteFile(dir+"/open", []byte(canary), 0o600))
	// Not close-on-exec, as a library might leave it; far up, where Go puts none of its own.
	fd, err := unix.Open(dir+"/open", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	must(err)
	w.Fd = 300
	must(unix.Dup3(fd, w.Fd, 0))
	unix.Close(fd)
	t.Cleanup(func() { unix.Close(w.Fd) })
	w.Shm, err = unix.SysvShmGet(unix.IPC_PRIVATE, 4096, unix.IPC_CREAT|0o600)
	must(err)
	t.Cleanup(func() { unix.SysvShmCtl(w.Shm, unix.IPC_RMID, nil) })
	return w
}

// place gives an attack files of its own.
func (w world) place(t *testing.T) *world {
	t.Helper()
	dir := t.TempDir()
	w.Out, w.Work = dir+"/out", dir+"/work"
	raw, err := os.ReadFile("/bin/true")
	for _, e := range []error{err, os.Mkdir(w.Out, 0o700), os.Mkdir(w.Work, 0o700), os.Mkdir(w.Out+"/dir", 0o700), os.WriteFile(w.secret(), []byte(canary), 0o600), os.WriteFile(w.Out+"/true", raw, 0o700)} {
		if e != nil {
			t.Fatal(e)
		}
	}
	return &w
}
