package store

import (
	"archive/tar"
	"bufio"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"path"
	"slices"
	"syscall"
)

// VerifyBackup reads a backup to its end and compares every file with the
// manifest. It writes nothing and remembers no more than the names and hashes.
// The error is a *BackupError where the archive is at fault.
func VerifyBackup(ctx context.Context, file string) (*Manifest, error) {
	f, err := openBackup(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return scanBackup(ctx, f, nil)
}

func openBackup(file string) (*os.File, error) {
	f, err := os.OpenFile(file, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	if fi, err := f.Stat(); err != nil || !fi.Mode().IsRegular() {
		f.Close()
		return nil, fmt.Errorf("%s: not a regular file", file)
	}
	return f, nil
}

// found is a file as it stands in an archive.
type found struct {
	size int64
	mode string
	sum  [sha256.Size]byte
}

// scanBackup reads an archive once. What is at fault with an entry as such ends
// it; what differs from the manifest is collected. into, if set, returns where an
// entry's content goes. It is asked only about entries that admit lets in.
func scanBackup(ctx context.Context, r io.Reader, into func(*tar.Header) (io.WriteCloser, error)) (*Manifest, error) {
	in := bufio.NewReaderSize(contextReader{ctx, r}, 64<<10)
	zip, err := gzip.NewReader(in)
	if err != nil {
		return nil, scanError(ctx, "", "not a gzip file", err)
	}
	zip.Multistream(false)
	archive := tar.NewReader(zip)
	seen := map[string]found{}
	names, last := 0, "" // bytes of all names, and the file before
	buf := make([]byte, 64<<10)
	var m *Manifest
	for {
		h, err := archive.Next()
		if err == io.EOF {
			break
		} else if err != nil {
			what := "damaged at its beginning"
			if last != "" {
				what = "damaged or cut off behind this file"
			}
			return nil, scanError(ctx, last, what, err)
		}
		if err := admit(h); err != nil {
			return nil, err
		}
		_, twice := seen[h.Name]
		if names += len(h.Name); names > maxBackupNames || len(seen) > maxBackupFiles {
			return nil, badBackup(h.Name, "refused: more files than a backup holds")
		}
		switch last = h.Name; {
		case twice:
			return nil, badBackup(h.Name, "refused: its name is there twice")
		case m != nil:
			return nil, badBackup(h.Name, "refused: it stands behind the manifest")
		case h.Name == manifestName:
			if m, err = readManifest(archive); err != nil {
				return nil, scanError(ctx, manifestName, "damaged or cut off", err)
			}
			continue
		}
		var to io.WriteCloser = discard{}
		if into != nil {
			if to, err = into(h); err != nil {
				return nil, err
			}
		}
		sum := sha256.New()
		for err == nil {
			var n int
			n, err = archive.Read(buf)
			sum.Write(buf[:n])
			if _, e := to.Write(buf[:n]); e != nil {
				to.Close()
				return nil, noSpace(e)
			}
		}
		if e := to.Close(); e != nil {
			return nil, noSpace(e)
		}
		if err != io.EOF {
			return nil, scanError(ctx, h.Name, "damaged or cut off in this file", err)
		}
		seen[h.Name] = found{h.Size, fmt.Sprintf("%04o", h.Mode), [sha256.Size]byte(sum.Sum(nil))}
	}
	var problems []BackupNote
	// The checksum of the whole stands behind the last byte of the tar archive.
	if n, err := io.ReadFull(zip, buf[:1]); n > 0 {
		problems = note(problems, "", "the archive goes on behind its end")
	} else if ctx.Err() != nil {
		return nil, ctx.Err()
	} else if err != io.EOF {
		problems = note(problems, "", "damaged or cut off at its end: %v", err)
	} else if _, err := in.ReadByte(); err == nil {
		problems = note(problems, "", "there is more behind the archive")
	} else if err != io.EOF {
		return nil, err
	}
	if m == nil {
		problems = note(problems, "", "cut off: the manifest at the end is missing")
	} else {
		problems = m.compare(seen, problems)
	}
	if len(problems) > 0 {
		return nil, &BackupError{problems}
	}
	return m, nil
}

// discard is where content goes that is only verified.
type discard struct{}

func (discard) Write(p []byte) (int, error) { return len(p), nil }
func (discard) Close() error                { return nil }

func readManifest(r io.Reader) (*Manifest, error) {
	m := &Manifest{}
	if err := json.NewDecoder(r).Decode(m); err != nil {
		return nil, err
	}
	if m.Format != backupFormat {
		return nil, badBackup(manifestName, "format %d; this openclaw reads format %d", m.Format, backupFormat)
	}
	return m, nil
}

// scanError tells damage from a reader that was stopped or failed.
func scanError(ctx context.Context, name, what string, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if _, ok := err.(*BackupError); ok {
		return err
	}
	return badBackup(name, "%s: %v", what, err)
}

// compare names what the manifest and the archive disagree on.
func (m *Manifest) compare(seen map[string]found, problems []BackupNote) []BackupNote {
	for name := range seen {
		for dir := path.Dir(name); dir != "."; dir = path.Dir(dir) {
			if _, ok := seen[dir]; ok {
				problems = note(problems, dir, "refused: a file and a directory")
			}
		}
	}
	for _, want := range m.Files {
		switch got, ok := seen[want.Name]; {
		case !ok:
			problems = note(problems, want.Name, "missing")
		case got.size != want.Size:
			problems = note(problems, want.Name, "has %d bytes, should have %d", got.size, want.Size)
		case hex.EncodeToString(got.sum[:]) != want.SHA256:
			problems = note(problems, want.Name, "its content is not what was backed up")
		case got.mode != want.Mode:
			problems = note(problems, want.Name, "has mode %s, should have %s", got.mode, want.Mode)
		}
		delete(seen, want.Name)
	}
	for _, name := range slices.Sorted(maps.Keys(seen)) {
		problems = note(problems, name, "not in the manifest")
	}
	return problems
}
