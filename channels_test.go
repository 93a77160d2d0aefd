package main

import (
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

const botToken = "4242:AAcanaryOfTheBotThatNobodyMayTell_x9"

// botAPI is as much of Telegram's Bot API as a test of the whole program needs.
// It forgets what was confirmed, as the real one does.
type botAPI struct {
	url, token string

	mu      sync.Mutex
	next    int64
	updates map[int64]string
	sent    map[string]int // texts, by how often they came
	to      map[string]int // the same with their chats, as CHAT: TEXT
	closed  map[string]bool
	reacted []string // chats, and what was set at a message there
	edited  []string // texts that took the place of others
	webhook string
	secret  string        // that goes with it
	wake    chan struct{} // closed by the next update: for all polls, also those of who is gone
}

func newBotAPI(t *testing.T) *botAPI {
	b := &botAPI{token: botToken, updates: map[int64]string{}, sent: map[string]int{}, to: map[string]int{}, closed: map[string]bool{}, wake: make(chan struct{}), next: 1}
	srv := httptest.NewServer(b)
	t.Cleanup(func() {
		srv.CloseClientConnections()
		srv.Close()
	})
	b.url = srv.URL
	return b
}

// say is a text from a person in a private chat.
func (b *botAPI) say(from int, text string) {
	quoted, _ := json.Marshal(text)
	b.push(fmt.Sprintf(`"message":{"message_id":1,"from":{"id":%d,"first_name":"P"},"chat":{"id":%d,"type":"private"},"date":1,"text":%s}`, from, from, quoted))
}

// push is an update that has all but its number.
func (b *botAPI) push(update string) {
	b.mu.Lock()
	b.updates[b.next] = fmt.Sprintf(`{"update_id":%d,%s}`, b.next, update)
	b.next++
	close(b.wake)
	b.wake = make(chan struct{})
	b.mu.Unlock()
}

// code waits for the pairing code that somebody was told.
func (b *botAPI) code(h *house) (code string) {
	h.t.Helper()
	h.eventually("the code", func() bool {
		b.mu.Lock()
		defer b.mu.Unlock()
		for text := range b.sent {
			_, code, _ = strings.Cut(text, "openclaw pairing approve telegram ")
		}
		return code != ""
	})
	return code
}

// busyProvider answers at once, but for a long task, of which it says a word and
// then nothing until it is told to stop.
func busyProvider(t *testing.T) *fakeProvider {
	return newProvider(t, func(x *exchange) {
		if x.text != "long task" {
			x.stream(x.script(replyTo(x.text)), 0)
			return
		}
		x.stream(x.script("so far")[:1], 0)
		<-x.ctx.Done()
	})
}

// refuse closes a chat.
func (b *botAPI) refuse(chat string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed[chat] = true
}

func (b *botAPI) count() (confirmed, sent int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, n := range b.sent {
		sent += n
	}
	return int(b.next) - 1 - len(b.updates), sent
}

func (b *botAPI) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var in struct {
		Offset   int64           `json:"offset"`
		Timeout  int             `json:"timeout"`
		Limit    int             `json:"limit"`
		Text     string          `json:"text"`
		Chat     any             `json:"chat_id"`
		URL      string          `json:"url"`
		Secret   string          `json:"secret_token"`
		Reaction json.RawMessage `json:"reaction"`
	}
	json.NewDecoder(r.Body).Decode(&in)
	switch strings.TrimPrefix(r.URL.Path, "/bot"+b.token+"/") {
	case "getMe":
		io.WriteString(w, `{"ok":true,"result":{"id":4242,"is_bot":true,"username":"claw_bot"}}`)
	case "getUpdates":
		for {
			var batch []string
			b.mu.Lock()
			for id := range b.updates {
				if id < in.Offset {
					delete(b.updates, id)
				}
			}
			for id := max(in.Offset, 1); id < b.next && len(batch) < in.Limit; id++ {
				if u, ok := b.updates[id]; ok {
					batch = append(batch, u)
				}
			}
			wake := b.wake
			b.mu.Unlock()
			if batch != nil || in.Timeout == 0 {
				io.WriteString(w, `{"ok":true,"result":[`+strings.Join(batch, ",")+`]}`)
				return
			}
			select {
			case <-wake:
			case <-r.Context().Done():
				return
			}
		}
	case "sendMessage":
		b.mu.Lock()
		refused := b.closed[fmt.Sprint(in.Chat)]
		if !refused {
			b.sent[in.Text]++
			b.to[fmt.Sprint(in.Chat)+": "+in.Text]++
		}
		b.mu.Unlock()
		if refused {
			w.WriteHeader(http.StatusForbidden)
			io.WriteString(w, `{"ok":false,"error_code":403,"description":"Forbidden: bot was blocked by the user"}`)
			return
		}
		io.WriteString(w, `{"ok":true,"result":{"message_id":1}}`)
	case "editMessageText":
		b.mu.Lock()
		b.edited = append(b.edited, in.Text)
		b.mu.Unlock()
		io.WriteString(w, `{"ok":true,"result":true}`)
	case "setWebhook", "deleteWebhook":
		b.mu.Lock()
		b.webhook, b.secret = in.URL, in.Secret
		b.mu.Unlock()
		io.WriteString(w, `{"ok":true,"result":true}`)
	case "getWebhookInfo":
		b.mu.Lock()
		defer b.mu.Unlock()
		fmt.Fprintf(w, `{"ok":true,"result":{"url":%q}}`, b.webhook)
	case "setMessageReaction":
		b.mu.Lock()
		b.reacted = append(b.reacted, fmt.Sprintf("%v %s", in.Chat, in.Reaction))
		b.mu.Unlock()
		io.WriteString(w, `{"ok":true,"result":true}`)
	case "sendChatAction":
		io.WriteString(w, `{"ok":true,"result":true}`)
	default:
		w.WriteHeader(http.StatusUnauthorized)
		io.WriteString(w, `{"ok":false,"error_code":401,"description":"Unauthorized"}`)
	}
}

func telegramTo(b *botAPI, p *fakeProvider, more object) object {
	sections := oneModel(p, object{"limits": object{"maxQueuedTurns": 64}})
	telegram := object{"botToken": botToken, "apiRoot": b.url, "allowFrom": []int{7}}
	for key, value := range more {
		telegram[key] = value
	}
	sections["channels"] = object{"telegram": telegram}
	return sections
}

// TestTelegramPairing is a stranger's way in: a code, an operator's leave, an answer.
func TestTelegramPairing(t *testing.T) {
	t.Parallel()
	p := newProvider(t, func(x *exchange) { x.stream(x.script(replyTo(x.text)), 0) })
	b := newBotAPI(t)
	h := newHouse(t, telegramTo(b, p, object{"allowFrom": []int{}}))
	g := h.start()
	b.say(8, "let me in")
	code := b.code(h)
	if out := h.mustRun("pairing", "list", "telegram").stdout; !strings.Contains(out, code) || !strings.Contains(out, "8") {
		t.Errorf("pairing list: %s", out)
	}
	if r := h.run("pairing", "approve", "telegram", "AAAAAAAA"); r.code != 1 {
		t.Errorf("a wrong code: %v", r)
	}
	h.mustRun("pairing", "approve", "telegram", code)
	b.say(8, "who are you")
	h.eventually("the answer", func() bool { b.mu.Lock(); defer b.mu.Unlock(); return b.sent[replyTo("who are you")] == 1 })
	h.mustRun("message", "send", "--channel", "telegram", "--to", "8", "--text", "from the operator")
	if out := h.mustRun("pairing", "list", "telegram").stdout; !strings.Contains(out, "(approved)") || !strings.Contains(out, "8") {
		t.Errorf("pairing list: %s", out)
	}
	b.mu.Lock()
	if b.sent["from the operator"] != 1 || b.sent[replyTo("let me in")] != 0 {
		t.Errorf("sent %v", b.sent)
	}
	b.mu.Unlock()
	if out := h.mustRun("channels", "status").stdout; !strings.Contains(out, "telegram:default") || !strings.Contains(out, "open") || !strings.Contains(out, "@claw_bot") {
		t.Errorf("channels status: %s", out)
	}
	if out := h.mustRun("sessions").stdout; !strings.Contains(out, "agent:main:telegram:direct:8") {
		t.Errorf("sessions: %s", out)
	}
	if out := h.mustRun("health", "--json").stdout; !strings.Contains(out, `"lastSuccessAt"`) {
		t.Errorf("health: %s", out)
	}
	page := h.mustHTTP("GET", "/metrics", "").body
	for _, want := range []string{"up", "last_success_timestamp_seconds", "last_inbound_timestamp_seconds", "last_sent_timestamp_seconds", "uncertain"} {
		if !strings.Contains(page, "\nopenclaw_channel_"+want+`{channel="telegram",account="default"} `) {
			t.Errorf("no %s in /metrics: %s", want, page)
		}
	}
	p.mu.Lock()
	if len(p.bodies) != 1 {
		t.Errorf("the model was asked %d times", len(p.bodies))
	}
	p.mu.Unlock()
	if strings.Contains(g.log(), "AAcanary") {
		t.Error("the token is in the log")
	}
	h.mustRun("pairing", "revoke", "telegram", "8")
	if r := h.run("pairing", "revoke", "telegram", "8"); r.code != 1 || !strings.Contains(r.stderr, "no operator has approved this id") {
		t.Errorf("revoked twice: %v", r)
	}
	b.say(8, "still me")
	h.eventually("a new code", func() bool { return strings.Count(h.mustRun("pairing", "list", "telegram").stdout, "8") > 0 })
	list := strings.Fields(h.mustRun("pairing", "list", "telegram").stdout)
	code = list[slices.Index(list, "default")-1]
	h.mustRun("pairing", "reject", "telegram", code)
	if r := h.run("pairing", "approve", "telegram", code); r.code != 1 {
		t.Errorf("a code that was rejected: %v", r)
	}
}

// TestRevokeStops: with an approval ends what is being answered for it, and what
// waits behind that reaches no model.
func TestRevokeStops(t *testing.T) {
	t.Parallel()
	p := busyProvider(t)
	b := newBotAPI(t)
	h := newHouse(t, telegramTo(b, p, object{"allowFrom": []int{7}, "streaming": "off"}))
	h.start()
	b.say(8, "let me in")
	code := b.code(h)
	h.mustRun("pairing", "approve", "telegram", code)
	b.say(8, "long task")
	b.say(8, "second")
	waiting := func(n string) func() bool {
		return func() bool {
			return strings.Contains(h.mustRun("channels", "status", "--json").stdout, `"waiting": `+n)
		}
	}
	h.eventually("both wait", waiting("2"))
	h.eventually("the turn runs", func() bool { p.mu.Lock(); defer p.mu.Unlock(); return len(p.bodies) == 1 })
	h.mustRun("pairing", "revoke", "telegram", "8")
	h.eventually("nothing waits", waiting("0"))
	b.say(7, "hello")
	h.eventually("another's answer", func() bool { b.mu.Lock(); defer b.mu.Unlock(); return b.sent[replyTo("hello")] == 1 })
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.bodies) != 2 {
		t.Errorf("the model was asked %d times", len(p.bodies))
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.sent) != 3 { // the code, the leave and the other one's answer
		t.Errorf("sent %v", b.sent)
	}
}

// TestRemovedSender: what somebody wrote before they were taken off the list, and
// what waits behind another turn, reaches no model.
func TestRemovedSender(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	p := newProvider(t, func(x *exchange) {
		if x.text == "long task" {
			select {
			case <-release:
			case <-x.ctx.Done():
			}
		}
		x.stream(x.script(replyTo(x.text)), 0)
	})
	b := newBotAPI(t)
	h := newHouse(t, telegramTo(b, p, object{"allowFrom": []int{7, 8}, "streaming": "off"}))
	h.start()
	b.say(8, "long task")
	h.eventually("the turn runs", func() bool { p.mu.Lock(); defer p.mu.Unlock(); return len(p.bodies) == 1 })
	b.say(8, "behind it")
	h.eventually("both wait", func() bool { return strings.Contains(h.mustRun("channels", "status", "--json").stdout, `"waiting": 2`) })
	h.mustRun("config", "set", "channels.telegram.allowFrom", "[7]")
	close(release)
	b.say(7, "hello")
	h.eventually("another's answer", func() bool { b.mu.Lock(); defer b.mu.Unlock(); return b.sent[replyTo("hello")] == 1 })
	h.eventually("nothing waits", func() bool { return strings.Contains(h.mustRun("channels", "status", "--json").stdout, `"waiting": 0`) })
	h.eventually("no turn runs", func() bool { return strings.Contains(h.mustRun("status").stdout, "turns 0") })
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, body := range p.bodies {
		if strings.Contains(string(body), "behind it") {
			t.Error("the model was told")
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.sent) != 1 {
		t.Errorf("sent %v", b.sent)
	}
}

// TestUncertain: of a message that a channel's program may have sent before it
// ended the operator is told, until the operator says that it is known.
func TestUncertain(t *testing.T) {
	t.Parallel()
	h := newHouse(t, nil)
	script := filepath.Join(h.dir, "channel.sh")
	if err := os.WriteFile(script, []byte(`echo '{"type":"hello","protocol":1,"features":[]}'
while read -r line; do case $line in *'"type":"send"'*) exit 1;; esac; done
`), 0o600); err != nil {
		t.Fatal(err)
	}
	h.configure(object{"channels": object{"demo": object{"kind": "process", "command": []string{"/bin/sh", script}}}})
	h.start()
	if r := h.run("message", "send", "--channel", "demo", "--to", "me", "--text", "hello"); r.code != 1 || !strings.Contains(r.stderr, "ended while it was sending") {
		t.Errorf("message send: %v", r)
	}
	if out := h.mustRun("channels", "status").stdout; !strings.Contains(out, "1 message uncertain") {
		t.Errorf("channels status: %s", out)
	}
	if out := h.mustRun("channels", "uncertain", "demo").stdout; !strings.Contains(out, "me") || !strings.Contains(out, "ended while it was sending") {
		t.Errorf("channels uncertain: %s", out)
	}
	if out := h.mustRun("channels", "uncertain", "demo", "--clear").stdout; out != "1 uncertain message of demo:default cleared\n" {
		t.Errorf("channels uncertain --clear: %s", out)
	}
	if out := h.mustRun("channels", "status").stdout; strings.Contains(out, "uncertain") {
		t.Errorf("channels status: %s", out)
	}
	if r := h.mustRun("channels", "uncertain", "demo"); !strings.Contains(r.stderr, "no message of demo is uncertain") {
		t.Errorf("channels uncertain: %v", r)
	}
	if r := h.run("channels", "uncertain", "nowhere"); r.code != 1 || !strings.Contains(r.stderr, "no channel nowhere") {
		t.Errorf("channels uncertain nowhere: %v", r)
	}
}

// TestKillNineTelegram kills the gateway again and again while people write:
// each message stands in the transcripts once, each is answered once or the
// answer is reported as uncertain.
func TestKillNineTelegram(t *testing.T) {
	t.Parallel()
	rounds, each, life := 6, 60, 400*time.Millisecond
	if s := os.Getenv(crashRounds); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil {
			t.Fatalf("%s: %v", crashRounds, err)
		}
		rounds, each, life = n, 100, time.Second // 100 rounds are 10,000 messages
	}
	began := time.Now()
	p := newProvider(t, func(x *exchange) { x.stream(x.script(replyTo(x.text)), 0) })
	b := newBotAPI(t)
	people := make([]int, max(50, rounds*each/50)) // so many that none writes more, in all, than a chat may have waiting
	for i := range people {
		people[i] = i + 1
	}
	h := newHouse(t, telegramTo(b, p, object{"allowFrom": people}))
	var texts []string
	busy := 0 // kills while messages waited to be read, answered or sent
	for round := range rounds {
		g := h.start()
		for i := range each {
			text := fmt.Sprintf("r%d m%d", round, i)
			texts = append(texts, text)
			b.say(people[(len(texts)-1)%len(people)], text)
		}
		<-time.After(rand.N(life))
		if _, sent := b.count(); sent < len(texts) {
			busy++
		}
		g.kill()
	}
	h.start()
	var st struct {
		ChannelAccounts map[string][]struct {
			Waiting, Queued, UncertainTotal int
		}
	}
	h.eventually("everything is answered", func() bool {
		confirmed, _ := b.count() // first: what is confirmed by now is among what the status counts
		if err := json.Unmarshal([]byte(h.mustRun("channels", "status", "--json").stdout), &st); err != nil {
			t.Fatal(err)
		}
		a := st.ChannelAccounts["telegram"]
		return confirmed == len(texts) && len(a) == 1 && a[0].Waiting == 0 && a[0].Queued == 0
	})
	s, err := readState(h.state, true)
	if err != nil {
		t.Fatal(err)
	}
	uncertain := st.ChannelAccounts["telegram"][0].UncertainTotal
	b.mu.Lock()
	defer b.mu.Unlock()
	lost, repeated, once, twice, missing := 0, 0, 0, 0, 0
	for _, text := range texts {
		switch n := s.user[text]; {
		case n == 0:
			lost++
		case n > 1:
			repeated++
			t.Logf("%q stands in the transcripts %d times", text, n)
		}
		switch n := b.sent[replyTo(text)]; {
		case n == 1:
			once++
		case n > 1:
			twice++
			t.Logf("%q was answered %d times", text, n)
		default:
			missing++
		}
	}
	t.Logf("%d updates, %d kills, %d of them amid work, in %v", len(texts), rounds, busy, time.Since(began).Round(time.Second))
	t.Logf("in the transcripts: lost %d, twice %d", lost, repeated)
	t.Logf("replies: delivered once %d, twice %d, not delivered %d; reported as uncertain %d", once, twice, missing, uncertain)
	if lost+repeated+twice > 0 || missing > uncertain {
		t.Error("not every message stands in the transcripts once, with its reply sent once or reported as uncertain")
	}
}

// eventually waits for what happens on its own.
func (h *house) eventually(what string, ok func() bool) {
	h.t.Helper()
	for !ok() {
		select {
		case <-h.ctx.Done():
			h.t.Fatalf("%s: not seen", what)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// TestTelegramStop: /stop ends a turn that runs, from the chat that it runs for,
// and both are answered.
func TestTelegramStop(t *testing.T) {
	t.Parallel()
	p := busyProvider(t)
	b := newBotAPI(t)
	h := newHouse(t, telegramTo(b, p, object{"streaming": "off"}))
	h.start()
	f := h.openFrames(nil)
	answered := func(text string) func() bool {
		return func() bool {
			b.mu.Lock()
			defer b.mu.Unlock()
			for sent := range b.sent {
				if strings.Contains(sent, text) {
					return true
				}
			}
			return false
		}
	}
	b.say(7, "long task")
	f.until(`"agent"`, `"text":"so far"`) // it has come as far as the gateway
	b.say(7, "/stop")
	h.eventually("the answer to /stop", answered("Stopped 1."))
	h.eventually("the answer so far", answered("so far\n\n[stopped]"))
	b.say(7, "and now")
	h.eventually("the next answer", answered(replyTo("and now")))
}

// TestTelegramBrokenAnswer: an answer that breaks off says so, and of what went
// wrong a chat, in which strangers may be, gets no names: neither the provider's
// nor the model's nor an address. The log has them.
func TestTelegramBrokenAnswer(t *testing.T) {
	t.Parallel()
	p := newProvider(t, func(x *exchange) {
		if x.text == "refuse" {
			x.fail(400, "secret words of the provider")
			return
		}
		x.stream(x.script("the first half", "never")[:1], 0)
		panic(http.ErrAbortHandler)
	})
	b := newBotAPI(t)
	h := newHouse(t, telegramTo(b, p, object{"streaming": "off"}))
	g := h.start()
	for _, c := range []struct{ says, want string }{
		{"break off", "the first half\n\n[the answer broke off: no model answered]"},
		{"refuse", "Sorry, that did not work: no model answered"},
	} {
		b.say(7, c.says)
		h.eventually(c.want, func() bool { b.mu.Lock(); defer b.mu.Unlock(); return b.sent[c.want] == 1 })
	}
	if log := g.logs(`"provider":"fake"`, `"status":400`); strings.Count(log, `"msg":"message not answered"`) != 2 || strings.Contains(log, "secret words") {
		t.Errorf("the log:\n%s", log)
	}
}
