package node

import (
	"archive/tar"
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"maps"
	"os"
	"slices"
	"testing"
	"time"
)

// writePair writes a certificate of ca for a name, and its key.
func writePair(t *testing.T, ca *webCA, name, certFile, keyFile string) {
	t.Helper()
	cert, err := ca.issue([]string{name}, nil, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(cert.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range []struct {
		path  string
		block pem.Block
	}{
		{certFile, pem.Block{Type: "CERTIFICATE", Bytes: cert.Certificate[0]}},
		{keyFile, pem.Block{Type: "PRIVATE KEY", Bytes: der}},
	} {
		if err := os.WriteFile(f.path, pem.EncodeToMemory(&f.block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// tarOf is a tar of files by path.
func tarOf(t *testing.T, files map[string]string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, path := range slices.Sorted(maps.Keys(files)) {
		text := files[path]
		if err := w.WriteHeader(&tar.Header{Name: path, Mode: 0o644, Size: int64(len(text)), Format: tar.FormatPAX}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}
