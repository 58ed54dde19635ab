package lease

import "errors"

var (
	// ErrNoGroup is returned when this node's datacenter has no lease group that it knows of.
	ErrNoGroup = errors.New("this datacenter has no lease group")
	// ErrNoLeader is returned when no leader answered in time: there is none, or it cannot be reached.
	ErrNoLeader = errors.New("no leader of the lease group answers")
	// ErrUnknown is returned when a request may have been carried out, but the answer did not come.
	ErrUnknown = errors.New("it is not known whether it was carried out")
	// ErrConflict is returned by Put and Delete when the record has another version than the one given.
	ErrConflict = errors.New("the record was changed meanwhile")
	// ErrNotFound is returned when there is no such record, duty or node.
	ErrNotFound = errors.New("not found")
	// ErrInvalid is returned for a request that can never be carried out.
	ErrInvalid = errors.New("invalid request")
	// ErrFull is returned when the group keeps as much as it may.
	ErrFull = errors.New("the lease group keeps as much as it may")
	// ErrTaken is returned when a name or a grant belongs to somebody else.
	ErrTaken = errors.New("it belongs to somebody else")
	// ErrRecovering is returned for new names and grants in a group that was founded or recovered, until every node has claimed its own.
	ErrRecovering = errors.New("the lease group was founded or recovered, and not every node has brought in what it owns")
	// ErrIneligible is returned by Move when the node cannot take the duty.
	ErrIneligible = errors.New("the node is not eligible")
	// ErrHasGroup is returned by Found when there is a group already.
	ErrHasGroup = errors.New("there is a lease group already")
	// ErrQuorum is returned by Recover while a majority of the voters answers: nothing is lost.
	ErrQuorum = errors.New("a majority of the voters lives")
	// ErrClosed is returned by calls on what is closed.
	ErrClosed = errors.New("closed")

	// ErrExpired ends a Grant whose deadline passed without a renewal.
	ErrExpired = errors.New("the lease was not renewed in time")
	// ErrLost ends a Grant of which the leader says that it is not this node's any more.
	ErrLost = errors.New("the duty is held by nobody or by another node")
	// ErrHandOver ends a Grant's context when the holder is asked to stop and release it. The grant is valid until then.
	ErrHandOver = errors.New("the duty is to be handed over")
	// ErrReleased ends a Grant that was released.
	ErrReleased = errors.New("the duty was released")
)

// errCodes are the errors that cross from the leader to who asked, and are themselves again there.
var errCodes = map[string]error{
	"unknown": ErrUnknown, "conflict": ErrConflict, "not_found": ErrNotFound, "invalid": ErrInvalid, "full": ErrFull, "taken": ErrTaken,
	"recovering": ErrRecovering, "ineligible": ErrIneligible, "closed": ErrClosed, "lost": ErrLost,
}

// remoteError is an error of the leader, as the asker sees it.
type remoteError struct {
	sentinel error
	text     string
}

func (e *remoteError) Error() string        { return e.text }
func (e *remoteError) Is(target error) bool { return e.sentinel != nil && e.sentinel == target }

func errorCode(err error) string {
	for code, e := range errCodes {
		if errors.Is(err, e) {
			return code
		}
	}
	return "error"
}
