// Package hostdb is the vocabulary of hostmesh: names, documents, members, access lists, operations, stamps, the merge
// of replicas, immutable views of their state, and the Store that makes writes durable and visible.
//
// It owns what HostDB means. It leaves bytes on disk to a [Storage] (hostdb/badgerdb), copies on other boxes to
// hostdb/replica, HTTP to hostdb/rest, who somebody is to hostdb/auth, and what the sections of a tag mean to
// hostdb/section. It imports nothing of ours and knows no network.
//
// The state of a replica is a pure function of the set of operations it holds: replicas with the same operations
// have the same state, whatever the order they came in (merge.go). Readers take a [View]: immutable, free of locks.
package hostdb

import (
	"errors"
	"fmt"
)

// Namespaces and keys that always exist, and the reserved ones.
const (
	Hosts  = "hosts"   // every physical and virtual host
	Tags   = "tags"    // groups of hosts; sections act only here
	System = ".system" // ours: never served by /v1

	// AllTag is the tag whose members are all hosts that are not retired.
	AllTag = "all"

	// DefaultKey holds the access list of its namespace.
	DefaultKey = ".default"
)

// Limits on local writes. A receiver of a replicated operation never checks them.
const (
	MaxName    = 253     // bytes of a namespace, key or member name
	MaxData    = 1 << 20 // bytes of a document in canonical YAML
	MaxMembers = 100_000 // direct members of one key
	MaxDepth   = 64      // nesting of a document
	MaxLog     = 4096    // bytes of a log message
)

// Sentinels. Every error of a write or a parse wraps one of them.
var (
	// ErrBadName is returned when a namespace, key or member name is not allowed.
	ErrBadName = errors.New("bad name")
	// ErrInvalid is returned when a document, member list or access list cannot be understood or breaks a limit.
	ErrInvalid = errors.New("invalid value")
	// ErrTooLarge is returned when a value exceeds a limit of size.
	ErrTooLarge = errors.New("too large")
	// ErrNotFound is returned when the thing to read, rename or remove is not there.
	ErrNotFound = errors.New("not found")
	// ErrNoParent is returned when a write goes below something that does not exist.
	ErrNoParent = errors.New("parent does not exist")
	// ErrNoNamespace is returned when a write names a namespace that does not exist.
	ErrNoNamespace = errors.New("no such namespace")
	// ErrExists is returned when a rename would land on what is there.
	ErrExists = errors.New("already exists")
	// ErrCycle is returned when a member would make a key contain itself.
	ErrCycle = errors.New("cycle of members")
	// ErrNotMapping is returned when a path leads into data that is not a mapping.
	ErrNotMapping = errors.New("not a mapping")
	// ErrNotAllowed is returned when the kind of write is not offered for the target.
	ErrNotAllowed = errors.New("not allowed")
	// ErrDenied is returned when the writer has no permission; Request.Allow supplies it.
	ErrDenied = errors.New("permission denied")
	// ErrProtected is wrapped by a Validator for a write that Request.Override must lift.
	ErrProtected = errors.New("protected")
	// ErrReadOnly is returned for writes while the mesh is in read-only mode.
	ErrReadOnly = errors.New("read-only mode")
	// ErrWrittenOver is returned by Undo when others have written since over what it would take back.
	ErrWrittenOver = errors.New("written over since")
	// ErrClock is returned for local writes while this box's clock cannot be trusted.
	ErrClock = errors.New("clock is not trustworthy")
	// ErrUnavailable is returned when the storage cannot take writes.
	ErrUnavailable = errors.New("store cannot be written")
	// ErrClosed is returned by every write after Close.
	ErrClosed = errors.New("store is closed")
)

// refuse makes an error for people: a sentence with the sentinel behind it.
func refuse(sentinel error, format string, args ...any) error {
	return &refusal{msg: fmt.Sprintf(format, args...), kind: sentinel}
}

// refusal carries the sentence that people see and the sentinel that programs see.
type refusal struct {
	msg  string
	kind error
}

func (r *refusal) Error() string { return r.msg }
func (r *refusal) Unwrap() error { return r.kind }
