package store

import (
	"bytes"
	"errors"
	"os"
	"sync"
)

const maxJournal = 1 << 40 // of what we wrote ourselves

// Journal is a state file of JSON lines that grows by whole lines, each durable
// when Append returns. It is for one owner, who makes it small again by Rewrite.
type Journal struct {
	dir  *Dir
	name string

	mu     sync.Mutex
	file   *appender // nil where it must be opened again
	closed bool
}

// OpenJournal opens a state file of at most limit bytes, made where it is
// missing, and calls line with each of its lines. A torn last line, which
// nobody was told of, is cut off.
func (d *Dir) OpenJournal(name string, limit int64, line func([]byte)) (*Journal, error) {
	j := &Journal{dir: d, name: name}
	raw, err := j.open(limit, -1)
	if err != nil {
		return nil, err
	}
	for l := range bytes.Lines(raw) {
		line(bytes.TrimRight(l, "\n"))
	}
	return j, nil
}

// open opens the file and returns its whole lines; with a size that is known,
// none.
func (j *Journal) open(limit, size int64) (raw []byte, err error) {
	err = j.dir.in(j.name, true, func(in *folder, base string) error {
		f, created, err := in.open(base, os.O_RDWR|os.O_APPEND|os.O_CREATE)
		if err != nil {
			return err
		}
		a := &appender{f: f, write: in.write, sync: syncData, size: size}
		switch {
		case created:
			a.size, err = 0, in.sync()
		case size < 0:
			raw, err = readAll(f, limit)
			a.size = int64(bytes.LastIndexByte(raw, '\n') + 1)
			if err == nil && a.size < int64(len(raw)) {
				raw, err = raw[:a.size], a.cut()
			}
		}
		if err != nil {
			f.Close()
			return err
		}
		j.file = a
		return nil
	})
	return raw, err
}

// Append stores lines, each with its newline, all or none.
func (j *Journal) Append(lines []byte) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.closed {
		return errClosed
	}
	if j.file == nil {
		if _, err := j.open(maxJournal, -1); err != nil {
			return err
		}
	}
	return j.file.append(lines)
}

// Size is how many bytes the file has.
func (j *Journal) Size() int64 {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.file == nil {
		return 0
	}
	return j.file.size
}

// Rewrite puts lines in place of all that there are: after a crash the file
// holds the old ones or the new ones. So it does after an error, and goes on.
func (j *Journal) Rewrite(lines []byte) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.closed {
		return errClosed
	}
	err := j.dir.WriteFile(j.name, lines)
	if j.file != nil {
		j.file.f.Close() // which may be nobody's file now
		j.file = nil
	}
	size := int64(len(lines))
	if err != nil {
		size = -1 // of which of the two is not known
	}
	_, again := j.open(maxJournal, size)
	return errors.Join(err, again)
}

// Close ends the use of the file.
func (j *Journal) Close() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.closed = true
	if j.file == nil {
		return nil
	}
	f := j.file.f
	j.file = nil
	return f.Close()
}
