package unit

import (
	"bytes"
	"reflect"
	"testing"
	"time"
	"unicode/utf8"
)

// fuzzFormat renders units of random values. Render proves what it returns by
// parsing it; here it also has as many lines as one of simple values, so none
// became structure.
func fuzzFormat(f *testing.F, targets ...Target) {
	f.Add("rescue", "openclaw", "state", "settings", "notes", "NOTE", "a value", 19001, int64(30e9), uint8(0))
	for _, set := range []map[string]string{carriable, refused} {
		for _, v := range set {
			f.Add("", v, v, v, v, "NOTE", v, 0, int64(len(v))*1e8, uint8(len(v)))
		}
	}
	f.Fuzz(func(t *testing.T, profile, program, state, config, workspace, name, value string, port int, grace int64, flags uint8) {
		for _, target := range targets {
			u := plain(target)
			u.Profile, u.Port, u.Grace = profile, port, time.Duration(grace)
			u.Program, u.StateDir, u.ConfigPath = "/opt/"+program, "/srv/s"+state, "/srv/c"+config+"/c"
			u.Workspaces, u.Env = []string{"/srv/w" + workspace}, []Var{{name, value}}
			u.Node, u.Chromium, u.LocalOnly = flags&1 != 0, flags&2 != 0, flags&4 != 0
			text, err := Render(target, u)
			if err != nil {
				if !utf8.ValidString(err.Error()) {
					t.Errorf("%s: an error repeats what it refused: %q", target, err)
				}
				continue
			}
			back, err := Parse(target, text)
			if err != nil || !reflect.DeepEqual(back, carried(target, u)) {
				t.Fatalf("%s: %v\n got %+v\nwant %+v", target, err, back, carried(target, u))
			}
			u.Program, u.StateDir, u.ConfigPath, u.Workspaces, u.Env = "/opt/x", "/srv/s", "/srv/c/c", []string{"/srv/w"}, []Var{{"A", "x"}}
			simple, err := Render(target, u)
			if err != nil {
				t.Fatal(err)
			}
			if bytes.Count(text, []byte("\n")) != bytes.Count(simple, []byte("\n")) || bytes.Contains(text, []byte("\r")) {
				t.Errorf("%s: values changed the structure:\n%s", target, Diff("simple", "this", simple, text))
			}
		}
	})
}

func FuzzSystemd(f *testing.F)  { fuzzFormat(f, SystemdUser, SystemdSystem) }
func FuzzLaunchd(f *testing.F)  { fuzzFormat(f, Launchd) }
func FuzzOpenRC(f *testing.F)   { fuzzFormat(f, OpenRC) }
func FuzzRCScript(f *testing.F) { fuzzFormat(f, RCD) }

// FuzzParse: a file of anybody's is an error or a unit, and where a unit can be
// rendered again, it says the same.
func FuzzParse(f *testing.F) {
	for _, format := range Formats() {
		for _, v := range variants {
			u := plain(format.Target)
			v.change(format.Target, &u)
			text, err := Render(format.Target, u)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(text)
		}
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		if o := OriginOf(text); o.Edited && !o.Ours {
			t.Error("edited and not ours")
		}
		for _, format := range Formats() {
			u, err := Parse(format.Target, text)
			if err != nil {
				continue
			}
			u.Home = "/home/alice" // not in the text
			again, err := Render(format.Target, u)
			if err != nil {
				continue
			}
			if back, err := Parse(format.Target, again); err != nil || !reflect.DeepEqual(back, carried(format.Target, u)) {
				t.Errorf("%s: %v\n got %+v\nwant %+v", format.Target, err, back, carried(format.Target, u))
			}
		}
	})
}
