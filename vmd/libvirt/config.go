package libvirt

import (
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"time"

	"hostmesh/vmd"
)

// Config is what Open needs.
type Config struct {
	// URI is the hypervisor: qemu:///system, test:///default, ...; always one on this box.
	URI string
	// Mesh is the id of this mesh: domains that carry it in their metadata are ours. Empty: it is not known yet, and until
	// SetMesh tells it no domain is ours, and none is defined.
	Mesh string
	// Pool is the name of the pool that Dir is known to libvirt by. It must not be used by another agent of the box.
	Pool string
	// Dir is where volumes lie, an absolute path. It is made, with what is above it, with mode 0711: the emulator runs as
	// another user and must be able to enter. Nobody else may write files there.
	Dir string
	// ReadOnly: nothing is made or changed, neither Dir nor the pool, and methods that would return vmd.ErrUnsupported. Libvirt itself
	// is asked for a connection that can only look.
	ReadOnly bool
	// Logger gets a line when the hypervisor comes and goes; nil: the default one.
	Logger *slog.Logger
	// Limits bound what libvirt may take; the zero value stands for DefaultLimits.
	Limits Limits
}

// Limits bound what libvirt may take from an agent.
type Limits struct {
	// Calls is how many calls may be within a connection at once, those included that nobody waits for any more.
	Calls int
	// Abandoned is how many calls may hang that nobody waits for, in dead connections too; with more there is no new connection.
	Abandoned int
	// Call is how long a call may take that has no earlier deadline.
	Call time.Duration
	// Ping is how often a daemon is asked whether it lives, and Silence how long it may take to answer.
	Ping, Silence time.Duration
	// RetryMin and RetryMax are the first and the longest pause between two attempts to connect.
	RetryMin, RetryMax time.Duration
}

// DefaultLimits returns what an agent takes.
func DefaultLimits() Limits {
	return Limits{
		// The daemon reads at most 5 requests of a client at once (max_client_requests): one place stays free for the
		// question whether it lives.
		Calls: 4,
		// A thread and a few KiB each.
		Abandoned: 64,
		// Longer than libvirt's own patience with an emulator that does not answer, which is 30 s.
		Call: time.Minute,
		// A hung daemon is noticed after some 15 s; one whose box is merely loaded answers sooner.
		Ping: 3 * time.Second, Silence: 12 * time.Second,
		// A daemon that is restarted is back in less than a second; one that is not installed costs nothing worth counting.
		RetryMin: 100 * time.Millisecond, RetryMax: 10 * time.Second,
	}
}

func (c *Config) check() error {
	switch {
	case c.URI == "":
		return errors.New("a libvirt URI is needed, such as qemu:///system")
	case c.Pool == "":
		return errors.New("the name of a pool is needed")
	case !filepath.IsAbs(c.Dir):
		return fmt.Errorf("directory of volumes %q: an absolute path is needed", c.Dir)
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	if c.Limits == (Limits{}) {
		c.Limits = DefaultLimits()
	}
	return nil
}

// errReadOnly is the error of what would change something.
var errReadOnly = fmt.Errorf("%w: it was opened to look only", vmd.ErrUnsupported)

// Hanging is what Load returns: calls in libvirt, and how many of them nobody waits for any more.
type Hanging struct{ Calls, Abandoned int }

var _ vmd.Hypervisor = (*Hypervisor)(nil)
