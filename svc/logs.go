package svc

import (
	"context"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"openclaw/gateway/store"
	"openclaw/reload/config"
	"openclaw/wire"
)

const (
	followInterval = time.Second
	searchBytes    = 64 << 20 // how far back --level and the like look
)

// logs prints the gateway's log: over the wire from a gateway that runs, else
// from the files. Both name a position by the same file and byte, so following
// survives rotations and the gateway's stop and start.
func logs(ctx context.Context, e *Env, a *Args) error {
	least := 1
	if a.Has("follow") {
		least = 0 // only what comes
	}
	last, err := a.Int("last", 200, least, store.MaxTailLines)
	if err != nil {
		return err
	}
	f := &logFilter{level: a.Get("level"), text: strings.ToLower(a.Get("filter")), utc: a.Has("utc")}
	since, err := a.Duration("since", 0, time.Minute)
	if err != nil {
		return err
	}
	if since > 0 {
		f.since = e.Now().Add(-since)
	}
	src := &logSource{e: e, a: a}
	defer src.close()

	page, err := src.last(ctx, last, f)
	if err != nil {
		return err
	}
	for {
		for _, line := range page.Lines {
			if err := f.print(e, line); err != nil {
				return err
			}
		}
		if !a.Has("follow") {
			return nil
		}
		if page, err = src.follow(ctx, page); err != nil {
			return err
		}
		if page == nil {
			return nil // how following ends
		}
		if page.Truncated {
			e.Warn("more was logged than is kept: lines are missing here")
		}
		page.Lines = slices.DeleteFunc(page.Lines, func(line string) bool { return !f.match(line) })
	}
}

// logSource reads the log wherever it can be read now.
type logSource struct {
	e    *Env
	a    *Args
	link *link // nil while the gateway is down
}

func (s *logSource) close() {
	if s.link != nil {
		s.link.Close()
		s.link = nil
	}
}

// last returns the newest n lines that f takes. A gateway tells one page of
// them; what lies further back is looked for in its files, if they are here.
func (s *logSource) last(ctx context.Context, n int, f *logFilter) (*wire.LogsPage, error) {
	fromFiles := func() (*wire.LogsPage, error) {
		return s.files(func(l *store.LogFile) (store.Tail, error) { return l.Last(n, searchBytes, f.search) })
	}
	page, err := s.ask(ctx, &wire.LogsTail{}, fromFiles)
	if err != nil {
		return nil, err
	}
	if n == 0 {
		page.Lines = nil
		return page, nil
	}
	older := page.Truncated || len(page.Lines) == store.MaxTailLines
	lines := []string{}
	for _, line := range slices.Backward(page.Lines) {
		take, stop := f.search(line)
		if take {
			lines = append(lines, line)
		}
		if stop || len(lines) == n {
			older = false
			break
		}
	}
	slices.Reverse(lines)
	if older && s.link != nil && s.link.ep.own {
		if deep, err := fromFiles(); err == nil && deep.File == page.File {
			page, lines, older = deep, deep.Lines, deep.Truncated && len(deep.Lines) < n
		}
	}
	if older {
		s.e.Warn("older lines were not searched")
	}
	page.Lines = lines
	return page, nil
}

// follow waits for lines behind a page's; nil is the end of it. While the
// gateway is on its way down or up there are none.
func (s *logSource) follow(ctx context.Context, page *wire.LogsPage) (*wire.LogsPage, error) {
	ticks := time.NewTicker(followInterval)
	defer ticks.Stop()
	for more := page.More; ; more = false {
		if !more {
			select {
			case <-ctx.Done():
			case <-ticks.C:
			}
		}
		if ctx.Err() != nil {
			return nil, nil
		}
		next, err := s.ask(ctx, &wire.LogsTail{Cursor: &page.Cursor, FileID: page.FileID}, func() (*wire.LogsPage, error) {
			return s.files(func(l *store.LogFile) (store.Tail, error) {
				return l.Follow(page.FileID, page.Cursor, store.MaxTailLines, store.MaxTailBytes)
			})
		})
		if err == nil && (len(next.Lines) > 0 || next.Truncated || next.More) {
			return next, nil
		} else if err == nil {
			page = next
		}
	}
}

// ask makes a request of the gateway, or reads the files while it is down.
func (s *logSource) ask(ctx context.Context, in *wire.LogsTail, files func() (*wire.LogsPage, error)) (*wire.LogsPage, error) {
	if s.link == nil {
		ep, err := discover(s.e, s.a)
		if err != nil {
			return nil, err
		}
		if s.link, err = ep.dial(ctx, s.e, s.a, nil); err != nil {
			s.link = nil
			if ep.own && unreachable(err) {
				return files()
			}
			return nil, err
		}
	}
	in.Limit, in.MaxBytes = store.MaxTailLines, store.MaxTailBytes
	if queue := s.link.hello.Policy.MaxBufferedBytes; queue >= 64<<10 { // what is longer than its queue it cannot send
		in.MaxBytes = int(min(store.MaxTailBytes, queue/4))
	}
	page := new(wire.LogsPage)
	_, err := s.link.ask(ctx, "logs.tail", in, page)
	if unreachable(err) {
		s.close()
	}
	return page, err
}

// files reads the log of this profile from the disk.
func (s *logSource) files(read func(*store.LogFile) (store.Tail, error)) (*wire.LogsPage, error) {
	t, err := readLog(s.e.paths, s.e.config(s.e.paths), read)
	page := wire.LogsPage(t)
	return &page, err
}

// logPath is where the log is.
func logPath(p config.Paths, c *config.Config) string {
	if c != nil && c.Logging.File != "" {
		return p.Expand(c.Logging.File)
	}
	return filepath.Join(p.StateDir, "logs", "gateway.log")
}

func readLog(p config.Paths, c *config.Config, read func(*store.LogFile) (store.Tail, error)) (store.Tail, error) {
	var l *store.LogFile
	if c != nil && c.Logging.File != "" {
		file, err := store.ReadLogFile(logPath(p, c))
		if err != nil {
			return store.Tail{}, err
		}
		l = file
	} else {
		d, err := openState(p)
		if err != nil {
			return store.Tail{}, err
		}
		defer d.Close()
		if l, err = d.OpenLog(0, 0); err != nil {
			return store.Tail{}, err
		}
	}
	defer l.Close()
	return read(l)
}

// lastError returns the newest error since a start (Unix milliseconds), or
// without one since the last start that the log tells of. A refused reload is no
// error any more once another one was not refused.
func lastError(p config.Paths, c *config.Config, since int64) *logLine {
	mended := false
	t, err := readLog(p, c, func(l *store.LogFile) (store.Tail, error) {
		return l.Last(1, store.MaxTailBytes, func(line string) (take, stop bool) {
			reload := strings.Contains(line, `"msg":"config reload `)
			switch {
			case !strings.Contains(line, `"level":"ERROR"`):
				mended = mended || reload
				return false, since == 0 && strings.Contains(line, `"msg":"listening on `)
			case reload && mended:
				return false, false
			}
			stop = since > 0 && parseLogLine(line).Time.UnixMilli() < since
			return !stop, stop
		})
	})
	if err != nil || len(t.Lines) == 0 {
		return nil
	}
	return parseLogLine(t.Lines[0])
}

// logLine is one line of the log, as far as every line has it.
type logLine struct {
	Time  time.Time `json:"time"`
	Level string    `json:"level"`
	Msg   string    `json:"msg"`
	attrs []string  // key=value, sorted
}

func (l *logLine) String() string {
	return l.Time.Local().Format(time.DateTime) + " " + l.Msg + " " + strings.Join(l.attrs, " ")
}

// parseLogLine reads a line of the log. One that is not JSON, such as a stack
// of the runtime's, is all message.
func parseLogLine(line string) *logLine {
	var members map[string]wire.Raw
	l := &logLine{}
	if wire.DecodeLoose([]byte(line), &members) != nil {
		l.Msg = line
		return l
	}
	for _, key := range slices.Sorted(maps.Keys(members)) {
		text := string(members[key])
		var s string
		if wire.DecodeLoose(members[key], &s) == nil {
			text = s
		}
		switch key {
		case "time":
			l.Time, _ = time.Parse(time.RFC3339Nano, text)
		case "level":
			l.Level = strings.ToUpper(text)
		case "msg":
			l.Msg = text
		default:
			if strings.ContainsAny(text, " \t\"") {
				text = strconv.Quote(text)
			}
			l.attrs = append(l.attrs, key+"="+text)
		}
	}
	return l
}

// logFilter chooses lines and prints them.
type logFilter struct {
	level string // the least, "" = all
	text  string // that the line holds, in lower case
	since time.Time
	utc   bool
}

func (f *logFilter) match(line string) bool {
	if f.text != "" && !strings.Contains(strings.ToLower(line), f.text) {
		return false
	}
	if f.level == "" && f.since.IsZero() {
		return true
	}
	l := parseLogLine(line)
	if f.level != "" && rank(l.Level) < rank(strings.ToUpper(f.level)) {
		return false
	}
	return l.Time.IsZero() || !l.Time.Before(f.since)
}

// search is match on the way back, and reports whether the line is so old that
// none before it can match: a count of repeated lines may be a little out of order.
func (f *logFilter) search(line string) (take, stop bool) {
	if take = f.match(line); take || f.since.IsZero() {
		return take, false
	}
	at := parseLogLine(line).Time
	return false, !at.IsZero() && at.Before(f.since.Add(-time.Minute))
}

// rank orders levels; a line without one, such as a stack, belongs to the gravest.
func rank(level string) int {
	i := slices.Index([]string{"DEBUG", "INFO", "WARN", "ERROR"}, level)
	if i < 0 && level == "" {
		return 4
	}
	return i
}

// print writes one line, as JSON or for a person.
func (f *logFilter) print(e *Env, line string) error {
	l := parseLogLine(line)
	if e.JSON {
		if l.Level == "" {
			line = `{"msg":` + string(wire.AppendString(nil, line)) + "}"
		}
		return e.printf("%s\n", escapeJSON([]byte(line)))
	}
	when := l.Time.Local()
	if f.utc {
		when = l.Time.UTC()
	}
	if l.Level == "" {
		return e.printf("%s\n", oneLine(line))
	}
	level := fmt.Sprintf("%-5s", l.Level)
	switch l.Level {
	case "ERROR":
		level = e.paint(e.OutTTY, red, level)
	case "WARN":
		level = e.paint(e.OutTTY, bold, level)
	}
	rest := strings.TrimRight(l.Msg+" "+strings.Join(l.attrs, " "), " ")
	return e.printf("%s %s %s\n", when.Format("2006-01-02 15:04:05.000"), level, oneLine(rest))
}
