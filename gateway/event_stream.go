package gateway

import (
	"context"
	"net/http"
	"sync"
	"time"

	"openclaw/gateway/agent"
)

const (
	sseWriteTimeout = 10 * time.Second // of one chunk; a client that takes none for so long is gone
	sseKeepAlive    = 15 * time.Second // silence after which a comment is sent
)

// eventStream writes server-sent events (WHATWG HTML §9.2). The status line
// waits for the first of them, so that a turn that fails before it said
// anything is an ordinary HTTP error.
type eventStream struct {
	w      http.ResponseWriter
	rc     *http.ResponseController
	ctx    context.Context    // the request's
	cancel context.CancelFunc // ends the turn when the client takes nothing more
	head   func()             // puts into buf what comes before anything else

	mu      sync.Mutex // the turn's goroutine and the keep-alive both write
	buf     []byte
	started bool
	failed  bool
}

func newEventStream(w http.ResponseWriter, r *http.Request, cancel context.CancelFunc) eventStream {
	return eventStream{w: w, rc: http.NewResponseController(w), ctx: r.Context(), cancel: cancel}
}

// wait returns when the run has ended, and keeps the connection alive until then.
func (s *eventStream) wait(run *agent.Run) {
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

// begin writes what comes before the first event, once. mu is held.
func (s *eventStream) begin() {
	if s.started {
		return
	}
	s.started = true
	h := s.w.Header()
	h.Set("Content-Type", "text/event-stream; charset=utf-8")
	h.Set("X-Accel-Buffering", "no") // a reverse proxy must not gather chunks
	s.w.WriteHeader(http.StatusOK)
	s.head()
}

// flush writes what is in buf. The first failure ends the turn. mu is held.
func (s *eventStream) flush() {
	defer func() { s.buf = s.buf[:0] }()
	if s.failed {
		return
	}
	s.rc.SetWriteDeadline(time.Now().Add(sseWriteTimeout))
	if s.ctx.Err() != nil { // what route set then must stand, whichever came first
		s.rc.SetWriteDeadline(time.Now().Add(expelAfter))
	}
	_, err := s.w.Write(s.buf)
	if err == nil {
		err = s.rc.Flush()
	}
	if err != nil {
		s.failed = true
		s.cancel()
	}
}
