package store

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"syscall"
)

// Bounds of LogFile.Tail and LogFile.Follow.
const (
	TailLines    = 500
	TailBytes    = 250_000
	MaxTailLines = 5_000
	MaxTailBytes = 1_000_000
)

const (
	noLog     = "none"  // the file id of a log without a line: go on with the first that comes
	idBytes   = 4 << 10 // of the first line that make an id
	chainMost = 64      // files that are open at once, four times as many for a long way back
	lastBlock = 1 << 20 // read at once on the way back
	scanTries = 64      // until the files keep still
)

// errMoving is a log that is rotated faster than its files can be opened.
var errMoving = errors.New("the files are renamed too fast")

// Tail is a piece of the log, in the form of logs.tail.
type Tail struct {
	File      string   `json:"file"`
	Cursor    int64    `json:"cursor"`           // where to go on
	FileID    string   `json:"fileId,omitempty"` // in which file, whatever its name is by then
	Size      int64    `json:"size"`             // of that file
	More      bool     `json:"more,omitempty"`   // there are whole lines behind the cursor already
	Lines     []string `json:"lines"`
	Truncated bool     `json:"truncated,omitempty"` // older lines were left out
	Reset     bool     `json:"reset,omitempty"`     // the lines do not follow on the cursor that was given
}

func tailBounds(limit int, maxBytes int64) (int, int64) {
	if limit <= 0 {
		limit = TailLines
	}
	if maxBytes <= 0 {
		maxBytes = TailBytes
	}
	return min(limit, MaxTailLines), min(maxBytes, MaxTailBytes)
}

// Follow returns what comes after a page's cursor in the file with its id, the
// oldest first, and on through newer files: at most limit lines and maxBytes,
// though always one line. 0 means the default of either. Called again and again
// it gives each line once and in order, whoever rotates meanwhile. Only if the
// file was pruned lines are missing: the page says Reset and Truncated, and
// begins with the oldest file that is left.
func (l *LogFile) Follow(id string, cursor int64, limit int, maxBytes int64) (Tail, error) {
	limit, maxBytes = tailBounds(limit, maxBytes)
	t := Tail{File: l.Path(), FileID: id, Cursor: cursor, Lines: []string{}}
	c, err := l.chain(id, cursor, maxBytes)
	if err != nil {
		return t, fmt.Errorf("read log: %w", err)
	}
	defer c.close()
	if !c.found {
		t.Reset = id != noLog && len(c.parts) > 0
		t.Truncated = t.Reset
		cursor = 0
	}
	for i, p := range slices.Backward(c.parts) {
		t.FileID, t.Cursor = p.id, cursor
		if t.More, err = t.fill(p.f, limit, &maxBytes); err != nil {
			return t, fmt.Errorf("read log: %w", err)
		}
		if t.More {
			break
		}
		t.More, cursor = i == 0 && c.newer, 0
	}
	return t, nil
}

// fill adds the lines from t.Cursor on, and reports whether there are more of
// them in f than limit and room allow.
func (t *Tail) fill(f *os.File, limit int, room *int64) (more bool, err error) {
	fi, err := f.Stat() // after a newer file was seen to have lines: this one grows no more
	if err != nil {
		return false, err
	}
	t.Size = fi.Size()
	for t.Cursor < t.Size {
		end := min(t.Size, t.Cursor+max(*room, maxLogLine))
		data, first, err := readLines(f, t.Cursor, end)
		switch {
		case err != nil:
			return false, err
		case len(data) == 0 && end == t.Size:
			return false, nil // a line that is being written
		case len(data) == 0: // somebody else's, too long to be read
			t.Cursor, t.Truncated = end, true
		}
		for line := range bytes.Lines(data) {
			if len(t.Lines) == limit || len(t.Lines) > 0 && int64(len(line)) > *room {
				return true, nil
			}
			t.Lines = append(t.Lines, string(line[:len(line)-1]))
			first += int64(len(line))
			t.Cursor = first
			*room -= int64(len(line))
		}
	}
	return false, nil
}

// Last returns the newest n lines that match takes, out of the last maxBytes of
// the log, rotated files included. It asks from the newest on, until match says
// that there is no need to look further. The cursor is behind the newest line.
func (l *LogFile) Last(n int, maxBytes int64, match func(line string) (take, stop bool)) (Tail, error) {
	t := Tail{File: l.Path(), FileID: noLog, Lines: []string{}}
	c, err := l.chain("", 0, maxBytes)
	if err != nil {
		return t, fmt.Errorf("read log: %w", err)
	}
	defer c.close()
	t.Truncated = c.older
	stop := false
	for i, p := range c.parts {
		end := p.size
		if i == 0 {
			if end, err = wholeLines(p.f); err != nil {
				return t, fmt.Errorf("read log: %w", err)
			}
			t.FileID, t.Cursor, t.Size = p.id, end, p.size
		}
		t.Truncated = t.Truncated || p.size > maxBytes
		for end > 0 && maxBytes > 0 && len(t.Lines) < n && !stop {
			start := max(0, end-min(maxBytes, lastBlock))
			data, first, err := readLines(p.f, start, end)
			if err != nil {
				return t, fmt.Errorf("read log: %w", err)
			}
			for _, line := range slices.Backward(splitLines(data)) {
				var take bool
				if take, stop = match(line); take {
					t.Lines = append(t.Lines, line)
				}
				if stop || len(t.Lines) == n {
					break
				}
			}
			if len(data) == 0 {
				first = start
			}
			maxBytes -= end - first
			end = first
		}
		maxBytes -= end
	}
	slices.Reverse(t.Lines)
	return t, nil
}

// Tail returns what follows the byte cursor, or without one (negative) the end of
// the log: at most limit lines, the last, out of at most maxBytes; 0 means the
// default of either. It is for clients that know no file ids: after a rotation
// the rest of the rotated file comes first, as far as the sizes tell that there
// was one. A log that is missing is empty.
func (l *LogFile) Tail(cursor int64, limit int, maxBytes int64) (Tail, error) {
	limit, maxBytes = tailBounds(limit, maxBytes)
	if cursor < 0 {
		return l.Last(limit, maxBytes, func(string) (bool, bool) { return true, false })
	}
	t := Tail{File: l.Path(), Lines: []string{}}
	f, fi, err := l.openNumber(0)
	if err != nil {
		return t, fmt.Errorf("read log: %w", err)
	}
	if f == nil {
		return t, nil
	}
	defer f.Close()
	size := fi.Size()
	start := cursor
	var before []byte // what was not seen of the file that was rotated away
	if cursor > size || size-cursor > maxBytes {
		t.Reset = true
		before = l.rest(cursor, maxBytes-min(size, maxBytes))
		start = max(0, size-maxBytes)
		t.Truncated = start > 0
	}
	data, first, err := readLines(f, start, size)
	if err != nil {
		return t, fmt.Errorf("read log: %w", err)
	}
	if t.FileID, err = fileID(f); err != nil {
		return t, fmt.Errorf("read log: %w", err)
	}
	t.Size, t.Cursor = size, first+int64(len(data))
	t.Lines = append(splitLines(before), splitLines(data)...)
	t.Lines = t.Lines[max(0, len(t.Lines)-limit):]
	return t, nil
}

// rest returns what the newest rotated file has behind cursor, nothing if it
// cannot be the file that the cursor was for or if that is more than room.
func (l *LogFile) rest(cursor, room int64) []byte {
	f, fi, err := l.openNumber(1)
	if f == nil || err != nil {
		return nil
	}
	defer f.Close()
	if fi.Size() < cursor || fi.Size()-cursor > room {
		return nil
	}
	data, _, _ := readLines(f, cursor, fi.Size())
	return data
}

// A part is one open file of the log that has a whole line at least.
type part struct {
	f    *os.File
	id   string
	size int64
}

// A chain is a run of the log's files, the newest first.
type chain struct {
	parts []part
	found bool // the last part is the file that was looked for
	newer bool // there are newer files than these
	older bool // and older ones
}

func (c *chain) close() {
	for _, p := range c.parts {
		p.f.Close()
	}
}

// chain opens the file with an id, at least as long as cursor, and the newer ones
// that follow it, as many as room bytes are in; the oldest file in its stead if
// there is none. Without an id it opens the newest files, as many as hold room.
func (l *LogFile) chain(id string, cursor, room int64) (*chain, error) {
	for range scanTries {
		c, stable, err := l.scan(id, cursor, room)
		if stable && err == nil {
			return c, nil
		}
		c.close()
		if err != nil {
			return nil, err
		}
	}
	return nil, errMoving
}

// scan opens files from the newest on, and reports whether no rotation was
// completed meanwhile. Files only ever move one number up in each, and so does
// the scan: it can meet a file twice in a row, but miss none and turn none round.
func (l *LogFile) scan(id string, cursor, room int64) (c *chain, stable bool, err error) {
	c = &chain{}
	var current, first, previous fs.FileInfo
	firstNumber := 0
	total := int64(0) // bytes in the parts
	last, most := 0, chainMost
	if room > MaxTailBytes {
		most *= 4
	}
	for i := 0; i <= last+1; i++ {
		if i == 1 {
			numbers, err := l.numbers()
			if err != nil {
				return c, false, err
			}
			if len(numbers) > 0 {
				last = numbers[len(numbers)-1]
			}
		}
		f, fi, err := l.openNumber(i)
		if err != nil {
			return c, false, err
		}
		if f == nil {
			continue
		}
		if i == 0 {
			current = fi
		}
		if first == nil {
			first, firstNumber = fi, i
		}
		p := part{f: f, size: fi.Size()}
		if previous == nil || !os.SameFile(previous, fi) {
			p.id, err = fileID(f)
		}
		previous = fi
		if p.id == "" { // empty, or the same once more
			f.Close()
			if err != nil {
				return c, false, err
			}
			continue
		}
		c.parts = append(c.parts, p)
		total += p.size
		if id == "" && (total > room || len(c.parts) == most) {
			c.older = i < last
			break
		}
		if c.found = p.id == id && p.size >= cursor; c.found {
			if i == 0 {
				return c, true, nil
			}
			break
		}
		// The ones kept follow on whatever older file it is, with room bytes.
		for id != "" && len(c.parts) > 1 && (total-c.parts[0].size >= room || len(c.parts) == most) {
			total -= c.parts[0].size
			c.parts[0].f.Close()
			c.parts, c.newer = c.parts[1:], true
		}
	}
	return c, l.still(0, current) && l.still(firstNumber, first), nil
}

// still reports whether the number belongs to the same file as before, or to none.
func (l *LogFile) still(number int, was fs.FileInfo) bool {
	fi, err := l.in.root.Lstat(l.rotated(number))
	return was == nil && err != nil || was != nil && err == nil && os.SameFile(was, fi)
}

// openNumber opens a file of the log for reading; nil if there is none, or none of ours.
func (l *LogFile) openNumber(i int) (f *os.File, fi fs.FileInfo, err error) {
	for range 8 { // a rename between two looks at the same name is refused like a link
		if f, _, err = l.in.open(l.rotated(i), os.O_RDONLY); err == nil || errors.Is(err, fs.ErrNotExist) {
			break
		}
	}
	scarce := errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) || errors.Is(err, fs.ErrClosed)
	if errors.Is(err, fs.ErrNotExist) || err != nil && i > 0 && !scarce {
		return nil, nil, nil
	}
	if err == nil {
		fi, err = f.Stat()
	}
	return f, fi, err
}

// fileID names a log file by its first line, which carries the nanosecond it was
// written in: the id survives renaming, copying and restarts. It is empty as
// long as there is no whole line, since a torn one is cut away.
func fileID(f *os.File) (string, error) {
	for _, size := range []int{idBytes, maxLogLine} {
		buf := make([]byte, size)
		n, err := f.ReadAt(buf, 0)
		if err != nil && err != io.EOF {
			return "", err
		}
		line, _, whole := bytes.Cut(buf[:n], []byte("\n"))
		if whole || n == maxLogLine {
			sum := sha256.Sum256(line[:min(len(line), idBytes)])
			return hex.EncodeToString(sum[:16]), nil
		}
		if n < size {
			break
		}
	}
	return "", nil
}

// readLines reads the whole lines between two offsets, and returns where the
// first begins. Pieces of lines at the start and at the end are left out.
func readLines(f *os.File, start, end int64) (data []byte, first int64, err error) {
	first = max(start-1, 0) // the byte before tells whether a line starts here
	data = make([]byte, max(end-first, 0))
	n, err := f.ReadAt(data, first)
	if err != nil && err != io.EOF {
		return nil, start, err
	}
	data = data[:n]
	if start > 0 {
		piece := bytes.IndexByte(data, '\n') + 1
		if piece == 0 {
			return nil, start, nil
		}
		data, first = data[piece:], first+int64(piece)
	}
	return data[:bytes.LastIndexByte(data, '\n')+1], first, nil
}

func splitLines(data []byte) []string {
	lines := []string{}
	for line := range bytes.Lines(data) {
		lines = append(lines, string(bytes.TrimSuffix(line, []byte("\n"))))
	}
	return lines
}
