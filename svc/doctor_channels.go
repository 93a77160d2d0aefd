package svc

import (
	"errors"
	"os"
	"slices"

	"openclaw/wire"
)

// channels tells how the connections to chat networks fare, as the gateway
// knows them; of one that does not run, what would keep them from being made.
func (d *patient) channels(r *result) {
	accounts := d.cfg().ChannelAccounts()
	for i := range accounts {
		a := &accounts[i]
		name := a.Channel + ":" + a.Account
		if a.DMPolicy != "disabled" && slices.Contains(a.AllowFrom, "*") { // as it does if dmPolicy is open
			r.warn("", "%s takes messages from anybody (allowFrom has *)", name)
		}
		if a.Kind == "process" && len(a.Command) > 0 {
			if fi, err := os.Stat(a.Command[0]); err != nil {
				r.fail("", "the program of %s: %v", name, err)
			} else if fi.IsDir() || fi.Mode()&0o111 == 0 {
				r.fail("chmod +x "+shellQuote(a.Command[0]), "the program of %s cannot be run: %s", name, a.Command[0])
			}
		}
	}
	if len(accounts) == 0 {
		r.fact("none is configured")
		return
	}
	r.fact("%s configured", count(len(accounts), "account"))
	v, err := d.answer()
	if err != nil {
		if !errors.Is(err, errNotAsked) {
			r.info("not told: %v", err)
		}
		return
	}
	open := 0
	for _, channel := range v.channels.ChannelOrder {
		for _, a := range v.channels.ChannelAccounts[channel] {
			d.account(r, channel, &a)
			if a.Connected {
				open++
			}
		}
	}
	r.fact("%d connected", open)
}

// account judges one account by its last success.
func (d *patient) account(r *result, channel string, a *wire.ChannelAccount) {
	name := channel + ":" + a.AccountID
	status := d.Command("channels status")
	switch {
	case a.Connected:
	case !a.Linked:
		r.warn(d.Command("channels login "+channel), "%s is not linked", name)
	case a.Terminal:
		r.fail(status, "%s is down until something is changed: %s", name, a.LastError)
	case a.LastError != "":
		r.warn(status, "%s is down and tries again; last success: %s: %s", name, d.ago(a.LastSuccessAt), a.LastError)
	default:
		r.info("%s is %s", name, a.State)
	}
	if n := a.Stuck; n > 0 {
		r.warn(status, "%s: nothing can be sent to %s; first tried in vain %s: %s", name, count(n, "chat"), d.ago(a.StuckSinceAt), a.LastError)
	}
	if n := a.Unsure; n > 0 {
		r.warn(status, "%s: of %s nobody knows whether it arrived", name, count(n, "message"))
	}
	if !a.Connected && a.Queued > 0 {
		r.warn(status, "%s: %s wait to be sent", name, count(a.Queued, "message"))
	}
}
