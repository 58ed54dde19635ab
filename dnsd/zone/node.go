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
	rankStead        // what stands in the zone's content in place of what an ALIAS answers
	rankAddress
	rankAlias
	rankLive
)

// claim is one thing that one key of HostDB wants a name to have. Immutable.
type claim struct {
	source string    // key of HostDB, hosts/x or tags/y, or meshSource
	one    [1]dns.RR // the record; nil for a live name. An array, for most sets consist of one claim's
	live   *live
	rank   rank
	local  bool // not a function of HostDB: it is no part of the zone's hash
	srv    bool // live name of the form _tag._proto: only SRV
	alias  bool // live gives the addresses alone, in place of those that are there
}

func (c *claim) rr() dns.RR { return c.one[0] }

func (c *claim) typ() uint16 { return c.one[0].Header().Rrtype }

// sum is the hash of the record. It is made anew when asked for: kept, it would be a third of what a host takes here.
func (c *claim) sum() (sum Hash) {
	if c.live == nil {
		sum, _ = new(hasher).hash(c.rr()) // maker.record saw that it can be hashed
	}
	return sum
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

// node is one name of a zone, be it an empty non-terminal. Immutable once the batch that made it is over. There are two
// for each host, nearly all of one claim: what follows from that one is not kept.
type node struct {
	by       *edit
	claims   []*claim // by rank, source, hash
	settled  *settled // nil when the only claim, if there is one, is what the name answers
	children int32    // names directly below that exist
	listed   bool     // the parent counts this one
}

// settled is what some claims on one name come to.
type settled struct {
	sets []rrset // what the name answers, by type
	live *live   // makes the answer instead of sets when asked
	rest *rest   // nil for most
	srv  bool
}

// rest is what few names have.
type rest struct {
	problems []Problem
	packed   [2]string // sets of many addresses in wire form: AAAA and A
	alias    *live     // answers for the addresses of the name
}

// more is where something few names have is put.
func (s *settled) more() *rest {
	if s.rest == nil {
		s.rest = &rest{}
	}
	return s.rest
}

// problems are what of the name cannot be served.
func (n *node) problems() []Problem {
	if n.settled == nil || n.settled.rest == nil {
		return nil
	}
	return n.settled.rest.problems
}

// packed is a set of addresses in wire form, where there are many of them.
func (n *node) packed(typ uint16) string {
	if n.settled == nil || n.settled.rest == nil {
		return ""
	}
	return n.settled.rest.packed[typ&1]
}

// alias is what gives the name its addresses instead of the sets, if anything.
func (n *node) alias() *live {
	if n.settled == nil || n.settled.rest == nil {
		return nil
	}
	return n.settled.rest.alias
}

// packMany is from how many addresses on a set is kept in wire form too: below, reading the records is as fast.
const packMany = 4

func (n *node) exists() bool { return n != nil && (len(n.claims) > 0 || n.children > 0) }

// only is the claim that the name answers with as it is; nil when there is more to it.
func (n *node) only() *claim {
	if n.settled == nil && len(n.claims) == 1 {
		return n.claims[0]
	}
	return nil
}

// sets are what the name answers, by type. A single record's set is put into buf, so that nothing is allocated.
func (n *node) sets(buf *[1]rrset) []rrset {
	switch c := n.only(); {
	case n.settled != nil:
		return n.settled.sets
	case c == nil || c.live != nil:
		return nil
	default:
		buf[0] = rrset{c.typ(), c.one[:]}
		return buf[:]
	}
}

// live is what makes the answer instead of sets, if anything, and whether only SRV is asked of it.
func (n *node) live() (l *live, srv bool) {
	if n.settled != nil {
		return n.settled.live, n.settled.srv
	}
	if c := n.only(); c != nil {
		return c.live, c.srv
	}
	return nil, false
}

func (n *node) isLive() bool {
	l, _ := n.live()
	return l != nil
}

func (n *node) set(typ uint16) []dns.RR {
	var buf [1]rrset
	for _, s := range n.sets(&buf) {
		if s.typ == typ {
			return s.rrs
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
	if a == b {
		return 0
	}
	x, y := a.sum(), b.sum()
	if c := slices.Compare(x[:], y[:]); c != 0 || a.srv == b.srv {
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

// settle decides which claims are answered, and returns the hash of what is. It depends on nothing but the claims, so that
// the way a node came to them does not matter.
func (n *node) settle(zone, owner name, h *hasher) (sum Hash) {
	n.settled = nil
	apex := zone == owner
	hash := func(c *claim) (sum Hash) {
		sum, _ = h.hash(c.rr()) // maker.record saw that it can be hashed
		return sum
	}
	if c := n.only(); c == nil && len(n.claims) == 0 {
		return Hash{}
	} else if c != nil && !c.alias && (c.live != nil || !apex || c.typ() != dns.TypeCNAME) {
		if c.live == nil && !c.local {
			return hash(c)
		}
		return Hash{}
	}
	s := &settled{}
	n.settled = s
	other := apex // whether anything but a CNAME stands here
	for _, c := range n.claims {
		if c.live != nil || c.typ() != dns.TypeCNAME {
			other = true
		}
	}
	var stead *claim // the ALIAS that gives the name its addresses
	if i := slices.IndexFunc(n.claims, func(c *claim) bool { return c.alias }); i >= 0 {
		stead = n.claims[i]
	}
	complain := func(c *claim, format string, args ...any) {
		s.more().problems = append(s.more().problems, Problem{Zone: zone.String(), Key: c.source, Name: owner.String(), Reason: fmt.Sprintf(format, args...)})
	}
	var alias, address *claim
	seen := make(map[Hash]bool, len(n.claims))
	for _, c := range n.claims {
		switch {
		case c.alias:
			if c != stead {
				complain(c, "%s has an ALIAS of this name already", stead.source)
				continue
			}
			s.more().alias = c.live
			continue
		case stead != nil && c.live == nil && isAddress(c.typ()) && (c.rank != rankStead || c.source != stead.source):
			if c.rank != rankStead {
				complain(c, "an address (%s) cannot stand beside an ALIAS of the same name: it is left out", dns.TypeToString[c.typ()])
			}
			continue
		case c.live != nil:
			if s.live == nil {
				s.live, s.srv = c.live, c.srv
			} else if s.live != c.live {
				complain(c, "tag %s has this name already", s.live.tag)
			}
			continue
		case c.typ() == dns.TypeCNAME && other:
			complain(c, "an alias (CNAME) cannot stand beside other data of the same name")
			continue
		case c.typ() == dns.TypeCNAME && alias != nil:
			if alias.rr().(*dns.CNAME).Target != c.rr().(*dns.CNAME).Target {
				complain(c, "%s has this alias already", alias.source)
			}
			continue
		case c.typ() == dns.TypeCNAME:
			alias = c
		case c.rank == rankAddress && c.source != meshSource && isAddress(c.typ()):
			if address != nil && address.source != c.source {
				complain(c, "%s has this name too; both are answered", address.source)
				s.rest.problems[len(s.rest.problems)-1].Served = true
			}
			address = c
		}
		rr := hash(c)
		if seen[rr] {
			continue
		}
		seen[rr] = true
		s.insert(c.rr())
		if !c.local {
			sum = sum.plus(rr)
		}
	}
	s.unifyTTLs()
	for _, set := range s.sets {
		if isAddress(set.typ) && len(set.rrs) > packMany {
			s.more().packed[set.typ&1] = pack(set.rrs)
		}
	}
	if s.live != nil && len(s.sets) > 0 {
		complain(n.claims[len(n.claims)-1], "the name is taken by other data of the zone")
		s.live = nil
	}
	return sum
}

func isAddress(typ uint16) bool { return typ == dns.TypeA || typ == dns.TypeAAAA }

func (s *settled) insert(rr dns.RR) {
	typ := rr.Header().Rrtype
	at, ok := slices.BinarySearchFunc(s.sets, typ, func(s rrset, t uint16) int { return cmp.Compare(s.typ, t) })
	if !ok {
		s.sets = slices.Insert(s.sets, at, rrset{typ: typ, rrs: make([]dns.RR, 0, 1)})
	}
	s.sets[at].rrs = append(s.sets[at].rrs, rr)
}

// unifyTTLs gives the records of a set one time to live, the shortest (RFC 2181 section 5.2). The hash stays that of
// what was claimed, which says the same.
func (s *settled) unifyTTLs() {
	for k := range s.sets {
		s := &s.sets[k]
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
