package mariadbtest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"

	"hostmesh/lbd/mysqlha/credentials"
)

// certify makes an authority, and a certificate of the server for its address and some more; it returns the settings, and has the accounts trust the authority where they
// trust none yet.
func (s *Server) certify(known []string) []string {
	s.t.Helper()
	ca, caKey := s.certificate("ca", nil, nil, nil)
	s.certificate("server", append([]string{s.Addr}, known...), ca, caKey)
	file := func(name string) string { return filepath.Join(s.Dir, name) }
	if s.Accounts.TLS == nil {
		s.Accounts.TLS = &credentials.TLS{CA: file("ca.pem"), Verify: credentials.VerifyIdentity}
	}
	return []string{"ssl-ca=" + file("ca.pem"), "ssl-cert=" + file("server.pem"), "ssl-key=" + file("server.key")}
}

// certificate makes name.pem and name.key for some addresses, signed by an authority, or by itself: then it is one.
func (s *Server) certificate(name string, addrs []string, ca *x509.Certificate, caKey *ecdsa.PrivateKey) (*x509.Certificate, *ecdsa.PrivateKey) {
	s.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		s.t.Fatal(err)
	}
	now := time.Now()
	c := &x509.Certificate{
		SerialNumber: big.NewInt(now.UnixNano()), Subject: pkix.Name{CommonName: s.Name + " " + name}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(24 * time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, BasicConstraintsValid: true,
	}
	if ca == nil {
		c.IsCA, c.KeyUsage = true, x509.KeyUsageCertSign
		ca, caKey = c, key
	} else {
		for _, addr := range addrs {
			c.IPAddresses = append(c.IPAddresses, net.ParseIP(addr))
		}
		c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	}
	der, err := x509.CreateCertificate(rand.Reader, c, ca, key.Public(), caKey)
	if err != nil {
		s.t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		s.t.Fatal(err)
	}
	for file, block := range map[string]*pem.Block{name + ".pem": {Type: "CERTIFICATE", Bytes: der}, name + ".key": {Type: "PRIVATE KEY", Bytes: keyDER}} {
		if err := os.WriteFile(filepath.Join(s.Dir, file), pem.EncodeToMemory(block), 0o600); err != nil {
			s.t.Fatal(err)
		}
	}
	return c, key
}
