package gateway

import (
	"cmp"
	"context"
	"encoding/base64"
	"time"

	"openclaw/gateway/channel"
	"openclaw/gateway/qr"
	"openclaw/wire"
)

const (
	loginStartTime = 30 * time.Second // until there is a code to scan
	loginWaitTime  = 2 * time.Minute  // until it was scanned, or there is another
	loginLook      = 50 * time.Millisecond
	qrScale        = 4 // pixels of a module
)

// webLoginStart has an account link itself, or go on where only an operator
// gets it on, and answers with the code to scan, if there is one to scan.
func (g *Gateway) webLoginStart(ctx context.Context, p *peer, in *wire.WebLoginStart) (*wire.WebLogin, error) {
	name := cmp.Or(in.Channel, "whatsapp")
	if in.Force {
		a, err := g.channels.Account(name, in.AccountID)
		if err != nil {
			return nil, sendError(err)
		}
		if s := a.Status(); s.State != channel.StateNotLinked && !s.Terminal {
			if _, err := g.channels.Logout(name, in.AccountID); err != nil {
				return nil, sendError(err)
			}
			if _, err := g.loginState(ctx, a, loginStartTime, func(s channel.Status) bool { return s.State == channel.StateNotLinked }); err != nil {
				return nil, err
			}
		}
	}
	a, err := g.channels.Login(name, in.AccountID)
	if err != nil {
		return nil, sendError(err)
	}
	s, err := g.loginState(ctx, a, limitOf(in.TimeoutMs, loginStartTime), func(s channel.Status) bool { return s.QR != "" || settled(s) })
	if err != nil {
		return nil, err
	}
	return loginAnswer(s)
}

// webLoginWait answers when an account is linked, when there is another code
// than the client shows, or when it will not come to that.
func (g *Gateway) webLoginWait(ctx context.Context, p *peer, in *wire.WebLoginWait) (*wire.WebLogin, error) {
	a, err := g.channels.Account(cmp.Or(in.Channel, "whatsapp"), in.AccountID)
	if err != nil {
		return nil, sendError(err)
	}
	shown, shownAs := "", "" // the code that was last looked at, and as a picture
	s, err := g.loginState(ctx, a, limitOf(in.TimeoutMs, loginWaitTime), func(s channel.Status) bool {
		if s.QR == "" || in.CurrentQRDataURL == "" {
			return settled(s)
		}
		if s.QR != shown {
			shown = s.QR
			shownAs, _ = picture(s.QR)
		}
		return shownAs != in.CurrentQRDataURL
	})
	if err != nil {
		return nil, err
	}
	return loginAnswer(s)
}

// settled reports that a login has ended, well or not.
func settled(s channel.Status) bool {
	return s.State == channel.StateOpen || s.Terminal || s.QR == "" && s.State == channel.StateNotLinked
}

func limitOf(ms int64, def time.Duration) time.Duration {
	if ms > 0 {
		return time.Duration(ms) * time.Millisecond
	}
	return def
}

// loginState looks at an account until it is as wanted, or for a time.
func (g *Gateway) loginState(ctx context.Context, a *channel.Account, limit time.Duration, wanted func(channel.Status) bool) (channel.Status, error) {
	late, tick := time.NewTimer(limit), time.NewTicker(loginLook)
	defer late.Stop()
	defer tick.Stop()
	for {
		if s := a.Status(); wanted(s) {
			return s, nil
		}
		select {
		case <-tick.C:
		case <-late.C:
			return a.Status(), nil
		case <-ctx.Done():
			return channel.Status{}, context.Cause(ctx)
		case <-g.ctx.Done():
			return channel.Status{}, errStopping
		}
	}
}

// loginAnswer tells how a login stands.
func loginAnswer(s channel.Status) (*wire.WebLogin, error) {
	out := &wire.WebLogin{State: s.State, Code: s.Code, Self: s.Self}
	switch {
	case s.State == channel.StateOpen:
		out.Connected, out.Message = true, "Linked as "+s.Self+"."
	case s.QR != "":
		url, err := picture(s.QR)
		if err != nil {
			return nil, wire.Unavailable("%s", err)
		}
		out.QRDataURL, out.QR, out.Message = url, s.QR, "Scan this code in WhatsApp: Settings, Linked devices, Link a device."
	case s.State == channel.StateNotLinked:
		return nil, wire.Errorf(wire.CodeNotLinked, "%s:%s is not linked: %s", s.Channel, s.Account, cmp.Or(s.LastError, "no login is under way"))
	case s.Terminal:
		return nil, wire.Unavailable("%s:%s: %s", s.Channel, s.Account, s.LastError)
	default:
		out.Message = "Not linked yet: " + s.State + "."
	}
	return out, nil
}

// picture is a code as the URL of a PNG.
func picture(text string) (string, error) {
	code, err := qr.Encode(text)
	if err != nil {
		return "", err
	}
	return "data:image/png;base64," + base64.StdEncoding.EncodeToString(code.PNG(qrScale)), nil
}
