package dnsd

import (
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
			m, _ := s.respond(req, udp)
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
