package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
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
	to      address
	command *command
	args    string
	after   *Run         // its last event comes before our first
	waiting []store.Line // messages that wait with the turn
	client  context.Context
	unwatch func() bool // stops watching the client
	unqueue func() bool // false when the turn was aborted, and told so, before its time

	model    config.ResolvedModel // asked last
	text     strings.Builder      // heard so far
	thinking strings.Builder      // heard since the last tool call
	heardTo  int                  // bytes of text that belong to messages before the last tool call
	spent    store.Usage          // of the model calls before the last one
	left     []store.Part         // calls of the last answer for the client to run
	hands    hands
}

const clientLeft = "the client left"

// settleWhenAborted tells at once that a waiting turn was aborted. What it
// returns stops that, once.
func (t *turn) settleWhenAborted(a *Agents) (stop func() bool) {
	a.work.Add(1)
	cancelled := context.AfterFunc(t.run.ctx, func() {
		defer a.work.Done()
		<-t.run.accepted
		a.finish(t, t.ended(context.Cause(t.run.ctx)))
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
	var res Result
	if settled {
		res = t.ended(context.Cause(t.run.ctx))
		answer = res.message(&modelResult{})
	} else {
		answer, res = a.ask(t, s, records, entry)
	}
	next, err := s.end(t, answer, &res)
	if err != nil && !settled {
		a.log.Error("answer was not stored", "session", s.key, "run", t.run.ID, "err", err)
		res.Status, res.StopReason, res.Err, res.Message = StatusError, stopError, err, nil
	}
	a.leave(s)
	if !settled {
		a.finish(t, res)
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
	answer, res := a.ask(t, nil, records, store.Entry{})
	res.Message = answer
	a.leave(nil)
	a.finish(t, res)
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
	if i := slices.IndexFunc(records, func(r store.Record) bool { return t.Resume != "" && r.Message.Source == t.Resume }); i >= 0 {
		records = records[: i+1 : i+1]
	}
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
	if res.Status == StatusOK {
		answer.Answer = t.Answer
	}
	if err := s.say(messageLine(store.NewRecordID(), answer)); err != nil {
		return nil, err
	}
	res.Message = answer
	_, err = s.index.Update(s.key, func(e *store.Entry) {
		e.UpdatedAt = answer.Timestamp
		e.SystemSent = true
		e.AbortedLastRun = res.Status == StatusAborted
		if t.From != nil {
			e.DeliveryContext, e.LastChannel, e.LastTo, e.LastAccountID = t.From, t.From.Channel, t.From.To, t.From.AccountID
		}
		if u := res.Usage; res.Status == StatusOK {
			e.ModelProvider, e.Model = res.Provider, res.Model
			e.InputTokens, e.OutputTokens = u.Input, u.Output
			last := answer.Usage
			e.TotalTokens = last.Input + last.CacheRead + last.CacheWrite // what the context holds
			e.ContextTokens = int64(t.model.ContextWindow)
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
	if now, ok := a.config().Agent(t.agent.ID); ok {
		t.agent = now // the turn may have waited while the configuration changed
	}
	if t.Model != "" {
		return []string{t.Model}
	}
	refs := t.agent.Refs()
	refs[0] = a.sessionModel(t.agent, e)
	return refs
}

// ask has a model answer, and returns what to store last and how that went. s
// is nil for a turn that belongs to no session.
func (a *Agents) ask(t *turn, s *session, records []store.Record, e store.Entry) (*store.Message, Result) {
	refs := a.refs(t, e)
	timeout := t.Timeout
	if timeout <= 0 {
		timeout = t.agent.Timeout
	}
	ctx, cancel := context.WithTimeoutCause(t.run.ctx, timeout, refuse(ErrTimeout, "turn timed out after %s", timeout))
	defer cancel()
	t.run.startedAt = time.Now()
	out, err := a.answer(ctx, t, s, records, refs)
	if cause := context.Cause(ctx); err != nil && cause != nil {
		err = cause // somebody's abort, or our timeout
	}
	if out == nil {
		out = t.heard()
	}
	res := t.ended(err)
	if err == nil {
		res.StopReason, res.ToolCalls = out.StopReason, t.left
	}
	res.Text = t.text.String()
	res.Usage, res.Provider, res.Model = t.spent, out.Provider, out.Model
	add(&res.Usage, out.Usage)
	return res.message(out), res
}

// answer asks the models, and runs the tools that they call, until an answer
// leaves nothing to run. A panic on the way, in an observer perhaps, is an
// error of this turn.
func (a *Agents) answer(ctx context.Context, t *turn, s *session, records []store.Record, refs []string) (res *modelResult, err error) {
	defer func() {
		if v := recover(); v != nil {
			res, err = nil, a.panicked(v, "session", t.run.SessionKey, "run", t.run.ID)
		}
	}()
	a.emit(t, Event{Kind: KindStart})
	system := systemPrompt(t.agent, a.workspace(t.agent), t.System)
	for rounds := 0; ; rounds++ {
		res, err = a.listen(ctx, t, records, refs, system, rounds)
		if err != nil {
			return res, err
		}
		ours := t.ours(res.Content)
		t.left = t.clients(res.Content)
		if len(ours) > 0 {
			said, err := a.round(ctx, t, s, res, ours, rounds)
			if err != nil {
				return nil, err
			}
			if len(t.left) == 0 {
				records, refs = append(records, said...), onward(refs, res)
				continue
			}
			res = &modelResult{StopReason: stopTool, Provider: res.Provider, Model: res.Model, API: res.API}
		}
		for i, p := range t.left {
			a.emit(t, Event{Kind: KindToolCall, Tool: toolCall(i, p), Text: t.text.String()})
		}
		return res, nil
	}
}

// listen asks the models once and tells what they say.
func (a *Agents) listen(ctx context.Context, t *turn, records []store.Record, refs []string, system string, rounds int) (*modelResult, error) {
	choice := t.ToolChoice
	switch {
	case rounds == a.maxRounds:
		choice = json.RawMessage(`"none"`) // an answer, at last
	case rounds > 0:
		choice = nil // what had to be called was
	}
	return a.models.run(ctx, refs, &modelRequest{
		System: system, ToolChoice: choice, OneCall: t.OneCall, MaxTokens: t.MaxTokens,
		Temperature: t.Temperature, TopP: t.TopP, Stop: t.Stop, SessionKey: t.run.SessionKey,
		prepare: func(q *modelRequest) (err error) {
			if rounds == 0 || t.model.Ref != q.Model.Ref {
				a.emit(t, Event{Kind: KindModel, Provider: q.Model.Provider, Model: q.Model.ID})
			}
			t.model = q.Model
			q.Tools = a.offer(t)
			fixed := estimate(system) + toolTokens(q.Tools)
			if q.Messages, err = fit(records, q.Model.ContextWindow, fixed, q.MaxTokens); err == nil && t.Whole {
				err = whole(records, q.Model.ContextWindow, fixed, q.MaxTokens)
			}
			return err
		},
	}, func(d delta) {
		if d.Text != "" && t.heardTo > 0 && t.text.Len() == t.heardTo { // a paragraph of its own
			d.Text = betweenRounds + d.Text
		}
		t.text.WriteString(d.Text)
		t.thinking.WriteString(d.Thinking)
		switch text := t.text.String(); {
		case d.Text != "":
			a.emit(t, Event{Kind: KindDelta, Delta: d.Text, Text: text})
		case d.Thinking != "":
			a.emit(t, Event{Kind: KindThinking, Thinking: d.Thinking, Text: text})
		}
	})
}

// betweenRounds separates what was said before and after tools ran.
const betweenRounds = "\n\n"

// round runs the gateway's part of an answer's calls. The answer is stored
// before, so that nothing is done which no transcript shows, and the results
// after; both come back for the next request.
func (a *Agents) round(ctx context.Context, t *turn, s *session, res *modelResult, ours []store.Part, rounds int) ([]store.Record, error) {
	if rounds >= a.maxRounds {
		return nil, refuse(ErrTooManyCalls, "the model called tools in %d answers and did not come to an end", rounds+1)
	}
	add(&t.spent, res.Usage)
	if limit := a.maxTokens; t.spent.TotalTokens >= limit {
		return nil, refuse(ErrTooManyCalls, "the turn has used %d tokens, of %d that it may", t.spent.TotalTokens, limit)
	}
	t.heardTo = t.text.Len()
	t.thinking.Reset()
	said := Result{StopReason: stopTool}
	lines, err := keep(s, nil, said.message(res))
	if err == nil {
		lines, err = keep(s, lines, a.act(ctx, t, ours)...)
	}
	if err == nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return lines, err
}

// keep stores messages of a turn that goes on, and puts them behind list.
func keep(s *session, list []store.Record, messages ...*store.Message) ([]store.Record, error) {
	from := len(list)
	for _, m := range messages {
		list = append(list, messageLine(store.NewRecordID(), m))
	}
	if s == nil {
		return list, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return list, s.say(list[from:]...)
}

// onward are the models to ask after one of refs has answered: that one first.
func onward(refs []string, res *modelResult) []string {
	if i := slices.Index(refs, res.Provider+"/"+res.Model); i > 0 {
		return refs[i:]
	}
	return refs
}

// add adds up what model calls have used.
func add(sum *store.Usage, u store.Usage) {
	sum.Input += u.Input
	sum.Output += u.Output
	sum.CacheRead += u.CacheRead
	sum.CacheWrite += u.CacheWrite
	sum.TotalTokens += u.TotalTokens
	sum.Cost.Input += u.Cost.Input
	sum.Cost.Output += u.Cost.Output
	sum.Cost.CacheRead += u.Cost.CacheRead
	sum.Cost.CacheWrite += u.Cost.CacheWrite
	sum.Cost.Total += u.Cost.Total
}

// heard is the result of a turn that has none, from what was heard.
func (t *turn) heard() *modelResult {
	res := &modelResult{Provider: t.model.Provider, Model: t.model.ID, API: t.model.API}
	if s := t.thinking.String(); s != "" {
		res.Content = append(res.Content, store.Part{Type: store.PartThinking, Thinking: s})
	}
	if s := strings.TrimPrefix(t.text.String()[t.heardTo:], betweenRounds); s != "" {
		res.Content = append(res.Content, store.Part{Type: store.PartText, Text: s})
	}
	return res
}

// ended is the result of a turn that ended with err, still without what was said.
func (t *turn) ended(err error) Result {
	res := Result{Status: StatusOK, StopReason: stopEnd, SessionID: t.run.SessionID, Err: err}
	if !t.run.startedAt.IsZero() {
		res.Duration = time.Since(t.run.startedAt)
	}
	var abort abortError
	if errors.As(err, &abort) {
		res.Status, res.StopReason = StatusAborted, stopAborted
	} else if err != nil {
		res.Status, res.StopReason = StatusError, stopError
	}
	return res
}

// message is the assistant's message to store.
func (r *Result) message(out *modelResult) *store.Message {
	m := &store.Message{
		Role: store.RoleAssistant, Content: out.Content, API: out.API, Provider: out.Provider, Model: out.Model,
		Usage: &out.Usage, StopReason: r.StopReason, Timestamp: time.Now().UnixMilli(),
	}
	if r.Err != nil {
		m.ErrorMessage = r.Err.Error()
	}
	return m
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
func (a *Agents) finish(t *turn, res Result) {
	defer a.work.Done()
	t.unwatch()
	t.run.result = res
	a.remember(t.run)
	defer close(t.run.done)
	defer t.run.cancel(nil)
	defer func() {
		if v := recover(); v != nil {
			a.panicked(v, "session", t.run.SessionKey, "run", t.run.ID)
		}
	}()
	kind := KindEnd
	switch res.Status {
	case StatusError:
		kind = KindError
	case StatusAborted:
		kind = KindAborted
	}
	a.emit(t, Event{Kind: kind, Text: res.Text, Provider: res.Provider, Model: res.Model, Err: res.Err, Result: &t.run.result})
}

// panicked logs a panic's stack and is the error to go on with.
func (a *Agents) panicked(v any, attrs ...any) error {
	a.log.Error("panic in a turn", append(attrs, "err", fmt.Sprint(v), "stack", string(debug.Stack()))...)
	return ErrPanic
}
