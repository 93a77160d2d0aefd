// Package config is what may be configured, and what is.
//
// The types below are the one table of keys. Reading a file goes through three
// steps: json5.go turns text into nodes that know where they stand, bind.go
// puts the nodes into a Config and collects every problem on the way, and
// validate.go applies the rules that concern more than one key. Everything
// users see about keys (defaults, schema, reference, reload classes) is
// derived from the same table by the walker in table.go.
package config

// Config is the whole configuration. The struct is the table of keys: every
// leaf says its name, type, default, range, reload class and meaning in its
// tags, and one walker (table.go) derives defaults, validation, the schema,
// the reference and the difference of two configurations from them.
//
// Tags of a leaf:
//
//	key      its name in the file
//	default  its value when absent, as it would be written in the file
//	oneof    the words it may hold, comma-separated
//	min, max the range of a number, in the leaf's own unit
//	reload   hot (applied at once), restart (needs a restart in process) or none (read at start only by tools)
//	doc      one sentence, shown in the reference and the schema
//	required true when an object without it is a problem
//	short    true on the key that a plain string stands for in place of the whole object
//	why      what to tell a person whose value is none of oneof
//
// A value of Config is never changed once Load has returned it.
type Config struct {
	Gateway Gateway  `key:"gateway"`
	Logging Logging  `key:"logging"`
	Agents  Agents   `key:"agents"`
	Models  Models   `key:"models"`
	Tools   AllTools `key:"tools"`
	Session Session  `key:"session"`

	Messages Messages           `key:"messages"`
	Channels map[string]Channel `key:"channels"`
	Bindings []Binding          `key:"bindings"`
}

// Gateway is the daemon itself: where it listens, who may talk to it, and how much.
type Gateway struct {
	Mode           string    `key:"mode" default:"local" oneof:"local" why:"this program is the gateway; it does not connect to a remote one" reload:"restart" doc:"Where the gateway runs; only local is served by this program."`
	Port           int       `key:"port" default:"18789" min:"1" max:"65425" reload:"restart" doc:"Base port: WebSocket RPC and HTTP. Browser control is at +2, canvas at +4, CDP at +11 to +110."`
	Bind           string    `key:"bind" default:"loopback" oneof:"loopback,lan,tailnet,auto,custom" reload:"restart" doc:"Which addresses the base port listens on; auto is loopback."`
	CustomBindHost string    `key:"customBindHost" reload:"restart" doc:"The IP address to listen on when bind is custom."`
	Auth           Auth      `key:"auth"`
	HotReload      HotReload `key:"hotReload"`
	Tailscale      Tailscale `key:"tailscale"`
	TLS            TLS       `key:"tls"`
	TrustedProxies []string  `key:"trustedProxies" reload:"hot" doc:"IP addresses or CIDR blocks of reverse proxies whose forwarding headers count."`
	ControlUI      ControlUI `key:"controlUi"`
	HTTP           HTTP      `key:"http"`
	Tools          HTTPTools `key:"tools"`
	Shutdown       Shutdown  `key:"shutdown"`
	Limits         Limits    `key:"limits"`
}

// Auth is the one shared secret that opens the gateway. There is no mode without one.
type Auth struct {
	Mode      string    `key:"mode" oneof:"token,password" why:"there is no mode without a secret" reload:"restart" doc:"Which secret clients present; password when only a password is set, else token."`
	Token     Secret    `key:"token" reload:"hot" doc:"Shared secret of at least 128 bits that clients present on connect."`
	Password  Secret    `key:"password" reload:"hot" doc:"Alternative to the token, at least 12 characters."`
	RateLimit RateLimit `key:"rateLimit"`
}

// RateLimit bounds wrong passwords and tokens per client address.
type RateLimit struct {
	MaxAttempts int    `key:"maxAttempts" default:"10" min:"1" max:"1000" reload:"hot" doc:"Wrong secrets per window and client address before it is locked out."`
	WindowMs    Millis `key:"windowMs" default:"60000" min:"1000" max:"86400000" reload:"hot" doc:"Length of the window in milliseconds."`
	LockoutMs   Millis `key:"lockoutMs" default:"300000" min:"1000" max:"86400000" reload:"hot" doc:"How long a locked out address waits, in milliseconds."`
}

// HotReload says what happens when the file changes.
type HotReload struct {
	Mode       string `key:"mode" default:"hybrid" oneof:"hybrid,off,hot,restart" reload:"hot" doc:"hybrid applies safe changes at once and restarts for the others; off only reports."`
	DebounceMs Millis `key:"debounceMs" default:"300" min:"10" max:"60000" reload:"hot" doc:"How long the file must be quiet before it is read, in milliseconds."`
}

// Tailscale is served by tailscaled itself, not from here.
type Tailscale struct {
	Mode        string `key:"mode" default:"off" oneof:"off" why:"serve and funnel are not done by this program; run tailscale serve beside it" reload:"restart" doc:"Publication through Tailscale; only off is served by this program."`
	ResetOnExit bool   `key:"resetOnExit" default:"false" reload:"none" doc:"Read for compatibility; with mode off there is nothing to reset."`
}

// TLS of the base port.
type TLS struct {
	Enabled      bool   `key:"enabled" default:"false" reload:"restart" doc:"Serve the base port over TLS."`
	AutoGenerate bool   `key:"autoGenerate" default:"false" reload:"restart" doc:"Make a self-signed certificate in the state directory when none is named."`
	CertPath     string `key:"certPath" reload:"restart" doc:"PEM file of the certificate chain."`
	KeyPath      string `key:"keyPath" reload:"restart" doc:"PEM file of the private key, mode 0600."`
}

// ControlUI lists the browser origins that may open a connection.
type ControlUI struct {
	AllowedOrigins []string `key:"allowedOrigins" reload:"hot" doc:"Exact browser origins (scheme://host:port) allowed besides the gateway's own."`
}

// HTTP switches the HTTP endpoints.
type HTTP struct {
	Endpoints Endpoints `key:"endpoints"`
}

// Endpoints are all on by default and always authenticated.
type Endpoints struct {
	ChatCompletions Endpoint `key:"chatCompletions"`
	Responses       Endpoint `key:"responses"`
	Models          Endpoint `key:"models"`
	ToolsInvoke     Endpoint `key:"toolsInvoke"`
}

// Endpoint is one HTTP endpoint's switch.
type Endpoint struct {
	Enabled bool `key:"enabled" default:"true" reload:"hot" doc:"Serve this endpoint."`
}

// Shutdown bounds the time a stop may take.
type Shutdown struct {
	GracePeriodMs Millis `key:"gracePeriodMs" default:"30000" min:"0" max:"3600000" reload:"hot" doc:"How long running turns may finish after SIGTERM, in milliseconds."`
}

// Limits bound what clients may hold and send.
type Limits struct {
	MaxPayload       int    `key:"maxPayload" default:"26214400" min:"65536" max:"268435456" reload:"hot" doc:"Bytes of one HTTP body, or of one message of WebSockets connected from then on."`
	MaxBufferedBytes int    `key:"maxBufferedBytes" default:"52428800" min:"65536" max:"1073741824" reload:"hot" doc:"Bytes queued for one connection before it is closed as too slow; of those made from then on."`
	MaxConnections   int    `key:"maxConnections" default:"1000" min:"1" max:"100000" reload:"hot" doc:"Authenticated WebSocket connections at a time."`
	MaxPending       int    `key:"maxPending" default:"64" min:"1" max:"10000" reload:"hot" doc:"Connections that have not authenticated yet at a time."`
	MaxInFlight      int    `key:"maxInFlight" default:"32" min:"1" max:"1000" reload:"hot" doc:"Unanswered requests per connection."`
	MaxRuns          int    `key:"maxRuns" default:"64" min:"1" max:"10000" reload:"hot" doc:"Turns running at a time; others are refused as unavailable."`
	MaxQueuedTurns   int    `key:"maxQueuedTurns" default:"16" min:"0" max:"1000" reload:"hot" doc:"Turns waiting per session behind the running one."`
	TickIntervalMs   Millis `key:"tickIntervalMs" default:"30000" min:"1000" max:"300000" reload:"restart" doc:"Interval of tick events in milliseconds."`
	PingIntervalMs   Millis `key:"pingIntervalMs" default:"25000" min:"1000" max:"300000" reload:"hot" doc:"Interval of WebSocket pings in milliseconds; two missed end the connection; of connections made from then on."`
	HandshakeMs      Millis `key:"handshakeMs" default:"10000" min:"100" max:"60000" reload:"hot" doc:"Time from the opened connection to a successful connect, in milliseconds."`
}

// Logging says what is written, and where. gateway.logging is the same section.
type Logging struct {
	Level    string   `key:"level" default:"info" oneof:"debug,info,warn,error" reload:"hot" doc:"Least level written."`
	Format   string   `key:"format" default:"json" oneof:"json,text" reload:"hot" doc:"Form of a line on stderr; the file is always JSON."`
	File     string   `key:"file" reload:"hot" doc:"The log file; STATE/logs/gateway.log when absent."`
	Rotation Rotation `key:"rotation"`
}

// Rotation bounds the log on disk to maxSize × (maxFiles+1).
type Rotation struct {
	Enabled  bool `key:"enabled" default:"true" reload:"hot" doc:"Rotate the log file."`
	MaxSize  Size `key:"maxSize" default:"100M" min:"65536" max:"1099511627776" reload:"hot" doc:"Size at which the file is rotated: bytes, or a number with K, M or G."`
	MaxFiles int  `key:"maxFiles" default:"10" min:"1" max:"1000" reload:"hot" doc:"Rotated files kept."`
}

// Agents are who answers.
type Agents struct {
	Defaults AgentDefaults `key:"defaults"`
	List     []Agent       `key:"list"`
}

// AgentDefaults hold for every agent that does not say otherwise.
type AgentDefaults struct {
	Workspace      string  `key:"workspace" reload:"hot" doc:"Directory the agents work in; STATE/workspace when absent."`
	Model          Model   `key:"model"`
	SystemPrompt   string  `key:"systemPrompt" reload:"hot" doc:"Text at the start of every system prompt."`
	Sandbox        Sandbox `key:"sandbox"`
	TimeoutSeconds int     `key:"timeoutSeconds" default:"600" min:"1" max:"86400" reload:"hot" doc:"Time one turn may take, in seconds."`
}

// Agent is one agent; what it leaves out comes from agents.defaults.
type Agent struct {
	ID             string  `key:"id" required:"true" reload:"hot" doc:"The agent's id: lower-case letters, digits, _ and -, at most 64."`
	Default        bool    `key:"default" default:"false" reload:"hot" doc:"Use this agent where none is named; otherwise the first listed."`
	Name           string  `key:"name" reload:"hot" doc:"The name people see."`
	Workspace      string  `key:"workspace" reload:"hot" doc:"Directory this agent works in."`
	Model          Model   `key:"model"`
	SystemPrompt   string  `key:"systemPrompt" reload:"hot" doc:"Text at the start of this agent's system prompt."`
	Sandbox        Sandbox `key:"sandbox"`
	Tools          Tools   `key:"tools"`
	TimeoutSeconds int     `key:"timeoutSeconds" min:"0" max:"86400" reload:"hot" doc:"Time one turn may take, in seconds; 0 is the default's."`
}

// Model names a model and what to use when it fails, each as provider/model.
// A plain string is short for {primary: "…"}.
type Model struct {
	Primary   string   `key:"primary" short:"true" reload:"hot" doc:"The model, as provider/model."`
	Fallbacks []string `key:"fallbacks" reload:"hot" doc:"Models tried in this order when the primary fails."`
}

// Sandbox says which sessions run their tools behind kernel walls.
type Sandbox struct {
	Mode string `key:"mode" oneof:"off,non-main,all" reload:"hot" doc:"Sessions whose tools are sandboxed; non-main when absent."`
}

// Models are the model providers.
type Models struct {
	Providers map[string]Provider `key:"providers"`
}

// Provider is one model provider's endpoint.
type Provider struct {
	BaseURL string            `key:"baseUrl" required:"true" reload:"hot" doc:"Root of the API, for example http://127.0.0.1:11434/v1."`
	APIKey  Secret            `key:"apiKey" reload:"hot" doc:"Key sent to the provider, never shown or logged."`
	API     string            `key:"api" default:"openai-completions" oneof:"openai-completions,openai-responses,anthropic-messages" reload:"hot" doc:"Protocol the provider speaks."`
	Headers map[string]Secret `key:"headers" reload:"hot" doc:"Further request headers; their values are secrets."`
	Models  []ProviderModel   `key:"models"`
}

// ProviderModel is one model that a provider serves.
type ProviderModel struct {
	ID            string   `key:"id" required:"true" reload:"hot" doc:"The model's id at the provider."`
	Name          string   `key:"name" reload:"hot" doc:"The name people see."`
	ContextWindow int      `key:"contextWindow" default:"128000" min:"1024" max:"100000000" reload:"hot" doc:"Tokens that fit in one request and its answer."`
	MaxTokens     int      `key:"maxTokens" default:"8192" min:"1" max:"10000000" reload:"hot" doc:"Most tokens of one answer."`
	Reasoning     bool     `key:"reasoning" default:"false" reload:"hot" doc:"Whether the model thinks before it answers."`
	Input         []string `key:"input" reload:"hot" doc:"What it takes: text, image; text when absent."`
	Cost          Cost     `key:"cost"`
}

// Cost is a model's price in US dollars per million tokens.
type Cost struct {
	Input      float64 `key:"input" min:"0" max:"1000000" reload:"hot" doc:"Dollars per million input tokens."`
	Output     float64 `key:"output" min:"0" max:"1000000" reload:"hot" doc:"Dollars per million output tokens."`
	CacheRead  float64 `key:"cacheRead" min:"0" max:"1000000" reload:"hot" doc:"Dollars per million cached input tokens read."`
	CacheWrite float64 `key:"cacheWrite" min:"0" max:"1000000" reload:"hot" doc:"Dollars per million input tokens written to the cache."`
}

// Session says how conversations are told apart.
type Session struct {
	Scope   string `key:"scope" default:"per-sender" oneof:"per-sender,global" reload:"hot" doc:"global joins the main sessions of all agents into one."`
	MainKey string `key:"mainKey" default:"main" reload:"hot" doc:"Name of every agent's main session."`
	DMScope string `key:"dmScope" default:"per-channel-peer" oneof:"main,per-peer,per-channel-peer,per-account-channel-peer" reload:"hot" doc:"Whose direct messages share a session: with main everybody's are in the agent's main one."`
}
