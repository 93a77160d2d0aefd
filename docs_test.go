package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"openclaw/gateway"
	"openclaw/gateway/tool"
	"openclaw/reload/config"
	"openclaw/svc"
)

var readmes = []string{"README.md", "README.zh-CN.md"}

// TestReference keeps the generated part of the READMEs what the tables say.
func TestReference(t *testing.T) {
	var ref bytes.Buffer
	ref.WriteString("\n### Commands\n\n")
	ref.Write(svc.Reference(svc.GatewayRun(serve)))
	ref.WriteString("\n### Checks of doctor\n\n")
	ref.Write(svc.DoctorReference())
	ref.WriteString("\n### Ports\n\n| offset | purpose |\n|---|---|\n")
	for _, l := range config.Listeners() {
		offset := fmt.Sprintf("+%d", l.Offset)
		if l.Count > 1 {
			offset += fmt.Sprintf(" to +%d", l.Offset+l.Count-1)
		}
		fmt.Fprintf(&ref, "| %s | %s |\n", offset, l.Doc)
	}
	ref.WriteString("\n### Configuration\n\n")
	ref.Write(config.Reference())
	ref.WriteString("\n")
	ref.Write(gateway.Reference())
	ref.WriteString("\n")
	for _, name := range readmes {
		raw, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		const open, end = "<!-- reference -->\n", "<!-- /reference -->"
		i, j := bytes.Index(raw, []byte(open)), bytes.Index(raw, []byte(end))
		if i < 0 || j < i {
			t.Fatalf("%s has no place for the reference", name)
		}
		want := string(raw[:i]) + open + ref.String() + string(raw[j:])
		if want == string(raw) {
			continue
		}
		if !*update {
			t.Errorf("%s is out of date (make update):\n%s", name, lineDiff(string(raw), want))
		} else if err := os.WriteFile(name, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// TestToolSchemas shows each change of what models are told of tools.
func TestToolSchemas(t *testing.T) {
	var all bytes.Buffer
	e := json.NewEncoder(&all)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	for _, d := range tool.Table() {
		if err := e.Encode(d); err != nil {
			t.Fatal(err)
		}
	}
	golden(t, "testdata/golden/tools.json", all.Bytes())
}

// A block is a fenced text of a README and what its marker says of it.
type block struct {
	line         int
	marker, text string
}

var marked = regexp.MustCompile("(?ms)^<!-- (run(?:: [a-z]+)?|config) -->\n```[a-z0-9]+\n(.*?)^```$(?:\n\n```text\n(.*?)^```$)?")

func blocks(t *testing.T, name string) []block {
	raw, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	var out []block
	for _, m := range marked.FindAllSubmatchIndex(raw, -1) {
		b := block{line: 1 + bytes.Count(raw[:m[0]], []byte("\n")), marker: string(raw[m[2]:m[3]]), text: string(raw[m[4]:m[5]])}
		if b.marker == "run: fails" && m[6] >= 0 {
			b.text += "\x00" + string(raw[m[6]:m[7]])
		}
		out = append(out, b)
	}
	if len(out) < 4 {
		t.Fatalf("%s: only %d blocks to run", name, len(out))
	}
	return out
}

// TestReadme runs the commands of the READMEs in order, in a fresh HOME, with
// a dev gateway up for those that want one.
func TestReadme(t *testing.T) {
	if _, err := exec.LookPath("curl"); err != nil {
		t.Log("no curl: the README's HTTP examples are not run here")
	}
	for _, name := range readmes {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), 90*time.Second)
			defer cancel()
			home := t.TempDir()
			bin := filepath.Join(home, "bin")
			self, err := os.Executable()
			if err != nil {
				t.Fatal(err)
			}
			if err := os.MkdirAll(bin, 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.Symlink(self, filepath.Join(bin, "openclaw")); err != nil {
				t.Fatal(err)
			}
			env := []string{"HOME=" + home, "PATH=" + bin + ":" + os.Getenv("PATH"), scriptMain + "=1", "GORACE=atexit_sleep_ms=0", "OPENCLAW_GATEWAY_TOKEN=" + "7d1f0b6c2a9e48f35b60c7d8e1f2a3b4c5d6e7f8091a2b3c4d5e6f708192a3b4"}
			sh := func(script string) (string, error) {
				cmd := exec.CommandContext(ctx, "sh", "-e", "-c", script)
				cmd.Dir, cmd.Env = home, env
				out, err := cmd.CombinedOutput()
				return string(out), err
			}
			devEnv := env[:4:4] // without the token
			dev := exec.CommandContext(ctx, filepath.Join(bin, "openclaw"), "gateway", "--dev")
			dev.Dir, dev.Env = home, devEnv
			stdout, err := dev.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := dev.Start(); err != nil {
				t.Fatal(err)
			}
			defer func() {
				dev.Process.Signal(syscall.SIGTERM)
				if err := dev.Wait(); err != nil {
					t.Errorf("dev gateway: %v", err)
				}
			}()
			lines := bufio.NewScanner(stdout)
			for lines.Scan() && !strings.Contains(lines.Text(), "Ctrl-C") {
			}
			for _, b := range blocks(t, name) {
				where := fmt.Sprintf("%s:%d", name, b.line)
				switch b.marker {
				case "run", "run: dev":
					script := b.text
					if _, err := exec.LookPath("curl"); err != nil && strings.Contains(script, "curl") {
						continue
					}
					if b.marker == "run: dev" {
						script = "unset OPENCLAW_GATEWAY_TOKEN\n" + script
					}
					out, err := sh(script)
					if err != nil {
						t.Errorf("%s: %v\n%s", where, err, out)
					}
					if strings.Contains(out, `"error":{`) {
						t.Errorf("%s: an error in the output:\n%s", where, out)
					}
				case "run: fails":
					script, want, _ := strings.Cut(b.text, "\x00")
					out, err := sh(script)
					if err == nil {
						t.Errorf("%s: did not fail:\n%s", where, out)
					}
					for line := range strings.Lines(want) {
						if !strings.Contains(out, strings.TrimSpace(line)) {
							t.Errorf("%s: %q is not in the output:\n%s", where, line, out)
						}
					}
				case "config":
					out, err := sh("umask 077; mkdir -p .openclaw; echo sk-key-of-a-test-provider-000 >.openclaw/anthropic.key; echo 4242:of-no-bot >.openclaw/telegram.token; cat >c.json5 <<'END'\n" + b.text + "\nEND\nopenclaw config validate c.json5")
					if err != nil {
						t.Errorf("%s: %v\n%s", where, err, out)
					}
				}
			}
		})
	}
}

// TestSecurityClaims wants every test that SECURITY.md names to exist.
func TestSecurityClaims(t *testing.T) {
	raw, err := os.ReadFile("SECURITY.md")
	if err != nil {
		t.Fatal(err)
	}
	have := map[string]bool{}
	for _, s := range sources(t) {
		if s.test() {
			for _, m := range regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)\w+)\(`).FindAllSubmatch(s.raw, -1) {
				have[string(m[1])] = true
			}
		}
	}
	names := regexp.MustCompile("`((?:Test|Fuzz)\\w+)").FindAllSubmatch(raw, -1)
	if len(names) < 15 {
		t.Fatalf("SECURITY.md names only %d tests", len(names))
	}
	for _, m := range names {
		if !have[string(m[1])] {
			t.Errorf("SECURITY.md names %s, which does not exist", m[1])
		}
	}
}
