package svc

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"openclaw/gateway/store"
	"openclaw/reload/config"
	"openclaw/svc/unit"
)

// tokenCredential is the credential that a first configuration names.
const tokenCredential = "gateway-token"

// prepare checks what no configuration can change, and makes what a unit needs before it can be written: somebody to talk
// to, and for a system unit a user and a first configuration.
func (s *service) prepare(ctx context.Context, a *Args) error {
	program, err := s.m.program(s.e)
	if err == nil {
		err = s.m.sharedProgram(program, s.t.System())
	}
	if err == nil {
		_, err = s.render(true) // what can never be rendered leaves no trace
	}
	if err != nil {
		return err
	}
	if a.Has("enable-linger") {
		if err := s.linger(ctx); err != nil {
			return err
		}
	}
	if err := s.sup.reach(ctx); err != nil {
		return err
	}
	if !s.p.System {
		return nil
	}
	gid, err := s.ensureUser(ctx)
	if err != nil {
		return err
	}
	if _, err = store.ReadConfigFile(s.p.ConfigPath, config.MaxFile, false); errors.Is(err, fs.ErrNotExist) {
		return s.firstConfig(gid)
	}
	return err
}

// linger has logind start this user's manager now and at every boot.
func (s *service) linger(ctx context.Context) error {
	if s.t != unit.SystemdUser {
		return usage("--enable-linger is for a systemd user unit; this is %s", s.t)
	}
	if s.m.lingers() {
		return nil
	}
	if _, err := s.m.run(ctx, tool{name: "loginctl", args: []string{"--no-ask-password", "enable-linger", "--", s.m.user}}); err != nil {
		return asError(err, "sudo "+s.m.lingerCommand())
	}
	s.did("%s", s.m.lingerCommand())
	for range 50 { // the manager comes up by itself
		if _, err := s.m.runtimeDir(s.e); err == nil && s.sup.reach(ctx) == nil {
			break
		}
		if err := s.m.pause(ctx, 100*time.Millisecond); err != nil {
			return err
		}
	}
	return nil
}

// ensureUser makes the user that the service runs as where there is none, and
// returns its group.
func (s *service) ensureUser(ctx context.Context) (gid int, err error) {
	a, err := s.m.account(serviceUser)
	if err == nil {
		return a.GID, nil
	}
	home := "/var/lib/openclaw"
	_, err = s.m.run(ctx, tool{name: "systemd-sysusers", args: []string{"--inline", fmt.Sprintf(`u %s - "OpenClaw Gateway" %s`, serviceUser, home)}})
	if err != nil { // not on every system, and --inline not in every version
		first := err
		if _, err = s.m.run(ctx, tool{name: "useradd", args: []string{"--system", "--user-group", "--no-create-home", "--home-dir", home, "--shell", "/usr/sbin/nologin", serviceUser}}); err != nil {
			return 0, asError(errors.Join(first, err), "make a system user and group called "+serviceUser+", then again")
		}
	}
	if a, err = s.m.account(serviceUser); err != nil {
		return 0, fmt.Errorf("the user was made and is not there: %w", err)
	}
	s.did("made the system user %s", serviceUser)
	return a.GID, nil
}

// firstConfig writes a configuration that the service's user may read and only
// root may change, and the token where systemd gets it for the service.
func (s *service) firstConfig(gid int) error {
	token := filepath.Join(s.p.Credentials(), tokenCredential)
	if err := store.EnsureDir(filepath.Dir(s.p.ConfigPath), 0o755); err != nil {
		return err
	}
	if err := store.EnsureDir(s.p.Credentials(), 0o700); err != nil {
		return err
	}
	switch old, err := store.ReadUnitFile(token); {
	case err != nil:
		return err
	case old == nil:
		secret := make([]byte, 32)
		rand.Read(secret) // never fails, says crypto/rand
		if err := store.PlaceUnitFile(token, []byte(hex.EncodeToString(secret)+"\n"), 0o600, -1, false); err != nil {
			return err
		}
		s.did("wrote %s with a new token", token)
	}
	port := s.u.Port
	if port == 0 {
		port = profilePort(s.p.Profile)
	}
	text := config.Setup{Token: "credential:" + tokenCredential, Port: port, Workspace: s.m.bare(s.p.Workspace)}.Text()
	if err := store.PlaceUnitFile(s.p.ConfigPath, text, 0o640, gid, false); err != nil {
		return err
	}
	s.did("wrote %s", s.p.ConfigPath)
	return nil
}

// resolve loads the configuration as the service will, without the variables
// and, for a user's unit, the files that only this shell has.
func (s *service) resolve() (*config.Loaded, error) {
	env := map[string]string{"HOME": s.u.Home, "OPENCLAW_PROFILE": s.p.Profile, "OPENCLAW_STATE_DIR": s.p.StateDir, "OPENCLAW_CONFIG_PATH": s.p.ConfigPath}
	if s.t == unit.SystemdSystem {
		env["CREDENTIALS_DIRECTORY"] = s.p.Credentials()
	}
	l, err := config.Load(config.Source{Path: s.p.ConfigPath, ReadFile: store.ReadConfigFile,
		Env: func(name string) (string, bool) { v, ok := env[name]; return v, ok }})
	if err == nil && !l.Config.Gateway.Auth.Missing() {
		return l, s.unseen(l)
	}
	mine, mineErr := s.e.Load(s.p.ConfigPath)
	if mineErr != nil {
		return l, s.e.BadConfig(s.p.ConfigPath, mineErr)
	}
	auth := mine.Config.Gateway.Auth
	key, name := auth.SecretKey(), auth.SecretVar()
	if auth.Missing() {
		return l, &Error{Code: "NO_SECRET", Exit: ExitConfig, Msg: fmt.Sprintf("%s is not set in %s, and a gateway does not start without a secret", key, s.p.ConfigPath),
			Hint: s.e.Command("config set " + key + " - < FILE")}
	}
	out := &Error{Code: "NEEDS_ENVIRONMENT", Exit: ExitConfig, Msg: "the service would not have the variables of this shell, and they are not written into a unit"}
	var ps config.Problems
	if errors.As(err, &ps) {
		out.Msg += "\n" + ps.Error()
		key = ps[0].Path
		if m := variable.FindStringSubmatch(ps[0].Msg); m != nil {
			name = m[1]
		}
	} else {
		out.Msg += fmt.Sprintf("\n%s: only %s holds it", key, name)
	}
	if !secretKey.MatchString(key) {
		out.Hint = fmt.Sprintf(`write the value into the configuration: %s "$%s"`, s.e.Command("config set "+shellQuote(key)), name)
		return l, out
	}
	file := shellQuote(filepath.Join(s.p.StateDir, strings.ToLower(strings.ReplaceAll(name, "_", "-"))))
	out.Hint = fmt.Sprintf("put it into a file that is yours alone: (umask 077; printenv %s > %s) && %s", name, file, s.e.Command("config set "+shellQuote(key)+" file:"+file))
	return l, out
}

var (
	variable  = regexp.MustCompile(`\$\{([A-Z_][A-Z0-9_]*)\}`)
	secretKey = regexp.MustCompile(`(token|password|apiKey|headers\..*)$`)
)

// unseen names a file of the configuration that the unit hides from the gateway.
func (s *service) unseen(l *config.Loaded) error {
	var hidden, open []string
	switch s.t {
	case unit.SystemdUser:
		hidden, open = []string{"/home", "/root", "/run/user", "/tmp", "/var/tmp", s.p.Home}, append([]string{s.p.StateDir, filepath.Dir(s.p.ConfigPath)}, s.u.Workspaces...)
	case unit.SystemdSystem:
		hidden = []string{"/home", "/root", "/run/user", "/tmp", "/var/tmp"}
	default:
		return nil
	}
	files := []string{l.Config.Gateway.TLS.CertPath, l.Config.Gateway.TLS.KeyPath, l.Config.Logging.File}
	for _, text := range stringsOf(l.Root) {
		if path, ok := strings.CutPrefix(text, "file:"); ok && !strings.Contains(path, "${") {
			if !filepath.IsAbs(path) && !strings.HasPrefix(path, "~") {
				path = filepath.Join(filepath.Dir(s.p.ConfigPath), path)
			}
			files = append(files, path)
		}
	}
	for _, path := range files {
		if path = s.p.Expand(path); path != "" && below(hidden, path) && !below(open, path) {
			return &Error{Code: "HIDDEN", Exit: ExitConfig, Msg: fmt.Sprintf("the service does not see %s: its unit hides home directories and /tmp but for the state directory", path),
				Hint: "move it into " + s.p.StateDir + " and name it there"}
		}
	}
	return nil
}

func below(dirs []string, path string) bool {
	return slices.ContainsFunc(dirs, func(dir string) bool {
		rel, err := filepath.Rel(dir, path)
		return err == nil && filepath.IsLocal(rel)
	})
}
