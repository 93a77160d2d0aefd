package unit

import (
	"errors"
	"fmt"
	"strings"
)

// The parts of the scripts that are the same for everybody; @ stands for the
// service's name.
const (
	openrcTop  = "#!/sbin/openrc-run\n\n"
	openrcTail = `
depend() {
	need localmount
	use dns logger net
	after firewall
}

start_pre() {
	if [ ! -f "$OPENCLAW_CONFIG_PATH" ]; then
		eerror "there is no configuration: $OPENCLAW_CONFIG_PATH"
		return 1
	fi
	checkpath --directory --mode 0700 --owner "$command_user" "$OPENCLAW_STATE_DIR"
}

reload() {
	ebegin "Reloading the configuration of $RC_SVCNAME"
	supervise-daemon "$RC_SVCNAME" --signal HUP --pidfile "$pidfile"
	eend $?
}
`
	rcdTop = `#!/bin/sh

# PROVIDE: @
# REQUIRE: LOGIN NETWORKING
# KEYWORD: shutdown

. /etc/rc.subr

`
	rcdTail = `
openclaw_prestart() {
	if [ ! -f "$OPENCLAW_CONFIG_PATH" ]; then
		warn "there is no configuration: $OPENCLAW_CONFIG_PATH"
		return 1
	fi
	install -d -m 0700 -o "$openclaw_user" -g "$openclaw_group" "$OPENCLAW_STATE_DIR"
}

openclaw_reload() {
	kill -HUP "$(cat "$child_pidfile")"
}

umask 077
load_rc_config "$name"
: "${@_enable:=NO}"
run_rc_command "$1"
`
)

// renderShell writes the rows of the table as assignments, between the parts
// that are the same for everybody.
func renderShell(p place, u Unit) string {
	top, tail := openrcTop, openrcTail
	if p == rcd {
		top, tail = strings.ReplaceAll(rcdTop, "@", rcName(u)), strings.ReplaceAll(rcdTail, "@", rcName(u))
	}
	var b strings.Builder
	for _, d := range directives {
		v := d.of(p, u)
		if v == nil {
			continue
		}
		if d.why != "" {
			fmt.Fprintf(&b, "# %s\n", d.why)
		}
		switch v := v.(type) {
		case string:
			fmt.Fprintf(&b, "%s=%s\n", strings.Replace(d.name, "@", rcName(u), 1), shQuote(v))
		case []Var:
			for _, e := range v {
				fmt.Fprintf(&b, "%s %s=%s\n", d.name, e.Name, shQuote(e.Value))
			}
		}
	}
	return top + b.String() + tail
}

// shQuote writes one word for a POSIX shell.
func shQuote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

// shUnquote reads one word that holds nothing to expand.
func shUnquote(s string) (string, error) {
	var b strings.Builder
	for s != "" {
		switch {
		case s[0] == '\'':
			in, rest, ok := strings.Cut(s[1:], "'")
			if !ok {
				return "", errors.New("an open quote")
			}
			b.WriteString(in)
			s = rest
		case s[0] == '\\' && len(s) > 1:
			b.WriteByte(s[1])
			s = s[2:]
		case strings.IndexByte("\\\"$`;&|<>()*?[]#~ \t", s[0]) >= 0:
			return "", errors.New("not one plain word")
		default:
			b.WriteByte(s[0])
			s = s[1:]
		}
	}
	return b.String(), nil
}

// parseShell reads the assignments of either script, which stand at the
// beginning of lines and outside functions.
func parseShell(p place, text string) (Unit, error) {
	var u Unit
	set := map[string]string{}
	for line := range strings.Lines(text) {
		line, export := strings.CutPrefix(strings.TrimRight(line, "\r\n"), "export ")
		name, word, ok := strings.Cut(line, "=")
		if !ok || !varName.MatchString(name) {
			continue
		}
		value, err := shUnquote(word)
		if err != nil {
			return Unit{}, fmt.Errorf("%s: %w", name, err)
		}
		if export {
			u.fromVar(name + "=" + value)
		} else {
			set[name] = value
		}
	}
	var err error
	argv := set["command"] + " " + set["command_args"]
	if p == openrc {
		u.User, u.Group, _ = strings.Cut(set["command_user"], ":")
		if u.Grace, err = fromStop(strings.TrimSuffix(strings.TrimPrefix(set["retry"], "TERM/"), "/KILL/5")); err != nil {
			return Unit{}, fmt.Errorf("retry: %w", err)
		}
	} else {
		u.User, u.Group = set["openclaw_user"], set["openclaw_group"]
		_, argv, _ = strings.Cut(argv, " -- ")
	}
	if err = u.fromArgv(strings.Fields(argv)); err != nil {
		return Unit{}, err
	}
	return u, nil
}
