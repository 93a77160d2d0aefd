package channel

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"openclaw/reload/config"
)

// program is a channel that is a shell script.
func program(t *testing.T, script string) config.ChannelAccount {
	path := filepath.Join(t.TempDir(), "child.sh")
	if err := os.WriteFile(path, []byte(script), 0o600); err != nil {
		t.Fatal(err)
	}
	return config.ChannelAccount{Channel: "demo", Account: "default", Kind: "process", Command: []string{"/bin/sh", path},
		DMPolicy: "open", AllowFrom: []string{"*"}, GroupPolicy: "disabled", MediaMaxMb: 1}
}

const helloLine = `echo '{"type":"hello","protocol":1,"name":"demo","version":"1","features":[]}'` + "\n"

// TestReadmeChannel runs the example of the README: what it passes on is
// answered, and what it repeats is not answered again.
func TestReadmeChannel(t *testing.T) {
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, ok := strings.Cut(string(readme), "<!-- channel example -->\n```sh\n")
	script, _, closed := strings.Cut(rest, "```")
	if !ok || !closed || strings.Count(script, "\n") > 20 {
		t.Fatalf("no example of at most twenty lines: %q", script)
	}
	dir := t.TempDir()
	script = strings.ReplaceAll(script, "/var/spool/mychat", dir)
	for name, text := range map[string]string{"in": "hello\nhello again\n", "out": ""} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	out := func() string {
		raw, _ := os.ReadFile(filepath.Join(dir, "out"))
		return string(raw)
	}
	r := newRig(t)
	r.set.Apply([]config.ChannelAccount{program(t, script)})
	r.until("both answers", func() bool { return strings.Count(out(), "you said hello") == 2 })
	if _, err := r.set.Send(t.Context(), "demo", "", Outbound{ID: "x", To: "me", Text: "from here"}); err != nil || !strings.Contains(out(), "from here") {
		t.Errorf("%v: %s", err, out())
	}
	r.set.Apply(nil) // and once more: it repeats what it passed on
	r.set.Apply([]config.ChannelAccount{program(t, script)})
	r.until("open", func() bool { return r.set.Status()[0].State == StateOpen })
	if _, err := r.set.Send(t.Context(), "demo", "", Outbound{ID: "y", To: "me", Text: "later"}); err != nil {
		t.Error(err)
	}
	if n := strings.Count(out(), "you said"); n != 2 {
		t.Errorf("answered %d times:\n%s", n, out())
	}
}

// TestHostilePrograms: whatever a program does, its own account says so, and the
// one beside it works.
func TestHostilePrograms(t *testing.T) {
	for _, c := range []struct{ name, script, says string }{
		{"no hello", "echo '{\"type\":\"pong\"}'; sleep 60", "must be hello"},
		{"not JSON", helloLine + "echo nonsense; sleep 60", "not JSON"},
		{"long line", helloLine + "head -c 3000000 /dev/zero | tr '\\0' x; sleep 60", "more than"},
		{"gigabyte line", helloLine + "head -c 1073741824 /dev/zero | tr '\\0' x; sleep 60", "more than"},
		{"forged id", helloLine + "echo '{\"type\":\"sent\",\"id\":\"s9\"}'; sleep 60", "nobody asked"},
		{"unknown type", helloLine + "echo '{\"type\":\"root\"}'; sleep 60", "unknown type"},
		{"no sender", helloLine + "echo '{\"type\":\"inbound\",\"seq\":1,\"id\":\"1\",\"chat\":\"c\",\"text\":\"x\"}'; sleep 60", "without an id"},
		{"exits", "exit 3", "exit status 3"},
		{"exits after hello", helloLine + "exit 3", "exit status 3"},
		{"other protocol", "echo '{\"type\":\"hello\",\"protocol\":9}'; sleep 60", "speaks protocol 9"},
		{"logged out", helloLine + "echo '{\"type\":\"state\",\"state\":\"closed\",\"code\":401,\"reason\":\"logged out\",\"terminal\":true}'; sleep 60", "logged out (401)"},
		{"flood of stderr", "yes >&2 & echo nonsense; wait", "not JSON"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			good := program(t, helloLine+"while read -r l; do :; done")
			good.Channel = "good"
			r.set.Apply([]config.ChannelAccount{program(t, c.script), good})
			r.until("what is wrong", func() bool { return strings.Contains(r.set.Status()[0].LastError, c.says) })
			r.until("the other one", func() bool { return r.set.Status()[1].State == StateOpen })
		})
	}
	t.Run("missing", func(t *testing.T) {
		r := newRig(t)
		conf := program(t, "")
		conf.Command = []string{"/nonexistent/program"}
		r.set.Apply([]config.ChannelAccount{conf})
		r.until("what is wrong", func() bool { return strings.Contains(r.set.Status()[0].LastError, "no such file") })
	})
}

// TestProgramFromInside looks at environment, descriptors and end of a child.
func TestProgramFromInside(t *testing.T) {
	t.Setenv("OPENCLAW_GATEWAY_TOKEN", "must-not-be-seen")
	r := newRig(t)
	out := filepath.Join(t.TempDir(), "seen")
	conf := program(t, helloLine+"(env; ls -l /proc/$$/fd; echo pid $$) >"+out+"\nwhile read -r l; do :; done; sleep 600")
	r.set.Apply([]config.ChannelAccount{conf})
	seen := ""
	r.until("the report", func() bool { raw, _ := os.ReadFile(out); seen = string(raw); return strings.Contains(seen, "pid ") })
	if strings.Contains(seen, "OPENCLAW") || strings.Contains(seen, "must-not") || strings.Contains(seen, "gateway.lock") || strings.Contains(seen, ".jsonl") {
		t.Error(seen)
	}
	pid := strings.Fields(seen[strings.LastIndex(seen, "pid "):])[1]
	began := time.Now()
	r.set.Apply(nil)
	if took := time.Since(began); took > stopTime+5*time.Second {
		t.Errorf("ending it took %v", took)
	}
	if _, err := os.Stat("/proc/" + pid); err == nil {
		t.Error("it still runs")
	}
}
