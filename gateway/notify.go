package gateway

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"openclaw/reload/config"
)

const (
	notifyPatience = 50 * time.Millisecond // for a supervisor that does not read
	maxOwed        = 16                    // changes of state kept for it
	statusEvery    = time.Second           // a status is not told more often
	maxStatus      = 300                   // bytes
)

// The states that a supervisor is told of, as sd_notify(3) spells them.
const (
	stateReady     = "READY=1"
	stateReloading = "RELOADING=1" // a configuration is read, or another gateway about to take over in this process
	stateStopping  = "STOPPING=1"
)

// Supervisor is the service manager that started this process, as far as it
// said how: where it wants to be told how the process fares (sd_notify(3)), and
// which sockets it opened for it (sd_listen_fds(3)). It lives as long as the
// process, whichever gateway runs in it. A nil Supervisor is none: nothing is
// told, and nothing done for it.
type Supervisor struct {
	addr     *net.UnixAddr  // nil: it is told nothing
	watchdog time.Duration  // it ends the process when nothing is heard for so long; 0: never
	sockets  []net.Listener // it opened

	mu       sync.Mutex // held while a message is sent
	state    string     // the last one told
	owed     []string   // changes of state that it has not taken yet, in their order
	line     string     // the last status
	statusAt time.Time
}

// Supervised reads what a supervisor left in the environment, and takes it away
// there: what this process starts is not supervised. An address that cannot be
// one is ignored. The error, an *ExitError, is about sockets; the Supervisor
// beside it can be told.
func Supervised(env func(string) (string, bool), unset func(string) error) (*Supervisor, error) {
	take := func(name string) string {
		v, ok := env(name)
		if ok {
			unset(name)
		}
		return v
	}
	s := &Supervisor{addr: notifyAddr(take("NOTIFY_SOCKET"))}
	usec, pid := take("WATCHDOG_USEC"), take("WATCHDOG_PID")
	if n, err := strconv.ParseInt(usec, 10, 50); err == nil && n > 0 && (pid == "" || pid == strconv.Itoa(os.Getpid())) {
		s.watchdog = time.Duration(n) * time.Microsecond
	}
	var err error
	s.sockets, err = inherit(take("LISTEN_PID"), take("LISTEN_FDS"), take("LISTEN_FDNAMES"))
	take("LISTEN_PIDFDID")
	if err != nil {
		return s, &ExitError{exitConfig, err}
	}
	if s.addr == nil && s.sockets == nil {
		return nil, nil
	}
	return s, nil
}

// notifyAddr is the address that NOTIFY_SOCKET names: a path, or on Linux a
// name after an @ that stands for the zero byte of the abstract namespace.
func notifyAddr(name string) *net.UnixAddr {
	const sunPath = 108 // sockaddr_un(7); smaller elsewhere, where sending fails
	if len(name) < 2 || len(name) >= sunPath || strings.ContainsRune(name, 0) || name[0] != '/' && (name[0] != '@' || runtime.GOOS != "linux") {
		return nil
	}
	return &net.UnixAddr{Net: "unixgram", Name: name}
}

// listens reports whether the supervisor wants to be told anything.
func (s *Supervisor) listens() bool { return s != nil && s.addr != nil }

// write sends one message and waits for hardly anything.
func (s *Supervisor) write(lines ...string) error {
	c, err := net.DialUnix("unixgram", nil, s.addr)
	if err != nil {
		return err
	}
	defer c.Close()
	c.SetWriteDeadline(time.Now().Add(notifyPatience))
	_, err = io.WriteString(c, strings.Join(lines, "\n"))
	return err
}

// tell tells a change of state; none follows stopping. One that is not taken is
// sent again ahead of the next message: to lose it could end the process.
func (s *Supervisor) tell(state string) {
	if !s.listens() {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state == state || s.state == stateStopping {
		return
	}
	s.state = state
	if state == stateReloading {
		state += fmt.Sprintf("\nMONOTONIC_USEC=%d", monotonicUsec())
	}
	if s.owed = append(s.owed, state); len(s.owed) > maxOwed {
		s.owed = s.owed[1:]
	}
	s.settleLocked()
}

func (s *Supervisor) settleLocked() error {
	for len(s.owed) > 0 {
		if err := s.write(s.owed[0]); err != nil {
			return err
		}
		s.owed = s.owed[1:]
	}
	return nil
}

// status tells the line that systemctl status shows, when it has changed and
// the last one is a while ago.
func (s *Supervisor) status(line string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.settleLocked() == nil && line != s.line && time.Since(s.statusAt) >= statusEvery && s.write("STATUS="+oneLine(line)) == nil {
		s.line, s.statusAt = line, time.Now()
	}
}

// mention has the status line hold a text. Who tells statuses may be stuck.
func (s *Supervisor) mention(text string) {
	s.mu.Lock()
	mentioned := strings.Contains(s.line, text)
	s.mu.Unlock()
	if !mentioned {
		s.status(text)
	}
}

// alive tells that everything answers, and with extend how much longer a stop
// or restart that is under way may take.
func (s *Supervisor) alive(extend time.Duration) {
	var lines []string
	if s.watchdog > 0 {
		lines = append(lines, "WATCHDOG=1")
	}
	if extend > 0 {
		lines = append(lines, fmt.Sprintf("EXTEND_TIMEOUT_USEC=%d", extend.Microseconds()))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.settleLocked() == nil {
		s.write(lines...)
	}
}

// Ended tells how the last gateway of this process ended, or why there was none.
func (s *Supervisor) Ended(err error) {
	if !s.listens() {
		return
	}
	lines := []string{"STATUS=stopped"}
	if err != nil {
		var problems config.Problems
		if errors.As(err, &problems) {
			err = errors.New(problems.Brief())
		}
		lines[0] = "STATUS=" + oneLine("failed: "+err.Error())
	}
	if errno := syscall.Errno(0); errors.As(err, &errno) {
		lines = append(lines, fmt.Sprintf("ERRNO=%d", int(errno)))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.settleLocked()
	s.write(lines...)
}

// oneLine makes a text a value of sd_notify(3), where each line is a variable.
func oneLine(text string) string {
	return clean(strings.ReplaceAll(text, "\n", "; "), maxStatus)
}
