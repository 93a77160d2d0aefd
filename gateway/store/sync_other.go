//go:build !linux

package store

import "os"

// syncData makes a file's content durable. On macOS that is F_FULLFSYNC, which
// alone reaches the medium there.
func syncData(f *os.File) error { return f.Sync() }
