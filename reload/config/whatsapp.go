package config

import "strings"

// WhatsApp's own part of the channels.

const whatsapp = "whatsapp"

// whatsappElsewhere are its keys in the wider product that have no use here.
const whatsappElsewhere = " authDir debounceMs exposeErrorText messagePrefix selfChatMode"

// network reports whether a channel of this name is of the kind of that name,
// and no other is.
func network(name string) bool { return name == "telegram" || name == whatsapp }

// whatsappID is an id as messages carry it: a person's phone number, however it
// is written, becomes their JID; a JID stays what it is. Anything else is nobody.
func whatsappID(id string) (jid string, ok bool) {
	user, server, isJID := strings.Cut(id, "@")
	if !isJID {
		user = strings.NewReplacer(" ", "", "-", "", "(", "", ")", "", ".", "").Replace(strings.TrimPrefix(user, "+"))
		server = "s.whatsapp.net"
	}
	ok = len(user) >= 5 && len(user) <= 20 && strings.Trim(user, "0123456789") == "" && (server == "s.whatsapp.net" || server == "lid")
	if !ok {
		return id, false
	}
	return user + "@" + server, true
}

// normalize makes JIDs of the numbers in an account's lists.
func (a *ChannelAccount) normalize() {
	if a.Kind != whatsapp {
		return
	}
	for _, list := range []*[]string{&a.AllowFrom, &a.GroupAllowFrom} {
		if *list == nil {
			continue // which means another list
		}
		jids := make([]string, 0, len(*list))
		for _, id := range *list {
			jid, _ := whatsappID(id)
			jids = append(jids, jid)
		}
		*list = jids
	}
}

// samePeer compares the peer of a binding with a chat's.
func samePeer(channel, bound, peer string) bool {
	if channel == whatsapp {
		bound, _ = whatsappID(bound)
	}
	return bound == peer
}

// nobody says why an id in allowFrom is nobody's, or "".
func nobody(kind, id string) string {
	switch {
	case kind == "telegram" && !isInteger(id):
		return "the numeric id, which /start and openclaw pairing list show"
	case kind == whatsapp:
		if _, ok := whatsappID(id); !ok {
			return "the phone number with its country (+49…) or the JID, which openclaw pairing list shows"
		}
	}
	return ""
}
