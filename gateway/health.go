package gateway

import (
	"os"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"openclaw/gateway/channel"
	"openclaw/wire"
)

const (
	healthTTL     = 60 * time.Second // how old a snapshot may get
	healthRecent  = 5                // sessions listed per agent
	diskLow       = 64 << 20         // bytes left that are worth a warning
	diskFull      = 1 << 20          // bytes left with which no turn can be stored
	heartbeatSecs = 1800
)

// health is how the gateway fares: a snapshot for clients, encoded once and
// kept until it is old or a problem comes or goes.
type health struct {
	g        *Gateway
	degraded atomic.Bool

	mu       sync.Mutex // guards what follows
	problems []string
	json     preEncoded // nil before the first and after a change
	at       time.Time
}

// status is the one word of hello.
func (h *health) status() string {
	if h.degraded.Load() {
		return wire.HealthDegraded
	}
	return wire.HealthHealthy
}

// encoded is the answer to health. It looks again when asked to probe.
func (h *health) encoded(probe bool) preEncoded {
	h.mu.Lock()
	json, at := h.json, h.at
	h.mu.Unlock()
	if json == nil || probe || time.Since(at) >= healthTTL {
		return h.take()
	}
	return json
}

// refresh looks for problems, and tells everyone when they changed. The hub
// calls it every tick, and when recheck asked for it.
func (h *health) refresh() {
	found := h.look()
	h.mu.Lock()
	same := slices.Equal(found, h.problems)
	if !same {
		h.problems, h.json = found, nil
	}
	h.mu.Unlock()
	if same {
		return
	}
	h.degraded.Store(len(found) > 0)
	if len(found) > 0 {
		h.g.log.Warn("health degraded", "err", found)
	} else {
		h.g.log.Info("health restored")
	}
	h.g.hub.healthChanged(h.take())
}

// recheck asks for a refresh soon. It never waits.
func (h *health) recheck() {
	select {
	case h.g.hub.recheck <- struct{}{}:
	default:
	}
}

// reasons is why the gateway is degraded, in words; none where it is not.
func (h *health) reasons() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.problems
}

// look finds what is wrong now, in words.
func (h *health) look() []string {
	var found []string
	if free, err := h.g.store.Free(); err == nil && free < diskLow {
		found = append(found, wire.ProblemDisk)
	}
	if h.g.logs.dropping() {
		found = append(found, wire.ProblemLog)
	}
	for _, s := range h.g.channels.Status() {
		if s.State != channel.StateOpen && (s.LastError != "" || s.State == channel.StateNotLinked) {
			found = append(found, "channel "+s.Channel+":"+s.Account+" is "+s.State)
		} else if s.Stuck > 0 {
			found = append(found, "channel "+s.Channel+":"+s.Account+" cannot send to a chat")
		}
	}
	return found
}

// failing lists why no work is taken.
func (g *Gateway) failing() []string {
	out := []string{}
	if g.stopping.Load() {
		out = append(out, "draining")
	}
	if free, err := g.store.Free(); err == nil && free < diskFull {
		out = append(out, "disk")
	}
	return out
}

func (h *health) take() preEncoded {
	start := time.Now()
	s := h.g.healthSnapshot(start)
	h.mu.Lock()
	s.Status, s.Problems = h.status(), h.problems
	h.mu.Unlock()
	s.DurationMs = time.Since(start).Milliseconds()
	enc, err := wire.Marshal(s)
	if err != nil {
		h.g.log.Error("health not encoded", "err", err)
		return preEncoded(`{"ok":false}`)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.json, h.at = enc, start
	return enc
}

// healthSnapshot counts agents and sessions.
func (g *Gateway) healthSnapshot(now time.Time) wire.Health {
	cfg := g.cfg()
	s := wire.Health{
		OK: true, Ts: now.UnixMilli(), Channels: map[string]any{}, ChannelOrder: []string{}, ChannelLabels: map[string]string{},
		HeartbeatSeconds: heartbeatSecs, DefaultAgentID: cfg.DefaultAgentID(), Agents: []wire.AgentHealth{},
		Sessions: wire.SessionsHealth{Recent: []wire.SessionRecent{}}, ConfigReload: &wire.HealthReload{HotReloadStatus: "active"},
	}
	if cfg.Gateway.HotReload.Mode == "off" {
		s.ConfigReload.HotReloadStatus = "off"
	}
	s.ChannelOrder, s.ChannelLabels = channelNames(cfg)
	for name, list := range g.channelAccounts() {
		s.Channels[name] = map[string]any{"accounts": list}
	}
	for _, a := range cfg.AgentList() {
		of := wire.SessionsHealth{Recent: []wire.SessionRecent{}}
		if index, err := g.store.Sessions(a.ID); err != nil {
			g.log.Warn("sessions not listed", "session", a.ID, "err", err)
		} else {
			of.Path, of.Count = index.Path(), index.Count()
			for _, k := range index.Recent(healthRecent) {
				of.Recent = append(of.Recent, wire.SessionRecent{Key: k.Key, UpdatedAt: k.UpdatedAt, Age: now.UnixMilli() - k.UpdatedAt})
			}
		}
		s.Agents = append(s.Agents, wire.AgentHealth{AgentID: a.ID, IsDefault: a.ID == s.DefaultAgentID, Heartbeat: wire.HeartbeatPolicy{Every: "disabled"}, Sessions: of})
		if a.ID == s.DefaultAgentID {
			s.Sessions = of
		}
	}
	return s
}

// ownPresence is the gateway's own entry.
func (g *Gateway) ownPresence() wire.Presence {
	host, err := os.Hostname()
	if err != nil {
		host = "localhost"
	}
	return wire.Presence{
		Host: host, Version: g.version, Platform: runtime.GOOS, Mode: "gateway", Reason: "self",
		Text: "Gateway: " + host + " · app " + g.version + " · mode gateway · reason self",
	}
}
