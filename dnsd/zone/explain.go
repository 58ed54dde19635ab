package zone

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/miekg/dns"

	"hostmesh/hostdb"
	"hostmesh/mesh"
)

// Kinds of an Explanation.
const (
	KindNotOurs   = "not-ours"  // no zone of ours has the name
	KindNothing   = "nothing"   // nothing has the name
	KindRecords   = "records"   // it has records, by hand or of hosts
	KindWildcard  = "wildcard"  // those of a wildcard
	KindDelegated = "delegated" // another server answers
	KindLive      = "live"      // it is answered from the state of a tag's members
	KindEmpty     = "empty"     // names below it are there
)

// Explanation is why a name is answered as it is.
type Explanation struct {
	Name    string // without the final dot
	Zone    string // likewise; empty for none
	Kind    string
	At      string         // the wildcard or delegation that answers; the name itself otherwise
	Tag     string         // of a live name
	Members []MemberReason // of a live name: in the order of their keys
	// All tells that nobody would be left, so that all with an address are answered.
	All bool
	// Frozen tells that too many members failed at once, so that who is left out stays as it was.
	Frozen  bool
	Records []RecordReason // of other names
}

// MemberReason is why a member of a tag is answered, or is not.
type MemberReason struct {
	Host      string
	Addresses []netip.Addr
	In        bool
	Why       string
}

// RecordReason is who put a record there.
type RecordReason struct {
	Record   string
	Key      string // of HostDB, or mesh
	Answered bool   // false when something else stands before it
}

// Explain tells why a name is answered as it is. Its error wraps hostdb.ErrInvalid.
func (z *Zones) Explain(qname string) (Explanation, error) {
	n, err := parseName(qname)
	if err != nil {
		return Explanation{}, fmt.Errorf("%q is not a name in DNS: %w", qname, hostdb.ErrInvalid)
	}
	text := strings.TrimSuffix(n.String(), ".")
	e := Explanation{Name: text, At: text, Kind: KindNotOurs}
	r := z.find(n, 0)
	if r.zone == nil {
		return e, nil
	}
	e.Zone = strings.TrimSuffix(r.zone.text, ".")
	nd := r.node
	switch {
	case r.cut != nil:
		e.Kind, e.At, nd = KindDelegated, strings.TrimSuffix(r.cutOwner().String(), "."), r.cut
	case nd == nil:
		e.Kind = KindNothing
		return e, nil
	case nd.isLive():
		l, _ := nd.live()
		z.explainLive(&e, l)
		return e, nil
	case r.wildcard:
		e.Kind = KindWildcard
		if c := nd.claims[0]; c.live == nil {
			e.At = strings.TrimSuffix(c.rr().Header().Name, ".")
		}
	case len(nd.claims) == 0:
		e.Kind = KindEmpty
	default:
		e.Kind = KindRecords
	}
	answered := map[string]bool{}
	for rr := range nd.records() {
		answered[likeness(rr)] = true
	}
	for _, c := range nd.claims {
		if c.live == nil {
			e.Records = append(e.Records, RecordReason{Record: strings.ReplaceAll(c.rr().String(), "\t", " "), Key: c.source, Answered: answered[likeness(c.rr())]})
		}
	}
	return e, nil
}

// cutOwner is the name of the delegation that was met.
func (r found) cutOwner() name {
	n, _ := parseName(r.cut.set(dns.TypeNS)[0].Header().Name) // it is that of a node
	return n
}

// likeness is a record without its time to live, which a set unifies.
func likeness(rr dns.RR) string {
	return strings.TrimPrefix(rr.String(), rr.Header().String()) + " " + dns.TypeToString[rr.Header().Rrtype]
}

// explainLive looks at the members of a tag as its answer does. Whether one is in is read from the answer itself.
func (z *Zones) explainLive(e *Explanation, l *live) {
	e.Kind, e.Tag, e.Frozen = KindLive, l.tag, z.mesh.MassSuspicion()
	answered := map[netip.Addr]bool{}
	for _, set := range l.answer(z).sets {
		for _, rr := range set.rrs {
			switch rr := rr.(type) {
			case *dns.A:
				a, _ := netip.AddrFromSlice(rr.A)
				answered[a.Unmap()] = true
			case *dns.AAAA:
				a, _ := netip.AddrFromSlice(rr.AAAA)
				answered[a] = true
			}
		}
	}
	outside := 0 // members with an address that there is a reason to leave out
	withAddress := 0
	for _, host := range z.db.Members(hostdb.Tags, l.tag) {
		doc := z.db.Data(hostdb.Hosts, host)
		m := MemberReason{Host: host}
		m.Addresses, _ = hostAddresses(doc)
		m.In = slices.ContainsFunc(m.Addresses, func(a netip.Addr) bool { return answered[a] })
		out := false
		m.Why, out = z.memberReason(l.tag, host, doc, len(m.Addresses) > 0)
		if len(m.Addresses) > 0 {
			withAddress++
			if out {
				outside++
			}
		}
		e.Members = append(e.Members, m)
	}
	e.All = withAddress > 0 && outside == withAddress
}

// memberReason says what is known of a member, and whether it is a reason to leave it out.
func (z *Zones) memberReason(tag, host string, doc hostdb.Document, address bool) (why string, out bool) {
	m, runs := z.mesh.ByName(host)
	bad := runs && (m.State == mesh.StateFailed || m.State == mesh.StateLeft)
	vm, box, known := z.machine(doc)
	frozen := ""
	if z.mesh.MassSuspicion() {
		frozen = ", when it was known last: too many failed at once"
	}
	switch {
	case !address:
		return "it has no address (Network/IP, Network/IPv6)", true
	case strings.EqualFold(doc.Text("Status"), "retired"):
		return "its Status is retired", true
	case z.down[host] && bad:
		return "its agent " + m.State.String(), true
	case z.down[host]:
		return "its agent failed, and who is left out stays as it was: too many failed at once", true
	case known && stopped(vm):
		return stoppedWhy(vm, box) + frozen, true
	case z.failing(tag, host) != "":
		return z.failing(tag, host) + frozen, true
	case bad:
		return "its agent " + m.State.String() + ", and who is left out stays as it was: too many failed at once", false
	case known && vm.Phase.Up():
		return "its machine is running, says " + box + frozen, false
	case runs:
		return "its agent is " + m.State.String(), false
	}
	return "it runs no agent, so nothing is known against it", false
}
