package wire

// ConfigSchema is the answer to config.schema.
type ConfigSchema struct {
	Schema      Raw                   `json:"schema"` // JSON Schema, draft 2020-12
	UIHints     map[string]ConfigHint `json:"uiHints"`
	Version     string                `json:"version"`     // of the gateway
	GeneratedAt string                `json:"generatedAt"` // RFC 3339
}

// ConfigHint says how a form shows one key.
type ConfigHint struct {
	Help      string `json:"help,omitempty"`
	Sensitive bool   `json:"sensitive,omitempty"` // a secret: never shown, kept when written back redacted
}
