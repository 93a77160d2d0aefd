package config

import (
	"maps"
	"net/netip"
	"net/url"
	"path"
	"slices"
	"strings"
)

// Channel is one chat network, with one account or several. What an account
// leaves out comes from here.
type Channel struct {
	Kind           string             `key:"kind" oneof:"telegram,whatsapp,process" reload:"hot" doc:"What connects it: telegram, whatsapp, or a program that speaks the child protocol. The channels of the first two names are of that kind."`
	Enabled        bool               `key:"enabled" default:"true" reload:"hot" doc:"Connect it."`
	Command        []string           `key:"command" reload:"hot" doc:"The program of kind process and its arguments; an absolute path, no shell."`
	BotToken       Secret             `key:"botToken" reload:"hot" doc:"The Telegram bot's token, never shown or logged."`
	APIRoot        string             `key:"apiRoot" default:"https://api.telegram.org" reload:"hot" doc:"Root of the Bot API: https, or a loopback address."`
	Network        ChannelNetwork     `key:"network"`
	DMPolicy       string             `key:"dmPolicy" default:"pairing" oneof:"pairing,allowlist,open,disabled" reload:"hot" doc:"Who may write directly: with pairing strangers get a code for openclaw pairing approve, and reach no model."`
	AllowFrom      []string           `key:"allowFrom" reload:"hot" doc:"Ids of those who may write: numbers at Telegram, phone numbers or JIDs at WhatsApp, never names; * is anybody. An empty list is nobody."`
	GroupPolicy    string             `key:"groupPolicy" default:"allowlist" oneof:"open,allowlist,disabled" reload:"hot" doc:"Who may write in groups: with allowlist those of groupAllowFrom, at Telegram in those of groups; disabled closes all of them."`
	GroupAllowFrom []string           `key:"groupAllowFrom" reload:"hot" doc:"Ids of those who may write in groups; allowFrom when absent."`
	Groups         map[string]Group   `key:"groups"`
	Direct         map[string]Direct  `key:"direct"`
	MediaMaxMb     int                `key:"mediaMaxMb" default:"5" min:"1" max:"20" reload:"hot" doc:"Megabytes of one file that is taken in."`
	Streaming      Streaming          `key:"streaming"`
	ReadReceipts   bool               `key:"sendReadReceipts" default:"true" reload:"hot" doc:"Tell WhatsApp that a message was read, once it was let in."`
	WebhookURL     string             `key:"webhookUrl" reload:"hot" doc:"Where Telegram posts updates, https, in place of polling: the address of a proxy that passes webhookPath on to this gateway."`
	WebhookSecret  Secret             `key:"webhookSecret" reload:"hot" doc:"What Telegram proves itself by: 16 to 256 letters, digits, _ and -."`
	WebhookPath    string             `key:"webhookPath" default:"/telegram-webhook" reload:"hot" doc:"The path of the base port at which updates are taken."`
	Accounts       map[string]Account `key:"accounts"`
}

// Account is one account of a channel; what it leaves out is the channel's.
type Account struct {
	Enabled        bool              `key:"enabled" default:"true" reload:"hot" doc:"Connect it."`
	Command        []string          `key:"command" reload:"hot" doc:"The program and its arguments."`
	BotToken       Secret            `key:"botToken" reload:"hot" doc:"The Telegram bot's token."`
	APIRoot        string            `key:"apiRoot" reload:"hot" doc:"Root of the Bot API."`
	Network        ChannelNetwork    `key:"network"`
	DMPolicy       string            `key:"dmPolicy" oneof:"pairing,allowlist,open,disabled" reload:"hot" doc:"Who may write directly."`
	AllowFrom      []string          `key:"allowFrom" reload:"hot" doc:"Ids of those who may write. An empty list is nobody."`
	GroupPolicy    string            `key:"groupPolicy" oneof:"open,allowlist,disabled" reload:"hot" doc:"Who may write in groups."`
	GroupAllowFrom []string          `key:"groupAllowFrom" reload:"hot" doc:"Ids of those who may write in groups."`
	Groups         map[string]Group  `key:"groups"`
	Direct         map[string]Direct `key:"direct"`
	MediaMaxMb     int               `key:"mediaMaxMb" min:"0" max:"20" reload:"hot" doc:"Megabytes of one file that is taken in; 0 is the channel's."`
	Streaming      AccountStreaming  `key:"streaming"`
	ReadReceipts   bool              `key:"sendReadReceipts" default:"true" reload:"hot" doc:"Tell WhatsApp that a message was read, if the channel's says so too."`
	WebhookURL     string            `key:"webhookUrl" reload:"hot" doc:"Where Telegram posts updates."`
	WebhookSecret  Secret            `key:"webhookSecret" reload:"hot" doc:"What Telegram proves itself by."`
	WebhookPath    string            `key:"webhookPath" reload:"hot" doc:"The path at which updates are taken."`
}

// Streaming is how much of an answer is shown before it is whole.
type Streaming struct {
	Mode string `key:"mode" short:"true" default:"partial" oneof:"off,partial,block,progress" reload:"hot" doc:"With partial or block a long answer is shown while it grows, by edits of one message; off and progress show it when it is whole. true is partial, false is off."`
}

// AccountStreaming is Streaming of an account.
type AccountStreaming struct {
	Mode string `key:"mode" short:"true" oneof:"off,partial,block,progress" reload:"hot" doc:"How much of an answer is shown before it is whole."`
}

// ChannelNetwork is how a network is reached.
type ChannelNetwork struct {
	Family string `key:"family" oneof:"any,tcp4" reload:"hot" doc:"tcp4 never tries IPv6; any tries both, the faster wins."`
}

// Binding sends what matches to an agent. The first that matches most closely
// wins: a peer before an account before a channel.
type Binding struct {
	AgentID string       `key:"agentId" required:"true" reload:"hot" doc:"The agent that answers."`
	Match   BindingMatch `key:"match"`
}

// BindingMatch is what a binding is for.
type BindingMatch struct {
	Channel   string      `key:"channel" required:"true" reload:"hot" doc:"The channel."`
	AccountID string      `key:"accountId" reload:"hot" doc:"The account; * for any, the default one when absent."`
	Peer      BindingPeer `key:"peer"`
}

// BindingPeer is one chat.
type BindingPeer struct {
	Kind string `key:"kind" oneof:"direct,dm,group,channel" reload:"hot" doc:"direct (or dm) for a person, group for a group."`
	ID   string `key:"id" reload:"hot" doc:"The id of the person or the group."`
}

// DefaultAccount is the account of a channel that lists none.
const DefaultAccount = "default"

// ChannelAccount is one account with what it takes from its channel.
type ChannelAccount struct {
	Channel, Account, Kind    string
	Command                   []string
	BotToken                  Secret
	APIRoot                   string
	Network                   ChannelNetwork
	DMPolicy, GroupPolicy     string
	AllowFrom, GroupAllowFrom []string
	Groups                    map[string]Group
	Direct                    map[string]Direct
	MediaMaxMb                int
	Streaming                 string
	ReadReceipts              bool
	Messages                  Messages
	WebhookURL, WebhookPath   string
	WebhookSecret             Secret
}

// ChannelAccounts are the accounts that are to be connected, in order.
func (c *Config) ChannelAccounts() []ChannelAccount {
	var out []ChannelAccount
	for _, name := range slices.Sorted(maps.Keys(c.Channels)) {
		out = append(out, c.Channels[name].resolve(name)...)
	}
	for i := range out {
		out[i].Messages = c.Messages
	}
	return out
}

func (ch Channel) resolve(name string) (out []ChannelAccount) {
	if !ch.Enabled {
		return nil
	}
	base := ChannelAccount{
		Channel: name, Account: DefaultAccount, Kind: ch.Kind, Command: ch.Command, BotToken: ch.BotToken, APIRoot: ch.APIRoot, Network: ch.Network,
		DMPolicy: ch.DMPolicy, GroupPolicy: ch.GroupPolicy, AllowFrom: ch.AllowFrom, GroupAllowFrom: ch.GroupAllowFrom, Groups: ch.Groups, Direct: ch.Direct, MediaMaxMb: ch.MediaMaxMb, Streaming: ch.Streaming.Mode,
		ReadReceipts: ch.ReadReceipts,
		WebhookURL:   ch.WebhookURL, WebhookSecret: ch.WebhookSecret, WebhookPath: ch.WebhookPath,
	}
	if base.Kind == "" && network(name) {
		base.Kind = name
	}
	if _, named := ch.Accounts[DefaultAccount]; !named && (len(ch.Accounts) == 0 || !ch.BotToken.IsZero()) {
		out = append(out, base)
	}
	for _, id := range slices.Sorted(maps.Keys(ch.Accounts)) {
		a, r := ch.Accounts[id], base
		if !a.Enabled {
			continue
		}
		r.Account = id
		if a.Command != nil {
			r.Command = a.Command
		}
		if !a.BotToken.IsZero() {
			r.BotToken = a.BotToken
		}
		if !a.WebhookSecret.IsZero() {
			r.WebhookSecret = a.WebhookSecret
		}
		if a.AllowFrom != nil {
			r.AllowFrom = a.AllowFrom
		}
		if a.GroupAllowFrom != nil {
			r.GroupAllowFrom = a.GroupAllowFrom
		}
		switch {
		case a.Groups != nil:
			r.Groups = a.Groups
		case len(ch.Accounts) > 1 && base.Kind == "telegram": // one bot's groups are not another's
			r.Groups = nil
		}
		if a.Direct != nil {
			r.Direct = a.Direct
		}
		for _, w := range []struct {
			to   *string
			from string
		}{{&r.APIRoot, a.APIRoot}, {&r.Network.Family, a.Network.Family}, {&r.DMPolicy, a.DMPolicy}, {&r.GroupPolicy, a.GroupPolicy}, {&r.Streaming, a.Streaming.Mode},
			{&r.WebhookURL, a.WebhookURL}, {&r.WebhookPath, a.WebhookPath}} {
			if w.from != "" {
				*w.to = w.from
			}
		}
		if a.MediaMaxMb != 0 {
			r.MediaMaxMb = a.MediaMaxMb
		}
		r.ReadReceipts = r.ReadReceipts && a.ReadReceipts
		out = append(out, r)
	}
	return out
}

// Previews reports whether an answer is to be shown while it grows.
func (a *ChannelAccount) Previews() bool { return a.Streaming == "partial" || a.Streaming == "block" }

// AgentFor is the agent that a chat's messages are bound to.
func (c *Config) AgentFor(channel, account string, group bool, peer string) string {
	best, agent := -1, c.DefaultAgentID()
	for _, b := range c.Bindings {
		m, rank := b.Match, 0
		if m.Channel != channel {
			continue
		}
		switch m.AccountID {
		case "*":
		case account:
			rank = 1
		case "":
			if account != DefaultAccount {
				continue
			}
			rank = 1
		default:
			continue
		}
		if m.Peer.ID != "" {
			if PeerID(channel, m.Peer.ID) != peer || (m.Peer.Kind == "group" || m.Peer.Kind == "channel") != group {
				continue
			}
			rank += 2
		}
		if rank > best {
			best, agent = rank, b.AgentID
		}
	}
	return agent
}

func (b *binder) checkChannels(c *Config) {
	tokens := map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(c.Channels)) {
		path := joinKey("channels", name)
		ch := c.Channels[name]
		if !IsID(name) {
			b.problem(path, b.at[path], "must be "+idRule)
			continue
		}
		if ch.Kind != "" && ch.Kind != name && (network(name) || network(ch.Kind)) {
			b.problem(joinKey(path, "kind"), b.at[joinKey(path, "kind")], "the channels telegram and whatsapp, and no others, are of the kinds of these names")
			continue
		}
		if !network(name) && ch.Kind == "" {
			continue // which has been told
		}
		for id := range ch.Accounts {
			if at := joinKey(path+".accounts", id); !IsID(id) {
				b.problem(at, b.at[at], "must be "+idRule)
			}
		}
		if b.at[joinKey(path, "groupPolicy")] == nil && b.groupPolicy != "" {
			ch.GroupPolicy = b.groupPolicy
			c.Channels[name] = ch
		}
		b.inherit(joinKey(path, "groups"), ch.Groups)
		for id, a := range ch.Accounts {
			b.inherit(joinKey(joinKey(path+".accounts", id), "groups"), a.Groups)
		}
		for _, a := range ch.resolve(name) {
			at := path
			if _, own := ch.Accounts[a.Account]; own {
				at = joinKey(path+".accounts", a.Account)
			}
			if key, msg := accountProblem(&a, tokens); msg != "" {
				key, n := joinKey(at, key), b.near(at, key)
				if a.Kind == "telegram" && a.BotToken.IsZero() { // elsewhere it may come from a file or a variable
					b.warn(key, n, msg)
				} else {
					b.problem(key, n, msg)
				}
			}
			b.checkDoors(c, &ch, &a, at)
		}
	}
	for i, bind := range c.Bindings {
		if _, ok := c.Agent(bind.AgentID); !ok && bind.AgentID != "" {
			at := joinIndex("bindings", i)
			b.problem(at+".agentId", b.at[at], "names no agent of agents.list")
		}
	}
}

// accountProblem is what is wrong with an account, and its key; tokens are
// whose bots, and doors for updates, are taken.
func accountProblem(a *ChannelAccount, tokens map[string]string) (key, msg string) {
	switch a.Kind {
	case whatsapp:
		return "", ""
	case "process":
		if len(a.Command) == 0 || !strings.HasPrefix(a.Command[0], "/") {
			return "command", "must be the program, by its absolute path, and its arguments"
		}
		return "", ""
	}
	token := a.BotToken.Reveal()
	bot, rest, ok := strings.Cut(token, ":")
	switch {
	case token == "":
		return "botToken", "is missing: the bot is not connected"
	case !ok || !isInteger(bot) || strings.HasPrefix(bot, "-") || rest == "" || strings.ContainsFunc(rest, func(r rune) bool {
		return !('a' <= r|0x20 && r|0x20 <= 'z' || '0' <= r && r <= '9' || r == '_' || r == '-')
	}):
		return "botToken", "must be as @BotFather gave it: digits, a colon, letters and digits"
	case tokens[bot] != "":
		return "botToken", "is the same bot's as of account " + tokens[bot] + ", and only one may poll"
	}
	tokens[bot] = a.Account
	if msg := apiRootProblem(a.APIRoot); msg != "" {
		return "apiRoot", msg
	}
	if key, msg = webhookProblem(a); msg == "" && a.WebhookURL != "" {
		door := "webhook " + a.WebhookPath + " " + a.WebhookSecret.Reveal()
		if tokens[door] != "" {
			return "webhookPath", "and webhookSecret are those of account " + tokens[door] + ": whose an update is could not be told"
		}
		tokens[door] = a.Account
	}
	return key, msg
}

// webhookProblem is what is wrong with how updates are to be posted.
func webhookProblem(a *ChannelAccount) (key, msg string) {
	if a.WebhookURL == "" {
		return "", ""
	}
	word := func(s string, more string) bool {
		return !strings.ContainsFunc(s, func(r rune) bool {
			return !('a' <= r|0x20 && r|0x20 <= 'z' || '0' <= r && r <= '9' || strings.ContainsRune(more, r))
		})
	}
	u, err := url.Parse(a.WebhookURL)
	secret := a.WebhookSecret.Reveal()
	first, _, _ := strings.Cut(strings.TrimPrefix(a.WebhookPath, "/"), "/")
	switch {
	case err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil || u.Fragment != "":
		return "webhookUrl", "must be https://HOST/PATH, which Telegram can reach"
	case len(secret) < 16 || len(secret) > 256 || !word(secret, "_-"):
		return "webhookSecret", "must be 16 to 256 letters, digits, _ and -, without which anybody could post updates"
	case !strings.HasPrefix(a.WebhookPath, "/") || path.Clean(a.WebhookPath) != a.WebhookPath || !word(a.WebhookPath, "/_-."):
		return "webhookPath", "must be a path of letters, digits, _, -, . and /"
	case slices.Contains([]string{"", "v1", "tools", "health", "healthz", "ready", "readyz", "startupz", "metrics"}, first):
		return "webhookPath", "is the gateway's own"
	}
	return "", ""
}

// apiRootProblem finds fault with where a bot's token would be sent to.
func apiRootProblem(root string) string {
	const want = "must be https://HOST, or http:// with a loopback address"
	u, err := url.Parse(root)
	if err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return want
	}
	if u.Scheme == "https" {
		return ""
	}
	ip, err := netip.ParseAddr(u.Hostname())
	if u.Scheme == "http" && (u.Hostname() == "localhost" || err == nil && ip.IsLoopback()) {
		return ""
	}
	return want
}

func isInteger(s string) bool {
	digits := strings.TrimPrefix(s, "-")
	return digits != "" && len(digits) < 20 && strings.Trim(digits, "0123456789") == ""
}
