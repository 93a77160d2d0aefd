package tool

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"syscall"

	"openclaw/gateway/store"
)

// workspace is the one door to files. It walks by descriptor (os.Root), so
// that no link, and no change of directories meanwhile, leads out of it; and
// what it opens is a regular file with one name or a directory, on the
// workspace's own mount.
type workspace struct {
	root  *os.Root
	mount uint64
}

// workspace opens the scope's workspace and makes it where there is none yet.
func (c *call) workspace() (*workspace, error) {
	dir := c.Scope.Workspace
	if !filepath.IsAbs(dir) {
		return nil, errors.New("this session has no workspace")
	}
	if holds(dir, c.Dir.Path()) {
		return nil, fmt.Errorf("the workspace %s holds the gateway's own state, so that files in it are closed to tools; configure another", dir)
	}
	if err := c.Dir.EnsureWorkspace(dir); err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("open the workspace: %w", err)
	}
	w := &workspace{root: root}
	if w.mount, err = mountOf(root); err != nil {
		root.Close()
		return nil, fmt.Errorf("open the workspace: %w", err)
	}
	return w, nil
}

// holds reports whether the directory inner is dir or lies in it, by whatever names.
func holds(dir, inner string) bool {
	outer, err := os.Stat(dir)
	if err != nil {
		return false
	}
	if inner, err = filepath.EvalSymlinks(inner); err != nil {
		return false
	}
	for ; ; inner = filepath.Dir(inner) {
		if fi, err := os.Stat(inner); err == nil && os.SameFile(fi, outer) {
			return true
		}
		if inner == filepath.Dir(inner) {
			return false
		}
	}
}

func (w *workspace) Close() error { return w.root.Close() }

// mountOf tells on which mount a directory is.
func mountOf(root *os.Root) (uint64, error) {
	f, err := root.Open(".")
	if err != nil {
		return 0, err
	}
	defer f.Close()
	return mountID(f)
}

// open opens a regular file or a directory for reading. It never waits, as
// opening a FIFO would.
func (w *workspace) open(p Path) (*os.File, fs.FileInfo, error) {
	fi, err := w.root.Stat(p.String()) // opening a device may do something
	if err == nil {
		err = admit(fi)
	}
	if err != nil {
		return nil, nil, told(p, err)
	}
	f, err := w.root.OpenFile(p.String(), os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, nil, told(p, err)
	}
	if fi, err = f.Stat(); err == nil {
		err = admit(fi)
	}
	if err == nil {
		err = w.sameMount(f)
	}
	if err != nil {
		f.Close()
		return nil, nil, told(p, err)
	}
	return f, fi, nil
}

// admit refuses what is neither a directory nor a regular file with one name.
func admit(fi fs.FileInfo) error {
	switch {
	case fi.IsDir():
		return nil
	case !fi.Mode().IsRegular():
		return errors.New("is not a regular file")
	}
	if st, ok := fi.Sys().(*syscall.Stat_t); !ok || st.Nlink > 1 {
		return errors.New("has further names (hard links), which may lie outside of the workspace")
	}
	return nil
}

func (w *workspace) sameMount(f *os.File) error {
	id, err := mountID(f)
	if err == nil && id != w.mount {
		err = errors.New("is on another file system than the workspace")
	}
	return err
}

// read reads a whole regular file of at most limit bytes.
func (w *workspace) read(p Path, limit int64) ([]byte, fs.FileInfo, error) {
	f, fi, err := w.open(p)
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	if fi.IsDir() {
		return nil, nil, told(p, errDirectory)
	}
	if fi.Size() > limit {
		return nil, nil, told(p, tooBig(fi.Size(), limit))
	}
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(data)) > limit { // it grows, or its size says nothing, as in /proc
		err = tooBig(int64(len(data)), limit)
	}
	return data, fi, told(p, err)
}

var errDirectory = errors.New("is a directory; list shows it")

func tooBig(size, limit int64) error {
	return fmt.Errorf("has %d bytes; at most %d are taken", size, limit)
}

// put puts a file in its place at once, whole or not at all, keeping the mode
// of the one that was there; directories are made. was, if not nil, is what the
// file must still be.
func (w *workspace) put(p Path, data []byte, was fs.FileInfo) (err error) {
	defer func() { err = told(p, err) }()
	dir, base := path.Split(p.String())
	if base == "." {
		return errDirectory
	}
	parent := w.root
	if dir != "" {
		if err := w.root.MkdirAll(path.Clean(dir), 0o777); err != nil {
			return err
		}
		if parent, err = w.root.OpenRoot(path.Clean(dir)); err != nil {
			return err
		}
		defer parent.Close()
	}
	here, err := parent.Open(".")
	if err != nil {
		return err
	}
	defer here.Close()
	if err := w.sameMount(here); err != nil {
		return err
	}
	mode, err := replaceable(parent, base, was)
	if err != nil {
		return err
	}
	temp := ".openclaw-" + rand.Text() + ".tmp"
	f, err := parent.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil && mode != 0 {
		err = f.Chmod(mode)
	}
	if err == nil {
		err = f.Sync()
	}
	if e := f.Close(); err == nil {
		err = e
	}
	if err == nil { // again: writing took a while
		_, err = replaceable(parent, base, was)
	}
	if err == nil {
		err = parent.Rename(temp, base)
	}
	if err != nil {
		parent.Remove(temp)
		return err
	}
	return here.Sync()
}

// replaceable returns the mode of the file that is to be replaced, 0 where
// there is none.
func replaceable(parent *os.Root, base string, was fs.FileInfo) (fs.FileMode, error) {
	fi, err := parent.Lstat(base)
	switch {
	case errors.Is(err, fs.ErrNotExist) && was == nil:
		return 0, nil
	case err != nil:
		return 0, err
	case fi.Mode()&fs.ModeSymlink != 0:
		target, _ := parent.Readlink(base)
		return 0, fmt.Errorf("is a symbolic link to %s; write that file instead", store.Clip(target, 256))
	case fi.IsDir():
		return 0, errDirectory
	case was != nil && !(os.SameFile(fi, was) && fi.Size() == was.Size() && fi.ModTime().Equal(was.ModTime())):
		return 0, errors.New("was changed by somebody else meanwhile; read it again")
	}
	return fi.Mode().Perm(), admit(fi)
}

// told says what is wrong with p, in p's own words rather than a system call's.
func told(p Path, err error) error {
	if err == nil {
		return nil
	}
	var pe *fs.PathError
	var le *os.LinkError
	switch {
	case errors.Is(err, fs.ErrNotExist):
		err = errors.New("there is no such file")
	case errors.As(err, &pe):
		err = pe.Err
	case errors.As(err, &le):
		err = le.Err
	}
	return fmt.Errorf("%s: %w", p, err)
}
