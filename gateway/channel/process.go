package channel

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"time"
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
	maxAsked        = 256      // messages whose media are being fetched
)

// process is a program that connects a network, over the child protocol: one
// JSON object a line on its stdin and stdout.
type process struct {
	conf  *config.ChannelAccount
	dir   *store.Dir
	log   *slog.Logger
	spawn func(command, env []string, dir string, stderr io.Writer) (*child, error)
	said  *childLog
	asked map[int64]*childLine // messages whose media are being fetched, by seq; the reader's own

	// command tells what to run, and what its environment holds beside the usual.
	command func(context.Context) (argv, env []string, err error)

	mu      sync.Mutex
	out     *outbox // lines for the child's stdin; nil while there is none
	waits   map[string]chan childLine
	next    int
	ready   bool   // has told its features
	login   bool   // among them
	fetches bool   // so is that media may be asked for
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

// Limit is what WhatsApp takes with room to spare; other programs split what
// their network cannot take, of what surely fits a line.
func (p *process) Limit() int {
	if p.conf.Kind == "whatsapp" {
		return 60_000
	}
	return 160_000 // units of at most six bytes, as \u0001
}

// home is the child's own directory, under the state directory; in media files
// pass between it and us.
func (p *process) home() string  { return "channels/" + fileName(p.conf) }
func (p *process) media() string { return p.home() + "/media" }

// Run runs the program until ctx ends or it does. Whatever it does wrong ends
// it, and nothing else.
func (p *process) Run(ctx context.Context, a *Account) error {
	if err := p.dir.EnsureWorkspace(filepath.Join(p.dir.Path(), p.media())); err != nil {
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
	p.out, p.ready, p.closed, p.asked = out, false, "", map[int64]*childLine{}
	p.mu.Unlock()
	p.say(&gatewayLine{Type: "hello", Protocol: protocolVersion, Channel: p.conf.Channel, Account: p.conf.Account, MediaDir: filepath.Join(p.dir.Path(), p.media()), MediaMax: int64(p.conf.MediaMaxMb) << 20})
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
