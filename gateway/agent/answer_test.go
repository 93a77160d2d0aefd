package agent

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"openclaw/gateway/store"
)

// named runs a turn whose answer can be gone on from.
func (h *house) named(turn Turn, id string) Result {
	h.t.Helper()
	turn.Answer = &store.Answer{ID: id, By: "somebody"}
	run := h.start(turn)
	<-run.Done()
	return run.Result()
}

// Answers outlive the program, and belong to whoever asked.
func TestAnswer(t *testing.T) {
	h := newHouse(t, answering(reTo))
	one := h.named(userTurn("", "one"), "a1")
	two := h.named(userTurn("kim", "two"), "a2")
	h.say("kim", "more")
	h.close()
	h = openHouse(t, h.path, answering(reTo), nil)
	for _, c := range []struct {
		session, id, by string
		want            bool
	}{
		{one.SessionID, "a1", "somebody", true}, {two.SessionID, "a2", "somebody", true},
		{one.SessionID, "a2", "somebody", false}, {one.SessionID, "a1", "else", false}, {one.SessionID, "", "", false},
		{"", "a1", "somebody", false}, {"../main", "a1", "somebody", false},
	} {
		if a, ok := h.Answer(c.session, c.id, c.by); ok != c.want || ok && (len(a.Until) != 2 || a.Record != a.Until[1].ID) {
			t.Errorf("%+v: %v %+v", c, ok, a)
		}
	}
	a, _ := h.Answer(one.SessionID, "a1", "somebody")
	turn := userTurn(a.Key, "and then")
	turn.After = a.Record
	if res := h.named(turn, "a3"); res.SessionID != one.SessionID || res.Text != "re: and then" {
		t.Errorf("%+v", res)
	}
	_, err := h.Start(t.Context(), turn)
	wantErr(t, err, ErrMovedOn, "moved on")
	if history, _ := h.History(a.Key, 99, 0); history.Total != 4 {
		t.Errorf("%d messages: what was refused left some", history.Total)
	}
	turn.SessionKey = "agent:main:nothing-here"
	if _, err = h.Start(t.Context(), turn); !errors.Is(err, ErrMovedOn) {
		t.Error(err)
	}
	if _, _, err := h.Entry("agent:main:nothing-here"); !errors.Is(err, ErrUnknownSession) {
		t.Errorf("a session was made: %v", err)
	}
	fork := a.Fork()
	if len(fork) != 2 || fork[1].Usage != nil || fork[1].Answer != nil || a.Until[1].Message.Usage == nil {
		t.Errorf("%+v", fork)
	}
}

// A turn that failed has nothing to go on from.
func TestNoAnswer(t *testing.T) {
	h := newHouse(t, fakeModel(func(context.Context, *modelRequest, func(delta)) (*modelResult, error) {
		return nil, &modelError{Msg: "no"}
	}))
	res := h.named(userTurn("", "one"), "a1")
	if _, ok := h.Answer(res.SessionID, "a1", "somebody"); ok || res.Err == nil {
		t.Errorf("%+v", res)
	}
}

// Sessions that only an answer's name leads to are forgotten when they are old
// or too many, with their transcripts; all others stay.
func TestAnswersAreForgotten(t *testing.T) {
	h := newHouse(t, answering(reTo))
	old := time.Now().Add(-answersFor - time.Hour).UnixMilli()
	index, err := h.dir.Sessions("main")
	if err != nil {
		t.Fatal(err)
	}
	age := func(key string, at int64) {
		if _, err := index.Update(key, func(e *store.Entry) { e.UpdatedAt = at }); err != nil {
			t.Fatal(err)
		}
	}
	first := h.named(userTurn("", "one"), "a1")
	kim := h.say("kim", "two")
	a, ok := h.Answer(first.SessionID, "a1", "somebody")
	if !ok || !strings.HasPrefix(a.Key, "agent:main:openresponses:") {
		t.Fatalf("%+v", a)
	}
	file := func(id string) error {
		_, err := os.Stat(filepath.Join(h.path, "agents", "main", "sessions", id+".jsonl"))
		return err
	}
	age(a.Key, old)
	age("agent:main:kim", old)
	for i := range answersKept + 20 {
		if err := index.Put(fmt.Sprintf("agent:main:openresponses:%d", i), store.Entry{SessionID: store.NewID(), UpdatedAt: time.Now().Add(-time.Minute).UnixMilli()}); err != nil {
			t.Fatal(err)
		}
	}
	if file(first.SessionID) != nil {
		t.Fatal("no transcript to forget")
	}
	for i := range sweepAfter + 1 { // not at each turn
		h.named(userTurn("", "again"), fmt.Sprint("b", i))
	}
	if _, ok := h.Answer(first.SessionID, "a1", "somebody"); ok || !os.IsNotExist(file(first.SessionID)) {
		t.Errorf("an old answer is kept: %v, %v", ok, file(first.SessionID))
	}
	if _, _, err := h.Entry("kim"); err != nil || file(kim.SessionID) != nil {
		t.Errorf("a session with a name is gone: %v", err)
	}
	kept := 0
	for _, e := range index.List() {
		if strings.Contains(e.Key, answerKeys) {
			kept++
		}
	}
	if kept < answersKept || kept > answersKept+1 {
		t.Errorf("%d are kept", kept)
	}
}
