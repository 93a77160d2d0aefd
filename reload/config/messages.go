package config

// Messages is how messages of all channels are treated.
type Messages struct {
	AckReaction      string `key:"ackReaction" reload:"hot" doc:"An emoji by which a message is answered as soon as it was let in; none when empty."`
	AckReactionScope string `key:"ackReactionScope" default:"group-mentions" oneof:"group-mentions,group-all,direct,all,off" reload:"hot" doc:"Which messages get it: in groups those that name the bot, or all; direct ones; or all of these."`
}

// Reaction is the emoji by which a message is acknowledged, or "".
func (m *Messages) Reaction(group, mentioned bool) string {
	switch s := m.AckReactionScope; {
	case s == "all", s == "direct" && !group, s == "group-all" && group, s == "group-mentions" && group && mentioned:
		return m.AckReaction
	}
	return ""
}
