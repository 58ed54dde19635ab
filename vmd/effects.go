package vmd

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"time"

	"hostmesh/hostdb"
	"hostmesh/mesh"
	"hostmesh/mesh/lease"
	"hostmesh/mesh/report"
)

// Records are the records, names and grants of the datacenter's lease group: *lease.Lease. Errors are those of package lease.
type Records interface {
	Get(ctx context.Context, key string) (lease.Record, error)
	Put(ctx context.Context, key string, value []byte, version uint64) (uint64, error)
	Delete(ctx context.Context, key string, version uint64) error
	List(ctx context.Context, prefix string) (lease.Changes, error)
	ClaimName(ctx context.Context, space, name, owner string) error
	FreeName(ctx context.Context, space, name, owner string) error
	Grant(ctx context.Context, pool string, choices []string) (string, error)
	GiveBack(ctx context.Context, pool, choice string) error
	Granted(pool string) ([]string, error)
}

// DB is HostDB: *hostdb.Store.
type DB interface {
	View() hostdb.View
	Update(ctx context.Context, req hostdb.Request, fn func(*hostdb.Tx) error) (hostdb.Commit, error)
}

// Calls carries calls between agents: *mesh.Mesh.
type Calls interface {
	Call(ctx context.Context, node, name string, req []byte) ([]byte, error)
	Handle(name string, h mesh.Handler)
}

// Reporter tells the mesh what this node observes: *mesh.Mesh.
type Reporter interface {
	Report(edit func(*report.Report))
}

var (
	// ErrNoImage is wrapped by Images.Ensure when no box and no URL has the image, or the catalogue has none of that name.
	ErrNoImage = errors.New("the image cannot be had")
	// ErrBadImage is wrapped by Images.Ensure for an image that is not what its checksum says; trying again here does not help.
	ErrBadImage = errors.New("the image is not what it should be")
)

// Images are the base images of this box.
type Images interface {
	// Ensure brings an image here, verified, and returns its files. It blocks while the image is fetched; callers of one image
	// share that. The files stay while a domain refers to them.
	Ensure(ctx context.Context, name string) (Image, error)
	// Have are the images that are here and verified: name -> SHA-256 in hex.
	Have() map[string]string
	// Seed is the content of a volume with which a guest configures itself.
	Seed(g Guest) ([]byte, error)
	// Cmdline fills a template of a kernel's command line.
	Cmdline(template string, g Guest) (string, error)
}

// Image are the files of a base image on this box.
type Image struct {
	Name   string
	SHA256 string // hex
	// Base is the file that disks grow from, of Format (qcow2, raw); "" = it has none. Size is what a guest sees of it, bytes.
	Base, Format string
	Size         int64
	// Kernel and Initrd are booted directly; Kernel "" = the disk's own loader is. Cmdline is a template.
	Kernel, Initrd, Cmdline string
}

// Guest is what a machine is told of itself.
type Guest struct {
	UUID, Name, FQDN string
	MAC              net.HardwareAddr
	Addr             netip.Prefix // with the length of the network; the zero Prefix = none
	Gateway          netip.Addr   // the zero Addr = none
	Settings         hostdb.Document
}

// Clock tells the time of day.
type Clock interface{ Now() time.Time }

type wallClock struct{}

func (wallClock) Now() time.Time { return time.Now() }

// Config is what a Box needs. Begin with DefaultConfig.
type Config struct {
	// Node is this node's id, Name its host name, Mesh the mesh's id, Datacenter where it stands.
	Node, Name, Mesh, Datacenter string
	// Learn waits for the mesh's id where Mesh is empty, as it is on a node that is about to join: nothing is looked at or made before.
	Learn func(ctx context.Context) (mesh string, err error)
	// Dir is where the ledger is kept. It is made when it is not there.
	Dir string
	// Look: the box only plans. Nothing is written or answered, and Run must not be called.
	Look bool
	// Consoles is the directory of the files that serial consoles are written to; "" = none is kept.
	Consoles string
	// Hypervisor makes the machines. nil: this box has none, for the reason Unfit.
	Hypervisor Hypervisor
	Unfit      string
	Images     Images
	// Records are nil where this node takes no part in a lease group: then nothing new is taken, and nothing destroyed.
	Records Records
	// Group names the lease group and how often it was recovered; nil = that is not known. Records may have been lost when it changes.
	Group func() string
	DB    DB
	Calls Calls
	// Reports is told what is here; nil = nobody.
	Reports Reporter
	// Complete reports whether this replica of HostDB is whole and as new as that of others; nil = it is. An entry that is missing in one that is not says nothing.
	Complete func() bool
	// Bridges are those that machines may be connected to; none = all that the box has.
	Bridges []string
	// Leads tells why the machine of a host must not be rebooted or destroyed although it is not Protected, such as that it is the primary of a database
	// cluster, and what to do; "" = nothing speaks against it. It may ask others, within ctx. nil = nothing ever does.
	Leads func(ctx context.Context, host string) string
	// Keep is how long the disks of a deleted machine are kept.
	Keep time.Duration
	// Shutdown is how long a guest may take to end before its power is cut.
	Shutdown time.Duration
	// Workers is how many machines are worked on at a time, Fetches how many of them may fetch an image.
	Workers, Fetches int
	// Clock is nil for the system's.
	Clock Clock
	// Logger is nil for slog.Default().
	Logger *slog.Logger
}

// DefaultConfig returns the defaults; who the node is, Dir and the interfaces must be set.
func DefaultConfig() Config {
	return Config{
		Keep:     7 * 24 * time.Hour, // a slip on Friday evening is noticed on Monday
		Shutdown: time.Minute,        // databases write out what they have
		Workers:  16,                 // libvirt's own pool has 20
		Fetches:  2,                  // more only share the same wire
	}
}

func (c *Config) resolve() {
	if c.Clock == nil {
		c.Clock = wallClock{}
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
}
