package config

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// This file is who may write in which chat, in the words and with the meaning
// of OpenClaw's configuration. What that closes and this program cannot is
// refused (restricting), never ignored.

// Group is one group chat by its id, or with * all that are not named.
type Group struct {
	Enabled        bool             `key:"enabled" default:"true" reload:"hot" doc:"Listen in this group."`
	RequireMention bool             `key:"requireMention" default:"true" reload:"hot" doc:"Answer only who names the bot or replies to it; what groups.* says when absent."`
	GroupPolicy    string           `key:"groupPolicy" oneof:"open,allowlist,disabled" reload:"hot" doc:"Who may write in this group; the account's when absent."`
	AllowFrom      []string         `key:"allowFrom" reload:"hot" doc:"Ids of those who may write in this group, whatever its policy; an empty list is nobody."`
	Topics         map[string]Topic `key:"topics"`
}

// Topic is one topic of a forum by its number, 1 for General, or with * the
// others. What it leaves out is the group's.
type Topic struct {
	Enabled        bool     `key:"enabled" default:"true" reload:"hot" doc:"Listen in this topic."`
	RequireMention bool     `key:"requireMention" default:"true" reload:"hot" doc:"Answer only who names the bot; the group's when absent."`
	GroupPolicy    string   `key:"groupPolicy" oneof:"open,allowlist,disabled" reload:"hot" doc:"Who may write in this topic; the group's when absent."`
	AllowFrom      []string `key:"allowFrom" reload:"hot" doc:"Ids of those who may write in this topic, whatever its policy."`
	AgentID        string   `key:"agentId" reload:"hot" doc:"The agent that answers here, before any binding."`
}

// Direct is one person by the id, or with * all that are not named.
type Direct struct {
	Enabled      bool     `key:"enabled" default:"true" reload:"hot" doc:"Listen to this person."`
	DMPolicy     string   `key:"dmPolicy" oneof:"pairing,allowlist,open,disabled" reload:"hot" doc:"In place of the account's dmPolicy."`
	AllowFrom    []string `key:"allowFrom" reload:"hot" doc:"In place of the account's allowFrom; who is not in it is not even told a code."`
	RequireTopic bool     `key:"requireTopic" default:"false" reload:"hot" doc:"Hear only what is written in a topic."`
}

// anybody in a list of ids stands for all of them.
const anybody = "*"

// In is what the configuration says of a group and, where the message stands
// in one, of its topic; known is false for a group that it does not name.
func (a *ChannelAccount) In(chat, topic string) (t Topic, known bool) {
	g, known := a.Groups[chat]
	if !known {
		g, known = a.Groups[anybody]
	}
	t = Topic{Enabled: g.Enabled, RequireMention: g.RequireMention || !known, GroupPolicy: g.GroupPolicy, AllowFrom: g.AllowFrom}
	own, ok := g.Topics[topic]
	if !ok {
		own, ok = g.Topics[anybody]
	}
	if !ok || topic == "" {
		return t, known
	}
	t.Enabled, t.RequireMention, t.AgentID = t.Enabled && own.Enabled, own.RequireMention, own.AgentID
	t.GroupPolicy = cmp.Or(own.GroupPolicy, t.GroupPolicy)
	if own.AllowFrom != nil {
		t.AllowFrom = own.AllowFrom
	}
	return t, known
}

// With is what the configuration says of a person, if anything.
func (a *ChannelAccount) With(person string) (d Direct, known bool) {
	for id, own := range a.Direct {
		if PeerID(a.Channel, id) == person {
			return own, true
		}
	}
	d, known = a.Direct[anybody]
	return d, known
}

// inherit gives groups and topics what they leave out to others: a group the
// mention that all groups need, a topic what is said of all topics of its group.
func (b *binder) inherit(path string, groups map[string]Group) {
	all, wild := groups[anybody]
	for id, g := range groups {
		at := joinKey(path, id)
		if wild && b.at[joinKey(at, "requireMention")] == nil {
			g.RequireMention = all.RequireMention
		}
		rest := Topic{Enabled: true, RequireMention: g.RequireMention}
		for _, n := range append([]string{anybody}, sortedKeys(g.Topics)...) {
			t, ok := g.Topics[n]
			if !ok {
				continue
			}
			at := joinKey(at+".topics", n)
			if b.at[joinKey(at, "enabled")] == nil {
				t.Enabled = rest.Enabled
			}
			if b.at[joinKey(at, "requireMention")] == nil {
				t.RequireMention = rest.RequireMention
			}
			if t.AllowFrom == nil {
				t.AllowFrom = rest.AllowFrom
			}
			t.GroupPolicy, t.AgentID = cmp.Or(t.GroupPolicy, rest.GroupPolicy), cmp.Or(t.AgentID, rest.AgentID)
			g.Topics[n] = t
			if n == anybody {
				rest = t
			}
		}
		groups[id] = g
	}
}

// checkDoors finds fault with who may write. Open is said twice, by the policy
// and by the list, so that one slip opens nothing.
func (b *binder) checkDoors(c *Config, ch *Channel, a *ChannelAccount, at string) {
	open := func(policy string, list []string) bool { return policy != "open" || slices.Contains(list, anybody) }
	if !open(a.DMPolicy, a.AllowFrom) {
		b.problem(joinKey(at, "dmPolicy"), b.near(at, "dmPolicy"), `open lets anybody write, and must be confirmed by allowFrom: ["*"]`)
	}
	if (a.DMPolicy == "pairing" || a.DMPolicy == "allowlist") && slices.Contains(a.AllowFrom, anybody) {
		b.warn(joinKey(at, "allowFrom"), b.near(at, "allowFrom"), "* lets anybody write, though dmPolicy is "+a.DMPolicy)
	}
	for id, d := range a.Direct {
		list := d.AllowFrom
		if list == nil {
			list = a.AllowFrom
		}
		if !open(d.DMPolicy, list) {
			key := joinKey(joinKey(at, "direct"), id) + ".dmPolicy"
			b.problem(key, b.near(at, key), `open must be confirmed by allowFrom: ["*"]`)
		}
	}
	if own := ch.Accounts[a.Account]; slices.Contains(own.AllowFrom, anybody) && ch.AllowFrom != nil && !slices.Contains(ch.AllowFrom, anybody) {
		b.problem(joinKey(at, "allowFrom"), b.near(at, "allowFrom"), "must not hold * while the channel's own allowFrom names people")
	}
	if len(ch.Groups) > 0 && a.Groups == nil && a.GroupPolicy == "open" {
		b.problem(joinKey(at, "groups"), b.near(at, "groups"), "is missing: the channel's groups are not those of one bot of several, and groupPolicy open would let all groups in")
	}
	for id, g := range a.Groups {
		for n, t := range g.Topics {
			if _, ok := c.Agent(t.AgentID); !ok && t.AgentID != "" {
				key := joinKey(joinKey(joinKey(at, "groups"), id)+".topics", n) + ".agentId"
				b.problem(key, b.near(at, key), "names no agent of agents.list")
			}
		}
	}
}

// near is where a key stands, or else the section that should have it.
func (b *binder) near(section, key string) *Node {
	if n := b.at[key]; n != nil {
		return n
	}
	if n := b.at[joinKey(section, key)]; n != nil {
		return n
	}
	return b.at[section]
}

// sender is an id of a list of who may write. OpenClaw's prefixes go; what is
// nobody's id is told.
func (b *binder) sender(path string, n *Node, id string) string {
	if strings.HasPrefix(path, "channels."+whatsapp+".") {
		jid, ok := whatsappID(strings.TrimSpace(id))
		if !ok && id != anybody {
			b.warn(path, n, fmt.Sprintf("%q is nobody: who may write is named by the phone number with its country (+49…) or the JID, which openclaw pairing list shows", id))
		}
		return jid
	}
	if !strings.HasPrefix(path, "channels.telegram.") {
		return id
	}
	id = strings.TrimSpace(id)
	if prefix, rest, ok := strings.Cut(id, ":"); ok && (strings.EqualFold(prefix, "telegram") || strings.EqualFold(prefix, "tg")) {
		id = rest
	}
	switch {
	case id == anybody:
	case !isInteger(id):
		b.warn(path, n, fmt.Sprintf("%q is nobody: who may write is named by the numeric id, which /start and openclaw pairing list show", id))
	case strings.HasPrefix(id, "-"):
		b.warn(path, n, id+" is a group, and nobody: groups are named under groups")
	}
	return id
}

// restricting lists keys of the wider product that close something which this
// program would leave open if it ignored them: a file that has one is refused,
// unless its value closes nothing.
var restricting = [...]struct {
	sections, keys string
	open           func(*Node) bool
	instead        string
}{
	{"channels.* channels.*.accounts.*", "contextVisibility", func(n *Node) bool { return n.Str == "all" }, "quoted text is shown to the model whoever wrote it"},
	{"channels.* channels.*.accounts.*", "actions", without("sendMessage"), "take the tool message from the agent's tools"},
	{"channels.*.groups.* channels.*.accounts.*.groups.*", "tools toolsBySender", never, "bind the group to an agent with tools of its own"},
	{"channels.*.direct.* channels.*.accounts.*.direct.*", "tools toolsBySender topics", never, "bind the person to an agent with tools of its own"},
	{"tools.exec agents.list[].tools.exec", "security", func(n *Node) bool { return n.Str != "deny" }, `say mode: "deny"`},
	{"session", "sendPolicy", allows, "a channel is closed by enabled: false, its groups by groupPolicy"},
	{"tools agents.list[].tools", "toolsBySender", nothing, "bind the person to an agent with tools of its own"},
	{"tools agents.list[].tools", "message", without("allowWithinProvider", "allowAcrossProviders"), "take the tool message from the agent's tools"},
	{"commands", "allowFrom", anybodys, "who may write may also use commands; list only those under channels"},
}

func never(*Node) bool { return false }

func nothing(n *Node) bool { return n.len() == 0 }

// allows is open if a policy denies nothing.
func allows(n *Node) bool {
	rules := n.Get("rules")
	return n.text("default") != "deny" && (rules == nil || !slices.ContainsFunc(rules.Items, func(r *Node) bool { return r.text("action") != "allow" }))
}

// without is open if none of these keys is false, there or in what it holds.
func without(keys ...string) func(*Node) bool {
	var open func(*Node) bool
	open = func(n *Node) bool {
		return !slices.ContainsFunc(n.Members, func(m Member) bool {
			return slices.Contains(keys, m.Key) && (m.Value.Kind != Bool || !m.Value.Bool) || !open(m.Value)
		})
	}
	return open
}

// anybodys is open if each list of a map names everybody.
func anybodys(n *Node) bool {
	return !slices.ContainsFunc(n.Members, func(m Member) bool {
		return !slices.ContainsFunc(m.Value.Items, func(id *Node) bool { return id.Str == anybody })
	})
}

// restricts refuses a key that must not be ignored.
func (b *binder) restricts(path, section string, m *Member) bool {
	if section == "" && m.Key == "commands" {
		refused := false
		for _, own := range m.Value.Members {
			refused = b.restricts(joinKey(path, own.Key), m.Key, &own) || refused
		}
		return refused
	}
	for _, r := range restricting {
		if slices.Contains(strings.Fields(r.sections), section) && slices.Contains(strings.Fields(r.keys), m.Key) && !r.open(m.Value) {
			b.problem(path, &Node{Line: m.Line, Column: m.Column}, "is not served by this gateway, and ignored it would leave open what it closes: "+r.instead)
			return true
		}
	}
	return false
}

// channelDefaults reads what channels.defaults says of channels that do not.
func (b *binder) channelDefaults(path string, m *Member) {
	b.warn(path, &Node{Line: m.Line, Column: m.Column}, "only groupPolicy is read")
	for _, d := range m.Value.Members {
		at := joinKey(path, d.Key)
		switch {
		case d.Key != "groupPolicy":
			b.restricts(at, "channels.*", &d)
		case !slices.Contains([]string{"open", "allowlist", "disabled"}, d.Value.Str):
			b.problem(at, d.Value, "must be open, allowlist or disabled")
		default:
			b.groupPolicy = d.Value.Str
		}
	}
}
