package proc

import (
	"errors"
	"net"
	"os"
	"syscall"
	"testing"
)

// TestMayEnd spares this process, its ancestors and what others run.
func TestMayEnd(t *testing.T) {
	for _, h := range []Holder{{PID: 1, Name: "x", UID: os.Getuid()}, {PID: 0, UID: 12345}, {PID: os.Getppid(), Name: "go", UID: os.Getuid()}, {PID: os.Getpid(), Name: "systemd", UID: os.Getuid()}} {
		if mayEnd(h) == nil {
			t.Errorf("would end %v", h)
		}
	}
}

// TestHolders finds who listens within a range, each port on its own.
func TestHolders(t *testing.T) {
	var ports []int
	for range 2 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		ports = append(ports, l.Addr().(*net.TCPAddr).Port)
	}
	hs, err := Holders(min(ports[0], ports[1]), max(ports[0], ports[1]))
	if err != nil {
		t.Fatal(err)
	}
	if len(hs) == 0 {
		t.Skip("this system tells nobody who listens")
	}
	found := map[int]bool{}
	for _, h := range hs {
		found[h.Port] = found[h.Port] || h.PID == os.Getpid() && h.UID == os.Getuid() && h.Name != ""
	}
	if !found[ports[0]] || !found[ports[1]] {
		t.Errorf("ports %v: %v", ports, hs)
	}
	for text, want := range map[string]string{"a\x1b[2Jb\n": "a?[2Jb", "\xff": "?"} {
		if got := name(text); got != want {
			t.Errorf("%q: %q", text, got)
		}
	}
}

// TestLook reads this process, whose limits are known from elsewhere.
func TestLook(t *testing.T) {
	f, err := Look(os.Getpid())
	if errors.Is(err, errors.ErrUnsupported) {
		t.Skip(err)
	}
	var limit syscall.Rlimit
	if err := errors.Join(err, syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit)); err != nil {
		t.Fatal(err)
	}
	if f.Stopped || f.Replaced || f.OpenFiles != int64(limit.Cur) || f.Memory <= 0 || f.Processes <= 0 || f.AddressSpace <= 0 {
		t.Errorf("%+v, want %d open files", f, limit.Cur)
	}
	if _, err := Look(1 << 30); err == nil {
		t.Error("a process that is none")
	}
}
