package channel

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	typingEvery = 4 * time.Second // what is shown lasts five
	pairPrefix  = "pair-"         // of the ids of messages that tell a pairing code
	fullAgain   = time.Minute     // before a chat is told once more that too many of its messages wait
	tooMany     = "Too many messages wait for an answer; this one is left out."
)

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
// many have no reply yet, or too many replies are not sent. One chat has room for
// fewer: what it says beyond that is left out, and it is told.
func (a *Account) Receive(ctx context.Context, offset int64, list ...Inbound) error {
	if len(list) > 0 {
		if err := a.await(ctx); err != nil {
			return err
		}
	}
	var entries []entry
	var over []Inbound // whose turn will not come
	fresh, load := map[string]bool{}, a.journal.load()
	for i := range list {
		m := &list[i]
		if fresh[m.ID] || a.journal.known(m.ID) {
			continue
		}
		switch a.judge(m) {
		case admitted:
			fresh[m.ID] = true
			if said, dropped, ok := a.interrupted(m, entries); ok {
				over = append(over, dropped...)
				entries = append(entries, entry{Seen: []string{m.ID}, Out: a.pieces(replyTo(m, said))})
				continue
			}
			if load[m.Chat]++; load[m.Chat] > maxOfChat {
				e := entry{Seen: []string{m.ID}}
				if a.tellFull(m.Chat) {
					out := replyTo(m, tooMany)
					out.ID = "full-" + m.ID
					e.Out = []Outbound{out}
				}
				entries = append(entries, e)
				continue
			}
			entries = append(entries, entry{In: m})
		case asked:
			code, tell, err := a.pairing.ask(a.conf.Account, m)
			if err != nil {
				a.log.Error("pairing request not stored", "channel", a.name(), "err", err)
			} else if tell && code == "" {
				a.log.Warn("pairing request dropped: as many wait for approval as may", "channel", a.name(), "peer", m.From)
			} else if tell {
				a.log.Info("pairing requested", "channel", a.name(), "peer", m.From)
				entries = append(entries, entry{Out: []Outbound{{ID: pairPrefix + m.ID, To: m.Chat, About: about(m), Text: "This bot does not know you. Your id here is " + m.From +
					". Ask its owner to run:\n\nopenclaw pairing approve " + a.conf.Channel + " " + code}}})
			}
		default:
			a.log.Debug("message refused by policy", "channel", a.name(), "peer", m.From)
		}
	}
	if offset > a.Offset() {
		entries = append(entries, entry{Offset: offset})
	}
	for _, m := range over {
		entries = append(entries, entry{Done: m.ID})
	}
	if err := a.keep(entries...); err != nil {
		a.mu.Lock()
		a.fresh = append(over, a.fresh...) // they are not done
		a.mu.Unlock()
		poke(a.news)
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

// tellFull reports whether to tell a chat now that a message is left out, and
// notes that: it is told now and then, and not while it can be told nothing.
func (a *Account) tellFull(chat string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := time.Now()
	maps.DeleteFunc(a.fullTold, func(_ string, at time.Time) bool { return now.Sub(at) >= fullAgain })
	if _, told := a.fullTold[chat]; told || a.journal.unsent(chat) >= maxOfChat {
		return false
	}
	a.fullTold[chat] = now
	a.log.Warn("message left out: too many of its chat wait", "channel", a.name(), "peer", chat)
	return true
}

// interrupted asks whether m is answered before its turn, as /stop is. Then
// nothing of its chat that still waits is handed on: dropped are those that were
// kept, and those that are just coming become ones that were seen.
func (a *Account) interrupted(m *Inbound, coming []entry) (said string, dropped []Inbound, ok bool) {
	if a.interrupt == nil {
		return "", nil, false
	}
	key, n := chatOf(m), 0
	of := func(e *entry) bool { return e.In != nil && chatOf(e.In) == key }
	a.mu.Lock()
	for i := range coming {
		if of(&coming[i]) {
			n++
		}
	}
	for i := range a.fresh {
		if chatOf(&a.fresh[i]) == key {
			n++
		}
	}
	if l := a.chats[key]; l != nil {
		n += len(l.list)
		if l.busy && l.stop == nil {
			n++
		}
	}
	a.mu.Unlock()
	a.contained(func() error {
		said, ok = a.interrupt(a, *m, n)
		return nil
	})
	if !ok {
		return "", nil, false
	}
	for i := range coming {
		if of(&coming[i]) {
			coming[i] = entry{Seen: []string{coming[i].In.ID}}
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if l := a.chats[key]; l != nil {
		dropped, l.list, l.stop = l.list, nil, m
	}
	a.fresh = slices.DeleteFunc(a.fresh, func(w Inbound) bool {
		gone := chatOf(&w) == key
		if gone {
			dropped = append(dropped, w)
		}
		return gone
	})
	return said, dropped, true
}

// line is one chat's messages that are to be handed on.
type line struct {
	list []Inbound
	more chan struct{} // there is another
	busy bool          // the one before these is being handed on
	stop *Inbound      // interrupted that
}

// chatOf is the line that a message stands in.
func chatOf(m *Inbound) string { return m.Chat + "\x00" + m.Thread }

// hand gives what waits to the handler, each chat's in order, until ctx ends.
// What has no reply then waits for the next start.
func (a *Account) hand(ctx context.Context) {
	var work sync.WaitGroup
	defer work.Wait()
	for {
		a.mu.Lock()
		list := a.fresh
		a.fresh = nil
		for i := range list {
			key := chatOf(&list[i])
			l := a.chats[key]
			if l == nil {
				l = &line{more: make(chan struct{}, 1)}
				a.chats[key] = l
				work.Go(func() { a.converse(ctx, key, l) })
			}
			l.list = append(l.list, list[i])
			poke(l.more)
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
// on while those before are being answered; replies are queued in their order.
func (a *Account) converse(ctx context.Context, key string, l *line) {
	var last chan struct{} // closed when all so far are answered; nil = they are
	for ctx.Err() == nil {
		a.mu.Lock()
		list := l.list
		switch {
		case len(list) > 0:
			l.list, l.busy, l.stop = list[1:], true, nil
		case last == nil:
			delete(a.chats, key)
			a.mu.Unlock()
			return
		}
		a.mu.Unlock()
		if len(list) == 0 {
			select {
			case <-l.more:
			case <-last:
				last = nil
			}
			continue
		}
		m, d := list[0], new(draft)
		if a.previews() {
			m.Progress = d.set
		}
		reply := a.begin(ctx, m, l)
		a.mu.Lock()
		l.busy = false
		a.mu.Unlock()
		if reply != nil {
			before, done := last, make(chan struct{})
			last = done
			go func() {
				defer close(done)
				if before != nil {
					<-before
				}
				a.contained(func() error { a.answer(ctx, m, d, reply); return nil }) // or it waits for the next start
			}()
		}
	}
	if last != nil {
		<-last
	}
}

// stopped is what interrupted the one that is being handed on.
func (a *Account) stopped(l *line) *Inbound {
	a.mu.Lock()
	defer a.mu.Unlock()
	return l.stop
}

// begin hands one message on, again while the handler has no room for it. One
// whose sender is let in no longer is dropped.
func (a *Account) begin(ctx context.Context, m Inbound, l *line) (reply func(context.Context) (string, error)) {
	for wait := 50 * time.Millisecond; ctx.Err() == nil; wait = min(2*wait, 5*time.Second) {
		if a.judge(&m) != admitted {
			a.log.Info("message dropped: its sender is no longer let in", "channel", a.name(), "peer", m.From)
			a.keep(entry{Done: m.ID}) // else it is judged again at the next start
			return nil
		}
		if a.stopped(l) != nil {
			return func(context.Context) (string, error) { return "", nil }
		}
		err := a.contained(func() (err error) {
			reply, err = a.handle(ctx, a, m)
			return err
		})
		if err == nil {
			if stop := a.stopped(l); stop != nil {
				a.contained(func() error { a.interrupt(a, *stop, 0); return nil }) // which came before there was anything to stop
			}
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
		a.react(typing, m)
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
	switch {
	case err != nil && text == "":
		text = "Sorry, that did not work: " + err.Error()
	case err != nil:
		text += "\n\n[the answer broke off: " + err.Error() + "]"
	}
	done := entry{Done: m.ID}
	if text != "" {
		out := replyTo(&m, text)
		out.Edit = a.journal.preview(m.ID)
		done.Out = a.pieces(out)
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

// replyTo is a text as the reply to a message.
func replyTo(m *Inbound, text string) Outbound {
	return Outbound{ID: "re-" + m.ID, To: m.Chat, Thread: m.Thread, Text: text, ReplyTo: answered(*m), About: about(m)}
}

// about is as much of a message as tells whether it is let in.
func about(m *Inbound) *Inbound {
	return &Inbound{ID: m.ID, From: m.From, Chat: m.Chat, Group: m.Group, Thread: m.Thread, Mentioned: m.Mentioned}
}

// due reports whether a message may still go out: what answers somebody does
// while they are let in, or told a code.
func (a *Account) due(out *Outbound) bool {
	if out.About == nil {
		return true
	}
	v := a.judge(out.About)
	return v == admitted || v == asked && strings.HasPrefix(out.ID, pairPrefix)
}
