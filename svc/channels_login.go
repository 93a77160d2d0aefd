package svc

import (
	"context"
	"strconv"
	"strings"
	"time"

	"openclaw/gateway/qr"
	"openclaw/wire"
)

const loginTime = 10 * time.Minute // for a person to find the phone

// channelsLogin shows the code that links an account, each new one in the place
// of the last, until the account is linked. The code is a secret: who scans it
// first has a place in the account. It goes to the terminal and nowhere else.
func channelsLogin(ctx context.Context, e *Env, a *Args) error {
	l, err := dial(ctx, e, a, nil)
	if err != nil {
		return err
	}
	defer l.Close()
	ctx, cancel := context.WithTimeoutCause(ctx, loginTime, &Error{Code: "TIMEOUT", Msg: "nobody scanned a code within " + loginTime.String()})
	defer cancel()
	account := a.Get("account")
	drawn := 0 // lines of the code that is on the screen
	method, params := "web.login.start", any(&wire.WebLoginStart{Channel: a.Word(0), AccountID: account, Force: a.Has("force")})
	for {
		var s wire.WebLogin
		ask := func(ctx context.Context, payload *wire.Raw) error { return l.Call(ctx, method, params, payload) }
		raw, err := l.wait(ctx, method, loginTime, ask, &s)
		switch {
		case err != nil && ctx.Err() != nil:
			return context.Cause(ctx)
		case err != nil:
			return err
		case s.Connected && e.JSON:
			return e.printJSON([]byte(raw))
		case s.Connected:
			return e.printf("linked as %s\n", escape(s.Self))
		}
		if s.QR != "" {
			if drawn, err = e.drawCode(s.QR, drawn); err != nil {
				return err
			}
		}
		method, params = "web.login.wait", &wire.WebLoginWait{Channel: a.Word(0), AccountID: account, CurrentQRDataURL: s.QRDataURL}
	}
}

// drawCode draws a code, over the last one where it can, and returns its lines.
// With --json stdout is for the result alone.
func (e *Env) drawCode(text string, over int) (int, error) {
	code, err := qr.Encode(text)
	if err != nil {
		return 0, err
	}
	w, tty := e.Stdout, e.OutTTY
	if e.JSON {
		w, tty = e.Stderr, e.ErrTTY
	}
	tty = tty && e.getenv("TERM") != "dumb"
	var b strings.Builder
	if tty && over > 0 {
		b.WriteString("\x1b[" + strconv.Itoa(over) + "A\x1b[J")
	}
	lines := append([]string{"Scan this in WhatsApp: Settings, Linked devices, Link a device."}, code.Lines()...)
	for i, line := range lines {
		if i > 0 && tty {
			line = "\x1b[97;40m" + line + "\x1b[0m" // as printed on paper, on any ground
		}
		b.WriteString(line + "\n")
	}
	_, err = w.Write([]byte(b.String()))
	return len(lines), err
}
