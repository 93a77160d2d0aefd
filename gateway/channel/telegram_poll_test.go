package channel

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"openclaw/reload/config"
)

// renumber has the API answer as the network does: who asks beyond its last
// update gets the oldest that it has.
func (f *fakeAPI) renumber() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.updates, f.ids = nil, nil
	f.answer = func(method string, _ int, in map[string]any, w http.ResponseWriter) bool {
		f.mu.Lock()
		defer f.mu.Unlock()
		offset, _ := in["offset"].(float64)
		if method != "getUpdates" || len(f.ids) == 0 || int64(offset) <= f.ids[len(f.ids)-1]+1 {
			return false
		}
		json.NewEncoder(w).Encode(map[string]any{"ok": true, "result": f.updates[:1]})
		return true
	}
}

// TestTelegramRenumbered: when the network counts anew, from a lower number, all
// that it has is heard once, before and after a restart.
func TestTelegramRenumbered(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig, api *fakeAPI) {
		api.say(760546622, 7, "before")
		r.set.Apply([]config.ChannelAccount{bot(pipeRoot)})
		r.settled(760546623)
		api.renumber()
		for i, text := range []string{"one", "two", "three"} {
			api.say(592426180+int64(i), 7, text)
		}
		r.settled(592426183)
		if n := r.count("numbers its updates anew"); n != 1 {
			t.Errorf("told %d times:\n%s", n, r.logs)
		}
		r.set.Close(0)
		r.open(r.set.o.Dial)
		before := api.count("getUpdates")
		r.set.Apply([]config.ChannelAccount{bot(pipeRoot)})
		if at := r.account().Offset(); at != 592426183 {
			t.Errorf("read up to %d after a restart", at)
		}
		api.say(592426183, 7, "four")
		r.settled(592426184)
		time.Sleep(10 * time.Minute)
		if n := api.count("getUpdates") - before; n > 30 {
			t.Errorf("%d polls in ten minutes", n)
		}
		want := "you said before, you said one, you said two, you said three, you said four"
		if got := strings.Join(api.sent(), ", "); got != want {
			t.Errorf("answered %q", got)
		}
	})
}

// TestTelegramLongUpdates: what strangers write at such length that no answer
// holds a hundred of it is taken in smaller parts, and keeps nobody out.
func TestTelegramLongUpdates(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig, api *fakeAPI) {
		long := strings.Repeat("x", 200<<10)
		for i := range int64(70) {
			api.push(10+i, fmt.Sprintf(`"message":{"message_id":%d,"from":{"id":666},"chat":{"id":666,"type":"private"},"text":"x","reply_to_message":{"text":"%s"}}`, i+1, long))
		}
		api.say(80, 7, "hello")
		r.set.Apply([]config.ChannelAccount{bot(pipeRoot)})
		r.settled(81)
		if got := api.sent(); len(got) != 1 || got[0] != "you said hello" || r.count("channel down") != 0 || api.count("getUpdates") > 20 {
			t.Errorf("answered %q after %d polls\n%s", got, api.count("getUpdates"), r.logs)
		}
	})
}

// TestTelegramRepeats: an API that says the same again without end, or nothing
// that has a number, is asked no more often than once in a while, and costs
// neither lines in the log nor in the journal.
func TestTelegramRepeats(t *testing.T) {
	for name, result := range map[string]string{
		"the last one": `[{"update_id":10,"message":{"message_id":1,"from":{"id":7},"chat":{"id":7,"type":"private"},"text":"hello"}}]`,
		"no number":    `[{"message":1}]`,
		"not a number": `[{"update_id":"x"}]`,
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, r *rig, api *fakeAPI) {
				api.say(10, 7, "hello")
				r.set.Apply([]config.ChannelAccount{bot(pipeRoot)})
				r.settled(11)
				api.mu.Lock()
				api.answer = func(method string, _ int, _ map[string]any, w http.ResponseWriter) bool {
					if method == "getUpdates" {
						io.WriteString(w, `{"ok":true,"result":`+result+`}`)
					}
					return method == "getUpdates"
				}
				api.mu.Unlock()
				time.Sleep(pollTime)
				before, size := api.count("getUpdates"), r.journalSize("telegram+default+4242")
				time.Sleep(time.Minute)
				if n := api.count("getUpdates") - before; n > 61 {
					t.Errorf("%d polls in a minute", n)
				}
				if now := r.journalSize("telegram+default+4242"); now != size || r.account().Offset() != 11 || len(api.sent()) != 1 {
					t.Errorf("the journal grew by %d bytes; offset %d, sent %q", now-size, r.account().Offset(), api.sent())
				}
			})
		})
	}
}

// TestTelegramSlowFiles: the files of one batch hold up what comes after them for
// fileTime and no longer; those that were not had are named.
func TestTelegramSlowFiles(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig, api *fakeAPI) {
		api.file = func(w http.ResponseWriter, q *http.Request) { <-q.Context().Done() }
		for i := range 20 {
			api.push(int64(10+i), fmt.Sprintf(`"message":{"message_id":%d,"from":{"id":7},"chat":{"id":7,"type":"private"},"document":{"file_id":"n","file_name":"n.txt","mime_type":"text/plain","file_size":9}}`, i+1))
		}
		api.say(40, 9, "me too")
		conf := bot(pipeRoot)
		conf.AllowFrom = []string{"7", "9"}
		began := time.Now()
		r.set.Apply([]config.ChannelAccount{conf})
		r.settled(41)
		if took := time.Since(began); took > fileTime+5*time.Second {
			t.Errorf("took %v", took)
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		for _, m := range r.got {
			if m.From == "7" && !strings.Contains(m.Text, "n.txt, text/plain, 1 KB was not fetched: ") {
				t.Errorf("%+v", m)
			}
		}
	})
}

// TestTelegramConflictSends: who may not poll sends all the same, and has not
// had a success.
func TestTelegramConflictSends(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig, api *fakeAPI) {
		api.answer = func(method string, _ int, _ map[string]any, w http.ResponseWriter) bool {
			return method == "getUpdates" && fakeFail(w, 409, "Conflict: terminated by other getUpdates request", "")
		}
		r.set.Apply([]config.ChannelAccount{bot(pipeRoot)})
		r.until("the conflict", func() bool { return strings.Contains(r.account().Status().LastError, "another program polls") })
		if s := r.account().Status(); !s.LastSuccess.IsZero() || s.State != StateWaiting {
			t.Errorf("%+v", s)
		}
		time.Sleep(time.Hour)
		began := time.Now()
		if _, err := r.set.Send(t.Context(), "telegram", "", Outbound{ID: "x", To: "7", Text: "alert"}); err != nil || time.Since(began) > 5*time.Second {
			t.Errorf("sent after %v: %v", time.Since(began), err)
		}
		api.mu.Lock()
		api.answer = func(_ string, _ int, _ map[string]any, w http.ResponseWriter) bool {
			return fakeFail(w, 401, "Unauthorized", "")
		}
		api.mu.Unlock()
		r.until("its end", func() bool { return r.account().Status().Terminal })
		if r.account().Status().Sends {
			t.Error("still sends")
		}
	})
}

// TestTelegramPortal: what a proxy or a captive portal says is not the API's
// word: nothing is dropped and no token given up.
func TestTelegramPortal(t *testing.T) {
	for _, code := range []int{302, 400, 401, 403, 404, 407, 418} {
		t.Run(fmt.Sprint(code), func(t *testing.T) {
			inBubble(t, func(t *testing.T, r *rig, api *fakeAPI) {
				var sends, all atomic.Bool
				all.Store(true)
				api.answer = func(method string, _ int, _ map[string]any, w http.ResponseWriter) bool {
					if !all.Load() && !(sends.Load() && method == "sendMessage") {
						return false
					}
					w.WriteHeader(code)
					io.WriteString(w, "<html>sign in</html>")
					return true
				}
				r.set.Apply([]config.ChannelAccount{bot(pipeRoot)})
				time.Sleep(10 * time.Minute)
				if s := r.account().Status(); s.Terminal || s.State != StateWaiting || !strings.Contains(s.LastError, "not the API's own") {
					t.Errorf("%+v", s)
				}
				sends.Store(true)
				all.Store(false)
				api.say(10, 7, "hello")
				time.Sleep(time.Hour)
				n := api.count("sendMessage")
				if s := r.account().Status(); s.Queued != 1 || s.Unsure != 0 || n < 10 || n > 40 {
					t.Errorf("tried %d times: %+v", n, s)
				}
				sends.Store(false)
				r.settled(11)
				if sent := api.sent(); len(sent) != 1 || sent[0] != "you said hello" {
					t.Errorf("sent %q", sent)
				}
			})
		})
	}
}

// TestTelegramNumbers: what names a message or a topic by no number is refused at
// once, and what a journal has of it does not keep the chat from its messages.
func TestTelegramNumbers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		api, dial := newPipeAPI(t)
		r.open(dial)
		j, _, err := openJournal(r.dir, "telegram+default+4242")
		if err == nil {
			err = j.write(entry{Out: []Outbound{{ID: "old", To: "7", Text: "old", ReplyTo: "abc"}, {ID: "file", To: "7", Thread: "x", Files: []File{{Name: "x"}}}}})
		}
		if err != nil {
			t.Fatal(err)
		}
		j.file.Close()
		r.set.Apply([]config.ChannelAccount{bot(pipeRoot)})
		for _, bad := range []string{"abc", "-1", "+1", "007", "1.5", "1e3", "0", " 1", "99999999999999999999"} {
			for _, out := range []Outbound{{ID: "x", To: "7", Text: "x", ReplyTo: bad}, {ID: "y", To: "7", Text: "y", Thread: bad}} {
				if f, ok := faultOf(r.set.Queue("telegram", "", out, nil)); !ok || !f.Final || !errors.Is(f, ErrTarget) {
					t.Errorf("%+v is queued", out)
				}
			}
		}
		if _, err := r.set.Send(t.Context(), "telegram", "", Outbound{ID: "z", To: "7", Text: "good", ReplyTo: "12", Thread: "5"}); err != nil {
			t.Error(err)
		}
		if sent, s := api.sent(), r.account().Status(); len(sent) != 1 || sent[0] != "good" || s.Queued != 0 || r.count("message refused") != 2 {
			t.Errorf("sent %q, %+v\n%s", sent, s, r.logs)
		}
	})
}

// TestTelegramHolds: a server that holds also the poll that asks not to wait has
// not refused it.
func TestTelegramHolds(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig, api *fakeAPI) {
		api.answer = func(method string, _ int, _ map[string]any, w http.ResponseWriter) bool {
			if method == "getUpdates" {
				time.Sleep(pollTime)
				io.WriteString(w, `{"ok":true,"result":[]}`)
			}
			return method == "getUpdates"
		}
		began := time.Now()
		r.set.Apply([]config.ChannelAccount{bot(pipeRoot)})
		if _, err := r.set.Send(t.Context(), "telegram", "", Outbound{ID: "x", To: "7", Text: "hello"}); err != nil || time.Since(began) > pollHeld+time.Second {
			t.Errorf("sent after %v: %v", time.Since(began), err)
		}
		time.Sleep(10 * time.Minute)
		if s := r.account().Status(); s.State != StateOpen || s.Failures != 0 || r.count("channel down") != 0 {
			t.Errorf("%+v", s)
		}
	})
}
