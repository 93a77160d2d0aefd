package tool

import "openclaw/gateway/store"

// Sessions answers what tools ask about conversations. Keys are canonical.
type Sessions interface {
	// List returns the sessions of an agent, the last updated first.
	List(agent string) ([]SessionInfo, error)
	// History returns the last limit messages of a session, oldest first, and how many there are.
	History(key string, limit int) (messages []store.Message, total int, err error)
	// Resolve returns the canonical form of a session key, and whose it is.
	Resolve(key string) (canonical, agent string, err error)
}

// SessionInfo is one session, as sessions_list tells it.
type SessionInfo struct {
	Key           string `json:"key"`
	SessionID     string `json:"sessionId"`
	AgentID       string `json:"agentId"`
	Kind          string `json:"kind"`
	Label         string `json:"label,omitempty"`
	DisplayName   string `json:"displayName,omitempty"`
	SpawnedBy     string `json:"spawnedBy,omitempty"`
	UpdatedAt     int64  `json:"updatedAt"` // milliseconds since 1970
	Model         string `json:"model,omitempty"`
	ContextTokens int64  `json:"contextTokens"`
	TotalTokens   int64  `json:"totalTokens"`
}

func sessionTools() []*row { return nil }
