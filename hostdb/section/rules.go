package section

import (
	"errors"
	"math"
	"net/netip"
	"path"
	"regexp"
	"slices"
	"strings"

	"hostmesh/hostdb"
)

// rule says what a text may be, named by a field's tag.
type rule struct {
	name  string             // in the manual: "domain name"
	what  string             // what a text that keeps it is: "a domain name"
	check func(string) error // nil, errWrong, or an error that says more
}

// rules are all of them by name. A text without a format may be anything.
var rules = map[string]rule{
	"":            {"text", "a text", func(string) error { return nil }},
	"alias":       {"tag", "the addresses of a tag, such as web.tag, or web.vip for its virtual IP", match(`^[^ \t]+\.(?:tag|vip)$`)},
	"class":       {"class name", "a Puppet class", match(`^(?:::)?[a-z][a-z0-9_]*(?:::[a-z][a-z0-9_]*)*$`)},
	"cron":        {"schedule", "a schedule", checkSchedule},
	"domain":      {"domain name", "a domain name", func(s string) error { return checkDomain(s, false) }},
	"endpoint":    {"name:port", "a name or address with a port", checkEndpoint},
	"environment": {"environment", "a Puppet environment", match(`^[a-z0-9_]+$`)},
	"file":        {"plain name", "a name of letters, digits, dots, dashes and underscores", match(`^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$`)},
	"interface":   {"interface", "a network interface", match(`^[A-Za-z0-9_][A-Za-z0-9_.:-]{0,14}$`)},
	"key":         {"key", "a name that HostDB allows", func(s string) error { return wrong(hostdb.CheckName(s) != nil) }},
	"label":       {"label", "a Prometheus label", match(`^(?:[a-zA-Z]|_[a-zA-Z0-9])[a-zA-Z0-9_]*$`)},
	"login":       {"user name", "a name of lower-case letters, digits, dashes and underscores", match(`^[a-z_][a-z0-9_-]{0,31}$`)},
	"mailbox":     {"mail address", "a mail address", checkMailbox},
	"owner":       {"name", "a name within the zone, or @ for the zone itself", checkOwner},
	"path":        {"path", "an absolute path, which may have wildcards", checkPath},
	"pattern":     {"pattern", "a name with one %d", checkPattern},
	"rdata":       {"text", "a record's text on one line", func(s string) error { return wrong(strings.ContainsFunc(s, isControl)) }},
	"rrtype":      {"type", "a type of DNS record", func(s string) error { return wrong(!slices.Contains(otherTypes, s)) }},
	"sshkey":      {"public key", "a public SSH key on one line, as authorized_keys has it", checkPublicKey},
	"uuid":        {"UUID", "a UUID", match(`^[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$`)},
	"zone":        {"domain name", "a domain name", checkZone},
}

// errWrong means that a text is not of the kind, with nothing more to say.
var errWrong = errors.New("not of this kind")

func wrong(is bool) error {
	if is {
		return errWrong
	}
	return nil
}

func match(pattern string) func(string) error {
	re := regexp.MustCompile(pattern)
	return func(s string) error { return wrong(!re.MatchString(s)) }
}

func isControl(r rune) bool { return r < ' ' || r == 0x7f }

// checkDomain accepts names of RFC 1035 in ASCII, relative or absolute, with the characters that occur in host names,
// service names (RFC 2782) and classless reverse zones (RFC 2317). The root is refused.
func checkDomain(s string, wildcard bool) error {
	name := strings.TrimSuffix(s, ".")
	if name == "" || len(name) > 253 {
		return errWrong
	}
	for i, label := range strings.Split(name, ".") {
		if label == "*" && i == 0 && wildcard {
			continue
		}
		if label == "" || len(label) > 63 {
			return errWrong
		}
		for _, c := range []byte(label) {
			switch {
			case c >= 0x80:
				return errors.New("has letters that DNS does not know; expected its xn-- form")
			case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '-', c == '_', c == '/':
			default:
				return errWrong
			}
		}
		if label[0] == '-' || label[len(label)-1] == '-' {
			return errWrong
		}
	}
	return nil
}

func checkOwner(s string) error {
	if s == "@" {
		return nil
	}
	return checkDomain(s, true)
}

// checkZone accepts a name of a zone. A single label would make a top-level domain of ours.
func checkZone(s string) error {
	if !strings.Contains(strings.TrimSuffix(s, "."), ".") {
		return errWrong
	}
	return checkDomain(s, false)
}

// checkMailbox accepts hostmaster@example.com, and the same as a domain name, as SOA records have it.
func checkMailbox(s string) error {
	local, domain, at := strings.Cut(s, "@")
	if !at {
		return checkDomain(s, false)
	}
	if local == "" || strings.ContainsFunc(local, func(r rune) bool { return r <= ' ' || r > '~' || strings.ContainsRune(`"();\`, r) }) {
		return errWrong
	}
	return checkDomain(domain, false)
}

// otherTypes are the types of records that RecordSet has no field for.
var otherTypes = []string{
	"APL", "CERT", "DS", "HINFO", "HTTPS", "LOC", "NAPTR", "OPENPGPKEY", "RP", "SMIMEA", "SSHFP", "SVCB", "TLSA", "URI",
}

func checkPath(s string) error {
	if !path.IsAbs(s) || strings.ContainsFunc(s, isControl) {
		return errWrong
	}
	for part := range strings.SplitSeq(s, "/") {
		if part == ".." {
			return errors.New("must not lead upwards by a part of two dots")
		}
	}
	_, err := path.Match(s, "")
	return wrong(err != nil)
}

func checkEndpoint(s string) error {
	if p, err := netip.ParseAddrPort(s); err == nil {
		return wrong(p.Port() == 0)
	}
	host, port, found := strings.Cut(s, ":")
	if n, err := parseInteger(port); !found || err != nil || n < 1 || n > math.MaxUint16 {
		return errWrong
	}
	return checkDomain(host, false)
}

var pattern = regexp.MustCompile(`^[^%]*%(?:0[1-9])?d[^%]*$`)

// checkPattern accepts what fmt.Sprintf makes a host name of, given a number.
func checkPattern(s string) error {
	if !pattern.MatchString(s) {
		return errWrong
	}
	at := strings.IndexByte(s, '%')
	end := at + strings.IndexByte(s[at:], 'd') + 1
	return checkDomain(s[:at]+"1"+s[end:], false)
}
