package sandbox

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// The guard does for the child what changes modes, owners and times of files,
// which Landlock leaves to any process of the same user. The kernel stops the
// child and hands the call over (seccomp_unotify(2)); the keeper reads path and
// values once, opens the object, judges the name that the kernel has for it, and
// acts on that very object. The child's call itself is never let through: its
// memory may have changed since. Calls that make a process or a thread are
// (census_linux.go): what they do lies in registers, and no matter what it is,
// it makes one.

type change int

const (
	mode change = iota
	owner
	times
)

// form says where a call has its arguments; -1 is nowhere.
type form struct {
	change                  change
	dir, path, value, flags int
	nofollow                bool
}

// attributeCalls are the calls that the guard does.
var attributeCalls = map[uintptr]form{
	unix.SYS_FCHMOD:    {mode, 0, -1, 1, -1, false},
	unix.SYS_FCHMODAT:  {mode, 0, 1, 2, -1, false},
	unix.SYS_FCHMODAT2: {mode, 0, 1, 2, 3, false},
	unix.SYS_FCHOWN:    {owner, 0, -1, 1, -1, false},
	unix.SYS_FCHOWNAT:  {owner, 0, 1, 2, 4, false},
	unix.SYS_UTIMENSAT: {times, 0, 1, 2, 3, false},
}

type guard struct {
	spec     *Spec
	listener int
	census   census
}

// answer serves one call, if it still waits.
func (g *guard) answer() {
	var n notice
	if receive(g.listener, &n) != nil {
		return // interrupted or killed meanwhile
	}
	a := answer{id: n.id}
	if slices.Contains(forkCalls, uintptr(n.nr)) {
		if g.census.admit() {
			a.flags = unix.SECCOMP_USER_NOTIF_FLAG_CONTINUE
		} else {
			a.errno = -int32(unix.EAGAIN)
		}
	} else if err := g.do(&n); err != nil {
		errno := unix.EPERM
		errors.As(err, &errno)
		a.errno = -int32(errno)
	}
	send(g.listener, &a)
}

func (g *guard) do(n *notice) error {
	f, ok := attributeCalls[uintptr(n.nr)]
	if !ok {
		return unix.ENOSYS
	}
	c := client{proc: fmt.Sprintf("/proc/%d/", n.pid)}
	if err := c.sameUser(); err != nil {
		return err
	}
	fd, err := c.open(f, n)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	var ts [2]unix.Timespec
	if f.change == times {
		if ts, err = c.timespecs(n.args[f.value]); err != nil {
			return err
		}
	}
	if !n.stillWaits(g.listener) { // else the number may be another process's by now
		return unix.EPERM
	}
	self := inSelf(fd)
	name, err := nameOf(fd)
	if err != nil || !g.open(name) {
		return unix.EPERM
	}
	uid, gid := int(int32(n.args[max(f.value, 0)])), int(int32(n.args[f.value+1]))
	if !g.spec.Light {
		// The child has no capabilities, whatever the keeper has.
		var st unix.Stat_t
		if err := unix.Fstat(fd, &st); err != nil {
			return err
		}
		if int(st.Uid) != os.Geteuid() {
			return unix.EPERM
		}
		if f.change == mode && n.args[f.value]&(unix.S_ISUID|unix.S_ISGID) != 0 {
			return unix.EPERM
		}
		if f.change == owner && (uid != -1 && uid != os.Geteuid() || gid != -1 && gid != os.Getegid()) {
			return unix.EPERM
		}
	}
	switch f.change {
	case mode:
		return unix.Fchmodat(unix.AT_FDCWD, self, uint32(n.args[f.value])&0o7777, 0)
	case owner:
		return unix.Fchownat(fd, "", uid, gid, unix.AT_EMPTY_PATH)
	default:
		return unix.UtimesNanoAt(unix.AT_FDCWD, self, ts[:], 0)
	}
}

// open reports whether the object of this name may be changed.
func (g *guard) open(name string) bool {
	for _, w := range g.spec.Write {
		if within(name, w) {
			return true
		}
	}
	for _, h := range g.spec.Hidden {
		if within(name, h) {
			return false
		}
	}
	return g.spec.Light
}

// client is the process that asks, by its directory in /proc.
type client struct{ proc string }

// sameUser refuses a process that has taken another user or root directory:
// the keeper would act with rights, or in a place, that it has given up.
func (c client) sameUser() error {
	raw, err := os.ReadFile(c.proc + "status")
	if err != nil {
		return err
	}
	_, line, _ := bytes.Cut(raw, []byte("\nUid:"))
	line, _, _ = bytes.Cut(line, []byte("\n"))
	for _, uid := range strings.Fields(string(line)) {
		if uid != strconv.Itoa(os.Geteuid()) {
			return unix.EPERM
		}
	}
	if root, err := os.Readlink(c.proc + "root"); err != nil || root != "/" {
		return unix.EPERM
	}
	return nil
}

// open opens what the call means, without following a last symbolic link where
// the call does not.
func (c client) open(f form, n *notice) (int, error) {
	dir := unix.AT_FDCWD
	if f.dir >= 0 {
		dir = int(int32(n.args[f.dir]))
	}
	if f.path < 0 || n.args[f.path] == 0 && f.change == times {
		return c.descriptor(dir)
	}
	var flags uint64
	if f.flags >= 0 {
		flags = n.args[f.flags]
	}
	path, err := c.text(n.args[f.path])
	if err != nil {
		return 0, err
	}
	if path == "" && flags&unix.AT_EMPTY_PATH != 0 {
		return c.descriptor(dir)
	}
	// How libraries name what they have open; here it would be the keeper's.
	for _, own := range []string{"/proc/self/fd/", "/proc/thread-self/fd/", "/dev/fd/"} {
		if rest, ok := strings.CutPrefix(path, own); ok {
			fd, err := strconv.ParseUint(rest, 10, 31)
			if err != nil {
				return 0, unix.EPERM
			}
			return c.descriptor(int(fd))
		}
	}
	how := unix.O_PATH | unix.O_CLOEXEC
	if f.nofollow || flags&unix.AT_SYMLINK_NOFOLLOW != 0 {
		how |= unix.O_NOFOLLOW
	}
	base := unix.AT_FDCWD
	if !strings.HasPrefix(path, "/") {
		if base, err = c.descriptor(dir); err != nil {
			return 0, err
		}
		defer unix.Close(base)
	}
	fd, err := unix.Openat(base, path, how, 0)
	if err == nil {
		if err = standsAtItsName(fd); err != nil {
			unix.Close(fd)
		}
	}
	return fd, err
}

// standsAtItsName refuses what was reached by a link of /proc that leads to an
// object rather than to a name: those are the keeper's, or not in sight.
func standsAtItsName(fd int) error {
	var opened, named unix.Stat_t
	name, err := nameOf(fd)
	if err == nil {
		err = unix.Fstat(fd, &opened)
	}
	if err == nil {
		err = unix.Lstat(name, &named)
	}
	if err == nil && (opened.Dev != named.Dev || opened.Ino != named.Ino) {
		err = unix.EPERM
	}
	return err
}

// descriptor opens what the process has open as fd, or its working directory.
func (c client) descriptor(fd int) (int, error) {
	name := c.proc + "fd/" + strconv.Itoa(fd)
	if fd == unix.AT_FDCWD {
		name = c.proc + "cwd"
	}
	got, err := unix.Open(name, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err == unix.ENOENT {
		err = unix.EBADF
	}
	return got, err
}

// text reads a path out of the process's memory, up to PATH_MAX.
func (c client) text(addr uint64) (string, error) {
	var b []byte
	for len(b) < unix.PathMax {
		page := make([]byte, min(4096-(addr+uint64(len(b)))%4096, uint64(unix.PathMax-len(b)))) // the next one may not be there
		if err := c.memory(addr+uint64(len(b)), page); err != nil {
			return "", err
		}
		head, _, ends := bytes.Cut(page, []byte{0})
		if b = append(b, head...); ends {
			return string(b), nil
		}
	}
	return "", unix.ENAMETOOLONG
}

func (c client) timespecs(addr uint64) (ts [2]unix.Timespec, err error) {
	if addr == 0 {
		return [2]unix.Timespec{{Nsec: unix.UTIME_NOW}, {Nsec: unix.UTIME_NOW}}, nil
	}
	err = c.memory(addr, bytesOf(&ts))
	return ts, err
}

func (c client) memory(addr uint64, b []byte) error {
	fd, err := unix.Open(c.proc+"mem", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if n, err := unix.Pread(fd, b, int64(addr)); err != nil || n != len(b) {
		return unix.EFAULT
	}
	return nil
}
