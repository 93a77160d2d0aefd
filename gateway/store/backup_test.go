package store

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// backUp makes a backup of a state directory beside whoever uses it.
func backUp(t testing.TB, state string, o BackupOptions) (file string, m *Manifest) {
	t.Helper()
	d, err := OpenRead(state)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	o.Now = time.Now()
	file, size, m, err := d.Backup(t.Context(), filepath.Join(t.TempDir(), "b.tar.gz"), o)
	if err != nil {
		t.Fatal(err)
	}
	if fi, err := os.Stat(file); err != nil || fi.Size() != size || fi.Mode().Perm() != 0o600 {
		t.Fatal(fi, err)
	}
	return file, m
}

// restored is what a backup becomes: a new state directory.
func restored(t testing.TB, file string) string {
	t.Helper()
	state := filepath.Join(t.TempDir(), "restored")
	if _, err := RestoreBackup(t.Context(), file, state, filepath.Join(state, "openclaw.json"), nil, false); err != nil {
		t.Fatal(err)
	}
	if fi, err := os.Stat(state); err != nil || fi.Mode().Perm() != 0o700 {
		t.Error(fi.Mode(), err)
	}
	return state
}

// tree is all files below a directory: mode and content by name.
func tree(t testing.TB, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	err := filepath.WalkDir(dir, func(p string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		fi, err := e.Info()
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(dir, p)
		if e.IsDir() {
			if rel != "." && fi.Mode().Perm() != 0o700 {
				t.Errorf("%s has mode %v", rel, fi.Mode())
			}
			return nil
		}
		if !fi.Mode().IsRegular() {
			return nil
		}
		raw, err := os.ReadFile(p)
		out[rel] = fmt.Sprintf("%04o %s", fi.Mode().Perm(), raw)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func write(t testing.TB, path, text string, mode fs.FileMode) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
}

// What is in a backup, what is not and why, and what a restore makes of it.
func TestBackupContent(t *testing.T) {
	state, elsewhere := filepath.Join(t.TempDir(), "state"), t.TempDir()
	d := mustOpen(t, state)
	s := mustSessions(t, d)
	if err := s.Put("k", Entry{SessionID: "s1", Label: "the label"}); err != nil {
		t.Fatal(err)
	}
	if err := mustTranscript(t, s, "s1").Append(user("hello")); err != nil {
		t.Fatal(err)
	}
	at := func(name string) string { return filepath.Join(state, name) }
	write(t, at("gateway.token"), "secret", 0o600)
	write(t, at("tls/key.pem"), "key", 0o600)
	write(t, at("openclaw.json"), "not taken from here", 0o600)
	write(t, at("logs/gateway.log"), "log", 0o600)
	write(t, at("my.log"), "log", 0o600)
	write(t, at("my.log.1"), "log", 0o600)
	write(t, at("backups/old.tar.gz"), "old", 0o600)
	write(t, at(".x.0123456789abcdef.tmp"), "half", 0o600)
	write(t, at("workspace/run.sh"), "#!", 0o755)
	write(t, at("workspace/ä\nb"), "odd", 0o644)
	write(t, at("workspace/.x.tmp"), "the user's own", 0o444)
	write(t, at("workspace/logs/a"), "not ours to leave out", 0o600)
	write(t, at("workspace/bad\xff"), "no UTF-8", 0o600)
	write(t, at("workspace/big"), "", 0o600)
	if err := errors.Join(os.Truncate(at("workspace/big"), maxWorkspaceFile+1), os.Symlink("/etc/passwd", at("workspace/link")),
		os.Symlink("/etc", at("dir")), syscall.Mkfifo(at("workspace/fifo"), 0o600)); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(elsewhere, "sub/notes"), "mine", 0o644)
	o := BackupOptions{ConfigPath: at("openclaw.json"), Config: []byte("{a: '${B}'}"), Log: at("my.log"), Profile: "p", Version: "v",
		Workspaces: map[string]string{"main": at("workspace"), "ops": elsewhere}, NotIncluded: []BackupNote{{"$B", "a variable"}}}
	before := tree(t, elsewhere)
	file, m := backUp(t, state, o)
	var out []string
	for _, n := range m.LeftOut {
		out = append(out, n.Name)
	}
	slices.Sort(out)
	if want := []string{"state/dir", "state/workspace/bad\uFFFD", "state/workspace/big", "state/workspace/fifo", "state/workspace/link"}; !slices.Equal(out, want) {
		t.Error(m.LeftOut)
	}
	if len(m.NotIncluded) != 2 || m.NotIncluded[1].Name != elsewhere {
		t.Error(m.NotIncluded)
	}
	var record struct {
		File      string
		At, Bytes int64
		Files     int
	}
	raw, err := os.ReadFile(at(backupRecord))
	if err != nil || json.Unmarshal(raw, &record) != nil || record.File != file || record.Files != m.Count || record.Bytes == 0 || time.Since(time.UnixMilli(record.At)) > time.Minute {
		t.Errorf("%s %v", raw, err)
	}

	o.Outside = true
	file, _ = backUp(t, state, o)
	got := tree(t, restored(t, file))
	want := tree(t, state)
	for _, name := range []string{"gateway.lock", "logs/gateway.log", "my.log", "my.log.1", "backups/old.tar.gz", backupRecord, ".x.0123456789abcdef.tmp",
		"workspace/bad\xff", "workspace/big"} {
		delete(want, name)
	}
	want["openclaw.json"] = "0600 {a: '${B}'}"
	want["workspace/run.sh"] = "0700 #!"
	want["workspace/ä\nb"] = "0600 odd"
	want["workspace/.x.tmp"] = "0600 the user's own"
	for name := range got {
		if rest, ok := strings.CutPrefix(name, "workspaces-"); ok {
			want[name] = strings.Replace(before[strings.SplitN(rest, "/ops/", 2)[1]], "0644", "0600", 1)
		}
	}
	if !maps.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	if len(before) != 1 || !maps.Equal(before, tree(t, elsewhere)) {
		t.Error("the workspace was changed")
	}
}

// While sessions are written, reset and deleted and the index is compacted,
// every backup restores to: all that was acknowledged before it began, prefixes
// only, and an index without a session that has no transcript.
func TestBackupWhileWritten(t *testing.T) {
	state := filepath.Join(t.TempDir(), "state")
	s := mustSessions(t, mustOpen(t, state))
	ctx, stop := context.WithCancel(t.Context())
	var writers sync.WaitGroup
	const keys = 8
	var acked [keys]atomic.Int64 // of key N the last acknowledged message
	first := make(chan struct{}, keys)
	var pause sync.RWMutex // held while a backup is looked at
	defer writers.Wait()
	defer stop()
	for k := range keys {
		writers.Go(func() {
			key := fmt.Sprint("key", k)
			step := func(n int64, id string) string {
				pause.RLock()
				defer pause.RUnlock()
				if n%20 == 1 { // a new session, the old one reset or deleted
					old := id
					id = NewID()
					if old != "" && k%2 == 0 {
						if _, err := s.Delete(key, true); err != nil {
							t.Error(err)
						}
					}
					if err := s.Put(key, Entry{SessionID: id, UpdatedAt: time.Now().UnixMilli(), Label: key}); err != nil {
						t.Error(err)
					}
				}
				tr, err := s.Transcript(Entry{SessionID: id})
				if err == nil {
					err = errors.Join(tr.Append(user(fmt.Sprintf("%s/%d", key, n))), tr.Close())
				}
				if err != nil {
					t.Error(err)
				}
				acked[k].Store(n)
				if n == 1 {
					first <- struct{}{}
				}
				return id
			}
			for n, id := int64(1), ""; ctx.Err() == nil; n++ {
				id = step(n, id)
			}
		})
	}
	writers.Go(func() { // snapshots take the journal's place all the time
		for ctx.Err() == nil {
			pause.RLock()
			if err := s.compact(); err != nil {
				t.Error(err)
			}
			pause.RUnlock()
		}
	})
	for range keys {
		<-first
	}
	round := func() {
		var promised [keys]int64
		for k := range keys {
			promised[k] = acked[k].Load()
		}
		file, _ := backUp(t, state, BackupOptions{})
		pause.Lock()
		defer pause.Unlock()
		if _, err := VerifyBackup(ctx, file); err != nil {
			t.Error(err)
		}
		copied := restored(t, file)
		stored := map[string]bool{}
		for name, text := range tree(t, copied) {
			if strings.Contains(name, ".jsonl") && text != "0600 " && !strings.HasSuffix(text, "\n") {
				t.Errorf("%s is torn: …%q", name, text[max(0, len(text)-40):])
			}
			for _, said := range message.FindAllString(text, -1) {
				stored[said] = true
			}
		}
		for k, n := range promised {
			for i := range n {
				if !stored[fmt.Sprintf("key%d/%d", k, i+1)] {
					t.Errorf("key%d/%d of %d is lost", k, i+1, n)
				}
			}
		}
		again := mustOpen(t, copied)
		index := mustSessions(t, again)
		if len(index.Warnings()) > 0 {
			t.Error(index.Warnings())
		}
		for k, n := range promised {
			key := fmt.Sprint("key", k)
			e, ok := index.Get(key)
			if !ok && k%2 == 0 {
				continue // between a Delete and the Put behind it
			}
			if !ok || e.Label != key {
				t.Errorf("%s: %+v, %v", key, e, ok)
				continue
			}
			// Its messages are n0, n0+1, … without a hole; the last is no older than
			// what was promised, unless the session is new and has none yet.
			said := load(t, mustTranscript(t, index, e.SessionID))
			for i, text := range strings.Split(said, "|") {
				var at int64
				if said == "" {
					break
				} else if _, err := fmt.Sscanf(text, key+"/%d", &at); err != nil || at%20 != int64(i+1)%20 {
					t.Errorf("%s: message %d of its session is %q", key, i, text)
				}
				if i == strings.Count(said, "|") && at < n {
					t.Errorf("%s ends with %d; %d was acknowledged", key, at, n)
				}
			}
		}
		if err := again.Close(); err != nil {
			t.Error(err)
		}
	}
	for range 8 {
		if round(); t.Failed() {
			break
		}
	}
}

var message = regexp.MustCompile(`key[0-9]+/[0-9]+`)

// archive makes what a stranger may send: entries, and with sums the manifest for them.
type archiveEntry struct {
	tar.Header
	text string
}

func plain(name, text string) archiveEntry {
	return archiveEntry{tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o600, Size: int64(len(text))}, text}
}

func archive(t testing.TB, entries ...archiveEntry) []byte {
	t.Helper()
	m := Manifest{Format: backupFormat}
	for _, e := range entries {
		sum := sha256.Sum256([]byte(e.text))
		m.Files = append(m.Files, BackupFile{e.Name, int64(len(e.text)), fmt.Sprintf("%04o", e.Mode), hex.EncodeToString(sum[:])})
	}
	text, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return rawArchive(t, append(entries, plain(manifestName, string(text)))...)
}

func rawArchive(t testing.TB, entries ...archiveEntry) []byte {
	t.Helper()
	var b bytes.Buffer
	zip, _ := gzip.NewWriterLevel(&b, gzip.BestSpeed)
	w := tar.NewWriter(zip)
	for _, e := range entries {
		if err := w.WriteHeader(&e.Header); err != nil {
			t.Fatal(e.Name, err)
		}
		if _, err := io.WriteString(w, e.text); err != nil {
			t.Fatal(e.Name, err)
		}
	}
	if err := errors.Join(w.Close(), zip.Close()); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// gzipped is a tar archive made by hand.
func gzipped(raw []byte) []byte {
	var b bytes.Buffer
	zip := gzip.NewWriter(&b)
	zip.Write(raw)
	zip.Close()
	return b.Bytes()
}

// Every archive of a stranger is refused with the entry named, and nothing is written.
func TestBackupHostile(t *testing.T) {
	link := func(typ byte, name, to string) archiveEntry {
		return archiveEntry{Header: tar.Header{Typeflag: typ, Name: name, Linkname: to, Mode: 0o600}}
	}
	with := func(e archiveEntry, change func(*archiveEntry)) archiveEntry {
		change(&e)
		return e
	}
	good := plain("state/a", "good")
	manifest := func(text string) []byte { return rawArchive(t, good, plain(manifestName, text)) }
	whole := archive(t, good, plain("state/b", "two"))
	defer func(n int) { maxBackupFiles = n }(maxBackupFiles)
	maxBackupFiles = 20
	var many []archiveEntry
	for i := range 30 {
		many = append(many, plain(fmt.Sprint("state/", i), ""))
	}
	lies := gunzip(t, rawArchive(t, plain("state/big", "12345")))
	copy(lies[124:136], "77777777777\x00") // its size in octal, 8 GiB
	copy(lies[148:156], "        ")
	sum := 0
	for _, c := range lies[:512] {
		sum += int(c)
	}
	copy(lies[148:156], fmt.Sprintf("%06o\x00 ", sum))

	for what, c := range map[string]struct {
		raw  []byte
		want string
	}{
		"absolute":             {rawArchive(t, plain("/etc/passwd", "x")), "/etc/passwd: refused: not a plain relative name"},
		"dot dot":              {rawArchive(t, plain("state/../../x", "x")), "state/../../x: refused"},
		"dot":                  {rawArchive(t, plain("state/./x", "x")), "state/./x: refused"},
		"only the directory":   {rawArchive(t, plain("state", "x")), "state: refused: no backup holds this"},
		"elsewhere":            {rawArchive(t, plain("other/x", "x")), "other/x: refused: no backup holds this"},
		"the lock":             {rawArchive(t, plain("state/gateway.lock", "{}")), "state/gateway.lock: refused: no backup holds this"},
		"a workspace's agent":  {rawArchive(t, plain("workspaces/..x/y", "x")), "workspaces/..x/y: refused"},
		"symbolic link":        {rawArchive(t, link(tar.TypeSymlink, "state/l", "/etc")), "state/l: refused: not a plain file"},
		"hard link":            {rawArchive(t, good, link(tar.TypeLink, "state/l", "state/a")), "state/l: refused: not a plain file"},
		"device":               {rawArchive(t, link(tar.TypeChar, "state/d", "")), "state/d: refused: not a plain file"},
		"block device":         {rawArchive(t, link(tar.TypeBlock, "state/d", "")), "state/d: refused: not a plain file"},
		"fifo":                 {rawArchive(t, link(tar.TypeFifo, "state/f", "")), "state/f: refused: not a plain file"},
		"directory":            {rawArchive(t, link(tar.TypeDir, "state/d/", "")), "state/d/: refused: not a plain file"},
		"set-uid":              {rawArchive(t, with(good, func(e *archiveEntry) { e.Mode = 0o4755 })), "state/a: refused: mode 04755"},
		"twice":                {rawArchive(t, good, good), "state/a: refused: its name is there twice"},
		"a file as directory":  {archive(t, good, plain("state/a/b", "x")), "state/a: refused: a file and a directory"},
		"no UTF-8":             {rawArchive(t, with(plain("state/\xff", ""), func(e *archiveEntry) { e.Format = tar.FormatGNU })), "refused"},
		"GNU format":           {rawArchive(t, with(good, func(e *archiveEntry) { e.Format = tar.FormatGNU; e.ModTime = time.Unix(-5, 0) })), "state/a: refused: not in the format"},
		"pax record":           {rawArchive(t, with(good, func(e *archiveEntry) { e.PAXRecords = map[string]string{"SCHILY.xattr.a": "b"} })), `state/a: refused: pax record "SCHILY.xattr.a"`},
		"pax owner":            {rawArchive(t, with(good, func(e *archiveEntry) { e.Uid = 1 << 30 })), `state/a: refused: pax record "uid"`},
		"global pax":           {rawArchive(t, archiveEntry{Header: tar.Header{Typeflag: tar.TypeXGlobalHeader, PAXRecords: map[string]string{"path": "state/x"}}}, good), "refused"},
		"sparse":               {gzipped(sparse()), "refused"},
		"behind the manifest":  {rawArchive(t, plain(manifestName, `{"format":1}`), good), "state/a: refused: it stands behind the manifest"},
		"too many":             {rawArchive(t, many...), "refused: more files than a backup holds"},
		"large configuration":  {rawArchive(t, plain(configEntry, strings.Repeat("x", maxConfigText+1))), configEntry + ": refused: "},
		"a size that lies":     {gzipped(lies), "state/big: damaged or cut off in this file"},
		"missing":              {manifest(`{"format":1,"files":[{"name":"state/gone"}]}`), "state/gone: missing"},
		"extra":                {manifest(`{"format":1}`), "state/a: not in the manifest"},
		"other content":        {manifest(`{"format":1,"files":[{"name":"state/a","size":4,"mode":"0600","sha256":"00"}]}`), "state/a: its content is not what was backed up"},
		"other size":           {manifest(`{"format":1,"files":[{"name":"state/a","size":5}]}`), "state/a: has 4 bytes, should have 5"},
		"other format":         {manifest(`{"format":2}`), "manifest.json: format 2; this openclaw reads format 1"},
		"no JSON":              {manifest(`{`), "manifest.json: damaged"},
		"no manifest":          {rawArchive(t, good), "cut off: the manifest at the end is missing"},
		"empty":                {nil, "not a gzip file"},
		"another file":         {[]byte("hello, I am no archive at all"), "not a gzip file"},
		"no tar":               {gzipped([]byte(strings.Repeat("hello ", 500))), "damaged at its beginning"},
		"cut in the middle":    {whole[:len(whole)/2], "damaged or cut off"},
		"cut by a byte":        {whole[:len(whole)-1], "damaged or cut off at its end"},
		"something behind":     {append(slices.Clone(whole), 'x'), "there is more behind the archive"},
		"another gzip behind":  {append(slices.Clone(whole), whole...), "there is more behind the archive"},
		"more behind the tar":  {gzipped(append(gunzip(t, whole), make([]byte, 512)...)), "the archive goes on behind its end"},
		"a bomb in a manifest": {rawArchive(t, archiveEntry{tar.Header{Typeflag: tar.TypeReg, Name: manifestName, Mode: 0o600, Size: maxManifest + 1}, strings.Repeat(" ", maxManifest+1)}), "manifest.json: refused: "},
	} {
		t.Run(what, func(t *testing.T) {
			dir := t.TempDir()
			file := filepath.Join(dir, "b")
			write(t, file, string(c.raw), 0o600)
			_, err := VerifyBackup(t.Context(), file)
			var bad *BackupError
			if !errors.As(err, &bad) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("verify: %v\nwant %s", err, c.want)
			}
			state := filepath.Join(dir, "state")
			if _, err := RestoreBackup(t.Context(), file, state, filepath.Join(dir, "c"), nil, false); !errors.As(err, &bad) {
				t.Errorf("restore: %v", err)
			}
			if names, _ := os.ReadDir(dir); len(names) != 1 {
				t.Errorf("something was written: %v", names)
			}
		})
	}
}

// sparse is an archive of one file with a hole of a terabyte (PAX format 1.0).
func sparse() []byte {
	block := func(name string, typ byte, size int) []byte {
		h := make([]byte, 512)
		copy(h, name)
		copy(h[100:], "0000600\x000000000\x000000000\x00")
		copy(h[124:], fmt.Sprintf("%011o\x00%011o\x00", size, 0))
		h[156] = typ
		copy(h[257:], "ustar\x0000")
		copy(h[148:], "        ")
		sum := 0
		for _, c := range h {
			sum += int(c)
		}
		copy(h[148:], fmt.Sprintf("%06o\x00 ", sum))
		return h
	}
	records := ""
	for _, kv := range []string{"GNU.sparse.major=1", "GNU.sparse.minor=0", "GNU.sparse.name=state/hole", "GNU.sparse.realsize=1099511627776"} {
		n := len(kv) + 3
		if n+1 >= 10 {
			n++
		}
		records += fmt.Sprintf("%d %s\n", n, kv)
	}
	pad := func(s string) []byte { return append([]byte(s), make([]byte, 512-len(s)%512)...) }
	out := slices.Concat(block("x", 'x', len(records)), pad(records), block("state/hole", '0', 512), pad("1\n1099511627775\n1\n"), make([]byte, 1024))
	return out
}

func gunzip(t testing.TB, raw []byte) []byte {
	t.Helper()
	zip, err := gzip.NewReader(bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	out, err := io.ReadAll(zip)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// Whatever byte is flipped, verify fails and names something, or what is in the
// archive is the same: a few bits of gzip's header and of padding say nothing.
func TestBackupFlippedByte(t *testing.T) {
	var entries []archiveEntry
	for i := range 12 {
		text := make([]byte, 1+rand.IntN(3000))
		for i := range text {
			text[i] = "abcdefghijklmnop"[rand.IntN(16)]
		}
		entries = append(entries, plain(fmt.Sprintf("state/file%d", i), string(text)))
	}
	raw := archive(t, entries...)
	content := gunzip(t, raw)
	harmless := 0
	for range 3000 {
		bent := slices.Clone(raw)
		at := rand.IntN(len(bent))
		bent[at] ^= byte(1 + rand.IntN(255))
		m, err := scanBackup(t.Context(), bytes.NewReader(bent), nil)
		var bad *BackupError
		switch {
		case err == nil:
			if harmless++; m == nil || !bytes.Equal(gunzip(t, bent), content) {
				t.Fatalf("byte %d, now %#x: not noticed", at, bent[at])
			}
		case !errors.As(err, &bad) || bad.Problems[0].String() == "":
			t.Fatalf("byte %d: %v", at, err)
		}
	}
	if harmless > 200 {
		t.Errorf("%d of 3000 flips say nothing", harmless)
	}
}

// Into an empty directory only, and not through links.
func TestRestoreRefuses(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "b")
	write(t, file, string(archive(t, plain("state/a", "good"), plain(configEntry, "{}"))), 0o600)
	state := filepath.Join(dir, "state")
	restore := func() error {
		_, err := RestoreBackup(t.Context(), file, state, filepath.Join(dir, "etc/c.json"), nil, false)
		return err
	}
	refused := func(what, want string) {
		t.Helper()
		if err := restore(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", what, err)
		}
		if left, _ := filepath.Glob(filepath.Join(dir, ".state.????????????????.tmp")); len(left) > 0 {
			t.Errorf("%s: left %v", what, left)
		}
	}
	if err := os.Symlink(t.TempDir(), state); err != nil {
		t.Fatal(err)
	}
	refused("a link", "a symbolic link")
	os.Remove(state)
	write(t, state, "", 0o600)
	refused("a file", "no directory")
	os.Remove(state)
	d := mustOpen(t, state)
	refused("a running gateway", "in use by a gateway with pid")
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	refused("not empty", "is not empty, gateway.lock is in it")
	if err := os.RemoveAll(state); err != nil {
		t.Fatal(err)
	}
	// What a killed restore left goes, what only looks like it stays.
	write(t, filepath.Join(dir, ".state.0123456789abcdef.tmp/a"), "half", 0o600)
	write(t, filepath.Join(dir, ".state.tmp/a"), "another's", 0o600)
	if err := errors.Join(os.Mkdir(state, 0o755), restore()); err != nil {
		t.Fatal(err)
	}
	want := map[string]string{".state.tmp/a": "0600 another's", "state/a": "0600 good", "etc/c.json": "0600 {}"}
	if got := tree(t, dir); got["b"] == "" || !maps.Equal(want, func() map[string]string { delete(got, "b"); return got }()) {
		t.Error(got)
	}
	refused("twice", "is not empty")
	// A configuration that is there stays.
	write(t, filepath.Join(dir, "etc/c.json"), "{mine: 1}", 0o600)
	if err := errors.Join(os.RemoveAll(state), restore()); err != nil {
		t.Fatal(err)
	}
	if got := tree(t, dir)["etc/c.json"]; got != "0600 {mine: 1}" {
		t.Error(got)
	}
}

// A transcript of a quarter of a gigabyte takes a few megabytes of memory.
func TestBackupMemory(t *testing.T) {
	state := filepath.Join(t.TempDir(), "state")
	write(t, filepath.Join(state, "agents/main/sessions/big.jsonl"), "", 0o600)
	if err := os.Truncate(filepath.Join(state, "agents/main/sessions/big.jsonl"), 256<<20); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(filepath.Join(state, "agents/main/sessions/big.jsonl"), os.O_WRONLY|os.O_APPEND, 0)
	if err == nil {
		_, err = f.WriteString("\n{\"torn\":")
		f.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	before := allocated()
	file, m := backUp(t, state, BackupOptions{})
	if m.Bytes != 256<<20+1 {
		t.Errorf("%d bytes", m.Bytes)
	}
	if _, err := VerifyBackup(t.Context(), file); err != nil {
		t.Fatal(err)
	}
	if got := allocated() - before; got > 16<<20 {
		t.Errorf("%d bytes were allocated", got)
	}
}

// FuzzBackup feeds archives of strangers to the reader, as they come and
// compressed: it never panics, and what it lets pass is named plainly.
func FuzzBackup(f *testing.F) {
	for _, raw := range [][]byte{archive(f, plain("state/a", "good"), plain(configEntry, "{}")), rawArchive(f, plain("state/a", "good")), gzipped(sparse())} {
		f.Add(raw, false)
		f.Add(gunzip(f, raw), true)
	}
	f.Fuzz(func(t *testing.T, raw []byte, packed bool) {
		if packed {
			raw = gzipped(raw)
		}
		m, err := scanBackup(t.Context(), bytes.NewReader(raw), func(h *tar.Header) (io.WriteCloser, error) {
			if name := (&Manifest{}).place(h.Name); !filepath.IsLocal(name) || !filepath.IsLocal(h.Name) || h.Typeflag != tar.TypeReg {
				t.Errorf("let in: %+v", h)
			}
			return discard{}, nil
		})
		var bad *BackupError
		if err == nil && m == nil || err != nil && !errors.As(err, &bad) {
			t.Errorf("%v %v", m, err)
		}
	})
}

func allocated() uint64 {
	var s runtime.MemStats
	runtime.ReadMemStats(&s)
	return s.TotalAlloc
}
