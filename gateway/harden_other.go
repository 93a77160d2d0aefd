//go:build !linux

package gateway

import "log/slog"

// harden has nothing to take away here: no_new_privs is Linux's, and its kin
// on other systems (pledge, Capsicum, sandbox_init) would forbid what tools need.
func harden(log *slog.Logger, _ int) {
	log.Debug("hardening is not available on this system")
}
