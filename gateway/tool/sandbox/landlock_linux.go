package sandbox

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// needABI is the first version of Landlock that confines signals (Linux 6.12).
// Earlier ones leave the gateway to be stopped by its own children.
const needABI = 6

// Rights of Landlock. Files take only those that files can have.
const (
	accessRead = unix.LANDLOCK_ACCESS_FS_EXECUTE | unix.LANDLOCK_ACCESS_FS_READ_FILE | unix.LANDLOCK_ACCESS_FS_READ_DIR
	accessAll  = 1<<16 - 1 // of ABI 6
	accessFile = unix.LANDLOCK_ACCESS_FS_EXECUTE | unix.LANDLOCK_ACCESS_FS_READ_FILE | unix.LANDLOCK_ACCESS_FS_WRITE_FILE | unix.LANDLOCK_ACCESS_FS_TRUNCATE | unix.LANDLOCK_ACCESS_FS_IOCTL_DEV
	accessDev  = unix.LANDLOCK_ACCESS_FS_READ_FILE | unix.LANDLOCK_ACCESS_FS_WRITE_FILE
	// accessWrite leaves out devices and sockets, which nothing in a workspace needs.
	accessWrite = accessAll &^ (unix.LANDLOCK_ACCESS_FS_MAKE_CHAR | unix.LANDLOCK_ACCESS_FS_MAKE_BLOCK | unix.LANDLOCK_ACCESS_FS_MAKE_SOCK | unix.LANDLOCK_ACCESS_FS_IOCTL_DEV)
)

// system is what programs read of the host. Of /etc it is a short list, for the
// rest holds secrets; of /proc only figures about the machine, for the rest
// tells of other processes.
var system = []string{
	"/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/nix/store", "/gnu/store", "/run/current-system",
	"/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d", "/etc/ld-musl-x86_64.path", "/etc/ld-musl-aarch64.path",
	"/etc/alternatives", "/etc/passwd", "/etc/group", "/etc/nsswitch.conf", "/etc/localtime", "/etc/timezone", "/etc/os-release",
	"/etc/hosts", "/etc/host.conf", "/etc/resolv.conf", "/etc/gai.conf", "/etc/protocols", "/etc/services", "/etc/mime.types",
	"/etc/ssl/certs", "/etc/ssl/cert.pem", "/etc/ssl/openssl.cnf", "/etc/ca-certificates", "/etc/pki/tls/certs", "/etc/pki/tls/cert.pem",
	"/etc/pki/tls/openssl.cnf", "/etc/pki/ca-trust/extracted", "/etc/crypto-policies", "/etc/terminfo", "/etc/perl", "/etc/java", "/etc/inputrc", "/etc/magic", "/etc/gitconfig",
	"/proc/cpuinfo", "/proc/meminfo", "/proc/stat", "/proc/uptime", "/proc/loadavg", "/proc/version", "/proc/filesystems",
	"/proc/sys/vm/overcommit_memory", "/sys/devices/system/cpu", "/dev/urandom", "/dev/random",
}

// rules builds the Landlock ruleset of a child.
func rules(s *Spec) (fd int, err error) {
	attr := unix.LandlockRulesetAttr{Access_fs: accessAll, Scoped: unix.LANDLOCK_SCOPE_SIGNAL}
	if !s.Light {
		attr.Scoped |= unix.LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET
		attr.Access_net = unix.LANDLOCK_ACCESS_NET_BIND_TCP | unix.LANDLOCK_ACCESS_NET_CONNECT_TCP
	}
	if fd, err = landlockRuleset(attr); err != nil {
		return 0, err
	}
	given := func(paths []string, access uint64) {
		for _, p := range paths {
			if err == nil {
				err = allowPath(fd, p, access, true)
			}
		}
	}
	given(s.Write, accessWrite)
	if s.Light {
		if err == nil {
			err = allowAround(fd, "/", s.Hidden)
		}
		return fd, err
	}
	given(s.Read, accessRead)
	given([]string{"/dev/null", "/dev/zero", "/dev/full"}, accessDev)
	for _, p := range system {
		if err == nil {
			if err = allowPath(fd, p, accessRead, false); errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EACCES) {
				err = nil
			}
		}
	}
	for _, port := range s.Network {
		if err == nil {
			err = landlockPort(fd, port)
		}
	}
	return fd, err
}

// allowPath adds a rule for a path. Those of a Spec are exact, they may not
// lead over symbolic links: a child that may write in the directory of one could
// point it elsewhere for the next child. What was opened is asked for its name:
// openat2, which could refuse links, does not exist under RestrictSUIDSGID= of
// systemd.exec(5).
func allowPath(ruleset int, path string, access uint64, exact bool) error {
	fd, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: path, Err: err}
	}
	defer unix.Close(fd)
	if exact {
		if name, err := nameOf(fd); err != nil || name != path {
			return &os.PathError{Op: "open", Path: path, Err: unix.ELOOP}
		}
	}
	return allow(ruleset, fd, path, access)
}

// nameOf is the name that the kernel has for what is open as fd.
func nameOf(fd int) (string, error) { return os.Readlink(inSelf(fd)) }

// inSelf is a path to what is open as fd.
func inSelf(fd int) string { return "/proc/self/fd/" + strconv.Itoa(fd) }

func allow(ruleset, fd int, path string, access uint64) error {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return &os.PathError{Op: "stat", Path: path, Err: err}
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFLNK:
		return nil // rights go by what it leads to
	case unix.S_IFDIR:
	default:
		access &= accessFile
	}
	if err := landlockPath(ruleset, fd, access); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

// allowAround opens everything under dir but what is hidden. Landlock only
// gives: a right on a directory is one on all that lies under it, now and later.
// So the directories that lead to a hidden one may be listed and no more, and
// each of their other entries is opened by itself. What is created in such a
// directory later stays closed to the child.
func allowAround(ruleset int, dir string, hidden []string) error {
	leads := false
	for _, h := range hidden {
		if h == dir {
			return nil
		}
		leads = leads || within(h, dir)
	}
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EACCES) {
			return nil // gone since it was listed, or closed to this user anyway
		}
		return &os.PathError{Op: "open", Path: dir, Err: err}
	}
	defer unix.Close(fd)
	if !leads {
		return allow(ruleset, fd, dir, accessAll)
	}
	if err := allow(ruleset, fd, dir, unix.LANDLOCK_ACCESS_FS_READ_DIR); err != nil {
		return err
	}
	entries, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrPermission) {
		return nil // may be passed, not listed
	}
	for _, e := range entries {
		if err == nil {
			err = allowAround(ruleset, filepath.Join(dir, e.Name()), hidden)
		}
	}
	return err
}

// within reports whether path is dir or lies under it; both are clean.
func within(path, dir string) bool {
	rest, ok := strings.CutPrefix(path, strings.TrimSuffix(dir, "/"))
	return ok && (rest == "" || rest[0] == '/')
}
