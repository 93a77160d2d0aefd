package unit

import (
	"fmt"
	"path"
	"regexp"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

var (
	profileName = regexp.MustCompile(`^[a-z0-9][a-z0-9_-]{0,63}$`)
	accountName = regexp.MustCompile(`^[a-z_][a-z0-9_-]{0,30}$`)
	varName     = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]{0,127}$`)
	secretName  = regexp.MustCompile(`(?i)TOKEN|PASSW|SECRET|KEY|CREDENTIAL|COOKIE|AUTH`)
	userInfo    = regexp.MustCompile(`://[^/]*@|^[^/\s:@]+:[^/\s@]+@`)
	credName    = regexp.MustCompile(`^[A-Za-z0-9_-][A-Za-z0-9_.-]{0,63}$`)
	plainPath   = regexp.MustCompile(`^[A-Za-z0-9/._+@-]+$`)
)

const (
	maxPath  = 1000 // PATH_MAX is 1024 on macOS; on Linux 4096, but systemd mounts paths beneath another
	maxName  = 255
	maxValue = 32 << 10
)

// check refuses what a format cannot carry exactly, and what would not work
// there. Errors name the field, and show nothing of what it holds.
func check(t Target, u Unit) error {
	for _, err := range []error{
		checkNames(t, u), checkPorts(u), checkPaths(t, u), checkEnv(u.Env), checkCredentials(t, u),
	} {
		if err != nil {
			return err
		}
	}
	if u.Grace < 0 || u.Grace > 24*time.Hour {
		return fmt.Errorf("grace period: must be between 0 and 24 hours")
	}
	return nil
}

func checkNames(t Target, u Unit) error {
	switch {
	case u.Profile == "":
	case !profileName.MatchString(u.Profile):
		return fmt.Errorf("profile: must be lower-case letters, digits, - and _")
	case u.Profile == "default":
		return fmt.Errorf("profile: default is the same as none")
	case t == Launchd && u.Profile == "gateway":
		return fmt.Errorf("profile: launchd would take its label %s for that of the default profile", u.Label())
	case t == RCD && strings.Contains(u.Profile, "-"):
		return fmt.Errorf("profile: rc.d makes shell variables of it, which cannot hold a -")
	}
	if !t.System() {
		return nil
	}
	if u.User == "root" || !accountName.MatchString(u.User) {
		return fmt.Errorf("user: must be the name of an account other than root")
	}
	if !accountName.MatchString(u.Group) {
		return fmt.Errorf("group: must be the name of a group")
	}
	return nil
}

func checkPorts(u Unit) error {
	if u.Port < 0 || u.Port > 65535 {
		return fmt.Errorf("port: must be between 1 and 65535")
	}
	for _, p := range u.Ports {
		if p < 1 || p > 65535 {
			return fmt.Errorf("ports: each must be between 1 and 65535")
		}
	}
	return nil
}

func checkPaths(t Target, u Unit) error {
	type field struct{ name, path string }
	fields := []field{{"program", u.Program}, {"state directory", u.StateDir}, {"configuration", u.ConfigPath}}
	if !t.System() {
		fields = append(fields, field{"home directory", u.Home})
		if u.ConfigHome != "" {
			fields = append(fields, field{"configuration home", u.ConfigHome})
		}
	}
	if t == Launchd {
		fields = append(fields, field{"log directory", u.LogDir})
	}
	for _, w := range u.Workspaces {
		fields = append(fields, field{"workspace", w})
	}
	for _, f := range fields {
		if err := checkPath(f.path); err != nil {
			return fmt.Errorf("%s: %w", f.name, err)
		}
		if dirs := hidden[t]; within(dirs, f.path) {
			return fmt.Errorf("%s: the service does not see %s", f.name, strings.Join(dirs, ", "))
		}
	}
	switch t {
	case SystemdUser, SystemdSystem:
		if strings.ContainsAny(u.Program, "\"'\\$") {
			return fmt.Errorf("program: systemd allows no quote, backslash or $ in it")
		}
	case OpenRC, RCD:
		if !plainPath.MatchString(u.Program) {
			return fmt.Errorf("program: the script allows only plain characters in it, no spaces")
		}
	}
	if t != SystemdUser {
		return nil
	}
	must, optional := writable(t, u)
	for _, p := range append(must, optional...) {
		if within([]string{p}, u.Home) {
			return fmt.Errorf("state directory, configuration, workspaces: one of them would open the whole home directory to the gateway: give it a directory of its own")
		}
	}
	for _, p := range append(append(must, optional...), u.Program) {
		if strings.Contains(p, ":") {
			return fmt.Errorf("program, state directory, configuration, workspaces: systemd takes : in a path for a separator")
		}
	}
	return nil
}

// hidden is what the directives of a target put out of sight.
var hidden = map[Target][]string{
	SystemdUser:   {"/dev", "/proc", "/sys"},
	SystemdSystem: {"/dev", "/proc", "/sys", "/home", "/root", "/run/user", "/tmp", "/var/tmp"},
}

func checkPath(p string) error {
	if err := checkText(p); err != nil {
		return err
	}
	if !path.IsAbs(p) || path.Clean(p) != p || p == "/" {
		return fmt.Errorf("must be an absolute path without . or .. or empty parts")
	}
	if strings.HasSuffix(p, " ") {
		return fmt.Errorf("must not end with a space")
	}
	if len(p) > maxPath {
		return fmt.Errorf("longer than %d bytes", maxPath)
	}
	for part := range strings.SplitSeq(p, "/") {
		if len(part) > maxName {
			return fmt.Errorf("a part of it is longer than %d bytes", maxName)
		}
	}
	return nil
}

// checkText wants only what a person sees: no control characters, line ends of
// any alphabet, marks that turn the direction of text.
func checkText(s string) error {
	if !utf8.ValidString(s) {
		return fmt.Errorf("not UTF-8")
	}
	if i := strings.IndexFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }); i >= 0 {
		return fmt.Errorf("a character at byte %d does not print", i)
	}
	return nil
}

func checkEnv(vars []Var) error {
	seen := map[string]bool{envProfile: true, envState: true, envConfig: true}
	for _, v := range vars {
		if !varName.MatchString(v.Name) {
			return fmt.Errorf("environment: a name must be letters, digits and _")
		}
		if seen[v.Name] {
			return fmt.Errorf("environment: %s is set twice", v.Name)
		}
		seen[v.Name] = true
		if secretName.MatchString(v.Name) {
			return fmt.Errorf("environment: %s looks like a secret, which a unit must not hold: put it into the configuration or a credential", v.Name)
		}
		if err := checkText(v.Value); err != nil {
			return fmt.Errorf("environment: %s: %w", v.Name, err)
		}
		if len(v.Value) > maxValue {
			return fmt.Errorf("environment: %s: longer than %d bytes", v.Name, maxValue)
		}
		if userInfo.MatchString(v.Value) {
			return fmt.Errorf("environment: %s is an address with a password in it, which a unit must not hold", v.Name)
		}
	}
	return nil
}

func checkCredentials(t Target, u Unit) error {
	if len(u.Credentials) > 0 && !t.systemd() {
		return fmt.Errorf("credentials: only systemd hands them over")
	}
	seen := map[string]bool{}
	for _, c := range u.Credentials {
		if !credName.MatchString(c.Name) || seen[c.Name] {
			return fmt.Errorf("credentials: a name must be letters, digits, -, _ and ., once each")
		}
		seen[c.Name] = true
		if err := checkPath(c.Path); err != nil || !plainPath.MatchString(c.Path) {
			return fmt.Errorf("credentials: %s: must be the absolute path of a file, of plain characters", c.Name)
		}
	}
	return nil
}
