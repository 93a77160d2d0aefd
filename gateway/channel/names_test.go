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

// TestOwnFiles: no two accounts share a file, whatever their ids.
func TestOwnFiles(t *testing.T) {
	r := newRig(t)
	at := map[string]string{}
	for _, ids := range [][3]string{{"a", "b-c", "process"}, {"a-b", "c", "process"}, {"telegram", "x-4242", "process"}, {"telegram", "x", "telegram"}} {
		c := bot("http://127.0.0.1:1")
		c.Channel, c.Account, c.Kind, c.Command = ids[0], ids[1], ids[2], []string{"/nonexistent"}
		run := r.set.open(c)
		if run.err != nil {
			t.Fatal(run.err)
		}
		defer run.journal.file.Close()
		names := []string{journalName(&c)}
		if p, ok := run.channel.(*process); ok {
			names = append(names, p.home())
		}
		for _, name := range names {
			if other, taken := at[name]; taken {
				t.Errorf("%s is that of %s and of %s", name, other, run.name())
			}
			at[name] = run.name()
		}
	}
}

// TestOwnPieces: no id that somebody chooses for a message makes its reply one
// with a part of another's.
func TestOwnPieces(t *testing.T) {
	a := &Account{channel: &board{}}
	seen := map[string]bool{}
	for _, m := range []string{"c x", "c x/1", "c x/1/1"} {
		for _, p := range a.pieces(replyTo(&Inbound{ID: m}, strings.Repeat("word ", 60))) {
			if seen[p.ID] {
				t.Errorf("%q is the id of two", p.ID)
			}
			seen[p.ID] = true
		}
	}
}

// TestDirectOfPerson: what is said of a person binds them in whatever chat of two
// a program has them write.
func TestDirectOfPerson(t *testing.T) {
	c := config.ChannelAccount{Channel: "demo", Kind: "process", DMPolicy: "open", AllowFrom: []string{"*"}, Direct: map[string]config.Direct{"bob": {}}}
	if v := judge(&c, &Inbound{From: "bob", Chat: "room-5"}, func(string) bool { return false }); v != refused {
		t.Error("who is switched off is let in")
	}
}

// TestApplyAgain: an account that could not be made is made when the
// configuration is applied again, and nothing has to change there first.
func TestApplyAgain(t *testing.T) {
	r := newRig(t)
	const name = "channels/telegram-pairing.json"
	if err := r.dir.WriteFile(name, []byte("{")); err != nil {
		t.Fatal(err)
	}
	list := []config.ChannelAccount{bot("http://127.0.0.1:1")}
	r.set.Apply(list)
	if s := r.set.Status()[0]; s.State != StateFailed {
		t.Fatalf("%+v", s)
	}
	if err := r.dir.Remove(name); err != nil {
		t.Fatal(err)
	}
	r.set.Apply(list)
	if s := r.set.Status()[0]; s.State == StateFailed {
		t.Errorf("%+v", s)
	}
}

// TestLogoutOfSeveral: no account is unlinked that nobody named.
func TestLogoutOfSeveral(t *testing.T) {
	r := newRig(t)
	one, two := program(t, helloLine+"cat >/dev/null"), program(t, helloLine+"cat >/dev/null")
	one.Account, two.Account = "ada", "bob"
	r.set.Apply([]config.ChannelAccount{one, two})
	if _, err := r.set.Logout("demo", ""); !errors.Is(err, ErrSeveral) {
		t.Error(err)
	}
	if _, err := r.set.Logout("demo", "bob"); !errors.Is(err, ErrNotLinked) { // it is no program that links
		t.Error(err)
	}
	r.set.Apply([]config.ChannelAccount{one})
	if _, err := r.set.Logout("demo", ""); !errors.Is(err, ErrNotLinked) {
		t.Error(err)
	}
}

// deaf is a Channel that ends in its own time.
type deaf struct {
	board
	over chan struct{}
}

func (d *deaf) Run(_ context.Context, a *Account) error {
	a.Alive("us")
	<-d.over
	return nil
}

// TestApplyDeaf: an account that is slow to end holds up no reload, and begins
// anew only after it has.
func TestApplyDeaf(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, slow := newRig(t), &deaf{over: make(chan struct{})}
		_, dial := newPipeAPI(t)
		r.open(dial)
		conf := bot("http://api.invalid")
		run := r.set.open(conf)
		run.channel = slow
		r.set.accounts = []*running{run}
		r.set.run(run)
		synctest.Wait()
		conf.AllowFrom = []string{"8"}
		began := time.Now()
		r.set.Apply([]config.ChannelAccount{conf})
		if took := time.Since(began); took > endTime {
			t.Errorf("it took %v", took)
		}
		time.Sleep(time.Second)
		if r.set.all()[0] != run {
			t.Error("two at a time")
		}
		close(slow.over)
		synctest.Wait()
		if now := r.set.all()[0]; now == run || now.err != nil {
			t.Error("not begun anew", now.err)
		}
	})
}

// TestBrokenLine: that a line of the journal could not be read is told until an
// operator knows it, and not at each start.
func TestBrokenLine(t *testing.T) {
	r := newRig(t)
	conf := program(t, helloLine+"cat >/dev/null")
	if err := r.dir.WriteFile("channels/demo+default.journal", []byte("{\n[\n{\"unsure\":1}\n")); err != nil {
		t.Fatal(err)
	}
	r.set.Apply([]config.ChannelAccount{conf})
	for range 2 {
		if s := r.set.Status()[0]; s.Unsure != 2 || len(s.Uncertain) != 1 || !strings.Contains(s.Uncertain[0].Why, "cannot be read") {
			t.Errorf("%+v", s)
		}
		r.set.Apply(nil)
		r.set.Apply([]config.ChannelAccount{conf})
	}
	if _, n, err := r.set.ClearUncertain("demo", ""); n != 2 || err != nil {
		t.Error(n, err)
	}
	r.set.Apply(nil)
	r.set.Apply([]config.ChannelAccount{conf})
	if s := r.set.Status()[0]; s.Unsure != 0 {
		t.Errorf("%+v", s)
	}
}
