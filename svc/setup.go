package svc

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/fnv"
	"io/fs"
	"path/filepath"
	"strings"

	"openclaw/gateway/store"
	"openclaw/reload/config"
)

// setup makes a profile: state directory, workspace, and a configuration with
// a random token. It never touches one that exists.
func setup(_ context.Context, e *Env, a *Args) error {
	p, err := e.Paths()
	if err != nil {
		return err
	}
	port, err := a.Port()
	if err != nil {
		return err
	}
	if port == 0 {
		port = profilePort(p.Profile)
	}
	if err := create(p, port); err != nil {
		return err
	}
	next := []string{e.Command("gateway"), e.Command("health"), e.Command(`agent -m "Hello"`)}
	if e.JSON {
		return e.printJSON(map[string]any{"ok": true, "config": p.ConfigPath, "stateDir": p.StateDir, "workspace": p.Workspace, "port": port, "next": next})
	}
	e.printf("wrote %s with a new token\n\nNext:\n", oneLine(p.ConfigPath))
	for _, line := range next {
		e.printf("  %s\n", oneLine(line))
	}
	return nil
}

// profilePort gives each profile a block of ports of its own, from its name,
// so that two profiles rarely need to be told apart by hand.
func profilePort(profile string) int {
	switch profile {
	case "":
		return config.DefaultPort
	case "dev":
		return config.DevPort
	}
	h := fnv.New32a()
	h.Write([]byte(profile))
	return config.DevPort + config.DevPortStep*(1+int(h.Sum32()%100))
}

// create writes a first configuration. The state directory is locked
// meanwhile, so of two that set up at once one is refused.
func create(p config.Paths, port int) error {
	d, err := store.Open(p.StateDir)
	if err != nil {
		return err
	}
	defer d.Close()
	switch _, err := store.ReadConfigFile(p.ConfigPath, 1<<30, false); {
	case err == nil:
		return &Error{Code: "EXISTS", Msg: "there is a configuration already: " + p.ConfigPath, Hint: "setup never overwrites; edit the file, or move it away"}
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	if err := d.EnsureWorkspace(p.Workspace); err != nil {
		return err
	}
	token := make([]byte, 32)
	rand.Read(token) // never fails, says crypto/rand
	return store.ReplaceFile(p.ConfigPath, config.Setup{Token: hex.EncodeToString(token), Port: port}.Text())
}

// PrepareDev makes the dev profile where it is missing, after removing all of
// it when reset is set. Only the profile's own directory is ever removed:
// neither one that a variable names nor one that a link leads to.
func (e *Env) PrepareDev(reset bool) error {
	p, err := e.Paths()
	if err != nil {
		return err
	}
	if reset {
		if err := wipeDev(p); err != nil {
			return err
		}
		e.Warn("removed everything in %s", p.StateDir)
	}
	if err := create(p, config.DevPort); err != nil {
		var locked *store.LockedError
		var exists *Error
		if !errors.As(err, &locked) && !(errors.As(err, &exists) && exists.Code == "EXISTS") { // Both are the gateway's to deal with.
			return err
		}
	}
	return nil
}

func wipeDev(p config.Paths) error {
	home, err := filepath.EvalSymlinks(p.Home)
	if err != nil {
		return fmt.Errorf("reset: %w", err)
	}
	own := filepath.Join(home, ".openclaw-dev")
	real, err := filepath.EvalSymlinks(p.StateDir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("reset: %w", err)
	}
	if !p.Dev || p.Home == "" || real != own {
		return usage("--reset removes %s and nothing else; the state directory is %s", own, real)
	}
	d, err := store.Open(real)
	if err != nil {
		return fmt.Errorf("reset: %w", err)
	}
	defer d.Close()
	if err := d.Wipe(); err != nil {
		return fmt.Errorf("reset: %w", err)
	}
	return nil
}

// Greet tells where the dev gateway listens and what to try, in commands that
// work as printed. The token goes from one program to the other: it stands
// neither on the screen nor in a process list.
func (e *Env) Greet(addr string) {
	e.printf("The dev gateway listens on http://%s and ws://%s.\nState: %s\n\nTry in another terminal:\n", addr, addr, oneLine(e.paths.StateDir))
	for _, c := range []string{
		e.Command("health"),
		e.Command(`agent -m "Hello"`),
		e.Command("gateway auth-token --header") + ` | curl -sS -H @- -H 'Content-Type: application/json' -d '{"model":"openclaw","messages":[{"role":"user","content":"Hello"}]}' http://` + addr + "/v1/chat/completions",
	} {
		e.printf("  %s\n", oneLine(c))
	}
	e.printf("\nCtrl-C ends it.\n")
}

// authToken hands the gateway's secret to another program.
func authToken(_ context.Context, e *Env, a *Args) error {
	p, err := e.Paths()
	if err != nil {
		return err
	}
	if e.OutTTY && !a.Has("show-secrets") {
		return &Error{Code: "USAGE", Exit: ExitUsage, Msg: "a secret is not for the screen: pipe it into a program, or add --show-secrets"}
	}
	l, err := e.Load(p.ConfigPath)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return e.BadConfig(p.ConfigPath, err)
	}
	mode, secret := "token", ""
	if l != nil {
		mode, secret = l.Config.Gateway.Auth.Mode, l.Config.Gateway.Auth.Secret().Reveal()
	}
	if secret == "" { // what --allow-unconfigured made
		raw, err := store.ReadSecretFile(filepath.Join(p.StateDir, "gateway.token"), maxSecretFile)
		if err != nil {
			return &Error{Code: "CONFIG_MISSING", Msg: "no secret is configured for this profile", Hint: e.Command("setup")}
		}
		secret = strings.TrimSpace(string(raw))
	}
	switch {
	case e.JSON:
		return e.printJSON(map[string]any{"mode": mode, "secret": secret})
	case a.Has("header"):
		return e.printf("Authorization: Bearer %s\n", secret)
	}
	return e.printf("%s\n", secret)
}
