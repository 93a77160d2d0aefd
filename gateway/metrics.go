package gateway

import (
	"cmp"
	"maps"
	"net/http"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"openclaw/gateway/agent"
	"openclaw/gateway/channel"
	"openclaw/gateway/metric"
	"openclaw/gateway/proc"
	"openclaw/gateway/store"
)

// metrics are the counts that /metrics tells. They go on through a restart in
// place, as the process does.
type metrics struct {
	methods map[string]*metric.Work
	routes  map[string]*metric.Work // by pattern
	runs    map[string]*metric.Work // by how they ended

	refused           atomic.Int64 // credentials that were wrong or came too often
	reloads, rejected atomic.Int64
	reloaded          atomic.Pointer[time.Time] // when a change was taken last

	mu     sync.Mutex
	tokens map[string]store.Usage // by model, as PROVIDER/MODEL
}

// noRoute is where requests count that find nothing.
const noRoute = "none"

func newMetrics() *metrics {
	m := &metrics{methods: map[string]*metric.Work{}, routes: map[string]*metric.Work{webhookRoute.pattern: {}, noRoute: {}}, runs: map[string]*metric.Work{}, tokens: map[string]store.Usage{}}
	for _, row := range methodTable() {
		m.methods[row.name] = new(metric.Work)
	}
	for _, row := range routeTable() {
		m.routes[row.pattern] = new(metric.Work)
	}
	for _, status := range []string{agent.StatusOK, agent.StatusError, agent.StatusAborted} {
		m.runs[status] = new(metric.Work)
	}
	return m
}

// ran counts a run that has ended.
func (m *metrics) ran(res *agent.Result, at time.Time) {
	m.runs[res.Status].Done(at.Add(-res.Duration), res.Status == agent.StatusError)
	if res.Model == "" {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	name := res.Provider + "/" + res.Model
	u := m.tokens[name]
	u.Input += res.Usage.Input
	u.Output += res.Usage.Output
	u.CacheRead += res.Usage.CacheRead
	u.CacheWrite += res.Usage.CacheWrite
	m.tokens[name] = u
}

// family is one row of the table of what /metrics tells.
type family struct {
	name string
	kind metric.Kind
	help string
	tell func(*scrape)
}

// scrape is one page in the making.
type scrape struct {
	metric.Page
	g        *Gateway
	usage    proc.Usage
	channels []channel.Status
	running  int // turns
	queued   int
}

// metricTable lists every family. What a system does not tell, or what has not
// happened yet, has no value.
func metricTable() []family {
	const counter, gauge, histogram = metric.Counter, metric.Gauge, metric.Histogram
	one := func(n func(*scrape) int64) func(*scrape) {
		return func(s *scrape) { s.Value(float64(n(s))) }
	}
	known := func(n func(*scrape) int64) func(*scrape) {
		return func(s *scrape) {
			if v := n(s); v > 0 {
				s.Value(float64(v))
			}
		}
	}
	of := func(n func(*channel.Status) int) func(*scrape) {
		return func(s *scrape) {
			for i := range s.channels {
				c := &s.channels[i]
				s.Value(float64(n(c)), "channel", c.Channel, "account", c.Account)
			}
		}
	}
	when := func(at func(*channel.Status) time.Time) func(*scrape) {
		return func(s *scrape) {
			for i := range s.channels {
				c := &s.channels[i]
				s.Seconds(at(c), "channel", c.Channel, "account", c.Account)
			}
		}
	}
	return []family{
		{"openclaw_build_info", gauge, "1, with the version.", func(s *scrape) { s.Value(1, "version", s.g.version, "go", runtime.Version()) }},
		{"openclaw_start_time_seconds", gauge, "When the gateway started, or restarted in place.", func(s *scrape) { s.Seconds(s.g.started) }},
		{"openclaw_healthy", gauge, "1 while nothing is wrong, as health tells.", one(func(s *scrape) int64 { return oneIf(!s.g.health.degraded.Load()) })},
		{"openclaw_connections", gauge, "WebSocket clients that are let in.", one(func(s *scrape) int64 { return int64(s.g.hub.count()) })},
		{"openclaw_auth_failures_total", counter, "Credentials that were wrong, or came too often.", one(func(s *scrape) int64 { return s.g.metrics.refused.Load() })},
		{"openclaw_events_skipped_total", counter, "Events that a slow client was not sent, as a later one tells the same.", one(func(s *scrape) int64 { return s.g.hub.skipped.Load() })},
		{"openclaw_rpc_duration_seconds", histogram, "How long requests over WebSocket took, by method.", func(s *scrape) { s.works("method", s.g.metrics.methods) }},
		{"openclaw_rpc_errors_total", counter, "Requests that were answered with an error, by method.", func(s *scrape) { s.failures("method", s.g.metrics.methods) }},
		{"openclaw_http_duration_seconds", histogram, "How long HTTP requests took, with the whole of a streamed answer, by route.", func(s *scrape) { s.works("route", s.g.metrics.routes) }},
		{"openclaw_http_errors_total", counter, "HTTP requests that were answered with a status of 400 or above, by route.", func(s *scrape) { s.failures("route", s.g.metrics.routes) }},
		{"openclaw_runs", gauge, "Turns that run now.", one(func(s *scrape) int64 { return int64(s.running) })},
		{"openclaw_runs_queued", gauge, "Turns that wait behind them.", one(func(s *scrape) int64 { return int64(s.queued) })},
		{"openclaw_run_duration_seconds", histogram, "How long turns took, by how they ended.", func(s *scrape) { s.works("status", s.g.metrics.runs) }},
		{"openclaw_tokens_total", counter, "Tokens that models counted, by model and kind.", (*scrape).tokens},
		{"openclaw_channel_up", gauge, "1 while the network's connection stands.", of(func(c *channel.Status) int { return int(oneIf(c.State == channel.StateOpen)) })},
		{"openclaw_channel_last_success_timestamp_seconds", gauge, "When the network answered last.", when(func(c *channel.Status) time.Time { return c.LastSuccess })},
		{"openclaw_channel_last_inbound_timestamp_seconds", gauge, "When a message was let in last.", when(func(c *channel.Status) time.Time { return c.LastInbound })},
		{"openclaw_channel_last_sent_timestamp_seconds", gauge, "When a message was sent last.", when(func(c *channel.Status) time.Time { return c.LastSent })},
		{"openclaw_channel_failures", gauge, "Connections that failed in a row.", of(func(c *channel.Status) int { return c.Failures })},
		{"openclaw_channel_unanswered", gauge, "Messages that wait for their answer.", of(func(c *channel.Status) int { return c.Waiting })},
		{"openclaw_channel_unsent", gauge, "Messages that wait to be sent.", of(func(c *channel.Status) int { return c.Queued })},
		{"openclaw_channel_uncertain", gauge, "Messages of which nobody knows whether they arrived, since an operator cleared them.", of(func(c *channel.Status) int { return c.Unsure })},
		{"openclaw_channel_stuck_chats", gauge, "Chats to which the next message cannot be sent.", of(func(c *channel.Status) int { return c.Stuck })},
		{"openclaw_config_reloads_total", counter, "Changes of the configuration that were taken.", one(func(s *scrape) int64 { return s.g.metrics.reloads.Load() })},
		{"openclaw_config_rejected_total", counter, "Changes of the configuration that were refused.", one(func(s *scrape) int64 { return s.g.metrics.rejected.Load() })},
		{"openclaw_config_ok", gauge, "1 while the file is what the gateway runs on, or waits.", one(func(s *scrape) int64 { return oneIf(s.g.reloader.state().err == nil) })},
		{"openclaw_config_last_reload_timestamp_seconds", gauge, "When a change was taken last.", func(s *scrape) {
			if at := s.g.metrics.reloaded.Load(); at != nil {
				s.Seconds(*at)
			}
		}},
		{"openclaw_disk_free_bytes", gauge, "What may still be stored on the disk of the state directory.", func(s *scrape) {
			if free, err := s.g.store.Free(); err == nil {
				s.Value(float64(free))
			}
		}},
		{"process_cpu_seconds_total", counter, "Processor time of the process.", func(s *scrape) { s.Value(s.usage.CPU.Seconds()) }},
		{"process_resident_memory_bytes", gauge, "Memory of the process.", known(func(s *scrape) int64 { return s.usage.Resident })},
		{"process_open_fds", gauge, "Open descriptors.", known(func(s *scrape) int64 { return s.usage.Files })},
		{"process_max_fds", gauge, "Descriptors that there may be.", known(func(s *scrape) int64 { return s.usage.MaxFiles })},
		{"go_goroutines", gauge, "Goroutines of the process.", func(s *scrape) { s.Value(float64(runtime.NumGoroutine())) }},
	}
}

func oneIf(yes bool) int64 {
	if yes {
		return 1
	}
	return 0
}

// works tells of each kind of work that there was.
func (s *scrape) works(label string, all map[string]*metric.Work) {
	for _, name := range slices.Sorted(maps.Keys(all)) {
		if w := all[name]; w.Any() {
			s.Work(w, label, name)
		}
	}
}

// failures tells how often each kind of work failed.
func (s *scrape) failures(label string, all map[string]*metric.Work) {
	for _, name := range slices.Sorted(maps.Keys(all)) {
		if w := all[name]; w.Any() {
			s.Value(float64(w.Failed()), label, name)
		}
	}
}

func (s *scrape) tokens() {
	m := s.g.metrics
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, name := range slices.Sorted(maps.Keys(m.tokens)) {
		u := m.tokens[name]
		s.Value(float64(u.Input), "model", name, "kind", "input")
		s.Value(float64(u.Output), "model", name, "kind", "output")
		s.Value(float64(u.CacheRead), "model", name, "kind", "cache_read")
		s.Value(float64(u.CacheWrite), "model", name, "kind", "cache_write")
	}
}

// metricsGet answers with everything that there is to scrape.
func (g *Gateway) metricsGet(w http.ResponseWriter, r *http.Request, who principal) {
	s := &scrape{g: g, usage: proc.Self(), channels: g.channels.Status()}
	s.running, s.queued = g.agents.Counts()
	for _, f := range metricTable() {
		s.Family(f.name, f.kind, f.help)
		f.tell(s)
	}
	writeAs(w, http.StatusOK, metric.ContentType, s.Text())
}

// statusWriter is a ResponseWriter that knows how the answer began.
type statusWriter struct {
	http.ResponseWriter
	status int
}

func (c *statusWriter) WriteHeader(status int) {
	c.status = cmp.Or(c.status, status)
	c.ResponseWriter.WriteHeader(status)
}

func (c *statusWriter) Write(p []byte) (int, error) {
	c.status = cmp.Or(c.status, http.StatusOK)
	return c.ResponseWriter.Write(p)
}

// Unwrap is for http.ResponseController.
func (c *statusWriter) Unwrap() http.ResponseWriter { return c.ResponseWriter }
