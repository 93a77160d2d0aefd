//go:build !linux

package proc

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

// findHolders asks lsof(8) who listens on TCP ports. Without lsof nobody is found.
func findHolders(first, last int) ([]Holder, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	for _, path := range lsofPaths {
		// -F prints one field a line: p is the pid, c the command, u the uid, n the address.
		cmd := exec.CommandContext(ctx, path, "-nP", fmt.Sprintf("-iTCP:%d-%d", first, last), "-sTCP:LISTEN", "-Fpcun")
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

func parseLsof(out string) (hs []Holder) {
	var h Holder
	for line := range strings.Lines(out) {
		line = strings.TrimSpace(line)
		if line == "" {
			continue
		}
		value := line[1:]
		switch line[0] {
		case 'p':
			pid, _ := strconv.Atoi(value)
			h = Holder{PID: pid, UID: -1}
		case 'c':
			h.Name = name(value)
		case 'u':
			if uid, err := strconv.Atoi(value); err == nil {
				h.UID = uid
			}
		case 'n':
			if h.Port, _ = strconv.Atoi(value[strings.LastIndexByte(value, ':')+1:]); h.PID != 0 && h.Port != 0 {
				hs = append(hs, h)
			}
		}
	}
	return hs
}

func mayEnd(h Holder) error {
	switch {
	case h.PID == 1, h.Name == "launchd", h.Name == "init", h.Name == "inetd", h.Name == "sshd":
		return fmt.Errorf("it is held by %s, a supervisor: stop its service instead", h)
	case h.PID == os.Getpid(), h.PID == os.Getppid():
		return fmt.Errorf("it is held by %s, which started this process", h)
	case h.UID != os.Getuid():
		return fmt.Errorf("it is held by %s of uid %d, and this is uid %d", h, h.UID, os.Getuid())
	}
	return nil
}

// end ends one process. Before each signal it must still be the holder: a
// number may come to mean another process.
func end(h Holder, grace time.Duration) error {
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL} {
		if hs, err := Holders(h.Port, h.Port); err != nil || !slices.Contains(hs, h) {
			return err // it has let go by itself
		}
		if err := syscall.Kill(h.PID, sig); errors.Is(err, syscall.ESRCH) {
			return nil
		} else if err != nil {
			return os.NewSyscallError("kill", err)
		}
		for deadline := time.Now().Add(grace); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
			if errors.Is(syscall.Kill(h.PID, 0), syscall.ESRCH) {
				return nil
			}
		}
	}
	return errors.New("it outlived SIGKILL")
}
