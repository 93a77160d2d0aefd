package sandbox

import "golang.org/x/sys/unix"

// auditArch is what seccomp_data.arch must be, so that the numbers below mean
// these calls; a process may change to another architecture's, as by int 0x80.
const auditArch = unix.AUDIT_ARCH_X86_64

// legacyCalls are those that younger architectures have only in the form that
// ends in "at". arch_prctl sets the segment of thread-local data.
var legacyCalls = []uintptr{
	unix.SYS_OPEN, unix.SYS_CREAT, unix.SYS_STAT, unix.SYS_LSTAT, unix.SYS_NEWFSTATAT, unix.SYS_ACCESS, unix.SYS_READLINK, unix.SYS_GETDENTS, unix.SYS_MKDIR, unix.SYS_RMDIR,
	unix.SYS_MKNOD, unix.SYS_UNLINK, unix.SYS_SYMLINK, unix.SYS_LINK, unix.SYS_RENAME, unix.SYS_RENAMEAT, unix.SYS_DUP2, unix.SYS_PIPE, unix.SYS_POLL, unix.SYS_SELECT,
	unix.SYS_EPOLL_CREATE, unix.SYS_EPOLL_WAIT, unix.SYS_EVENTFD, unix.SYS_SIGNALFD, unix.SYS_ALARM, unix.SYS_PAUSE, unix.SYS_TIME,
	unix.SYS_GETPGRP, unix.SYS_ARCH_PRCTL,
}

// forkCalls make a process or a thread.
var forkCalls = []uintptr{unix.SYS_CLONE, unix.SYS_CLONE3, unix.SYS_FORK, unix.SYS_VFORK}

func init() {
	attributeCalls[unix.SYS_CHMOD] = form{change: mode, dir: -1, path: 0, value: 1, flags: -1}
	attributeCalls[unix.SYS_CHOWN] = form{change: owner, dir: -1, path: 0, value: 1, flags: -1}
	attributeCalls[unix.SYS_LCHOWN] = form{change: owner, dir: -1, path: 0, value: 1, flags: -1, nofollow: true}
}

// createCalls make files; the number is that of the argument with the mode.
var createCalls = map[uintptr]int{unix.SYS_OPENAT: 3, unix.SYS_MKDIRAT: 2, unix.SYS_MKNODAT: 2, unix.SYS_OPEN: 2, unix.SYS_CREAT: 1, unix.SYS_MKDIR: 1, unix.SYS_MKNOD: 1}
