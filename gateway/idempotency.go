package gateway

import (
	"crypto/sha256"
	"errors"
	"slices"
	"sync"
	"time"

	"openclaw/wire"
)

const (
	idempotencyTTL = 10 * time.Minute // from the first answer
	idempotencyMax = 1000             // remembered answers
)

// idempotency remembers the answers of requests with side effects, so that a
// repeated one is answered and not done again. Keys belong to a principal and
// a method.
type idempotency struct {
	mu    sync.Mutex
	calls map[idemKey]*idemCall
	order []*idemCall // by when they began
}

type idemKey struct {
	who    principal
	method string
	key    string
}

type idemCall struct {
	key    idemKey
	params [sha256.Size]byte
	result func() (any, error) // runs the call the first time, and waits for it
	ended  time.Time           // guarded by idempotency.mu; zero while it runs
}

func newIdempotency() *idempotency { return &idempotency{calls: map[idemKey]*idemCall{}} }

// do runs fn, or returns what it returned when the same principal called the
// method with the same key and params less than ten minutes ago; while that
// call still runs it waits for it. The same key with other params is an error.
// Errors that invite a retry are not remembered. Without a key fn just runs.
func (i *idempotency) do(who principal, method, key string, params []byte, fn func() (any, error)) (value any, err error, replayed bool) {
	if key == "" {
		value, err = fn()
		return value, err, false
	}
	k := idemKey{who, method, key}
	sum := sha256.Sum256(params)
	now := time.Now()

	i.mu.Lock()
	i.expireLocked(now)
	if c := i.calls[k]; c != nil {
		i.mu.Unlock()
		if c.params != sum {
			return nil, wire.InvalidRequest("idempotencyKey was used before with other params"), false
		}
		value, err = c.result()
		return value, err, true
	}
	if len(i.order) >= idempotencyMax && !i.evictLocked() {
		i.mu.Unlock()
		return nil, wire.Unavailable("too many requests in progress"), false
	}
	c := &idemCall{key: k, params: sum, result: sync.OnceValues(fn)}
	i.calls[k] = c
	i.order = append(i.order, c)
	i.mu.Unlock()

	keep := false
	defer func() { // also when fn panics
		i.mu.Lock()
		defer i.mu.Unlock()
		c.ended = time.Now()
		if !keep {
			i.dropLocked(c)
		}
	}()
	value, err = c.result()
	keep = !retryable(err)
	return value, err, false
}

// retryable reports whether a client may repeat what failed so.
func retryable(err error) bool {
	var we *wire.Error
	return err != nil && (!errors.As(err, &we) || we.Retryable)
}

func (i *idempotency) expireLocked(now time.Time) {
	for len(i.order) > 0 && !i.order[0].ended.IsZero() && now.Sub(i.order[0].ended) > idempotencyTTL {
		i.dropLocked(i.order[0])
	}
}

// evictLocked makes room by forgetting the oldest answer; calls that still run
// are kept.
func (i *idempotency) evictLocked() bool {
	for _, c := range i.order {
		if !c.ended.IsZero() {
			i.dropLocked(c)
			return true
		}
	}
	return false
}

func (i *idempotency) dropLocked(c *idemCall) {
	delete(i.calls, c.key)
	if n := slices.Index(i.order, c); n >= 0 {
		i.order = slices.Delete(i.order, n, n+1)
	}
}
