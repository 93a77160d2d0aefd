package agent

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"strings"
	"time"

	"openclaw/gateway/store"
	"openclaw/reload/config"
)

// turn is a Turn under way.
type turn struct {
	Turn
	run     *Run
	agent   config.ResolvedAgent
	home    string
	command *command
	args    string
	after   *Run         // its last event comes before our first
	waiting []store.Line // messages that wait with the turn
	client  context.Context
	unwatch func() bool // stops watching the client
	unqueue func() bool // false when the turn was aborted, and told so, before its time

	text     strings.Builder
	thinking strings.Builder
	said     Event // the provider and model that were told last
}

const clientLeft = "the client left"

// settleWhenAborted tells at once that a waiting turn was aborted. What it
// returns stops that, once.
func (t *turn) settleWhenAborted(a *Agents) (stop func() bool) {
	a.work.Add(1)
	cancelled := context.AfterFunc(t.run.ctx, func() {
		defer a.work.Done()
		<-t.run.accepted
		a.finish(t, KindAborted, t.failed(context.Cause(t.run.ctx)))
	})
	return func() bool {
		ok := cancelled()
		if ok {
			a.work.Done()
		}
		return ok
	}
}

// runTurn runs a turn of the session and returns the next one.
func (s *session) runTurn(t *turn) (next *turn) {
	a := s.agents
	if t.client.Err() != nil { // of which we may not have been told yet
		t.run.Abort(clientLeft)
	}
	settled := t.unqueue != nil && !t.unqueue()
	records, entry := s.begin(t)
	var answer *store.Message
	var kind Kind
	var res Result
	if settled {
		res = t.failed(context.Cause(t.run.ctx))
		answer = t.answer(nil, &res)
	} else {
		answer, kind, res = a.ask(t, records, a.refs(t, entry))
	}
	next, err := s.end(t, answer, &res)
	if err != nil && !settled {
		a.log.Error("answer was not stored", "session", s.key, "run", t.run.ID, "err", err)
		kind, res.Status, res.StopReason, res.Err, res.Message = KindError, StatusError, stopError, err, nil
	}
	a.leave(s)
	if !settled {
		a.finish(t, kind, res)
	}
	a.release(s)
	return next
}

// runStateless runs a turn that belongs to no session.
func (a *Agents) runStateless(t *turn) {
	<-t.run.accepted
	records := make([]store.Record, len(t.Messages))
	for i := range t.Messages {
		records[i].Message = &t.Messages[i]
	}
	_, kind, res := a.ask(t, records, a.refs(t, store.Entry{}))
	a.leave(nil)
	a.finish(t, kind, res)
}

// begin takes a turn's messages into the conversation and returns what of that
// models may be shown.
func (s *session) begin(t *turn) ([]store.Record, store.Entry) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if t.waiting != nil {
		s.promote(t.waiting)
		t.waiting = nil
	}
	records := s.records[s.from:len(s.records):len(s.records)]
	if s.summary != "" {
		m := store.Message{Role: store.RoleUser, Content: store.Text("[Summary of the conversation so far]\n\n" + s.summary)}
		records = append([]store.Record{{Message: &m}}, records...)
	}
	entry, _ := s.index.Get(s.key)
	return records, entry
}

// end stores a turn's answer and takes the next turn.
func (s *session) end(t *turn, answer *store.Message, res *Result) (next *turn, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	defer func() { next = s.nextLocked() }()
	res.SessionID = s.sessionID
	if err := s.say(messageLine(store.NewRecordID(), answer)); err != nil {
		return nil, err
	}
	res.Message = answer
	_, err = s.index.Update(s.key, func(e *store.Entry) {
		e.UpdatedAt = answer.Timestamp
		e.SystemSent = true
		e.AbortedLastRun = res.Status == StatusAborted
		if u := res.Usage; res.Status == StatusOK {
			e.ModelProvider, e.Model = res.Provider, res.Model
			e.InputTokens, e.OutputTokens = u.Input, u.Output
			e.TotalTokens = u.Input + u.CacheRead + u.CacheWrite // what the context holds
			if m, err := s.agents.config().Model(res.Provider + "/" + res.Model); err == nil {
				e.ContextTokens = int64(m.ContextWindow)
			}
		}
	})
	if err != nil {
		// The transcript has it; the index follows with the next change.
		s.agents.log.Warn("session index was not written", "session", s.key, "err", err)
	}
	return nil, nil
}

// refs are the models to ask, in order.
func (a *Agents) refs(t *turn, e store.Entry) []string {
	cfg := a.config()
	if now, ok := cfg.Agent(t.agent.ID); ok {
		t.agent = now // the turn may have waited while the configuration changed
	}
	refs := t.agent.Refs()
	switch {
	case t.Model != "":
		return []string{t.Model}
	case e.ModelOverride != "":
		ref := e.ProviderOverride + "/" + e.ModelOverride
		if _, err := cfg.Model(ref); err == nil {
			refs[0] = ref
		}
	}
	return refs
}

// ask has a model answer, and says how that went: what to store, the kind of
// the last event, and the result. A panic on the way is an error of this turn.
func (a *Agents) ask(t *turn, records []store.Record, refs []string) (answer *store.Message, kind Kind, res Result) {
	timeout := t.Timeout
	if timeout <= 0 {
		timeout = t.agent.Timeout
	}
	ctx, cancel := context.WithTimeoutCause(t.run.ctx, timeout, refuse(ErrTimeout, "turn timed out after %s", timeout))
	defer cancel()
	t.run.startedAt = time.Now()
	out, err := a.answer(ctx, t, records, refs)
	var abort abortError
	if cause := context.Cause(ctx); err != nil && cause != nil && (errors.As(cause, &abort) || errors.Is(cause, ErrTimeout)) {
		err = cause
	}
	if err != nil {
		res, kind = t.failed(err), KindError
		if res.Status == StatusAborted {
			kind = KindAborted
		}
	} else {
		res, kind = Result{Status: StatusOK, StopReason: out.StopReason}, KindEnd
	}
	res.Text = t.text.String()
	res.Duration = time.Since(t.run.startedAt)
	if out == nil {
		out = t.partial(refs[0], a.config())
	}
	res.Usage, res.Provider, res.Model = out.Usage, out.Provider, out.Model
	if err == nil {
		res.ToolCalls = calls(out.Content)
	}
	answer = t.answer(out, &res)
	if t.run.SessionKey == "" {
		res.Message = answer
	}
	return answer, kind, res
}

// answer builds the prompt and calls the models.
func (a *Agents) answer(ctx context.Context, t *turn, records []store.Record, refs []string) (res *modelResult, err error) {
	defer func() {
		if v := recover(); v != nil {
			res, err = nil, a.panicked(v, "session", t.run.SessionKey, "run", t.run.ID)
		}
	}()
	a.emit(t, Event{Kind: KindStart})
	model, err := a.config().Model(refs[0])
	if err != nil {
		model.Provider, model.ID, _ = strings.Cut(refs[0], "/")
		model.ContextWindow = 1 << 20 // a fallback may know; it fits what it can
	}
	a.tellModel(t, model.Provider, model.ID)
	system := systemPrompt(t.agent, a.workspace(t.agent), t.System)
	reply := t.MaxTokens
	if reply <= 0 {
		reply = model.MaxTokens
	}
	messages, err := fit(records, model.ContextWindow, estimate(system)+toolTokens(t.Tools), reply)
	if err != nil {
		return nil, err
	}
	res, err = a.models.run(ctx, refs, &modelRequest{
		System: system, Messages: messages, Tools: t.Tools, ToolChoice: t.ToolChoice, MaxTokens: t.MaxTokens,
		Temperature: t.Temperature, TopP: t.TopP, Stop: t.Stop, SessionKey: t.run.SessionKey,
	}, func(d delta) {
		switch {
		case d.Text != "":
			t.text.WriteString(d.Text)
			a.emit(t, Event{Kind: KindDelta, Delta: d.Text, Text: t.text.String()})
		case d.Thinking != "":
			t.thinking.WriteString(d.Thinking)
			a.emit(t, Event{Kind: KindThinking, Thinking: d.Thinking, Text: t.text.String()})
		}
	})
	if err != nil {
		return res, err
	}
	a.tellModel(t, res.Provider, res.Model) // a fallback, perhaps
	for i, p := range calls(res.Content) {
		a.emit(t, Event{Kind: KindToolCall, Tool: &ToolCall{i, p.ID, p.Name, p.Arguments}, Text: t.text.String()})
	}
	return res, nil
}

func (a *Agents) tellModel(t *turn, provider, model string) {
	if t.said.Provider != provider || t.said.Model != model {
		t.said = Event{Kind: KindModel, Provider: provider, Model: model}
		a.emit(t, t.said)
	}
}

// partial is the result of a turn that has none, from what was heard.
func (t *turn) partial(ref string, cfg *config.Config) *modelResult {
	res := &modelResult{}
	if m, err := cfg.Model(ref); err == nil {
		res.Provider, res.Model, res.API = m.Provider, m.ID, m.API
	}
	if s := t.thinking.String(); s != "" {
		res.Content = append(res.Content, store.Part{Type: store.PartThinking, Thinking: s})
	}
	if s := t.text.String(); s != "" {
		res.Content = append(res.Content, store.Part{Type: store.PartText, Text: s})
	}
	return res
}

// answer is the assistant's message of a result.
func (t *turn) answer(out *modelResult, res *Result) *store.Message {
	if out == nil {
		out = &modelResult{}
	}
	m := &store.Message{
		Role: store.RoleAssistant, Content: out.Content, API: out.API, Provider: out.Provider, Model: out.Model,
		Usage: &out.Usage, StopReason: res.StopReason, Timestamp: time.Now().UnixMilli(),
	}
	if res.Err != nil {
		m.ErrorMessage = res.Err.Error()
	}
	return m
}

// failed is the result of a turn that err ended.
func (t *turn) failed(err error) Result {
	var abort abortError
	if errors.As(err, &abort) {
		return Result{Status: StatusAborted, StopReason: stopAborted, Err: err, SessionID: t.run.SessionID}
	}
	return Result{Status: StatusError, StopReason: stopError, Err: err, SessionID: t.run.SessionID}
}

// emit tells an event to everyone who listens.
func (a *Agents) emit(t *turn, e Event) {
	t.run.seq++
	e.Run, e.Seq, e.At = t.run, t.run.seq, time.Now()
	a.sink(e)
	if t.Observe != nil {
		t.Observe(e)
	}
}

// finish ends a run: it is remembered, told and done, in this order.
func (a *Agents) finish(t *turn, kind Kind, res Result) {
	defer a.work.Done()
	t.unwatch()
	t.run.result = res
	size := len(res.Text)
	if res.Message != nil {
		size *= 2
	}
	a.remember(t.run, size)
	defer close(t.run.done)
	defer t.run.cancel(nil)
	defer func() {
		if v := recover(); v != nil {
			a.panicked(v, "session", t.run.SessionKey, "run", t.run.ID)
		}
	}()
	a.emit(t, Event{Kind: kind, Text: res.Text, Provider: res.Provider, Model: res.Model, Err: res.Err, Result: &t.run.result})
}

// panicked logs a panic's stack and is the error to go on with.
func (a *Agents) panicked(v any, attrs ...any) error {
	a.log.Error("panic in a turn", append(attrs, "err", fmt.Sprint(v), "stack", string(debug.Stack()))...)
	return ErrPanic
}
