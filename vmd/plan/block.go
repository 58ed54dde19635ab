package plan

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hostmesh/mesh"
	"net"
	"net/netip"
	"strings"
)

// BlockSet is a pool cut into blocks of one size, which boxes own.
type BlockSet struct {
	pool netip.Prefix
	bits int // of a block
}

// Blocks cuts a pool: /27 for pools of /20 and larger, /28 below, /29 below /26; IPv6: /120. A smaller pool is one block.
func Blocks(pool netip.Prefix) BlockSet {
	b := BlockSet{pool: pool.Masked()}
	switch n := pool.Bits(); {
	case !pool.IsValid():
	case pool.Addr().Is6():
		b.bits = 120 // 256 machines fill no box, and hardly any pool is short of /120s
	case n <= 20:
		b.bits = 27 // about what a box carries, so that it seldom asks
	case n <= 26:
		b.bits = 28
	default:
		b.bits = 29 // so that three boxes find room in a /27
	}
	b.bits = max(b.bits, pool.Bits())
	return b
}

// maxBlocks bounds Count. IPv6 pools beyond are used in part, and nobody will see their end.
const maxBlocks = 63

// Count is how many there are: a power of two, at most 2^63. 0 for an invalid pool.
func (b BlockSet) Count() uint64 {
	if !b.pool.IsValid() {
		return 0
	}
	return 1 << min(b.bits-b.pool.Bits(), maxBlocks)
}

// At is block i, from 0. It panics beyond Count.
func (b BlockSet) At(i uint64) netip.Prefix {
	if i >= b.Count() {
		panic(fmt.Sprintf("plan: block %d of %d", i, b.Count()))
	}
	if b.pool.Addr().Is4() {
		a := b.pool.Addr().As4()
		n := binary.BigEndian.Uint32(a[:]) + uint32(i<<(32-b.bits))
		binary.BigEndian.PutUint32(a[:], n)
		return netip.PrefixFrom(netip.AddrFrom4(a), b.bits)
	}
	a := b.pool.Addr().As16()
	high, low := binary.BigEndian.Uint64(a[:8]), binary.BigEndian.Uint64(a[8:])
	shift := 128 - b.bits // the pool's own bits there are 0, so that nothing carries
	low |= i << shift
	high |= i >> (64 - shift)
	binary.BigEndian.PutUint64(a[:8], high)
	binary.BigEndian.PutUint64(a[8:], low)
	return netip.PrefixFrom(netip.AddrFrom16(a), b.bits)
}

// Contains reports whether p is one of the blocks.
func (b BlockSet) Contains(p netip.Prefix) bool {
	return b.pool.IsValid() && p.Bits() == b.bits && p == p.Masked() && b.pool.Contains(p.Addr())
}

// ChoicesPage is how many choices Choices gives at most: each that is taken costs who asks one round of the lease group.
const ChoicesPage = 32

// Choices are blocks of a Subnet's pool that a node may ask for, in an order of its own, for lease.Grant. taken are blocks that
// are owned already, by whomever: they and what overlaps them is left out. page counts from 0; the pages together hold every
// other block once, and a page beyond the last is nil. A page may be empty because all of it is taken.
func Choices(s Subnet, node string, taken []string, page uint64) []string {
	blocks := Blocks(s.Pool)
	n := blocks.Count()
	if n == 0 || page > (n-1)/ChoicesPage {
		return nil
	}
	var gone []netip.Prefix
	for _, text := range taken {
		if p, err := netip.ParsePrefix(text); err == nil && p.Overlaps(s.Pool) {
			gone = append(gone, p)
		}
	}
	// A walk over all blocks: n is a power of two, and the step is odd. Two nodes that start at one place part at once.
	start, step := mesh.Weight(s.Tag, node, "start"), mesh.Weight(s.Tag, node, "step")|1
	out := []string{}
	for i := page * ChoicesPage; i < n && i < (page+1)*ChoicesPage; i++ {
		b := blocks.At((start + i*step) & (n - 1))
		free := true
		for _, p := range gone {
			if p.Overlaps(b) {
				free = false
				break
			}
		}
		if free {
			out = append(out, b.String())
		}
	}
	return out
}

// Clash is the first of others that overlaps block and is not block itself; "" = none. The size of blocks follows the pool, so
// that boxes may own blocks of two sizes after the pool was changed: who was granted one looks at all grants again before using
// it, and gives it back on a clash.
func Clash(block string, others []string) string {
	b, err := netip.ParsePrefix(block)
	if err != nil {
		return ""
	}
	for _, o := range others {
		if p, err := netip.ParsePrefix(o); err == nil && o != block && p.Overlaps(b) {
			return o
		}
	}
	return ""
}

// MAC is the hardware address of a machine: locally administered, and the same wherever it is made.
func MAC(mesh, uuid string) net.HardwareAddr {
	sum := sha256.Sum256([]byte(mesh + "\x00" + strings.ToLower(uuid)))
	return append(net.HardwareAddr{0x52}, sum[:5]...)
}

// within reports whether all of a lies in b.
func within(a, b netip.Prefix) bool { return b.Bits() <= a.Bits() && b.Contains(a.Addr()) }

// lastOf is the last address of an IPv4 network.
func lastOf(p netip.Prefix) netip.Addr {
	a := p.Addr().As4()
	n := binary.BigEndian.Uint32(a[:]) | uint32(1<<(32-p.Bits())-1)
	binary.BigEndian.PutUint32(a[:], n)
	return netip.AddrFrom4(a)
}
