package agent

import (
	"encoding/json"
	"slices"
	"strings"

	"openclaw/gateway/store"
)

type openAIRequest struct {
	Model         string       `json:"model"`
	Messages      []openAITurn `json:"messages"`
	Stream        bool         `json:"stream"`
	StreamOptions struct {
		IncludeUsage bool `json:"include_usage"`
	} `json:"stream_options"`
	Tools         []openAITool    `json:"tools,omitempty"`
	ToolChoice    json.RawMessage `json:"tool_choice,omitempty"`
	Parallel      *bool           `json:"parallel_tool_calls,omitempty"`
	MaxCompletion int             `json:"max_completion_tokens,omitempty"`
	MaxTokens     int             `json:"max_tokens,omitempty"`
	Temperature   *float64        `json:"temperature,omitempty"`
	TopP          *float64        `json:"top_p,omitempty"`
	Stop          []string        `json:"stop,omitempty"`
}

// An openAITurn is a message. Content is a string, []openAIPart or nil.
type openAITurn struct {
	Role       string           `json:"role"`
	Content    any              `json:"content"`
	ToolCalls  []openAIToolCall `json:"tool_calls,omitempty"`
	ToolCallID string           `json:"tool_call_id,omitempty"`
}

type openAIPart struct {
	Type     string    `json:"type"`
	Text     string    `json:"text,omitempty"`
	ImageURL *imageURL `json:"image_url,omitempty"`
}

type imageURL struct {
	URL string `json:"url"`
}

type openAITool struct {
	Type     string         `json:"type"`
	Function openAIFunction `json:"function"`
}

type openAIFunction struct {
	Name        string          `json:"name"`
	Description string          `json:"description,omitempty"`
	Parameters  json.RawMessage `json:"parameters"`
	Strict      bool            `json:"strict,omitempty"`
}

// openAIBody encodes r for the server at host.
func openAIBody(r *modelRequest, host string) ([]byte, error) {
	q := openAIRequest{
		Model:       r.Model.ID,
		Stream:      true,
		Temperature: r.Temperature,
		TopP:        r.TopP,
		Stop:        r.Stop,
	}
	q.StreamOptions.IncludeUsage = true
	// OpenAI's (and Azure's) newer models refuse max_tokens, and both names at
	// once are refused too. The others grew up with max_tokens: Ollama knows no
	// other name; llama.cpp, vLLM, LM Studio and OpenRouter take it.
	if isOpenAI(host) {
		q.MaxCompletion = r.MaxTokens
		if r.Model.Reasoning {
			q.Temperature, q.TopP = nil, nil // refused by models that reason
		}
	} else {
		q.MaxTokens = r.MaxTokens
	}
	for _, t := range r.Tools {
		params, err := schema(r, t)
		if err != nil {
			return nil, err
		}
		q.Tools = append(q.Tools, openAITool{"function", openAIFunction{t.Name, t.Description, params, t.Strict}})
	}
	if len(q.Tools) > 0 && len(r.ToolChoice) > 0 {
		if !json.Valid(r.ToolChoice) {
			return nil, r.failf(0, "tool_choice is not JSON")
		}
		q.ToolChoice = r.ToolChoice
	}
	if len(q.Tools) > 0 {
		q.Parallel = oneCall(r)
	}
	q.Messages = openAIMessages(r)
	return mustJSON(q), nil
}

// isOpenAI reports whether host is OpenAI's own, or Azure's.
func isOpenAI(host string) bool {
	return host == "api.openai.com" || strings.HasSuffix(host, ".openai.azure.com")
}

// oneCall is parallel_tool_calls: absent where it makes no difference, as not
// every server knows it.
func oneCall(r *modelRequest) *bool {
	if r.OneCall {
		return new(bool)
	}
	return nil
}

// schema is t's parameters, which some servers insist on.
func schema(r *modelRequest, t Tool) (json.RawMessage, error) {
	if len(t.Parameters) == 0 {
		return json.RawMessage(`{"type":"object","properties":{}}`), nil
	}
	if !json.Valid(t.Parameters) {
		return nil, r.failf(0, "parameters of tool %q are not JSON", t.Name)
	}
	return t.Parameters, nil
}

func openAIMessages(r *modelRequest) []openAITurn {
	list := make([]openAITurn, 0, len(r.Messages)+1)
	if r.System != "" {
		// Not "developer": OpenAI takes both, the others only this.
		list = append(list, openAITurn{Role: "system", Content: r.System})
	}
	var shown []openAIPart // images of tool results, which only a user's message may carry
	for i := range r.Messages {
		m := &r.Messages[i]
		switch m.Role {
		case store.RoleUser:
			if c := openAIContent(r, m.Content); c != nil {
				list = append(list, openAITurn{Role: "user", Content: c})
			}
		case store.RoleAssistant:
			t := openAITurn{Role: "assistant"}
			if text := joinText(m.Content); text != "" {
				t.Content = text
			}
			for _, p := range m.Content {
				if p.Type == store.PartToolCall {
					call := openAIToolCall{ID: p.ID, Type: "function"}
					call.Function.Name, call.Function.Arguments = p.Name, looseArgument(sentArguments(p.Arguments))
					t.ToolCalls = append(t.ToolCalls, call)
				}
			}
			if t.Content != nil || len(t.ToolCalls) > 0 {
				list = append(list, t)
			}
		case store.RoleToolResult:
			seen := visible(r, m.Content)
			for _, p := range seen {
				if isImage(p) {
					shown = append(shown, openAIImage(p))
				}
			}
			list = append(list, openAITurn{Role: "tool", Content: joinText(seen), ToolCallID: m.ToolCallID})
			// All results of one answer must follow it without a gap.
			if more := i+1 < len(r.Messages) && r.Messages[i+1].Role == store.RoleToolResult; !more && shown != nil {
				parts := append([]openAIPart{{Type: "text", Text: "Images from the tool results above:"}}, shown...)
				list, shown = append(list, openAITurn{Role: "user", Content: parts}), nil
			}
		}
	}
	return list
}

// openAIContent is a user's content: a plain string where it can be, as many
// servers of local models know nothing else, or nil if there is none.
func openAIContent(r *modelRequest, content store.Content) any {
	seen := visible(r, content)
	if !slices.ContainsFunc(seen, isImage) {
		if text := joinText(seen); text != "" {
			return text
		}
		return nil
	}
	parts := make([]openAIPart, len(seen))
	for i, p := range seen {
		if parts[i] = (openAIPart{Type: "text", Text: p.Text}); isImage(p) {
			parts[i] = openAIImage(p)
		}
	}
	return parts
}

func openAIImage(p store.Part) openAIPart {
	return openAIPart{Type: "image_url", ImageURL: &imageURL{dataURL(p)}}
}

// dataURL is an image as a URL (RFC 2397).
func dataURL(p store.Part) string { return "data:" + p.MimeType + ";base64," + p.Data }

func isImage(p store.Part) bool { return p.Type == store.PartImage }

// visible is the text and images of content that the model can take, with a
// word in place of each image that it cannot: refusing the whole conversation
// because of an old image would help nobody.
func visible(r *modelRequest, content store.Content) []store.Part {
	var list []store.Part
	for _, p := range content {
		switch {
		case p.Type == store.PartText && p.Text != "":
			list = append(list, p)
		case isImage(p) && r.Model.Images:
			list = append(list, p)
		case isImage(p):
			list = append(list, store.Part{Type: store.PartText, Text: "[image left out: this model takes only text]"})
		}
	}
	return list
}

// joinText is the text of content.
func joinText(content store.Content) string {
	var list []string
	for _, p := range content {
		if p.Type == store.PartText && p.Text != "" {
			list = append(list, p.Text)
		}
	}
	return strings.Join(list, "\n")
}
