// Package vmd makes the virtual machines of this box real, and finds boxes for new ones.
//
// It owns the steps from a wish in HostDB to a running machine and back, the box's ledger of what it promised, and the
// duty of placing. What should be, and where, is decided in package plan; the hypervisor is behind an interface; images
// are package image's.
package vmd

import (
	"context"
	"errors"
	"io"
	"time"

	"hostmesh/vmd/plan"
)

// MetadataVersion is the format of the metadata that a Hypervisor writes into a domain: 1 names the mesh and the address.
const MetadataVersion = 1

var (
	// ErrNoDomain is returned for a UUID that the hypervisor does not know.
	ErrNoDomain = errors.New("no such domain")
	// ErrNotOurs is returned for a domain that another made: it is not touched.
	ErrNotOurs = errors.New("the domain is not of this mesh")
	// ErrRefused is returned when the hypervisor does not accept what it was given; trying again does not help.
	ErrRefused = errors.New("the hypervisor refuses it")
	// ErrAway is returned while the hypervisor cannot be reached; it is reconnected in the background.
	ErrAway = errors.New("the hypervisor cannot be reached")
	// ErrUnsupported is returned for what this hypervisor cannot do.
	ErrUnsupported = errors.New("this hypervisor cannot do that")
)

// Hypervisor makes, runs and ends domains. Methods are safe for concurrent use, and idempotent: what is already so is no
// error. Domains without this mesh's metadata are only listed; every method that changes one returns ErrNotOurs. Errors
// wrap the sentinels above where they say more than that it failed.
type Hypervisor interface {
	// List returns all domains, foreign ones included, sorted by UUID.
	List(ctx context.Context) ([]plan.Machine, error)
	// Get returns one domain, or ErrNoDomain.
	Get(ctx context.Context, uuid string) (plan.Machine, error)
	// Define makes a domain or changes its definition; it does not start it. A running domain keeps what it has until it is
	// started again. What CheckDomain does not like, a name that another domain has, and another name for a UUID are ErrRefused.
	Define(ctx context.Context, d plan.Domain) error
	// Start starts a domain, and goes on with one that is paused.
	Start(ctx context.Context, uuid string) error
	// Shutdown asks the guest to end, and returns at once.
	Shutdown(ctx context.Context, uuid string) error
	// Destroy ends a domain as if its power was cut.
	Destroy(ctx context.Context, uuid string) error
	// Undefine forgets a domain that is off, one that is not is ErrRefused. Its disks stay. An unknown one is no error.
	Undefine(ctx context.Context, uuid string) error
	// Reboot asks the guest to boot again; hard resets it as by its button. One that is off is ErrRefused.
	Reboot(ctx context.Context, uuid string, hard bool) error
	// Stats are the running counters of a domain that runs; one that is off is ErrRefused. Foreign ones may be asked too.
	Stats(ctx context.Context, uuid string) (Stats, error)

	// CreateVolume makes a qcow2 file of size bytes (0: that of base) that grows from the file base, "" for none. It exists:
	// it is grown to size when it is smaller, and otherwise left as it is. baseFormat is qcow2 or raw.
	CreateVolume(ctx context.Context, name, base, baseFormat string, size int64) (path string, err error)
	// WriteVolume makes a file with this content, in place of what is there. Until it is whole the old one stays, or none is there.
	WriteVolume(ctx context.Context, name string, content io.Reader, size int64) (path string, err error)
	// DeleteVolume deletes a file of CreateVolume or WriteVolume; one that a domain runs with is ErrRefused. An unknown one is no error.
	DeleteVolume(ctx context.Context, name string) error
	// Volumes lists the names of the whole files there are, sorted.
	Volumes(ctx context.Context) ([]string, error)

	// Changed has one slot, which is filled when a domain changed its state, and when the hypervisor came or went.
	Changed() <-chan struct{}
	// Host is what the hypervisor runs on.
	Host(ctx context.Context) (Host, error)
	Close() error
}

// Stats are counters since the domain was started.
type Stats struct {
	CPUTime time.Duration
	// Memory and the rest are bytes.
	Memory, DiskRead, DiskWritten, NetReceived, NetSent int64
}

// Host is what a hypervisor runs on and can do.
type Host struct {
	Hypervisor string // for people: QEMU 7.2.0
	DomainType string // kvm, qemu, test
	CPUs       int
	// Memory is all of the box's, DiskFree and DiskSize are of the file system of the volumes, DiskOwn is what the volumes take of
	// it; bytes.
	Memory, DiskFree, DiskSize, DiskOwn int64
	// Bridges are interfaces that a domain can be connected to, sorted.
	Bridges []string
}
