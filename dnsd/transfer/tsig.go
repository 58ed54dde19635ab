package transfer

import (
	"cmp"
	"crypto/hmac"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"time"

	"github.com/miekg/dns"
)

// fudge is by how many seconds the clocks of signer and reader may differ (RFC 8945 section 10 recommends 300).
const fudge = 300

// algorithms are those of RFC 8945 section 6 that are not broken, by the name people write.
var algorithms = map[string]struct {
	name string // as in messages
	new  func() hash.Hash
}{
	"hmac-sha1":   {dns.HmacSHA1, sha1.New}, // section 10 wants it for old secondaries; HMAC does not rest on collisions
	"hmac-sha224": {dns.HmacSHA224, sha256.New224},
	"hmac-sha256": {dns.HmacSHA256, sha256.New},
	"hmac-sha384": {dns.HmacSHA384, sha512.New384},
	"hmac-sha512": {dns.HmacSHA512, sha512.New},
}

// secretKey is a TSIG key that can sign. It implements dns.TsigProvider, for itself alone.
type secretKey struct {
	name      string // canonical
	algorithm string // as people write it
	secret    []byte
}

func (k *secretKey) wireAlgorithm() string { return algorithms[k.algorithm].name }

// Generate implements dns.TsigProvider.
func (k *secretKey) Generate(msg []byte, t *dns.TSIG) ([]byte, error) {
	if dns.CanonicalName(t.Hdr.Name) != k.name || dns.CanonicalName(t.Algorithm) != k.wireAlgorithm() {
		return nil, dns.ErrKey
	}
	mac := hmac.New(algorithms[k.algorithm].new, k.secret)
	mac.Write(msg)
	return mac.Sum(nil), nil
}

// Verify implements dns.TsigProvider. A shortened signature is not taken (RFC 8945 section 5.2.2.1 lets that be).
func (k *secretKey) Verify(msg []byte, t *dns.TSIG) error {
	want, err := k.Generate(msg, t)
	if err != nil {
		return err
	}
	got, err := hex.DecodeString(t.MAC)
	if err != nil || !hmac.Equal(got, want) {
		return dns.ErrSig
	}
	return nil
}

// signer signs the messages of one answer, each with what was signed before it.
type signer struct {
	key  *secretKey // nil: nothing is signed
	mac  string     // of the question, then of the last message
	more bool       // not the first message: only the times are signed with it (RFC 8945 section 5.3.1)
	// fault is what was wrong with the question's signature: a TSIG error, with the time that the asker signed and the
	// algorithm that he named, which need not be the key's.
	fault     uint16
	signed    uint64
	algorithm string
}

// pack is a message in wire form, signed if it is to be.
func (s *signer) pack(m *dns.Msg) ([]byte, error) {
	if s.key == nil {
		return m.Pack()
	}
	m.SetTsig(s.key.name, cmp.Or(s.algorithm, s.key.wireAlgorithm()), fudge, time.Now().Unix())
	t := m.IsTsig()
	if s.fault != 0 {
		t.Error = s.fault
	}
	if s.fault == dns.RcodeBadTime { // section 5.2.3: the asker's time, and ours beside it
		t.TimeSigned = s.signed
		t.OtherData = fmt.Sprintf("%012x", uint64(time.Now().Unix()))
		t.OtherLen = 6
	}
	out, mac, err := dns.TsigGenerateWithProvider(m, s.key, s.mac, s.more)
	s.mac, s.more = mac, true
	return out, err
}

// errMalformed is returned for a message whose TSIG stands where none may (RFC 8945 section 5.1).
var errMalformed = errors.New("TSIG is not the last record, or there are two")

// verify looks at the signature of a message. Without one it returns a signer that signs nothing. A rule says what is wrong
// with it; the signer then signs the refusal as RFC 8945 section 5.2 wants. status is what the check of the signature itself
// came to.
func verify(req *dns.Msg, status error, find func(name string) *secretKey) (*signer, rule, error) {
	n := 0
	for _, rr := range req.Extra {
		if rr.Header().Rrtype == dns.TypeTSIG {
			n++
		}
	}
	t := req.IsTsig()
	switch {
	case n == 0:
		return &signer{}, "", nil
	case n > 1 || t == nil || t.Hdr.Class != dns.ClassANY || t.Hdr.Ttl != 0:
		return &signer{}, "", errMalformed
	}
	k := find(dns.CanonicalName(t.Hdr.Name))
	if k == nil || dns.CanonicalName(t.Algorithm) != k.wireAlgorithm() {
		return &signer{key: &secretKey{name: t.Hdr.Name}, fault: dns.RcodeBadKey, algorithm: t.Algorithm}, ruleBadKey, nil
	}
	s := &signer{key: k, mac: t.MAC}
	switch {
	case status == nil:
		return s, "", nil
	case errors.Is(status, dns.ErrTime):
		s.fault, s.signed = dns.RcodeBadTime, t.TimeSigned
		return s, ruleBadTime, nil
	default:
		s.fault, s.mac = dns.RcodeBadSig, ""
		return s, ruleBadSig, nil
	}
}
