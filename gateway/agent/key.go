package agent

import (
	"strings"
	"unicode/utf8"

	"openclaw/reload/config"
)

// Session keys are agent:ID:REST. REST of an agent's main session is
// session.mainKey; other shapes are direct:PEER, CHANNEL:direct:PEER,
// CHANNEL:group:PEER, subagent:UUID, hook:UUID and whatever else a client
// chooses. The key global stands alone: with session.scope global it is the
// main session of every agent.
const (
	globalKey  = "global"
	unknownKey = "unknown"
	maxKey     = 512 // bytes; our own bound
	maxAgentID = 64
)

// The kinds of sessions, as listed.
const (
	KindDirect  = "direct"
	KindGroup   = "group"
	KindGlobal  = "global"
	KindUnknown = "unknown"
)

// An address is where a turn goes.
type address struct {
	place
	agent string // who answers
}

// A place is where a session is.
type place struct {
	home string // whose directory holds it: the key's agent, for global the default one
	key  string // canonical
}

// resolve finds the canonical key that key and agentID mean. Either may be
// empty: an agent alone means its main session, a key without an agent one of
// the default agent's.
func resolve(cfg *config.Config, key, agentID string) (address, error) {
	fallback := cfg.DefaultAgentID()
	agent := fallback
	if agentID != "" {
		if agent = normalAgentID(agentID); agent == "" {
			return address{}, refuse(ErrUnknownAgent, "unknown agent id %q", agentID)
		}
	}
	if len(key) > maxKey || !utf8.ValidString(key) || strings.ContainsFunc(key, isControl) {
		return address{}, refuse(ErrInvalidKey, "invalid session key: at most %d bytes of text without control characters", maxKey)
	}
	key = strings.TrimSpace(key)
	rest := key
	if prefix, after, ok := strings.Cut(key, ":"); ok && strings.EqualFold(prefix, "agent") {
		id, after, _ := strings.Cut(after, ":")
		owner := normalAgentID(id)
		if rest = strings.TrimSpace(after); owner == "" || rest == "" {
			return address{}, refuse(ErrInvalidKey, "invalid session key %q: want agent:ID:NAME", key)
		}
		if agentID != "" && agent != owner {
			return address{}, refuse(ErrAgentMismatch, "agent %q does not match session key agent %q", agent, owner)
		}
		agent = owner
	}
	main := mainName(cfg)
	switch lower := strings.ToLower(rest); lower {
	case "", "main", strings.ToLower(main):
		if cfg.Session.Scope == "global" {
			return address{place{fallback, globalKey}, agent}, nil
		}
		rest = main
	case globalKey, unknownKey:
		if rest == key {
			return address{place{fallback, lower}, agent}, nil
		}
	}
	return address{place{agent, "agent:" + agent + ":" + rest}, agent}, nil
}

// mainName is the last part of main sessions' keys.
func mainName(cfg *config.Config) string {
	if cfg.Session.MainKey != "" {
		return cfg.Session.MainKey
	}
	return "main"
}

// isMain reports whether p is a main session's.
func isMain(cfg *config.Config, p place) bool {
	return p.key == globalKey || p.key == "agent:"+p.home+":"+mainName(cfg)
}

// normalAgentID is id in the form that directories are named by
// ([a-z0-9][a-z0-9_-]{0,63}): lower case, "-" for what may not occur. It is
// empty when nothing is left.
func normalAgentID(id string) string {
	id = strings.Map(func(r rune) rune {
		switch {
		case 'A' <= r && r <= 'Z':
			return r + 'a' - 'A'
		case 'a' <= r && r <= 'z', '0' <= r && r <= '9', r == '_':
			return r
		}
		return '-'
	}, strings.TrimSpace(id))
	id = strings.TrimLeft(id, "-_")
	return strings.TrimRight(id[:min(len(id), maxAgentID)], "-")
}

// keyKind tells what kind of session a canonical key names.
func keyKind(key string) string {
	switch {
	case key == globalKey:
		return KindGlobal
	case key == unknownKey:
		return KindUnknown
	case strings.Contains(key, ":group:"), strings.Contains(key, ":channel:"):
		return KindGroup
	}
	return KindDirect
}

func isControl(r rune) bool { return r < ' ' || 0x7f <= r && r < 0xa0 }
