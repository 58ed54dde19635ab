package transfer

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/miekg/dns"

	"hostmesh/dnsd/zone"
)

const (
	maxFetched   = 2_000_000        // records of a zone of another server
	fetchTimeout = 10 * time.Second // for each message of it
)

// Fetch transfers a zone from another server (AXFR), signed with a key of the mesh where one is named. server is host or
// host:port.
func (k *Keys) Fetch(ctx context.Context, server, origin, key string) ([]dns.RR, error) {
	if _, _, err := net.SplitHostPort(server); err != nil {
		server = net.JoinHostPort(strings.Trim(server, "[]"), "53")
	}
	wrap := func(err error) error { return fmt.Errorf("transfer %s from %s: %w", origin, server, err) }
	m := new(dns.Msg)
	m.SetAxfr(origin)
	tr := &dns.Transfer{ReadTimeout: fetchTimeout, WriteTimeout: fetchTimeout}
	if key != "" {
		s := k.find(keyName(key))
		if s == nil {
			return nil, wrap(fmt.Errorf("there is no TSIG key %s: hostmesh dns key add %s --secret-file FILE", key, key))
		}
		tr.TsigProvider = s
		m.SetTsig(s.name, s.wireAlgorithm(), fudge, time.Now().Unix())
	}
	conn, err := (&net.Dialer{Timeout: fetchTimeout}).DialContext(ctx, "tcp", server)
	if err != nil {
		return nil, wrap(err)
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	tr.Conn = &dns.Conn{Conn: conn}
	messages, err := tr.In(m, server)
	if err != nil {
		return nil, wrap(err)
	}
	var out []dns.RR
	for e := range messages {
		switch {
		case err != nil: // the rest is read to its end, which is near: the connection is closed
		case e.Error != nil:
			err = e.Error
		case len(out)+len(e.RR) > maxFetched:
			err = fmt.Errorf("it has more than %d records", maxFetched)
		default:
			out = append(out, e.RR...)
			continue
		}
		conn.Close()
	}
	switch {
	case ctx.Err() != nil:
		return nil, wrap(context.Cause(ctx))
	case err != nil:
		var refused *dns.Error
		if errors.As(err, &refused) && strings.Contains(err.Error(), "rcode: 5") {
			err = errors.New("it answers REFUSED: let it allow transfers to this box")
		}
		return nil, wrap(err)
	case len(out) < 2:
		return nil, wrap(errors.New("it sends no zone"))
	}
	return out[:len(out)-1], nil // the SOA stands at both ends
}

// Comparison is how a zone of ours differs from what another server has of it.
type Comparison struct {
	There, Here []dns.RR    // that only they have, and only we
	TTLs        [][2]dns.RR // of both, with another time to live: theirs and ours
	LeftOut     int         // records of DNSSEC, theirs
	Ours        int         // records of ours in all
}

// signatures are types that a signer makes.
var signatures = map[uint16]bool{
	dns.TypeRRSIG: true, dns.TypeNSEC: true, dns.TypeNSEC3: true, dns.TypeNSEC3PARAM: true, dns.TypeDNSKEY: true,
	dns.TypeCDS: true, dns.TypeCDNSKEY: true, dns.TypeZONEMD: true, 65534: true, // BIND's private type of keys in work
}

// Compare compares a zone of z with the records of another server. SOAs do not count, times to live apart.
func Compare(z *zone.Zones, origin string, theirs []dns.RR) Comparison {
	var c Comparison
	there := map[string]dns.RR{}
	var order []string
	for _, rr := range theirs {
		switch {
		case signatures[rr.Header().Rrtype]:
			c.LeftOut++
		case rr.Header().Rrtype != dns.TypeSOA:
			key := likeness(rr)
			if there[key] == nil {
				order = append(order, key)
			}
			there[key] = rr
		}
	}
	for rr := range z.Records(origin) {
		c.Ours++
		key := likeness(rr)
		other, ok := there[key]
		switch {
		case !ok:
			c.Here = append(c.Here, rr)
		case other.Header().Ttl != rr.Header().Ttl:
			c.TTLs = append(c.TTLs, [2]dns.RR{other, rr})
		}
		delete(there, key)
	}
	for _, key := range order {
		if rr := there[key]; rr != nil {
			c.There = append(c.There, rr)
		}
	}
	return c
}

// likeness is what two records have in common that say the same: names in lower case, whatever the time to live.
func likeness(rr dns.RR) string {
	rr = dns.Copy(rr)
	rr.Header().Name, rr.Header().Ttl = dns.CanonicalName(rr.Header().Name), 0
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
	return string(wireOf(rr))
}
