package svc

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"openclaw/gateway/store"
	"openclaw/reload/config"
	"openclaw/wire"
)

const followInterval = time.Second

// logs prints the gateway's log: over the wire from a gateway that runs, else
// from the file. Both count positions in the same bytes, so following survives
// the gateway's stop and start.
func logs(ctx context.Context, e *Env, a *Args) error {
	last, err := a.Int("last", 200, 1, store.MaxTailLines)
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

	ticks := time.NewTicker(followInterval)
	defer ticks.Stop()
	for cursor := int64(-1); ; {
		page, err := src.tail(ctx, cursor)
		switch {
		case err == nil:
			lines := slices.DeleteFunc(page.Lines, func(line string) bool { return !f.match(line) })
			if cursor < 0 {
				lines = lines[max(0, len(lines)-last):]
			}
			for _, line := range lines {
				if err := f.print(e, line); err != nil {
					return err
				}
			}
			if page.Truncated && cursor >= 0 {
				e.Warn("more was logged than could be followed: lines are missing here")
			}
			cursor = page.Cursor
		case cursor < 0:
			return err // else the gateway is on its way down or up
		}
		if !a.Has("follow") {
			return nil
		}
		select {
		case <-ctx.Done():
			return nil // how following ends
		case <-ticks.C:
		}
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
	}
}

// tail returns what follows the cursor; the end of the log for a negative one.
func (s *logSource) tail(ctx context.Context, cursor int64) (*wire.LogsPage, error) {
	if s.link == nil {
		ep, err := discover(s.e, s.a)
		if err != nil {
			return nil, err
		}
		if s.link, err = ep.dial(ctx, s.e, s.a, nil); err != nil {
			if ep.own && unreachable(err) {
				return tailFile(s.e, cursor)
			}
			return nil, err
		}
	}
	in := &wire.LogsTail{Limit: store.MaxTailLines, MaxBytes: store.MaxTailBytes}
	if cursor >= 0 {
		in.Cursor = &cursor
	}
	page := new(wire.LogsPage)
	_, err := s.link.ask(ctx, "logs.tail", in, page)
	if unreachable(err) {
		s.close()
		s.link = nil
	}
	return page, err
}

// tailFile reads the log of this profile from the disk.
func tailFile(e *Env, cursor int64) (*wire.LogsPage, error) {
	t, err := readLog(e.paths, e.config(e.paths), cursor)
	page := wire.LogsPage(t)
	return &page, err
}

func readLog(p config.Paths, c *config.Config, cursor int64) (store.Tail, error) {
	var l *store.LogFile
	if c != nil && c.Logging.File != "" {
		file, err := store.OpenLogFile(p.Expand(c.Logging.File), 0, 1<<30)
		if err != nil {
			return store.Tail{}, err
		}
		l = file
	} else {
		d, err := store.OpenRead(p.StateDir)
		if err != nil {
			return store.Tail{}, err
		}
		defer d.Close()
		if l, err = d.OpenLog(0, 0); err != nil {
			return store.Tail{}, err
		}
	}
	defer l.Close()
	return l.Tail(cursor, store.MaxTailLines, store.MaxTailBytes)
}

// lastError returns the newest error in the end of the log, if any.
func lastError(p config.Paths) *logLine {
	t, err := readLog(p, nil, -1)
	if err != nil {
		return nil
	}
	for _, line := range slices.Backward(t.Lines) {
		if strings.Contains(line, "ERROR") {
			if l := parseLogLine(line); l.Level == "ERROR" {
				return l
			}
		}
	}
	return nil
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
