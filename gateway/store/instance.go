package store

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"
)

// Instance is what a running gateway tells the CLI of the same user.
type Instance struct {
	PID        int    `json:"pid"`
	Port       int    `json:"port,omitempty"`
	Addr       string `json:"addr,omitempty"` // host:port to dial
	TLS        bool   `json:"tls,omitempty"`
	Version    string `json:"version,omitempty"`
	StartedAt  int64  `json:"startedAt,omitempty"` // milliseconds since 1970
	ConfigPath string `json:"configPath,omitempty"`
	CLIKey     string `json:"cliKey,omitempty"` // random per start, accepted only from loopback
}

// Publish writes the record that ReadInstance returns, in the lock file itself.
// A zero PID becomes this process's.
func (d *Dir) Publish(i Instance) error {
	if d.lock == nil {
		return errReadOnly
	}
	if i.PID == 0 {
		i.PID = os.Getpid()
	}
	if err := writeInstance(d.lock, i); err != nil {
		return fmt.Errorf("publish instance: %w", err)
	}
	return nil
}

// ReadInstance tells whether a gateway holds the state directory at path, and
// what it published. A state directory or lock that is missing is held by nobody;
// one that fails the checks of Open is an error, so that the CLI never sends a
// secret to an address that somebody else wrote down.
func ReadInstance(path string) (i Instance, running bool, err error) {
	return readInstanceIn(path, false)
}

// ReadServiceInstance is ReadInstance for root looking at the gateway that runs
// for the whole host as a user of its own.
func ReadServiceInstance(path string) (i Instance, running bool, err error) {
	return readInstanceIn(path, true)
}

func readInstanceIn(path string, service bool) (i Instance, running bool, err error) {
	top, err := openState(path, service)
	if errors.Is(err, fs.ErrNotExist) {
		return Instance{}, false, nil
	} else if err != nil {
		return Instance{}, false, err
	}
	defer top.close()
	top.look = true
	f, _, err := top.open(lockName, os.O_RDONLY)
	if errors.Is(err, fs.ErrNotExist) {
		return Instance{}, false, nil
	} else if err != nil {
		return Instance{}, false, err
	}
	defer f.Close()
	switch err := flock(f, syscall.LOCK_SH|syscall.LOCK_NB); {
	case err == nil:
		return Instance{}, false, flock(f, syscall.LOCK_UN)
	case errors.Is(err, syscall.EWOULDBLOCK):
		return readInstance(f), true, nil
	default:
		return Instance{}, false, err
	}
}

// writeInstance overwrites and then cuts, so that a reader at any moment finds
// a whole record at the start, perhaps with the rest of an older one behind it.
func writeInstance(f *os.File, i Instance) error {
	data, err := encode(i)
	if err != nil {
		return err
	}
	data = append(data, '\n')
	if _, err := f.WriteAt(data, 0); err != nil {
		return noSpace(err)
	}
	return f.Truncate(int64(len(data)))
}

// readInstance returns the record, zero where it cannot be read: who holds the
// lock does not depend on it.
func readInstance(f *os.File) (i Instance) {
	if json.NewDecoder(io.NewSectionReader(f, 0, 1<<16)).Decode(&i) != nil {
		return Instance{}
	}
	return i
}
