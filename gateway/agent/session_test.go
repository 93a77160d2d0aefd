package agent

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"

	"openclaw/gateway/store"
	"openclaw/reload/config"
)

// Turns that waited when the process died are in the conversation afterwards,
// once, and answered turns are not repeated.
func TestRestartWithWaitingTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate()
		h := newHouse(t, g)
		h.start(userTurn("main", "one"))
		<-g.entered
		h.start(userTurn("main", "two"))
		h.start(userTurn("main", "three"))
		crashed := stateDir(t)
		if err := os.CopyFS(crashed, os.DirFS(h.path)); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(crashed, 0o700); err != nil {
			t.Fatal(err)
		}
		close(g.open)

		after := openHouse(t, crashed, answering(func(r *modelRequest) string { return fmt.Sprint(len(r.Messages)) }), nil)
		equal(t, "history", after.said("main"), "u: one\nu: two\nu: three")
		equal(t, "next", after.say("main", "four").Text, "4")
		want := "u: one\nu: two\nu: three\nu: four\na: 4"
		equal(t, "history", after.said("main"), want)
		equal(t, "file", kinds(after.lines("main")), "session user queued-turn queued-turn user user user assistant")
		after.close()
		equal(t, "history", openHouse(t, crashed, nil, nil).said("main"), want)
	})
}

// childTurns runs turns in several sessions at once and prints the text of
// each when it was accepted, until it is killed.
func childTurns(path string) {
	dir, err := store.Open(path)
	if err != nil {
		fmt.Println("error", err)
		return
	}
	cfg := config.Default()
	a := New(Options{Dir: dir, Config: func() *config.Config { return cfg }, Log: slog.New(slog.DiscardHandler)})
	var mu sync.Mutex
	var wg sync.WaitGroup
	for speaker := range 8 {
		wg.Go(func() {
			for n := 0; ; n++ {
				text := fmt.Sprintf("%s-%d-%d", os.Getenv("AGENT_TEST_ROUND"), speaker, n)
				run, err := a.Start(context.Background(), userTurn(fmt.Sprint("s", speaker%3), text))
				mu.Lock()
				if err == nil {
					fmt.Println(text)
				} else {
					fmt.Println("error", err)
				}
				mu.Unlock()
				if n%3 == 0 {
					<-run.Done()
				}
			}
		})
	}
	wg.Wait()
}

func TestKilled(t *testing.T) {
	path := stateDir(t)
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	var acked []string
	const rounds = 32
	for round := range rounds {
		cmd := exec.Command(exe)
		cmd.Env = append(os.Environ(), "AGENT_TEST_CHILD=turns", "AGENT_TEST_DIR="+path, fmt.Sprint("AGENT_TEST_ROUND=", round))
		cmd.Stderr = t.Output()
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		for n := 1 + rand.N(30); lines.Scan(); n-- {
			if strings.HasPrefix(lines.Text(), "error") {
				t.Error(lines.Text())
			}
			acked = append(acked, lines.Text())
			if n == 1 {
				cmd.Process.Kill()
			}
		}
		cmd.Wait()
	}
	h := openHouse(t, path, nil, nil)
	found := map[string]int{}
	for s := range 3 {
		key := fmt.Sprint("s", s)
		h.lines(key) // each is JSON
		history, err := h.History(key, 1<<30, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range history.Messages {
			if r.Message.Role == store.RoleUser {
				found[r.Message.Content.String()]++
			}
		}
	}
	for _, text := range acked {
		if found[text] != 1 {
			t.Errorf("%s was acknowledged and is there %d times", text, found[text])
		}
	}
	if len(acked) < rounds {
		t.Errorf("only %d turns were acknowledged", len(acked))
	}
}

// childLimited lets files grow only so far, and says how turns fare.
func childLimited(path string) {
	signal.Ignore(syscall.SIGXFSZ)
	dir, err := store.Open(path)
	if err != nil {
		fmt.Println(err)
		return
	}
	cfg := config.Default()
	cfg.Gateway.Limits.MaxQueuedTurns = 100
	a := New(Options{Dir: dir, Config: func() *config.Config { return cfg }, Log: slog.New(slog.DiscardHandler)})
	a.models.clients[config.APIBuiltin] = answering(func(r *modelRequest) string { return strings.Repeat("y", len(lastSaid(r))) })
	limit := func(bytes int64) {
		var l syscall.Rlimit
		syscall.Getrlimit(syscall.RLIMIT_FSIZE, &l)
		if l.Cur = l.Max; bytes > 0 {
			setLimit(&l.Cur, bytes)
		}
		if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &l); err != nil {
			fmt.Println(err)
		}
	}
	say := func(n int) {
		run, err := a.Start(context.Background(), userTurn("main", strings.Repeat("x", n)))
		if err != nil {
			fmt.Printf("refused no-space=%t\n", isNoSpace(err))
			return
		}
		<-run.Done()
		res := run.Result()
		fmt.Printf("%s %s no-space=%t stored=%t text=%d\n", res.Status, res.StopReason, isNoSpace(res.Err), res.Message != nil, len(res.Text))
	}
	say(10)
	limit(16 << 10)
	say(20 << 10) // no room for the question
	say(10 << 10) // nor for the answer
	say(8 << 10)
	limit(0)
	say(9)
	dir.Close()
}

func TestNoSpace(t *testing.T) {
	path := stateDir(t)
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), "AGENT_TEST_CHILD=limited", "AGENT_TEST_DIR="+path)
	out, err := cmd.CombinedOutput()
	equal(t, "child", fmt.Sprintf("%s%v", out, err), `ok stop no-space=false stored=true text=10
refused no-space=true
error error no-space=true stored=false text=10240
refused no-space=true
ok stop no-space=false stored=true text=9
<nil>`)
	h := openHouse(t, path, nil, nil)
	var sizes []string
	for _, l := range strings.Split(h.said("main"), "\n") {
		sizes = append(sizes, fmt.Sprint(l[:1], len(l)-3))
	}
	equal(t, "history", sizes, "[u10 a10 u10240 u9 a9]")
	equal(t, "file", kinds(h.lines("main")), "session user assistant user user assistant")
}

// A first message that cannot be stored leaves no session behind.
func TestNoSessionOfNothing(t *testing.T) {
	h := newHouse(t, answering(reTo))
	h.say("other", "x")
	sessions := filepath.Join(h.path, "agents", "main", "sessions")
	// What stands in the transcript's place cannot be known before, so make
	// every new file impossible.
	if err := os.Rename(sessions, sessions+".away"); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(sessions + ".away"); err != nil {
		t.Fatal(err)
	}
	if _, err := h.Start(t.Context(), userTurn("main", "x")); err == nil {
		t.Fatal("accepted")
	}
	rows, _, err := h.List(Query{})
	if err != nil || len(rows) != 1 {
		t.Error(rows, err)
	}
	if h.active != 0 || len(h.running("")) > 0 {
		t.Error("a place was not given back")
	}
}

// What another program wrote is understood: a summary stands for what came
// before it, other lines are passed over.
func TestForeignTranscript(t *testing.T) {
	path := stateDir(t)
	dir := filepath.Join(path, "agents", "main", "sessions")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o700); err != nil {
		t.Fatal(err)
	}
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("sessions.json", `{"agent:main:main":{"sessionId":"s-1","updatedAt":1795359224000,"model":"fake-1","modelProvider":"fake","skillsSnapshot":{}}}`)
	write("s-1.jsonl", strings.Join([]string{
		`{"type":"session","version":3,"id":"s-1","timestamp":"2026-11-22T14:53:00.000Z","cwd":"/"}`,
		`{"type":"message","id":"00000001","parentId":null,"timestamp":"2026-11-22T14:53:01.000Z","message":{"role":"user","content":"old","timestamp":1}}`,
		`{"type":"message","id":"00000002","parentId":"00000001","timestamp":"2026-11-22T14:53:02.000Z","message":{"role":"assistant","content":[{"type":"text","text":"older"}],"stopReason":"stop","timestamp":2}}`,
		`{"type":"custom","id":"00000003","parentId":"00000002","timestamp":"2026-11-22T14:53:02.000Z","customType":"model-snapshot","data":{}}`,
		`{"type":"message","id":"00000004","parentId":"00000003","timestamp":"2026-11-22T14:53:03.000Z","message":{"role":"user","content":"kept","timestamp":3}}`,
		`{"type":"compaction","id":"00000005","parentId":"00000004","timestamp":"2026-11-22T14:53:04.000Z","summary":"much was said","firstKeptEntryId":"00000004","tokensBefore":10}`,
		`{"type":"message","id":"00000006","parentId":"00000005","timestamp":"2026-11-22T14:53:05.000Z","message":{"role":"assistant","content":[{"type":"text","text":"new"}],"stopReason":"stop","timestamp":4}}`,
	}, "\n")+"\n")
	h := openHouse(t, path, answering(func(r *modelRequest) string {
		var list []string
		for _, m := range r.Messages {
			list = append(list, brief(m))
		}
		return strings.Join(list, "/")
	}), nil)
	equal(t, "asked", h.say("main", "now").Text, "u: [Summary of the conversation so far]\n\nmuch was said/u: kept/a: new/u: now")
	if said := h.said("main"); !strings.HasPrefix(said, "u: old\na: older\nu: kept\na: new\nu: now\n") {
		t.Error(said)
	}
}

// The last few sessions stay in memory while idle, and no more than that.
func TestIdleSessions(t *testing.T) {
	h := newHouse(t, answering(reTo))
	for i := range keptIdle + 10 {
		h.say(fmt.Sprint("s", i), "x")
	}
	h.say("long", strings.Repeat("x", keptHistory))
	<-h.start(userTurn("", "settle")).Done()
	for _, r := range h.running("") {
		<-r.Done()
	}
	inMemory := func() (n int, long bool) {
		h.Agents.mu.Lock()
		defer h.unlock()
		return len(h.sessions), slices.ContainsFunc(h.idle, func(s *session) bool { return s.key == "agent:main:long" })
	}
	if n, long := inMemory(); n > keptIdle+1 || long {
		t.Errorf("%d sessions are in memory, the long one: %t", n, long)
	}
	equal(t, "first", h.said("s0"), "u: x\na: re: x")
}

// setLimit copes with the type of Rlimit's fields, which differs between systems.
func setLimit[T int64 | uint64](to *T, bytes int64) { *to = T(bytes) }
