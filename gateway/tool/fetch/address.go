package fetch

import (
	"net"
	"net/netip"
	"net/url"
	"regexp"
	"strconv"
	"strings"
)

// maxAddress bounds an address as it is given, in bytes.
const maxAddress = 2048

var (
	// names are host names with a domain; the last label is no number in any
	// spelling, so that 127.1, 0x7f.1 and 2130706433 are none.
	names = regexp.MustCompile(`^([a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?\.)+[a-z][a-z0-9-]{0,61}[a-z0-9]$`)
	// apart are domains that are not the public DNS's (RFC 6761, 6762, 7686,
	// 8375, 9476, and ICANN's internal).
	apart = regexp.MustCompile(`(^|\.)(alt|arpa|internal|invalid|local|localhost|onion|test)$`)
)

// target reads an address, relative to base if there is one, into one form: a
// scheme, a checked host as a name or the address that it stands for, a port,
// path and query in ASCII. No later step reads a host out of text again.
func (c *Client) target(base *url.URL, raw string) (*url.URL, error) {
	raw = strings.TrimSpace(raw)
	if len(raw) > maxAddress {
		return nil, refuse("the address is longer than %d bytes", maxAddress)
	}
	u, err := url.Parse(raw)
	if err != nil || strings.Contains(raw, `\`) {
		return nil, refuse("the address cannot be read")
	}
	if base != nil {
		u = base.ResolveReference(u)
	}
	switch {
	case u.Scheme != "http" && u.Scheme != "https":
		return nil, refuse("only http and https are fetched")
	case base != nil && base.Scheme == "https" && u.Scheme == "http":
		return nil, refuse("https does not go on as http")
	case u.User != nil:
		return nil, refuse("an address with a user in it is not fetched")
	case u.Opaque != "" || u.Host == "":
		return nil, refuse("the address has no host")
	}
	port := uint16(80)
	if u.Scheme == "https" {
		port = 443
	}
	usual := port
	if text := u.Port(); text != "" {
		n, err := strconv.ParseUint(text, 10, 16)
		if port = uint16(n); err != nil {
			port = 0
		}
	}
	host := strings.ToLower(u.Hostname())
	addr, err := netip.ParseAddr(host)
	switch {
	case err == nil && addr.Is4() != strings.HasPrefix(u.Host, "["):
		if !c.allowAddr(addr) {
			return nil, errNotPublic
		}
		host = addr.Unmap().String()
	case apart.MatchString(host):
		return nil, errNotPublic
	case !names.MatchString(host) || len(host) > 253:
		return nil, refuse("the host is neither a public name, written in ASCII (xn--…) with its domain, nor an IP address in its usual form")
	}
	if !c.allowPort(port) {
		return nil, refuse("only ports 80 and 443 are fetched from")
	}
	clean := &url.URL{Scheme: u.Scheme, Host: host, Path: u.Path, RawPath: u.RawPath, RawQuery: ascii(u.RawQuery)}
	if strings.Contains(host, ":") {
		clean.Host = "[" + host + "]"
	}
	if port != usual {
		clean.Host = net.JoinHostPort(host, strconv.Itoa(int(port)))
	}
	if clean.Path == "" {
		clean.Path = "/"
	}
	return clean, nil
}

// ascii escapes what a query may hold but must not be sent as it is.
func ascii(query string) string {
	const hex = "0123456789ABCDEF"
	var b strings.Builder
	for _, c := range []byte(query) {
		if c <= ' ' || c >= 0x7f || c == '"' || c == '<' || c == '>' {
			b.Write([]byte{'%', hex[c>>4], hex[c&15]})
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}

var errNotPublic = refusal("the host is not on the public internet; local and internal ones are not fetched")

// webPort is the rule for ports: those of the web. So the gateway's own, and
// services that speak other protocols, are out of reach on public hosts as well.
func webPort(port uint16) bool { return port == 80 || port == 443 }

// public is the rule for addresses: of IPv6 only what is given out for hosts
// (2000::/3), and of both nothing that a registry sets apart or that carries
// another address within, which might lead elsewhere: 6to4, Teredo, ISATAP.
func public(a netip.Addr) bool {
	if a.Zone() != "" {
		return false
	}
	if a = a.Unmap(); a.Is6() {
		b := a.As16()
		if !global6.Contains(a) || b[8]&^2 == 0 && b[9] == 0 && b[10] == 0x5e && b[11] == 0xfe {
			return false
		}
	}
	for _, p := range special {
		if p.Contains(a) {
			return false
		}
	}
	return a.IsValid()
}

var global6 = netip.MustParsePrefix("2000::/3")

// special is what IANA's registries of special-purpose addresses set apart of
// IPv4 and of 2000::/3, and multicast.
var special = prefixes("0.0.0.0/8 10.0.0.0/8 100.64.0.0/10 127.0.0.0/8 169.254.0.0/16 172.16.0.0/12 192.0.0.0/24 192.0.2.0/24 " +
	"192.31.196.0/24 192.52.193.0/24 192.88.99.0/24 192.168.0.0/16 192.175.48.0/24 198.18.0.0/15 198.51.100.0/24 203.0.113.0/24 " +
	"224.0.0.0/4 240.0.0.0/4 2001::/23 2001:db8::/32 2002::/16 2620:4f:8000::/48 3ffe::/16 3fff::/20")

func prefixes(list string) []netip.Prefix {
	var out []netip.Prefix
	for _, p := range strings.Fields(list) {
		out = append(out, netip.MustParsePrefix(p))
	}
	return out
}
