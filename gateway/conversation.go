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

// conversation gathers what the messages of an HTTP request say, in the
// transcript's words. The zero value is one in which nothing was said.
type conversation struct {
	system   []string
	messages []store.Message
	names    map[string]string // of functions, by the id of their call
}

// say takes a message in OpenAI's roles. That of an assistant who calls
// functions besides may be empty.
func (c *conversation) say(role string, parts []store.Part, calls bool) error {
	switch role {
	case "system", "developer":
		c.system = append(c.system, store.Content(parts).String())
	case "user":
		if len(parts) == 0 {
			return errors.New("content: must not be empty")
		}
		c.messages = append(c.messages, store.Message{Role: store.RoleUser, Content: parts})
	case "assistant":
		if len(parts) > 0 || calls {
			c.messages = append(c.messages, store.Message{Role: store.RoleAssistant, Content: parts})
		}
	default:
		return errors.New("role: must be one of system, developer, user, assistant, tool")
	}
	return nil
}

// call adds a function call to what the assistant said, if that was last.
func (c *conversation) call(id, name, args string) error {
	if args == "" {
		args = "{}"
	}
	var obj wire.Raw
	if err := wire.Decode([]byte(args), &obj); err != nil || len(obj) == 0 || obj[0] != '{' {
		return fmt.Errorf("arguments of %q are not a JSON object", id)
	}
	if c.names == nil {
		c.names = map[string]string{}
	}
	c.names[id] = name
	n := len(c.messages)
	if n == 0 || c.messages[n-1].Role != store.RoleAssistant {
		c.messages = append(c.messages, store.Message{Role: store.RoleAssistant})
		n++
	}
	c.messages[n-1].Content = append(c.messages[n-1].Content, store.Part{Type: store.PartToolCall, ID: id, Name: name, Arguments: []byte(args)})
	return nil
}

func (c *conversation) result(id string, parts []store.Part) {
	c.messages = append(c.messages, store.Message{Role: store.RoleToolResult, ToolCallID: id, ToolName: c.names[id], Content: parts})
}

// into makes the conversation a turn's; member is where it came from.
func (c *conversation) into(t *agent.Turn, member string) error {
	if n := len(c.messages); n == 0 || c.messages[n-1].Role == store.RoleAssistant {
		return wire.InvalidRequest("Missing user message in `%s`.", member)
	}
	t.Messages, t.System = c.messages, strings.Join(c.system, "\n\n")
	return nil
}

// contentOf reads content: a string, a list of parts, or nothing.
func contentOf[P any](raw wire.Raw, part func(P) (store.Part, error)) ([]store.Part, error) {
	if isNull(raw) {
		return nil, nil
	}
	if raw[0] == '"' {
		var s string
		if err := wire.Decode(raw, &s); err != nil || s == "" {
			return nil, err
		}
		return store.Text(s), nil
	}
	var list []P
	if err := wire.DecodeLoose(raw, &list); err != nil {
		return nil, err
	}
	var out []store.Part
	for _, p := range list {
		made, err := part(p)
		if err != nil {
			return nil, err
		}
		out = append(out, made)
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
