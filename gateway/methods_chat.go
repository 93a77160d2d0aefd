package gateway

import (
	"cmp"
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
	sent := func(context.Context) error { return nil }
	if in.Deliver {
		if sent, err = g.deliver("agent", &t, store.DeliveryContext{
			Channel: cmp.Or(in.ReplyChannel, in.Channel), To: cmp.Or(in.ReplyTo, in.To), AccountID: cmp.Or(in.ReplyAccountID, in.AccountID), ThreadID: threadOf(in.ThreadID),
		}); err != nil {
			return nil, err
		}
	}
	t.Accepted = func(run *agent.Run) { // before the first event
		ack(wire.AgentAck{RunID: run.ID, SessionKey: run.SessionKey, AgentID: run.AgentID, Status: wire.StatusAccepted, AcceptedAt: run.AcceptedAt.UnixMilli()})
	}
	run, replayed, err := g.startOnce(ctx, p, "agent", in.IdempotencyKey, in, t)
	if err != nil {
		return nil, err
	}
	if replayed { // answered like the first one, twice: nobody is left without a result
		t.Accepted(run)
	}
	select {
	case <-run.Done():
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	out, err := g.agentFinal(run)
	if err == nil && !replayed {
		if undelivered := sent(ctx); undelivered != nil {
			out.Status, out.Summary = wire.StatusError, "the reply was not delivered: "+undelivered.Error()
			return out, sendError(undelivered)
		}
	}
	return out, err
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
	if e := g.runError(res); e != nil {
		out.Status, out.Error = wire.StatusError, e.Message
	}
	return out, nil
}

// runError is what a client is told of a run that did not answer, nil of one
// that did. That somebody ended the run is no failure of the gateway's.
func (g *Gateway) runError(res agent.Result) *wire.Error {
	switch res.Status {
	case agent.StatusOK:
		return nil
	case agent.StatusAborted:
		return wire.Unavailable("%s", res.Err)
	}
	return g.asWire(res.Err)
}

// chatSend starts a turn and answers once its message is stored. The run
// outlives the connection: its reply belongs to the session, where any client
// finds it; chat.abort ends it.
func (g *Gateway) chatSend(ctx context.Context, p *peer, in *wire.ChatSend, ack func(any)) (any, error) {
	if ids, ok := g.agents.Stop(in.SessionKey, in.Message); ok {
		return aborted(ids), nil
	}
	t, err := g.turnOf(in.Message, in.Attachments, in.SessionKey, "", in.IdempotencyKey)
	if err != nil {
		return nil, err
	}
	t.Timeout = time.Duration(in.TimeoutMs) * time.Millisecond
	if in.Deliver {
		if _, err := g.deliver("chat.send", &t, store.DeliveryContext{}); err != nil {
			return nil, err
		}
	}
	t.Accepted = func(run *agent.Run) { ack(wire.ChatAck{RunID: run.ID, Status: wire.StatusStarted}) } // before the first event
	run, replayed, err := g.startOnce(context.WithoutCancel(ctx), p, "chat.send", in.IdempotencyKey, in, t)
	if err != nil || !replayed {
		return nil, err
	}
	select {
	case <-run.Done():
		return wire.ChatAck{RunID: run.ID, Status: wire.StatusOK}, nil
	default:
		return wire.ChatAck{RunID: run.ID, Status: wire.StatusInFlight}, nil
	}
}

// startOnce starts a turn unless the same principal has started it already
// with the same key; then it returns that run. params is what the request
// said: the same key with other params is refused.
func (g *Gateway) startOnce(ctx context.Context, p *peer, method, key string, params any, t agent.Turn) (*agent.Run, bool, error) {
	raw, err := wire.Marshal(params)
	if err != nil {
		return nil, false, err
	}
	v, err, replayed := g.idem.do(p.grant.who, method, key, raw, func() (any, error) {
		ours := false
		events := g.systemEvents.take()
		accepted := t.Accepted
		t.Accepted = func(run *agent.Run) {
			ours = true
			if run.Command { // no model is told
				g.systemEvents.add(events...)
			}
			accepted(run)
		}
		t.System = strings.TrimSpace(t.System + "\n\n" + toldWithTurn(events))
		run, err := g.agents.Start(ctx, t)
		if !ours {
			g.systemEvents.add(events...)
		}
		if err == nil && !ours { // the id is another principal's, or another method's
			return nil, wire.InvalidRequest("idempotencyKey is taken by another run")
		}
		return run, err
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
			return agent.Turn{}, wire.InvalidRequest("invalid agent params: unknown agent id %q", store.Clip(agentID, 64))
		}
	}
	return agent.Turn{RunID: runID, SessionKey: key, AgentID: agentID, Messages: []store.Message{m}}, nil
}

// attachment takes an image as it is and a text file as text.
func attachment(f wire.Attachment) (store.Part, error) {
	data, mime := f.Content, f.MimeType
	if meta, b64, ok := cutDataURL(data); ok {
		data, mime = b64, cmp.Or(mime, meta)
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
		return store.Part{Type: store.PartText, Text: "\n\n[" + store.Clip(cmp.Or(f.FileName, "attachment"), 255) + "]\n" + string(raw)}, nil
	}
	return store.Part{}, fmt.Errorf("type %q is not taken: send images or text", store.Clip(mime, 64))
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
	h, err := g.agents.History(in.SessionKey, cmp.Or(in.Limit, 200), 0)
	if err != nil {
		return nil, err
	}
	out := &wire.ChatHistoryPage{SessionKey: in.SessionKey, SessionID: h.SessionID, Messages: make([]wire.Raw, len(h.Messages)), ThinkingLevel: "off", TotalMessages: h.Total, HasMore: h.Total > len(h.Messages)}
	for i, m := range h.Messages {
		if out.Messages[i], err = wire.Marshal(m.Message); err != nil {
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
