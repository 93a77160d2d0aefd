package main

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"image/png"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"openclaw/wire"
)

// linkingProgram is a channel that links: each login shows two codes, one after a
// step, and after another the first login fails and the others succeed.
const linkingProgram = `say() { printf '%s\n' "$1"; }
step() { x=; while [ -z "$x" ]; do read -r x <$DIR/step; done; } # a writer may be about to close
say '{"type":"hello","protocol":1,"name":"demo","version":"1","features":["login"]}'
say '{"type":"state","state":"not-linked"}'
n=0
while read -r line; do case $line in
*'"login"'*)
	n=$((n+1))
	say '{"type":"state","state":"connecting"}'
	say '{"type":"qr","text":"canary-first","expiresInMs":60000}'
	step
	say '{"type":"qr","text":"canary-second","expiresInMs":20000}'
	step
	if [ $n = 1 ]; then say '{"type":"state","state":"not-linked","code":408,"reason":"nobody scanned"}'
	else say '{"type":"state","state":"open","self":"me@demo"}'; fi ;;
*'"logout"'*) say '{"type":"state","state":"not-linked"}' ;;
*'"ping"'*) say '{"type":"pong","id":"p"}' ;;
*'"stop"'*) exit 0 ;;
esac; done`

// shown is what a command has written so far.
type shown struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *shown) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *shown) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// TestChannelsLogin links a channel from the command line and over RPC. Each code
// is shown once; what became of it is the exit code; no log has it.
func TestChannelsLogin(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := syscall.Mkfifo(filepath.Join(dir, "step"), 0o600); err != nil {
		t.Fatal(err)
	}
	script := filepath.Join(dir, "program.sh")
	if err := os.WriteFile(script, []byte(strings.ReplaceAll(linkingProgram, "$DIR", dir)), 0o600); err != nil {
		t.Fatal(err)
	}
	h := newHouse(t, object{"channels": object{"demo": object{"kind": "process", "command": []string{"/bin/sh", script}}}})
	g := h.start()
	step := func() {
		f, err := os.OpenFile(filepath.Join(dir, "step"), os.O_WRONLY, 0) // once the program reads
		if err != nil {
			t.Fatal(err)
		}
		f.WriteString("go\n")
		f.Close()
	}
	const heading = "Scan this in WhatsApp"
	login := func(args ...string) (stdout, stderr string, code int) {
		t.Helper()
		var out, err shown
		cmd := h.program(h.ctx, append([]string{"channels", "login", "demo"}, args...)...)
		cmd.Stdout, cmd.Stderr = &out, &err
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		for n := 1; n <= 2; n++ {
			h.eventually("a code", func() bool {
				if strings.Contains(err.String(), "openclaw:") {
					t.Fatalf("login: %s", &err)
				}
				return strings.Count(out.String()+err.String(), heading) == n
			})
			step()
		}
		cmd.Wait()
		return out.String(), err.String(), cmd.ProcessState.ExitCode()
	}
	h.eventually("the program", func() bool { return strings.Contains(h.run("channels", "status").stdout, "not-linked") })
	stdout, stderr, code := login()
	if code != 1 || !strings.Contains(stderr, "nobody scanned (408)") || strings.Count(stdout, "█") < 100 || strings.Contains(stdout, "\x1b") {
		t.Errorf("not scanned: exit %d\n%s%s", code, stdout, stderr)
	}
	if stdout, stderr, code = login(); code != 0 || !strings.HasSuffix(stdout, "linked as me@demo\n") {
		t.Errorf("scanned: exit %d\n%s%s", code, stdout, stderr)
	}
	if r := h.mustRun("channels", "login", "demo"); r.stdout != "linked as me@demo\n" {
		t.Errorf("linked already: %v", r)
	}
	stdout, stderr, code = login("--force", "--json")
	var told wire.WebLogin
	if err := json.Unmarshal([]byte(stdout), &told); err != nil || code != 0 || !told.Connected || told.Self != "me@demo" || !strings.Contains(stderr, "█") {
		t.Errorf("--json: %v, exit %d\n%s%s", err, code, stdout, stderr)
	}

	h.mustRun("channels", "logout", "demo")
	h.eventually("unlinked", func() bool { return strings.Contains(h.run("channels", "status").stdout, "not-linked") })
	for _, params := range []string{`{"channel":"demo"}`, `{"channel":"demo","timeoutMs":1}`} {
		if r := h.run("call", "web.login.wait", "--params", params, "--json"); r.code != 1 || !strings.Contains(r.stdout, `"NOT_LINKED"`) {
			t.Errorf("wait, with no login: %v", r)
		}
	}
	if r := h.run("call", "web.login.start", "--params", `{}`, "--json"); r.code != 1 || !strings.Contains(r.stdout, `"INVALID_REQUEST"`) || !strings.Contains(r.stdout, "whatsapp") {
		t.Errorf("start, without the channel: %v", r)
	}
	r := h.mustRun("call", "web.login.start", "--params", `{"channel":"demo"}`, "--json")
	told = wire.WebLogin{}
	if err := json.Unmarshal([]byte(r.stdout), &told); err != nil || told.Connected || told.QR != "canary-first" {
		t.Errorf("start: %v %v", err, r)
	}
	raw, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(told.QRDataURL, "data:image/png;base64,"))
	if err == nil {
		_, err = png.Decode(bytes.NewReader(raw))
	}
	if err != nil {
		t.Error(err)
	}
	step()
	shows, err := json.Marshal(object{"channel": "demo", "currentQrDataUrl": told.QRDataURL})
	if err != nil {
		t.Fatal(err)
	}
	if r := h.mustRun("call", "web.login.wait", "--params", string(shows), "--json"); !strings.Contains(r.stdout, "canary-second") {
		t.Errorf("wait for another code: %v", r)
	}
	step()
	if r := h.mustRun("call", "web.login.wait", "--params", `{"channel":"demo"}`, "--json"); !strings.Contains(r.stdout, `"connected": true`) {
		t.Errorf("wait: %v", r)
	}
	if strings.Contains(g.log(), "canary") {
		t.Error("a code is in the log")
	}
}

// TestWhatsAppTestServer: another server than WhatsApp's takes the switch, the
// variable and an address of this host.
func TestWhatsAppTestServer(t *testing.T) {
	t.Parallel()
	h := newHouse(t, nil)
	const variable = "OPENCLAW_WHATSAPP_WEB_SOCKET_URL"
	for _, named := range []string{"", "ws://192.0.2.1/", "ws://127.0.0.1.example/", "http://127.0.0.1/", "wss://u:p@127.0.0.1/", "ws://localhost/", "::"} {
		cmd := h.program(h.ctx, "gateway", "run", "--whatsapp-test-server")
		if named != "" {
			cmd.Env = append(cmd.Env, variable+"="+named)
		}
		if out, err := cmd.CombinedOutput(); err == nil || cmd.ProcessState.ExitCode() != 2 || !strings.Contains(string(out), variable) {
			t.Errorf("%q: %v: %s", named, err, out)
		}
	}
}
