package auth

import (
	"net/netip"
	"sync"
	"time"

	"hostmesh/hostdb"
)

// allowance is how many logins may fail: burst at once, and then one every interval.
type allowance struct {
	burst    int
	interval time.Duration
}

// The allowances. A person mistypes a few times; a script with an old password may go on for ever and must not cost more
// than a verification now and then; an office behind one address has many persons.
var (
	pairAllowance  = allowance{5, 30 * time.Second} // of a user from an address block: 5, and then 120 an hour
	blockAllowance = allowance{50, 5 * time.Second} // of an address block, whoever it says it is: 50, and then 720 an hour
)

// maxTracked bounds the pairs, and the blocks, that are remembered: some megabytes. The least recently used is forgotten.
const maxTracked = 16_384

// limiter holds back those whose logins fail. It remembers one moment for each pair and block: when what they have
// used up will be theirs again (the generic cell rate algorithm). It is safe for concurrent use.
type limiter struct {
	clock hostdb.Clock

	mu     sync.Mutex // guards the fields below
	pairs  lru[pair, time.Time]
	blocks lru[netip.Prefix, time.Time]
}

// pair is a user at an address block. A user is held back at one block, never everywhere: else anybody could lock
// anybody out.
type pair struct {
	user  string
	block netip.Prefix
}

func newLimiter(clock hostdb.Clock) *limiter {
	return &limiter{clock: clock, pairs: newLRU[pair, time.Time](maxTracked), blocks: newLRU[netip.Prefix, time.Time](maxTracked)}
}

// blockOf is the addresses that are taken for one client: an IPv4 address, or the /64 that an IPv6 host can choose from.
// Clients without an address are one block.
func blockOf(addr netip.Addr) netip.Prefix {
	bits := addr.BitLen()
	if addr.Is6() {
		bits = 64
	}
	p, _ := addr.Prefix(bits) // the zero Addr has the zero Prefix
	return p
}

// attempt is a login under way. It is counted as failed from the beginning, so that many at once are not more than one
// after the other.
type attempt struct {
	limit *limiter
	pair  pair
}

// begin counts an attempt. When wait is not 0 the attempt is refused and not counted: it may be made after that time.
func (l *limiter) begin(name string, addr netip.Addr) (a attempt, wait time.Duration) {
	p := pair{name, blockOf(addr)}
	now := l.clock.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	// A block that is held back adds no pairs: one client cannot have the others' forgotten.
	if wait = blockAllowance.wait(l.blocks.get(p.block), now); wait > 0 {
		return attempt{}, wait
	}
	if wait = pairAllowance.wait(l.pairs.get(p), now); wait > 0 {
		return attempt{}, wait
	}
	l.blocks.set(p.block, blockAllowance.use(l.blocks.get(p.block), now))
	l.pairs.set(p, pairAllowance.use(l.pairs.get(p), now))
	return attempt{l, p}, 0
}

// succeeded forgets the pair's failures. Those of the block stay: whoever has one password may be guessing others.
func (a attempt) succeeded() {
	a.limit.mu.Lock()
	defer a.limit.mu.Unlock()
	a.limit.pairs.delete(a.pair)
	a.limit.giveBackBlock(a.pair.block)
}

// undecided takes the attempt back: nobody knows whether it would have failed.
func (a attempt) undecided() {
	a.limit.mu.Lock()
	defer a.limit.mu.Unlock()
	if free := a.limit.pairs.get(a.pair); !free.IsZero() {
		a.limit.pairs.set(a.pair, free.Add(-pairAllowance.interval))
	}
	a.limit.giveBackBlock(a.pair.block)
}

func (l *limiter) giveBackBlock(block netip.Prefix) {
	if free := l.blocks.get(block); !free.IsZero() {
		l.blocks.set(block, free.Add(-blockAllowance.interval))
	}
}

// used is how long it takes until all of an allowance is there again; free is when. A clock that was set back makes
// nobody wait longer than one that was not.
func (a allowance) used(free, now time.Time) time.Duration {
	return min(max(0, free.Sub(now)), time.Duration(a.burst)*a.interval)
}

// wait is how long to wait until one more may be used up.
func (a allowance) wait(free, now time.Time) time.Duration {
	return max(0, a.used(free, now)-time.Duration(a.burst-1)*a.interval)
}

// use uses up one.
func (a allowance) use(free, now time.Time) time.Time {
	return now.Add(a.used(free, now) + a.interval)
}
