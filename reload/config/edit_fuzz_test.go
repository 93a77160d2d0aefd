package config

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"
)

func seeds(f *testing.F) (texts [][]byte) {
	files, _ := filepath.Glob("../../testdata/config/*.json5")
	for _, file := range files {
		if text, err := os.ReadFile(file); err == nil {
			texts = append(texts, text)
		}
	}
	return append(texts, nil, []byte("\ufeff// x"), []byte(`{a:[{id:'x'},],b:{}}`), []byte("{agents:{list:[{id:'a',model:'p/m'}]}}\r\n"),
		[]byte("{ a\n:1\n, /* x\n*/ b:2 //y\n, }"), []byte(`{logging:{level:"info"},gateway:{logging:{},reload:1,hotReload:{}}}`))
}

var fuzzPaths = [...]string{"gateway.port", "a[0].id", "a[x].y", "a[1]", "b.c.d", `b["a b"]`, "logging.level", "gateway.hotReload.mode", "agents.list[a].model.fallbacks", "channels[0][1]"}

func FuzzSet(f *testing.F) {
	for _, text := range seeds(f) {
		for _, path := range fuzzPaths {
			f.Add(text, path, []byte("{x:[1,\n2]}"))
		}
	}
	f.Fuzz(func(t *testing.T, raw []byte, path string, value []byte) {
		out, err := Set(raw, path, value)
		if err != nil {
			return
		}
		if !parses(out) {
			t.Fatalf("does not parse: %q", out)
		}
		// What was set is there to be removed.
		if back, err := Unset(out, path); err != nil || !parses(back) {
			t.Fatalf("%v: %q", err, out)
		}
	})
}

func FuzzUnset(f *testing.F) {
	for _, text := range seeds(f) {
		for _, path := range fuzzPaths {
			f.Add(text, path)
		}
	}
	f.Fuzz(func(t *testing.T, raw []byte, path string) {
		out, err := Unset(raw, path)
		if err != nil {
			if errors.Is(err, ErrAbsent) && !bytes.Equal(out, raw) {
				t.Fatal("absent, and yet changed")
			}
		} else if !parses(out) || len(out) > len(raw)+4 {
			t.Fatalf("%q", out)
		}
	})
}

func FuzzPatch(f *testing.F) {
	for _, text := range seeds(f) {
		for _, patch := range seeds(f) {
			f.Add(text, patch)
		}
	}
	f.Fuzz(func(t *testing.T, raw, patch []byte) {
		out, err := Patch(raw, patch)
		if err != nil {
			return
		}
		again, err := Patch(out, patch)
		if err != nil || !parses(out) {
			t.Fatalf("%v: %q", err, out)
		}
		if !bytes.Equal(again, out) {
			t.Fatalf("once %q, twice %q", out, again)
		}
	})
}

func FuzzNewDraft(f *testing.F) {
	for _, text := range seeds(f) {
		f.Add(text, text)
		if root, err := ParseJSON5(text); err == nil {
			f.Add(text, Redact(text, root))
		}
	}
	f.Fuzz(func(t *testing.T, old, text []byte) {
		if d, err := NewDraft("f", old, text, Source{}, false); err == nil {
			if !parses(d.Text) || !bytes.Equal(d.Loaded.Raw, d.Text) {
				t.Fatalf("%q", d.Text)
			}
		}
		root, err := ParseJSON5(old)
		if err != nil {
			return
		}
		shown := Redact(old, root)
		if bytes.Contains(old, []byte("OPENCLAW")) || bytes.ContainsRune(old, '\\') || len(shown) > maxFile {
			return // it may hold masks of its own
		}
		if d, err := NewDraft("f", old, shown, Source{}, false); err != nil || !bytes.Equal(d.Text, old) {
			t.Fatalf("%v: %q", err, shown)
		}
	})
}
