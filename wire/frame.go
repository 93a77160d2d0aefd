package wire

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Request is one request of a client.
type Request struct {
	ID     string
	Method string
	Params Raw // nil = absent; aliases the message
	RawID  Raw // ID as it was written; aliases the message
}

// FrameError is a message that is JSON, but no request. It can be answered.
type FrameError struct {
	ID  Raw    // the id to answer to, as JSON: the sender's own, else "invalid"
	Msg string // for the client
}

func (e *FrameError) Error() string { return e.Msg }

// Append appends the answer to the message.
func (e *FrameError) Append(dst []byte) []byte {
	return appendError(dst, e.ID, InvalidRequest("%s", e.Msg), nil)
}

// ParseRequest reads a client's message. The error is a *SyntaxError for what is not JSON and a
// *FrameError for what is not a request. Params have passed all of Decode's checks that concern
// JSON itself, whatever they hold.
func ParseRequest(msg []byte) (Request, error) {
	var r Request
	if plain := r.read(msg); plain {
		return r, nil
	}
	var f struct {
		Type              string `json:"type" wire:"required,oneof=req"`
		ID                string `json:"id" wire:"required,id"`
		Method            string `json:"method" wire:"required,id"`
		Params            Raw    `json:"params" wire:"null"`
		Traceparent       string `json:"traceparent" wire:"id,max=128"`       // protocol 4, for tracing
		ExpectedProfileID string `json:"expectedProfileId" wire:"id,max=128"` // protocol 4, a guard that we have no use for
	}
	err := Decode(msg, &f)
	if _, ok := err.(*FieldError); ok {
		return Request{}, &FrameError{ID: echoID(r.RawID), Msg: "invalid request frame: " + err.Error()}
	}
	if err != nil {
		return Request{}, err
	}
	r.ID, r.Method = f.ID, f.Method
	return r, nil
}

// read reads a request as nearly all of them are written, in one pass. Of others it may
// fill in less than all, and returns false.
func (r *Request) read(msg []byte) bool {
	s := scanner{data: msg}
	if s.begin() != nil || s.peek() != '{' || s.open() != nil {
		return false
	}
	var o object
	var typ, method Raw
	known := true
	for {
		key, more, err := s.member(&o)
		if err != nil {
			return false
		}
		if !more {
			break
		}
		var value Raw
		if value, err = s.skip(); err != nil {
			return false
		}
		switch string(key) {
		case "type":
			typ = value
		case "id":
			r.RawID = value
		case "method":
			method = value
		case "params":
			r.Params = value
		default:
			known = false
		}
	}
	if !known || string(typ) != `"req"` || !simple(r.RawID) || !simple(method) || s.end() != nil {
		return false
	}
	r.ID, r.Method = string(r.RawID[1:len(r.RawID)-1]), string(method[1:len(method)-1])
	return true
}

// simple reports whether a value is a short string that is written as what it means.
func simple(raw Raw) bool {
	if len(raw) < 3 || len(raw) > maxID || raw[0] != '"' {
		return false
	}
	for _, c := range raw {
		if c == '\\' || c >= 0x7F {
			return false
		}
	}
	return true
}

// echoID returns the id to answer to: a short string or number as it was written.
func echoID(id Raw) Raw {
	if len(id) == 0 || len(id) > maxID || string(id) == `""` || strings.IndexByte(`"-0123456789`, id[0]) < 0 {
		return Raw(`"invalid"`)
	}
	return slices.Clone(id)
}

// AppendResponse appends a response that succeeded; a nil payload is absent.
func AppendResponse(dst []byte, id string, payload []byte) []byte {
	dst = append(dst, `{"type":"res","id":`...)
	dst = AppendString(dst, id)
	dst = append(dst, `,"ok":true`...)
	dst = appendMember(dst, "payload", payload)
	return append(dst, '}')
}

// AppendError appends a response that failed; a nil payload is absent.
func AppendError(dst []byte, id string, e *Error, payload []byte) []byte {
	var buf [64]byte
	return appendError(dst, AppendString(buf[:0], id), e, payload)
}

func appendError(dst []byte, id []byte, e *Error, payload []byte) []byte {
	dst = append(dst, `{"type":"res","id":`...)
	dst = append(dst, id...)
	dst = append(dst, `,"ok":false`...)
	dst = appendMember(dst, "payload", payload)
	dst = append(dst, `,"error":{"code":`...)
	dst = AppendString(dst, string(e.Code))
	dst = append(dst, `,"message":`...)
	dst = AppendString(dst, e.Message)
	if e.Details != nil {
		if details, err := Marshal(e.Details); err == nil {
			dst = appendMember(dst, "details", details)
		}
	}
	if e.Retryable {
		dst = append(dst, `,"retryable":true`...)
	}
	if e.RetryAfterMs > 0 {
		dst = append(dst, `,"retryAfterMs":`...)
		dst = strconv.AppendInt(dst, e.RetryAfterMs, 10)
	}
	return append(dst, '}', '}')
}

// AppendEvent appends an event. A nil payload, a seq of 0 and a nil stateVersion are absent.
func AppendEvent(dst []byte, event string, payload []byte, seq uint64, stateVersion []byte) []byte {
	dst = append(dst, `{"type":"event","event":`...)
	dst = AppendString(dst, event)
	dst = appendMember(dst, "payload", payload)
	if seq > 0 {
		dst = append(dst, `,"seq":`...)
		dst = strconv.AppendUint(dst, seq, 10)
	}
	dst = appendMember(dst, "stateVersion", stateVersion)
	return append(dst, '}')
}

// AppendRequest appends a request; nil params are absent.
func AppendRequest(dst []byte, id, method string, params []byte) []byte {
	dst = append(dst, `{"type":"req","id":`...)
	dst = AppendString(dst, id)
	dst = append(dst, `,"method":`...)
	dst = AppendString(dst, method)
	dst = appendMember(dst, "params", params)
	return append(dst, '}')
}

func appendMember(dst []byte, name string, value []byte) []byte {
	if value == nil {
		return dst
	}
	dst = append(dst, ',', '"')
	dst = append(dst, name...)
	dst = append(dst, '"', ':')
	return append(dst, value...)
}

// AppendString appends s as a JSON string. What is not UTF-8 becomes U+FFFD.
func AppendString(dst []byte, s string) []byte {
	dst = append(dst, '"')
	n := 0
	for n < len(s) && s[n] >= 0x20 && s[n] < utf8.RuneSelf && s[n] != '"' && s[n] != '\\' {
		n++
	}
	dst = append(dst, s[:n]...)
	for _, r := range s[n:] {
		switch {
		case r == '"' || r == '\\':
			dst = append(dst, '\\', byte(r))
		case r >= 0x20:
			dst = utf8.AppendRune(dst, r)
		case r == '\n' || r == '\r' || r == '\t':
			dst = append(dst, '\\', "tn  r"[r-'\t'])
		default:
			dst = fmt.Appendf(dst, `\u%04x`, r)
		}
	}
	return append(dst, '"')
}

// Marshal is json.Marshal without the escapes that JSON inside HTML would need.
func Marshal(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

// StateVersion numbers the states of presence and health that a client may have seen.
type StateVersion struct {
	Presence int64 `json:"presence" wire:"required,min=0"`
	Health   int64 `json:"health" wire:"required,min=0"`
}

// Inbound is one message of a gateway. Its Raw members alias the message.
type Inbound struct {
	Type         string // "res" or "event"; others are to be ignored
	ID           string // of the request that a response answers
	OK           bool
	Payload      Raw    // nil = absent
	Error        *Error // set in a response that is not OK
	Event        string
	Seq          uint64 // 0 = absent
	StateVersion Raw    // nil = absent
}

// ParseInbound reads a gateway's message. Unknown keys are ignored: the gateway may be newer.
func ParseInbound(msg []byte) (Inbound, error) {
	var m struct {
		Type         string `json:"type" wire:"required"`
		ID           string `json:"id"`
		OK           *bool  `json:"ok"`
		Payload      Raw    `json:"payload" wire:"null"`
		Error        *Error `json:"error"`
		Event        string `json:"event"`
		Seq          int64  `json:"seq" wire:"min=0"`
		StateVersion Raw    `json:"stateVersion"`
	}
	if err := DecodeLoose(msg, &m); err != nil {
		return Inbound{}, err
	}
	in := Inbound{Type: m.Type, ID: m.ID, Payload: m.Payload, Error: m.Error, Event: m.Event, Seq: uint64(m.Seq), StateVersion: m.StateVersion}
	missing := ""
	switch {
	case m.Type == "event" && m.Event == "":
		missing = "event"
	case m.Type == "res" && m.ID == "":
		missing = "id"
	case m.Type == "res" && m.OK == nil:
		missing = "ok"
	case m.Type == "res" && !*m.OK && m.Error == nil:
		missing = "error"
	}
	if missing != "" {
		return Inbound{}, &FieldError{Msg: requiredMsg(missing)}
	}
	in.OK = m.OK != nil && *m.OK
	return in, nil
}
