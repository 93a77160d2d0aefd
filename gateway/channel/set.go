package channel

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"openclaw/gateway/channel/whatsapp"
	"openclaw/gateway/store"
	"openclaw/reload/config"
)

// Options is what a Set needs from its surroundings.
type Options struct {
	Dir       *store.Dir
	Log       *slog.Logger
	Handle    Handler
	Interrupt Interrupter                                                       // nil = nothing interrupts
	Changed   func()                                                            // an account has another state; it must not wait. nil = nobody cares
	Dial      func(ctx context.Context, network, addr string) (net.Conn, error) // nil is the network

	WhatsApp     *whatsapp.Kit // of tests; nil is the binary's own
	WhatsAppTest string        // of tests: a loopback ws:// address in place of WhatsApp's; "" = none
}

// Set is all accounts of a configuration. Its methods may be called from any goroutine.
type Set struct {
	o    Options
	work sync.WaitGroup

	applying sync.Mutex // held while the one Apply is under way, also what it left to be done

	mu       sync.Mutex // never held while something ends or is read
	accounts []*running
	pairings map[string]*pairing
	closed   bool
}

type running struct {
	*Account
	conf config.ChannelAccount
	err  error // why it could not be made
	end  context.CancelFunc
}

const endTime = time.Second // that a change waits for an account to end

// New returns a Set without accounts.
func New(o Options) *Set { return &Set{o: o, pairings: map[string]*pairing{}} }

// Apply makes the accounts of list the running ones. Those that are as they were
// are left alone; one that changed ends first and begins again. One that could
// not be made is made anew. While one takes its time to end, the rest of that is
// done when Apply has returned, and before the next one begins.
func (s *Set) Apply(list []config.ChannelAccount) {
	s.applying.Lock()
	old := map[int]*running{} // by their place in list
	var over []*running
	for _, r := range s.all() {
		if i := slices.IndexFunc(list, func(c config.ChannelAccount) bool { return reflect.DeepEqual(c, r.conf) }); i >= 0 && r.err == nil {
			old[i] = r
		} else {
			over = append(over, r)
			r.end()
		}
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for _, r := range over {
			if r.Account != nil {
				<-r.gone
			}
		}
	}()
	rest := func() {
		defer s.applying.Unlock()
		<-ended
		s.begin(list, old)
	}
	select {
	case <-ended:
		rest()
	case <-time.After(endTime):
		go rest()
	}
}

// begin makes the accounts of list that old, by their place, has not.
func (s *Set) begin(list []config.ChannelAccount, old map[int]*running) {
	next := make([]*running, len(list))
	for i := range list {
		if next[i] = old[i]; next[i] == nil {
			next[i] = s.open(list[i])
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, r := range next {
		switch {
		case old[i] != nil || r.Account == nil:
		case s.closed:
			r.journal.file.Close()
		default:
			s.run(r)
		}
	}
	if !s.closed {
		s.accounts = next
	}
}

// open makes an account.
func (s *Set) open(c config.ChannelAccount) *running {
	r := &running{conf: c, end: func() {}}
	p, err := s.pairing(c.Channel)
	if err == nil {
		r.Account, err = s.account(c, p)
	}
	if err != nil {
		s.o.Log.Error("channel not started", "channel", c.Channel+":"+c.Account, "err", err)
		r.Account, r.err = nil, err
	}
	return r
}

func (s *Set) account(c config.ChannelAccount, p *pairing) (a *Account, err error) {
	a = &Account{
		conf: c, log: s.o.Log, pairing: p, handle: s.o.Handle, interrupt: s.o.Interrupt, changed: s.o.Changed,
		wake: make(chan struct{}, 1), news: make(chan struct{}, 1), redo: make(chan struct{}, 1), moved: make(chan struct{}, 1), gone: make(chan struct{}), runDone: make(chan struct{}),
		pauses: map[string]time.Time{}, sending: map[string]bool{}, fullTold: map[string]time.Time{}, told: map[string]*outcome{}, chats: map[string]*line{},
		status: Status{State: StateConnecting},
	}
	switch c.Kind {
	case "telegram":
		a.channel, err = newTelegram(&c, s.o.Dial)
	case "whatsapp":
		a.channel = newWhatsApp(&c, &s.o)
	case "process":
		a.channel, err = newProcess(&c, s.o.Dir, s.o.Log)
	default:
		err = fmt.Errorf("kind %q is not known", c.Kind)
	}
	if err != nil {
		return nil, err
	}
	var crashed []entry
	if a.journal, crashed, err = openJournal(s.o.Dir, journalName(&c)); err != nil {
		return nil, err
	}
	for _, e := range crashed {
		a.log.Warn("message uncertain: it may have arrived", "channel", a.name(), "peer", e.Uncertain.To, "err", e.Uncertain.Why)
	}
	for _, m := range a.journal.waiting.list {
		a.fresh = append(a.fresh, *m)
	}
	return a, nil
}

// run runs an account; s.mu is held and s is not closed.
func (s *Set) run(r *running) {
	ctx, end := context.WithCancel(context.Background())
	receive, stop := context.WithCancel(ctx)
	r.end, r.stop = end, stop
	s.work.Go(func() {
		r.Account.run(ctx, receive)
	})
}

// pairing is who may write to a channel.
func (s *Set) pairing(channel string) (*pairing, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p := s.pairings[channel]; p != nil {
		return p, nil
	}
	p, err := openPairing(s.o.Dir, channel)
	if err == nil {
		s.pairings[channel] = p
	}
	return p, err
}

// StopReceiving ends the connections' inbound side and waits for it: a poll that
// is under way must not meet the next gateway's.
func (s *Set) StopReceiving() {
	s.applying.Lock() // what is just being made is stopped too
	defer s.applying.Unlock()
	for _, r := range s.all() {
		if r.Account != nil {
			r.stop()
		}
	}
	for _, r := range s.all() {
		if r.Account != nil {
			<-r.runDone
		}
	}
}

// Close ends everything, after what can be sent within the margin. What is not
// sent or answered then waits for the next start.
func (s *Set) Close(margin time.Duration) {
	s.applying.Lock()
	defer s.applying.Unlock()
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), margin)
	defer cancel()
	for _, r := range s.all() {
		if r.Account != nil {
			r.settle(ctx)
		}
	}
	for _, r := range s.all() {
		r.end()
	}
	s.work.Wait()
}

func (s *Set) all() []*running {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.accounts)
}

// Status is how each account fares, in the configuration's order.
func (s *Set) Status() []Status {
	var out []Status
	for _, r := range s.all() {
		if r.Account == nil {
			out = append(out, Status{Channel: r.conf.Channel, Account: r.conf.Account, Kind: r.conf.Kind, State: StateFailed, Terminal: true, LastError: r.err.Error()})
			continue
		}
		out = append(out, r.Status())
	}
	return out
}

// Account returns an account; without an id the channel's default, or first, one.
func (s *Set) Account(channel, account string) (*Account, error) {
	var found []*running
	for _, r := range s.all() {
		if r.conf.Channel == channel && (account == "" || r.conf.Account == account) {
			found = append(found, r)
		}
	}
	if i := slices.IndexFunc(found, func(r *running) bool { return r.conf.Account == config.DefaultAccount }); i > 0 {
		found[0] = found[i]
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("unsupported channel: %s: %w", strings.Trim(channel+":"+account, ":"), ErrUnknown)
	}
	return found[0].Account, found[0].err
}

// Has reports whether there is such an account.
func (s *Set) Has(channel, account string) bool {
	_, err := s.Account(channel, account)
	return !errors.Is(err, ErrUnknown)
}

// Refuses reports whether a message would not be let in now.
func (s *Set) Refuses(channel, account string, m *Inbound) bool {
	a, err := s.Account(channel, account)
	return err == nil && a.judge(m) != admitted
}

// Queue keeps a message to be sent by an account; done, if any, is told what
// became of it. What cannot go out before an operator did something is refused.
func (s *Set) Queue(channel, account string, out Outbound, done func(Sent, error)) error {
	_, err := s.queue(channel, account, out, done)
	return err
}

func (s *Set) queue(channel, account string, out Outbound, done func(Sent, error)) (*Account, error) {
	a, err := s.Account(channel, account)
	if err != nil {
		return nil, err
	}
	switch st := a.Status(); {
	case st.Unlinked:
		return nil, ErrNotLinked
	case st.Terminal:
		return nil, fmt.Errorf("%s: %w: %s", a.name(), ErrClosed, st.LastError)
	}
	return a, a.Queue(out, done)
}

// Send queues a message and waits until it was sent, refused or is uncertain.
// When ctx ends first it stays queued. Of what was queued the error is an *Outcome.
func (s *Set) Send(ctx context.Context, channel, account string, out Outbound) (sent Sent, err error) {
	type result struct {
		Sent
		error
	}
	done := make(chan result, 1)
	a, err := s.queue(channel, account, out, func(sent Sent, err error) { done <- result{sent, err} })
	if err != nil {
		return Sent{}, err
	}
	select {
	case r := <-done:
		err, sent = r.error, r.Sent
	case <-ctx.Done():
		err = fmt.Errorf("%s: not sent yet, and stays queued: %w", a.name(), context.Cause(ctx))
	case <-a.gone:
		err = fmt.Errorf("%s: not sent yet, and stays queued: %w", a.name(), ErrClosed)
	}
	if err != nil {
		return Sent{}, &Outcome{err}
	}
	return sent, nil
}

// fileName is the start of the names of an account's files, and of no other's:
// an id has no + in it.
func fileName(c *config.ChannelAccount) string { return c.Channel + "+" + c.Account }

// journalName is the same while the account is the same one at the network: a
// bot's update ids are its own.
func journalName(c *config.ChannelAccount) string {
	name := fileName(c)
	if bot, _, ok := strings.Cut(c.BotToken.Reveal(), ":"); ok && c.Kind == "telegram" {
		name += "+" + bot
	}
	return name
}
