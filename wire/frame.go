package wire

import (
	"bytes"
	"encoding/json"
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
	s := scanner{data: msg}
	if err := s.begin(); err != nil {
		return Request{}, err
	}
	if s.peek() != '{' {
		_, err := s.skip()
		if err == nil {
			err = s.end()
		}
		if err != nil {
			return Request{}, err
		}
		return Request{}, &FrameError{ID: Raw(`"invalid"`), Msg: "invalid request frame: must be object"}
	}
	var (
		r                  Request
		typ, id, method    memberText
		unexpected, others []string
	)
	var o object
	err := s.open()
	for err == nil {
		var key []byte
		var more bool
		if key, more, err = s.member(&o); !more {
			break
		}
		switch string(key) {
		case "type":
			err = s.memberText(&typ)
		case "id":
			err = s.memberText(&id)
		case "method":
			err = s.memberText(&method)
		case "params":
			r.Params, err = s.skip()
		case "traceparent", "expectedProfileId": // protocol 4: tracing and a guard that we have no use for
			var text memberText
			if err = s.memberText(&text); err == nil {
				others = appendFault(others, string(key), text.check(128))
			}
		default:
			if len(unexpected) < maxProblems {
				unexpected = append(unexpected, "at root: "+unexpectedProperty+"'"+printable(key)+"'")
			}
			_, err = s.skip()
		}
	}
	if err == nil {
		err = s.end()
	}
	if err != nil {
		return Request{}, err
	}
	r.RawID = id.raw
	typeOK := typ.isText && string(typ.text) == "req"
	idFault, methodFault := id.check(maxID), method.check(maxID)
	if typeOK && idFault == "" && methodFault == "" && unexpected == nil && others == nil {
		r.ID, r.Method = string(id.text), string(method.text)
		return r, nil
	}

	var faults []string
	for _, m := range []struct {
		name string
		raw  Raw
	}{{"type", typ.raw}, {"id", id.raw}, {"method", method.raw}} {
		if m.raw == nil {
			faults = append(faults, requiredMsg(m.name))
		}
	}
	faults = append(faults, unexpected...)
	if typ.raw != nil && !typeOK {
		faults = append(faults, "at /type: must be equal to constant")
	}
	if id.raw != nil {
		faults = appendFault(faults, "id", idFault)
	}
	if method.raw != nil {
		faults = appendFault(faults, "method", methodFault)
	}
	faults = append(faults, others...)
	return Request{}, &FrameError{ID: id.echo(), Msg: "invalid request frame: " + strings.Join(faults, "; ")}
}

func appendFault(faults []string, name, fault string) []string {
	if fault == "" {
		return faults
	}
	return append(faults, "at /"+name+": "+fault)
}

// memberText is a member of a frame that ought to be a string.
type memberText struct {
	raw    Raw    // nil = absent
	text   []byte // unescaped
	isText bool
}

func (s *scanner) memberText(m *memberText) *SyntaxError {
	m.isText = s.peek() == '"'
	raw, err := s.skip()
	if err != nil {
		return err
	}
	m.raw = raw
	if m.isText {
		m.text = raw[1 : len(raw)-1]
		if bytes.IndexByte(m.text, '\\') >= 0 {
			m.text = unescape(nil, m.text)
		}
	}
	return nil
}

// check returns what is wrong with the member, "" if nothing.
func (m *memberText) check(limit int) string {
	switch {
	case !m.isText:
		return "must be string"
	case len(m.text) == 0:
		return "must NOT have fewer than 1 characters"
	case len(m.text) > limit:
		return "must NOT have more than " + strconv.Itoa(limit) + " characters"
	}
	for i := 0; i < len(m.text); i++ {
		// C0, DEL, and C1, which UTF-8 writes as C2 80 to C2 9F.
		if c := m.text[i]; c < 0x20 || c == 0x7F || c == 0xC2 && m.text[i+1] < 0xA0 {
			return "must NOT have control characters"
		}
	}
	return ""
}

// echo returns the id to answer to: a short string or number as it was written.
func (m *memberText) echo() Raw {
	if m.raw == nil || len(m.raw) > maxID || m.isText && len(m.text) == 0 || !m.isText && bytes.IndexByte([]byte("-0123456789"), m.raw[0]) < 0 {
		return Raw(`"invalid"`)
	}
	return slices.Clone(m.raw)
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
	const hex = "0123456789abcdef"
	dst = append(dst, '"')
	from := 0
	for i := 0; i < len(s); {
		c := s[i]
		if c >= utf8.RuneSelf {
			r, n := utf8.DecodeRuneInString(s[i:])
			if r == utf8.RuneError && n == 1 {
				dst = append(append(dst, s[from:i]...), "\uFFFD"...)
				from = i + 1
			}
			i += n
			continue
		}
		if i++; c >= 0x20 && c != '"' && c != '\\' {
			continue
		}
		dst = append(dst, s[from:i-1]...)
		from = i
		switch c {
		case '"', '\\':
			dst = append(dst, '\\', c)
		case '\n':
			dst = append(dst, '\\', 'n')
		case '\r':
			dst = append(dst, '\\', 'r')
		case '\t':
			dst = append(dst, '\\', 't')
		default:
			dst = append(dst, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		}
	}
	return append(append(dst, s[from:]...), '"')
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
