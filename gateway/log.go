package gateway

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"openclaw/gateway/store"
	"openclaw/reload/config"
	"openclaw/wire"
)

const (
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
	paths   config.Paths
	root    *logHandler
	repeats *repeats

	mu     sync.Mutex // held while a line is written: lines have one order
	stderr io.Writer
	line   []byte // being written to stderr
	prefix string // of it
	file   *store.LogFile
	path   string   // as configured
	masked []string // secrets, the newest first
	lost   int64    // lines of no file, and of files before this one
	told   int64    // lost ones that dropping has told
	toldAt time.Time
	closed bool
}

func newLogOutput(g *Gateway) *logOutput {
	o := &logOutput{stderr: g.opts.Stderr, paths: g.opts.Paths}
	o.repeats = newRepeats(o.write)
	o.secrets.Store(strings.NewReplacer())
	stream, _ := g.opts.Env("JOURNAL_STREAM")
	o.journal = isJournal(stream, o.stderr)
	if f, ok := o.stderr.(*os.File); ok {
		o.stderr = &patientWriter{w: f, notice: o.notice}
	}
	o.open = func() (*store.LogFile, error) {
		c := g.cfg().Logging
		size, files := rotation(c.Rotation)
		if c.File != "" {
			return store.OpenLogFile(g.opts.Paths.Expand(c.File), size, files)
		}
		return g.store.OpenLog(size, files)
	}
	o.root = o.handler()
	return o
}

// isJournal reports whether the journal stream that systemd names to a unit is
// this stderr: its children inherit the variable, whatever stderr they are
// given (systemd.exec(5)). What is no file cannot tell and is believed.
func isJournal(stream string, stderr io.Writer) bool {
	f, ok := stderr.(interface{ Stat() (fs.FileInfo, error) })
	if stream == "" || !ok {
		return stream != ""
	}
	fi, err := f.Stat()
	if err != nil {
		return false
	}
	st, ok := fi.Sys().(*syscall.Stat_t)
	return ok && stream == fmt.Sprintf("%d:%d", st.Dev, st.Ino)
}

func rotation(r config.Rotation) (size int64, files int) {
	if !r.Enabled {
		return 0, r.MaxFiles
	}
	return int64(r.MaxSize), r.MaxFiles
}

// maxFormerSecrets bounds how many secrets are still masked that no
// configuration has any more.
const maxFormerSecrets = 256

// mask hides the secrets of a configuration, and more, from now on. Those of
// earlier ones stay hidden: what began with them may still go on.
func (o *logOutput) mask(c *config.Config, more ...string) {
	all := append(more, c.Gateway.Auth.Token.Reveal(), c.Gateway.Auth.Password.Reveal())
	for _, p := range c.Models.Providers {
		all = append(all, p.APIKey.Reveal())
		for _, h := range p.Headers {
			all = append(all, h.Reveal())
		}
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	now := len(all)
	for _, s := range o.masked {
		if len(all) < now+maxFormerSecrets && !slices.Contains(all, s) {
			all = append(all, s)
		}
	}
	o.masked = slices.Clone(all)                                                 // newest first
	slices.SortStableFunc(all, func(a, b string) int { return len(b) - len(a) }) // one may begin another
	var masks []string
	for _, s := range all {
		if len(s) >= minSecret {
			masks = append(masks, s, redactedValue)
		}
	}
	o.secrets.Store(strings.NewReplacer(masks...))
}

// configure applies a configuration whose secrets are masked.
func (o *logOutput) configure(c *config.Config) {
	level := slog.LevelInfo
	if err := level.UnmarshalText([]byte(c.Logging.Level)); err != nil {
		level = slog.LevelDebug
	}
	o.level.Set(level)
	o.text.Store(c.Logging.Format == "text")
	o.mu.Lock()
	defer o.mu.Unlock()
	if c.Logging.File != o.path {
		o.letGo()
		o.path = c.Logging.File
	}
	if o.file != nil {
		o.file.Limit(rotation(c.Logging.Rotation))
	}
}

// check says why configure could not change over to the log file of c. It
// writes nothing. The file in use is not judged again.
func (o *logOutput) check(c *config.Config) error {
	o.mu.Lock()
	same := c.Logging.File == o.path
	o.mu.Unlock()
	if same || c.Logging.File == "" {
		return nil
	}
	if err := store.CheckLogFile(o.paths.Expand(c.Logging.File)); err != nil {
		return fmt.Errorf("logging.file: %w", err)
	}
	return nil
}

// reopen lets go of the file, which somebody moved away: the next line goes to
// the one that has its name then.
func (o *logOutput) reopen() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.file != nil {
		o.file.Reopen()
	}
}

// letGo closes the file, for the next line to open another. It needs mu.
func (o *logOutput) letGo() {
	if o.file != nil && !o.closed {
		o.lost += o.file.Dropped()
		o.file.Close()
		o.file = nil
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
	o.write(o.repeats.close()...)
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed {
		return
	}
	o.closed = true
	if w, ok := o.stderr.(*patientWriter); ok {
		w.close()
	}
	if o.file != nil {
		o.file.Close()
	}
}

// tail reads the log file for logs.tail.
func (o *logOutput) tail(in *wire.LogsTail) (t store.Tail, err error) {
	for range 2 { // a change of logging.file closes it
		o.mu.Lock()
		f, e := o.openLocked()
		o.mu.Unlock()
		if e != nil {
			return t, e
		}
		cursor := int64(-1)
		if in.Cursor != nil {
			cursor = *in.Cursor
		}
		if in.FileID != "" {
			t, err = f.Follow(in.FileID, max(cursor, 0), in.Limit, int64(in.MaxBytes))
		} else {
			t, err = f.Tail(cursor, in.Limit, int64(in.MaxBytes))
		}
		if !errors.Is(err, fs.ErrClosed) {
			break
		}
	}
	return t, err
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
	forms [3]slog.Handler // the file's and mostly stderr's, JSON and text on stderr alone
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
		slog.NewJSONHandler(writerFunc(o.writeJSON), options(false)),
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
		n.seed = h.out.repeats.hashAttr(n.seed, a)
	}
	return &n
}

func (h *logHandler) WithGroup(name string) slog.Handler {
	n := *h
	for i := range n.forms {
		n.forms[i] = n.forms[i].WithGroup(name)
	}
	n.seed = h.out.repeats.hash(n.seed, name)
	return &n
}

// Handle writes a record, unless there were too many like it a moment ago. What
// it holds up is who logs a line that is written: by the file's write, and by
// stderr's for no longer than a patientWriter waits.
func (h *logHandler) Handle(_ context.Context, r slog.Record) error {
	h.out.write(h.out.repeats.admit(h, r)...)
	return nil
}

// logLine is a record on its way to be written.
type logLine struct {
	handler *logHandler
	record  slog.Record
}

func (o *logOutput) write(lines ...logLine) {
	if len(lines) == 0 {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, l := range lines {
		if o.closed {
			return
		}
		if o.journal {
			o.prefix = priority(l.record.Level)
		}
		l.handler.forms[0].Handle(context.Background(), l.record) // a lost line is counted by its writer
		switch {
		case o.text.Load():
			l.handler.forms[2].Handle(context.Background(), l.record)
		case o.journal:
			l.handler.forms[1].Handle(context.Background(), l.record)
		}
	}
}

// ErrorLines is a stderr for lines that each tell of a failure. The journal,
// where that is what reads them, shows them as such.
func ErrorLines(stderr io.Writer, env func(string) (string, bool)) io.Writer {
	stream, _ := env("JOURNAL_STREAM")
	if !isJournal(stream, stderr) {
		return stderr
	}
	return writerFunc(func(line []byte) (int, error) {
		_, err := stderr.Write(append([]byte(priority(slog.LevelError)), line...))
		return len(line), err
	})
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

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(b []byte) (int, error) { return f(b) }

// writeJSON writes a line to the file, and to stderr if it is the same there. mu is held.
func (o *logOutput) writeJSON(line []byte) (int, error) {
	if !o.journal && !o.text.Load() {
		o.writeStderr(line)
	}
	f, err := o.openLocked()
	if err != nil {
		o.lost++
		return 0, err
	}
	n, err := f.Write(line)
	if errors.Is(err, fs.ErrNotExist) {
		o.letGo() // its directory was removed: there may be another
	}
	return n, err
}

func (o *logOutput) writeStderr(line []byte) (int, error) {
	o.line = append(append(o.line[:0], o.prefix...), line...)
	return o.stderr.Write(o.line)
}

// notice is the line on stderr for lines that it did not take.
func (o *logOutput) notice(dropped int) []byte {
	const msg = "stderr was not read"
	if o.text.Load() {
		return fmt.Appendf(nil, "%slevel=WARN msg=%q dropped=%d\n", o.prefix, msg, dropped)
	}
	return fmt.Appendf(nil, "%s{\"level\":\"WARN\",\"msg\":%q,\"dropped\":%d}\n", o.prefix, msg, dropped)
}
