package config

import (
	"fmt"
	"strconv"
)

// Base ports.
const (
	DefaultPort = 18789
	DevPort     = 19001

	// DevPortStep separates the blocks that --dev tries, so that their CDP
	// ranges never touch.
	DevPortStep = 120
)

// Listener is one purpose of the block of ports above a base port.
type Listener struct {
	Name   string
	Offset int    // from the base port
	Count  int    // consecutive ports
	Bind   string // loopback, or gateway.bind where the configuration decides
	Doc    string
}

// listeners is the one table of ports.
var listeners = [...]Listener{
	{"gateway", 0, 1, "gateway.bind", "WebSocket RPC and HTTP"},
	{"browser", 2, 1, "loopback", "browser control"},
	{"canvas", 4, 1, "gateway.bind", "canvas files"},
	{"cdp", 11, 100, "loopback", "CDP, one per browser profile"},
}

// PortBlock is how many ports there are from the base to the last one used.
const PortBlock = 111

// Listeners returns a copy of the table.
func Listeners() []Listener { return append([]Listener(nil), listeners[:]...) }

// PortRange is a Listener at a base port.
type PortRange struct {
	Listener
	First, Last int
}

// Block lists the ports above base, or says why base cannot be one.
func Block(base int) ([]PortRange, error) {
	if base < 1 || base+PortBlock-1 > 65535 {
		return nil, fmt.Errorf("port %d: the base port must be between 1 and %d, since the ports up to base+%d are used too", base, 65535-PortBlock+1, PortBlock-1)
	}
	block := make([]PortRange, len(listeners))
	for i, l := range listeners {
		block[i] = PortRange{l, base + l.Offset, base + l.Offset + l.Count - 1}
	}
	return block, nil
}

// Port decides the base port: the flag (0 when not given), else
// OPENCLAW_GATEWAY_PORT, else gateway.port of c, which may be nil.
func Port(flag int, env func(string) (string, bool), c *Config) (int, error) {
	port, from := DefaultPort, "gateway.port"
	if c != nil {
		port = c.Gateway.Port
	}
	const name = "OPENCLAW_GATEWAY_PORT"
	if flag != 0 {
		port, from = flag, "--port"
	} else if env != nil {
		if value, _ := env(name); value != "" {
			n, err := strconv.Atoi(value)
			if err != nil {
				return 0, fmt.Errorf("%s: must be a port number", name)
			}
			port, from = n, name
		}
	}
	if _, err := Block(port); err != nil {
		return 0, fmt.Errorf("%s: %w", from, err)
	}
	return port, nil
}
