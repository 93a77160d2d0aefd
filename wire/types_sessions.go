package wire

// SessionsList are the params of sessions.list.
type SessionsList struct {
	Limit                int    `json:"limit,omitempty" wire:"min=1,max=10000"`
	ActiveMinutes        int64  `json:"activeMinutes,omitempty" wire:"min=1"` // only those used since
	IncludeGlobal        bool   `json:"includeGlobal,omitempty"`
	IncludeUnknown       bool   `json:"includeUnknown,omitempty"`
	IncludeDerivedTitles bool   `json:"includeDerivedTitles,omitempty"`
	IncludeLastMessage   bool   `json:"includeLastMessage,omitempty"`
	Label                string `json:"label,omitempty" wire:"min=1,max=256"`
	SpawnedBy            string `json:"spawnedBy,omitempty" wire:"id"`
	AgentID              string `json:"agentId,omitempty" wire:"id"`
	Search               string `json:"search,omitempty" wire:"max=256"`
	Offset               int    `json:"offset,omitempty" wire:"min=0"`
}

// SessionsPage is the answer to sessions.list, newest first.
type SessionsPage struct {
	Ts         int64           `json:"ts"`   // Unix milliseconds
	Path       string          `json:"path"` // of the index; "(multiple)" over several agents
	Count      int             `json:"count"`
	TotalCount int             `json:"totalCount"` // before limit and offset
	HasMore    bool            `json:"hasMore"`
	NextOffset *int            `json:"nextOffset,omitempty" wire:"null"` // with HasMore
	Defaults   SessionDefaults `json:"defaults"`
	Sessions   []SessionRow    `json:"sessions"`
}

// SessionDefaults is what a session without its own choice uses.
type SessionDefaults struct {
	ModelProvider string `json:"modelProvider"`
	Model         string `json:"model"`
	ContextTokens int64  `json:"contextTokens"`
}

// SessionRow is one session in SessionsPage.
type SessionRow struct {
	Key             string            `json:"key"`
	Kind            string            `json:"kind"` // direct, group, global or unknown
	Label           string            `json:"label,omitempty"`
	DisplayName     string            `json:"displayName,omitempty"`
	DerivedTitle    string            `json:"derivedTitle,omitempty"`
	LastMessage     string            `json:"lastMessagePreview,omitempty"`
	UpdatedAt       int64             `json:"updatedAt"` // Unix milliseconds
	SessionID       string            `json:"sessionId"`
	SystemSent      bool              `json:"systemSent,omitempty"`
	AbortedLastRun  bool              `json:"abortedLastRun"`
	ThinkingLevel   string            `json:"thinkingLevel,omitempty"`
	VerboseLevel    string            `json:"verboseLevel,omitempty"`
	InputTokens     int64             `json:"inputTokens,omitempty"`
	OutputTokens    int64             `json:"outputTokens,omitempty"`
	TotalTokens     int64             `json:"totalTokens"`
	ModelProvider   string            `json:"modelProvider"`
	Model           string            `json:"model"`
	ContextTokens   int64             `json:"contextTokens"`
	DeliveryContext map[string]string `json:"deliveryContext,omitempty"`
	LastChannel     string            `json:"lastChannel,omitempty"`
	LastTo          string            `json:"lastTo,omitempty"`
}

// SessionsPreview are the params of sessions.preview.
type SessionsPreview struct {
	Keys     []string `json:"keys" wire:"required,id,min=1,max=256"`
	Limit    int      `json:"limit,omitempty" wire:"min=1,max=200"`       // messages each; absent = 12
	MaxChars int      `json:"maxChars,omitempty" wire:"min=20,max=10000"` // of a message; absent = 240
}

// SessionsPreviews is the answer to sessions.preview.
type SessionsPreviews struct {
	Ts       int64            `json:"ts"` // Unix milliseconds
	Previews []SessionPreview `json:"previews"`
}

// SessionPreview is the end of one session.
type SessionPreview struct {
	Key    string        `json:"key"`
	Status string        `json:"status"` // ok, empty, missing or error
	Items  []PreviewItem `json:"items"`
}

// PreviewItem is one message, shortened.
type PreviewItem struct {
	Role string `json:"role"`
	Text string `json:"text"`
}

// SessionsResolve are the params of sessions.resolve, of which exactly one is given.
type SessionsResolve struct {
	Key       string `json:"key,omitempty" wire:"id"`
	SessionID string `json:"sessionId,omitempty" wire:"id"`
	Label     string `json:"label,omitempty" wire:"min=1,max=256"`
}

// Validate wants exactly one way of naming the session.
func (p *SessionsResolve) Validate() error {
	n := 0
	for _, s := range []string{p.Key, p.SessionID, p.Label} {
		if s != "" {
			n++
		}
	}
	if n != 1 {
		return InvalidRequest("exactly one of key, sessionId and label is required")
	}
	return nil
}

// SessionsResolved is the answer to sessions.resolve.
type SessionsResolved struct {
	OK  bool   `json:"ok"`
	Key string `json:"key"` // canonical
}

// SessionsPatch are the params of sessions.patch. In an optional member null removes the
// session's own choice, and absence leaves it.
type SessionsPatch struct {
	Key             string        `json:"key" wire:"required,id"`
	Label           Patch[string] `json:"label,omitzero" wire:"min=1,max=256"`
	ThinkingLevel   Patch[string] `json:"thinkingLevel,omitzero" wire:"min=1,max=64"`
	VerboseLevel    Patch[string] `json:"verboseLevel,omitzero" wire:"min=1,max=64"`
	ReasoningLevel  Patch[string] `json:"reasoningLevel,omitzero" wire:"min=1,max=64"`
	ElevatedLevel   Patch[string] `json:"elevatedLevel,omitzero" wire:"min=1,max=64"`
	ResponseUsage   Patch[string] `json:"responseUsage,omitzero" wire:"min=1,max=64"`
	Model           Patch[string] `json:"model,omitzero" wire:"min=1,max=256"` // provider/model
	SendPolicy      Patch[string] `json:"sendPolicy,omitzero" wire:"oneof=allow|deny"`
	GroupActivation Patch[string] `json:"groupActivation,omitzero" wire:"oneof=mention|always"`
	ExecHost        Patch[string] `json:"execHost,omitzero" wire:"min=1,max=64"`
	ExecSecurity    Patch[string] `json:"execSecurity,omitzero" wire:"min=1,max=64"`
	ExecAsk         Patch[string] `json:"execAsk,omitzero" wire:"min=1,max=64"`
	ExecNode        Patch[string] `json:"execNode,omitzero" wire:"min=1,max=256"`
	SpawnedBy       Patch[string] `json:"spawnedBy,omitzero" wire:"min=1,max=256"`
}

// SessionsPatched is the answer to sessions.patch.
type SessionsPatched struct {
	OK    bool   `json:"ok"`
	Path  string `json:"path"` // of the index
	Key   string `json:"key"`  // canonical
	Entry Raw    `json:"entry"`

	Resolved *SessionModel `json:"resolved,omitempty"`
}

// SessionModel is the model that a session will use next.
type SessionModel struct {
	ModelProvider string `json:"modelProvider"`
	Model         string `json:"model"`
}

// SessionsReset are the params of sessions.reset.
type SessionsReset struct {
	Key string `json:"key" wire:"required,id"`
}

// SessionsWereReset is the answer to sessions.reset.
type SessionsWereReset struct {
	OK    bool   `json:"ok"`
	Key   string `json:"key"` // canonical
	Entry Raw    `json:"entry"`
}

// SessionsDelete are the params of sessions.delete.
type SessionsDelete struct {
	Key              string `json:"key" wire:"required,id"`
	DeleteTranscript *bool  `json:"deleteTranscript,omitempty"` // absent = true; the file is renamed, not removed
}

// SessionsDeleted is the answer to sessions.delete.
type SessionsDeleted struct {
	OK       bool     `json:"ok"`
	Key      string   `json:"key"` // canonical
	Deleted  bool     `json:"deleted"`
	Archived []string `json:"archived"` // where the transcripts are now
}

// SessionsCompact are the params of sessions.compact.
type SessionsCompact struct {
	Key      string `json:"key" wire:"required,id"`
	MaxLines int    `json:"maxLines,omitempty" wire:"min=1"` // absent = 400
}

// SessionsCompacted is the answer to sessions.compact.
type SessionsCompacted struct {
	OK        bool     `json:"ok"`
	Key       string   `json:"key"` // canonical
	Compacted bool     `json:"compacted"`
	Reason    string   `json:"reason,omitempty"` // why not
	Kept      int      `json:"kept,omitempty"`   // lines
	Archived  []string `json:"archived,omitempty"`
}
