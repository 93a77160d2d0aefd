package gateway

import (
	"openclaw/wire"
)

// eventDef is one event: its name, the least scope that sees it, and the type
// of its payload. An event is emitted through its definition only, so none
// exists without a scope and none carries another payload.
type eventDef[T any] struct {
	name       string
	scope      wire.Scope
	doc        string
	dropIfSlow bool // a later one tells the same: a peer that lags is spared this one
	versioned  bool // carries stateVersion
}

// eventInfo is what listings show of an event.
type eventInfo struct {
	name  string
	scope wire.Scope
	doc   string
}

func (e eventDef[T]) info() eventInfo { return eventInfo{e.name, e.scope, e.doc} }

func evAgent() eventDef[wire.AgentEvent] {
	return eventDef[wire.AgentEvent]{name: "agent", scope: wire.ScopeRead, doc: "One step of a run."}
}

func evChat() eventDef[wire.ChatEvent] {
	return eventDef[wire.ChatEvent]{name: "chat", scope: wire.ScopeRead, doc: "A run as a conversation shows it."}
}

// evChatDelta is chat for texts that the next one repeats in full.
func evChatDelta() eventDef[wire.ChatEvent] {
	e := evChat()
	e.dropIfSlow = true
	return e
}

func evPresence() eventDef[wire.PresenceChanged] {
	return eventDef[wire.PresenceChanged]{name: "presence", scope: wire.ScopeRead, doc: "Who is connected changed; the whole list.", dropIfSlow: true, versioned: true}
}

func evTick() eventDef[wire.Tick] {
	return eventDef[wire.Tick]{name: "tick", doc: "Sent every tick interval.", dropIfSlow: true}
}

func evHealth() eventDef[wire.Health] {
	return eventDef[wire.Health]{name: "health", doc: "The gateway's health changed.", dropIfSlow: true, versioned: true}
}

func evShutdown() eventDef[wire.Shutdown] {
	return eventDef[wire.Shutdown]{name: "shutdown", doc: "The gateway is about to stop or restart."}
}

// eventTable lists every event that a connection may see after its hello.
func eventTable() []eventInfo {
	return []eventInfo{evAgent().info(), evChat().info(), evPresence().info(), evTick().info(), evHealth().info(), evShutdown().info()}
}

// emit sends an event to every peer that may see it. It encodes once, frames
// once per dialect, and never waits for a peer.
func emit[T any](h *hub, e eventDef[T], v T) {
	if h.empty() {
		return
	}
	if payload, err := encodeJSON(v); err != nil {
		h.log.Error("event not encoded", "event", e.name, "err", err)
	} else {
		h.broadcast(e.with(payload))
	}
}

// with joins the definition with an encoded payload.
func (e eventDef[T]) with(payload []byte) event {
	return event{name: e.name, scope: e.scope, dropIfSlow: e.dropIfSlow, versioned: e.versioned, payload: payload}
}

// event is one occurrence, ready to be framed.
type event struct {
	name       string
	scope      wire.Scope
	dropIfSlow bool
	versioned  bool
	version    wire.StateVersion // of the hub when it was sent, if versioned
	payload    []byte
}
