package tool

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"openclaw/gateway/store"
)

func TestRead(t *testing.T) {
	h := newHouse(t)
	h.inside("a.txt", "one\ntwo\nthree\n")
	h.inside("crlf.txt", "one\r\ntwo")
	h.inside("empty", "")
	h.inside("latin", "caf\xe9\n")
	h.inside("binary", "\x7fELF\x00\x01")
	for _, tc := range []struct{ args, want string }{
		{`{"path":"a.txt"}`, "one\ntwo\nthree\n"},
		{`{"file_path":"./a.txt"}`, "one\ntwo\nthree\n"},
		{`{"path":"x/../a.txt"}`, "one\ntwo\nthree\n"},
		{`{"path":` + quoted(filepath.Join(h.dir, "a.txt")) + `}`, "one\ntwo\nthree\n"},
		{`{"path":"a.txt","offset":2}`, "two\nthree\n\n[lines 2 to 3 of 3]"},
		{`{"path":"a.txt","limit":1}`, "one\n\n[lines 1 to 1 of 3; go on with offset 2]"},
		{`{"path":"a.txt","offset":"2","limit":1}`, "two\n\n[lines 2 to 2 of 3; go on with offset 3]"},
		{`{"path":"crlf.txt"}`, "one\r\ntwo"},
		{`{"path":"empty"}`, "empty is empty."},
		{`{"path":"latin"}`, "caf\uFFFD\n"},
		{`{"path":"binary"}`, "binary is a binary file (application/octet-stream, 6 bytes) and is not shown."},
	} {
		if got := h.ok("read", tc.args); got != tc.want {
			t.Errorf("%s: %q", tc.args, got)
		}
	}
	h.fails("read", `{"path":"a.txt","offset":4}`, "there is no line 4", "has 3")
	h.fails("read", `{"path":"none"}`, "none: there is no such file")
	h.fails("read", `{"path":"."}`, "is a directory")
	h.fails("read", `{}`, "path: is required")
	h.fails("read", `{"path":"a.txt","ofset":1}`, `"ofset": unknown argument (did you mean offset?)`)
	h.fails("read", `{"path":"a.txt","file_path":"a.txt"}`, "is the same as path")
	h.fails("read", `{"path":"a.txt","offset":0}`, "must be at least 1")
	h.fails("read", `{"path":["a.txt"]}`, "must be a string, not a list")
	h.fails("read", `{"path":"a.txt","path":"b"}`, "arguments are not JSON")
	h.fails("read", `{"path":`+strings.Repeat("[", 100)+`}`, "arguments are not JSON")
	h.fails("read", `[]`, "must be an object")
	h.fails("raed", `{}`, `there is no tool "raed" here (did you mean read?)`)
}

func TestReadImage(t *testing.T) {
	h := newHouse(t)
	png, _ := base64.StdEncoding.DecodeString("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg==")
	h.inside("x.png", string(png))
	r := h.call("read", `{"path":"x.png"}`)
	if r.IsError || len(r.Content) != 2 || r.Content[1].Type != store.PartImage || r.Content[1].MimeType != "image/png" || r.Content[1].Data != base64.StdEncoding.EncodeToString(png) {
		t.Errorf("%+v", r)
	}
	h.inside("big.png", string(png)+strings.Repeat("x", maxImage))
	h.fails("read", `{"path":"big.png"}`, "at most")
}

// TestReadHuge reads of large files what is asked for, and no more.
func TestReadHuge(t *testing.T) {
	h := newHouse(t)
	h.inside("zeros", "")
	if err := os.Truncate(filepath.Join(h.dir, "zeros"), 10<<30); err != nil {
		t.Skip(err)
	}
	h.inside("line", strings.Repeat("x", 1<<20)+"\nend\n")
	var lines strings.Builder
	for i := range 2_000_000 {
		fmt.Fprintf(&lines, "line %d, twenty bytes\n", i+1)
	}
	h.inside("lines", lines.String())
	if got := h.ok("read", `{"path":"zeros"}`); !strings.Contains(got, "binary") {
		t.Errorf("zeros: %.100s", got)
	}
	if got := h.ok("read", `{"path":"line"}`); !strings.Contains(got, "[1040385 bytes of this line are left out]\nend\n") || len(got) > readBytes+1000 {
		t.Errorf("line: %d bytes, …%s", len(got), got[max(0, len(got)-200):])
	}
	if got := h.ok("read", `{"path":"lines"}`); !strings.HasSuffix(got, "line 2000, twenty bytes\n\n[lines 1 to 2000 of more; go on with offset 2001]") {
		t.Errorf("lines: …%s", got[max(0, len(got)-200):])
	}
	if got := h.ok("read", `{"path":"lines","offset":1999999}`); got != "line 1999999, twenty bytes\nline 2000000, twenty bytes\n\n[lines 1999999 to 2000000 of 2000000]" {
		t.Errorf("its end: %s", got)
	}
	h.fails("edit", `{"path":"zeros","oldText":"a","newText":"b"}`, "has 10737418240 bytes")
	if got := h.ok("grep", `{"pattern":"twenty"}`); !strings.Contains(got, "[2 files larger than 4194304 bytes are left out]") {
		t.Errorf("grep: %s", got)
	}
}

func TestWrite(t *testing.T) {
	h := newHouse(t)
	if got := h.ok("write", `{"path":"a/b/c.txt","content":"hello"}`); got != "Wrote 5 bytes to a/b/c.txt." || h.text("a/b/c.txt") != "hello" {
		t.Error(got)
	}
	script := filepath.Join(h.dir, "run.sh")
	h.inside("run.sh", "#!/bin/sh\n")
	if err := os.Chmod(script, 0o751); err != nil {
		t.Fatal(err)
	}
	h.ok("write", `{"path":"run.sh","content":""}`)
	if fi, _ := os.Stat(script); fi.Mode().Perm() != 0o751 || fi.Size() != 0 {
		t.Errorf("mode %v, size %d", fi.Mode(), fi.Size())
	}
	if err := os.Symlink("run.sh", filepath.Join(h.dir, "link")); err != nil {
		t.Fatal(err)
	}
	h.fails("write", `{"path":"link","content":"x"}`, "symbolic link to run.sh")
	h.fails("write", `{"path":"a","content":"x"}`, "is a directory")
	h.fails("write", `{"path":".","content":"x"}`, "is a directory")
	h.fails("write", `{"path":"run.sh/x","content":"x"}`, "run.sh/x: ")
	h.fails("write", `{"path":"x"}`, "content: is required")
	h.fails("write", `{"path":"x","content":`+quoted(strings.Repeat("x", 1<<20))+`}`, "larger than 1 MiB")
	left, _ := filepath.Glob(filepath.Join(h.dir, ".openclaw-*"))
	if len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	// A workspace that is not there yet is made.
	h.scope.Workspace = filepath.Join(h.dir, "new", "workspace")
	h.fails("read", `{"path":"x"}`, "no such file")
	h.ok("write", `{"path":"x","content":"x"}`)
}

func TestEdit(t *testing.T) {
	h := newHouse(t)
	const code = "package main\n\nfunc main() {\n\tprintln(\"a\")\n\tprintln(\"b\")\n}\n"
	for _, tc := range []struct{ was, args, now string }{
		{code, `"oldText":"println(\"a\")","newText":"print(1)"`, strings.Replace(code, `println("a")`, "print(1)", 1)},
		{code, `"old_string":"package main","new_string":"package x"`, strings.Replace(code, "package main", "package x", 1)},
		{code, `"oldText":"\tprintln(\"a\")\n","newText":""`, strings.Replace(code, "\tprintln(\"a\")\n", "", 1)},
		{code, `"oldText":"println","newText":"print","replaceAll":true`, strings.ReplaceAll(code, "println", "print")},
		{code, `"edits":[{"oldText":"\"a\"","newText":"\"c\""},{"oldText":"\"c\"","newText":"\"d\""}]`, strings.Replace(code, `"a"`, `"d"`, 1)},
		{"a\r\nb\r\nc\r\n", `"oldText":"a\nb\n","newText":"x\ny\nz\n"`, "x\r\ny\r\nz\r\nc\r\n"},
		{"a\r\nb\nc\n", `"oldText":"b\n","newText":"x\n"`, "a\r\nx\nc\n"},
		{"\ufeffa\n", `"oldText":"a","newText":"b"`, "\ufeffb\n"},
		{"no end", `"oldText":"end","newText":"start"`, "no start"},
	} {
		h.inside("f", tc.was)
		h.ok("edit", `{"path":"f",`+tc.args+`}`)
		if got := h.text("f"); got != tc.now {
			t.Errorf("%s: %q", tc.args, got)
		}
	}
	h.inside("f", code)
	if got := h.ok("edit", `{"path":"f","oldText":"\"b\"","newText":"\"z\""}`); got != "Changed 1 place in f, first in line 5." {
		t.Error(got)
	}
	h.inside("f", code)
	for args, words := range map[string][]string{
		`"oldText":"println","newText":"x"`:                                                                 {"2 times", "replaceAll"},
		`"oldText":"  println(\"a\")\n  println(\"b\")","newText":"x"`:                                      {"not in the file", "4: \tprintln(\"a\")\n5: \tprintln(\"b\")\n", "white space only"},
		`"oldText":"\tprintln(\"x\")\n}","newText":"x"`:                                                     {"5: \tprintln(\"b\")\n6: }", "differs"},
		`"oldText":"zzzzzzzz","newText":"x"`:                                                                {"nothing like it"},
		`"oldText":"","newText":"x"`:                                                                        {"must not be empty"},
		`"oldText":"main","newText":"main","replaceAll":true`:                                               {"nothing was changed"},
		`"edits":[{"oldText":"\"a\"","newText":"\"c\""},{"oldText":"nope","newText":""}]`:                   {"edits[1]", "nothing was changed"},
		`"edits":[{"oldText":"\"a\""}]`:                                                                     {"edits[0].newText: is required"},
		`"oldText":"a","edits":[{"oldText":"\"a\"","newText":"\"c\""}]`:                                     {"either"},
		`"oldText":"println(\"b\")","newText":` + quoted(strings.Repeat("x", 100)) + `,"extra":true`:        {`"extra": unknown argument`},
		`"oldText":"n","replaceAll":true,"newText":` + quoted(strings.Repeat("x", maxWrite/9+1)) + `,"a":1`: {""},
	} {
		h.fails("edit", `{"path":"f",`+args+`}`, words...)
		if h.text("f") != code {
			t.Fatalf("%s changed the file", args)
		}
	}
	h.fails("edit", `{"path":"none","oldText":"a","newText":"b"}`, "no such file")
	h.inside("many", strings.Repeat("n", 1000))
	h.fails("edit", `{"path":"many","oldText":"n","replaceAll":true,"newText":`+quoted(strings.Repeat("x", 100_000))+`}`, "at most")
}

// TestParallelEdits loses no change of calls that run at once.
func TestParallelEdits(t *testing.T) {
	h := newHouse(t)
	var text strings.Builder
	for i := range 64 {
		fmt.Fprintf(&text, "<%d>\n", i)
	}
	h.inside("f", text.String())
	var wg sync.WaitGroup
	for i := range 64 {
		wg.Go(func() { h.ok("edit", fmt.Sprintf(`{"path":"f","oldText":"<%d>","newText":"done %d."}`, i, i)) })
		wg.Go(func() { h.ok("read", `{"path":"f"}`) })
	}
	wg.Wait()
	if got := h.text("f"); strings.Count(got, "done") != 64 {
		t.Errorf("%s", got)
	}
}

// TestChangedMeanwhile refuses to replace a file that is not what was read.
func TestChangedMeanwhile(t *testing.T) {
	h := newHouse(t)
	h.inside("f", "old")
	w, err := (&call{Tools: h.tools, Scope: h.scope}).workspace()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	p := Path{}.beneath("f")
	_, was, err := w.read(p, 100)
	if err != nil {
		t.Fatal(err)
	}
	h.inside("f", "another's")
	if err := w.put(p, []byte("ours"), was); err == nil || h.text("f") != "another's" {
		t.Errorf("%v, %s", err, h.text("f"))
	}
}

func TestList(t *testing.T) {
	h := newHouse(t)
	if got := h.ok("list", `{}`); got != ". is empty." {
		t.Error(got)
	}
	h.inside("b.txt", "12345")
	h.inside("a/x", "")
	os.Symlink("/etc/passwd", filepath.Join(h.dir, "link"))
	if got := h.ok("list", `{}`); got != "a/\nb.txt\t5\nlink -> /etc/passwd\n" {
		t.Errorf("%q", got)
	}
	h.inside("c/x\ny/\tz", "needle")
	if got := h.ok("list", `{"path":"c"}`) + h.ok("grep", `{"pattern":"needle"}`); got != "\"x\\ny\"/\n\"c/x\\ny/\\tz\":1: needle\n" {
		t.Errorf("%q", got)
	}
	if got := h.ok("list", `{"path":"a"}`); got != "x\t0\n" {
		t.Errorf("%q", got)
	}
	if got := h.ok("list", `{"limit":1}`); got != "a/\n[1 of 4 entries are shown]\n" {
		t.Errorf("%q", got)
	}
	h.fails("list", `{"path":"b.txt"}`, "is not a directory")
}

func TestGrep(t *testing.T) {
	h := newHouse(t)
	h.inside("a.go", "func A() {}\nfunc B() {}\n")
	h.inside("sub/b.go", "// FUNC\nfunc C() {}\n")
	h.inside("sub/c.txt", "func\r\n")
	h.inside(".git/x", "func")
	h.inside("bin", "func\x00")
	os.Symlink(h.away, filepath.Join(h.dir, "out"))
	os.Symlink(filepath.Join(h.away, "secret.txt"), filepath.Join(h.dir, "leak"))
	for _, tc := range []struct{ args, want string }{
		{`{"pattern":"func [AC]"}`, "a.go:1: func A() {}\nsub/b.go:2: func C() {}\n"},
		{`{"pattern":"^func$"}`, "sub/c.txt:1: func\n"},
		{`{"pattern":"FUNC$"}`, "sub/b.go:1: // FUNC\n"},
		{`{"pattern":"func","path":"sub","ignoreCase":true,"glob":"*.go"}`, "sub/b.go:1: // FUNC\nsub/b.go:2: func C() {}\n"},
		{`{"pattern":"C()","literal":true,"glob":"**/*.go"}`, "sub/b.go:2: func C() {}\n"},
		{`{"pattern":"func","glob":"sub/*.go"}`, "sub/b.go:2: func C() {}\n"},
		{`{"pattern":"B","path":"a.go"}`, "a.go:2: func B() {}\n"},
		{`{"pattern":"secret"}`, "There is no match.\n"},
		{`{"pattern":"func","limit":2}`, "a.go:1: func A() {}\na.go:2: func B() {}\n[stopped after 2 matches; there may be more]\n"},
	} {
		if got := h.ok("grep", tc.args); got != tc.want {
			t.Errorf("%s: %q", tc.args, got)
		}
	}
	h.fails("grep", `{"pattern":"("}`, "pattern:")
	h.fails("grep", `{"pattern":"a","glob":"["}`, "glob:")
	h.fails("grep", `{"pattern":"a","path":"out"}`, "out")
	h.fails("grep", `{"pattern":"a","path":"leak"}`, "leak")
	h.fails("grep", `{"pattern":`+quoted(strings.Repeat("(a{1000}){1000}", 3))+`}`, "pattern")
}

// TestCancelled ends a search with its caller, and with the gateway.
func TestCancelled(t *testing.T) {
	h := newHouse(t)
	for i := range 40 {
		h.inside(fmt.Sprintf("d/%d", i), strings.Repeat(strings.Repeat("a", 99)+"\n", 20_000))
	}
	set := h.tools.For(h.scope)
	args := json.RawMessage(`{"pattern":"(a|aa)+(b|ab)+$"}`)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan Result)
	go func() { done <- set.Call(ctx, "1", "grep", args, nil) }()
	cancel()
	if r := <-done; !r.IsError || !strings.Contains(r.Content.String(), "canceled") {
		t.Errorf("%s", r.Content)
	}
	for range 2 {
		go func() { done <- set.Call(context.Background(), "1", "grep", args, nil) }()
	}
	if err := h.tools.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if r := <-done; !r.IsError || !strings.Contains(r.Content.String(), "shutting down") {
			t.Errorf("%s", r.Content)
		}
	}
	h.fails("read", `{"path":"d/1"}`, "shutting down")
}

// TestContained keeps a handler's panic and flood to its own call.
func TestContained(t *testing.T) {
	h := newHouse(t)
	var log bytes.Buffer
	h.tools.Log = newTestLog(&log)
	set := h.tools.For(h.scope)
	set.rows = []*row{
		tool("boom", Read, "", func(context.Context, *call, *struct{}) (Result, error) { panic("boom") }),
		tool("flood", Read, "", func(context.Context, *call, *struct{}) (Result, error) {
			return Result{Content: append(store.Text(strings.Repeat("é", maxOutput)), store.Text("more")...)}, nil
		}),
	}
	if r := set.Call(t.Context(), "1", "boom", nil, nil); !r.IsError || strings.Contains(r.Content.String(), "boom") || !strings.Contains(log.String(), "boom") {
		t.Errorf("%s; log %s", r.Content, &log)
	}
	if r := set.Call(t.Context(), "1", "flood", nil, nil); r.IsError || len(r.Content.String()) > maxOutput+200 || !strings.Contains(r.Content.String(), "262144 of 524288 bytes are left out]\n[4 of 4") {
		t.Errorf("%d bytes: %s", len(r.Content.String()), r.Content.String()[maxOutput-10:])
	}
}
