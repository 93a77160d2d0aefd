package agent

import (
	"context"
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

// CommandInfo describes a chat command.
type CommandInfo struct{ Name, Args, Doc string }

// Commands lists the chat commands.
func Commands() []CommandInfo {
	var infos []CommandInfo
	for _, c := range commandTable() {
		infos = append(infos, CommandInfo{"/" + c.name, c.args, c.doc})
	}
	return infos
}

// Who a command's answer is from, in the words of existing clients.
const (
	commandProvider = "openclaw"
	commandModel    = "gateway-injected"
)

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
	if isStopWord(text) && len(a.running(key)) > 0 {
		return findCommand("stop"), ""
	}
	return nil, ""
}

func isStopWord(text string) bool {
	return len(text) < 16 && slices.Contains([]string{"stop", "abort", "esc", "exit", "interrupt", "wait"}, strings.ToLower(text))
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
	if err != nil {
		text = "⚠️ " + err.Error()
	}
	m := &store.Message{
		Role: store.RoleAssistant, Content: store.Text(text), Provider: commandProvider, Model: commandModel,
		Usage: &store.Usage{}, StopReason: stopEnd, Timestamp: time.Now().UnixMilli(),
	}
	a.finish(t, KindEnd, Result{
		Status: StatusOK, Text: text, StopReason: stopEnd, Provider: commandProvider, Model: commandModel,
		SessionID: t.run.SessionID, Duration: time.Since(t.run.startedAt), Message: m,
	})
}

func (a *Agents) callCommand(t *turn) (text string, err error) {
	defer func() {
		if v := recover(); v != nil {
			err = a.panicked(v, "session", t.run.SessionKey, "run", t.run.ID)
		}
	}()
	a.emit(t, Event{Kind: KindStart})
	if t.args != "" && t.command.args == "" {
		return "", fmt.Errorf("/%s takes no argument; nothing was done", t.command.name)
	}
	text, err = t.command.run(a, t.run.ctx, address{t.run.SessionKey, t.run.AgentID, t.home}, t.args)
	if err == nil {
		a.emit(t, Event{Kind: KindDelta, Delta: text, Text: text})
	}
	return text, err
}

func (a *Agents) commandHelp(context.Context, address, string) (string, error) {
	var b strings.Builder
	for _, c := range Commands() {
		b.WriteString(strings.TrimSpace(c.Name+" "+c.Args) + " – " + c.Doc + "\n")
	}
	return strings.TrimSuffix(b.String(), "\n"), nil
}

func (a *Agents) commandStatus(_ context.Context, to address, _ string) (string, error) {
	entry, err := a.entry(to)
	if err != nil {
		return "", err
	}
	ref := a.sessionModel(to, entry)
	window := int64(0)
	if m, err := a.config().Model(ref); err == nil {
		window = int64(m.ContextWindow)
	}
	id := entry.SessionID
	if id == "" {
		id = "none yet"
	}
	percent := int64(0)
	if window > 0 {
		percent = 100 * entry.TotalTokens / window
	}
	return fmt.Sprintf("Agent: %s\nModel: %s\nSession: %s (%s)\nTokens: %d in, %d out in the last turn; %d of %d of the context (%d %%)\nTurns: %d under way",
		to.agent, ref, to.key, id, entry.InputTokens, entry.OutputTokens, entry.TotalTokens, window, percent, len(a.running(to.key))), nil
}

func (a *Agents) commandModel(_ context.Context, to address, args string) (string, error) {
	cfg := a.config()
	entry, err := a.entry(to)
	if err != nil {
		return "", err
	}
	if args == "" {
		current := a.sessionModel(to, entry)
		refs := cfg.ModelRefs()
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
	ref := args
	if ref == "default" {
		ref = ""
	}
	if _, _, err := a.Patch(to.key, Patch{Model: &ref}); err != nil {
		return "", err
	}
	entry, err = a.entry(to)
	return "Model: " + a.sessionModel(to, entry), err
}

func (a *Agents) commandNew(ctx context.Context, to address, _ string) (string, error) {
	if _, _, err := a.reset(ctx, to, "/new"); err != nil {
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
