package dnsd

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"net"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// keyed signs with one key, whatever it is called.
var keyed = hmacKey("a key that only tests know")

type hmacKey string

func (k hmacKey) Generate(msg []byte, _ *dns.TSIG) ([]byte, error) {
	h := hmac.New(sha256.New, []byte(k))
	h.Write(msg)
	return h.Sum(nil), nil
}

func (k hmacKey) Verify(msg []byte, t *dns.TSIG) error {
	want, _ := k.Generate(msg, t)
	if got, err := hex.DecodeString(t.MAC); err != nil || !hmac.Equal(got, want) {
		return dns.ErrSig
	}
	return nil
}

// exchangeRaw sends bytes and reads one message.
func exchangeRaw(t testing.TB, s *Server, network string, wire []byte) *dns.Msg {
	t.Helper()
	c, err := net.Dial(network, s.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(30 * time.Second))
	co := &dns.Conn{Conn: c, UDPSize: dns.MaxMsgSize}
	if _, err := co.Write(wire); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, dns.MaxMsgSize)
	n, err := co.Read(buf)
	if err != nil {
		t.Fatal(err)
	}
	r := new(dns.Msg)
	if err := r.Unpack(buf[:n]); err != nil {
		t.Fatal(err)
	}
	return r
}
