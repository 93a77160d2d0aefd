package channel

import (
	"context"
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
}

// supervise runs the channel again and again. Only a failure that is final
// ends that, until the configuration changes.
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
		if f.Final {
			<-ctx.Done()
			break
		}
		select {
		case <-time.After(max(wait, f.Wait)):
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
	s.State, s.Terminal, s.LastSuccess, s.LastError, s.Failures, s.QR = StateOpen, false, time.Now(), "", 0, ""
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
	a.status.State, a.status.QR = state, qr
	a.changedLocked("channel " + state)
}

// down notes that the network is away while the connection's keeper is not.
func (a *Account) down(state, why string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.status.State = StateConnecting
	if state != StateConnecting {
		a.status.State, a.status.LastError, a.status.LastErrorAt = StateWaiting, why, time.Now()
		a.changedLocked("channel down", "err", why)
	}
}
