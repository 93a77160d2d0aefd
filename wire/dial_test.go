package wire

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// dialPipe dials a server played on the other end of a pipe.
func dialPipe(ctx context.Context, url string, o DialOptions, server func(nc net.Conn)) (*Conn, error) {
	ours, theirs := net.Pipe()
	over := make(chan struct{})
	go func() {
		defer close(over)
		defer theirs.Close()
		server(theirs)
	}()
	o.DialContext = func(context.Context, string, string) (net.Conn, error) { return ours, nil }
	c, err := Dial(ctx, url, o)
	if err != nil {
		<-over
		if _, werr := ours.Write(nil); werr == nil {
			panic("transport is left open")
		}
	}
	return c, err
}

func readHead(nc net.Conn) string {
	var head strings.Builder
	for br := bufio.NewReader(nc); ; {
		line, err := br.ReadString('\n')
		head.WriteString(line)
		if err != nil || line == "\r\n" {
			return head.String()
		}
	}
}

func TestDialRequest(t *testing.T) {
	for _, test := range []struct {
		name string
		url  string
		o    DialOptions
		want []string
		not  []string
	}{
		{"plain", "ws://gateway.test:1234/a%20b?c=d", DialOptions{},
			[]string{"GET /a%20b?c=d HTTP/1.1\r\n", "Host: gateway.test:1234\r\n", "Sec-WebSocket-Version: 13\r\n",
				"Upgrade: websocket\r\n", "Connection: Upgrade\r\n"},
			[]string{"Origin", "Extensions", "Protocol"}},
		{"no path", "ws://gateway.test", DialOptions{}, []string{"GET / HTTP/1.1\r\n", "Host: gateway.test\r\n"}, nil},
		{"origin", "ws://gateway.test/", DialOptions{Origin: "HTTP://Some.where"}, []string{"\r\nOrigin: HTTP://Some.where\r\n"}, nil},
		{"host", "ws://127.0.0.1:1/", DialOptions{Host: "other.test"}, []string{"Host: other.test\r\n"}, []string{"127.0.0.1"}},
		{"fields", "ws://gateway.test/", DialOptions{Header: http.Header{"X-A": {"b\r\nX-C: d"}, "Origin": {"x"}, "Sec-Websocket-Key": {"x"}}},
			[]string{"X-A: b  X-C: d\r\n"}, []string{"Origin", "Key: x\r\n"}},
		{"long", "ws://gateway.test/", DialOptions{Header: http.Header{"X-A": {strings.Repeat("a", 9000)}}},
			[]string{"X-A: aaaa"}, []string{"Origin"}},
		{"ipv6", "ws://[::1]:99/", DialOptions{}, []string{"Host: [::1]:99\r\n"}, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			var head string
			dialPipe(t.Context(), test.url, test.o, func(nc net.Conn) { head = readHead(nc) })
			for _, s := range test.want {
				if !strings.Contains(head, s) {
					t.Errorf("no %q in %q", s, head)
				}
			}
			for _, s := range test.not {
				if strings.Contains(head, s) {
					t.Errorf("%q in %q", s, head)
				}
			}
		})
	}
}

func TestDialAddress(t *testing.T) {
	stop := errors.New("stop")
	for url, want := range map[string]string{
		"ws://a":            "a:80",
		"wss://a/b":         "a:443",
		"ws://a:1":          "a:1",
		"ws://[::1]":        "[::1]:80",
		"WSS://a:2/":        "a:2",
		"http://a":          "",
		"ws://":             "",
		"a:80":              "",
		"ws://u:secret@a/":  "",
		"ws://a/#f":         "",
		"ws://a b/":         "",
		"ws://a/\r\nX: y":   "",
		"ws://[fe80::1%25]": "",
	} {
		got := ""
		_, err := Dial(t.Context(), url, DialOptions{DialContext: func(_ context.Context, network, addr string) (net.Conn, error) {
			got = addr
			return nil, stop
		}})
		if got != want || want != "" && err != stop || err == nil {
			t.Errorf("%s: dialed %q, %v", url, got, err)
		}
		if err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("%v tells the password", err)
		}
	}
	for _, o := range []DialOptions{{Host: "a\r\nb"}, {Origin: "a b"}} {
		if _, err := Dial(t.Context(), "ws://a", o); err == nil {
			t.Errorf("%+v is accepted", o)
		}
	}
}

// accepted is the answer to a request's key with some lines exchanged or added.
func accepted(from, to string) func(nc net.Conn) {
	return func(nc net.Conn) {
		ours, theirs := net.Pipe()
		head := readHead(nc)
		go func() { io.WriteString(ours, head) }()
		go answerHandshake(theirs)
		answer := readHead(ours)
		io.WriteString(nc, strings.Replace(answer, from, to, 1))
	}
}

func TestDialAnswers(t *testing.T) {
	canned := func(s string) func(nc net.Conn) {
		return func(nc net.Conn) {
			readHead(nc)
			io.WriteString(nc, strings.ReplaceAll(s, "\n", "\r\n"))
		}
	}
	for _, test := range []struct {
		name   string
		server func(nc net.Conn)
		want   string // part of the error, or none
	}{
		{"good", accepted("", ""), ""},
		{"more fields", accepted("\r\n", "\r\nServer: x\r\nConnection: keep-alive\r\n"), ""},
		{"token list", accepted("Connection: Upgrade", "connection: keep-alive, upgrade"), ""},
		{"other case", accepted("websocket", "WebSocket"), ""},
		{"wrong key", accepted("Accept: ", "Accept: A"), "challenge"},
		{"two keys", accepted("Upgrade: websocket", "Upgrade: websocket\r\nSec-WebSocket-Accept: x"), "no single"},
		{"extension", accepted("\r\n", "\r\nSec-WebSocket-Extensions: permessage-deflate\r\n"), "extension nobody offered"},
		{"extension in a second field", accepted("\r\n", "\r\nSec-WebSocket-Extensions: \r\nSec-WebSocket-Extensions: x\r\n"), "extension nobody offered"},
		{"subprotocol", accepted("\r\n", "\r\nSec-WebSocket-Protocol: a\r\n"), "subprotocol nobody offered"},
		{"other protocol", accepted("websocket", "h2c"), "another protocol"},
		{"no Connection", accepted("Connection: Upgrade\r\n", ""), "another protocol"},
		{"unauthorised", canned("HTTP/1.1 401 Unauthorized\nContent-Length: 9\n\nno token\n"), "refused: 401 Unauthorized: no token"},
		{"chunked", canned("HTTP/1.1 503 x\nTransfer-Encoding: chunked\n\n4\nbusy\n0\n\n"), "refused: 503 Service Unavailable: busy"},
		{"not printable", canned("HTTP/1.1 403 x\nContent-Length: 12\n\n\x1b[31m\x00red\xff\u202e"), "refused: 403 Forbidden: [31m red"},
		{"redirect", canned("HTTP/1.1 302 Found\nLocation: ws://elsewhere\nContent-Length: 0\n\n"), "refused: 302 Found"},
		{"early hint", canned("HTTP/1.1 100 Continue\n\nHTTP/1.1 101 x\n\n"), "refused: 100 Continue"},
		{"until the end", canned("HTTP/1.1 500 x\n\n" + strings.Repeat("y", 1000)), "refused: 500 Internal Server Error: yyyy"},
		{"nothing", func(nc net.Conn) { readHead(nc) }, "unexpected EOF"},
		{"half a head", canned("HTTP/1.1 101 Switching Protocols\nUpgrade"), "unexpected EOF"},
		{"not HTTP", canned("SSH-2.0-OpenSSH\n\n"), "malformed HTTP"},
		{"endless", func(nc net.Conn) {
			readHead(nc)
			io.WriteString(nc, "HTTP/1.1 101 Switching Protocols\r\n")
			for err := error(nil); err == nil; {
				_, err = io.WriteString(nc, "X-More: "+strings.Repeat("x", 1000)+"\r\n")
			}
		}, "answer too long"},
		{"endless line", func(nc net.Conn) {
			readHead(nc)
			for err := error(nil); err == nil; {
				_, err = nc.Write(make([]byte, 1000))
			}
		}, "answer too long"},
		{"endless refusal", func(nc net.Conn) {
			readHead(nc)
			io.WriteString(nc, "HTTP/1.1 500 x\r\n\r\n")
			for err := error(nil); err == nil; {
				_, err = io.WriteString(nc, strings.Repeat("y", 1000))
			}
		}, "refused: 500 "},
	} {
		t.Run(test.name, func(t *testing.T) {
			c, err := dialPipe(t.Context(), "ws://gateway.test/", DialOptions{}, test.server)
			if test.want == "" {
				if err != nil {
					t.Fatal(err)
				}
				if _, err := c.ReadMessage(); !errors.Is(err, io.EOF) {
					t.Error(err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Fatalf("%v, want %q", err, test.want)
			}
			var refused *HandshakeError
			if errors.As(err, &refused) != strings.Contains(test.want, "refused") || refused != nil && len(refused.Body) > maxRefusal {
				t.Errorf("%#v", err)
			}
		})
	}
}

func TestFramesSentWithTheAnswer(t *testing.T) {
	c, err := dialPipe(t.Context(), "ws://gateway.test/", DialOptions{}, func(nc net.Conn) {
		accepted("\r\n\r\n", "\r\n\r\n"+string(rawFrame(0x81, []byte("challenge")))+string(rawFrame(0x81, nil)))(nc)
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"challenge", ""} {
		if got, err := c.ReadMessage(); string(got) != want || err != nil {
			t.Fatalf("%q, %v", got, err)
		}
	}
	c.ReadMessage()
}

// A server that stays silent in any phase holds a Dial up no longer than ctx.
func TestDialCancelled(t *testing.T) {
	for name, server := range map[string]func(nc net.Conn){
		"never reads":        func(nc net.Conn) {},
		"never answers":      func(nc net.Conn) { readHead(nc) },
		"half an answer":     func(nc net.Conn) { readHead(nc); io.WriteString(nc, "HTTP/1.1 101 Swi") },
		"half a refusal":     func(nc net.Conn) { readHead(nc); io.WriteString(nc, "HTTP/1.1 401 x\r\n\r\nwh") },
		"never shakes hands": nil, // as a wss URL
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancelCause(t.Context())
				gone := errors.New("user left")
				begin := time.Now()
				time.AfterFunc(1500*time.Millisecond, func() { cancel(gone) })
				url := "ws://gateway.test/"
				if server == nil {
					url = "wss://gateway.test/"
				}
				ours, theirs := net.Pipe()
				defer theirs.Close()
				if server != nil {
					go server(theirs)
				}
				_, err := Dial(ctx, url, DialOptions{DialContext: func(context.Context, string, string) (net.Conn, error) { return ours, nil }})
				if !errors.Is(err, gone) || time.Since(begin) != 1500*time.Millisecond {
					t.Errorf("%v after %v", err, time.Since(begin))
				}
			})
		})
	}
}

func TestRefusalWithoutEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stop := make(chan struct{})
		time.AfterFunc(time.Minute, func() { close(stop) })
		begin := time.Now()
		_, err := dialPipe(t.Context(), "ws://gateway.test/", DialOptions{}, func(nc net.Conn) {
			readHead(nc)
			io.WriteString(nc, "HTTP/1.1 401 x\r\n\r\nwho are you")
			nc.Read(make([]byte, 1)) // until the client leaves
		})
		var refused *HandshakeError
		if !errors.As(err, &refused) || refused.Body != "who are you" || time.Since(begin) != refusalTime {
			t.Errorf("%v after %v", err, time.Since(begin))
		}
		<-stop
	})
}

func TestDialledConnOutlivesItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	next := make(chan struct{})
	c, err := dialPipe(ctx, "ws://gateway.test/", DialOptions{}, func(nc net.Conn) {
		accepted("", "")(nc)
		<-next
		nc.Write(rawFrame(0x81, []byte("still here")))
	})
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	close(next)
	if got, err := c.ReadMessage(); string(got) != "still here" {
		t.Errorf("%q, %v", got, err)
	}
	c.ReadMessage()
}
