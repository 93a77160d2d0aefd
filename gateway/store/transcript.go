package store

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"
)

// Types of a Record that this program writes. Others are read and kept.
const (
	TypeMessage       = "message"
	TypeModelChange   = "model_change"
	TypeThinkingLevel = "thinking_level_change"
	TypeCompaction    = "compaction"
	TypeCustom        = "custom"

	typeSession       = "session"
	transcriptVersion = 3
	transcriptSuffix  = ".jsonl"

	// maxLoad bounds what Load reads: more than the largest message that the
	// gateway admits unless told otherwise (25 MiB), and far more than any
	// model's context. Its records take a few times as much memory.
	maxLoad = 32 << 20
	// maxTail bounds the search for the last record of a file.
	maxTail    = 1 << 29
	timeFormat = "2006-01-02T15:04:05.000Z07:00" // as JavaScript's toISOString
)

// Record is one line of a transcript after the header. Each names the record
// it follows; several with the same parent are branches, and the conversation
// is the path to the last record of the file.
type Record struct {
	ID       string    `json:"-"` // 8 hex digits
	ParentID string    `json:"-"` // empty at the root
	Time     time.Time `json:"-"`
	Type     string    `json:"-"`

	Message       *Message        `json:"message,omitempty"`       // of message
	Provider      string          `json:"provider,omitempty"`      // of model_change, with ModelID
	ModelID       string          `json:"modelId,omitempty"`       //
	ThinkingLevel string          `json:"thinkingLevel,omitempty"` // of thinking_level_change
	CustomType    string          `json:"customType,omitempty"`    // of custom, with Data
	Data          json.RawMessage `json:"data,omitempty"`
	Summary       string          `json:"summary,omitempty"` // of compaction, with the two that follow
	FirstKept     string          `json:"firstKeptEntryId,omitempty"`
	TokensBefore  int64           `json:"tokensBefore,omitempty"`
}

// Line is a Record to be appended: ParentID is set by Append, ID and Time where
// they are zero.
type Line = Record

// place is the first part of a Record's JSON, known only when it is written;
// the second is its time and the fields with tags. Without a parentId, as in old
// files, a record follows the one before it.
type place struct {
	Type     string          `json:"type"`
	ID       string          `json:"id"`
	ParentID json.RawMessage `json:"parentId,omitempty"`
}

// header is the first line of a transcript. The session's key in it lets the
// index be made again; other programs ignore it.
type header struct {
	Type       string `json:"type"`
	Version    int    `json:"version"`
	ID         string `json:"id"`
	Timestamp  string `json:"timestamp"`
	CWD        string `json:"cwd"`
	SessionKey string `json:"sessionKey,omitempty"`
}

// Damage lists lines of a transcript that could not be read and were left out.
type Damage struct {
	Path  string
	Count int
	Lines []int // their numbers from 1, the first hundred
	Older int64 // bytes at the start that were not read, the file being too large
}

func (d *Damage) Error() string {
	if d.Older > 0 {
		return fmt.Sprintf("%s: the conversation begins after %d bytes of older lines, too many to load; %d unreadable lines left out behind them", d.Path, d.Older, d.Count)
	}
	return fmt.Sprintf("%s: %d unreadable lines left out: %v", d.Path, d.Count, d.Lines)
}

// Transcript is the open transcript of one session. All who open it share it
// and may call it from any goroutine; each calls Close once. The file comes
// into being with the first Append.
type Transcript struct {
	s    *Sessions
	id   string
	cwd  string
	refs int // guarded by s.openMu

	mu     sync.Mutex // held across the write and its sync: lines have one order
	file   *appender  // nil while there is no file
	leaf   leaf
	bare   bool // the last line lacks its newline
	closed bool
}

// leaf is the last record of a file, which the next one follows.
type leaf struct {
	id     string // empty in old files
	exists bool
}

func (t *Transcript) name() string { return t.id + transcriptSuffix }

// Path returns where the transcript is or will be.
func (t *Transcript) Path() string { return filepath.Join(t.s.dir.path, t.name()) }

// Append stores lines in order, all or none, and returns when they are durable.
// On an error, errors.Is(err, ErrNoSpace) among them, nothing was stored.
func (t *Transcript) Append(lines ...Line) error {
	if len(lines) == 0 {
		return nil
	}
	now := time.Now()
	bodies := make([][]byte, len(lines)) // made before the lock is taken
	ids := make([]string, len(lines))
	for i := range lines {
		l := &lines[i]
		if l.Type == "" || l.Type == typeSession || l.Type == TypeMessage && l.Message == nil {
			return fmt.Errorf("transcript %s: line of type %q cannot be read again", t.id, l.Type)
		}
		when := l.Time
		if when.IsZero() {
			when = now
		}
		if ids[i] = l.ID; ids[i] == "" {
			ids[i] = NewRecordID()
		}
		body := struct {
			Timestamp string `json:"timestamp"`
			Message   any    `json:"message,omitempty"` // in Line's stead
			*Line
		}{Timestamp: when.UTC().Format(timeFormat), Line: l}
		if l.Message != nil {
			body.Message = l.Message.shape()
		}
		raw, err := encode(&body)
		if err != nil {
			return fmt.Errorf("transcript %s: %w", t.id, err)
		}
		bodies[i] = raw
	}

	t.mu.Lock()
	defer t.mu.Unlock()
	if err := t.append(lines, ids, bodies, now); err != nil {
		return fmt.Errorf("append to transcript %s: %w", t.id, err)
	}
	return nil
}

// append needs t.mu.
func (t *Transcript) append(lines []Line, ids []string, bodies [][]byte, now time.Time) error {
	if err := t.open(); err != nil {
		return err
	}
	var b bytes.Buffer
	first := t.file == nil || t.file.size == 0
	if first {
		key, _ := t.s.KeyOf(t.id)
		head, err := encode(header{typeSession, transcriptVersion, t.id, now.UTC().Format(timeFormat), t.cwd, key})
		if err != nil {
			return err
		}
		b.Write(head)
		b.WriteByte('\n')
	} else if t.bare {
		b.WriteByte('\n')
	}
	last := t.leaf
	for i := range lines {
		place, err := encode(place{lines[i].Type, ids[i], last.parent()})
		if err != nil {
			return err
		}
		b.Write(place[:len(place)-1])
		b.WriteByte(',')
		b.Write(bodies[i][1:])
		b.WriteByte('\n')
		last = leaf{ids[i], true}
	}
	if t.file == nil {
		f, _, err := t.s.dir.open(t.name(), os.O_RDWR|os.O_APPEND|os.O_CREATE)
		if err != nil {
			return err
		}
		t.file = &appender{f: f, write: t.s.dir.write, sync: syncData}
	}
	if err := t.file.append(b.Bytes()); err != nil {
		return err
	}
	if first { // the file's name is durable only now
		if err := t.s.dir.sync(); err != nil {
			t.file.size = 0
			return errors.Join(noSpace(err), t.file.cut())
		}
	}
	t.leaf, t.bare = last, false
	return nil
}

// open makes t.file the file that now has the transcript's name, repaired, if
// there is one. Somebody may have removed, replaced or edited it since: what is
// acknowledged must not go into a file without a name. It needs t.mu.
func (t *Transcript) open() error {
	if t.closed {
		return errClosed
	}
	if t.file != nil {
		fi, err := t.file.f.Stat()
		if err == nil && links(fi) == 1 && (fi.Size() == t.file.size || t.file.torn) {
			return nil
		}
		if err := t.release(); err != nil {
			return err
		}
	}
	f, _, err := t.s.dir.open(t.name(), os.O_RDWR|os.O_APPEND)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	t.file = &appender{f: f, write: t.s.dir.write, sync: syncData}
	if err := t.repair(); err != nil {
		return errors.Join(fmt.Errorf("repair: %w", err), t.release())
	}
	return nil
}

// release closes the file. It needs t.mu.
func (t *Transcript) release() error {
	if t.file == nil {
		return nil
	}
	err := t.file.f.Close()
	t.file, t.leaf, t.bare = nil, leaf{}, false
	return err
}

// repair finds the last record and cuts a torn last line. A whole last line
// that only lacks its newline, as an editor may leave it, stays. It reads
// from the end, as little as it can: a long transcript opens as fast as a short one.
func (t *Transcript) repair() error {
	f := t.file.f
	fi, err := f.Stat()
	if err != nil {
		return err
	}
	size := fi.Size()
	for window := int64(64 << 10); ; window *= 8 {
		start := max(size-window, 0)
		if window > maxTail { // not even our own message of 256 MiB, torn
			return fmt.Errorf("no whole line in the last %d bytes", maxTail)
		}
		tail := make([]byte, size-start)
		if _, err := f.ReadAt(tail, start); err != nil && err != io.EOF {
			return err
		}
		whole := bytes.LastIndexByte(tail, '\n') + 1
		rest := tail[whole:]
		if whole == 0 && start > 0 {
			continue
		}
		bare := isRecord(rest)
		if bare {
			whole = len(tail)
		}
		last := lastRecord(tail[:whole], start == 0)
		if !last.exists && start > 0 {
			continue
		}
		t.leaf, t.bare = last, bare
		t.file.size = start + int64(whole)
		if whole < len(tail) {
			t.file.cut() // or, if that cannot be now, before the next line
		}
		return nil
	}
}

// isRecord reports whether a line without its newline is whole.
func isRecord(rest []byte) bool { return json.Valid(rest) && bytes.TrimSpace(rest)[0] == '{' }

// lastRecord finds the last readable record in b, which starts at the start of
// a line if atLine.
func lastRecord(b []byte, atLine bool) leaf {
	for len(b) > 0 {
		b = bytes.TrimSuffix(b, []byte("\n"))
		i := bytes.LastIndexByte(b, '\n')
		if i < 0 && !atLine {
			break
		}
		if r, _, ok := parseRecord(b[i+1:]); ok && r.Type != typeSession {
			return leaf{r.ID, true}
		}
		b = b[:i+1]
	}
	return leaf{}
}

// parent is what a record behind this one writes for it.
func (l leaf) parent() json.RawMessage {
	if !l.exists {
		return json.RawMessage("null")
	} else if l.id == "" {
		return nil
	}
	id, _ := encode(l.id) // a string always encodes
	return id
}

// Load returns the conversation from its root to its last record, of all types.
// Lines that cannot be read are left out and told in the Damage, nil if there are none.
// Of a file over 32 MiB only the lines in its last 32 MiB are read; the file
// itself keeps everything. A branch that leads to older lines is followed from
// the oldest line read.
func (t *Transcript) Load() ([]Record, *Damage, error) {
	t.mu.Lock()
	err := t.open()
	var lines io.Reader = bytes.NewReader(nil)
	older := int64(0)
	if err == nil && t.file != nil {
		older = max(0, t.file.size-maxLoad)
		lines = io.NewSectionReader(t.file.f, older, t.file.size-older)
	}
	t.mu.Unlock() // an Append meanwhile changes nothing before that size
	var records []Record
	var damage *Damage
	if err == nil {
		records, damage, err = readRecords(lines, older > 0)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("load transcript %s: %w", t.id, err)
	}
	if damage == nil && older > 0 {
		damage = &Damage{}
	}
	if damage != nil {
		damage.Path, damage.Older = t.Path(), older
	}
	return records, damage, nil
}

// Close gives the transcript back. The file closes with the last user.
func (t *Transcript) Close() error {
	if !t.s.forget(t) {
		return nil
	}
	return t.shut()
}

func (t *Transcript) shut() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closed = true
	return t.release()
}

// readRecords reads the lines of a transcript and follows the last branch.
// With cut the first line is but the end of one.
func readRecords(r io.Reader, cut bool) ([]Record, *Damage, error) {
	type node struct {
		Record
		parent int // index of the record before, -1 at the root
	}
	var nodes []node
	var damage *Damage
	at := map[string]int{} // the latest record of each ID
	lines := bufio.NewReaderSize(r, 64<<10)
	for number := 1; ; number++ {
		line, err := lines.ReadBytes('\n')
		if err != nil && err != io.EOF {
			return nil, nil, err
		}
		if line = bytes.TrimSpace(line); len(line) > 0 && (number > 1 || !cut) {
			rec, parent, ok := parseRecord(line)
			switch {
			case !ok:
				if damage == nil {
					damage = &Damage{}
				}
				if damage.Count++; damage.Count <= 100 {
					damage.Lines = append(damage.Lines, number)
				}
			case rec.Type != typeSession:
				// A parent that is missing stood on a damaged line: go on
				// with what stands before it rather than lose all that does.
				// Old files name no parents at all.
				n := node{rec, len(nodes) - 1}
				if parent == parentNone {
					n.parent = -1
				} else if i, ok := at[rec.ParentID]; ok && parent == parentNamed {
					n.parent = i
				}
				if rec.ID != "" {
					at[rec.ID] = len(nodes)
				}
				nodes = append(nodes, n)
			}
		}
		if err == io.EOF {
			break
		}
	}
	var path []Record
	for i := len(nodes) - 1; i >= 0; i = nodes[i].parent { // a parent's index is always smaller
		path = append(path, nodes[i].Record)
	}
	slices.Reverse(path)
	return path, damage, nil
}

type parentKind int

const (
	parentAbsent parentKind = iota
	parentNone              // null
	parentNamed
)

// parseRecord reads one line. Timestamps that are not understood are zero.
func parseRecord(line []byte) (Record, parentKind, bool) {
	var in struct {
		Type      string          `json:"type"`
		ID        string          `json:"id"`
		ParentID  json.RawMessage `json:"parentId"`
		Timestamp json.RawMessage `json:"timestamp"`
		Record
	}
	if json.Unmarshal(line, &in) != nil || in.Type == "" || in.Type == TypeMessage && in.Message == nil {
		return Record{}, 0, false
	}
	r := in.Record
	r.ID, r.Type = in.ID, in.Type
	var when string
	if json.Unmarshal(in.Timestamp, &when) == nil {
		r.Time, _ = time.Parse(time.RFC3339, when)
	}
	parent := parentAbsent
	if string(in.ParentID) == "null" {
		parent = parentNone
	} else if json.Unmarshal(in.ParentID, &r.ParentID) == nil && r.ParentID != "" {
		parent = parentNamed
	}
	return r, parent, true
}

// NewRecordID returns a random ID for a Line.
func NewRecordID() string { return randomHex(4) }
