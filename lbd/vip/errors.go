package vip

import "errors"

// Errors that callers tell apart.
var (
	// ErrInvalid is returned for claims that cannot be: the text says what is wrong with them.
	ErrInvalid = errors.New("invalid claim")
	// ErrClaimed is returned when the address is claimed in this process already, by another owner or under another lease.
	ErrClaimed = errors.New("address is claimed already")
	// ErrNoInterface is returned when no interface is in the address's subnet, or the one named does not exist.
	ErrNoInterface = errors.New("no interface for this address")
	// ErrStranger is returned when somebody else answers for the address.
	ErrStranger = errors.New("somebody else has the address")
	// ErrLost is returned when a claim's lease is not valid (any more).
	ErrLost = errors.New("the lease is over")
	// ErrReleased is returned when a claim was released.
	ErrReleased = errors.New("the claim was released")
	// ErrClosed is returned when the table was closed.
	ErrClosed = errors.New("the table of addresses is closed")
	// ErrNotAllowed is returned by Check when the process may not change addresses.
	ErrNotAllowed = errors.New("not allowed to change addresses")
	// ErrUnsuited is returned by Check when the kernel does not do what safety rests on.
	ErrUnsuited = errors.New("this kernel cannot hold virtual addresses safely")
	// ErrUnread is returned by Check, Unread and Claim while the file cannot be read in which the addresses stand that this box claimed: it names what
	// may still be on this box.
	ErrUnread = errors.New("the file of claimed virtual addresses cannot be read")

	// ErrGone is returned by Kernel.Refresh when the address does not exist.
	ErrGone = errors.New("the address does not exist")
	// ErrExists is returned by Kernel.Add when the address exists.
	ErrExists = errors.New("the address exists")
	// ErrNoLink is returned by kernels and announcers when the interface does not exist, or is down.
	ErrNoLink = errors.New("the interface does not exist or is down")
)
