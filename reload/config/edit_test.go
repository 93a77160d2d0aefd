package config

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestEditFiles applies the edits of each file of testdata/config/edit to what
// is before them, one after the other, and compares with what is after them.
// A line «# …» says what they are about; CRLF and BOM are written ␍ and ␎.
func TestEditFiles(t *testing.T) {
	files, err := filepath.Glob("../../testdata/config/edit/*.txt")
	if err != nil || len(files) < 6 {
		t.Fatal("no test files", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			content, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			var text string
			for line := range strings.Lines(string(content)) {
				if !strings.HasPrefix(line, "# ") {
					text += line
				}
			}
			for n, one := range strings.Split(text, "-- before --\n")[1:] {
				before, rest, _ := strings.Cut(one, "-- edit --\n")
				edits, after, _ := strings.Cut(rest, "-- after --\n")
				special := strings.NewReplacer("␍\n", "\r\n", "␎\n", "\ufeff")
				raw, said := []byte(special.Replace(before)), ""
				for _, command := range commands(edits) {
					out, err := run(raw, command)
					if err != nil {
						said += "! " + err.Error() + "\n"
						continue
					}
					if raw = out; !parses(out) {
						t.Fatalf("%d: %s: the result does not parse:\n%s", n+1, command, out)
					}
				}
				if got := string(raw) + said; got != special.Replace(after) {
					t.Errorf("%d: %s\ngot:\n%s\nwant:\n%s", n+1, edits, got, special.Replace(after))
				}
			}
		})
	}
}

// commands are «set PATH VALUE», «unset PATH» and «patch OBJECT»; what is
// indented continues the line before.
func commands(text string) (all []string) {
	for line := range strings.Lines(text) {
		if more, ok := strings.CutPrefix(line, "    "); ok && len(all) > 0 {
			all[len(all)-1] += more
		} else {
			all = append(all, line)
		}
	}
	for i := range all {
		all[i] = strings.TrimSuffix(all[i], "\n")
	}
	return all
}

func run(raw []byte, command string) ([]byte, error) {
	name, rest, _ := strings.Cut(command, " ")
	switch name {
	case "set":
		path, value, _ := strings.Cut(rest, " = ")
		return Set(raw, path, []byte(value))
	case "unset":
		return Unset(raw, rest)
	case "patch":
		return Patch(raw, []byte(rest))
	}
	return nil, fmt.Errorf("no command %q", name)
}

func parses(text []byte) bool {
	_, err := ParseJSON5(text)
	return err == nil
}
