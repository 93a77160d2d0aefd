package gateway

import (
	"hash/maphash"
	"log/slog"
	"math"
	"sync"
	"time"
)

const (
	repeatWindow  = time.Second // in which lines are counted instead of written
	maxRepeats    = 128         // different lines that are remembered for that
	maxMessages   = 128         // different messages
	maxPerMessage = 1000        // lines of one message that are written in a window
)

// repeats decides which lines are written. One that was written a moment ago is
// counted, and so are those that are too many of one message, whatever its
// attributes are; when the window is over one line tells how many there were.
// Lines written, `repeated` and `dropped` add up to the lines there were.
type repeats struct {
	seed  maphash.Seed
	write func(...logLine) // what is due when a window is over

	mu       sync.Mutex // not held while anything is written
	lines    map[uint64]*repeat
	messages map[uint64]*message
	sweeper  *time.Timer // set while there is something in the maps
	closed   bool
}

// repeat is a line that was written lately.
type repeat struct {
	at    time.Time
	count int     // not written since
	last  logLine // of those
}

// message is a message that was written lately, with what attributes ever.
type message struct {
	at               time.Time
	written, dropped int
	handler          *logHandler
	level            slog.Level
	text             string
}

func newRepeats(write func(...logLine)) *repeats {
	return &repeats{seed: maphash.MakeSeed(), write: write, lines: map[uint64]*repeat{}, messages: map[uint64]*message{}}
}

// admit returns what is to be written now: nothing, or r behind the counts that
// are due before it.
func (p *repeats) admit(h *logHandler, r slog.Record) []logLine {
	now := time.Now()
	key := p.hash(p.number(h.seed, uint64(r.Level)), r.Message)
	if p.flooded(key, now) {
		return nil // before the attributes cost anything
	}
	sum := key
	r.Attrs(func(a slog.Attr) bool {
		sum = p.hashAttr(sum, a)
		return true
	})
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil
	}
	var out []logLine
	seen := p.lines[sum]
	if seen != nil && now.Sub(seen.at) < repeatWindow {
		if seen.count++; seen.count == 1 {
			seen.last = logLine{h, r.Clone()}
		}
		return nil
	}
	if seen != nil {
		out = seen.end(out)
		delete(p.lines, sum)
	}
	m := p.messages[key]
	if m != nil && now.Sub(m.at) >= repeatWindow {
		out = m.end(out)
		delete(p.messages, key)
		m = nil
	}
	if m == nil {
		m = p.begin(key, h, r, now)
	}
	if m.written == maxPerMessage {
		m.dropped++
		return out
	}
	m.written++
	if len(p.lines) < maxRepeats {
		p.lines[sum] = &repeat{at: now}
	}
	if p.sweeper == nil {
		p.sweeper = time.AfterFunc(repeatWindow, p.sweep)
	}
	return append(out, logLine{h, r})
}

// flooded reports whether a message has had its lines in this window, and counts one more.
func (p *repeats) flooded(key uint64, now time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	m := p.messages[key]
	if m == nil || m.written < maxPerMessage || now.Sub(m.at) >= repeatWindow || p.closed {
		return false
	}
	m.dropped++
	return true
}

// begin begins the window of a message. Those that come when there are many
// already share one: no text that a client chooses can flood either. It needs mu.
func (p *repeats) begin(key uint64, h *logHandler, r slog.Record, now time.Time) *message {
	m := &message{at: now, handler: h, level: r.Level, text: r.Message}
	if len(p.messages) >= maxMessages {
		key = 0
		if shared := p.messages[key]; shared != nil {
			return shared
		}
		m.handler, m.level, m.text = h.out.root, slog.LevelWarn, "other lines"
	}
	p.messages[key] = m
	return m
}

// sweep writes the counts of the windows that are over.
func (p *repeats) sweep() {
	p.mu.Lock()
	var out []logLine
	if !p.closed {
		out = p.end(time.Now())
		if p.sweeper = nil; len(p.lines)+len(p.messages) > 0 {
			p.sweeper = time.AfterFunc(repeatWindow, p.sweep)
		}
	}
	p.mu.Unlock()
	p.write(out...)
}

// close ends all windows, and returns the lines with what they counted.
func (p *repeats) close() []logLine {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil
	}
	p.closed = true
	if p.sweeper != nil {
		p.sweeper.Stop()
	}
	return p.end(time.Now().Add(repeatWindow))
}

// end ends the windows that are over at a time. It needs mu.
func (p *repeats) end(now time.Time) (out []logLine) {
	for sum, seen := range p.lines {
		if now.Sub(seen.at) >= repeatWindow {
			out = seen.end(out)
			delete(p.lines, sum)
		}
	}
	for key, m := range p.messages {
		if now.Sub(m.at) >= repeatWindow {
			out = m.end(out)
			delete(p.messages, key)
		}
	}
	return out
}

func (seen *repeat) end(out []logLine) []logLine {
	if seen.count == 0 {
		return out
	}
	seen.last.record.Time = time.Now() // lines have the order of their times
	seen.last.record.AddAttrs(slog.Int("repeated", seen.count))
	return append(out, seen.last)
}

func (m *message) end(out []logLine) []logLine {
	if m.dropped == 0 {
		return out
	}
	r := slog.NewRecord(time.Now(), m.level, m.text, 0)
	r.AddAttrs(slog.Int("dropped", m.dropped))
	return append(out, logLine{m.handler, r})
}

// hash continues a hash with a string, number with a number.
func (p *repeats) hash(sum uint64, s string) uint64 {
	return sum*1099511628211 ^ maphash.String(p.seed, s)
}

func (p *repeats) number(sum, n uint64) uint64 {
	return sum*1099511628211 ^ maphash.Comparable(p.seed, n)
}

// hashAttr continues a hash with an attribute, as a rule without making a text of it.
func (p *repeats) hashAttr(sum uint64, a slog.Attr) uint64 {
	v := a.Value.Resolve()
	sum = p.number(p.hash(sum, a.Key), uint64(v.Kind()))
	switch v.Kind() {
	case slog.KindString:
		return p.hash(sum, v.String())
	case slog.KindInt64:
		return p.number(sum, uint64(v.Int64()))
	case slog.KindDuration:
		return p.number(sum, uint64(v.Duration()))
	case slog.KindUint64:
		return p.number(sum, v.Uint64())
	case slog.KindFloat64:
		return p.number(sum, math.Float64bits(v.Float64()))
	case slog.KindGroup:
		for _, a := range v.Group() {
			sum = p.hashAttr(sum, a)
		}
		return p.number(sum, 0)
	case slog.KindAny:
		return p.hash(sum, textOf(v.Any()))
	}
	return p.hash(sum, v.String())
}
