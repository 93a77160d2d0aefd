package store

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

func keys(list []Keyed) string {
	var out []string
	for _, k := range list {
		out = append(out, k.Key)
	}
	return strings.Join(out, " ")
}

func TestSessionsIndex(t *testing.T) {
	state := filepath.Join(t.TempDir(), "state")
	d := mustOpen(t, state)
	s := mustSessions(t, d)
	full := Entry{SessionID: "s2", UpdatedAt: 30, SystemSent: true, Label: "<b>", TotalTokens: 1 << 40,
		Origin: &Origin{Provider: "webchat", ThreadID: json.RawMessage(`7`)}, DeliveryContext: &DeliveryContext{Channel: "c"}}
	put := func(key string, e Entry) {
		t.Helper()
		if err := s.Put(key, e); err != nil {
			t.Fatal(err)
		}
	}
	put("a", Entry{SessionID: "s1", UpdatedAt: 10})
	put("b", full)
	put("c", Entry{SessionID: "s3", UpdatedAt: 20})
	put("a", Entry{SessionID: "s4", UpdatedAt: 40})
	if _, err := s.Delete("c", true); err != nil {
		t.Fatal(err)
	}
	e, err := s.Update("a", func(e *Entry) { e.Label = "renamed" })
	if err != nil || e.SessionID != "s4" || e.Label != "renamed" {
		t.Fatal(e, err)
	}
	check := func(when string) {
		t.Helper()
		if got, ok := s.Get("b"); !ok || !reflect.DeepEqual(got, full) {
			t.Errorf("%s: %+v", when, got)
		}
		if got := keys(s.List()); got != "a b" || s.Count() != 2 || keys(s.Recent(1)) != "a" {
			t.Errorf("%s: %s", when, got)
		}
		if key, ok := s.KeyOf("s4"); key != "a" || !ok {
			t.Errorf("%s: %q", when, key)
		}
		if _, ok := s.KeyOf("s1"); ok {
			t.Errorf("%s: an old session has a key", when)
		}
		if e, _ := s.Get("a"); e.Label != "renamed" {
			t.Errorf("%s: %+v", when, e)
		}
		if len(s.Warnings()) > 0 {
			t.Errorf("%s: %v", when, s.Warnings())
		}
	}
	check("in memory")
	d.lock.Close() // as after kill -9
	d = mustOpen(t, state)
	s = mustSessions(t, d)
	check("from the journal")
	d.Close()
	if fi, _ := os.Stat(filepath.Join(s.dir.path, journalName)); fi.Size() != 0 {
		t.Error("close left a journal of", fi.Size())
	}
	if _, err := s.Update("a", func(*Entry) {}); err == nil {
		t.Error("a put after close")
	}
	d = mustOpen(t, state)
	s = mustSessions(t, d)
	check("from the snapshot")
}

// Erase leaves neither the entry nor the transcript, also after a restart.
func TestErase(t *testing.T) {
	state := filepath.Join(t.TempDir(), "state")
	d := mustOpen(t, state)
	s := mustSessions(t, d)
	for _, key := range []string{"gone", "stays"} {
		e := Entry{SessionID: NewID()}
		if err := s.Put(key, e); err != nil {
			t.Fatal(err)
		}
		tr, err := s.Transcript(e)
		if err != nil {
			t.Fatal(err)
		}
		if err := tr.Append(Line{Type: TypeMessage, Message: &Message{Role: RoleUser, Content: Text("x")}}); err != nil {
			t.Fatal(err)
		}
		tr.Close()
	}
	if err := s.Erase("gone"); err != nil {
		t.Fatal(err)
	}
	if err := s.Erase("nothing"); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		files, _ := filepath.Glob(filepath.Join(s.dir.path, "*"+transcriptSuffix))
		files = slices.DeleteFunc(files, func(f string) bool { return filepath.Base(f) == journalName })
		if _, ok := s.Get("gone"); ok || len(files) != 1 || s.Count() != 1 {
			t.Errorf("%v, %d sessions", files, s.Count())
		}
		d.Close()
		if err := os.Remove(filepath.Join(s.dir.path, snapshotName)); err != nil { // the index is made again
			t.Fatal(err)
		}
		d = mustOpen(t, state)
		s = mustSessions(t, d)
	}
}

func TestSessionIDsAreFileNames(t *testing.T) {
	s := mustSessions(t, mustOpen(t, filepath.Join(t.TempDir(), "state")))
	for _, id := range []string{"", ".", "..", "../x", "a/b", "a\x00", "-a", ".a", "index", "INDEX", strings.Repeat("a", 129), "é"} {
		_, err := s.Transcript(Entry{SessionID: id})
		_, archiveErr := s.Archive(id, "deleted")
		if err == nil || archiveErr == nil || s.Put("k", Entry{SessionID: id}) == nil {
			t.Errorf("%q is no session id", id)
		}
	}
	seen := map[string]bool{}
	for range 100 {
		id := NewID()
		if !validSessionID(id) || len(id) != 36 || id[14] != '4' || !strings.ContainsRune("89ab", rune(id[19])) || seen[id] {
			t.Fatal(id)
		}
		seen[id] = true
	}
}

// The index of the existing product: fields that we do not know stay, also
// through our own changes, and odd entries do not spoil the others.
func TestForeignIndex(t *testing.T) {
	state := filepath.Join(t.TempDir(), "state")
	dir := filepath.Join(state, "agents/main/sessions")
	file := `{
  "agent:main:main": {"sessionId": "s1", "updatedAt": 5, "skillsSnapshot": {"prompt": "<x>", "n": [1.50]}, "sessionFile": "/x/s1.jsonl", "label": 7},
  "agent:main:odd": {"updatedAt": 4},
  "agent:main:bad": 3
}`
	if err := errors.Join(makeDirs(dir), os.WriteFile(filepath.Join(dir, snapshotName), []byte(file), 0o644)); err != nil {
		t.Fatal(err)
	}
	for round := range 3 {
		d := mustOpen(t, state)
		s := mustSessions(t, d)
		if s.Count() != 2 || round == 0 && len(s.Warnings()) != 1 {
			t.Fatal(round, s.List(), s.Warnings())
		}
		if _, err := s.Update("agent:main:main", func(e *Entry) { e.UpdatedAt++; e.Model = "m" }); err != nil {
			t.Fatal(err)
		}
		if round == 1 {
			d.lock.Close() // the journal alone must keep them too
		} else {
			d.Close()
		}
	}
	data, _ := os.ReadFile(filepath.Join(dir, snapshotName))
	var got map[string]map[string]any
	if err := json.Unmarshal(data, &got); err != nil {
		t.Fatal(err)
	}
	want := map[string]any{"sessionId": "s1", "updatedAt": 8.0, "model": "m", "sessionFile": "/x/s1.jsonl", "label": 7.0,
		"skillsSnapshot": map[string]any{"prompt": "<x>", "n": []any{1.5}}}
	if !reflect.DeepEqual(got["agent:main:main"], want) {
		t.Errorf("%v", got["agent:main:main"])
	}
}

// age sets a file's times, so that what is newer does not depend on the clock's steps.
func age(t *testing.T, path string, d time.Duration) {
	t.Helper()
	when := time.Now().Add(-d)
	if err := os.Chtimes(path, when, when); err != nil {
		t.Fatal(err)
	}
}

func TestRebuild(t *testing.T) {
	// Each state begins with sessions a, b, c (with transcripts A, B, C), stored and closed.
	tests := map[string]struct {
		damage   func(t *testing.T, dir string)
		want     string
		warnings int
	}{
		"untouched":     {func(t *testing.T, dir string) {}, "a b c", 0},
		"snapshot gone": {func(t *testing.T, dir string) { os.Remove(filepath.Join(dir, snapshotName)) }, "a b c", 0},
		"all gone": {func(t *testing.T, dir string) {
			os.Remove(filepath.Join(dir, snapshotName))
			os.Remove(filepath.Join(dir, journalName))
		}, "a b c", 0},
		"snapshot garbage": {func(t *testing.T, dir string) {
			os.WriteFile(filepath.Join(dir, snapshotName), []byte("{\x00\x00"), 0o600)
		}, "a b c", 1},
		"one lost": {func(t *testing.T, dir string) {
			path := filepath.Join(dir, snapshotName)
			os.WriteFile(path, []byte(`{"a":{"sessionId":"sa","updatedAt":1},"b":{"sessionId":"sb","updatedAt":2}}`), 0o600)
			age(t, path, time.Hour)
		}, "a b c", 0},
		"one given up before the snapshot": {func(t *testing.T, dir string) {
			path := filepath.Join(dir, snapshotName)
			os.WriteFile(path, []byte(`{"a":{"sessionId":"sa","updatedAt":1},"b":{"sessionId":"sb","updatedAt":2}}`), 0o600)
			age(t, filepath.Join(dir, "sc.jsonl"), time.Hour)
		}, "a b", 0},
		"one given up since": {func(t *testing.T, dir string) {
			age(t, filepath.Join(dir, snapshotName), time.Hour)
			os.WriteFile(filepath.Join(dir, journalName), []byte(`{"key":"c","dropped":"sc"}`+"\n"), 0o600)
		}, "a b", 0},
		"journal torn and corrupt": {func(t *testing.T, dir string) {
			os.WriteFile(filepath.Join(dir, journalName), []byte("\x00\x00\x00\n"+`{"key":"d","entry":{"sessionId":"sd","updatedAt":9}}`+"\n"+`{"key":"a"`), 0o600)
		}, "a b c d", 0},
		"strangers": {func(t *testing.T, dir string) {
			os.Remove(filepath.Join(dir, snapshotName))
			os.WriteFile(filepath.Join(dir, "x.jsonl"), []byte("no header\n"), 0o600)
			os.WriteFile(filepath.Join(dir, "y.jsonl"), []byte(`{"type":"session","id":"y"}`+"\n"), 0o600)
			os.WriteFile(filepath.Join(dir, "z.jsonl"), nil, 0o600)
			os.WriteFile(filepath.Join(dir, "copy.jsonl"), []byte(`{"type":"session","id":"orig","sessionKey":"e"}`+"\n"), 0o600)
			os.WriteFile(filepath.Join(dir, "sd.jsonl.deleted.2026"), []byte("x"), 0o600)
			os.Mkdir(filepath.Join(dir, "w.jsonl"), 0o700)
		}, "a b c", 3},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			state := filepath.Join(t.TempDir(), "state")
			d := mustOpen(t, state)
			s := mustSessions(t, d)
			for i, key := range []string{"a", "b", "c"} {
				e := Entry{SessionID: "s" + key, UpdatedAt: int64(i + 1)}
				if err := errors.Join(s.Put(key, e), mustTranscript(t, s, e.SessionID).Append(user(strings.ToUpper(key)))); err != nil {
					t.Fatal(err)
				}
			}
			d.Close()
			test.damage(t, s.dir.path)
			for round := range 2 { // the second time from what the first wrote
				d = mustOpen(t, state)
				s = mustSessions(t, d)
				list := s.List()
				slices.SortFunc(list, func(a, b Keyed) int { return strings.Compare(a.Key, b.Key) })
				if got := keys(list); got != test.want || len(s.Warnings()) != test.warnings {
					t.Errorf("%s, want %s; %v", got, test.want, s.Warnings())
				}
				for _, k := range list {
					if k.Key == "d" {
						continue
					}
					if got := load(t, mustTranscript(t, s, k.SessionID)); got != strings.ToUpper(k.Key) {
						t.Errorf("%s is %q", k.Key, got)
					}
				}
				if e, _ := s.Get("a"); round == 1 && e.Label != "put" {
					t.Errorf("a put behind the damage is lost: %+v", e)
				}
				if _, err := s.Update("a", func(e *Entry) { e.Label = "put" }); err != nil {
					t.Error(err)
				}
				d.lock.Close()
				test.warnings = 0
			}
		})
	}
}

// After a reset the old transcript still names the key: it must not come back,
// and the new one must, when the journal line of the reset was lost.
func TestRebuildAfterReset(t *testing.T) {
	state := filepath.Join(t.TempDir(), "state")
	d := mustOpen(t, state)
	s := mustSessions(t, d)
	before := Entry{SessionID: "old", UpdatedAt: time.Now().UnixMilli() - 10_000, Label: "kept"}
	if err := errors.Join(s.Put("k", before), mustTranscript(t, s, "old").Append(user("OLD"))); err != nil {
		t.Fatal(err)
	}
	data, _ := snapshot(s.rows)
	if err := errors.Join(s.Put("k", Entry{SessionID: "new", UpdatedAt: time.Now().UnixMilli()}), mustTranscript(t, s, "new").Append(user("NEW"))); err != nil {
		t.Fatal(err)
	}
	d.Close()
	path := filepath.Join(s.dir.path, snapshotName)
	for _, lost := range []bool{false, true} {
		if lost {
			os.WriteFile(path, data, 0o600)
		}
		age(t, path, time.Hour)
		d = mustOpen(t, state)
		s = mustSessions(t, d)
		if e, _ := s.Get("k"); e.SessionID != "new" || s.Count() != 1 || lost && e.Label != "kept" {
			t.Errorf("lost %v: %+v", lost, e)
		}
		d.Close()
	}
}

func TestDeleteArchives(t *testing.T) {
	state := filepath.Join(t.TempDir(), "state")
	d := mustOpen(t, state)
	s := mustSessions(t, d)
	for _, id := range []string{"s1", "s2", "s3"} {
		if err := s.Put("k"+id, Entry{SessionID: id}); err != nil {
			t.Fatal(err)
		}
	}
	tr := mustTranscript(t, s, "s1")
	if err := errors.Join(tr.Append(user("A")), mustTranscript(t, s, "s2").Append(user("B"))); err != nil {
		t.Fatal(err)
	}
	archived, err := s.Delete("ks1", true)
	if err != nil || len(archived) != 1 {
		t.Fatal(archived, err)
	}
	name, when, _ := strings.Cut(filepath.Base(archived[0]), ".jsonl.deleted.")
	if _, err := time.Parse("2006-01-02T15-04-05.000Z", when); name != "s1" || err != nil {
		t.Error(archived[0], err)
	}
	if err := tr.Append(user("the turn that was running")); err != nil {
		t.Error(err)
	}
	if got := load(t, tr); got != "A|the turn that was running" {
		t.Error(got)
	}
	if data, _ := os.ReadFile(archived[0]); !strings.Contains(string(data), "was running") {
		t.Errorf("%s", data)
	}
	if archived, err := s.Delete("ks2", false); len(archived) != 0 || err != nil {
		t.Error(archived, err)
	}
	if archived, err := s.Delete("ks3", true); len(archived) != 0 || err != nil {
		t.Error("there was no transcript:", archived, err)
	}
	if archived, err := s.Delete("never was", true); len(archived) != 0 || err != nil {
		t.Error(archived, err)
	}
	d.lock.Close() // a crash does not bring them back
	s = mustSessions(t, mustOpen(t, state))
	if s.Count() != 0 {
		t.Error(s.List())
	}
}

func TestSessionsCompact(t *testing.T) {
	state := filepath.Join(t.TempDir(), "state")
	d := mustOpen(t, state)
	s := mustSessions(t, d)
	s.compactAt = 10_000
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			for i := range 300 {
				if err := s.Put(fmt.Sprint("k", w), Entry{SessionID: fmt.Sprint("s", w), UpdatedAt: int64(i)}); err != nil {
					t.Error(err)
				}
				s.List()
				s.writeMu.Lock()
				if s.compactAt > 10_000 {
					s.compactAt = 10_000
				}
				s.writeMu.Unlock()
			}
		})
	}
	wg.Wait()
	s.compaction.Wait()
	s.compactAt = 10_000
	if err := s.Put("k0", Entry{SessionID: "s0", UpdatedAt: 299}); err != nil { // if more is left, it goes now
		t.Fatal(err)
	}
	s.compaction.Wait()
	if s.journal.size > 10_000 {
		t.Error("the journal has", s.journal.size)
	}
	d.lock.Close()
	s = mustSessions(t, mustOpen(t, state))
	for _, k := range s.List() {
		if k.UpdatedAt != 299 {
			t.Error(k)
		}
	}
	if s.Count() != 4 {
		t.Error(s.Count())
	}
}

// A crash at the worst moments of a compaction: the snapshot is new and the
// journal still old, or a line came while the snapshot was written.
func TestCompactBesideChanges(t *testing.T) {
	state := filepath.Join(t.TempDir(), "state")
	d := mustOpen(t, state)
	s := mustSessions(t, d)
	for i := range 10 {
		if err := s.Put("k", Entry{SessionID: "s1", UpdatedAt: int64(i)}); err != nil {
			t.Fatal(err)
		}
	}
	upTo := s.journal.size
	data, _ := snapshot(s.rows)
	if err := errors.Join(s.dir.replace(snapshotName, data), s.Put("late", Entry{SessionID: "s2"})); err != nil {
		t.Fatal(err)
	}
	for _, cut := range []bool{false, true} {
		if cut {
			if err := errors.Join(s.cutJournal(upTo), s.Put("later", Entry{SessionID: "s3"})); err != nil {
				t.Fatal(err)
			}
		}
		copied := filepath.Join(t.TempDir(), "copy")
		if err := os.CopyFS(copied, os.DirFS(state)); err != nil {
			t.Fatal(err)
		}
		os.Chmod(copied, 0o700)
		again := mustSessions(t, mustOpen(t, copied))
		e, _ := again.Get("k")
		_, late := again.Get("late")
		_, later := again.Get("later")
		if e.UpdatedAt != 9 || !late || later != cut || len(again.Warnings()) > 0 {
			t.Errorf("cut %v: %v %v %v", cut, again.List(), late, again.Warnings())
		}
	}
}

// No turn waits for the snapshot of thousands of sessions: what Put does while
// one is written is what it does otherwise.
func TestPutDoesNotWaitForASnapshot(t *testing.T) {
	s := mustSessions(t, mustOpen(t, filepath.Join(t.TempDir(), "state")))
	writing, release := make(chan bool), make(chan bool)
	s.dir.write = func(f *os.File, p []byte) (int, error) {
		if strings.Contains(f.Name(), snapshotName) {
			writing <- true
			<-release
		}
		return f.Write(p)
	}
	s.compactAt = 0
	if err := s.Put("a", Entry{SessionID: "s1"}); err != nil {
		t.Fatal(err)
	}
	<-writing
	if err := s.Put("b", Entry{SessionID: "s2"}); err != nil || s.Count() != 2 {
		t.Error(err, s.Count())
	}
	close(release)
	s.compaction.Wait()
	s.dir.write = (*os.File).Write
	if data, err := os.ReadFile(filepath.Join(s.dir.path, journalName)); err != nil || strings.Count(string(data), "\n") != 1 {
		t.Errorf("journal: %q %v", data, err)
	}
}

func BenchmarkTurn(b *testing.B) {
	for _, sessions := range []int{0, 10_000} {
		b.Run(fmt.Sprintf("sessions=%d", sessions), func(b *testing.B) {
			d := mustOpen(b, filepath.Join(b.TempDir(), "state"))
			s := mustSessions(b, d)
			for i := range sessions {
				if err := s.Put(fmt.Sprint("agent:main:k", i), Entry{SessionID: NewID(), UpdatedAt: int64(i)}); err != nil {
					b.Fatal(err)
				}
			}
			e := Entry{SessionID: NewID()}
			tr := mustTranscript(b, s, e.SessionID)
			b.Run("put", func(b *testing.B) {
				for b.Loop() {
					if err := s.Put("agent:main:main", e); err != nil {
						b.Fatal(err)
					}
				}
			})
			b.Run("append", func(b *testing.B) {
				for b.Loop() {
					if err := tr.Append(user("hello there")); err != nil {
						b.Fatal(err)
					}
				}
			})
		})
	}
}

func BenchmarkLoadIndex(b *testing.B) {
	state := filepath.Join(b.TempDir(), "state")
	d := mustOpen(b, state)
	s := mustSessions(b, d)
	for i := range 10_000 {
		if err := s.Put(fmt.Sprint("agent:main:k", i), Entry{SessionID: NewID(), UpdatedAt: int64(i), Model: "m", ModelProvider: "p", TotalTokens: 5}); err != nil {
			b.Fatal(err)
		}
	}
	d.Close()
	for b.Loop() {
		d, err := Open(state)
		if err != nil {
			b.Fatal(err)
		}
		mustSessions(b, d)
		d.Close()
	}
}
