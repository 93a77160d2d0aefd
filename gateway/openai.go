package gateway

import (
	"cmp"
	"context"
	"net/http"
	"strings"
	"time"

	"openclaw/gateway/agent"
	"openclaw/gateway/store"
	"openclaw/wire"
)

// completion is the answer to POST /v1/chat/completions without stream.
type completion struct {
	ID      string             `json:"id"`
	Object  string             `json:"object"` // chat.completion
	Created int64              `json:"created"`
	Model   string             `json:"model"`
	Choices []completionChoice `json:"choices"`
	Usage   completionUsage    `json:"usage"`
}

type completionChoice struct {
	Index        int             `json:"index"`
	Message      completionReply `json:"message"`
	FinishReason string          `json:"finish_reason"`
}

type completionReply struct {
	Role      string                `json:"role"`
	Content   *string               `json:"content"` // null beside tool calls without text
	ToolCalls []completionReplyCall `json:"tool_calls,omitempty"`
}

type completionReplyCall struct {
	Index    *int   `json:"index,omitempty"` // in a stream only
	ID       string `json:"id"`
	Type     string `json:"type"` // function
	Function struct {
		Name      string `json:"name"`
		Arguments string `json:"arguments"`
	} `json:"function"`
}

type completionUsage struct {
	PromptTokens     int64               `json:"prompt_tokens"`
	CompletionTokens int64               `json:"completion_tokens"`
	TotalTokens      int64               `json:"total_tokens"`
	PromptDetails    *promptTokenDetails `json:"prompt_tokens_details,omitempty"`
}

type promptTokenDetails struct {
	CachedTokens int64 `json:"cached_tokens"`
}

// chatCompletions serves POST /v1/chat/completions: one turn. The client's
// leaving ends the turn, and with it the request to the model provider.
func (g *Gateway) chatCompletions(w http.ResponseWriter, r *http.Request, who principal) {
	body, refused := readBody(r)
	if refused != nil {
		refused.write(w)
		return
	}
	var req completionRequest
	if err := wire.DecodeLoose(body, &req); err != nil {
		errorOf(wire.InvalidRequest("%s", err)).write(w)
		return
	}
	turn, err := req.turn()
	if err == nil {
		err = g.address(&turn, r, req.Model, "openai-user", req.User)
	}
	if err != nil {
		errorOf(g.asWire(err)).write(w)
		return
	}
	id := "chatcmpl_" + randomID(16)
	if req.Model == "" {
		req.Model = "openclaw"
	}
	// Ends the turn when this handler returns early, for whatever reason.
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	var stream *completionStream
	if req.Stream {
		stream = newCompletionStream(w, r, id, req.Model, req.StreamOptions != nil && req.StreamOptions.IncludeUsage, cancel)
		turn.Observe = stream.observe
	}
	run, err := g.agents.Start(ctx, turn)
	if err != nil {
		errorOf(g.asWire(err)).write(w)
		return
	}
	if stream != nil {
		stream.wait(run)
		stream.finish(g, run.Result())
		return
	}
	<-run.Done()
	res := run.Result()
	if e := g.runError(res); e != nil {
		errorOf(e).write(w)
		return
	}
	writeJSON(w, http.StatusOK, completion{
		ID: id, Object: "chat.completion", Created: time.Now().Unix(), Model: req.Model,
		Choices: []completionChoice{{Message: replyOf(res), FinishReason: finishReason(res.StopReason)}},
		Usage:   usageOf(res.Usage),
	})
}

// address says which agent and session a request is for: the agent by header,
// else by model name, else the default; the session by header, else by user of
// this kind of request, else none, and then nothing is stored.
func (g *Gateway) address(t *agent.Turn, r *http.Request, model, kind, user string) error {
	id, err := agentNamed(r, model)
	if err != nil {
		return err
	}
	cfg := g.cfg()
	if id == "" {
		id = cfg.DefaultAgentID()
	}
	if _, ok := cfg.Agent(id); !ok {
		return wire.InvalidRequest("Unknown agent '%s'.", store.Clip(id, 64))
	}
	t.AgentID = id
	switch key := r.Header.Get("x-openclaw-session-key"); {
	case key != "":
		t.SessionKey = key
	case user != "":
		t.SessionKey = "agent:" + id + ":" + kind + ":" + user
	}
	t.RunID = "http-" + randomID(16)
	if t.SessionKey == "" {
		return nil
	}
	return g.onlyNew(t)
}

// agentNamed is the agent that a request names, "" for the default one.
func agentNamed(r *http.Request, model string) (id string, err error) {
	if id = cmp.Or(r.Header.Get("x-openclaw-agent-id"), r.Header.Get("x-openclaw-agent")); id == "" {
		id, err = agentOfModel(model)
	}
	if id == "default" {
		id = ""
	}
	return id, err
}

// onlyNew leaves of a request in a session what the transcript does not hold:
// what follows the request's last assistant message, or everything where the
// session has no messages yet.
func (g *Gateway) onlyNew(t *agent.Turn) error {
	last := -1
	for i, m := range t.Messages {
		if m.Role == store.RoleAssistant {
			last = i
		}
	}
	if last < 0 {
		return nil
	}
	key, _, err := g.agents.CanonicalKey(t.SessionKey, t.AgentID)
	if err != nil {
		return err
	}
	if h, err := g.agents.History(key, 1, 0); err != nil || h.Total == 0 {
		return err
	}
	t.Messages = t.Messages[last+1:]
	return nil
}

// agentOfModel reads the agent out of a model name: openclaw,
// openclaw:AGENT, openclaw/AGENT or agent:AGENT. No model is the default agent.
func agentOfModel(model string) (string, error) {
	if model == "" || model == "openclaw" {
		return "", nil
	}
	for _, prefix := range []string{"openclaw:", "openclaw/", "agent:"} {
		if id, ok := strings.CutPrefix(model, prefix); ok && id != "" {
			return id, nil
		}
	}
	return "", wire.InvalidRequest("Invalid `model`. Use `openclaw` or `openclaw/<agentId>`.")
}

func replyOf(res agent.Result) completionReply {
	out := completionReply{Role: store.RoleAssistant}
	if res.Text != "" || len(res.ToolCalls) == 0 {
		out.Content = &res.Text
	}
	for _, p := range res.ToolCalls {
		out.ToolCalls = append(out.ToolCalls, replyCall(p.ID, p.Name, string(p.Arguments)))
	}
	return out
}

func replyCall(id, name, args string) completionReplyCall {
	c := completionReplyCall{ID: id, Type: "function"}
	c.Function.Name, c.Function.Arguments = name, args
	return c
}

func finishReason(stop string) string {
	switch stop {
	case "length":
		return "length"
	case "toolUse":
		return "tool_calls"
	}
	return "stop"
}

func usageOf(u store.Usage) completionUsage {
	// OpenAI counts cached tokens among the prompt's, transcripts beside them.
	out := completionUsage{PromptTokens: u.Input + u.CacheRead + u.CacheWrite, CompletionTokens: u.Output}
	out.TotalTokens = out.PromptTokens + out.CompletionTokens
	if u.CacheRead > 0 {
		out.PromptDetails = &promptTokenDetails{u.CacheRead}
	}
	return out
}

// listedModel is one agent as GET /v1/models lists it.
type listedModel struct {
	ID         string   `json:"id"`
	Object     string   `json:"object"` // model
	Created    int64    `json:"created"`
	OwnedBy    string   `json:"owned_by"`
	Permission []string `json:"permission"`
}

// openAIModels are the names that the model member of a request may have: the agents.
func (g *Gateway) openAIModels() []listedModel {
	names := []string{"openclaw", "openclaw/default"}
	for _, a := range g.cfg().AgentList() {
		names = append(names, "openclaw/"+a.ID)
	}
	out := make([]listedModel, len(names))
	for i, n := range names {
		out[i] = listedModel{ID: n, Object: "model", OwnedBy: "openclaw", Permission: []string{}}
	}
	return out
}

func (g *Gateway) modelsList(w http.ResponseWriter, r *http.Request, who principal) {
	writeJSON(w, http.StatusOK, struct {
		Object string        `json:"object"`
		Data   []listedModel `json:"data"`
	}{"list", g.openAIModels()})
}

func (g *Gateway) modelGet(w http.ResponseWriter, r *http.Request, who principal) {
	id := strings.TrimPrefix(r.URL.Path, "/v1/models/")
	for _, m := range g.openAIModels() {
		if m.ID == id {
			writeJSON(w, http.StatusOK, m)
			return
		}
	}
	errorOf(wire.InvalidRequest("Invalid model id.")).write(w)
}
