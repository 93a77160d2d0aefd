package agent

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"math/rand/v2"
	"time"

	"openclaw/gateway/store"
	"openclaw/reload/config"
)

// A modelRequest is one call of a model, in the words of transcripts rather
// than of any provider. Messages have the roles user, assistant and
// toolResult; each tool call in them must have its result, and the reverse:
// providers refuse a conversation with a gap.
type modelRequest struct {
	Model       config.ResolvedModel // filled in by run
	System      string
	Messages    []store.Message
	Tools       []Tool
	ToolChoice  json.RawMessage // as OpenAI writes it: "auto", "none", "required" or a named function
	OneCall     bool            // no more than one tool call in an answer
	MaxTokens   int             // 0 is the model's own bound, which is never exceeded
	Temperature *float64
	TopP        *float64
	Stop        []string
	SessionKey  string // set when more turns on the same history will follow

	// prepare, if set, fits the request to its Model, before that is asked. A
	// model for which it fails with ErrTooLong is passed over.
	prepare func(*modelRequest) error
	wait    time.Duration // for the answer's first byte; filled in by run
}

// A delta is one piece of an answer as it arrives. Exactly one field is set.
// Tool calls are told by the result, complete.
type delta struct {
	Text     string
	Thinking string
}

// A modelResult is a whole answer. One that comes together with an error is
// what had arrived until then: text and thinking, but no tool calls, because
// nobody knows whether their arguments were complete.
type modelResult struct {
	Content    []store.Part
	StopReason string // stop, length or toolUse; error or aborted beside an error
	Usage      store.Usage
	Provider   string
	Model      string
	API        string
}

// A client speaks one provider protocol. stream calls emit on the caller's
// goroutine, as the pieces arrive and at the pace emit returns. It returns
// once the upstream request has ended or, soon after ctx has, is closed. A
// failure is a *modelError or, when ctx was cancelled, its cause.
type client interface {
	stream(ctx context.Context, r *modelRequest, emit func(delta)) (*modelResult, error)
}

// The words of stopReason in transcripts.
const (
	stopEnd     = "stop"
	stopLength  = "length"
	stopTool    = "toolUse"
	stopError   = "error"
	stopAborted = "aborted"
)

const (
	maxRetries = 2                      // of one model, after its first attempt
	backoff    = 500 * time.Millisecond // before the first retry; doubled before the second

	// A provider that asks for more patience than fallbackAfter is passed over
	// when there is another model. Without one, maxRetryAfter is waited at
	// most: beyond it the caller is told at once, rather than kept hanging for
	// an attempt which the provider has announced to refuse.
	fallbackAfter = 10 * time.Second
	maxRetryAfter = time.Minute

	// Time to the first byte of an answer. A local model may have to be loaded
	// from disk and to read a long prompt before it says anything, and giving
	// up on it makes it start over; another model waiting changes the balance.
	firstByte     = 5 * time.Minute
	firstByteElse = 2 * time.Minute
)

// models calls the configured models. Its methods may be called from any
// goroutine.
type models struct {
	config  func() *config.Config
	log     *slog.Logger
	up      *upstream
	clients map[string]client // by protocol
	jitter  func() float64    // in [0,1)
}

// newModels returns models that reads the current configuration from cfg at
// each call and connects to providers through dial, or over the network when
// dial is nil.
func newModels(cfg func() *config.Config, log *slog.Logger, dial dialFunc) *models {
	up := newUpstream(dial)
	return &models{
		config: cfg,
		log:    log,
		up:     up,
		clients: map[string]client{
			config.APIOpenAICompletions: openAI{up},
			config.APIOpenAIResponses:   responses{up},
			config.APIAnthropicMessages: anthropic{up},
			config.APIBuiltin:           echo{},
		},
		jitter: rand.Float64,
	}
}

// close drops idle connections. Calls that are running go on.
func (m *models) close() { m.up.transport.CloseIdleConnections() }

// run asks the models of refs (provider/model) in turn until one answers; with
// no refs it is the built-in echo that does. Each is retried while that may
// help, then the next is asked. Once a piece of an answer was emitted there is
// no second try, as the listener has heard the first: the error then comes
// with the partial result. The error is a *modelError, or ctx's cause when ctx
// was cancelled (rather than timed out).
func (m *models) run(ctx context.Context, refs []string, r *modelRequest, emit func(delta)) (*modelResult, error) {
	if len(refs) == 0 {
		refs = []string{config.BuiltinRef}
	}
	cfg := m.config()
	var failures []*modelError
	var tooLong error
	for i, ref := range refs {
		if ctx.Err() != nil { // else a request may go out before that ends it
			return nil, context.Cause(ctx)
		}
		more := i+1 < len(refs)
		var res *modelResult
		model, err := cfg.Model(ref)
		if err != nil {
			err = &modelError{Model: ref, Msg: err.Error(), own: true}
		} else {
			res, err = m.ask(ctx, model, r, more, emit)
		}
		if err == nil {
			return res, nil
		}
		var failed *modelError
		attrs := []any{"model", ref, "err", err}
		switch {
		case res != nil || ctx.Err() != nil:
			return res, err
		case errors.Is(err, ErrTooLong):
			tooLong = err
		case errors.As(err, &failed):
			failures, attrs = append(failures, failed), failed.attrs()
		default:
			return nil, err
		}
		if more {
			m.log.Warn("falling back to another model", append(attrs, "next", refs[i+1])...)
		}
	}
	if len(failures) == 0 {
		return nil, tooLong
	}
	failures[0].others = failures[1:]
	return nil, failures[0]
}

// ask calls one model, with retries. A result beside an error is partial.
func (m *models) ask(ctx context.Context, model config.ResolvedModel, r *modelRequest, more bool, emit func(delta)) (*modelResult, error) {
	q := *r
	q.Model = model
	if q.MaxTokens <= 0 || model.MaxTokens > 0 && q.MaxTokens > model.MaxTokens {
		q.MaxTokens = model.MaxTokens
	}
	if r.prepare != nil {
		if err := r.prepare(&q); err != nil {
			return nil, err
		}
	}
	c := m.clients[model.API]
	if c == nil {
		return nil, q.failf(0, "unknown protocol %q", model.API)
	}
	for attempt := 0; ; attempt++ {
		q.wait = firstWait(ctx, more)
		emitted := false
		res, err := c.stream(ctx, &q, func(d delta) {
			emitted = true
			emit(d)
		})
		if res == nil && emitted {
			res = &modelResult{StopReason: stopError}
		}
		if res != nil {
			res.Provider, res.Model, res.API = model.Provider, model.ID, model.API
			res.Usage.Cost = cost(model.Cost, res.Usage)
		}
		if err == nil {
			return res, nil
		}
		if emitted {
			return res, err
		}
		var failed *modelError
		if !errors.As(err, &failed) || ctx.Err() != nil || !failed.Retryable || attempt == maxRetries {
			return nil, err
		}
		wait, ok := m.retryWait(ctx, failed, attempt, more)
		if !ok {
			return nil, err
		}
		m.log.Warn("model call failed, trying again", append(failed.attrs(), "attempt", attempt+1, "dur", wait)...)
		select {
		case <-ctx.Done():
			return nil, q.ended(ctx)
		case <-time.After(wait):
		}
	}
}

// firstWait is how long an answer's first byte may take. While another model
// waits, a silent one may use up at most half of the time that is left.
func firstWait(ctx context.Context, more bool) time.Duration {
	if !more {
		return firstByte
	}
	wait := firstByteElse
	if end, ok := ctx.Deadline(); ok {
		wait = max(min(wait, time.Until(end)/2), time.Millisecond)
	}
	return wait
}

// retryWait is how long to wait before the same model is asked again, and
// whether it makes sense at all.
func (m *models) retryWait(ctx context.Context, failed *modelError, attempt int, more bool) (time.Duration, bool) {
	if failed.Timeout && more {
		return 0, false
	}
	wait := backoff << attempt
	wait += time.Duration(m.jitter() * float64(wait/2))
	if failed.RetryAfter > wait {
		wait = failed.RetryAfter
		if more && wait > fallbackAfter || wait > maxRetryAfter {
			return 0, false
		}
	}
	if end, ok := ctx.Deadline(); ok && time.Until(end) <= wait {
		return 0, false
	}
	return wait, true
}

// cost is the price of u in dollars; prices are per million tokens.
func cost(price config.Cost, u store.Usage) store.Cost {
	of := func(tokens int64, price float64) float64 { return float64(tokens) * price / 1e6 }
	c := store.Cost{
		Input:      of(u.Input, price.Input),
		Output:     of(u.Output, price.Output),
		CacheRead:  of(u.CacheRead, price.CacheRead),
		CacheWrite: of(u.CacheWrite, price.CacheWrite),
	}
	c.Total = c.Input + c.Output + c.CacheRead + c.CacheWrite
	return c
}
