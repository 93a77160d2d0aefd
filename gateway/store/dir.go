package store

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
)

var (
	// ErrTooLarge says that a file is larger than its reader allows.
	ErrTooLarge = errors.New("file is too large")
	// ErrNoSpace says that what was to be stored is not: the disk, the quota or
	// the file size limit is used up. What was stored before is untouched.
	ErrNoSpace = errors.New("no space left to store this")

	errReadOnly = errors.New("state directory was opened for reading")
	errClosed   = errors.New("state directory is closed")
)

// Dir is the open state directory. Its methods may be called from any goroutine.
type Dir struct {
	path string
	top  *folder
	lock *os.File // nil when opened for reading

	mu     sync.Mutex // guards what follows; never held across the loading of an index
	agents map[string]*agentSlot
	closed bool
}

// Open makes the state directory where it is missing and locks it for this
// process until Close. It refuses a directory that others own or may enter,
// with the command that repairs it, and returns a *LockedError when another
// gateway holds it.
func Open(path string) (*Dir, error) {
	if err := makeDirs(path); err != nil {
		return nil, fmt.Errorf("make state directory: %w", err)
	}
	top, err := openState(path, false)
	if err != nil {
		return nil, err
	}
	lock, err := acquire(top)
	if err != nil {
		top.close()
		return nil, err
	}
	top.sweep()
	top.removeTree(tempDirs)
	return &Dir{path: path, top: top, lock: lock, agents: map[string]*agentSlot{}}, nil
}

// OpenRead opens an existing state directory without locking it: ReadFile,
// Free and reading the log work beside a running gateway, nothing else does.
// Nothing is changed, not even a mode.
func OpenRead(path string) (*Dir, error) { return openRead(path, false) }

// OpenServiceRead is OpenRead for root looking at the gateway that runs for
// the whole host as a user of its own.
func OpenServiceRead(path string) (*Dir, error) { return openRead(path, true) }

func openRead(path string, service bool) (*Dir, error) {
	top, err := openState(path, service)
	if err != nil {
		return nil, err
	}
	top.look = true
	return &Dir{path: path, top: top}, nil
}

// Path returns the directory's path, for messages and for children.
func (d *Dir) Path() string { return d.path }

// Close stores what is pending in the indexes and gives the lock back.
func (d *Dir) Close() error {
	d.mu.Lock()
	slots := d.agents
	wasClosed := d.closed
	d.agents, d.closed = nil, true
	d.mu.Unlock()
	if wasClosed {
		return nil
	}
	var errs []error
	for _, slot := range slots {
		errs = append(errs, slot.close())
	}
	if d.lock != nil {
		errs = append(errs, release(d.lock))
	}
	d.top.close()
	return errors.Join(errs...)
}

// ReadFile returns a state file of at most limit bytes. The name is a
// slash-separated path below the state directory.
func (d *Dir) ReadFile(name string, limit int64) (data []byte, err error) {
	err = d.in(name, false, func(in *folder, base string) error {
		f, _, err := in.open(base, os.O_RDONLY)
		if err != nil {
			return err
		}
		defer f.Close()
		data, err = readAll(f, limit)
		return err
	})
	return data, err
}

// WriteFile replaces a state file, whole and durably, and makes the directories
// on the way to it.
func (d *Dir) WriteFile(name string, data []byte) error {
	return d.in(name, true, func(in *folder, base string) error { return in.replace(base, data) })
}

// Remove deletes a state file. It is no error if there is none.
func (d *Dir) Remove(name string) error {
	return d.in(name, false, func(in *folder, base string) error {
		if err := in.root.Remove(base); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return in.sync()
	})
}

// Free returns the bytes that this user may still write to the disk.
func (d *Dir) Free() (int64, error) {
	var st syscall.Statfs_t
	if err := syscall.Fstatfs(int(d.top.dir.Fd()), &st); err != nil {
		return 0, os.NewSyscallError("fstatfs", err)
	}
	return spaceOf(&st).Bytes, nil
}

// EnsureWorkspace makes an agent's working directory, 0700, if there is none.
// One that exists belongs to its user and stays as it is.
func (d *Dir) EnsureWorkspace(path string) error {
	return MakeDir(path)
}

// MakeDir makes a directory and its missing parents, 0700. One that exists stays as it is.
func MakeDir(path string) error {
	if err := makeDirs(path); err != nil {
		return fmt.Errorf("make directory: %w", err)
	}
	return nil
}

// in calls fn with the folder that holds name.
func (d *Dir) in(name string, write bool, fn func(in *folder, base string) error) error {
	if write && d.lock == nil {
		return errReadOnly
	}
	if !filepath.IsLocal(name) {
		return fmt.Errorf("state file %q: not a path below the state directory", name)
	}
	sub, base := filepath.Split(filepath.Clean(name))
	if sub == "" {
		return fn(d.top, base)
	}
	in, err := d.top.sub(sub, write)
	if err != nil {
		return err
	}
	defer in.close()
	return fn(in, base)
}

// folder is one open directory. It stays the same directory whatever happens
// to its path.
type folder struct {
	path  string // for messages
	owner int    // whose its files must be
	root  *os.Root
	dir   *os.File                            // the same directory, to sync it
	write func(*os.File, []byte) (int, error) // (*os.File).Write, but for tests
	look  bool                                // no mode is mended here or below
}

func openFolder(root *os.Root, path string) (*folder, error) {
	dir, err := root.Open(".")
	if err != nil {
		root.Close()
		return nil, err
	}
	return &folder{path: path, owner: os.Geteuid(), root: root, dir: dir, write: (*os.File).Write}, nil
}

// openFolderAt opens a directory of which nothing is demanded.
func openFolderAt(path string) (*folder, error) {
	root, err := os.OpenRoot(path)
	if err != nil {
		return nil, err
	}
	return openFolder(root, path)
}

// openState opens the state directory itself and checks whose it is. A symbolic
// link to it is followed; what counts is where it leads. With service set, root
// may open the one of a service's user, and all files in it must be that user's.
func openState(path string, service bool) (*folder, error) {
	d, err := openFolderAt(path)
	if err != nil {
		return nil, fmt.Errorf("open state directory: %w", err)
	}
	fi, err := d.dir.Stat()
	if err == nil && service && os.Geteuid() == 0 && rootPut(path) {
		d.owner = ownerOf(fi)
	}
	if err == nil {
		err = d.checkOwner(fi, path)
	}
	if err == nil && fi.Mode().Perm()&0o077 != 0 {
		err = fmt.Errorf("%s may be entered by others (mode %04o): chmod 700 %s", path, fi.Mode().Perm(), quote(path))
	}
	if err != nil {
		d.close()
		return nil, fmt.Errorf("refused state directory: %w", err)
	}
	return d, nil
}

// rootPut reports whether only root could put the directory in its place, as
// in /var/lib: then its owner is who root wanted it to be, while in a home or
// in /tmp anybody can leave a directory for root to find.
func rootPut(path string) bool {
	fi, err := os.Stat(filepath.Dir(path))
	return err == nil && ownerOf(fi) == 0 && fi.Mode().Perm()&0o022 == 0
}

func (d *folder) close() {
	d.dir.Close()
	d.root.Close()
}

// sync makes the names in the directory durable: a file that was created,
// renamed or removed is so after a power loss too.
func (d *folder) sync() error { return syncDir(d.dir) }

// syncDir tolerates file systems that cannot sync a directory, such as some
// over the network: they have no more to give.
func syncDir(dir *os.File) error {
	if err := dir.Sync(); !errors.Is(err, syscall.EINVAL) && !errors.Is(err, syscall.ENOTSUP) {
		return err
	}
	return nil
}

// sub opens a directory below, made if create is set and it is missing.
// Below a directory that only we may enter a looser mode has harmed nobody
// yet: it is tightened.
func (d *folder) sub(name string, create bool) (*folder, error) {
	at := d
	for part := range strings.SplitSeq(strings.Trim(name, "/"), "/") {
		next, err := at.child(part, create)
		if at != d {
			at.close()
		}
		if err != nil {
			return nil, err
		}
		at = next
	}
	return at, nil
}

func (d *folder) child(name string, create bool) (*folder, error) {
	path := filepath.Join(d.path, name)
	if create {
		err := d.root.Mkdir(name, 0o700)
		if err == nil && d.owner != os.Geteuid() {
			err = d.root.Lchown(name, d.owner, -1) // what root makes there is the owner's, too
		}
		if err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, noSpace(err)
		}
		// Also when it was there: who made it may have died before this.
		if err := d.sync(); err != nil {
			return nil, err
		}
	}
	root, err := d.root.OpenRoot(name)
	if err != nil {
		return nil, err
	}
	c, err := openFolder(root, path)
	if err != nil {
		return nil, err
	}
	c.write, c.owner, c.look = d.write, d.owner, d.look
	fi, err := c.dir.Stat()
	if err == nil {
		err = d.checkName(name, fi)
	}
	if err == nil {
		err = c.checkOwner(fi, path)
	}
	if err == nil && fi.Mode().Perm() != 0o700 && !d.look {
		err = c.dir.Chmod(0o700)
	}
	if err != nil {
		c.close()
		return nil, fmt.Errorf("refused directory: %w", err)
	}
	return c, nil
}

// open is the one way to a state file. The flag is O_RDONLY, O_WRONLY or
// O_RDWR, with O_APPEND, O_CREATE and O_EXCL as needed. What is returned is a
// regular file of ours with no second name, readable by nobody else, and the
// name is its own and no link. A FIFO does not block the open and is refused
// like any other thing in a file's place.
func (d *folder) open(name string, flag int) (f *os.File, created bool, err error) {
	exclusive := flag&os.O_EXCL != 0
	create := flag & (os.O_CREATE | os.O_EXCL)
	flag = flag&^create | syscall.O_NONBLOCK | syscall.O_NOFOLLOW
	err = fs.ErrNotExist
	if !exclusive {
		f, err = d.root.OpenFile(name, flag, 0)
	}
	if !exclusive && errors.Is(err, fs.ErrNotExist) {
		if _, e := d.root.Lstat(name); e == nil {
			return nil, false, fmt.Errorf("refused %s: a symbolic link", filepath.Join(d.path, name))
		}
	}
	if create != 0 && errors.Is(err, fs.ErrNotExist) {
		// Without O_EXCL the file would be made where a dangling link points.
		f, err = d.root.OpenFile(name, flag|os.O_CREATE|os.O_EXCL, 0o600)
		if created = err == nil; created && d.owner != os.Geteuid() {
			err = f.Chown(d.owner, -1)
		}
	}
	if err != nil {
		return nil, false, noSpace(err)
	}
	if err := d.check(f, name); err != nil {
		f.Close()
		return nil, false, err
	}
	return f, created, nil
}

func (d *folder) check(f *os.File, name string) error {
	path := filepath.Join(d.path, name)
	fi, err := f.Stat()
	if err != nil {
		return err
	}
	if !fi.Mode().IsRegular() {
		return fmt.Errorf("refused %s: not a regular file", path)
	}
	if err := d.checkOwner(fi, path); err != nil {
		return fmt.Errorf("refused state file: %w", err)
	}
	if n := links(fi); n != 1 {
		return fmt.Errorf("refused %s: the file has %d names, another path leads to it", path, n)
	}
	if err := d.checkName(name, fi); err != nil {
		return err
	}
	if fi.Mode().Perm() != 0o600 && !d.look {
		return f.Chmod(0o600)
	}
	return nil
}

// checkName reports whether name is what was opened, and not a link to it:
// os.Root follows links that stay inside the root.
func (d *folder) checkName(name string, opened fs.FileInfo) error {
	fi, err := d.root.Lstat(name)
	if err != nil {
		return err
	}
	if !os.SameFile(fi, opened) {
		return fmt.Errorf("refused %s: a symbolic link or exchanged while it was opened", filepath.Join(d.path, name))
	}
	return nil
}

// readAll reads an open file of at most limit bytes.
func readAll(f *os.File, limit int64) ([]byte, error) {
	fi, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if fi.Size() > limit {
		return nil, fmt.Errorf("%s: %w: more than %d bytes", f.Name(), ErrTooLarge, limit)
	}
	data := make([]byte, 0, fi.Size()+1)
	for { // a file in /proc has size 0 and yet content, a log grows meanwhile
		n, err := f.Read(data[len(data):cap(data)])
		data = data[:len(data)+n]
		switch {
		case int64(len(data)) > limit:
			return nil, fmt.Errorf("%s: %w: more than %d bytes", f.Name(), ErrTooLarge, limit)
		case err == io.EOF:
			return data, nil
		case err != nil:
			return nil, err
		case len(data) == cap(data):
			data = append(data, 0)[:len(data)]
		}
	}
}

// makeDirs makes a directory and its missing parents, each 0700.
func makeDirs(path string) error {
	fi, err := os.Stat(path)
	if err == nil && !fi.IsDir() {
		return &fs.PathError{Op: "mkdir", Path: path, Err: syscall.ENOTDIR}
	}
	if err == nil || !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	parent := filepath.Dir(path)
	if err := makeDirs(parent); err != nil {
		return err
	}
	if err := os.Mkdir(path, 0o700); err != nil {
		if errors.Is(err, fs.ErrExist) { // somebody else was faster
			return nil
		}
		return err
	}
	if err := os.Chmod(path, 0o700); err != nil {
		return err
	}
	return syncPath(parent)
}

func syncPath(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	return syncDir(f)
}

func ownerOf(fi fs.FileInfo) int { return int(fi.Sys().(*syscall.Stat_t).Uid) }

func links(fi fs.FileInfo) uint64 { return uint64(fi.Sys().(*syscall.Stat_t).Nlink) }

func (d *folder) checkOwner(fi fs.FileInfo, path string) error {
	uid := ownerOf(fi)
	switch {
	case uid == d.owner:
	case d.owner != os.Geteuid():
		return fmt.Errorf("%s belongs to uid %d, its directory to uid %d", path, uid, d.owner)
	default:
		return fmt.Errorf("%s belongs to uid %d, this process is uid %d: sudo chown -R %d %s",
			path, uid, d.owner, d.owner, quote(path))
	}
	return nil
}

// noSpace makes an error of a full disk, quota or file size limit an ErrNoSpace.
func noSpace(err error) error {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) || errors.Is(err, syscall.EFBIG) {
		return fmt.Errorf("%w: %w", ErrNoSpace, err)
	}
	return err
}

// quote makes a path one word of a shell command.
func quote(path string) string {
	if path != "" && !strings.ContainsAny(path, " \t\n\"'`\\$&|;<>(){}[]*?~#!") {
		return path
	}
	return "'" + strings.ReplaceAll(path, "'", `'\''`) + "'"
}
