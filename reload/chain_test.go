package reload

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// tree makes files in a directory that has no links on its way: "name" is a
// directory, "name=text" a file, "name->target" a link.
func tree(t *testing.T, entries ...string) string {
	t.Helper()
	root, err := filepath.EvalSymlinks(t.TempDir())
	must(t, err)
	for _, e := range entries {
		if name, target, ok := strings.Cut(e, "->"); ok {
			must(t, os.Symlink(strings.ReplaceAll(target, "$", root), filepath.Join(root, name)))
		} else if name, text, ok := strings.Cut(e, "="); ok {
			must(t, os.WriteFile(filepath.Join(root, name), []byte(text), 0o600))
		} else {
			must(t, os.MkdirAll(filepath.Join(root, e), 0o700))
		}
	}
	return root
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestChainWatches(t *testing.T) {
	for _, tt := range []struct {
		name    string
		entries []string
		path    string
		want    string // below the root: directory:names ... file
	}{
		{"file", []string{"f=x"}, "f", ".:f f"},
		{"missing", nil, "f", ".:f"},
		{"missing parents", nil, "a/b/f", ".:a"},
		{"directory", []string{"a/f"}, "a/f", ".:a a:f"},
		{"link", []string{"d", "d/f=x", "l->d/f"}, "l", ".:l,d d:f d/f"},
		{"absolute link", []string{"d", "d/f=x", "l->$/d/f"}, "l", ".:l,d d:f d/f"},
		{"dangling link", []string{"l->d/f"}, "l", ".:l,d"},
		{"parent link", []string{"a/b", "a/f=x", "a/b/l->../f"}, "a/b/l", ".:a a/b:l a:b,f a/f"},
		{"linked directory", []string{"a/b", "a/b/f=x", "l->a/b"}, "l/../f", ".:l,a a:b,f"},
		{"odd slashes", []string{"a", "a/f=x"}, "a//./f", ".:a a:f a/f"},
		{"config map", []string{"m/..1", "m/..1/f=x", "m/..data->..1", "m/f->..data/f"}, "m/f", ".:m m:f,..data,..1 m/..1:f m/..1/f"},
		{"loop", []string{"a->b", "b->a"}, "a", ".:a,b"},
		{"loop on itself", []string{"a->a/a"}, "a/f", ".:a"},
		{"through a file", []string{"a=x"}, "a/f", ".:a"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			root := tree(t, tt.entries...)
			var got []string
			c := follow(root + "/" + tt.path)
			for _, w := range c.watches {
				rel, err := filepath.Rel(root, w.path)
				must(t, err)
				if strings.HasPrefix(rel, "..") && !strings.HasPrefix(rel, "..1") {
					continue // above the root
				}
				if w.names != nil {
					rel += ":" + strings.Join(w.names, ",")
				}
				got = append(got, rel)
			}
			if s := strings.Join(got, " "); s != tt.want {
				t.Errorf("watches %q, want %q", s, tt.want)
			}
			if up := c.watches[0]; up.path != "/" {
				t.Errorf("the walk begins at %q", up.path)
			}
			file, err := os.Stat(root + "/" + tt.path)
			if want := err == nil && file.Mode().IsRegular(); c.found != want {
				t.Errorf("found is %v, want %v", c.found, want)
			}
		})
	}
}

func TestChainBounds(t *testing.T) {
	// Forty links are followed, one more is not.
	root := tree(t, "f=x", "l0->f")
	for i := range maxLinks {
		must(t, os.Symlink(fmt.Sprint("l", i), fmt.Sprintf("%s/l%d", root, i+1)))
	}
	if !follow(fmt.Sprintf("%s/l%d", root, maxLinks-1)).found {
		t.Error("the longest chain is not followed")
	}
	if follow(fmt.Sprintf("%s/l%d", root, maxLinks)).found {
		t.Error("a chain that is too long is followed")
	}
	// A deep directory: those nearest to the file are watched.
	deep := root + strings.Repeat("/d", 2*maxWatches)
	must(t, os.MkdirAll(deep, 0o700))
	must(t, os.WriteFile(deep+"/f", nil, 0o600))
	c := follow(deep + "/f")
	if n := len(c.watches); n != maxWatches {
		t.Errorf("%d watches", n)
	}
	if !slices.ContainsFunc(c.watches, func(w watch) bool { return w.path == deep && slices.Equal(w.names, []string{"f"}) }) {
		t.Error("the nearest directory is left out")
	}
	if follow(root + strings.Repeat("/.", maxSteps) + "/f").found {
		t.Error("a walk without end")
	}
}

func TestChainPrint(t *testing.T) {
	for _, tt := range []struct {
		name   string
		differ bool
		change func(root string) error
	}{
		{"nothing", false, func(string) error { return nil }},
		{"a neighbour", false, func(root string) error { return os.WriteFile(root+"/d/g", nil, 0o600) }},
		{"content of one length", true, func(root string) error { return os.WriteFile(root+"/d/f", []byte("y"), 0o600) }},
		{"times set back", true, func(root string) error {
			before, err := os.Stat(root + "/d/f")
			if err == nil {
				err = os.WriteFile(root+"/d/f", []byte("y"), 0o600)
			}
			if err != nil {
				return err
			}
			return os.Chtimes(root+"/d/f", before.ModTime(), before.ModTime())
		}},
		{"mode and back", true, func(root string) error {
			if err := os.Chmod(root+"/d/f", 0); err != nil {
				return err
			}
			return os.Chmod(root+"/d/f", 0o600)
		}},
		{"gone", true, func(root string) error { return os.Remove(root + "/d/f") }},
		{"a directory", true, func(root string) error {
			if err := os.Remove(root + "/d/f"); err != nil {
				return err
			}
			return os.Mkdir(root+"/d/f", 0o700)
		}},
		{"a link to another", true, func(root string) error { return relink("e", root+"/l") }},
		{"the same link anew", true, func(root string) error { return relink("d", root+"/l") }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			root := tree(t, "d", "e", "d/f=x", "e/f=x", "l->d")
			before := follow(root + "/l/f")
			// A coarse clock may need a while to show a change.
			within(t, func() bool {
				must(t, tt.change(root))
				return (follow(root+"/l/f").print != before.print) == tt.differ
			})
		})
	}

	root := tree(t)
	if a, b := follow(root+"/a/b/f"), follow(root+"/a"); a.print != b.print {
		t.Errorf("a missing file differs from a missing directory: %q, %q", a.print, b.print)
	}
	must(t, os.Mkdir(root+"/f", 0o700))
	before := follow(root + "/f")
	must(t, os.WriteFile(root+"/f/g", nil, 0o600))
	if after := follow(root + "/f"); after.print != before.print {
		t.Error("what is in a directory counts as a change of it")
	}
}

// relink replaces a link by rename.
func relink(target, link string) error {
	if err := os.Symlink(target, link+".tmp"); err != nil {
		return err
	}
	return os.Rename(link+".tmp", link)
}
