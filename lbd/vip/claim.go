package vip

import (
	"fmt"
	"net/netip"
	"time"
)

// Lease says whether an address may be here; *lease.Grant is one. Its methods must be safe for concurrent use, and it must be comparable.
type Lease interface {
	Valid() bool
	// Renewal is how long ago the renewal was sent on which it is valid now, and for how long it still is.
	Renewal() (ago, left time.Duration)
	// Renewed has one slot, which is filled whenever it is valid for longer than before. The Table empties it: nobody else may wait on it.
	Renewed() <-chan struct{}
}

// Claim is an address that is to be on this box while a lease is valid.
type Claim struct {
	Addr netip.Addr
	// Bits are those of the prefix that the address gets; 0 = all of them, which is right for nearly all: no route comes and goes with it, and it
	// does not go with another address of its subnet.
	Bits int
	// Interface is its name; "" = the one in the address's subnet (Table.InterfaceFor).
	Interface string
	// Owner is whose it is, for people: a duty.
	Owner string
	Lease Lease
	// Former is, after the lease became valid, for how long an unknown answer may be that of a former holder, which is waited for; it is 2.6 s at least.
	Former time.Duration
	// Keep lets the address stay when the lease is over, until somebody else has it; see the package comment for what that gives up.
	Keep bool
}

func (c *Claim) check() error {
	c.Addr = c.Addr.Unmap()
	switch {
	case !c.Addr.IsValid() || c.Addr.Zone() != "" || c.Addr.IsUnspecified() || c.Addr.IsLoopback() || c.Addr.IsMulticast() || c.Addr.IsLinkLocalUnicast():
		return fmt.Errorf("%w: %s cannot be a virtual address; give an address that neighbours can reach", ErrInvalid, c.Addr)
	case c.Bits < 0 || c.Bits > c.Addr.BitLen():
		return fmt.Errorf("%w: %s with a prefix of %d bits; give 0 to %d", ErrInvalid, c.Addr, c.Bits, c.Addr.BitLen())
	case c.Lease == nil:
		return fmt.Errorf("%w: %s without a lease", ErrInvalid, c.Addr)
	case c.Owner == "":
		return fmt.Errorf("%w: %s without an owner", ErrInvalid, c.Addr)
	}
	if c.Bits == 0 {
		c.Bits = c.Addr.BitLen()
	}
	return nil
}

// State is how a claim stands, for people and programs.
type State struct {
	Addr      netip.Addr `json:"addr"`
	Bits      int        `json:"bits"`
	Interface string     `json:"interface"`
	Owner     string     `json:"owner"`
	Phase     Phase      `json:"phase"`
	Why       string     `json:"why,omitempty"`
	Since     time.Time  `json:"since"`              // of this phase
	Stranger  string     `json:"stranger,omitempty"` // the hardware address of who else has it, or said so last
	Conflicts uint64     `json:"conflicts"`          // how often somebody else announced it while it was here
	Announced uint64     `json:"announced"`          // how often it was announced
}

// Here reports whether the address is on this box, as far as it knows.
func (s State) Here() bool { return s.Phase == Held || s.Phase == Kept || s.Phase == Leaving }
