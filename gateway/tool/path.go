package tool

import (
	"errors"
	"path"
	"path/filepath"
	"strings"
	"unicode"

	"openclaw/reload/config"
)

// Path names something below the workspace. Its zero value is the workspace
// itself; read makes any other one from a model's argument, and beneath is for
// what a directory was found to hold. Neither touches the disk: whether a
// name leads out by a link is workspace's to find out.
type Path struct{ name string }

func (p Path) String() string { return path.Join(".", p.name) }

// given reports whether there was such an argument.
func (p Path) given() bool { return p.name != "" }

// beneath is an entry of the directory p.
func (p Path) beneath(name string) Path { return Path{path.Join(p.String(), name)} }

func (*Path) schema() object { return object{"type": "string"} }

func (p *Path) read(c *call, n *config.Node) error {
	if n.Kind != config.String {
		return errors.New("must be a string, not " + n.Kind.String())
	}
	name, err := checkPath(n.Str, c.Workspace)
	p.name = name
	return err
}

const (
	maxPath  = 4096 // bytes, PATH_MAX of Linux
	maxDepth = 128  // names in one path
)

// encoded are ways to write a dot, a slash, a backslash or a NUL that some
// program after us might undo.
var encoded = []string{"%2e", "%2f", "%5c", "%00"}

// checkPath returns a path clean and relative to the workspace. Absolute paths
// are taken where they lie in it, since models repeat what they are told.
func checkPath(s, workspace string) (string, error) {
	lower := strings.ToLower(s)
	switch {
	case s == "":
		return "", errors.New("must not be empty")
	case len(s) > maxPath || strings.Count(s, "/") >= maxDepth:
		return "", errors.New("is too long for a path")
	case strings.ContainsFunc(s, unicode.IsControl):
		return "", errors.New("holds a control character")
	case strings.Contains(s, `\`):
		return "", errors.New("holds a backslash; names are separated by /")
	case strings.Contains(s, "://"), strings.HasPrefix(lower, "file:"):
		return "", errors.New("is a URL; write a path")
	case s[0] == '~', strings.HasPrefix(s, "@/"):
		return "", errors.New("must be relative to the workspace; ~ and @ mean nothing here")
	}
	for _, e := range encoded {
		if strings.Contains(lower, e) {
			return "", errors.New("holds " + e + "; names are written as they are")
		}
	}
	name := path.Clean(s)
	if rest, ok := strings.CutPrefix(name, filepath.Clean(workspace)); ok && path.IsAbs(name) {
		name = path.Join(".", rest)
		if rest != "" && rest[0] != '/' {
			name = ".." // a neighbour whose name begins as the workspace's
		}
	}
	if !filepath.IsLocal(name) {
		return "", errors.New("leads out of the workspace")
	}
	return name, nil
}
