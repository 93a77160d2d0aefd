package sandbox

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
)

// The policy on the wire is its length in headSize digits and then words, each
// ended by a NUL, which no word can hold: lists with their length in front,
// numbers in decimal. Arguments are bytes on Linux, which JSON would not keep.
const (
	headSize  = 8
	maxPolicy = 4 << 20
)

var errPolicy = errors.New("malformed policy")

func (s *Spec) encode() ([]byte, error) {
	var b strings.Builder
	for _, l := range [][]string{s.Argv, {s.Dir}, s.Env, s.Write, s.Read, s.Hidden, ports(s.Network)} {
		for _, w := range append([]string{strconv.Itoa(len(l))}, l...) {
			b.WriteString(w + "\x00")
		}
	}
	var light uint64
	if s.Light {
		light = 1
	}
	for _, n := range []uint64{light, uint64(s.Limits.CPU), s.Limits.AddressSpace, s.Limits.FileSize, s.Limits.Processes, s.Limits.Descriptors} {
		b.WriteString(strconv.FormatUint(n, 10) + "\x00")
	}
	if b.Len() > maxPolicy {
		return nil, fmt.Errorf("arguments, environment and paths exceed %d bytes", maxPolicy)
	}
	return fmt.Appendf(nil, "%0*d%s", headSize, b.Len(), b.String()), nil
}

func ports(list []uint16) (out []string) {
	for _, p := range list {
		out = append(out, strconv.Itoa(int(p)))
	}
	return out
}

// readPolicy reads what encode wrote, to the byte, and nothing else. Memory
// grows with the bytes that came.
func readPolicy(r io.Reader) (*Spec, error) {
	var head [headSize]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, fmt.Errorf("read policy: %w", err)
	}
	size, err := strconv.ParseUint(string(head[:]), 10, 32)
	if err != nil || size > maxPolicy {
		return nil, errPolicy
	}
	body, err := io.ReadAll(io.LimitReader(r, int64(size)))
	if err != nil {
		return nil, fmt.Errorf("read policy: %w", err)
	}
	words := strings.Split(string(body), "\x00")
	num := func(bits int) (n uint64) {
		if len(words) > 0 {
			n, _ = strconv.ParseUint(words[0], 10, bits)
			words = words[1:]
		}
		return n
	}
	list := func() (l []string) {
		if n := num(32); n > 0 && n <= uint64(len(words)) {
			l, words = words[:n:n], words[n:]
		}
		return l
	}
	s := &Spec{Argv: list()}
	if dir := list(); len(dir) == 1 {
		s.Dir = dir[0]
	}
	s.Env, s.Write, s.Read, s.Hidden = list(), list(), list(), list()
	for n := min(num(32), uint64(len(words))); n > 0; n-- {
		s.Network = append(s.Network, uint16(num(16)))
	}
	s.Light = num(1) == 1
	s.Limits = Limits{time.Duration(num(63)), num(64), num(64), num(64), num(64)}
	// Whatever was not as it should be shows here.
	if again, err := s.encode(); err != nil || !bytes.Equal(again, append(head[:], body...)) {
		return nil, errPolicy
	}
	return s, s.check()
}
