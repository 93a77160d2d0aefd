package gateway

import (
	"errors"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

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

// route is one HTTP endpoint.
type route struct {
	methods   string // allowed ones, as the Allow header says them
	pattern   string // a path, or with a trailing /* a path and what is below it
	auth      bool
	scope     wire.Scope
	bodyLimit func(*config.Config) int64 // nil: no body is read
	enabled   func(*config.Config) bool  // nil: always
	handler   func(g *Gateway, w http.ResponseWriter, r *http.Request, who principal)
}

// routeTable lists what the base port serves besides WebSocket.
func routeTable() []route {
	maxPayload := func(c *config.Config) int64 { return int64(c.Gateway.Limits.MaxPayload) }
	chat := func(c *config.Config) bool { return c.Gateway.HTTP.Endpoints.ChatCompletions.Enabled }
	models := func(c *config.Config) bool { return c.Gateway.HTTP.Endpoints.Models.Enabled }
	return []route{
		{methods: "GET, HEAD", pattern: "/healthz", handler: (*Gateway).healthz},
		{methods: "GET, HEAD", pattern: "/health", handler: (*Gateway).healthz},
		{methods: "GET, HEAD", pattern: "/readyz", handler: (*Gateway).readyz},
		{methods: "GET, HEAD", pattern: "/ready", handler: (*Gateway).readyz},
		{methods: "GET, HEAD", pattern: "/startupz", handler: (*Gateway).startupz},
		{methods: "POST", pattern: "/v1/chat/completions", auth: true, scope: wire.ScopeWrite, bodyLimit: maxPayload, enabled: chat, handler: (*Gateway).chatCompletions},
		{methods: "GET", pattern: "/v1/models", auth: true, scope: wire.ScopeRead, enabled: models, handler: (*Gateway).modelsList},
		{methods: "GET", pattern: "/v1/models/*", auth: true, scope: wire.ScopeRead, enabled: models, handler: (*Gateway).modelGet},
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
			writeJSON(w, http.StatusInternalServerError, errorBody(asWireQuiet(panicked)))
		}
	}()
	defer g.contained(r.Method+" "+clip(r.URL.Path, 64), &panicked)
	snap := g.snapshot()
	setHeaders(w.Header())
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

// route answers an admitted HTTP request.
func (g *Gateway) route(w http.ResponseWriter, r *http.Request, snap *snapshot, from client) {
	rt := g.find(snap.cfg, r.URL.Path)
	if rt == nil {
		(&refusal{http.StatusNotFound, "not_found", "Not Found"}).write(w)
		return
	}
	if !allows(rt.methods, r.Method) {
		w.Header().Set("Allow", rt.methods)
		(&refusal{http.StatusMethodNotAllowed, "invalid_request_error", "Method Not Allowed"}).write(w)
		return
	}
	var who principal
	if rt.auth || len(r.Header["Authorization"]) > 0 {
		var status int
		var e *wire.Error
		who, status, e = g.authorize(r, from)
		if status != http.StatusOK && rt.auth {
			denyHTTP(w, status, e)
			return
		}
	}
	if enc := r.Header.Get("Content-Encoding"); enc != "" && !strings.EqualFold(enc, "identity") {
		(&refusal{http.StatusUnsupportedMediaType, "invalid_request_error", "Content-Encoding is not supported"}).write(w)
		return
	}
	var limit int64
	if rt.bodyLimit != nil {
		limit = rt.bodyLimit(snap.cfg)
	}
	if r.ContentLength > limit {
		(&refusal{http.StatusRequestEntityTooLarge, "invalid_request_error", "Payload too large"}).write(w)
		return
	}
	r.Body = &body{ReadCloser: http.MaxBytesReader(w, r.Body, limit), ctl: http.NewResponseController(w)}
	rt.handler(g, w, r, who)
}

func allows(methods, method string) bool {
	for m := range strings.SplitSeq(methods, ", ") {
		if m == method {
			return true
		}
	}
	return false
}

// denyHTTP answers a request without a good credential. The connection ends:
// who is not let in holds no place.
func denyHTTP(w http.ResponseWriter, status int, e *wire.Error) {
	h := w.Header()
	h.Set("Connection", "close")
	switch {
	case status == http.StatusTooManyRequests:
		h.Set("Retry-After", strconv.FormatInt((e.RetryAfterMs+999)/1000, 10))
		(&refusal{status, "rate_limited", "Too many failed authentication attempts. Please try again later."}).write(w)
	case status == http.StatusBadRequest:
		(&refusal{status, "invalid_request_error", e.Message}).write(w)
	default:
		h.Set("WWW-Authenticate", `Bearer realm="openclaw"`)
		(&refusal{status, "unauthorized", "Unauthorized"}).write(w)
	}
}

// body is a request body that must keep coming: a client that sends less than
// bodyStep bytes in bodyStall is cut off.
type body struct {
	io.ReadCloser
	ctl  *http.ResponseController
	read int
	next int
}

func (b *body) Read(p []byte) (int, error) {
	if b.read >= b.next {
		b.ctl.SetReadDeadline(time.Now().Add(bodyStall))
		b.next = b.read + bodyStep
	}
	n, err := b.ReadCloser.Read(p)
	b.read += n
	if err == io.EOF {
		b.ctl.SetReadDeadline(time.Time{})
	}
	return n, err
}

// readBody reads a request's whole body within the route's limit.
func readBody(w http.ResponseWriter, r *http.Request) ([]byte, *wire.Error) {
	data, err := io.ReadAll(r.Body)
	var tooLarge *http.MaxBytesError
	var timeout net.Error
	switch {
	case err == nil:
		return data, nil
	case errors.As(err, &tooLarge):
		return nil, &wire.Error{Code: codeTooLarge, Message: "Payload too large"}
	case errors.As(err, &timeout) && timeout.Timeout():
		return nil, &wire.Error{Code: codeTooSlow, Message: "Request body came too slowly"}
	}
	return nil, wire.InvalidRequest("request body: %s", err)
}

// Codes that exist on the HTTP side only.
const (
	codeTooLarge wire.Code = "PAYLOAD_TOO_LARGE"
	codeTooSlow  wire.Code = "REQUEST_TIMEOUT"
)

// refusal is an HTTP error decided before a handler runs.
type refusal struct {
	status int
	kind   string
	msg    string
}

func (f *refusal) write(w http.ResponseWriter) {
	writeJSON(w, f.status, httpError{httpErrorBody{Message: f.msg, Type: f.kind}})
}

type httpError struct {
	Error httpErrorBody `json:"error"`
}

type httpErrorBody struct {
	Message string `json:"message"`
	Type    string `json:"type"`
	Code    string `json:"code,omitempty"`
	Details any    `json:"details,omitempty"`
}

// errorBody is how HTTP tells an error.
func errorBody(e *wire.Error) httpError {
	b := httpErrorBody{Message: e.Message, Type: "api_error", Code: string(e.Code), Details: e.Details}
	switch e.Code {
	case wire.CodeInvalidRequest, codeTooLarge, codeTooSlow:
		b.Type = "invalid_request_error"
	case wire.CodeForbidden, wire.CodeNotPaired:
		b.Type = "permission_error"
	}
	return httpError{b}
}

// writeError answers with an error object.
func writeError(w http.ResponseWriter, e *wire.Error) {
	status := e.Code.HTTPStatus()
	switch e.Code {
	case codeTooLarge:
		status = http.StatusRequestEntityTooLarge
	case codeTooSlow:
		status = http.StatusRequestTimeout
	}
	if e.RetryAfterMs > 0 {
		w.Header().Set("Retry-After", strconv.FormatInt((e.RetryAfterMs+999)/1000, 10))
	}
	writeJSON(w, status, errorBody(e))
}

// writeJSON answers with a value.
func writeJSON(w http.ResponseWriter, status int, v any) {
	data, err := encodeJSON(v)
	if err != nil { // only values of our own come here
		status, data = http.StatusInternalServerError, []byte(`{"error":{"message":"internal error","type":"api_error"}}`)
	}
	writeRaw(w, status, data)
}

func writeRaw(w http.ResponseWriter, status int, data []byte) {
	h := w.Header()
	h.Set("Content-Type", "application/json; charset=utf-8")
	h.Set("Content-Length", strconv.Itoa(len(data)))
	http.NewResponseController(w).SetWriteDeadline(time.Now().Add(writeTimeout))
	w.WriteHeader(status)
	w.Write(data)
}

// encodeJSON is how every payload and body of ours is encoded.
func encodeJSON(v any) ([]byte, error) { return wire.Marshal(v) }

// healthz says that the process serves, and nothing else.
func (g *Gateway) healthz(w http.ResponseWriter, r *http.Request, who principal) {
	w.Header().Set(markHeader, markValue)
	writeRaw(w, http.StatusOK, []byte(liveBody))
}

// readyz says whether work is taken; why not is told to who may know.
func (g *Gateway) readyz(w http.ResponseWriter, r *http.Request, who principal) {
	failing := g.failing()
	out := struct {
		Ready    bool     `json:"ready"`
		Failing  []string `json:"failing,omitempty"`
		UptimeMs int64    `json:"uptimeMs,omitempty"`
	}{Ready: len(failing) == 0}
	if who != "" {
		out.Failing, out.UptimeMs = failing, g.uptime().Milliseconds()
	}
	status := http.StatusOK
	if !out.Ready {
		status = http.StatusServiceUnavailable
		w.Header().Set("Retry-After", "5")
	}
	writeJSON(w, status, out)
}

// startupz says that start-up is over; nothing is served before.
func (g *Gateway) startupz(w http.ResponseWriter, r *http.Request, who principal) {
	out := struct {
		OK       bool   `json:"ok"`
		Status   string `json:"status"`
		Version  string `json:"version,omitempty"`
		UptimeMs int64  `json:"uptimeMs,omitempty"`
	}{OK: true, Status: "started"}
	if who != "" {
		out.Version, out.UptimeMs = g.version, g.uptime().Milliseconds()
	}
	writeJSON(w, http.StatusOK, out)
}
