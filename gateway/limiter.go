package gateway

import (
	"net/netip"
	"sync"
	"time"

	"openclaw/reload/config"
)

const (
	maxLimiterKeys  = 4096
	overallFailures = 100 // wrong secrets from everywhere, in overallWindow
	overallWindow   = time.Minute
)

// addrKey names the clients whose failures count together: one IPv4 address,
// one IPv6 /64, or this host. The zero key is everybody behind a proxy that is
// not trusted to say who they are.
type addrKey = netip.Addr

// keyOf makes spellings of one address equal: IPv4 in IPv6 (RFC 4291 §2.5.5.2)
// is IPv4, zones do not count, and a /64 is one subscriber.
func keyOf(a netip.Addr) addrKey {
	a = a.Unmap().WithZone("")
	switch {
	case a.IsLoopback():
		return netip.AddrFrom4([4]byte{127, 0, 0, 1})
	case a.Is6():
		if p, err := a.Prefix(64); err == nil {
			return p.Addr()
		}
	}
	return a
}

// limiter counts wrong secrets.
type limiter struct {
	mu      sync.Mutex
	buckets map[addrKey]*bucket
	rest    bucket // keys that found the table full of locked ones
	overall bucket
}

type bucket struct {
	failures int
	since    time.Time // of the window
	locked   time.Time // until then
}

func newLimiter() *limiter { return &limiter{buckets: map[addrKey]*bucket{}} }

// attempt is asked before a secret's verdict is told: it returns how long the
// key must wait, or 0 and then counts a failure. Verdict and count are one
// step, so that parallel guesses do not outrun the budget.
func (l *limiter) attempt(key addrKey, limit config.RateLimit, failed bool) time.Duration {
	now := time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	b := l.buckets[key]
	for _, x := range []*bucket{b, &l.overall} {
		if x != nil && now.Before(x.locked) {
			return x.locked.Sub(now)
		}
	}
	if !failed {
		return 0
	}
	if b == nil {
		b = l.bucketLocked(key, now)
		if now.Before(b.locked) { // the shared one
			return b.locked.Sub(now)
		}
	}
	b.fail(now, limit.MaxAttempts, limit.WindowMs.Duration(), limit.LockoutMs.Duration())
	l.overall.fail(now, overallFailures, overallWindow, overallWindow)
	return 0
}

func (b *bucket) fail(now time.Time, most int, window, lockout time.Duration) {
	if now.Sub(b.since) >= window {
		b.failures, b.since = 0, now
	}
	if b.failures++; b.failures >= most {
		b.locked = now.Add(lockout)
		b.failures = 0
	}
}

// bucketLocked makes a bucket. A full table forgets one that is not locked:
// failing from many addresses must not unlock one.
func (l *limiter) bucketLocked(key addrKey, now time.Time) *bucket {
	if len(l.buckets) >= maxLimiterKeys {
		var victim addrKey
		found := false
		for k, b := range l.buckets {
			if !now.Before(b.locked) {
				victim, found = k, true
				break
			}
		}
		if !found {
			return &l.rest
		}
		delete(l.buckets, victim)
	}
	b := &bucket{}
	l.buckets[key] = b
	return b
}
