package channel

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"runtime/debug"
	"sync"
	"time"
)

const (
	firstBackoff = time.Second
	lastBackoff  = 5 * time.Minute
	longestWait  = time.Hour   // that a network may ask for
	steady       = time.Minute // after which a connection was a good one
	tellEvery    = time.Minute // a line on a state, in the long run
	tellAtOnce   = 10          // of them
)

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
	a.journal.file.Close()
	close(a.gone)
}

// supervise runs the channel again and again. Only a failure that is final
// ends that, until the configuration changes or an operator has it tried again.
func (a *Account) supervise(ctx context.Context) {
	defer close(a.runDone)
	for ctx.Err() == nil {
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
		wait := a.failed(f)
		again := time.After(max(wait, min(f.Wait, longestWait)))
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
			err = errors.New("internal error: the log tells more")
		}
	}()
	return fn()
}

// failed notes why the connection is down and returns how long to wait: longer
// each time, until one has stood for a while.
func (a *Account) failed(f *Fault) time.Duration {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.closedLocked()
	s := &a.status
	wait := min(firstBackoff<<min(s.Failures, 20), lastBackoff)
	s.Failures++
	s.LastError, s.LastErrorAt, s.Terminal = f.Error(), time.Now(), f.Final
	if s.State, s.Sends = StateWaiting, f.Sends; s.Sends {
		poke(a.wake)
	}
	if f.Code != "" {
		s.State, s.Unlinked = StateNotLinked, true
	} else if f.Final {
		s.State = StateFailed
	}
	a.changedLocked("channel down", "err", f.Error())
	return wait/2 + rand.N(wait/2+1)
}

// closedLocked notes that the account is no longer open.
func (a *Account) closedLocked() {
	if !a.since.IsZero() && time.Since(a.since) >= steady {
		a.status.Failures = 0
	}
	a.since, a.status.Sends = time.Time{}, false
}

// changedLocked writes one line when the state is another one than the last
// that was told: a network that is dead for hours is told of once. One that
// comes and goes without end is told of now and then.
func (a *Account) changedLocked(msg string, args ...any) {
	poke(a.moved)
	key := a.status.State
	if key == a.last || key == StateConnecting {
		return
	}
	now := time.Now()
	if a.tellAt.Sub(now) > (tellAtOnce-1)*tellEvery && key != StateStopped {
		return // the state that it is in then will be told
	}
	if a.tellAt.Before(now) {
		a.tellAt = now
	}
	a.tellAt = a.tellAt.Add(tellEvery)
	a.last = key
	if a.changed != nil {
		a.changed()
	}
	level := slog.LevelInfo
	if key != StateOpen {
		level = slog.LevelWarn
	}
	a.log.Log(context.Background(), level, msg, append([]any{"channel", a.name()}, args...)...)
}

// Alive notes that the network has just answered, as self.
func (a *Account) Alive(self string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	s := &a.status
	s.State, s.Terminal, s.Unlinked, s.LastSuccess, s.QR, s.Code = StateOpen, false, false, time.Now(), "", 0
	if !a.unkept {
		s.LastError = ""
	}
	if self != "" {
		s.Self = self
	}
	if a.since.IsZero() {
		a.since = time.Now()
		poke(a.wake)
	} else if time.Since(a.since) >= steady {
		s.Failures = 0
	}
	a.changedLocked("channel up", "peer", s.Self)
}

// trouble notes what is wrong while the network answers.
func (a *Account) trouble(why string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.status.LastError, a.status.LastErrorAt = why, time.Now()
}

// State notes a state that is neither open nor a failure, with a code to scan
// where there is one.
func (a *Account) State(state, qr string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.closedLocked()
	s := &a.status
	s.State, s.QR, s.Terminal = state, qr, false
	if s.Unlinked = s.Unlinked || state == StateNotLinked; qr != "" {
		s.LastError = "" // what stood in the way does no longer
	}
	a.changedLocked("channel " + state)
}

// rest notes that the network waits for an operator, and so does the
// connection's keeper: with terminal set nothing goes on without one.
func (a *Account) rest(state, why string, code int, terminal bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.closedLocked()
	s := &a.status
	s.State, s.QR, s.Terminal, s.Code, s.Unlinked = state, "", terminal, code, s.Unlinked || state == StateNotLinked
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
	a.closedLocked()
	a.status.State, a.status.Terminal, a.status.QR = StateConnecting, false, ""
	if state != StateConnecting {
		a.status.State, a.status.LastError, a.status.LastErrorAt, a.status.Code = StateWaiting, why, time.Now(), code
	}
	a.changedLocked("channel down", "err", why)
}
