package agent

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"time"

	"openclaw/gateway/store"
	"openclaw/gateway/tool"
)

// A Toolset is what one turn may do. *tool.Set is one. Call may be called from
// several goroutines; what goes wrong is a result, for the model to read.
type Toolset interface {
	List() []tool.Definition
	Call(ctx context.Context, id, name string, args json.RawMessage, update func(partial string)) tool.Result
}

const (
	parallelCalls = 8 // of one answer at a time
	sameCalls     = 3 // times that a call may give the same result before it is refused
)

// hands are the tools of a turn and what it has done with them.
type hands struct {
	set  Toolset // for the provider that is asked; nil without tools
	of   string  // that provider
	seen map[[sha256.Size]byte]outcomeCount
}

// outcomeCount is how often a call has had the same result in a row.
type outcomeCount struct {
	result [sha256.Size]byte
	times  int
}

// offer is the tools that a model is shown: the client's, and those of ours
// that have no name of theirs.
func (a *Agents) offer(t *turn) []Tool {
	if a.tools == nil {
		return t.Tools
	}
	if t.hands.set == nil || t.hands.of != t.model.Provider {
		t.hands.of = t.model.Provider
		t.hands.set = a.tools(tool.Scope{
			Agent: t.agent, SessionKey: t.run.SessionKey, RunID: t.run.ID, Workspace: a.workspace(t.agent),
			Main: t.run.SessionKey != "" && isMain(a.config(), t.to.place), Provider: t.model.Provider, From: t.From,
		})
	}
	list := slices.Clip(t.Tools)
	for _, d := range t.hands.set.List() {
		if !t.isClients(d.Name) {
			list = append(list, Tool{Name: d.Name, Description: d.Description, Parameters: d.Parameters})
		}
	}
	return list
}

// isClients reports whether the client has a function of that name.
func (t *turn) isClients(name string) bool {
	return slices.ContainsFunc(t.Tools, func(c Tool) bool { return c.Name == name })
}

// ours are the calls of an answer that the gateway is to run: all but those of
// the client's functions. A name that nobody has is ours too, to be told so.
func (t *turn) ours(content store.Content) []store.Part {
	if t.hands.set == nil {
		return nil
	}
	return slices.DeleteFunc(calls(content), func(p store.Part) bool { return t.isClients(p.Name) })
}

// clients are the other calls.
func (t *turn) clients(content store.Content) []store.Part {
	return slices.DeleteFunc(calls(content), func(p store.Part) bool { return t.hands.set != nil && !t.isClients(p.Name) })
}

// act runs the calls of an answer, several at a time, and returns their results
// in the order of the calls. It returns soon after ctx has ended, with what
// was not finished marked so.
func (a *Agents) act(ctx context.Context, t *turn, list []store.Part) []*store.Message {
	type note struct {
		call    int
		partial string
		result  *tool.Result
	}
	notes, room := make(chan note), make(chan struct{}, parallelCalls)
	var running sync.WaitGroup
	for i, p := range list {
		running.Go(func() {
			room <- struct{}{}
			defer func() { <-room }()
			res := a.call(ctx, t, p, func(partial string) { notes <- note{call: i, partial: partial} })
			notes <- note{call: i, result: &res}
		})
	}
	results := make([]*store.Message, len(list))
	for i, p := range list {
		a.emit(t, Event{Kind: KindToolStart, Tool: toolCall(i, p), Text: t.text.String()})
	}
	for left := len(list); left > 0; {
		n := <-notes
		call := toolCall(n.call, list[n.call])
		if n.result == nil {
			a.emit(t, Event{Kind: KindToolUpdate, Tool: call, Partial: n.partial, Text: t.text.String()})
			continue
		}
		left--
		results[n.call] = &store.Message{
			Role: store.RoleToolResult, ToolCallID: call.ID, ToolName: call.Name, Content: n.result.Content,
			Details: n.result.Details, IsError: n.result.IsError, Timestamp: time.Now().UnixMilli(),
		}
		a.emit(t, Event{Kind: KindToolResult, Tool: call, ToolResult: results[n.call], Text: t.text.String()})
	}
	running.Wait()
	t.hands.note(list, results)
	return results
}

func toolCall(index int, p store.Part) *ToolCall { return &ToolCall{index, p.ID, p.Name, p.Arguments} }

// call runs one call. A panic is a result like any other.
func (a *Agents) call(ctx context.Context, t *turn, p store.Part, update func(string)) (res tool.Result) {
	defer func() {
		if v := recover(); v != nil {
			a.panicked(v, "session", t.run.SessionKey, "run", t.run.ID)
			res = failed("the tool failed: internal error")
		}
	}()
	switch {
	case ctx.Err() != nil:
		return failed(fmt.Sprintf("not run: %v", context.Cause(ctx)))
	case t.hands.tired(p):
		return failed(fmt.Sprintf("not run: the same call had the same result %d times in a row; do something else, or answer", sameCalls))
	}
	return t.hands.set.Call(ctx, p.ID, p.Name, p.Arguments, update)
}

func failed(text string) tool.Result { return tool.Result{Content: store.Text(text), IsError: true} }

// tired reports whether a call would only be repeated.
func (h *hands) tired(p store.Part) bool { return h.seen[callKey(p)].times >= sameCalls }

// note remembers what calls resulted in.
func (h *hands) note(list []store.Part, results []*store.Message) {
	if h.seen == nil {
		h.seen = map[[sha256.Size]byte]outcomeCount{}
	}
	for i, p := range list {
		key, now := callKey(p), sha256.Sum256([]byte(results[i].Content.String()))
		was := h.seen[key]
		if was.times >= sameCalls {
			continue
		}
		if was.result != now {
			was = outcomeCount{result: now}
		}
		was.times++
		h.seen[key] = was
	}
}

func callKey(p store.Part) [sha256.Size]byte {
	return sha256.Sum256([]byte(p.Name + "\x00" + string(p.Arguments)))
}
