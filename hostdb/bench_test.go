package hostdb_test

import (
	"context"
	"fmt"
	"testing"

	"hostmesh/hostdb"
	"hostmesh/hostdb/hostdbtest"
)

// fleet is a replica of n hosts with some twenty facts each, racks of 40, and a tag that inherits from all racks.
func fleet(b *testing.B, n int) (*hostdb.Store, *hostdbtest.Memory) {
	b.Helper()
	m := hostdbtest.NewMemory()
	s, err := hostdb.Open(hostdb.Config{OpenStorage: func() (hostdb.Storage, error) { return m, nil }, NodeID: "bench"})
	if err != nil {
		b.Fatal(err)
	}
	update := func(fn func(tx *hostdb.Tx) error) {
		if _, err := s.Update(context.Background(), hostdb.Request{User: "bench", Log: "fill"}, fn); err != nil {
			b.Fatal(err)
		}
	}
	doc := func(text string) hostdb.Document {
		d, err := hostdb.ParseDocument([]byte(text))
		if err != nil {
			b.Fatal(err)
		}
		return d
	}
	update(func(tx *hostdb.Tx) error { return tx.Put(hostdb.Tags, "racks", doc("{}")) })
	for first := 0; first < n; first += 40 {
		update(func(tx *hostdb.Tx) error {
			rack := fmt.Sprintf("rack%04d", first/40)
			if err := tx.Put(hostdb.Tags, rack, doc("{}")); err != nil {
				return err
			}
			for i := first; i < min(n, first+40); i++ {
				name := fmt.Sprintf("host%06d.dc1.example.com", i)
				err := tx.Put(hostdb.Hosts, name, doc(fmt.Sprintf(`Hardware: {CPU: 2 x Xeon, Memory: 8 x 16GB, Model: R630, OOB: 10.200.%[1]d.%[2]d, Purchased: 2016-03-14, Tag: Q%[3]d, Vendor: Dell}
Interfaces: {eth0: {IP: 10.1.%[1]d.%[2]d, MAC: 52:54:00:00:%[1]d:%[2]d, Port: ge-0/0/%[2]d, Switch: sw1}, eth1: {MAC: 52:54:00:01:%[1]d:%[2]d, Port: ge-0/0/%[2]d, Switch: sw2}}
Network: {FQDN: %[4]s, IP: 10.1.%[1]d.%[2]d, MAC: 52:54:00:00:%[1]d:%[2]d}
Owner: team-1
Physical Location: {Datacenter: dc1, Rack Number: %[5]s, U Number: %[2]d}
Status: active
`, i/250%250, i%250, i, name, rack)))
				if err != nil {
					return err
				}
				if err := tx.AddMember(hostdb.Tags, rack, name); err != nil {
					return err
				}
			}
			return tx.AddMember(hostdb.Tags, "racks", "@"+rack)
		})
	}
	return s, m
}

func BenchmarkOpen(b *testing.B) {
	for _, n := range []int{1_000, 10_000, 40_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			s, m := fleet(b, n)
			s.Close()
			for b.Loop() {
				m = m.Snapshot()
				s, err := hostdb.Open(hostdb.Config{OpenStorage: func() (hostdb.Storage, error) { return m, nil }, NodeID: "bench"})
				if err != nil {
					b.Fatal(err)
				}
				s.Close()
			}
			b.ReportMetric(b.Elapsed().Seconds()*1e6/float64(b.N)/float64(n), "us/host")
		})
	}
}

func BenchmarkApply(b *testing.B) {
	s, _ := fleet(b, 10_000)
	ops, err := s.Operations(s.Origin(), 0, 1<<40)
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		m := hostdbtest.NewMemory()
		other, err := hostdb.Open(hostdb.Config{OpenStorage: func() (hostdb.Storage, error) { return m, nil }, NodeID: "other"})
		if err != nil {
			b.Fatal(err)
		}
		if _, err := other.Apply(context.Background(), ops); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkReads(b *testing.B) {
	s, _ := fleet(b, 10_000)
	v := s.View()
	b.Run("get", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			item, _ := v.Get(hostdb.Hosts, "host005000.dc1.example.com")
			_ = item.YAML()
		}
	})
	b.Run("members", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			_ = v.Members(hostdb.Tags, "racks")
		}
	})
	b.Run("parents", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			_ = v.Parents("host005000.dc1.example.com", hostdb.Tags)
		}
	})
}

// BenchmarkUpdate changes one value of one host after the other, without a disk: what the replica itself costs.
func BenchmarkUpdate(b *testing.B) {
	s, _ := fleet(b, 10_000)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		doc := hostdb.NewDocument(hostdb.Leaf{Value: hostdb.Text(fmt.Sprintf("10.2.%d.%d", i/250%250, i%250))})
		_, err := s.Update(context.Background(), hostdb.Request{User: "bench", Log: "bench"}, func(tx *hostdb.Tx) error {
			return tx.PutPath(hostdb.Hosts, fmt.Sprintf("host%06d.dc1.example.com", i%10_000), []string{"Network", "IP"}, doc)
		})
		if err != nil {
			b.Fatal(err)
		}
	}
}
