package main

import (
	"errors"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// ailments are those that only this system can be given.
func ailments() []ailment {
	openFiles := func(n uint64) func(*house, *process) {
		return func(h *house, _ *process) {
			var was unix.Rlimit
			pid := h.instance().PID
			err := unix.Prlimit(pid, unix.RLIMIT_NOFILE, nil, &was)
			if n == 0 {
				n = was.Max
			}
			if err = errors.Join(err, unix.Prlimit(pid, unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: n, Max: was.Max}, nil)); err != nil {
				h.t.Fatal(err)
			}
		}
	}
	raised := openFiles(0)
	list := []ailment{{name: "limits", strike: openFiles(200), want: []string{`^limits warn the gateway may open 200 files, `}, heal: func(h *house) { raised(h, nil) }}}
	work := func(h *house) string { return filepath.Join(h.dir, "work") }
	mount := func(h *house, _ *process) {
		if err := unix.Mount("tmpfs", work(h), "tmpfs", 0, "size=32m,mode=0700"); err != nil {
			h.t.Skipf("no mounting here: %v", err) // a container, as a rule
		}
		h.t.Cleanup(func() { unix.Unmount(work(h), unix.MNT_DETACH) })
	}
	if os.Geteuid() == 0 {
		list = append(list, ailment{name: "disk", sections: object{"agents": object{"defaults": object{"workspace": "~/work"}}}, strike: mount,
			want: []string{`^disk error only 3\d MiB are left at .*/work$`}, heal: func(h *house) {
				if err := unix.Unmount(work(h), 0); err != nil {
					h.t.Fatal(err)
				}
			}})
	}
	return list
}
