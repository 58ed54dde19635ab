package nft

import (
	"errors"
	"strings"
	"testing"
	"time"
)

// TestBadTables: each names the service, what is wrong, and nothing is changed.
func TestBadTables(t *testing.T) {
	good := func() Service { return service(TCP, false, Source, 80, 0, 1) }
	for _, tt := range []struct {
		say  string
		edit func(s *Service)
	}{
		{"no unicast address", func(s *Service) { s.VIP = addr("224.0.0.1") }},
		{"no unicast address", func(s *Service) { s.VIP = addr("0.0.0.0") }},
		{"without a zone", func(s *Service) { s.VIP = addr("fe80::1%eth0") }},
		{"port 0", func(s *Service) { s.Port = 0 }},
		{`"sctp" is neither tcp nor udp`, func(s *Service) { s.Proto = "sctp" }},
		{`"" is neither round-robin nor source`, func(s *Service) { s.Balance = "" }},
		{"drain limit", func(s *Service) { s.DrainLimit = -time.Second }},
		{"not of the VIP's family", func(s *Service) { s.Backends[1].Addr = addr("fd77::1") }},
		{"port 0", func(s *Service) { s.Backends[1].Port = 0 }},
		{"weight 257", func(s *Service) { s.Backends[1].Weight = 257 }},
		{"weight -1", func(s *Service) { s.Backends[1].Weight = -1 }},
		{`"out" is neither in nor draining`, func(s *Service) { s.Backends[1].State = "out" }},
		{"stands twice", func(s *Service) { s.Backends[1] = s.Backends[0] }},
		{"no unicast address", func(s *Service) { s.Backends[1].Addr = addr("::") }},
		{"itself the VIP", func(s *Service) { s.Backends[1].Addr, s.Backends[1].Port = s.VIP, s.Port }},
		{"257 backends", func(s *Service) { s.Backends = make([]Backend, 257) }},
	} {
		s := good()
		tt.edit(&s)
		_, err := (Table{[]Service{s}}).Normal()
		if !errors.Is(err, ErrTable) || !strings.Contains(err.Error(), tt.say) || !strings.Contains(err.Error(), `"tag"`) {
			t.Errorf("%q: %v", tt.say, err)
		}
	}
	other := good()
	other.Key = "other"
	if _, err := (Table{[]Service{good(), other}}).Normal(); !errors.Is(err, ErrTable) || !strings.Contains(err.Error(), `"tag" and by "other"`) {
		t.Error(err)
	}
	mapped := good()
	mapped.VIP, mapped.Backends[0].Addr = addr("::ffff:10.77.0.100"), addr("::ffff:10.77.0.9")
	n, err := (Table{[]Service{mapped}}).Normal()
	if err != nil || n.Services[0].String() != "10.77.0.100:80/tcp" {
		t.Error(n, err)
	}
	if mapped.Backends[0].Addr.Is4() {
		t.Error("Normal changed what it was given")
	}
}
