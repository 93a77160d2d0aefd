package channel

import (
	"io"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"time"
)

// This file is the only one of the package that starts processes: the programs
// of channels, as the configuration names them, and Node.js for WhatsApp's.

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
func spawn(command, env []string, dir string, stderr io.Writer) (*child, error) {
	cmd := confined(command, env, dir)
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

// confined is a command with what it needs and no more.
func confined(command, env []string, dir string) *exec.Cmd {
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Dir = dir
	cmd.Env = append([]string{"PATH=/usr/local/bin:/usr/bin:/bin", "HOME=" + dir, "LANG=C.UTF-8", "TMPDIR=" + dir}, env...)
	cmd.SysProcAttr = childAttr()
	keepDescriptors()
	return cmd
}

// ask runs a program that answers at once and ends, and returns the beginning of its stdout.
func ask(command []string, dir string) (string, error) {
	cmd := confined(command, nil, dir)
	var said bounded
	cmd.Stdout = &said
	cmd.WaitDelay = time.Second
	// The kernel ends a child with the thread that started it.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := cmd.Start(); err != nil {
		return "", err
	}
	late := time.AfterFunc(askTime, func() { syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) })
	defer late.Stop()
	err := cmd.Wait()
	return string(said), err
}

const askTime = 10 * time.Second

// bounded keeps the first bytes of what is written.
type bounded []byte

func (b *bounded) Write(p []byte) (int, error) {
	*b = append(*b, p[:min(len(p), 4096-len(*b))]...)
	return len(p), nil
}
