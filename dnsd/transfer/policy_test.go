package transfer

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"hostmesh/hostdb"
)

// Who may write a tag cannot open the zone of another one by feeding it: what all tags allow counts.
func TestTagsThatFeedOneZone(t *testing.T) {
	for _, c := range []struct {
		lab, other string
		from       string
		want       rule
	}{
		{"{Allow: [10.0.0.53]}", "{Allow: [0.0.0.0/0]}", "10.0.0.53", ""},
		{"{Allow: [10.0.0.53]}", "{Allow: [0.0.0.0/0]}", "10.0.0.54", ruleAddress},
		{"{Allow: [10.0.0.0/8]}", "{Allow: [10.0.0.0/16]}", "10.1.0.1", ruleAddress},
		{"{Allow: [10.0.0.0/8]}", "{Allow: [10.0.0.0/16]}", "10.0.0.1", ""},
		{"{}", "{Allow: [0.0.0.0/0]}", "10.0.0.53", ruleNobody},
		{"{Allow: [0.0.0.0/0]}", "{}", "10.0.0.53", ruleNobody},
		{"{Allow: [10.0.0.53], Key: xfer}", "{Allow: [10.0.0.53]}", "10.0.0.53", ruleUnsigned},
		{"{Allow: [10.0.0.53]}", "{Allow: [10.0.0.53], Key: xfer}", "10.0.0.53", ruleUnsigned},
		{"{Allow: [10.0.0.53], Key: xfer}", "{Allow: [10.0.0.53], Key: other}", "10.0.0.53", ruleNobody},
	} {
		s := newSource(t, c.lab)
		s.put("tags/aaa", "DNS: {Zone: lab.test, Transfer: "+c.other+"}") // before lab in order: it gives the zone its SOA
		s.publish()
		if _, got := s.service.mayHave(request{From: netip.MustParseAddrPort(c.from + ":4000")}, testZone, ""); got != c.want {
			t.Errorf("%s and %s, from %s: %q, want %q", c.lab, c.other, c.from, got, c.want)
		}
	}
	// When one changes, what was read before does not hold.
	s := newSource(t, "{Allow: [10.0.0.53]}")
	s.put("tags/lab2", "DNS: {Zone: lab.test, Transfer: {Allow: [10.0.0.53]}}")
	s.publish()
	r := request{From: netip.MustParseAddrPort("10.0.0.53:4000")}
	if _, got := s.service.mayHave(r, testZone, ""); got != "" {
		t.Error(got)
	}
	s.put("tags/lab2", "DNS: {Zone: lab.test}")
	s.publish()
	if _, got := s.service.mayHave(r, testZone, ""); got != ruleNobody {
		t.Error(got)
	}
}

// A flood of refusals to ever new addresses costs a look at those that are known once a second.
func TestRefusalsAreSweptSeldom(t *testing.T) {
	s := newSource(t, "{Allow: [10.0.0.53]}")
	x := &s.service.refused
	tell := func(i int) {
		x.tell(testZone, netip.AddrFrom4([4]byte{192, 0, byte(i >> 8), byte(i)}), "none", ruleAddress)
	}
	for i := range maxRefusals {
		tell(i)
	}
	tell(maxRefusals)
	swept := x.swept
	if swept.IsZero() || x.more != 1 {
		t.Fatalf("swept at %v, %d left out", swept, x.more)
	}
	x.swept = time.Now().Add(time.Hour) // within the second, whatever this machine does meanwhile
	for old := range x.told {
		x.told[old].at = time.Time{}
		break
	}
	tell(maxRefusals + 1)
	if x.more != 2 || len(x.told) != maxRefusals {
		t.Errorf("it was swept again: %d left out, %d known", x.more, len(x.told))
	}
	x.swept = time.Time{}
	tell(maxRefusals + 2)
	if x.more != 0 || len(x.told) != maxRefusals {
		t.Errorf("after a second: %d left out, %d known", x.more, len(x.told))
	}
}

// An answer that just fits into a message over TCP leaves room for its signature.
func TestLargeSignedAnswer(t *testing.T) {
	s := newSource(t, "{Allow: [10.0.0.53], Key: xfer}")
	k, _, err := s.keys.Add(t.Context(), hostdb.Request{User: "test", Log: "test"}, "xfer", "", "", false)
	if err != nil {
		t.Fatal(err)
	}
	m := new(dns.Msg)
	m.SetQuestion("many.lab.test.", dns.TypeA)
	m.SetTsig("xfer.", dns.HmacSHA256, fudge, time.Now().Unix())
	raw, mac, err := dns.TsigGenerate(m, k.Secret, "", false)
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Unpack(raw); err != nil {
		t.Fatal(err)
	}
	var sent []byte
	s.service.serve(request{Msg: m, From: netip.MustParseAddrPort("10.0.0.53:4000"), Send: func(b []byte) error { sent = append(sent, b...); return nil },
		Plain: func() *dns.Msg {
			r := new(dns.Msg)
			r.SetReply(m)
			r.Compress = true
			for i := range 4093 {
				rr, err := dns.NewRR(fmt.Sprintf("many.lab.test. 60 IN A 10.0.%d.%d", i>>8, i&255))
				if err != nil {
					t.Fatal(err)
				}
				r.Answer = append(r.Answer, rr)
			}
			r.Truncate(dns.MaxMsgSize)
			r.Truncated = false
			return r
		}})
	if len(sent) == 0 || len(sent) > dns.MaxMsgSize {
		t.Fatalf("%d bytes are sent", len(sent))
	}
	if err := dns.TsigVerify(append([]byte(nil), sent...), k.Secret, mac, false); err != nil {
		t.Error(err)
	}
	r := new(dns.Msg)
	if err := r.Unpack(sent); err != nil || r.Truncated || len(r.Answer) < 4000 {
		t.Errorf("%v: %d answers, truncated %v", err, len(r.Answer), r.Truncated)
	}
	if strings.Contains(s.log.String(), "cannot be signed") {
		t.Error(s.log.String())
	}
}
