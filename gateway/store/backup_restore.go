package store

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// Restored is what RestoreBackup did, or would do.
type Restored struct {
	*Manifest
	Config     []byte // the configuration's text in the backup; nil if there is none
	ConfigKept bool   // there is one already, which stays
}

// Account is the user that a service runs as.
type Account struct{ UID, GID int }

// RestoreBackup makes the state directory of a backup, and the configuration
// where there is none. The directory must be absent or empty. The archive is
// verified whole before anything is written; then everything goes into a new
// directory beside, which takes the place last: after a crash there is all or
// nothing. With dry nothing is written. With an account, root restores for a
// service: the state is the account's, the configuration root's and readable to
// its group.
func RestoreBackup(ctx context.Context, file, state, config string, to *Account, dry bool) (*Restored, error) {
	if err := vacant(state, to); err != nil {
		return nil, err
	}
	f, err := openBackup(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	out := &Restored{}
	out.Manifest, err = scanBackup(ctx, f, func(h *tar.Header) (io.WriteCloser, error) {
		if h.Name == configEntry {
			return (*collector)(&out.Config), nil
		}
		return discard{}, nil
	})
	if err != nil {
		return nil, err
	}
	_, err = os.Lstat(config)
	out.ConfigKept = err == nil
	if dry {
		return out, nil
	}
	if _, err = f.Seek(0, io.SeekStart); err == nil {
		err = out.restore(ctx, f, state, config, to)
	}
	if err != nil {
		return nil, fmt.Errorf("restore into %s: %w", state, noSpace(err))
	}
	return out, nil
}

// collector keeps a small entry.
type collector []byte

func (c *collector) Write(p []byte) (int, error) {
	*c = append(*c, p...)
	return len(p), nil
}

func (c *collector) Close() error { return nil }

// vacant reports why a directory cannot be restored into.
func vacant(state string, to *Account) error {
	fi, err := os.Lstat(state)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	if !fi.IsDir() {
		return fmt.Errorf("refused %s: a symbolic link, or no directory", state)
	}
	d, err := openFolderAt(state)
	if err != nil {
		return err
	}
	defer d.close()
	if to != nil && ownerOf(fi) == to.UID {
		d.owner = to.UID
	}
	if err := d.checkOwner(fi, state); err != nil {
		return err
	}
	names, err := d.names()
	if err != nil || len(names) == 0 {
		return err
	}
	if i, running, _ := ReadInstance(state); running {
		return fmt.Errorf("%w: %w", &LockedError{state, i}, fs.ErrExist)
	}
	return fmt.Errorf("%s is not empty, %s is in it: %w", state, names[0], fs.ErrExist)
}

func (r *Restored) restore(ctx context.Context, f io.Reader, state, config string, owner *Account) error {
	if err := makeDirs(filepath.Dir(state)); err != nil {
		return err
	}
	parent, err := openFolderAt(filepath.Dir(state))
	if err != nil {
		return err
	}
	defer parent.close()
	if err := parent.lockForUpdate(); err != nil {
		return err
	}
	defer flock(parent.dir, syscall.LOCK_UN)
	base := filepath.Base(state)
	parent.sweepRestores(base)
	if free, err := (&Dir{top: parent}).Free(); err == nil && free < r.Bytes {
		return fmt.Errorf("%w: %d bytes are needed, %d are free", ErrNoSpace, r.Bytes, free)
	}
	temp := tempName(base)
	defer parent.root.RemoveAll(temp) // when renamed, it is gone
	to, err := parent.sub(temp, true)
	if err != nil {
		return err
	}
	defer to.close()
	x := &extractor{m: r.Manifest, to: to, in: to, dir: "."}
	defer x.leave()
	if rel, err := filepath.Rel(state, config); err == nil && filepath.IsLocal(rel) {
		x.config = filepath.ToSlash(rel)
	}
	// Verified once more: nobody has promised that the file stays the same.
	if _, err := scanBackup(ctx, f, x.extract); err != nil {
		return err
	}
	if err := x.leave(); err != nil {
		return err
	}
	if owner != nil {
		if err := to.giveTo(owner); err != nil {
			return err
		}
	}
	switch {
	case x.config != "" || r.Config == nil || r.ConfigKept:
	case owner != nil:
		if err := PlaceUnitFile(config, r.Config, 0o640, owner.GID, false); err != nil {
			return err
		}
	default:
		if err := placeConfig(config, r.Config); err != nil {
			return err
		}
	}
	if err := syscall.Rmdir(state); err != nil && err != syscall.ENOENT { // fails unless it is empty
		return &fs.PathError{Op: "rmdir", Path: state, Err: err}
	}
	if err := parent.root.Rename(temp, base); err != nil {
		return err
	}
	return parent.sync()
}

// sweepRestores removes what restores left that were killed. It needs the lock.
func (d *folder) sweepRestores(base string) {
	names, _ := d.names()
	for _, name := range names {
		id, ok := strings.CutPrefix(name, "."+base+".")
		if fi, err := d.root.Lstat(name); ok && len(id) == len("0123456789abcdef.tmp") && strings.HasSuffix(id, ".tmp") && err == nil && fi.IsDir() {
			d.root.RemoveAll(name)
		}
	}
}

// giveTo makes everything in the directory, and itself, somebody else's.
func (d *folder) giveTo(a *Account) error {
	return fs.WalkDir(d.root.FS(), ".", func(name string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return d.root.Lchown(name, a.UID, a.GID)
	})
}

// placeConfig writes a configuration that lies outside the state directory. It
// comes before the state: a restore that was interrupted can then be repeated.
func placeConfig(config string, text []byte) error {
	if err := makeDirs(filepath.Dir(config)); err != nil {
		return err
	}
	d, err := openFolderAt(filepath.Dir(config))
	if err != nil {
		return err
	}
	defer d.close()
	temp, err := d.stage(filepath.Base(config), text, nil)
	if err != nil {
		return err
	}
	return d.publish(temp, filepath.Base(config))
}

// extractor makes files of entries.
type extractor struct {
	m      *Manifest
	to     *folder
	config string  // name of the configuration in the state directory, "" if it lies elsewhere
	in     *folder // the directory of the last file
	dir    string  // and its name
}

func (x *extractor) extract(h *tar.Header) (io.WriteCloser, error) {
	name := x.m.place(h.Name)
	if h.Name == configEntry {
		if name = x.config; name == "" {
			return discard{}, nil
		}
	}
	if dir := path.Dir(name); dir != x.dir {
		if err := x.leave(); err != nil {
			return nil, err
		}
		in, err := x.to, error(nil)
		if dir != "." {
			if in, err = x.to.sub(dir, true); err != nil {
				return nil, err
			}
		}
		x.in, x.dir = in, dir
	}
	f, _, err := x.in.open(path.Base(name), os.O_WRONLY|os.O_EXCL)
	if errors.Is(err, fs.ErrExist) {
		return nil, badBackup(h.Name, "another file has this name here: upper and lower case, or forms of Unicode, are one on this disk")
	} else if err != nil {
		return nil, err
	}
	return &restoredFile{f, x.in.root, fs.FileMode(h.Mode), h.ModTime}, nil
}

// leave makes the names in the last directory durable.
func (x *extractor) leave() error {
	err := x.in.sync()
	if x.in != x.to {
		x.in.close()
	}
	x.in, x.dir = x.to, "."
	return err
}

// restoredFile is durable once it is closed, and as old as it was: the index
// tells by their age which transcripts it should know.
type restoredFile struct {
	*os.File
	root *os.Root
	mode fs.FileMode
	mod  time.Time
}

func (f *restoredFile) Close() error {
	name := filepath.Base(f.Name())
	return errors.Join(f.Chmod(f.mode), f.root.Chtimes(name, f.mod, f.mod), f.Sync(), f.File.Close())
}
