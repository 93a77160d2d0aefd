package config

import (
	"cmp"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Exec says how the tools exec and process run programs. An agent's own values
// come in place of the general ones, key by key.
type Exec struct {
	Mode              string   `key:"mode" oneof:"deny,allowlist,ask,full" reload:"hot" doc:"What exec may run: nothing, the programs of allow without a shell, what a person approves, or anything. When absent, anything in a sandboxed session and what a person approves in any other."`
	Allow             []string `key:"allow" reload:"hot" doc:"Programs that mode allowlist runs, by absolute path; exact, without patterns."`
	Env               []string `key:"env" reload:"hot" doc:"Variables that a call of exec may set for its program; none when absent."`
	TimeoutSec        int      `key:"timeoutSec" min:"0" max:"86400" reload:"hot" doc:"Time a program may take, in seconds, if its call says nothing; 0 is 1800."`
	BackgroundMs      Millis   `key:"backgroundMs" min:"0" max:"86400000" reload:"hot" doc:"Time in milliseconds after which a program goes on in the background; 0 is 10000."`
	ApprovalTimeoutMs Millis   `key:"approvalTimeoutMs" min:"0" max:"3600000" reload:"hot" doc:"Time in milliseconds a person has to approve a program; 0 is 120000."`
}

// ResolvedExec is Exec with nothing left out but Mode, whose default is the
// sandbox's to say.
type ResolvedExec struct {
	Mode                          string
	Allow, Env                    []string
	Timeout, Background, Approval time.Duration
}

// Exec returns how an agent's turns run programs.
func (c *Config) Exec(a ResolvedAgent) ResolvedExec {
	own, all := &a.Tools.Exec, &c.Tools.Exec
	r := ResolvedExec{
		Mode: firstOf(own.Mode, all.Mode), Allow: own.Allow, Env: own.Env,
		Timeout:    time.Duration(cmp.Or(own.TimeoutSec, all.TimeoutSec, 1800)) * time.Second,
		Background: cmp.Or(own.BackgroundMs, all.BackgroundMs, 10_000).Duration(),
		Approval:   cmp.Or(own.ApprovalTimeoutMs, all.ApprovalTimeoutMs, 120_000).Duration(),
	}
	if r.Allow == nil {
		r.Allow = all.Allow
	}
	if r.Env == nil {
		r.Env = all.Env
	}
	return r
}

// ours are the variables that exec sets itself.
const ours = "PATH HOME LANG TERM TMPDIR TZ"

// loaders are variables by which a linker, an interpreter or a common tool is
// made to load or run something else than it was called for. A word with a *
// at its end stands for all that begin so. The list is a second line: what
// holds is that nothing is passed unless an operator names it.
const loaders = "LD_* DYLD_* GLIBC_* MALLOC_* GCONV_PATH LOCPATH NLSPATH BASH_* ENV SHELLOPTS BASHOPTS IFS CDPATH PS4 PROMPT_COMMAND ZDOTDIR FPATH SHELL " +
	"NODE_* NPM_* PYTHON* PERL* RUBY* GEM_* BUNDLE_* JAVA_* JDK_JAVA_OPTIONS _JAVA_OPTIONS CLASSPATH MAVEN_* GRADLE_* DOTNET_* CORECLR_* COMPLUS_* LUA_* PHP* " +
	"GIT_* SSH_* RUSTC* RUSTFLAGS CARGO_* GOFLAGS GOENV GOTOOLCHAIN GOROOT GCC_* COMPILER_PATH CC CXX MAKEFLAGS MFLAGS CMAKE_* PKG_CONFIG* " +
	"EDITOR VISUAL PAGER MANPAGER LESS* BROWSER AWKPATH AWKLIBPATH TAR_OPTIONS GREP_OPTIONS PIP_* UV_* VIRTUAL_ENV CONDA_* OPENSSL_* SSL_* CURL_* REQUESTS_CA_BUNDLE " +
	"HTTP_PROXY HTTPS_PROXY ALL_PROXY NO_PROXY FTP_PROXY XDG_* DBUS_* DOCKER_* KUBECONFIG OPENCLAW_*"

// LoaderVariable reports whether a variable can change what program runs, so
// that no call may set it.
func LoaderVariable(name string) bool {
	name = strings.ToUpper(name)
	return slices.ContainsFunc(strings.Fields(loaders+" "+ours), func(word string) bool {
		prefix, open := strings.CutSuffix(word, "*")
		return name == word || open && strings.HasPrefix(name, prefix)
	})
}

// IsVariable reports whether s can be the name of an environment variable.
func IsVariable(s string) bool {
	for i := range len(s) {
		c := s[i]
		if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || c == '_' || i > 0 && isDigit(c)) {
			return false
		}
	}
	return 0 < len(s) && len(s) <= 128
}

// checkExec refuses lists that would open more than they say.
func (b *binder) checkExec(path string, x *Exec) {
	for i, p := range x.Allow {
		if at := joinIndex(path+".allow", i); !filepath.IsAbs(p) || filepath.Clean(p) != p || strings.ContainsAny(p, "*?[\x00") {
			b.problem(at, b.at[at], "must be the absolute path of one program, without patterns")
		}
	}
	for i, name := range x.Env {
		switch at := joinIndex(path+".env", i); {
		case !IsVariable(name):
			b.problem(at, b.at[at], "is no name for a variable")
		case LoaderVariable(name):
			b.problem(at, b.at[at], "can change what a program loads or runs, and is never passed on")
		}
	}
}
