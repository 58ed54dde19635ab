package mesh

import (
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"time"
)

const (
	// conflictSettle is how long a claim must last to count. A box that died and came back under another address claims
	// its id, too, until memberlist gives the old address up (DeadNodeReclaimTime, 30 s).
	conflictSettle = 45 * time.Second
	// conflictGap ends a claim that is not repeated. A full exchange of any member repeats it.
	conflictGap = 2 * time.Minute
)

// conflict is one node id at two addresses: a data directory was copied and both copies run. The mesh keeps the one it
// knew first, and gossip repeats the other's claim for as long as it runs.
type conflict struct {
	id           string
	known, other netip.AddrPort // other is not taken in
}

// conflicts counts claims of a node id by a second box.
type conflicts struct {
	log *slog.Logger
	now func() time.Time

	mu     sync.Mutex // guards the fields below
	count  uint64
	last   conflict          // of those that were counted
	claims map[string]*claim // by node id
}

// claim is that an id has been at two addresses.
type claim struct {
	first, last time.Time
	logged      bool
}

func newConflicts(log *slog.Logger, now func() time.Time) *conflicts {
	return &conflicts{log: log, now: now, claims: make(map[string]*claim)}
}

// add counts a claim that lasts, and logs each once.
func (c *conflicts) add(x conflict) {
	now := c.now()
	c.mu.Lock()
	defer c.mu.Unlock()
	k := c.claims[x.id]
	if k == nil || now.Sub(k.last) > conflictGap {
		if len(c.claims) >= maxRemembered {
			clear(c.claims)
		}
		k = &claim{first: now}
		c.claims[x.id] = k
	}
	k.last = now
	if now.Sub(k.first) < conflictSettle {
		return
	}
	c.count++
	c.last = x
	if !k.logged {
		k.logged = true
		c.log.Error("two boxes have one node id", "node", x.id, "addr", x.known.String(), "other", x.other.String(),
			"remedy", "a data directory was copied: stop the agent of the copy, empty its data directory, and let it join")
	}
}

// fill puts the counts into a snapshot.
func (c *conflicts) fill(st *Stats) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if st.IDConflicts = c.count; c.count > 0 {
		st.ConflictAddrs = []string{c.last.known.String(), c.last.other.String()}
	}
}

// gossipConflict recognises the line in which memberlist says that a node id comes from a second address:
// "memberlist: Conflicting address for ID. Mine: IP:PORT Theirs: IP:PORT Old state: N". Its addresses are without
// brackets in IPv6.
func gossipConflict(text string) (conflict, bool) {
	_, text, found := strings.Cut(text, "Conflicting address for ")
	if !found {
		return conflict{}, false
	}
	id, text, _ := strings.Cut(text, ". Mine: ")
	mine, text, _ := strings.Cut(text, " Theirs: ")
	theirs, _, _ := strings.Cut(text, " ")
	known, ok := splitGossipAddr(mine)
	other, ok2 := splitGossipAddr(theirs)
	return conflict{id, known, other}, ok && ok2 && validID(id)
}

// splitGossipAddr parses an address that was printed with %v:%d.
func splitGossipAddr(text string) (netip.AddrPort, bool) {
	i := strings.LastIndexByte(text, ':')
	if i < 0 {
		return netip.AddrPort{}, false
	}
	addr, err := netip.ParseAddrPort("[" + text[:i] + "]" + text[i:])
	if err != nil {
		addr, err = netip.ParseAddrPort(text)
	}
	return netip.AddrPortFrom(addr.Addr().Unmap(), addr.Port()), err == nil
}
