package store

import (
	"os"
	"path/filepath"
	"testing"
)

// TestTempDir: what a program closed to its own user goes too, what a link
// leads to stays, and a gateway that died leaves nothing behind.
func TestTempDir(t *testing.T) {
	state := filepath.Join(t.TempDir(), "state")
	d, err := Open(state)
	if err != nil {
		t.Fatal(err)
	}
	away := t.TempDir()
	fill := func(dir string) {
		for _, err := range []error{
			os.MkdirAll(filepath.Join(dir, "a/b"), 0o700),
			os.WriteFile(filepath.Join(dir, "a/b/f"), nil, 0o400),
			os.Symlink(away, filepath.Join(dir, "a/link")),
			os.Chmod(filepath.Join(dir, "a/b"), 0o500), os.Chmod(filepath.Join(dir, "a"), 0),
		} {
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	one, remove, err := d.TempDir()
	if err != nil {
		t.Fatal(err)
	}
	two, _, err := d.TempDir()
	if err != nil || one == two {
		t.Fatal(one, two, err)
	}
	fill(one)
	fill(two)
	if err := remove(); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(one); !os.IsNotExist(err) {
		t.Error("still there", err)
	}
	d.Close()
	if d, err = Open(state); err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if _, err := os.Lstat(two); !os.IsNotExist(err) {
		t.Error("left behind", err)
	}
	if _, err := os.Stat(away); err != nil {
		t.Error("a link was followed", err)
	}
}
