package gateway

import (
	"sort"
	"strconv"
	"time"

	"openclaw/wire"
)

// maxPresence bounds the list: it is sent whole, to everyone.
const maxPresence = 200

// presenceFresh is how old a list may be that nobody changed: entries expire.
const presenceFresh = 10 * time.Second

// presenceTTL is how long an entry that somebody reported stays without news.
const presenceTTL = 5 * time.Minute

// presence is the list of who is there: the gateway itself, the clients, and
// whoever a client reports by system-event. Clients of one address that do not
// say who they are share an entry, so that the list stays short when there are
// thousands of them. The hub's lock guards it.
type presence struct {
	self    wire.Presence
	places  map[string]*presenceEntry // by address, of connected clients
	others  map[string]wire.Presence  // by the key they were reported with
	encoded preEncoded                // nil after a change
	at      time.Time                 // when it was encoded
}

type presenceEntry struct {
	wire.Presence
	clients int // connected
}

func newPresence(self wire.Presence) presence {
	return presence{self: self, places: map[string]*presenceEntry{}, others: map[string]wire.Presence{}}
}

func (l *presence) connected(p *peer) {
	key := p.from.addr.String()
	e := l.places[key]
	if e == nil {
		e = &presenceEntry{Presence: wire.Presence{IP: key, Mode: "client", Reason: "connect", Roles: []string{wire.RoleOperator}}}
		l.places[key] = e
	}
	e.clients++
	e.Ts = time.Now().UnixMilli()
}

func (l *presence) disconnected(p *peer) {
	key := p.from.addr.String()
	if e := l.places[key]; e != nil {
		if e.clients--; e.clients == 0 {
			delete(l.places, key)
		}
	}
}

// upsert sets an entry that a client reports, by the device, else the
// instance, else the host that it names.
func (l *presence) upsert(e wire.Presence) {
	key := "text:" + e.Text
	switch {
	case e.DeviceID != "":
		key = "device:" + e.DeviceID
	case e.InstanceID != "":
		key = "instance:" + e.InstanceID
	case e.Host != "" || e.IP != "":
		key = "host:" + e.Host + " " + e.IP
	}
	if _, known := l.others[key]; !known && len(l.others) >= maxPresence {
		oldest := ""
		for k, o := range l.others {
			if oldest == "" || o.Ts < l.others[oldest].Ts {
				oldest = k
			}
		}
		delete(l.others, oldest)
	}
	l.others[key] = e
}

// entries is the list as clients see it: the gateway first, then the newest.
func (l *presence) entries(now time.Time) []wire.Presence {
	self := l.self
	self.Ts = now.UnixMilli()
	out := []wire.Presence{self}
	for _, e := range l.places {
		v := e.Presence
		v.Text = "Client: " + v.IP + " · " + strconv.Itoa(e.clients) + " connected"
		out = append(out, v)
	}
	for k, e := range l.others {
		if now.UnixMilli()-e.Ts > presenceTTL.Milliseconds() {
			delete(l.others, k)
			continue
		}
		out = append(out, e)
	}
	rest := out[1:]
	sort.SliceStable(rest, func(i, j int) bool { return rest[i].Ts > rest[j].Ts })
	return out[:min(len(out), maxPresence)]
}
