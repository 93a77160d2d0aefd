package store

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// TestNeighbours finds the state directories of a home whatever else is there.
func TestNeighbours(t *testing.T) {
	home := t.TempDir()
	at := func(name string) string { return filepath.Join(home, name) }
	for _, name := range []string{".openclaw", ".openclaw-b", ".openclaw-loose", ".openclawful", "openclaw-x", "elsewhere"} {
		if err := os.Mkdir(at(name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(at(".openclaw-loose"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(at(".openclaw-file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	links := map[string]string{".openclaw-link": at("elsewhere"), ".openclaw-nowhere": at("nowhere"), ".openclaw-loop": at(".openclaw-loop")}
	foreign := "/" // of root
	if os.Geteuid() == 0 {
		foreign = at("elsewhere/foreign")
		if err := os.Mkdir(foreign, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.Chown(foreign, 12345, 12345); err != nil {
			t.Fatal(err)
		}
	}
	links[".openclaw-foreign"] = foreign
	for name, target := range links {
		if err := os.Symlink(target, at(name)); err != nil {
			t.Fatal(err)
		}
	}
	d := mustOpen(t, at(".openclaw-b"))
	if err := d.Publish(Instance{PID: 7, Port: 19789, Version: "v1", CLIKey: "key"}); err != nil {
		t.Fatal(err)
	}
	got := map[string]Neighbour{}
	for _, n := range Neighbours(home) {
		got[filepath.Base(n.Path)] = n
	}
	if n := got[".openclaw-b"]; !n.Running || n.PID != 7 || n.Port != 19789 || n.Version != "v1" || n.CLIKey != "" || n.Err != nil {
		t.Errorf("the running one: %+v", n)
	}
	if n := got[".openclaw-loose"]; n.Err == nil || n.Running {
		t.Errorf("the open one: %+v", n)
	}
	for _, name := range []string{".openclaw", ".openclaw-link"} {
		if n, ok := got[name]; !ok || n.Running || n.Err != nil {
			t.Errorf("%s: %+v, %v", name, n, ok)
		}
	}
	if len(got) != 4 {
		t.Errorf("found %v", got)
	}
	if fi, err := os.Stat(at(".openclaw-loose")); err != nil || fi.Mode().Perm() != 0o755 {
		t.Errorf("looking changed the mode: %v, %v", fi.Mode(), err)
	}
}

func TestNeighboursBounded(t *testing.T) {
	home := t.TempDir()
	for i := range maxNeighbours + 6 {
		if err := os.Mkdir(filepath.Join(home, fmt.Sprintf(".openclaw-%03d", i)), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	list := Neighbours(home)
	if len(list) != maxNeighbours || filepath.Base(list[0].Path) != ".openclaw-000" {
		t.Errorf("%d, from %s", len(list), list[0].Path)
	}
}

// TestNeighboursOfNoHome: nobody says where it is, or it cannot be read.
func TestNeighboursOfNoHome(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	shut := filepath.Join(t.TempDir(), "shut")
	if err := os.MkdirAll(filepath.Join(shut, ".openclaw"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(shut, 0o100); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.Chmod(shut, 0o700) })
	homes := []string{"", "relative", file, filepath.Join(file, "below")}
	if os.Geteuid() != 0 { // root reads everything
		homes = append(homes, shut)
	}
	for _, home := range homes {
		if list := Neighbours(home); list != nil {
			t.Errorf("%q: %v", home, list)
		}
	}
}
