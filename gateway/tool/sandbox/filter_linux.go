//go:build amd64 || arm64

package sandbox

import (
	"slices"

	"golang.org/x/sys/unix"
)

// The sandbox's filter is a list of what exists; everything else, what later
// kernels add included, answers ENOSYS, as an older kernel would, so that
// programs take their other way. Not on it, each on purpose: namespaces and
// mounts; clone3 and openat2, whose flags lie in memory; keyrings, bpf, perf, userfaultfd,
// io_uring, ptrace and process_vm, pidfd, file handles; System V and POSIX
// message queues and shared memory, and inotify, which reach or tell of what
// other processes of this user do; extended attributes; and the network's
// servers. The numbers that amd64 has beside arm64's are in legacyCalls.
var allowedCalls = append(legacyCalls,
	// files
	unix.SYS_READ, unix.SYS_WRITE, unix.SYS_CLOSE, unix.SYS_CLOSE_RANGE, unix.SYS_FSTAT, unix.SYS_STATX, unix.SYS_STATFS, unix.SYS_FSTATFS, unix.SYS_LSEEK,
	unix.SYS_PREAD64, unix.SYS_PWRITE64, unix.SYS_READV, unix.SYS_WRITEV, unix.SYS_PREADV, unix.SYS_PWRITEV, unix.SYS_PREADV2, unix.SYS_PWRITEV2,
	unix.SYS_OPENAT, unix.SYS_FACCESSAT, unix.SYS_FACCESSAT2, unix.SYS_READLINKAT, unix.SYS_GETDENTS64, unix.SYS_GETCWD, unix.SYS_CHDIR, unix.SYS_FCHDIR,
	unix.SYS_MKDIRAT, unix.SYS_MKNODAT, unix.SYS_UNLINKAT, unix.SYS_SYMLINKAT, unix.SYS_LINKAT, unix.SYS_RENAMEAT2, unix.SYS_UMASK,
	unix.SYS_TRUNCATE, unix.SYS_FTRUNCATE, unix.SYS_FALLOCATE, unix.SYS_FADVISE64, unix.SYS_READAHEAD, unix.SYS_FSYNC, unix.SYS_FDATASYNC, unix.SYS_SYNC_FILE_RANGE,
	unix.SYS_SYNCFS, unix.SYS_FLOCK, unix.SYS_FCNTL, unix.SYS_DUP, unix.SYS_DUP3, unix.SYS_PIPE2, unix.SYS_SENDFILE, unix.SYS_COPY_FILE_RANGE, unix.SYS_SPLICE,
	unix.SYS_TEE, unix.SYS_VMSPLICE, unix.SYS_MEMFD_CREATE,
	// waiting
	unix.SYS_PPOLL, unix.SYS_PSELECT6, unix.SYS_EPOLL_CREATE1, unix.SYS_EPOLL_CTL, unix.SYS_EPOLL_PWAIT, unix.SYS_EPOLL_PWAIT2, unix.SYS_EVENTFD2,
	unix.SYS_TIMERFD_CREATE, unix.SYS_TIMERFD_SETTIME, unix.SYS_TIMERFD_GETTIME, unix.SYS_SIGNALFD4, unix.SYS_NANOSLEEP, unix.SYS_CLOCK_NANOSLEEP,
	unix.SYS_CLOCK_GETTIME, unix.SYS_CLOCK_GETRES, unix.SYS_GETTIMEOFDAY, unix.SYS_TIMER_CREATE, unix.SYS_TIMER_SETTIME, unix.SYS_TIMER_GETTIME,
	unix.SYS_TIMER_GETOVERRUN, unix.SYS_TIMER_DELETE, unix.SYS_SETITIMER, unix.SYS_GETITIMER, unix.SYS_RESTART_SYSCALL,
	// memory
	unix.SYS_MMAP, unix.SYS_MUNMAP, unix.SYS_MREMAP, unix.SYS_MPROTECT, unix.SYS_BRK, unix.SYS_MADVISE, unix.SYS_MINCORE, unix.SYS_MSYNC, unix.SYS_MLOCK, unix.SYS_MLOCK2,
	unix.SYS_MUNLOCK, unix.SYS_MLOCKALL, unix.SYS_MUNLOCKALL, unix.SYS_MEMBARRIER, unix.SYS_PKEY_ALLOC, unix.SYS_PKEY_FREE, unix.SYS_PKEY_MPROTECT, unix.SYS_GET_MEMPOLICY,
	// processes; Landlock confines the signals
	unix.SYS_EXECVE, unix.SYS_EXECVEAT, unix.SYS_EXIT, unix.SYS_EXIT_GROUP, unix.SYS_WAIT4, unix.SYS_WAITID, unix.SYS_KILL, unix.SYS_TKILL, unix.SYS_TGKILL,
	unix.SYS_RT_SIGACTION, unix.SYS_RT_SIGPROCMASK, unix.SYS_RT_SIGRETURN, unix.SYS_RT_SIGSUSPEND, unix.SYS_RT_SIGPENDING, unix.SYS_RT_SIGTIMEDWAIT,
	unix.SYS_RT_SIGQUEUEINFO, unix.SYS_RT_TGSIGQUEUEINFO, unix.SYS_SIGALTSTACK, unix.SYS_FUTEX, unix.SYS_FUTEX_WAITV, unix.SYS_SET_ROBUST_LIST, unix.SYS_GET_ROBUST_LIST,
	unix.SYS_SET_TID_ADDRESS, unix.SYS_RSEQ, unix.SYS_SCHED_YIELD, unix.SYS_SCHED_GETAFFINITY, unix.SYS_SCHED_GETPARAM, unix.SYS_SCHED_GETSCHEDULER,
	unix.SYS_SCHED_GETATTR, unix.SYS_SCHED_GET_PRIORITY_MAX, unix.SYS_SCHED_GET_PRIORITY_MIN, unix.SYS_SCHED_RR_GET_INTERVAL, unix.SYS_GETPRIORITY, unix.SYS_IOPRIO_GET,
	unix.SYS_GETPID, unix.SYS_GETPPID, unix.SYS_GETTID, unix.SYS_GETPGID, unix.SYS_SETPGID, unix.SYS_GETSID, unix.SYS_SETSID, unix.SYS_GETCPU,
	unix.SYS_GETRUSAGE, unix.SYS_TIMES, unix.SYS_GETRLIMIT, unix.SYS_SETRLIMIT, unix.SYS_SYSINFO, unix.SYS_UNAME, unix.SYS_GETRANDOM,
	unix.SYS_GETUID, unix.SYS_GETEUID, unix.SYS_GETGID, unix.SYS_GETEGID, unix.SYS_GETGROUPS, unix.SYS_GETRESUID, unix.SYS_GETRESGID, unix.SYS_SETUID, unix.SYS_SETGID,
	unix.SYS_SETREUID, unix.SYS_SETREGID, unix.SYS_SETRESUID, unix.SYS_SETRESGID, unix.SYS_SETGROUPS, unix.SYS_SETFSUID, unix.SYS_SETFSGID, unix.SYS_CAPGET, unix.SYS_CAPSET,
	// the two ends of a pair, which know no names
	unix.SYS_SHUTDOWN, unix.SYS_GETSOCKNAME, unix.SYS_GETPEERNAME, unix.SYS_GETSOCKOPT, unix.SYS_RECVFROM, unix.SYS_RECVMSG, unix.SYS_RECVMMSG,
)

// xattrCalls would let a file be shared by an access list. Programs take
// EOPNOTSUPP for a file system without them.
var xattrCalls = []uintptr{
	unix.SYS_SETXATTR, unix.SYS_LSETXATTR, unix.SYS_FSETXATTR, unix.SYS_REMOVEXATTR, unix.SYS_LREMOVEXATTR, unix.SYS_FREMOVEXATTR,
	463, 466, 469, // setxattrat, removexattrat, file_setattr
}

// prctlOptions are those that say or change something about the caller alone.
var prctlOptions = []uint32{
	unix.PR_SET_NAME, unix.PR_GET_NAME, unix.PR_SET_PDEATHSIG, unix.PR_GET_PDEATHSIG, unix.PR_SET_DUMPABLE, unix.PR_GET_DUMPABLE, unix.PR_SET_NO_NEW_PRIVS,
	unix.PR_GET_NO_NEW_PRIVS, unix.PR_SET_VMA, unix.PR_SET_TIMERSLACK, unix.PR_GET_TIMERSLACK, unix.PR_CAPBSET_READ, unix.PR_GET_SECUREBITS, unix.PR_GET_KEEPCAPS,
	unix.PR_SET_THP_DISABLE, unix.PR_GET_THP_DISABLE, unix.PR_SET_CHILD_SUBREAPER, unix.PR_GET_CHILD_SUBREAPER, unix.PR_GET_SECCOMP, unix.PR_GET_TID_ADDRESS,
	unix.PR_SVE_GET_VL, unix.PR_SME_GET_VL, unix.PR_PAC_RESET_KEYS, unix.PR_SET_TAGGED_ADDR_CTRL, unix.PR_GET_TAGGED_ADDR_CTRL, unix.PR_GET_AUXV,
}

const (
	namespaceFlags = unix.CLONE_NEWNS | unix.CLONE_NEWCGROUP | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC | unix.CLONE_NEWUSER | unix.CLONE_NEWPID | unix.CLONE_NEWNET
	tcpULP         = 31      // TCP_ULP turns a TCP socket into one of another protocol
	x32            = 1 << 30 // __X32_SYSCALL_BIT
	setID          = unix.S_ISUID | unix.S_ISGID
)

func errno(e uint32) uint32 { return unix.SECCOMP_RET_ERRNO | e }

// filter builds the seccomp program of a child.
func filter(s *Spec) ([]unix.SockFilter, error) {
	p := &program{}
	p.load(4) // seccomp_data.arch
	p.unless(unix.BPF_JEQ, auditArch, unix.SECCOMP_RET_KILL_PROCESS)
	p.load(0)                               // seccomp_data.nr
	p.mask(x32, errno(uint32(unix.ENOSYS))) // the same calls by other numbers
	for nr := range attributeCalls {
		p.when(nr, unix.SECCOMP_RET_USER_NOTIF)
	}
	for _, nr := range xattrCalls {
		p.when(nr, errno(uint32(unix.EOPNOTSUPP)))
	}
	for _, nr := range []uintptr{unix.SYS_IO_URING_SETUP, unix.SYS_IO_URING_ENTER, unix.SYS_IO_URING_REGISTER} {
		p.when(nr, errno(uint32(unix.ENOSYS))) // its operations pass by this filter
	}
	// Calls that name a process may name the caller only: limits and priorities
	// of any process of the same user could be set otherwise.
	for _, nr := range []uintptr{unix.SYS_PRLIMIT64, unix.SYS_SCHED_SETAFFINITY, unix.SYS_SCHED_SETPARAM, unix.SYS_SCHED_SETSCHEDULER, unix.SYS_SCHED_SETATTR} {
		p.argument(nr, 0, unix.EPERM, 0)
	}
	p.arguments(unix.SYS_SETPRIORITY, unix.EPERM, []uint32{unix.PRIO_PROCESS}, []uint32{0})
	p.arguments(unix.SYS_IOPRIO_SET, unix.EPERM, []uint32{1}, []uint32{0}) // IOPRIO_WHO_PROCESS
	// Requests to a terminal that type for its user; no list of the others could be made.
	p.call(unix.SYS_IOCTL, func() {
		p.load(argument(1))
		p.result(unix.TIOCSTI, errno(uint32(unix.EPERM)))
		p.result(unix.TIOCLINUX, errno(uint32(unix.EPERM)))
		p.ret(unix.SECCOMP_RET_ALLOW)
	})
	fork := uint32(unix.SECCOMP_RET_ALLOW)
	if s.Limits.Processes > 0 {
		fork = unix.SECCOMP_RET_USER_NOTIF
	}
	if s.Light {
		for _, nr := range forkCalls {
			p.when(nr, fork)
		}
		p.ret(unix.SECCOMP_RET_ALLOW)
		return p.code, p.err
	}
	p.call(unix.SYS_CLONE, func() {
		p.load(argument(0))
		p.mask(namespaceFlags, errno(uint32(unix.EPERM)))
		p.ret(fork)
	})
	for _, nr := range forkCalls {
		if nr != unix.SYS_CLONE && nr != unix.SYS_CLONE3 {
			p.when(nr, fork)
		}
	}
	// A program that runs as this user for whoever starts it would outlast the sandbox.
	for nr, arg := range createCalls {
		p.call(nr, func() {
			if arg > 1 && nr != unix.SYS_MKDIRAT && nr != unix.SYS_MKNODAT { // only then there is a mode
				p.load(argument(arg - 1))
				p.add(unix.BPF_JMP|unix.BPF_JSET|unix.BPF_K, 1, 0, unix.O_CREAT|unix.O_TMPFILE&^unix.O_DIRECTORY)
				p.ret(unix.SECCOMP_RET_ALLOW)
			}
			p.load(argument(arg))
			p.mask(setID, errno(uint32(unix.EPERM)))
			p.ret(unix.SECCOMP_RET_ALLOW)
		})
	}
	p.argument(unix.SYS_PRCTL, 0, unix.EINVAL, prctlOptions...)
	p.argument(unix.SYS_PERSONALITY, 0, unix.EPERM, 0, 0xffffffff)
	// Datagram pairs can send to a name, stream pairs cannot.
	p.arguments(unix.SYS_SOCKETPAIR, unix.EPERM, []uint32{unix.AF_UNIX}, socketTypes(unix.SOCK_STREAM))
	for nr, arg := range map[uintptr]int{unix.SYS_SENDTO: 3, unix.SYS_SENDMSG: 2, unix.SYS_SENDMMSG: 3} {
		p.call(nr, func() { // TCP fast open connects without Landlock's being asked
			p.load(argument(arg))
			p.mask(unix.MSG_FASTOPEN, errno(uint32(unix.EPERM)))
			p.ret(unix.SECCOMP_RET_ALLOW)
		})
	}
	if len(s.Network) == 0 {
		p.when(unix.SYS_SOCKET, errno(uint32(unix.EACCES)))
	} else {
		p.arguments(unix.SYS_SOCKET, unix.EACCES, []uint32{unix.AF_INET, unix.AF_INET6}, socketTypes(unix.SOCK_STREAM), []uint32{0, unix.IPPROTO_TCP})
		p.when(unix.SYS_CONNECT, unix.SECCOMP_RET_ALLOW)
	}
	p.call(unix.SYS_SETSOCKOPT, func() {
		p.load(argument(2))
		p.result(tcpULP, errno(uint32(unix.EPERM)))
		p.ret(unix.SECCOMP_RET_ALLOW)
	})
	for _, r := range ranges(allowedCalls) {
		p.span(r[0], r[1], unix.SECCOMP_RET_ALLOW)
	}
	p.ret(errno(uint32(unix.ENOSYS)))
	return p.code, p.err
}

// socketTypes are a type of socket with each of the flags it may carry.
func socketTypes(t uint32) []uint32 {
	return []uint32{t, t | unix.SOCK_CLOEXEC, t | unix.SOCK_NONBLOCK, t | unix.SOCK_CLOEXEC | unix.SOCK_NONBLOCK}
}

// ranges joins numbers that follow each other.
func ranges(nrs []uintptr) (out [][2]uint32) {
	nrs = slices.Compact(slices.Sorted(slices.Values(nrs)))
	for _, nr := range nrs {
		if n := len(out); n > 0 && out[n-1][1]+1 == uint32(nr) {
			out[n-1][1]++
		} else {
			out = append(out, [2]uint32{uint32(nr), uint32(nr)})
		}
	}
	return out
}
