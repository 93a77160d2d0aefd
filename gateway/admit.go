package gateway

import (
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"openclaw/reload/config"
)

const (
	maxPath = 2 << 10
	maxHops = 32 // of X-Forwarded-For that are looked at
)

// served is by which names the gateway may be addressed, from which origins a
// browser may come, and which proxies are believed. Host and Origin keep web
// pages out: a page that rebinds its own name to our address still sends that
// name, and a page of another origin says which.
type served struct {
	port    string
	hosts   []string // lower case, without port, IPv6 in brackets
	own     []string // origins of those names
	origins []string // configured ones
	proxies []netip.Prefix
}

func (g *Gateway) servedNames(cfg *config.Config) served {
	s := served{port: strconv.Itoa(g.port), hosts: []string{"localhost", "127.0.0.1", "[::1]"}}
	add := func(name string) {
		if name = strings.ToLower(name); name != "" && !slices.Contains(s.hosts, name) {
			s.hosts = append(s.hosts, name)
		}
	}
	for _, l := range g.listeners {
		a, ok := l.Addr().(*net.TCPAddr)
		if !ok || a.IP.IsLoopback() {
			continue
		}
		if name, err := os.Hostname(); err == nil {
			add(name)
			add(name + ".local")
		}
		if !a.IP.IsUnspecified() {
			add(bracketed(a.AddrPort().Addr()))
		}
	}
	scheme := "http://"
	if g.secure {
		scheme = "https://"
	}
	for _, o := range cfg.Gateway.ControlUI.AllowedOrigins {
		if u, err := url.Parse(o); err == nil && u.Host != "" {
			s.origins = append(s.origins, strings.ToLower(u.Scheme+"://"+u.Host))
			name, _, _ := cutPort(u.Host)
			add(name)
		}
	}
	for _, h := range s.hosts {
		s.own = append(s.own, scheme+h+":"+s.port)
	}
	for _, p := range cfg.Gateway.TrustedProxies {
		if prefix, err := netip.ParsePrefix(p); err == nil {
			s.proxies = append(s.proxies, prefix.Masked())
		} else if a, err := netip.ParseAddr(p); err == nil {
			a = a.Unmap()
			s.proxies = append(s.proxies, netip.PrefixFrom(a, a.BitLen()))
		}
	}
	return s
}

func bracketed(a netip.Addr) string {
	if a = a.Unmap().WithZone(""); a.Is6() {
		return "[" + a.String() + "]"
	}
	return a.String()
}

// cutPort splits a Host or the authority of an origin (RFC 9110 §7.2).
func cutPort(host string) (name, port string, found bool) {
	if i := strings.LastIndexByte(host, ':'); i > strings.LastIndexByte(host, ']') {
		return host[:i], host[i+1:], true
	}
	return host, "", false
}

// admit decides whether a request may be looked at at all, and says where it
// comes from.
func (s *snapshot) admit(r *http.Request) (client, *httpError) {
	v := &s.served
	local, _ := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	switch {
	case !v.host(r.Host, local):
		return client{}, refuse(http.StatusMisdirectedRequest, "invalid_request_error", "Misdirected Request: this Host is not served here")
	case !cleanPath(r):
		return client{}, refuse(http.StatusNotFound, "not_found", "Not Found")
	case secretInQuery(r.URL):
		return client{}, refuse(http.StatusBadRequest, "invalid_request_error", "Credentials are not accepted in the URL")
	case !v.origin(r):
		return client{}, refuse(http.StatusForbidden, "origin_not_allowed", "Origin not allowed")
	}
	return v.from(r), nil
}

// host reports whether a request addressed us. Absent and empty are no name.
func (v *served) host(host string, local net.Addr) bool {
	name, port, found := cutPort(host)
	if found && port != v.port {
		return false
	}
	if slices.Contains(v.hosts, strings.ToLower(name)) {
		return true
	}
	// With a wildcard bind, the address that this connection came in on.
	a, ok := local.(*net.TCPAddr)
	return ok && name == bracketed(a.AddrPort().Addr())
}

// origin reports whether a browser's page may make this request. Programs send
// neither header.
func (v *served) origin(r *http.Request) bool {
	origin := r.Header["Origin"]
	if len(origin) > 1 {
		return false
	}
	if len(origin) == 1 {
		o := strings.ToLower(origin[0])
		return slices.Contains(v.own, o) || slices.Contains(v.origins, o)
	}
	// Fetch Metadata: a browser leaves Origin out of some requests, never this.
	switch r.Header.Get("Sec-Fetch-Site") {
	case "", "none", "same-origin":
		return true
	}
	return false
}

// cors answers a listed origin's page that it may read the answer, and reports
// whether the request was only a preflight (Fetch §4.8).
func cors(h http.Header, r *http.Request, s *snapshot) (preflight bool) {
	origin := r.Header.Get("Origin")
	if origin == "" || !slices.Contains(s.served.origins, strings.ToLower(origin)) {
		return false
	}
	h.Set("Access-Control-Allow-Origin", origin)
	h.Set("Vary", "Origin")
	if r.Method != http.MethodOptions || r.Header.Get("Access-Control-Request-Method") == "" {
		return false
	}
	h.Set("Access-Control-Allow-Methods", "GET, POST")
	h.Set("Access-Control-Allow-Headers", "Authorization, Content-Type, X-Openclaw-Agent-Id, X-Openclaw-Session-Key")
	h.Set("Access-Control-Max-Age", "600")
	return true
}

// cleanPath reports whether the path has one spelling only: no escapes of
// separators or dots, no empty or dot segments, nothing a proxy might read
// differently.
func cleanPath(r *http.Request) bool {
	p := r.URL.Path
	if p == "" || p[0] != '/' || len(r.RequestURI) > maxPath+len(r.URL.RawQuery) || !utf8.ValidString(p) {
		return false
	}
	raw := strings.ToLower(r.URL.EscapedPath())
	for _, bad := range []string{"%2f", "%5c", "%2e", "%00", "%25"} {
		if strings.Contains(raw, bad) {
			return false
		}
	}
	if strings.ContainsAny(p, "\x00\\;") || strings.Contains(p, "//") {
		return false
	}
	clean := path.Clean(p)
	return clean == p || clean+"/" == p
}

// secretInQuery reports whether a URL carries what belongs in a header: URLs
// end up in logs, histories and Referer headers.
func secretInQuery(u *url.URL) bool {
	for pair := range strings.SplitSeq(u.RawQuery, "&") {
		key, _, _ := strings.Cut(pair, "=")
		if k, err := url.QueryUnescape(key); err == nil {
			key = k
		}
		switch strings.ToLower(key) {
		case "token", "access_token", "auth", "password", "api_key", "apikey", "secret", "key":
			return true
		}
	}
	return false
}

// from says who makes a request. Forwarding headers are believed of configured
// proxies only; of anybody else they merely show that there is a proxy, behind
// which nobody is local.
func (v *served) from(r *http.Request) client {
	ap, _ := netip.ParseAddrPort(r.RemoteAddr) // not of a host where it is not an address
	addr := ap.Addr().Unmap().WithZone("")
	if !forwarded(r.Header) {
		return client{addr: addr, key: keyOf(addr), local: addr.IsLoopback()}
	}
	if !v.proxy(addr) {
		if addr.IsLoopback() { // a proxy on this host that the configuration does not name
			return client{addr: addr}
		}
		return client{addr: addr, key: keyOf(addr)}
	}
	// The rightmost address that is no proxy of ours is the last one that a
	// proxy of ours has seen itself.
	hops := strings.Split(strings.Join(r.Header["X-Forwarded-For"], ","), ",")
	for i := len(hops) - 1; i >= max(0, len(hops)-maxHops); i-- {
		a, err := netip.ParseAddr(strings.TrimSpace(hops[i]))
		if err != nil {
			break
		}
		if a = a.Unmap().WithZone(""); !v.proxy(a) {
			return client{addr: a, key: keyOf(a)}
		}
	}
	return client{addr: addr}
}

func (v *served) proxy(a netip.Addr) bool {
	return slices.ContainsFunc(v.proxies, func(p netip.Prefix) bool { return p.Contains(a) })
}

// forwarded reports whether a proxy has had the request.
func forwarded(h http.Header) bool {
	for _, name := range []string{"X-Forwarded-For", "Forwarded", "X-Real-Ip", "X-Forwarded-Host", "X-Forwarded-Proto", "Cf-Connecting-Ip", "True-Client-Ip", "Via"} {
		if len(h[name]) > 0 {
			return true
		}
	}
	return false
}

// setHeaders are on every answer: nothing of ours is for a browser to show,
// sniff, frame, keep or share.
func setHeaders(h http.Header) {
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Cache-Control", "no-store")
}
