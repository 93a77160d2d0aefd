// Package store is what survives a restart: the state directory and the files
// in it.
//
//	STATE/gateway.lock                      flock of the running gateway, and its address for the CLI
//	STATE/logs/gateway.log, .1, .2 …        the log, rotated
//	STATE/backups/…, STATE/backup.json      backups, and when the last one was made (backup.go)
//	STATE/agents/ID/sessions/sessions.json  index of the agent's sessions, a snapshot
//	STATE/agents/ID/sessions/index.jsonl    what changed in the index since
//	STATE/agents/ID/sessions/SESSION.jsonl  one transcript, append-only
//
// Three rules hold for every file. It is reached through an open directory
// (os.Root), never by a path that could change on the way, and only if it is a
// regular file of our own with one name (dir.go). It is 0600 in directories
// that are 0700, whatever the umask. And it is either replaced whole (atomic.go)
// or grows by whole lines (append.go), so that a crash at any instant leaves
// what was acknowledged and at most one torn line, which the next start cuts.
//
// Transcripts are the truth; the index can be made again from them (rebuild.go)
// and is therefore written without waiting for the disk.
//
// Read dir.go first, then append.go, transcript.go and sessions.go.
package store
