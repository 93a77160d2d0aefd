package reload

import "openclaw/reload/config"

// Plan is what becomes of changed keys, by path. A path stands in one list
// only, and each list keeps the order of the changes.
type Plan struct {
	Apply   []string // at once
	Restart []string // by a restart in process
	Wait    []string // until somebody asks
}

// Decide makes the plan for a mode (gateway.hotReload.mode of the running
// configuration). asked says that somebody wants the change now: a command, a
// signal, a client.
//
//   - hybrid: keys of class restart restart, all others apply at once.
//   - off: everything waits; asked, it is as hybrid.
//   - hot, an older word: as hybrid, but keys of class restart wait until asked.
//   - restart, an older word: if anything needs more than class none,
//     everything goes by one restart; else it applies.
//
// An unknown mode is as hybrid, an unknown class as restart. A path with two
// classes goes by the graver.
func Decide(mode string, asked bool, changes []config.Change) Plan {
	var all bool
	restarts, told := map[string]bool{}, map[string]bool{}
	for _, c := range changes {
		all = all || mode == "restart" && c.Class != config.None
		restarts[c.Path] = restarts[c.Path] || c.Class != config.None && c.Class != config.Hot
	}
	var p Plan
	for _, c := range changes {
		if told[c.Path] {
			continue
		}
		told[c.Path] = true
		list := &p.Apply
		switch restart := all || restarts[c.Path]; {
		case mode == "off" && !asked, mode == "hot" && !asked && restart:
			list = &p.Wait
		case restart:
			list = &p.Restart
		}
		*list = append(*list, c.Path)
	}
	return p
}
