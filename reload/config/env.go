package config

import (
	"path/filepath"
	"strings"
)

// expand replaces ${NAME}, where NAME is [A-Z_][A-Z0-9_]*, by what lookup
// returns; $${ stands for a literal ${. Anything else is left as it is. It
// works on the meaning of one string, so a value can never become syntax, and
// what was inserted is not looked at again.
func expand(s string, lookup func(name string) string) string {
	if !strings.Contains(s, "${") {
		return s
	}
	var b strings.Builder
	for {
		i := strings.Index(s, "${")
		if i < 0 {
			b.WriteString(s)
			return b.String()
		}
		if i > 0 && s[i-1] == '$' {
			b.WriteString(s[:i-1] + "${")
			s = s[i+2:]
			continue
		}
		end := i + 2
		for end < len(s) && isEnvByte(s[end], end > i+2) {
			end++
		}
		if end == i+2 || end == len(s) || s[end] != '}' {
			b.WriteString(s[:end])
			s = s[end:]
			continue
		}
		b.WriteString(s[:i])
		b.WriteString(lookup(s[i+2 : end]))
		s = s[end+1:]
	}
}

func isEnvByte(c byte, digit bool) bool {
	return 'A' <= c && c <= 'Z' || c == '_' || digit && isDigit(c)
}

// isReference reports whether the text of a secret only says where the secret
// is: a ${NAME} and no more, file:PATH or credential:NAME. Such text may be shown.
func isReference(s string) bool {
	return strings.HasPrefix(s, "file:") || strings.HasPrefix(s, "credential:") || s != "" && expand(s, func(string) string { return "" }) == ""
}

// isSecretName reports whether a variable of this name is likely a secret.
func isSecretName(name string) bool {
	for _, word := range []string{"TOKEN", "SECRET", "PASSWORD", "PASSWD", "API_KEY", "APIKEY", "ACCESS_KEY", "PRIVATE_KEY", "CREDENTIAL"} {
		if strings.Contains(name, word) && name != "CREDENTIALS_DIRECTORY" {
			return true
		}
	}
	return false
}

func (b *binder) env(name string) string {
	if b.src.Env == nil {
		return ""
	}
	value, _ := b.src.Env(name)
	return value
}

// text expands the variables of a string that is no secret. A variable that
// is one by its name is refused, since the value would be shown and logged.
func (b *binder) text(path string, n *Node) (string, bool) {
	ok := true
	s := expand(n.Str, func(name string) string {
		value := b.env(name)
		if isSecretName(name) {
			b.problem(path, n, "${"+name+"} names a secret, and this key is shown and logged")
			ok = false
		} else if value == "" {
			b.problem(path, n, "${"+name+"} is not set")
			ok = false
		}
		return value
	})
	return s, ok
}

// secret resolves a string that is one: literal, ${NAME}, file:PATH or
// credential:NAME. Whether the text written is a reference is decided before
// anything is expanded.
func (b *binder) secret(path string, n *Node) (Secret, bool) {
	ok := true
	s := expand(n.Str, func(name string) string {
		value := b.env(name)
		if value == "" {
			b.problem(path, n, "${"+name+"} is not set")
			ok = false
		}
		return value
	})
	if !ok {
		return Secret{}, false
	}
	var file string
	guarded := true // by its own mode and owner
	switch {
	case strings.HasPrefix(n.Str, "file:"):
		if file = expandHome(strings.TrimPrefix(s, "file:"), b.env("HOME")); !filepath.IsAbs(file) {
			file = filepath.Join(filepath.Dir(b.src.Path), file)
		}
	case strings.HasPrefix(n.Str, "credential:"):
		name, dir := strings.TrimPrefix(s, "credential:"), b.env("CREDENTIALS_DIRECTORY")
		if name == "" || name == "." || name == ".." || strings.ContainsAny(name, "/\x00") {
			b.problem(path, n, "credential: needs the plain name of a systemd credential")
			return Secret{}, false
		}
		if dir == "" {
			b.problem(path, n, "credential: works under systemd only: CREDENTIALS_DIRECTORY is not set")
			return Secret{}, false
		}
		// systemd guards the directory, and may give the files to root with an ACL for us.
		file, guarded = filepath.Join(dir, name), false
	default:
		if msg := textProblem(s); msg != "" {
			b.problem(path, n, msg)
			return Secret{}, false
		}
		return NewSecret(s), true
	}
	if b.src.ReadFile == nil {
		b.problem(path, n, "secret files cannot be read here")
		return Secret{}, false
	}
	content, err := b.src.ReadFile(file, maxSecret+2, guarded)
	if err != nil {
		b.problem(path, n, err.Error())
		return Secret{}, false
	}
	s = strings.TrimSuffix(strings.TrimSuffix(string(content), "\n"), "\r")
	if msg := textProblem(s); msg != "" {
		b.problem(path, n, "the file's content "+strings.TrimPrefix(msg, "the file "))
		return Secret{}, false
	}
	return NewSecret(s), true
}

// expandHome replaces a leading ~ by home.
func expandHome(path, home string) string {
	if path == "~" {
		return home
	}
	if rest, ok := strings.CutPrefix(path, "~/"); ok && home != "" {
		return filepath.Join(home, rest)
	}
	return path
}
