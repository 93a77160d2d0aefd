package gateway

import (
	"errors"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// door is one address that is listened on. The socket may be shared with the
// gateway that takes over from this one: closing the door then ends Accept and
// leaves the socket, and who connects meanwhile waits in it.
type door struct {
	addr string // as listened on
	shut sync.Once
	done chan struct{} // closed with the door
	left chan struct{} // holds a token once Accept has failed: who was let in before is known to the server

	mu    sync.Mutex
	sock  *socket
	aside chan struct{} // closed when the socket is back; nil while it is there
}

// socket is a listening socket and how many doors have it.
type socket struct {
	net.Listener
	doors atomic.Int32
}

func newSocket(l net.Listener) *socket {
	s := &socket{Listener: l}
	s.doors.Store(1)
	return s
}

func newDoor(addr string, l net.Listener) *door {
	return &door{addr: addr, sock: newSocket(l), done: make(chan struct{}), left: make(chan struct{}, 1)}
}

// share makes a second door of the same socket.
func (d *door) share() *door {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.sock.doors.Add(1)
	return &door{addr: d.addr, sock: d.sock, done: make(chan struct{}), left: make(chan struct{}, 1)}
}

// state returns the socket, and what to wait for where it is aside.
func (d *door) state() (*socket, <-chan struct{}) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.sock, d.aside
}

// Accept returns the next connection. It waits while the socket is aside.
func (d *door) Accept() (net.Conn, error) {
	for {
		s, _ := d.state()
		c, err := s.Accept()
		if err == nil {
			return c, nil
		}
		now, aside := d.state()
		if aside != nil {
			select {
			case <-aside:
			case <-d.done:
				return nil, net.ErrClosed
			}
		} else if now == s {
			select {
			case d.left <- struct{}{}:
			default:
			}
			return nil, err
		}
	}
}

// open makes a shared socket accept again, once the other door is closed.
func (d *door) open() {
	s, _ := d.state()
	setDeadline(s.Listener, time.Time{})
}

// Close lets nobody in any more.
func (d *door) Close() error {
	d.shut.Do(func() {
		close(d.done)
		s, _ := d.state()
		if s.doors.Add(-1) == 0 {
			s.Listener.Close()
		} else {
			setDeadline(s.Listener, time.Unix(1, 0)) // ends our Accept
		}
	})
	return nil
}

// handOver is Close where another door shares the socket, and else nothing. Who
// was let in last is then known to the server, which asks for the next one after
// it has noted that.
func (d *door) handOver() {
	if s, _ := d.state(); s.doors.Load() > 1 {
		d.Close()
		select {
		case <-d.left:
		case <-time.After(time.Second):
		}
	}
}

// drop gives a shared socket back unused. The other door goes on.
func (d *door) drop() {
	d.shut.Do(func() {
		close(d.done)
		if s, _ := d.state(); s.doors.Add(-1) == 0 {
			s.Listener.Close()
		}
	})
}

func (d *door) Addr() net.Addr {
	s, _ := d.state()
	return s.Addr()
}

// stepAside frees the addresses on a port for a moment, if they may be what
// keeps somebody from listening on addr: all addresses cannot be listened on
// beside one of them. It reports whether that is so.
func (g *Gateway) stepAside(port int, addr string) bool {
	covers := func(addr string) bool {
		ap, err := netip.ParseAddrPort(addr)
		return err == nil && ap.Addr().IsUnspecified()
	}
	if g.port != port || !covers(addr) && !slices.ContainsFunc(g.doors, func(d *door) bool { return covers(d.addr) }) {
		return false
	}
	for _, d := range g.doors {
		d.mu.Lock()
		d.aside = make(chan struct{})
		d.sock.Close()
		d.mu.Unlock()
	}
	return len(g.doors) > 0
}

// comeBack takes the addresses again that stepAside freed.
func (g *Gateway) comeBack() error {
	var errs []error
	for _, d := range g.doors {
		errs = append(errs, d.comeBack())
	}
	return errors.Join(errs...)
}

func (d *door) comeBack() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.aside == nil {
		return nil
	}
	network := "tcp4"
	if d.addr[0] == '[' {
		network = "tcp6"
	}
	l, err := listenOn(network, d.addr)
	if err == nil {
		d.sock = newSocket(l)
	}
	close(d.aside) // without a socket Accept fails, and with it the gateway
	d.aside = nil
	return err
}

// there reports whether the socket is not aside.
func (d *door) there() bool {
	_, aside := d.state()
	return aside == nil
}

func setDeadline(l net.Listener, t time.Time) {
	if l, ok := l.(interface{ SetDeadline(time.Time) error }); ok {
		l.SetDeadline(t)
	}
}
