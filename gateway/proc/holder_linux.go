package proc

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

// findHolders finds the listeners on TCP ports in /proc alone (proc(5)): their
// sockets by port, then whose descriptors those are. A gateway's cannot be seen
// (it is not dumpable): it is the process of the socket's user that is named
// after the port, which is its own word. Of other users' processes only the
// user is known.
func findHolders(first, last int) ([]Holder, error) {
	sockets := map[string]Holder{} // by inode, with port and user
	for _, name := range []string{"/proc/self/net/tcp", "/proc/self/net/tcp6"} {
		raw, err := os.ReadFile(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue // no IPv6
		} else if err != nil {
			return nil, err
		}
		listeningSockets(raw, first, last, sockets)
	}
	if len(sockets) == 0 {
		return nil, nil
	}
	var out []Holder
	procs, err := filepath.Glob("/proc/[1-9]*/fd")
	if err != nil {
		return nil, err
	}
	named := map[int]bool{} // ports
	for _, dir := range procs {
		pid, err := strconv.Atoi(strings.Split(dir, "/")[2])
		if err != nil {
			continue
		}
		for _, h := range heldSockets(pid, dir, sockets) {
			h.PID, h.Name = pid, processName(pid)
			named[h.Port] = true
			out = append(out, h)
		}
	}
	for _, h := range sockets {
		if !named[h.Port] {
			out = append(out, h)
		}
	}
	return out, nil
}

// listeningSockets reads a table of /proc/net: the local address is the second
// field, the state the fourth (0A is LISTEN), uid the eighth, inode the tenth.
func listeningSockets(table []byte, first, last int, into map[string]Holder) {
	sc := bufio.NewScanner(bytes.NewReader(table))
	for sc.Scan() {
		f := strings.Fields(sc.Text())
		if len(f) < 10 || f[3] != "0A" {
			continue
		}
		port, err := strconv.ParseUint(f[1][strings.LastIndexByte(f[1], ':')+1:], 16, 16)
		if err == nil && int(port) >= first && int(port) <= last {
			uid, _ := strconv.Atoi(f[7])
			into[f[9]] = Holder{Port: int(port), UID: uid}
		}
	}
}

// heldSockets returns those of the sockets that a process has open.
func heldSockets(pid int, dir string, sockets map[string]Holder) (out []Holder) {
	fds, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrPermission) {
		name := processName(pid)
		_, uid, err := procStatus(pid)
		for _, h := range sockets {
			if err == nil && uid == h.UID && name == PortName(h.Port) {
				out = append(out, h)
			}
		}
		return out
	}
	if err != nil {
		return nil // gone
	}
	for _, fd := range fds {
		link, err := os.Readlink(filepath.Join(dir, fd.Name()))
		if err != nil {
			continue
		}
		if inode, ok := strings.CutPrefix(link, "socket:["); ok {
			if h, ok := sockets[strings.TrimSuffix(inode, "]")]; ok {
				out = append(out, h)
			}
		}
	}
	return out
}

func processName(pid int) string {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
	if err != nil {
		return ""
	}
	return name(string(raw))
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

func mayEnd(h Holder) error {
	if h.PID == 0 {
		return fmt.Errorf("it is held by %s, which this user may not end", h)
	}
	if h.PID == 1 || slices.Contains(supervisors[:], h.Name) {
		return fmt.Errorf("it is held by %s, a supervisor: stop its service instead", h)
	}
	_, uid, err := procStatus(h.PID)
	if err != nil {
		return err
	}
	if uid != os.Getuid() {
		return fmt.Errorf("it is held by %s of uid %d, and this is uid %d", h, uid, os.Getuid())
	}
	for pid := os.Getpid(); pid > 1; {
		if pid == h.PID {
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
func end(h Holder, grace time.Duration) error {
	fd, err := unix.PidfdOpen(h.PID, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil
	} else if err != nil {
		return os.NewSyscallError("pidfd_open", err)
	}
	defer unix.Close(fd)
	if hs, err := Holders(h.Port, h.Port); err != nil || !slices.Contains(hs, h) {
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
