// Package proc is what the operating system tells of processes: who listens on
// a port, how a process may end it, and what bounds and walls a process has. On
// Linux all of it comes from /proc (holder_linux.go, facts_linux.go); elsewhere
// from lsof, by absolute path, and what that cannot tell is not known.
package proc

import (
	"cmp"
	"fmt"
	"slices"
	"sort"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Holder is a process that listens on a port. What cannot be known is zero.
type Holder struct {
	Port int
	PID  int
	Name string
	UID  int // -1 = unknown
}

func (h Holder) String() string {
	switch {
	case h.PID == 0 && h.UID >= 0:
		return "a process of uid " + strconv.Itoa(h.UID) + " (name unknown)"
	case h.PID == 0:
		return "an unknown process"
	case h.Name == "":
		return "pid " + strconv.Itoa(h.PID)
	}
	return fmt.Sprintf("pid %d (%s)", h.PID, h.Name)
}

// PortName is what a process calls itself that serves a port and lets nobody
// look at its descriptors; the kernel keeps 15 bytes.
func PortName(port int) string { return "openclaw:" + strconv.Itoa(port) }

// Holders finds who listens on the TCP ports from first to last, on whatever
// address, in the order of ports.
func Holders(first, last int) ([]Holder, error) {
	hs, err := findHolders(first, last)
	sort.SliceStable(hs, func(i, j int) bool {
		a, b := &hs[i], &hs[j]
		return cmp.Or(a.Port-b.Port, a.PID-b.PID, a.UID-b.UID) < 0
	})
	return slices.Compact(hs), err
}

// HolderOf names who listens on a port.
func HolderOf(port int) string {
	hs, err := Holders(port, port)
	if err != nil || len(hs) == 0 {
		return "an unknown process"
	}
	words := make([]string, len(hs))
	for i, h := range hs {
		words[i] = h.String()
	}
	return strings.Join(words, " and ")
}

// EndHolders ends the processes that listen on a port, politely and then not,
// and returns those that it ended. It touches only processes of this user that
// it can name for certain, and never this one, an ancestor or a supervisor.
func EndHolders(port int, grace time.Duration) (ended []Holder, err error) {
	hs, err := Holders(port, port)
	if err != nil {
		return nil, err
	}
	if len(hs) == 0 {
		return nil, fmt.Errorf("found no process that listens on it")
	}
	for _, h := range hs {
		if err := mayEnd(h); err != nil {
			return ended, err
		}
	}
	for _, h := range hs {
		if err := end(h, grace); err != nil {
			return ended, fmt.Errorf("end %s: %w", h, err)
		}
		ended = append(ended, h)
	}
	return ended, nil
}

// name makes a process's name fit for a line: it may be anything.
func name(s string) string {
	s = strings.TrimSpace(s)
	return strings.Map(func(r rune) rune {
		if r == utf8.RuneError || !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, s[:min(len(s), 32)])
}
