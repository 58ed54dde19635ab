package credentials

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"

	"go.yaml.in/yaml/v4"
)

// TLS is how servers prove who they are, and we to them.
type TLS struct {
	// CA is a file of authorities; "" = those of the system. Cert and Key are ours, for servers that ask: both or neither.
	CA, Cert, Key string
	// Verify is VerifyIdentity or VerifyCA.
	Verify string
}

// What is verified of a server's certificate.
const (
	// VerifyIdentity asks for the server's address, or name, in it: the default.
	VerifyIdentity = "identity"
	// VerifyCA asks only that the authority has signed it: whoever has any of its certificates can pose as the server.
	VerifyCA = "ca"
)

func (t *TLS) parse(n *yaml.Node) error {
	err := fields(n, "tls", map[string]func(*yaml.Node) error{
		"ca":     func(n *yaml.Node) error { return path(n, "tls.ca", &t.CA) },
		"cert":   func(n *yaml.Node) error { return path(n, "tls.cert", &t.Cert) },
		"key":    func(n *yaml.Node) error { return path(n, "tls.key", &t.Key) },
		"verify": func(n *yaml.Node) error { return text(n, "tls.verify", &t.Verify) },
	})
	switch {
	case err != nil:
		return err
	case (t.Cert == "") != (t.Key == ""):
		return fmt.Errorf("line %d: either both tls.cert and tls.key must be set, or neither", n.Line)
	case t.Verify != VerifyIdentity && t.Verify != VerifyCA:
		return fmt.Errorf("line %d: tls.verify: expected identity or ca", n.Line)
	case t.Verify == VerifyCA && t.CA == "":
		return fmt.Errorf("line %d: tls.verify: ca needs tls.ca: else each certificate of the world would do", n.Line)
	}
	return nil
}

// Config is the setting of a client of one server, which is asked for by name or address. It reads the files.
func (t *TLS) Config(server string) (*tls.Config, error) {
	c := &tls.Config{ServerName: server, MinVersion: tls.VersionTLS12}
	if t.CA != "" {
		text, err := os.ReadFile(t.CA)
		if err != nil {
			return nil, fmt.Errorf("tls.ca: %w", err)
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(text) {
			return nil, fmt.Errorf("tls.ca: %s has no certificate in PEM", t.CA)
		}
	}
	if t.Cert != "" {
		pair, err := tls.LoadX509KeyPair(t.Cert, t.Key)
		if err != nil {
			return nil, fmt.Errorf("tls.cert, tls.key: %w", err)
		}
		c.Certificates = []tls.Certificate{pair}
	}
	if t.Verify == VerifyCA {
		// The library's own check cannot leave out the name, so it is replaced by one that does all the rest.
		c.InsecureSkipVerify = true
		c.VerifyConnection = func(state tls.ConnectionState) error {
			if len(state.PeerCertificates) == 0 {
				return errors.New("server shows no certificate")
			}
			others := x509.NewCertPool()
			for _, cert := range state.PeerCertificates[1:] {
				others.AddCert(cert)
			}
			_, err := state.PeerCertificates[0].Verify(x509.VerifyOptions{Roots: c.RootCAs, Intermediates: others})
			return err
		}
	}
	return c, nil
}
