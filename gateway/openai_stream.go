package gateway

import (
	"context"
	"encoding/json"
	"net/http"
	"strconv"
	"sync"
	"time"

	"openclaw/gateway/agent"
	"openclaw/wire"
)

const (
	sseWriteTimeout = 10 * time.Second // of one chunk; a client that takes none for so long is gone
	sseKeepAlive    = 15 * time.Second // silence after which a comment is sent
)

// completionStream writes a turn as server-sent events (WHATWG HTML §9.2) in
// the shape of OpenAI's chat.completion.chunk: one chunk out per chunk in. The
// status line waits for the first of them, so that a turn that fails before it
// said anything is an ordinary HTTP error.
type completionStream struct {
	w      http.ResponseWriter
	rc     *http.ResponseController
	cancel context.CancelFunc // ends the turn when the client takes nothing more
	usage  bool

	mu      sync.Mutex // the turn's goroutine and the keep-alive both write
	prefix  string     // of every chunk, up to its choices
	buf     []byte
	started bool
	failed  bool
	calls   int
}

func newCompletionStream(w http.ResponseWriter, id, model string, usage bool, cancel context.CancelFunc) *completionStream {
	name, _ := json.Marshal(model)
	return &completionStream{
		w: w, rc: http.NewResponseController(w), cancel: cancel, usage: usage,
		prefix: `data: {"id":"` + id + `","object":"chat.completion.chunk","created":` + strconv.FormatInt(time.Now().Unix(), 10) + `,"model":` + string(name) + `,"choices":[`,
	}
}

func (s *completionStream) observe(ev agent.Event) {
	switch ev.Kind {
	case agent.KindDelta:
		s.mu.Lock()
		defer s.mu.Unlock()
		s.begin()
		s.buf = append(append(s.buf, s.prefix...), `{"index":0,"delta":{"content":`...)
		s.buf = wire.AppendString(s.buf, ev.Delta)
		s.buf = append(s.buf, `},"finish_reason":null}]}`+"\n\n"...)
		s.flush()
	case agent.KindToolCall:
		s.mu.Lock()
		defer s.mu.Unlock()
		s.begin()
		call := replyCall(ev.Tool.ID, ev.Tool.Name, string(ev.Tool.Arguments))
		index := s.calls
		call.Index = &index
		s.calls++
		raw, _ := json.Marshal([]completionReplyCall{call})
		s.buf = append(append(s.buf, s.prefix...), `{"index":0,"delta":{"tool_calls":`...)
		s.buf = append(append(s.buf, raw...), `},"finish_reason":null}]}`+"\n\n"...)
		s.flush()
	}
}

// wait returns when the run has ended, and keeps the connection alive until then.
func (s *completionStream) wait(run *agent.Run) {
	t := time.NewTicker(sseKeepAlive)
	defer t.Stop()
	for {
		select {
		case <-run.Done():
			return
		case <-t.C:
			s.mu.Lock()
			s.begin()
			s.buf = append(s.buf, ": keep-alive\n\n"...)
			s.flush()
			s.mu.Unlock()
		}
	}
}

// finish ends the stream, or answers with an error status where none was begun.
func (s *completionStream) finish(g *Gateway, res agent.Result) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e := g.runError(res); e != nil {
		if !s.started {
			errorOf(e).write(s.w)
			return
		}
		raw, _ := wire.Marshal(errorOf(e).body())
		s.buf = append(append(append(s.buf, "data: "...), raw...), "\n\ndata: [DONE]\n\n"...)
		s.flush()
		return
	}
	s.begin()
	s.buf = append(append(s.buf, s.prefix...), `{"index":0,"delta":{},"finish_reason":"`...)
	s.buf = append(append(s.buf, finishReason(res.StopReason)...), `"}]}`+"\n\n"...)
	if s.usage {
		raw, _ := json.Marshal(usageOf(res.Usage))
		s.buf = append(append(append(append(s.buf, s.prefix...), `],"usage":`...), raw...), "}\n\n"...)
	}
	s.buf = append(s.buf, "data: [DONE]\n\n"...)
	s.flush()
}

// begin writes the head and the chunk that names the role, once. mu is held.
func (s *completionStream) begin() {
	if s.started {
		return
	}
	s.started = true
	h := s.w.Header()
	h.Set("Content-Type", "text/event-stream; charset=utf-8")
	h.Set("X-Accel-Buffering", "no") // a reverse proxy must not gather chunks
	s.w.WriteHeader(http.StatusOK)
	s.buf = append(append(s.buf, s.prefix...), `{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]}`+"\n\n"...)
}

// flush writes what is in buf. The first failure ends the turn. mu is held.
func (s *completionStream) flush() {
	defer func() { s.buf = s.buf[:0] }()
	if s.failed {
		return
	}
	s.rc.SetWriteDeadline(time.Now().Add(sseWriteTimeout))
	_, err := s.w.Write(s.buf)
	if err == nil {
		err = s.rc.Flush()
	}
	if err != nil {
		s.failed = true
		s.cancel()
	}
}
