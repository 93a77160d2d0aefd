package agent

import (
	"context"
	"net/http"
	"net/url"
	"strings"
)

// anthropic speaks Anthropic's messages protocol. The base URL may end in /v1
// or leave it out.
type anthropic struct{ up *upstream }

func (c anthropic) stream(ctx context.Context, r *modelRequest, emit func(delta)) (*modelResult, error) {
	a, err := c.up.post(ctx, r, func(base *url.URL, h http.Header) (string, []byte, error) {
		h.Set("Anthropic-Version", "2023-06-01")
		if !r.Model.APIKey.IsZero() {
			h.Set("X-Api-Key", r.Model.APIKey.Reveal())
		}
		path := "v1/messages"
		if strings.HasSuffix(strings.TrimRight(base.Path, "/"), "/v1") {
			path = "messages"
		}
		body, err := anthropicBody(r)
		return path, body, err
	})
	if err != nil {
		return nil, err
	}
	p := &anthropicParser{draft: draft{emit: emit}, reply: a}
	return a.parse(&p.draft, p.event)
}

// An anthropicParser turns events into a draft. A content block begins,
// grows and ends under its index; blocks of a kind not known here are skipped.
type anthropicParser struct {
	draft
	reply *reply
	index int
	block *block // of index, nil between blocks and in a skipped one
}

type anthropicEvent struct {
	Type    string `json:"type"`
	Index   int    `json:"index"`
	Message struct {
		Usage *anthropicUsage `json:"usage"`
	} `json:"message"`
	Block anthropicBlock `json:"content_block"`
	Delta struct {
		Type        string `json:"type"`
		Text        string `json:"text"`
		Thinking    string `json:"thinking"`
		Signature   string `json:"signature"`
		PartialJSON string `json:"partial_json"`
		StopReason  string `json:"stop_reason"`
	} `json:"delta"`
	Usage *anthropicUsage `json:"usage"`

	// Of a whole message, where the server does not stream.
	Content    []anthropicBlock `json:"content"`
	StopReason string           `json:"stop_reason"`
}

type anthropicBlock struct {
	Type      string        `json:"type"`
	Text      string        `json:"text"`
	Thinking  string        `json:"thinking"`
	Signature string        `json:"signature"`
	ID        string        `json:"id"`
	Name      string        `json:"name"`
	Input     looseArgument `json:"input"`
}

// In a stream the numbers are totals so far, and an absent one is unchanged.
type anthropicUsage struct {
	Input      *int64 `json:"input_tokens"`
	Output     *int64 `json:"output_tokens"`
	CacheRead  *int64 `json:"cache_read_input_tokens"`
	CacheWrite *int64 `json:"cache_creation_input_tokens"`
}

func (u *anthropicUsage) count(d *draft) {
	if u == nil {
		return
	}
	set := func(to *int64, n *int64) {
		if n != nil {
			*to = max(*n, 0)
		}
	}
	set(&d.usage.Input, u.Input)
	set(&d.usage.Output, u.Output)
	set(&d.usage.CacheRead, u.CacheRead)
	set(&d.usage.CacheWrite, u.CacheWrite)
}

func (p *anthropicParser) event(name, data []byte) (done bool, err error) {
	var e anthropicEvent
	if err := decode(data, &e); err != nil {
		if string(name) == "error" {
			return false, p.reply.request.fault(data)
		}
		return false, err
	}
	switch e.Type {
	case "message_start":
		e.Message.Usage.count(&p.draft)
	case "content_block_start":
		p.block, p.index = nil, e.Index
		return false, p.begin(&e.Block)
	case "content_block_delta":
		if p.block == nil || e.Index != p.index {
			return false, nil
		}
		switch {
		case e.Delta.Type == "text_delta" && p.block.kind == blockText:
			err = p.add(p.block, e.Delta.Text)
		case e.Delta.Type == "thinking_delta" && p.block.kind == blockThinking:
			err = p.add(p.block, e.Delta.Thinking)
		case e.Delta.Type == "input_json_delta" && p.block.kind == blockCall:
			err = p.add(p.block, e.Delta.PartialJSON)
		case e.Delta.Type == "signature_delta" && p.block.kind == blockThinking:
			p.block.signature.WriteString(e.Delta.Signature)
			p.size += len(e.Delta.Signature)
			err = p.add(p.block, "") // for its check of the size
		}
		return false, err
	case "content_block_stop":
		if p.block != nil && e.Index == p.index {
			err := p.settle()
			p.block = nil
			return false, err
		}
	case "message_delta":
		e.Usage.count(&p.draft)
		return false, p.stopped(e.Delta.StopReason)
	case "message_stop":
		if p.stop == "" {
			return false, p.reply.request.broken("the provider ended the stream without an answer")
		}
		return true, nil
	case "message":
		for i := range e.Content {
			p.block = nil
			if err := p.begin(&e.Content[i]); err != nil {
				return false, err
			}
			if p.block != nil {
				if err := p.settle(); err != nil {
					return false, err
				}
			}
		}
		e.Usage.count(&p.draft)
		return e.StopReason != "", p.stopped(e.StopReason)
	case "error":
		return false, p.reply.request.fault(data)
	}
	return false, nil // ping, and what later versions may add
}

// begin starts the block that b announces, with what is in it already.
func (p *anthropicParser) begin(b *anthropicBlock) error {
	var text string
	switch b.Type {
	case "text":
		p.block, text = p.draft.begin(blockText), b.Text
	case "thinking":
		p.block, text = p.draft.begin(blockThinking), b.Thinking
		p.block.signature.WriteString(b.Signature)
		p.size += len(b.Signature)
	case "tool_use":
		call, err := p.beginCall(b.ID, b.Name)
		if err != nil {
			return err
		}
		// An empty object here means that the arguments are still to come.
		call.whole = string(b.Input)
		p.size += len(call.whole)
		p.block = call
	}
	if p.block == nil {
		return nil
	}
	return p.add(p.block, text)
}

// settle gives a finished call the arguments that came with its start, unless
// it received others since.
func (p *anthropicParser) settle() error {
	if p.block.kind == blockCall && p.block.text.Len() == 0 {
		return p.add(p.block, p.block.whole)
	}
	return nil
}

// stopped notes why the model stopped; "" is not yet.
func (p *anthropicParser) stopped(reason string) error {
	switch reason {
	case "":
		return nil
	case "max_tokens", "model_context_window_exceeded":
		p.stop = stopLength
	case "tool_use":
		p.stop = stopTool
	case "refusal":
		return p.reply.request.failf(0, "the provider's content filter stopped the answer")
	default:
		p.stop = stopEnd
	}
	p.reply.idle = afterStop
	return nil
}
