package unit

import (
	"crypto/sha256"
	"fmt"
	"regexp"
	"strings"
)

// Origin tells where a file comes from, by its marker line.
type Origin struct {
	Ours   bool // Render wrote it
	Edited bool // and somebody changed it since
}

var marker = regexp.MustCompile(`(?m)^(?:# |<!-- )openclaw unit, sha256 of the other lines: ([0-9a-f]{64})(?: -->)?\n`)

const forReaders = "Written by openclaw gateway install, which does not replace a file that was changed unless told to."

// mark puts the marker where the format allows a first comment: the SHA-256 of
// all other lines.
func mark(text string) string {
	first, open, end := "", "# ", "\n"
	if strings.HasPrefix(text, "#!") || strings.HasPrefix(text, "<?xml") {
		first, text, _ = strings.Cut(text, "\n")
		first += "\n"
	}
	if strings.HasPrefix(first, "<") {
		open, end = "<!-- ", " -->\n"
	}
	text = open + forReaders + end + text
	return first + fmt.Sprintf("%sopenclaw unit, sha256 of the other lines: %x%s", open, sha256.Sum256([]byte(first+text)), end) + text
}

// OriginOf reads the marker line.
func OriginOf(text []byte) Origin {
	m := marker.FindSubmatchIndex(text)
	if m == nil {
		return Origin{}
	}
	h := sha256.New()
	h.Write(text[:m[0]])
	h.Write(text[m[1]:])
	return Origin{Ours: true, Edited: fmt.Sprintf("%x", h.Sum(nil)) != string(text[m[2]:m[3]])}
}

// Legacy lists the names of services that other or older gateways install:
// labels for launchd, names of units and scripts elsewhere. A file that has our
// own name and not our marker is told by OriginOf.
func Legacy(t Target) []string {
	switch t {
	case Launchd:
		return []string{
			"ai.openclaw.gateway", "ai.openclaw.node", "ai.openclaw.mac",
			"com.openclaw.gateway", "com.clawdbot.gateway", "com.clawdis.gateway",
			"com.steipete.clawdbot.gateway", "com.steipete.clawdis.gateway", "bot.molt.node",
		}
	case SystemdUser, SystemdSystem:
		return []string{"clawdbot-gateway.service", "moltbot-gateway.service", "clawdis-gateway.service", "openclaw.service", "openclaw-node.service", "clawdbot.service", "moltbot.service"}
	case OpenRC:
		return []string{"openclaw", "clawdbot-gateway", "moltbot-gateway"}
	case RCD:
		return []string{"openclaw", "clawdbot_gateway", "moltbot_gateway"}
	}
	return nil
}

// rcName is what rc.d calls the service: the beginning of shell variables.
func rcName(u Unit) string {
	if u.Profile == "" {
		return "openclaw_gateway"
	}
	return "openclaw_gateway_" + u.Profile
}
