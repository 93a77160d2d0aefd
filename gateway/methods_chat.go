package gateway

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"openclaw/gateway/agent"
	"openclaw/gateway/store"
	"openclaw/wire"
)

// agentRun starts a turn and answers twice. The run ends with its client: who
// asks for the reply on this connection is there to take it.
func (g *Gateway) agentRun(ctx context.Context, p *peer, in *wire.AgentRun, ack func(any)) (*wire.AgentFinal, error) {
	if in.Deliver {
		return nil, wire.InvalidRequest("invalid agent params: deliver: no channel is configured")
	}
	t, err := g.turnOf(in.Message, in.Attachments, in.SessionKey, in.AgentID, in.IdempotencyKey)
	if err != nil {
		return nil, err
	}
	if in.SessionID != "" && in.SessionKey == "" {
		if t.SessionKey, err = g.agents.Resolve("", in.SessionID, "", in.AgentID); err != nil {
			return nil, err
		}
	}
	if t.SessionKey == "" {
		t.SessionKey = mainAlias
	}
	t.System = in.ExtraSystemPrompt
	t.Timeout = time.Duration(in.Timeout) * time.Second
	t.Model = modelRef(in.Provider, in.Model)
	acknowledge := func(run *agent.Run) {
		ack(wire.AgentAck{RunID: run.ID, SessionKey: run.SessionKey, AgentID: run.AgentID, Status: wire.StatusAccepted, AcceptedAt: run.AcceptedAt.UnixMilli()})
	}
	t.Accepted = acknowledge // before the first event
	run, replayed, err := g.startOnce(ctx, p, "agent", in.IdempotencyKey, in, t)
	if err != nil {
		return nil, err
	}
	if replayed { // answered like the first one, twice: nobody is left without a result
		acknowledge(run)
	}
	select {
	case <-run.Done():
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	return g.agentFinal(run)
}

// agentFinal is the second answer to agent.
func (g *Gateway) agentFinal(run *agent.Run) (*wire.AgentFinal, error) {
	res := run.Result()
	out := &wire.AgentFinal{RunID: run.ID, Status: wire.StatusOK, Summary: "completed", Result: &wire.AgentResult{
		Payloads: []wire.AgentPayload{},
		Meta: wire.AgentMeta{
			DurationMs: res.Duration.Milliseconds(), Aborted: res.Status == agent.StatusAborted, StopReason: res.StopReason,
			AgentMeta: wire.AgentModel{SessionID: res.SessionID, Provider: res.Provider, Model: res.Model, Usage: &wire.TurnUsage{
				Input: res.Usage.Input, Output: res.Usage.Output, CacheRead: res.Usage.CacheRead, CacheWrite: res.Usage.CacheWrite, Total: res.Usage.TotalTokens,
			}},
		},
	}}
	if res.Text != "" {
		out.Result.Payloads = append(out.Result.Payloads, wire.AgentPayload{Text: res.Text})
	}
	switch res.Status {
	case agent.StatusAborted:
		out.Status, out.Summary = wire.StatusAborted, "aborted"
	case agent.StatusError:
		e := g.asWire(res.Err)
		out.Status, out.Summary = wire.StatusError, e.Message
		if e.Code == wire.CodeAgentTimeout {
			out.Status = wire.StatusTimeout
		}
		return out, e
	}
	return out, nil
}

// agentWait waits for a run that anybody started.
func (g *Gateway) agentWait(ctx context.Context, p *peer, in *wire.AgentWait) (*wire.AgentWaited, error) {
	timeout := 30 * time.Second
	if in.TimeoutMs != nil {
		timeout = time.Duration(*in.TimeoutMs) * time.Millisecond
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	res, ok := g.agents.Wait(ctx, in.RunID)
	out := &wire.AgentWaited{RunID: in.RunID, Status: wire.StatusTimeout}
	if !ok {
		return out, nil
	}
	if run, found := g.agents.Find(in.RunID); found && !run.StartedAt().IsZero() {
		out.StartedAt = run.StartedAt().UnixMilli()
		out.EndedAt = run.StartedAt().Add(res.Duration).UnixMilli()
	}
	out.Status = wire.StatusOK
	if res.Err != nil {
		out.Status, out.Error = wire.StatusError, g.asWire(res.Err).Message
	}
	return out, nil
}

// chatSend starts a turn and answers once its message is stored. The run
// outlives the connection: its reply belongs to the session, where any client
// finds it; chat.abort ends it.
func (g *Gateway) chatSend(ctx context.Context, p *peer, in *wire.ChatSend) (any, error) {
	if in.Deliver {
		return nil, wire.InvalidRequest("invalid chat.send params: deliver: no channel is configured")
	}
	if ids, ok := g.agents.Stop(in.SessionKey, in.Message); ok {
		return aborted(ids), nil
	}
	t, err := g.turnOf(in.Message, in.Attachments, in.SessionKey, "", in.IdempotencyKey)
	if err != nil {
		return nil, err
	}
	t.Timeout = time.Duration(in.TimeoutMs) * time.Millisecond
	run, replayed, err := g.startOnce(context.WithoutCancel(ctx), p, "chat.send", in.IdempotencyKey, in, t)
	if err != nil {
		return nil, err
	}
	out := &wire.ChatAck{RunID: run.ID, Status: wire.StatusStarted}
	if replayed {
		out.Status = wire.StatusInFlight
		select {
		case <-run.Done():
			out.Status = wire.StatusOK
		default:
		}
	}
	return out, nil
}

// startOnce starts a turn unless the same principal has started it already
// with the same key; then it returns that run. params is what the request
// said: the same key with other params is refused.
func (g *Gateway) startOnce(ctx context.Context, p *peer, method, key string, params any, t agent.Turn) (*agent.Run, bool, error) {
	raw, err := encodeJSON(params)
	if err != nil {
		return nil, false, err
	}
	v, err, replayed := g.idem.do(p.who, method, key, raw, func() (any, error) {
		if _, taken := g.agents.Find(key); taken {
			return nil, wire.InvalidRequest("idempotencyKey is taken by another run")
		}
		// What was queued for the agent by system-event is told with its next turn.
		if note := g.systemEvents.take(); note != "" {
			t.System = strings.TrimSpace(t.System + "\n\n" + note)
		}
		return g.agents.Start(ctx, t)
	})
	if err != nil {
		return nil, replayed, err
	}
	return v.(*agent.Run), replayed, nil
}

// mainAlias is the session that is meant where none is named.
const mainAlias = "main"

// turnOf makes the turn of one message with attachments.
func (g *Gateway) turnOf(message string, files []wire.Attachment, key, agentID, runID string) (agent.Turn, error) {
	m := store.Message{Role: store.RoleUser}
	if message != "" {
		m.Content = store.Text(message)
	}
	for i, f := range files {
		part, err := attachment(f)
		if err != nil {
			return agent.Turn{}, wire.InvalidRequest("attachments.%d: %s", i, err)
		}
		m.Content = append(m.Content, part)
	}
	if agentID != "" {
		if _, ok := g.cfg().Agent(agentID); !ok {
			return agent.Turn{}, wire.InvalidRequest("invalid agent params: unknown agent id %q", clip(agentID, 64))
		}
	}
	return agent.Turn{RunID: runID, SessionKey: key, AgentID: agentID, Messages: []store.Message{m}}, nil
}

// attachment takes an image as it is and a text file as text.
func attachment(f wire.Attachment) (store.Part, error) {
	data := f.Content
	mime := f.MimeType
	if rest, ok := strings.CutPrefix(data, "data:"); ok {
		meta, b64, found := strings.Cut(rest, ";base64,")
		if !found {
			return store.Part{}, errors.New("content must be base64")
		}
		data = b64
		if mime == "" {
			mime = meta
		}
	}
	if !validBase64(data) {
		return store.Part{}, errors.New("content must be base64")
	}
	switch {
	case imageType(mime):
		return store.Part{Type: store.PartImage, MimeType: mime, Data: data}, nil
	case strings.HasPrefix(mime, "text/") || mime == "application/json":
		raw, err := base64.StdEncoding.DecodeString(data)
		if err != nil || !utf8.Valid(raw) {
			return store.Part{}, errors.New("content must be base64 of UTF-8 text")
		}
		name := f.FileName
		if name == "" {
			name = "attachment"
		}
		return store.Part{Type: store.PartText, Text: "\n\n[" + clip(name, 255) + "]\n" + string(raw)}, nil
	}
	return store.Part{}, fmt.Errorf("type %q is not taken: send images or text", clip(mime, 64))
}

// modelRef joins what a request says about its model.
func modelRef(provider, model string) string {
	if provider != "" && model != "" && !strings.HasPrefix(model, provider+"/") {
		return provider + "/" + model
	}
	return model
}

func (g *Gateway) chatAbort(ctx context.Context, p *peer, in *wire.ChatAbort) (*wire.ChatAborted, error) {
	return aborted(g.agents.Abort(in.SessionKey, in.RunID, "rpc")), nil
}

func aborted(ids []string) *wire.ChatAborted {
	if ids == nil {
		ids = []string{}
	}
	return &wire.ChatAborted{OK: true, Aborted: len(ids) > 0, RunIDs: ids}
}

func (g *Gateway) chatHistory(ctx context.Context, p *peer, in *wire.ChatHistory) (*wire.ChatHistoryPage, error) {
	limit := in.Limit
	if limit == 0 {
		limit = 200
	}
	h, err := g.agents.History(in.SessionKey, limit, 0)
	if err != nil {
		return nil, err
	}
	out := &wire.ChatHistoryPage{SessionKey: in.SessionKey, SessionID: h.SessionID, Messages: make([]wire.Raw, len(h.Messages)), ThinkingLevel: "off", TotalMessages: h.Total, HasMore: h.Total > len(h.Messages)}
	for i, m := range h.Messages {
		if out.Messages[i], err = encodeJSON(m.Message); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func (g *Gateway) chatInject(ctx context.Context, p *peer, in *wire.ChatInject) (*wire.ChatInjected, error) {
	key, _, err := g.agents.CanonicalKey(in.SessionKey, "")
	if err != nil {
		return nil, err
	}
	id, m, err := g.agents.Inject(key, in.Message, in.Label)
	if err != nil {
		return nil, err
	}
	emit(g.hub, evChat(), wire.ChatEvent{
		RunID: "inject-" + id, SessionKey: key, Seq: 1, State: wire.ChatStateFinal,
		Message: chatMessage(m.Content.String(), time.UnixMilli(m.Timestamp)),
	})
	return &wire.ChatInjected{OK: true, MessageID: id}, nil
}
