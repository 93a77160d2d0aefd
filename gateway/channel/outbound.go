package channel

import (
	"context"
	"fmt"
	"time"
)

const sendTime = 2 * time.Minute

// pieces makes messages of out: one for each file, then as many as the text takes.
func (a *Account) pieces(out Outbound) []Outbound {
	var list []Outbound
	add := func(text string, files []File) {
		one := out
		one.Text, one.Files = text, files
		if n := len(list); n > 0 {
			one.ID, one.ReplyTo = fmt.Sprintf("%s/%d", out.ID, n), ""
		}
		list = append(list, one)
	}
	for _, f := range out.Files {
		add("", []File{f})
	}
	if out.Text != "" {
		for _, text := range Split(out.Text, a.channel.Limit()) {
			add(text, nil)
		}
	}
	return list
}

// Queue keeps a message to be sent and returns; done, if any, is told what
// became of its last piece.
func (a *Account) Queue(out Outbound, done func(Sent, error)) error {
	if _, n, _ := a.journal.counts(); n >= maxQueue {
		return ErrFull
	}
	list := a.pieces(out)
	if len(list) == 0 {
		return final("there is nothing to send")
	}
	if err := a.journal.write(entry{Out: list}); err != nil {
		return err
	}
	a.journal.mu.Lock()
	for _, q := range a.journal.queue {
		if q.out.ID == list[len(list)-1].ID {
			q.done = done
		}
	}
	a.journal.mu.Unlock()
	poke(a.wake)
	return nil
}

// pump sends what is queued, each chat's in order, until ctx ends.
func (a *Account) pump(ctx context.Context) {
	for ctx.Err() == nil {
		q, wait := a.next()
		if q != nil {
			a.send(ctx, q)
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

// next is what may be sent now, or how long nothing may.
func (a *Account) next() (*queued, time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.status.State != StateOpen {
		return nil, 0 // Alive wakes the pump
	}
	a.journal.mu.Lock()
	defer a.journal.mu.Unlock()
	var wait time.Duration
	now := time.Now()
	blocked := map[string]bool{}
	for _, q := range a.journal.queue {
		to := q.out.To
		if blocked[to] {
			continue
		}
		until := a.pauses[to]
		if left := until.Sub(now); left > 0 {
			blocked[to] = true
			if wait == 0 || left < wait {
				wait = left
			}
			continue
		}
		delete(a.pauses, to)
		return q, 0
	}
	return nil, wait
}

// send delivers one message and notes what became of it: sent, to be tried
// again, refused for good, or uncertain.
func (a *Account) send(ctx context.Context, q *queued) {
	pause := func(d time.Duration) {
		a.mu.Lock()
		a.pauses[q.out.To] = time.Now().Add(d)
		a.mu.Unlock()
	}
	if err := a.journal.write(entry{Sending: q.out.ID}); err != nil {
		a.log.Error("not sent: the journal cannot be written", "channel", a.name(), "err", err)
		pause(10 * time.Second)
		return
	}
	var sent Sent
	limited, cancel := context.WithTimeout(ctx, sendTime)
	err := a.contained(func() (err error) {
		sent, err = a.channel.Send(limited, q.out)
		return err
	})
	cancel()
	note := entry{Sent: q.out.ID}
	f, understood := faultOf(err)
	switch {
	case err == nil:
		a.mu.Lock()
		a.status.LastSent = time.Now()
		a.mu.Unlock()
	case !understood:
		note = entry{Uncertain: &Uncertain{ID: q.out.ID, To: q.out.To, Why: err.Error()}}
		a.log.Warn("message uncertain: it may have arrived", "channel", a.name(), "peer", q.out.To, "err", err)
	case f.Final:
		a.log.Warn("message refused", "channel", a.name(), "peer", q.out.To, "err", err)
	default:
		note = entry{Again: q.out.ID}
		pause(max(f.Wait, time.Second))
	}
	if err != nil {
		a.mu.Lock()
		a.status.LastError, a.status.LastErrorAt = "send: "+err.Error(), time.Now()
		a.mu.Unlock()
	}
	if err := a.journal.write(note); err != nil {
		a.log.Error("the journal cannot be written", "channel", a.name(), "err", err)
		pause(10 * time.Second)
		if note.Sent != "" || note.Uncertain != nil { // it must not go out twice
			a.journal.mu.Lock()
			a.journal.apply(&note)
			a.journal.mu.Unlock()
		}
	}
	if q.done != nil && note.Again == "" {
		q.done(sent, err)
	}
}
