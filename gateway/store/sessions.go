package store

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	snapshotName = "sessions.json"
	journalName  = "index.jsonl"
	// compactMin is how much journal is never worth a new snapshot.
	compactMin = 1 << 20
)

// Entry is what the index knows of one session.
type Entry struct {
	SessionID        string           `json:"sessionId"`
	UpdatedAt        int64            `json:"updatedAt"` // milliseconds since 1970
	SystemSent       bool             `json:"systemSent,omitempty"`
	AbortedLastRun   bool             `json:"abortedLastRun,omitempty"`
	Label            string           `json:"label,omitempty"`
	DisplayName      string           `json:"displayName,omitempty"`
	ChatType         string           `json:"chatType,omitempty"`
	ThinkingLevel    string           `json:"thinkingLevel,omitempty"`
	VerboseLevel     string           `json:"verboseLevel,omitempty"`
	ReasoningLevel   string           `json:"reasoningLevel,omitempty"`
	ElevatedLevel    string           `json:"elevatedLevel,omitempty"`
	Model            string           `json:"model,omitempty"` // of the last run
	ModelProvider    string           `json:"modelProvider,omitempty"`
	ModelOverride    string           `json:"modelOverride,omitempty"` // asked for by the user
	ProviderOverride string           `json:"providerOverride,omitempty"`
	ContextTokens    int64            `json:"contextTokens,omitempty"`
	InputTokens      int64            `json:"inputTokens,omitempty"`
	OutputTokens     int64            `json:"outputTokens,omitempty"`
	TotalTokens      int64            `json:"totalTokens,omitempty"`
	Origin           *Origin          `json:"origin,omitempty"`
	LastChannel      string           `json:"lastChannel,omitempty"`
	LastTo           string           `json:"lastTo,omitempty"`
	LastAccountID    string           `json:"lastAccountId,omitempty"`
	DeliveryContext  *DeliveryContext `json:"deliveryContext,omitempty"`
	SendPolicy       string           `json:"sendPolicy,omitempty"`
	GroupActivation  string           `json:"groupActivation,omitempty"`
	SpawnedBy        string           `json:"spawnedBy,omitempty"`

	// CWD goes into the header of a new transcript: the agent's workspace.
	CWD string `json:"-"`
}

// Origin is where a session came from.
type Origin struct {
	Provider  string          `json:"provider,omitempty"`
	Surface   string          `json:"surface,omitempty"`
	ChatType  string          `json:"chatType,omitempty"`
	From      string          `json:"from,omitempty"`
	To        string          `json:"to,omitempty"`
	Label     string          `json:"label,omitempty"`
	AccountID string          `json:"accountId,omitempty"`
	ThreadID  json.RawMessage `json:"threadId,omitempty"` // a number or a string
}

// DeliveryContext is where a session's replies go.
type DeliveryContext struct {
	Channel   string          `json:"channel,omitempty"`
	To        string          `json:"to,omitempty"`
	AccountID string          `json:"accountId,omitempty"`
	ThreadID  json.RawMessage `json:"threadId,omitempty"`
}

// Keyed is an Entry with its session key.
type Keyed struct {
	Key string
	Entry
}

// Sessions is the index of one agent's sessions, wholly in memory once loaded.
// Lookups wait for no disk. A change costs one line in the journal whatever the
// number of sessions, and is not synced: it survives the process, and after a
// power loss the transcripts bring back what it said.
type Sessions struct {
	dir      *folder
	warnings []error

	// writeMu serialises changes, so that the journal has their order. It is
	// held across the write of a journal line.
	writeMu    sync.Mutex
	journal    *appender
	compactAt  int64          // size of the journal that makes a snapshot due
	compacting bool           // a goroutine writes the snapshot
	compaction sync.WaitGroup // and is waited for by close
	closed     bool

	// mu guards the maps and is never held across I/O. Rows are replaced, not changed.
	mu   sync.RWMutex
	rows map[string]*row
	byID map[string]string // session ID to key

	openMu sync.Mutex // guards open and the refs in it
	open   map[string]*Transcript
}

// row is an entry with the fields of it that only other programs know. They
// belong to the key: a Put does not change them.
type row struct {
	Entry
	extra map[string]json.RawMessage
}

// change is one line of the journal.
type change struct {
	Key   string `json:"key"`
	Entry *Entry `json:"entry,omitempty"` // nil if the key was deleted
	// Dropped is the session ID that the key had before, if it had another: its
	// transcript is nobody's on purpose.
	Dropped string `json:"dropped,omitempty"`
}

// agentSlot loads an index once, while other agents' are usable.
type agentSlot struct {
	mu     sync.Mutex
	s      *Sessions
	closed bool
}

// close waits for a load under way, whose index is closed as well.
func (a *agentSlot) close() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.closed = true
	if a.s == nil {
		return nil
	}
	return a.s.close()
}

// Sessions returns the index of an agent's sessions, loaded at the first call.
func (d *Dir) Sessions(agentID string) (*Sessions, error) {
	if !validAgentID(agentID) {
		return nil, fmt.Errorf("agent id %q: want lower-case letters, digits, _ and -, at most 64", agentID)
	}
	if d.lock == nil {
		return nil, errReadOnly
	}
	d.mu.Lock()
	if d.closed {
		d.mu.Unlock()
		return nil, errClosed
	}
	slot := d.agents[agentID]
	if slot == nil {
		slot = &agentSlot{}
		d.agents[agentID] = slot
	}
	d.mu.Unlock()

	slot.mu.Lock()
	defer slot.mu.Unlock()
	if slot.closed {
		return nil, errClosed
	}
	if slot.s == nil {
		s, err := d.loadSessions(agentID)
		if err != nil {
			return nil, fmt.Errorf("load sessions of %s: %w", agentID, err)
		}
		slot.s = s
	}
	return slot.s, nil
}

// Path returns where the index is, for messages.
func (s *Sessions) Path() string { return filepath.Join(s.dir.path, snapshotName) }

// Warnings returns what loading had to leave out or put right.
func (s *Sessions) Warnings() []error { return s.warnings }

// Count returns the number of sessions.
func (s *Sessions) Count() int {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return len(s.rows)
}

// Get returns the entry of a key.
func (s *Sessions) Get(key string) (Entry, bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if r := s.rows[key]; r != nil {
		return r.Entry, true
	}
	return Entry{}, false
}

// KeyOf returns the key that has a session ID now.
func (s *Sessions) KeyOf(sessionID string) (string, bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	key, ok := s.byID[sessionID]
	return key, ok
}

// List returns all sessions, the last updated first.
func (s *Sessions) List() []Keyed { return s.Recent(-1) }

// Recent returns the n sessions updated last, all if n is negative.
func (s *Sessions) Recent(n int) []Keyed {
	type ref struct {
		key string
		*row
	}
	s.mu.RLock()
	refs := make([]ref, 0, len(s.rows))
	for key, r := range s.rows {
		refs = append(refs, ref{key, r})
	}
	s.mu.RUnlock()
	slices.SortFunc(refs, func(a, b ref) int {
		return cmp.Or(cmp.Compare(b.UpdatedAt, a.UpdatedAt), strings.Compare(a.key, b.key))
	})
	if n >= 0 && n < len(refs) {
		refs = refs[:n]
	}
	out := make([]Keyed, len(refs))
	for i, r := range refs {
		out[i] = Keyed{r.key, r.Entry}
	}
	return out
}

// Put sets the entry of a key. Put a new session before the first Append to its
// transcript.
func (s *Sessions) Put(key string, e Entry) error {
	s.writeMu.Lock()
	defer s.writeMu.Unlock()
	return s.put(key, e)
}

// Update changes the entry of a key, zero if there was none, with no other
// change in between, and returns what it became. The function must not call s
// and not block.
func (s *Sessions) Update(key string, fn func(*Entry)) (Entry, error) {
	s.writeMu.Lock()
	defer s.writeMu.Unlock()
	e, _ := s.Get(key)
	fn(&e)
	return e, s.put(key, e)
}

func (s *Sessions) put(key string, e Entry) error {
	if key == "" || len(key) > 1024 {
		return fmt.Errorf("session key of %d bytes: want 1 to 1024", len(key))
	}
	if !validSessionID(e.SessionID) {
		return fmt.Errorf("session id %q: not a file name", e.SessionID)
	}
	return s.apply(change{Key: key, Entry: &e})
}

// Delete forgets a session. Its transcript stays where it is or, with archive,
// is renamed; the new paths are returned.
func (s *Sessions) Delete(key string, archive bool) (archived []string, err error) {
	s.writeMu.Lock()
	e, ok := s.Get(key)
	if ok {
		err = s.apply(change{Key: key})
	}
	s.writeMu.Unlock()
	if !ok || err != nil || !archive || !validSessionID(e.SessionID) {
		return nil, err
	}
	path, err := s.Archive(e.SessionID, "deleted")
	if path != "" {
		archived = append(archived, path)
	}
	return archived, err
}

// Erase forgets a session and removes its transcript.
func (s *Sessions) Erase(key string) error {
	e, ok := s.Get(key)
	if !ok {
		return nil
	}
	// The file first: what a crash leaves of a session is in the index, and
	// the next attempt finds it there.
	if validSessionID(e.SessionID) {
		if err := s.dir.root.Remove(e.SessionID + transcriptSuffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("erase transcript: %w", err)
		}
	}
	_, err := s.Delete(key, false)
	return err
}

// Archive renames a transcript to ID.jsonl.REASON.TIME and returns its new path,
// empty if there was no transcript. A turn that still has it open goes on
// writing to the renamed file.
func (s *Sessions) Archive(sessionID, reason string) (string, error) {
	if !validSessionID(sessionID) || !validAgentID(reason) {
		return "", fmt.Errorf("session id %q: not a file name", sessionID)
	}
	name := sessionID + transcriptSuffix
	to := name + "." + reason + "." + strings.ReplaceAll(time.Now().UTC().Format(timeFormat), ":", "-")
	if err := s.dir.root.Rename(name, to); errors.Is(err, fs.ErrNotExist) {
		return "", nil
	} else if err != nil {
		return "", fmt.Errorf("archive transcript: %w", err)
	}
	return filepath.Join(s.dir.path, to), s.dir.sync()
}

// Transcript opens the transcript of a session, new or not.
func (s *Sessions) Transcript(e Entry) (*Transcript, error) {
	if !validSessionID(e.SessionID) {
		return nil, fmt.Errorf("session id %q: not a file name", e.SessionID)
	}
	s.openMu.Lock()
	if s.open == nil {
		s.openMu.Unlock()
		return nil, errClosed
	}
	t := s.open[e.SessionID]
	if t == nil {
		t = &Transcript{s: s, id: e.SessionID, cwd: cmp.Or(e.CWD, s.dir.path)}
		s.open[e.SessionID] = t
	}
	t.refs++
	s.openMu.Unlock()

	t.mu.Lock()
	err := t.open()
	t.mu.Unlock()
	if err != nil {
		t.Close()
		return nil, fmt.Errorf("open transcript %s: %w", e.SessionID, err)
	}
	return t, nil
}

// forget drops one use of a transcript and reports whether it was the last.
func (s *Sessions) forget(t *Transcript) bool {
	s.openMu.Lock()
	defer s.openMu.Unlock()
	t.refs--
	if t.refs > 0 || s.open[t.id] != t {
		return false
	}
	delete(s.open, t.id)
	return true
}

// apply journals a change and makes it. It needs writeMu.
func (s *Sessions) apply(c change) error {
	if s.closed {
		return errClosed
	}
	if old, ok := s.Get(c.Key); ok && (c.Entry == nil || c.Entry.SessionID != old.SessionID) {
		c.Dropped = old.SessionID
	}
	line, err := encode(c)
	if err != nil {
		return err
	}
	if err := s.journal.append(append(line, '\n')); err != nil {
		return fmt.Errorf("write session index: %w", err)
	}
	s.mu.Lock()
	s.set(c)
	s.mu.Unlock()
	if s.journal.size > s.compactAt && !s.compacting {
		s.compacting = true
		s.compaction.Go(func() { s.compact() })
	}
	return nil
}

// set changes the maps. It needs mu, or s to be known to nobody yet.
func (s *Sessions) set(c change) {
	var extra map[string]json.RawMessage
	if old := s.rows[c.Key]; old != nil {
		extra = old.extra
		if s.byID[old.SessionID] == c.Key {
			delete(s.byID, old.SessionID)
		}
	}
	if c.Entry == nil {
		delete(s.rows, c.Key)
		return
	}
	s.rows[c.Key] = &row{*c.Entry, extra}
	s.byID[c.Entry.SessionID] = c.Key
}

// compact writes a snapshot of this moment and then cuts from the journal the
// lines that it makes needless. Changes go on meanwhile: encoding and syncing
// thousands of entries takes longer than a turn should wait. A crash between
// the two replays the journal over a snapshot that has it already: lines say
// what is, not what changed, so that is harmless, if the journal is whole. It
// is therefore synced first. After an error the journal has everything, and
// the next attempt comes when it has doubled.
func (s *Sessions) compact() error {
	s.writeMu.Lock()
	f, upTo := s.journal.f, s.journal.size
	s.mu.RLock()
	rows := maps.Clone(s.rows)
	s.mu.RUnlock()
	s.writeMu.Unlock()

	data, err := snapshot(rows)
	if err == nil {
		err = syncData(f)
	}
	if err == nil {
		err = s.dir.replace(snapshotName, data)
	}

	s.writeMu.Lock()
	defer s.writeMu.Unlock()
	s.compacting = false
	if err == nil {
		err = s.cutJournal(upTo)
	}
	if err != nil {
		s.compactAt = 2 * s.journal.size
		return err
	}
	s.compactAt = max(compactMin, 4*int64(len(data)))
	return nil
}

// cutJournal replaces the journal by its lines behind an offset. It needs writeMu.
func (s *Sessions) cutJournal(upTo int64) error {
	rest := make([]byte, s.journal.size-upTo)
	if _, err := s.journal.f.ReadAt(rest, upTo); err != nil {
		return err
	}
	temp := tempName(journalName)
	f, _, err := s.dir.open(temp, os.O_RDWR|os.O_APPEND|os.O_EXCL)
	if err != nil {
		return err
	}
	next := &appender{f: f, write: s.dir.write, sync: syncData}
	if err = next.append(rest); err == nil {
		err = s.dir.root.Rename(temp, journalName)
	}
	if err != nil {
		s.dir.root.Remove(temp)
		return errors.Join(err, f.Close())
	}
	s.journal.f.Close()
	next.sync = nil
	s.journal = next
	return nil
}

func snapshot(rows map[string]*row) ([]byte, error) {
	b := bytes.NewBufferString("{")
	for i, key := range slices.Sorted(maps.Keys(rows)) {
		name, err := encode(key)
		if err != nil {
			return nil, err
		}
		value, err := rows[key].encode()
		if err != nil {
			return nil, err
		}
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteByte('\n')
		b.Write(name)
		b.WriteString(": ")
		b.Write(value)
	}
	b.WriteString("\n}\n")
	return b.Bytes(), nil
}

func (r *row) encode() ([]byte, error) {
	known, err := encode(r.Entry)
	if err != nil || len(r.extra) == 0 {
		return known, err
	}
	all := maps.Clone(r.extra)
	if err := json.Unmarshal(known, &all); err != nil {
		return nil, err
	}
	return encode(all)
}

// close writes a last snapshot and ends the use of everything below s.
func (s *Sessions) close() error {
	s.openMu.Lock()
	open := s.open
	s.open = nil
	s.openMu.Unlock()
	var errs []error
	for _, t := range open {
		errs = append(errs, t.shut())
	}
	s.writeMu.Lock()
	s.closed = true
	changed := s.journal.size > 0 || s.journal.torn
	s.writeMu.Unlock()
	s.compaction.Wait()
	if changed {
		errs = append(errs, s.compact())
	}
	errs = append(errs, s.journal.f.Close())
	s.dir.close()
	return errors.Join(errs...)
}

// validAgentID reports whether id may become a directory's name:
// ^[a-z0-9][a-z0-9_-]{0,63}$.
func validAgentID(id string) bool {
	for i, c := range []byte(id) {
		switch {
		case c >= 'a' && c <= 'z', c >= '0' && c <= '9':
		case i > 0 && (c == '_' || c == '-'):
		default:
			return false
		}
	}
	return id != "" && len(id) <= 64
}

// validSessionID reports whether id may become a file's name:
// ^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$, and not the journal's.
func validSessionID(id string) bool {
	for i, c := range []byte(id) {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9':
		case i > 0 && (c == '.' || c == '_' || c == '-'):
		default:
			return false
		}
	}
	return id != "" && len(id) <= 128 && !strings.EqualFold(id+transcriptSuffix, journalName)
}
