package node

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"hostmesh/hostdb"
	"hostmesh/mesh"
)

// leafLife is how long a certificate of a node is valid. It is made anew in memory at two thirds of that.
const leafLife = 90 * 24 * time.Hour

// webCA is the authority under which the nodes of one mesh issue their own HTTPS certificates. Every node computes the
// same key and, bit for bit, the same certificate: clients trust one file, whichever node gave it to them.
//
// It vouches for servers only, and only below the mesh domain, a few domains that are reserved for private use, the
// private networks, and what tls.allow adds. So a mesh key that leaks does not make its holder anybody's bank.
type webCA struct {
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
}

// allowed is what a web CA may vouch for.
type allowed struct {
	domains  []string
	networks []netip.Prefix
}

// privateDomains are reserved for private use: localhost and test (RFC 6761), local (RFC 6762), home.arpa (RFC 8375),
// internal (ICANN, 2024).
var privateDomains = []string{"home.arpa", "internal", "local", "localhost", "test"}

// privateNetworks are loopback, link-local and private use (RFC 1918, 3927, 4193, 4291, 6598).
var privateNetworks = []netip.Prefix{
	netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("100.64.0.0/10"), netip.MustParsePrefix("127.0.0.0/8"),
	netip.MustParsePrefix("169.254.0.0/16"), netip.MustParsePrefix("172.16.0.0/12"), netip.MustParsePrefix("192.168.0.0/16"),
	netip.MustParsePrefix("::1/128"), netip.MustParsePrefix("fc00::/7"), netip.MustParsePrefix("fe80::/10"),
}

// parseAllow reads an entry of tls.allow.
func parseAllow(text string) (allowed, error) {
	if p, err := netip.ParsePrefix(text); err == nil {
		return allowed{networks: []netip.Prefix{p.Masked()}}, nil
	}
	if a, err := netip.ParseAddr(text); err == nil && a.Zone() == "" {
		return allowed{networks: []netip.Prefix{netip.PrefixFrom(a, a.BitLen())}}, nil
	}
	name := hostdb.NormalName(text)
	if !isDomain(name) {
		return allowed{}, fmt.Errorf("%q: want a domain such as example.com, or a network such as 203.0.113.0/24", text)
	}
	return allowed{domains: []string{name}}, nil
}

// newAllowed is what the web CA of a mesh with this domain vouches for. The order in tls.allow does not matter.
func newAllowed(domain string, entries []string) (allowed, error) {
	a := allowed{domains: append([]string{domain}, privateDomains...), networks: slices.Clone(privateNetworks)}
	for _, e := range entries {
		more, err := parseAllow(e)
		if err != nil {
			return allowed{}, fmt.Errorf("tls.allow: %w", err)
		}
		a.domains = append(a.domains, more.domains...)
		a.networks = append(a.networks, more.networks...)
	}
	slices.Sort(a.domains)
	a.domains = slices.Compact(a.domains)
	slices.SortFunc(a.networks, netip.Prefix.Compare)
	a.networks = slices.Compact(a.networks)
	return a, nil
}

func (a allowed) hasName(name string) bool {
	return slices.ContainsFunc(a.domains, func(d string) bool { return name == d || strings.HasSuffix(name, "."+d) })
}

func (a allowed) hasAddr(addr netip.Addr) bool {
	return slices.ContainsFunc(a.networks, func(p netip.Prefix) bool { return p.Contains(addr) })
}

// newWebCA computes a mesh's web CA. Nothing random and no clock goes into it.
func newWebCA(key mesh.Key, a allowed) (*webCA, error) {
	priv, err := webKey(key)
	if err != nil {
		return nil, fmt.Errorf("web CA: %w", err)
	}
	pub, err := x509.MarshalPKIXPublicKey(&priv.PublicKey)
	if err != nil {
		return nil, fmt.Errorf("web CA: %w", err)
	}
	id := sha256.Sum256(pub)
	tmpl := &x509.Certificate{
		SerialNumber: new(big.Int).SetBytes(id[:16]),
		Subject:      pkix.Name{CommonName: "hostmesh web CA " + hex.EncodeToString(id[:4])},
		// Fixed, as all of it: the key ends with the mesh key. 2049 is the last year of the format most software reads.
		NotBefore:    time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC),
		NotAfter:     time.Date(2049, 12, 31, 23, 59, 59, 0, time.UTC),
		SubjectKeyId: id[:20],
		KeyUsage:     x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true, IsCA: true, MaxPathLenZero: true,
		SignatureAlgorithm:          x509.ECDSAWithSHA256,
		PermittedDNSDomainsCritical: true,
		PermittedDNSDomains:         a.domains,
	}
	for _, p := range a.networks {
		tmpl.PermittedIPRanges = append(tmpl.PermittedIPRanges, &net.IPNet{
			IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen()),
		})
	}
	der, err := x509.CreateCertificate(nil, tmpl, tmpl, &priv.PublicKey, deterministic{priv})
	if err != nil {
		return nil, fmt.Errorf("web CA: %w", err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("web CA: %w", err)
	}
	return &webCA{priv, cert}, nil
}

// webKey maps 48 derived bytes to a scalar from 1 to n-1. 16 bytes more than the order has make its bias negligible
// (FIPS 186-5, A.4.1).
func webKey(key mesh.Key) (*ecdsa.PrivateKey, error) {
	curve := elliptic.P256()
	seed := new(big.Int).SetBytes(key.Derive(mesh.LabelWebCA, 48))
	n1 := new(big.Int).Sub(curve.Params().N, big.NewInt(1))
	d := seed.Mod(seed, n1)
	d.Add(d, big.NewInt(1))
	return ecdsa.ParseRawPrivateKey(curve, d.FillBytes(make([]byte, 32)))
}

// deterministic signs by RFC 6979: the same signature each time.
type deterministic struct{ *ecdsa.PrivateKey }

func (d deterministic) Sign(_ io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	return d.PrivateKey.Sign(nil, digest, opts)
}

// PEM is the certificate for clients to trust.
func (ca *webCA) PEM() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca.cert.Raw})
}

// issue makes a certificate for a node with these names and addresses, valid from a day before now: the clocks of
// clients may be behind.
func (ca *webCA) issue(names []string, addrs []netip.Addr, now time.Time) (*leafCert, error) {
	priv, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("issue web certificate: %w", err)
	}
	var serial [16]byte
	rand.Read(serial[:])
	serial[0] &= 0x7f // a positive number of at most 20 octets (RFC 5280, 4.1.2.2)
	tmpl := &x509.Certificate{
		SerialNumber: new(big.Int).SetBytes(serial[:]),
		NotBefore:    now.Add(-24 * time.Hour), NotAfter: now.Add(leafLife),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
		DNSNames:              names,
	}
	if len(names) > 0 && len(names[0]) <= 64 { // the upper bound of a common name (RFC 5280, A.1)
		tmpl.Subject.CommonName = names[0]
	}
	for _, a := range addrs {
		tmpl.IPAddresses = append(tmpl.IPAddresses, a.AsSlice())
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, ca.cert, &priv.PublicKey, ca.key)
	if err != nil {
		return nil, fmt.Errorf("issue web certificate: %w", err)
	}
	return newLeaf([][]byte{der, ca.cert.Raw}, priv)
}
