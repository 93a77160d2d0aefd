package agent

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"

	"openclaw/gateway/store"
	"openclaw/reload/config"
)

func TestCommands(t *testing.T) {
	h := openHouse(t, stateDir(t), answering(reTo), func(c *config.Config) {
		c.Models.Providers = map[string]config.Provider{"p": {API: config.APIOpenAICompletions, BaseURL: "http://127.0.0.1:1", Models: []config.ProviderModel{{ID: "m", ContextWindow: 1000}}}}
	})
	h.say("main", "hello")
	for _, c := range []struct{ say, want string }{
		{"/help", "/status – Agent, model, session and tokens.\n/help – This list.\n/model [PROVIDER/MODEL | default] – Show the models, or choose this session's.\n/new – Start a new session; what runs is stopped.\n/stop – Stop what runs and what waits in this session."},
		{"/status", "Agent: main\nModel: builtin/echo\nSession: agent:main:main (ID)\nTokens: 11 in, 7 out in the last turn; 11 of 128000 of the context (0 %)\nTurns: 0 under way"},
		{" /STATUS\n", "Agent: main\nModel: builtin/echo\nSession: agent:main:main (ID)\nTokens: 11 in, 7 out in the last turn; 11 of 128000 of the context (0 %)\nTurns: 0 under way"},
		{"/model", "Models (* is this session's):\n  p/m\n* builtin/echo"},
		{"/model p/m", "Model: p/m"},
		{"/model", "Models (* is this session's):\n* p/m\n  builtin/echo"},
		{"/model nobody/m", "⚠️ unknown model: \"nobody/m\": no provider \"nobody\" under models.providers"},
		{"/model default", "Model: builtin/echo"},
		{"/stop", "Nothing is running."},
		{"/abort", "Nothing is running."},
		{"/stop it", "⚠️ /stop takes no argument; nothing was done"},
		{"/new", "New session started."},
		{"/reset", "New session started."},
	} {
		_, e, _ := h.Entry("main")
		run := h.start(userTurn("main", c.say))
		<-run.Done()
		res := run.Result()
		equal(t, c.say, strings.ReplaceAll(res.Text, e.SessionID, "ID"), c.want)
		if !run.Command || res.Status != StatusOK || res.Provider != "openclaw" || res.Model != "gateway-injected" || res.Message == nil {
			t.Errorf("%s: %+v", c.say, res)
		}
		if told := h.told(run); !strings.HasPrefix(told, "start\n") || !strings.HasSuffix(told, "end ok stop") {
			t.Error(told)
		}
		_, after, _ := h.Entry("main")
		reset := c.say == "/new" || c.say == "/reset"
		if (after.SessionID != e.SessionID) != reset || reset && h.said("main") != "" || !reset && h.said("main") != "u: hello\na: re: hello" {
			t.Errorf("%s: %q of %s, before %s", c.say, h.said("main"), after.SessionID, e.SessionID)
		}
	}
	// These are for the model.
	for _, text := range []string{"/etc/passwd", "/", "//help", "stop", "wait", "help", "please /help", "/newer"} {
		if res := h.say("main", text); res.Text != "re: "+text {
			t.Errorf("%q: %q", text, res.Text)
		}
	}
	withImage := userTurn("main", "/help")
	withImage.Messages[0].Content = append(withImage.Messages[0].Content, store.Part{Type: store.PartImage})
	run := h.start(withImage)
	<-run.Done()
	equal(t, "with an image", run.Result().Text, "re: /help")
	if n := len(commandTable()); n != 5 {
		t.Error(n)
	}
}

func TestStopWhileRunning(t *testing.T) {
	for _, text := range []string{"/stop", "stop", " Abort "} {
		t.Run(text, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHouse(t, newGate())
				runs := []*Run{h.start(userTurn("main", "1")), h.start(userTurn("main", "2"))}
				other := h.start(userTurn("other", "1"))
				synctest.Wait()
				equal(t, "answer", h.say("main", text).Text, "Stopped 2 turns.")
				for _, r := range runs {
					<-r.Done()
					equal(t, "status", r.Result().Status+" "+r.Result().Err.Error(), "aborted aborted: stop")
				}
				ids, ok := h.Stop("other", text)
				equal(t, "Stop", fmt.Sprint(len(ids), ok), "1 true")
				<-other.Done()
				ids, ok = h.Stop("other", "go on")
				equal(t, "Stop", fmt.Sprint(len(ids), ok), "0 false")
			})
		})
	}
}

// /new stops what runs and waits before it; what comes after it is in the new session.
func TestNewWhileRunning(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate()
		h := newHouse(t, g)
		first := h.start(userTurn("main", "1"))
		second := h.start(userTurn("main", "2"))
		<-g.entered
		_, old, _ := h.Entry("main")
		third := make(chan *Run, 1)
		turn := userTurn("main", "/new")
		run := h.start(turn)
		go func() { third <- h.start(userTurn("main", "3")) }()
		<-run.Done()
		equal(t, "answer", run.Result().Text, "New session started.")
		<-first.Done()
		<-second.Done()
		next := <-third
		synctest.Wait()
		close(g.open)
		<-next.Done()
		fourth := h.say("main", "4")
		if fourth.SessionID == old.SessionID {
			t.Error("the old session")
		}
		said := h.said("main")
		if !strings.HasSuffix(said, "u: 4\na: half done") || strings.Contains(said, "u: 1") || strings.Contains(said, "u: 2") {
			t.Error(said)
		}
		old1 := h.path + "/agents/main/sessions/" + old.SessionID + ".jsonl"
		if got := kinds(transcriptLines(t, old1)); !strings.HasPrefix(got, "session user queued-turn") {
			t.Error(got)
		}
	})
}
