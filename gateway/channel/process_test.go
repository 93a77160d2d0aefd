package channel

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

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
	example := func(name string) string {
		readme, err := os.ReadFile("../../" + name)
		if err != nil {
			t.Fatal(err)
		}
		_, rest, ok := strings.Cut(string(readme), "<!-- channel example -->\n```sh\n")
		script, _, closed := strings.Cut(rest, "```")
		if !ok || !closed || strings.Count(script, "\n") > 20 {
			t.Fatalf("%s: no example of at most twenty lines: %q", name, script)
		}
		return script
	}
	script := example("README.md")
	if example("README.zh-CN.md") != script {
		t.Error("the READMEs have two examples")
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
	in, err := os.OpenFile(filepath.Join(dir, "in"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	say := func(line string) {
		if _, err := in.WriteString(line + "\n"); err != nil {
			t.Fatal(err)
		}
	}
	say(`he said "hi" \o/` + "\t}")
	r.until("the answer to what comes later", func() bool { return strings.Contains(out(), `you said he said \"hi\" \\o/}`) })
	r.until("its ack", func() bool { raw, _ := os.ReadFile(filepath.Join(dir, "acked")); return string(raw) == "3\n" })
	r.set.Apply(nil) // and once more
	r.set.Apply([]config.ChannelAccount{program(t, script)})
	r.until("open", func() bool { return r.set.Status()[0].State == StateOpen })
	if _, err := r.set.Send(t.Context(), "demo", "", Outbound{ID: "y", To: "me", Text: "later"}); err != nil {
		t.Error(err)
	}
	say("the last")
	r.until("the last answer", func() bool { return strings.Contains(out(), "you said the last") })
	if n := strings.Count(out(), "you said"); n != 4 {
		t.Errorf("answered %d times:\n%s", n, out())
	}
}
