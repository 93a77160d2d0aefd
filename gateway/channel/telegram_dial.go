package channel

import (
	"context"
	"net"
	"net/http"
	"time"
)

const (
	dialTime      = 15 * time.Second
	fallbackDelay = 250 * time.Millisecond // before IPv4 is tried beside an IPv6 that does not answer (RFC 8305 §5)
)

type transport = http.Transport

// newTransport is the one way to a Bot API: no proxy from the environment and,
// used without an http.Client, no redirects, no cookies and no errors with the
// address, in which the token is.
func newTransport(family string, dial func(ctx context.Context, network, addr string) (net.Conn, error)) *transport {
	if dial == nil {
		dial = newDialer().DialContext
	}
	return &transport{
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			if family == "tcp4" {
				network = "tcp4"
			}
			return dial(ctx, network, addr)
		},
		TLSHandshakeTimeout: dialTime, DisableCompression: true, MaxIdleConnsPerHost: 8,
		IdleConnTimeout: 90 * time.Second, MaxResponseHeaderBytes: 64 << 10,
	}
}

// newDialer tries IPv6 first, and IPv4 beside it when that does not answer.
func newDialer() *net.Dialer {
	return &net.Dialer{Timeout: dialTime, FallbackDelay: fallbackDelay, KeepAlive: 30 * time.Second}
}
