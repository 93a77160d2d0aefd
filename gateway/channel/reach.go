package channel

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"openclaw/reload/config"
)

// Reach reports whether an agent may write to a chat of its own accord: to a
// person who is listed or whom an operator has approved, or to a group that is
// listed. That anybody may write to an account lets nobody be written to. agent
// tells whose chat it is; an agent writes only to those whom it also answers.
func (s *Set) Reach(channel, account, to string, agent func(account string, group bool) bool) error {
	a, err := s.Account(channel, account)
	if err != nil {
		return err
	}
	c := &a.conf
	to = config.PeerID(channel, to)
	g, group := c.Groups[to]
	_, policy, from := direct(c, to)
	ok := person(c.Kind, to) && (policy != "disabled" && slices.Contains(from, to) || policy == "pairing" && a.pairing.allowed(c.Account, to))
	if group {
		ok = g.Enabled && c.GroupPolicy != "disabled" && g.GroupPolicy != "disabled"
	}
	if !ok || to == "*" || !agent(c.Account, group) {
		return fmt.Errorf("%w: %s is not a chat that this agent may write to; an operator lists or approves those", ErrTarget, plain(to, 128))
	}
	return nil
}

// person reports whether an id can be a person's. What else stands in a list of
// people, a group or a name, is nobody who could write, and is not written to.
func person(kind, id string) bool {
	switch kind {
	case "telegram":
		return isNumber(id)
	case "whatsapp":
		return strings.HasSuffix(id, "@s.whatsapp.net") || strings.HasSuffix(id, "@lid")
	}
	return true
}

// isNumber reports whether s is a positive number as Telegram writes it.
func isNumber(s string) bool {
	n, err := strconv.ParseInt(s, 10, 64)
	return err == nil && n > 0 && strconv.FormatInt(n, 10) == s
}
