package gateway

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"syscall"
	"time"

	"openclaw/gateway/proc"
	"openclaw/gateway/store"
	"openclaw/reload/config"
)

// devPortName is where a dev profile keeps the port that it found.
const devPortName = "dev-port"

// devBlocks is how many blocks of ports --dev tries.
const devBlocks = 64

// portTaken says that somebody else listens on an address.
type portTaken struct {
	addr string
	err  error
}

func (e *portTaken) Error() string { return e.addr + " is taken" }

func (e *portTaken) Unwrap() error { return e.err }

// bind listens on the base port, on every address of the configuration.
func (g *Gateway) bind(cfg *config.Config) error {
	var err error
	port, listen, sup := cfg.Gateway.Port, g.opts.listen, g.opts.Supervisor
	if listen == nil {
		hosts, err := bindHosts(cfg.Gateway)
		if err != nil {
			return &ExitError{exitConfig, err}
		}
		listen = func(port int) ([]net.Listener, error) { return listenAll(hosts, port, g.doorAt) }
		if sup.port() != 0 {
			listen = func(int) ([]net.Listener, error) { return g.doorsOf(sup.sockets, hosts) }
		}
	}
	inEnv, _ := g.opts.Env("OPENCLAW_GATEWAY_PORT")
	search := g.opts.Dev && g.opts.PortOverride == 0 && inEnv == "" && sup.port() == 0
	if search && g.from != nil && port == g.from.cfg().Gateway.Port {
		port, search = g.from.port, false // the one that was found
	}
	if search {
		if port == config.DefaultPort {
			port = config.DevPort
		}
		g.listeners, g.port, err = listenDev(listen, g.occupied(cfg), port, g.keptPort())
	} else {
		g.listeners, err = listen(port)
		g.port = port
	}
	var taken *portTaken
	if errors.As(err, &taken) && g.from != nil && g.from.stepAside(port, taken.addr) {
		if g.listeners, err = listen(port); err != nil {
			err = errors.Join(err, g.from.comeBack())
		}
	}
	if errors.As(err, &taken) {
		err = g.conflict(taken, port, listen)
	}
	if err == nil {
		for _, l := range g.listeners {
			if d, ok := l.(*door); ok {
				g.doors = append(g.doors, d)
			}
		}
		if a, ok := g.listeners[0].Addr().(*net.TCPAddr); ok {
			g.port = a.Port
		}
		return nil
	}
	var exit *ExitError
	if errors.As(err, &exit) {
		return err
	}
	return &ExitError{exitFailed, err}
}

// doorAt listens on one address, or shares the socket of the gateway that this
// one takes over from.
func (g *Gateway) doorAt(network, addr string) (net.Listener, error) {
	if g.from != nil {
		for _, d := range g.from.doors {
			if d.addr == addr && d.there() {
				return d.share(), nil
			}
		}
	}
	l, err := listenOn(network, addr)
	if err != nil {
		return nil, err
	}
	return newDoor(addr, l), nil
}

func listenOn(network, addr string) (net.Listener, error) {
	var lc net.ListenConfig
	lc.SetMultipathTCP(false) // walks around rules that the kernel has for TCP
	return lc.Listen(context.Background(), network, addr)
}

// bindHosts are the addresses of gateway.bind. Loopback is both families.
func bindHosts(c config.Gateway) ([]string, error) {
	loopback := []string{"127.0.0.1", "::1"}
	switch c.Bind {
	case "loopback", "auto":
		return loopback, nil
	case "lan":
		return []string{"0.0.0.0"}, nil
	case "custom":
		a, err := netip.ParseAddr(c.CustomBindHost)
		if err != nil {
			return nil, errors.New("gateway.customBindHost: must be an IP address when gateway.bind is custom")
		}
		return []string{a.Unmap().String()}, nil
	case "tailnet":
		a, err := tailnetAddr()
		if err != nil {
			return nil, err
		}
		return append(loopback, a.String()), nil
	}
	return nil, errors.New("--bind: must be loopback, lan, tailnet, auto or custom")
}

// tailnetAddr finds this host's address in 100.64.0.0/10 (RFC 6598), which is
// where Tailscale puts it.
func tailnetAddr() (netip.Addr, error) {
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return netip.Addr{}, fmt.Errorf("list addresses: %w", err)
	}
	shared := netip.MustParsePrefix("100.64.0.0/10")
	for _, a := range addrs {
		if p, err := netip.ParsePrefix(a.String()); err == nil && shared.Contains(p.Addr()) {
			return p.Addr(), nil
		}
	}
	return netip.Addr{}, errors.New("gateway.bind is tailnet, but this host has no address in 100.64.0.0/10")
}

// listenAll listens on all hosts or on none. Where the system has no IPv6, ::1
// is left out.
func listenAll(hosts []string, port int, open func(network, addr string) (net.Listener, error)) ([]net.Listener, error) {
	var out []net.Listener
	for _, host := range hosts {
		addr := net.JoinHostPort(host, strconv.Itoa(port))
		network := "tcp4"
		if strings.Contains(host, ":") {
			network = "tcp6"
		}
		l, err := open(network, addr)
		switch {
		case err == nil:
			out = append(out, l)
			continue
		case host == "::1" && noIPv6(err):
			continue
		case errors.Is(err, syscall.EADDRINUSE):
			err = &portTaken{addr, err}
		default:
			err = fmt.Errorf("listen on %s: %w", addr, err)
		}
		closeAll(out)
		return nil, err
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("listen on port %d: no address available", port)
	}
	return out, nil
}

func noIPv6(err error) bool {
	return errors.Is(err, syscall.EADDRNOTAVAIL) || errors.Is(err, syscall.EAFNOSUPPORT) || errors.Is(err, syscall.EPROTONOSUPPORT)
}

// closeAll gives listeners back on which nothing was accepted.
func closeAll(ls []net.Listener) {
	for _, l := range ls {
		if d, ok := l.(*door); ok {
			d.drop()
		} else {
			l.Close()
		}
	}
}

// listenDev listens on the first block of ports that is wholly free and not
// occupied: the kept one, then upwards from base in steps that keep CDP ranges apart.
func listenDev(listen func(int) ([]net.Listener, error), occupied func(int) error, base, kept int) ([]net.Listener, int, error) {
	ports := make([]int, 0, devBlocks+1)
	if kept > base && (kept-base)%config.DevPortStep == 0 {
		ports = append(ports, kept)
	}
	for i := range devBlocks {
		ports = append(ports, base+i*config.DevPortStep)
	}
	var last error
	for _, port := range ports {
		block, err := config.Block(port)
		if err != nil {
			break
		}
		if err := occupied(port); err != nil {
			last = err
			continue
		}
		ls, err := listen(port)
		var taken *portTaken
		if errors.As(err, &taken) {
			last = err
			continue
		} else if err != nil {
			return nil, 0, err
		}
		if last = restFree(listen, block); last == nil {
			return ls, port, nil
		}
		closeAll(ls)
	}
	return nil, 0, fmt.Errorf("no free block of ports for --dev: %w", last)
}

// restFree reports whether the single ports of a block besides the base are free.
func restFree(listen func(int) ([]net.Listener, error), block []config.PortRange) error {
	for _, r := range block[1:] {
		if r.Count > 1 { // one per browser profile, taken when one runs
			continue
		}
		ls, err := listen(r.First)
		if err != nil {
			return err
		}
		closeAll(ls)
	}
	return nil
}

// keptPort is the port that an earlier --dev found, or 0.
func (g *Gateway) keptPort() int {
	dir, err := store.OpenRead(g.opts.Paths.StateDir)
	if err != nil {
		return 0 // told when the directory is locked
	}
	defer dir.Close()
	raw, err := dir.ReadFile(devPortName, 16)
	if err != nil {
		return 0
	}
	port, _ := strconv.Atoi(strings.TrimSpace(string(raw)))
	return port
}

func (g *Gateway) keepDevPort() error {
	if g.port == g.keptPort() {
		return nil
	}
	if err := g.store.WriteFile(devPortName, []byte(strconv.Itoa(g.port)+"\n")); err != nil {
		return fmt.Errorf("keep the dev port: %w", err)
	}
	return nil
}

// dialAddr is host:port for a client on this host.
func (g *Gateway) dialAddr() string {
	return reachable(g.listeners[0].Addr().String())
}

// reachable is where a client on this host finds who listens on an address.
func reachable(addr string) string {
	switch ap, _ := netip.ParseAddrPort(addr); ap.Addr() {
	case netip.IPv4Unspecified():
		return net.JoinHostPort("127.0.0.1", strconv.Itoa(int(ap.Port())))
	case netip.IPv6Unspecified():
		return net.JoinHostPort("::1", strconv.Itoa(int(ap.Port())))
	}
	return addr
}

// conflict deals with a port that somebody holds: with --force it ends the
// holder and listens again, else it says who that is.
func (g *Gateway) conflict(taken *portTaken, port int, listen func(int) ([]net.Listener, error)) error {
	if !g.opts.Force {
		who := proc.HolderOf(port)
		if g.from != nil {
			return fail(exitFailed, "port %d is taken by %s: free it, or choose another gateway.port", port, who)
		}
		if probe(reachable(taken.addr)) {
			return fail(exitConfig, "port %d is held by a healthy gateway (%s): stop it, use --force, or choose another --port", port, who)
		}
		return fail(exitFailed, "port %d is taken by %s: stop it, use --force, or choose another --port", port, who)
	}
	ended, err := proc.EndHolders(port, forceGrace)
	for _, h := range ended {
		fmt.Fprintf(g.opts.Stderr, "openclaw: ended %s, which held port %d\n", h, port)
	}
	if err != nil {
		return fail(exitFailed, "port %d: --force: %w", port, err)
	}
	// The kernel frees a port a moment after its last holder is gone.
	deadline := time.Now().Add(time.Second)
	for {
		g.listeners, err = listen(port)
		if err == nil || !errors.Is(err, syscall.EADDRINUSE) || time.Now().After(deadline) {
			return err
		}
		time.Sleep(5 * time.Millisecond)
	}
}
