package wire

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sync"
	"time"
)

// ClientOptions say how to connect.
type ClientOptions struct {
	DialOptions
	Token    string // one of these two
	Password string

	// OnEvent, if any, is called for each event in order. The Inbound is valid during the
	// call only. Until it returns no response is delivered either, so it must neither wait
	// for a Call of this client nor block for long: a gateway closes who reads too slowly.
	OnEvent func(Inbound)
}

// challengeTimeout bounds the wait for connect.challenge. A gateway sends it at once.
const challengeTimeout = 10 * time.Second

// Client makes requests over a connection, on which it is the only reader. Its methods
// may be called from any goroutine.
type Client struct {
	conn       *Conn
	onEvent    func(Inbound)
	challenged chan struct{} // has an element once connect.challenge came
	done       chan struct{} // closed when run returns

	mu      sync.Mutex
	err     error // why the connection ended
	pending map[string]*call
}

// call is a request that waits for its response.
type call struct {
	twoStage bool
	acked    bool       // reader only
	answers  chan reply // with twoStage perhaps an ack, then exactly one that is none
}

type reply struct {
	ack     bool
	payload Raw
	err     error
}

// Connect dials the gateway at a ws or wss URL and connects as the runbook's client. A refusal by
// the gateway is an *Error, by HTTP a *HandshakeError. ctx bounds connecting alone. The caller must Close the client.
func Connect(ctx context.Context, url string, o ClientOptions) (*Client, *HelloOK, error) {
	conn, err := Dial(ctx, url, o.DialOptions)
	if err != nil {
		return nil, nil, err
	}
	c := &Client{conn: conn, onEvent: o.OnEvent, pending: map[string]*call{}, challenged: make(chan struct{}, 1), done: make(chan struct{})}
	go c.run()
	hello, err := c.hello(ctx, o)
	if err == nil {
		return c, hello, nil
	}
	conn.Close(CloseNormal, "")
	if ctx.Err() == nil { // else whoever cancelled should not wait for a gateway that is silent
		<-c.done
	}
	return nil, nil, err
}

func (c *Client) hello(ctx context.Context, o ClientOptions) (*HelloOK, error) {
	late := time.NewTimer(challengeTimeout)
	defer late.Stop()
	select {
	case <-c.challenged:
	case <-late.C:
		return nil, errors.New("wait for connect.challenge: no OpenClaw gateway answers here")
	case <-c.done:
		return nil, fmt.Errorf("wait for connect.challenge: %w", c.Err())
	case <-ctx.Done():
		return nil, fmt.Errorf("wait for connect.challenge: %w", context.Cause(ctx))
	}
	params := ConnectParams{Auth: &ConnectAuth{Token: o.Token, Password: o.Password}}
	var hello HelloOK
	if err := c.Call(ctx, "connect", params, &hello); err != nil {
		return nil, err
	}
	if hello.Type != "hello-ok" {
		return nil, fmt.Errorf("connect: the gateway answered %q, not hello-ok", hello.Type)
	}
	return &hello, nil
}

// run reads until the connection ends.
func (c *Client) run() {
	err := c.read()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.err = err
	for id, w := range c.pending {
		w.answers <- reply{err: err}
		delete(c.pending, id)
	}
	close(c.done)
}

func (c *Client) read() error {
	for {
		msg, err := c.conn.ReadMessage()
		if err != nil {
			return err
		}
		in, err := ParseInbound(msg)
		if err != nil {
			return c.refuse(fmt.Errorf("message from the gateway: %w", err))
		}
		switch {
		case in.Type == "res":
			c.deliver(&in)
		case in.Type != "event":
		case in.Event == "connect.challenge":
			var ch Challenge
			if err := DecodeLoose(in.Payload, &ch); err != nil {
				return c.refuse(fmt.Errorf("connect.challenge: %w", err))
			}
			select {
			case c.challenged <- struct{}{}:
			default:
			}
		case c.onEvent != nil:
			c.onEvent(in)
		}
	}
}

// refuse ends the connection to a gateway that does not speak the protocol.
func (c *Client) refuse(cause error) error {
	c.conn.Close(ClosePolicy, "invalid message")
	for {
		if _, err := c.conn.ReadMessage(); err != nil {
			return cause
		}
	}
}

// deliver hands a response to its call; one that nobody waits for any more is dropped. It never blocks.
func (c *Client) deliver(in *Inbound) {
	r := reply{payload: bytes.Clone(in.Payload)}
	if !in.OK {
		r.err = in.Error
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	w := c.pending[in.ID]
	switch {
	case w == nil:
	case w.twoStage && in.OK && status(in.Payload) == StatusAccepted:
		if !w.acked {
			w.acked, r.ack = true, true
			w.answers <- r
		}
	default:
		delete(c.pending, in.ID)
		w.answers <- r
	}
}

func status(payload Raw) string {
	var p struct {
		Status string `json:"status"`
	}
	if DecodeLoose(payload, &p) != nil {
		return ""
	}
	return p.Status
}

// Call makes a request and reads the payload of its response into what result points to, which
// may be nil; unknown keys are ignored. A gateway's refusal is an *Error. When the
// connection ends first, the error wraps its *CloseError.
func (c *Client) Call(ctx context.Context, method string, params, result any) error {
	return c.call(ctx, method, params, result, false, nil)
}

// CallFinal is Call for a method that answers twice, such as agent. It waits for the second answer;
// onAck, which may be nil, is called in between with the first one's payload. A
// failed run's payload is read into result too.
func (c *Client) CallFinal(ctx context.Context, method string, params, result any, onAck func(Raw)) error {
	return c.call(ctx, method, params, result, true, onAck)
}

func (c *Client) call(ctx context.Context, method string, params, result any, twoStage bool, onAck func(Raw)) error {
	var raw []byte
	if params != nil {
		var err error
		if raw, err = Marshal(params); err != nil {
			return fmt.Errorf("%s params: %w", method, err)
		}
	}
	id, w := rand.Text(), &call{twoStage: twoStage, answers: make(chan reply, 2)}
	c.mu.Lock()
	if c.err == nil {
		c.pending[id] = w
	}
	err := c.err
	c.mu.Unlock()
	if err != nil {
		return fmt.Errorf("%s: %w", method, err)
	}
	defer func() {
		c.mu.Lock()
		delete(c.pending, id)
		c.mu.Unlock()
	}()
	if err := c.conn.Send(AppendRequest(nil, id, method, raw)); err != nil {
		if errors.Is(err, ErrClosed) {
			select {
			case <-c.done: // the reader knows why
				err = c.Err()
			case <-ctx.Done():
			}
		}
		return fmt.Errorf("%s: %w", method, err)
	}
	for {
		select {
		case r := <-w.answers:
			if !r.ack {
				return finish(method, r, result)
			}
			if onAck != nil {
				onAck(r.payload)
			}
		case <-ctx.Done():
			return fmt.Errorf("%s: %w", method, context.Cause(ctx))
		}
	}
}

func finish(method string, r reply, result any) error {
	var refused *Error
	switch {
	case errors.As(r.err, &refused):
		if result != nil && r.payload != nil {
			// What is said beside an error is a courtesy; the error is the answer.
			_ = DecodeLoose(r.payload, result)
		}
		return refused
	case r.err != nil:
		return fmt.Errorf("%s: %w", method, r.err)
	case result == nil:
		return nil
	}
	if err := DecodeLoose(r.payload, result); err != nil {
		return fmt.Errorf("%s: answer: %w", method, err)
	}
	return nil
}

// Err returns why the connection ended, nil while it is open.
func (c *Client) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// Done is closed when the connection has ended and no OnEvent runs any more.
func (c *Client) Done() <-chan struct{} { return c.done }

// Close ends the connection and waits until Done. It must not be called by OnEvent.
func (c *Client) Close() {
	c.conn.Close(CloseNormal, "")
	<-c.done
}
