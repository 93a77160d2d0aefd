package svc

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// launchd drives a job of the user's graphical session with launchctl.
//
// The job has KeepAlive with SuccessfulExit false: a gateway that was told to
// stop exits 0 and stays down, still loaded, until start or the next login.
// Only a changed plist makes it necessary to unload a job, and then launchd
// takes its time: bootout returns before the job is gone, and until then bootstrap
// fails with EIO. Whatever unloads here goes on until the job is loaded again.
type launchd struct {
	m           *machine
	label, file string
	errFile     string
	stopTime    time.Duration
}

const (
	launchctlNoService = 113 // launchctl print of what is not loaded
	launchdPause       = 250 * time.Millisecond
	launchdTries       = 60
)

func (l *launchd) domain() string  { return "gui/" + strconv.Itoa(l.m.uid) }
func (l *launchd) service() string { return l.domain() + "/" + l.label }
func (l *launchd) logs() string    { return "tail -n 50 " + shellQuote(l.errFile) }

func (l *launchd) ctl(ctx context.Context, limit time.Duration, args ...string) (string, error) {
	return l.m.run(ctx, tool{name: "launchctl", args: args, limit: limit})
}

func (l *launchd) reach(ctx context.Context) error {
	_, err := l.ctl(ctx, 0, "print", l.domain())
	var failed *toolError
	if errors.As(err, &failed) {
		return &Error{Code: "NO_USER_MANAGER", Msg: fmt.Sprintf("launchd has no session of %s (%s): %s", l.m.user, l.domain(), failed.why),
			Hint: "log in at the screen or by screen sharing once; an agent belongs to that session"}
	}
	return err
}

func (l *launchd) look(ctx context.Context) (supervised, error) {
	out, err := l.ctl(ctx, 0, "print", l.service())
	var failed *toolError
	if errors.As(err, &failed) && failed.code == launchctlNoService {
		return supervised{word: "not loaded"}, nil
	} else if err != nil {
		return supervised{}, err
	}
	st := supervised{loaded: true, enabled: true, word: "loaded"}
	for line := range strings.Lines(out) {
		if name, value, ok := strings.Cut(line, " = "); ok && strings.Count(name, "\t") == 1 { // deeper ones are of other things
			value = strings.TrimSpace(value)
			switch strings.TrimSpace(name) {
			case "state":
				st.word, st.running = value, value == "running"
			case "pid":
				st.pid, _ = strconv.Atoi(value)
			case "last exit code":
				if code, _, _ := strings.Cut(value, ":"); code != "0" && code != "(never exited)" {
					st.why = exitMeaning(code)
				}
			}
		}
	}
	if st.running {
		st.why = ""
	}
	out, err = l.ctl(ctx, 0, "print-disabled", l.domain())
	for line := range strings.Lines(out) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), " => "); ok && name == strconv.Quote(l.label) {
			st.enabled = value != "disabled" && value != "true"
		}
	}
	return st, err
}

func (l *launchd) adopt(ctx context.Context, was supervised, changed bool) (done []string, err error) {
	if was.loaded && changed {
		ctx = context.WithoutCancel(ctx) // whoever loses patience here would leave it unloaded
		if err := l.unload(ctx); err != nil {
			return nil, err
		}
		done = append(done, "launchctl bootout "+l.service())
	}
	did, err := l.up(ctx)
	return append(done, did...), err
}

// unload takes the job out and waits until it is gone. What bootout itself says is of
// no account: it reports errors for what then happens.
func (l *launchd) unload(ctx context.Context) error {
	_, said := l.ctl(ctx, l.stopTime, "bootout", l.service())
	for range launchdTries + int(l.stopTime/launchdPause) {
		st, err := l.look(ctx)
		if err == nil && !st.loaded {
			return nil
		}
		if err := l.m.pause(ctx, launchdPause); err != nil {
			return err
		}
	}
	return fmt.Errorf("launchd does not let go of %s: %w", l.service(), errors.Join(said, errors.New("it is still loaded")))
}

// up loads the job where it is not and has it run. It looks twice, for a job
// that is on its way out is still shown for a while.
func (l *launchd) up(ctx context.Context) (did []string, err error) {
	l.ctl(ctx, 0, "enable", l.service()) // a disabled job cannot be loaded
	var last error
	step := func(args ...string) bool {
		if _, last = l.ctl(ctx, 0, args...); last == nil {
			did = append(did, "launchctl "+strings.Join(args, " "))
		}
		return last == nil
	}
	for seen, try := 0, 0; try < launchdTries; try++ {
		st, err := l.look(ctx)
		switch {
		case err != nil:
			last = err
		case !st.loaded:
			seen = 0
			step("bootstrap", l.domain(), l.file)
		case st.pid == 0 && seen == 0:
			if step("kickstart", l.service()) {
				seen++
			}
		default:
			if seen++; seen > 2 {
				return did, nil
			}
		}
		if err := l.m.pause(ctx, launchdPause); err != nil {
			return did, errors.Join(err, last)
		}
	}
	return did, &Error{Code: "NOT_LOADED", Msg: fmt.Sprintf("launchd does not load %s: %v", l.label, last),
		Hint: fmt.Sprintf("launchctl bootstrap %s %s", l.domain(), shellQuote(l.file))}
}

func (l *launchd) start(ctx context.Context) error {
	_, err := l.up(ctx)
	return err
}

func (l *launchd) stop(ctx context.Context) error {
	st, err := l.look(ctx)
	if err != nil || st.pid == 0 {
		return err
	}
	if _, err := l.ctl(ctx, 0, "kill", "SIGTERM", l.service()); err != nil {
		return err
	}
	for range int(l.stopTime / launchdPause) {
		now, err := l.look(ctx)
		switch {
		case err != nil:
			return err
		case now.pid == 0 && now.why == "":
			return nil
		case now.pid == 0 || now.pid != st.pid:
			return &Error{Msg: "the gateway did not end cleanly, so launchd starts it again: " + now.why, Hint: l.logs()}
		}
		if err := l.m.pause(ctx, launchdPause); err != nil {
			return err
		}
	}
	return fmt.Errorf("pid %d does not end", st.pid)
}

// restart never unloads. Where kickstart fails, the job was not loaded or not
// there yet, and is brought up.
func (l *launchd) restart(ctx context.Context) error {
	was, err := l.look(ctx)
	for try := 0; err == nil; try++ {
		_, said := l.ctl(ctx, l.stopTime, "kickstart", "-k", l.service())
		var now supervised
		if _, err = l.up(ctx); err == nil {
			now, err = l.look(ctx)
		}
		switch {
		case err == nil && (said == nil || now.pid != was.pid):
			return nil
		case err == nil && try == 4:
			err = said
		}
	}
	return err
}

func (l *launchd) drop(ctx context.Context, removed bool) error {
	if st, err := l.look(ctx); err != nil || removed || !st.loaded {
		return err
	}
	return l.unload(ctx)
}
