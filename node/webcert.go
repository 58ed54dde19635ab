package node

import (
	"context"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"strings"
	"sync"
	"time"

	"hostmesh/hostdb"
)

// leafCert is a certificate with its key, parsed once.
type leafCert = tls.Certificate

func newLeaf(chain [][]byte, key crypto.PrivateKey) (*leafCert, error) {
	leaf, err := x509.ParseCertificate(chain[0])
	if err != nil {
		return nil, fmt.Errorf("parse certificate: %w", err)
	}
	return &leafCert{Certificate: chain, PrivateKey: key, Leaf: leaf}, nil
}

// issuedCert is the node's certificate under the web CA. It is made at the first handshake and renewed in memory.
type issuedCert struct {
	ca    *webCA
	names []string
	addrs []netip.Addr
	now   func() time.Time

	mu   sync.Mutex // guards cert
	cert *leafCert
}

// newIssuedCert gives the node all its names that the web CA may vouch for.
func newIssuedCert(ca *webCA, a allowed, cfg *Config, now func() time.Time, log *slog.Logger) *issuedCert {
	c := &issuedCert{ca: ca, now: now}
	for _, name := range nodeNames(cfg) {
		if a.hasName(name) {
			c.names = append(c.names, name)
		}
	}
	if name := hostdb.NormalName(cfg.Name); strings.Contains(name, ".") && isDomain(name) && !a.hasName(name) {
		log.Warn("the web certificate leaves the node's own name out, because the web CA may not vouch for it; add its domain to tls.allow on every node, or set tls.cert and tls.key", "name", name)
	}
	seen := map[netip.Addr]bool{}
	for _, text := range []string{cfg.Addr, cfg.HTTPS} {
		addr, err := netip.ParseAddr(text)
		if err != nil {
			ap, err := netip.ParseAddrPort(text)
			if err != nil {
				continue
			}
			addr = ap.Addr()
		}
		addr = addr.Unmap()
		switch {
		case seen[addr] || addr.IsUnspecified():
		case a.hasAddr(addr):
			c.addrs = append(c.addrs, addr)
		default:
			log.Warn("the web certificate leaves an address out, because the web CA may not vouch for it; add its network to tls.allow on every node, or set tls.cert and tls.key", "addr", addr.String())
		}
		seen[addr] = true
	}
	return c
}

// nodeNames are the DNS names under which a node may be reached.
func nodeNames(cfg *Config) []string {
	names := []string{}
	if name := hostdb.NormalName(cfg.Name); isDomain(name) {
		names = append(names, name)
		if full := name + ".node." + cfg.DNS.Domain; isDomain(full) {
			names = append(names, full)
		}
		for i := range name {
			if name[i] == '.' {
				names = append(names, name[:i]+".node."+cfg.DNS.Domain)
				break
			}
		}
	}
	return append(names, "localhost")
}

// get is the certificate of now.
func (c *issuedCert) get(*tls.ClientHelloInfo) (*leafCert, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.now()
	// A clock that was set back past the start needs a new one as well.
	if c.cert == nil || now.After(c.cert.Leaf.NotAfter.Add(-leafLife/3)) || now.Before(c.cert.Leaf.NotBefore) {
		cert, err := c.ca.issue(c.names, c.addrs, now)
		if err != nil {
			return nil, err
		}
		c.cert = cert
	}
	return c.cert, nil
}

// fileCert is a certificate of the operator's, read again when its files change.
type fileCert struct {
	certFile, keyFile string

	mu      sync.Mutex // guards the fields below
	cert    *leafCert
	stamp   [2]time.Time
	checked time.Time
	bad     error // why the files of now cannot be used; cert is the last good one
}

// recheck is how often the files are looked at, at most.
const recheck = time.Minute

func newFileCert(certFile, keyFile string) (*fileCert, error) {
	c := &fileCert{certFile: certFile, keyFile: keyFile}
	if err := c.read(); err != nil {
		return nil, err
	}
	return c, nil
}

func (c *fileCert) read() error {
	stamp, err := c.stat()
	if err != nil {
		return err
	}
	cert, err := tls.LoadX509KeyPair(c.certFile, c.keyFile)
	if err != nil {
		return fmt.Errorf("tls.cert %s, tls.key %s: %w", c.certFile, c.keyFile, err)
	}
	c.cert, c.stamp = &cert, stamp
	return nil
}

func (c *fileCert) stat() (stamp [2]time.Time, err error) {
	for i, f := range []struct{ knob, path string }{{"tls.cert", c.certFile}, {"tls.key", c.keyFile}} {
		st, err := os.Stat(f.path)
		if err != nil {
			return stamp, fmt.Errorf("%s: %w", f.knob, err)
		}
		stamp[i] = st.ModTime()
	}
	return stamp, nil
}

// refresh reads the files again when they changed, and keeps the last good certificate when they are bad, as they are
// between the writing of the one and the other.
func (c *fileCert) refresh(now time.Time, log *slog.Logger) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if now.Sub(c.checked).Abs() < recheck {
		return
	}
	c.checked = now
	stamp, err := c.stat()
	if err == nil && stamp != c.stamp {
		err = c.read()
		if err == nil {
			log.Info("web certificate read again", "file", c.certFile, "not_after", c.cert.Leaf.NotAfter)
		}
	}
	if err != nil && (c.bad == nil || c.bad.Error() != err.Error()) {
		log.Log(context.Background(), slog.LevelError, "web certificate cannot be read again; the former stays in use", "err", err)
	}
	c.bad = err
}

func (c *fileCert) get(now func() time.Time, log *slog.Logger) func(*tls.ClientHelloInfo) (*leafCert, error) {
	return func(*tls.ClientHelloInfo) (*leafCert, error) {
		c.refresh(now(), log)
		c.mu.Lock()
		defer c.mu.Unlock()
		return c.cert, nil
	}
}
