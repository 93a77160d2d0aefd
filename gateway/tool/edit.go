package tool

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"openclaw/gateway/store"
)

type editArgs struct {
	Path       Path        `arg:"path" alias:"file_path,filePath,file" required:"true" doc:"The file, relative to the workspace."`
	OldText    string      `arg:"oldText" alias:"old_string,old_text,oldString" doc:"The text to replace, exactly as it stands in the file."`
	NewText    string      `arg:"newText" alias:"new_string,new_text,newString" doc:"What takes its place."`
	ReplaceAll bool        `arg:"replaceAll" alias:"replace_all" doc:"Replace every occurrence of oldText."`
	Edits      []editPiece `arg:"edits" max:"100" doc:"Several replacements in place of oldText and newText: all are made, in this order, or none."`
}

type editPiece struct {
	OldText string `arg:"oldText" alias:"old_string,old_text,oldString" required:"true" doc:"The text to replace."`
	NewText string `arg:"newText" alias:"new_string,new_text,newString" required:"true" doc:"What takes its place."`
}

func editFile(ctx context.Context, c *call, a *editArgs) (Result, error) {
	pieces := a.Edits
	if len(pieces) == 0 {
		pieces = []editPiece{{a.OldText, a.NewText}}
	} else if a.OldText != "" || a.NewText != "" {
		return Result{}, errors.New("give either oldText and newText or edits")
	}
	w, err := c.workspace()
	if err != nil {
		return Result{}, err
	}
	defer w.Close()
	c.writing.Lock()
	defer c.writing.Unlock()
	if ctx.Err() != nil {
		return Result{}, context.Cause(ctx)
	}
	data, was, err := w.read(a.Path, maxWrite)
	if err != nil {
		return Result{}, err
	}
	if isBinary(data) {
		return Result{}, told(a.Path, errors.New("is a binary file"))
	}
	now, count, first := string(data), 0, 0
	for i, p := range pieces {
		at, n, err := replace(&now, p, a.ReplaceAll)
		if err != nil && len(pieces) > 1 {
			err = fmt.Errorf("edits[%d]: %w; nothing was changed", i, err)
		}
		if err != nil {
			return Result{}, told(a.Path, err)
		}
		if count += n; i == 0 {
			first = strings.Count(now[:at], "\n") + 1
		}
	}
	if now == string(data) {
		return Result{}, told(a.Path, errors.New("the new text is the old one; nothing was changed"))
	}
	if len(now) > maxWrite {
		return Result{}, told(a.Path, tooBig(int64(len(now)), maxWrite))
	}
	if err := w.put(a.Path, []byte(now), was); err != nil {
		return Result{}, err
	}
	places := "1 place"
	if count > 1 {
		places = fmt.Sprintf("%d places", count)
	}
	return text("Changed %s in %s, first in line %d.", places, a.Path, first), nil
}

// replace makes one replacement and returns where the first one is and how
// many there are. Lines of the arguments end in \n; where those of the text end
// in \r\n throughout, so do theirs.
func replace(in *string, p editPiece, all bool) (at, n int, err error) {
	old, with := p.OldText, p.NewText
	if old == "" {
		return 0, 0, errors.New("oldText must not be empty; write makes a new file")
	}
	if ends := strings.Count(*in, "\r\n"); ends > 0 && ends == strings.Count(*in, "\n") && !strings.Contains(old+with, "\r") {
		old, with = strings.ReplaceAll(old, "\n", "\r\n"), strings.ReplaceAll(with, "\n", "\r\n")
	}
	switch n = strings.Count(*in, old); {
	case n == 0:
		return 0, 0, errors.New("oldText is not in the file" + nearest(*in, old))
	case n > 1 && !all:
		return 0, 0, fmt.Errorf("oldText is in the file %d times; give more of the lines around the one that is meant, or replaceAll", n)
	}
	at = strings.Index(*in, old)
	if len(*in)+n*(len(with)-len(old)) > maxWrite { // before it is made
		return 0, 0, tooBig(int64(len(*in)+n*(len(with)-len(old))), maxWrite)
	}
	*in = strings.ReplaceAll(*in, old, with)
	return at, n, nil
}

const (
	nearLines = 20      // shown of the place that is most like oldText
	nearWork  = 2 << 20 // comparisons of lines
)

// nearest shows the lines of the file that are most like the text that was
// looked for: as many of them as it has, most of them equal but for white space.
func nearest(file, old string) string {
	lines, want := strings.Split(file, "\n"), strings.Split(strings.Trim(old, "\r\n"), "\n")
	for i := range want {
		want[i] = strings.Join(strings.Fields(want[i]), " ")
	}
	if len(lines)*len(want) > nearWork {
		return ""
	}
	plain := make([]string, len(lines))
	for i := range lines {
		plain[i] = strings.Join(strings.Fields(lines[i]), " ")
	}
	best, place := 0, -1
	for i := range plain {
		score := 0
		for j := range min(len(want), len(plain)-i) {
			score += likeness(plain[i+j], want[j])
		}
		if score > best {
			best, place = score, i
		}
	}
	if place < 0 {
		return ", and nothing like it"
	}
	var b strings.Builder
	b.WriteString("; most like it is\n")
	for i := place; i < min(place+min(len(want), nearLines), len(lines)); i++ {
		fmt.Fprintf(&b, "%d: %s\n", i+1, store.Clip(strings.TrimSuffix(lines[i], "\r"), 500))
	}
	if strings.Join(plain[place:min(place+len(want), len(plain))], "\n") == strings.Join(want, "\n") {
		b.WriteString("which differs in white space only")
	} else {
		b.WriteString("which differs")
	}
	return b.String()
}

// likeness of two lines: twice the words that they begin and end with alike,
// more for equal ones. Lines without words are like nothing.
func likeness(a, b string) int {
	if a == "" || b == "" {
		return 0
	}
	if a == b {
		return 8 + len(b)
	}
	n := 0
	for n < min(len(a), len(b)) && a[n] == b[n] {
		n++
	}
	m := 0
	for m < min(len(a), len(b))-n && a[len(a)-1-m] == b[len(b)-1-m] {
		m++
	}
	if n+m < len(b)/3 {
		return 0
	}
	return n + m
}
