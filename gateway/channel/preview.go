package channel

import (
	"context"
	"sync"
	"time"
)

const (
	previewAfter = 1500 * time.Millisecond // before that an answer comes as one message
	previewEvery = time.Second             // between two edits
	previewTime  = 10 * time.Second        // that the answer may have to wait for one
)

// draft is an answer that grows.
type draft struct {
	mu   sync.Mutex
	text string
}

func (d *draft) set(text string) {
	d.mu.Lock()
	d.text = text
	d.mu.Unlock()
}

func (d *draft) get() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.text
}

// previews reports whether answers are shown while they grow.
func (a *Account) previews() bool {
	_, ok := a.channel.(Editor)
	return ok && a.conf.Previews()
}

// preview shows what there is of an answer to m, in a message that the answer
// will then take the place of. It ends when the answer is there, after the call
// that is under way, or at the first failure: the answer does not hang on it.
func (a *Account) preview(ctx context.Context, whole <-chan struct{}, m Inbound, d *draft) {
	message, shown := a.journal.preview(m.ID), ""
	for wait := previewAfter; ; wait = previewEvery {
		select {
		case <-time.After(wait):
		case <-whole:
			return
		}
		text := ""
		if list := a.pieces(Outbound{Text: d.get()}); len(list) > 0 {
			text = list[0].Text
		}
		if text == "" || text == shown || a.Status().State != StateOpen || !a.quiet(m.Chat) || a.judge(&m) != admitted {
			continue
		}
		err := a.contained(func() (err error) {
			limited, cancel := context.WithTimeout(ctx, previewTime)
			defer cancel()
			if message != "" {
				return a.channel.(Editor).Edit(limited, m.Chat, message, text)
			}
			sent, err := a.channel.Send(limited, Outbound{To: m.Chat, Thread: m.Thread, Text: text, ReplyTo: answered(m)})
			if err == nil {
				message = sent.MessageID
				err = a.keep(entry{Preview: &preview{In: m.ID, Message: message}})
			}
			return err
		})
		if err != nil {
			if f, ok := faultOf(err); ok && f.Wait > 0 {
				a.pause(m.Chat, f.Wait)
			}
			a.log.Debug("preview ended", "channel", a.name(), "peer", m.Chat, "err", err)
			return
		}
		shown = text
	}
}

// quiet reports whether a chat may be written to now, and nothing waits to be
// sent there, which a preview would overtake.
func (a *Account) quiet(chat string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.journal.unsent(chat) == 0 && !a.pauses[chat].After(time.Now())
}

// answered is the message that an answer refers to.
func answered(m Inbound) string {
	if m.Group {
		return m.Message
	}
	return ""
}

// react answers a message that was let in by the emoji that is configured, if one is.
func (a *Account) react(ctx context.Context, m Inbound) {
	emoji := a.conf.Messages.Reaction(m.Group, m.Mentioned)
	if r, ok := a.channel.(Reactor); ok && emoji != "" && m.Message != "" && !m.Again {
		a.contained(func() error { r.React(ctx, m, emoji); return nil })
	}
}

// edit has a queued message take the place of its preview, and reports whether
// it must be sent anew instead, because that message cannot be changed.
func (a *Account) edit(ctx context.Context, q *queued) (anew bool, err error) {
	e, ok := a.channel.(Editor)
	if ok {
		err = e.Edit(ctx, q.out.To, q.out.Edit, q.out.Text)
	}
	if f, is := faultOf(err); ok && (!is || !f.Final) {
		return false, err
	}
	if err = a.keep(entry{Anew: q.out.ID}, entry{Sending: q.out.ID}); err != nil {
		return false, &Fault{Err: err, Wait: 10 * time.Second}
	}
	return true, nil
}
