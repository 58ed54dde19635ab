package transfer

import (
	"encoding/base64"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
	"pgregory.net/rapid"

	"hostmesh/hostdb"
)

func TestFullZone(t *testing.T) {
	s := newSource(t, "{Allow: [10.0.0.0/8]}")
	for i := range 3 {
		s.update(func(tx *hostdb.Tx) error {
			for k := range 700 {
				d, _ := hostdb.ParseDocument(fmt.Appendf(nil, "Network: {IP: 10.1.%d.%d}", i*3+k/250, k%250))
				if err := tx.Put(hostdb.Hosts, fmt.Sprintf("h%d-%d.lab.test", i, k), d); err != nil {
					return err
				}
			}
			return nil
		})
	}
	s.publish()
	msgs := s.ask(axfr(), "10.0.0.53", false)
	got, k, err := copied{}.apply(records(msgs))
	if err != nil || k != kindFull || !got.equal(s.served()) {
		t.Fatalf("%s %v: %d records, want %d", k, err, len(got.records), len(s.served().records))
	}
	if len(got.records) < 2100 || len(msgs) < 3 {
		t.Errorf("%d records in %d messages", len(got.records), len(msgs))
	}
	for i, m := range msgs {
		if wire, _ := m.Pack(); len(wire) > 1<<14 {
			t.Errorf("message %d has %d bytes: names beyond 16 KiB are not compressed", i, len(wire))
		}
		if !m.Authoritative || !m.Response || m.Rcode != 0 || len(m.Question) != 1 && i == 0 || len(m.Question) != 0 && i > 0 {
			t.Errorf("message %d: %v", i, m.MsgHdr)
		}
	}
	if text := s.log.String(); !strings.Contains(text, "zone transferred") || !strings.Contains(text, "kind=full") {
		t.Errorf("log: %s", text)
	}
}

// A secondary that knows any content of before, of this node or of one that counted the same serials for other contents while
// they were apart, has what the node serves after one answer, unless its serial is the newer one.
func TestSecondaryIsRightAfterOneAnswer(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		a := newSource(t, "{Allow: [10.0.0.53]}", func(c *Config) {
			c.Limits.Steps = rapid.SampledFrom([]int{0, 2, 50}).Draw(rt, "steps kept")
			c.Limits.Records = rapid.SampledFrom([]int{0, 10, 1000}).Draw(rt, "records kept")
		})
		b := newSource(t, "{Allow: [10.0.0.53]}")
		known := []copied{}
		for _, s := range []*source{a, b} {
			// Enough hosts for a difference to be the shorter way.
			s.update(func(tx *hostdb.Tx) error {
				for i := range 12 {
					d, _ := hostdb.ParseDocument(fmt.Appendf(nil, "Network: {IP: 10.5.0.%d}", i))
					if err := tx.Put(hostdb.Hosts, fmt.Sprintf("x%d.lab.test", i), d); err != nil {
						return err
					}
				}
				return nil
			})
			s.publish()
			known = append(known, s.served())
			for range rapid.IntRange(0, 8).Draw(rt, "changes") {
				host := fmt.Sprintf("hosts/h%d.lab.test", rapid.IntRange(0, 3).Draw(rt, "host"))
				switch rapid.IntRange(0, 3).Draw(rt, "what") {
				case 0:
					if _, key, _ := strings.Cut(host, "/"); s.store.View().Exists(hostdb.Hosts, key) {
						s.update(func(tx *hostdb.Tx) error { return tx.Delete(hostdb.Hosts, key) })
					}
				case 1:
					s.number(uint32(rapid.IntRange(1, 3).Draw(rt, "adopted")))
				default:
					s.put(host, fmt.Sprintf("Network: {IP: 10.0.1.%d}", rapid.IntRange(1, 3).Draw(rt, "address")))
				}
				s.publish()
				known = append(known, s.served())
			}
		}
		has := rapid.SampledFrom(known).Draw(rt, "known")
		want := a.served()
		udp := rapid.Bool().Draw(rt, "udp")
		msgs := a.ask(ixfr(has.soa), "10.0.0.53", udp)
		got, k, err := has.apply(records(msgs))
		if err != nil {
			rt.Fatal(err)
		}
		switch {
		case k == kindCurrent && udp && newer(want.soa.Serial, has.soa.Serial):
			if msgs[0].Answer[0].String() != want.soa.String() {
				rt.Fatalf("the SOA is %s", msgs[0].Answer[0])
			}
		case k == kindCurrent && has.soa.Serial == want.soa.Serial && !udp:
			if !has.equal(want) {
				rt.Fatalf("it is told to keep other content of the same serial")
			}
		case k == kindCurrent:
			if newer(want.soa.Serial, has.soa.Serial) {
				rt.Fatalf("it is told to keep what is older")
			}
		case !got.equal(want):
			rt.Fatalf("%s: after the answer\n%v\n%v\nwant\n%v\n%v", k, got.soa, slices.Sorted(maps.Keys(got.records)), want.soa, slices.Sorted(maps.Keys(want.records)))
		}
	})
}

func TestDifferenceIsCondensed(t *testing.T) {
	s := newSource(t, "{Allow: [10.0.0.53]}")
	for i := range 20 {
		s.put(fmt.Sprintf("hosts/h%d.lab.test", i), fmt.Sprintf("Network: {IP: 10.0.1.%d}", i))
	}
	s.publish()
	had := s.served()
	for i := range 30 { // one host to and fro
		s.put("hosts/h1.lab.test", fmt.Sprintf("Network: {IP: 10.0.2.%d}", i))
		s.publish()
	}
	msgs := s.ask(ixfr(had.soa), "10.0.0.53", true)
	got, k, err := had.apply(records(msgs))
	if err != nil || k != kindDifference || !got.equal(s.served()) {
		t.Fatalf("%s, %v", k, err)
	}
	if n := len(records(msgs)); n != 6 { // four SOA, one out, one in
		t.Errorf("%d records:\n%v", n, msgs)
	}
	// A change of all is told as the whole zone, which is shorter.
	for i := range 20 {
		s.put(fmt.Sprintf("hosts/h%d.lab.test", i), fmt.Sprintf("Network: {IP: 10.0.3.%d}", i))
	}
	s.publish()
	if _, k, err = had.apply(records(s.ask(ixfr(had.soa), "10.0.0.53", false))); err != nil || k != kindFull {
		t.Errorf("%s, %v", k, err)
	}
}

// What does not fit into a datagram is told by the SOA alone (RFC 1995 section 2).
func TestUDPThatDoesNotFit(t *testing.T) {
	s := newSource(t, "{Allow: [10.0.0.53]}")
	for i := range 200 {
		s.put(fmt.Sprintf("hosts/a-long-name-of-a-host-%d.lab.test", i), fmt.Sprintf("Network: {IP: 10.0.1.%d}", i))
	}
	s.publish()
	had := s.served()
	for i := range 50 {
		s.put(fmt.Sprintf("hosts/another-long-name-of-a-host-%d.lab.test", i), fmt.Sprintf("Network: {IP: 10.0.2.%d}", i))
	}
	s.publish()
	rrs := records(s.ask(ixfr(had.soa), "10.0.0.53", true))
	if len(rrs) != 1 || rrs[0].String() != s.served().soa.String() {
		t.Errorf("over UDP: %v", rrs)
	}
	if got, k, err := had.apply(records(s.ask(ixfr(had.soa), "10.0.0.53", false))); err != nil || k != kindDifference || !got.equal(s.served()) {
		t.Errorf("over TCP: %s, %v", k, err)
	}
}

func TestJournalIsBounded(t *testing.T) {
	s := newSource(t, "{Allow: [10.0.0.53]}", func(c *Config) { c.Limits = Limits{Steps: 10, Records: 100, Total: 20} })
	had := s.served()
	for i := range 100 {
		s.put("hosts/h.lab.test", fmt.Sprintf("Network: {IP: 10.0.2.%d}", i))
		s.publish()
		if steps, kept := s.service.journal.Size(); steps > 10 || kept > 20 {
			t.Fatalf("%d steps, %d records", steps, kept)
		}
	}
	if _, k, err := had.apply(records(s.ask(ixfr(had.soa), "10.0.0.53", false))); err != nil || k != kindFull {
		t.Errorf("%s, %v", k, err)
	}
	// Nothing is kept of a zone that nobody may have.
	s.put("tags/lab", "DNS: {Zone: lab.test}")
	s.publish()
	if steps, kept := s.service.journal.Size(); steps != 0 || kept != 0 {
		t.Errorf("%d steps, %d records of a zone that nobody may have", steps, kept)
	}
}

func TestRefusals(t *testing.T) {
	s := newSource(t, "{Allow: [10.0.0.53, 'fd00::/64'], Key: xfer}")
	s.put("tags/open", "DNS: {Zone: open.test, Transfer: {Allow: [10.0.0.53]}}")
	s.put("tags/closed", "DNS: {Zone: closed.test}")
	s.put("tags/below", "DNS: {Zone: node.mesh.internal, Transfer: {Allow: [0.0.0.0/0]}}")
	s.publish()
	keys := map[string]NewKey{}
	for _, name := range []string{"xfer", "other"} {
		k, _, err := s.keys.Add(t.Context(), hostdb.Request{User: "test", Log: "test"}, name, "", "", false)
		if err != nil {
			t.Fatal(err)
		}
		keys[name] = k
	}
	question := func(origin string) *dns.Msg {
		m := new(dns.Msg)
		m.SetAxfr(origin)
		m.SetEdns0(1232, false)
		return m
	}
	signed := func(m *dns.Msg, name, secret, algorithm string, at time.Time) []byte {
		m.SetTsig(name, algorithm, fudge, at.Unix())
		raw, _, err := dns.TsigGenerate(m, secret, "", false)
		if err != nil {
			t.Fatal(err)
		}
		return raw
	}
	plain := func(m *dns.Msg) []byte {
		raw, err := m.Pack()
		if err != nil {
			t.Fatal(err)
		}
		return raw
	}
	wrong := base64.StdEncoding.EncodeToString(make([]byte, 32))
	now := time.Now()
	for _, c := range []struct {
		what  string
		raw   []byte
		from  string
		udp   bool
		rule  rule
		rcode int
		tsig  uint16
	}{
		{"no zone of ours", plain(question("example.org.")), "10.0.0.53", false, ruleNoZone, dns.RcodeRefused, 0},
		{"live names", plain(question("mesh.internal.")), "10.0.0.53", false, ruleLive, dns.RcodeRefused, 0},
		{"below the live names", plain(question("node.mesh.internal.")), "10.0.0.53", false, ruleLive, dns.RcodeRefused, 0},
		{"no Transfer", plain(question("closed.test.")), "10.0.0.53", false, ruleNobody, dns.RcodeRefused, 0},
		{"address", plain(question("open.test.")), "10.0.0.54", false, ruleAddress, dns.RcodeRefused, 0},
		{"address, be it signed", signed(question(testZone), "xfer.", keys["xfer"].Secret, dns.HmacSHA256, now), "10.0.0.54", false, ruleAddress, dns.RcodeRefused, 0},
		{"unsigned", plain(question(testZone)), "10.0.0.53", false, ruleUnsigned, dns.RcodeRefused, 0},
		{"another key", signed(question(testZone), "other.", keys["other"].Secret, dns.HmacSHA256, now), "10.0.0.53", false, ruleOtherKey, dns.RcodeRefused, 0},
		{"unknown key", signed(question(testZone), "nobody.", wrong, dns.HmacSHA256, now), "10.0.0.53", false, ruleBadKey, dns.RcodeNotAuth, dns.RcodeBadKey},
		{"unknown key, of a zone that needs none", signed(question("open.test."), "nobody.", wrong, dns.HmacSHA256, now), "10.0.0.53", false, ruleBadKey, dns.RcodeNotAuth, dns.RcodeBadKey},
		{"another algorithm", signed(question(testZone), "xfer.", keys["xfer"].Secret, dns.HmacSHA512, now), "10.0.0.53", false, ruleBadKey, dns.RcodeNotAuth, dns.RcodeBadKey},
		{"wrong secret", signed(question(testZone), "xfer.", wrong, dns.HmacSHA256, now), "10.0.0.53", false, ruleBadSig, dns.RcodeNotAuth, dns.RcodeBadSig},
		{"wrong time", signed(question(testZone), "xfer.", keys["xfer"].Secret, dns.HmacSHA256, now.Add(-time.Hour)), "10.0.0.53", false, ruleBadTime, dns.RcodeNotAuth, dns.RcodeBadTime},
		{"AXFR over UDP", plain(question("open.test.")), "10.0.0.53", true, ruleUDP, dns.RcodeRefused, 0},
	} {
		s.service.refused.told = nil
		s.log.Reset()
		msgs := s.askRaw(c.raw, c.from, c.udp)
		if len(msgs) != 1 || len(msgs[0].Answer) != 0 || msgs[0].Rcode != c.rcode {
			t.Errorf("%s: %v", c.what, msgs)
			continue
		}
		if tsig := msgs[0].IsTsig(); c.tsig != 0 && (tsig == nil || tsig.Error != c.tsig || c.tsig == dns.RcodeBadTime && tsig.OtherLen != 6) {
			t.Errorf("%s: TSIG %v", c.what, tsig)
		}
		if q := new(dns.Msg); c.tsig != 0 && msgs[0].IsTsig() != nil { // RFC 8945 section 5.2: what was asked with comes back
			if err := q.Unpack(slices.Clone(c.raw)); err != nil {
				t.Fatal(err)
			}
			if got, want := msgs[0].IsTsig(), q.IsTsig(); got.Algorithm != want.Algorithm || got.Hdr.Name != want.Hdr.Name {
				t.Errorf("%s: %s %s, asked with %s %s", c.what, got.Hdr.Name, got.Algorithm, want.Hdr.Name, want.Algorithm)
			}
		}
		if !strings.Contains(s.log.String(), "rule="+string(c.rule)+" ") {
			t.Errorf("%s: the log does not name %s: %s", c.what, c.rule, &s.log)
		}
		if c.rcode == dns.RcodeRefused {
			if opt := msgs[0].IsEdns0(); opt == nil || len(opt.Option) != 1 || opt.Option[0].(*dns.EDNS0_EDE).ExtraText != says[c.rule] {
				t.Errorf("%s: the answer does not say why: %v", c.what, opt)
			}
		}
		for _, k := range keys {
			if strings.Contains(s.log.String(), k.Secret) {
				t.Errorf("%s: the log has the secret", c.what)
			}
		}
	}
	// Who asks again and again does not fill the log.
	s.log.Reset()
	for range 50 {
		s.askRaw(plain(question("closed.test.")), "10.0.0.99", false)
	}
	if n := strings.Count(s.log.String(), "refused"); n != 1 {
		t.Errorf("%d lines of 50 equal refusals", n)
	}
}

func TestSignedTransfer(t *testing.T) {
	s := newSource(t, "{Allow: [10.0.0.53], Key: XFER}")
	for i := range 900 {
		s.put(fmt.Sprintf("hosts/h%d.lab.test", i), fmt.Sprintf("Network: {IP: 10.1.%d.%d}", i/250, i%250))
	}
	s.publish()
	for _, algorithm := range slices.Sorted(maps.Keys(algorithms)) {
		k, _, err := s.keys.Add(t.Context(), hostdb.Request{User: "test", Log: "test"}, "Xfer", algorithm, "", true)
		if err != nil {
			t.Fatal(err)
		}
		m := axfr()
		m.SetTsig("xfer.", dns.Fqdn(algorithm), fudge, time.Now().Unix())
		raw, mac, err := dns.TsigGenerate(m, k.Secret, "", false)
		if err != nil {
			t.Fatal(err)
		}
		var all []dns.RR
		wires := s.wires(raw, "10.0.0.53", false)
		for i, wire := range wires {
			a := new(dns.Msg)
			if err := a.Unpack(slices.Clone(wire)); err != nil {
				t.Fatal(err)
			}
			if err := dns.TsigVerify(slices.Clone(wire), k.Secret, mac, i > 0); err != nil {
				t.Fatalf("%s: message %d of %d: %v", algorithm, i, len(wires), err)
			}
			mac = a.IsTsig().MAC
			all = append(all, a.Answer...)
		}
		if got, _, err := (copied{}).apply(all); err != nil || !got.equal(s.served()) || len(wires) < 2 {
			t.Errorf("%s: %v, %d messages", algorithm, err, len(wires))
		}
	}
}

// A question that is signed but for no transfer gets its answer, signed.
func TestSignedQuestion(t *testing.T) {
	s := newSource(t, "{Allow: [10.0.0.53], Key: xfer}")
	k, _, err := s.keys.Add(t.Context(), hostdb.Request{User: "test", Log: "test"}, "xfer", "", "", false)
	if err != nil {
		t.Fatal(err)
	}
	m := new(dns.Msg)
	m.SetQuestion(testZone, dns.TypeSOA)
	m.SetTsig("xfer.", dns.HmacSHA256, fudge, time.Now().Unix())
	raw, mac, err := dns.TsigGenerate(m, k.Secret, "", false)
	if err != nil {
		t.Fatal(err)
	}
	wires := s.wires(raw, "10.9.9.9", true)
	if len(wires) != 1 {
		t.Fatalf("%d answers", len(wires))
	}
	if err := dns.TsigVerify(slices.Clone(wires[0]), k.Secret, mac, false); err != nil {
		t.Error(err)
	}
	// A signature that is not the last record makes it no message (RFC 8945 section 5.1).
	m.SetTsig("xfer.", dns.HmacSHA256, fudge, time.Now().Unix())
	m.Extra = append(m.Extra, &dns.A{Hdr: dns.RR_Header{Name: "x.", Rrtype: dns.TypeA, Class: 1}, A: []byte{1, 2, 3, 4}})
	if raw, err = m.Pack(); err != nil {
		t.Fatal(err)
	}
	if a := s.askRaw(raw, "10.9.9.9", true); len(a) != 1 || a[0].Rcode != dns.RcodeFormatError {
		t.Errorf("%v", a)
	}
}

func TestIXFRWithoutSOA(t *testing.T) {
	s := newSource(t, "{Allow: [10.0.0.53]}")
	m := new(dns.Msg)
	m.SetQuestion(testZone, dns.TypeIXFR)
	if a := s.ask(m, "10.0.0.53", false); len(a) != 1 || a[0].Rcode != dns.RcodeFormatError {
		t.Errorf("%v", a)
	}
}

// At most so many at a time, and one secondary does not take the places of all.
func TestTransfersAreBounded(t *testing.T) {
	s := newSource(t, "{Allow: [10.0.0.0/8]}", func(c *Config) { c.MaxTransfers = 8 })
	asked := func(from string) int { return s.ask(axfr(), from, false)[0].Rcode }
	var leave []func()
	for _, from := range []string{"10.0.0.1", "10.0.0.1", "10.0.0.2", "10.0.0.2", "10.0.0.3", "10.0.0.3", "10.0.0.4"} {
		done, ok := s.service.enter(netipAddr(from))
		if !ok {
			t.Fatalf("%s is not let in", from)
		}
		leave = append(leave, done)
	}
	if asked("10.0.0.1") != dns.RcodeRefused || asked("10.0.0.5") != dns.RcodeSuccess {
		t.Error("one asker may have too many")
	}
	done, _ := s.service.enter(netipAddr("10.0.0.4"))
	if asked("10.0.0.5") != dns.RcodeRefused {
		t.Error("there are more than may be")
	}
	for _, fn := range append(leave, done) {
		fn()
	}
	if asked("10.0.0.1") != dns.RcodeSuccess || s.service.underWay() != 0 || len(s.service.running) != 0 {
		t.Error("places are not given back")
	}
}
