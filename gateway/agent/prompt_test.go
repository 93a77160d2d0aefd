package agent

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"openclaw/reload/config"
)

func TestSystemPrompt(t *testing.T) {
	put := func(name, text string) func(*testing.T, string) {
		return func(t *testing.T, dir string) {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	link := func(to, name string) func(*testing.T, string) {
		return func(t *testing.T, dir string) {
			if err := os.Symlink(to, filepath.Join(dir, name)); err != nil {
				t.Fatal(err)
			}
		}
	}
	secret := filepath.Join(t.TempDir(), "secret")
	put("secret", "never shown")(t, filepath.Dir(secret))
	const head = `You are Bob, agent "bob" of an OpenClaw gateway.`
	for _, c := range []struct {
		name  string
		files []func(*testing.T, string)
		want  string // the files' part
	}{
		{"none", nil, ""},
		{"in order, empty ones left out", []func(*testing.T, string){put("TOOLS.md", "t\n"), put("AGENTS.md", "\n a"), put("SOUL.md", " \n"), put("OTHER.md", "o")},
			"## AGENTS.md\n\na\n\n## TOOLS.md\n\nt"},
		{"link inside", []func(*testing.T, string){put("x", "linked"), link("x", "USER.md")}, "## USER.md\n\nlinked"},
		{"link outside", []func(*testing.T, string){link(secret, "USER.md"), link("../secret", "SOUL.md"), link("/dev/zero", "TOOLS.md")}, ""},
		{"FIFO, directory and device", []func(*testing.T, string){
			func(t *testing.T, dir string) {
				if err := syscall.Mkfifo(filepath.Join(dir, "AGENTS.md"), 0o600); err != nil {
					t.Fatal(err)
				}
			},
			func(t *testing.T, dir string) { os.Mkdir(filepath.Join(dir, "SOUL.md"), 0o700) },
			link("AGENTS.md", "USER.md"), put("TOOLS.md", "t"),
		}, "## TOOLS.md\n\nt"},
		{"not UTF-8", []func(*testing.T, string){put("AGENTS.md", "a\xff\xfeb")}, "## AGENTS.md\n\nab"},
		{"too long", []func(*testing.T, string){put("AGENTS.md", strings.Repeat("a", maxPromptFile+1))},
			"## AGENTS.md\n\n" + strings.Repeat("a", maxPromptFile) + "\n\n[AGENTS.md is longer; the rest was left out]"},
		{"just fits", []func(*testing.T, string){put("AGENTS.md", strings.Repeat("a", maxPromptFile))}, "## AGENTS.md\n\n" + strings.Repeat("a", maxPromptFile)},
		{"cut in a character", []func(*testing.T, string){put("AGENTS.md", strings.Repeat("a", maxPromptFile-1)+"ü")},
			"## AGENTS.md\n\n" + strings.Repeat("a", maxPromptFile-1) + "\n\n[AGENTS.md is longer; the rest was left out]"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			for _, f := range c.files {
				f(t, dir)
			}
			agent := config.ResolvedAgent{ID: "bob", Name: "Bob", SystemPrompt: "Be brief. "}
			want := "Be brief.\n\n" + head
			if c.want != "" {
				want += "\n\n" + c.want
			}
			want += "\n\nmore"
			done := make(chan string)
			go func() { done <- systemPrompt(agent, dir, " more") }()
			select {
			case got := <-done:
				if got != want {
					t.Errorf("got %.200q (%d), want %.200q (%d)", got, len(got), want, len(want))
				}
			case <-time.After(30 * time.Second):
				t.Fatal("blocked")
			}
		})
	}
	for _, dir := range []string{"", "relative", filepath.Join(t.TempDir(), "missing"), secret} {
		if got := systemPrompt(config.ResolvedAgent{ID: "bob", Name: "Bob"}, dir, ""); got != head {
			t.Errorf("%q: %q", dir, got)
		}
	}
}

// All files together are bounded too.
func TestPromptFilesInAll(t *testing.T) {
	dir := t.TempDir()
	for _, name := range promptFiles {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(strings.Repeat("x", maxPromptFile)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	n := 0
	var names []string
	for _, f := range workspaceFiles(dir) {
		n += strings.Count(f.text, "x")
		names = append(names, f.name)
	}
	if n != maxPromptFiles || fmt.Sprint(names) != "[AGENTS.md SOUL.md IDENTITY.md]" {
		t.Error(n, names)
	}
}
