package tool

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"openclaw/gateway/store"
	"openclaw/gateway/tool/sandbox"
)

const (
	maxKept     = maxOutput - 4<<10 // bytes of a program's output, its end
	maxPartial  = 4 << 10           // bytes of it that an update tells
	updates     = 250 * time.Millisecond
	maxRunning  = 16               // programs of one session
	maxPrograms = 64               // running or remembered, of all sessions
	remembered  = 30 * time.Minute // of one that ended in the background
	logLines    = 200
	killWait    = 3 * time.Second
	maxPoll     = 30 * time.Second
)

var (
	errTimeout = errors.New("timed out")
	errKilled  = errors.New("killed")
)

// program is one that runs or ran.
type program struct {
	id, owner, shown, dir string
	pid                   int
	started               time.Time
	stdin                 io.WriteCloser // nil: closed
	cancel                context.CancelCauseFunc
	done                  chan struct{} // closed when nothing of it is left

	mu         sync.Mutex
	news       chan struct{} // closed at the next output
	out        []byte        // the end of its output
	cut        int64         // bytes that came before out
	polled     int64         // bytes of all that poll has shown
	background bool
	ended      time.Time
	err        error // how, with what ended it as the cause
	cause      error
}

// Write takes output; it is the program's stdout and stderr.
func (p *program) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.out = append(p.out, b...)
	if over := len(p.out) - maxKept; over > maxKept/2 {
		p.out = append(make([]byte, 0, 2*maxKept), p.out[over:]...)
		p.cut += int64(over)
	}
	close(p.news)
	p.news = make(chan struct{})
	return len(b), nil
}

// since returns the output from an offset on, as text, what of it is lost, and
// the offset of its end.
func (p *program) since(from int64, most int) (text string, lost, end int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	end = p.cut + int64(len(p.out))
	start := max(from, p.cut, end-int64(most))
	text = strings.ToValidUTF8(string(p.out[start-p.cut:]), "\uFFFD")
	return text, start - from, end
}

// shownOutput is since with a line on what is lost.
func (p *program) shownOutput(from int64, most int) (text string, end int64) {
	text, lost, end := p.since(from, most)
	if lost > 0 {
		text = fmt.Sprintf("[%d bytes of output before this are cut]\n%s", lost, text)
	}
	return text, end
}

// start runs a job. The program is in the table from now on, until it ends in
// the foreground or is forgotten.
func (c *call) start(j *job, input bool) (p *program, err error) {
	p = &program{id: strings.ToLower(rand.Text()[:12]), owner: c.owner(), shown: j.shown, dir: j.dir, started: time.Now(), done: make(chan struct{}), news: make(chan struct{})}
	if err := c.programs.add(p); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancelCause(c.ctx)
	timer := time.AfterFunc(j.timeout, func() { cancel(errTimeout) })
	p.cancel = cancel
	remove := func() error { return nil }
	undo := func(err error) (*program, error) {
		timer.Stop()
		cancel(err)
		remove()
		c.programs.drop(p)
		return nil, err
	}
	tmp, rm, err := c.Dir.TempDir()
	if err != nil {
		return undo(fmt.Errorf("make the program's private directory: %w", err))
	}
	remove = rm
	j.env[len(j.env)-1] = "TMPDIR=" + tmp
	j.Argv, j.Env, j.Dir = j.argv, j.env, j.dir
	j.Write = append(j.Write, tmp)
	cmd, err := sandbox.Command(ctx, j.Spec)
	if err != nil {
		return undo(err)
	}
	cmd.Stdout, cmd.Stderr = p, p
	if input {
		if p.stdin, err = cmd.StdinPipe(); err != nil {
			return undo(err)
		}
	}
	if err := cmd.Start(); err != nil {
		return undo(fmt.Errorf("start: %w", err))
	}
	p.pid = cmd.Process.Pid
	c.calls.Add(1) // this call is counted still, so that Close waits
	go func() {
		defer c.calls.Done()
		err := cmd.Wait()
		timer.Stop()
		cause := context.Cause(ctx)
		cancel(nil)
		if err := remove(); err != nil {
			c.Log.Warn("private directory not removed", "err", err)
		}
		p.mu.Lock()
		p.err, p.cause, p.ended = err, cause, time.Now()
		p.mu.Unlock()
		close(p.done)
	}()
	return p, nil
}

// follow waits for a program's end, at most until it goes on in the background.
func (p *program) follow(ctx context.Context, c *call, yield time.Duration, stays bool) (Result, error) {
	let := context.AfterFunc(ctx, func() { p.cancel(context.Cause(ctx)) })
	end := func() (Result, error) {
		<-p.done
		let()
		c.programs.drop(p)
		return p.result()
	}
	var over <-chan time.Time
	if !stays {
		t := time.NewTimer(yield)
		defer t.Stop()
		over = t.C
	}
	tell := time.NewTicker(updates)
	defer tell.Stop()
	var told int64
	for {
		select {
		case <-p.done:
			return end()
		case <-over:
			if !let() { // the call has ended
				return end()
			}
			p.mu.Lock()
			p.background = true
			p.mu.Unlock()
			tail, _, _ := p.since(0, maxPartial)
			res := text("%sStill running as session %s (pid %d). Use process with this sessionId: poll, log, write, kill, remove.", endLine(tail), p.id, p.pid)
			res.Details = details(map[string]any{"status": "running", "sessionId": p.id, "pid": p.pid, "startedAt": p.started.UnixMilli(), "cwd": p.dir, "tail": tail})
			return res, nil
		case <-tell.C:
			if tail, _, n := p.since(0, maxPartial); n > told {
				told = n
				c.update(tail)
			}
		}
	}
}

// result is what exec answers of a program that ended.
func (p *program) result() (Result, error) {
	out, _ := p.shownOutput(0, maxKept)
	s := p.status()
	res := Result{Content: store.Text(endLine(out) + s.line), IsError: s.Status == "failed"}
	if s.line == "" {
		res.Content = store.Text(cmp.Or(out, "(no output)"))
	}
	res.Details = details(map[string]any{"status": s.Status, "exitCode": s.ExitCode, "durationMs": p.ended.Sub(p.started).Milliseconds(), "cwd": p.dir})
	return res, nil
}

func endLine(s string) string {
	if s != "" && !strings.HasSuffix(s, "\n") {
		s += "\n"
	}
	return s
}

func details(v any) json.RawMessage {
	raw, err := json.Marshal(v)
	if err != nil {
		panic(err) // maps, structs, strings and numbers only
	}
	return raw
}

// state is how a program stands.
type state struct {
	Status     string `json:"status"` // running, completed or failed
	ExitCode   *int   `json:"exitCode,omitempty"`
	ExitSignal string `json:"exitSignal,omitempty"`
	line       string // the same in words, "" for exit code 0
}

func (p *program) status() state {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ended.IsZero() {
		return state{Status: "running", line: "[still running]"}
	}
	s := state{Status: "failed"}
	var exit *exec.ExitError
	refused := false
	if p.err == nil {
		s.ExitCode = new(int)
	} else if errors.As(p.err, &exit) {
		if ws, ok := exit.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
			s.ExitSignal = ws.Signal().String()
		} else {
			code := exit.ExitCode()
			s.ExitCode = &code
			refused = code == sandbox.ExitRefused && strings.HasPrefix(string(p.out), "openclaw: sandbox: ")
		}
	}
	switch {
	case p.cause != nil:
		s.line = fmt.Sprintf("[ended after %v: %v]", p.ended.Sub(p.started).Round(time.Millisecond), p.cause)
	case refused:
		s.line = "[not run]"
	case s.ExitSignal != "":
		s.line = "[ended by a signal: " + s.ExitSignal + "]"
	case s.ExitCode == nil:
		s.line = fmt.Sprintf("[%v]", p.err)
	default:
		s.Status = "completed"
		if *s.ExitCode != 0 {
			s.line = fmt.Sprintf("[exit code %d]", *s.ExitCode)
		}
	}
	return s
}

// programs are those that run, and those that ended in the background.
type programs struct {
	mu   sync.Mutex
	list []*program // oldest first
}

// owner is who may see a program: one session of one agent.
func (c *call) owner() string { return c.Agent.ID + "\x00" + c.SessionKey }

func (ps *programs) add(p *program) error {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	running, oldest := 0, -1
	ps.list = slices.DeleteFunc(ps.list, func(o *program) bool {
		o.mu.Lock()
		defer o.mu.Unlock()
		return !o.ended.IsZero() && time.Since(o.ended) > remembered
	})
	for i, o := range ps.list {
		switch ended := o.status().Status != "running"; {
		case ended && oldest < 0:
			oldest = i
		case !ended && o.owner == p.owner:
			running++
		}
	}
	switch {
	case running >= maxRunning:
		return fmt.Errorf("%d programs of this session are running; end some first (process, action kill)", running)
	case len(ps.list) >= maxPrograms && oldest < 0:
		return fmt.Errorf("%d programs are running; try again later", len(ps.list))
	case len(ps.list) >= maxPrograms:
		ps.list = slices.Delete(ps.list, oldest, oldest+1)
	}
	ps.list = append(ps.list, p)
	return nil
}

func (ps *programs) drop(p *program) {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	ps.list = slices.DeleteFunc(ps.list, func(o *program) bool { return o == p })
}

// of returns an owner's programs in the background.
func (ps *programs) of(owner string) (out []*program) {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	for _, p := range ps.list {
		p.mu.Lock()
		if p.owner == owner && p.background {
			out = append(out, p)
		}
		p.mu.Unlock()
	}
	return out
}

func processTools() []*row {
	return []*row{
		tool("process", Execute, "Look after the programs that exec left running in the background: list, poll (new output), log (lines of all output), write (to its input), kill, clear (forget one that ended), remove (kill and forget).", processTool),
	}
}

type processArgs struct {
	Action    string `arg:"action" required:"true" oneof:"list,poll,log,write,kill,clear,remove" doc:"What to do."`
	SessionID string `arg:"sessionId" alias:"session_id,id" max:"64" doc:"The program, as exec named it; for all actions but list."`
	Data      string `arg:"data" alias:"input" max:"65536" doc:"With write: what to write."`
	EOF       bool   `arg:"eof" doc:"With write: close the input afterwards."`
	Offset    int    `arg:"offset" min:"0" max:"1000000000" doc:"With log: the first line to show, from 0; without it the last lines."`
	Limit     int    `arg:"limit" min:"1" max:"100000" doc:"With log: how many lines to show; 200 when absent."`
	Timeout   int    `arg:"timeout" min:"0" max:"30000" doc:"With poll: milliseconds to wait for output or the end."`
}

func processTool(ctx context.Context, c *call, a *processArgs) (Result, error) {
	mine := c.programs.of(c.owner())
	if a.Action == "list" {
		return listPrograms(mine), nil
	}
	i := slices.IndexFunc(mine, func(p *program) bool { return p.id == a.SessionID })
	if i < 0 {
		return Result{}, fmt.Errorf("there is no program %q in the background of this session; list shows those there are", a.SessionID)
	}
	p := mine[i]
	var out string
	switch a.Action {
	case "poll":
		out = p.poll(ctx, time.Duration(a.Timeout)*time.Millisecond)
	case "log":
		out = p.log(a)
	case "write":
		if err := p.write(a.Data, a.EOF); err != nil {
			return Result{}, err
		}
		out = fmt.Sprintf("Wrote %d bytes.", len(a.Data))
	case "clear":
		if p.status().Status == "running" {
			return Result{}, errors.New("it is running still; kill or remove ends it")
		}
		c.programs.drop(p)
	case "kill", "remove":
		p.cancel(errKilled)
		select {
		case <-p.done:
		case <-ctx.Done():
		case <-time.After(killWait):
			return Result{}, errors.New("it has been told to end, but has not yet")
		}
		if a.Action == "remove" {
			c.programs.drop(p)
		}
	}
	s := p.status()
	res := text("%s%s", endLine(out), cmp.Or(s.line, "[exit code 0]"))
	res.Details = details(struct {
		state
		SessionID string `json:"sessionId"`
		Name      string `json:"name"`
	}{s, p.id, store.Clip(p.shown, 80)})
	return res, nil
}

// poll returns what came since the last one, waiting for some.
func (p *program) poll(ctx context.Context, wait time.Duration) string {
	t := time.NewTimer(min(wait, maxPoll))
	defer t.Stop()
	for {
		p.mu.Lock()
		from, news := p.polled, p.news
		p.mu.Unlock()
		text, end := p.shownOutput(from, maxKept)
		if end == from {
			select {
			case <-news:
				continue
			case <-p.done:
				text, end = p.shownOutput(from, maxKept)
			case <-t.C:
			case <-ctx.Done():
			}
		}
		p.mu.Lock()
		p.polled = end
		p.mu.Unlock()
		return cmp.Or(text, "(no new output)")
	}
}

// log returns lines of the output that is kept.
func (p *program) log(a *processArgs) string {
	text, lost, _ := p.since(0, maxKept)
	lines := slices.Collect(strings.Lines(text))
	from, n := a.Offset, cmp.Or(a.Limit, logLines)
	if from == 0 && a.Limit == 0 {
		from = max(0, len(lines)-n)
	}
	from = min(from, len(lines))
	to := min(from+n, len(lines))
	head := fmt.Sprintf("[lines %d to %d of %d", from, to, len(lines))
	if lost > 0 {
		head += fmt.Sprintf(" after %d bytes that are cut", lost)
	}
	return head + "]\n" + strings.Join(lines[from:to], "")
}

// write writes to the input of a program that may not be reading it.
func (p *program) write(data string, eof bool) error {
	if p.stdin == nil {
		return errors.New("its input is closed; start it with background to write to it")
	}
	if d, ok := p.stdin.(interface{ SetWriteDeadline(time.Time) error }); ok {
		d.SetWriteDeadline(time.Now().Add(killWait))
	}
	n, err := io.WriteString(p.stdin, data)
	if err != nil {
		return fmt.Errorf("%d of %d bytes written: %w", n, len(data), err)
	}
	if eof {
		return p.stdin.Close()
	}
	return nil
}

func listPrograms(mine []*program) Result {
	type info struct {
		state
		SessionID string `json:"sessionId"`
		PID       int    `json:"pid"`
		StartedAt int64  `json:"startedAt"`
		EndedAt   int64  `json:"endedAt,omitempty"`
		RuntimeMs int64  `json:"runtimeMs"`
		Cwd       string `json:"cwd"`
		Command   string `json:"command"`
		Truncated bool   `json:"truncated"`
	}
	var b strings.Builder
	all := []info{}
	for _, p := range mine {
		s := p.status()
		p.mu.Lock()
		i := info{state: s, SessionID: p.id, PID: p.pid, StartedAt: p.started.UnixMilli(), Cwd: p.dir, Command: store.Clip(p.shown, 512), Truncated: p.cut > 0}
		ran := time.Since(p.started)
		if !p.ended.IsZero() {
			ran, i.EndedAt = p.ended.Sub(p.started), p.ended.UnixMilli()
		}
		p.mu.Unlock()
		i.RuntimeMs = ran.Milliseconds()
		all = append(all, i)
		fmt.Fprintf(&b, "%s  %s  %v  %s %s\n", p.id, s.Status, ran.Round(time.Second), i.Command, s.line)
	}
	res := text("%s", cmp.Or(b.String(), "No programs in the background."))
	res.Details = details(map[string]any{"status": "completed", "sessions": all})
	return res
}
