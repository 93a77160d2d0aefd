package agent

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"errors"
	"slices"
	"strings"

	"openclaw/gateway/store"
)

const (
	maxDraft  = 16 << 20 // bytes kept of one answer
	maxCalls  = 128      // tool calls of one answer
	blockSize = 128      // what a block costs besides its text
)

var errDraftFull = errors.New("answer is larger than this program keeps")

// A draft gathers an answer while it streams: blocks in the order in which
// they began, each growing at its end. Text and thinking are emitted as they come.
type draft struct {
	emit   func(delta)
	blocks []*block
	calls  int
	size   int
	stop   string // why the model stopped; "" until it has
	usage  store.Usage
}

type block struct {
	kind     blockKind
	id, name string // of a tool call
	whole    string // arguments that came with a tool call's start
	text     strings.Builder

	signature strings.Builder // the provider's seal on thinking
}

type blockKind int

const (
	blockText blockKind = iota
	blockThinking
	blockCall
)

// begin starts a block.
func (d *draft) begin(kind blockKind) *block {
	d.size += blockSize
	b := &block{kind: kind}
	d.blocks = append(d.blocks, b)
	return b
}

// beginCall starts a tool call's block.
func (d *draft) beginCall(id, name string) (*block, error) {
	if d.calls == maxCalls {
		return nil, errors.New("answer has too many tool calls")
	}
	if id == "" {
		// Some servers leave it out; results refer to it all the same.
		id = "call_" + rand.Text()
	}
	d.size += len(id) + len(name)
	b := d.begin(blockCall)
	b.id, b.name = id, name
	d.calls++
	return b, nil
}

// say appends s to the newest block if it has that kind, else to a new one.
func (d *draft) say(kind blockKind, s string) error {
	if s == "" {
		return nil
	}
	if n := len(d.blocks); n > 0 && d.blocks[n-1].kind == kind {
		return d.add(d.blocks[n-1], s)
	}
	return d.add(d.begin(kind), s)
}

// add appends s to b and emits what is to be shown.
func (d *draft) add(b *block, s string) error {
	if d.size += len(s); d.size > maxDraft {
		return errDraftFull
	}
	if s == "" {
		return nil
	}
	b.text.WriteString(s)
	switch b.kind {
	case blockText:
		d.emit(delta{Text: s})
	case blockThinking:
		d.emit(delta{Thinking: s})
	}
	return nil
}

// result is the finished answer.
func (d *draft) result() *modelResult {
	if d.usage.TotalTokens == 0 {
		d.usage.TotalTokens = d.usage.Input + d.usage.Output + d.usage.CacheRead + d.usage.CacheWrite
	}
	res := &modelResult{StopReason: d.stop, Usage: d.usage}
	for _, b := range d.blocks {
		switch text := b.text.String(); {
		case b.kind == blockCall:
			res.Content = append(res.Content, store.Part{Type: store.PartToolCall, ID: b.id, Name: b.name, Arguments: storedArguments(text)})
		case text == "":
		case b.kind == blockThinking:
			res.Content = append(res.Content, store.Part{Type: store.PartThinking, Thinking: text, ThinkingSignature: b.signature.String()})
		default:
			res.Content = append(res.Content, store.Part{Type: store.PartText, Text: text})
		}
	}
	// Some servers say «stop» after tool calls.
	if d.calls > 0 && res.StopReason == stopEnd {
		res.StopReason = stopTool
	}
	return res
}

// partial is what there is of an answer that ended with err, or nil.
func (d *draft) partial(err error) *modelResult {
	d.calls = 0
	d.blocks = slices.DeleteFunc(d.blocks, func(b *block) bool { return b.kind == blockCall })
	if len(d.blocks) == 0 && d.usage == (store.Usage{}) {
		return nil
	}
	if d.stop = stopAborted; isModelError(err) {
		d.stop = stopError
	}
	return d.result()
}

// storedArguments is the arguments of a tool call as JSON. Models do write
// what is none; that is kept as a JSON string, since a transcript must parse.
func storedArguments(text string) json.RawMessage {
	text = strings.TrimSpace(text)
	switch {
	case text == "":
		return json.RawMessage("{}")
	case json.Valid([]byte(text)):
		return json.RawMessage(text)
	}
	return mustJSON(text)
}

// sentArguments undoes storedArguments.
func sentArguments(args json.RawMessage) string {
	args = bytes.TrimSpace(args)
	if len(args) == 0 {
		return "{}"
	}
	var text string
	if args[0] == '"' && json.Unmarshal(args, &text) == nil {
		return text
	}
	return string(args)
}

// mustJSON encodes values of our own making, which always have a JSON form
// once the raw JSON in them is known to be valid. HTML escaping is off.
func mustJSON(v any) json.RawMessage {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		panic("agent: encode: " + err.Error())
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}
