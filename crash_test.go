package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"openclaw/wire"
)

// crashRounds names the variable that says how often TestKillNine kills; 12
// times without it.
const crashRounds = "OPENCLAW_CRASH_ROUNDS"

// ledger is what clients were told. What is asked twice must be there once.
type ledger struct {
	mu    sync.Mutex
	acked map[string]place // texts of acknowledged messages
	final map[string]place // texts of answers that were seen whole
	keys  map[string]bool  // sessions
	turns int
}

// place is where something was said.
type place struct{ door, key string }

func (l *ledger) next(door string) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.turns++
	return fmt.Sprintf("%s %d", door, l.turns)
}

func (l *ledger) ack(text string, at place) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.acked[text] = at
}

func (l *ledger) done(text string, at place) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.acked[text], l.final[replyTo(text)] = at, at
}

func replyTo(text string) string { return "you said «" + text + "», and that is noted" }

// TestKillNineResponses goes on from a response after the gateway was killed,
// also while it made the next one.
func TestKillNineResponses(t *testing.T) {
	t.Parallel()
	began := make(chan struct{}, 1)
	p := newProvider(t, func(x *exchange) {
		if x.text == "hang" {
			x.stream(x.script("begun")[:1], 0)
			began <- struct{}{}
			<-x.ctx.Done()
			return
		}
		x.stream(x.script(replyTo(x.text)), 0)
	})
	h := newHouse(t, oneModel(p, nil))
	g := h.start()
	ask := func(text string, more object) (r responseJSON) {
		t.Helper()
		a := h.mustHTTP("POST", "/v1/responses", responseBody("", text, more))
		if err := json.Unmarshal([]byte(a.body), &r); err != nil || a.status != http.StatusOK || r.outcome(0).text != replyTo(text) {
			t.Fatalf("%s: %d %s", text, a.status, a.body)
		}
		return r
	}
	first := ask("one", nil)
	g.kill()
	g = h.start()
	second := ask("two", object{"previous_response_id": first.ID})
	asking := make(chan struct{})
	go func() {
		defer close(asking)
		h.http("POST", "/v1/responses", responseBody("", "hang", object{"previous_response_id": second.ID, "stream": true}))
	}()
	<-began
	g.kill()
	<-asking
	h.start()
	ask("three", object{"previous_response_id": second.ID})
	p.mu.Lock()
	last := p.bodies[len(p.bodies)-1]
	p.mu.Unlock()
	for _, text := range []string{"one", replyTo("one"), "two", replyTo("two"), "three"} {
		if quoted, _ := json.Marshal(text); !strings.Contains(last, string(quoted)) {
			t.Errorf("the model is not told %s: %s", quoted, last)
		}
	}
	if strings.Contains(last, `"hang"`) {
		t.Errorf("the model is told what was asked another way: %s", last)
	}
}

// TestKillNine kills the gateway at random moments while turns run, and wants
// each file of the state directory to parse, everything that was acknowledged
// to be in the transcripts exactly once, and a gateway that is back at once.
func TestKillNine(t *testing.T) {
	t.Parallel()
	rounds := 12
	if s := os.Getenv(crashRounds); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil {
			t.Fatalf("%s: %v", crashRounds, err)
		}
		rounds = n
	}
	p := newProvider(t, func(x *exchange) {
		reply := []rune(replyTo(x.text))
		third := len(reply) / 3
		x.stream(x.script(string(reply[:third]), string(reply[third:2*third]), string(reply[2*third:])), time.Millisecond)
	})
	h := newHouse(t, oneModel(p, object{"limits": object{"maxQueuedTurns": 64}}))
	book := &ledger{acked: map[string]place{}, final: map[string]place{}, keys: map[string]bool{}}
	var worst, sum time.Duration
	waiting, torn := 0, 0
	keys := map[string]bool{} // of the last round
	for round := range rounds {
		g := h.start()
		c := h.mustConnect(nil)
		up := time.Since(g.began)
		c.Close()
		worst, sum = max(worst, up), sum+up
		h.checkHistory(book, keys)
		clear(keys)

		ctx, stop := context.WithCancel(h.ctx)
		var clients sync.WaitGroup
		for i, door := range []func(context.Context, *ledger, string, string){h.talkStream, h.talkWhole, h.talkChat, h.talkChat, h.talkAgent} {
			// The two that use chat.send share a session, where turns then queue.
			key := fmt.Sprintf("agent:main:r%d-%d", round, min(i, 3)-min(max(i-2, 0), 1))
			keys[key], book.keys[key] = true, true
			clients.Go(func() { door(ctx, book, key, fmt.Sprintf("r%d-c%d", round, i)) })
		}
		// A random moment: while the first turns begin as well as in full run, also
		// on a machine on which everything takes longer, as the start did.
		<-time.After(rand.N(max(250*time.Millisecond, up)))
		g.kill()
		stop()
		clients.Wait()

		s, err := readState(h.state, true)
		if err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		waiting = s.waiting
		if _, err := readState(h.state, false); err != nil {
			torn++
		}
		book.check(t, s)
		if t.Failed() {
			t.Fatalf("round %d", round)
		}
	}
	h.start()
	h.checkHistory(book, book.keys)
	for key := range book.keys { // the conversations go on where they were
		text := book.next("after")
		a := h.mustHTTP("POST", "/v1/chat/completions", chatBody("", text, false), "x-openclaw-session-key: "+key)
		if a.status != http.StatusOK {
			t.Fatalf("%s: a turn after the restart: %d %s", key, a.status, a.body)
		}
		book.done(text, place{"after", key})
	}
	s, err := readState(h.state, false)
	if err != nil {
		t.Fatal(err)
	}
	book.check(t, s)
	if len(book.final) == 0 || waiting == 0 && rounds > 8 {
		t.Errorf("the test does not test: %d answers, %d queued turns were cut off", len(book.final), waiting)
	}
	t.Logf("%d rounds: %d messages acknowledged of %d sent, %d answers seen, %d queued turns cut off, %d files torn before the restart; start to hello-ok at most %v, on average %v (%s, %d processors)",
		rounds, len(book.acked), book.turns, len(book.final), waiting, torn, worst.Round(time.Millisecond), (sum / time.Duration(rounds)).Round(time.Millisecond), runtime.Version(), runtime.NumCPU())
	if average := sum / time.Duration(rounds); average > prompt { // the worst is also this machine's
		t.Errorf("a start took %v, want at most %v", average, prompt)
	}
}

// check compares what is stored with what was promised.
func (l *ledger) check(t *testing.T, s *stored) {
	t.Helper()
	for text, at := range l.acked {
		if n := s.user[text]; n != 1 {
			t.Errorf("%s: message %q was acknowledged and stands there %d times", at.door, text, n)
		}
	}
	for text, at := range l.final {
		if n := s.assistant[text]; n != 1 {
			t.Errorf("%s: answer %q was seen and stands there %d times", at.door, text, n)
		}
	}
	for text, n := range s.user {
		if n > 1 {
			t.Errorf("message %q stands there %d times", text, n)
		}
	}
}

// checkHistory asks the gateway itself for conversations: all that was promised
// in these sessions is there, once.
func (h *house) checkHistory(book *ledger, keys map[string]bool) {
	h.t.Helper()
	c := h.mustConnect(nil)
	defer c.Close()
	for key := range keys {
		var page struct {
			Messages []struct {
				Content []struct {
					Text string `json:"text"`
				} `json:"content"`
			} `json:"messages"`
			HasMore bool `json:"hasMore"`
		}
		if err := c.Call(h.ctx, "chat.history", object{"sessionKey": key, "limit": 1000}, &page); err != nil {
			h.t.Fatalf("%s: %v", key, err)
		}
		if page.HasMore {
			h.t.Fatalf("%s: the round wrote more than a page", key)
		}
		got := map[string]int{}
		for _, m := range page.Messages {
			for _, part := range m.Content {
				got[part.Text]++
			}
		}
		for _, promised := range []map[string]place{book.acked, book.final} {
			for text, at := range promised {
				if at.key == key && got[text] != 1 {
					h.t.Errorf("%s: %q is %d times in the history after the restart", at.door, text, got[text])
				}
			}
		}
	}
	if h.t.Failed() {
		h.t.FailNow()
	}
}

// talkStream has turn after turn over HTTP until the gateway is gone.
func (h *house) talkStream(ctx context.Context, book *ledger, key, name string) {
	h.talkHTTP(ctx, book, key, name, true)
}

func (h *house) talkWhole(ctx context.Context, book *ledger, key, name string) {
	h.talkHTTP(ctx, book, key, name, false)
}

func (h *house) talkHTTP(ctx context.Context, book *ledger, key, name string, stream bool) {
	for {
		text := book.next(name)
		resp, err := h.call(ctx, "POST", "/v1/chat/completions", chatBody("", text, stream), "x-openclaw-session-key: "+key)
		if err != nil {
			return
		}
		raw, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			h.t.Errorf("%s: %d %s", name, resp.StatusCode, raw)
			return
		}
		if stream {
			said, _, failure, done := streamed(string(raw))
			switch {
			case failure != nil:
				h.t.Errorf("%s: %s", name, failure)
			case done && said != replyTo(text):
				h.t.Errorf("%s: %q was answered with %q", name, text, said)
			case done:
				book.done(text, place{name, key})
			case said != "": // the model was asked, so the message is stored
				book.ack(text, place{name, key})
			}
		} else if err == nil {
			book.done(text, place{name, key})
		}
		if err != nil {
			return
		}
	}
}

// talkChat keeps a few messages waiting behind the one that is being answered.
func (h *house) talkChat(ctx context.Context, book *ledger, key, name string) {
	ended := make(chan struct{}, 1024)
	var mu sync.Mutex
	runs := map[string]string{} // text by run
	c, err := h.connect(func(in wire.Inbound) {
		var ev wire.ChatEvent
		if in.Event != "chat" || wire.DecodeLoose(in.Payload, &ev) != nil {
			return
		}
		mu.Lock()
		text, ours := runs[ev.RunID]
		mu.Unlock()
		if !ours || ev.State == wire.ChatStateDelta {
			return
		}
		if ev.State == wire.ChatStateFinal && ev.Message != nil && ev.Message.Content[0].Text == replyTo(text) {
			book.done(text, place{name, key})
		} else {
			h.t.Errorf("%s: %q ended as %s %q", name, text, ev.State, ev.ErrorMessage)
		}
		ended <- struct{}{}
	})
	if err != nil {
		return // killed before
	}
	defer c.Close()
	for sent := 0; ; sent++ {
		if sent >= 4 {
			select {
			case <-ended:
			case <-c.Done():
				return
			}
		}
		text := book.next(name)
		run := "run " + text
		mu.Lock()
		runs[run] = text
		mu.Unlock()
		var ack wire.ChatAck
		if err := c.Call(ctx, "chat.send", wire.ChatSend{SessionKey: key, Message: text, IdempotencyKey: run}, &ack); err != nil {
			return
		}
		if ack.Status != wire.StatusStarted {
			h.t.Errorf("%s: chat.send answered %+v", name, ack)
		}
		book.ack(text, place{name, key})
	}
}

// talkAgent has turn after turn with the method agent.
func (h *house) talkAgent(ctx context.Context, book *ledger, key, name string) {
	c, err := h.connect(nil)
	if err != nil {
		return
	}
	defer c.Close()
	for {
		text := book.next(name)
		var final wire.AgentFinal
		err := c.CallFinal(ctx, "agent", wire.AgentRun{SessionKey: key, Message: text, IdempotencyKey: "run " + text}, &final, func(wire.Raw) { book.ack(text, place{name, key}) })
		if err != nil {
			return
		}
		if final.Status != wire.StatusOK || final.Result == nil || len(final.Result.Payloads) != 1 || final.Result.Payloads[0].Text != replyTo(text) {
			h.t.Errorf("%s: %q ended as %+v", name, text, final)
			return
		}
		book.done(text, place{name, key})
	}
}
