package store

import (
	"archive/tar"
	"context"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strconv"
	"strings"
	"time"
)

// A backup is a gzip file of one tar archive, which tar(1) can read too:
//
//	state/…              the state directory, without what the next gateway makes again
//	config/openclaw.json the configuration as it is written
//	workspaces/ID/…      agents' workspaces that lie elsewhere, if asked for
//	manifest.json        last: every file above with size, mode and SHA-256
//
// The manifest comes last because a hash is known only once its file was read,
// and the files of a running gateway should be read once. An archive that was
// cut has none, and so is never taken for whole.
const (
	manifestName  = "manifest.json"
	configEntry   = "config/openclaw.json"
	inState       = "state/"
	inWorkspaces  = "workspaces/"
	backupsDir    = "backups"
	backupRecord  = "backup.json" // of the last backup, for doctor
	backupFormat  = 1
	backupTime    = "20060102T150405Z"
	maxNotes      = 1000      // things that are named one by one
	maxConfigText = 16 << 20  // bytes
	maxManifest   = 128 << 20 // bytes
)

// These bound what a reader must remember. They are variables for tests.
var (
	maxBackupFiles = 250_000
	maxBackupNames = 48 << 20 // bytes of all names
)

// Manifest is what a backup says of itself.
type Manifest struct {
	Format   int          `json:"format"`
	Created  time.Time    `json:"created"` // before the first file was read
	Version  string       `json:"version"` // of openclaw
	Profile  string       `json:"profile"`
	StateDir string       `json:"stateDir"` // where it was
	Count    int          `json:"count"`    // of files
	Bytes    int64        `json:"bytes"`    // of all files
	Files    []BackupFile `json:"files"`
	// LeftOut is what was met and could not be taken, NotIncluded what the
	// configuration needs from elsewhere. Both name things, and hold none.
	LeftOut     []BackupNote `json:"leftOut"`
	NotIncluded []BackupNote `json:"notIncluded"`
}

// BackupFile is one file of a backup.
type BackupFile struct {
	Name   string `json:"name"`
	Size   int64  `json:"size"`
	Mode   string `json:"mode"` // 0600, or 0700 of a program
	SHA256 string `json:"sha256"`
}

// Workspaces is where a restore puts workspaces that lay outside the state
// directory: their old places may be somebody's on the new host. It is empty if
// there are none.
func (m *Manifest) Workspaces() string {
	for _, f := range m.Files {
		if strings.HasPrefix(f.Name, inWorkspaces) {
			return "workspaces-" + m.Created.UTC().Format(backupTime)
		}
	}
	return ""
}

// BackupNote says something about one file.
type BackupNote struct {
	Name string `json:"name"` // of an entry or a path; empty for the archive itself
	What string `json:"what"`
}

func (n BackupNote) String() string {
	switch {
	case n.Name == "":
		return n.What
	case strings.ContainsFunc(n.Name, func(r rune) bool { return !strconv.IsPrint(r) }):
		return strconv.Quote(n.Name) + ": " + n.What
	}
	return n.Name + ": " + n.What
}

// note adds a note, and after a thousand says only that there are more.
func note(notes []BackupNote, name, format string, a ...any) []BackupNote {
	switch {
	case len(notes) < maxNotes:
		return append(notes, BackupNote{strings.ToValidUTF8(name, "\uFFFD"), fmt.Sprintf(format, a...)})
	case len(notes) == maxNotes:
		return append(notes, BackupNote{What: "and more"})
	}
	return notes
}

// BackupError says what is wrong with an archive: it is no backup, or not the
// one that was made.
type BackupError struct{ Problems []BackupNote }

func (e *BackupError) Error() string {
	const few = 20
	var lines []string
	for _, p := range e.Problems[:min(few, len(e.Problems))] {
		lines = append(lines, p.String())
	}
	if n := len(e.Problems) - few; n > 0 {
		lines = append(lines, fmt.Sprintf("and %d more", n))
	}
	return strings.Join(lines, "\n")
}

func badBackup(name, format string, a ...any) error {
	return &BackupError{note(nil, name, format, a...)}
}

// ephemeral reports whether what has this name at the top of the state
// directory belongs to this host or this run, and into no backup.
func ephemeral(top string) bool {
	switch top {
	case lockName, "logs", "cache", backupsDir, backupRecord:
		return true
	}
	return false
}

// admit reports why an entry cannot be one of ours. It is an allow-list: tar
// knows links, devices, sparse files, and records that say something else.
func admit(h *tar.Header) error {
	for key := range h.PAXRecords {
		if key != "path" && key != "mtime" && key != "size" {
			return badBackup(h.Name, "refused: pax record %q", key)
		}
	}
	top, rest, _ := strings.Cut(h.Name, "/")
	sub, inner, _ := strings.Cut(rest, "/")
	limit := int64(-1)
	switch {
	case h.Typeflag != tar.TypeReg || h.Linkname != "":
		return badBackup(h.Name, "refused: not a plain file (tar type %q)", h.Typeflag)
	case h.Format != tar.FormatPAX && h.Format != tar.FormatUSTAR:
		return badBackup(h.Name, "refused: not in the format of a backup (%s)", h.Format)
	case h.Mode != 0o600 && h.Mode != 0o700:
		return badBackup(h.Name, "refused: mode %#o", h.Mode)
	case !fs.ValidPath(h.Name) || strings.ContainsRune(h.Name, 0) || len(h.Name) > 4096: // also refuses "..", a leading slash and what is no UTF-8
		return badBackup(h.Name, "refused: not a plain relative name")
	case h.Name == manifestName:
		limit = maxManifest
	case h.Name == configEntry:
		limit = maxConfigText
	case top+"/" == inState && rest != "" && !ephemeral(sub):
	case top+"/" == inWorkspaces && inner != "" && validAgentID(sub):
	default:
		return badBackup(h.Name, "refused: no backup holds this")
	}
	if limit >= 0 && h.Size > limit {
		return badBackup(h.Name, "refused: %d bytes are too many", h.Size)
	}
	return nil
}

// place is where an entry of the state or of a workspace goes in the state directory.
func (m *Manifest) place(name string) string {
	if rest, ok := strings.CutPrefix(name, inWorkspaces); ok {
		return path.Join(m.Workspaces(), rest)
	}
	return strings.TrimPrefix(name, inState)
}

// contextReader ends with its context: archives may be large.
type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (c contextReader) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(p)
}
