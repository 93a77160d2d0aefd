package svc

import (
	"context"

	"openclaw/reload/config"
)

// serviceReport is what the supervisor knows of the gateway.
type serviceReport struct {
	Managed    bool     `json:"managed"`              // a supervisor has a unit of this profile
	Supervisor string   `json:"supervisor,omitempty"` // "systemd (user)", "systemd", "launchd", …; "" = this host has none that we know
	Name       string   `json:"name,omitempty"`       // what the supervisor calls it
	File       string   `json:"file,omitempty"`       // the unit file
	State      string   `json:"state,omitempty"`      // the supervisor's own word: "active", "failed", "not loaded", …
	PID        int      `json:"pid,omitempty"`
	Enabled    bool     `json:"enabled"`          // it starts at boot or login
	Drift      []string `json:"drift,omitempty"`  // how the file differs from what install would write now
	Legacy     []string `json:"legacy,omitempty"` // units of other gateways and older names
	Detail     string   `json:"detail"`           // one sentence for a person
}

// service asks the supervisor about the profile's gateway. It never fails and
// takes a bounded time: what cannot be told is said in Detail.
func (e *Env) service(context.Context, config.Paths) serviceReport {
	return serviceReport{Detail: "started by hand or by a unit of yours: openclaw has installed none"}
}
