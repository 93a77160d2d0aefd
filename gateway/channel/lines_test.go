package channel

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"openclaw/reload/config"
)

// sends is a channel that takes everything, and remembers it.
type sends struct {
	mu   sync.Mutex
	list []Outbound
}

func (s *sends) send(_ context.Context, out Outbound) (Sent, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.list = append(s.list, out)
	return Sent{MessageID: "1"}, nil
}

// texts are those that went to a chat; "" is any.
func (s *sends) texts(chat string) (out []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, o := range s.list {
		if chat == "" || o.To == chat {
			out = append(out, o.Text)
		}
	}
	return out
}

// turns is a handler whose turns run until they are stopped; it has room for so
// many of a chat.
type turns struct {
	room  int
	mu    sync.Mutex
	begun []string
	runs  map[string][]chan struct{}
}

func (h *turns) handle(_ context.Context, _ *Account, m Inbound) (func(context.Context) (string, error), error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.runs[m.Chat]) >= h.room {
		return nil, &Fault{Err: errors.New("busy"), Wait: time.Second}
	}
	end := make(chan struct{})
	h.begun, h.runs[m.Chat] = append(h.begun, m.Text), append(h.runs[m.Chat], end)
	return func(ctx context.Context) (string, error) {
		select {
		case <-end:
			return "end of " + m.Text, nil
		case <-ctx.Done():
			return "", ctx.Err()
		}
	}, nil
}

func (h *turns) interrupt(_ *Account, m Inbound, waiting int) (string, bool) {
	if m.Text != "/stop" {
		return "", false
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, end := range h.runs[m.Chat] {
		close(end)
		waiting++
	}
	h.runs[m.Chat] = nil
	return fmt.Sprintf("Stopped %d.", waiting), true
}

// TestStopAtOnce: while a turn runs the chat's next messages are handed on, as
// many as there is room for; /stop ends them and those that wait for room,
// whatever stands before it. Replies come in the order of what they answer.
func TestStopAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		h, s := &turns{room: 9, runs: map[string][]chan struct{}{}}, &sends{}
		r.set.o.Handle, r.set.o.Interrupt = h.handle, h.interrupt
		a := r.add("s", &stub{send: s.send})
		receive := func(list ...Inbound) {
			t.Helper()
			if err := a.Receive(t.Context(), 0, list...); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Minute)
			synctest.Wait()
		}
		receive(from("c", "m0"))
		for i := range 11 {
			receive(from("c", fmt.Sprint("m", i+1)))
		}
		receive(from("other", "stays"))
		if want := "m0 m1 m2 m3 m4 m5 m6 m7 m8 stays"; strings.Join(h.begun, " ") != want {
			t.Errorf("handed on: %v", h.begun)
		}
		stop := from("c", "/stop")
		receive(stop, stop)
		var want []string
		for i := range 9 {
			want = append(want, fmt.Sprint("end of m", i))
		}
		told := func(text string) bool { return text == "Stopped 12." } // somewhere among them
		if got := s.texts("c"); !slices.ContainsFunc(got, told) || !slices.Equal(slices.DeleteFunc(got, told), want) {
			t.Errorf("sent %q", got)
		}
		if st := a.Status(); st.Waiting != 1 || len(s.texts("other")) != 0 { // that of the other chat
			t.Errorf("%+v", st)
		}
		stop.ID = "2"
		receive(from("c", "before it in one batch"), stop)
		if st := a.Status(); st.Waiting != 1 || s.texts("c")[10] != "Stopped 1." || len(h.begun) != 10 {
			t.Errorf("sent %q, begun %q: %+v", s.texts("c"), h.begun, st)
		}
		receive(from("c", "after"))
		if h.begun[len(h.begun)-1] != "after" {
			t.Errorf("handed on: %v", h.begun)
		}
	})
}

// TestChatHangs: a chat whose message hangs holds up no other, a few of them
// together neither; its own next waits. What is under way when the account ends
// is uncertain, and nothing else.
func TestChatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		s := &sends{}
		a := r.add("s", &stub{send: func(ctx context.Context, out Outbound) (Sent, error) {
			if strings.HasPrefix(out.To, "hangs") {
				s.send(ctx, out)
				<-ctx.Done()
				return Sent{}, ctx.Err()
			}
			time.Sleep(time.Second)
			return s.send(ctx, out)
		}})
		for i := range maxSends - 1 {
			for n := range 2 {
				if err := a.Queue(Outbound{ID: fmt.Sprint(i, n), To: fmt.Sprint("hangs", i), Text: "x"}, nil); err != nil {
					t.Fatal(err)
				}
			}
		}
		want := []string{}
		for i := range 20 {
			want = append(want, fmt.Sprint(i))
			if err := a.Queue(Outbound{ID: fmt.Sprint("B", i), To: "B", Text: fmt.Sprint(i)}, nil); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(21 * time.Second)
		synctest.Wait()
		if got := s.texts("B"); !slices.Equal(got, want) || len(s.texts("")) != 20+maxSends-1 {
			t.Errorf("sent %q, of all %d", got, len(s.texts("")))
		}
		r.set.Close(0)
		if st := a.Status(); st.Queued != maxSends-1 || st.Unsure != maxSends-1 {
			t.Errorf("%+v", st)
		}
	})
}

// TestGivenUp: a message that cannot be sent holds up its chat for a day of
// tries, of which the status tells although the network answers; restarts do not
// begin that day anew. Then it is given up, which is told, and the next goes out.
func TestGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		s := &sends{}
		ch := &stub{
			run: func(ctx context.Context, a *Account) error {
				for ctx.Err() == nil {
					a.Alive("me")
					time.Sleep(10 * time.Second)
				}
				return ctx.Err()
			},
			send: func(ctx context.Context, out Outbound) (Sent, error) {
				if out.Text == "never" {
					return Sent{}, &Fault{Err: errors.New("not that"), Wait: 10 * time.Minute}
				}
				return s.send(ctx, out)
			},
		}
		a := r.add("s", ch)
		for _, text := range []string{"never", "after it"} {
			if err := a.Queue(Outbound{ID: text, To: "c", Text: text}, nil); err != nil {
				t.Fatal(err)
			}
		}
		began := time.Now()
		time.Sleep(4 * time.Minute)
		if st := a.Status(); st.Stuck != 0 || st.LastError != "" {
			t.Errorf("after minutes: %+v", st)
		}
		time.Sleep(12 * time.Hour)
		if st := a.Status(); st.Stuck != 1 || st.StuckSince.Sub(began) > time.Second || st.LastError != "send: not that" || st.Queued != 2 || st.State != StateOpen {
			t.Errorf("after half a day: %+v", st)
		}
		r.set.Close(0)
		r.open(nil)
		a = r.add("s", ch)
		time.Sleep(11 * time.Hour)
		if st := a.Status(); st.Stuck != 1 || st.Queued != 2 || st.Unsure != 0 {
			t.Errorf("before the day is over: %+v", st)
		}
		time.Sleep(2 * time.Hour)
		synctest.Wait()
		if st := a.Status(); st.Stuck != 0 || st.Queued != 0 || st.Unsure != 1 || st.LastError != "" || !strings.Contains(st.Uncertain[0].Why, "given up after a day of tries: not that") {
			t.Errorf("after a day: %+v", st)
		}
		if got := s.texts("c"); !slices.Equal(got, []string{"after it"}) || r.count("message given up") != 1 {
			t.Errorf("sent %q\n%s", got, r.logs)
		}
	})
}

// TestRejudged: what waits of somebody who is let in no longer when the account
// begins anew is neither handed on nor answered; an operator's message goes out.
func TestRejudged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		api, dial := newPipeAPI(t)
		r.open(dial)
		var closed atomic.Bool
		closed.Store(true)
		api.answer = func(method string, _ int, _ map[string]any, w http.ResponseWriter) bool {
			return method == "sendMessage" && closed.Load() && fakeFail(w, 429, "Too Many Requests", `,"parameters":{"retry_after":3}`)
		}
		handle := r.set.o.Handle
		r.set.o.Handle = func(ctx context.Context, a *Account, m Inbound) (func(context.Context) (string, error), error) {
			if closed.Load() && strings.HasSuffix(m.Text, "waits") {
				return nil, &Fault{Err: errors.New("busy"), Wait: time.Second}
			}
			return handle(ctx, a, m)
		}
		c := bot("http://api.invalid")
		c.DMPolicy, c.AllowFrom = "pairing", []string{"7", "8"}
		r.set.Apply([]config.ChannelAccount{c})
		for i, from := range []int64{7, 8, 9} { // 9 is told a code
			api.say(10+2*int64(i), from, fmt.Sprint(from, " answered"))
			api.say(11+2*int64(i), from, fmt.Sprint(from, " waits"))
		}
		time.Sleep(10 * time.Second)
		if err := r.set.Queue("telegram", "", Outbound{ID: "own", To: "7", Text: "an operator's"}, nil); err != nil {
			t.Fatal(err)
		}
		if st := r.set.Status()[0]; st.Waiting != 2 || st.Queued != 4 {
			t.Fatalf("%+v", st)
		}
		c.DMPolicy, c.AllowFrom = "allowlist", []string{"8"}
		r.set.Apply([]config.ChannelAccount{c})
		closed.Store(false)
		time.Sleep(time.Minute)
		got := api.sent()
		slices.Sort(got)
		if want := []string{"an operator's", "you said 8 answered", "you said 8 waits"}; !slices.Equal(got, want) {
			t.Errorf("sent %q, not %q", got, want)
		}
		if st := r.set.Status()[0]; st.Waiting+st.Queued+st.Unsure != 0 || r.count("no longer let in") != 3 {
			t.Errorf("%+v\n%s", st, r.logs)
		}
		for _, m := range r.got {
			if m.Text == "7 waits" {
				t.Error("it was handed on")
			}
		}
	})
}

// TestFullChat: one chat that writes without end shuts out no other. Beyond its
// bound a message is left out, of which it is told once a minute; /stop still
// works. While its replies cannot be sent, no more of them pile up.
func TestFullChat(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		var held atomic.Bool
		h, s := &turns{room: 9, runs: map[string][]chan struct{}{}}, &sends{}
		r.set.o.Handle, r.set.o.Interrupt = h.handle, h.interrupt
		a := r.add("s", &stub{send: func(ctx context.Context, out Outbound) (Sent, error) {
			if held.Load() && out.To == "c" {
				return Sent{}, &Fault{Err: errors.New("not now"), Wait: time.Hour}
			}
			return s.send(ctx, out)
		}})
		receive := func(list ...Inbound) {
			t.Helper()
			if err := a.Receive(t.Context(), 0, list...); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
		}
		n := 0
		flood := func(many int) {
			t.Helper()
			for range many {
				n++
				receive(from("c", fmt.Sprint("m", n)))
			}
		}
		flood(maxWaiting + 200)
		if st := a.Status(); st.Waiting != maxOfChat {
			t.Errorf("%+v", st)
		}
		receive(from("c", "m1200")) // repeated by the network
		time.Sleep(fullAgain)
		flood(10)
		if got := s.texts("c"); !slices.Equal(got, []string{tooMany, tooMany}) {
			t.Errorf("told %q", got)
		}
		receive(from("owner", "hello"))
		if !slices.Contains(h.begun, "hello") {
			t.Error("another chat is shut out")
		}
		receive(from("c", "/stop"))
		time.Sleep(time.Minute)
		synctest.Wait()
		if st := a.Status(); st.Waiting != 1 || !slices.Contains(s.texts("c"), "Stopped 50.") {
			t.Errorf("sent %q: %+v", s.texts("c"), st)
		}

		held.Store(true)
		a.handle = func(_ context.Context, _ *Account, m Inbound) (func(context.Context) (string, error), error) {
			return func(context.Context) (string, error) { return "re " + m.Text, nil }, nil
		}
		for range 10 {
			flood(100)
			time.Sleep(2 * fullAgain)
		}
		if st := a.Status(); st.Waiting != 1 || st.Queued < maxOfChat || st.Queued > maxOfChat+1 {
			t.Errorf("%+v", st)
		}
		receive(from("other", "and this"))
		if !slices.Contains(s.texts("other"), "re and this") {
			t.Error("another chat is shut out by replies that cannot be sent")
		}
	})
}

// TestQueueBound: while sends are put off, replies of many chats fill the queue
// to its bound, and no more is let in.
func TestQueueBound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		a := r.add("s", &stub{send: func(context.Context, Outbound) (Sent, error) {
			return Sent{}, &Fault{Err: errors.New("later"), Wait: time.Hour}
		}})
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		var err error
		for i := 0; i < 3*maxQueue && err == nil; i++ {
			err = a.Receive(ctx, 0, from(fmt.Sprint("c", i%100), fmt.Sprint("m", i)))
			synctest.Wait()
		}
		if st := a.Status(); !errors.Is(err, context.DeadlineExceeded) || st.Queued != maxQueue || st.Waiting != 0 {
			t.Errorf("%v: %+v", err, st)
		}
	})
}

// TestApproveWhileFull: an approval is one, also where there is no room to tell of it.
func TestApproveWhileFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		api, dial := newPipeAPI(t)
		r.open(dial)
		c := bot("http://api.invalid")
		c.DMPolicy = "pairing"
		r.set.Apply([]config.ChannelAccount{c})
		api.say(1, 8, "let me in")
		time.Sleep(time.Second)
		a := r.account()
		r.queueUp(a, maxQueue)
		list, _, err := r.set.Pending("telegram")
		if err != nil || len(list) != 1 {
			t.Fatal(list, err)
		}
		if _, err := r.set.Approve("telegram", list[0].Code); err != nil || !a.pairing.allowed("default", "8") || r.count("an approved sender is not told") != 1 {
			t.Errorf("%v\n%s", err, r.logs)
		}
	})
}
