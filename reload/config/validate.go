package config

import (
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// IsID reports whether s may name a profile or an agent. Paths are made of
// ids, so nothing else is ever joined to a directory.
func IsID(s string) bool {
	for i := 0; i < len(s); i++ {
		c := s[i]
		if !('a' <= c && c <= 'z' || isDigit(c) || i > 0 && (c == '_' || c == '-')) {
			return false
		}
	}
	return 0 < len(s) && len(s) <= 64
}

const idRule = "lower-case letters, digits, _ and -, at most 64, beginning with a letter or digit"

// check applies what concerns more than the form of one key.
func (b *binder) check(c *Config) {
	b.providers = append(sortedKeys(c.Models.Providers), builtinProvider)
	b.checkGateway(&c.Gateway)
	b.checkModels(&c.Models)
	b.checkAgents(c)
	b.checkTools(c)
	b.checkChannels(c)
	if !IsID(c.Session.MainKey) {
		b.problem("session.mainKey", b.at["session.mainKey"], "must be "+idRule)
	}
}

func (b *binder) checkGateway(g *Gateway) {
	if b.at["gateway.auth.token"] != nil && !g.Auth.Token.IsZero() {
		b.checkAuthSecret("gateway.auth.token", "", g.Auth.Token.Reveal())
	}
	if b.at["gateway.auth.password"] != nil && !g.Auth.Password.IsZero() {
		b.checkAuthSecret("gateway.auth.password", "", g.Auth.Password.Reveal())
	}
	idle := "gateway.auth.password"
	if g.Auth.Mode == "password" {
		idle = "gateway.auth.token"
	}
	if n := b.at[idle]; n != nil {
		b.warn(idle, n, "is not used while gateway.auth.mode is "+g.Auth.Mode)
	}
	b.checkBind(g)

	const cert, key = "gateway.tls.certPath", "gateway.tls.keyPath"
	switch hasCert, hasKey := b.given(cert), b.given(key); {
	case hasCert && !hasKey:
		b.problem(cert, b.at[cert], "is of no use without "+key)
	case hasKey && !hasCert:
		b.problem(key, b.at[key], "is of no use without "+cert)
	case g.TLS.Enabled && !hasCert && !g.TLS.AutoGenerate:
		b.problem("gateway.tls.enabled", b.at["gateway.tls.enabled"], "needs certPath and keyPath, or autoGenerate")
	}
	for i, s := range g.TrustedProxies {
		if _, err := ParsePrefix(s); err != nil {
			b.element("gateway.trustedProxies", i, "must be an IP address or a CIDR block such as 10.0.0.0/8")
		}
	}
	for i, s := range g.ControlUI.AllowedOrigins {
		if msg := originProblem(s); msg != "" {
			b.element("gateway.controlUi.allowedOrigins", i, msg)
		}
	}
}

// given reports whether the file has the key, with anything but an empty string.
func (b *binder) given(path string) bool {
	n := b.at[path]
	return n != nil && (n.Kind != String || n.Str != "")
}

// element reports a problem of one element of a list.
func (b *binder) element(path string, i int, msg string) {
	at := joinIndex(path, i)
	b.problem(at, b.at[at], msg)
}

func (b *binder) checkAuthSecret(path, variable, value string) {
	msg := ""
	if strings.HasSuffix(path, ".password") {
		msg = passwordProblem(value)
	} else {
		msg = tokenProblem(value)
	}
	if msg == "" {
		return
	}
	if variable != "" {
		msg = "from " + variable + ": " + msg
	}
	b.problem(path, b.at[path], msg)
}

func (b *binder) checkBind(g *Gateway) {
	const path = "gateway.customBindHost"
	host := b.at[path]
	away := g.Bind == "lan" || g.Bind == "tailnet"
	if g.CustomBindHost != "" {
		ip, err := netip.ParseAddr(g.CustomBindHost)
		if err != nil {
			b.problem(path, host, "must be an IP address")
		} else if g.Bind != "custom" {
			b.warn(path, host, "has no effect unless gateway.bind is custom")
		} else {
			away = !ip.IsLoopback()
		}
	} else if g.Bind == "custom" && b.at["gateway.bind"] != nil {
		b.problem(path, host, "is required when gateway.bind is custom")
	}
	if away && !g.TLS.Enabled {
		b.warn("gateway.bind", b.at["gateway.bind"], "listens beyond this host without TLS: whoever is on the network in between can read the secret and all messages; set gateway.tls")
	}
}

// ParsePrefix reads an IP address or CIDR block of gateway.trustedProxies.
func ParsePrefix(s string) (netip.Prefix, error) {
	if strings.Contains(s, "/") {
		p, err := netip.ParsePrefix(s)
		return p.Masked(), err
	}
	ip, err := netip.ParseAddr(s)
	if err != nil {
		return netip.Prefix{}, err
	}
	return ip.WithZone("").Prefix(ip.BitLen())
}

// originProblem accepts what a browser sends as Origin (RFC 6454 §7), exactly:
// the gateway compares text.
func originProblem(s string) string {
	const form = "must be an exact origin, scheme://host or scheme://host:port"
	if strings.Contains(s, "*") || s == "null" {
		return form + "; there is no wildcard"
	}
	u, err := url.Parse(s)
	if err != nil || u.Scheme == "" || u.Host == "" || u.Hostname() == "" || u.User != nil || s != u.Scheme+"://"+u.Host {
		return form
	}
	if s != strings.ToLower(s) {
		return form + ", in lower case"
	}
	if p := u.Port(); p != "" && !validPort(p) || strings.HasSuffix(u.Host, ":") {
		return form
	} else if u.Scheme == "http" && p == "80" || u.Scheme == "https" && p == "443" {
		return form + "; browsers leave out the default port"
	}
	return ""
}

func validPort(s string) bool {
	n, err := strconv.Atoi(s)
	return err == nil && 1 <= n && n <= 65535
}

func (b *binder) checkModels(m *Models) {
	for _, id := range sortedKeys(m.Providers) {
		p := m.Providers[id]
		path := joinKey("models.providers", id)
		if !isProviderID(id) {
			b.problem(path, b.at[path], "a provider's id must be letters, digits, '.', _ and -, at most 64")
		}
		if id == builtinProvider {
			b.problem(path, b.at[path], "the provider "+builtinProvider+" is part of the program; choose another id")
		}
		if at := path + ".baseUrl"; b.at[at] != nil && b.at[at].Kind == String {
			if msg := baseURLProblem(p.BaseURL); msg != "" {
				b.problem(at, b.at[at], msg)
			}
		}
		for _, name := range sortedKeys(p.Headers) {
			if at := joinKey(path+".headers", name); !isHeaderName(name) {
				b.problem(at, b.at[at], "not a header name")
			}
		}
		seen := map[string]bool{}
		b.listed[id] = seen
		for i, model := range p.Models {
			at := joinIndex(path+".models", i)
			if model.ID == "" && b.at[at+".id"] != nil {
				b.problem(at+".id", b.at[at+".id"], "must not be empty")
			}
			if seen[model.ID] {
				b.problem(at+".id", b.at[at+".id"], "the provider lists this model twice")
			}
			seen[model.ID] = true
			for j, in := range model.Input {
				if in != "text" && in != "image" {
					b.warn(joinIndex(at+".input", j), b.at[joinIndex(at+".input", j)], "only text and image are known; ignored")
				}
			}
		}
	}
}

func isProviderID(s string) bool {
	for i := 0; i < len(s); i++ {
		c := s[i]
		if !('a' <= c|0x20 && c|0x20 <= 'z' || isDigit(c) || i > 0 && (c == '_' || c == '-' || c == '.')) {
			return false
		}
	}
	return 0 < len(s) && len(s) <= 64
}

// isHeaderName follows RFC 9110 §5.6.2, and leaves framing to net/http.
func isHeaderName(s string) bool {
	for i := 0; i < len(s); i++ {
		if c := s[i]; !('a' <= c|0x20 && c|0x20 <= 'z' || isDigit(c) || strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0) {
			return false
		}
	}
	return s != "" && !slices.Contains([]string{"host", "content-length", "transfer-encoding", "connection"}, strings.ToLower(s))
}

func baseURLProblem(s string) string {
	u, err := url.Parse(s)
	switch {
	case err != nil, u.Scheme != "http" && u.Scheme != "https", u.Hostname() == "", u.Port() != "" && !validPort(u.Port()):
		return "must be a URL such as http://127.0.0.1:11434/v1"
	case u.User != nil:
		return "must not hold a user name or password; use apiKey or headers"
	case u.RawQuery != "", u.ForceQuery, u.Fragment != "", strings.Contains(s, "#"):
		return "must not have a query or fragment"
	}
	return ""
}

func (b *binder) checkAgents(c *Config) {
	b.checkRefs(c, "agents.defaults.model", &c.Agents.Defaults.Model)
	seen, hasDefault := map[string]bool{}, false
	for i, a := range c.Agents.List {
		path := joinIndex("agents.list", i)
		if at := b.at[path+".id"]; at != nil && at.Kind == String {
			if !IsID(a.ID) {
				b.problem(path+".id", at, "must be "+idRule)
			} else if seen[a.ID] {
				b.problem(path+".id", at, "another agent has this id")
			}
			seen[a.ID] = true
		}
		if a.Default && hasDefault {
			b.problem(path+".default", b.at[path+".default"], "another agent is the default already")
		}
		hasDefault = hasDefault || a.Default
		b.checkRefs(c, path+".model", &a.Model)
	}
}

func (b *binder) checkRefs(c *Config, path string, m *Model) {
	at := path + ".primary"
	if b.at[at] == nil {
		at = path // the short form
	}
	if n := b.at[at]; n != nil && n.Kind == String {
		b.checkRef(c, at, n, m.Primary)
	}
	for i, ref := range m.Fallbacks {
		at := joinIndex(path+".fallbacks", i)
		b.checkRef(c, at, b.at[at], ref)
	}
}

func (b *binder) checkRef(c *Config, path string, n *Node, ref string) {
	provider, model, ok := strings.Cut(ref, "/")
	switch {
	case !ok || provider == "" || model == "" || strings.ContainsFunc(ref, func(r rune) bool { return r <= ' ' || r == 0x7F }):
		b.problem(path, n, "must be a model as provider/model")
		return
	case provider == builtinProvider:
		if model != builtinModel {
			b.problem(path, n, "the provider "+builtinProvider+" has one model, "+BuiltinRef)
		}
		return
	}
	p, ok := c.Models.Providers[provider]
	if !ok {
		if slices.Contains(strings.Fields(builtOutside), provider) {
			b.warn(path, n, "the provider has no entry under models.providers; turns with this model fail")
			return
		}
		b.problem(path, n, "names a provider that is not under models.providers"+b.suggest(provider, b.providers))
		return
	}
	if listed := b.listed[provider]; len(p.Models) > 0 && !listed[model] {
		hint := ""
		if len(listed) <= maxTold {
			hint = b.suggest(model, sortedKeys(listed))
		}
		b.warn(path, n, "the provider does not list this model"+hint)
	}
}
