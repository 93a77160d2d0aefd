package channel

import (
	"cmp"
	"slices"

	"openclaw/reload/config"
)

// A verdict is what becomes of an inbound message.
type verdict int

const (
	refused verdict = iota // dropped without a word
	asked                  // the sender is told a pairing code
	admitted
)

// judge says what becomes of m. Only ids are compared, exactly; a name, which
// anybody can take, means nothing. paired tells whom an operator has approved.
func judge(c *config.ChannelAccount, m *Inbound, paired func(id string) bool) verdict {
	switch {
	case m.From == "", m.Edited: // what was said has been answered
		return refused
	case m.Group:
		return judgeGroup(c, m)
	}
	policy, from := c.DMPolicy, c.AllowFrom
	if d, ok := c.With(m.Chat); ok {
		if !d.Enabled || d.RequireTopic && m.Thread == "" || d.AllowFrom != nil && !listed(d.AllowFrom, m.From) {
			return refused
		}
		policy = cmp.Or(d.DMPolicy, policy)
		if d.AllowFrom != nil {
			from = d.AllowFrom
		}
	}
	switch {
	case policy == "disabled":
		return refused
	case listed(from, m.From), policy == "pairing" && paired(m.From): // open is a list with *
		return admitted
	case policy == "pairing":
		return asked
	}
	return refused
}

// judgeGroup is judge in groups, where pairing means nothing: a list of the
// topic or group binds whatever the policy, the account's with allowlist.
func judgeGroup(c *config.ChannelAccount, m *Inbound) verdict {
	at, known := c.In(m.Chat, m.Thread)
	named := len(c.Groups) > 0 || c.Kind == "telegram" && c.GroupPolicy != "open" // which groups there are
	policy, from := cmp.Or(at.GroupPolicy, c.GroupPolicy), at.AllowFrom
	if from == nil && policy != "open" {
		if from = c.GroupAllowFrom; from == nil {
			from = c.AllowFrom
		}
	}
	switch {
	case c.GroupPolicy == "disabled", policy == "disabled", named && !known, known && !at.Enabled:
		return refused
	case (at.AllowFrom != nil || policy != "open") && !listed(from, m.From):
		return refused
	case at.RequireMention && !m.Mentioned:
		return refused
	}
	return admitted
}

// listed reports whether a list names an id, or everybody.
func listed(list []string, id string) bool {
	return slices.Contains(list, id) || slices.Contains(list, "*")
}
