package agent

import (
	"encoding/json"
	"slices"

	"openclaw/gateway/store"
)

type responsesRequest struct {
	Model        string          `json:"model"`
	Instructions string          `json:"instructions,omitempty"`
	Input        []responsesTurn `json:"input"`
	Stream       bool            `json:"stream"`
	Store        bool            `json:"store"` // false: true is their default
	Tools        []responsesTool `json:"tools,omitempty"`
	ToolChoice   any             `json:"tool_choice,omitempty"`
	Parallel     *bool           `json:"parallel_tool_calls,omitempty"`
	MaxTokens    int             `json:"max_output_tokens,omitempty"`
	Temperature  *float64        `json:"temperature,omitempty"`
	TopP         *float64        `json:"top_p,omitempty"`
}

// A responsesTurn is an input item of any type; the fields of others are
// absent. Content and Output are a string or []responsesPart.
type responsesTurn struct {
	Type      string `json:"type"`
	Role      string `json:"role,omitempty"`
	Content   any    `json:"content,omitempty"`
	CallID    string `json:"call_id,omitempty"`
	Name      string `json:"name,omitempty"`
	Arguments string `json:"arguments,omitempty"`
	Output    any    `json:"output,omitempty"`
}

type responsesPart struct {
	Type     string `json:"type"`
	Text     string `json:"text,omitempty"`
	ImageURL string `json:"image_url,omitempty"`
	Detail   string `json:"detail,omitempty"`
}

type responsesTool struct {
	Type        string          `json:"type"`
	Name        string          `json:"name"`
	Description string          `json:"description,omitempty"`
	Parameters  json.RawMessage `json:"parameters"`
	Strict      bool            `json:"strict"` // absent, it would be true
}

type responsesPick struct {
	Type string `json:"type"`
	Name string `json:"name"`
}

// responsesBody encodes r for the server at host.
func responsesBody(r *modelRequest, host string) ([]byte, error) {
	if len(r.Stop) > 0 {
		return nil, r.failf(0, "stop: this provider's protocol has no stop sequences")
	}
	q := responsesRequest{
		Model: r.Model.ID, Instructions: r.System, Input: []responsesTurn{}, Stream: true,
		MaxTokens: r.MaxTokens, Temperature: r.Temperature, TopP: r.TopP,
	}
	if isOpenAI(host) && r.Model.Reasoning {
		q.Temperature, q.TopP = nil, nil // refused by models that reason
	}
	for _, t := range r.Tools {
		params, err := schema(r, t)
		if err != nil {
			return nil, err
		}
		q.Tools = append(q.Tools, responsesTool{"function", t.Name, t.Description, params, t.Strict})
	}
	if len(q.Tools) > 0 {
		word, name, err := toolChoice(r)
		if err != nil {
			return nil, err
		}
		if q.Parallel = oneCall(r); name != "" {
			q.ToolChoice = responsesPick{"function", name}
		} else if word != "" {
			q.ToolChoice = word
		}
	}
	for i := range r.Messages {
		m := &r.Messages[i]
		switch m.Role {
		case store.RoleUser:
			if c := responsesContent(r, m.Content); c != "" {
				q.Input = append(q.Input, responsesTurn{Type: "message", Role: "user", Content: c})
			}
		case store.RoleAssistant:
			if text := joinText(m.Content); text != "" {
				q.Input = append(q.Input, responsesTurn{Type: "message", Role: "assistant", Content: text})
			}
			for _, p := range calls(m.Content) {
				q.Input = append(q.Input, responsesTurn{Type: "function_call", CallID: p.ID, Name: p.Name, Arguments: sentArguments(p.Arguments)})
			}
		case store.RoleToolResult:
			q.Input = append(q.Input, responsesTurn{Type: "function_call_output", CallID: m.ToolCallID, Output: responsesContent(r, m.Content)})
		}
	}
	return mustJSON(q), nil
}

// responsesContent is a plain string where it can be, else a list of parts.
func responsesContent(r *modelRequest, content store.Content) any {
	seen := visible(r, content)
	if !slices.ContainsFunc(seen, isImage) {
		return joinText(seen)
	}
	parts := make([]responsesPart, len(seen))
	for i, p := range seen {
		if parts[i] = (responsesPart{Type: "input_text", Text: p.Text}); isImage(p) {
			parts[i] = responsesPart{Type: "input_image", ImageURL: dataURL(p), Detail: "auto"}
		}
	}
	return parts
}
