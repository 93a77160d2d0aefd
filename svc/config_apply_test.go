package svc

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"openclaw/gateway/store"
	"openclaw/wire"
)

// TestConfigApply writes the file of a gateway that runs, and says what that
// made of it.
func TestConfigApply(t *testing.T) {
	const (
		port    = "set gateway.port 18800"
		level   = "set logging.level debug"
		applied = `{"ok":true,"hash":"h","changes":[],"applied":["logging.level"],"pending":[]}`
		restart = `{"ok":true,"hash":"h","changes":[{"path":"gateway.port","class":"restart"}],"applied":["x"],"pending":["gateway.port"],"restart":true}`
		seen    = `{"ok":true,"hash":"h","changes":[],"applied":[],"pending":[]}`
		waits   = "openclaw: gateway.hotReload.mode is %: the running gateway waits for openclaw gateway reload\n"
		stays   = "openclaw: written, but the running gateway cannot use it and goes on as it was: "
	)
	for _, k := range []struct {
		name, mode, line string
		answer           string // to gateway.reload; ! refuses it with a reason, !! with problems, "" is silence
		code             int
		out, err         string
		want             configApplied
	}{
		{"hot", "hybrid", level, applied, 0, "logging.level: hot\napplied by the running gateway\n", "", configApplied{Running: true, Applied: []string{"logging.level"}}},
		{"by the watcher already", "hybrid", level, seen, 0, "logging.level: hot\napplied by the running gateway\n", "", configApplied{Running: true}},
		{"restart", "hybrid", port, restart, 0, "gateway.port: restart\nthe running gateway restarts for: gateway.port\n", "", configApplied{Running: true, Applied: []string{"x"}, Pending: []string{"gateway.port"}, Restart: true}},
		{"refused", "hybrid", port, "!invalid config: cannot restart: port 18800 is taken", 1, "gateway.port: restart\n", stays + "cannot restart: port 18800 is taken\n", configApplied{Running: true, Error: "cannot restart: port 18800 is taken"}},
		{"problems", "restart", port, "!!", 1, "gateway.port: restart\n", stays + "3:5: gateway.prot: unknown key and 1 more problem\n", configApplied{Running: true, Error: "3:5: gateway.prot: unknown key and 1 more problem"}},
		{"off", "off", level, "", 0, "logging.level: hot\n", strings.Replace(waits, "%", "off", 1), configApplied{Running: true, Pending: []string{"logging.level"}}},
		{"a restart in mode hot", "hot", port, restart, 0, "gateway.port: restart\n", strings.Replace(waits, "%", "hot", 1), configApplied{Running: true, Pending: []string{"gateway.port"}}},
		{"an older one in mode hot", "hot", level, restart, 0, "logging.level: hot\n", strings.Replace(waits, "%", "hot", 1), configApplied{Running: true, Pending: []string{"gateway.port"}}},
		{"hot in mode hot", "hot", level, applied, 0, "logging.level: hot\napplied by the running gateway\n", "", configApplied{Running: true, Applied: []string{"logging.level"}}},
		{"going down", "hybrid", level, "!gateway is shutting down", 0, "logging.level: hot\nthe running gateway will notice\n", "", configApplied{Running: true}},
		{"nothing written", "hybrid", "set gateway.port 18789", "", 0, "no change\n", "", configApplied{}},
		{"dry", "hybrid", level + " --dry-run", "", 0, "logging.level: hot\n", "", configApplied{}},
		{"no gateway", "", level, "", 0, "logging.level: hot\n", "", configApplied{}},
		{"another file's", "elsewhere", level, "", 0, "logging.level: hot\n", "", configApplied{}},
	} {
		t.Run(k.name, func(t *testing.T) {
			asked := make(chan wire.ReloadQuery, 4)
			g := newFakeGateway(t, func(req wire.Request, send func([]byte)) {
				var q wire.ReloadQuery
				refused := wire.InvalidRequest("invalid config")
				switch {
				case req.Method == "status":
					send(wire.AppendResponse(nil, req.ID, []byte(`{"config":{"mode":"`+k.mode+`"}}`)))
					return
				case wire.DecodeLoose(req.Params, &q) != nil || req.Method != "gateway.reload":
					t.Error(req.Method)
				}
				asked <- q
				switch {
				case k.answer == "!!":
					refused.Details = map[string]any{"issues": []wire.ConfigIssue{{Path: "gateway.prot", Line: 3, Column: 5, Message: "unknown key"}, {Path: "x", Message: "no value"}}}
				case k.answer[0] == '!':
					refused = wire.InvalidRequest("%s", k.answer[1:])
				default:
					send(wire.AppendResponse(nil, req.ID, []byte(k.answer)))
					return
				}
				send(wire.AppendError(nil, req.ID, refused, nil))
			})
			for _, asJSON := range []bool{false, true} {
				c := newConsole(t)
				c.vars["GW"] = "5f0a7c3e91b24d68a7c0e3f1d2b49586"
				c.vars["OPENCLAW_GATEWAY_TOKEN"] = "not the key of ours"
				path := write(t, filepath.Join(c.Home, ".openclaw", "openclaw.json"), commented)
				if k.mode != "" {
					d, err := store.Open(filepath.Dir(path))
					if err != nil {
						t.Fatal(err)
					}
					defer d.Close()
					i := store.Instance{Addr: g.Listener.Addr().String(), Port: 1, CLIKey: "right", ConfigPath: path}
					if k.mode == "elsewhere" {
						i.ConfigPath += "5"
					}
					if err := d.Publish(i); err != nil {
						t.Fatal(err)
					}
				}
				argv := append([]string{"config"}, strings.Fields(k.line)...)
				if asJSON {
					argv = append(argv, "--json")
				}
				code := c.main(argv...)
				var out configWritten
				if code != k.code || c.err.String() != k.err || !asJSON && c.out.String() != k.out || asJSON && json.Unmarshal(c.out.Bytes(), &out) != nil {
					t.Fatalf("exit %d\nstdout %q\nstderr %q", code, c.out.String(), c.err.String())
				}
				if raw, _ := os.ReadFile(path); (string(raw) != commented) != (out.Written || !asJSON && k.name != "dry" && k.name != "nothing written") {
					t.Errorf("the file is %q", raw)
				}
				if !asJSON {
					continue
				}
				if out.Gateway == nil {
					out.Gateway = &configApplied{Applied: []string{}, Pending: []string{}}
				}
				k.want.Applied, k.want.Pending = append([]string{}, k.want.Applied...), append([]string{}, k.want.Pending...)
				if !reflect.DeepEqual(*out.Gateway, k.want) || out.OK != (k.code == 0) || (out.Error != nil) != (k.code != 0) {
					t.Errorf("%+v", out.Gateway)
				}
			}
			if k.mode == "hot" {
				if q := <-asked; !q.DryRun {
					t.Error("a restart was asked for")
				}
			}
			if k.mode != "hot" && k.answer == "" && len(asked) > 0 {
				t.Error("was told")
			}
		})
	}
}
