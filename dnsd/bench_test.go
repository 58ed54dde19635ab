package dnsd

import (
	"net/netip"
	"testing"
	"time"

	"github.com/miekg/dns"

	"hostmesh/mesh"
)

func BenchmarkUDPQuery(b *testing.B) {
	s := startServer(b, nil)
	reconcile(b, s, smallSite(b, 200), mesh.View{})
	b.RunParallel(func(pb *testing.PB) {
		co, err := dns.Dial("udp", s.Addr().String())
		if err != nil {
			b.Error(err)
			return
		}
		defer co.Close()
		m := question("h77.x.test.", dns.TypeA)
		c := dns.Client{Timeout: 10 * time.Second}
		for pb.Next() {
			if _, _, err := c.ExchangeWithConn(m, co); err != nil {
				b.Error(err)
				return
			}
		}
	})
}

func BenchmarkRespond(b *testing.B) {
	db := smallSite(b, 200)
	cfg := DefaultConfig()
	cfg.Listen = "127.0.0.53:0"
	s, err := Open(cfg)
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	reconcile(b, s, db, mesh.View{})
	wire, err := question("h77.x.test.", dns.TypeA).Pack()
	if err != nil {
		b.Fatal(err)
	}
	buf := make([]byte, 1232)
	b.ReportAllocs()
	for b.Loop() {
		req := new(dns.Msg)
		if err := req.Unpack(wire); err != nil {
			b.Fatal(err)
		}
		m, _ := s.respond(req, netip.Addr{}, true)
		if _, err := m.PackBuffer(buf); err != nil {
			b.Fatal(err)
		}
	}
}
