// Package zonefile makes hosts and a tag of the zone file of another name server, so that what is compiled of them holds the
// records of the file. It owns reading the file and deciding what becomes a host, an alias or a record. It is pure: writing
// what a Plan says is left to the node, and what zones are made of tags to dnsd/zone.
package zonefile

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/miekg/dns"

	"hostmesh/hostdb"
)

// maxRecords bounds what a file may hold; a line of $GENERATE alone makes 65,536.
const maxRecords = 500_000

// File is a zone file that was read.
type File struct {
	// Origin is the name of the zone, in lower case, with the final dot.
	Origin string
	// SOA is its start of authority.
	SOA *dns.SOA
	// Records are all others, in the order of the file, each once. Names are in lower case.
	Records []dns.RR
	// Problems are lines that are not taken, and why.
	Problems []string
}

// Read reads a zone file. zone is the origin of relative names until $ORIGIN says otherwise; empty: the file must say, and
// the zone is that of its SOA. $GENERATE is done; $INCLUDE is refused, for nobody but the box's own operator may have files of
// the box read. Errors wrap hostdb.ErrInvalid and name the line.
func Read(text []byte, zone string) (*File, error) {
	origin := ""
	if zone != "" {
		if _, ok := dns.IsDomainName(zone); !ok {
			return nil, fmt.Errorf("zone %q is not a name in DNS: %w", zone, hostdb.ErrInvalid)
		}
		origin = dns.CanonicalName(zone)
	}
	p := dns.NewZoneParser(bytes.NewReader(text), origin, "")
	f := &File{Origin: origin}
	seen := map[string]bool{}
	for rr, ok := p.Next(); ok; rr, ok = p.Next() {
		h := rr.Header()
		h.Name = dns.CanonicalName(h.Name)
		if len(f.Records) >= maxRecords {
			return nil, fmt.Errorf("the zone file has more than %d records: divide it: %w", maxRecords, hostdb.ErrTooLarge)
		}
		if h.Class != dns.ClassINET {
			f.problem(rr, "only class IN is served")
			continue
		}
		if soa, is := rr.(*dns.SOA); is {
			if f.SOA != nil {
				f.problem(rr, "the file has a SOA already")
				continue
			}
			f.SOA = soa
			continue
		}
		lowerNames(rr)
		if key := rr.String(); !seen[key] {
			seen[key] = true
			f.Records = append(f.Records, rr)
		}
	}
	if err := p.Err(); err != nil {
		hint := ""
		switch {
		case strings.Contains(err.Error(), "INCLUDE"):
			hint = "; put the included file in its place, or import it by itself"
		case zone == "" && f.SOA == nil:
			hint = "; if its names are relative to the zone, name that with --zone"
		}
		return nil, fmt.Errorf("read the zone file: %w%s: %w", err, hint, hostdb.ErrInvalid)
	}
	switch {
	case f.SOA == nil && origin == "":
		return nil, fmt.Errorf("the zone file has no SOA: name the zone with --zone: %w", hostdb.ErrInvalid)
	case f.SOA == nil && len(f.Records) == 0:
		return nil, fmt.Errorf("the zone file is empty: %w", hostdb.ErrInvalid)
	case f.SOA != nil && origin != "" && f.SOA.Hdr.Name != origin:
		return nil, fmt.Errorf("the SOA of the zone file is that of %s, not of %s: %w", f.SOA.Hdr.Name, origin, hostdb.ErrInvalid)
	case f.SOA != nil:
		f.Origin = f.SOA.Hdr.Name
	}
	if f.Origin == "." {
		return nil, fmt.Errorf("the root zone cannot be served: %w", hostdb.ErrInvalid)
	}
	return f, nil
}

func (f *File) problem(rr dns.RR, why string) {
	f.Problems = append(f.Problems, strings.ReplaceAll(rr.String(), "\t", " ")+": "+why)
}

// lowerNames puts the names that a record points at into lower case, as those of hosts are.
func lowerNames(rr dns.RR) {
	switch rr := rr.(type) {
	case *dns.NS:
		rr.Ns = dns.CanonicalName(rr.Ns)
	case *dns.CNAME:
		rr.Target = dns.CanonicalName(rr.Target)
	case *dns.PTR:
		rr.Ptr = dns.CanonicalName(rr.Ptr)
	case *dns.MX:
		rr.Mx = dns.CanonicalName(rr.Mx)
	case *dns.SRV:
		rr.Target = dns.CanonicalName(rr.Target)
	}
}

// within reports whether a canonical name is at or below another.
func within(name, origin string) bool { return dns.IsSubDomain(origin, name) }

// data is what a record says, without its name, class and time to live.
func data(rr dns.RR) string { return strings.TrimPrefix(rr.String(), rr.Header().String()) }
