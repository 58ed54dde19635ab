package node

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"hostmesh/mesh"
)

func testKey(t *testing.T) mesh.Key {
	t.Helper()
	key, err := mesh.ParseKey([]byte("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="))
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func testCA(t *testing.T, key mesh.Key, domain string, allow ...string) *webCA {
	t.Helper()
	a, err := newAllowed(domain, allow)
	if err != nil {
		t.Fatal(err)
	}
	ca, err := newWebCA(key, a)
	if err != nil {
		t.Fatal(err)
	}
	return ca
}

// The web CA must be the same bytes on every node and in every release: clients trust the file they were given once.
const goldenCA = "d80b495d84c48b675c64a6c9371d377c1ef04d4ff718fa156ce92602aaab99a1"

func TestWebCAIsTheSameEverywhere(t *testing.T) {
	ca := testCA(t, testKey(t), "mesh.internal", "example.com", "203.0.113.0/24")
	sum := sha256.Sum256(ca.cert.Raw)
	if got := hex.EncodeToString(sum[:]); got != goldenCA {
		t.Errorf("the web CA of the test key has digest %s, was %s: clients would have to trust it anew", got, goldenCA)
	}
	again := testCA(t, testKey(t), "mesh.internal", "203.0.113.7/24", "Example.com.", "example.com")
	if string(again.PEM()) != string(ca.PEM()) {
		t.Error("order and spelling of tls.allow change the web CA")
	}
	for name, other := range map[string]*webCA{
		"domain": testCA(t, testKey(t), "other.internal", "example.com", "203.0.113.0/24"),
		"allow":  testCA(t, testKey(t), "mesh.internal"),
	} {
		if string(other.cert.Raw) == string(ca.cert.Raw) {
			t.Errorf("%s makes no difference", name)
		}
	}
	key, err := mesh.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	if testCA(t, key, "mesh.internal").key.Equal(ca.key) {
		t.Error("two mesh keys have one CA key")
	}
}

func TestWebCAShape(t *testing.T) {
	c := testCA(t, testKey(t), "mesh.internal").cert
	if !c.IsCA || !c.MaxPathLenZero || c.KeyUsage != x509.KeyUsageCertSign || !c.PermittedDNSDomainsCritical ||
		len(c.ExtKeyUsage) != 1 || c.ExtKeyUsage[0] != x509.ExtKeyUsageServerAuth || len(c.PermittedIPRanges) == 0 {
		t.Errorf("got %+v", c)
	}
	if err := c.CheckSignatureFrom(c); err != nil {
		t.Error(err)
	}
}

func TestWebCAVouchesOnlyForItsOwn(t *testing.T) {
	ca := testCA(t, testKey(t), "mesh.example.net", "example.com", "203.0.113.0/24")
	roots := x509.NewCertPool()
	roots.AddCert(ca.cert)
	now := time.Now()
	for name, good := range map[string]bool{
		"box1.node.mesh.example.net": true, "mesh.example.net": true, "web.example.com": true, "example.com": true,
		"localhost": true, "a.internal": true,
		"10.1.2.3": true, "127.0.0.11": true, "203.0.113.9": true, "fd00::1": true, "::1": true,
		"example.net": false, "notexample.com": false, "www.bank.example": false,
		"8.8.8.8": false, "203.0.114.1": false, "2001:db8::1": false,
	} {
		var names []string
		var addrs []netip.Addr
		if a, err := netip.ParseAddr(name); err == nil {
			addrs = append(addrs, a)
		} else {
			names = append(names, name)
		}
		leaf, err := ca.issue(names, addrs, now)
		if err != nil {
			t.Fatal(err)
		}
		_, err = leaf.Leaf.Verify(x509.VerifyOptions{DNSName: name, Roots: roots, CurrentTime: now})
		if (err == nil) != good {
			t.Errorf("%s: got %v, want it accepted: %t", name, err, good)
		}
		_, err = leaf.Leaf.Verify(x509.VerifyOptions{Roots: roots, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
		if err == nil {
			t.Errorf("%s: its certificate would do for a client", name)
		}
	}
}

func TestIssuedCert(t *testing.T) {
	a, err := newAllowed("mesh.internal", nil)
	if err != nil {
		t.Fatal(err)
	}
	ca, err := newWebCA(testKey(t), a)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	cfg := &Config{Name: "Box12.dc1.example.com", Addr: "10.1.0.12", HTTPS: "10.1.0.12:7951", DNS: DNSConfig{Domain: "mesh.internal"}}
	c := newIssuedCert(ca, a, cfg, func() time.Time { return now }, slog.New(slog.DiscardHandler))
	get := func() *leafCert {
		t.Helper()
		cert, err := c.get(nil)
		if err != nil {
			t.Fatal(err)
		}
		return cert
	}
	first := get()
	if life := first.Leaf.NotAfter.Sub(now); life != 90*24*time.Hour || now.Sub(first.Leaf.NotBefore) != 24*time.Hour {
		t.Errorf("valid from %v to %v", first.Leaf.NotBefore, first.Leaf.NotAfter)
	}
	roots := x509.NewCertPool()
	roots.AddCert(ca.cert)
	for _, name := range []string{"box12.node.mesh.internal", "box12.dc1.example.com.node.mesh.internal", "localhost", "10.1.0.12"} {
		if _, err := first.Leaf.Verify(x509.VerifyOptions{DNSName: name, Roots: roots, CurrentTime: now}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	now = now.Add(59 * 24 * time.Hour)
	if get() != first {
		t.Error("renewed before two thirds of its life")
	}
	now = now.Add(2 * 24 * time.Hour)
	second := get()
	if second == first || second.Leaf.NotAfter.Sub(now) != 90*24*time.Hour {
		t.Error("not renewed after two thirds of its life")
	}
	now = now.Add(-61 * 24 * time.Hour) // the clock was set right
	if third := get(); now.Before(third.Leaf.NotBefore) {
		t.Error("a certificate that is not valid yet")
	}
}

func TestFileCert(t *testing.T) {
	dir := t.TempDir()
	certFile, keyFile := filepath.Join(dir, "crt"), filepath.Join(dir, "key")
	if _, err := newFileCert(certFile, keyFile); err == nil {
		t.Fatal("no error without files")
	}
	ca := testCA(t, testKey(t), "mesh.internal")
	write := func(name string, age time.Duration) {
		t.Helper()
		writePair(t, ca, name, certFile, keyFile)
		at := time.Now().Add(-age)
		for _, f := range []string{certFile, keyFile} {
			if err := os.Chtimes(f, at, at); err != nil {
				t.Fatal(err)
			}
		}
	}
	write("one.internal", 2*time.Hour)
	c, err := newFileCert(certFile, keyFile)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	get := c.get(func() time.Time { return now }, slog.New(slog.DiscardHandler))
	name := func() string {
		t.Helper()
		cert, err := get(&tls.ClientHelloInfo{})
		if err != nil {
			t.Fatal(err)
		}
		return cert.Leaf.DNSNames[0]
	}
	if got := name(); got != "one.internal" {
		t.Error(got)
	}
	write("two.internal", time.Hour)
	now = now.Add(2 * recheck)
	if got := name(); got != "two.internal" {
		t.Errorf("%s after the files changed", got)
	}
	writeText(t, certFile, "nonsense")
	now = now.Add(2 * recheck)
	if got := name(); got != "two.internal" {
		t.Errorf("%s after the file broke, want the last good one", got)
	}
	if err := os.Remove(keyFile); err != nil {
		t.Fatal(err)
	}
	now = now.Add(2 * recheck)
	if got := name(); got != "two.internal" {
		t.Errorf("%s after the file went, want the last good one", got)
	}
}
