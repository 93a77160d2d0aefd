package channel

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"openclaw/reload/config"
)

const (
	firstBackoff = time.Second
	lastBackoff  = 5 * time.Minute
	typingEvery  = 4 * time.Second // what is shown lasts five
	sendTime     = 2 * time.Minute
)

// The states of an account.
const (
	StateConnecting = "connecting"
	StateOpen       = "open"
	StateWaiting    = "waiting" // until it tries again
	StateNotLinked  = "not-linked"
	StateFailed     = "failed" // an operator has to do something
	StateStopped    = "stopped"
)

// Status is how an account fares.
type Status struct {
	Channel, Account string
	Kind             string
	State            string
	Self             string // who we are there
	Terminal         bool   // it will not come back by itself
	Code             int    // the network's word for why the connection ended; 0 = none
	LastSuccess      time.Time
	LastError        string // empty while all is well
	LastErrorAt      time.Time
	LastInbound      time.Time
	LastSent         time.Time
	Failures         int // in a row
	Waiting          int // inbound messages without their reply
	Queued           int
	Uncertain        []Uncertain
	QR               string `json:"-"` // to be shown, never logged
}

// A Handler takes a message that was let in: when it returns, the message is
// kept, and reply waits for the answer, of which "" is none. An error of either
// that is a *Fault with Wait means to ask again.
type Handler func(ctx context.Context, a *Account, m Inbound) (reply func(context.Context) (string, error), err error)

// Account is one account of a channel, connected and brought back when it fails.
type Account struct {
	conf    config.ChannelAccount
	log     *slog.Logger
	channel Channel
	pairing *pairing
	journal *journal
	handle  Handler

	wake chan struct{} // something is to be sent
	news chan struct{} // something came
	redo chan struct{} // an operator has it tried again, now

	mu      sync.Mutex
	status  Status
	last    string // the state that was logged last
	pauses  map[string]time.Time
	handed  map[string]bool      // inbound messages that are under way
	chats   map[string][]Inbound // what is to be handed on, by chat; with a goroutine each
	runDone chan struct{}
	stop    context.CancelFunc // of receiving
}

func (a *Account) name() string { return a.conf.Channel + ":" + a.conf.Account }

// Channel and ID name the account; Config is what it was made from.
func (a *Account) Channel() string { return a.conf.Channel }

// ID is the account's id within the channel.
func (a *Account) ID() string { return a.conf.Account }

// Config is what the account was made from.
func (a *Account) Config() config.ChannelAccount { return a.conf }

// Status is how the account fares now.
func (a *Account) Status() Status {
	a.mu.Lock()
	s := a.status
	a.mu.Unlock()
	s.Channel, s.Account, s.Kind = a.conf.Channel, a.conf.Account, a.conf.Kind
	a.journal.mu.Lock()
	s.Waiting, s.Queued, s.Uncertain = len(a.journal.waiting), len(a.journal.queue), slices.Clone(a.journal.uncertain)
	a.journal.mu.Unlock()
	return s
}

// run keeps the account connected until receive ends, and sends and hands on
// until ctx does.
func (a *Account) run(ctx, receive context.Context) {
	var work sync.WaitGroup
	work.Go(func() { a.hand(ctx) })
	work.Go(func() { a.pump(ctx) })
	a.supervise(receive)
	<-ctx.Done()
	work.Wait()
	a.State(StateStopped, "")
}

// supervise runs the channel again and again. Only a failure that is final
// ends that, until the configuration changes or an operator has it tried again.
func (a *Account) supervise(ctx context.Context) {
	defer close(a.runDone)
	for ctx.Err() == nil {
		before := a.Status().LastSuccess
		err := a.contained(func() error { return a.channel.Run(ctx, a) })
		if ctx.Err() != nil {
			break
		}
		if err == nil {
			err = fmt.Errorf("the connection ended")
		}
		f, _ := faultOf(err)
		if f == nil {
			f = &Fault{Err: err}
		}
		wait := a.failed(f, a.Status().LastSuccess != before)
		again := time.After(max(wait, f.Wait))
		if f.Final {
			again = nil
		}
		select {
		case <-again:
		case <-a.redo:
		case <-ctx.Done():
		}
	}
}

// contained makes an error of a panic: one account's bug is not another's end.
func (a *Account) contained(fn func() error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			a.log.Error("panic contained", "channel", a.name(), "err", v, "stack", string(debug.Stack()))
			err = fmt.Errorf("internal error: %v", v)
		}
	}()
	return fn()
}

// failed notes why the connection is down and returns how long to wait.
func (a *Account) failed(f *Fault, was bool) time.Duration {
	a.mu.Lock()
	defer a.mu.Unlock()
	s := &a.status
	if was {
		s.Failures = 0
	}
	wait := min(firstBackoff<<min(s.Failures, 20), lastBackoff)
	s.Failures++
	s.LastError, s.LastErrorAt, s.Terminal = f.Error(), time.Now(), f.Final
	s.State = StateWaiting
	if f.Code != "" {
		s.State = StateNotLinked
	} else if f.Final {
		s.State = StateFailed
	}
	a.changedLocked("channel down", "err", f.Error())
	return wait/2 + rand.N(wait/2+1)
}

// changedLocked writes one line when the state is another one than the last
// that was told: a network that is dead for hours is told of once.
func (a *Account) changedLocked(msg string, args ...any) {
	key := a.status.State
	if key == a.last || key == StateConnecting {
		return
	}
	a.last = key
	level := slog.LevelInfo
	if key != StateOpen {
		level = slog.LevelWarn
	}
	a.log.Log(context.Background(), level, msg, append([]any{"channel", a.name()}, args...)...)
}

// Alive notes that the network has just answered, as self.
func (a *Account) Alive(self string) {
	a.mu.Lock()
	was := a.status.State
	s := &a.status
	s.State, s.Terminal, s.LastSuccess, s.LastError, s.Failures, s.QR, s.Code = StateOpen, false, time.Now(), "", 0, "", 0
	if self != "" {
		s.Self = self
	}
	a.changedLocked("channel up", "peer", s.Self)
	a.mu.Unlock()
	if was != StateOpen {
		poke(a.wake)
	}
}

// State notes a state that is neither open nor a failure, with a code to scan
// where there is one.
func (a *Account) State(state, qr string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.status.State, a.status.QR, a.status.Terminal = state, qr, false
	a.changedLocked("channel " + state)
}

// rest notes that the network waits for an operator, and so does the
// connection's keeper: with terminal set nothing goes on without one.
func (a *Account) rest(state, why string, code int, terminal bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	s := &a.status
	s.State, s.QR, s.Terminal, s.Code = state, "", terminal, code
	if state == StateNotLinked {
		s.Self = ""
	}
	if why != "" {
		s.LastError, s.LastErrorAt = why, time.Now()
	}
	a.changedLocked("channel "+state, "err", why)
}

// down notes that the network is away while the connection's keeper is not.
func (a *Account) down(state, why string, code int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.status.State, a.status.Terminal, a.status.QR = StateConnecting, false, ""
	if state != StateConnecting {
		a.status.State, a.status.LastError, a.status.LastErrorAt, a.status.Code = StateWaiting, why, time.Now(), code
		a.changedLocked("channel down", "err", why)
	}
}

// Offset is how far the network was read.
func (a *Account) Offset() int64 {
	a.journal.mu.Lock()
	defer a.journal.mu.Unlock()
	return a.journal.offset
}

// Receive judges messages and keeps those that are let in; when it returns they
// are durable, with offset, and the network may forget them. It waits while too
// many have no reply yet.
func (a *Account) Receive(ctx context.Context, offset int64, list ...Inbound) error {
	for {
		if n, _, _ := a.journal.counts(); n < maxWaiting || len(list) == 0 {
			break
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(50 * time.Millisecond):
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
	if err := a.journal.write(entries...); err != nil {
		return fmt.Errorf("keep inbound messages: %w", err)
	}
	if len(fresh) > 0 {
		a.mu.Lock()
		a.status.LastInbound = time.Now()
		a.mu.Unlock()
		poke(a.news)
	}
	poke(a.wake)
	return nil
}

// hand gives what waits to the handler, each chat's in order, until ctx ends.
// What has no reply then waits for the next start.
func (a *Account) hand(ctx context.Context) {
	var work sync.WaitGroup
	defer work.Wait()
	for {
		a.journal.mu.Lock()
		list := slices.Clone(a.journal.waiting)
		a.journal.mu.Unlock()
		a.mu.Lock()
		for _, m := range list {
			if a.handed[m.ID] {
				continue
			}
			a.handed[m.ID] = true
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
				answer()
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
			m := line[0]
			if reply := a.begin(ctx, m); reply != nil {
				replies <- func() { a.answer(ctx, m, reply) }
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
func (a *Account) answer(ctx context.Context, m Inbound, reply func(context.Context) (string, error)) {
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
	text, err := reply(ctx)
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
		replyTo := ""
		if m.Group {
			replyTo = m.Message
		}
		done.Out = a.pieces(Outbound{ID: "re-" + m.ID, To: m.Chat, Thread: m.Thread, Text: text, ReplyTo: replyTo})
	}
	for wait := time.Second; ; wait = min(2*wait, time.Minute) {
		if err := a.journal.write(done); err == nil {
			break
		} else if ctx.Err() != nil {
			return
		} else {
			a.log.Error("reply not queued", "channel", a.name(), "err", err)
		}
		select {
		case <-time.After(wait): // the disk may have room again
		case <-ctx.Done():
		}
	}
	a.mu.Lock()
	delete(a.handed, m.ID)
	a.mu.Unlock()
	poke(a.wake)
}

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

// poke wakes who waits on c, now or when it next looks.
func poke(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
