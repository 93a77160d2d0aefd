package gateway

import (
	"fmt"
	"log/slog"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"openclaw/gateway/store"
)

const maxLogValue = 256 // bytes of a value in the log, stacks excepted

// clean makes an attribute fit to be written: secrets masked, nothing in it
// that a terminal or a reader could be fooled by, and not too long.
func (o *logOutput) clean(a slog.Attr) slog.Attr {
	if a.Equal(slog.Attr{}) {
		return a // ignored by handlers
	}
	a.Key = clean(a.Key, 64)
	switch a.Value.Kind() {
	case slog.KindString, slog.KindAny:
		if secretKey(a.Key) {
			return slog.String(a.Key, redactedValue)
		}
	case slog.KindDuration: // with its unit, in JSON too
		return slog.String(a.Key, a.Value.Duration().Round(time.Microsecond).String())
	default:
		return a
	}
	text := a.Value.String()
	if a.Value.Kind() == slog.KindAny {
		switch v := a.Value.Any().(type) {
		case slog.Level, *slog.Source:
			return a
		default:
			text = textOf(v)
		}
	}
	text = o.secrets.Load().Replace(text)
	limit := maxLogValue
	if a.Key == "stack" {
		limit = 16 << 10
	}
	return slog.String(a.Key, clean(text, limit))
}

// textOf is what an error or any other value says of itself.
func textOf(v any) (s string) {
	err, ok := v.(error)
	if !ok {
		return fmt.Sprint(v)
	}
	defer func() {
		if recover() != nil { // a nil pointer, as a rule: fmt knows how to say it
			s = fmt.Sprint(v)
		}
	}()
	return err.Error()
}

func secretKey(key string) bool {
	switch strings.ToLower(key) {
	case "token", "password", "secret", "authorization", "apikey", "api_key", "cookie":
		return true
	}
	return false
}

// clean cuts a text to a length and writes out what is not to be seen as it
// is: control characters (C0 but newline and tab, DEL, C1), formats such as
// bidirectional overrides and zero widths, and line and paragraph separators.
func clean(s string, limit int) string {
	if len(s) > limit {
		s = store.Clip(s, limit) + "…"
	}
	if strings.IndexFunc(s, hidden) < 0 && utf8.ValidString(s) {
		return s
	}
	var b strings.Builder
	for i, r := range s {
		switch {
		case r == utf8.RuneError && !strings.HasPrefix(s[i:], "\uFFFD"):
			fmt.Fprintf(&b, `\x%02x`, s[i])
		case !hidden(r):
			b.WriteRune(r)
		case r > 0xFFFF:
			fmt.Fprintf(&b, `\U%08x`, r)
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
	}
	return b.String()
}

func hidden(r rune) bool {
	return r != '\n' && r != '\t' && unicode.In(r, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp)
}
