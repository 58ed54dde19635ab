package vmd

import (
	"errors"
	"fmt"

	"github.com/fxamacker/cbor/v2"
)

// The names of the calls between agents (mesh.Call and mesh.Handle). Requests and answers are the structs below in CBOR
// (Encode, Decode). An error that a handler returns crosses with a code, one of the Code constants.
const (
	CallReserve = "vm.reserve.1" // Offer -> Reserved: the placer asks a box to take a machine
	CallReboot  = "vm.reboot.1"  // Reboot -> Done
	CallConsole = "vm.console.1" // ConsoleRead -> ConsolePart
	CallPurge   = "vm.purge.1"   // Purge -> Done
	CallRetry   = "vm.retry.1"   // Retry -> Done
)

// Codes of the errors of the calls; see mesh.RemoteError.
const (
	CodeNotHere   = "vm_not_here"  // this box has no such machine
	CodeProtected = "vm_protected" // it is protected, and no override was given
	CodeState     = "vm_state"     // the machine is not in a state in which this can be done; the text says which it is in
	CodeAway      = "vm_away"      // the hypervisor cannot be reached
	CodeInvalid   = "vm_invalid"   // the request cannot be understood
	CodeFence     = "vm_fence"     // a later placer has spoken
)

// Offer asks a box to take a machine. The record RecordKey(UUID) offers it to the box already.
type Offer struct {
	UUID string `cbor:"1,keyasint"`
	Name string `cbor:"2,keyasint"` // key in hosts
	// Group and Fence are of the duty under which the placer acts: the lease group's id, and the fencing number.
	Group string `cbor:"3,keyasint"`
	Fence uint64 `cbor:"4,keyasint"`
	CPUs  int    `cbor:"5,keyasint"`
	// Memory and Disk are bytes. Disk 0 = the size of the image.
	Memory int64  `cbor:"6,keyasint"`
	Disk   int64  `cbor:"7,keyasint"`
	Image  string `cbor:"8,keyasint"`
	Subnet string `cbor:"9,keyasint,omitempty"`
	Bridge string `cbor:"10,keyasint,omitempty"`
	// Expires is when the offer ends, in Unix milliseconds of the placer's clock: a box does not begin to take it after that.
	Expires int64 `cbor:"11,keyasint"`
}

// Reserved answers an Offer.
type Reserved struct {
	Taken bool `cbor:"1,keyasint"`
	// Reason is why it is not taken: for people, and for the record.
	Reason string `cbor:"2,keyasint,omitempty"`
	// Lost: the record offers the machine to somebody else by now, so the box has not decided anything.
	Lost bool `cbor:"3,keyasint,omitempty"`
}

// Reboot asks for a machine to be booted again.
type Reboot struct {
	UUID string `cbor:"1,keyasint"`
	Hard bool   `cbor:"2,keyasint,omitempty"` // as by the reset button
	By   string `cbor:"3,keyasint,omitempty"` // who asks, for the log
	// Override is why the protection of a Protected machine is lifted; "" lifts none.
	Override string `cbor:"4,keyasint,omitempty"`
}

// ConsoleRead asks for a part of what a machine wrote to its serial console.
type ConsoleRead struct {
	UUID string `cbor:"1,keyasint"`
	// Offset is where to begin, in bytes from the beginning of the file; negative: so many bytes before its end.
	Offset int64 `cbor:"2,keyasint"`
	// Max is how many bytes to give at most; 0, and more than MaxConsole, is MaxConsole.
	Max int `cbor:"3,keyasint,omitempty"`
	// WaitMS is how long to wait for the first byte where there is none yet, at most 30,000.
	WaitMS int64 `cbor:"4,keyasint,omitempty"`
}

// MaxConsole is the longest part of a console that one call gives, in bytes.
const MaxConsole = 256 << 10

// ConsolePart is a part of a console.
type ConsolePart struct {
	Data []byte `cbor:"1,keyasint"`
	// Next is the Offset of what follows. It is lower than what was asked for when the file was begun anew.
	Next int64 `cbor:"2,keyasint"`
}

// Purge asks for a deleted machine to be removed before its time: volumes, address, name.
type Purge struct {
	UUID     string `cbor:"1,keyasint"`
	By       string `cbor:"2,keyasint,omitempty"`
	Override string `cbor:"3,keyasint,omitempty"` // as of Reboot
}

// Retry asks for a machine that failed to be tried again at once.
type Retry struct {
	UUID string `cbor:"1,keyasint"`
	By   string `cbor:"2,keyasint,omitempty"`
}

// Done answers what has no answer but that it was done, or begun: what becomes of it is in the box's report.
type Done struct {
	Text string `cbor:"1,keyasint,omitempty"` // for people: what happens now
}

// recordFormat is the version of Record and Destroys as they stand in the lease log.
const recordFormat = 1

// Keys of the records in the lease log.
const (
	recordPrefix = "vm/machine/"
	// DestroysKey is the record of destroys: one of Destroys.
	DestroysKey = "vm/destroys"
	// NameSpace is the space of lease.ClaimName in which a host's key belongs to the UUID of its machine.
	NameSpace = "vm"
)

// RecordKey is the key of a machine's record.
func RecordKey(uuid string) string { return recordPrefix + uuid }

// RecordState is where a machine stands between the placer and the boxes.
type RecordState string

// The states of a record. From offered a machine may go to another box, from taken never, unless its box gives it up.
const (
	Offered RecordState = "offered" // to Node, until Expires
	Taken   RecordState = "taken"   // by Node, the only box that may ever make it
	Refused RecordState = "refused" // by Node, for Reason: the placer may offer it to another
)

// Record is what the lease log says of a machine: which box is to have it. A machine is made only by a box whose Record
// says that it took it.
type Record struct {
	Format int         `cbor:"1,keyasint"` // recordFormat
	UUID   string      `cbor:"2,keyasint"`
	Name   string      `cbor:"3,keyasint"` // key in hosts when it was placed
	State  RecordState `cbor:"4,keyasint"`
	Node   string      `cbor:"5,keyasint"` // id of the box
	Box    string      `cbor:"6,keyasint"` // its host name
	Fence  uint64      `cbor:"7,keyasint"` // of the placer that wrote it last
	CPUs   int         `cbor:"8,keyasint"`
	// Memory and Disk are bytes.
	Memory  int64 `cbor:"9,keyasint"`
	Disk    int64 `cbor:"10,keyasint"`
	Expires int64 `cbor:"11,keyasint,omitempty"` // of an offer: Unix milliseconds
	// Tried are the boxes that refused it, oldest first; the last refused it when State is Refused.
	Tried []Attempt `cbor:"12,keyasint,omitempty"`
	// Wish is a digest of what HostDB wanted when it was tried: another wish begins anew.
	Wish string `cbor:"13,keyasint,omitempty"`
}

// Attempt is a box that could not have a machine.
type Attempt struct {
	Node   string `cbor:"1,keyasint" json:"node"`
	Box    string `cbor:"2,keyasint" json:"box"`
	Reason string `cbor:"3,keyasint" json:"reason"`
	At     int64  `cbor:"4,keyasint" json:"at_ms"` // Unix milliseconds
}

// Destroys is the record of the machines that were destroyed in a datacenter lately, and of those that may be although
// there were many.
type Destroys struct {
	Format int `cbor:"1,keyasint"` // recordFormat
	// Recent are the tickets of the last hour, oldest first.
	Recent []Ticket `cbor:"2,keyasint,omitempty"`
	// Approved are the UUIDs that a person let through, each until it is used.
	Approved []Approval `cbor:"3,keyasint,omitempty"`
}

// Ticket lets one machine be destroyed.
type Ticket struct {
	UUID string `cbor:"1,keyasint" json:"uuid"`
	At   int64  `cbor:"2,keyasint" json:"at_ms"` // Unix milliseconds
	// Approved: a person let it through, so it does not count among those of the hour.
	Approved bool `cbor:"3,keyasint,omitempty" json:"approved,omitempty"`
}

// Approval lets a machine be destroyed beyond the number of the hour.
type Approval struct {
	UUID string `cbor:"1,keyasint" json:"uuid"`
	By   string `cbor:"2,keyasint,omitempty" json:"by,omitempty"`
	At   int64  `cbor:"3,keyasint" json:"at_ms"` // Unix milliseconds
}

var (
	encoding = func() cbor.EncMode {
		m, err := cbor.CoreDetEncOptions().EncMode()
		if err != nil {
			panic(err) // fixed options
		}
		return m
	}()
	decoding = func() cbor.DecMode {
		m, err := cbor.DecOptions{MaxNestedLevels: 8, MaxArrayElements: 100_000, MaxMapPairs: 1000}.DecMode()
		if err != nil {
			panic(err)
		}
		return m
	}()
)

// Encode makes the CBOR of a request, an answer or a record.
func Encode(v any) []byte {
	b, err := encoding.Marshal(v)
	if err != nil {
		panic(err) // structs of this file only
	}
	return b
}

// Decode reads what Encode made, here or on another box. Fields of a newer build are skipped.
func Decode(b []byte, v any) error {
	if err := decoding.Unmarshal(b, v); err != nil {
		return fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	return nil
}

var (
	// ErrMalformed is returned for bytes that are no message or record of ours.
	ErrMalformed = errors.New("it cannot be read")
	// ErrNewer is returned for a record that a newer build wrote.
	ErrNewer = errors.New("a newer hostmesh wrote it: upgrade this agent")
)

// callError is an error of a handler; its code crosses (mesh.CodedError).
type callError struct {
	code string
	err  error
}

func (e *callError) Error() string     { return e.err.Error() }
func (e *callError) Unwrap() error     { return e.err }
func (e *callError) ErrorCode() string { return e.code }

func coded(code, format string, args ...any) error {
	return &callError{code, fmt.Errorf(format, args...)}
}
