package channel

import (
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
	maxPending   = 3                // codes per channel at a time
	askAgain     = 10 * time.Minute // before a sender is told the code once more
	maxGuesses   = 10               // wrong codes per hour, of a channel
	pairingLimit = 1 << 20
)

// What Approve refuses.
var (
	ErrCode    = errors.New("no such pairing code, or it has expired")
	ErrGuesses = errors.New("too many wrong pairing codes; wait an hour")
)

// Request is a sender who waits for an operator.
type Request struct {
	Code    string `json:"code"`
	Account string `json:"account"`
	ID      string `json:"id"`
	Chat    string `json:"chat"` // where the sender is told
	Name    string `json:"name,omitempty"`
	At      int64  `json:"at"` // milliseconds
	told    time.Time
}

// pairing is who may write to a channel by an operator's leave. It is in a file
// of the state directory and changes only there first.
type pairing struct {
	dir  *store.Dir
	name string

	mu      sync.Mutex
	state   pairingFile
	guesses []time.Time
}

type pairingFile struct {
	Pending []Request           `json:"pending"`
	Allowed map[string][]string `json:"allowed"` // ids by account
}

func openPairing(dir *store.Dir, channel string) (*pairing, error) {
	p := &pairing{dir: dir, name: "channels/" + channel + "-pairing.json"}
	raw, err := dir.ReadFile(p.name, pairingLimit)
	if errors.Is(err, fs.ErrNotExist) {
		return p, nil
	}
	if err == nil {
		err = json.Unmarshal(raw, &p.state)
	}
	if err != nil {
		return nil, fmt.Errorf("read pairing of %s: %w", channel, err)
	}
	return p, nil
}

// allowed reports whether an operator has approved id.
func (p *pairing) allowed(account, id string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Contains(p.state.Allowed[account], id)
}

// ask returns the code of a sender and whether to tell it now. There is none
// while as many others wait as may.
func (p *pairing) ask(account string, m *Inbound) (code string, tell bool, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	pending := p.pendingLocked(now)
	for i := range pending {
		if r := &pending[i]; r.Account == account && r.ID == m.From {
			tell = now.Sub(r.told) >= askAgain
			if tell {
				r.told = now
			}
			p.state.Pending = pending
			return r.Code, tell, nil
		}
	}
	if len(pending) >= maxPending {
		return "", false, nil
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
	return r.Code, true, nil
}

// list returns who waits.
func (p *pairing) list() []Request {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.pendingLocked(time.Now())
}

// approve lets the sender in who was told the code.
func (p *pairing) approve(code string) (Request, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	p.guesses = slices.DeleteFunc(p.guesses, func(t time.Time) bool { return now.Sub(t) > time.Hour })
	if len(p.guesses) >= maxGuesses {
		return Request{}, ErrGuesses
	}
	pending := p.pendingLocked(now)
	i := slices.IndexFunc(pending, func(r Request) bool { return r.Code == strings.ToUpper(strings.TrimSpace(code)) })
	if i < 0 {
		p.guesses = append(p.guesses, now)
		return Request{}, ErrCode
	}
	r := pending[i]
	next := pairingFile{Pending: slices.Delete(pending, i, i+1), Allowed: map[string][]string{r.Account: {}}}
	for account, ids := range p.state.Allowed {
		next.Allowed[account] = slices.Clone(ids)
	}
	next.Allowed[r.Account] = append(next.Allowed[r.Account], r.ID)
	return r, p.store(next)
}

func (p *pairing) pendingLocked(now time.Time) []Request {
	return slices.DeleteFunc(slices.Clone(p.state.Pending), func(r Request) bool { return now.Sub(time.UnixMilli(r.At)) >= codeLife })
}

func (p *pairing) store(next pairingFile) error {
	raw, err := json.MarshalIndent(next, "", "  ")
	if err == nil {
		err = p.dir.WriteFile(p.name, append(raw, '\n'))
	}
	if err == nil {
		p.state = next
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
