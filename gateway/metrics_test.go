package gateway

import (
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"openclaw/gateway/metric"
)

// scraped reads a page as strictly as the format is written: every value under
// the head of its family, none twice.
func (r *running) scraped() map[string]float64 {
	r.t.Helper()
	status, h, page := r.do("GET", "/metrics", bearer(testToken), "")
	if status != 200 || h.Get("Content-Type") != metric.ContentType {
		r.t.Fatalf("/metrics: %d %v\n%s", status, h, page)
	}
	values := map[string]float64{}
	name, kind := "", ""
	head := regexp.MustCompile(`^# HELP ([a-z][a-z0-9_]+) [A-Z0-9][^\n]*\.$`)
	line := regexp.MustCompile(`^([a-z][a-z0-9_]+)((?:\{(?:[a-z]+="(?:[^"\\]|\\[\\"n])*",?)+\})?) (\S+)$`)
	for text := range strings.Lines(page) {
		text = strings.TrimSuffix(text, "\n")
		if m := head.FindStringSubmatch(text); m != nil {
			name, kind = m[1], ""
		} else if is, ok := strings.CutPrefix(text, "# TYPE "+name+" "); ok && kind == "" {
			kind = is
		} else if m := line.FindStringSubmatch(text); m == nil {
			r.t.Errorf("not a line of the format: %q", text)
		} else {
			of := m[1]
			if kind == "histogram" {
				for _, suffix := range []string{"_bucket", "_sum", "_count"} {
					of = strings.TrimSuffix(of, suffix)
				}
			}
			v, err := strconv.ParseFloat(m[3], 64)
			if _, twice := values[m[1]+m[2]]; of != name || kind == "" || err != nil || twice {
				r.t.Errorf("under %s, a %s: %q, %v", name, kind, text, err)
			}
			values[m[1]+m[2]] = v
		}
	}
	return values
}

// TestMetrics scrapes while clients come, ask, fail and run turns, and over a
// restart in place, through which the counts go on.
func TestMetrics(t *testing.T) {
	r := start(t, testOptions(t, ""))
	if status, _, body := r.do("GET", "/metrics", nil, ""); status != 401 || strings.Contains(body, "openclaw_") {
		t.Errorf("without the secret: %d %s", status, body)
	}
	if status, _, _ := r.do("GET", "/metrics", bearer("wrong"), ""); status != 401 {
		t.Errorf("with a wrong one: %d", status)
	}
	if status, _, body := r.do("HEAD", "/metrics", bearer(testToken), ""); status != 200 || body != "" {
		t.Errorf("HEAD: %d %q", status, body)
	}
	r.do("GET", "/nowhere", nil, "")
	c := r.connect()
	r.call(c, "health", "{}")
	r.call(c, "health", "{}")
	r.call(c, "chat.history", `{"sessionKey":5}`)
	r.send(c, `{"type":"req","id":"turn","method":"agent","params":{"message":"hello","idempotencyKey":"m"}}`)
	r.until(c, `"status":"ok"`)
	check := func(when string, want map[string]float64) map[string]float64 {
		t.Helper()
		got := r.scraped()
		for name, v := range want {
			if got[name] != v {
				t.Errorf("%s: %s is %v, want %v", when, name, got[name], v)
			}
		}
		for _, name := range []string{"process_cpu_seconds_total", "process_max_fds", "go_goroutines", "openclaw_disk_free_bytes", "openclaw_start_time_seconds", `openclaw_run_duration_seconds_sum{status="ok"}`, `openclaw_rpc_duration_seconds_sum{method="health"}`} {
			if got[name] <= 0 {
				t.Errorf("%s: %s is %v", when, name, got[name])
			}
		}
		return got
	}
	// «agent» ends twice in the protocol, but is one request; the chat.history that
	// asks for a session called 5 is the one that fails.
	counts := map[string]float64{
		`openclaw_build_info{version="1.2.3-test",go="` + runtime.Version() + `"}`: 1,
		"openclaw_healthy":                                                1,
		"openclaw_connections":                                            1,
		"openclaw_auth_failures_total":                                    1,
		`openclaw_rpc_duration_seconds_count{method="health"}`:            2,
		`openclaw_rpc_duration_seconds_bucket{method="health",le="+Inf"}`: 2,
		`openclaw_rpc_errors_total{method="health"}`:                      0,
		`openclaw_rpc_duration_seconds_count{method="chat.history"}`:      1,
		`openclaw_rpc_errors_total{method="chat.history"}`:                1,
		`openclaw_rpc_duration_seconds_count{method="agent"}`:             1,
		`openclaw_http_errors_total{route="none"}`:                        1,
		`openclaw_http_errors_total{route="/metrics"}`:                    2,
		`openclaw_http_duration_seconds_count{route="/metrics"}`:          3,
		`openclaw_run_duration_seconds_count{status="ok"}`:                1,
		"openclaw_runs":                  0,
		"openclaw_config_ok":             1,
		"openclaw_config_rejected_total": 0,
	}
	before := check("before", counts)
	if in, out := before[`openclaw_tokens_total{model="builtin/echo",kind="input"}`], before[`openclaw_tokens_total{model="builtin/echo",kind="output"}`]; in <= 0 || out <= 0 {
		t.Errorf("tokens: %v, %v", in, out)
	}
	r.asks <- Request{Source: "SIGUSR1", Restart: true}
	r.follow()
	counts["openclaw_connections"] = 0
	counts[`openclaw_http_duration_seconds_count{route="/metrics"}`] = 4
	check("after a restart", counts)
}
