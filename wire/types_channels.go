package wire

// Send are the params of send.
type Send struct {
	To             string       `json:"to" wire:"required,min=1,max=256"`
	Message        string       `json:"message,omitempty" wire:"max=1000000"`
	Media          []Attachment `json:"attachments,omitempty" wire:"max=16"`
	MediaURL       string       `json:"mediaUrl,omitempty"`  // refused: nothing that a request names is fetched
	MediaURLs      []string     `json:"mediaUrls,omitempty"` // the same
	GifPlayback    bool         `json:"gifPlayback,omitempty"`
	Channel        string       `json:"channel,omitempty" wire:"max=64"` // absent = the only one
	AccountID      string       `json:"accountId,omitempty" wire:"max=64"`
	ReplyTo        string       `json:"replyTo,omitempty" wire:"max=256"`
	ThreadID       string       `json:"threadId,omitempty" wire:"max=64"`
	SessionKey     string       `json:"sessionKey,omitempty" wire:"id"`
	IdempotencyKey string       `json:"idempotencyKey" wire:"required,id"`
}

// SendResult is the answer to send.
type SendResult struct {
	RunID     string `json:"runId"` // the idempotency key
	MessageID string `json:"messageId"`
	Channel   string `json:"channel"`
	AccountID string `json:"accountId"`
	To        string `json:"to"`
}

// MessageAction are the params of message.action.
type MessageAction struct {
	Channel        string `json:"channel" wire:"required,max=64"`
	Action         string `json:"action" wire:"required,max=64"`
	Params         Raw    `json:"params" wire:"required"`
	AccountID      string `json:"accountId,omitempty" wire:"max=64"`
	SenderIsOwner  bool   `json:"senderIsOwner,omitempty"`
	AgentID        string `json:"agentId,omitempty" wire:"id"`
	SessionKey     string `json:"sessionKey,omitempty" wire:"id"`
	IdempotencyKey string `json:"idempotencyKey" wire:"required,id"`
}

// MessageActionParams are the params of the action send.
type MessageActionParams struct {
	To        string `json:"to"`
	Target    string `json:"target"`
	Message   string `json:"message"`
	Text      string `json:"text"`
	AccountID string `json:"accountId"`
	ReplyTo   string `json:"replyTo"`
	ThreadID  string `json:"threadId"`
	Media     string `json:"media"`
}

// ChannelsStatusGet are the params of channels.status.
type ChannelsStatusGet struct {
	Probe     bool  `json:"probe,omitempty"` // the status is never a guess; read for compatibility
	TimeoutMs int64 `json:"timeoutMs,omitempty" wire:"min=0"`
}

// ChannelsStatus is the answer to channels.status.
type ChannelsStatus struct {
	Ts                      int64                       `json:"ts"`
	ChannelOrder            []string                    `json:"channelOrder"`
	ChannelLabels           map[string]string           `json:"channelLabels"`
	ChannelDetailLabels     map[string]string           `json:"channelDetailLabels"`
	ChannelSystemImages     map[string]string           `json:"channelSystemImages"`
	ChannelMeta             []ChannelMeta               `json:"channelMeta"`
	Channels                map[string]ChannelSummary   `json:"channels"`
	ChannelAccounts         map[string][]ChannelAccount `json:"channelAccounts"`
	ChannelDefaultAccountID map[string]string           `json:"channelDefaultAccountId"`
}

// ChannelMeta is a channel's name for people.
type ChannelMeta struct {
	ID          string `json:"id"`
	Label       string `json:"label"`
	DetailLabel string `json:"detailLabel"`
}

// ChannelSummary is a channel by its accounts: whether any works.
type ChannelSummary struct {
	Configured bool   `json:"configured"`
	Running    bool   `json:"running"`
	Connected  bool   `json:"connected"`
	LastError  string `json:"lastError,omitempty"`
}

// ChannelAccount is how one account fares. Times are Unix milliseconds.
type ChannelAccount struct {
	AccountID     string             `json:"accountId"`
	Kind          string             `json:"kind"`
	Enabled       bool               `json:"enabled"`
	Configured    bool               `json:"configured"`
	Linked        bool               `json:"linked"`
	Running       bool               `json:"running"`
	Connected     bool               `json:"connected"`
	State         string             `json:"state"` // connecting, open, waiting, not-linked, failed or stopped
	Terminal      bool               `json:"terminal,omitempty"`
	Code          int                `json:"code,omitempty"` // the network's word for why the connection ended
	Self          string             `json:"self,omitempty"`
	LastSuccessAt int64              `json:"lastSuccessAt,omitempty"` // when the network last answered
	LastInboundAt int64              `json:"lastInboundAt,omitempty"`
	LastSentAt    int64              `json:"lastOutboundAt,omitempty"`
	LastError     string             `json:"lastError,omitempty"`
	LastErrorAt   int64              `json:"lastErrorAt,omitempty"`
	Failures      int                `json:"reconnectAttempts"`
	Waiting       int                `json:"waiting"`                  // messages in without their reply
	Queued        int                `json:"queued"`                   // messages out
	Uncertain     []UncertainMessage `json:"uncertain,omitempty"`      // the last of them
	Unsure        int                `json:"uncertainTotal,omitempty"` // how many, since they were cleared
	Stuck         int                `json:"stuck,omitempty"`          // chats to which nothing can be sent for minutes, while others may
	StuckSinceAt  int64              `json:"stuckSinceAt,omitempty"`
}

// UncertainMessage is one of which nobody knows whether it arrived; it is not sent again.
type UncertainMessage struct {
	ID  string `json:"id"`
	To  string `json:"to"`
	Why string `json:"why"`
	At  int64  `json:"at,omitempty"`
}

// ChannelAccountRef names an account.
type ChannelAccountRef struct {
	Channel   string `json:"channel" wire:"required,min=1,max=64"`
	AccountID string `json:"accountId,omitempty" wire:"max=64"`
}

// WebLoginStart are the params of web.login.start.
type WebLoginStart struct {
	Channel   string `json:"channel,omitempty" wire:"max=64"` // absent = whatsapp
	AccountID string `json:"accountId,omitempty" wire:"max=64"`
	Force     bool   `json:"force,omitempty"` // unlink first
	Verbose   bool   `json:"verbose,omitempty"`
	TimeoutMs int64  `json:"timeoutMs,omitempty" wire:"min=0,max=600000"`
}

// WebLoginWait are the params of web.login.wait.
type WebLoginWait struct {
	Channel          string `json:"channel,omitempty" wire:"max=64"` // absent = whatsapp
	AccountID        string `json:"accountId,omitempty" wire:"max=64"`
	TimeoutMs        int64  `json:"timeoutMs,omitempty" wire:"min=0,max=600000"`
	CurrentQRDataURL string `json:"currentQrDataUrl,omitempty" wire:"max=65536"` // answered at once when there is another
}

// WebLogin is the answer to web.login.start and web.login.wait.
type WebLogin struct {
	Connected bool   `json:"connected"`
	Message   string `json:"message"`
	QRDataURL string `json:"qrDataUrl,omitempty"`
	QR        string `json:"qr,omitempty"` // what the picture says
	State     string `json:"state"`
	Code      int    `json:"code,omitempty"`
	Self      string `json:"self,omitempty"`
}

// ChannelLoggedOut is the answer to channels.logout.
type ChannelLoggedOut struct {
	Channel   string `json:"channel"`
	AccountID string `json:"accountId"`
	Cleared   bool   `json:"cleared"`
	LoggedOut bool   `json:"loggedOut"`
}

// UncertainCleared is the answer to channels.uncertain.clear.
type UncertainCleared struct {
	Channel   string `json:"channel"`
	AccountID string `json:"accountId"`
	Cleared   int    `json:"cleared"` // how many there were
}

// PairingApprove are the params of channels.pairing.approve and channels.pairing.reject.
type PairingApprove struct {
	Channel string `json:"channel" wire:"required,min=1,max=64"`
	Code    string `json:"code" wire:"required,min=1,max=64"`
}

// PairingList is the answer to channels.pairing.list.
type PairingList struct {
	Channel  string            `json:"channel"`
	Requests []PairingRequest  `json:"requests"`
	Approved []PairingApproved `json:"approved"`
}

// PairingApproved is a sender who was let in by an operator.
type PairingApproved struct {
	AccountID string `json:"accountId"`
	ID        string `json:"id"`
}

// PairingRevoke are the params of channels.pairing.revoke.
type PairingRevoke struct {
	Channel   string `json:"channel" wire:"required,min=1,max=64"`
	AccountID string `json:"accountId,omitempty" wire:"max=128"`
	ID        string `json:"id" wire:"required,min=1,max=256"`
}

// PairingRevoked is the answer to it.
type PairingRevoked struct {
	Channel  string   `json:"channel"`
	ID       string   `json:"id"`
	Accounts []string `json:"accounts"` // which had let the sender in
}

// PairingRequest is a sender who waits, or who was just let in.
type PairingRequest struct {
	Code      string `json:"code"`
	AccountID string `json:"accountId"`
	ID        string `json:"id"`
	Name      string `json:"name,omitempty"`
	CreatedAt int64  `json:"createdAt"`
}
