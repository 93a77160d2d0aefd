package config

import (
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"
)

// The built-in model answers without any provider and says that it is none.
const (
	builtinProvider = "builtin"
	builtinModel    = "echo"
	BuiltinRef      = builtinProvider + "/" + builtinModel
	APIBuiltin      = "builtin"
)

// The protocols that a provider may speak.
const (
	APIOpenAICompletions = "openai-completions"
	APIOpenAIResponses   = "openai-responses"
	APIAnthropicMessages = "anthropic-messages"
)

// ResolvedAgent is an agent with agents.defaults filled in.
type ResolvedAgent struct {
	ID, Name     string
	Default      bool
	Workspace    string   // as configured, "" for the default; see Paths.WorkspaceOf
	Primary      string   // provider/model, never ""
	Fallbacks    []string // in order
	SystemPrompt string
	SandboxMode  string // off, non-main or all
	Timeout      time.Duration
	Tools        Tools // of this agent alone, beside the configuration's own
}

// Refs are the primary model and its fallbacks, in the order to try them.
func (a ResolvedAgent) Refs() []string { return append([]string{a.Primary}, a.Fallbacks...) }

// ResolvedModel is a model with all that is needed to call it.
type ResolvedModel struct {
	Ref, Provider, ID, Name string
	API                     string // APIBuiltin or one of the protocols above
	BaseURL                 string // without a slash at its end
	APIKey                  Secret
	Headers                 map[string]Secret
	ContextWindow           int
	MaxTokens               int
	Reasoning               bool
	Images                  bool
	Cost                    Cost
}

// Agent returns the agent called id.
func (c *Config) Agent(id string) (ResolvedAgent, bool) {
	list := c.agents()
	i := slices.IndexFunc(list, func(a Agent) bool { return a.ID == id })
	if i < 0 {
		return ResolvedAgent{}, false
	}
	return c.resolveAgent(list, i), true
}

// DefaultAgentID is the agent marked default, else the first.
func (c *Config) DefaultAgentID() string {
	list := c.agents()
	return list[defaultAgent(list)].ID
}

// AgentList is every agent in the file's order. Without any in the file there is one, main.
func (c *Config) AgentList() []ResolvedAgent {
	list := c.agents()
	all := make([]ResolvedAgent, len(list))
	for i := range list {
		all[i] = c.resolveAgent(list, i)
	}
	return all
}

func (c *Config) agents() []Agent {
	if len(c.Agents.List) == 0 {
		return []Agent{{ID: "main", Default: true}}
	}
	return c.Agents.List
}

func defaultAgent(list []Agent) int {
	return max(0, slices.IndexFunc(list, func(a Agent) bool { return a.Default }))
}

func (c *Config) resolveAgent(list []Agent, i int) ResolvedAgent {
	a, d := &list[i], &c.Agents.Defaults
	seconds := a.TimeoutSeconds
	if seconds == 0 {
		seconds = d.TimeoutSeconds
	}
	r := ResolvedAgent{
		ID:           a.ID,
		Name:         firstOf(a.Name, a.ID),
		Default:      i == defaultAgent(list),
		Workspace:    firstOf(a.Workspace, d.Workspace),
		Primary:      firstOf(a.Model.Primary, d.Model.Primary, BuiltinRef),
		Fallbacks:    a.Model.Fallbacks,
		SystemPrompt: firstOf(a.SystemPrompt, d.SystemPrompt),
		Tools:        a.Tools,
		SandboxMode:  firstOf(a.Sandbox.Mode, d.Sandbox.Mode, "non-main"),
		Timeout:      time.Duration(seconds) * time.Second,
	}
	// An empty list in the file means none; an absent one means the default's.
	if r.Fallbacks == nil {
		r.Fallbacks = d.Model.Fallbacks
	}
	return r
}

func firstOf(words ...string) string {
	for _, w := range words {
		if w != "" {
			return w
		}
	}
	return ""
}

// Errors of Model, for callers that must tell them apart.
var (
	ErrUnknownModel   = errors.New("unknown model")
	ErrUnsupportedAPI = errors.New("unsupported model API")
)

// Model finds a model by its reference, provider/model. A provider serves any
// model id; one that it does not list gets the table's defaults.
func (c *Config) Model(ref string) (ResolvedModel, error) {
	if ref == BuiltinRef {
		return ResolvedModel{Ref: ref, Provider: builtinProvider, ID: builtinModel, Name: "Echo", API: APIBuiltin, ContextWindow: 128_000, MaxTokens: 8192}, nil
	}
	provider, id, ok := strings.Cut(ref, "/")
	if !ok || id == "" {
		return ResolvedModel{}, fmt.Errorf("%w: %q is not provider/model", ErrUnknownModel, ref)
	}
	p, ok := c.Models.Providers[provider]
	if !ok {
		return ResolvedModel{}, fmt.Errorf("%w: %q: no provider %q under models.providers", ErrUnknownModel, ref, provider)
	}
	switch p.API {
	case APIOpenAICompletions, APIOpenAIResponses, APIAnthropicMessages:
	default:
		return ResolvedModel{}, fmt.Errorf("%w: provider %q speaks %s", ErrUnsupportedAPI, provider, p.API)
	}
	m := ProviderModel{ID: id}
	if i := slices.IndexFunc(p.Models, func(m ProviderModel) bool { return m.ID == id }); i >= 0 {
		m = p.Models[i]
	} else {
		setDefaults(reflect.ValueOf(&m).Elem())
	}
	return ResolvedModel{
		Ref: ref, Provider: provider, ID: id, Name: firstOf(m.Name, id),
		API: p.API, BaseURL: strings.TrimRight(p.BaseURL, "/"), APIKey: p.APIKey, Headers: p.Headers,
		ContextWindow: m.ContextWindow, MaxTokens: m.MaxTokens, Reasoning: m.Reasoning,
		Images: slices.Contains(m.Input, "image"), Cost: m.Cost,
	}, nil
}

// ModelRefs are the references of all models listed, sorted, the built-in one last.
func (c *Config) ModelRefs() []string {
	var refs []string
	for _, id := range sortedKeys(c.Models.Providers) {
		for _, m := range c.Models.Providers[id].Models {
			refs = append(refs, id+"/"+m.ID)
		}
	}
	return append(refs, BuiltinRef)
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
