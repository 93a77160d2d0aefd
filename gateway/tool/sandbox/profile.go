package sandbox

import (
	"fmt"
	"strings"
)

// profile is the text for sandbox-exec(1) on macOS: a Scheme-like list of rules
// in which the last that matches decides. Paths must be free of symbolic links,
// for the kernel compares them as it knows them.
func profile(s *Spec) string {
	var b strings.Builder
	rule := func(format string, a ...any) { fmt.Fprintf(&b, format+"\n", a...) }
	rule("(version 1)")
	if s.Light {
		rule("(allow default)")
		for _, p := range s.Hidden {
			rule("(deny file-read* file-write* (subpath %s))", quote(p))
		}
		for _, p := range s.Write {
			rule("(allow file-read* file-write* (subpath %s))", quote(p))
		}
		rule("(deny signal (target others))")
		rule("(allow signal (target same-sandbox))")
		return b.String()
	}
	rule("(deny default)")
	rule("(allow process-fork process-exec)")
	rule("(allow signal (target same-sandbox))")
	rule("(allow sysctl-read)")
	rule("(allow file-read-metadata)")
	for _, p := range []string{"/usr", "/bin", "/sbin", "/System", "/Library/Developer", "/Library/Apple", "/opt/homebrew", "/private/etc/ssl", "/private/var/db/timezone", "/private/var/db/dyld"} {
		rule("(allow file-read* (subpath %s))", quote(p))
	}
	for _, p := range []string{"/", "/private/etc/passwd", "/private/etc/hosts", "/private/etc/resolv.conf", "/private/etc/localtime", "/private/etc/protocols", "/private/etc/services", "/dev/random", "/dev/urandom"} {
		rule("(allow file-read* (literal %s))", quote(p))
	}
	rule("(allow file-read* file-write-data (literal \"/dev/null\") (literal \"/dev/zero\"))")
	for _, p := range s.Read {
		rule("(allow file-read* (subpath %s))", quote(p))
	}
	for _, p := range s.Write {
		rule("(allow file-read* file-write* (subpath %s))", quote(p))
	}
	if len(s.Write) > 0 {
		rule("(deny file-write-setugid)")
	}
	for _, port := range s.Network {
		rule("(allow network-outbound (remote tcp \"*:%d\"))", port)
	}
	return b.String()
}

// quote writes a string literal of the profile's language. Paths have no NUL.
func quote(path string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`, "\r", `\r`).Replace(path) + `"`
}
