package gateway

import (
	"context"
	"io"
	"net"
	"os"
	"testing"
	"testing/synctest"
	"time"
)

// TestRevokedWithinASecond changes the secret, on a clock that shows how long
// who came with the old one is then served: clients that read and that do not,
// a request that is not whole yet, an answer that nobody takes.
func TestRevokedWithinASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newPipeListener()
		o := testOptions(t, "")
		o.listen = func(int) ([]net.Listener, error) { return []net.Listener{l}, nil }
		r := start(t, o)
		var last net.Conn
		r.dialer = func(ctx context.Context, network, addr string) (c net.Conn, err error) {
			last, err = l.dial(ctx, network, addr)
			return last, err
		}
		begun := func(request string) net.Conn {
			c, err := l.dial(context.Background(), "", "")
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { c.Close() })
			if _, err := io.WriteString(c, request); err != nil {
				t.Fatal(err)
			}
			return c
		}
		r.connect()
		deaf := last
		reads := r.connect()
		half := begun("POST /tools/invoke HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer " + testToken + "\r\nContent-Length: 1000\r\n\r\n{")
		page := begun("GET /metrics HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer " + testToken + "\r\n\r\n")
		if _, err := io.ReadFull(page, make([]byte, 16)); err != nil { // it is being answered
			t.Fatal(err)
		}
		synctest.Wait()

		began := time.Now()
		if err := os.WriteFile(o.Paths.ConfigPath, []byte(`{gateway:{auth:{token:"n3wT0kenQ4zV7bXw2LmR9cTy5HsJ8dKf"}}}`), 0o600); err != nil {
			t.Fatal(err)
		}
		r.asks <- Request{Source: "SIGHUP"}
		r.closed(reads)
		if _, err := io.ReadAll(half); err != nil {
			t.Error(err)
		}
		if took := time.Since(began); took > time.Second {
			t.Errorf("who reads is served for %v", took)
		}
		time.Sleep(time.Second - time.Since(began))
		synctest.Wait()
		for what, c := range map[string]net.Conn{"a client that does not read": deaf, "an answer that nobody takes": page} {
			if n, err := c.Read(make([]byte, 1)); n > 0 || err != io.EOF {
				t.Errorf("%s: still served after a second", what)
			}
		}
	})
}
