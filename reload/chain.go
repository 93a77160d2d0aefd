package reload

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

const (
	maxLinks   = 40   // as Linux follows at most, path_resolution(7)
	maxSteps   = 1000 // names on the way, those inside links included
	maxWatches = 45
)

// stamp is what a change of a file, or of a link, changes. The time of the
// status change cannot be set back, so that a change and a change back is one.
type stamp struct {
	kind         fs.FileMode // type bits only; 0 is a regular file
	perm         uint32
	dev, ino     uint64
	size         int64
	mtime, ctime int64 // ns
}

// watch is a directory and the names in it that lead to the file, or, without
// names, the file itself.
type watch struct {
	path  string
	names []string
}

// chain is the way from the root to a file, through every symbolic link.
type chain struct {
	print   string  // differs when the file or a link on the way changed
	found   bool    // whether the way ends at a regular file
	watches []watch // the last directory is the nearest to the file
}

// follow walks an absolute path name by name, as the kernel does. Each
// directory on the way is one to watch, for a rename of any name changes what
// the path means. The walk ends at the file or at the first name that leads
// nowhere, whose directory is then the last.
func follow(path string) chain {
	var c chain
	var print strings.Builder
	// Of directories only their way counts: their times change with every
	// file in them.
	note := func(s stamp) {
		if s.kind == fs.ModeDir {
			s.size, s.mtime, s.ctime = 0, 0, 0
		}
		fmt.Fprintf(&print, "%v\n", s)
	}
	dir, rest, links := "/", path, 0
	for range maxSteps {
		var name string
		name, rest, _ = strings.Cut(strings.TrimLeft(rest, "/"), "/")
		switch name {
		case "":
			// The path is a directory.
			if s, err := lstat(dir); err == nil {
				note(s)
			}
			return c.end(&print)
		case ".":
			continue
		case "..":
			dir = filepath.Dir(dir) // dir itself has no links
			continue
		}
		c.watch(dir, name)
		at := filepath.Join(dir, name)
		s, err := lstat(at)
		if err != nil {
			return c.end(&print)
		}
		switch {
		case s.kind == fs.ModeSymlink:
			target, err := os.Readlink(at)
			if links++; err != nil || links > maxLinks {
				return c.end(&print)
			}
			note(s)
			fmt.Fprintf(&print, "%q\n", target)
			if filepath.IsAbs(target) {
				dir = "/"
			}
			rest = target + "/" + rest
		case s.kind == fs.ModeDir:
			dir = at
		default:
			note(s)
			if c.found = s.kind == 0 && rest == ""; c.found {
				// Its directory is not told of writes through another name, as
				// of a file that is mounted into a container.
				c.watches = append(c.watches, watch{path: at})
			}
			return c.end(&print)
		}
	}
	return c.end(&print)
}

func (c *chain) end(print *strings.Builder) chain {
	c.print = print.String()
	return *c
}

// watch adds a name, its directory coming last. Where there are too many
// directories, those first met are left to the slow stat.
func (c *chain) watch(dir, name string) {
	w := watch{path: dir}
	if i := slices.IndexFunc(c.watches, func(w watch) bool { return w.path == dir }); i >= 0 {
		w = c.watches[i]
		c.watches = slices.Delete(c.watches, i, i+1)
	}
	if !slices.Contains(w.names, name) {
		w.names = append(w.names, name)
	}
	c.watches = append(c.watches, w)
	if len(c.watches) > maxWatches-1 { // one is the file's
		c.watches = c.watches[1:]
	}
}
