package main

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"openclaw/gateway/store"
	"openclaw/reload/config"
	"openclaw/wire"
)

// keyCase changes one key in the file of a running gateway. Whether that is
// applied, restarted into or of no consequence is the table of keys' to say;
// the case says how the effect is seen, and changes the key back.
type keyCase struct {
	key  string
	at   string   // what is set; key, with main for [] of agents, m for [] of models and fake for *, when empty
	told []string // the paths that are told; at when nil
	base any      // the value before; nil: as in the base configuration
	to   any
	swap func(*rig) any   // in place of to and base: tells where clients find the other one
	see  func(*rig) error // nil: config.get shows it
}

// keyCases are the cases by group. Each group has its own gateway.
func keyCases() map[string][]keyCase {
	channels, accounts := channelCases()
	held := func(p wire.Policy) bool { return p.Sandbox == "all" }
	return map[string][]keyCase{
		"doors":  doorCases(),
		"limits": limitCases(),
		"logging": {
			{key: "logging.level", to: "debug", see: func(r *rig) error {
				mark := len(r.p.log())
				r.mustConnect(nil).Close()
				return r.logs(mark, `"msg":"connected"`)
			}},
			{key: "logging.format", to: "text", see: func(r *rig) error {
				mark := len(r.p.log())
				r.wrong("203.0.113.50")
				return r.logs(mark, `level=INFO msg="authentication failed"`)
			}},
			{key: "logging.file", to: "~/else.log", see: func(r *rig) error {
				r.wrong("203.0.113.51")
				raw, err := os.ReadFile(filepath.Join(r.dir, "else.log"))
				if err == nil && !bytes.Contains(raw, []byte("203.0.113.51")) {
					err = fmt.Errorf("the file holds %s", raw)
				}
				return err
			}},
			{key: "logging.rotation.maxSize", base: "1M", to: 65536, see: func(r *rig) error {
				before := r.rotated()
				if err := r.grow(1); err != nil || r.rotated() == before {
					return fmt.Errorf("not rotated: %v", err)
				}
				return nil
			}},
			{key: "logging.rotation.enabled", base: true, to: false, see: func(r *rig) error {
				r.set("logging.rotation.maxSize", 65536)
				r.apply("logging.rotation.maxSize")
				before := r.rotated()
				if err := r.grow(1); err != nil || r.rotated() != before {
					return fmt.Errorf("rotated from %d to %d files: %v", before, r.rotated(), err)
				}
				return nil
			}},
			{key: "logging.rotation.maxFiles", base: 3, to: 1, see: func(r *rig) error {
				if err := r.grow(3); err != nil || r.rotated() != 1 {
					return fmt.Errorf("%d files: %v", r.rotated(), err)
				}
				return nil
			}},
		},
		"agents": {
			{key: "agents.defaults.workspace", to: "~/desk", see: func(r *rig) error { return r.shows("agents.list", nil, filepath.Join(r.dir, "desk")) }},
			{key: "agents.defaults.model.primary", to: "other/m", see: turn(func(x *exchange, _ string) bool { return strings.HasPrefix(x.path, "/other/") })},
			{key: "agents.defaults.model.fallbacks", to: []any{"other/m"}, see: shows("agents.list", `"fallbacks":["other/m"]`)},
			{key: "agents.defaults.systemPrompt", to: "Be brief.", see: turnWith("Be brief.")},
			{key: "agents.defaults.sandbox.mode", to: "all", see: policy(held)},
			{key: "agents.defaults.timeoutSeconds", to: 1, see: timesOut},
			{key: "agents.list[].id", at: "agents.list", told: []string{"agents.list[main]", "agents.list[next]"}, to: []any{object{"id": "next"}}, see: shows("agents.list", `"defaultId":"next"`)},
			{key: "agents.list[].default", at: "agents.list", told: []string{"agents.list[second]"}, to: []any{object{"id": "main"}, object{"id": "second", "default": true}}, see: shows("agents.list", `"defaultId":"second"`)},
			{key: "agents.list[].name", to: "Clawd", see: shows("agents.list", `"Clawd"`)},
			{key: "agents.list[].workspace", to: "~/own", see: func(r *rig) error { return r.shows("agents.list", nil, filepath.Join(r.dir, "own")) }},
			{key: "agents.list[].model.primary", to: "other/m", see: turn(func(x *exchange, _ string) bool { return strings.HasPrefix(x.path, "/other/") })},
			{key: "agents.list[].model.fallbacks", to: []any{"other/m"}, see: shows("agents.list", `"fallbacks":["other/m"]`)},
			{key: "agents.list[].systemPrompt", to: "Be kind.", see: turnWith("Be kind.")},
			{key: "agents.list[].sandbox.mode", to: "all", see: policy(held)},
			{key: "agents.list[].timeoutSeconds", to: 1, see: timesOut},
			{key: "session.scope", to: "global", see: shows("agents.list", `"scope":"global"`)},
			{key: "session.mainKey", to: "home", see: shows("agents.list", `"mainKey":"home"`)},
		},
		"tools":    toolCases(),
		"channels": channels,
		"accounts": accounts,
		"models": {
			{key: "models.providers.*.baseUrl", to: "$PROVIDER/v2", see: turn(func(x *exchange, _ string) bool { return strings.HasPrefix(x.path, "/v2/") })},
			{key: "models.providers.*.apiKey", to: "sk-another-one", see: turn(func(x *exchange, _ string) bool { return x.header.Get("Authorization") == "Bearer sk-another-one" })},
			{key: "models.providers.*.api", to: "anthropic-messages", see: turn(func(x *exchange, _ string) bool { return x.anthropic })},
			{key: "models.providers.*.headers", to: object{"X-Team": "lobsters"}, see: turn(func(x *exchange, _ string) bool { return x.header.Get("X-Team") == "lobsters" })},
			{key: "models.providers.*.models[].id", at: "models.providers.fake.models", told: []string{"models.providers.fake.models[m]", "models.providers.fake.models[n]"}, to: []any{object{"id": "n"}}, see: shows("models.list", `"id":"n"`)},
			{key: "models.providers.*.models[].name", to: "Fakir", see: shows("models.list", `"name":"Fakir"`)},
			{key: "models.providers.*.models[].contextWindow", to: 4321, see: shows("models.list", `"contextWindow":4321`)},
			{key: "models.providers.*.models[].maxTokens", to: 77, see: turnWith(`_tokens":77`)},
			{key: "models.providers.*.models[].reasoning", to: true, see: shows("models.list", `"reasoning":true`)},
			{key: "models.providers.*.models[].input", to: []any{"text", "image"}, see: shows("models.list", `"image"`)},
			{key: "models.providers.*.models[].cost.input", to: 1000, see: turnCosts(func(u wire.UsageTotals) float64 { return u.InputCost })},
			{key: "models.providers.*.models[].cost.output", to: 1000, see: turnCosts(func(u wire.UsageTotals) float64 { return u.OutputCost })},
			{key: "models.providers.*.models[].cost.cacheRead", to: 1000, see: turnCosts(func(u wire.UsageTotals) float64 { return u.CacheReadCost })},
			{key: "models.providers.*.models[].cost.cacheWrite", to: 1234.5, see: shows("config.get", `"cacheWrite":1234.5`)}, // no provider here writes a cache
		},
		"whatsapp": { // without its packages it does not connect; TestWhatsAppInbound has the effect
			{key: "channels.*.sendReadReceipts", at: "channels.whatsapp.sendReadReceipts", base: true, to: false, see: shows("config.get", `"sendReadReceipts":false`)},
			{key: "channels.*.accounts.*.sendReadReceipts", at: "channels.whatsapp.accounts.second.sendReadReceipts", base: true, to: false, see: shows("config.get", `"sendReadReceipts":false`)},
		},
		"exec":      execCases("mode", "env", "timeoutSec", "backgroundMs"),
		"allowlist": execCases("allow"),
		"ask":       execCases("approvalTimeoutMs"),
		"restart":   restartCases(),
		"tls":       tlsCases(),
		"refused":   {{key: "gateway.mode", to: "remote"}, {key: "gateway.tailscale.mode", to: "serve"}}, // there is one value only
		"token":     {{key: "gateway.auth.token", to: "WmX7pQ2rT9vB4nK6yL8cD3fG5hJ1sA0e"}},
		"password":  {{key: "gateway.auth.password", to: "another password of a sentence"}},
	}
}

// toolCases show in each new connection's hello what the default agent may use.
func toolCases() []keyCase {
	tools := func(has string, not ...string) func(*rig) error {
		return policy(func(p wire.Policy) bool {
			return slices.Contains(p.Tools, has) && !slices.ContainsFunc(not, func(n string) bool { return slices.Contains(p.Tools, n) })
		})
	}
	var cases []keyCase
	for _, section := range []string{"tools", "agents.list[].tools", "tools.byProvider.*", "agents.list[].tools.byProvider.*"} {
		cases = append(cases,
			keyCase{key: section + ".profile", to: "minimal", see: tools("session_status", "read")},
			keyCase{key: section + ".allow", to: []any{"read"}, see: tools("read", "write", "session_status")},
			keyCase{key: section + ".deny", to: []any{"group:fs"}, see: tools("session_status", "read", "write")},
		)
		see := tools("gateway")
		if strings.Contains(section, "*") { // adds to a profile that the case does not set
			see = shows("config.get", `"alsoAllow":["gateway"]`)
		}
		cases = append(cases, keyCase{key: section + ".alsoAllow", to: []any{"gateway"}, see: see})
	}
	for key, to := range map[string]any{"maxChars": 1000, "maxResponseBytes": 1000, "timeoutSeconds": 1, "maxRedirects": 0} { // an effect takes the internet
		cases = append(cases, keyCase{key: "tools.web.fetch." + key, to: to, see: shows("config.get", fmt.Sprintf(`"%s":%v`, key, to))})
	}
	return append(cases, keyCase{key: "tools.web.fetch.enabled", to: false, see: tools("read", "web_fetch")})
}

// execCases change how programs are run, in general and for one agent.
func execCases(names ...string) (cases []keyCase) {
	runs := func(status int, args string, words ...string) func(*rig) error {
		return func(r *rig) error {
			a, err := r.http("POST", "/tools/invoke", `{"tool":"exec","args":`+args+`}`)
			for _, w := range words {
				if err == nil && (a.status != status || !strings.Contains(string(a.body), w)) {
					err = fmt.Errorf("%s: %d %s", args, a.status, a.body)
				}
			}
			return err
		}
	}
	all := map[string]keyCase{
		"mode":              {to: "deny", see: runs(400, `{"command":"true"}`, "tools.exec.mode is deny")},
		"allow":             {to: []any{"/usr/bin/env"}, see: runs(200, `{"command":["/usr/bin/env"]}`, "TERM=dumb")},
		"env":               {to: []any{"CI"}, see: runs(200, `{"command":["env"],"env":{"CI":"yes"}}`, "CI=yes")},
		"timeoutSec":        {to: 1, see: runs(400, `{"command":"sleep 60"}`, "timed out")},
		"backgroundMs":      {to: 10, see: runs(200, `{"command":"sleep 60"}`, `"status":"running"`)},
		"approvalTimeoutMs": {to: 20, see: runs(400, `{"command":"true"}`, "nobody approved this within 20ms")},
	}
	for _, section := range []string{"tools.exec.", "agents.list[].tools.exec."} {
		for _, name := range names {
			c := all[name]
			c.key = section + name
			if c.key == "tools.exec.mode" {
				c.base = "full"
			}
			cases = append(cases, c)
		}
	}
	return cases
}

func doorCases() []keyCase {
	return []keyCase{
		{key: "gateway.auth.rateLimit.maxAttempts", to: 1, see: func(r *rig) error {
			if a, b := r.wrong("203.0.113.1"), r.wrong("203.0.113.1"); a.status != 401 || b.status != 429 {
				return fmt.Errorf("answered with %d, %d", a.status, b.status)
			}
			return nil
		}},
		{key: "gateway.auth.rateLimit.lockoutMs", to: 7000, see: func(r *rig) error {
			for range 2 {
				r.wrong("203.0.113.2")
			}
			began := time.Now()
			r.wrong("203.0.113.2")
			a := r.wrong("203.0.113.2")
			left := 7*time.Second - time.Since(began) // or more
			after, err := strconv.Atoi(a.header.Get("Retry-After"))
			if a.status != 429 || err != nil || after > 7 || time.Duration(after)*time.Second < left {
				return fmt.Errorf("answered with %d, Retry-After %s, %v being left", a.status, a.header.Get("Retry-After"), left)
			}
			return nil
		}},
		{key: "gateway.auth.rateLimit.windowMs", to: 61000, see: shows("config.get", `"windowMs":61000`)}, // an effect takes a window
		{key: "gateway.trustedProxies", to: []any{"127.0.0.1", "198.51.100.0/24"}, see: func(r *rig) error {
			mark := len(r.p.log())
			r.wrong("203.0.113.3, 198.51.100.7")
			return r.logs(mark, `"addr":"203.0.113.3"`)
		}},
		{key: "gateway.controlUi.allowedOrigins", to: []any{"https://ui.example"}, see: responds(200, "GET", "/healthz", "", "Origin: https://ui.example")},
		{key: "gateway.http.endpoints.responses.enabled", to: false, see: responds(404, "POST", "/v1/responses", responseBody("", "hello", nil))},
		{key: "gateway.http.endpoints.chatCompletions.enabled", to: false, see: responds(404, "POST", "/v1/chat/completions", chatBody("", "hello", false))},
		{key: "gateway.http.endpoints.toolsInvoke.enabled", to: false, see: responds(404, "POST", "/tools/invoke", `{"tool":"agents_list"}`)},
		{key: "gateway.tools.allow", to: []any{"list"}, see: responds(200, "POST", "/tools/invoke", `{"tool":"list"}`)},
		{key: "gateway.tools.deny", to: []any{"agents_list"}, see: responds(404, "POST", "/tools/invoke", `{"tool":"agents_list"}`)},
		{key: "gateway.http.endpoints.models.enabled", to: false, see: responds(404, "GET", "/v1/models", "")},
		{key: "gateway.hotReload.mode", to: "hot", see: shows("status", `"mode":"hot"`)},
		{key: "gateway.hotReload.debounceMs", to: 300, see: func(r *rig) error {
			began := time.Now()
			r.set("agents.defaults.systemPrompt", "Wait.")
			r.apply("agents.defaults.systemPrompt")
			r.took = r.took[:len(r.took)-1]
			r.set("gateway.hotReload.debounceMs", 10) // what the case changes back need not wait as long
			r.apply("gateway.hotReload.debounceMs")
			r.took = r.took[:len(r.took)-1]
			if took := time.Since(began); took < 600*time.Millisecond {
				return fmt.Errorf("two changes took %v", took)
			}
			return nil
		}},
		{key: "gateway.shutdown.gracePeriodMs", to: 1234, see: func(r *rig) error {
			mark := len(r.p.log())
			r.p.signal(syscall.SIGUSR1)
			if bye := take(r.t, r.bye, "shutdown"); bye.GracePeriodMs != 1234 || bye.Reason != "SIGUSR1 received" {
				return fmt.Errorf("told of %+v", bye)
			}
			r.up(mark)
			r.listen(wire.ClientOptions{})
			return nil
		}},
		{key: "gateway.tailscale.resetOnExit", to: true, see: shows("config.get", `"resetOnExit":true`)},
	}
}

func limitCases() []keyCase {
	return []keyCase{
		{key: "gateway.limits.maxPayload", to: 65536, see: policy(func(p wire.Policy) bool { return p.MaxPayload == 65536 })},
		{key: "gateway.limits.maxBufferedBytes", to: 65537, see: policy(func(p wire.Policy) bool { return p.MaxBufferedBytes == 65537 })},
		{key: "gateway.limits.maxConnections", to: staying + 1, see: func(r *rig) error {
			if c, err := r.connect(nil); err == nil {
				c.Close()
				return fmt.Errorf("one more was let in")
			}
			return nil
		}},
		{key: "gateway.limits.maxPending", to: 1, see: func(r *rig) error {
			first := r.dialFrames(nil)
			first.until("connect.challenge")
			r.dialFrames(nil).until("connect.challenge")
			return first.ended()
		}},
		{key: "gateway.limits.maxInFlight", to: 1, see: func(r *rig) error {
			f := r.openFrames(nil)
			f.send("agent.wait", `{"runId":"none","timeoutMs":60000}`)
			f.send("status", "")
			f.until(`"id":"status"`, "too many requests in flight")
			return nil
		}},
		{key: "gateway.limits.maxRuns", to: 1, see: refusedBeside("agent:main:a", "agent:main:b", "too many turns")},
		{key: "gateway.limits.maxQueuedTurns", to: 0, see: refusedBeside("agent:main:c", "agent:main:c", "too many")},
		{key: "gateway.limits.handshakeMs", to: 100, see: func(r *rig) error { return r.dialFrames(nil).ended() }},
		{key: "gateway.limits.pingIntervalMs", to: 1000, see: func(r *rig) error {
			c, err := net.Dial("tcp", r.addr())
			if err != nil {
				return err
			}
			defer c.Close()
			c.SetDeadline(time.Now().Add(patience))
			fmt.Fprintf(c, "GET / HTTP/1.1\r\nHost: %s\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n", r.addr())
			var got []byte
			for b := make([]byte, 512); !bytes.Contains(got, []byte{0x89, 0}); { // a ping (RFC 6455 §5.5.2)
				n, err := c.Read(b)
				if err != nil {
					return fmt.Errorf("no ping: %w", err)
				}
				got = append(got, b[:n]...)
			}
			return nil
		}},
	}
}

func restartCases() []keyCase {
	elsewhere := "127.0.0.2"
	if runtime.GOOS != "linux" { // whose loopback has many addresses
		elsewhere = "::1"
	}
	return []keyCase{
		{key: "gateway.limits.tickIntervalMs", to: 5000, see: policy(func(p wire.Policy) bool { return p.TickIntervalMs == 5000 })},
		{key: "gateway.auth.mode", swap: func(r *rig) any {
			r.old = r.token
			if r.secret = "password"; r.token != password {
				r.token = password
			} else {
				r.secret, r.token = "token", testToken
			}
			return r.secret
		}, see: func(r *rig) error {
			_, _, err := r.client(wire.ClientOptions{Token: r.old})
			if err == nil {
				return fmt.Errorf("the token opens it still")
			}
			return policy(func(wire.Policy) bool { return true })(r)
		}},
		{key: "gateway.bind", to: "custom", see: func(r *rig) error {
			if c, err := net.Dial("tcp", fmt.Sprintf("[::1]:%d", r.port)); err == nil {
				c.Close()
				return fmt.Errorf("listens on ::1 still")
			}
			return nil
		}},
		{key: "gateway.customBindHost", to: elsewhere}, // of no effect while bind is loopback
		{key: "gateway.port", swap: func(r *rig) any {
			if r.other == 0 {
				r.other = freePorts(r.t)
			}
			r.old = r.addr()
			r.port, r.other = r.other, r.port
			return r.port
		}, see: func(r *rig) error {
			if c, err := net.Dial("tcp", r.old); err == nil {
				c.Close()
				return fmt.Errorf("the old port is open")
			}
			return nil
		}},
	}
}

func tlsCases() []keyCase {
	serves := func(name string) func(*rig) error {
		return func(r *rig) error {
			c, err := tls.Dial("tcp", r.addr(), &tls.Config{InsecureSkipVerify: true})
			if err != nil {
				return err
			}
			defer c.Close()
			if got := c.ConnectionState().PeerCertificates[0].Subject.CommonName; got != name {
				return fmt.Errorf("the certificate is of %q", got)
			}
			return nil
		}
	}
	return []keyCase{
		{key: "gateway.tls.certPath", to: "~/two.pem", see: serves("two")},
		{key: "gateway.tls.keyPath", to: "~/copy.key", see: serves("one")},
		{key: "gateway.tls.autoGenerate", to: true, see: serves("one")}, // of no effect beside a certificate
		{key: "gateway.tls.enabled", to: false, swap: func(r *rig) any {
			r.secure = !r.secure
			return r.secure
		}, see: responds(200, "GET", "/healthz", "")},
	}
}

// TestEveryKey changes each key of the table in the file of a running gateway.
func TestEveryKey(t *testing.T) {
	t.Parallel()
	class := map[string]config.Class{}
	for _, k := range config.Keys() {
		class[k.Path] = k.Class
	}
	groups, left := keyCases(), maps.Clone(class)
	for group, cases := range groups {
		for _, c := range cases {
			if _, ok := left[c.key]; !ok {
				t.Errorf("%s: %s is no key, or has a case already", group, c.key)
			}
			delete(left, c.key)
		}
	}
	for key := range left {
		t.Errorf("%s has no case", key)
	}
	for group, cases := range groups {
		t.Run(group, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, func(r *rig) { r.furnish(group) })
			for i := range cases {
				c := &cases[i]
				if c.at == "" {
					c.at = strings.NewReplacer("list[]", "list[main]", "models[]", "models[m]", "*", "fake").Replace(c.key)
				}
				if c.told == nil {
					c.told = []string{c.at}
				}
				if c.base != nil {
					r.set(c.at, c.base)
				}
				if url, ok := c.to.(string); ok {
					c.to = strings.ReplaceAll(url, "$PROVIDER", r.provider.url)
				}
			}
			r.save()
			r.p = r.launch()
			r.up(0)
			r.listen(r.observer(group))
			for _, c := range cases {
				change := r.hot
				switch {
				case group == "refused":
					change = r.refused
				case group == "token" || group == "password":
					change = r.rotate
				case class[c.key] == config.Restart:
					change = r.restart
				}
				change(c)
				if t.Failed() {
					t.Fatalf("so it is with %s", c.key)
				}
			}
			if len(r.took) > 0 {
				slices.Sort(r.took)
				last := r.took[len(r.took)-1]
				t.Logf("told after the debounce: %d changes, median %v, 95 %% %v, most %v", len(r.took), r.took[len(r.took)/2], r.took[len(r.took)*95/100], last)
				if last > prompt {
					t.Errorf("one was told after %v", last)
				}
			}
		})
	}
}

// furnish makes the base configuration of a group.
func (r *rig) furnish(group string) {
	switch group {
	case "restart":
		r.set("gateway.auth.password", password)
		r.set("gateway.customBindHost", "127.0.0.1")
	case "password":
		r.secret, r.token = "password", password
		r.set("gateway.auth", object{"mode": "password", "password": password})
	case "tools":
		for _, at := range []string{"tools", "agents.list[main].tools"} {
			r.set(at+".byProvider", object{"fake": object{}})
		}
	case "exec", "allowlist", "ask":
		r.set("gateway.tools.allow", []any{"group:runtime"})
		r.set("tools.exec.mode", map[string]string{"exec": "full"}[group]+strings.TrimPrefix(group, "exec"))
	case "channels", "accounts":
		r.furnishChannels()
	case "tls":
		certificates(r.t, r.dir)
		r.secure = true
		r.set("gateway.tls", object{"enabled": true, "certPath": "~/one.pem", "keyPath": "~/one.key"})
	}
}

// observer is who hears of a change: where the secret changes, one who came by
// the CLI's key.
func (r *rig) observer(group string) (o wire.ClientOptions) {
	if group == "token" || group == "password" {
		i, _, err := store.ReadInstance(r.state)
		if err != nil {
			r.t.Fatal(err)
		}
		o.Token = i.CLIKey
	}
	return o
}

// up waits until the log says, behind a mark, that the gateway listens where clients look for it.
func (r *rig) up(mark int) {
	r.t.Helper()
	scheme := "ws://"
	if r.secure {
		scheme = "wss://"
	}
	r.logs(mark, "listening on "+scheme+r.addr()+" ")
}

// hot changes a key and back, which disturbs nobody.
func (r *rig) hot(c keyCase) {
	r.t.Helper()
	old := r.set(c.at, c.to)
	r.apply(c.told...)
	if err := c.see(r); err != nil {
		r.t.Error(err)
	}
	r.stayed()
	r.set(c.at, old)
	r.apply(c.told...)
}

// restart changes a key and back, for each of which one gateway takes over from another.
func (r *rig) restart(c keyCase) {
	r.t.Helper()
	if err := r.c.CallFinal(r.ctx, "agent", object{"message": c.key, "sessionKey": "main", "idempotencyKey": c.key}, nil, nil); err != nil {
		r.t.Fatal(err)
	}
	for _, back := range []bool{false, true} {
		to := c.to
		if c.swap != nil {
			to = c.swap(r)
		}
		mark, clients, began := len(r.p.log()), append(r.stay, r.c), time.Now()
		old := r.set(c.at, to)
		r.save()
		e := take(r.t, r.changed, "config.changed")
		r.took = append(r.took, time.Since(began)-r.debounce)
		if len(e.Applied) > 0 || !slices.Equal(e.Pending, c.told) || !e.Restart || e.Source != "file" {
			r.t.Errorf("told of %+v, want %v restarted into", e, c.told)
		}
		if bye := take(r.t, r.bye, "shutdown"); bye.RestartExpectedMs <= 0 || bye.GracePeriodMs != 30000 || bye.Reason != "gateway restarting" {
			r.t.Errorf("told of %+v", bye)
		}
		for _, client := range clients {
			<-client.Done()
			var closed *wire.CloseError
			if !errors.As(client.Err(), &closed) || closed.Code != wire.CloseRestart {
				r.t.Errorf("a connection ended with %v", client.Err())
			}
		}
		r.logs(mark, fmt.Sprintf(`"msg":"config reload restarts the gateway","sub":"reload","source":"file","keys":"%s"`, strings.Join(c.told, ", ")))
		r.up(mark)
		r.listen(wire.ClientOptions{})
		if err := r.shows("chat.history", object{"sessionKey": "main"}, c.key, "one two"); err != nil {
			r.t.Error(err)
		}
		// The next gateway answers before its watcher has begun.
		eventually(r.t, patience, func() error {
			return r.shows("status", nil, fmt.Sprintf(`"applied":[%q]`, c.told[0]), `"watch":`)
		})
		if c.see != nil && !back {
			if err := c.see(r); err != nil {
				r.t.Error(err)
			}
		}
		c.to = old
	}
}

// refused writes a value that the program does not take, and then the old one.
func (r *rig) refused(c keyCase) {
	r.t.Helper()
	old := r.set(c.at, c.to)
	r.save()
	if e := take(r.t, r.rejected, "config.rejected"); len(e.Issues) != 1 || e.Issues[0].Path != c.key || e.Issues[0].Line == 0 || e.Source != "file" {
		r.t.Errorf("told of %+v", e)
	}
	r.stayed()
	r.set(c.at, old)
	r.save()
	if e := take(r.t, r.changed, "config.changed"); len(e.Applied)+len(e.Pending) > 0 {
		r.t.Errorf("told of %+v", e)
	}
}

// rotate changes the secret, by which those leave who came by the old one, on every surface.
func (r *rig) rotate(c keyCase) {
	r.t.Helper()
	stream, err := r.call(r.ctx, "POST", "/v1/chat/completions", chatBody("", "hold", true))
	if err != nil {
		r.t.Fatal(err)
	}
	defer stream.Body.Close()
	take(r.t, r.asked, "the turn over HTTP")
	before, was := r.options(nil), r.stay
	r.stay = nil
	r.set(c.at, c.to)
	r.apply(c.told...)
	began := time.Now()
	for _, client := range was {
		<-client.Done()
		var closed *wire.CloseError
		if !errors.As(client.Err(), &closed) || closed.Code != wire.ClosePolicy || closed.Reason != "gateway credentials changed" {
			r.t.Errorf("a connection ended with %v", client.Err())
		}
	}
	io.Copy(io.Discard, stream.Body)
	if took := time.Since(began); took > prompt {
		r.t.Errorf("the last one left after %v", took)
	}
	r.stayed()
	if client, _, err := r.client(before); err == nil {
		client.Close()
		r.t.Error("the old secret opens it still")
	}
	if a := r.mustHTTP("GET", "/v1/models", ""); a.status != 401 {
		r.t.Errorf("the old secret over HTTP: %d", a.status)
	}
	r.token = c.to.(string)
	client, _, err := r.client(wire.ClientOptions{})
	if err != nil {
		r.t.Fatal(err)
	}
	client.Close()
	if a := r.mustHTTP("GET", "/v1/models", ""); a.status != 200 {
		r.t.Errorf("the new secret over HTTP: %d", a.status)
	}
}
