package gateway

import (
	"errors"
	"os"
	"strings"
	"syscall"
	"testing"
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
