package wire

// Empty is the params of a method that takes none.
type Empty struct{}

// OK is the answer of a method that has nothing else to say.
type OK struct {
	OK bool `json:"ok"` // always true; failures are errors
}

// HealthQuery are the params of health. Unknown keys are ignored: probes of many makers send them.
type HealthQuery struct {
	Open
	Probe bool `json:"probe,omitempty"` // look again instead of answering from the cache
}

// Problems that Health may name.
const (
	ProblemDisk = "disk nearly full"
	ProblemLog  = "log lines are being dropped"
)

// Health is the answer to health and the payload of the health event.
type Health struct {
	OK               bool              `json:"ok"`
	Ts               int64             `json:"ts"`         // when the snapshot was taken, Unix milliseconds
	DurationMs       int64             `json:"durationMs"` // what taking it cost
	Status           string            `json:"status"`     // HealthHealthy or HealthDegraded
	Problems         []string          `json:"problems,omitempty"`
	Channels         map[string]any    `json:"channels"`
	ChannelOrder     []string          `json:"channelOrder"`
	ChannelLabels    map[string]string `json:"channelLabels"`
	HeartbeatSeconds int64             `json:"heartbeatSeconds"`
	ConfigReload     *HealthReload     `json:"configReload,omitempty"`
	DefaultAgentID   string            `json:"defaultAgentId"`
	Agents           []AgentHealth     `json:"agents"`
	Sessions         SessionsHealth    `json:"sessions"` // of the default agent
}

// HealthReload says whether configuration changes are being followed.
type HealthReload struct {
	HotReloadStatus string `json:"hotReloadStatus"` // active, or off
}

// AgentHealth is one agent in Health.
type AgentHealth struct {
	AgentID   string          `json:"agentId"`
	IsDefault bool            `json:"isDefault"`
	Heartbeat HeartbeatPolicy `json:"heartbeat"`
	Sessions  SessionsHealth  `json:"sessions"`
}

// HeartbeatPolicy says how often an agent is woken without a message.
type HeartbeatPolicy struct {
	Enabled     bool   `json:"enabled"`
	Every       string `json:"every"`               // "30m", or "disabled"
	EveryMs     *int64 `json:"everyMs" wire:"null"` // null = disabled
	Prompt      string `json:"prompt"`
	Target      string `json:"target"`
	AckMaxChars int64  `json:"ackMaxChars"`
}

// SessionsHealth counts the sessions of one agent.
type SessionsHealth struct {
	Path   string          `json:"path"` // the session index
	Count  int             `json:"count"`
	Recent []SessionRecent `json:"recent"` // newest first, a few
}

// SessionRecent is one session in SessionsHealth.
type SessionRecent struct {
	Key       string `json:"key"`
	UpdatedAt int64  `json:"updatedAt"` // Unix milliseconds
	Age       int64  `json:"age"`       // milliseconds since
}

// StatusQuery are the params of status.
type StatusQuery struct {
	IncludeChannelSummary *bool `json:"includeChannelSummary,omitempty"` // absent = true
	IncludeCLIProjection  bool  `json:"includeCliProjection,omitempty"`
}

// Status is the answer to status: what a person asks first.
type Status struct {
	RuntimeVersion     string          `json:"runtimeVersion,omitempty"`
	PID                int             `json:"pid,omitempty"`
	UptimeMs           int64           `json:"uptimeMs,omitempty"`
	Heartbeat          StatusHeartbeat `json:"heartbeat"`
	ChannelSummary     []string        `json:"channelSummary"`
	QueuedSystemEvents []string        `json:"queuedSystemEvents"`
	Sessions           StatusSessions  `json:"sessions"`
	Sandbox            []SandboxLayer  `json:"sandbox,omitempty"`
	Config             *StatusConfig   `json:"config,omitempty"`
	Connections        int             `json:"connections"` // clients past their hello, the asking one included
	Runs               int             `json:"runs"`        // turns running or queued
}

// SandboxLayer is one of the walls that tools run behind, as it was tried on this host.
type SandboxLayer struct {
	Name   string `json:"name"`
	On     bool   `json:"on"`
	Detail string `json:"detail"` // what was tried, or why it is off
}

// StatusConfig says whether the running configuration is the one in the file.
type StatusConfig struct {
	Path       string   `json:"path"`
	SecretFrom string   `json:"secretFrom,omitempty"` // where the secret that clients present was taken from
	LoadedHash string   `json:"loadedHash"`           // SHA-256 of the file that was loaded, hex; empty = defaults
	FileHash   string   `json:"fileHash,omitempty"`   // of the file as it is now
	Mode       string   `json:"mode"`                 // gateway.hotReload.mode
	Watch      string   `json:"watch,omitempty"`      // how changes are noticed: inotify, kqueue or stat
	Applied    []string `json:"applied,omitempty"`    // keys of the last change that was applied
	AppliedAt  int64    `json:"appliedAt,omitempty"`  // when, Unix milliseconds
	Pending    []string `json:"pending,omitempty"`    // keys that differ in the file and are not applied
	LastError  string   `json:"lastError,omitempty"`  // why the file is not the running configuration
}

// StatusHeartbeat lists the heartbeat of each agent.
type StatusHeartbeat struct {
	DefaultAgentID string           `json:"defaultAgentId"`
	Agents         []AgentHeartbeat `json:"agents"`
}

// AgentHeartbeat is one agent in StatusHeartbeat.
type AgentHeartbeat struct {
	AgentID string `json:"agentId"`
	Enabled bool   `json:"enabled"`
	Every   string `json:"every"`               // "30m", or "disabled"
	EveryMs *int64 `json:"everyMs" wire:"null"` // null = disabled
}

// StatusSessions counts sessions over all agents. Clients fail where ByAgent is missing.
type StatusSessions struct {
	Paths    []string        `json:"paths"`
	Count    int             `json:"count"`
	Defaults StatusDefaults  `json:"defaults"`
	Recent   []SessionStat   `json:"recent"`
	ByAgent  []AgentSessions `json:"byAgent"`
}

// StatusDefaults is what a new session uses.
type StatusDefaults struct {
	Model         string `json:"model"`
	ContextTokens int64  `json:"contextTokens"`
}

// AgentSessions is one agent in StatusSessions.
type AgentSessions struct {
	AgentID string        `json:"agentId"`
	Path    string        `json:"path"`
	Count   int           `json:"count"`
	Recent  []SessionStat `json:"recent"`
}

// SessionStat is one session in Status.
type SessionStat struct {
	AgentID         string   `json:"agentId"`
	Key             string   `json:"key"`
	Kind            string   `json:"kind"` // direct, group, global or unknown
	SessionID       string   `json:"sessionId"`
	UpdatedAt       int64    `json:"updatedAt"` // Unix milliseconds
	Age             int64    `json:"age"`       // milliseconds since
	SystemSent      bool     `json:"systemSent,omitempty"`
	AbortedLastRun  bool     `json:"abortedLastRun"`
	InputTokens     int64    `json:"inputTokens,omitempty"`
	OutputTokens    int64    `json:"outputTokens,omitempty"`
	TotalTokens     int64    `json:"totalTokens"`
	RemainingTokens int64    `json:"remainingTokens"`
	PercentUsed     int64    `json:"percentUsed"`
	Model           string   `json:"model"`
	ContextTokens   int64    `json:"contextTokens"`
	Flags           []string `json:"flags"`
}

// Presence is one entry of system-presence and of the presence event. The gateway itself is one.
type Presence struct {
	Host             string   `json:"host,omitempty"`
	IP               string   `json:"ip,omitempty"`
	Version          string   `json:"version,omitempty"`
	Platform         string   `json:"platform,omitempty"`
	DeviceFamily     string   `json:"deviceFamily,omitempty"`
	ModelIdentifier  string   `json:"modelIdentifier,omitempty"`
	Mode             string   `json:"mode,omitempty"`
	LastInputSeconds *int64   `json:"lastInputSeconds,omitempty"`
	Reason           string   `json:"reason,omitempty"` // self, connect, disconnect, periodic, …
	Tags             []string `json:"tags,omitempty"`
	Text             string   `json:"text,omitempty"` // for people
	Ts               int64    `json:"ts"`             // Unix milliseconds
	DeviceID         string   `json:"deviceId,omitempty"`
	Roles            []string `json:"roles,omitempty"`
	Scopes           []string `json:"scopes,omitempty"`
	InstanceID       string   `json:"instanceId,omitempty"`
}

// PresenceChanged is the payload of the presence event: the whole list, not a difference.
type PresenceChanged struct {
	Presence []Presence `json:"presence"`
}

// SystemEvent are the params of system-event. A text that begins "Node:" sets a presence
// entry; another text is queued for the default agent.
type SystemEvent struct {
	Text             string   `json:"text" wire:"required,min=1,max=4096"`
	DeviceID         string   `json:"deviceId,omitempty" wire:"id"`
	InstanceID       string   `json:"instanceId,omitempty" wire:"id"`
	Host             string   `json:"host,omitempty" wire:"max=256"`
	IP               string   `json:"ip,omitempty" wire:"max=64"`
	Mode             string   `json:"mode,omitempty" wire:"max=64"`
	Version          string   `json:"version,omitempty" wire:"max=128"`
	Platform         string   `json:"platform,omitempty" wire:"max=128"`
	DeviceFamily     string   `json:"deviceFamily,omitempty" wire:"max=128"`
	ModelIdentifier  string   `json:"modelIdentifier,omitempty" wire:"max=128"`
	LastInputSeconds *int64   `json:"lastInputSeconds,omitempty" wire:"min=0"`
	Reason           string   `json:"reason,omitempty" wire:"max=256"`
	Roles            []string `json:"roles,omitempty" wire:"max=64"`
	Scopes           []string `json:"scopes,omitempty" wire:"max=64"`
	Tags             []string `json:"tags,omitempty" wire:"max=64"`
}

// Heartbeat is the answer to last-heartbeat, null where there was none, and the payload of the heartbeat event.
type Heartbeat struct {
	Ts         int64  `json:"ts"` // Unix milliseconds
	Status     string `json:"status"`
	Reason     string `json:"reason,omitempty"`
	Preview    string `json:"preview,omitempty"`
	DurationMs int64  `json:"durationMs,omitempty"`
}

// Tick is the payload of the tick event, sent every Policy.TickIntervalMs.
type Tick struct {
	Ts int64 `json:"ts"` // Unix milliseconds
}

// Shutdown is the payload of the shutdown event, the last one of a connection.
type Shutdown struct {
	Reason            string `json:"reason"`                      // "SIGTERM received", …
	GracePeriodMs     int64  `json:"gracePeriodMs"`               // how long running turns may still take
	RestartExpectedMs int64  `json:"restartExpectedMs,omitempty"` // 0 = no restart follows
}

// ConfigSnapshot is the answer to config.get. Secrets are redacted in every member.
type ConfigSnapshot struct {
	Path         string        `json:"path"`
	Exists       bool          `json:"exists"`
	Raw          string        `json:"raw"`    // the file's text
	Parsed       Raw           `json:"parsed"` // the file's value, before defaults
	Valid        bool          `json:"valid"`
	Config       Raw           `json:"config"` // the effective configuration
	Hash         string        `json:"hash"`   // SHA-256 of the file, hex
	Issues       []ConfigIssue `json:"issues"`
	Warnings     []ConfigIssue `json:"warnings"`
	LegacyIssues []ConfigIssue `json:"legacyIssues"`
}

// ConfigIssue is one problem of a configuration.
type ConfigIssue struct {
	Path    string `json:"path"` // of the key
	Line    int    `json:"line,omitempty"`
	Column  int    `json:"column,omitempty"`
	Message string `json:"message"`
}

// LogsTail are the params of logs.tail.
type LogsTail struct {
	Cursor   *int64 `json:"cursor,omitempty" wire:"min=0"`               // bytes; absent = the newest
	FileID   string `json:"fileId,omitempty" wire:"max=64"`              // of the page that the cursor came from: go on in that file, rotated or not
	Limit    int    `json:"limit,omitempty" wire:"min=1,max=5000"`       // lines; absent = 500
	MaxBytes int    `json:"maxBytes,omitempty" wire:"min=1,max=1000000"` // absent = 250000
}

// LogsPage is the answer to logs.tail.
type LogsPage struct {
	File      string   `json:"file"`
	Cursor    int64    `json:"cursor"`           // where the next call goes on
	FileID    string   `json:"fileId,omitempty"` // which file the cursor belongs to
	Size      int64    `json:"size"`
	More      bool     `json:"more,omitempty"`      // there is more behind the cursor already
	Lines     []string `json:"lines"`               // as in the file
	Truncated bool     `json:"truncated,omitempty"` // lines before these were left out
	Reset     bool     `json:"reset,omitempty"`     // the file is not the one that the cursor came from
}

// ModelsList is the answer to models.list.
type ModelsList struct {
	Models []Model `json:"models"`
}

// Model is one model that a turn may use.
type Model struct {
	ID            string   `json:"id"`
	Name          string   `json:"name"`
	Provider      string   `json:"provider"`
	ContextWindow int64    `json:"contextWindow,omitempty"` // tokens
	Reasoning     bool     `json:"reasoning"`
	Input         []string `json:"input,omitempty"` // text, image
}

// UsageStatus is the answer to usage.status: quotas at the providers, where one tells.
type UsageStatus struct {
	UpdatedAt int64 `json:"updatedAt"` // Unix milliseconds
	Providers []any `json:"providers"`
}

// UsageCostQuery are the params of usage.cost.
type UsageCostQuery struct {
	Days int `json:"days,omitempty" wire:"min=1,max=366"` // absent = 30
}

// UsageCost is the answer to usage.cost.
type UsageCost struct {
	UpdatedAt int64       `json:"updatedAt"` // Unix milliseconds
	Days      int         `json:"days"`
	Daily     []UsageDay  `json:"daily"`
	Totals    UsageTotals `json:"totals"`
}

// UsageDay is what one day used.
type UsageDay struct {
	Date string `json:"date"` // 2006-01-02, the gateway's zone
	UsageTotals
}

// UsageTotals sums tokens and what they cost at the configured prices, in US dollars.
type UsageTotals struct {
	Input              int64   `json:"input"`
	Output             int64   `json:"output"`
	CacheRead          int64   `json:"cacheRead"`
	CacheWrite         int64   `json:"cacheWrite"`
	TotalTokens        int64   `json:"totalTokens"`
	TotalCost          float64 `json:"totalCost"`
	InputCost          float64 `json:"inputCost"`
	OutputCost         float64 `json:"outputCost"`
	CacheReadCost      float64 `json:"cacheReadCost"`
	CacheWriteCost     float64 `json:"cacheWriteCost"`
	MissingCostEntries int64   `json:"missingCostEntries"` // answers of models without a price
}
