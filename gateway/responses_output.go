package gateway

import (
	"context"
	"net/http"
	"strconv"
	"strings"
	"time"

	"openclaw/gateway/agent"
	"openclaw/gateway/store"
	"openclaw/wire"
)

// response is the response object of OpenResponses, whose members are all
// there, null or not.
type response struct {
	ID                 string              `json:"id"`
	Object             string              `json:"object"` // response
	CreatedAt          int64               `json:"created_at"`
	CompletedAt        *int64              `json:"completed_at"`
	Status             string              `json:"status"` // in_progress, completed, incomplete or failed
	IncompleteDetails  *responseIncomplete `json:"incomplete_details"`
	Model              string              `json:"model"`
	PreviousResponseID *string             `json:"previous_response_id"`
	Instructions       *string             `json:"instructions"`
	Output             []any               `json:"output"`
	Error              *responseError      `json:"error"`
	Tools              []responseTool      `json:"tools"`
	ToolChoice         wire.Raw            `json:"tool_choice"`
	Truncation         string              `json:"truncation"`
	ParallelToolCalls  bool                `json:"parallel_tool_calls"`
	Text               responseText        `json:"text"`
	TopP               float64             `json:"top_p"`
	PresencePenalty    float64             `json:"presence_penalty"`  // 0: not offered,
	FrequencyPenalty   float64             `json:"frequency_penalty"` // nor is this,
	TopLogprobs        int                 `json:"top_logprobs"`      // nor this
	Temperature        float64             `json:"temperature"`
	Reasoning          *struct{}           `json:"reasoning"` // null: the model's own
	User               *string             `json:"user"`
	Usage              responseUsage       `json:"usage"`
	MaxOutputTokens    *int                `json:"max_output_tokens"`
	MaxToolCalls       *int                `json:"max_tool_calls"`
	Store              bool                `json:"store"`
	Background         bool                `json:"background"`
	ServiceTier        string              `json:"service_tier"`
	Metadata           map[string]string   `json:"metadata"`
	SafetyIdentifier   *string             `json:"safety_identifier"`
	PromptCacheKey     *string             `json:"prompt_cache_key"`
}

type responseIncomplete struct {
	Reason string `json:"reason"`
}

type responseError struct {
	Code    string `json:"code"`
	Message string `json:"message"`
}

type responseUsage struct {
	InputTokens   int64              `json:"input_tokens"`
	InputDetails  promptTokenDetails `json:"input_tokens_details"`
	OutputTokens  int64              `json:"output_tokens"`
	OutputDetails struct {
		ReasoningTokens int64 `json:"reasoning_tokens"` // 0: counted among the others
	} `json:"output_tokens_details"`
	TotalTokens int64 `json:"total_tokens"`
}

// The items of a response's output.
type (
	responseMessage struct {
		Type    string `json:"type"` // message
		ID      string `json:"id"`
		Status  string `json:"status"`
		Role    string `json:"role"`
		Content []any  `json:"content"` // responseOutputText
	}
	responseReasoning struct {
		Type    string `json:"type"` // reasoning
		ID      string `json:"id"`
		Summary []any  `json:"summary"` // responseSummaryText
	}
	responseCall struct {
		Type      string `json:"type"` // function_call
		ID        string `json:"id"`
		CallID    string `json:"call_id"`
		Name      string `json:"name"`
		Arguments string `json:"arguments"`
		Status    string `json:"status"`
	}
	responseOutputText struct {
		Type        string `json:"type"` // output_text
		Text        string `json:"text"`
		Annotations []any  `json:"annotations"`
		Logprobs    []any  `json:"logprobs"`
	}
	responseSummaryText struct {
		Type string `json:"type"` // summary_text
		Text string `json:"text"`
	}
)

// none is an empty list in JSON.
var none = []any{}

// growing is a kind of item that comes in pieces, in one part: the names of
// its events, without «response.», and of its part's number.
type growing struct{ added, delta, textDone, partDone, index string }

// Thoughts are told as a summary of them: the one way to tell them that the
// published contract and the clients in use have in common.
var (
	growingText    = &growing{"content_part.added", "output_text.delta", "output_text.done", "content_part.done", "content_index"}
	growingThought = &growing{"reasoning_summary_part.added", "reasoning_summary_text.delta", "reasoning_summary_text.done", "reasoning_summary_part.done", "summary_index"}
)

// item is an item of this kind.
func (k *growing) item(id, status string, content []any) any {
	if k == growingText {
		return responseMessage{"message", id, status, store.RoleAssistant, content}
	}
	return responseReasoning{"reasoning", id, content}
}

func (k *growing) part(text string) any {
	if k == growingText {
		return responseOutputText{"output_text", text, none, none}
	}
	return responseSummaryText{"summary_text", text}
}

// newResponse is the response to r before anything was said.
func newResponse(r *responseRequest) response {
	res := response{
		Object: "response", CreatedAt: time.Now().Unix(), Status: "in_progress", Model: r.Model,
		PreviousResponseID: r.PreviousResponseID, Instructions: r.Instructions, Output: none,
		Tools: r.Tools, ToolChoice: r.ToolChoice, Truncation: "auto", ParallelToolCalls: r.ParallelToolCalls == nil || *r.ParallelToolCalls,
		Text: r.Text, TopP: 1, Temperature: 1, User: r.User, MaxOutputTokens: r.MaxOutputTokens, MaxToolCalls: r.MaxToolCalls,
		ServiceTier: "default", Metadata: r.Metadata, SafetyIdentifier: r.SafetyIdentifier, PromptCacheKey: r.PromptCacheKey,
	}
	res.Text.Format.Type = "text"
	if res.Tools == nil {
		res.Tools = []responseTool{}
	}
	if isNull(res.ToolChoice) {
		res.ToolChoice = wire.Raw(`"auto"`)
	}
	if r.Truncation != "" {
		res.Truncation = r.Truncation
	}
	if r.TopP != nil {
		res.TopP = *r.TopP
	}
	if r.Temperature != nil {
		res.Temperature = *r.Temperature
	}
	if res.Metadata == nil {
		res.Metadata = map[string]string{}
	}
	return res
}

// responseWriter makes a response out of a turn's events and, where it is
// streamed, writes the events of OpenResponses as it grows.
type responseWriter struct {
	eventStream
	res    response
	name   string // of the answer, in its session
	stream bool
	seq    int
	open   *growing // the item that grows, if one does
	text   strings.Builder
}

func newResponseWriter(w http.ResponseWriter, r *http.Request, req *responseRequest, name string, cancel context.CancelFunc) *responseWriter {
	s := &responseWriter{eventStream: newEventStream(w, r, cancel), res: newResponse(req), name: name, stream: req.Stream}
	s.head = func() {
		s.event("created", "response", s.res)
		s.event("in_progress", "response", s.res)
	}
	return s
}

// accepted names the response after the session that holds it. It comes before
// the turn's first event.
func (s *responseWriter) accepted(run *agent.Run) {
	s.res.Store, s.res.ID = run.SessionID != "", responseID(run.SessionID, s.name)
}

func (s *responseWriter) observe(ev agent.Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch ev.Kind {
	case agent.KindDelta:
		s.grow(growingText, ev.Delta)
	case agent.KindThinking:
		s.grow(growingThought, ev.Thinking)
	case agent.KindToolCall:
		s.call(ev.Tool)
	default:
		return
	}
	if s.stream {
		s.flush()
	}
}

// begin is eventStream's, where there is a stream.
func (s *responseWriter) begin() {
	if s.stream {
		s.eventStream.begin()
	}
}

// itemID is the id of the next item of the output.
func (s *responseWriter) itemID(kind string) string {
	return kind + strings.TrimPrefix(s.res.ID, "resp") + "_" + strconv.Itoa(len(s.res.Output))
}

// grow adds to the item that grows, or begins one of its kind.
func (s *responseWriter) grow(kind *growing, delta string) {
	s.begin()
	if s.open != kind {
		s.settle("completed")
		s.open = kind
		s.event("output_item.added", "output_index", len(s.res.Output), "item", s.item("in_progress", none))
		s.part(kind.added, "part", kind.part(""))
	}
	if s.text.WriteString(delta); delta != "" {
		s.part(kind.delta, "delta", delta)
	}
}

// settle ends the item that grows, if one does.
func (s *responseWriter) settle(status string) {
	if s.open == nil {
		return
	}
	part := s.open.part(s.text.String())
	s.part(s.open.textDone, "text", s.text.String())
	s.part(s.open.partDone, "part", part)
	item := s.item(status, []any{part})
	s.event("output_item.done", "output_index", len(s.res.Output), "item", item)
	s.res.Output = append(s.res.Output, item)
	s.open = nil
	s.text.Reset()
}

// item is the item that grows, as it is told.
func (s *responseWriter) item(status string, content []any) any {
	return s.open.item(s.openID(), status, content)
}

func (s *responseWriter) openID() string {
	if s.open == growingText {
		return s.itemID("msg")
	}
	return s.itemID("rs")
}

// part tells an event of the only part of the item that grows.
func (s *responseWriter) part(kind string, member string, value any) {
	if !s.stream {
		return
	}
	members := []any{"item_id", s.openID(), "output_index", len(s.res.Output), s.open.index, 0, member, value}
	if member != "part" && s.open == growingText {
		members = append(members, "logprobs", none)
	}
	s.event(kind, members...)
}

// call adds a function call, which comes whole.
func (s *responseWriter) call(t *agent.ToolCall) {
	s.begin()
	s.settle("completed")
	index := len(s.res.Output)
	item := responseCall{"function_call", s.itemID("fc"), t.ID, t.Name, "", "in_progress"}
	s.event("output_item.added", "output_index", index, "item", item)
	item.Arguments, item.Status = string(t.Arguments), "completed"
	s.event("function_call_arguments.delta", "item_id", item.ID, "output_index", index, "delta", item.Arguments)
	s.event("function_call_arguments.done", "item_id", item.ID, "output_index", index, "name", item.Name, "arguments", item.Arguments)
	s.event("output_item.done", "output_index", index, "item", item)
	s.res.Output = append(s.res.Output, item)
}

const eventError = "error" // the one that is not response.something

// event puts an event with these members, name and value in turn, into buf.
func (s *responseWriter) event(kind string, members ...any) {
	if !s.stream {
		return
	}
	if kind != eventError {
		kind = "response." + kind
	}
	s.buf = append(append(append(s.buf, "event: "...), kind...), "\ndata: {\"type\":\""...)
	s.buf = append(append(s.buf, kind...), `","sequence_number":`...)
	s.buf = strconv.AppendInt(s.buf, int64(s.seq), 10)
	s.seq++
	for i := 0; i < len(members); i += 2 {
		raw, err := wire.Marshal(members[i+1])
		if err != nil { // a tool's parameters, say, were checked when they came
			raw = []byte("null")
		}
		s.buf = append(append(append(append(s.buf, `,"`...), members[i].(string)...), `":`...), raw...)
	}
	s.buf = append(s.buf, "}\n\n"...)
}

// finish ends the response.
func (s *responseWriter) finish(g *Gateway, res agent.Result) {
	s.mu.Lock()
	defer s.mu.Unlock()
	failure := g.runError(res)
	if failure != nil && !s.started {
		errorOf(failure).write(s.w)
		return
	}
	if failure == nil && s.open == nil && len(s.res.Output) == 0 {
		s.grow(growingText, "") // nothing is an answer too
	}
	switch {
	case failure != nil:
		s.settle("incomplete")
		s.res.Status, s.res.Error = "failed", &responseError{string(failure.Code), failure.Message}
		s.event(eventError, "error", errorOf(failure))
	case res.StopReason == "length":
		s.settle("incomplete")
		s.res.Status, s.res.IncompleteDetails = "incomplete", &responseIncomplete{"max_output_tokens"}
	default:
		s.settle("completed")
		now := time.Now().Unix()
		s.res.Status, s.res.CompletedAt = "completed", &now
	}
	u := usageOf(res.Usage)
	s.res.Usage.InputTokens, s.res.Usage.OutputTokens, s.res.Usage.TotalTokens = u.PromptTokens, u.CompletionTokens, u.TotalTokens
	s.res.Usage.InputDetails.CachedTokens = res.Usage.CacheRead
	if !s.stream {
		writeJSON(s.w, http.StatusOK, s.res)
		return
	}
	s.begin()
	s.event(s.res.Status, "response", s.res)
	s.buf = append(s.buf, "data: [DONE]\n\n"...)
	s.flush()
}
