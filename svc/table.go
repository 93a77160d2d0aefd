package svc

import (
	"context"
	"slices"
	"strings"
)

const onArgv = "other users of this host can read a command line"

// commands is the table. It is a function so that help, which is a row, may read it.
func commands() []Command {
	json := Flag{Name: "json", Doc: "Print one JSON document and nothing else."}
	message := []Flag{
		{Name: "message", Aliases: []string{"m", "text"}, Value: "TEXT", Doc: "What to say."},
		{Name: "message-file", Value: "FILE", Doc: "Say what is in this file; - is stdin."},
	}
	seconds := Flag{Name: "timeout", Value: "SECONDS", Doc: "Time the turn may take, instead of the agent's own."}
	agentFlags := clientFlags(append(message[:len(message):len(message)],
		Flag{Name: "agent", Value: "ID", Doc: "The agent; the default one when absent."},
		Flag{Name: "session-key", Value: "KEY", Doc: "The session; the agent's main one when absent."},
		Flag{Name: "session-id", Value: "ID", Doc: "The session, by its id."},
		Flag{Name: "model", Value: "REF", Doc: "Use this model, provider/model, for this turn."},
		Flag{Name: "thinking", Value: "LEVEL", Doc: "How hard a model that thinks should think."},
		Flag{Name: "deliver", Doc: "Also send the reply to the chat that last wrote to the session, or to --reply-to."},
		Flag{Name: "reply-channel", Aliases: []string{"channel"}, Value: "NAME", Doc: "The chat network of --reply-to."},
		Flag{Name: "reply-to", Value: "TARGET", Doc: "The chat to deliver to."},
		Flag{Name: "reply-account", Value: "ID", Doc: "The account to deliver with, where there are several."},
		seconds,
	)...)
	system := systemFlag()
	edit := []Flag{json, system, {Name: "dry-run", Doc: "Only say what would change."},
		{Name: "base-hash", Value: "HASH", Doc: "Only if the file still has this SHA-256."},
		{Name: "allow-shrink", Doc: "Also if almost nothing of the file, or no secret, would be left."}}
	session := func(doc string) string { return doc + " SESSION is a key, an id or a label." }
	gateway := []Command{
		{Path: "gateway status", Aliases: []string{"gateway probe", "daemon status"}, Doc: "Show the process, the port, a probe, the configuration and the last error.",
			Flags: clientFlags(
				Flag{Name: "deep", Doc: "Also ask for connections, health and limits, and list your other gateways."},
				Flag{Name: "no-probe", Doc: "Only look at files, do not connect."}), Run: gatewayStatus},
		{Path: "gateway ports", Doc: "List the ports of the gateway, from its base port.",
			Flags: []Flag{json, system, {Name: "port", Value: "PORT", Doc: "The base port, instead of the profile's."}}, Run: ports},
		{Path: "gateway auth-token", Doc: "Hand the gateway's secret to another program over a pipe.",
			Flags: []Flag{json, system, {Name: "header", Doc: "As an Authorization header, for curl -H @-."},
				{Name: "show-secrets", Doc: "Also on a terminal."}}, Run: authToken},
		{Path: "gateway reload", Aliases: []string{"daemon reload"}, Doc: "Have the gateway read its configuration now and apply what changed.", Flags: clientFlags(), Run: gatewayReload},
	}
	return slices.Concat(gateway, serviceCommands(), []Command{
		{Path: "status", Doc: "Show what the running gateway is doing.",
			Flags: clientFlags(Flag{Name: "all", Ignored: "all is always shown"}, Flag{Name: "deep", Doc: "Also show who is connected, the limits and the tools."}), Run: status},
		{Path: "health", Aliases: []string{"gateway health"}, Doc: "Ask whether all is well; the exit code is the answer.",
			Flags: clientFlags(Flag{Name: "probe", Doc: "Look again instead of answering from the cache."}), Run: health},
		{Path: "call", Aliases: []string{"gateway call"}, Args: "METHOD", Doc: "Call a method of the gateway and print its answer.",
			Flags: clientFlags(
				Flag{Name: "params", Value: "JSON", Doc: "The parameters: an object, @FILE, or - for stdin."},
				Flag{Name: "expect-final", Doc: "Wait for the second answer of a method that gives two."}), Run: call},
		{Path: "logs", Doc: "Show the gateway's log, also when it is down.",
			Flags: clientFlags(
				Flag{Name: "last", Aliases: []string{"n", "limit", "lines"}, Value: "N", Doc: "The last N lines that match (200)."},
				Flag{Name: "follow", Aliases: []string{"f"}, Doc: "Go on with what is written from now on."},
				Flag{Name: "level", Value: "LEVEL", OneOf: []string{"debug", "info", "warn", "error"}, Doc: "Least level shown."},
				Flag{Name: "filter", Value: "TEXT", Doc: "Only lines that hold this text."},
				Flag{Name: "since", Value: "TIME", Doc: "Only lines younger than this: minutes, or 90s, 2h."},
				Flag{Name: "format", Value: "FORM", OneOf: []string{"json", "text"}, Doc: "json is one object a line."},
				Flag{Name: "json", Doc: "The same as --format json."},
				Flag{Name: "utc", Doc: "Times in UTC."},
				Flag{Name: "plain", Ignored: "text is the default"}), Run: logs},

		{Path: "agent run", Aliases: []string{"agent", "agents run"}, Doc: "Run one turn of an agent and print the reply.", Flags: agentFlags, Run: agentRun},
		{Path: "agent list", Aliases: []string{"agents list", "agents"}, Doc: "List the agents.", Flags: clientFlags(), Run: agentList},
		{Path: "agent status", Aliases: []string{"agents status"}, Args: "ID", Doc: "Show one agent and its sessions.", Flags: clientFlags(), Run: agentStatus},
		{Path: "message send", Doc: "Send a message: to an agent, whose reply is printed, or with --channel to a chat.",
			Flags: clientFlags(append(message[:len(message):len(message)],
				Flag{Name: "to", Aliases: []string{"t", "target"}, Value: "TARGET", Doc: "The agent, or with --channel the chat's id."},
				Flag{Name: "channel", Value: "NAME", Doc: "The chat network, where the target is a person there."},
				Flag{Name: "account", Value: "ID", Doc: "The account of the chat network, where it has several."},
				Flag{Name: "media", Value: "FILE", Doc: "Also send this file to the chat."},
				Flag{Name: "dry-run", Doc: "Only say what would be done."}, seconds)...), Run: messageSend},
		{Path: "channels status", Aliases: []string{"channels", "channels list"}, Doc: "Show how each account of each chat network fares, by its last success.",
			Flags: clientFlags(Flag{Name: "probe", Ignored: "what is shown is what last happened"}), Run: channelsStatus},
		{Path: "channels install", Args: "CHANNEL", Doc: "Have npm fetch what a channel runs on, by lock file, without scripts: whatsapp.",
			Flags: []Flag{json, system, {Name: "node", Value: "PATH", Doc: "The Node.js to run it, by its absolute path; the host's own when absent."}}, Run: channelsInstall},
		{Path: "channels login", Args: "CHANNEL", Doc: "Link an account: show the QR code to scan with the phone, and wait for that.",
			Flags: clientFlags(Flag{Name: "account", Value: "ID", Doc: "The account; the default one when absent."},
				Flag{Name: "force", Doc: "Unlink first what is linked."}, Flag{Name: "verbose", Ignored: "all is always shown"}), Run: channelsLogin},
		{Path: "channels logout", Args: "CHANNEL", Doc: "Have a channel unlink its account.",
			Flags: clientFlags(Flag{Name: "account", Value: "ID", Doc: "The account; the default one when absent."}), Run: channelsLogout},
		{Path: "channels uncertain", Args: "CHANNEL", Doc: "List the messages of which nobody knows whether they arrived; they are not sent again.",
			Flags: clientFlags(Flag{Name: "account", Value: "ID", Doc: "Of this account only."}, Flag{Name: "clear", Doc: "Forget them."}), Run: channelsUncertain},
		{Path: "pairing list", Args: "CHANNEL", Doc: "List the senders who wait for leave to write, with their codes, and those who have it.", Flags: clientFlags(), Run: pairingList},
		{Path: "pairing approve", Args: "CHANNEL CODE", Doc: "Let the sender in who was told this code.", Flags: clientFlags(), Run: pairingApprove},
		{Path: "pairing reject", Args: "CHANNEL CODE", Doc: "Refuse it; the sender is told no other code for an hour.", Flags: clientFlags(), Run: pairingReject},
		{Path: "pairing revoke", Args: "CHANNEL ID", Doc: "Take it back from who was let in.",
			Flags: clientFlags(Flag{Name: "account", Value: "ID", Doc: "For this account only."}), Run: pairingRevoke},
		{Path: "sessions list", Aliases: []string{"sessions"}, Doc: "List sessions, the last used first.",
			Flags: clientFlags(
				Flag{Name: "agent", Value: "ID", Doc: "Only this agent's."},
				Flag{Name: "active", Value: "TIME", Doc: "Only those used since: minutes, or 2h."},
				Flag{Name: "search", Value: "TEXT", Doc: "Only those whose key or label holds this text."},
				Flag{Name: "last", Aliases: []string{"n", "limit", "lines"}, Value: "N", Doc: "At most N (100)."}), Run: sessionsList},
		{Path: "sessions show", Args: "SESSION", Doc: session("Print a conversation."),
			Flags: clientFlags(Flag{Name: "last", Aliases: []string{"n", "limit", "lines"}, Value: "N", Doc: "The last N messages (200)."}), Run: sessionsShow},
		{Path: "sessions reset", Args: "SESSION", Doc: session("Begin a session anew."), Flags: clientFlags(), Run: sessionsReset},
		{Path: "sessions delete", Args: "SESSION", Doc: session("Delete a session; its transcript is kept aside."), Flags: clientFlags(), Run: sessionsDelete},
		{Path: "models list", Aliases: []string{"models"}, Doc: "List the models that turns may use.", Flags: clientFlags(), Run: modelsList},
		{Path: "sandbox check", Aliases: []string{"sandbox", "sandbox explain"}, Doc: "Try each wall that tools run behind; the exit code says whether all stand.", Flags: []Flag{json}, Run: sandboxCheck},

		{Path: "approvals list", Aliases: []string{"approvals"}, Doc: "List the programs that wait for a person's decision, with all that it is bound to.", Flags: clientFlags(), Run: approvalsList},
		{Path: "approvals approve", Args: "ID", Doc: "Let a program run, once.",
			Flags: clientFlags(Flag{Name: "always", Doc: "Also whenever the very same is asked for again: program, arguments, environment, directory and files."}), Run: approvalsApprove},
		{Path: "approvals deny", Args: "ID", Doc: "Do not let a program run.", Flags: clientFlags(), Run: approvalsDeny},

		{Path: "doctor", Aliases: []string{"gateway doctor"}, Doc: "Examine the gateway and what it depends on; the exit code says whether something is wrong. Nothing is changed without --fix.",
			Flags: []Flag{json, system, {Name: "fix", Aliases: []string{"repair"}, Doc: "Mend what can be mended safely, say what was done, and look again."},
				{Name: "only", Value: "ID", Many: true, Doc: "Only these checks: " + strings.Join(checkIDs(), ", ") + "."},
				{Name: "deep", Doc: "Also ask whether model providers elsewhere can be reached."},
				{Name: "non-interactive", Doc: "For scripts: nothing is ever asked anyway."}, {Name: "yes", Doc: "The same."}}, Run: doctor},
		{Path: "setup", Aliases: []string{"onboard"}, Doc: "Write a first configuration with a random token, and a workspace.",
			Flags: []Flag{json, {Name: "port", Value: "PORT", Doc: "The base port."},
				{Name: "system", Refused: "setup is for a user's own gateway", Hint: "sudo openclaw gateway install --system makes user, configuration and service"},
				{Name: "non-interactive", Ignored: "nothing is ever asked"}, {Name: "accept-risk", Ignored: "nothing is ever asked"}}, Run: setup},
		{Path: "config show", Args: "[PATH]", Doc: "Print the effective configuration, defaults included, secrets hidden.",
			Flags: []Flag{json, system, {Name: "source", Doc: "The file as it is written, secrets hidden."},
				{Name: "show-secrets", Doc: "Secrets too; on a terminal only."}}, Run: configShow},
		{Path: "config get", Args: "PATH", Doc: "Print one value, for example gateway.port.", Flags: []Flag{json, system}, Run: configGet},
		{Path: "config validate", Args: "[FILE]", Doc: "Check the configuration and name all problems.",
			Flags: []Flag{json, system, {Name: "strict", Doc: "Warnings are problems too."}}, Run: configValidate},
		{Path: "config file", Doc: "Print where the configuration is.", Flags: []Flag{json, system}, Run: configFile},
		{Path: "config schema", Doc: "Print the JSON Schema of the configuration.", Flags: []Flag{json}, Run: configSchema},
		{Path: "config set", Args: "PATH VALUE", Doc: "Put a value into the file, the rest of which stays as it is written; with - the value is read from stdin.", Flags: edit, Run: configSet},
		{Path: "config unset", Args: "PATH", Doc: "Take a key or an element out of the file.", Flags: edit, Run: configUnset},
		{Path: "config patch", Args: "[FILE]", Doc: "Merge a partial configuration (RFC 7396) into the file; without FILE it is read from stdin.", Flags: edit, Run: configPatch},
		{Path: "config diff", Args: "[FILE]", Doc: "Say what a reload would do, key by key: hot, restart or none. FILE is compared with the profile's file, without a gateway.", Flags: clientFlags(), Run: configDiff},

		{Path: "backup create", Aliases: []string{"backup"}, Doc: "Write the state and the configuration into one file, also while the gateway runs.",
			Flags: []Flag{json, system, {Name: "output", Aliases: []string{"o"}, Value: "FILE", Doc: "Where to; STATE/backups/openclaw-backup-PROFILE-TIME.tar.gz when absent."},
				{Name: "include-workspace", Doc: "Also workspaces outside the state directory."}}, Run: backupCreate},
		{Path: "backup verify", Args: "FILE", Doc: "Read a backup to its end and name every file that is not what was backed up.", Flags: []Flag{json}, Run: backupVerify},
		{Path: "backup restore", Args: "FILE", Doc: "Make the state directory and the configuration of a backup, where there are none.",
			Flags: []Flag{json, system, {Name: "dry-run", Doc: "Only verify, and say what would be done."}}, Run: backupRestore},

		{Path: "version", Doc: "Print the version.", Flags: []Flag{json}, Run: version},
		{Path: "help", Args: "[COMMAND…]", Doc: "Print help for a command.",
			Run: func(_ context.Context, e *Env, a *Args) error { return printHelp(e, e.commands(), a.Words) }},
	})
}

// GatewayRun is the row of the daemon, which this package may not import.
func GatewayRun(run func(ctx context.Context, e *Env, a *Args) error) Command {
	const node = "it is for the Node gateway"
	return Command{Path: "gateway run", Aliases: []string{"gateway", "daemon run"}, Doc: "Run the gateway until it is told to stop.", Run: run,
		Flags: []Flag{
			{Name: "port", Value: "PORT", Doc: "The base port, instead of the configuration's."},
			{Name: "bind", Value: "WHERE", OneOf: []string{"loopback", "lan", "tailnet", "auto", "custom"}, Doc: "Where to listen, instead of the configuration's: loopback, lan, tailnet, auto or custom."},
			{Name: "force", Doc: "End the process of yours that holds the port."},
			{Name: "verbose", Doc: "Log everything: --log-level debug."},
			{Name: "allow-unconfigured", Doc: "Start without a configuration, on defaults and a generated token."},
			{Name: "reset", Doc: "With --dev: first remove the dev profile's state."},
			{Name: "whatsapp-test-server", Doc: "For tests only: WhatsApp's server is the loopback address in OPENCLAW_WHATSAPP_WEB_SOCKET_URL."},
			{Name: "token", Value: "TOKEN", Refused: onArgv, Hint: "put gateway.auth.token into the configuration, or set OPENCLAW_GATEWAY_TOKEN"},
			{Name: "password", Value: "PASSWORD", Refused: onArgv, Hint: "put gateway.auth.password into the configuration, or set OPENCLAW_GATEWAY_PASSWORD"},
			{Name: "auth", Value: "MODE", OneOf: []string{"token", "password"}, Ignored: "set gateway.auth.mode in the configuration"},
			{Name: "tailscale", Value: "MODE", Ignored: node}, {Name: "tailscale-reset-on-exit", Ignored: node},
			{Name: "ws-log", Value: "STYLE", Ignored: node}, {Name: "compact", Ignored: node},
			{Name: "raw-stream", Ignored: node}, {Name: "raw-stream-path", Value: "FILE", Ignored: node},
			{Name: "claude-cli-logs", Ignored: node}, {Name: "runtime", Value: "NAME", Ignored: node},
		}}
}
