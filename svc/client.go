package svc

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"time"

	"openclaw/gateway/store"
	"openclaw/reload/config"
	"openclaw/wire"
)

const (
	connectTimeout = 10 * time.Second
	maxSecretFile  = 64 << 10
	maxCertificate = 1 << 20
)

// clientFlags are what every command that talks to a gateway takes.
func clientFlags(more ...Flag) []Flag {
	common := []Flag{
		{Name: "json", Doc: "Print one JSON document and nothing else."},
		systemFlag(),
		{Name: "url", Value: "URL", Doc: "Talk to this gateway, ws:// or wss://. It gets no stored credentials."},
		{Name: "port", Value: "PORT", Doc: "Talk to the gateway on this port of the loopback address."},
		{Name: "token-file", Value: "FILE", Doc: "Present the token in this file, mode 0600."},
		{Name: "password-file", Value: "FILE", Doc: "Present the password in this file, mode 0600."},
		{Name: "timeout", Value: "TIME", Doc: "Give up after this time: milliseconds, or 5s, 2m."},
		{Name: "token", Value: "TOKEN", Refused: onArgv, Hint: "use --token-file FILE or the variable OPENCLAW_GATEWAY_TOKEN"},
		{Name: "password", Value: "PASSWORD", Refused: onArgv, Hint: "use --password-file FILE or the variable OPENCLAW_GATEWAY_PASSWORD"},
	}
	for _, f := range common {
		if flagNamed(more, "--"+f.Name) == nil { // a command may mean its own timeout
			more = append(more, f)
		}
	}
	return more
}

// endpoint is a gateway to talk to and what to show it.
type endpoint struct {
	url, source     string // where it is, and who says so
	own             bool   // it belongs to this profile: stored credentials may go there
	token, password string
	credential      string // where the secret came from, never what it is
	tls             *tls.Config
	find            func() (*endpoint, error) // anew: a gateway may move
}

// discover finds the gateway that a command means and the credentials that
// belong to it. An explicit URL outranks the profile's own gateway, and gets
// only what was explicitly given along with it: a stored secret never goes to
// an address that somebody made the operator type.
func discover(e *Env, a *Args) (*endpoint, error) {
	p, err := e.Paths()
	if err != nil {
		return nil, err
	}
	ep := &endpoint{url: a.Get("url"), source: "--url", find: func() (*endpoint, error) { return discover(e, a) }}
	if ep.url == "" {
		ep.url, ep.source = e.getenv("OPENCLAW_GATEWAY_URL"), "OPENCLAW_GATEWAY_URL"
	}
	port, err := a.Int("port", 0, 1, 65535)
	if err != nil {
		return nil, err
	}
	switch {
	case a.Has("url") && port != 0:
		return nil, usage("--url and --port name the gateway twice")
	case ep.url == "" || port != 0:
		if err := ep.findOwn(e, p, port); err != nil {
			return nil, err
		}
	default:
		if ep.url, err = gatewayURL(ep.url); err != nil {
			return nil, usage("%s: %v", ep.source, err)
		}
	}

	secretFile := func(flag string) (string, error) {
		raw, err := store.ReadSecretFile(a.Get(flag), maxSecretFile)
		if err != nil {
			return "", &Error{Exit: ExitUsage, Code: "USAGE", Msg: fmt.Sprintf("--%s: %v", flag, err)}
		}
		s := strings.TrimSpace(string(raw))
		if s == "" {
			return "", usage("--%s: the file is empty", flag)
		}
		return s, nil
	}
	switch {
	case a.Has("token-file"):
		ep.token, err = secretFile("token-file")
		ep.password, ep.credential = "", "--token-file"
	case a.Has("password-file"):
		ep.password, err = secretFile("password-file")
		ep.token, ep.credential = "", "--password-file"
	case e.getenv("OPENCLAW_GATEWAY_TOKEN") != "" || e.getenv("OPENCLAW_GATEWAY_PASSWORD") != "":
		ep.token, ep.password, ep.credential = e.getenv("OPENCLAW_GATEWAY_TOKEN"), e.getenv("OPENCLAW_GATEWAY_PASSWORD"), "the environment"
	}
	return ep, err
}

// ownGateway is the profile's, with no other credentials than its own.
func ownGateway(e *Env, p config.Paths) (*endpoint, error) {
	ep := &endpoint{find: func() (*endpoint, error) { return ownGateway(e, p) }}
	return ep, ep.findOwn(e, p, 0)
}

// findOwn fills in the profile's own gateway: the running one by its record in
// the state directory, else where the configuration would put it. A port other
// than that is some gateway on this host, and not ours to trust.
func (ep *endpoint) findOwn(e *Env, p config.Paths, port int) error {
	i, running, err := e.instance(p)
	if err != nil && !errors.Is(err, fs.ErrPermission) {
		return &Error{Msg: err.Error()}
	}
	if running && i.Addr != "" && (port == 0 || port == i.Port) {
		ep.own, ep.url, ep.source = true, wsURL(i.Addr, i.TLS), "the running gateway's record"
		ep.token, ep.credential = i.CLIKey, ep.source
		if i.TLS {
			ep.tls = pinned(p, e.config(p))
		}
		return nil
	}
	cfg := e.config(p)
	own, err := config.Port(0, e.Lookup, cfg)
	if err != nil {
		return usage("%v", err)
	}
	if port == 0 {
		port = own
	}
	useTLS := cfg != nil && cfg.Gateway.TLS.Enabled
	ep.url, ep.source = wsURL(net.JoinHostPort("127.0.0.1", strconv.Itoa(port)), useTLS), "--port"
	if port != own {
		return nil
	}
	if ep.own, ep.source = true, "the configuration"; useTLS {
		ep.tls = pinned(p, cfg)
	}
	if cfg == nil || cfg.Gateway.Auth.Missing() {
		return nil
	}
	ep.credential = "the configuration"
	if secret := cfg.Gateway.Auth.Secret().Reveal(); cfg.Gateway.Auth.Mode == "password" {
		ep.password = secret
	} else {
		ep.token = secret
	}
	return nil
}

// config returns the profile's configuration, or nil where there is none that loads.
func (e *Env) config(p config.Paths) *config.Config {
	l, err := e.Load(p.ConfigPath)
	if err != nil {
		return nil
	}
	return l.Config
}

// Load reads and checks a configuration file.
func (e *Env) Load(path string) (*config.Loaded, error) {
	return config.Load(config.Source{Path: path, Env: e.Lookup, ReadFile: store.ReadConfigFile})
}

func wsURL(addr string, useTLS bool) string {
	if useTLS {
		return "wss://" + addr + "/"
	}
	return "ws://" + addr + "/"
}

// gatewayURL checks a URL that a person typed. A secret in it would end in
// process lists, histories and logs.
func gatewayURL(s string) (string, error) {
	u, err := url.Parse(s)
	if err != nil {
		return "", errors.New("not a URL")
	}
	switch u.Scheme {
	case "http":
		u.Scheme = "ws"
	case "https":
		u.Scheme = "wss"
	case "ws", "wss":
	default:
		return "", errors.New("a gateway's URL begins with ws:// or wss://")
	}
	if u.Hostname() == "" || u.Opaque != "" {
		return "", errors.New("the URL names no host")
	}
	if u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return "", errors.New("the URL may hold neither credentials nor a query: use --token-file")
	}
	if u.Path == "" {
		u.Path = "/"
	}
	return u.String(), nil
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// pinned accepts exactly the certificate that the profile's gateway serves,
// whoever signed it and whatever names are in it.
func pinned(p config.Paths, cfg *config.Config) *tls.Config {
	path := filepath.Join(p.StateDir, "tls", "cert.pem")
	if cfg != nil && cfg.Gateway.TLS.CertPath != "" {
		path = p.Expand(cfg.Gateway.TLS.CertPath)
	}
	return &tls.Config{
		MinVersion:         tls.VersionTLS12,
		InsecureSkipVerify: true, // VerifyConnection decides instead
		VerifyConnection: func(s tls.ConnectionState) error {
			raw, err := store.ReadConfigFile(path, maxCertificate, false)
			if err != nil {
				return err
			}
			block, _ := pem.Decode(raw)
			if block == nil || len(s.PeerCertificates) == 0 || !bytes.Equal(block.Bytes, s.PeerCertificates[0].Raw) {
				return fmt.Errorf("the certificate is not the one in %s", path)
			}
			return nil
		},
	}
}

// link is an open, authorised connection to a gateway.
type link struct {
	*wire.Client
	ep      *endpoint
	hello   *wire.HelloOK
	timeout time.Duration // for an answer; 0 = none was asked for
	redial  func(context.Context) (*link, error)
}

// dial connects to the gateway that the command means.
func dial(ctx context.Context, e *Env, a *Args, onEvent func(wire.Inbound)) (*link, error) {
	ep, err := discover(e, a)
	if err != nil {
		return nil, err
	}
	return ep.dial(ctx, e, a, onEvent)
}

func (ep *endpoint) dial(ctx context.Context, e *Env, a *Args, onEvent func(wire.Inbound)) (*link, error) {
	limit, err := a.timeout()
	if err != nil {
		return nil, err
	}
	e.debug("connecting to %s (%s), credentials from %s", ep.url, ep.source, cmp.Or(ep.credential, "nowhere"))
	if u, err := url.Parse(ep.url); err == nil && ep.credential != "" && u.Scheme == "ws" && !loopback(u.Hostname()) {
		e.Warn("the secret goes to %s without encryption: use wss://, or a tunnel", u.Host)
	}
	dctx, cancel := context.WithTimeout(ctx, min(cmp.Or(limit, connectTimeout), connectTimeout))
	defer cancel()
	c, hello, err := ep.connect(dctx, e, onEvent)
	if err != nil {
		return nil, ep.explain(e, ctx, min(cmp.Or(limit, connectTimeout), connectTimeout), err)
	}
	redial := func(ctx context.Context) (*link, error) { return ep.dial(ctx, e, a, onEvent) }
	return &link{Client: c, ep: ep, hello: hello, timeout: limit, redial: redial}, nil
}

// explain turns a connection that did not come about into what the person should know.
func (ep *endpoint) explain(e *Env, ctx context.Context, limit time.Duration, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	down := &Error{Code: codeUnreachable, Exit: ExitUnreachable}
	var refused *wire.Error
	var handshake *wire.HandshakeError
	switch {
	case errors.As(err, &refused):
		return ep.denied(e, refused)
	case errors.As(err, &handshake):
		down.Msg = fmt.Sprintf("%s is no gateway, or not for us: %v", ep.url, handshake)
		return down
	case errors.Is(err, context.DeadlineExceeded):
		down.Msg = fmt.Sprintf("gateway at %s did not answer within %v", ep.url, limit)
	default:
		down.Msg = fmt.Sprintf("gateway is unreachable at %s: %v", ep.url, cause(err))
	}
	switch {
	case ep.own && errors.Is(err, context.DeadlineExceeded):
		down.Hint = "what is wrong: " + e.Command("doctor")
	case ep.own:
		down.Hint = "start it: " + e.Command(map[bool]string{false: "gateway", true: "gateway start"}[e.paths.System])
	}
	return down
}

// denied explains a connect that was answered with an error.
func (ep *endpoint) denied(e *Env, err *wire.Error) error {
	out := &Error{Code: string(err.Code), Msg: "gateway at " + ep.url + ": " + err.Message}
	if !strings.HasPrefix(err.Message, "unauthorized") && err.Code != wire.CodeNotPaired && err.Code != wire.CodeForbidden {
		return out
	}
	out.Code, out.Exit = "UNAUTHORIZED", ExitUnauthorized
	switch {
	case ep.credential == "" && ep.own:
		out.Hint = "the configuration holds no secret that loads: " + e.Command("config validate")
	case ep.credential == "":
		out.Hint = "stored credentials stay with their own gateway: give --token-file FILE or OPENCLAW_GATEWAY_TOKEN"
	default:
		out.Hint = "the secret came from " + ep.credential
	}
	return out
}

// cause is the innermost reason of a network error: the address is already named.
func cause(err error) error {
	var op *net.OpError
	if errors.As(err, &op) {
		err = op.Err
	}
	var sys interface{ Unwrap() error }
	if errors.As(err, &sys) && sys.Unwrap() != nil {
		return sys.Unwrap()
	}
	return err
}

// ask calls a method and returns its payload, read into result too unless that
// is nil. A question that a restart of the gateway cuts off is asked once more
// if it changes nothing.
func (l *link) ask(ctx context.Context, method string, params, result any) (wire.Raw, error) {
	var failed error
	once := func() (wire.Raw, error) {
		return l.wait(ctx, method, 30*time.Second, func(ctx context.Context, payload *wire.Raw) error {
			failed = l.Call(ctx, method, params, payload)
			return failed
		}, result)
	}
	raw, err := once()
	if err != nil && l.ep.own && readsOnly(method) && passing(failed) && l.again(ctx) == nil {
		return once()
	}
	return raw, err
}

// askFinal is ask for a method that answers twice, such as a turn.
func (l *link) askFinal(ctx context.Context, method string, most time.Duration, params, result any) (wire.Raw, error) {
	return l.wait(ctx, method, most, func(ctx context.Context, payload *wire.Raw) error {
		return l.CallFinal(ctx, method, params, payload, nil)
	}, result)
}

func (l *link) wait(ctx context.Context, method string, most time.Duration, do func(context.Context, *wire.Raw) error, result any) (wire.Raw, error) {
	cctx, cancel := context.WithTimeout(ctx, cmp.Or(l.timeout, most))
	defer cancel()
	var payload wire.Raw
	err := do(cctx, &payload)
	var we *wire.Error
	switch {
	case err == nil && result == nil:
		return payload, nil
	case err == nil:
		// A newer gateway may say more than we know, but not something else.
		if err := wire.DecodeLoose(payload, result); err != nil {
			return nil, fmt.Errorf("%s: the answer is not what this program knows: %w", method, err)
		}
		return payload, nil
	case errors.As(err, &we):
		out := &Error{Code: string(we.Code), Msg: method + ": " + we.Message, Body: map[string]any{"ok": false, "error": we}}
		if we.Code == wire.CodeForbidden || we.Code == wire.CodeNotPaired {
			out.Exit = ExitUnauthorized
		}
		if we.RetryAfterMs > 0 {
			out.Hint = fmt.Sprintf("try again in %v", time.Duration(we.RetryAfterMs)*time.Millisecond)
		}
		return nil, out
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case errors.Is(err, context.DeadlineExceeded):
		return nil, &Error{Code: "TIMEOUT", Msg: fmt.Sprintf("%s: no answer within %v", method, cmp.Or(l.timeout, most)), Hint: "allow more with --timeout"}
	}
	return nil, &Error{Code: codeUnreachable, Exit: ExitUnreachable, Msg: fmt.Sprintf("the connection ended: %v", err)}
}

// query connects, asks one question, and prints the answer: as it is with
// --json, else by show.
func query[T any](ctx context.Context, e *Env, a *Args, method string, params any, show func(*link, T) error) error {
	l, err := dial(ctx, e, a, nil)
	if err != nil {
		return err
	}
	defer l.Close()
	return answer(ctx, e, l, method, params, show)
}

// answer is query over a connection that is there. T is a pointer: all pointers
// share one body, as structs would not.
func answer[T any](ctx context.Context, e *Env, l *link, method string, params any, show func(*link, T) error) error {
	v := reflect.New(reflect.TypeFor[T]().Elem()).Interface().(T)
	raw, err := l.ask(ctx, method, params, v)
	switch {
	case err != nil:
		return err
	case e.JSON:
		return e.printJSON(raw)
	}
	return show(l, v)
}

// codeUnreachable says that no gateway answered.
const codeUnreachable = "UNREACHABLE"

func unreachable(err error) bool {
	var e *Error
	return errors.As(err, &e) && e.Code == codeUnreachable
}
