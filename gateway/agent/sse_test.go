package agent

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
)

// readEvents lists the events of r as name|data.
func readEvents(r io.Reader) (list []string, err error) {
	s := newEventReader(r)
	for {
		name, data, err := s.next()
		if err != nil {
			return list, err
		}
		list = append(list, string(name)+"|"+string(data))
	}
}

func TestEventReader(t *testing.T) {
	tests := []struct {
		name, in string
		want     []string
	}{
		{"empty", "", nil},
		{"one", "data: a\n\n", []string{"|a"}},
		{"named", "event: x\ndata: a\n\n", []string{"x|a"}},
		{"name after data", "data: a\nevent: x\n\n", []string{"x|a"}},
		{"name without data is dropped", "event: x\n\ndata: a\n\n", []string{"|a"}},
		{"no space", "data:a\nevent:x\n\n", []string{"x|a"}},
		{"one space only", "data:  a\n\n", []string{"| a"}},
		{"several lines", "data: a\ndata: b\ndata:\n\n", []string{"|a\nb\n"}},
		{"field without colon", "data\n\n", []string{"|"}},
		{"CRLF", "event: x\r\ndata: a\r\n\r\ndata: b\r\n\r\n", []string{"x|a", "|b"}},
		{"CR", "event: x\rdata: a\r\rdata: b\r\r", []string{"x|a", "|b"}},
		{"mixed", "data: a\r\ndata: b\n\rdata: c\r\n\n", []string{"|a\nb", "|c"}},
		{"comments and keep-alives", ": hello\n\n:\n\n\n\n: x\ndata: a\n: y\n\n", []string{"|a"}},
		{"other fields", "id: 1\nretry: 5\nfoo: bar\ndata : no\ndata: a\n\n", []string{"|a"}},
		{"byte order mark", "\ufeffdata: a\n\n", []string{"|a"}},
		{"mark only at the start", "data: a\n\n\ufeffdata: b\n\n", []string{"|a"}},
		{"no last empty line", "data: a\n\ndata: b\n", []string{"|a", "|b"}},
		{"no last line end", "data: a\n\ndata: b", []string{"|a", "|b"}},
		{"runes", "data: Grüße 🦞\n\n", []string{"|Grüße 🦞"}},
		{"colons", "data: a: b:c\n\n", []string{"|a: b:c"}},
		{"nothing but ends", "\n\r\n\r\r\n", nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			readers := map[string]io.Reader{
				"whole":         strings.NewReader(tt.in),
				"bytes":         iotest.OneByteReader(strings.NewReader(tt.in)),
				"halves":        iotest.HalfReader(strings.NewReader(tt.in)),
				"data with EOF": iotest.DataErrReader(strings.NewReader(tt.in)),
			}
			for name, r := range readers {
				if got, err := readEvents(r); err != io.EOF || !slices.Equal(got, tt.want) {
					t.Errorf("%s: %q, %v", name, got, err)
				}
			}
		})
	}
}

// An event is returned when its empty line has come, not when more has.
func TestEventReaderDoesNotReadAhead(t *testing.T) {
	for _, end := range []string{"\n\n", "\r\n\r\n", "\r\r"} {
		broken := errors.New("read too far")
		s := newEventReader(io.MultiReader(strings.NewReader("data: a"+end), iotest.ErrReader(broken)))
		if _, data, err := s.next(); string(data) != "a" || err != nil {
			t.Errorf("%q: %q, %v", end, data, err)
		}
		if _, _, err := s.next(); err != broken {
			t.Errorf("%q: %v", end, err)
		}
	}
}

func TestEventReaderLimits(t *testing.T) {
	fits := "data:" + strings.Repeat("x", maxEvent-5)
	tests := []struct {
		name, in string
		err      error
	}{
		{"line that fits", fits + "\n\n", io.EOF},
		{"line too long", fits + "x", errEventTooLong},
		{"comment too long", ":" + strings.Repeat("x", maxEvent+1), errEventTooLong},
		{"event too long", strings.Repeat("data:"+strings.Repeat("x", 1<<20)+"\n", 5), errEventTooLong},
		{"empty lines of data", fits + strings.Repeat("\ndata", 10), errEventTooLong},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := newEventReader(strings.NewReader(tt.in))
			for {
				if _, _, err := s.next(); err != nil {
					if err != tt.err {
						t.Error(err)
					}
					break
				}
			}
			if cap(s.lines.Bytes()) > 4*maxEvent || cap(s.data) > 4*maxEvent {
				t.Errorf("holds %d and %d bytes", cap(s.lines.Bytes()), cap(s.data))
			}
		})
	}
}

func TestPeekAndRest(t *testing.T) {
	tests := []struct {
		in    string
		first byte
	}{
		{"", 0}, {"\ufeff", 0}, {" \r\n\t", 0}, {"data", 'd'}, {"\ufeff {\"a\":1}", '{'}, {"\n\n{", '{'}, {": x", ':'},
	}
	for _, tt := range tests {
		s := newEventReader(iotest.OneByteReader(strings.NewReader(tt.in)))
		if got := s.peek(); got != tt.first {
			t.Errorf("%q: %q", tt.in, got)
		}
		if rest, err := s.rest(100); err != nil || string(rest) != strings.TrimPrefix(tt.in, "\ufeff") {
			t.Errorf("%q: rest %q, %v", tt.in, rest, err)
		}
	}
	s := newEventReader(strings.NewReader(strings.Repeat("{", 1<<20)))
	if _, err := s.rest(1 << 10); err != errTooLong {
		t.Error(err)
	}
}

func FuzzSSE(f *testing.F) {
	f.Add([]byte("event: x\r\ndata: Grüße\r\n\r\n: c\rdata:b\r\rdata"), uint8(3))
	f.Add([]byte("\ufeffdata: a\ndata: b\n\n"), uint8(1))
	f.Add([]byte("data: [DONE]\n\n"), uint8(0))
	f.Fuzz(func(t *testing.T, in []byte, size uint8) {
		whole, err := readEvents(bytes.NewReader(in))
		if err != io.EOF {
			t.Fatal(err)
		}
		split, err := readEvents(&pieces{in, int(size)%17 + 1})
		if err != io.EOF || !slices.Equal(whole, split) {
			t.Fatalf("whole %q, split %q, %v", whole, split, err)
		}
		total := 0
		var again strings.Builder
		for _, e := range whole {
			total += len(e) - 1
			name, data, _ := strings.Cut(e, "|")
			if name == "" || !strings.ContainsAny(name, "|") {
				fmt.Fprintf(&again, "event: %s\n", name)
				for _, line := range strings.Split(data, "\n") {
					fmt.Fprintf(&again, "data: %s\n", line)
				}
				again.WriteByte('\n')
			}
		}
		if total > len(in) {
			t.Fatalf("%d bytes of events from %d", total, len(in))
		}
		if bytes.IndexByte(in, '|') < 0 { // which separates name and data here
			if back, err := readEvents(strings.NewReader(again.String())); err != io.EOF || !slices.Equal(back, whole) {
				t.Fatalf("printed and read again: %q, was %q", back, whole)
			}
		}
	})
}

// pieces gives n bytes at a time.
type pieces struct {
	b []byte
	n int
}

func (p *pieces) Read(to []byte) (int, error) {
	if len(p.b) == 0 {
		return 0, io.EOF
	}
	n := copy(to, p.b[:min(p.n, len(p.b))])
	p.b = p.b[n:]
	return n, nil
}
