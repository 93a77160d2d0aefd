package gateway

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/slogtest"
	"testing/synctest"
	"time"

	"openclaw/gateway/store"
	"openclaw/reload/config"
)

func newTestLog(t *testing.T, text string, env map[string]string) (*logOutput, *syncBuffer) {
	t.Helper()
	l, err := config.Parse("openclaw.json", []byte(text), config.Source{})
	if err != nil {
		t.Fatal(err)
	}
	buf := &syncBuffer{}
	g := &Gateway{opts: Options{Stderr: buf, Env: func(k string) (string, bool) { v, ok := env[k]; return v, ok }}}
	o := newLogOutput(g)
	o.open = func() (*store.LogFile, error) { return nil, errors.New("none") }
	o.mask(l.Config, "cli-key-0123456789")
	o.configure(l.Config)
	return o, buf
}

func TestLogHandler(t *testing.T) {
	var buf *syncBuffer
	slogtest.Run(t, func(t *testing.T) slog.Handler {
		var o *logOutput
		o, buf = newTestLog(t, tokenConfig, nil)
		return o.handler()
	}, func(t *testing.T) map[string]any {
		var m map[string]any
		if err := json.Unmarshal([]byte(buf.String()), &m); err != nil {
			t.Fatal(err)
		}
		return m
	})
}

// TestLogRedaction masks secrets by type, by key and by content, in every form.
func TestLogRedaction(t *testing.T) {
	text := `{gateway:{auth:{token:"` + testToken + `"}},models:{providers:{p:{baseUrl:"http://127.0.0.1:1/v1",apiKey:"sk-canary-0123456789",headers:{"X-Key":"header-canary-99"},models:[{id:"m"}]}}}}`
	for _, format := range []string{"json", "text"} {
		o, buf := newTestLog(t, strings.Replace(text, "{gateway", `{logging:{format:"`+format+`"},gateway`, 1), nil)
		log := slog.New(o.handler()).With("addr", "http://x/?k=sk-canary-0123456789")
		log.Info("message with "+testToken, "err", errors.New("bad "+testToken), "a", config.NewSecret("sk-other-secret"),
			slog.Group("g", "v", "header-canary-99"), "any", struct{ K string }{"cli-key-0123456789"},
			"token", "short", "Authorization", "Bearer zzz", "apiKey", "yyy", "dur", time.Second, "bytes", 7)
		got := buf.String()
		for _, secret := range []string{testToken, "sk-canary", "header-canary", "cli-key", "sk-other", "short", "zzz", "yyy"} {
			if strings.Contains(got, secret) {
				t.Errorf("%s: %q in %s", format, secret, got)
			}
		}
		if !strings.Contains(got, "bytes") || !strings.Contains(got, "message with [redacted]") {
			t.Errorf("%s: %s", format, got)
		}
	}
}

// TestLogInjection writes one line per record, whatever is in it.
func TestLogInjection(t *testing.T) {
	for _, format := range []string{"json", "text"} {
		o, buf := newTestLog(t, `{logging:{format:"`+format+`"},gateway:{auth:{token:"`+testToken+`"}}}`, nil)
		evil := "a\nb\x1b[31m\u009b2J\u202e\u200b\u2028\u2029\x00\xff\x7f\U000e0001"
		slog.New(o.handler()).Info("x", "err", evil, "k\u202e\n", "v", "long", strings.Repeat("ü", 1000), "stack", strings.Repeat("s", 1000))
		got := buf.String()
		if strings.Count(got, "\n") != 1 {
			t.Errorf("%s: %d lines", format, strings.Count(got, "\n"))
		}
		for _, r := range strings.TrimSuffix(got, "\n") {
			if hidden(r) || r == '\n' {
				t.Errorf("%s: %U in %q", format, r, got)
			}
		}
		if strings.Count(got, "ü") > maxLogValue/2 || strings.Count(got, "s") < 1000 {
			t.Errorf("%s: %s", format, got)
		}
	}
}

// TestLogRepeats counts what repeats instead of writing it.
func TestLogRepeats(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o, buf := newTestLog(t, tokenConfig, nil)
		log := slog.New(o.handler())
		for i := range 1000 {
			log.Warn("again", "err", "same")
			log.Warn("other", "n", i%2)
		}
		if n := strings.Count(buf.String(), "\n"); n != 3 {
			t.Fatalf("%d lines at once", n)
		}
		time.Sleep(2 * repeatWindow)
		synctest.Wait()
		got := buf.String()
		if n := strings.Count(got, "\n"); n != 6 || !strings.Contains(got, `"repeated":999`) || strings.Count(got, `"repeated":499`) != 2 {
			t.Fatalf("later: %s", got)
		}
		log.Warn("again", "err", "same")
		o.close()
		if n := strings.Count(buf.String(), "\n"); n != 7 {
			t.Errorf("%d lines in the end", n)
		}
	})
}

func TestLogJournal(t *testing.T) {
	o, buf := newTestLog(t, tokenConfig, map[string]string{"JOURNAL_STREAM": "8:1"})
	log := slog.New(o.handler())
	log.Error("bad")
	log.Info("fine")
	log.Debug("unseen")
	got := buf.String()
	if !strings.HasPrefix(got, `<3>{"level":"ERROR","msg":"bad"}`) || !strings.Contains(got, "\n<6>{") || strings.Contains(got, "unseen") {
		t.Errorf("%s", got)
	}
}

// TestLogJournalStream believes JOURNAL_STREAM of the very file that it names.
func TestLogJournalStream(t *testing.T) {
	stderr, err := os.Create(filepath.Join(t.TempDir(), "stderr"))
	if err != nil {
		t.Fatal(err)
	}
	defer stderr.Close()
	fi, err := stderr.Stat()
	if err != nil {
		t.Fatal(err)
	}
	st := fi.Sys().(*syscall.Stat_t)
	for stream, want := range map[string]string{
		fmt.Sprintf("%d:%d", st.Dev, st.Ino):   "<4>{\"level\":\"WARN\",\"msg\":\"m\"}\n<3>openclaw: f\n",
		fmt.Sprintf("%d:%d", st.Dev, st.Ino+1): "openclaw: f\n",
		"":                                     "openclaw: f\n",
	} {
		if err := stderr.Truncate(0); err != nil {
			t.Fatal(err)
		}
		stderr.Seek(0, 0)
		env := map[string]string{"JOURNAL_STREAM": stream}
		o, _ := newTestLog(t, tokenConfig, env)
		o.stderr, o.journal = stderr, isJournal(stream, stderr)
		o.root = o.handler()
		slog.New(o.root).Warn("m")
		fmt.Fprintf(ErrorLines(stderr, func(k string) (string, bool) { v, ok := env[k]; return v, ok }), "openclaw: %s\n", "f")
		got, err := os.ReadFile(stderr.Name())
		if _, rest, ok := strings.Cut(string(got), "}\n"); ok && !strings.HasPrefix(want, "<") && strings.HasPrefix(string(got), `{"time":`) {
			got = []byte(rest)
		}
		if err != nil || string(got) != want {
			t.Errorf("%q: %s, %v", stream, got, err)
		}
	}
}

// TestLogFile writes JSON to the state directory, as logs.tail reads it.
func TestLogFile(t *testing.T) {
	o := testOptions(t, "")
	r := start(t, o)
	name := filepath.Join(o.Paths.StateDir, "logs", "gateway.log")
	raw, err := os.ReadFile(name)
	if err != nil || !bytes.Contains(raw, []byte(`"msg":"listening on ws://`)) {
		t.Fatalf("%v: %s", err, raw)
	}
	if fi, _ := os.Stat(name); fi.Mode().Perm() != 0o600 {
		t.Errorf("mode %v", fi.Mode())
	}
	if msg := r.call(r.connect(), "logs.tail", `{"limit":1}`); !strings.Contains(msg, `"lines":["{\"time\":`) {
		t.Error(msg)
	}
}
