package agent

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"io"
	"net"
	"time"
)

const (
	drainTime = 250 * time.Millisecond // to receive the end of a finished answer
	maxReply  = 256 << 20              // bytes of one answer's body; what is kept of it has its own bound

	// What a server may still say after the model stopped: usage and the end.
	afterStop = 5 * time.Second
)

var (
	errSilent  = errors.New("no byte in time")
	errTooLong = errors.New("answer has too many bytes")
	errNotJSON = errors.New("answer is not JSON")
)

// A reply is the body of a provider's answer. Reading fails when the provider
// is silent for too long; the time between reads does not count, so a slow
// listener is not the provider's fault.
type reply struct {
	request *modelRequest
	ctx     context.Context // the caller's
	call    context.Context // the request's own
	cancel  context.CancelCauseFunc
	unhook  func() bool // of cancel from ctx
	timer   *time.Timer // cancels with errSilent
	body    io.ReadCloser
	typ     string // Content-Type
	idle    time.Duration
	begun   bool
	total   int
}

// Read reads from the body under the silence bound.
func (a *reply) Read(p []byte) (int, error) {
	if a.begun {
		a.timer.Reset(a.idle)
	}
	n, err := a.body.Read(p)
	a.timer.Stop()
	a.begun = true
	a.total += n
	if a.total > maxReply {
		return n, errTooLong
	}
	return n, err
}

// failure turns an error of the transport into one for the caller.
func (a *reply) failure(err error) error {
	r := a.request
	if a.ctx.Err() != nil {
		return r.ended(a.ctx)
	}
	e := r.broken("%v", err)
	var timeout net.Error
	switch {
	case context.Cause(a.call) == errSilent:
		e.Msg, e.Timeout = "no answer in time: the provider is silent", true
	case errors.As(err, &timeout) && timeout.Timeout():
		e.Timeout = true
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		e.Msg = "connection closed early"
	default:
		var network *net.OpError
		var distrust *tls.CertificateVerificationError
		e.Retryable = !errors.As(err, &distrust)
		e.own = !e.Retryable || errors.As(err, &network) // others may quote what the provider sent
	}
	return e
}

// finish releases a reply whose answer is complete. The little that follows
// it, usually the end of the body, is read in the background, bounded in time,
// because only a body read to its end gives its connection back.
func (a *reply) finish() {
	a.unhook()
	a.timer.Reset(drainTime)
	go func() {
		// Whether this succeeds decides only over the connection's reuse.
		_, _ = io.CopyN(io.Discard, a.body, 4<<10)
		a.abandon()
	}()
}

// abandon ends the request at once, whatever its state.
func (a *reply) abandon() {
	a.unhook()
	a.timer.Stop()
	a.cancel(context.Canceled)
	if a.body != nil {
		a.body.Close()
	}
}

// An eventFunc takes one event of a stream, or a whole JSON answer. It says
// done when nothing further is to come.
type eventFunc func(name, data []byte) (done bool, err error)

// parse feeds the reply to event, which gathers it in d, releases it and makes
// the result. A result beside an error is partial.
func (a *reply) parse(d *draft, event eventFunc) (*modelResult, error) {
	r := a.request
	n, err := a.events(event)
	if err == nil {
		a.finish()
		return d.result(), nil
	}
	a.abandon()
	switch {
	case a.ctx.Err() != nil:
		err = r.ended(a.ctx)
	case isModelError(err):
	case d.stop != "":
		// The model had stopped: only the usage or the proper end is missing.
		return d.result(), nil
	case errors.Is(err, errEventTooLong), errors.Is(err, errDraftFull), errors.Is(err, errTooLong):
		err = r.failf(0, "%v", err)
	case n == 0 && (err == io.EOF || err == errNotJSON):
		err = r.broken("answered neither with an event stream nor with JSON of its protocol (Content-Type %q)", a.typ)
	default:
		err = a.failure(err)
	}
	return d.partial(err), err
}

// events runs event over the reply and counts the events. A server that
// ignores the wish for a stream answers with one JSON document, whatever it
// says the type is. The error io.EOF means that the reply ended before event
// said done.
func (a *reply) events(event eventFunc) (n int, err error) {
	s := newEventReader(a)
	if s.peek() == '{' {
		body, err := s.rest(maxDraft)
		if err != nil {
			return 1, err
		}
		if done, err := event(nil, body); done || err != nil {
			return 0, err
		}
		return 0, io.EOF
	}
	for {
		name, data, err := s.next()
		if err != nil {
			return n, err
		}
		done, err := event(name, data)
		if err == errNotJSON && s.ended {
			return n + 1, io.EOF // an event cut short
		}
		if done || err != nil {
			return n, err
		}
		n++
	}
}

// fault makes an error of the error object within an answer's data.
func (r *modelRequest) fault(data []byte) *modelError {
	f := parseFault(data)
	return r.refused(f.status(), f)
}

func isModelError(err error) bool {
	var e *modelError
	return errors.As(err, &e)
}

// decode reads the JSON of one event into v. Members of an unexpected type are
// left out; a document that is broken is errNotJSON.
func decode(data []byte, v any) error {
	var odd *json.UnmarshalTypeError
	if err := json.Unmarshal(data, v); err != nil && !errors.As(err, &odd) {
		return errNotJSON
	}
	return nil
}
