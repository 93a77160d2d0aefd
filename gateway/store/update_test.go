package store

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// to is a change that leaves text whatever was there.
func to(text string) func([]byte) ([]byte, error) {
	return func([]byte) ([]byte, error) { return []byte(text), nil }
}

// holds wants exactly these files in a directory: names and texts in turn.
func holds(t *testing.T, dir string, want ...string) {
	t.Helper()
	var got []string
	entries, err := os.ReadDir(dir)
	for _, e := range entries {
		data, _ := os.ReadFile(filepath.Join(dir, e.Name()))
		got = append(got, e.Name(), string(data))
	}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("%s holds %q, %v, want %q", dir, got, err, want)
	}
}

func modeOf(t *testing.T, path string) string {
	t.Helper()
	fi, err := os.Lstat(path)
	if err != nil {
		t.Fatal(err)
	}
	return fi.Mode().String()
}

func TestUpdateFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "a.json")
	if err := UpdateFile(path, 100, func(old []byte) ([]byte, error) {
		if old != nil {
			t.Errorf("no file is %q", old)
		}
		return []byte("one"), nil
	}); err != nil {
		t.Fatal(err)
	}
	holds(t, dir, "a.json", "one")
	if got := modeOf(t, path); got != "-rw-------" {
		t.Error(got)
	}
	for i, mode := range []fs.FileMode{0o600, 0o640, 0o644, 0o400} {
		old, text := []string{"one", "v0", "v1", "v2"}[i], fmt.Sprint("v", i)
		os.Chmod(path, mode)
		if err := UpdateFile(path, 100, func(now []byte) ([]byte, error) {
			if string(now) != old {
				t.Errorf("was given %q, not %q", now, old)
			}
			return []byte(text), nil
		}); err != nil {
			t.Fatal(err)
		}
		holds(t, dir, "a.json", text, "a.json.bak", old)
		if file, bak := modeOf(t, path), modeOf(t, path+".bak"); file != mode.String() || bak != mode.String() {
			t.Errorf("%v became %s, its copy %s", mode, file, bak)
		}
	}

	// Neither the same text nor a change that fails touches anything.
	before, _ := os.Stat(path)
	no := errors.New("no")
	if err := UpdateFile(path, 100, func(old []byte) ([]byte, error) { return bytes.Clone(old), nil }); err != nil {
		t.Error(err)
	}
	if err := UpdateFile(path, 100, func([]byte) ([]byte, error) { return []byte("x"), no }); err != no {
		t.Error(err)
	}
	if err := UpdateFile(path, 1, to("x")); !errors.Is(err, ErrTooLarge) {
		t.Error(err)
	}
	if err := UpdateFile(path, 3, to("long")); !errors.Is(err, ErrTooLarge) {
		t.Error(err)
	}
	if after, _ := os.Stat(path); !os.SameFile(before, after) {
		t.Error("it was replaced")
	}
	holds(t, dir, "a.json", "v3", "a.json.bak", "v2")

	empty := filepath.Join(dir, "nothing.json")
	if err := UpdateFile(empty, 10, func([]byte) ([]byte, error) { return nil, nil }); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(empty); err == nil {
		t.Error("nothing became a file")
	}
	if err := UpdateFile(filepath.Join(dir, "none", "a.json"), 10, to("x")); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
}

func TestUpdateFileFollowsLinks(t *testing.T) {
	dots, dir := t.TempDir(), t.TempDir()
	os.WriteFile(filepath.Join(dots, "real.json"), []byte("old"), 0o600)
	os.Symlink(filepath.Join(dots, "real.json"), filepath.Join(dots, "second"))
	os.Symlink(filepath.Join(dots, "second"), filepath.Join(dir, "openclaw.json"))
	// A link in the copy's place is replaced, never written through.
	victim := filepath.Join(t.TempDir(), "victim")
	os.WriteFile(victim, []byte("dear"), 0o600)
	os.Symlink(victim, filepath.Join(dots, "real.json.bak"))
	if err := UpdateFile(filepath.Join(dir, "openclaw.json"), 10, to("new")); err != nil {
		t.Fatal(err)
	}
	holds(t, dots, "real.json", "new", "real.json.bak", "old", "second", "new")
	holds(t, dir, "openclaw.json", "new")
	holds(t, filepath.Dir(victim), "victim", "dear")
	for _, link := range []string{filepath.Join(dir, "openclaw.json"), filepath.Join(dots, "second")} {
		if got := modeOf(t, link); got[0] != 'L' {
			t.Error(link, got)
		}
	}
	t.Chdir(dir)
	if err := UpdateFile("openclaw.json", 10, to("newer")); err != nil {
		t.Fatal(err)
	}
	holds(t, dots, "real.json", "newer", "real.json.bak", "new", "second", "newer")
}

func TestUpdateFileRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		make func(path string)
		want string
	}{
		"others may write":  {func(p string) { os.WriteFile(p, nil, 0o600); os.Chmod(p, 0o620) }, "chmod 600"},
		"a directory":       {func(p string) { os.Mkdir(p, 0o700) }, "not a regular file"},
		"a FIFO":            {func(p string) { syscall.Mkfifo(p, 0o600) }, "not a regular file"},
		"a link to nothing": {func(p string) { os.Symlink(p+".gone", p) }, "leads nowhere"},
		"a link to itself":  {func(p string) { os.Symlink(p, p) }, "too many"},
		"no directory":      {func(p string) { os.Remove(filepath.Dir(p)); os.WriteFile(filepath.Dir(p), nil, 0o600) }, "not a directory"},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "d", "a.json")
			os.Mkdir(filepath.Dir(path), 0o700)
			c.make(path)
			before, _ := os.Lstat(path)
			err := UpdateFile(path, 10, func([]byte) ([]byte, error) { t.Error("it was read"); return []byte("x"), nil })
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want %q", err, c.want)
			}
			if after, _ := os.Lstat(path); before != nil && !os.SameFile(before, after) {
				t.Error("it was replaced")
			}
		})
	}
}

// A service's file is root's and readable to the service's group: it stays so.
func TestUpdateFileKeepsOwners(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "a.json")
	os.WriteFile(path, []byte("old"), 0o600)
	if os.Geteuid() != 0 {
		groups, _ := os.Getgroups()
		for _, gid := range groups {
			if os.Chown(path, -1, gid) == nil {
				os.Chmod(path, 0o640)
				wantGroup(t, path, gid)
			}
		}
		return
	}
	os.Chown(path, 0, 12345)
	os.Chmod(path, 0o640)
	wantGroup(t, path, 12345)
	os.Chown(path, 12345, 12345)
	if err := UpdateFile(path, 10, to("x")); err == nil || !strings.Contains(err.Error(), "sudo chown 0 ") {
		t.Error(err)
	}
}

func wantGroup(t *testing.T, path string, gid int) {
	t.Helper()
	text := fmt.Sprint("group ", gid)
	if err := UpdateFile(path, 100, to(text)); err != nil {
		t.Fatal(err)
	}
	for _, p := range []string{path, path + ".bak"} {
		fi, err := os.Stat(p)
		if err != nil || groupOf(fi) != gid || ownerOf(fi) != os.Geteuid() || fi.Mode().Perm() != 0o640 {
			t.Errorf("%s: %v, group %d, want %d", p, fi.Mode(), groupOf(fi), gid)
		}
	}
}

// A disk that takes so many bytes and no more leaves everything as it was.
func TestUpdateFileFullDisk(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "a.json")
	os.WriteFile(path, []byte("0123456789"), 0o600)
	os.WriteFile(path+".bak", []byte("older"), 0o600)
	for room := range 19 {
		left := room
		d, err := openFolderAt(dir)
		if err != nil {
			t.Fatal(err)
		}
		d.write = func(f *os.File, p []byte) (int, error) {
			n, err := f.Write(p[:min(left, len(p))])
			if left -= n; err == nil && n < len(p) {
				err = syscall.ENOSPC
			}
			return n, err
		}
		err = d.update("a.json", 100, to("new text."), func() ([]byte, error) { return os.ReadFile(path) })
		d.close()
		if !errors.Is(err, ErrNoSpace) || !strings.Contains(err.Error(), path) {
			t.Errorf("room for %d bytes: %v", room, err)
		}
		holds(t, dir, "a.json", "0123456789", "a.json.bak", "older")
	}
	if err := UpdateFile(path, 100, to("new text.")); err != nil {
		t.Error(err)
	}
	holds(t, dir, "a.json", "new text.", "a.json.bak", "0123456789")
}

// An editor that saves at the same time wins: what it wrote was not read.
func TestUpdateFileBesideAnEditor(t *testing.T) {
	for name, edit := range map[string]func(path string) error{
		"writes": func(p string) error { return os.WriteFile(p, []byte("edited"), 0o600) },
		"renames": func(p string) error {
			return errors.Join(os.WriteFile(p+"~", []byte("edited"), 0o600), os.Rename(p+"~", p))
		},
		"creates": func(p string) error { return os.WriteFile(p, nil, 0o600) },
		"removes": os.Remove,
		"relinks": func(p string) error {
			return errors.Join(os.Remove(p), os.WriteFile(p+"~", []byte("edited"), 0o600), os.Symlink(p+"~", p))
		},
		"breaks": func(p string) error { return os.Chmod(p, 0o666) },
	} {
		dir := t.TempDir()
		path := filepath.Join(dir, "a.json")
		if name != "creates" {
			os.WriteFile(path, []byte("old"), 0o600)
		}
		var want []byte
		err := UpdateFile(path, 10, func([]byte) ([]byte, error) {
			err := edit(path)
			want, _ = os.ReadFile(path)
			return []byte("ours"), err
		})
		if err == nil || !strings.Contains(err.Error(), "somebody else") {
			t.Errorf("%s: %v", name, err)
		}
		if got, _ := os.ReadFile(path); !bytes.Equal(got, want) || bytes.Equal(got, []byte("ours")) {
			t.Errorf("%s: %q", name, got)
		}
		if left, _ := filepath.Glob(filepath.Join(dir, ".*.tmp")); left != nil {
			t.Errorf("%s: left %v", name, left)
		}
	}
}

func TestUpdateFileLosesNothing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.json")
	var all sync.WaitGroup
	for i := range 20 {
		all.Go(func() {
			if err := UpdateFile(path, 1000, func(old []byte) ([]byte, error) { return fmt.Appendf(old, "<%d>", i), nil }); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	data, _ := os.ReadFile(path)
	for i := range 20 {
		if !strings.Contains(string(data), fmt.Sprintf("<%d>", i)) {
			t.Errorf("%d is lost: %s", i, data)
		}
	}
}

func TestUpdateFileWaits(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "a.json")
	other, err := openFolderAt(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer other.close()
	for _, c := range []struct {
		hold time.Duration
		want string
	}{{time.Second, ""}, {updatePatience + time.Second, dir + " is locked by "}} {
		synctest.Test(t, func(t *testing.T) {
			if err := other.lockForUpdate(); err != nil {
				t.Fatal(err)
			}
			go func() {
				time.Sleep(c.hold)
				flock(other.dir, syscall.LOCK_UN)
			}()
			begun := time.Now()
			err := UpdateFile(path, 10, to(c.hold.String()))
			if took := time.Since(begun); took < min(c.hold, updatePatience) || took > updatePatience+time.Second {
				t.Errorf("held for %v: it took %v", c.hold, took)
			}
			if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Errorf("held for %v: %v", c.hold, err)
			}
			time.Sleep(c.hold)
		})
	}
	holds(t, dir, "a.json", "1s")
}

func TestUpdateFileSweeps(t *testing.T) {
	dir := t.TempDir()
	old := time.Now().Add(-2 * time.Hour)
	for name, stays := range map[string]bool{
		tempName("a.json"):     false,
		tempName("a.json.bak"): false,
		tempName("b.json"):     true,
		tempName("a.json.b"):   true,
		".a.json.swp":          true,
		".a.json.0123.tmp":     true,
	} {
		path := filepath.Join(dir, name)
		os.WriteFile(path, nil, 0o600)
		os.Chtimes(path, old, old)
		defer func() {
			if _, err := os.Lstat(path); (err == nil) != stays {
				t.Errorf("%s: stays should be %v: %v", name, stays, err)
			}
		}()
	}
	young := filepath.Join(dir, tempName("a.json"))
	os.WriteFile(young, nil, 0o600)
	if err := UpdateFile(filepath.Join(dir, "a.json"), 10, to("x")); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(young); err != nil {
		t.Error(err)
	}
}
