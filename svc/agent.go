package svc

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"time"

	"openclaw/reload/config"
	"openclaw/wire"
)

// agentRun runs one turn and prints the reply.
func agentRun(ctx context.Context, e *Env, a *Args) error {
	text, err := message(e, a)
	if err != nil {
		return err
	}
	in := &wire.AgentRun{Message: text, AgentID: a.Get("agent"), SessionKey: a.Get("session-key"), SessionID: a.Get("session-id"),
		Thinking: a.Get("thinking"), Model: a.Get("model"), Deliver: a.Has("deliver"),
		ReplyChannel: a.Get("reply-channel"), ReplyTo: a.Get("reply-to"), ReplyAccountID: a.Get("reply-account")}
	if !in.Deliver && in.ReplyChannel+in.ReplyTo+in.ReplyAccountID != "" {
		return usage("agent run: --reply-channel, --reply-to and --reply-account go with --deliver")
	}
	return turn(ctx, e, a, in, nil)
}

// messageSend delivers a text: to an agent, whose reply it prints.
func messageSend(ctx context.Context, e *Env, a *Args) error {
	to := a.Get("to")
	if to == "" {
		return usage("message send: --to is missing: the agent, or with --channel the chat, that gets the message")
	}
	text, err := message(e, a)
	if err != nil && (!errors.Is(err, errNoText) || a.Get("media") == "") {
		return err
	}
	if a.Get("channel") != "" {
		return channelSend(ctx, e, a, to, text)
	}
	if a.Get("account") != "" || a.Get("media") != "" {
		return usage("message send: --account and --media go with --channel")
	}
	return turn(ctx, e, a, &wire.AgentRun{Message: text, AgentID: to}, func(l *link) (done bool, err error) {
		if _, err := findAgent(ctx, l, to, "%q is neither an agent nor the target of a channel"); err != nil {
			return false, err
		}
		if a.Has("dry-run") {
			if e.JSON {
				return true, e.printJSON(map[string]any{"ok": true, "dryRun": true, "kind": "agent", "agentId": to})
			}
			return true, e.printf("would send %d bytes to agent %s\n", len(text), escape(to))
		}
		e.Warn("to agent %s", to)
		return false, nil
	})
}

var errNoText = usage("the message is missing: -m TEXT or --message-file FILE")

// message is the text that -m, --message-file or stdin gives.
func message(e *Env, a *Args) (string, error) {
	text := a.Get("message")
	if name := a.Get("message-file"); name != "" {
		if text != "" {
			return "", usage("--message and --message-file contradict each other")
		}
		raw, err := e.readInput(name)
		if err != nil {
			return "", usage("--message-file: %v", err)
		}
		text = string(raw)
	}
	if strings.TrimSpace(text) == "" {
		return "", errNoText
	}
	return text, nil
}

// turn runs one turn of an agent. On a terminal the reply is printed as it
// arrives, elsewhere once and whole. Leaving early ends the connection, and
// the gateway then cancels the turn. check, if any, may end it before it begins.
func turn(ctx context.Context, e *Env, a *Args, in *wire.AgentRun, check func(*link) (done bool, err error)) error {
	limit, err := a.timeout()
	if err != nil {
		return err
	}
	in.Timeout = int64((limit + time.Second - 1) / time.Second) // 0 would mean the agent's own
	in.IdempotencyKey = rand.Text()
	out := &reply{e: e, run: in.IdempotencyKey, live: e.OutTTY && !e.JSON}
	l, err := dial(ctx, e, a, out.event)
	if err != nil {
		return err
	}
	defer l.Close()
	if check != nil {
		if done, err := check(l); done || err != nil {
			return err
		}
	}
	// The gateway tells of a timeout itself; this is for one that does not.
	if l.timeout = 0; limit > 0 {
		l.timeout = limit + 10*time.Second
	}
	var final wire.AgentFinal
	raw, err := l.askFinal(ctx, "agent", 25*time.Hour, in, &final)
	switch {
	case err != nil:
		l.Close() // events may still come
		out.end()
		return err
	case e.JSON:
		return e.printJSON(raw)
	}
	l.Close()
	return out.final(&final)
}

// reply prints what an agent says.
type reply struct {
	e    *Env
	run  string
	live bool // print as it arrives
	text string
}

// event prints what an agent event adds. It is called by the connection's
// reader, until that is closed.
func (r *reply) event(in wire.Inbound) {
	if !r.live || in.Event != "agent" {
		return
	}
	var ev struct {
		RunID  string   `json:"runId"`
		Stream string   `json:"stream"`
		Data   wire.Raw `json:"data"`
	}
	var data wire.AssistantData
	if wire.DecodeLoose(in.Payload, &ev) == nil && ev.RunID == r.run && ev.Stream == wire.StreamAssistant && wire.DecodeLoose(ev.Data, &data) == nil {
		r.upTo(data.Text)
	}
}

// upTo prints what the text so far has more than what is printed.
func (r *reply) upTo(text string) {
	more, ok := strings.CutPrefix(text, r.text)
	if !ok { // a fallback model began again
		more = "\n" + text
	}
	r.text = text
	r.e.printf("%s", escape(more))
}

// end finishes the line that the reply is in.
func (r *reply) end() {
	if r.text != "" && !strings.HasSuffix(r.text, "\n") {
		r.e.printf("\n")
	}
}

func (r *reply) final(f *wire.AgentFinal) error {
	var parts []string
	if f.Result != nil {
		for _, p := range f.Result.Payloads {
			if p.Text != "" {
				parts = append(parts, p.Text)
			}
			if p.MediaURL != nil {
				parts = append(parts, "MEDIA: "+*p.MediaURL)
			}
		}
	}
	text := strings.Join(parts, "\n")
	if text == "" && f.Status != wire.StatusOK {
		text = f.Summary
	}
	switch {
	case r.live:
		r.upTo(text)
		r.end()
	case r.e.OutTTY:
		r.e.printf("%s\n", escape(strings.TrimSuffix(text, "\n")))
	default: // a file or a program gets the bytes
		r.e.printf("%s\n", strings.TrimSuffix(text, "\n"))
	}
	if f.Status != wire.StatusOK {
		return &Error{Msg: "agent: the turn ended as " + f.Status}
	}
	return nil
}

// findAgent returns an agent of the gateway, or the error that unknown words.
func findAgent(ctx context.Context, l *link, id, unknown string) (*wire.AgentInfo, error) {
	var known wire.AgentsList
	if _, err := l.ask(ctx, "agents.list", nil, &known); err != nil {
		return nil, err
	}
	var ids []string
	for i := range known.Agents {
		if known.Agents[i].ID == id {
			return &known.Agents[i], nil
		}
		ids = append(ids, known.Agents[i].ID)
	}
	return nil, &Error{Code: "INVALID_REQUEST", Msg: fmt.Sprintf(unknown, id) + didYouMean(config.Nearest(id, ids)), Hint: "agents here: " + strings.Join(ids, ", ")}
}

func agentList(ctx context.Context, e *Env, a *Args) error {
	return query(ctx, e, a, "agents.list", nil, func(_ *link, list *wire.AgentsList) error {
		var rows [][]string
		for _, g := range list.Agents {
			mark := ""
			if g.ID == list.DefaultID {
				mark = "default"
			}
			rows = append(rows, []string{g.ID, mark, g.Name, modelOf(&g), g.Workspace})
		}
		return e.table([]string{"ID", "", "NAME", "MODEL", "WORKSPACE"}, rows)
	})
}

func modelOf(g *wire.AgentInfo) string {
	if g.Model == nil {
		return ""
	}
	return strings.Join(append([]string{g.Model.Primary}, g.Model.Fallbacks...), ", ")
}

// agentStatus shows one agent and what it has been doing.
func agentStatus(ctx context.Context, e *Env, a *Args) error {
	l, err := dial(ctx, e, a, nil)
	if err != nil {
		return err
	}
	defer l.Close()
	g, err := findAgent(ctx, l, a.Word(0), "there is no agent %q")
	if err != nil {
		return err
	}
	var page wire.SessionsPage
	raw, err := l.ask(ctx, "sessions.list", &wire.SessionsList{AgentID: g.ID, Limit: 5}, &page)
	switch {
	case err != nil:
		return err
	case e.JSON:
		return e.printJSON(map[string]any{"agent": g, "sessions": raw})
	}
	e.field("agent", g.ID)
	e.field("name", g.Name)
	e.field("model", modelOf(g))
	e.field("workspace", g.Workspace)
	e.field("sessions", fmt.Sprint(page.TotalCount))
	for _, s := range page.Sessions {
		e.field("", s.Key+", "+e.ago(s.UpdatedAt))
	}
	return nil
}

func modelsList(ctx context.Context, e *Env, a *Args) error {
	return query(ctx, e, a, "models.list", nil, func(_ *link, list *wire.ModelsList) error {
		var rows [][]string
		for _, m := range list.Models {
			rows = append(rows, []string{m.Provider + "/" + m.ID, m.Name, fmt.Sprint(m.ContextWindow), strings.Join(m.Input, ", ")})
		}
		return e.table([]string{"MODEL", "NAME", "CONTEXT", "INPUT"}, rows)
	})
}
