package store

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// A tree is a directory of other people's files below the state directory. It
// comes whole and is never changed. Its MANIFEST is what sha256sum(1) would
// write, in order, so that the SHA-256 of that one file stands for all.

const (
	manifestFile = "MANIFEST"
	maxTree      = 20_000    // files
	maxTreeBytes = 512 << 20 // of all of them
)

// PlaceTree has fill make the files of a tree in a new directory and puts that
// in the place of name below the state directory, which may be a running
// gateway's. The files of aside are not in the manifest. accept judges the
// manifest's SHA-256; when it or fill refuses, nothing has changed.
func PlaceTree(ctx context.Context, state, name string, aside []string, fill func(dir string) error, accept func(sum string) error) error {
	if err := MakeDir(state); err != nil {
		return err
	}
	top, err := openState(state, true)
	if err != nil {
		return err
	}
	defer top.close()
	parent, base := path.Split(name)
	in, err := top.sub(parent, true)
	if err != nil {
		return err
	}
	defer in.close()
	in.sweepTrees(base)
	temp := tempName(base)
	if err := in.root.Mkdir(temp, 0o700); err != nil {
		return noSpace(err)
	}
	defer in.removeTree(temp)
	if err := fill(filepath.Join(state, parent, temp)); err != nil {
		return err
	}
	root, err := in.root.OpenRoot(temp)
	if err != nil {
		return err
	}
	defer root.Close()
	err = fs.WalkDir(root.FS(), ".", func(name string, e fs.DirEntry, err error) error {
		mode := fs.FileMode(0o600)
		switch {
		case err != nil || ctx.Err() != nil:
			return errors.Join(err, ctx.Err())
		case e.IsDir():
			mode = 0o700
		case !e.Type().IsRegular():
			return fmt.Errorf("%s is no regular file", name)
		}
		if err := root.Chmod(name, mode); err != nil {
			return err
		}
		return root.Lchown(name, in.owner, -1)
	})
	if err != nil {
		return err
	}
	manifest, err := treeManifest(ctx, root, aside)
	if err == nil {
		err = accept(sumOf(manifest))
	}
	if err != nil {
		return err
	}
	f, err := root.OpenFile(manifestFile, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.Write(manifest); err != nil {
		return noSpace(err)
	}
	if err := errors.Join(f.Sync(), root.Lchown(manifestFile, in.owner, -1)); err != nil {
		return err
	}
	old := tempName(base)
	if err := in.root.Rename(base, old); err == nil {
		defer in.removeTree(old)
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := in.root.Rename(temp, base); err != nil {
		return err
	}
	return in.sync()
}

// sweepTrees removes what a PlaceTree that was killed left behind.
func (d *folder) sweepTrees(base string) {
	names, _ := d.names()
	for _, name := range names {
		if fi, err := d.root.Lstat(name); err == nil && strings.HasPrefix(name, "."+base+".") && time.Since(fi.ModTime()) > time.Hour {
			d.removeTree(name)
		}
	}
}

// CheckTree reads all of a tree, whose manifest has this SHA-256, and names the
// first file that is not as it was placed. A tree that is missing is fs.ErrNotExist.
// It returns the tree's path without symbolic links.
func CheckTree(ctx context.Context, state, name, sum string, aside []string) (string, error) {
	dir, err := filepath.EvalSymlinks(filepath.Join(state, filepath.FromSlash(name)))
	if err != nil {
		return "", err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return "", err
	}
	defer root.Close()
	f, err := root.Open(manifestFile)
	if err != nil {
		return "", fmt.Errorf("%s: %w", dir, err)
	}
	defer f.Close()
	manifest, err := readAll(f, maxTree*1024)
	if err != nil {
		return "", err
	}
	if sumOf(manifest) != sum {
		return "", fmt.Errorf("%s is not the one of this version", filepath.Join(dir, manifestFile))
	}
	now, err := treeManifest(ctx, root, aside)
	if err != nil {
		return "", fmt.Errorf("%s: %w", dir, err)
	}
	if bytes.Equal(now, manifest) {
		return dir, nil
	}
	return "", fmt.Errorf("%s: %s", dir, treeDiff(manifest, now))
}

// treeDiff says how the first file differs that does.
func treeDiff(was, is []byte) string {
	list := func(text []byte) (names []string, sums map[string]string) {
		sums = map[string]string{}
		for line := range strings.Lines(string(text)) {
			sum, name, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "  ")
			names, sums[name] = append(names, name), sum
		}
		return names, sums
	}
	wasNames, wasSums := list(was)
	isNames, isSums := list(is)
	names := append(wasNames, isNames...)
	slices.Sort(names)
	for _, name := range names {
		switch {
		case isSums[name] == "":
			return name + " is missing"
		case wasSums[name] == "":
			return name + " was added"
		case wasSums[name] != isSums[name]:
			return name + " was changed"
		}
	}
	return "the files are in another order"
}

// treeManifest hashes every file of a tree but the manifest and those of aside.
func treeManifest(ctx context.Context, root *os.Root, aside []string) ([]byte, error) {
	var out bytes.Buffer
	files, left := 0, int64(maxTreeBytes)
	buf := bufio.NewWriterSize(nil, 64<<10)
	err := fs.WalkDir(root.FS(), ".", func(name string, e fs.DirEntry, err error) error {
		switch {
		case err != nil || ctx.Err() != nil:
			return errors.Join(err, ctx.Err())
		case e.IsDir() || name == manifestFile || slices.Contains(aside, name):
			return nil
		case !e.Type().IsRegular() || strings.ContainsAny(name, "\n\\"):
			return fmt.Errorf("%q is no regular file with a plain name", name)
		}
		if files++; files > maxTree {
			return fmt.Errorf("more than %d files", maxTree)
		}
		f, err := root.Open(name)
		if err != nil {
			return err
		}
		defer f.Close()
		h := sha256.New()
		buf.Reset(h)
		n, err := io.Copy(buf, io.LimitReader(f, left+1))
		if err != nil {
			return err
		}
		buf.Flush()
		if left -= n; left < 0 {
			return fmt.Errorf("more than %d bytes", maxTreeBytes)
		}
		fmt.Fprintf(&out, "%x  %s\n", h.Sum(nil), name)
		return nil
	})
	return out.Bytes(), err
}

func sumOf(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// Empty removes what is in a directory below the state directory.
func (d *Dir) Empty(name string) error {
	return d.in(name+"/x", true, func(in *folder, _ string) error {
		names, err := in.names()
		for _, n := range names {
			err = errors.Join(err, in.removeTree(n))
		}
		return err
	})
}
