package agent

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"slices"
	"time"

	"openclaw/gateway/store"
)

// What Start and the session queries refuse, before anything is written. Only
// ErrTooLong, ErrTooManyCalls, ErrTimeout, ErrPanic and ErrNoSpace end runs that
// were accepted.
var (
	ErrUnknownAgent   = errors.New("unknown agent id")
	ErrUnknownModel   = errors.New("unknown model")
	ErrUnknownSession = errors.New("no session found")
	ErrInvalidKey     = errors.New("invalid session key")
	ErrAgentMismatch  = errors.New("agent does not match session key")
	ErrMainSession    = errors.New("cannot delete the main session")
	ErrLabelInUse     = errors.New("label already in use")
	ErrEmpty          = errors.New("message or attachment required")
	ErrInvalidTurn    = errors.New("invalid turn")
	ErrTooLong        = errors.New("message does not fit the model's context")
	ErrTooManyCalls   = errors.New("too many tool calls")
	ErrBusy           = errors.New("too many turns") // wait and retry
	ErrDraining       = errors.New("gateway is shutting down")
	ErrTimeout        = errors.New("turn timed out")
	ErrPanic          = errors.New("internal error")
	ErrNoSpace        = store.ErrNoSpace
)

// A Turn is one thing said to an agent, and how its answer is wanted.
type Turn struct {
	RunID      string // the caller's name for the run; one is made when empty
	SessionKey string // "" is stateless: Messages are the whole conversation, nothing is stored
	AgentID    string // "" is the session key's agent, or the default one
	Messages   []store.Message
	System     string // joins the end of the system prompt

	// From, if set, is the chat that the turn came from. The session remembers
	// the last one, and the turn's tools are told.
	From *store.DeliveryContext

	// Answer, if set, is noted with the answer, so that a later turn can go on
	// from it; without a SessionKey the turn then gets a session of its own.
	// After is the record that must be the session's last, or ErrMovedOn.
	Answer *store.Answer
	After  string

	// Resume is the source of a message that was said before and has no answer,
	// such as one that a crash cut off: see Said. The turn has no Messages of its
	// own, and models are shown the conversation as far as that one.
	Resume string

	Tools       []Tool // functions of the client: a turn that calls one ends with stopReason toolUse
	ToolChoice  json.RawMessage
	OneCall     bool   // at most one tool call in the answer
	Whole       bool   // ErrTooLong rather than leave out what does not fit
	Model       string // provider/model for this turn alone, without fallbacks
	MaxTokens   int
	Temperature *float64
	TopP        *float64
	Stop        []string
	Timeout     time.Duration // 0 is the agent's timeoutSeconds

	// Accepted, if set, is called before the first event and before Start
	// returns: the place to acknowledge the turn.
	Accepted func(*Run)

	// Observe, if set, gets every event of the run, in order, on the run's
	// goroutine. It may block, which holds the model's stream back, but must
	// return soon after ctx of Start has ended.
	Observe func(Event)
}

// Kind says what an Event tells.
type Kind int

// The kinds of events. A run's events are one KindStart, then any number of
// the others, and exactly one of KindEnd, KindError and KindAborted, last. A
// run that was aborted before its turn came has only the last.
const (
	KindStart      Kind = iota + 1 // the run's turn has come
	KindModel                      // Provider and Model are (now) answering
	KindDelta                      // Delta was added to Text
	KindThinking                   // Thinking was added to the model's thoughts
	KindToolCall                   // Tool is to be called by the client
	KindToolStart                  // the gateway runs Tool
	KindToolUpdate                 // Partial is what Tool has put out so far
	KindToolResult                 // ToolResult is what came of Tool
	KindEnd                        // Result is the answer, and durable
	KindError                      // Err ended the run
	KindAborted                    // somebody ended the run: Abort, a client that left, or Drain
)

// Event is one step of a run.
type Event struct {
	Run  *Run
	Seq  int // from 1, per run
	At   time.Time
	Kind Kind

	Delta    string
	Text     string // everything said so far; shares memory with later ones
	Thinking string
	Tool     *ToolCall

	Partial    string
	ToolResult *store.Message

	Provider, Model string

	Err    error
	Result *Result // with the last event
}

// ToolCall is a complete call of a tool, or of one of the client's functions.
type ToolCall struct {
	Index     int
	ID, Name  string
	Arguments json.RawMessage
}

// Result is how a run ended.
type Result struct {
	Status     string // ok, error or aborted
	Text       string // what was said, also when the run failed half-way
	ToolCalls  []store.Part
	StopReason string // stop, length, toolUse, error or aborted
	Usage      store.Usage
	Provider   string
	Model      string
	SessionID  string
	Err        error // nil when Status is ok; the reason when aborted
	Duration   time.Duration
	Message    *store.Message // as stored; nil when nothing was said
}

// The values of Result.Status.
const (
	StatusOK      = "ok"
	StatusError   = "error"
	StatusAborted = "aborted"
)

// Run is one accepted turn. Its exported fields do not change after Start
// returned it.
type Run struct {
	ID         string
	SessionKey string // canonical; "" when stateless
	AgentID    string
	SessionID  string
	AcceptedAt time.Time
	Command    bool // a chat command, answered without a model

	order    uint64          // of admission
	ctx      context.Context // ends with the run
	cancel   context.CancelCauseFunc
	accepted chan struct{} // closed when Start's outcome is known
	refused  error         // set before accepted is closed
	done     chan struct{}

	seq       int       // the run's goroutine only
	startedAt time.Time // set before done is closed
	result    Result    // set before done is closed
}

// Done is closed after the run's last event.
func (r *Run) Done() <-chan struct{} { return r.done }

// Result is how the run ended. It is valid once Done is closed.
func (r *Run) Result() Result { return r.result }

// StartedAt is when the run's turn came; zero when it was aborted before. It
// is valid once Done is closed.
func (r *Run) StartedAt() time.Time { return r.startedAt }

// Abort ends the run, which keeps what it has said so far. It returns at once;
// the end is told by the last event.
func (r *Run) Abort(reason string) { r.cancel(abortError{reason}) }

// abortError is the cause of a run that somebody ended.
type abortError struct{ reason string }

func (e abortError) Error() string { return "aborted: " + e.reason }

func newRun(id string, to address) *Run {
	if id == "" {
		id = store.NewID()
	}
	r := &Run{
		ID: id, SessionKey: to.key, AgentID: to.agent, AcceptedAt: time.Now(),
		accepted: make(chan struct{}), done: make(chan struct{}),
	}
	r.ctx, r.cancel = context.WithCancelCause(context.Background())
	return r
}

// joined waits until run was accepted or refused by whoever started it.
func joined(ctx context.Context, run *Run) (*Run, error) {
	select {
	case <-run.accepted:
		if run.refused != nil {
			return nil, run.refused
		}
		return run, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// Inherit takes over the finished runs of Agents that have drained, so that
// Wait and a repeated Start still know them.
func (a *Agents) Inherit(from *Agents) {
	from.mu.Lock()
	finished := from.finished
	from.mu.Unlock()
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, f := range finished {
		if a.runs[f.run.ID] == nil {
			a.runs[f.run.ID] = f.run
			a.finished = append(a.finished, f)
			a.kept += f.size
		}
	}
}

// remember keeps a finished run for Wait and for repeated Starts.
func (a *Agents) remember(run *Run) {
	size := len(run.result.Text)
	if m := run.result.Message; m != nil {
		size += messageSize(m)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.finished = append(a.finished, finishedRun{run, time.Now(), size})
	a.kept += size
	a.forgetLocked()
}

func (a *Agents) forgetLocked() {
	n := 0
	for n < len(a.finished) && (len(a.finished)-n > keptRuns || a.kept > keptSize || time.Since(a.finished[n].at) > keptFor) {
		a.kept -= a.finished[n].size
		delete(a.runs, a.finished[n].run.ID)
		n++
	}
	a.finished = slices.Delete(a.finished, 0, n)
}

// running returns the accepted and unfinished runs of a canonical session key,
// or of all when it is empty, in the order of their acceptance.
func (a *Agents) running(key string) []*Run {
	a.mu.Lock()
	defer a.mu.Unlock()
	var runs []*Run
	for _, r := range a.runs {
		if (key == "" || r.SessionKey == key) && !r.Command && isClosed(r.accepted) && !isClosed(r.done) {
			runs = append(runs, r)
		}
	}
	slices.SortFunc(runs, func(x, y *Run) int { return cmp.Compare(x.order, y.order) })
	return runs
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// Abort ends the run of that id, or without one every run of the session, and
// returns the ids of those it ended. With both, the run must be the session's.
func (a *Agents) Abort(sessionKey, runID, reason string) []string {
	key := ""
	if sessionKey != "" {
		to, err := resolve(a.config(), sessionKey, "")
		if err != nil {
			return nil
		}
		key = to.key
	} else if runID == "" {
		return nil
	}
	ids := []string{}
	for _, r := range slices.Backward(a.running(key)) { // so that none begins because one before it ends
		if runID == "" || r.ID == runID {
			r.Abort(reason)
			ids = append(ids, r.ID)
		}
	}
	slices.Reverse(ids)
	return ids
}

// Find returns the run of that id: unfinished, or finished at most ten minutes
// and a thousand runs ago.
func (a *Agents) Find(runID string) (*Run, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.forgetLocked()
	run := a.runs[runID]
	return run, run != nil
}

// Wait returns the result of a run once it has one. It is false when ctx ends
// first, which for a run that is not known is certain.
func (a *Agents) Wait(ctx context.Context, runID string) (Result, bool) {
	var done <-chan struct{}
	run, ok := a.Find(runID)
	if ok {
		done = run.done
	}
	select {
	case <-done:
		return run.Result(), true
	case <-ctx.Done():
		return Result{}, false
	}
}
