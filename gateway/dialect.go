package gateway

import (
	"strconv"

	"openclaw/gateway/tool"
	"openclaw/reload/config"
	"openclaw/wire"
)

// dialect is how one generation of clients is spoken to. It is chosen by the
// connect request and kept for the connection; handlers do not know it. Values
// are comparable: a broadcast is framed once for each that is connected.
type dialect interface {
	// hello is the payload that answers connect.
	hello(g *Gateway, p *peer) []byte
	// event is a whole event frame.
	event(e *event) []byte
	// denied is the error of a peer that lacks the scope.
	denied(scope wire.Scope) *wire.Error
}

// dialectOf chooses by what the connect request holds. Clients of the numbered
// protocols are refused with the words that those clients know.
func dialectOf(c *wire.ConnectParams) (dialect, *wire.Error) {
	if !c.Versioned() {
		return runbook{}, nil
	}
	e := wire.InvalidRequest("protocol mismatch")
	e.Details = map[string]any{"code": "PROTOCOL_MISMATCH", "clientMinProtocol": c.MinProtocol, "clientMaxProtocol": c.MaxProtocol}
	return nil, e
}

// runbook is the dialect of the operations manual: connect carries the secret
// alone, the snapshot is flat, stateVersion is one number.
type runbook struct{}

func (runbook) hello(g *Gateway, p *peer) []byte {
	dst := make([]byte, 0, 512)
	dst = append(dst, `{"type":"hello-ok","presence":"available","health":"`...)
	dst = append(dst, g.health.status()...)
	dst = append(dst, `","stateVersion":`...)
	dst = strconv.AppendInt(dst, number(g.hub.stateVersion()), 10)
	dst = append(dst, `,"uptimeMs":`...)
	dst = strconv.AppendInt(dst, g.uptime().Milliseconds(), 10)
	dst = append(dst, `,"policy":`...)
	dst = append(dst, g.snapshot().policy...)
	return append(dst, '}')
}

func (runbook) event(e *event) []byte {
	dst := make([]byte, 0, len(e.payload)+96)
	var version []byte
	if e.versioned {
		version = strconv.AppendInt(nil, number(e.version), 10)
	}
	return wire.AppendEvent(dst, e.name, e.payload, 0, version)
}

func (runbook) denied(scope wire.Scope) *wire.Error { return wire.Forbidden(scope) }

// policyOf is the part of hello that only the configuration decides.
func policyOf(c *config.Config) []byte {
	agent, _ := c.Agent(c.DefaultAgentID())
	tools := []string{}
	for _, t := range tool.Effective(c, mainScope(agent)) {
		tools = append(tools, t.Name)
	}
	l := c.Gateway.Limits
	enc, err := wire.Marshal(wire.Policy{
		Sandbox: agent.SandboxMode, Tools: tools, MaxPayload: int64(l.MaxPayload),
		MaxBufferedBytes: int64(l.MaxBufferedBytes), TickIntervalMs: int64(l.TickIntervalMs),
	})
	if err != nil {
		panic(err) // strings and numbers always encode
	}
	return enc
}

// number is the state version in one figure that grows with either part.
func number(v wire.StateVersion) int64 { return v.Presence + v.Health }
