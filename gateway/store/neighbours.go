package store

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// maxNeighbours bounds how many state directories of one home are looked at.
const maxNeighbours = 64

// Neighbour is a state directory in the home and who holds it.
type Neighbour struct {
	Path     string
	Instance // of the running gateway, without its key
	Running  bool
	Err      error // why that cannot be told
}

// Neighbours looks at ~/.openclaw and every ~/.openclaw-NAME that is a
// directory of this user, in the order of their names. A home that is unknown or
// cannot be read has none, for nothing depends on them.
func Neighbours(home string) []Neighbour {
	if !filepath.IsAbs(home) {
		return nil
	}
	dir, err := os.Open(home)
	if err != nil {
		return nil
	}
	names, _ := dir.Readdirnames(-1) // what could be read of it counts
	dir.Close()
	names = slices.DeleteFunc(names, func(name string) bool {
		return name != ".openclaw" && !strings.HasPrefix(name, ".openclaw-")
	})
	slices.Sort(names)
	var out []Neighbour
	for _, name := range names {
		n := Neighbour{Path: filepath.Join(home, name)}
		// A link may lead to a directory elsewhere, but only to one of ours.
		if fi, err := os.Stat(n.Path); err != nil || !fi.IsDir() || ownerOf(fi) != os.Geteuid() {
			continue
		}
		n.Instance, n.Running, n.Err = ReadInstance(n.Path)
		n.CLIKey = ""
		if out = append(out, n); len(out) == maxNeighbours {
			break
		}
	}
	return out
}
