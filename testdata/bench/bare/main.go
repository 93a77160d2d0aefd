// Command bare is the baseline of the benchmarks: the least a server on
// golang.org/x/net/websocket used the obvious way can do. It decodes
// {id,method} with encoding/json and answers {type,id,ok,payload}; system-event
// is broadcast to everybody; everything else over HTTP goes to the upstream
// through httputil's reverse proxy. It authenticates nobody and keeps nothing.
package main

import (
	"encoding/json"
	"flag"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/signal"
	"sync"
	"syscall"

	"golang.org/x/net/websocket"
)

type request struct {
	ID     string          `json:"id"`
	Method string          `json:"method"`
	Params json.RawMessage `json:"params"`
}

type response struct {
	Type    string         `json:"type"`
	ID      string         `json:"id"`
	OK      bool           `json:"ok"`
	Payload map[string]any `json:"payload"`
}

type event struct {
	Type    string          `json:"type"`
	Event   string          `json:"event"`
	Payload json.RawMessage `json:"payload"`
}

var (
	mu    sync.Mutex
	conns = map[*websocket.Conn]bool{}
)

func serve(ws *websocket.Conn) {
	mu.Lock()
	conns[ws] = true
	mu.Unlock()
	defer func() {
		mu.Lock()
		delete(conns, ws)
		mu.Unlock()
	}()
	for {
		var msg string
		if websocket.Message.Receive(ws, &msg) != nil {
			return
		}
		var r request
		if json.Unmarshal([]byte(msg), &r) != nil {
			return
		}
		out, _ := json.Marshal(response{"res", r.ID, true, map[string]any{"ts": 1766400000000, "status": "ok"}})
		if websocket.Message.Send(ws, string(out)) != nil {
			return
		}
		if r.Method == "system-event" {
			ev, _ := json.Marshal(event{"event", "presence", r.Params})
			mu.Lock()
			all := make([]*websocket.Conn, 0, len(conns))
			for c := range conns {
				all = append(all, c)
			}
			mu.Unlock()
			for _, c := range all {
				websocket.Message.Send(c, string(ev))
			}
		}
	}
}

func main() {
	addr := flag.String("addr", "127.0.0.1:0", "listen on")
	upstream := flag.String("upstream", "", "proxy HTTP to this root")
	flag.Parse()
	ln, err := net.Listen("tcp", *addr)
	if err != nil {
		os.Exit(1)
	}
	mux := http.NewServeMux()
	ws := websocket.Server{Handler: serve}
	var proxy http.Handler = http.NotFoundHandler()
	if *upstream != "" {
		u, err := url.Parse(*upstream)
		if err != nil {
			os.Exit(2)
		}
		p := httputil.NewSingleHostReverseProxy(u)
		p.FlushInterval = -1
		p.Transport = &http.Transport{MaxIdleConnsPerHost: 64}
		proxy = p
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Upgrade") != "" {
			ws.ServeHTTP(w, r)
			return
		}
		proxy.ServeHTTP(w, r)
	})
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM)
	go http.Serve(ln, mux)
	<-stop
}
