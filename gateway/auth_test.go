package gateway

import (
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"openclaw/reload/config"
	"openclaw/wire"
)

func newAuthGateway(t *testing.T, text string) *Gateway {
	t.Helper()
	l, err := config.Parse("openclaw.json", []byte(text), config.Source{})
	if err != nil {
		t.Fatal(err)
	}
	g := &Gateway{limiter: newLimiter(), metrics: newMetrics(), log: slog.New(slog.DiscardHandler)}
	g.current.Store(&snapshot{cfg: l.Config, credentials: newCredentials(l.Config.Gateway.Auth, "the-cli-key")})
	return g
}

const (
	tokenConfig    = `{gateway:{auth:{token:"` + testToken + `"}}}`
	password       = "correct horse battery staple"
	passwordConfig = `{gateway:{auth:{password:"` + password + `"}}}`
)

func from(addr string, local bool) client {
	a := netip.MustParseAddr(addr)
	return client{addr: a, key: keyOf(a), local: local}
}

func TestConnectCredentials(t *testing.T) {
	here, there := from("127.0.0.1", true), from("192.0.2.1", false)
	g := newAuthGateway(t, tokenConfig)
	for _, tc := range []struct {
		auth *wire.ConnectAuth
		from client
		who  principal
		msg  string
	}{
		{&wire.ConnectAuth{Token: testToken}, there, principalShared, ""},
		{&wire.ConnectAuth{Password: testToken}, here, principalShared, ""}, // either field, as the newer clients do
		{&wire.ConnectAuth{Token: "the-cli-key"}, here, principalCLI, ""},
		{&wire.ConnectAuth{Token: "the-cli-key"}, there, "", "token mismatch"},
		{&wire.ConnectAuth{Token: "the-cli-key"}, from("127.0.0.1", false), "", "token mismatch"},
		{&wire.ConnectAuth{Token: testToken + "0"}, here, "", "token mismatch"},
		{&wire.ConnectAuth{Token: testToken[1:]}, here, "", "token mismatch"},
		{nil, here, "", "token missing"},
		{&wire.ConnectAuth{}, here, "", "token missing"},
		{&wire.ConnectAuth{Token: testToken, Password: testToken}, here, "", "exactly one"},
		{&wire.ConnectAuth{Token: testToken, DeviceToken: "x"}, here, "", "exactly one"},
	} {
		given, e := g.authConnect(tc.auth, tc.from)
		if given.who != tc.who || (e == nil) != (tc.msg == "") || e != nil && !strings.Contains(e.Message, tc.msg) {
			t.Errorf("%+v from %v: %q %v", tc.auth, tc.from, given.who, e)
		}
	}
}

// TestLockout locks guessers out and nobody else: a token and the CLI's key
// still open, a right password has to wait like the wrong ones.
func TestLockout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		there, here := from("192.0.2.1", false), from("127.0.0.1", true)
		g := newAuthGateway(t, passwordConfig)
		try := func(secret string, c client) string {
			_, e := g.authConnect(&wire.ConnectAuth{Password: secret}, c)
			if e == nil {
				return "in"
			}
			if e.Retryable {
				if e.RetryAfterMs <= 0 {
					t.Errorf("no retryAfterMs: %+v", e)
				}
				return "locked"
			}
			return "wrong"
		}
		for range 100 { // no credential is no guess
			g.authConnect(nil, there)
		}
		for i := range 10 {
			if got := try("guess", there); got != "wrong" {
				t.Fatalf("guess %d: %s", i, got)
			}
		}
		if got := try("guess", there); got != "locked" {
			t.Errorf("eleventh: %s", got)
		}
		if got := try(password, there); got != "locked" {
			t.Errorf("the password, locked out: %s", got)
		}
		if got := try(password, from("192.0.2.2", false)); got != "in" {
			t.Errorf("the password, from elsewhere: %s", got)
		}
		if got := try("the-cli-key", here); got != "in" {
			t.Errorf("the CLI: %s", got)
		}
		time.Sleep(5*time.Minute + time.Second)
		if got := try(password, there); got != "in" {
			t.Errorf("the password, later: %s", got)
		}

		g = newAuthGateway(t, tokenConfig)
		for range 50 {
			try("guess", here)
		}
		if got := try("guess", here); got != "locked" {
			t.Errorf("token guesses: %s", got)
		}
		if got := try(testToken, here); got != "in" {
			t.Errorf("the owner's token: %s", got)
		}
	})
}

// TestLimiterKeys counts spellings of one client together, and bounds both the
// whole and the table.
func TestLimiterKeys(t *testing.T) {
	limit := config.RateLimit{MaxAttempts: 3, WindowMs: 60000, LockoutMs: 300000}
	for name, addrs := range map[string][]string{
		"mapped":   {"1.2.3.4", "::ffff:1.2.3.4", "1.2.3.4", "::ffff:1.2.3.4"},
		"zones":    {"fe80::1%a", "fe80::1%b", "fe80::1", "fe80::1%c"},
		"subnet":   {"2001:db8::1", "2001:db8::2", "2001:db8::3", "2001:db8::ffff:1"},
		"loopback": {"127.0.0.1", "::1", "127.9.9.9", "::ffff:127.0.0.1"},
	} {
		l := newLimiter()
		var wait time.Duration
		for _, a := range addrs {
			wait = l.attempt(keyOf(netip.MustParseAddr(a)), limit, true)
		}
		if wait == 0 {
			t.Errorf("%s: %v count apart", name, addrs)
		}
	}
	l := newLimiter()
	evaluated := 0
	for i := range 10000 {
		if l.attempt(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), limit, true) == 0 {
			evaluated++
		}
	}
	if evaluated != overallFailures {
		t.Errorf("%d guesses from everywhere were evaluated", evaluated)
	}
}

// TestLimiterTable never forgets a locked key for the sake of new ones.
func TestLimiterTable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		limit := config.RateLimit{MaxAttempts: 2, WindowMs: 86400000, LockoutMs: 86400000}
		l := newLimiter()
		bad := netip.MustParseAddr("192.0.2.66")
		l.attempt(bad, limit, true)
		l.attempt(bad, limit, true)
		for i := range 3 * maxLimiterKeys {
			if i%50 == 0 {
				time.Sleep(2 * overallWindow)
			}
			l.attempt(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), limit, true)
		}
		if len(l.buckets) > maxLimiterKeys {
			t.Errorf("%d keys", len(l.buckets))
		}
		if l.attempt(bad, limit, true) == 0 {
			t.Error("the locked key was forgotten")
		}
	})
}

// TestHTTPLockout is the same over HTTP, with the status and header that clients know.
func TestHTTPLockout(t *testing.T) {
	r := start(t, testOptions(t, passwordConfig))
	for range 10 {
		if status, _, _ := r.do("GET", "/v1/models", bearer("guess"), ""); status != 401 {
			t.Fatal(status)
		}
	}
	status, h, body := r.do("GET", "/v1/models", bearer(password), "")
	if status != 429 || h.Get("Retry-After") == "" || !strings.Contains(body, "rate_limited") {
		t.Errorf("%d %v %s", status, h, body)
	}
	if status, _, _ := r.do("GET", "/v1/models", nil, ""); status != 401 {
		t.Errorf("no credential: %d", status)
	}
	if status, _, _ := r.do("GET", "/v1/models", bearer(r.cliKey), ""); status != 200 {
		t.Errorf("the CLI's key: %d", status)
	}
}

// TestLimiterParallel lets guesses that come at once no further than others.
func TestLimiterParallel(t *testing.T) {
	g := newAuthGateway(t, passwordConfig)
	var evaluated atomic.Int32
	var wg sync.WaitGroup
	for range 200 {
		wg.Go(func() {
			if _, e := g.authConnect(&wire.ConnectAuth{Password: "guess"}, from("192.0.2.1", false)); !e.Retryable {
				evaluated.Add(1)
			}
		})
	}
	wg.Wait()
	if most := g.cfg().Gateway.Auth.RateLimit.MaxAttempts; int(evaluated.Load()) != most {
		t.Errorf("%d guesses were evaluated, not %d", evaluated.Load(), most)
	}
}
