package gateway

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	"openclaw/gateway/agent"
	"openclaw/gateway/channel"
	"openclaw/gateway/store"
	"openclaw/reload/config"
)

// This file joins channels and agents: what is heard becomes a turn of the
// session that it belongs to, and the turn's answer the reply.

// hear is the channels' Handler. The turn is named after the message, and the
// message in the transcript too: after a crash it is neither said twice nor
// left without its answer.
func (g *Gateway) hear(_ context.Context, a *channel.Account, m channel.Inbound) (func(context.Context) (string, error), error) {
	key := channelKey(g.cfg(), a, &m)
	if text, ok := g.interrupt(a, m, 0); ok { // a word that was none when it came
		return said(text), nil
	}
	source := a.Channel() + ":" + a.ID() + ":" + m.ID
	if len(source) > 128 {
		sum := sha256.Sum256([]byte(source))
		source = a.Channel() + ":" + hex.EncodeToString(sum[:])
	}
	t := agent.Turn{
		RunID: source, SessionKey: key, System: toldOf(a, &m), From: fromOf(a, &m),
		Messages: []store.Message{{Role: store.RoleUser, Content: heardOf(&m), Source: source}},
		Answer:   &store.Answer{ID: source, By: "channel"},
	}
	t.Observe = func(e agent.Event) {
		switch {
		case e.Kind == agent.KindStart && g.channels.Refuses(a.Channel(), a.ID(), &m): // since it was handed on
			e.Run.Abort("refused")
		case e.Kind == agent.KindDelta && m.Progress != nil:
			m.Progress(e.Text)
		}
	}
	if m.Again {
		known, answer, err := g.agents.Said(key, source)
		switch {
		case err != nil && !errors.Is(err, agent.ErrUnknownSession):
			return nil, err
		case answer != nil:
			return said(answer.Content.String()), nil
		case known:
			t.Messages, t.Resume = nil, source
		}
	}
	run, err := g.agents.Start(context.Background(), t) // it outlives the connection
	switch {
	case errors.Is(err, agent.ErrBusy), errors.Is(err, agent.ErrDraining), errors.Is(err, store.ErrNoSpace):
		return nil, &channel.Fault{Err: err, Wait: time.Second}
	case err != nil:
		g.log.Warn("message not answered", "channel", a.Channel()+":"+a.ID(), "session", key, "run", source, "err", err)
		return nil, plainly(err)
	}
	return func(ctx context.Context) (string, error) { return g.replyOf(ctx, run) }, nil
}

// interrupt is the channels' Interrupter: what asks a session to stop does so at once.
func (g *Gateway) interrupt(a *channel.Account, m channel.Inbound, waiting int) (string, bool) {
	ids, ok := g.agents.Stop(channelKey(g.cfg(), a, &m), m.Text)
	return fmt.Sprintf("Stopped %d.", len(ids)+waiting), ok
}

// replyOf waits for what a run says.
func (g *Gateway) replyOf(ctx context.Context, run *agent.Run) (string, error) {
	select {
	case <-run.Done():
	case <-ctx.Done():
		select {
		case <-run.Done(): // first
		default:
			return "", context.Cause(ctx)
		}
	}
	res := run.Result()
	switch {
	case res.Status == agent.StatusAborted && g.stopping.Load():
		return "", &channel.Fault{Err: res.Err} // it is answered after the next start
	case res.Status == agent.StatusAborted:
		return strings.TrimSpace(res.Text + "\n\n[stopped]"), nil
	case res.Status == agent.StatusError:
		g.log.Warn("message not answered", append([]any{"session", run.SessionKey, "run", run.ID}, agent.LogAttrs(res.Err)...)...)
		return res.Text, plainly(res.Err)
	}
	return res.Text, nil
}

// plainly is what people in a chat, who may be strangers, are told of an error:
// not which provider, model or address has failed. The log tells that.
func plainly(err error) error {
	switch {
	case errors.Is(err, agent.ErrTooLong):
		return errors.New("that is too long")
	case errors.Is(err, agent.ErrTimeout), errors.Is(err, context.DeadlineExceeded):
		return errors.New("it took too long")
	case errors.Is(err, agent.ErrModel):
		return errors.New("no model answered")
	}
	return errors.New("something went wrong here")
}

func said(text string) func(context.Context) (string, error) {
	return func(context.Context) (string, error) { return text, nil }
}

// channelKey is the session of a chat.
func channelKey(cfg *config.Config, a *channel.Account, m *channel.Inbound) string {
	peer := m.From
	if m.Group {
		peer = m.Chat
	}
	who := cfg.AgentFor(a.Channel(), a.ID(), m.Group, peer)
	if m.Group {
		conf := a.Config()
		topic, _ := conf.In(m.Chat, m.Thread)
		who = cmp.Or(topic.AgentID, who)
	}
	prefix := "agent:" + who + ":"
	if m.Group {
		key := prefix + a.Channel() + ":group:" + peer
		if m.Thread != "" {
			key += ":thread:" + m.Thread
		}
		return key
	}
	switch cfg.Session.DMScope {
	case "main":
		return prefix + "main"
	case "per-peer":
		return prefix + "direct:" + peer
	case "per-account-channel-peer":
		return prefix + a.Channel() + ":" + a.ID() + ":direct:" + peer
	}
	return prefix + a.Channel() + ":direct:" + peer
}

// fromOf is where a message came from, and answers to it go.
func fromOf(a *channel.Account, m *channel.Inbound) *store.DeliveryContext {
	return &store.DeliveryContext{Channel: a.Channel(), AccountID: a.ID(), To: m.Chat, ThreadID: threadOf(m.Thread)}
}

// toldOf is what a system prompt tells of a message's way. The name is the
// sender's own choice, and is said to be.
func toldOf(a *channel.Account, m *channel.Inbound) string {
	where := "a direct chat"
	if m.Group {
		where = "the group " + m.Chat
	}
	return fmt.Sprintf("This message came over %s, in %s, from the id %s, who goes by the name %q. Your answer is sent there as it is.", a.Channel(), where, m.From, m.Name)
}

// heardOf is a message as models are shown it.
func heardOf(m *channel.Inbound) store.Content {
	text := m.Text
	if m.Group {
		text = fmt.Sprintf("[id %s, %q] %s", m.From, m.Name, text) // the id first: a name is any text
	}
	if m.Forwarded {
		text = "[forwarded] " + text
	}
	if q := m.Quote; q != "" {
		text = "[in reply to: " + store.Clip(q, 1000) + "]\n" + text
	}
	content := store.Text(text)
	for _, f := range m.Files {
		switch {
		case imageType(f.MIME):
			content = append(content, store.Part{Type: store.PartImage, MimeType: f.MIME, Data: base64.StdEncoding.EncodeToString(f.Data)})
		case strings.HasPrefix(f.MIME, "text/"), f.MIME == "application/json":
			content = append(content, store.Part{Type: store.PartText, Text: "\n\n[" + f.Name + "]\n" + strings.ToValidUTF8(string(f.Data), "�")})
		default:
			content = append(content, store.Part{Type: store.PartText, Text: "\n\n[" + f.Name + ", " + f.MIME + ", is not read]"})
		}
	}
	return content
}
