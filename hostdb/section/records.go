package section

import (
	"maps"
	"math"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
)

// RecordSet is what stands at one name of a zone. Each type takes one value or a list.
type RecordSet struct {
	// TTL is how long resolvers may keep these records, in seconds. Absent (0) is the zone's TTL.
	TTL time.Duration `unit:"seconds" example:"300"`
	// A are IPv4 addresses.
	A []netip.Addr `unit:"ipv4" example:"[10.1.0.80, 10.1.0.81]"`
	// AAAA are IPv6 addresses.
	AAAA []netip.Addr `unit:"ipv6" example:"2001:db8:1::80"`
	// CNAME says that the name is another name. Nothing may stand beside it.
	CNAME string `format:"domain" example:"web.tag.mesh.internal."`
	// ALIAS gives the name the addresses of a tag, where a CNAME cannot stand: web.tag is the members of tag web that are up,
	// web.vip its virtual IPs. Secondaries are given all members that are not retired.
	ALIAS string `format:"alias" example:"web.vip"`
	// MX are the mail servers: preference and name.
	MX []MX `example:"[10 mail1, 20 mail2]"`
	// NS delegates the name, or at @ names the zone's own servers.
	NS []string `format:"domain" example:"[ns1, ns2]"`
	// TXT are texts of any length. One that begins with a quote is read as in a zone file.
	TXT []string `format:"rdata" example:"v=spf1 mx -all"`
	// SRV are servers of a service: priority, weight, port and name (RFC 2782).
	SRV []SRV `example:"0 50 636 ldap1"`
	// CAA are the certificate authorities that may serve the name: flags, tag and value (RFC 8659).
	CAA []CAA `example:"0 issue letsencrypt.org"`
	// PTR are names, for reverse records by hand.
	PTR []string `format:"domain" example:"web1"`
	// Other are records of other types (APL, CERT, DS, HINFO, HTTPS, LOC, NAPTR, OPENPGPKEY, RP, SMIMEA, SSHFP, SVCB,
	// TLSA, URI) as they stand in a zone file. dnsd checks what they say.
	Other map[string][]string `key:"*" keys:"rrtype" format:"rdata" example:"{SSHFP: [4 2 a7c1e0f8], DS: 12345 13 2 49fd46e6c4b45c55d4ac}"`
}

func (s *RecordSet) check(r *report) {
	beside := slices.Sorted(maps.Keys(s.Other))
	for _, t := range []struct {
		name string
		n    int
	}{{"A", len(s.A)}, {"AAAA", len(s.AAAA)}, {"CAA", len(s.CAA)}, {"MX", len(s.MX)}, {"NS", len(s.NS)},
		{"PTR", len(s.PTR)}, {"SRV", len(s.SRV)}, {"TXT", len(s.TXT)}} {
		if t.n > 0 {
			beside = append(beside, t.name)
		}
	}
	if s.ALIAS != "" && (len(s.A) > 0 || len(s.AAAA) > 0) {
		r.bad(s.ALIAS, "stands beside A or AAAA; expected the one or the other", "ALIAS")
	}
	if s.ALIAS != "" {
		beside = append(beside, "ALIAS")
	}
	if s.CNAME != "" && len(beside) > 0 {
		r.bad(s.CNAME, "stands beside "+strings.Join(beside, ", ")+"; expected nothing else at the name (RFC 1034 section 3.6.2)", "CNAME")
	}
}

// MX is a mail server (RFC 1035 section 3.3.9).
type MX struct {
	Preference uint16
	Exchange   string
}

// String is m as in a zone file.
func (m MX) String() string { return strconv.Itoa(int(m.Preference)) + " " + m.Exchange }

func parseMX(text string) (MX, error) {
	n, names, err := numbers(text, 1)
	// A null MX (RFC 7505) is a lone dot.
	if err != nil || names != "." && checkDomain(names, false) != nil {
		return MX{}, errWrong
	}
	return MX{n[0], names}, nil
}

// SRV is a server of a service (RFC 2782).
type SRV struct {
	Priority, Weight, Port uint16
	Target                 string
}

// String is s as in a zone file.
func (s SRV) String() string {
	return strconv.Itoa(int(s.Priority)) + " " + strconv.Itoa(int(s.Weight)) + " " + strconv.Itoa(int(s.Port)) + " " + s.Target
}

func parseSRV(text string) (SRV, error) {
	n, target, err := numbers(text, 3)
	if err != nil || target != "." && checkDomain(target, false) != nil {
		return SRV{}, errWrong
	}
	return SRV{n[0], n[1], n[2], target}, nil
}

// CAA is a permission for certificate authorities (RFC 8659).
type CAA struct {
	Flags uint8
	Tag   string
	Value string
}

// String is c as in a zone file.
func (c CAA) String() string {
	return strconv.Itoa(int(c.Flags)) + " " + c.Tag + " \"" + c.Value + "\""
}

func parseCAA(text string) (CAA, error) {
	n, rest, err := numbers(text, 1)
	tag, value, _ := strings.Cut(rest, " ")
	if err != nil || n[0] > math.MaxUint8 || tag == "" || len(tag) > 15 || strings.Trim(strings.ToLower(tag), "abcdefghijklmnopqrstuvwxyz0123456789") != "" {
		return CAA{}, errWrong
	}
	value = strings.TrimSpace(value)
	if len(value) >= 2 && value[0] == '"' && value[len(value)-1] == '"' {
		value = value[1 : len(value)-1]
	}
	if strings.ContainsFunc(value, func(r rune) bool { return isControl(r) || r == '"' || r == '\\' }) {
		return CAA{}, errWrong
	}
	return CAA{uint8(n[0]), tag, value}, nil
}

// numbers reads n numbers and what follows them, divided by blanks.
func numbers(text string, n int) ([]uint16, string, error) {
	var out []uint16
	for range n {
		word, rest, _ := strings.Cut(strings.TrimLeft(text, " \t"), " ")
		v, err := parseInteger(word)
		if err != nil || v < 0 || v > math.MaxUint16 {
			return nil, "", errWrong
		}
		out, text = append(out, uint16(v)), rest
	}
	return out, strings.TrimSpace(text), nil
}
