package channel

import (
	"context"
	"fmt"
	"sync"
	"time"
)

const typingEvery = 4 * time.Second // what is shown lasts five

// Offset is how far the network was read.
func (a *Account) Offset() int64 {
	a.journal.mu.Lock()
	defer a.journal.mu.Unlock()
	return a.journal.offset
}

// reread notes that the network counts anew, from offset, which may be lower.
func (a *Account) reread(offset int64) error { return a.keep(entry{Offset: offset}) }

// Receive judges messages and keeps those that are let in; when it returns they
// are durable, with offset, and the network may forget them. It waits while too
// many have no reply yet, or too many replies are not sent.
func (a *Account) Receive(ctx context.Context, offset int64, list ...Inbound) error {
	if len(list) > 0 {
		if err := a.await(ctx); err != nil {
			return err
		}
	}
	var entries []entry
	fresh := map[string]bool{}
	for i := range list {
		m := &list[i]
		if fresh[m.ID] || a.journal.known(m.ID) {
			continue
		}
		switch judge(&a.conf, m, func(id string) bool { return a.pairing.allowed(a.conf.Account, id) }) {
		case admitted:
			fresh[m.ID] = true
			entries = append(entries, entry{In: m})
		case asked:
			code, tell, err := a.pairing.ask(a.conf.Account, m)
			if err != nil {
				a.log.Error("pairing request not stored", "channel", a.name(), "err", err)
			} else if tell && code == "" {
				a.log.Warn("pairing request dropped: as many wait for approval as may", "channel", a.name(), "peer", m.From)
			} else if tell {
				a.log.Info("pairing requested", "channel", a.name(), "peer", m.From)
				entries = append(entries, entry{Out: []Outbound{{ID: "pair-" + m.ID, To: m.Chat, Text: "This bot does not know you. Your id here is " + m.From +
					". Ask its owner to run:\n\nopenclaw pairing approve " + a.conf.Channel + " " + code}}})
			}
		default:
			a.log.Debug("message refused by policy", "channel", a.name(), "peer", m.From)
		}
	}
	if offset > a.Offset() {
		entries = append(entries, entry{Offset: offset})
	}
	if err := a.keep(entries...); err != nil {
		return fmt.Errorf("keep inbound messages: %w", err)
	}
	if len(fresh) > 0 {
		a.mu.Lock()
		a.status.LastInbound = time.Now()
		for _, e := range entries {
			if e.In != nil {
				a.fresh = append(a.fresh, *e.In)
			}
		}
		a.mu.Unlock()
		poke(a.news)
	}
	poke(a.wake)
	return nil
}

// await waits until more may be let in.
func (a *Account) await(ctx context.Context) error {
	defer a.full.Store(false)
	for {
		if answered, sent := a.journal.room(); answered && sent {
			return nil
		}
		a.full.Store(true)
		select {
		case <-a.journal.less:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// hand gives what waits to the handler, each chat's in order, until ctx ends.
// What has no reply then waits for the next start.
func (a *Account) hand(ctx context.Context) {
	var work sync.WaitGroup
	defer work.Wait()
	for {
		a.mu.Lock()
		list := a.fresh
		a.fresh = nil
		for _, m := range list {
			key := m.Chat + "\x00" + m.Thread
			line, busy := a.chats[key]
			a.chats[key] = append(line, m)
			if !busy {
				work.Go(func() { a.converse(ctx, key) })
			}
		}
		a.mu.Unlock()
		select {
		case <-a.news:
		case <-ctx.Done():
			return
		}
	}
}

// converse hands on one chat's messages until none is left. The next is handed
// on while the one before is being answered; replies are queued in their order.
func (a *Account) converse(ctx context.Context, key string) {
	for ctx.Err() == nil {
		replies := make(chan func(), 4)
		var work sync.WaitGroup
		work.Go(func() {
			for answer := range replies {
				a.contained(func() error { answer(); return nil }) // or it waits for the next start
			}
		})
		for ctx.Err() == nil {
			a.mu.Lock()
			line := a.chats[key]
			if len(line) > 0 {
				a.chats[key] = line[1:]
			}
			a.mu.Unlock()
			if len(line) == 0 {
				break
			}
			m, d := line[0], new(draft)
			if a.previews() {
				m.Progress = d.set
			}
			if reply := a.begin(ctx, m); reply != nil {
				replies <- func() { a.answer(ctx, m, d, reply) }
			}
		}
		close(replies)
		work.Wait()
		a.mu.Lock()
		over := len(a.chats[key]) == 0
		if over {
			delete(a.chats, key)
		}
		a.mu.Unlock()
		if over {
			return
		}
	}
}

// begin hands one message on, again while the handler has no room for it.
func (a *Account) begin(ctx context.Context, m Inbound) (reply func(context.Context) (string, error)) {
	for wait := 50 * time.Millisecond; ctx.Err() == nil; wait = min(2*wait, 5*time.Second) {
		err := a.contained(func() (err error) {
			reply, err = a.handle(ctx, a, m)
			return err
		})
		if err == nil {
			return reply
		}
		if f, ok := faultOf(err); !ok || f.Final {
			a.log.Warn("message not taken", "channel", a.name(), "err", err)
			return func(context.Context) (string, error) { return "", err }
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
		}
	}
	return nil
}

// answer waits for a reply and queues it together with the note that there is one.
func (a *Account) answer(ctx context.Context, m Inbound, d *draft, reply func(context.Context) (string, error)) {
	typing, stop := context.WithCancel(ctx)
	var shown sync.WaitGroup
	shown.Go(func() {
		for typing.Err() == nil {
			a.contained(func() error { a.channel.Typing(typing, m); return nil })
			select {
			case <-time.After(typingEvery):
			case <-typing.Done():
			}
		}
	})
	if m.Progress != nil {
		shown.Go(func() { a.preview(ctx, typing.Done(), m, d) })
	}
	var text string
	err := a.contained(func() (err error) {
		text, err = reply(ctx)
		return err
	})
	stop()
	shown.Wait()
	if f, ok := faultOf(err); ok && !f.Final || ctx.Err() != nil && err != nil {
		return // it waits for the next start
	}
	if err != nil && text == "" {
		text = "Sorry, that did not work: " + err.Error()
	}
	done := entry{Done: m.ID}
	if text != "" {
		done.Out = a.pieces(Outbound{ID: "re-" + m.ID, To: m.Chat, Thread: m.Thread, Text: text, ReplyTo: answered(m), Edit: a.journal.preview(m.ID)})
	}
	for wait := time.Second; a.keep(done) != nil; wait = min(2*wait, time.Minute) {
		select {
		case <-time.After(wait): // the disk may have room again
		case <-ctx.Done():
			return
		}
	}
	poke(a.wake)
}
