package store

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// ReplaceFile writes a file anywhere, such as the configuration, whole and
// durably, 0600: after a crash it is the old one or the new one. Where path is a
// symbolic link, the file that it leads to is replaced and the link stays.
func ReplaceFile(path string, data []byte) error {
	if real, err := filepath.EvalSymlinks(path); err == nil {
		path = real
	}
	dir, name := filepath.Split(path)
	if dir == "" {
		dir = "."
	}
	d, err := openFolderAt(filepath.Clean(dir))
	if err != nil {
		return err
	}
	defer d.close()
	return d.replace(name, data)
}

// replace puts data in place of the file name: into a file of a random new
// name, synced, renamed, and the directory synced.
func (d *folder) replace(name string, data []byte) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("write %s: %w", filepath.Join(d.path, name), noSpace(err))
		}
	}()
	// A rename would exchange a link or a second name without harm, but what is
	// there is not what we left, and that should be seen.
	if old, _, err := d.open(name, os.O_RDONLY); err == nil {
		old.Close()
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	temp, err := d.stage(name, data, nil)
	if err != nil {
		return err
	}
	if err := d.root.Rename(temp, name); err != nil {
		d.root.Remove(temp)
		return err
	}
	return d.sync()
}

func tempName(name string) string { return "." + name + "." + randomHex(8) + ".tmp" }

// sweep removes what replace left behind when it was killed. The CLI may be
// at work in the same directory, so the young ones stay.
func (d *folder) sweep() {
	names, _ := d.names()
	for _, name := range names {
		if !strings.HasPrefix(name, ".") || !strings.HasSuffix(name, ".tmp") {
			continue
		}
		if fi, err := d.root.Lstat(name); err == nil && fi.Mode().IsRegular() && time.Since(fi.ModTime()) > time.Hour {
			d.root.Remove(name)
		}
	}
}

// names lists the directory.
func (d *folder) names() ([]string, error) {
	dir, err := d.root.Open(".")
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	return dir.Readdirnames(-1)
}

func randomHex(n int) string {
	b := make([]byte, n)
	rand.Read(b) // never fails, says crypto/rand
	return hex.EncodeToString(b)
}

// NewID returns a random UUID (RFC 9562 §5.4), as sessions are named by.
func NewID() string {
	var b [16]byte
	rand.Read(b[:])
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
