package store

import (
	"bytes"
	"encoding/json"
	"unicode/utf8"
)

// Roles of a Message.
const (
	RoleUser       = "user"
	RoleAssistant  = "assistant"
	RoleToolResult = "toolResult"
)

// Types of a Part.
const (
	PartText     = "text"
	PartThinking = "thinking"
	PartToolCall = "toolCall"
	PartImage    = "image"
)

// Message is one message of a conversation, as it stands in transcripts and as
// chat.history returns it.
type Message struct {
	Role    string  `json:"role"`
	Content Content `json:"content"`

	// Of an assistant's message.
	API          string `json:"api,omitempty"`
	Provider     string `json:"provider,omitempty"`
	Model        string `json:"model,omitempty"`
	Usage        *Usage `json:"usage,omitempty"`
	StopReason   string `json:"stopReason,omitempty"` // stop, length, toolUse, error or aborted
	ErrorMessage string `json:"errorMessage,omitempty"`

	Answer *Answer `json:"answer,omitempty"`
	Source string  `json:"source,omitempty"` // of a user's message: its name where it came from, so that it is said once

	// Of a tool's result.
	ToolCallID string          `json:"toolCallId,omitempty"`
	ToolName   string          `json:"toolName,omitempty"`
	Details    json.RawMessage `json:"details,omitempty"`
	IsError    bool            `json:"isError,omitempty"` // always written for a tool's result

	Timestamp int64 `json:"timestamp"` // milliseconds since 1970
}

// Answer is the name under which a client can go on from an assistant's message.
type Answer struct {
	ID     string `json:"id"`
	By     string `json:"by"`               // who asked for it
	System string `json:"system,omitempty"` // what the conversation's system messages said until then
}

// Content is a message's parts. In JSON it is written as an array and read from
// an array or from a string, which is one text part.
type Content []Part

// Text returns Content of one text part.
func Text(s string) Content { return Content{{Type: PartText, Text: s}} }

// String joins the text parts.
func (c Content) String() string {
	var b []byte
	for _, p := range c {
		if p.Type == PartText {
			b = append(b, p.Text...)
		}
	}
	return string(b)
}

// Clip returns at most n bytes of s, whole characters.
func Clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}

// Part is one piece of a message. Which fields count depends on Type.
type Part struct {
	Type string `json:"type"`

	Text     string `json:"text,omitempty"`
	Thinking string `json:"thinking,omitempty"`
	// ThinkingSignature is the provider's seal on Thinking; some providers want it back.
	ThinkingSignature string `json:"thinkingSignature,omitempty"`

	// A tool call. Arguments that are no JSON are kept as a JSON string.
	ID        string          `json:"id,omitempty"`
	Name      string          `json:"name,omitempty"`
	Arguments json.RawMessage `json:"arguments,omitempty"`

	// An image; Data is base64.
	MimeType string `json:"mimeType,omitempty"`
	Data     string `json:"data,omitempty"`

	raw json.RawMessage // a part of a type unknown here, kept as it came
}

// Usage counts the tokens of one answer.
type Usage struct {
	Input       int64 `json:"input"`
	Output      int64 `json:"output"`
	CacheRead   int64 `json:"cacheRead"`
	CacheWrite  int64 `json:"cacheWrite"`
	TotalTokens int64 `json:"totalTokens"`
	Cost        Cost  `json:"cost"`
}

// Cost is the price of one answer in US dollars.
type Cost struct {
	Input      float64 `json:"input"`
	Output     float64 `json:"output"`
	CacheRead  float64 `json:"cacheRead"`
	CacheWrite float64 `json:"cacheWrite"`
	Total      float64 `json:"total"`
}

// MarshalJSON writes what the message's role calls for, content as an array.
func (m Message) MarshalJSON() ([]byte, error) { return encode(m.shape()) }

// shape is a value that encodes as the message does, without a method of ours.
func (m *Message) shape() any {
	type plain Message
	out := struct {
		*plain
		Content []any `json:"content"`
		IsError *bool `json:"isError,omitempty"`
	}{plain: (*plain)(m), Content: m.Content.shapes()}
	if m.Role == RoleToolResult {
		out.IsError = &m.IsError
	}
	return &out
}

// MarshalJSON writes an array, also for no parts.
func (c Content) MarshalJSON() ([]byte, error) { return encode(c.shapes()) }

// shapes returns values that encode without a method of ours: nested
// MarshalJSON methods would have encoding/json scan an image once per level.
func (c Content) shapes() []any {
	out := make([]any, len(c))
	for i := range c {
		out[i] = c[i].shape()
	}
	return out
}

// UnmarshalJSON reads an array of parts or a string.
func (c *Content) UnmarshalJSON(data []byte) error {
	if len(data) > 0 && data[0] == '"' {
		var s string
		if err := json.Unmarshal(data, &s); err != nil {
			return err
		}
		*c = Text(s)
		return nil
	}
	return json.Unmarshal(data, (*[]Part)(c))
}

// MarshalJSON writes the fields that the part's type has, empty or not.
func (p Part) MarshalJSON() ([]byte, error) { return encode(p.shape()) }

func (p *Part) shape() any {
	switch p.Type {
	case PartText:
		return struct {
			Type string `json:"type"`
			Text string `json:"text"`
		}{p.Type, p.Text}
	case PartThinking:
		return struct {
			Type      string `json:"type"`
			Thinking  string `json:"thinking"`
			Signature string `json:"thinkingSignature,omitempty"`
		}{p.Type, p.Thinking, p.ThinkingSignature}
	case PartToolCall:
		arguments := p.Arguments
		if len(arguments) == 0 {
			arguments = json.RawMessage("{}")
		} else if !json.Valid(arguments) {
			arguments, _ = encode(string(arguments))
		}
		return struct {
			Type      string          `json:"type"`
			ID        string          `json:"id"`
			Name      string          `json:"name"`
			Arguments json.RawMessage `json:"arguments"`
		}{p.Type, p.ID, p.Name, arguments}
	}
	if p.raw != nil {
		return p.raw
	}
	type plain Part
	return (*plain)(p)
}

// UnmarshalJSON keeps the text of a part whose type is unknown here.
func (p *Part) UnmarshalJSON(data []byte) error {
	type plain Part
	*p = Part{}
	if err := json.Unmarshal(data, (*plain)(p)); err != nil {
		return err
	}
	switch p.Type {
	case PartText, PartThinking, PartToolCall, PartImage:
	default:
		p.raw = bytes.Clone(data)
	}
	return nil
}

// encode is json.Marshal without HTML escaping.
func encode(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}
