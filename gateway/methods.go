package gateway

import "openclaw/wire"

// methodTable lists every request that a connection may make after connect.
// Dispatch, the scope check, help and the reference come from here. It is a
// function, not a variable, so that a handler may read it.
func methodTable() []method {
	return []method{
		rpc("health", wire.ScopeNone, "Health snapshot, from the cache unless probe asks for a fresh one.", (*Gateway).healthGet, inline),
		rpc("status", wire.ScopeRead, "Process, sessions and configuration in one answer.", (*Gateway).status),
		rpc("system-presence", wire.ScopeRead, "Who is connected; the gateway itself is the first entry.", (*Gateway).systemPresence, inline),
		rpc("system-event", wire.ScopeAdmin, "Set a presence entry (text begins with Node:) or tell the agent something with its next turn.", (*Gateway).systemEvent),
		rpc("last-heartbeat", wire.ScopeRead, "The last time an agent was woken without a message; null where none was.", (*Gateway).lastHeartbeat, inline),
		rpc("config.get", wire.ScopeRead, "The configuration as written and in effect, secrets redacted.", (*Gateway).configGet),
		rpc("config.schema", wire.ScopeRead, "JSON Schema of the configuration.", (*Gateway).configSchema),
		rpc("config.set", wire.ScopeAdmin, "Replace the configuration file and apply it; baseHash must be config.get's.", (*Gateway).configSet),
		rpc("config.patch", wire.ScopeAdmin, "Merge into the configuration file (RFC 7396), comments and order kept, and apply it.", (*Gateway).configPatch),
		rpc("config.apply", wire.ScopeAdmin, "The same as config.set.", (*Gateway).configSet),
		rpc("gateway.reload", wire.ScopeAdmin, "Read the configuration file again and apply it, whatever hotReload.mode says; dryRun only tells.", (*Gateway).gatewayReload),
		rpc("logs.tail", wire.ScopeRead, "Lines of the log from a byte cursor on.", (*Gateway).logsTail),
		rpc("agents.list", wire.ScopeRead, "The configured agents.", (*Gateway).agentsList),
		rpc("agent.identity.get", wire.ScopeRead, "How an agent presents itself.", (*Gateway).agentIdentity),
		staged("agent", wire.ScopeWrite, "Run a turn: acknowledged at once, answered again when it ends. Ends with its connection.", (*Gateway).agentRun),
		rpc("agent.wait", wire.ScopeWrite, "Wait for a run to end.", (*Gateway).agentWait),
		staged("chat.send", wire.ScopeWrite, "Start a turn in a session; answers once the message is stored. Outlives its connection.", (*Gateway).chatSend),
		rpc("chat.history", wire.ScopeRead, "The messages of a session.", (*Gateway).chatHistory),
		rpc("chat.abort", wire.ScopeWrite, "End the runs of a session, or one of them.", (*Gateway).chatAbort),
		rpc("chat.inject", wire.ScopeAdmin, "Add an assistant's message that no model wrote.", (*Gateway).chatInject),
		rpc("sessions.list", wire.ScopeRead, "Sessions, newest first.", (*Gateway).sessionsList),
		rpc("sessions.preview", wire.ScopeRead, "The last messages of some sessions, shortened.", (*Gateway).sessionsPreview),
		rpc("sessions.resolve", wire.ScopeRead, "Find a session by key, id or label.", (*Gateway).sessionsResolve),
		rpc("sessions.patch", wire.ScopeAdmin, "Change a session's label, model or levels.", (*Gateway).sessionsPatch),
		rpc("sessions.reset", wire.ScopeAdmin, "Begin a new conversation under a session's key.", (*Gateway).sessionsReset),
		rpc("sessions.delete", wire.ScopeAdmin, "Forget a session; its transcript is renamed, not removed.", (*Gateway).sessionsDelete),
		rpc("sessions.compact", wire.ScopeAdmin, "Show models only the newest messages of a session from now on.", (*Gateway).sessionsCompact),
		rpc("models.list", wire.ScopeRead, "The models that turns may use.", (*Gateway).modelsRPC),
		rpc("tools.catalog", wire.ScopeRead, "The tools there are, by group, and which of them an agent's turns may call.", (*Gateway).toolsCatalog, inline),
		rpc("exec.approvals.get", wire.ScopeAdmin, "The file of programs that were approved for always.", (*Gateway).approvalsGet),
		rpc("exec.approvals.set", wire.ScopeAdmin, "Replace that file; baseHash must be exec.approvals.get's.", (*Gateway).approvalsSet),
		rpc("exec.approval.request", wire.ScopeApprovals, "Have a person decide on a program; answered when somebody has, or nobody in time.", (*Gateway).approvalRequest),
		rpc("exec.approval.resolve", wire.ScopeApprovals, "Decide on a program that waits: allow-once, allow-always or deny.", (*Gateway).approvalResolve),
		rpc("exec.approval.list", wire.ScopeApprovals, "The programs that wait for a decision.", (*Gateway).approvalList),
		rpc("send", wire.ScopeWrite, "Send a message to a chat; answers when the network has taken it.", (*Gateway).send),
		rpc("message.action", wire.ScopeWrite, "The same in the form of newer clients; the one action is send.", (*Gateway).messageAction),
		rpc("channels.status", wire.ScopeRead, "How each account of each chat network fares, by its last success.", (*Gateway).channelsStatus),
		rpc("web.login.start", wire.ScopeAdmin, "Have a channel link its account, or go on after a closing; answers with the QR code to scan.", (*Gateway).webLoginStart),
		rpc("web.login.wait", wire.ScopeAdmin, "Wait until the code was scanned and the account is linked, or there is another code.", (*Gateway).webLoginWait),
		rpc("channels.logout", wire.ScopeAdmin, "Have a channel that links to an account unlink it.", (*Gateway).channelsLogout),
		rpc("channels.uncertain.clear", wire.ScopeWrite, "Forget the messages of an account of which nobody knows whether they arrived.", (*Gateway).uncertainClear),
		rpc("channels.pairing.list", wire.ScopePairing, "Senders who wait for leave to write, with their codes, and those who have it.", (*Gateway).pairingList),
		rpc("channels.pairing.approve", wire.ScopePairing, "Give that leave to the sender who was told this code.", (*Gateway).pairingApprove),
		rpc("channels.pairing.reject", wire.ScopePairing, "Refuse it: the sender is told no other code for an hour.", (*Gateway).pairingReject),
		rpc("channels.pairing.revoke", wire.ScopePairing, "Take that leave back from an id, for one account or all.", (*Gateway).pairingRevoke),
		rpc("usage.status", wire.ScopeRead, "Quotas at the model providers, where one tells them.", (*Gateway).usageStatus),
		rpc("usage.cost", wire.ScopeRead, "Tokens and cost per day.", (*Gateway).usageCost),
	}
}
