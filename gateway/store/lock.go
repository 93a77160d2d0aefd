package store

import (
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"
)

const lockName = "gateway.lock"

// LockedError says that another process holds the state directory.
type LockedError struct {
	Path     string
	Instance Instance // what the holder published; zero if nothing yet
}

func (e *LockedError) Error() string {
	by := "another gateway"
	if e.Instance.PID != 0 {
		by = fmt.Sprintf("a gateway with pid %d", e.Instance.PID)
	}
	if e.Instance.Port != 0 {
		by += fmt.Sprintf(" on port %d", e.Instance.Port)
	}
	return fmt.Sprintf("state directory %s is in use by %s", e.Path, by)
}

// acquire locks a state directory. The lock is the kernel's and goes with the
// process; the file's text is for people and the CLI, and is never believed
// about whether somebody is running.
func acquire(top *folder) (*os.File, error) {
	f, _, err := top.open(lockName, os.O_RDWR|os.O_CREATE)
	if err != nil {
		return nil, fmt.Errorf("open lock: %w", err)
	}
	// ReadInstance in a CLI holds the lock for an instant. Only who still has
	// it after several tries is a gateway.
	for try := 0; ; try++ {
		if err = flock(f, syscall.LOCK_EX|syscall.LOCK_NB); err == nil || !errors.Is(err, syscall.EWOULDBLOCK) || try == 10 {
			break
		}
		time.Sleep(2 * time.Millisecond)
	}
	if err == nil {
		err = writeInstance(f, Instance{PID: os.Getpid()})
	} else if errors.Is(err, syscall.EWOULDBLOCK) {
		err = &LockedError{Path: top.path, Instance: readInstance(f)}
	} else {
		err = fmt.Errorf("lock state directory %s: %w", top.path, err)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// release empties the record and unlocks. The file stays: a lock file that is
// removed can be locked by two, one of them holding the old inode. Unlocking
// comes before closing, for a child between fork and exec has the descriptor too.
func release(f *os.File) error {
	err := f.Truncate(0)
	return errors.Join(err, flock(f, syscall.LOCK_UN), f.Close())
}

func flock(f *os.File, how int) error {
	for {
		if err := syscall.Flock(int(f.Fd()), how); err != syscall.EINTR {
			return os.NewSyscallError("flock", err)
		}
	}
}
