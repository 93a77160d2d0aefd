package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

const (
	maxSurvey     = 100_000  // files looked at
	maxTornSearch = 64 << 10 // of a last line
)

// Survey is what somebody who only looks finds in a state directory.
type Survey struct {
	Loose   []string  // ours, with another mode than 0700 or 0600
	Foreign []string  // links, devices, files with a second name or of somebody else
	Torn    []string  // transcripts whose last line was cut off
	Newest  time.Time // the latest time that a file has
	Partial bool      // there was more than could be looked at

	owner int // whose all should be
}

// topFiles and topDirs are what this program makes at the top; what else is
// there, such as workspaces, belongs to its users.
var (
	topFiles = map[string]bool{lockName: true, "gateway.token": true, "dev-port": true, "backup.json": true}
	topDirs  = map[string]bool{"logs": true, "tls": true, "agents": true}
)

// Look surveys the state directory at path, also one that Open refuses, and
// changes nothing. A missing one has nothing to find. With service set, root
// looks at what a service's user has.
func Look(ctx context.Context, state string, service bool) (*Survey, error) {
	s := &Survey{owner: os.Geteuid()}
	if fi, err := os.Stat(state); err == nil && service && s.owner == 0 && rootPut(state) {
		s.owner = ownerOf(fi)
	}
	root, err := os.OpenRoot(state)
	if errors.Is(err, fs.ErrNotExist) {
		return s, nil
	} else if err != nil {
		return nil, err
	}
	defer root.Close()
	n := 0
	err = fs.WalkDir(root.FS(), ".", func(name string, e fs.DirEntry, err error) error {
		if n++; n > maxSurvey || ctx.Err() != nil {
			s.Partial = true
			return fs.SkipAll
		}
		if err != nil { // a directory that even we may not read, or gone meanwhile
			return nil
		}
		dir, base := path.Split(name)
		inAgent := strings.HasPrefix(dir, "agents/") && strings.Count(dir, "/") == 2
		switch {
		case e.IsDir() && (dir == "" && name != "." && !topDirs[base] || inAgent && base != "sessions"):
			return fs.SkipDir
		case !e.IsDir() && dir == "" && !topFiles[base] && !topDirs[base]:
			return nil
		}
		if fi, err := e.Info(); err == nil {
			s.judge(root, name, filepath.Join(state, name), fi)
		}
		return nil
	})
	return s, err
}

func (s *Survey) judge(root *os.Root, name, path string, fi fs.FileInfo) {
	want := fs.FileMode(0o600)
	if fi.IsDir() {
		want = 0o700
	}
	switch {
	case !fi.IsDir() && (!fi.Mode().IsRegular() || links(fi) != 1), ownerOf(fi) != s.owner:
		s.Foreign = append(s.Foreign, path)
		return
	case fi.Mode().Perm() != want:
		s.Loose = append(s.Loose, path)
	}
	if fi.IsDir() {
		return
	}
	if fi.ModTime().After(s.Newest) {
		s.Newest = fi.ModTime()
	}
	if id, ok := strings.CutSuffix(filepath.Base(path), transcriptSuffix); ok && id+transcriptSuffix != journalName && fi.Size() > 0 && torn(root, name, fi.Size()) {
		s.Torn = append(s.Torn, path)
	}
}

// torn reports whether a transcript ends within a line that is none. It reads
// one byte of a file that is well.
func torn(root *os.Root, name string, size int64) bool {
	f, err := root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK|syscall.O_NOFOLLOW, 0)
	if err != nil {
		return false
	}
	defer f.Close()
	tail := make([]byte, 1)
	if _, err := f.ReadAt(tail, size-1); err != nil || tail[0] == '\n' {
		return false
	}
	tail = make([]byte, min(size, maxTornSearch))
	if _, err := f.ReadAt(tail, size-int64(len(tail))); err != nil {
		return false
	}
	whole := bytes.LastIndexByte(tail, '\n') + 1
	if whole == 0 && int64(len(tail)) < size {
		return false // too long to say; the gateway finds out when it opens it
	}
	return !isRecord(tail[whole:])
}

// Tighten gives a file or directory of ours, wherever it is, the mode that a
// secret needs: 0600 or 0700.
func Tighten(path string) error {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	fi, err := f.Stat()
	if err == nil {
		err = (&folder{owner: os.Geteuid()}).checkOwner(fi, path)
	}
	if err != nil {
		return err
	}
	if fi.IsDir() {
		return f.Chmod(0o700)
	} else if !fi.Mode().IsRegular() {
		return fmt.Errorf("refused %s: not a regular file", path)
	}
	return f.Chmod(0o600)
}

// CutTorn cuts the torn last lines of transcripts, as the gateway does when it
// opens them. It fails while a gateway runs.
func CutTorn(state string, transcripts []string) error {
	d, err := Open(state)
	if err != nil {
		return err
	}
	defer d.Close()
	for _, path := range transcripts {
		dir, base := filepath.Split(path)
		s, err := d.Sessions(filepath.Base(filepath.Dir(filepath.Clean(dir))))
		if err != nil {
			return err
		}
		t, err := s.Transcript(Entry{SessionID: strings.TrimSuffix(base, transcriptSuffix)})
		if err != nil {
			return err
		}
		t.Close()
	}
	return nil
}

// Space is what this user may still store on a file system.
type Space struct {
	Bytes int64
	Files int64 // -1 where there is no such bound
}

func spaceOf(st *syscall.Statfs_t) Space { // whose types differ between systems
	s := Space{Bytes: int64(st.Bavail) * int64(st.Bsize), Files: int64(st.Ffree)}
	if st.Files == 0 {
		s.Files = -1
	}
	return s
}

// SpaceAt tells the space at a path, or where it would be made.
func SpaceAt(path string) (Space, error) {
	var st syscall.Statfs_t
	err := syscall.Statfs(path, &st)
	for ; errors.Is(err, fs.ErrNotExist) && path != filepath.Dir(path); err = syscall.Statfs(path, &st) {
		path = filepath.Dir(path)
	}
	if err != nil {
		return Space{}, &fs.PathError{Op: "statfs", Path: path, Err: err}
	}
	return spaceOf(&st), nil
}
