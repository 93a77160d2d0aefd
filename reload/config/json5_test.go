package config

import (
	"errors"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestJSON5Good(t *testing.T) {
	for text, want := range map[string]string{
		`{}`:                              `{}`,
		`[]`:                              `[]`,
		` null `:                          `null`,
		"\ufeff{a:1}":                     `{"a":1}`,
		`{a:1,b:[1,2,],}`:                 `{"a":1,"b":[1,2]}`,
		`{'a':'it''s'}`:                   ``,
		`{'a':"it's",'b':'"'}`:            `{"a":"it's","b":"\""}`,
		`{$_a1:1,ünïcödé:2,\u0061b:3}`:    `{"$_a1":1,"ünïcödé":2,"ab":3}`,
		`{null:1,true:2,Infinity:3}`:      `{"null":1,"true":2,"Infinity":3}`,
		`{__proto__:1,constructor:2}`:     `{"__proto__":1,"constructor":2}`,
		`[0x1F,0XfF,+1,-1,.5,5.,1e3]`:     `[31,255,1,-1,0.5,5,1000]`,
		`[1E-2,-0x10,0,-0,+.5e+1]`:        `[0.01,-16,0,-0,5]`,
		`[Infinity,-Infinity,+Infinity]`:  `[Infinity,-Infinity,Infinity]`,
		`NaN`:                             `NaN`,
		`9007199254740993`:                `9007199254740993`,
		`"\b\f\n\r\t\v\0\'\"\\\/\a"`:      `"\u0008\u000c\n\u000d\t\u000b\u0000'\"\\/a"`,
		`"\x41\u00e9\ud83e\udd9e"`:        `"Aé🦞"`,
		"\"a\\\nb\\\r\nc\\\rd\\\u2028e\"": `"abcde"`,
		"'\u2028'":                        `"\u2028"`,
		"//c\n[/*a*/1,//b\r2/**/]//end":   `[1,2]`,
		"//x\u2028{}":                     `{}`,
		"\u00a0\u3000\v\f{}":              `{}`,
		"{a:\n\n{b:true,c:false,}}":       `{"a":{"b":true,"c":false}}`,
		strings.Repeat("[", 64) + strings.Repeat("]", 64): strings.Repeat("[", 64) + strings.Repeat("]", 64),
	} {
		n, err := ParseJSON5([]byte(text))
		if want == "" {
			if err == nil {
				t.Errorf("%s: accepted", text)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", text, err)
		} else if got := string(n.AppendJSON(nil)); got != want {
			t.Errorf("%s: %s, want %s", text, got, want)
		}
	}
}

func TestJSON5Bad(t *testing.T) {
	many := "{" + strings.Repeat("\n", 3)
	for i := range 40 {
		many += "k" + string(rune('a'+i%26)) + strings.Repeat("x", i/26) + ":0,"
	}
	for _, c := range []struct{ text, want string }{
		{"", "1:1: empty"},
		{" // only a comment", "1:19: empty"},
		{"{", "1:2: expected a key or '}', found end of file"},
		{"{a", "1:3: expected ':'"},
		{"{a:", "1:4: expected a value, found end of file"},
		{"{a:1", "1:5: expected ',' or '}', found end of file"},
		{"[1 2]", "1:4: expected ',' or ']', found '2'"},
		{"[,]", "1:2: expected a value, found ','"},
		{"{,}", "1:2: expected a key"},
		{"{a:1,,}", "1:6: expected a key"},
		{"{1:2}", "1:2: expected a key"},
		{"{a-b:1}", "1:3: expected ':'"},
		{"{} x", "1:4: unexpected 'x' after the end"},
		{"{a: yes}", "1:5: expected a value: strings need quotes"},
		{"{a: nul}", "1:5: expected a value: strings need quotes"},
		{"{a: trueish}", "1:5: expected a value: strings need quotes"},
		{"{\n  'ключ': 'значение',\n  é: é }", "3:6: expected a value: strings need quotes"},
		{"{a:1,\nb:2,\n'a':3}", "3:1: key \"a\" occurs twice in this object (first at line 1)"},
		{"{a:1,\\u0061:2}", "1:6: key \"a\" occurs twice"},
		{many + "\nkbx:1}", "5:1: key \"kbx\" occurs twice in this object (first at line 4)"},
		{"'a\nb'", "1:3: line break in a string"},
		{"'abc", "1:1: string without an end"},
		{"'abc\\", "1:5: string without an end"},
		{`"\x4"`, "1:4: escape without its 2"},
		{`"\u12G4"`, "1:4: escape without its 4"},
		{`"\ud800"`, "1:2: half of a surrogate pair"},
		{`"\udc00\ud800"`, "1:2: half of a surrogate pair"},
		{`"\ud800\u0041"`, "1:2: half of a surrogate pair"},
		{`"\1"`, "1:2: octal"},
		{`"\01"`, "1:2: octal"},
		{`{\x61:1}`, "1:2: expected \\u in a key"},
		{`{\u0020:1}`, "1:2: this character needs a key in quotes"},
		{"01", "1:1: not a number"},
		{"1.2.3", "1:1: not a number"},
		{"1a", "1:1: not a number"},
		{"0x", "1:1: not a number"},
		{"0x1g", "1:1: not a number"},
		{"0x11112222333344445", "1:1: not a number"},
		{"1e", "1:1: not a number"},
		{".", "1:1: not a number"},
		{"+", "1:1: not a number"},
		{"- 1", "1:1: not a number"},
		{"1e999", "1:1: not a number"},
		{"Infinit", "1:1: not a number"},
		{"/* x", "1:1: comment without an end"},
		{"/", "1:1: unexpected '/'"},
		{"'\xff'", "1:2: not valid UTF-8"},
		{"// é\n '\xe2\x28'", "2:3: not valid UTF-8"},
		{"'\xed\xa0\x80'", "1:2: not valid UTF-8"},
		{strings.Repeat("[", 65), "1:65: nested deeper than 64"},
		{strings.Repeat(" ", maxFile+1), "1:1: larger than 1 MiB"},
		{"[" + strings.Repeat("0,", maxNodes), "more than 100000 values"},
		{"a\rb", "1:1: expected a value"},
		{"\r\r\n\n x", "4:2: expected a value"},
		{"\ufeff x", "1:2: expected a value"},
		{"{}\ufeff\x00", "1:4: unexpected '\\x00'"},
	} {
		n, err := ParseJSON5([]byte(c.text))
		var p *Problem
		if !errors.As(err, &p) || n != nil || !strings.Contains(p.String(), c.want) {
			t.Errorf("%.60q: %v, want %s", c.text, err, c.want)
		}
	}
}

// TestJSON5Offsets: a node's bytes are exactly its text, so they can be replaced.
func TestJSON5Offsets(t *testing.T) {
	text := "\ufeff{ /*x*/ 'a b' : [ 1, 'zwei' , {drei:0x3} ] , // é\n b:null}"
	root, err := ParseJSON5([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	list, b := root.Members[0], root.Members[1]
	drei := list.Value.Items[2].Members[0].Value
	for _, c := range []struct {
		start, end, line, column int
		want                     string
	}{
		{list.Start, list.End, list.Line, list.Column, "'a b'"},
		{list.Value.Start, list.Value.End, list.Value.Line, list.Value.Column, "[ 1, 'zwei' , {drei:0x3} ]"},
		{list.Value.Items[1].Start, list.Value.Items[1].End, list.Value.Items[1].Line, list.Value.Items[1].Column, "'zwei'"},
		{drei.Start, drei.End, drei.Line, drei.Column, "0x3"},
		{b.Start, b.End, 2, 2, "b"},
		{b.Value.Start, b.Value.End, b.Value.Line, b.Value.Column, "null"},
	} {
		if got := text[c.start:c.end]; got != c.want {
			t.Errorf("%q, want %q", got, c.want)
		}
		line := strings.Split(strings.TrimPrefix(text, "\ufeff"), "\n")[c.line-1]
		if got := string([]rune(line)[c.column-1:]); !strings.HasPrefix(got, c.want) {
			t.Errorf("line %d column %d has %q, want %q", c.line, c.column, got, c.want)
		}
	}
	if b.Line != 2 || b.Column != 2 {
		t.Errorf("second line: %d:%d", b.Line, b.Column)
	}
}

func FuzzJSON5(f *testing.F) {
	files, _ := filepath.Glob("../../testdata/config/*.json5")
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	for _, text := range []string{"[0x1F,+.5,-Infinity,NaN,1e3]", `{'\x41\u00e9':"\ud83e\udd9e",$:1}`, "\"a\\\nb\"/*c*/", "\ufeff[-0,]//"} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		n, err := ParseJSON5(text)
		if err != nil {
			var p *Problem
			if !errors.As(err, &p) || p.Line < 1 || p.Column < 1 || p.Msg == "" {
				t.Fatalf("error without a place: %v", err)
			}
			return
		}
		check(t, n, 0, len(text))
		printed := n.AppendJSON(nil)
		again, err := ParseJSON5(printed)
		if err != nil {
			if len(printed) > maxFile {
				return
			}
			t.Fatalf("%s: %v", printed, err)
		}
		if !same(n, again) {
			t.Fatalf("%q prints as %q, which means something else", text, printed)
		}
		// Whatever is readable can be bound, redacted and redacted again.
		l, _ := Parse("f", text, Source{})
		hidden := Redact(text, n)
		root, err := ParseJSON5(hidden)
		if err != nil {
			t.Fatalf("redacted: %q: %v", hidden, err)
		}
		if len(Redact(hidden, root)) == 0 || l.Root == nil {
			t.Fatal("lost")
		}
		if back := Restore(hidden, root, text, n); len(n.comments) == 0 && string(back) != string(text) {
			t.Fatalf("restored %q from %q", back, hidden)
		}
	})
}

// check holds the positions of a tree to their order.
func check(t *testing.T, n *Node, start, end int) {
	if n.Start < start || n.End > end || n.Start >= n.End || n.Line < 1 || n.Column < 1 {
		t.Fatalf("node at %d–%d of %d–%d", n.Start, n.End, start, end)
	}
	start = n.Start
	for _, item := range n.Items {
		check(t, item, start, n.End)
		start = item.End
	}
	for _, m := range n.Members {
		if m.Start < start || m.End > m.Value.Start {
			t.Fatalf("key at %d–%d", m.Start, m.End)
		}
		check(t, m.Value, m.End, n.End)
		start = m.Value.End
	}
}

func same(a, b *Node) bool {
	if a.Kind != b.Kind || a.Bool != b.Bool || len(a.Items) != len(b.Items) || len(a.Members) != len(b.Members) {
		return false
	}
	switch a.Kind {
	case String:
		return a.Str == b.Str
	case Number:
		return math.Float64bits(a.Num) == math.Float64bits(b.Num)
	}
	for i := range a.Items {
		if !same(a.Items[i], b.Items[i]) {
			return false
		}
	}
	for i := range a.Members {
		if a.Members[i].Key != b.Members[i].Key || !same(a.Members[i].Value, b.Members[i].Value) {
			return false
		}
	}
	return true
}
