package channel

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"

	"openclaw/gateway/store"
)

// Send has the child send, and waits for its word. What may have begun to
// arrive is asked for again by the same id, of the same child: that is one
// message to the recipient. Of another child it would be two.
func (p *process) Send(ctx context.Context, out Outbound) (Sent, error) {
	p.mu.Lock()
	p.next++
	id := fmt.Sprintf("s%d", p.next)
	to := p.out
	if !p.ready {
		to = nil
	}
	p.mu.Unlock()
	l := &gatewayLine{Type: "send", ID: id, To: out.To, Text: out.Text, ReplyTo: out.ReplyTo}
	for i, f := range out.Files {
		name := fmt.Sprintf("%s/out-%s-%d%s", p.media(), id, i, extension.FindString(strings.ToLower(f.Name)))
		if err := p.dir.WriteFile(name, f.Data); err != nil {
			return Sent{}, &Fault{Err: err, Final: !passing(err)}
		}
		defer p.dir.Remove(name)
		l.Media = append(l.Media, childFile{Path: filepath.Join(p.dir.Path(), name), MIME: plain(f.MIME, 128), Name: plain(f.Name, 255)})
	}
	if n := len(l.encode()); n > maxLine {
		return Sent{}, final("the message is too long for the program: %d bytes in a line that may have %d", n, maxLine)
	}
	for begun := false; ; {
		answer, err := p.sendOnce(ctx, to, l)
		switch {
		case err != nil && begun:
			return Sent{}, errors.New(err.Error()) // no Fault: it may have arrived
		case err != nil:
			return Sent{}, err
		case answer.Type == "sent":
			return Sent{MessageID: plain(answer.MessageID, maxIDs)}, nil
		}
		f := sendFault(answer)
		if begun = begun || answer.Begun; !begun {
			return Sent{}, f
		}
		if !f.Final && f.Code == "" {
			select {
			case <-time.After(f.Wait):
				continue
			case <-ctx.Done():
			}
		}
		return Sent{}, fmt.Errorf("begun, and then: %s", f)
	}
}

var extension = regexp.MustCompile(`\.[a-z0-9]{1,8}$`)

// passing reports whether a file that could not be written may be later.
func passing(err error) bool {
	return errors.Is(err, store.ErrNoSpace) || slices.ContainsFunc([]error{syscall.EIO, syscall.EMFILE, syscall.ENFILE, syscall.ENOMEM, syscall.EROFS},
		func(lack error) bool { return errors.Is(err, lack) })
}

// sendFault is a program's failed.
func sendFault(l *childLine) *Fault {
	f := &Fault{Err: errors.New(plain(cmp.Or(l.Message, fmt.Sprint(l.Code)), 300)), Wait: time.Duration(min(l.RetryAfterMs, 3_600_000)) * time.Millisecond}
	switch l.Code {
	case "NOT_LINKED":
		f.Code, f.Wait = "NOT_LINKED", time.Minute
	case "RETRY", "RATE":
		f.Wait = max(f.Wait, 2*time.Second)
	default:
		f.Final = true
	}
	return f
}

// sendOnce says a line to the child that has the queue to, and returns its answer.
func (p *process) sendOnce(ctx context.Context, to *outbox, l *gatewayLine) (*childLine, error) {
	w := make(chan childLine, 1)
	p.mu.Lock()
	ok := to != nil && p.out == to && to.put(l)
	if ok {
		p.waits[l.ID] = w // until it answers or ends
	}
	p.mu.Unlock()
	if !ok {
		return nil, &Fault{Err: errors.New("the program does not run or takes nothing"), Wait: 2 * time.Second}
	}
	select {
	case answer, ok := <-w:
		if !ok {
			return nil, errors.New("the program ended while it was sending")
		}
		return &answer, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("no word of the program: %w", context.Cause(ctx))
	}
}

// link has the child link itself, or go on; one that does not run is started.
func (p *process) link(a *Account) {
	a.State(StateConnecting, "")
	p.mu.Lock()
	p.linking = true
	running := p.ready && p.out != nil
	p.mu.Unlock()
	if !running || !p.say(&gatewayLine{Type: "login"}) {
		poke(a.redo)
	}
}

// logout has a child that links itself unlink.
func (p *process) logout() error {
	p.mu.Lock()
	ok := p.ready && p.login && p.out != nil
	p.mu.Unlock()
	if !ok || !p.say(&gatewayLine{Type: "logout"}) {
		return fmt.Errorf("%w: the program does not run, or is not one that links", ErrNotLinked)
	}
	return nil
}

// React is told to the child, best effort.
func (p *process) React(ctx context.Context, m Inbound, emoji string) {
	p.say(&gatewayLine{Type: "react", Chat: m.Chat, Message: m.Message, Emoji: emoji})
}

// Typing is told to the child, best effort.
func (p *process) Typing(ctx context.Context, m Inbound) {
	on := true
	p.say(&gatewayLine{Type: "typing", To: m.Chat, On: &on})
}
