package store

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
)

const logName = "gateway.log"

// Bounds of LogFile.Tail.
const (
	TailLines    = 500
	TailBytes    = 250_000
	MaxTailLines = 5_000
	MaxTailBytes = 1_000_000
)

// LogFile is a log that is rotated by size: NAME, NAME.1 (the newest rotated),
// NAME.2 and so on. Its methods may be called from any goroutine.
type LogFile struct {
	name string
	in   *folder

	mu       sync.Mutex // held across the write of a line: lines have one order
	file     *appender  // nil while it cannot be opened
	maxSize  int64
	maxFiles int
	dropped  int64
	closed   bool
}

// OpenLog opens STATE/logs/gateway.log. It is rotated before it would pass
// maxSize bytes, never if that is 0, and maxFiles rotated files are kept. In a
// directory that was opened for reading only Tail works.
func (d *Dir) OpenLog(maxSize int64, maxFiles int) (*LogFile, error) {
	in, err := d.top.sub("logs", d.lock != nil)
	if d.lock == nil && errors.Is(err, fs.ErrNotExist) {
		in, err = openFolderAt(d.path) // no log yet, and none is found there
	}
	if err != nil {
		return nil, fmt.Errorf("open log: %w", err)
	}
	return newLog(in, logName, maxSize, maxFiles, d.lock == nil)
}

// OpenLogFile opens a log elsewhere, under the same rules for the file itself;
// its directory must exist. Nothing is made or changed before the first Write.
func OpenLogFile(path string, maxSize int64, maxFiles int) (*LogFile, error) {
	in, err := openFolderAt(filepath.Dir(path))
	if err != nil {
		return nil, fmt.Errorf("open log: %w", err)
	}
	return newLog(in, filepath.Base(path), maxSize, maxFiles, false)
}

func newLog(in *folder, name string, maxSize int64, maxFiles int, readOnly bool) (*LogFile, error) {
	l := &LogFile{name: name, in: in, maxSize: maxSize, maxFiles: maxFiles, closed: readOnly}
	switch f, _, err := in.open(name, os.O_RDONLY); {
	case err == nil:
		f.Close()
	case !errors.Is(err, fs.ErrNotExist):
		in.close()
		return nil, fmt.Errorf("open log: %w", err)
	}
	return l, nil
}

// Path returns where the log is.
func (l *LogFile) Path() string { return filepath.Join(l.in.path, l.name) }

// Dropped returns how many lines could not be written since the start.
func (l *LogFile) Dropped() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.dropped
}

// Limit changes what OpenLog was given.
func (l *LogFile) Limit(maxSize int64, maxFiles int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.maxSize, l.maxFiles = maxSize, maxFiles
	if l.file != nil {
		l.prune()
	}
}

// Write appends one line, adding the newline if it is missing. A line that
// cannot be written whole is dropped and counted, the file is left as it was,
// and the next line is tried afresh: a full disk costs log lines, nothing else.
func (l *LogFile) Write(line []byte) (int, error) {
	p := line
	if !bytes.HasSuffix(p, []byte("\n")) {
		p = append(bytes.Clone(p), '\n')
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.write(p); err != nil {
		l.dropped++
		return 0, fmt.Errorf("write log: %w", err)
	}
	return len(line), nil
}

func (l *LogFile) write(p []byte) error {
	if l.closed {
		return os.ErrClosed
	}
	if l.file != nil && l.maxSize > 0 && l.file.size > 0 && l.file.size+int64(len(p)) > l.maxSize {
		if err := l.rotate(); err != nil && l.file == nil {
			return err
		}
	}
	if l.file == nil || l.gone() {
		if err := l.reopen(); err != nil {
			return err
		}
	}
	return l.file.append(p)
}

// gone reports whether the file lost its name, as by somebody's rm.
func (l *LogFile) gone() bool {
	fi, err := l.file.f.Stat()
	return err != nil || links(fi) == 0
}

// Reopen lets go of the file, for when it was moved away: the next line goes
// to the one that has the name then.
func (l *LogFile) Reopen() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.release()
}

func (l *LogFile) release() error {
	if l.file == nil {
		return nil
	}
	err := l.file.f.Close()
	l.file = nil
	return err
}

func (l *LogFile) reopen() error {
	l.release()
	f, _, err := l.in.open(l.name, os.O_RDWR|os.O_APPEND|os.O_CREATE)
	if err != nil {
		return fmt.Errorf("open log: %w", err)
	}
	size, err := wholeLines(f)
	if err != nil {
		f.Close()
		return fmt.Errorf("open log: %w", err)
	}
	l.file = &appender{f: f, write: l.in.write, size: size}
	l.file.cut()
	l.prune()
	return nil
}

// wholeLines returns where the last line of a log ends that has its newline.
func wholeLines(f *os.File) (int64, error) {
	fi, err := f.Stat()
	if err != nil {
		return 0, err
	}
	buf := make([]byte, min(fi.Size(), MaxTailBytes))
	start := fi.Size() - int64(len(buf))
	if _, err := f.ReadAt(buf, start); err != nil && err != io.EOF {
		return 0, err
	}
	return start + int64(bytes.LastIndexByte(buf, '\n')+1), nil
}

// rotate renames every file one up, over the oldest. All names are in the
// directory that is open, and a rename follows no link. It needs mu.
func (l *LogFile) rotate() error {
	for i := l.maxFiles; i > 1; i-- {
		if err := l.in.root.Rename(l.rotated(i-1), l.rotated(i)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	if err := l.in.root.Rename(l.name, l.rotated(1)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return l.reopen()
}

func (l *LogFile) rotated(i int) string { return l.name + "." + strconv.Itoa(i) }

// prune removes rotated files that are too many. It needs mu.
func (l *LogFile) prune() {
	names, _ := l.in.names()
	for _, name := range names {
		number, ok := strings.CutPrefix(name, l.name+".")
		if i, err := strconv.Atoi(number); ok && err == nil && i > l.maxFiles && name == l.rotated(i) {
			l.in.root.Remove(name)
		}
	}
}

// Close closes the file. Later lines are dropped.
func (l *LogFile) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	l.in.close()
	return l.release()
}

// Tail is a piece of the log, in the form of logs.tail.
type Tail struct {
	File      string   `json:"file"`
	Cursor    int64    `json:"cursor"` // where to go on
	Size      int64    `json:"size"`
	Lines     []string `json:"lines"`
	Truncated bool     `json:"truncated,omitempty"` // older lines were left out
	Reset     bool     `json:"reset,omitempty"`     // the lines do not follow on the cursor that was given
}

// Tail returns what follows the byte cursor, or without one (negative) the end of
// the log: at most limit lines, the last, out of at most maxBytes; 0 means the
// default of either. After a rotation the rest of the rotated file comes first.
// A log that is missing is empty.
func (l *LogFile) Tail(cursor int64, limit int, maxBytes int64) (Tail, error) {
	if limit <= 0 {
		limit = TailLines
	}
	if maxBytes <= 0 {
		maxBytes = TailBytes
	}
	limit, maxBytes = min(limit, MaxTailLines), min(maxBytes, MaxTailBytes)
	t := Tail{File: l.Path(), Lines: []string{}}
	f, size, err := l.reader(l.name)
	if errors.Is(err, fs.ErrNotExist) {
		return t, nil
	} else if err != nil {
		return t, fmt.Errorf("read log: %w", err)
	}
	defer f.Close()
	t.Size = size
	start := cursor
	var before []byte // what was not seen of the file that was rotated away
	switch {
	case cursor > size:
		t.Reset = true
		before = l.rest(cursor, maxBytes-min(size, maxBytes))
		start = max(0, size-maxBytes)
	case cursor < 0, size-cursor > maxBytes:
		t.Reset = cursor >= 0
		start = max(0, size-maxBytes)
	}
	t.Truncated = start > 0 && (cursor < 0 || t.Reset)
	data, whole, err := readLines(f, start, size)
	if err != nil {
		return t, fmt.Errorf("read log: %w", err)
	}
	t.Cursor = whole
	t.Lines = append(splitLines(before), splitLines(data)...)
	if n := len(t.Lines) - limit; n > 0 {
		t.Lines = t.Lines[n:]
	}
	return t, nil
}

func (l *LogFile) reader(name string) (*os.File, int64, error) {
	f, _, err := l.in.open(name, os.O_RDONLY)
	if err != nil {
		return nil, 0, err
	}
	fi, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, 0, err
	}
	return f, fi.Size(), nil
}

// rest returns what the newest rotated file has behind cursor, nothing if it
// cannot be the file that the cursor was for or if that is more than room.
func (l *LogFile) rest(cursor, room int64) []byte {
	f, size, err := l.reader(l.rotated(1))
	if err != nil {
		return nil
	}
	defer f.Close()
	if size < cursor || size-cursor > room {
		return nil
	}
	data, _, _ := readLines(f, cursor, size)
	return data
}

// readLines reads the whole lines between two offsets, and returns where they
// end. The piece of a line at the start is left out, the one at the end is left
// for later, unless it is all there is and too long to ever be read.
func readLines(f *os.File, start, end int64) (data []byte, whole int64, err error) {
	from := max(start-1, 0) // the byte before tells whether a line starts here
	data = make([]byte, end-from)
	n, err := f.ReadAt(data, from)
	if err != nil && err != io.EOF {
		return nil, start, err
	}
	data = data[:n]
	stop := bytes.LastIndexByte(data, '\n') + 1
	if whole = from + int64(stop); stop == 0 {
		return nil, end, nil
	}
	data = data[:stop]
	if start > 0 {
		data = data[bytes.IndexByte(data, '\n')+1:]
	}
	return data, whole, nil
}

func splitLines(data []byte) []string {
	lines := []string{}
	for line := range bytes.Lines(data) {
		lines = append(lines, string(bytes.TrimSuffix(line, []byte("\n"))))
	}
	return lines
}
