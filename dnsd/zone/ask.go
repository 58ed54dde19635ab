package zone

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/miekg/dns"

	"hostmesh/hostdb"
)

// Reply is an Answer as people read it: records as in a zone file.
type Reply struct {
	Zone          string // without the final dot; empty when none is ours
	Type          string // that was asked for
	Rcode         string // such as NOERROR
	Authoritative bool
	Answer        []string
	Authority     []string
	Additional    []string
}

// Ask is Lookup for people. The name is absolute, with or without a final dot; an empty type is A. Errors wrap
// hostdb.ErrInvalid.
func (z *Zones) Ask(qname, qtype string) (Reply, error) {
	if _, err := parseName(qname); err != nil {
		return Reply{}, fmt.Errorf("%q is not a name in DNS: %w", qname, hostdb.ErrInvalid)
	}
	if qtype == "" {
		qtype = "A"
	}
	qtype = strings.ToUpper(qtype)
	typ, ok := dns.StringToType[qtype]
	if n, err := strconv.ParseUint(strings.TrimPrefix(qtype, "TYPE"), 10, 16); !ok && strings.HasPrefix(qtype, "TYPE") && err == nil {
		typ, ok = uint16(n), true
	}
	if !ok || typ == dns.TypeAXFR || typ == dns.TypeIXFR {
		return Reply{}, fmt.Errorf("%q is not a type of record: expected A, AAAA, MX, TXT or another: %w", qtype, hostdb.ErrInvalid)
	}
	a := z.Lookup(dns.Fqdn(qname), typ)
	lines := func(rrs []dns.RR) []string {
		out := make([]string, 0, len(rrs))
		for _, rr := range rrs {
			out = append(out, strings.ReplaceAll(rr.String(), "\t", " "))
		}
		return out
	}
	return Reply{Zone: strings.TrimSuffix(a.Zone, "."), Type: qtype, Rcode: dns.RcodeToString[a.Rcode], Authoritative: a.Authoritative,
		Answer: lines(a.Answer), Authority: lines(a.Authority), Additional: lines(a.Additional)}, nil
}

const (
	maxScopes  = 256 // places that one answer is said to follow from
	maxMembers = 64  // hosts of a live name that are looked at for that
)

// Scopes are the places in HostDB that the answer to a name follows from, aliases followed: whoever changed the answer last
// wrote one of them. Of a name that is not there they are those where it would stand. Of a live name with very many members
// only some hosts are among them.
func (z *Zones) Scopes(qname string) []hostdb.Scope {
	var out scopes
	n, err := parseName(qname)
	for range maxChain {
		if err != nil || n == "" {
			break
		}
		r := z.find(n, 0)
		if r.zone == nil {
			break
		}
		nd, owner := r.node, n
		if r.cut != nil {
			nd, owner = r.cut, r.cutOwner()
		}
		out.node(z, r.zone, nd, owner)
		if nd == nil || len(nd.set(dns.TypeCNAME)) == 0 {
			break
		}
		n, err = parseName(nd.set(dns.TypeCNAME)[0].(*dns.CNAME).Target)
	}
	return out.list
}

type scopes struct{ list []hostdb.Scope }

func (s *scopes) add(one hostdb.Scope) {
	if len(s.list) < maxScopes && !slices.ContainsFunc(s.list, func(o hostdb.Scope) bool {
		return o.NS == one.NS && o.Key == one.Key && o.What == one.What && o.Member == one.Member && slices.Equal(o.Path, one.Path)
	}) {
		s.list = append(s.list, one)
	}
}

func (s *scopes) data(ns, key string, path ...string) {
	s.add(hostdb.Scope{NS: ns, Key: key, What: hostdb.Data, Path: path})
}

// node adds what a name of a zone follows from.
func (s *scopes) node(z *Zones, zn *zone, nd *node, owner name) {
	if nd == nil || len(nd.claims) == 0 {
		text := strings.TrimSuffix(owner.String(), ".")
		s.add(hostdb.Scope{NS: hostdb.Hosts, Key: text})
		for _, host := range z.db.HostsByName(text) {
			s.host(z, zn, host)
		}
		for _, tag := range zn.feeders {
			s.record(z.feeders[tag], owner)
		}
		return
	}
	for _, c := range nd.claims {
		ns, key, ok := strings.Cut(c.source, "/")
		switch {
		case c.live != nil:
			s.live(z, c.live.tag)
		case !ok: // the mesh
		case ns == hostdb.Hosts:
			s.host(z, zn, key)
		case strings.HasSuffix(string(owner), string(z.domain)) && zn.origin == z.domain: // <tag>.vip
			s.data(ns, key, "LB")
			s.data(ns, key, "MySQL")
		default:
			s.record(z.feeders[key], owner)
		}
	}
}

// record adds where a tag's section has records of a name.
func (s *scopes) record(f *feeder, owner name) {
	if f == nil {
		return
	}
	s.data(hostdb.Tags, f.tag, "DNS", "Zone")
	s.data(hostdb.Tags, f.tag, "DNS", "TTL")
	if owner == f.origin {
		s.data(hostdb.Tags, f.tag, "DNS", "NS")
		s.data(hostdb.Tags, f.tag, "DNS", "SOA")
	}
	known := false
	for key := range f.doc.At("Records").Keys() {
		if n, err := f.owner(key); err == nil && n == owner {
			s.data(hostdb.Tags, f.tag, "DNS", "Records", key)
			known = true
		}
	}
	if rel, below := strings.CutSuffix(owner.String(), "."+f.origin.String()); !known && below {
		s.data(hostdb.Tags, f.tag, "DNS", "Records", rel)
	}
}

// host adds a host's facts, and its memberships that bring it into the zone.
func (s *scopes) host(z *Zones, zn *zone, host string) {
	s.data(hostdb.Hosts, host, "Network")
	for _, tag := range zn.feeders {
		s.data(hostdb.Tags, tag, "DNS", "Zone")
		s.data(hostdb.Tags, tag, "DNS", "TTL")
		s.data(hostdb.Tags, tag, "DNS", "Reverse")
		s.membership(z.db, tag, host, map[string]bool{})
	}
}

// membership adds the elements of lists by which a host is a member of a tag.
func (s *scopes) membership(db hostdb.View, tag, host string, seen map[string]bool) bool {
	if seen[tag] {
		return false
	}
	seen[tag] = true
	if db.HasMember(hostdb.Tags, tag, host) {
		s.add(hostdb.Scope{NS: hostdb.Tags, Key: tag, What: hostdb.Members, Member: host})
		return true
	}
	for _, m := range db.DirectMembers(hostdb.Tags, tag) {
		if up, is := strings.CutPrefix(m.Name, "@"); is && s.membership(db, up, host, seen) {
			s.add(hostdb.Scope{NS: hostdb.Tags, Key: tag, What: hostdb.Members, Member: m.Name})
			return true
		}
	}
	return false
}

func (s *scopes) live(z *Zones, tag string) {
	s.add(hostdb.Scope{NS: hostdb.Tags, Key: tag, What: hostdb.Members})
	s.data(hostdb.Tags, tag, "Service")
	members := z.db.Members(hostdb.Tags, tag)
	for _, host := range members[:min(len(members), maxMembers)] {
		s.data(hostdb.Hosts, host, "Network")
		s.data(hostdb.Hosts, host, "Status")
		s.data(hostdb.Hosts, host, "VM")
	}
}
