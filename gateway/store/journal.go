package store

import (
	"bytes"
	"os"
	"sync"
)

// Journal is a state file of JSON lines that grows by whole lines, each durable
// when Append returns. It is for one owner, who makes it small again by Rewrite.
type Journal struct {
	dir  *Dir
	name string

	mu   sync.Mutex
	file *appender // nil after Close
}

// OpenJournal opens a state file of at most limit bytes, made where it is
// missing, and calls line with each of its lines. A torn last line, which
// nobody was told of, is cut off.
func (d *Dir) OpenJournal(name string, limit int64, line func([]byte)) (*Journal, error) {
	j := &Journal{dir: d, name: name}
	raw, err := j.open(limit)
	if err != nil {
		return nil, err
	}
	for l := range bytes.Lines(raw) {
		line(bytes.TrimRight(l, "\n"))
	}
	return j, nil
}

// open opens the file and returns its whole lines.
func (j *Journal) open(limit int64) (raw []byte, err error) {
	err = j.dir.in(j.name, true, func(in *folder, base string) error {
		f, created, err := in.open(base, os.O_RDWR|os.O_APPEND|os.O_CREATE)
		if err != nil {
			return err
		}
		if created {
			err = in.sync()
		} else {
			raw, err = readAll(f, limit)
		}
		a := &appender{f: f, write: in.write, sync: syncData, size: int64(bytes.LastIndexByte(raw, '\n') + 1)}
		if err == nil && a.size < int64(len(raw)) {
			raw, err = raw[:a.size], a.cut()
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
	if j.file == nil {
		return errClosed
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
// holds the old ones or the new ones.
func (j *Journal) Rewrite(lines []byte) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.file == nil {
		return errClosed
	}
	if err := j.dir.WriteFile(j.name, lines); err != nil {
		return err
	}
	old := j.file
	j.file = nil
	old.f.Close()
	_, err := j.open(1 << 40)
	return err
}

// Close ends the use of the file.
func (j *Journal) Close() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.file == nil {
		return nil
	}
	f := j.file.f
	j.file = nil
	return f.Close()
}
