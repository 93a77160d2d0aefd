package gateway

import (
	"bufio"
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"openclaw/reload/config"
	"openclaw/wire"
)

// A dialogue in testdata/rpc is run against a whole gateway, one line at a time:
//
//	config TEXT      the configuration, JSON5; before everything else
//	> MESSAGE        the client sends a message
//	< PATTERN        the next message it gets; * stands for anything
//	close CODE TEXT  the next thing it gets is a Close
//	wait DURATION    time passes
//	signal NAME      the gateway gets a signal
//	exit ok          it has ended
//	restarted        another one has taken over, which later clients talk to
//	file TEXT        the configuration file is this from now on
//	asked PATTERN    the model provider (model_test.go) has got the next request
//	release          the model goes on with what it holds back
//	bye NAME         a client closes its connection
//	left             the client of the model's last request has left
//
// A configuration «model» is one with that provider. $HASH in what is sent is
// the hash of the configuration file.
//
// A word before > and < names a client other than the first. Everything that
// a line sets off has happened before the next line is looked at.
func TestDialogues(t *testing.T) {
	files, err := filepath.Glob("../testdata/rpc/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal("no dialogues", err)
	}
	for _, f := range files {
		t.Run(strings.TrimSuffix(filepath.Base(f), ".txt"), func(t *testing.T) {
			raw, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			synctest.Test(t, func(t *testing.T) { runDialogue(t, string(raw)) })
		})
	}
}

// talker is one client of a dialogue.
type talker struct {
	conn *wire.Conn
	msgs chan string // messages, and how it ended
}

func (d *dialogue) talker(name string) *talker {
	if c := d.clients[name]; c != nil {
		return c
	}
	c := &talker{conn: d.r.dial(), msgs: make(chan string, 1000)}
	d.clients[name] = c
	go func() {
		for {
			msg, err := c.conn.ReadMessage()
			var ce *wire.CloseError
			if errors.As(err, &ce) {
				c.msgs <- strings.TrimSpace("close " + strconv.Itoa(ce.Code) + " " + ce.Reason)
				return
			}
			c.msgs <- string(msg)
		}
	}()
	return c
}

// take returns the next thing the client got.
func (c *talker) take() string { return next(c.msgs) }

func next(msgs <-chan string) string {
	select {
	case m := <-msgs:
		return m
	default:
		return "nothing"
	}
}

type dialogue struct {
	r       *running
	model   *fakeModel
	clients map[string]*talker
}

func runDialogue(t *testing.T, text string) {
	configuration := ""
	var d *dialogue
	begin := func() {
		if d != nil {
			return
		}
		var l *pipeListener // of the newest gateway
		m := newFakeModel(t)
		o := withModel(testOptions(t, configuration), m)
		o.listen = func(int) ([]net.Listener, error) {
			l = newPipeListener()
			return []net.Listener{l}, nil
		}
		r := start(t, o)
		r.dialer = func(ctx context.Context, network, addr string) (net.Conn, error) { return l.dial(ctx, network, addr) }
		d = &dialogue{r: r, model: m, clients: map[string]*talker{}}
	}
	sc := bufio.NewScanner(strings.NewReader(text))
	for n := 1; sc.Scan(); n++ {
		line := sc.Text()
		if strings.TrimSpace(line) == "" || line[0] == '#' {
			continue
		}
		word, rest, _ := strings.Cut(line, " ")
		synctest.Wait()
		switch {
		case word == "config":
			if configuration = rest; rest == "model" {
				configuration = modelConfig
			}
		case word == "asked":
			if got := next(d.model.asked); !matches(rest, got) {
				t.Fatalf("line %d:\nwant %s\ngot  %s", n, rest, got)
			}
		case word == "bye":
			d.talker(rest).conn.Close(wire.CloseNormal, "")
			delete(d.clients, rest)
		case word == "release":
			close(d.model.hold)
		case word == "left":
			select {
			case <-d.model.left:
			default:
				t.Fatalf("line %d: it has not", n)
			}
		case word == "wait":
			begin()
			pause, err := time.ParseDuration(rest)
			if err != nil {
				t.Fatalf("line %d: %v", n, err)
			}
			time.Sleep(pause) // of the bubble's clock
		case line == "signal SIGHUP":
			d.r.asks <- Request{Source: rest}
		case line == "signal SIGUSR1":
			d.r.asks <- Request{Source: rest, Restart: true}
		case word == "signal":
			d.r.stop(Signal{rest})
		case line == "exit ok":
			if err := d.r.wait(); err != nil {
				t.Fatalf("line %d: Run returned %v", n, err)
			}
		case word == "restarted":
			select {
			case d.r.Gateway = <-d.r.next:
			default:
				t.Fatalf("line %d: it has not", n)
			}
			d.clients = map[string]*talker{}
		case word == "file":
			begin()
			write(&d.r.opts, rest)
			d.r.reloader.watcher.(handWatcher).look()
		case word == "close":
			if got := d.talker("").take(); !matches(line, got) {
				t.Fatalf("line %d:\nwant %s\ngot  %s", n, line, got)
			}
		case strings.HasSuffix(word, ">"):
			begin()
			c := d.talker(strings.TrimSuffix(word, ">"))
			if strings.Contains(rest, "$HASH") {
				raw, err := os.ReadFile(d.r.opts.Paths.ConfigPath)
				if err != nil {
					t.Fatalf("line %d: %v", n, err)
				}
				rest = strings.ReplaceAll(rest, "$HASH", config.Hash(raw))
			}
			if err := c.conn.Send([]byte(rest)); err != nil {
				t.Fatalf("line %d: %v", n, err)
			}
		case strings.HasSuffix(word, "<"):
			begin()
			c := d.talker(strings.TrimSuffix(word, "<"))
			synctest.Wait()
			if got := c.take(); !matches(rest, got) {
				t.Fatalf("line %d:\nwant %s\ngot  %s", n, rest, got)
			}
		default:
			t.Fatalf("line %d: unknown word %q", n, word)
		}
	}
	synctest.Wait()
	for name, c := range d.clients {
		if m := c.take(); m != "nothing" && !strings.HasPrefix(m, "close") {
			t.Errorf("client %q got more: %s", name, m)
		}
		c.conn.Close(1000, "")
	}
}

// matches compares with a pattern in which * stands for anything.
func matches(pattern, s string) bool {
	parts := strings.Split(pattern, "*")
	if len(parts) == 1 {
		return pattern == s
	}
	if !strings.HasPrefix(s, parts[0]) {
		return false
	}
	s = s[len(parts[0]):]
	for _, p := range parts[1 : len(parts)-1] {
		i := strings.Index(s, p)
		if i < 0 {
			return false
		}
		s = s[i+len(p):]
	}
	return strings.HasSuffix(s, parts[len(parts)-1])
}
