package config

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"math"
	"strings"
)

// Secret is a string that prints, logs and marshals as [redacted]. Reveal is
// the only way to its content, so that every use can be found. Two secrets are
// compared with Equal; the zero Secret is «not set».
type Secret struct {
	_ [0]func() // no ==

	// A pointer: where a Secret sits in an unexported field, fmt cannot call
	// its methods and prints what is inside, here an address.
	text *string
}

const redacted = "[redacted]"

// NewSecret hides s.
func NewSecret(s string) Secret {
	if s == "" {
		return Secret{}
	}
	return Secret{text: &s}
}

// Reveal returns the content, for comparing or sending it, never for showing it.
func (s Secret) Reveal() string {
	if s.text == nil {
		return ""
	}
	return *s.text
}

// IsZero reports whether the secret is not set.
func (s Secret) IsZero() bool { return s.text == nil }

// Equal compares in a time that tells neither content nor length.
func (s Secret) Equal(o Secret) bool {
	a, b := sha256.Sum256([]byte(s.Reveal())), sha256.Sum256([]byte(o.Reveal()))
	return subtle.ConstantTimeCompare(a[:], b[:]) == 1
}

func (s Secret) String() string               { return redacted }
func (s Secret) Format(f fmt.State, _ rune)   { io.WriteString(f, redacted) }
func (s Secret) MarshalJSON() ([]byte, error) { return json.Marshal(redacted) }
func (s Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }
func (s Secret) LogValue() slog.Value         { return slog.StringValue(redacted) }

const (
	minTokenBits     = 128
	minPasswordChars = 12
	maxSecret        = 4096 // bytes
)

// tokenProblem says why s is no token, or "". It never quotes s.
func tokenProblem(s string) string {
	if msg := textProblem(s); msg != "" {
		return msg
	}
	if tokenBits(s) < minTokenBits {
		return "too weak: a token needs at least 128 bits, for example from `openssl rand -hex 32`"
	}
	return ""
}

// passwordProblem says why s is no password, or "".
func passwordProblem(s string) string {
	if msg := textProblem(s); msg != "" {
		return msg
	}
	if n := len([]rune(s)); n < minPasswordChars {
		return "too short: a password needs at least 12 characters"
	}
	if distinct(s) < 5 || period(s) < minPasswordChars/2 {
		return "too weak: the same few characters over and over"
	}
	return ""
}

// textProblem refuses what is no secret at all, for every kind of secret.
func textProblem(s string) string {
	switch {
	case strings.TrimSpace(s) == "":
		return "must not be blank"
	case len(s) > maxSecret:
		return "longer than 4096 bytes"
	case s != strings.TrimSpace(s):
		return "must not begin or end with white space"
	case strings.Contains(s, RedactedPlaceholder), strings.Contains(s, redacted):
		return "is the mask that stands for a hidden secret, not the secret"
	case strings.Contains(s, "${"):
		return "holds an unresolved ${…}"
	case strings.ContainsFunc(s, func(r rune) bool { return r < 0x20 || r == 0x7F }):
		return "must not contain control characters"
	case isPlaceholder(s):
		return "is a placeholder, not a secret"
	}
	return ""
}

// isPlaceholder recognises what examples and broken scripts leave behind. The
// words searched for inside are so long that no random token contains them.
func isPlaceholder(s string) bool {
	plain := strings.Map(func(r rune) rune {
		if 'a' <= r && r <= 'z' || '0' <= r && r <= '9' {
			return r
		}
		return -1
	}, strings.ToLower(s))
	switch strings.TrimRight(plain, "0123456789") {
	case "undefined", "null", "nil", "none", "nan", "true", "false", "objectobject", "test", "testing", "testtoken", "token", "password",
		"passwd", "secret", "example", "default", "admin", "todo", "fixme", "xxx", "dummy", "foo", "foobar", "mytoken", "mypassword", "mysecret":
		return true
	}
	for _, word := range []string{"yourtoken", "yoursecure", "yourpassword", "yoursecret", "yourapikey", "yourgateway", "changeme",
		"changethis", "replaceme", "replacewith", "replacethis", "placeholder", "inserttoken", "inserthere", "goeshere", "exampletoken",
		"examplepassword", "testpassword", "openclawgatewaytoken", "openclawgatewaypassword", "undefined"} {
		if strings.Contains(plain, word) {
			return true
		}
	}
	return strings.HasPrefix(s, "<") && strings.HasSuffix(s, ">")
}

// tokenBits estimates the entropy of a random token from the alphabet it
// seems to be drawn from. Repetition and sequences count once.
func tokenBits(s string) float64 {
	length := min(len(s), period(s))
	if distinct(s) < 6 || steps(s) > len(s)/2 {
		return 0
	}
	var digit, lower, upper, other bool
	for i := 0; i < len(s); i++ {
		c := s[i]
		digit = digit || isDigit(c)
		lower = lower || 'a' <= c && c <= 'z'
		upper = upper || 'A' <= c && c <= 'Z'
		other = other || !isHex(c)
	}
	// The alphabets of base64, base36 and base32, hexadecimal and decimal digits.
	alphabet := 10.0
	switch {
	case lower && upper:
		alphabet = 64
	case other && digit:
		alphabet = 36
	case other:
		alphabet = 32
	case lower || upper:
		alphabet = 16
	}
	return float64(length) * math.Log2(alphabet)
}

func distinct(s string) int {
	seen := map[rune]bool{}
	for _, r := range s {
		seen[r] = true
	}
	return len(seen)
}

// period is the length of the shortest prefix that, repeated, gives s.
func period(s string) int {
	for p := 1; p <= len(s)/2; p++ {
		if s[p:] == s[:len(s)-p] {
			return p
		}
	}
	return len(s)
}

// steps counts the characters that merely continue a run such as 1234, cba or xxx.
func steps(s string) int {
	n := 0
	for i := 2; i < len(s); i++ {
		if d := int(s[i]) - int(s[i-1]); -1 <= d && d <= 1 && d == int(s[i-1])-int(s[i-2]) {
			n++
		}
	}
	return n
}
