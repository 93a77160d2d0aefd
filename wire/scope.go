package wire

// Scope is a right of a connection. Each method and each event asks for one.
type Scope string

// The scopes that the gateway knows. ScopeNone is asked for by what every connection may see.
const (
	ScopeNone      Scope = ""
	ScopeRead      Scope = "operator.read"
	ScopeWrite     Scope = "operator.write"
	ScopeApprovals Scope = "operator.approvals"
	ScopePairing   Scope = "operator.pairing"
	ScopeAdmin     Scope = "operator.admin"
)

// The roles of a connection.
const (
	RoleOperator = "operator"
	RoleNode     = "node"
)

// Scopes is what a connection holds, in the order in which it was granted.
type Scopes []Scope

// Allow reports whether the holder may do what needs the scope: admin includes
// every scope, write includes read, and everyone has ScopeNone.
func (have Scopes) Allow(need Scope) bool {
	if need == ScopeNone {
		return true
	}
	for _, s := range have {
		if s == need || s == ScopeAdmin || s == ScopeWrite && need == ScopeRead {
			return true
		}
	}
	return false
}

// AllScopes returns what an operator with the shared secret holds.
func AllScopes() Scopes {
	return Scopes{ScopeAdmin, ScopeRead, ScopeWrite, ScopeApprovals, ScopePairing}
}
