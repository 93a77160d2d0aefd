package gateway

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"openclaw/gateway/store"
)

const (
	firstInherited = 3 // SD_LISTEN_FDS_START of sd_listen_fds(3)
	maxInherited   = 16
)

// inherit takes over the sockets that a supervisor opened for this process: all
// of them, or none with a sentence that says what to change. No child gets
// them: what is kept is a duplicate that is closed on exec.
func inherit(pid, fds, names string) ([]net.Listener, error) {
	if pid != strconv.Itoa(os.Getpid()) {
		return nil, nil // they were meant for another
	}
	n, err := strconv.Atoi(fds)
	if err != nil || n < 0 || n > maxInherited {
		return nil, fmt.Errorf("LISTEN_FDS is %q: must be a number up to %d", store.Clip(fds, 16), maxInherited)
	}
	var out []net.Listener
	for i := range n {
		l, err := inheritedAt(firstInherited + i)
		if err == nil && i > 0 && portOf(l) != portOf(out[0]) {
			l.Close()
			err = fmt.Errorf("has port %d, another has port %d: all must have the gateway's one port", portOf(l), portOf(out[0]))
		}
		if err != nil {
			closeAll(out)
			name := strconv.Itoa(i + 1)
			if list := strings.Split(names, ":"); i < len(list) && list[i] != "" {
				name += " (" + oneLine(list[i]) + ")"
			}
			return nil, fmt.Errorf("socket %s of the supervisor %w", name, err)
		}
		out = append(out, l)
	}
	return out, nil
}

// inheritedAt is the listener behind a file descriptor that is ours from now
// on. One that is no socket is left alone: it may be the runtime's.
func inheritedAt(fd int) (net.Listener, error) {
	kind, err := syscall.GetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_TYPE)
	if err != nil {
		return nil, fmt.Errorf("is no socket (file descriptor %d): %w", fd, err)
	}
	f := os.NewFile(uintptr(fd), "inherited socket")
	defer f.Close()
	addr, err := syscall.Getsockname(fd)
	if err != nil {
		return nil, fmt.Errorf("has no address: %w", err)
	}
	_, v4 := addr.(*syscall.SockaddrInet4)
	_, v6 := addr.(*syscall.SockaddrInet6)
	if kind != syscall.SOCK_STREAM || !v4 && !v6 || !isTCP(fd) {
		return nil, errors.New("is not of TCP: the socket unit needs ListenStream= with an address and a port, and no SocketProtocol=")
	}
	if on, err := syscall.GetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_ACCEPTCONN); err != nil || on == 0 {
		return nil, errors.New("does not listen: the socket unit needs Accept=no")
	}
	return net.FileListener(f)
}

func portOf(l net.Listener) int { return l.Addr().(*net.TCPAddr).Port }

// port is that of the sockets which the supervisor opened, 0 where it opened none.
func (s *Supervisor) port() int {
	if s == nil || len(s.sockets) == 0 {
		return 0
	}
	return portOf(s.sockets[0])
}

// doorsOf opens the doors of inherited sockets, or shares those of the gateway
// that this one takes over from, if gateway.bind allows their addresses.
func (g *Gateway) doorsOf(sockets []net.Listener, hosts []string) ([]net.Listener, error) {
	var out []net.Listener
	for i, l := range sockets {
		ap, _ := netip.ParseAddrPort(l.Addr().String())
		addr := ap.Addr().Unmap()
		if !addr.IsLoopback() && !slices.ContainsFunc(hosts, func(host string) bool {
			h := netip.MustParseAddr(host)
			return h == addr || h.IsUnspecified()
		}) {
			closeAll(out)
			return nil, fail(exitConfig, "the supervisor listens on %s, which gateway.bind does not allow: change ListenStream= of the socket unit, or gateway.bind", l.Addr())
		}
		if g.from != nil {
			out = append(out, g.from.doors[i].share())
		} else {
			out = append(out, newDoor(l.Addr().String(), l))
		}
	}
	return out, nil
}
