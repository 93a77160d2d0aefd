package tool

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"
)

// Decisions of a person.
const (
	AllowOnce   = "allow-once"
	AllowAlways = "allow-always" // this very program with all that it is bound to, from now on
	Deny        = "deny"
)

// ApprovalRequest is what a person is shown and decides on.
type ApprovalRequest struct {
	Command      string   // argv, quoted so that nothing in it is invisible
	Cwd          string   // quoted likewise, as are the paths below
	ResolvedPath string   // of the program
	Env          []string // names of all variables that the program gets
	Files        []string // that the command names; their content is bound too
	Hash         string   // SHA-256 of all that is bound: see bind
	Host         string   // where it is to run: gateway, or what a client said
	Security     string   // the mode in force
	Ask          string
	AgentID      string
	SessionKey   string
}

// Approval is a request that waits for a decision.
type Approval struct {
	ID               string
	Request          ApprovalRequest
	Created, Expires time.Time
}

const (
	maxPending   = 64 // requests that wait
	maxPerHolder = 8  // of them by one session, so that a turn cannot crowd out the others
)

// Errors of approvals.
var (
	ErrUnknownApproval = errors.New("unknown or expired approval id")
	ErrBadApproval     = errors.New("invalid approval")
)

// approvals are the requests that wait. They live in memory alone: what was
// asked before a restart was not decided.
type approvals struct {
	mu      sync.Mutex
	pending map[string]*pending
	file    sync.Mutex // approval_file.go
}

type pending struct {
	Approval
	decision chan string // of one
}

// Approve asks for a decision and waits for it: until timeout has passed, when
// there is none (""), or ctx ends. No id means a new one. Whoever asks has no
// part in the decision; Decide is called for clients only.
func (t *Tools) Approve(ctx context.Context, id string, r ApprovalRequest, timeout time.Duration) (a Approval, decision string, err error) {
	now := time.Now()
	p := &pending{Approval{cmp.Or(id, rand.Text()), r, now, now.Add(timeout)}, make(chan string, 1)}
	if err := t.approvals.add(p); err != nil {
		return Approval{}, "", err
	}
	if t.Ask != nil {
		t.Ask(p.Approval)
	}
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	select {
	case decision = <-p.decision:
		return p.Approval, decision, nil
	case <-timer.C:
	case <-ctx.Done():
		err = context.Cause(ctx)
	case <-t.ctx.Done():
		err = errClosed
	}
	t.approvals.mu.Lock()
	defer t.approvals.mu.Unlock()
	delete(t.approvals.pending, p.ID)
	select {
	case decision = <-p.decision: // it came in this moment, and its client was told that it counts
	default:
	}
	return p.Approval, decision, err
}

func (as *approvals) add(p *pending) error {
	as.mu.Lock()
	defer as.mu.Unlock()
	if as.pending[p.ID] != nil {
		return fmt.Errorf("%w: its id is in use", ErrBadApproval)
	}
	same := 0
	for _, o := range as.pending {
		if o.Request.SessionKey == p.Request.SessionKey && o.Request.AgentID == p.Request.AgentID {
			same++
		}
	}
	if same >= maxPerHolder || len(as.pending) >= maxPending {
		return fmt.Errorf("%w: too many wait for a decision", ErrBadApproval)
	}
	if as.pending == nil {
		as.pending = map[string]*pending{}
	}
	as.pending[p.ID] = p
	return nil
}

// Decide settles a request by its whole id, once, before it expires.
func (t *Tools) Decide(id, decision string) (Approval, error) {
	if !slices.Contains([]string{AllowOnce, AllowAlways, Deny}, decision) {
		return Approval{}, fmt.Errorf("%w: decision must be %s, %s or %s", ErrBadApproval, AllowOnce, AllowAlways, Deny)
	}
	as := &t.approvals
	as.mu.Lock()
	defer as.mu.Unlock()
	p := as.pending[id]
	if p == nil || !time.Now().Before(p.Expires) {
		return Approval{}, ErrUnknownApproval
	}
	delete(as.pending, id)
	p.decision <- decision
	return p.Approval, nil
}

// Pending returns the requests that wait, oldest first.
func (t *Tools) Pending() []Approval {
	as := &t.approvals
	as.mu.Lock()
	defer as.mu.Unlock()
	out := []Approval{}
	for _, p := range slices.SortedFunc(maps.Values(as.pending), func(a, b *pending) int {
		return cmp.Or(a.Created.Compare(b.Created), strings.Compare(a.ID, b.ID))
	}) {
		out = append(out, p.Approval)
	}
	return out
}

// Quote writes an argument list as a shell would read it, but Visible.
func Quote(argv ...string) string {
	var b strings.Builder
	for i, arg := range argv {
		if i > 0 {
			b.WriteByte(' ')
		}
		plain := arg != "" && !strings.ContainsFunc(arg, func(r rune) bool {
			return !(r < 0x80 && (unicode.IsLetter(r) || unicode.IsDigit(r) || strings.ContainsRune("_-+=:,./@%", r)))
		})
		if plain {
			b.WriteString(arg)
			continue
		}
		b.WriteString("'" + strings.ReplaceAll(Visible(arg), "'", `'\''`) + "'")
	}
	return b.String()
}

// Visible writes as \u{…} what a person cannot see in a text, or what moves
// that which they see. A backslash is doubled, so that \u{…} is always ours.
func Visible(s string) string {
	var b strings.Builder
	for i, r := range s {
		switch {
		case r == '\\':
			b.WriteString(`\\`)
		case r == unicode.ReplacementChar && s[i] != "\uFFFD"[0]:
			fmt.Fprintf(&b, `\x%02x`, s[i])
		case visible(r):
			b.WriteRune(r)
		default:
			fmt.Fprintf(&b, `\u{%x}`, r)
		}
	}
	return b.String()
}

// visible reports whether a character shows as one by itself. Fillers count as
// letters in Unicode and braille's blank as a symbol, but nobody sees them;
// marks stand on what is before them.
func visible(r rune) bool {
	return unicode.IsPrint(r) && !unicode.IsMark(r) && !unicode.Is(unicode.Other_Default_Ignorable_Code_Point, r) && r != '\u2800'
}
