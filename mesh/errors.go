package mesh

import (
	"context"
	"errors"
	"fmt"
)

var (
	// ErrClosed is returned by calls on a mesh that is closed.
	ErrClosed = errors.New("mesh is closed")
	// ErrNotMember is returned by Call when no member has the id.
	ErrNotMember = errors.New("not a member of the mesh")
	// ErrUnreachable is returned by Call when the member cannot be reached, or the connection broke before it answered.
	// In the second case the request may have been carried out.
	ErrUnreachable = errors.New("member is unreachable")
	// ErrNoHandler is returned by Call when the member does not know the name: mostly an older version.
	ErrNoHandler = errors.New("no such handler")
	// ErrBusy is returned by Call when the member serves as many requests as it may. The request was not carried out.
	ErrBusy = errors.New("member is busy")
	// ErrTooLarge is returned by Call when the request or the answer is longer than Config.MaxFrame, and by CallUrgent when
	// it is longer than MaxUrgent.
	ErrTooLarge = errors.New("message is too large")
	// ErrWrongKey is returned when the other side does not hold this mesh's key.
	ErrWrongKey = errors.New("wrong mesh key")
	// ErrOtherMesh is returned when the other side has the same key but belongs to another mesh.
	ErrOtherMesh = errors.New("other mesh")
	// ErrWrongNode is returned when another node than the one dialled answers at an address.
	ErrWrongNode = errors.New("another node answers at this address")
	// ErrRemoved is returned when a node was removed from the mesh: its id is not accepted again.
	ErrRemoved = errors.New("node was removed from the mesh")
	// ErrAlive is returned by Remove for a member that is alive: it would come back at once.
	ErrAlive = errors.New("member is alive")
	// ErrNoJoin is returned by Open for a node that has no mesh and no address to join one.
	ErrNoJoin = errors.New("no mesh id and nothing to join")
)

// The codes with which errors cross a stream. A handler's error may have its own, see CodedError.
const (
	codeError     = "error"
	codePanic     = "panic"
	codeNoHandler = "no_handler"
	codeBusy      = "busy"
	codeTooLarge  = "too_large"
	codeDeadline  = "deadline"
	codeCanceled  = "canceled"
	codeOtherMesh = "other_mesh"
	codeWrongNode = "wrong_node"
	codeRemoved   = "removed"
	codeProtocol  = "protocol"
	codeJoining   = "joining"
)

// CodedError is an error that crosses a stream with a code of its own, so that the caller can tell it from others
// without reading its text. Codes are short, lower case, with underscores.
type CodedError interface {
	error
	ErrorCode() string
}

// RemoteError is an error that a handler on another node returned. It matches (errors.Is) the sentinel of its code:
// ErrNoHandler, ErrBusy, ErrTooLarge, context.DeadlineExceeded, ...
type RemoteError struct {
	Node string // id of the node that answered
	Name string // what was called
	Code string // "error" when the handler's error had none
	Text string
}

// Error returns the remote text, with where it came from.
func (e *RemoteError) Error() string {
	return fmt.Sprintf("%s on node %s: %s", e.Name, e.Node, e.Text)
}

// ErrorCode returns Code, so that an error which is passed on keeps it.
func (e *RemoteError) ErrorCode() string { return e.Code }

// Is matches the sentinel of the code.
func (e *RemoteError) Is(target error) bool {
	s := codeSentinels(e.Code)
	return s != nil && s == target
}

func codeSentinels(code string) error {
	switch code {
	case codeNoHandler:
		return ErrNoHandler
	case codeBusy:
		return ErrBusy
	case codeTooLarge:
		return ErrTooLarge
	case codeDeadline:
		return context.DeadlineExceeded
	case codeCanceled:
		return context.Canceled
	case codeOtherMesh:
		return ErrOtherMesh
	case codeWrongNode:
		return ErrWrongNode
	case codeRemoved:
		return ErrRemoved
	}
	return nil
}

// errorCode chooses the code with which a handler's error crosses.
func errorCode(err error) string {
	var coded CodedError
	switch {
	case errors.As(err, &coded) && coded.ErrorCode() != "":
		return coded.ErrorCode()
	case errors.Is(err, context.DeadlineExceeded):
		return codeDeadline
	case errors.Is(err, context.Canceled):
		return codeCanceled
	case errors.Is(err, ErrTooLarge):
		return codeTooLarge
	}
	return codeError
}
