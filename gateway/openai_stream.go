package gateway

import (
	"context"
	"encoding/json"
	"net/http"
	"strconv"
	"time"

	"openclaw/gateway/agent"
	"openclaw/wire"
)

// completionStream writes a turn in the shape of OpenAI's
// chat.completion.chunk: one chunk out per chunk in.
type completionStream struct {
	eventStream
	usage  bool
	prefix string // of every chunk, up to its choices
	calls  int
}

func newCompletionStream(w http.ResponseWriter, r *http.Request, id, model string, usage bool, cancel context.CancelFunc) *completionStream {
	name, _ := json.Marshal(model)
	s := &completionStream{
		eventStream: newEventStream(w, r, cancel), usage: usage,
		prefix: `data: {"id":"` + id + `","object":"chat.completion.chunk","created":` + strconv.FormatInt(time.Now().Unix(), 10) + `,"model":` + string(name) + `,"choices":[`,
	}
	s.head = func() {
		s.buf = append(append(s.buf, s.prefix...), `{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]}`+"\n\n"...)
	}
	return s
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
