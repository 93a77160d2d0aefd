package sandbox

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "rewrite golden files")

// roles are what a child of this test binary may be instead.
var roles = map[string]func(args []string) int{}

func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		if play := roles[os.Args[1]]; play != nil {
			syscall.Exit(play(os.Args[2:])) // os.Exit of a race-enabled build takes a second
		}
	}
	os.Exit(m.Run())
}

func full() *Spec {
	return &Spec{
		Argv: []string{"/bin/prog", "a\xffb", "", "line\nline"}, Dir: "/w", Env: []string{"A=1", "B="}, Write: []string{"/w"}, Read: []string{"/opt/x", "/etc/y"},
		Network: []uint16{443, 80}, Light: true, Hidden: []string{"/s"},
		Limits: Limits{CPU: time.Minute, AddressSpace: 1 << 40, FileSize: 7, Processes: 8, Descriptors: 9},
	}
}

func TestPolicyKeepsEverything(t *testing.T) {
	for _, want := range []*Spec{full(), {Argv: []string{"/x"}, Dir: "/"}} {
		b, err := want.encode()
		if err != nil {
			t.Fatal(err)
		}
		got, err := readPolicy(bytes.NewReader(b))
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%+v, %v", got, err)
		}
		for i := range b {
			if _, err := readPolicy(bytes.NewReader(b[:i])); err == nil {
				t.Errorf("cut at %d it is taken", i)
			}
		}
	}
	long := &Spec{Argv: []string{"/x", strings.Repeat("a", maxPolicy)}, Dir: "/"}
	if _, err := long.encode(); err == nil {
		t.Error("a policy past its limit")
	}
}

// FuzzPolicy: no panic, memory bounded by the input, and what is read is what
// would be written.
func FuzzPolicy(f *testing.F) {
	b, err := full().encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte("00000002x\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := readPolicy(bytes.NewReader(b))
		if err != nil {
			return
		}
		again, err := s.encode()
		if err != nil || !bytes.HasPrefix(b, again) {
			t.Errorf("%x became %x, %v", b, again, err)
		}
	})
}

func TestSpecRefused(t *testing.T) {
	for name, s := range map[string]Spec{
		"nothing":           {},
		"relative program":  {Argv: []string{"sh"}, Dir: "/"},
		"unclean program":   {Argv: []string{"/bin/../bin/sh"}, Dir: "/"},
		"no directory":      {Argv: []string{"/bin/sh"}},
		"relative Write":    {Argv: []string{"/bin/sh"}, Dir: "/", Write: []string{"w"}},
		"everything":        {Argv: []string{"/bin/sh"}, Dir: "/", Write: []string{"/"}},
		"NUL in argument":   {Argv: []string{"/bin/sh", "a\x00b"}, Dir: "/"},
		"NUL in path":       {Argv: []string{"/bin/sh"}, Dir: "/a\x00"},
		"environment":       {Argv: []string{"/bin/sh"}, Dir: "/", Env: []string{"NOVALUE"}},
		"environment =x":    {Argv: []string{"/bin/sh"}, Dir: "/", Env: []string{"=x"}},
		"port 0":            {Argv: []string{"/bin/sh"}, Dir: "/", Network: []uint16{0}},
		"negative CPU time": {Argv: []string{"/bin/sh"}, Dir: "/", Limits: Limits{CPU: -1}},
	} {
		if _, err := Command(t.Context(), s); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}

func TestLayersErr(t *testing.T) {
	if (Layers{}).Err() == nil || (Layers{{Name: "a", On: true}, {Name: "b", Detail: "why"}}).Err() == nil || (Layers{{On: true}}).Err() != nil {
		t.Error("a missing wall is an error, and only that")
	}
}

// TestProfile compares the profiles for macOS with golden files.
func TestProfile(t *testing.T) {
	for name, s := range map[string]*Spec{
		"strict": {Write: []string{`/Users/a/work "x" \ (y)`, "/private/tmp/t\nu"}, Read: []string{"/opt/it's"}, Network: []uint16{443}},
		"none":   {},
		"light":  {Light: true, Write: []string{"/Users/a/.openclaw/workspace"}, Hidden: []string{"/Users/a/.openclaw"}},
	} {
		file := filepath.Join("testdata", "profile", name+".sb")
		got := profile(s)
		if *update {
			if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(file)
		if err != nil || got != string(want) {
			t.Errorf("%s: %v\n%s", file, err, got)
		}
	}
}
