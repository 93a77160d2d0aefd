package channel

import (
	"cmp"
	"context"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"unicode"

	"openclaw/gateway/store"
)

// What the two sides say to each other, and what the gateway makes of it.

// gatewayLine is what the gateway says.
type gatewayLine struct {
	Type     string      `json:"type"`
	Protocol int         `json:"protocol,omitempty"`
	Channel  string      `json:"channel,omitempty"`
	Account  string      `json:"account,omitempty"`
	MediaDir string      `json:"mediaDir,omitempty"`
	MediaMax int64       `json:"mediaMaxBytes,omitempty"`
	ID       string      `json:"id,omitempty"`
	To       string      `json:"to,omitempty"`
	Text     string      `json:"text,omitempty"`
	ReplyTo  string      `json:"replyTo,omitempty"`
	Media    []childFile `json:"media,omitempty"`
	On       *bool       `json:"on,omitempty"`
	Chat     string      `json:"chat,omitempty"`
	Message  string      `json:"message,omitempty"`
	Emoji    string      `json:"emoji,omitempty"`
	Seq      int64       `json:"seq,omitempty"`

	raw []byte // once it was encoded
}

// childLine is what a child says.
type childLine struct {
	Type         string      `json:"type"`
	Protocol     int         `json:"protocol"`
	Features     []string    `json:"features"`
	State        string      `json:"state"`
	Status       string      `json:"status"`
	Code         any         `json:"code"` // a number with state, a word with failed
	Reason       string      `json:"reason"`
	Self         string      `json:"self"`
	Terminal     bool        `json:"terminal"`
	Text         string      `json:"text"`
	Seq          int64       `json:"seq"`
	ID           string      `json:"id"`
	From         string      `json:"from"`
	Chat         string      `json:"chat"`
	Group        bool        `json:"group"`
	Name         string      `json:"name"`
	Mentioned    bool        `json:"mentioned"`
	Edited       bool        `json:"edited"`
	Forwarded    bool        `json:"forwarded"`
	ReplyTo      *childQuote `json:"replyTo"`
	Media        []childFile `json:"media"`
	MessageID    string      `json:"messageId"`
	Message      string      `json:"message"`
	RetryAfterMs int64       `json:"retryAfterMs"`
	Begun        bool        `json:"begun"` // with failed: part of it may have arrived
}

type childQuote struct {
	From string `json:"from"`
	Text string `json:"text"`
}

type childFile struct {
	Path string `json:"path,omitempty"` // not of one that is yet to be fetched
	MIME string `json:"mime"`
	Name string `json:"name,omitempty"`
}

// take acts on one line.
func (p *process) take(ctx context.Context, a *Account, l *childLine) error {
	switch l.Type {
	case "hello":
		if l.Protocol != protocolVersion {
			return final("the program speaks protocol %d, this gateway %d", l.Protocol, protocolVersion)
		}
		p.mu.Lock()
		p.ready, p.login, p.fetches = true, slices.Contains(l.Features, "login"), slices.Contains(l.Features, "fetch")
		linking := p.login && p.linking
		p.mu.Unlock()
		if linking {
			p.say(&gatewayLine{Type: "login"})
		}
		if !slices.Contains(l.Features, "login") {
			a.Alive("") // what need not be linked is open
		}
	case "state":
		return p.state(a, l)
	case "qr":
		a.State(StateNotLinked, store.Clip(l.Text, 4096))
	case "inbound":
		return p.inbound(ctx, a, l, nil)
	case "media":
		of := p.asked[l.Seq]
		if of == nil {
			return fmt.Errorf("the program fetched media of %d, for which nobody asked", l.Seq)
		}
		delete(p.asked, l.Seq)
		if l.Message != "" {
			p.said.tell("media not fetched", l.Message)
		}
		return p.inbound(ctx, a, of, l)
	case "sent", "failed":
		p.mu.Lock()
		w := p.waits[l.ID] // also where it was waited for too long
		delete(p.waits, l.ID)
		p.mu.Unlock()
		if w == nil {
			return fmt.Errorf("the program answered to %q, which nobody asked", plain(l.ID, 64))
		}
		w <- *l
	case "pong":
		if s := a.Status(); s.State == StateOpen {
			a.Alive("")
		}
	case "receipt":
		if l.Status == "error" {
			p.said.tell("message not delivered", l.Message)
		}
	case "log":
		p.said.tell("channel program", l.Message)
	default:
		return fmt.Errorf("the program wrote a line of the unknown type %q", plain(l.Type, 64))
	}
	return nil
}

// state notes how the network fares. A closing that only an operator mends does
// not end the program: it waits for login.
func (p *process) state(a *Account, l *childLine) error {
	why := plain(l.Reason, 300)
	number, _ := l.Code.(float64)
	code := int(number)
	if l.Code != nil {
		why = fmt.Sprintf("%s (%s)", cmp.Or(why, plain(l.State, 32)), plain(fmt.Sprint(l.Code), 32))
	}
	p.mu.Lock()
	p.closed = ""
	if l.Terminal {
		p.closed = cmp.Or(why, l.State)
	}
	early := p.linking && l.State == "not-linked" && l.Code == nil // said before it heard of the login
	if !early {
		p.linking = false
	}
	p.mu.Unlock()
	switch l.State {
	case "open":
		a.Alive(plain(l.Self, maxIDs))
	case "not-linked":
		if !early {
			a.rest(StateNotLinked, why, code, l.Terminal)
		}
	case "connecting", "closed", "stopped":
		if why = cmp.Or(why, l.State); l.Terminal {
			a.rest(StateFailed, why, code, true)
		} else {
			a.down(l.State, why, code)
		}
	default:
		return fmt.Errorf("the program told the unknown state %q", plain(l.State, 64))
	}
	return nil
}

// inbound judges a message before anything of it is fetched or read, passes it
// on, and tells the child once it is durable. fetched, if any, is what the child
// answered when it was asked for the media. A message with an id that is none is
// dropped: strangers choose ids, and the child would repeat it at each start.
func (p *process) inbound(ctx context.Context, a *Account, l, fetched *childLine) error {
	for _, id := range []string{l.ID, l.From, l.Chat} {
		if id == "" || len(id) > maxIDs || strings.ContainsFunc(id, func(r rune) bool { return r == ' ' || !unicode.IsPrint(r) }) {
			p.said.tell("message dropped", fmt.Sprintf("without an id, a sender or a chat, or with one that is none: %q", plain(id, 64)))
			p.discard(l.Media)
			return p.insist(ctx, &gatewayLine{Type: "ack", Seq: l.Seq})
		}
	}
	m := Inbound{
		ID: l.Chat + " " + l.ID, From: l.From, Chat: l.Chat, Group: l.Group, Name: plain(l.Name, 64), Text: l.Text,
		Message: l.ID, Mentioned: l.Mentioned, Edited: l.Edited, Forwarded: l.Forwarded,
	}
	if q := l.ReplyTo; q != nil {
		m.Quote = q.Text
		if self := a.Status().Self; self != "" && q.From == self {
			m.Mentioned = true // a reply to us
		}
	}
	media, wanted := l.Media, a.wants(&m)
	switch {
	case fetched != nil && len(fetched.Media) > 0:
		media = fetched.Media
	case fetched == nil && wanted && p.fetches && slices.ContainsFunc(media, func(f childFile) bool { return f.Path == "" }):
		return p.fetch(ctx, l)
	}
	left := maxFiles
	for _, f := range media[:min(len(media), maxMedia)] {
		name := plain(cmp.Or(f.Name, filepath.Base(f.Path)), 128)
		var data []byte
		err := fs.ErrNotExist
		if wanted && f.Path != "" {
			data, err = p.dir.ReadFile(p.media()+"/"+filepath.Base(f.Path), min(int64(p.conf.MediaMaxMb)<<20, int64(left)))
			if err != nil {
				p.said.tell("file not read", err.Error())
			}
		}
		if err != nil {
			m.Text = strings.TrimSpace(fmt.Sprintf("%s\n\n[%s, %s was not read]", m.Text, name, plain(f.MIME, 64)))
			continue
		}
		left -= len(data)
		m.Files = append(m.Files, File{Name: name, MIME: plain(f.MIME, 64), Data: data})
	}
	if m.Text != "" || len(m.Files) > 0 {
		if _, sent := a.journal.room(); !sent { // waiting would keep its word on what is sent from us
			return fmt.Errorf("the program passes on messages while %d wait to be sent", maxQueue)
		}
		if err := a.Receive(ctx, 0, m); err != nil {
			return err
		}
		if p.conf.ReadReceipts && a.journal.known(m.ID) { // strangers do not learn that somebody is here
			p.say(&gatewayLine{Type: "read", Chat: m.Chat, Message: m.Message})
		}
	}
	p.discard(media)
	return p.insist(ctx, &gatewayLine{Type: "ack", Seq: l.Seq})
}

// fetch asks for the media of a message, which waits for them.
func (p *process) fetch(ctx context.Context, l *childLine) error {
	held := len(l.Text)
	for _, of := range p.asked {
		held += len(of.Text)
	}
	if len(p.asked) >= maxAsked || held > maxHeld {
		return fmt.Errorf("the program passes on messages while the media of %d are not fetched", len(p.asked))
	}
	p.asked[l.Seq] = l
	return p.insist(ctx, &gatewayLine{Type: "fetch", Seq: l.Seq})
}

// discard deletes the files of a message.
func (p *process) discard(files []childFile) {
	for _, f := range files {
		if f.Path != "" {
			p.dir.Remove(p.media() + "/" + filepath.Base(f.Path))
		}
	}
}

// insist says what is never left out, as an acknowledgement is: while the child
// leaves too much unread, nothing more is read from it.
func (p *process) insist(ctx context.Context, l *gatewayLine) error {
	p.mu.Lock()
	out := p.out
	p.mu.Unlock()
	for out != nil && !out.put(l) {
		select {
		case <-out.room:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}
