package svc

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"openclaw/gateway/channel/whatsapp"
	"openclaw/reload/config"
	"openclaw/svc/unit"
)

// npmHost is a host whose Node.js is ours: it tells a version, and as npm makes files.
type npmHost struct {
	told  string
	files map[string]string
	err   error
	npm   []tool
}

func (h *npmHost) run(_ context.Context, t tool) (string, error) {
	if slices.Equal(t.args, whatsapp.NodeAsks) {
		return h.told, nil
	}
	h.npm = append(h.npm, t)
	for name, text := range h.files {
		path := filepath.Join(t.dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o644)); err != nil {
			return "", err
		}
	}
	return "", h.err
}

// TestChannelsInstall: npm is called in one way, with what it needs of the
// environment; what it brings is refused unless it is what this version knows,
// and nothing of a refusal stays.
func TestChannelsInstall(t *testing.T) {
	e := newConsole(t)
	bin := t.TempDir()
	node := filepath.Join(bin, "node")
	for name, mode := range map[string]os.FileMode{"node": 0o755, "npm": 0o755, "loose": 0o777} {
		if err := errors.Join(os.WriteFile(filepath.Join(bin, name), []byte("#!/bin/false\n"), mode), os.Chmod(filepath.Join(bin, name), mode)); err != nil {
			t.Fatal(err)
		}
	}
	h := &npmHost{told: `["22.1.0",["--experimental-permission"]]`, files: map[string]string{"node_modules/baileys/package.json": "{}", "node_modules/.package-lock.json": "npm's"}}
	e.Env.host = &machine{run: h.run}
	e.vars["NODE_OPTIONS"], e.vars["npm_config_registry"] = "--require=/evil", "https://registry.example/"

	refuse := func(says string, args ...string) {
		t.Helper()
		if code := e.main(append([]string{"channels", "install", "whatsapp", "--json"}, args...)...); code == 0 || !strings.Contains(e.err.String(), says) || !json.Valid(e.out.Bytes()) {
			t.Errorf("%v: exit %d: %s%s", args, code, e.out.String(), e.err.String())
		}
	}
	refuse("this version was built for "+whatsapp.Embedded().Sum, "--node", node)
	if len(h.npm) != 1 {
		t.Fatalf("%d calls of npm", len(h.npm))
	}
	call := h.npm[0]
	if args := strings.Join(call.args, " "); !strings.HasPrefix(args, filepath.Join(bin, "npm")+" ci --legacy-peer-deps --ignore-scripts ") || call.path != node {
		t.Errorf("%s %s", call.path, args)
	}
	if env := strings.Join(call.env, "\n"); strings.Contains(env, "NODE_OPTIONS") || !strings.Contains(env, "npm_config_registry=https://registry.example/") {
		t.Error(env)
	}
	if left, err := os.ReadDir(filepath.Join(e.paths.StateDir, "cache")); err != nil || len(left) != 0 {
		t.Errorf("left: %v %v", left, err)
	}
	h.err = &toolError{tool: call, why: "E404 not found"}
	refuse("E404 not found", "--node", node)
	h.told = `["18.20.0",["--experimental-permission"]]`
	refuse("20 or newer is needed", "--node", node)
	h.told = `["22.0.0",[]]`
	refuse("no permission model", "--node", node)
	h.told = "hello"
	refuse("is no Node.js", "--node", node)
	refuse("may change it", "--node", filepath.Join(bin, "loose"))
	refuse("needs Node.js", "--node", filepath.Join(bin, "none"))
	refuse("not an absolute path", "--node", "node")
	if code := e.main("channels", "install", "telegram"); code != ExitUsage || !strings.Contains(e.err.String(), "needs nothing installed") {
		t.Errorf("telegram: exit %d: %s", code, e.err.String())
	}
}

// TestUnitOfWhatsApp: where the channel is configured the unit lets Node.js run.
func TestUnitOfWhatsApp(t *testing.T) {
	e := newConsole(t)
	for channels, node := range map[string]bool{`{}`: false, `{whatsapp: {}}`: true, `{whatsapp: {enabled: false}}`: false, `{mine: {kind: "process", command: ["/bin/true"]}}`: false} {
		l, err := config.Parse("t", []byte(`{gateway: {auth: {token: "7d1f0b6c2a9e48f35b60c7d8e1f2a3b4c5d6e7f8"}}, channels: `+channels+`}`), config.Source{})
		if err != nil {
			t.Fatal(err)
		}
		p := config.Paths{Home: "/home/ada", StateDir: "/home/ada/.openclaw", ConfigPath: "/home/ada/.openclaw/openclaw.json"}
		if u := e.describe(unit.SystemdUser, p, 0, l.Config); u.Node != node {
			t.Errorf("%s: %v", channels, u.Node)
		}
	}
}
