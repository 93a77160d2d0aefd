package agent

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"time"

	"openclaw/gateway/store"
)

// A session is one conversation. While it has turns it has one goroutine, the
// actor (loop), which runs them one after the other in the order in which they
// were accepted; an idle session has none.
//
// # Order in the transcript
//
// An accepted turn is on disk at once, but its messages must stand after the
// answers of the turns before it. So a turn that finds the session idle goes
// straight into the transcript as message lines, and one that has to wait as a
// custom line of type queued-turn, which holds the messages and the ids that
// they are going to have. When its turn comes the messages join the
// conversation in memory; their message lines are written together with
// whatever is written next, its answer if nothing else. That costs a waiting
// turn no further sync, and loses nothing: a queued-turn line whose ids occur
// in no message line is one that a crash cut off, and loading the transcript
// puts its messages at the end of the conversation, as said and not answered.
type session struct {
	agents *Agents
	place
	index *store.Sessions

	// Guarded by agents.mu.
	users int // turns, and calls of Agents.use
	turns int // accepted and not answered

	// mu guards what follows. It is held across writes to this session's
	// transcript, so that their order is the order of acceptance, but not
	// while a model answers.
	mu         sync.Mutex
	running    bool              // the actor exists
	current    *turn             // what it runs
	queue      []*job            // what waits, in order; bounded by admit for turns
	last       *Run              // the one accepted last
	transcript *store.Transcript // nil until loaded
	sessionID  string
	records    []store.Record // messages, oldest first; elements do not change
	from       int            // the first record that models are shown
	summary    string         // what stands for those before it
	pending    []store.Line   // messages in records that are not in the file as such yet
	size       int            // bytes of records, about

	// keep says that the history is worth keeping while idle. It is written
	// under mu by a user and read under agents.mu after the last one.
	keep bool
}

// job is an element of a session's mailbox: a turn, or something to be done
// while none runs, with mu held.
type job struct {
	turn *turn
	do   func()
}

const queuedTurn = "queued-turn"

// queued is the data of a queued-turn line.
type queued struct {
	RunID    string          `json:"runId"`
	Messages []queuedMessage `json:"messages"`
}

type queuedMessage struct {
	ID      string         `json:"id"`
	Message *store.Message `json:"message"`
}

// load reads the session's conversation, if that is not in memory. Without
// create a session that is in no index has none, and ok is false. It needs mu.
func (s *session) load(create bool) (ok bool, err error) {
	e, ok := s.index.Get(s.key)
	if ok && s.transcript != nil && s.sessionID == e.SessionID {
		return true, nil
	}
	s.unload()
	if !ok {
		if !create {
			return false, nil
		}
		e = store.Entry{SessionID: store.NewID(), UpdatedAt: time.Now().UnixMilli()}
		if err := s.index.Put(s.key, e); err != nil {
			return false, err
		}
	}
	t, err := s.open(e)
	if err != nil {
		return false, err
	}
	records, damage, err := t.Load()
	if err != nil {
		t.Close()
		return false, err
	}
	if damage != nil {
		s.agents.log.Warn("transcript has unreadable lines", "session", s.key, "err", damage)
	}
	s.transcript, s.sessionID = t, e.SessionID
	s.adopt(records)
	return true, nil
}

// open opens the transcript of e, which is to name the agent's workspace.
func (s *session) open(e store.Entry) (*store.Transcript, error) {
	agent, _ := s.agents.config().Agent(s.home)
	e.CWD = s.agents.workspace(agent)
	return s.index.Transcript(e)
}

// adopt makes records, as loaded, the conversation.
func (s *session) adopt(records []store.Record) {
	promoted := map[string]bool{}
	var waiting []queuedMessage
	for _, r := range records {
		switch {
		case r.Type == store.TypeMessage:
			promoted[r.ID] = true
			s.add(r)
		case r.Type == store.TypeCompaction:
			s.from, s.summary = len(s.records), r.Summary
			if i := slices.IndexFunc(s.records, func(k store.Record) bool { return k.ID == r.FirstKept }); i >= 0 {
				s.from = i
			}
		case r.Type == store.TypeCustom && r.CustomType == queuedTurn:
			var q queued
			if json.Unmarshal(r.Data, &q) == nil {
				waiting = append(waiting, q.Messages...)
			}
		}
	}
	for _, w := range waiting {
		if !promoted[w.ID] && w.Message != nil {
			s.promote([]store.Line{messageLine(w.ID, w.Message)})
		}
	}
}

// add puts a message at the end of the conversation in memory.
func (s *session) add(r store.Record) {
	s.records = append(s.records, r)
	s.size += messageSize(r.Message)
}

// messageSize is about how many bytes of memory m takes.
func messageSize(m *store.Message) int {
	n := 256
	for i := range m.Content {
		p := &m.Content[i]
		n += len(p.Text) + len(p.Thinking) + len(p.ThinkingSignature) + len(p.Arguments) + len(p.Data)
	}
	return n
}

// promote puts messages that were stored as a queued turn into the conversation.
func (s *session) promote(lines []store.Line) {
	for _, l := range lines {
		s.add(l)
	}
	s.pending = append(s.pending, lines...)
}

// write stores lines, behind those that are pending. It needs mu.
func (s *session) write(lines ...store.Line) error {
	all := append(slices.Clip(s.pending), lines...)
	if err := s.transcript.Append(all...); err != nil {
		return err
	}
	s.pending = nil
	return nil
}

// say stores messages and puts them into the conversation. It needs mu.
func (s *session) say(lines ...store.Line) error {
	if err := s.write(lines...); err != nil {
		return err
	}
	for _, l := range lines {
		s.add(l)
	}
	return nil
}

func (s *session) unload() {
	if s.transcript != nil {
		s.transcript.Close()
	}
	s.transcript, s.sessionID, s.records, s.pending = nil, "", nil, nil
	s.from, s.summary, s.size, s.keep = 0, "", 0, false
}

func (s *session) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.unload()
}

// idleLocked notes what release is to know. It needs mu.
func (s *session) idleLocked() {
	s.keep = s.transcript != nil && s.size <= keptHistory
}

// accept stores a turn's messages and gives it to the actor, which is started
// if there is none.
func (s *session) accept(t *turn) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	defer s.idleLocked()
	known, err := s.load(false)
	if err == nil && !known && t.After == "" {
		_, err = s.load(true)
	}
	if err != nil {
		return err
	}
	if t.After != "" && (s.running || len(s.records) == 0 || s.records[len(s.records)-1].ID != t.After) {
		return ErrMovedOn
	}
	now := time.Now()
	lines := make([]store.Line, len(t.Messages))
	for i := range t.Messages {
		m := t.Messages[i]
		if m.Timestamp == 0 {
			m.Timestamp = now.UnixMilli()
		}
		lines[i] = messageLine(store.NewRecordID(), &m)
	}
	t.Messages = nil
	if s.running {
		t.waiting = lines
		err = s.write(queuedLine(t))
	} else {
		err = s.say(lines...)
	}
	if err != nil {
		if !known {
			s.index.Delete(s.key, false) // as if nothing had been said
			s.unload()
		}
		return err
	}
	t.run.SessionID = s.sessionID
	t.after, s.last = s.last, t.run
	if s.running {
		t.unqueue = t.settleWhenAborted(s.agents)
		s.queue = append(s.queue, &job{turn: t})
		return nil
	}
	s.running, s.current = true, t
	s.agents.work.Add(1) // the turn is counted, so this is not the first
	go s.loop(t)
	return nil
}

func messageLine(id string, m *store.Message) store.Line {
	return store.Line{ID: id, Type: store.TypeMessage, Time: time.UnixMilli(m.Timestamp), Message: m}
}

func queuedLine(t *turn) store.Line {
	q := queued{RunID: t.run.ID}
	for _, l := range t.waiting {
		q.Messages = append(q.Messages, queuedMessage{l.ID, l.Message})
	}
	return store.Line{Type: store.TypeCustom, CustomType: queuedTurn, Data: mustJSON(q)}
}

// loop is the actor: it runs turns until none waits.
func (s *session) loop(t *turn) {
	defer s.agents.work.Done()
	for t != nil {
		<-t.run.accepted
		if t.after != nil {
			// An actor that is about to end may still be telling how its last
			// turn ended.
			<-t.after.done
		}
		t = s.runTurn(t)
	}
}

// nextLocked takes the next turn from the mailbox, doing what stands before
// it. With nothing left the actor is over. It needs mu.
func (s *session) nextLocked() *turn {
	s.current = nil
	for len(s.queue) > 0 {
		j := s.queue[0]
		s.queue = slices.Delete(s.queue, 0, 1)
		if j.turn != nil {
			s.current = j.turn
			return j.turn
		}
		j.do()
	}
	s.running = false
	s.idleLocked()
	return nil
}

// exclusive calls fn, with mu held, while no turn of the session runs: after
// those that were accepted before and ahead of later ones. With a reason the
// former are aborted. When ctx ends first, fn is not called.
func (s *session) exclusive(ctx context.Context, abort string, fn func() error) error {
	s.mu.Lock()
	if !s.running {
		defer s.mu.Unlock()
		defer s.idleLocked()
		return fn()
	}
	if abort != "" {
		for _, t := range slices.Backward(s.waiting()) { // newest first, as Abort does
			t.run.Abort(abort)
		}
		s.current.run.Abort(abort)
	}
	result := make(chan error, 1)
	j := &job{do: func() {
		defer func() {
			if v := recover(); v != nil {
				result <- s.agents.panicked(v, "session", s.key)
			}
		}()
		result <- fn()
	}}
	s.queue = append(s.queue, j)
	s.mu.Unlock()
	select {
	case err := <-result:
		return err
	case <-ctx.Done():
	}
	s.mu.Lock()
	i := slices.Index(s.queue, j)
	if i >= 0 {
		s.queue = slices.Delete(s.queue, i, i+1)
	}
	s.mu.Unlock()
	if i < 0 { // it was done meanwhile
		return <-result
	}
	return context.Cause(ctx)
}

// waiting are the turns that wait. It needs mu.
func (s *session) waiting() (turns []*turn) {
	for _, j := range s.queue {
		if j.turn != nil {
			turns = append(turns, j.turn)
		}
	}
	return turns
}

// restart begins a new conversation under the session's key. Turns that wait
// move to it. It needs mu, and that no turn runs.
func (s *session) restart(e store.Entry) error {
	old, known := s.index.Get(s.key)
	e.SessionID, e.UpdatedAt = store.NewID(), time.Now().UnixMilli()
	if err := s.index.Put(s.key, e); err != nil {
		return err
	}
	t, err := s.open(e)
	if err == nil {
		var lines []store.Line
		for _, t := range s.waiting() {
			lines = append(lines, queuedLine(t))
		}
		if err = t.Append(lines...); err != nil {
			t.Close()
		}
	}
	if err != nil {
		if known {
			s.index.Put(s.key, old)
		} else {
			s.index.Delete(s.key, false)
		}
		return fmt.Errorf("start a new session: %w", err)
	}
	s.unload()
	s.transcript, s.sessionID = t, e.SessionID
	return nil
}
