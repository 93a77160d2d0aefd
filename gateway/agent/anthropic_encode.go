package agent

import (
	"encoding/json"
	"strings"

	"openclaw/gateway/store"
	"openclaw/reload/config"
)

type anthropicRequest struct {
	Model       string          `json:"model"`
	MaxTokens   int             `json:"max_tokens"`
	System      []sentBlock     `json:"system,omitempty"`
	Messages    []anthropicTurn `json:"messages"`
	Stream      bool            `json:"stream"`
	Tools       []anthropicTool `json:"tools,omitempty"`
	ToolChoice  *anthropicPick  `json:"tool_choice,omitempty"`
	Temperature *float64        `json:"temperature,omitempty"`
	TopP        *float64        `json:"top_p,omitempty"`
	Stop        []string        `json:"stop_sequences,omitempty"`
}

type anthropicTurn struct {
	Role    string      `json:"role"`
	Content []sentBlock `json:"content"`
}

// A sentBlock is a content block of any type; the fields of others are absent.
type sentBlock struct {
	Type      string          `json:"type"`
	Text      string          `json:"text,omitempty"`
	Thinking  string          `json:"thinking,omitempty"`
	Signature string          `json:"signature,omitempty"`
	Source    *imageSource    `json:"source,omitempty"`
	ID        string          `json:"id,omitempty"`
	Name      string          `json:"name,omitempty"`
	Input     json.RawMessage `json:"input,omitempty"`
	ToolUseID string          `json:"tool_use_id,omitempty"`
	Content   []sentBlock     `json:"content,omitempty"`
	IsError   bool            `json:"is_error,omitempty"`
	Cache     *cacheControl   `json:"cache_control,omitempty"`
}

type imageSource struct {
	Type      string `json:"type"`
	MediaType string `json:"media_type"`
	Data      string `json:"data"`
}

type cacheControl struct {
	Type string `json:"type"`
}

type anthropicTool struct {
	Name        string          `json:"name"`
	Description string          `json:"description,omitempty"`
	InputSchema json.RawMessage `json:"input_schema"`
	Strict      bool            `json:"strict,omitempty"`
}

type anthropicPick struct {
	Type    string `json:"type"`
	Name    string `json:"name,omitempty"`
	OneCall bool   `json:"disable_parallel_tool_use,omitempty"`
}

func anthropicBody(r *modelRequest) ([]byte, error) {
	q := anthropicRequest{
		Model:       r.Model.ID,
		MaxTokens:   max(r.MaxTokens, 1), // required
		Messages:    anthropicTurns(r),
		Stream:      true,
		Temperature: r.Temperature,
		TopP:        r.TopP,
	}
	if t := r.Temperature; t != nil {
		// The scale ends at 1 here and at 2 in OpenAI's protocol, and newer
		// models take one of the two only.
		t := min(*t, 1)
		q.Temperature, q.TopP = &t, nil
	}
	if r.System != "" {
		q.System = []sentBlock{{Type: "text", Text: r.System}}
	}
	for _, s := range r.Stop {
		if strings.TrimSpace(s) != "" { // others are refused
			q.Stop = append(q.Stop, s)
		}
	}
	for _, t := range r.Tools {
		params, err := schema(r, t)
		if err != nil {
			return nil, err
		}
		q.Tools = append(q.Tools, anthropicTool{t.Name, t.Description, params, t.Strict})
	}
	if len(q.Tools) > 0 {
		pick, err := anthropicChoice(r)
		if err != nil {
			return nil, err
		}
		q.ToolChoice = pick
	}
	if r.SessionKey != "" {
		// The next turn begins with all of this one, so its being cached pays.
		mark := &cacheControl{"ephemeral"}
		if n := len(q.System); n > 0 {
			q.System[n-1].Cache = mark
		}
		if n := len(q.Messages); n > 0 {
			last := q.Messages[n-1].Content
			if b := &last[len(last)-1]; b.Type != "thinking" { // which may not be marked
				b.Cache = mark
			}
		}
	}
	return mustJSON(q), nil
}

// anthropicChoice translates OpenAI's tool_choice; nil is to say nothing.
func anthropicChoice(r *modelRequest) (*anthropicPick, error) {
	word, name, err := toolChoice(r)
	pick := &anthropicPick{Type: word, Name: name}
	switch {
	case err != nil || word == "" && name == "" && !r.OneCall:
		return nil, err
	case name != "":
		pick.Type = "tool"
	case word == "required":
		pick.Type = "any"
	case word == "":
		pick.Type = "auto"
	}
	pick.OneCall = r.OneCall && word != "none"
	return pick, nil
}

// toolChoice reads OpenAI's tool_choice: auto, none or required, or the name
// of a function; neither where there is none.
func toolChoice(r *modelRequest) (word, name string, err error) {
	if len(r.ToolChoice) == 0 {
		return "", "", nil
	}
	if json.Unmarshal(r.ToolChoice, &word) == nil {
		switch word {
		case "", "auto", "none", "required": // the first is null
			return word, "", nil
		}
	}
	var named struct {
		Function struct {
			Name string `json:"name"`
		} `json:"function"`
	}
	if json.Unmarshal(r.ToolChoice, &named) != nil || named.Function.Name == "" {
		return "", "", r.failf(0, `tool_choice must be "auto", "none", "required" or name a function`)
	}
	return "", named.Function.Name, nil
}

// anthropicTurns makes alternating turns of user and assistant, the first the
// user's, out of messages that may repeat a role or begin anywhere. Results of
// tools are a user's turn.
func anthropicTurns(r *modelRequest) []anthropicTurn {
	var turns []anthropicTurn
	add := func(role string, blocks ...sentBlock) {
		if len(blocks) == 0 {
			return
		}
		if len(turns) == 0 && role != store.RoleUser {
			turns = append(turns, anthropicTurn{store.RoleUser, []sentBlock{{Type: "text", Text: "(earlier messages are left out)"}}})
		}
		if n := len(turns); n > 0 && turns[n-1].Role == role {
			turns[n-1].Content = append(turns[n-1].Content, blocks...)
			return
		}
		turns = append(turns, anthropicTurn{role, blocks})
	}
	for i := range r.Messages {
		m := &r.Messages[i]
		switch m.Role {
		case store.RoleUser:
			add(store.RoleUser, shownBlocks(r, m.Content)...)
		case store.RoleAssistant:
			add(store.RoleAssistant, assistantBlocks(r, m)...)
		case store.RoleToolResult:
			add(store.RoleUser, sentBlock{
				Type: "tool_result", ToolUseID: anthropicID(m.ToolCallID),
				Content: shownBlocks(r, m.Content), IsError: m.IsError,
			})
		}
	}
	return turns
}

func assistantBlocks(r *modelRequest, m *store.Message) []sentBlock {
	// A signature holds for the model that made it.
	sealed := m.API == config.APIAnthropicMessages && m.Provider == r.Model.Provider && m.Model == r.Model.ID
	var blocks []sentBlock
	for _, p := range m.Content {
		switch {
		case p.Type == store.PartText && strings.TrimSpace(p.Text) != "":
			blocks = append(blocks, sentBlock{Type: "text", Text: p.Text})
		case p.Type == store.PartThinking && sealed && p.Thinking != "" && p.ThinkingSignature != "":
			blocks = append(blocks, sentBlock{Type: "thinking", Thinking: p.Thinking, Signature: p.ThinkingSignature})
		case p.Type == store.PartToolCall:
			input := json.RawMessage(sentArguments(p.Arguments))
			if len(input) == 0 || input[0] != '{' || !json.Valid(input) {
				// It must be an object, though the model wrote something else.
				input = mustJSON(map[string]string{"arguments": string(input)})
			}
			blocks = append(blocks, sentBlock{Type: "tool_use", ID: anthropicID(p.ID), Name: p.Name, Input: input})
		}
	}
	return blocks
}

func shownBlocks(r *modelRequest, content store.Content) []sentBlock {
	var blocks []sentBlock
	for _, p := range visible(r, content) {
		switch {
		case isImage(p):
			blocks = append(blocks, sentBlock{Type: "image", Source: &imageSource{"base64", p.MimeType, p.Data}})
		case strings.TrimSpace(p.Text) != "": // blank text is refused
			blocks = append(blocks, sentBlock{Type: "text", Text: p.Text})
		}
	}
	return blocks
}

// anthropicID makes another protocol's tool call id acceptable, the same way
// for a call and its result: letters, digits, _ and -, at most 64.
func anthropicID(id string) string {
	id = strings.Map(func(c rune) rune {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '_', c == '-':
			return c
		}
		return '_'
	}, id)
	return id[:min(len(id), 64)]
}
