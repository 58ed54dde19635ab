package transfer

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"hostmesh/dnsd/zone"
	"hostmesh/hostdb"
	"hostmesh/hostdb/auth"
	"hostmesh/hostdb/hostdbtest"
	"hostmesh/mesh"
)

const testZone = "lab.test."

// source is a node that serves testZone: a replica, what is compiled of it, and its serials.
type source struct {
	t       testing.TB
	store   *hostdb.Store
	keys    *Keys
	zones   *zone.Zones
	serial  uint32
	hash    zone.Hash
	service *Service
	log     strings.Builder
}

func newSource(t testing.TB, transfer string, with ...func(*Config)) *source {
	t.Helper()
	mem := hostdbtest.NewMemory()
	s := &source{t: t, serial: 100}
	var err error
	s.store, err = hostdb.Open(hostdb.Config{OpenStorage: func() (hostdb.Storage, error) { return mem, nil }, NodeID: strings.Repeat("0", 32)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.store.Close() })
	sealer, err := auth.NewSealer(make([]byte, 32))
	if err != nil {
		t.Fatal(err)
	}
	s.keys = NewKeys(s.store, sealer)
	cfg := DefaultConfig()
	cfg.Keys, cfg.Logger = s.keys, slog.New(slog.NewTextHandler(&s.log, nil))
	for _, fn := range with {
		fn(&cfg)
	}
	s.service = New(cfg)
	s.put("tags/lab", "DNS: {Zone: lab.test, TTL: 60, Records: {'@': {MX: 10 mail}, mail: {A: 10.0.0.25}}, Transfer: "+transfer+"}")
	s.members("@all")
	s.publish()
	return s
}

func (s *source) update(fn func(tx *hostdb.Tx) error) {
	s.t.Helper()
	if _, err := s.store.Update(context.Background(), hostdb.Request{User: "test", Log: "test"}, fn); err != nil {
		s.t.Fatal(err)
	}
}

func (s *source) put(id, yaml string) {
	s.t.Helper()
	doc, err := hostdb.ParseDocument([]byte(yaml))
	if err != nil {
		s.t.Fatal(err)
	}
	ns, key, _ := strings.Cut(id, "/")
	s.update(func(tx *hostdb.Tx) error { return tx.Put(ns, key, doc) })
}

func (s *source) members(names ...string) {
	s.t.Helper()
	list, err := hostdb.ParseMembers(strings.Join(names, "\n"))
	if err != nil {
		s.t.Fatal(err)
	}
	s.update(func(tx *hostdb.Tx) error { return tx.SetMembers(hostdb.Tags, "lab", list) })
}

// publish serves what is in the store, with a serial that counts the changes.
func (s *source) publish() {
	if s.zones == nil {
		s.zones = zone.Compile(s.store.View(), mesh.View{}, zone.DefaultOptions())
	} else {
		s.zones = s.zones.Update(s.store.View(), mesh.View{})
	}
	s.number(0)
}

// number counts the serial on by so much more than the change alone.
func (s *source) number(more uint32) {
	s.zones = s.zones.WithSerials(func(origin string, hash zone.Hash) uint32 {
		if origin != testZone {
			return 7
		}
		if hash != s.hash {
			s.serial++
		}
		s.serial += more
		s.hash = hash
		return s.serial
	})
	s.service.Publish(s.zones)
	s.service.Served(s.zones)
}

// ask hands a question over as dnsd does, and returns the messages of the answer.
func (s *source) ask(m *dns.Msg, from string, udp bool) []*dns.Msg {
	s.t.Helper()
	raw, err := m.Pack()
	if err != nil {
		s.t.Fatal(err)
	}
	return s.askRaw(raw, from, udp)
}

func (s *source) askRaw(raw []byte, from string, udp bool) []*dns.Msg {
	s.t.Helper()
	var out []*dns.Msg
	for _, b := range s.wires(raw, from, udp) {
		m := new(dns.Msg)
		if err := m.Unpack(b); err != nil {
			s.t.Fatalf("an answer that cannot be read: %v", err)
		}
		out = append(out, m)
	}
	return out
}

func (s *source) wires(raw []byte, from string, udp bool) [][]byte {
	s.t.Helper()
	m := new(dns.Msg)
	if err := m.Unpack(slices.Clone(raw)); err != nil {
		s.t.Fatal(err)
	}
	var out [][]byte
	r := request{Msg: m, From: netip.AddrPortFrom(netip.MustParseAddr(from), 4000), UDP: udp,
		Plain: func() *dns.Msg {
			r := new(dns.Msg)
			r.SetReply(m)
			r.Answer = []dns.RR{s.zones.SOA(testZone)}
			return r
		},
		Send: func(b []byte) error { out = append(out, slices.Clone(b)); return nil },
	}
	if m.IsTsig() != nil {
		r.Status = dns.TsigVerifyWithProvider(slices.Clone(raw), s.service, "", false)
	}
	s.service.serve(r)
	return out
}

func axfr() *dns.Msg {
	m := new(dns.Msg)
	m.SetAxfr(testZone)
	return m
}

func ixfr(soa *dns.SOA) *dns.Msg {
	m := new(dns.Msg)
	m.SetIxfr(testZone, soa.Serial, soa.Ns, soa.Mbox)
	m.Ns = []dns.RR{dns.Copy(soa)}
	return m
}

// records are those of all messages of an answer, in order.
func records(msgs []*dns.Msg) []dns.RR {
	var out []dns.RR
	for _, m := range msgs {
		out = append(out, m.Answer...)
	}
	return out
}

// copied is a zone as a secondary has it.
type copied struct {
	soa     *dns.SOA
	records map[string]bool
}

// served is what a source serves.
func (s *source) served() copied {
	c := copied{s.zones.SOA(testZone), map[string]bool{}}
	for rr := range s.zones.Records(testZone) {
		c.records[rr.String()] = true
	}
	return c
}

func (c copied) equal(o copied) bool {
	return c.soa.String() == o.soa.String() && maps.Equal(c.records, o.records)
}

// apply takes in an answer as RFC 1995 section 4 and RFC 5936 section 2.2 say, and is strict: what is removed must be there,
// what is added must not. It tells which kind the answer was.
func (c copied) apply(rrs []dns.RR) (copied, kind, error) {
	if len(rrs) == 0 {
		return c, "", fmt.Errorf("no records")
	}
	first, ok := rrs[0].(*dns.SOA)
	if !ok {
		return c, "", fmt.Errorf("begins with %s", rrs[0])
	}
	if len(rrs) == 1 {
		return c, kindCurrent, nil
	}
	if last := rrs[len(rrs)-1]; last.String() != first.String() {
		return c, "", fmt.Errorf("ends with %s", last)
	}
	old, ok := rrs[1].(*dns.SOA)
	if !ok || len(rrs) == 2 {
		n := copied{first, map[string]bool{}}
		for _, rr := range rrs[1 : len(rrs)-1] {
			if rr.Header().Rrtype == dns.TypeSOA || n.records[rr.String()] {
				return c, "", fmt.Errorf("%s is there twice", rr)
			}
			n.records[rr.String()] = true
		}
		return n, kindFull, nil
	}
	if c.soa == nil || old.String() != c.soa.String() {
		return c, "", fmt.Errorf("the difference begins at %s, not at %s", old, c.soa)
	}
	n := copied{first, maps.Clone(c.records)}
	adding := false
	for _, rr := range rrs[2 : len(rrs)-1] {
		switch {
		case rr.Header().Rrtype == dns.TypeSOA && !adding:
			adding = true
		case rr.Header().Rrtype == dns.TypeSOA:
			return c, "", fmt.Errorf("more than one difference, though they are condensed")
		case adding && n.records[rr.String()]:
			return c, "", fmt.Errorf("%s is added and is there", rr)
		case adding:
			n.records[rr.String()] = true
		case !n.records[rr.String()]:
			return c, "", fmt.Errorf("%s is removed and not there", rr)
		default:
			delete(n.records, rr.String())
		}
	}
	return n, kindDifference, nil
}

func netipAddr(text string) netip.Addr { return netip.MustParseAddr(text) }

func prefixes(list ...string) (out []netip.Prefix) {
	for _, text := range list {
		out = append(out, netip.MustParsePrefix(text))
	}
	return out
}
