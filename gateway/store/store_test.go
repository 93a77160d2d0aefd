package store

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// TestMain is also the programs that tests start: the test binary itself with
// STORE_TEST_CHILD set.
func TestMain(m *testing.M) {
	children := map[string]func(dir string){"writer": childWriter, "limited": childLimited, "holder": childHolder}
	if child := children[os.Getenv("STORE_TEST_CHILD")]; child != nil {
		child(os.Getenv("STORE_TEST_DIR"))
		return
	}
	os.Exit(m.Run())
}

func child(t *testing.T, name, dir string) *exec.Cmd {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), "STORE_TEST_CHILD="+name, "STORE_TEST_DIR="+dir)
	cmd.Stderr = t.Output()
	return cmd
}

func mustOpen(t testing.TB, path string) *Dir {
	t.Helper()
	d, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

func mustSessions(t testing.TB, d *Dir) *Sessions {
	t.Helper()
	s, err := d.Sessions("main")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func mustTranscript(t testing.TB, s *Sessions, id string) *Transcript {
	t.Helper()
	tr, err := s.Transcript(Entry{SessionID: id})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tr.Close() })
	return tr
}

func user(text string) Line {
	return Line{Type: TypeMessage, Message: &Message{Role: RoleUser, Content: Text(text), Timestamp: 1795359004448}}
}

// texts returns the messages' texts, joined with a bar.
func texts(records []Record) string {
	var out []string
	for _, r := range records {
		if r.Message != nil {
			out = append(out, r.Message.Content.String())
		}
	}
	return strings.Join(out, "|")
}

func load(t *testing.T, tr *Transcript) string {
	t.Helper()
	records, damage, err := tr.Load()
	if err != nil || damage != nil {
		t.Fatal(err, damage)
	}
	return texts(records)
}

func modes(t *testing.T, root string) {
	t.Helper()
	err := filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		fi, err := e.Info()
		if err != nil {
			return err
		}
		want := fs.FileMode(0o600)
		if fi.IsDir() {
			want = 0o700
		}
		if fi.Mode().Perm() != want {
			t.Errorf("%s is %04o, want %04o", path, fi.Mode().Perm(), want)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// No test here runs in parallel with another: the umask is the process's.
func TestModesWhateverTheUmask(t *testing.T) {
	for _, mask := range []int{0, 0o022, 0o077, 0o277} {
		t.Run(fmt.Sprintf("%04o", mask), func(t *testing.T) {
			top := t.TempDir()
			old := syscall.Umask(mask)
			defer syscall.Umask(old)
			state := filepath.Join(top, "a", "b", "state")
			d := mustOpen(t, state)
			s := mustSessions(t, d)
			tr := mustTranscript(t, s, "s1")
			log, err := d.OpenLog(10, 2)
			if err != nil {
				t.Fatal(err)
			}
			_, e1 := log.Write([]byte("a line of the log"))
			_, e2 := log.Write([]byte("another"))
			err = errors.Join(e1, e2, log.Close(), s.Put("k", Entry{SessionID: "s1"}), tr.Append(user("x")),
				d.WriteFile("devices/paired.json", []byte("{}")), d.Publish(Instance{}), d.EnsureWorkspace(filepath.Join(state, "workspace")))
			if err != nil {
				t.Fatal(err)
			}
			modes(t, filepath.Join(top, "a"))
			if err := d.Close(); err != nil {
				t.Fatal(err)
			}
			modes(t, filepath.Join(top, "a"))
		})
	}
}

func TestOpenRefuses(t *testing.T) {
	top := t.TempDir()
	open := func(path, want string) {
		t.Helper()
		d, err := Open(path)
		if err == nil {
			d.Close()
			t.Errorf("opened %s", path)
		} else if !strings.Contains(err.Error(), want) {
			t.Errorf("%v: want %q", err, want)
		}
		if _, running, err := ReadInstance(path); err == nil || running {
			t.Errorf("instance read through %s", path)
		}
	}
	loose := filepath.Join(top, "it's loose")
	os.Mkdir(loose, 0o700)
	os.Chmod(loose, 0o750)
	open(loose, `chmod 700 '`+top+`/it'\''s loose'`)
	link := filepath.Join(top, "link")
	os.Symlink(loose, link)
	open(link, "chmod 700 "+link)
	file := filepath.Join(top, "file")
	os.WriteFile(file, nil, 0o600)
	open(file, "not a directory")

	// A link to a good directory of our own is how people move their state.
	os.Chmod(loose, 0o700)
	mustOpen(t, link).Close()

	// Somebody else's directory: root makes one, others have /.
	foreign := "/"
	if os.Geteuid() == 0 {
		foreign = filepath.Join(top, "foreign")
		os.Mkdir(foreign, 0o700)
		if err := os.Chown(foreign, 12345, -1); err != nil {
			t.Fatal(err)
		}
	}
	open(foreign, fmt.Sprintf("sudo chown -R %d %s", os.Geteuid(), foreign))
	os.Symlink(foreign, filepath.Join(top, "foreign link"))
	open(filepath.Join(top, "foreign link"), "sudo chown -R")
}

func TestTwoGateways(t *testing.T) {
	state := filepath.Join(t.TempDir(), "state")
	if i, running, err := ReadInstance(state); i != (Instance{}) || running || err != nil {
		t.Fatal("a missing state directory is held by nobody:", i, running, err)
	}
	d := mustOpen(t, state)
	_, err := Open(state)
	var locked *LockedError
	if !errors.As(err, &locked) || locked.Instance.PID != os.Getpid() {
		t.Fatal(err)
	}
	want := Instance{PID: os.Getpid(), Port: 18789, Addr: "127.0.0.1:18789", Version: strings.Repeat("long ", 50), StartedAt: 1, CLIKey: "key"}
	for range 2 { // the second record is shorter
		if err := d.Publish(want); err != nil {
			t.Fatal(err)
		}
		if got, running, err := ReadInstance(state); got != want || !running || err != nil {
			t.Fatal(got, running, err)
		}
		if text, _ := os.ReadFile(filepath.Join(state, lockName)); !json.Valid(text) {
			t.Errorf("%s", text)
		}
		want.Version = "1"
	}
	_, err = Open(state)
	if want := fmt.Sprintf("state directory %s is in use by a gateway with pid %d on port 18789", state, os.Getpid()); err == nil || err.Error() != want {
		t.Fatalf("got %v, want %s", err, want)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if i, running, err := ReadInstance(state); i != (Instance{}) || running || err != nil {
		t.Fatal(i, running, err)
	}
	mustOpen(t, state)
}

// childHolder holds a state directory until it is killed.
func childHolder(dir string) {
	d, err := Open(dir)
	if err == nil {
		err = d.Publish(Instance{Port: 7})
	}
	fmt.Println(err)
	io.Copy(io.Discard, os.Stdin)
}

// The lock goes with the process, its text does not.
func TestLockOfADeadProcess(t *testing.T) {
	state := filepath.Join(t.TempDir(), "state")
	cmd := child(t, "holder", state)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := cmd.StdinPipe(); err != nil { // open as long as cmd is
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line := make([]byte, 64)
	n, _ := out.Read(line)
	i, running, err := ReadInstance(state)
	if !running || err != nil || i.PID != cmd.Process.Pid || i.Port != 7 {
		t.Error(string(line[:n]), i, running, err)
	}
	cmd.Process.Kill()
	cmd.Wait()
	if text, _ := os.ReadFile(filepath.Join(state, lockName)); !strings.Contains(string(text), "pid") {
		t.Errorf("the record should have stayed: %s", text)
	}
	if _, running, err := ReadInstance(state); running || err != nil {
		t.Error(running, err)
	}
	mustOpen(t, state)
}

// A CLI that looks just then does not keep a gateway from starting.
func TestOpenWhileACLILooks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		state := filepath.Join(t.TempDir(), "state")
		mustOpen(t, state).Close()
		cli, err := os.Open(filepath.Join(state, lockName))
		if err == nil {
			err = flock(cli, syscall.LOCK_SH)
		}
		if err != nil {
			t.Fatal(err)
		}
		opened := make(chan error)
		go func() {
			d, err := Open(state)
			if err == nil {
				d.Close()
			}
			opened <- err
		}()
		synctest.Wait() // until Open sleeps before its next try
		cli.Close()
		if err := <-opened; err != nil {
			t.Error(err)
		}
	})
}

func TestDirFiles(t *testing.T) {
	state := filepath.Join(t.TempDir(), "state")
	d := mustOpen(t, state)
	for _, name := range []string{"", ".", "..", "../x", "/etc/passwd", "a/../../x"} {
		if err := d.WriteFile(name, nil); err == nil {
			t.Errorf("wrote %q", name)
		}
		if _, err := d.ReadFile(name, 10); err == nil {
			t.Errorf("read %q", name)
		}
	}
	for _, data := range []string{"one", "two, longer", ""} {
		if err := d.WriteFile("a/b/c.json", []byte(data)); err != nil {
			t.Fatal(err)
		}
		if got, err := d.ReadFile("a/b/c.json", int64(len(data))); err != nil || string(got) != data {
			t.Fatalf("%q, %v", got, err)
		}
	}
	d.WriteFile("big", make([]byte, 11))
	if _, err := d.ReadFile("big", 10); !errors.Is(err, ErrTooLarge) {
		t.Error(err)
	}
	if err := errors.Join(d.Remove("big"), d.Remove("big")); err != nil {
		t.Error(err)
	}
	if _, err := d.ReadFile("big", 10); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	if free, err := d.Free(); err != nil || free <= 0 {
		t.Error(free, err)
	}
	r, err := OpenRead(state)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	_, err = r.ReadFile("a/b/c.json", 10)
	_, e2 := r.Sessions("main")
	if err != nil || e2 == nil || r.WriteFile("x", nil) == nil || r.Publish(Instance{}) == nil {
		t.Error("reading must work, writing must not", err)
	}
	// What a killed replace left goes away, what a CLI is writing now stays.
	old, young := tempName("x"), tempName("x")
	os.WriteFile(filepath.Join(state, old), nil, 0o600)
	os.WriteFile(filepath.Join(state, young), nil, 0o600)
	os.Chtimes(filepath.Join(state, old), time.Time{}, time.Now().Add(-2*time.Hour))
	d.Close()
	mustOpen(t, state)
	_, e1 := os.Stat(filepath.Join(state, old))
	_, e2 = os.Stat(filepath.Join(state, young))
	if e1 == nil || e2 != nil {
		t.Error(e1, e2)
	}
}

// attacks put something else in a file's place. Each gets the path, and a
// victim outside of the state directory that must not change.
var attacks = map[string]func(path, victim string) error{
	"symlink":          func(path, victim string) error { return os.Symlink(victim, path) },
	"dangling symlink": func(path, victim string) error { return os.Symlink(victim+".new", path) },
	"symlink within": func(path, victim string) error {
		inside := filepath.Join(filepath.Dir(path), "inside")
		return errors.Join(os.WriteFile(inside, []byte("{}\n"), 0o600), os.Symlink("inside", path))
	},
	"dangling within": func(path, victim string) error { return os.Symlink("nowhere", path) },
	"hardlink":        func(path, victim string) error { return os.Link(victim, path) },
	"fifo":            func(path, victim string) error { return syscall.Mkfifo(path, 0o600) },
	"directory":       func(path, victim string) error { return os.Mkdir(path, 0o700) },
}

func TestAttacksOnEveryFile(t *testing.T) {
	files := map[string]func(d *Dir) error{
		"devices/paired.json": func(d *Dir) error {
			_, err := d.ReadFile("devices/paired.json", 1000)
			if w := d.WriteFile("devices/paired.json", []byte("new")); w == nil || err == nil {
				return nil
			}
			return err
		},
		"agents/main/sessions/sessions.json": func(d *Dir) error { _, err := d.Sessions("main"); return err },
		"agents/main/sessions/index.jsonl":   func(d *Dir) error { _, err := d.Sessions("main"); return err },
		"agents/main/sessions/s1.jsonl": func(d *Dir) error {
			s, err := d.Sessions("main") // it also looks for transcripts to adopt
			if err != nil {
				return fmt.Errorf("index: %w", err)
			}
			tr, err := s.Transcript(Entry{SessionID: "s1"})
			if err != nil {
				return err
			}
			return tr.Append(user("secret"))
		},
		"logs/gateway.log": func(d *Dir) error { _, err := d.OpenLog(100, 3); return err },
		"gateway.lock":     nil,
	}
	for name, use := range files {
		for kind, attack := range attacks {
			t.Run(name+"/"+kind, func(t *testing.T) {
				top := t.TempDir()
				state, victim := filepath.Join(top, "state"), filepath.Join(top, "victim")
				path := filepath.Join(state, name)
				if err := errors.Join(makeDirs(filepath.Dir(path)), os.WriteFile(victim, []byte("{}\n"), 0o644), attack(path, victim)); err != nil {
					t.Fatal(err)
				}
				d, err := Open(state)
				if use != nil {
					if err != nil {
						t.Fatal(err)
					}
					defer d.Close()
					err = use(d)
				}
				if err == nil || strings.HasPrefix(err.Error(), "index:") {
					t.Error("used what is not its file:", err)
				}
				if data, _ := os.ReadFile(victim); string(data) != "{}\n" {
					t.Errorf("the victim changed: %q", data)
				}
				if fi, _ := os.Stat(victim); fi.Mode().Perm() != 0o644 {
					t.Error("the victim's mode changed")
				}
				for _, made := range []string{victim + ".new", filepath.Join(filepath.Dir(path), "nowhere")} {
					if _, err := os.Lstat(made); err == nil {
						t.Error("made", made)
					}
				}
				if _, running, err := ReadInstance(state); name == lockName && (running || err == nil) {
					t.Error("instance read from", kind)
				}
			})
		}
	}
}

func TestDirectoryInPlaceOfAnother(t *testing.T) {
	top := t.TempDir()
	state, outside := filepath.Join(top, "state"), filepath.Join(top, "outside")
	d := mustOpen(t, state)
	os.Mkdir(outside, 0o700)
	os.Symlink(outside, filepath.Join(state, "agents"))
	os.Mkdir(filepath.Join(state, "real"), 0o700)
	os.Symlink("real", filepath.Join(state, "logs"))
	if _, err := d.Sessions("main"); err == nil {
		t.Error("followed a link out")
	}
	if _, err := d.OpenLog(0, 1); err == nil {
		t.Error("followed a link within")
	}
	for _, id := range []string{"", "..", "A", "a/b", "-a", strings.Repeat("a", 65), "ä"} {
		if _, err := d.Sessions(id); err == nil {
			t.Errorf("agent %q", id)
		}
	}
}

func TestReadSecretFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "token")
	os.WriteFile(path, []byte("secret"), 0o600)
	for mode, ok := range map[fs.FileMode][2]bool{ // read as a secret, as a configuration
		0o600: {true, true}, 0o400: {true, true}, 0o640: {false, true}, 0o644: {false, true}, 0o660: {false, false}, 0o602: {false, false},
	} {
		os.Chmod(path, mode)
		for i, secret := range []bool{true, false} {
			data, err := ReadConfigFile(path, 6, secret)
			if (err == nil) != ok[i] || err == nil && string(data) != "secret" {
				t.Errorf("%04o, secret %v: %q, %v", mode, secret, data, err)
			}
			if err != nil && !strings.Contains(err.Error(), "chmod 600 "+path) {
				t.Errorf("%v: no command", err)
			}
		}
	}
	os.Chmod(path, 0o600)
	if _, err := ReadSecretFile(path, 5); !errors.Is(err, ErrTooLarge) {
		t.Error(err)
	}
	link := filepath.Join(dir, "..data") // as in a mounted Kubernetes secret
	os.Symlink(path, link)
	if _, err := ReadSecretFile(link, 10); err != nil {
		t.Error(err)
	}
	syscall.Mkfifo(filepath.Join(dir, "fifo"), 0o600)
	for _, name := range []string{"fifo", ".", "missing"} {
		if _, err := ReadConfigFile(filepath.Join(dir, name), 10, false); err == nil {
			t.Error("read", name)
		}
	}
	if _, err := ReadConfigFile("/dev/zero", 10, false); err == nil {
		t.Error("read a device")
	}
	if os.Geteuid() == 0 {
		os.Chown(path, 12345, -1)
		if _, err := ReadSecretFile(path, 10); err == nil || !strings.Contains(err.Error(), "sudo chown 0 "+path) {
			t.Error(err)
		}
	} else if _, err := ReadSecretFile("/etc/passwd", 1<<20); err == nil || !strings.Contains(err.Error(), "chmod") {
		t.Error(err)
	}
}

func TestReplaceFile(t *testing.T) {
	dir := t.TempDir()
	real, link := filepath.Join(dir, "dotfiles.json"), filepath.Join(dir, "openclaw.json")
	os.WriteFile(real, []byte("old"), 0o644)
	os.Symlink(real, link)
	if err := ReplaceFile(link, []byte("new")); err != nil {
		t.Fatal(err)
	}
	fi, _ := os.Lstat(link)
	data, _ := os.ReadFile(real)
	if fi.Mode()&fs.ModeSymlink == 0 || string(data) != "new" {
		t.Errorf("%v %q", fi.Mode(), data)
	}
	if err := ReplaceFile(filepath.Join(dir, "fresh"), []byte("x")); err != nil {
		t.Fatal(err)
	}
}

func TestMessageJSON(t *testing.T) {
	tests := map[string]struct{ in, out string }{
		"user string": {`{"role":"user","content":"hi <b>","timestamp":5}`,
			`{"role":"user","timestamp":5,"content":[{"type":"text","text":"hi <b>"}]}`},
		"assistant": {`{"role":"assistant","content":[{"type":"thinking","thinking":""},{"type":"text","text":""},{"type":"toolCall","id":"c1","name":"exec","arguments":{"a": [1.0, "x"]}}],"api":"openai-completions","provider":"p","model":"m","usage":{"input":1,"output":2,"cacheRead":0,"cacheWrite":0,"totalTokens":3,"cost":{"input":0,"output":0,"cacheRead":0,"cacheWrite":0,"total":0.5}},"stopReason":"toolUse","timestamp":6}`,
			`{"role":"assistant","api":"openai-completions","provider":"p","model":"m","usage":{"input":1,"output":2,"cacheRead":0,"cacheWrite":0,"totalTokens":3,"cost":{"input":0,"output":0,"cacheRead":0,"cacheWrite":0,"total":0.5}},"stopReason":"toolUse","timestamp":6,"content":[{"type":"thinking","thinking":""},{"type":"text","text":""},{"type":"toolCall","id":"c1","name":"exec","arguments":{"a":[1.0,"x"]}}]}`},
		"tool result": {`{"role":"toolResult","toolCallId":"c1","toolName":"exec","content":[{"type":"image","data":"QQ==","mimeType":"image/png"}],"details":{"exitCode": 0},"isError":false,"timestamp":7}`,
			`{"role":"toolResult","toolCallId":"c1","toolName":"exec","details":{"exitCode":0},"timestamp":7,"content":[{"type":"image","mimeType":"image/png","data":"QQ=="}],"isError":false}`},
		"unknown part": {`{"role":"user","content":[{"type":"hologram","x":{"y": null}}],"timestamp":0}`,
			`{"role":"user","timestamp":0,"content":[{"type":"hologram","x":{"y":null}}]}`},
		"nothing": {`{"role":"user","content":null}`, `{"role":"user","timestamp":0,"content":[]}`},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			var m Message
			if err := json.Unmarshal([]byte(test.in), &m); err != nil {
				t.Fatal(err)
			}
			out, err := m.MarshalJSON()
			if err != nil || string(out) != test.out {
				t.Errorf("got  %s %v\nwant %s", out, err, test.out)
			}
		})
	}
	garbled := Message{Role: RoleAssistant, Content: Content{{Type: PartToolCall, Arguments: json.RawMessage(`{"a":`)}}}
	if out, err := garbled.MarshalJSON(); err != nil || !bytes.Contains(out, []byte(`"arguments":"{\"a\":"`)) {
		t.Errorf("%s %v", out, err)
	}
	var m Message
	if json.Unmarshal([]byte(`{"role":"user","content":7}`), &m) == nil {
		t.Error("a number is no content")
	}
}

func TestWipe(t *testing.T) {
	top := t.TempDir()
	state, outside := filepath.Join(top, "state"), filepath.Join(top, "outside")
	d := mustOpen(t, state)
	err := errors.Join(d.WriteFile("a/b", []byte("x")), os.Mkdir(outside, 0o700), os.WriteFile(filepath.Join(outside, "kept"), nil, 0o600),
		os.Symlink(outside, filepath.Join(state, "link")), d.Wipe())
	if err != nil {
		t.Fatal(err)
	}
	entries, _ := os.ReadDir(state)
	if _, err := os.Stat(filepath.Join(outside, "kept")); err != nil || len(entries) != 1 || entries[0].Name() != lockName {
		t.Error(entries, err)
	}
}
