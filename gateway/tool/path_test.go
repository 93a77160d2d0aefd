package tool

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"go/ast"
	"go/parser"
	"go/token"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// fields calls f with every argument of a type, those within lists and structs too.
func fields(t reflect.Type, f func(reflect.StructField)) {
	for i := range t.NumField() {
		sf := t.Field(i)
		f(sf)
		for sf.Type.Kind() == reflect.Slice {
			sf.Type = sf.Type.Elem()
		}
		if sf.Type.Kind() == reflect.Struct && sf.Type != reflect.TypeFor[Path]() {
			fields(sf.Type, f)
		}
	}
}

// TestPathsAreChecked finds no tool that takes a path as a plain string, and no
// Path that is made elsewhere than where it is checked.
func TestPathsAreChecked(t *testing.T) {
	paths := 0
	for _, r := range rows() {
		fields(r.args, func(f reflect.StructField) {
			if f.Type == reflect.TypeFor[Path]() {
				paths++
				return
			}
			for _, name := range append(strings.Split(f.Tag.Get("alias"), ","), f.Tag.Get("arg")) {
				name = strings.ToLower(name)
				for _, word := range []string{"path", "file", "dir", "cwd", "folder"} {
					if strings.Contains(name, word) {
						t.Errorf("%s: %s is a %s, not a Path", r.Name, name, f.Type)
					}
				}
			}
		})
	}
	if paths < 5 {
		t.Errorf("only %d paths in all", paths)
	}
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range files {
		if name == "path.go" || strings.HasSuffix(name, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(f, func(n ast.Node) bool {
			if c, ok := n.(*ast.CompositeLit); ok {
				if id, ok := c.Type.(*ast.Ident); ok && id.Name == "Path" {
					t.Errorf("%s makes a Path", name)
				}
			}
			if s, ok := n.(*ast.SelectorExpr); ok && s.Sel.Name == "name" {
				t.Errorf("%s looks into something's name", name)
			}
			return true
		})
	}
}

// hostile are paths that lead out, or would if somebody undid their writing.
func hostile(h *house) []string {
	out := []string{
		"", "..", "../away/secret.txt", "a/../../away/secret.txt", "./../away/secret.txt", "....//....//../../../away/secret.txt",
		filepath.Join(h.away, "secret.txt"), "/etc/passwd", "/", h.dir + "x/y", h.dir + "/../away/secret.txt", "//etc/passwd",
		"..%2faway%2fsecret.txt", "%2e%2e/away/secret.txt", "..%5caway", `..\away\secret.txt`, `a\b`, "a%00b", "a\x00b", "a\nb", "\x1b[2J",
		"~", "~/.ssh/id_ed25519", "~root/x", "@/etc/passwd", "file:///etc/passwd", "FILE:/etc/passwd", "file:x", "https://example.com/x", "C:\\x",
		"/proc/self/environ", "/proc/self/root/etc/passwd", "/dev/zero", "/dev/fd/0",
		strings.Repeat("x", 4097), strings.Repeat("x/", 1000) + "y", strings.Repeat("../", 1000) + "etc/passwd",
		"link", "dangling", "up/away/secret.txt", "upabs/secret.txt", "self/root/etc/passwd", "fifo", "socket", "hard.txt", "loop",
	}
	for name, target := range map[string]string{
		"link": "../away/secret.txt", "dangling": "../away/new.txt", "up": "..", "upabs": h.away, "self": "/proc/self", "loop": "loop",
	} {
		if err := os.Symlink(target, filepath.Join(h.dir, name)); err != nil {
			h.t.Fatal(err)
		}
	}
	if err := syscall.Mkfifo(filepath.Join(h.dir, "fifo"), 0o600); err != nil {
		h.t.Fatal(err)
	}
	if err := os.Link(filepath.Join(h.away, "secret.txt"), filepath.Join(h.dir, "hard.txt")); err != nil {
		h.t.Fatal(err)
	}
	// The name of a socket may not be long.
	if here, err := os.Getwd(); err == nil && os.Chdir(h.dir) == nil {
		if l, err := net.Listen("unix", "socket"); err == nil {
			h.t.Cleanup(func() { l.Close() })
		}
		os.Chdir(here)
	}
	if os.Getuid() == 0 && syscall.Mknod(filepath.Join(h.dir, "zero"), syscall.S_IFCHR|0o600, 1<<8|5) == nil {
		out = append(out, "zero")
	}
	return out
}

// TestHostilePaths gives every path argument of every tool every path that
// must be refused: in a tenth of a second, with nothing shown and nothing changed.
func TestHostilePaths(t *testing.T) {
	h := newHouse(t)
	payloads := hostile(h)
	set := h.tools.For(h.scope)
	for _, r := range rows() {
		fields(r.args, func(f reflect.StructField) {
			if f.Type != reflect.TypeFor[Path]() {
				return
			}
			for _, name := range append(strings.Split(f.Tag.Get("alias"), ","), f.Tag.Get("arg")) {
				for _, payload := range payloads {
					args := map[string]any{"content": "overwritten", "oldText": "secret", "newText": "overwritten", "pattern": "secret"}
					for arg := range args {
						if fieldOf(r.args, arg) < 0 {
							delete(args, arg)
						}
					}
					args[name] = payload
					raw, err := json.Marshal(args)
					if err != nil {
						t.Fatal(err)
					}
					var res Result
					took := time.Hour
					for tries := 0; took > 100*time.Millisecond && tries < 5; tries++ { // this machine may have been busy
						began := time.Now()
						res = set.Call(context.Background(), "1", r.Name, raw, nil)
						took = time.Since(began)
					}
					if took > 100*time.Millisecond {
						t.Errorf("%s %s %.60q: took %v", r.Name, name, payload, took)
					}
					if got := res.Content.String(); !res.IsError || strings.Contains(got, secret) || strings.Contains(got, "root:") {
						t.Errorf("%s %s %.60q: %.200s", r.Name, name, payload, got)
					}
				}
			}
		})
	}
	if raw, _ := os.ReadFile(filepath.Join(h.away, "secret.txt")); string(raw) != secret {
		t.Errorf("outside it says %s", raw)
	}
	away, _ := os.ReadDir(h.away)
	beside, _ := os.ReadDir(filepath.Dir(h.dir))
	if len(away) != 1 || len(beside) != 3 {
		t.Errorf("outside there are %v, %v", away, beside)
	}
}

// TestStateIsNoWorkspace closes a workspace that holds the state directory.
func TestStateIsNoWorkspace(t *testing.T) {
	h := newHouse(t)
	base := filepath.Dir(h.dir)
	if err := os.Symlink(base, filepath.Join(h.away, "alias")); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{base, filepath.Join(h.away, "alias"), h.tools.Dir.Path(), "/"} {
		h.scope.Workspace = dir
		h.fails("list", `{}`, "own state")
	}
	h.scope.Workspace = filepath.Join(h.tools.Dir.Path(), "workspace")
	h.ok("write", `{"path":"x","content":"in the usual place"}`)
	for _, dir := range []string{"", "relative"} {
		h.scope.Workspace = dir
		h.fails("list", `{}`, "no workspace")
	}
}

var flips = flag.Int("flips", 10_000, "exchanges of a directory for a link in TestRenamed")

// TestRenamed has another process exchange a directory for a link to the
// outside, over and over, while tools use what is in it: none ever gets out.
func TestRenamed(t *testing.T) {
	h := newHouse(t)
	h.inside("d/secret.txt", "what is inside")
	h.outside("secret.txt", secret)
	at := func(name string) string { return filepath.Join(h.dir, name) }
	if err := os.Symlink(h.away, at("out")); err != nil {
		t.Fatal(err)
	}
	h.inside("own/x", "")
	var over atomic.Bool
	var wg sync.WaitGroup
	var done, refused atomic.Int64
	for _, c := range []struct{ name, args string }{
		{"read", `{"path":"d/secret.txt"}`},
		{"write", `{"path":"d/new.txt","content":"written by a tool"}`},
		{"edit", `{"path":"d/secret.txt","oldText":"secret","newText":"what is"}`},
		{"list", `{"path":"d"}`},
		{"grep", `{"pattern":"secret"}`},
		{"grep", `{"pattern":"secret","path":"d"}`},
	} {
		wg.Go(func() {
			for !over.Load() {
				r := h.call(c.name, c.args)
				if strings.Contains(r.Content.String(), secret) || c.name == "list" && strings.Contains(r.Content.String(), "outside") {
					t.Errorf("%s: %s", c.name, r.Content)
					return
				}
				done.Add(1)
				if r.IsError {
					refused.Add(1)
				}
			}
		})
	}
	h.outside("outside", "")
	for i := range *flips {
		from, to := "d", "real"
		if i%2 == 1 {
			from, to = "d", "out"
		}
		if err := os.Rename(at(from), at(to)); err != nil {
			t.Fatal(i, err)
		}
		from = "out"
		if i%2 == 1 {
			from = "real"
		}
		for os.Rename(at(from), at("d")) != nil { // write has made it anew, inside
			if err := os.RemoveAll(at("d")); err != nil && !errors.Is(err, syscall.ENOTEMPTY) {
				t.Fatal(i, err)
			}
		}
	}
	over.Store(true)
	wg.Wait()
	entries, _ := os.ReadDir(h.away)
	var left []string
	for _, e := range entries {
		left = append(left, e.Name())
	}
	raw, _ := os.ReadFile(filepath.Join(h.away, "secret.txt"))
	if string(raw) != secret || !slices.Equal(left, []string{"outside", "secret.txt"}) {
		t.Errorf("outside: %v, %s", left, raw)
	}
	if done.Load() == 0 || refused.Load() == done.Load() || refused.Load() == 0 {
		t.Errorf("%d calls, %d refused: nothing was raced", done.Load(), refused.Load())
	}
	t.Logf("%d calls, %d refused, %d exchanges", done.Load(), refused.Load(), *flips)
}

func FuzzPath(f *testing.F) {
	for _, s := range []string{"a/b", "../x", "/w/x", "/wx", "/w", ".", "a//b", "a/./b/../c"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		name, err := checkPath(s, "/w")
		if err == nil && (!filepath.IsLocal(name) || filepath.Clean(name) != name || strings.ContainsAny(name, "\x00\n\\")) {
			t.Errorf("%q became %q", s, name)
		}
	})
}
