package svc

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"openclaw/reload/config"
)

const (
	checkTime = 2 * time.Second // for each check, all at a time: whatever hangs, doctor ends
	mendTime  = 5 * time.Second // for each mending, one at a time
)

// Severities of a finding, the gravest first. Only an error makes doctor fail.
const (
	sevError = "error"
	sevWarn  = "warn"
	sevInfo  = "info"
	sevOK    = "ok"
)

// check is one row of doctor's table.
type check struct {
	id, title string
	gravest   string // what it may find, and what it finds when it does not answer in time
	why       string // why it matters, one sentence
	mends     string // what --fix does about it; "" = nothing, it is the operator's to decide
	run       func(*patient, *result)
}

// checks is the table: help, the reference and the report come from it. The
// first ten are the manual's, in its order.
func checks() []check {
	return []check{
		{"service", "Gateway runs", sevError, "Nobody is answered while it is down.", "", (*patient).service},
		{"ports", "Ports are free, or the gateway's", sevError, "A gateway binds all of its ports or none, and never shares one.", "", (*patient).ports},
		{"auth", "Secret is set, strong and private", sevError, "Whoever knows the secret commands the gateway.", "takes a file with secrets away from others (chmod)", (*patient).auth},
		{"supervisor", "Unit of launchd or systemd is right", sevWarn, "The supervisor starts the gateway at boot and after a crash, as its unit says.", "", (*patient).supervisor},
		{"logs", "Log is written and bounded", sevError, "Without a log nobody can tell what happened; without bounds it fills the disk.", "makes the directory of the log, removes rotated files beyond the bounds", (*patient).logs},
		{"hot-reload", "Changes of the file are followed", sevError, "An edit that is not noticed is believed to be in effect.", "has the gateway read a newer, valid file", (*patient).hotReload},
		{"network", "Gateway and providers can be reached", sevError, "A gateway that runs but does not answer is as good as none.", "", (*patient).network},
		{"disk", "Disk has room", sevError, "A message that cannot be stored is refused.", "", (*patient).disk},
		{"limits", "Limits of the process suffice", sevWarn, "Past a limit connections and turns fail, or the kernel ends the process.", "", (*patient).limits},
		{"backup", "Backup is young", sevWarn, "Conversations exist once, on this disk.", "", (*patient).backup},

		{"permissions", "Files are closed to others", sevError, "The state directory holds conversations and keys.", "closes our own files and directories (chmod)", (*patient).permissions},
		{"config", "Configuration is valid", sevError, "A gateway does not start on a file that is not valid.", "", (*patient).config},
		{"state", "State directory is whole", sevWarn, "What is not ours there is refused, and a torn line is a message that was never acknowledged.", "makes a missing workspace; cuts torn last lines, while no gateway runs", (*patient).state},
		{"sandbox", "Walls around tools stand", sevWarn, "Where one is missing, programs of sandboxed sessions are refused.", "", (*patient).sandbox},
		{"clock", "Clock is right", sevError, "Certificates, backups and the order of messages depend on it.", "", (*patient).clock},
		{"version", "Running program is the installed one", sevWarn, "After an upgrade the old program runs until a restart.", "", (*patient).version},
		{"isolation", "Nothing is shared with another gateway", sevWarn, "Two gateways with one workspace or file undo each other's work.", "", (*patient).isolation},
		{"channels", "Channels are connected", sevError, "A message that does not come through is not answered.", "", (*patient).channels},
	}
}

// finding is one thing that a check says.
type finding struct {
	ID       string `json:"id"`
	Severity string `json:"severity"`
	Title    string `json:"title"`
	Message  string `json:"message"`          // one sentence
	Why      string `json:"why,omitempty"`    // not with ok
	Repair   string `json:"repair,omitempty"` // a command, as it is to be typed
	Fixed    string `json:"fixed,omitempty"`  // what --fix did

	mend func() (did string, err error) // what --fix does; nil = nothing
}

// doctorReport is what doctor prints with --json.
type doctorReport struct {
	OK     bool       `json:"ok"` // no error
	Checks []*finding `json:"checks"`
}

// result is what one check says.
type result struct {
	*check
	list  []*finding
	facts []string // told when nothing is wrong
}

func (r *result) add(severity, repair, format string, a ...any) *finding {
	f := &finding{ID: r.id, Severity: severity, Title: r.title, Message: fmt.Sprintf(format, a...), Why: r.why, Repair: repair}
	r.list = append(r.list, f)
	return f
}

func (r *result) fail(repair, format string, a ...any) *finding {
	return r.add(sevError, repair, format, a...)
}

func (r *result) warn(repair, format string, a ...any) *finding {
	return r.add(sevWarn, repair, format, a...)
}

func (r *result) info(format string, a ...any) { r.add(sevInfo, "", format, a...) }

func (r *result) fact(format string, a ...any) { r.facts = append(r.facts, fmt.Sprintf(format, a...)) }

// done closes a result: one that found nothing says so.
func (r *result) done() *result {
	if len(r.list) == 0 {
		r.add(sevOK, "", "%s", strings.Join(r.facts, "; ")).Why = ""
	}
	return r
}

// examine runs checks, all at a time. One that does not end in time is left
// behind, with what it waits for, and that is what is found.
func examine(ctx context.Context, e *Env, deep bool, rows []check) []*result {
	ctx, cancel := context.WithTimeout(ctx, checkTime)
	defer cancel()
	p := newPatient(ctx, e, deep)
	out := make([]*result, len(rows))
	var wg sync.WaitGroup
	for i := range rows {
		wg.Go(func() {
			r, ok := within(ctx, func() *result {
				r := &result{check: &rows[i]}
				rows[i].run(p, r)
				return r.done()
			})
			if !ok {
				r = &result{check: &rows[i]}
				r.add(rows[i].gravest, "", "did not answer within %v: a disk or a file system hangs", checkTime)
			}
			out[i] = r
		})
	}
	wg.Wait()
	return out
}

// within does f, and leaves it behind when that takes too long.
func within[T any](ctx context.Context, f func() T) (out T, ok bool) {
	done := make(chan T, 1)
	go func() { done <- f() }()
	select {
	case out = <-done:
		return out, true
	case <-ctx.Done():
		return out, false
	}
}

// apply does what a finding offers, and tells it.
func (f *finding) apply() error {
	ctx, cancel := context.WithTimeout(context.Background(), mendTime)
	defer cancel()
	did := ""
	err, ok := within(ctx, func() (err error) {
		did, err = f.mend()
		return err
	})
	if !ok {
		return fmt.Errorf("did not end within %v", mendTime)
	}
	f.Fixed = did
	return err
}

// doctor examines the profile's gateway, running or not, and what it depends on.
// It changes nothing without --fix.
func doctor(ctx context.Context, e *Env, a *Args) error {
	if _, err := e.Paths(); err != nil {
		return err
	}
	rows, err := chosen(a.Get("only"))
	if err != nil {
		return err
	}
	deep := a.Has("deep")
	results := examine(ctx, e, deep, rows)
	if a.Has("fix") {
		results = mendAll(ctx, e, deep, results)
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	r := &doctorReport{OK: true, Checks: []*finding{}}
	counts := map[string]int{}
	for _, res := range results {
		for _, f := range res.list {
			r.Checks = append(r.Checks, f)
			counts[f.Severity]++
		}
	}
	r.OK = counts[sevError] == 0
	if !e.JSON {
		r.print(e)
		e.printf("%s: %s, %s\n", count(len(rows), "check"), count(counts[sevError], sevError), count(counts[sevWarn], "warning"))
		if !r.OK {
			return &Error{Exit: ExitFailed} // it has been said
		}
		return nil
	}
	if !r.OK {
		return &Error{Code: "UNHEALTHY", Msg: "doctor found " + count(counts[sevError], sevError), Body: r}
	}
	return e.printJSON(r)
}

func checkIDs() (ids []string) {
	for _, c := range checks() {
		ids = append(ids, c.id)
	}
	return ids
}

// chosen are the rows that --only names, all without it.
func chosen(only string) ([]check, error) {
	rows := checks()
	if only == "" {
		return rows, nil
	}
	ids, want := checkIDs(), strings.Split(only, ",")
	for _, id := range want {
		if !slices.Contains(ids, id) {
			return nil, usage("--only: %q is none of %s%s", id, strings.Join(ids, ", "), didYouMean(config.Nearest(id, ids)))
		}
	}
	return slices.DeleteFunc(rows, func(c check) bool { return !slices.Contains(want, c.id) }), nil
}

// mendAll mends what can be, in the order of the table, and looks again.
func mendAll(ctx context.Context, e *Env, deep bool, results []*result) []*result {
	var mended []*finding
	for _, r := range results {
		for _, f := range r.list {
			if f.mend == nil || ctx.Err() != nil {
				continue
			}
			if err := f.apply(); err != nil {
				e.Warn("%s: %s: not mended: %v", f.ID, f.Message, err)
			} else if f.Fixed != "" {
				f.Severity, f.Why = sevOK, ""
				mended = append(mended, f)
			}
		}
	}
	if len(mended) == 0 {
		return results
	}
	rows := make([]check, len(results))
	for i, r := range results {
		rows[i] = *r.check
	}
	again := examine(ctx, e, deep, rows)
	for _, r := range again {
		ours := slices.DeleteFunc(slices.Clone(mended), func(f *finding) bool { return f.ID != r.id })
		if len(ours) > 0 && r.list[0].Severity == sevOK {
			r.list = nil
		}
		r.list = append(ours, r.list...)
	}
	return again
}

func (r *doctorReport) print(e *Env) {
	for _, f := range r.Checks {
		colour := map[string]string{sevError: red, sevWarn: bold, sevOK: green}[f.Severity]
		word := fmt.Sprintf("%-6s", f.Severity)
		if f.Fixed != "" {
			colour, word = green, "fixed "
		}
		if colour != "" {
			word = e.paint(e.OutTTY, colour, word)
		}
		message := f.Message
		if message == "" {
			message = f.Title
		}
		e.printf("%s %-12s %s\n", word, f.ID, oneLine(message))
		for _, line := range [][2]string{{"done", f.Fixed}, {"why", f.Why}, {"repair", f.Repair}} {
			if line[1] != "" && (f.Severity == sevError || f.Severity == sevWarn || line[0] == "done") {
				e.printf("%-19s %-7s %s\n", "", line[0], oneLine(line[1]))
			}
		}
	}
}

// errNotAsked is why a gateway says nothing of itself.
var errNotAsked = errors.New("no gateway runs")
