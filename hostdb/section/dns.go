package section

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"hostmesh/hostdb"
)

// DNS makes the tag an authoritative zone: every member gets its A and AAAA records, PTR records in the reverse zones,
// and its cnames.
type DNS struct {
	// Zone is the name of the zone. Absent: the tag has only Reverse.
	Zone string `format:"zone" example:"dc1.example.com"`
	// TTL is how long resolvers may keep an answer, in seconds.
	TTL time.Duration `unit:"seconds" example:"30"`
	// NS are the zone's name servers. They come on top of NS records at @. Without either it is ns of the mesh's domain,
	// which answers with live nodes. Here and in all records, a name is meant within the zone unless it ends in a dot or
	// in the zone's own name.
	NS []string `format:"domain" example:"[ns1, ns2.example.net.]"`
	// SOA is the start of authority, where its defaults do not fit.
	SOA SOA
	// Records are further records by name: @ is the zone itself, * whatever is not there.
	Records map[string]RecordSet `keys:"owner" example:"{www: {A: 10.1.0.80}}"`
	// Reverse are the networks whose reverse zones come along. A network that does not end at a label of a reverse zone
	// (8 bits of IPv4, 4 of IPv6) is served in the smallest zone around it.
	Reverse []netip.Prefix `example:"[10.1.0.0/16, 2001:db8:1::/48]"`
	// Transfer is who may copy the zone.
	Transfer Transfer
}

func (d *DNS) defaults() {
	d.TTL = 30 * time.Second // the answer is always current and the resolver is near: why keep it
}

func (DNS) example() string {
	return `Zone: dc1.example.com
TTL: 30
Records:
  "@": {MX: [10 mail1], NS: [ns1, ns2]}
  www: {CNAME: web.tag.mesh.internal.}
  _ldap._tcp: {SRV: [0 50 636 ldap1]}
Reverse: [10.1.0.0/16]
Transfer: {Allow: [10.1.0.53], Notify: [10.1.0.53], Key: xfer}
`
}

func (d *DNS) check(r *report) {
	d.Reverse = slices.DeleteFunc(d.Reverse, func(p netip.Prefix) bool {
		shortest := 8
		if p.Addr().Is6() {
			shortest = 4
		}
		if p.Bits() < shortest {
			r.bad(p.String(), fmt.Sprintf("is wider than any reverse zone; expected a length of at least %d", shortest), "Reverse")
			return true
		}
		return false
	})
	switch {
	case d.Zone != "":
		d.checkRecords(r)
	case len(d.Reverse) == 0 && !r.told("Zone") && !r.told("Reverse"):
		r.bad("", "is missing; expected a domain name such as dc1.example.com, or Reverse with a network", "Zone")
	}
}

// checkRecords looks at what names mean within the zone. Of two spellings of a name the second is left out.
func (d *DNS) checkRecords(r *report) {
	seen := map[string]string{} // canonical name -> as written
	for _, name := range slices.Sorted(maps.Keys(d.Records)) {
		owner, inside := d.owner(name)
		reason := ""
		switch before := seen[owner]; {
		case !inside:
			reason = "is outside the zone; expected a name below " + d.Zone + ", or one without the dot at its end"
		case len(owner) > 253:
			reason = "is too long within the zone; expected at most 253 bytes in all"
		case before != "":
			reason = "is the same name as " + strconv.Quote(before) + "; expected all its records in one place"
		case d.Records[name].CNAME != "" && owner == hostdb.NormalName(d.Zone):
			r.bad(d.Records[name].CNAME, "stands at the zone itself, beside its SOA; expected ALIAS, A, AAAA or another name (RFC 1034 section 3.6.2)",
				"Records", name, "CNAME")
		}
		if reason != "" {
			r.bad(name, reason, "Records", name)
			delete(d.Records, name)
			continue
		}
		seen[owner] = name
	}
}

// owner is the full name, in lower case and without a dot at its end, of a key of Records. ok is false when it lies
// outside the zone and cannot be in a reverse zone of the tag.
func (d *DNS) owner(name string) (full string, ok bool) {
	zone := hostdb.NormalName(d.Zone)
	if name == "@" {
		return zone, true
	}
	full = hostdb.NormalName(name)
	switch {
	case full == zone || strings.HasSuffix(full, "."+zone):
		return full, true
	case !strings.HasSuffix(name, "."):
		return full + "." + zone, true
	}
	return full, len(d.Reverse) > 0 && strings.HasSuffix(full, ".arpa")
}

// SOA is the start of authority of a zone (RFC 1035 section 3.3.13). Its serial number is counted by hostmesh.
type SOA struct {
	// MName is the primary name server. Absent is the first of the zone's.
	MName string `format:"domain" example:"ns1"`
	// RName is whom to write to: a mail address, or the same as a domain name. Absent is hostmaster of the zone.
	RName string `format:"mailbox" example:"hostmaster@example.com"`
	// Refresh is how often secondaries ask for changes, in seconds.
	Refresh time.Duration `unit:"seconds" min:"1s" example:"3600"`
	// Retry is how soon they ask again after a failure, in seconds.
	Retry time.Duration `unit:"seconds" min:"1s" example:"600"`
	// Expire is how long they answer while they cannot ask, in seconds.
	Expire time.Duration `unit:"seconds" min:"1s" example:"1209600"`
	// Minimum is how long resolvers may remember that a name is not there (RFC 2308), in seconds. Absent (0) is 30, or
	// the zone's TTL where that is less.
	Minimum time.Duration `unit:"seconds" example:"30"`
}

func (s *SOA) defaults() {
	s.Refresh = 15 * time.Minute  // a secondary that missed a NOTIFY asks within a quarter of an hour
	s.Retry = 5 * time.Minute     // a third of that
	s.Expire = 7 * 24 * time.Hour // a secondary answers for a week without us
}

func (s *SOA) check(r *report) {
	if s.Expire < s.Refresh {
		r.bad(formatSeconds(s.Expire), "is shorter than Refresh, "+formatSeconds(s.Refresh)+"; expected a longer time", "Expire")
	}
}

// Transfer is who may copy a zone, and who is told of its changes.
type Transfer struct {
	// Allow are the addresses and networks that may transfer the zone. None: nobody may.
	Allow []netip.Prefix `unit:"host" example:"[10.1.0.53, 10.2.0.0/24]"`
	// Notify are the secondaries to tell of changes: addresses, with a port where it is not 53.
	Notify []netip.AddrPort `example:"[10.1.0.53, \"10.1.0.54:5353\"]"`
	// Key names the TSIG key that a transfer must be signed with. Absent: none is needed.
	Key string `format:"file" example:"xfer"`
}
