package channel

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"openclaw/reload/config"
)

// TestTelegramBadDays: whatever the API does, what was said is answered once.
func TestTelegramBadDays(t *testing.T) {
	hijack := func(w http.ResponseWriter, said string) bool {
		c, _, err := w.(http.Hijacker).Hijack()
		if err == nil {
			io.WriteString(c, said)
			c.Close()
		}
		return true
	}
	type answer = func(method string, n int, in map[string]any, w http.ResponseWriter) bool
	once := func(on string, do func(w http.ResponseWriter) bool) answer {
		return func(method string, n int, _ map[string]any, w http.ResponseWriter) bool {
			return method == on && n == 1 && do(w)
		}
	}
	for _, c := range []struct {
		name   string
		answer answer
		unsure bool
		log    string
	}{
		{name: "429", answer: once("sendMessage", func(w http.ResponseWriter) bool {
			return fakeFail(w, 429, "Too Many Requests: retry after 1", `,"parameters":{"retry_after":1}`)
		})},
		{name: "poll 429", answer: once("getUpdates", func(w http.ResponseWriter) bool {
			return fakeFail(w, 429, "Too Many Requests", `,"parameters":{"retry_after":1}`)
		}), log: "channel down"},
		{name: "poll 502", answer: once("getUpdates", func(w http.ResponseWriter) bool { w.WriteHeader(502); return true }), log: "502"},
		{name: "poll reset", answer: once("getUpdates", func(w http.ResponseWriter) bool { return hijack(w, "") }), log: "channel down"},
		{name: "poll truncated", answer: once("getUpdates", func(w http.ResponseWriter) bool { io.WriteString(w, `{"ok":true,"result":[{"upd`); return true }), log: "not JSON"},
		{name: "poll cut off", answer: once("getUpdates", func(w http.ResponseWriter) bool {
			return hijack(w, "HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n{\"ok\":true")
		}), log: "broke off"},
		{name: "webhook", answer: once("getUpdates", func(w http.ResponseWriter) bool {
			return fakeFail(w, 409, "Conflict: can't use getUpdates method while webhook is active; use deleteWebhook to delete the webhook first", "")
		}), log: "takes back its webhook"},
		{name: "send 500", answer: once("sendMessage", func(w http.ResponseWriter) bool { return fakeFail(w, 500, "Internal Server Error", "") })},
		{name: "parse error", answer: func(method string, _ int, in map[string]any, w http.ResponseWriter) bool {
			return method == "sendMessage" && in["parse_mode"] != nil && fakeFail(w, 400, "Bad Request: can't parse entities: unsupported tag", "")
		}},
		{name: "send reset", answer: once("sendMessage", func(w http.ResponseWriter) bool { return hijack(w, "") }), unsure: true, log: "uncertain"},
		{name: "send cut off", answer: once("sendMessage", func(w http.ResponseWriter) bool {
			return hijack(w, "HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n{\"ok\":true")
		}), unsure: true, log: "uncertain"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r, api := newRig(t), newFakeAPI(t)
			api.answer = c.answer
			api.say(10, 7, "hello *_[")
			r.set.Apply([]config.ChannelAccount{bot(api.srv.URL)})
			account, _ := r.set.Account("telegram", "")
			r.until("the end", func() bool {
				s := account.Status()
				return account.Offset() == 11 && s.Waiting == 0 && s.Queued == 0
			})
			sent, s := api.sent(), account.Status()
			if c.unsure {
				if len(sent) != 0 || len(s.Uncertain) != 1 {
					t.Errorf("sent %q, uncertain %v", sent, s.Uncertain)
				}
			} else if !slices.Equal(sent, []string{"you said hello *_["}) || len(s.Uncertain) != 0 {
				t.Errorf("sent %q, uncertain %v", sent, s.Uncertain)
			}
			if logs := r.logs.String(); !strings.Contains(logs, c.log) || strings.Contains(logs, fakeToken) || strings.Contains(logs, "AAfake") {
				t.Errorf("the log, which must hold %q and not the token:\n%s", c.log, logs)
			}
		})
	}
}

// TestTelegramTerminal: a token that is not accepted is told once, and not tried again.
func TestTelegramTerminal(t *testing.T) {
	r, api := newRig(t), newFakeAPI(t)
	conf := bot(api.srv.URL)
	conf.BotToken = config.NewSecret("4242:another")
	r.set.Apply([]config.ChannelAccount{conf})
	r.until("terminal", func() bool { return r.set.Status()[0].Terminal })
	if s := r.set.Status()[0]; !strings.Contains(s.LastError, "not accepted") || s.State != StateFailed {
		t.Errorf("%+v", s)
	}
	if _, err := r.set.Send(t.Context(), "telegram", "", Outbound{ID: "x", To: "7", Text: "x"}); !errors.Is(err, ErrClosed) {
		t.Errorf("send: %v", err)
	}
	r.set.Apply([]config.ChannelAccount{bot(api.srv.URL)}) // the operator mends it
	r.until("open", func() bool { return r.set.Status()[0].State == StateOpen })
}

// TestTelegramTwoPollers: who is not alone says so, and does not fight.
func TestTelegramTwoPollers(t *testing.T) {
	r, api := newRig(t), newFakeAPI(t)
	api.answer = func(method string, _ int, _ map[string]any, w http.ResponseWriter) bool {
		return method == "getUpdates" && fakeFail(w, 409, "Conflict: terminated by other getUpdates request; make sure that only one bot instance is running", "")
	}
	r.set.Apply([]config.ChannelAccount{bot(api.srv.URL)})
	r.until("told", func() bool { return strings.Contains(r.set.Status()[0].LastError, "another program polls") })
	api.mu.Lock()
	defer api.mu.Unlock()
	if n := api.calls["getUpdates"]; n != 1 {
		t.Errorf("polled %d times", n)
	}
}

// TestTelegramFiles takes pictures and text in, sends files out, and names what it cannot have.
func TestTelegramFiles(t *testing.T) {
	r, api := newRig(t), newFakeAPI(t)
	api.push(10, `"message":{"message_id":5,"from":{"id":7},"chat":{"id":7,"type":"private"},"caption":"look","photo":[{"file_id":"small"},{"file_id":"big","file_size":10}]}`)
	api.push(11, `"message":{"message_id":6,"from":{"id":7},"chat":{"id":7,"type":"private"},"document":{"file_id":"n","file_name":"n.txt","mime_type":"text/plain","file_size":9}}`)
	api.push(12, `"message":{"message_id":7,"from":{"id":7},"chat":{"id":7,"type":"private"},"document":{"file_id":"n","file_name":"n.zip","mime_type":"application/zip","file_size":9}}`)
	api.push(13, `"message":{"message_id":8,"from":{"id":7},"chat":{"id":7,"type":"private"},"document":{"file_id":"n","file_name":"n.txt","mime_type":"text/plain","file_size":99999999}}`)
	api.push(14, `"message":{"message_id":9,"from":{"id":7},"chat":{"id":7,"type":"private"},"document":{"file_id":"../../secret","file_name":"n.txt","mime_type":"text/plain"}}`)
	api.push(15, `"message":{"message_id":10,"from":{"id":7},"chat":{"id":7,"type":"private"},"voice":{"file_id":"v","mime_type":"audio/ogg","file_size":2048}}`)
	api.push(16, `"message":{"message_id":11,"from":{"id":7},"chat":{"id":7,"type":"private"},"document":{"file_id":"n","file_name":"a\nb\u0000.txt","mime_type":"text/plain"}}`)
	r.set.Apply([]config.ChannelAccount{bot(api.srv.URL)})
	r.until("all", func() bool { r.mu.Lock(); defer r.mu.Unlock(); return len(r.got) == 7 })
	g := r.got
	if g[0].Text != "look" || len(g[0].Files) != 1 || string(g[0].Files[0].Data) != "file:docs/big" || g[0].Files[0].MIME != "image/jpeg" {
		t.Errorf("picture: %+v", g[0])
	}
	if len(g[1].Files) != 1 || string(g[1].Files[0].Data) != "file:docs/n" {
		t.Errorf("text: %+v", g[1])
	}
	for i, why := range map[int]string{2: "not read", 3: "too large", 4: "path"} {
		if len(g[i].Files) != 0 || !strings.Contains(g[i].Text, why) {
			t.Errorf("%d: %+v", i, g[i])
		}
	}
	if g[5].Text != "[voice message, audio/ogg, 2 KB was not fetched: this kind is not read]" || g[6].Files[0].Name != "a b .txt" {
		t.Errorf("%+v, %+v", g[5], g[6])
	}
	r.until("every answer", func() bool { return len(api.sent()) == 7 }) // those of this chat come before what follows
	sent, err := r.set.Send(t.Context(), "telegram", "default", Outbound{ID: "f", To: "7", Text: "here", Files: []File{{Name: "a.png", MIME: "image/png", Data: []byte("x")}, {Name: "a.pdf", Data: []byte("y")}}})
	if err != nil || sent.MessageID == "" {
		t.Fatal(err)
	}
	api.mu.Lock()
	defer api.mu.Unlock()
	last := api.sends[len(api.sends)-3:]
	if last[0]["photo"] != "a.png" || last[1]["document"] != "a.pdf" || last[2]["text"] != "here" {
		t.Errorf("%v", last)
	}
}

// TestTelegramWordless: who is let in is also answered to what has no words.
func TestTelegramWordless(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig, api *fakeAPI) {
		want := []string{"[sticker 🦞]", "[location 52.5, -13.25]", "[contact Ada L +49151]", "[round video, no type, 2 KB was not fetched: this kind is not read]"}
		for i, part := range []string{`"sticker":{"file_id":"s","emoji":"🦞"}`, `"location":{"latitude":52.5,"longitude":-13.25}`,
			`"contact":{"first_name":"Ada","last_name":"L","phone_number":"+49151","user_id":666}`, `"video_note":{"file_id":"v","file_size":2048}`} {
			api.push(int64(10+i), fmt.Sprintf(`"message":{"message_id":%d,"from":{"id":7},"chat":{"id":7,"type":"private"},%s}`, i+1, part))
		}
		r.set.Apply([]config.ChannelAccount{bot(pipeRoot)})
		r.settled(14)
		for i, m := range r.got {
			if m.Text != want[i] || m.From != "7" {
				t.Errorf("%q from %s, want %q", m.Text, m.From, want[i])
			}
		}
		if len(r.got) != len(want) {
			t.Errorf("handed on %d", len(r.got))
		}
	})
}

// TestTelegramOddPicture: a picture that the network does not take as one arrives
// as a document; what it refuses either way is refused once each.
func TestTelegramOddPicture(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig, api *fakeAPI) {
		api.answer = func(method string, _ int, in map[string]any, w http.ResponseWriter) bool {
			if in["chat_id"] == "8" {
				return fakeFail(w, 400, "Bad Request: chat not found", "")
			}
			return method == "sendPhoto" && fakeFail(w, 400, "Bad Request: PHOTO_INVALID_DIMENSIONS", "")
		}
		r.set.Apply([]config.ChannelAccount{bot(pipeRoot)})
		picture := []File{{Name: "long.png", MIME: "image/png", Data: []byte("x")}}
		if _, err := r.set.Send(t.Context(), "telegram", "", Outbound{ID: "a", To: "7", Files: picture}); err != nil || len(api.sends) != 1 || api.sends[0]["document"] != "long.png" {
			t.Errorf("%v, %v", err, api.sends)
		}
		if _, err := r.set.Send(t.Context(), "telegram", "", Outbound{ID: "b", To: "8", Files: picture}); err == nil || api.count("sendPhoto")+api.count("sendDocument") != 4 {
			t.Errorf("%v, %v", err, api.calls)
		}
	})
}

// TestTelegramStop: the poll is over when StopReceiving returns, and one account's
// reload leaves the other alone.
func TestTelegramStop(t *testing.T) {
	r, api := newRig(t), newFakeAPI(t)
	polls := make(chan context.Context, 10)
	api.srv.Config.Handler = func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
			if strings.HasSuffix(q.URL.Path, "/getUpdates") {
				polls <- q.Context()
			}
			next.ServeHTTP(w, q)
		})
	}(api.srv.Config.Handler)
	one, two := bot(api.srv.URL), bot(newFakeAPI(t).srv.URL)
	two.Account = "second"
	r.set.Apply([]config.ChannelAccount{one, two})
	<-polls // which does not wait
	poll := <-polls
	two.AllowFrom = []string{"9"}
	r.set.Apply([]config.ChannelAccount{one, two})
	if poll.Err() != nil {
		t.Error("the other account was disturbed")
	}
	r.set.StopReceiving()
	select {
	case <-poll.Done():
	case <-time.After(pollTime / 2):
		t.Error("the poll goes on")
	}
}

// TestPairing: codes are durable, bounded in number and time, and let in by id.
func TestPairing(t *testing.T) {
	r := newRig(t)
	p, err := openPairing(r.dir, "telegram")
	if err != nil {
		t.Fatal(err)
	}
	code := map[string]string{}
	for _, from := range []string{"1", "2", "3", "4"} {
		c, tell, err := p.ask("default", &Inbound{From: from, Name: "N\nx"})
		if err != nil || !tell || (c == "") != (from == "4") {
			t.Fatalf("%s: %q %t %v", from, c, tell, err)
		}
		code[from] = c
	}
	if c, tell, _ := p.ask("default", &Inbound{From: "4"}); c != "" || tell {
		t.Error("an operator is told again that too many wait")
	}
	if c, tell, _ := p.ask("other", &Inbound{From: "4"}); c == "" || !tell {
		t.Error("one account's strangers keep another's out")
	}
	if c, tell, _ := p.ask("default", &Inbound{From: "1"}); c != code["1"] || tell {
		t.Error("told twice")
	}
	if len(code["1"]) != 8 || strings.Trim(code["1"], codeLetters) != "" {
		t.Errorf("code %q", code["1"])
	}
	if p, err = openPairing(r.dir, "telegram"); err != nil || len(p.state.Pending) != 4 {
		t.Fatalf("after a restart: %v, %v", p.state, err)
	}
	if got, err := p.approve(" "+strings.ToLower(code["2"])+"\n", true); err != nil || got.ID != "2" {
		t.Fatal(got, err)
	}
	if p, err = openPairing(r.dir, "telegram"); err != nil || !p.allowed("default", "2") || p.allowed("default", "1") || p.allowed("other", "2") {
		t.Error("allowed", err)
	}
	for range maxGuesses {
		if _, err := p.approve("AAAAAAAA", true); !errors.Is(err, ErrCode) {
			t.Fatal(err)
		}
	}
	if _, err := p.approve(code["1"], true); !errors.Is(err, ErrGuesses) {
		t.Error(err)
	}
	p.guesses = nil
	p.state.Pending[0].At -= codeLife.Milliseconds()
	if _, err := p.approve(code["1"], true); !errors.Is(err, ErrCode) {
		t.Error("an expired code", err)
	}
}

// TestJournal: what was sending when the process ended is uncertain, the rest goes on.
func TestJournal(t *testing.T) {
	r := newRig(t)
	j, _, err := openJournal(r.dir, "x+default")
	if err != nil {
		t.Fatal(err)
	}
	out := func(id string) entry { return entry{Out: []Outbound{{ID: id, To: "7", Text: id}}} }
	if err := j.write(entry{In: &Inbound{ID: "1"}, Offset: 2}, entry{In: &Inbound{ID: "2"}, Offset: 3}, out("a"), out("b"), out("c"),
		entry{Sending: "a"}, entry{Sent: "a"}, entry{Sending: "b"}, entry{Done: "1"}); err != nil {
		t.Fatal(err)
	}
	if err := j.file.Append([]byte(`{"out":[{"id":"torn`)); err != nil {
		t.Fatal(err)
	}
	for range 2 { // as it was and as it was written anew
		j.file.Close()
		if j, _, err = openJournal(r.dir, "x+default"); err != nil {
			t.Fatal(err)
		}
		if len(j.waiting.list) != 1 || j.waiting.list[0].ID != "2" || !j.waiting.list[0].Again || len(j.queue.list) != 1 || j.queue.list[0].out.ID != "c" ||
			len(j.uncertain) != 1 || j.uncertain[0].ID != "b" || j.offset != 3 || !j.known("1") || j.known("3") {
			t.Fatalf("%+v %+v %+v", j.waiting, j.queue, j.uncertain)
		}
		lines, err := encode(j.state())
		if err == nil {
			err = j.file.Rewrite(lines)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	j.file.Close()
}
