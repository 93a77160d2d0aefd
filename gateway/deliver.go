package gateway

import (
	"cmp"
	"context"
	"fmt"
	"strings"
	"time"

	"openclaw/gateway/agent"
	"openclaw/gateway/channel"
	"openclaw/gateway/store"
	"openclaw/gateway/tool"
	"openclaw/reload/config"
	"openclaw/wire"
)

// This file is how agents write to chats other than by answering there: by the
// message tool, and where a client wants a turn's answer delivered.

// toolMessages sends for the message tool. It looks the channels up when it is
// asked: they are made after the tools.
type toolMessages struct{ g *Gateway }

func (s toolMessages) Send(ctx context.Context, agentID string, from *store.DeliveryContext, m tool.Message) (tool.SentMessage, error) {
	g := s.g
	d := store.DeliveryContext{Channel: m.Channel, AccountID: m.AccountID, To: m.To}
	if from != nil && d.Channel == "" {
		d.Channel = from.Channel
	}
	if from != nil && d.Channel == from.Channel {
		d.AccountID = cmp.Or(d.AccountID, from.AccountID)
	}
	here := from != nil && d.Channel == from.Channel && d.AccountID == from.AccountID && cmp.Or(d.To, from.To) == from.To
	if here {
		d = *from
	}
	if d.Channel == "" {
		d.Channel = g.onlyChannel()
	}
	if d.Channel == "" || d.To == "" {
		return tool.SentMessage{}, wire.InvalidRequest("channel and to are missing: no chat is being answered")
	}
	if !here {
		cfg := g.cfg()
		d.To = config.PeerID(d.Channel, d.To)
		if err := g.channels.Reach(d.Channel, d.AccountID, d.To, func(account string, group bool) bool {
			return cfg.AgentFor(d.Channel, account, group, d.To) == agentID
		}); err != nil {
			return tool.SentMessage{}, err
		}
	}
	out := outbound("tool-"+randomID(8), &d, m.Text)
	out.ReplyTo = m.ReplyTo
	if m.File != nil {
		out.Files = []channel.File{{Name: m.File.Name, MIME: m.File.MIME, Data: m.File.Data}}
	}
	ctx, cancel := context.WithTimeout(ctx, sendWait)
	defer cancel()
	sent, err := g.channels.Send(ctx, d.Channel, d.AccountID, out)
	return tool.SentMessage{Channel: d.Channel, AccountID: d.AccountID, To: d.To, MessageID: sent.MessageID}, err
}

// onlyChannel is the channel that is meant when none is named.
func (g *Gateway) onlyChannel() string {
	if order, _ := channelNames(g.cfg()); len(order) == 1 {
		return order[0]
	}
	return ""
}

// threadOf is a thread's id as a DeliveryContext holds it.
func threadOf(id string) (raw []byte) {
	if id != "" {
		raw, _ = wire.Marshal(id)
	}
	return raw
}

func outbound(id string, d *store.DeliveryContext, text string) channel.Outbound {
	return channel.Outbound{ID: id, To: d.To, Thread: strings.Trim(string(d.ThreadID), `"`), Text: text}
}

// deliver has the answer of a turn that is about to start also sent to a chat:
// to the one that the request names, else to the one that the session was last
// spoken to from. What is queued survives the gateway. sent waits for the
// network's word, once the turn has ended well.
func (g *Gateway) deliver(method string, t *agent.Turn, asked store.DeliveryContext) (sent func(context.Context) error, err error) {
	refuse := func(format string, a ...any) (func(context.Context) error, error) {
		return nil, wire.InvalidRequest("invalid "+method+" params: deliver: "+format, a...)
	}
	d := asked
	if order, _ := channelNames(g.cfg()); len(order) == 0 {
		return refuse("no channel is configured")
	}
	if d.To == "" {
		if _, e, err := g.agents.Entry(t.SessionKey); err == nil && e.LastTo != "" && (d.Channel == "" || d.Channel == e.LastChannel) {
			d = store.DeliveryContext{Channel: e.LastChannel, AccountID: e.LastAccountID, To: e.LastTo}
			if e.DeliveryContext != nil {
				d = *e.DeliveryContext
			}
		}
	}
	d.Channel = cmp.Or(d.Channel, g.onlyChannel())
	if d.Channel == "" || d.To == "" {
		return refuse("name the channel and the chat: nobody has written to this session from one")
	}
	if !g.channels.Has(d.Channel, d.AccountID) {
		return refuse("unsupported channel: %s", store.Clip(d.Channel, 64))
	}
	done := make(chan error, 1)
	t.Observe = func(e agent.Event) {
		switch {
		case e.Kind == agent.KindError || e.Kind == agent.KindAborted, e.Kind == agent.KindEnd && e.Result.Text == "":
			done <- nil
		case e.Kind == agent.KindEnd:
			err := g.channels.Queue(d.Channel, d.AccountID, outbound("deliver-"+e.Run.ID, &d, e.Result.Text), func(_ channel.Sent, err error) { done <- err })
			if err != nil {
				g.log.Error("reply not delivered", "channel", d.Channel, "run", e.Run.ID, "err", err)
				done <- err
			}
		}
	}
	return func(ctx context.Context) error {
		select {
		case err := <-done:
			return err
		case <-time.After(sendWait):
			return fmt.Errorf("%s has not taken it within %v; it stays queued", d.Channel, sendWait)
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}, nil
}
