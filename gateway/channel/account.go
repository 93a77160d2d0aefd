package channel

import (
	"cmp"
	"context"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"openclaw/reload/config"
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
	Sends            bool   // while it is not open
	Unlinked         bool   // it was told so, and has not been open since
	Code             int    // the network's word for why the connection ended; 0 = none
	LastSuccess      time.Time
	LastError        string // empty while all is well
	LastErrorAt      time.Time
	LastInbound      time.Time
	LastSent         time.Time
	Failures         int // in a row
	Waiting          int // inbound messages without their reply
	Queued           int
	Uncertain        []Uncertain // the last of them
	Unsure           int         // how many there are, also those that are not listed
	Stuck            int         // chats to which the next message cannot be sent, for a while now
	StuckSince       time.Time
	QR               string `json:"-"` // to be shown, never logged
}

// sends reports whether messages can go out.
func (s *Status) sends() bool { return s.State == StateOpen || s.Sends }

// A Handler takes a message that was let in: when it returns, the message is
// kept, and reply waits for the answer, of which "" is none. An error of either
// that is a *Fault with Wait means to ask again; what others say is told to who
// wrote, with what there is of the answer.
type Handler func(ctx context.Context, a *Account, m Inbound) (reply func(context.Context) (string, error), err error)

// An Interrupter is asked first, when a message comes: whether it is one that
// does not wait its turn, as /stop, and what to say to it. It has then been done.
// So many messages of its chat, which waited to be handed on, are dropped with it.
type Interrupter func(a *Account, m Inbound, waiting int) (said string, ok bool)

// Account is one account of a channel, connected and brought back when it fails.
type Account struct {
	conf    config.ChannelAccount
	log     *slog.Logger
	channel Channel
	pairing *pairing
	journal *journal
	handle  Handler

	interrupt Interrupter
	changed   func() // is told of another state, if set

	wake  chan struct{} // something is to be sent
	news  chan struct{} // something came
	moved chan struct{} // something went, or the state is another one
	gone  chan struct{} // closed when the account has ended
	full  atomic.Bool   // Receive waits until more may be let in
	redo  chan struct{} // an operator has it tried again, now

	mu       sync.Mutex
	status   Status
	since    time.Time // when it became open, while it is
	last     string    // the state that was logged last
	tellAt   time.Time // how much was logged lately, as the time that it should have taken
	unkept   bool      // the journal cannot be written
	pauses   map[string]time.Time
	sending  map[string]bool      // chats of which a message is under way
	fullTold map[string]time.Time // chats that know that too many of their messages wait
	told     map[string]*outcome  // who waits for an outbound message
	fresh    []Inbound            // what is to be handed on
	chats    map[string]*line     // the same, by chat; with a goroutine each
	runDone  chan struct{}
	stop     context.CancelFunc // of receiving
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
	s.Waiting, s.Queued = len(a.journal.waiting.list), len(a.journal.queue.list)
	s.Uncertain, s.Unsure = slices.Clone(a.journal.uncertain), a.journal.unsure
	a.journal.mu.Unlock()
	var why string
	s.Stuck, s.StuckSince, why = a.journal.stuck(time.Now())
	s.LastError = cmp.Or(s.LastError, why) // the network answers, but not there
	return s
}

// keep writes to the journal. That it cannot be written is told once, and that
// it can again.
func (a *Account) keep(entries ...entry) error {
	if len(entries) == 0 {
		return nil
	}
	err := a.journal.write(entries...)
	a.mu.Lock()
	defer a.mu.Unlock()
	if err != nil {
		a.status.LastError, a.status.LastErrorAt = "the journal cannot be written: "+err.Error(), time.Now()
	}
	if was := a.unkept; was != (err != nil) {
		a.unkept = !was
		if was {
			a.log.Info("the journal can be written again", "channel", a.name())
		} else {
			a.log.Error("the journal cannot be written", "channel", a.name(), "err", err)
		}
	}
	return err
}

// poke wakes who waits on c, now or when it next looks.
func poke(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
