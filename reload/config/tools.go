package config

import (
	"path"
	"slices"
	"strings"
)

// Tools is a tool policy: what all agents may use, or what one of them may of that.
type Tools struct {
	Profile    string               `key:"profile" oneof:"minimal,coding,messaging,full" reload:"hot" doc:"Tools to begin with; coding when neither profile nor allow is given. An agent's own comes in place of the general one."`
	Allow      []string             `key:"allow" reload:"hot" doc:"Tools and groups to keep of the profile, without one of all; all when absent, none when empty."`
	AlsoAllow  []string             `key:"alsoAllow" reload:"hot" doc:"Tools and groups that are added to the profile."`
	Deny       []string             `key:"deny" reload:"hot" doc:"Tools and groups taken away again; this wins over everything else."`
	ByProvider map[string]ToolRules `key:"byProvider"`
	Exec       Exec                 `key:"exec"`
}

// AllTools is the policy for all agents, and what its tools may do.
type AllTools struct {
	Tools
	Web Web `key:"web"`
}

// Web is what tools may do on the web.
type Web struct {
	Fetch WebFetch `key:"fetch"`
}

// WebFetch bounds the tool web_fetch. Its keys are the product's.
type WebFetch struct {
	Enabled          bool `key:"enabled" default:"true" reload:"hot" doc:"Offer web_fetch to those whose policy has it."`
	MaxChars         int  `key:"maxChars" default:"50000" min:"100" max:"60000" reload:"hot" doc:"Characters of a page that web_fetch shows; a call may ask for fewer."`
	MaxResponseBytes int  `key:"maxResponseBytes" default:"2000000" min:"1000" max:"10000000" reload:"hot" doc:"Bytes of a page that are read, as sent and as unpacked; the rest is cut off."`
	TimeoutSeconds   int  `key:"timeoutSeconds" default:"30" min:"1" max:"300" reload:"hot" doc:"Time web_fetch may take, in seconds, redirects and all."`
	MaxRedirects     int  `key:"maxRedirects" default:"3" min:"0" max:"3" reload:"hot" doc:"Redirects that web_fetch follows."`
}

// ToolRules narrow a policy further while a model provider, or one of its models, is in use.
type ToolRules struct {
	Profile   string   `key:"profile" oneof:"minimal,coding,messaging,full" reload:"hot" doc:"Tools that turns with this provider, or provider/model, may use at most."`
	Allow     []string `key:"allow" reload:"hot" doc:"Tools and groups to keep with it; all when absent."`
	AlsoAllow []string `key:"alsoAllow" reload:"hot" doc:"Tools and groups that are added to its profile."`
	Deny      []string `key:"deny" reload:"hot" doc:"Tools and groups taken away with it."`
}

// HTTPTools is the policy of POST /tools/invoke, on top of the agent's.
type HTTPTools struct {
	Allow []string `key:"allow" reload:"hot" doc:"Tools and groups that /tools/invoke serves besides the harmless ones: what reads or changes files, runs programs or shows the configuration is off until named."`
	Deny  []string `key:"deny" reload:"hot" doc:"Tools and groups that /tools/invoke does not serve."`
}

// ToolGroup is a set of tools that a policy can name as a whole.
type ToolGroup struct {
	ID, Label string
	Tools     []string
}

// ToolGroups are the groups of the OpenClaw product with the tools of this
// program that belong to them. group:openclaw is all of them.
func ToolGroups() []ToolGroup { return toolGroups }

var toolGroups = []ToolGroup{
	{"group:fs", "Files", []string{"read", "write", "edit", "list", "grep"}},
	{"group:runtime", "Programs", []string{"exec", "process"}},
	{"group:web", "Web", []string{"web_fetch"}},
	{"group:sessions", "Sessions", []string{"sessions_list", "sessions_history", "session_status"}},
	{"group:agents", "Agents", []string{"agents_list"}},
	{"group:ui", "Browser and canvas", []string{"browser", "canvas"}},
	{"group:messaging", "Messaging", []string{"message"}},
	{"group:nodes", "Nodes", []string{"nodes"}},
	{"group:automation", "Gateway", []string{"gateway"}},
	{"group:memory", "Memory", nil},
	{"group:media", "Media", nil},
	{"group:plugins", "Plugins", nil},
}

const allTools = "group:openclaw"

// GroupsOf returns the groups that a tool belongs to.
func GroupsOf(name string) []string {
	var groups []string
	for _, g := range toolGroups {
		if slices.Contains(g.Tools, name) {
			groups = append(groups, g.ID)
		}
	}
	return append(groups, allTools)
}

// profiles say what each profile begins with, in the product's own order.
var profiles = []struct {
	ID, Label string
	tools     []string
}{
	{"minimal", "Minimal", []string{"session_status"}},
	{"coding", "Coding", []string{"group:fs", "group:runtime", "group:web", "group:sessions", "group:agents", "group:memory"}},
	{"messaging", "Messaging", []string{"group:messaging", "group:sessions"}},
	{"full", "Full", []string{"*"}},
}

// ToolProfiles are the ids of the profiles and what people call them.
func ToolProfiles() (ids, labels []string) {
	for _, p := range profiles {
		ids, labels = append(ids, p.ID), append(labels, p.Label)
	}
	return ids, labels
}

// InProfile reports whether a profile begins with a tool.
func InProfile(profile, tool string) bool {
	for _, p := range profiles {
		if p.ID == profile {
			return Names(p.tools, tool)
		}
	}
	return false
}

// Names reports whether a list of a policy names a tool: by its name, by a
// group, or by a pattern with *, in any case.
func Names(list []string, tool string) bool {
	return slices.ContainsFunc(list, func(word string) bool {
		word = toolWord(word)
		if word == tool || word == allTools {
			return true
		}
		for _, g := range toolGroups {
			if g.ID == word {
				return slices.Contains(g.Tools, tool)
			}
		}
		if !strings.Contains(word, "*") {
			return false
		}
		ok, err := path.Match(word, tool)
		return ok && err == nil
	})
}

// toolWord is a word of a policy as it is compared.
func toolWord(word string) string {
	word = strings.ToLower(strings.TrimSpace(word))
	if word == "bash" { // what exec is called in some models' and people's words
		return "exec"
	}
	return word
}

// toolsOutside are tools of the wider product. A policy that names one says
// nothing wrong, and nothing that counts here.
const toolsOutside = "agents_wait apply_patch apply-patch automations code_execution computer cron heartbeat_respond image image_generate memory_get memory_search " +
	"music_generate pdf portal screen sessions_send sessions_spawn sessions_yield subagents terminal tts update_plan video_generate web_search x_search"

// checkTools warns of words in policies that mean nothing: a policy that was
// mistyped allows less than meant, or denies less.
func (b *binder) checkTools(c *Config) {
	known := []string{allTools}
	for _, g := range toolGroups {
		known = append(append(known, g.ID), g.Tools...)
	}
	outside := strings.Fields(toolsOutside)
	words := func(path string, list []string) {
		if n := b.at[path]; n != nil && len(n.Items) != len(list) {
			return // some are no words, which is told already
		}
		for i, word := range list {
			w, at := toolWord(word), joinIndex(path, i)
			switch {
			case slices.Contains(known, w), strings.Contains(w, "*"):
			case slices.Contains(outside, w):
				b.warn(at, b.at[at], "is a tool of the wider OpenClaw product; this gateway has none of that name")
			default:
				b.warn(at, b.at[at], "unknown tool or group"+b.suggest(w, known))
			}
		}
	}
	rules := func(path string, r ToolRules) {
		words(path+".allow", r.Allow)
		words(path+".alsoAllow", r.AlsoAllow)
		words(path+".deny", r.Deny)
	}
	policy := func(path string, t *Tools) {
		rules(path, ToolRules{"", t.Allow, t.AlsoAllow, t.Deny})
		b.checkExec(path+".exec", &t.Exec)
		for _, id := range sortedKeys(t.ByProvider) {
			at := joinKey(path+".byProvider", id)
			if provider, _, _ := strings.Cut(id, "/"); !slices.Contains(b.providers, provider) && !slices.Contains(strings.Fields(builtOutside), provider) {
				b.warn(at, b.at[at], "names a provider that is not under models.providers"+b.suggest(provider, b.providers))
			}
			rules(at, t.ByProvider[id])
		}
	}
	policy("tools", &c.Tools.Tools)
	for i := range c.Agents.List {
		policy(joinIndex("agents.list", i)+".tools", &c.Agents.List[i].Tools)
	}
	rules("gateway.tools", ToolRules{"", c.Gateway.Tools.Allow, nil, c.Gateway.Tools.Deny})
}
