package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"

	"openclaw/wire"
)

// canary is a marked secret. own is the one file of the state directory that
// may hold it.
type canary struct{ name, value, own string }

// newCanary makes a secret that no text holds by chance, with characters that
// look different in JSON, in URLs and in Go's quotes. All may stand in a header.
func newCanary(name, own string) canary {
	return canary{name, rand.Text() + `+/="\<&%z` + rand.Text(), own}
}

// forms are the ways in which a secret could show, each with its name.
func (c canary) forms() map[string]string {
	forms := map[string]string{"as it is": c.value, "its first 8 characters": c.value[:8]}
	quoted, _ := json.Marshal(c.value)
	forms["in JSON, for HTML"] = strings.Trim(string(quoted), `"`)
	forms["in JSON"] = strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(c.value)
	forms["in JSON in JSON"] = strings.NewReplacer(`\`, `\\\\`, `"`, `\\\"`).Replace(c.value)
	forms["in a query"] = url.QueryEscape(c.value)
	forms["in a path"] = url.PathEscape(c.value)
	forms["in hex"] = hex.EncodeToString([]byte(c.value))
	for i := range 3 { // wherever it begins in the text that was encoded
		for name, enc := range map[string]*base64.Encoding{"base64": base64.RawStdEncoding, "base64 for URLs": base64.RawURLEncoding} {
			text := enc.EncodeToString([]byte(strings.Repeat(" ", i) + c.value))
			forms[fmt.Sprintf("%s %d", name, i)] = text[(i*8+5)/6 : len(text)-2]
		}
	}
	return forms
}

// haul is everything that came out of a gateway, and from where.
type haul struct {
	mu   sync.Mutex
	from []string
	text [][]byte
}

func (h *haul) add(from string, text []byte) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.from, h.text = append(h.from, from), append(h.text, bytes.Clone(text))
}

// find names the places that hold a secret. Of a place like STATE/file only
// the base name says whether it is the secret's own.
func (h *haul) find(c canary) (found []string) {
	for form, text := range c.forms() {
		seen := map[string]bool{}
		for i := range h.text {
			at := bytes.Index(h.text[i], []byte(text))
			if at < 0 || c.own != "" && strings.HasPrefix(h.from[i], "file ") && filepath.Base(h.from[i]) == c.own {
				continue
			}
			kind, _, _ := strings.Cut(h.from[i], "/") // one of a kind tells enough
			if seen[kind] {
				continue
			}
			seen[kind] = true
			around := h.text[i][max(0, at-80):min(len(h.text[i]), at+len(text)+20)]
			found = append(found, fmt.Sprintf("%s: %s, %s: …%q…", h.from[i], c.name, form, around))
		}
	}
	return found
}

// TestCanaryForms proves that the search would find what it is for.
func TestCanaryForms(t *testing.T) {
	c := newCanary("secret", "own.json")
	quoted, _ := json.Marshal(c.value)
	twice, _ := json.Marshal(string(quoted))
	for name, text := range map[string]string{
		"raw":        "Bearer " + c.value + "\n",
		"json":       `{"a":` + string(quoted) + `}`,
		"json twice": string(twice),
		"go":         fmt.Sprintf("%q", c.value),
		"query":      "?" + url.Values{"token": {c.value}}.Encode(),
		"basic":      base64.StdEncoding.EncodeToString([]byte("user:" + c.value)),
		"basic 2":    base64.StdEncoding.EncodeToString([]byte("me:" + c.value + "!")),
		"url base64": base64.URLEncoding.EncodeToString([]byte(c.value)),
		"hex":        hex.EncodeToString([]byte(c.value + "x")),
		"masked":     c.value[:8] + "…",
	} {
		var h haul
		h.add("file /state/own.json", []byte(text)) // where it may be
		if found := h.find(c); len(found) != 0 {
			t.Errorf("%s: %v", name, found)
		}
		h.add(name, []byte(text))
		if found := h.find(c); len(found) == 0 {
			t.Errorf("%s: not found in %s", name, text)
		}
	}
}

// TestCanaries runs everything there is with marked secrets, in both modes of
// authentication and with everything logged, and searches all that came out:
// logs, answers, frames, output, arguments, environments, files.
func TestCanaries(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"token", "password"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			newCage(t, mode).run()
		})
	}
}

// cage is a gateway with canaries.
type cage struct {
	*house
	haul
	canaries []canary
	process  *process
}

// leaky is how the provider repeats what it was sent: key and header.
func leaky(x *exchange) {
	key := strings.TrimPrefix(x.header.Get("Authorization")+x.header.Get("X-Api-Key"), "Bearer ")
	extra := x.header.Get("X-Secret")
	quoted, _ := json.Marshal(key + " " + extra)
	switch strings.Split(x.path, "/")[1] {
	case "json":
		x.fail(401, "Incorrect API key provided: "+key+", header "+extra)
	case "text":
		x.w.WriteHeader(400)
		io.WriteString(x.w, "<h1>Bad "+key+"</h1> "+extra)
	case "escaped":
		x.w.WriteHeader(403)
		fmt.Fprintf(x.w, "%s %s %s %q", url.QueryEscape(key), url.PathEscape(extra), quoted, key)
	case "encoded":
		x.fail(403, base64.StdEncoding.EncodeToString([]byte(key))+" "+base64.StdEncoding.EncodeToString([]byte("user:"+extra))+" "+hex.EncodeToString([]byte(key)))
	case "long":
		x.fail(500, strings.Repeat("x", 150)+key+strings.Repeat("y", 8000)+extra)
	case "cut":
		x.fail(500, "the key began with "+key[:len(key)/2]+" and ended with "+key[len(key)/2:])
	case "stream":
		x.stream([]string{x.script("a word")[0], `data: {"error":{"message":` + string(quoted) + `}}` + "\n\n"}, 0)
	case "garbage":
		x.stream([]string{"data: {" + key + "\n\n", key + extra}, 0)
	case "redirect":
		x.w.Header().Set("Location", "http://"+hex.EncodeToString([]byte("elsewhere"))+".invalid/?key="+url.QueryEscape(key))
		x.w.WriteHeader(307)
	case "headers":
		x.w.Header().Set("Retry-After", key)
		x.w.Header().Set("Content-Type", extra)
		x.w.WriteHeader(200)
		io.WriteString(x.w, "what "+key)
	case "protocol":
		c, _, err := http.NewResponseController(x.w).Hijack()
		if err == nil {
			io.WriteString(c, "HTTP/1.1 "+key+"\r\n"+extra+"\r\n\r\n")
			c.Close()
		}
	default:
		x.stream(x.script("all is ", "well"), 0)
	}
}

var leaks = []string{"json", "text", "escaped", "encoded", "long", "cut", "stream", "garbage", "redirect", "headers", "protocol"}

func newCage(t *testing.T, mode string) *cage {
	shared, key, extra := newCanary("gateway "+mode, "openclaw.json"), newCanary("provider key", "openclaw.json"), newCanary("provider header", "openclaw.json")
	p := newProvider(t, leaky)
	provider := func(path, api string) object {
		c := providerConfig(p.url+"/"+path+"/v1", api)
		c["apiKey"], c["headers"] = key.value, object{"X-Secret": extra.value}
		return c
	}
	providers := object{"good": provider("good", "openai-completions")}
	agents := []any{object{"id": "main", "default": true, "model": "good/m"}}
	for i, leak := range leaks {
		providers[leak] = provider(leak, []string{"openai-completions", "anthropic-messages", "openai-responses"}[i%3])
		agents = append(agents, object{"id": leak, "model": leak + "/m", "timeoutSeconds": 1})
	}
	h := newHouse(t, nil)
	h.secret, h.token = mode, shared.value
	h.configure(object{
		"gateway": object{"auth": object{"mode": mode, mode: shared.value, "rateLimit": object{"maxAttempts": 1000}}},
		"models":  object{"providers": providers}, "agents": object{"list": agents},
	})
	c := &cage{house: h, canaries: []canary{shared, key, extra}}
	c.process = h.start("--verbose")
	var instance struct {
		CLIKey string `json:"cliKey"`
	}
	raw, err := os.ReadFile(filepath.Join(h.state, "gateway.lock"))
	if err != nil || json.Unmarshal(raw, &instance) != nil || len(instance.CLIKey) < 32 {
		t.Fatalf("instance record: %v: %s", err, raw)
	}
	c.canaries = append(c.canaries, canary{"CLI key", instance.CLIKey, "gateway.lock"})
	return c
}

func (c *cage) run() {
	c.providers()
	c.methods()
	c.handshakes()
	c.requests()
	c.programs()
	c.badConfigs()
	c.processes()
	c.process.signal(syscall.SIGTERM)
	if code := c.process.wait(); code != 0 {
		c.t.Errorf("exit code %d", code)
	}
	c.add("stderr of the gateway", []byte(c.process.log()))
	c.add("stdout of the gateway", c.process.stdout.Bytes())
	c.files(c.state)

	size, redacted := 0, 0
	for _, text := range c.text {
		size += len(text)
		redacted += bytes.Count(text, []byte("[redacted]")) + bytes.Count(text, []byte("__OPENCLAW_REDACTED__"))
	}
	if redacted < 20 || !strings.Contains(c.process.log(), `"DEBUG"`) {
		c.t.Errorf("the test does not test: %d places are redacted", redacted)
	}
	for _, canary := range c.canaries {
		for _, found := range c.find(canary) {
			c.t.Error(found)
		}
	}
	c.t.Logf("%d secrets in %d forms, searched in %d outputs of %d KiB; %d places are redacted", len(c.canaries), len(c.canaries[0].forms()), len(c.text), size>>10, redacted)
}

// providers has turns with providers that repeat the key, by every door.
func (c *cage) providers() {
	var turns sync.WaitGroup
	for _, agent := range append(leaks, "main") {
		turns.Go(func() {
			for _, stream := range []bool{true, false} {
				c.ask("POST", "/v1/chat/completions", chatBody(agent, "hello", stream), "x-openclaw-session-key: agent:"+agent+":http")
				c.ask("POST", "/v1/responses", responseBody(agent, "hello", object{"stream": stream}))
			}
			f := c.openFrames(func(msg []byte) { c.add("frame of a turn", msg) })
			defer f.conn.Close(wire.CloseNormal, "")
			f.send("agent", fmt.Sprintf(`{"message":"hello","sessionKey":"agent:%s:ws","idempotencyKey":"a-%s"}`, agent, agent))
			f.until(`"id":"agent"`, `"summary"`)
			f.send("chat.send", fmt.Sprintf(`{"message":"hello","sessionKey":"agent:%s:ws","idempotencyKey":"c-%s"}`, agent, agent))
			f.until(`"id":"chat.send"`)
			f.send("agent.wait", fmt.Sprintf(`{"runId":"c-%s"}`, agent))
			f.until(`"id":"agent.wait"`)
			f.send("chat.history", fmt.Sprintf(`{"sessionKey":"agent:%s:ws"}`, agent))
			f.until(`"id":"chat.history"`)
		})
	}
	turns.Wait()
}

// methods calls every method of the table, with nothing, with what it wants
// and with secrets where none belong.
func (c *cage) methods() {
	source, err := os.ReadFile("gateway/methods.go")
	if err != nil {
		c.t.Fatal(err)
	}
	table := regexp.MustCompile(`(?:rpc|staged)\("([a-z.-]+)"`).FindAllSubmatch(source, -1)
	if len(table) < 20 {
		c.t.Fatalf("only %d methods", len(table))
	}
	f := c.openFrames(func(msg []byte) { c.add("frame of a method", msg) })
	defer f.conn.Close(wire.CloseNormal, "")
	for _, m := range table {
		name := string(m[1])
		params := []string{"", "{}", "null", `{"sessionKey":"agent:main:ws"}`, `{"key":"agent:main:ws"}`, `{"probe":true}`, `{"runId":"c-main","timeoutMs":1}`, `{"sessionKey":"agent:main:ws","message":"note","idempotencyKey":"` + name + `"}`}
		for _, secret := range c.canaries {
			value, _ := json.Marshal(secret.value)
			params = append(params,
				fmt.Sprintf(`{"auth":{"token":%s}}`, value), fmt.Sprintf(`{"token":%s,"password":%s}`, value, value),
				string(value), fmt.Sprintf(`[%s]`, value), fmt.Sprintf(`{"limit":%s}`, value), fmt.Sprintf(`{"timeoutMs":%s}`, value))
		}
		for _, p := range params {
			f.send(name, p)
			f.until(`"id":"` + name + `"`)
		}
	}
}

// handshakes connects in every wrong way.
func (c *cage) handshakes() {
	for _, secret := range c.canaries {
		value, _ := json.Marshal(secret.value)
		wrong, _ := json.Marshal(secret.value + "x")
		for _, first := range []string{
			fmt.Sprintf(`{"type":"req","id":"1","method":"connect","params":{"auth":{"token":%s}}}`, wrong),
			fmt.Sprintf(`{"type":"req","id":"1","method":"connect","params":{"auth":{"password":%s}}}`, wrong),
			fmt.Sprintf(`{"type":"req","id":"1","method":"connect","params":{"auth":{"token":%s,"password":%s}}}`, value, value),
			fmt.Sprintf(`{"type":"req","id":"1","method":"connect","params":{"auth":{"tokn":%s}}}`, value),
			fmt.Sprintf(`{"type":"req","id":"1","method":"connect","params":{"auth":%s}}`, value),
			fmt.Sprintf(`{"type":"req","id":"1","method":"connect","params":{"minProtocol":3,"maxProtocol":3,"client":{"id":"x","version":"1","platform":"x","mode":"cli"},"auth":{"token":%s}}}`, wrong),
			fmt.Sprintf(`{"type":"req","id":"1","method":"health","params":{"auth":{"token":%s}}}`, value),
			fmt.Sprintf(`{"type":"req","id":"1","method":"connect","params":{"auth":{"token":%s}`, value),
			fmt.Sprintf(`{"auth":{"token":%s}}`, value),
			string(value),
		} {
			f := c.dialFrames(func(msg []byte) { c.add("frame of a handshake", msg) })
			f.raw(first)
			c.add("close of a handshake", []byte(f.end().Error()))
		}
		_, err := wire.Dial(c.ctx, "ws://"+c.addr()+"/", wire.DialOptions{Header: http.Header{"Authorization": {"Bearer " + secret.value}}})
		c.add("refused upgrade", []byte(fmt.Sprint(err)))
		_, err = wire.Dial(c.ctx, "ws://"+c.addr()+"/?token="+url.QueryEscape(secret.value), wire.DialOptions{})
		c.add("refused upgrade", []byte(fmt.Sprint(err)))
	}
}

// ask makes an HTTP request and keeps the whole answer.
func (c *cage) ask(method, path, body string, header ...string) {
	ctx, cancel := context.WithTimeout(c.ctx, patience)
	defer cancel()
	resp, err := c.call(ctx, method, path, body, header...)
	if err != nil {
		c.t.Errorf("%s %s: %v", method, path, err)
		return
	}
	defer resp.Body.Close()
	var b bytes.Buffer
	resp.Write(&b)
	c.add("answer to "+method, b.Bytes())
}

func (c *cage) requests() {
	for _, path := range []string{"/healthz", "/readyz", "/startupz", "/metrics", "/v1/models", "/v1/models/openclaw", "/nothing"} {
		c.ask("GET", path, "")
		c.ask("GET", path, "", "Authorization: ")
		c.ask("POST", path, "{}")
	}
	for _, secret := range c.canaries {
		v := secret.value
		quoted, _ := json.Marshal(v)
		for _, header := range []string{
			"Authorization: Bearer " + v + "x", "Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte("user:"+v)),
			"Authorization: " + v, "Cookie: token=" + v, "X-Api-Key: " + v, "Origin: https://" + v[:16] + ".example", "Referer: http://x/?token=" + url.QueryEscape(v),
			"Content-Type: " + v, "Content-Encoding: " + v, "User-Agent: " + v,
		} {
			c.ask("POST", "/v1/chat/completions", chatBody("", "hello", false), header)
		}
		c.ask("GET", "/v1/models?token="+url.QueryEscape(v), "")
		c.ask("GET", "/v1/models?x="+url.QueryEscape(v), "")
		c.ask("GET", "/v1/models/"+url.PathEscape(v), "")
		c.ask("GET", "/"+url.PathEscape(v), "")
		for _, body := range []string{string(quoted), `{"model":` + string(quoted), `{"messages":` + string(quoted) + `}`, v, `{"temperature":` + string(quoted) + `,"messages":[{"role":"user","content":"x"}]}`} {
			c.ask("POST", "/v1/chat/completions", body)
			c.ask("POST", "/v1/responses", strings.ReplaceAll(body, "messages", "input"))
		}
		for _, more := range []object{{"previous_response_id": v}, {"tool_choice": v}, {"user": v, "tools": []any{object{"type": v}}}} {
			c.ask("POST", "/v1/responses", responseBody("", "hello", more))
		}
	}
}

// programs runs every command, also with secrets where they do not belong.
func (c *cage) programs() {
	run := func(args ...string) {
		r := c.inside(args...)
		c.add("output of openclaw "+strings.Join(args[:min(2, len(args))], " "), []byte(r.stdout+"\n"+r.stderr))
		if strings.Contains(r.stderr, "goroutine ") {
			c.t.Errorf("%v: %s", args[:2], r)
		}
	}
	for _, line := range []string{
		"version", "help gateway", "health", "status", "gateway status --deep", "status --deep", "doctor --deep", "doctor --json", "gateway ports", "agent list", "agent status main", "agent -m hello", "agent -m hello --agent json --log-level debug",
		"message send --to encoded --text hello", "sessions list", "sessions show agent:main:ws", "sessions show agent:json:ws", "sessions reset agent:json:ws", "sessions delete agent:text:ws",
		"models list", "logs --last 5000", "logs --level debug --format json", "call config.get", "call health --params nonsense", "call nothing",
		"config show", "config show --source", "config show --show-secrets", "config show models", "config get gateway.auth.token", "config get gateway.auth.password", "config get gateway",
		"config get models.providers.good.apiKey", "config get models.providers.good.headers", "config validate", "config schema", "config file", "setup",
	} {
		args := strings.Fields(line)
		run(args...)
		if c.secret == "token" && !strings.HasPrefix(line, "config") { // once as a process of its own
			r := c.house.run(args...)
			c.add("output of the process openclaw "+line, []byte(r.stdout+"\n"+r.stderr))
		}
		if args[0] != "help" {
			run(append(args, "--json")...)
		}
	}
	wrong := filepath.Join(c.dir, "wrong")
	for _, secret := range c.canaries[:3] {
		if err := os.WriteFile(wrong, []byte(secret.value+"x\n"), 0o600); err != nil {
			c.t.Fatal(err)
		}
		run("health", "--token-file", wrong, "--log-level", "debug")
		run("health", "--password-file", wrong, "--json")
		run("health", "--token", secret.value)
		run("gateway", "--password", secret.value)
		run("health", "--token="+secret.value, "--json")
		run("health", "--url", "ws://user:"+url.PathEscape(secret.value)+"@127.0.0.1/")
		run("health", "--url", "ws://127.0.0.1/?token="+url.QueryEscape(secret.value))
		for _, name := range []string{"OPENCLAW_GATEWAY_TOKEN", "OPENCLAW_GATEWAY_PASSWORD"} {
			c.env[name] = secret.value + "x"
			run("health", "--log-level", "debug")
			delete(c.env, name)
		}
	}
	os.Remove(wrong)
	// The one command that is there to hand the secret on does so, and no other.
	if r := c.house.run("gateway", "auth-token"); strings.TrimSpace(r.stdout) != c.token || r.code != 0 {
		c.t.Errorf("gateway auth-token: exit %d", r.code)
	}
}

// badConfigs shows configurations to the program that hold secrets and faults.
func (c *cage) badConfigs() {
	h := newHouse(c.t, nil)
	for _, secret := range c.canaries[:3] {
		value, _ := json.Marshal(secret.value)
		for i, text := range []string{
			"{gateway:{auth:{token:%s}}",
			"{gateway:{auth:{token:%s x}}}",
			"{gateway:{auth:{tokn:%s}}}",
			"{gateway:{auth:{token:[%s]}}}",
			"{gateway:{auth:{token:{a:%s}}}}",
			"{gateway:{auth:%s}}",
			"{gateway:{auth:{token:%s,token:%[1]s}}}",
			"{gateway:{auth:{mode:'password',password:%s},bind:'nowhere'}}",
			"{models:{providers:{p:{apiKey:%s}}}}",
			"{models:{providers:{p:{baseUrl:'http://127.0.0.1/',apiKey:%s,headers:{a:%[1]s,b:[%[1]s]},models:[{idd:'m'}]}}}}",
			"{modles:{providers:{p:{apiKey:%s}}}}",
			"{skills:{entries:{x:{apiKey:%s}}},gateway:{bind:'nowhere'}}",
			"{gateway:{auth:{token:'file:'+%s}}}",
			"{gateway:{auth:{token:'${MISSING}',password:%s}}}",
			// Where nobody would expect a secret, faults are still told without it.
			"{gateway:{auth:{mode:%s}}}",
			"{gateway:{port:%s}}",
			"{models:{providers:{p:{baseUrl:%s}}}}",
		} {
			h.write(fmt.Appendf(nil, text, value))
			commands := [][]string{{"config", "validate"}, {"config", "validate", "--json"}, {"gateway"}}
			if i < 14 {
				commands = append(commands, []string{"config", "show", "--source"}, []string{"config", "get", "gateway"})
			}
			for _, args := range commands {
				r := h.inside(args...)
				if r.code == 0 && (args[0] != "config" || args[1] == "validate") {
					c.t.Errorf("%v takes fault %d: %s", args, i, text)
				}
				c.add(fmt.Sprintf("output of %s with fault %d", strings.Join(args, " "), i), []byte(r.stdout+"\n"+r.stderr))
			}
		}
	}
}

// processes looks at what other users of the host can see, and more.
func (c *cage) processes() {
	proc := fmt.Sprintf("/proc/%d/", c.process.pid())
	for _, name := range []string{"cmdline", "environ", "comm", "status"} {
		raw, err := os.ReadFile(proc + name)
		if err != nil && os.IsNotExist(err) {
			return // not Linux
		}
		c.add(proc+name, raw)
	}
	children, err := filepath.Glob(proc + "task/*/children")
	if err != nil {
		c.t.Fatal(err)
	}
	for _, name := range children {
		if raw, err := os.ReadFile(name); err == nil && len(bytes.TrimSpace(raw)) > 0 {
			c.t.Errorf("the gateway has children: %s", raw)
		}
	}
}

func (c *cage) files(dir string) {
	n := 0
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		raw, err := os.ReadFile(path)
		c.add("file "+path, raw)
		n++
		return err
	})
	if err != nil || n < 10 {
		c.t.Errorf("%d files: %v", n, err)
	}
}
