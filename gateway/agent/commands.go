package agent

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"openclaw/gateway/store"
)

// A command is a message that the gateway answers itself. Commands act at
// once, also while a turn runs, and are not part of the conversation: neither
// they nor their answers are stored. They need a session; in a stateless turn
// the same text goes to the model.
type command struct {
	name, args, doc string
	alias           string // another name, not listed
	run             func(a *Agents, ctx context.Context, to address, args string) (string, error)
}

// commandTable is a function, and not a variable, since help reads it.
func commandTable() []command {
	return []command{
		{name: "status", doc: "Agent, model, session and tokens.", run: (*Agents).commandStatus},
		{name: "help", doc: "This list.", run: (*Agents).commandHelp},
		{name: "model", args: "[PROVIDER/MODEL | default]", doc: "Show the models, or choose this session's.", run: (*Agents).commandModel},
		{name: "new", alias: "reset", doc: "Start a new session; what runs is stopped.", run: (*Agents).commandNew},
		{name: "stop", alias: "abort", doc: "Stop what runs and what waits in this session.", run: (*Agents).commandStop},
	}
}

func findCommand(name string) *command {
	for _, c := range commandTable() {
		if name != "" && (c.name == name || c.alias == name) {
			return &c
		}
	}
	return nil
}

// commandOf returns the command that a turn's only message is, if it is one.
// Text that begins with a slash and names no command is an ordinary message,
// and so is a word such as «stop» while nothing runs.
func (a *Agents) commandOf(key string, messages []store.Message) (*command, string) {
	if len(messages) != 1 || messages[0].Role != store.RoleUser {
		return nil, ""
	}
	for _, p := range messages[0].Content {
		if p.Type != store.PartText {
			return nil, ""
		}
	}
	text := strings.TrimSpace(messages[0].Content.String())
	if word, ok := strings.CutPrefix(text, "/"); ok {
		name, args, _ := strings.Cut(word, " ")
		return findCommand(strings.ToLower(name)), strings.TrimSpace(args)
	}
	switch strings.ToLower(text[:min(len(text), 16)]) {
	case "stop", "abort", "esc", "exit", "interrupt", "wait":
		if len(a.running(key)) > 0 {
			return findCommand("stop"), ""
		}
	}
	return nil, ""
}

// Stop ends the session's runs if text asks for that, as /stop or, while
// something runs, as a plain word such as «stop»; ok tells whether it did ask.
func (a *Agents) Stop(sessionKey, text string) (runIDs []string, ok bool) {
	to, err := resolve(a.config(), sessionKey, "")
	if err != nil {
		return nil, false
	}
	c, args := a.commandOf(to.key, []store.Message{{Role: store.RoleUser, Content: store.Text(text)}})
	if c == nil || c.name != "stop" || args != "" {
		return nil, false
	}
	return a.Abort(to.key, "", "stop"), true
}

// runCommand answers a turn that is a command.
func (a *Agents) runCommand(t *turn) {
	<-t.run.accepted
	t.run.startedAt = time.Now()
	text, err := a.callCommand(t)
	res, out := t.ended(err), injected(text)
	res.Text, res.Provider, res.Model = text, out.Provider, out.Model
	res.Message = res.message(out)
	a.finish(t, res)
}

// callCommand runs a command and tells its answer, which is also what was
// wrong with what was asked. Other errors end the run as those of any turn do.
func (a *Agents) callCommand(t *turn) (text string, err error) {
	defer func() {
		if v := recover(); v != nil {
			err = a.panicked(v, "session", t.run.SessionKey, "run", t.run.ID)
		}
	}()
	a.emit(t, Event{Kind: KindStart})
	if t.args != "" && t.command.args == "" {
		err = refuse(ErrInvalidTurn, "/%s takes no argument; nothing was done", t.command.name)
	} else {
		text, err = t.command.run(a, t.run.ctx, t.to, t.args)
	}
	var asked *refusal
	if errors.As(err, &asked) {
		text, err = "⚠️ "+asked.msg, nil
	}
	if err == nil {
		a.emit(t, Event{Kind: KindDelta, Delta: text, Text: text})
	}
	return text, err
}

func (a *Agents) commandHelp(context.Context, address, string) (string, error) {
	var lines []string
	for _, c := range commandTable() {
		lines = append(lines, strings.TrimSpace("/"+c.name+" "+c.args)+" – "+c.doc)
	}
	return strings.Join(lines, "\n"), nil
}

// next is the model that a session's next turn asks first, and its entry,
// which is zero where there is none yet.
func (a *Agents) next(to address) (ref string, e store.Entry, err error) {
	index, err := a.index(to)
	if err != nil {
		return "", e, err
	}
	agent, _ := a.config().Agent(to.agent)
	e, _ = index.Get(to.key)
	return a.sessionModel(agent, e), e, nil
}

func (a *Agents) commandStatus(_ context.Context, to address, _ string) (string, error) {
	ref, e, err := a.next(to)
	if err != nil {
		return "", err
	}
	m, _ := a.config().Model(ref)
	window, percent, id := int64(m.ContextWindow), int64(0), "none yet"
	if window > 0 {
		percent = 100 * e.TotalTokens / window
	}
	if e.SessionID != "" {
		id = e.SessionID
	}
	return fmt.Sprintf("Agent: %s\nModel: %s\nSession: %s (%s)\nTokens: %d in, %d out in the last turn; %d of %d of the context (%d %%)\nTurns: %d under way",
		to.agent, ref, to.key, id, e.InputTokens, e.OutputTokens, e.TotalTokens, window, percent, len(a.running(to.key))), nil
}

func (a *Agents) commandModel(_ context.Context, to address, args string) (string, error) {
	if args != "" {
		ref := args
		if args == "default" {
			ref = ""
		}
		if _, _, err := a.Patch(to.key, Patch{Model: &ref}); err != nil {
			return "", err
		}
	}
	current, _, err := a.next(to)
	if err != nil || args != "" {
		return "Model: " + current, err
	}
	refs := a.config().ModelRefs()
	if !slices.Contains(refs, current) {
		refs = append([]string{current}, refs...)
	}
	var b strings.Builder
	b.WriteString("Models (* is this session's):")
	for _, ref := range refs {
		mark := " "
		if ref == current {
			mark = "*"
		}
		b.WriteString("\n" + mark + " " + ref)
	}
	return b.String(), nil
}

func (a *Agents) commandNew(ctx context.Context, to address, _ string) (string, error) {
	if _, _, err := a.reset(ctx, to.key, "/new"); err != nil {
		return "", err
	}
	return "New session started.", nil
}

func (a *Agents) commandStop(_ context.Context, to address, _ string) (string, error) {
	switch n := len(a.Abort(to.key, "", "stop")); n {
	case 0:
		return "Nothing is running.", nil
	case 1:
		return "Stopped 1 turn.", nil
	default:
		return fmt.Sprintf("Stopped %d turns.", n), nil
	}
}
