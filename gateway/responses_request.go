package gateway

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"openclaw/gateway/agent"
	"openclaw/gateway/store"
	"openclaw/wire"
)

// maxInputFile bounds one file of a request, in bytes of its base64.
const maxInputFile = 7 << 20

// responseRequest is the body of POST /v1/responses as OpenResponses has it.
// What it does not name is tolerated and without effect.
type responseRequest struct {
	Model              string            `json:"model" wire:"required"`
	Input              wire.Raw          `json:"input" wire:"required"` // a string, or a list of responseItem
	Instructions       *string           `json:"instructions"`
	PreviousResponseID *string           `json:"previous_response_id"`
	Tools              []responseTool    `json:"tools"`
	ToolChoice         wire.Raw          `json:"tool_choice"`
	ParallelToolCalls  *bool             `json:"parallel_tool_calls"`
	MaxToolCalls       *int              `json:"max_tool_calls" wire:"min=1"`
	MaxOutputTokens    *int              `json:"max_output_tokens" wire:"min=1"`
	Temperature        *float64          `json:"temperature" wire:"min=0,max=2"`
	TopP               *float64          `json:"top_p" wire:"min=0,max=1"`
	Truncation         string            `json:"truncation" wire:"oneof=auto|disabled"`
	Text               responseText      `json:"text"`
	Stream             bool              `json:"stream"`
	Store              *bool             `json:"store"`
	Background         bool              `json:"background"`
	Metadata           map[string]string `json:"metadata"`
	User               *string           `json:"user"`
	SafetyIdentifier   *string           `json:"safety_identifier"`
	PromptCacheKey     *string           `json:"prompt_cache_key"`
}

type responseText struct {
	Format struct {
		Type string `json:"type"`
	} `json:"format"`
}

// responseTool is a function, in the flat shape or in that of chat completions.
type responseTool struct {
	Type        string        `json:"type"`
	Name        string        `json:"name" wire:"id"`
	Description *string       `json:"description"`
	Parameters  wire.Raw      `json:"parameters"`
	Strict      *bool         `json:"strict"`
	Function    *responseTool `json:"function,omitempty"`
}

// responseItem is an item of the input, of any type.
type responseItem struct {
	Type      string   `json:"type"`
	Role      string   `json:"role"`
	Content   wire.Raw `json:"content"`
	CallID    string   `json:"call_id" wire:"id"`
	Name      string   `json:"name" wire:"id"`
	Arguments string   `json:"arguments"`
	Output    wire.Raw `json:"output"`
}

type responsePart struct {
	Type     string `json:"type" wire:"required"`
	Text     string `json:"text"`
	Refusal  string `json:"refusal"`
	ImageURL string `json:"image_url"`
	FileData string `json:"file_data"`
	Filename string `json:"filename"`
	FileURL  string `json:"file_url"`
}

// stored reports whether the response is to be kept, as it is unless refused.
func (r *responseRequest) stored() bool { return r.Store == nil || *r.Store }

// turn maps a request to a turn. Where it falls short the error names the
// place in the body.
func (r *responseRequest) turn() (t agent.Turn, err error) {
	switch f := r.Text.Format.Type; {
	case r.Background:
		return t, wire.InvalidRequest("background: responses are not made in the background")
	case f != "" && f != "text":
		return t, wire.InvalidRequest("text.format.type: only text is offered")
	case len(r.Metadata) > 16:
		return t, wire.InvalidRequest("metadata: must not have more than 16 members")
	}
	for k, v := range r.Metadata {
		if len(k) > 64 || len(v) > 512 {
			return t, wire.InvalidRequest("metadata: keys have at most 64 characters, values 512")
		}
	}
	conv, err := r.conversation()
	if err == nil {
		err = conv.into(&t, "input")
	}
	if err != nil {
		return t, err
	}
	for i := range r.Tools {
		f := &r.Tools[i]
		if f.Type != "function" {
			return t, wire.InvalidRequest("tools.%d.type: only function tools are offered", i)
		}
		if f.Function != nil {
			*f = *f.Function
			f.Type, f.Function = "function", nil
		}
		if f.Name == "" {
			return t, wire.InvalidRequest("tools.%d: must have required property 'name'", i)
		}
		tool := agent.Tool{Name: f.Name, Strict: f.Strict != nil && *f.Strict}
		if f.Description != nil {
			tool.Description = *f.Description
		}
		if !isNull(f.Parameters) {
			tool.Parameters = []byte(f.Parameters)
		}
		t.Tools = append(t.Tools, tool)
	}
	if err := r.choose(&t); err != nil {
		return t, err
	}
	if r.MaxOutputTokens != nil {
		t.MaxTokens = *r.MaxOutputTokens
	}
	t.OneCall = r.ParallelToolCalls != nil && !*r.ParallelToolCalls
	t.Whole = r.Truncation == "disabled"
	t.Temperature, t.TopP = r.Temperature, r.TopP
	return t, nil
}

// choose reads tool_choice, which here names a function in a flat shape or
// narrows the tools down.
func (r *responseRequest) choose(t *agent.Turn) error {
	var word string
	switch {
	case isNull(r.ToolChoice):
		return nil
	case r.ToolChoice[0] == '"' && wire.Decode(r.ToolChoice, &word) == nil && isChoice(word):
		t.ToolChoice = []byte(r.ToolChoice)
		return nil
	}
	var c struct {
		Type     string `json:"type" wire:"required"`
		Name     string `json:"name"`
		Function struct {
			Name string `json:"name"`
		} `json:"function"`
		Mode  string         `json:"mode"`
		Tools []responseTool `json:"tools"`
	}
	wrong := wire.InvalidRequest("tool_choice: must be auto, none, required, or name functions of tools")
	if err := wire.DecodeLoose(r.ToolChoice, &c); err != nil {
		return wrong
	}
	named := make([]map[string]string, 0, len(c.Tools)) // as the response repeats them
	allowed := map[string]bool{}
	if c.Type == "function" {
		c.Tools = []responseTool{{Name: cmp.Or(c.Name, c.Function.Name)}}
	}
	for _, f := range c.Tools {
		if !slices.ContainsFunc(t.Tools, func(known agent.Tool) bool { return known.Name == f.Name }) {
			return wrong
		}
		allowed[f.Name] = true
		named = append(named, map[string]string{"type": "function", "name": f.Name})
	}
	var err error
	switch c.Mode = cmp.Or(c.Mode, "auto"); {
	case c.Type == "function":
		if t.ToolChoice, err = wire.Marshal(map[string]any{"type": "function", "function": map[string]string{"name": c.Tools[0].Name}}); err == nil {
			r.ToolChoice, err = wire.Marshal(named[0])
		}
		return err
	case c.Type == "allowed_tools" && isChoice(c.Mode) && len(named) > 0:
		t.Tools = slices.DeleteFunc(t.Tools, func(f agent.Tool) bool { return !allowed[f.Name] })
		t.ToolChoice = []byte(`"` + c.Mode + `"`)
		r.ToolChoice, err = wire.Marshal(map[string]any{"type": c.Type, "mode": c.Mode, "tools": named})
		return err
	}
	return wrong
}

func isChoice(word string) bool { return word == "auto" || word == "none" || word == "required" }

func (r *responseRequest) conversation() (c conversation, err error) {
	if len(r.Input) > 0 && r.Input[0] == '"' {
		parts, err := contentOf(r.Input, responsePart.part)
		if err == nil {
			err = c.say("user", parts, false)
		}
		if err != nil {
			return c, wire.InvalidRequest("input: %s", err)
		}
		return c, nil
	}
	var items []responseItem
	if err := wire.DecodeLoose(r.Input, &items); err != nil {
		return c, wire.InvalidRequest("input: %s", err)
	}
	for i, it := range items {
		if err := it.into(&c); err != nil {
			return c, wire.InvalidRequest("input.%d.%s", i, err)
		}
	}
	return c, nil
}

// into adds an item to a conversation.
func (it *responseItem) into(c *conversation) error {
	switch it.Type {
	case "message", "":
		parts, err := contentOf(it.Content, responsePart.part)
		if err != nil {
			return fmt.Errorf("content: %s", err)
		}
		switch it.Role {
		case "user":
		case "assistant", "system", "developer":
			if slices.ContainsFunc(parts, func(p store.Part) bool { return p.Type != store.PartText }) {
				return errors.New("content: only a user shows images")
			}
		default:
			return errors.New("role: must be one of system, developer, user, assistant")
		}
		return c.say(it.Role, parts, false)
	case "function_call":
		if it.CallID == "" || it.Name == "" {
			return errors.New("call_id: a function_call needs call_id and name")
		}
		if err := c.call(it.CallID, it.Name, it.Arguments); err != nil {
			return fmt.Errorf("arguments: %s", err)
		}
		return nil
	case "function_call_output":
		parts, err := contentOf(it.Output, responsePart.part)
		if err != nil {
			return fmt.Errorf("output: %s", err)
		}
		if it.CallID == "" {
			return errors.New("call_id: a function_call_output needs the call_id of its call")
		}
		c.result(it.CallID, parts)
		return nil
	case "reasoning": // thoughts are not given back to models: only their maker could check them
		return nil
	case "item_reference":
		return errors.New("type: items are not kept by id: send them whole, or use previous_response_id")
	}
	return fmt.Errorf("type: unsupported item %q", store.Clip(it.Type, 64))
}

// part takes a part of any content. What stands elsewhere is not fetched.
func (p responsePart) part() (store.Part, error) {
	switch p.Type {
	case "input_text", "output_text":
		return store.Part{Type: store.PartText, Text: p.Text}, nil
	case "refusal":
		return store.Part{Type: store.PartText, Text: p.Refusal}, nil
	case "input_image":
		return dataImage(p.ImageURL)
	case "input_file":
		f := wire.Attachment{FileName: p.Filename, Content: p.FileData, MimeType: "text/plain"}
		if mime, data, ok := cutDataURL(f.Content); ok {
			f.MimeType, f.Content = mime, data
		}
		switch {
		case p.FileURL != "" || f.Content == "":
			return store.Part{}, errors.New("input_file must hold its file_data: files are neither fetched nor kept")
		case len(f.Content) > maxInputFile:
			return store.Part{}, fmt.Errorf("file %q is larger than %d MiB of base64", store.Clip(f.FileName, 64), maxInputFile>>20)
		}
		made, err := attachment(f)
		if err != nil {
			err = fmt.Errorf("file %q: %w", store.Clip(f.FileName, 64), err)
		}
		return made, err
	}
	return store.Part{}, fmt.Errorf("unsupported part %q: use input_text, input_image or input_file", store.Clip(p.Type, 64))
}
