package wire

// ToolsCatalogGet are the params of tools.catalog; without an agent the default one is meant.
type ToolsCatalogGet struct {
	AgentID        string `json:"agentId,omitempty" wire:"id"`
	IncludePlugins *bool  `json:"includePlugins,omitempty"` // there are none; read for compatibility
}

// ToolsCatalog is the answer to tools.catalog.
type ToolsCatalog struct {
	AgentID  string        `json:"agentId"`
	Profiles []ToolProfile `json:"profiles"`
	Groups   []ToolGroup   `json:"groups"`
}

// ToolProfile is a set of tools that a policy begins with.
type ToolProfile struct {
	ID    string `json:"id"`
	Label string `json:"label"`
}

// ToolGroup are the tools that a policy names as group:ID.
type ToolGroup struct {
	ID     string     `json:"id"`
	Label  string     `json:"label"`
	Source string     `json:"source"` // core
	Tools  []ToolInfo `json:"tools"`
}

// ToolInfo is one tool.
type ToolInfo struct {
	ID              string   `json:"id"`
	Label           string   `json:"label"`
	Description     string   `json:"description"`
	Source          string   `json:"source"` // core
	Class           string   `json:"class"`  // read, write, execute, network, session or admin
	DefaultProfiles []string `json:"defaultProfiles"`
	Effective       bool     `json:"effective"` // the agent's turns may call it
}
