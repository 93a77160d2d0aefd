package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
)

// upstream is a model provider that notes when a request reached it and when it wrote each token.
type upstream struct {
	addr string
	mu   sync.Mutex
	in   map[string]time.Time   // by the tag inside the prompt: request received
	out  map[string][]time.Time // the same: token written
}

// A prompt holds «tag=N tokens=N delay=US»; what it does not name is one token at once.
func field(body, name string, def int) int {
	i := strings.LastIndex(body, name+"=")
	if i < 0 {
		return def
	}
	s := body[i+len(name)+1:]
	n := 0
	for n < len(s) && s[n] >= '0' && s[n] <= '9' {
		n++
	}
	v, err := strconv.Atoi(s[:n])
	if err != nil {
		return def
	}
	return v
}

func startUpstream() (*upstream, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	u := &upstream{addr: "http://" + ln.Addr().String(), in: map[string]time.Time{}, out: map[string][]time.Time{}}
	go http.Serve(ln, u)
	return u, nil
}

func (u *upstream) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	at := time.Now()
	raw, _ := io.ReadAll(io.LimitReader(r.Body, 8<<20))
	body := string(raw)
	tag := strconv.Itoa(field(body, "tag", 0))
	tokens, delay := field(body, "tokens", 1), time.Duration(field(body, "delay", 0))*time.Microsecond
	first := time.Duration(field(body, "first", 0)) * time.Microsecond
	u.mu.Lock()
	u.in[tag] = at
	u.mu.Unlock()
	if !strings.Contains(body, `"stream":true`) {
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprint(w, `{"id":"x","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"pong"},"finish_reason":"stop"}],"usage":{"prompt_tokens":1,"completion_tokens":1,"total_tokens":2}}`)
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	f := w.(http.Flusher)
	outs := make([]time.Time, 0, tokens)
	for i := range tokens {
		switch {
		case i == 0 && first > 0:
			time.Sleep(first)
		case i > 0 && delay > 0:
			time.Sleep(delay)
		}
		outs = append(outs, time.Now())
		fmt.Fprintf(w, "data: {\"id\":\"x\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"tok%d \"},\"finish_reason\":null}]}\n\n", i)
		if delay > 0 || first > 0 {
			f.Flush()
		}
	}
	fmt.Fprint(w, "data: {\"id\":\"x\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\ndata: {\"id\":\"x\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"m\",\"choices\":[],\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":1,\"total_tokens\":2}}\n\ndata: [DONE]\n\n")
	u.mu.Lock()
	u.out[tag] = outs
	u.mu.Unlock()
}
