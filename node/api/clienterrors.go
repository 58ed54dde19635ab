package api

import (
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"strings"
	"syscall"

	"github.com/danielgtaylor/huma/v2"
)

// Sentinels of the client, besides ErrNotFound; errors.Is tells them.
var (
	// ErrUnreachable is returned when no agent answers at the socket or server. When the connection broke after the
	// request was sent, the text says so, and a write may have been carried out.
	ErrUnreachable = errors.New("the agent cannot be reached")
	// ErrUnauthenticated is returned when the agent does not know who is asking.
	ErrUnauthenticated = errors.New("not logged in")
	// ErrDenied is returned when the agent knows who is asking and refuses.
	ErrDenied = errors.New("permission denied")
	// ErrProtected is returned, besides ErrDenied, when a host is Protected and the write has no override.
	ErrProtected = errors.New("protected")
	// ErrUnavailable is returned when the agent cannot do it now: its store cannot be written, or is busy. With status 504
	// of a write that asked for acknowledgements, the write stands.
	ErrUnavailable = errors.New("not available now")
	// ErrInvalid is returned when what was sent cannot be: a bad name, a value that breaks a rule, a missing log.
	ErrInvalid = errors.New("not valid")
	// ErrChanged is returned when a key is not as a condition or a compare says; Error.Current tells how it is. Read it again.
	ErrChanged = errors.New("changed since it was read")
	// ErrConflict is returned when what is there stands against it, such as a key that has the new name already.
	ErrConflict = errors.New("in conflict with what is there")
	// ErrGone is returned when a watcher's cursor is so old that what follows it is not kept any more.
	ErrGone = errors.New("not kept any more")
	// ErrTooLarge is returned when a value or a request exceeds a limit of size.
	ErrTooLarge = errors.New("too large")
)

// Error is what an agent answered instead of doing what it was asked. It matches the sentinel of its status.
type Error struct {
	Status  int    // of HTTP
	Code    string // four digits, from /v1; empty from /api
	Message string // in words
	Type    string // of the problem, a URI; mostly empty
	// Current is how the keys stand that a write found changed; only with ErrChanged, and only from /api.
	Current []Current
}

// Error returns the message with its code.
func (e *Error) Error() string {
	if e.Code == "" {
		return e.Message
	}
	return e.Message + " (" + e.Code + ")"
}

// Is matches the sentinel of the status.
func (e *Error) Is(target error) bool {
	switch e.Status {
	case http.StatusUnauthorized:
		return target == ErrUnauthenticated
	case http.StatusForbidden:
		return target == ErrDenied || target == ErrProtected && (e.Code == "4035" || e.Type == typeProtected)
	case http.StatusNotFound:
		return target == ErrNotFound
	case http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return target == ErrUnavailable
	case http.StatusBadRequest:
		if e.Code == "4002" { // the new name exists
			return target == ErrConflict
		}
		return target == ErrInvalid
	case http.StatusUnprocessableEntity:
		return target == ErrInvalid
	case http.StatusConflict:
		return target == ErrConflict
	case http.StatusPreconditionFailed:
		return target == ErrChanged
	case http.StatusGone:
		return target == ErrGone
	case http.StatusRequestEntityTooLarge:
		return target == ErrTooLarge
	}
	return false
}

// answerError makes an Error of an answer. /v1 says what is wrong in CallTrace, or else in the reason phrase; /api in a
// problem document.
func answerError(resp *http.Response, body []byte) *Error {
	e := &Error{Status: resp.StatusCode}
	if code, text, ok := strings.Cut(resp.Header.Get("CallTrace"), ": "); ok {
		e.Code, e.Message = code, text
		return e
	}
	var p changedProblem
	if json.Unmarshal(body, &p) == nil && p.Detail != "" {
		e.Message, e.Type, e.Current = problemText(&p.ErrorModel), p.Type, p.Current
		return e
	}
	if _, phrase, ok := strings.Cut(resp.Status, " "); ok && phrase != "" {
		e.Message = phrase
		return e
	}
	e.Message = fmt.Sprintf("the answer has status %d and no message", resp.StatusCode)
	return e
}

// problemText is a problem document as one line: what is wrong, and where.
func problemText(p *huma.ErrorModel) string {
	text := p.Detail
	for i, d := range p.Errors {
		sep := "; "
		if i == 0 {
			sep = ": "
		}
		text += sep + d.Message
		if d.Location != "" {
			text += " (" + d.Location + ")"
		}
	}
	return text
}

// unreachable says why no agent answered, and what to look at.
func (c *Client) unreachable(err error) error {
	var unknownCA x509.UnknownAuthorityError
	var wrongName x509.HostnameError
	var expired x509.CertificateInvalidError
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) {
		return fmt.Errorf("%w: %s broke the connection off before it answered: %w (a write may have been carried out: look before you repeat it)",
			ErrUnreachable, c.Where(), cause(err))
	}
	if c.socket != "" {
		remedy := "is the agent running? Look with: systemctl status hostmesh"
		switch {
		case errors.Is(err, fs.ErrNotExist):
			remedy = "is the agent running? If its data directory is not the default, name the socket with --socket or HOSTMESH_SOCKET"
		case errors.Is(err, fs.ErrPermission):
			remedy = "this user may not use the socket: try as root"
		case errors.Is(err, syscall.ECONNREFUSED):
			remedy = "the socket is there but nobody listens: the agent has stopped"
		}
		return fmt.Errorf("%w at the socket %s: %w (%s)", ErrUnreachable, c.socket, cause(err), remedy)
	}
	remedy := "is the agent running there, and does the address follow http or https in its configuration?"
	switch {
	case errors.As(err, &unknownCA):
		remedy = "name the file with the authority's certificate with --ca"
	case errors.As(err, &wrongName), errors.As(err, &expired):
		remedy = "the agent there shows a certificate that is not for this address or time"
	}
	return fmt.Errorf("%w at %s: %w (%s)", ErrUnreachable, c.base, cause(err), remedy)
}
