package wire

// ConfigWrite are the params of config.set (a whole file), config.patch (a
// merge patch, RFC 7396) and config.apply (the same as config.set).
type ConfigWrite struct {
	Raw            string `json:"raw" wire:"required,max=1048576"`       // JSON5; placeholders of redacted secrets keep the stored ones
	BaseHash       string `json:"baseHash,omitempty" wire:"max=128"`     // hash of the file that was edited; required once there is a file
	SessionKey     string `json:"sessionKey,omitempty" wire:"max=512"`   // of clients that ask on behalf of a session
	Note           string `json:"note,omitempty" wire:"max=1024"`        // for the log
	RestartDelayMs int64  `json:"restartDelayMs,omitempty" wire:"min=0"` // taken for compatibility: a restart begins once this is answered
}

// ConfigWritten is the answer to ConfigWrite.
type ConfigWritten struct {
	OK      bool           `json:"ok"`
	Path    string         `json:"path"`
	Config  Raw            `json:"config"` // in effect now, secrets redacted
	Hash    string         `json:"hash"`   // SHA-256 of the file as written, hex
	Changes []ConfigChange `json:"changes"`
	Applied []string       `json:"applied"`
	Pending []string       `json:"pending"`
	Restart bool           `json:"restart,omitempty"` // a restart in process follows
}

// ReloadQuery are the params of gateway.reload.
type ReloadQuery struct {
	DryRun bool `json:"dryRun,omitempty"` // only say what it would do
}

// Reloaded is the answer to gateway.reload.
type Reloaded struct {
	OK      bool           `json:"ok"`
	Hash    string         `json:"hash"`    // SHA-256 of the file, hex
	Changes []ConfigChange `json:"changes"` // what differed from the running configuration
	Applied []string       `json:"applied"`
	Pending []string       `json:"pending"`           // with Restart what the restart applies
	Restart bool           `json:"restart,omitempty"` // a restart in process follows

	Warnings []ConfigIssue `json:"warnings,omitempty"` // of the file, also of keys that the command line overrules
}

// ConfigChange is one key that differs.
type ConfigChange struct {
	Path  string `json:"path"`
	Class string `json:"class"` // none, hot or restart
}

// ConfigChanged is the payload of config.changed.
type ConfigChanged struct {
	Ts      int64    `json:"ts"`     // Unix milliseconds
	Source  string   `json:"source"` // file, rpc, reload, SIGHUP
	Hash    string   `json:"hash"`
	Applied []string `json:"applied"`
	Pending []string `json:"pending"`
	Restart bool     `json:"restart,omitempty"`
}

// ConfigRejected is the payload of config.rejected: the running configuration stays.
type ConfigRejected struct {
	Ts     int64         `json:"ts"` // Unix milliseconds
	Source string        `json:"source"`
	Hash   string        `json:"hash,omitempty"` // of the file, where it could be read
	Error  string        `json:"error"`
	Issues []ConfigIssue `json:"issues"`
}

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
