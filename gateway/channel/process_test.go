package channel

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"openclaw/gateway/store"
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

// TestProgramRefuses: what can never be sent to a program is refused at once,
// and what comes after it goes out.
func TestProgramRefuses(t *testing.T) {
	r := newRig(t)
	r.set.Apply([]config.ChannelAccount{program(t, helloLine+`while read -r l; do case $l in
*'"type":"send"'*) id=${l#*'"id":"'}; path=; case $l in *'"path":"'*) path=${l#*'"path":"'}; path=${path%%'"'*} ;; esac; echo '{"type":"sent","id":"'${id%%'"'*}'","messageId":"'${path##*/}'"}' ;;
esac; done`)})
	r.until("open", func() bool { return r.set.Status()[0].State == StateOpen })
	send := func(out Outbound) (Sent, error) { return r.set.accounts[0].channel.Send(t.Context(), out) }
	if _, err := send(Outbound{To: "A", Text: strings.Repeat("<", 180_000)}); err != nil { // one byte each
		t.Error(err)
	}
	f, ok := faultOf(func() error { _, err := send(Outbound{To: "A", Text: strings.Repeat("\x01", 180_000)}); return err }())
	if !ok || !f.Final || !strings.Contains(f.Error(), "too long for the program") {
		t.Errorf("%v %+v", ok, f)
	}
	for name, end := range map[string]string{"x." + strings.Repeat("y", 250): "-0", "photo.JPG": "-0.jpg", "a.b/../../c": "-0", "a.tar.gz\x00": "-0", "": "-0"} {
		if sent, err := send(Outbound{To: "A", Files: []File{{Name: name, Data: []byte("x")}}}); err != nil || !strings.HasPrefix(sent.MessageID, "out-s") || !strings.HasSuffix(sent.MessageID, end) {
			t.Errorf("%q: %q %v", name, sent.MessageID, err)
		}
	}
	p := r.set.accounts[0].channel.(*process)
	if err := r.dir.Empty(p.home()); err != nil { // the directory for files is gone
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(r.dir.Path(), p.media()), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := send(Outbound{To: "A", Files: []File{{Data: []byte("x")}}})
	if f, ok := faultOf(err); !ok || !f.Final {
		t.Errorf("no directory: %v", err)
	}
	for err, may := range map[error]bool{store.ErrNoSpace: true, &os.PathError{Err: syscall.EMFILE}: true, &os.PathError{Err: syscall.ENAMETOOLONG}: false} {
		if passing(err) != may {
			t.Error(err)
		}
	}
	if _, err := r.set.Send(t.Context(), "demo", "", Outbound{ID: "after", To: "A", Text: "after"}); err != nil {
		t.Error(err)
	}
}

// TestLongSends: what no line, or no message of WhatsApp, can hold goes out in
// several.
func TestLongSends(t *testing.T) {
	for kind, most := range map[string]int{"process": 160_000, "whatsapp": 60_000} { // WhatsApp's child takes 65,536
		p := &process{conf: &config.ChannelAccount{Kind: kind}}
		a := &Account{channel: p}
		for _, text := range []string{strings.Repeat("a", 170_000), strings.Repeat("\x01", 340_000), strings.Repeat("🦀", 100_000)} {
			var whole strings.Builder
			for _, one := range a.pieces(Outbound{ID: "1", To: strings.Repeat("x", maxIDs), Text: text}) {
				if n := len((&gatewayLine{Type: "send", Text: one.Text, To: one.To}).encode()); units(one.Text) > most || n > maxLine {
					t.Errorf("%s: %d units, %d bytes", kind, units(one.Text), n)
				}
				whole.WriteString(one.Text)
			}
			if whole.String() != text {
				t.Errorf("%s: %d of %d bytes", kind, whole.Len(), len(text))
			}
		}
	}
}
