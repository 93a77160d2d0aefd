package channel

import (
	"fmt"
	"slices"
)

// Reach reports whether an agent may write to a chat of its own accord: to a
// person who is listed or whom an operator has approved, or to a group that is
// listed. That anybody may write to an account lets nobody be written to. agent
// tells whose chat it is; an agent writes only to those whom it also answers.
func (s *Set) Reach(channel, account, to string, agent func(account string, group bool) bool) error {
	a, err := s.find(channel, account)
	if err != nil {
		return err
	}
	c := &a.conf
	g, group := c.Groups[to]
	ok := slices.Contains(c.AllowFrom, to) || c.DMPolicy == "pairing" && a.pairing.allowed(c.Account, to)
	if ok = ok && c.DMPolicy != "disabled"; group {
		ok = g.Enabled && c.GroupPolicy != "disabled"
	}
	if !ok || to == "*" || !agent(c.Account, group) {
		return fmt.Errorf("%w: %s is not a chat that this agent may write to; an operator lists or approves those", ErrTarget, plain(to, 128))
	}
	return nil
}
