package plan

import (
	"errors"
	"net"
	"net/netip"
	"time"

	"hostmesh/hostdb"
)

var (
	// ErrNeedBlock is returned while the box's blocks are used up and it may ask for another.
	ErrNeedBlock = errors.New("the blocks of this box are used up")
	// ErrFull is returned when a Subnet has no address left that may be given.
	ErrFull = errors.New("the subnet is full")
	// ErrAddress is returned for an address or a hardware address that a machine must not have.
	ErrAddress = errors.New("the address cannot be used")
)

// Rest is how long a freed address is not given again: caches of names and neighbours have forgotten it by then.
const Rest = time.Hour

// BlockSet is a pool cut into blocks of one size, which boxes own.
type BlockSet struct {
	pool netip.Prefix
	bits int // of a block
}

// Blocks cuts a pool: /27 for pools of /20 and larger, /28 below, /29 below /26; IPv6: /120. A smaller pool is one block.
func Blocks(pool netip.Prefix) BlockSet { panic("plan: to be written") }

// Count is how many there are; of more than 2^63 only so many are used. 0 for an invalid pool.
func (b BlockSet) Count() uint64 { panic("plan: to be written") }

// At is block i, from 0. It panics beyond Count.
func (b BlockSet) At(i uint64) netip.Prefix { panic("plan: to be written") }

// Contains reports whether p is one of the blocks.
func (b BlockSet) Contains(p netip.Prefix) bool { panic("plan: to be written") }

// ChoicesPage is how many choices Choices gives at most.
const ChoicesPage = 32

// Choices are blocks of a pool that a node may ask for, in an order of its own, for lease.Grant. taken are blocks that are owned
// already, by whomever: they and what overlaps them is left out. page counts from 0; the pages together hold every block once,
// and a page beyond the last is nil. A page may be empty because all of it is taken.
func Choices(s Subnet, node string, taken []string, page uint64) []string {
	panic("plan: to be written")
}

// Clash is the first of others that overlaps block and is not block itself; "" = none. The size of blocks follows the pool, so
// that boxes may own blocks of two sizes after the pool was changed: who was granted one asks again, and gives it back on a clash.
func Clash(block string, others []string) string { panic("plan: to be written") }

// AddressInput is what an address follows from.
type AddressInput struct {
	Subnet Subnet
	// Blocks are owned by this box. Those outside of the pool, as it is now, are not used.
	Blocks []netip.Prefix
	// InUse names who has an address; "" = nobody. See InUse.
	InUse func(netip.Addr) string
	// Resting are addresses that were freed, and when.
	Resting map[netip.Addr]time.Time
	Now     time.Time
	// Want is an address entered by hand; the zero Addr = any.
	Want netip.Addr
	// Last says that there is no further block to ask for.
	Last bool
}

// NextAddress is the address that a machine is given: one that was never used, else the one that rests longest, of those that
// rested for Rest. Its error wraps ErrNeedBlock, or ErrFull when Last is set, with how many rest and until when; or ErrAddress
// when Want cannot be used.
func NextAddress(in AddressInput) (netip.Addr, error) { panic("plan: to be written") }

// CheckAddress says whether a machine may have an address entered by hand: in CIDR outside of the pool, or in a block that this
// box owns; of nobody else, and nothing special. A resting one may be entered. The error wraps ErrAddress.
func CheckAddress(in AddressInput, addr netip.Addr) error { panic("plan: to be written") }

// InUse is who has an address in HostDB, but for the host itself.
func InUse(db hostdb.View, name string) func(netip.Addr) string { panic("plan: to be written") }

// MAC is the hardware address of a machine: locally administered, and the same wherever it is made.
func MAC(mesh, uuid string) net.HardwareAddr { panic("plan: to be written") }

// CheckMAC says whether a machine may have a hardware address: no other host has it. The error wraps ErrAddress.
func (p *Planner) CheckMAC(name string, mac net.HardwareAddr) error { panic("plan: to be written") }
