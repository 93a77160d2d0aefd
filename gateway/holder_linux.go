package gateway

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// findHolders finds the listeners on a TCP port in /proc alone (proc(5)): their
// sockets by port, then whose descriptors those are. Of other users' processes
// only the user is known.
func findHolders(port int) ([]holder, error) {
	sockets := map[string]int{} // inode to uid
	for _, name := range []string{"/proc/self/net/tcp", "/proc/self/net/tcp6"} {
		raw, err := os.ReadFile(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue // no IPv6
		} else if err != nil {
			return nil, err
		}
		listeningSockets(raw, port, sockets)
	}
	var out []holder
	procs, err := filepath.Glob("/proc/[1-9]*/fd")
	if err != nil {
		return nil, err
	}
	found := map[string]bool{}
	for _, dir := range procs {
		pid, err := strconv.Atoi(strings.Split(dir, "/")[2])
		if err != nil {
			continue
		}
		inode := heldSocket(dir, sockets)
		if inode == "" {
			continue
		}
		found[inode] = true
		out = append(out, holder{pid, processName(pid), sockets[inode]})
	}
	if len(out) == 0 {
		for inode, uid := range sockets {
			if h := (holder{uid: uid}); !found[inode] && !slices.Contains(out, h) {
				out = append(out, h)
			}
		}
	}
	return out, nil
}

// listeningSockets reads a table of /proc/net: the local address is the second
// field, the state the fourth (0A is LISTEN), uid the eighth, inode the tenth.
func listeningSockets(table []byte, port int, into map[string]int) {
	want := fmt.Sprintf(":%04X", port)
	sc := bufio.NewScanner(bytes.NewReader(table))
	for sc.Scan() {
		f := strings.Fields(sc.Text())
		if len(f) >= 10 && f[3] == "0A" && strings.HasSuffix(f[1], want) {
			uid, _ := strconv.Atoi(f[7])
			into[f[9]] = uid
		}
	}
}

// heldSocket returns the inode of one of the sockets that a process has open.
func heldSocket(dir string, sockets map[string]int) string {
	fds, err := os.ReadDir(dir)
	if err != nil {
		return "" // gone, or another user's
	}
	for _, fd := range fds {
		link, err := os.Readlink(filepath.Join(dir, fd.Name()))
		if err != nil {
			continue
		}
		inode, ok := strings.CutPrefix(link, "socket:[")
		if inode = strings.TrimSuffix(inode, "]"); ok {
			if _, ok := sockets[inode]; ok {
				return inode
			}
		}
	}
	return ""
}

func processName(pid int) string {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
	if err != nil {
		return ""
	}
	return clean(strings.TrimSpace(string(raw)), 32)
}

// procStatus returns a process's parent and real user.
func procStatus(pid int) (parent, uid int, err error) {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, 0, err
	}
	uid = -1
	for line := range strings.Lines(string(raw)) {
		f := strings.Fields(line)
		switch {
		case len(f) > 1 && f[0] == "PPid:":
			parent, _ = strconv.Atoi(f[1])
		case len(f) > 1 && f[0] == "Uid:":
			uid, _ = strconv.Atoi(f[1])
		}
	}
	return parent, uid, nil
}

// supervisors hold ports for others.
var supervisors = [...]string{"systemd", "init", "openrc-init", "runit", "runsvdir", "s6-svscan", "supervisord", "dockerd", "containerd", "docker-proxy", "sshd"}

func mayEnd(h holder) error {
	if h.pid == 0 {
		return fmt.Errorf("it is held by %s, which this user may not end", h)
	}
	if h.pid == 1 || slices.Contains(supervisors[:], h.name) {
		return fmt.Errorf("it is held by %s, a supervisor: stop its service instead", h)
	}
	_, uid, err := procStatus(h.pid)
	if err != nil {
		return err
	}
	if uid != os.Getuid() {
		return fmt.Errorf("it is held by %s of uid %d, and this is uid %d", h, uid, os.Getuid())
	}
	for pid := os.Getpid(); pid > 1; {
		if pid == h.pid {
			return fmt.Errorf("it is held by %s, which started this process", h)
		}
		if pid, _, err = procStatus(pid); err != nil {
			return err
		}
	}
	return nil
}

// end ends one process by a descriptor, which cannot come to mean another
// process when the number is used again (pidfd_open(2)). That it is still the
// holder is looked at after the descriptor is open.
func end(h holder, port int, grace time.Duration) error {
	fd, err := unix.PidfdOpen(h.pid, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil
	} else if err != nil {
		return os.NewSyscallError("pidfd_open", err)
	}
	defer unix.Close(fd)
	if hs, err := findHolders(port); err != nil || !slices.Contains(hs, h) {
		return err // it has let go by itself
	}
	for _, sig := range []unix.Signal{unix.SIGTERM, unix.SIGKILL} {
		if err := unix.PidfdSendSignal(fd, sig, nil, 0); errors.Is(err, unix.ESRCH) {
			return nil
		} else if err != nil {
			return os.NewSyscallError("pidfd_send_signal", err)
		}
		if gone, err := waitGone(fd, grace); gone || err != nil {
			return err
		}
	}
	return fmt.Errorf("it outlived SIGKILL")
}

// waitGone waits until the process behind a descriptor has ended: then the
// descriptor is readable.
func waitGone(fd int, most time.Duration) (bool, error) {
	deadline := time.Now().Add(most)
	for {
		left := time.Until(deadline)
		if left <= 0 {
			return false, nil
		}
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(left.Milliseconds())+1)
		if err != nil && err != unix.EINTR {
			return false, os.NewSyscallError("poll", err)
		}
		if n > 0 {
			return true, nil
		}
	}
}
