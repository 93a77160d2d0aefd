package tool

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"openclaw/gateway/store"
)

// ApprovalsName is the file, in the state directory, of what was approved for always.
const ApprovalsName = "exec-approvals.json"

const (
	maxApprovalsFile = 1 << 20
	maxAlways        = 1000 // entries of one agent; the oldest goes
	exact            = "sha256:"
)

// ApprovalsFile is what that file holds, in the form of the wider product.
// Settings that mean nothing here stay as they are.
type ApprovalsFile struct {
	Version  int                        `json:"version"`
	Socket   json.RawMessage            `json:"socket,omitempty"`
	Defaults json.RawMessage            `json:"defaults,omitempty"`
	Agents   map[string]*AgentApprovals `json:"agents"`
}

// AgentApprovals are the programs that one agent may run unasked.
type AgentApprovals struct {
	Security        json.RawMessage  `json:"security,omitempty"`
	Ask             json.RawMessage  `json:"ask,omitempty"`
	AskFallback     json.RawMessage  `json:"askFallback,omitempty"`
	AutoAllowSkills json.RawMessage  `json:"autoAllowSkills,omitempty"`
	Allowlist       []AlwaysApproved `json:"allowlist,omitempty"`
}

// AlwaysApproved is one program. Only a pattern of the form sha256:HASH counts,
// the hash of an approval; any other allows nothing.
type AlwaysApproved struct {
	ID               string `json:"id,omitempty"`
	Pattern          string `json:"pattern"`
	ArgPattern       string `json:"argPattern,omitempty"`
	Source           string `json:"source,omitempty"`
	CommandText      string `json:"commandText,omitempty"`
	LastUsedAt       int64  `json:"lastUsedAt,omitempty"` // milliseconds since 1970
	LastUsedCommand  string `json:"lastUsedCommand,omitempty"`
	LastResolvedPath string `json:"lastResolvedPath,omitempty"`
}

// Approvals returns the file and the hash of its text, "" where there is none.
func (t *Tools) Approvals() (path string, f *ApprovalsFile, hash string, err error) {
	t.approvals.file.Lock()
	defer t.approvals.file.Unlock()
	f, hash, err = t.readApprovals()
	return filepath.Join(t.Dir.Path(), ApprovalsName), f, hash, err
}

func (t *Tools) readApprovals() (*ApprovalsFile, string, error) {
	f := &ApprovalsFile{Version: 1, Agents: map[string]*AgentApprovals{}}
	raw, err := t.Dir.ReadFile(ApprovalsName, maxApprovalsFile)
	if errors.Is(err, fs.ErrNotExist) {
		return f, "", nil
	}
	if err == nil {
		err = json.Unmarshal(raw, f)
	}
	if err == nil && f.Version != 1 {
		err = fmt.Errorf("version %d is not known", f.Version)
	}
	if err != nil {
		return nil, "", fmt.Errorf("%s: %w", ApprovalsName, err)
	}
	if f.Agents == nil {
		f.Agents = map[string]*AgentApprovals{}
	}
	sum := sha256.Sum256(raw)
	return f, hex.EncodeToString(sum[:]), nil
}

// SetApprovals replaces the file if it still has the hash base. Entries can be
// taken out by it, and put in only in the exact form.
func (t *Tools) SetApprovals(text json.RawMessage, base string) error {
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	f := &ApprovalsFile{}
	if err := d.Decode(f); err != nil {
		return fmt.Errorf("%w: file: %v", ErrBadApproval, err)
	}
	t.approvals.file.Lock()
	defer t.approvals.file.Unlock()
	old, hash, err := t.readApprovals()
	switch {
	case err != nil:
		return err
	case base != hash:
		return fmt.Errorf("%w: the file has changed; get it again and use its hash", ErrBadApproval)
	case f.Version != 1:
		return fmt.Errorf("%w: file: version must be 1", ErrBadApproval)
	}
	for agent, a := range f.Agents {
		if a == nil {
			return fmt.Errorf("%w: agents.%s must be an object", ErrBadApproval, agent)
		}
		for _, e := range a.Allowlist {
			kept := old.Agents[agent] != nil && slices.ContainsFunc(old.Agents[agent].Allowlist, func(o AlwaysApproved) bool { return o.Pattern == e.Pattern })
			if sum, ok := strings.CutPrefix(e.Pattern, exact); !kept && (!ok || len(sum) != 2*sha256.Size) {
				return fmt.Errorf("%w: agents.%s: %q is no exact approval; programs to allow by path belong into tools.exec.allow", ErrBadApproval, agent, store.Clip(e.Pattern, 128))
			}
		}
	}
	if f.Socket == nil {
		f.Socket = old.Socket // which is not shown
	}
	return t.writeApprovals(f)
}

func (t *Tools) writeApprovals(f *ApprovalsFile) error {
	raw, err := json.MarshalIndent(f, "", "  ")
	if err == nil && len(raw) > maxApprovalsFile {
		err = fmt.Errorf("%w: the file would be too large", ErrBadApproval)
	}
	if err == nil {
		err = t.Dir.WriteFile(ApprovalsName, append(raw, '\n'))
	}
	return err
}

// always reports whether an agent may run what has this hash without asking.
func (t *Tools) always(agent, hash string) (bool, error) {
	_, f, _, err := t.Approvals()
	if err != nil || f.Agents[agent] == nil {
		return false, err
	}
	return slices.ContainsFunc(f.Agents[agent].Allowlist, func(e AlwaysApproved) bool { return e.Pattern == exact+hash }), nil
}

// remember stores an approval for always.
func (t *Tools) remember(r *ApprovalRequest) error {
	t.approvals.file.Lock()
	defer t.approvals.file.Unlock()
	f, _, err := t.readApprovals()
	if err != nil {
		return err
	}
	a := f.Agents[r.AgentID]
	if a == nil {
		a = &AgentApprovals{}
		f.Agents[r.AgentID] = a
	}
	a.Allowlist = append(a.Allowlist, AlwaysApproved{
		ID: r.Hash[:16], Pattern: exact + r.Hash, Source: AllowAlways,
		LastUsedAt: time.Now().UnixMilli(), LastUsedCommand: store.Clip(r.Command, 512), LastResolvedPath: r.ResolvedPath,
	})
	a.Allowlist = a.Allowlist[max(0, len(a.Allowlist)-maxAlways):]
	return t.writeApprovals(f)
}
