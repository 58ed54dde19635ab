package zone

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"github.com/miekg/dns"
)

// name is an absolute domain name in wire form (RFC 1035 section 3.1), lower case. Its suffixes at label boundaries are
// its ancestors, and no two spellings of one name differ. The root is "\x00"; the zero name is none.
type name string

const maxNameText = 253

var errNotDNS = errors.New("not a name in DNS")

// parseName reads an absolute name in zone-file spelling; the last dot may be missing.
func parseName(text string) (name, error) {
	var buf [256]byte
	n, err := packName(text, &buf)
	if err != nil {
		return "", err
	}
	return name(n), nil
}

// packName puts the wire form of text, in lower case, into buf.
func packName(text string, buf *[256]byte) ([]byte, error) {
	if text == "" {
		return nil, errNotDNS
	}
	end, err := dns.PackDomainName(dns.Fqdn(text), buf[:], 0, nil, false)
	if err != nil || end > 255 {
		return nil, errNotDNS
	}
	b := buf[:end]
	for i, c := range b { // length octets are below 'A', RFC 1035 section 2.3.4
		if 'A' <= c && c <= 'Z' {
			b[i] = c + 'a' - 'A'
		}
	}
	return b, nil
}

// String is the name in zone-file spelling, with the last dot.
func (n name) String() string {
	if n == "" {
		return ""
	}
	text, _, err := dns.UnpackDomainName([]byte(n), 0)
	if err != nil {
		return fmt.Sprintf("%q", string(n))
	}
	return text
}

// parent is n without its first label; the parent of the root is none.
func (n name) parent() name {
	if len(n) < 2 {
		return ""
	}
	return n[1+int(n[0]):]
}

// within reports whether n is at or below o.
func (n name) within(o name) bool {
	if o == "" || !strings.HasSuffix(string(n), string(o)) {
		return false
	}
	for len(n) > len(o) {
		n = n.parent()
	}
	return n == o
}

func (n name) wildcard() bool { return strings.HasPrefix(string(n), "\x01*") }

// checkHost reports why text cannot be the name of a host: RFC 1123 section 2.1 allows letters, digits and hyphens.
func checkHost(text string) error {
	if len(text) > maxNameText {
		return fmt.Errorf("it is longer than %d bytes", maxNameText)
	}
	for label := range strings.SplitSeq(text, ".") {
		if err := checkLabel(label, false); err != nil {
			return err
		}
	}
	return nil
}

// checkLive is checkHost for the names of tags, which may have underscores.
func checkLive(text string) error {
	for label := range strings.SplitSeq(text, ".") {
		if err := checkLabel(label, true); err != nil {
			return err
		}
	}
	return nil
}

func checkLabel(label string, underscore bool) error {
	switch {
	case label == "":
		return errors.New("it has an empty label")
	case len(label) > 63:
		return fmt.Errorf("its label %s is longer than 63 bytes", label)
	case label[0] == '-' || label[len(label)-1] == '-':
		return fmt.Errorf("its label %s begins or ends with a hyphen", label)
	}
	for _, c := range label {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-', c == '_' && underscore:
		default:
			return fmt.Errorf("it contains %q", c)
		}
	}
	return nil
}

// ptrName is the name under which the PTR of an address stands.
func ptrName(a netip.Addr) (name, error) {
	text, err := dns.ReverseAddr(a.String())
	if err != nil {
		return "", err
	}
	return parseName(text)
}

// reverseZone is the smallest reverse zone on an octet or nibble boundary that contains a prefix.
func reverseZone(p netip.Prefix) (name, error) {
	step := 8
	if p.Addr().Is6() {
		step = 4
	}
	n, err := ptrName(p.Masked().Addr())
	if err != nil {
		return "", err
	}
	for range p.Addr().BitLen()/step - p.Bits()/step {
		n = n.parent()
	}
	return n, nil
}
