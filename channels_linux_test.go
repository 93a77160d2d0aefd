package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// TestProgramDiesWithGateway: the program of a channel is gone when the gateway
// was killed, though it looks at no signal and no pipe.
func TestProgramDiesWithGateway(t *testing.T) {
	t.Parallel()
	h := newHouse(t, nil)
	script := filepath.Join(h.dir, "channel.sh")
	if err := os.WriteFile(script, []byte(`trap '' TERM HUP PIPE INT
echo '{"type":"hello","protocol":1,"features":[]}'
echo $$ >pid.new; mv pid.new pid
while :; do sleep 1; done
`), 0o600); err != nil {
		t.Fatal(err)
	}
	h.configure(object{"channels": object{"demo": object{"kind": "process", "command": []string{"/bin/sh", script}}}})
	g := h.start()
	pid := ""
	h.eventually("its pid", func() bool {
		raw, _ := os.ReadFile(filepath.Join(h.state, "channels", "demo+default", "pid"))
		pid = strings.TrimSpace(string(raw))
		return pid != ""
	})
	alive := func() bool {
		raw, err := os.ReadFile("/proc/" + pid + "/stat")
		_, state, _ := strings.Cut(string(raw), ") ")
		return err == nil && !strings.HasPrefix(state, "Z")
	}
	if !alive() {
		t.Fatal("it does not run")
	}
	g.kill()
	h.eventually("its end", func() bool { return !alive() })
}

// silence names the variable that says for how many seconds TestSilent listens.
// It wants a network namespace made by testdata/e2e/silent.
const silence = "OPENCLAW_SILENT"

// TestSilent: with no channel configured the gateway sends no packet to any
// network, while clients come and go over loopback and agents answer.
func TestSilent(t *testing.T) {
	seconds, err := strconv.Atoi(os.Getenv(silence))
	if err != nil {
		t.Skipf("%s is not set: testdata/e2e/silent runs it", silence)
	}
	wire := captureAll(t)
	until := func(what string, ok func() bool) {
		t.Helper()
		for end := time.Now().Add(patience); !ok(); {
			if time.Now().After(end) {
				t.Fatalf("%s: not seen; captured %v", what, wire.take())
			}
			<-time.After(10 * time.Millisecond)
		}
	}
	settled := time.Now()
	until("an interface that has said what it has to", func() bool {
		if len(wire.take()) > 0 {
			settled = time.Now()
		}
		return time.Since(settled) > 5*time.Second
	})
	for _, to := range []string{"198.51.100.9:9", "[2001:db8:1::9]:9"} { // what is sent is seen
		c, err := net.Dial("udp", to)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprint(c, "x")
		c.Close()
		until("a packet to "+to, func() bool { return len(wire.take()) > 0 })
	}

	p := newProvider(t, func(x *exchange) { x.stream(x.script(replyTo(x.text)), 0) })
	h := newHouse(t, oneModel(p, nil))
	h.binary = os.Getenv("OPENCLAW_BIN")
	length := time.Duration(seconds) * time.Second
	ctx, cancel := context.WithTimeout(t.Context(), 2*length+patience)
	defer cancel()
	h.ctx = ctx
	g := h.start()
	began, calls := time.Now(), 0
	for ; time.Since(began) < length; calls++ {
		c := h.mustConnect(nil)
		h.mustRun("health")
		h.mustRun("channels", "status", "--json")
		h.mustRun("agent", "--agent", "main", "--message", "hello")
		c.Close()
		select {
		case <-time.After(time.Second):
		case <-h.ctx.Done():
			t.Fatal("it takes too long")
		}
	}
	if sent := wire.take(); len(sent) > 0 {
		t.Errorf("%d packets left: %v", len(sent), sent)
	} else {
		t.Logf("%d packets in %v, with %d turns, %d clients and %d commands over loopback", len(sent), time.Since(began).Round(time.Second), calls, calls, 3*calls)
	}
	g.kill()

	h = newHouse(t, object{"channels": object{"telegram": object{"botToken": botToken}}})
	h.binary = os.Getenv("OPENCLAW_BIN")
	h.start()
	until("what a channel sends", func() bool { return len(wire.take()) > 0 })
}

// capture is every frame that leaves by an interface other than lo.
type capture struct {
	mu     sync.Mutex
	frames []string
}

func (c *capture) take() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := c.frames
	c.frames = nil
	return out
}

func captureAll(t *testing.T) *capture {
	all := int(binary.BigEndian.Uint16([]byte{syscall.ETH_P_ALL >> 8, syscall.ETH_P_ALL & 0xff}))
	var swapped [2]byte
	binary.NativeEndian.PutUint16(swapped[:], uint16(all))
	network := int(binary.BigEndian.Uint16(swapped[:])) // htons
	fd, err := syscall.Socket(syscall.AF_PACKET, syscall.SOCK_RAW|syscall.SOCK_CLOEXEC, network)
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.SetsockoptTimeval(fd, syscall.SOL_SOCKET, syscall.SO_RCVTIMEO, &syscall.Timeval{Usec: 100_000}); err != nil {
		t.Fatal(err)
	}
	lo, err := net.InterfaceByName("lo")
	if err != nil {
		t.Fatal(err)
	}
	c, done, over := &capture{}, make(chan struct{}), make(chan struct{})
	t.Cleanup(func() {
		close(done)
		<-over
		syscall.Close(fd)
	})
	go func() {
		defer close(over)
		buf := make([]byte, 128)
		for {
			select {
			case <-done:
				return
			default:
			}
			n, from, err := syscall.Recvfrom(fd, buf, 0)
			if at, ok := from.(*syscall.SockaddrLinklayer); err == nil && ok && at.Ifindex != lo.Index && at.Pkttype == syscall.PACKET_OUTGOING {
				c.mu.Lock()
				c.frames = append(c.frames, fmt.Sprintf("%x", buf[:n]))
				c.mu.Unlock()
			}
		}
	}()
	return c
}
