package proc

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Look tells the facts of a process of this user, from /proc/PID (proc(5)).
func Look(pid int) (Facts, error) {
	f := Facts{Memory: memoryLimit(pid)}
	status, err := table(pid, "status")
	if err != nil {
		return f, err
	}
	limits, err := table(pid, "limits")
	if err != nil {
		return f, err
	}
	f.Stopped = strings.HasPrefix(status["State"], "T")
	f.NoNewPrivs = status["NoNewPrivs"] == "1"
	f.OpenFiles, f.AddressSpace, f.Processes = soft(limits["Max open files"]), soft(limits["Max address space"]), soft(limits["Max processes"])
	exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
	f.Replaced = err == nil && strings.HasSuffix(exe, " (deleted)")
	return f, nil
}

// table reads a file of /proc/PID whose lines are a name, then a colon or two
// spaces, then a value.
func table(pid int, file string) (map[string]string, error) {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", pid, file))
	if err != nil {
		return nil, err
	}
	t := map[string]string{}
	for line := range strings.Lines(string(raw)) {
		key, value, ok := strings.Cut(line, ":")
		if !ok {
			key, value, _ = strings.Cut(line, "  ")
		}
		t[key] = strings.TrimSpace(value)
	}
	return t, nil
}

// soft is the first of a line of limits.
func soft(value string) int64 {
	first, _, _ := strings.Cut(value, " ")
	if n, err := strconv.ParseInt(first, 10, 64); err == nil {
		return n
	}
	return Unlimited
}

// memoryLimit is the least memory.max of the control groups that a process is
// in (cgroups(7), version 2).
func memoryLimit(pid int) int64 {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	if err != nil {
		return Unlimited
	}
	least := int64(math.MaxInt64)
	for line := range strings.Lines(string(raw)) {
		group, ok := strings.CutPrefix(strings.TrimSpace(line), "0::")
		for ; ok && group != "/" && group != "."; group = filepath.Dir(group) {
			if raw, err := os.ReadFile(filepath.Join("/sys/fs/cgroup", group, "memory.max")); err == nil {
				least = min(least, soft(strings.TrimSpace(string(raw))))
			}
		}
	}
	return least
}
