package channel

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"openclaw/gateway/store"
	"openclaw/reload/config"
)

const fakeToken = "4242:AAfakeTokenThatNoErrorMayTell_x9"

// fakeAPI is a Bot API that can do what a real one does on a bad day.
type fakeAPI struct {
	t   testing.TB
	srv *httptest.Server

	mu      sync.Mutex
	updates []json.RawMessage
	ids     []int64
	sends   []map[string]any
	edits   []map[string]any
	calls   map[string]int
	times   map[string][]time.Time
	wake    chan struct{}
	polling chan struct{} // the poll that is under way; closed when another takes its place
	second  string        // what becomes of a second poll: "wins", "loses", or nothing
	clashes int
	file    func(w http.ResponseWriter, r *http.Request) // in place of a file that says its name
	// answer, if it returns true, has answered in the API's place.
	answer func(method string, n int, in map[string]any, w http.ResponseWriter) bool
}

func newFakeAPI(t testing.TB) *fakeAPI {
	f := &fakeAPI{t: t, calls: map[string]int{}, times: map[string][]time.Time{}, wake: make(chan struct{}, 1)}
	f.srv = httptest.NewServer(http.HandlerFunc(f.serve))
	t.Cleanup(func() {
		f.srv.CloseClientConnections()
		f.srv.Close()
	})
	return f
}

func (f *fakeAPI) push(id int64, message string) {
	f.mu.Lock()
	f.updates = append(f.updates, json.RawMessage(fmt.Sprintf(`{"update_id":%d,%s}`, id, message)))
	f.ids = append(f.ids, id)
	f.mu.Unlock()
	poke(f.wake)
}

// newPipeAPI is one without a network, for tests in which time is made up; its
// dial is the way there.
func newPipeAPI(t testing.TB) (f *fakeAPI, dial func(context.Context, string, string) (net.Conn, error)) {
	f = &fakeAPI{t: t, calls: map[string]int{}, times: map[string][]time.Time{}, wake: make(chan struct{}, 1)}
	l := &pipeListener{conns: make(chan net.Conn), closed: make(chan struct{})}
	var work sync.WaitGroup
	work.Add(1) // ours, until the server is closed
	srv := &http.Server{ErrorLog: slog.NewLogLogger(slog.DiscardHandler, 0), Handler: http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		work.Add(1)
		defer work.Done()
		f.serve(w, q)
	})}
	go srv.Serve(l)
	t.Cleanup(func() {
		srv.Close()
		work.Done()
		work.Wait() // for those that take their time, which passes only while somebody waits
	})
	return f, func(ctx context.Context, _, _ string) (net.Conn, error) {
		here, there := net.Pipe()
		select {
		case l.conns <- there:
			return here, nil
		case <-l.closed:
			return nil, net.ErrClosed
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

type pipeListener struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}
func (l *pipeListener) Close() error   { l.once.Do(func() { close(l.closed) }); return nil }
func (l *pipeListener) Addr() net.Addr { return &net.UnixAddr{Name: "pipe"} }

// say is a text of a person in a private chat.
func (f *fakeAPI) say(id, from int64, text string) {
	quoted, _ := json.Marshal(text)
	f.push(id, fmt.Sprintf(`"message":{"message_id":%d,"from":{"id":%d,"first_name":"A"},"chat":{"id":%d,"type":"private"},"date":1,"text":%s}`, id, from, from, quoted))
}

func fakeFail(w http.ResponseWriter, code int, text, parameters string) bool {
	w.WriteHeader(code)
	fmt.Fprintf(w, `{"ok":false,"error_code":%d,"description":%q%s}`, code, text, parameters)
	return true
}

func (f *fakeAPI) serve(w http.ResponseWriter, r *http.Request) {
	if strings.HasPrefix(r.URL.Path, "/file/bot"+fakeToken+"/") {
		if f.file != nil {
			f.file(w, r)
			return
		}
		io.WriteString(w, "file:"+strings.TrimPrefix(r.URL.Path, "/file/bot"+fakeToken+"/"))
		return
	}
	method, ok := strings.CutPrefix(r.URL.Path, "/bot"+fakeToken+"/")
	if !ok {
		fakeFail(w, 401, "Unauthorized", "")
		return
	}
	in := map[string]any{}
	if strings.HasPrefix(r.Header.Get("Content-Type"), "multipart/") {
		if err := r.ParseMultipartForm(1 << 20); err != nil {
			f.t.Error(err)
		}
		for key, value := range r.MultipartForm.Value {
			in[key] = value[0]
		}
		for key, value := range r.MultipartForm.File {
			in[key] = value[0].Filename
		}
	} else if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
		f.t.Error(err)
	}
	f.mu.Lock()
	f.calls[method]++
	f.times[method] = append(f.times[method], time.Now())
	n, answer := f.calls[method], f.answer
	f.mu.Unlock()
	if answer != nil && answer(method, n, in, w) {
		return
	}
	switch method {
	case "getMe":
		io.WriteString(w, `{"ok":true,"result":{"id":4242,"is_bot":true,"first_name":"Claw","username":"claw_bot"}}`)
	case "getUpdates":
		offset, _ := in["offset"].(float64)
		seconds, _ := in["timeout"].(float64)
		limit, _ := in["limit"].(float64)
		end, mine := time.After(time.Duration(seconds)*time.Second), make(chan struct{})
		f.mu.Lock()
		if f.polling != nil && f.second == "loses" {
			f.clashes++
			f.mu.Unlock()
			fakeFail(w, 409, "Conflict: terminated by other getUpdates request; make sure that only one bot instance is running", "")
			return
		}
		if f.polling != nil && f.second == "wins" {
			f.clashes++
			close(f.polling)
		}
		f.polling = mine
		f.mu.Unlock()
		defer func() {
			f.mu.Lock()
			if f.polling == mine {
				f.polling = nil
			}
			f.mu.Unlock()
		}()
		for {
			f.mu.Lock()
			var batch []json.RawMessage
			for i, id := range f.ids {
				if id >= int64(offset) && len(batch) < int(limit) {
					batch = append(batch, f.updates[i])
				}
			}
			f.mu.Unlock()
			if len(batch) > 0 {
				json.NewEncoder(w).Encode(map[string]any{"ok": true, "result": batch})
				return
			}
			select {
			case <-f.wake:
			case <-mine:
				fakeFail(w, 409, "Conflict: terminated by other getUpdates request; make sure that only one bot instance is running", "")
				return
			case <-end:
				io.WriteString(w, `{"ok":true,"result":[]}`)
				return
			case <-r.Context().Done():
				return
			}
		}
	case "editMessageText":
		f.mu.Lock()
		f.edits = append(f.edits, in)
		f.mu.Unlock()
		io.WriteString(w, `{"ok":true,"result":{"message_id":1}}`)
	case "sendMessage", "sendPhoto", "sendDocument":
		f.mu.Lock()
		f.sends = append(f.sends, in)
		n := len(f.sends)
		f.mu.Unlock()
		fmt.Fprintf(w, `{"ok":true,"result":{"message_id":%d,"chat":{"id":1}}}`, 1000+n)
	case "getFile":
		fmt.Fprintf(w, `{"ok":true,"result":{"file_id":"x","file_path":"docs/%s"}}`, in["file_id"])
	default:
		io.WriteString(w, `{"ok":true,"result":true}`)
	}
}

// count is how often a method was called.
func (f *fakeAPI) count(method string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.calls[method]
}

// clashed is how often two polls met.
func (f *fakeAPI) clashed() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.clashes
}

// sent are the texts that went to a chat.
func (f *fakeAPI) sent() (texts []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, s := range f.sends {
		text, _ := s["text"].(string)
		texts = append(texts, text)
	}
	return texts
}

// rig is a Set over a state directory, whose handler echoes.
type rig struct {
	t    testing.TB
	dir  *store.Dir
	set  *Set
	logs *lockedBuffer
	mu   sync.Mutex
	got  []Inbound

	plays    sync.WaitGroup // programs that a test plays
	patience time.Duration
}

type lockedBuffer struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func newRig(t testing.TB) *rig {
	dir, err := store.Open(t.TempDir() + "/state")
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{t: t, dir: dir, logs: &lockedBuffer{}}
	t.Cleanup(func() {
		r.set.Close(0)
		r.plays.Wait()
		dir.Close()
	})
	r.open(nil)
	return r
}

func (r *rig) open(dial func(context.Context, string, string) (net.Conn, error)) {
	r.set = New(Options{Dir: r.dir, Log: slog.New(slog.NewTextHandler(r.logs, &slog.HandlerOptions{Level: slog.LevelDebug})), Dial: dial,
		Handle: func(_ context.Context, _ *Account, m Inbound) (func(context.Context) (string, error), error) {
			r.mu.Lock()
			r.got = append(r.got, m)
			r.mu.Unlock()
			return func(context.Context) (string, error) { return "you said " + m.Text, nil }, nil
		}})
}

func bot(root string) config.ChannelAccount {
	return config.ChannelAccount{Channel: "telegram", Account: "default", Kind: "telegram", BotToken: config.NewSecret(fakeToken), APIRoot: root,
		DMPolicy: "allowlist", GroupPolicy: "allowlist", AllowFrom: []string{"7"}, MediaMaxMb: 1}
}

// until waits for something that happens on its own.
func (r *rig) until(what string, ok func() bool) {
	r.t.Helper()
	patience := cmp.Or(r.patience, time.Minute) // a program that closes its stdin is found out by the first ping, after fifteen seconds
	for end := time.Now().Add(patience); !ok(); {
		if time.Now().After(end) {
			r.t.Fatalf("%s: not seen; status %+v\n%s", what, r.set.Status(), r.logs)
		}
		<-time.After(patience / 10_000)
	}
}
