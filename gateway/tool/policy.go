package tool

import (
	"slices"
	"strings"

	"openclaw/reload/config"
)

// effective returns the rows that a scope may use. Nothing else decides: each
// step below only takes away, so that a denied name stays denied, a child
// never has more than its parent, and the HTTP door never opens wider than the
// agent's own policy.
func effective(cfg *config.Config, s *Scope) []*row {
	own := &s.Agent.Tools
	start := cfg.Tools
	if own.Profile != "" {
		start.Profile = own.Profile
	}
	start.AlsoAllow = slices.Concat(start.AlsoAllow, own.AlsoAllow)
	var out []*row
	for _, r := range rows() {
		ok := permits(config.ToolRules{Profile: start.Profile, Allow: start.Allow, AlsoAllow: start.AlsoAllow, Deny: start.Deny}, "coding", r.Name) &&
			permits(config.ToolRules{Allow: own.Allow, Deny: own.Deny}, "full", r.Name) &&
			permitsWith(cfg.Tools.ByProvider, s.Provider, r.Name) &&
			permitsWith(own.ByProvider, s.Provider, r.Name) &&
			(r.Name != webFetchName || cfg.Tools.Web.Fetch.Enabled) &&
			(s.Parent == nil || s.Parent.Has(r.Name)) &&
			(!s.HTTP || permitsHTTP(&cfg.Gateway.Tools, r))
		if ok {
			out = append(out, r)
		}
	}
	return out
}

// permits reports whether rules leave a tool. usual is the profile where the
// rules name neither one nor an allow-list.
func permits(r config.ToolRules, usual, name string) bool {
	profile := r.Profile
	if profile == "" {
		if profile = usual; r.Allow != nil {
			profile = "full"
		}
	}
	return (config.InProfile(profile, name) || config.Names(r.AlsoAllow, name)) &&
		(r.Allow == nil || config.Names(r.Allow, name)) && !config.Names(r.Deny, name)
}

// permitsWith applies the rules of a provider and of its model, where there are any.
func permitsWith(by map[string]config.ToolRules, provider, name string) bool {
	id, _, _ := strings.Cut(provider, "/")
	for _, key := range []string{id, provider} {
		if r, ok := by[key]; ok && !permits(r, "full", name) {
			return false
		}
	}
	return true
}

// permitsHTTP keeps what needs no approval of its own for a caller that is no
// model: conversations and fetching. The rest must be named.
func permitsHTTP(p *config.HTTPTools, r *row) bool {
	harmless := r.Class == Session || r.Class == Network
	return (harmless || config.Names(p.Allow, r.Name)) && !config.Names(p.Deny, r.Name)
}
