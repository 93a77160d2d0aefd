package channel

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"openclaw/reload/config"
)

// These tests run on a clock that jumps: what lasts an hour or a week.

// pipes is a network in memory, to a Bot API, that can die.
type pipes struct {
	*fakeAPI
	alive func(context.Context, string, string) (net.Conn, error)

	mu    sync.Mutex
	dead  func(context.Context) error // what a dial meets, while it is dead
	conns []net.Conn
	dials []time.Time
}

func (p *pipes) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	p.mu.Lock()
	p.dials = append(p.dials, time.Now())
	dead := p.dead
	p.mu.Unlock()
	if dead != nil {
		return nil, dead(ctx)
	}
	c, err := p.alive(ctx, network, addr)
	if err == nil {
		p.mu.Lock()
		p.conns = append(p.conns, c)
		p.mu.Unlock()
	}
	return c, err
}

// die cuts every connection, and lets none be made until dead is nil.
func (p *pipes) die(dead func(context.Context) error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.dead = dead
	for _, c := range p.conns {
		c.Close()
	}
	p.conns = nil
}

// attempts are the times of the dials since the last call.
func (p *pipes) attempts() []time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := p.dials
	p.dials = nil
	return out
}

// onPipes is a rig whose only account is a bot on such a network.
func onPipes(t *testing.T) (*rig, *pipes) {
	p := &pipes{}
	p.fakeAPI, p.alive = newPipeAPI(t)
	r := newRig(t)
	r.set.Close(0)
	r.open(p.dial)
	r.set.Apply([]config.ChannelAccount{bot("http://api.telegram.test")})
	synctest.Wait()
	return r, p
}

func (r *rig) count(text string) int { return strings.Count(r.logs.String(), text) }

func (r *rig) journalSize(name string) int64 {
	r.t.Helper()
	fi, err := os.Stat(filepath.Join(r.dir.Path(), "channels", name+".journal"))
	if err != nil {
		r.t.Fatal(err)
	}
	return fi.Size()
}

// backsOff wants pauses that grow to the longest one and differ, the first of
// them after so many failures.
func backsOff(t *testing.T, at []time.Time, failures int) {
	t.Helper()
	if len(at) < 12 {
		t.Fatalf("only %d attempts", len(at))
	}
	different := map[time.Duration]bool{}
	for i := 1; i < len(at); i++ {
		pause := at[i].Sub(at[i-1])
		full := min(firstBackoff<<min(i-1+failures, 20), lastBackoff)
		if pause < full/2 || pause > full+callTime {
			t.Errorf("pause %d is %v, not of %v to %v", i, pause, full/2, full)
		}
		different[pause] = true
	}
	if len(different) < len(at)/2 {
		t.Errorf("%d pauses have %d lengths: no jitter", len(at)-1, len(different))
	}
}

// TestDeadNetwork: for an hour nothing answers. The status tells, the log has a
// line when it begins and one when it ends, and then all goes on by itself.
func TestDeadNetwork(t *testing.T) {
	for name, dead := range map[string]func(context.Context) error{
		"unreachable": func(context.Context) error {
			return &net.OpError{Op: "dial", Net: "tcp", Err: errors.New("network is unreachable")}
		},
		"no name":    func(context.Context) error { return &net.DNSError{Err: "no such host", Name: "api.telegram.test"} },
		"black hole": func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r, p := onPipes(t)
				p.say(10, 7, "hello")
				synctest.Wait()
				if s := r.set.Status()[0]; s.State != StateOpen || s.Self != "@claw_bot" || len(p.sent()) != 1 {
					t.Fatalf("%+v", s)
				}
				p.die(dead)
				synctest.Wait()
				p.attempts()
				p.say(11, 7, "are you there") // the network keeps it
				if _, err := r.set.Send(timeout(t, time.Second), "telegram", "", Outbound{ID: "q", To: "7", Text: "late"}); err == nil {
					t.Error("sent over a dead network")
				}
				time.Sleep(time.Hour)
				synctest.Wait()
				s := r.set.Status()[0]
				if s.State != StateWaiting || s.Terminal || s.LastError == "" || s.Queued != 1 || s.Failures < 10 || time.Since(s.LastSuccess) < time.Hour {
					t.Errorf("%+v", s)
				}
				if up, down := r.count("channel up"), r.count("channel down"); up != 1 || down != 1 {
					t.Errorf("told %d times up, %d times down:\n%s", up, down, r.logs)
				}
				backsOff(t, p.attempts(), 1) // the first is the poll that was cut
				p.die(nil)
				time.Sleep(lastBackoff + callTime)
				synctest.Wait()
				if s := r.set.Status()[0]; s.State != StateOpen || s.LastError != "" || s.Queued+s.Waiting+s.Unsure != 0 {
					t.Errorf("afterwards %+v", s)
				}
				if got := strings.Join(p.sent(), ", "); got != "you said hello, late, you said are you there" && got != "you said hello, you said are you there, late" {
					t.Errorf("sent %s", got)
				}
				if up, down := r.count("channel up"), r.count("channel down"); up != 2 || down != 1 {
					t.Errorf("told %d times up, %d times down", up, down)
				}
				if strings.Contains(r.logs.String(), "AAfake") {
					t.Error("the token is in the log")
				}
			})
		})
	}
}

func timeout(t *testing.T, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

// queueUp queues n messages to a chat.
func (r *rig) queueUp(a *Account, n int) {
	r.t.Helper()
	var all entry
	for i := range n {
		all.Out = append(all.Out, Outbound{ID: fmt.Sprint(i), To: "z", Text: "x"})
	}
	if err := a.keep(all); err != nil {
		r.t.Fatal(err)
	}
}

// TestDeadWeek: nothing grows while a network is dead, neither in memory nor on
// the disk nor in the log.
func TestDeadWeek(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, p := onPipes(t)
		p.die(func(context.Context) error { return errors.New("network is unreachable") })
		r.queueUp(r.set.all()[0].Account, maxQueue)
		if err := r.set.all()[0].Queue(Outbound{ID: "more", To: "1", Text: "x"}, nil); !errors.Is(err, ErrFull) {
			t.Errorf("one more than may be: %v", err)
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		size, lines, goroutines := r.journalSize("telegram+default+4242"), r.count("\n"), runtime.NumGoroutine()
		p.attempts()
		const week = 7 * 24 * time.Hour
		time.Sleep(week)
		synctest.Wait()
		if now := r.journalSize("telegram+default+4242"); now != size {
			t.Errorf("the journal grew from %d to %d bytes", size, now)
		}
		if now := r.count("\n"); now != lines {
			t.Errorf("the log grew by %d lines:\n%s", now-lines, r.logs)
		}
		if now := runtime.NumGoroutine(); now > goroutines {
			t.Errorf("%d goroutines became %d", goroutines, now)
		}
		if n := len(p.attempts()); n < int(week/lastBackoff) || n > 2*int(week/lastBackoff)+1 {
			t.Errorf("tried %d times in a week", n)
		}
		if s := r.set.Status()[0]; s.Queued != maxQueue || s.State != StateWaiting {
			t.Errorf("%+v", s)
		}
	})
}

// TestNoChannel: without an account nothing is dialled and nothing runs.
func TestNoChannel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.open(func(context.Context, string, string) (net.Conn, error) {
			t.Error("dialled")
			return nil, net.ErrClosed
		})
		before := runtime.NumGoroutine()
		r.set.Apply(nil)
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		if now := runtime.NumGoroutine(); now != before || len(r.set.Status()) != 0 {
			t.Errorf("%d goroutines became %d", before, now)
		}
	})
}

// TestFlapping: a connection that is up for a tenth of a second, again and
// again, is no reason to try more often or to fill the log; one that stood for
// a while is.
func TestFlapping(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, p := onPipes(t)
		var stands atomic.Bool
		var polls atomic.Int32 // of a connection
		p.fakeAPI.answer = func(method string, _ int, _ map[string]any, w http.ResponseWriter) bool {
			if method != "getUpdates" {
				polls.Store(0)
				return false
			}
			if stands.Load() && polls.Add(1) <= 3 {
				return false // the first at once, the others after pollTime
			}
			time.Sleep(100 * time.Millisecond)
			return fakeFail(w, http.StatusBadGateway, "Bad Gateway", "")
		}
		p.die(nil) // the poll before that
		p.attempts()
		time.Sleep(time.Hour)
		synctest.Wait()
		backsOff(t, p.attempts(), 1)
		if s := r.set.Status()[0]; s.Failures < 12 || s.LastError == "" {
			t.Errorf("%+v", s)
		}
		time.Sleep(24 * time.Hour)
		hour := time.Now()
		before := r.count("\n")
		time.Sleep(time.Hour)
		if n := r.count("\n") - before; n > 2*int(time.Since(hour)/(lastBackoff/2))+2 {
			t.Errorf("%d lines in an hour", n)
		}
		stands.Store(true)
		time.Sleep(lastBackoff + 2*pollTime + 3*time.Second)
		synctest.Wait()
		if s := r.set.Status()[0]; s.Failures > 2 {
			t.Errorf("a connection that stood for %v is not one that flaps: %+v", 2*pollTime, s)
		}
	})
}

// stub is a channel in the hands of a test.
type stub struct {
	run    func(ctx context.Context, a *Account) error
	send   func(ctx context.Context, out Outbound) (Sent, error)
	typing func()
	limit  int
}

func (s *stub) Run(ctx context.Context, a *Account) error {
	if s.run != nil {
		return s.run(ctx, a)
	}
	a.Alive("me")
	<-ctx.Done()
	return ctx.Err()
}

func (s *stub) Send(ctx context.Context, out Outbound) (Sent, error) { return s.send(ctx, out) }

func (s *stub) Typing(context.Context, Inbound) {
	if s.typing != nil {
		s.typing()
	}
}

func (s *stub) Limit() int { return s.limit }

// add runs an account over a channel of the test's.
func (r *rig) add(name string, ch Channel) *Account {
	r.t.Helper()
	run := r.set.open(config.ChannelAccount{Channel: name, Account: "default", Kind: "process", Command: []string{"/nonexistent"}, DMPolicy: "open", AllowFrom: []string{"*"}, GroupPolicy: "disabled", MediaMaxMb: 1})
	if run.err != nil {
		r.t.Fatal(run.err)
	}
	if ch != nil {
		run.channel = ch
	}
	r.set.mu.Lock()
	defer r.set.mu.Unlock()
	r.set.run(run)
	r.set.accounts = append(r.set.accounts, run)
	return run.Account
}

func from(chat, text string) Inbound { return Inbound{ID: text, From: "7", Chat: chat, Text: text} }

// TestPanics: a bug in one channel, or in what answers, stays there. What was
// under way is neither lost nor said twice.
func TestPanics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		handle := r.set.o.Handle
		r.set.o.Handle = func(ctx context.Context, a *Account, m Inbound) (func(context.Context) (string, error), error) {
			if m.Text == "panic in handler" {
				panic("handler")
			}
			reply, err := handle(ctx, a, m)
			if m.Text == "hello" {
				reply = func(context.Context) (string, error) { time.Sleep(time.Second); return "you said hello", nil }
			}
			if m.Text == "panic in reply" {
				reply = func(context.Context) (string, error) { panic("reply") }
			}
			return reply, err
		}
		var mu sync.Mutex
		sent := map[string]int{}
		runs := 0
		bad := r.add("bad", &stub{
			run: func(ctx context.Context, a *Account) error {
				mu.Lock()
				runs++
				n := runs
				mu.Unlock()
				a.Alive("me")
				for _, text := range []string{"hello", "panic in handler", "panic in reply", "panic in send"} {
					if err := a.Receive(ctx, 0, from("c", text)); err != nil {
						return err
					}
				}
				if n == 1 {
					panic("run")
				}
				<-ctx.Done()
				return ctx.Err()
			},
			send: func(_ context.Context, out Outbound) (Sent, error) {
				mu.Lock()
				sent[out.Text]++
				mu.Unlock()
				if strings.Contains(out.Text, "panic in send") {
					panic("send")
				}
				return Sent{MessageID: "1"}, nil
			},
			typing: func() { panic("typing") },
		})
		good := r.add("good", &stub{send: func(context.Context, Outbound) (Sent, error) { return Sent{MessageID: "1"}, nil }})
		time.Sleep(time.Minute)
		synctest.Wait()
		const sorry = "Sorry, that did not work: internal error: the log tells more"
		mu.Lock()
		if runs != 2 || sent["you said hello"] != 1 || sent["you said panic in send"] != 1 || sent[sorry] != 2 || len(sent) != 3 {
			t.Errorf("ran %d times, sent %v", runs, sent)
		}
		mu.Unlock()
		s := bad.Status()
		if s.State != StateOpen || s.Waiting != 0 || s.Queued != 0 || s.Unsure != 1 || s.Uncertain[0].ID != "re-panic in send" {
			t.Errorf("%+v", s)
		}
		for _, where := range []string{"run", "send", "typing", "handler", "reply"} {
			if !strings.Contains(r.logs.String(), `msg="panic contained" channel=bad:default err=`+where) {
				t.Errorf("the panic in %s is not told:\n%s", where, r.logs)
			}
		}
		if _, err := r.set.Send(t.Context(), "good", "", Outbound{ID: "x", To: "c", Text: "x"}); err != nil || good.Status().State != StateOpen {
			t.Error(err)
		}
	})
}

// TestPieces: who sends a long text is told when any piece of it failed, and
// who sends at once is always told.
func TestPieces(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		refuse := ""
		r.add("x", &stub{limit: 10, send: func(_ context.Context, out Outbound) (Sent, error) {
			if out.Text == refuse {
				return Sent{}, final("refused %s", out.Text)
			}
			return Sent{MessageID: out.Text}, nil
		}})
		synctest.Wait()
		if sent, err := r.set.Send(t.Context(), "x", "", Outbound{ID: "1", To: "c", Text: "one.....\n\ntwo.....\n\nthree..."}); err != nil || sent.MessageID != "three..." {
			t.Errorf("%v, %v", sent, err)
		}
		refuse = "two....."
		if _, err := r.set.Send(t.Context(), "x", "", Outbound{ID: "2", To: "c", Text: "one.....\n\ntwo.....\n\nthree..."}); err == nil || !strings.Contains(err.Error(), "refused two") {
			t.Errorf("a piece was refused: %v", err)
		}
		var all sync.WaitGroup
		for i := range 200 {
			all.Go(func() {
				if _, err := r.set.Send(t.Context(), "x", "", Outbound{ID: fmt.Sprint("n", i), To: fmt.Sprint(i), Text: "x"}); err != nil {
					t.Error(err)
				}
			})
		}
		began := time.Now()
		all.Wait()
		if took := time.Since(began); took > 0 {
			t.Errorf("told after %v", took)
		}
	})
}

// puppet is a child whose program is the test.
type puppet struct {
	in     *json.Decoder  // what the gateway says
	out    *io.PipeWriter // what the child says
	stdin  *io.PipeReader
	killed chan struct{}
	exit   func(error)
	turn   chan struct{} // held by who speaks
}

func (p *puppet) say(line string, a ...any) error {
	p.turn <- struct{}{}
	defer func() { <-p.turn }()
	_, err := fmt.Fprintf(p.out, line+"\n", a...)
	return err
}

const helloJSON = `{"type":"hello","protocol":1,"features":[]}`

// puppets makes the account's programs be played by play, each in a goroutine.
func (r *rig) puppets(name string, play func(n int, p *puppet)) (*Account, func() []time.Time) {
	var mu sync.Mutex
	var starts []time.Time
	run := r.set.open(config.ChannelAccount{Channel: name, Account: "default", Kind: "process", Command: []string{"/nonexistent"}, DMPolicy: "open", AllowFrom: []string{"*"}, GroupPolicy: "disabled", MediaMaxMb: 1})
	run.channel.(*process).spawn = func(_, _ []string, _ string, _ io.Writer) (*child, error) {
		mu.Lock()
		starts = append(starts, time.Now())
		n := len(starts)
		mu.Unlock()
		inR, inW := io.Pipe()
		outR, outW := io.Pipe()
		c := &child{stdin: inW, stdout: outR, exited: make(chan struct{})}
		p := &puppet{in: json.NewDecoder(inR), stdin: inR, out: outW, killed: make(chan struct{}), turn: make(chan struct{}, 1)}
		var once sync.Once
		p.exit = func(err error) {
			once.Do(func() {
				c.err = err
				close(p.killed)
				inR.Close()
				outW.Close()
				close(c.exited)
			})
		}
		c.kill = func() { p.exit(errors.New("signal: killed")) }
		r.plays.Go(func() {
			play(n, p)
			p.exit(nil)
		})
		return c, nil
	}
	r.set.mu.Lock()
	defer r.set.mu.Unlock()
	r.set.run(run)
	r.set.accounts = append(r.set.accounts, run)
	return run.Account, func() []time.Time {
		mu.Lock()
		defer mu.Unlock()
		return starts
	}
}

// serve plays a program that does what it is told, until stop.
func (p *puppet) serve(each func(l *gatewayLine)) {
	for {
		var l gatewayLine
		if p.in.Decode(&l) != nil || l.Type == "stop" {
			return
		}
		switch l.Type {
		case "ping":
			p.say(`{"type":"pong","id":"%s"}`, l.ID)
		case "send":
			p.say(`{"type":"sent","id":"%s","messageId":"m"}`, l.ID)
		}
		if each != nil {
			each(&l)
		}
	}
}

// TestProgramClock is what programs do to time.
func TestProgramClock(t *testing.T) {
	for _, c := range []struct {
		name  string
		play  func(n int, p *puppet)
		after time.Duration
		says  string // in the status then
		check func(t *testing.T, r *rig, a *Account, starts []time.Time)
	}{
		{name: "no hello", play: func(_ int, p *puppet) { <-p.killed }, after: helloTime + time.Millisecond, says: "no hello within 20s"},
		{name: "no pong", play: func(_ int, p *puppet) {
			p.say(helloJSON)
			go io.Copy(io.Discard, p.stdin)
			<-p.killed
		}, after: 3*pingEvery + time.Millisecond, says: "no answer to pings for 30s"},
		{name: "reads nothing", play: func(_ int, p *puppet) {
			p.say(helloJSON)
			<-p.killed
		}, after: 3*pingEvery + time.Millisecond, says: "no answer to pings for 30s"},
		{name: "pongs for an hour", play: func(_ int, p *puppet) {
			p.say(helloJSON)
			p.serve(nil)
		}, after: time.Hour, check: func(t *testing.T, r *rig, a *Account, starts []time.Time) {
			if s := a.Status(); len(starts) != 1 || s.State != StateOpen || time.Since(s.LastSuccess) > pingEvery {
				t.Errorf("started %d times: %+v", len(starts), s)
			}
		}},
		{name: "exits in a loop", play: func(_ int, p *puppet) { p.exit(nil) }, after: time.Hour, says: "the program ended", check: func(t *testing.T, r *rig, a *Account, starts []time.Time) {
			backsOff(t, starts, 0)
			if n := r.count("channel down"); n != 1 {
				t.Errorf("told %d times", n)
			}
		}},
		{name: "exits in a loop, after hello", play: func(_ int, p *puppet) {
			p.say(helloJSON)
			p.in.Decode(new(gatewayLine))
		}, after: time.Hour, says: "the program ended", check: func(t *testing.T, r *rig, a *Account, starts []time.Time) {
			backsOff(t, starts, 0)
			if n := r.count("channel down"); n > len(starts) {
				t.Errorf("told %d times", n)
			}
		}},
		{name: "opens and closes without end", play: func(_ int, p *puppet) {
			p.say(helloJSON)
			go p.serve(nil)
			for i := 0; p.say(`{"type":"state","state":%q}`, []string{"open", "closed"}[i%2]) == nil; i++ {
				time.Sleep(100 * time.Millisecond)
			}
		}, after: 2 * time.Hour, check: func(t *testing.T, r *rig, a *Account, starts []time.Time) {
			if n := r.count("channel up") + r.count("channel down"); n < 100 || n > 2*60+2*tellAtOnce {
				t.Errorf("told %d times in two hours", n)
			}
		}},
		{name: "unknown state", play: func(_ int, p *puppet) {
			p.say(helloJSON)
			p.say(`{"type":"state","state":"enlightened"}`)
			<-p.killed
		}, after: time.Millisecond, says: `the unknown state "enlightened"`},
		{name: "late word", play: func(_ int, p *puppet) { // of a send that was given up
			p.say(helloJSON)
			for {
				var l gatewayLine
				if p.in.Decode(&l) != nil {
					return
				}
				switch l.Type {
				case "ping":
					p.say(`{"type":"pong","id":"p"}`)
				case "send":
					go func() {
						time.Sleep(2 * sendTime)
						p.say(`{"type":"sent","id":%q}`, l.ID)
					}()
				}
			}
		}, after: time.Hour, check: func(t *testing.T, r *rig, a *Account, starts []time.Time) {
			if s := a.Status(); len(starts) != 1 || s.State != StateOpen || s.Unsure != 1 {
				t.Errorf("started %d times: %+v", len(starts), s)
			}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t)
				a, starts := r.puppets("demo", c.play)
				if c.name == "late word" {
					a.Queue(Outbound{ID: "x", To: "c", Text: "x"}, nil)
				}
				time.Sleep(c.after)
				synctest.Wait()
				if s := a.Status(); !strings.Contains(s.LastError, c.says) {
					t.Errorf("says %q, want %q", s.LastError, c.says)
				}
				if c.check != nil {
					c.check(t, r, a, starts())
				}
			})
		})
	}
}

// TestProgramStop: one that ignores stop is killed, and one that is sending may
// end that first.
func TestProgramStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.puppets("deaf", func(_ int, p *puppet) {
			p.say(helloJSON)
			<-p.killed
		})
		sender, _ := r.puppets("sender", func(_ int, p *puppet) {
			p.say(helloJSON)
			for {
				var l gatewayLine
				if p.in.Decode(&l) != nil {
					return
				}
				if l.Type == "send" {
					time.Sleep(time.Second)
					p.say(`{"type":"sent","id":%q}`, l.ID)
				}
			}
		})
		sender.Queue(Outbound{ID: "x", To: "c", Text: "x"}, nil)
		synctest.Wait()
		began := time.Now()
		r.set.Close(0)
		if took := time.Since(began); took != stopTime+time.Second {
			t.Errorf("ending took %v", took)
		}
		if s := sender.Status(); s.Queued != 0 || s.Unsure != 0 || s.LastSent.IsZero() {
			t.Errorf("what was being sent: %+v", s)
		}
	})
}

// TestBackPressure: while nothing answers, a program that passes on without end
// waits, for as long as that takes, and goes on after it; each of its messages
// is acknowledged, also when it reads late.
func TestBackPressure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		held := make(chan struct{})
		r.set.o.Handle = func(ctx context.Context, _ *Account, m Inbound) (func(context.Context) (string, error), error) {
			return func(ctx context.Context) (string, error) {
				select {
				case <-held:
				case <-ctx.Done():
				}
				return "", context.Cause(ctx)
			}, nil
		}
		const all = maxWaiting + 200
		var mu sync.Mutex
		acked, said := map[int64]bool{}, 0
		a, starts := r.puppets("demo", func(_ int, p *puppet) {
			p.say(helloJSON)
			go func() {
				for i := range all {
					if p.say(`{"type":"inbound","seq":%d,"id":"%d","from":"7","chat":"c%d","text":"x"}`, i, i, i%30) != nil {
						return
					}
					mu.Lock()
					said++
					mu.Unlock()
				}
			}()
			p.serve(func(l *gatewayLine) {
				if l.Type == "ack" {
					mu.Lock()
					acked[l.Seq] = true
					mu.Unlock()
				}
			})
		})
		time.Sleep(time.Minute)
		if err := a.Queue(Outbound{ID: "x", To: "c", Text: "x"}, nil); err != nil { // whose sent comes behind what waits
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		mu.Lock()
		if s := a.Status(); s.Queued != 1 || s.Unsure != 0 || s.Waiting != maxWaiting || said > maxWaiting+2 || len(acked) != maxWaiting || len(starts()) != 1 || s.State != StateOpen {
			t.Errorf("said %d, acknowledged %d, started %d times: %+v", said, len(acked), len(starts()), s)
		}
		mu.Unlock()
		close(held)
		time.Sleep(time.Minute)
		synctest.Wait()
		if s := a.Status(); s.Waiting+s.Queued+s.Unsure != 0 || len(acked) != all || len(starts()) != 1 {
			t.Errorf("acknowledged %d, started %d times: %+v", len(acked), len(starts()), s)
		}
	})
}

// TestRepliesPile: while replies cannot be sent no more is let in than a bound. A
// network waits; a program, whose word on what is sent would wait too, is ended.
func TestRepliesPile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		a, starts := r.puppets("demo", func(_ int, p *puppet) {
			p.say(helloJSON)
			go func() {
				time.Sleep(time.Second)
				for i := 0; p.say(`{"type":"inbound","seq":%d,"id":"%d","from":"7","chat":"c%d","text":"x"}`, i, i, i%5) == nil; i++ {
				}
			}()
			for {
				var l gatewayLine
				if p.in.Decode(&l) != nil {
					return
				}
				switch l.Type {
				case "ping":
					p.say(`{"type":"pong","id":"p"}`)
				case "send":
					p.say(`{"type":"failed","id":%q,"code":"RETRY","retryAfterMs":3600000,"message":"not now"}`, l.ID)
				}
			}
		})
		r.queueUp(a, maxQueue-20)
		time.Sleep(time.Hour)
		synctest.Wait()
		if s := a.Status(); s.Queued < maxQueue || s.Queued > maxQueue+20 || s.Unsure > 5 || s.LastError != "the program passes on messages while 1000 wait to be sent" {
			t.Errorf("%+v", s)
		}
		backsOff(t, starts(), 0)

		var taken atomic.Int32
		var refuse atomic.Bool
		refuse.Store(true)
		b := r.add("network", &stub{
			run: func(ctx context.Context, a *Account) error {
				a.Alive("me")
				time.Sleep(time.Second)
				for i := range 100 {
					if err := a.Receive(ctx, 0, from(fmt.Sprint("c", i%5), fmt.Sprint(i))); err != nil {
						return err
					}
					taken.Add(1)
				}
				<-ctx.Done()
				return ctx.Err()
			},
			send: func(context.Context, Outbound) (Sent, error) {
				if refuse.Load() {
					return Sent{}, &Fault{Err: errors.New("not now"), Wait: time.Hour}
				}
				time.Sleep(time.Second)
				return Sent{}, nil
			},
		})
		r.queueUp(b, maxQueue-20)
		time.Sleep(time.Minute)
		synctest.Wait()
		if s := b.Status(); s.Queued < maxQueue || s.Queued > maxQueue+20 || taken.Load() > 40 {
			t.Errorf("took %d: %+v", taken.Load(), s)
		}
		refuse.Store(false)
		time.Sleep(time.Hour + 3*time.Minute)
		synctest.Wait()
		if s := b.Status(); s.Queued+s.Waiting >= maxQueue || s.Unsure != 0 || taken.Load() != 100 {
			t.Errorf("took %d: %+v", taken.Load(), s)
		}
	})
}

// TestAcks: a program that passes on much and reads only then gets the ack of
// each; one that never reads is ended, with little of it in memory.
func TestAcks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		const many = 5000
		acked := make(chan int, 1)
		r.puppets("late", func(_ int, p *puppet) {
			p.say(helloJSON)
			for i := range many {
				p.say(`{"type":"inbound","seq":%d,"id":"same","from":"7","chat":"c","text":"x"}`, i)
			}
			n := 0
			p.serve(func(l *gatewayLine) {
				if l.Type == "ack" {
					if n++; n == many {
						acked <- n
					}
				}
			})
		})
		synctest.Wait()
		select {
		case <-acked:
		default:
			t.Error("not all are acknowledged")
		}
		said := 0
		never, _ := r.puppets("never", func(n int, p *puppet) {
			p.say(helloJSON)
			for p.say(`{"type":"inbound","seq":9223372036854775807,"id":"same","from":"7","chat":"c","text":"x"}`) == nil {
				if n == 1 {
					said++
				}
			}
		})
		time.Sleep(3*pingEvery + 2*time.Millisecond)
		synctest.Wait()
		if s := never.Status(); !strings.Contains(s.LastError, "no answer to pings") {
			t.Errorf("%+v", s)
		}
		if most := maxUnread/40 + 10; said > most {
			t.Errorf("%d lines were taken of a program that reads nothing", said)
		}
	})
}
