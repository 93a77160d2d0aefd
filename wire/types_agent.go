package wire

// AgentsList is the answer to agents.list.
type AgentsList struct {
	DefaultID string      `json:"defaultId"`
	MainKey   string      `json:"mainKey"` // the last part of an agent's main session key
	Scope     string      `json:"scope"`   // per-sender or global
	Agents    []AgentInfo `json:"agents"`
}

// AgentInfo is one configured agent.
type AgentInfo struct {
	ID        string         `json:"id"`
	Name      string         `json:"name,omitempty"`
	Identity  *AgentPersona  `json:"identity,omitempty"`
	Workspace string         `json:"workspace,omitempty"`
	Model     *AgentModelRef `json:"model,omitempty"`
}

// AgentPersona is how an agent presents itself.
type AgentPersona struct {
	Name   string `json:"name,omitempty"`
	Emoji  string `json:"emoji,omitempty"`
	Avatar string `json:"avatar,omitempty"`
}

// AgentModelRef names the models of an agent as provider/model.
type AgentModelRef struct {
	Primary   string   `json:"primary,omitempty"`
	Fallbacks []string `json:"fallbacks,omitempty"`
}

// AgentIdentityGet are the params of agent.identity.get; with neither, the default agent is meant.
type AgentIdentityGet struct {
	AgentID    string `json:"agentId,omitempty" wire:"id"`
	SessionKey string `json:"sessionKey,omitempty" wire:"id"`
}

// AgentIdentity is the answer to agent.identity.get.
type AgentIdentity struct {
	AgentID string `json:"agentId"`
	Name    string `json:"name"`
	Avatar  string `json:"avatar"`
	Emoji   string `json:"emoji,omitempty"`
}

// AgentRun are the params of agent, which is answered twice: AgentAck at once, AgentFinal at the end.
type AgentRun struct {
	Message           string       `json:"message" wire:"required,min=1"`
	AgentID           string       `json:"agentId,omitempty" wire:"id"`
	To                string       `json:"to,omitempty" wire:"max=256"`
	ReplyTo           string       `json:"replyTo,omitempty" wire:"max=256"`
	SessionID         string       `json:"sessionId,omitempty" wire:"id"`
	SessionKey        string       `json:"sessionKey,omitempty" wire:"id"`
	Thinking          string       `json:"thinking,omitempty" wire:"max=64"`
	Deliver           bool         `json:"deliver,omitempty"` // also send the reply to the chat network
	Attachments       []Attachment `json:"attachments,omitempty" wire:"max=64"`
	Channel           string       `json:"channel,omitempty" wire:"max=64"`
	ReplyChannel      string       `json:"replyChannel,omitempty" wire:"max=64"`
	AccountID         string       `json:"accountId,omitempty" wire:"max=128"`
	ReplyAccountID    string       `json:"replyAccountId,omitempty" wire:"max=128"`
	ThreadID          string       `json:"threadId,omitempty" wire:"max=128"`
	GroupID           string       `json:"groupId,omitempty" wire:"max=256"`
	GroupChannel      string       `json:"groupChannel,omitempty" wire:"max=256"`
	GroupSpace        string       `json:"groupSpace,omitempty" wire:"max=256"`
	Timeout           int64        `json:"timeout,omitempty" wire:"min=0,max=86400"` // seconds; absent = the agent's own
	Lane              string       `json:"lane,omitempty" wire:"max=64"`
	ExtraSystemPrompt string       `json:"extraSystemPrompt,omitempty"`
	IdempotencyKey    string       `json:"idempotencyKey" wire:"required,id"`
	Label             string       `json:"label,omitempty" wire:"max=256"`
	SpawnedBy         string       `json:"spawnedBy,omitempty" wire:"max=256"`
	Model             string       `json:"model,omitempty" wire:"max=256"` // provider/model, for this turn
	Provider          string       `json:"provider,omitempty" wire:"max=64"`
}

// Attachment is a file that comes with a message.
type Attachment struct {
	Type     string `json:"type,omitempty" wire:"max=64"`
	MimeType string `json:"mimeType,omitempty" wire:"max=128"`
	FileName string `json:"fileName,omitempty" wire:"max=255"`
	Content  string `json:"content,omitempty"` // base64, a data: prefix is tolerated
}

// The values of Status in AgentAck, AgentFinal, AgentWaited and ChatAck.
const (
	StatusAccepted = "accepted"
	StatusStarted  = "started"
	StatusInFlight = "in_flight"
	StatusOK       = "ok"
	StatusError    = "error"
	StatusAborted  = "aborted"
	StatusTimeout  = "timeout"
)

// AgentAck is the first answer to agent: the message is stored and the turn queued.
type AgentAck struct {
	RunID      string `json:"runId"` // the idempotency key
	SessionKey string `json:"sessionKey,omitempty"`
	AgentID    string `json:"agentId,omitempty"`
	Status     string `json:"status"`     // StatusAccepted
	AcceptedAt int64  `json:"acceptedAt"` // Unix milliseconds
}

// AgentFinal is the second answer to agent; where the turn failed it comes with an Error beside it.
type AgentFinal struct {
	RunID   string       `json:"runId"`
	Status  string       `json:"status"`  // StatusOK, StatusError, StatusAborted or StatusTimeout
	Summary string       `json:"summary"` // "completed", or what went wrong
	Result  *AgentResult `json:"result,omitempty"`
}

// AgentResult is what a turn produced.
type AgentResult struct {
	Payloads []AgentPayload `json:"payloads"`
	Meta     AgentMeta      `json:"meta"`
}

// AgentPayload is one message of a reply.
type AgentPayload struct {
	Text     string  `json:"text"`
	MediaURL *string `json:"mediaUrl" wire:"null"` // null = none
}

// AgentMeta says how a turn went.
type AgentMeta struct {
	DurationMs int64      `json:"durationMs"`
	AgentMeta  AgentModel `json:"agentMeta"`
	Aborted    bool       `json:"aborted"`
	StopReason string     `json:"stopReason,omitempty"`
}

// AgentModel says where a turn ran and what it used.
type AgentModel struct {
	SessionID string     `json:"sessionId"`
	Provider  string     `json:"provider"`
	Model     string     `json:"model"`
	Usage     *TurnUsage `json:"usage,omitempty"`
}

// TurnUsage counts the tokens of one turn.
type TurnUsage struct {
	Input      int64 `json:"input"`
	Output     int64 `json:"output"`
	CacheRead  int64 `json:"cacheRead,omitempty"`
	CacheWrite int64 `json:"cacheWrite,omitempty"`
	Total      int64 `json:"total"`
}

// AgentWait are the params of agent.wait.
type AgentWait struct {
	RunID     string `json:"runId" wire:"required,id"`
	TimeoutMs *int64 `json:"timeoutMs,omitempty" wire:"min=0,max=86400000"` // absent = 30000
}

// AgentWaited is the answer to agent.wait. An unknown run is a timeout, not an error.
type AgentWaited struct {
	RunID     string `json:"runId"`
	Status    string `json:"status"` // StatusOK, StatusError or StatusTimeout
	StartedAt int64  `json:"startedAt,omitempty"`
	EndedAt   int64  `json:"endedAt,omitempty"`
	Error     string `json:"error,omitempty"`
}

// AgentEvent is the payload of the agent event: one step of one run.
type AgentEvent struct {
	RunID      string `json:"runId"`
	Seq        int64  `json:"seq"` // within the run, from 1
	Stream     string `json:"stream"`
	Ts         int64  `json:"ts"`   // Unix milliseconds
	Data       any    `json:"data"` // LifecycleData, AssistantData or ToolData, by Stream
	SessionKey string `json:"sessionKey,omitempty"`
	AgentID    string `json:"agentId,omitempty"`
	SessionID  string `json:"sessionId,omitempty"`
}

// The values of AgentEvent.Stream.
const (
	StreamLifecycle = "lifecycle"
	StreamAssistant = "assistant"
	StreamTool      = "tool"
)

// The values of LifecycleData.Phase and ToolData.Phase.
const (
	PhaseStart  = "start"
	PhaseModel  = "model"
	PhaseUpdate = "update"
	PhaseResult = "result"
	PhaseEnd    = "end"
	PhaseError  = "error"
)

// LifecycleData is the data of the lifecycle stream.
type LifecycleData struct {
	Phase      string `json:"phase"` // PhaseStart, PhaseModel, PhaseEnd or PhaseError
	StartedAt  int64  `json:"startedAt,omitempty"`
	EndedAt    int64  `json:"endedAt,omitempty"`
	Provider   string `json:"provider,omitempty"` // with PhaseModel
	Model      string `json:"model,omitempty"`    // with PhaseModel
	Error      string `json:"error,omitempty"`    // with PhaseError
	Aborted    bool   `json:"aborted,omitempty"`
	StopReason string `json:"stopReason,omitempty"`
}

// AssistantData is the data of the assistant stream.
type AssistantData struct {
	Text  string `json:"text"`  // the whole text so far
	Delta string `json:"delta"` // what this event added
}

// ToolData is the data of the tool stream.
type ToolData struct {
	Phase         string `json:"phase"` // PhaseStart, PhaseUpdate or PhaseResult
	Name          string `json:"name"`
	ToolCallID    string `json:"toolCallId"`
	Args          Raw    `json:"args,omitempty"` // with PhaseStart
	PartialResult Raw    `json:"partialResult,omitempty"`
	Meta          string `json:"meta,omitempty"` // with PhaseResult: the call in a few words
	IsError       *bool  `json:"isError,omitempty"`
	Result        Raw    `json:"result,omitempty"`
}
