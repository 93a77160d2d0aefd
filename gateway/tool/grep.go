package tool

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"strings"
	"time"

	"openclaw/gateway/store"
)

const (
	grepMatches = 100 // shown unless asked otherwise
	grepFile    = 4 << 20
	grepBytes   = 256 << 20 // of all files of one search
	grepSeen    = 50_000    // entries of one search
	grepDepth   = 64
	grepTime    = 10 * time.Second
	grepColumn  = 500 // bytes shown of one line
)

type grepArgs struct {
	Pattern    string `arg:"pattern" alias:"regex,query" required:"true" min:"1" max:"1000" doc:"A regular expression in RE2 syntax."`
	Path       Path   `arg:"path" alias:"dir,directory" doc:"A directory or file, relative to the workspace; the workspace itself when absent."`
	Glob       string `arg:"glob" alias:"include" max:"256" doc:"Only files whose name matches, for example *.go; with a slash, whose path does."`
	IgnoreCase bool   `arg:"ignoreCase" alias:"ignore_case,case_insensitive" doc:"Search without regard to case."`
	Literal    bool   `arg:"literal" doc:"Take the pattern as plain text."`
	Limit      int    `arg:"limit" alias:"maxResults,head_limit" min:"1" max:"2000" doc:"How many matching lines to show; 100 when absent."`
}

// search is one run of grep.
type search struct {
	*workspace
	ctx     context.Context
	re      *regexp.Regexp
	glob    string
	limit   int
	out     strings.Builder
	matches int
	seen    int
	bytes   int64
	skipped int    // files left out for their size
	stopped string // why there may be more
}

func grepFiles(ctx context.Context, c *call, a *grepArgs) (Result, error) {
	pattern := a.Pattern
	if a.Literal {
		pattern = regexp.QuoteMeta(pattern)
	}
	if a.IgnoreCase {
		pattern = "(?i)" + pattern
	}
	re, err := regexp.Compile(pattern)
	if err != nil {
		return Result{}, fmt.Errorf("pattern: %w (literal: true takes it as plain text)", err)
	}
	glob := strings.TrimPrefix(a.Glob, "**/")
	if _, err := path.Match(glob, ""); err != nil {
		return Result{}, fmt.Errorf("glob: %w", err)
	}
	w, err := c.workspace()
	if err != nil {
		return Result{}, err
	}
	defer w.Close()
	limited, cancel := context.WithTimeout(ctx, grepTime)
	defer cancel()
	s := &search{workspace: w, ctx: limited, re: re, glob: glob, limit: cmp.Or(a.Limit, grepMatches)}
	if err := s.start(a.Path); err != nil {
		return Result{}, err
	}
	if ctx.Err() != nil {
		return Result{}, context.Cause(ctx)
	}
	if s.matches == 0 {
		s.out.WriteString("There is no match.\n")
	}
	if s.stopped != "" {
		fmt.Fprintf(&s.out, "[stopped %s; there may be more]\n", s.stopped)
	}
	if s.skipped > 0 {
		fmt.Fprintf(&s.out, "[%d files larger than %d bytes are left out]\n", s.skipped, grepFile)
	}
	return Result{Content: store.Text(strings.ToValidUTF8(s.out.String(), "\uFFFD"))}, nil
}

// start searches what was asked for, which must be there; what is found below
// it may be gone or closed by then, and is left out.
func (s *search) start(p Path) error {
	f, fi, err := s.open(p)
	if err != nil {
		return err
	}
	f.Close()
	if !fi.IsDir() {
		s.glob = ""
		s.file(p)
		return nil
	}
	s.dir(p, 0)
	return nil
}

// done reports whether to go no further, and notes why.
func (s *search) done() bool {
	switch {
	case s.stopped != "":
	case s.matches >= s.limit:
		s.stopped = fmt.Sprintf("after %d matches", s.matches)
	case s.seen >= grepSeen:
		s.stopped = fmt.Sprintf("after %d files and directories", s.seen)
	case s.bytes >= grepBytes:
		s.stopped = fmt.Sprintf("after %d bytes", s.bytes)
	case s.ctx.Err() != nil:
		s.stopped = "after " + grepTime.String()
	}
	return s.stopped != ""
}

func (s *search) dir(p Path, depth int) {
	entries, whole, err := s.entries(p)
	if err != nil {
		return
	}
	for _, e := range entries {
		if s.done() {
			return
		}
		s.seen++
		switch at := p.beneath(e.Name()); {
		case e.IsDir() && e.Name() != ".git" && depth < grepDepth:
			s.dir(at, depth+1)
		case e.Type().IsRegular():
			s.file(at)
		}
	}
	if !whole && s.stopped == "" {
		s.stopped = fmt.Sprintf("in %s after %d entries", p, len(entries))
	}
}

func (s *search) file(p Path) {
	name := p.String()
	if !strings.Contains(s.glob, "/") {
		name = path.Base(name)
	}
	if ok, err := path.Match(s.glob, name); s.glob != "" && (!ok || err != nil) {
		return
	}
	data, err := s.whole(p)
	if err != nil || isBinary(data[:min(len(data), 8<<10)]) {
		return
	}
	s.bytes += int64(len(data))
	number := 0
	for line := range bytes.Lines(data) {
		number++
		if number%1024 == 0 && s.ctx.Err() != nil || s.matches >= s.limit {
			return // done says why
		}
		if line = bytes.TrimRight(line, "\r\n"); s.re.Match(line) {
			s.matches++
			fmt.Fprintf(&s.out, "%s:%d: %s\n", shown(p.String()), number, store.Clip(string(line), grepColumn))
		}
	}
}

// whole reads a file, or counts it as too large.
func (s *search) whole(p Path) ([]byte, error) {
	fi, err := s.root.Lstat(p.String())
	if err == nil && fi.Mode()&fs.ModeSymlink == 0 && fi.Size() > grepFile {
		s.skipped++
		return nil, errors.New("too large")
	}
	data, _, err := s.read(p, grepFile)
	return data, err
}
