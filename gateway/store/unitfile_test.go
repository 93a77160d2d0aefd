package store

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestUnitFiles wants exact modes whatever the umask, one .bak, and no other way
// than a regular file of ours or root's to be read, replaced or removed.
func TestUnitFiles(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "systemd/user")
	path := filepath.Join(dir, "x.service")
	if text, err := ReadUnitFile(path); text != nil || err != nil {
		t.Fatal(text, err)
	}
	for i, mode := range []os.FileMode{0o644, 0o600, 0o755} {
		if err := PlaceUnitFile(path, []byte{byte('a' + i)}, mode, os.Getegid(), i > 0); err != nil {
			t.Fatal(err)
		}
		fi, err := os.Stat(path)
		if err != nil || fi.Mode().Perm() != mode {
			t.Error(fi, err)
		}
	}
	if text, err := ReadUnitFile(path); string(text) != "c" || err != nil {
		t.Error(text, err)
	}
	if fi, err := os.Stat(path + ".bak"); err != nil || fi.Mode().Perm() != 0o600 {
		t.Error(fi, err)
	}
	if bak, _ := os.ReadFile(path + ".bak"); string(bak) != "b" {
		t.Errorf("%s", bak)
	}
	if fi, err := os.Stat(dir); err != nil || fi.Mode().Perm() != 0o755 {
		t.Error(fi, err)
	}
	left, _ := os.ReadDir(dir)
	if len(left) != 2 {
		t.Error(left)
	}
	if err := RemoveUnitFile(path, true); err != nil {
		t.Error(err)
	}
	if bak, _ := os.ReadFile(path + ".bak"); string(bak) != "c" {
		t.Errorf("%s", bak)
	}
	if err := RemoveUnitFile(path, false); err == nil {
		t.Error("removed what is not there")
	}
}

// TestServiceState lets root read the state of a service's user, and only where
// root alone could put it; nobody else's files in it count.
func TestServiceState(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root may")
	}
	var lib = t.TempDir()
	state := filepath.Join(lib, "openclaw")
	d, err := Open(state)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if err := d.Publish(Instance{PID: 7, Port: 18789}); err != nil {
		t.Fatal(err)
	}
	give := func(uid int, paths ...string) {
		for _, p := range paths {
			if err := os.Chown(p, uid, uid); err != nil {
				t.Fatal(err)
			}
		}
	}
	lock := filepath.Join(state, lockName)
	give(4711, state, lock)
	if i, running, err := ReadServiceInstance(state); err != nil || !running || i.Port != 18789 {
		t.Errorf("%+v, %v, %v", i, running, err)
	}
	if _, _, err := ReadInstance(state); err == nil {
		t.Error("read without being asked to as a service")
	}
	if r, err := OpenServiceRead(state); err != nil {
		t.Error(err)
	} else if err := r.WriteFile("x", nil); err == nil {
		t.Error("wrote into the state of another user")
	}
	refused := func(why string) {
		t.Helper()
		if _, _, err := ReadServiceInstance(state); err == nil || !strings.Contains(err.Error(), "refused") {
			t.Errorf("%s: %v", why, err)
		}
	}
	give(0, lock)
	refused("root's file in it")
	give(4711, lock)
	if err := os.Link(lock, filepath.Join(lib, "second")); err != nil {
		t.Fatal(err)
	}
	refused("a second name")
	os.Remove(filepath.Join(lib, "second"))
	os.Chmod(state, 0o755)
	refused("open to others")
	os.Chmod(state, 0o700)
	os.Chmod(lib, 0o777)
	refused("in a directory where anybody may put one")
	os.Chmod(lib, 0o755)
	give(4711, lib)
	refused("in another user's directory")
}
