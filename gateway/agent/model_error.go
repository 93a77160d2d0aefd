package agent

import (
	"bytes"
	"cmp"
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// ErrModel is what errors of a turn are that no model answered. Their words name
// provider and status, and may be shown to whoever asked.
var ErrModel = errors.New("no model answered")

// RetryAdvice tells of an ErrModel whether asking again may help, and how long
// the provider wants that to wait; 0 when it did not say.
func RetryAdvice(err error) (retry bool, after time.Duration) {
	var e *modelError
	if !errors.As(err, &e) {
		return false, 0
	}
	return e.Retryable, e.RetryAfter
}

// A modelError says which model did not answer, and why, in words that may be
// shown to whoever asked. It never holds a key or another header's value.
type modelError struct {
	Provider, Model string
	Status          int // the provider's HTTP status, or what it amounts to; 0 when there was none
	Msg             string
	Retryable       bool
	RetryAfter      time.Duration // as the provider asked; 0 when it did not
	Timeout         bool          // silence, or the end of the turn's time

	own    bool  // Msg is ours or the network's, hence fit for a log: a provider's may quote the prompt
	cause  error // context.DeadlineExceeded when the turn's time ended, else nil
	others []*modelError
}

// Error names provider, model, status and the provider's own message, of the
// first model that was asked and then of each fallback.
func (e *modelError) Error() string {
	var b strings.Builder
	e.write(&b)
	for _, other := range e.others {
		b.WriteString("; then ")
		other.write(&b)
	}
	return b.String()
}

func (e *modelError) write(b *strings.Builder) {
	if e.Provider != "" {
		fmt.Fprintf(b, "provider %q ", e.Provider)
	}
	fmt.Fprintf(b, "model %q: ", e.Model)
	if e.Status != 0 {
		b.WriteString(strings.TrimSpace(strconv.Itoa(e.Status) + " " + http.StatusText(e.Status)))
		if e.Msg != "" {
			b.WriteString(": ")
		}
	}
	b.WriteString(e.Msg)
}

// Unwrap makes errors.Is(err, context.DeadlineExceeded) true when the turn's
// own time ended, and only then.
func (e *modelError) Unwrap() error { return e.cause }

// Is makes every modelError an ErrModel.
func (e *modelError) Is(target error) bool { return target == ErrModel }

// LogAttrs describes an error of a turn for a log, without what people wrote.
func LogAttrs(err error) []any {
	var e *modelError
	if !errors.As(err, &e) {
		return []any{"err", err}
	}
	return e.attrs()
}

// attrs describes e for a log, which must not hold what people wrote.
func (e *modelError) attrs() []any {
	a := []any{"provider", e.Provider, "model", e.Model, "status", e.Status}
	if e.own {
		a = append(a, "err", e.Msg)
	}
	return a
}

// failf makes an error in our own words about the call r.
func (r *modelRequest) failf(status int, format string, a ...any) *modelError {
	return &modelError{
		Provider: r.Model.Provider, Model: r.Model.ID,
		Status: status, Msg: r.clean(fmt.Sprintf(format, a...)), own: true,
	}
}

// refused makes an error of a provider's own message. It is retryable when a
// later attempt may fare better.
func (r *modelRequest) refused(status int, f providerFault) *modelError {
	e := r.failf(status, "%s", f.Message)
	e.own = false
	switch {
	case f.is("insufficient_quota"):
		// OpenAI's 429 for an account without money, which time does not heal.
	case status == http.StatusRequestTimeout, status == http.StatusConflict,
		status == http.StatusTooManyRequests, status >= 500:
		e.Retryable = true
	}
	return e
}

// broken makes an error of a failed connection or a malformed answer.
func (r *modelRequest) broken(format string, a ...any) *modelError {
	e := r.failf(0, format, a...)
	e.Retryable = true
	return e
}

// ended tells why ctx ended: a *modelError when time ran out, else the cause.
func (r *modelRequest) ended(ctx context.Context) error {
	if !errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return context.Cause(ctx)
	}
	e := r.failf(0, "no complete answer before the turn's deadline")
	e.Timeout, e.cause = true, context.DeadlineExceeded
	return e
}

// A providerFault is what an error object says, in the dialects met.
type providerFault struct {
	Message, Type, Code string
}

func (f providerFault) is(word string) bool { return f.Type == word || f.Code == word }

// status turns the fault of an answer that began with 200 into the HTTP status
// it would have had. What is not known is taken to be the server's trouble.
func (f providerFault) status() int {
	if n, err := strconv.Atoi(f.Code); err == nil && n >= 400 && n <= 599 {
		return n
	}
	known := map[string]int{
		"invalid_request_error": 400, "context_length_exceeded": 400, "BadRequestError": 400,
		"authentication_error": 401, "invalid_api_key": 401, "permission_error": 403,
		"not_found_error": 404, "model_not_found": 404, "request_too_large": 413,
		"rate_limit_error": 429, "rate_limit_exceeded": 429, "insufficient_quota": 429,
		"timeout_error": 504, "overloaded_error": 529, // the last is Anthropic's own
	}
	if status := cmp.Or(known[f.Type], known[f.Code]); status != 0 {
		return status
	}
	return http.StatusInternalServerError
}

// parseFault reads an error body: {"error":{"message","type","code"}},
// {"error":"text"}, {"message":…}, {"detail":…}, one of these in an array, or
// plain text.
func parseFault(body []byte) providerFault {
	body = bytes.TrimSpace(body)
	if f, ok := faultObject(body, 0); ok {
		return f
	}
	return providerFault{Message: string(body)}
}

func faultObject(raw []byte, depth int) (providerFault, bool) {
	var f providerFault
	if len(raw) == 0 || depth > 2 {
		return f, false
	}
	switch raw[0] {
	case '"':
		return f, json.Unmarshal(raw, &f.Message) == nil
	case '[':
		var list []json.RawMessage
		if json.Unmarshal(raw, &list) != nil || len(list) == 0 {
			return f, false
		}
		return faultObject(list[0], depth+1)
	case '{':
		var o map[string]json.RawMessage
		if json.Unmarshal(raw, &o) != nil {
			return f, false
		}
		if inner, ok := faultObject(o["error"], depth+1); ok {
			return inner, true
		}
		text := func(key string) string { return strings.Trim(string(o[key]), `"`) }
		f.Type, f.Code = text("type"), text("code")
		for _, key := range []string{"message", "detail", "error_description"} {
			if json.Unmarshal(o[key], &f.Message) == nil && f.Message != "" {
				return f, true
			}
		}
		f.Message = string(raw)
		return f, true
	}
	return f, false
}

// retryAfter reads the header of RFC 9110 §10.2.3: seconds or a date.
func retryAfter(h http.Header) time.Duration {
	v := strings.TrimSpace(h.Get("Retry-After"))
	if n, err := strconv.Atoi(v); err == nil {
		return time.Duration(min(max(n, 0), 1e6)) * time.Second
	}
	if t, err := http.ParseTime(v); err == nil {
		return max(time.Until(t), 0)
	}
	return 0
}

const (
	shownRunes = 200     // of a message that came from outside
	readBytes  = 4 << 10 // of it that are looked at
	secretPart = 12      // a piece of a secret this long counts as the secret
	secretMin  = 4       // what is shorter is a placeholder
)

// clean makes a message that came from outside safe to show: without the
// secrets that were sent along, printable, one line, short.
func (r *modelRequest) clean(msg string) string {
	msg = msg[:min(len(msg), readBytes)]
	secrets := []string{r.Model.APIKey.Reveal()}
	for _, v := range r.Model.Headers {
		secrets = append(secrets, strings.Fields(v.Reveal())...)
	}
	for _, secret := range secrets {
		msg = redact(msg, secret)
		for _, form := range encodings(secret) {
			msg = redact(msg, form)
		}
	}
	var b strings.Builder
	n, space := 0, false
	for _, c := range msg {
		if unicode.IsSpace(c) {
			space = b.Len() > 0
			continue
		}
		if n >= shownRunes {
			b.WriteString("…")
			break
		}
		if space {
			b.WriteByte(' ')
			n, space = n+1, false
		}
		if c == utf8.RuneError || unicode.IsPrint(c) {
			b.WriteRune(c)
		} else {
			b.WriteString(strings.Trim(strconv.QuoteRuneToGraphic(c), "'"))
		}
		n++
	}
	return b.String()
}

// encodings are other shapes in which a provider may repeat a secret: hex, and
// base64 in both alphabets (RFC 4648 §4, §5), wherever the secret begins in the
// text that was encoded. What is next to it shapes the first and last letters.
func encodings(secret string) []string {
	if len(secret) < secretPart {
		return nil
	}
	out := []string{hex.EncodeToString([]byte(secret))}
	for _, enc := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
		for before := range 3 {
			text := enc.EncodeToString(append(make([]byte, before), secret...))
			out = append(out, text[(before*8+5)/6:len(text)-1])
		}
	}
	return out
}

// redact replaces secret in msg, and each longer piece of it: providers quote
// keys in part, and a message may have been cut in the middle of one.
func redact(msg, secret string) string {
	part := min(len(secret), secretPart)
	if part < secretMin {
		return msg
	}
	var out []byte
	for i := 0; i < len(msg); {
		n := 0
		for k := part; i+k <= len(msg) && strings.Contains(secret, msg[i:i+k]); k++ {
			n = k
		}
		if n == 0 {
			if out != nil {
				out = append(out, msg[i])
			}
			i++
			continue
		}
		if out == nil {
			out = slices.Clone([]byte(msg[:i]))
		}
		out = append(out, "[redacted]"...)
		i += n
	}
	if out == nil {
		return msg
	}
	return string(out)
}
