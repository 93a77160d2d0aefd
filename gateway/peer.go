package gateway

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"openclaw/gateway/store"
	"openclaw/wire"
)

// principal says by which credential a client was let in. Idempotency keys
// belong to it.
type principal string

const (
	principalShared principal = "shared" // the configured token or password
	principalCLI    principal = "cli"    // the key in the instance record, from loopback
)

// Before connect a client may send little, and for a short time.
const preAuthLimit = 64 << 10

// expelAfter bounds the farewell of a client whose secret was revoked.
const expelAfter = 500 * time.Millisecond

// maxKeptFrame bounds the scratch space that is kept for the next answer.
const maxKeptFrame = 16 << 10

// lagging is how many queued bytes make a peer miss events that later ones repeat.
const lagging = 256 << 10

var errStopping = errors.New("gateway is stopping")

// errGone is the cause of a peer's context when its connection ended.
var errGone = errors.New("client is gone")

// peer is one WebSocket client. Its reader goroutine runs serve, which starts
// and waits for the goroutines of its requests.
//
//	upgraded ──connect ok──► connected ──► gone
//	    └───anything else, timeout───────────▲
type peer struct {
	g     *Gateway
	conn  *wire.Conn
	from  client    // set at the upgrade
	since time.Time // when it entered; the hub's

	// Set at hello, only read afterwards.
	dialect dialect
	grant   grant
	scopes  wire.Scopes
	id      string // of the connection, for logs
	ctx     context.Context
	cancel  context.CancelCauseFunc

	admitted bool // has its place among the connections; guarded by hub.mu

	requests sync.WaitGroup // goroutines of requests
	inFlight atomic.Int32
	leaving  atomic.Int32 // close code to leave with once nothing is in flight; 0 = stays
}

// serve speaks with the client until the connection is gone.
func (p *peer) serve() {
	defer p.gone()
	if !p.handshake() {
		for { // what is queued goes out, then the connection ends
			if _, err := p.conn.ReadMessage(); err != nil {
				return
			}
		}
	}
	for {
		msg, err := p.conn.ReadMessage()
		if err != nil {
			return
		}
		p.handle(msg)
	}
}

// gone gives back what the peer held. The reader calls it last.
func (p *peer) gone() {
	if p.cancel != nil {
		p.cancel(errGone)
	}
	p.requests.Wait()
	p.g.hub.remove(p)
}

// handshake sends the challenge and takes the connect request. Whatever is not
// one closes the connection.
func (p *peer) handshake() bool {
	g := p.g
	p.conn.SetDeadline(time.Now().Add(g.cfg().Gateway.Limits.HandshakeMs.Duration()))
	nonce := randomID(16)
	challenge := `{"nonce":"` + nonce + `","ts":` + strconv.FormatInt(time.Now().UnixMilli(), 10) + `}`
	p.conn.Send(wire.AppendEvent(nil, "connect.challenge", []byte(challenge), 0, nil))
	msg, err := p.conn.ReadMessage()
	if err != nil {
		return false
	}
	req, err := wire.ParseRequest(msg)
	var bad *wire.FrameError
	switch {
	case errors.As(err, &bad):
		p.conn.Close(wire.ClosePolicy, "invalid request frame")
		return false
	case err != nil:
		p.conn.Close(wire.ClosePolicy, "invalid json")
		return false
	case req.Method != "connect":
		return p.refuse(req.ID, wire.InvalidRequest("invalid handshake: first request must be connect"), wire.ClosePolicy)
	}
	var in wire.ConnectParams
	if refused := wire.DecodeParams("connect", req.Params, &in); refused != nil {
		return p.refuse(req.ID, refused, wire.ClosePolicy)
	}
	d, refused := dialectOf(&in)
	if refused != nil {
		return p.refuse(req.ID, refused, wire.CloseProtocolError)
	}
	if g.stopping.Load() && !g.restarts.Load() {
		return p.refuse(req.ID, stopping(), wire.CloseTryLater)
	}
	given, refused := g.authConnect(in.Auth, p.from)
	if refused != nil {
		g.log.Debug("connect refused", "addr", p.from.addr, "err", refused.Message)
		return p.refuse(req.ID, refused, wire.ClosePolicy)
	}
	limits := g.cfg().Gateway.Limits
	p.dialect, p.grant, p.scopes, p.id = d, given, wire.AllScopes(), nonce
	p.ctx, p.cancel = context.WithCancelCause(g.ctx)
	if !g.hub.admit(p, limits.MaxConnections) {
		return p.refuse(req.ID, wire.Unavailable("too many connections"), wire.CloseTryLater)
	}
	p.conn.SetDeadline(time.Time{})
	p.conn.SetLimit(limits.MaxPayload, limits.MaxBufferedBytes)
	g.hub.join(p, wire.AppendResponse(nil, req.ID, d.hello(g, p)))
	if given.creds != nil && given.creds.revoked.Err() != nil { // before the hub knew of p
		p.expel()
	}
	g.log.Debug("connected", "peer", p.id, "addr", p.from.addr)
	return true
}

// refuse answers a connect and closes the connection with the same words.
func (p *peer) refuse(id string, e *wire.Error, code int) bool {
	p.conn.Send(wire.AppendError(nil, id, e, nil))
	p.conn.Close(code, e.Message)
	return false
}

// handle answers one message of a connected client. msg is valid until the
// next one is read.
func (p *peer) handle(msg []byte) {
	if p.leaving.Load() == wire.ClosePolicy {
		return // has no right to anything any more
	}
	req, err := wire.ParseRequest(msg)
	var bad *wire.FrameError
	switch {
	case err == nil:
	case errors.As(err, &bad):
		p.conn.Send(bad.Append(nil))
		return
	default:
		p.conn.Close(wire.ClosePolicy, "invalid json")
		return
	}
	m := p.g.methods[req.Method]
	switch {
	case m == nil && req.Method == "connect":
		p.fail(req.ID, wire.InvalidRequest("connect is only valid as the first request"))
	case m == nil:
		p.fail(req.ID, wire.InvalidRequest("unknown method: %s", store.Clip(req.Method, 64)))
	case !p.scopes.Allow(m.scope):
		p.fail(req.ID, p.dialect.denied(m.scope))
	case m.inline:
		p.run(m, req.ID, req.Params)
	case int(p.inFlight.Add(1)) > p.g.cfg().Gateway.Limits.MaxInFlight:
		p.inFlight.Add(-1)
		e := wire.Unavailable("too many requests in flight")
		e.RetryAfterMs = 100
		p.fail(req.ID, e)
	default:
		params := append(wire.Raw(nil), req.Params...)
		id := req.ID
		p.requests.Go(func() {
			p.run(m, id, params)
			if p.inFlight.Add(-1) == 0 {
				p.leaveIfAsked()
			}
		})
	}
}

// leave ends the connection once the requests in flight are answered. Those
// that wait for something else than a turn are ended.
func (p *peer) leave(restart bool) {
	code := int32(wire.CloseGoingAway)
	if restart {
		code = wire.CloseRestart
	}
	p.leaving.CompareAndSwap(0, code) // who is expelled stays so
	if p.inFlight.Load() == 0 {
		p.leaveIfAsked()
	} else {
		p.cancel(errStopping)
	}
}

// expel ends the connection and all that runs on it: the secret that opened it
// is no longer the gateway's. What is in flight may still be answered, for it
// may be what changed the secret. A client that does not take the Close is cut off.
func (p *peer) expel() {
	p.leaving.Store(wire.ClosePolicy)
	if p.inFlight.Load() == 0 {
		p.leaveIfAsked()
	} else {
		p.cancel(errRevoked)
	}
	time.AfterFunc(expelAfter/2, func() {
		p.conn.Close(wire.ClosePolicy, errRevoked.Error())
		time.AfterFunc(expelAfter/2, p.conn.Drop)
	})
}

func (p *peer) leaveIfAsked() {
	switch p.leaving.Load() {
	case wire.CloseGoingAway:
		p.conn.Close(wire.CloseGoingAway, "gateway stopping")
	case wire.CloseRestart:
		p.conn.Close(wire.CloseRestart, "service restart")
	case wire.ClosePolicy:
		p.conn.Close(wire.ClosePolicy, errRevoked.Error())
	}
}

// run calls a handler and sends its answer.
func (p *peer) run(m *method, id string, params wire.Raw) {
	var ack func(any)
	if m.stages {
		ack = func(v any) { p.answer(id, v, nil) }
	}
	began := time.Now()
	v, err := p.call(m, params, ack)
	m.work.Done(began, err != nil)
	if m.stages && v == nil && err == nil {
		return // what was acknowledged is all there is to say
	}
	p.answer(id, v, err)
}

func (p *peer) call(m *method, params wire.Raw, ack func(any)) (v any, err error) {
	defer p.g.contained(m.name, &err)
	return m.call(p.ctx, p.g, p, params, ack)
}

// answer sends a response. A value beside an error travels with it.
func (p *peer) answer(id string, v any, err error) {
	payload, ok := v.(preEncoded)
	if !ok && (v != nil || err == nil) {
		enc, encErr := wire.Marshal(v)
		if encErr != nil && err == nil {
			err = fmt.Errorf("encode answer: %w", encErr)
		}
		payload = enc
	}
	if err != nil {
		p.conn.Send(wire.AppendError(nil, id, p.g.asWire(err), payload))
		return
	}
	buf, _ := p.g.frames.Get().(*[]byte)
	if buf == nil {
		buf = new([]byte)
	}
	*buf = wire.AppendResponse((*buf)[:0], id, payload)
	p.conn.Send(*buf)
	if cap(*buf) <= maxKeptFrame {
		p.g.frames.Put(buf)
	}
}

func (p *peer) fail(id string, e *wire.Error) { p.answer(id, nil, e) }
