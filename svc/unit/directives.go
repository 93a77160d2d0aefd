package unit

import (
	"fmt"
	"path/filepath"
	"strings"
	"time"
)

// place is a set of targets.
type place uint8

const (
	system place = 1 << iota
	user
	launchd
	openrc
	rcd
	systemd = system | user
)

// drop, as what a directive becomes under a child, leaves it out.
const drop = "\x00"

// A directive is one row of the table: what every unit says, and why. The
// reason stands as a comment over the line; a row without one goes with the row
// above it.
type directive struct {
	in    place
	name  string // "[Service]" begins a section; @ stands for the service's name in rc.d
	value any    // string, int, bool, []string, []Var, or func(Unit) any with one of them; nil leaves it out
	why   string

	node, chromium any // the value when such a child runs, nil: the same
}

// of is the directive's value for a unit, nil when it has none there.
func (d directive) of(p place, u Unit) any {
	v := d.value
	if u.Node && d.node != nil {
		v = d.node
	}
	if u.Chromium && d.chromium != nil {
		v = d.chromium
	}
	if f, ok := v.(func(Unit) any); ok {
		v = f(u)
	}
	if s, ok := v.([]string); d.in&p == 0 || v == drop || ok && len(s) == 0 {
		return nil
	}
	return v
}

// margin is what a supervisor waits beyond the grace period before it kills.
const margin = 10 * time.Second

func stopSeconds(u Unit) int { return int((ceilSecond(u.Grace) + margin) / time.Second) }

func ceilSecond(d time.Duration) time.Duration {
	return (d + time.Second - 1).Truncate(time.Second)
}

// directives is the table, in the order in which units show it.
var directives = []directive{
	{in: systemd, name: "[Unit]"},
	{in: systemd, name: "Description", value: func(u Unit) any { return description(u) }},
	{in: system, name: "Wants", value: "network-online.target", why: "an address to listen on may come late"},
	{in: system, name: "After", value: "network-online.target"},
	{in: systemd, name: "StartLimitIntervalSec", value: "300", why: "some minutes of attempts, then a person has to look"},
	{in: systemd, name: "StartLimitBurst", value: "20"},

	{in: systemd, name: "[Service]"},
	{in: systemd, name: "Type", value: "notify", why: "started means that the gateway listens"},
	{in: systemd, name: "NotifyAccess", value: "main", why: "no child may speak for the gateway"},
	{in: systemd, name: "ExecStart", value: func(u Unit) any { return sdWords(u.Argv()) }},
	{in: systemd, name: "ExecReload", value: `/bin/sh -c "kill -HUP ${MAINPID}"`, why: "the shell's own kill: small systems have no /bin/kill"},
	{in: systemd, name: "Environment", value: func(u Unit) any {
		return each(environment(u), func(v Var) string { return sdQuote(v.Name + "=" + v.Value) })
	}, why: "the files of this profile; secrets do not belong here, units are readable by all"},
	{in: system, name: "User", value: func(u Unit) any { return u.User }, why: "whom the gateway runs as: nobody else's files, no privileges"},
	{in: system, name: "Group", value: func(u Unit) any { return u.Group }},
	{in: systemd, name: "LoadCredential", value: func(u Unit) any {
		return each(u.Credentials, func(c Credential) string { return c.Name + ":" + c.Path })
	}, why: "secrets come as files that only this service sees"},
	{in: systemd, name: "Restart", value: "on-failure", why: "started again after a failure, not after a stop"},
	{in: systemd, name: "RestartSec", value: "10"},
	{in: systemd, name: "RestartPreventExitStatus", value: "78", why: "the configuration is unusable, or a gateway runs already: trying again helps nobody"},
	{in: systemd, name: "WatchdogSec", value: "30", why: "the gateway reports its own health; silence ends it"},
	{in: systemd, name: "TimeoutAbortSec", value: "10", why: "what hangs has this long to print its stacks"},
	{in: systemd, name: "TimeoutStopSec", value: func(u Unit) any { return fmt.Sprint(stopSeconds(u)) }, why: "longer than gateway.shutdown.gracePeriodMs: turns may finish"},
	{in: systemd, name: "KillMode", value: "mixed", why: "the gateway ends its children; what is left is killed"},
	{in: systemd, name: "OOMPolicy", value: "continue", why: "a child that takes too much memory dies alone"},
	{in: systemd, name: "LimitNOFILE", value: "4096", why: "a thousand connections and their files"},
	{in: systemd, name: "LimitCORE", value: "0", why: "a core dump holds secrets"},
	{in: systemd, name: "TasksMax", value: "512", chromium: "2048", why: "no fork bomb"},
	{in: systemd, name: "MemoryHigh", value: "768M", node: "1280M", chromium: "3G", why: "a leak ends here and not in the whole host"},
	{in: systemd, name: "MemoryMax", value: "1G", node: "1536M", chromium: "4G"},

	{in: systemd, name: "UMask", value: "0077", why: "files are the owner's alone"},
	{in: system, name: "StateDirectory", value: func(u Unit) any { return beneath("/var/lib", u.StateDir) }, why: "made at start, owned by the service's user"},
	{in: system, name: "StateDirectoryMode", value: func(u Unit) any { return ifSet(beneath("/var/lib", u.StateDir), "0700") }},
	{in: system, name: "ConfigurationDirectory", value: func(u Unit) any { return beneath("/etc", filepath.Dir(u.ConfigPath)) }, why: "watched for changes, not writable: root edits the configuration"},
	{in: systemd, name: "ProtectSystem", value: "strict", why: "nothing is writable but what is named here"},
	{in: system, name: "ReadWritePaths", value: func(u Unit) any { return sdPaths(writable(SystemdSystem, u)) }, why: "state and workspaces outside StateDirectory"},
	{in: system, name: "ProtectHome", value: "yes", why: "no home directory is visible"},
	{in: user, name: "ProtectHome", value: "tmpfs", why: "home directories and the session's sockets are empty but for what is bound here"},
	{in: user, name: "BindPaths", value: func(u Unit) any { return sdPaths(writable(SystemdUser, u)) }, why: "state, the directory of the configuration, workspaces"},
	{in: user, name: "BindReadOnlyPaths", value: func(u Unit) any { return []string{"%t/systemd/notify", sdQuote(u.Program)} }, why: "how the gateway reports to systemd, and the program itself"},
	{in: systemd, name: "InaccessiblePaths", value: "-/run/docker.sock -/run/podman -/run/containerd -/run/dbus -/run/systemd/private", why: "who reaches these can start processes outside this unit"},
	{in: user, name: "InaccessiblePaths", value: "-%h/.ssh -%h/.gnupg -%h/.aws -%h/.kube -%h/.docker -%h/.config/gh -%h/.netrc", why: "keys of the user, should home not be under /home"},
	{in: systemd, name: "PrivateTmp", value: "yes", why: "/tmp is not shared with other programs"},
	{in: systemd, name: "PrivateDevices", value: "yes", why: "no devices but null, zero, random and terminals"},
	{in: system, name: "DevicePolicy", value: "closed", why: "the kernel refuses the others too"},
	{in: systemd, name: "PrivateMounts", value: "yes", why: "mounts made here stay here"},
	{in: systemd, name: "PrivateUsers", value: "yes", why: "other users' files belong to nobody; user managers need it for all of the above"},

	{in: systemd, name: "NoNewPrivileges", value: "yes", why: "set-uid programs give nothing"},
	{in: systemd, name: "CapabilityBoundingSet", value: "", why: "no capability, now or later"},
	{in: systemd, name: "AmbientCapabilities", value: ""},
	{in: systemd, name: "ProtectProc", value: "invisible", why: "other users' processes are not seen; a user manager may not do this, and goes on"},
	{in: systemd, name: "ProcSubset", value: "pid", chromium: drop, why: "of /proc only processes; Chromium reads the rest"},
	{in: systemd, name: "ProtectClock", value: "yes", why: "the host's clock is not set from here"},
	{in: systemd, name: "ProtectHostname", value: "yes", why: "nor its name"},
	{in: systemd, name: "ProtectKernelTunables", value: "yes", why: "nor its kernel's settings"},
	{in: systemd, name: "ProtectKernelModules", value: "yes", why: "nor its kernel's modules"},
	{in: systemd, name: "ProtectKernelLogs", value: "yes", why: "the kernel's log is not read from here"},
	{in: systemd, name: "ProtectControlGroups", value: "yes", why: "limits of other services are not changed from here"},
	{in: systemd, name: "LockPersonality", value: "yes", why: "old execution domains weaken memory protection"},
	{in: systemd, name: "RestrictRealtime", value: "yes", why: "nothing here may starve the host of processor time"},
	{in: systemd, name: "RestrictSUIDSGID", value: "yes", why: "no set-uid file is left behind"},
	{in: systemd, name: "RestrictNamespaces", value: "yes", chromium: "user pid net", why: "much of the kernel is reached through namespaces only; Chromium's own sandbox is made of three"},
	{in: systemd, name: "RestrictAddressFamilies", value: "AF_UNIX AF_INET AF_INET6", why: "no raw packets, netlink, bluetooth, vsock"},
	{in: system, name: "RemoveIPC", value: "yes", why: "shared memory does not outlive the service"},
	{in: systemd, name: "KeyringMode", value: "private", why: "keys of other services stay out of reach"},
	{in: systemd, name: "MemoryDenyWriteExecute", value: "yes", node: drop, chromium: drop, why: "no code is made at run time; the compilers in Node and Chromium must"},
	{in: systemd, name: "SystemCallArchitectures", value: "native", why: "no second set of system calls beside the filtered one"},
	{in: systemd, name: "SystemCallErrorNumber", value: "EPERM", why: "a refused call is an error, not a crash"},
	{in: systemd, name: "SystemCallFilter", value: []string{"@system-service", "~@privileged @resources @keyring @memlock"}, why: "what services need, less what this one does not"},
	{in: systemd, name: "SystemCallFilter", value: "landlock_create_ruleset landlock_add_rule landlock_restrict_self seccomp",
		chromium: "landlock_create_ruleset landlock_add_rule landlock_restrict_self seccomp chroot capset",
		why:      "with these the gateway, and Chromium, confine their own children further; some lists above lack them"},
	{in: system, name: "IPAddressDeny", value: func(u Unit) any { return choose(u.LocalOnly, "any", "link-local multicast") }, why: "cloud metadata and the neighbourhood are not talked to"},
	{in: system, name: "IPAddressAllow", value: func(u Unit) any { return choose(u.LocalOnly, "localhost", drop) }, why: "all that the gateway calls is on this host"},
	{in: system, name: "SocketBindDeny", value: func(u Unit) any { return choose(len(u.Ports) > 0, "any", drop) }, why: "no other port is listened on; after a change of gateway.port install again"},
	{in: system, name: "SocketBindAllow", value: func(u Unit) any { return each(u.Ports, func(p int) string { return fmt.Sprintf("tcp:%d", p) }) }},

	{in: systemd, name: "[Install]"},
	{in: system, name: "WantedBy", value: "multi-user.target", why: "started at boot"},
	{in: user, name: "WantedBy", value: "default.target", why: "started at login, and at boot with lingering"},

	{in: launchd, name: "Label", value: func(u Unit) any { return u.Label() }},
	{in: launchd, name: "ProgramArguments", value: func(u Unit) any { return u.Argv() }},
	{in: launchd, name: "EnvironmentVariables", value: func(u Unit) any { return environment(u) }, why: "the files of this profile; never a secret"},
	{in: launchd, name: "RunAtLoad", value: true, why: "started at login"},
	{in: launchd, name: "KeepAlive", value: []Var{{"SuccessfulExit", "false"}, {"Crashed", "true"}}, why: "started again after a failure, not after a stop"},
	{in: launchd, name: "ThrottleInterval", value: 10, why: "launchd cannot tell exit 78 (unusable configuration) from other failures: this is what keeps it from looping fast"},
	{in: launchd, name: "ExitTimeOut", value: func(u Unit) any { return stopSeconds(u) }, why: "longer than gateway.shutdown.gracePeriodMs: turns may finish"},
	{in: launchd, name: "AbandonProcessGroup", value: false, why: "children end with the gateway"},
	{in: launchd, name: "ProcessType", value: "Background", why: "interactive programs go first"},
	{in: launchd, name: "Umask", value: 0o077, why: "octal 077: files are the owner's alone"},
	{in: launchd, name: "SoftResourceLimits", value: []Var{{"Core", "0"}, {"NumberOfFiles", "4096"}}, why: "a thousand connections and their files; a core dump holds secrets"},
	{in: launchd, name: "HardResourceLimits", value: []Var{{"Core", "0"}, {"NumberOfFiles", "4096"}}},
	{in: launchd, name: "StandardOutPath", value: func(u Unit) any { return filepath.Join(u.LogDir, u.Name()+".out.log") }, why: "what is said before the gateway's own log is open, and crashes"},
	{in: launchd, name: "StandardErrorPath", value: func(u Unit) any { return filepath.Join(u.LogDir, u.Name()+".err.log") }},

	{in: openrc, name: "description", value: func(u Unit) any { return description(u) }},
	{in: rcd, name: "name", value: func(u Unit) any { return rcName(u) }},
	{in: rcd, name: "desc", value: func(u Unit) any { return description(u) }},
	{in: rcd, name: "rcvar", value: func(u Unit) any { return rcName(u) + "_enable" }},
	{in: openrc | rcd, name: "export", value: func(u Unit) any { return environment(u) }, why: "the files of this profile; never a secret"},
	{in: openrc, name: "supervisor", value: "supervise-daemon", why: "the gateway stays in the foreground and is started again when it fails"},
	{in: openrc, name: "command", value: func(u Unit) any { return u.Program }},
	{in: openrc, name: "command_args", value: func(u Unit) any { return strings.Join(u.Argv()[1:], " ") }},
	{in: openrc, name: "command_user", value: func(u Unit) any { return u.User + ":" + u.Group }},
	{in: openrc, name: "pidfile", value: func(u Unit) any { return "/run/" + u.Name() + ".pid" }},
	{in: openrc, name: "respawn_delay", value: "10", why: "OpenRC cannot tell exit 78 (unusable configuration) from other failures: it gives up after these attempts"},
	{in: openrc, name: "respawn_max", value: "20"},
	{in: openrc, name: "respawn_period", value: "300"},
	{in: openrc, name: "retry", value: func(u Unit) any { return fmt.Sprintf("TERM/%d/KILL/5", stopSeconds(u)) }, why: "longer than gateway.shutdown.gracePeriodMs: turns may finish"},
	{in: openrc, name: "umask", value: "077", why: "files are the owner's alone"},
	{in: openrc, name: "rc_ulimit", value: "-n 4096 -c 0", why: "a thousand connections and their files; a core dump holds secrets"},
	{in: openrc, name: "no_new_privs", value: "yes", why: "set-uid programs give nothing"},
	{in: openrc, name: "output_logger", value: func(u Unit) any { return "logger -t " + u.Name() + " -p daemon.info" }, why: "what is said before the gateway's own log is open, and crashes"},
	{in: openrc, name: "error_logger", value: func(u Unit) any { return "logger -t " + u.Name() + " -p daemon.notice" }},
	{in: openrc, name: "extra_started_commands", value: "reload"},

	{in: rcd, name: "openclaw_user", value: func(u Unit) any { return u.User }, why: "whom the gateway runs as"},
	{in: rcd, name: "openclaw_group", value: func(u Unit) any { return u.Group }},
	{in: rcd, name: "pidfile", value: func(u Unit) any { return "/var/run/" + rcName(u) + ".pid" }},
	{in: rcd, name: "child_pidfile", value: func(u Unit) any { return "/var/run/" + rcName(u) + ".child.pid" }},
	{in: rcd, name: "command", value: "/usr/sbin/daemon"},
	{in: rcd, name: "command_args", value: func(u Unit) any {
		n := rcName(u)
		return fmt.Sprintf("-f -r -R 10 -S -T %s -P /var/run/%s.pid -p /var/run/%s.child.pid -u %s -- %s", n, n, n, u.User, strings.Join(u.Argv(), " "))
	}, why: "daemon(8) cannot tell exit 78 (unusable configuration) from other failures: it waits 10 seconds each time"},
	{in: rcd, name: "@_limits", value: "-n 4096 -c 0", why: "a thousand connections and their files; a core dump holds secrets"},
	{in: rcd, name: "extra_commands", value: "reload"},
	{in: rcd, name: "start_precmd", value: "openclaw_prestart"},
	{in: rcd, name: "reload_cmd", value: "openclaw_reload"},
}

func choose[T any](yes bool, a, b T) T {
	if yes {
		return a
	}
	return b
}

func description(u Unit) string {
	if u.Profile == "" {
		return "OpenClaw Gateway"
	}
	return "OpenClaw Gateway, profile " + u.Profile
}

// environment is what the gateway finds its files by, whatever the
// supervisor's own environment says, and then what the operator adds.
func environment(u Unit) []Var {
	profile := u.Profile
	if profile == "" {
		profile = "default"
	}
	return append([]Var{{envProfile, profile}, {envState, u.StateDir}, {envConfig, u.ConfigPath}}, u.Env...)
}

const (
	envProfile = "OPENCLAW_PROFILE"
	envState   = "OPENCLAW_STATE_DIR"
	envConfig  = "OPENCLAW_CONFIG_PATH"
)
