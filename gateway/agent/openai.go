package agent

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"unicode/utf8"
)

// openAI speaks the chat completions protocol, which OpenAI defined and most
// servers of local models understand, each with liberties of its own.
type openAI struct{ up *upstream }

func (c openAI) stream(ctx context.Context, r *modelRequest, emit func(delta)) (*modelResult, error) {
	a, err := c.up.post(ctx, r, func(base *url.URL, h http.Header) (string, []byte, error) {
		if !r.Model.APIKey.IsZero() {
			h.Set("Authorization", "Bearer "+r.Model.APIKey.Reveal())
		}
		body, err := openAIBody(r, base.Hostname())
		return "chat/completions", body, err
	})
	if err != nil {
		return nil, err
	}
	p := &openAIParser{draft: draft{emit: emit}, reply: a}
	return a.parse(&p.draft, p.event)
}

// An openAIParser turns chunks into a draft.
type openAIParser struct {
	draft
	reply *reply
	calls []openAICall
}

// An openAICall is a tool call by the index that its fragments carry.
type openAICall struct {
	index int
	id    string
	block *block
}

// event reads one chunk, or a whole answer where the server does not stream.
func (p *openAIParser) event(_, data []byte) (done bool, err error) {
	data = bytes.TrimSpace(data)
	if string(data) == "[DONE]" {
		switch {
		case p.stop != "":
		case len(p.blocks) == 0:
			return false, p.reply.request.broken("the provider ended the stream without an answer")
		default: // it gave no reason, but said in so many words that this is all
			p.stop = stopEnd
		}
		return true, nil
	}
	if len(data) == 0 {
		return false, nil
	}
	var c openAIChunk
	if err := decode(data, &c); err != nil {
		return false, err
	}
	if len(c.Error) > 0 && string(c.Error) != "null" || c.Object == "error" {
		return false, p.reply.request.fault(data)
	}
	if c.Usage != nil {
		c.Usage.count(&p.draft)
	}
	if len(c.Choices) == 0 {
		return false, nil
	}
	choice := &c.Choices[0]
	for _, m := range [...]*openAIMessage{&choice.Delta, &choice.Message} {
		if err := p.message(m); err != nil {
			return false, err
		}
	}
	if choice.Usage != nil {
		choice.Usage.count(&p.draft)
	}
	if choice.FinishReason == "" {
		return false, nil
	}
	switch choice.FinishReason {
	case "length", "max_tokens":
		p.stop = stopLength
	case "tool_calls", "function_call":
		p.stop = stopTool
	case "content_filter":
		return false, p.reply.request.failf(0, "the provider's content filter stopped the answer")
	case "error":
		return false, p.reply.request.broken("the provider ended the answer with an error")
	default:
		p.stop = stopEnd
	}
	p.reply.idle = afterStop
	return false, nil
}

func (p *openAIParser) message(m *openAIMessage) error {
	// Some send their reasoning under both names.
	if err := p.say(blockThinking, string(cmp.Or(m.ReasoningContent, m.Reasoning))); err != nil {
		return err
	}
	if err := p.say(blockText, string(cmp.Or(m.Content, m.Refusal))); err != nil {
		return err
	}
	for i := range m.ToolCalls {
		if err := p.toolCall(&m.ToolCalls[i]); err != nil {
			return err
		}
	}
	return nil
}

// toolCall adds a fragment to the call it belongs to: the newest of its index,
// unless its id tells that it begins another (some servers number every call
// 0), or the newest of all when there is no index.
func (p *openAIParser) toolCall(t *openAIToolCall) error {
	var call *openAICall
	for i := len(p.calls) - 1; i >= 0 && call == nil; i-- {
		if t.Index == nil || p.calls[i].index == *t.Index {
			call = &p.calls[i]
		}
	}
	another := call == nil ||
		t.ID != "" && call.id != "" && t.ID != call.id ||
		t.ID == "" && t.Index == nil && t.Function.Name != ""
	if another {
		if t.Function.Name == "" {
			return errors.New("tool call without a name")
		}
		b, err := p.beginCall(t.ID, t.Function.Name)
		if err != nil {
			return err
		}
		index := len(p.calls)
		if t.Index != nil {
			index = *t.Index
		}
		p.calls = append(p.calls, openAICall{index, t.ID, b})
		call = &p.calls[len(p.calls)-1]
	}
	return p.add(call.block, string(t.Function.Arguments))
}

// An openAIChunk is one event of a stream, and a whole answer too.
type openAIChunk struct {
	Object  string `json:"object"`
	Choices []struct {
		Delta        openAIMessage `json:"delta"`
		Message      openAIMessage `json:"message"`
		FinishReason string        `json:"finish_reason"`
		Usage        *openAIUsage  `json:"usage"` // Moonshot's place for it
	} `json:"choices"`
	Usage *openAIUsage    `json:"usage"`
	Error json.RawMessage `json:"error"`
}

type openAIMessage struct {
	Content          looseText        `json:"content"`
	Refusal          looseText        `json:"refusal"`
	ReasoningContent looseText        `json:"reasoning_content"` // DeepSeek, llama.cpp, vLLM, LM Studio
	Reasoning        looseText        `json:"reasoning"`         // OpenRouter, Ollama, newer vLLM
	ToolCalls        []openAIToolCall `json:"tool_calls"`
}

// An openAIToolCall is a call that is sent, or a fragment of one that comes.
type openAIToolCall struct {
	Index    *int   `json:"index,omitempty"`
	ID       string `json:"id"`
	Type     string `json:"type"`
	Function struct {
		Name      string        `json:"name"`
		Arguments looseArgument `json:"arguments"`
	} `json:"function"`
}

type openAIUsage struct {
	Prompt     int64 `json:"prompt_tokens"`
	Completion int64 `json:"completion_tokens"`
	Total      int64 `json:"total_tokens"`
	Details    struct {
		Cached     int64 `json:"cached_tokens"`
		CacheWrite int64 `json:"cache_write_tokens"`
	} `json:"prompt_tokens_details"`
}

// count replaces d's usage: a stream's later numbers include the earlier. The
// prompt's tokens include the cached ones here, but not in a transcript.
func (u *openAIUsage) count(d *draft) {
	read, write := max(u.Details.Cached, 0), max(u.Details.CacheWrite, 0)
	d.usage.Input = max(u.Prompt-read-write, 0)
	d.usage.Output = max(u.Completion, 0)
	d.usage.CacheRead, d.usage.CacheWrite = read, write
	d.usage.TotalTokens = max(u.Total, 0)
}

// A looseText is a string, null, or an array of {type:"text",text} objects.
type looseText string

// UnmarshalJSON reads t; what is none of the three is the empty string.
func (t *looseText) UnmarshalJSON(b []byte) error {
	switch b[0] {
	case '"':
		return unquote(b, (*string)(t))
	case '[':
		var parts []struct {
			Text string `json:"text"`
		}
		if json.Unmarshal(b, &parts) == nil {
			var all strings.Builder
			for _, p := range parts {
				all.WriteString(p.Text)
			}
			*t = looseText(all.String())
		}
	}
	return nil
}

// A looseArgument is a fragment of JSON text in a string, or an object itself.
type looseArgument string

// UnmarshalJSON reads t.
func (t *looseArgument) UnmarshalJSON(b []byte) error {
	switch b[0] {
	case '"':
		return unquote(b, (*string)(t))
	case '{':
		*t = looseArgument(b)
	}
	return nil
}

// unquote reads a JSON string that is known to be valid. Most pieces of an
// answer need no second pass.
func unquote(b []byte, to *string) error {
	if inner := b[1 : len(b)-1]; bytes.IndexByte(inner, '\\') < 0 && utf8.Valid(inner) {
		*to = string(inner)
		return nil
	}
	return json.Unmarshal(b, to)
}
