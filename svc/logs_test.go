package svc

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"openclaw/gateway/store"
	"openclaw/wire"
)

// openLog opens the log of a console's profile, as its gateway does.
func (c *console) openLog(t *testing.T, maxSize int64, maxFiles int) (l *store.LogFile, shut func()) {
	t.Helper()
	d, err := store.Open(filepath.Join(c.Home, ".openclaw"))
	if err != nil {
		t.Fatal(err)
	}
	l, err = d.OpenLog(maxSize, maxFiles)
	if err != nil {
		t.Fatal(err)
	}
	return l, func() { l.Close(); d.Close() }
}

// logGateway is a gateway whose answers may be as long as pages of the log are.
func logGateway(t *testing.T, tail func(in wire.LogsTail) (store.Tail, error)) *fakeGateway {
	g := &fakeGateway{token: make(chan string, 16)}
	g.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn, err := wire.Accept(w, r, wire.Options{MaxQueued: 16 << 20})
		if err != nil {
			t.Error(err)
			return
		}
		go g.serve(conn, func(req wire.Request, send func([]byte)) {
			var in wire.LogsTail
			wire.DecodeLoose(req.Params, &in)
			page, err := tail(in)
			if err != nil {
				t.Error(err)
			}
			raw, err := wire.Marshal(wire.LogsPage(page))
			if err != nil {
				t.Error(err)
			}
			send(wire.AppendResponse(nil, req.ID, raw))
		})
	}))
	t.Cleanup(g.Close)
	return g
}

func logLineOf(level string, n int) string {
	return fmt.Sprintf(`{"time":"2026-01-02T03:04:05.%09dZ","level":%q,"msg":"line %d"}`, n, level, n)
}

// messages are the numbers in what logs --format json printed.
func (c *console) messages(t *testing.T) (numbers []int) {
	t.Helper()
	for line := range strings.Lines(c.out.String()) {
		var n int
		if _, err := fmt.Sscanf(parseLogLine(strings.TrimSpace(line)).Msg, "line %d", &n); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		numbers = append(numbers, n)
	}
	return numbers
}

func upTo(from, to int) (numbers []int) {
	for n := from; n < to; n++ {
		numbers = append(numbers, n)
	}
	return numbers
}

// TestLogsLast shows as many lines as were asked for, from whatever files they are in.
func TestLogsLast(t *testing.T) {
	c := newConsole(t)
	c.vars["OPENCLAW_GATEWAY_PORT"] = "1" // where nobody listens
	l, shut := c.openLog(t, 64<<10, 100)
	defer shut()
	const lines = 15_000 // 1.2 MB in 18 files
	for n := range lines {
		level := "INFO"
		if n%1_250 == 0 {
			level = "ERROR"
		}
		l.Write([]byte(logLineOf(level, n)))
	}
	for _, test := range []struct {
		flags string
		want  []int
	}{
		{"--last 2", upTo(lines-2, lines)},
		{"--last 3000", upTo(lines-3000, lines)},
		{"--last 1000 --level error", []int{0, 1250, 2500, 3750, 5000, 6250, 7500, 8750, 10000, 11250, 12500, 13750}},
		{"--last 2 --level error", []int{12500, 13750}},
		{"--filter LINE\\u0020100", nil},
	} {
		if code := c.main(append([]string{"logs", "--format", "json"}, strings.Fields(test.flags)...)...); code != 0 {
			t.Fatalf("%s: exit %d: %s", test.flags, code, c.err.String())
		}
		if got := c.messages(t); !slices.Equal(got, test.want) || c.err.Len() > 0 {
			t.Errorf("%s: %d lines %v; %s", test.flags, len(got), got[:min(len(got), 20)], c.err.String())
		}
	}
}

// TestLogsOnlyWhatComes begins to follow behind the last line.
func TestLogsOnlyWhatComes(t *testing.T) {
	c := newConsole(t)
	c.vars["OPENCLAW_GATEWAY_PORT"] = "1" // where nobody listens
	l, shut := c.openLog(t, 64<<10, 1)
	defer shut()
	line := logLineOf("INFO", 1)
	l.Write([]byte(line))
	_, a, err := parse(c.Env, commands(), []string{"logs", "--follow", "-n", "0"})
	if err != nil {
		t.Fatal(err)
	}
	page, err := (&logSource{e: c.Env, a: a}).last(t.Context(), 0, &logFilter{})
	if err != nil || len(page.Lines) != 0 || page.Cursor < int64(len(line)) || c.err.Len() > 0 {
		t.Errorf("%+v, %v, %s", page, err, c.err.String())
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if Main(ctx, c.Env, []string{"logs", "--follow", "-n", "0"}); strings.Contains(c.err.String(), "is not a number") {
		t.Error(c.err.String())
	}
	if code := c.main("logs", "-n", "0"); code != ExitUsage {
		t.Errorf("none, and no more: exit %d", code)
	}
}

// TestLogsLastBehindOnePage looks further back than a gateway's page, if that is
// here, and says so if it is not.
func TestLogsLastBehindOnePage(t *testing.T) {
	c := newConsole(t)
	c.vars["OPENCLAW_GATEWAY_TOKEN"] = "right"
	l, shut := c.openLog(t, 0, 1)
	defer shut()
	for n := range 8_000 {
		level := "INFO"
		if n%500 == 0 {
			level = "ERROR"
		}
		l.Write([]byte(logLineOf(level, n)))
	}
	g := logGateway(t, func(in wire.LogsTail) (store.Tail, error) { return l.Tail(-1, in.Limit, int64(in.MaxBytes)) })
	for _, test := range []struct {
		where  []string
		last   string
		first  int
		warned bool
	}{
		{[]string{"--url", g.url()}, "10", 3000, false},
		{[]string{"--url", g.url()}, "11", 3000, true}, // of somewhere else
		{nil, "11", 2500, false},
		{nil, "1000", 0, false},
	} {
		c.vars["OPENCLAW_GATEWAY_PORT"] = g.port()
		if code := c.main(append([]string{"logs", "--format", "json", "--level", "error", "--last", test.last}, test.where...)...); code != 0 {
			t.Fatalf("exit %d: %s", code, c.err.String())
		}
		got := c.messages(t)
		if len(got) == 0 || got[0] != test.first || len(got) != (8000-test.first)/500 || strings.Contains(c.err.String(), "not searched") != test.warned {
			t.Errorf("%v --last %s: %v; %s", test.where, test.last, got, c.err.String())
		}
	}
}

// TestLogsFollowRotations follows files through rotations of which many happen
// between two looks, through stops and torn lines, and tells a gap once.
func TestLogsFollowRotations(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newConsole(t)
		c.vars["OPENCLAW_GATEWAY_PORT"] = "1"
		if err := os.MkdirAll(filepath.Join(c.Home, ".openclaw"), 0o700); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan int)
		go func() { done <- Main(ctx, c.Env, []string{"logs", "--follow", "--format", "json"}) }()
		synctest.Wait() // before there is any log
		next := 0
		log := func(l *store.LogFile, n int) {
			for range n {
				l.Write([]byte(logLineOf("INFO", next)))
				next++
			}
		}
		time.Sleep(followInterval / 2)
		for round := range 5 {
			l, shut := c.openLog(t, 1000, 200)
			log(l, 100*round)
			shut()
			f, err := os.OpenFile(l.Path(), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
			if err != nil {
				t.Fatal(err)
			}
			fmt.Fprint(f, logLineOf("INFO", next)[:30]) // killed
			f.Close()
			time.Sleep(followInterval)
			if round%2 == 0 {
				l, shut := c.openLog(t, 1000, 200)
				log(l, 100)
				shut()
			}
		}
		time.Sleep(followInterval)
		synctest.Wait()
		if got := c.messages(t); !slices.Equal(got, upTo(0, next)) {
			t.Errorf("%d lines of %d", len(got), next)
		}
		if c.err.Len() > 0 {
			t.Error(c.err.String())
		}
		l, shut := c.openLog(t, 1000, 2)
		defer shut()
		log(l, 1000)
		time.Sleep(3 * followInterval)
		synctest.Wait()
		if n := strings.Count(c.err.String(), "lines are missing here"); n != 1 {
			t.Errorf("a gap was told %d times: %s", n, c.err.String())
		}
		got := c.messages(t)
		if got[len(got)-1] != next-1 || len(got) >= next {
			t.Errorf("%d lines, the last %d, of %d", len(got), got[len(got)-1], next)
		}
		cancel()
		if code := <-done; code != 0 {
			t.Errorf("exit %d", code)
		}
	})
}

// TestLogsFollowDoesNotWaitForMore asks again at once while there is more.
func TestLogsFollowDoesNotWaitForMore(t *testing.T) {
	c := newConsole(t)
	c.vars["OPENCLAW_GATEWAY_TOKEN"] = "right"
	l, shut := c.openLog(t, 64<<10, 100)
	defer shut()
	const lines, page = 5_000, 200
	pages, shown := 0, 0
	g := logGateway(t, func(in wire.LogsTail) (store.Tail, error) {
		if in.Cursor != nil {
			pages++
			return l.Follow(in.FileID, *in.Cursor, page, int64(in.MaxBytes))
		}
		l.Write([]byte(logLineOf("INFO", 0)))
		first, err := l.Tail(-1, in.Limit, int64(in.MaxBytes))
		for n := 1; n < lines; n++ {
			l.Write([]byte(logLineOf("INFO", n)))
		}
		return first, err
	})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	c.Stdout = writerFunc(func(b []byte) (int, error) {
		if shown += strings.Count(string(b), "\n"); shown == lines {
			cancel()
		}
		return c.out.Write(b)
	})
	at := time.Now()
	if code := Main(ctx, c.Env, []string{"logs", "--url", g.url(), "--follow", "--format", "json"}); code != 0 {
		t.Errorf("exit %d: %s", code, c.err.String())
	}
	if got := c.messages(t); !slices.Equal(got, upTo(0, lines)) || pages < lines/page || time.Since(at) > lines/page/2*followInterval {
		t.Errorf("%d lines of %d in %d pages, %v", len(got), lines, pages, time.Since(at))
	}
}
