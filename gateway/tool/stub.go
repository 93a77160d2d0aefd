// Package tool is a stand-in.
package tool

import (
	"encoding/json"

	"openclaw/gateway/store"
	"openclaw/reload/config"
)

type Class string
type Definition struct {
	Name, Description string
	Parameters        json.RawMessage
	Class             Class
	Groups            []string
}
type Scope struct {
	Agent             config.ResolvedAgent
	SessionKey, RunID string
	Workspace         string
	Main              bool
	Provider          string
	HTTP              bool
}
type Result struct {
	Content store.Content
	Details json.RawMessage
	IsError bool
}
