package gateway

import (
	"bufio"
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"time"
)

const (
	markHeader   = "Openclaw" // tells a gateway from other servers that are alive
	markValue    = "gateway"
	liveBody     = `{"ok":true,"status":"live"}`
	probeTimeout = time.Second
	forceGrace   = 5 * time.Second // from SIGTERM to SIGKILL
)

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
