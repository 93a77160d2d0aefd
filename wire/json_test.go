package wire

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestDecodeRefusesWhatIsNotJSON(t *testing.T) {
	manyKeys := func(n int, last string) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, `"k%d":0,`, i)
		}
		return "{" + b.String() + last + ":0}"
	}
	for _, tc := range []struct{ name, text, want string }{
		{"empty", "", "byte 0: unexpected end"},
		{"white space alone", " \n", "byte 2: unexpected end"},
		{"no value", "}", "byte 0: unexpected '}'"},
		{"two values", "1 2", "byte 2: unexpected '2'"},
		{"byte order mark", "\uFEFF{}", "byte 0: unexpected '\\u00ef'"},
		{"NUL after", "{}\x00", "byte 2: unexpected '\\x00'"},
		{"comment", "[1,/**/2]", "byte 3: unexpected '/'"},
		{"trailing comma in list", "[1,]", "byte 3: unexpected ']'"},
		{"trailing comma in object", `{"a":1,}`, "byte 7: unexpected '}'"},
		{"leading comma", `{,"a":1}`, "byte 1: unexpected ','"},
		{"missing comma", "[1 2]", "byte 3: unexpected '2'"},
		{"missing colon", `{"a" 1}`, "byte 5: unexpected '1'"},
		{"bare key", "{a:1}", "byte 1: unexpected 'a'"},
		{"number as key", "{1:1}", "byte 1: unexpected '1'"},
		{"mixed brackets", "[1}", "byte 2: unexpected '}'"},
		{"unclosed list", "[1", "byte 2: unexpected end"},
		{"unclosed object", `{"a":1`, "byte 6: unexpected end"},
		{"unclosed string", `"abc`, "byte 4: unexpected end"},
		{"unclosed escape", `"\`, "byte 1: unexpected end"},
		{"single quotes", "'a'", "byte 0: unexpected '\\''"},
		{"leading zero", "01", "byte 1: unexpected '1'"},
		{"leading plus", "+1", "byte 0: unexpected '+'"},
		{"minus alone", "-", "byte 1: unexpected end"},
		{"no fraction", "1.", "byte 2: unexpected end"},
		{"no integer", ".5", "byte 0: unexpected '.'"},
		{"no exponent", "1e+", "byte 3: unexpected end"},
		{"hexadecimal", "0x1", "byte 1: unexpected 'x'"},
		{"NaN", "NaN", "byte 0: unexpected 'N'"},
		{"case of true", "True", "byte 0: unexpected 'T'"},
		{"cut literal", "nul", "byte 0: unexpected 'n'"},
		{"control character", "\"a\nb\"", "byte 2: control character in a string"},
		{"NUL in string", "\"12345678\x00\"", "byte 9: control character in a string"},
		{"unknown escape", `"\x41"`, "byte 1: unknown escape"},
		{"short \\u", `"\u12"`, "byte 1: malformed \\u escape"},
		{"bad hex", `"\u12g4"`, "byte 1: malformed \\u escape"},
		{"lone high surrogate", `"\ud800"`, "byte 1: lone surrogate"},
		{"high surrogate, then other", `"\ud800\u0041"`, "byte 1: lone surrogate"},
		{"lone low surrogate", `"\uDC00"`, "byte 1: lone surrogate"},
		{"bad UTF-8", "\"12345678\xff\"", "byte 9: invalid UTF-8"},
		{"overlong UTF-8", "\"\xc0\xaf\"", "byte 1: invalid UTF-8"},
		{"surrogate in UTF-8", "\"\xed\xa0\x80\"", "byte 1: invalid UTF-8"},
		{"cut UTF-8", "\"\xe2\x82\"", "byte 1: invalid UTF-8"},
		{"bad UTF-8 in key", "{\"\xff\":1}", "byte 2: invalid UTF-8"},
		{"duplicate key", `{"a":1,"b":2,"a":3}`, "byte 13: duplicate key"},
		{"duplicate key, escaped", `{"a":1,"\u0061":3}`, "byte 7: duplicate key"},
		{"duplicate key, within", `[{"x":{"a":1,"a":3}}]`, "byte 13: duplicate key"},
		{"duplicate among many", manyKeys(50, `"k7"`), "duplicate key in the object that ends here"},
		{"duplicate ninth key", manyKeys(8, `"k0"`), "duplicate key in the object that ends here"},
		{"too many keys", manyKeys(MaxJSONKeys, `"z"`), "too many keys in an object"},
		{"too deep", strings.Repeat("[", MaxJSONDepth+1), "byte 64: nested too deeply"},
		{"too deep, objects", strings.Repeat(`{"a":`, MaxJSONDepth+1), "nested too deeply"},
		{"too many values", "[" + strings.Repeat("0,", MaxJSONTokens) + "0]", "too many values"},
		{"long number", strings.Repeat("1", MaxJSONNumberLen+1), "byte 0: number too long"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			errs := []error{Decode([]byte(tc.text), new(Raw)), DecodeLoose([]byte(tc.text), new(Raw))}
			if len(tc.text) < 1<<20 { // a million values of any type take their time under the race detector
				errs = append(errs, Decode([]byte(tc.text), new(any)))
			}
			for _, err := range errs {
				var syntax *SyntaxError
				if !errors.As(err, &syntax) || !strings.HasSuffix(err.Error(), tc.want) {
					t.Errorf("got %v, want %q", err, tc.want)
				}
			}
			if _, err := ParseRequest([]byte(`{"type":"req","id":"1","method":"m","params":` + tc.text + `}`)); err == nil {
				t.Error("accepted as params")
			}
		})
	}
}

func TestDecodeLimitsAreReachable(t *testing.T) {
	nested := strings.Repeat("[", MaxJSONDepth) + strings.Repeat("]", MaxJSONDepth)
	var keys strings.Builder
	for i := range MaxJSONKeys - 1 {
		fmt.Fprintf(&keys, `"k%d":0,`, i)
	}
	for _, text := range []string{
		nested, "[" + nested[1:len(nested)-1] + "," + nested[1:len(nested)-1] + "]",
		"{" + keys.String() + `"last":{` + keys.String() + `"last":1}}`,
		"[" + strings.Repeat("0,", MaxJSONTokens-2) + "0]",
		strings.Repeat("1", MaxJSONNumberLen), ` {"a" : "\ud83d\ude00" , "\u0000":"\u0000", "":[ ] } `,
	} {
		var raw Raw
		if err := Decode([]byte(text), &raw); err != nil {
			t.Errorf("%.40q: %v", text, err)
		} else if string(raw) != strings.TrimSpace(text) {
			t.Errorf("%.40q became %.40q", text, raw)
		}
	}
}

type inner struct {
	Name string `json:"name" wire:"required,min=1,max=4"`
	Tags []string
}

type outer struct {
	S     string            `json:"s" wire:"required"`
	ID    string            `json:"id" wire:"id"`
	Mode  string            `json:"mode" wire:"oneof=on|off"`
	N     int               `json:"n" wire:"min=1,max=10"`
	Tiny  int8              `json:"tiny"`
	F     float64           `json:"f"`
	B     bool              `json:"b"`
	P     *int64            `json:"p" wire:"min=0"`
	Null  *string           `json:"null" wire:"null"`
	Raw   Raw               `json:"raw"`
	Any   any               `json:"any" wire:"null"`
	List  []inner           `json:"list" wire:"max=2"`
	IDs   []string          `json:"ids" wire:"id,min=1"`
	Map   map[string]inner  `json:"map"`
	Free  map[string]any    `json:"free"`
	Pat   Patch[string]     `json:"pat,omitzero" wire:"min=1"`
	Msg   json.RawMessage   `json:"msg"`
	When  upperCase         `json:"when"`
	inner                   // unexported, but its fields are promoted
	Self  *outer            `json:"self"`
	Skip  map[string]string `json:"-"`
}

// upperCase decodes itself.
type upperCase string

func (u *upperCase) UnmarshalJSON(b []byte) error {
	var s string
	if err := json.Unmarshal(b, &s); err != nil {
		return errors.New("must be a word")
	}
	*u = upperCase(strings.ToUpper(s))
	return nil
}

func TestDecodeFields(t *testing.T) {
	for _, tc := range []struct{ text, want string }{
		{`{"s":""}`, ""},
		{`[]`, "must be object"},
		{`null`, "must be object"},
		{`{}`, "must have required property 's'; must have required property 'name'"},
		{`{"s":"","S":1}`, "at root: unexpected property 'S'"},
		{`{"s":null}`, "at /s: must be string"},
		{`{"s":1}`, "at /s: must be string"},
		{`{"x":{"deep":[1]},"s":"","n":0}`, "at root: unexpected property 'x'; at /n: must be >= 1"},
		{`{"s":"","-":{}}`, "at root: unexpected property '-'"},
		{"{\"s\":\"\",\"a\u202eb\u0085\":{}}", "at root: unexpected property 'a\uFFFDb\uFFFD'"},
		{`{"s":"","id":""}`, "at /id: must NOT have fewer than 1 characters"},
		{`{"s":"","id":"a\u0000b"}`, "at /id: must NOT have control characters"},
		{`{"s":"","id":"a\u0085b"}`, "at /id: must NOT have control characters"},
		{`{"s":"","id":"` + strings.Repeat("x", 256) + `"}`, ""},
		{`{"s":"","id":"` + strings.Repeat("x", 257) + `"}`, "at /id: must NOT have more than 256 characters"},
		{`{"s":"","mode":"ON"}`, "at /mode: must be equal to one of the allowed values"},
		{`{"s":"","mode":"on"}`, ""},
		{`{"s":"","n":11}`, "at /n: must be <= 10"},
		{`{"s":"","n":1.0}`, ""},
		{`{"s":"","n":1e1}`, ""},
		{`{"s":"","n":1.5}`, "at /n: must be integer"},
		{`{"s":"","n":"1"}`, "at /n: must be integer"},
		{`{"s":"","n":99999999999999999999}`, "at /n: must be integer"},
		{`{"s":"","tiny":127}`, ""},
		{`{"s":"","tiny":128}`, "at /tiny: must be integer"},
		{`{"s":"","f":1e308}`, ""},
		{`{"s":"","f":1e309}`, "at /f: must be number"},
		{`{"s":"","any":[1e309]}`, "at /any/0: must be number"},
		{`{"s":"","b":0}`, "at /b: must be boolean"},
		{`{"s":"","p":null}`, "at /p: must be integer"},
		{`{"s":"","p":-1}`, "at /p: must be >= 0"},
		{`{"s":"","null":null,"any":null}`, ""},
		{`{"s":"","raw":null}`, "at /raw: must be present"},
		{`{"s":"","raw":[null]}`, ""},
		{`{"s":"","list":[{"name":"abcd"},{"name":"äöü€"}]}`, ""},
		{`{"s":"","list":[{},{"name":""}]}`, "at /list/0: must have required property 'name'; at /list/1/name: must NOT have fewer than 1 characters"},
		{`{"s":"","list":[{"name":"abcde"},{"nam":""}]}`, "at /list/0/name: must NOT have more than 4 characters; at /list/1: must have required property 'name'; at /list/1: unexpected property 'nam'"},
		{`{"s":"","list":[{"name":"a"},{"name":"a"},{"name":"a"},{"name":"a"}]}`, "at /list: must NOT have more than 2 items"},
		{`{"s":"","list":{}}`, "at /list: must be array"},
		{`{"s":"","ids":[]}`, "at /ids: must NOT have fewer than 1 items"},
		{`{"s":"","ids":["a",""]}`, "at /ids/1: must NOT have fewer than 1 characters"},
		{`{"s":"","ids":["a",null]}`, "at /ids/1: must be string"},
		{`{"s":"","map":{"a/b~c":{"name":7}}}`, "at /map/a~1b~0c/name: must be string"},
		{`{"s":"","free":{"a":null,"b":[true,{}]}}`, ""},
		{`{"s":"","pat":null}`, ""},
		{`{"s":"","pat":""}`, "at /pat: must NOT have fewer than 1 characters"},
		{`{"s":"","pat":1}`, "at /pat: must be string"},
		{`{"s":"","msg":{"a":[]}}`, ""},
		{`{"s":"","when":"now"}`, ""},
		{`{"s":"","when":1}`, "at /when: must be a word"},
		{`{"s":"","when":null}`, "at /when: must be present"},
		{`{"s":"","self":{"name":"x"}}`, "at /self: must have required property 's'"},
		{`{"1":0,"2":0,"3":0,"4":0,"5":0,"6":0,"7":0,"8":0,"9":0,"s":0}`, "must have required property 's'; at root: unexpected property '1'"},
	} {
		if tc.text != "{}" && strings.HasPrefix(tc.text, `{"`) {
			tc.text = `{"name":"x",` + tc.text[1:]
		}
		var o outer
		err := Decode([]byte(tc.text), &o)
		if tc.want == "" {
			if err != nil {
				t.Errorf("%s: %v", tc.text, err)
			}
			continue
		}
		var fe *FieldError
		switch {
		case !errors.As(err, &fe):
			t.Errorf("%s: got %v, want %q", tc.text, err, tc.want)
		case strings.HasPrefix(tc.text, `{"name":"x","1":0`):
			if len(fe.More) != maxProblems-1 || fe.First() != "at root: unexpected property '1'" {
				t.Errorf("%s: got %v", tc.text, err)
			}
		case err.Error() != tc.want:
			t.Errorf("%s:\n got %v\nwant %s", tc.text, err, tc.want)
		}
	}
}

func TestDecodeFillsIn(t *testing.T) {
	doc := []byte(`{"s":"\u00e4\ud83d\ude00\n\/","n":3,"p":-0,"null":"v","raw": {"a": 1} ,"any":{"x":[1,"y",null,false]},` +
		`"ids":["a","b"],"map":{"k":{"name":"n","Tags":[]}},"pat":"new","when":"soon","name":"deep","Tags":["t"],"self":{"s":"in","name":"in"}}`)
	var o outer
	if err := Decode(doc, &o); err != nil {
		t.Fatal(err)
	}
	zero, v, fresh := int64(0), "v", "new"
	want := outer{
		S: "ä😀\n/", N: 3, P: &zero, Null: &v, Raw: Raw(`{"a": 1}`),
		Any: map[string]any{"x": []any{1.0, "y", nil, false}},
		IDs: []string{"a", "b"}, Map: map[string]inner{"k": {Name: "n", Tags: []string{}}},
		Pat: Patch[string]{Set: true, Value: &fresh}, When: "SOON",
		inner: inner{Name: "deep", Tags: []string{"t"}},
		Self:  &outer{S: "in", inner: inner{Name: "in"}},
	}
	if !reflect.DeepEqual(o, want) {
		t.Errorf("got  %+v\nwant %+v", o, want)
	}
	if &o.Raw[0] != &doc[bytes.Index(doc, []byte(`{"a": 1}`))] {
		t.Error("Raw was copied")
	}
	if cap(o.Raw) != len(o.Raw) {
		t.Error("appending to Raw would overwrite the document")
	}
	doc[6] = 'X'
	if o.S != want.S {
		t.Error("a string aliases the document")
	}
}

func TestDecodeLoose(t *testing.T) {
	var o outer
	err := DecodeLoose([]byte(`{"name":"x","s":"a","future":{"a":[1]},"S":"b","n":null,"list":null,"raw":null,"pat":null,"any":null}`), &o)
	if err != nil {
		t.Fatal(err)
	}
	if o.S != "a" || o.Raw != nil || o.List != nil || o.Pat.Set {
		t.Errorf("got %+v", o)
	}
	for text, want := range map[string]string{
		`{"name":"x","s":null}`:                   "must have required property 's'",
		`{"name":"x","s":"","n":"1"}`:             "at /n: must be integer",
		`{"name":"x","s":"","list":[null]}`:       "at /list/0: must be object",
		`{"name":"x","s":"","u":1,"u":2}`:         "invalid JSON at byte 25: duplicate key",
		`{"name":"x","s":"","u":{"v":1,"v":[]}}`:  "invalid JSON at byte 30: duplicate key",
		`{"name":"x","s":"","self":{"name":"x"}}`: "at /self: must have required property 's'",
	} {
		if err := DecodeLoose([]byte(text), new(outer)); err == nil || err.Error() != want {
			t.Errorf("%s: got %v, want %s", text, err, want)
		}
	}
}

func TestDecodeNullAndPatch(t *testing.T) {
	beat := &Heartbeat{}
	if err := Decode([]byte("null"), &beat); err != nil || beat != nil {
		t.Errorf("got %v, %v", beat, err)
	}
	var p SessionsPatch
	if err := Decode([]byte(`{"key":"main","label":null,"model":"a/b"}`), &p); err != nil {
		t.Fatal(err)
	}
	if !p.Label.Set || p.Label.Value != nil || *p.Model.Value != "a/b" || p.ExecHost.Set {
		t.Errorf("got %+v", p)
	}
	text, err := Marshal(p)
	if err != nil || string(text) != `{"key":"main","label":null,"model":"a/b"}` {
		t.Errorf("got %s, %v", text, err)
	}
}

func TestDecodeReusesNothing(t *testing.T) {
	o := outer{IDs: []string{"a", "b", "c"}, Map: map[string]inner{"old": {}}}
	kept := o.IDs
	if err := Decode([]byte(`{"s":"","name":"x","ids":["n"],"map":{}}`), &o); err != nil {
		t.Fatal(err)
	}
	if len(o.IDs) != 1 || kept[0] != "a" || len(o.Map) != 0 {
		t.Errorf("got %v, %v, %v", o.IDs, kept, o.Map)
	}
}

func TestDecodePanicsOnProgrammersErrors(t *testing.T) {
	for name, v := range map[string]any{
		"not a pointer": outer{}, "nil": (*outer)(nil), "channel": new(chan int), "int keys": new(map[int]int), "interface": new(fmt.Stringer),
		"bad tag": new(struct {
			A int `wire:"mim=1"`
		}),
	} {
		t.Run(name, func(t *testing.T) {
			defer func() {
				if recover() == nil {
					t.Error("did not panic")
				}
			}()
			Decode([]byte(`{}`), v)
		})
	}
}

// What a stranger sends costs no map for each object and no copy of each string.
func TestDecodeHostileInputIsCheap(t *testing.T) {
	var keys strings.Builder
	for i := range MaxJSONKeys - 1 {
		fmt.Fprintf(&keys, `"k%d":0,`, i)
	}
	object := "{" + keys.String() + `"z":0}`
	for name, text := range map[string]string{
		"many keys": "[" + strings.Repeat(object+",", 15) + "0]",
		"quotes":    `["` + strings.Repeat(`\"`, 1<<18) + `"]`,
		"unknown":   `{` + strings.TrimSuffix(keys.String(), ",") + `}`,
	} {
		var o outer
		var syntax *SyntaxError
		if err := Decode([]byte(text), &o); err == nil || errors.As(err, &syntax) {
			t.Errorf("%s: got %v", name, err)
		}
		if n := testing.AllocsPerRun(1, func() { Decode([]byte(text), new(Raw)) }); n > 40 {
			t.Errorf("%s: skipping it takes %v allocations", name, n)
		}
	}
}

func FuzzDecode(f *testing.F) {
	for _, seed := range []string{
		`{"s":"x","n":1,"name":"abc","list":[{"name":"a"}],"any":{"k":[1.5e3,null,"\ud83d\ude00"]}}`,
		`{"a":{"b":[[],{},"",0,-0,1e5,true,false,null]},"\u0061\"":"\\\/\b\f\n\r\t"}`,
		`{"k0":0,"k1":1,"k2":2,"k3":3,"k4":4,"k5":5,"k6":6,"k7":7,"k8":8,"k9":9}`,
		`{"p":null,"pat":null,"map":{"x":{"name":"y"}},"self":{"s":"t"}}`, "[1,2", "\"\xff\"", `"\ud800"`, ` [ ] `,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var raw Raw
		rawErr := Decode(data, &raw)
		var syntax *SyntaxError
		if rawErr == nil {
			if !json.Valid(data) || !utf8.Valid(data) {
				t.Fatalf("accepted %q", data)
			}
			if !bytes.Equal(raw, bytes.Trim(data, " \t\r\n")) {
				t.Fatalf("raw %q of %q", raw, data)
			}
		} else if !errors.As(rawErr, &syntax) {
			t.Fatalf("raw: %v", rawErr)
		}
		var got any
		err := Decode(data, &got)
		if errors.As(err, &syntax) != (rawErr != nil) {
			t.Fatalf("any: %v, raw: %v", err, rawErr)
		}
		if err == nil {
			var want any
			if err := json.Unmarshal(data, &want); err != nil || !reflect.DeepEqual(got, want) {
				t.Fatalf("got %#v, want %#v, %v", got, want, err)
			}
		}
		var o, want outer
		err = Decode(data, &o)
		if errors.As(err, &syntax) != (rawErr != nil) {
			t.Fatalf("struct: %v, raw: %v", err, rawErr)
		}
		if err == nil && DecodeLoose(data, new(outer)) != nil {
			t.Fatal("strict accepts what loose refuses")
		}
		o.Pat, o.Self = Patch[string]{}, nil // which encoding/json reads otherwise
		if err == nil && json.Unmarshal(data, &want) == nil {
			want.Pat, want.Self = Patch[string]{}, nil
			if !reflect.DeepEqual(o, want) {
				t.Fatalf("got %+v, want %+v", o, want)
			}
		}
		var p ConnectParams
		if err := DecodeParams("connect", raw, &p); err != nil && err.Message == "" {
			t.Fatal("an error without a message")
		}
	})
}
