package main

import (
	"bufio"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"strings"
	"time"
)

// wsConn is a client made for load: masked text frames out, whole unfragmented
// frames in, one small buffer, no goroutine.
type wsConn struct {
	net.Conn
	r   *bufio.Reader
	out []byte
	in  []byte
}

func dialWS(addr string) (*wsConn, error) {
	c, err := net.DialTimeout("tcp", addr, 5*time.Second)
	if err != nil {
		return nil, err
	}
	c.SetDeadline(time.Now().Add(10 * time.Second))
	fmt.Fprintf(c, "GET / HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n", addr)
	w := &wsConn{Conn: c, r: bufio.NewReaderSize(c, 1024)}
	line, err := w.r.ReadString('\n')
	if err == nil && !strings.Contains(line, " 101 ") {
		err = fmt.Errorf("upgrade: %s", strings.TrimSpace(line))
	}
	for err == nil && strings.TrimSpace(line) != "" {
		line, err = w.r.ReadString('\n')
	}
	if err != nil {
		c.Close()
		return nil, err
	}
	c.SetDeadline(time.Time{})
	return w, nil
}

// queue appends one masked text frame to what flush writes.
func (w *wsConn) queue(msg string) {
	w.out = append(w.out, 0x81)
	if len(msg) < 126 {
		w.out = append(w.out, 0x80|byte(len(msg)))
	} else {
		w.out = append(w.out, 0x80|126)
		w.out = binary.BigEndian.AppendUint16(w.out, uint16(len(msg)))
	}
	var key [4]byte
	rand.Read(key[:])
	w.out = append(w.out, key[:]...)
	for i := range len(msg) {
		w.out = append(w.out, msg[i]^key[i&3])
	}
}

func (w *wsConn) flush() error {
	_, err := w.Write(w.out)
	w.out = w.out[:0]
	return err
}

// next returns the payload of the next text frame, valid until the next call. Pings are answered.
func (w *wsConn) next() ([]byte, error) {
	for {
		var h [2]byte
		if _, err := io.ReadFull(w.r, h[:]); err != nil {
			return nil, err
		}
		n := int(h[1] & 0x7f)
		switch n {
		case 126:
			var l [2]byte
			if _, err := io.ReadFull(w.r, l[:]); err != nil {
				return nil, err
			}
			n = int(binary.BigEndian.Uint16(l[:]))
		case 127:
			var l [8]byte
			if _, err := io.ReadFull(w.r, l[:]); err != nil {
				return nil, err
			}
			n = int(binary.BigEndian.Uint64(l[:]))
		}
		if cap(w.in) < n {
			w.in = make([]byte, n)
		}
		p := w.in[:n]
		if _, err := io.ReadFull(w.r, p); err != nil {
			return nil, err
		}
		switch h[0] & 0x0f {
		case 1:
			return p, nil
		case 8:
			return nil, fmt.Errorf("closed: %q", p)
		case 9:
			w.Write(append([]byte{0x8a, 0x80 | byte(n), 0, 0, 0, 0}, p...))
		}
	}
}

// until reads until a frame holds every one of the words, and counts the others.
func (w *wsConn) until(words ...string) (skipped int, err error) {
	for {
		p, err := w.next()
		if err != nil {
			return skipped, err
		}
		s := string(p)
		all := true
		for _, word := range words {
			all = all && strings.Contains(s, word)
		}
		if all {
			return skipped, nil
		}
		skipped++
	}
}
