package channel

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"openclaw/reload/config"
)

// inBubble runs a test in which time passes only when nothing else happens.
func inBubble(t *testing.T, test func(t *testing.T, r *rig, api *fakeAPI)) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		api, dial := newPipeAPI(t)
		r.patience = 4 * time.Hour
		r.open(dial)
		test(t, r, api)
	})
}

func (r *rig) account() *Account {
	a, err := r.set.Account("telegram", "")
	if err != nil {
		r.t.Fatal(err)
	}
	return a
}

// settled waits until everything that came has its answer.
func (r *rig) settled(offset int64) {
	r.t.Helper()
	r.until("the end", func() bool {
		s := r.account().Status()
		return r.account().Offset() == offset && s.Waiting == 0 && s.Queued == 0
	})
}

const pipeRoot = "http://127.0.0.1:1"

// TestTelegramPollRetryAfter: a poll that is told to wait waits, and no longer.
func TestTelegramPollRetryAfter(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig, api *fakeAPI) {
		api.answer = func(method string, n int, _ map[string]any, w http.ResponseWriter) bool {
			return method == "getUpdates" && n == 1 && fakeFail(w, 429, "Too Many Requests: retry after 600", `,"parameters":{"retry_after":600}`)
		}
		api.say(10, 7, "hello")
		r.set.Apply([]config.ChannelAccount{bot(pipeRoot)})
		r.settled(11)
		if polls := api.times["getUpdates"]; polls[1].Sub(polls[0]) < 600*time.Second || polls[1].Sub(polls[0]) > 601*time.Second {
			t.Errorf("polled again after %v", polls[1].Sub(polls[0]))
		}
	})
}

// TestTelegramSendRetryAfter: a chat that is to be let alone is, and others are not kept waiting.
func TestTelegramSendRetryAfter(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig, api *fakeAPI) {
		began := time.Now()
		at := map[string]time.Duration{}
		api.answer = func(method string, _ int, in map[string]any, w http.ResponseWriter) bool {
			if method != "sendMessage" {
				return false
			}
			if in["chat_id"] == "7" && time.Since(began) < 50*time.Second {
				return fakeFail(w, 429, "Too Many Requests: retry after 60", `,"parameters":{"retry_after":60}`)
			}
			api.mu.Lock()
			at[in["text"].(string)] = time.Since(began)
			api.mu.Unlock()
			return false
		}
		conf := bot(pipeRoot)
		conf.AllowFrom = []string{"7", "9"}
		for i, from := range []int64{7, 7, 9, 9} {
			api.say(int64(10+i), from, fmt.Sprintf("%d of %d", i, from))
		}
		r.set.Apply([]config.ChannelAccount{conf})
		r.settled(14)
		if n := api.count("sendMessage"); n != 5 || at["you said 2 of 9"] > time.Second || at["you said 3 of 9"] > time.Second ||
			at["you said 0 of 7"] < 60*time.Second || at["you said 0 of 7"] > 62*time.Second || at["you said 1 of 7"] < at["you said 0 of 7"] {
			t.Errorf("%d sends, %v", n, at)
		}
	})
}

// TestTelegramStalls: a poll without an end is given up, and tried anew.
func TestTelegramStalls(t *testing.T) {
	for name, stall := range map[string]func(w http.ResponseWriter){
		"no answer": func(w http.ResponseWriter) { <-time.After(time.Hour) },
		"slow body": func(w http.ResponseWriter) {
			io.WriteString(w, `{"ok":true,"result":[`)
			for range 60 {
				io.WriteString(w, " ")
				w.(http.Flusher).Flush()
				<-time.After(10 * time.Second)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, r *rig, api *fakeAPI) {
				api.answer = func(method string, n int, _ map[string]any, w http.ResponseWriter) bool {
					if method != "getUpdates" || n > 1 {
						return false
					}
					stall(w)
					return true
				}
				began := time.Now()
				api.say(10, 7, "hello")
				r.set.Apply([]config.ChannelAccount{bot(pipeRoot)})
				r.settled(11)
				if took := time.Since(began); took < pollTime || took > pollTime+pollMargin+5*time.Second {
					t.Errorf("answered after %v", took)
				}
				if logs := r.logs.String(); !strings.Contains(logs, "channel down") || strings.Contains(logs, fakeToken) {
					t.Error(logs)
				}
			})
		})
	}
}

// TestTelegramTokenWithdrawn: a token that is no longer accepted ends it; what
// was to be sent goes out under the next token of the same bot.
func TestTelegramTokenWithdrawn(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig, api *fakeAPI) {
		var gone atomic.Bool
		api.answer = func(method string, _ int, _ map[string]any, w http.ResponseWriter) bool {
			if method == "sendMessage" && !gone.Load() {
				gone.Store(true)
				return fakeFail(w, 401, "Unauthorized", "")
			}
			return gone.Load() && fakeFail(w, 401, "Unauthorized", "")
		}
		api.say(10, 7, "hello")
		r.set.Apply([]config.ChannelAccount{bot(pipeRoot)})
		r.until("its end", func() bool { return r.account().Status().Terminal })
		s := r.account().Status()
		if s.State != StateFailed || !strings.Contains(s.LastError, "take a new one") || s.Queued != 1 {
			t.Errorf("%+v", s)
		}
		polls := api.count("getMe") + api.count("getUpdates")
		time.Sleep(time.Hour)
		if n := api.count("getMe") + api.count("getUpdates"); n != polls {
			t.Errorf("asked %d times more", n-polls)
		}
		api.mu.Lock()
		api.answer = nil
		api.mu.Unlock()
		conf := bot(pipeRoot)
		conf.MediaMaxMb = 2 // another configuration of the same bot
		r.set.Apply([]config.ChannelAccount{conf})
		r.settled(11)
		if sent := api.sent(); len(sent) != 1 || sent[0] != "you said hello" {
			t.Errorf("sent %q", sent)
		}
	})
}

// TestTelegramMoved: what goes to a group that has a new id goes there, files too.
func TestTelegramMoved(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig, api *fakeAPI) {
		api.answer = func(method string, _ int, in map[string]any, w http.ResponseWriter) bool {
			return in["chat_id"] == "-4" && fakeFail(w, 400, "Bad Request: group chat was upgraded to a supergroup chat", `,"parameters":{"migrate_to_chat_id":-1004}`)
		}
		r.set.Apply([]config.ChannelAccount{bot(pipeRoot)})
		for i, out := range []Outbound{{Text: "text"}, {Files: []File{{Name: "a.txt", Data: []byte("x")}}}} {
			out.ID, out.To = fmt.Sprint(i), "-4"
			if _, err := r.set.Send(t.Context(), "telegram", "", out); err != nil {
				t.Error(err)
			}
		}
		for _, s := range api.sends {
			if s["chat_id"] != "-1004" {
				t.Errorf("sent %v", s)
			}
		}
	})
}

// TestTelegramRefusals: what the API does not take as formatted it gets as it
// is, and what it does not take at all is refused once.
func TestTelegramRefusals(t *testing.T) {
	for _, c := range []struct {
		text    string
		formats bool // only the formatted text is refused
		code    int
	}{
		{"Bad Request: can't parse entities: Can't find end tag", true, 400},
		{"Bad Request: message is too long", true, 400},
		{"Bad Request: message text is empty", true, 400},
		{"Bad Request: chat not found", false, 400},
		{"Forbidden: bot was blocked by the user", false, 403},
	} {
		t.Run(c.text, func(t *testing.T) {
			inBubble(t, func(t *testing.T, r *rig, api *fakeAPI) {
				api.answer = func(method string, _ int, in map[string]any, w http.ResponseWriter) bool {
					return method == "sendMessage" && (!c.formats || in["parse_mode"] != nil) && fakeFail(w, c.code, c.text, "")
				}
				r.set.Apply([]config.ChannelAccount{bot(pipeRoot)})
				_, err := r.set.Send(t.Context(), "telegram", "", Outbound{ID: "x", To: "7", Text: "a **b** <c>"})
				n := api.count("sendMessage")
				if c.formats && (err != nil || api.sends[0]["text"] != "a **b** <c>" || n != 2) {
					t.Errorf("%d times: %v, %v", n, api.sends, err)
				}
				if f, ok := faultOf(err); !c.formats && (!ok || !f.Final || n != 1 || !strings.Contains(err.Error(), c.text)) {
					t.Errorf("%d times: %v", n, err)
				}
			})
		})
	}
}

// TestTelegramGetFile: a file that cannot be had is named, with the reason, and
// the token goes nowhere else.
func TestTelegramGetFile(t *testing.T) {
	elsewhere := 0
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { elsewhere++ }))
	defer other.Close()
	for _, c := range []struct {
		name   string
		answer func(w http.ResponseWriter) bool // to getFile
		file   func(w http.ResponseWriter, r *http.Request)
		why    string
	}{
		{name: "as large as allowed", file: func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, strings.Repeat("x", 1<<20)) }},
		{name: "larger than it said", file: func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, strings.Repeat("x", 1<<20+1)) }, why: "a file of more than"},
		{name: "getFile says too large", answer: func(w http.ResponseWriter) bool { return fakeFail(w, 400, "Bad Request: file is too big", "") }, why: "file is too big"},
		{name: "404", file: func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(404) }, why: "404 Not Found"},
		{name: "redirect", file: func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, other.URL, http.StatusFound) }, why: "302 Found"},
		{name: "redirect of getFile", answer: func(w http.ResponseWriter) bool {
			w.Header().Set("Location", other.URL)
			w.WriteHeader(307)
			return true
		}, why: "307"},
		{name: "broken off", file: func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "100")
			io.WriteString(w, "x")
		}, why: "broke off"},
		{name: "no path", answer: func(w http.ResponseWriter) bool {
			io.WriteString(w, `{"ok":true,"result":{"file_id":"x"}}`)
			return true
		}, why: "path that is none"},
		{name: "not text", file: func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "\xff\xfe") }, why: "not UTF-8"},
		{name: "slow", file: func(w http.ResponseWriter, r *http.Request) {
			for range 100 {
				io.WriteString(w, "x")
				w.(http.Flusher).Flush()
				<-time.After(10 * time.Second)
			}
		}, why: "deadline exceeded"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t)
				api, dial := newPipeAPI(t)
				r.patience = 4 * time.Hour
				r.open(dial)
				api.file = c.file
				api.answer = func(method string, _ int, _ map[string]any, w http.ResponseWriter) bool {
					return method == "getFile" && c.answer != nil && c.answer(w)
				}
				began := time.Now()
				api.push(10, `"message":{"message_id":6,"from":{"id":7},"chat":{"id":7,"type":"private"},"caption":"see","document":{"file_id":"n","file_name":"n.txt","mime_type":"text/plain","file_size":9}}`)
				r.set.Apply([]config.ChannelAccount{bot(pipeRoot)})
				r.settled(11)
				if took := time.Since(began); took > fileTime+5*time.Second {
					t.Errorf("took %v", took)
				}
				m := r.got[0]
				if c.why == "" && (len(m.Files) != 1 || len(m.Files[0].Data) != 1<<20) {
					t.Errorf("%+v", m.Text)
				}
				if c.why != "" && (len(m.Files) != 0 || !strings.HasPrefix(m.Text, "see\n\n[n.txt, text/plain, ") || !strings.Contains(m.Text, c.why)) {
					t.Errorf("%+v", m)
				}
				if strings.Contains(m.Text+r.logs.String(), "AAfake") {
					t.Errorf("the token is told: %s\n%s", m.Text, r.logs)
				}
			})
		})
	}
	if elsewhere != 0 {
		t.Errorf("a redirect was followed")
	}
}

// TestTelegramTwoGateways: the network gives the poll to who asks last. The one
// that had it keeps it, the other says why it does not, and neither fights.
func TestTelegramTwoGateways(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig, api *fakeAPI) {
		api.second = "wins"
		r.set.Apply([]config.ChannelAccount{bot(pipeRoot)})
		time.Sleep(20 * time.Minute)
		other := newRig(t)
		other.patience = r.patience
		other.open(r.set.o.Dial)
		other.set.Apply([]config.ChannelAccount{bot(pipeRoot)})
		time.Sleep(5 * time.Minute)
		if s := other.account().Status(); s.State != StateWaiting || !strings.Contains(s.LastError, "another program polls with this bot token") {
			t.Errorf("the second says %+v", s)
		}
		if s := r.account().Status(); s.State != StateOpen {
			t.Errorf("the first says %+v", s)
		}
		first, before := 0, api.count("getUpdates")
		for range 6 * 60 {
			time.Sleep(time.Minute)
			if r.account().Status().State == StateOpen {
				first++
			}
		}
		if api.clashed() > 30 || first < 5*60 {
			t.Errorf("%d clashes in six hours, in which the first had the poll for %d minutes of 360 (%d polls)", api.clashed(), first, api.count("getUpdates")-before)
		}
		api.say(10, 7, "hello")
		r.until("the answer", func() bool { return len(api.sent()) > 0 })
		if n := strings.Count(other.logs.String(), "another program polls"); n < 2 || n > 15 {
			t.Errorf("told %d times:\n%s", n, other.logs)
		}
	})
}

// TestTelegramNextStart: who stops leaves no poll behind, so that the next
// start meets none, even where it is the second poll that loses.
func TestTelegramNextStart(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig, api *fakeAPI) {
		api.second = "loses"
		for i := range int64(5) {
			r.set.Apply([]config.ChannelAccount{bot(pipeRoot)})
			api.say(10+i, 7, "hello")
			r.settled(11 + i)
			time.Sleep(time.Second) // into the next poll
			r.set.StopReceiving()
			synctest.Wait()
			r.set.Close(0)
			r.open(r.set.o.Dial)
		}
		if n := len(api.sent()); api.clashed() != 0 || n != 5 {
			t.Errorf("%d clashes, %d answers", api.clashed(), n)
		}
	})
}

// TestTurf is who lets whom, over time.
func TestTurf(t *testing.T) {
	var own turf
	now := time.Unix(1e9, 0)
	pass := func(d time.Duration) {
		for end := now.Add(d); now.Before(end); now = now.Add(pollTime) {
			own.held(now)
		}
	}
	for i, want := range []time.Duration{40 * time.Second, 10 * time.Minute, 20 * time.Minute, 40 * time.Minute, time.Hour, time.Hour} {
		pass(time.Minute)
		if got := own.lost(now); got != want {
			t.Errorf("a newcomer, %d: %v", i, got)
		}
	}
	pass(2 * time.Hour)
	for i, want := range []time.Duration{45 * time.Second, 45 * time.Second, 45 * time.Second, 40 * time.Second, 10 * time.Minute} {
		if got := own.lost(now); got != want {
			t.Errorf("one that had it, %d: %v", i, got)
		}
	}
}

// TestTelegramBrokenIPv6: an IPv6 that swallows everything costs a quarter of a
// second, and nothing where it is not to be tried.
func TestTelegramBrokenIPv6(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		io.WriteString(w, `{"ok":true,"result":{"id":4242,"is_bot":true,"username":"claw_bot"}}`)
	}))
	defer srv.Close()
	_, port, _ := net.SplitHostPort(srv.Listener.Addr().String())
	for family, tries := range map[string]int32{"": 1, "any": 1, "tcp4": 0} {
		var six atomic.Int32
		d := newDialer()
		d.Resolver = &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) { return nameServer() }}
		d.ControlContext = func(ctx context.Context, network, _ string, _ syscall.RawConn) error {
			if network == "tcp6" {
				six.Add(1)
				<-ctx.Done()
				return ctx.Err()
			}
			return nil
		}
		conf := bot("http://bot.example:" + port)
		conf.Network.Family = family
		tg, err := newTelegram(&conf, d.DialContext)
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		if err := tg.call(t.Context(), callTime, "getMe", struct{}{}, nil); err != nil {
			t.Errorf("%q: %v", family, err)
		}
		if took := time.Since(began); took > callTime/2 || six.Load() != tries {
			t.Errorf("%q: took %v, tried IPv6 %d times", family, took, six.Load())
		}
		tg.transport.CloseIdleConnections()
	}
}

// nameServer answers that every name has ::1 and 127.0.0.1.
func nameServer() (net.Conn, error) {
	here, there := net.Pipe()
	go func() {
		defer there.Close()
		for {
			var size [2]byte // a stream's messages come with their length
			if _, err := io.ReadFull(there, size[:]); err != nil {
				return
			}
			q := make([]byte, binary.BigEndian.Uint16(size[:]))
			if _, err := io.ReadFull(there, q); err != nil {
				return
			}
			end := 12
			for q[end] != 0 {
				end += int(q[end]) + 1
			}
			address, kind := net.IPv6loopback, q[end+2]
			if kind == 1 {
				address = net.IPv4(127, 0, 0, 1).To4()
			}
			a := append([]byte{q[0], q[1], 0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0}, q[12:end+5]...)
			a = append(a, 0xc0, 12, 0, kind, 0, 1, 0, 0, 0, 60, 0, byte(len(address)))
			a = append(a, address...)
			binary.BigEndian.PutUint16(size[:], uint16(len(a)))
			if _, err := there.Write(append(size[:], a...)); err != nil {
				return
			}
		}
	}()
	return here, nil
}
