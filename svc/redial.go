package svc

import (
	"context"
	"errors"
	"io"
	"strings"
	"syscall"
	"time"

	"openclaw/wire"
)

const (
	patience = 2 * time.Second       // with a gateway that restarts
	nextTry  = 50 * time.Millisecond // of connecting to it
)

// connect opens a connection. The profile's own gateway may just be restarting:
// as long as the lock says that it runs, connecting is tried again for a moment,
// wherever the gateway is by then.
func (ep *endpoint) connect(ctx context.Context, e *Env, onEvent func(wire.Inbound)) (*wire.Client, *wire.HelloOK, error) {
	var late <-chan time.Time
	for {
		c, hello, err := wire.Connect(ctx, ep.url, wire.ClientOptions{DialOptions: wire.DialOptions{TLS: ep.tls}, Token: ep.token, Password: ep.password, OnEvent: onEvent})
		if err == nil || !ep.own || !passing(err) {
			return c, hello, err
		}
		if i, runs, _ := e.instance(e.paths); !runs || i.Addr == "" { // it is down, or never was up
			return nil, nil, err
		}
		if late == nil {
			late = time.After(patience)
		}
		select {
		case <-ctx.Done():
			return nil, nil, err
		case <-late:
			return nil, nil, err
		case <-time.After(nextTry):
		}
		if !ep.findAgain() {
			return nil, nil, err
		}
	}
}

// findAgain looks where the profile's own gateway is now.
func (ep *endpoint) findAgain() bool {
	next, err := ep.find()
	if err != nil || !next.own {
		return false
	}
	*ep = *next
	return true
}

// passing reports whether an error is what a gateway that restarts looks like
// from outside: nobody there, a connection cut, or a refusal for the time being.
func passing(err error) bool {
	const down = "gateway is shutting down"
	var refused *wire.Error
	var handshake *wire.HandshakeError
	var closed *wire.CloseError
	switch {
	case errors.As(err, &refused):
		return refused.Message == down
	case errors.As(err, &handshake):
		return strings.Contains(handshake.Body, down)
	case errors.As(err, &closed) && closed.Code == wire.CloseRestart:
		return true
	}
	for _, cut := range []error{syscall.ECONNREFUSED, syscall.ECONNRESET, syscall.EPIPE, io.EOF, io.ErrUnexpectedEOF} {
		if errors.Is(err, cut) {
			return true
		}
	}
	return closed != nil && closed.Code == wire.CloseAbnormal && closed.Err == nil
}

// readsOnly reports whether a method may be asked twice, since it changes nothing.
func readsOnly(method string) bool {
	switch method {
	case "health", "status", "system-presence", "logs.tail", "config.get", "config.schema", "chat.history", "sessions.resolve":
		return true
	}
	return strings.HasSuffix(method, ".list")
}

// again replaces a connection that a restart has cut.
func (l *link) again(ctx context.Context) error {
	l.ep.findAgain()
	fresh, err := l.redial(ctx)
	if err != nil {
		return err
	}
	l.Close()
	l.Client, l.hello = fresh.Client, fresh.hello
	return nil
}
