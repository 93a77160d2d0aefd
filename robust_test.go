package main

import (
	"bufio"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"openclaw/wire"
)

// hostile are clients that mean no good. Each does its worst on one connection
// until that ends or ctx does.
func hostile() map[string]func(ctx context.Context, c net.Conn, host string) {
	say := func(c net.Conn, text string) { io.WriteString(c, text) }
	upgrade := func(c net.Conn, host string) {
		say(c, "GET / HTTP/1.1\r\nHost: "+host+"\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n")
	}
	drip := func(ctx context.Context, c net.Conn, text string) {
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		for i := range len(text) {
			select {
			case <-tick.C:
			case <-ctx.Done():
				return
			}
			if _, err := io.WriteString(c, text[i:i+1]); err != nil {
				return
			}
		}
	}
	return map[string]func(context.Context, net.Conn, string){
		"garbage": func(ctx context.Context, c net.Conn, host string) {
			io.CopyN(c, rand.Reader, 8<<10)
		},
		"half a request": func(ctx context.Context, c net.Conn, host string) {
			say(c, "GET / HTTP/1.1\r\nHost: "+host+"\r\nConnection: Upgrade\r\nUpgra")
		},
		"large header": func(ctx context.Context, c net.Conn, host string) {
			say(c, "GET / HTTP/1.1\r\nHost: "+host+"\r\nX-Large: "+strings.Repeat("x", 256<<10))
		},
		"slow header": func(ctx context.Context, c net.Conn, host string) {
			drip(ctx, c, "GET /healthz HTTP/1.1\r\nHost: "+host+"\r\nX-Slow: "+strings.Repeat("x", 4096))
		},
		"promised body": func(ctx context.Context, c net.Conn, host string) {
			say(c, "POST /v1/chat/completions HTTP/1.1\r\nHost: "+host+"\r\nAuthorization: Bearer "+testToken+"\r\nContent-Length: 20000000\r\n\r\n{")
		},
		"mute": func(ctx context.Context, c net.Conn, host string) {
			upgrade(c, host)
		},
		"declared frame": func(ctx context.Context, c net.Conn, host string) {
			upgrade(c, host)
			say(c, "\x81\xff\x00\x00\x00\x00\x40\x00\x00\x00abcd{")
		},
		"slow frame": func(ctx context.Context, c net.Conn, host string) {
			upgrade(c, host)
			drip(ctx, c, "\x81\xfe\xff\xffabcd"+strings.Repeat("{", 60000))
		},
	}
}

// TestHostileClients lets 200 of them at a gateway, on which a good client's
// requests must stay fast; what they held is given back when they leave.
func TestHostileClients(t *testing.T) {
	h := newHouse(t, object{"gateway": object{"limits": object{"handshakeMs": 1000}}})
	g := h.start()
	good := h.mustConnect(nil)
	ask := func() (time.Duration, error) {
		began := time.Now()
		err := good.Call(h.ctx, "health", nil, nil)
		return time.Since(began), err
	}
	quiet := distribution(t, 300, ask)
	fds, threads, memory := g.usage()

	ctx, stop := context.WithCancel(h.ctx)
	var clients sync.WaitGroup
	var refused, closed, open atomic.Int32
	kinds := hostile()
	for _, do := range kinds {
		for range 200 / len(kinds) {
			clients.Go(func() {
				for ctx.Err() == nil { // whoever is thrown out comes back
					var d net.Dialer
					c, err := d.DialContext(ctx, "tcp", h.addr())
					if err != nil {
						refused.Add(1)
						return
					}
					leave := context.AfterFunc(ctx, func() { c.Close() })
					open.Add(1)
					go do(ctx, c, h.addr())
					io.Copy(io.Discard, bufio.NewReader(c)) // until the gateway ends it, or we do
					if ctx.Err() == nil {
						closed.Add(1)
					}
					leave()
					c.Close()
					select { // some are thrown out at once, and would do nothing but knock
					case <-time.After(200 * time.Millisecond):
					case <-ctx.Done():
					}
				}
			})
		}
	}
	eventually(t, patience, func() error {
		if _, err := ask(); err != nil {
			t.Fatal(err)
		}
		if n := open.Load(); n < 200 {
			return fmt.Errorf("%d of 200 hostile clients have come", n)
		}
		return nil
	})
	loud := distribution(t, 300, ask)
	for range 10 {
		if a := h.mustHTTP("POST", "/v1/chat/completions", chatBody("", "hello", false)); a.status != http.StatusOK {
			t.Errorf("a turn over HTTP meanwhile: %d %s", a.status, a.body)
		}
	}
	// Whoever holds places without authenticating loses them to whoever comes.
	const tries = 50
	connected := 0
	for range tries {
		if c, err := h.connect(nil); err == nil {
			connected++
			c.Close()
		}
	}
	others := fmt.Sprintf("%d of %d others could connect meanwhile", connected, tries)
	if connected < tries/2 {
		t.Error(others)
	}
	fdsThen, threadsThen, _ := g.usage()
	stop()
	clients.Wait()
	g.alive()

	// With each round trip the gateway has had time to notice who left.
	eventually(t, patience, func() error {
		if _, err := ask(); err != nil {
			t.Fatal(err)
		}
		if now, _, _ := g.usage(); now > fds+2 {
			return fmt.Errorf("%d descriptors, before %d", now, fds)
		}
		return nil
	})
	eventually(t, patience, func() error {
		var st wire.Status
		if err := good.Call(h.ctx, "status", nil, &st); err != nil || st.Connections != 1 || st.Runs != 0 {
			return fmt.Errorf("status: %+v, %v", st, err)
		}
		return nil
	})
	h.mustConnect(nil)
	fdsAfter, threadsAfter, memoryAfter := g.usage()
	t.Logf("health, quiet: %v; with 200 hostile clients: %v; %d of them were closed, %d found the door shut; %s", quiet, loud, closed.Load(), refused.Load(), others)
	t.Logf("descriptors %d, %d, %d; threads %d, %d, %d; peak memory %d MiB, %d MiB", fds, fdsThen, fdsAfter, threads, threadsThen, threadsAfter, memory>>10, memoryAfter>>10)
	if loud.p99 > time.Second+10*quiet.p99 { // which is how fast this machine is
		t.Errorf("the good client waited: %v", loud)
	}
	if grown := (memoryAfter - memory) >> 10; grown > 256 {
		t.Errorf("memory grew by %d MiB", grown)
	}
	g.signal(syscall.SIGTERM)
	if code := g.wait(); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

// latency is a distribution of times.
type latency struct{ p50, p99, max time.Duration }

func (l latency) String() string {
	return fmt.Sprintf("p50 %v, p99 %v, at most %v", l.p50.Round(time.Microsecond), l.p99.Round(time.Microsecond), l.max.Round(time.Microsecond))
}

func distribution(t *testing.T, n int, ask func() (time.Duration, error)) latency {
	t.Helper()
	times := make([]time.Duration, n)
	for i := range times {
		var err error
		if times[i], err = ask(); err != nil {
			t.Fatal(err)
		}
	}
	slices.Sort(times)
	return latency{times[n/2], times[n*99/100], times[n-1]}
}

// usage is what the process holds: descriptors, threads and, at its highest,
// memory in KiB; zeros where there is no /proc. A gateway is not dumpable: to
// any user but root its descriptors are those connections that it holds.
func (p *process) usage() (fds, threads, memory int) {
	p.h.t.Helper()
	dir := fmt.Sprintf("/proc/%d/", p.pid())
	status, err := os.ReadFile(dir + "status")
	if errors.Is(err, os.ErrNotExist) {
		return 0, 0, 0
	}
	list, listErr := os.ReadDir(dir + "fd")
	fds = len(list)
	if errors.Is(listErr, os.ErrPermission) && os.Getuid() != 0 {
		fds, listErr = p.h.connections(), nil
	}
	if err != nil || listErr != nil {
		p.h.t.Fatal(err, listErr)
	}
	for line := range strings.Lines(string(status)) {
		f := strings.Fields(line)
		switch {
		case len(f) > 1 && f[0] == "Threads:":
			threads, _ = strconv.Atoi(f[1])
		case len(f) > 1 && f[0] == "VmHWM:":
			memory, _ = strconv.Atoi(f[1])
		}
	}
	return fds, threads, memory
}

// connections counts the sockets at the gateway's port that some process holds,
// the listener included: fields 2 and 10 of the kernel's table, whose socket
// without a holder has inode 0 (proc_net_tcp.txt).
func (h *house) connections() (n int) {
	h.t.Helper()
	raw, err := os.ReadFile("/proc/net/tcp")
	if err != nil {
		h.t.Fatal(err)
	}
	for line := range strings.Lines(string(raw)) {
		if f := strings.Fields(line); len(f) > 9 && strings.HasSuffix(f[1], fmt.Sprintf(":%04X", h.port)) && f[9] != "0" {
			n++
		}
	}
	return n
}
