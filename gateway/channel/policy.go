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

// judge says what becomes of m now.
func (a *Account) judge(m *Inbound) verdict {
	return judge(&a.conf, m, func(id string) bool { return a.pairing.allowed(a.conf.Account, id) })
}

// wants reports whether m is a new message that will be let in.
func (a *Account) wants(m *Inbound) bool { return !a.journal.known(m.ID) && a.judge(m) == admitted }

// judge says what becomes of m. Only ids are compared, exactly; a name, which
// anybody can take, means nothing. paired tells whom an operator has approved.
func judge(c *config.ChannelAccount, m *Inbound, paired func(id string) bool) verdict {
	switch {
	case m.From == "", m.Edited: // what was said has been answered
		return refused
	case m.Group:
		return judgeGroup(c, m)
	}
	own, policy, from := direct(c, m.From)
	switch {
	case policy == "disabled", own.RequireTopic && m.Thread == "", own.AllowFrom != nil && !listed(own.AllowFrom, m.From):
		return refused
	case listed(from, m.From), policy == "pairing" && paired(m.From): // open is a list with *
		return admitted
	case policy == "pairing":
		return asked
	}
	return refused
}

// direct is the policy and the list for one person, and what is said of that
// person alone, if anything.
func direct(c *config.ChannelAccount, id string) (own config.Direct, policy string, from []string) {
	own, known := c.With(id)
	policy, from = cmp.Or(own.DMPolicy, c.DMPolicy), c.AllowFrom
	if known && !own.Enabled {
		policy = "disabled"
	}
	if own.AllowFrom != nil {
		from = own.AllowFrom
	}
	return own, policy, from
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
