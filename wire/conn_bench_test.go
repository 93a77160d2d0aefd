package wire

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"testing"
	"time"

	"golang.org/x/net/websocket"
)

// A benchConn plays the transport: an endless stream of one frame, or a sink.
type benchConn struct {
	net.Conn
	frame  []byte
	at     int
	writes int
}

func (b *benchConn) Read(p []byte) (int, error) {
	n := 0
	for n < len(p) {
		k := copy(p[n:], b.frame[b.at:])
		n += k
		b.at = (b.at + k) % len(b.frame)
	}
	return n, nil
}

func (b *benchConn) Write(p []byte) (int, error)      { b.writes++; return len(p), nil }
func (b *benchConn) SetDeadline(time.Time) error      { return nil }
func (b *benchConn) SetReadDeadline(time.Time) error  { return nil }
func (b *benchConn) SetWriteDeadline(time.Time) error { return nil }

func BenchmarkReceive(b *testing.B) {
	for _, size := range []int{128, 4 << 10, 64 << 10} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			nc := &benchConn{frame: maskedFrame(0x81, bytes.Repeat([]byte("x"), size))}
			c := testServerConn(nc, Options{MaxMessage: 1 << 20})
			b.ReportAllocs()
			b.SetBytes(int64(size))
			for b.Loop() {
				if msg, err := c.ReadMessage(); err != nil || len(msg) != size {
					b.Fatal(len(msg), err)
				}
			}
		})
	}
}

// BenchmarkEcho is a request and its answer over loopback, with the client's
// half, against x/net used the obvious way.
func BenchmarkEcho(b *testing.B) {
	request := maskedFrame(0x81, bytes.Repeat([]byte("x"), 100))
	answer := bytes.Repeat([]byte("y"), 100)
	for _, depth := range []int{1, 8} {
		batch := bytes.Repeat(request, depth)
		run := func(b *testing.B, client net.Conn) {
			b.ReportAllocs()
			got := make([]byte, depth*(len(answer)+2))
			for b.Loop() {
				if _, err := client.Write(batch); err != nil {
					b.Fatal(err)
				}
				if _, err := io.ReadFull(client, got); err != nil {
					b.Fatal(err)
				}
			}
		}
		b.Run(fmt.Sprintf("wire/depth=%d", depth), func(b *testing.B) {
			client, c := tcpServerConn(b, Options{})
			go func() {
				for {
					if _, err := c.ReadMessage(); err != nil {
						return
					}
					c.Send(answer)
				}
			}()
			run(b, client)
		})
		b.Run(fmt.Sprintf("xnet/depth=%d", depth), func(b *testing.B) {
			run(b, tcpXNet(b, func(ws *websocket.Conn) {
				var msg []byte
				for websocket.Message.Receive(ws, &msg) == nil {
					websocket.Message.Send(ws, string(answer))
				}
			}))
		})
	}
}

func BenchmarkSend(b *testing.B) {
	msg := bytes.Repeat([]byte("x"), 128)
	prepared := Prepare(msg)
	for _, kind := range []string{"send", "prepared"} {
		b.Run(kind, func(b *testing.B) {
			client, c := tcpServerConn(b, Options{MaxQueued: 64 << 20})
			go io.Copy(io.Discard, client)
			b.ReportAllocs()
			for b.Loop() {
				var err error
				if kind == "send" {
					err = c.Send(msg)
				} else {
					err = c.SendPrepared(prepared)
				}
				if err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
