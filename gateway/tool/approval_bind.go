package tool

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

const (
	maxBound      = 256 << 20 // bytes of one file that is bound by its content
	maxBoundFiles = 64
	maxWords      = 8192 // of a command that are looked at
)

// bind returns the hash that an approval holds for, and the files named by the
// command: program, arguments, environment, directory, walls, and of each file
// its path, device, inode, size, times and content. A change of any of them
// makes another hash. What a program looks for by itself, a Makefile say, is
// not bound; it is not among files, which a person is shown.
func (j *job) bind() (sum string, files []string, err error) {
	h := &binder{sha256.New()}
	h.text("openclaw exec 1")
	h.texts(j.argv)
	h.texts(j.env[:len(j.env)-1]) // the last is TMPDIR, another one each time
	h.number(uint64(map[bool]int{true: 1}[j.sandboxed]))
	real, err := filepath.EvalSymlinks(j.dir)
	if err != nil {
		return "", nil, err
	}
	fi, err := os.Lstat(real)
	if err != nil {
		return "", nil, err
	}
	h.text(real) // j.dir, unless a link has come into it
	if err := h.stat(fi); err != nil {
		return "", nil, err
	}
	if err := h.file(j.argv[0]); err != nil {
		return "", nil, fmt.Errorf("bind the approval to the program: %w", err)
	}
	named, err := j.namedFiles()
	if err != nil {
		return "", nil, err
	}
	h.number(uint64(len(named)))
	for _, path := range named {
		if err := h.file(path); err != nil {
			return "", nil, fmt.Errorf("bind the approval to %s: %w", Quote(path), err)
		}
		files = append(files, Quote(path))
	}
	return hex.EncodeToString(h.Sum(nil)), files, nil
}

// namedFiles are the regular files that words of the arguments name: scripts
// and what they are to work on, whichever the program makes of them.
func (j *job) namedFiles() (files []string, err error) {
	seen, words := map[string]bool{"": true}, 0
	look := func(word string) {
		if words++; seen[word] || words > maxWords || len(word) > maxPath {
			return
		}
		seen[word] = true
		path := word
		if !filepath.IsAbs(path) {
			path = filepath.Join(j.dir, path)
		}
		if fi, err := os.Stat(path); err == nil && fi.Mode().IsRegular() {
			files = append(files, path)
		}
	}
	for _, arg := range j.argv[1:] {
		look(arg)
		for _, word := range strings.FieldsFunc(arg, func(r rune) bool { return strings.ContainsRune(" \t\n;|&<>(){}$\"'`=,", r) }) {
			look(word)
		}
	}
	if words > maxWords || len(files) > maxBoundFiles {
		return nil, errors.New("the command names too many files to bind an approval to them; put it into a script")
	}
	return files, nil
}

// binder is a hash of values that cannot be confused with each other.
type binder struct{ hash.Hash }

func (b *binder) number(n uint64) { b.Write(binary.BigEndian.AppendUint64(nil, n)) }
func (b *binder) text(s string)   { b.number(uint64(len(s))); io.WriteString(b, s) }
func (b *binder) texts(list []string) {
	b.number(uint64(len(list)))
	for _, s := range list {
		b.text(s)
	}
}

// stat adds which file it is.
func (b *binder) stat(fi os.FileInfo) error {
	st, ok := fi.Sys().(*syscall.Stat_t)
	if !ok {
		return errors.New("this system does not tell one file from another")
	}
	b.number(uint64(st.Dev))
	b.number(uint64(st.Ino))
	return nil
}

// file adds a file with its content.
func (b *binder) file(path string) error {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	fi, err := f.Stat()
	switch {
	case err != nil:
		return err
	case !fi.Mode().IsRegular():
		return errors.New("is not a regular file")
	case fi.Size() > maxBound:
		return tooBig(fi.Size(), maxBound)
	}
	b.text(path)
	if err := b.stat(fi); err != nil {
		return err
	}
	b.number(uint64(fi.Size()))
	b.number(uint64(fi.ModTime().UnixNano()))
	n, err := io.Copy(b, io.LimitReader(f, maxBound+1))
	if err == nil && n != fi.Size() {
		err = errors.New("changes while it is read")
	}
	return err
}
