package sandbox

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"time"
)

const sandboxExec = "/usr/bin/sandbox-exec"

// enclosed makes cmd one of sandbox-exec(1). macOS has no way to adopt orphans:
// what is ended is the process group, and Limits are those of the gateway.
func enclosed(_ context.Context, cmd *exec.Cmd, s *Spec) error {
	if _, err := os.Stat(sandboxExec); err != nil {
		return err
	}
	cmd.Path = sandboxExec
	cmd.Args = append([]string{sandboxExec, "-p", profile(s)}, s.Argv...)
	cmd.Dir, cmd.Env = s.Dir, s.Env
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	return nil
}

// Probe reads a file behind the walls that they hide, which must fail, and one
// that they do not.
func Probe() Layers {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	files := Layer{Name: "files", On: true, Detail: "read /private/etc/ttys"}
	for path, open := range map[string]bool{"/private/etc/hosts": true, "/private/etc/ttys": false} {
		cmd, err := Command(ctx, Spec{Argv: []string{"/bin/cat", path}, Dir: "/"})
		if err == nil {
			err = cmd.Run()
		}
		if (err == nil) != open {
			files.On, files.Detail = false, fmt.Sprintf("cat %s: %v", path, err)
		}
	}
	return Layers{files}
}
