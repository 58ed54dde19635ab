package zone

import (
	"bufio"
	"fmt"
	"io"

	"github.com/miekg/dns"
)

// WriteZone writes a zone as a zone file (RFC 1035 section 5), in canonical order. Live names are left out: they are
// made when asked for. It returns an error that wraps ErrNoZone when origin is not served.
func (z *Zones) WriteZone(w io.Writer, origin string) error {
	zn := z.byText(origin)
	if zn == nil {
		return fmt.Errorf("%s: %w", origin, ErrNoZone)
	}
	b := bufio.NewWriter(w)
	fmt.Fprintf(b, "; %s of HostDB version %s\n$ORIGIN %s\n", zn.text, z.Version(), zn.text)
	if zn.origin == z.domain {
		fmt.Fprintf(b, "; <tag>.tag is answered from the members' state when asked, and not listed\n")
	}
	fmt.Fprintln(b, zn.soa)
	if apex, ok := zn.nodes.get(string(zn.origin)); ok {
		for _, rr := range apex.set(dns.TypeNS) {
			fmt.Fprintln(b, rr)
		}
	}
	for n, nd := range zn.names() {
		var buf [1]rrset
		for _, s := range nd.sets(&buf) {
			for _, rr := range s.rrs {
				if n != zn.origin || s.typ != dns.TypeNS {
					fmt.Fprintln(b, rr)
				}
			}
		}
	}
	if err := b.Flush(); err != nil {
		return fmt.Errorf("write zone %s: %w", zn.text, err)
	}
	return nil
}
