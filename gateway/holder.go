package gateway

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"
)

const (
	markHeader   = "Openclaw" // tells a gateway from other servers that are alive
	markValue    = "gateway"
	liveBody     = `{"ok":true,"status":"live"}`
	probeTimeout = time.Second
	forceGrace   = 5 * time.Second // from SIGTERM to SIGKILL
)

// holder is a process that listens on a port. What cannot be known is zero.
type holder struct {
	pid  int
	name string
	uid  int
}

func (h holder) String() string {
	switch {
	case h.pid == 0 && h.uid >= 0:
		return "a process of uid " + strconv.Itoa(h.uid) + " (name unknown)"
	case h.pid == 0:
		return "an unknown process"
	case h.name == "":
		return "pid " + strconv.Itoa(h.pid)
	}
	return fmt.Sprintf("pid %d (%s)", h.pid, h.name)
}

func holderOf(port int) string {
	hs, err := findHolders(port)
	if err != nil || len(hs) == 0 {
		return "an unknown process"
	}
	words := make([]string, len(hs))
	for i, h := range hs {
		words[i] = h.String()
	}
	return strings.Join(words, " and ")
}

// endHolders ends the processes that listen on a port, politely and then not,
// and returns those that it ended. It touches only processes of this user that
// it can name for certain, and never this one, an ancestor or a supervisor.
func endHolders(port int, grace time.Duration) (ended []holder, err error) {
	hs, err := findHolders(port)
	if err != nil {
		return nil, err
	}
	if len(hs) == 0 {
		return nil, fmt.Errorf("found no process that listens on it")
	}
	for _, h := range hs {
		if err := mayEnd(h); err != nil {
			return ended, err
		}
	}
	for _, h := range hs {
		if err := end(h, port, grace); err != nil {
			return ended, fmt.Errorf("end %s: %w", h, err)
		}
		ended = append(ended, h)
	}
	return ended, nil
}

// probe reports whether a healthy gateway of ours answers at an address, in
// the clear or over TLS.
func probe(addr string) bool {
	return ask(addr, false) || ask(addr, true)
}

func ask(addr string, secure bool) bool {
	ctx, cancel := context.WithTimeout(context.Background(), probeTimeout)
	defer cancel()
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return false
	}
	defer conn.Close()
	deadline, _ := ctx.Deadline()
	conn.SetDeadline(deadline)
	if secure {
		// Whose certificate it is does not matter: nothing is sent but the question.
		conn = tls.Client(conn, &tls.Config{InsecureSkipVerify: true})
	}
	if _, err := io.WriteString(conn, "GET /healthz HTTP/1.1\r\nHost: "+addr+"\r\nConnection: close\r\n\r\n"); err != nil {
		return false
	}
	resp, err := http.ReadResponse(bufio.NewReader(io.LimitReader(conn, 16<<10)), nil)
	if err != nil {
		return false
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return err == nil && resp.StatusCode == http.StatusOK && resp.Header.Get(markHeader) == markValue && string(body) == liveBody
}
