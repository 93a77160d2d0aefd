package channel

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"openclaw/reload/config"
)

// askers has people ask for leave, and returns what they are told.
func askers(t *testing.T, p *pairing, ids ...string) (codes []string) {
	t.Helper()
	for _, id := range ids {
		code, _, err := p.ask("default", &Inbound{From: id, Chat: id})
		if err != nil {
			t.Fatal(err)
		}
		codes = append(codes, code)
	}
	return codes
}

// TestPairingFull: strangers keep nobody out for longer than pendingStay.
func TestPairingFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, err := openPairing(newRig(t).dir, "telegram")
		if err != nil {
			t.Fatal(err)
		}
		first := askers(t, p, "1", "2", "3", "9")
		if first[3] != "" {
			t.Error("a fourth code")
		}
		time.Sleep(pendingStay)
		if late := askers(t, p, "9", "1"); late[0] == "" || late[1] == first[0] {
			t.Errorf("%q after %q", late, first)
		}
		if _, err := p.approve(first[0], true); !errors.Is(err, ErrCode) {
			t.Errorf("the code of one who gave way: %v", err)
		}
		if waiting, _, _ := p.list(); len(waiting) != maxPending {
			t.Errorf("%+v", waiting)
		}
	})
}

// TestPairingFourth: that one stranger too many asked is in the log, once.
func TestPairingFourth(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig, api *fakeAPI) {
		conf := bot(pipeRoot)
		conf.DMPolicy = "pairing"
		r.set.Apply([]config.ChannelAccount{conf})
		for i := range int64(6) {
			api.say(10+i, 100+i, "let me in")
		}
		r.settled(16)
		if n := r.count("as many wait for approval as may"); n != 1 || len(api.sent()) != maxPending {
			t.Errorf("told %d times, %d codes\n%s", n, len(api.sent()), r.logs)
		}
	})
}

// TestPairingTakenBack: who is rejected is told no other code for an hour, whose
// approval is revoked is a stranger again, and both last.
func TestPairingTakenBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		p, _ := openPairing(r.dir, "telegram")
		codes := askers(t, p, "1", "2")
		if _, err := p.approve(codes[0], false); err != nil {
			t.Fatal(err)
		}
		if _, err := p.approve(codes[1], true); err != nil {
			t.Fatal(err)
		}
		p, _ = openPairing(r.dir, "telegram")
		if _, err := p.approve(codes[0], true); !errors.Is(err, ErrCode) || p.allowed("default", "1") {
			t.Error("a rejected code", err)
		}
		if again := askers(t, p, "1", "3", "4", "5"); again[0] != "" || again[3] == "" {
			t.Errorf("told %q", again)
		}
		if _, err := p.revoke("other", "2"); !errors.Is(err, ErrNobody) {
			t.Error(err)
		}
		if of, err := p.revoke("", "2"); err != nil || len(of) != 1 || p.allowed("default", "2") {
			t.Error(of, err)
		}
		if p, _ = openPairing(r.dir, "telegram"); p.allowed("default", "2") {
			t.Error("approved again after a restart")
		}
		time.Sleep(codeLife)
		if again := askers(t, p, "1"); again[0] == "" {
			t.Error("rejected for ever")
		}
	})
}

// TestPairingByHand: what an operator took out of the file is not put back, and
// a file that cannot be read is not written over.
func TestPairingByHand(t *testing.T) {
	r := newRig(t)
	p, _ := openPairing(r.dir, "telegram")
	for _, code := range askers(t, p, "1", "2") {
		if _, err := p.approve(code, true); err != nil {
			t.Fatal(err)
		}
	}
	raw, _ := r.dir.ReadFile(p.name, pairingLimit)
	if err := r.dir.WriteFile(p.name, []byte(strings.Replace(string(raw), `"1"`, `"11"`, 1))); err != nil {
		t.Fatal(err)
	}
	askers(t, p, "3")
	if p.allowed("default", "1") || !p.allowed("default", "11") || !p.allowed("default", "2") {
		t.Errorf("%+v", p.state)
	}
	if err := r.dir.WriteFile(p.name, []byte(`{"allowed":`)); err != nil {
		t.Fatal(err)
	}
	if _, _, err := p.ask("default", &Inbound{From: "4"}); err == nil {
		t.Error("written over")
	}
	if raw, _ = r.dir.ReadFile(p.name, pairingLimit); string(raw) != `{"allowed":` || !p.allowed("default", "2") {
		t.Errorf("%s, %+v", raw, p.state)
	}
}

// TestReach: an agent writes of its own accord to people by their ids and to
// groups under groups, and to nothing else that stands in a list.
func TestReach(t *testing.T) {
	r := newRig(t)
	tg := bot("http://127.0.0.1:1")
	tg.AllowFrom = []string{"7", "007", "+7", "@owner", "-1001234", "-5", "*"}
	tg.Groups = map[string]config.Group{"-5": {Enabled: true}, "-6": {Enabled: false}}
	wa := config.ChannelAccount{Channel: "whatsapp", Account: "default", Kind: "whatsapp", DMPolicy: "allowlist", GroupPolicy: "allowlist",
		AllowFrom: []string{"491511234567@s.whatsapp.net", "900@lid", "1@g.us", "2@newsletter", "Ada"}, Groups: map[string]config.Group{"3@g.us": {Enabled: true}}, MediaMaxMb: 1}
	shut := tg
	shut.Account, shut.BotToken, shut.GroupPolicy = "shut", config.NewSecret("4243:x"), "disabled"
	r.set.Apply([]config.ChannelAccount{tg, shut, wa})
	for _, c := range []struct {
		channel, account, to string
		ok                   bool
	}{
		{"telegram", "default", "7", true},
		{"telegram", "default", "007", false},
		{"telegram", "default", "+7", false},
		{"telegram", "default", "@owner", false},
		{"telegram", "default", "-1001234", false},
		{"telegram", "default", "-5", true},
		{"telegram", "default", "-6", false},
		{"telegram", "default", "*", false},
		{"telegram", "default", "8", false},
		{"telegram", "shut", "7", true},
		{"telegram", "shut", "-5", false},
		{"telegram", "shut", "-1001234", false},
		{"whatsapp", "", "+49 151 1234567", true},
		{"whatsapp", "", "900@lid", true},
		{"whatsapp", "", "1@g.us", false},
		{"whatsapp", "", "2@newsletter", false},
		{"whatsapp", "", "3@g.us", true},
		{"whatsapp", "", "Ada", false},
	} {
		err := r.set.Reach(c.channel, c.account, c.to, func(string, bool) bool { return true })
		if (err == nil) != c.ok || err != nil && !errors.Is(err, ErrTarget) {
			t.Errorf("%s:%s %q: %v", c.channel, c.account, c.to, err)
		}
	}
}

// TestRevokedAtOnce: what somebody wrote before their approval was taken back is
// neither handed on after that nor answered.
func TestRevokedAtOnce(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig, api *fakeAPI) {
		handle, turn := r.set.o.Handle, make(chan struct{})
		r.set.o.Handle = func(ctx context.Context, a *Account, m Inbound) (func(context.Context) (string, error), error) {
			if m.Text == "waits" {
				return nil, &Fault{Err: errors.New("busy"), Wait: time.Second}
			}
			reply, err := handle(ctx, a, m)
			return func(ctx context.Context) (string, error) { <-turn; return reply(ctx) }, err
		}
		conf := bot(pipeRoot)
		conf.DMPolicy, conf.AllowFrom = "pairing", nil
		p, _ := r.set.pairing("telegram")
		if _, err := p.approve(askers(t, p, "9")[0], true); err != nil {
			t.Fatal(err)
		}
		r.set.Apply([]config.ChannelAccount{conf})
		api.say(10, 9, "is being answered")
		api.say(11, 9, "waits")
		r.until("both", func() bool { return r.account().Status().Waiting == 2 })
		time.Sleep(time.Minute)
		if _, err := r.set.Revoke("telegram", "", "9"); err != nil {
			t.Fatal(err)
		}
		close(turn)
		r.settled(12)
		if got := api.sent(); len(got) != 0 || r.count("no longer let in") != 2 {
			t.Errorf("sent %q\n%s", got, r.logs)
		}
	})
}

// TestPairingClock: a clock that is set back does not lengthen a code's life by as much.
func TestPairingClock(t *testing.T) {
	r := newRig(t)
	p, _ := openPairing(r.dir, "telegram")
	at := time.Now().Add(3 * codeLife).UnixMilli()
	p.state.Pending = []Request{{Code: "AAAAAAAA", Account: "default", ID: "1", At: at}}
	if _, err := p.approve("AAAAAAAA", true); !errors.Is(err, ErrCode) {
		t.Error("a code of days to come is good:", err)
	}
}
