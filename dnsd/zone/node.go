package zone

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/miekg/dns"
)

// rank orders claims on one name: what a person wrote into the zone stands before what follows from hosts.
type rank uint8

const (
	rankSection rank = iota
	rankAddress
	rankAlias
	rankLive
)

// claim is one thing that one key of HostDB wants a name to have. Immutable.
type claim struct {
	source string // key of HostDB, hosts/x or tags/y, or meshSource
	rank   rank
	rr     dns.RR // nil for a live name
	sum    Hash   // of rr
	local  bool   // not a function of HostDB: it is no part of the zone's hash
	live   *live
	srv    bool // live name of the form _tag._proto: only SRV
}

// item is a claim and where it stands.
type item struct {
	zone, owner name
	claim       *claim // shared with the node
}

// rrset is a set of records of one name and type. Immutable: answers share it.
type rrset struct {
	typ uint16
	rrs []dns.RR
}

// node is one name of a zone, be it an empty non-terminal. Immutable once the batch that made it is over.
type node struct {
	by       *edit
	claims   []*claim // by rank, source, hash
	children int      // names directly below that exist
	listed   bool     // the parent counts this one
	sets     []rrset  // what it answers, by type
	live     *live    // makes the answer instead of sets when asked
	srv      bool
	sum      Hash // of sets
	problems []Problem
}

func (n *node) exists() bool { return n != nil && (len(n.claims) > 0 || n.children > 0) }

func (n *node) set(typ uint16) []dns.RR {
	for i := range n.sets {
		if n.sets[i].typ == typ {
			return n.sets[i].rrs
		}
	}
	return nil
}

func compareClaims(a, b *claim) int {
	if c := cmp.Compare(a.rank, b.rank); c != 0 {
		return c
	}
	if c := strings.Compare(a.source, b.source); c != 0 {
		return c
	}
	if c := slices.Compare(a.sum[:], b.sum[:]); c != 0 || a.srv == b.srv {
		return c
	}
	if a.srv {
		return 1
	}
	return -1
}

func (n *node) add(c *claim) {
	at, _ := slices.BinarySearchFunc(n.claims, c, compareClaims)
	n.claims = slices.Insert(n.claims, at, c)
}

func (n *node) remove(c *claim) {
	if at, ok := slices.BinarySearchFunc(n.claims, c, compareClaims); ok {
		n.claims = slices.Delete(n.claims, at, at+1)
	}
}

// settle decides which claims are answered. It depends on nothing but the claims, so that the way a node came to them
// does not matter.
func (n *node) settle(zone, owner name) {
	n.sets, n.live, n.srv, n.sum, n.problems = nil, nil, false, Hash{}, nil
	apex := zone == owner
	other := apex // whether anything but a CNAME stands here
	for _, c := range n.claims {
		if c.live != nil || c.rr.Header().Rrtype != dns.TypeCNAME {
			other = true
		}
	}
	complain := func(c *claim, format string, args ...any) {
		n.problems = append(n.problems, Problem{Zone: zone.String(), Key: c.source, Name: owner.String(), Reason: fmt.Sprintf(format, args...)})
	}
	var alias, address *claim
	var seen map[Hash]bool
	if len(n.claims) > 1 {
		seen = make(map[Hash]bool, len(n.claims))
	}
	for _, c := range n.claims {
		switch {
		case c.live != nil:
			if n.live == nil {
				n.live, n.srv = c.live, c.srv
			} else if n.live != c.live {
				complain(c, "tag %s has this name already", n.live.tag)
			}
			continue
		case c.rr.Header().Rrtype == dns.TypeCNAME && other:
			complain(c, "an alias (CNAME) cannot stand beside other data of the same name")
			continue
		case c.rr.Header().Rrtype == dns.TypeCNAME && alias != nil:
			if alias.rr.(*dns.CNAME).Target != c.rr.(*dns.CNAME).Target {
				complain(c, "%s has this alias already", alias.source)
			}
			continue
		case c.rr.Header().Rrtype == dns.TypeCNAME:
			alias = c
		case c.rank == rankAddress && c.source != meshSource && isAddress(c.rr.Header().Rrtype):
			if address != nil && address.source != c.source {
				complain(c, "%s has this name too; both are answered", address.source)
			}
			address = c
		}
		if seen[c.sum] {
			continue
		}
		if seen != nil {
			seen[c.sum] = true
		}
		n.insert(c)
	}
	n.unifyTTLs()
	if n.live != nil && len(n.sets) > 0 {
		complain(n.claims[len(n.claims)-1], "the name is taken by other data of the zone")
		n.live = nil
	}
}

func isAddress(typ uint16) bool { return typ == dns.TypeA || typ == dns.TypeAAAA }

func (n *node) insert(c *claim) {
	typ := c.rr.Header().Rrtype
	at, ok := slices.BinarySearchFunc(n.sets, typ, func(s rrset, t uint16) int { return cmp.Compare(s.typ, t) })
	if !ok {
		n.sets = slices.Insert(n.sets, at, rrset{typ: typ, rrs: make([]dns.RR, 0, 1)})
	}
	n.sets[at].rrs = append(n.sets[at].rrs, c.rr)
	if !c.local {
		n.sum = n.sum.plus(c.sum)
	}
}

// unifyTTLs gives the records of a set one time to live, the shortest (RFC 2181 section 5.2). The hash stays that of
// what was claimed, which says the same.
func (n *node) unifyTTLs() {
	for k := range n.sets {
		s := &n.sets[k]
		low, mixed := s.rrs[0].Header().Ttl, false
		for _, rr := range s.rrs[1:] {
			mixed = mixed || rr.Header().Ttl != low
			low = min(low, rr.Header().Ttl)
		}
		if !mixed {
			continue
		}
		rrs := s.rrs
		s.rrs = nil
		for _, rr := range rrs {
			rr = dns.Copy(rr)
			rr.Header().Ttl = low
			if !slices.ContainsFunc(s.rrs, func(o dns.RR) bool { return dns.IsDuplicate(rr, o) }) {
				s.rrs = append(s.rrs, rr)
			}
		}
	}
}
