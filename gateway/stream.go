package gateway

import (
	"fmt"
	"sync"
	"time"

	"openclaw/gateway/agent"
	"openclaw/gateway/store"
	"openclaw/wire"
)

// deltaInterval is the least time between two events that show one run's text.
// Each carries the whole text so far, so that sending one per token would cost
// the square of the reply's length.
const deltaInterval = 75 * time.Millisecond

// streams turns the events of runs into the agent and chat events of the wire.
// Text is shown at once when it begins and then at most every deltaInterval;
// what waits is shown by a timer, or by the run's end at the latest.
type streams struct {
	hub     *hub
	metrics *metrics

	mu   sync.Mutex // guards runs, and nothing is sent while it is held: runs do not wait for each other
	runs map[*agent.Run]*runStream
}

// runStream is one run as its listeners have seen it.
type runStream struct {
	mu    sync.Mutex // held while the run's events are sent, which keeps their order; before hub.mu
	seq   int64      // of the last agent event
	text  string     // so far
	shown int        // bytes of text that were sent
	last  time.Time
	timer *time.Timer // set while text waits

	updated time.Time // when a tool's update was sent last
}

func newStreams(h *hub, m *metrics) *streams {
	return &streams{hub: h, metrics: m, runs: map[*agent.Run]*runStream{}}
}

// sink takes every event of every run. It never blocks on a client.
func (s *streams) sink(ev agent.Event) {
	r := s.of(ev.Run)
	r.mu.Lock()
	defer r.mu.Unlock()
	switch ev.Kind {
	case agent.KindStart:
		s.lifecycle(r, ev, wire.LifecycleData{Phase: wire.PhaseStart, StartedAt: ev.At.UnixMilli()})
	case agent.KindModel:
		s.lifecycle(r, ev, wire.LifecycleData{Phase: wire.PhaseModel, Provider: ev.Provider, Model: ev.Model})
	case agent.KindDelta:
		r.text = ev.Text
		if wait := deltaInterval - ev.At.Sub(r.last); wait <= 0 {
			s.show(r, ev.Run, ev.At)
		} else if r.timer == nil {
			r.timer = time.AfterFunc(wait, func() { s.flush(r, ev.Run) })
		}
	case agent.KindToolStart, agent.KindToolUpdate, agent.KindToolResult:
		s.tool(r, ev)
	case agent.KindEnd, agent.KindError, agent.KindAborted:
		s.metrics.ran(ev.Result, ev.At)
		s.end(r, ev)
		s.mu.Lock()
		delete(s.runs, ev.Run)
		s.mu.Unlock()
	}
}

// of is the stream of a run, made at its first event.
func (s *streams) of(run *agent.Run) *runStream {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.runs[run]
	if r == nil {
		r = &runStream{}
		s.runs[run] = r
	}
	return r
}

// flush shows text that waited, unless the run's end has shown it meanwhile.
func (s *streams) flush(r *runStream, run *agent.Run) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.timer != nil {
		r.timer = nil
		s.show(r, run, time.Now())
	}
}

// show sends the text that listeners do not have yet. r.mu is held.
func (s *streams) show(r *runStream, run *agent.Run, at time.Time) {
	if r.shown == len(r.text) {
		return
	}
	delta := r.text[r.shown:]
	r.shown, r.last = len(r.text), at
	r.seq++
	emit(s.hub, evAgent(), agentEvent(r, run, at, wire.StreamAssistant, wire.AssistantData{Text: r.text, Delta: delta}))
	if run.SessionKey != "" {
		emit(s.hub, evChatDelta(), wire.ChatEvent{
			RunID: run.ID, SessionKey: run.SessionKey, AgentID: run.AgentID, Seq: r.seq,
			State: wire.ChatStateDelta, DeltaText: delta, Message: chatMessage(r.text, at),
		})
	}
}

// end shows what waited and then how the run ended. r.mu is held.
func (s *streams) end(r *runStream, ev agent.Event) {
	if r.timer != nil {
		r.timer.Stop()
		r.timer = nil
	}
	s.show(r, ev.Run, ev.At)
	res := ev.Result
	data := wire.LifecycleData{Phase: wire.PhaseEnd, EndedAt: ev.At.UnixMilli(), StopReason: res.StopReason}
	chat := wire.ChatEvent{RunID: ev.Run.ID, SessionKey: ev.Run.SessionKey, AgentID: ev.Run.AgentID, StopReason: res.StopReason}
	switch ev.Kind {
	case agent.KindEnd:
		chat.State = wire.ChatStateFinal
		if res.Text != "" {
			chat.Message = chatMessage(res.Text, ev.At)
			chat.Message.Provider, chat.Message.Model, chat.Message.StopReason = res.Provider, res.Model, res.StopReason
		}
		u := res.Usage
		chat.Usage = &wire.ChatUsage{Input: u.Input, Output: u.Output, CacheRead: u.CacheRead, CacheWrite: u.CacheWrite, TotalTokens: u.TotalTokens}
	case agent.KindAborted:
		data.Aborted = true
		chat.State = wire.ChatStateAborted
		if res.Text != "" {
			chat.Message = chatMessage(res.Text, ev.At)
		}
	case agent.KindError:
		data.Phase, data.Error = wire.PhaseError, asWireQuiet(ev.Err).Message
		chat.State, chat.ErrorMessage = wire.ChatStateError, data.Error
	}
	s.lifecycle(r, ev, data)
	if ev.Run.SessionKey != "" {
		chat.Seq = r.seq
		emit(s.hub, evChat(), chat)
	}
}

// tool shows a step of a tool's call, after the text that came before it. r.mu
// is held. Updates that come too fast are passed over: each holds all before it.
func (s *streams) tool(r *runStream, ev agent.Event) {
	data := wire.ToolData{Name: ev.Tool.Name, ToolCallID: ev.Tool.ID}
	switch ev.Kind {
	case agent.KindToolStart:
		data.Phase, data.Args = wire.PhaseStart, bounded(wire.Raw(ev.Tool.Arguments))
	case agent.KindToolUpdate:
		if ev.At.Sub(r.updated) < deltaInterval {
			return
		}
		r.updated = ev.At
		data.Phase, data.PartialResult = wire.PhaseUpdate, toolResult(store.Text(ev.Partial), nil)
	case agent.KindToolResult:
		m := ev.ToolResult
		data.Phase, data.IsError, data.Result = wire.PhaseResult, &m.IsError, toolResult(m.Content, m.Details)
	}
	s.show(r, ev.Run, ev.At)
	r.seq++
	emit(s.hub, evAgent(), agentEvent(r, ev.Run, ev.At, wire.StreamTool, data))
}

// maxToolData bounds what an event shows of a call's arguments or result, in
// bytes; the whole is in the transcript.
const maxToolData = 64 << 10

// toolResult is what came of a call, as events show it.
func toolResult(content store.Content, details []byte) wire.Raw {
	raw, err := wire.Marshal(struct {
		Content store.Content `json:"content"`
		Details wire.Raw      `json:"details,omitempty"`
	}{content, details})
	if err != nil {
		return nil
	}
	return bounded(raw)
}

// bounded is raw, or where that is too much a word in its place.
func bounded(raw wire.Raw) wire.Raw {
	if len(raw) <= maxToolData {
		return raw
	}
	raw, _ = wire.Marshal(map[string]any{"content": []wire.ChatPart{{Type: "text", Text: fmt.Sprintf("[%d bytes; chat.history has them]", len(raw))}}})
	return raw
}

func (s *streams) lifecycle(r *runStream, ev agent.Event, data wire.LifecycleData) {
	r.seq++
	emit(s.hub, evAgent(), agentEvent(r, ev.Run, ev.At, wire.StreamLifecycle, data))
}

func agentEvent(r *runStream, run *agent.Run, at time.Time, stream string, data any) wire.AgentEvent {
	return wire.AgentEvent{
		RunID: run.ID, Seq: r.seq, Stream: stream, Ts: at.UnixMilli(), Data: data,
		SessionKey: run.SessionKey, AgentID: run.AgentID, SessionID: run.SessionID,
	}
}

func chatMessage(text string, at time.Time) *wire.ChatMessage {
	return &wire.ChatMessage{Role: "assistant", Content: []wire.ChatPart{{Type: "text", Text: text}}, Timestamp: at.UnixMilli()}
}
