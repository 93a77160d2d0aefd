package gateway

import "openclaw/wire"

// eventKind is what is the same of all events of one name.
type eventKind struct {
	name       string
	scope      wire.Scope // the least one that sees it
	doc        string
	dropIfSlow bool // a later one tells the same: a peer that lags is spared this one
	versioned  bool // carries stateVersion
}

// eventDef is one event and the type of its payload. An event is emitted
// through its definition only, so none exists without a scope and none carries
// another payload.
type eventDef[T any] struct{ eventKind }

func evAgent() eventDef[wire.AgentEvent] {
	return eventDef[wire.AgentEvent]{eventKind{name: "agent", scope: wire.ScopeRead, doc: "One step of a run."}}
}

func evChat() eventDef[wire.ChatEvent] {
	return eventDef[wire.ChatEvent]{eventKind{name: "chat", scope: wire.ScopeRead, doc: "A run as a conversation shows it."}}
}

// evChatDelta is chat for texts that the next one repeats in full.
func evChatDelta() eventDef[wire.ChatEvent] {
	e := evChat()
	e.dropIfSlow = true
	return e
}

func evPresence() eventDef[wire.PresenceChanged] {
	return eventDef[wire.PresenceChanged]{eventKind{name: "presence", scope: wire.ScopeRead, doc: "Who is connected changed; the whole list.", dropIfSlow: true, versioned: true}}
}

func evTick() eventDef[wire.Tick] {
	return eventDef[wire.Tick]{eventKind{name: "tick", doc: "Sent every tick interval.", dropIfSlow: true}}
}

func evHealth() eventDef[wire.Health] {
	return eventDef[wire.Health]{eventKind{name: "health", doc: "The gateway's health changed.", dropIfSlow: true, versioned: true}}
}

func evShutdown() eventDef[wire.Shutdown] {
	return eventDef[wire.Shutdown]{eventKind{name: "shutdown", doc: "The gateway is about to stop or restart."}}
}

func evConfigChanged() eventDef[wire.ConfigChanged] {
	return eventDef[wire.ConfigChanged]{eventKind{name: "config.changed", scope: wire.ScopeRead, doc: "The configuration file changed; what was applied and what waits."}}
}

func evConfigRejected() eventDef[wire.ConfigRejected] {
	return eventDef[wire.ConfigRejected]{eventKind{name: "config.rejected", scope: wire.ScopeRead, doc: "The configuration file cannot be used; the gateway goes on with what it has."}}
}

func evApprovalRequested() eventDef[wire.ExecApproval] {
	return eventDef[wire.ExecApproval]{eventKind{name: "exec.approval.requested", scope: wire.ScopeApprovals, doc: "A program waits for a person's decision."}}
}

func evApprovalResolved() eventDef[wire.ExecApprovalResolved] {
	return eventDef[wire.ExecApprovalResolved]{eventKind{name: "exec.approval.resolved", scope: wire.ScopeApprovals, doc: "Somebody decided on a program."}}
}

// eventTable lists every event that a connection may see after its hello.
func eventTable() []eventKind {
	return []eventKind{
		evAgent().eventKind, evChat().eventKind, evPresence().eventKind, evTick().eventKind, evHealth().eventKind,
		evShutdown().eventKind, evConfigChanged().eventKind, evConfigRejected().eventKind,
		evApprovalRequested().eventKind, evApprovalResolved().eventKind,
	}
}

// event is one occurrence, ready to be framed.
type event struct {
	eventKind
	version wire.StateVersion // of the hub when it was sent
	payload []byte
}

// emit sends an event to every peer that may see it. It encodes once, frames
// once per dialect, and never waits for a peer.
func emit[T any](h *hub, e eventDef[T], v T) {
	if h.empty() {
		return
	}
	if payload, err := wire.Marshal(v); err != nil {
		h.log.Error("event not encoded", "event", e.name, "err", err)
	} else {
		h.broadcast(event{eventKind: e.eventKind, payload: payload})
	}
}
