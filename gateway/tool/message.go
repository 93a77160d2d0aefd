package tool

import (
	"context"
	"errors"
	"mime"
	"net/http"
	"path"
	"strings"

	"openclaw/gateway/store"
)

// Messages sends for the message tool.
type Messages interface {
	// Send delivers a message for an agent, to a chat that the channel's policy
	// lets it write to; what m leaves out is as in from, the chat that is being
	// answered. It returns once the network has taken it.
	Send(ctx context.Context, agent string, from *store.DeliveryContext, m Message) (SentMessage, error)
}

// Message is what an agent wants said.
type Message struct {
	Channel, AccountID, To, Text, ReplyTo string
	File                                  *File
}

// File goes with a Message.
type File struct {
	Name, MIME string
	Data       []byte
}

// SentMessage is what became of it.
type SentMessage struct {
	Channel   string `json:"channel"`
	AccountID string `json:"accountId,omitempty"`
	To        string `json:"to"`
	MessageID string `json:"messageId,omitempty"`
}

func messageTools() []*row {
	return []*row{
		tool("message", Network, "Send a message to a chat, beside the answer of this turn. Only chats that an operator has listed or approved can be reached.", sendMessage),
	}
}

const maxMedia = 20 << 20

type messageArgs struct {
	Action    string `arg:"action" oneof:"send" doc:"What to do; send when absent."`
	Message   string `arg:"message" alias:"text,content" max:"65536" doc:"The text."`
	To        string `arg:"to" alias:"target,recipient,chat_id" max:"256" doc:"The chat's id; the chat that is being answered when absent."`
	Channel   string `arg:"channel" alias:"provider" max:"64" doc:"The chat network; the one that is being answered when absent."`
	AccountID string `arg:"accountId" alias:"account_id,account" max:"128" doc:"Our account there, where there are several."`
	ReplyTo   string `arg:"replyTo" alias:"reply_to" max:"128" doc:"The id of the message that this one answers."`
	Media     Path   `arg:"media" alias:"path,filePath,file_path" doc:"A file of the workspace to send along."`
}

func sendMessage(ctx context.Context, c *call, a *messageArgs) (Result, error) {
	m := Message{Channel: a.Channel, AccountID: a.AccountID, To: a.To, Text: a.Message, ReplyTo: a.ReplyTo}
	if a.Media.given() {
		w, err := c.workspace()
		if err != nil {
			return Result{}, err
		}
		defer w.Close()
		data, _, err := w.read(a.Media, maxMedia)
		if err != nil {
			return Result{}, err
		}
		kind := mime.TypeByExtension(path.Ext(a.Media.String()))
		if kind == "" {
			kind = http.DetectContentType(data)
		}
		m.File = &File{path.Base(a.Media.String()), kind, data}
	}
	if strings.TrimSpace(m.Text) == "" && m.File == nil {
		return Result{}, errors.New("message and media are both missing")
	}
	sent, err := c.Messages.Send(ctx, c.Agent.ID, c.From, m)
	if err != nil {
		return Result{}, err
	}
	return answer(sent)
}
