package gateway

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"net/http"
	"net/netip"
	"strings"

	"openclaw/reload/config"
	"openclaw/wire"
)

// client is where a request comes from, as far as it can be trusted.
type client struct {
	addr  netip.Addr // of the socket's peer, or what a trusted proxy says
	key   addrKey    // whose failures count together
	local bool       // from this host, and through no proxy
}

// credentials are the secrets of one configuration, as digests. A client's
// secret is hashed before it is compared, so that the time taken tells neither
// content nor length.
type credentials struct {
	kind    string // token or password
	shared  [sha256.Size]byte
	cliKey  [sha256.Size]byte
	revoked context.Context // ends when another shared secret has taken its place
	revoke  func()
}

// errRevoked is the cause with which everything ends that a client began with
// a secret that is no longer the gateway's.
var errRevoked = errors.New("gateway credentials changed")

func newCredentials(a config.Auth, cliKey string) *credentials {
	c := &credentials{kind: a.Mode, shared: sha256.Sum256([]byte(a.Secret().Reveal())), cliKey: sha256.Sum256([]byte(cliKey))}
	ctx, cancel := context.WithCancelCause(context.Background())
	c.revoked, c.revoke = ctx, func() { cancel(errRevoked) }
	return c
}

// equal reports whether a client that knows one also knows the other.
func (c *credentials) equal(o *credentials) bool {
	return c.kind == o.kind && subtle.ConstantTimeCompare(c.shared[:], o.shared[:]) == 1
}

// sameSecret compares what somebody presents with a secret, in a time that tells nothing of either.
func sameSecret(given, secret string) bool {
	a, b := sha256.Sum256([]byte(given)), sha256.Sum256([]byte(secret))
	return subtle.ConstantTimeCompare(a[:], b[:]) == 1 && secret != ""
}

// grant is what a presented secret opens.
type grant struct {
	who   principal
	creds *credentials // that the secret is of; nil for the CLI's key, which no configuration changes
}

// within returns a context that also ends when the secret is revoked.
func (a grant) within(ctx context.Context) (context.Context, context.CancelCauseFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	if a.creds == nil {
		return ctx, cancel
	}
	stop := context.AfterFunc(a.creds.revoked, func() { cancel(errRevoked) })
	return ctx, func(cause error) {
		stop()
		cancel(cause)
	}
}

// verify finds out whose secret it is. The CLI's key is taken from this host only.
func (c *credentials) verify(secret string, from client) (grant, bool) {
	sum := sha256.Sum256([]byte(secret))
	shared := subtle.ConstantTimeCompare(sum[:], c.shared[:]) == 1
	cli := subtle.ConstantTimeCompare(sum[:], c.cliKey[:]) == 1
	switch {
	case shared:
		return grant{principalShared, c}, true
	case cli && from.local:
		return grant{principalCLI, nil}, true
	}
	return grant{}, false
}

// check judges one presented secret. Wrong ones count against the client's
// address; an address that is locked out may still present a token or the
// CLI's key, of which there are too many to guess, so that nobody can lock the
// owner out. A password is not looked at until the time is over.
func (g *Gateway) check(secret string, from client) (grant, *wire.Error) {
	snap := g.snapshot()
	creds := snap.credentials
	given, ok := creds.verify(secret, from)
	if ok && (creds.kind == "token" || given.who == principalCLI) {
		return given, nil
	}
	if wait := g.limiter.attempt(from.key, snap.cfg.Gateway.Auth.RateLimit, !ok); wait > 0 {
		g.metrics.refused.Add(1)
		e := wire.InvalidRequest("unauthorized: too many failed authentication attempts (retry later)")
		e.Retryable, e.RetryAfterMs = true, max(wait.Milliseconds(), 1)
		e.Details = map[string]any{"code": "AUTH_RATE_LIMITED"}
		return grant{}, e
	}
	if !ok {
		g.metrics.refused.Add(1)
		g.log.Info("authentication failed", "addr", from.addr)
		return grant{}, unauthorized(creds.kind, "mismatch")
	}
	return given, nil
}

func unauthorized(kind, what string) *wire.Error {
	e := wire.InvalidRequest("unauthorized: gateway %s %s (provide gateway auth %s)", kind, what, kind)
	e.Details = map[string]any{"code": "AUTH_" + strings.ToUpper(kind+"_"+what)}
	return e
}

// authConnect judges the credentials of a connect request. Exactly one is
// wanted; none is refused without counting as a failure.
func (g *Gateway) authConnect(a *wire.ConnectAuth, from client) (grant, *wire.Error) {
	var given []string
	if a != nil {
		for _, s := range []string{a.Token, a.Password, a.BootstrapToken, a.DeviceToken, a.ApprovalRuntimeToken, a.AgentRuntimeIdentityToken} {
			if s != "" {
				given = append(given, s)
			}
		}
	}
	switch {
	case len(given) == 0:
		return grant{}, unauthorized(g.snapshot().credentials.kind, "missing")
	case len(given) > 1:
		return grant{}, wire.InvalidRequest("invalid connect params: at /auth: must hold exactly one credential")
	}
	return g.check(given[0], from)
}

// authorize judges the credentials of an HTTP request: one Authorization
// header with one bearer secret (RFC 6750 §2.1).
func (g *Gateway) authorize(r *http.Request, from client) (grant, *httpError) {
	h := r.Header["Authorization"]
	if len(h) > 1 {
		return grant{}, refuse(http.StatusBadRequest, "invalid_request_error", "exactly one Authorization header is allowed")
	}
	scheme, secret, _ := strings.Cut(strings.Join(h, ""), " ")
	if secret = strings.TrimSpace(secret); strings.EqualFold(scheme, "Bearer") && secret != "" {
		given, e := g.check(secret, from)
		switch {
		case e == nil:
			return given, nil
		case e.Retryable:
			locked := refuse(http.StatusTooManyRequests, "rate_limited", "Too many failed authentication attempts. Please try again later.")
			locked.retryAfterMs = e.RetryAfterMs
			return grant{}, locked
		}
	}
	return grant{}, refuse(http.StatusUnauthorized, "unauthorized", "Unauthorized")
}
