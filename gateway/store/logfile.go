package store

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
	"unicode/utf8"
)

const logName = "gateway.log"

const (
	maxLogLine  = 64 << 10    // bytes with the newline; the rest of a longer one is cut off
	mostRotated = 1000        // a file with a higher number is not ours
	rotateRetry = time.Second // after a rotation that was refused
)

// LogFile is a log that is rotated by size: NAME, NAME.1 (the newest rotated),
// NAME.2 and so on. Together they never pass maxSize x (maxFiles + 1) bytes.
// Its methods may be called from any goroutine.
type LogFile struct {
	name string
	in   *folder

	mu       sync.Mutex // held across the write of a line: lines have one order
	file     *appender  // nil while it cannot be opened
	maxSize  int64
	maxFiles int
	refused  error // why the last rotation failed
	tried    time.Time
	dropped  int64
	closed   bool
}

// OpenLog opens STATE/logs/gateway.log. It is rotated before it would pass
// maxSize bytes, and maxFiles rotated files are kept. With a maxSize of 0 it is
// never rotated, and rotated files belong to whoever made them. In a directory
// that was opened for reading only reading works.
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

// ReadLogFile is OpenLogFile for reading alone: nothing is ever made or changed.
func ReadLogFile(path string) (*LogFile, error) {
	in, err := openFolderAt(filepath.Dir(path))
	if err != nil {
		return nil, fmt.Errorf("open log: %w", err)
	}
	return newLog(in, filepath.Base(path), 0, 0, true)
}

// CheckLogFile says why a log at path could not be opened or written to, and
// changes nothing.
func CheckLogFile(path string) error {
	l, err := ReadLogFile(path)
	if err != nil {
		return err
	}
	defer l.Close()
	f, _, err := l.in.open(l.name, os.O_RDWR|os.O_APPEND)
	if err == nil {
		return f.Close()
	}
	if errors.Is(err, fs.ErrNotExist) {
		const writeAndSearch = 2 | 1 // access(2)
		err = os.NewSyscallError("access", syscall.Access(l.in.path, writeAndSearch))
	}
	if err != nil {
		return fmt.Errorf("open log: %s: %w", path, err)
	}
	return nil
}

func newLog(in *folder, name string, maxSize int64, maxFiles int, readOnly bool) (*LogFile, error) {
	in.look = in.look || readOnly
	l := &LogFile{name: name, in: in, maxSize: maxSize, maxFiles: maxFiles, closed: readOnly}
	f, _, err := l.openNumber(0)
	if err != nil {
		in.close()
		return nil, fmt.Errorf("open log: %w", err)
	}
	if f != nil {
		f.Close()
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

// Limit changes what OpenLog was given. What is too much now goes at once.
func (l *LogFile) Limit(maxSize int64, maxFiles int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.maxSize, l.maxFiles = maxSize, maxFiles
	if l.file != nil && l.full(0) {
		l.rotate()
	}
	if l.file != nil {
		l.prune()
	}
}

// Write appends one line, adding the newline if it is missing. A line that
// cannot be written whole is dropped and counted, the file is left as it was,
// and the next line is tried afresh: a full disk costs log lines, nothing else.
// So does a rotation that is refused: the file does not grow instead.
func (l *LogFile) Write(line []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.write(l.fit(line)); err != nil {
		l.dropped++
		return 0, fmt.Errorf("write log: %w", err)
	}
	return len(line), nil
}

// fit makes a line end with its newline, and short enough for a file and for readers.
func (l *LogFile) fit(line []byte) []byte {
	most := maxLogLine
	if l.maxSize > 0 {
		most = int(min(l.maxSize, maxLogLine))
	}
	if bytes.HasSuffix(line, []byte("\n")) {
		if len(line) <= most {
			return line
		}
		line = line[:len(line)-1]
	}
	n := min(len(line), most-1)
	for n > 0 && n < len(line) && !utf8.RuneStart(line[n]) {
		n--
	}
	return append(bytes.Clone(line[:n]), '\n')
}

func (l *LogFile) write(p []byte) error {
	if l.closed {
		return os.ErrClosed
	}
	if l.file == nil || l.gone() {
		if err := l.reopen(); err != nil {
			return err
		}
	}
	if l.full(len(p)) {
		if time.Since(l.tried) < rotateRetry && l.refused != nil {
			return l.refused
		}
		l.tried = time.Now()
		if l.refused = l.rotate(); l.refused != nil {
			return l.refused
		}
	}
	return l.file.append(p)
}

// full reports whether n bytes more are too many for this file.
func (l *LogFile) full(n int) bool {
	return l.maxSize > 0 && l.file.size > 0 && l.file.size+int64(n) > l.maxSize
}

// gone reports whether the file lost its name, by somebody's rm or mv or by
// another gateway's rotation. Else it notes what somebody else appended.
func (l *LogFile) gone() bool {
	opened, err := l.file.f.Stat()
	if err != nil {
		return true
	}
	if named, err := l.in.root.Lstat(l.name); errors.Is(err, fs.ErrNotExist) || err == nil && !os.SameFile(named, opened) {
		return true
	}
	if !l.file.torn {
		l.file.size = opened.Size()
	}
	return false
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
	fi, err := f.Stat()
	var size int64
	if err == nil {
		size, err = wholeLines(f)
	}
	if err != nil {
		f.Close()
		return fmt.Errorf("open log: %w", err)
	}
	l.file = &appender{f: f, write: l.in.write, size: size}
	if size < fi.Size() { // torn; else what is behind size by now is another writer's
		l.file.cut()
	}
	l.prune()
	return nil
}

// wholeLines returns where the last line of a log ends that has its newline. It
// looks no further back than a line may be long, and then some.
func wholeLines(f *os.File) (int64, error) {
	fi, err := f.Stat()
	if err != nil {
		return 0, err
	}
	buf := make([]byte, min(fi.Size(), 4*maxLogLine))
	start := fi.Size() - int64(len(buf))
	if _, err := f.ReadAt(buf, start); err != nil && err != io.EOF {
		return 0, err
	}
	return start + int64(bytes.LastIndexByte(buf, '\n')+1), nil
}

// rotate makes the file NAME.1 and begins a new one. For that the rotated files
// below the first free number move up one each, over the last if none is free:
// a try that was refused half-way left its hole there, and the next one moves
// nothing twice. All names are in the directory that is open, a rename follows
// no link, and readers find each file at its old or its next number. It needs mu.
func (l *LogFile) rotate() error {
	free := 1
	for ; free < l.maxFiles; free++ {
		fi, err := l.in.root.Lstat(l.rotated(free))
		if errors.Is(err, fs.ErrNotExist) {
			break
		} else if err != nil {
			return fmt.Errorf("rotate log: %w", err)
		} else if fi.IsDir() {
			return fmt.Errorf("rotate log: %s is a directory", filepath.Join(l.in.path, l.rotated(free)))
		}
	}
	for i := free; i > 0; i-- {
		if err := l.in.root.Rename(l.rotated(i-1), l.rotated(i)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("rotate log: %w", noSpace(err))
		}
	}
	return l.reopen()
}

// rotated is the name of the i-th rotated file, of the current one for 0.
func (l *LogFile) rotated(i int) string {
	if i == 0 {
		return l.name
	}
	return l.name + "." + strconv.Itoa(i)
}

// numbers lists which rotated files there are, the newest first.
func (l *LogFile) numbers() ([]int, error) {
	names, err := l.in.names()
	var numbers []int
	for _, name := range names {
		number, _ := strings.CutPrefix(name, l.name+".")
		if i, err := strconv.Atoi(number); err == nil && i > 0 && i <= mostRotated && name == l.rotated(i) {
			numbers = append(numbers, i)
		}
	}
	slices.Sort(numbers)
	return numbers, err
}

// Excess lists the rotated files that these limits leave no room for: those
// beyond maxFiles, and from the first that is beyond their share of the bytes, as
// after the limits were lowered.
func (l *LogFile) Excess(maxSize int64, maxFiles int) []string {
	if maxSize == 0 {
		return nil
	}
	var names []string
	numbers, _ := l.numbers()
	room := maxSize * int64(maxFiles)
	for _, i := range numbers {
		fi, err := l.in.root.Lstat(l.rotated(i))
		if err != nil || fi.IsDir() {
			continue
		}
		if room -= fi.Size(); room < 0 || i > maxFiles {
			room = -1
			names = append(names, l.rotated(i))
		}
	}
	return names
}

// prune removes what is Excess now. It needs mu.
func (l *LogFile) prune() {
	for _, name := range l.Excess(l.maxSize, l.maxFiles) {
		l.in.root.Remove(name)
	}
}

// PruneLogFile removes the Excess of a log that no gateway writes to.
func PruneLogFile(path string, maxSize int64, maxFiles int) error {
	l, err := OpenLogFile(path, maxSize, maxFiles)
	if err != nil {
		return err
	}
	l.prune()
	return l.Close()
}

// Close closes the file. Later lines are dropped.
func (l *LogFile) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	l.in.close()
	return l.release()
}
