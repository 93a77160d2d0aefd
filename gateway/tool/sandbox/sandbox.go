// Package sandbox runs a program behind kernel walls. Command re-executes this
// binary as a keeper (keeper_linux.go), which builds the walls from a policy
// that it reads from a socket pair, starts the program inside them, and stays:
// it ends every descendant when the program ends, when the caller's context
// does, or when the caller dies.
//
// The walls, outermost first (Linux 6.12, amd64 and arm64): resource limits,
// no capabilities, no new privileges, Landlock for files, TCP ports and signals
// (landlock_linux.go), a seccomp list of the system calls that exist at all
// (filter_linux.go), and a guard that judges what Landlock does not: modes,
// owners and times of files (guard_linux.go). A wall that cannot be built is a
// refusal, never a weaker sandbox. Probe tries each from inside.
//
// On macOS the walls are a profile of sandbox-exec(1) (profile.go); on other
// systems Command refuses.
package sandbox

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// ExitRefused is the exit code of a command that was not run because a wall
// could not be built or the program could not be executed; stderr says why.
const ExitRefused = 125

// From the end of the context to SIGTERM for the whole tree nothing passes, to
// SIGKILL termGrace. After waitDelay the caller ends the keeper itself: far
// longer than ending a tree takes on a busy host, for nobody ends a tree whose
// keeper is gone.
const (
	termGrace = time.Second
	waitDelay = 30 * time.Second
)

// Spec is what a child may do. The zero value may do nothing.
type Spec struct {
	Argv    []string // exact; the first is an absolute path
	Dir     string   // working directory
	Env     []string // exact, NAME=value
	Write   []string // directories in which it may do anything but make devices and sockets
	Read    []string // files and directories that it may read and execute, beside the system's own
	Network []uint16 // TCP ports that it may connect to, at any address; none = no network at all
	Light   bool     // sandbox off: everything is open but Hidden and what belongs to other processes
	Hidden  []string // Light: directories closed to it, Write excepted
	Limits  Limits
}

// Limits bound each process of the child (setrlimit(2)), and the number of them;
// zero is no limit of ours.
type Limits struct {
	CPU          time.Duration // rounded up to seconds
	AddressSpace uint64        // bytes
	FileSize     uint64        // bytes
	Processes    uint64        // and threads, of the whole tree (Linux)
	Descriptors  uint64
}

// Layer is one wall as Probe found it.
type Layer struct {
	Name   string `json:"name"`
	On     bool   `json:"on"`
	Detail string `json:"detail"` // what was tried, or why it is off
}

// Layers are all walls, in the order in which they are built.
type Layers []Layer

// Err is nil if every wall stands, else it names those that do not.
func (l Layers) Err() error {
	var off []string
	for _, x := range l {
		if !x.On {
			off = append(off, x.Name+": "+x.Detail)
		}
	}
	if len(l) == 0 || len(off) > 0 {
		return errors.New("the sandbox is not available: " + strings.Join(off, "; "))
	}
	return nil
}

// Command returns a command that runs s.Argv behind the walls, yet to be
// started; its caller sets stdin, stdout and stderr. When ctx ends, the whole
// tree gets SIGTERM, a second later SIGKILL; whatever the program leaves behind
// when it ends by itself is killed at once. End it by its context: a SIGKILL to
// the command's own process reaches the program, but not the program's children.
// The context must end even if the command is never started.
func Command(ctx context.Context, s Spec) (*exec.Cmd, error) {
	if err := s.check(); err != nil {
		return nil, fmt.Errorf("sandbox: %w", err)
	}
	cmd := exec.CommandContext(ctx, s.Argv[0])
	cmd.WaitDelay = waitDelay
	if err := enclosed(ctx, cmd, &s); err != nil {
		return nil, fmt.Errorf("sandbox: %w", err)
	}
	return cmd, nil
}

// check refuses what could mean something else than it says.
func (s *Spec) check() error {
	if len(s.Argv) == 0 {
		return errors.New("no program")
	}
	paths := slices.Concat([]string{s.Argv[0], s.Dir}, s.Write, s.Read, s.Hidden)
	for _, p := range paths {
		if !filepath.IsAbs(p) || filepath.Clean(p) != p {
			return fmt.Errorf("%q is not an absolute, clean path", p)
		}
	}
	for _, w := range slices.Concat(paths, s.Argv, s.Env) {
		if strings.ContainsRune(w, 0) {
			return errors.New("a NUL byte in a path, an argument or the environment")
		}
	}
	for _, e := range s.Env {
		if strings.IndexByte(e, '=') < 1 {
			return fmt.Errorf("environment: %q is not NAME=value", e)
		}
	}
	for _, p := range s.Write {
		if p == "/" {
			return errors.New("the whole file system cannot be given to write in")
		}
	}
	if s.Limits.CPU < 0 {
		return errors.New("negative CPU time")
	}
	if slices.Contains(s.Network, 0) {
		return errors.New("network: ports are 1 to 65535")
	}
	return nil
}
