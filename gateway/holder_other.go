//go:build !linux

package gateway

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// lsofPaths are where systems other than Linux keep lsof. It is not searched
// for: PATH may be anybody's.
var lsofPaths = [...]string{"/usr/sbin/lsof", "/usr/bin/lsof", "/usr/local/sbin/lsof"}

// findHolders asks lsof(8) who listens on a TCP port. Without lsof nobody is found.
func findHolders(port int) ([]holder, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	for _, path := range lsofPaths {
		// -F prints one field a line: p is the pid, c the command, u the uid.
		cmd := exec.CommandContext(ctx, path, "-nP", "-iTCP:"+strconv.Itoa(port), "-sTCP:LISTEN", "-Fpcu")
		cmd.Env = []string{}
		out, err := cmd.Output()
		var exit *exec.ExitError
		if err != nil && !errors.As(err, &exit) { // it exits 1 when it finds nobody
			continue
		}
		return parseLsof(string(out)), nil
	}
	return nil, nil
}

func parseLsof(out string) []holder {
	var hs []holder
	for line := range strings.Lines(out) {
		line = strings.TrimSpace(line)
		if line == "" {
			continue
		}
		value := line[1:]
		switch {
		case line[0] == 'p':
			pid, err := strconv.Atoi(value)
			if err == nil {
				hs = append(hs, holder{pid: pid, uid: -1})
			}
		case len(hs) == 0:
		case line[0] == 'c':
			hs[len(hs)-1].name = clean(value, 32)
		case line[0] == 'u':
			if uid, err := strconv.Atoi(value); err == nil {
				hs[len(hs)-1].uid = uid
			}
		}
	}
	return hs
}

func mayEnd(h holder) error {
	switch {
	case h.pid == 1, h.name == "launchd", h.name == "init", h.name == "inetd", h.name == "sshd":
		return fmt.Errorf("it is held by %s, a supervisor: stop its service instead", h)
	case h.pid == os.Getpid(), h.pid == os.Getppid():
		return fmt.Errorf("it is held by %s, which started this process", h)
	case h.uid != os.Getuid():
		return fmt.Errorf("it is held by %s of uid %d, and this is uid %d", h, h.uid, os.Getuid())
	}
	return nil
}

// end ends one process. Before each signal it must still be the holder: a
// number may come to mean another process.
func end(h holder, port int, grace time.Duration) error {
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL} {
		if hs, err := findHolders(port); err != nil || !slices.Contains(hs, h) {
			return err // it has let go by itself
		}
		if err := syscall.Kill(h.pid, sig); errors.Is(err, syscall.ESRCH) {
			return nil
		} else if err != nil {
			return os.NewSyscallError("kill", err)
		}
		for deadline := time.Now().Add(grace); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
			if errors.Is(syscall.Kill(h.pid, 0), syscall.ESRCH) {
				return nil
			}
		}
	}
	return errors.New("it outlived SIGKILL")
}
