package fetch

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"syscall"
	"time"
)

const (
	lookupTime = 5 * time.Second
	dialTime   = 5 * time.Second // for one address
	maxAnswers = 64              // addresses that a name may have
	maxTried   = 3               // of them
	maxHeader  = 64 << 10
)

// New returns a Client for the public internet.
func New() *Client {
	c := &Client{slots: make(chan struct{}, parallel), lookup: new(net.Resolver).LookupNetIP, allowAddr: public, allowPort: webPort}
	d := &net.Dialer{Timeout: dialTime, Control: c.control}
	c.connect = d.DialContext
	return c
}

// control judges once more, of the socket that is about to connect.
func (c *Client) control(network, address string, _ syscall.RawConn) error {
	to, err := netip.ParseAddrPort(address)
	if err != nil || !c.allowAddr(to.Addr()) || !c.allowPort(to.Port()) {
		return errNotPublic
	}
	return nil
}

// dial connects to a target. A name is looked up here and nowhere else, with
// no domain of the host's appended; one forbidden answer refuses all. What is
// connected to is an address, so that nothing is looked up again.
func (c *Client) dial(ctx context.Context, u *url.URL) (net.Conn, error) {
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	addrs, err := c.resolve(ctx, u.Hostname())
	if err != nil {
		return nil, err
	}
	for _, a := range addrs {
		if !c.allowAddr(a) {
			return nil, errNotPublic
		}
	}
	err = refuse("the host has no address")
	for _, a := range addrs[:min(len(addrs), maxTried)] {
		var conn net.Conn
		if conn, err = c.connect(ctx, "tcp", net.JoinHostPort(a.Unmap().String(), port)); err == nil {
			return conn, nil
		}
		if ctx.Err() != nil {
			break
		}
	}
	return nil, err
}

func (c *Client) resolve(ctx context.Context, host string) ([]netip.Addr, error) {
	if a, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{a}, nil
	}
	ctx, cancel := context.WithTimeout(ctx, lookupTime)
	defer cancel()
	addrs, err := c.lookup(ctx, "ip", host+".")
	if len(addrs) > maxAnswers {
		return nil, refuse("the host has more than %d addresses", maxAnswers)
	}
	return addrs, err
}

// over is HTTP/1.1 over one connection and no other: no proxy, no second
// dial, nothing kept. Compression is ours to undo, under limits.
func (c *Client) over(conn net.Conn) *http.Transport {
	return &http.Transport{
		Proxy:                  nil,
		DialContext:            func(context.Context, string, string) (net.Conn, error) { return conn, nil },
		TLSClientConfig:        c.tls.Clone(),
		TLSNextProto:           map[string]func(string, *tls.Conn) http.RoundTripper{}, // no HTTP/2
		DisableKeepAlives:      true,
		DisableCompression:     true,
		MaxResponseHeaderBytes: maxHeader,
	}
}
