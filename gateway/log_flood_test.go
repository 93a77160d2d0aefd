package gateway

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"openclaw/gateway/store"
	"openclaw/reload/config"
	"openclaw/wire"
)

// counted sums what lines of the log stand for, and names the ones that count.
func counted(t *testing.T, lines string) (total, written int, counts map[string]int) {
	t.Helper()
	counts = map[string]int{}
	for line := range strings.Lines(lines) {
		var l struct {
			Msg               string
			Repeated, Dropped int
		}
		if err := json.Unmarshal([]byte(line), &l); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		if n := l.Repeated + l.Dropped; n > 0 {
			total += n
			counts[l.Msg] += n
		} else {
			total++
		}
		written++
	}
	return total, written, counts
}

// TestLogFlood logs as fast as it can: one line, one message with attributes
// that never repeat, and messages that never repeat. The files stay within
// their bounds, and what was left out was counted.
func TestLogFlood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // on a slow machine it would last for more than one window
		o, buf := newTestLog(t, tokenConfig, nil)
		path := filepath.Join(t.TempDir(), "flood.log")
		o.open = func() (*store.LogFile, error) { return store.OpenLogFile(path, 64<<10, 3) }
		log := slog.New(o.handler()).With("sub", "flood")
		const each, messages = 50_000, 5_000
		err := errors.New("connection refused")
		var wg sync.WaitGroup
		for w := range 2 {
			wg.Go(func() {
				for i := range each {
					log.Error("provider failed", "err", err, "attempt", 3)
					log.Warn("request failed", "req", w*each+i, "err", err)
					if i < messages {
						log.Info(fmt.Sprint("client says ", w, " ", i))
					}
				}
			})
		}
		wg.Wait()
		if len(o.repeats.lines) > maxRepeats || len(o.repeats.messages) > maxMessages+1 {
			t.Errorf("%d lines and %d messages are remembered", len(o.repeats.lines), len(o.repeats.messages))
		}
		o.close()
		total, written, counts := counted(t, buf.String())
		if want := 2 * (2*each + messages); total != want {
			t.Errorf("%d lines are accounted for, of %d: %v", total, want, counts)
		}
		if counts["provider failed"] < each || counts["request failed"] < each || counts["other lines"] == 0 || written > each {
			t.Errorf("%d lines written, counts %v", written, counts)
		}
		names, _ := filepath.Glob(path + "*")
		for _, name := range names {
			if fi, err := os.Stat(name); err != nil || fi.Size() > 64<<10 {
				t.Errorf("%s: %d, %v", name, fi.Size(), err)
			}
		}
		if len(names) != 4 || o.dropping() {
			t.Errorf("files %q, dropping %v", names, o.dropping())
		}
	})
}

// TestLogRateOfOneMessage lets so many lines of a message through in a window,
// however they differ, and others as if there were no flood.
func TestLogRateOfOneMessage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o, buf := newTestLog(t, tokenConfig, nil)
		log := slog.New(o.handler())
		for range 3 {
			for i := range 5000 {
				log.Error("flood", "n", i)
				log.Error("flood", "n", slog.AnyValue(never{t: t, ok: i < maxPerMessage}))
			}
			log.Error("other", "n", 1)
			time.Sleep(2 * repeatWindow)
			synctest.Wait()
		}
		o.close()
		total, written, counts := counted(t, buf.String())
		if total != 30_003 || counts["flood"] < 3*8999 || written > 3*(maxPerMessage+3) || strings.Count(buf.String(), `"other"`) != 3 {
			t.Errorf("%d lines, %d written, %v", total, written, counts)
		}
		if !strings.Contains(buf.String(), `"level":"ERROR","msg":"flood","dropped":`) {
			t.Error("not told what was dropped")
		}
	})
}

// never is a value that costs, and is not to be asked in a flood.
type never struct {
	t  *testing.T
	ok bool
}

func (n never) String() string {
	if !n.ok {
		n.t.Error("formatted for nothing")
	}
	return "costly"
}

// TestRepeatCostsNothing counts what a line that repeats allocates in the handler.
func TestRepeatCostsNothing(t *testing.T) {
	o, _ := newTestLog(t, tokenConfig, nil)
	h := o.handler().WithAttrs([]slog.Attr{slog.String("sub", "x")})
	r := slog.NewRecord(time.Now(), slog.LevelError, "again", 0)
	r.AddAttrs(slog.Any("err", fmt.Errorf("wrapped: %w", io.EOF)), slog.Int("n", 7), slog.Duration("dur", time.Second), slog.String("s", "text"))
	if n := testing.AllocsPerRun(1000, func() { h.Handle(t.Context(), r) }); n >= 1 {
		t.Errorf("%v allocations", n)
	}
}

// stuck is a stderr that blocks until it is read.
type stuck struct{ lines chan string }

func (s stuck) Write(p []byte) (int, error) {
	s.lines <- string(p)
	return len(p), nil
}

// TestStderrNobodyReads holds the gateway up once and briefly.
func TestStderrNobodyReads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o, _ := newTestLog(t, tokenConfig, nil)
		s := stuck{make(chan string)}
		o.stderr = &patientWriter{w: s, notice: o.notice}
		log := slog.New(o.handler())
		at := time.Now()
		for i := range 50 {
			log.Info("unread", "n", i)
		}
		if took := time.Since(at); took != stderrPatience {
			t.Errorf("held up for %v", took)
		}
		if first := <-s.lines; !strings.Contains(first, `"n":0}`) {
			t.Error(first)
		}
		synctest.Wait()
		go log.Info("read again")
		if next := <-s.lines; !strings.HasPrefix(next, `{"level":"WARN","msg":"stderr was not read","dropped":49}`+"\n{") || !strings.Contains(next, "read again") {
			t.Error(next)
		}
		synctest.Wait()
		o.close()
	})
}

// TestJournalIsOurStderr compares what JOURNAL_STREAM names with stderr.
func TestJournalIsOurStderr(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "stderr"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	fi, _ := f.Stat()
	st := fi.Sys().(*syscall.Stat_t)
	for stream, want := range map[string]bool{"": false, "8:1": false, fmt.Sprintf("%d:%d", st.Dev, st.Ino): true, fmt.Sprintf("%d:%d", st.Dev, st.Ino+1): false} {
		if got := isJournal(stream, f); got != want {
			t.Errorf("%q: %v", stream, got)
		}
	}
}

// TestLogFileChanges moves the log, and wants a file let go of on SIGHUP.
func TestLogFileChanges(t *testing.T) {
	dir := t.TempDir()
	use := func(file string) *config.Config {
		l, err := config.Parse("openclaw.json", fmt.Appendf(nil, `{gateway:{auth:{token:%q}},logging:{file:%q}}`, testToken, file), config.Source{})
		if err != nil {
			t.Fatal(err)
		}
		return l.Config
	}
	a, b := filepath.Join(dir, "a.log"), filepath.Join(dir, "b.log")
	g := &Gateway{opts: Options{Stderr: &syncBuffer{}, Env: func(string) (string, bool) { return "", false }}}
	o := newLogOutput(g)
	install := func(c *config.Config) {
		g.current.Store(&snapshot{cfg: c})
		o.configure(c)
	}
	log := slog.New(o.handler())
	for _, bad := range []string{dir, filepath.Join(dir, "missing", "x.log"), filepath.Join(dir, "link")} {
		os.Symlink("a.log", filepath.Join(dir, "link"))
		if err := o.check(use(bad)); err == nil || !strings.HasPrefix(err.Error(), "logging.file: ") {
			t.Errorf("%s: %v", bad, err)
		}
	}
	if err := o.check(use(a)); err != nil {
		t.Error(err)
	}
	install(use(a))
	log.Info("one")
	os.Rename(a, a+".moved")
	o.reopen()
	log.Info("two")
	install(use(b))
	log.Info("three")
	page, err := o.tail(&wire.LogsTail{})
	if err != nil || page.File != b || len(page.Lines) != 1 {
		t.Errorf("%+v %v", page, err)
	}
	install(use(filepath.Join(dir, "missing", "x.log")))
	log.Info("lost")
	if !o.dropping() {
		t.Error("a line was lost, and nobody told")
	}
	if err := o.check(use(filepath.Join(dir, "missing", "x.log"))); err != nil {
		t.Error("the file in use is judged:", err)
	}
	install(use(b))
	log.Info("four")
	o.close()
	for name, want := range map[string][]string{a + ".moved": {"one"}, a: {"two"}, b: {"three", "four"}} {
		data, _ := os.ReadFile(name)
		var got []string
		for line := range strings.Lines(string(data)) {
			var l struct{ Msg string }
			json.Unmarshal([]byte(line), &l)
			got = append(got, l.Msg)
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
}

// TestLogsTailFollows asks over the wire, as logs --follow does, through rotations.
func TestLogsTailFollows(t *testing.T) {
	r := start(t, testOptions(t, `{gateway:{auth:{token:"`+testToken+`"}},logging:{rotation:{maxSize:"64K",maxFiles:60}}}`))
	c := r.connect()
	ask := func(params string) (page wire.LogsPage) {
		var m struct{ Payload wire.LogsPage }
		if err := json.Unmarshal([]byte(r.call(c, "logs.tail", params)), &m); err != nil {
			t.Fatal(err)
		}
		return m.Payload
	}
	page := ask(`{"limit":1}`)
	const lines = 10_000
	go func() {
		for i := range lines {
			r.logs.write(logLine{r.logs.root, numberedRecord(i)})
		}
	}()
	for next := 0; next < lines; {
		page = ask(fmt.Sprintf(`{"cursor":%d,"fileId":%q,"limit":300}`, page.Cursor, page.FileID))
		if page.Reset || page.Truncated {
			t.Fatalf("lines are missing after %d", next)
		}
		for _, line := range page.Lines {
			if !strings.Contains(line, `"msg":"numbered"`) {
				continue
			}
			if !strings.HasSuffix(line, fmt.Sprintf(`"n":%d}`, next)) {
				t.Fatalf("%s, want %d", line, next)
			}
			next++
		}
	}
	if names, _ := filepath.Glob(page.File + ".*"); len(names) < 10 {
		t.Errorf("%d rotations", len(names))
	}
}

func numberedRecord(i int) slog.Record {
	r := slog.NewRecord(time.Now(), slog.LevelInfo, "numbered", 0)
	r.AddAttrs(slog.Int("n", i))
	return r
}

// BenchmarkLogFlood answers requests beside a flood of 100,000 lines a second
// from one repeating error, and without it, in turns. It reports what is left
// of the rate: the median of the rounds.
func BenchmarkLogFlood(b *testing.B) {
	r := start(b, testOptions(b, `{gateway:{auth:{token:"`+testToken+`"}}}`))
	const perSecond, round = 100_000, 400 * time.Millisecond
	clients := make([]*wire.Conn, 4)
	for i := range clients {
		clients[i] = r.connect()
	}
	requests := func() float64 {
		var wg sync.WaitGroup
		done := make([]int, len(clients))
		at := time.Now()
		for i, c := range clients {
			wg.Go(func() {
				for ; time.Since(at) < round; done[i]++ {
					r.call(c, "health", "{}")
				}
			})
		}
		wg.Wait()
		n := 0
		for _, d := range done {
			n += d
		}
		return float64(n) / time.Since(at).Seconds()
	}
	var ratios, rates, floods []float64
	flooded := func() float64 {
		stop, ended := make(chan struct{}), make(chan int)
		at := time.Now()
		go func() {
			tick := time.NewTicker(time.Millisecond)
			defer tick.Stop()
			n, err := 0, errors.New("dial tcp 127.0.0.1:443: connection refused")
			for {
				for ; n < int(time.Since(at).Seconds()*perSecond); n++ {
					r.log.Error("model call failed", "sub", "agent", "err", err, "attempt", 3)
				}
				select {
				case <-stop:
					ended <- n
					return
				case <-tick.C:
				}
			}
		}()
		rate := requests()
		close(stop)
		floods = append(floods, float64(<-ended)/time.Since(at).Seconds())
		return rate
	}
	requests() // warm
	b.ResetTimer()
	for i := range b.N {
		var with, without float64
		if i%2 == 0 {
			without, with = requests(), flooded()
		} else {
			with, without = flooded(), requests()
		}
		ratios, rates = append(ratios, with/without), append(rates, without)
	}
	b.StopTimer()
	median := func(v []float64) float64 { slices.Sort(v); return v[len(v)/2] }
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(median(rates), "requests/s")
	b.ReportMetric(median(floods), "lines/s")
	b.ReportMetric(median(ratios), "ratio")
}

// BenchmarkLogRepeat is what one line of a flood costs who logs it.
func BenchmarkLogRepeat(b *testing.B) {
	g := &Gateway{opts: Options{Stderr: io.Discard, Env: func(string) (string, bool) { return "", false }}}
	o := newLogOutput(g)
	o.open = func() (*store.LogFile, error) { return nil, errors.New("none") }
	defer o.close()
	log, err := slog.New(o.handler()), errors.New("dial tcp 127.0.0.1:443: connection refused")
	b.Run("same", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			log.Error("model call failed", "err", err, "attempt", 3)
		}
	})
	b.Run("varying", func(b *testing.B) {
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			log.Error("request failed", "err", err, "attempt", i)
		}
	})
}
