package svc

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"openclaw/gateway/store"
	"openclaw/wire"
)

// Exit codes. Supervisors must not restart on ExitConfig.
const (
	ExitOK           = 0
	ExitFailed       = 1
	ExitUsage        = 2
	ExitUnreachable  = 3
	ExitUnauthorized = 4
	ExitConfig       = 78 // EX_CONFIG of sysexits(3)
)

// Error is how a command fails: what programs, people and the shell are told.
type Error struct {
	Code string // for --json; "" = FAILED
	Exit int    // 0 = ExitFailed
	Msg  string // one line or several, without a full stop
	Hint string // the next step, where we know it
	Body any    // with --json: the whole document, instead of {ok,error}
}

func (e *Error) Error() string { return e.Msg }

func usage(format string, a ...any) *Error {
	return &Error{Code: "USAGE", Exit: ExitUsage, Msg: fmt.Sprintf(format, a...)}
}

// finish reports how a command ended and returns the exit code.
func (e *Env) finish(err error) int {
	if err == nil {
		return ExitOK
	}
	var se *Error
	if !errors.As(err, &se) {
		se = &Error{Msg: err.Error()}
	}
	if se.Code == "" {
		se.Code = "FAILED"
	}
	if se.Exit == 0 {
		se.Exit = ExitFailed
	}
	if e.JSON {
		body := se.Body
		if body == nil {
			body = map[string]any{"ok": false, "error": errorReport{se.Code, se.Msg}}
		}
		e.printJSON(body)
	}
	if se.Msg != "" {
		for line := range strings.Lines(se.Msg) {
			fmt.Fprintf(e.Stderr, "%s %s\n", e.paint(e.ErrTTY, red, "openclaw:"), escape(strings.TrimSuffix(line, "\n")))
		}
	}
	if se.Hint != "" {
		fmt.Fprintf(e.Stderr, "%s %s\n", e.paint(e.ErrTTY, bold, "hint:"), escape(se.Hint))
	}
	return se.Exit
}

// Warn tells the person something beside the result.
func (e *Env) Warn(format string, a ...any) {
	fmt.Fprintf(e.Stderr, "openclaw: %s\n", escape(fmt.Sprintf(format, a...)))
}

// debug tells what is going on to someone who asked for it.
func (e *Env) debug(format string, a ...any) {
	if e.LogLevel == "debug" {
		e.Warn(format, a...)
	}
}

// printJSON writes v, or the JSON text that v is, as one indented document.
func (e *Env) printJSON(v any) error {
	text, err := indented(v)
	if err == nil {
		_, err = e.Stdout.Write(escapeJSON(text))
	}
	return err
}

// printFolded is printJSON for a person to read and for grep: objects and lists
// of nothing but plain values stand on one line where that is no long one.
func (e *Env) printFolded(v any) error {
	text, err := indented(v)
	if err == nil {
		_, err = e.Stdout.Write(fold(escapeJSON(text)))
	}
	return err
}

// fold joins the lines of the innermost objects and lists of an indented JSON
// text. Only a line that opens one ends with its bracket, since strings have no
// line breaks.
func fold(text []byte) []byte {
	const width = 80
	var lines [][]byte
	open := -1 // the line where the innermost begins
	for line := range bytes.Lines(text) {
		line = bytes.TrimSuffix(line, []byte("\n"))
		lines = append(lines, line)
		switch word := bytes.TrimSpace(line); {
		case bytes.HasSuffix(word, []byte("{")), bytes.HasSuffix(word, []byte("[")):
			open = len(lines) - 1
		case open >= 0 && (word[0] == '}' || word[0] == ']'):
			inner := slices.Clone(lines[open+1 : len(lines)-1])
			for i := range inner {
				inner[i] = bytes.TrimSpace(inner[i])
			}
			if one := slices.Concat(lines[open], bytes.Join(inner, []byte(" ")), word); utf8.RuneCount(one) <= width {
				lines = append(lines[:open], one)
			}
			open = -1
		}
	}
	return append(bytes.Join(lines, []byte("\n")), '\n')
}

// indented is v, or the JSON text that v is, with lines.
func indented(v any) ([]byte, error) {
	if text, ok := v.([]byte); ok {
		v = wire.Raw(text)
	}
	raw, err := wire.Marshal(v)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	if err := json.Indent(&b, raw, "", "  "); err != nil {
		return nil, err
	}
	b.WriteByte('\n')
	return b.Bytes(), nil
}

// count is "1 problem", "2 problems".
func count(n int, what string) string {
	if n != 1 {
		what += "s"
	}
	return fmt.Sprintf("%d %s", n, what)
}

// someOf lists the first few of many keys.
func someOf(keys []string) string {
	const few = 5
	if len(keys) <= few+1 {
		return strings.Join(keys, ", ")
	}
	return fmt.Sprintf("%s … and %d more", strings.Join(keys[:few], ", "), len(keys)-few)
}

// printf writes to stdout. Values that came from elsewhere go through escape first.
func (e *Env) printf(format string, a ...any) error {
	_, err := fmt.Fprintf(e.Stdout, format, a...)
	return err
}

// table writes rows in aligned columns under a heading.
func (e *Env) table(heading []string, rows [][]string) error {
	rows = append([][]string{heading}, rows...)
	wide := make([]int, len(heading))
	for _, row := range rows {
		for i := range row {
			row[i] = oneLine(row[i])
			wide[i] = max(wide[i], utf8.RuneCountInString(row[i]))
		}
	}
	for n, row := range rows {
		line := ""
		for i, cell := range row {
			line += cell + strings.Repeat(" ", wide[i]+2-utf8.RuneCountInString(cell))
		}
		line = strings.TrimRight(line, " ")
		if n == 0 {
			line = e.paint(e.OutTTY, bold, line)
		}
		fmt.Fprintln(e.Stdout, line)
	}
	return nil
}

const (
	bold  = "1"
	red   = "31"
	green = "32"
)

// paint colours text (ECMA-48, SGR) for a terminal, unless the person does not want that.
func (e *Env) paint(tty bool, sgr, text string) string {
	if !tty || e.NoColor || e.getenv("TERM") == "dumb" {
		return text
	}
	return "\x1b[" + sgr + "m" + text + "\x1b[0m"
}

// unsafeRune reports whether a character could do more to a terminal than
// stand there: move, colour, hide or reorder what else is on the screen.
func unsafeRune(r rune) bool {
	return unicode.In(r, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp)
}

// escape makes text from elsewhere fit for a terminal. Line breaks and tabs
// stay; what cannot be shown safely becomes visible.
func escape(s string) string {
	safe := func(r rune) bool { return r == '\n' || r == '\t' || r != utf8.RuneError && !unsafeRune(r) }
	if strings.IndexFunc(s, func(r rune) bool { return !safe(r) }) < 0 {
		return s
	}
	var b strings.Builder
	for i, r := range s {
		switch {
		case r == utf8.RuneError && !strings.HasPrefix(s[i:], "\uFFFD"):
			fmt.Fprintf(&b, `\x%02x`, s[i])
		case r == '\r' && strings.HasPrefix(s[i:], "\r\n"):
		case r == utf8.RuneError || safe(r):
			b.WriteRune(r)
		default:
			fmt.Fprintf(&b, `\u{%x}`, r)
		}
	}
	return b.String()
}

// oneLine is escape for text that must not leave its line or column.
func oneLine(s string) string {
	return strings.NewReplacer("\n", " ", "\t", " ").Replace(escape(s))
}

// escapeJSON does the same to a JSON text, in JSON's own way: such characters
// can only stand inside its strings.
func escapeJSON(raw []byte) []byte {
	if bytes.IndexFunc(raw, func(r rune) bool { return r != '\n' && unsafeRune(r) }) < 0 {
		return raw
	}
	var b bytes.Buffer
	for _, r := range string(raw) {
		switch {
		case r == '\n' || !unsafeRune(r):
			b.WriteRune(r)
		case r > 0xFFFF:
			r -= 0x10000
			fmt.Fprintf(&b, `\u%04x\u%04x`, 0xD800+r>>10, 0xDC00+r&0x3FF)
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
	}
	return b.Bytes()
}

// maxInput is the most read from a file or stdin: what a gateway takes in one message by default.
const maxInput = 25 << 20

// readInput reads the file of that name that a person gave; - is stdin.
func (e *Env) readInput(name string) ([]byte, error) {
	if name != "-" {
		return store.ReadConfigFile(name, maxInput, false)
	}
	raw, err := io.ReadAll(io.LimitReader(e.Stdin, maxInput+1))
	if err == nil && len(raw) > maxInput {
		err = fmt.Errorf("more than %d bytes", maxInput)
	}
	return raw, err
}
