package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// jsonLines reads a file of JSON objects, one a line. A last line without a
// newline is an error unless torn is allowed.
func jsonLines(path string, torn bool) ([]json.RawMessage, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var out []json.RawMessage
	for line := range bytes.Lines(raw) {
		if !bytes.HasSuffix(line, []byte("\n")) && torn {
			break
		}
		var o map[string]json.RawMessage
		if err := json.Unmarshal(line, &o); err != nil || !bytes.HasSuffix(line, []byte("\n")) {
			return out, fmt.Errorf("%s: line %d: %v: %.120q", path, len(out)+1, err, line)
		}
		out = append(out, bytes.Clone(line))
	}
	return out, nil
}

// stored is what the transcripts of a state directory hold.
type stored struct {
	user      map[string]int // texts, and how often
	assistant map[string]int
	stops     map[string]string // stopReason by an assistant's text
	waiting   int               // of user: queued and not run
	files     int
}

// readState parses every file of a state directory and collects what was said.
func readState(state string, torn bool) (*stored, error) {
	s := &stored{user: map[string]int{}, assistant: map[string]int{}, stops: map[string]string{}}
	err := filepath.WalkDir(state, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		fi, err := d.Info()
		if err != nil {
			return nil // a temporary file that is gone
		}
		if fi.Mode().IsRegular() && fi.Mode().Perm() != 0o600 {
			return fmt.Errorf("%s has mode %o", path, fi.Mode().Perm())
		}
		s.files++
		switch {
		case strings.HasSuffix(path, ".jsonl"):
			lines, err := jsonLines(path, torn)
			if err != nil || filepath.Base(path) == "index.jsonl" {
				return err
			}
			return s.transcript(path, lines)
		case strings.HasSuffix(path, ".log"):
			_, err := jsonLines(path, true)
			return err
		case filepath.Base(path) == "openclaw.json": // is the operator's, and JSON5
		case strings.HasSuffix(path, ".json"), strings.HasSuffix(path, ".lock"):
			raw, err := os.ReadFile(path)
			if err == nil && len(raw) > 0 {
				var v any
				if err = json.NewDecoder(bytes.NewReader(raw)).Decode(&v); err != nil {
					err = fmt.Errorf("%s: %w", path, err)
				}
			}
			return err
		}
		return nil
	})
	return s, err
}

// transcript reads messages, and those of queued turns that were never run.
func (s *stored) transcript(path string, lines []json.RawMessage) error {
	type message struct {
		Role    string `json:"role"`
		Content []struct {
			Text string `json:"text"`
		} `json:"content"`
		StopReason string `json:"stopReason"`
	}
	ran := map[string]bool{}
	queued := map[string]string{}
	for i, line := range lines {
		var r struct {
			Type       string   `json:"type"`
			ID         string   `json:"id"`
			Message    *message `json:"message"`
			CustomType string   `json:"customType"`
			Data       struct {
				Messages []struct {
					ID      string   `json:"id"`
					Message *message `json:"message"`
				} `json:"messages"`
			} `json:"data"`
		}
		if err := json.Unmarshal(line, &r); err != nil {
			return fmt.Errorf("%s: line %d: %w", path, i+1, err)
		}
		if (i == 0) != (r.Type == "session") {
			return fmt.Errorf("%s: line %d has type %q", path, i+1, r.Type)
		}
		if r.CustomType == "queued-turn" {
			for _, m := range r.Data.Messages {
				queued[m.ID] = m.Message.Content[0].Text
			}
		}
		if r.Message == nil {
			continue
		}
		if ran[r.ID] {
			return fmt.Errorf("%s: line %d: record %s stands there twice", path, i+1, r.ID)
		}
		ran[r.ID] = true
		var text string
		for _, part := range r.Message.Content {
			text += part.Text
		}
		switch r.Message.Role {
		case "user":
			s.user[text]++
		case "assistant":
			s.assistant[text]++
			s.stops[text] = r.Message.StopReason
		}
	}
	for id, text := range queued {
		if !ran[id] {
			s.user[text]++
			s.waiting++
		}
	}
	return nil
}
