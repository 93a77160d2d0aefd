package svc

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"time"

	"openclaw/gateway/store"
	"openclaw/reload/config"
)

// backupReport is what the backup commands print with --json.
type backupReport struct {
	OK          bool               `json:"ok"`
	File        string             `json:"file"`
	Size        int64              `json:"size,omitempty"` // of a file just made
	Created     time.Time          `json:"created"`
	Version     string             `json:"version"`
	Profile     string             `json:"profile"`
	Files       int                `json:"files"`
	Bytes       int64              `json:"bytes"`
	StateDir    string             `json:"stateDir,omitempty"` // that it is restored into
	ConfigPath  string             `json:"config,omitempty"`
	ConfigKept  bool               `json:"configKept,omitempty"` // there is one, which stays
	DryRun      bool               `json:"dryRun,omitempty"`
	LeftOut     []store.BackupNote `json:"leftOut"`
	NotIncluded []store.BackupNote `json:"notIncluded"`
	Notes       []string           `json:"notes"`
}

func reportOf(file string, m *store.Manifest) *backupReport {
	return &backupReport{OK: true, File: file, Created: m.Created, Version: m.Version, Profile: m.Profile, Files: m.Count, Bytes: m.Bytes,
		LeftOut: m.LeftOut, NotIncluded: m.NotIncluded, Notes: []string{}}
}

// print writes the document or, for a person, a line and the notes.
func (r *backupReport) print(e *Env, format string, a ...any) error {
	if e.JSON {
		return e.printJSON(r)
	}
	for _, n := range r.LeftOut {
		e.Warn("left out: %s", n)
	}
	for _, n := range r.NotIncluded {
		e.Warn("not in the backup: %s", n)
	}
	for _, n := range r.Notes {
		e.Warn("%s", n)
	}
	return e.printf("%s\n", oneLine(fmt.Sprintf(format, a...)))
}

// backupCreate writes a backup of the profile, whether its gateway runs or not.
func backupCreate(ctx context.Context, e *Env, a *Args) error {
	p, err := e.Paths()
	if err != nil {
		return err
	}
	file := a.Get("output")
	if file == "-" {
		return usage("--output: a backup goes to a file, which has its name only once it is whole")
	} else if file != "" {
		if file, err = filepath.Abs(file); err != nil {
			return err
		}
		// Else it would be part of the next one.
		if dir := filepath.Dir(file); inside(p.StateDir, dir) && dir != filepath.Join(p.StateDir, "backups") {
			return usage("--output: inside the state directory only %s is left out of backups", filepath.Join(p.StateDir, "backups"))
		}
	}
	d, err := openState(p)
	if errors.Is(err, fs.ErrNotExist) {
		return &Error{Msg: "there is nothing to back up: no " + p.StateDir, Hint: e.Command("setup")}
	} else if err != nil {
		return err
	}
	defer d.Close()
	o, err := e.backupOptions(p)
	if err != nil {
		return err
	}
	o.Outside = a.Has("include-workspace")
	file, size, m, err := d.Backup(ctx, file, o)
	if err != nil {
		return taken(err, "a backup overwrites nothing")
	}
	r := reportOf(file, m)
	r.Size = size
	r.Notes = append(r.Notes, fmt.Sprintf("%s, %d bytes; keep a copy on another disk, for your eyes only: it holds the secrets too", count(m.Count, "file"), m.Bytes))
	return r.print(e, "%s", file)
}

// inside reports whether path is dir or below it.
func inside(dir, path string) bool {
	rel, err := filepath.Rel(dir, path)
	return err == nil && filepath.IsLocal(rel)
}

// backupOptions says what the configuration adds to the state. One with
// mistakes is backed up as it is.
func (e *Env) backupOptions(p config.Paths) (store.BackupOptions, error) {
	o := store.BackupOptions{Version: e.Version, Profile: p.Profile, ConfigPath: p.ConfigPath, Now: e.Now(), Workspaces: map[string]string{}}
	needs := func(name, what string) {
		if n := (store.BackupNote{Name: name, What: what}); !inside(p.StateDir, name) && !slices.Contains(o.NotIncluded, n) {
			o.NotIncluded = append(o.NotIncluded, n)
		}
	}
	// What is asked for while it is read is what it needs.
	l, err := config.Load(config.Source{Path: p.ConfigPath,
		Env: func(name string) (string, bool) {
			value, ok := e.Lookup(name)
			if ok && name != "HOME" && name != "CREDENTIALS_DIRECTORY" {
				needs("$"+name, "a variable that the configuration uses")
			}
			return value, ok
		},
		ReadFile: func(path string, limit int64, secret bool) ([]byte, error) {
			if path != p.ConfigPath {
				needs(path, "a secret that the configuration uses")
			}
			return store.ReadConfigFile(path, limit, secret)
		}})
	var problems config.Problems
	switch {
	case l != nil && errors.As(err, &problems):
		e.Warn("the configuration has %s; it is backed up as it is", count(len(problems), "problem"))
	case errors.Is(err, fs.ErrNotExist):
		e.Warn("there is no configuration at %s", p.ConfigPath)
		l = &config.Loaded{Config: config.Default()}
	case err != nil:
		return o, err
	}
	c := l.Config
	o.Config, o.Log = l.Raw, p.Expand(c.Logging.File)
	for _, agent := range c.AgentList() {
		o.Workspaces[agent.ID] = p.WorkspaceOf(agent)
	}
	for _, path := range []string{c.Gateway.TLS.CertPath, c.Gateway.TLS.KeyPath} {
		if path != "" {
			needs(p.Expand(path), "of gateway.tls")
		}
	}
	return o, nil
}

// backupVerify reads a backup to its end and says what is wrong with it.
func backupVerify(ctx context.Context, e *Env, a *Args) error {
	m, err := store.VerifyBackup(ctx, a.Word(0))
	if err != nil {
		return damaged(a.Word(0), err)
	}
	return reportOf(a.Word(0), m).print(e, "whole: %s, %d bytes, profile %s, %s", count(m.Count, "file"), m.Bytes, cmp.Or(m.Profile, "default"), m.Created.Format(time.RFC3339))
}

// damaged is the error of an archive that is at fault.
func damaged(file string, err error) error {
	var bad *store.BackupError
	if !errors.As(err, &bad) {
		return err
	}
	return &Error{Code: "BACKUP_DAMAGED", Msg: file + " is not a whole backup:\n" + bad.Error(), Body: map[string]any{"ok": false, "file": file, "problems": bad.Problems,
		"error": errorReport{"BACKUP_DAMAGED", count(len(bad.Problems), "problem") + " in " + file}}}
}

// taken explains the error of a place that is not free.
func taken(err error, hint string) error {
	if errors.Is(err, fs.ErrExist) {
		return &Error{Code: "EXISTS", Msg: err.Error(), Hint: hint}
	}
	return err
}

// backupRestore makes the profile's state and configuration of a backup.
func backupRestore(ctx context.Context, e *Env, a *Args) error {
	p, err := e.Paths()
	if err != nil {
		return err
	}
	file, dry := a.Word(0), a.Has("dry-run")
	var to *store.Account
	if p.System {
		a, err := e.machine().account(serviceUser)
		if err != nil {
			return &Error{Msg: err.Error(), Hint: e.Command("gateway install") + " makes it"}
		}
		to = &a
	}
	m, err := store.RestoreBackup(ctx, file, p.StateDir, p.ConfigPath, to, dry)
	if err != nil {
		return taken(damaged(file, err), "a restore overwrites nothing: move it away, or restore into another --profile")
	}
	r := reportOf(file, m.Manifest)
	r.StateDir, r.ConfigPath, r.ConfigKept, r.DryRun = p.StateDir, p.ConfigPath, m.ConfigKept, dry
	if at := m.Workspaces(); at != "" {
		r.Notes = append(r.Notes, "workspaces from elsewhere are in "+filepath.Join(p.StateDir, at))
	}
	switch {
	case m.ConfigKept:
		r.Notes = append(r.Notes, "the configuration stays as it is: "+p.ConfigPath)
	case m.Config == nil:
		r.Notes = append(r.Notes, "no configuration is in the backup")
	default:
		if m.StateDir != p.StateDir && bytes.Contains(m.Config, []byte(m.StateDir)) {
			r.Notes = append(r.Notes, "the configuration names the old state directory, "+m.StateDir)
		}
		if l, _ := config.Parse(p.ConfigPath, m.Config, config.Source{Env: e.Lookup}); l != nil && m.Profile != p.Profile {
			r.Notes = append(r.Notes, fmt.Sprintf("the configuration has the port of profile %s, %d", cmp.Or(m.Profile, "default"), l.Config.Gateway.Port))
		}
	}
	what := "restored"
	if dry {
		what = "would restore"
	}
	return r.print(e, "%s %s, %d bytes, into %s", what, count(m.Count, "file"), m.Bytes, p.StateDir)
}
