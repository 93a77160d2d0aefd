package store

import (
	"fmt"
	"io/fs"
	"os"
	"syscall"
)

// ReadSecretFile reads a file that holds a secret, of at most limit bytes.
// Symbolic links are followed; where they lead must be a regular file of ours
// that nobody else may read. A file of root's may be readable by a group: that is
// how system services get theirs. Others are refused with the command that repairs them.
func ReadSecretFile(path string, limit int64) ([]byte, error) {
	return ReadConfigFile(path, limit, true)
}

// ReadConfigFile reads a configuration file, or with secret a secret's file. A
// configuration may be readable by all, but only root and we may write it.
func ReadConfigFile(path string, limit int64, secret bool) ([]byte, error) {
	// Without O_NONBLOCK the open of a FIFO waits for a writer.
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	fi, err := f.Stat()
	if err == nil {
		err = checkReader(fi, path, secret)
	}
	if err != nil {
		return nil, err
	}
	return readAll(f, limit)
}

func checkReader(fi fs.FileInfo, path string, secret bool) error {
	if !fi.Mode().IsRegular() {
		return fmt.Errorf("refused %s: not a regular file", path)
	}
	uid, mode := ownerOf(fi), fi.Mode().Perm()
	if uid != os.Geteuid() && uid != 0 {
		return fmt.Errorf("refused %s: it belongs to uid %d: sudo chown %d %s", path, uid, os.Geteuid(), quote(path))
	}
	refuse := fs.FileMode(0o022)
	if secret {
		refuse = 0o077
		if uid != os.Geteuid() {
			refuse = 0o037
		}
	}
	if mode&refuse == 0 {
		return nil
	}
	what := "others may change it"
	if secret && mode&0o022 == 0 {
		what = "others may read it"
	}
	return &LooseError{path, fmt.Sprintf("refused %s: %s (mode %04o): chmod 600 %s", path, what, mode, quote(path))}
}

// LooseError refuses a file for its mode, which Tighten mends.
type LooseError struct{ Path, text string }

func (e *LooseError) Error() string { return e.text }
