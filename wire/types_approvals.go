package wire

// ExecApprovalsSet are the params of exec.approvals.set.
type ExecApprovalsSet struct {
	File     Raw    `json:"file" wire:"required"`
	BaseHash string `json:"baseHash,omitempty" wire:"max=64"` // as exec.approvals.get gave it; "" = there is no file
}

// ExecApprovals is the answer to exec.approvals.get and set: the file of what
// was approved for always.
type ExecApprovals struct {
	Path   string `json:"path"`
	Exists bool   `json:"exists"`
	Hash   string `json:"hash"`
	File   Raw    `json:"file"`
}

// ExecApprovalAsk are the params of exec.approval.request, by which a client
// that runs programs elsewhere has a person decide.
type ExecApprovalAsk struct {
	Open
	ID           string `json:"id,omitempty" wire:"min=1,max=128"`
	Command      string `json:"command" wire:"required,min=1,max=131072"`
	Cwd          string `json:"cwd,omitempty" wire:"max=4096"`
	Host         string `json:"host,omitempty" wire:"max=256"`
	Security     string `json:"security,omitempty" wire:"max=64"`
	Ask          string `json:"ask,omitempty" wire:"max=64"`
	AgentID      string `json:"agentId,omitempty" wire:"max=64"`
	ResolvedPath string `json:"resolvedPath,omitempty" wire:"max=4096"`
	SessionKey   string `json:"sessionKey,omitempty" wire:"max=512"`
	TimeoutMs    int64  `json:"timeoutMs,omitempty" wire:"min=1,max=3600000"`
}

// ExecApprovalRequest is what a person decides on. Nothing in it is invisible:
// what does not show by itself is written as \u{…}.
type ExecApprovalRequest struct {
	Command      string   `json:"command"` // the argument list, quoted
	Cwd          string   `json:"cwd,omitempty"`
	Host         string   `json:"host,omitempty"`
	Security     string   `json:"security,omitempty"`
	Ask          string   `json:"ask,omitempty"`
	AgentID      string   `json:"agentId,omitempty"`
	ResolvedPath string   `json:"resolvedPath,omitempty"`
	SessionKey   string   `json:"sessionKey,omitempty"`
	EnvKeys      []string `json:"envKeys,omitempty"` // names of all variables
	Files        []string `json:"files,omitempty"`   // named by the command, bound by content
	Hash         string   `json:"hash,omitempty"`    // SHA-256 of all that the approval is bound to
}

// ExecApproval is one request that waits, and the payload of exec.approval.requested.
type ExecApproval struct {
	ID          string              `json:"id"`
	Request     ExecApprovalRequest `json:"request"`
	CreatedAtMs int64               `json:"createdAtMs"`
	ExpiresAtMs int64               `json:"expiresAtMs"`
}

// ExecApprovalDecided is the answer to exec.approval.request.
type ExecApprovalDecided struct {
	ID          string  `json:"id"`
	Decision    *string `json:"decision"` // null: nobody decided in time
	CreatedAtMs int64   `json:"createdAtMs"`
	ExpiresAtMs int64   `json:"expiresAtMs"`
}

// ExecApprovalResolve are the params of exec.approval.resolve.
type ExecApprovalResolve struct {
	ID       string `json:"id" wire:"required,min=1,max=128"`
	Decision string `json:"decision" wire:"required"` // allow-once, allow-always or deny
}

// ExecApprovalResolved is the payload of exec.approval.resolved.
type ExecApprovalResolved struct {
	ID         string `json:"id"`
	Decision   string `json:"decision"`
	ResolvedBy string `json:"resolvedBy"`
	Ts         int64  `json:"ts"`
}
