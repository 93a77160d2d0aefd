package channel

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"strings"
	"sync"
	"time"
)

const (
	sendTime   = 2 * time.Minute
	sendGrace  = 2 * time.Second  // for what is under way when the account ends
	diskPause  = 10 * time.Second // while the journal cannot be written
	stuckAfter = 5 * time.Minute  // of tries in vain; then the status tells
	givenUp    = 24 * time.Hour   // of them; then the chat's next has its turn
	maxSends   = 8                // that are under way at a time, one of a chat
)

// pieces makes messages of out: one for each file, then as many as the text takes.
func (a *Account) pieces(out Outbound) []Outbound {
	var list []Outbound
	add := func(text string, files []File) {
		one := out
		one.Text, one.Files = text, files
		if n := len(list); n > 0 {
			one.ID, one.ReplyTo, one.Edit = fmt.Sprintf("%s %d", out.ID, n), "", ""
		}
		list = append(list, one)
	}
	for _, f := range out.Files {
		add("", []File{f})
	}
	if strings.TrimSpace(out.Text) != "" { // no network takes a message of nothing
		for _, text := range Split(out.Text, a.channel.Limit()) {
			add(text, nil)
		}
	}
	return list
}

// outcome is what becomes of a message that went out in pieces.
type outcome struct {
	left int
	err  error // the first
	done func(Sent, error)
}

// Queue keeps a message to be sent and returns; done, if any, is told what
// became of it: of its last piece or, where one failed, of that.
func (a *Account) Queue(out Outbound, done func(Sent, error)) error {
	a.journal.mu.Lock()
	full := a.journal.queue.full(maxQueue)
	a.journal.mu.Unlock()
	if full {
		return ErrFull
	}
	if c, ok := a.channel.(Checker); ok {
		if err := c.Check(out); err != nil {
			return err
		}
	}
	list := a.pieces(out)
	if len(list) == 0 {
		return final("there is nothing to send")
	}
	of := &outcome{left: len(list), done: done}
	a.mu.Lock()
	for _, one := range list { // before any may be on its way
		if done != nil {
			a.told[one.ID] = of
		}
	}
	a.mu.Unlock()
	if err := a.keep(entry{Out: list}); err != nil {
		a.mu.Lock()
		for _, one := range list {
			delete(a.told, one.ID)
		}
		a.mu.Unlock()
		return err
	}
	poke(a.wake)
	return nil
}

// tell lets who waits for a message know.
func (a *Account) tell(id string, sent Sent, err error) {
	a.mu.Lock()
	of := a.told[id]
	delete(a.told, id)
	a.mu.Unlock()
	if of == nil {
		return
	}
	of.left--
	of.err = cmp.Or(of.err, err)
	if of.left == 0 {
		of.done(sent, of.err)
	}
}

// pump sends what is queued, each chat's in order, until ctx ends: a chat whose
// message hangs holds up no other.
func (a *Account) pump(ctx context.Context) {
	var work sync.WaitGroup
	defer work.Wait()
	for ctx.Err() == nil {
		q, wait := a.next()
		if q != nil {
			work.Go(func() {
				a.send(ctx, q)
				a.mu.Lock()
				delete(a.sending, q.out.To)
				a.mu.Unlock()
				poke(a.wake)
			})
			continue
		}
		var again <-chan time.Time
		if wait > 0 {
			again = time.After(wait)
		}
		select {
		case <-a.wake:
		case <-again:
		case <-ctx.Done():
		}
	}
}

// next is what may be sent now, which its chat is then busy with, or how long
// nothing may.
func (a *Account) next() (*queued, time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.status.sends() || len(a.sending) >= maxSends {
		return nil, 0 // who changes that wakes the pump, and each that has been sent
	}
	a.journal.mu.Lock()
	defer a.journal.mu.Unlock()
	var wait time.Duration
	now := time.Now()
	maps.DeleteFunc(a.pauses, func(_ string, until time.Time) bool { return !until.After(now) })
	blocked := map[string]bool{}
	for _, q := range a.journal.queue.list {
		to := q.out.To
		if a.sending[to] || blocked[to] {
			continue
		}
		if left := a.pauses[to].Sub(now); left > 0 {
			blocked[to] = true
			if wait == 0 || left < wait {
				wait = left
			}
			continue
		}
		a.sending[to] = true
		return q, 0
	}
	return nil, wait
}

// send delivers one message and notes what became of it: sent, to be tried
// again, refused for good, given up, or uncertain. What is no longer due is dropped.
func (a *Account) send(ctx context.Context, q *queued) {
	pause := func(d time.Duration) { a.pause(q.out.To, d) }
	if !a.due(&q.out) {
		a.log.Info("reply dropped: its reader is no longer let in", "channel", a.name(), "peer", q.out.To)
		if a.keep(entry{Sent: q.out.ID}) != nil {
			pause(diskPause)
		}
		poke(a.moved)
		return
	}
	if err := a.keep(entry{Sending: q.out.ID}); err != nil {
		pause(diskPause)
		return
	}
	var sent Sent
	limited, cancel := a.limited(ctx)
	defer cancel()
	err := a.contained(func() (err error) {
		if q.out.Edit != "" {
			sent.MessageID = q.out.Edit
			if anew, err := a.edit(limited, q); err != nil || !anew {
				return err
			}
		}
		sent, err = a.channel.Send(limited, q.out)
		return err
	})
	note := entry{Sent: q.out.ID}
	f, understood := faultOf(err)
	switch {
	case err == nil:
		a.mu.Lock()
		a.status.LastSent = time.Now()
		a.mu.Unlock()
	case !understood:
		note = entry{Uncertain: &Uncertain{ID: q.out.ID, To: q.out.To, Why: plain(err.Error(), 300), At: time.Now().UnixMilli()}}
		a.log.Warn("message uncertain: it may have arrived", "channel", a.name(), "peer", q.out.To, "err", err)
	case f.Final:
		a.log.Warn("message refused", "channel", a.name(), "peer", q.out.To, "err", err)
	default:
		now := time.Now()
		note = entry{Again: q.out.ID, At: now.UnixMilli()}
		a.journal.mu.Lock()
		since := time.UnixMilli(cmp.Or(q.failing, note.At))
		q.why = "send: " + plain(err.Error(), 300)
		a.journal.mu.Unlock()
		if now.Sub(since) >= givenUp {
			note = entry{Uncertain: &Uncertain{ID: q.out.ID, To: q.out.To, Why: plain("not sent, given up after a day of tries: "+err.Error(), 300), At: note.At}}
			a.log.Warn("message given up", "channel", a.name(), "peer", q.out.To, "err", err)
			break
		}
		pause(min(max(f.Wait, time.Second), longestWait))
	}
	a.mu.Lock()
	if err != nil && a.status.State == StateOpen { // else it is down for a reason that says more
		a.status.LastError, a.status.LastErrorAt = "send: "+err.Error(), time.Now()
	}
	a.mu.Unlock()
	if a.keep(note) != nil {
		pause(diskPause)
		if note.Again == "" { // it must not go out twice
			a.journal.mu.Lock()
			a.journal.apply(&note)
			a.journal.mu.Unlock()
		}
	}
	poke(a.moved)
	if note.Again == "" {
		a.tell(q.out.ID, sent, err)
	}
}

// limited is the time that a send may take: none while Receive holds back the
// network, whose word may stand behind what waits. When ctx ends, what is under
// way may yet arrive.
func (a *Account) limited(ctx context.Context) (context.Context, context.CancelFunc) {
	limited, cancel := context.WithCancel(context.WithoutCancel(ctx))
	go func() {
		defer cancel()
		for wait, ended := sendTime, ctx.Done(); ; {
			select {
			case <-time.After(wait):
				if ended == nil || !a.full.Load() {
					return
				}
			case <-ended:
				wait, ended = sendGrace, nil
			case <-limited.Done():
				return
			}
		}
	}()
	return limited, cancel
}

// pause keeps a chat's messages back for a while.
func (a *Account) pause(chat string, d time.Duration) {
	a.mu.Lock()
	a.pauses[chat] = time.Now().Add(d)
	a.mu.Unlock()
}

// settle waits until nothing can be sent any more, or ctx ends.
func (a *Account) settle(ctx context.Context) {
	for {
		if s := a.Status(); !s.sends() || s.Queued == 0 {
			return
		}
		select {
		case <-a.moved:
		case <-ctx.Done():
			return
		}
	}
}
