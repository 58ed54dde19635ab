package local

import (
	"errors"

	"hostmesh/lbd/mysqlha"
)

// Errors beside those of mysqlha.Local.
var (
	// ErrDamaged is returned for each order while the file of a cluster cannot be understood. State tells it as the mark.
	ErrDamaged = errors.New("what this host has promised about the server is not known")
	// ErrNotServing is returned by Start when the server ends instead of serving, or does not serve in time; then it may still.
	ErrNotServing = errors.New("server does not serve")
	// ErrBusy is returned while a clone is made from or to this host.
	ErrBusy = mysqlha.ErrBusy
	// ErrSpace is returned by Clone when the disk has no place for a second set of data.
	ErrSpace = errors.New("not enough space for a clone")
	// ErrClone is returned when a clone failed; the former data is back.
	ErrClone = errors.New("clone failed")
	// ErrUnverified is returned for a copy of a server that is itself a copy which nobody has found right.
	ErrUnverified = errors.New("server is a copy that was not compared")
	// ErrWritable is returned by Clone for a server that takes writes: it is a primary.
	ErrWritable = errors.New("server takes writes")
	// ErrAddress is returned when the address of the primary cannot be here.
	ErrAddress = errors.New("address of the primary cannot be here")
	// ErrClosed is returned after Close.
	ErrClosed = errors.New("closed")
)
