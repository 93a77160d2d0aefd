// Package fetch gets pages of the public web as text for a model.
//
// A model can be talked into asking for anything, and whoever writes a page
// can redirect: so the address is judged by address.go, once, before each
// request, and dial.go is the one way to the network: it resolves a name,
// wants every answer to be a public host's, and connects to the very address
// that it judged. fetch.go follows redirects and bounds what comes; html.go
// makes text of HTML; page.go decodes it and marks it as somebody else's.
package fetch

import (
	"compress/gzip"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"syscall"
	"time"
)

// Limits bound one fetch.
type Limits struct {
	Chars     int           // shown of a page
	Bytes     int64         // received, and unpacked
	Time      time.Duration // for all of it
	Redirects int           // followed
}

const (
	parallel   = 16   // fetches at a time; more wait
	errorChars = 4000 // shown of a page that says what went wrong
)

// Client fetches. Its methods may be called from any goroutine.
type Client struct {
	slots   chan struct{}
	lookup  func(ctx context.Context, network, host string) ([]netip.Addr, error)
	connect func(ctx context.Context, network, addr string) (net.Conn, error)
	tls     *tls.Config

	// What may be reached. Only tests of this package put others in their place.
	allowAddr func(netip.Addr) bool
	allowPort func(uint16) bool
}

// Get fetches a page. Errors are written for the model: what they say is ours,
// never a server's.
func (c *Client) Get(ctx context.Context, address string, l Limits) (*Page, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, l.Time, fmt.Errorf("it took longer than %v", l.Time))
	defer cancel()
	select {
	case c.slots <- struct{}{}:
		defer func() { <-c.slots }()
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	u, err := c.target(nil, address)
	for hop := 0; err == nil; hop++ {
		var page *Page
		var location string
		if page, location, err = c.visit(ctx, u, l); err != nil {
			err = failure(ctx, err)
		} else if page != nil {
			return page, nil
		} else if hop == l.Redirects {
			err = fmt.Errorf("it redirects more often than %d times", l.Redirects)
		} else if u, err = c.target(u, location); err != nil {
			err = fmt.Errorf("it redirects to what is not fetched: %w", err)
		}
	}
	return nil, err
}

// visit makes one request. A redirect is a location and no page.
func (c *Client) visit(ctx context.Context, u *url.URL, l Limits) (p *Page, location string, err error) {
	conn, err := c.dial(ctx, u)
	if err != nil {
		return nil, "", err
	}
	defer conn.Close()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, "", err
	}
	req.Header.Set("User-Agent", "openclaw")
	req.Header.Set("Accept", "text/html, application/xhtml+xml, text/*, application/json, application/xml;q=0.9, */*;q=0.1")
	req.Header.Set("Accept-Encoding", "gzip")
	resp, err := c.over(conn).RoundTrip(req)
	if err != nil {
		return nil, "", err
	}
	defer resp.Body.Close()
	if location = resp.Header.Get("Location"); location != "" && slices.Contains([]int{301, 302, 303, 307, 308}, resp.StatusCode) {
		return nil, location, nil
	}
	p = &Page{URL: u.String(), Status: resp.StatusCode}
	if !p.OK() {
		l.Chars = min(l.Chars, errorChars)
	}
	raw, cut, err := receive(resp, l.Bytes)
	if err != nil {
		return nil, "", err
	}
	header := resp.Header.Get("Content-Type")
	if header == "" {
		header = http.DetectContentType(raw)
	}
	typ, params, err := mime.ParseMediaType(header)
	if err != nil || !textual(typ) {
		if !p.OK() {
			return p, "", nil // the status tells enough
		}
		return nil, "", refuse("it is of type %.100q; only text, HTML, JSON and XML are read", typ)
	}
	p.Type = typ
	p.fill(raw, params["charset"], u, l.Chars)
	p.Cut = p.Cut || cut
	return p, "", nil
}

// textual is the list of types that are read.
func textual(typ string) bool {
	sub, app := strings.CutPrefix(typ, "application/")
	return strings.HasPrefix(typ, "text/") || app && (sub == "json" || sub == "xml" || strings.HasSuffix(sub, "+json") || strings.HasSuffix(sub, "+xml"))
}

// receive reads a body, most bytes at most both before and after it is
// unpacked, and says whether there was more.
func receive(resp *http.Response, most int64) (raw []byte, cut bool, err error) {
	in := &io.LimitedReader{R: resp.Body, N: most + 1}
	out := io.Reader(in)
	switch strings.ToLower(resp.Header.Get("Content-Encoding")) {
	case "", "identity":
	case "gzip", "x-gzip":
		if out, err = gzip.NewReader(in); err == io.EOF {
			return nil, false, nil
		} else if err != nil {
			return nil, false, err
		}
	default:
		return nil, false, refuse("it is compressed in a way that was not asked for")
	}
	raw, err = io.ReadAll(io.LimitReader(out, most+1))
	if cut = in.N == 0 || int64(len(raw)) > most; cut {
		return raw[:min(int64(len(raw)), most)], true, nil
	}
	return raw, false, err
}

// refusal is an error in our own words.
type refusal string

func (r refusal) Error() string { return string(r) }

func refuse(format string, args ...any) error { return refusal(fmt.Sprintf(format, args...)) }

// failure puts an error of the network into words of ours: those of net/http
// quote what the server sent.
func failure(ctx context.Context, err error) error {
	var own refusal
	var name *net.DNSError
	var cert *tls.CertificateVerificationError
	var errno syscall.Errno
	var slow net.Error
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case errors.As(err, &own):
		return own
	case errors.As(err, &name) && name.IsNotFound:
		return refuse("there is no host of that name")
	case errors.As(err, &name):
		return refuse("the host's name could not be looked up; try again later")
	case errors.As(err, &cert):
		return refuse("the host's certificate is not valid for it")
	case errors.As(err, &slow) && slow.Timeout():
		return refuse("the host does not answer in time")
	case errors.As(err, &errno):
		return refuse("the connection failed: %v", errno)
	}
	return refuse("the host's answer is not HTTP that can be used")
}
