package channel

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"openclaw/gateway/store"
	"openclaw/reload/config"
)

// What is counted here is Linux's /proc.

// obedient is a program that sends what it is told to.
const obedient = helloLine + `while read -r l; do
case $l in
*'"type":"send"'*) id=${l#*'"id":"'}; echo '{"type":"sent","id":"'${id%%'"'*}'","messageId":"m"}';;
*'"type":"ping"'*) echo '{"type":"pong","id":"p"}';;
esac
done
`

// holdings is how many goroutines and descriptors we have.
func holdings() (goroutines, files int) {
	list, _ := os.ReadDir("/proc/self/fd")
	return runtime.NumGoroutine(), len(list)
}

// lives reports whether a process is there and not merely unburied.
func lives(pid string) bool {
	raw, err := os.ReadFile("/proc/" + pid + "/stat")
	if err != nil {
		return false
	}
	_, state, _ := strings.Cut(string(raw), ") ")
	return !strings.HasPrefix(state, "Z")
}

// heap is how much memory is in use.
func heap() int64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// TestHostilePrograms: whatever a program does, its own account says what is
// wrong in words, the one beside it sends, and nothing is left behind: no
// goroutine, no descriptor, no process, also none that it started itself.
func TestHostilePrograms(t *testing.T) {
	goroutines, files := holdings()
	t.Run("all", func(t *testing.T) {
		for _, c := range []struct{ name, script, says string }{
			{"no hello", "echo '{\"type\":\"pong\"}'; sleep 60", "must be hello"},
			{"not JSON", helloLine + "echo nonsense; sleep 60", "not JSON"},
			{"not UTF-8", helloLine + "printf '{\"type\":\"log\",\"message\":\"\\377\"}\\n'; sleep 60", "not JSON"},
			{"not an object", helloLine + "echo '[1]'; sleep 60", "not JSON"},
			{"hello twice", helloLine + helloLine + "sleep 60", "must be hello"},
			{"long line", helloLine + "head -c 3000000 /dev/zero | tr '\\0' x; sleep 60", "line of more than 1048576 bytes"},
			{"forged id", helloLine + "echo '{\"type\":\"sent\",\"id\":\"s9\"}'; sleep 60", `answered to "s9", which nobody asked`},
			{"forged failure", helloLine + "echo '{\"type\":\"failed\",\"id\":\"\",\"code\":{\"a\":1}}'; sleep 60", "which nobody asked"},
			{"unknown type", helloLine + "echo '{\"type\":\"root\"}'; sleep 60", "unknown type"},
			{"unknown state", helloLine + "echo '{\"type\":\"state\",\"state\":\"ascended\"}'; sleep 60", `unknown state "ascended"`},
			{"exits", "exit 3", "the program ended: exit status 3"},
			{"exits after hello", helloLine + "exit 3", "the program ended: exit status 3"},
			{"killed", helloLine + "kill -9 $$", "the program ended: signal: killed"},
			{"closes stdin", helloLine + "exec <&-; sleep 60", "the program takes nothing more"},
			{"closes stdout", helloLine + "exec >&-; sleep 60", "the program ended"},
			{"grandchild holds the pipes", helloLine + "sleep 60 & echo child $! >&2; exit 4", "exit status 4"},
			{"grandchild of another group", helloLine + "setsid sleep 20 & exit 5", "exit status 5"},
			{"other protocol", "echo '{\"type\":\"hello\",\"protocol\":9}'; sleep 60", "speaks protocol 9, this gateway 1"},
			{"logged out", helloLine + "echo '{\"type\":\"state\",\"state\":\"closed\",\"code\":401,\"reason\":\"logged out\",\"terminal\":true}'; sleep 60", "logged out (401)"},
			{"flood of stderr", "yes >&2 & echo child $! >&2; echo nonsense; wait", "not JSON"},
			{"flood of states", helloLine + "yes '{\"type\":\"state\",\"state\":\"closed\",\"reason\":\"so\"}' | head -n 20000; echo nonsense; sleep 60", "not JSON"},
			{"flood of log lines", helloLine + "sleep 1; yes '{\"type\":\"log\",\"message\":\"so\"}' | head -n 20000; echo nonsense; sleep 60", "not JSON"},
		} {
			t.Run(c.name, func(t *testing.T) {
				t.Parallel()
				r := newRig(t)
				good := program(t, obedient)
				good.Channel = "good"
				r.set.Apply([]config.ChannelAccount{program(t, "echo child $$ >&2\n"+c.script), good})
				r.until("what is wrong", func() bool { return strings.Contains(r.set.Status()[0].LastError, c.says) })
				if _, err := r.set.Send(t.Context(), "good", "", Outbound{ID: "x", To: "c", Text: "x"}); err != nil {
					t.Errorf("the other one: %v", err)
				}
				r.set.Close(0)
				logs := r.logs.String()
				if n := strings.Count(logs, "\n"); n > 200 {
					t.Errorf("%d lines in the log", n)
				}
				for _, line := range strings.Split(logs, "\n") {
					if _, pid, ok := strings.Cut(line, `err="child `); ok {
						pid = strings.Trim(pid, `" `)
						r.until("the end of process "+pid, func() bool { return !lives(pid) }) // a grandchild dies of its signal when it is its turn
					}
				}
				if !strings.Contains(logs, `err="child `) {
					t.Error("no process is known")
				}
			})
		}
		t.Run("missing", func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			conf := program(t, "")
			conf.Command = []string{"/nonexistent/program"}
			r.set.Apply([]config.ChannelAccount{conf})
			r.until("what is wrong", func() bool {
				return strings.Contains(r.set.Status()[0].LastError, "start /nonexistent/program: fork/exec /nonexistent/program: no such file")
			})
		})
	})
	r := &rig{t: t, set: New(Options{}), logs: &lockedBuffer{}}
	r.until("nothing is left", func() bool { g, f := holdings(); return g <= goroutines && f <= files })
}

// TestMessagesDropped: a stranger chooses the id of a message, and a program may
// pass on any. One that is none costs its message, not the program.
func TestMessagesDropped(t *testing.T) {
	got := func(seq int, id, from, chat string) string {
		return fmt.Sprintf(`echo '{"type":"inbound","seq":%d,"id":"%s","from":"%s","chat":"%s","text":"x","media":[{"path":"m%[1]d"}]}'`+"\n", seq, id, from, chat)
	}
	r, acks := newRig(t), filepath.Join(t.TempDir(), "acks")
	script := ": >media/m1; : >media/m2\n" + helloLine
	for i, of := range [][3]string{
		{"", "7", "c"}, {"1", "", "c"}, {"1", "7", ""}, {`1\\u0000`, "7", "c"}, {"1", `7\\u202e`, "c"}, {"a b", "7", "c"},
		{strings.Repeat("1", maxIDs+1), "7", "c"}, {strings.Repeat("1", maxIDs), "7", "c"},
	} {
		script += got(i+1, of[0], of[1], of[2])
	}
	script += "i=100; while [ $i -lt 300 ]; do " + strings.ReplaceAll(got(0, "a b", "7", "c"), `"seq":0`, `"seq":'$i'`) + "i=$((i+1)); done\n"
	r.set.Apply([]config.ChannelAccount{program(t, script+"while read -r l; do case $l in *'\"ack\"'*) echo \"$l\" >>"+acks+" ;; esac; done")})
	r.until("every acknowledgement", func() bool {
		raw, _ := os.ReadFile(acks)
		return strings.Count(string(raw), "\n") == 208
	})
	logs := r.logs.String()
	if n := strings.Count(logs, "message dropped"); n < 7 || n > saidAtOnce {
		t.Errorf("%d lines in the log", n)
	}
	if s := r.set.Status()[0]; s.State != StateOpen || s.Failures != 0 {
		t.Errorf("%+v", s)
	}
	r.until("the one that is none of these", func() bool { r.mu.Lock(); defer r.mu.Unlock(); return len(r.got) > 0 })
	r.mu.Lock()
	defer r.mu.Unlock()
	if left, err := filepath.Glob(filepath.Join(r.dir.Path(), "channels/*/media/*")); err != nil || len(left) != 0 || len(r.got) != 1 || r.got[0].Message != strings.Repeat("1", maxIDs) {
		t.Errorf("%v %v, got %+v", left, err, r.got)
	}
}

// TestGigabyteLine: a line of a gibibyte ends its program and costs a mebibyte.
func TestGigabyteLine(t *testing.T) {
	r := newRig(t)
	before := heap()
	r.set.Apply([]config.ChannelAccount{program(t, helloLine+"head -c 1073741824 /dev/zero | tr '\\0' x; sleep 60")})
	var most int64
	r.until("what is wrong", func() bool {
		most = max(most, heap()-before)
		return strings.Contains(r.set.Status()[0].LastError, "line of more than 1048576 bytes")
	})
	if most > 16<<20 {
		t.Errorf("%d MiB in use", most>>20)
	}
}

// TestFloodOfMessages: a program that passes on messages without end is held
// back while nothing answers, and neither killed nor kept in memory.
func TestFloodOfMessages(t *testing.T) {
	r := newRig(t)
	var began time.Time
	r.set.o.Handle = func(context.Context, *Account, Inbound) (func(context.Context) (string, error), error) {
		return func(ctx context.Context) (string, error) { <-ctx.Done(); return "", ctx.Err() }, nil
	}
	text := strings.Repeat("x", 4000)
	before := heap()
	good := program(t, obedient)
	good.Channel = "good"
	r.set.Apply([]config.ChannelAccount{program(t, helloLine+`awk 'BEGIN{for(i=1;;i++)printf "{\"type\":\"inbound\",\"seq\":%d,\"id\":\"%d\",\"from\":\"7\",\"chat\":\"c%d\",\"text\":\"`+text+`\"}\n",i,i,i%25}'`), good})
	r.until("as many as may wait", func() bool { return r.set.Status()[0].Waiting == maxWaiting })
	began = time.Now()
	r.until("a while", func() bool { return time.Since(began) > 200*time.Millisecond })
	if s := r.set.Status()[0]; s.Waiting != maxWaiting || s.State != StateOpen || s.Failures != 0 {
		t.Errorf("%+v", s)
	}
	if used := heap() - before; used > 64<<20 {
		t.Errorf("%d MiB in use", used>>20)
	}
	if _, err := r.set.Send(t.Context(), "good", "", Outbound{ID: "x", To: "c", Text: "x"}); err != nil {
		t.Errorf("the other one: %v", err)
	}
}

// TestProgramFromInside looks at environment, descriptors, directory, group and
// end of a program from inside it.
func TestProgramFromInside(t *testing.T) {
	t.Setenv("OPENCLAW_GATEWAY_TOKEN", "must-not-be-seen")
	open, err := os.Create(filepath.Join(t.TempDir(), "of-the-gateway"))
	if err != nil {
		t.Fatal(err)
	}
	defer open.Close()
	inherited, err := syscall.Dup(int(open.Fd())) // without close-on-exec, as whoever starts a gateway may leave it
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(inherited)
	r := newRig(t)
	out := filepath.Join(t.TempDir(), "seen")
	conf := program(t, "")
	conf.Command = []string{"/bin/sh", "-c", helloLine + `ls /proc/self/fd >` + out + `.fd # with its own descriptor of the directory
{ tr '\0' '\n' </proc/$$/environ | sort | tr '\n' ' '; echo; tr '\n' ' ' <` + out + `.fd; echo; readlink /proc/$$/cwd; cut -d' ' -f5 /proc/$$/stat; echo $$; } >` + out + `.new
mv ` + out + `.new ` + out + `
while read -r l; do :; done`}
	r.set.Apply([]config.ChannelAccount{conf})
	var seen []string
	r.until("the report", func() bool { raw, _ := os.ReadFile(out); seen = strings.Split(string(raw), "\n"); return len(seen) > 4 })
	home, err := filepath.EvalSymlinks(filepath.Join(r.dir.Path(), "channels", "demo+default"))
	if err != nil {
		t.Fatal(err)
	}
	at := filepath.Join(r.dir.Path(), "channels", "demo+default")
	for i, want := range []string{"HOME=" + at + " LANG=C.UTF-8 PATH=/usr/local/bin:/usr/bin:/bin TMPDIR=" + at + " ", "0 1 2 3 ", home, seen[4]} {
		if seen[i] != want {
			t.Errorf("line %d is %q, not %q", i, seen[i], want)
		}
	}
	if fi, err := os.Stat(home); err != nil || fi.Mode().Perm() != 0o700 {
		t.Errorf("its directory: %v, %v", fi.Mode(), err)
	}
	r.set.Apply(nil)
	if lives(seen[4]) {
		t.Error("it still runs")
	}
}

// TestApplyOne: one account's change waits for nobody else and nobody for it:
// the others' programs go on, and so do status and sends while it ends.
func TestApplyOne(t *testing.T) {
	r := newRig(t)
	pidOf := func(c config.ChannelAccount) string {
		raw, _ := os.ReadFile(filepath.Join(r.dir.Path(), "channels", c.Channel+"+default", "pid"))
		return strings.TrimSpace(string(raw))
	}
	stays, changes := program(t, "echo $$ >pid\n"+obedient), program(t, "[ -e pid ] || deaf=1; echo $$ >pid\n"+helloLine+"while read -r l; do :; done; [ -z \"$deaf\" ] || sleep 600")
	stays.Channel = "stays"
	r.set.Apply([]config.ChannelAccount{stays, changes})
	r.until("both", func() bool { return pidOf(stays) != "" && pidOf(changes) != "" })
	first, other := pidOf(stays), pidOf(changes)
	changes.AllowFrom = []string{"9"}
	r.set.Apply([]config.ChannelAccount{changes, stays})
	r.until("the end of it begins", func() bool { return r.set.Status()[1].State != StateOpen })
	meanwhile := 0 // of the sends, on a slow machine not all
	for i := range 10 {
		if _, err := r.set.Send(t.Context(), "stays", "", Outbound{ID: fmt.Sprint(i), To: "c", Text: "x"}); err != nil || len(r.set.Status()) != 2 {
			t.Errorf("a send: %v, %+v", err, r.set.Status())
		}
		if lives(other) {
			meanwhile++
		}
	}
	if meanwhile == 0 {
		t.Error("no send went out while it ended")
	}
	r.until("the new one", func() bool { p := pidOf(changes); return p != "" && p != other && r.set.Status()[0].State == StateOpen })
	if pidOf(stays) != first || !lives(first) || lives(other) {
		t.Errorf("%s became %s; %s runs: %t", first, pidOf(stays), other, lives(other))
	}
}

// limitFiles sets how long a file this process may write; what is longer does
// not fit, as on a full disk.
func limitFiles(t *testing.T, size uint64) {
	t.Helper()
	var now syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &now); err != nil {
		t.Fatal(err)
	}
	now.Cur = min(size, now.Max)
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &now); err != nil {
		t.Fatal(err)
	}
}

// TestFullDisk: what cannot be kept is not taken from the network, a reply that
// cannot be queued waits, and with room again both go on.
func TestFullDisk(t *testing.T) {
	r, api := newRig(t), newFakeAPI(t)
	reply := make(chan struct{})
	r.set.o.Handle = func(_ context.Context, _ *Account, m Inbound) (func(context.Context) (string, error), error) {
		return func(ctx context.Context) (string, error) {
			if m.Text == "slow" {
				<-reply
			}
			return "you said " + m.Text, nil
		}, nil
	}
	api.say(10, 7, "slow")
	r.set.Apply([]config.ChannelAccount{bot(api.srv.URL)})
	a := r.set.all()[0].Account
	r.until("the first", func() bool { return a.Offset() == 11 })
	t.Cleanup(func() { limitFiles(t, ^uint64(0)) })
	limitFiles(t, uint64(r.journalSize("telegram+default+4242")))
	close(reply)
	api.say(11, 7, "quick")
	r.until("what is wrong", func() bool {
		s := a.Status()
		return s.State == StateWaiting && strings.Contains(s.LastError, "keep inbound messages") && strings.Contains(r.logs.String(), "the journal cannot be written")
	})
	if a.Offset() != 11 || len(api.sent()) != 0 {
		t.Errorf("offset %d, sent %q", a.Offset(), api.sent())
	}
	if err := a.Queue(Outbound{ID: "x", To: "7", Text: "x"}, nil); !errors.Is(err, store.ErrNoSpace) {
		t.Errorf("queued: %v", err)
	}
	limitFiles(t, ^uint64(0))
	r.until("recovery", func() bool {
		s := a.Status()
		return a.Offset() == 12 && s.Waiting+s.Queued == 0 && s.State == StateOpen
	})
	if got := strings.Join(api.sent(), ", "); got != "you said slow, you said quick" && got != "you said quick, you said slow" {
		t.Errorf("sent %s", got)
	}
	if told, again := r.count("the journal cannot be written"), r.count("the journal can be written again"); told != again || told > 3 {
		t.Errorf("told %d times, and %d times that it is over", told, again)
	}
	if a.Status().Unsure != 0 {
		t.Errorf("%+v", a.Status())
	}
	if j := r.reopened(); len(j.queue.list)+len(j.waiting.list) != 0 || j.offset != 12 {
		t.Errorf("in the file: %+v", j)
	}
}

// reopened is the journal as the next start finds it.
func (r *rig) reopened() *journal {
	r.t.Helper()
	r.set.Close(0)
	j, _, err := openJournal(r.dir, "telegram+default+4242")
	if err != nil {
		r.t.Fatal(err)
	}
	j.file.Close()
	return j
}

// TestJournalLines: a line that cannot be read costs no other, and is told;
// fields of later versions are passed over; a torn end is cut.
func TestJournalLines(t *testing.T) {
	r := newRig(t)
	lines := []string{
		`{"in":{"id":"1","from":"7","chat":"7","text":"a","later":{"x":[1]}},"offset":5,"later":true}`,
		`{"in":{"id":"2","from":"7","chat":`,
		"\x00\x00\x00\xff",
		`{"out":[{"id":"o","to":"7","text":"b"}]}`,
		`null`,
		`{"uncertain":{"id":"u","to":"7","why":"so"}}`,
		`{"in":{"id":"3","from":"7","chat":"7","text":"c"}`,
	}
	if err := r.dir.WriteFile("channels/telegram+default+4242.journal", []byte(strings.Join(lines, "\n"))); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		j := r.reopened()
		if len(j.waiting.list) != 1 || j.waiting.list[0].Text != "a" || j.offset != 5 || len(j.queue.list) != 1 || j.known("3") {
			t.Fatalf("%+v", j)
		}
		if len(j.uncertain) != 2 || !strings.Contains(j.uncertain[0].Why+j.uncertain[1].Why, "a line cannot be read") {
			t.Errorf("told: %+v", j.uncertain)
		}
	}
}

// TestJournalSize: under load the journal stays small, and what it says is the
// same after each time that it was written anew, also when that fails.
func TestJournalSize(t *testing.T) {
	r := newRig(t)
	j, _, err := openJournal(r.dir, "telegram+default+4242")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { limitFiles(t, ^uint64(0)) })
	text := strings.Repeat("x", 100<<10)
	must := func(e ...entry) {
		t.Helper()
		if err := j.write(e...); err != nil {
			t.Fatal(err)
		}
	}
	var most int64
	for i := range 240 {
		id := strconv.Itoa(i)
		if i == 60 { // there is room for lines, but not for the journal as it will be written anew
			must(entry{Out: []Outbound{{ID: "big", To: "7", Text: strings.Repeat("y", 4<<20)}}})
		}
		must(entry{In: &Inbound{ID: id, Chat: "7", Text: text}, Offset: int64(i)}, entry{Out: []Outbound{{ID: id, To: "7", Text: text}}})
		must(entry{Done: id}, entry{Sending: id}, entry{Sent: id})
		most = max(most, j.file.Size())
		if i == 130 {
			must(entry{Sent: "big"})
		}
	}
	if most > 3*(4<<20)+2*compactAt {
		t.Errorf("%d bytes for 4 MiB", most)
	}
	if size := j.file.Size(); size > 2*compactAt {
		t.Errorf("%d bytes for next to nothing", size)
	}
	must(entry{In: &Inbound{ID: "last", Chat: "7", Text: "x"}})
	want, _ := json.Marshal(j.state())
	j.file.Close()
	k := r.reopened()
	k.waiting.list[0].Again = false
	if got, _ := json.Marshal(k.state()); string(got) != string(want) {
		t.Errorf("%d bytes became %d", len(want), len(got))
	}
}

// TestJournalAnewFails: when there is no room to write the journal anew it is
// none the worse, nothing that is stored is called failed, and it is tried later.
func TestJournalAnewFails(t *testing.T) {
	r := newRig(t)
	j, _, err := openJournal(r.dir, "telegram+default+4242")
	if err != nil {
		t.Fatal(err)
	}
	text := strings.Repeat("x", 64<<10)
	i := 0
	write := func() error {
		i++
		return j.write(entry{In: &Inbound{ID: strconv.Itoa(i), Text: text}}, entry{Done: strconv.Itoa(i)})
	}
	for j.file.Size() < compactAt-70<<10 {
		if err := write(); err != nil {
			t.Fatal(err)
		}
	}
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	none := limit
	none.Cur = 3 // no file can be opened
	syscall.Setrlimit(syscall.RLIMIT_NOFILE, &none)
	var errs []error
	for range 3 {
		errs = append(errs, write())
	}
	syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit)
	stored := 0
	for _, err := range errs {
		if err == nil {
			stored++
		}
	}
	if errs[2] == nil || stored == 0 {
		t.Fatalf("not as it was meant: %v", errs)
	}
	missing := len(errs) - stored
	for range 200 {
		if err := write(); err != nil {
			t.Fatal(err)
		}
	}
	if size := j.file.Size(); size > 2*compactAt {
		t.Errorf("%d bytes, and it was never written anew", size)
	}
	j.file.Close()
	if k := r.reopened(); len(k.seen) != i-missing || len(k.waiting.list) != 0 || k.unsure != 0 {
		t.Errorf("%d of %d seen, %d waiting", len(k.seen), i-missing, len(k.waiting.list))
	}
}

// TestUncertainCount: of what is no longer listed the number stays, through
// restarts, until an operator clears it.
func TestUncertainCount(t *testing.T) {
	r := newRig(t)
	r.set.Apply([]config.ChannelAccount{bot(newFakeAPI(t).srv.URL)})
	a := r.set.all()[0].Account
	var list []entry
	for i := range keptUncertain + 37 {
		list = append(list, entry{Uncertain: &Uncertain{ID: fmt.Sprint(i), To: "7", Why: "so"}})
	}
	if err := a.keep(list...); err != nil {
		t.Fatal(err)
	}
	lines, err := encode(a.journal.state())
	if err == nil {
		err = a.journal.file.Rewrite(lines)
	}
	if err != nil {
		t.Fatal(err)
	}
	if s := a.Status(); s.Unsure != keptUncertain+37 || len(s.Uncertain) != keptUncertain || s.Uncertain[keptUncertain-1].ID != fmt.Sprint(keptUncertain+36) {
		t.Errorf("%d, listed %d", s.Unsure, len(s.Uncertain))
	}
	if j := r.reopened(); j.unsure != keptUncertain+37 || len(j.uncertain) != keptUncertain {
		t.Errorf("after a restart: %d, listed %d", j.unsure, len(j.uncertain))
	}
	r.open(nil)
	r.set.Apply([]config.ChannelAccount{bot(newFakeAPI(t).srv.URL)})
	if id, n, err := r.set.ClearUncertain("telegram", ""); err != nil || id != "default" || n != keptUncertain+37 {
		t.Errorf("%s %d %v", id, n, err)
	}
	if s := r.set.Status()[0]; s.Unsure != 0 || len(s.Uncertain) != 0 {
		t.Errorf("%+v", s)
	}
	if j := r.reopened(); j.unsure != 0 || len(j.uncertain) != 0 {
		t.Errorf("after a restart: %d", j.unsure)
	}
}
