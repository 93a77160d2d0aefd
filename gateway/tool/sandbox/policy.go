package sandbox

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"
)

// The policy's form on the wire: a magic word, its length, and the fields of
// Spec in order; numbers are 8 bytes, strings and lists have their length in
// front. Arguments are bytes on Linux, which JSON would not keep.
const (
	magic     = "OCSB0001"
	maxPolicy = 4 << 20
	maxList   = 4096 // but arguments and environment, which maxPolicy bounds
)

var errPolicy = errors.New("malformed policy")

func (s *Spec) encode() ([]byte, error) {
	b := []byte(magic + "\x00\x00\x00\x00\x00\x00\x00\x00")
	num := func(n uint64) { b = binary.BigEndian.AppendUint64(b, n) }
	str := func(t string) { num(uint64(len(t))); b = append(b, t...) }
	for _, list := range [][]string{s.Argv, {s.Dir}, s.Env, s.Write, s.Read, s.Hidden} {
		num(uint64(len(list)))
		for _, t := range list {
			str(t)
		}
	}
	num(uint64(len(s.Network)))
	for _, p := range s.Network {
		num(uint64(p))
	}
	var light uint64
	if s.Light {
		light = 1
	}
	for _, n := range []uint64{light, uint64(s.Limits.CPU), s.Limits.AddressSpace, s.Limits.FileSize, s.Limits.Processes, s.Limits.Descriptors} {
		num(n)
	}
	if len(b) > maxPolicy {
		return nil, fmt.Errorf("arguments, environment and paths exceed %d bytes", maxPolicy)
	}
	binary.BigEndian.PutUint64(b[len(magic):], uint64(len(b)))
	return b, nil
}

// readPolicy reads what encode wrote and nothing else. Memory grows with the
// bytes that came.
func readPolicy(r io.Reader) (*Spec, error) {
	head := make([]byte, len(magic)+8)
	if _, err := io.ReadFull(r, head); err != nil {
		return nil, fmt.Errorf("read policy: %w", err)
	}
	size := binary.BigEndian.Uint64(head[len(magic):])
	if string(head[:len(magic)]) != magic || size < uint64(len(head)) || size > maxPolicy {
		return nil, errPolicy
	}
	body, err := io.ReadAll(io.LimitReader(r, int64(size)-int64(len(head))))
	if err != nil {
		return nil, fmt.Errorf("read policy: %w", err)
	}
	if uint64(len(head)+len(body)) != size {
		return nil, errPolicy
	}
	d := decoder{rest: body}
	s := &Spec{Argv: d.list(), Dir: d.one(), Env: d.list(), Write: d.list(), Read: d.list(), Hidden: d.list()}
	for n := d.count(); n > 0 && !d.bad; n-- {
		s.Network = append(s.Network, uint16(d.below(1<<16)))
	}
	s.Light = d.below(2) == 1
	s.Limits = Limits{time.Duration(d.below(1 << 63)), d.num(), d.num(), d.num(), d.num()}
	if d.bad || len(d.rest) > 0 {
		return nil, errPolicy
	}
	return s, s.check()
}

// decoder takes fields off the front; what does not fit makes it bad for good.
type decoder struct {
	rest []byte
	bad  bool
}

func (d *decoder) num() uint64 {
	if len(d.rest) < 8 {
		d.bad, d.rest = true, nil
		return 0
	}
	n := binary.BigEndian.Uint64(d.rest)
	d.rest = d.rest[8:]
	return n
}

func (d *decoder) below(limit uint64) uint64 {
	n := d.num()
	d.bad = d.bad || n >= limit
	return n
}

// count is a length; whatever is counted takes 8 bytes at least.
func (d *decoder) count() uint64 {
	n := d.num()
	if n > uint64(len(d.rest)/8) {
		d.bad = true
		return 0
	}
	return n
}

func (d *decoder) str() string {
	n := d.num()
	if n > uint64(len(d.rest)) {
		d.bad = true
		return ""
	}
	t := string(d.rest[:n])
	d.rest = d.rest[n:]
	return t
}

func (d *decoder) list() (out []string) {
	for n := d.count(); n > 0 && !d.bad; n-- {
		out = append(out, d.str())
	}
	return out
}

func (d *decoder) one() string {
	if l := d.list(); len(l) == 1 {
		return l[0]
	}
	d.bad = true
	return ""
}
