package gateway

import (
	"errors"
	"fmt"

	"openclaw/gateway/store"
	"openclaw/reload/config"
)

// isolated refuses a configuration that shares its port block or a workspace
// with another gateway of this user that runs, and warns of what is shared with
// one that could. Every gateway must hold its own state directory when it asks:
// of two that start at once, one then sees the other.
func (g *Gateway) isolated(cfg *config.Config) error {
	var refused []error
	for _, n := range g.neighbours(cfg, g.port) {
		if n.Error != "" {
			g.log.Debug("another gateway's configuration", "err", n.Error)
		}
		for _, o := range n.Shares {
			if n.Running && o.Refused() {
				refused = append(refused, errors.New(o.Text))
			} else {
				g.log.Warn("not isolated", "shares", o.What, "with", n.String(), "err", o.Text)
			}
		}
	}
	if refused != nil {
		return &ExitError{exitConfig, errors.Join(refused...)}
	}
	return nil
}

// neighbours are the other gateways of this user, compared with this one if it
// had that configuration and base port.
func (g *Gateway) neighbours(cfg *config.Config, port int) []config.Neighbour {
	var out []config.Neighbour
	p := g.opts.Paths
	self := p.Instance(cfg, port)
	for _, s := range store.Neighbours(p.Home) {
		n := config.Neighbour{StateDir: s.Path, ConfigPath: s.ConfigPath, Running: s.Running, PID: s.PID, Port: s.Port, Version: s.Version}
		if s.Err != nil {
			n.Error = s.Err.Error()
		}
		if p.Meet(self, &n, config.Source{Env: g.opts.Env, ReadFile: store.ReadConfigFile}) {
			out = append(out, n)
		}
	}
	return out
}

// occupied tells of a base port why its block is not free for --dev: that of
// another running gateway meets it, though perhaps in ports that none has bound yet.
func (g *Gateway) occupied(cfg *config.Config) func(port int) error {
	others := g.neighbours(cfg, 0)
	return func(port int) error {
		for _, n := range others {
			if n.Running && config.BlocksMeet(port, n.Port) {
				return fmt.Errorf("the block of port %d meets that of %s", port, &n)
			}
		}
		return nil
	}
}
