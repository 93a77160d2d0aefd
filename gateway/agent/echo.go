package agent

import (
	"context"
	"fmt"
	"strings"

	"openclaw/gateway/store"
)

const (
	maxEcho   = 64 << 10 // bytes of the message that are looked at, more than its MaxTokens lets out
	maxDeltas = 256
)

// echo stands in where no model is configured. It repeats the last message and
// says that it is no language model; the same message gets the same answer.
type echo struct{}

func (echo) stream(ctx context.Context, r *modelRequest, emit func(delta)) (*modelResult, error) {
	var told string
	images, in := 0, tokens(r.System)
	for _, m := range r.Messages {
		text := joinText(m.Content)
		in += tokens(text)
		if m.Role == store.RoleAssistant {
			continue
		}
		told, images = text, 0
		for _, p := range m.Content {
			if p.Type == store.PartImage {
				images++
			}
		}
	}
	if len(told) > maxEcho {
		told = strings.ToValidUTF8(told[:maxEcho], "")
	}
	if images > 0 {
		told = strings.TrimSpace(fmt.Sprintf("%s [images: %d]", told, images))
	}
	text := "This is the built-in echo, not a language model; configure one under models.providers. You said: " + told

	d := draft{emit: emit, stop: stopEnd}
	words, size := strings.SplitAfter(text, " "), 0
	for step := (len(words) + maxDeltas - 1) / maxDeltas; len(words) > 0; {
		if ctx.Err() != nil {
			err := r.ended(ctx)
			return d.partial(err), err
		}
		n := min(step, len(words))
		piece := strings.Join(words[:n], "")
		words = words[n:]
		if size += len(piece); r.MaxTokens > 0 && size > r.MaxTokens*bytesPerToken {
			d.stop = stopLength
			break
		}
		if err := d.say(blockText, piece); err != nil {
			return nil, err
		}
	}
	res := d.result()
	res.Usage = store.Usage{Input: in, Output: tokens(joinText(res.Content))}
	res.Usage.TotalTokens = res.Usage.Input + res.Usage.Output
	return res, nil
}

// bytesPerToken is the usual estimate for text in Latin script.
const bytesPerToken = 4

func tokens(text string) int64 { return int64(len(text)+bytesPerToken-1) / bytesPerToken }
