package svc

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"mime"
	"path/filepath"
	"strings"

	"openclaw/wire"
)

// channelSend sends to a chat and says where it went.
func channelSend(ctx context.Context, e *Env, a *Args, to, text string) error {
	in := &wire.Send{To: to, Message: text, Channel: a.Get("channel"), AccountID: a.Get("account"), IdempotencyKey: rand.Text()}
	if name := a.Get("media"); name != "" {
		raw, err := e.readInput(name)
		if err != nil {
			return usage("--media: %v", err)
		}
		in.Media = []wire.Attachment{{FileName: filepath.Base(name), MimeType: mime.TypeByExtension(filepath.Ext(name)), Content: base64.StdEncoding.EncodeToString([]byte(raw))}}
	}
	if a.Has("dry-run") {
		if e.JSON {
			return e.printJSON(map[string]any{"ok": true, "dryRun": true, "kind": "channel", "channel": in.Channel, "to": to})
		}
		return e.printf("would send %d bytes to %s over %s\n", len(text), escape(to), escape(in.Channel))
	}
	return query(ctx, e, a, "send", in, func(_ *link, sent *wire.SendResult) error {
		return e.printf("sent to %s over %s:%s, message %s\n", escape(sent.To), escape(sent.Channel), escape(sent.AccountID), escape(sent.MessageID))
	})
}

func channelsStatus(ctx context.Context, e *Env, a *Args) error {
	return query(ctx, e, a, "channels.status", nil, func(_ *link, s *wire.ChannelsStatus) error {
		if len(s.ChannelOrder) == 0 {
			e.Warn("no channel is configured")
			return nil
		}
		var rows [][]string
		for _, name := range s.ChannelOrder {
			for _, c := range s.ChannelAccounts[name] {
				why := c.LastError
				if n := c.Unsure; n > 0 {
					why = strings.TrimPrefix(fmt.Sprintf("%s; %s uncertain", why, count(n, "message")), "; ")
				}
				if n := c.Stuck; n > 0 {
					why = fmt.Sprintf("%s; nothing goes to %s since %s", why, count(n, "chat"), e.ago(c.StuckSinceAt))
				}
				rows = append(rows, []string{name + ":" + c.AccountID, c.State, c.Self, e.ago(c.LastSuccessAt), fmt.Sprint(c.Waiting), fmt.Sprint(c.Queued), why})
			}
		}
		return e.table([]string{"ACCOUNT", "STATE", "AS", "LAST SUCCESS", "UNANSWERED", "UNSENT", "ERROR"}, rows)
	})
}

// channelsUncertain lists the messages of which nobody knows whether they
// arrived, or has the gateway forget them.
func channelsUncertain(ctx context.Context, e *Env, a *Args) error {
	channel, account := a.Word(0), a.Get("account")
	if a.Has("clear") {
		return query(ctx, e, a, "channels.uncertain.clear", &wire.ChannelAccountRef{Channel: channel, AccountID: account}, func(_ *link, out *wire.UncertainCleared) error {
			return e.printf("%s of %s:%s cleared\n", count(out.Cleared, "uncertain message"), escape(out.Channel), escape(out.AccountID))
		})
	}
	return query(ctx, e, a, "channels.status", nil, func(_ *link, s *wire.ChannelsStatus) error {
		if s.ChannelAccounts[channel] == nil {
			return fmt.Errorf("no channel %s is configured", escape(channel))
		}
		var rows [][]string
		total := 0
		for _, c := range s.ChannelAccounts[channel] {
			if account != "" && account != c.AccountID {
				continue
			}
			total += c.Unsure
			for _, u := range c.Uncertain {
				since := ""
				if u.At != 0 {
					since = e.ago(u.At)
				}
				rows = append(rows, []string{c.AccountID, u.To, since, u.ID, u.Why})
			}
		}
		if total > len(rows) {
			e.Warn("%s; the last ones are shown", count(total, "uncertain message"))
		} else if total == 0 {
			e.Warn("no message of %s is uncertain", channel)
			return nil
		}
		return e.table([]string{"ACCOUNT", "TO", "SINCE", "ID", "WHY"}, rows)
	})
}

func channelsLogout(ctx context.Context, e *Env, a *Args) error {
	in := &wire.ChannelAccountRef{Channel: a.Word(0), AccountID: a.Get("account")}
	return query(ctx, e, a, "channels.logout", in, func(_ *link, out *wire.ChannelLoggedOut) error {
		return e.printf("%s:%s is told to unlink\n", escape(out.Channel), escape(out.AccountID))
	})
}

func pairingList(ctx context.Context, e *Env, a *Args) error {
	return query(ctx, e, a, "channels.pairing.list", &wire.ChannelAccountRef{Channel: a.Word(0)}, func(_ *link, list *wire.PairingList) error {
		if len(list.Requests) == 0 {
			e.Warn("nobody waits")
		}
		if len(list.Requests)+len(list.Approved) == 0 {
			return nil
		}
		var rows [][]string
		for _, r := range list.Requests {
			rows = append(rows, []string{r.Code, r.AccountID, r.ID, r.Name, e.ago(r.CreatedAt)})
		}
		for _, r := range list.Approved {
			rows = append(rows, []string{"(approved)", r.AccountID, r.ID, "", ""})
		}
		return e.table([]string{"CODE", "ACCOUNT", "ID", "NAME (THEIR OWN CHOICE)", "SINCE"}, rows)
	})
}

func pairingApprove(ctx context.Context, e *Env, a *Args) error {
	in := &wire.PairingApprove{Channel: a.Word(0), Code: a.Word(1)}
	return query(ctx, e, a, "channels.pairing.approve", in, func(_ *link, r *wire.PairingRequest) error {
		return e.printf("%s may write now\n", escape(r.ID))
	})
}

func pairingReject(ctx context.Context, e *Env, a *Args) error {
	in := &wire.PairingApprove{Channel: a.Word(0), Code: a.Word(1)}
	return query(ctx, e, a, "channels.pairing.reject", in, func(_ *link, r *wire.PairingRequest) error {
		return e.printf("%s is refused\n", escape(r.ID))
	})
}

func pairingRevoke(ctx context.Context, e *Env, a *Args) error {
	in := &wire.PairingRevoke{Channel: a.Word(0), AccountID: a.Get("account"), ID: a.Word(1)}
	return query(ctx, e, a, "channels.pairing.revoke", in, func(_ *link, out *wire.PairingRevoked) error {
		return e.printf("%s may no longer write to %s\n", escape(out.ID), escape(strings.Join(out.Accounts, ", ")))
	})
}
