package agent

import (
	"context"
	"slices"
	"strings"
	"time"

	"openclaw/gateway/store"
)

// Patch changes a session's settings. A nil field stays, an empty one is unset.
type Patch struct {
	Label           *string
	Model           *string // provider/model
	ThinkingLevel   *string
	VerboseLevel    *string
	ReasoningLevel  *string
	ElevatedLevel   *string
	SendPolicy      *string
	GroupActivation *string
	SpawnedBy       *string
	LastChannel     *string
	LastTo          *string
	LastAccountID   *string
}

// Patch applies p, to a session that need not exist yet, and returns its key
// and entry.
func (a *Agents) Patch(key string, p Patch) (string, store.Entry, error) {
	var entry store.Entry
	to, err := a.at(key, func(s *session) (err error) {
		var provider, model string
		if p.Model != nil && *p.Model != "" {
			if _, err := a.config().Model(*p.Model); err != nil {
				return refuse(ErrUnknownModel, "%v", err)
			}
			provider, model, _ = strings.Cut(*p.Model, "/")
		}
		if p.Label != nil && *p.Label != "" {
			taken := func(e store.Keyed) bool { return e.Label == *p.Label && e.Key != s.key }
			if slices.ContainsFunc(s.index.List(), taken) {
				return refuse(ErrLabelInUse, "label already in use: %s", *p.Label)
			}
		}
		s.mu.Lock() // against accept, which makes the session too
		defer s.mu.Unlock()
		entry, err = s.index.Update(s.key, func(e *store.Entry) {
			if e.SessionID == "" {
				e.SessionID = store.NewID()
			}
			e.UpdatedAt = time.Now().UnixMilli()
			if p.Model != nil {
				e.ProviderOverride, e.ModelOverride = provider, model
			}
			for _, f := range []struct{ from, to *string }{
				{p.Label, &e.Label}, {p.ThinkingLevel, &e.ThinkingLevel}, {p.VerboseLevel, &e.VerboseLevel},
				{p.ReasoningLevel, &e.ReasoningLevel}, {p.ElevatedLevel, &e.ElevatedLevel},
				{p.SendPolicy, &e.SendPolicy}, {p.GroupActivation, &e.GroupActivation}, {p.SpawnedBy, &e.SpawnedBy},
				{p.LastChannel, &e.LastChannel}, {p.LastTo, &e.LastTo}, {p.LastAccountID, &e.LastAccountID},
			} {
				if f.from != nil {
					*f.to = *f.from
				}
			}
		})
		return err
	})
	return to.key, entry, err
}

// Reset aborts the session's runs and begins a new conversation under its key
// with the same settings. The old transcript stays.
func (a *Agents) Reset(ctx context.Context, key string) (string, store.Entry, error) {
	return a.reset(ctx, key, "the session was reset")
}

func (a *Agents) reset(ctx context.Context, key, reason string) (string, store.Entry, error) {
	var entry store.Entry
	to, err := a.at(key, func(s *session) error {
		return s.exclusive(ctx, reason, func() error {
			e, _ := s.index.Get(s.key)
			e.SystemSent, e.AbortedLastRun = false, false
			e.InputTokens, e.OutputTokens, e.TotalTokens = 0, 0, 0
			err := s.restart(e)
			entry, _ = s.index.Get(s.key)
			return err
		})
	})
	return to.key, entry, err
}

// Delete aborts the session's runs and forgets it. Its transcript is renamed
// out of the way if archive is set; archived is where to. A main session is
// refused with ErrMainSession.
func (a *Agents) Delete(ctx context.Context, key string, archive bool) (canonical string, deleted bool, archived []string, err error) {
	to, err := a.at(key, func(s *session) error {
		if isMain(a.config(), s.place) {
			return refuse(ErrMainSession, "Cannot delete the main session (%s).", s.key)
		}
		return s.exclusive(ctx, "the session was deleted", func() (err error) {
			if _, deleted = s.index.Get(s.key); !deleted {
				return nil
			}
			s.unload()
			if archived, err = s.index.Delete(s.key, archive); err != nil || len(s.waiting()) == 0 {
				return err
			}
			return s.restart(store.Entry{})
		})
	})
	return to.key, deleted, archived, err
}

// Compaction tells what Compact did.
type Compaction struct {
	Key       string
	Compacted bool
	Reason    string // why not
	Kept      int    // messages that models are still shown
}

// Compact takes all but about the newest maxLines messages out of what models
// are shown, at the beginning of a turn. Nothing is deleted.
func (a *Agents) Compact(ctx context.Context, key string, maxLines int) (c Compaction, err error) {
	to, err := a.at(key, func(s *session) error {
		return s.exclusive(ctx, "", func() error { return s.compact(&c, maxLines) })
	})
	c.Key = to.key
	return c, err
}

func (s *session) compact(c *Compaction, maxLines int) error {
	if ok, err := s.load(false); err != nil || !ok {
		c.Reason = "no session"
		return err
	}
	at := len(s.records) - max(maxLines, 1)
	for at > s.from && at < len(s.records) && s.records[at].Message.Role != store.RoleUser {
		at++
	}
	c.Kept = len(s.records) - s.from
	if at <= s.from || at == len(s.records) || s.records[at].ID == "" {
		c.Reason = "nothing to leave out"
		return nil
	}
	before := 0
	for _, r := range s.records[s.from:] {
		before += messageCost(r.Message)
	}
	line := store.Line{Type: store.TypeCompaction, FirstKept: s.records[at].ID, TokensBefore: int64(before)}
	if err := s.write(line); err != nil {
		return err
	}
	s.from, s.summary = at, ""
	c.Compacted, c.Kept = true, len(s.records)-at
	return nil
}

// Inject adds an assistant's message that no model said to an existing
// session, also while a turn runs, and returns its id and itself.
func (a *Agents) Inject(key, text, label string) (id string, m *store.Message, err error) {
	if text = strings.TrimSpace(text); text == "" {
		return "", nil, ErrEmpty
	}
	if label != "" {
		text = "[" + label + "]\n\n" + text
	}
	res := Result{StopReason: stopEnd}
	id, m = store.NewRecordID(), res.message(injected(text))
	_, err = a.at(key, func(s *session) error {
		s.mu.Lock()
		defer s.mu.Unlock()
		if ok, err := s.load(false); err != nil {
			return err
		} else if !ok {
			return unknownSession(key)
		}
		if err := s.say(messageLine(id, m)); err != nil {
			return err
		}
		_, err := s.index.Update(s.key, func(e *store.Entry) { e.UpdatedAt = m.Timestamp })
		return err
	})
	if err != nil {
		return "", nil, err
	}
	return id, m, nil
}

// injected is what the gateway itself says, in the words of existing clients.
func injected(text string) *modelResult {
	return &modelResult{Content: store.Text(text), Provider: "openclaw", Model: "gateway-injected"}
}
