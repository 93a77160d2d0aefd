package agent

import (
	"cmp"
	"context"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"openclaw/gateway/store"
	"openclaw/reload/config"
)

const (
	maxUsageFiles = 2000      // transcripts that one report reads
	maxUsageBytes = 256 << 20 // of them
	usageKept     = 30 * time.Second
)

// DayUsage is what an agent's models counted on one day.
type DayUsage struct {
	Date    string // 2006-01-02, local time
	AgentID string
	store.Usage
	MissingCost int // answers whose model has no price
}

// UsageReport is the use of models per day and agent, oldest first.
type UsageReport struct {
	At      time.Time
	Days    []DayUsage
	Partial bool // there were more transcripts than one report reads
}

// Usage sums the answers in the transcripts of the last days, also of sessions
// that were reset. It is expensive; an answer is good for half a minute.
func (a *Agents) Usage(ctx context.Context, days int) (UsageReport, error) {
	a.usageMu.Lock() // one at a time; nothing else waits for it
	defer a.usageMu.Unlock()
	if a.usageDays == days && time.Since(a.usage.At) < usageKept {
		return a.usage, nil
	}
	u := UsageReport{At: time.Now()}
	year, month, day := u.At.Date()
	since := time.Date(year, month, day-max(days, 1)+1, 0, 0, 0, 0, u.At.Location())
	files, bytes := maxUsageFiles, int64(maxUsageBytes)
	sums := map[[2]string]*DayUsage{}
	var broken error
	err := a.indexes("", func(agent config.ResolvedAgent, index *store.Sessions) bool {
		var names []os.DirEntry
		if names, broken = os.ReadDir(filepath.Dir(index.Path())); broken != nil {
			return false
		}
		for _, name := range names {
			id, ok := strings.CutSuffix(name.Name(), ".jsonl")
			fi, err := name.Info()
			if !ok || id == "index" || err != nil || fi.ModTime().Before(since) {
				continue
			}
			files, bytes = files-1, bytes-fi.Size()
			u.Partial = files < 0 || bytes < 0
			if broken = context.Cause(ctx); broken != nil || u.Partial {
				break
			}
			for _, r := range a.readTranscript(index, id) {
				if r.Type != store.TypeMessage || r.Message.Usage == nil || r.Message.Usage.TotalTokens == 0 {
					continue
				}
				if at := time.UnixMilli(r.Message.Timestamp); !at.Before(since) {
					key := [2]string{at.Format(time.DateOnly), agent.ID}
					if sums[key] == nil {
						sums[key] = &DayUsage{Date: key[0], AgentID: agent.ID}
					}
					sums[key].add(r.Message.Usage)
				}
			}
		}
		return broken == nil && !u.Partial
	})
	if err = cmp.Or(err, broken); err != nil {
		return u, err
	}
	for _, d := range slices.SortedFunc(maps.Values(sums), func(x, y *DayUsage) int {
		return cmp.Or(strings.Compare(x.Date, y.Date), strings.Compare(x.AgentID, y.AgentID))
	}) {
		u.Days = append(u.Days, *d)
	}
	a.usage, a.usageDays = u, days
	return u, nil
}

func (d *DayUsage) add(u *store.Usage) {
	add(&d.Usage, *u)
	if u.Cost.Total == 0 {
		d.MissingCost++
	}
}
