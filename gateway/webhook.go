package gateway

import (
	"context"
	"errors"
	"io"
	"net/http"
	"time"

	"openclaw/gateway/channel"
	"openclaw/reload/config"
)

const (
	maxUpdate   = 1 << 20
	updateTime  = 25 * time.Second // less than writeTimeout
	updateProof = "X-Telegram-Bot-Api-Secret-Token"
)

// webhookRoute is where networks post what they have for the channels. It is
// closed to who does not know the account's secret.
var webhookRoute = route{methods: "POST", pattern: "webhook", bodyLimit: func(*config.Config) int64 { return maxUpdate }, handler: (*Gateway).webhook}

// webhookAt reports whether updates are taken at a path.
func webhookAt(cfg *config.Config, path string) bool {
	for _, a := range cfg.ChannelAccounts() {
		if a.WebhookURL != "" && a.WebhookPath == path {
			return true
		}
	}
	return false
}

// webhook takes one update. The network brings it again unless it is told that
// it was kept.
func (g *Gateway) webhook(w http.ResponseWriter, r *http.Request, _ principal) {
	proof := r.Header.Get(updateProof)
	var to *config.ChannelAccount
	for _, a := range g.cfg().ChannelAccounts() {
		if a.WebhookURL != "" && a.WebhookPath == r.URL.Path && sameSecret(proof, a.WebhookSecret.Reveal()) {
			to = &a
		}
	}
	if to == nil {
		w.Header().Set("Connection", "close")
		refuse(http.StatusUnauthorized, "unauthorized", "Unauthorized").write(w)
		return
	}
	raw, refused := readBody(r)
	if refused != nil {
		refused.write(w)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), updateTime)
	defer cancel()
	err := g.channels.Posted(ctx, to.Channel, to.Account, raw)
	var f *channel.Fault
	switch {
	case err == nil:
		w.Header().Set("Content-Type", "application/json")
		io.WriteString(w, "{\"ok\":true}\n")
	case errors.As(err, &f) && f.Final:
		refuse(http.StatusBadRequest, "invalid_request_error", f.Error()).write(w)
	default:
		g.log.Warn("update not taken", "channel", to.Channel+":"+to.Account, "err", err)
		refuse(http.StatusServiceUnavailable, "unavailable", "Not taken yet").write(w)
	}
}
