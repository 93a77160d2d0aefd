package svc

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"openclaw/gateway/store"
	"openclaw/reload/config"
)

// household is a home where a gateway of profile work runs beside one that is
// only configured and one whose configuration is broken.
func household(t *testing.T) *console {
	c := newConsole(t)
	for name, text := range map[string]string{
		".openclaw":        `{gateway:{port:20000},agents:{defaults:{workspace:"~/.openclaw-idle/workspace/deep"}}}`,
		".openclaw-work":   `{gateway:{port:20050}}`,
		".openclaw-idle":   `{gateway:{port:20200,auth:{token:"${THEIR_TOKEN}"}}}`,
		".openclaw-broken": "{\n  gateway: { prot hush-hush",
		".openclaw-none":   "",
	} {
		dir := filepath.Join(c.Home, name)
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		if text == "" {
			continue
		}
		if err := os.WriteFile(filepath.Join(dir, "openclaw.json"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	d, err := store.Open(filepath.Join(c.Home, ".openclaw-work"))
	if err == nil {
		err = d.Publish(store.Instance{PID: 123, Port: 20060, Version: "v9", CLIKey: "hush-hush"})
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return c
}

// TestOthers: our own gateway need not run to be told what it shares.
func TestOthers(t *testing.T) {
	c := household(t)
	if code := c.main("gateway", "status", "--deep", "--no-probe", "--json"); code != 0 {
		t.Fatalf("exit %d: %s", code, &c.err)
	}
	var report struct {
		Process struct{ Running bool }
		Others  []config.Neighbour
	}
	if err := json.Unmarshal(c.out.Bytes(), &report); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, n := range report.Others {
		line := fmt.Sprintf("%s %v %d %d %s", n.Profile, n.Running, n.PID, n.Port, n.Version)
		for _, o := range n.Shares {
			line += " " + o.What
		}
		if n.Error != "" {
			line += " error"
		}
		if n.StateDir != filepath.Join(c.Home, ".openclaw-"+n.Profile) || n.ConfigPath != filepath.Join(n.StateDir, "openclaw.json") {
			t.Errorf("places of %s: %s, %s", n.Profile, n.StateDir, n.ConfigPath)
		}
		got = append(got, line)
	}
	want := "broken false 0 0  error|idle false 0 20200  workspace|work true 123 20060 v9 ports"
	if strings.Join(got, "|") != want || report.Process.Running {
		t.Errorf("got  %s\nwant %s", strings.Join(got, "|"), want)
	}
	if strings.Contains(c.out.String()+c.err.String(), "hush") {
		t.Errorf("tells a secret or what is in a file:\n%s", &c.out)
	}

	c.main("gateway", "status", "--deep") // fails: nobody answers
	for _, want := range []string{
		"\nothers       profile broken: configured, not running\n",
		"openclaw.json:2:",
		"\n             profile idle: configured, not running, port 20200\n",
		"/deep lies in the workspace ",
		"\n             profile work: running, pid 123, port 20060, version v9\n",
		"\n             shared: port block 20000-20110 meets the block 20060-20170 of the gateway of profile work (pid 123, port 20060): choose a gateway.port at least 111 apart\n",
	} {
		if !strings.Contains(c.out.String(), want) {
			t.Errorf("want %q:\n%s", want, &c.out)
		}
	}

	c.vars["OPENCLAW_GATEWAY_PORT"] = "20300"
	c.main("gateway", "status", "--deep", "--no-probe")
	if s := c.out.String(); strings.Contains(s, "20060-") || !strings.Contains(s, "20300-20410 meets the block 20200-20310 of profile idle") {
		t.Errorf("the environment's port:\n%s", s)
	}
}

// TestOthersFromRunning compares the port that the profile's own gateway has,
// which is not the one in its file.
func TestOthersFromRunning(t *testing.T) {
	c := household(t)
	c.main("--profile", "work", "gateway", "status", "--deep", "--no-probe")
	if s := c.out.String(); !strings.Contains(s, "block 20060-20170 meets the block 20000-20110 of profile default, which is configured but not running") {
		t.Errorf("%s", s)
	}
}

// TestNoOthers: with --deep the list is there and empty, without there is none.
func TestNoOthers(t *testing.T) {
	c := newConsole(t)
	for deep, want := range map[string]string{"--deep": `"others": []`, "--deep=false": ""} {
		c.main("gateway", "status", "--no-probe", "--json", deep)
		if s := c.out.String(); !strings.Contains(s, want) || strings.Contains(s, "others") != (want != "") {
			t.Errorf("%s: %s", deep, s)
		}
	}
	c.main("gateway", "status", "--deep", "--no-probe")
	if s := c.out.String(); !strings.Contains(s, "others       no other gateway of this user\n") {
		t.Errorf("%s", s)
	}
}
