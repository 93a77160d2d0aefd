package agent

import "encoding/json"

// Tool is a function that a model may ask for by name.
type Tool struct {
	Name        string
	Description string
	Parameters  json.RawMessage // a JSON Schema object; absent means no parameters
	Strict      bool            // ask the provider to hold the model to the schema
}
