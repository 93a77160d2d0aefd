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

// PeerID is a person's id, as a configuration or a model may write it, in the
// form that messages of the channel carry.
func PeerID(channel, id string) string {
	if channel == whatsapp {
		id, _ = whatsappID(id)
	}
	return id
}
