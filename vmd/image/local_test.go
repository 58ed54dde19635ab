package image

import (
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
)

// TestURLsOfTheBoxItself: agents of boxes fetch what an entry of the catalogue names, as root and from within. Who may write an
// image reads what comes by booting it.
func TestURLsOfTheBoxItself(t *testing.T) {
	var asked atomic.Int64
	srv := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked.Add(1) }))
	defer srv.Close()
	_, port, _ := strings.Cut(strings.TrimPrefix(srv.URL, "http://"), ":")
	s := openStore(t, func(c *Config) { c.AllowLocal = false })
	for _, url := range []string{
		"http://169.254.169.254/latest/meta-data/iam/security-credentials/", "http://[fe80::1]/x", srv.URL, "http://[::1]:2379/v2/keys",
		"http://[::ffff:169.254.169.254]/", "http://0.0.0.0:" + port + "/", "http://224.0.0.1/",
		"http://localhost:" + port + "/", // what DNS says counts, not how it is written
	} {
		if _, err := s.Learn(t.Context(), url, Incoming{}); err == nil || !strings.Contains(err.Error(), "images are not fetched from there") {
			t.Errorf("%s: %v", url, err)
		}
	}
	if asked.Load() > 0 {
		t.Error("the server of the box was asked")
	}
}

func TestLocalAddress(t *testing.T) {
	for text, local := range map[string]bool{
		"127.9.9.9": true, "::1": true, "0.0.0.0": true, "0.1.2.3": true, "::": true, "169.254.1.1": true, "fe80::1": true, "::ffff:127.0.0.1": true,
		"224.0.0.1": true, "ff02::1": true, "255.255.255.255": true,
		"10.0.0.1": false, "192.168.1.1": false, "198.51.100.7": false, "2001:db8::1": false, "fd00::1": false,
	} {
		if is := localAddress(netip.MustParseAddr(text)) != ""; is != local {
			t.Errorf("%s: local is %v, want %v", text, is, local)
		}
	}
}
