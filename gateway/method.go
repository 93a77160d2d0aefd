package gateway

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"reflect"
	"runtime/debug"

	"openclaw/gateway/agent"
	"openclaw/gateway/channel"
	"openclaw/gateway/metric"
	"openclaw/gateway/store"
	"openclaw/gateway/tool"
	"openclaw/wire"
)

// method is one row of the table that requests are dispatched by.
type method struct {
	name   string
	scope  wire.Scope
	doc    string
	inline bool // cheap and never waits: runs on the connection's reader
	stages bool // may acknowledge before it answers
	work   *metric.Work

	// call decodes the params and runs the handler. Both a result and an error
	// may come back; both are then sent. ack sends an earlier answer with the
	// same id; it is nil where there is one answer.
	call func(ctx context.Context, g *Gateway, p *peer, params wire.Raw, ack func(any)) (any, error)
}

// preEncoded is a result that is JSON already and sent as it is. A handler
// declares it as its result type where answers are shared.
type preEncoded []byte

type methodOption func(*method)

// inline marks a handler that neither waits nor computes for long: it runs on
// the connection's reader, which spares the hand-over to another goroutine.
func inline(m *method) { m.inline = true }

// rpc makes a row of a handler that answers once. P is a pointer: all pointers
// share one body, as structs would not.
func rpc[P, R any](name string, scope wire.Scope, doc string, h func(*Gateway, context.Context, *peer, P) (R, error), opts ...methodOption) method {
	m := newMethod(name, scope, doc, reflect.TypeFor[P](), func(ctx context.Context, g *Gateway, p *peer, in any, _ func(any)) (any, error) {
		return h(g, ctx, p, in.(P))
	})
	for _, o := range opts {
		o(&m)
	}
	return m
}

// staged makes a row of a handler that acknowledges first: what it passes to
// ack is sent at once, what it returns is the final answer, with the same id.
// A nil interface without an error is no second answer.
func staged[P, R any](name string, scope wire.Scope, doc string, h func(g *Gateway, ctx context.Context, p *peer, in P, ack func(any)) (R, error)) method {
	m := newMethod(name, scope, doc, reflect.TypeFor[P](), func(ctx context.Context, g *Gateway, p *peer, in any, ack func(any)) (any, error) {
		return h(g, ctx, p, in.(P), ack)
	})
	m.stages = true
	return m
}

// newMethod makes a row of a handler of params of a type, which is a pointer.
func newMethod(name string, scope wire.Scope, doc string, params reflect.Type, h func(ctx context.Context, g *Gateway, p *peer, in any, ack func(any)) (any, error)) method {
	return method{name: name, scope: scope, doc: doc, call: func(ctx context.Context, g *Gateway, p *peer, raw wire.Raw, ack func(any)) (any, error) {
		in := reflect.New(params.Elem()).Interface()
		if e := wire.DecodeParams(name, raw, in); e != nil {
			return nil, e
		}
		r, err := h(ctx, g, p, in, ack)
		if err != nil && r != nil && reflect.ValueOf(r).IsZero() {
			return nil, err // no payload, which is not a payload of null
		}
		return r, err
	}}
}

// asWire turns any error into what a client is told. The cause of one that is
// not the client's to know stays in the log, under the id that the client gets.
func (g *Gateway) asWire(err error) *wire.Error {
	if e := knownError(err); e != nil {
		if errors.Is(err, store.ErrNoSpace) {
			g.log.Error("not stored", "err", err)
			g.health.recheck()
		}
		return e
	}
	id := randomID(6)
	g.log.Error("request failed", "req", id, "err", err)
	return wire.Unavailable("internal error (request %s)", id)
}

// asWireQuiet is asWire for an error that somebody else logs.
func asWireQuiet(err error) *wire.Error {
	if e := knownError(err); e != nil {
		return e
	}
	return wire.Unavailable("internal error")
}

// knownError gives errors of the packages below their codes, here and nowhere
// else. It returns nil for any other.
func knownError(err error) *wire.Error {
	var we *wire.Error
	switch {
	case errors.As(err, &we):
		return we
	case errors.Is(err, agent.ErrDraining):
		return stopping()
	case errors.Is(err, agent.ErrBusy):
		e := wire.Unavailable("%s", err)
		e.RetryAfterMs = 1000
		return e
	case errors.Is(err, agent.ErrTimeout), errors.Is(err, context.DeadlineExceeded):
		return wire.AgentTimeout("%s", err)
	case errors.Is(err, agent.ErrModel):
		e := wire.Unavailable("%s", err)
		retry, after := agent.RetryAdvice(err)
		e.Retryable, e.RetryAfterMs = retry, after.Milliseconds()
		return e
	case errors.Is(err, channel.ErrNotLinked):
		return wire.Errorf(wire.CodeNotLinked, "%s", err)
	case errors.Is(err, channel.ErrFull), errors.Is(err, channel.ErrClosed), errors.Is(err, channel.ErrGuesses):
		return wire.Unavailable("%s", err)
	case errors.Is(err, channel.ErrUnknown), errors.Is(err, channel.ErrCode), errors.Is(err, channel.ErrNobody), errors.Is(err, channel.ErrTarget), errors.Is(err, channel.ErrSeveral), errors.Is(err, channel.ErrToken):
		return wire.InvalidRequest("%s", err)
	case errors.Is(err, store.ErrNoSpace):
		return wire.Unavailable("no space left on the gateway's disk")
	case errors.Is(err, errStopping):
		return stopping()
	case errors.Is(err, errRevoked):
		return wire.InvalidRequest("unauthorized: %s", errRevoked)
	case errors.Is(err, context.Canceled), errors.Is(err, errGone):
		return wire.Unavailable("cancelled")
	}
	for _, refused := range []error{
		agent.ErrUnknownAgent, agent.ErrUnknownModel, agent.ErrUnknownSession, agent.ErrInvalidKey, agent.ErrAgentMismatch,
		tool.ErrUnknownApproval, tool.ErrBadApproval, agent.ErrMainSession, agent.ErrLabelInUse, agent.ErrEmpty, agent.ErrInvalidTurn, agent.ErrTooLong,
	} {
		if errors.Is(err, refused) {
			return wire.InvalidRequest("%s", err)
		}
	}
	return nil
}

// stopping is the answer to new work while the gateway stops.
func stopping() *wire.Error {
	e := wire.Unavailable("gateway is shutting down")
	e.RetryAfterMs = 2000
	return e
}

// contained turns a panic of a handler into its answer and one logged stack.
// It is deferred.
func (g *Gateway) contained(what string, err *error) {
	if v := recover(); v != nil {
		id := randomID(6)
		g.log.Error("panic contained", "method", what, "req", id, "err", v, "stack", string(debug.Stack()))
		*err = wire.Unavailable("internal error (request %s)", id)
	}
}

// randomID returns n random bytes in hex.
func randomID(n int) string {
	b := make([]byte, n)
	rand.Read(b) // never fails (crypto/rand)
	return hex.EncodeToString(b)
}
