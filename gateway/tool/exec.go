package tool

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"openclaw/gateway/store"
	"openclaw/gateway/tool/sandbox"
	"openclaw/reload/config"
)

func execTools() []*row {
	return []*row{
		tool("exec", Execute, "Run a program in the workspace. A text is run by /bin/sh; a list is a program with its arguments, without a shell. "+
			"What runs longer than yieldMs, or with background, goes on in the background: process shows and ends it.", execTool),
	}
}

const (
	maxCommand = 128 << 10 // bytes of one argument list
	maxSeconds = 86400
	shell      = "/bin/sh"
	fixedPath  = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
)

// limits bound each process of a program. Address space is not memory: Go,
// Java and JavaScript reserve much more of it than they use.
var limits = sandbox.Limits{AddressSpace: 16 << 30, FileSize: 1 << 30, Processes: 512, Descriptors: 1024}

// command is what exec is to run.
type command struct {
	argv  []string
	shell bool
}

func (*command) schema() object {
	return object{"anyOf": []object{{"type": "string"}, {"type": "array", "items": object{"type": "string"}}}}
}

func (c *command) read(_ *call, n *config.Node) error {
	switch n.Kind {
	case config.String:
		c.argv, c.shell = []string{shell, "-c", n.Str}, true
	case config.Array:
		for _, item := range n.Items {
			if item.Kind != config.String {
				return errors.New("a list must hold texts only: the program and its arguments")
			}
			c.argv = append(c.argv, item.Str)
		}
	default:
		return errors.New("must be a text for the shell, or a list of a program and its arguments")
	}
	size := 0
	for _, arg := range c.argv {
		size += len(arg) + 1
	}
	switch text := strings.Join(c.argv, ""); {
	case len(c.argv) == 0 || c.argv[0] == "" || c.shell && strings.TrimSpace(n.Str) == "":
		return errors.New("must not be empty")
	case size > maxCommand:
		return fmt.Errorf("is longer than %d bytes; put it into a file", maxCommand)
	case strings.ContainsRune(text, 0):
		return errors.New("holds a NUL byte")
	}
	return nil
}

// environment is what a call adds to it: sorted, as NAME=value, names that the
// operator allows only.
type environment []string

func (*environment) schema() object {
	return object{"type": "object", "additionalProperties": object{"type": "string"}}
}

func (e *environment) read(c *call, n *config.Node) error {
	if n.Kind != config.Object {
		return errors.New("must be an object of texts, not " + n.Kind.String())
	}
	allowed := c.Config().Exec(c.Agent).Env
	for _, m := range n.Members {
		switch v := m.Value; {
		case !slices.Contains(allowed, m.Key) || config.LoaderVariable(m.Key) || !config.IsVariable(m.Key):
			return fmt.Errorf("%s cannot be set; the operator allows %s", Quote(store.Clip(m.Key, 64)), cmp.Or(strings.Join(allowed, ", "), "none"))
		case v.Kind != config.String || len(v.Str) > maxCommand/4 || strings.ContainsRune(v.Str, 0):
			return fmt.Errorf("%s must be a text of at most %d bytes without NUL", m.Key, maxCommand/4)
		}
		*e = append(*e, m.Key+"="+m.Value.Str)
	}
	slices.Sort(*e)
	return nil
}

type execArgs struct {
	Command    command     `arg:"command" alias:"cmd" required:"true" doc:"A text for the shell, or a list of a program and its arguments."`
	Workdir    Path        `arg:"workdir" alias:"cwd,working_directory,workingDirectory" doc:"Directory of the workspace to run it in; the workspace itself when absent."`
	Env        environment `arg:"env" doc:"Further environment variables, of those that the operator allows."`
	Timeout    int         `arg:"timeout" alias:"timeoutSec,timeout_seconds" min:"1" max:"86400" doc:"Seconds after which it is ended."`
	Background bool        `arg:"background" doc:"Go on in the background at once. Only then can process write to its input."`
	YieldMs    int         `arg:"yieldMs" alias:"yield_ms" min:"10" max:"600000" doc:"Milliseconds after which it goes on in the background."`
}

// job is a program that is about to run, all of it settled.
type job struct {
	sandbox.Spec
	argv, env []string // env ends with TMPDIR
	dir       string   // real path
	shown     string   // the command as process list shows it
	sandboxed bool
	timeout   time.Duration
}

func execTool(ctx context.Context, c *call, a *execArgs) (Result, error) {
	rules := c.Config().Exec(c.Agent)
	j, err := c.settle(a, rules)
	if err != nil {
		return Result{}, err
	}
	if err := c.permit(ctx, j, a.Command.shell, rules); err != nil {
		return Result{}, err
	}
	yield := rules.Background
	if a.YieldMs > 0 {
		yield = time.Duration(a.YieldMs) * time.Millisecond
	}
	if a.Background {
		yield = 0
	}
	stays := !c.set.Has("process") // nobody could look after it
	p, err := c.start(j, a.Background && !stays)
	if err != nil {
		return Result{}, err
	}
	return p.follow(ctx, c, yield, stays)
}

// sandboxed reports whether programs of this scope run behind all walls. What
// a sandboxed session has started is sandboxed too.
func (s *Scope) sandboxed() bool {
	return s.Agent.SandboxMode == "all" || s.Agent.SandboxMode == "non-main" && !s.Main || s.Parent != nil && s.Parent.scope.sandboxed()
}

// modes are the values of tools.exec.mode, the strictest first.
var modes = []string{"deny", "allowlist", "ask", "full"}

// mode is the strictest of what is configured for the session and for those
// that started it; without any, what the sandbox makes harmless needs no asking.
func (c *call) mode(sandboxed bool) string {
	mode := c.Config().Exec(c.Agent).Mode
	for p := c.Parent; p != nil; p = p.scope.Parent {
		if m := c.Config().Exec(p.scope.Agent).Mode; m != "" && (mode == "" || slices.Index(modes, m) < slices.Index(modes, mode)) {
			mode = m
		}
	}
	switch {
	case mode != "":
		return mode
	case sandboxed:
		return "full"
	}
	return "ask"
}

// settle makes a job of a call, without doing anything yet.
func (c *call) settle(a *execArgs, rules config.ResolvedExec) (*job, error) {
	j := &job{sandboxed: c.sandboxed(), argv: slices.Clone(a.Command.argv), timeout: rules.Timeout}
	if j.sandboxed {
		if err := c.layers().Err(); err != nil {
			return nil, err
		}
	}
	if a.Timeout > 0 {
		j.timeout = time.Duration(a.Timeout) * time.Second
	}
	w, err := c.workspace()
	if err != nil {
		return nil, err
	}
	defer w.Close()
	home, err := filepath.EvalSymlinks(c.Scope.Workspace)
	if err != nil {
		return nil, fmt.Errorf("open the workspace: %w", err)
	}
	if j.dir, err = w.realDir(a.Workdir, home); err != nil {
		return nil, err
	}
	if j.argv[0], err = findProgram(j.argv[0], j.dir); err != nil {
		return nil, err
	}
	j.env = []string{"PATH=" + fixedPath, "HOME=" + home, "LANG=C.UTF-8", "TERM=dumb", "TZ=" + zone()}
	j.env = append(j.env, a.Env...)
	j.env = append(j.env, "TMPDIR=")
	j.shown = Quote(j.argv...)
	if a.Command.shell {
		j.shown = Quote(a.Command.argv[2])
	}
	j.Write = []string{home}
	j.Limits = limits
	j.Limits.CPU = j.timeout
	if j.Light = !j.sandboxed; j.Light {
		for _, h := range append([]string{c.Dir.Path()}, c.Hidden...) {
			if abs, err := filepath.Abs(h); err == nil {
				j.Hidden = append(j.Hidden, abs)
			}
		}
	}
	return j, nil
}

// realDir returns the real path of a directory of the workspace at home.
func (w *workspace) realDir(p Path, home string) (string, error) {
	f, fi, err := w.open(p)
	if err != nil {
		return "", err
	}
	f.Close()
	dir, err := filepath.EvalSymlinks(filepath.Join(home, p.String()))
	if err != nil {
		return "", told(p, err)
	}
	rest, err := filepath.Rel(home, dir)
	now, statErr := os.Stat(dir)
	if err != nil || statErr != nil || !filepath.IsLocal(rest) || !os.SameFile(fi, now) {
		return "", told(p, errors.New("leads out of the workspace"))
	}
	if !fi.IsDir() {
		return "", told(p, errors.New("is not a directory"))
	}
	return dir, nil
}

// findProgram returns the absolute path of a program: a name is looked for in
// the fixed PATH, anything with a slash begins at dir.
func findProgram(name, dir string) (string, error) {
	var tries []string
	switch {
	case filepath.IsAbs(name):
		tries = []string{filepath.Clean(name)}
	case strings.Contains(name, "/"):
		tries = []string{filepath.Join(dir, name)}
	default:
		for _, d := range filepath.SplitList(fixedPath) {
			tries = append(tries, filepath.Join(d, name))
		}
	}
	for _, path := range tries {
		if fi, err := os.Stat(path); err == nil && fi.Mode().IsRegular() && fi.Mode()&0o111 != 0 {
			return path, nil
		} else if err == nil && len(tries) == 1 {
			return "", fmt.Errorf("%s cannot be executed", Quote(path))
		}
	}
	return "", fmt.Errorf("there is no program %s (PATH is %s)", Quote(store.Clip(name, 256)), fixedPath)
}

// zone is the host's time zone in the form of TZ.
func zone() string {
	if z := time.Local.String(); z != "Local" {
		return z
	}
	return ":/etc/localtime"
}

// permit lets a job through or says why not. What was looked at before a
// person's decision is looked at again after it, just before the start.
func (c *call) permit(ctx context.Context, j *job, shell bool, rules config.ResolvedExec) error {
	switch mode := c.mode(j.sandboxed); mode {
	case "full":
		return nil
	case "allowlist":
		return j.listed(shell, rules.Allow)
	case "ask":
		return c.ask(ctx, j, mode, rules.Approval)
	}
	return errors.New("running programs is switched off here (tools.exec.mode is deny)")
}

// listed goes by exact paths. A program of that path which turns workspace
// into programs is no help: the list is the operator's, the workspace the model's.
func (j *job) listed(shell bool, allow []string) error {
	real, err := filepath.EvalSymlinks(j.argv[0])
	switch {
	case shell:
		return errors.New("the operator allows some programs only, and no shell: give command as a list (tools.exec.mode is allowlist)")
	case err != nil:
		return fmt.Errorf("%s: %w", Quote(j.argv[0]), err)
	case !slices.Contains(allow, j.argv[0]):
		return fmt.Errorf("%s is not among the programs that the operator allows (tools.exec.allow)", Quote(j.argv[0]))
	}
	for _, path := range []string{j.argv[0], real} {
		if rest, err := filepath.Rel(j.Write[0], path); err != nil || filepath.IsLocal(rest) {
			return fmt.Errorf("%s lies in the workspace, where it can be exchanged", Quote(path))
		}
	}
	return nil
}

// ask has a person decide, unless one did for always.
func (c *call) ask(ctx context.Context, j *job, mode string, timeout time.Duration) error {
	hash, files, err := j.bind()
	if err != nil {
		return err
	}
	ok, err := c.always(c.Agent.ID, hash)
	if ok || err != nil {
		return err
	}
	real, err := filepath.EvalSymlinks(j.argv[0])
	if err != nil {
		return err
	}
	r := ApprovalRequest{
		Command: Quote(j.argv...), Cwd: Quote(j.dir), ResolvedPath: Quote(real), Files: files, Hash: hash,
		Host: "gateway", Security: mode, Ask: "always", AgentID: c.Agent.ID, SessionKey: c.SessionKey,
	}
	for _, v := range j.env {
		name, _, _ := strings.Cut(v, "=")
		r.Env = append(r.Env, name)
	}
	a, decision, err := c.Approve(ctx, "", r, timeout)
	if err != nil {
		return err
	}
	c.Log.Info("program "+cmp.Or(decision, "not decided on"), "run", c.RunID, "req", a.ID)
	switch decision {
	case AllowOnce, AllowAlways:
	case Deny:
		return errors.New("a person has denied this; do not try it by other means")
	default:
		return fmt.Errorf("nobody approved this within %v", timeout)
	}
	now, _, err := j.bind()
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if now != hash {
		return errors.New("not run: the program, a file that the command names, or the directory has changed since the approval was asked for")
	}
	if decision == AllowAlways {
		if err := c.remember(&r); err != nil {
			c.Log.Warn("approval not stored", "err", err)
		}
	}
	return nil
}
