package store

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func grow(t *testing.T, files map[string]string) func(dir string) error {
	return func(dir string) error {
		for name, text := range files {
			path := filepath.Join(dir, filepath.FromSlash(name))
			if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o777), os.WriteFile(path, []byte(text), 0o666)); err != nil {
				t.Fatal(err)
			}
		}
		return nil
	}
}

// TestPlacedTree places other people's files and sees every change to them.
func TestPlacedTree(t *testing.T) {
	state, aside := filepath.Join(t.TempDir(), "state"), []string{"NOTE"}
	sum := ""
	place := func(files map[string]string, accept func(string) error) error {
		return PlaceTree(t.Context(), state, "cache/tree", aside, grow(t, files), accept)
	}
	note := func(s string) error { sum = s; return nil }
	if _, err := CheckTree(t.Context(), state, "cache/tree", "", aside); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no tree: %v", err)
	}
	first := map[string]string{"a/b/c.js": "c", "a.js": "a", "z": strings.Repeat("z", 200_000), "NOTE": "1"}
	if err := place(first, note); err != nil {
		t.Fatal(err)
	}
	tree := filepath.Join(state, "cache/tree")
	modes(t, state)
	if out, err := exec.Command("sh", "-c", "cd "+tree+" && sha256sum -c MANIFEST").CombinedOutput(); err != nil && !strings.Contains(string(out), "not found") {
		t.Errorf("sha256sum: %s", out)
	}
	check := func() error {
		dir, err := CheckTree(t.Context(), state, "cache/tree", sum, aside)
		if err == nil && dir == "" {
			t.Error("no path")
		}
		return err
	}
	if err := errors.Join(check(), os.WriteFile(tree+"/NOTE", []byte("2"), 0o600), check()); err != nil {
		t.Error(err)
	}

	// What is refused leaves what was there, and nothing else.
	refused := errors.New("refused")
	if err := place(map[string]string{"a.js": "another"}, func(string) error { return refused }); !errors.Is(err, refused) {
		t.Error(err)
	}
	failed := func(dir string) error { return errors.Join(grow(t, first)(dir), refused) }
	if err := PlaceTree(t.Context(), state, "cache/tree", aside, failed, note); !errors.Is(err, refused) {
		t.Error(err)
	}
	linked := func(dir string) error { return errors.Join(grow(t, first)(dir), os.Symlink("a.js", dir+"/l.js")) }
	if err := PlaceTree(t.Context(), state, "cache/tree", aside, linked, note); err == nil || !strings.Contains(err.Error(), "l.js is no regular file") {
		t.Error(err)
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if err := PlaceTree(gone, state, "cache/tree", aside, grow(t, first), note); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if left, _ := os.ReadDir(filepath.Join(state, "cache")); len(left) != 1 || check() != nil {
		t.Errorf("%v, %v", left, check())
	}

	// One byte, anywhere, is seen; another tree takes the place of the harmed one.
	for _, name := range []string{"a/b/c.js", "z", "MANIFEST"} {
		path := filepath.Join(tree, name)
		raw, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		raw[len(raw)/2] ^= 1
		if err := os.WriteFile(path, raw, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := check(); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
		if err := place(first, note); err != nil || check() != nil {
			t.Errorf("%v, %v", err, check())
		}
	}
}

// TestTreeOfOthers: a tree is placed in no state directory that is somebody else's or open to others.
func TestTreeOfOthers(t *testing.T) {
	state := t.TempDir()
	if err := os.Chmod(state, 0o755); err != nil {
		t.Fatal(err)
	}
	fill := func(string) error { t.Error("filled"); return nil }
	if err := PlaceTree(t.Context(), state, "cache/tree", nil, fill, func(string) error { return nil }); err == nil || !strings.Contains(err.Error(), "chmod 700") {
		t.Error(err)
	}
}

// TestTreeOfService: what root places for a service is that user's.
func TestTreeOfService(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("takes root")
	}
	state := filepath.Join(t.TempDir(), "state")
	if err := errors.Join(os.Mkdir(state, 0o700), os.Chown(state, 65534, 65534)); err != nil {
		t.Fatal(err)
	}
	if err := PlaceTree(t.Context(), state, "cache/tree", nil, grow(t, map[string]string{"a/b": "b"}), func(string) error { return nil }); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"cache", "cache/tree", "cache/tree/MANIFEST", "cache/tree/a", "cache/tree/a/b"} {
		if fi, err := os.Lstat(filepath.Join(state, name)); err != nil || ownerOf(fi) != 65534 {
			t.Errorf("%s: %v, %v", name, fi, err)
		}
	}
}

// TestEmpty empties a directory and nothing that a link in it leads to.
func TestEmpty(t *testing.T) {
	d := mustOpen(t, t.TempDir()+"/state")
	other := t.TempDir()
	write(t, other+"/kept", "x", 0o600)
	media := filepath.Join(d.Path(), "channels/x/media")
	if err := errors.Join(d.Empty("channels/x/media"), d.WriteFile("channels/x/media/sub/file", []byte("x")), os.Symlink(other, media+"/link")); err != nil {
		t.Fatal(err)
	}
	if err := d.Empty("channels/x/media"); err != nil {
		t.Error(err)
	}
	left, err := os.ReadDir(media)
	if _, kept := os.Stat(other + "/kept"); err != nil || len(left) != 0 || kept != nil {
		t.Errorf("%v %v %v", left, err, kept)
	}
}
