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
	cfg := a.config()
	to, err := resolve(cfg, key, "")
	if err != nil {
		return "", store.Entry{}, err
	}
	index, err := a.index(to)
	if err != nil {
		return "", store.Entry{}, err
	}
	var provider, model string
	if p.Model != nil && *p.Model != "" {
		if _, err := cfg.Model(*p.Model); err != nil {
			return "", store.Entry{}, refuse(ErrUnknownModel, "%v", err)
		}
		provider, model, _ = strings.Cut(*p.Model, "/")
	}
	if p.Label != nil && *p.Label != "" {
		taken := slices.ContainsFunc(index.List(), func(e store.Keyed) bool { return e.Label == *p.Label && e.Key != to.key })
		if taken {
			return "", store.Entry{}, refuse(ErrLabelInUse, "label already in use: %s", *p.Label)
		}
	}
	var entry store.Entry
	err = a.use(to.key, to.home, func(s *session) error {
		s.mu.Lock() // against accept, which makes the session too
		defer s.mu.Unlock()
		entry, err = index.Update(to.key, func(e *store.Entry) {
			if e.SessionID == "" {
				e.SessionID = newID()
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
	to, err := resolve(a.config(), key, "")
	if err != nil {
		return "", store.Entry{}, err
	}
	return a.reset(ctx, to, "the session was reset")
}

func (a *Agents) reset(ctx context.Context, to address, reason string) (key string, e store.Entry, err error) {
	if _, err := a.index(to); err != nil {
		return "", e, err
	}
	err = a.exclusively(ctx, to, reason, func(s *session) error {
		old, _ := s.index.Get(s.key)
		agent, _ := a.config().Agent(to.agent)
		e = old
		e.SystemSent, e.AbortedLastRun = false, false
		e.InputTokens, e.OutputTokens, e.TotalTokens = 0, 0, 0
		if err := s.restart(e, a.workspace(agent)); err != nil {
			return err
		}
		e, _ = s.index.Get(s.key)
		return nil
	})
	return to.key, e, err
}

// Delete aborts the session's runs and forgets it. Its transcript is renamed
// out of the way if archive is set; archived is where to. A main session is
// refused with ErrMainSession.
func (a *Agents) Delete(ctx context.Context, key string, archive bool) (canonical string, deleted bool, archived []string, err error) {
	cfg := a.config()
	to, err := resolve(cfg, key, "")
	if err != nil {
		return "", false, nil, err
	}
	if isMain(cfg, to) {
		return "", false, nil, refuse(ErrMainSession, "Cannot delete the main session (%s).", to.key)
	}
	if _, err := a.index(to); err != nil {
		return "", false, nil, err
	}
	err = a.exclusively(ctx, to, "the session was deleted", func(s *session) error {
		if _, deleted = s.index.Get(s.key); !deleted {
			return nil
		}
		s.unload()
		if archived, err = s.index.Delete(s.key, archive); err != nil || len(s.queue) == 0 {
			return err
		}
		agent, _ := cfg.Agent(to.agent)
		return s.restart(store.Entry{}, a.workspace(agent))
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
func (a *Agents) Compact(ctx context.Context, key string, maxLines int) (Compaction, error) {
	to, err := resolve(a.config(), key, "")
	if err != nil {
		return Compaction{}, err
	}
	c := Compaction{Key: to.key}
	if _, err := a.index(to); err != nil {
		return c, err
	}
	err = a.exclusively(ctx, to, "", func(s *session) error {
		if ok, err := s.load(false, ""); err != nil || !ok {
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
	})
	return c, err
}

// Inject adds an assistant's message that no model said to an existing
// session, also while a turn runs, and returns its id and itself.
func (a *Agents) Inject(key, text, label string) (id string, m *store.Message, err error) {
	to, err := resolve(a.config(), key, "")
	if err != nil {
		return "", nil, err
	}
	if text = strings.TrimSpace(text); text == "" {
		return "", nil, ErrEmpty
	}
	if label != "" {
		text = "[" + label + "]\n\n" + text
	}
	if _, err := a.index(to); err != nil {
		return "", nil, err
	}
	m = &store.Message{
		Role: store.RoleAssistant, Content: store.Text(text), Provider: commandProvider, Model: commandModel,
		Usage: &store.Usage{}, StopReason: stopEnd, Timestamp: time.Now().UnixMilli(),
	}
	id = store.NewRecordID()
	err = a.use(to.key, to.home, func(s *session) error {
		s.mu.Lock()
		defer s.mu.Unlock()
		if ok, err := s.load(false, ""); err != nil {
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

// exclusively calls fn for a session while none of its turns runs; see
// session.exclusive.
func (a *Agents) exclusively(ctx context.Context, to address, abort string, fn func(*session) error) error {
	return a.use(to.key, to.home, func(s *session) error {
		ok, err := s.exclusive(ctx.Done(), abort, func() error {
			if s.index == nil {
				index, err := a.dir.Sessions(s.home)
				if err != nil {
					return err
				}
				s.index = index
			}
			return fn(s)
		})
		if !ok {
			return context.Cause(ctx)
		}
		return err
	})
}
