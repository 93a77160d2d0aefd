package wire

import (
	"fmt"
	"net/http"
	"strings"
)

// Code names what went wrong, for programs. Clients compare it; people read the message.
type Code string

// The codes of the protocol. A reader must expect others and treat them as not retryable.
const (
	CodeInvalidRequest Code = "INVALID_REQUEST"
	CodeUnavailable    Code = "UNAVAILABLE"
	CodeNotLinked      Code = "NOT_LINKED"
	CodeNotPaired      Code = "NOT_PAIRED"
	CodeAgentTimeout   Code = "AGENT_TIMEOUT"
	CodeForbidden      Code = "FORBIDDEN"
)

// CodeInfo is what a code means for a caller that is told nothing else.
type CodeInfo struct {
	Code      Code
	Retryable bool // whether the same request may succeed later
	Status    int  // of HTTP
	Doc       string
}

// Codes returns the table of codes.
func Codes() []CodeInfo {
	return []CodeInfo{
		{CodeInvalidRequest, false, http.StatusBadRequest, "The caller's request is wrong and will stay wrong."},
		{CodeUnavailable, true, http.StatusServiceUnavailable, "The gateway or something behind it failed or is busy."},
		{CodeAgentTimeout, true, http.StatusGatewayTimeout, "The turn ran past its deadline."},
		{CodeForbidden, false, http.StatusForbidden, "The connection lacks a scope."},
		{CodeNotPaired, false, http.StatusForbidden, "The device is not approved."},
		{CodeNotLinked, false, http.StatusServiceUnavailable, "The chat network is not paired with an account."},
	}
}

// info returns the row of a code; one that is not in the table is an internal error.
func (c Code) info() CodeInfo {
	for _, i := range Codes() {
		if i.Code == c {
			return i
		}
	}
	return CodeInfo{Code: c, Status: http.StatusInternalServerError}
}

// HTTPStatus returns the status with which the HTTP door answers an error of this code.
func (c Code) HTTPStatus() int {
	return c.info().Status
}

// Error is what a client is told. It never carries the cause of an internal failure:
// that belongs in the log.
type Error struct {
	Code         Code   `json:"code" wire:"required,min=1"`
	Message      string `json:"message" wire:"required,min=1"`
	Details      any    `json:"details,omitempty" wire:"null"`       // for programs; nil = absent
	Retryable    bool   `json:"retryable,omitempty"`                 // the same request may succeed later
	RetryAfterMs int64  `json:"retryAfterMs,omitempty" wire:"min=0"` // 0 = no advice
}

// Error returns the message followed by the code.
func (e *Error) Error() string { return e.Message + " (" + string(e.Code) + ")" }

// Errorf returns an error of the code with the code's default retryability.
func Errorf(code Code, format string, a ...any) *Error {
	retryable := code.info().Retryable
	msg := strings.ToValidUTF8(fmt.Sprintf(format, a...), "\uFFFD")
	if msg == "" { // clients of protocol 3 drop an answer whose error has no message
		msg = string(code)
	}
	return &Error{Code: code, Message: msg, Retryable: retryable}
}

// InvalidRequest returns an error for what the caller got wrong.
func InvalidRequest(format string, a ...any) *Error { return Errorf(CodeInvalidRequest, format, a...) }

// Unavailable returns a retryable error for what the gateway cannot do now.
func Unavailable(format string, a ...any) *Error { return Errorf(CodeUnavailable, format, a...) }

// AgentTimeout returns the error of a turn that ran past its deadline.
func AgentTimeout(format string, a ...any) *Error { return Errorf(CodeAgentTimeout, format, a...) }

// Forbidden returns the error of a connection that lacks the scope.
func Forbidden(missing Scope) *Error {
	e := Errorf(CodeForbidden, "missing scope: %s", missing)
	e.Details = map[string]any{"code": "MISSING_SCOPE", "missingScope": string(missing), "requiredScopes": []string{string(missing)}}
	return e
}
