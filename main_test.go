package main

import (
	"bytes"
	"flag"
	"fmt"
	"go/ast"
	"go/build/constraint"
	"go/format"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "rewrite golden files and the generated parts of the READMEs")

// imports is the architecture: what each package may import of ours. A new
// package or a new arrow is a changed line here.
var imports = map[string][]string{
	"":                     {"gateway", "reload/config", "svc"},
	"wire":                 {},
	"reload/config":        {},
	"reload":               {"reload/config"},
	"gateway/proc":         {},
	"gateway/store":        {},
	"gateway/tool":         {"gateway/store", "gateway/tool/fetch", "gateway/tool/sandbox", "reload/config"},
	"gateway/tool/fetch":   {},
	"gateway/tool/sandbox": {},
	"gateway/agent":        {"gateway/store", "gateway/tool", "reload/config"},
	"gateway/metric":       {},
	"gateway/qr":           {},
	"gateway/channel":      {"gateway/channel/whatsapp", "gateway/store", "reload/config"},

	"gateway/channel/whatsapp": {}, // embedded files and command lines, which the command line installs and the gateway checks
	"gateway":                  {"gateway/agent", "gateway/channel", "gateway/metric", "gateway/proc", "gateway/qr", "gateway/store", "gateway/tool", "reload", "reload/config", "wire"},
	"svc":                      {"gateway/channel/whatsapp", "gateway/proc", "gateway/qr", "gateway/store", "gateway/tool/sandbox", "reload/config", "svc/unit", "wire"},
	"svc/unit":                 {},
}

// A chokepoint is a resource with one door: the identifiers that open it, and
// the files that may name them. A folder stands for all of its files.
type chokepoint struct {
	name  string
	uses  []string // package path and identifier, "os.Open"
	files []string
}

var chokepoints = []chokepoint{
	{"file opener", []string{"os.Open", "os.OpenFile", "os.Create", "os.CreateTemp", "os.MkdirTemp", "os.ReadFile", "os.WriteFile", "os.OpenRoot", "os.OpenInRoot", "os.Rename", "os.Remove", "os.RemoveAll", "os.Mkdir", "os.MkdirAll", "os.Chmod", "os.Link", "os.Symlink", "os.Truncate"}, []string{
		"gateway/store/",
		"gateway/agent/prompt.go",              // the workspace's own files, through one os.Root
		"gateway/proc/",                        // /proc
		"gateway/tool/sandbox/guard_linux.go",  // /proc
		"gateway/tool/sandbox/census_linux.go", // /proc
		"gateway/tool/approval_bind.go",        // hashes what an approval is bound to
		"gateway/tool/workspace.go",
	}},
	{"listener", []string{"net.Listen", "net.ListenTCP", "net.ListenUnix", "net.ListenPacket", "net.ListenConfig", "net.FileListener", "net/http.ListenAndServe", "net/http.ListenAndServeTLS", "net/http.Serve"}, []string{
		"gateway/listen.go",
		"gateway/activation.go", // sockets that a supervisor opened
	}},
	{"dialer", []string{"net.Dial", "net.DialTCP", "net.DialTimeout", "net.DialUnix", "net.Dialer", "crypto/tls.Dial", "crypto/tls.Client", "net/http.Get", "net/http.Post", "net/http.Head", "net/http.DefaultClient", "net/http.DefaultTransport", "net/http.Client", "net/http.Transport"}, []string{
		"wire/dial.go",                     // the CLI and other WebSocket clients
		"gateway/agent/dial.go",            // model providers
		"gateway/tool/fetch/dial.go",       // pages for web_fetch, of public hosts only
		"gateway/channel/telegram_dial.go", // the Bot API
		"gateway/holder.go",                // asks the holder of our port whether it is a gateway
		"gateway/notify.go",                // NOTIFY_SOCKET, where the supervisor is told how we fare
		"gateway/watchdog.go",              // asks our own port whether it answers
	}},
	{"spawner", []string{"os/exec.Command", "os/exec.CommandContext", "os.StartProcess", "syscall.ForkExec", "syscall.StartProcess", "syscall.Exec", "golang.org/x/sys/unix.Exec", "golang.org/x/sys/unix.ForkExec"}, []string{
		"gateway/proc/holder_other.go",        // lsof, by absolute path
		"svc/spawn.go",                        // systemctl, loginctl, launchctl: root's; node with npm: by absolute path
		"gateway/tool/sandbox/sandbox.go",     // every program that tools run, behind walls
		"gateway/tool/sandbox/probe_linux.go", // what tries to outlive the walls
		"gateway/channel/spawn.go",            // the programs of channels, as configured, and Node.js
	}},
	{"exit", []string{"os.Exit", "syscall.Exit", "golang.org/x/sys/unix.Exit", "log.Fatal", "log.Fatalf", "log.Fatalln"}, []string{"main.go", "gateway/tool/sandbox/keeper_linux.go"}},
	{"JSON reader of what clients send", []string{"encoding/json.Unmarshal", "encoding/json.NewDecoder"}, []string{
		"gateway/agent/",                // what model providers answer
		"gateway/store/",                // our own files
		"gateway/tool/approval_file.go", // the same, strictly where a client sends it
		"gateway/channel/",              // what networks and channel programs send, and our own journal
	}},
	{"WebSocket library", []string{"golang.org/x/net/websocket.*"}, []string{
		"wire/gate.go", "wire/conn.go", "wire/conn_read.go", "wire/conn_write.go", "wire/accept.go", "wire/dial.go",
	}},
	{"process-wide logger", []string{"log.Print", "log.Printf", "log.Println", "log/slog.Default", "log/slog.SetDefault", "log/slog.Info", "log/slog.Warn", "log/slog.Error", "fmt.Print", "fmt.Printf", "fmt.Println"}, nil},
	{"unsafe", []string{"unsafe.*"}, []string{"gateway/tool/sandbox/kernel_linux.go"}},
}

// source is one parsed Go file that is not a test.
type source struct {
	path, dir string // slash-separated, relative to the root
	raw       []byte
	file      *ast.File
	fset      *token.FileSet
}

func sources(t *testing.T) []source {
	t.Helper()
	var out []source
	err := filepath.WalkDir(".", func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (strings.HasPrefix(d.Name(), ".") && p != "." || d.Name() == "testdata" || d.Name() == "bin" || d.Name() == "node_modules") {
			return fs.SkipDir
		}
		if d.IsDir() || !strings.HasSuffix(p, ".go") {
			return nil
		}
		raw, err := os.ReadFile(p)
		if err != nil {
			return err
		}
		fset := token.NewFileSet()
		f, err := parser.ParseFile(fset, p, raw, parser.ParseComments)
		if err != nil {
			return err
		}
		dir := filepath.ToSlash(filepath.Dir(p))
		if dir == "." {
			dir = ""
		}
		out = append(out, source{filepath.ToSlash(p), dir, raw, f, fset})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func (s source) test() bool { return strings.HasSuffix(s.path, "_test.go") }

func TestImports(t *testing.T) {
	got := map[string]map[string]bool{}
	for _, s := range sources(t) {
		if s.test() {
			continue
		}
		if got[s.dir] == nil {
			got[s.dir] = map[string]bool{}
		}
		for _, im := range s.file.Imports {
			p, _ := strconv.Unquote(im.Path.Value)
			if ours, ok := strings.CutPrefix(p, "openclaw/"); ok {
				got[s.dir][ours] = true
			}
			if strings.HasPrefix(p, "golang.org/x/sys") && !platformFile(s.path) {
				t.Errorf("%s: imports %s, which belongs in files with a platform suffix", s.path, p)
			}
		}
	}
	for dir, set := range got {
		want, ok := imports[dir]
		if !ok {
			t.Errorf("package %q is not in the import table", dir)
			continue
		}
		for im := range set {
			if !slices.Contains(want, im) {
				t.Errorf("package %q imports %q, against the import table", dir, im)
			}
		}
	}
	for dir := range imports {
		if got[dir] == nil {
			t.Errorf("package %q of the import table does not exist", dir)
		}
		for _, name := range readmes {
			if raw, err := os.ReadFile(name); err != nil || dir != "" && !strings.Contains(string(raw), "\n| `"+dir+"` | ") {
				t.Errorf("%s does not say what package %q is: %v", name, dir, err)
			}
		}
	}
}

// platformFile reports whether a file is only built for some systems, by its suffix.
func platformFile(path string) bool {
	for _, s := range []string{"_linux", "_linux_amd64", "_linux_arm64", "_darwin", "_freebsd", "_bsd", "_unix"} {
		if strings.HasSuffix(strings.TrimSuffix(path, ".go"), s) {
			return true
		}
	}
	return false
}

func TestChokepoints(t *testing.T) {
	for _, s := range sources(t) {
		if s.test() {
			continue
		}
		names := map[string]string{} // local name of an import to its path
		for _, im := range s.file.Imports {
			p, _ := strconv.Unquote(im.Path.Value)
			local := p[strings.LastIndexByte(p, '/')+1:]
			if im.Name != nil {
				local = im.Name.Name
				if local == "." {
					t.Errorf("%s: dot import of %s hides its uses", s.path, p)
				}
			}
			names[local] = p
		}
		ast.Inspect(s.file, func(n ast.Node) bool {
			sel, ok := n.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			x, ok := sel.X.(*ast.Ident)
			if !ok || x.Obj != nil || names[x.Name] == "" {
				return true
			}
			use := names[x.Name] + "." + sel.Sel.Name
			for _, c := range chokepoints {
				if !slices.Contains(c.uses, use) && !slices.Contains(c.uses, names[x.Name]+".*") {
					continue
				}
				if !slices.ContainsFunc(c.files, func(f string) bool { return f == s.path || strings.HasSuffix(f, "/") && strings.HasPrefix(s.path, f) }) {
					t.Errorf("%s: %s is reserved to the %s (%s)", s.fset.Position(sel.Pos()), use, c.name, strings.Join(c.files, ", "))
				}
			}
			return true
		})
	}
}

// TestChokepointFiles keeps the table above honest: a door that is gone leaves no hole behind.
func TestChokepointFiles(t *testing.T) {
	for _, c := range chokepoints {
		for _, f := range c.files {
			if _, err := os.Stat(f); err != nil {
				t.Errorf("%s: %v", c.name, err)
			}
		}
	}
}

// TestDependencies compares what is linked into the binary, and what go.mod
// requires, with the golden list: the standard library and two modules.
func TestDependencies(t *testing.T) {
	set := map[string]bool{}
	for _, target := range []string{"linux/amd64", "darwin/arm64", "freebsd/amd64"} {
		goos, goarch, _ := strings.Cut(target, "/")
		cmd := exec.Command("go", "list", "-deps", "-f", "{{if not .Standard}}{{.ImportPath}}{{end}}", ".")
		cmd.Env = append(os.Environ(), "GOOS="+goos, "GOARCH="+goarch, "CGO_ENABLED=0", "GOFLAGS=-mod=readonly", "GOPROXY=off")
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("go list -deps for %s: %v", target, err)
		}
		for _, l := range strings.Fields(string(out)) {
			set[l] = true
		}
	}
	golden(t, "testdata/golden/deps.txt", []byte(strings.Join(slices.Sorted(maps.Keys(set)), "\n")+"\n"))

	mod, err := os.ReadFile("go.mod")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(mod)) {
		f := strings.Fields(line)
		if len(f) >= 2 && strings.Contains(f[0], ".") && f[0] != "golang.org/x/net" && f[0] != "golang.org/x/sys" {
			t.Errorf("go.mod requires %s", f[0])
		}
	}
}

func TestFormatting(t *testing.T) {
	for _, s := range sources(t) {
		want, err := format.Source(s.raw)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(s.raw, want) {
			t.Errorf("%s is not gofmt'ed", s.path)
		}
	}
}

// TestPackageDocs wants every package to tell its story.
func TestPackageDocs(t *testing.T) {
	doc := map[string]bool{}
	for _, s := range sources(t) {
		doc[s.dir] = doc[s.dir] || !s.test() && s.file.Doc != nil && !constraint.IsGoBuild(s.file.Doc.List[0].Text)
	}
	for dir, ok := range doc {
		if !ok {
			t.Errorf("package %q has no doc comment", dir)
		}
	}
}

// TestExportedDocs wants a sentence over every exported function, type and method.
func TestExportedDocs(t *testing.T) {
	for _, s := range sources(t) {
		if s.test() {
			continue
		}
		for _, d := range s.file.Decls {
			switch d := d.(type) {
			case *ast.FuncDecl:
				if d.Name.IsExported() && d.Doc == nil && (d.Recv == nil || exportedRecv(d.Recv)) && !wellKnown[d.Name.Name] {
					t.Errorf("%s: %s has no doc comment", s.fset.Position(d.Pos()), d.Name.Name)
				}
			case *ast.GenDecl:
				for _, sp := range d.Specs {
					if ts, ok := sp.(*ast.TypeSpec); ok && ts.Name.IsExported() && d.Doc == nil && ts.Doc == nil {
						t.Errorf("%s: type %s has no doc comment", s.fset.Position(ts.Pos()), ts.Name.Name)
					}
				}
			}
		}
	}
}

// wellKnown are methods whose contract an interface of the standard library gives.
var wellKnown = map[string]bool{"Error": true, "String": true, "Unwrap": true, "MarshalJSON": true, "UnmarshalJSON": true, "Is": true, "As": true, "Format": true, "GoString": true, "LogValue": true, "MarshalText": true, "UnmarshalText": true, "Len": true, "Less": true, "Swap": true, "Read": true, "Write": true, "Close": true, "Enabled": true, "Handle": true, "WithAttrs": true, "WithGroup": true, "Timeout": true, "Temporary": true}

func exportedRecv(fl *ast.FieldList) bool {
	t := fl.List[0].Type
	for {
		switch x := t.(type) {
		case *ast.StarExpr:
			t = x.X
		case *ast.IndexExpr:
			t = x.X
		case *ast.IndexListExpr:
			t = x.X
		case *ast.Ident:
			return x.IsExported()
		default:
			return false
		}
	}
}

// TestNothingLeftOpen looks for work put off and for places of one machine.
func TestNothingLeftOpen(t *testing.T) {
	marks := []string{"TO" + "DO", "FIX" + "ME", "XX" + "X", "not impl" + "emented", "/wo" + "rk/"}
	out, err := exec.Command("git", "ls-files").Output()
	if err != nil {
		t.Skip("not a git checkout: a source archive was checked when it was made")
	}
	for _, p := range strings.Fields(string(out)) {
		raw, err := os.ReadFile(p)
		if err != nil {
			continue // deleted, not yet committed
		}
		for _, m := range marks {
			if bytes.Contains(raw, []byte(m)) {
				t.Errorf("%s contains %q", p, m)
			}
		}
	}
}

// golden compares got with a file, or rewrites the file under -update.
func golden(t *testing.T, path string, got []byte) {
	t.Helper()
	if *update {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s is out of date (make update):\n%s", path, lineDiff(string(want), string(got)))
	}
}

// lineDiff names the lines that only one of two texts has.
func lineDiff(want, got string) string {
	var b strings.Builder
	w, g := strings.Split(want, "\n"), strings.Split(got, "\n")
	for _, l := range w {
		if !slices.Contains(g, l) {
			fmt.Fprintf(&b, "-%s\n", l)
		}
	}
	for _, l := range g {
		if !slices.Contains(w, l) {
			fmt.Fprintf(&b, "+%s\n", l)
		}
	}
	return b.String()
}
