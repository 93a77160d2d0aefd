package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// obedient is a model that does what it was told to, step by step: the n-th of
// its answers is steps[n], given what the tools have said since the start. It
// keeps what it was told of each call.
type obedient struct {
	t     *testing.T
	steps []func(said []string) []object // the deltas of one answer
}

func (o *obedient) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var body struct {
		Messages []struct {
			Role    string
			Content any
		}
	}
	if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
		o.t.Error(err)
	}
	var said []string
	step := 0
	for _, m := range body.Messages {
		switch m.Role {
		case "assistant":
			step++
		case "tool":
			said = append(said, fmt.Sprint(m.Content))
		}
	}
	if step >= len(o.steps) {
		o.t.Errorf("asked once more than it has steps: %q", said)
		http.Error(w, "no more", http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	finish := "stop"
	for _, delta := range o.steps[step](said) {
		if delta["tool_calls"] != nil {
			finish = "tool_calls"
		}
		writeChunk(w, object{"index": 0, "delta": delta, "finish_reason": nil})
	}
	writeChunk(w, object{"index": 0, "delta": object{}, "finish_reason": finish})
	io.WriteString(w, "data: [DONE]\n\n")
}

func writeChunk(w io.Writer, choice object) {
	raw, _ := json.Marshal(object{"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": []any{choice}})
	fmt.Fprintf(w, "data: %s\n\n", raw)
}

// calls are deltas that call tools at once: names and arguments in turn.
func calls(words ...string) (deltas []object) {
	for i := 0; i < len(words); i += 2 {
		n := i / 2
		deltas = append(deltas, object{"tool_calls": []any{object{"index": n, "id": fmt.Sprintf("call_%d_%s", n, words[i]), "type": "function", "function": object{"name": words[i], "arguments": words[i+1]}}}})
	}
	return deltas
}

// TestWork has a model mend a small C project: it reads the source and runs the
// test at once, edits, builds and tests again, and reports. All of it is real,
// with the sandbox and without.
func TestWork(t *testing.T) {
	if _, err := exec.LookPath("cc"); err != nil {
		t.Skip(err)
	}
	for _, walls := range []string{"all", "off"} {
		t.Run("sandbox "+walls, func(t *testing.T) {
			t.Parallel()
			want := func(text string, parts ...string) {
				t.Helper()
				for _, p := range parts {
					if !strings.Contains(text, p) {
						t.Errorf("%q is not in %q", p, text)
					}
				}
			}
			p := newProvider(t, nil)
			model := &obedient{t: t, steps: []func([]string) []object{
				func([]string) []object {
					return calls("read", `{"path":"sum.c"}`, "exec", `{"command":"sh test.sh"}`)
				},
				func(said []string) []object {
					want(said[0], "return a - b;")
					want(said[1], "2 + 3 is -1", "exit code 1")
					return calls("edit", `{"path":"sum.c","oldText":"a - b","newText":"a + b"}`)
				},
				func([]string) []object { return calls("exec", `{"command":["sh","test.sh"]}`) },
				func(said []string) []object {
					return []object{{"role": "assistant", "content": "The test says: " + said[len(said)-1]}}
				},
			}}
			p.serve = model
			sections := oneModel(p, nil)
			sections["agents"].(object)["defaults"].(object)["sandbox"] = object{"mode": walls}
			sections["tools"] = object{"exec": object{"mode": "full"}}
			h := newHouse(t, sections)
			work := filepath.Join(h.state, "workspace")
			if err := os.MkdirAll(work, 0o700); err != nil {
				t.Fatal(err)
			}
			for name, text := range map[string]string{
				"sum.c":   "#include <stdio.h>\n#include <stdlib.h>\n\nint sum(int a, int b) {\n\treturn a - b;\n}\n\nint main(int n, char **v) {\n\tprintf(\"%d\\n\", sum(atoi(v[1]), atoi(v[2])));\n\treturn 0;\n}\n",
				"test.sh": "cc -Wall -o sum sum.c || exit 2\ngot=$(./sum 2 3)\necho \"2 + 3 is $got\"\ntest \"$got\" = 5\n",
			} {
				if err := os.WriteFile(filepath.Join(work, name), []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			h.start()
			r := h.run("agent", "--message", "Mend the sum and run its test.")
			if r.code != 0 {
				t.Fatal(r)
			}
			want(r.stdout, "The test says: 2 + 3 is 5")
			out, err := exec.Command(filepath.Join(work, "sum"), "20", "22").Output()
			if err != nil || string(out) != "42\n" {
				t.Errorf("what it built says %q, %v", out, err)
			}
		})
	}
}
