package store

import (
	"errors"
	"fmt"
	"io"
	"os"
)

// appender is an open file that grows by whole lines. Its owner serialises calls.
type appender struct {
	f     *os.File
	write func(*os.File, []byte) (int, error)
	sync  func(*os.File) error // nil for a file that need not survive a power loss
	size  int64                // bytes that were acknowledged; what lies behind is cut
	torn  bool                 // something may lie behind and could not be cut
}

// append adds p with one write and, if there is a sync, makes it durable. When
// that fails the file is cut back to what it was, so that no torn line stands
// before the next one. After a failed sync the kernel may have dropped the
// pages and called them clean: only cutting and writing anew is safe.
func (a *appender) append(p []byte) error {
	if a.torn {
		if err := a.cut(); err != nil {
			return fmt.Errorf("cut torn line: %w", noSpace(err))
		}
	}
	err := writeAll(a.write, a.f, p)
	if err == nil && a.sync != nil {
		err = a.sync(a.f)
	}
	if err != nil {
		return errors.Join(noSpace(err), a.cut())
	}
	a.size += int64(len(p))
	return nil
}

func writeAll(write func(*os.File, []byte) (int, error), f *os.File, p []byte) error {
	n, err := write(f, p)
	if err == nil && n < len(p) {
		err = io.ErrShortWrite
	}
	return err
}

func (a *appender) cut() error {
	err := a.f.Truncate(a.size)
	a.torn = err != nil
	return err
}
