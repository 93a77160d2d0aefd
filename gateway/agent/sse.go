package agent

import (
	"bytes"
	"errors"
	"io"
)

const (
	sseChunk = 8 << 10
	maxEvent = 4 << 20 // bytes of one line and of one event's data: a whole tool call may come at once
)

var errEventTooLong = errors.New("event is too long")

// An eventReader reads a stream of server-sent events (WHATWG HTML §9.2) from
// r, as soon as their bytes arrive and however these are split.
type eventReader struct {
	r        io.Reader
	buf      []byte // buf[pos:] is unread, buf[pos:seen] has no line end
	pos      int
	seen     int
	skipLF   bool // the last line ended in CR: a LF that follows belongs to it
	begun    bool // past the byte order mark
	err      error
	name     []byte
	data     []byte
	haveData bool
}

func newEventReader(r io.Reader) *eventReader {
	return &eventReader{r: r, buf: make([]byte, 0, sseChunk)}
}

// next returns the next event's name and data, valid until the next call.
// Events without data are skipped, as the standard has it; one that the end of
// the stream cuts short of its empty line is returned, since some servers
// forget that line. The error is io.EOF or what reading gave.
func (s *eventReader) next() (name, data []byte, err error) {
	s.name, s.data, s.haveData = s.name[:0], s.data[:0], false
	for {
		line, err := s.line()
		if err != nil {
			if err == io.EOF && s.haveData {
				return s.name, s.data, nil
			}
			return nil, nil, err
		}
		if len(line) == 0 {
			if s.haveData {
				return s.name, s.data, nil
			}
			s.name = s.name[:0]
			continue
		}
		field, value, _ := bytes.Cut(line, []byte{':'})
		value = bytes.TrimPrefix(value, []byte{' '})
		switch string(field) {
		case "data":
			if len(s.data)+len(value) > maxEvent {
				return nil, nil, errEventTooLong
			}
			if s.haveData {
				s.data = append(s.data, '\n')
			}
			s.data = append(s.data, value...)
			s.haveData = true
		case "event":
			s.name = append(s.name[:0], value...)
		}
	}
}

// line returns the next line without its end, valid until the next call. A
// last line that lacks an end is a line.
func (s *eventReader) line() ([]byte, error) {
	for {
		if s.skipLF && s.pos < len(s.buf) {
			s.skipLF = false
			if s.buf[s.pos] == '\n' {
				s.pos++
			}
		}
		s.seen = max(s.seen, s.pos)
		if i := lineEnd(s.buf[s.seen:]); i >= 0 {
			end := s.seen + i
			line := s.buf[s.pos:end]
			s.skipLF = s.buf[end] == '\r'
			s.pos, s.seen = end+1, end+1
			return s.first(line), nil
		}
		s.seen = len(s.buf)
		if s.seen-s.pos > maxEvent {
			return nil, errEventTooLong
		}
		if s.err != nil {
			if s.err == io.EOF && s.pos < len(s.buf) {
				line := s.buf[s.pos:]
				s.pos = len(s.buf)
				return s.first(line), nil
			}
			return nil, s.err
		}
		s.fill()
	}
}

// lineEnd is the index of the first CR or LF, or -1.
func lineEnd(b []byte) int {
	lf := bytes.IndexByte(b, '\n')
	if lf >= 0 {
		b = b[:lf]
	}
	if cr := bytes.IndexByte(b, '\r'); cr >= 0 {
		return cr
	}
	return lf
}

// first cuts the byte order mark off the stream's first line.
func (s *eventReader) first(line []byte) []byte {
	if !s.begun {
		s.begun = true
		line = bytes.TrimPrefix(line, []byte("\ufeff"))
	}
	return line
}

// fill reads once. It moves what is unread to the front first, and grows the
// buffer only when that fills it: by no more than was received.
func (s *eventReader) fill() {
	if s.pos > 0 {
		n := copy(s.buf, s.buf[s.pos:])
		s.buf, s.seen, s.pos = s.buf[:n], s.seen-s.pos, 0
	}
	if len(s.buf) == cap(s.buf) {
		s.buf = append(s.buf, make([]byte, len(s.buf))...)[:len(s.buf)]
	}
	n, err := s.r.Read(s.buf[len(s.buf):cap(s.buf)])
	s.buf, s.err = s.buf[:len(s.buf)+n], err
}

// peek returns the stream's first byte that is not white space or a byte order
// mark, without consuming anything; 0 when there is none.
func (s *eventReader) peek() byte {
	for {
		if b := bytes.TrimLeft(bytes.TrimPrefix(s.buf[s.pos:], []byte("\ufeff")), " \t\r\n"); len(b) > 0 && !bytes.HasPrefix([]byte("\ufeff"), b) {
			return b[0]
		}
		if s.err != nil || len(s.buf)-s.pos > sseChunk {
			return 0
		}
		s.fill()
	}
}

// rest reads all that is left, when the stream turns out not to be one.
func (s *eventReader) rest(limit int) ([]byte, error) {
	for s.err == nil {
		if len(s.buf)-s.pos > limit {
			return nil, errTooLong
		}
		s.fill()
	}
	if s.err != io.EOF {
		return nil, s.err
	}
	return bytes.TrimPrefix(s.buf[s.pos:], []byte("\ufeff")), nil
}
