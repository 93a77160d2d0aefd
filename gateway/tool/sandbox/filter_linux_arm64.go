package sandbox

import "golang.org/x/sys/unix"

// auditArch is what seccomp_data.arch must be, so that the numbers mean these
// calls; a process may change to another architecture's by executing a program.
const auditArch = unix.AUDIT_ARCH_AARCH64

// legacyCalls are the few whose names differ from amd64's.
var legacyCalls = []uintptr{unix.SYS_FSTATAT, unix.SYS_RENAMEAT}

// createCalls make files; the number is that of the argument with the mode.
var createCalls = map[uintptr]int{unix.SYS_OPENAT: 3, unix.SYS_MKDIRAT: 2, unix.SYS_MKNODAT: 2}

// forkCalls make a process or a thread.
var forkCalls = []uintptr{unix.SYS_CLONE, unix.SYS_CLONE3}
