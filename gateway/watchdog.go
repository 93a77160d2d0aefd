package gateway

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"time"
)

const (
	longestBeat   = time.Second
	shortestBeat  = 10 * time.Millisecond
	pulsePatience = 2 * time.Second // for an answer; one that comes later counts for the next round
	extendEvery   = 5 * time.Second // how often more time is asked for while the gateway drains
	extendBy      = 3 * extendEvery
)

// pulse is something that must answer for the gateway to be alive. What is
// asked is the thing itself, not a timer beside it.
type pulse struct {
	name    string
	serving bool                       // it may rest while the gateway drains
	ask     func(context.Context) bool // false: not now; it may also never come back
	answer  chan bool                  // of a question under way
}

func (g *Gateway) pulses() []pulse {
	list := []pulse{
		{name: "hub", ask: func(ctx context.Context) bool {
			g.hub.stateVersion() // its lock too
			return meet(ctx, g.hub.pulse)
		}},
		{name: "configuration loop", serving: true, ask: func(ctx context.Context) bool { return meet(ctx, g.reloader.pulse) }},
		{name: "agents", ask: func(context.Context) bool {
			g.agents.Counts()
			return true
		}},
	}
	for _, l := range g.listeners {
		addr := l.Addr().String()
		list = append(list, pulse{name: "listener " + addr, serving: true, ask: func(ctx context.Context) bool { return answers(ctx, reachable(addr)) }})
	}
	return list
}

// meet reports whether a loop that receives from at came to do so.
func meet(ctx context.Context, at chan<- struct{}) bool {
	select {
	case at <- struct{}{}:
		return true
	case <-ctx.Done():
		return false
	}
}

// answers connects to this gateway and reports whether anything came of it. A
// connection that is closed again was accepted: there is no room for it just
// now, which strangers can see to, and must not be able to end the process by.
func answers(ctx context.Context, addr string) bool {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	var d net.Dialer
	c, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return false
	}
	defer c.Close()
	deadline, _ := ctx.Deadline()
	c.SetDeadline(deadline)
	if _, err = io.WriteString(c, "GET /healthz HTTP/1.1\r\nHost: "+addr+"\r\nConnection: close\r\n\r\n"); err == nil {
		_, err = c.Read(make([]byte, 1)) // over TLS that is a refusal
	}
	return !errors.Is(err, os.ErrDeadlineExceeded)
}

// unanswered asks all pulses that are needed and names those that do not answer in time.
func (g *Gateway) unanswered(ctx context.Context, pulses []pulse, patience time.Duration) string {
	inTime, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for i := range pulses {
		if p := &pulses[i]; p.answer == nil {
			answer := make(chan bool, 1)
			p.answer = answer
			go func() {
				if g.opts.pulse != nil {
					g.opts.pulse(p.name)
				}
				answer <- p.ask(ctx)
			}()
		}
	}
	var missing []string
	for i := range pulses {
		p, ok := &pulses[i], false
		select {
		case ok = <-p.answer:
			p.answer = nil
		case <-inTime.Done():
			select { // what others kept us from looking at
			case ok = <-p.answer:
				p.answer = nil
			default:
			}
		}
		if !ok && !(p.serving && g.stopping.Load()) {
			missing = append(missing, p.name)
		}
	}
	return strings.Join(missing, ", ")
}

// watch tells the supervisor that all is well, twice in the time in which it
// wants to hear so, if all pulses have answered since it last did. While the
// gateway drains the same makes it wait, until the drain ought to be over.
// Nothing here takes a lock of the gateway.
func (g *Gateway) watch(ctx context.Context) error {
	s, pulses := g.opts.Supervisor, g.pulses()
	beat := longestBeat
	if s.watchdog > 0 {
		beat = max(min(s.watchdog/8, longestBeat), shortestBeat)
	}
	ticker := time.NewTicker(beat)
	defer ticker.Stop()
	var told time.Time // zero: not yet
	stuck, extended := "", false
	for goOn := true; goOn; goOn = ticked(ctx, ticker.C) {
		drains, rest := g.stopping.Load(), time.Duration(0)
		if drains {
			rest = time.Until(g.drainUntil)
		}
		since := time.Since(told)
		if !(s.watchdog > 0 && since >= s.watchdog/2-beat/2 || drains && (!extended || since >= extendEvery)) {
			continue
		}
		now := "the end of the drain"
		if !drains || rest > 0 {
			now = g.unanswered(ctx, pulses, min(pulsePatience, max(2*beat, shortestBeat)))
		}
		switch {
		case ctx.Err() != nil:
			return nil
		case now == "":
			s.alive(min(rest, extendBy))
			told, extended = time.Now(), drains
			if stuck != "" {
				g.log.Info("answers again, and the supervisor is told so", "key", stuck)
			}
		case now != stuck:
			g.log.Error("does not answer: the supervisor is not told that all is well", "key", now)
		}
		g.stuck.Store(&now)
		if stuck = now; stuck != "" {
			s.mention("not answering: " + stuck)
		}
	}
	return nil
}

// ticked waits for the next tick; it is false when ctx ends first.
func ticked(ctx context.Context, ticks <-chan time.Time) bool {
	select {
	case <-ticks:
		return true
	case <-ctx.Done():
		return false
	}
}

// supervise starts what keeps the supervisor informed, where there is one.
func (g *Gateway) supervise(tasks *group) {
	s := g.opts.Supervisor
	if !s.listens() {
		return
	}
	s.tell(stateReady)
	tasks.start("supervisor's watchdog", g.watch)
	tasks.start("supervisor's status", func(ctx context.Context) error {
		for ctx.Err() == nil {
			s.status(g.statusLine()) // may wait for what the watchdog watches
			select {
			case <-ctx.Done():
			case <-time.After(statusEvery):
			}
		}
		return nil
	})
}

// statusLine says how this gateway fares.
func (g *Gateway) statusLine() string {
	running, waiting := g.agents.Counts()
	line := fmt.Sprintf("port %d; %d connected; turns: %d running, %d waiting", g.port, g.hub.count(), running, waiting)
	if g.restarts.Load() {
		line = "restarting once turns have ended; " + line
	} else if g.stopping.Load() {
		line = "stopping once turns have ended; " + line
	}
	if stuck := g.stuck.Load(); stuck != nil && *stuck != "" {
		line += "; not answering: " + *stuck
	}
	if problems := g.health.reasons(); len(problems) > 0 {
		line += "; degraded: " + strings.Join(problems, ", ")
	}
	if g.reloader.state().err != nil {
		line += "; the configuration file was rejected, the one before it is in effect"
	}
	return line
}
