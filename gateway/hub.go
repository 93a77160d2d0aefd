package gateway

import (
	"context"
	"log/slog"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"openclaw/wire"
)

// Presence changes are told together: at most one event in this time, and
// telling takes at most a third of the time, however many listen.
const (
	presenceInterval = 100 * time.Millisecond
	presenceShare    = 3
)

// Memory goes back to the system when the number of connections has changed by
// trimStep and then not at all for trimAfter.
const (
	trimStep  = 500
	trimAfter = time.Second
)

// pendingPerKey bounds the unauthenticated connections from one address.
const pendingPerKey = 16

// hub is who is connected, and what all of them are told. It never waits for a
// peer: sending only queues.
type hub struct {
	log *slog.Logger

	mu       sync.Mutex // guards what follows; not held while anything is sent
	peers    map[*peer]struct{}
	list     []*peer            // the same as peers, or nil; never changed, only replaced
	upgraded map[*peer]struct{} // not yet past their hello
	serving  sync.WaitGroup     // goroutines of peers; grows under mu, before closed
	bye      *event             // the last thing that peers are told, once they are
	closed   bool
	leave    func(*peer) // makes a peer leave; set with closed
	pending  map[addrKey]int
	admitted int // peers that have their place, in peers or about to be
	version  wire.StateVersion
	presence presence

	joined  atomic.Int32  // len(peers)
	skipped atomic.Int64  // events that a peer that lags was spared
	changed chan struct{} // holds a token while a presence change waits to be told
	recheck chan struct{} // holds a token while health is to be looked at
	pulse   chan struct{} // received from by run, to show that it runs
}

func newHub(log *slog.Logger, self wire.Presence) *hub {
	return &hub{
		log: log, peers: map[*peer]struct{}{}, upgraded: map[*peer]struct{}{}, pending: map[addrKey]int{},
		version: wire.StateVersion{Presence: 1, Health: 1}, presence: newPresence(self),
		changed: make(chan struct{}, 1), recheck: make(chan struct{}, 1), pulse: make(chan struct{}),
	}
}

// run tells peers what time brings, until ctx ends.
func (h *hub) run(ctx context.Context, tick time.Duration, refresh func()) error {
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	pause := time.NewTimer(0) // runs while no presence event may be sent
	defer pause.Stop()
	quiet := time.NewTimer(trimAfter) // runs since the last presence change
	defer quiet.Stop()
	ready, waiting := false, false
	trimmed := 0 // connections at the last trim
	for {
		select {
		case <-ctx.Done():
			return nil
		case now := <-ticker.C:
			emit(h, evTick(), wire.Tick{Ts: now.UnixMilli()})
			refresh()
		case <-h.recheck:
			refresh()
		case <-h.pulse:
		case <-pause.C:
			ready = true
		case <-h.changed:
			waiting = true
			quiet.Reset(trimAfter)
		case <-quiet.C:
			if n := h.count(); n >= trimmed+trimStep || n <= trimmed-trimStep {
				debug.FreeOSMemory() // what so many handshakes or farewells left behind
				trimmed = n
			}
		}
		if ready && waiting {
			start := time.Now()
			h.tellPresence()
			pause.Reset(max(presenceInterval, (presenceShare-1)*time.Since(start)))
			ready, waiting = false, false
		}
	}
}

// enter takes a place for a connection that has yet to authenticate. Where
// there is none, the oldest one of the same address, or else of the address
// that holds most, loses its own: connecting takes a moment, so that holding
// places keeps nobody out.
func (h *hub) enter(p *peer, maxPending int) bool {
	var victim *peer
	defer func() {
		if victim != nil {
			victim.conn.Drop()
		}
	}()
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return false
	}
	full := h.pending[p.from.key] >= pendingPerKey
	if full || len(h.upgraded) >= maxPending {
		if victim = h.victimLocked(p.from.key, full); victim == nil {
			return false
		}
		h.leavePendingLocked(victim)
	}
	p.since = time.Now()
	h.upgraded[p] = struct{}{}
	h.pending[p.from.key]++
	h.serving.Add(1)
	return true
}

// victimLocked is whose place another one gets: the oldest of key, or where
// that is not what is full, of the key with most places.
func (h *hub) victimLocked(key addrKey, full bool) (oldest *peer) {
	if !full {
		for k, n := range h.pending {
			if n > h.pending[key] {
				key = k
			}
		}
	}
	for p := range h.upgraded {
		if p.conn != nil && p.from.key == key && (oldest == nil || p.since.Before(oldest.since)) {
			oldest = p
		}
	}
	return oldest
}

// opened gives a peer that has entered its connection.
func (h *hub) opened(p *peer, conn *wire.Conn) {
	h.mu.Lock()
	p.conn = conn
	leave := h.leave
	h.mu.Unlock()
	if leave != nil {
		leave(p)
	}
}

// left ends what enter began, after the peer's last deed.
func (h *hub) left() { h.serving.Done() }

// close lets nobody in any more and makes everybody leave. The channel is
// closed when all are gone.
func (h *hub) close(leave func(*peer)) <-chan struct{} {
	h.mu.Lock()
	h.closed, h.leave = true, leave
	all := make([]*peer, 0, len(h.peers)+len(h.upgraded))
	for p := range h.peers {
		all = append(all, p)
	}
	for p := range h.upgraded {
		if p.conn != nil { // else opened makes it leave
			all = append(all, p)
		}
	}
	h.mu.Unlock()
	for _, p := range all {
		leave(p)
	}
	gone := make(chan struct{})
	go func() {
		h.serving.Wait()
		close(gone)
	}()
	return gone
}

// admit takes a place for an authenticated client and gives back the other one.
func (h *hub) admit(p *peer, maxConnections int) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.admitted >= maxConnections {
		return false
	}
	h.admitted++
	p.admitted = true
	h.leavePendingLocked(p)
	return true
}

// join says hello to an admitted peer, which from there on hears events.
func (h *hub) join(p *peer, hello []byte) {
	h.mu.Lock()
	p.conn.Send(hello) // under the lock: no event comes before it, none in between is missed
	h.peers[p], h.list = struct{}{}, nil
	h.joined.Store(int32(len(h.peers)))
	h.presence.connected(p)
	h.presenceChangedLocked()
	bye, leave := h.bye, h.leave
	h.mu.Unlock()
	if bye != nil {
		h.send([]*peer{p}, *bye)
	}
	if leave != nil { // close did not find it: it was in neither set
		leave(p)
	}
}

// remove forgets a peer in whatever state it is.
func (h *hub) remove(p *peer) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.leavePendingLocked(p)
	if p.admitted {
		p.admitted = false
		h.admitted--
	}
	if _, joined := h.peers[p]; joined {
		delete(h.peers, p)
		h.list = nil
		h.joined.Store(int32(len(h.peers)))
		h.presence.disconnected(p)
		h.presenceChangedLocked()
	}
}

func (h *hub) leavePendingLocked(p *peer) {
	if _, ok := h.upgraded[p]; !ok {
		return
	}
	delete(h.upgraded, p)
	if h.pending[p.from.key]--; h.pending[p.from.key] == 0 {
		delete(h.pending, p.from.key)
	}
}

// everyoneLocked returns the connected peers. The slice is not to be changed.
func (h *hub) everyoneLocked() []*peer {
	if h.list == nil {
		h.list = make([]*peer, 0, len(h.peers))
		for p := range h.peers {
			h.list = append(h.list, p)
		}
	}
	return h.list
}

func (h *hub) empty() bool { return h.joined.Load() == 0 }

// count is how many clients are past their hello.
func (h *hub) count() int { return int(h.joined.Load()) }

func (h *hub) stateVersion() wire.StateVersion {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.version
}

// broadcast sends an event to everybody.
func (h *hub) broadcast(e event) {
	h.mu.Lock()
	e.version = h.version
	to := h.everyoneLocked()
	h.mu.Unlock()
	h.send(to, e)
}

// goodbye tells everybody that the gateway stops, also who is yet to join.
func (h *hub) goodbye(v wire.Shutdown) {
	payload, err := wire.Marshal(v)
	if err != nil {
		panic(err) // a string and numbers always encode
	}
	e := event{eventKind: evShutdown().eventKind, payload: payload}
	h.mu.Lock()
	h.bye = &e
	to := h.everyoneLocked()
	h.mu.Unlock()
	h.send(to, e)
}

// each calls fn with every peer that some credentials let in.
func (h *hub) each(creds *credentials, fn func(*peer)) {
	h.mu.Lock()
	all := h.everyoneLocked()
	h.mu.Unlock()
	for _, p := range all {
		if p.grant.creds == creds {
			fn(p)
		}
	}
}

// send sends an event to the peers among some whose scopes allow it, framed
// once per dialect. A peer that cannot take it is closed by its own connection.
func (h *hub) send(to []*peer, e event) {
	frames := map[dialect]*wire.Prepared{}
	var as dialect // of the last one
	var framed *wire.Prepared
	for _, p := range to {
		if !p.scopes.Allow(e.scope) {
			continue
		}
		if e.dropIfSlow && p.conn.Queued() > lagging {
			h.skipped.Add(1)
			continue
		}
		if p.dialect != as {
			as, framed = p.dialect, frames[p.dialect]
		}
		if framed == nil {
			framed = wire.Prepare(as.event(&e))
			frames[as] = framed
		}
		p.conn.SendPrepared(framed) // its error is the reader's to see
	}
}

// healthChanged counts a new health snapshot and sends it.
func (h *hub) healthChanged(payload []byte) {
	h.mu.Lock()
	h.version.Health++
	h.mu.Unlock()
	if !h.empty() {
		h.broadcast(event{eventKind: evHealth().eventKind, payload: payload})
	}
}

// upsertPresence sets the entry that a client reports of somebody.
func (h *hub) upsertPresence(e wire.Presence) {
	h.mu.Lock()
	h.presence.upsert(e)
	h.presenceChangedLocked()
	h.mu.Unlock()
}

func (h *hub) presenceChangedLocked() {
	h.version.Presence++
	h.presence.encoded = nil
	select {
	case h.changed <- struct{}{}:
	default: // one token tells of all changes
	}
}

// encodedPresence is the answer to system-presence, encoded once per version.
func (h *hub) encodedPresence() preEncoded {
	h.mu.Lock()
	defer h.mu.Unlock()
	if now := time.Now(); h.presence.encoded == nil || now.Sub(h.presence.at) > presenceFresh {
		list, err := wire.Marshal(h.presence.entries(now))
		if err != nil {
			panic(err) // strings and numbers always encode
		}
		h.presence.encoded, h.presence.at = list, now
	}
	return h.presence.encoded
}

func (h *hub) tellPresence() {
	if h.empty() {
		return
	}
	payload := append(append([]byte(`{"presence":`), h.encodedPresence()...), '}')
	h.broadcast(event{eventKind: evPresence().eventKind, payload: payload})
}
