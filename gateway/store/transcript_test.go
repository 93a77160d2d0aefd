package store

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

func TestTranscriptFormat(t *testing.T) {
	d := mustOpen(t, filepath.Join(t.TempDir(), "state"))
	s := mustSessions(t, d)
	if err := s.Put("agent:main:main", Entry{SessionID: "s1"}); err != nil {
		t.Fatal(err)
	}
	tr, err := s.Transcript(Entry{SessionID: "s1", CWD: "/ws"})
	if err != nil {
		t.Fatal(err)
	}
	defer tr.Close()
	if _, err := os.Stat(tr.Path()); err == nil {
		t.Error("the file should come with the first line")
	}
	at := time.Date(2026, 11, 22, 14, 48, 12, 5e6, time.FixedZone("", 3600))
	lines := []Line{
		{ID: "00000001", Time: at, Type: TypeModelChange, Provider: "p", ModelID: "m"},
		{ID: "00000002", Time: at, Type: TypeThinkingLevel, ThinkingLevel: "off"},
		{ID: "00000003", Time: at, Type: TypeMessage, Message: &Message{Role: RoleUser, Content: Text("a\nb"), Timestamp: 9}},
	}
	err = errors.Join(tr.Append(lines...), tr.Append(Line{ID: "00000004", Time: at, Type: TypeCompaction, Summary: "so far", FirstKept: "00000003", TokensBefore: 12}))
	if err != nil {
		t.Fatal(err)
	}
	data, _ := os.ReadFile(tr.Path())
	head, rest, _ := strings.Cut(string(data), "\n")
	want := `{"type":"model_change","id":"00000001","parentId":null,"timestamp":"2026-11-22T13:48:12.005Z","provider":"p","modelId":"m"}
{"type":"thinking_level_change","id":"00000002","parentId":"00000001","timestamp":"2026-11-22T13:48:12.005Z","thinkingLevel":"off"}
{"type":"message","id":"00000003","parentId":"00000002","timestamp":"2026-11-22T13:48:12.005Z","message":{"role":"user","timestamp":9,"content":[{"type":"text","text":"a\nb"}]}}
{"type":"compaction","id":"00000004","parentId":"00000003","timestamp":"2026-11-22T13:48:12.005Z","summary":"so far","firstKeptEntryId":"00000003","tokensBefore":12}
`
	if rest != want {
		t.Errorf("got\n%swant\n%s", rest, want)
	}
	var h header
	if json.Unmarshal([]byte(head), &h) != nil || h.Type != "session" || h.Version != 3 || h.ID != "s1" || h.CWD != "/ws" || h.SessionKey != "agent:main:main" {
		t.Error(head)
	}
	records, _, err := tr.Load()
	if err != nil || len(records) != 4 || !records[0].Time.Equal(at) || records[3].FirstKept != "00000003" || records[3].ParentID != "00000003" {
		t.Error(records, err)
	}
}

// Transcripts that other programs or accidents left.
func TestTranscriptReads(t *testing.T) {
	const head = `{"type":"session","version":3,"id":"s1","timestamp":"2026-11-22T14:48:12.000Z","cwd":"/x"}` + "\n"
	msg := func(id, parent, text string) string {
		return fmt.Sprintf(`{"type":"message","id":%q,"parentId":%s,"timestamp":"2026-11-22T14:48:12.000Z","message":{"role":"user","content":%q,"timestamp":1}}`+"\n", id, parent, text)
	}
	a, b := msg("a", "null", "A"), msg("b", `"a"`, "B")
	tests := map[string]struct {
		file, want string
		damaged    []int
	}{
		"whole":              {head + a + b, "A|B", nil},
		"branch":             {head + a + b + msg("c", `"a"`, "C"), "A|C", nil},
		"second root":        {head + a + b + msg("c", "null", "C"), "C", nil},
		"unknown type":       {head + a + `{"type":"novelty","id":"n","parentId":"a","wow":[1]}` + "\n" + msg("b", `"n"`, "B"), "A|B", nil},
		"no newline":         {head + a + strings.TrimSuffix(b, "\n"), "A|B", nil},
		"no newline, header": {strings.TrimSuffix(head, "\n"), "", nil},
		"torn":               {head + a + b[:len(b)/2], "A", nil},
		"torn header":        {head[:20], "", nil},
		"zeros at the end":   {head + a + "\x00\x00\x00", "A", nil},
		"corrupt middle":     {head + a + "garbage\n" + msg("c", `"b"`, "C"), "A|C", []int{3}},
		"corrupt last":       {head + a + "gar bage\n", "A", []int{3}},
		"message without":    {head + a + `{"type":"message","id":"b","parentId":"a"}` + "\n" + msg("c", `"b"`, "C"), "A|C", []int{3}},
		"corrupt header":     {"x\n" + a + b, "A|B", []int{1}},
		"old, no ids":        {head + `{"type":"message","message":{"role":"user","content":"A"}}` + "\n" + `{"type":"message","timestamp":5,"message":{"role":"user","content":"B"}}` + "\n", "A|B", nil},
		"cycle":              {head + msg("a", `"b"`, "A") + msg("b", `"a"`, "B"), "A|B", nil},
		"own parent":         {head + a + msg("b", `"b"`, "B"), "A|B", nil},
		"blank lines, CRLF":  {head + "\n" + strings.ReplaceAll(a+b, "\n", "\r\n"), "A|B", nil},
		"empty":              {"", "", nil},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			d := mustOpen(t, filepath.Join(t.TempDir(), "state"))
			s := mustSessions(t, d)
			path := filepath.Join(s.dir.path, "s1.jsonl")
			os.WriteFile(path, []byte(test.file), 0o644)
			tr := mustTranscript(t, s, "s1")
			check := func(want string) {
				t.Helper()
				records, damage, err := tr.Load()
				var lines []int
				if damage != nil {
					lines = damage.Lines
				}
				if err != nil || texts(records) != want || fmt.Sprint(lines) != fmt.Sprint(test.damaged) {
					t.Errorf("got %q, damage %v, %v; want %q, %v", texts(records), lines, err, want, test.damaged)
				}
			}
			check(test.want)
			if err := tr.Append(user("new")); err != nil {
				t.Fatal(err)
			}
			check(strings.TrimPrefix(test.want+"|new", "|"))
			tr.Close()
			tr = mustTranscript(t, s, "s1")
			check(strings.TrimPrefix(test.want+"|new", "|"))
		})
	}
}

// A transcript whose last line is larger than what is read at first.
func TestLongLastLine(t *testing.T) {
	d := mustOpen(t, filepath.Join(t.TempDir(), "state"))
	s := mustSessions(t, d)
	tr := mustTranscript(t, s, "s1")
	if err := tr.Append(user("A"), user(strings.Repeat("B", 1<<20))); err != nil {
		t.Fatal(err)
	}
	tr.Close()
	f, _ := os.OpenFile(tr.Path(), os.O_WRONLY|os.O_APPEND, 0)
	f.WriteString(`{"torn":"` + strings.Repeat("C", 200<<10))
	f.Close()
	tr = mustTranscript(t, s, "s1")
	if err := tr.Append(user("D")); err != nil {
		t.Fatal(err)
	}
	if got := load(t, tr); len(got) != len("A||D")+1<<20 || !strings.HasSuffix(got, "B|D") {
		t.Error(len(got))
	}
}

// Somebody edits, replaces or removes the file under a running gateway.
func TestTranscriptChangedUnderneath(t *testing.T) {
	d := mustOpen(t, filepath.Join(t.TempDir(), "state"))
	tr := mustTranscript(t, mustSessions(t, d), "s1")
	step := func(what string, do func() error, want string) {
		t.Helper()
		if err := errors.Join(do(), tr.Append(user("+"))); err != nil {
			t.Fatal(what, err)
		}
		if got := load(t, tr); got != want {
			t.Errorf("%s: got %q, want %q", what, got, want)
		}
	}
	step("new", func() error { return tr.Append(user("A")) }, "A|+")
	step("edited", func() error {
		data, err := os.ReadFile(tr.Path())
		return errors.Join(err, os.WriteFile(tr.Path(), bytes.ReplaceAll(data, []byte(`"+"`), []byte(`"edited"`)), 0o600))
	}, "A|edited|+")
	step("replaced", func() error {
		data, err := os.ReadFile(tr.Path())
		return errors.Join(err, os.WriteFile(tr.Path()+"~", data, 0o600), os.Rename(tr.Path()+"~", tr.Path()))
	}, "A|edited|+|+")
	step("removed", func() error { return os.Remove(tr.Path()) }, "+")
}

func TestAppendRefusesWhatLoadWouldNotRead(t *testing.T) {
	tr := mustTranscript(t, mustSessions(t, mustOpen(t, filepath.Join(t.TempDir(), "state"))), "s1")
	for _, l := range []Line{{}, {Type: TypeMessage}, {Type: "session"}, {Type: TypeCustom, Data: json.RawMessage("{")}} {
		if err := tr.Append(user("with it"), l); err == nil {
			t.Errorf("appended %+v", l)
		}
	}
	if err := tr.Append(); err != nil {
		t.Error(err)
	}
	if got := load(t, tr); got != "" {
		t.Error(got)
	}
}

func TestTranscriptIsShared(t *testing.T) {
	d := mustOpen(t, filepath.Join(t.TempDir(), "state"))
	s := mustSessions(t, d)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			tr, err := s.Transcript(Entry{SessionID: "s1"})
			if err != nil {
				t.Error(err)
				return
			}
			for j := range 5 {
				if err := tr.Append(user(fmt.Sprint(i, ".", j))); err != nil {
					t.Error(err)
				}
				if _, damage, err := tr.Load(); damage != nil || err != nil {
					t.Error(damage, err)
				}
			}
			tr.Close()
		})
	}
	wg.Wait()
	if len(s.open) != 0 {
		t.Error("left open:", s.open)
	}
	tr := mustTranscript(t, s, "s1")
	if got := strings.Split(load(t, tr), "|"); len(got) != 40 {
		t.Error(got)
	}
	d.Close()
	if err := tr.Append(user("late")); err == nil {
		t.Error("appended without the lock")
	}
}

// Every way a write can go wrong, at every file that grows or is replaced.
func TestWriteFaults(t *testing.T) {
	faults := map[string]func(f *os.File, p []byte) (int, error){
		"full":  func(f *os.File, p []byte) (int, error) { return 0, syscall.ENOSPC },
		"quota": func(f *os.File, p []byte) (int, error) { return 0, syscall.EDQUOT },
		"torn": func(f *os.File, p []byte) (int, error) {
			n, _ := f.Write(p[:len(p)*2/3])
			return n, syscall.ENOSPC
		},
		"short": func(f *os.File, p []byte) (int, error) { return f.Write(p[:len(p)-1]) },
		"io":    func(f *os.File, p []byte) (int, error) { f.Write(p[:1]); return 1, syscall.EIO },
	}
	for name, fault := range faults {
		t.Run(name, func(t *testing.T) {
			state := filepath.Join(t.TempDir(), "state")
			d := mustOpen(t, state)
			s := mustSessions(t, d)
			tr, fresh := mustTranscript(t, s, "s1"), mustTranscript(t, s, "s2")
			log, err := d.OpenLog(0, 1)
			if err != nil {
				t.Fatal(err)
			}
			defer log.Close()
			must := func(errs ...error) {
				t.Helper()
				if err := errors.Join(errs...); err != nil {
					t.Fatal(err)
				}
			}
			_, err = log.Write([]byte("L1"))
			must(err, tr.Append(user("A")), s.Put("k", Entry{SessionID: "s1", UpdatedAt: 1}), d.WriteFile("f", []byte("old")))

			broken := func(w func(*os.File, []byte) (int, error)) {
				d.top.write, s.dir.write, log.in.write = w, w, w
				s.journal.write, tr.file.write, log.file.write = w, w, w
			}
			broken(fault)
			_, logErr := log.Write([]byte("lost"))
			for what, err := range map[string]error{"append": tr.Append(user("lost")), "new transcript": fresh.Append(user("lost")),
				"put": s.Put("k", Entry{SessionID: "s1", UpdatedAt: 2}), "file": d.WriteFile("f", []byte("new")), "log": logErr} {
				full := name != "short" && name != "io"
				if err == nil || errors.Is(err, ErrNoSpace) != full {
					t.Errorf("%s: %v", what, err)
				}
			}
			if log.Dropped() != 1 {
				t.Error("dropped", log.Dropped())
			}
			if e, _ := s.Get("k"); e.UpdatedAt != 1 {
				t.Error("a put that failed shows")
			}
			broken((*os.File).Write)
			fresh.file.write = (*os.File).Write
			_, err = log.Write([]byte("L2"))
			must(err, tr.Append(user("B")), fresh.Append(user("C")), s.Put("k2", Entry{SessionID: "s2", UpdatedAt: 3}))
			if data, _ := d.ReadFile("f", 10); string(data) != "old" {
				t.Errorf("%q", data)
			}
			if data, _ := os.ReadFile(log.Path()); string(data) != "L1\nL2\n" {
				t.Errorf("%q", data)
			}
			if names, _ := filepath.Glob(filepath.Join(state, ".*.tmp")); len(names) != 0 {
				t.Error("left behind:", names)
			}
			must(d.Close())
			d = mustOpen(t, state)
			s = mustSessions(t, d)
			if got := load(t, mustTranscript(t, s, "s1")) + "/" + load(t, mustTranscript(t, s, "s2")); got != "A|B/C" {
				t.Error(got)
			}
			if s.Count() != 2 || len(s.Warnings()) != 0 {
				t.Error(s.List(), s.Warnings())
			}
		})
	}
}

// What could not be synced is neither acknowledged nor kept: not a line, not a
// new file whose name could not be synced.
func TestSyncFaults(t *testing.T) {
	d := mustOpen(t, filepath.Join(t.TempDir(), "state"))
	s := mustSessions(t, d)
	tr := mustTranscript(t, s, "s1")
	if err := tr.Append(user("A")); err != nil {
		t.Fatal(err)
	}
	for _, fault := range []error{syscall.EIO, syscall.ENOSPC, syscall.EDQUOT} { // the latter two as NFS tells them
		tr.file.sync = func(*os.File) error { return fault }
		if err := tr.Append(user("lost")); !errors.Is(err, fault) || errors.Is(err, ErrNoSpace) != (fault != syscall.EIO) {
			t.Error(fault, err)
		}
		if data, _ := os.ReadFile(tr.Path()); bytes.Contains(data, []byte("lost")) || !bytes.HasSuffix(data, []byte("\n")) {
			t.Errorf("%v kept %q", fault, data)
		}
	}
	tr.file.sync = syncData
	if err := tr.Append(user("B")); err != nil || load(t, tr) != "A|B" {
		t.Error(err, load(t, tr))
	}
	fresh, dir := mustTranscript(t, s, "s2"), s.dir.dir
	s.dir.dir, _ = os.Open(os.DevNull)
	s.dir.dir.Close()
	if err := fresh.Append(user("lost")); err == nil || load(t, fresh) != "" {
		t.Error("a name that is not durable was acknowledged", err)
	}
	s.dir.dir = dir
	if err := fresh.Append(user("C")); err != nil || load(t, fresh) != "C" {
		t.Error(err)
	}
}

// A transcript too large to load gives its end, says so and goes on.
func TestHugeTranscript(t *testing.T) {
	d := mustOpen(t, filepath.Join(t.TempDir(), "state"))
	tr := mustTranscript(t, mustSessions(t, d), "s1")
	if err := tr.Append(user("old")); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(tr.Path(), os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(f, "{\"type\":\"custom\",\"data\":%q}\n{\"type\":\"custom\",\"id\":\"z\"}\n", strings.Repeat("x", maxLoad))
	f.Close()
	for _, want := range []string{"A", "A|B"} {
		if err := tr.Append(user(want[len(want)-1:])); err != nil {
			t.Fatal(err)
		}
		records, damage, err := tr.Load()
		if err != nil || damage == nil || damage.Older == 0 || damage.Count != 0 || !strings.Contains(damage.Error(), "older lines") || texts(records) != want {
			t.Error(texts(records), damage, err)
		}
	}
	if data, err := os.ReadFile(tr.Path()); err != nil || !bytes.Contains(data, []byte(`"old"`)) || len(data) < maxLoad {
		t.Error("the file itself must keep everything:", len(data), err)
	}
}

// A truncation that fails too leaves a torn line for as long as it must.
func TestTornLineThatCannotBeCut(t *testing.T) {
	d := mustOpen(t, filepath.Join(t.TempDir(), "state"))
	tr := mustTranscript(t, mustSessions(t, d), "s1")
	if err := tr.Append(user("A")); err != nil {
		t.Fatal(err)
	}
	good := tr.file.f
	readOnly, err := os.Open(tr.Path()) // ftruncate on it fails with EINVAL
	if err != nil {
		t.Fatal(err)
	}
	defer readOnly.Close()
	tr.file.f = readOnly
	tr.file.write = func(_ *os.File, p []byte) (int, error) {
		n, _ := good.Write(p[:10])
		return n, syscall.ENOSPC
	}
	for range 2 {
		if err := tr.Append(user("lost")); err == nil {
			t.Fatal("appended")
		}
		if got := load(t, tr); got != "A" {
			t.Error(got)
		}
	}
	tr.file.f, tr.file.write = good, (*os.File).Write
	if err := tr.Append(user("B")); err != nil {
		t.Fatal(err)
	}
	if got := load(t, tr); got != "A|B" {
		t.Error(got)
	}
}

// childLimited fills files up to the size limit of the process, which fails
// like a full disk does: a part is written, then an error.
func childLimited(dir string) {
	signal.Ignore(syscall.SIGXFSZ)
	d, err := Open(dir)
	if err != nil {
		panic(err)
	}
	s, err := d.Sessions("main")
	if err != nil {
		panic(err)
	}
	tr, err := s.Transcript(Entry{SessionID: "s1"})
	if err != nil {
		panic(err)
	}
	log, err := d.OpenLog(0, 1)
	if err != nil {
		panic(err)
	}
	const limit = 64 << 10
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: limit, Max: limit}); err != nil {
		panic(err)
	}
	acked := 0
	for tr.Append(user(fmt.Sprintf("%08d%s", acked, strings.Repeat("x", 777)))) == nil {
		acked++
	}
	err = tr.Append(user(strings.Repeat("y", 2000)))
	if !errors.Is(err, ErrNoSpace) {
		panic(fmt.Sprint("not ErrNoSpace: ", err))
	}
	puts := 0
	for s.Put(fmt.Sprint("k", puts), Entry{SessionID: "s1", Label: strings.Repeat("l", 300)}) == nil {
		puts++
	}
	for range 2000 {
		log.Write([]byte(strings.Repeat("z", 99)))
	}
	if err := d.WriteFile("big", make([]byte, limit+1)); !errors.Is(err, ErrNoSpace) {
		panic(fmt.Sprint("not ErrNoSpace: ", err))
	}
	fmt.Println(acked, puts, log.Dropped())
}

func TestFileSizeLimit(t *testing.T) {
	state := filepath.Join(t.TempDir(), "state")
	out, err := child(t, "limited", state).Output()
	var acked, puts, dropped int
	if _, e := fmt.Sscan(string(out), &acked, &puts, &dropped); err != nil || e != nil {
		t.Fatalf("%v %v: %s", err, e, out)
	}
	if acked < 10 || puts < 10 || dropped != 2000-65536/100 {
		t.Error(acked, puts, dropped)
	}
	d := mustOpen(t, state)
	s := mustSessions(t, d)
	if s.Count() != puts || len(s.Warnings()) != 0 {
		t.Error(s.Count(), puts, s.Warnings())
	}
	tr := mustTranscript(t, s, "s1")
	got := strings.Split(load(t, tr), "|")
	if len(got) != acked || !strings.HasPrefix(got[acked-1], fmt.Sprintf("%08d", acked-1)) {
		t.Error(len(got), acked)
	}
	if err := tr.Append(user("and on")); err != nil {
		t.Error(err)
	}
	for _, name := range []string{"logs/gateway.log", "agents/main/sessions/s1.jsonl"} {
		if data, err := os.ReadFile(filepath.Join(state, name)); err != nil || !bytes.HasSuffix(data, []byte("\n")) {
			t.Error(name, "ends within a line", err)
		}
	}
}

// childWriter stores as fast as it can and prints what it was acknowledged,
// until it is killed.
func childWriter(dir string) {
	d, err := Open(dir)
	if err != nil {
		panic(err)
	}
	s, err := d.Sessions("main")
	if err != nil {
		panic(err)
	}
	s.compactAt = 2000 // so that many die in a snapshot
	boot := NewID()
	fmt.Println("boot", boot)
	for w := range 3 {
		go func() {
			key := fmt.Sprintf("agent:main:%d", w)
			e, ok := s.Get(key)
			if !ok {
				e = Entry{SessionID: NewID()}
				if err := s.Put(key, e); err != nil {
					panic(err)
				}
			}
			tr, err := s.Transcript(e)
			if err != nil {
				panic(err)
			}
			for i := 0; ; i++ {
				text := fmt.Sprintf("%s-%d-%d", boot, w, i)
				if err := tr.Append(user(text), user(text+"'")); err != nil {
					panic(err)
				}
				e.InputTokens++
				if err := s.Put(key, e); err != nil {
					panic(err)
				}
				s.writeMu.Lock()
				s.compactAt = min(s.compactAt, 2000)
				s.writeMu.Unlock()
				fmt.Printf("ack %d %d %s\n", w, e.InputTokens, text)
			}
		}()
	}
	for i := 0; ; i++ {
		if err := d.WriteFile("state.json", fmt.Appendf(nil, `{"n":%d,"pad":%q}`, i, strings.Repeat("p", i%5000))); err != nil {
			panic(err)
		}
	}
}

func TestKillAtAnyMoment(t *testing.T) {
	state := filepath.Join(t.TempDir(), "state")
	acked := [3][]string{}
	tokens := [3]int{}
	deadline := time.Now().Add(5 * time.Second)
	round := 0
	for ; round < 50 && (round < 5 || time.Now().Before(deadline)); round++ {
		cmd := child(t, "writer", state)
		out, err := cmd.StdoutPipe()
		if err == nil {
			err = cmd.Start()
		}
		if err != nil {
			t.Fatal(err)
		}
		// The moment is a number of acknowledgements and then some random work.
		lines := bufio.NewScanner(out)
		for n := 0; lines.Scan(); n++ {
			if n == 1+round%7 {
				spin := time.Now().Add(time.Duration(round*37%900) * time.Microsecond)
				for time.Now().Before(spin) {
				}
				cmd.Process.Kill()
			}
			f := strings.Fields(lines.Text())
			if len(f) == 4 && f[0] == "ack" {
				w, _ := strconv.Atoi(f[1])
				tokens[w], _ = strconv.Atoi(f[2])
				acked[w] = append(acked[w], f[3])
			}
		}
		if err := cmd.Wait(); err == nil || err.Error() != "signal: killed" {
			t.Fatal(err)
		}
		d, err := Open(state)
		if err != nil {
			t.Fatal(err)
		}
		s := mustSessions(t, d)
		for _, warning := range s.Warnings() {
			t.Error(warning)
		}
		for w := range acked {
			e, ok := s.Get(fmt.Sprintf("agent:main:%d", w))
			if !ok && len(acked[w]) > 0 || int(e.InputTokens) < tokens[w] {
				t.Fatalf("round %d: entry %d is %v, %d was acknowledged", round, w, e, tokens[w])
			}
			if !ok {
				continue
			}
			tr := mustTranscript(t, s, e.SessionID)
			have := map[string]bool{}
			for text := range strings.SplitSeq(load(t, tr), "|") {
				have[text] = true
			}
			for _, text := range acked[w] {
				if !have[text] || !have[text+"'"] {
					t.Fatalf("round %d: %s was acknowledged and is lost", round, text)
				}
			}
			tr.Close()
		}
		if data, err := d.ReadFile("state.json", 1<<20); err == nil && !json.Valid(data) {
			t.Fatalf("state.json: %q", data)
		}
		if round%2 == 0 { // every other time the next writer finds what the kill left
			d.Close()
		} else {
			d.lock.Close()
		}
	}
	if round < 50 {
		t.Logf("%d rounds in the time there was", round)
	}
	if len(acked[0]) == 0 || round < 5 {
		t.Error("nothing was tested")
	}
}

func FuzzTranscript(f *testing.F) {
	const head = `{"type":"session","version":3,"id":"s1"}` + "\n"
	for _, seed := range []string{"", head, "\n", "{}", head + `{"type":"message","id":"a","parentId":null,"message":{"role":"user","content":"A"}}`,
		head + `{"type":"message","message":{"content":[{"type":"x"}]}}` + "\n{\"type\":\"y\",\"id\":\"a\"}\n\x00", `{"type":"custom","id":"a","parentId":"a"}` + "\n" + `{"type":"custom","id":"a","parentId":"a"}`} {
		f.Add([]byte(seed))
	}
	d := mustOpen(f, filepath.Join(f.TempDir(), "state"))
	s := mustSessions(f, d)
	f.Fuzz(func(t *testing.T, file []byte) {
		id := NewID()
		path := filepath.Join(s.dir.path, id+transcriptSuffix)
		os.WriteFile(path, file, 0o600)
		defer os.Remove(path)
		tr := mustTranscript(t, s, id)
		before, _, err := tr.Load()
		if err != nil {
			t.Fatal(err)
		}
		if err := tr.Append(user("new")); err != nil {
			t.Fatal(err)
		}
		after, _, err := tr.Load()
		if err != nil || len(after) != len(before)+1 || texts(after[len(before):]) != "new" {
			t.Fatalf("%d records, then %d, %v", len(before), len(after), err)
		}
		for i := range before {
			if before[i].ID != after[i].ID || before[i].Type != after[i].Type {
				t.Fatal("another record at", i)
			}
		}
		if data, _ := os.ReadFile(tr.Path()); !bytes.HasSuffix(data, []byte("\n")) {
			t.Fatal("ends within a line")
		}
	})
}
