package nft

import "errors"

// Errors of this package.
var (
	// ErrTable is returned for a Table that contradicts itself. Nothing was changed.
	ErrTable = errors.New("bad table of services")
	// ErrNotEligible is returned by Check: this box cannot do what a balancer has to, and the error says why and what would help.
	ErrNotEligible = errors.New("this box cannot balance load with nftables")
	// ErrClosed is returned after Close.
	ErrClosed = errors.New("the balancer is closed")
)
