// Package zonefile makes hosts and a tag of the zone file of another name server, so that what is compiled of them holds the
// records of the file. It owns reading the file and deciding what becomes a host, an alias or a record. It is pure: writing
// what a Plan says is left to the node, and what zones are made of tags to dnsd/zone.
package zonefile

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"strings"

	"github.com/miekg/dns"

	"hostmesh/hostdb"
)

// A line of $GENERATE makes 65,536 records of a few bytes, so what a file may cost is bounded by what comes out of it.
const (
	maxRecords = 500_000  // that are read, be they taken or not: some seconds
	maxBytes   = 64 << 20 // of these records, in wire form
	checkEvery = 1024     // records between two looks at whether somebody still waits

	maxProblems = 1000 // that are named; nobody reads more
	maxRecord   = 300  // bytes of a record that a problem shows

	maxTTL = 1<<31 - 1 // RFC 2181 section 8
)

// File is a zone file that was read.
type File struct {
	// Origin is the name of the zone, in lower case, with the final dot.
	Origin string
	// SOA is its start of authority.
	SOA *dns.SOA
	// Records are all others, in the order of the file, each once. Names are in lower case.
	Records []dns.RR
	// Problems are lines that are not taken, or not quite, and why: at most maxProblems.
	Problems []string
	// MoreProblems is how many there are beyond.
	MoreProblems int
}

// Read reads a zone file. zone is the origin of relative names until $ORIGIN says otherwise; empty: the file must say, and
// the zone is that of its SOA. $GENERATE is done; $INCLUDE is refused, for nobody but the box's own operator may have files of
// the box read. A time to live of 2^31 and more is 0 (RFC 2181 section 8), one of the SOA's times 2^31-1. Errors wrap hostdb.ErrInvalid and name the line,
// hostdb.ErrTooLarge for what is beyond the bounds, or that of ctx, which is looked at now and then.
func Read(ctx context.Context, text []byte, zone string) (*File, error) {
	return read(ctx, text, zone, bounds{maxRecords, maxBytes})
}

// bounds are what a file may come to.
type bounds struct{ records, bytes int }

func read(ctx context.Context, text []byte, zone string, most bounds) (*File, error) {
	origin := ""
	if zone != "" {
		if _, ok := dns.IsDomainName(zone); !ok {
			return nil, fmt.Errorf("zone %q is not a name in DNS: %w", zone, hostdb.ErrInvalid)
		}
		origin = dns.CanonicalName(zone)
	}
	p := dns.NewZoneParser(bytes.NewReader(text), origin, "")
	f := &File{Origin: origin}
	seen := map[[sha256.Size]byte]bool{} // records as text: the texts would be more than the records
	count, size := 0, 0
	for rr, ok := p.Next(); ok; rr, ok = p.Next() {
		if count++; count > most.records {
			return nil, fmt.Errorf("the zone file has more than %d records: divide it: %w", most.records, hostdb.ErrTooLarge)
		}
		if size += dns.Len(rr); size > most.bytes {
			return nil, fmt.Errorf("the records of the zone file have more than %d bytes: divide it: %w", most.bytes, hostdb.ErrTooLarge)
		}
		if count%checkEvery == 0 && ctx.Err() != nil {
			return nil, fmt.Errorf("read the zone file: given up after %d records: %w", count, ctx.Err())
		}
		h := rr.Header()
		h.Name = dns.CanonicalName(h.Name)
		if h.Ttl > maxTTL {
			f.problem(rr, "a time to live of more than 2147483647 is 0 (RFC 2181 section 8)")
			h.Ttl = 0
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
			f.boundTimes(soa)
			f.SOA = soa
			continue
		}
		lowerNames(rr)
		if key := sha256.Sum256([]byte(rr.String())); !seen[key] {
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

// boundTimes makes the times of a SOA fit into a section. Longer ones mean the same to a secondary: never.
func (f *File) boundTimes(soa *dns.SOA) {
	was := dns.Copy(soa)
	for _, t := range []struct {
		name string
		of   *uint32
	}{{"refresh", &soa.Refresh}, {"retry", &soa.Retry}, {"expire", &soa.Expire}, {"minimum", &soa.Minttl}} {
		if *t.of > maxTTL {
			f.problem(was, fmt.Sprintf("its %s of %d seconds is more than is taken: it is %d (68 years)", t.name, *t.of, maxTTL))
			*t.of = maxTTL
		}
	}
}

func (f *File) problem(rr dns.RR, why string) {
	if len(f.Problems) >= maxProblems {
		f.MoreProblems++
		return
	}
	f.Problems = append(f.Problems, shown(rr)+": "+why)
}

// shown is a record as a problem names it.
func shown(rr dns.RR) string {
	text := strings.ReplaceAll(rr.String(), "\t", " ")
	if len(text) > maxRecord {
		text = strings.ToValidUTF8(text[:maxRecord], "") + "..."
	}
	return text
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
