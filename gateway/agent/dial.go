package agent

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"net/url"
	"time"
)

// A dialFunc connects to a provider, as net.Dialer.DialContext does.
type dialFunc func(ctx context.Context, network, addr string) (net.Conn, error)

const (
	dialTimeout  = 10 * time.Second
	maxErrorBody = 64 << 10
	errorTime    = 5 * time.Second // to receive the body of an error
)

// upstream is the one way to model providers. It keeps their connections.
type upstream struct {
	transport *http.Transport
	stall     time.Duration // the longest silence within an answer
}

// newUpstream returns an upstream whose transport trusts nothing but the
// configuration: no proxy from the environment; and, used without an
// http.Client, no redirects (which would carry the key to another host), no
// cookies and no errors with the address in them.
func newUpstream(dial dialFunc) *upstream {
	if dial == nil {
		dial = (&net.Dialer{Timeout: dialTimeout, KeepAlive: 30 * time.Second}).DialContext
	}
	return &upstream{
		stall: 2 * time.Minute,
		transport: &http.Transport{
			Proxy:                  nil,
			DialContext:            dial,
			TLSHandshakeTimeout:    dialTimeout,
			ForceAttemptHTTP2:      true,
			HTTP2:                  &http.HTTP2Config{SendPingTimeout: 15 * time.Second, PingTimeout: 15 * time.Second},
			DisableCompression:     true, // a compressor holds tokens back, and a small body may unpack to a huge one
			MaxIdleConns:           128,
			MaxIdleConnsPerHost:    64,
			IdleConnTimeout:        90 * time.Second,
			MaxResponseHeaderBytes: 64 << 10,
		},
	}
}

// An encodeFunc makes a protocol's request: its path under the provider's base
// URL, its body, and what the protocol adds to the header.
type encodeFunc func(base *url.URL, h http.Header) (path string, body []byte, err error)

// post sends a request to the provider. The error is as client.stream returns
// it; else the caller must finish or abandon the reply.
func (u *upstream) post(ctx context.Context, r *modelRequest, encode encodeFunc) (*reply, error) {
	base, err := url.Parse(r.Model.BaseURL)
	if err != nil || base.Host == "" || base.Scheme != "http" && base.Scheme != "https" {
		return nil, r.failf(0, "baseUrl is not an http or https address")
	}
	header := make(http.Header, 8)
	path, body, err := encode(base, header)
	if err != nil {
		return nil, err
	}
	// The request's context is hooked to ctx rather than made from it, so that
	// the connection of a finished answer outlives a turn and can be reused.
	call, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	a := &reply{request: r, ctx: ctx, call: call, cancel: cancel, idle: u.stall}
	a.unhook = context.AfterFunc(ctx, func() { cancel(context.Cause(ctx)) })
	a.timer = time.AfterFunc(r.wait, func() { cancel(errSilent) })

	req, err := http.NewRequestWithContext(call, http.MethodPost, base.JoinPath(path).String(), bytes.NewReader(body))
	if err != nil {
		a.abandon()
		return nil, r.failf(0, "baseUrl is not an http or https address")
	}
	req.Header = header
	header.Set("Content-Type", "application/json")
	header.Set("Accept", "text/event-stream, application/json")
	header.Set("User-Agent", "openclaw")
	for name, value := range r.Model.Headers {
		header.Set(name, value.Reveal())
	}
	// Present and empty: net/http does not send it, but knows that a request
	// may be repeated whose kept connection turned out to be dead.
	header["Idempotency-Key"] = []string{}

	resp, err := u.transport.RoundTrip(req)
	if err != nil {
		err = a.failure(err)
		a.abandon()
		return nil, err
	}
	a.body, a.typ = resp.Body, resp.Header.Get("Content-Type")
	if resp.StatusCode/100 != 2 {
		err := a.refusal(resp)
		a.abandon()
		return nil, err
	}
	return a, nil
}

// refusal makes an error of an answer whose status is not a success.
func (a *reply) refusal(resp *http.Response) error {
	if resp.StatusCode/100 == 3 {
		to := "elsewhere"
		if loc, err := resp.Location(); err == nil {
			to = loc.Host
		}
		return a.request.failf(resp.StatusCode, "redirects to %s, which is not followed because the key would go along; set baseUrl to the final address", to)
	}
	a.timer.Reset(errorTime)
	// What was read tells enough, however the reading ended.
	body, _ := io.ReadAll(io.LimitReader(resp.Body, maxErrorBody))
	if a.ctx.Err() != nil {
		return a.request.ended(a.ctx)
	}
	e := a.request.refused(resp.StatusCode, parseFault(body))
	e.RetryAfter = retryAfter(resp.Header)
	return e
}
