package store

import (
	"io/fs"
	"path/filepath"
)

const tempDirs = "tmp" // directories of programs that run

// TempDir makes a new, empty directory, 0700, below the state directory. What
// is left of it when the gateway dies goes with the next Open.
func (d *Dir) TempDir() (path string, remove func() error, err error) {
	if d.lock == nil {
		return "", nil, errReadOnly
	}
	name := filepath.Join(tempDirs, randomHex(8))
	if err := d.top.root.MkdirAll(name, 0o700); err != nil {
		return "", nil, err
	}
	real, err := filepath.EvalSymlinks(d.path)
	return filepath.Join(real, name), func() error { return d.top.removeTree(name) }, err
}

// removeTree removes a directory that programs wrote in: they may have closed
// some of it to their own user. No link in it is followed.
func (d *folder) removeTree(name string) error {
	err := d.root.RemoveAll(name)
	if err == nil {
		return nil
	}
	fs.WalkDir(d.root.FS(), filepath.ToSlash(name), func(p string, e fs.DirEntry, _ error) error {
		if e != nil && e.IsDir() {
			d.root.Chmod(filepath.FromSlash(p), 0o700)
		}
		return nil
	})
	return d.root.RemoveAll(name)
}
