// Package channel connects the gateway to chat networks.
//
// A Channel is one account's connection: telegram.go speaks the Bot API,
// process.go the child protocol to a program, which whatsapp.go starts for
// WhatsApp (its parts are in package whatsapp). What all of them share is in an
// Account (account.go): it runs its channel and brings it back after a failure
// (supervise.go), judges who may speak (policy.go, pairing.go) and has it
// answered (inbound.go, preview.go), sends (outbound.go, split.go), and keeps
// what came and what is to be sent in a journal that survives kill -9
// (journal.go). A Set is all accounts of a configuration (set.go), with what
// operators do to them (operator.go). The package knows nothing of agents: what
// is let in goes to a Handler, whose reply is sent.
package channel

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Channel is one account's connection to a network.
type Channel interface {
	// Run connects and passes on what comes, by a.Receive and a.Alive, until
	// ctx ends or the connection fails; it is then run again. It returns
	// after everything that it started has ended.
	Run(ctx context.Context, a *Account) error
	// Send delivers one message that is not longer than Limit, while Run runs.
	// Its error is a *Fault; any other means that nobody knows whether the
	// message arrived.
	Send(ctx context.Context, out Outbound) (Sent, error)
	// Typing shows for a few seconds that an answer is being made.
	Typing(ctx context.Context, m Inbound)
	// Limit is the length of a message in UTF-16 units; 0 is none.
	Limit() int
}

// Editor is a Channel whose messages can be changed after they were sent.
type Editor interface {
	// Edit puts a text in place of a message's. Its error is a *Fault: a final
	// one if that message cannot be changed.
	Edit(ctx context.Context, to, message, text string) error
}

// Reactor is a Channel that can answer a message by an emoji.
type Reactor interface {
	// React does so, best effort.
	React(ctx context.Context, m Inbound, emoji string)
}

// Checker is a Channel that knows before it is asked to send that it cannot.
type Checker interface {
	Check(out Outbound) error
}

// Inbound is a message from a network.
type Inbound struct {
	ID        string `json:"id"`   // its own within the account, whatever is repeated
	From      string `json:"from"` // the network's id of who wrote it: never a name
	Chat      string `json:"chat"` // where the answer goes
	Group     bool   `json:"group,omitempty"`
	Thread    string `json:"thread,omitempty"`
	Name      string `json:"name,omitempty"` // as the sender likes: shown, never compared
	Text      string `json:"text,omitempty"`
	Message   string `json:"message,omitempty"` // the network's id of it, to answer to
	Mentioned bool   `json:"mentioned,omitempty"`
	Edited    bool   `json:"edited,omitempty"`
	Forwarded bool   `json:"forwarded,omitempty"`
	Quote     string `json:"quote,omitempty"`
	Files     []File `json:"files,omitempty"`

	Again bool `json:"-"` // was let in before the gateway ended: its turn may have begun

	// Progress, if set, may be told the answer so far, as often as it grows. It does not wait.
	Progress func(text string) `json:"-"`
}

// File is a picture or document, in or out.
type File struct {
	Name string `json:"name,omitempty"`
	MIME string `json:"mime,omitempty"`
	Data []byte `json:"data,omitempty"`
}

// Outbound is a message to a network.
type Outbound struct {
	ID      string `json:"id"`
	To      string `json:"to"`
	Thread  string `json:"thread,omitempty"`
	Text    string `json:"text,omitempty"`
	ReplyTo string `json:"replyTo,omitempty"`
	Edit    string `json:"edit,omitempty"` // the message that is changed rather than a new one sent
	Files   []File `json:"files,omitempty"`

	// About is what it answers, without what was said: it is not sent to who may
	// no longer be answered. Nil is an operator's or agent's own message.
	About *Inbound `json:"about,omitempty"`
}

// Sent is what the network said to a message that it took.
type Sent struct {
	MessageID string
}

// Fault is a failure that is understood: of Run, why the connection is down; of
// Send, that the message did not go out.
type Fault struct {
	Err   error
	Final bool          // trying again is of no use: of Run until the configuration changes
	Code  string        // NOT_LINKED, where it is that
	Wait  time.Duration // do not try again before
	Sends bool          // of Run: Send works all the same
}

func (f *Fault) Error() string { return f.Err.Error() }
func (f *Fault) Unwrap() error { return f.Err }

func final(format string, a ...any) error { return &Fault{Err: fmt.Errorf(format, a...), Final: true} }

// faultOf is err as a Fault, and whether it is one.
func faultOf(err error) (*Fault, bool) {
	var f *Fault
	return f, errors.As(err, &f)
}

// Outcome is why a message that was kept did not go out, or not surely or not
// yet. To ask for the same once more would be another message.
type Outcome struct{ Err error }

func (o *Outcome) Error() string { return o.Err.Error() }
func (o *Outcome) Unwrap() error { return o.Err }

// What Send and the commands refuse.
var (
	ErrUnknown   = errors.New("no such channel")
	ErrTarget    = errors.New("not a target of this channel")
	ErrSeveral   = errors.New("there are several accounts: name one")
	ErrToken     = errors.New("it is connected by a token of the configuration, and neither linked nor unlinked")
	ErrNotLinked = errors.New("the channel is not linked")
	ErrFull      = errors.New("too many messages wait to be sent")
	ErrClosed    = errors.New("the channel is closed")
)
