package wire

// Challenge is the payload of connect.challenge, the first message of every connection.
type Challenge struct {
	Nonce        string   `json:"nonce" wire:"required,id"` // random, for this connection only; a device signs it
	Ts           int64    `json:"ts" wire:"required,min=0"` // the gateway's clock, Unix milliseconds
	Capabilities []string `json:"capabilities,omitempty"`   // protocol 4
}

// ConnectParams are the params of connect. The runbook's dialect sends Auth alone;
// protocols 3 and 4 also send their versions and who they are.
type ConnectParams struct {
	MinProtocol int64           `json:"minProtocol,omitempty" wire:"min=1"` // 0 = absent: the runbook's dialect
	MaxProtocol int64           `json:"maxProtocol,omitempty" wire:"min=1"`
	Client      *ClientInfo     `json:"client,omitempty"`
	Role        string          `json:"role,omitempty"` // absent = operator
	Scopes      []string        `json:"scopes,omitempty" wire:"max=64"`
	Caps        []string        `json:"caps,omitempty" wire:"max=256"`
	Commands    []string        `json:"commands,omitempty" wire:"max=1024"` // what a node can do
	Permissions map[string]bool `json:"permissions,omitempty"`
	PathEnv     string          `json:"pathEnv,omitempty"`
	Locale      string          `json:"locale,omitempty"`
	UserAgent   string          `json:"userAgent,omitempty"`
	Auth        *ConnectAuth    `json:"auth,omitempty"`
	Device      *DeviceProof    `json:"device,omitempty"`

	// Protocol 4 only; taken and not used.
	ComputerUse  Raw `json:"computerUse,omitempty"`
	WorkerRuns   Raw `json:"workerRuns,omitempty"`
	ModelCatalog Raw `json:"modelCatalog,omitempty"`
}

// Versioned reports whether the client speaks a numbered protocol rather than the runbook's dialect.
func (p *ConnectParams) Versioned() bool {
	return p.MinProtocol != 0 || p.MaxProtocol != 0 || p.Client != nil
}

// Validate holds a client of a numbered protocol to what such a client must send.
func (p *ConnectParams) Validate() error {
	if !p.Versioned() {
		return nil
	}
	var missing []FieldError
	for _, f := range []struct {
		name   string
		absent bool
	}{
		{"minProtocol", p.MinProtocol == 0}, {"maxProtocol", p.MaxProtocol == 0}, {"client", p.Client == nil},
	} {
		if f.absent {
			missing = append(missing, FieldError{Msg: requiredMsg(f.name)})
		}
	}
	return joinFields(missing)
}

// ClientInfo says who connects. It is the client's claim and grants nothing.
type ClientInfo struct {
	ID              string `json:"id" wire:"required,id"`
	Version         string `json:"version" wire:"required,min=1"`
	Platform        string `json:"platform" wire:"required,min=1"`
	Mode            string `json:"mode" wire:"required,id"`
	DisplayName     string `json:"displayName,omitempty"`
	DeviceFamily    string `json:"deviceFamily,omitempty"`
	ModelIdentifier string `json:"modelIdentifier,omitempty"`
	InstanceID      string `json:"instanceId,omitempty" wire:"id"`
	BuildID         string `json:"buildId,omitempty" wire:"max=96"`  // protocol 4
	TimeZone        string `json:"timeZone,omitempty" wire:"max=64"` // protocol 4
}

// ConnectAuth carries the credentials of a connect. It prints as "[redacted]".
type ConnectAuth struct {
	Token    string `json:"token,omitempty"`
	Password string `json:"password,omitempty"`

	// Protocol 4 only.
	BootstrapToken            string `json:"bootstrapToken,omitempty"`
	DeviceToken               string `json:"deviceToken,omitempty"`
	ApprovalRuntimeToken      string `json:"approvalRuntimeToken,omitempty"`
	AgentRuntimeIdentityToken string `json:"agentRuntimeIdentityToken,omitempty"`
}

// String keeps credentials out of formatted output.
func (ConnectAuth) String() string { return "[redacted]" }

// GoString keeps credentials out of %#v.
func (ConnectAuth) GoString() string { return "[redacted]" }

// DeviceProof is a device's identity with its signature over the connect (Ed25519, RFC 8032).
type DeviceProof struct {
	ID        string `json:"id" wire:"required,id"`           // lower-case hex SHA-256 of the raw public key
	PublicKey string `json:"publicKey" wire:"required,min=1"` // base64url without padding
	Signature string `json:"signature" wire:"required,min=1"` // base64url without padding
	SignedAt  int64  `json:"signedAt" wire:"required,min=0"`  // Unix milliseconds
	Nonce     string `json:"nonce,omitempty" wire:"id"`       // the challenge's; absent only in old clients
}

// The values of HelloOK.Presence and HelloOK.Health.
const (
	PresenceAvailable = "available"
	HealthHealthy     = "healthy"
	HealthDegraded    = "degraded"
)

// HelloOK is the answer to connect in the runbook's dialect: the snapshot itself.
type HelloOK struct {
	Type         string `json:"type" wire:"required"` // "hello-ok"
	Presence     string `json:"presence"`             // PresenceAvailable
	Health       string `json:"health"`               // HealthHealthy or HealthDegraded
	StateVersion int64  `json:"stateVersion"`         // grows whenever presence or health changes
	UptimeMs     int64  `json:"uptimeMs"`
	Policy       Policy `json:"policy"`
}

// Policy is what the gateway holds every client and tool to.
type Policy struct {
	Sandbox          string   `json:"sandbox"`          // off, non-main or all
	Tools            []string `json:"tools"`            // what a turn of the default agent may call
	MaxPayload       int64    `json:"maxPayload"`       // bytes a message may have
	MaxBufferedBytes int64    `json:"maxBufferedBytes"` // bytes queued for a client before it is closed as too slow
	TickIntervalMs   int64    `json:"tickIntervalMs"`   // a client that hears nothing for twice this long may hang up
}
