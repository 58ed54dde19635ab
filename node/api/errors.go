package api

import "errors"

// Sentinels of the client; errors.Is tells them. ErrNotFound is also what the interfaces of this package return for
// something that is not there.
var (
	// ErrUnreachable is returned when no agent answers at the socket or server.
	ErrUnreachable = errors.New("agent cannot be reached")
	// ErrUnauthenticated is returned when the agent does not know who is asking.
	ErrUnauthenticated = errors.New("not logged in")
	// ErrDenied is returned when the agent knows who is asking and refuses.
	ErrDenied = errors.New("permission denied")
	// ErrNotFound is returned when what was asked for is not there.
	ErrNotFound = errors.New("not found")
	// ErrRefused is returned for any other request that the agent understood and did not carry out.
	ErrRefused = errors.New("refused")
	// ErrUnavailable is returned when the agent cannot do it now: its store cannot be written, or is busy.
	ErrUnavailable = errors.New("not available now")
)
