package gateway

import (
	"context"
	"fmt"
	"hash/maphash"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode"
	"unicode/utf8"

	"openclaw/gateway/store"
	"openclaw/reload/config"
)

const (
	maxLogValue   = 256         // bytes of a value in the log, stacks excepted
	repeatWindow  = time.Second // in which the same line is counted instead of written
	maxRepeats    = 128         // different lines that are remembered for that
	redactedValue = "[redacted]"
	minSecret     = 8 // bytes; a shorter one would be found in innocent words
)

// logOutput is where log lines go: STATE/logs/gateway.log as JSON, and stderr
// in the configured form. The file is opened by the first line. What it cannot
// take is dropped and counted; logging never stops the gateway.
type logOutput struct {
	level   slog.LevelVar
	secrets atomic.Pointer[strings.Replacer] // secret to redactedValue
	text    atomic.Bool                      // form on stderr
	journal bool                             // stderr is systemd's journal, which adds the time itself
	open    func() (*store.LogFile, error)
	seed    maphash.Seed

	mu      sync.Mutex // held while a line is written: lines have one order
	stderr  io.Writer
	prefix  string // of the line being written to stderr
	file    *store.LogFile
	lost    int64 // lines before the file could be opened
	told    int64 // lost ones that dropping has told
	toldAt  time.Time
	repeats map[uint64]*repeat
	sweep   *time.Timer // set while repeats are counted
	closed  bool
}

// repeat is a line that was written lately.
type repeat struct {
	at      time.Time
	count   int // not written since
	handler *logHandler
	record  slog.Record
}

func newLogOutput(g *Gateway) *logOutput {
	o := &logOutput{seed: maphash.MakeSeed(), stderr: g.opts.Stderr, repeats: map[uint64]*repeat{}}
	o.secrets.Store(strings.NewReplacer())
	stream, _ := g.opts.Env("JOURNAL_STREAM")
	o.journal = stream != ""
	o.open = func() (*store.LogFile, error) {
		c := g.cfg().Logging
		size, files := rotation(c.Rotation)
		if c.File != "" {
			return store.OpenLogFile(g.opts.Paths.Expand(c.File), size, files)
		}
		return g.store.OpenLog(size, files)
	}
	return o
}

func rotation(r config.Rotation) (size int64, files int) {
	if !r.Enabled {
		return 0, r.MaxFiles
	}
	return int64(r.MaxSize), r.MaxFiles
}

// configure applies a configuration. more are secrets that are not in it.
func (o *logOutput) configure(c *config.Config, verbose bool, more ...string) {
	level := slog.LevelInfo
	if err := level.UnmarshalText([]byte(c.Logging.Level)); err != nil || verbose {
		level = slog.LevelDebug
	}
	o.level.Set(level)
	o.text.Store(c.Logging.Format == "text")
	all := append(more, c.Gateway.Auth.Token.Reveal(), c.Gateway.Auth.Password.Reveal())
	for _, p := range c.Models.Providers {
		all = append(all, p.APIKey.Reveal())
		for _, h := range p.Headers {
			all = append(all, h.Reveal())
		}
	}
	slices.SortFunc(all, func(a, b string) int { return len(b) - len(a) }) // one may begin another
	var masks []string
	for _, s := range all {
		if len(s) >= minSecret {
			masks = append(masks, s, redactedValue)
		}
	}
	o.secrets.Store(strings.NewReplacer(masks...))
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.file != nil {
		o.file.Limit(rotation(c.Logging.Rotation))
	}
}

// dropping reports whether lines were lost since it was last asked, or just before.
func (o *logOutput) dropping() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	lost := o.lost
	if o.file != nil {
		lost += o.file.Dropped()
	}
	if lost > o.told {
		o.told, o.toldAt = lost, time.Now()
	}
	return !o.toldAt.IsZero() && time.Since(o.toldAt) < repeatWindow
}

// close writes what is still counted and closes the file.
func (o *logOutput) close() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.flushLocked(time.Time{})
	o.closed = true
	if o.sweep != nil {
		o.sweep.Stop()
	}
	if o.file != nil {
		o.file.Close()
	}
}

// tail reads the log file from a byte cursor on; a negative one means its end.
func (o *logOutput) tail(cursor int64, limit, maxBytes int) (store.Tail, error) {
	o.mu.Lock()
	f, err := o.openLocked()
	o.mu.Unlock()
	if err != nil {
		return store.Tail{}, err
	}
	return f.Tail(cursor, limit, int64(maxBytes))
}

func (o *logOutput) openLocked() (*store.LogFile, error) {
	if o.file == nil {
		f, err := o.open()
		if err != nil {
			return nil, err
		}
		o.file = f
	}
	return o.file, nil
}

// logHandler is the slog.Handler over a logOutput. It has one handler of the
// standard library per form, so that groups and attributes are theirs to keep.
type logHandler struct {
	out   *logOutput
	forms [3]slog.Handler // the file's, JSON and text on stderr
	seed  uint64          // hash of the attributes and groups so far
}

func (o *logOutput) handler() *logHandler {
	options := func(dropTime bool) *slog.HandlerOptions {
		return &slog.HandlerOptions{Level: slog.Level(-128), ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
			if dropTime && len(groups) == 0 && a.Key == slog.TimeKey {
				return slog.Attr{}
			}
			return o.clean(a)
		}}
	}
	return &logHandler{out: o, forms: [3]slog.Handler{
		slog.NewJSONHandler(writerFunc(o.writeFile), options(false)),
		slog.NewJSONHandler(writerFunc(o.writeStderr), options(o.journal)),
		slog.NewTextHandler(writerFunc(o.writeStderr), options(o.journal)),
	}}
}

func (h *logHandler) Enabled(_ context.Context, l slog.Level) bool { return l >= h.out.level.Level() }

func (h *logHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	n := *h
	for i := range n.forms {
		n.forms[i] = n.forms[i].WithAttrs(attrs)
	}
	for _, a := range attrs {
		n.seed = h.out.hash(n.seed, a.String())
	}
	return &n
}

func (h *logHandler) WithGroup(name string) slog.Handler {
	n := *h
	for i := range n.forms {
		n.forms[i] = n.forms[i].WithGroup(name)
	}
	n.seed = h.out.hash(n.seed, name)
	return &n
}

// Handle writes a record, unless the same one was written a moment ago.
func (h *logHandler) Handle(_ context.Context, r slog.Record) error {
	o := h.out
	sum := o.hash(h.seed, r.Level.String()+r.Message)
	r.Attrs(func(a slog.Attr) bool {
		sum = o.hash(sum, a.String())
		return true
	})
	now := time.Now()
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed {
		return nil
	}
	if seen := o.repeats[sum]; seen != nil && now.Sub(seen.at) < repeatWindow {
		seen.count++
		seen.record = r.Clone()
		if o.sweep == nil {
			o.sweep = time.AfterFunc(repeatWindow, o.sweepRepeats)
		}
		return nil
	}
	o.flushLocked(now)
	if len(o.repeats) < maxRepeats {
		o.repeats[sum] = &repeat{at: now, handler: h}
	}
	h.writeLocked(r)
	return nil
}

// sweepRepeats writes the counts of lines that no longer repeat.
func (o *logOutput) sweepRepeats() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.sweep = nil
	if o.closed {
		return
	}
	o.flushLocked(time.Now())
	if len(o.repeats) > 0 {
		o.sweep = time.AfterFunc(repeatWindow, o.sweepRepeats)
	}
}

// flushLocked ends the windows that are over at a time, all for the zero time,
// and writes the last record of each with its count.
func (o *logOutput) flushLocked(now time.Time) {
	for sum, s := range o.repeats {
		if !now.IsZero() && now.Sub(s.at) < repeatWindow {
			continue
		}
		delete(o.repeats, sum)
		if s.count > 0 {
			s.record.AddAttrs(slog.Int("repeated", s.count))
			s.handler.writeLocked(s.record)
		}
	}
}

func (h *logHandler) writeLocked(r slog.Record) {
	o := h.out
	h.forms[0].Handle(context.Background(), r) // a lost line is counted by its writer
	if o.journal {
		o.prefix = priority(r.Level)
	}
	form := 1
	if o.text.Load() {
		form = 2
	}
	h.forms[form].Handle(context.Background(), r)
}

// priority is the prefix by which the journal knows a line's level (sd-daemon(3)).
func priority(l slog.Level) string {
	switch {
	case l >= slog.LevelError:
		return "<3>"
	case l >= slog.LevelWarn:
		return "<4>"
	case l >= slog.LevelInfo:
		return "<6>"
	}
	return "<7>"
}

// hash continues a hash with a string.
func (o *logOutput) hash(sum uint64, s string) uint64 {
	return sum*1099511628211 ^ maphash.String(o.seed, s)
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(b []byte) (int, error) { return f(b) }

// writeFile writes a line to the file. mu is held.
func (o *logOutput) writeFile(line []byte) (int, error) {
	f, err := o.openLocked()
	if err != nil {
		o.lost++
		return 0, err
	}
	return f.Write(line)
}

func (o *logOutput) writeStderr(line []byte) (int, error) {
	if o.prefix != "" {
		line = append([]byte(o.prefix), line...)
	}
	return o.stderr.Write(line)
}

// clean makes an attribute fit to be written: secrets masked, nothing in it
// that a terminal or a reader could be fooled by, and not too long.
func (o *logOutput) clean(a slog.Attr) slog.Attr {
	if a.Equal(slog.Attr{}) {
		return a // ignored by handlers
	}
	a.Key = clean(a.Key, 64)
	switch a.Value.Kind() {
	case slog.KindString, slog.KindAny:
		if secretKey(a.Key) {
			return slog.String(a.Key, redactedValue)
		}
	default:
		return a
	}
	text := a.Value.String()
	if a.Value.Kind() == slog.KindAny {
		switch v := a.Value.Any().(type) {
		case slog.Level, *slog.Source:
			return a
		case error:
			text = v.Error()
		default:
			text = fmt.Sprint(v)
		}
	}
	text = o.secrets.Load().Replace(text)
	limit := maxLogValue
	if a.Key == "stack" {
		limit = 16 << 10
	}
	return slog.String(a.Key, clean(text, limit))
}

func secretKey(key string) bool {
	switch strings.ToLower(key) {
	case "token", "password", "secret", "authorization", "apikey", "api_key", "cookie":
		return true
	}
	return false
}

// clean cuts a text to a length and writes out what is not to be seen as it
// is: control characters (C0 but newline and tab, DEL, C1), formats such as
// bidirectional overrides and zero widths, and line and paragraph separators.
func clean(s string, limit int) string {
	if len(s) > limit {
		s = clip(s, limit) + "…"
	}
	if strings.IndexFunc(s, hidden) < 0 && utf8.ValidString(s) {
		return s
	}
	var b strings.Builder
	for i, r := range s {
		switch {
		case r == utf8.RuneError && !strings.HasPrefix(s[i:], "\uFFFD"):
			fmt.Fprintf(&b, `\x%02x`, s[i])
		case !hidden(r):
			b.WriteRune(r)
		case r > 0xFFFF:
			fmt.Fprintf(&b, `\U%08x`, r)
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
	}
	return b.String()
}

func hidden(r rune) bool {
	return r != '\n' && r != '\t' && unicode.In(r, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp)
}

// clip cuts a text to at most n bytes, at a rune.
func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}
