package channel

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"openclaw/gateway/channel/whatsapp"
	"openclaw/gateway/store"
	"openclaw/reload/config"
)

// fakeNode stands for Node.js: it tells version and flags as it is asked to, notes
// its arguments, and has a shell run the program.
const fakeNode = `#!/bin/sh
case "$1" in -p) echo '["%s",["--permission","--allow-net"]]'; exit 0 ;; esac
for a; do printf '%%s\n' "$a" >>%s/argv; case $a in *.mjs) program=$a ;; esac; done
exec /bin/sh "$program"
`

const linkingHello = `echo '{"type":"hello","protocol":1,"name":"whatsapp","version":"1","features":["login","media","typing","read","replyTo"]}'
say() { printf '%s\n' "$1"; }
quit() { case $1 in *'"type":"stop"'*) exit 0 ;; esac; }
`

// kit is a rig for the kind whatsapp: the child is a shell script on a fake
// Node.js, with a tree of packages in place.
type kit struct {
	*rig
	node, out string // the program, and a directory that children write to
	kit       *whatsapp.Kit
	conf      config.ChannelAccount
}

func newKit(t *testing.T, script string) *kit {
	k := &kit{rig: newRig(t), out: t.TempDir()}
	k.node = filepath.Join(t.TempDir(), "node")
	k.kit = &whatsapp.Kit{Program: []byte(strings.ReplaceAll(linkingHello+script, "$OUT", k.out)), PackageJSON: []byte("{}"), PackageLock: []byte("{}")}
	k.set.o.WhatsApp = k.kit
	k.conf = config.ChannelAccount{Channel: "whatsapp", Account: "default", Kind: "whatsapp", DMPolicy: "allowlist", GroupPolicy: "open",
		AllowFrom: []string{"491@s.whatsapp.net"}, MediaMaxMb: 1, ReadReceipts: true}
	k.writeNode("24.1.0", 0o755)
	return k
}

func (k *kit) writeNode(version string, mode os.FileMode) {
	k.t.Helper()
	if err := os.WriteFile(k.node, fmt.Appendf(nil, fakeNode, version, k.out), 0o755); err != nil {
		k.t.Fatal(err)
	}
	if err := os.Chmod(k.node, mode); err != nil {
		k.t.Fatal(err)
	}
}

// install places the packages, as the command does.
func (k *kit) install() {
	k.t.Helper()
	err := store.PlaceTree(k.t.Context(), k.dir.Path(), k.kit.Dir(), whatsapp.Aside, func(dir string) error {
		for name, text := range map[string]string{"package.json": "{}", "node_modules/a/index.js": "a", "node_modules/b/index.js": "b", whatsapp.NodeFile: k.node} {
			if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755); err != nil {
				return err
			}
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
				return err
			}
		}
		return nil
	}, func(sum string) error { k.kit.Sum = sum; return nil })
	if err != nil {
		k.t.Fatal(err)
	}
}

func (k *kit) apply() { k.set.Apply([]config.ChannelAccount{k.conf}) }

func (k *kit) status() Status { return k.set.Status()[0] }

func (k *kit) reaches(state string) {
	k.t.Helper()
	k.until(state, func() bool { return k.status().State == state })
}

// read is what children wrote to a file.
func (k *kit) read(name string) string {
	raw, _ := os.ReadFile(filepath.Join(k.out, name))
	return string(raw)
}

func (k *kit) login() {
	k.t.Helper()
	if _, err := k.set.Login("whatsapp", ""); err != nil {
		k.t.Fatal(err)
	}
}

func runShell(script string) ([]byte, error) {
	return exec.Command("/bin/sh", "-c", script).CombinedOutput()
}

const openLine = `say '{"type":"state","state":"open","self":"490@s.whatsapp.net"}'` + "\n"
const idle = "while read -r l; do quit \"$l\"; case $l in *'\"ping\"'*) say '{\"type\":\"pong\",\"id\":\"p\"}' ;; esac; done\n"

// TestWhatsAppStart: what is missing is told, with the next step; once it is
// there a login starts the child, within its bounds.
func TestWhatsAppStart(t *testing.T) {
	t.Setenv("NODE_OPTIONS", "--require=/must/not/be/seen")
	k := newKit(t, "env >$OUT/env; pwd >$OUT/pwd\n"+openLine+idle)
	k.apply()
	k.reaches(StateFailed)
	if s := k.status(); !s.Terminal || !strings.Contains(s.LastError, "not installed; run: openclaw channels install whatsapp") {
		t.Errorf("%+v", s)
	}
	if _, err := k.set.Send(t.Context(), "whatsapp", "", Outbound{ID: "x", To: "491", Text: "x"}); !errors.Is(err, ErrClosed) {
		t.Errorf("send: %v", err)
	}
	k.install()
	k.login()
	k.reaches(StateOpen)
	if s := k.status(); s.Self != "490@s.whatsapp.net" || s.Terminal || s.LastError != "" {
		t.Errorf("%+v", s)
	}
	home, err := filepath.EvalSymlinks(filepath.Join(k.dir.Path(), "channels/whatsapp+default"))
	if err != nil {
		t.Fatal(err)
	}
	argv := strings.Fields(k.read("argv"))
	for _, want := range []string{"--permission", "--allow-net", "--allow-fs-read=" + home + "/whatsapp.mjs", "--allow-fs-write=" + home + "/auth", "--allow-fs-write=" + home + "/media", "--max-old-space-size=256"} {
		if !strings.Contains(strings.Join(argv, " ")+" ", want+" ") {
			t.Errorf("no %s in %q", want, argv)
		}
	}
	writes := 0
	for _, a := range argv {
		if strings.HasPrefix(a, "--allow-fs-write") {
			writes++
		}
		if a == "--test-socket" || strings.Contains(a, "child-process") || strings.Contains(a, "addons") {
			t.Errorf("%s", a)
		}
	}
	if env := k.read("env"); writes != 2 || strings.Contains(env, "NODE_OPTIONS") || strings.Contains(env, "OPENCLAW") || strings.TrimSpace(k.read("pwd")) != home {
		t.Errorf("%d places to write; %s%s", writes, env, k.read("pwd"))
	}
	for name, mode := range map[string]os.FileMode{"": 0o700, "auth": 0o700, "media": 0o700, "whatsapp.mjs": 0o600} {
		if fi, err := os.Stat(filepath.Join(home, name)); err != nil || fi.Mode().Perm() != mode {
			t.Errorf("%s: %v %v", name, fi, err)
		}
	}
}

// TestWhatsAppRefused: no child is started from what is not as it was installed.
func TestWhatsAppRefused(t *testing.T) {
	for _, c := range []struct {
		name, says string
		harm       func(k *kit, tree string) error
	}{
		{"changed", "node_modules/a/index.js was changed", func(k *kit, tree string) error {
			return os.WriteFile(tree+"/node_modules/a/index.js", []byte("A"), 0o600)
		}},
		{"added", "node_modules/a/more.js was added", func(k *kit, tree string) error {
			return os.WriteFile(tree+"/node_modules/a/more.js", []byte("A"), 0o600)
		}},
		{"missing", "node_modules/b/index.js is missing", func(k *kit, tree string) error { return os.Remove(tree + "/node_modules/b/index.js") }},
		{"link", "no regular file", func(k *kit, tree string) error { return os.Symlink("/etc/passwd", tree+"/node_modules/link.js") }},
		{"manifest", "not the one of this version", func(k *kit, tree string) error {
			return os.WriteFile(tree+"/MANIFEST", []byte("forged"), 0o600)
		}},
		{"node gone", "is gone; run: openclaw channels install", func(k *kit, tree string) error { return os.Remove(k.node) }},
		{"old node", `Node.js "18.2.0"; 20 or newer is needed`, func(k *kit, tree string) error { k.writeNode("18.2.0", 0o755); return nil }},
		{"node of all", "may change it", func(k *kit, tree string) error { k.writeNode("24.0.0", 0o777); return nil }},
	} {
		t.Run(c.name, func(t *testing.T) {
			k := newKit(t, openLine+idle)
			k.install()
			if err := c.harm(k, filepath.Join(k.dir.Path(), k.kit.Dir())); err != nil {
				t.Fatal(err)
			}
			k.apply()
			k.reaches(StateFailed)
			if s := k.status(); !s.Terminal || !strings.Contains(s.LastError, c.says) {
				t.Errorf("%+v", s)
			}
			if argv := k.read("argv"); argv != "" {
				t.Errorf("it was started: %s", argv)
			}
		})
	}
}

// TestWhatsAppCodes is the state machine by disconnect code: what waits for the
// operator does so with its child, and a login has that go on.
func TestWhatsAppCodes(t *testing.T) {
	for _, c := range []struct {
		name, line, state string
		terminal          bool
		code              int
		send              error
	}{
		{"restart", `"state":"closed","code":515,"reason":"restart required","retryInMs":0`, StateWaiting, false, 515, nil},
		{"timed out", `"state":"closed","code":408,"reason":"lost","retryInMs":900`, StateWaiting, false, 408, nil},
		{"unavailable", `"state":"closed","code":503,"reason":"unavailable","retryInMs":900`, StateWaiting, false, 503, nil},
		{"below", `"state":"closed","reason":"WebSocket Error (ENOTFOUND)","retryInMs":900`, StateWaiting, false, 0, nil},
		{"replaced", `"state":"closed","code":440,"reason":"another session","terminal":true`, StateFailed, true, 440, ErrClosed},
		{"logged out", `"state":"not-linked","code":401,"reason":"logged out","terminal":true`, StateNotLinked, true, 401, ErrNotLinked},
		{"not scanned", `"state":"not-linked","code":408,"reason":"QR refs attempts ended"`, StateNotLinked, false, 408, ErrNotLinked},
	} {
		t.Run(c.name, func(t *testing.T) {
			k := newKit(t, "echo start >>$OUT/starts\nsay '{\"type\":\"state\","+c.line+"}'\n"+
				`while read -r l; do quit "$l"; case $l in *'"login"'*) say '{"type":"state","state":"connecting"}'; `+strings.TrimSpace(openLine)+` ;; esac; done`)
			k.install()
			k.apply()
			k.until("the closing", func() bool { s := k.status(); return s.State == c.state && s.LastError != "" })
			if s := k.status(); s.Terminal != c.terminal || s.Code != c.code {
				t.Errorf("%+v", s)
			}
			if c.send != nil {
				if _, err := k.set.Send(t.Context(), "whatsapp", "", Outbound{ID: "x", To: "491", Text: "x"}); !errors.Is(err, c.send) {
					t.Errorf("send: %v", err)
				}
			}
			k.login()
			k.reaches(StateOpen)
			if s := k.status(); s.Code != 0 || s.Terminal || k.read("starts") != "start\n" {
				t.Errorf("%+v after %q", s, k.read("starts"))
			}
		})
	}
}

// TestWhatsAppLogin: codes are in the status, one after another, and in no log.
func TestWhatsAppLogin(t *testing.T) {
	k := newKit(t, `step() { x=; while [ -z "$x" ]; do read -r x <$OUT/pipe; done; } # a writer may be about to close
say '{"type":"state","state":"not-linked"}'
while read -r l; do quit "$l"; case $l in
*'"login"'*) say '{"type":"state","state":"connecting"}'; say '{"type":"qr","text":"canary-one","expiresInMs":60000}'
	step
	say '{"type":"qr","text":"canary-two","expiresInMs":20000}'
	step
	say '{"type":"state","state":"closed","code":515,"retryInMs":0}'; say '{"type":"state","state":"connecting"}'
	`+openLine+`;;
*'"logout"'*) say '{"type":"state","state":"not-linked"}' ;;
esac; done`)
	if out, err := runShell("mkfifo " + k.out + "/pipe"); err != nil {
		t.Fatal(out, err)
	}
	k.install()
	k.apply()
	k.reaches(StateNotLinked)
	step := func() {
		if out, err := runShell("echo x >" + k.out + "/pipe"); err != nil { // once the child reads
			t.Fatal(out, err)
		}
	}
	k.login()
	k.until("the first code", func() bool { return k.status().QR == "canary-one" })
	step()
	k.until("the second code", func() bool { return k.status().QR == "canary-two" })
	step()
	k.reaches(StateOpen)
	if _, err := k.set.Logout("whatsapp", "default"); err != nil {
		t.Error(err)
	}
	k.reaches(StateNotLinked)
	if k.status().QR != "" || strings.Contains(k.logs.String(), "canary") {
		t.Error(k.logs.String())
	}
}

// TestWhatsAppEnds: a child that cannot work is left alone until an operator
// says so; one that keeps ending is started ever more rarely.
func TestWhatsAppEnds(t *testing.T) {
	t.Run("unusable", func(t *testing.T) {
		k := newKit(t, "echo start >>$OUT/starts\n[ -e $OUT/mended ] || { say '{\"type\":\"state\",\"state\":\"closed\",\"reason\":\"the credentials are unreadable\",\"terminal\":true}'; exit 2; }\n"+openLine+idle)
		k.install()
		k.apply()
		k.until("the end", func() bool { return k.status().Failures == 1 })
		if s := k.status(); s.State != StateFailed || !s.Terminal || !strings.Contains(s.LastError, "credentials are unreadable") {
			t.Errorf("%+v", s)
		}
		if err := os.WriteFile(k.out+"/mended", nil, 0o600); err != nil {
			t.Fatal(err)
		}
		k.login()
		k.reaches(StateOpen)
		if n := strings.Count(k.read("starts"), "start"); n != 2 {
			t.Errorf("%d starts", n)
		}
	})
	t.Run("again and again", func(t *testing.T) {
		k := newKit(t, "echo start >>$OUT/starts\nexit 1")
		k.install()
		began := time.Now()
		k.apply()
		n := 0
		k.until("three ends", func() bool { n = strings.Count(k.read("starts"), "start"); return k.status().Failures >= 3 })
		if took := time.Since(began); n > 3 || took < firstBackoff/2+firstBackoff {
			t.Errorf("%d starts in %v", n, took)
		}
		if s := k.status(); s.Terminal || !strings.Contains(s.LastError, "exit status 1") {
			t.Errorf("%+v", s)
		}
	})
}

// TestBegunSends: what may have arrived is asked for again only of the child
// that knows, by the same id; what has not begun may be sent by anybody.
func TestBegunSends(t *testing.T) {
	answer := func(more string) string {
		return `say "{\"type\":\"failed\",\"id\":\"$id\",\"code\":\"RETRY\",\"message\":\"no word\"` + more + `}"`
	}
	child := func(first string) string {
		return openLine + `n=0
while read -r l; do quit "$l"; case $l in *'"type":"send"'*)
	id=$(printf '%s' "$l" | sed 's/.*"id":"\([^"]*\)".*/\1/'); echo $id >>$OUT/ids; n=$((n+1))
	if [ $n = 1 ] && [ ! -e $OUT/dead ]; then ` + first + `
	else say "{\"type\":\"sent\",\"id\":\"$id\",\"messageId\":\"M\"}"; fi ;;
esac; done`
	}
	for _, c := range []struct {
		name, first, ids string
		uncertain        bool
	}{
		{"begun", answer(`,\"begun\":true`), "s1\ns1\n", false},
		{"not begun", answer(""), "s1\ns2\n", false},
		{"begun, then dead", answer(`,\"begun\":true`) + "; : >$OUT/dead; exit 1", "s1\n", true},
		{"dead", ": >$OUT/dead; exit 1", "s1\n", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			k := newKit(t, child(c.first))
			k.install()
			k.apply()
			k.reaches(StateOpen)
			sent, err := k.set.Send(t.Context(), "whatsapp", "", Outbound{ID: "x", To: "491", Text: "hello"})
			if (err != nil) != c.uncertain || !c.uncertain && sent.MessageID != "M" || len(k.status().Uncertain) != map[bool]int{true: 1}[c.uncertain] {
				t.Errorf("%v %v %+v", sent, err, k.status())
			}
			if ids := k.read("ids"); ids != c.ids {
				t.Errorf("%q", ids)
			}
		})
	}
}

// TestLateAnswer: a program may answer after everybody has gone.
func TestLateAnswer(t *testing.T) {
	k := newKit(t, openLine+`while read -r l; do quit "$l"; case $l in
*'"send"'*) id=$(printf '%s' "$l" | sed 's/.*"id":"\([^"]*\)".*/\1/'); echo $id >>$OUT/ids ;;
*'"typing"'*) say "{\"type\":\"sent\",\"id\":\"$id\",\"messageId\":\"M\"}"; say '{"type":"state","state":"open","self":"late@s.whatsapp.net"}' ;;
esac; done`)
	k.install()
	k.apply()
	k.reaches(StateOpen)
	a, err := k.set.Account("whatsapp", "")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() {
		_, err := a.channel.Send(ctx, Outbound{ID: "x", To: "491", Text: "x"})
		done <- err
	}()
	k.until("the send", func() bool { return k.read("ids") != "" })
	cancel()
	if err := <-done; err == nil {
		t.Error("sent")
	} else if _, understood := faultOf(err); understood {
		t.Errorf("%v: it may have arrived", err)
	}
	a.channel.Typing(t.Context(), Inbound{Chat: "491"})
	k.until("what follows the answer", func() bool { return k.status().Self == "late@s.whatsapp.net" })
	if s := k.status(); s.Failures != 0 || s.State != StateOpen {
		t.Errorf("%+v", s)
	}
}

// TestWhatsAppInbound: a reply to the bot names it, only who was let in sees
// that somebody read, everything is acknowledged, and no file stays.
func TestWhatsAppInbound(t *testing.T) {
	k := newKit(t, openLine+`printf x >media/small.png; head -c 2000000 /dev/zero >media/large.png
got() { say "{\"type\":\"inbound\",\"seq\":$1,\"id\":\"M$1\",\"from\":\"$2@s.whatsapp.net\",\"chat\":\"$3\",\"text\":\"m$1\"$4}"; }
got 1 491 491@s.whatsapp.net ',"media":[{"path":"'$PWD'/media/small.png","mime":"image/png"},{"path":"'$PWD'/media/large.png","mime":"image/png"},{"path":"/etc/passwd","mime":"text/plain"}]'
got 2 492 492@s.whatsapp.net
got 3 492 1@g.us ',"group":true'
got 4 492 1@g.us ',"group":true,"replyTo":{"id":"x","from":"490@s.whatsapp.net","text":"quoted"}'
got 5 492 1@g.us ',"group":true,"replyTo":{"id":"x","from":"493@s.whatsapp.net","text":"other"}'
got 4 492 1@g.us ',"group":true,"replyTo":{"id":"x","from":"490@s.whatsapp.net","text":"quoted"}'
while read -r l; do quit "$l"; printf '%s\n' "$l" >>$OUT/said
case $l in *'"send"'*) say "{\"type\":\"sent\",\"messageId\":\"R\",\"id\":\"$(printf '%s' "$l" | sed 's/.*"id":"\([^"]*\)".*/\1/')\"}" ;; esac; done`)
	k.install()
	k.apply()
	k.until("both answers and the acknowledgements", func() bool {
		said := k.read("said")
		return strings.Count(said, `"type":"send"`) == 2 && strings.Count(said, `"type":"ack"`) == 6
	})
	said := k.read("said")
	for want, n := range map[string]int{`"type":"read","chat":"491@s.whatsapp.net","message":"M1"`: 1, `"type":"read"`: 3, `"message":"M2"`: 0, `"message":"M3"`: 0, `"message":"M5"`: 0} {
		if got := strings.Count(said, want); got != n {
			t.Errorf("%s %d times:\n%s", want, got, said)
		}
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, m := range k.got {
		if m.Group && (m.Quote != "quoted" || m.Message != "M4") || !m.Group && (len(m.Files) != 1 || string(m.Files[0].Data) != "x" || strings.Count(m.Text, "was not read") != 2) {
			t.Errorf("%+v", m)
		}
	}
	left, err := os.ReadDir(filepath.Join(k.dir.Path(), "channels/whatsapp+default/media"))
	if err != nil || len(left) != 0 || len(k.got) != 2 {
		t.Errorf("%v %v, %d messages", left, err, len(k.got))
	}
}

// TestWhatsAppMedia: media are fetched, and files read, for messages that are
// let in and for no others; strangers do not fill the log with theirs.
func TestWhatsAppMedia(t *testing.T) {
	k := newKit(t, openLine+`got() { say "{\"type\":\"inbound\",\"seq\":$1,\"id\":\"M$1\",\"from\":\"$2@s.whatsapp.net\",\"chat\":\"$2@s.whatsapp.net\",\"media\":[{$3\"mime\":\"image/png\",\"name\":\"p.png\",\"size\":1}]}"; }
i=100; while [ $i -lt 300 ]; do got $i 666 '"path":"gone.png",'; i=$((i+1)); done
got 1 666; got 2 491; got 3 491
while read -r l; do quit "$l"; printf '%s\n' "$l" >>$OUT/said
case $l in
*'"hello"'*) ;;
*'"fetch","seq":2}'*) printf x >media/a.png; say '{"type":"media","seq":2,"media":[{"path":"'$PWD'/media/a.png","mime":"image/png","name":"p.png"}]}' ;;
*'"fetch","seq":3}'*) say '{"type":"media","seq":3,"message":"too slow"}'; got 2 491 ;;
*'"ack","seq":3}'*) say '{"type":"media","seq":3,"message":"again"}' ;;
esac; done`)
	k.kit.Program = []byte(strings.Replace(string(k.kit.Program), `"media",`, `"media","fetch",`, 1))
	k.install()
	k.apply()
	k.until("the end of who answers what nobody asked", func() bool {
		return strings.Contains(k.status().LastError, "fetched media of 3, for which nobody asked")
	})
	said := k.read("said")
	if !strings.Contains(said, `"mediaMaxBytes":1048576`) || strings.Count(said, `"fetch"`) != 2 || strings.Contains(said, `"fetch","seq":1}`) || strings.Count(said, `"ack"`) < 203 {
		t.Errorf("%d asked for, %d acknowledged", strings.Count(said, `"fetch"`), strings.Count(said, `"ack"`))
	}
	if logs := k.logs.String(); strings.Contains(logs, "file not read") || !strings.Contains(logs, "too slow") {
		t.Error(logs)
	}
	k.until("both", func() bool { k.mu.Lock(); defer k.mu.Unlock(); return len(k.got) == 2 })
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, m := range k.got {
		if m.Message == "M2" && (len(m.Files) != 1 || string(m.Files[0].Data) != "x" || m.Text != "") || m.Message == "M3" && m.Text != "[p.png, image/png was not read]" {
			t.Errorf("%+v", m)
		}
	}
	if left, err := os.ReadDir(filepath.Join(k.dir.Path(), k.set.accounts[0].channel.(*process).media())); err != nil || len(left) != 0 {
		t.Errorf("%v %v", left, err)
	}
}
