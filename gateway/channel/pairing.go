package channel

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"time"

	"openclaw/gateway/store"
)

const (
	codeLetters  = "ABCDEFGHJKLMNPQRSTUVWXYZ23456789" // without I, O, 0 and 1, which look alike
	codeLength   = 8
	codeLife     = time.Hour
	maxPending   = 3                // codes per account at a time
	pendingStay  = 10 * time.Minute // after which one gives way to who asks
	askAgain     = 10 * time.Minute // before a sender is told the code once more
	maxGuesses   = 10               // wrong codes per hour, of a channel
	pairingLimit = 1 << 20
)

// What Approve, Reject and Revoke refuse.
var (
	ErrCode    = errors.New("no such pairing code, or it has expired")
	ErrNobody  = errors.New("no operator has approved this id; who is listed in allowFrom is taken out there")
	ErrGuesses = errors.New("too many wrong pairing codes; wait an hour")
)

// Request is a sender who waits for an operator.
type Request struct {
	Code    string `json:"code"`
	Account string `json:"account"`
	ID      string `json:"id"`
	Chat    string `json:"chat"` // where the sender is told
	Name    string `json:"name,omitempty"`
	At      int64  `json:"at"`                // milliseconds
	Refused bool   `json:"refused,omitempty"` // and waits in vain
	told    time.Time
}

// pairing is who may write to a channel by an operator's leave. It is in a file
// of the state directory and changes only there first; what else changed the
// file is read before it changes again.
type pairing struct {
	dir  *store.Dir
	name string

	mu      sync.Mutex
	state   pairingFile
	raw     []byte // the file that state was read from or written to
	guesses []time.Time
	full    map[string]bool // accounts of which it was told that too many wait
}

type pairingFile struct {
	Pending []Request           `json:"pending"`
	Allowed map[string][]string `json:"allowed"` // ids by account
}

func openPairing(dir *store.Dir, channel string) (*pairing, error) {
	p := &pairing{dir: dir, name: "channels/" + channel + "-pairing.json", full: map[string]bool{}}
	return p, p.refresh()
}

// refresh reads the file if it is not as it was left.
func (p *pairing) refresh() error {
	raw, err := p.dir.ReadFile(p.name, pairingLimit)
	if errors.Is(err, fs.ErrNotExist) {
		raw, err = nil, nil
	}
	if err == nil && bytes.Equal(raw, p.raw) {
		return nil
	}
	var state pairingFile
	if err == nil && raw != nil {
		err = json.Unmarshal(raw, &state)
	}
	if err != nil {
		return fmt.Errorf("read %s: %w", p.name, err)
	}
	p.state, p.raw = state, raw
	return nil
}

// allowed reports whether an operator has approved id.
func (p *pairing) allowed(account, id string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Contains(p.state.Allowed[account], id)
}

// ask returns the code of a sender and whether to tell it now. There is none
// for who was refused, nor while as many others wait as may, and have not waited
// for long; then tell says that an operator has not been told of that yet.
func (p *pairing) ask(account string, m *Inbound) (code string, tell bool, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.refresh(); err != nil {
		return "", false, err
	}
	now := time.Now()
	pending := p.pendingLocked(now)
	waiting, oldest := 0, 0
	for i := range pending {
		r := &pending[i]
		if r.Account != account {
			continue
		}
		switch {
		case r.ID == m.From && r.Refused:
			return "", false, nil
		case r.ID == m.From:
			tell = now.Sub(r.told) >= askAgain
			if tell {
				r.told = now
			}
			p.state.Pending = pending
			return r.Code, tell, nil
		case !r.Refused:
			if waiting++; waiting == 1 { // they stand in their order
				oldest = i
			}
		}
	}
	if waiting >= maxPending {
		if now.Sub(time.UnixMilli(pending[oldest].At)).Abs() < pendingStay {
			tell = !p.full[account]
			p.full[account] = true
			return "", tell, nil
		}
		pending = slices.Delete(pending, oldest, oldest+1)
	}
	b := make([]byte, codeLength)
	rand.Read(b)
	for i := range b {
		b[i] = codeLetters[b[i]%byte(len(codeLetters))] // 32 of them: no bias
	}
	r := Request{Code: string(b), Account: account, ID: m.From, Chat: m.Chat, Name: plain(m.Name, 64), At: now.UnixMilli(), told: now}
	next := p.state
	next.Pending = append(pending, r)
	if err := p.store(next); err != nil {
		return "", false, err
	}
	p.full[account] = false
	return r.Code, true, nil
}

// list returns who waits, and who was approved, by account.
func (p *pairing) list() (waiting []Request, allowed map[string][]string, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	err = p.refresh()
	waiting = slices.DeleteFunc(p.pendingLocked(time.Now()), func(r Request) bool { return r.Refused })
	return waiting, p.allowedLocked(), err
}

// approve lets the sender in who was told the code; without yes the sender is
// told no other one until that one would have expired.
func (p *pairing) approve(code string, yes bool) (Request, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.refresh(); err != nil {
		return Request{}, err
	}
	now := time.Now()
	p.guesses = slices.DeleteFunc(p.guesses, func(t time.Time) bool { return now.Sub(t) > time.Hour })
	if len(p.guesses) >= maxGuesses {
		return Request{}, ErrGuesses
	}
	pending := p.pendingLocked(now)
	i := slices.IndexFunc(pending, func(r Request) bool { return !r.Refused && r.Code == strings.ToUpper(strings.TrimSpace(code)) })
	if i < 0 {
		p.guesses = append(p.guesses, now)
		return Request{}, ErrCode
	}
	r := pending[i]
	next := pairingFile{Pending: pending, Allowed: p.allowedLocked()}
	if yes {
		next.Pending = slices.Delete(pending, i, i+1)
		next.Allowed[r.Account] = append(next.Allowed[r.Account], r.ID)
	} else {
		pending[i].Refused = true
	}
	return r, p.store(next)
}

// revoke takes an approval back, of one account or of all, and returns whose.
func (p *pairing) revoke(account, id string) (accounts []string, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.refresh(); err != nil {
		return nil, err
	}
	next := pairingFile{Pending: p.pendingLocked(time.Now()), Allowed: p.allowedLocked()}
	for of, ids := range next.Allowed {
		if (account == "" || account == of) && slices.Contains(ids, id) {
			accounts = append(accounts, of)
			next.Allowed[of] = slices.DeleteFunc(ids, func(one string) bool { return one == id })
		}
	}
	if len(accounts) == 0 {
		return nil, ErrNobody
	}
	slices.Sort(accounts)
	return accounts, p.store(next)
}

func (p *pairing) allowedLocked() map[string][]string {
	out := map[string][]string{}
	for account, ids := range p.state.Allowed {
		out[account] = slices.Clone(ids)
	}
	return out
}

func (p *pairing) pendingLocked(now time.Time) []Request {
	return slices.DeleteFunc(slices.Clone(p.state.Pending), func(r Request) bool { return now.Sub(time.UnixMilli(r.At)).Abs() >= codeLife }) // whichever way the clock jumps
}

func (p *pairing) store(next pairingFile) error {
	raw, err := json.MarshalIndent(next, "", "  ")
	raw = append(raw, '\n')
	if err == nil {
		err = p.dir.WriteFile(p.name, raw)
	}
	if err == nil {
		p.state, p.raw = next, raw
	}
	return err
}

// plain is a name from a network as one short line.
func plain(s string, limit int) string {
	s = strings.Join(strings.FieldsFunc(s, func(r rune) bool { return r <= ' ' || 0x7f <= r && r < 0xa0 || r == 0x2028 || r == 0x2029 }), " ")
	if len(s) > limit {
		s = strings.ToValidUTF8(s[:limit], "") + "…"
	}
	return s
}
