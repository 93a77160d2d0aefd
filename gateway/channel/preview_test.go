package channel

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"openclaw/reload/config"
)

// board is a Channel whose messages can be changed, with what it shows.
type board struct {
	mu     sync.Mutex
	shown  []string // messages by their id, from 1
	at     []time.Time
	refuse func(edit bool, text string) error
}

func (b *board) Run(ctx context.Context, a *Account) error {
	a.Alive("us")
	<-ctx.Done()
	return nil
}
func (b *board) Typing(context.Context, Inbound) {}
func (b *board) Limit() int                      { return 100 }

func (b *board) put(id int, text string) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.refuse != nil {
		if err := b.refuse(id > 0, text); err != nil {
			return 0, err
		}
	}
	if units(text) > b.Limit() {
		return 0, errors.New("too long")
	}
	if id == 0 {
		b.shown = append(b.shown, "")
		id = len(b.shown)
	}
	b.shown[id-1] = text
	b.at = append(b.at, time.Now())
	return id, nil
}

func (b *board) Send(_ context.Context, out Outbound) (Sent, error) {
	id, err := b.put(0, out.Text)
	return Sent{MessageID: fmt.Sprint(id)}, err
}

func (b *board) Edit(_ context.Context, _, message, text string) error {
	var id int
	fmt.Sscan(message, &id)
	_, err := b.put(id, text)
	return err
}

// run makes an account of b on the journal of r, until end.
func (b *board) run(r *rig, streaming string, handle Handler) (a *Account, end func()) {
	r.t.Helper()
	p, err := openPairing(r.dir, "board")
	if err != nil {
		r.t.Fatal(err)
	}
	a, err = r.set.account(config.ChannelAccount{Channel: "board", Account: "default", Kind: "process", Command: []string{"/nonexistent"},
		DMPolicy: "allowlist", AllowFrom: []string{"7"}, Streaming: streaming}, p)
	if err != nil {
		r.t.Fatal(err)
	}
	a.channel, a.handle = b, handle
	ctx, cancel := context.WithCancel(context.Background())
	go a.run(ctx, ctx)
	return a, func() { cancel(); <-a.gone }
}

const wordTime = 105 * time.Millisecond // 14 words until the preview

// growing answers with words, one at a time.
func growing(words ...string) Handler {
	return func(_ context.Context, _ *Account, m Inbound) (func(context.Context) (string, error), error) {
		return func(ctx context.Context) (string, error) {
			text := ""
			for _, w := range words {
				select {
				case <-time.After(wordTime):
				case <-ctx.Done():
					return "", ctx.Err()
				}
				text += w
				if m.Progress != nil {
					m.Progress(text)
				}
			}
			return text, nil
		}, nil
	}
}

func TestPreview(t *testing.T) {
	hello := Inbound{ID: "1", From: "7", Chat: "7", Text: "hi"}
	many := strings.Split(strings.Repeat("word ", 60), " ")
	for i := range many {
		many[i] = fmt.Sprintf("word%d ", i)
	}
	full := strings.Join(many, "")
	t.Parallel()
	for _, c := range []struct {
		name, streaming string
		words           []string
		refuse          func(edit bool, text string) error
		want            []string // nil: as Split has it
		calls           int      // about
	}{
		{name: "quick", streaming: "partial", words: many[:14], want: []string{strings.Join(many[:14], "")}, calls: 1},
		{name: "off", streaming: "off", words: many, calls: len(Split(full, 100))},
		{name: "progress", streaming: "progress", words: many, calls: len(Split(full, 100))},
		{name: "grows", streaming: "partial", words: many[:14:14], calls: 1},
		{name: "long", streaming: "partial", words: many, calls: 7},
		{name: "block", streaming: "block", words: many, calls: 7},
		{name: "nothing to show", streaming: "partial", words: []string{" ", "\n", " ", " ", " ", " ", " ", " ", " ", " ", " ", " ", " ", " ", " ", " ", " ", " "}, want: []string{}, calls: 0},
		{name: "the preview is refused", streaming: "partial", words: many, calls: len(Split(full, 100)), refuse: func() func(bool, string) error {
			first := true
			return func(edit bool, _ string) error {
				if was := first; was {
					first = false
					return &Fault{Err: errors.New("429"), Wait: 20 * time.Second}
				}
				return nil
			}
		}()},
		{name: "edits are refused", streaming: "partial", words: many, calls: len(Split(full, 100)) + 1, refuse: func(edit bool, _ string) error {
			if edit {
				return final("message can't be edited")
			}
			return nil
		}, want: append([]string{strings.Join(many[:14], "")}, Split(full, 100)...)},
		{name: "the last edit fails once", streaming: "partial", words: many, calls: 7, refuse: func() func(bool, string) error {
			n := 0
			return func(edit bool, text string) error {
				if n++; n == 3 {
					return &Fault{Err: errors.New("502"), Wait: 3 * time.Second}
				}
				return nil
			}
		}()},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r, b := newRig(t), &board{refuse: c.refuse}
				a, end := b.run(r, c.streaming, growing(c.words...))
				began := time.Now()
				if err := a.Receive(t.Context(), 1, hello); err != nil {
					t.Fatal(err)
				}
				time.Sleep(2 * time.Minute)
				end()
				want := c.want
				if want == nil {
					want = Split(strings.Join(c.words, ""), 100)
				}
				if !slices.Equal(b.shown, want) {
					t.Errorf("shown:\n%q\nwant:\n%q\n%s", b.shown, want, r.logs)
				}
				if n := len(b.at); n < c.calls || n > c.calls+2 {
					t.Errorf("%d calls, want about %d", n, c.calls)
				}
				if s := a.Status(); s.Queued != 0 || s.Waiting != 0 || len(s.Uncertain) != 0 || len(a.journal.previews) != 0 {
					t.Errorf("%+v", s)
				}
				whole := began.Add(time.Duration(len(c.words)) * wordTime)
				for i := 1; i < len(b.at) && b.at[i].Before(whole); i++ {
					if gap := b.at[i].Sub(b.at[i-1]); gap < previewEvery {
						t.Errorf("changed again after %v", gap)
					}
				}
			})
		})
	}
}

// TestPreviewCrash: the answer takes the place of the preview of a gateway that
// is gone, and an edit that was under way is done again.
func TestPreviewCrash(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r, b := newRig(t), &board{}
		a, end := b.run(r, "partial", growing(strings.Split(strings.Repeat("x,", 30), ",")...))
		if err := a.Receive(t.Context(), 1, Inbound{ID: "1", From: "7", Chat: "7", Text: "hi"}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(1600 * time.Millisecond)
		end()
		if !slices.Equal(b.shown, []string{strings.Repeat("x", 14)}) {
			t.Fatalf("shown %q", b.shown)
		}
		// The answer is queued and its edit begun when that gateway falls too.
		j, _, err := openJournal(r.dir, "board+default")
		if err != nil {
			t.Fatal(err)
		}
		if got := j.preview("1"); got != "1" {
			t.Errorf("preview %q", got)
		}
		if err := j.write(entry{Done: "1", Out: []Outbound{{ID: "re-1", To: "7", Text: "whole", Edit: j.preview("1")}}}, entry{Sending: "re-1"}); err != nil {
			t.Fatal(err)
		}
		j.file.Close()
		a, end = b.run(r, "partial", growing())
		time.Sleep(time.Second)
		end()
		if s := a.Status(); !slices.Equal(b.shown, []string{"whole"}) || len(s.Uncertain) != 0 || s.Queued != 0 {
			t.Errorf("shown %q, %+v", b.shown, s)
		}
		// One that became a new message may have arrived.
		if j, _, err = openJournal(r.dir, "board+default"); err != nil {
			t.Fatal(err)
		}
		if err := j.write(entry{Out: []Outbound{{ID: "re-2", To: "7", Text: "more", Edit: "1"}}}, entry{Sending: "re-2"}, entry{Anew: "re-2"}); err != nil {
			t.Fatal(err)
		}
		j.file.Close()
		a, end = b.run(r, "partial", growing())
		time.Sleep(time.Second)
		end()
		if s := a.Status(); !slices.Equal(b.shown, []string{"whole"}) || len(s.Uncertain) != 1 {
			t.Errorf("shown %q, %+v", b.shown, s)
		}
	})
}

// TestTelegramEdit: a preview at the Bot API, and what it says to edits.
func TestTelegramEdit(t *testing.T) {
	for _, c := range []struct {
		name  string
		code  int
		says  string
		sends int
	}{
		{"as it should", 0, "", 1},
		{"not modified", 400, "Bad Request: message is not modified: specified new message content and reply markup are exactly the same", 1},
		{"cannot be edited", 400, "Bad Request: message can't be edited", 2},
		{"gone", 400, "Bad Request: message to edit not found", 2},
		{"parse error", 400, "Bad Request: can't parse entities", 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, r *rig, api *fakeAPI) {
				api.answer = func(method string, _ int, in map[string]any, w http.ResponseWriter) bool {
					return method == "editMessageText" && c.code != 0 && (in["parse_mode"] != nil || !strings.Contains(c.says, "parse")) && fakeFail(w, c.code, c.says, "")
				}
				r.set.o.Handle = growing(strings.Split(strings.Repeat("a **b** ,", 20), ",")...)
				api.say(10, 7, "hello")
				conf := bot(pipeRoot)
				conf.Streaming = "partial"
				r.set.Apply([]config.ChannelAccount{conf})
				r.settled(11)
				if len(api.sends) != c.sends || api.sends[0]["text"] != strings.Repeat("a <b>b</b> ", 14) {
					t.Errorf("sent %v", api.sends)
				}
				if c.code == 0 && api.edits[len(api.edits)-1]["text"] != strings.Repeat("a <b>b</b> ", 20) {
					t.Errorf("edited %v", api.edits)
				}
				if s := r.account().Status(); len(s.Uncertain) != 0 {
					t.Errorf("%+v", s)
				}
			})
		})
	}
}

// TestPreviewWaits: an answer is not shown, even in part, between the parts of
// the one before it, nor while the network wants its chat left alone.
func TestPreviewWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		long := strings.Repeat("first ", 60)
		var until time.Time // nothing may be sent
		b := &board{}
		b.refuse = func(_ bool, text string) error {
			if now := time.Now(); now.Before(until) {
				t.Errorf("%q before its time", text)
			} else if until.IsZero() && len(b.shown) == 2 {
				until = now.Add(20 * time.Second)
				return &Fault{Err: errors.New("429"), Wait: 20 * time.Second}
			}
			return nil
		}
		words := strings.Fields(strings.Repeat("second ", 40))
		grow := growing(words...)
		r := newRig(t)
		a, end := b.run(r, "partial", func(ctx context.Context, a *Account, m Inbound) (func(context.Context) (string, error), error) {
			if m.ID == "1" {
				return func(context.Context) (string, error) { return long, nil }, nil
			}
			return grow(ctx, a, m)
		})
		if err := a.Receive(t.Context(), 1, Inbound{ID: "1", From: "7", Chat: "7", Text: "a"}, Inbound{ID: "2", From: "7", Chat: "7", Text: "b"}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Minute)
		end()
		want := append(Split(long, 100), Split(strings.Join(words, ""), 100)...)
		if !slices.Equal(b.shown, want) {
			t.Errorf("shown:\n%q\nwant:\n%q\n%s", b.shown, want, r.logs)
		}
	})
}
