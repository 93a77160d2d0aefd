//go:build amd64 || arm64

package sandbox

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// unit lists what the hardened systemd unit forbids and a keeper or its child
// might use: @privileged, @resources, @keyring, @memlock and, by
// RestrictNamespaces=yes, namespaces.
var unit = []uintptr{
	unix.SYS_CAPSET, unix.SYS_CHROOT, unix.SYS_FCHOWN, unix.SYS_FCHOWNAT, unix.SYS_SETUID, unix.SYS_SETRESUID, unix.SYS_SETREUID, unix.SYS_SETGROUPS, unix.SYS_BPF,
	unix.SYS_SETRLIMIT, unix.SYS_SETPRIORITY, unix.SYS_SCHED_SETAFFINITY, unix.SYS_SCHED_SETSCHEDULER, unix.SYS_IOPRIO_SET, unix.SYS_ADD_KEY, unix.SYS_KEYCTL,
	unix.SYS_MLOCK, unix.SYS_UNSHARE, unix.SYS_SETNS, unix.SYS_MOUNT, unix.SYS_PTRACE, unix.SYS_PROCESS_VM_READV, unix.SYS_PIDFD_GETFD, unix.SYS_PERSONALITY,
}

func init() {
	roles["unit"] = func([]string) int {
		p := &program{}
		p.load(0)
		for _, nr := range unit {
			p.when(nr, errno(uint32(unix.EPERM)))
		}
		p.when(unix.SYS_CLONE3, errno(uint32(unix.ENOSYS)))
		p.when(unix.SYS_OPENAT2, errno(uint32(unix.ENOSYS))) // by RestrictSUIDSGID=yes
		p.call(unix.SYS_CLONE, func() {
			p.load(argument(0))
			p.mask(namespaceFlags, errno(uint32(unix.EPERM)))
			p.ret(unix.SECCOMP_RET_ALLOW)
		})
		p.ret(unix.SECCOMP_RET_ALLOW)
		err := sys(unix.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1)
		if err == nil {
			err = sys(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC, ptr(&unix.SockFprog{Len: uint16(len(p.code)), Filter: &p.code[0]}))
		}
		if err == nil {
			err = Probe().Err()
		}
		fmt.Println(err)
		return 0
	}
}

// TestInsideUnit: the walls stand where a service's own walls stand already.
func TestInsideUnit(t *testing.T) {
	needWalls(t)
	if os.Geteuid() == 0 {
		asPlainUser(t, "TestInsideUnit") // the unit has a user and no capabilities
		return
	}
	out, err := exec.Command("/proc/self/exe", "unit").CombinedOutput()
	if err != nil || strings.TrimSpace(string(out)) != "<nil>" {
		t.Errorf("%v: %s", err, out)
	}
}
