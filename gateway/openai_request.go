package gateway

import (
	"fmt"

	"openclaw/gateway/agent"
	"openclaw/gateway/store"
	"openclaw/wire"
)

// completionRequest is the body of POST /v1/chat/completions as OpenAI's API
// reference has it. What it does not name is tolerated and without effect, and
// a null member is an absent one.
type completionRequest struct {
	Model               string              `json:"model"`
	Messages            []completionMessage `json:"messages" wire:"required"`
	Stream              bool                `json:"stream"`
	StreamOptions       *streamOptions      `json:"stream_options"`
	Tools               []completionTool    `json:"tools"`
	ToolChoice          wire.Raw            `json:"tool_choice"`
	ParallelToolCalls   *bool               `json:"parallel_tool_calls"`
	User                string              `json:"user"`
	N                   int                 `json:"n"`
	MaxTokens           int                 `json:"max_tokens"`
	MaxCompletionTokens int                 `json:"max_completion_tokens"`
	Temperature         *float64            `json:"temperature"`
	TopP                *float64            `json:"top_p"`
	Stop                wire.Raw            `json:"stop"` // a string or a list of them
}

type streamOptions struct {
	IncludeUsage bool `json:"include_usage"`
}

type completionMessage struct {
	Role       string           `json:"role" wire:"required"`
	Content    wire.Raw         `json:"content"` // a string, or a list of completionPart
	Name       string           `json:"name"`
	ToolCalls  []completionCall `json:"tool_calls"`
	ToolCallID string           `json:"tool_call_id"`
}

type completionPart struct {
	Type     string    `json:"type" wire:"required"`
	Text     string    `json:"text"`
	ImageURL *imageURL `json:"image_url"`
}

type imageURL struct {
	URL string `json:"url" wire:"required"`
}

type completionTool struct {
	Type     string       `json:"type" wire:"required"`
	Function functionTool `json:"function"`
}

type functionTool struct {
	Name        string   `json:"name" wire:"required,id"`
	Description string   `json:"description"`
	Parameters  wire.Raw `json:"parameters"`
	Strict      bool     `json:"strict"`
}

type completionCall struct {
	ID       string `json:"id" wire:"required,id"`
	Type     string `json:"type"`
	Function struct {
		Name      string `json:"name" wire:"required,id"`
		Arguments string `json:"arguments"`
	} `json:"function"`
}

// turn maps a request to a turn. Where it falls short the error names the
// place in the body.
func (r *completionRequest) turn() (agent.Turn, error) {
	var t agent.Turn
	if r.N > 1 {
		return t, wire.InvalidRequest("n: only one choice is offered")
	}
	conv, err := r.conversation()
	if err == nil {
		err = conv.into(&t, "messages")
	}
	if err != nil {
		return t, err
	}
	for i, tool := range r.Tools {
		f := tool.Function
		if tool.Type != "function" {
			return t, wire.InvalidRequest("tools.%d.type: only function tools are offered", i)
		} else if f.Name == "" {
			return t, wire.InvalidRequest("tools.%d.function: must have required property 'name'", i)
		}
		t.Tools = append(t.Tools, agent.Tool{Name: f.Name, Description: f.Description, Parameters: []byte(f.Parameters), Strict: f.Strict})
	}
	if t.Stop, err = r.stops(); err != nil {
		return t, err
	}
	t.ToolChoice = []byte(r.ToolChoice)
	t.OneCall = r.ParallelToolCalls != nil && !*r.ParallelToolCalls
	t.MaxTokens = max(r.MaxTokens, r.MaxCompletionTokens)
	t.Temperature, t.TopP = r.Temperature, r.TopP
	return t, nil
}

func (r *completionRequest) stops() ([]string, error) {
	if isNull(r.Stop) {
		return nil, nil
	}
	list := []string{""}
	err := wire.Decode(r.Stop, &list[0])
	if err != nil {
		err = wire.Decode(r.Stop, &list)
	}
	if err != nil || len(list) > 16 {
		return nil, wire.InvalidRequest("stop: must be a string or at most 16 strings")
	}
	return list, nil
}

func (r *completionRequest) conversation() (c conversation, err error) {
	for i, m := range r.Messages {
		parts, err := m.parts()
		if err != nil {
			return c, wire.InvalidRequest("messages.%d.content: %s", i, err)
		}
		if m.Role != "tool" {
			if err := c.say(m.Role, parts, len(m.ToolCalls) > 0); err != nil {
				return c, wire.InvalidRequest("messages.%d.%s", i, err)
			}
			for _, call := range m.ToolCalls {
				if err := c.call(call.ID, call.Function.Name, call.Function.Arguments); err != nil {
					return c, wire.InvalidRequest("messages.%d.tool_calls: %s", i, err)
				}
			}
			continue
		}
		if m.ToolCallID == "" {
			return c, wire.InvalidRequest("messages.%d: must have required property 'tool_call_id'", i)
		}
		c.result(m.ToolCallID, parts)
	}
	return c, nil
}

// parts reads a content member.
func (m *completionMessage) parts() ([]store.Part, error) {
	return contentOf(m.Content, func(p completionPart) (store.Part, error) {
		switch {
		case p.Type == "text":
			return store.Part{Type: store.PartText, Text: p.Text}, nil
		case p.Type == "image_url" && p.ImageURL != nil:
			return dataImage(p.ImageURL.URL)
		}
		return store.Part{}, fmt.Errorf("unsupported part %q: use text or image_url", p.Type)
	})
}
