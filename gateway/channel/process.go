package channel

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"

	"openclaw/gateway/store"
	"openclaw/reload/config"
)

const (
	protocolVersion = 1
	maxLine         = 1 << 20 // bytes of one line of a child
	helloTime       = 20 * time.Second
	stopTime        = 5 * time.Second
	pingEvery       = 15 * time.Second
	maxIDs          = 128      // bytes of an id or a chat
	maxUnread       = 1 << 20  // bytes that a child may leave unread
	maxFiles        = 32 << 20 // bytes of all files of a message
	maxMedia        = 16       // files of one message
)

// process is a program that connects a network, over the child protocol: one
// JSON object a line on its stdin and stdout.
type process struct {
	conf  *config.ChannelAccount
	dir   *store.Dir
	log   *slog.Logger
	spawn func(command, env []string, dir string, stderr io.Writer) (*child, error)
	said  *childLog

	// command tells what to run, and what its environment holds beside the usual.
	command func(context.Context) (argv, env []string, err error)

	mu      sync.Mutex
	out     *outbox // lines for the child's stdin; nil while there is none
	waits   map[string]chan childLine
	next    int
	ready   bool   // has told its features
	login   bool   // among them
	linking bool   // an operator wants it linked, and it has not begun
	closed  string // why only an operator gets it on again; "" = it goes on
}

func newProcess(c *config.ChannelAccount, dir *store.Dir, log *slog.Logger) (*process, error) {
	if len(c.Command) == 0 {
		return nil, final("command is missing")
	}
	return newProgram(c, dir, log, func(context.Context) (argv, env []string, err error) { return c.Command, nil, nil }), nil
}

func newProgram(c *config.ChannelAccount, dir *store.Dir, log *slog.Logger, command func(context.Context) (argv, env []string, err error)) *process {
	log = log.With("channel", c.Channel+":"+c.Account)
	return &process{conf: c, dir: dir, log: log, command: command, spawn: spawn, said: &childLog{log: log}, waits: map[string]chan childLine{}}
}

// gatewayLine is what the gateway says.
type gatewayLine struct {
	Type     string      `json:"type"`
	Protocol int         `json:"protocol,omitempty"`
	Channel  string      `json:"channel,omitempty"`
	Account  string      `json:"account,omitempty"`
	MediaDir string      `json:"mediaDir,omitempty"`
	ID       string      `json:"id,omitempty"`
	To       string      `json:"to,omitempty"`
	Text     string      `json:"text,omitempty"`
	ReplyTo  string      `json:"replyTo,omitempty"`
	Media    []childFile `json:"media,omitempty"`
	On       *bool       `json:"on,omitempty"`
	Chat     string      `json:"chat,omitempty"`
	Message  string      `json:"message,omitempty"`
	Seq      int64       `json:"seq,omitempty"`
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
	Level        string      `json:"level"`
	RetryAfterMs int64       `json:"retryAfterMs"`
	RetryInMs    int64       `json:"retryInMs"`
	Begun        bool        `json:"begun"` // with failed: part of it may have arrived
}

type childQuote struct {
	From string `json:"from"`
	Text string `json:"text"`
}

type childFile struct {
	Path string `json:"path"`
	MIME string `json:"mime"`
	Name string `json:"name,omitempty"`
}

// Limit is none: the program splits what its network cannot take.
func (p *process) Limit() int { return 0 }

// home is the child's own directory, under the state directory; in media files
// pass between it and us.
func (p *process) home() string  { return "channels/" + p.conf.Channel + "-" + p.conf.Account }
func (p *process) media() string { return p.home() + "/media" }

// Run runs the program until ctx ends or it does. Whatever it does wrong ends
// it, and nothing else.
func (p *process) Run(ctx context.Context, a *Account) error {
	// What lies there was the last child's: a message whose files they are comes again.
	if err := p.dir.Empty(p.media()); err != nil {
		return err
	}
	argv, env, err := p.command(ctx)
	if err != nil {
		return err
	}
	// The kernel ends a child with the thread that started it. This goroutine keeps
	// its thread, which lives until the child has ended and longer.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	c, err := p.spawn(argv, env, filepath.Join(p.dir.Path(), p.home()), p.said)
	if err != nil {
		return fmt.Errorf("start %s: %w", argv[0], err)
	}
	out, done := newOutbox(), make(chan struct{})
	p.mu.Lock()
	p.out, p.ready, p.closed = out, false, ""
	p.mu.Unlock()
	p.say(&gatewayLine{Type: "hello", Protocol: protocolVersion, Channel: p.conf.Channel, Account: p.conf.Account, MediaDir: filepath.Join(p.dir.Path(), p.media())})
	var work sync.WaitGroup
	var once sync.Once
	var why error
	end := func(err error) { // with the first reason
		once.Do(func() {
			why = err
			close(done)
		})
	}
	work.Go(func() { // the writer: a child that reads nothing blocks only this
		if out.copy(c.stdin, done) != nil {
			select {
			case <-c.exited: // which the reader has to tell, after what it said last
			case <-time.After(time.Second):
				end(errors.New("the program takes nothing more"))
			case <-done:
			}
		}
	})
	alive := make(chan struct{}, 1)
	inner, cancel := context.WithCancel(ctx)
	defer cancel()
	work.Go(func() { end(a.contained(func() error { return p.read(inner, c, a, alive) })) })
	work.Go(func() { p.watch(a, done, alive, end) })
	work.Go(func() {
		select {
		case <-c.exited:
			select {
			case <-time.After(time.Second): // something else holds its stdout
				end(errExited)
			case <-done:
			}
		case <-done:
		}
	})
	select {
	case <-done:
	case <-ctx.Done():
		if p.say(&gatewayLine{Type: "stop"}) {
			select {
			case <-done: // its stdout has ended
			case <-time.After(stopTime):
			}
		}
		end(context.Cause(ctx))
	}
	cancel()
	p.mu.Lock()
	p.out = nil
	for id, w := range p.waits {
		close(w)
		delete(p.waits, id)
	}
	p.mu.Unlock()
	a.down(StateConnecting, "", 0) // nothing can be sent now
	c.stdin.Close()
	if ctx.Err() == nil && why != errExited {
		c.kill()
	}
	select {
	case <-c.exited:
	case <-time.After(time.Second):
		c.kill()
		<-c.exited
	}
	c.stdout.Close()
	work.Wait()
	if ctx.Err() == nil && why == errExited {
		return p.ended(c.err)
	}
	return why
}

// unusable is a program's exit code when it cannot work as it was started.
const unusable = 2

// ended is what the end of a program means that did nothing wrong: one that said
// that only an operator gets it on, or that it cannot work, is not started again.
func (p *process) ended(err error) error {
	p.mu.Lock()
	closed := p.closed
	p.mu.Unlock()
	var exit *exec.ExitError
	switch {
	case closed != "":
		return final("%s", closed)
	case !errors.As(err, &exit):
		return errExited
	case exit.ExitCode() == unusable:
		return final("the program cannot work as it is: %s", exit)
	}
	return fmt.Errorf("the program ended: %s", exit)
}

var errExited = errors.New("the program ended")

// watch ends a child that says nothing when it is spoken to.
func (p *process) watch(a *Account, done, alive <-chan struct{}, end func(error)) {
	limit := time.NewTimer(helloTime)
	defer limit.Stop()
	select {
	case <-alive:
	case <-limit.C:
		end(fmt.Errorf("no hello within %v", helloTime))
		return
	case <-done:
		return
	}
	tick := time.NewTicker(pingEvery)
	defer tick.Stop()
	for missed := 0; ; {
		select {
		case <-alive:
			missed = 0
		case <-tick.C:
			if a.full.Load() {
				missed = 0 // its answer may stand behind what waits
				continue
			}
			if missed++; missed > 2 {
				end(fmt.Errorf("no answer to pings for %v", 2*pingEvery))
				return
			}
			p.say(&gatewayLine{Type: "ping", ID: "p"})
		case <-done:
			return
		}
	}
}

// say queues a line for the child, unless it leaves too much unread: then watch
// ends it.
func (p *process) say(l *gatewayLine) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.out.put(l)
}

// read takes the child's lines until one is wrong or there are no more.
func (p *process) read(ctx context.Context, c *child, a *Account, alive chan<- struct{}) error {
	in := bufio.NewReaderSize(c.stdout, 64<<10)
	for first := true; ; first = false {
		line, err := readLine(in)
		if err != nil {
			return err
		}
		var l childLine
		if !utf8.Valid(line) || json.Unmarshal(line, &l) != nil {
			return errors.New("the program wrote a line that is not JSON")
		}
		if first != (l.Type == "hello") {
			return errors.New("the program's first line, and no other, must be hello")
		}
		if l.Type == "hello" || l.Type == "pong" {
			poke(alive)
		}
		if err := p.take(ctx, a, &l); err != nil {
			return err
		}
	}
}

func readLine(in *bufio.Reader) ([]byte, error) {
	var line []byte
	for {
		part, err := in.ReadSlice('\n')
		if len(line)+len(part) > maxLine {
			return nil, fmt.Errorf("the program wrote a line of more than %d bytes", maxLine)
		}
		line = append(line, part...)
		switch {
		case err == nil:
			return bytes.TrimRight(line, "\r\n"), nil
		case errors.Is(err, bufio.ErrBufferFull):
		default:
			return nil, errExited
		}
	}
}

// take acts on one line.
func (p *process) take(ctx context.Context, a *Account, l *childLine) error {
	switch l.Type {
	case "hello":
		if l.Protocol != protocolVersion {
			return final("the program speaks protocol %d, this gateway %d", l.Protocol, protocolVersion)
		}
		p.mu.Lock()
		p.ready, p.login = true, slices.Contains(l.Features, "login")
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
		a.State(StateNotLinked, clipText(l.Text, 4096))
	case "inbound":
		return p.inbound(ctx, a, l)
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

// inbound passes on a message, and tells the child once it is durable.
func (p *process) inbound(ctx context.Context, a *Account, l *childLine) error {
	for _, id := range []string{l.ID, l.From, l.Chat} {
		if id == "" || len(id) > maxIDs || strings.ContainsFunc(id, func(r rune) bool { return r == ' ' || !unicode.IsPrint(r) }) {
			return fmt.Errorf("the program passed on a message without an id, a sender or a chat, or with one that is none: %q", plain(id, 64))
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
	left := maxFiles
	for i, f := range l.Media {
		name := filepath.Base(f.Path)
		data, err := p.dir.ReadFile(p.media()+"/"+name, min(int64(p.conf.MediaMaxMb)<<20, int64(left)))
		p.dir.Remove(p.media() + "/" + name)
		if i >= maxMedia {
			continue
		}
		if err != nil {
			m.Text = strings.TrimSpace(fmt.Sprintf("%s\n\n[%s, %s was not read]", m.Text, plain(cmp.Or(f.Name, name), 128), plain(f.MIME, 64)))
			p.log.Warn("file not read", "err", err)
			continue
		}
		left -= len(data)
		m.Files = append(m.Files, File{Name: plain(cmp.Or(f.Name, name), 128), MIME: plain(f.MIME, 64), Data: data})
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
	return p.acknowledge(ctx, l.Seq)
}

// acknowledge tells the child that it may forget a message. That is never left
// out: while the child leaves too much unread, nothing more is read from it.
func (p *process) acknowledge(ctx context.Context, seq int64) error {
	p.mu.Lock()
	out := p.out
	p.mu.Unlock()
	for out != nil && !out.put(&gatewayLine{Type: "ack", Seq: seq}) {
		select {
		case <-out.room:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

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
		name := fmt.Sprintf("%s/out-%s-%d%s", p.media(), id, i, filepath.Ext(filepath.Base(f.Name)))
		if err := p.dir.WriteFile(name, f.Data); err != nil {
			return Sent{}, &Fault{Err: err}
		}
		defer p.dir.Remove(name)
		l.Media = append(l.Media, childFile{Path: filepath.Join(p.dir.Path(), name), MIME: f.MIME, Name: f.Name})
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

// Typing is told to the child, best effort.
func (p *process) Typing(ctx context.Context, m Inbound) {
	on := true
	p.say(&gatewayLine{Type: "typing", To: m.Chat, On: &on})
}

func clipText(s string, limit int) string { return strings.ToValidUTF8(s[:min(len(s), limit)], "") }
