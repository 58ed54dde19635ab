package dnsd

import (
	"net/netip"
	"testing"

	"github.com/miekg/dns"

	"hostmesh/mesh"
)

// FuzzPacket gives arbitrary bytes to the server as a client would: whatever parses is answered with a message that
// packs, has the same id, and fits.
func FuzzPacket(f *testing.F) {
	db := smallSite(f, 60)
	cfg := DefaultConfig()
	cfg.Listen = "127.0.0.53:0"
	s, err := Open(cfg)
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { s.Close() })
	reconcile(f, s, db, mesh.View{})
	for _, m := range []*dns.Msg{question("h1.x.test.", dns.TypeA), question("c1.x.test.", dns.TypeANY), question(".", dns.TypeNS),
		question("x.tag.mesh.internal.", dns.TypeA), question(`a\.b\000.x.test.`, dns.TypeTXT), question("1.0.0.10.in-addr.arpa.", dns.TypePTR)} {
		for _, edns := range []bool{false, true} {
			if edns {
				m.SetEdns0(1232, true)
			}
			wire, err := m.Pack()
			if err != nil {
				f.Fatal(err)
			}
			f.Add(wire)
		}
	}
	f.Fuzz(func(t *testing.T, wire []byte) {
		req := new(dns.Msg)
		if req.Unpack(wire) != nil {
			return
		}
		for _, udp := range []bool{true, false} {
			m, _ := s.respond(req, netip.Addr{}, udp)
			out, err := m.Pack()
			if err != nil {
				t.Fatalf("%v\ncannot be packed: %v", m, err)
			}
			if back := new(dns.Msg); back.Unpack(out) != nil || back.Id != req.Id || !back.Response {
				t.Fatalf("%v\nis not an answer to\n%v", m, req)
			}
			if udp && len(out) > udpSize {
				t.Fatalf("%d bytes by udp", len(out))
			}
			if m.Rcode == dns.RcodeServerFailure {
				t.Fatalf("server failure for %v", req)
			}
		}
	})
}

// FuzzExchange hears arbitrary bytes as a peer's serials: a serial of ours never falls, and what was heard is told again in a form
// that can be heard.
func FuzzExchange(f *testing.F) {
	cfg := DefaultConfig()
	cfg.Listen = "127.0.0.53:0"
	s, err := Open(cfg)
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { s.Close() })
	reconcile(f, s, smallSite(f, 3), mesh.View{})
	own, err := s.exchangeMessage()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(own)
	f.Add([]byte(`{"version":1,"zones":[{"zone":"x.test.","serial":4294967295,"hash":"00"},{}]}`))
	f.Add([]byte(`{"version":9,"zones":null}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		before := map[string]uint32{}
		for _, z := range s.serials.Own() {
			before[z.Zone] = z.Serial
		}
		if err := s.hear(b); err != nil {
			return
		}
		own := s.serials.Own()
		if len(own) != len(before) {
			t.Fatalf("%d zones became %d", len(before), len(own))
		}
		for _, z := range own {
			if was, ok := before[z.Zone]; !ok || z.Serial != was && !newer(z.Serial, was) {
				t.Fatalf("%+v after serial %d", z, was)
			}
		}
		again, err := s.exchangeMessage()
		if err == nil {
			err = s.hear(again)
		}
		if err != nil {
			t.Fatal(err)
		}
	})
}
