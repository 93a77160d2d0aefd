package gateway

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"strings"

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
	Type     string `json:"type" wire:"required"`
	Function struct {
		Name        string   `json:"name" wire:"required,id"`
		Description string   `json:"description"`
		Parameters  wire.Raw `json:"parameters"`
		Strict      bool     `json:"strict"`
	} `json:"function"`
}

type completionCall struct {
	ID       string `json:"id" wire:"required,id"`
	Type     string `json:"type"`
	Function struct {
		Name      string `json:"name" wire:"required,id"`
		Arguments string `json:"arguments"`
	} `json:"function"`
}

// conversation is what a request's messages say, in the transcript's words.
type conversation struct {
	system   string
	messages []store.Message
}

// turn maps a request to a turn. Where it falls short the error names the
// place in the body.
func (r *completionRequest) turn() (agent.Turn, error) {
	var t agent.Turn
	if r.N > 1 {
		return t, wire.InvalidRequest("n: only one choice is offered")
	}
	conv, err := r.conversation()
	if err != nil {
		return t, err
	}
	if len(conv.messages) == 0 || conv.messages[len(conv.messages)-1].Role == store.RoleAssistant {
		return t, wire.InvalidRequest("Missing user message in `messages`.")
	}
	for i, tool := range r.Tools {
		if tool.Type != "function" {
			return t, wire.InvalidRequest("tools.%d.type: only function tools are offered", i)
		}
		if tool.Function.Name == "" {
			return t, wire.InvalidRequest("tools.%d.function: must have required property 'name'", i)
		}
		f := tool.Function
		t.Tools = append(t.Tools, agent.Tool{Name: f.Name, Description: f.Description, Parameters: []byte(f.Parameters), Strict: f.Strict})
	}
	if t.Stop, err = r.stops(); err != nil {
		return t, err
	}
	t.Messages, t.System = conv.messages, conv.system
	t.ToolChoice = []byte(r.ToolChoice)
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

func (r *completionRequest) conversation() (conversation, error) {
	var c conversation
	var system []string
	names := map[string]string{} // of tools, by call id
	for i, m := range r.Messages {
		parts, err := m.parts()
		if err != nil {
			return c, wire.InvalidRequest("messages.%d.content: %s", i, err)
		}
		switch m.Role {
		case "system", "developer":
			system = append(system, store.Content(parts).String())
		case "user":
			if len(parts) == 0 {
				return c, wire.InvalidRequest("messages.%d.content: must not be empty", i)
			}
			c.messages = append(c.messages, store.Message{Role: store.RoleUser, Content: parts})
		case "assistant":
			for _, call := range m.ToolCalls {
				args := call.Function.Arguments
				if args == "" {
					args = "{}"
				}
				var obj wire.Raw
				if err := wire.Decode([]byte(args), &obj); err != nil || len(obj) == 0 || obj[0] != '{' {
					return c, wire.InvalidRequest("messages.%d.tool_calls: arguments of %q are not a JSON object", i, call.ID)
				}
				names[call.ID] = call.Function.Name
				parts = append(parts, store.Part{Type: store.PartToolCall, ID: call.ID, Name: call.Function.Name, Arguments: []byte(args)})
			}
			if len(parts) > 0 {
				c.messages = append(c.messages, store.Message{Role: store.RoleAssistant, Content: parts})
			}
		case "tool":
			if m.ToolCallID == "" {
				return c, wire.InvalidRequest("messages.%d: must have required property 'tool_call_id'", i)
			}
			c.messages = append(c.messages, store.Message{Role: store.RoleToolResult, ToolCallID: m.ToolCallID, ToolName: names[m.ToolCallID], Content: parts})
		default:
			return c, wire.InvalidRequest("messages.%d.role: must be one of system, developer, user, assistant, tool", i)
		}
	}
	c.system = strings.Join(system, "\n\n")
	return c, nil
}

// parts reads a content member: a string, a list of parts, or nothing.
func (m *completionMessage) parts() ([]store.Part, error) {
	if isNull(m.Content) {
		return nil, nil
	}
	if m.Content[0] == '"' {
		var s string
		if err := wire.Decode(m.Content, &s); err != nil || s == "" {
			return nil, err
		}
		return []store.Part{{Type: store.PartText, Text: s}}, nil
	}
	var list []completionPart
	if err := wire.DecodeLoose(m.Content, &list); err != nil {
		return nil, err
	}
	var out []store.Part
	for _, p := range list {
		switch {
		case p.Type == "text":
			out = append(out, store.Part{Type: store.PartText, Text: p.Text})
		case p.Type == "image_url" && p.ImageURL != nil:
			img, err := dataImage(p.ImageURL.URL)
			if err != nil {
				return nil, err
			}
			out = append(out, img)
		default:
			return nil, fmt.Errorf("unsupported part %q: use text or image_url", p.Type)
		}
	}
	return out, nil
}

// dataImage takes an image as a data: URL. Other URLs are refused:
// the gateway fetches nothing that a request names.
func dataImage(url string) (store.Part, error) {
	mime, data, ok := cutDataURL(url)
	if !ok || !imageType(mime) {
		return store.Part{}, errors.New("image_url must be a data: URL of a base64 PNG, JPEG, GIF or WebP image")
	}
	if !validBase64(data) {
		return store.Part{}, errors.New("image_url holds invalid base64")
	}
	return store.Part{Type: store.PartImage, MimeType: mime, Data: data}, nil
}

// cutDataURL takes a data: URL of base64 apart (RFC 2397).
func cutDataURL(url string) (mime, data string, ok bool) {
	rest, isData := strings.CutPrefix(url, "data:")
	mime, data, isB64 := strings.Cut(rest, ";base64,")
	return mime, data, isData && isB64
}

// imageType reports whether models take images of this type.
func imageType(mime string) bool {
	switch mime {
	case "image/png", "image/jpeg", "image/gif", "image/webp":
		return true
	}
	return false
}

// validBase64 checks standard base64 (RFC 4648 §4) without a decoded copy.
func validBase64(s string) bool {
	if s == "" || len(s)%4 != 0 {
		return false
	}
	_, err := io.Copy(io.Discard, base64.NewDecoder(base64.StdEncoding.Strict(), strings.NewReader(s)))
	return err == nil
}

func isNull(r wire.Raw) bool { return len(r) == 0 || string(r) == "null" }
