package tool

import (
	"errors"
	"strings"
	"testing"

	"openclaw/reload/config"
)

// either is a text or a list, as a command is.
type either []string

func (*either) schema() object {
	return object{"anyOf": []object{{"type": "string"}, {"type": "array", "items": object{"type": "string"}}}}
}

func (e *either) read(_ *call, n *config.Node) error {
	switch n.Kind {
	case config.String:
		*e = either{n.Str}
	case config.Array:
		for _, item := range n.Items {
			*e = append(*e, item.Str)
		}
	default:
		return errors.New("must be a string or a list")
	}
	return nil
}

type everyArg struct {
	Text  string      `arg:"text" alias:"t,txt" required:"true" min:"2" max:"4" doc:"d"`
	Word  string      `arg:"word" oneof:"a,b" doc:"d"`
	N     int         `arg:"n" min:"-1" max:"9" doc:"d"`
	Yes   bool        `arg:"yes" doc:"d"`
	List  []string    `arg:"list" max:"2" doc:"d"`
	Parts []editPiece `arg:"parts" doc:"d"`
	Both  either      `arg:"both" doc:"d"`
}

func TestDecode(t *testing.T) {
	var a everyArg
	if err := decode(&call{}, []byte(`{"txt":"abc","word":"b","n":-1,"yes":true,"list":["x","y"],"parts":[{"old_string":"o","newText":""}],"both":["l","s"]}`), &a); err != nil {
		t.Fatal(err)
	}
	if a.Text != "abc" || a.Word != "b" || a.N != -1 || !a.Yes || len(a.List) != 2 || a.Parts[0].OldText != "o" || a.Both[1] != "s" {
		t.Errorf("%+v", a)
	}
	for args, want := range map[string]string{
		``:                                    "text: is required",
		`null`:                                "text: is required",
		`{"text":null}`:                       "text: is required",
		`{"text":"a"}`:                        "text: must be at least 2 bytes long",
		`{"text":"abcde"}`:                    "text: must be at most 4 bytes long",
		`{"text":"abc","t":"abc"}`:            "t: is the same as text, which is given too",
		`{"text":7}`:                          "text: must be a string, not a number",
		`{"text":"abc","word":"c"}`:           "word: must be one of a, b",
		`{"text":"abc","n":10}`:               "n: must be at most 9",
		`{"text":"abc","n":1.5}`:              "n: must be a whole number",
		`{"text":"abc","n":"x"}`:              "n: must be a whole number",
		`{"text":"abc","n":1e300}`:            "n: must be a whole number",
		`{"text":"abc","yes":"true"}`:         "yes: must be a boolean, not a string",
		`{"text":"abc","list":["a","b","c"]}`: "list: must be at most 2 long",
		`{"text":"abc","list":["a",1]}`:       "list[1]: must be a string, not a number",
		`{"text":"abc","parts":[{}]}`:         "parts[0].oldText: is required\nparts[0].newText: is required",
		`{"text":"abc","parts":[{"oldText":"","newText":"","x":1}]}`: `parts[0]."x": unknown argument`,
		`{"text":"abc","both":1}`:                                    "both: must be a string or a list",
		`{"text":"abc","":1}`:                                        `"": unknown argument`,
		`{"text":"abc","lits":1}`:                                    `"lits": unknown argument (did you mean list?)`,
		`{"text":"abc"} x`:                                           "arguments are not JSON",
	} {
		if err := decode(&call{}, []byte(args), new(everyArg)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", args, err)
		}
	}
	many := `{"text":"abc",` + strings.Repeat(`"x`, 1) + `0":1`
	for i := range 100 {
		many += `,"y` + strings.Repeat("z", i) + `":1`
	}
	if err := decode(&call{}, []byte(many+"}"), new(everyArg)); err == nil || strings.Count(err.Error(), "\n") >= maxProblems {
		t.Errorf("%v", err)
	}
}

func FuzzArguments(f *testing.F) {
	for _, s := range []string{`{"path":"a","oldText":"b","newText":"c"}`, `{"edits":[{"oldText":"x"}],"offset":"7"}`, `{"pattern":"(","limit":1e9}`, `[`, `{"sessionKey":{}}`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, args string) {
		for _, r := range rows() {
			r.check(&call{Scope: Scope{Workspace: "/w"}}, []byte(args)) // must not panic
		}
	})
}
