package agent

import (
	"errors"
	"slices"
	"strings"
	"time"

	"openclaw/gateway/store"
)

// ErrMovedOn is what Start refuses a turn with whose place in the conversation
// is no longer its end: something else was said there since.
var ErrMovedOn = errors.New("the conversation has moved on")

const (
	// A session that a named answer alone belongs to is forgotten, with its
	// transcript, when it was not used for answersFor, or is not among the
	// answersKept of its agent that were used last.
	answersFor  = 30 * 24 * time.Hour
	answersKept = 500
	sweepAfter  = 64 // such sessions begun since the last look
	sweepEvery  = time.Hour

	answerKeys = ":openresponses:" // between agent:ID and what is random
)

// An Answer is a place in a conversation that a turn can go on from.
type Answer struct {
	Key    string         // of the session
	Record string         // id of the answer
	Until  []store.Record // the conversation, to the answer
	System string         // what was noted with the answer
}

// Answer returns an answer by the session that it was given in and the name that
// its turn gave it. Only who asked for it finds it.
func (a *Agents) Answer(sessionID, id, by string) (Answer, bool) {
	key, err := a.Resolve("", sessionID, "", "")
	if err != nil || id == "" {
		return Answer{}, false
	}
	h, err := a.History(key, 1<<30, 0)
	if err != nil || h.SessionID != sessionID {
		return Answer{}, false
	}
	i := slices.IndexFunc(h.Messages, func(r store.Record) bool {
		n := r.Message.Answer
		return n != nil && n.ID == id && n.By == by
	})
	if i < 0 {
		return Answer{}, false
	}
	return Answer{h.Key, h.Messages[i].ID, h.Messages[:i+1], h.Messages[i].Message.Answer.System}, true
}

// Said tells whether a message with this source is in the session's conversation,
// and the answer that was named after it, if there is one.
func (a *Agents) Said(key, source string) (said bool, answer *store.Message, err error) {
	h, err := a.History(key, 1<<30, 0)
	if err != nil {
		return false, nil, err
	}
	for _, r := range h.Messages {
		said = said || r.Message.Source == source
		if n := r.Message.Answer; n != nil && n.ID == source {
			return true, r.Message, nil
		}
	}
	return said, nil, nil
}

// Fork is the conversation to the answer, for a turn that goes another way
// from there. Its tokens were counted where it was held.
func (w Answer) Fork() []store.Message {
	var out []store.Message
	for _, r := range w.Until {
		m := *r.Message
		switch m.Role {
		case store.RoleUser, store.RoleAssistant, store.RoleToolResult:
			m.Usage, m.Answer = nil, nil
			out = append(out, m)
		}
	}
	return out
}

// ownSession gives a turn whose answer is named, and that has no session, one
// of its own, and makes room for it.
func (a *Agents) ownSession(t *Turn, agentID string) error {
	index, err := a.dir.Sessions(agentID)
	if err != nil {
		return err
	}
	a.sweep(agentID, index)
	t.SessionKey = "agent:" + agentID + answerKeys + store.NewID()
	return nil
}

// sweep forgets the sessions of answers that are old or too many.
func (a *Agents) sweep(agentID string, index *store.Sessions) {
	a.mu.Lock()
	last := a.swept[agentID]
	due := last.begun >= sweepAfter || time.Since(last.at) > sweepEvery
	if last.begun++; due {
		last = sweepState{at: time.Now()}
	}
	a.swept[agentID] = last
	a.mu.Unlock()
	if !due {
		return
	}
	kept := 0
	for _, e := range index.List() { // last used first
		if !strings.HasPrefix(e.Key, "agent:"+agentID+answerKeys) {
			continue
		}
		if kept++; kept <= answersKept && time.Since(time.UnixMilli(e.UpdatedAt)) < answersFor {
			continue
		}
		_, err := a.at(e.Key, func(s *session) error {
			s.mu.Lock()
			defer s.mu.Unlock()
			if s.running {
				return nil
			}
			s.unload()
			return index.Erase(s.key)
		})
		if err != nil {
			a.log.Warn("an old answer was not forgotten", "session", e.Key, "err", err)
		}
	}
}

// sweepState is how long ago an agent's answers were looked over.
type sweepState struct {
	at    time.Time
	begun int // since
}
