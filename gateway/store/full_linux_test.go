package store

import (
	"errors"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// A disk that is really full, where we may mount one. TestFileSizeLimit shows
// the same to everybody else.
func TestFullDisk(t *testing.T) {
	mnt := t.TempDir()
	if err := syscall.Mount("tmpfs", mnt, "tmpfs", syscall.MS_NOSUID|syscall.MS_NODEV, "size=256k,mode=0700"); err != nil {
		t.Skip("only root may mount:", err)
	}
	t.Cleanup(func() { syscall.Unmount(mnt, syscall.MNT_DETACH) })
	state := filepath.Join(mnt, "state")
	d := mustOpen(t, state)
	s := mustSessions(t, d)
	tr := mustTranscript(t, s, "s1")
	if err := s.Put("k", Entry{SessionID: "s1"}); err != nil {
		t.Fatal(err)
	}
	log := mustLog(t, d, 0, 1)
	if _, err := log.Write([]byte("L1")); err != nil {
		t.Fatal(err)
	}
	if err := d.WriteFile("ballast", make([]byte, 64<<10)); err != nil {
		t.Fatal(err)
	}
	acked := 0
	var err error
	for err == nil && acked < 10_000 {
		if err = tr.Append(user(strings.Repeat("x", 1500))); err == nil {
			acked++
		}
	}
	if !errors.Is(err, ErrNoSpace) {
		t.Fatal(err)
	}
	for err = nil; err == nil; {
		_, err = log.Write([]byte(strings.Repeat("z", 1500)))
	}
	for err = nil; err == nil; {
		err = s.Put("k2", Entry{SessionID: "s2", Label: strings.Repeat("l", 1500)})
	}
	fresh := mustTranscript(t, s, "s3")
	for what, err := range map[string]error{"file": d.WriteFile("f", make([]byte, 9000)), "transcript": fresh.Append(user(strings.Repeat("x", 9000)))} {
		if !errors.Is(err, ErrNoSpace) {
			t.Error(what, err)
		}
	}
	if got := strings.Count(load(t, tr), "x|"); got != acked-1 {
		t.Errorf("%d of %d", got+1, acked)
	}
	// Room again: everything goes on.
	if err := d.Remove("ballast"); err != nil {
		t.Fatal(err)
	}
	_, logErr := log.Write([]byte("L2"))
	if err := errors.Join(logErr, tr.Append(user("and on")), fresh.Append(user("C")), s.Put("k3", Entry{SessionID: "s3"}), d.Close()); err != nil {
		t.Fatal(err)
	}
	s = mustSessions(t, mustOpen(t, state))
	if got := load(t, mustTranscript(t, s, "s1")); !strings.HasSuffix(got, "x|and on") || strings.Count(got, "|") != acked {
		t.Error(len(got))
	}
	if _, ok := s.Get("k3"); !ok || len(s.Warnings()) > 0 {
		t.Error(s.List(), s.Warnings())
	}
}
