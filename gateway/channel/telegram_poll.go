package channel

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"
)

const (
	pollTime   = 30 * time.Second
	pollMargin = 10 * time.Second // after which a poll that should have ended is given up
	pollPause  = time.Second      // after one that brought nothing new
	pollHeld   = 2 * time.Second  // after which one that has no answer is not refused
	pollBatch  = 100              // updates of one answer, at most
	maxBatch   = 8 << 20          // bytes of messages that are kept at a time
)

// Run takes updates, by polls or by what is posted, until ctx ends or it cannot.
func (t *telegram) Run(ctx context.Context, a *Account) error {
	t.transport.CloseIdleConnections() // one of them may be why we are here again
	defer t.transport.CloseIdleConnections()
	me := new(tgUser)
	if err := t.call(ctx, callTime, "getMe", struct{}{}, me); err != nil {
		return t.fault(err)
	}
	t.me.Store(me)
	if t.webhookURL != "" {
		return t.runWebhook(ctx, a)
	}
	return t.poll(ctx, a)
}

// poll asks for updates. One is confirmed to the network by the next poll, after
// Receive has made it durable. The first poll does not wait, as only its answer
// tells that the bot is ours to poll; a server that holds it all the same has
// not refused it.
func (t *telegram) poll(ctx context.Context, a *Account) error {
	wait, limit, told := 0, pollBatch, false
	for offset := a.Offset(); ; {
		held := make(chan struct{})
		timer := time.AfterFunc(pollHeld, func() {
			defer close(held)
			if wait == 0 {
				a.Alive("@" + t.me.Load().Username)
			}
		})
		var batch []json.RawMessage
		err := t.call(ctx, pollTime+pollMargin, "getUpdates", map[string]any{
			"offset": offset, "limit": limit, "timeout": wait, "allowed_updates": []string{"message"},
		}, &batch)
		if !timer.Stop() {
			<-held
		}
		var e *apiError
		if errors.As(err, &e) && e.code == http.StatusConflict && strings.Contains(e.text, "webhook") {
			a.log.Warn("channel takes back its webhook", "channel", a.name())
			err = t.call(ctx, callTime, "deleteWebhook", map[string]any{"drop_pending_updates": false}, nil)
			if err == nil {
				continue
			}
		}
		if errors.Is(err, errTooMuch) && limit > 1 { // strangers decide how long updates are
			limit /= 10
			continue
		}
		if err != nil {
			return t.fault(err)
		}
		if len(batch) < limit {
			limit = pollBatch
		}
		wait = int(pollTime / time.Second)
		a.Alive("@" + t.me.Load().Username)
		t.turf.held(time.Now())
		updates := decoded(batch)
		first, last := span(updates)
		stale := len(updates) > 0 && last < offset
		if stale && 0 < first && last < offset-1 { // else it is the last one once more
			// After a week without updates the network counts from any number, and
			// answers who asks beyond it with the oldest that it has.
			if !told {
				told = true
				a.log.Warn("the network numbers its updates anew", "channel", a.name(), "was", offset, "now", first)
			}
			if err := a.reread(first); err != nil {
				return err
			}
			offset = first
		}
		if offset, err = t.keep(ctx, a, offset, updates); err != nil {
			return err
		}
		if stale {
			select {
			case <-time.After(pollPause):
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
	}
}

// update is one of a batch, with its id even where err is why it cannot be read.
type update struct {
	tgUpdate
	err error
}

// decoded are the updates of a batch, each read by itself.
func decoded(batch []json.RawMessage) []update {
	updates := make([]update, len(batch))
	for i, raw := range batch {
		u := &updates[i]
		if u.err = json.Unmarshal(raw, &u.tgUpdate); u.err != nil {
			var id struct {
				ID int64 `json:"update_id"`
			}
			json.Unmarshal(raw, &id)
			u.ID = id.ID
		}
	}
	return updates
}

// span is the lowest and the highest id of updates; 0 where one has none.
func span(updates []update) (first, last int64) {
	for i := range updates {
		id := updates[i].ID
		if i == 0 {
			first = id
		}
		first, last = min(first, id), max(last, id)
	}
	return first, last
}

// keep makes a batch of updates durable and returns the offset after it.
func (t *telegram) keep(ctx context.Context, a *Account, offset int64, updates []update) (int64, error) {
	fetching, cancel := context.WithTimeout(ctx, fileTime)
	defer cancel()
	var list []Inbound
	held := 0
	for i := range updates {
		u := &updates[i]
		offset = max(offset, u.ID+1)
		if u.err != nil {
			a.log.Warn("update cannot be read and is left out", "channel", a.name(), "err", u.err)
			continue
		}
		if m, ok := t.take(fetching, a, &u.tgUpdate); ok {
			list = append(list, m)
			held += m.weight()
		}
		if held > maxBatch && ctx.Err() == nil { // a hundred updates may have a hundred files
			if err := a.Receive(ctx, offset, list...); err != nil {
				return offset, err
			}
			list, held = nil, 0
		}
	}
	if ctx.Err() != nil {
		return offset, context.Cause(ctx)
	}
	return offset, a.Receive(ctx, offset, list...)
}

// take makes a message of an update, with its files if it is let in.
func (t *telegram) take(ctx context.Context, a *Account, u *tgUpdate) (Inbound, bool) {
	if m := u.Message; m != nil && m.MigrateTo != 0 {
		a.log.Warn("group has a new id, by which groups must name it", "channel", a.name(), "old", m.Chat.ID, "new", m.MigrateTo)
	}
	in, ok := t.inbound(u)
	if ok && a.wants(&in) {
		t.fetch(ctx, &in, u.Message)
	}
	return in, ok
}

// fault says what an error means for the connection.
func (t *telegram) fault(err error) error {
	var e *apiError
	if !errors.As(err, &e) || !e.spoken { // a proxy's word on a token is none
		return err
	}
	switch e.code {
	case http.StatusUnauthorized, http.StatusNotFound:
		return final("the bot token is not accepted (%d %s): take a new one from @BotFather", e.code, e.text)
	case http.StatusConflict:
		wait := t.turf.lost(time.Now())
		return &Fault{Err: fmt.Errorf("another program polls with this bot token, and only one can: stop the other one; this one waits for %s", wait), Wait: wait, Sends: true}
	case http.StatusTooManyRequests:
		return &Fault{Err: e, Wait: e.after}
	}
	return err
}
