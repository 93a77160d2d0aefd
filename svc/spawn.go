package svc

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// This file is the only one of the package that starts processes: the
// supervisors' own tools, and for the WhatsApp channel Node.js with npm.

// toolDirs are where the host keeps its tools. They are not searched for in
// PATH, which may be anybody's. The last is NixOS's.
var toolDirs = []string{"/usr/bin", "/bin", "/usr/sbin", "/sbin", "/run/current-system/sw/bin"}

const (
	toolTime   = 10 * time.Second // for what has nothing to wait for
	toolOutput = 256 << 10        // bytes kept of each stream
)

// tool is a program of the host and what it is to do.
type tool struct {
	name  string
	args  []string
	env   []string      // beside what every tool gets
	limit time.Duration // 0 = toolTime
	path  string        // where it is; "" = in toolDirs
	dir   string        // where it runs; "" = /
}

func (t tool) String() string { return strings.Join(append([]string{t.name}, t.args...), " ") }

// toolError is how a tool failed.
type toolError struct {
	tool tool
	code int    // exit code; 0 where it did not come to that
	why  string // what it said, or what became of it
}

func (e *toolError) Error() string { return e.tool.String() + ": " + e.why }

// errNoTool says that the host does not have the program.
var errNoTool = errors.New("no such program")

// findTool returns the path of a tool that only root could have put there.
func findTool(name string, dirs []string) (string, error) {
	for _, dir := range dirs {
		path, err := filepath.EvalSymlinks(filepath.Join(dir, name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		var fi fs.FileInfo
		if err == nil {
			fi, err = os.Stat(path)
		}
		switch {
		case err != nil:
			return "", err
		case !fi.Mode().IsRegular() || fi.Mode()&0o111 == 0:
			return "", fmt.Errorf("refused %s: not a program", path)
		case fi.Sys().(*syscall.Stat_t).Uid != 0 || fi.Mode().Perm()&0o022 != 0:
			return "", fmt.Errorf("refused %s: others than root may change it", path)
		}
		return path, nil
	}
	return "", fmt.Errorf("%s: %w in %s", name, errNoTool, strings.Join(dirs, ", "))
}

// runTool runs a tool with an environment made from nothing, no input, bounded
// output and time, and returns its stdout. On timeout its process group is killed.
func runTool(ctx context.Context, t tool) (string, error) { return runToolIn(ctx, t, toolDirs) }

func runToolIn(ctx context.Context, t tool, dirs []string) (string, error) {
	path, err := t.path, error(nil)
	if path == "" {
		path, err = findTool(t.name, dirs)
	}
	if err != nil {
		return "", err
	}
	if t.limit == 0 {
		t.limit = toolTime
	}
	ctx, cancel := context.WithTimeout(ctx, t.limit)
	defer cancel()
	var stdout, stderr bounded
	cmd := exec.CommandContext(ctx, path, t.args...)
	cmd.Args[0] = t.name
	cmd.Dir = cmp.Or(t.dir, "/")
	cmd.Env = append([]string{"PATH=" + strings.Join(toolDirs, ":"), "LC_ALL=C"}, t.env...)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second // a descendant that left the group may hold the pipes
	err = cmd.Run()
	if err == nil {
		return stdout.String(), nil
	}
	failed := &toolError{tool: t, why: err.Error()}
	var exit *exec.ExitError
	switch {
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		failed.why = fmt.Sprintf("no answer within %v", t.limit)
	case errors.As(err, &exit):
		failed.code = exit.ExitCode()
		if said := strings.TrimSpace(stderr.String()); said != "" {
			failed.why = said
		}
	}
	return stdout.String(), failed
}

// bounded keeps the beginning of what is written.
type bounded struct{ kept bytes.Buffer }

func (b *bounded) Write(p []byte) (int, error) {
	b.kept.Write(p[:min(len(p), toolOutput-b.kept.Len())])
	return len(p), nil
}

func (b *bounded) String() string { return b.kept.String() }
