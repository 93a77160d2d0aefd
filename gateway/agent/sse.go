package agent

import (
	"bufio"
	"bytes"
	"errors"
	"io"
)

const (
	sseChunk = 8 << 10
	maxEvent = 4 << 20 // bytes of one line and of one event's data: a whole tool call may come at once
)

var (
	errEventTooLong = errors.New("event is too long")
	byteOrderMark   = []byte("\ufeff")
)

// An eventReader reads a stream of server-sent events (WHATWG HTML §9.2), as
// soon as their bytes arrive and however these are split.
type eventReader struct {
	r      *bufio.Reader
	lines  *bufio.Scanner
	skipLF bool // the last line ended in CR: a LF that follows belongs to it
	begun  bool // past the first line, which may have a byte order mark
	ended  bool // the stream ended within the last event
	name   []byte
	data   []byte
}

func newEventReader(r io.Reader) *eventReader {
	s := &eventReader{r: bufio.NewReaderSize(r, sseChunk)}
	s.lines = bufio.NewScanner(s.r)
	s.lines.Buffer(nil, maxEvent+len("\r\n"))
	s.lines.Split(s.line)
	return s
}

// line is a bufio.SplitFunc for lines that end in LF, CR or both. It does not
// wait for the LF behind a CR, nor for the end of a last line.
func (s *eventReader) line(b []byte, atEOF bool) (advance int, line []byte, err error) {
	if len(b) == 0 {
		return 0, nil, nil
	}
	if s.skipLF && b[0] == '\n' { // in the same call, as the Scanner reads on after one without a line
		advance, b = 1, b[1:]
	}
	s.skipLF = false
	end := bytes.IndexByte(b, '\n')
	if cr := bytes.IndexByte(b[:max(end, 0)], '\r'); cr >= 0 {
		end = cr
	} else if end < 0 {
		end = bytes.IndexByte(b, '\r')
	}
	switch {
	case end >= 0:
		s.skipLF = b[end] == '\r'
		return advance + end + 1, b[:end], nil
	case atEOF && len(b) > 0:
		return advance + len(b), b, nil
	}
	return advance, nil, nil
}

// next returns the next event's name and data, valid until the next call.
// Events without data are skipped, as the standard has it; one that the end of
// the stream cuts short of its empty line is returned, since some servers
// forget that line. The error is io.EOF or what reading gave.
func (s *eventReader) next() (name, data []byte, err error) {
	s.name, s.data = s.name[:0], s.data[:0]
	has := false
	for s.lines.Scan() {
		line := s.lines.Bytes()
		if len(line) > maxEvent {
			return nil, nil, errEventTooLong
		}
		if !s.begun {
			s.begun, line = true, bytes.TrimPrefix(line, byteOrderMark)
		}
		if len(line) == 0 {
			if has {
				return s.name, s.data, nil
			}
			s.name = s.name[:0]
			continue
		}
		field, value, _ := bytes.Cut(line, []byte{':'})
		value = bytes.TrimPrefix(value, []byte{' '})
		switch string(field) {
		case "data":
			if has {
				s.data = append(s.data, '\n')
			}
			if len(s.data)+len(value) > maxEvent {
				return nil, nil, errEventTooLong
			}
			s.data, has = append(s.data, value...), true
		case "event":
			s.name = append(s.name[:0], value...)
		}
	}
	switch err := s.lines.Err(); {
	case err == bufio.ErrTooLong:
		return nil, nil, errEventTooLong
	case err != nil:
		return nil, nil, err
	case has:
		s.ended = true
		return s.name, s.data, nil
	}
	return nil, nil, io.EOF
}

// peek returns the stream's first byte that is not white space or a byte order
// mark, without consuming anything; 0 when there is none.
func (s *eventReader) peek() byte {
	for {
		_, err := s.r.Peek(s.r.Buffered() + 1)
		b, _ := s.r.Peek(s.r.Buffered())
		b = bytes.TrimLeft(bytes.TrimPrefix(b, byteOrderMark), " \t\r\n")
		switch {
		case len(b) > 0 && !bytes.HasPrefix(byteOrderMark, b):
			return b[0]
		case err != nil: // or a buffer full of nothing
			return 0
		}
	}
}

// rest reads all that is left, when the stream turns out not to be one.
func (s *eventReader) rest(limit int) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(s.r, int64(limit)+1))
	if err == nil && len(b) > limit {
		err = errTooLong
	}
	return bytes.TrimPrefix(b, byteOrderMark), err
}
