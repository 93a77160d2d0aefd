package gateway

import (
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"openclaw/gateway/store"
	"openclaw/reload/config"
	"openclaw/wire"
)

const (
	headerTimeout = 10 * time.Second
	idleTimeout   = 60 * time.Second
	writeTimeout  = 30 * time.Second // of one answer; streams set their own
	maxHeader     = 16 << 10
	bodyStall     = 10 * time.Second // in which bodyStep bytes of a body must come
	bodyStep      = 64 << 10
)

type route struct {
	methods   string // allowed ones, as the Allow header says them
	pattern   string // a path, or with a trailing /* a path and what is below it
	auth      bool
	bodyLimit func(*config.Config) int64 // nil: no body is read
	enabled   func(*config.Config) bool  // nil: always
	handler   func(g *Gateway, w http.ResponseWriter, r *http.Request, who principal)
}

// routeTable lists what the base port serves besides WebSocket.
func routeTable() []route {
	maxPayload := func(c *config.Config) int64 { return int64(c.Gateway.Limits.MaxPayload) }
	chat := func(c *config.Config) bool { return c.Gateway.HTTP.Endpoints.ChatCompletions.Enabled }
	responses := func(c *config.Config) bool { return c.Gateway.HTTP.Endpoints.Responses.Enabled }
	models := func(c *config.Config) bool { return c.Gateway.HTTP.Endpoints.Models.Enabled }
	invoke := func(c *config.Config) bool { return c.Gateway.HTTP.Endpoints.ToolsInvoke.Enabled }
	invokeLimit := func(*config.Config) int64 { return maxInvoke }
	return []route{
		{methods: "GET, HEAD", pattern: "/healthz", handler: (*Gateway).healthz},
		{methods: "GET, HEAD", pattern: "/health", handler: (*Gateway).healthz},
		{methods: "GET, HEAD", pattern: "/readyz", handler: (*Gateway).readyz},
		{methods: "GET, HEAD", pattern: "/ready", handler: (*Gateway).readyz},
		{methods: "GET, HEAD", pattern: "/startupz", handler: (*Gateway).startupz},
		{methods: "GET, HEAD", pattern: "/metrics", auth: true, handler: (*Gateway).metricsGet},
		{methods: "POST", pattern: "/v1/chat/completions", auth: true, bodyLimit: maxPayload, enabled: chat, handler: (*Gateway).chatCompletions},
		{methods: "POST", pattern: "/v1/responses", auth: true, bodyLimit: maxPayload, enabled: responses, handler: (*Gateway).responses},
		{methods: "GET", pattern: "/v1/models", auth: true, enabled: models, handler: (*Gateway).modelsList},
		{methods: "POST", pattern: "/tools/invoke", auth: true, bodyLimit: invokeLimit, enabled: invoke, handler: (*Gateway).toolsInvoke},
		{methods: "GET", pattern: "/v1/models/*", auth: true, enabled: models, handler: (*Gateway).modelGet},
	}
}

// find returns the route of a path, nil where there is none.
func (g *Gateway) find(cfg *config.Config, path string) *route {
	for i := range g.routes {
		rt := &g.routes[i]
		prefix, below := strings.CutSuffix(rt.pattern, "*")
		if path != rt.pattern && !(below && strings.HasPrefix(path, prefix) && len(path) > len(prefix)) {
			continue
		}
		if rt.enabled == nil || rt.enabled(cfg) {
			return rt
		}
	}
	if webhookAt(cfg, path) {
		return &webhookRoute
	}
	return nil
}

// ServeHTTP is the one way in, for HTTP and WebSocket alike. What a request is
// held to comes in this order: host, path, proxies, origin, then for HTTP
// method, credential, body.
func (g *Gateway) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var panicked error
	defer func() {
		if panicked != nil {
			w.Header().Set("Connection", "close")
			refuse(http.StatusInternalServerError, "api_error", asWireQuiet(panicked).Message).write(w)
		}
	}()
	defer g.contained(r.Method+" "+store.Clip(r.URL.Path, 64), &panicked)
	snap := g.snapshot()
	setHeaders(w.Header())
	if r.ContentLength != 0 { // net/http reads on where a refusal left a body unread
		http.NewResponseController(w).SetReadDeadline(time.Now().Add(bodyStall))
	}
	from, refused := snap.admit(r)
	if refused != nil {
		refused.write(w)
		return
	}
	if isUpgrade(r) {
		g.upgrade(w, r, from)
		return
	}
	if cors(w.Header(), r, snap) {
		http.NewResponseController(w).SetWriteDeadline(time.Now().Add(writeTimeout))
		w.WriteHeader(http.StatusNoContent)
		return
	}
	g.route(w, r, snap, from)
}

// route answers an admitted HTTP request, and counts it.
func (g *Gateway) route(plain http.ResponseWriter, r *http.Request, snap *snapshot, from client) {
	rt, name := g.find(snap.cfg, r.URL.Path), noRoute
	if rt != nil {
		name = rt.pattern
	}
	w, began := &statusWriter{ResponseWriter: plain}, time.Now()
	defer func() { g.metrics.routes[name].Done(began, w.status == 0 || w.status >= http.StatusBadRequest) }()
	if rt == nil {
		refuse(http.StatusNotFound, "not_found", "Not Found").write(w)
		return
	}
	if !slices.Contains(strings.Split(rt.methods, ", "), r.Method) {
		w.Header().Set("Allow", rt.methods)
		refuse(http.StatusMethodNotAllowed, "invalid_request_error", "Method Not Allowed").write(w)
		return
	}
	var given grant
	if rt.auth || len(r.Header["Authorization"]) > 0 {
		var e *httpError
		if given, e = g.authorize(r, from); e != nil && rt.auth {
			w.Header().Set("Connection", "close") // who is not let in holds no place
			e.write(w)
			return
		}
		ctx, cancel := given.within(r.Context())
		defer cancel(nil)
		defer context.AfterFunc(ctx, func() { // nobody is waited for then
			ctl := http.NewResponseController(w)
			ctl.SetReadDeadline(time.Unix(1, 0))
			ctl.SetWriteDeadline(time.Now().Add(expelAfter))
		})()
		r = r.WithContext(ctx)
	}
	if enc := r.Header.Get("Content-Encoding"); enc != "" && !strings.EqualFold(enc, "identity") {
		refuse(http.StatusUnsupportedMediaType, "invalid_request_error", "Content-Encoding is not supported").write(w)
		return
	}
	var limit int64
	if rt.bodyLimit != nil {
		limit = rt.bodyLimit(snap.cfg)
	}
	if r.ContentLength > limit {
		tooLarge().write(w)
		return
	}
	r.Body = &body{ReadCloser: http.MaxBytesReader(w, r.Body, limit), ctl: http.NewResponseController(w), ctx: r.Context()}
	rt.handler(g, w, r, given.who)
}

// body is a request body that must keep coming: a client that sends less than
// bodyStep bytes in bodyStall is cut off.
type body struct {
	io.ReadCloser
	ctl  *http.ResponseController
	ctx  context.Context
	read int
	next int
}

func (b *body) Read(p []byte) (int, error) {
	if b.read >= b.next {
		b.ctl.SetReadDeadline(time.Now().Add(bodyStall))
		b.next = b.read + bodyStep
	}
	if b.ctx.Err() != nil { // its deadline may have been the one before
		return 0, context.Cause(b.ctx)
	}
	n, err := b.ReadCloser.Read(p)
	b.read += n
	if err == io.EOF {
		b.ctl.SetReadDeadline(time.Time{})
	}
	return n, err
}

// readBody reads a request's whole body within the route's limit.
func readBody(r *http.Request) ([]byte, *httpError) {
	data, err := io.ReadAll(r.Body)
	var large *http.MaxBytesError
	switch {
	case err == nil:
		return data, nil
	case errors.As(err, &large):
		return nil, tooLarge()
	case errors.Is(context.Cause(r.Context()), errRevoked):
		return nil, refuse(http.StatusUnauthorized, "unauthorized", "Unauthorized")
	case errors.Is(err, os.ErrDeadlineExceeded):
		return nil, refuse(http.StatusRequestTimeout, "invalid_request_error", "Request body came too slowly")
	}
	return nil, errorOf(wire.InvalidRequest("request body: %s", err))
}

// httpError is an error as HTTP tells it.
type httpError struct {
	status       int
	retryAfterMs int64   // 0 = no advice
	Message      string  `json:"message"`
	Type         string  `json:"type"`
	Param        *string `json:"param"` // of the request, where one is at fault
	Code         string  `json:"code,omitempty"`
	Details      any     `json:"details,omitempty"`
}

// refuse makes an error that HTTP alone has.
func refuse(status int, kind, msg string) *httpError {
	return &httpError{status: status, Type: kind, Message: msg}
}

func tooLarge() *httpError {
	return refuse(http.StatusRequestEntityTooLarge, "invalid_request_error", "Payload too large")
}

// errorOf makes the error that WebSocket clients know too.
func errorOf(e *wire.Error) *httpError {
	kind := "api_error"
	switch e.Code {
	case wire.CodeInvalidRequest:
		kind = "invalid_request_error"
	case wire.CodeForbidden, wire.CodeNotPaired:
		kind = "permission_error"
	}
	return &httpError{e.Code.HTTPStatus(), e.RetryAfterMs, e.Message, kind, paramOf(e), string(e.Code), e.Details}
}

// paramOf is the place in a request's body that a message begins with, as in
// «tools.0.type: …» or «at /input: …».
func paramOf(e *wire.Error) *string {
	at, _, ok := strings.Cut(e.Message, ": ")
	at = strings.ReplaceAll(strings.TrimPrefix(at, "at /"), "/", ".")
	if !ok || e.Code != wire.CodeInvalidRequest || at == "" || strings.ContainsAny(at, " \"'`") {
		return nil
	}
	return &at
}

// Error makes a refusal that only HTTP has an error.
func (e *httpError) Error() string { return e.Message }

// refusal is any error as HTTP tells it.
func (g *Gateway) refusal(err error) *httpError {
	var e *httpError
	if errors.As(err, &e) {
		return e
	}
	return errorOf(g.asWire(err))
}

// body is the error as an answer or an event of a stream holds it.
func (e *httpError) body() any {
	return struct {
		Error *httpError `json:"error"`
	}{e}
}

func (e *httpError) write(w http.ResponseWriter) {
	if e.status == http.StatusUnauthorized {
		w.Header().Set("WWW-Authenticate", `Bearer realm="openclaw"`) // RFC 9110 §11.6.1
	}
	if e.retryAfterMs > 0 {
		w.Header().Set("Retry-After", strconv.FormatInt((e.retryAfterMs+999)/1000, 10))
	}
	writeJSON(w, e.status, e.body())
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	data, err := wire.Marshal(v)
	if err != nil { // only values of our own come here
		status, data = http.StatusInternalServerError, []byte(`{"error":{"message":"internal error","type":"api_error"}}`)
	}
	writeRaw(w, status, data)
}

func writeRaw(w http.ResponseWriter, status int, data []byte) {
	writeAs(w, status, "application/json; charset=utf-8", data)
}

func writeAs(w http.ResponseWriter, status int, mime string, data []byte) {
	h := w.Header()
	h.Set("Content-Type", mime)
	h.Set("Content-Length", strconv.Itoa(len(data)))
	http.NewResponseController(w).SetWriteDeadline(time.Now().Add(writeTimeout))
	w.WriteHeader(status)
	w.Write(data)
}

// healthz says that the process serves, and nothing else.
func (g *Gateway) healthz(w http.ResponseWriter, r *http.Request, who principal) {
	w.Header().Set(markHeader, markValue)
	writeRaw(w, http.StatusOK, []byte(liveBody))
}

// readyz says whether work is taken; why not is told to who may know.
func (g *Gateway) readyz(w http.ResponseWriter, r *http.Request, who principal) {
	failing := g.failing()
	out := map[string]any{"ready": len(failing) == 0}
	if who != "" {
		out["failing"], out["uptimeMs"] = failing, g.uptime().Milliseconds()
		if list := g.channelAccounts(); len(list) > 0 {
			out["channels"] = list
		}
	}
	status := http.StatusOK
	if len(failing) > 0 {
		status = http.StatusServiceUnavailable
		w.Header().Set("Retry-After", "5")
	}
	writeJSON(w, status, out)
}

// startupz says that start-up is over; nothing is served before.
func (g *Gateway) startupz(w http.ResponseWriter, r *http.Request, who principal) {
	out := map[string]any{"ok": true, "status": "started"}
	if who != "" {
		out["version"], out["uptimeMs"] = g.version, g.uptime().Milliseconds()
	}
	writeJSON(w, http.StatusOK, out)
}
