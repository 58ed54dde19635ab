package query_test

import (
	"context"
	"fmt"
	"testing"

	"hostmesh/hostdb"
	"hostmesh/hostdb/query"
)

// fleet is n hosts with some twenty facts each, in racks of 40 and clusters of 500.
func fleet(b *testing.B, n int) hostdb.View {
	b.Helper()
	s := open(b)
	for first := 0; first < n; first += 500 {
		update(b, s, func(tx *hostdb.Tx) error {
			cluster := fmt.Sprintf("cluster%02d", first/500)
			if err := tx.Put(hostdb.Tags, cluster, document(b, "{}")); err != nil {
				return err
			}
			for i := first; i < min(n, first+500); i++ {
				name := fmt.Sprintf("host%06d.dc1.example.com", i)
				rack := fmt.Sprintf("rack%04d", i/40)
				if i%40 == 0 {
					if err := tx.Put(hostdb.Tags, rack, document(b, "{}")); err != nil {
						return err
					}
				}
				err := tx.Put(hostdb.Hosts, name, document(b, fmt.Sprintf(`Hardware: {CPU: 2 x Xeon, Memory: %[3]d GB, Model: R630, OOB: 10.200.%[1]d.%[2]d, Purchased: 2016-03-14, Tag: Q%[3]d, Vendor: Dell}
Interfaces: {eth0: {IP: 10.1.%[1]d.%[2]d, MAC: 52:54:00:00:%[1]d:%[2]d, Port: ge-0/0/%[2]d, Switch: sw1}, eth1: {MAC: 52:54:00:01:%[1]d:%[2]d, Port: ge-0/0/%[2]d, Switch: sw2}}
Network: {FQDN: %[4]s, IP: 10.1.%[1]d.%[2]d, MAC: 52:54:00:00:%[1]d:%[2]d}
Owner: team-1
Physical Location: {Datacenter: dc1, Rack Number: %[5]s, U Number: %[2]d}
Status: active
`, i/250%250, i%250, i%48, name, rack)))
				if err != nil {
					return err
				}
				for _, tag := range []string{rack, cluster} {
					if err := tx.AddMember(hostdb.Tags, tag, name); err != nil {
						return err
					}
				}
			}
			return nil
		})
	}
	return s.View()
}

func BenchmarkQuery10k(b *testing.B) {
	v := fleet(b, 10_000)
	for _, c := range []struct{ name, where string }{
		{"memory", `bytes(Hardware.Memory) >= size("24GB")`},
		{"memory-and-tag", `bytes(Hardware.Memory) >= size("24GB") and "cluster07" in tags`},
		{"memory-or-tag", `bytes(Hardware.Memory) >= size("46GB") or "cluster07" in tags`},
		{"rack-without-vms", `at("Physical Location/Rack Number") == "rack0012" and len(vms) == 0`},
		{"no-zone", `len(zones) == 0 and Status != "active"`},
		{"all-tags", `len(tags) > 3`},
		{"nothing", `false`},
	} {
		b.Run(c.name, func(b *testing.B) {
			q, err := query.Compile(c.where, query.Options{})
			if err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			for b.Loop() {
				if _, err := q.Run(context.Background(), v); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkCompile(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if _, err := query.Compile(`bytes(Hardware.Memory) >= size("24GB") and "search" in tags`, query.Options{}); err != nil {
			b.Fatal(err)
		}
	}
}
