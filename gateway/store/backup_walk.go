package store

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"unicode/utf8"
)

// A workspace is anybody's and may hold disk images: the first three bound what each adds.
const (
	maxWorkspaceFile  int64 = 256 << 20
	maxWorkspaceBytes int64 = 2 << 30
	maxWorkspaceFiles       = 100_000
	maxBackupDepth          = 64
	readAtOnce              = 1 << 20 // files up to this size are read before their header is written
)

// backupWriter reads the state in an order that makes the backup consistent. Of
// each agent the transcripts come first, then those that were renamed or made
// meanwhile, then the index. So everything acknowledged before it began is there,
// each transcript is a prefix of whole lines, and the index is no older than any
// of them. A session that began in between may be one without a message yet.
type backupWriter struct {
	ctx         context.Context
	tar         *tar.Writer
	buf         []byte
	m           *Manifest
	names       int               // bytes of all names
	state       fs.FileInfo       // of the state directory
	inside      map[string]bool   // workspaces in it, by name
	outside     map[string]string // paths of others by agent ID
	config, log string            // names in the state directory that are left out
}

// budget is what a workspace may still add. It is nil elsewhere.
type budget struct{ files, bytes int64 }

func newBackupWriter(ctx context.Context, to io.Writer, d *Dir, o BackupOptions) (*backupWriter, error) {
	w := &backupWriter{ctx: ctx, tar: tar.NewWriter(to), buf: make([]byte, 64<<10), inside: map[string]bool{}, outside: map[string]string{}}
	w.m = &Manifest{Format: backupFormat, Created: o.Now.UTC(), Version: o.Version, Profile: o.Profile, StateDir: d.path,
		Files: []BackupFile{}, LeftOut: []BackupNote{}, NotIncluded: append([]BackupNote{}, o.NotIncluded...)}
	below := func(p string) string {
		if rel, err := filepath.Rel(d.path, p); err == nil && filepath.IsLocal(rel) && rel != "." {
			return inState + filepath.ToSlash(rel)
		}
		return ""
	}
	w.config, w.log = below(o.ConfigPath), below(o.Log)
	for id, p := range o.Workspaces {
		if name := below(p); name != "" {
			w.inside[name] = true
		} else if o.Outside {
			w.outside[id] = p
		} else {
			w.m.NotIncluded = note(w.m.NotIncluded, p, "the workspace of agent %s", id)
		}
	}
	var err error
	w.state, err = d.top.dir.Stat()
	return w, err
}

func (w *backupWriter) everything(d *Dir, o BackupOptions) error {
	if o.Config != nil {
		if err := w.entry(&tar.Header{Name: configEntry, Size: int64(len(o.Config)), Mode: 0o600, ModTime: o.Now}, bytes.NewReader(o.Config)); err != nil {
			return err
		}
	}
	if err := w.walk(d.top, strings.TrimSuffix(inState, "/"), nil); err != nil {
		return err
	}
	for _, id := range slices.Sorted(maps.Keys(w.outside)) {
		top, err := openFolderAt(w.outside[id])
		if err != nil {
			w.m.LeftOut = note(w.m.LeftOut, w.outside[id], "%v", err)
			continue
		}
		err = w.walk(top, inWorkspaces+id, &budget{maxWorkspaceFiles, maxWorkspaceBytes})
		top.close()
		if err != nil {
			return err
		}
	}
	return nil
}

// finish writes the manifest.
func (w *backupWriter) finish() error {
	w.m.Count = len(w.m.Files)
	text, err := json.MarshalIndent(w.m, "", " ")
	if err != nil {
		return err
	}
	if len(text) > maxManifest {
		return errors.New("more files than a backup holds")
	}
	h := tar.Header{Typeflag: tar.TypeReg, Name: manifestName, Size: int64(len(text)), Mode: 0o600, ModTime: w.m.Created, Format: tar.FormatPAX}
	if err := w.tar.WriteHeader(&h); err != nil {
		return err
	}
	if _, err := w.tar.Write(text); err != nil {
		return err
	}
	return w.tar.Close()
}

// walk adds a directory.
func (w *backupWriter) walk(in *folder, name string, left *budget) error {
	if ok, _ := path.Match(inState+"agents/*/sessions", name); ok && left == nil {
		return w.sessions(in, name)
	}
	names, err := in.names()
	if err != nil {
		return err
	}
	slices.Sort(names) // so that nothing but the files decides about the archive
	for _, base := range names {
		if err := w.add(in, base, path.Join(name, base), left); err != nil {
			return err
		}
	}
	return nil
}

// sessions adds an agent's transcripts and their index.
func (w *backupWriter) sessions(in *folder, name string) error {
	done := map[string]bool{snapshotName: true, journalName: true}
	for range 2 {
		names, err := in.names()
		if err != nil {
			return err
		}
		for _, base := range names {
			before := len(w.m.Files) + len(w.m.LeftOut)
			if done[base] {
				continue
			}
			if err := w.add(in, base, path.Join(name, base), nil); err != nil {
				return err
			}
			done[base] = len(w.m.Files)+len(w.m.LeftOut) > before
		}
	}
	return w.index(in, name)
}

// index adds snapshot and journal as they were at one moment. The journal is cut,
// by replacing it, only once a new snapshot has taken its place. So a journal that
// had its name before the snapshot was opened, and still has it afterwards, holds
// all that this snapshot lacks, whatever happens later.
func (w *backupWriter) index(in *folder, name string) error {
	for range 100 {
		before, _ := in.root.Lstat(journalName)
		snapshot, err := w.open(in, snapshotName)
		if err == nil {
			defer snapshot.Close()
		} else if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		journal, err := w.open(in, journalName)
		if err == nil {
			defer journal.Close()
		} else if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if before != nil {
			if now, err := journal.Stat(); err != nil || !os.SameFile(before, now) {
				continue // nil too
			}
		}
		if snapshot != nil {
			if err := w.file(path.Join(name, snapshotName), snapshot, false); err != nil {
				return err
			}
		}
		if journal != nil {
			return w.file(path.Join(name, journalName), journal, true)
		}
		return nil
	}
	return fmt.Errorf("%s: the index is replaced faster than it can be read", in.path)
}

// add adds what has the name base in a directory. What is gone meanwhile is no
// error: it was renamed and is met again, or it is nobody's any more.
func (w *backupWriter) add(in *folder, base, name string, left *budget) error {
	top := name == inState+base
	switch {
	case name == w.config, name == w.log, w.log != "" && strings.HasPrefix(name, w.log+"."), // or a rotated log
		top && ephemeral(base),
		left == nil && strings.HasPrefix(base, ".") && strings.HasSuffix(base, ".tmp"): // about to be renamed
		return nil
	case w.inside[name]:
		left = &budget{maxWorkspaceFiles, maxWorkspaceBytes}
	}
	fi, err := in.root.Lstat(base)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	if why := w.refuses(name, fi, left); why != "" {
		w.m.LeftOut = note(w.m.LeftOut, name, "%s", why)
		return nil
	}
	if fi.IsDir() {
		var root *os.Root
		var sub *folder
		if root, err = in.root.OpenRoot(base); err == nil {
			sub, err = openFolder(root, filepath.Join(in.path, base))
		}
		if err == nil {
			defer sub.close()
			return w.walk(sub, name, left)
		}
	} else {
		var f *os.File
		if f, err = w.open(in, base); err == nil {
			defer f.Close()
			lines, _ := path.Match(inState+"agents/*/sessions/*.jsonl*", name)
			return w.file(name, f, lines)
		}
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case left != nil: // it is its user's affair
		w.m.LeftOut = note(w.m.LeftOut, name, "%v", err)
		return nil
	}
	return fmt.Errorf("%s: %w", name, err)
}

// refuses says why something is left out, "" if it is not.
func (w *backupWriter) refuses(name string, fi fs.FileInfo, left *budget) string {
	switch {
	case !utf8.ValidString(name):
		return "its name is not UTF-8"
	case fi.Mode()&fs.ModeSymlink != 0:
		return "a symbolic link"
	case fi.IsDir() && os.SameFile(fi, w.state):
		return "the state directory itself"
	case fi.IsDir() && strings.Count(name, "/") > maxBackupDepth:
		return "nested too deep"
	case !fi.IsDir() && !fi.Mode().IsRegular():
		return "not a plain file"
	case left == nil:
		return ""
	}
	if left.files--; left.files < 0 {
		return fmt.Sprintf("the workspace has more than %d files", maxWorkspaceFiles)
	}
	if fi.IsDir() {
		return ""
	}
	if fi.Size() > min(left.bytes, maxWorkspaceFile) {
		return fmt.Sprintf("%d bytes: a file of a workspace may have %d, and all of them %d", fi.Size(), maxWorkspaceFile, maxWorkspaceBytes)
	}
	left.bytes -= fi.Size()
	return ""
}

// open opens a plain file for reading and changes nothing about it.
func (w *backupWriter) open(in *folder, base string) (*os.File, error) {
	f, err := in.root.OpenFile(base, os.O_RDONLY|syscall.O_NONBLOCK|syscall.O_NOFOLLOW, 0)
	if err != nil {
		return nil, err
	}
	if fi, err := f.Stat(); err != nil || !fi.Mode().IsRegular() {
		f.Close()
		return nil, errors.New("not a plain file")
	}
	return f, nil
}

// file adds an open file as long as it is now, and with lines only up to its
// last whole one.
func (w *backupWriter) file(name string, f *os.File, lines bool) error {
	fi, err := f.Stat()
	if err != nil {
		return err
	}
	size := fi.Size()
	if lines {
		if size, err = wholeLength(f, size, w.buf); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	h := &tar.Header{Name: name, Size: size, Mode: 0o600 | int64(fi.Mode().Perm()&0o100), ModTime: fi.ModTime()}
	if h.Mode != 0o600 {
		h.Mode = 0o700
	}
	var r io.Reader = io.NewSectionReader(f, 0, size)
	if size <= readAtOnce {
		data, err := io.ReadAll(r)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		r, h.Size = bytes.NewReader(data), int64(len(data))
	}
	return w.entry(h, r)
}

// wholeLength is how much of a file is whole lines. A last line that an editor
// left without its newline counts if it is JSON.
func wholeLength(f *os.File, size int64, buf []byte) (int64, error) {
	end := size
	for end > 0 {
		part := buf[:min(end, int64(len(buf)))]
		if _, err := f.ReadAt(part, end-int64(len(part))); err != nil && err != io.EOF {
			return 0, err
		}
		end -= int64(len(part))
		if i := bytes.LastIndexByte(part, '\n'); i >= 0 {
			end += int64(i) + 1
			break
		}
	}
	if rest := size - end; rest > 0 && rest <= maxLoad {
		line := make([]byte, rest)
		if _, err := f.ReadAt(line, end); err == nil && json.Valid(line) {
			return size, nil
		}
	}
	return end, nil
}

// entry writes one file and notes it for the manifest.
func (w *backupWriter) entry(h *tar.Header, r io.Reader) error {
	if w.names += len(h.Name); len(w.m.Files) >= maxBackupFiles || w.names > maxBackupNames {
		return fmt.Errorf("more files than a backup holds: %d", maxBackupFiles)
	}
	h.Typeflag, h.Format = tar.TypeReg, tar.FormatPAX
	if err := w.tar.WriteHeader(h); err != nil {
		return fmt.Errorf("%s: %w", h.Name, err)
	}
	sum := sha256.New()
	n, err := io.CopyBuffer(io.MultiWriter(w.tar, sum), contextReader{w.ctx, r}, w.buf)
	if err == nil && n < h.Size {
		err = errors.New("it became shorter while it was read: try again")
	}
	if err != nil {
		return fmt.Errorf("%s: %w", h.Name, err)
	}
	w.m.Bytes += n
	w.m.Files = append(w.m.Files, BackupFile{h.Name, n, fmt.Sprintf("%04o", h.Mode), hex.EncodeToString(sum.Sum(nil))})
	return nil
}
