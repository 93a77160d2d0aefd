package tool

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"openclaw/gateway/store"
)

func fileTools() []*row {
	return []*row{
		tool("read", Read, "Read a text file or an image (PNG, JPEG, GIF, WebP) of the workspace. A long file is shown in parts: go on with offset.", readFile),
		tool("write", Write, "Write a whole file, making its directories; an existing file is replaced. To change a part of one, use edit.", writeFile),
		tool("edit", Write, "Replace text in a file. oldText must be in it exactly, white space included, and once only; give some lines around it where it is not.", editFile),
		tool("list", Read, "List a directory. Directories end in a slash; files have their size in bytes.", listDir),
		tool("grep", Read, "Search the text of files for a regular expression (RE2), line by line. Links, binary files and .git are left out.", grepFiles),
	}
}

const (
	readLines  = 2000      // shown by one read, unless it asks for fewer
	readBytes  = 128 << 10 // shown by one read
	readColumn = 8 << 10   // bytes shown of one line
	readCount  = 32 << 20  // bytes of a file whose lines are still counted to the end
	readSeek   = 1 << 30   // bytes looked through for an offset
	maxImage   = 5 << 20
	maxWrite   = 8 << 20 // bytes of a file that is changed
	listShown  = 500
	listSeen   = 20_000 // entries of one directory that are read
)

type readArgs struct {
	Path   Path `arg:"path" alias:"file_path,filePath,file" required:"true" doc:"The file, relative to the workspace."`
	Offset int  `arg:"offset" min:"1" max:"1000000000" doc:"First line to show, from 1."`
	Limit  int  `arg:"limit" min:"1" max:"1000000000" doc:"How many lines to show; at most 2000."`
}

func readFile(ctx context.Context, c *call, a *readArgs) (Result, error) {
	w, err := c.workspace()
	if err != nil {
		return Result{}, err
	}
	defer w.Close()
	f, fi, err := w.open(a.Path)
	if err != nil {
		return Result{}, err
	}
	defer f.Close()
	if fi.IsDir() {
		return Result{}, told(a.Path, errDirectory)
	}
	head := make([]byte, 8<<10)
	n, err := io.ReadFull(f, head)
	if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
		return Result{}, told(a.Path, err)
	}
	head = head[:n]
	kind := http.DetectContentType(head)
	switch {
	case kind == "image/png", kind == "image/jpeg", kind == "image/gif", kind == "image/webp":
		return readImage(w, a.Path, kind)
	case isBinary(head):
		return text("%s is a binary file (%s, %d bytes) and is not shown.", a.Path, kind, fi.Size()), nil
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return Result{}, told(a.Path, err)
	}
	return readText(ctx, f, fi, a)
}

func readImage(w *workspace, p Path, kind string) (Result, error) {
	data, _, err := w.read(p, maxImage)
	if err != nil {
		return Result{}, err
	}
	r := text("%s (%s, %d bytes)", p, kind, len(data))
	r.Content = append(r.Content, store.Part{Type: store.PartImage, MimeType: kind, Data: base64.StdEncoding.EncodeToString(data)})
	return r, nil
}

// isBinary judges by the beginning of a file, which may end within a character.
func isBinary(head []byte) bool {
	if bytes.IndexByte(head, 0) >= 0 {
		return true
	}
	wrong := 0
	for len(head) > 0 {
		r, n := utf8.DecodeRune(head)
		if r == utf8.RuneError && n == 1 {
			wrong++
		}
		head = head[n:]
	}
	return wrong > 32 // some bytes of an older encoding make no binary
}

func readText(ctx context.Context, f *os.File, fi fs.FileInfo, a *readArgs) (Result, error) {
	first, limit := max(a.Offset, 1), min(cmp.Or(a.Limit, readLines), readLines)
	r := bufio.NewReaderSize(f, 64<<10)
	var out strings.Builder
	line, seen, last := 0, int64(0), 0
	for more := true; more; {
		show := line+1 >= first && line+1 < first+limit && out.Len() < readBytes
		if line > 0 && line+1 >= first && !show && fi.Size() > readCount {
			break // enough is shown, and the file is too long to count its lines
		}
		if seen > readSeek {
			return Result{}, fmt.Errorf("%s: line %d is beyond the first %d bytes", a.Path, first, int64(readSeek))
		}
		whole, n, err := readLine(ctx, r)
		if err != nil && err != io.EOF {
			return Result{}, told(a.Path, err)
		}
		more = err == nil
		if seen += n; n == 0 {
			break
		}
		if line++; show {
			out.WriteString(whole)
			last = line
		}
	}
	switch {
	case line == 0:
		return text("%s is empty.", a.Path), nil
	case last == 0:
		return Result{}, fmt.Errorf("%s: there is no line %d; the file has %d", a.Path, first, line)
	}
	part := strings.ToValidUTF8(out.String(), "\uFFFD")
	if first > 1 || last < line || seen < fi.Size() {
		of := fmt.Sprint(line)
		if seen < fi.Size() {
			of = "more"
		}
		part = strings.TrimSuffix(part, "\n") + fmt.Sprintf("\n\n[lines %d to %d of %s", first, last, of)
		if last < line || seen < fi.Size() {
			part += fmt.Sprintf("; go on with offset %d", last+1)
		}
		part += "]"
	}
	return Result{Content: store.Text(part)}, nil
}

// readLine returns a line with its end, cut to readColumn, and how long it is.
func readLine(ctx context.Context, r *bufio.Reader) (line string, n int64, err error) {
	var b []byte
	for {
		if ctx.Err() != nil {
			return "", n, context.Cause(ctx)
		}
		part, err := r.ReadSlice('\n')
		n += int64(len(part))
		if room := readColumn - len(b); room > 0 {
			b = append(b, part[:min(room, len(part))]...)
		}
		if err == bufio.ErrBufferFull {
			continue
		}
		if n > int64(len(b)) {
			b = fmt.Appendf(b, " [%d bytes of this line are left out]\n", n-int64(len(b)))
		}
		return string(b), n, err
	}
}

type writeArgs struct {
	Path    Path   `arg:"path" alias:"file_path,filePath,file" required:"true" doc:"The file, relative to the workspace."`
	Content string `arg:"content" alias:"text,contents" required:"true" doc:"All of the file's new text."`
}

func writeFile(ctx context.Context, c *call, a *writeArgs) (Result, error) {
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
	if err := w.put(a.Path, []byte(a.Content), nil); err != nil {
		return Result{}, err
	}
	return text("Wrote %d bytes to %s.", len(a.Content), a.Path), nil
}

type listArgs struct {
	Path  Path `arg:"path" alias:"dir,directory" doc:"The directory, relative to the workspace; the workspace itself when absent."`
	Limit int  `arg:"limit" min:"1" max:"5000" doc:"How many entries to show; 500 when absent."`
}

func listDir(ctx context.Context, c *call, a *listArgs) (Result, error) {
	w, err := c.workspace()
	if err != nil {
		return Result{}, err
	}
	defer w.Close()
	entries, whole, err := w.entries(a.Path)
	if err != nil {
		return Result{}, err
	}
	var out strings.Builder
	limit := cmp.Or(a.Limit, listShown)
	for i, e := range entries {
		if ctx.Err() != nil {
			return Result{}, context.Cause(ctx)
		}
		if i == limit {
			break
		}
		p := a.Path.beneath(e.Name())
		switch fi, err := w.root.Lstat(p.String()); {
		case err != nil: // gone meanwhile
		case fi.IsDir():
			fmt.Fprintf(&out, "%s/\n", shown(e.Name()))
		case fi.Mode()&fs.ModeSymlink != 0:
			target, _ := w.root.Readlink(p.String())
			fmt.Fprintf(&out, "%s -> %s\n", shown(e.Name()), shown(target))
		default:
			fmt.Fprintf(&out, "%s\t%d\n", shown(e.Name()), fi.Size())
		}
	}
	switch {
	case len(entries) == 0:
		return text("%s is empty.", a.Path), nil
	case !whole:
		fmt.Fprintf(&out, "[there are more than %d entries; %d are shown]\n", len(entries), min(limit, len(entries)))
	case len(entries) > limit:
		fmt.Fprintf(&out, "[%d of %d entries are shown]\n", limit, len(entries))
	}
	return Result{Content: store.Text(strings.ToValidUTF8(out.String(), "\uFFFD"))}, nil
}

// shown is a name that somebody else chose: one that holds a line's end must
// not pass for two.
func shown(name string) string {
	if strings.ContainsFunc(name, unicode.IsControl) {
		return strconv.Quote(name)
	}
	return name
}

// entries reads a directory, sorted by name; whole is false where it holds too many.
func (w *workspace) entries(p Path) (list []fs.DirEntry, whole bool, err error) {
	f, fi, err := w.open(p)
	if err != nil {
		return nil, false, err
	}
	defer f.Close()
	if !fi.IsDir() {
		return nil, false, told(p, errors.New("is not a directory"))
	}
	list, err = f.ReadDir(listSeen + 1)
	if err != nil && err != io.EOF {
		return nil, false, told(p, err)
	}
	slices.SortFunc(list, func(x, y fs.DirEntry) int { return strings.Compare(x.Name(), y.Name()) })
	return list, len(list) <= listSeen, nil
}
