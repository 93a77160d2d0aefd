package store

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// updatePatience is how long UpdateFile waits for another writer to be done.
const updatePatience = 15 * time.Second

// UpdateFile replaces a configuration file by what change makes of its text,
// alone among all that use UpdateFile on files of that directory, and keeps the
// old text as NAME.bak. old is nil where there is no file. Nothing is written
// when change fails, whose error is returned as it is, or leaves the text as it
// was. After a crash or on a full disk each of the two files is the old one or
// the new one. limit is the most bytes that the old and the new text may have.
//
// Symbolic links stay and the file that they lead to is replaced. What
// ReadConfigFile refuses is refused here. A new file is 0600; one that exists
// keeps its owner, group and permissions, and so does its .bak.
func UpdateFile(path string, limit int64, change func(old []byte) ([]byte, error)) error {
	real, err := filepath.EvalSymlinks(path)
	if errors.Is(err, fs.ErrNotExist) {
		if fi, e := os.Lstat(path); e == nil && fi.Mode()&fs.ModeSymlink != 0 { // else another writer has just made it
			return fmt.Errorf("refused %s: a symbolic link that leads nowhere", path)
		}
		real, err = path, nil
	}
	if err != nil {
		return err
	}
	d, err := openFolderAt(filepath.Dir(real))
	if err != nil {
		return err
	}
	defer d.close()
	if err := d.lockForUpdate(); err != nil {
		return err
	}
	defer flock(d.dir, syscall.LOCK_UN) // before the close: a child between fork and exec has the descriptor too
	return d.update(filepath.Base(real), limit, change, func() ([]byte, error) { return ReadConfigFile(path, limit, false) })
}

// update is UpdateFile under the lock. again reads the file once more, by the
// path that the caller knows it by.
func (d *folder) update(name string, limit int64, change func([]byte) ([]byte, error), again func() ([]byte, error)) error {
	d.sweepTemps(name)
	old, like, err := d.readConfig(name, limit)
	if err != nil {
		return err
	}
	text, err := change(old)
	if err != nil || bytes.Equal(text, old) {
		return err
	}
	if int64(len(text)) > limit {
		return fmt.Errorf("write %s: %w: more than %d bytes", filepath.Join(d.path, name), ErrTooLarge, limit)
	}
	// Both are on the disk before either takes its name.
	bak := ""
	if old != nil {
		bak, err = d.stage(name+".bak", old, like)
	}
	temp := ""
	if err == nil {
		temp, err = d.stage(name, text, like)
	}
	if err == nil {
		// An editor takes no lock, and where a link leads may have been changed.
		now, e := again()
		if (now == nil) != (old == nil) || !bytes.Equal(now, old) || e != nil && !errors.Is(e, fs.ErrNotExist) {
			err = errors.New("somebody else has changed it meanwhile")
		}
	}
	if err == nil && bak != "" {
		err = d.root.Rename(bak, name+".bak")
	}
	if err == nil {
		err = d.root.Rename(temp, name)
	}
	if err == nil {
		err = d.sync()
	}
	if err != nil {
		for _, left := range []string{bak, temp} {
			if left != "" {
				d.root.Remove(left)
			}
		}
		return fmt.Errorf("write %s: %w", filepath.Join(d.path, name), noSpace(err))
	}
	return nil
}

// readConfig is ReadConfigFile in an open directory; nil where there is no file.
func (d *folder) readConfig(name string, limit int64) ([]byte, fs.FileInfo, error) {
	f, err := d.root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK|syscall.O_NOFOLLOW, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, nil
	} else if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	fi, err := f.Stat()
	if err == nil {
		err = checkReader(fi, filepath.Join(d.path, name), false)
	}
	if err != nil {
		return nil, nil, err
	}
	data, err := readAll(f, limit)
	return data, fi, err
}

// stage writes what is to become the file name under another name, whole and
// durable, with owner and permissions of like where that is not nil.
func (d *folder) stage(name string, data []byte, like fs.FileInfo) (temp string, err error) {
	return d.stageAs(name, data, func(f *os.File) error {
		if like == nil {
			return nil
		}
		return handOver(f, like)
	})
}

// stageAs is stage with what makes the permissions right before the file is durable.
func (d *folder) stageAs(name string, data []byte, settle func(*os.File) error) (temp string, err error) {
	temp = tempName(name)
	f, _, err := d.open(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL)
	if err != nil {
		return "", err
	}
	if err = writeAll(d.write, f, data); err == nil {
		err = settle(f)
	}
	if err == nil {
		err = f.Sync()
	}
	if e := f.Close(); err == nil {
		err = e
	}
	if err != nil {
		d.root.Remove(temp)
		return "", err
	}
	return temp, nil
}

// handOver gives a file that is still ours alone the owner, group and
// permissions of another: what root edits must stay readable to a service.
func handOver(f *os.File, like fs.FileInfo) error {
	fi, err := f.Stat()
	if err != nil {
		return err
	}
	mode := like.Mode().Perm() &^ 0o022
	if uid, gid := ownerOf(like), groupOf(like); uid != ownerOf(fi) || gid != groupOf(fi) {
		if err := f.Chown(uid, gid); err != nil && uid != os.Geteuid() {
			return fmt.Errorf("leave it to its owner, uid %d: %w", uid, err)
		} else if err != nil {
			mode &^= 0o070 // the permissions were for a group that we may not give it to
		}
	}
	return f.Chmod(mode)
}

func groupOf(fi fs.FileInfo) int { return int(fi.Sys().(*syscall.Stat_t).Gid) }

// sweepTemps removes what writers of the file name left behind when they were
// killed. A young one may belong to ReplaceFile, which takes no lock.
func (d *folder) sweepTemps(name string) {
	names, _ := d.names()
	for _, temp := range names {
		id, ok := strings.CutPrefix(temp, "."+name+".")
		id = strings.TrimPrefix(id, "bak.")
		if !ok || len(id) != len("0123456789abcdef.tmp") || !strings.HasSuffix(id, ".tmp") {
			continue
		}
		if fi, err := d.root.Lstat(temp); err == nil && fi.Mode().IsRegular() && time.Since(fi.ModTime()) > time.Hour {
			d.root.Remove(temp)
		}
	}
}

// lockForUpdate locks the directory itself, so that no lock file is left in it.
func (d *folder) lockForUpdate() error {
	for begun := time.Now(); ; time.Sleep(5 * time.Millisecond) {
		switch err := flock(d.dir, syscall.LOCK_EX|syscall.LOCK_NB); {
		case err == nil:
			return nil
		case errors.Is(err, syscall.EBADF), errors.Is(err, syscall.ENOTSUP), errors.Is(err, syscall.ENOLCK), errors.Is(err, syscall.EINVAL):
			return nil // NFS and its like cannot lock a directory: what is left is to look again before the rename
		case !errors.Is(err, syscall.EWOULDBLOCK):
			return fmt.Errorf("lock %s: %w", d.path, err)
		case time.Since(begun) >= updatePatience:
			return fmt.Errorf("%s is locked by %s: perhaps another openclaw is writing there; try again", d.path, d.locker())
		}
	}
}

// locker names the process that holds the lock on the directory, where the
// kernel tells (proc_locks(5)).
func (d *folder) locker() string {
	fi, err := d.dir.Stat()
	raw, _ := os.ReadFile("/proc/locks")
	for line := range strings.Lines(string(raw)) {
		// 1: FLOCK ADVISORY WRITE PID MAJOR:MINOR:INODE 0 EOF
		if f := strings.Fields(line); err == nil && len(f) > 5 && f[1] == "FLOCK" && strings.HasSuffix(f[5], fmt.Sprint(":", fi.Sys().(*syscall.Stat_t).Ino)) {
			return "pid " + f[4]
		}
	}
	return "another process"
}
