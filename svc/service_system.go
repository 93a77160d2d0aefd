package svc

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"time"

	"openclaw/gateway/store"
	"openclaw/reload/config"
	"openclaw/svc/unit"
)

// tokenCredential is the credential that a first configuration names.
const tokenCredential = "gateway-token"

// prepare makes what a unit needs before it can be written: somebody to talk
// to, and for a system unit a user and a first configuration.
func (s *service) prepare(ctx context.Context, a *Args) error {
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
	if gid, err = s.m.account(serviceUser); err == nil {
		return gid, nil
	}
	home := "/var/lib/openclaw"
	_, err = s.m.run(ctx, tool{name: "systemd-sysusers", args: []string{"--inline", fmt.Sprintf(`u %s - "OpenClaw Gateway" %s`, serviceUser, home)}})
	if err != nil { // not on every system, and --inline not in every version
		first := err
		if _, err = s.m.run(ctx, tool{name: "useradd", args: []string{"--system", "--user-group", "--no-create-home", "--home-dir", home, "--shell", "/usr/sbin/nologin", serviceUser}}); err != nil {
			return 0, asError(errors.Join(first, err), "make a system user and group called "+serviceUser+", then again")
		}
	}
	if gid, err = s.m.account(serviceUser); err != nil {
		return 0, fmt.Errorf("the user was made and is not there: %w", err)
	}
	s.did("made the system user %s", serviceUser)
	return gid, nil
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
