package wire

// ChatSend are the params of chat.send.
type ChatSend struct {
	SessionKey     string       `json:"sessionKey" wire:"required,id"`
	Message        string       `json:"message" wire:"required"`
	Thinking       string       `json:"thinking,omitempty" wire:"max=64"`
	Deliver        bool         `json:"deliver,omitempty"` // also send the reply to the chat network
	Attachments    []Attachment `json:"attachments,omitempty" wire:"max=64"`
	TimeoutMs      int64        `json:"timeoutMs,omitempty" wire:"min=0,max=86400000"` // absent = the agent's own
	IdempotencyKey string       `json:"idempotencyKey" wire:"required,id"`
}

// Validate refuses a message with nothing in it.
func (p *ChatSend) Validate() error {
	if p.Message == "" && len(p.Attachments) == 0 {
		return InvalidRequest("message or attachment required")
	}
	return nil
}

// ChatAck is the answer to chat.send, given once the message is stored. A message that
// says /stop is answered as chat.abort is, in the last three members.
type ChatAck struct {
	RunID      string   `json:"runId,omitempty"`  // the idempotency key
	Status     string   `json:"status,omitempty"` // StatusStarted; for a repeated key StatusInFlight or StatusOK
	MessageSeq int64    `json:"messageSeq,omitempty"`
	OK         bool     `json:"ok,omitempty"`
	Aborted    *bool    `json:"aborted,omitempty"`
	RunIDs     []string `json:"runIds,omitempty"`
}

// ChatHistory are the params of chat.history.
type ChatHistory struct {
	SessionKey string `json:"sessionKey" wire:"required,id"`
	Limit      int    `json:"limit,omitempty" wire:"min=1,max=1000"` // messages; absent = 200
}

// ChatHistoryPage is the answer to chat.history; an unknown session has no messages.
type ChatHistoryPage struct {
	SessionKey    string `json:"sessionKey"` // as the client wrote it
	SessionID     string `json:"sessionId,omitempty"`
	Messages      []Raw  `json:"messages"` // oldest first, as stored
	ThinkingLevel string `json:"thinkingLevel"`
	VerboseLevel  string `json:"verboseLevel,omitempty"`
	HasMore       bool   `json:"hasMore,omitempty"`       // older ones were left out
	TotalMessages int    `json:"totalMessages,omitempty"` // in the session
}

// ChatAbort are the params of chat.abort; without a run, all of the session are meant.
type ChatAbort struct {
	SessionKey string `json:"sessionKey" wire:"required,id"`
	RunID      string `json:"runId,omitempty" wire:"id"`
}

// ChatAborted is the answer to chat.abort, and to a chat.send that says /stop.
type ChatAborted struct {
	OK      bool     `json:"ok"`
	Aborted bool     `json:"aborted"` // whether any run was
	RunIDs  []string `json:"runIds"`
}

// ChatInject are the params of chat.inject: a note in the transcript that no model wrote.
type ChatInject struct {
	SessionKey string `json:"sessionKey" wire:"required,id"`
	Message    string `json:"message" wire:"required,min=1"`
	Label      string `json:"label,omitempty" wire:"max=256"`
}

// ChatInjected is the answer to chat.inject.
type ChatInjected struct {
	OK        bool   `json:"ok"`
	MessageID string `json:"messageId"`
}

// ChatEvent is the payload of the chat event: a run as a conversation shows it.
type ChatEvent struct {
	RunID        string       `json:"runId"`
	SessionKey   string       `json:"sessionKey"`
	AgentID      string       `json:"agentId,omitempty"`
	Seq          int64        `json:"seq"` // of the agent event that it shows
	State        string       `json:"state"`
	Phase        string       `json:"phase,omitempty"`     // with ChatStateStatus: what the run is at
	DeltaText    string       `json:"deltaText,omitempty"` // what this event added to Message
	Message      *ChatMessage `json:"message,omitempty"`   // the whole text so far
	ErrorMessage string       `json:"errorMessage,omitempty"`
	Usage        *ChatUsage   `json:"usage,omitempty"`
	StopReason   string       `json:"stopReason,omitempty"`
}

// The values of ChatEvent.State.
const (
	ChatStateStatus  = "status" // protocol 4
	ChatStateDelta   = "delta"
	ChatStateFinal   = "final"
	ChatStateAborted = "aborted"
	ChatStateError   = "error"
)

// ChatMessage is what the assistant has said, in the shape of a transcript's message.
type ChatMessage struct {
	Role       string     `json:"role"` // assistant
	Content    []ChatPart `json:"content"`
	Timestamp  int64      `json:"timestamp"` // Unix milliseconds
	Provider   string     `json:"provider,omitempty"`
	Model      string     `json:"model,omitempty"`
	StopReason string     `json:"stopReason,omitempty"`
}

// ChatPart is one piece of a ChatMessage.
type ChatPart struct {
	Type string `json:"type"` // text
	Text string `json:"text"`
}

// ChatUsage counts the tokens of one answer.
type ChatUsage struct {
	Input       int64 `json:"input"`
	Output      int64 `json:"output"`
	CacheRead   int64 `json:"cacheRead"`
	CacheWrite  int64 `json:"cacheWrite"`
	TotalTokens int64 `json:"totalTokens"`
}
