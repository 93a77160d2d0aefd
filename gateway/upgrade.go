package gateway

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"openclaw/wire"
)

// maxHTTP bounds the connections that are not WebSockets.
const maxHTTP = 1024

// newServer makes the HTTP/1.1 server. HTTP/2 could not be upgraded.
func (g *Gateway) newServer() *http.Server {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	g.conns.parked = map[net.Conn]bool{}
	return &http.Server{
		Handler:                      g,
		Protocols:                    protocols,
		ReadHeaderTimeout:            headerTimeout,
		IdleTimeout:                  idleTimeout,
		MaxHeaderBytes:               maxHeader,
		DisableGeneralOptionsHandler: true,
		ConnState:                    g.conns.state,
		BaseContext:                  func(net.Listener) context.Context { return g.ctx },
		ErrorLog:                     slog.NewLogLogger(g.log.With("sub", "http").Handler(), slog.LevelDebug),
	}
}

// conns counts HTTP connections. A new one that finds no room takes the place
// of one that is waiting for a request, so that holding connections open keeps
// nobody out.
type conns struct {
	mu     sync.Mutex
	closed bool // lets no new one in
	total  int
	fresh  int               // of parked, those that have not asked for anything
	parked map[net.Conn]bool // new (true) or idle
}

// state follows a connection. A hijacked one is the hub's to count.
func (c *conns) state(nc net.Conn, s http.ConnState) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch s {
	case http.StateNew:
		if c.closed {
			nc.Close()
		} else if c.total >= maxHTTP {
			victim := nc // when all others are busy
			for old := range c.parked {
				victim = old
				break
			}
			c.unparkLocked(victim)
			victim.Close() // does not wait for the peer
		}
		c.total++
		c.fresh++
		c.parked[nc] = true
	case http.StateActive:
		c.unparkLocked(nc)
	case http.StateIdle:
		c.parked[nc] = false
	default: // closed or hijacked
		c.unparkLocked(nc)
		c.total--
	}
}

func (c *conns) unparkLocked(nc net.Conn) {
	if c.parked[nc] {
		c.fresh--
	}
	delete(c.parked, nc)
}

// settle gives connections that were just accepted a moment to say what they
// want: whoever comes during a restart is to be answered. net/http drops a
// request that it is reading when a shutdown begins, so it takes more than one
// look to be sure that there is none. Who is far away, or on a machine that has
// much to do, says so a while after the connection stands; who says nothing does
// not hold up a restart for long.
func (c *conns) settle() {
	for tries, quiet := 0, 0; tries < 200 && quiet < 3; tries++ {
		c.mu.Lock()
		if quiet++; c.fresh > 0 {
			quiet = 0
		}
		c.mu.Unlock()
		time.Sleep(2 * time.Millisecond)
	}
}

// close closes the connections on which nothing is going on, and new ones.
func (c *conns) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	for nc := range c.parked {
		nc.Close()
	}
}

// isUpgrade reports whether a request asks for a WebSocket, well or badly.
func isUpgrade(r *http.Request) bool {
	for _, v := range r.Header["Upgrade"] {
		if strings.Contains(strings.ToLower(v), "websocket") {
			return true
		}
	}
	return len(r.Header["Sec-Websocket-Key"]) > 0
}

// upgrade makes an admitted request a peer. Credentials come in the connect
// frame, and only there.
func (g *Gateway) upgrade(w http.ResponseWriter, r *http.Request, from client) {
	if status, header, err := wire.CheckUpgrade(r); err != nil {
		for k, v := range header {
			w.Header()[k] = v
		}
		refuse(status, "invalid_request_error", err.Error()).write(w)
		return
	}
	if len(r.Header["Authorization"]) > 0 {
		w.Header().Set("Connection", "close")
		refuse(http.StatusBadRequest, "invalid_request_error", "Credentials belong in the connect frame").write(w)
		return
	}
	limits := g.cfg().Gateway.Limits
	p := &peer{g: g, from: from}
	if !g.hub.enter(p, limits.MaxPending) {
		w.Header().Set("Connection", "close")
		w.Header().Set("Retry-After", "1")
		why := "Too many connections that have not authenticated"
		if g.stopping.Load() {
			why = stopping().Message
		}
		refuse(http.StatusServiceUnavailable, "api_error", why).write(w)
		return
	}
	conn, err := wire.Accept(w, r, wire.Options{MaxMessage: preAuthLimit, Binary: true, PingInterval: limits.PingIntervalMs.Duration()})
	if err != nil {
		g.hub.remove(p)
		g.hub.left()
		g.log.Debug("upgrade failed", "addr", from.addr, "err", err)
		return
	}
	g.hub.opened(p, conn)
	// net/http's goroutine has a large stack and the request to keep alive.
	go func() {
		defer g.hub.left()
		p.serve()
	}()
}
