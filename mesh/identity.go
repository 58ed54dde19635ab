package mesh

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"math/big"
	"net/url"
	"strings"
	"time"
)

// identity is this node's side of TLS: the CA that all holders of the mesh key share, and the node's own certificate,
// which lives in memory and is new at every start.
type identity struct {
	ca   *x509.Certificate
	leaf tls.Certificate
}

const uriPrefix = "/node/"

// newIdentity makes the certificates. The validity times are as wide as they can be, and checked by nobody: the key is
// the trust, and a box whose clock is years off must be able to come back into the mesh and be healed.
func newIdentity(key Key, nodeID string) (*identity, error) {
	caKey := ed25519.NewKeyFromSeed(key.Derive(LabelPeerCA, ed25519.SeedSize))
	from, to := time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(9999, 12, 31, 0, 0, 0, 0, time.UTC)
	caTemplate := &x509.Certificate{
		SerialNumber:          big.NewInt(1),
		Subject:               pkix.Name{CommonName: "hostmesh peer CA"},
		NotBefore:             from,
		NotAfter:              to,
		IsCA:                  true,
		BasicConstraintsValid: true,
		MaxPathLenZero:        true,
		KeyUsage:              x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, caTemplate, caTemplate, caKey.Public(), caKey)
	if err != nil {
		return nil, fmt.Errorf("make peer CA: %w", err)
	}
	ca, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("make peer CA: %w", err)
	}
	pub, priv, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make node certificate: %w", err)
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, fmt.Errorf("make node certificate: %w", err)
	}
	leafTemplate := &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: nodeID},
		NotBefore:    from,
		NotAfter:     to,
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
		URIs:         []*url.URL{{Scheme: "hostmesh", Path: uriPrefix + nodeID}},
	}
	der, err = x509.CreateCertificate(rand.Reader, leafTemplate, ca, pub, caKey)
	if err != nil {
		return nil, fmt.Errorf("make node certificate: %w", err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("make node certificate: %w", err)
	}
	return &identity{ca: ca, leaf: tls.Certificate{Certificate: [][]byte{der}, PrivateKey: priv, Leaf: leaf}}, nil
}

// verify returns the node id of a peer's certificate. Only the CA's signature and the name count, see newIdentity; what
// crypto/x509 would check besides are times, and constraints that a CA nobody else holds does not need.
func (id *identity) verify(cs tls.ConnectionState) (string, error) {
	if len(cs.PeerCertificates) == 0 {
		return "", fmt.Errorf("%w: no certificate", ErrWrongKey)
	}
	leaf := cs.PeerCertificates[0]
	if leaf.IsCA {
		return "", fmt.Errorf("%w: a CA's certificate", ErrWrongKey)
	}
	if err := leaf.CheckSignatureFrom(id.ca); err != nil {
		return "", fmt.Errorf("%w: certificate is not of this mesh's CA", ErrWrongKey)
	}
	for _, u := range leaf.URIs {
		if node, ok := strings.CutPrefix(u.Path, uriPrefix); ok && u.Scheme == "hostmesh" && validID(node) {
			return node, nil
		}
	}
	return "", errors.New("certificate names no node")
}

// server returns the TLS configuration for incoming streams.
func (id *identity) server() *tls.Config {
	return &tls.Config{
		MinVersion:             tls.VersionTLS13,
		Certificates:           []tls.Certificate{id.leaf},
		ClientAuth:             tls.RequireAnyClientCert, // verified by verify
		SessionTicketsDisabled: true,                     // streams live long; tickets have validity times
		VerifyConnection: func(cs tls.ConnectionState) error {
			_, err := id.verify(cs)
			return err
		},
	}
}

// client returns the TLS configuration for a stream to node want; "" accepts any node of the mesh.
func (id *identity) client(want string) *tls.Config {
	return &tls.Config{
		MinVersion:             tls.VersionTLS13,
		Certificates:           []tls.Certificate{id.leaf},
		InsecureSkipVerify:     true, // VerifyConnection below does it: by the CA and the node id, not by host name and time
		SessionTicketsDisabled: true,
		VerifyConnection: func(cs tls.ConnectionState) error {
			got, err := id.verify(cs)
			if err != nil {
				return err
			}
			if want != "" && got != want {
				return fmt.Errorf("%w: %s, not %s", ErrWrongNode, got, want)
			}
			return nil
		},
	}
}

// isForeignKey reports whether a failed handshake means that the other side holds another key. The second form is what
// crypto/tls makes of the other side's alert, for which it has no error to match.
func isForeignKey(err error) bool {
	return errors.Is(err, ErrWrongKey) || err != nil && strings.Contains(err.Error(), "remote error: tls: bad certificate")
}

const idLen = 32

// validID reports whether s is a node or mesh id.
func validID(s string) bool {
	if len(s) != idLen {
		return false
	}
	for _, c := range []byte(s) {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}
