package store

import (
	"cmp"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// BackupOptions says what goes into a backup besides the state.
type BackupOptions struct {
	Version, Profile string
	ConfigPath       string
	Config           []byte            // the configuration's text; nil if there is none
	Log              string            // path of the log file, "" for the default
	Workspaces       map[string]string // paths by agent ID
	Outside          bool              // also workspaces that lie outside the state directory
	NotIncluded      []BackupNote
	Now              time.Time
}

// Backup writes a backup into a new file, by default below STATE/backups, and
// returns its path and size. It works beside a running gateway, on a Dir from
// OpenRead: backups/ and backup.json are its own, and alone are written without
// the lock.
func (d *Dir) Backup(ctx context.Context, file string, o BackupOptions) (_ string, size int64, m *Manifest, err error) {
	var out *folder
	if file == "" {
		file = filepath.Join(d.path, backupsDir, "openclaw-backup-"+cmp.Or(o.Profile, "default")+"-"+o.Now.UTC().Format(backupTime)+".tar.gz")
		if out, err = d.top.sub(backupsDir, true); err == nil {
			out.sweep()
		}
	} else {
		out, err = openFolderAt(filepath.Dir(file))
	}
	if err != nil {
		return "", 0, nil, err
	}
	defer out.close()
	name, temp := filepath.Base(file), tempName("openclaw-backup")
	if _, err := out.root.Lstat(name); err == nil {
		return "", 0, nil, fmt.Errorf("%s: %w", file, fs.ErrExist)
	}
	f, _, err := out.open(temp, os.O_WRONLY|os.O_EXCL)
	if err == nil {
		m, err = d.writeBackup(ctx, f, o)
		if err == nil {
			err = f.Sync()
		}
		if err == nil {
			size, err = f.Seek(0, io.SeekCurrent)
		}
		f.Close() // it is synced
		if err == nil {
			err = out.publish(temp, name)
		}
	}
	if err != nil {
		out.root.Remove(temp)
		return "", 0, nil, fmt.Errorf("back up to %s: %w", file, noSpace(err))
	}
	record, err := encode(map[string]any{"file": file, "at": o.Now.UnixMilli(), "bytes": size, "files": m.Count})
	if err == nil {
		err = d.top.replace(backupRecord, append(record, '\n'))
	}
	if err != nil {
		return "", 0, nil, fmt.Errorf("the backup %s is complete, but not recorded: %w", file, err)
	}
	return file, size, m, nil
}

// publish gives a file its name, unless that is taken. The old name is gone either way.
func (d *folder) publish(temp, name string) error {
	defer d.root.Remove(temp)
	err := d.root.Link(temp, name)
	if errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.ENOTSUP) { // no second names on this file system
		if _, err = d.root.Lstat(name); err == nil {
			return fs.ErrExist
		}
		err = d.root.Rename(temp, name)
	}
	if err != nil {
		return err
	}
	return d.sync()
}

func (d *Dir) writeBackup(ctx context.Context, f io.Writer, o BackupOptions) (*Manifest, error) {
	zip, err := gzip.NewWriterLevel(f, gzip.BestSpeed)
	if err != nil {
		return nil, err
	}
	w, err := newBackupWriter(ctx, zip, d, o)
	if err == nil {
		err = w.everything(d, o)
	}
	if err == nil {
		err = w.finish()
	}
	if err == nil {
		err = zip.Close()
	}
	if err != nil {
		return nil, err
	}
	return w.m, nil
}
