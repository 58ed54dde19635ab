package zone

import (
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/miekg/dns"

	"hostmesh/hostdb"
)

const (
	defaultTTL = 30        // seconds: short, because the answer is always current and the resolver is near
	maxTTL     = 1<<31 - 1 // RFC 2181 section 8
)

// soa is what a section may say about the SOA record, in seconds; empty and 0 take the default.
type soa struct {
	mname, rname                    string
	refresh, retry, expire, minimum uint32
}

// The defaults of the SOA's fields; the low bits of the first three carry some of the content's hash, see lowBits.
const (
	defaultRefresh = 900    // a secondary that missed a NOTIFY asks within a quarter of an hour
	defaultRetry   = 300    //
	defaultExpire  = 604800 // a secondary answers for a week without us
	maxMinimum     = 30     // a new host must not be unknown for long
)

// feeder is a tag with a DNS section, which feeds a zone and reverse zones.
type feeder struct {
	tag      string
	key      string // of problems: tags/<tag>
	origin   name   // none when the section has only Reverse
	ttl      uint32
	reverse  []reverse
	ns       []string // absolute, from NS and Records/@/NS
	soa      soa
	aliases  []string        // tags that its records take addresses from
	doc      hostdb.Document // the section
	problems []Problem
}

type reverse struct {
	prefix netip.Prefix
	zone   name
}

// parseFeeder reads the DNS section of a tag; nil when it has none.
func parseFeeder(db hostdb.View, tag string) *feeder {
	doc := db.Data(hostdb.Tags, tag).At("DNS")
	if !doc.Exists() {
		return nil
	}
	f := &feeder{tag: tag, key: hostdb.Tags + "/" + tag, doc: doc, ttl: defaultTTL}
	if text := doc.Text("Zone"); text != "" {
		n, err := parseName(text)
		switch {
		case err != nil:
			f.problem("", "DNS/Zone: %q is not a name in DNS", text)
		case n == "\x00":
			f.problem("", "DNS/Zone: the root cannot be served")
		default:
			f.origin = n
		}
	}
	f.seconds(doc, &f.ttl, "TTL")
	for _, text := range texts(doc.At("Reverse")) {
		f.addReverse(text)
	}
	f.ns = f.nameServers()
	f.aliases = f.aliasTargets()
	s := doc.At("SOA")
	f.soa.mname, f.soa.rname = f.absolute(s.Text("MName")), f.mailbox(s.Text("RName"))
	f.seconds(s, &f.soa.refresh, "Refresh")
	f.seconds(s, &f.soa.retry, "Retry")
	f.seconds(s, &f.soa.expire, "Expire")
	f.seconds(s, &f.soa.minimum, "Minimum")
	if f.origin == "" && len(f.reverse) == 0 {
		f.problem("", "DNS: it has neither a Zone nor a Reverse that can be served")
	}
	return f
}

func (f *feeder) problem(owner, format string, args ...any) {
	f.problems = append(f.problems, Problem{Zone: f.origin.String(), Key: f.key, Name: owner, Reason: fmt.Sprintf(format, args...)})
}

func (f *feeder) addReverse(text string) {
	p, err := netip.ParsePrefix(text)
	if err != nil || p.Addr().Is4In6() {
		f.problem("", "DNS/Reverse: %q is not a prefix like 10.1.0.0/16", text)
		return
	}
	z, err := reverseZone(p)
	if err != nil {
		f.problem("", "DNS/Reverse: %q: %v", text, err)
		return
	}
	r := reverse{p.Masked(), z}
	if p.Masked() != p {
		f.problem("", "DNS/Reverse: %s has bits beyond its length; %s is served", text, r.prefix)
		f.problems[len(f.problems)-1].Served = true
	}
	if !slices.Contains(f.reverse, r) {
		f.reverse = append(f.reverse, r)
	}
}

// nameServers are the absolute names in NS and in the NS records of "@".
func (f *feeder) nameServers() []string {
	var out []string
	add := func(where string, list []string) {
		for _, text := range list {
			abs := f.absolute(text)
			if abs == "" {
				f.problem("", "%s: %q is not a name in DNS", where, text)
			} else if !slices.Contains(out, abs) {
				out = append(out, abs)
			}
		}
	}
	add("DNS/NS", texts(f.doc.At("NS")))
	add("DNS/Records/@/NS", texts(f.doc.At("Records", "@", "NS")))
	return out
}

// absolute completes a name of the section; "" when it is no name.
func (f *feeder) absolute(text string) string {
	if text == "" {
		return ""
	}
	n, err := f.owner(text)
	if err != nil {
		return ""
	}
	return n.String()
}

// owner is a name of the section: relative to the zone unless it ends in a dot or in the zone's own name.
func (f *feeder) owner(text string) (name, error) {
	if text == "@" {
		if f.origin == "" {
			return "", errNotDNS
		}
		return f.origin, nil
	}
	if strings.HasSuffix(text, ".") || f.origin == "" {
		return parseName(text)
	}
	if n, err := parseName(text); err == nil && n.within(f.origin) {
		return n, nil
	}
	return parseName(text + "." + f.origin.String())
}

// mailbox is an RName: a domain name, or a mail address as people write it.
func (f *feeder) mailbox(text string) string {
	if local, domain, ok := strings.Cut(text, "@"); ok {
		text = strings.ReplaceAll(local, ".", `\.`) + "." + strings.TrimSuffix(domain, ".") + "."
	}
	abs := f.absolute(text)
	if abs == "" && text != "" {
		f.problem("", "DNS/SOA/RName: %q is not a mail address", text)
	}
	return abs
}

// seconds reads a time to live: a number of seconds, or a duration such as 5m or 1h30m or 2d.
func (f *feeder) seconds(doc hostdb.Document, into *uint32, key string) {
	d := doc.At(key)
	if !d.Exists() || d.IsNull() {
		return
	}
	n, err := parseSeconds(d.Text())
	if err != nil {
		f.problem("", "DNS: %s: %v", key, err)
		return
	}
	*into = n
}

func parseSeconds(text string) (uint32, error) {
	if n, err := strconv.ParseUint(text, 10, 31); err == nil {
		return uint32(n), nil
	}
	if days, ok := strings.CutSuffix(text, "d"); ok {
		if n, err := strconv.ParseUint(days, 10, 16); err == nil && n*86400 <= maxTTL {
			return uint32(n * 86400), nil
		}
	}
	d, err := time.ParseDuration(text)
	if err != nil || d < 0 || d.Seconds() > math.MaxInt32 {
		return 0, fmt.Errorf("%q is not a time to live: a number of seconds, or 30s, 5m, 1h, 2d", text)
	}
	return uint32(d / time.Second), nil
}

// sameFrame reports whether members of f's tag get the same names, zones and TTL by o.
func (f *feeder) sameFrame(o *feeder) bool {
	if f == nil || o == nil {
		return f == o
	}
	return f.origin == o.origin && f.ttl == o.ttl && slices.Equal(f.reverse, o.reverse)
}

// zones are the origins that f feeds.
func (f *feeder) zones() []name {
	var out []name
	if f.origin != "" {
		out = append(out, f.origin)
	}
	for _, r := range f.reverse {
		if !slices.Contains(out, r.zone) {
			out = append(out, r.zone)
		}
	}
	return out
}

// texts is a list, or a text with blanks or commas between its items.
func texts(d hostdb.Document) []string {
	items := d.Items()
	if items == nil {
		return strings.FieldsFunc(d.Text(), func(r rune) bool { return r == ',' || r == ' ' || r == '\t' || r == '\n' })
	}
	var out []string
	for _, item := range items {
		if t := strings.TrimSpace(item.Text()); t != "" {
			out = append(out, t)
		}
	}
	return out
}

// refused are types that Records may not have: ours to make, DNSSEC's, or no data at all.
var refused = map[uint16]string{
	dns.TypeSOA: "write DNS/SOA instead", dns.TypeDNAME: "it is not supported",
	dns.TypeRRSIG: "the zone is not signed", dns.TypeNSEC: "the zone is not signed", dns.TypeNSEC3: "the zone is not signed",
	dns.TypeNSEC3PARAM: "the zone is not signed", dns.TypeDNSKEY: "the zone is not signed",
	dns.TypeOPT: "it is no data", dns.TypeTSIG: "it is no data", dns.TypeTKEY: "it is no data", dns.TypeANY: "it is no data",
	dns.TypeAXFR: "it is no data", dns.TypeIXFR: "it is no data", dns.TypeMAILA: "it is no data", dns.TypeMAILB: "it is no data",
	dns.TypeNULL: "it has no text form", dns.TypeNone: "it is no data", dns.TypeReserved: "it is no data",
}

// parseRecord reads one value of Records.
func parseRecord(owner name, origin string, ttl uint32, typ uint16, text string) (dns.RR, error) {
	if strings.ContainsFunc(text, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }) {
		return nil, fmt.Errorf("%q has control characters", text)
	}
	if strings.TrimSpace(text) == "" {
		return nil, fmt.Errorf("it is empty")
	}
	if (typ == dns.TypeTXT || typ == dns.TypeSPF) && !strings.HasPrefix(text, `"`) {
		text = quoteText(text)
	}
	line := fmt.Sprintf("%s %d IN %s %s\n", owner, ttl, dns.TypeToString[typ], text)
	p := dns.NewZoneParser(strings.NewReader(line), origin, "")
	rr, ok := p.Next()
	if !ok || p.Err() != nil || rr.Header().Rrtype != typ {
		return nil, fmt.Errorf("%q is not the data of %s", text, article(typ))
	}
	if _, more := p.Next(); more || p.Err() != nil {
		return nil, fmt.Errorf("%q is more than one record", text)
	}
	return rr, nil
}

func article(typ uint16) string {
	text := dns.TypeToString[typ]
	if strings.ContainsRune("AHLMNSX", rune(text[0])) {
		return "an " + text
	}
	return "a " + text
}

// quoteText writes a TXT as strings of at most 255 bytes (RFC 1035 section 3.3).
func quoteText(text string) string {
	var b strings.Builder
	for len(text) > 0 {
		n := min(len(text), 255)
		b.WriteString(`"`)
		for _, c := range []byte(text[:n]) {
			switch {
			case c == '"' || c == '\\':
				b.WriteByte('\\')
				b.WriteByte(c)
			case c < ' ' || c > '~':
				fmt.Fprintf(&b, `\%03d`, c)
			default:
				b.WriteByte(c)
			}
		}
		b.WriteString(`" `)
		text = text[n:]
	}
	return strings.TrimSuffix(b.String(), " ")
}
