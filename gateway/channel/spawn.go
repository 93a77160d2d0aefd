package channel

import (
	"io"
	"os"
	"os/exec"
	"syscall"
	"time"
)

// This file is the only one of the package that starts processes: the programs
// of channels, as the configuration names them.

// child is a running program.
type child struct {
	stdin  io.WriteCloser
	stdout io.ReadCloser
	kill   func()        // it and everything that it started in its group
	exited chan struct{} // closed when they are gone, with why in err
	err    error
}

// spawn starts a program without a shell: in dir, with an environment made from
// nothing, in a process group of its own and, where the kernel can, such that
// it dies with us. Elsewhere it ends when its stdin does.
func spawn(command []string, dir string, stderr io.Writer) (*child, error) {
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Dir = dir
	cmd.Env = []string{"PATH=/usr/local/bin:/usr/bin:/bin", "HOME=" + dir, "LANG=C.UTF-8", "TMPDIR=" + dir}
	cmd.SysProcAttr = childAttr()
	cmd.Stderr = stderr
	cmd.WaitDelay = time.Second // a descendant may hold the pipe
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	stdout, theirs, err := os.Pipe() // not cmd's, whose Wait would not wait for who reads it
	if err != nil {
		stdin.Close()
		return nil, err
	}
	cmd.Stdout = theirs
	keepDescriptors()
	err = cmd.Start()
	theirs.Close()
	if err != nil {
		stdin.Close()
		stdout.Close()
		return nil, err
	}
	c := &child{stdin: stdin, stdout: stdout, exited: make(chan struct{})}
	c.kill = func() { syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	go func() {
		c.err = cmd.Wait()
		c.kill() // what it left behind in its group
		close(c.exited)
	}()
	return c, nil
}

// keepFirstDescriptors has those close that we may have inherited.
func keepFirstDescriptors() {
	for fd := 3; fd < 1024; fd++ {
		syscall.CloseOnExec(fd)
	}
}
