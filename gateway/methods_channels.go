package gateway

import (
	"cmp"
	"context"
	"encoding/base64"
	"errors"
	"maps"
	"slices"
	"time"

	"openclaw/gateway/channel"
	"openclaw/gateway/store"
	"openclaw/reload/config"
	"openclaw/wire"
)

const sendWait = 60 * time.Second // for the network's word; the message stays queued after it

// send queues a message, once for each idempotency key, and waits for the
// network's word.
func (g *Gateway) send(ctx context.Context, p *peer, in *wire.Send) (*wire.SendResult, error) {
	if in.MediaURL != "" || len(in.MediaURLs) > 0 {
		return nil, wire.InvalidRequest("mediaUrl: nothing is fetched that a request names; send the file as an attachment")
	}
	if in.Message == "" && len(in.Media) == 0 {
		return nil, wire.InvalidRequest("message or attachment required")
	}
	name := cmp.Or(in.Channel, g.onlyChannel())
	if name == "" {
		return nil, wire.InvalidRequest("channel is missing, and not one alone is configured")
	}
	out := channel.Outbound{ID: "send-" + randomID(8), To: in.To, Text: in.Message, ReplyTo: in.ReplyTo, Thread: in.ThreadID}
	for i, f := range in.Media {
		data, err := base64.StdEncoding.DecodeString(f.Content)
		if err != nil {
			return nil, wire.InvalidRequest("attachments.%d: content must be base64", i)
		}
		out.Files = append(out.Files, channel.File{Name: f.FileName, MIME: f.MimeType, Data: data})
	}
	raw, err := wire.Marshal(in)
	if err != nil {
		return nil, err
	}
	v, err, _ := g.idem.do(p.grant.who, "send", in.IdempotencyKey, raw, func() (any, error) {
		ctx, cancel := context.WithTimeoutCause(g.ctx, sendWait, context.DeadlineExceeded)
		defer cancel()
		a, err := g.channels.Account(name, in.AccountID)
		if err != nil {
			return nil, sendError(err)
		}
		sent, err := g.channels.Send(ctx, name, a.ID(), out)
		if err != nil {
			return nil, sendError(err)
		}
		return &wire.SendResult{RunID: in.IdempotencyKey, MessageID: sent.MessageID, Channel: name, AccountID: a.ID(), To: in.To}, nil
	})
	if err != nil {
		return nil, err
	}
	return v.(*wire.SendResult), nil
}

// sendError tells a client why a message did not go out, or that nobody knows:
// what was queued is not to be asked for again.
func sendError(err error) error {
	queued := errors.As(err, new(*channel.Outcome))
	if e := knownError(err); e != nil && e.Code != wire.CodeAgentTimeout && !queued {
		return e
	}
	e := wire.Unavailable("%s", err)
	e.Retryable = !queued
	return e
}

// messageAction is send for newer clients.
func (g *Gateway) messageAction(ctx context.Context, p *peer, in *wire.MessageAction) (*wire.SendResult, error) {
	if in.Action != "send" {
		return nil, wire.InvalidRequest("action %q is not served; send is", store.Clip(in.Action, 64))
	}
	var a wire.MessageActionParams
	if err := wire.DecodeLoose(in.Params, &a); err != nil {
		return nil, wire.InvalidRequest("params: %s", err)
	}
	if a.Media != "" {
		return nil, wire.InvalidRequest("params.media: nothing is fetched that a request names; use send with an attachment")
	}
	s := &wire.Send{
		To: cmp.Or(a.To, a.Target), Message: cmp.Or(a.Message, a.Text), Channel: in.Channel, AccountID: cmp.Or(in.AccountID, a.AccountID),
		ReplyTo: a.ReplyTo, ThreadID: a.ThreadID, SessionKey: in.SessionKey, IdempotencyKey: in.IdempotencyKey,
	}
	if s.To == "" || len(s.To) > 256 {
		return nil, wire.InvalidRequest("params.to is missing or too long")
	}
	return g.send(ctx, p, s)
}

// networkLabels are the networks' own names.
var networkLabels = map[string]string{"telegram": "Telegram", "whatsapp": "WhatsApp"}

// channelNames are the channels with an account, and their labels.
func channelNames(cfg *config.Config) (order []string, labels map[string]string) {
	order, labels = []string{}, map[string]string{}
	for _, a := range cfg.ChannelAccounts() {
		if labels[a.Channel] == "" {
			order = append(order, a.Channel)
			labels[a.Channel] = a.Channel
			if label := networkLabels[a.Channel]; label != "" {
				labels[a.Channel] = label
			}
		}
	}
	return order, labels
}

// channelAccounts is how the accounts fare, by channel.
func (g *Gateway) channelAccounts() map[string][]wire.ChannelAccount {
	out := map[string][]wire.ChannelAccount{}
	for _, s := range g.channels.Status() {
		a := wire.ChannelAccount{
			AccountID: s.Account, Kind: s.Kind, Enabled: true, Configured: true, Linked: !s.Unlinked,
			Running: !s.Terminal && s.State != channel.StateStopped, Connected: s.State == channel.StateOpen, State: s.State, Terminal: s.Terminal, Code: s.Code,
			Self: s.Self, LastSuccessAt: ms(s.LastSuccess), LastInboundAt: ms(s.LastInbound), LastSentAt: ms(s.LastSent),
			LastError: s.LastError, LastErrorAt: ms(s.LastErrorAt), Failures: s.Failures, Waiting: s.Waiting, Queued: s.Queued, Unsure: s.Unsure, Stuck: s.Stuck, StuckSinceAt: ms(s.StuckSince),
		}
		if s.Kind == "whatsapp" { // whose account is not in the configuration
			a.Linked = s.Self != ""
		}
		for _, u := range s.Uncertain {
			a.Uncertain = append(a.Uncertain, wire.UncertainMessage(u))
		}
		out[s.Channel] = append(out[s.Channel], a)
	}
	return out
}

func ms(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

func (g *Gateway) channelsStatus(ctx context.Context, p *peer, in *wire.ChannelsStatusGet) (*wire.ChannelsStatus, error) {
	order, labels := channelNames(g.cfg())
	out := &wire.ChannelsStatus{
		Ts: time.Now().UnixMilli(), ChannelOrder: order, ChannelLabels: labels, ChannelDetailLabels: labels, ChannelSystemImages: map[string]string{},
		ChannelMeta: []wire.ChannelMeta{}, Channels: map[string]wire.ChannelSummary{}, ChannelAccounts: g.channelAccounts(), ChannelDefaultAccountID: map[string]string{},
	}
	for _, name := range order {
		out.ChannelMeta = append(out.ChannelMeta, wire.ChannelMeta{ID: name, Label: labels[name], DetailLabel: labels[name]})
		list := out.ChannelAccounts[name]
		sum := wire.ChannelSummary{Configured: true}
		for _, a := range list {
			sum.Running, sum.Connected, sum.LastError = sum.Running || a.Running, sum.Connected || a.Connected, cmp.Or(sum.LastError, a.LastError)
		}
		out.Channels[name] = sum
		if len(list) > 0 {
			out.ChannelDefaultAccountID[name] = list[0].AccountID
			if slices.ContainsFunc(list, func(a wire.ChannelAccount) bool { return a.AccountID == config.DefaultAccount }) {
				out.ChannelDefaultAccountID[name] = config.DefaultAccount
			}
		}
	}
	return out, nil
}

func (g *Gateway) channelsLogout(ctx context.Context, p *peer, in *wire.ChannelAccountRef) (*wire.ChannelLoggedOut, error) {
	id, err := g.channels.Logout(in.Channel, in.AccountID)
	if err != nil {
		return nil, sendError(err)
	}
	return &wire.ChannelLoggedOut{Channel: in.Channel, AccountID: id, Cleared: true, LoggedOut: true}, nil
}

func (g *Gateway) uncertainClear(ctx context.Context, p *peer, in *wire.ChannelAccountRef) (*wire.UncertainCleared, error) {
	id, n, err := g.channels.ClearUncertain(in.Channel, in.AccountID)
	if err != nil {
		return nil, err
	}
	g.log.Info("uncertain messages cleared", "channel", in.Channel+":"+id, "count", n)
	return &wire.UncertainCleared{Channel: in.Channel, AccountID: id, Cleared: n}, nil
}

func (g *Gateway) pairingList(ctx context.Context, p *peer, in *wire.ChannelAccountRef) (*wire.PairingList, error) {
	list, allowed, err := g.channels.Pending(in.Channel)
	if err != nil {
		return nil, err
	}
	out := &wire.PairingList{Channel: in.Channel, Requests: []wire.PairingRequest{}, Approved: []wire.PairingApproved{}}
	for _, r := range list {
		if in.AccountID == "" || in.AccountID == r.Account {
			out.Requests = append(out.Requests, pairingRequest(r))
		}
	}
	for _, account := range slices.Sorted(maps.Keys(allowed)) {
		for _, id := range allowed[account] {
			if in.AccountID == "" || in.AccountID == account {
				out.Approved = append(out.Approved, wire.PairingApproved{AccountID: account, ID: id})
			}
		}
	}
	return out, nil
}

func (g *Gateway) pairingApprove(ctx context.Context, p *peer, in *wire.PairingApprove) (wire.PairingRequest, error) {
	r, err := g.channels.Approve(in.Channel, in.Code)
	if err != nil {
		return wire.PairingRequest{}, err
	}
	g.log.Info("sender approved", "channel", in.Channel+":"+r.Account, "peer", r.ID)
	return pairingRequest(r), nil
}

func (g *Gateway) pairingReject(ctx context.Context, p *peer, in *wire.PairingApprove) (wire.PairingRequest, error) {
	r, err := g.channels.Reject(in.Channel, in.Code)
	if err != nil {
		return wire.PairingRequest{}, err
	}
	g.log.Info("sender rejected", "channel", in.Channel+":"+r.Account, "peer", r.ID)
	return pairingRequest(r), nil
}

func (g *Gateway) pairingRevoke(ctx context.Context, p *peer, in *wire.PairingRevoke) (*wire.PairingRevoked, error) {
	accounts, err := g.channels.Revoke(in.Channel, in.AccountID, in.ID)
	if err != nil {
		return nil, err
	}
	for _, account := range accounts {
		g.log.Info("approval of a sender revoked", "channel", in.Channel+":"+account, "peer", in.ID)
		a, err := g.channels.Account(in.Channel, account)
		if err == nil && g.cfg().Session.DMScope != "main" { // which others speak in too
			id := config.PeerID(in.Channel, in.ID)
			g.interrupt(a, channel.Inbound{From: id, Chat: id, Text: "/stop"}, 0)
		}
	}
	return &wire.PairingRevoked{Channel: in.Channel, ID: in.ID, Accounts: accounts}, nil
}

func pairingRequest(r channel.Request) wire.PairingRequest {
	return wire.PairingRequest{Code: r.Code, AccountID: r.Account, ID: r.ID, Name: r.Name, CreatedAt: r.At}
}
