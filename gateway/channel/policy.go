package channel

import (
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
	listed := func(list []string, id string) bool {
		return id != "" && slices.Contains(list, id)
	}
	if m.From == "" || m.Edited {
		return refused // what was said has been answered
	}
	if !m.Group {
		switch {
		case c.DMPolicy == "disabled":
		case c.DMPolicy == "open", listed(c.AllowFrom, m.From):
			return admitted
		case c.DMPolicy == "pairing" && paired(m.From):
			return admitted
		case c.DMPolicy == "pairing":
			return asked
		}
		return refused
	}
	group, known := c.Groups[m.Chat]
	if !known {
		group, known = c.Groups["*"]
	}
	switch {
	case c.GroupPolicy == "disabled", len(c.Groups) > 0 && !known, known && !group.Enabled:
		return refused
	case c.GroupPolicy != "open":
		from := c.GroupAllowFrom
		if from == nil {
			from = c.AllowFrom
		}
		if !listed(from, m.From) {
			return refused
		}
	}
	if (!known || group.RequireMention) && !m.Mentioned {
		return refused
	}
	return admitted
}
