package zone

import (
	"cmp"
	"slices"
	"strings"

	"github.com/miekg/dns"
)

// Texts are records as in a zone file, in canonical order of their names.
func Texts(rrs []dns.RR) []string {
	rrs = slices.Clone(rrs)
	key := func(rr dns.RR) string {
		n, err := parseName(rr.Header().Name)
		if err != nil {
			return rr.Header().Name
		}
		return canonical(n)
	}
	slices.SortStableFunc(rrs, func(a, b dns.RR) int {
		return cmp.Or(strings.Compare(key(a), key(b)), cmp.Compare(a.Header().Rrtype, b.Header().Rrtype), strings.Compare(a.String(), b.String()))
	})
	out := make([]string, len(rrs))
	for i, rr := range rrs {
		out[i] = strings.ReplaceAll(rr.String(), "\t", " ")
	}
	return out
}

// DiffSOA are the SOAs of a zone before and after, where they differ in what a person decides: not in the serial, and not in
// what stands in the low bits of the times.
func (z *Zones) DiffSOA(old *Zones, origin string) (removed, added []dns.RR) {
	was, now := old.byText(origin), z.byText(origin)
	var a, b *dns.SOA
	if was != nil {
		a = old.plainSOA(was)
	}
	if now != nil {
		b = z.plainSOA(now)
	}
	if a != nil && b != nil && *a == *b {
		return nil, nil
	}
	if a != nil {
		removed = append(removed, a)
	}
	if b != nil {
		added = append(added, b)
	}
	return removed, added
}

// plainSOA is a SOA as it was written: without serial and hash.
func (z *Zones) plainSOA(zn *zone) *dns.SOA {
	c := *zn.soa
	c.Serial = 0
	var s soa
	if len(zn.feeders) > 0 {
		s = z.feeders[zn.feeders[0]].soa
	}
	c.Refresh, c.Retry, c.Expire = cmp.Or(s.refresh, defaultRefresh), cmp.Or(s.retry, defaultRetry), cmp.Or(s.expire, defaultExpire)
	return &c
}
