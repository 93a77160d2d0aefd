package agent

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"openclaw/reload/config"
)

// Workspace files that join the system prompt, in this order.
var promptFiles = [...]string{"AGENTS.md", "SOUL.md", "IDENTITY.md", "USER.md", "TOOLS.md"}

const (
	maxPromptFile  = 32 << 10 // bytes of one workspace file
	maxPromptFiles = 96 << 10 // bytes of all
)

// systemPrompt is what a model is told before the conversation. It says
// nothing that changes by itself, such as the time: providers cache prompts by
// their beginning.
func systemPrompt(agent config.ResolvedAgent, workspace, more string) string {
	var b strings.Builder
	add := func(text string) {
		if text = strings.TrimSpace(text); text != "" {
			if b.Len() > 0 {
				b.WriteString("\n\n")
			}
			b.WriteString(text)
		}
	}
	add(agent.SystemPrompt)
	add(fmt.Sprintf("You are %s, agent %q of an OpenClaw gateway.", agent.Name, agent.ID))
	for _, f := range workspaceFiles(workspace) {
		add("## " + f.name + "\n\n" + f.text)
	}
	add(more)
	return b.String()
}

type promptFile struct{ name, text string }

// workspaceFiles reads the prompt files that there are. What is missing, empty
// or not readable as a regular file below the workspace is left out: a prompt
// without it is better than no answer.
func workspaceFiles(workspace string) []promptFile {
	if !filepath.IsAbs(workspace) {
		return nil
	}
	root, err := os.OpenRoot(workspace)
	if err != nil {
		return nil
	}
	defer root.Close()
	var files []promptFile
	room := maxPromptFiles
	for _, name := range promptFiles {
		text, cut, err := readPromptFile(root, name, min(maxPromptFile, room))
		if err != nil || text == "" {
			continue
		}
		room -= len(text)
		if cut {
			text += fmt.Sprintf("\n\n[%s is longer; the rest was left out]", name)
		}
		files = append(files, promptFile{name, text})
	}
	return files
}

// readPromptFile reads at most limit bytes of a regular file. Links that stay
// below root are followed, others are refused by os.Root.
func readPromptFile(root *os.Root, name string, limit int) (text string, cut bool, err error) {
	// Whoever may write in the workspace may put a FIFO there, which would be
	// waited for without O_NONBLOCK, or a device, whose opening may do
	// something: so look first, open without waiting, and look again.
	fi, err := root.Stat(name)
	if err != nil {
		return "", false, err
	}
	if !fi.Mode().IsRegular() {
		return "", false, syscall.EINVAL
	}
	f, err := root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return "", false, err
	}
	defer f.Close()
	if fi, err = f.Stat(); err != nil || !fi.Mode().IsRegular() {
		return "", false, syscall.EINVAL
	}
	data, err := io.ReadAll(io.LimitReader(f, int64(limit)+1))
	if err != nil {
		return "", false, err
	}
	if cut = len(data) > limit; cut {
		data = data[:limit]
	}
	return strings.TrimSpace(strings.ToValidUTF8(string(data), "")), cut, nil
}
