package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// maxUnitFile is far above what any service definition needs.
const maxUnitFile = 256 << 10

// ReadUnitFile reads a service definition, or another small file that a
// supervisor shares with us; nil where there is none. A symbolic link, what is no
// regular file, and a file that neither we nor root own or that others may
// change, are refused.
func ReadUnitFile(path string) ([]byte, error) {
	d, err := openUnitDir(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	defer d.close()
	return d.readUnit(filepath.Base(path))
}

// PlaceUnitFile puts a file where a supervisor looks for it, whole and durably,
// with exactly this mode and, unless gid is negative, this group. What
// ReadUnitFile refuses is not replaced. Where keep is set, what was there is
// kept as NAME.bak.
func PlaceUnitFile(path string, data []byte, mode fs.FileMode, gid int, keep bool) error {
	if err := EnsureDir(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	d, err := openUnitDir(path)
	if err != nil {
		return err
	}
	defer d.close()
	name := filepath.Base(path)
	old, err := d.readUnit(name)
	if err == nil && old != nil && keep {
		err = d.placeAs(name+".bak", old, 0o600, -1) // others' units hold secrets
	}
	if err == nil {
		err = d.placeAs(name, data, mode, gid)
	}
	if err == nil {
		err = d.sync()
	}
	return noSpace(err)
}

// RemoveUnitFile takes such a file away, or with keep renames it to NAME.bak.
func RemoveUnitFile(path string, keep bool) error {
	d, err := openUnitDir(path)
	if err != nil {
		return err
	}
	defer d.close()
	name := filepath.Base(path)
	if _, err := d.readUnit(name); err != nil {
		return err
	}
	if keep {
		err = d.root.Rename(name, name+".bak")
	} else {
		err = d.root.Remove(name)
	}
	if err != nil {
		return err
	}
	return d.sync()
}

// EnsureDir makes a directory with this mode where there is none; one that
// exists stays as it is. Missing parents are 0755 where it is open to all, else 0700.
func EnsureDir(path string, mode fs.FileMode) error {
	fi, err := os.Stat(path)
	if err == nil && !fi.IsDir() {
		return &fs.PathError{Op: "mkdir", Path: path, Err: syscall.ENOTDIR}
	}
	if err == nil || !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := EnsureDir(filepath.Dir(path), mode); err != nil {
		return err
	}
	if err := makeDirs(path); err != nil {
		return err
	}
	return os.Chmod(path, mode) // whatever the umask
}

// openUnitDir opens the directory that a unit file is in. Where others may
// write, they could exchange the file; the group of a plain user's own
// directories is commonly that user's alone, root's is not.
func openUnitDir(path string) (*folder, error) {
	dir := filepath.Dir(path)
	d, err := openFolderAt(dir)
	if err != nil {
		return nil, err
	}
	loose := fs.FileMode(0o002)
	if os.Geteuid() == 0 {
		loose = 0o022
	}
	fi, err := d.dir.Stat()
	switch {
	case err != nil:
	case ownerOf(fi) != os.Geteuid() && ownerOf(fi) != 0:
		err = fmt.Errorf("refused %s: it belongs to uid %d", dir, ownerOf(fi))
	case fi.Mode().Perm()&loose != 0:
		err = fmt.Errorf("refused %s: others may write there (mode %04o): chmod go-w %s", dir, fi.Mode().Perm(), quote(dir))
	}
	if err != nil {
		d.close()
		return nil, err
	}
	return d, nil
}

func (d *folder) readUnit(name string) ([]byte, error) {
	path := filepath.Join(d.path, name)
	fi, err := d.root.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	if fi.Mode()&fs.ModeSymlink != 0 {
		return nil, fmt.Errorf("refused %s: a symbolic link", path)
	}
	f, err := d.root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK|syscall.O_NOFOLLOW, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if fi, err = f.Stat(); err == nil {
		err = d.checkName(name, fi)
	}
	if err == nil {
		err = checkReader(fi, path, false)
	}
	if err != nil {
		return nil, err
	}
	return readAll(f, maxUnitFile)
}

// placeAs is replace for a file that others may read.
func (d *folder) placeAs(name string, data []byte, mode fs.FileMode, gid int) error {
	temp, err := d.stageAs(name, data, func(f *os.File) error {
		if gid >= 0 {
			if err := f.Chown(-1, gid); err != nil {
				return err
			}
		}
		return f.Chmod(mode)
	})
	if err != nil {
		return err
	}
	if err := d.root.Rename(temp, name); err != nil {
		d.root.Remove(temp)
		return err
	}
	return nil
}
