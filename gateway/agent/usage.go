package agent

import (
	"cmp"
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"openclaw/gateway/store"
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
	if u, ok := a.usage[days]; ok && time.Since(u.At) < usageKept {
		return u, nil
	}
	u := UsageReport{At: time.Now()}
	year, month, day := u.At.Date()
	since := time.Date(year, month, day-max(days, 1)+1, 0, 0, 0, 0, u.At.Location())
	files, bytes := maxUsageFiles, int64(maxUsageBytes)
	sums := map[[2]string]*DayUsage{}
	for _, agent := range a.config().AgentList() {
		index, err := a.dir.Sessions(agent.ID)
		if err != nil {
			return u, err
		}
		names, err := os.ReadDir(filepath.Dir(index.Path()))
		if err != nil {
			return u, err
		}
		for _, name := range names {
			id, ok := strings.CutSuffix(name.Name(), ".jsonl")
			fi, err := name.Info()
			if !ok || id == "index" || err != nil || fi.ModTime().Before(since) {
				continue
			}
			if files, bytes = files-1, bytes-fi.Size(); files < 0 || bytes < 0 {
				u.Partial = true
				break
			}
			if err := ctx.Err(); err != nil {
				return u, context.Cause(ctx)
			}
			records, err := readTranscript(index, id)
			if err != nil {
				a.log.Warn("transcript was not read", "session", id, "err", err)
				continue
			}
			for _, r := range records {
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
	}
	for _, d := range sums {
		u.Days = append(u.Days, *d)
	}
	slices.SortFunc(u.Days, func(x, y DayUsage) int {
		return cmp.Or(strings.Compare(x.Date, y.Date), strings.Compare(x.AgentID, y.AgentID))
	})
	a.usage = map[int]UsageReport{days: u}
	return u, nil
}

func (d *DayUsage) add(u *store.Usage) {
	d.Input += u.Input
	d.Output += u.Output
	d.CacheRead += u.CacheRead
	d.CacheWrite += u.CacheWrite
	d.TotalTokens += u.TotalTokens
	d.Cost.Input += u.Cost.Input
	d.Cost.Output += u.Cost.Output
	d.Cost.CacheRead += u.Cost.CacheRead
	d.Cost.CacheWrite += u.Cost.CacheWrite
	d.Cost.Total += u.Cost.Total
	if u.Cost.Total == 0 {
		d.MissingCost++
	}
}

func readTranscript(index *store.Sessions, id string) ([]store.Record, error) {
	t, err := index.Transcript(store.Entry{SessionID: id})
	if err != nil {
		return nil, err
	}
	defer t.Close()
	records, _, err := t.Load()
	return records, err
}
