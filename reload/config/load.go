package config

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"path/filepath"
	"reflect"
	"strings"
	"unicode/utf8"
)

// MaxFile is the most bytes that a configuration file may have.
const MaxFile = maxFile

// Source is where a configuration comes from.
type Source struct {
	Path string                           // of the file
	Env  func(name string) (string, bool) // nil: an empty environment

	// ReadFile reads at most limit bytes of a regular file. With secret set it
	// refuses a file that is not ours or that others may read. It is asked for
	// the configuration itself and systemd credentials (secret false) and for
	// file:PATH secrets (secret true). Load needs it; without it Parse refuses
	// secrets in files.
	ReadFile func(path string, limit int64, secret bool) ([]byte, error)
}

// Loaded is a configuration as it was read.
type Loaded struct {
	Config   *Config
	Raw      []byte
	Hash     string // hex SHA-256 of Raw
	Warnings []Problem
	Root     *Node // of Raw; nil when that is no JSON5
}

// Load reads and checks the file at src.Path and takes the gateway's secret
// from OPENCLAW_GATEWAY_TOKEN or OPENCLAW_GATEWAY_PASSWORD when the file has none.
// The error is Problems when the file is bad, and errors.Is(err, fs.ErrNotExist)
// when there is none.
//
// With Problems, Loaded is not nil: Raw, Hash, Root and Warnings are what they
// are, and Config has defaults where the file is wrong, for commands that look
// at a broken file. A gateway must not run on it. A configuration without any
// gateway secret is no problem here, since half of the commands need none;
// Gateway.Auth.Missing tells, and a gateway must not start then.
func Load(src Source) (*Loaded, error) {
	raw, err := src.ReadFile(src.Path, MaxFile, false)
	if err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	return Parse(src.Path, raw, src)
}

// Parse is Load for text that is at hand; name is what problems call it. Of
// src, Env and ReadFile are used, and Path for relative file: secrets.
func Parse(name string, raw []byte, src Source) (*Loaded, error) {
	l := &Loaded{Config: Default(), Raw: raw, Hash: Hash(raw)}
	root, err := ParseJSON5(raw)
	if err != nil {
		var p *Problem
		if errors.As(err, &p) {
			p.File = name
			return l, Problems{*p}
		}
		return l, err
	}
	l.Root = root
	b := &binder{file: name, src: src, at: map[string]*Node{}, listed: map[string]map[string]bool{}}
	b.object("", "", root, reflect.ValueOf(l.Config).Elem())
	b.authFromEnv(&l.Config.Gateway.Auth)
	b.check(l.Config)
	var problems Problems
	if problems, l.Warnings = b.told(); len(problems) > 0 {
		return l, problems
	}
	return l, nil
}

// Hash is how a text of the file is named: hex SHA-256.
func Hash(raw []byte) string {
	sum := sha256.Sum256(raw)
	return hex.EncodeToString(sum[:])
}

// authFromEnv settles auth.mode and fetches the mode's secret from the
// environment if the file leaves it out. A secret in the file decides the
// mode before one in the environment does, so a stray variable cannot turn a
// password gateway into a token gateway.
func (b *binder) authFromEnv(a *Auth) {
	const tokenVar, passwordVar = "OPENCLAW_GATEWAY_TOKEN", "OPENCLAW_GATEWAY_PASSWORD"
	hasToken, hasPassword := b.at["gateway.auth.token"] != nil, b.at["gateway.auth.password"] != nil
	if a.Mode == "" {
		a.Mode = "token"
		if hasPassword && !hasToken || !hasToken && b.env(tokenVar) == "" && b.env(passwordVar) != "" {
			a.Mode = "password"
		}
	}
	slot, path, name, has := &a.Token, a.SecretKey(), a.SecretVar(), hasToken
	if a.Mode == "password" {
		slot, has = &a.Password, hasPassword
	}
	value := b.env(name)
	if has || value == "" {
		return
	}
	if !utf8.ValidString(value) {
		b.problem(path, nil, "from "+name+": not valid UTF-8")
		return
	}
	*slot = NewSecret(value)
	b.checkAuthSecret(path, name, value)
}

// Secret is the one that clients must present, by mode.
func (a Auth) Secret() Secret {
	if a.Mode == "password" {
		return a.Password
	}
	return a.Token
}

// SecretKey is the key of that secret.
func (a Auth) SecretKey() string {
	if a.Mode == "password" {
		return "gateway.auth.password"
	}
	return "gateway.auth.token"
}

// SecretFrom tells where the gateway's secret was taken from, never what it is:
// the place in the file and, where that only refers to it, what kind of thing it
// refers to. It is "" when there is none. Name is what the file is called.
func (l *Loaded) SecretFrom(name string) string {
	a := l.Config.Gateway.Auth
	if a.Missing() {
		return ""
	}
	n := l.Root
	for key := range strings.SplitSeq(a.SecretKey(), ".") {
		if n != nil {
			n = n.Get(key)
		}
	}
	if n == nil {
		return "the variable " + a.SecretVar()
	}
	from := fmt.Sprintf("%s:%d", name, n.Line)
	switch {
	case strings.HasPrefix(n.Str, "file:"):
		from += ", which names a file"
	case strings.HasPrefix(n.Str, "credential:"):
		from += ", which names a credential"
	case strings.Contains(n.Str, "${"):
		from += ", which names a variable"
	}
	return from
}

// SecretVar is the variable that may hold it where the file does not.
func (a Auth) SecretVar() string {
	if a.Mode == "password" {
		return "OPENCLAW_GATEWAY_PASSWORD"
	}
	return "OPENCLAW_GATEWAY_TOKEN"
}

// Missing reports whether no such secret is set: a gateway must not start.
func (a Auth) Missing() bool { return a.Secret().IsZero() }

// Setup is what a first configuration says; zero fields are left to their defaults.
type Setup struct {
	Token     string
	Port      int
	Workspace string
}

// Text is the configuration as JSON5 with a word about each key.
func (s Setup) Text() []byte {
	port := `// port: 18789,`
	if s.Port != 0 {
		port = fmt.Sprintf("port: %d,", s.Port)
	}
	workspace := `// workspace: "~/work", // default: the directory workspace beside this file`
	if s.Workspace != "" {
		workspace = "workspace: " + string(appendString(nil, filepath.Clean(s.Workspace))) + ","
	}
	return fmt.Appendf(nil, `// OpenClaw Gateway. JSON5: comments and trailing commas are fine.
// All keys: openclaw config schema. Check after editing: openclaw config validate.
{
  gateway: {
    mode: "local",
    %s
    auth: {
      // Whoever knows this secret commands the gateway. It may also be
      // "${NAME}" from the environment or "file:PATH" (mode 0600).
      token: %s,
    },
  },
  agents: {
    defaults: {
      %s
      // Until a model is named, builtin/echo answers, which is no language model.
      // model: { primary: "local/your-model" },
    },
  },
  // models: { providers: { local: { baseUrl: "http://127.0.0.1:11434/v1" } } },
}
`, port, appendString(nil, s.Token), workspace)
}
