package gateway

import (
	"errors"
	"os"
	"strings"
	"syscall"
	"testing"

	"openclaw/gateway/proc"
)

// TestHardened takes the steps for real: they last for the rest of the test
// process and hurt nothing in it.
func TestHardened(t *testing.T) {
	if err := noCoreDumps(); err != nil {
		t.Error(err)
	}
	var core syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_CORE, &core); err != nil || core.Cur != 0 || core.Max != 0 {
		t.Errorf("core dumps: %+v, %v", core, err)
	}
	err := noNewPrivileges()
	if errors.Is(err, syscall.ENOTSUP) {
		return // a build with cgo, as for the race detector; the program has none
	}
	if err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(raw), "NoNewPrivs:\t1") {
		t.Error("the kernel does not say NoNewPrivs: 1")
	}
}

// TestNotDumpable hardens a process that serves a port and looks at it from
// outside, as its own user: it can no longer be read, and is still known as the
// port's holder.
func TestNotDumpable(t *testing.T) {
	cmd, port := startStranger(t, "hardened")
	dir := "/proc/" + itoa(cmd.Process.Pid)
	if os.Getuid() != 0 {
		for _, name := range []string{"/environ", "/mem", "/fd"} {
			if f, err := os.Open(dir + name); err == nil {
				f.Close()
				t.Errorf("%s can be opened", name)
			}
		}
	}
	if raw, err := os.ReadFile(dir + "/limits"); err != nil || len(raw) == 0 {
		t.Errorf("its limits cannot be read: %v", err)
	}
	hs, err := proc.Holders(port, port)
	if err != nil || len(hs) != 1 || hs[0].PID != cmd.Process.Pid || hs[0].Name != proc.PortName(port) {
		t.Errorf("holders: %v, %v", hs, err)
	}
	// A process that only says so holds nothing.
	if hs, err := proc.Holders(port+1, port+1); err != nil || len(hs) > 0 {
		t.Errorf("holders of a port that nobody serves: %v, %v", hs, err)
	}
}
