package channel

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

const (
	webhookEvery = 5 * time.Minute  // between two looks at what the network says of it
	webhookFetch = 20 * time.Second // for a file, as the network waits for the answer
)

// runWebhook has updates posted in place of polling for them, and looks now and
// then whether they still are.
func (t *telegram) runWebhook(ctx context.Context, a *Account) error {
	err := t.call(ctx, callTime, "setWebhook", map[string]any{
		"url": t.webhookURL, "secret_token": t.webhookSecret, "allowed_updates": []string{"message"}, "drop_pending_updates": false,
		"max_connections": 1, // one after the other, in their order
	}, nil)
	for began := time.Now(); ; {
		if err != nil {
			return t.fault(err)
		}
		var info struct {
			URL     string `json:"url"`
			ErrorAt int64  `json:"last_error_date"`
			Error   string `json:"last_error_message"`
		}
		if err := t.call(ctx, callTime, "getWebhookInfo", struct{}{}, &info); err != nil {
			return t.fault(err)
		}
		if info.URL != t.webhookURL {
			return &Fault{Err: errors.New("another program has taken this bot's updates, and only one can: stop the other one"), Wait: turfYield, Sends: true}
		}
		a.Alive("@" + t.me.Load().Username)
		if failed := time.Unix(info.ErrorAt, 0); failed.After(began) {
			a.trouble(fmt.Sprintf("telegram cannot post to webhookUrl: %s", plain(info.Error, 200)))
		}
		began = time.Now()
		select {
		case <-time.After(webhookEvery):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// posted takes one update that was posted. When it returns nil, that is durable.
func (t *telegram) posted(ctx context.Context, a *Account, raw []byte) error {
	var u tgUpdate
	if err := json.Unmarshal(raw, &u); err != nil || u.ID <= 0 {
		return final("not an update")
	}
	if t.me.Load() == nil {
		return errors.New("not connected yet")
	}
	t.posting.Lock() // an update that comes again meanwhile waits, and is known then
	defer t.posting.Unlock()
	fetching, cancel := context.WithTimeout(ctx, webhookFetch)
	defer cancel()
	m, ok := t.take(fetching, a, &u)
	if !ok {
		return nil
	}
	return a.Receive(ctx, u.ID+1, m)
}

// Posted takes an update that the network posted for an account, by the secret
// of which it was recognised. A final *Fault says that it will never be taken.
func (s *Set) Posted(ctx context.Context, channel, account string, raw []byte) error {
	a, err := s.Account(channel, account)
	if err != nil {
		return err
	}
	t, ok := a.channel.(*telegram)
	if !ok || t.webhookURL == "" {
		return ErrUnknown
	}
	return t.posted(ctx, a, raw)
}
