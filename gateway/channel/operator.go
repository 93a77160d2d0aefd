package channel

import (
	"errors"
	"fmt"
	"slices"

	"openclaw/reload/config"
)

// This file is what operators do to the accounts of a Set: link and unlink them,
// and decide on who waits for leave to write.

// Logout has an account that links itself unlink, and returns its id. Of several
// it guesses none.
func (s *Set) Logout(channel, account string) (string, error) {
	a, p, err := s.linking(channel, account)
	if err != nil {
		return "", err
	}
	others := func(r *running) bool { return r.conf.Channel == channel && r.conf.Account != a.ID() }
	if account == "" && a.ID() != config.DefaultAccount && slices.ContainsFunc(s.all(), others) {
		return "", fmt.Errorf("%s: %w", channel, ErrSeveral)
	}
	return a.ID(), p.logout()
}

// Login has an account that links itself do so, or go on after a closing that
// waits for an operator. Its Status tells how that fares.
func (s *Set) Login(channel, account string) (*Account, error) {
	a, p, err := s.linking(channel, account)
	if err != nil {
		return nil, err
	}
	if s := a.Status(); s.State != StateOpen && s.QR == "" { // else that is under way
		p.link(a)
	}
	return a, nil
}

// linking finds an account whose channel is a program.
func (s *Set) linking(channel, account string) (*Account, *process, error) {
	a, err := s.Account(channel, account)
	if err != nil {
		return nil, nil, err
	}
	p, ok := a.channel.(*process)
	if !ok {
		return nil, nil, fmt.Errorf("%s: %w", a.name(), ErrToken)
	}
	return a, p, nil
}

// ClearUncertain forgets the uncertain messages of an account, which an operator
// has seen, and returns its id and how many there were.
func (s *Set) ClearUncertain(channel, account string) (id string, n int, err error) {
	a, err := s.Account(channel, account)
	if err != nil {
		return "", 0, err
	}
	n = a.Status().Unsure
	return a.ID(), n, a.keep(entry{Cleared: true})
}

// Pending lists who waits for leave to write to a channel, and the ids that
// have it, by account.
func (s *Set) Pending(channel string) (waiting []Request, allowed map[string][]string, err error) {
	p, err := s.pairingOf(channel)
	if err != nil {
		return nil, nil, err
	}
	return p.list()
}

// Approve gives that leave to whom the code was told, and tells them where that
// can be queued.
func (s *Set) Approve(channel, code string) (Request, error) {
	p, err := s.pairingOf(channel)
	if err != nil {
		return Request{}, err
	}
	r, err := p.approve(code, true)
	if err == nil {
		if a, e := s.Account(channel, r.Account); e == nil {
			if e := a.Queue(Outbound{ID: "approved-" + r.Code, To: r.Chat, Text: "You are approved. Say something."}, nil); e != nil {
				a.log.Warn("an approved sender is not told", "channel", a.name(), "peer", r.ID, "err", e)
			}
		}
	}
	return r, err
}

// Reject refuses it to whom the code was told: there is no other one for a while.
func (s *Set) Reject(channel, code string) (Request, error) {
	p, err := s.pairingOf(channel)
	if err != nil {
		return Request{}, err
	}
	return p.approve(code, false)
}

// Revoke takes it back, for one account or for all, and returns which had it.
func (s *Set) Revoke(channel, account, id string) (accounts []string, err error) {
	p, err := s.pairingOf(channel)
	if err != nil {
		return nil, err
	}
	return p.revoke(account, config.PeerID(channel, id))
}

func (s *Set) pairingOf(channel string) (*pairing, error) {
	if _, err := s.Account(channel, ""); errors.Is(err, ErrUnknown) {
		return nil, err
	}
	return s.pairing(channel)
}
