package agent

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
)

// responses speaks OpenAI's responses protocol, which OpenResponses describes
// for everybody. Nothing is kept at the provider: each request has it all.
type responses struct{ up *upstream }

func (c responses) stream(ctx context.Context, r *modelRequest, emit func(delta)) (*modelResult, error) {
	a, err := c.up.post(ctx, r, func(base *url.URL, h http.Header) (string, []byte, error) {
		if !r.Model.APIKey.IsZero() {
			h.Set("Authorization", "Bearer "+r.Model.APIKey.Reveal())
		}
		body, err := responsesBody(r, base.Hostname())
		return "responses", body, err
	})
	if err != nil {
		return nil, err
	}
	p := newResponsesParser(a, emit)
	return a.parse(&p.draft, p.event)
}

// A responsesParser turns events into a draft. What belongs together carries
// the same index of an output item.
type responsesParser struct {
	draft
	reply *reply
	calls map[int]*block
	heard map[int]bool // items of which something came before they were whole
	part  [3]int       // item, content and kind that the newest block belongs to
}

func newResponsesParser(a *reply, emit func(delta)) *responsesParser {
	return &responsesParser{draft: draft{emit: emit}, reply: a, calls: map[int]*block{}, heard: map[int]bool{}}
}

// A responsesEvent is one event of a stream.
type responsesEvent struct {
	Type      string            `json:"type"`
	Output    int               `json:"output_index"`
	Content   int               `json:"content_index"`
	Summary   int               `json:"summary_index"`
	Delta     string            `json:"delta"`
	Arguments string            `json:"arguments"`
	Item      responsesItem     `json:"item"`
	Response  *responsesOutcome `json:"response"`
}

type responsesItem struct {
	Type      string          `json:"type"`
	CallID    string          `json:"call_id"`
	Name      string          `json:"name"`
	Arguments looseArgument   `json:"arguments"`
	Content   []responsesText `json:"content"`
	Summary   []responsesText `json:"summary"`
}

type responsesText struct {
	Text    string `json:"text"`
	Refusal string `json:"refusal"`
}

// A responsesOutcome is how an answer ended; a whole one, where the server does
// not stream.
type responsesOutcome struct {
	Object     string          `json:"object"`
	Status     string          `json:"status"`
	Error      json.RawMessage `json:"error"`
	Output     []responsesItem `json:"output"`
	Incomplete struct {
		Reason string `json:"reason"`
	} `json:"incomplete_details"`
	Usage *responsesUsage `json:"usage"`
}

type responsesUsage struct {
	Input   int64 `json:"input_tokens"`
	Output  int64 `json:"output_tokens"`
	Total   int64 `json:"total_tokens"`
	Details struct {
		Cached     int64 `json:"cached_tokens"`
		CacheWrite int64 `json:"cache_write_tokens"`
	} `json:"input_tokens_details"`
}

func (p *responsesParser) event(name, data []byte) (done bool, err error) {
	if string(data) == "[DONE]" {
		return false, p.reply.request.broken("the provider ended the stream without an answer")
	}
	var e responsesEvent
	if err := decode(data, &e); err != nil {
		if string(name) == "error" {
			return false, p.reply.request.fault(data)
		}
		return false, err
	}
	switch cmp.Or(e.Type, string(name)) {
	case "": // one document
		var whole responsesOutcome
		if err := decode(data, &whole); err != nil {
			return false, err
		}
		switch {
		case whole.Object == "response":
			return p.ended(&whole)
		case len(whole.Error) > 0 && string(whole.Error) != "null":
			return false, p.reply.request.fault(data)
		}
	case "response.output_item.added":
		if e.Item.Type == "function_call" {
			_, err = p.call(e.Output, &e.Item)
		}
	case "response.output_text.delta", "response.refusal.delta":
		err = p.piece(blockText, e.Output, e.Content, e.Delta)
	case "response.reasoning_text.delta", "response.reasoning.delta":
		err = p.piece(blockThinking, e.Output, e.Content, e.Delta)
	case "response.reasoning_summary_text.delta":
		err = p.piece(blockThinking, e.Output, e.Summary, e.Delta)
	case "response.function_call_arguments.delta", "response.function_call_arguments.done":
		b := p.calls[e.Output]
		switch {
		case b == nil:
			err = errors.New("arguments of a call that did not begin")
		case e.Delta != "":
			err = p.add(b, e.Delta)
		case b.text.Len() == 0:
			err = p.add(b, e.Arguments)
		}
	case "response.output_item.done":
		err = p.item(e.Output, &e.Item)
	case "response.completed", "response.incomplete", "response.failed":
		if e.Response == nil {
			return false, p.reply.request.broken("the provider ended the stream without an answer")
		}
		return p.ended(e.Response)
	case "error":
		err = p.reply.request.fault(data)
	}
	return false, err // others tell nothing that these do not
}

// piece adds to a part of an item's content. Parts are blocks of their own.
func (p *responsesParser) piece(kind blockKind, item, part int, s string) error {
	if s == "" {
		return nil
	}
	p.heard[item] = true
	if at := [3]int{item, part, int(kind)}; at != p.part || len(p.blocks) == 0 || p.blocks[len(p.blocks)-1].kind != kind {
		p.part = at
		return p.add(p.begin(kind), s)
	}
	return p.say(kind, s)
}

// call is the block of a function call, which begins with its first mention.
func (p *responsesParser) call(index int, it *responsesItem) (*block, error) {
	if b := p.calls[index]; b != nil {
		return b, nil
	}
	if it.Name == "" {
		return nil, errors.New("function call without a name")
	}
	b, err := p.beginCall(it.CallID, it.Name)
	p.calls[index] = b
	return b, err
}

// item takes of a whole item what its pieces have not said.
func (p *responsesParser) item(index int, it *responsesItem) error {
	kind := blockText
	switch it.Type {
	case "function_call":
		b, err := p.call(index, it)
		if err == nil && b.text.Len() == 0 {
			err = p.add(b, string(it.Arguments))
		}
		return err
	case "reasoning":
		if kind = blockThinking; len(it.Content) == 0 {
			it.Content = it.Summary
		}
	case "message":
	default:
		return nil
	}
	if p.heard[index] {
		return nil
	}
	for i, part := range it.Content {
		if err := p.piece(kind, index, i, part.Text+part.Refusal); err != nil {
			return err
		}
	}
	return nil
}

// ended reads how the answer ended, and what of it was not streamed.
func (p *responsesParser) ended(o *responsesOutcome) (done bool, err error) {
	r := p.reply.request
	if u := o.Usage; u != nil {
		read, write := max(u.Details.Cached, 0), max(u.Details.CacheWrite, 0)
		p.usage.Input = max(u.Input-read-write, 0) // which counts the cached ones, as a transcript does not
		p.usage.Output, p.usage.TotalTokens = max(u.Output, 0), max(u.Total, 0)
		p.usage.CacheRead, p.usage.CacheWrite = read, write
	}
	stop := stopEnd
	switch o.Status {
	case "completed":
	case "incomplete":
		if stop = stopLength; o.Incomplete.Reason == "content_filter" {
			return false, r.failf(0, "the provider's content filter stopped the answer")
		}
	case "failed":
		if f := parseFault(o.Error); f.Message != "" && f.Message != "null" {
			return false, r.refused(f.status(), f)
		}
		return false, r.broken("the provider ended the answer with an error")
	default:
		return false, r.broken("the provider ended the answer with status %q", o.Status)
	}
	for i := range o.Output {
		if err := p.item(i, &o.Output[i]); err != nil {
			return false, err
		}
	}
	p.stop = stop
	return true, nil
}
