package main

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"openclaw/wire"
)

// debounce is what the gateways of these tests wait for quiet.
const debounce = 40 * time.Millisecond

// told is what a client is told of the configuration.
type told struct {
	event string
	wire.ConfigChanged
	Error  string             `json:"error"`
	Issues []wire.ConfigIssue `json:"issues"`
}

// edited is a gateway whose configuration file is changed, with a client that
// must outlive every change that needs no restart.
type edited struct {
	*house
	t        *testing.T
	g        *process
	client   *wire.Client
	told     chan told // configuration events, in their order
	held     *told     // one that was taken and is the next all the same
	sections object    // of the file besides the system prompt
	edits    int
}

// newEdited runs a gateway. sections are not to have hotReload or systemPrompt.
func newEdited(t *testing.T, sections object) *edited {
	t.Helper()
	e := &edited{t: t, told: make(chan told, 1<<12), sections: object{}}
	for name, section := range sections {
		e.sections[name] = section
	}
	gateway := object{"hotReload": object{"debounceMs": debounce.Milliseconds()}}
	if more, ok := e.sections["gateway"].(object); ok {
		for name, section := range more {
			gateway[name] = section
		}
	}
	e.sections["gateway"] = gateway
	e.house = newHouse(t, e.sections)
	e.g = e.start()
	e.listen()
	eventually(t, patience, func() error { // the watcher begins after the first answers, and has descriptors of its own
		if e.status().Watch == "" {
			return errors.New("the file is not followed yet")
		}
		return nil
	})
	return e
}

// listen makes the client.
func (e *edited) listen() {
	e.t.Helper()
	e.client = e.mustConnect(func(in wire.Inbound) {
		if !strings.HasPrefix(in.Event, "config.") {
			return
		}
		v := told{event: in.Event}
		if err := json.Unmarshal(in.Payload, &v); err != nil {
			e.t.Error(err)
		}
		e.told <- v
	})
}

// text is the configuration with another system prompt than ever before.
func (e *edited) text() string {
	e.edits++
	gateway := object{"port": e.port, "auth": object{"mode": e.secret, e.secret: e.token}}
	all := object{"agents": object{"defaults": object{"systemPrompt": fmt.Sprintf("edit %d", e.edits)}}}
	for name, section := range e.sections {
		all[name] = section
	}
	for name, section := range e.sections["gateway"].(object) {
		gateway[name] = section
	}
	all["gateway"] = gateway
	raw, err := json.MarshalIndent(all, "", "  ")
	if err != nil {
		e.t.Fatal(err)
	}
	return string(raw) + "\n"
}

func hashOf(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}

// next is the next thing that the client is told of the configuration.
func (e *edited) next() told {
	e.t.Helper()
	if held := e.held; held != nil {
		e.held = nil
		return *held
	}
	return take(e.t, e.told, "an event about the configuration")
}

// skipRejected lets go of rejections up to the next other event, which is the
// next to be taken.
func (e *edited) skipRejected() {
	e.t.Helper()
	for {
		if got := e.next(); got.event != "config.rejected" {
			e.held = &got
			return
		}
	}
}

// skipGone lets go of the rejection of a file that was gone for a moment: what
// took its place in two steps, since a time that is as long ago as the debounce,
// may have been seen between them.
func (e *edited) skipGone(since time.Time) {
	e.t.Helper()
	if time.Since(since) < debounce {
		return
	}
	if got := e.next(); got.event != "config.rejected" || !strings.HasSuffix(got.Error, " is gone") {
		e.held = &got
	}
}

// applied wants the next event to be that a text is in effect.
func (e *edited) applied(text string, keys ...string) {
	e.t.Helper()
	got := e.next()
	if got.event != "config.changed" || got.Hash != hashOf(text) || !slices.Equal(got.Applied, keys) || len(got.Pending) > 0 {
		e.t.Errorf("told %+v, want %q applied of %s", got, keys, hashOf(text))
	}
	if s := e.status(); s.LoadedHash != got.Hash || s.FileHash != got.Hash || s.LastError != "" || len(s.Pending) > 0 {
		e.t.Errorf("status %+v, want %s", s, got.Hash)
	}
}

const promptKey = "agents.defaults.systemPrompt"

// rejected wants the next event to be that the file is not taken, for this
// reason, that the log and the status say so too, and that nothing changed.
func (e *edited) rejected(reason string) told {
	e.t.Helper()
	before := e.status().LoadedHash
	got := e.next()
	all, _ := json.Marshal(got)
	var whole string
	for _, i := range got.Issues {
		whole += fmt.Sprintf("%s:%d:%d: %s\n", e.config, i.Line, i.Column, strings.TrimPrefix(i.Path+": "+i.Message, ": "))
	}
	if got.event != "config.rejected" || !strings.Contains(got.Error+whole, reason) {
		e.t.Errorf("told %s, want a rejection with %q", all, reason)
	}
	s := e.status()
	if s.LoadedHash != before || !strings.Contains(s.LastError, reason) {
		e.t.Errorf("status %+v, want %q and hash %s", s, reason, before)
	}
	quoted, _ := json.Marshal(reason)
	e.g.logs("config reload rejected", strings.Trim(string(quoted), `"`))
	return got
}

// status is what the gateway says of its configuration.
func (e *edited) status() *wire.StatusConfig {
	e.t.Helper()
	var st wire.Status
	if err := e.client.Call(e.ctx, "status", nil, &st); err != nil || st.Config == nil {
		e.t.Fatalf("status: %+v, %v", st.Config, err)
	}
	return st.Config
}

// ticks waits a number of milliseconds between two steps of an editor.
func ticks(ms int) {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for range ms {
		<-tick.C
	}
}

// replace is a write to a new file that is then renamed.
func replace(path, text string) error {
	temp := filepath.Join(filepath.Dir(path), ".new~")
	return errors.Join(os.WriteFile(temp, []byte(text), 0o600), os.Rename(temp, path))
}

// inPlace writes pieces into a file that is opened once.
func inPlace(path string, flags, pause int, pieces ...string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|flags, 0o600)
	if err != nil {
		return err
	}
	var size int64
	for _, piece := range pieces {
		if _, err := f.WriteString(piece); err != nil {
			return err
		}
		size += int64(len(piece))
		ticks(pause)
	}
	return errors.Join(f.Truncate(size), f.Sync(), f.Close())
}

// pointTo makes a symbolic link, in the place of whatever is there.
func pointTo(link, target string) error {
	temp := link + ".link"
	return errors.Join(os.Symlink(target, temp), os.Rename(temp, link))
}

// editors change the file at a path into another text, as the programs do it
// whose names they have. Each leaves the path for the next.
func editors(beside string) []struct {
	name string
	edit func(path, text string) error
} {
	generation := 0
	return []struct {
		name string
		edit func(path, text string) error
	}{
		{"vim", func(path, text string) error { // backupcopy=no
			probe := filepath.Join(filepath.Dir(path), "4913")
			return errors.Join(os.WriteFile(probe, nil, 0o600), os.Remove(probe), os.Rename(path, path+"~"),
				inPlace(path, os.O_CREATE|os.O_TRUNC, 0, text), os.Chmod(path, 0o600), os.Remove(path+"~"))
		}},
		{"vim with a copy", func(path, text string) error { // backupcopy=yes
			old, err := os.ReadFile(path)
			return errors.Join(err, os.WriteFile(path+"~", old, 0o600), inPlace(path, os.O_TRUNC, 0, text), os.Chmod(path, 0o600), os.Remove(path+"~"))
		}},
		{"nano", func(path, text string) error { return inPlace(path, os.O_TRUNC, 0, strings.SplitAfter(text, "\n")...) }},
		{"vi of busybox", func(path, text string) error { return inPlace(path, os.O_CREATE, 0, text) }},
		{"emacs", func(path, text string) error {
			lock := filepath.Join(filepath.Dir(path), ".#"+filepath.Base(path))
			return errors.Join(os.Symlink("me@here.1", lock), os.Remove(lock), os.Rename(path, path+"~"), inPlace(path, os.O_CREATE|os.O_EXCL, 0, text))
		}},
		{"sed -i", func(path, text string) error {
			var v struct {
				Agents struct{ Defaults struct{ SystemPrompt string } }
			}
			if err := json.Unmarshal([]byte(text), &v); err != nil {
				return err
			}
			prompt := v.Agents.Defaults.SystemPrompt
			return exec.Command("sed", "-i.bak", "s/edit [0-9]*/"+prompt+"/", path).Run()
		}},
		{"mv", func(path, text string) error {
			if err := os.WriteFile(path+".mine", []byte(text), 0o600); err != nil {
				return err
			}
			return exec.Command("mv", path+".mine", path).Run()
		}},
		{"ten pieces", func(path, text string) error {
			var pieces []string
			for i := range 10 {
				pieces = append(pieces, text[len(text)*i/10:len(text)*(i+1)/10])
			}
			return inPlace(path, os.O_TRUNC, 2, pieces...)
		}},
		{"truncate then write", func(path, text string) error {
			err := os.Truncate(path, 0)
			ticks(5)
			return errors.Join(err, inPlace(path, 0, 0, text))
		}},
		{"delete then create", func(path, text string) error {
			err := os.Remove(path)
			ticks(5)
			return errors.Join(err, inPlace(path, os.O_CREATE, 0, text))
		}},
		{"a symbolic link takes its place", func(path, text string) error {
			return errors.Join(os.WriteFile(filepath.Join(beside, "one"), []byte(text), 0o600), pointTo(path, filepath.Join(beside, "one")))
		}},
		{"behind a link, in place", func(path, text string) error { return inPlace(path, os.O_TRUNC, 0, text) }},
		{"behind a link, by rename", func(path, text string) error { return replace(filepath.Join(beside, "one"), text) }},
		{"symlink swap", func(path, text string) error {
			return errors.Join(os.WriteFile(filepath.Join(beside, "two"), []byte(text), 0o600), pointTo(path, filepath.Join(beside, "two")))
		}},
		{"ConfigMap", func(path, text string) error {
			generation++
			dir := fmt.Sprintf("..%d", generation)
			return errors.Join(os.Mkdir(filepath.Join(beside, dir), 0o700), os.WriteFile(filepath.Join(beside, dir, "file"), []byte(text), 0o600),
				pointTo(filepath.Join(beside, "..data"), dir), pointTo(path, filepath.Join(beside, "..data", "file")))
		}},
		{"ConfigMap swap", func(path, text string) error {
			generation++
			dir := fmt.Sprintf("..%d", generation)
			return errors.Join(os.Mkdir(filepath.Join(beside, dir), 0o700), os.WriteFile(filepath.Join(beside, dir, "file"), []byte(text), 0o600),
				pointTo(filepath.Join(beside, "..data"), dir), os.RemoveAll(filepath.Join(beside, fmt.Sprintf("..%d", generation-1))))
		}},
		{"a file again", replace},
	}
}

// TestEditors changes the file of a running gateway in every way that there is,
// and wants each to be applied once.
func TestEditors(t *testing.T) {
	t.Parallel()
	e := newEdited(t, nil)
	first := e.text() // sed finds its mark there
	if err := replace(e.config, first); err != nil {
		t.Fatal(err)
	}
	e.applied(first, promptKey)
	for range 2 {
		for _, editor := range editors(e.dir) {
			text, began := e.text(), time.Now()
			if err := editor.edit(e.config, text); err != nil {
				t.Fatalf("%s: %v", editor.name, err)
			}
			// An editor that the machine held up for longer than the debounce
			// may have been seen at half its work.
			if time.Since(began) >= debounce {
				e.skipRejected()
			}
			// That it comes once is seen by the next one's event.
			if e.applied(text, promptKey); t.Failed() {
				t.Fatalf("the editor was %s", editor.name)
			}
		}
		for _, name := range []string{"one", "two", "..data"} {
			os.Remove(filepath.Join(e.dir, name))
		}
		if dirs, err := filepath.Glob(filepath.Join(e.dir, "..[0-9]*")); err == nil {
			for _, dir := range dirs {
				os.RemoveAll(dir)
			}
		}
	}
}

// TestBrokenFiles puts things in the place of a running gateway's file that are
// no configuration, and then mends it.
func TestBrokenFiles(t *testing.T) {
	t.Parallel()
	e := newEdited(t, nil)
	e.undisturbed() // opens what stays open
	fds, _, _ := e.g.usage()
	// A directory cannot take a file's place in one step, anything else can.
	directory := func(make func() error) func(string) error {
		return func(string) error { return errors.Join(os.Remove(e.config), make()) }
	}
	instead := func(make func(path string) error) func(string) error {
		return func(string) error {
			return errors.Join(make(e.config+".other"), os.Rename(e.config+".other", e.config))
		}
	}
	root := os.Geteuid() == 0
	for _, tt := range []struct {
		name string
		do   func(text string) error // text: the next one
		want string                  // reason of the rejection; "": it is taken
	}{
		{"half of it", func(text string) error { return replace(e.config, text[:len(text)-20]) }, ""},
		{"empty", func(string) error { return os.Truncate(e.config, 0) }, e.config + ":1:1: "},
		{"wrong", func(string) error { return replace(e.config, "{\n  gateway: { prot: 1 },\n}") }, e.config + ":2:14: gateway.prot"},
		{"two things wrong", func(string) error { return replace(e.config, "{\n  gateway: { prot: 1 },\n  agents: 1,\n}") }, e.config + ":3:11: agents"},
		{"zeros", func(string) error { return replace(e.config, strings.Repeat("\x00", 4096)) }, e.config + ":1:1: "},
		{"not UTF-8", func(string) error { return replace(e.config, "{\n  // \xff\n}") }, e.config + ":2:"},
		{"no token", func(string) error { return replace(e.config, "{}") }, "gateway.auth.token is not set"},
		{"10 MB", func(text string) error { return replace(e.config, text+strings.Repeat("// a comment\n", 10<<20/13)) }, "bytes"},
		{"gone", func(string) error { return os.Remove(e.config) }, e.config + " is gone"},
		{"a directory", directory(func() error { return os.Mkdir(e.config, 0o700) }), "not a regular file"},
		{"a full directory", directory(func() error { return os.MkdirAll(e.config+"/openclaw.json", 0o700) }), "not a regular file"},
		{"a FIFO", instead(func(path string) error { return syscall.Mkfifo(path, 0o600) }), "not a regular file"},
		{"a dangling link", instead(func(path string) error { return os.Symlink("nowhere", path) }), e.config + " is gone"},
		{"a loop", instead(func(path string) error { return os.Symlink(e.config, path) }), "too many levels"},
		{"a device", instead(func(path string) error { return os.Symlink("/dev/zero", path) }), "not a regular file"},
		{"others may write", func(text string) error {
			return errors.Join(os.WriteFile(e.config+".w", []byte(text), 0o600), os.Chmod(e.config+".w", 0o666), os.Rename(e.config+".w", e.config))
		}, "chmod 600"},
		{"nobody may read", func(text string) error {
			return errors.Join(os.WriteFile(e.config+".r", []byte(text), 0), os.Rename(e.config+".r", e.config))
		}, map[bool]string{false: "permission denied"}[root]},
		{"another's", func(text string) error {
			if !root { // cannot make one
				return errors.Join(os.Remove(e.config), os.Mkdir(e.config, 0o700))
			}
			other := filepath.Join(e.dir, "another's")
			return errors.Join(os.WriteFile(other, []byte(text), 0o600), os.Chown(other, 65533, 65533), pointTo(e.config, other))
		}, map[bool]string{true: "it belongs to uid 65533", false: "not a regular file"}[root]},
	} {
		text := e.text()
		want := tt.want
		if tt.name == "half of it" {
			lines := strings.Split(text[:len(text)-20], "\n")
			want = fmt.Sprintf("%s:%d:%d: ", e.config, len(lines), len(lines[len(lines)-1])+1)
		}
		began := time.Now()
		if err := tt.do(text); err != nil {
			t.Fatalf("%s: %v", tt.name, err)
		}
		if tt.name != "gone" && tt.name != "a dangling link" {
			e.skipGone(began)
		}
		if want == "" {
			e.applied(text, promptKey)
		} else {
			e.rejected(want)
		}
		// The way back: what stands there may be anything.
		mended := e.text()
		if err := errors.Join(os.RemoveAll(e.config+".mended"), os.WriteFile(e.config+".mended", []byte(mended), 0o600)); err != nil {
			t.Fatal(err)
		}
		began = time.Now()
		if fi, err := os.Lstat(e.config); err == nil && fi.IsDir() {
			if err := os.Rename(e.config, fmt.Sprintf("%s/was %d", e.dir, e.edits)); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.Rename(e.config+".mended", e.config); err != nil {
			t.Fatal(err)
		}
		e.skipGone(began)
		if e.applied(mended, promptKey); t.Failed() {
			t.Fatalf("it was: %s", tt.name)
		}
	}
	// The same text again, when it was gone or unreadable meanwhile.
	same, err := os.ReadFile(e.config)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(e.config); err != nil {
		t.Fatal(err)
	}
	e.rejected(e.config + " is gone")
	if err := replace(e.config, string(same)); err != nil {
		t.Fatal(err)
	}
	e.applied(string(same))
	eventually(t, patience, func() error {
		if now, _, _ := e.g.usage(); now > fds+3 {
			return fmt.Errorf("%d descriptors, before %d", now, fds)
		}
		return nil
	})
}

// TestUnreadableForAWhile takes the right to read the file away and gives it back.
func TestUnreadableForAWhile(t *testing.T) {
	t.Parallel()
	e := newEdited(t, nil)
	text := e.text()
	if err := replace(e.config, text); err != nil {
		t.Fatal(err)
	}
	e.applied(text, promptKey)
	if err := os.Chmod(e.config, 0); err != nil {
		t.Fatal(err)
	}
	if os.Geteuid() != 0 { // nothing keeps root from reading it
		e.rejected("permission denied")
	}
	if err := os.Chmod(e.config, 0o600); err != nil {
		t.Fatal(err)
	}
	if os.Geteuid() != 0 {
		e.applied(text)
	}
	text, began := e.text(), time.Now()
	if err := inPlace(e.config, os.O_TRUNC, 0, text); err != nil {
		t.Fatal(err)
	}
	if time.Since(began) >= debounce {
		e.skipRejected()
	}
	e.applied(text, promptKey)
}

// TestThousandEdits wants the last one to be in effect, and nothing to be left
// of the others. What is read of a file while it is written is no harm.
func TestThousandEdits(t *testing.T) {
	t.Parallel()
	e := newEdited(t, nil)
	e.status()
	if err := e.client.Call(e.ctx, "health", nil, nil); err != nil { // opens what stays open
		t.Fatal(err)
	}
	fds, threads, _ := e.g.usage()
	var text string
	for i := range 1000 {
		text = e.text()
		var err error
		switch i % 3 {
		case 0:
			err = replace(e.config, text)
		case 1:
			err = os.WriteFile(e.config, []byte(text), 0o600)
		case 2:
			err = errors.Join(os.Remove(e.config), os.WriteFile(e.config, []byte(text), 0o600))
		}
		if err != nil {
			t.Fatal(err)
		}
		if i%100 == 50 { // long enough for a look
			ticks(2 * int(debounce.Milliseconds()))
		}
	}
	eventually(t, patience, func() error {
		if s := e.status(); s.LoadedHash != hashOf(text) || s.FileHash != s.LoadedHash || s.LastError != "" || len(s.Pending) > 0 {
			return fmt.Errorf("status %+v, want %s", s, hashOf(text))
		}
		return nil
	})
	var got, changed int
	for last := ""; last != hashOf(text); got++ {
		v := e.next()
		if last = v.Hash; v.event == "config.changed" {
			changed++
		}
	}
	t.Logf("1,000 edits: %d events, %d of them changes", got, changed)
	eventually(t, patience, func() error {
		if now, threadsNow, _ := e.g.usage(); now > fds || threadsNow > threads+16 {
			return fmt.Errorf("something is left of them: descriptors %d, before %d; threads %d, before %d", now, fds, threadsNow, threads)
		}
		return nil
	})
	text = e.text()
	if err := replace(e.config, text); err != nil {
		t.Fatal(err)
	}
	e.applied(text, promptKey)
}
