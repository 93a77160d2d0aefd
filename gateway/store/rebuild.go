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
	"reflect"
	"strings"
	"time"
)

// snapshotLimit bounds the index that is read; one entry of another program may
// have tens of kilobytes.
const snapshotLimit = 1 << 29

// loadSessions reads snapshot and journal, adopts transcripts that neither
// names, and leaves the journal open.
func (d *Dir) loadSessions(agentID string) (_ *Sessions, err error) {
	dir, err := d.top.sub("agents/"+agentID+"/sessions", true)
	if err != nil {
		return nil, err
	}
	s := &Sessions{dir: dir, rows: map[string]*row{}, byID: map[string]string{}, open: map[string]*Transcript{}}
	defer func() {
		if err != nil {
			dir.close()
			if s.journal != nil {
				s.journal.f.Close()
			}
		}
	}()
	dir.sweep()
	// The names of transcripts whose writer died before it had synced them.
	if err := dir.sync(); err != nil {
		return nil, err
	}
	size, written, err := s.readSnapshot()
	if err != nil {
		return nil, err
	}
	s.compactAt = max(compactMin, 4*size)
	dropped, sound, err := s.replay()
	if err != nil {
		return nil, err
	}
	adopted, err := s.adopt(dropped, written)
	if err != nil {
		return nil, err
	}
	if !sound || adopted > 0 || s.journal.size > s.compactAt {
		if err := s.compact(); err != nil {
			s.warn("write %s: %w", snapshotName, err) // everything is in memory and found again next time
		}
	}
	return s, nil
}

func (s *Sessions) warn(format string, args ...any) {
	s.warnings = append(s.warnings, fmt.Errorf(format, args...))
}

// readSnapshot reads sessions.json, ours or another program's, and returns its
// size and when it was written. A file that is no index is put aside: the
// transcripts say most of what it did.
func (s *Sessions) readSnapshot() (size int64, written time.Time, err error) {
	f, _, err := s.dir.open(snapshotName, os.O_RDONLY)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, time.Time{}, nil
	} else if err != nil {
		return 0, time.Time{}, err
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return 0, time.Time{}, err
	}
	data, err := readAll(f, snapshotLimit)
	if err != nil {
		return 0, time.Time{}, err
	}
	// A snapshot of ours has no unknown fields and is read in one pass.
	entries := map[string]*Entry{}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if dec.Decode(&entries) == nil && !dec.More() {
		for key, e := range entries {
			if e != nil {
				s.set(change{Key: key, Entry: e})
			}
		}
		return int64(len(data)), fi.ModTime(), nil
	}
	raws := map[string]json.RawMessage{}
	if err := json.Unmarshal(data, &raws); err != nil {
		aside := snapshotName + ".corrupt." + strings.ReplaceAll(time.Now().UTC().Format(timeFormat), ":", "-")
		s.warn("%s: %w: kept as %s, the index is made again from the transcripts", s.Path(), err, aside)
		return 0, time.Time{}, s.dir.root.Rename(snapshotName, aside)
	}
	for key, raw := range raws {
		r, err := decodeRow(raw)
		if err != nil {
			s.warn("%s: entry %q left out: %w", s.Path(), key, err)
			continue
		}
		s.set(change{Key: key, Entry: &r.Entry})
		s.rows[key].extra = r.extra
	}
	return int64(len(data)), fi.ModTime(), nil
}

// decodeRow reads an entry of another program: what has our names and types
// becomes the Entry, the rest is kept as it is.
func decodeRow(raw json.RawMessage) (r row, err error) {
	if err := json.Unmarshal(raw, &r.extra); err != nil {
		return row{}, err
	}
	if r.extra == nil {
		return row{}, errors.New("null")
	}
	known := map[string]json.RawMessage{}
	entry := reflect.TypeFor[Entry]()
	for i := range entry.NumField() {
		field := entry.Field(i)
		name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		value, ok := r.extra[name]
		if ok && json.Unmarshal(value, reflect.New(field.Type).Interface()) == nil {
			known[name] = value
			delete(r.extra, name)
		}
	}
	data, err := json.Marshal(known)
	if err != nil {
		return row{}, err
	}
	return r, json.Unmarshal(data, &r.Entry)
}

// replay applies the journal and returns the session IDs that were given up
// meanwhile. A line that a crash left unreadable is skipped, and the journal
// is then not sound.
func (s *Sessions) replay() (dropped map[string]bool, sound bool, err error) {
	f, _, err := s.dir.open(journalName, os.O_RDWR|os.O_APPEND|os.O_CREATE)
	if err != nil {
		return nil, false, err
	}
	s.journal = &appender{f: f, write: s.dir.write}
	dropped, sound = map[string]bool{}, true
	lines := bufio.NewReaderSize(f, 64<<10)
	for {
		line, err := lines.ReadBytes('\n')
		s.journal.size += int64(len(line))
		if err == io.EOF && len(line) == 0 {
			return dropped, sound, nil
		} else if err != nil && err != io.EOF {
			return nil, false, err
		}
		var c change
		if err == io.EOF || json.Unmarshal(line, &c) != nil || c.Key == "" {
			sound = false
			continue
		}
		if c.Dropped != "" {
			dropped[c.Dropped] = true
		}
		s.set(c)
	}
}

// adopt puts transcripts into the index that it does not name: those whose
// journal line a power loss took, or all of them when the index is gone. Only
// files written after the snapshot come into question, for it knew the older
// ones, and of those only the first line is read.
func (s *Sessions) adopt(dropped map[string]bool, written time.Time) (adopted int, err error) {
	names, err := s.dir.names()
	if err != nil {
		return 0, err
	}
	for _, name := range names {
		id, ok := strings.CutSuffix(name, transcriptSuffix)
		if !ok || !validSessionID(id) || dropped[id] || s.byID[id] != "" {
			continue
		}
		fi, err := s.dir.root.Lstat(name)
		if err != nil || !fi.Mode().IsRegular() || fi.Size() == 0 || !fi.ModTime().After(written) {
			continue
		}
		h, err := s.readHeader(name)
		switch created, _ := time.Parse(time.RFC3339, h.Timestamp); {
		case err != nil:
			s.warn("%s is in no index: %w", name, err)
		case h.ID != id || h.SessionKey == "":
			s.warn("%s is in no index and does not name its session", name)
		case s.rows[h.SessionKey] != nil && created.UnixMilli() <= s.rows[h.SessionKey].UpdatedAt:
			// The key has a later session: this is the one before a reset.
		default:
			e := Entry{SessionID: id}
			if old := s.rows[h.SessionKey]; old != nil {
				e = old.Entry
				e.SessionID = id
			}
			e.UpdatedAt = fi.ModTime().UnixMilli()
			s.set(change{Key: h.SessionKey, Entry: &e})
			adopted++
		}
	}
	return adopted, nil
}

func (s *Sessions) readHeader(name string) (h header, err error) {
	f, _, err := s.dir.open(name, os.O_RDONLY)
	if err != nil {
		return h, err
	}
	defer f.Close()
	line, err := bufio.NewReaderSize(f, 16<<10).ReadSlice('\n')
	if err == nil {
		err = json.Unmarshal(line, &h)
	}
	if err == nil && h.Type != typeSession {
		err = errors.New("no header")
	}
	return h, err
}
